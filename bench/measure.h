/* SPDX-License-Identifier: MIT */
/*
 * bench/measure.h - clocks, medians, and a report that is a table for people and JSON for programs.
 */
#ifndef BENCH_MEASURE_H
#define BENCH_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

double measure_now_s(void);         /* steady clock */
double measure_process_cpu_s(void); /* CPU time of all threads */
double measure_thread_cpu_s(void);  /* of this one */

/* Sorts the values. */
double measure_median(double *values, int count);

/* Runs `run(context)` once to warm up and then `count` times; the median of the seconds that it
 * answers. At most 64. */
double measure_median_of(double (*run)(void *context), void *context, int count);

/* Threads that this process may use. */
int measure_cpu_count(void);

/* Runs `part(context, index, count)` on `count` threads. */
void measure_parallel(int count, void (*part)(void *context, int index, int count), void *context);

/* Ends the program with 1 and the words, printf-like, when the condition does not hold. */
void measure_require(bool condition, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- report ---- */

#define MEASURE_ROW_LIMIT 256

struct measure_row {
    char name[96];
    double value;
    char unit[24];
    char relation[4]; /* ">=" or "<=" with `bound`; "" when there is none */
    double bound;
};

struct measure_report {
    const char *bench;
    const char *json_path; /* from --json FILE; NULL: no file */
    struct measure_row rows[MEASURE_ROW_LIMIT];
    size_t row_count;
};

/* Looks for --json FILE and takes it out of the arguments. */
void measure_report_init(struct measure_report *report, const char *bench, int *argc, char **argv);

/* The name is printf-like. */
void measure_report_add(struct measure_report *report, double value, const char *unit,
                        const char *name, ...) __attribute__((format(printf, 4, 5)));

/* A figure with a target: `relation` is ">=" or "<=". */
void measure_report_target(struct measure_report *report, double value, const char *unit,
                           const char *relation, double bound, const char *name, ...)
    __attribute__((format(printf, 6, 7)));

/* Prints the table and writes the file. Answers the program's exit status: 0, also where a target is
 * missed; the rows say so. */
int measure_report_finish(const struct measure_report *report);

/* The value after `--name`, or `otherwise`. */
const char *measure_option(int argc, char **argv, const char *name, const char *otherwise);
double measure_option_number(int argc, char **argv, const char *name, double otherwise);

#ifdef __cplusplus
}
#endif
#endif
