/* SPDX-License-Identifier: MIT */
/*
 * Points are pooled events. A point keeps its event for life; giving it back makes both reusable at
 * once, because waits that streams have queued took the event's state when they were queued.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <sched.h>
#include <sys/prctl.h>
#include <time.h>

enum {
    AT_HAND_LIMIT = 32, /* points that a queue keeps to itself, so that others find some too */
    /* A host wait asks without a pause at first, then lets other threads run in between, then sleeps
     * in between. The driver's own blocking wait is no choice: its wake came 200 to 700 us late on an
     * H200 in a virtual machine, sleeping 35 us, asking 8. */
    SPIN_NS = 20000,
    YIELD_NS = 100000,
    SLEEP_NS = 20000
};

/* ---- the pools ---- */

void mr__cuda_point_give_back(struct cuda_device *device, struct cuda_point *points)
{
    if (!points)
        return;
    struct cuda_point *last = points;
    while (last->next)
        last = last->next;

    /* Released by this, acquired by the exchange in take_returned. */
    _Atomic(struct cuda_point *) *pool = &device->returned[points->has_timing];
    last->next = atomic_load_explicit(pool, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(pool, &last->next, points, memory_order_release,
                                                  memory_order_relaxed))
        ;
}

/* One point out of those given back, or NULL. Some more go to `at_hand`, the rest back. */
static struct cuda_point *take_returned(struct cuda_device *device, bool has_timing,
                                        struct cuda_point **at_hand)
{
    struct cuda_point *first =
        atomic_exchange_explicit(&device->returned[has_timing], NULL, memory_order_acquire);
    if (!first)
        return NULL;

    struct cuda_point *last = first;
    for (int count = 0; at_hand && last->next && count < AT_HAND_LIMIT; count++)
        last = last->next;
    mr__cuda_point_give_back(device, last->next);
    last->next = NULL;
    if (at_hand)
        *at_hand = first->next;
    return first;
}

static CUresult point_create(struct cuda_device *device, bool has_timing, struct cuda_point **out)
{
    struct cuda_point *point = mr__zalloc(sizeof *point);
    if (!point)
        return CUDA_ERROR_OUT_OF_MEMORY;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuEventCreate(&point->event,
                                           has_timing ? CU_EVENT_DEFAULT : CU_EVENT_DISABLE_TIMING);
    mr__cuda_leave(device, is_pushed);
    if (result) {
        mr__free(point);
        return result;
    }
    point->base.ops = &mr__cuda_backend;
    point->device = device;
    point->has_timing = has_timing;
    *out = point;
    return CUDA_SUCCESS;
}

CUresult mr__cuda_point_acquire(struct cuda_device *device, bool has_timing,
                                struct cuda_point **at_hand, struct cuda_point **out)
{
    struct cuda_point *point = at_hand ? *at_hand : NULL;
    if (point)
        *at_hand = point->next;
    else
        point = take_returned(device, has_timing, at_hand);
    if (!point) {
        CUresult result = point_create(device, has_timing, &point);
        if (result)
            return result;
    }
    point->next = NULL;
    atomic_store_explicit(&point->is_reached, false, memory_order_relaxed);
    atomic_store_explicit(&point->reference_count, 1, memory_order_relaxed);
    *out = point;
    return CUDA_SUCCESS;
}

void mr__cuda_points_destroy(struct cuda_device *device)
{
    for (int has_timing = 0; has_timing < 2; has_timing++) {
        struct cuda_point *point = atomic_exchange(&device->returned[has_timing], NULL);
        while (point) {
            struct cuda_point *next = point->next;
            (void)device->cu->cuEventDestroy(point->event);
            mr__free(point);
            point = next;
        }
    }
}

/* ---- points of captures ---- */

/* An event that was recorded in a capture belongs to it until it is recorded anew, and then the driver
 * (580) takes it out of that capture without a lock: another thread that does so ends the program now
 * and then. So these events stay with the thread that captures, and end with its captures. */
static _Thread_local struct cuda_point *captured_points;

static void point_destroy(struct cuda_point *point)
{
    bool is_pushed;
    (void)mr__cuda_enter(point->device, &is_pushed);
    (void)point->device->cu->cuEventDestroy(point->event);
    mr__cuda_leave(point->device, is_pushed);
    mr__free(point);
}

static CUresult captured_acquire(struct cuda_device *device, struct cuda_point **out)
{
    struct cuda_point **place = &captured_points;
    while (*place && (*place)->device != device)
        place = &(*place)->next;
    struct cuda_point *point = *place;
    if (point) {
        *place = point->next;
        point->next = NULL;
    } else {
        const CUresult result = point_create(device, false, &point);
        if (result)
            return result;
        point->is_captured = true;
        point->thread = pthread_self();
    }
    atomic_store_explicit(&point->reference_count, 1, memory_order_relaxed);
    *out = point;
    return CUDA_SUCCESS;
}

static void captured_release(struct cuda_point *point)
{
    if (!mr__cuda_capture_count || !pthread_equal(point->thread, pthread_self())) {
        point_destroy(point);
        return;
    }
    point->next = captured_points;
    captured_points = point;
}

void mr__cuda_captured_points_destroy(void)
{
    while (captured_points) {
        struct cuda_point *point = captured_points;
        captured_points = point->next;
        point_destroy(point);
    }
}

/* ---- the calls ---- */

static CUresult event_record(struct cuda_queue *queue, CUevent event)
{
    struct cuda_device *device = queue->device;
    if (mr__cuda_is_unbound(queue)) {
        CUresult result = device->cu->cuEventRecord(event, queue->stream);
        if (!mr__cuda_misses_context(device, result))
            return result;
    }
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuEventRecord(event, queue->stream);
    mr__cuda_leave(device, is_pushed);
    return result;
}

/* Unbound also because making a context current waits, as submissions do, while another thread is in
 * a call that waits for the device (cuMemFree...). Looking does not: so the relay sees CUDA events and
 * opens the gates that the device is waiting for. Seen with driver 580. */
CUresult mr__cuda_event_query(struct cuda_device *device, CUevent event)
{
    if (!atomic_load_explicit(&device->wants_context, memory_order_relaxed)) {
        mr__cuda_relax(device);
        CUresult result = device->cu->cuEventQuery(event);
        mr__cuda_tighten(device);
        if (!mr__cuda_misses_context(device, result))
            return result;
    }
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuEventQuery(event);
    mr__cuda_leave(device, is_pushed);
    return result;
}

static CUresult event_await(struct cuda_queue *queue, CUevent event)
{
    struct cuda_device *device = queue->device;
    atomic_store_explicit(&queue->ends_in_launch, false, memory_order_relaxed);
    if (mr__cuda_is_unbound(queue)) {
        CUresult result = device->cu->cuStreamWaitEvent(queue->stream, event, 0);
        if (!mr__cuda_misses_context(device, result))
            return result;
    }
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuStreamWaitEvent(queue->stream, event, 0);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(device, is_pushed);
    return result;
}

/* ---- the entries ---- */

static void point_return(struct cuda_point *point)
{
    if (point->is_captured)
        captured_release(point);
    else
        mr__cuda_point_give_back(point->device, point);
}

mr_status mr__cuda_point_record(struct mr_queue *base, bool has_timing, struct mr_point **out)
{
    *out = NULL;
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    struct cuda_point *point = NULL;
    CUresult result =
        mr__cuda_is_captured(queue)
            ? captured_acquire(device, &point)
            : mr__cuda_point_acquire(device, has_timing, &queue->spare[has_timing], &point);
    if (!result)
        result = event_record(queue, point->event);
    if (result) {
        if (point)
            point_return(point);
        return mr__cuda_error(device->cu, result, "recording an event on %s",
                              device->properties.id);
    }
    *out = &point->base;
    return MR_OK;
}

/* The caller's event serves again when nobody else holds the point: streams that wait for it took its
 * state when their waits were queued. */
static bool is_free_for(const struct cuda_point *point, const struct cuda_queue *queue,
                        bool has_timing)
{
    return point->device == queue->device && point->has_timing == has_timing &&
           atomic_load_explicit(&point->reference_count, memory_order_acquire) == 1;
}

static mr_status record_afresh(struct mr_queue *base, bool has_timing, struct mr_point **inout)
{
    struct mr_point *fresh;
    mr_status status = mr__cuda_point_record(base, has_timing, &fresh);
    if (status)
        return status;
    if (*inout)
        mr__cuda_point_release(*inout);
    *inout = fresh;
    return MR_OK;
}

mr_status mr__cuda_point_renew(struct mr_queue *base, bool has_timing, struct mr_point **inout)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    struct cuda_point *point = *inout ? cuda_point_from(*inout) : NULL;
    if (!point || !is_free_for(point, queue, has_timing))
        return record_afresh(base, has_timing, inout);

    CUresult result = event_record(queue, point->event);
    if (result)
        return mr__cuda_error(device->cu, result, "recording an event on %s",
                              device->properties.id);
    atomic_store_explicit(&point->is_reached, false, memory_order_relaxed);
    return MR_OK;
}

void mr__cuda_point_retain(struct mr_point *base)
{
    struct cuda_point *point = cuda_point_from(base);
    atomic_fetch_add_explicit(&point->reference_count, 1, memory_order_relaxed);
}

void mr__cuda_point_release(struct mr_point *base)
{
    struct cuda_point *point = cuda_point_from(base);
    if (atomic_fetch_sub_explicit(&point->reference_count, 1, memory_order_acq_rel) == 1)
        point_return(point);
}

static mr_status point_answer(struct cuda_point *point, CUresult result)
{
    if (!result)
        atomic_store_explicit(&point->is_reached, true, memory_order_release);
    if (!result || result == CUDA_ERROR_NOT_READY)
        return mr__cuda_status(result);
    return mr__cuda_error(point->device->cu, result, "work before an event of %s",
                          point->device->properties.id);
}

static bool is_reached(struct cuda_point *point)
{
    return atomic_load_explicit(&point->is_reached, memory_order_acquire);
}

mr_status mr__cuda_point_query(struct mr_point *base)
{
    struct cuda_point *point = cuda_point_from(base);
    if (is_reached(point))
        return MR_OK;
    return point_answer(point, mr__cuda_event_query(point->device, point->event));
}

/* The kernel adds a thread's timer slack to its sleeps, 50 us unless set otherwise: what is waited for
 * may be over in a few hundred. So the slack is made small for the sleep. */
static void sleep_briefly(void)
{
    const int slack_ns = prctl(PR_GET_TIMERSLACK, 0ul, 0ul, 0ul, 0ul);
    if (slack_ns > 0)
        (void)prctl(PR_SET_TIMERSLACK, 1ul, 0ul, 0ul, 0ul);
    nanosleep(&(struct timespec){ .tv_nsec = SLEEP_NS }, NULL);
    if (slack_ns > 0)
        (void)prctl(PR_SET_TIMERSLACK, (unsigned long)slack_ns, 0ul, 0ul, 0ul);
}

CUresult mr__cuda_event_wait(struct cuda_device *device, CUevent event, uint64_t timeout_ns)
{
    CUresult result = mr__cuda_event_query(device, event);
    if (result != CUDA_ERROR_NOT_READY || !timeout_ns)
        return result;

    const uint64_t start_ns = mr__clock_now_ns();
    for (;;) {
        result = mr__cuda_event_query(device, event);
        const uint64_t waited_ns = mr__clock_now_ns() - start_ns;
        if (result != CUDA_ERROR_NOT_READY || waited_ns >= timeout_ns)
            return result;
        if (waited_ns >= YIELD_NS)
            sleep_briefly();
        else if (waited_ns >= SPIN_NS)
            sched_yield();
    }
}

mr_status mr__cuda_point_wait(struct mr_point *base, uint64_t timeout_ns)
{
    struct cuda_point *point = cuda_point_from(base);
    if (is_reached(point))
        return MR_OK;
    mr_status status =
        point_answer(point, mr__cuda_event_wait(point->device, point->event, timeout_ns));
    return status == MR_E_BUSY ? MR_E_TIMEOUT : status;
}

mr_status mr__cuda_point_elapsed(struct mr_point *start_base, struct mr_point *end_base,
                                 int64_t *elapsed_ns)
{
    struct cuda_point *start = cuda_point_from(start_base), *end = cuda_point_from(end_base);
    const struct cuda_device *device = start->device;
    float milliseconds = 0;
    bool is_pushed;
    *elapsed_ns = 0;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuEventElapsedTime(&milliseconds, start->event, end->event);
    mr__cuda_leave(device, is_pushed);
    if (!result)
        *elapsed_ns = (int64_t)((double)milliseconds * 1e6 + (milliseconds < 0 ? -0.5 : 0.5));
    return mr__cuda_error(device->cu, result, "reading the time between two events of %s",
                          device->properties.id);
}

mr_status mr__cuda_queue_wait_point(struct mr_queue *base, struct mr_point *point_base)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_point *point = cuda_point_from(point_base);
    if (is_reached(point))
        return MR_OK;
    const struct cuda_device *device = queue->device;
    return mr__cuda_error(device->cu, event_await(queue, point->event),
                          "making a stream of %s wait for an event", device->properties.id);
}
