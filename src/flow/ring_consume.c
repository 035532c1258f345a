/* SPDX-License-Identifier: MIT */
/*
 * The consumers' side of the ring: take and release. Each consumer has a cursor in the published
 * list; several threads may use one.
 */
#include "flow/ring_parts.h"

static mr_status check_consumer(const mr_ring *ring, uint32_t consumer)
{
    if (consumer < ring->consumer_count)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "ring '%s': consumer is %u; there are %u", ring->name,
                        consumer, ring->consumer_count);
}

/* The consumer's next slot is its own now; none when there is none yet. */
static uint32_t claim(mr_ring *ring, uint32_t consumer, bool is_host)
{
    const uint64_t bit = UINT64_C(1) << consumer;
    uint32_t index = ring->cursors[consumer];
    while (index != MR__RING_NONE && ring->entries[index].taken & bit)
        index = ring->entries[index].next;
    if (index == MR__RING_NONE) {
        ring->cursors[consumer] = index;
        return index;
    }
    struct mr__ring_entry *entry = &ring->entries[index];
    entry->taken |= bit;
    if (is_host)
        entry->host_taken |= bit;
    ring->cursors[consumer] = entry->next;
    ring->statistics.taken++;
    return index;
}

/* A slot that others wait for can be taken, or dropped, after all. */
static void notify_unheld(mr_ring *ring)
{
    if (ring->policy == MR_RING_DROP_OLDEST)
        mr__gate_notify(&ring->freed, false);
}

/* As if the consumer had not taken it. */
static void unclaim(mr_ring *ring, uint32_t consumer, uint32_t index)
{
    struct mr__ring_entry *entry = &ring->entries[index];
    const uint64_t bit = UINT64_C(1) << consumer;
    entry->taken &= ~bit;
    entry->host_taken &= ~bit;
    const uint32_t next = ring->cursors[consumer];
    if (next == MR__RING_NONE || ring->entries[next].sequence > entry->sequence)
        ring->cursors[consumer] = index;
    ring->statistics.taken--;
    mr__gate_notify(&ring->filled, ring->consumer_count > 1);
    notify_unheld(ring);
}

static void end_reading(mr_ring *ring, uint32_t consumer, uint32_t index)
{
    struct mr__ring_entry *entry = &ring->entries[index];
    entry->released |= UINT64_C(1) << consumer;
    ring->statistics.released++;
    if (__builtin_popcountll(entry->released) == (int)ring->consumer_count) {
        mr__ring_unpublish(ring, index);
        mr__ring_give_free(ring, index, false);
    } else if (entry->taken == entry->released) {
        notify_unheld(ring);
    }
}

/* The lock is given up while waiting. */
static mr_status wait_for_claim(mr_ring *ring, uint32_t consumer, bool is_host,
                                const struct mr__patience *patience, uint32_t *out)
{
    uint64_t began = 0;
    bool is_in_time = true;
    mr_status status = MR_OK;
    for (;;) {
        if (ring->failure) {
            status = mr__ring_say_failure(ring);
            break;
        }
        *out = claim(ring, consumer, is_host);
        if (*out != MR__RING_NONE)
            break;
        if (ring->is_closed && !ring->lent_count) {
            status = MR_END;
            break;
        }
        if (patience->timeout_ns == 0)
            return MR_E_BUSY;
        if (!is_in_time) {
            status = mr__ring_say_timeout(ring, "published slot");
            break;
        }
        if (!began)
            began = mr_device_now_ns(ring->device);
        is_in_time = mr__gate_wait(&ring->filled, &ring->lock, patience);
    }
    if (began) {
        ring->statistics.consumer_waits++;
        ring->statistics.consumer_wait_ns += mr_device_now_ns(ring->device) - began;
    }
    return status;
}

/* Not under the lock; the slot is claimed. What the consumer does next comes after the writing. */
static mr_status await_writing(const struct mr__ring_entry *entry, mr_stream *stream,
                               const struct mr__patience *patience)
{
    const struct mr__ring_point *point = *mr__ring_write_point(entry);
    if (stream)
        return mr_stream_wait_event(stream, point->event);
    return mr__patience_wait_event(patience, point->event);
}

/* Makes the claimed slot readable, or gives it up. The lock is given up meanwhile. */
static mr_status make_readable(mr_ring *ring, uint32_t consumer, uint32_t index, mr_stream *stream,
                               const struct mr__patience *patience)
{
    const struct mr__ring_entry *entry = &ring->entries[index];
    if (!entry->is_write_pending)
        return MR_OK;

    const bool is_host_wait = !stream && patience->timeout_ns;
    const uint64_t began = is_host_wait ? mr_device_now_ns(ring->device) : 0;
    pthread_mutex_unlock(&ring->lock);
    mr_status status = await_writing(entry, stream, patience);
    const uint64_t ended = is_host_wait ? mr_device_now_ns(ring->device) : 0;
    pthread_mutex_lock(&ring->lock);
    if (is_host_wait) {
        ring->statistics.consumer_waits++;
        ring->statistics.consumer_wait_ns += ended - began;
    }

    const bool is_late = status == MR_E_BUSY || status == MR_E_TIMEOUT;
    if (status && !stream && !is_late) {
        end_reading(ring, consumer, index); /* the writer's stream failed: told once, then gone */
        return status;
    }
    if (ring->failure)
        status = mr__ring_say_failure(ring);
    else if (status == MR_E_TIMEOUT)
        status = mr__ring_say_timeout(ring, "slot whose writing has ended");
    if (status)
        unclaim(ring, consumer, index);
    return status;
}

mr_status mr_ring_take(mr_ring *ring, uint32_t consumer, mr_stream *stream, uint64_t timeout_ns,
                       mr_slot *slot)
{
    *slot = (mr_slot){ 0 };
    mr_status status = check_consumer(ring, consumer);
    if (!status)
        status = mr__ring_refuse_capture("mr_ring_take", stream);
    if (status)
        return status;

    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    uint32_t index = MR__RING_NONE;
    pthread_mutex_lock(&ring->lock);
    status = wait_for_claim(ring, consumer, !stream, &patience, &index);
    if (!status)
        status = make_readable(ring, consumer, index, stream, &patience);
    if (!status) {
        const struct mr__ring_entry *entry = &ring->entries[index];
        *slot = (mr_slot){ .buffer = entry->buffer,
                           .index = index,
                           .sequence = entry->sequence,
                           .size_bytes = entry->size_bytes,
                           .user = entry->user };
    }
    pthread_mutex_unlock(&ring->lock);
    return status;
}

static struct mr__ring_entry *find_taken(mr_ring *ring, uint32_t consumer, const mr_slot *slot)
{
    if (slot->index >= ring->slot_count || !slot->buffer)
        return NULL;
    const uint64_t bit = UINT64_C(1) << consumer;
    struct mr__ring_entry *entry = &ring->entries[slot->index];
    const bool is_taken = entry->state == MR__RING_PUBLISHED && entry->buffer == slot->buffer &&
                          entry->sequence == slot->sequence && entry->taken & bit &&
                          !(entry->released & bit);
    return is_taken ? entry : NULL;
}

/* The lock is given up while the reading's event is recorded. */
static mr_status release_entry(mr_ring *ring, struct mr__ring_entry *entry, uint32_t consumer,
                               mr_stream *stream, const mr_slot *slot)
{
    const uint64_t bit = UINT64_C(1) << consumer;
    if (stream) {
        entry->pending_reads &= ~bit;
        const mr_status status =
            mr__ring_point_record(ring, mr__ring_read_point(entry, consumer), stream);
        if (status)
            return status;
        entry->pending_reads |= bit;
    }
    if (entry->host_taken & bit)
        entry->is_write_pending = false;
    end_reading(ring, consumer, slot->index);
    return ring->failure ? mr__ring_say_failure(ring) : MR_OK;
}

mr_status mr_ring_release(mr_ring *ring, uint32_t consumer, mr_stream *stream, const mr_slot *slot)
{
    mr_status status = check_consumer(ring, consumer);
    if (!status)
        status = mr__ring_refuse_capture("mr_ring_release", stream);
    if (status)
        return status;

    pthread_mutex_lock(&ring->lock);
    struct mr__ring_entry *entry = find_taken(ring, consumer, slot);
    status = entry ? release_entry(ring, entry, consumer, stream, slot)
                   : mr_error_set(
                         MR_E_STATE, "ring '%s': slot %u with item %llu is not lent to consumer %u",
                         ring->name, slot->index, (unsigned long long)slot->sequence, consumer);
    pthread_mutex_unlock(&ring->lock);
    return status;
}
