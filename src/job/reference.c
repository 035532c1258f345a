/* SPDX-License-Identifier: MIT */
/*
 * The plain, single-threaded form of every built-in operation. Deliberately simple: no blocking, no
 * vector tricks, no shared code with the kernels. Compiled without fused multiply-add, as the
 * kernels are, so that results can be compared bit by bit.
 */
#include "job/reference.h"

#include <math.h>
#include <string.h>

/* ---- element by element ---- */

/* The nearest value of an integer type: ties to even, what does not fit becomes the nearest bound,
 * what is not a number becomes 0. Doubles hold every value of 32 bits. */
static double nearest_integer(double value, double low, double high)
{
    if (isnan(value))
        return 0;
    return rint(fmin(fmax(value, low), high));
}

static void store_number(mr_type type, void *data, size_t k, double value)
{
    double low = 0, high = 0;
    if (!mr__type_is_float(type)) {
        mr__type_range(type, &low, &high);
        value = nearest_integer(value, low, high);
    }
    switch (type) {
    case MR_TYPE_U8:
        ((uint8_t *)data)[k] = (uint8_t)value;
        break;
    case MR_TYPE_I8:
        ((int8_t *)data)[k] = (int8_t)value;
        break;
    case MR_TYPE_U16:
        ((uint16_t *)data)[k] = (uint16_t)value;
        break;
    case MR_TYPE_I16:
        ((int16_t *)data)[k] = (int16_t)value;
        break;
    case MR_TYPE_U32:
        ((uint32_t *)data)[k] = (uint32_t)value;
        break;
    case MR_TYPE_I32:
        ((int32_t *)data)[k] = (int32_t)value;
        break;
    case MR_TYPE_U64:
        ((uint64_t *)data)[k] = (uint64_t)value;
        break;
    case MR_TYPE_I64:
        ((int64_t *)data)[k] = (int64_t)value;
        break;
    case MR_TYPE_F32:
        ((float *)data)[k] = (float)value;
        break;
    case MR_TYPE_F64:
        ((double *)data)[k] = value;
        break;
    }
}

mr_status mr__reference_convert(const struct mr__stage *stage, const void *const *inputs,
                                const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const mr_type from = stage->inputs[0]->type.dtype, to = stage->output.type.dtype;
    const size_t count = input_bytes[0] / mr_type_size(from);
    for (size_t k = 0; k < count; k++)
        store_number(to, output, k, mr__number_at(from, inputs[0], k));
    *output_bytes = count * mr_type_size(to);
    return MR_OK;
}

mr_status mr__reference_scale_offset(mr_type type, const void *source, size_t source_bytes,
                                     double scale, double offset, void *output,
                                     size_t *output_bytes)
{
    const size_t count = source_bytes / mr_type_size(type);
    if (type == MR_TYPE_F64) {
        for (size_t k = 0; k < count; k++)
            ((double *)output)[k] = scale * ((const double *)source)[k] + offset;
        *output_bytes = count * sizeof(double);
        return MR_OK;
    }
    const float factor = (float)scale, start = (float)offset;
    for (size_t k = 0; k < count; k++)
        ((float *)output)[k] = factor * (float)mr__number_at(type, source, k) + start;
    *output_bytes = count * sizeof(float);
    return MR_OK;
}

mr_status mr__reference_clamp(mr_type type, const void *source, size_t size_bytes, double low,
                              double high, void *output)
{
    if (type == MR_TYPE_F32) {
        low = (float)low;
        high = (float)high;
    }
    const size_t count = size_bytes / mr_type_size(type);
    for (size_t k = 0; k < count; k++) {
        const double value = mr__number_at(type, source, k);
        store_number(type, output, k, value > low ? (value < high ? value : high) : low);
    }
    return MR_OK;
}

mr_status mr__reference_threshold(mr_type type, const void *source, size_t size_bytes,
                                  const double *numbers, void *output)
{
    const double limit = type == MR_TYPE_F32 ? (double)(float)numbers[0] : numbers[0];
    const size_t count = size_bytes / mr_type_size(type);
    for (size_t k = 0; k < count; k++)
        store_number(type, output, k,
                     mr__number_at(type, source, k) >= limit ? numbers[2] : numbers[1]);
    return MR_OK;
}

mr_status mr__reference_add(mr_type type, const void *const *inputs, size_t size_bytes,
                            void *output)
{
    const size_t count = size_bytes / mr_type_size(type);
    for (size_t k = 0; k < count; k++) {
        if (type == MR_TYPE_F32)
            ((float *)output)[k] = ((const float *)inputs[0])[k] + ((const float *)inputs[1])[k];
        else
            ((double *)output)[k] = ((const double *)inputs[0])[k] + ((const double *)inputs[1])[k];
    }
    return MR_OK;
}

/* ---- images ---- */

mr_status mr__reference_calibrate(mr_type type, const void *source, const float *dark,
                                  const float *flat, uint64_t count, float *output)
{
    for (uint64_t k = 0; k < count; k++)
        output[k] = flat[k] > 0 ? ((float)mr__number_at(type, source, k) - dark[k]) / flat[k] : 0;
    return MR_OK;
}

/* The nearest place inside: edges are repeated. */
static int64_t inside(int64_t place, int64_t length)
{
    return place < 0 ? 0 : place >= length ? length - 1 : place;
}

/* The middle one of nine: exchanges of pairs that sort just enough (Paeth's network of
 * nineteen). */
#define EXCHANGE(a, b)                                                                             \
    do {                                                                                           \
        least = (a) < (b) ? (a) : (b);                                                             \
        (b) = (a) > (b) ? (a) : (b);                                                               \
        (a) = least;                                                                               \
    } while (0)

#define MEDIAN(name, type)                                                                         \
    static inline type middle_##name(type p, type q, type r, type s, type t, type u, type v,       \
                                     type w, type x)                                               \
    {                                                                                              \
        type least;                                                                                \
        EXCHANGE(q, r);                                                                            \
        EXCHANGE(t, u);                                                                            \
        EXCHANGE(w, x);                                                                            \
        EXCHANGE(p, q);                                                                            \
        EXCHANGE(s, t);                                                                            \
        EXCHANGE(v, w);                                                                            \
        EXCHANGE(q, r);                                                                            \
        EXCHANGE(t, u);                                                                            \
        EXCHANGE(w, x);                                                                            \
        EXCHANGE(p, s);                                                                            \
        EXCHANGE(u, x);                                                                            \
        EXCHANGE(t, w);                                                                            \
        EXCHANGE(s, v);                                                                            \
        EXCHANGE(q, t);                                                                            \
        EXCHANGE(r, u);                                                                            \
        EXCHANGE(t, w);                                                                            \
        EXCHANGE(t, r);                                                                            \
        EXCHANGE(v, t);                                                                            \
        EXCHANGE(t, r);                                                                            \
        return t;                                                                                  \
    }                                                                                              \
                                                                                                   \
    static void median_##name(const type *source, int64_t height, int64_t width, type *output)     \
    {                                                                                              \
        for (int64_t y = 0; y < height; y++) {                                                     \
            const type *above = source + inside(y - 1, height) * width;                            \
            const type *row = source + y * width;                                                  \
            const type *below = source + inside(y + 1, height) * width;                            \
            for (int64_t x = 0; x < width; x++) {                                                  \
                const int64_t left = inside(x - 1, width), right = inside(x + 1, width);           \
                output[y * width + x] =                                                            \
                    middle_##name(above[left], above[x], above[right], row[left], row[x],          \
                                  row[right], below[left], below[x], below[right]);                \
            }                                                                                      \
        }                                                                                          \
    }

MEDIAN(u8, uint8_t)
MEDIAN(u16, uint16_t)
MEDIAN(f32, float)

mr_status mr__reference_median3x3(mr_type type, const void *source, uint64_t height, uint64_t width,
                                  void *output)
{
    if (type == MR_TYPE_U8)
        median_u8(source, (int64_t)height, (int64_t)width, output);
    else if (type == MR_TYPE_U16)
        median_u16(source, (int64_t)height, (int64_t)width, output);
    else
        median_f32(source, (int64_t)height, (int64_t)width, output);
    return MR_OK;
}

mr_status mr__reference_quantise(mr_type type, const void *source, uint64_t count, float low,
                                 float high, uint8_t *output)
{
    const float scale = high > low ? 255.0f / (high - low) : 0.0f;
    for (uint64_t k = 0; k < count; k++) {
        const float value = ((float)mr__number_at(type, source, k) - low) * scale;
        output[k] = value > 0 ? (uint8_t)rintf(fminf(value, 255.0f)) : 0;
    }
    return MR_OK;
}

/* ---- numbers of an item ---- */

mr_status mr__reference_statistics(mr_type type, const void *source, uint64_t count,
                                   double output[5])
{
    double sum = 0, least = INFINITY, greatest = -INFINITY;
    for (uint64_t k = 0; k < count; k++) {
        const double value = mr__number_at(type, source, k);
        sum += value;
        if (value < least)
            least = value;
        if (value > greatest)
            greatest = value;
    }
    output[0] = sum;
    output[1] = least;
    output[2] = greatest;
    output[3] = count ? sum / (double)count : (double)NAN;
    output[4] = (double)count;
    return MR_OK;
}

mr_status mr__reference_histogram(mr_type type, const void *source, uint64_t count, float low,
                                  float high, uint32_t bin_count, uint32_t *output)
{
    const float scale = high > low ? (float)bin_count / (high - low) : 0.0f;
    memset(output, 0, bin_count * sizeof *output);
    for (uint64_t k = 0; k < count; k++) {
        const float value = (float)mr__number_at(type, source, k);
        if (!(value >= low && value <= high))
            continue;
        const uint32_t bin = (uint32_t)((value - low) * scale);
        output[bin < bin_count ? bin : bin_count - 1]++;
    }
    return MR_OK;
}
