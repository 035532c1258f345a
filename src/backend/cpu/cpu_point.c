/* SPDX-License-Identifier: MIT */
/*
 * Points and gates. Points come from a list of the queue that only its submitting thread touches; when
 * that is empty it takes all that were given back to the device. So neither side needs a lock.
 */
#include "backend/cpu/cpu_point.h"

#include "backend/cpu/cpu_capture.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"
#include "base/clock.h"

#include <assert.h>

static void give_back(struct cpu_device *device, struct cpu_point *first, struct cpu_point *last)
{
    struct cpu_point *head = atomic_load_explicit(&device->free_points, memory_order_relaxed);
    do
        last->next = head;
    while (!atomic_compare_exchange_weak_explicit(&device->free_points, &head, first,
                                                  memory_order_release, memory_order_relaxed));
}

static struct cpu_point *take(struct cpu_queue *queue)
{
    if (!queue->free_points)
        queue->free_points =
            atomic_exchange_explicit(&queue->device->free_points, NULL, memory_order_acquire);

    struct cpu_point *point = queue->free_points;
    if (point)
        queue->free_points = point->next;
    else
        point = mr__zalloc(sizeof *point);
    return point;
}

void mr__cpu_point_return_all(struct cpu_queue *queue)
{
    struct cpu_point *last = queue->free_points;
    if (!last)
        return;
    while (last->next)
        last = last->next;
    give_back(queue->device, queue->free_points, last);
    queue->free_points = NULL;
}

void mr__cpu_point_free_all(struct cpu_device *device)
{
    struct cpu_point *point =
        atomic_exchange_explicit(&device->free_points, NULL, memory_order_acquire);
    while (point) {
        struct cpu_point *next = point->next;
        mr__free(point);
        point = next;
    }
}

static mr_status submit_stamp(struct cpu_queue *queue, struct cpu_point *point)
{
    struct cpu_stamp_record *record =
        mr__cpu_queue_reserve(queue, CPU_RECORD_STAMP, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;
    record->point = point;
    atomic_fetch_add_explicit(&point->references, 1, memory_order_relaxed);
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

mr_status mr__cpu_point_record(struct mr_queue *base, bool has_timing, struct mr_point **out)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    *out = NULL;
    struct cpu_point *point = take(queue);
    if (!point)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for an event's record");

    point->base.ops = &mr__cpu_backend;
    point->device = queue->device;
    point->has_timing = has_timing;
    point->time_ns = 0;
    point->capture = NULL;
    atomic_store_explicit(&point->references, 1, memory_order_relaxed);

    /* Without a time there is nothing to run: the point is where the queue's submissions are. */
    mr_status status = MR_OK;
    if (queue->capture)
        status = mr__cpu_capture_mark(queue, point);
    else if (has_timing)
        status = submit_stamp(queue, point);
    else if (queue->kind != MR_STREAM_NON_BLOCKING)
        status = mr__cpu_default_join(queue);
    if (status) {
        point->next = queue->free_points;
        queue->free_points = point;
        return status;
    }

    if (!point->capture) {
        point->timeline = mr__cpu_timeline_retain(queue->timeline);
        point->sequence = atomic_load_explicit(&queue->submitted, memory_order_relaxed);
    }
    *out = &point->base;
    return MR_OK;
}

/* The caller's object serves again when no wait or stamp holds it. */
static bool is_free_for(const struct cpu_point *point, const struct cpu_queue *queue)
{
    return point && point->device == queue->device && !point->has_timing &&
           atomic_load_explicit(&point->references, memory_order_acquire) == 1;
}

mr_status mr__cpu_point_renew(struct mr_queue *base, bool has_timing, struct mr_point **inout)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_point *point = *inout ? cpu_point_from(*inout) : NULL;
    mr_status status = MR_OK;
    if (has_timing || !is_free_for(point, queue)) {
        struct mr_point *fresh;
        status = mr__cpu_point_record(base, has_timing, &fresh);
        if (status)
            return status;
        mr__cpu_point_release(*inout);
        *inout = fresh;
        return MR_OK;
    }

    if (queue->kind != MR_STREAM_NON_BLOCKING)
        status = mr__cpu_default_join(queue);
    if (status)
        return status;
    if (point->timeline != queue->timeline) {
        mr__cpu_timeline_release(point->timeline);
        point->timeline = mr__cpu_timeline_retain(queue->timeline);
    }
    point->sequence = atomic_load_explicit(&queue->submitted, memory_order_relaxed);
    return MR_OK;
}

void mr__cpu_point_retain(struct mr_point *point)
{
    atomic_fetch_add_explicit(&cpu_point_from(point)->references, 1, memory_order_relaxed);
}

void mr__cpu_point_release(struct mr_point *base)
{
    if (!base)
        return;
    struct cpu_point *point = cpu_point_from(base);
    if (atomic_fetch_sub_explicit(&point->references, 1, memory_order_acq_rel) != 1)
        return;
    mr__cpu_timeline_release(point->timeline);
    point->timeline = NULL;
    give_back(point->device, point, point);
}

mr_status mr__cpu_point_query(struct mr_point *base)
{
    const struct cpu_point *point = cpu_point_from(base);
    return mr__cpu_timeline_has_reached(point->timeline, point->sequence) ? MR_OK : MR_E_BUSY;
}

mr_status mr__cpu_point_wait(struct mr_point *base, uint64_t timeout_ns)
{
    struct cpu_point *point = cpu_point_from(base);
    return mr__cpu_timeline_wait(point->timeline, point->sequence, timeout_ns);
}

mr_status mr__cpu_point_elapsed(struct mr_point *start, struct mr_point *end, int64_t *elapsed_ns)
{
    const struct cpu_point *first = cpu_point_from(start), *second = cpu_point_from(end);
    *elapsed_ns = 0;
    if (!first->has_timing || !second->has_timing)
        return mr_error_set(MR_E_INVALID, "an event without timing has no time: create it with "
                                          "has_timing");
    if (mr__cpu_point_query(start) || mr__cpu_point_query(end))
        return MR_E_BUSY;
    *elapsed_ns = (int64_t)(second->time_ns - first->time_ns);
    return MR_OK;
}

mr_status mr__cpu_queue_wait_point(struct mr_queue *queue, struct mr_point *base)
{
    const struct cpu_point *point = cpu_point_from(base);
    if (point->capture)
        return mr__cpu_capture_wait(cpu_queue_from(queue), point);
    return mr__cpu_queue_submit_wait(cpu_queue_from(queue), point->timeline, point->sequence);
}

mr_status mr__cpu_gate_create(struct mr_backend_device *device, struct mr_gate **out)
{
    (void)device;
    *out = NULL;
    struct cpu_gate *gate = mr__zalloc(sizeof *gate);
    if (!gate)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a gate");

    gate->base.ops = &mr__cpu_backend;
    gate->timeline = mr__cpu_timeline_create();
    if (!gate->timeline) {
        mr__free(gate);
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a gate");
    }
    *out = &gate->base;
    return MR_OK;
}

void mr__cpu_gate_open(struct mr_gate *gate)
{
    /* The gate may be destroyed as soon as a queue has passed it. */
    struct cpu_timeline *timeline = mr__cpu_timeline_retain(cpu_gate_from(gate)->timeline);
    if (mr__cpu_timeline_publish(timeline, 1))
        mr__cpu_timeline_wake(timeline, NULL);
    mr__cpu_timeline_release(timeline);
}

void mr__cpu_gate_destroy(struct mr_gate *gate)
{
    if (!gate)
        return;
    mr__cpu_timeline_release(cpu_gate_from(gate)->timeline);
    mr__free(gate);
}

mr_status mr__cpu_queue_wait_gate(struct mr_queue *queue, struct mr_gate *gate)
{
    return mr__cpu_queue_submit_wait(cpu_queue_from(queue), cpu_gate_from(gate)->timeline, 1);
}
