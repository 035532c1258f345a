/* SPDX-License-Identifier: MIT */
/*
 * The scores of the patches of `images` of one size, which are their steps apart, from what vision_sums.c
 * counted and added up, and their balance; formulas are in src/vision/vision_model.h. Double precision
 * in a fixed order, and mathematics of our own, so that every device comes to the same bits.
 *
 * vision_entropy     partial[patch][band][128] -> score[patch]. Launch with count = images * columns *
 *                    rows, in blocks of 512.
 * vision_contrast    pieces[cell][piece][15] -> score[patch], not yet over the greatest. Launch with
 *                    count = images * columns * rows, in blocks of 256.
 * vision_similarity  pieces[cell][piece][15] -> score[patch]. `terms` are the 11 colours' L, a, b;
 *                    `query` 24 numbers times their weights, then the weights. Launch with count =
 *                    images * columns * rows, in blocks of 256.
 * vision_balance     scores[4][patch]: puts the second over its greatest, without a query the third at 0,
 *                    and finds the fourth. A group for each image: launch with count = images.
 */
#include <millrace/portable.h>

#define BINS 64
#define RUNS 4
#define CELLS 4 /* of a patch, in either direction */
#define PATCH_CELLS (CELLS * CELLS)
#define SUMS 15         /* of a piece */
#define EDGES 6         /* the magnitude's place among them */
#define CONTRAST_SUMS 4 /* of them: L, a, b, magnitude */
#define COLOURS 11
#define DESCRIPTOR 24
#define UNIT 16384.0 /* of the sums */

#define LANES(x, count) for (uint32_t x = mr_group_lane(); x < (count); x += mr_group_lane_count())

/* Where part `i` of `count` begins: at most 65536 parts of at most 65535 pixels, which fits. */
MR_FUNCTION uint32_t border(uint32_t i, uint32_t size, uint32_t count)
{
    return i * size / count;
}

MR_FUNCTION uint32_t patch_pixels(uint32_t patch, uint32_t width, uint32_t height, uint32_t columns,
                                  uint32_t rows)
{
    const uint32_t column = patch % columns, row = patch / columns;
    return (border(column + 1, width, columns) - border(column, width, columns)) *
           (border(row + 1, height, rows) - border(row, height, rows));
}

/* A group's patch, of one of the images, and the first of its cells. */
struct patch {
    uint32_t image, number;
    uint32_t first_column, first_row;
};

MR_FUNCTION struct patch patch_of(uint64_t group, uint32_t columns, uint32_t rows)
{
    struct patch patch;
    patch.image = (uint32_t)group / (columns * rows);
    patch.number = (uint32_t)group - patch.image * (columns * rows);
    patch.first_column = patch.number % columns * CELLS;
    patch.first_row = patch.number / columns * CELLS;
    return patch;
}

/* ---- mathematics ---- */

union bits {
    double number;
    uint64_t word;
};

/* Of a normal number above 0: exponent, and the series of the inverse hyperbolic tangent for a
 * mantissa between the roots of a half and of two. Within 1e-15, exact for powers of two. */
MR_FUNCTION double logarithm(double x)
{
    union bits value;
    value.number = x;
    int32_t exponent = (int32_t)(value.word >> 52) - 1023;
    value.word = (value.word & 0x000fffffffffffffu) | 0x3ff0000000000000u;
    if (value.number > 1.4142135623730951) {
        value.number *= 0.5;
        exponent++;
    }
    const double s = (value.number - 1.0) / (value.number + 1.0), t = s * s;
    double sum = 1.0 / 19.0;
    for (int k = 17; k >= 1; k -= 2)
        sum = sum * t + 1.0 / (double)k;
    return (double)exponent + 2.8853900817779268 * s * sum;
}

/* exp x for x of at most 700; 0 below -700. A power of two times a series. Within 1e-15 of itself. */
MR_FUNCTION double exponential(double x)
{
    if (!(x > -700.0))
        return 0.0;
    const double steps = floor(x * 1.4426950408889634 + 0.5);
    const double rest = (x - steps * 0.693147180369123816490) - steps * 1.90821492927058770002e-10;
    double sum = 1.6059043836821613e-10; /* 1 / 13!, and so on down */
    sum = sum * rest + 2.08767569878681e-9;
    sum = sum * rest + 2.505210838544172e-8;
    sum = sum * rest + 2.755731922398589e-7;
    sum = sum * rest + 2.7557319223985893e-6;
    sum = sum * rest + 2.48015873015873e-5;
    sum = sum * rest + 1.984126984126984e-4;
    sum = sum * rest + 1.388888888888889e-3;
    sum = sum * rest + 8.333333333333333e-3;
    sum = sum * rest + 4.1666666666666664e-2;
    sum = sum * rest + 0.16666666666666666;
    sum = sum * rest + 0.5;
    sum = sum * rest + 1.0;
    sum = sum * rest + 1.0;
    union bits power;
    power.word = (uint64_t)((int64_t)steps + 1023) << 52;
    return sum * power.number;
}

/* ---- propositional ---- */

/* n log2 n, in whole 2^20ths. */
MR_FUNCTION uint64_t spread(uint32_t n)
{
    return n > 1 ? (uint64_t)((double)n * logarithm((double)n) * 1048576.0 + 0.5) : 0;
}

MR_GROUP_KERNEL(vision_entropy, MR_IN(uint32_t, partial), MR_OUT(float, score),
                MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height), MR_VALUE(uint32_t, columns),
                MR_VALUE(uint32_t, rows), MR_VALUE(uint32_t, band_count),
                MR_VALUE(uint32_t, images), MR_VALUE(uint64_t, partial_step),
                MR_VALUE(uint64_t, score_step))
{
    MR_GROUP_SHARED(uint32_t, runs, RUNS * 2 * BINS); /* sums of every RUNS-th band */
    MR_GROUP_EACH (group, (uint64_t)images * columns * rows) {
        const struct patch patch = patch_of(group, columns, rows);
        const uint32_t *own =
            partial + patch.image * partial_step + (uint64_t)patch.number * band_count * 2 * BINS;
        uint64_t sum = 0;
        LANES (item, RUNS * 2 * BINS) {
            const uint32_t bin = item % (2 * BINS), run = item / (2 * BINS);
            uint32_t pixels = 0;
            for (uint32_t band = run; band < band_count; band += RUNS)
                pixels += own[(uint64_t)band * 2 * BINS + bin];
            runs[item] = pixels;
        }
        mr_group_sync();
        LANES (bin, 2 * BINS) {
            uint32_t pixels = 0;
            for (uint32_t run = 0; run < RUNS; run++)
                pixels += runs[run * 2 * BINS + bin];
            sum += spread(pixels);
        }
        sum = mr_group_sum_u64(sum);
        const uint32_t total = patch_pixels(patch.number, width, height, columns, rows);
        if (mr_group_is_leader())
            score[patch.image * score_step + patch.number] =
                (float)((double)(2 * spread(total) - sum) / ((double)total * 1048576.0 * 12.0));
    }
}

/* ---- perspectival ---- */

/* CIE 1976, over 100, of differences in L / 100, a / 128 and b / 128. */
MR_FUNCTION double colour_length(double l, double a, double b)
{
    return sqrt(l * l + 1.6384 * (a * a + b * b));
}

/* The cells that a patch is held against: its own and those within the longest reach. */
#define REACHES 3 /* of 1, 2 and 4 cells */
#define AROUND 4
#define SIDE (CELLS + 2 * AROUND)

/* A rectangle of cells, cut at the image's borders. */
struct cells {
    uint32_t left, top, right, bottom;
};

MR_FUNCTION struct cells cells_within(uint32_t column, uint32_t row, uint32_t reach,
                                      uint32_t cell_columns, uint32_t cell_rows)
{
    struct cells box;
    box.left = column < reach ? 0 : column - reach;
    box.top = row < reach ? 0 : row - reach;
    box.right = MR_MIN(column + reach + 1, cell_columns);
    box.bottom = MR_MIN(row + reach + 1, cell_rows);
    return box;
}

/* Pixels of the rectangle. */
MR_FUNCTION uint32_t cells_pixels(struct cells box, uint32_t width, uint32_t height,
                                  uint32_t cell_columns, uint32_t cell_rows)
{
    return (border(box.right, width, cell_columns) - border(box.left, width, cell_columns)) *
           (border(box.bottom, height, cell_rows) - border(box.top, height, cell_rows));
}

/* The cell against the box of cells around it, itself left out, times the cell's pixels. */
MR_FUNCTION double contrast(const int64_t *own, const int64_t *sums, uint32_t inside, uint32_t all)
{
    if (inside == 0 || inside == all)
        return 0.0;
    double difference[CONTRAST_SUMS];
    for (uint32_t k = 0; k < CONTRAST_SUMS; k++)
        difference[k] = ((double)own[k] / (double)inside -
                         (double)(sums[k] - own[k]) / (double)(all - inside)) /
                        UNIT;
    return (double)inside *
           (colour_length(difference[0], difference[1], difference[2]) + fabs(difference[3]));
}

MR_GROUP_KERNEL(vision_contrast, MR_IN(int64_t, pieces), MR_OUT(float, score),
                MR_VALUE(uint32_t, width), MR_VALUE(uint32_t, height), MR_VALUE(uint32_t, columns),
                MR_VALUE(uint32_t, rows), MR_VALUE(uint32_t, piece_count),
                MR_VALUE(uint32_t, images), MR_VALUE(uint64_t, pieces_step),
                MR_VALUE(uint64_t, score_step))
{
    MR_GROUP_SHARED(int64_t, cells, SIDE * SIDE * CONTRAST_SUMS);
    MR_GROUP_SHARED(int64_t, boxes, PATCH_CELLS * REACHES * CONTRAST_SUMS);
    MR_GROUP_SHARED(double, terms, PATCH_CELLS *REACHES);
    const uint32_t cell_columns = columns * CELLS, cell_rows = rows * CELLS;
    MR_GROUP_EACH (group, (uint64_t)images * columns * rows) {
        const struct patch patch = patch_of(group, columns, rows);
        /* Position (x, y) is the cell x - AROUND and y - AROUND from the patch's first. */
        LANES (item, SIDE * SIDE * CONTRAST_SUMS) {
            const uint32_t place = item / CONTRAST_SUMS, k = item % CONTRAST_SUMS;
            const uint32_t column = patch.first_column + place % SIDE,
                           row = patch.first_row + place / SIDE;
            const int is_inside = column >= AROUND && column < cell_columns + AROUND &&
                                  row >= AROUND && row < cell_rows + AROUND;
            const uint64_t cell =
                is_inside ? (uint64_t)(row - AROUND) * cell_columns + column - AROUND : 0;
            const int64_t *own = pieces + patch.image * pieces_step + cell * piece_count * SUMS +
                                 (k < 3 ? k : EDGES);
            int64_t sum = 0;
            for (uint32_t piece = 0; piece < (is_inside ? piece_count : 0); piece++)
                sum += own[(uint64_t)piece * SUMS];
            cells[item] = sum;
        }
        mr_group_sync();
        LANES (item, PATCH_CELLS * REACHES * CONTRAST_SUMS) {
            const uint32_t k = item % CONTRAST_SUMS, cell = item / CONTRAST_SUMS / REACHES;
            const uint32_t reach = 1u << item / CONTRAST_SUMS % REACHES;
            const uint32_t x = cell % CELLS + AROUND, y = cell / CELLS + AROUND;
            int64_t sum = 0;
            for (uint32_t down = y - reach; down <= y + reach; down++)
                for (uint32_t across = x - reach; across <= x + reach; across++)
                    sum += cells[(down * SIDE + across) * CONTRAST_SUMS + k];
            boxes[item] = sum;
        }
        mr_group_sync();
        LANES (item, PATCH_CELLS * REACHES) {
            const uint32_t cell = item / REACHES, reach = 1u << item % REACHES;
            const uint32_t x = cell % CELLS, y = cell / CELLS;
            const uint32_t column = patch.first_column + x, row = patch.first_row + y;
            terms[item] =
                contrast(cells + ((y + AROUND) * SIDE + x + AROUND) * CONTRAST_SUMS,
                         boxes + item * CONTRAST_SUMS,
                         cells_pixels(cells_within(column, row, 0, cell_columns, cell_rows), width,
                                      height, cell_columns, cell_rows),
                         cells_pixels(cells_within(column, row, reach, cell_columns, cell_rows),
                                      width, height, cell_columns, cell_rows));
        }
        mr_group_sync();
        if (mr_group_is_leader()) {
            double sum = 0.0;
            for (uint32_t item = 0; item < REACHES * PATCH_CELLS; item++)
                sum += terms[item];
            const uint32_t total = patch_pixels(patch.number, width, height, columns, rows);
            score[patch.image * score_step + patch.number] = (float)(sum / (3.0 * (double)total));
        }
        mr_group_sync();
    }
}

/* ---- participatory ---- */

/* The square of the distance of a cell's mean colour from a term, and what is left of the term at a
 * distance that is so much more than the nearest's. */
MR_FUNCTION double term_distance(const int64_t *sums, double pixels, const double *term)
{
    const double scale = 1.0 / (pixels * UNIT);
    const double l = (double)sums[0] * scale - term[0], a = (double)sums[1] * scale - term[1];
    const double b = (double)sums[2] * scale - term[2];
    return l * l + 1.6384 * (a * a + b * b);
}

MR_FUNCTION double term_part(const double *distances, uint32_t k)
{
    double nearest = distances[0];
    for (uint32_t other = 1; other < COLOURS; other++)
        nearest = MR_MIN(nearest, distances[other]);
    return exponential((nearest - distances[k]) * 12.5); /* 1 / (2 * 0.2 * 0.2) */
}

/* Number k of a patch's descriptor, from its shares and sums. */
MR_FUNCTION double describe(const double *totals, double pixels, uint32_t k)
{
    const double *sums = totals + COLOURS;
    if (k < COLOURS)
        return totals[k] / pixels;
    if (k == COLOURS)
        return sums[0] / (pixels * UNIT);
    if (k < 15) {
        const double mean = sums[k - 12] / (pixels * UNIT);
        const double variance = sums[k - 9] / (pixels * UNIT * UNIT) - mean * mean;
        return 2.0 * sqrt(MR_MAX(variance, 0.0));
    }
    const double edges = 4.0 * sums[6] / (pixels * UNIT), bounded = MR_MIN(edges, 1.0);
    if (k == 15)
        return bounded;
    return sums[6] > 0.0 ? bounded * sums[k - 9] / sums[6] : 0.0;
}

/* `query`: numbers times weights, then weights. */
MR_FUNCTION float likeness(const double *descriptor, const double *query)
{
    double product = 0.0, own = 0.0, other = 0.0;
    for (uint32_t k = 0; k < DESCRIPTOR; k++) {
        const double a = descriptor[k] * query[DESCRIPTOR + k], b = query[k];
        product += a * b;
        own += a * a;
        other += b * b;
    }
    const double length = sqrt(own) * sqrt(other);
    const double cosine = length > 0.0 && product > 0.0 ? product / length : 0.0;
    return (float)MR_MIN(cosine, 1.0);
}

MR_GROUP_KERNEL(vision_similarity, MR_IN(int64_t, pieces), MR_IN(double, terms),
                MR_IN(double, query), MR_OUT(float, score), MR_VALUE(uint32_t, width),
                MR_VALUE(uint32_t, height), MR_VALUE(uint32_t, columns), MR_VALUE(uint32_t, rows),
                MR_VALUE(uint32_t, piece_count), MR_VALUE(uint32_t, images),
                MR_VALUE(uint64_t, pieces_step), MR_VALUE(uint64_t, score_step))
{
    MR_GROUP_SHARED(int64_t, sums, PATCH_CELLS * SUMS);
    MR_GROUP_SHARED(double, distances, PATCH_CELLS *COLOURS);
    MR_GROUP_SHARED(double, shares, PATCH_CELLS *COLOURS);
    MR_GROUP_SHARED(double, pixels, PATCH_CELLS);
    MR_GROUP_SHARED(double, weights, PATCH_CELLS);
    MR_GROUP_SHARED(double, totals, COLOURS + SUMS);
    MR_GROUP_SHARED(double, descriptor, DESCRIPTOR);
    MR_GROUP_EACH (group, (uint64_t)images * columns * rows) {
        const struct patch patch = patch_of(group, columns, rows);
        const int64_t *own = pieces + patch.image * pieces_step;
        LANES (item, PATCH_CELLS * SUMS) {
            const uint32_t cell = item / SUMS, k = item % SUMS;
            const uint64_t at = (uint64_t)(patch.first_row + cell / CELLS) * (columns * CELLS) +
                                patch.first_column + cell % CELLS;
            int64_t sum = 0;
            for (uint64_t piece = at * piece_count; piece < (at + 1) * piece_count; piece++)
                sum += own[piece * SUMS + k];
            sums[item] = sum;
        }
        mr_group_sync();
        LANES (item, PATCH_CELLS * COLOURS) {
            const uint32_t cell = item / COLOURS;
            const uint32_t column = patch.first_column + cell % CELLS,
                           row = patch.first_row + cell / CELLS;
            const uint32_t wide =
                border(column + 1, width, columns * CELLS) - border(column, width, columns * CELLS);
            const uint32_t high =
                border(row + 1, height, rows * CELLS) - border(row, height, rows * CELLS);
            if (item % COLOURS == 0)
                pixels[cell] = (double)(wide * high);
            distances[item] = wide * high > 0
                                  ? term_distance(sums + cell * SUMS, (double)(wide * high),
                                                  terms + item % COLOURS * 3)
                                  : 0.0;
        }
        mr_group_sync();
        LANES (item, PATCH_CELLS * COLOURS)
            shares[item] = term_part(distances + item / COLOURS * COLOURS, item % COLOURS);
        mr_group_sync();
        LANES (cell, PATCH_CELLS) {
            double sum = 0.0;
            for (uint32_t k = 0; k < COLOURS; k++)
                sum += shares[cell * COLOURS + k];
            weights[cell] = pixels[cell] / sum;
        }
        mr_group_sync();
        LANES (k, COLOURS + SUMS) {
            double sum = 0.0;
            for (uint32_t cell = 0; cell < PATCH_CELLS; cell++)
                sum += k < COLOURS ? shares[cell * COLOURS + k] * weights[cell]
                                   : (double)sums[cell * SUMS + k - COLOURS];
            totals[k] = sum;
        }
        mr_group_sync();
        const uint32_t total = patch_pixels(patch.number, width, height, columns, rows);
        LANES (k, DESCRIPTOR)
            descriptor[k] = describe(totals, (double)total, k);
        mr_group_sync();
        if (mr_group_is_leader())
            score[patch.image * score_step + patch.number] = likeness(descriptor, query);
        mr_group_sync();
    }
}

/* ---- balance ---- */

MR_FUNCTION double pull(double difference)
{
    return 2.0 / (1.0 + exponential(-4.0 * difference)) - 1.0;
}

MR_GROUP_KERNEL(vision_balance, MR_INOUT(float, scores), MR_VALUE(uint32_t, count),
                MR_VALUE(float, floor_contrast), MR_VALUE(uint32_t, has_query),
                MR_VALUE(float, weight0), MR_VALUE(float, weight1), MR_VALUE(float, weight2),
                MR_VALUE(float, compress), MR_VALUE(float, exploit), MR_VALUE(float, focus),
                MR_VALUE(float, temperature), MR_VALUE(uint32_t, images),
                MR_VALUE(uint64_t, scores_step))
{
    MR_GROUP_EACH (number, images) {
        float *knowing = scores + number * scores_step;
        float *standing = knowing + count, *asking = standing + count;
        float *relevance = asking + count;
        float most = floor_contrast;
        LANES (i, count)
            most = MR_MAX(standing[i], most);
        most = mr_group_max_f32(most);

        const double weight = (double)weight0 + (double)weight1 + (double)weight2;
        uint64_t sum = 0;
        LANES (i, count) {
            standing[i] = (float)((double)standing[i] / (double)most);
            if (!has_query)
                asking[i] = 0.0f;
            const double base = (double)weight0 * (double)knowing[i] +
                                (double)weight1 * (double)standing[i] +
                                (double)weight2 * (double)asking[i];
            sum += (uint64_t)((weight > 0.0 ? base / weight : 0.0) * 4294967296.0 + 0.5);
        }
        const double mean = (double)mr_group_sum_u64(sum) / 4294967296.0 / (double)count;

        double greatest = -1e30;
        for (int is_second = 0; is_second <= 1; is_second++) {
            LANES (i, count) {
                const double p = (double)knowing[i], s = (double)standing[i];
                const double q = (double)asking[i];
                const double base = (double)weight0 * p + (double)weight1 * s + (double)weight2 * q;
                double z = weight > 0.0 ? base / weight : 0.0;
                z = z + (double)focus * pull(z - mean) + (double)compress * pull(s - p) +
                    (double)exploit * pull(q - (p + s) * 0.5);
                if (is_second)
                    relevance[i] = (float)exponential((z - greatest) / (double)temperature);
                else
                    greatest = MR_MAX(z, greatest);
            }
            greatest = mr_group_max_f64(greatest);
        }
    }
}
