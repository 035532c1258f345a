/* SPDX-License-Identifier: MIT */
/*
 * What streams and events cost on the CPU: an operation, an event between two streams, a launch, the
 * way from submission to a waiting thread, and how copies and fills use the machine.
 *
 *     bench_cpu_streams [--workers N] [--operations N] [--runs N] [--json FILE]
 */
#include "measure.h"
#include "require.h"

#include <millrace/event.h>
#include <millrace/kernel.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAIR_STREAMS = 256,
    MANY_STREAMS = 64,
    STAGES = 3,
    SLEEPS = 100,       /* round trips from sleep */
    SLEEP_NS = 2000000, /* longer than workers look around before they sleep */
    COPY_BYTES = 256 << 20
};

static mr_device *device;
static uint64_t operation_count;

static mr_stream *make_stream(void)
{
    mr_stream *stream;
    require_ok(mr_stream_create(device, NULL, &stream));
    return stream;
}

static mr_event *make_event(void)
{
    mr_event *event;
    require_ok(mr_event_create(device, NULL, &event));
    return event;
}

static mr_status do_nothing(void *context)
{
    (void)context;
    return MR_OK;
}

static void call(mr_stream *stream)
{
    require_ok(mr_stream_call(stream, do_nothing, NULL));
}

static void order(mr_stream *first, mr_stream *second, mr_event *event)
{
    require_ok(mr_event_record(event, first));
    require_ok(mr_stream_wait_event(second, event));
}

/* ---- operations ---- */

static double run_one_stream(void *context)
{
    mr_stream *stream = make_stream();
    (void)context;
    const double began = measure_now_s();
    for (uint64_t i = 0; i < operation_count; i++)
        call(stream);
    require_ok(mr_stream_wait(stream));
    const double seconds = measure_now_s() - began;
    mr_stream_destroy(stream);
    return seconds;
}

static double run_many_streams(void *context)
{
    mr_stream *streams[MANY_STREAMS];
    (void)context;
    for (int i = 0; i < MANY_STREAMS; i++)
        streams[i] = make_stream();
    const double began = measure_now_s();
    for (uint64_t i = 0; i < operation_count; i++)
        call(streams[i % MANY_STREAMS]);
    require_ok(mr_device_synchronize(device));
    const double seconds = measure_now_s() - began;
    for (int i = 0; i < MANY_STREAMS; i++)
        mr_stream_destroy(streams[i]);
    return seconds;
}

static void run_empty_kernel(const mr_slice *slice, void *const *arguments)
{
    (void)slice;
    (void)arguments;
}

static double run_launches(void *context)
{
    mr_stream *stream = make_stream();
    mr_kernel *kernel;
    const mr_kernel_options options = { .language = MR_KERNEL_NATIVE,
                                        .name = "empty",
                                        .signature = "value u64 count",
                                        .function = run_empty_kernel };
    const mr_argument argument = mr_argument_u64(1);
    (void)context;
    require_ok(mr_kernel_create(device, &options, &kernel));

    const double began = measure_now_s();
    for (uint64_t i = 0; i < operation_count; i++)
        require_ok(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 1 }, &argument, 1));
    require_ok(mr_stream_wait(stream));
    const double seconds = measure_now_s() - began;
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
    return seconds;
}

/* ---- events ---- */

/* Each event is recorded behind work that nobody has recorded, and has ended. */
static double run_reached_pairs(void *context)
{
    mr_stream *streams[PAIR_STREAMS], *waiting = make_stream();
    mr_event *event = make_event();
    double seconds = 0;
    (void)context;
    for (int i = 0; i < PAIR_STREAMS; i++)
        streams[i] = make_stream();

    for (uint64_t round = 0; round < operation_count / PAIR_STREAMS; round++) {
        for (int i = 0; i < PAIR_STREAMS; i++)
            call(streams[i]);
        require_ok(mr_device_synchronize(device));
        const double began = measure_now_s();
        for (int i = 0; i < PAIR_STREAMS; i++)
            order(streams[i], waiting, event);
        seconds += measure_now_s() - began;
    }
    for (int i = 0; i < PAIR_STREAMS; i++)
        mr_stream_destroy(streams[i]);
    mr_stream_destroy(waiting);
    mr_event_destroy(event);
    return seconds;
}

/* Two streams take turns, all submitted ahead. */
static double run_turns(void *context)
{
    mr_stream *streams[2] = { make_stream(), make_stream() };
    mr_event *event = make_event();
    (void)context;
    const double began = measure_now_s();
    for (uint64_t i = 0; i < operation_count; i++) {
        call(streams[i % 2]);
        order(streams[i % 2], streams[(i + 1) % 2], event);
    }
    require_ok(mr_device_synchronize(device));
    const double seconds = measure_now_s() - began;
    mr_stream_destroy(streams[0]);
    mr_stream_destroy(streams[1]);
    mr_event_destroy(event);
    return seconds;
}

static double run_stages(void *context)
{
    mr_stream *streams[STAGES];
    mr_event *event = make_event();
    (void)context;
    for (int k = 0; k < STAGES; k++)
        streams[k] = make_stream();
    const double began = measure_now_s();
    for (uint64_t i = 0; i < operation_count / STAGES; i++) {
        for (int k = 0; k < STAGES; k++) {
            call(streams[k]);
            if (k + 1 < STAGES)
                order(streams[k], streams[k + 1], event);
        }
    }
    require_ok(mr_device_synchronize(device));
    const double seconds = measure_now_s() - began;
    for (int k = 0; k < STAGES; k++)
        mr_stream_destroy(streams[k]);
    mr_event_destroy(event);
    return seconds;
}

/* ---- from submission to a waiting thread ---- */

static double run_round_trips(void *context)
{
    mr_stream *stream = make_stream();
    const uint64_t count = *(const uint64_t *)context;
    const double began = measure_now_s();
    for (uint64_t i = 0; i < count; i++) {
        call(stream);
        require_ok(mr_stream_wait(stream));
    }
    const double seconds = measure_now_s() - began;
    mr_stream_destroy(stream);
    return seconds;
}

static double median_round_trip_from_sleep(void)
{
    mr_stream *stream = make_stream();
    double seconds[SLEEPS];
    for (int i = 0; i < SLEEPS; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = SLEEP_NS }, NULL);
        const double began = measure_now_s();
        call(stream);
        require_ok(mr_stream_wait(stream));
        seconds[i] = measure_now_s() - began;
    }
    mr_stream_destroy(stream);
    return measure_median(seconds, SLEEPS);
}

/* ---- bytes ---- */

struct bytes {
    mr_stream *stream;
    mr_buffer *target, *source;
};

static double run_copy(void *context)
{
    const struct bytes *bytes = context;
    const double began = measure_now_s();
    require_ok(mr_copy(bytes->stream, bytes->target, 0, bytes->source, 0, COPY_BYTES));
    require_ok(mr_stream_wait(bytes->stream));
    return measure_now_s() - began;
}

static double run_memcpy(void *context)
{
    const struct bytes *bytes = context;
    const double began = measure_now_s();
    memcpy(mr_buffer_host(bytes->target), mr_buffer_host(bytes->source), COPY_BYTES);
    return measure_now_s() - began;
}

static double run_fill(void *context)
{
    const struct bytes *bytes = context;
    const double began = measure_now_s();
    require_ok(mr_fill(bytes->stream, bytes->target, 0, COPY_BYTES, 0x01020304, 4));
    require_ok(mr_stream_wait(bytes->stream));
    return measure_now_s() - began;
}

static void report_bytes(struct measure_report *report, int run_count)
{
    struct bytes bytes = { .stream = make_stream() };
    require_ok(mr_buffer_create(device, COPY_BYTES, NULL, &bytes.target));
    require_ok(mr_buffer_create(device, COPY_BYTES, NULL, &bytes.source));
    memset(mr_buffer_host(bytes.source), 1, COPY_BYTES);
    memset(mr_buffer_host(bytes.target), 2, COPY_BYTES);

    const double one = COPY_BYTES / measure_median_of(run_memcpy, &bytes, run_count) * 1e-9;
    const double all = COPY_BYTES / measure_median_of(run_copy, &bytes, run_count) * 1e-9;
    measure_require(!memcmp(mr_buffer_host(bytes.target), mr_buffer_host(bytes.source), COPY_BYTES),
                    "the copy differs");
    const double fill = COPY_BYTES / measure_median_of(run_fill, &bytes, run_count) * 1e-9;
    measure_report_add(report, one, "GB/s", "memcpy on one thread, 256 MiB");
    measure_report_add(report, all, "GB/s", "copy on a stream, 256 MiB");
    measure_report_target(report, all / one, "", ">=", 1.0, "copy on a stream / memcpy");
    measure_report_add(report, fill, "GB/s", "fill on a stream, 256 MiB");

    mr_buffer_destroy(bytes.target);
    mr_buffer_destroy(bytes.source);
    mr_stream_destroy(bytes.stream);
}

static double cost_ns(double (*run)(void *context), int run_count)
{
    return measure_median_of(run, NULL, run_count) / (double)operation_count * 1e9;
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "cpu_streams", &argc, argv);
    operation_count = (uint64_t)measure_option_number(argc, argv, "operations", 200000);
    const int run_count = (int)measure_option_number(argc, argv, "runs", 7);
    const mr_device_options options = { .worker_count = (uint32_t)measure_option_number(
                                            argc, argv, "workers", 0) };
    require_ok(mr_device_open("cpu", &options, &device));
    mr_device_properties properties;
    mr_device_describe(device, &properties);

    measure_report_add(&report, properties.multiprocessor_count, "", "workers");
    measure_report_target(&report, cost_ns(run_one_stream, run_count), "ns", "<=", 60,
                          "an empty host function");
    measure_report_add(&report, cost_ns(run_many_streams, run_count), "ns",
                       "an empty host function, round %d streams", MANY_STREAMS);
    measure_report_add(&report, cost_ns(run_launches, run_count), "ns", "an empty launch");
    measure_report_target(&report, cost_ns(run_reached_pairs, run_count), "ns", "<=", 100,
                          "record and wait, reached");
    measure_report_add(&report, cost_ns(run_turns, run_count), "ns",
                       "function, record and wait, two streams in turn");
    measure_report_add(&report, STAGES * cost_ns(run_stages, run_count), "ns",
                       "an item through %d streams", STAGES);

    uint64_t trips = operation_count / 20;
    measure_report_add(&report,
                       measure_median_of(run_round_trips, &trips, run_count) / (double)trips * 1e9,
                       "ns", "submission to waiting thread, awake");
    measure_report_add(&report, median_round_trip_from_sleep() * 1e9, "ns",
                       "submission to waiting thread, from sleep");
    report_bytes(&report, run_count);

    require_ok(mr_device_close(device));
    return measure_report_finish(&report);
}
