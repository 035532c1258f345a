/* SPDX-License-Identifier: MIT */
/*
 * The vision job's numbers once more, on one thread and in double precision, written to be read.
 * What the devices compute is held against these.
 */
#include "vision/vision_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- colour ---- */

double mr__vision_linear(double stored)
{
    return stored <= 0.04045 ? stored / 12.92 : pow((stored + 0.055) / 1.055, 2.4);
}

static double lab_curve(double t)
{
    const double knee = 6.0 / 29;
    return t > knee * knee * knee ? cbrt(t) : t / (3 * knee * knee) + 4.0 / 29;
}

void mr__vision_lab(double red, double green, double blue, double lab[3])
{
    const double x_sum = 0.4124 + 0.3576 + 0.1805, z_sum = 0.0193 + 0.1192 + 0.9505;
    const double x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / x_sum;
    const double y = 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    const double z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / z_sum;
    lab[0] = (116 * lab_curve(y) - 16) / 100;
    lab[1] = 500 * (lab_curve(x) - lab_curve(y)) / 128;
    lab[2] = 200 * (lab_curve(y) - lab_curve(z)) / 128;
}

/* CIE 1976, over 100, of differences in L / 100, a / 128 and b / 128. */
static double colour_length(double l, double a, double b)
{
    return sqrt(l * l + 1.28 * 1.28 * (a * a + b * b));
}

void mr__vision_colour_shares(const double lab[3], double shares[MR__VISION_COLOURS])
{
    double distances[MR__VISION_COLOURS], nearest = INFINITY, sum = 0;
    for (uint32_t k = 0; k < MR__VISION_COLOURS; k++) {
        double term[3];
        mr__vision_colour_lab(k, term);
        distances[k] = colour_length(lab[0] - term[0], lab[1] - term[1], lab[2] - term[2]);
        nearest = fmin(nearest, distances[k]);
    }
    /* Only proportions matter: the nearest is 1. */
    const double scale = 1 / (2 * MR__VISION_COLOUR_SPREAD * MR__VISION_COLOUR_SPREAD);
    for (uint32_t k = 0; k < MR__VISION_COLOURS; k++) {
        shares[k] = exp((nearest * nearest - distances[k] * distances[k]) * scale);
        sum += shares[k];
    }
    for (uint32_t k = 0; k < MR__VISION_COLOURS; k++)
        shares[k] /= sum;
}

/* ---- textures ---- */

static double stored_value(const struct mr__vision_plan *plan, const void *pixels, size_t i)
{
    if (plan->channel_bytes == 1)
        return ((const uint8_t *)pixels)[i] / 255.0;
    return ((const uint16_t *)pixels)[i] / 65535.0;
}

/* Planes that need one pixel only: all but the Sobel ones. */
static void texture_pixel(const struct mr__vision_plan *plan, const void *pixels, uint32_t x,
                          uint32_t y, float *textures)
{
    const size_t plane = (size_t)plan->width * plan->height, at = (size_t)y * plan->width + x;
    const double width = plan->width, height = plan->height;
    const double across = 2.0 * x + 1 - width, down = 2.0 * y + 1 - height;
    double rgb[3], lab[3];
    for (uint32_t channel = 0; channel < 3; channel++) {
        const double stored = stored_value(plan, pixels, 3 * at + channel);
        rgb[channel] = mr__vision_linear(stored);
        textures[(MR__VISION_RED + channel) * plane + at] = (float)stored;
    }
    mr__vision_lab(rgb[0], rgb[1], rgb[2], lab);
    for (uint32_t channel = 0; channel < 3; channel++)
        textures[(MR__VISION_LAB_L + channel) * plane + at] = (float)lab[channel];
    textures[MR__VISION_X * plane + at] = (float)(across / width);
    textures[MR__VISION_Y * plane + at] = (float)(down / height);
    textures[MR__VISION_ECCENTRICITY * plane + at] =
        (float)(hypot(across, down) / hypot(width, height));
    textures[MR__VISION_LUMINANCE * plane + at] =
        (float)(0.2126 * rgb[0] + 0.7152 * rgb[1] + 0.0722 * rgb[2]);
}

/* Luminance at (x + dx, y + dy), borders repeated. */
static double luminance_at(const struct mr__vision_plan *plan, const float *luminance, uint32_t x,
                           uint32_t y, int dx, int dy)
{
    const int64_t column = (int64_t)x + dx, row = (int64_t)y + dy;
    const size_t near_x = column < 0 ? 0 : column >= plan->width ? plan->width - 1 : (size_t)column;
    const size_t near_y = row < 0 ? 0 : row >= plan->height ? plan->height - 1 : (size_t)row;
    return luminance[near_y * plan->width + near_x];
}

static void texture_edges(const struct mr__vision_plan *plan, uint32_t x, uint32_t y,
                          float *textures)
{
    const size_t plane = (size_t)plan->width * plan->height, at = (size_t)y * plan->width + x;
    const float *luminance = textures + MR__VISION_LUMINANCE * plane;
    double edge_x = 0, edge_y = 0;
    for (int k = -1; k <= 1; k++) {
        const double weight = (2 - abs(k)) / 4.0;
        edge_x += weight * (luminance_at(plan, luminance, x, y, 1, k) -
                            luminance_at(plan, luminance, x, y, -1, k));
        edge_y += weight * (luminance_at(plan, luminance, x, y, k, 1) -
                            luminance_at(plan, luminance, x, y, k, -1));
    }
    textures[MR__VISION_SOBEL_X * plane + at] = (float)edge_x;
    textures[MR__VISION_SOBEL_Y * plane + at] = (float)edge_y;
    textures[MR__VISION_SOBEL * plane + at] = (float)hypot(edge_x, edge_y);
}

void mr__vision_reference_textures(const struct mr__vision_plan *plan, const void *pixels,
                                   float *textures)
{
    for (uint32_t y = 0; y < plan->height; y++)
        for (uint32_t x = 0; x < plan->width; x++)
            texture_pixel(plan, pixels, x, y, textures);
    for (uint32_t y = 0; y < plan->height; y++)
        for (uint32_t x = 0; x < plan->width; x++)
            texture_edges(plan, x, y, textures);
}

/* ---- rectangles ---- */

struct rectangle {
    uint32_t left, top, right, bottom; /* right and bottom: one past */
};

static struct rectangle part_of(const struct mr__vision_plan *plan, uint32_t column, uint32_t row,
                                uint32_t columns, uint32_t rows)
{
    return (struct rectangle){ mr__vision_border(column, plan->width, columns),
                               mr__vision_border(row, plan->height, rows),
                               mr__vision_border(column + 1, plan->width, columns),
                               mr__vision_border(row + 1, plan->height, rows) };
}

static struct rectangle patch_of(const struct mr__vision_plan *plan, uint32_t patch)
{
    return part_of(plan, patch % plan->columns, patch / plan->columns, plan->columns, plan->rows);
}

static struct rectangle cell_of(const struct mr__vision_plan *plan, uint32_t column, uint32_t row)
{
    return part_of(plan, column, row, plan->cell_columns, plan->cell_rows);
}

static uint64_t area_of(struct rectangle part)
{
    return (uint64_t)(part.right - part.left) * (part.bottom - part.top);
}

/* Sum of a plane over a rectangle; of its squares, too, where asked. */
static double sum_of(const struct mr__vision_plan *plan, const float *textures, uint32_t channel,
                     struct rectangle part, double *squares)
{
    const float *plane = textures + (size_t)channel * plan->width * plan->height;
    double sum = 0, square_sum = 0;
    for (uint32_t y = part.top; y < part.bottom; y++)
        for (uint32_t x = part.left; x < part.right; x++) {
            const double value = plane[(size_t)y * plan->width + x];
            sum += value;
            square_sum += value * value;
        }
    if (squares)
        *squares = square_sum;
    return sum;
}

/* ---- propositional ---- */

/* In bits. */
static double entropy(const uint32_t *bins, double total)
{
    double bits = 0;
    for (uint32_t k = 0; k < MR__VISION_BINS; k++)
        if (bins[k])
            bits -= bins[k] / total * log2(bins[k] / total);
    return bits;
}

/* The upper 8 bits. */
static uint32_t byte_of(const struct mr__vision_plan *plan, const void *pixels, size_t i)
{
    return plan->channel_bytes == 1 ? ((const uint8_t *)pixels)[i]
                                    : ((const uint16_t *)pixels)[i] >> 8;
}

void mr__vision_reference_propositional(const struct mr__vision_plan *plan, const void *pixels,
                                        float *score)
{
    for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
        const struct rectangle part = patch_of(plan, patch);
        uint32_t luminance[MR__VISION_BINS] = { 0 }, colour[MR__VISION_BINS] = { 0 };
        for (uint32_t y = part.top; y < part.bottom; y++)
            for (uint32_t x = part.left; x < part.right; x++) {
                const size_t at = 3 * ((size_t)y * plan->width + x);
                const uint32_t red = byte_of(plan, pixels, at);
                const uint32_t green = byte_of(plan, pixels, at + 1);
                const uint32_t blue = byte_of(plan, pixels, at + 2);
                luminance[(54 * red + 183 * green + 19 * blue) / 1024]++;
                colour[red / 64 * 16 + green / 64 * 4 + blue / 64]++;
            }
        const double total = (double)area_of(part);
        score[patch] = (float)((entropy(luminance, total) + entropy(colour, total)) / 12);
    }
}

/* ---- perspectival ---- */

static const uint32_t contrast_channels[MR__VISION_CONTRAST_SUMS] = {
    MR__VISION_LAB_L, MR__VISION_LAB_A, MR__VISION_LAB_B, MR__VISION_SOBEL
};

/* Cells (column - reach) to (column + reach), as far as there are such, as one rectangle. */
static struct rectangle around(const struct mr__vision_plan *plan, uint32_t column, uint32_t row,
                               uint32_t reach)
{
    const uint32_t left = column < reach ? 0 : column - reach, top = row < reach ? 0 : row - reach;
    const uint32_t right =
        column + reach < plan->cell_columns ? column + reach : plan->cell_columns - 1;
    const uint32_t bottom = row + reach < plan->cell_rows ? row + reach : plan->cell_rows - 1;
    const struct rectangle first = cell_of(plan, left, top), last = cell_of(plan, right, bottom);
    return (struct rectangle){ first.left, first.top, last.right, last.bottom };
}

/* Of one cell against the box around it. */
static double contrast(const struct mr__vision_plan *plan, const float *textures, uint32_t column,
                       uint32_t row, uint32_t reach)
{
    const struct rectangle cell = cell_of(plan, column, row);
    const struct rectangle box = around(plan, column, row, reach);
    const double inside = (double)area_of(cell), outside = (double)area_of(box) - inside;
    double difference[MR__VISION_CONTRAST_SUMS];
    if (inside == 0 || outside == 0)
        return 0;
    for (uint32_t k = 0; k < MR__VISION_CONTRAST_SUMS; k++) {
        const double own = sum_of(plan, textures, contrast_channels[k], cell, NULL);
        const double all = sum_of(plan, textures, contrast_channels[k], box, NULL);
        difference[k] = own / inside - (all - own) / outside;
    }
    return colour_length(difference[0], difference[1], difference[2]) + fabs(difference[3]);
}

void mr__vision_reference_perspectival(const struct mr__vision_plan *plan, const float *textures,
                                       float *score)
{
    double greatest = MR__VISION_CONTRAST_FLOOR;
    for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
        const uint32_t first_column = patch % plan->columns * MR__VISION_CELLS;
        const uint32_t first_row = patch / plan->columns * MR__VISION_CELLS;
        double sum = 0;
        for (uint32_t cell = 0; cell < MR__VISION_CELLS * MR__VISION_CELLS; cell++) {
            const uint32_t column = first_column + cell % MR__VISION_CELLS;
            const uint32_t row = first_row + cell / MR__VISION_CELLS;
            const double weight = (double)area_of(cell_of(plan, column, row));
            for (uint32_t reach = 1; reach <= 4; reach *= 2)
                sum += weight * contrast(plan, textures, column, row, reach);
        }
        score[patch] = (float)(sum / (3 * (double)area_of(patch_of(plan, patch))));
        greatest = fmax(greatest, score[patch]);
    }
    for (uint32_t patch = 0; patch < plan->patch_count; patch++)
        score[patch] = (float)(score[patch] / greatest);
}

/* ---- participatory ---- */

/* How much of the patch is which colour. */
static void describe_colours(const struct mr__vision_plan *plan, const float *textures,
                             uint32_t patch, double *colours)
{
    const double total = (double)area_of(patch_of(plan, patch));
    for (uint32_t cell = 0; cell < MR__VISION_CELLS * MR__VISION_CELLS; cell++) {
        const struct rectangle part =
            cell_of(plan, patch % plan->columns * MR__VISION_CELLS + cell % MR__VISION_CELLS,
                    patch / plan->columns * MR__VISION_CELLS + cell / MR__VISION_CELLS);
        const double area = (double)area_of(part);
        double lab[3], shares[MR__VISION_COLOURS];
        if (area == 0)
            continue;
        for (uint32_t k = 0; k < 3; k++)
            lab[k] = sum_of(plan, textures, MR__VISION_LAB_L + k, part, NULL) / area;
        mr__vision_colour_shares(lab, shares);
        for (uint32_t k = 0; k < MR__VISION_COLOURS; k++)
            colours[k] += shares[k] * area / total;
    }
}

/* 0 to 7: the orientation nearest to that of the gradient, modulo half a turn. */
static uint32_t orientation(double x, double y)
{
    const double turns = atan2(y, x) / acos(-1);
    return (uint32_t)lrint(8 * turns + 8) % 8;
}

static void describe_orientations(const struct mr__vision_plan *plan, const float *textures,
                                  struct rectangle part, double *parts)
{
    const size_t plane = (size_t)plan->width * plan->height;
    for (uint32_t y = part.top; y < part.bottom; y++)
        for (uint32_t x = part.left; x < part.right; x++) {
            const float *at = textures + (size_t)y * plan->width + x;
            parts[orientation(at[MR__VISION_SOBEL_X * plane], at[MR__VISION_SOBEL_Y * plane])] +=
                at[MR__VISION_SOBEL * plane];
        }
}

void mr__vision_reference_descriptor(const struct mr__vision_plan *plan, const float *textures,
                                     uint32_t patch, double descriptor[MR__VISION_DESCRIPTOR])
{
    const struct rectangle part = patch_of(plan, patch);
    const double total = (double)area_of(part);
    memset(descriptor, 0, MR__VISION_DESCRIPTOR * sizeof *descriptor);
    describe_colours(plan, textures, patch, descriptor);
    for (uint32_t k = 0; k < 3; k++) {
        double squares;
        const double mean = sum_of(plan, textures, MR__VISION_LAB_L + k, part, &squares) / total;
        if (k == 0)
            descriptor[MR__VISION_COLOURS] = mean;
        descriptor[12 + k] = 2 * sqrt(fmax(squares / total - mean * mean, 0));
    }
    double parts[8] = { 0 }, sum = 0;
    describe_orientations(plan, textures, part, parts);
    for (uint32_t k = 0; k < 8; k++)
        sum += parts[k];
    descriptor[15] = fmin(4 * sum / total, 1);
    for (uint32_t k = 0; k < 8 && sum > 0; k++)
        descriptor[16 + k] = descriptor[15] * parts[k] / sum;
}

void mr__vision_reference_participatory(const struct mr__vision_plan *plan,
                                        const struct mr__vision_query *query, const float *textures,
                                        float *score)
{
    for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
        double descriptor[MR__VISION_DESCRIPTOR], product = 0, own = 0, other = 0;
        mr__vision_reference_descriptor(plan, textures, patch, descriptor);
        for (uint32_t k = 0; k < MR__VISION_DESCRIPTOR; k++) {
            const double a = descriptor[k] * query->weights[k];
            const double b = (double)query->vector[k] * query->weights[k];
            product += a * b;
            own += a * a;
            other += b * b;
        }
        const double length = sqrt(own) * sqrt(other);
        const bool is_like = query->is_set && product > 0 && length > 0;
        score[patch] = is_like ? (float)fmin(product / length, 1) : 0;
    }
}

/* ---- relevance ---- */

static double pull(double difference)
{
    return 2 / (1 + exp(-4 * difference)) - 1;
}

static double base_of(const struct mr__vision_parameters *parameters, const float *scores,
                      uint32_t count, uint32_t patch)
{
    double sum = 0, weights = 0;
    for (uint32_t k = 0; k < 3; k++) {
        const double weight = k == 2 && !parameters->query.is_set ? 0 : parameters->weights[k];
        sum += weight * scores[k * count + patch];
        weights += weight;
    }
    return weights > 0 ? sum / weights : 0;
}

void mr__vision_reference_relevance(const struct mr__vision_plan *plan,
                                    const struct mr__vision_parameters *parameters, float *scores)
{
    const uint32_t count = plan->patch_count;
    const float *tensions = parameters->tensions;
    float *relevance = scores + MR__VISION_RELEVANCE * count;
    double mean = 0, greatest = -INFINITY;
    for (uint32_t patch = 0; patch < count; patch++)
        mean += base_of(parameters, scores, count, patch) / count;
    for (int is_second = 0; is_second <= 1; is_second++)
        for (uint32_t patch = 0; patch < count; patch++) {
            const double p = scores[patch], s = scores[count + patch];
            const double q = scores[2 * count + patch];
            double z = base_of(parameters, scores, count, patch);
            z += tensions[MR__VISION_FOCUS] * pull(z - mean);
            z += tensions[MR__VISION_COMPRESS] * pull(s - p);
            if (parameters->query.is_set)
                z += tensions[MR__VISION_EXPLOIT] * pull(q - (p + s) / 2);
            if (is_second)
                relevance[patch] = (float)exp((z - greatest) / parameters->temperature);
            else
                greatest = fmax(greatest, z);
        }
}

/* ---- tokens ---- */

static uint64_t weight_of(float relevance)
{
    const double bounded = relevance > 0 ? relevance < 1 ? relevance : 1 : 0;
    return 1 + (uint64_t)rint(bounded * 16777216);
}

/* Shares what is above the least among the patches that are not full, as if tokens could be cut, and
 * fills those whose share would pass the most: until none does. */
static void fill_full(const struct mr__vision_plan *plan, const float *relevance, uint32_t *tokens,
                      uint64_t *left, uint64_t *weights)
{
    const uint64_t room = plan->most - plan->least;
    for (bool is_changed = true; is_changed;) {
        is_changed = false;
        const uint64_t share = *left, sum = *weights;
        for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
            const uint64_t weight = weight_of(relevance[patch]);
            if (tokens[patch] == plan->most || share * weight < room * sum)
                continue;
            tokens[patch] = plan->most;
            *left -= room;
            *weights -= weight;
            is_changed = true;
        }
    }
}

void mr__vision_reference_tokens(const struct mr__vision_plan *plan, const float *relevance,
                                 uint32_t *tokens)
{
    uint64_t left = plan->budget - (uint64_t)plan->patch_count * plan->least, weights = 0;
    for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
        tokens[patch] = plan->least;
        weights += weight_of(relevance[patch]);
    }
    if (plan->least == plan->most)
        return;
    fill_full(plan, relevance, tokens, &left, &weights);

    uint64_t rest = left;
    for (uint32_t patch = 0; patch < plan->patch_count; patch++)
        if (tokens[patch] != plan->most) {
            const uint64_t whole = left * weight_of(relevance[patch]) / weights;
            tokens[patch] += (uint32_t)whole;
            rest -= whole;
        }
    for (uint64_t bound = UINT64_MAX; rest > 0;) {
        /* The largest remainder below those that are served already. */
        uint64_t largest = 0;
        for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
            const uint64_t remainder = left * weight_of(relevance[patch]) % weights;
            if (tokens[patch] != plan->most && remainder < bound && remainder > largest)
                largest = remainder;
        }
        for (uint32_t patch = 0; patch < plan->patch_count && rest > 0; patch++)
            if (tokens[patch] != plan->most &&
                left * weight_of(relevance[patch]) % weights == largest) {
                tokens[patch]++;
                rest--;
            }
        bound = largest;
    }
}

/* ---- compressed ---- */

static void compress_patch(const struct mr__vision_plan *plan, const float *textures,
                           uint32_t patch, uint32_t columns, uint32_t rows, float *target)
{
    const struct rectangle part = patch_of(plan, patch);
    const uint32_t width = part.right - part.left, height = part.bottom - part.top;
    for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++)
        for (uint32_t row = 0; row < rows; row++)
            for (uint32_t column = 0; column < columns; column++) {
                const struct rectangle box = {
                    part.left + mr__vision_border(column, width, columns),
                    part.top + mr__vision_border(row, height, rows),
                    part.left + mr__vision_border(column + 1, width, columns),
                    part.top + mr__vision_border(row + 1, height, rows)
                };
                *target++ =
                    (float)(sum_of(plan, textures, channel, box, NULL) / (double)area_of(box));
            }
}

void mr__vision_reference_compress(const struct mr__vision_plan *plan, const float *textures,
                                   void *result)
{
    char *block = result;
    const uint32_t *tokens = (const uint32_t *)(block + plan->tokens_offset);
    uint32_t *columns = (uint32_t *)(block + plan->box_columns_offset);
    uint32_t *rows = (uint32_t *)(block + plan->box_rows_offset);
    uint32_t *first = (uint32_t *)(block + plan->box_first_offset);
    float *compressed = (float *)(block + plan->compressed_offset);
    first[0] = 0;
    for (uint32_t patch = 0; patch < plan->patch_count; patch++) {
        const struct rectangle part = patch_of(plan, patch);
        mr__vision_grid(part.right - part.left, part.bottom - part.top, 1, tokens[patch],
                        &columns[patch], &rows[patch]);
        first[patch + 1] = first[patch] + columns[patch] * rows[patch];
        compress_patch(plan, textures, patch, columns[patch], rows[patch],
                       compressed + (size_t)MR__VISION_CHANNELS * first[patch]);
    }
}

/* ---- all ---- */

void mr__vision_reference(const struct mr__vision_plan *plan,
                          const struct mr__vision_parameters *parameters, const void *pixels,
                          float *textures, void *result)
{
    float *scores = (float *)((char *)result + plan->scores_offset);
    mr__vision_reference_textures(plan, pixels, textures);
    mr__vision_reference_propositional(plan, pixels, scores);
    mr__vision_reference_perspectival(plan, textures, scores + plan->patch_count);
    mr__vision_reference_participatory(plan, &parameters->query, textures,
                                       scores + (size_t)2 * plan->patch_count);
    mr__vision_reference_relevance(plan, parameters, scores);
    mr__vision_reference_tokens(plan, scores + (size_t)MR__VISION_RELEVANCE * plan->patch_count,
                                (uint32_t *)((char *)result + plan->tokens_offset));
    mr__vision_reference_compress(plan, textures, result);
}
