/* SPDX-License-Identifier: MIT */
/*
 * The ring's events: where streams are done with a slot. They are made at first use, on the device
 * of the stream that records, and used again every lap.
 */
#include "base/alloc.h"
#include "flow/ring_parts.h"

struct mr__ring_point **mr__ring_write_point(const struct mr__ring_entry *entry)
{
    return &entry->points[0];
}

struct mr__ring_point **mr__ring_read_point(const struct mr__ring_entry *entry, uint32_t consumer)
{
    return &entry->points[1 + consumer];
}

void mr__ring_point_destroy(struct mr__ring_point *point)
{
    if (!point)
        return;
    mr_event_destroy(point->event);
    mr__free(point);
}

static mr_status create_point(mr_device *device, struct mr__ring_point **out)
{
    *out = NULL;
    struct mr__ring_point *point = mr__zalloc(sizeof *point);
    if (!point)
        return mr_error_set(MR_E_NO_MEMORY, "ring: no memory for an event");
    const mr_status status = mr_event_create(device, NULL, &point->event);
    if (status) {
        mr__ring_point_destroy(point);
        return status;
    }
    point->device = device;
    *out = point;
    return MR_OK;
}

/* Empties the place, unless `device` may record its point. */
static struct mr__ring_point *reuse_point(struct mr__ring_point **place, const mr_device *device)
{
    struct mr__ring_point *point = *place;
    if (!point || (point->device == device && !point->wait_count))
        return point;
    *place = NULL;
    if (point->wait_count)
        point->is_replaced = true;
    else
        mr__ring_point_destroy(point);
    return NULL;
}

mr_status mr__ring_point_record(mr_ring *ring, struct mr__ring_point **place, mr_stream *stream)
{
    mr_device *device = mr_stream_device(stream);
    struct mr__ring_point *point = reuse_point(place, device);
    pthread_mutex_unlock(&ring->lock);
    mr_status status = point ? MR_OK : create_point(device, &point);
    if (!status)
        status = mr_event_record(point->event, stream);
    pthread_mutex_lock(&ring->lock);
    *place = point;
    return status;
}

/* A place can be empty where a record failed; then there is nothing to wait for. */
bool mr__ring_point_has_ended(const struct mr__ring_point *point)
{
    return !point || mr_event_query(point->event) != MR_E_BUSY;
}

bool mr__ring_point_wait(const struct mr__ring_point *point, const struct mr__patience *patience)
{
    if (!point)
        return true;
    const mr_status status = mr__patience_wait_event(patience, point->event);
    return status != MR_E_TIMEOUT && status != MR_E_BUSY;
}

bool mr__ring_point_wait_shared(mr_ring *ring, struct mr__ring_point **place,
                                const struct mr__patience *patience)
{
    struct mr__ring_point *point = *place;
    if (!point)
        return true;
    point->wait_count++;
    pthread_mutex_unlock(&ring->lock);
    const bool has_ended = mr__ring_point_wait(point, patience);
    pthread_mutex_lock(&ring->lock);
    point->wait_count--;
    if (point->is_replaced && !point->wait_count)
        mr__ring_point_destroy(point);
    return has_ended;
}
