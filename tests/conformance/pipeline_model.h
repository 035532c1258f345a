/* SPDX-License-Identifier: MIT */
/*
 * conformance/pipeline_model.h - pipelines of any shape over random items, and what must come out.
 *
 * A model is a list of nodes. model_run builds the pipeline, feeds it, and compares every item at every
 * sink with what a plain loop makes of the same item. Stages rotate their input, put a tag byte into it
 * and mix in bytes of further inputs, so that a wrong item, a wrong order of stages or a stale slot shows.
 * Memory is poisoned before it is lent or written.
 */
#ifndef TEST_PIPELINE_MODEL_H
#define TEST_PIPELINE_MODEL_H

#include <millrace/pipeline.h>

enum {
    MODEL_NODE_LIMIT = 24,
    MODEL_PARCEL_LIMIT = 4096,
    MODEL_REPLICA_LIMIT = 8,
    MODEL_LANE_LIMIT = 9
};

enum model_lending {
    MODEL_SLOTS,    /* filled by the source, read by the sink: the pipeline's slots */
    MODEL_TOGETHER, /* lent items lie one after the other */
    MODEL_APART,    /* lent items lie anywhere */
    MODEL_MEMORY    /* one buffer */
};

struct model_node {
    mr_node_kind kind;
    mr_node inputs[MR_NODE_INPUT_LIMIT];

    /* source and sink */
    enum model_lending lending;
    mr_place place; /* of MODEL_MEMORY */
    bool is_pageable;
    bool is_inline;

    /* stage */
    mr_device *device; /* NULL: the model's */
    bool is_spread;    /* runs on each of the options' devices */
    bool is_work;
    bool is_parcel_wise, is_in_place;
    bool has_no_output;
    bool is_shrinking;       /* puts out three quarters of its input, by lowering the size */
    bool is_sized_by_device; /* and lets the device say so */
    bool is_slow;            /* now and then takes some microseconds more */
    uint32_t replicas;
    bool is_independent;
    uint32_t rotation;
    uint8_t tag;
    uint64_t fail_index;    /* items index, index + fail_period... fail; 0 and 0: none */
    uint64_t fail_period;   /* 0: only the one */
    uint32_t fail_attempts; /* attempts that fail; 0: no failures at all */
};

struct model {
    const char *name;
    mr_device *device;
    mr_device *host; /* the CPU device, for work */
    mr_pipeline_options options;
    struct model_node nodes[MODEL_NODE_LIMIT];
    uint32_t node_count;
    size_t item_bytes;
    bool is_varied;    /* item sizes differ, and some are 0 */
    size_t last_bytes; /* of the last item; 0: as the others */
    uint64_t item_count;
    uint64_t seed;
    uint64_t source_fails_at;     /* + 1; 0: never */
    uint64_t sink_fails_at;       /* + 1 */
    uint64_t cancel_at, drain_at; /* + 1: called by the sink that takes this item */
    uint32_t run_count;           /* 0 = 1 */
    void (*on_take)(const struct model *model, uint64_t index); /* by the sinks; may be NULL */
    /* Of the report of a run that has ended; may be NULL. */
    void (*on_report)(const struct model *model, const mr_pipeline_report *report);
    uint64_t source_lead; /* the source waits until all items but so many came out; 0: does not */
    uint32_t meddle_us;   /* another thread cancels (odd) or drains (even) after about so long */
};

/* What a run must come to. */
struct model_outcome {
    mr_status status;
    const char *words;      /* NULL: any */
    uint64_t items_out;     /* delivered to every sink; UINT64_MAX: any */
    uint64_t items_skipped; /* UINT64_MAX: any */
    bool is_open; /* ended early, a callback's failure or not: only what came out counts */
};

/* Runs and checks. Ends the program where something differs. */
void model_run(const struct model *model, const struct model_outcome *outcome);
/* Every item comes out. */
void model_run_through(const struct model *model);

/* Nodes. A stage's tag follows from its rotation. */
struct model_node model_feed(enum model_lending lending);
struct model_node model_stage(mr_node input, uint32_t rotation);
struct model_node model_work(mr_node input, uint32_t rotation);
struct model_node model_out(mr_node input, enum model_lending lending);

/* source ─► stage ─► stage ─► stage ─► sink over the slots, 100 items of 96 bytes. */
struct model model_linear(const char *name, mr_device *device, mr_device *host);

/* Any shape, sizes and ways of lending. */
void model_randomise(struct model *model, mr_device *device, mr_device *host, uint64_t seed);

/* Stages that have no device of their own run on each of these. Stages get replicas, and parcels a size:
 * what is chosen else takes the sanitizers long. */
void model_spread(struct model *model, mr_device *const *devices, uint32_t device_count);
bool model_is_spread(const struct model *model);

/* Below `limit`. */
uint32_t model_pick(uint64_t *state, uint32_t limit);

/* A small random generator. */
uint64_t model_random(uint64_t *state);

#endif
