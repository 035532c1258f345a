/* SPDX-License-Identifier: MIT */
/*
 * convert_FROM_TO from f32 and f64, element by element. Fractions go to the nearest integer, ties
 * to even; what does not fit becomes the nearest integer that does; what is not a number becomes 0.
 * Launch with count = elements.
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
