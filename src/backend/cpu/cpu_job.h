/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_job.h - work in slices. Its owner, a worker, takes slice after slice; workers that
 * find nothing else to do join and take slices too.
 */
#ifndef MR__CPU_JOB_H
#define MR__CPU_JOB_H

#include "backend/cpu/cpu_scheduler.h"

/* Under the scheduler's lock: the oldest job with slices left, joined; or NULL. */
struct cpu_job *mr__cpu_job_join(struct cpu_scheduler *scheduler);

/* Under the lock: true when there are more slices left than workers at it. */
bool mr__cpu_job_wants_help(struct cpu_job *job);

/* Runs slices until there are none or a queue waits, and leaves the job. */
void mr__cpu_job_help(struct cpu_worker *worker, struct cpu_job *job);

/* Lets others join from here on, and wakes a few for the slices that there are. */
void mr__cpu_job_open(struct cpu_scheduler *scheduler, struct cpu_job *job);

/* Takes the next slice; false when there is none now. */
bool mr__cpu_job_claim(struct cpu_job *job, uint32_t *index);

/* One more slice for the open job: wakes a sleeper for it if nobody looks for work. */
void mr__cpu_job_invite(struct cpu_scheduler *scheduler);

/* Lets nobody join any more, and waits until those who did have left. All slices have been taken. */
void mr__cpu_job_close(struct cpu_scheduler *scheduler, struct cpu_job *job);

/* Under the lock: a sleeper to wake, or NULL. */
struct cpu_worker *mr__cpu_scheduler_take_idle(struct cpu_scheduler *scheduler);

#endif
