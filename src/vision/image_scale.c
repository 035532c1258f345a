/* SPDX-License-Identifier: MIT */
/*
 * Area average, row by row, in whole numbers: a source pixel counts for the area that it shares with
 * the working pixel, in units in which both have whole edges, and the sum is rounded once. So the
 * result depends on nothing but the pixels.
 */
#include "base/alloc.h"
#include "vision/image_parts.h"

#include <string.h>

static struct mr__image_span span_of(uint32_t target, uint32_t source_length,
                                     uint32_t target_length)
{
    const uint64_t start = (uint64_t)target * source_length, end = start + source_length;
    struct mr__image_span span = {
        .first = (uint32_t)(start / target_length),
        .last = (uint32_t)((end - 1) / target_length),
    };
    span.first_weight = (uint32_t)((uint64_t)(span.first + 1) * target_length - start);
    span.last_weight = (uint32_t)(end - (uint64_t)span.last * target_length);
    return span;
}

mr_status mr__image_scaler_init(struct mr__image_scaler *scaler, const struct mr__image_info *info,
                                void *pixels)
{
    const bool is_turned = info->orientation >= 5;
    *scaler = (struct mr__image_scaler){
        .info = *info,
        .width = is_turned ? info->height : info->width,
        .height = is_turned ? info->width : info->height,
        .pixels = pixels,
    };
    scaler->is_scaling = scaler->width != info->file_width || scaler->height != info->file_height;
    if (!scaler->is_scaling)
        return MR_OK;
    scaler->columns = mr__zalloc_array(scaler->width, sizeof *scaler->columns);
    scaler->across = mr__zalloc_array(scaler->width, 3 * sizeof *scaler->across);
    scaler->sums = mr__zalloc_array(scaler->width, 3 * sizeof *scaler->sums);
    if (!scaler->columns || !scaler->across || !scaler->sums)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to make the image smaller");
    for (uint32_t x = 0; x < scaler->width; x++)
        scaler->columns[x] = span_of(x, info->file_width, scaler->width);
    return MR_OK;
}

void mr__image_scaler_fini(struct mr__image_scaler *scaler)
{
    mr__free(scaler->columns);
    mr__free(scaler->across);
    mr__free(scaler->sums);
}

/* ---- upright ---- */

/* Where pixel (0, y) of the stored image comes to stand, and how far on the next of its row. */
struct path {
    int64_t start, step; /* pixels */
};

static struct path path_of(const struct mr__image_scaler *scaler, uint32_t y)
{
    const int64_t width = scaler->info.width, height = scaler->info.height, row = y;
    switch (scaler->info.orientation) {
    case 2:
        return (struct path){ row * width + width - 1, -1 };
    case 3:
        return (struct path){ (height - 1 - row) * width + width - 1, -1 };
    case 4:
        return (struct path){ (height - 1 - row) * width, 1 };
    case 5:
        return (struct path){ row, width };
    case 6:
        return (struct path){ width - 1 - row, width };
    case 7:
        return (struct path){ (height - 1) * width + width - 1 - row, -width };
    case 8:
        return (struct path){ (height - 1) * width + row, -width };
    default:
        return (struct path){ row * width, 1 };
    }
}

static void place_row(const struct mr__image_scaler *scaler, const void *row)
{
    const struct path path = path_of(scaler, scaler->target_row);
    const size_t pixel_bytes = 3 * scaler->info.sample_bytes;
    unsigned char *target = (unsigned char *)scaler->pixels + path.start * (int64_t)pixel_bytes;
    if (path.step == 1) {
        memcpy(target, row, scaler->width * pixel_bytes);
        return;
    }
    const unsigned char *source = row;
    for (uint32_t x = 0; x < scaler->width; x++, source += pixel_bytes) {
        memcpy(target, source, pixel_bytes);
        target += path.step * (int64_t)pixel_bytes;
    }
}

/* ---- smaller ---- */

#define DEFINE_ACROSS(name, sample)                                                                \
    static void name(const struct mr__image_scaler *scaler, const sample *row)                     \
    {                                                                                              \
        for (uint32_t x = 0; x < scaler->width; x++) {                                             \
            const struct mr__image_span *span = &scaler->columns[x];                               \
            const sample *pixel = row + (size_t)span->first * 3;                                   \
            const sample *last = row + (size_t)span->last * 3;                                     \
            uint64_t *out = scaler->across + (size_t)x * 3;                                        \
            if (pixel == last) {                                                                   \
                for (int c = 0; c < 3; c++)                                                        \
                    out[c] = (uint64_t)pixel[c] * scaler->info.file_width;                         \
                continue;                                                                          \
            }                                                                                      \
            uint64_t inner[3] = { 0 };                                                             \
            for (const sample *next = pixel + 3; next < last; next += 3)                           \
                for (int c = 0; c < 3; c++)                                                        \
                    inner[c] += next[c];                                                           \
            for (int c = 0; c < 3; c++)                                                            \
                out[c] = (uint64_t)pixel[c] * span->first_weight + inner[c] * scaler->width +      \
                         (uint64_t)last[c] * span->last_weight;                                    \
        }                                                                                          \
    }
DEFINE_ACROSS(sum_across_u8, uint8_t)
DEFINE_ACROSS(sum_across_u16, uint16_t)

/* `sum` / `total`, rounded: a guess in floating point, put right in whole numbers. */
static uint32_t rounded(uint64_t sum, uint64_t total, double inverse)
{
    const int64_t due = (int64_t)(sum + total / 2);
    int64_t guess = (int64_t)((double)due * inverse);
    const int64_t rest = due - guess * (int64_t)total;
    if (rest < 0)
        guess--;
    else if (rest >= (int64_t)total)
        guess++;
    return (uint32_t)guess;
}

/* The finished row takes the place of the sums that it is made of, which are wider. */
static void finish_row(struct mr__image_scaler *scaler)
{
    const uint64_t total = (uint64_t)scaler->info.file_width * scaler->info.file_height;
    const double inverse = 1.0 / (double)total;
    const size_t count = (size_t)scaler->width * 3;
    unsigned char *row = (unsigned char *)scaler->sums;
    for (size_t k = 0; k < count; k++) {
        const uint32_t value = rounded(scaler->sums[k], total, inverse);
        const uint8_t narrow = (uint8_t)value;
        const uint16_t wide = (uint16_t)value;
        if (scaler->info.sample_bytes == 1)
            memcpy(row + k, &narrow, 1);
        else
            memcpy(row + 2 * k, &wide, 2);
    }
    place_row(scaler, row);
    memset(scaler->sums, 0, count * sizeof *scaler->sums);
    scaler->target_row++;
}

static void add_row(struct mr__image_scaler *scaler, uint32_t weight)
{
    const size_t count = (size_t)scaler->width * 3;
    for (size_t k = 0; k < count; k++)
        scaler->sums[k] += scaler->across[k] * weight;
}

void mr__image_scaler_put(struct mr__image_scaler *scaler, const void *row)
{
    if (!scaler->is_scaling) {
        place_row(scaler, row);
        scaler->target_row++;
        return;
    }
    if (scaler->info.sample_bytes == 1)
        sum_across_u8(scaler, row);
    else
        sum_across_u16(scaler, row);

    /* In units of 1 / height the row reaches from `start` to `start + height`; a working row ends
     * at each multiple of the file's height. */
    uint64_t start = (uint64_t)scaler->source_row * scaler->height;
    const uint64_t end = start + scaler->height;
    while (start < end) {
        const uint64_t border = (uint64_t)(scaler->target_row + 1) * scaler->info.file_height;
        const uint64_t stop = border < end ? border : end;
        add_row(scaler, (uint32_t)(stop - start));
        if (stop == border)
            finish_row(scaler);
        start = stop;
    }
    scaler->source_row++;
}
