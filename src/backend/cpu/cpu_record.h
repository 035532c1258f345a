/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_record.h - what lies in a queue's ring: one record for one operation.
 */
#ifndef MR__CPU_RECORD_H
#define MR__CPU_RECORD_H

#include "backend/cpu/cpu_ring.h"

#include <millrace/kernel.h>

struct cpu_function;
struct cpu_block;
struct cpu_point;
struct cpu_replay;
struct cpu_worker;

enum cpu_record_kind {
    CPU_RECORD_WAIT = 1, /* for a timeline; holds a reference to it */
    CPU_RECORD_CALL,
    CPU_RECORD_COPY,
    CPU_RECORD_FILL,
    CPU_RECORD_LAUNCH,
    CPU_RECORD_STAMP, /* puts the time into a point; holds a reference to it */
    CPU_RECORD_REPLAY /* all nodes of a plan; holds a reference to the block */
};

struct cpu_wait_record {
    struct cpu_record head;
    struct cpu_timeline *timeline;
    uint64_t target;
};

struct cpu_call_record {
    struct cpu_record head;
    void (*function)(void *context);
    void *context;
};

struct cpu_copy_record {
    struct cpu_record head;
    unsigned char *target;
    const unsigned char *source;
    size_t target_pitch, source_pitch;
    size_t row_bytes, row_count;
};

struct cpu_fill_record {
    struct cpu_record head;
    unsigned char *target;
    size_t size_bytes;
    uint32_t value; /* the pattern over four bytes */
};

/* Numbers lie behind the pointers, which point to them. Rings do not move. */
struct cpu_launch_record {
    struct cpu_record head;
    struct cpu_function *function;
    uint64_t count;
    uint32_t slice_limit;
    bool is_chained;        /* element-wise, and large enough for tiles */
    uint32_t streamed_mask; /* a bit for each argument in memory far larger than the caches */
    uint32_t argument_count;
    const mr_parameter *parameters; /* the kernel's */
    void *arguments[];
};

static inline bool mr__cpu_is_chained(const struct cpu_record *record)
{
    return record->kind == CPU_RECORD_LAUNCH &&
           ((const struct cpu_launch_record *)record)->is_chained;
}

struct cpu_stamp_record {
    struct cpu_record head;
    struct cpu_point *point;
};

struct cpu_replay_record {
    struct cpu_record head;
    struct cpu_replay *replay;
    struct cpu_block *block;
    uint64_t number; /* of the launch, from 1 */
};

/* Runs any record but a wait and a replay. */
void mr__cpu_record_run(struct cpu_worker *worker, const struct cpu_record *record);

#endif
