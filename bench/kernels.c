/* SPDX-License-Identifier: MIT */
/*
 * Embedded kernels on a stack of 2048 x 2048 images: bytes read and written per second, and how that
 * compares with a copy inside the device's memory in the same run. Also what opening one costs.
 *
 *     bench_kernels [--device D] [--images N] [--grid BLOCKS] [--block THREADS] [--json FILE]
 */
#include "measure.h"
#include "require.h"

#include <millrace/event.h>
#include <millrace/kernel.h>

#include <stdlib.h>
#include <string.h>

enum { SIDE = 2048, RUNS = 9, ARGUMENT_LIMIT = 8, PARTS = 64, BINS = 256 };
#define PIXELS ((uint64_t)SIDE * SIDE)

static mr_device *device;
static mr_stream *stream;
static mr_event *begin_event, *end_event;
static mr_buffer *input, *output, *side_a, *side_b;
static uint64_t images;
static mr_launch shape; /* grid and block, 0 = auto */

/* One launch: what it takes, the outer loop's count, and the bytes that it has to move. */
struct work {
    const char *name;
    mr_argument arguments[ARGUMENT_LIMIT];
    size_t argument_count;
    uint64_t count;
    double bytes;
    mr_kernel *kernel; /* NULL: a copy */
};

static void submit(const struct work *work)
{
    if (!work->kernel) {
        require_ok(mr_copy(stream, output, 0, input, 0, images * PIXELS * 4));
        return;
    }
    mr_launch launch = shape;
    launch.count = work->count;
    require_ok(
        mr_kernel_launch(stream, work->kernel, &launch, work->arguments, work->argument_count));
}

static double run_once(void *context)
{
    int64_t elapsed_ns;
    require_ok(mr_event_record(begin_event, stream));
    submit(context);
    require_ok(mr_event_record(end_event, stream));
    require_ok(mr_stream_wait(stream));
    require_ok(mr_event_elapsed(begin_event, end_event, &elapsed_ns));
    return (double)elapsed_ns * 1e-9;
}

#define BUFFER(buffer) mr_argument_buffer(buffer)
#define NUMBER(value) mr_argument_u64(value)
#define FLOAT(value) mr_argument_f32(value)
#define TAKES(...)                                                                                 \
    .arguments = { __VA_ARGS__ },                                                                  \
    .argument_count = sizeof((mr_argument[]){ __VA_ARGS__ }) / sizeof(mr_argument)

static void measure_all(struct measure_report *report)
{
    const uint64_t n = images * PIXELS, chunks = images * (PIXELS / 4096);
    struct work works[] = {
        { .name = "a copy", .bytes = (double)n * 8 },
        { .name = "copy_u8",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(n * 4)),
          .count = n * 4,
          .bytes = (double)n * 8 },
        { .name = "scale_offset_f32",
          TAKES(BUFFER(input), BUFFER(output), FLOAT(2), FLOAT(1), NUMBER(n)),
          .count = n,
          .bytes = (double)n * 8 },
        { .name = "convert_u16_f32",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(n)),
          .count = n,
          .bytes = (double)n * 6 },
        { .name = "convert_f32_u8",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(n)),
          .count = n,
          .bytes = (double)n * 5 },
        { .name = "calibrate_u16_f32",
          TAKES(BUFFER(input), BUFFER(side_a), BUFFER(side_b), BUFFER(output), NUMBER(PIXELS),
                NUMBER(images)),
          .count = chunks,
          .bytes = (double)n * 6 },
        { .name = "quantise_f32_u8",
          TAKES(BUFFER(input), BUFFER(side_a), BUFFER(side_b), BUFFER(output), NUMBER(PIXELS),
                NUMBER(images)),
          .count = chunks,
          .bytes = (double)n * 5 },
        { .name = "median3x3_u8",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(SIDE), NUMBER(SIDE), NUMBER(images)),
          .count = images * SIDE,
          .bytes = (double)n * 2 },
        { .name = "median3x3_u16",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(SIDE), NUMBER(SIDE), NUMBER(images)),
          .count = images * SIDE,
          .bytes = (double)n * 4 },
        { .name = "median3x3_f32",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(SIDE), NUMBER(SIDE), NUMBER(images)),
          .count = images * SIDE,
          .bytes = (double)n * 8 },
        { .name = "statistics_u16",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(PIXELS), NUMBER(images), NUMBER(PARTS)),
          .count = images * PARTS,
          .bytes = (double)n * 2 },
        { .name = "statistics_f32",
          TAKES(BUFFER(input), BUFFER(output), NUMBER(PIXELS), NUMBER(images), NUMBER(PARTS)),
          .count = images * PARTS,
          .bytes = (double)n * 4 },
        { .name = "histogram_u8",
          TAKES(BUFFER(input), BUFFER(output), FLOAT(0), FLOAT(256), NUMBER(BINS), NUMBER(PIXELS),
                NUMBER(images), NUMBER(PARTS)),
          .count = images * PARTS,
          .bytes = (double)n },
        { .name = "histogram_u16",
          TAKES(BUFFER(input), BUFFER(output), FLOAT(0), FLOAT(65536), NUMBER(BINS), NUMBER(PIXELS),
                NUMBER(images), NUMBER(PARTS)),
          .count = images * PARTS,
          .bytes = (double)n * 2 },
    };
    double copy_rate = 0, open_s = 0;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++) {
        struct work *work = &works[i];
        if (i > 0) {
            const double before_s = measure_now_s();
            require_ok(mr_kernel_open(device, work->name, &work->kernel));
            const double took_s = measure_now_s() - before_s;
            open_s = took_s > open_s ? took_s : open_s;
        }
        const double rate = work->bytes / measure_median_of(run_once, work, RUNS) * 1e-9;
        measure_report_add(report, rate, "GB/s", "%s", work->name);
        if (i == 0)
            copy_rate = rate;
        else
            measure_report_add(report, rate / copy_rate * 100, "%", "%s against the copy",
                               work->name);
        mr_kernel_destroy(work->kernel);
    }
    measure_report_add(report, open_s * 1e3, "ms", "opening a kernel, the slowest");
}

static mr_buffer *make_buffer(uint64_t size_bytes, uint32_t pattern)
{
    mr_buffer *buffer;
    require_ok(mr_buffer_create(device, size_bytes, NULL, &buffer));
    require_ok(mr_fill(stream, buffer, 0, size_bytes, pattern, 4));
    return buffer;
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "kernels", &argc, argv);
    const char *name = measure_option(argc, argv, "device", "auto");
    require_ok(mr_device_open(name, NULL, &device));
    const bool is_cpu = strcmp(mr_device_id(device), "cpu") == 0;
    images = (uint64_t)measure_option_number(argc, argv, "images", is_cpu ? 4 : 64);
    shape.grid[0] = (uint32_t)measure_option_number(argc, argv, "grid", 0);
    shape.block[0] = (uint32_t)measure_option_number(argc, argv, "block", 0);

    const mr_event_options timed = { .has_timing = true };
    require_ok(mr_stream_create(device, NULL, &stream));
    require_ok(mr_event_create(device, &timed, &begin_event));
    require_ok(mr_event_create(device, &timed, &end_event));
    input = make_buffer(images * PIXELS * 4, 0x44fa4000); /* 2002.0 as f32 */
    output = make_buffer(images * PIXELS * 4, 0);
    side_a = make_buffer(PIXELS * 4, 0x42c80000); /* 100.0 */
    side_b = make_buffer(PIXELS * 4, 0x44fa0000); /* 2000.0 */
    measure_all(&report);

    mr_buffer_destroy(input);
    mr_buffer_destroy(output);
    mr_buffer_destroy(side_a);
    mr_buffer_destroy(side_b);
    mr_event_destroy(begin_event);
    mr_event_destroy(end_event);
    mr_stream_destroy(stream);
    require_ok(mr_device_close(device));
    return measure_report_finish(&report);
}
