/* SPDX-License-Identifier: MIT */
/*
 * millrace bench, the figures of bytes: copies by kind of memory, by chunk, and overlapped.
 */
#include "bench.h"

#include <string.h>

/* The two streams and the memory that the copies use. Half-built states are closed as well. */
struct copies {
    mr_stream *in, *out;
    mr_buffer *device_in, *device_out; /* on the device */
    mr_buffer *host_in, *host_out;     /* pinned or pageable */
    mr_staging *staging;
    size_t chunk_bytes;
    size_t size_bytes;
};

static void copies_close(struct copies *copies)
{
    mr_staging_destroy(copies->staging);
    mr_buffer_destroy(copies->host_out);
    mr_buffer_destroy(copies->host_in);
    mr_buffer_destroy(copies->device_out);
    mr_buffer_destroy(copies->device_in);
    mr_stream_destroy(copies->out);
    mr_stream_destroy(copies->in);
    memset(copies, 0, sizeof *copies);
}

static mr_status copies_open(struct bench *bench, mr_place place, struct copies *copies)
{
    const size_t size_bytes = bench->size_bytes;
    const mr_buffer_options host = { .place = place };
    *copies = (struct copies){ .size_bytes = size_bytes, .chunk_bytes = size_bytes };

    mr_status status = mr_stream_create(bench->device, NULL, &copies->in);
    if (!status)
        status = mr_stream_create(bench->device, NULL, &copies->out);
    if (!status)
        status = mr_buffer_create(bench->device, size_bytes, NULL, &copies->device_in);
    if (!status)
        status = mr_buffer_create(bench->device, size_bytes, NULL, &copies->device_out);
    if (!status)
        status = mr_buffer_create(bench->device, size_bytes, &host, &copies->host_in);
    if (!status)
        status = mr_buffer_create(bench->device, size_bytes, &host, &copies->host_out);
    if (status) {
        copies_close(copies);
        return status;
    }
    /* Real pages, not the one zero page; and not all zeros, which some links carry faster. */
    uint32_t *words = mr_buffer_host(copies->host_in);
    for (size_t i = 0; i < size_bytes / sizeof *words; i++)
        words[i] = (uint32_t)(i * 2654435761u);
    memset(mr_buffer_host(copies->host_out), 1, size_bytes);
    return MR_OK;
}

static mr_status submit_in(struct copies *copies)
{
    mr_status status = MR_OK;
    for (size_t offset = 0; !status && offset < copies->size_bytes; offset += copies->chunk_bytes) {
        const size_t left = copies->size_bytes - offset;
        const size_t chunk = left < copies->chunk_bytes ? left : copies->chunk_bytes;
        status = mr_copy(copies->in, copies->device_in, offset, copies->host_in, offset, chunk);
    }
    return status;
}

static mr_status submit_out(struct copies *copies)
{
    return mr_copy(copies->out, copies->host_out, 0, copies->device_out, 0, copies->size_bytes);
}

static mr_status copy_in(struct bench *bench, void *context)
{
    struct copies *copies = context;
    (void)bench;
    const mr_status status = submit_in(copies);
    return status ? status : mr_stream_wait(copies->in);
}

static mr_status copy_out(struct bench *bench, void *context)
{
    struct copies *copies = context;
    (void)bench;
    const mr_status status = submit_out(copies);
    return status ? status : mr_stream_wait(copies->out);
}

static mr_status copy_both(struct bench *bench, void *context)
{
    struct copies *copies = context;
    (void)bench;
    mr_status status = submit_in(copies);
    if (!status)
        status = submit_out(copies);
    if (!status)
        status = mr_stream_wait(copies->in);
    return status ? status : mr_stream_wait(copies->out);
}

static mr_status stage_in(struct bench *bench, void *context)
{
    struct copies *copies = context;
    (void)bench;
    const mr_status status = mr_staging_upload(copies->staging, copies->in, copies->device_in, 0,
                                               mr_buffer_host(copies->host_in), copies->size_bytes);
    return status ? status : mr_stream_wait(copies->in);
}

static mr_status stage_out(struct bench *bench, void *context)
{
    struct copies *copies = context;
    (void)bench;
    return mr_staging_download(copies->staging, copies->out, mr_buffer_host(copies->host_out),
                               copies->device_out, 0, copies->size_bytes);
}

static mr_status measure_rate(struct bench *bench, const char *group, const char *name,
                              bench_step *step, struct copies *copies, uint64_t bytes)
{
    double seconds;
    const mr_status status = bench_measure(bench, step, copies, &seconds);
    if (!status)
        bench_add_rate(bench, group, name, bytes, seconds);
    return status;
}

struct figure {
    const char *name;
    bench_step *step;
};

static const struct figure pinned[] = {
    { "in, pinned", copy_in },
    { "out, pinned", copy_out },
    { "both at once, pinned, each way", copy_both },
};

static const struct figure pageable[] = {
    { "in, pageable", copy_in },
    { "out, pageable", copy_out },
    { "in, pageable, staged", stage_in },
    { "out, pageable, staged", stage_out },
};

static mr_status measure_figures(struct bench *bench, mr_place place, const struct figure *figures,
                                 size_t count)
{
    struct copies copies;
    mr_status status = copies_open(bench, place, &copies);
    if (!status && place == MR_PLACE_PAGEABLE)
        status = mr_staging_create(bench->device, NULL, &copies.staging);
    for (size_t i = 0; i < count && !status; i++)
        status = measure_rate(bench, "copies", figures[i].name, figures[i].step, &copies,
                              bench->size_bytes);
    copies_close(&copies);
    return status;
}

mr_status bench_copies(struct bench *bench)
{
    const mr_status status =
        measure_figures(bench, MR_PLACE_PINNED, pinned, sizeof pinned / sizeof *pinned);
    return status ? status
                  : measure_figures(bench, MR_PLACE_PAGEABLE, pageable,
                                    sizeof pageable / sizeof *pageable);
}

mr_status bench_chunks(struct bench *bench)
{
    static const size_t sizes[] = {
        64u << 10, 256u << 10, 1u << 20, 4u << 20, 16u << 20, 64u << 20
    };
    struct copies copies;
    mr_status status = copies_open(bench, MR_PLACE_PINNED, &copies);
    for (size_t i = 0; !status && i < sizeof sizes / sizeof *sizes; i++) {
        char size[CLI_NUMBER_BYTES], name[CLI_NUMBER_BYTES + 16];
        if (sizes[i] > bench->size_bytes)
            break;
        copies.chunk_bytes = sizes[i];
        snprintf(name, sizeof name, "in chunks of %s", cli_bytes_text(sizes[i], size));
        status = measure_rate(bench, "chunk size, in, pinned", name, copy_in, &copies,
                              bench->size_bytes);
    }
    copies_close(&copies);
    return status;
}

/* ---- overlap: copy in, scale, copy out ---- */

struct overlap {
    mr_pipeline *pipeline;
    mr_kernel *scale;
};

static mr_status scale_parcel(void *context, mr_stage_call *call)
{
    mr_kernel *scale = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const size_t size_bytes =
        (call->item_count - 1) * in->stride_bytes + in->sizes[call->item_count - 1];
    const uint64_t count = size_bytes / sizeof(float);
    const mr_argument arguments[] = { mr_argument_range(in->buffer, in->offset, size_bytes),
                                      mr_argument_range(out->buffer, out->offset, size_bytes),
                                      mr_argument_f64(1.5), mr_argument_f64(0.25),
                                      mr_argument_u64(count) };
    return mr_kernel_launch(call->stream, scale, &(mr_launch){ .count = count }, arguments,
                            sizeof arguments / sizeof *arguments);
}

static mr_status overlap_open(struct bench *bench, struct copies *copies, uint32_t slot_count,
                              struct overlap *overlap)
{
    mr_node node;
    *overlap = (struct overlap){ 0 };
    mr_status status = mr_kernel_open(bench->device, "scale_offset_f32", &overlap->scale);
    if (!status)
        status = mr_pipeline_create(&(mr_pipeline_options){ .slot_count = slot_count },
                                    &overlap->pipeline);
    if (!status)
        status = mr_pipeline_add_source(
            overlap->pipeline,
            &(mr_source_options){ .memory = copies->host_in, .memory_bytes = copies->size_bytes },
            &node);
    if (!status)
        status = mr_pipeline_add_stage(overlap->pipeline,
                                       &(mr_stage_options){ .name = "scale",
                                                            .device = bench->device,
                                                            .submit = scale_parcel,
                                                            .context = overlap->scale,
                                                            .replicas = MR_REPLICAS_AUTO,
                                                            .is_parcel_wise = true },
                                       &node);
    if (!status)
        status = mr_pipeline_add_sink(
            overlap->pipeline,
            &(mr_sink_options){ .memory = copies->host_out, .memory_bytes = copies->size_bytes },
            &node);
    return status;
}

static void overlap_close(struct overlap *overlap)
{
    mr_pipeline_destroy(overlap->pipeline);
    mr_kernel_destroy(overlap->scale);
}

static mr_status run_pipeline(struct bench *bench, void *context)
{
    (void)bench;
    return mr_pipeline_run(((struct overlap *)context)->pipeline);
}

static mr_status measure_overlap(struct bench *bench, struct copies *copies, uint32_t slot_count,
                                 const char *name, double *seconds)
{
    struct overlap overlap;
    mr_status status = overlap_open(bench, copies, slot_count, &overlap);
    if (!status)
        status = bench_measure(bench, run_pipeline, &overlap, seconds);
    if (!status)
        bench_add_rate(bench, "pipeline: copy in, scale, copy out", name, copies->size_bytes,
                       *seconds);
    overlap_close(&overlap);
    return status;
}

mr_status bench_overlap(struct bench *bench)
{
    struct copies copies;
    double sequential = 0, overlapped = 0;
    mr_status status = copies_open(bench, MR_PLACE_PINNED, &copies);
    if (!status)
        status = measure_overlap(bench, &copies, 1, "one step after another", &sequential);
    if (!status)
        status = measure_overlap(bench, &copies, 0, "overlapped", &overlapped);
    if (!status)
        bench_add_ratio(bench, "pipeline: copy in, scale, copy out", "speed-up",
                        sequential / overlapped);
    copies_close(&copies);
    return status;
}
