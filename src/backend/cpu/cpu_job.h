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
void mr__cpu_job_help(struct cpu_scheduler *scheduler, struct cpu_job *job);

/* Under the lock: a sleeper to wake, or NULL. */
struct cpu_worker *mr__cpu_scheduler_take_idle(struct cpu_scheduler *scheduler);

#endif
