/* SPDX-License-Identifier: MIT */
/*
 * Chunks overlap: the copy in of one chunk with the kernel of another and the copy out of a third. By
 * hand that is chunk k on stream k modulo 4, issued chunk after chunk (interleaved) or part after part
 * (grouped), which mr_transfer_chunks does for data that fits on the device. A pipeline does it for
 * data that need not fit, and chooses chunk, slots and streams itself.
 *
 *     04_chunked_overlap [DEVICE]
 *
 * Prints: interleaved 45.1 GB/s, grouped 44.9 GB/s (this device: interleaved)
 *         pipeline 47.9 GB/s: 128 MiB in chunks of 8 MiB, 5 slots; overlap 2.1 of 2.2
 */
#include "check.h"

#include <string.h>

enum { COUNT = 32 << 20, STREAMS = 4 };
static const size_t SIZE = (size_t)COUNT * sizeof(float);

static mr_device *device;
static mr_kernel *kernel;
static mr_buffer *in, *out;

static void expect_results(void)
{
    const float *source = mr_buffer_host(in), *target = mr_buffer_host(out);
    for (int i = 0; i < COUNT; i++)
        EXPECT(target[i] == 2 * source[i] + 1);
    memset(mr_buffer_host(out), 0, SIZE);
}

/* ---- chunks on streams ---- */

/* Enqueues the kernel of one chunk. */
static mr_status scale_chunk(void *context, const mr_chunk *chunk)
{
    (void)context;
    const mr_argument arguments[] = {
        mr_argument_range(chunk->input, chunk->input_offset, chunk->input_bytes),
        mr_argument_range(chunk->output, chunk->output_offset, chunk->output_bytes),
        mr_argument_f32(2), mr_argument_f32(1), mr_argument_u64(chunk->item_count)
    };
    return mr_kernel_launch(chunk->stream, kernel, &(mr_launch){ .count = chunk->item_count },
                            arguments, 5);
}

static double run_chunks(mr_stream *const *streams, mr_issue_order order)
{
    mr_buffer *input, *output;
    CHECK(mr_buffer_create(device, SIZE, NULL, &input));
    CHECK(mr_buffer_create(device, SIZE, NULL, &output));
    const mr_chunked_transfer transfer = { .source = in,
                                           .input = input,
                                           .output = output,
                                           .target = out,
                                           .item_count = COUNT,
                                           .item_bytes = sizeof(float),
                                           .order = order,
                                           .compute = scale_chunk };
    const uint64_t start_ns = mr_device_now_ns(device);
    CHECK(mr_transfer_chunks(streams, STREAMS, &transfer)); /* enqueues all of it */
    CHECK(mr_stream_wait(streams[0]));                      /* which waits for the others */
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;
    expect_results();
    mr_buffer_destroy(output);
    mr_buffer_destroy(input);
    return (double)SIZE / (double)elapsed_ns;
}

static void compare_orders(void)
{
    mr_stream *streams[STREAMS];
    mr_device_properties properties;
    for (int i = 0; i < STREAMS; i++)
        CHECK(mr_stream_create(device, NULL, &streams[i]));
    const double interleaved = run_chunks(streams, MR_ISSUE_INTERLEAVED);
    const double grouped = run_chunks(streams, MR_ISSUE_GROUPED);
    mr_device_describe(device, &properties);
    printf("interleaved %.1f GB/s, grouped %.1f GB/s (this device: %s)\n", interleaved, grouped,
           mr_issue_order_name(mr_issue_order_choose(&properties)));
    for (int i = 0; i < STREAMS; i++)
        mr_stream_destroy(streams[i]);
}

/* ---- a pipeline ---- */

/* Enqueues the work of one parcel: its items lie one after another. */
static mr_status scale_parcel(void *context, mr_stage_call *call)
{
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const size_t last = call->item_count - 1;
    const size_t size_bytes = last * in->stride_bytes + in->sizes[last];
    const uint64_t count = size_bytes / sizeof(float);
    const mr_argument arguments[] = { mr_argument_range(in->buffer, in->offset, size_bytes),
                                      mr_argument_range(out->buffer, out->offset, size_bytes),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(count) };
    return mr_kernel_launch(call->stream, context, &(mr_launch){ .count = count }, arguments, 5);
}

static void run_pipeline(void)
{
    mr_pipeline *pipeline;
    mr_node node;
    CHECK(mr_pipeline_create(&(mr_pipeline_options){ .is_measured = true }, &pipeline));
    CHECK(mr_pipeline_add_source(
        pipeline, &(mr_source_options){ .memory = in, .memory_bytes = SIZE }, &node));
    CHECK(mr_pipeline_add_stage(pipeline,
                                &(mr_stage_options){ .name = "scale",
                                                     .device = device,
                                                     .submit = scale_parcel,
                                                     .context = kernel,
                                                     .is_parcel_wise = true,
                                                     .replicas = MR_REPLICAS_AUTO },
                                &node));
    CHECK(mr_pipeline_add_sink(pipeline, &(mr_sink_options){ .memory = out, .memory_bytes = SIZE },
                               &node));
    CHECK(mr_pipeline_run(pipeline));

    const mr_pipeline_report *report;
    CHECK(mr_pipeline_report_get(pipeline, &report));
    printf("pipeline %.1f GB/s: %zu MiB in chunks of %.3g MiB, %u slots; overlap %.2f of %.2f\n",
           (double)report->bytes_in / (double)report->elapsed_ns, SIZE >> 20,
           (double)report->chunk_bytes / (1 << 20), report->slot_count, report->overlap,
           report->overlap_bound);
    expect_results();
    mr_pipeline_destroy(pipeline);
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK(mr_buffer_create(device, SIZE, &pinned, &in));
    CHECK(mr_buffer_create(device, SIZE, &pinned, &out));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &kernel));
    float *source = mr_buffer_host(in);
    for (int i = 0; i < COUNT; i++)
        source[i] = (float)(i % 4096);

    compare_orders();
    run_pipeline();

    mr_kernel_destroy(kernel);
    mr_buffer_destroy(out);
    mr_buffer_destroy(in);
    CHECK(mr_device_close(device));
    return 0;
}
