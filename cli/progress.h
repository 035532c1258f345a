/* SPDX-License-Identifier: MIT */
/*
 * progress.h - one line on the terminal that says how far a run is.
 */
#ifndef MR__CLI_PROGRESS_H
#define MR__CLI_PROGRESS_H

#include <millrace/job.h>

#include <stdbool.h>
#include <stddef.h>

struct progress {
    bool is_shown;
    size_t line_length; /* what is on the screen now */
};

/* `is_shown`: standard error is a terminal and nobody asked for quiet. */
void progress_init(struct progress *progress, bool is_shown);

/* For mr_job_run_options.progress; `context` is the struct. */
void progress_show(void *context, const mr_job_progress *now);

/* Takes the line off the screen. */
void progress_clear(struct progress *progress);

#endif
