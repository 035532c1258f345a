/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_plan.h - a plan: records as queues have them, each with the nodes that it comes after.
 */
#ifndef MR__CPU_PLAN_H
#define MR__CPU_PLAN_H

#include "backend/backend.h"
#include "backend/cpu/cpu_record.h"

/* A set of nodes, ascending. In a queue that is captured: what its next node comes after. */
struct cpu_frontier {
    uint32_t *nodes;
    size_t count, capacity;
};

/* Memory that is freed all at once. */
struct cpu_arena {
    struct cpu_arena_block *block;
    size_t left_bytes;
};

struct cpu_node {
    struct cpu_record *record; /* NULL: nothing, or `child` */
    struct cpu_plan *child;
    uint32_t *after; /* ascending */
    size_t after_count;
};

struct cpu_plan {
    struct mr_plan base;
    struct cpu_arena arena;
    struct cpu_node *nodes;
    size_t node_count, node_capacity;
    size_t edge_count;
};

static inline struct cpu_plan *cpu_plan_from(struct mr_plan *plan)
{
    return (struct cpu_plan *)plan;
}

/* NULL when memory is out. Aligned for any record. */
void *mr__cpu_arena_take(struct cpu_arena *arena, size_t size_bytes);
void mr__cpu_arena_fini(struct cpu_arena *arena);

/* NULL, with words, when memory is out. */
struct cpu_plan *mr__cpu_plan_make(struct mr_backend_device *device);

/* The next node, with a record of `kind` behind whose head there is room for it; kind 0 is none. It
 * becomes a part of the plan with mr__cpu_plan_commit. NULL, with words, when memory is out. */
struct cpu_node *mr__cpu_plan_reserve(struct cpu_plan *plan, uint32_t kind, size_t size_bytes,
                                      const uint32_t *after, size_t after_count);
void mr__cpu_plan_commit(struct cpu_plan *plan);

/* Copies a record whose head says how large it is; what points into it does so in the copy. */
void mr__cpu_record_copy(struct cpu_record *target, const struct cpu_record *source);

/* The table's entries. */
mr_status mr__cpu_plan_create(struct mr_backend_device *device, struct mr_plan **out);
mr_status mr__cpu_plan_clone(const struct mr_plan *plan, struct mr_plan **out);
void mr__cpu_plan_destroy(struct mr_plan *plan);
mr_status mr__cpu_plan_add(struct mr_plan *plan, const struct mr_work *work, const uint32_t *after,
                           size_t after_count);
void mr__cpu_plan_size(const struct mr_plan *plan, size_t *node_count, size_t *edge_count);

#endif
