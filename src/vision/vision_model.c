/* SPDX-License-Identifier: MIT */
/*
 * A model: the vision kernels opened on one device, and the tables that they read.
 */
#include "base/alloc.h"
#include "vision/vision_device.h"

#include <string.h>

/* Threads of a block: as the kernels say. */
static const struct {
    const char *name;
    uint32_t block;
} kernels[MR__VISION_KERNEL_COUNT] = {
    [MR__VISION_KERNEL_TEXTURES_U8] = { "vision_textures_u8", 128 },
    [MR__VISION_KERNEL_TEXTURES_U16] = { "vision_textures_u16", 128 },
    [MR__VISION_KERNEL_HISTOGRAM_U8] = { "vision_histogram_u8", 256 },
    [MR__VISION_KERNEL_HISTOGRAM_U16] = { "vision_histogram_u16", 256 },
    [MR__VISION_KERNEL_ENTROPY] = { "vision_entropy", 512 },
    [MR__VISION_KERNEL_CELL_SUMS] = { "vision_cell_sums", 256 },
    [MR__VISION_KERNEL_CONTRAST] = { "vision_contrast", 256 },
    [MR__VISION_KERNEL_SIMILARITY] = { "vision_similarity", 256 },
    [MR__VISION_KERNEL_BALANCE] = { "vision_balance", 256 },
    [MR__VISION_KERNEL_TOKENS] = { "vision_tokens", 256 },
    [MR__VISION_KERNEL_COMPRESS] = { "vision_compress", 256 },
};

/* ---- tables ---- */

/* A device buffer with these contents; waits for the copy. */
static mr_status table_create(mr_device *device, mr_stream *stream, const char *name,
                              const void *contents, size_t size_bytes, mr_buffer **out)
{
    mr_buffer *host = NULL;
    mr_status status =
        mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .name = name }, out);
    if (!status)
        status = mr_buffer_create(device, size_bytes,
                                  &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &host);
    if (!status) {
        memcpy(mr_buffer_host(host), contents, size_bytes);
        status = mr_copy(stream, *out, 0, host, 0, size_bytes);
    }
    const mr_status waited = mr_stream_wait(stream);
    mr_buffer_destroy(host);
    return status ? status : waited;
}

static mr_status linear_create(mr_device *device, mr_stream *stream, uint32_t count,
                               mr_buffer **out)
{
    float *linear = mr__zalloc_array(count, sizeof *linear);
    if (!linear)
        return mr_error_set(MR_E_NO_MEMORY, "vision: out of memory for %u numbers", count);
    for (uint32_t i = 0; i < count; i++)
        linear[i] = (float)mr__vision_linear(i / (double)(count - 1));
    const mr_status status =
        table_create(device, stream, "linear light", linear, count * sizeof *linear, out);
    mr__free(linear);
    return status;
}

static mr_status query_create(struct mr__vision_model *model, mr_stream *stream)
{
    const struct mr__vision_query *query = &model->parameters.query;
    double terms[MR__VISION_COLOURS][3], numbers[2 * MR__VISION_DESCRIPTOR] = { 0 };
    for (uint32_t k = 0; k < MR__VISION_COLOURS; k++)
        mr__vision_colour_lab(k, terms[k]);
    for (uint32_t k = 0; k < MR__VISION_DESCRIPTOR && query->is_set; k++) {
        numbers[k] = (double)query->vector[k] * query->weights[k];
        numbers[MR__VISION_DESCRIPTOR + k] = query->weights[k];
    }
    const mr_status status =
        table_create(model->device, stream, "colour terms", terms, sizeof terms, &model->terms);
    if (status)
        return status;
    return table_create(model->device, stream, "query", numbers, sizeof numbers, &model->query);
}

static mr_status fill_tables(struct mr__vision_model *model)
{
    mr_stream *stream;
    mr_status status = mr_stream_create(model->device, NULL, &stream);
    if (!status)
        status = linear_create(model->device, stream, 256, &model->linear_u8);
    if (!status)
        status = linear_create(model->device, stream, 65536, &model->linear_u16);
    if (!status)
        status = query_create(model, stream);
    mr_stream_destroy(stream);
    return status;
}

/* ---- create and destroy ---- */

mr_status mr__vision_model_create(mr_device *device, const struct mr__vision_parameters *parameters,
                                  struct mr__vision_model **out)
{
    *out = NULL;
    struct mr__vision_model *model = mr__zalloc(sizeof *model);
    if (!model)
        return mr_error_set(MR_E_NO_MEMORY, "vision: out of memory");
    model->device = device;
    model->parameters = *parameters;

    mr_status status = MR_OK;
    for (uint32_t k = 0; k < MR__VISION_KERNEL_COUNT && !status; k++)
        status = mr_kernel_open(device, kernels[k].name, &model->kernels[k]);
    if (!status)
        status = fill_tables(model);
    if (status)
        goto fail;
    *out = model;
    return MR_OK;

fail:
    mr__vision_model_destroy(model);
    return status;
}

void mr__vision_model_destroy(struct mr__vision_model *model)
{
    if (!model)
        return;
    mr_buffer_destroy(model->query);
    mr_buffer_destroy(model->terms);
    mr_buffer_destroy(model->linear_u16);
    mr_buffer_destroy(model->linear_u8);
    for (uint32_t k = 0; k < MR__VISION_KERNEL_COUNT; k++)
        mr_kernel_destroy(model->kernels[k]);
    mr__free(model);
}

/* ---- launches ---- */

mr_argument mr__vision_part(uint32_t image_count, struct mr__vision_place place, size_t offset,
                            size_t size_bytes)
{
    return mr_argument_range(place.buffer, place.offset + offset,
                             (image_count - 1) * place.stride_bytes + size_bytes);
}

mr_status mr__vision_launch(const struct mr__vision_model *model, mr_stream *stream,
                            enum mr__vision_kernel kernel, uint64_t count, uint32_t slice_limit,
                            const mr_argument *arguments, size_t argument_count)
{
    const mr_launch launch = { .count = count,
                               .block = { kernels[kernel].block },
                               .slice_limit = slice_limit };
    return mr_kernel_launch(stream, model->kernels[kernel], &launch, arguments, argument_count);
}
