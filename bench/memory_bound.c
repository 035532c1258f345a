/* SPDX-License-Identifier: MIT */
/*
 * Memory in, three memory-bound stages (scale, offset, clamp on f32), memory out, on the CPU: a
 * pipeline against the best of several loops written by hand for it, in one run.
 *
 *     bench_memory_bound [--mib N] [--runs N] [--json FILE]
 */
#include "measure.h"
#include "require.h"

#include <millrace/pipeline.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SSE2__
#include <immintrin.h>
#endif

static const float factor = 1.5f, offset = -40.0f, low = 0.0f, high = 255.0f;

struct data {
    const float *source;
    float *target;
    size_t count;
    int thread_count;
    atomic_size_t next;
    atomic_size_t wrong_count;
};

static float source_value(size_t i)
{
    return (float)((i * 2654435761u >> 8) % 251);
}

static float expected_value(float value)
{
    value = value * factor;
    value = value + offset;
    value = value < low ? low : value;
    return value > high ? high : value;
}

/* ---- the stages, for everybody ---- */

/* For this machine's vectors, by hand and ours alike. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define VECTORISED __attribute__((target_clones("avx512f", "avx2", "default"), noinline))
#else
#define VECTORISED
#endif

/* Source and target may be the same, but no element depends on another. */
#ifdef __clang__
#define EACH_ALONE _Pragma("clang loop vectorize(assume_safety)")
#else
#define EACH_ALONE _Pragma("GCC ivdep")
#endif

VECTORISED static void scale(const float *source, float *target, size_t count)
{
    EACH_ALONE
    for (size_t i = 0; i < count; i++)
        target[i] = source[i] * factor;
}

VECTORISED static void add_offset(const float *source, float *target, size_t count)
{
    EACH_ALONE
    for (size_t i = 0; i < count; i++)
        target[i] = source[i] + offset;
}

VECTORISED static void clamp(const float *source, float *target, size_t count)
{
    EACH_ALONE
    for (size_t i = 0; i < count; i++) {
        const float value = source[i] < low ? low : source[i];
        target[i] = value > high ? high : value;
    }
}

/* ---- by hand ---- */

/* Three loops over a block that stays in the cache. */
static void run_block(const struct data *data, size_t first, size_t count)
{
    scale(data->source + first, data->target + first, count);
    add_offset(data->target + first, data->target + first, count);
    clamp(data->target + first, data->target + first, count);
}

/* All three in one loop. */
VECTORISED static void run_fused(const struct data *data, size_t first, size_t count)
{
    const float *restrict source = data->source + first;
    float *restrict target = data->target + first;
    for (size_t i = 0; i < count; i++)
        target[i] = expected_value(source[i]);
}

/* The same with stores that leave the caches alone. */
static void run_streamed(const struct data *data, size_t first, size_t count)
{
#ifdef __SSE2__
    const __m128 factors = _mm_set1_ps(factor), offsets = _mm_set1_ps(offset);
    const __m128 lows = _mm_set1_ps(low), highs = _mm_set1_ps(high);
    for (size_t i = first; i + 4 <= first + count; i += 4) {
        __m128 values = _mm_mul_ps(_mm_loadu_ps(data->source + i), factors);
        values = _mm_max_ps(_mm_add_ps(values, offsets), lows);
        _mm_stream_ps(data->target + i, _mm_min_ps(values, highs));
    }
    _mm_sfence();
#else
    run_fused(data, first, count);
#endif
}

typedef void (*block_function)(const struct data *data, size_t first, size_t count);

struct hand {
    struct data *data;
    block_function run;
    bool is_dynamic;
    size_t block; /* elements that one thread takes at a time */
};

static void run_part(void *context, int index, int count)
{
    const struct hand *hand = context;
    struct data *data = hand->data;
    const size_t block_count = (data->count + hand->block - 1) / hand->block;
    size_t block = block_count * (size_t)index / (size_t)count;
    const size_t end = block_count * ((size_t)index + 1) / (size_t)count;
    for (;;) {
        if (hand->is_dynamic)
            block = atomic_fetch_add(&data->next, 1);
        if (block >= (hand->is_dynamic ? block_count : end))
            return;
        const size_t first = block * hand->block;
        const size_t left = data->count - first;
        hand->run(data, first, left < hand->block ? left : hand->block);
        block++;
    }
}

static double run_by_hand(void *context)
{
    struct hand *hand = context;
    atomic_store(&hand->data->next, 0);
    const double began = measure_now_s();
    measure_parallel(hand->data->thread_count, run_part, hand);
    return measure_now_s() - began;
}

/* ---- checked results ---- */

static void fill_part(void *context, int index, int count)
{
    struct data *data = context;
    float *source = (float *)data->source;
    const size_t end = data->count * ((size_t)index + 1) / (size_t)count;
    for (size_t i = data->count * (size_t)index / (size_t)count; i < end; i++)
        source[i] = source_value(i);
}

static void poison_part(void *context, int index, int count)
{
    struct data *data = context;
    const size_t first = data->count * (size_t)index / (size_t)count;
    const size_t end = data->count * ((size_t)index + 1) / (size_t)count;
    memset(data->target + first, 0xff, (end - first) * sizeof(float));
}

static void check_part(void *context, int index, int count)
{
    struct data *data = context;
    size_t wrong = 0;
    const size_t end = data->count * ((size_t)index + 1) / (size_t)count;
    for (size_t i = data->count * (size_t)index / (size_t)count; i < end; i++)
        wrong += !(data->target[i] == expected_value(data->source[i]));
    atomic_fetch_add(&data->wrong_count, wrong);
}

/* One poisoned, timed and checked run. */
static double run_checked(struct data *data, double (*run)(void *), void *context, const char *name)
{
    measure_parallel(data->thread_count, poison_part, data);
    const double seconds = run(context);
    measure_parallel(data->thread_count, check_part, data);
    measure_require(!atomic_load(&data->wrong_count), "%s: wrong output", name);
    return seconds;
}

/* ---- ours ---- */

struct ours {
    mr_device *device;
    mr_kernel *kernels[3];
    mr_buffer *source, *target;
    size_t size_bytes;
};

typedef void (*stage_function)(const float *source, float *target, size_t count);

static void run_slice(const mr_slice *slice, void *const *arguments, stage_function function)
{
    const uint64_t count = *(const uint64_t *)arguments[2];
    const size_t first = (size_t)(count * slice->index / slice->count);
    const size_t end = (size_t)(count * (slice->index + 1) / slice->count);
    function((const float *)arguments[0] + first, (float *)arguments[1] + first, end - first);
}

static void scale_kernel(const mr_slice *slice, void *const *arguments)
{
    run_slice(slice, arguments, scale);
}

static void offset_kernel(const mr_slice *slice, void *const *arguments)
{
    run_slice(slice, arguments, add_offset);
}

static void clamp_kernel(const mr_slice *slice, void *const *arguments)
{
    run_slice(slice, arguments, clamp);
}

static mr_status submit_launch(void *context, mr_stage_call *call)
{
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    size_t bytes = 0;
    for (uint32_t i = 0; i < call->item_count; i++)
        bytes += in->sizes[i];
    const mr_argument arguments[] = { mr_argument_range(in->buffer, in->offset, bytes),
                                      mr_argument_range(out->buffer, out->offset, bytes),
                                      mr_argument_u64(bytes / sizeof(float)) };
    const mr_launch launch = { .count = bytes / sizeof(float), .slice_limit = call->slice_limit };
    return mr_kernel_launch(call->stream, context, &launch, arguments, 3);
}

static double run_pipeline(void *context)
{
    const struct ours *ours = context;
    mr_pipeline *pipeline = NULL;
    mr_node node;
    require_ok(mr_pipeline_create(NULL, &pipeline));
    const mr_source_options source = { .memory = ours->source, .memory_bytes = ours->size_bytes };
    require_ok(mr_pipeline_add_source(pipeline, &source, &node));
    for (int i = 0; i < 3; i++) {
        const mr_stage_options stage = { .device = ours->device,
                                         .submit = submit_launch,
                                         .context = ours->kernels[i],
                                         .is_in_place = i > 0,
                                         .replicas = MR_REPLICAS_AUTO,
                                         .is_parcel_wise = true };
        require_ok(mr_pipeline_add_stage(pipeline, &stage, &node));
    }
    const mr_sink_options sink = { .memory = ours->target, .memory_bytes = ours->size_bytes };
    require_ok(mr_pipeline_add_sink(pipeline, &sink, &node));

    const double began = measure_now_s();
    require_ok(mr_pipeline_run(pipeline));
    const double seconds = measure_now_s() - began;
    mr_pipeline_destroy(pipeline);
    return seconds;
}

static void ours_init(struct ours *ours, const struct data *data)
{
    const struct {
        const char *name;
        mr_native_kernel function;
    } kernels[] = { { "scale", scale_kernel },
                    { "offset", offset_kernel },
                    { "clamp", clamp_kernel } };
    ours->size_bytes = data->count * sizeof(float);
    require_ok(mr_device_open("cpu", NULL, &ours->device));
    for (int i = 0; i < 3; i++) {
        const mr_kernel_options options = { .language = MR_KERNEL_NATIVE,
                                            .name = kernels[i].name,
                                            .signature = "in f32 source, out f32 target, "
                                                         "value u64 count",
                                            .function = kernels[i].function,
                                            .is_element_wise = true };
        require_ok(mr_kernel_create(ours->device, &options, &ours->kernels[i]));
    }
    require_ok(mr_buffer_borrow(ours->device, (void *)data->source, ours->size_bytes,
                                MR_PLACE_PAGEABLE, &ours->source));
    require_ok(mr_buffer_borrow(ours->device, data->target, ours->size_bytes, MR_PLACE_PAGEABLE,
                                &ours->target));
}

static void ours_fini(struct ours *ours)
{
    mr_buffer_destroy(ours->source);
    mr_buffer_destroy(ours->target);
    for (int i = 0; i < 3; i++)
        mr_kernel_destroy(ours->kernels[i]);
    require_ok(mr_device_close(ours->device));
}

/* ---- the whole ---- */

enum { ROUND_LIMIT = 64, VARIANT_LIMIT = 16 };

struct variant {
    char name[64];
    struct hand hand;
    bool is_streamed;
    double seconds[ROUND_LIMIT];
};

static size_t list_variants(struct data *data, struct variant *variants)
{
    const struct {
        const char *name;
        block_function run;
        size_t block_kib;
        bool is_streamed;
    } loops[] = { { "three loops a block", run_block, 64, false },
                  { "three loops a block", run_block, 256, false },
                  { "one loop", run_fused, 256, false },
                  { "one loop", run_fused, 1024, false },
                  { "one loop, non-temporal stores", run_streamed, 256, true } };
    size_t count = 0;
    for (size_t i = 0; i < sizeof loops / sizeof *loops; i++) {
        for (int is_dynamic = 0; is_dynamic < 2; is_dynamic++) {
            struct variant *variant = &variants[count++];
            *variant = (struct variant){ .is_streamed = loops[i].is_streamed };
            variant->hand = (struct hand){ data, loops[i].run, is_dynamic,
                                           (loops[i].block_kib << 10) / sizeof(float) };
            snprintf(variant->name, sizeof variant->name, "%s, %zu KiB, %s", loops[i].name,
                     loops[i].block_kib, is_dynamic ? "dynamic" : "static");
        }
    }
    return count;
}

/* All take turns, so that a busy moment of the machine meets all of them. */
static void run_rounds(struct measure_report *report, struct data *data, struct ours *ours,
                       int round_count)
{
    static struct variant variants[VARIANT_LIMIT];
    double ours_seconds[ROUND_LIMIT], apart = 1e9, plain = 1e9, streamed = 1e9;
    const size_t count = list_variants(data, variants);
    for (int round = -1; round < round_count; round++) {
        for (size_t i = 0; i < count; i++)
            variants[i].seconds[round < 0 ? 0 : round] =
                run_checked(data, run_by_hand, &variants[i].hand, variants[i].name);
        ours_seconds[round < 0 ? 0 : round] = run_checked(data, run_pipeline, ours, "pipeline");
    }

    const double gigabytes = (double)data->count * sizeof(float) / 1e9;
    for (size_t i = 0; i < count; i++) {
        const double seconds = measure_median(variants[i].seconds, round_count);
        double *least = variants[i].is_streamed ? &streamed : &plain;
        *least = seconds < *least ? seconds : *least;
        if (variants[i].hand.run == run_block && seconds < apart)
            apart = seconds;
        measure_report_add(report, gigabytes / seconds, "GB/s", "by hand: %s", variants[i].name);
    }
    const double seconds = measure_median(ours_seconds, round_count);
    measure_report_add(report, gigabytes / seconds, "GB/s", "pipeline");
    measure_report_target(report, plain / seconds, "", ">=", 0.95,
                          "pipeline against the best loop by hand");
    measure_report_add(report, apart / seconds, "",
                       "pipeline against the best that keeps the stages apart");
    measure_report_add(report, streamed / seconds, "",
                       "pipeline against the best with non-temporal stores");
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "memory_bound", &argc, argv);
    const size_t size_bytes = (size_t)measure_option_number(argc, argv, "mib", 2048) << 20;
    const int round_count = (int)measure_option_number(argc, argv, "runs", 5);
    measure_require(round_count > 0 && round_count <= ROUND_LIMIT, "1 to %d runs", ROUND_LIMIT);

    struct data data = { .count = size_bytes / sizeof(float), .thread_count = measure_cpu_count() };
    data.source = aligned_alloc(4096, size_bytes);
    data.target = aligned_alloc(4096, size_bytes);
    measure_require(data.source && data.target, "no memory for 2 x %zu MiB", size_bytes >> 20);
    measure_parallel(data.thread_count, fill_part, &data);

    struct ours ours;
    ours_init(&ours, &data);
    run_rounds(&report, &data, &ours, round_count);
    ours_fini(&ours);
    free((void *)data.source);
    free(data.target);
    return measure_report_finish(&report);
}
