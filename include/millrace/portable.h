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
 * vectorises it: iterations must be independent. Launch it with `count` the loop's count (that only
 * shapes the launch: the loop runs over its own count, whatever the shape).
 *
 * Where neighbours work together, a group kernel has two loops. A group is a block of threads on a
 * GPU and one thread on the CPU; its lanes share an inner loop and combine what they found:
 *
 *     MR_GROUP_KERNEL(row_sums, MR_IN(float, source), MR_OUT(double, sums),
 *                     MR_VALUE(uint64_t, row_count), MR_VALUE(uint64_t, width))
 *     {
 *         MR_GROUP_EACH (row, row_count) {
 *             double sum = 0;
 *             MR_LANE_EACH (x, 0, width)
 *                 sum += source[row * width + x];
 *             sum = mr_group_sum_f64(sum);
 *             if (mr_group_is_leader())
 *                 sums[row] = sum;
 *         }
 *     }
 *
 * Short loops of 32-bit numbers cost a GPU less when they are written out, from mr_group_lane() in
 * steps of mr_group_lane_count() (0 and 1 on the CPU).
 *
 * Every lane of a group must come to the same mr_group_ calls. Launch it with `count` the number of
 * groups. Both kinds: at most 24 parameters, of the types uint8_t to int64_t, float and double;
 * buffers do not overlap; a name is not that of a C or CUDA function. The body is C that is also
 * C++: casts written out, no designated initialisers, fixed-width types, <math.h> names. Functions
 * of your own are declared `MR_FUNCTION float half(float x)`.
 *
 * On a GPU the loops are unrolled MR_UNROLL times, so that several loads are on their way at once:
 * 4 unless defined otherwise, before a kernel or in the flags. 1 suits long bodies.
 *
 * Of a kernel that waits for memory a GPU holds the more blocks at once the fewer registers each has.
 *
 *     #undef MR_KERNEL_BOUNDS
 *     #define MR_KERNEL_BOUNDS MR_BOUNDS(256, 8)
 *
 * before a kernel promises blocks of at most 256 threads, and asks for registers so few that 8 of them fit
 * on a multiprocessor; it holds for all kernels that follow, until it is defined again. A launch in larger
 * blocks fails. (CUDA's __launch_bounds__; the CPU has no use for it.)
 *
 * This file stands alone: the library hands it to the compilers it calls.
 */
#ifndef MR_PORTABLE_H
#define MR_PORTABLE_H

#if defined(__CUDACC__) || defined(__CUDA__)
#define MR_ON_GPU 1
#else
#define MR_ON_GPU 0
#endif

/* ---- what each compiler lacks ---- */

#if defined(__CUDACC_RTC__)

/* NVRTC has no headers. */
typedef unsigned char uint8_t;
typedef signed char int8_t;
typedef unsigned short uint16_t;
typedef short int16_t;
typedef unsigned int uint32_t;
typedef int int32_t;
typedef unsigned long uint64_t;
typedef long int64_t;
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fc00000)

#elif defined(__CUDA__) && !defined(__CUDACC__)

/* clang without a CUDA toolkit: the words of the language, and the mathematics that needs no
 * library. */
#include <stdint.h>

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")

#define MR_MATH_(name)                                                                             \
    static __device__ __attribute__((unused)) inline double name(double x)                         \
    {                                                                                              \
        return __builtin_##name(x);                                                                \
    }                                                                                              \
    static __device__ __attribute__((unused)) inline float name##f(float x)                        \
    {                                                                                              \
        return __builtin_##name##f(x);                                                             \
    }
MR_MATH_(rint)
MR_MATH_(floor)
MR_MATH_(ceil)
MR_MATH_(trunc)
MR_MATH_(fabs)
MR_MATH_(sqrt)
#undef MR_MATH_

#else
#include <math.h>
#include <stdint.h>
#endif

/* ---- parameters: each is (access, type, name) until a list below takes it apart ---- */

#define MR_IN(type, name) (IN, type, name)
#define MR_OUT(type, name) (OUT, type, name)
#define MR_INOUT(type, name) (INOUT, type, name)
#define MR_VALUE(type, name) (VALUE, type, name)

/* MR_LIST_(make, separator, parameter...) is make(index, parameter) for each, separated. The index
 * counts from 0, said as total - left. */
#define MR_LIST_(make, separator, ...)                                                             \
    MR_LIST_OF_(MR_COUNT_(__VA_ARGS__), make, separator, __VA_ARGS__)
#define MR_LIST_OF_(total, make, separator, ...)                                                   \
    MR_PASTE_(MR_LIST_, total)(make, separator, total, __VA_ARGS__)
#define MR_PASTE_(a, b) MR_PASTE_NOW_(a, b)
#define MR_PASTE_NOW_(a, b) a##b
#define MR_COUNT_(...)                                                                             \
    MR_COUNT_PICK_(__VA_ARGS__, 24, 23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8,  \
                   7, 6, 5, 4, 3, 2, 1, 0)
#define MR_COUNT_PICK_(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x,     \
                       count, ...)                                                                 \
    count
#define MR_LIST_1(m, s, t, a) m(t - 1, a)
#define MR_LIST_2(m, s, t, a, ...) m(t - 2, a) s() MR_LIST_1(m, s, t, __VA_ARGS__)
#define MR_LIST_3(m, s, t, a, ...) m(t - 3, a) s() MR_LIST_2(m, s, t, __VA_ARGS__)
#define MR_LIST_4(m, s, t, a, ...) m(t - 4, a) s() MR_LIST_3(m, s, t, __VA_ARGS__)
#define MR_LIST_5(m, s, t, a, ...) m(t - 5, a) s() MR_LIST_4(m, s, t, __VA_ARGS__)
#define MR_LIST_6(m, s, t, a, ...) m(t - 6, a) s() MR_LIST_5(m, s, t, __VA_ARGS__)
#define MR_LIST_7(m, s, t, a, ...) m(t - 7, a) s() MR_LIST_6(m, s, t, __VA_ARGS__)
#define MR_LIST_8(m, s, t, a, ...) m(t - 8, a) s() MR_LIST_7(m, s, t, __VA_ARGS__)
#define MR_LIST_9(m, s, t, a, ...) m(t - 9, a) s() MR_LIST_8(m, s, t, __VA_ARGS__)
#define MR_LIST_10(m, s, t, a, ...) m(t - 10, a) s() MR_LIST_9(m, s, t, __VA_ARGS__)
#define MR_LIST_11(m, s, t, a, ...) m(t - 11, a) s() MR_LIST_10(m, s, t, __VA_ARGS__)
#define MR_LIST_12(m, s, t, a, ...) m(t - 12, a) s() MR_LIST_11(m, s, t, __VA_ARGS__)
#define MR_LIST_13(m, s, t, a, ...) m(t - 13, a) s() MR_LIST_12(m, s, t, __VA_ARGS__)
#define MR_LIST_14(m, s, t, a, ...) m(t - 14, a) s() MR_LIST_13(m, s, t, __VA_ARGS__)
#define MR_LIST_15(m, s, t, a, ...) m(t - 15, a) s() MR_LIST_14(m, s, t, __VA_ARGS__)
#define MR_LIST_16(m, s, t, a, ...) m(t - 16, a) s() MR_LIST_15(m, s, t, __VA_ARGS__)
#define MR_LIST_17(m, s, t, a, ...) m(t - 17, a) s() MR_LIST_16(m, s, t, __VA_ARGS__)
#define MR_LIST_18(m, s, t, a, ...) m(t - 18, a) s() MR_LIST_17(m, s, t, __VA_ARGS__)
#define MR_LIST_19(m, s, t, a, ...) m(t - 19, a) s() MR_LIST_18(m, s, t, __VA_ARGS__)
#define MR_LIST_20(m, s, t, a, ...) m(t - 20, a) s() MR_LIST_19(m, s, t, __VA_ARGS__)
#define MR_LIST_21(m, s, t, a, ...) m(t - 21, a) s() MR_LIST_20(m, s, t, __VA_ARGS__)
#define MR_LIST_22(m, s, t, a, ...) m(t - 22, a) s() MR_LIST_21(m, s, t, __VA_ARGS__)
#define MR_LIST_23(m, s, t, a, ...) m(t - 23, a) s() MR_LIST_22(m, s, t, __VA_ARGS__)
#define MR_LIST_24(m, s, t, a, ...) m(t - 24, a) s() MR_LIST_23(m, s, t, __VA_ARGS__)

#define MR_COMMA_() ,
#define MR_TEXT_COMMA_() ", "
#define MR_OPEN_(...) __VA_ARGS__

/* As a function's parameter. */
#define MR_MAYBE_UNUSED_ __attribute__((unused))
#define MR_DECLARE_(index, parameter) MR_DECLARE_OPEN_(MR_OPEN_ parameter)
#define MR_DECLARE_OPEN_(...) MR_DECLARE_NOW_(__VA_ARGS__)
#define MR_DECLARE_NOW_(access, type, name) MR_DECLARE_##access(type, name)
#define MR_DECLARE_IN(type, name) const type *__restrict__ name MR_MAYBE_UNUSED_
#define MR_DECLARE_OUT(type, name) type *__restrict__ name MR_MAYBE_UNUSED_
#define MR_DECLARE_INOUT(type, name) type *__restrict__ name MR_MAYBE_UNUSED_
#define MR_DECLARE_VALUE(type, name) const type name MR_MAYBE_UNUSED_

/* As a piece of the signature's text. */
#define MR_TEXT_(index, parameter) MR_TEXT_OPEN_(MR_OPEN_ parameter)
#define MR_TEXT_OPEN_(...) MR_TEXT_NOW_(__VA_ARGS__)
#define MR_TEXT_NOW_(access, type, name) MR_TEXT_##access MR_TEXT_##type #name
#define MR_TEXT_IN "in "
#define MR_TEXT_OUT "out "
#define MR_TEXT_INOUT "inout "
#define MR_TEXT_VALUE "value "
#define MR_TEXT_uint8_t "u8 "
#define MR_TEXT_int8_t "i8 "
#define MR_TEXT_uint16_t "u16 "
#define MR_TEXT_int16_t "i16 "
#define MR_TEXT_uint32_t "u32 "
#define MR_TEXT_int32_t "i32 "
#define MR_TEXT_uint64_t "u64 "
#define MR_TEXT_int64_t "i64 "
#define MR_TEXT_float "f32 "
#define MR_TEXT_double "f64 "

/* Its type checked, so that a wrong one is named in the compiler's message. */
#define MR_CHECK_TYPES_(name, ...)                                                                 \
    enum { mr_types_of_##name = MR_LIST_(MR_CHECK_, MR_PLUS_, __VA_ARGS__) }
#define MR_PLUS_() +
#define MR_CHECK_(index, parameter) MR_CHECK_OPEN_(MR_OPEN_ parameter)
#define MR_CHECK_OPEN_(...) MR_CHECK_NOW_(__VA_ARGS__)
#define MR_CHECK_NOW_(access, type, name) mr_parameter_cannot_be_##type
#define mr_parameter_cannot_be_uint8_t 0
#define mr_parameter_cannot_be_int8_t 0
#define mr_parameter_cannot_be_uint16_t 0
#define mr_parameter_cannot_be_int16_t 0
#define mr_parameter_cannot_be_uint32_t 0
#define mr_parameter_cannot_be_int32_t 0
#define mr_parameter_cannot_be_uint64_t 0
#define mr_parameter_cannot_be_int64_t 0
#define mr_parameter_cannot_be_float 0
#define mr_parameter_cannot_be_double 0

#if MR_ON_GPU

/* ---- GPU ---- */

#ifndef MR_UNROLL
#define MR_UNROLL 4
#endif

#ifndef MR_KERNEL_BOUNDS
#define MR_KERNEL_BOUNDS
#endif
#define MR_BOUNDS(threads, blocks) __attribute__((launch_bounds(threads, blocks)))

/* From compute capability 9.0 on, a grid may be set up while the one before it in its stream is still
 * ending: before anything else it waits here until that one has ended and all that it wrote can be seen.
 * PTX for older GPUs has the instruction as a comment, which the library uncovers for GPUs that know it;
 * the mark tells it of code that has it. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
#define MR_GRID_WAIT_() asm volatile("griddepcontrol.wait;" ::: "memory")
#define MR_GRID_MARK_(name)                                                                        \
    extern __device__ const char mr_waits_##name[];                                                \
    __device__ const char mr_waits_##name[] = "waits";
#else
#define MR_GRID_WAIT_() asm volatile("//90 griddepcontrol.wait;" ::: "memory")
#define MR_GRID_MARK_(name)
#endif

/* As an argument that is handed on. */
#define MR_NAME_(index, parameter) MR_NAME_OPEN_(MR_OPEN_ parameter)
#define MR_NAME_OPEN_(...) MR_NAME_NOW_(__VA_ARGS__)
#define MR_NAME_NOW_(access, type, name) name

#define MR_KERNEL(name, ...)                                                                       \
    MR_CHECK_TYPES_(name, __VA_ARGS__);                                                            \
    static __device__ inline __attribute__((always_inline)) void mr_body_##name(                   \
        MR_LIST_(MR_DECLARE_, MR_COMMA_, __VA_ARGS__));                                            \
    extern "C" {                                                                                   \
    extern __device__ const char mr_signature_##name[];                                            \
    __device__ const char mr_signature_##name[] = MR_LIST_(MR_TEXT_, MR_TEXT_COMMA_, __VA_ARGS__); \
    MR_GRID_MARK_(name)                                                                            \
    __global__ MR_KERNEL_BOUNDS void name(MR_LIST_(MR_DECLARE_, MR_COMMA_, __VA_ARGS__))           \
    {                                                                                              \
        MR_GRID_WAIT_();                                                                           \
        mr_body_##name(MR_LIST_(MR_NAME_, MR_COMMA_, __VA_ARGS__));                                \
    }                                                                                              \
    }                                                                                              \
    static __device__ inline __attribute__((always_inline)) void mr_body_##name(                   \
        MR_LIST_(MR_DECLARE_, MR_COMMA_, __VA_ARGS__))

/* The mark tells a GPU's launch that `count` counts blocks. */
#define MR_GROUP_KERNEL(name, ...)                                                                 \
    extern "C" {                                                                                   \
    extern __device__ const char mr_groups_##name[];                                               \
    __device__ const char mr_groups_##name[] = "groups";                                           \
    }                                                                                              \
    MR_KERNEL(name, __VA_ARGS__)

#define MR_FUNCTION static __device__ __attribute__((unused)) inline

#if defined(__CUDA__) && !defined(__CUDACC__)
#define MR_THREAD_ __nvvm_read_ptx_sreg_tid_x()
#define MR_THREADS_ __nvvm_read_ptx_sreg_ntid_x()
#define MR_BLOCK_ __nvvm_read_ptx_sreg_ctaid_x()
#define MR_BLOCKS_ __nvvm_read_ptx_sreg_nctaid_x()
/* clang takes its own barrier for something that leaves shared arrays alone, and moves loads of them to
 * the front of it. */
#define MR_BARRIER_() __asm__ volatile("bar.sync 0;" ::: "memory")
#define MR_SHUFFLE_DOWN_(x, distance) __nvvm_shfl_sync_down_i32(0xffffffff, (int)(x), distance, 31)
#define MR_SHUFFLE_XOR_(x, mask) __nvvm_shfl_sync_bfly_i32(0xffffffff, (int)(x), mask, 31)
#define MR_ATOMIC_ADD_(target, amount) __nvvm_atom_add_gen_i((int *)(target), (int)(amount))
#else
#define MR_THREAD_ threadIdx.x
#define MR_THREADS_ blockDim.x
#define MR_BLOCK_ blockIdx.x
#define MR_BLOCKS_ gridDim.x
#define MR_BARRIER_() __syncthreads()
#define MR_SHUFFLE_DOWN_(x, distance) __shfl_down_sync(0xffffffffu, (int)(x), distance)
#define MR_SHUFFLE_XOR_(x, mask) __shfl_xor_sync(0xffffffffu, (int)(x), mask)
#define MR_ATOMIC_ADD_(target, amount) atomicAdd(target, amount)
#endif

/* Counted beforehand, so that the compiler may unroll. */
#define MR_PRAGMA_(words) MR_PRAGMA_NOW_(words)
#define MR_PRAGMA_NOW_(words) _Pragma(#words)
#define MR_STRIDE_(i, first, end, step)                                                            \
    MR_PRAGMA_(unroll MR_UNROLL)                                                                   \
    for (uint64_t i = (first), mr_end_##i = (end), mr_step_##i = (step),                           \
                  mr_left_##i = i < mr_end_##i ? (mr_end_##i - i - 1) / mr_step_##i + 1 : 0;       \
         mr_left_##i; i += mr_step_##i, mr_left_##i--)
#define MR_EACH(i, total)                                                                          \
    MR_STRIDE_(i, (uint64_t)MR_BLOCK_ *MR_THREADS_ + MR_THREAD_, total,                            \
               (uint64_t)MR_BLOCKS_ * MR_THREADS_)
#define MR_GROUP_EACH(group, total)                                                                \
    for (uint64_t group = MR_BLOCK_, mr_end_##group = (total); group < mr_end_##group;             \
         group += MR_BLOCKS_)
#define MR_LANE_EACH(i, begin, end) MR_STRIDE_(i, (begin) + MR_THREAD_, end, MR_THREADS_)

#define MR_GROUP_SHARED(type, name, count) __shared__ type name[count]

MR_FUNCTION int mr_group_is_leader(void)
{
    return MR_THREAD_ == 0;
}

MR_FUNCTION uint32_t mr_group_lane(void)
{
    return MR_THREAD_;
}

MR_FUNCTION uint32_t mr_group_lane_count(void)
{
    return MR_THREADS_;
}

MR_FUNCTION void mr_group_sync(void)
{
    MR_BARRIER_();
}

MR_FUNCTION void mr_group_add_u32(uint32_t *target, uint32_t amount)
{
    MR_ATOMIC_ADD_(target, amount);
}

MR_FUNCTION void mr_atomic_add_u32(uint32_t *target, uint32_t amount)
{
    MR_ATOMIC_ADD_(target, amount);
}

/* A block has whole warps (the library's launches see to that). The lanes of a warp fold by
 * shuffles, then the first warp folds the warps' results, with `rest` where there is no warp, and
 * everybody gets the leader's. */
#define MR_GROUP_FOLD_(name, type, FOLD, rest)                                                     \
    MR_FUNCTION type mr_warp_##name(type x)                                                        \
    {                                                                                              \
        for (int distance = 16; distance; distance /= 2) {                                         \
            union {                                                                                \
                type whole;                                                                        \
                int part[sizeof(type) / 4];                                                        \
            } mine, other;                                                                         \
            mine.whole = x;                                                                        \
            for (unsigned k = 0; k < sizeof(type) / 4; k++)                                        \
                other.part[k] = MR_SHUFFLE_DOWN_(mine.part[k], distance);                          \
            x = FOLD(x, other.whole);                                                              \
        }                                                                                          \
        return x;                                                                                  \
    }                                                                                              \
    MR_FUNCTION type mr_group_##name(type x)                                                       \
    {                                                                                              \
        __shared__ type warps[32];                                                                 \
        const unsigned thread = MR_THREAD_, warp_count = MR_THREADS_ / 32;                         \
        x = mr_warp_##name(x);                                                                     \
        if (thread % 32 == 0)                                                                      \
            warps[thread / 32] = x;                                                                \
        MR_BARRIER_();                                                                             \
        x = mr_warp_##name(thread % 32 < warp_count ? warps[thread % 32] : (type)(rest));          \
        if (thread == 0)                                                                           \
            warps[0] = x;                                                                          \
        MR_BARRIER_();                                                                             \
        x = warps[0];                                                                              \
        MR_BARRIER_();                                                                             \
        return x;                                                                                  \
    }

#else

/* ---- CPU ---- */

/* As in kernel.h; this file stands alone. */
#ifndef MR_SLICE
#define MR_SLICE
typedef struct mr_slice {
    uint32_t index;
    uint32_t count;
} mr_slice;
#endif

/* Embedded kernels are compiled once per instruction set, each with a suffix of its own. */
#ifndef MR_ENTRY_SUFFIX
#define MR_ENTRY_SUFFIX
#define MR_ENTRY_VISIBILITY_ __attribute__((visibility("default")))
#else
#define MR_ENTRY_VISIBILITY_
#endif
#define MR_ENTRY_(name) MR_PASTE_(mr_entry_##name, MR_ENTRY_SUFFIX)
#define MR_SIGNATURE_(name) MR_PASTE_(mr_signature_##name, MR_ENTRY_SUFFIX)
#define MR_GROUPS_(name) MR_PASTE_(mr_groups_##name, MR_ENTRY_SUFFIX)

/* The body stays a function of its own, so that the promise of its restrict pointers holds. */
#define MR_KERNEL(name, ...)                                                                       \
    MR_CHECK_TYPES_(name, __VA_ARGS__);                                                            \
    MR_ENTRY_VISIBILITY_ extern const char MR_SIGNATURE_(name)[];                                  \
    const char MR_SIGNATURE_(name)[] = MR_LIST_(MR_TEXT_, MR_TEXT_COMMA_, __VA_ARGS__);            \
    static void mr_body_##name(const mr_slice *mr_slice_,                                          \
                               MR_LIST_(MR_DECLARE_, MR_COMMA_, __VA_ARGS__));                     \
    MR_ENTRY_VISIBILITY_ void MR_ENTRY_(name)(const mr_slice *slice, void *const *arguments);      \
    void MR_ENTRY_(name)(const mr_slice *slice, void *const *arguments)                            \
    {                                                                                              \
        mr_body_##name(slice, MR_LIST_(MR_UNPACK_, MR_COMMA_, __VA_ARGS__));                       \
    }                                                                                              \
    static __attribute__((noinline)) void mr_body_##name(                                          \
        const mr_slice *const mr_slice_ __attribute__((unused)),                                   \
        MR_LIST_(MR_DECLARE_, MR_COMMA_, __VA_ARGS__))

#define MR_GROUP_KERNEL(name, ...)                                                                 \
    MR_ENTRY_VISIBILITY_ extern const char MR_GROUPS_(name)[];                                     \
    const char MR_GROUPS_(name)[] = "groups";                                                      \
    MR_KERNEL(name, __VA_ARGS__)

/* As an argument of the body, taken from the array of arguments. */
#define MR_UNPACK_(index, parameter) MR_UNPACK_OPEN_(index, MR_OPEN_ parameter)
#define MR_UNPACK_OPEN_(...) MR_UNPACK_NOW_(__VA_ARGS__)
#define MR_UNPACK_NOW_(index, access, type, name) MR_UNPACK_##access(index, type)
#define MR_UNPACK_IN(index, type) (const type *)arguments[index]
#define MR_UNPACK_OUT(index, type) (type *)arguments[index]
#define MR_UNPACK_INOUT(index, type) (type *)arguments[index]
#define MR_UNPACK_VALUE(index, type) *(const type *)arguments[index]

#define MR_FUNCTION static __attribute__((unused)) inline

#define MR_EACH(i, total)                                                                          \
    for (uint64_t mr_total_##i = (total), i = mr_total_##i * mr_slice_->index / mr_slice_->count,  \
                  mr_end_##i = mr_total_##i * (mr_slice_->index + 1u) / mr_slice_->count;          \
         i < mr_end_##i; i++)
#define MR_GROUP_EACH(group, total) MR_EACH (group, total)
#define MR_LANE_EACH(i, begin, end)                                                                \
    for (uint64_t i = (begin), mr_end_##i = (end); i < mr_end_##i; i++)

#define MR_GROUP_SHARED(type, name, count) type name[count]

MR_FUNCTION int mr_group_is_leader(void)
{
    return 1;
}

MR_FUNCTION uint32_t mr_group_lane(void)
{
    return 0;
}

MR_FUNCTION uint32_t mr_group_lane_count(void)
{
    return 1;
}

MR_FUNCTION void mr_group_sync(void)
{
}

MR_FUNCTION void mr_group_add_u32(uint32_t *target, uint32_t amount)
{
    *target += amount;
}

MR_FUNCTION void mr_atomic_add_u32(uint32_t *target, uint32_t amount)
{
    __atomic_fetch_add(target, amount, __ATOMIC_RELAXED);
}

#define MR_GROUP_FOLD_(name, type, FOLD, rest)                                                     \
    MR_FUNCTION type mr_group_##name(type x)                                                       \
    {                                                                                              \
        return x;                                                                                  \
    }

#endif

/* ---- both ---- */

/* The smaller and the larger; the second where one is not a number. */
#define MR_MIN(a, b) ((a) < (b) ? (a) : (b))
#define MR_MAX(a, b) ((a) > (b) ? (a) : (b))

/* mr_group_sum_f64(x) and so on: the sum, least or greatest of the lanes' values, for each. */
#define MR_SUM_(a, b) ((a) + (b))
MR_GROUP_FOLD_(sum_u32, uint32_t, MR_SUM_, 0)
MR_GROUP_FOLD_(sum_u64, uint64_t, MR_SUM_, 0)
MR_GROUP_FOLD_(sum_f32, float, MR_SUM_, 0)
MR_GROUP_FOLD_(sum_f64, double, MR_SUM_, 0)
MR_GROUP_FOLD_(min_u32, uint32_t, MR_MIN, warps[0])
MR_GROUP_FOLD_(max_u32, uint32_t, MR_MAX, warps[0])
MR_GROUP_FOLD_(min_f32, float, MR_MIN, warps[0])
MR_GROUP_FOLD_(max_f32, float, MR_MAX, warps[0])
MR_GROUP_FOLD_(min_f64, double, MR_MIN, warps[0])
MR_GROUP_FOLD_(max_f64, double, MR_MAX, warps[0])

#endif
