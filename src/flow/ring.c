/* SPDX-License-Identifier: MIT */
/*
 * Making and ending rings, and the lists that both sides keep. See ring_parts.h for the whole.
 */
#include "base/alloc.h"
#include "flow/ring_parts.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { SLOT_COUNT_DEFAULT = 4 };

/* ---- lists ---- */

void mr__ring_append(mr_ring *ring, struct mr__ring_list *list, uint32_t index)
{
    struct mr__ring_entry *entry = &ring->entries[index];
    entry->previous = list->last;
    entry->next = MR__RING_NONE;
    if (list->last == MR__RING_NONE)
        list->first = index;
    else
        ring->entries[list->last].next = index;
    list->last = index;
}

void mr__ring_prepend(mr_ring *ring, struct mr__ring_list *list, uint32_t index)
{
    struct mr__ring_entry *entry = &ring->entries[index];
    entry->previous = MR__RING_NONE;
    entry->next = list->first;
    if (list->first == MR__RING_NONE)
        list->last = index;
    else
        ring->entries[list->first].previous = index;
    list->first = index;
}

void mr__ring_remove(mr_ring *ring, struct mr__ring_list *list, uint32_t index)
{
    const struct mr__ring_entry *entry = &ring->entries[index];
    if (entry->previous == MR__RING_NONE)
        list->first = entry->next;
    else
        ring->entries[entry->previous].next = entry->next;
    if (entry->next == MR__RING_NONE)
        list->last = entry->previous;
    else
        ring->entries[entry->next].previous = entry->previous;
}

void mr__ring_unpublish(mr_ring *ring, uint32_t index)
{
    const uint32_t next = ring->entries[index].next;
    for (uint32_t i = 0; i < ring->consumer_count; i++) {
        if (ring->cursors[i] == index)
            ring->cursors[i] = next;
    }
    mr__ring_remove(ring, &ring->published, index);
    ring->statistics.filled_count--;
    mr__gate_notify(&ring->settled, true);
}

void mr__ring_give_free(mr_ring *ring, uint32_t index, bool is_first)
{
    ring->entries[index].state = MR__RING_FREE;
    if (is_first)
        mr__ring_prepend(ring, &ring->free, index);
    else
        mr__ring_append(ring, &ring->free, index);
    mr__gate_notify(&ring->freed, false);
}

mr_status mr__ring_say_failure(const mr_ring *ring)
{
    return mr_error_set(ring->failure, "%s", ring->failure_words);
}

mr_status mr__ring_say_timeout(const mr_ring *ring, const char *missing)
{
    return mr_error_set(MR_E_TIMEOUT, "ring '%s': no %s within the time given", ring->name,
                        missing);
}

/* ---- create and destroy ---- */

static mr_status check_options(const mr_device *device, const mr_ring_options *options)
{
    if (!device || !options)
        return mr_error_set(MR_E_INVALID, "ring: a device and options are required");
    if (!options->slot_bytes)
        return mr_error_set(MR_E_INVALID, "ring: slot_bytes is 0; give the size of a slot");
    if (options->slot_count > MR__RING_SLOT_LIMIT)
        return mr_error_set(MR_E_INVALID, "ring: slot_count is %u; at most %d", options->slot_count,
                            MR__RING_SLOT_LIMIT);
    if (options->broadcast_count > MR__RING_CONSUMER_LIMIT)
        return mr_error_set(MR_E_INVALID, "ring: broadcast_count is %u; at most %d",
                            options->broadcast_count, MR__RING_CONSUMER_LIMIT);
    if ((unsigned)options->place > MR_PLACE_PAGEABLE)
        return mr_error_set(MR_E_INVALID, "ring: place is %d, which is none", (int)options->place);
    if ((unsigned)options->policy > MR_RING_FAIL)
        return mr_error_set(MR_E_INVALID, "ring: policy is %d, which is none",
                            (int)options->policy);
    return MR_OK;
}

static mr_status add_slots(mr_ring *ring, mr_place place)
{
    const size_t point_count = 1 + (size_t)ring->consumer_count;
    ring->entries = mr__zalloc_array(ring->slot_count, sizeof *ring->entries);
    ring->points = mr__zalloc_array(ring->slot_count * point_count, sizeof *ring->points);
    if (!ring->entries || !ring->points)
        return mr_error_set(MR_E_NO_MEMORY, "ring '%s': no memory for %u slots", ring->name,
                            ring->slot_count);

    const mr_buffer_options options = { .place = place, .name = ring->name };
    for (uint32_t i = 0; i < ring->slot_count; i++) {
        struct mr__ring_entry *entry = &ring->entries[i];
        entry->points = ring->points + i * point_count;
        const mr_status status =
            mr_buffer_create(ring->device, ring->slot_bytes, &options, &entry->buffer);
        if (status)
            return mr_error_prefix(status, "ring '%s', slot %u of %u: ", ring->name, i,
                                   ring->slot_count);
        mr__ring_append(ring, &ring->free, i);
    }
    return MR_OK;
}

mr_status mr_ring_create(mr_device *device, const mr_ring_options *options, mr_ring **out)
{
    *out = NULL;
    mr_status status = check_options(device, options);
    if (status)
        return status;

    mr_ring *ring = mr__zalloc(sizeof *ring);
    if (!ring || pthread_mutex_init(&ring->lock, NULL)) {
        mr__free(ring);
        return mr_error_set(MR_E_NO_MEMORY, "ring: no memory for the ring itself");
    }
    ring->device = device;
    ring->slot_count = options->slot_count ? options->slot_count : SLOT_COUNT_DEFAULT;
    ring->consumer_count = options->broadcast_count ? options->broadcast_count : 1;
    ring->slot_bytes = options->slot_bytes;
    ring->policy = options->policy;
    ring->free = ring->published = (struct mr__ring_list){ MR__RING_NONE, MR__RING_NONE };
    for (uint32_t i = 0; i < ring->consumer_count; i++)
        ring->cursors[i] = MR__RING_NONE;

    ring->name = mr__copy_text(options->name ? options->name : "ring");
    if (!ring->name) {
        status = mr_error_set(MR_E_NO_MEMORY, "ring: no memory for its name");
        goto fail;
    }
    status = add_slots(ring, options->place);
    if (status)
        goto fail;

    *out = ring;
    return MR_OK;

fail:
    mr_ring_destroy(ring);
    return status;
}

static void destroy_points(mr_ring *ring)
{
    const struct mr__patience forever = mr__patience_begin(MR_FOREVER);
    const size_t count = ring->slot_count * (1 + (size_t)ring->consumer_count);
    for (size_t i = 0; ring->points && i < count; i++) {
        (void)mr__ring_point_wait(ring->points[i], &forever);
        mr__ring_point_destroy(ring->points[i]);
    }
    mr__free(ring->points);
}

void mr_ring_destroy(mr_ring *ring)
{
    if (!ring)
        return;
    assert(ring->lent_count == 0);
    destroy_points(ring);
    for (uint32_t i = 0; ring->entries && i < ring->slot_count; i++)
        mr_buffer_destroy(ring->entries[i].buffer);
    mr__free(ring->entries);
    pthread_mutex_destroy(&ring->lock);
    mr__free(ring->name);
    mr__free(ring);
}

/* ---- the end, and looks from outside ---- */

static void notify_all(mr_ring *ring)
{
    mr__gate_notify(&ring->freed, true);
    mr__gate_notify(&ring->filled, true);
    mr__gate_notify(&ring->settled, true);
}

void mr_ring_close(mr_ring *ring)
{
    pthread_mutex_lock(&ring->lock);
    ring->is_closed = true;
    notify_all(ring);
    pthread_mutex_unlock(&ring->lock);
}

void mr_ring_fail(mr_ring *ring, mr_status status, const char *words)
{
    pthread_mutex_lock(&ring->lock);
    if (!ring->failure) {
        ring->failure = status < MR_OK ? status : MR_E_CANCELLED;
        snprintf(ring->failure_words, sizeof ring->failure_words, "%s",
                 words ? words : mr_status_text(ring->failure));
        notify_all(ring);
    }
    pthread_mutex_unlock(&ring->lock);
}

/* Under the lock, given up while waiting: everything published before `end` has been released. */
static mr_status wait_for_releases(mr_ring *ring, uint64_t end, const struct mr__patience *patience)
{
    bool is_in_time = true;
    while (!ring->failure) {
        const uint32_t first = ring->published.first;
        if (first == MR__RING_NONE || ring->entries[first].sequence >= end)
            return MR_OK;
        if (patience->timeout_ns == 0)
            return MR_E_BUSY;
        if (!is_in_time)
            return mr__ring_say_timeout(ring, "release of everything published");
        is_in_time = mr__gate_wait(&ring->settled, &ring->lock, patience);
    }
    return mr__ring_say_failure(ring);
}

/* Under the lock, given up while waiting: no stream still uses the slot. */
static bool wait_for_streams(mr_ring *ring, uint32_t index, const struct mr__patience *patience)
{
    const struct mr__ring_entry *entry = &ring->entries[index];
    if (entry->is_write_pending &&
        !mr__ring_point_wait_shared(ring, mr__ring_write_point(entry), patience))
        return false;
    for (uint32_t i = 0; i < ring->consumer_count; i++) {
        if (entry->pending_reads >> i & 1 &&
            !mr__ring_point_wait_shared(ring, mr__ring_read_point(entry, i), patience))
            return false;
    }
    return true;
}

mr_status mr_ring_drain(mr_ring *ring, uint64_t timeout_ns)
{
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    pthread_mutex_lock(&ring->lock);
    mr_status status = wait_for_releases(ring, ring->statistics.published, &patience);
    for (uint32_t i = 0; !status && i < ring->slot_count; i++) {
        if (wait_for_streams(ring, i, &patience))
            continue;
        status = timeout_ns ? mr__ring_say_timeout(ring, "end of the streams' use of the slots")
                            : MR_E_BUSY;
    }
    pthread_mutex_unlock(&ring->lock);
    return status;
}

void mr_ring_measure(mr_ring *ring, mr_ring_statistics *statistics)
{
    pthread_mutex_lock(&ring->lock);
    *statistics = ring->statistics;
    pthread_mutex_unlock(&ring->lock);
}
