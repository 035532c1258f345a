/* SPDX-License-Identifier: MIT */
/*
 * What is enqueued for textures, and for tokens and the compressed array.
 */
#include "vision/vision_device.h"

#define NUMBER(value) mr_argument_u64(value)
#define LAUNCH(model, stream, kernel, count, slice_limit, ...)                                     \
    mr__vision_launch(model, stream, kernel, count, slice_limit, (mr_argument[]){ __VA_ARGS__ },   \
                      sizeof((mr_argument[]){ __VA_ARGS__ }) / sizeof(mr_argument))

enum { TILE_COLUMNS = 128, TILE_ROWS = 8 }; /* kernels/vision_textures.c */

mr_status mr__vision_enqueue_textures(const struct mr__vision_model *model,
                                      const struct mr__vision_plan *plan, uint32_t image_count,
                                      mr_stream *stream, uint32_t slice_limit,
                                      struct mr__vision_place image,
                                      struct mr__vision_place textures)
{
    const bool is_byte = plan->channel_bytes == 1;
    const uint64_t across = (plan->width - 1) / TILE_COLUMNS + 1;
    const uint64_t down = (plan->height - 1) / TILE_ROWS + 1;
    return LAUNCH(
        model, stream, is_byte ? MR__VISION_KERNEL_TEXTURES_U8 : MR__VISION_KERNEL_TEXTURES_U16,
        image_count * across * down, slice_limit,
        mr__vision_part(image_count, image, 0, plan->image_bytes),
        mr_argument_buffer(is_byte ? model->linear_u8 : model->linear_u16),
        mr__vision_part(image_count, textures, 0, plan->textures_bytes), NUMBER(plan->width),
        NUMBER(plan->height), NUMBER(image_count), NUMBER(image.stride_bytes / plan->channel_bytes),
        NUMBER(textures.stride_bytes / sizeof(float)));
}

mr_status mr__vision_enqueue_tokens(const struct mr__vision_model *model,
                                    const struct mr__vision_plan *plan, uint32_t image_count,
                                    mr_stream *stream, uint32_t slice_limit,
                                    struct mr__vision_place textures,
                                    struct mr__vision_place scores, struct mr__vision_place result)
{
    const size_t grid_bytes = plan->patch_count * sizeof(uint32_t);
    const size_t word = sizeof(uint32_t);
    const size_t compressed_bytes = (size_t)plan->budget * MR__VISION_CHANNELS * sizeof(float);
    const mr_argument box_columns =
        mr__vision_part(image_count, result, plan->box_columns_offset, grid_bytes);
    const mr_argument box_rows =
        mr__vision_part(image_count, result, plan->box_rows_offset, grid_bytes);
    const mr_argument box_first =
        mr__vision_part(image_count, result, plan->box_first_offset, grid_bytes + word);
    const mr_argument row_first =
        mr__vision_part(image_count, result, plan->row_first_offset, grid_bytes + word);
    const mr_argument row_patch =
        mr__vision_part(image_count, result, plan->row_patch_offset, plan->budget * word);
    const mr_argument width = NUMBER(plan->width), height = NUMBER(plan->height);
    const mr_argument columns = NUMBER(plan->columns), rows = NUMBER(plan->rows);
    const mr_argument result_step = NUMBER(result.stride_bytes / word);
    const mr_status status =
        LAUNCH(model, stream, MR__VISION_KERNEL_TOKENS, image_count, slice_limit,
               mr__vision_part(image_count, scores, 0, plan->scores_bytes),
               mr__vision_part(image_count, result, plan->scores_offset, plan->scores_bytes),
               mr__vision_part(image_count, result, plan->tokens_offset, grid_bytes), box_columns,
               box_rows, box_first, row_first, row_patch, width, height, columns, rows,
               NUMBER(plan->budget), NUMBER(plan->least), NUMBER(plan->most), NUMBER(image_count),
               NUMBER(scores.stride_bytes / word), result_step);
    if (status)
        return status;
    return LAUNCH(model, stream, MR__VISION_KERNEL_COMPRESS,
                  (uint64_t)image_count * plan->channel_parts * plan->likely_rows, slice_limit,
                  mr__vision_part(image_count, textures, 0, plan->textures_bytes), box_columns,
                  box_rows, box_first, row_first, row_patch,
                  mr__vision_part(image_count, result, plan->compressed_offset, compressed_bytes),
                  width, height, columns, rows, NUMBER(plan->channel_parts), NUMBER(image_count),
                  NUMBER(textures.stride_bytes / word), result_step);
}
