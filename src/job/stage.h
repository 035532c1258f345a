/* SPDX-License-Identifier: MIT */
/*
 * job/stage.h - a stage of a job, and the table of functions that each operation fills.
 */
#ifndef MR__JOB_STAGE_H
#define MR__JOB_STAGE_H

#include "job/fields.h"

#include <millrace/pipeline.h>

struct mr__stage;

/* What flows from the source, or out of a stage. */
struct mr__flow {
    struct mr__item_type type;
    size_t item_bytes;
    bool has_short_last;       /* the last item may be shorter */
    const char *const *fields; /* names of an item's elements, ends with NULL; or NULL */
    bool is_custom;            /* some stage before it has no reference */
    double tolerance; /* of the reference: 0 = bit by bit, else the part of the item's largest
                                  absolute value by which an element may differ */
};

/* A side input: an array in host memory, and on the devices that asked for it. */
struct mr__side_input {
    const char *name, *path;
    const struct mr__yaml *node;
    struct mr__item_type type;
    void *data;
    uint64_t size_bytes;
    bool is_loaded; /* it has been read without a problem */
    bool is_used;
    struct mr__side_copy *copies;
};

/* What stages may ask of the job. */
struct mr__stage_home {
    struct mr__side_input *side_inputs;
    size_t side_input_count;
};

/* Consecutive items of a call that lie one after the other in every input and in the output. */
struct mr__span {
    uint32_t first_item; /* within the call */
    uint32_t item_count;
    size_t input_offsets[MR_NODE_INPUT_LIMIT], input_bytes[MR_NODE_INPUT_LIMIT];
    size_t output_offset, output_bytes;
};
typedef mr_status (*mr__span_launch)(struct mr__stage *stage, mr_stage_call *call,
                                     const struct mr__span *span);

struct mr__op {
    const char *name;
    const char *const *keys; /* its own, ends with NULL */
    uint32_t input_count;    /* 0 = one or more */
    bool takes_short_items;  /* works on any number of elements */
    /* Reads its keys into stage->arguments. */
    bool (*read)(const struct mr__reading *reading, struct mr__stage *stage);
    /* Says what comes out, from stage->inputs. The device is open. */
    bool (*infer)(const struct mr__reading *reading, struct mr__stage *stage);
    /* Makes kernels, on stage->device; checks what it can. */
    mr_status (*open)(struct mr__stage *stage);
    /* Makes the buffers of a run. May be NULL. */
    mr_status (*begin)(struct mr__stage *stage);
    mr_stage_submit submit; /* one of submit and work; the context is the stage */
    mr_stage_work work;
    mr__span_launch launch;                 /* for mr__stage_submit_spans */
    void (*end)(struct mr__stage *stage);   /* accepts any state, twice. May be NULL */
    void (*close)(struct mr__stage *stage); /* likewise */
    /* One item on one thread, plainly. NULL: has none. */
    mr_status (*reference)(const struct mr__stage *stage, const void *const *inputs,
                           const size_t *input_bytes, void *output, size_t *output_bytes);
};

#define MR__KERNEL_LIMIT 4

/* Lives in the job's arena. */
struct mr__stage {
    const struct mr__op *op;
    const struct mr__yaml *node; /* its map */
    const char *name;
    bool has_own_name;
    const char *device_name; /* NULL: the job's */
    const struct mr__yaml *device_node;
    uint32_t replicas;
    struct mr__stage_home *home;

    uint32_t input_count;
    const char *input_names[MR_NODE_INPUT_LIMIT];
    const struct mr__yaml *input_nodes[MR_NODE_INPUT_LIMIT];
    uint32_t input_indices[MR_NODE_INPUT_LIMIT]; /* 0: the source, k: stage k-1 of the job */
    const struct mr__flow *inputs[MR_NODE_INPUT_LIMIT];
    struct mr__flow output;

    mr_device *device;
    /* With several devices, this one and its likes on the others; NULL with one. */
    struct mr__stage **lanes;
    uint32_t lane_count;
    mr_kernel *kernels[MR__KERNEL_LIMIT];
    const char *kernel_names[MR__KERNEL_LIMIT];
    void *arguments; /* the operation's */
    bool is_parcel_wise;
    bool is_repeatable; /* what it launches does not depend on which items they are */
    bool is_host_work;  /* `work` rather than `submit`: runs on the CPU device */
    bool is_broken;     /* a problem was added; only the name counts */
    bool is_inferred;   /* the output is known */
};

/* All built-in operations, ends with NULL; `kernel` and `object` stages have tables of their
 * own. */
extern const struct mr__op *const mr__ops[];
extern const struct mr__op mr__op_kernel;
extern const struct mr__op mr__op_object;
extern const struct mr__op mr__op_convert, mr__op_scale_offset, mr__op_clamp, mr__op_threshold,
    mr__op_add, mr__op_calibrate, mr__op_median3x3, mr__op_quantise, mr__op_statistics,
    mr__op_histogram;

/* Reads one element of `stages:`. NULL when nothing of it can be kept; is_broken after problems. */
struct mr__stage *mr__stage_read(const struct mr__reading *reading, struct mr__stage_home *home,
                                 const struct mr__yaml *node);

/* The same stage on another device, for a job on several: all that infer has said of the first is
 * known, and its kernels are made. NULL with a status where that fails; what was made is closed. */
mr_status mr__stage_clone(const struct mr__reading *reading, const struct mr__stage *stage,
                          mr_device *device, struct mr__stage **out);
/* The stage that runs on the lane. */
static inline struct mr__stage *mr__stage_on(struct mr__stage *stage, uint32_t lane)
{
    return stage->lanes ? stage->lanes[lane] : stage;
}

/* ---- for operations ---- */

/* A value of the stage's own keys: the YAML node or NULL. */
const struct mr__yaml *mr__stage_key(const struct mr__stage *stage, const char *key);

/* A problem with what comes in: "stage 'median' cannot take what 'calibrate' gives (u16 640x480):
 * ". */
void mr__stage_refuse(const struct mr__reading *reading, const struct mr__stage *stage,
                      uint32_t input, const char *format, ...) MR_PRINTF(4, 5);

/* True when input 0 is of one of `types` (ends with 0); else a problem that names them. */
bool mr__stage_takes(const struct mr__reading *reading, const struct mr__stage *stage,
                     const mr_type *types);

/* output = input 0 with another element type, and its size. False after a problem. */
bool mr__stage_give(const struct mr__reading *reading, struct mr__stage *stage, mr_type dtype);
/* The same with another type altogether. */
bool mr__stage_give_type(const struct mr__reading *reading, struct mr__stage *stage,
                         const struct mr__item_type *type);

/* The side input that `node` names; NULL after a problem. */
struct mr__side_input *mr__stage_side_input(const struct mr__reading *reading,
                                            const struct mr__stage *stage,
                                            const struct mr__yaml *node);

/* Opens stage->kernel_names from those embedded in the library. The usual `open` and `close`. */
mr_status mr__stage_open_kernels(struct mr__stage *stage);
void mr__stage_close_kernels(struct mr__stage *stage);

/* A value of a kernel's type from a number. */
mr_argument mr__argument_of(mr_type type, double value);

/* Copies host memory to a fresh buffer on the device; waits for it. */
mr_status mr__upload(mr_device *device, const void *data, size_t size_bytes, mr_buffer **out);
/* The side input on the device; made once, gone with mr__side_input_fini. */
mr_status mr__side_input_on(struct mr__side_input *side, mr_device *device, mr_buffer **out);
void mr__side_input_fini(struct mr__side_input *side);

/* Calls `launch` for the whole call where it is packed, else item by item. */
mr_status mr__stage_each_span(struct mr__stage *stage, mr_stage_call *call, mr__span_launch launch);
/* So with the operation's own `launch`. The usual `submit`. */
mr_status mr__stage_submit_spans(void *context, mr_stage_call *call);
/* Calls `launch` for each item by itself. */
mr_status mr__stage_each_item(struct mr__stage *stage, mr_stage_call *call, mr__span_launch launch);

#endif
