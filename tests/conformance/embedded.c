/* SPDX-License-Identifier: MIT */
/*
 * Every embedded kernel against plain C, on random data with the edges in it, at odd sizes and at
 * none. Results are equal bit by bit, but for sums of floats, whose order is the backend's.
 */
#include "support/kernel_run.h"
#include "support/make.h"
#include "support/suite.h"

#include <math.h>
#include <stdbool.h>

static const size_t sizes[] = { 0, 1, 2, 31, 255, 257, 4097, 70001 };
enum { SIZE_COUNT = sizeof sizes / sizeof *sizes, SIZE_LIMIT = 70001 };

static void *allocate(size_t count, size_t size_bytes)
{
    void *block = calloc(count + 1, size_bytes);
    CHECK(block);
    return block;
}

/* ---- numbers of every type, as doubles ---- */

static double load(mr_type type, const void *array, size_t i)
{
    switch (type) {
    case MR_TYPE_U8:
        return ((const uint8_t *)array)[i];
    case MR_TYPE_U16:
        return ((const uint16_t *)array)[i];
    case MR_TYPE_I16:
        return ((const int16_t *)array)[i];
    case MR_TYPE_U32:
        return ((const uint32_t *)array)[i];
    case MR_TYPE_I32:
        return ((const int32_t *)array)[i];
    case MR_TYPE_F32:
        return ((const float *)array)[i];
    default:
        return ((const double *)array)[i];
    }
}

static void limits(mr_type type, double *low, double *high)
{
    const double bits = 8.0 * (double)mr_type_size(type);
    const bool is_signed = type == MR_TYPE_I16 || type == MR_TYPE_I32;
    *low = is_signed ? -exp2(bits - 1) : 0;
    *high = exp2(is_signed ? bits - 1 : bits) - 1;
}

static bool is_float(mr_type type)
{
    return type == MR_TYPE_F32 || type == MR_TYPE_F64;
}

/* As convert_float.c promises. */
static void store(mr_type type, void *array, size_t i, double x)
{
    double low, high;
    if (type == MR_TYPE_F64) {
        ((double *)array)[i] = x;
        return;
    }
    if (type == MR_TYPE_F32) {
        ((float *)array)[i] = (float)x;
        return;
    }
    limits(type, &low, &high);
    x = isnan(x) ? 0 : rint(x < low ? low : x > high ? high : x);
    const int64_t integer = (int64_t)x;
    memcpy((char *)array + i * mr_type_size(type), &integer, mr_type_size(type));
}

/* Bits at random give every integer, and floats of all sizes, infinities and not-a-numbers; between
 * them small numbers, halves and numbers just outside each integer type. */
static void fill(struct random *random, mr_type type, void *array, size_t count)
{
    static const double edges[] = { 0,           0.5,         1.5, 2.5,        -0.5,
                                    254.5,       255.5,       256, 32767.5,    -32768.5,
                                    65535.5,     65536,       -1,  2147483647, -2147483649.,
                                    4294967295., 4294967296., 1e30 };
    random_bytes(random, array, count * mr_type_size(type));
    if (!is_float(type))
        return;
    for (size_t i = 0; i < count; i++) {
        if (i % 3 == 0)
            store(type, array, i, edges[random_below(random, sizeof edges / sizeof *edges)]);
        else if (i % 3 == 1)
            store(type, array, i, ((double)random_below(random, 1 << 18) - 70000) / 2);
    }
}

static void check_same(const char *name, mr_type type, const void *expected, const void *actual,
                       size_t count)
{
    const size_t size_bytes = mr_type_size(type);
    for (size_t i = 0; i < count; i++) {
        const char *a = (const char *)expected + i * size_bytes;
        const char *b = (const char *)actual + i * size_bytes;
        const double x = load(type, expected, i), y = load(type, actual, i);
        if (memcmp(a, b, size_bytes) != 0 && !(isnan(x) && isnan(y)))
            CHECK_FAIL("%s, element %zu of %zu: expected %.17g, got %.17g", name, i, count, x, y);
    }
}

/* ---- conversions ---- */

static const mr_type types[] = { MR_TYPE_U8,  MR_TYPE_U16, MR_TYPE_I16, MR_TYPE_U32,
                                 MR_TYPE_I32, MR_TYPE_F32, MR_TYPE_F64 };
enum { TYPE_COUNT = sizeof types / sizeof *types };

static void check_conversion(mr_stream *stream, mr_type from, mr_type to, size_t count)
{
    struct random random = { 7 + count };
    char name[64];
    snprintf(name, sizeof name, "convert_%s_%s", mr_type_name(from), mr_type_name(to));
    void *source = allocate(count, 8), *expected = allocate(count, 8), *actual = allocate(count, 8);
    fill(&random, from, source, count);
    for (size_t i = 0; i < count; i++)
        store(to, expected, i, load(from, source, i));

    const struct run_argument arguments[] = { RUN_IN(source, count * mr_type_size(from)),
                                              RUN_OUT(actual, count * mr_type_size(to)),
                                              RUN_NUMBER(mr_argument_u64(count)) };
    kernel_run_embedded(stream, name, count, arguments, 3);
    check_same(name, to, expected, actual, count);
    free(source);
    free(expected);
    free(actual);
}

static void conversions_saturate_and_round_to_even(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t a = 0; a < TYPE_COUNT; a++) {
        for (size_t b = 0; b < TYPE_COUNT; b++) {
            if (a == b)
                continue;
            check_conversion(stream, types[a], types[b], 257);
            check_conversion(stream, types[a], types[b], a == b + 1 ? SIZE_LIMIT : 1);
        }
    }
    mr_stream_destroy(stream);
}

/* ---- arithmetic ---- */

static mr_argument number_of(mr_type type, double x)
{
    if (is_float(type))
        return mr_argument_f64(x);
    return x < 0 ? mr_argument_i64((int64_t)x) : mr_argument_u64((uint64_t)x);
}

static void check_scale_offset(mr_stream *stream, const char *name, mr_type from, mr_type to,
                               size_t count)
{
    struct random random = { 11 + count };
    void *source = allocate(count, 8), *expected = allocate(count, 8), *actual = allocate(count, 8);
    fill(&random, from, source, count);
    const double scale = 0.1, offset = -3.7;
    for (size_t i = 0; i < count; i++) {
        /* Each step rounded to the type, and never contracted. */
        volatile float product = (float)scale * (float)load(from, source, i);
        volatile double wide = scale * load(from, source, i);
        if (to == MR_TYPE_F32)
            store(to, expected, i, (double)(product + (float)offset));
        else
            store(to, expected, i, wide + offset);
    }

    const struct run_argument arguments[] = { RUN_IN(source, count * mr_type_size(from)),
                                              RUN_OUT(actual, count * mr_type_size(to)),
                                              RUN_NUMBER(mr_argument_f64(scale)),
                                              RUN_NUMBER(mr_argument_f64(offset)),
                                              RUN_NUMBER(mr_argument_u64(count)) };
    kernel_run_embedded(stream, name, count, arguments, 5);
    check_same(name, to, expected, actual, count);
    free(source);
    free(expected);
    free(actual);
}

static void scale_and_offset_are_rounded_one_by_one(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        check_scale_offset(stream, "scale_offset_f32", MR_TYPE_F32, MR_TYPE_F32, sizes[i]);
        check_scale_offset(stream, "scale_offset_f64", MR_TYPE_F64, MR_TYPE_F64, sizes[i]);
        check_scale_offset(stream, "scale_offset_u8_f32", MR_TYPE_U8, MR_TYPE_F32, sizes[i]);
        check_scale_offset(stream, "scale_offset_u16_f32", MR_TYPE_U16, MR_TYPE_F32, sizes[i]);
    }
    mr_stream_destroy(stream);
}

static void check_clamp_and_threshold(mr_stream *stream, mr_type type, size_t count)
{
    struct random random = { 13 + count };
    char name[64];
    const double low = type == MR_TYPE_U8 ? 20 : 200, high = type == MR_TYPE_U8 ? 200 : 20000;
    void *source = allocate(count, 8), *expected = allocate(count, 8), *actual = allocate(count, 8);
    fill(&random, type, source, count);

    for (size_t i = 0; i < count; i++) {
        const double x = load(type, source, i);
        store(type, expected, i, !(x > low) ? low : x > high ? high : x);
    }
    const struct run_argument clamp[] = { RUN_IN(source, count * mr_type_size(type)),
                                          RUN_OUT(actual, count * mr_type_size(type)),
                                          RUN_NUMBER(number_of(type, low)),
                                          RUN_NUMBER(number_of(type, high)),
                                          RUN_NUMBER(mr_argument_u64(count)) };
    snprintf(name, sizeof name, "clamp_%s", mr_type_name(type));
    kernel_run_embedded(stream, name, count, clamp, 5);
    check_same(name, type, expected, actual, count);

    for (size_t i = 0; i < count; i++)
        store(type, expected, i, load(type, source, i) >= low ? 7 : 3);
    const struct run_argument threshold[] = { clamp[0],
                                              clamp[1],
                                              clamp[2],
                                              RUN_NUMBER(number_of(type, 3)),
                                              RUN_NUMBER(number_of(type, 7)),
                                              clamp[4] };
    snprintf(name, sizeof name, "threshold_%s", mr_type_name(type));
    kernel_run_embedded(stream, name, count, threshold, 6);
    check_same(name, type, expected, actual, count);
    free(source);
    free(expected);
    free(actual);
}

static void clamp_and_threshold_follow_their_limits(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        check_clamp_and_threshold(stream, types[t], 1);
        check_clamp_and_threshold(stream, types[t], 4097);
    }
    mr_stream_destroy(stream);
}

static void sums_and_copies_are_exact(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    struct random random = { 17 };
    const size_t count = SIZE_LIMIT;
    double *a = allocate(count, 8), *b = allocate(count, 8), *actual = allocate(count, 8);
    double *expected = allocate(count, 8);
    fill(&random, MR_TYPE_F64, a, count);
    fill(&random, MR_TYPE_F64, b, count);
    for (size_t i = 0; i < count; i++)
        expected[i] = a[i] + b[i];
    const struct run_argument add[] = { RUN_IN(a, count * 8), RUN_IN(b, count * 8),
                                        RUN_OUT(actual, count * 8),
                                        RUN_NUMBER(mr_argument_u64(count)) };
    kernel_run_embedded(stream, "add_f64", count, add, 4);
    check_same("add_f64", MR_TYPE_F64, expected, actual, count);

    const float *c = (const float *)a, *d = (const float *)b;
    for (size_t i = 0; i < count; i++)
        ((float *)expected)[i] = c[i] + d[i];
    const struct run_argument add_f32[] = { RUN_IN(a, count * 4), RUN_IN(b, count * 4),
                                            RUN_OUT(actual, count * 4), add[3] };
    kernel_run_embedded(stream, "add_f32", count, add_f32, 4);
    check_same("add_f32", MR_TYPE_F32, expected, actual, count);

    const struct run_argument copy[] = { RUN_IN(a, count), RUN_OUT(actual, count), add[3] };
    kernel_run_embedded(stream, "copy_u8", count, copy, 3);
    CHECK(memcmp(a, actual, count) == 0);
    free(a);
    free(b);
    free(actual);
    free(expected);
    mr_stream_destroy(stream);
}

/* ---- images ---- */

static const mr_type image_types[] = { MR_TYPE_U8, MR_TYPE_U16, MR_TYPE_F32 };

static void check_calibration(mr_stream *stream, mr_type type, size_t item_size, size_t item_count)
{
    struct random random = { 19 + item_size };
    const size_t count = item_size * item_count;
    char name[64];
    snprintf(name, sizeof name, "calibrate_%s_f32", mr_type_name(type));
    void *source = allocate(count, 4);
    float *dark = allocate(item_size, 4), *flat = allocate(item_size, 4);
    float *expected = allocate(count, 4), *actual = allocate(count, 4);
    fill(&random, type, source, count);
    for (size_t i = 0; i < item_size; i++) {
        dark[i] = (float)random_below(&random, 4000) / 16;
        flat[i] = (float)random_below(&random, 300) / 200 - 0.1f;
    }
    for (size_t i = 0; i < count; i++) {
        const size_t k = i % item_size;
        expected[i] = flat[k] > 0 ? ((float)load(type, source, i) - dark[k]) / flat[k] : 0;
    }

    const struct run_argument arguments[] = { RUN_IN(source, count * mr_type_size(type)),
                                              RUN_IN(dark, item_size * 4),
                                              RUN_IN(flat, item_size * 4),
                                              RUN_OUT(actual, count * 4),
                                              RUN_NUMBER(mr_argument_u64(item_size)),
                                              RUN_NUMBER(mr_argument_u64(item_count)) };
    kernel_run_embedded(stream, name, item_count * (item_size / 4096 + 1), arguments, 6);
    check_same(name, MR_TYPE_F32, expected, actual, count);
    free(source);
    free(dark);
    free(flat);
    free(expected);
    free(actual);
}

static void calibration_repeats_its_planes(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < SIZE_COUNT; i++)
            check_calibration(stream, image_types[t], sizes[i], i % 4);
        check_calibration(stream, image_types[t], 5000, 8);
        check_calibration(stream, image_types[t], 5000, 19);
    }
    mr_stream_destroy(stream);
}

static void check_quantisation(mr_stream *stream, mr_type type, size_t item_size, size_t item_count)
{
    struct random random = { 23 + item_size };
    const size_t count = item_size * item_count;
    char name[64];
    snprintf(name, sizeof name, "quantise_%s_u8", mr_type_name(type));
    void *source = allocate(count, 4);
    float *low = allocate(item_count, 4), *high = allocate(item_count, 4);
    uint8_t *expected = allocate(count, 1), *actual = allocate(count, 1);
    fill(&random, type, source, count);
    for (size_t k = 0; k < item_count; k++) {
        low[k] = (float)random_below(&random, 1000);
        high[k] = k == 2 ? low[k] : low[k] + 1 + (float)random_below(&random, 60000);
    }
    for (size_t i = 0; i < count; i++) {
        const size_t k = i / item_size;
        const float scale = high[k] > low[k] ? 255.0f / (high[k] - low[k]) : 0.0f;
        store(MR_TYPE_U8, expected, i, (double)(((float)load(type, source, i) - low[k]) * scale));
    }

    const struct run_argument arguments[] = { RUN_IN(source, count * mr_type_size(type)),
                                              RUN_IN(low, item_count * 4),
                                              RUN_IN(high, item_count * 4),
                                              RUN_OUT(actual, count),
                                              RUN_NUMBER(mr_argument_u64(item_size)),
                                              RUN_NUMBER(mr_argument_u64(item_count)) };
    kernel_run_embedded(stream, name, item_count * (item_size / 4096 + 1), arguments, 6);
    check_same(name, MR_TYPE_U8, expected, actual, count);
    free(source);
    free(low);
    free(high);
    free(expected);
    free(actual);
}

static void quantisation_spreads_each_item_over_its_range(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < SIZE_COUNT; i++)
            check_quantisation(stream, image_types[t], sizes[i], i % 4);
    }
    mr_stream_destroy(stream);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_of(mr_type type, const void *image, size_t width, size_t height, size_t x,
                        size_t y)
{
    double around[9];
    int count = 0;
    for (int dy = -1; dy <= 1; dy++) {
        for (int dx = -1; dx <= 1; dx++) {
            const size_t u = dx < 0 && !x ? 0 : x + (size_t)dx < width ? x + (size_t)dx : width - 1;
            const size_t v = dy < 0 && !y              ? 0
                             : y + (size_t)dy < height ? y + (size_t)dy
                                                       : height - 1;
            around[count++] = load(type, image, v * width + u);
        }
    }
    qsort(around, 9, sizeof *around, compare_doubles);
    return around[4];
}

static void check_median(mr_stream *stream, mr_type type, size_t width, size_t height,
                         size_t image_count)
{
    struct random random = { 29 + width * height };
    const size_t size = width * height, count = size * image_count, bytes = mr_type_size(type);
    char name[64];
    snprintf(name, sizeof name, "median3x3_%s", mr_type_name(type));
    char *source = allocate(count, bytes), *expected = allocate(count, bytes);
    char *actual = allocate(count, bytes);
    for (size_t i = 0; i < count; i++)
        store(type, source, i, (double)random_below(&random, 400) - (type == MR_TYPE_F32 ? 99 : 0));
    for (size_t i = 0; i < count; i++)
        store(type, expected, i,
              median_of(type, source + i / size * size * bytes, width, height, i % width,
                        i % size / width));

    const struct run_argument arguments[] = { RUN_IN(source, count * bytes),
                                              RUN_OUT(actual, count * bytes),
                                              RUN_NUMBER(mr_argument_u64(width)),
                                              RUN_NUMBER(mr_argument_u64(height)),
                                              RUN_NUMBER(mr_argument_u64(image_count)) };
    kernel_run_embedded(stream, name, height * image_count, arguments, 5);
    check_same(name, type, expected, actual, count);
    free(source);
    free(expected);
    free(actual);
}

static void median_repeats_the_edges_of_each_image(mr_device *device)
{
    static const size_t shapes[][2] = { { 1, 1 },  { 1, 7 },   { 7, 1 },  { 2, 2 },   { 3, 3 },
                                        { 2, 65 }, { 130, 3 }, { 64, 9 }, { 301, 50 } };
    mr_stream *stream = make_stream(device);
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            check_median(stream, image_types[t], shapes[i][0], shapes[i][1], 1 + i % 3);
        check_median(stream, image_types[t], 5, 5, 0);
        check_median(stream, image_types[t], 0, 5, 2);
    }
    mr_stream_destroy(stream);
}

/* ---- statistics ---- */

/* Sums may differ in their last bits. */
static void check_statistics_item(const char *name, mr_type type, const void *source, size_t begin,
                                  size_t size, const double *result)
{
    double sum = 0, magnitude = 0, least = INFINITY, greatest = -INFINITY;
    for (size_t i = begin; i < begin + size; i++) {
        const double x = load(type, source, i);
        sum += x;
        magnitude += fabs(x);
        least = fmin(least, x);
        greatest = fmax(greatest, x);
    }
    const double slack = type == MR_TYPE_F32 ? magnitude * 1e-12 : 0;
    if (fabs(sum - result[0]) > slack || least != result[1] || greatest != result[2])
        CHECK_FAIL("%s of %zu: expected %.17g %g %g, got %.17g %g %g", name, size, sum, least,
                   greatest, result[0], result[1], result[2]);
    CHECK(size ? result[3] == result[0] / (double)size : isnan(result[3]));
    CHECK(result[4] == (double)size);
}

static void check_statistics(mr_stream *stream, mr_type type, size_t item_size, size_t item_count,
                             size_t part_count)
{
    struct random random = { 31 + item_size };
    const size_t count = item_size * item_count;
    char name[64];
    snprintf(name, sizeof name, "statistics_%s", mr_type_name(type));
    void *source = allocate(count, mr_type_size(type));
    double *partial = allocate(item_count * part_count, 24), *result = allocate(item_count, 40);
    for (size_t i = 0; i < count; i++)
        store(type, source, i, (double)random_below(&random, 1 << 16) / (is_float(type) ? 7 : 1));

    const struct run_argument first[] = { RUN_IN(source, count * mr_type_size(type)),
                                          RUN_OUT(partial, item_count * part_count * 24),
                                          RUN_NUMBER(mr_argument_u64(item_size)),
                                          RUN_NUMBER(mr_argument_u64(item_count)),
                                          RUN_NUMBER(mr_argument_u64(part_count)) };
    kernel_run_embedded(stream, name, item_count * part_count, first, 5);
    const struct run_argument second[] = { RUN_IN(partial, item_count * part_count * 24),
                                           RUN_OUT(result, item_count * 40), first[2], first[3],
                                           first[4] };
    kernel_run_embedded(stream, "statistics_finish", item_count, second, 5);
    for (size_t k = 0; k < item_count; k++)
        check_statistics_item(name, type, source, k * item_size, item_size, result + 5 * k);

    float *low = allocate(item_count, 4), *high = allocate(item_count, 4);
    const struct run_argument range[] = { RUN_IN(result, item_count * 40),
                                          RUN_OUT(low, item_count * 4),
                                          RUN_OUT(high, item_count * 4), first[3] };
    kernel_run_embedded(stream, "statistics_range", item_count, range, 4);
    for (size_t k = 0; k < item_count; k++)
        CHECK(low[k] == (float)result[5 * k + 1] && high[k] == (float)result[5 * k + 2]);
    free(source);
    free(partial);
    free(result);
    free(low);
    free(high);
}

static void statistics_are_those_of_each_item(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t t = 0; t < 3; t++) {
        for (size_t i = 0; i < SIZE_COUNT; i++)
            check_statistics(stream, image_types[t], sizes[i], 1 + i % 3, 1 + i * i % 40);
        check_statistics(stream, image_types[t], 3, 2, 8);
        check_statistics(stream, image_types[t], 100, 0, 4);
    }
    mr_stream_destroy(stream);
}

static uint32_t bin_of(double value, float low, float high, uint32_t bin_count)
{
    const float x = (float)value;
    const float scale = high > low ? (float)bin_count / (high - low) : 0.0f;
    if (!(x >= low && x <= high))
        return bin_count;
    const uint32_t bin = (uint32_t)((x - low) * scale);
    return bin < bin_count ? bin : bin_count - 1;
}

static void check_histogram(mr_stream *stream, mr_type type, size_t item_size, size_t part_count,
                            uint32_t bin_count, float low, float high)
{
    struct random random = { 37 + item_size };
    const size_t item_count = 3, count = item_size * item_count;
    char name[64];
    snprintf(name, sizeof name, "histogram_%s", mr_type_name(type));
    void *source = allocate(count, mr_type_size(type));
    const size_t partial_bytes = item_count * part_count * bin_count * 4;
    uint32_t *partial = allocate(partial_bytes, 1), *actual = allocate(item_count * bin_count, 4);
    uint32_t *expected = allocate(item_count * bin_count, 4);
    fill(&random, type, source, count);
    for (size_t i = 0; i < count; i++) {
        const uint32_t bin = bin_of(load(type, source, i), low, high, bin_count);
        if (bin < bin_count)
            expected[i / item_size * bin_count + bin]++;
    }

    const struct run_argument first[] = {
        RUN_IN(source, count * mr_type_size(type)), RUN_OUT(partial, partial_bytes),
        RUN_NUMBER(mr_argument_f32(low)),           RUN_NUMBER(mr_argument_f32(high)),
        RUN_NUMBER(mr_argument_u64(bin_count)),     RUN_NUMBER(mr_argument_u64(item_size)),
        RUN_NUMBER(mr_argument_u64(item_count)),    RUN_NUMBER(mr_argument_u64(part_count))
    };
    kernel_run_embedded(stream, name, item_count * part_count, first, 8);
    const struct run_argument second[] = { RUN_IN(partial, partial_bytes),
                                           RUN_OUT(actual, item_count * bin_count * 4), first[4],
                                           first[6], first[7] };
    kernel_run_embedded(stream, "histogram_finish", item_count * bin_count, second, 5);
    check_same(name, MR_TYPE_U32, expected, actual, item_count * bin_count);
    free(source);
    free(partial);
    free(actual);
    free(expected);
}

static void histograms_count_what_is_in_range(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        check_histogram(stream, MR_TYPE_U8, sizes[i], 1 + i, 256, 0, 256);
        check_histogram(stream, MR_TYPE_U16, sizes[i], 1 + i * 3, 100, 1000, 50000);
        check_histogram(stream, MR_TYPE_F32, sizes[i], 1 + i % 3, 37, -100.5f, 20000);
    }
    check_histogram(stream, MR_TYPE_U16, 20000, 3, 10000, 0, 65535);
    check_histogram(stream, MR_TYPE_F32, 1000, 2, 1, 1.5f, 1.5f);
    mr_stream_destroy(stream);
}

/* ---- the list ---- */

static void every_embedded_kernel_opens(mr_device *device)
{
    size_t count = 0;
    for (const char *name; (name = mr_kernel_embedded_name(count)); count++) {
        mr_kernel *kernel;
        CHECK_OK(mr_kernel_open(device, name, &kernel));
        CHECK(strcmp(mr_kernel_name(kernel), name) == 0);
        CHECK(mr_kernel_parameter_count(kernel) >= 3);
        mr_kernel_destroy(kernel);
    }
    CHECK(count > 0);

    mr_kernel *kernel;
    CHECK_STATUS(MR_E_INVALID, mr_kernel_open(device, "convert_u8_u8", &kernel));
    CHECK_SAYS("no kernel 'convert_u8_u8' is embedded", mr_last_error());
    CHECK(!kernel);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(conversions_saturate_and_round_to_even),
        SUITE_TEST(scale_and_offset_are_rounded_one_by_one),
        SUITE_TEST(clamp_and_threshold_follow_their_limits),
        SUITE_TEST(sums_and_copies_are_exact),
        SUITE_TEST(calibration_repeats_its_planes),
        SUITE_TEST(quantisation_spreads_each_item_over_its_range),
        SUITE_TEST(median_repeats_the_edges_of_each_image),
        SUITE_TEST(statistics_are_those_of_each_item),
        SUITE_TEST(histograms_count_what_is_in_range),
        SUITE_TEST(every_embedded_kernel_opens),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
