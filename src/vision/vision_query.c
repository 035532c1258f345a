/* SPDX-License-Identifier: MIT */
/*
 * Queries: the colour words, and descriptors from images and numbers.
 */
#include "base/alloc.h"
#include "vision/vision_parts.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <strings.h>

/* ---- words ---- */

/* Stored sRGB. The basic terms first, in the order of a descriptor: one colour near the middle of
 * what is called so. Then the rest of CSS's 16 basic colours, and other spellings. */
static const struct colour_word {
    const char *word;
    uint8_t rgb[3];
} words[] = {
    { "black", { 0, 0, 0 } },        { "grey", { 128, 128, 128 } },  { "white", { 255, 255, 255 } },
    { "red", { 215, 20, 25 } },      { "orange", { 250, 130, 10 } }, { "yellow", { 250, 220, 20 } },
    { "green", { 30, 150, 50 } },    { "blue", { 20, 70, 200 } },    { "purple", { 125, 35, 150 } },
    { "pink", { 250, 160, 185 } },   { "brown", { 120, 70, 30 } },   { "gray", { 128, 128, 128 } },
    { "silver", { 192, 192, 192 } }, { "maroon", { 128, 0, 0 } },    { "fuchsia", { 255, 0, 255 } },
    { "lime", { 0, 255, 0 } },       { "olive", { 128, 128, 0 } },   { "navy", { 0, 0, 128 } },
    { "teal", { 0, 128, 128 } },     { "aqua", { 0, 255, 255 } },
};
enum { WORD_COUNT = sizeof words / sizeof *words };

const char *mr__vision_query_word(uint32_t index)
{
    return index < WORD_COUNT ? words[index].word : NULL;
}

void mr__vision_colour_lab(uint32_t colour, double lab[3])
{
    const uint8_t *rgb = words[colour].rgb;
    mr__vision_lab(mr__vision_linear(rgb[0] / 255.0), mr__vision_linear(rgb[1] / 255.0),
                   mr__vision_linear(rgb[2] / 255.0), lab);
}

/* Letters to change, add or leave out. */
static size_t word_distance(const char *a, const char *b)
{
    enum { LIMIT = 16 };
    size_t row[LIMIT + 1];
    const size_t length = strlen(b);
    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 0; a[i]; i++) {
        size_t corner = row[0];
        row[0] = i + 1;
        for (size_t j = 1; j <= length; j++) {
            const size_t change = corner + (strncasecmp(&a[i], &b[j - 1], 1) != 0);
            corner = row[j];
            const size_t step = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = change < step ? change : step;
        }
    }
    return row[length];
}

static const char *nearest_word(const char *word)
{
    const char *nearest = words[0].word;
    for (uint32_t i = 1; i < WORD_COUNT; i++)
        if (word_distance(word, words[i].word) < word_distance(word, nearest))
            nearest = words[i].word;
    return nearest;
}

mr_status mr__vision_query_from_word(const char *word, struct mr__vision_query *out)
{
    *out = (struct mr__vision_query){ 0 };
    uint32_t colour = 0;
    while (colour < WORD_COUNT && strcasecmp(words[colour].word, word) != 0)
        colour++;
    if (colour == WORD_COUNT)
        return mr_error_set(MR_E_INVALID, "'%.40s' is no colour word; the nearest is '%s'", word,
                            nearest_word(word));

    double lab[3], shares[MR__VISION_COLOURS];
    mr__vision_colour_lab(colour, lab);
    mr__vision_colour_shares(lab, shares);
    out->is_set = true;
    for (uint32_t k = 0; k < MR__VISION_COLOURS; k++) {
        out->vector[k] = (float)shares[k];
        out->weights[k] = 1;
    }
    return MR_OK;
}

/* ---- images ---- */

static void crop(const struct mr__vision_image *image, uint32_t x, uint32_t y, uint32_t width,
                 uint32_t height, uint8_t *target)
{
    const size_t pixel = 3 * (size_t)image->channel_bytes;
    for (uint32_t row = 0; row < height; row++)
        memcpy(target + row * width * pixel,
               (const uint8_t *)image->pixels + (((size_t)y + row) * image->width + x) * pixel,
               width * pixel);
}

static mr_status describe(const struct mr__vision_plan *plan, const uint8_t *pixels,
                          struct mr__vision_query *out)
{
    float *textures = mr__zalloc(plan->textures_bytes);
    if (!textures)
        return mr_error_set(MR_E_NO_MEMORY, "query: out of memory for %zu bytes of textures",
                            plan->textures_bytes);
    double descriptor[MR__VISION_DESCRIPTOR];
    mr__vision_reference_textures(plan, pixels, textures);
    mr__vision_reference_descriptor(plan, textures, 0, descriptor);
    mr__free(textures);
    out->is_set = true;
    for (uint32_t k = 0; k < MR__VISION_DESCRIPTOR; k++) {
        out->vector[k] = (float)descriptor[k];
        out->weights[k] = 1;
    }
    return MR_OK;
}

mr_status mr__vision_query_from_image(const struct mr__vision_image *image, uint32_t x, uint32_t y,
                                      uint32_t width, uint32_t height, struct mr__vision_query *out)
{
    *out = (struct mr__vision_query){ 0 };
    if (width == 0 && height == 0 && x == 0 && y == 0) {
        width = image->width;
        height = image->height;
    }
    if (width == 0 || height == 0 || (uint64_t)x + width > image->width ||
        (uint64_t)y + height > image->height)
        return mr_error_set(MR_E_INVALID,
                            "query: %" PRIu32 " x %" PRIu32 " pixels from (%" PRIu32 ", %" PRIu32
                            ") are not within an image of %" PRIu32 " x %" PRIu32,
                            width, height, x, y, image->width, image->height);

    const struct mr__vision_parameters whole = {
        .columns = 1, .rows = 1, .budget = 1, .least = 1, .most = 1
    };
    struct mr__vision_plan plan;
    mr_status status = mr__vision_plan(&whole, width, height, image->channel_bytes, &plan);
    if (status)
        return mr_error_prefix(status, "query: ");
    uint8_t *pixels = mr__zalloc(plan.image_bytes);
    if (!pixels)
        return mr_error_set(MR_E_NO_MEMORY, "query: out of memory for %zu bytes of its image",
                            plan.image_bytes);
    crop(image, x, y, width, height, pixels);
    status = describe(&plan, pixels, out);
    mr__free(pixels);
    return status;
}

/* ---- numbers ---- */

mr_status mr__vision_query_from_numbers(const float *numbers, size_t count,
                                        struct mr__vision_query *out)
{
    enum { SIZE = MR__VISION_DESCRIPTOR };
    *out = (struct mr__vision_query){ 0 };
    if (count != SIZE && count != 2 * SIZE)
        return mr_error_set(MR_E_INVALID,
                            "query: %zu numbers; a descriptor has %d, or as many weights behind "
                            "them",
                            count, SIZE);
    struct mr__vision_query query = { .is_set = true };
    double weight = 0;
    for (size_t k = 0; k < SIZE; k++) {
        query.vector[k] = numbers[k];
        query.weights[k] = count > SIZE ? numbers[SIZE + k] : 1;
        if (!(fabsf(query.vector[k]) <= 1e6f))
            return mr_error_set(MR_E_INVALID, "query: number %zu is %g; from -1e6 to 1e6", k + 1,
                                (double)query.vector[k]);
        if (!(query.weights[k] >= 0 && query.weights[k] <= 1e6f))
            return mr_error_set(MR_E_INVALID, "query: weight %zu is %g; from 0 to 1e6", k + 1,
                                (double)query.weights[k]);
        weight += fabs((double)query.vector[k]) * query.weights[k];
    }
    if (weight == 0)
        return mr_error_set(MR_E_INVALID, "query: no number that is not 0 weighs anything");
    *out = query;
    return MR_OK;
}
