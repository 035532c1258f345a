/* SPDX-License-Identifier: MIT */
/*
 * convert_FROM_TO from u8, u16, i16, u32 and i32, element by element. Integers that do not fit
 * become the nearest that does; floats are the nearest, ties to even. Launch with count = elements.
 */
#include <millrace/portable.h>

#define CONVERT(from_name, from, to_name, to, EXPRESSION)                                          \
    MR_KERNEL(convert_##from_name##_##to_name, MR_IN(from, source), MR_OUT(to, target),            \
              MR_VALUE(uint64_t, count))                                                           \
    {                                                                                              \
        MR_EACH (i, count) {                                                                       \
            const from x = source[i];                                                              \
            target[i] = (to)(EXPRESSION);                                                          \
        }                                                                                          \
    }

/* clang-format off */
CONVERT(u8, uint8_t, u16, uint16_t, x)
CONVERT(u8, uint8_t, i16, int16_t, x)
CONVERT(u8, uint8_t, u32, uint32_t, x)
CONVERT(u8, uint8_t, i32, int32_t, x)
CONVERT(u8, uint8_t, f32, float, x)
CONVERT(u8, uint8_t, f64, double, x)

CONVERT(u16, uint16_t, u8, uint8_t, MR_MIN(x, 255))
CONVERT(u16, uint16_t, i16, int16_t, MR_MIN(x, 32767))
CONVERT(u16, uint16_t, u32, uint32_t, x)
CONVERT(u16, uint16_t, i32, int32_t, x)
CONVERT(u16, uint16_t, f32, float, x)
CONVERT(u16, uint16_t, f64, double, x)

CONVERT(i16, int16_t, u8, uint8_t, MR_MIN(MR_MAX(x, 0), 255))
CONVERT(i16, int16_t, u16, uint16_t, MR_MAX(x, 0))
CONVERT(i16, int16_t, u32, uint32_t, MR_MAX(x, 0))
CONVERT(i16, int16_t, i32, int32_t, x)
CONVERT(i16, int16_t, f32, float, x)
CONVERT(i16, int16_t, f64, double, x)

CONVERT(u32, uint32_t, u8, uint8_t, MR_MIN(x, 255u))
CONVERT(u32, uint32_t, u16, uint16_t, MR_MIN(x, 65535u))
CONVERT(u32, uint32_t, i16, int16_t, MR_MIN(x, 32767u))
CONVERT(u32, uint32_t, i32, int32_t, MR_MIN(x, 2147483647u))
CONVERT(u32, uint32_t, f32, float, x)
CONVERT(u32, uint32_t, f64, double, x)

CONVERT(i32, int32_t, u8, uint8_t, MR_MIN(MR_MAX(x, 0), 255))
CONVERT(i32, int32_t, u16, uint16_t, MR_MIN(MR_MAX(x, 0), 65535))
CONVERT(i32, int32_t, i16, int16_t, MR_MIN(MR_MAX(x, -32768), 32767))
CONVERT(i32, int32_t, u32, uint32_t, MR_MAX(x, 0))
CONVERT(i32, int32_t, f32, float, x)
CONVERT(i32, int32_t, f64, double, x)
/* clang-format on */
