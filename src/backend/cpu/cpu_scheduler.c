/* SPDX-License-Identifier: MIT */
/*
 * The workers: how they find work, look around, sleep and stop. What they do with a queue is in
 * cpu_queue.c, with a job in cpu_job.c.
 *
 * Nobody is left asleep beside work: a queue becomes ready under the lock, and a worker looks for the
 * last time before it sleeps under the same lock. The lookers that leave without the lock (linger)
 * lower looker_count and then read ready_mask, while who makes a queue ready writes ready_mask and
 * then reads looker_count, all seq_cst: one of them sees the other and wakes a sleeper.
 */
#include "backend/cpu/cpu_scheduler.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_job.h"
#include "backend/cpu/cpu_machine.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"
#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    LOOK_NS = 20000, /* what a worker looks around before it sleeps: a few times a wake-up's cost */
    LINGER_NS = 5000,  /* what it stays with an empty queue */
    TURN_NS = 50000,   /* what a queue may take while another of its level waits */
    LOOKERS_LEAST = 2, /* with one, a worker that lingers sends the next one to sleep at once */
    WORKERS_PER_LOOKER = 4
};

static void wake(struct cpu_worker *sleeper)
{
    if (sleeper)
        mr__signal_set(&sleeper->signal);
}

/* Under the lock. The sleeper counts as a looker from here on. */
struct cpu_worker *mr__cpu_scheduler_take_idle(struct cpu_scheduler *scheduler)
{
    struct cpu_worker *worker = scheduler->idle;
    if (!worker)
        return NULL;
    scheduler->idle = worker->next_idle;
    atomic_fetch_sub_explicit(&scheduler->idle_count, 1, memory_order_relaxed);
    scheduler->wake_count++;
    atomic_fetch_add(&scheduler->looker_count, 1);
    return worker;
}

/* Ends every change of the ready lists, under the lock: the sleeper to wake, if there is more work than
 * lookers. `soon` lookers are on their way and not counted. */
static struct cpu_worker *settle(struct cpu_scheduler *scheduler, uint32_t soon)
{
    const uint32_t lookers = atomic_load(&scheduler->looker_count) + soon;
    if (scheduler->ready_count > lookers && scheduler->idle)
        return mr__cpu_scheduler_take_idle(scheduler);

    const bool is_awaited = lookers > 0 || scheduler->idle;
    const uint32_t ready = atomic_load_explicit(&scheduler->ready_mask, memory_order_relaxed);
    atomic_store_explicit(&scheduler->urgent_mask, is_awaited ? 0 : ready, memory_order_relaxed);
    return NULL;
}

void mr__cpu_scheduler_ready(struct cpu_queue *queue, bool looks_soon)
{
    struct cpu_scheduler *scheduler = &queue->device->scheduler;
    struct cpu_ready_list *list = &scheduler->ready[queue->level];
    queue->ready_next = NULL;

    pthread_mutex_lock(&scheduler->lock);
    if (list->last)
        list->last->ready_next = queue;
    else
        list->first = queue;
    list->last = queue;
    scheduler->ready_count++;
    atomic_fetch_or(&scheduler->ready_mask, UINT32_C(1) << queue->level);
    struct cpu_worker *sleeper = settle(scheduler, looks_soon ? 1 : 0);
    pthread_mutex_unlock(&scheduler->lock);

    wake(sleeper);
}

/* The first queue of the highest level, or NULL. Under the lock. */
static struct cpu_queue *take_queue(struct cpu_scheduler *scheduler)
{
    const uint32_t ready = atomic_load_explicit(&scheduler->ready_mask, memory_order_relaxed);
    if (!ready)
        return NULL;

    const uint32_t level = 31 - (uint32_t)__builtin_clz(ready);
    struct cpu_ready_list *list = &scheduler->ready[level];
    struct cpu_queue *queue = list->first;
    list->first = queue->ready_next;
    if (!list->first) {
        list->last = NULL;
        atomic_fetch_and(&scheduler->ready_mask, ~(UINT32_C(1) << level));
    }
    scheduler->ready_count--;
    return queue;
}

/* False when enough others look: one more would only take time from those that work. */
static bool become_looker(struct cpu_scheduler *scheduler)
{
    uint32_t count = atomic_load(&scheduler->looker_count);
    return count < scheduler->looker_limit &&
           atomic_compare_exchange_strong(&scheduler->looker_count, &count, count + 1);
}

/* Waits a moment for work, without the lock. */
static void look_around(struct cpu_scheduler *scheduler)
{
    const uint64_t end_ns = mr__clock_now_ns() + LOOK_NS;
    uint32_t step = 0;
    while (!mr__cpu_scheduler_has_news(scheduler) && mr__clock_now_ns() < end_ns)
        mr__look_step(step++);
}

/* Called and returns under the lock. */
static void look_or_sleep(struct cpu_worker *worker, bool *has_looked)
{
    struct cpu_scheduler *scheduler = worker->scheduler;
    if (!*has_looked && become_looker(scheduler)) {
        pthread_mutex_unlock(&scheduler->lock);
        look_around(scheduler);
        *has_looked = true;
    } else {
        mr__signal_reset(&worker->signal);
        worker->next_idle = scheduler->idle;
        scheduler->idle = worker;
        atomic_fetch_add_explicit(&scheduler->idle_count, 1, memory_order_relaxed);
        pthread_mutex_unlock(&scheduler->lock);
        mr__cpu_schedule_point(CPU_PLACE_SLEEP);
        mr__signal_wait(&worker->signal, UINT64_MAX);
        *has_looked = false;
    }
    pthread_mutex_lock(&scheduler->lock);
    atomic_fetch_sub(&scheduler->looker_count, 1); /* its own, or who woke it raised it */
}

/* Waits until there is a queue or a job; false when the worker shall end. */
static bool find_work(struct cpu_worker *worker, struct cpu_queue **queue, struct cpu_job **job)
{
    struct cpu_scheduler *scheduler = worker->scheduler;
    bool has_looked = false;
    *job = NULL;

    pthread_mutex_lock(&scheduler->lock);
    while (!(*queue = take_queue(scheduler)) && !(*job = mr__cpu_job_join(scheduler)) &&
           !scheduler->is_stopping)
        look_or_sleep(worker, &has_looked);
    struct cpu_worker *sleeper = settle(scheduler, 0);
    if (!sleeper && *job && mr__cpu_job_wants_help(*job))
        sleeper = mr__cpu_scheduler_take_idle(scheduler);
    pthread_mutex_unlock(&scheduler->lock);

    wake(sleeper);
    return *queue || *job;
}

/* What the last queue left to run goes first only when no other waits. */
static struct cpu_queue *may_run(const struct cpu_worker *worker, struct cpu_queue *queue)
{
    if (!queue || !atomic_load_explicit(&worker->scheduler->ready_mask, memory_order_relaxed))
        return queue;
    mr__cpu_scheduler_ready(queue, true);
    return NULL;
}

static void *run_worker(void *argument)
{
    struct cpu_worker *worker = argument;
    struct cpu_queue *queue;
    struct cpu_job *job;

    while (find_work(worker, &queue, &job)) {
        if (job)
            mr__cpu_job_help(worker, job);
        while (queue)
            queue = may_run(worker, mr__cpu_queue_run(queue, worker));
    }
    return NULL;
}

bool mr__cpu_turn_is_over(const struct cpu_scheduler *scheduler, uint32_t level,
                          struct cpu_turn *turn)
{
    const uint32_t urgent =
        atomic_load_explicit(&scheduler->urgent_mask, memory_order_relaxed) >> level;
    if (__builtin_expect(urgent == 0, 1))
        return false;
    if (urgent > 1)
        return true; /* a higher level waits */

    const uint64_t now_ns = mr__clock_now_ns();
    if (!turn->since_ns)
        turn->since_ns = now_ns;
    return now_ns - turn->since_ns > TURN_NS;
}

/* A looker has found something else to do. */
static void pass_on(struct cpu_scheduler *scheduler)
{
    pthread_mutex_lock(&scheduler->lock);
    struct cpu_worker *sleeper = settle(scheduler, 0);
    pthread_mutex_unlock(&scheduler->lock);
    wake(sleeper);
}

bool mr__cpu_scheduler_linger(struct cpu_scheduler *scheduler, const _Atomic uint64_t *pending,
                              uint64_t pending_seen, uint32_t rest_count)
{
    if (mr__cpu_scheduler_has_news(scheduler) || !become_looker(scheduler))
        return false;

    const uint64_t end_ns = mr__clock_now_ns() + LINGER_NS;
    uint32_t step = 0;
    bool is_filled;
    for (uint32_t i = 0; i < rest_count; i++)
        mr__relax();
    do {
        mr__look_step(step++);
        mr__cpu_schedule_point(CPU_PLACE_LINGER);
        is_filled = atomic_load_explicit(pending, memory_order_acquire) != pending_seen;
    } while (!is_filled && !mr__cpu_scheduler_has_news(scheduler) && mr__clock_now_ns() < end_ns);

    atomic_fetch_sub(&scheduler->looker_count, 1);
    if (is_filled && atomic_load(&scheduler->ready_mask))
        pass_on(scheduler);
    return is_filled;
}

/* Workers take no signals: those are for the program's own threads. */
static int start_worker(struct cpu_worker *worker, uint32_t index)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&worker->thread, NULL, run_worker, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);

    if (!error) {
        char name[16];
        snprintf(name, sizeof name, "mr-cpu-%u", index % 10000);
        pthread_setname_np(worker->thread, name);
    }
    return error;
}

mr_status mr__cpu_scheduler_init(struct cpu_scheduler *scheduler, uint32_t worker_count)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&scheduler->lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    scheduler->owner_process = getpid();
    if (mr__cpu_can_spin()) {
        const uint32_t share = worker_count / WORKERS_PER_LOOKER;
        scheduler->looker_limit = share > LOOKERS_LEAST ? share : LOOKERS_LEAST;
    }

    scheduler->workers = mr__zalloc_array(worker_count, sizeof *scheduler->workers);
    if (!scheduler->workers)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for %u workers", worker_count);

    for (uint32_t i = 0; i < worker_count; i++) {
        scheduler->workers[i].scheduler = scheduler;
        const int error = start_worker(&scheduler->workers[i], i);
        if (error)
            return mr_error_set(MR_E_NO_MEMORY,
                                "worker thread %u of %u does not start: %s; ask for fewer "
                                "(worker_count) or raise the limit on threads (ulimit -u)",
                                i + 1, worker_count, strerror(error));
        scheduler->worker_count = i + 1;
    }
    return MR_OK;
}

void mr__cpu_scheduler_fini(struct cpu_scheduler *scheduler)
{
    const bool has_workers = scheduler->owner_process == getpid();

    if (has_workers) {
        pthread_mutex_lock(&scheduler->lock);
        scheduler->is_stopping = true;
        while (scheduler->idle)
            wake(mr__cpu_scheduler_take_idle(scheduler));
        pthread_mutex_unlock(&scheduler->lock);
        for (uint32_t i = 0; i < scheduler->worker_count; i++)
            pthread_join(scheduler->workers[i].thread, NULL);
        pthread_mutex_destroy(&scheduler->lock);
    }
    mr__free(scheduler->workers);
}
