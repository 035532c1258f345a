/* SPDX-License-Identifier: MIT */
/*
 * Several GPUs: copy in, scale, copy out, float32, by one pipeline over 1, 2, 4... and all devices that
 * are here. Once bound by the copies, once with a kernel that takes eight times as long as its copies.
 * Every device count's rate beside that of one device and beside the best of any count tried; where the
 * copies bind, beside what plain copies over the same memory reach on as many devices, too. The
 * pipeline streams over the same pinned memory again and again; the output is poisoned before and
 * checked whole after each measurement.
 *
 *     bench_gpu_several [--seconds N] [--runs N] [--gib N] [--chunk-mib N] [--devices N] [--json FILE]
 */
#include "handwritten_cuda.h"
#include "measure.h"
#include "require.h"
#include "scale.h"

#include <millrace/event.h>
#include <millrace/pipeline.h>

#include <stdio.h>
#include <stdlib.h>

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum { DEVICE_LIMIT = 16, RUN_LIMIT = 16, COMPUTE_SHARE = 8 };

struct bench {
    struct measure_report report;
    mr_device *devices[DEVICE_LIMIT];
    mr_kernel *kernels[DEVICE_LIMIT]; /* NULL: the driver takes no PTX, and is to copy instead */
    uint32_t device_count;
    float factor;
    int run_count;
    double seconds; /* of each run */
    size_t size_bytes, chunk_bytes;
    mr_buffer *source, *target;
};

/* ---- the pipeline ---- */

struct stream {
    struct bench *bench;
    mr_pipeline *pipeline;
    uint32_t device_count, rounds;
    uint64_t chunk_count;
    double end_s; /* the source ends at its first look after that, and all chunks were there once */
};

static mr_status next_chunk(void *context, mr_source_item *item)
{
    struct stream *stream = context;
    const struct bench *bench = stream->bench;
    if (item->index >= stream->chunk_count && measure_now_s() >= stream->end_s)
        return MR_END;
    item->buffer = bench->source;
    item->offset = item->index % stream->chunk_count * bench->chunk_bytes;
    item->size_bytes = bench->chunk_bytes;
    return MR_OK;
}

static mr_status lend_chunk(void *context, uint64_t index, size_t capacity_bytes, void **data)
{
    const struct stream *stream = context;
    *data = (char *)mr_buffer_host(stream->bench->target) +
            index % stream->chunk_count * capacity_bytes;
    return MR_OK;
}

static mr_status take_chunk(void *context, const mr_sink_item *item)
{
    (void)context;
    (void)item;
    return MR_OK;
}

static mr_status scale(const struct bench *bench, uint32_t lane, mr_stream *stream,
                       const struct scale_launch *launch)
{
    if (!bench->kernels[lane])
        return mr_copy(stream, launch->target, launch->target_offset, launch->source,
                       launch->source_offset, launch->size_bytes);
    return scale_launch(stream, bench->kernels[lane], launch);
}

static mr_status submit_scale(void *context, mr_stage_call *call)
{
    const struct stream *stream = context;
    const mr_parcel_view *from = &call->inputs[0], *to = call->output;
    const struct scale_launch launch = { .source = from->buffer,
                                         .target = to->buffer,
                                         .source_offset = from->offset,
                                         .target_offset = to->offset,
                                         .size_bytes = from->sizes[0],
                                         .factor = stream->bench->factor,
                                         .rounds = stream->rounds };
    return scale(stream->bench, call->lane, call->stream, &launch);
}

static void open_stream(struct stream *stream, struct bench *bench, uint32_t device_count,
                        uint32_t rounds)
{
    *stream = (struct stream){ .bench = bench,
                               .device_count = device_count,
                               .rounds = rounds,
                               .chunk_count = bench->size_bytes / bench->chunk_bytes };
    const mr_pipeline_options options = { .name = "several",
                                          .parcel_items = 1,
                                          .devices = bench->devices,
                                          .device_count = device_count };
    const mr_source_options source = {
        .next = next_chunk, .context = stream, .item_bytes = bench->chunk_bytes, .is_lending = true
    };
    const mr_stage_options stage = {
        .name = "scale", .submit = submit_scale, .context = stream, .replicas = MR_REPLICAS_AUTO
    };
    const mr_sink_options sink = { .take = take_chunk, .lend = lend_chunk, .context = stream };
    require_ok(mr_pipeline_create(&options, &stream->pipeline));
    require_ok(mr_pipeline_add_source(stream->pipeline, &source, NULL));
    require_ok(mr_pipeline_add_stage(stream->pipeline, &stage, NULL));
    require_ok(mr_pipeline_add_sink(stream->pipeline, &sink, NULL));
}

/* Bytes per second each way. */
static double run_stream(struct stream *stream)
{
    stream->end_s = measure_now_s() + stream->bench->seconds;
    require_ok(mr_pipeline_run(stream->pipeline));
    const mr_pipeline_report *report;
    require_ok(mr_pipeline_report_get(stream->pipeline, &report));
    return (double)report->bytes_out / ((double)report->elapsed_ns * 1e-9);
}

/* ---- one device count ---- */

struct result {
    double rate;  /* bytes per second each way; the median */
    double limit; /* of plain copies; 0: not measured */
    uint32_t devices_at_once;
};

static void describe(const struct stream *stream)
{
    const mr_pipeline_report *report;
    require_ok(mr_pipeline_report_get(stream->pipeline, &report));
    printf("  [%u devices, %u at once, %u slots, %llu chunks:", stream->device_count,
           report->device_count ? report->devices_at_once : 1, report->slot_count,
           (unsigned long long)report->items_out);
    for (size_t i = 0; i < report->device_count; i++)
        printf(" %llu", (unsigned long long)report->devices[i].items);
    puts("]");
}

/* The first run warms up, and learns how many devices at once are best. */
static struct result measure_count(struct bench *bench, uint32_t device_count, uint32_t rounds)
{
    struct stream stream;
    double rates[RUN_LIMIT];
    char name[24];
    const struct scale_range range = { .source = mr_buffer_host(bench->source),
                                       .target = mr_buffer_host(bench->target),
                                       .count = bench->size_bytes / sizeof(float),
                                       .factor = bench->factor };
    snprintf(name, sizeof name, "%u devices", device_count);
    open_stream(&stream, bench, device_count, rounds);
    scale_poison(&range);
    run_stream(&stream);
    for (int i = 0; i < bench->run_count; i++)
        rates[i] = run_stream(&stream);
    scale_check(&range, name);

    describe(&stream);
    const mr_pipeline_report *report;
    require_ok(mr_pipeline_report_get(stream.pipeline, &report));
    const struct result result = { .rate = measure_median(rates, bench->run_count),
                                   .devices_at_once =
                                       report->device_count ? report->devices_at_once : 1 };
    mr_pipeline_destroy(stream.pipeline);
    return result;
}

/* What the machine has to give: the same chunks, copied in and out at once with nothing between. */
static double measure_limit(struct bench *bench, uint32_t device_count)
{
    double rates[DEVICE_LIMIT];
    const struct hand_both_ways run = { .source = mr_buffer_host(bench->source),
                                        .target = mr_buffer_host(bench->target),
                                        .size_bytes = bench->size_bytes,
                                        .chunk_bytes = bench->chunk_bytes,
                                        .device_count = device_count,
                                        .seconds = bench->seconds };
    const double sum = hand_both_ways(&run, rates);
    printf("  [%u devices by hand, GB/s each way:", device_count);
    for (uint32_t i = 0; i < device_count; i++)
        printf(" %.1f", rates[i] / 1e9);
    puts("]");
    return sum;
}

static uint32_t next_count(const struct bench *bench, uint32_t count)
{
    if (count == bench->device_count)
        return 0;
    return 2 * count < bench->device_count ? 2 * count : bench->device_count;
}

static void report_limit(struct bench *bench, const char *name, uint32_t count,
                         const struct result *result, double limit_of_one)
{
    if (result->limit <= 0)
        return;
    measure_report_add(&bench->report, result->limit / 1e9, "GB/s", "%s, %u devices, by hand", name,
                       count);
    measure_report_add(&bench->report, result->rate / result->limit, "",
                       "%s, %u devices, share of by hand", name, count);
    if (count > 1)
        measure_report_add(&bench->report, result->limit / limit_of_one, "x",
                           "%s, %u devices against one, by hand", name, count);
}

/* `bound` is what each device adds at the least, of one device's rate; 0: no less than fewer do. */
static void measure_case(struct bench *bench, const char *name, uint32_t rounds)
{
    struct result results[DEVICE_LIMIT + 1];
    double best = 0;
    printf("%s\n", name);
    for (uint32_t count = 1; count; count = next_count(bench, count)) {
        const double limit = rounds ? 0 : measure_limit(bench, count);
        results[count] = measure_count(bench, count, rounds);
        results[count].limit = limit;
        if (results[count].rate > best)
            best = results[count].rate;
    }
    const double one = results[1].rate;
    for (uint32_t count = 1; count; count = next_count(bench, count)) {
        const struct result *result = &results[count];
        measure_report_add(&bench->report, result->rate / 1e9, "GB/s", "%s, %u devices", name,
                           count);
        measure_report_add(&bench->report, result->devices_at_once, "devices",
                           "%s, %u devices, at once", name, count);
        report_limit(bench, name, count, result, results[1].limit);
        if (count == 1)
            continue;
        const double ratio = result->rate / one;
        if (count == 2)
            measure_report_target(&bench->report, ratio, "x", ">=", 1.95,
                                  "%s, 2 devices against one", name);
        else if (rounds)
            measure_report_target(&bench->report, ratio, "x", ">=", 0.95 * count,
                                  "%s, %u devices against one", name, count);
        else
            measure_report_add(&bench->report, ratio, "x", "%s, %u devices against one", name,
                               count);
    }
    measure_report_target(&bench->report, results[bench->device_count].rate / best, "", ">=", 0.98,
                          "%s, all devices against the best count", name);
}

/* ---- the kernel's length ---- */

static double kernel_seconds(struct bench *bench, mr_buffer *memory, mr_stream *stream,
                             mr_event *const *events, uint32_t rounds)
{
    const struct scale_launch launch = { .source = memory,
                                         .target = memory,
                                         .target_offset = bench->chunk_bytes,
                                         .size_bytes = bench->chunk_bytes,
                                         .factor = bench->factor,
                                         .rounds = rounds };
    int64_t elapsed_ns;
    for (int i = 0; i < 2; i++) {
        require_ok(mr_event_record(events[0], stream));
        require_ok(scale(bench, 0, stream, &launch));
        require_ok(mr_event_record(events[1], stream));
        require_ok(mr_stream_wait(stream));
    }
    require_ok(mr_event_elapsed(events[0], events[1], &elapsed_ns));
    return (double)elapsed_ns * 1e-9;
}

/* Rounds that make the kernel take `seconds` for a chunk. */
static uint32_t find_rounds(struct bench *bench, double seconds)
{
    const mr_event_options timing = { .has_timing = true };
    mr_buffer *memory;
    mr_stream *stream;
    mr_event *events[2];
    uint32_t rounds = 64;
    require_ok(mr_buffer_create(bench->devices[0], 2 * bench->chunk_bytes, NULL, &memory));
    require_ok(mr_stream_create(bench->devices[0], NULL, &stream));
    for (int i = 0; i < 2; i++)
        require_ok(mr_event_create(bench->devices[0], &timing, &events[i]));
    double taken = kernel_seconds(bench, memory, stream, events, rounds);
    while (bench->kernels[0] && taken < seconds && rounds < 1u << 24) {
        rounds *= 2;
        taken = kernel_seconds(bench, memory, stream, events, rounds);
    }
    if (bench->kernels[0])
        rounds = (uint32_t)((double)rounds * seconds / taken);
    taken = kernel_seconds(bench, memory, stream, events, rounds);
    measure_report_add(&bench->report, taken / seconds * COMPUTE_SHARE, "x",
                       "kernel against copying its chunk");
    for (int i = 0; i < 2; i++)
        mr_event_destroy(events[i]);
    mr_stream_destroy(stream);
    mr_buffer_destroy(memory);
    return rounds ? rounds : 1;
}

/* ---- the whole ---- */

/* All GPUs that are here, with the kernel on each. */
static void open_devices(struct bench *bench, uint32_t limit)
{
    while (bench->device_count < limit) {
        char name[16];
        const uint32_t i = bench->device_count;
        snprintf(name, sizeof name, "cuda:%u", i);
        const mr_status status = mr_device_open(name, NULL, &bench->devices[i]);
        if (status == MR_E_UNAVAILABLE)
            break;
        require_ok(status);
        bench->device_count++;
        if (scale_kernel_create(bench->devices[i], &bench->kernels[i]))
            bench->kernels[i] = NULL;
    }
    bench->factor = bench->device_count && bench->kernels[0] ? 1.5f : 1.0f;
}

static void open_memory(struct bench *bench, int argc, char **argv)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    bench->chunk_bytes = (size_t)(measure_option_number(argc, argv, "chunk-mib", 16) * (double)MIB);
    bench->size_bytes = (size_t)(measure_option_number(argc, argv, "gib", 4) * (double)GIB) /
                        bench->chunk_bytes * bench->chunk_bytes;
    measure_require(bench->size_bytes >= bench->chunk_bytes, "--gib is less than a chunk");
    require_ok(mr_buffer_create(bench->devices[0], bench->size_bytes, &pinned, &bench->source));
    require_ok(mr_buffer_create(bench->devices[0], bench->size_bytes, &pinned, &bench->target));
    scale_fill(mr_buffer_host(bench->source), bench->size_bytes);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    measure_report_init(&bench.report, "gpu_several", &argc, argv);
    bench.seconds = measure_option_number(argc, argv, "seconds", 1.2);
    bench.run_count = (int)measure_option_number(argc, argv, "runs", 3);
    measure_require(bench.run_count > 0 && bench.run_count <= RUN_LIMIT, "--runs: 1 to %d",
                    RUN_LIMIT);
    open_devices(&bench, (uint32_t)measure_option_number(argc, argv, "devices", DEVICE_LIMIT));
    if (!bench.device_count) {
        puts("gpu_several: no CUDA device here");
        return 77;
    }
    open_memory(&bench, argc, argv);
    measure_case(&bench, "copy-bound", 0);
    const double one = bench.report.rows[0].value * 1e9;
    const double copy_seconds = (double)bench.chunk_bytes / one;
    const uint32_t rounds = find_rounds(&bench, COMPUTE_SHARE * copy_seconds);
    measure_case(&bench, "compute-bound", rounds);

    mr_buffer_destroy(bench.source);
    mr_buffer_destroy(bench.target);
    for (uint32_t i = 0; i < bench.device_count; i++)
        mr_kernel_destroy(bench.kernels[i]);
    for (uint32_t i = 0; i < bench.device_count; i++)
        require_ok(mr_device_close(bench.devices[i]));
    return measure_report_finish(&bench.report);
}
