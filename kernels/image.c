/* SPDX-License-Identifier: MIT */
/*
 * Kernels over items of a stack, each item `item_size` elements (an image's pixels).
 *
 * calibrate_T_f32    target = (source - dark) / flat, with one dark and one flat plane of item_size
 *                    elements for all items; 0 where flat is not above 0
 * quantise_T_u8      what lies between the item's low and high, spread over 0 to 255, to the
 *                    nearest, ties to even; 0 where high is not above low and for what is not a
 *                    number
 *     Groups of CHUNK elements: launch with count = item_count * ceil(item_size / 4096).
 *
 * median3x3_T        the median of each pixel and its eight neighbours, edges repeated; items are
 *                    images of width * height. Launch with count = rows = height * image_count.
 */
#include <millrace/portable.h>

#define CHUNK 4096

#define QUANTISE(name, type)                                                                       \
    MR_GROUP_KERNEL(quantise_##name##_u8, MR_IN(type, source), MR_IN(float, low),                  \
                    MR_IN(float, high), MR_OUT(uint8_t, target), MR_VALUE(uint64_t, item_size),    \
                    MR_VALUE(uint64_t, item_count))                                                \
    {                                                                                              \
        const uint64_t chunk_count = (item_size + CHUNK - 1) / CHUNK;                              \
        MR_GROUP_EACH (group, chunk_count * item_count) {                                          \
            const uint64_t item = group / chunk_count;                                             \
            const uint64_t base = item * item_size;                                                \
            const uint64_t begin = group % chunk_count * CHUNK;                                    \
            const float least = low[item];                                                         \
            const float scale = high[item] > least ? 255.0f / (high[item] - least) : 0.0f;         \
            MR_LANE_EACH (i, begin, MR_MIN(begin + CHUNK, item_size)) {                            \
                const float value = ((float)source[base + i] - least) * scale;                     \
                const float raised = MR_MAX(value, 0.0f);                                          \
                target[base + i] = (uint8_t)(int32_t)rintf(MR_MIN(raised, 255.0f));                \
            }                                                                                      \
        }                                                                                          \
    }

QUANTISE(u8, uint8_t)
QUANTISE(u16, uint16_t)
QUANTISE(f32, float)

/* What follows has long bodies: one iteration at a time is fastest on a GPU. */
#undef MR_UNROLL
#define MR_UNROLL 1

/* Items that one group calibrates while its chunk of the planes is near. */
#define ITEMS 8

#define CALIBRATE(name, type)                                                                      \
    MR_GROUP_KERNEL(calibrate_##name##_f32, MR_IN(type, source), MR_IN(float, dark),               \
                    MR_IN(float, flat), MR_OUT(float, target), MR_VALUE(uint64_t, item_size),      \
                    MR_VALUE(uint64_t, item_count))                                                \
    {                                                                                              \
        const uint64_t chunk_count = (item_size + CHUNK - 1) / CHUNK;                              \
        MR_GROUP_EACH (group, chunk_count * ((item_count + ITEMS - 1) / ITEMS)) {                  \
            const uint64_t begin = group % chunk_count * CHUNK;                                    \
            const uint64_t end = MR_MIN(begin + CHUNK, item_size);                                 \
            const uint64_t first = group / chunk_count * ITEMS;                                    \
            const uint64_t last = MR_MIN(first + ITEMS, item_count);                               \
            for (uint64_t item = first; item < last; item++) {                                     \
                const uint64_t base = item * item_size;                                            \
                MR_LANE_EACH (i, begin, end) {                                                     \
                    const float value = ((float)source[base + i] - dark[i]) / flat[i];             \
                    target[base + i] = flat[i] > 0.0f ? value : 0.0f;                              \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }

CALIBRATE(u8, uint8_t)
CALIBRATE(u16, uint16_t)
CALIBRATE(f32, float)

/* With each column sorted: the middle of the greatest least, the middle middle and the least
 * greatest. Written out, as compilers vectorise it only so. */
#define MEDIAN(name, type)                                                                         \
    MR_FUNCTION type middle_##name(type a, type b, type c)                                         \
    {                                                                                              \
        const type least = MR_MIN(a, b), most = MR_MAX(a, b);                                      \
        const type rest = MR_MIN(most, c);                                                         \
        return MR_MAX(least, rest);                                                                \
    }                                                                                              \
                                                                                                   \
    MR_FUNCTION type median_##name(const type *above, const type *row, const type *below,          \
                                   uint64_t left, uint64_t x, uint64_t right)                      \
    {                                                                                              \
        const type low0 = MR_MIN(above[left], row[left]), high0 = MR_MAX(above[left], row[left]);  \
        const type low1 = MR_MIN(above[x], row[x]), high1 = MR_MAX(above[x], row[x]);              \
        const type low2 = MR_MIN(above[right], row[right]);                                        \
        const type high2 = MR_MAX(above[right], row[right]);                                       \
        const type rest0 = MR_MIN(high0, below[left]), most0 = MR_MAX(high0, below[left]);         \
        const type rest1 = MR_MIN(high1, below[x]), most1 = MR_MAX(high1, below[x]);               \
        const type rest2 = MR_MIN(high2, below[right]), most2 = MR_MAX(high2, below[right]);       \
        const type least0 = MR_MIN(low0, rest0), middle0 = MR_MAX(low0, rest0);                    \
        const type least1 = MR_MIN(low1, rest1), middle1 = MR_MAX(low1, rest1);                    \
        const type least2 = MR_MIN(low2, rest2), middle2 = MR_MAX(low2, rest2);                    \
        const type two_least = MR_MAX(least0, least1), two_most = MR_MIN(most0, most1);            \
        const type greatest_least = MR_MAX(two_least, least2);                                     \
        const type least_most = MR_MIN(two_most, most2);                                           \
        const type middle = middle_##name(middle0, middle1, middle2);                              \
        return middle_##name(greatest_least, middle, least_most);                                  \
    }                                                                                              \
                                                                                                   \
    MR_GROUP_KERNEL(median3x3_##name, MR_IN(type, source), MR_OUT(type, target),                   \
                    MR_VALUE(uint64_t, width), MR_VALUE(uint64_t, height),                         \
                    MR_VALUE(uint64_t, image_count))                                               \
    {                                                                                              \
        MR_GROUP_EACH (line, width ? height * image_count : 0) {                                   \
            const uint64_t y = line % height, last = width - 1;                                    \
            const type *row = source + line * width;                                               \
            const type *above = y > 0 ? row - width : row;                                         \
            const type *below = y + 1 < height ? row + width : row;                                \
            type *out = target + line * width;                                                     \
            MR_LANE_EACH (x, 1, last)                                                              \
                out[x] = median_##name(above, row, below, x - 1, x, x + 1);                        \
            if (mr_group_is_leader()) {                                                            \
                const uint64_t one = MR_MIN(1, last);                                              \
                out[0] = median_##name(above, row, below, 0, 0, one);                              \
                out[last] = median_##name(above, row, below, last - one, last, last);              \
            }                                                                                      \
        }                                                                                          \
    }

MEDIAN(u8, uint8_t)
MEDIAN(u16, uint16_t)
MEDIAN(f32, float)
