/* SPDX-License-Identifier: MIT */
/* A fresh folder for each test, files in it, and jobs from text with their problems collected. */
#ifndef TEST_JOB_FIXTURE_H
#define TEST_JOB_FIXTURE_H

#include "job/npy.h"
#include "support/unit.h"

#include <millrace/job.h>

/* Setup and teardown of every test: a folder of its own is the working folder, and goes
 * afterwards. */
int fixture_enter(void **state);
int fixture_leave(void **state);

#define fixture_test(function)                                                                     \
    cmocka_unit_test_setup_teardown(function, fixture_enter, fixture_leave)

void write_file(const char *path, const void *bytes, size_t size_bytes);
void write_text(const char *path, const char *text);
/* The file's bytes (free) and their number. */
void *read_file(const char *path, size_t *size_bytes);
bool has_file(const char *path);
/* Number of entries in a folder, without "." and "..". */
size_t count_files(const char *folder);

/* A stack of `count` items: numbers k * step, cut to the type. */
void write_stack(const char *path, mr_type type, uint64_t count, uint64_t height, uint64_t width,
                 uint64_t step);

/* The texts of all problems of the last load, one per line. */
extern char problems[16384];
extern size_t problem_count;

/* Parses a job, with overrides (ends with NULL; may be NULL). */
mr_status try_job(const char *text, const char *const *overrides, mr_job **out);
mr_job *load_job(const char *text);
/* Loads, runs and destroys; answers the run's status. */
mr_status run_job(const char *text, const mr_job_run_options *options);
/* Runs on the CPU and holds the outputs against the reference. */
void run_verified(const char *text);

/* The job is refused with `status`, and the problems contain the words. */
void expect_problem(const char *text, mr_status status, const char *words);

#endif
