/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_replay.h - a plan made ready to launch: its form, which never changes, and a block
 * with the records, of which an update makes another.
 *
 * A launch is one record in a queue. Whoever has the queue runs the nodes; where several may run at
 * once they are slices of a job, which idle workers join. Launches run one after the other, so one set
 * of counters serves them all.
 */
#ifndef MR__CPU_REPLAY_H
#define MR__CPU_REPLAY_H

#include "backend/cpu/cpu_plan.h"
#include "backend/cpu/cpu_queue.h"
#include "backend/cpu/cpu_scheduler.h"

struct cpu_device;

/* What became of a record. */
enum cpu_ran {
    CPU_RAN,         /* it has ended */
    CPU_RAN_PARKED,  /* the queue waits, and is no longer the worker's */
    CPU_RAN_IN_PART, /* it is others' turn; the record is to be run again */
};

/* The nodes of a plan and of the plans in it, in an order in which they could run. */
struct cpu_flat {
    size_t count, capacity;
    struct cpu_record **records; /* of the plan; NULL: nothing to do */
    uint32_t *first_after;       /* count + 1 places in `after` */
    uint32_t *after;             /* counted from 1 */
    size_t after_count, after_capacity;
};

/* Records, at the same places in every block of a replay. */
struct cpu_block {
    _Atomic uint32_t references; /* the replay's and its launches' */
    struct cpu_block *next;
    _Alignas(CPU_RECORD_ALIGNMENT) unsigned char bytes[];
};

struct cpu_replay {
    struct mr_replay base;
    struct cpu_device *device;

    /* The form. */
    struct cpu_flat flat; /* `records` is empty */
    uint32_t *node_of;    /* the plan's own nodes among all, counted from 1 */
    size_t *offsets;      /* in a block; SIZE_MAX: nothing to do */
    size_t block_bytes;
    uint32_t *first_successor, *successors; /* counted from 0 */
    uint32_t *predecessor_counts;
    bool is_wide; /* some nodes may run at the same time */
    size_t memory_bytes;

    /* Of the thread that updates and launches. */
    struct cpu_block *current;
    uint64_t launch_count;
    struct cpu_timeline *last_queue; /* of the last launch */

    pthread_mutex_t spare_lock;
    struct cpu_block *spare; /* under it */
    uint32_t spare_count;

    struct cpu_timeline *timeline; /* launches that have ended */

    /* The launch that runs. */
    struct cpu_block *block;
    bool is_running;
    _Atomic uint32_t *left_before; /* by node: predecessors that have not ended */
    _Atomic uint32_t done_count;
    struct cpu_job job;       /* a slice is a node that may run */
    uint32_t *ready;          /* by slice */
    pthread_mutex_t lock;     /* for the end of `ready`, and: */
    struct cpu_queue *parked; /* whose worker found nothing to run */
};

static inline struct cpu_replay *cpu_replay_from(struct mr_replay *replay)
{
    return (struct cpu_replay *)replay;
}

/* cpu_flat.c. False, with words, when memory is out. `node_of` may be NULL. */
bool mr__cpu_flat_make(struct cpu_flat *flat, const struct cpu_plan *plan, uint32_t *node_of);
void mr__cpu_flat_fini(struct cpu_flat *flat);

/* cpu_replay_run.c: the worker's side. */
enum cpu_ran mr__cpu_replay_run(struct cpu_worker *worker, struct cpu_queue *queue,
                                const struct cpu_replay_record *record, struct cpu_turn *turn);
void mr__cpu_replay_run_node(struct cpu_worker *worker, void *replay, const mr_slice *slice);
void mr__cpu_block_release(struct cpu_replay *replay, struct cpu_block *block);

/* The table's entries. */
mr_status mr__cpu_replay_create(const struct mr_plan *plan, const struct mr_binder *binder,
                                struct mr_replay **out);
mr_status mr__cpu_replay_update(struct mr_replay *replay, const struct mr_plan *plan,
                                const struct mr_binder *binder);
mr_status mr__cpu_replay_update_launch(struct mr_replay *replay, uint32_t node,
                                       struct mr_function *function,
                                       const struct mr_function_launch *launch);
mr_status mr__cpu_replay_launch(struct mr_replay *replay, struct mr_queue *queue);
mr_status mr__cpu_replay_upload(struct mr_replay *replay, struct mr_queue *queue);
void mr__cpu_replay_destroy(struct mr_replay *replay);
uint64_t mr__cpu_replay_memory(const struct mr_replay *replay);

#endif
