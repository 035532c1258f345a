/* SPDX-License-Identifier: MIT */
/*
 * Queues: how they are made, submitted to and run. The counter `pending` says who has a queue
 * (cpu_queue.h); nothing here takes a lock but the device's list of queues.
 */
#include "backend/cpu/cpu_queue.h"

#include "backend/cpu/cpu_capture.h"
#include "backend/cpu/cpu_chain.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_machine.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_replay.h"
#include "base/alloc.h"
#include "base/clock.h"

#include <assert.h>

enum { WAIT_SPIN_NS = 500, REST_LIMIT = 8 };

/* ---- life ---- */

static void list_queue(struct cpu_queue *queue)
{
    struct cpu_device *device = queue->device;

    pthread_mutex_lock(&device->queues_lock);
    queue->id = ++device->queue_count;
    queue->all.previous = device->last_queue;
    if (device->last_queue)
        device->last_queue->all.next = queue;
    else
        device->queues = queue;
    device->last_queue = queue;

    if (queue->kind == MR_STREAM_BLOCKING || queue->kind == MR_STREAM_PER_THREAD) {
        queue->blocking.next = device->blocking;
        if (device->blocking)
            device->blocking->blocking.previous = queue;
        device->blocking = queue;
    }
    pthread_mutex_unlock(&device->queues_lock);
}

static void unlist_queue(struct cpu_queue *queue)
{
    struct cpu_device *device = queue->device;

    pthread_mutex_lock(&device->queues_lock);
    struct cpu_queue *previous = queue->all.previous, *next = queue->all.next;
    *(previous ? &previous->all.next : &device->queues) = next;
    *(next ? &next->all.previous : &device->last_queue) = previous;

    if (queue->kind == MR_STREAM_BLOCKING || queue->kind == MR_STREAM_PER_THREAD) {
        previous = queue->blocking.previous;
        next = queue->blocking.next;
        *(previous ? &previous->blocking.next : &device->blocking) = next;
        if (next)
            next->blocking.previous = previous;
    }
    pthread_mutex_unlock(&device->queues_lock);
}

/* Whoever comes here has the queue, and nobody will come after. */
static void free_queue(struct cpu_queue *queue)
{
    if (queue->id)
        unlist_queue(queue);
    mr__cpu_point_return_all(queue);
    mr__free(queue->place.nodes);
    mr__cpu_ring_fini(&queue->ring);
    mr__cpu_timeline_release(queue->timeline);
    mr__free(queue);
}

mr_status mr__cpu_queue_make(struct cpu_device *device, mr_stream_kind kind, int priority,
                             struct cpu_queue **out)
{
    *out = NULL;
    struct cpu_queue *queue = mr__zalloc_aligned(CPU_LINE_BYTES, sizeof *queue);
    if (!queue)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a queue");

    queue->base = (struct mr_queue){ .ops = &mr__cpu_backend, .device = &device->base };
    queue->device = device;
    queue->kind = kind;
    queue->level = (uint32_t)-priority;
    queue->waiter.queue = queue;
    queue->timeline = mr__cpu_timeline_create();
    if (!queue->timeline || !mr__cpu_ring_init(&queue->ring)) {
        free_queue(queue);
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a queue's ring");
    }

    list_queue(queue);
    *out = queue;
    return MR_OK;
}

void mr__cpu_queue_retire(struct cpu_queue *queue)
{
    const uint64_t pending =
        atomic_fetch_or_explicit(&queue->pending, CPU_QUEUE_IS_DEAD, memory_order_acq_rel);
    if (pending == 0)
        free_queue(queue);
}

mr_status mr__cpu_queue_create(struct mr_backend_device *device, mr_stream_kind kind, int priority,
                               struct mr_queue **out)
{
    const bool is_default = kind == MR_STREAM_LEGACY || kind == MR_STREAM_PER_THREAD;
    struct cpu_queue *queue;
    const mr_status status =
        is_default ? mr__cpu_default_open(cpu_device_from(device), kind, &queue)
                   : mr__cpu_queue_make(cpu_device_from(device), kind, priority, &queue);
    *out = queue ? &queue->base : NULL;
    return status;
}

void mr__cpu_queue_destroy(struct mr_queue *base)
{
    if (!base)
        return;
    struct cpu_queue *queue = cpu_queue_from(base);
    if (queue->kind == MR_STREAM_LEGACY || queue->kind == MR_STREAM_PER_THREAD)
        mr__cpu_default_close(queue);
    else
        mr__cpu_queue_retire(queue);
}

void *mr__cpu_queue_native(struct mr_queue *queue)
{
    (void)queue;
    return NULL;
}

mr_status mr__cpu_queue_query(struct mr_queue *base)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    const uint64_t target = atomic_load_explicit(&queue->submitted, memory_order_acquire);
    return mr__cpu_timeline_has_reached(queue->timeline, target) ? MR_OK : MR_E_BUSY;
}

mr_status mr__cpu_queue_wait(struct mr_queue *base, uint64_t timeout_ns)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    const uint64_t target = atomic_load_explicit(&queue->submitted, memory_order_acquire);
    return mr__cpu_timeline_wait(queue->timeline, target, timeout_ns);
}

/* ---- submission ---- */

static void *reserve(struct cpu_queue *queue, enum cpu_record_kind kind, size_t size_bytes)
{
    void *record = mr__cpu_ring_reserve(&queue->ring, kind, size_bytes);
    if (!record)
        mr_error_set(MR_E_NO_MEMORY, "no memory for more work on a queue: %llu operations wait",
                     (unsigned long long)(atomic_load(&queue->pending) & ~CPU_QUEUE_IS_DEAD));
    return record;
}

void *mr__cpu_queue_reserve(struct cpu_queue *queue, enum cpu_record_kind kind, size_t size_bytes)
{
    assert(size_bytes <= CPU_RECORD_BYTES_LIMIT);
    if (__builtin_expect(queue->capture != NULL, 0))
        return mr__cpu_capture_reserve(queue, kind, size_bytes);
    if (queue->kind != MR_STREAM_NON_BLOCKING && mr__cpu_default_join(queue))
        return NULL;
    return reserve(queue, kind, size_bytes);
}

void mr__cpu_queue_submit(struct cpu_queue *queue, struct cpu_record *record)
{
    if (__builtin_expect(queue->capture != NULL, 0)) {
        mr__cpu_capture_commit(queue);
        return;
    }
    mr__cpu_ring_push(&queue->ring, record);
    const uint64_t sequence = atomic_load_explicit(&queue->submitted, memory_order_relaxed) + 1;
    atomic_store_explicit(&queue->submitted, sequence, memory_order_release);

    /* From here on the work may run, and end, and the queue be destroyed behind it. Only who raises
     * the count from zero has the queue, until it is in the ready list. */
    mr__cpu_schedule_point(CPU_PLACE_SUBMIT);
    const uint64_t before = atomic_fetch_add_explicit(&queue->pending, 1, memory_order_acq_rel);
    mr__cpu_schedule_point(CPU_PLACE_SUBMITTED);
    if (before == 0)
        mr__cpu_scheduler_ready(queue, false);
}

mr_status mr__cpu_queue_submit_wait(struct cpu_queue *queue, struct cpu_timeline *timeline,
                                    uint64_t target)
{
    if (timeline == queue->timeline || mr__cpu_timeline_has_reached(timeline, target))
        return MR_OK;

    struct cpu_wait_record *record = reserve(queue, CPU_RECORD_WAIT, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;
    record->timeline = mr__cpu_timeline_retain(timeline);
    record->target = target;
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

/* ---- running ---- */

/* What a worker knows of the queue that it has. */
struct run {
    struct cpu_queue *queue;
    struct cpu_worker *worker;
    uint64_t known; /* records that may be read, counted from when the worker got the queue */
    uint64_t done;
    struct cpu_turn turn;
    uint32_t rest_count;    /* before it looks whether an empty queue was filled */
    struct cpu_queue *kept; /* woken by this one's work, and nobody's yet */
};

/* Ends the worker's hold on the queue; others may have it the moment the count is lowered. */
static void let_go(struct run *run)
{
    struct cpu_queue *queue = run->queue;
    mr__cpu_schedule_point(CPU_PLACE_LEAVE);
    const uint64_t before =
        atomic_fetch_sub_explicit(&queue->pending, run->done, memory_order_acq_rel);
    const uint64_t left = before - run->done;

    if (left == CPU_QUEUE_IS_DEAD)
        free_queue(queue);
    else if (left != 0)
        mr__cpu_scheduler_ready(queue, !run->kept);
}

/* The worker has more of its own to do: others shall run what it kept. */
static void hand_over(struct run *run)
{
    if (run->kept)
        mr__cpu_scheduler_ready(run->kept, false);
    run->kept = NULL;
}

/* Looks a moment longer, if there is nothing better to do: where two queues run side by side, one
 * after the other's work, parking every time costs more than the work. */
static bool is_reached_soon(const struct run *run, const struct cpu_wait_record *wait)
{
    if (mr__cpu_timeline_has_reached(wait->timeline, wait->target))
        return true;
    if (run->kept || !mr__cpu_can_spin())
        return false;

    const uint64_t end_ns = mr__clock_now_ns() + WAIT_SPIN_NS;
    do {
        mr__relax();
        if (mr__cpu_timeline_has_reached(wait->timeline, wait->target))
            return true;
    } while (!mr__cpu_scheduler_has_news(run->worker->scheduler) && mr__clock_now_ns() < end_ns);
    return false;
}

/* The record at the front stays pending: nobody else takes the count from zero while it waits there. */
static void settle_done(struct run *run)
{
    atomic_fetch_sub_explicit(&run->queue->pending, run->done, memory_order_acq_rel);
    run->known -= run->done;
    run->done = 0;
}

/* True when the queue now waits in the timeline's list, and is no longer the worker's. */
static bool park(struct run *run, const struct cpu_wait_record *wait)
{
    struct cpu_queue *queue = run->queue;
    if (is_reached_soon(run, wait))
        return false;

    settle_done(run);
    queue->waiter.target = wait->target;
    mr__cpu_schedule_point(CPU_PLACE_PARK);
    return mr__cpu_timeline_park(wait->timeline, &queue->waiter);
}

/* The oldest record has come to its end. */
static void finish_one(struct run *run, const struct cpu_record *record)
{
    struct cpu_queue *queue = run->queue;
    mr__cpu_ring_pop(&queue->ring, record);
    run->done++;
    if (mr__cpu_timeline_publish(queue->timeline, ++queue->executed)) {
        struct cpu_queue *woken =
            mr__cpu_timeline_wake(queue->timeline, run->kept ? NULL : run->worker->scheduler);
        if (woken)
            run->kept = woken;
    }
}

/* Runs the oldest records together, if they are launches that make a chain. */
static bool run_chain(struct run *run)
{
    struct cpu_ring *ring = &run->queue->ring;
    hand_over(run);
    const uint32_t count = mr__cpu_chain_run(run->worker, ring, run->known - run->done);
    for (uint32_t i = 0; i < count; i++)
        finish_one(run, mr__cpu_ring_front(ring));
    return count > 0;
}

/* Does the work of the oldest record. */
static enum cpu_ran run_record(struct run *run, struct cpu_record *record)
{
    if (record->kind == CPU_RECORD_WAIT) {
        const struct cpu_wait_record *wait = (const struct cpu_wait_record *)record;
        if (park(run, wait))
            return CPU_RAN_PARKED;
        mr__cpu_timeline_release(wait->timeline);
        return CPU_RAN;
    }
    hand_over(run);
    if (record->kind != CPU_RECORD_REPLAY) {
        mr__cpu_record_run(run->worker, record);
        return CPU_RAN;
    }
    settle_done(run);
    return mr__cpu_replay_run(run->worker, run->queue, (struct cpu_replay_record *)record,
                              &run->turn);
}

/* Runs the oldest record, if it comes to its end, and perhaps more. */
static enum cpu_ran run_one(struct run *run)
{
    struct cpu_record *record = mr__cpu_ring_front(&run->queue->ring);
    if (mr__cpu_is_chained(record) && run_chain(run))
        return CPU_RAN;
    const enum cpu_ran ran = run_record(run, record);
    if (ran == CPU_RAN)
        finish_one(run, record);
    return ran;
}

/* Looks for records beyond those known; stays with an empty queue for a moment. */
static bool find_more(struct run *run)
{
    const _Atomic uint64_t *pending = &run->queue->pending;

    uint64_t seen = atomic_load_explicit(pending, memory_order_acquire);
    if (seen == run->done && !run->kept &&
        mr__cpu_scheduler_linger(run->worker->scheduler, pending, seen, run->rest_count)) {
        seen = atomic_load_explicit(pending, memory_order_acquire);

        /* Several at once: they come faster than they are run, and looking less often makes both sides
         * faster. One alone may be waited for. */
        if (seen - run->done > 1)
            run->rest_count = run->rest_count < REST_LIMIT ? 2 * run->rest_count + 1 : REST_LIMIT;
        else
            run->rest_count /= 2;
    }
    run->known = seen & ~CPU_QUEUE_IS_DEAD;
    return run->known > run->done;
}

struct cpu_queue *mr__cpu_queue_run(struct cpu_queue *queue, struct cpu_worker *worker)
{
    struct run run = { .queue = queue, .worker = worker };
    const struct cpu_scheduler *scheduler = worker->scheduler;
    bool is_over = false;

    while (!is_over && find_more(&run)) {
        while (!is_over && run.done < run.known) {
            const enum cpu_ran ran = run_one(&run);
            if (ran == CPU_RAN_PARKED)
                return run.kept;
            is_over =
                ran == CPU_RAN_IN_PART || mr__cpu_turn_is_over(scheduler, queue->level, &run.turn);
        }
    }
    let_go(&run);
    return run.kept;
}
