/* SPDX-License-Identifier: MIT */
/*
 * What the scorers count and add up over the pixels of `images` of one size, which are their steps apart;
 * what it means is in src/vision/vision_model.h. Counts and sums are of integers, so that every device
 * comes to the same.
 *
 * vision_histogram_T     image -> partial[patch][band][128]: pixels in each of 64 bins of luminance,
 *                        then of 64 of colour. Launch with count = images * columns * rows * band_count.
 * vision_cell_sums       textures -> pieces[cell][piece][15]: L, a, b, their squares, Sobel magnitude, and
 *                        the magnitude by eight orientations; without a query only L, a, b and magnitude.
 *     Of values rounded to a 16384th. A group is a tile: `tile_cells` whole cells or a segment of one,
 *     at most 16 strips of 16 columns, of 12 rows (a band); strips are of one cell each. A cell's pieces are
 *     its segments in each of its bands. Launch with count = images * ceil(cell_columns / tile_cells) *
 *     segments * cell_rows * bands.
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

#if MR_ON_GPU

/* Copies of the bins side by side, so that equal neighbours seldom wait for each other. An odd number
 * of words apart. */
#define COPIES 8
#define COPY_STRIDE (2 * BINS + 1)

/* A pixel is a word here: red in the lowest byte, then green and blue; above them is anything. */
MR_FUNCTION uint32_t luminance_bin(uint32_t pixel)
{
    uint32_t sum; /* 54 red + 183 green + 19 blue */
    asm("dp4a.u32.u32 %0, %1, %2, %3;" : "=r"(sum) : "r"(pixel), "r"(0x0013b736u), "r"(0u));
    return sum >> 10;
}

/* The upper two bits of each byte, side by side in bits 16 to 21 of the product. */
MR_FUNCTION uint32_t colour_bin(uint32_t pixel)
{
    return BINS + (((pixel >> 6 & 0x030303u) * 0x100401u) >> 16 & 63);
}

MR_FUNCTION void count_pixel(uint32_t *bins, uint32_t pixel)
{
    mr_group_add_u32(&bins[luminance_bin(pixel)], 1);
    mr_group_add_u32(&bins[colour_bin(pixel)], 1);
}

MR_FUNCTION uint32_t pixel_uint8_t(const uint8_t *pixel)
{
    return (uint32_t)pixel[0] | (uint32_t)pixel[1] << 8 | (uint32_t)pixel[2] << 16;
}

MR_FUNCTION uint32_t pixel_uint16_t(const uint16_t *pixel)
{
    return (uint32_t)pixel[0] >> 8 | (uint32_t)(pixel[1] & 0xff00) |
           (uint32_t)(pixel[2] & 0xff00) << 8;
}

/* A lane's way over a patch: from one of its units to the next so many rows down and so many units across,
 * and a row more where that leaves the patch. */
struct walk {
    uint32_t column, columns, across;
    uint32_t first, step, carry, count; /* in memory, in units; how many there are */
};

MR_FUNCTION struct walk walk_over(uint32_t width, uint32_t columns, uint32_t rows)
{
    const uint32_t lane = mr_group_lane(), lanes = mr_group_lane_count();
    const uint32_t row = lane / columns, down = lanes / columns;
    struct walk walk;
    walk.column = lane - row * columns;
    walk.columns = columns;
    walk.across = lanes - down * columns;
    walk.first = row * width + walk.column;
    walk.step = down * width + walk.across;
    walk.carry = width - columns;
    walk.count = lane < columns * rows ? (columns * rows - lane - 1) / lanes + 1 : 0;
    return walk;
}

MR_FUNCTION uint32_t walk_on(struct walk *walk)
{
    const uint32_t column = walk->column + walk->across;
    const int is_outside = column >= walk->columns;
    walk->column = is_outside ? column - walk->columns : column;
    return is_outside ? walk->step + walk->carry : walk->step;
}

#define AT_ONCE 4 /* pixels whose loads are on their way together */

#define COUNT_SINGLY(type)                                                                         \
    MR_FUNCTION void singly_##type(const type *first, uint32_t width, uint32_t columns,            \
                                   uint32_t rows, uint32_t *bins)                                  \
    {                                                                                              \
        struct walk walk = walk_over(width, columns, rows);                                        \
        for (first += 3 * walk.first; walk.count >= AT_ONCE; walk.count -= AT_ONCE) {              \
            uint32_t pixels[AT_ONCE];                                                              \
            UNROLLED for (uint32_t k = 0; k < AT_ONCE; k++, first += 3 * walk_on(&walk))           \
            {                                                                                      \
                pixels[k] = pixel_##type(first);                                                   \
            }                                                                                      \
            UNROLLED for (uint32_t k = 0; k < AT_ONCE; k++) count_pixel(bins, pixels[k]);          \
        }                                                                                          \
        for (; walk.count; walk.count--, first += 3 * walk_on(&walk))                              \
            count_pixel(bins, pixel_##type(first));                                                \
    }

COUNT_SINGLY(uint8_t)
COUNT_SINGLY(uint16_t)

/* Four pixels in three words, where rows and patches are of whole ones. */
MR_FUNCTION void by_words(const uint32_t *first, uint32_t width, uint32_t columns, uint32_t rows,
                          uint32_t *bins)
{
    struct walk walk = walk_over(width / 4, columns / 4, rows);
    for (first += 3 * walk.first; walk.count; walk.count--, first += 3 * walk_on(&walk)) {
        const uint32_t a = first[0], b = first[1], c = first[2];
        count_pixel(bins, a);
        count_pixel(bins, a >> 24 | b << 8);
        count_pixel(bins, b >> 16 | c << 16);
        count_pixel(bins, c >> 8);
    }
}

MR_FUNCTION void walk_uint8_t(const uint8_t *first, uint32_t width, uint32_t columns, uint32_t rows,
                              uint32_t *bins)
{
    if ((width | columns | (uint32_t)(uint64_t)first) % 4 == 0)
        by_words((const uint32_t *)first, width, columns, rows, bins);
    else
        singly_uint8_t(first, width, columns, rows, bins);
}

MR_FUNCTION void walk_uint16_t(const uint16_t *first, uint32_t width, uint32_t columns,
                               uint32_t rows, uint32_t *bins)
{
    singly_uint16_t(first, width, columns, rows, bins);
}

#define COUNT_FUNCTION(type)                                                                       \
    MR_FUNCTION void count_##type(const type *image, uint32_t width, uint32_t left, uint32_t top,  \
                                  uint32_t columns, uint32_t rows, uint32_t *counts)               \
    {                                                                                              \
        MR_GROUP_SHARED(uint32_t, bins, COPIES *COPY_STRIDE);                                      \
        LANES (k, COPIES * COPY_STRIDE)                                                            \
            bins[k] = 0;                                                                           \
        mr_group_sync();                                                                           \
        walk_##type(image + 3 * ((uint64_t)top * width + left), width, columns, rows,              \
                    bins + mr_group_lane() % COPIES * COPY_STRIDE);                                \
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
                    MR_VALUE(uint32_t, band_rows), MR_VALUE(uint32_t, band_count),                 \
                    MR_VALUE(uint32_t, images), MR_VALUE(uint64_t, image_step),                    \
                    MR_VALUE(uint64_t, partial_step))                                              \
    {                                                                                              \
        const uint32_t parts = columns * rows * band_count;                                        \
        MR_GROUP_EACH (group, (uint64_t)images * parts) {                                          \
            const uint32_t number = (uint32_t)group / parts;                                       \
            const uint32_t part = (uint32_t)group - number * parts;                                \
            const uint32_t patch = part / band_count, band = part - patch * band_count;            \
            const uint32_t column = patch % columns, row = patch / columns;                        \
            const uint32_t left = border(column, width, columns);                                  \
            const uint32_t right = border(column + 1, width, columns);                             \
            const uint32_t end = border(row + 1, height, rows);                                    \
            const uint32_t begin = border(row, height, rows) + band * band_rows;                   \
            const uint32_t top = MR_MIN(begin, end);                                               \
            const uint32_t size = MR_MIN(end - top, band_rows);                                    \
            count_##type(image + number * image_step, width, left, top, right - left, size,        \
                         partial + number * partial_step + (uint64_t)part * 2 * BINS);             \
        }                                                                                          \
    }

HISTOGRAM(u8, uint8_t)
HISTOGRAM(u16, uint16_t)

/* ---- sums over cells ---- */

#define STRIP 16
#define TILE_COLUMNS 256
#define TILE_ROWS 12
#define SUMS 15
#define EDGES 6 /* the magnitude's place among the sums; the orientations follow */

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

/* Where a tile lies. */
struct tile {
    uint32_t first_cell, cells, segment; /* across */
    uint32_t top, rows;
};

/* Columns of a cell of the tile: a segment of them, where there are several. */
MR_FUNCTION uint32_t cell_begin(const struct tile *tile, uint32_t cell, uint32_t width,
                                uint32_t cell_columns)
{
    return border(tile->first_cell + cell, width, cell_columns) + tile->segment * TILE_COLUMNS;
}

MR_FUNCTION uint32_t cell_end(const struct tile *tile, uint32_t cell, uint32_t width,
                              uint32_t cell_columns)
{
    const uint32_t end = border(tile->first_cell + cell + 1, width, cell_columns);
    const uint32_t limit = cell_begin(tile, cell, width, cell_columns) + TILE_COLUMNS;
    return MR_MIN(end, limit);
}

#if MR_ON_GPU

/* A lane adds up a column, in 32 bits: L, a, b; the lower 26 bits of the sums of their squares; what these
 * are above that, in 10 bits each; magnitude; by orientations. A strip of 16 lanes then folds its columns
 * so that each lane comes to one of the 16 sums. */
#define COLUMN_SUMS STRIP
#define LOWER_BITS 26
#define UPPER_BITS 10

/* A pixel's part of its column. `turns` are the lane's sums by orientation, TILE_COLUMNS apart: picking one
 * in shared memory takes fewer instructions than adding to one of eight registers. */
MR_FUNCTION void add_pixel(const float *pixel, uint64_t plane, int has_query, int32_t *own,
                           uint32_t *squares, int32_t *turns)
{
    const int32_t magnitude = rounded(pixel[5 * plane]);
    own[EDGES + 1] += magnitude;
    UNROLLED for (uint32_t k = 0; k < 3; k++)
    {
        const int32_t value = rounded(pixel[k * plane]);
        own[k] += value;
        squares[k] += has_query ? (uint32_t)(value * value) : 0;
    }
    if (has_query)
        turns[orientation(pixel[3 * plane], pixel[4 * plane]) * TILE_COLUMNS] += magnitude;
}

/* Four rows at a time where there are, so that all their loads are on their way at once. */
MR_FUNCTION void add_column(const float *first, uint64_t plane, uint32_t width, uint32_t rows,
                            int has_query, int32_t *own, int32_t *turns)
{
    uint32_t squares[3] = { 0, 0, 0 }, row = 0;
    UNROLLED for (uint32_t k = 0; k < 8; k++) turns[k * TILE_COLUMNS] = 0;
    for (; row + 4 <= rows; row += 4)
        UNROLLED for (uint32_t k = 0; k < 4; k++, first += width)
            add_pixel(first, plane, has_query, own, squares, turns);
    for (; row < rows; row++, first += width)
        add_pixel(first, plane, has_query, own, squares, turns);
    UNROLLED for (uint32_t k = 0; k < 3; k++)
    {
        own[3 + k] = (int32_t)(squares[k] & ((1u << LOWER_BITS) - 1));
        own[EDGES] |= (int32_t)(squares[k] >> LOWER_BITS << k * UPPER_BITS);
    }
    UNROLLED for (uint32_t k = 0; k < 8; k++) own[EDGES + 2 + k] = turns[k * TILE_COLUMNS];
}

/* Hands half of the first 2 * half sums to the lane that keeps those, and gets its own half from there. */
MR_FUNCTION void fold_half(int32_t *own, uint32_t half)
{
    const int keeps_upper = (mr_group_lane() & half) != 0;
    UNROLLED for (uint32_t k = 0; k < half; k++)
    {
        const int32_t lower = own[k], upper = own[k + half];
        const int32_t given = keeps_upper ? lower : upper;
        own[k] = (keeps_upper ? upper : lower) + MR_SHUFFLE_XOR_(given, half);
    }
}

/* Sum number (lane % 16) over the strip. One by one, not in a loop: the sums stay in registers. */
MR_FUNCTION int32_t fold_strip(int32_t *own)
{
    fold_half(own, 8);
    fold_half(own, 4);
    fold_half(own, 2);
    fold_half(own, 1);
    return own[0];
}

/* Sum k of a strip. */
MR_FUNCTION int64_t sum_of_strip(const int32_t *strip, uint32_t k)
{
    if (k >= EDGES)
        return strip[k + 1];
    if (k < 3)
        return strip[k];
    const uint32_t upper = (uint32_t)strip[EDGES] >> (k - 3) * UPPER_BITS;
    return ((int64_t)(upper & ((1u << UPPER_BITS) - 1)) << LOWER_BITS) + strip[k];
}

/* `target` is the first cell's piece, and the others' are `step` apart. */
MR_FUNCTION void add_tile(const struct tile *tile, const float *planes, uint64_t plane,
                          uint32_t width, uint32_t cell_columns, int has_query, int64_t *target,
                          uint64_t step)
{
    MR_GROUP_SHARED(int32_t, strips, TILE_COLUMNS / STRIP * COLUMN_SUMS);
    MR_GROUP_SHARED(int32_t, turns, 8 * TILE_COLUMNS);
    const uint32_t widest = (width + cell_columns - 1) / cell_columns;
    const uint32_t bounded = MR_MIN(widest, TILE_COLUMNS);
    const uint32_t strip_count = (bounded + STRIP - 1) / STRIP; /* of a cell */
    /* Whole warps, so that strips can fold. */
    for (uint32_t item = mr_group_lane(); item / 32 * 32 < tile->cells * strip_count * STRIP;
         item += mr_group_lane_count()) {
        const uint32_t strip = item / STRIP, cell = strip / strip_count;
        const uint32_t x = cell_begin(tile, cell, width, cell_columns) +
                           (strip - cell * strip_count) * STRIP + item % STRIP;
        int32_t own[COLUMN_SUMS] = { 0 };
        if (cell < tile->cells && x < cell_end(tile, cell, width, cell_columns)) {
            const float *first = planes + (uint64_t)tile->top * width + x;
            if (has_query)
                add_column(first, plane, width, tile->rows, 1, own, turns + item);
            else
                add_column(first, plane, width, tile->rows, 0, own, turns + item);
        }
        const int32_t sum = fold_strip(own);
        if (cell < tile->cells)
            strips[item] = sum;
    }
    mr_group_sync();
    LANES (item, tile->cells * SUMS) {
        const uint32_t cell = item / SUMS, k = item - cell * SUMS;
        int64_t sum = 0;
        for (uint32_t strip = 0; strip < strip_count; strip++)
            sum += sum_of_strip(strips + (cell * strip_count + strip) * COLUMN_SUMS, k);
        target[cell * step + k] = sum;
    }
    mr_group_sync();
}

#else

/* Row by row into sums of columns, number k of which stand together, and then cell by cell. */
MR_FUNCTION void add_row(const float *pixel, uint64_t plane, uint32_t columns, int has_query,
                         int32_t *sums)
{
    for (uint32_t x = 0; x < columns; x++) {
        const int32_t l = rounded(pixel[x]), a = rounded(pixel[plane + x]);
        const int32_t b = rounded(pixel[2 * plane + x]);
        sums[x] += l;
        sums[TILE_COLUMNS + x] += a;
        sums[2 * TILE_COLUMNS + x] += b;
        sums[EDGES * TILE_COLUMNS + x] += rounded(pixel[5 * plane + x]);
    }
    for (uint32_t x = 0; x < (has_query ? columns : 0); x++) {
        const int32_t l = rounded(pixel[x]), a = rounded(pixel[plane + x]);
        const int32_t b = rounded(pixel[2 * plane + x]);
        const int32_t magnitude = rounded(pixel[5 * plane + x]);
        const uint32_t turn = orientation(pixel[3 * plane + x], pixel[4 * plane + x]);
        int32_t *own = sums + 3 * TILE_COLUMNS + x;
        /* Squares of a whole tile column fit 32 bits without a sign. */
        own[0] = (int32_t)((uint32_t)own[0] + (uint32_t)(l * l));
        own[TILE_COLUMNS] = (int32_t)((uint32_t)own[TILE_COLUMNS] + (uint32_t)(a * a));
        own[2 * TILE_COLUMNS] = (int32_t)((uint32_t)own[2 * TILE_COLUMNS] + (uint32_t)(b * b));
        for (uint32_t k = 0; k < 8; k++)
            own[(4 + k) * TILE_COLUMNS] += turn == k ? magnitude : 0;
    }
}

MR_FUNCTION void add_tile(const struct tile *tile, const float *planes, uint64_t plane,
                          uint32_t width, uint32_t cell_columns, int has_query, int64_t *target,
                          uint64_t step)
{
    int32_t sums[SUMS * TILE_COLUMNS] = { 0 };
    const uint32_t left = cell_begin(tile, 0, width, cell_columns);
    const uint32_t right = cell_end(tile, tile->cells - 1, width, cell_columns);
    for (uint32_t row = 0; row < tile->rows; row++)
        add_row(planes + (uint64_t)(tile->top + row) * width + left, plane,
                left < right ? right - left : 0, has_query, sums);
    for (uint32_t cell = 0; cell < tile->cells; cell++)
        for (uint32_t k = 0; k < SUMS; k++) {
            int64_t sum = 0;
            for (uint32_t x = cell_begin(tile, cell, width, cell_columns);
                 x < cell_end(tile, cell, width, cell_columns); x++) {
                const int32_t part = sums[k * TILE_COLUMNS + x - left];
                sum += k >= 3 && k < EDGES ? (int64_t)(uint32_t)part : part;
            }
            target[cell * step + k] = sum;
        }
}

#endif

#undef MR_KERNEL_BOUNDS
#define MR_KERNEL_BOUNDS MR_BOUNDS(256, 6)
MR_GROUP_KERNEL(vision_cell_sums, MR_IN(float, textures), MR_OUT(int64_t, pieces),
                MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height),
                MR_VALUE(uint32_t, cell_columns), MR_VALUE(uint32_t, cell_rows),
                MR_VALUE(uint32_t, tile_cells), MR_VALUE(uint32_t, segments),
                MR_VALUE(uint32_t, bands), MR_VALUE(uint32_t, has_query),
                MR_VALUE(uint32_t, images), MR_VALUE(uint64_t, textures_step),
                MR_VALUE(uint64_t, pieces_step))
{
    const uint32_t across = (cell_columns + tile_cells - 1) / tile_cells * segments;
    const uint32_t lines = cell_rows * bands;
    const uint64_t plane = (uint64_t)width * height;
    MR_GROUP_EACH (group, (uint64_t)images * across * lines) {
        const uint32_t line = (uint32_t)group / across, place = (uint32_t)group - line * across;
        const uint32_t number = line / lines, rest = line - number * lines;
        const uint32_t cell_row = rest / bands, band = rest - cell_row * bands;
        const uint32_t bottom = border(cell_row + 1, height, cell_rows);
        struct tile tile;
        tile.first_cell = place / segments * tile_cells;
        tile.cells = MR_MIN(tile_cells, cell_columns - tile.first_cell);
        tile.segment = place % segments;
        tile.top = border(cell_row, height, cell_rows) + band * TILE_ROWS;
        const uint32_t below = tile.top < bottom ? bottom - tile.top : 0;
        tile.rows = MR_MIN(below, TILE_ROWS);
        const uint64_t step = (uint64_t)segments * bands * SUMS;
        add_tile(&tile, textures + number * textures_step + 3 * plane, plane, width, cell_columns,
                 (int)has_query,
                 pieces + number * pieces_step +
                     ((uint64_t)cell_row * cell_columns + tile.first_cell) * step +
                     ((uint64_t)tile.segment * bands + band) * SUMS,
                 step);
    }
}
