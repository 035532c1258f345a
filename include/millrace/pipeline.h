/* SPDX-License-Identifier: MIT */
/*
 * millrace/pipeline.h - source, stages and sinks over a ring of slots, on streams.
 *
 *     source ──► stage ──► stage ──► sink          linear is the default;
 *                  └─────► stage ──► sink          name the inputs for fan-out and fan-in
 *
 * Items travel in *parcels*: one or more consecutive items that lie one after the other in memory and
 * are copied together. A stage is a function that enqueues work for a parcel (or for one item) on the
 * stream it is given; copies between host and device, and between devices, are implied where the next
 * node needs them and left out where it does not. Results reach each sink in item order. Every item
 * that the source gave comes out of every sink, or is listed as skipped, or the run fails.
 *
 * A slot is written again only after everything that read it has ended. Memory does not grow with the
 * number of items: it is slots times the sizes on the edges.
 *
 * Several devices (mr_pipeline_options.devices) each run the whole chain, a *lane* each. A parcel goes to
 * the lane that has room first; results come in item order all the same. A device that fails is taken
 * out: what it had not delivered runs elsewhere, and the report says so. That helps against what the
 * driver confines to one device, not against a kernel of yours that traps: see device.h. Where copies of
 * fewer devices at once are faster, fewer are given work. Stages that keep their order (replicas 0 or 1,
 * and not is_independent) cannot be run so. Calls of one lane come from one thread, calls of different
 * lanes at the same time; `lend` is called by one of them at a time, in any order, once for each item.
 *
 * Ownership  mr_pipeline_create gives; mr_pipeline_destroy takes (it cancels a run and waits). Contexts
 *            and lent memory are borrowed until the run has ended.
 * Threads    Build and run from one thread. One thread calls the source, one submits all stages, one
 *            calls each sink; a source and a sink marked is_inline are called by the submitting
 *            thread. mr_pipeline_cancel and mr_pipeline_progress are [any thread].
 * Errors     The whole graph is checked before anything starts (sizes, inputs, cycles, devices). A
 *            failure names the stage and the item.
 */
#ifndef MR_PIPELINE_H
#define MR_PIPELINE_H

#include <millrace/kernel.h>
#include <millrace/staging.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_pipeline mr_pipeline;

#define MR_PIPELINE_DEVICE_LIMIT 64

/* A source, stage or sink of one pipeline: 1, 2, 3... in the order of adding. 0 is none. */
typedef uint32_t mr_node;

#define MR_NODE_INPUT_LIMIT 8

typedef enum mr_error_policy {
    MR_ERROR_STOP = 0, /* the first failure ends the run; finished items before it are delivered */
    MR_ERROR_SKIP = 1  /* a failed item is left out everywhere and listed; the rest goes on */
} mr_error_policy;

/* Zero means the default for every field. */
typedef struct mr_pipeline_options {
    const char *name;
    /* A parcel's size at its largest edge; 0 = auto, from the measured copy latency and
     * bandwidth. A single item may be larger. */
    uint64_t chunk_bytes;
    uint32_t parcel_items; /* items in a parcel at most; 0 = auto. 1 = never merged */
    uint32_t slot_count;   /* parcels in flight at most; 0 = auto; 1 to 1024 */
    mr_error_policy on_error;
    /* Times a failed item's stage is tried again, inputs untouched, before on_error applies; for
     * failures that the stage's function reports. */
    uint32_t retry_limit;
    uint64_t memory_limit; /* bytes of slots per device at most; 0 = half of what is free */
    /* Sample device times for the report (timing events on one parcel in `measure_period`). Without
     * it busy times are of the host's view. */
    bool is_measured;
    /* Data-parallel: every stage without a device of its own runs on each of these (1 to
     * MR_PIPELINE_DEVICE_LIMIT, no two alike; the list is copied, the devices are borrowed). */
    mr_device *const *devices;
    uint32_t device_count;
    uint32_t measure_period; /* 1: every parcel is timed; 0 = 16 */
} mr_pipeline_options;

MR_API MR_MUST_USE mr_status mr_pipeline_create(const mr_pipeline_options *options,
                                                mr_pipeline **out);
MR_API void mr_pipeline_destroy(mr_pipeline *pipeline);

/* ---- source ---- */

/* One item as the source gives it. Either write up to capacity_bytes to `data`, or lend: set `data` to
 * memory of yours, or `buffer` and `offset`. Lent memory stays untouched until give_back. Lent items
 * that follow one another in memory are merged into one copy. */
typedef struct mr_source_item {
    uint64_t index;        /* in: 0, 1, 2... */
    size_t capacity_bytes; /* in: item_bytes */
    void *data;            /* in: the slot (NULL when the source lends); out: the lent address */
    mr_buffer *buffer;     /* out: the lent buffer, instead of data; NULL in */
    size_t offset;         /* out: where in it */
    size_t size_bytes;     /* out: at most item_bytes; 0 is an empty item */
} mr_source_item;

/* MR_OK with an item, MR_END when there are no more (nothing is taken from `item`), or a failure. May
 * block; then it should come back soon after mr_pipeline_cancel (see `interrupt`). */
typedef mr_status (*mr_source_next)(void *context, mr_source_item *item);

typedef struct mr_source_options {
    const char *name;
    mr_source_next next; /* required unless `memory` is set */
    /* Lent items are no longer read; in order, one call at a time, by a sink's or the waiting
     * thread. May be NULL. */
    void (*give_back)(void *context, uint64_t first_index, uint32_t item_count);
    /* Called once when the run is to end before the source does (cancel, drain, failure), by the
     * thread that found out. NULL: none. */
    void (*interrupt)(void *context);
    void *context;
    size_t item_bytes;   /* the largest item. Required, unless `memory`: there 0 = auto chunks */
    uint64_t item_count; /* if known: for checks and progress; 0 = unknown */
    bool is_lending;     /* `next` lends */
    bool is_pageable;    /* lent addresses are ordinary memory: stage them for a GPU */
    bool is_inline;      /* called by the submitting thread: no hand-over, must not block */
    /* The simplest source: one range of memory, cut into items of item_bytes (the last may be
     * shorter). `granule_bytes`: auto chunks are a multiple of it (0 = 4096). */
    mr_buffer *memory;
    size_t memory_offset;
    size_t memory_bytes;
    size_t granule_bytes;
} mr_source_options;

MR_API MR_MUST_USE mr_status mr_pipeline_add_source(mr_pipeline *pipeline,
                                                    const mr_source_options *options, mr_node *out);

/* ---- stages ---- */

/* The items of one parcel on one edge: item k is at offset + k * stride_bytes of buffer and has
 * sizes[k] bytes. stride_bytes is the edge's largest item; the first item of the pipeline's own memory
 * is aligned to 256 bytes. A part-filled parcel is sent on when the pipeline would else run dry. */
typedef struct mr_parcel_view {
    mr_buffer *buffer;
    size_t offset;
    size_t stride_bytes;
    size_t capacity_bytes; /* of one item */
    size_t *sizes;         /* inputs: read only. Output: preset, the stage may lower them */
    bool is_packed;        /* all sizes but the last equal stride_bytes: one contiguous range */
} mr_parcel_view;

typedef struct mr_stage_call {
    mr_stream *stream; /* enqueue here; inputs are ready and the output is free in its order */
    mr_device *device;
    uint64_t first_index; /* of the parcel's first item in this call */
    uint32_t item_count;  /* items in this call: 1 unless is_parcel_wise */
    uint32_t input_count;
    const mr_parcel_view *inputs;
    mr_parcel_view *output; /* NULL for a stage without output */
    uint32_t replica; /* 0 to replicas-1: per-replica state; calls of one replica run in order */
    uint32_t attempt; /* 0, then 1... on retries */
    /* Set by the stage when the device decides the output sizes: item_count u64 values, written
     * by work on `stream`. Costs a host wait. */
    mr_buffer *device_sizes;
    size_t device_sizes_offset;
    /* For mr_launch: 1 where parcels, not slices of one, are spread over the workers; else 0. */
    uint32_t slice_limit;
    uint32_t lane; /* the place of `device` among the pipeline's devices; 0 where there is one */
} mr_stage_call;

/* Enqueues the stage's work for call->item_count items and returns; must not wait for it. */
typedef mr_status (*mr_stage_submit)(void *context, mr_stage_call *call);

/* Does the stage's work on the host, in stream order, and returns when it is done. `sizes` as above. */
typedef struct mr_host_call {
    uint64_t first_index;
    uint32_t item_count;
    uint32_t input_count;
    const void *const *inputs; /* one address per input: item k at + k * input_strides */
    const size_t *input_strides;
    const size_t *const *input_sizes;
    void *output;
    size_t output_stride;
    size_t *output_sizes;
    uint32_t replica;
    uint32_t attempt;
    uint32_t lane; /* of the pipeline's devices, the one that the parcel went to */
} mr_host_call;
typedef mr_status (*mr_stage_work)(void *context, mr_host_call *call);

#define MR_REPLICAS_AUTO UINT32_MAX

typedef struct mr_stage_options {
    const char *name;
    /* Where the stage's stream and output live. NULL: each of the pipeline's devices. */
    mr_device *device;
    mr_stage_submit submit; /* one of submit and work */
    /* Host work: runs on the CPU device, whatever `device` its neighbours have; `device` must be
     * a CPU device. */
    mr_stage_work work;
    void *context;
    /* All 0: the node added last. Nodes that are added later may be named. */
    mr_node inputs[MR_NODE_INPUT_LIMIT];
    /* Of the largest output item; 0 = what output_size says of the largest inputs, or as the
     * first input. */
    size_t output_bytes;
    bool has_no_output; /* reads only; nothing may follow it */
    /* The preset of sizes[k]; NULL = output_bytes if that is set, else the first input's size. */
    size_t (*output_size)(void *context, uint64_t index, const size_t *input_sizes);
    /* 0 or 1: items in order, one after the other (the stage may keep state). n: up to n parcels
     * at once; items are independent. MR_REPLICAS_AUTO: as many as pay. */
    uint32_t replicas;
    bool is_parcel_wise; /* one call for a whole parcel instead of one per item */
    /* The output is the input's memory (the stage then sees equal buffers) where nobody else
     * reads that input; such a stage is not retried. */
    bool is_in_place;
    int priority; /* of its stream */
    /* What `submit` enqueues, and the sizes that it leaves, depend in one run only on the views (buffers,
     * offsets, sizes), item_count and replica of its call: never on first_index or attempt, nor on
     * anything that changes during the run. Then the pipeline may launch again what was enqueued for
     * the same slot before, as a graph, without calling `submit`; it does so where that is faster.
     * `submit` may be called twice for an item. What is enqueued can run again: kernels and buffers
     * live until the run ends, and host functions leave their contexts as they are. */
    bool is_repeatable;
    /* Items do not depend on each other, though `replicas` is 0 or 1: one stream for each of several
     * devices. */
    bool is_independent;
    /* Told how long a parcel's work took, on the device for `submit`, however it was launched. Called
     * where the pipeline is_measured, for the parcels that are timed, in item order, by the thread of the
     * first sink before it takes the items. NULL: none. */
    void (*note_time)(void *context, uint64_t first_index, uint32_t item_count, uint64_t busy_ns);
} mr_stage_options;

MR_API MR_MUST_USE mr_status mr_pipeline_add_stage(mr_pipeline *pipeline,
                                                   const mr_stage_options *options, mr_node *out);

/* ---- sinks ---- */

typedef struct mr_sink_item {
    uint64_t index;
    const void *data; /* in host memory; where the sink lent, its own memory */
    size_t size_bytes;
} mr_sink_item;

/* One item, in order, skipped ones left out. May block. */
typedef mr_status (*mr_sink_take)(void *context, const mr_sink_item *item);

typedef struct mr_sink_options {
    const char *name;
    mr_sink_take take; /* may be NULL with `memory` */
    /* Lends memory of the sink's for item `index` (capacity: the edge's item size), before its work is
     * submitted, on the submitting thread; *data = NULL: no more room is a failure. May be NULL: the
     * pipeline's slots. Lent memory of an item that is skipped is not taken. */
    mr_status (*lend)(void *context, uint64_t index, size_t capacity_bytes, void **data);
    void *context;
    mr_node input;    /* 0: the node added last */
    bool is_pageable; /* lent addresses are ordinary memory: stage them */
    bool is_inline;   /* called by the submitting thread */
    /* The simplest sink: items one after the other into one range (item k at k * item size). */
    mr_buffer *memory;
    size_t memory_offset;
    size_t memory_bytes;
} mr_sink_options;

MR_API MR_MUST_USE mr_status mr_pipeline_add_sink(mr_pipeline *pipeline,
                                                  const mr_sink_options *options, mr_node *out);

/* ---- running ---- */

/* Checks everything, allocates slots, starts, waits for the end. MR_OK: every item came out or is
 * listed as skipped. MR_E_CANCELLED after cancel. May block. A pipeline may be run again. */
MR_API MR_MUST_USE mr_status mr_pipeline_run(mr_pipeline *pipeline);

/* The same in two steps. */
MR_API MR_MUST_USE mr_status mr_pipeline_start(mr_pipeline *pipeline);
MR_API MR_MUST_USE mr_status mr_pipeline_wait(mr_pipeline *pipeline, uint64_t timeout_ns);

/* No new items; what is in flight ends and is delivered up to the first gap. Idempotent. Never
 * blocks. [any thread] */
MR_API void mr_pipeline_cancel(mr_pipeline *pipeline);

/* Takes no more items from the source, finishes all it has, then ends as at end of stream. Never
 * blocks. [any thread] */
MR_API void mr_pipeline_drain(mr_pipeline *pipeline);

typedef struct mr_pipeline_progress_now {
    uint64_t items_in, items_out, items_skipped;
    uint64_t bytes_in, bytes_out;
    uint64_t elapsed_ns;
    uint64_t item_count; /* expected; 0 = unknown */
} mr_pipeline_progress_now;
MR_API void mr_pipeline_progress(const mr_pipeline *pipeline, mr_pipeline_progress_now *out);

/* What one of several devices has done so far. */
typedef struct mr_device_progress {
    char device[32];
    uint32_t lane;
    uint64_t items; /* that came out of it */
    uint64_t bytes; /* that went into it, less what a lost device did not bring out */
    bool is_lost;
} mr_device_progress;

/* Writes that of the first `capacity` devices, in their order, of a pipeline over several. Answers how
 * many there are; 0 with one, and before the first start. Never blocks. [any thread] */
MR_API size_t mr_pipeline_progress_devices(const mr_pipeline *pipeline, mr_device_progress *out,
                                           size_t capacity);

typedef enum mr_node_kind {
    MR_NODE_SOURCE = 1,
    MR_NODE_STAGE,
    MR_NODE_SINK,
    MR_NODE_COPY /* implied: to a device, from a device, between devices */
} mr_node_kind;

/* Static; "source", "stage", "sink" or "copy". [any thread] */
MR_API const char *mr_node_kind_name(mr_node_kind kind);

typedef struct mr_node_report {
    mr_node node; /* 0 for implied copies */
    mr_node_kind kind;
    char name[64]; /* "copy in", "median", "copy out"... */
    char device[32];
    uint64_t items, bytes_in, bytes_out;
    uint64_t busy_ns; /* time the node's work ran, of all replicas together; device time where
                         sampled and scaled up */
    uint64_t wait_ns; /* time one replica was starved or blocked: elapsed - busy_ns / replicas */
    uint64_t failures, retries;
    uint32_t replicas;
    bool is_sampled;           /* busy_ns comes from device timing */
    uint64_t replayed_parcels; /* of a stage with `submit`: launched as graphs */
    char replay_words[128];    /* and what decided for or against it */
} mr_node_report;

typedef struct mr_skipped_item {
    uint64_t index;
    mr_node node;
    mr_status status;
    char words[256];
} mr_skipped_item;

/* What one of the pipeline's devices did. */
typedef struct mr_device_report {
    char device[32];
    uint32_t lane;
    uint64_t items, parcels, bytes; /* that it brought to the sinks; bytes as they came in */
    uint64_t items_moved;           /* taken from it when it was lost, and run elsewhere */
    bool is_lost;                   /* it failed and was taken out; `status` and `words` say why */
    mr_status status;
    char words[256];
} mr_device_report;

typedef struct mr_pipeline_report {
    /* items_in = items_out + items_skipped on success. */
    uint64_t items_in, items_out, items_skipped;
    uint64_t bytes_in, bytes_out;
    uint64_t elapsed_ns;
    uint64_t chunk_bytes;  /* as used */
    uint32_t parcel_items; /* the most in one parcel */
    uint32_t slot_count;
    uint32_t stream_count;
    uint64_t parcels;
    uint64_t slot_memory_bytes; /* all devices and pinned host memory */
    double overlap;             /* (sum of busy times) / elapsed: 1 = nothing overlapped */
    double overlap_bound;       /* that sum / (longest of one replica): the most there could be */
    const mr_node_report *nodes;
    size_t node_count;
    size_t bottleneck;              /* index into nodes: whose replicas are busiest */
    const mr_skipped_item *skipped; /* the first 1024 in item order */
    size_t skipped_count;
    const mr_device_report *devices; /* with several devices, in their order */
    size_t device_count;
    uint32_t devices_at_once; /* that were given work in turn at the end; see several devices */
} mr_pipeline_report;

/* Of the last run. Borrowed until the next run or destroy. MR_E_STATE before the first or while
 * running. */
MR_API MR_MUST_USE mr_status mr_pipeline_report_get(const mr_pipeline *pipeline,
                                                    const mr_pipeline_report **out);

#ifdef __cplusplus
}
#endif
#endif
