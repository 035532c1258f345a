/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_timeline.h - a number that only grows, and those who wait for it.
 *
 * Every queue has a timeline: the count of its operations that have ended. A gate is a timeline that
 * goes from 0 to 1. Points hold the timeline of their queue and outlive the queue with it. Queues and
 * host threads wait alike, by a cpu_waiter in the timeline's list.
 */
#ifndef MR__CPU_TIMELINE_H
#define MR__CPU_TIMELINE_H

#include "base/signal.h"

#include <millrace/status.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct cpu_queue;
struct cpu_scheduler;

enum { CPU_LINE_BYTES = 64 };

/* One who waits. Belongs to the timeline's list from park until it is woken. */
struct cpu_waiter {
    struct cpu_waiter *next;
    uint64_t target;
    struct cpu_queue *queue;  /* the queue that is parked, or NULL: a host thread */
    struct mr__signal signal; /* the host thread's */
};

struct cpu_timeline {
    /* Written by one thread at a time, the worker that has the queue. */
    _Alignas(CPU_LINE_BYTES) _Atomic uint64_t completed;

    /* The smallest target in the list, UINT64_MAX when it is empty. Pairs with `completed`: who waits
     * writes this and then reads that, who publishes writes that and then reads this, all in the
     * single order of memory_order_seq_cst, so that one of them sees the other. */
    _Alignas(CPU_LINE_BYTES) _Atomic uint64_t wake_at;
    pthread_mutex_t lock;
    struct cpu_waiter *waiters; /* under the lock */

    _Alignas(CPU_LINE_BYTES) _Atomic uint32_t references;
};

/* At 0, with one reference. NULL when memory is out. */
struct cpu_timeline *mr__cpu_timeline_create(void);

static inline struct cpu_timeline *mr__cpu_timeline_retain(struct cpu_timeline *timeline)
{
    atomic_fetch_add_explicit(&timeline->references, 1, memory_order_relaxed);
    return timeline;
}

/* NULL is accepted. */
void mr__cpu_timeline_release(struct cpu_timeline *timeline);

/* What happened before `target` was published is visible after true. */
static inline bool mr__cpu_timeline_has_reached(const struct cpu_timeline *timeline,
                                                uint64_t target)
{
    return atomic_load_explicit(&timeline->completed, memory_order_acquire) >= target;
}

/* Wakes everyone whose target is reached. With a scheduler given, the first queue of it is not made
 * ready but handed to the caller, a worker that may run it at once. */
struct cpu_queue *mr__cpu_timeline_wake(struct cpu_timeline *timeline,
                                        const struct cpu_scheduler *keeping);

/* Moves the timeline to `sequence`. True when somebody waits for that: the caller then wakes. */
bool mr__cpu_timeline_publish(struct cpu_timeline *timeline, uint64_t sequence);

/* Puts the waiter in the list; false when its target is reached already. After true it may have been
 * woken before this returns: what it stands for is no longer the caller's. */
bool mr__cpu_timeline_park(struct cpu_timeline *timeline, struct cpu_waiter *waiter);

/* Blocks the calling thread. MR_OK or MR_E_TIMEOUT. The caller holds a reference. */
mr_status mr__cpu_timeline_wait(struct cpu_timeline *timeline, uint64_t target,
                                uint64_t timeout_ns);

#endif
