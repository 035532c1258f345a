/* SPDX-License-Identifier: MIT */
/*
 * Sliced jobs: the open list, joining, claiming slices, and leaving.
 */
#include "backend/cpu/cpu_job.h"

#include "backend/cpu/cpu_backend.h"

/* How many sleepers one worker wakes for a job; those wake more, so that it spreads like a tree. */
enum { INVITATION_LIMIT = 2, LEAVE_STEPS = 20 };

static uint32_t slices_left(struct cpu_job *job)
{
    const uint32_t next = atomic_load_explicit(&job->next_slice, memory_order_relaxed);
    const uint32_t count = atomic_load_explicit(&job->slice_count, memory_order_relaxed);
    return next < count ? count - next : 0;
}

struct cpu_job *mr__cpu_job_join(struct cpu_scheduler *scheduler)
{
    for (struct cpu_job *job = scheduler->jobs; job; job = job->next) {
        if (slices_left(job)) {
            job->helper_count++;
            return job;
        }
    }
    return NULL;
}

bool mr__cpu_job_wants_help(struct cpu_job *job)
{
    return slices_left(job) > 1;
}

bool mr__cpu_job_claim(struct cpu_job *job, uint32_t *index)
{
    mr__cpu_schedule_point(CPU_PLACE_SLICE);
    uint32_t next = atomic_load_explicit(&job->next_slice, memory_order_relaxed);
    do
        if (next >= atomic_load_explicit(&job->slice_count, memory_order_acquire))
            return false;
    while (!atomic_compare_exchange_weak_explicit(&job->next_slice, &next, next + 1,
                                                  memory_order_relaxed, memory_order_relaxed));
    *index = next;
    return true;
}

/* False when there are none left. */
static bool run_slice(struct cpu_worker *worker, struct cpu_job *job)
{
    uint32_t index;
    if (!mr__cpu_job_claim(job, &index))
        return false;
    const uint32_t count = atomic_load_explicit(&job->slice_count, memory_order_relaxed);
    job->run(worker, job->context, &(mr_slice){ .index = index, .count = count });
    return true;
}

void mr__cpu_job_help(struct cpu_worker *worker, struct cpu_job *job)
{
    struct cpu_scheduler *scheduler = worker->scheduler;
    while (run_slice(worker, job) &&
           !atomic_load_explicit(&scheduler->urgent_mask, memory_order_relaxed))
        continue;

    /* The lock also makes what the slices wrote visible to the owner. */
    pthread_mutex_lock(&scheduler->lock);
    const bool is_last = --job->helper_count == 0 && job->is_closed;
    pthread_mutex_unlock(&scheduler->lock);
    if (is_last)
        mr__signal_set(&job->is_left);
}

void mr__cpu_job_open(struct cpu_scheduler *scheduler, struct cpu_job *job)
{
    struct cpu_worker *guests[INVITATION_LIMIT];
    int guest_count = 0;
    const uint32_t slice_count = atomic_load_explicit(&job->slice_count, memory_order_relaxed);

    pthread_mutex_lock(&scheduler->lock);
    struct cpu_job **link = &scheduler->jobs;
    while (*link)
        link = &(*link)->next;
    *link = job;
    atomic_fetch_add(&scheduler->job_count, 1);

    while (guest_count < INVITATION_LIMIT && (uint32_t)guest_count + 1 < slice_count &&
           atomic_load(&scheduler->looker_count) <= (uint32_t)guest_count &&
           (guests[guest_count] = mr__cpu_scheduler_take_idle(scheduler)))
        guest_count++;
    pthread_mutex_unlock(&scheduler->lock);

    for (int i = 0; i < guest_count; i++)
        mr__signal_set(&guests[i]->signal);
}

/* True when helpers are still at it. */
static bool close_job(struct cpu_scheduler *scheduler, struct cpu_job *job)
{
    pthread_mutex_lock(&scheduler->lock);
    struct cpu_job **link = &scheduler->jobs;
    while (*link != job)
        link = &(*link)->next;
    *link = job->next;
    atomic_fetch_sub(&scheduler->job_count, 1);
    job->is_closed = true;
    const bool has_helpers = job->helper_count > 0;
    pthread_mutex_unlock(&scheduler->lock);
    return has_helpers;
}

void mr__cpu_job_invite(struct cpu_scheduler *scheduler)
{
    if (atomic_load(&scheduler->looker_count))
        return;
    pthread_mutex_lock(&scheduler->lock);
    struct cpu_worker *guest = mr__cpu_scheduler_take_idle(scheduler);
    pthread_mutex_unlock(&scheduler->lock);
    if (guest)
        mr__signal_set(&guest->signal);
}

void mr__cpu_job_close(struct cpu_scheduler *scheduler, struct cpu_job *job)
{
    if (!close_job(scheduler, job))
        return;
    for (uint32_t step = 0; step < LEAVE_STEPS && !mr__signal_is_set(&job->is_left); step++)
        mr__look_step(step);
    mr__signal_wait(&job->is_left, UINT64_MAX);
}

void mr__cpu_scheduler_run_job(struct cpu_worker *worker, struct cpu_job *job)
{
    mr__cpu_job_open(worker->scheduler, job);
    while (run_slice(worker, job))
        continue;
    mr__cpu_job_close(worker->scheduler, job);
}

bool mr__cpu_scheduler_is_busy(struct cpu_scheduler *scheduler)
{
    return !atomic_load_explicit(&scheduler->idle_count, memory_order_relaxed) &&
           !atomic_load_explicit(&scheduler->looker_count, memory_order_relaxed);
}
