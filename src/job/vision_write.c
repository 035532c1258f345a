/* SPDX-License-Identifier: MIT */
/*
 * The outputs of one image, made of its pixels and the model's result: arrays, words and pictures.
 * Nothing here depends on when or where it runs.
 */
#include "base/alloc.h"
#include "job/json_text.h"
#include "job/npy.h"
#include "job/vision_job.h"
#include "vision/picture.h"

#include <stdio.h>
#include <string.h>

enum { THUMBNAIL = 200, GAP = 6, PANELS = 5, LEGEND_HEIGHT = 34 };
#define PAPER 0xF7F7F5
#define INK 0x30303A

/* What there is of one image, and where its files go. */
struct work {
    const struct mr__vision_job *vision;
    const struct mr__vision_record *record;
    const struct mr__vision_plan *plan;
    const void *pixels;
    const float *scores; /* 4 grids */
    const uint32_t *tokens, *box_columns, *box_rows, *box_first;
    const float *compressed;
    struct mr__vision_note *note;
    float *heat; /* tokens, from the image's least to its most */
};

static mr_status put(const struct work *work, enum mr__vision_output output, const char *ending,
                     const void *data, size_t size_bytes)
{
    work->note->bytes[output] += size_bytes;
    return mr__vision_folder_write(&work->vision->folder, mr__vision_output_names[output],
                                   work->record->name, ending, data, size_bytes);
}

/* ---- arrays ---- */

static mr_status put_array(const struct work *work, enum mr__vision_output output,
                           const char *ending, const struct mr__item_type *item, uint64_t count,
                           const void *data, size_t size_bytes)
{
    char *bytes = mr__alloc_aligned(64, MR__NPY_WRITTEN_BYTES + size_bytes);
    if (!bytes)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", work->record->name);
    mr__npy_format(item, count, bytes);
    memcpy(bytes + MR__NPY_WRITTEN_BYTES, data, size_bytes);
    const mr_status status = put(work, output, ending, bytes, MR__NPY_WRITTEN_BYTES + size_bytes);
    mr__free(bytes);
    return status;
}

static mr_status put_scores(const struct work *work)
{
    const struct mr__vision_plan *plan = work->plan;
    const struct mr__item_type item = { .dtype = MR_TYPE_F32,
                                        .rank = 2,
                                        .shape = { plan->rows, plan->columns } };
    return put_array(work, MR__VISION_OUT_SCORES, ".npy", &item, MR__VISION_SCORES, work->scores,
                     plan->scores_bytes);
}

/* The numbers one after the other, and where each patch's begin. */
static mr_status put_compressed(const struct work *work)
{
    const uint32_t count = work->plan->patch_count;
    const uint64_t numbers = (uint64_t)work->box_first[count] * MR__VISION_CHANNELS;
    const struct mr__item_type number = { .dtype = MR_TYPE_F32 };
    const struct mr__item_type entry = { .dtype = MR_TYPE_U32, .rank = 1, .shape = { 3 } };
    uint32_t *index = mr__zalloc_array(count, 3 * sizeof *index);
    if (!index)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", work->record->name);
    for (uint32_t k = 0; k < count; k++) {
        index[3 * k] = work->box_columns[k];
        index[3 * k + 1] = work->box_rows[k];
        index[3 * k + 2] = work->box_first[k] * MR__VISION_CHANNELS;
    }
    mr_status status = put_array(work, MR__VISION_OUT_COMPRESSED, ".index.npy", &entry, count,
                                 index, count * 3 * sizeof *index);
    mr__free(index);
    if (!status)
        status = put_array(work, MR__VISION_OUT_COMPRESSED, ".npy", &number, numbers,
                           work->compressed, numbers * sizeof(float));
    return status;
}

/* ---- words ---- */

static json_t *patch_value(const struct work *work, uint32_t k)
{
    const struct mr__vision_plan *plan = work->plan;
    const uint64_t column = k % plan->columns, row = k / plan->columns;
    const uint64_t left = column * plan->width / plan->columns;
    const uint64_t top = row * plan->height / plan->rows;
    json_t *value = json_object();
    json_object_set_new(value, "x", mr__json_number(left));
    json_object_set_new(value, "y", mr__json_number(top));
    json_object_set_new(value, "width",
                        mr__json_number((column + 1) * plan->width / plan->columns - left));
    json_object_set_new(value, "height",
                        mr__json_number((row + 1) * plan->height / plan->rows - top));
    json_object_set_new(value, "tokens", mr__json_number(work->tokens[k]));
    for (uint32_t score = 0; score < MR__VISION_SCORES; score++)
        json_object_set_new(value, mr__vision_score_name(score),
                            json_real((double)work->scores[score * plan->patch_count + k]));
    return value;
}

static mr_status put_words(const struct work *work)
{
    const struct mr__vision_plan *plan = work->plan;
    const struct mr__image_info *info = &work->record->info;
    json_t *value = json_object(), *patches = json_array();
    json_object_set_new(value, "image", mr__json_text(work->record->path));
    json_object_set_new(value, "file_width", mr__json_number(info->file_width));
    json_object_set_new(value, "file_height", mr__json_number(info->file_height));
    json_object_set_new(value, "orientation", mr__json_number(info->orientation));
    json_object_set_new(value, "width", mr__json_number(info->width));
    json_object_set_new(value, "height", mr__json_number(info->height));
    json_object_set_new(value, "columns", mr__json_number(plan->columns));
    json_object_set_new(value, "rows", mr__json_number(plan->rows));
    json_object_set_new(value, "budget", mr__json_number(plan->budget));
    for (uint32_t k = 0; k < plan->patch_count; k++)
        json_array_append_new(patches, patch_value(work, k));
    json_object_set_new(value, "patches", patches);
    char *text = mr__json_dump(value, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!text)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", work->record->name);
    const mr_status status = put(work, MR__VISION_OUT_TOKENS, ".json", text, strlen(text));
    mr__free(text);
    return status;
}

static mr_status put_tokens(const struct work *work)
{
    const struct mr__vision_plan *plan = work->plan;
    const struct mr__item_type row = { .dtype = MR_TYPE_U32,
                                       .rank = 1,
                                       .shape = { plan->columns } };
    const mr_status status = put_array(work, MR__VISION_OUT_TOKENS, ".npy", &row, plan->rows,
                                       work->tokens, plan->patch_count * sizeof *work->tokens);
    return status ? status : put_words(work);
}

/* ---- the overlay ---- */

/* The tokens of the lightest colour: the most that were given, but a little above the least where all
 * have next to the same. */
static uint32_t heat_top(const struct work *work)
{
    const uint32_t little = (work->plan->most - work->plan->least) / 16;
    const uint32_t given = work->note->most - work->note->least;
    return work->note->least + (given > little ? given : little);
}

/* "tokens per patch", the scale of colours with its ends, and the limits where there is room. */
static void draw_legend(struct mr__picture *picture, const struct work *work, uint32_t top)
{
    const struct mr__vision_plan *plan = work->plan;
    char low[16], high[16], budget[64];
    snprintf(low, sizeof low, "%u", work->note->least);
    snprintf(high, sizeof high, "%u", heat_top(work));
    snprintf(budget, sizeof budget, "%u in all  %u to %u allowed", plan->budget, plan->least,
             plan->most);
    const uint32_t scale = picture->width >= 480 ? 2 : 1;
    const int64_t line = top + (LEGEND_HEIGHT - 7 * scale) / 2;
    int64_t x = 8;
    const char *title = "tokens per patch";
    const uint32_t title_width = mr__picture_text_width(scale, title);
    if (picture->width > title_width + 160 * scale) {
        mr__picture_text(picture, x, line, scale, INK, title);
        x += title_width + 12 * scale;
    }
    mr__picture_text(picture, x, line, scale, INK, low);
    x += mr__picture_text_width(scale, low) + 4 * scale;
    const uint32_t bar = 80 * scale;
    for (uint32_t k = 0; k < bar; k++)
        mr__picture_fill(picture, (uint32_t)x + k, top + LEGEND_HEIGHT / 4, 1, LEGEND_HEIGHT / 2,
                         mr__picture_heat((float)k / (float)(bar - 1)));
    x += bar + 4 * scale;
    mr__picture_text(picture, x, line, scale, INK, high);
    x += mr__picture_text_width(scale, high) + 16 * scale;
    if (x + mr__picture_text_width(scale, budget) + 8 < picture->width)
        mr__picture_text(picture, x, line, scale, INK, budget);
}

static struct mr__picture_grid token_grid(const struct work *work)
{
    return (struct mr__picture_grid){ .columns = work->plan->columns,
                                      .rows = work->plan->rows,
                                      .values = work->heat,
                                      .has_borders = true };
}

static mr_status put_overlay(const struct work *work, const struct mr__picture *image)
{
    struct mr__picture picture;
    struct mr__picture_grid grid = token_grid(work);
    grid.numbers = work->tokens;
    uint8_t *bytes = NULL;
    size_t size_bytes;
    mr_status status =
        mr__picture_init(&picture, image->width, image->height + LEGEND_HEIGHT, PAPER);
    if (!status) {
        mr__picture_paste(&picture, image, 0, 0);
        mr__picture_lay_over(&picture, 0, 0, image->width, image->height, &grid);
        draw_legend(&picture, work, image->height);
        status = mr__picture_png(&picture, &bytes, &size_bytes);
    }
    if (!status)
        status = put(work, MR__VISION_OUT_OVERLAY, ".png", bytes, size_bytes);
    mr__free(bytes);
    mr__picture_fini(&picture);
    return status;
}

/* ---- the strip of the contact sheet ---- */

#define LEAST_RANGE 0.1f

/* Each score over its own range in the image, which the sheet says; a range that is next to nothing
 * stays in the dark. */
static void stretch(const float *values, uint32_t count, float *out)
{
    float low = values[0], high = values[0];
    for (uint32_t k = 1; k < count; k++) {
        low = values[k] < low ? values[k] : low;
        high = values[k] > high ? values[k] : high;
    }
    const float range = high - low > LEAST_RANGE ? high - low : LEAST_RANGE;
    for (uint32_t k = 0; k < count; k++)
        out[k] = (values[k] - low) / range;
}

static void draw_strip(struct mr__picture *strip, const struct work *work,
                       const struct mr__picture *thumbnail, float *values)
{
    const struct mr__vision_plan *plan = work->plan;
    for (uint32_t panel = 0; panel < PANELS; panel++) {
        const uint32_t x = panel * (thumbnail->width + GAP);
        mr__picture_paste(strip, thumbnail, x, 0);
        struct mr__picture_grid grid = token_grid(work);
        grid.has_borders = false;
        if (!panel)
            continue;
        if (panel <= 3) {
            stretch(work->scores + (size_t)(panel - 1) * plan->patch_count, plan->patch_count,
                    values);
            grid.values = values;
        }
        mr__picture_lay_over(strip, x, 0, thumbnail->width, thumbnail->height, &grid);
    }
}

static mr_status put_strip(const struct work *work, const struct mr__picture *image)
{
    struct mr__picture thumbnail, strip = { 0 };
    uint8_t *bytes = NULL;
    size_t size_bytes;
    float *values = mr__zalloc_array(work->plan->patch_count, sizeof *values);
    mr_status status = mr__picture_thumbnail(&thumbnail, image, THUMBNAIL);
    if (!values && !status)
        status = mr_error_set(MR_E_NO_MEMORY, "no memory for a picture");
    if (!status)
        status = mr__picture_init(&strip, PANELS * thumbnail.width + (PANELS - 1) * GAP,
                                  thumbnail.height, PAPER);
    if (!status) {
        draw_strip(&strip, work, &thumbnail, values);
        status = mr__picture_jpeg(&strip, 88, &bytes, &size_bytes);
    }
    if (!status)
        status = put(work, MR__VISION_OUT_SHEET, ".jpg", bytes, size_bytes);
    mr__free(bytes);
    mr__free(values);
    mr__picture_fini(&strip);
    mr__picture_fini(&thumbnail);
    return status;
}

static mr_status put_pictures(const struct work *work)
{
    const bool *has_output = work->vision->has_output;
    struct mr__picture image;
    if (!has_output[MR__VISION_OUT_OVERLAY] && !has_output[MR__VISION_OUT_SHEET])
        return MR_OK;
    mr_status status = mr__picture_from_image(&image, work->pixels, work->plan->width,
                                              work->plan->height, work->plan->channel_bytes);
    if (!status && has_output[MR__VISION_OUT_OVERLAY])
        status = put_overlay(work, &image);
    if (!status && has_output[MR__VISION_OUT_SHEET])
        status = put_strip(work, &image);
    mr__picture_fini(&image);
    return status;
}

/* ---- the whole ---- */

static void take_note(const struct work *work)
{
    const struct mr__vision_plan *plan = work->plan;
    struct mr__vision_note *note = work->note;
    const uint32_t span = plan->most - plan->least;
    note->least = UINT32_MAX;
    for (uint32_t k = 0; k < plan->patch_count; k++) {
        const uint32_t tokens = work->tokens[k], above = tokens - plan->least;
        note->least = tokens < note->least ? tokens : note->least;
        note->most = tokens > note->most ? tokens : note->most;
        /* The highest value belongs to the last bin. */
        const uint64_t bin = span ? (uint64_t)above * MR__VISION_BINS / ((uint64_t)span + 1) : 0;
        note->bins[bin < MR__VISION_BINS ? bin : MR__VISION_BINS - 1]++;
    }
    /* Colours over what was given out here; the whole range would leave most images in the dark. */
    const float range = (float)(heat_top(work) - note->least);
    for (uint32_t k = 0; k < plan->patch_count; k++)
        work->heat[k] = range > 0 ? (float)(work->tokens[k] - note->least) / range : 0;
    for (uint32_t score = 0; score < 3; score++) {
        const float *values = work->scores + (size_t)score * plan->patch_count;
        note->lowest[score] = note->highest[score] = values[0];
        for (uint32_t k = 1; k < plan->patch_count; k++) {
            if (values[k] < note->lowest[score])
                note->lowest[score] = values[k];
            if (values[k] > note->highest[score])
                note->highest[score] = values[k];
        }
    }
}

mr_status mr__vision_write(const struct mr__vision_job *vision,
                           const struct mr__vision_record *record, const void *pixels,
                           const void *result, struct mr__vision_note *note)
{
    const struct mr__vision_plan *plan = &record->plan;
    const char *bytes = result;
    const struct work work = {
        .vision = vision,
        .record = record,
        .plan = plan,
        .pixels = pixels,
        .scores = (const void *)(bytes + plan->scores_offset),
        .tokens = (const void *)(bytes + plan->tokens_offset),
        .box_columns = (const void *)(bytes + plan->box_columns_offset),
        .box_rows = (const void *)(bytes + plan->box_rows_offset),
        .box_first = (const void *)(bytes + plan->box_first_offset),
        .compressed = (const void *)(bytes + plan->compressed_offset),
        .note = note,
        .heat = mr__zalloc_array(plan->patch_count, sizeof(float)),
    };
    mr_status status = MR_OK;
    if (!work.heat)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", record->name);
    take_note(&work);
    if (vision->has_output[MR__VISION_OUT_TOKENS])
        status = put_tokens(&work);
    if (!status && vision->has_output[MR__VISION_OUT_SCORES])
        status = put_scores(&work);
    if (!status && vision->has_output[MR__VISION_OUT_COMPRESSED])
        status = put_compressed(&work);
    if (!status)
        status = put_pictures(&work);
    mr__free(work.heat);
    return status;
}
