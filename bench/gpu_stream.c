/* SPDX-License-Identifier: MIT */
/*
 * One GPU: copy in, scale, copy out, float32. The pipeline beside loops written by hand on the driver
 * API, against the limit of simultaneous copies measured in the same run. Every output is poisoned
 * before a run and checked whole after it.
 *
 *     bench_gpu_stream [--only CASE] [--runs N] [--json FILE]
 *
 * Cases: limits, auto, items, replay, pageable, resident, balance, host, steady, sweep. `sweep` (fixed
 * chunk sizes) runs only when asked for.
 */
#include "handwritten_cuda.h"
#include "measure.h"

#include <millrace/operation.h>
#include <millrace/pipeline.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum { RUN_LIMIT = 64 };

static const float factor = 1.5f;

struct bench {
    struct measure_report report;
    const char *only;
    int run_count, thread_count;
    mr_device *device;
    mr_kernel *kernel;
    float *pinned_in, *pinned_out;     /* of pinned_bytes each */
    float *pageable_in, *pageable_out; /* of pageable_bytes each */
    size_t pinned_bytes, pageable_bytes;
    double both_rate, in_rate, out_rate; /* bytes per second */
};

static void require_ok(mr_status status)
{
    measure_require(status == MR_OK, "%s: %s", mr_status_name(status), mr_last_error());
}

/* ---- data ---- */

static float source_value(size_t i)
{
    return (float)((i * 2654435761u >> 8) % 251);
}

struct range {
    const float *source;
    float *target;
    size_t count;
    atomic_size_t wrong_count;
};

static void range_part(const struct range *range, int index, int count, size_t *first, size_t *end)
{
    *first = range->count / (size_t)count * (size_t)index;
    *end = index + 1 == count ? range->count : *first + range->count / (size_t)count;
}

static void fill_part(void *context, int index, int count)
{
    struct range *range = context;
    size_t i, end;
    for (range_part(range, index, count, &i, &end); i < end; i++)
        range->target[i] = source_value(i);
}

static void poison_part(void *context, int index, int count)
{
    struct range *range = context;
    size_t first, end;
    range_part(range, index, count, &first, &end);
    memset(range->target + first, 0xff, (end - first) * sizeof(float));
}

static void check_part(void *context, int index, int count)
{
    struct range *range = context;
    size_t i, end, wrong = 0;
    for (range_part(range, index, count, &i, &end); i < end; i++)
        wrong += !(range->target[i] == range->source[i] * factor);
    atomic_fetch_add(&range->wrong_count, wrong);
}

static void fill(const struct bench *bench, float *target, size_t size_bytes)
{
    struct range range = { .target = target, .count = size_bytes / sizeof(float) };
    measure_parallel(bench->thread_count, fill_part, &range);
}

/* ---- one variant: poison, run, check, several times ---- */

struct timing {
    double seconds;     /* median of the wall time */
    double cpu_seconds; /* median of the process's CPU time */
};

/* One run over poisoned memory, checked. */
static struct timing run_checked(const struct bench *bench, const char *name,
                                 double (*run)(void *context), void *context, struct range *range)
{
    struct timing timing;
    measure_parallel(bench->thread_count, poison_part, range);
    const double cpu_began = measure_process_cpu_s();
    timing.seconds = run(context);
    timing.cpu_seconds = measure_process_cpu_s() - cpu_began;
    measure_parallel(bench->thread_count, check_part, range);
    measure_require(!atomic_load(&range->wrong_count), "%s: %zu of %zu values are wrong", name,
                    atomic_load(&range->wrong_count), range->count);
    return timing;
}

static double by_hand(void *context)
{
    return hand_stream(context);
}

static double by_hand_sequential(void *context)
{
    return hand_sequential(context);
}

/* ---- ours ---- */

struct ours {
    const struct bench *bench;
    mr_pipeline *pipeline; /* kept and run again, as one does with a pipeline */
    mr_buffer *source, *target;
    mr_buffer *resident; /* the stage writes here and has no output */
    size_t item_bytes;
    uint32_t rounds;
    _Atomic bool is_counting; /* steady */
    uint64_t count_from, count_to;
};

static mr_status launch_scale(const struct ours *ours, mr_stream *stream, mr_buffer *source,
                              size_t source_offset, mr_buffer *target, size_t target_offset,
                              size_t size_bytes)
{
    const uint64_t count = size_bytes / sizeof(float);
    const mr_argument arguments[] = { mr_argument_range(source, source_offset, size_bytes),
                                      mr_argument_range(target, target_offset, size_bytes),
                                      mr_argument_f32(factor), mr_argument_u64(count),
                                      mr_argument_u64(ours->rounds) };
    const mr_launch launch = { .count = count,
                               .grid = { hand_grid(count), 1, 1 },
                               .block = { 256, 1, 1 } };
    return mr_kernel_launch(stream, ours->bench->kernel, &launch, arguments, 5);
}

static mr_status submit_scale(void *context, mr_stage_call *call)
{
    struct ours *ours = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    size_t size_bytes = 0;
    for (uint32_t i = 0; i < call->item_count; i++)
        size_bytes += in->sizes[i];
    if (call->first_index >= ours->count_to)
        atomic_store_explicit(&ours->is_counting, false, memory_order_relaxed);
    else if (call->first_index >= ours->count_from)
        atomic_store_explicit(&ours->is_counting, true, memory_order_relaxed);
    if (!out)
        return launch_scale(ours, call->stream, in->buffer, in->offset, ours->resident,
                            call->first_index * ours->item_bytes, size_bytes);
    return launch_scale(ours, call->stream, in->buffer, in->offset, out->buffer, out->offset,
                        size_bytes);
}

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

static mr_buffer *borrow(const struct bench *bench, float *memory, const struct ours_shape *shape)
{
    mr_buffer *buffer = NULL;
    require_ok(mr_buffer_borrow(bench->device, memory, shape->size_bytes, shape->place, &buffer));
    return buffer;
}

static void ours_init(struct ours *ours, const struct bench *bench, const struct ours_shape *shape)
{
    mr_node node;
    memset(ours, 0, sizeof *ours);
    ours->bench = bench;
    ours->item_bytes = shape->item_bytes;
    ours->rounds = shape->rounds;
    ours->count_from = ours->count_to = UINT64_MAX;
    ours->source = borrow(bench, shape->source, shape);
    if (shape->target)
        ours->target = borrow(bench, shape->target, shape);
    else
        require_ok(mr_buffer_create(bench->device, shape->size_bytes, NULL, &ours->resident));

    const mr_pipeline_options options = { .chunk_bytes = shape->chunk_bytes,
                                          .parcel_items = shape->parcel_items,
                                          .slot_count = shape->slot_count };
    require_ok(mr_pipeline_create(&options, &ours->pipeline));
    const mr_source_options source = { .memory = ours->source,
                                       .memory_bytes = shape->size_bytes,
                                       .item_bytes = shape->item_bytes };
    require_ok(mr_pipeline_add_source(ours->pipeline, &source, &node));
    const mr_stage_options stage = { .name = "scale",
                                     .device = bench->device,
                                     .submit = submit_scale,
                                     .context = ours,
                                     .has_no_output = !shape->target,
                                     .replicas = shape->replicas,
                                     .is_parcel_wise = shape->is_parcel_wise,
                                     .is_repeatable = shape->is_repeatable };
    require_ok(mr_pipeline_add_stage(ours->pipeline, &stage, &node));
    const mr_sink_options sink = { .memory = ours->target, .memory_bytes = shape->size_bytes };
    if (shape->target)
        require_ok(mr_pipeline_add_sink(ours->pipeline, &sink, &node));
}

static void ours_fini(struct ours *ours)
{
    mr_pipeline_destroy(ours->pipeline);
    mr_buffer_destroy(ours->source);
    mr_buffer_destroy(ours->target);
    mr_buffer_destroy(ours->resident);
}

static double run_ours(void *context)
{
    const struct ours *ours = context;
    const double began = measure_now_s();
    require_ok(mr_pipeline_run(ours->pipeline));
    return measure_now_s() - began;
}

static void describe(const char *name, const struct ours *ours)
{
    const mr_pipeline_report *report;
    require_ok(mr_pipeline_report_get(ours->pipeline, &report));
    printf("  [%s: chunk %zu KiB, %u items a parcel, %u slots, %u streams, %.2f ms]\n", name,
           (size_t)report->chunk_bytes / KIB, report->parcel_items, report->slot_count,
           report->stream_count, (double)report->elapsed_ns * 1e-6);
    for (size_t i = 0; i < report->node_count; i++) {
        const mr_node_report *node = &report->nodes[i];
        if (node->replayed_parcels)
            printf("  [%s: %llu of %llu parcels replayed; %s]\n", name,
                   (unsigned long long)node->replayed_parcels, (unsigned long long)report->parcels,
                   node->replay_words);
    }
}

/* ---- contests ---- */

enum limit { LIMIT_BOTH_WAYS, LIMIT_IN };

/* One way of doing a case. Either a loop by hand or a pipeline. */
struct variant {
    char name[96];
    double bound; /* share of the limit that it must reach; 0: none */
    bool is_by_hand;
    struct hand_run hand;
    struct ours ours;
    double (*run)(void *context);
    void *context;
    struct range range;
    double rates[RUN_LIMIT], shares[RUN_LIMIT], seconds[RUN_LIMIT];
};

static struct variant *add_ours(const struct bench *bench, struct variant *variant, double bound,
                                const struct ours_shape *shape)
{
    memset(variant, 0, sizeof *variant);
    variant->bound = bound;
    variant->run = run_ours;
    variant->context = &variant->ours;
    variant->range =
        (struct range){ shape->source, shape->target, shape->size_bytes / sizeof(float), 0 };
    ours_init(&variant->ours, bench, shape);
    return variant;
}

static struct variant *add_hand(struct variant *variant, const struct hand_run *run)
{
    memset(variant, 0, sizeof *variant);
    variant->is_by_hand = true;
    variant->hand = *run;
    variant->hand.factor = factor;
    variant->run = by_hand;
    variant->context = &variant->hand;
    variant->range = (struct range){ run->source, run->target, run->size_bytes / sizeof(float), 0 };
    return variant;
}

/* All take turns, each turn beginning with the limit: other tenants of the host disturb for seconds at
 * a time, and shares of a limit measured just before stay true. */
static void hold_contest(struct bench *bench, enum limit limit, struct variant *variants,
                         size_t count)
{
    const int runs = bench->run_count;
    for (int i = -1; i < runs; i++) {
        const int k = i < 0 ? 0 : i;
        const double most =
            hand_copy_rate(bench->pinned_in, limit == LIMIT_IN ? NULL : bench->pinned_out, GIB, 1);
        for (size_t v = 0; v < count; v++) {
            struct variant *variant = &variants[v];
            const struct timing timing =
                run_checked(bench, variant->name, variant->run, variant->context, &variant->range);
            variant->seconds[k] = timing.seconds;
            variant->rates[k] =
                (double)(variant->range.count * sizeof(float)) / timing.seconds / 1e9;
            variant->shares[k] = variant->rates[k] * 1e9 / most;
        }
    }
    for (size_t v = 0; v < count; v++) {
        struct variant *variant = &variants[v];
        const double share = measure_median(variant->shares, runs);
        measure_report_add(&bench->report, measure_median(variant->rates, runs), "GB/s", "%s",
                           variant->name);
        if (variant->bound > 0)
            measure_report_target(&bench->report, share, "", ">=", variant->bound,
                                  "%s, of the limit", variant->name);
        else
            measure_report_add(&bench->report, share, "", "%s, of the limit", variant->name);
    }
}

static void end_contest(struct variant *variants, size_t count)
{
    for (size_t v = 0; v < count; v++) {
        if (variants[v].is_by_hand)
            continue;
        describe(variants[v].name, &variants[v].ours);
        ours_fini(&variants[v].ours);
    }
}

#define NAME(variant, ...) snprintf((variant)->name, sizeof(variant)->name, __VA_ARGS__)

static struct variant variants[24];

/* ---- cases ---- */

static void measure_limits(struct bench *bench)
{
    bench->both_rate = hand_copy_rate(bench->pinned_in, bench->pinned_out, GIB, 5);
    bench->in_rate = hand_copy_rate(bench->pinned_in, NULL, GIB, 5);
    bench->out_rate = hand_copy_rate(NULL, bench->pinned_out, GIB, 5);
    measure_report_add(&bench->report, bench->both_rate / 1e9, "GB/s",
                       "limit: both copies at once, each way");
    measure_report_add(&bench->report, bench->in_rate / 1e9, "GB/s", "limit: copy in alone");
    measure_report_add(&bench->report, bench->out_rate / 1e9, "GB/s", "limit: copy out alone");
}

static void measure_auto(struct bench *bench)
{
    const struct ours_shape shape = { .source = bench->pinned_in,
                                      .target = bench->pinned_out,
                                      .place = MR_PLACE_PINNED,
                                      .size_bytes = bench->pinned_bytes,
                                      .is_parcel_wise = true };
    const struct hand_run run = { .source = bench->pinned_in,
                                  .target = bench->pinned_out,
                                  .size_bytes = bench->pinned_bytes,
                                  .item_bytes = 16 * MIB,
                                  .copy_bytes = 16 * MIB,
                                  .slot_count = 4 };
    NAME(add_ours(bench, &variants[0], 0.98, &shape), "pinned, 4 GiB, all auto");
    NAME(add_hand(&variants[1], &run), "by hand: stage streams, 4 GiB, 16 MiB");
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, 2);
    end_contest(variants, 2);
}

static size_t add_hands(const struct bench *bench, struct variant *list, const char *label,
                        size_t item_bytes)
{
    const struct {
        const char *name;
        enum hand_shape shape;
        size_t copy_bytes;
    } ways[] = { { "stage streams", HAND_STAGES, item_bytes },
                 { "stage streams, merged copies", HAND_STAGES, 8 * MIB },
                 { "four streams", HAND_FOUR_STREAMS, item_bytes } };
    size_t count = 0;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        if (ways[i].copy_bytes < item_bytes)
            continue;
        const struct hand_run run = { .source = bench->pinned_in,
                                      .target = bench->pinned_out,
                                      .size_bytes = GIB,
                                      .item_bytes = item_bytes,
                                      .copy_bytes = ways[i].copy_bytes,
                                      .slot_count = ways[i].copy_bytes < MIB ? 16 : 4,
                                      .shape = ways[i].shape };
        NAME(add_hand(&list[count++], &run), "by hand: %s, items of %s", ways[i].name, label);
    }
    return count;
}

static void measure_items(struct bench *bench)
{
    const struct {
        const char *label;
        size_t item_bytes;
        double bound;
    } sizes[] = { { "64 KiB", 64 * KIB, 0.46 },
                  { "256 KiB", 256 * KIB, 0.95 },
                  { "1 MiB", MIB, 0.96 },
                  { "4 MiB", 4 * MIB, 0.97 },
                  { "16 MiB", 16 * MIB, 0.97 } };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct ours_shape shape = { .source = bench->pinned_in,
                                    .target = bench->pinned_out,
                                    .place = MR_PLACE_PINNED,
                                    .size_bytes = GIB,
                                    .item_bytes = sizes[i].item_bytes };
        NAME(add_ours(bench, &variants[0], sizes[i].bound, &shape), "pinned, 1 GiB, items of %s",
             sizes[i].label);
        shape.is_parcel_wise = true;
        NAME(add_ours(bench, &variants[1], 0, &shape), "pinned, 1 GiB, items of %s, parcel-wise",
             sizes[i].label);
        const size_t count =
            2 + add_hands(bench, variants + 2, sizes[i].label, sizes[i].item_bytes);
        hold_contest(bench, LIMIT_BOTH_WAYS, variants, count);
        end_contest(variants, count);
    }
}

/* The median of the ratios turn by turn. */
static double gain_of(const struct variant *better, const struct variant *base, int run_count)
{
    double gain[RUN_LIMIT];
    for (int i = 0; i < run_count; i++)
        gain[i] = better->rates[i] / base->rates[i];
    return measure_median(gain, run_count);
}

/* A launch for each small item: by the stream, and replayed as graphs. */
static void measure_replay(struct bench *bench)
{
    static const uint32_t replicas[] = { 1, 4 };
    for (size_t i = 0; i < 2; i++) {
        struct ours_shape shape = { .source = bench->pinned_in,
                                    .target = bench->pinned_out,
                                    .place = MR_PLACE_PINNED,
                                    .size_bytes = GIB,
                                    .item_bytes = 64 * KIB,
                                    .replicas = replicas[i] };
        NAME(add_ours(bench, &variants[2 * i], 0, &shape), "64 KiB, a launch each, %u streams",
             replicas[i]);
        shape.is_repeatable = true;
        NAME(add_ours(bench, &variants[2 * i + 1], 0, &shape),
             "64 KiB, a launch each, %u streams, replayed", replicas[i]);
    }
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, 4);
    end_contest(variants, 4);
    /* In one stream the kernels of small items follow one another, graph or not. */
    measure_report_add(&bench->report, gain_of(&variants[1], &variants[0], bench->run_count), "x",
                       "64 KiB, a launch each: replayed over the stream path, 1 stream");
    measure_report_add(&bench->report, gain_of(&variants[3], &variants[2], bench->run_count), "x",
                       "64 KiB, a launch each: replayed over the stream path, 4 streams");
    const double first = gain_of(&variants[3], &variants[0], bench->run_count);
    const double second = gain_of(&variants[3], &variants[2], bench->run_count);
    measure_report_target(&bench->report, first < second ? first : second, "x", ">=", 1.4,
                          "64 KiB, a launch each: replayed over the better stream path");
}

static void measure_pageable(struct bench *bench)
{
    const struct ours_shape shape = { .source = bench->pageable_in,
                                      .target = bench->pageable_out,
                                      .place = MR_PLACE_PAGEABLE,
                                      .size_bytes = bench->pageable_bytes,
                                      .is_parcel_wise = true };
    const struct hand_run run = { .source = bench->pageable_in,
                                  .target = bench->pageable_out,
                                  .size_bytes = GIB,
                                  .item_bytes = 16 * MIB,
                                  .copy_bytes = 16 * MIB,
                                  .slot_count = 4,
                                  .shape = HAND_FOUR_STREAMS };
    NAME(add_ours(bench, &variants[0], 0.85, &shape), "pageable to pageable, 2 GiB");
    NAME(add_hand(&variants[1], &run), "by hand: four streams on pageable memory, 1 GiB");
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, 2);
    end_contest(variants, 2);
}

/* The results stay on the GPU; they are fetched for the check after the time has been taken. */
static double run_resident(void *context)
{
    struct ours *ours = context;
    const struct bench *bench = ours->bench;
    mr_stream *stream = NULL;
    mr_buffer *target = NULL;
    require_ok(mr_stream_create(bench->device, NULL, &stream));
    require_ok(mr_fill(stream, ours->resident, 0, mr_buffer_size(ours->resident), 0xff, 1));
    require_ok(mr_stream_wait(stream));

    const double seconds = run_ours(ours);
    require_ok(mr_buffer_borrow(bench->device, bench->pinned_out, bench->pageable_bytes,
                                MR_PLACE_PINNED, &target));
    require_ok(mr_copy(stream, target, 0, ours->resident, 0, bench->pageable_bytes));
    require_ok(mr_stream_wait(stream));
    mr_buffer_destroy(target);
    mr_stream_destroy(stream);
    return seconds;
}

static void measure_resident(struct bench *bench)
{
    const struct {
        const char *name;
        float *source;
        mr_place place;
        double bound;
    } ways[] = { { "pageable to GPU, 2 GiB", bench->pageable_in, MR_PLACE_PAGEABLE, 0.90 },
                 { "pinned to GPU, 2 GiB", bench->pinned_in, MR_PLACE_PINNED, 0 } };
    for (size_t i = 0; i < 2; i++) {
        const struct ours_shape shape = { .source = ways[i].source,
                                          .place = ways[i].place,
                                          .size_bytes = bench->pageable_bytes,
                                          .item_bytes = MIB,
                                          .is_parcel_wise = true };
        NAME(add_ours(bench, &variants[i], ways[i].bound, &shape), "%s", ways[i].name);
        variants[i].run = run_resident;
        variants[i].range.target = bench->pinned_out;
    }
    hold_contest(bench, LIMIT_IN, variants, 2);
    end_contest(variants, 2);
}

/* The rounds that make the kernel take as long as copying its chunk. */
static uint32_t balance_rounds(size_t chunk_bytes, double seconds)
{
    const uint64_t count = chunk_bytes / sizeof(float);
    double low = 0, high = 1 << 16;
    for (int i = 0; i < 16; i++) {
        const double middle = (low + high) / 2;
        if (hand_kernel_seconds(count, (uint32_t)middle) < seconds)
            low = middle;
        else
            high = middle;
    }
    return (uint32_t)low;
}

static void measure_balance(struct bench *bench)
{
    const size_t chunk_bytes = 16 * MIB, chunk_count = 64, size_bytes = chunk_count * chunk_bytes;
    const double copy_seconds = (double)chunk_bytes / bench->in_rate;
    const uint32_t rounds = balance_rounds(chunk_bytes, copy_seconds);
    const double kernel_seconds = hand_kernel_seconds(chunk_bytes / sizeof(float), rounds);
    const struct hand_run run = { .source = bench->pinned_in,
                                  .target = bench->pinned_out,
                                  .size_bytes = size_bytes,
                                  .item_bytes = chunk_bytes,
                                  .copy_bytes = chunk_bytes,
                                  .slot_count = 4,
                                  .rounds = rounds };
    const struct ours_shape shape = { .source = bench->pinned_in,
                                      .target = bench->pinned_out,
                                      .place = MR_PLACE_PINNED,
                                      .size_bytes = size_bytes,
                                      .item_bytes = chunk_bytes,
                                      .parcel_items = 1,
                                      .rounds = rounds };
    NAME(add_hand(&variants[0], &run), "balanced: sequential");
    variants[0].run = by_hand_sequential;
    NAME(add_hand(&variants[1], &run), "balanced: by hand");
    NAME(add_ours(bench, &variants[2], 0, &shape), "balanced: pipeline");
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, 3);
    end_contest(variants, 3);
    double hand_gain[RUN_LIMIT], gain[RUN_LIMIT];
    for (int i = 0; i < bench->run_count; i++) {
        hand_gain[i] = variants[0].seconds[i] / variants[1].seconds[i];
        gain[i] = variants[0].seconds[i] / variants[2].seconds[i];
    }
    const double sequential = measure_median(variants[0].seconds, bench->run_count);
    const double step = (double)chunk_bytes / bench->both_rate;
    const double slowest = step > kernel_seconds ? step : kernel_seconds;
    const double bound =
        sequential / (slowest * (double)chunk_count + kernel_seconds + copy_seconds);
    measure_report_add(&bench->report, kernel_seconds / copy_seconds, "",
                       "balanced: kernel time against the copy in");
    measure_report_target(&bench->report, measure_median(gain, bench->run_count), "", ">=", 2.8,
                          "balanced, 64 chunks of 16 MiB: speed-up over sequential");
    measure_report_add(&bench->report, measure_median(hand_gain, bench->run_count), "",
                       "balanced by hand: speed-up over sequential");
    measure_report_add(&bench->report, bound, "",
                       "balanced: the most that copies slowed by each other allow");
}

struct host_case {
    const char *name;
    size_t item_bytes, size_bytes, copy_bytes;
    uint32_t parcel_items, slot_count;
};

/* The loop by hand and the pipeline take turns, so that the host's moods meet both. */
static void measure_host_case(struct bench *bench, const struct host_case *host)
{
    double hand_wall[RUN_LIMIT], ours_wall[RUN_LIMIT], wall_ratio[RUN_LIMIT], cpu_ratio[RUN_LIMIT];
    struct range range = { bench->pinned_in, bench->pinned_out, host->size_bytes / sizeof(float),
                           0 };
    struct hand_run run = { .source = bench->pinned_in,
                            .target = bench->pinned_out,
                            .size_bytes = host->size_bytes,
                            .item_bytes = host->item_bytes,
                            .copy_bytes = host->copy_bytes,
                            .slot_count = host->slot_count,
                            .factor = factor };
    struct ours ours;
    ours_init(&ours, bench,
              &(struct ours_shape){ .source = bench->pinned_in,
                                    .target = bench->pinned_out,
                                    .place = MR_PLACE_PINNED,
                                    .size_bytes = host->size_bytes,
                                    .item_bytes = host->item_bytes,
                                    .chunk_bytes = host->copy_bytes,
                                    .parcel_items = host->parcel_items,
                                    .slot_count = host->slot_count });
    const double count = (double)(host->size_bytes / host->item_bytes);
    for (int i = -1; i < bench->run_count; i++) {
        const int k = i < 0 ? 0 : i;
        const struct timing hand = run_checked(bench, host->name, by_hand, &run, &range);
        const struct timing mine = run_checked(bench, host->name, run_ours, &ours, &range);
        hand_wall[k] = hand.seconds / count * 1e6;
        ours_wall[k] = mine.seconds / count * 1e6;
        wall_ratio[k] = mine.seconds / hand.seconds;
        cpu_ratio[k] = mine.cpu_seconds / hand.cpu_seconds;
    }
    describe(host->name, &ours);
    ours_fini(&ours);
    struct measure_report *report = &bench->report;
    const int runs = bench->run_count;
    measure_report_add(report, measure_median(ours_wall, runs), "us", "host: %s", host->name);
    measure_report_add(report, measure_median(hand_wall, runs), "us", "host by hand: %s",
                       host->name);
    measure_report_add(report, measure_median(cpu_ratio, runs), "",
                       "host: %s, CPU time against by hand", host->name);
    measure_report_target(report, measure_median(wall_ratio, runs), "", "<=", 1.10,
                          "host: %s, against by hand", host->name);
}

/* Time for an item where the host is the limit: many small ones, each with a launch of its own. */
static void measure_host(struct bench *bench)
{
    static const struct host_case cases[] = {
        { "items of 4 KiB in copies of 1 MiB", 4 * KIB, 256 * MIB, MIB, 256, 8 },
        { "items of 64 KiB in copies of 8 MiB", 64 * KIB, GIB, 8 * MIB, 128, 8 },
        { "items of 4 KiB, each its own copies", 4 * KIB, 128 * MIB, 4 * KIB, 1, 16 },
        { "items of 64 KiB, each its own copies", 64 * KIB, GIB, 64 * KIB, 1, 16 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure_host_case(bench, &cases[i]);
}

struct counts {
    struct ours *ours;
    atomic_ulong of[MR_OPERATION_KIND_COUNT];
};

static void count_operation(void *context, const mr_operation *operation)
{
    struct counts *counts = context;
    if (atomic_load_explicit(&counts->ours->is_counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&counts->of[operation->kind], 1, memory_order_relaxed);
}

/* What the library does between the first eighth of a run and its last item. */
static void measure_steady(struct bench *bench)
{
    static const mr_operation_kind forbidden[] = {
        MR_OPERATION_ALLOCATE,     MR_OPERATION_FREE,     MR_OPERATION_ALLOCATE_ORDERED,
        MR_OPERATION_FREE_ORDERED, MR_OPERATION_REGISTER, MR_OPERATION_UNREGISTER,
        MR_OPERATION_SYNCHRONIZE
    };
    const mr_place places[] = { MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    for (int i = 0; i < 2; i++) {
        struct counts counts = { 0 };
        struct ours ours;
        ours_init(&ours, bench,
                  &(struct ours_shape){ .source = i ? bench->pageable_in : bench->pinned_in,
                                        .target = i ? bench->pageable_out : bench->pinned_out,
                                        .place = places[i],
                                        .size_bytes = GIB,
                                        .item_bytes = MIB });
        ours.count_from = GIB / MIB / 8;
        ours.count_to = GIB / MIB - 1;
        counts.ours = &ours;
        mr_device_observe(bench->device, count_operation, &counts);
        run_ours(&ours);
        mr_device_observe(bench->device, NULL, NULL);

        const char *name = i ? "pageable" : "pinned";
        unsigned long sum = 0;
        for (size_t k = 0; k < sizeof forbidden / sizeof *forbidden; k++)
            sum += atomic_load(&counts.of[forbidden[k]]);
        measure_require(atomic_load(&counts.of[MR_OPERATION_LAUNCH]) > 500, "nothing was counted");
        measure_report_target(&bench->report, (double)sum, "", "<=", 0,
                              "steady, %s: allocations, pinnings and synchronisations", name);
        for (int kind = 1; kind < MR_OPERATION_KIND_COUNT; kind++)
            if (atomic_load(&counts.of[kind]))
                measure_report_add(&bench->report,
                                   (double)atomic_load(&counts.of[kind]) / (7.0 / 8 * 1024), "",
                                   "steady, %s: %s for each item of 1 MiB", name,
                                   mr_operation_kind_name((mr_operation_kind)kind));
        ours_fini(&ours);
    }
}

static void sweep_pinned(struct bench *bench)
{
    size_t count = 0;
    for (size_t chunk_bytes = 4 * MIB; chunk_bytes <= 32 * MIB; chunk_bytes *= 2) {
        for (int is_short = 0; is_short < 2; is_short++) {
            const struct ours_shape shape = { .source = bench->pinned_in,
                                              .target = bench->pinned_out,
                                              .place = MR_PLACE_PINNED,
                                              .size_bytes = is_short ? GIB : bench->pinned_bytes,
                                              .chunk_bytes = chunk_bytes,
                                              .is_parcel_wise = true };
            NAME(add_ours(bench, &variants[count++], 0, &shape),
                 "sweep: pinned, %zu GiB, chunks of %zu MiB", shape.size_bytes / GIB,
                 chunk_bytes / MIB);
        }
    }
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, count);
    end_contest(variants, count);
}

static void sweep_pageable(struct bench *bench)
{
    size_t count = 0;
    for (size_t chunk_bytes = 2 * MIB; chunk_bytes <= 8 * MIB; chunk_bytes *= 2) {
        for (uint32_t slot_count = 5; slot_count <= 11; slot_count += 2) {
            const struct ours_shape shape = { .source = bench->pageable_in,
                                              .target = bench->pageable_out,
                                              .place = MR_PLACE_PAGEABLE,
                                              .size_bytes = bench->pageable_bytes,
                                              .chunk_bytes = chunk_bytes,
                                              .slot_count = slot_count,
                                              .is_parcel_wise = true };
            NAME(add_ours(bench, &variants[count++], 0, &shape),
                 "sweep: pageable, 2 GiB, chunks of %zu MiB, %u slots", chunk_bytes / MIB,
                 slot_count);
        }
    }
    hold_contest(bench, LIMIT_BOTH_WAYS, variants, count);
    end_contest(variants, count);
}

static void measure_sweep(struct bench *bench)
{
    sweep_pinned(bench);
    sweep_pageable(bench);
}

/* ---- the whole ---- */

static bool is_wanted(const struct bench *bench, const char *name)
{
    if (!bench->only)
        return strcmp(name, "sweep") != 0;
    const char *found = strstr(bench->only, name);
    return found && (found[strlen(name)] == ',' || found[strlen(name)] == 0);
}

static void bench_init(struct bench *bench, int argc, char **argv)
{
    bench->only = measure_option(argc, argv, "only", NULL);
    bench->run_count = (int)measure_option_number(argc, argv, "runs", 5);
    bench->thread_count = measure_cpu_count();
    bench->pinned_bytes = (size_t)(measure_option_number(argc, argv, "gib", 4) * (double)GIB);
    bench->pageable_bytes = bench->pinned_bytes / 2;
    require_ok(mr_device_open("cuda:0", NULL, &bench->device));
    const mr_kernel_options options = {
        .language = MR_KERNEL_IMAGE,
        .name = HAND_KERNEL_NAME,
        .source = hand_kernel_ptx,
        .source_bytes = strlen(hand_kernel_ptx) + 1,
        .signature = "in f32 source, out f32 target, value f32 factor, value u64 count, "
                     "value u32 rounds"
    };
    require_ok(mr_kernel_create(bench->device, &options, &bench->kernel));
    bench->pinned_in = hand_pin(bench->pinned_bytes);
    bench->pinned_out = hand_pin(bench->pinned_bytes);
    bench->pageable_in = aligned_alloc(4096, bench->pageable_bytes);
    bench->pageable_out = aligned_alloc(4096, bench->pageable_bytes);
    measure_require(bench->pageable_in && bench->pageable_out, "no memory");
    fill(bench, bench->pinned_in, bench->pinned_bytes);
    fill(bench, bench->pageable_in, bench->pageable_bytes);
    fill(bench, bench->pageable_out, bench->pageable_bytes);
}

static void bench_fini(struct bench *bench)
{
    mr_kernel_destroy(bench->kernel);
    require_ok(mr_device_close(bench->device));
    hand_unpin(bench->pinned_in);
    hand_unpin(bench->pinned_out);
    free(bench->pageable_in);
    free(bench->pageable_out);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    static const struct {
        const char *name;
        void (*run)(struct bench *bench);
    } cases[] = {
        { "auto", measure_auto },         { "items", measure_items },
        { "replay", measure_replay },     { "pageable", measure_pageable },
        { "resident", measure_resident }, { "balance", measure_balance },
        { "host", measure_host },         { "steady", measure_steady },
        { "sweep", measure_sweep },
    };
    measure_report_init(&bench.report, "gpu_stream", &argc, argv);
    if (!hand_open()) {
        puts("gpu_stream: no CUDA device here");
        return 77;
    }
    bench_init(&bench, argc, argv);
    measure_limits(&bench);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (is_wanted(&bench, cases[i].name)) {
            cases[i].run(&bench);
            fflush(stdout);
        }
    }
    bench_fini(&bench);
    return measure_report_finish(&bench.report);
}
