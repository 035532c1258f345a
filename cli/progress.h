/* SPDX-License-Identifier: MIT */
/*
 * progress.h - how far a run is: one line on the terminal, or a line of JSON each time for programs.
 */
#ifndef MR__CLI_PROGRESS_H
#define MR__CLI_PROGRESS_H

#include <millrace/job.h>

#include <stddef.h>

enum progress_kind { PROGRESS_NONE, PROGRESS_LINE, PROGRESS_JSON };

struct progress {
    enum progress_kind kind;
    size_t line_length; /* what is on the screen now */
};

/* For mr_job_run_options.progress; `context` is the struct. Writes to standard error. */
void progress_show(void *context, const mr_job_progress *now);

/* Takes the line off the screen. */
void progress_clear(struct progress *progress);

/* The line as a terminal of `width` columns gets it: as much of the devices and of the bar as there is
 * room for. Answers its length, below `capacity` and at most `width`. */
size_t progress_line(const mr_job_progress *now, size_t width, char *text, size_t capacity);

/* One object, in one line without its end. Answers its length, below `capacity`. */
size_t progress_json(const mr_job_progress *now, char *text, size_t capacity);

#endif
