/* SPDX-License-Identifier: MIT */
/*
 * millrace bench, the figures of calls: what the host pays to submit, and what a round trip takes.
 */
#include "bench.h"

enum { CALL_COUNT = 2000 };

struct calls {
    mr_stream *stream, *other;
    mr_event *event;
    mr_buffer *device_memory, *host_memory;
    mr_kernel *kernel;
};

static void calls_close(struct calls *calls)
{
    mr_kernel_destroy(calls->kernel);
    mr_event_destroy(calls->event);
    mr_buffer_destroy(calls->host_memory);
    mr_buffer_destroy(calls->device_memory);
    mr_stream_destroy(calls->other);
    mr_stream_destroy(calls->stream);
}

static mr_status calls_open(struct bench *bench, struct calls *calls)
{
    *calls = (struct calls){ 0 };
    mr_status status = mr_stream_create(bench->device, NULL, &calls->stream);
    if (!status)
        status = mr_stream_create(bench->device, NULL, &calls->other);
    if (!status)
        status = mr_event_create(bench->device, NULL, &calls->event);
    if (!status)
        status = mr_buffer_create(bench->device, 8192, NULL, &calls->device_memory);
    if (!status)
        status =
            mr_buffer_create(bench->device, 4096, &(mr_buffer_options){ .place = MR_PLACE_PINNED },
                             &calls->host_memory);
    if (!status)
        status = mr_kernel_open(bench->device, "scale_offset_f32", &calls->kernel);
    if (!status)
        status = mr_fill(calls->stream, calls->device_memory, 0, 8192, 0, 4);
    return status ? status : mr_stream_wait(calls->stream);
}

static mr_status launch(struct calls *calls)
{
    const mr_argument arguments[] = { mr_argument_range(calls->device_memory, 0, 4096),
                                      mr_argument_range(calls->device_memory, 4096, 4096),
                                      mr_argument_f64(1), mr_argument_f64(0), mr_argument_u64(1) };
    return mr_kernel_launch(calls->stream, calls->kernel, &(mr_launch){ .count = 1 }, arguments,
                            sizeof arguments / sizeof *arguments);
}

static mr_status copy(struct calls *calls)
{
    return mr_copy(calls->stream, calls->device_memory, 0, calls->host_memory, 0, 4096);
}

/* Both streams get new work each time, so that no record or wait is redundant. */
static mr_status record(struct calls *calls)
{
    mr_stream_touch(calls->stream);
    return mr_event_record(calls->event, calls->stream);
}

static mr_status record_and_wait(struct calls *calls)
{
    const mr_status status = record(calls);
    return status ? status : mr_stream_wait_event(calls->other, calls->event);
}

static mr_status query(struct calls *calls)
{
    const mr_status status = mr_event_query(calls->event);
    return status == MR_E_BUSY ? MR_OK : status;
}

static mr_status launch_and_wait(struct calls *calls)
{
    const mr_status status = launch(calls);
    return status ? status : mr_stream_wait(calls->stream);
}

static mr_status do_nothing(void *context)
{
    (void)context;
    return MR_OK;
}

static mr_status call_and_wait(struct calls *calls)
{
    const mr_status status = mr_stream_call(calls->stream, do_nothing, NULL);
    return status ? status : mr_stream_wait(calls->stream);
}

static const struct cost {
    const char *name;
    mr_status (*step)(struct calls *calls);
} costs[] = {
    { "launch, host", launch },
    { "launch and wait", launch_and_wait },
    { "copy of 4 KiB, host", copy },
    { "event record, host", record },
    { "event record and stream wait, host", record_and_wait },
    { "query of an event", query },
    { "host function, round trip", call_and_wait },
};

/* Submits in bursts that fit a driver's launch queue and waits between them, outside the clock. */
static mr_status time_cost(struct bench *bench, struct calls *calls, const struct cost *cost,
                           double *seconds)
{
    enum { BURST = 200 };
    uint64_t spent_ns = 0;
    mr_status status = MR_OK;
    for (int done = 0; !status && done < CALL_COUNT; done += BURST) {
        const uint64_t start = mr_device_now_ns(bench->device);
        for (int i = 0; !status && i < BURST; i++)
            status = cost->step(calls);
        spent_ns += mr_device_now_ns(bench->device) - start;
        if (!status)
            status = mr_stream_wait(calls->stream);
        if (!status)
            status = mr_stream_wait(calls->other);
    }
    *seconds = (double)spent_ns * 1e-9 / CALL_COUNT;
    return status;
}

static mr_status measure_cost(struct bench *bench, struct calls *calls, const struct cost *cost)
{
    double values[BENCH_REPEAT_LIMIT];
    mr_status status = time_cost(bench, calls, cost, &values[0]); /* warms up */
    for (uint32_t i = 0; !status && i < bench->repeat_count; i++)
        status = time_cost(bench, calls, cost, &values[i]);
    if (!status)
        bench_add_time(bench, "calls", cost->name, bench_median(values, bench->repeat_count));
    return status;
}

mr_status bench_calls(struct bench *bench)
{
    struct calls calls;
    mr_status status = calls_open(bench, &calls);
    for (size_t i = 0; !status && i < sizeof costs / sizeof *costs; i++)
        status = measure_cost(bench, &calls, &costs[i]);
    calls_close(&calls);
    return status;
}
