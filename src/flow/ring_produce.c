/* SPDX-License-Identifier: MIT */
/*
 * The producers' side of the ring: acquire, publish, abandon. Here is decided which slot may be
 * written, and here a writer waits for the readers of its previous contents.
 */
#include "flow/ring_parts.h"

/* How many free slots acquire looks at for one whose events have fired, before it waits for the
 * first. */
enum { LOOK_LIMIT = 8 };

/* Nothing to wait for on the host. A thread waits for all earlier uses; a stream only for the
 * writing of the lap before, since its own work waits for the readers. */
static bool is_ready_for(struct mr__ring_entry *entry, const mr_stream *stream)
{
    if (entry->is_write_pending && !mr__ring_point_has_ended(*mr__ring_write_point(entry)))
        return false;
    entry->is_write_pending = false;
    if (stream)
        return true;
    while (entry->pending_reads) {
        const uint32_t consumer = (uint32_t)__builtin_ctzll(entry->pending_reads);
        if (!mr__ring_point_has_ended(*mr__ring_read_point(entry, consumer)))
            return false;
        entry->pending_reads &= entry->pending_reads - 1;
    }
    return true;
}

/* The oldest free slot that is ready, or none. */
static uint32_t find_ready(mr_ring *ring, const mr_stream *stream)
{
    uint32_t index = ring->free.first;
    for (int i = 0; i < LOOK_LIMIT && index != MR__RING_NONE; i++) {
        if (is_ready_for(&ring->entries[index], stream))
            return index;
        index = ring->entries[index].next;
    }
    return MR__RING_NONE;
}

/* The oldest published slot that nobody holds, or none. */
static uint32_t find_droppable(const mr_ring *ring)
{
    uint32_t index = ring->published.first;
    while (index != MR__RING_NONE && ring->entries[index].taken != ring->entries[index].released)
        index = ring->entries[index].next;
    return index;
}

/* A published slot's contents are given up for new ones, if there is one that may be. */
static uint32_t drop_oldest(mr_ring *ring, const mr_stream *stream, bool may_wait)
{
    const uint32_t index = find_droppable(ring);
    if (index == MR__RING_NONE)
        return index;
    if (!may_wait && !is_ready_for(&ring->entries[index], stream))
        return MR__RING_NONE;
    mr__ring_unpublish(ring, index);
    mr__ring_prepend(ring, &ring->free, index);
    ring->statistics.dropped++;
    return index;
}

/* Takes a slot out of its list for a producer; none: the other side must move first. A patient one
 * also gets a slot whose events have yet to fire. */
static uint32_t claim(mr_ring *ring, const mr_stream *stream, bool is_patient)
{
    uint32_t index = find_ready(ring, stream);
    if (index == MR__RING_NONE && ring->policy == MR_RING_DROP_OLDEST)
        index = drop_oldest(ring, stream, is_patient && ring->free.first == MR__RING_NONE);
    if (index == MR__RING_NONE && is_patient)
        index = ring->free.first;
    if (index == MR__RING_NONE)
        return index;
    mr__ring_remove(ring, &ring->free, index);
    ring->entries[index].state = MR__RING_LENT;
    ring->entries[index].writer = stream;
    ring->lent_count++;
    return index;
}

/* A producer no longer has its slot. After close, consumers wait for that. */
static void end_lending(mr_ring *ring)
{
    ring->lent_count--;
    if (ring->is_closed && !ring->lent_count)
        mr__gate_notify(&ring->filled, true);
}

static mr_status check_open(const mr_ring *ring)
{
    if (ring->failure)
        return mr__ring_say_failure(ring);
    if (ring->is_closed)
        return mr_error_set(MR_E_CLOSED, "ring '%s': closed; it takes no more items", ring->name);
    return MR_OK;
}

/* The lock is given up while waiting. */
static mr_status wait_for_claim(mr_ring *ring, const mr_stream *stream,
                                const struct mr__patience *patience, uint32_t *out)
{
    const bool is_patient = patience->timeout_ns != 0 && ring->policy != MR_RING_FAIL;
    uint64_t began = 0;
    bool is_in_time = true;
    mr_status status;
    for (;;) {
        status = check_open(ring);
        if (status)
            break;
        *out = claim(ring, stream, is_patient);
        if (*out != MR__RING_NONE)
            break;
        if (!is_patient)
            return MR_E_BUSY;
        if (!is_in_time) {
            status = mr__ring_say_timeout(ring, "free slot");
            break;
        }
        if (!began)
            began = mr_device_now_ns(ring->device);
        is_in_time = mr__gate_wait(&ring->freed, &ring->lock, patience);
    }
    if (began) {
        ring->statistics.producer_waits++;
        ring->statistics.producer_wait_ns += mr_device_now_ns(ring->device) - began;
    }
    return status;
}

/* Not under the lock; the slot is claimed. Waits for the earlier uses, on the host or in the
 * stream. */
static mr_status await_earlier_uses(const struct mr__ring_entry *entry, mr_stream *stream,
                                    const struct mr__patience *patience)
{
    if (entry->is_write_pending && !mr__ring_point_wait(*mr__ring_write_point(entry), patience))
        return MR_E_TIMEOUT;
    for (uint64_t left = entry->pending_reads; left; left &= left - 1) {
        const struct mr__ring_point *point =
            *mr__ring_read_point(entry, (uint32_t)__builtin_ctzll(left));
        if (!stream) {
            if (!mr__ring_point_wait(point, patience))
                return MR_E_TIMEOUT;
        } else if (point) {
            const mr_status status = mr_stream_wait_event(stream, point->event);
            if (status)
                return status;
        }
    }
    return MR_OK;
}

/* The lock is given up meanwhile. */
static mr_status make_writable(mr_ring *ring, uint32_t index, mr_stream *stream,
                               const struct mr__patience *patience)
{
    struct mr__ring_entry *entry = &ring->entries[index];
    if (!entry->is_write_pending && !entry->pending_reads)
        return MR_OK;

    const bool is_host_wait = entry->is_write_pending || !stream;
    const uint64_t began = is_host_wait ? mr_device_now_ns(ring->device) : 0;
    pthread_mutex_unlock(&ring->lock);
    const mr_status status = await_earlier_uses(entry, stream, patience);
    const uint64_t ended = is_host_wait ? mr_device_now_ns(ring->device) : 0;
    pthread_mutex_lock(&ring->lock);
    if (is_host_wait) {
        ring->statistics.producer_waits++;
        ring->statistics.producer_wait_ns += ended - began;
    }
    if (status == MR_E_TIMEOUT)
        return mr__ring_say_timeout(ring, "slot whose earlier uses have ended");
    if (status)
        return status;
    entry->is_write_pending = false;
    if (!stream)
        entry->pending_reads = 0;
    return check_open(ring);
}

mr_status mr_ring_acquire(mr_ring *ring, mr_stream *stream, uint64_t timeout_ns, mr_slot *slot)
{
    *slot = (mr_slot){ 0 };
    mr_status status = mr__ring_refuse_capture("mr_ring_acquire", stream);
    if (status)
        return status;
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    uint32_t index = MR__RING_NONE;

    pthread_mutex_lock(&ring->lock);
    status = wait_for_claim(ring, stream, &patience, &index);
    if (!status) {
        status = make_writable(ring, index, stream, &patience);
        if (status) {
            mr__ring_give_free(ring, index, true);
            end_lending(ring);
        }
    }
    pthread_mutex_unlock(&ring->lock);
    if (status)
        return status;

    *slot = (mr_slot){ .buffer = ring->entries[index].buffer,
                       .index = index,
                       .size_bytes = ring->slot_bytes };
    return MR_OK;
}

static struct mr__ring_entry *find_lent(mr_ring *ring, const mr_slot *slot)
{
    if (slot->index >= ring->slot_count || !slot->buffer)
        return NULL;
    struct mr__ring_entry *entry = &ring->entries[slot->index];
    return entry->state == MR__RING_LENT && entry->buffer == slot->buffer ? entry : NULL;
}

static mr_status say_not_lent(const mr_ring *ring, const mr_slot *slot)
{
    return mr_error_set(MR_E_STATE, "ring '%s': slot %u is not lent to a producer", ring->name,
                        slot->index);
}

/* The written slot becomes the consumers' newest. */
static void append_published(mr_ring *ring, struct mr__ring_entry *entry, const mr_slot *slot)
{
    mr_ring_statistics *statistics = &ring->statistics;
    entry->state = MR__RING_PUBLISHED;
    entry->sequence = statistics->published++;
    entry->size_bytes = slot->size_bytes;
    entry->user = slot->user;
    entry->taken = entry->released = entry->host_taken = 0;
    mr__ring_append(ring, &ring->published, slot->index);
    for (uint32_t i = 0; i < ring->consumer_count; i++) {
        if (ring->cursors[i] == MR__RING_NONE)
            ring->cursors[i] = slot->index;
    }
    statistics->filled_count++;
    if (statistics->filled_count > statistics->filled_peak)
        statistics->filled_peak = statistics->filled_count;
    mr__gate_notify(&ring->filled, ring->consumer_count > 1);
    if (ring->policy == MR_RING_DROP_OLDEST)
        mr__gate_notify(&ring->freed, false);
}

/* The lock is given up while the writing's event is recorded. */
static mr_status publish_entry(mr_ring *ring, struct mr__ring_entry *entry, mr_stream *stream,
                               const mr_slot *slot)
{
    if (stream) {
        const mr_status status = mr__ring_point_record(ring, mr__ring_write_point(entry), stream);
        if (status)
            return status;
        entry->is_write_pending = true;
        if (stream == entry->writer)
            entry->pending_reads = 0; /* the writing comes after them */
    }
    mr_status status = MR_OK;
    if (ring->failure) {
        mr__ring_give_free(ring, slot->index, false);
        status = mr__ring_say_failure(ring);
    } else {
        append_published(ring, entry, slot);
    }
    end_lending(ring);
    return status;
}

mr_status mr_ring_publish(mr_ring *ring, mr_stream *stream, const mr_slot *slot)
{
    if (slot->size_bytes > ring->slot_bytes)
        return mr_error_set(MR_E_INVALID, "ring '%s': size_bytes is %zu; a slot has %zu",
                            ring->name, slot->size_bytes, ring->slot_bytes);
    mr_status status = mr__ring_refuse_capture("mr_ring_publish", stream);
    if (status)
        return status;
    pthread_mutex_lock(&ring->lock);
    struct mr__ring_entry *entry = find_lent(ring, slot);
    status = entry ? publish_entry(ring, entry, stream, slot) : say_not_lent(ring, slot);
    pthread_mutex_unlock(&ring->lock);
    return status;
}

mr_status mr_ring_abandon(mr_ring *ring, const mr_slot *slot)
{
    pthread_mutex_lock(&ring->lock);
    mr_status status = MR_OK;
    if (find_lent(ring, slot)) {
        mr__ring_give_free(ring, slot->index, true);
        end_lending(ring);
        if (ring->failure)
            status = mr__ring_say_failure(ring);
    } else {
        status = say_not_lent(ring, slot);
    }
    pthread_mutex_unlock(&ring->lock);
    return status;
}
