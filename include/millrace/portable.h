/* SPDX-License-Identifier: MIT */
/*
 * millrace/portable.h - for portable kernels: one C source for the CPU and the GPU.
 *
 *     #include <millrace/portable.h>
 *
 *     MR_KERNEL(scale, MR_IN(float, source), MR_OUT(float, target), MR_VALUE(float, factor),
 *               MR_VALUE(uint64_t, count))
 *     {
 *         MR_EACH (i, count)
 *             target[i] = factor * source[i];
 *     }
 *
 * MR_EACH is a grid-stride loop on a GPU and the worker's slice on the CPU, where the compiler
 * vectorises it: iterations must be independent. Buffers do not alias. The body is C that is also
 * C++: casts written out, no designated initialisers, fixed-width types, <math.h> names.
 * At most 16 parameters of the types u8 to f64 (uint8_t ... double).
 */
#ifndef MR_PORTABLE_H
#define MR_PORTABLE_H

#if defined(__CUDACC_RTC__)
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long long uint64_t;
typedef long long int64_t;
#else
#include <math.h>
#include <stdint.h>
#endif

#endif
