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

/* As many bins as this are counted in a GPU's shared memory; on the CPU in place. */
#define SHARED_BINS 4096

#define HISTOGRAM(name, type)                                                                      \
    MR_GROUP_KERNEL(histogram_##name, MR_IN(type, source), MR_OUT(uint32_t, partial),              \
                    MR_VALUE(float, low), MR_VALUE(float, high), MR_VALUE(uint32_t, bin_count),    \
                    MR_VALUE(uint64_t, item_size), MR_VALUE(uint64_t, item_count),                 \
                    MR_VALUE(uint64_t, part_count))                                                \
    {                                                                                              \
        SHARED_COUNTS(shared_bins);                                                                \
        const float scale = high > low ? (float)bin_count / (high - low) : 0.0f;                   \
        MR_GROUP_EACH (group, item_count * part_count) {                                           \
            const uint64_t item = group / part_count, part = group % part_count;                   \
            uint32_t *own = partial + group * bin_count;                                           \
            uint32_t *bins = COUNT_IN(shared_bins, own);                                           \
            MR_LANE_EACH (bin, 0, bin_count)                                                       \
                bins[bin] = 0;                                                                     \
            mr_group_sync();                                                                       \
            MR_LANE_EACH (i, item * item_size + PART_BEGIN(part),                                  \
                          item * item_size + PART_BEGIN(part + 1)) {                               \
                const float x = (float)source[i];                                                  \
                if (x >= low && x <= high) {                                                       \
                    const uint32_t bin = (uint32_t)((x - low) * scale);                            \
                    mr_group_add_u32(&bins[MR_MIN(bin, bin_count - 1)], 1);                        \
                }                                                                                  \
            }                                                                                      \
            mr_group_sync();                                                                       \
            if (bins != own) {                                                                     \
                MR_LANE_EACH (bin, 0, bin_count)                                                   \
                    own[bin] = bins[bin];                                                          \
            }                                                                                      \
            mr_group_sync();                                                                       \
        }                                                                                          \
    }

#if MR_ON_GPU
#define SHARED_COUNTS(name) MR_GROUP_SHARED(uint32_t, name, SHARED_BINS)
#define COUNT_IN(shared, own) (bin_count <= SHARED_BINS ? (shared) : (own))
#else
#define SHARED_COUNTS(name)
#define COUNT_IN(shared, own) (own)
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
