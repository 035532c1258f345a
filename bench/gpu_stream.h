/* SPDX-License-Identifier: MIT */
/*
 * bench/gpu_stream.h - what the cases of bench_gpu_stream share: the GPU with its data, the pipeline that
 * is measured, and contests in which pipelines and loops by hand take turns.
 */
#ifndef BENCH_GPU_STREAM_H
#define BENCH_GPU_STREAM_H

#include "handwritten_cuda.h"
#include "measure.h"
#include "scale.h"

#include <millrace/pipeline.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

#define SCALE_FACTOR 1.5f

enum { RUN_LIMIT = 64 };

struct bench {
    struct measure_report report;
    const char *only;
    int run_count;
    mr_device *device;
    mr_kernel *kernel;
    float *pinned_in, *pinned_out;     /* of pinned_bytes each */
    float *pageable_in, *pageable_out; /* of pageable_bytes each */
    size_t pinned_bytes, pageable_bytes;
    double both_rate, in_rate, out_rate; /* bytes per second */
};

/* ---- one run: poison, run, check ---- */

struct timing {
    double seconds;     /* wall time, as the run says it */
    double cpu_seconds; /* of the process */
};

struct timing run_checked(const char *name, double (*run)(void *context), void *context,
                          const struct scale_range *range);

/* A run; the context is a struct hand_run. */
double run_by_hand(void *context);
double run_by_hand_sequential(void *context);

/* ---- ours: source, scale, sink ---- */

struct ours {
    const struct bench *bench;
    mr_pipeline *pipeline; /* kept and run again, as one does with a pipeline */
    mr_buffer *source, *target;
    mr_buffer *resident; /* the stage writes here and has no output */
    size_t item_bytes;
    uint32_t rounds;
    /* Items in [count_from, count_to) are being submitted. Set both for one who observes. */
    _Atomic bool is_counting;
    uint64_t count_from, count_to;
};

struct ours_shape {
    float *source, *target; /* target NULL: the results stay on the GPU */
    mr_place place;         /* of both */
    size_t size_bytes;
    size_t item_bytes;     /* 0: auto */
    size_t chunk_bytes;    /* 0: auto */
    uint32_t parcel_items; /* 0: auto */
    uint32_t slot_count;   /* 0: auto */
    uint32_t replicas;
    bool is_parcel_wise;
    bool is_repeatable;
    uint32_t rounds;
};

void ours_init(struct ours *ours, const struct bench *bench, const struct ours_shape *shape);
void ours_fini(struct ours *ours);

/* A run; the context is a struct ours. */
double run_ours(void *context);

/* Prints what the pipeline has chosen, and how the last run went. */
void ours_describe(const struct ours *ours, const char *name);

/* ---- contests ---- */

enum contest_limit { LIMIT_BOTH_WAYS, LIMIT_IN };

/* One way of doing a case: a loop by hand, or a pipeline. */
struct variant {
    char name[96];
    double bound; /* share of the limit that it must reach; 0: none */
    bool is_by_hand;
    struct hand_run hand;
    struct ours ours;
    double (*run)(void *context);
    void *context;
    struct scale_range range;
    double seconds[RUN_LIMIT]; /* turn by turn */
    double rates[RUN_LIMIT], shares[RUN_LIMIT];
};

/* Make a variant, its name printf-like. */
void variant_ours(struct variant *variant, const struct bench *bench, double bound,
                  const struct ours_shape *shape, const char *name, ...)
    __attribute__((format(printf, 5, 6)));
void variant_by_hand(struct variant *variant, const struct hand_run *run, const char *name, ...)
    __attribute__((format(printf, 3, 4)));

/* Measures and reports all of them, and ends them; their figures stay. */
void contest_hold(struct bench *bench, enum contest_limit limit, struct variant *variants,
                  size_t count);

/* ---- cases of gpu_stream_host.c ---- */

void measure_host(struct bench *bench);
void measure_steady(struct bench *bench);

#endif
