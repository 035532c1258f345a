/* SPDX-License-Identifier: MIT */
/*
 * Tokens and the compressed arrays of `images` of one size, which are their steps apart; all that comes of
 * an image is in one block, so that its parts share a step. Rules are in src/vision/vision_model.h.
 *
 * vision_tokens    scores[4][patch] -> a copy of them, tokens, box_columns, box_rows, box_first
 *                  [patch + 1], and the rows of boxes of all patches in order: row_first[patch + 1]
 *                  and, for each row, row_patch. Whole numbers. A group for each image: launch with
 *                  count = images.
 * vision_compress  textures and those -> compressed: a group for some channels of a row of boxes, a
 *                  `parts`-th of them. Means of values rounded to a 2^20th, so that the order is free.
 *                  Launch with about count = images * parts * rows of boxes, which only the device
 *                  knows.
 */
#include <millrace/portable.h>

#define CHANNELS 13

#define LANES(x, count) for (uint32_t x = mr_group_lane(); x < (count); x += mr_group_lane_count())

/* Where part `i` of `count` begins: at most 65536 parts of at most 65535 pixels, which fits. */
MR_FUNCTION uint32_t border(uint32_t i, uint32_t size, uint32_t count)
{
    return i * size / count;
}

/* ---- tokens ---- */

/* A lane sees to a run of patches, and to no other lane's: what it wrote to memory it finds there. */
MR_FUNCTION uint32_t run_size(uint32_t count)
{
    return (count + mr_group_lane_count() - 1) / mr_group_lane_count();
}

MR_FUNCTION uint32_t run_begin(uint32_t count)
{
    return MR_MIN(mr_group_lane() * run_size(count), count);
}

MR_FUNCTION uint32_t run_end(uint32_t count)
{
    return MR_MIN((mr_group_lane() + 1) * run_size(count), count);
}

#define OWN(i, count)                                                                              \
    for (uint32_t i = run_begin(count), end_##i = run_end(count); i < end_##i; i++)

/* What a patch's relevance counts: 1 to 2^24 + 1. */
MR_FUNCTION uint64_t weight_of(float relevance)
{
    const float raised = relevance > 0.0f ? relevance : 0.0f, bounded = MR_MIN(raised, 1.0f);
    return 1 + (uint64_t)rint((double)bounded * 16777216.0);
}

/* Sum and number of the weights above `bound`: sum in the low 40 bits. */
MR_FUNCTION uint64_t above(const float *relevance, uint32_t count, uint64_t bound)
{
    uint64_t packed = 0;
    OWN (i, count) {
        const uint64_t weight = weight_of(relevance[i]);
        packed += weight > bound ? weight + ((uint64_t)1 << 40) : 0;
    }
    return mr_group_sum_u64(packed);
}

#define SUM_OF(packed) ((packed) & (((uint64_t)1 << 40) - 1))
#define NUMBER_OF(packed) ((packed) >> 40)

/* The least weight that fills its patch, with all larger ones filled: filling is monotonous in the
 * weight, so it can be found by halving. 2^24 + 2 where none does. */
MR_FUNCTION uint64_t filling_weight(const float *relevance, uint32_t count, uint64_t spare,
                                    uint64_t room, uint64_t sum)
{
    uint64_t low = 1, high = 16777218;
    while (low < high) {
        /* The first look is at the greatest weight that there can be: mostly none fills. */
        const uint64_t middle = high == 16777218 && low == 1 ? 16777217 : (low + high) / 2;
        const uint64_t larger = above(relevance, count, middle);
        const uint64_t filled = NUMBER_OF(larger) * room;
        const int is_filling =
            filled <= spare && (spare - filled) * middle >= room * (sum - SUM_OF(larger));
        if (is_filling)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* How many remainders, of two words each, are at least `bound`. */
MR_FUNCTION uint32_t remainders_from(const uint32_t *high, const uint32_t *low, uint32_t count,
                                     uint64_t bound)
{
    uint32_t found = 0;
    OWN (i, count)
        found += ((uint64_t)high[i] << 32 | low[i]) >= bound;
    return mr_group_sum_u32(found);
}

/* How many of those before `limit` are `value`. */
MR_FUNCTION uint32_t remainders_at(const uint32_t *high, const uint32_t *low, uint32_t count,
                                   uint32_t limit, uint64_t value)
{
    uint32_t found = 0;
    OWN (i, count)
        found += i < limit && ((uint64_t)high[i] << 32 | low[i]) == value;
    return mr_group_sum_u32(found);
}

/* Of few patches each counts how many come before it. */
#define RANKED 512

MR_FUNCTION void give_ranked(uint32_t *tokens, const uint32_t *high, const uint32_t *low,
                             uint32_t count, uint32_t rest)
{
    MR_GROUP_SHARED(uint64_t, remainders, RANKED);
    OWN (i, count)
        remainders[i] = (uint64_t)high[i] << 32 | low[i];
    mr_group_sync();
    OWN (i, count) {
        const uint64_t own = remainders[i];
        uint32_t before = 0;
        for (uint32_t k = 0; k < count; k++)
            before += remainders[k] > own || (remainders[k] == own && k < i);
        tokens[i] += before < rest;
    }
}

/* One more token for the `rest` largest remainders (all below `end`), the first of equal ones. */
MR_FUNCTION void give_rest(uint32_t *tokens, const uint32_t *high, const uint32_t *low,
                           uint32_t count, uint32_t rest, uint64_t end)
{
    if (rest == 0)
        return;
    if (count <= RANKED) {
        give_ranked(tokens, high, low, count, rest);
        return;
    }
    uint64_t least = 0, over = end; /* `rest` or more reach least, fewer reach over */
    while (over - least > 1) {
        const uint64_t middle = (least + over) / 2;
        if (remainders_from(high, low, count, middle) >= rest)
            least = middle;
        else
            over = middle;
    }
    const uint32_t clear = remainders_from(high, low, count, over);
    uint32_t first = 0, limit = count; /* of the equal ones, those before limit get one */
    if (clear + remainders_at(high, low, count, count, least) > rest) {
        while (first < limit) {
            const uint32_t middle = (first + limit) / 2;
            if (clear + remainders_at(high, low, count, middle, least) >= rest)
                limit = middle;
            else
                first = middle + 1;
        }
    }
    OWN (i, count) {
        const uint64_t own = (uint64_t)high[i] << 32 | low[i];
        if (own > least || (own == least && i < limit))
            tokens[i]++;
    }
}

/* `high` and `low` are free to be used meanwhile. */
MR_FUNCTION void share_out(const float *relevance, uint32_t count, uint32_t budget, uint32_t least,
                           uint32_t most, uint32_t *tokens, uint32_t *high, uint32_t *low)
{
    const uint64_t room = most - least, spare = budget - (uint64_t)count * least;
    const uint64_t all = above(relevance, count, 0);
    const uint64_t filling = filling_weight(relevance, count, spare, room, SUM_OF(all));
    const uint64_t filled = above(relevance, count, filling - 1);
    const uint64_t left = spare - NUMBER_OF(filled) * room, sum = SUM_OF(all) - SUM_OF(filled);
    uint64_t given = 0;
    OWN (i, count) {
        const uint64_t weight = weight_of(relevance[i]);
        const int is_full = weight >= filling;
        const uint64_t share = is_full ? room : left * weight / sum;
        const uint64_t remainder = is_full ? 0 : left * weight - share * sum;
        given += is_full ? 0 : share;
        tokens[i] = least + (uint32_t)share;
        high[i] = (uint32_t)(remainder >> 32);
        low[i] = (uint32_t)remainder;
    }
    given = mr_group_sum_u64(given);
    give_rest(tokens, high, low, count, (uint32_t)(left - given), sum ? sum : 1);
}

/* ---- boxes ---- */

/* The rows that `columns` leave to at most `tokens` boxes. */
MR_FUNCTION uint32_t rows_for(uint32_t columns, uint32_t tokens, uint32_t height)
{
    const uint32_t rows = tokens / columns;
    return MR_MIN(rows, height);
}

/* More columns make boxes narrower, and the rows that they leave make them higher: the best lie where
 * these meet, or one further, and there the most columns that leave as many rows. */
MR_FUNCTION uint32_t box_columns_for(uint32_t width, uint32_t height, uint32_t tokens)
{
    const uint32_t limit = MR_MIN(width, tokens);
    uint32_t low = 0, high = limit; /* the most columns whose boxes are not narrower than high */
    while (low < high) {
        const uint32_t middle = (low + high + 1) / 2;
        const uint64_t down = (uint64_t)rows_for(middle, tokens, height) * width;
        if ((uint64_t)middle * height <= down)
            low = middle;
        else
            high = middle - 1;
    }
    if (low == limit)
        return low;
    const uint32_t rows = rows_for(low + 1, tokens, height), fitting = tokens / rows;
    const uint32_t further = MR_MIN(fitting, limit);
    if (low == 0)
        return further;
    const uint64_t near_reach = (uint64_t)low * height, far_reach = (uint64_t)rows * width;
    const uint64_t near_count = (uint64_t)low * rows_for(low, tokens, height);
    const uint64_t far_count = (uint64_t)further * rows;
    return near_reach > far_reach || (near_reach == far_reach && near_count > far_count) ? low
                                                                                         : further;
}

/* Sums before each of `count` numbers, and of all: each lane adds up its run and the runs before. */
MR_FUNCTION void add_up(const uint32_t *a, const uint32_t *b, uint32_t count, uint32_t *first)
{
    MR_GROUP_SHARED(uint32_t, runs, 1024);
    uint32_t sum = 0;
    OWN (i, count)
        sum += b ? a[i] * b[i] : a[i];
    runs[mr_group_lane()] = sum;
    mr_group_sync();
    const uint32_t size = run_size(count), used = (count + size - 1) / size;
    uint32_t before = 0;
    for (uint32_t run = 0; run < MR_MIN(mr_group_lane(), used); run++)
        before += runs[run];
    if (mr_group_lane() + 1 == used)
        first[count] = before + sum;
    sum = before;
    OWN (i, count) {
        first[i] = sum;
        sum += b ? a[i] * b[i] : a[i];
    }
    mr_group_sync();
}

MR_GROUP_KERNEL(vision_tokens, MR_IN(float, scores), MR_OUT(float, scores_copy),
                MR_OUT(uint32_t, tokens), MR_OUT(uint32_t, box_columns), MR_OUT(uint32_t, box_rows),
                MR_OUT(uint32_t, box_first), MR_OUT(uint32_t, row_first),
                MR_OUT(uint32_t, row_patch), MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height),
                MR_VALUE(uint32_t, columns), MR_VALUE(uint32_t, rows), MR_VALUE(uint32_t, budget),
                MR_VALUE(uint32_t, least), MR_VALUE(uint32_t, most), MR_VALUE(uint32_t, images),
                MR_VALUE(uint64_t, scores_step), MR_VALUE(uint64_t, result_step))
{
    MR_GROUP_EACH (number, images) {
        const uint32_t count = columns * rows;
        const uint64_t at = number * result_step;
        const float *own = scores + number * scores_step;
        uint32_t *wide_boxes = box_columns + at, *high_boxes = box_rows + at;
        uint32_t *first_box = box_first + at, *first_row = row_first + at;
        LANES (i, 4 * count)
            scores_copy[at + i] = own[i];
        share_out(own + 3 * (uint64_t)count, count, budget, least, most, tokens + at, wide_boxes,
                  high_boxes);
        OWN (i, count) {
            const uint32_t column = i % columns, row = i / columns;
            const uint32_t wide =
                border(column + 1, width, columns) - border(column, width, columns);
            const uint32_t high = border(row + 1, height, rows) - border(row, height, rows);
            wide_boxes[i] = box_columns_for(wide, high, tokens[at + i]);
            high_boxes[i] = rows_for(wide_boxes[i], tokens[at + i], high);
        }
        add_up(wide_boxes, high_boxes, count, first_box);
        add_up(high_boxes, (const uint32_t *)0, count, first_row);
        OWN (i, count)
            for (uint32_t k = 0; k < high_boxes[i]; k++)
                row_patch[at + first_row[i] + k] = i;
    }
}

/* ---- compressed ---- */

/* Sums of columns that a group holds at a time: of some columns, in each of its channels. */
#define ROOM 1792

/* x to the nearest 2^20th, ties to even, for x within -4 and 4: adding 1.5 * 2^23 leaves it in the
 * low bits. */
MR_FUNCTION int32_t rounded(float x)
{
    union {
        float number;
        int32_t bits;
    } shifted;
    shifted.number = x * 1048576.0f + 12582912.0f;
    return shifted.bits - 0x4b400000;
}

/* Sums over `rows` of the columns in each channel, folded `span` by `span`. */
#if MR_ON_GPU

/* 8 rows at a time, and the last by 4, all of whose loads are on their way at once: none is behind a
 * branch. The sum of 8 fits 32 bits. */
MR_FUNCTION int64_t column_sum(const float *pixel, uint32_t width, uint32_t rows)
{
    int64_t sum = 0;
    for (; rows >= 8; rows -= 8) {
        int32_t part = 0;
        _Pragma("unroll") for (uint32_t k = 0; k < 8; k++, pixel += width) part += rounded(*pixel);
        sum += part;
    }
    for (uint32_t row = 0; row < rows; row += 4) {
        int32_t part = 0;
        _Pragma("unroll") for (uint32_t k = row; k < row + 4; k++)
        {
            const int32_t value = rounded(pixel[MR_MIN(k, rows - 1) * width]);
            part += k < rows ? value : 0;
        }
        sum += part;
    }
    return sum;
}

MR_FUNCTION void add_columns(const float *first, uint64_t plane, uint32_t channels, uint32_t width,
                             uint32_t columns, uint32_t rows, uint32_t span, int64_t *sums)
{
    LANES (item, channels * span) {
        const uint32_t channel = item / span;
        int64_t sum = 0;
        for (uint32_t x = item - channel * span; x < columns; x += span)
            sum += column_sum(first + channel * plane + x, width, rows);
        sums[item] = sum;
    }
}

#else

MR_FUNCTION void add_columns(const float *first, uint64_t plane, uint32_t channels, uint32_t width,
                             uint32_t columns, uint32_t rows, uint32_t span, int64_t *sums)
{
    for (uint32_t channel = 0; channel < channels; channel++, sums += span) {
        for (uint32_t k = 0; k < span; k++)
            sums[k] = 0;
        for (uint32_t row = 0; row < rows; row++)
            for (uint32_t x = 0; x < columns; x += span) {
                const float *pixel = first + channel * plane + (uint64_t)row * width + x;
                const uint32_t size = MR_MIN(columns - x, span);
                for (uint32_t k = 0; k < size; k++)
                    sums[k] += rounded(pixel[k]);
            }
    }
}

#endif

/* A row of boxes of a patch in some channels, as many boxes at a time as fit, or one that is wider. The
 * row's targets in two channels are `step` apart. */
MR_FUNCTION void compress_row(const float *first, uint64_t plane, uint32_t channels, uint32_t width,
                              uint32_t wide, uint32_t high, uint32_t boxes, float *target,
                              uint32_t step)
{
    MR_GROUP_SHARED(int64_t, sums, ROOM);
    const uint32_t widest = (wide + boxes - 1) / boxes, room = ROOM / channels;
    const uint32_t at_once = widest < room ? room / widest : 1;
    for (uint32_t box = 0; box < boxes; box += at_once) {
        const uint32_t end_box = MR_MIN(box + at_once, boxes), count = end_box - box;
        const uint32_t begin = border(box, wide, boxes);
        const uint32_t columns = border(end_box, wide, boxes) - begin;
        const uint32_t span = MR_MIN(columns, room);
        add_columns(first + begin, plane, channels, width, columns, high, span, sums);
        mr_group_sync();
        LANES (item, channels * count) {
            const uint32_t channel = item / count, k = item - channel * count;
            const uint32_t from = border(box + k, wide, boxes) - begin;
            const uint32_t to = border(box + k + 1, wide, boxes) - begin;
            int64_t sum = 0;
            for (uint32_t x = from; x < MR_MIN(to, span); x++)
                sum += sums[channel * span + x];
            target[channel * step + box + k] =
                (float)((double)sum / (1048576.0 * (double)((uint64_t)(to - from) * high)));
        }
        mr_group_sync();
    }
}

#undef MR_KERNEL_BOUNDS
#define MR_KERNEL_BOUNDS MR_BOUNDS(256, 8)
MR_GROUP_KERNEL(vision_compress, MR_IN(float, textures), MR_IN(uint32_t, box_columns),
                MR_IN(uint32_t, box_rows), MR_IN(uint32_t, box_first), MR_IN(uint32_t, row_first),
                MR_IN(uint32_t, row_patch), MR_OUT(float, compressed), MR_VALUE(uint32_t, width),
                MR_VALUE(uint32_t, height), MR_VALUE(uint32_t, columns), MR_VALUE(uint32_t, rows),
                MR_VALUE(uint32_t, parts), MR_VALUE(uint32_t, images),
                MR_VALUE(uint64_t, textures_step), MR_VALUE(uint64_t, result_step))
{
    const uint64_t plane = (uint64_t)width * height;
    const uint32_t patches = columns * rows;
    uint32_t lines = 0; /* of the image that has most */
    for (uint32_t number = 0; number < images; number++)
        lines = MR_MAX(lines, row_first[number * result_step + patches]);
    MR_GROUP_EACH (group, (uint64_t)images * parts * lines) {
        const uint32_t image_line = (uint32_t)group / parts;
        const uint32_t part = (uint32_t)group - image_line * parts;
        const uint32_t line = image_line / images, number = image_line - line * images;
        const uint64_t at = number * result_step;
        if (line >= row_first[at + patches])
            continue;
        const uint32_t channel = border(part, CHANNELS, parts);
        const uint32_t channels = border(part + 1, CHANNELS, parts) - channel;
        const uint32_t patch = row_patch[at + line], row = line - row_first[at + patch];
        const uint32_t boxes = box_columns[at + patch], box_lines = box_rows[at + patch];
        const uint32_t first = box_first[at + patch];
        const uint32_t patch_column = patch % columns, patch_row = patch / columns;
        const uint32_t left = border(patch_column, width, columns);
        const uint32_t wide = border(patch_column + 1, width, columns) - left;
        const uint32_t above_patch = border(patch_row, height, rows);
        const uint32_t tall = border(patch_row + 1, height, rows) - above_patch;
        const uint32_t top = border(row, tall, box_lines);
        const uint32_t high = border(row + 1, tall, box_lines) - top;
        compress_row(textures + number * textures_step + channel * plane +
                         (uint64_t)(above_patch + top) * width + left,
                     plane, channels, width, wide, high, boxes,
                     compressed + at + (uint64_t)CHANNELS * first +
                         (uint64_t)(channel * box_lines + row) * boxes,
                     box_lines * boxes);
    }
}
