/* SPDX-License-Identifier: MIT */
/*
 * Parameters and plans: defaults, ranges, the grid of patches, whether a budget can be met, and where
 * everything lies.
 */
#include "vision/vision_parts.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

static const char *const channel_names[] = { "red", "green",        "blue",     "L",     "a",
                                             "b",   "Sobel x",      "Sobel y",  "Sobel", "x",
                                             "y",   "eccentricity", "luminance" };
static const char *const score_names[] = { "propositional", "perspectival", "participatory",
                                           "relevance" };

const char *mr__vision_channel_name(uint32_t channel)
{
    return channel < MR__VISION_CHANNELS ? channel_names[channel] : NULL;
}

const char *mr__vision_score_name(uint32_t score)
{
    return score < MR__VISION_SCORES ? score_names[score] : NULL;
}

/* ---- parameters ---- */

/* Written so that what is not a number is outside. */
static bool is_within(float value, float low, float high)
{
    return value >= low && value <= high;
}

static mr_status check_tokens(struct mr__vision_parameters *parameters)
{
    if (parameters->budget == 0)
        parameters->budget = 4096;
    if (parameters->least == 0)
        parameters->least = parameters->most && parameters->most < 64 ? 1 : 64;
    if (parameters->most == 0)
        parameters->most = parameters->least > 400 ? parameters->least : 400;
    if (parameters->budget > MR__VISION_BUDGET_LIMIT)
        return mr_error_set(MR_E_INVALID, "budget: %" PRIu32 " tokens; at most %" PRIu32,
                            parameters->budget, MR__VISION_BUDGET_LIMIT);
    if (parameters->most > 65535)
        return mr_error_set(MR_E_INVALID, "tokens: %" PRIu32 " of a patch; at most 65535",
                            parameters->most);
    if (parameters->least > parameters->most)
        return mr_error_set(MR_E_INVALID,
                            "tokens: a patch cannot have at least %" PRIu32 " and at most %" PRIu32
                            " of them",
                            parameters->least, parameters->most);
    return MR_OK;
}

static mr_status check_grid(const struct mr__vision_parameters *parameters)
{
    const uint32_t columns = parameters->columns, rows = parameters->rows;
    if (!columns != !rows)
        return mr_error_set(MR_E_INVALID, "patches: give columns and rows, or neither");
    if ((uint64_t)columns * rows > MR__VISION_PATCH_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "patches: %" PRIu32 " x %" PRIu32 " of them; at most %d in all",
                            columns, rows, MR__VISION_PATCH_LIMIT);
    return MR_OK;
}

static mr_status check_balance(struct mr__vision_parameters *parameters)
{
    static const char *const tensions[] = { "compress", "exploit", "focus" };
    float *weights = parameters->weights;
    for (uint32_t i = 0; i < MR__VISION_TENSIONS; i++) {
        if (!is_within(weights[i], 0, 1e6f))
            return mr_error_set(MR_E_INVALID, "weights.%s: %g; from 0 to 1e6", score_names[i],
                                (double)weights[i]);
        if (!is_within(parameters->tensions[i], -1, 1))
            return mr_error_set(MR_E_INVALID, "tensions.%s: %g; from -1 to 1", tensions[i],
                                (double)parameters->tensions[i]);
    }
    if (weights[0] == 0 && weights[1] == 0 && weights[2] == 0)
        weights[0] = weights[1] = weights[2] = 1;
    if (parameters->temperature == 0)
        parameters->temperature = 0.25f;
    if (!is_within(parameters->temperature, 0.01f, 100))
        return mr_error_set(MR_E_INVALID, "temperature: %g; from 0.01 to 100",
                            (double)parameters->temperature);
    return MR_OK;
}

mr_status mr__vision_parameters_check(struct mr__vision_parameters *parameters)
{
    mr_status status = check_tokens(parameters);
    if (!status)
        status = check_grid(parameters);
    if (!status)
        status = check_balance(parameters);
    return status;
}

/* ---- grids ---- */

bool mr__vision_grid(uint32_t width, uint32_t height, uint32_t least, uint32_t limit,
                     uint32_t *columns, uint32_t *rows)
{
    uint64_t best_reach = 0, best_count = 0;
    for (uint32_t c = 1; c <= limit && c <= width; c++) {
        const uint32_t r = limit / c < height ? limit / c : height;
        const uint64_t across = (uint64_t)c * height, down = (uint64_t)r * width;
        const uint64_t reach = across < down ? across : down, count = (uint64_t)c * r;
        if (count < least || reach < best_reach || (reach == best_reach && count < best_count))
            continue;
        best_reach = reach;
        best_count = count;
        *columns = c;
        *rows = r;
    }
    return best_count > 0;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint32_t ceil_divide(uint32_t a, uint32_t b)
{
    return (a - 1) / b + 1;
}

static mr_status choose_grid(const struct mr__vision_parameters *parameters,
                             struct mr__vision_plan *plan)
{
    const uint64_t pixels = (uint64_t)plan->width * plan->height;
    const uint32_t fewest = ceil_divide(parameters->budget, parameters->most);
    const uint32_t most = (uint32_t)least_of(
        least_of(parameters->budget / parameters->least, MR__VISION_PATCH_LIMIT), pixels);
    uint32_t wanted = parameters->budget / 128;
    wanted = wanted < fewest ? fewest : wanted;
    wanted = wanted > most ? most : wanted;
    if (fewest <= most &&
        (mr__vision_grid(plan->width, plan->height, fewest, wanted, &plan->columns, &plan->rows) ||
         mr__vision_grid(plan->width, plan->height, fewest, most, &plan->columns, &plan->rows)))
        return MR_OK;
    return mr_error_set(
        MR_E_INVALID,
        "budget: %" PRIu32 " tokens of %" PRIu32 " to %" PRIu32 " a patch need %" PRIu32
        " patches at least, and %" PRIu32 " x %" PRIu32 " pixels can be cut into %" PRIu64
        " of %" PRIu32 " tokens at most: give a budget of %" PRIu32 " to %" PRIu64,
        parameters->budget, parameters->least, parameters->most, fewest, plan->width, plan->height,
        least_of(pixels, MR__VISION_PATCH_LIMIT), parameters->most, parameters->least,
        least_of(pixels, MR__VISION_PATCH_LIMIT) * parameters->most);
}

static mr_status take_grid(const struct mr__vision_parameters *parameters,
                           struct mr__vision_plan *plan)
{
    plan->columns = parameters->columns;
    plan->rows = parameters->rows;
    if (plan->columns > plan->width || plan->rows > plan->height)
        return mr_error_set(MR_E_INVALID,
                            "patches: %" PRIu32 " x %" PRIu32 " of them are finer than %" PRIu32
                            " x %" PRIu32 " pixels",
                            plan->columns, plan->rows, plan->width, plan->height);
    const uint64_t count = (uint64_t)plan->columns * plan->rows;
    const uint64_t least = count * parameters->least, most = count * parameters->most;
    if (parameters->budget < least || parameters->budget > most)
        return mr_error_set(MR_E_INVALID,
                            "budget: %" PRIu32 " tokens cannot be shared by %" PRIu32 " x %" PRIu32
                            " patches of %" PRIu32 " to %" PRIu32 ": give %" PRIu64 " to %" PRIu64,
                            parameters->budget, plan->columns, plan->rows, parameters->least,
                            parameters->most, least, most);
    return MR_OK;
}

/* ---- places ---- */

/* Room for `size_bytes` behind what is taken, aligned as kernels like it. */
static size_t take(size_t *end, size_t size_bytes)
{
    const size_t begin = (*end + 255) & ~(size_t)255;
    *end = begin + size_bytes;
    return begin;
}

static void plan_result(struct mr__vision_plan *plan)
{
    const size_t pixels = (size_t)plan->width * plan->height, count = plan->patch_count;
    const size_t boxes = plan->budget;
    plan->image_bytes = pixels * 3 * plan->channel_bytes;
    plan->textures_bytes = pixels * MR__VISION_CHANNELS * sizeof(float);
    plan->scores_bytes = count * MR__VISION_SCORES * sizeof(float);
    size_t end = 0;
    plan->scores_offset = take(&end, plan->scores_bytes);
    plan->tokens_offset = take(&end, count * sizeof(uint32_t));
    plan->box_columns_offset = take(&end, count * sizeof(uint32_t));
    plan->box_rows_offset = take(&end, count * sizeof(uint32_t));
    plan->box_first_offset = take(&end, (count + 1) * sizeof(uint32_t));
    plan->compressed_offset = take(&end, boxes * MR__VISION_CHANNELS * sizeof(float));
    plan->row_first_offset = take(&end, (count + 1) * sizeof(uint32_t));
    plan->row_patch_offset = take(&end, boxes * sizeof(uint32_t));
    plan->result_bytes = end;
}

enum {
    BAND_PIXELS = 8192,     /* of a patch's histogram, in one group */
    COMPRESS_PIXELS = 16384 /* in the channels of a row of boxes, in one group */
};

static void plan_work(struct mr__vision_plan *plan)
{
    const uint32_t patch_width = ceil_divide(plan->width, plan->columns);
    const uint32_t patch_height = ceil_divide(plan->height, plan->rows);
    plan->histogram_rows = ceil_divide(BAND_PIXELS, patch_width);
    plan->histogram_bands = ceil_divide(patch_height, plan->histogram_rows);

    plan->cell_columns = MR__VISION_CELLS * plan->columns;
    plan->cell_rows = MR__VISION_CELLS * plan->rows;
    const uint32_t cell_width = ceil_divide(plan->width, plan->cell_columns);
    const uint32_t cell_height = ceil_divide(plan->height, plan->cell_rows);
    plan->piece_segments = ceil_divide(cell_width, MR__VISION_TILE_COLUMNS);
    plan->piece_bands = ceil_divide(cell_height, MR__VISION_TILE_ROWS);
    plan->pieces = plan->piece_segments * plan->piece_bands;
    const uint32_t cell_strips = ceil_divide(cell_width, MR__VISION_STRIP);
    const uint32_t fitting =
        plan->piece_segments > 1 ? 1 : MR__VISION_TILE_COLUMNS / MR__VISION_STRIP / cell_strips;
    plan->tile_columns = ceil_divide(plan->cell_columns, fitting);
    plan->tile_cells = ceil_divide(plan->cell_columns, plan->tile_columns);
    plan->tile_columns = ceil_divide(plan->cell_columns, plan->tile_cells);

    const double boxes = (double)plan->budget / plan->patch_count;
    const double rows = ceil(sqrt(boxes * patch_height / patch_width));
    const uint32_t patch_rows = (uint32_t)fmin(rows, fmin(boxes, patch_height));
    plan->likely_rows = plan->patch_count * patch_rows;
    const uint64_t row_pixels =
        (uint64_t)patch_width * patch_height / patch_rows * MR__VISION_CHANNELS;
    plan->channel_parts = (uint32_t)least_of(row_pixels / COMPRESS_PIXELS + 1, MR__VISION_CHANNELS);
}

static void plan_scratch(struct mr__vision_plan *plan)
{
    const size_t cells = (size_t)plan->cell_columns * plan->cell_rows;
    size_t end = 0;
    plan->colour_offset = take(&end, (size_t)plan->patch_count * plan->histogram_bands * 2 *
                                         MR__VISION_BINS * sizeof(uint32_t));
    plan->sums_offset = take(&end, cells * plan->pieces * MR__VISION_SUMS * sizeof(int64_t));
    plan->scratch_bytes = take(&end, 0); /* the next image's follows */
}

mr_status mr__vision_plan(const struct mr__vision_parameters *parameters, uint32_t width,
                          uint32_t height, uint32_t channel_bytes, struct mr__vision_plan *out)
{
    *out = (struct mr__vision_plan){ 0 };
    if (width == 0 || height == 0 || width > MR__VISION_SIDE_LIMIT ||
        height > MR__VISION_SIDE_LIMIT || (uint64_t)width * height > MR__VISION_PIXEL_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "an image of %" PRIu32 " x %" PRIu32 " pixels; from 1 to %d a side, "
                            "and at most %" PRIu64 " in all",
                            width, height, MR__VISION_SIDE_LIMIT, MR__VISION_PIXEL_LIMIT);
    if (channel_bytes != 1 && channel_bytes != 2)
        return mr_error_set(MR_E_INVALID, "a channel of %" PRIu32 " bytes; 1 or 2", channel_bytes);

    struct mr__vision_plan plan = { .width = width,
                                    .height = height,
                                    .channel_bytes = channel_bytes,
                                    .budget = parameters->budget,
                                    .least = parameters->least,
                                    .most = parameters->most };
    const mr_status status =
        parameters->columns ? take_grid(parameters, &plan) : choose_grid(parameters, &plan);
    if (status)
        return status;
    plan.patch_count = plan.columns * plan.rows;
    plan_result(&plan);
    plan_work(&plan);
    plan_scratch(&plan);
    *out = plan;
    return MR_OK;
}
