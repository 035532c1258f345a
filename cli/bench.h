/* SPDX-License-Identifier: MIT */
/*
 * bench.h - what the measurements of millrace bench share.
 */
#ifndef MR__CLI_BENCH_H
#define MR__CLI_BENCH_H

#include "cli.h"

#include <millrace/millrace.h>

enum { BENCH_REPEAT_LIMIT = 1000 };

struct bench {
    mr_device *device;
    uint64_t size_bytes; /* moved per measurement */
    uint32_t repeat_count;
    bool is_json;
    bool is_host_memory; /* the device's: copies to it are plain memory copies */
    const char *group;   /* the heading printed last */
    json_t *results;
};

/* One run of what is measured, waited for. */
typedef mr_status bench_step(struct bench *bench, void *context);

/* Runs `step` once to warm up, then repeat_count times; the median. */
mr_status bench_measure(struct bench *bench, bench_step *step, void *context, double *seconds);
double bench_median(double *values, size_t count);

void bench_add_rate(struct bench *bench, const char *group, const char *name, uint64_t bytes,
                    double seconds);
void bench_add_time(struct bench *bench, const char *group, const char *name, double seconds);
void bench_add_ratio(struct bench *bench, const char *group, const char *name, double ratio);

/* The groups of figures. */
mr_status bench_copies(struct bench *bench);
mr_status bench_chunks(struct bench *bench);
mr_status bench_overlap(struct bench *bench);
mr_status bench_calls(struct bench *bench);

#endif
