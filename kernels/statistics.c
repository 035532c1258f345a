/* SPDX-License-Identifier: MIT */
/*
 * Sum, least, greatest, mean and number, and histograms, for each item of a stack.
 *
 * statistics_T       source -> partial[item_count][part_count][3]: sum, least, greatest of each
 *                    part of an item, as f64. Launch with count = item_count * part_count.
 * statistics_finish  partial -> result[item_count][5]: sum, least, greatest, mean, number of
 *                    elements. Launch with count = item_count.
 * statistics_range   result -> low[item_count], high[item_count]: least and greatest as f32, for
 *                    quantise_T_u8. Launch with count = item_count.
 *     Sums of u8 and u16 are exact (below 2^53). Least and greatest pass over what is not a number;
 *     of nothing they are +infinity and -infinity. The mean of nothing is not a number.
 *
 * histogram_T        source -> partial[item_count][part_count][bin_count]: how many elements x fall
 *                    into bin (x - low) / (high - low) * bin_count, in f32; high itself falls into
 *                    the last, and what is outside or not a number into none. Launch with count =
 *                    item_count * part_count.
 * histogram_finish   partial -> target[item_count][bin_count]. Launch with count = item_count *
 *                    bin_count.
 */
#include <millrace/portable.h>

/* A part of an item: elements begin to end. */
#define PART_BEGIN(part) ((part)*item_size / part_count)

MR_FUNCTION void partial_store(double *partial, double sum, double least, double greatest)
{
    sum = mr_group_sum_f64(sum);
    least = mr_group_min_f64(least);
    greatest = mr_group_max_f64(greatest);
    if (mr_group_is_leader()) {
        partial[0] = sum;
        partial[1] = least;
        partial[2] = greatest;
    }
}

#define STATISTICS_INTEGER(name, type, bound)                                                      \
    MR_GROUP_KERNEL(statistics_##name, MR_IN(type, source), MR_OUT(double, partial),               \
                    MR_VALUE(uint64_t, item_size), MR_VALUE(uint64_t, item_count),                 \
                    MR_VALUE(uint64_t, part_count))                                                \
    {                                                                                              \
        MR_GROUP_EACH (group, item_count * part_count) {                                           \
            const uint64_t item = group / part_count, part = group % part_count;                   \
            const uint64_t begin = item * item_size + PART_BEGIN(part);                            \
            const uint64_t end = item * item_size + PART_BEGIN(part + 1);                          \
            uint64_t sum = 0;                                                                      \
            type least = bound, greatest = 0;                                                      \
            MR_LANE_EACH (i, begin, end) {                                                         \
                sum += source[i];                                                                  \
                least = MR_MIN(source[i], least);                                                  \
                greatest = MR_MAX(source[i], greatest);                                            \
            }                                                                                      \
            const int is_empty = begin == end;                                                     \
            partial_store(partial + 3 * group, (double)sum,                                        \
                          is_empty ? (double)INFINITY : (double)least,                             \
                          is_empty ? -(double)INFINITY : (double)greatest);                        \
        }                                                                                          \
    }

STATISTICS_INTEGER(u8, uint8_t, 255)
STATISTICS_INTEGER(u16, uint16_t, 65535)

/* On the CPU, LANES sums side by side, so that the compiler may vectorise without reordering, and
 * the order is the same for every instruction set. Fewer would be unrolled before they are
 * vectorised. */
#define LANES 64

MR_GROUP_KERNEL(statistics_f32, MR_IN(float, source), MR_OUT(double, partial),
                MR_VALUE(uint64_t, item_size), MR_VALUE(uint64_t, item_count),
                MR_VALUE(uint64_t, part_count))
{
    MR_GROUP_EACH (group, item_count * part_count) {
        const uint64_t item = group / part_count, part = group % part_count;
        const uint64_t end = item * item_size + PART_BEGIN(part + 1);
        uint64_t begin = item * item_size + PART_BEGIN(part);
        double sum = 0.0;
        float least = INFINITY, greatest = -INFINITY;
#if !MR_ON_GPU
        double sums[LANES] = { 0 };
        float leasts[LANES], greatests[LANES];
        for (int k = 0; k < LANES; k++)
            leasts[k] = INFINITY, greatests[k] = -INFINITY;
        for (; begin + LANES <= end; begin += LANES)
            for (int k = 0; k < LANES; k++) {
                const float x = source[begin + k];
                sums[k] += x;
                leasts[k] = MR_MIN(x, leasts[k]);
                greatests[k] = MR_MAX(x, greatests[k]);
            }
        for (int k = 0; k < LANES; k++) {
            sum += sums[k];
            least = MR_MIN(leasts[k], least);
            greatest = MR_MAX(greatests[k], greatest);
        }
#endif
        MR_LANE_EACH (i, begin, end) {
            sum += source[i];
            least = MR_MIN(source[i], least);
            greatest = MR_MAX(source[i], greatest);
        }
        partial_store(partial + 3 * group, sum, least, greatest);
    }
}

/* What follows gains nothing from being unrolled on a GPU. */
#undef MR_UNROLL
#define MR_UNROLL 1

MR_GROUP_KERNEL(statistics_finish, MR_IN(double, partial), MR_OUT(double, result),
                MR_VALUE(uint64_t, item_size), MR_VALUE(uint64_t, item_count),
                MR_VALUE(uint64_t, part_count))
{
    MR_GROUP_EACH (item, item_count) {
        double sum = 0.0, least = INFINITY, greatest = -INFINITY;
        MR_LANE_EACH (part, item * part_count, (item + 1) * part_count) {
            sum += partial[3 * part];
            least = MR_MIN(partial[3 * part + 1], least);
            greatest = MR_MAX(partial[3 * part + 2], greatest);
        }
        double *out = result + 5 * item;
        partial_store(out, sum, least, greatest);
        if (mr_group_is_leader()) {
            out[3] = item_size ? out[0] / (double)item_size : (double)NAN;
            out[4] = (double)item_size;
        }
    }
}

MR_KERNEL(statistics_range, MR_IN(double, result), MR_OUT(float, low), MR_OUT(float, high),
          MR_VALUE(uint64_t, item_count))
{
    MR_EACH (item, item_count) {
        low[item] = (float)result[5 * item + 1];
        high[item] = (float)result[5 * item + 2];
    }
}

/* bin_count for what is in no bin. */
MR_FUNCTION uint32_t bin_of(float x, float low, float high, float scale, uint32_t bin_count)
{
    const int is_inside = x >= low && x <= high;
    const float place = is_inside ? (x - low) * scale : 0.0f;
    const uint32_t bin = (uint32_t)(int32_t)place;
    const uint32_t inside = MR_MIN(bin, bin_count - 1);
    return is_inside ? inside : bin_count;
}

#define HISTOGRAM(name, type)                                                                      \
    COUNT_FUNCTION(name, type)                                                                     \
                                                                                                   \
    MR_GROUP_KERNEL(histogram_##name, MR_IN(type, source), MR_OUT(uint32_t, partial),              \
                    MR_VALUE(float, low), MR_VALUE(float, high), MR_VALUE(uint32_t, bin_count),    \
                    MR_VALUE(uint64_t, item_size), MR_VALUE(uint64_t, item_count),                 \
                    MR_VALUE(uint64_t, part_count))                                                \
    {                                                                                              \
        const float scale = high > low ? (float)bin_count / (high - low) : 0.0f;                   \
        MR_GROUP_EACH (group, item_count * part_count) {                                           \
            const uint64_t item = group / part_count, part = group % part_count;                   \
            count_##name(source + item * item_size, PART_BEGIN(part), PART_BEGIN(part + 1),        \
                         partial + group * bin_count, low, high, scale, bin_count);                \
        }                                                                                          \
    }

#if MR_ON_GPU

/* As many bins as this are counted in shared memory, more in place. */
#define SHARED_BINS 4096

#define COUNT_FUNCTION(name, type)                                                                 \
    MR_FUNCTION void count_##name(const type *source, uint64_t begin, uint64_t end, uint32_t *own, \
                                  float low, float high, float scale, uint32_t bin_count)          \
    {                                                                                              \
        MR_GROUP_SHARED(uint32_t, shared_bins, SHARED_BINS);                                       \
        uint32_t *bins = bin_count <= SHARED_BINS ? shared_bins : own;                             \
        MR_LANE_EACH (bin, 0, bin_count)                                                           \
            bins[bin] = 0;                                                                         \
        mr_group_sync();                                                                           \
        MR_LANE_EACH (i, begin, end) {                                                             \
            const uint32_t bin = bin_of((float)source[i], low, high, scale, bin_count);            \
            if (bin < bin_count)                                                                   \
                mr_group_add_u32(&bins[bin], 1);                                                   \
        }                                                                                          \
        mr_group_sync();                                                                           \
        if (bins != own) {                                                                         \
            MR_LANE_EACH (bin, 0, bin_count)                                                       \
                own[bin] = bins[bin];                                                              \
        }                                                                                          \
        mr_group_sync();                                                                           \
    }

#else

/* Bins are found for a block at a time, which vectorises, and then counted in four copies side by
 * side, so that equal neighbours need not wait for each other; too many bins in one, in place. */
#define BLOCK 256
#define COPIED_BINS 1024

MR_FUNCTION void count_block(const uint32_t *found, uint32_t size, uint32_t *bins, uint32_t stride)
{
    uint32_t k = 0;
    for (; k + 4 <= size; k += 4) {
        bins[found[k]]++;
        bins[stride + found[k + 1]]++;
        bins[2 * stride + found[k + 2]]++;
        bins[3 * stride + found[k + 3]]++;
    }
    for (; k < size; k++)
        bins[found[k]]++;
}

MR_FUNCTION void count_in_place(const uint32_t *found, uint32_t size, uint32_t *own,
                                uint32_t bin_count)
{
    for (uint32_t k = 0; k < size; k++) {
        if (found[k] < bin_count)
            own[found[k]]++;
    }
}

#define COUNT_FUNCTION(name, type)                                                                 \
    MR_FUNCTION void count_##name(const type *source, uint64_t begin, uint64_t end, uint32_t *own, \
                                  float low, float high, float scale, uint32_t bin_count)          \
    {                                                                                              \
        uint32_t found[BLOCK], copies[4 * (COPIED_BINS + 1)];                                      \
        const uint32_t stride = bin_count + 1;                                                     \
        const int is_copied = bin_count <= COPIED_BINS;                                            \
        for (uint32_t bin = 0; bin < bin_count; bin++)                                             \
            own[bin] = 0;                                                                          \
        for (uint32_t bin = 0; is_copied && bin < 4 * stride; bin++)                               \
            copies[bin] = 0;                                                                       \
        for (uint64_t i = begin; i < end; i += BLOCK) {                                            \
            const uint32_t size = (uint32_t)MR_MIN(end - i, BLOCK);                                \
            for (uint32_t k = 0; k < size; k++)                                                    \
                found[k] = bin_of((float)source[i + k], low, high, scale, bin_count);              \
            if (is_copied)                                                                         \
                count_block(found, size, copies, stride);                                          \
            else                                                                                   \
                count_in_place(found, size, own, bin_count);                                       \
        }                                                                                          \
        for (uint32_t bin = 0; is_copied && bin < bin_count; bin++)                                \
            own[bin] = copies[bin] + copies[stride + bin] + copies[2 * stride + bin] +             \
                       copies[3 * stride + bin];                                                   \
    }

#endif

HISTOGRAM(u8, uint8_t)
HISTOGRAM(u16, uint16_t)
HISTOGRAM(f32, float)

MR_KERNEL(histogram_finish, MR_IN(uint32_t, partial), MR_OUT(uint32_t, target),
          MR_VALUE(uint32_t, bin_count), MR_VALUE(uint64_t, item_count),
          MR_VALUE(uint64_t, part_count))
{
    MR_EACH (i, item_count * bin_count) {
        const uint64_t item = i / bin_count, bin = i % bin_count;
        uint32_t sum = 0;
        for (uint64_t part = 0; part < part_count; part++)
            sum += partial[(item * part_count + part) * bin_count + bin];
        target[i] = sum;
    }
}
