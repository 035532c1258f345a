/* SPDX-License-Identifier: MIT */
/*
 * The 13 texture planes of RGB images of one size in one pass: what they are is in
 * src/vision/vision_model.h.
 *
 * vision_textures_T  image[height][width][3] -> textures[13][height][width], for each of `images`, which
 *                    are their steps apart. `linear` is the linear light of each value that T can hold. A
 *                    group is a tile of 8 rows of at most 128 columns: launch with count = images *
 *                    ceil(width / 128) * ceil(height / 8), in blocks of 128 threads.
 *
 * Differences come in pairs that a mirrored image only exchanges, so that its planes are mirrored
 * exactly.
 */
#include <millrace/portable.h>

#define TILE_COLUMNS 128
#define TILE_ROWS 8
#define STRIDE (TILE_COLUMNS + 2)

#define LANES(x, count) for (uint32_t x = mr_group_lane(); x < (count); x += mr_group_lane_count())

/* The matrix of IEC 61966-2-1, each row over its sum; what green lacks of 1. */
#define X_RED (0.4124f / 0.9505f)
#define X_BLUE (0.1805f / 0.9505f)
#define Z_RED (0.0193f / 1.089f)
#define Z_BLUE (0.9505f / 1.089f)

/* X, Y and Z over those of white, from green and how far red and blue are from it: all equal for
 * grey, and exactly 1 for white. */
MR_FUNCTION float mixed(float red, float green, float blue, float red_part, float blue_part)
{
    return green + red_part * (red - green) + blue_part * (blue - green);
}

MR_FUNCTION float luminance_of(float red, float green, float blue)
{
    return mixed(red, green, blue, 0.2126f, 0.0722f);
}

/* The curve of CIE 1976. The inverse cube root by two steps of third order from a guess in the bits;
 * within 2.5e-7 of the true root. */
MR_FUNCTION float lab_curve(float t)
{
    union {
        float number;
        uint32_t bits;
    } guess;
    guess.number = t;
    guess.bits = 0x54a2fa8cu - guess.bits / 3;
    float inverse = guess.number;
    float error = 1.0f - t * inverse * inverse * inverse;
    inverse = inverse + inverse * error * (0.33333333f + error * 0.22222222f);
    error = 1.0f - t * inverse * inverse * inverse;
    inverse = inverse + inverse * error * (0.33333333f + error * 0.22222222f);
    const float root = t * inverse * inverse;
    const float line = t * 7.7870370f + 0.13793103f;
    return t > 0.0088564517f ? root : line;
}

/* What the middle of 3 x 3 luminances gives. */
MR_FUNCTION float sobel_x(const float *middle)
{
    const float above = middle[1 - STRIDE] - middle[-1 - STRIDE];
    const float here = middle[1] - middle[-1];
    const float below = middle[1 + STRIDE] - middle[-1 + STRIDE];
    return ((above + below) + 2.0f * here) * 0.25f;
}

MR_FUNCTION float sobel_y(const float *middle)
{
    const float left = middle[STRIDE - 1] - middle[-STRIDE - 1];
    const float here = middle[STRIDE] - middle[-STRIDE];
    const float right = middle[STRIDE + 1] - middle[-STRIDE + 1];
    return ((left + right) + 2.0f * here) * 0.25f;
}

/* A tile's planes: `source` its first pixel, `light` the luminance there, `target` its place in the
 * first plane; `across` and `down` twice the distance from the image's centre. */
#if MR_ON_GPU

/* A lane goes down its column, so that it has several loads on their way. */
#define EACH_PIXEL(x, columns, row, rows)                                                          \
    LANES (x, columns)                                                                             \
    _Pragma("unroll") for (uint32_t row = 0; row < rows; row++)

#define TILE_FUNCTION(name, type)                                                                  \
    MR_FUNCTION void pixel_##name(const type *pixel, const float *linear, const float *light,      \
                                  float *to, uint64_t plane, float dx, float dy,                   \
                                  const float *scales)                                             \
    {                                                                                              \
        const uint32_t r = pixel[0], g = pixel[1], b = pixel[2];                                   \
        const float red = linear[r], green = linear[g], blue = linear[b];                          \
        const float fx = lab_curve(mixed(red, green, blue, X_RED, X_BLUE));                        \
        const float fy = lab_curve(luminance_of(red, green, blue));                                \
        const float fz = lab_curve(mixed(red, green, blue, Z_RED, Z_BLUE));                        \
        const float edge_x = sobel_x(light), edge_y = sobel_y(light);                              \
        to[0] = (float)r * scales[0];                                                              \
        to[plane] = (float)g * scales[0];                                                          \
        to[2 * plane] = (float)b * scales[0];                                                      \
        to[3 * plane] = 1.16f * fy - 0.16f;                                                        \
        to[4 * plane] = 3.90625f * (fx - fy);                                                      \
        to[5 * plane] = 1.5625f * (fy - fz);                                                       \
        to[6 * plane] = edge_x;                                                                    \
        to[7 * plane] = edge_y;                                                                    \
        to[8 * plane] = sqrtf(edge_x * edge_x + edge_y * edge_y);                                  \
        to[9 * plane] = dx * scales[1];                                                            \
        to[10 * plane] = dy * scales[2];                                                           \
        to[11 * plane] = sqrtf(dx * dx + dy * dy) * scales[3];                                     \
        to[12 * plane] = *light;                                                                   \
    }                                                                                              \
                                                                                                   \
    MR_FUNCTION void tile_##name(const type *source, const float *linear, const float *light,      \
                                 float *target, uint64_t plane, uint32_t width, uint32_t columns,  \
                                 uint32_t rows, float across, float down, const float *scales)     \
    {                                                                                              \
        LANES (x, columns) {                                                                       \
            _Pragma("unroll 2") for (uint32_t row = 0; row < rows; row++)                          \
            {                                                                                      \
                const uint64_t at = (uint64_t)row * width + x;                                     \
                pixel_##name(source + 3 * at, linear, light + row * STRIDE + x, target + at,       \
                             plane, across + 2.0f * (float)(int32_t)x,                             \
                             down + 2.0f * (float)(int32_t)row, scales);                           \
            }                                                                                      \
        }                                                                                          \
    }

#else

#define EACH_PIXEL(x, columns, row, rows)                                                          \
    for (uint32_t row = 0; row < rows; row++)                                                      \
        LANES (x, columns)

/* Loops that compilers vectorise: one does the table look-ups, the others arithmetic, over rows that
 * surely do not overlap; planes might, for what the compiler knows. */
MR_FUNCTION void row_arithmetic(const float *red, const float *green, const float *blue,
                                const float *light, float lines[13][TILE_COLUMNS], uint32_t columns,
                                float across, float down, const float *scales)
{
    for (uint32_t x = 0; x < columns; x++) {
        const float fx = lab_curve(mixed(red[x], green[x], blue[x], X_RED, X_BLUE));
        const float fy = lab_curve(luminance_of(red[x], green[x], blue[x]));
        const float fz = lab_curve(mixed(red[x], green[x], blue[x], Z_RED, Z_BLUE));
        lines[3][x] = 1.16f * fy - 0.16f;
        lines[4][x] = 3.90625f * (fx - fy);
        lines[5][x] = 1.5625f * (fy - fz);
    }
    for (uint32_t x = 0; x < columns; x++) {
        const float edge_x = sobel_x(light + x), edge_y = sobel_y(light + x);
        lines[6][x] = edge_x;
        lines[7][x] = edge_y;
        lines[8][x] = sqrtf(edge_x * edge_x + edge_y * edge_y);
    }
    for (uint32_t x = 0; x < columns; x++) {
        const float dx = across + 2.0f * (float)(int32_t)x;
        lines[9][x] = dx * scales[1];
        lines[10][x] = down * scales[2];
        lines[11][x] = sqrtf(dx * dx + down * down) * scales[3];
        lines[12][x] = light[x];
    }
}

#define TILE_FUNCTION(name, type)                                                                  \
    MR_FUNCTION void row_##name(const type *source, const float *linear, const float *light,       \
                                float *target, uint64_t plane, uint32_t columns, float across,     \
                                float down, const float *scales)                                   \
    {                                                                                              \
        float lines[13][TILE_COLUMNS], rgb[3][TILE_COLUMNS];                                       \
        for (uint32_t x = 0; x < columns; x++)                                                     \
            for (uint32_t channel = 0; channel < 3; channel++) {                                   \
                const uint32_t value = source[3 * x + channel];                                    \
                rgb[channel][x] = linear[value];                                                   \
                lines[channel][x] = (float)(int32_t)value * scales[0];                             \
            }                                                                                      \
        row_arithmetic(rgb[0], rgb[1], rgb[2], light, lines, columns, across, down, scales);       \
        for (uint32_t channel = 0; channel < 13; channel++)                                        \
            for (uint32_t x = 0; x < columns; x++)                                                 \
                target[channel * plane + x] = lines[channel][x];                                   \
    }                                                                                              \
                                                                                                   \
    MR_FUNCTION void tile_##name(const type *source, const float *linear, const float *light,      \
                                 float *target, uint64_t plane, uint32_t width, uint32_t columns,  \
                                 uint32_t rows, float across, float down, const float *scales)     \
    {                                                                                              \
        for (uint32_t row = 0; row < rows; row++)                                                  \
            row_##name(source + 3 * (uint64_t)row * width, linear, light + row * STRIDE,           \
                       target + (uint64_t)row * width, plane, columns, across,                     \
                       down + 2.0f * (float)(int32_t)row, scales);                                 \
    }

#endif

#define TEXTURES(name, type, limit)                                                                \
    MR_FUNCTION float light_##name(const type *pixel, const float *linear)                         \
    {                                                                                              \
        return luminance_of(linear[pixel[0]], linear[pixel[1]], linear[pixel[2]]);                 \
    }                                                                                              \
                                                                                                   \
    /* The luminance of a tile and what is around it, borders repeated. */                         \
    MR_FUNCTION void lights_##name(const type *image, const float *linear, float *light,           \
                                   uint32_t left, uint32_t top, uint32_t columns, uint32_t width,  \
                                   uint32_t height)                                                \
    {                                                                                              \
        const uint32_t before = left ? left - 1 : 0;                                               \
        const uint32_t behind = left + columns < width ? left + columns : width - 1;               \
        EACH_PIXEL (x, columns, row, TILE_ROWS + 2) {                                              \
            const uint32_t below = top + row ? top + row - 1 : 0;                                  \
            const uint32_t y = MR_MIN(below, height - 1);                                          \
            const uint64_t at = (uint64_t)y * width + left + x;                                    \
            light[row * STRIDE + x + 1] = light_##name(image + 3 * at, linear);                    \
        }                                                                                          \
        LANES (k, 2 * (TILE_ROWS + 2)) {                                                           \
            const uint32_t row = k / 2, below = top + row ? top + row - 1 : 0;                     \
            const uint32_t y = MR_MIN(below, height - 1);                                          \
            const type *line = image + 3 * (uint64_t)y * width;                                    \
            light[row * STRIDE + (k % 2 ? columns + 1 : 0)] =                                      \
                light_##name(line + 3 * (uint64_t)(k % 2 ? behind : before), linear);              \
        }                                                                                          \
    }                                                                                              \
                                                                                                   \
    TILE_FUNCTION(name, type)                                                                      \
                                                                                                   \
    MR_GROUP_KERNEL(vision_textures_##name, MR_IN(type, image), MR_IN(float, linear),              \
                    MR_OUT(float, textures), MR_VALUE(uint32_t, width),                            \
                    MR_VALUE(uint32_t, height), MR_VALUE(uint32_t, images),                        \
                    MR_VALUE(uint64_t, image_step), MR_VALUE(uint64_t, textures_step))             \
    {                                                                                              \
        MR_GROUP_SHARED(float, light, (TILE_ROWS + 2) * STRIDE);                                   \
        const uint32_t across = (width + TILE_COLUMNS - 1) / TILE_COLUMNS;                         \
        const uint32_t share = across ? (width + across - 1) / across : 0;                         \
        const uint32_t tiles = across * ((height + TILE_ROWS - 1) / TILE_ROWS);                    \
        const uint64_t plane = (uint64_t)width * height;                                           \
        const float w = (float)(int32_t)width, h = (float)(int32_t)height;                         \
        const float scales[4] = { 1.0f / limit, 1.0f / w, 1.0f / h, 1.0f / sqrtf(w * w + h * h) }; \
        MR_GROUP_EACH (group, (uint64_t)images * tiles) {                                          \
            const uint32_t number = (uint32_t)group / tiles;                                       \
            const uint32_t tile = (uint32_t)group - number * tiles, row = tile / across;           \
            const uint32_t left = (tile - row * across) * share, top = row * TILE_ROWS;            \
            const type *source = image + number * image_step;                                      \
            float *target = textures + number * textures_step;                                     \
            const uint32_t right = MR_MIN(left + share, width);                                    \
            const uint32_t columns = left < right ? right - left : 0;                              \
            lights_##name(source, linear, light, left, top, columns, width, height);               \
            mr_group_sync();                                                                       \
            const uint32_t below = height - top, rows = MR_MIN(below, TILE_ROWS);                  \
            const uint64_t at = (uint64_t)top * width + left;                                      \
            tile_##name(source + 3 * at, linear, light + STRIDE + 1, target + at, plane, width,    \
                        columns, rows, (float)(int32_t)(2 * left + 1 - width),                     \
                        (float)(int32_t)(2 * top + 1 - height), scales);                           \
            mr_group_sync();                                                                       \
        }                                                                                          \
    }

TEXTURES(u8, uint8_t, 255.0f)
TEXTURES(u16, uint16_t, 65535.0f)
