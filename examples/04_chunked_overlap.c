/* SPDX-License-Identifier: MIT */
/*
 * Load, compute, store over more data than need fit on the device: a pipeline cuts one range of host
 * memory into chunks and overlaps the copy in of one with the kernel of another and the copy out of a
 * third. Chunk, slots and streams are chosen by the library.
 *
 *     04_chunked_overlap [DEVICE]
 *
 * Prints: 256 MiB in chunks of 8 MiB, 5 slots: 47.9 GB/s; overlap 2.1 of at most 2.2
 */
#include "check.h"

enum { COUNT = 64 << 20 };
static const size_t SIZE = (size_t)COUNT * sizeof(float);

/* Enqueues the work of one parcel, whatever number of items it has: they lie one after another. */
static mr_status scale(void *context, mr_stage_call *call)
{
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const uint32_t last = call->item_count - 1;
    const size_t size_bytes = last * in->stride_bytes + in->sizes[last];
    const uint64_t count = size_bytes / sizeof(float);
    const mr_argument arguments[] = { mr_argument_range(in->buffer, in->offset, size_bytes),
                                      mr_argument_range(out->buffer, out->offset, size_bytes),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(count) };
    return mr_kernel_launch(call->stream, context, &(mr_launch){ .count = count }, arguments, 5);
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_buffer *in, *out;
    mr_kernel *kernel;
    CHECK(mr_buffer_create(device, SIZE, &pinned, &in));
    CHECK(mr_buffer_create(device, SIZE, &pinned, &out));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &kernel));
    float *source = mr_buffer_host(in), *target = mr_buffer_host(out);
    for (int i = 0; i < COUNT; i++) {
        source[i] = (float)(i % 4096);
        target[i] = -1;
    }

    mr_pipeline *pipeline;
    mr_node node;
    CHECK(mr_pipeline_create(&(mr_pipeline_options){ .is_measured = true }, &pipeline));
    CHECK(mr_pipeline_add_source(
        pipeline, &(mr_source_options){ .memory = in, .memory_bytes = SIZE }, &node));
    CHECK(mr_pipeline_add_stage(pipeline,
                                &(mr_stage_options){ .name = "scale",
                                                     .device = device,
                                                     .submit = scale,
                                                     .context = kernel,
                                                     .is_parcel_wise = true,
                                                     .replicas = MR_REPLICAS_AUTO },
                                &node));
    CHECK(mr_pipeline_add_sink(pipeline, &(mr_sink_options){ .memory = out, .memory_bytes = SIZE },
                               &node));
    CHECK(mr_pipeline_run(pipeline));

    for (int i = 0; i < COUNT; i++)
        EXPECT(target[i] == 2 * source[i] + 1);
    const mr_pipeline_report *report;
    CHECK(mr_pipeline_report_get(pipeline, &report));
    printf("%zu MiB in chunks of %.3g MiB, %u slots: %.1f GB/s; overlap %.2f of at most %.2f\n",
           SIZE >> 20, (double)report->chunk_bytes / (1 << 20), report->slot_count,
           (double)report->bytes_in / (double)report->elapsed_ns, report->overlap,
           report->overlap_bound);

    mr_pipeline_destroy(pipeline);
    mr_kernel_destroy(kernel);
    mr_buffer_destroy(out);
    mr_buffer_destroy(in);
    CHECK(mr_device_close(device));
    return 0;
}
