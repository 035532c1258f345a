/* SPDX-License-Identifier: MIT */
/*
 * Element by element; launch with count = elements.
 *
 * scale_offset_T, scale_offset_FROM_TO   target = scale * source + offset, rounded after each step
 * add_T         target = first + second
 * clamp_T       the nearest value within low to high; what is not a number becomes low
 * threshold_T   above where source >= limit, else below (also for what is not a number)
 * copy_u8       target = source, byte by byte
 */
#include <millrace/portable.h>

#define SCALE_OFFSET(name, from, to)                                                               \
    MR_KERNEL(scale_offset_##name, MR_IN(from, source), MR_OUT(to, target), MR_VALUE(to, scale),   \
              MR_VALUE(to, offset), MR_VALUE(uint64_t, count))                                     \
    {                                                                                              \
        MR_EACH (i, count)                                                                         \
            target[i] = scale * (to)source[i] + offset;                                            \
    }

SCALE_OFFSET(f32, float, float)
SCALE_OFFSET(f64, double, double)
SCALE_OFFSET(u8_f32, uint8_t, float)
SCALE_OFFSET(u16_f32, uint16_t, float)

#define ADD(name, type)                                                                            \
    MR_KERNEL(add_##name, MR_IN(type, first), MR_IN(type, second), MR_OUT(type, target),           \
              MR_VALUE(uint64_t, count))                                                           \
    {                                                                                              \
        MR_EACH (i, count)                                                                         \
            target[i] = first[i] + second[i];                                                      \
    }

ADD(f32, float)
ADD(f64, double)

#define CLAMP(name, type)                                                                          \
    MR_KERNEL(clamp_##name, MR_IN(type, source), MR_OUT(type, target), MR_VALUE(type, low),        \
              MR_VALUE(type, high), MR_VALUE(uint64_t, count))                                     \
    {                                                                                              \
        MR_EACH (i, count) {                                                                       \
            const type raised = MR_MAX(source[i], low);                                            \
            target[i] = MR_MIN(raised, high);                                                      \
        }                                                                                          \
    }

CLAMP(u8, uint8_t)
CLAMP(u16, uint16_t)
CLAMP(i16, int16_t)
CLAMP(u32, uint32_t)
CLAMP(i32, int32_t)
CLAMP(f32, float)
CLAMP(f64, double)

#define THRESHOLD(name, type)                                                                      \
    MR_KERNEL(threshold_##name, MR_IN(type, source), MR_OUT(type, target), MR_VALUE(type, limit),  \
              MR_VALUE(type, below), MR_VALUE(type, above), MR_VALUE(uint64_t, count))             \
    {                                                                                              \
        MR_EACH (i, count)                                                                         \
            target[i] = source[i] >= limit ? above : below;                                        \
    }

THRESHOLD(u8, uint8_t)
THRESHOLD(u16, uint16_t)
THRESHOLD(i16, int16_t)
THRESHOLD(u32, uint32_t)
THRESHOLD(i32, int32_t)
THRESHOLD(f32, float)
THRESHOLD(f64, double)

MR_KERNEL(copy_u8, MR_IN(uint8_t, source), MR_OUT(uint8_t, target), MR_VALUE(uint64_t, count))
{
    MR_EACH (i, count)
        target[i] = source[i];
}
