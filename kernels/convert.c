/* SPDX-License-Identifier: MIT */
/*
 * convert_FROM_TO: element by element, between u8, u16, i16, i32, u32, f32 and f64. Integers that
 * do not fit become the nearest that does; fractions go to the nearest integer, ties to even; what
 * is not a number becomes 0. Launch with count = elements.
 */
#include <millrace/portable.h>

/* f64 holds every integer type here, and every bound of one, exactly. */
#define TO_INTEGER(x, low, high) rint(MR_MIN(MR_MAX((x), (low)), (high)))
#define TO_INTEGER_F32(x, low, high) rintf(MR_MIN(MR_MAX((x), (low)), (high)))

/* Comparing this way round makes 0 of what is not a number (MR_MAX and MR_MIN give the second). */
#define NUMBER_OR_ZERO(x) ((x) == (x) ? (x) : 0)

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

CONVERT(f32, float, u8, uint8_t, (int32_t)TO_INTEGER_F32(x, 0.0f, 255.0f))
CONVERT(f32, float, u16, uint16_t, (int32_t)TO_INTEGER_F32(x, 0.0f, 65535.0f))
CONVERT(f32, float, i16, int16_t, (int32_t)TO_INTEGER_F32(NUMBER_OR_ZERO(x), -32768.0f, 32767.0f))
CONVERT(f32, float, u32, uint32_t, TO_INTEGER((double)x, 0.0, 4294967295.0))
CONVERT(f32, float, i32, int32_t,
        TO_INTEGER((double)NUMBER_OR_ZERO(x), -2147483648.0, 2147483647.0))
CONVERT(f32, float, f64, double, x)

CONVERT(f64, double, u8, uint8_t, (int32_t)TO_INTEGER(x, 0.0, 255.0))
CONVERT(f64, double, u16, uint16_t, (int32_t)TO_INTEGER(x, 0.0, 65535.0))
CONVERT(f64, double, i16, int16_t, (int32_t)TO_INTEGER(NUMBER_OR_ZERO(x), -32768.0, 32767.0))
CONVERT(f64, double, u32, uint32_t, TO_INTEGER(x, 0.0, 4294967295.0))
CONVERT(f64, double, i32, int32_t, TO_INTEGER(NUMBER_OR_ZERO(x), -2147483648.0, 2147483647.0))
CONVERT(f64, double, f32, float, x)
/* clang-format on */
