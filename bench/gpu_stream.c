/* SPDX-License-Identifier: MIT */
/*
 * One GPU: copy in, scale, copy out, float32. The pipeline beside loops written by hand on the driver
 * API, against the limit of simultaneous copies measured in the same run.
 *
 *     bench_gpu_stream [--only CASE[,CASE...]] [--runs N] [--gib N] [--json FILE]
 *
 * Cases: limits, auto, items, replay, pageable, resident, balance, host, steady, sweep. `sweep` (fixed
 * chunk sizes) runs only when asked for.
 */
#include "gpu_stream.h"

#include "require.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    variant_ours(&variants[0], bench, 0.98, &shape, "pinned, 4 GiB, all auto");
    variant_by_hand(&variants[1], &run, "by hand: stage streams, 4 GiB, 16 MiB");
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, 2);
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
        variant_by_hand(&list[count++], &run, "by hand: %s, items of %s", ways[i].name, label);
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
        variant_ours(&variants[0], bench, sizes[i].bound, &shape, "pinned, 1 GiB, items of %s",
                     sizes[i].label);
        shape.is_parcel_wise = true;
        variant_ours(&variants[1], bench, 0, &shape, "pinned, 1 GiB, items of %s, parcel-wise",
                     sizes[i].label);
        const size_t count =
            2 + add_hands(bench, variants + 2, sizes[i].label, sizes[i].item_bytes);
        contest_hold(bench, LIMIT_BOTH_WAYS, variants, count);
    }
}

/* The median of the ratios turn by turn: of the seconds, which no median has sorted. */
static double gain_of(const struct variant *better, const struct variant *base, int run_count)
{
    double gain[RUN_LIMIT];
    for (int i = 0; i < run_count; i++)
        gain[i] = base->seconds[i] / better->seconds[i];
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
        variant_ours(&variants[2 * i], bench, 0, &shape, "64 KiB, a launch each, %u streams",
                     replicas[i]);
        shape.is_repeatable = true;
        variant_ours(&variants[2 * i + 1], bench, 0, &shape,
                     "64 KiB, a launch each, %u streams, replayed", replicas[i]);
    }
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, 4);
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
    variant_ours(&variants[0], bench, 0.85, &shape, "pageable to pageable, 2 GiB");
    variant_by_hand(&variants[1], &run, "by hand: four streams on pageable memory, 1 GiB");
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, 2);
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
        variant_ours(&variants[i], bench, ways[i].bound, &shape, "%s", ways[i].name);
        variants[i].run = run_resident;
        variants[i].range.target = bench->pinned_out;
    }
    contest_hold(bench, LIMIT_IN, variants, 2);
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
    variant_by_hand(&variants[0], &run, "balanced: sequential");
    variants[0].run = run_by_hand_sequential;
    variant_by_hand(&variants[1], &run, "balanced: by hand");
    variant_ours(&variants[2], bench, 0, &shape, "balanced: pipeline");
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, 3);
    const double hand_gain = gain_of(&variants[1], &variants[0], bench->run_count);
    const double gain = gain_of(&variants[2], &variants[0], bench->run_count);
    const double sequential = measure_median(variants[0].seconds, bench->run_count);
    const double step = (double)chunk_bytes / bench->both_rate;
    const double slowest = step > kernel_seconds ? step : kernel_seconds;
    const double bound =
        sequential / (slowest * (double)chunk_count + kernel_seconds + copy_seconds);
    measure_report_add(&bench->report, kernel_seconds / copy_seconds, "",
                       "balanced: kernel time against the copy in");
    measure_report_target(&bench->report, gain, "", ">=", 2.8,
                          "balanced, 64 chunks of 16 MiB: speed-up over sequential");
    measure_report_add(&bench->report, hand_gain, "", "balanced by hand: speed-up over sequential");
    measure_report_add(&bench->report, bound, "",
                       "balanced: the most that copies slowed by each other allow");
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
            variant_ours(&variants[count++], bench, 0, &shape,
                         "sweep: pinned, %zu GiB, chunks of %zu MiB", shape.size_bytes / GIB,
                         chunk_bytes / MIB);
        }
    }
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, count);
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
            variant_ours(&variants[count++], bench, 0, &shape,
                         "sweep: pageable, 2 GiB, chunks of %zu MiB, %u slots", chunk_bytes / MIB,
                         slot_count);
        }
    }
    contest_hold(bench, LIMIT_BOTH_WAYS, variants, count);
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
    bench->pinned_bytes = (size_t)(measure_option_number(argc, argv, "gib", 4) * (double)GIB);
    bench->pageable_bytes = bench->pinned_bytes / 2;
    measure_require(bench->run_count > 0 && bench->run_count <= RUN_LIMIT, "--runs: 1 to %d",
                    RUN_LIMIT);
    measure_require(bench->pageable_bytes >= GIB,
                    "--gib: 2 or more; half of it is pageable memory, "
                    "and the cases take 1 GiB of each");
    require_ok(mr_device_open("cuda:0", NULL, &bench->device));
    require_ok(scale_kernel_create(bench->device, &bench->kernel));
    bench->pinned_in = hand_pin(bench->pinned_bytes);
    bench->pinned_out = hand_pin(bench->pinned_bytes);
    bench->pageable_in = aligned_alloc(4096, bench->pageable_bytes);
    bench->pageable_out = aligned_alloc(4096, bench->pageable_bytes);
    measure_require(bench->pageable_in && bench->pageable_out, "no memory");
    scale_fill(bench->pinned_in, bench->pinned_bytes);
    scale_fill(bench->pageable_in, bench->pageable_bytes);
    scale_fill(bench->pageable_out, bench->pageable_bytes);
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
