/* SPDX-License-Identifier: MIT */
/*
 * Launches as they run. A worker follows a node to one that came to be ready by it, and leaves others
 * that did to the job, where it and idle workers take them. When the worker that has the queue finds
 * nothing to run, the queue parks in the replay until there is something, so that nobody waits idly.
 */
#include "backend/cpu/cpu_replay.h"

#include "backend/cpu/cpu_job.h"
#include "backend/cpu/cpu_queue.h"

#define NONE UINT32_MAX

/* ---- nodes that are ready ---- */

/* Takes the parked queue away, for the caller to make ready. Under the lock. */
static struct cpu_queue *take_parked(struct cpu_replay *replay)
{
    struct cpu_queue *queue = replay->parked;
    replay->parked = NULL;
    return queue;
}

/* Puts a node at the end of the list. */
static void list_ready(struct cpu_replay *replay, uint32_t node)
{
    const uint32_t count = atomic_load_explicit(&replay->job.slice_count, memory_order_relaxed);
    replay->ready[count] = node;
    atomic_store(&replay->job.slice_count, count + 1);
}

static void offer(struct cpu_worker *worker, struct cpu_replay *replay, uint32_t node)
{
    pthread_mutex_lock(&replay->lock);
    list_ready(replay, node);
    struct cpu_queue *queue = take_parked(replay);
    pthread_mutex_unlock(&replay->lock);

    if (queue)
        mr__cpu_scheduler_ready(queue, false);
    else if (replay->is_wide && worker->scheduler->worker_count > 1)
        mr__cpu_job_invite(worker->scheduler);
}

static void note_done(struct cpu_replay *replay, uint32_t count)
{
    const uint32_t before =
        atomic_fetch_add_explicit(&replay->done_count, count, memory_order_acq_rel);
    if (before + count != replay->flat.count)
        return;
    pthread_mutex_lock(&replay->lock);
    struct cpu_queue *queue = take_parked(replay);
    pthread_mutex_unlock(&replay->lock);
    if (queue)
        mr__cpu_scheduler_ready(queue, false);
}

static bool is_done(struct cpu_replay *replay)
{
    return atomic_load_explicit(&replay->done_count, memory_order_acquire) == replay->flat.count;
}

/* ---- running ---- */

/* When a worker shall leave the nodes to others: it has the queue, or it helps. */
struct limit {
    const struct cpu_queue *queue; /* NULL: it helps */
    struct cpu_turn *turn;
};

static bool shall_stop(const struct cpu_worker *worker, const struct limit *limit)
{
    return limit->queue
               ? mr__cpu_turn_is_over(worker->scheduler, limit->queue->level, limit->turn)
               : atomic_load_explicit(&worker->scheduler->urgent_mask, memory_order_relaxed) != 0;
}

/* Counts the node down where others wait for it; gives one that may run now, and offers the rest. */
static uint32_t end_node(struct cpu_worker *worker, struct cpu_replay *replay, uint32_t node)
{
    uint32_t next = NONE;
    const uint32_t end = replay->first_successor[node + 1];
    for (uint32_t k = replay->first_successor[node]; k < end; k++) {
        const uint32_t successor = replay->successors[k];
        if (atomic_fetch_sub_explicit(&replay->left_before[successor], 1, memory_order_acq_rel) !=
            1)
            continue;
        if (next == NONE)
            next = successor;
        else
            offer(worker, replay, successor);
    }
    return next;
}

/* Runs a node and what follows it. True when it stopped before the end. */
static bool run_from(struct cpu_worker *worker, struct cpu_replay *replay, uint32_t node,
                     const struct limit *limit)
{
    uint32_t count = 0;
    bool is_stopped = false;
    while (node != NONE && !is_stopped) {
        const size_t offset = replay->offsets[node];
        if (offset != SIZE_MAX)
            mr__cpu_record_run(
                worker, (const struct cpu_record *)(const void *)(replay->block->bytes + offset));
        count++;
        node = end_node(worker, replay, node);
        is_stopped = node != NONE && shall_stop(worker, limit);
    }
    if (is_stopped)
        offer(worker, replay, node);
    note_done(replay, count);
    return is_stopped;
}

void mr__cpu_replay_run_node(struct cpu_worker *worker, void *context, const mr_slice *slice)
{
    struct cpu_replay *replay = context;
    const struct limit limit = { .queue = NULL };
    (void)run_from(worker, replay, replay->ready[slice->index], &limit);
}

/* ---- one launch ---- */

static void begin(struct cpu_worker *worker, struct cpu_replay *replay, struct cpu_block *block)
{
    replay->is_running = true;
    replay->block = block;
    replay->job = (struct cpu_job){ .run = mr__cpu_replay_run_node, .context = replay };
    atomic_store_explicit(&replay->done_count, 0, memory_order_relaxed);
    for (size_t i = 0; i < replay->flat.count; i++) {
        const uint32_t count = replay->predecessor_counts[i];
        atomic_store_explicit(&replay->left_before[i], count, memory_order_relaxed);
        if (!count)
            list_ready(replay, (uint32_t)i);
    }
    if (replay->is_wide && worker->scheduler->worker_count > 1)
        mr__cpu_job_open(worker->scheduler, &replay->job);
}

/* After the last line the replay may be gone: the next launch may have run, and all have been waited
 * for. */
static void end(struct cpu_worker *worker, struct cpu_replay *replay, uint64_t number)
{
    if (replay->is_wide && worker->scheduler->worker_count > 1)
        mr__cpu_job_close(worker->scheduler, &replay->job);
    replay->is_running = false;
    mr__cpu_block_release(replay, replay->block);

    struct cpu_timeline *timeline = mr__cpu_timeline_retain(replay->timeline);
    if (mr__cpu_timeline_publish(timeline, number))
        mr__cpu_timeline_wake(timeline, NULL);
    mr__cpu_timeline_release(timeline);
}

/* True when the queue is parked: helpers are at the nodes that the others wait for. */
static bool park(struct cpu_replay *replay, struct cpu_queue *queue)
{
    pthread_mutex_lock(&replay->lock);
    const bool is_idle = !is_done(replay) &&
                         atomic_load_explicit(&replay->job.next_slice, memory_order_relaxed) ==
                             atomic_load_explicit(&replay->job.slice_count, memory_order_relaxed);
    if (is_idle)
        replay->parked = queue;
    pthread_mutex_unlock(&replay->lock);
    return is_idle;
}

enum cpu_ran mr__cpu_replay_run(struct cpu_worker *worker, struct cpu_queue *queue,
                                const struct cpu_replay_record *record, struct cpu_turn *turn)
{
    struct cpu_replay *replay = record->replay;
    const struct limit limit = { .queue = queue, .turn = turn };
    if (!replay->is_running)
        begin(worker, replay, record->block);

    while (!is_done(replay)) {
        uint32_t index;
        if (mr__cpu_job_claim(&replay->job, &index)) {
            if (run_from(worker, replay, replay->ready[index], &limit))
                return CPU_RAN_IN_PART;
        } else if (park(replay, queue)) {
            return CPU_RAN_PARKED;
        }
    }
    end(worker, replay, record->number);
    return CPU_RAN;
}
