/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_scheduler.h - which worker does what: ready queues by priority, sliced jobs that
 * idle workers join, and who sleeps.
 *
 * A worker without work looks around for a while before it sleeps; a few may do so at a time, the
 * *lookers*. Whoever makes work ready wakes a sleeper only when there is more work than lookers.
 */
#ifndef MR__CPU_SCHEDULER_H
#define MR__CPU_SCHEDULER_H

#include "backend/cpu/cpu_timeline.h"

#include <millrace/kernel.h>

#include <sys/types.h>

enum { CPU_LEVEL_COUNT = 6 }; /* priorities 0 to -5 */

struct cpu_scheduler;

struct cpu_worker {
    struct cpu_scheduler *scheduler;
    struct cpu_worker *next_idle; /* under the scheduler's lock */
    struct mr__signal signal;
    pthread_t thread;
    uint32_t launch_count; /* its own: every few launches one is timed */
};

/* Work in parts, run by its owner and by those who join. It lives until its owner has closed it. Slices
 * may come to it while it is open. */
struct cpu_job {
    void (*run)(struct cpu_worker *worker, void *context, const mr_slice *slice);
    void *context;

    struct cpu_job *next; /* under the scheduler's lock, and the next two */
    uint32_t helper_count;
    bool is_closed; /* the owner waits for the helpers to leave */
    struct mr__signal is_left;

    _Alignas(CPU_LINE_BYTES) _Atomic uint32_t next_slice;
    _Atomic uint32_t slice_count;
};

struct cpu_ready_list {
    struct cpu_queue *first, *last;
};

struct cpu_scheduler {
    struct cpu_worker *workers;
    uint32_t worker_count; /* that exist; fewer while they are being started */
    uint32_t looker_limit; /* 0: looking is not worth while */
    pid_t owner_process;   /* after a fork there are no workers to join */

    /* Read by workers between records, written under the lock. A bit per level that has ready queues;
     * the same while nobody is about to take them; jobs that can be joined; workers asleep. */
    _Alignas(CPU_LINE_BYTES) _Atomic uint32_t ready_mask;
    _Atomic uint32_t urgent_mask;
    _Atomic uint32_t job_count;
    _Atomic uint32_t idle_count;

    /* Workers that are about to look for work: looking around, lingering, or being woken. */
    _Alignas(CPU_LINE_BYTES) _Atomic uint32_t looker_count;

    _Alignas(CPU_LINE_BYTES) pthread_mutex_t lock;
    struct cpu_ready_list ready[CPU_LEVEL_COUNT];
    uint32_t ready_count;
    struct cpu_worker *idle; /* sleeping, the last to fall asleep first */
    struct cpu_job *jobs;
    bool is_stopping;
    uint64_t wake_count; /* how often a sleeper was woken */
};

/* Starts the workers. */
mr_status mr__cpu_scheduler_init(struct cpu_scheduler *scheduler, uint32_t worker_count);

/* Stops and joins them; no work is left. Half-built is fine. */
void mr__cpu_scheduler_fini(struct cpu_scheduler *scheduler);

/* Puts a queue that nobody has at the end of its level. `looks_soon`: the caller is a worker that is
 * about to look for work, so that one queue needs nobody else. */
void mr__cpu_scheduler_ready(struct cpu_queue *queue, bool looks_soon);

/* What a worker that has a queue asks between records. */
struct cpu_turn {
    uint64_t since_ns; /* when it first saw that a queue of its level waits; 0 = it has not */
};

bool mr__cpu_turn_is_over(const struct cpu_scheduler *scheduler, uint32_t level,
                          struct cpu_turn *turn);

/* A worker whose queue is empty but likely to be filled at once waits a moment, as a looker, until
 * `*pending` differs from `pending_seen`; true when it does. It first rests `rest_count` times, in which
 * the submitting thread has the counter to itself. */
bool mr__cpu_scheduler_linger(struct cpu_scheduler *scheduler, const _Atomic uint64_t *pending,
                              uint64_t pending_seen, uint32_t rest_count);

/* True when a queue is ready or a job can be joined. */
static inline bool mr__cpu_scheduler_has_news(struct cpu_scheduler *scheduler)
{
    return atomic_load_explicit(&scheduler->ready_mask, memory_order_relaxed) ||
           atomic_load_explicit(&scheduler->job_count, memory_order_relaxed);
}

/* Runs all slices and returns when they have ended; idle workers help. */
void mr__cpu_scheduler_run_job(struct cpu_worker *worker, struct cpu_job *job);

/* True when no worker is free to help now. */
bool mr__cpu_scheduler_is_busy(struct cpu_scheduler *scheduler);

#endif
