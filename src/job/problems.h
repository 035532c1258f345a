/* SPDX-License-Identifier: MIT */
/*
 * job/problems.h - what is wrong with a job: collected with places, so that one reading tells all.
 */
#ifndef MR__JOB_PROBLEMS_H
#define MR__JOB_PROBLEMS_H

#include <millrace/job.h>

/* Where a value stands. `file` is the job file, or "--set KEY=VALUE" with line 0. */
struct mr__place {
    const char *file;
    uint32_t line, column;
};

#define MR__PROBLEM_BYTES 2048

struct mr__problems {
    void (*report)(void *context, const mr_job_problem *problem); /* may be NULL */
    void *context;
    size_t count;
    mr_status first; /* status and words of the first */
    char words[MR__PROBLEM_BYTES];
};

/* Adds "place: words". `place` may be NULL. */
void mr__problem_add(struct mr__problems *problems, mr_status status, const struct mr__place *place,
                     const char *format, ...) MR_PRINTF(4, 5);

/* Adds "place: words: mr_last_error()", for a failure of a call of the library. */
void mr__problem_add_last(struct mr__problems *problems, mr_status status,
                          const struct mr__place *place, const char *format, ...) MR_PRINTF(4, 5);

/* MR_OK, or the first problem's status with its words and the number of the others as the error. */
mr_status mr__problems_end(const struct mr__problems *problems);

/* The candidate nearest to `word`, or NULL when none is near (more than a third of the letters
 * differ). `candidates` ends with NULL. */
const char *mr__nearest(const char *word, const char *const *candidates);

/* "; did you mean 'NEAREST'?", or "; one of: A, B, C", written to `text` and returned. */
const char *mr__suggestion(const char *word, const char *const *candidates, char *text,
                           size_t text_bytes);

#endif
