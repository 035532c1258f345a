/* SPDX-License-Identifier: MIT */
/*
 * What the scorers count and add up over the pixels of an image; what it means is in
 * src/vision/vision_model.h. Counts and sums are of integers, so that every device comes to the same.
 *
 * vision_histogram_T     image -> partial[patch][band][128]: pixels in each of 64 bins of luminance,
 *                        then of 64 of colour. Launch with count = columns * rows * band_count.
 * vision_contrast_sums   textures -> pieces[cell][piece][4]: L, a, b, Sobel magnitude
 * vision_query_sums      textures -> pieces[cell][piece][15]: L, a, b, their squares, magnitude, and
 *                        the magnitude by eight orientations
 *     Of values rounded to a 16384th. A group is a tile: `tile_cells` whole cells or a segment of one,
 *     at most 256 columns, of 8 rows (a band); a cell's pieces are its segments in each of its bands.
 *     Launch with count = ceil(cell_columns / tile_cells) * segments * cell_rows * bands, in blocks of
 *     256 threads.
 */
#include <millrace/portable.h>

#define BINS 64

#define LANES(x, count) for (uint32_t x = mr_group_lane(); x < (count); x += mr_group_lane_count())

#if MR_ON_GPU
#define UNROLLED _Pragma("unroll")
#else
#define UNROLLED
#endif

/* Where part `i` of `count` begins: at most 65536 parts of at most 65535 pixels, which fits. */
MR_FUNCTION uint32_t border(uint32_t i, uint32_t size, uint32_t count)
{
    return i * size / count;
}

/* ---- histograms ---- */

#define BYTE_OF_uint8_t(value) ((uint32_t)(value))
#define BYTE_OF_uint16_t(value) ((uint32_t)(value) >> 8)

MR_FUNCTION uint32_t luminance_bin(uint32_t red, uint32_t green, uint32_t blue)
{
    return (54 * red + 183 * green + 19 * blue) >> 10;
}

MR_FUNCTION uint32_t colour_bin(uint32_t red, uint32_t green, uint32_t blue)
{
    return BINS + ((red >> 6 << 4) | (green >> 6 << 2) | blue >> 6);
}

#if MR_ON_GPU

/* Copies of the bins side by side, so that equal neighbours seldom wait for each other. An odd number
 * of words apart. */
#define COPIES 8
#define COPY_STRIDE (2 * BINS + 1)

/* Row and column by a float division: exact below 2^21 pixels. */
#define COUNT_FUNCTION(type)                                                                       \
    MR_FUNCTION void count_##type(const type *image, uint32_t width, uint32_t left, uint32_t top,  \
                                  uint32_t columns, uint32_t rows, uint32_t *counts)               \
    {                                                                                              \
        MR_GROUP_SHARED(uint32_t, bins, COPIES *COPY_STRIDE);                                      \
        const float inverse = 1.0f / (float)columns;                                               \
        const uint32_t pixels = columns * rows, copy = mr_group_lane() % COPIES * COPY_STRIDE;     \
        LANES (k, COPIES * COPY_STRIDE)                                                            \
            bins[k] = 0;                                                                           \
        mr_group_sync();                                                                           \
        _Pragma("unroll 4") LANES (i, pixels)                                                      \
        {                                                                                          \
            const uint32_t row = (uint32_t)(((float)i + 0.5f) * inverse);                          \
            const uint32_t column = i - row * columns;                                             \
            const type *pixel = image + 3 * ((uint64_t)(top + row) * width + left + column);       \
            const uint32_t red = BYTE_OF_##type(pixel[0]), green = BYTE_OF_##type(pixel[1]);       \
            const uint32_t blue = BYTE_OF_##type(pixel[2]);                                        \
            mr_group_add_u32(&bins[copy + luminance_bin(red, green, blue)], 1);                    \
            mr_group_add_u32(&bins[copy + colour_bin(red, green, blue)], 1);                       \
        }                                                                                          \
        mr_group_sync();                                                                           \
        LANES (bin, 2 * BINS) {                                                                    \
            uint32_t sum = 0;                                                                      \
            for (uint32_t k = 0; k < COPIES; k++)                                                  \
                sum += bins[k * COPY_STRIDE + bin];                                                \
            counts[bin] = sum;                                                                     \
        }                                                                                          \
        mr_group_sync();                                                                           \
    }

#else

/* Bins are found for a block at a time, which vectorises, and then counted in two copies. */
#define BLOCK 256

MR_FUNCTION void count_found(const uint8_t *found, uint32_t size, uint32_t *even, uint32_t *odd)
{
    uint32_t k = 0;
    for (; k + 2 <= size; k += 2) {
        even[found[k]]++;
        odd[found[k + 1]]++;
    }
    if (k < size)
        even[found[k]]++;
}

#define COUNT_FUNCTION(type)                                                                       \
    MR_FUNCTION void count_##type(const type *image, uint32_t width, uint32_t left, uint32_t top,  \
                                  uint32_t columns, uint32_t rows, uint32_t *counts)               \
    {                                                                                              \
        uint32_t even[2 * BINS] = { 0 }, odd[2 * BINS] = { 0 };                                    \
        uint8_t luminance[BLOCK], colour[BLOCK];                                                   \
        for (uint32_t row = 0; row < rows; row++)                                                  \
            for (uint32_t x = 0; x < columns; x += BLOCK) {                                        \
                const type *line = image + 3 * ((uint64_t)(top + row) * width + left + x);         \
                const uint32_t size = MR_MIN(columns - x, BLOCK);                                  \
                for (uint32_t k = 0; k < size; k++) {                                              \
                    const uint32_t red = BYTE_OF_##type(line[3 * k]);                              \
                    const uint32_t green = BYTE_OF_##type(line[3 * k + 1]);                        \
                    const uint32_t blue = BYTE_OF_##type(line[3 * k + 2]);                         \
                    luminance[k] = (uint8_t)luminance_bin(red, green, blue);                       \
                    colour[k] = (uint8_t)colour_bin(red, green, blue);                             \
                }                                                                                  \
                count_found(luminance, size, even, odd);                                           \
                count_found(colour, size, even, odd);                                              \
            }                                                                                      \
        for (uint32_t bin = 0; bin < 2 * BINS; bin++)                                              \
            counts[bin] = even[bin] + odd[bin];                                                    \
    }

#endif

#define HISTOGRAM(name, type)                                                                      \
    COUNT_FUNCTION(type)                                                                           \
                                                                                                   \
    MR_GROUP_KERNEL(vision_histogram_##name, MR_IN(type, image), MR_OUT(uint32_t, partial),        \
                    MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height),                         \
                    MR_VALUE(uint32_t, columns), MR_VALUE(uint32_t, rows),                         \
                    MR_VALUE(uint32_t, band_rows), MR_VALUE(uint32_t, band_count))                 \
    {                                                                                              \
        MR_GROUP_EACH (group, (uint64_t)columns * rows * band_count) {                             \
            const uint32_t patch = (uint32_t)(group / band_count);                                 \
            const uint32_t band = (uint32_t)(group % band_count);                                  \
            const uint32_t column = patch % columns, row = patch / columns;                        \
            const uint32_t left = border(column, width, columns);                                  \
            const uint32_t right = border(column + 1, width, columns);                             \
            const uint32_t end = border(row + 1, height, rows);                                    \
            const uint32_t begin = border(row, height, rows) + band * band_rows;                   \
            const uint32_t top = MR_MIN(begin, end);                                               \
            const uint32_t size = MR_MIN(end - top, band_rows);                                    \
            count_##type(image, width, left, top, right - left, size, partial + group * 2 * BINS); \
        }                                                                                          \
    }

HISTOGRAM(u8, uint8_t)
HISTOGRAM(u16, uint16_t)

/* ---- sums over cells ---- */

#define TILE_COLUMNS 256
#define TILE_ROWS 8
#define CONTRAST_SUMS 4
#define QUERY_SUMS 15

/* x to the nearest 16384th, ties to even: adding 1.5 * 2^23 leaves it in the low bits. */
MR_FUNCTION int32_t rounded(float x)
{
    union {
        float number;
        int32_t bits;
    } shifted;
    shifted.number = x * 16384.0f + 12582912.0f;
    return shifted.bits - 0x4b400000;
}

/* 0 to 7: the nearest multiple of an eighth of half a turn. The tangents of its odd sixteenths
 * part them; a mirrored gradient has the mirrored orientation exactly. */
MR_FUNCTION uint32_t orientation(float x, float y)
{
    const float across = fabsf(x), down = fabsf(y);
    const uint32_t steps = (uint32_t)(down > across * 0.19891237f) + (down > across * 0.66817864f) +
                           (down > across * 1.4966058f) + (down > across * 5.0273395f);
    const int is_falling = (x < 0.0f) != (y < 0.0f);
    return is_falling ? (8 - steps) & 7 : steps;
}

/* One row's part of the sums of a column. `planes` points to the column's pixel in the plane of L. */
MR_FUNCTION void add_contrast(const float *pixel, uint64_t plane, int32_t *sums, uint32_t stride)
{
    sums[0] += rounded(pixel[0]);
    sums[stride] += rounded(pixel[plane]);
    sums[2 * stride] += rounded(pixel[2 * plane]);
    sums[3 * stride] += rounded(pixel[5 * plane]);
}

MR_FUNCTION void add_query(const float *pixel, uint64_t plane, int32_t *sums, uint32_t stride)
{
    const int32_t l = rounded(pixel[0]), a = rounded(pixel[plane]);
    const int32_t b = rounded(pixel[2 * plane]), magnitude = rounded(pixel[5 * plane]);
    const uint32_t turn = orientation(pixel[3 * plane], pixel[4 * plane]);
    sums[0] += l;
    sums[stride] += a;
    sums[2 * stride] += b;
    /* Squares of a whole tile column fit 32 bits without a sign. */
    sums[3 * stride] = (int32_t)((uint32_t)sums[3 * stride] + (uint32_t)(l * l));
    sums[4 * stride] = (int32_t)((uint32_t)sums[4 * stride] + (uint32_t)(a * a));
    sums[5 * stride] = (int32_t)((uint32_t)sums[5 * stride] + (uint32_t)(b * b));
    sums[6 * stride] += magnitude;
    UNROLLED
    for (uint32_t k = 0; k < 8; k++)
        sums[(7 + k) * stride] += turn == k ? magnitude : 0;
}

/* Sums of the tile's columns over its rows: in registers on a GPU, row by row on the CPU. */
#if MR_ON_GPU
#define COLUMN_FUNCTION(name, sum_count)                                                           \
    MR_FUNCTION void columns_##name(const float *first, uint64_t plane, uint32_t width,            \
                                    uint32_t columns, uint32_t rows, int32_t *sums)                \
    {                                                                                              \
        LANES (x, columns) {                                                                       \
            int32_t own[sum_count] = { 0 };                                                        \
            _Pragma("unroll") for (uint32_t row = 0; row < TILE_ROWS; row++) if (row < rows)       \
                add_##name(first + (uint64_t)row * width + x, plane, own, 1);                      \
            _Pragma("unroll") for (uint32_t k = 0; k < sum_count; k++)                             \
                sums[k * TILE_COLUMNS + x] = own[k];                                               \
        }                                                                                          \
    }
#else
#define COLUMN_FUNCTION(name, sum_count)                                                           \
    MR_FUNCTION void columns_##name(const float *first, uint64_t plane, uint32_t width,            \
                                    uint32_t columns, uint32_t rows, int32_t *sums)                \
    {                                                                                              \
        for (uint32_t k = 0; k < sum_count * TILE_COLUMNS; k++)                                    \
            sums[k] = 0;                                                                           \
        for (uint32_t row = 0; row < rows; row++)                                                  \
            for (uint32_t x = 0; x < columns; x++)                                                 \
                add_##name(first + (uint64_t)row * width + x, plane, sums + x, TILE_COLUMNS);      \
    }
#endif

#define IS_UNSIGNED_contrast(k) 0
#define IS_UNSIGNED_query(k) ((k) >= 3 && (k) < 6)

/* Sums of a tile's cells from those of its columns: first of parts of PART columns, so that there is
 * work for all lanes however wide the cells are, each from another column on, so that lanes seldom meet
 * in a bank of memory. At most PARTS parts: cells wider than PART are few. `step` is between cells. */
#define PART 16
#define PARTS 32

#define FOLD_FUNCTION(name, sum_count)                                                             \
    MR_FUNCTION int64_t part_##name(const int32_t *sums, uint32_t k, uint32_t begin, uint32_t end) \
    {                                                                                              \
        const uint32_t size = begin < end ? end - begin : 0;                                       \
        uint32_t at = size ? mr_group_lane() % size : 0;                                           \
        int64_t sum = 0;                                                                           \
        for (uint32_t i = 0; i < size; i++) {                                                      \
            const int32_t part = sums[k * TILE_COLUMNS + begin + at];                              \
            sum += IS_UNSIGNED_##name(k) ? (int64_t)(uint32_t)part : (int64_t)part;                \
            at = at + 1 < size ? at + 1 : 0;                                                       \
        }                                                                                          \
        return sum;                                                                                \
    }                                                                                              \
                                                                                                   \
    MR_FUNCTION void fold_##name(const int32_t *sums, int64_t *parts, uint32_t width,              \
                                 uint32_t cell_columns, uint32_t first_cell, uint32_t cells,       \
                                 uint32_t left, uint32_t right, int64_t *target, uint64_t step)    \
    {                                                                                              \
        const uint32_t widest = (width + cell_columns - 1) / cell_columns;                         \
        const uint32_t bounded = MR_MIN(widest, TILE_COLUMNS);                                     \
        const uint32_t part_count = (bounded + PART - 1) / PART;                                   \
        LANES (item, cells * part_count * sum_count) {                                             \
            const uint32_t place = item % (cells * part_count), k = item / (cells * part_count);   \
            const uint32_t cell = place / part_count, part = place % part_count;                   \
            const uint32_t first = border(first_cell + cell, width, cell_columns);                 \
            const uint32_t last = border(first_cell + cell + 1, width, cell_columns);              \
            const uint32_t from = MR_MAX(first, left) + part * PART, stop = MR_MIN(last, right);   \
            const uint32_t to = MR_MIN(stop, from + PART);                                         \
            const int64_t sum = part_##name(sums, k, from - left, from < to ? to - left : 0);      \
            if (part_count == 1)                                                                   \
                target[cell * step + k] = sum;                                                     \
            else                                                                                   \
                parts[k * PARTS + place] = sum;                                                    \
        }                                                                                          \
        mr_group_sync();                                                                           \
        LANES (item, part_count == 1 ? 0 : cells * sum_count) {                                    \
            const uint32_t cell = item % cells, k = item / cells;                                  \
            int64_t sum = 0;                                                                       \
            for (uint32_t part = 0; part < part_count; part++)                                     \
                sum += parts[k * PARTS + cell * part_count + part];                                \
            target[cell * step + k] = sum;                                                         \
        }                                                                                          \
    }

#define SUMS(name, sum_count)                                                                      \
    COLUMN_FUNCTION(name, sum_count)                                                               \
    FOLD_FUNCTION(name, sum_count)                                                                 \
                                                                                                   \
    MR_GROUP_KERNEL(vision_##name##_sums, MR_IN(float, textures), MR_OUT(int64_t, pieces),         \
                    MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height),                         \
                    MR_VALUE(uint32_t, cell_columns), MR_VALUE(uint32_t, cell_rows),               \
                    MR_VALUE(uint32_t, tile_cells), MR_VALUE(uint32_t, segments),                  \
                    MR_VALUE(uint32_t, bands))                                                     \
    {                                                                                              \
        MR_GROUP_SHARED(int64_t, parts, sum_count *PARTS);                                         \
        MR_GROUP_SHARED(int32_t, sums, sum_count *TILE_COLUMNS);                                   \
        const uint32_t across = (cell_columns + tile_cells - 1) / tile_cells * segments;           \
        const uint64_t plane = (uint64_t)width * height;                                           \
        MR_GROUP_EACH (tile, (uint64_t)across * cell_rows * bands) {                               \
            const uint32_t place = (uint32_t)(tile % across), rest = (uint32_t)(tile / across);    \
            const uint32_t segment = place % segments, band = rest % bands;                        \
            const uint32_t cell_row = rest / bands, first_cell = place / segments * tile_cells;    \
            const uint32_t cells = MR_MIN(tile_cells, cell_columns - first_cell);                  \
            const uint32_t left =                                                                  \
                border(first_cell, width, cell_columns) + segment * TILE_COLUMNS;                  \
            const uint32_t end = border(first_cell + cells, width, cell_columns);                  \
            const uint32_t right = MR_MIN(end, left + TILE_COLUMNS);                               \
            const uint32_t columns = left < right ? right - left : 0;                              \
            const uint32_t top = border(cell_row, height, cell_rows) + band * TILE_ROWS;           \
            const uint32_t bottom = border(cell_row + 1, height, cell_rows);                       \
            const uint32_t below = top < bottom ? bottom - top : 0;                                \
            const uint32_t rows = MR_MIN(below, TILE_ROWS);                                        \
            columns_##name(textures + 3 * plane + (uint64_t)top * width + left, plane, width,      \
                           columns, rows, sums);                                                   \
            mr_group_sync();                                                                       \
            fold_##name(                                                                           \
                sums, parts, width, cell_columns, first_cell, cells, left, right,                  \
                pieces +                                                                           \
                    (((uint64_t)cell_row * cell_columns + first_cell) * segments + segment) *      \
                        bands * sum_count +                                                        \
                    band * sum_count,                                                              \
                (uint64_t)segments * bands * sum_count);                                           \
            mr_group_sync();                                                                       \
        }                                                                                          \
    }

SUMS(contrast, CONTRAST_SUMS)
SUMS(query, QUERY_SUMS)
