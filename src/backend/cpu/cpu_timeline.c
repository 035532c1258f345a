/* SPDX-License-Identifier: MIT */
/*
 * Timelines: publish, park, wake. The lock guards only the list; nobody is woken under it.
 */
#include "backend/cpu/cpu_timeline.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_machine.h"
#include "backend/cpu/cpu_queue.h"
#include "backend/cpu/cpu_scheduler.h"
#include "base/alloc.h"
#include "base/clock.h"

#include <assert.h>

/* A host thread looks this long before it sleeps: about what going to sleep and waking costs. */
enum { HOST_SPIN_NS = 4000 };

struct cpu_timeline *mr__cpu_timeline_create(void)
{
    struct cpu_timeline *timeline = mr__zalloc_aligned(CPU_LINE_BYTES, sizeof *timeline);
    if (!timeline)
        return NULL;

    pthread_mutex_init(&timeline->lock, NULL);
    atomic_init(&timeline->completed, 0);
    atomic_init(&timeline->wake_at, UINT64_MAX);
    atomic_init(&timeline->references, 1);
    return timeline;
}

void mr__cpu_timeline_release(struct cpu_timeline *timeline)
{
    if (!timeline || atomic_fetch_sub_explicit(&timeline->references, 1, memory_order_acq_rel) != 1)
        return;
    assert(!timeline->waiters);
    pthread_mutex_destroy(&timeline->lock);
    mr__free(timeline);
}

bool mr__cpu_timeline_publish(struct cpu_timeline *timeline, uint64_t sequence)
{
    mr__cpu_schedule_point(CPU_PLACE_PUBLISH);
    atomic_store_explicit(&timeline->completed, sequence, memory_order_seq_cst);
    mr__cpu_schedule_point(CPU_PLACE_PUBLISHED);
    return atomic_load_explicit(&timeline->wake_at, memory_order_seq_cst) <= sequence;
}

/* Takes those whose target is reached out of the list, in the order in which they came. Under the
 * lock. */
static struct cpu_waiter *take_reached(struct cpu_timeline *timeline)
{
    const uint64_t completed = atomic_load_explicit(&timeline->completed, memory_order_seq_cst);
    struct cpu_waiter *taken = NULL;
    uint64_t wake_at = UINT64_MAX;

    struct cpu_waiter **link = &timeline->waiters;
    while (*link) {
        struct cpu_waiter *waiter = *link;
        if (waiter->target <= completed) {
            *link = waiter->next;
            waiter->next = taken; /* the list holds the newest first: this turns it round */
            taken = waiter;
            continue;
        }
        if (waiter->target < wake_at)
            wake_at = waiter->target;
        link = &waiter->next;
    }
    atomic_store_explicit(&timeline->wake_at, wake_at, memory_order_seq_cst);
    return taken;
}

struct cpu_queue *mr__cpu_timeline_wake(struct cpu_timeline *timeline,
                                        const struct cpu_scheduler *keeping)
{
    pthread_mutex_lock(&timeline->lock);
    struct cpu_waiter *waiter = take_reached(timeline);
    pthread_mutex_unlock(&timeline->lock);

    mr__cpu_schedule_point(CPU_PLACE_WAKE);
    struct cpu_queue *kept = NULL;
    while (waiter) {
        struct cpu_waiter *next = waiter->next; /* gone the moment it is woken */
        if (!waiter->queue)
            mr__signal_set(&waiter->signal);
        else if (!kept && keeping == &waiter->queue->device->scheduler)
            kept = waiter->queue;
        else
            mr__cpu_scheduler_ready(waiter->queue, false);
        waiter = next;
    }
    return kept;
}

bool mr__cpu_timeline_park(struct cpu_timeline *timeline, struct cpu_waiter *waiter)
{
    pthread_mutex_lock(&timeline->lock);
    const uint64_t wake_at = atomic_load_explicit(&timeline->wake_at, memory_order_relaxed);
    waiter->next = timeline->waiters;
    timeline->waiters = waiter;
    if (waiter->target < wake_at)
        atomic_store_explicit(&timeline->wake_at, waiter->target, memory_order_seq_cst);

    const bool is_reached =
        atomic_load_explicit(&timeline->completed, memory_order_seq_cst) >= waiter->target;
    if (is_reached) {
        timeline->waiters = waiter->next;
        atomic_store_explicit(&timeline->wake_at, wake_at, memory_order_seq_cst);
    }
    pthread_mutex_unlock(&timeline->lock);
    return !is_reached;
}

/* Takes the waiter out of the list; false when somebody has taken it and is about to wake it. */
static bool unpark(struct cpu_timeline *timeline, struct cpu_waiter *waiter)
{
    bool is_found = false;
    pthread_mutex_lock(&timeline->lock);
    for (struct cpu_waiter **link = &timeline->waiters; *link; link = &(*link)->next) {
        if (*link == waiter) {
            *link = waiter->next;
            is_found = true;
            break;
        }
    }
    /* wake_at may now be too small: the publisher then looks once in vain and sets it right. */
    pthread_mutex_unlock(&timeline->lock);
    return is_found;
}

static bool spin_until(const struct cpu_timeline *timeline, uint64_t target, uint64_t end_ns)
{
    uint32_t step = 0;
    do {
        if (mr__cpu_timeline_has_reached(timeline, target))
            return true;
        mr__look_step(step++);
    } while (mr__clock_now_ns() < end_ns);
    return mr__cpu_timeline_has_reached(timeline, target);
}

mr_status mr__cpu_timeline_wait(struct cpu_timeline *timeline, uint64_t target, uint64_t timeout_ns)
{
    if (mr__cpu_timeline_has_reached(timeline, target))
        return MR_OK;
    if (timeout_ns == 0)
        return MR_E_TIMEOUT;

    const uint64_t deadline_ns = mr__clock_deadline_ns(timeout_ns);
    const uint64_t spin_ns = mr__cpu_can_spin() ? HOST_SPIN_NS : 0;
    const uint64_t spin_end_ns = mr__clock_deadline_ns(timeout_ns < spin_ns ? timeout_ns : spin_ns);
    if (spin_until(timeline, target, spin_end_ns))
        return MR_OK;

    mr__cpu_schedule_point(CPU_PLACE_HOST_WAIT);
    struct cpu_waiter waiter = { .target = target };
    if (!mr__cpu_timeline_park(timeline, &waiter))
        return MR_OK;
    if (mr__signal_wait(&waiter.signal, deadline_ns))
        return MR_OK;

    mr__cpu_schedule_point(CPU_PLACE_TIMEOUT);
    if (unpark(timeline, &waiter))
        return mr__cpu_timeline_has_reached(timeline, target) ? MR_OK : MR_E_TIMEOUT;
    mr__signal_wait(&waiter.signal, UINT64_MAX); /* on its way */
    return MR_OK;
}
