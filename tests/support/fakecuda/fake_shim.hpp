// SPDX-License-Identifier: MIT
//
// The words of CUDA C++ that the stand-in compiler needs to run simple kernels on a CPU thread: no
// barriers, no shared memory, every thread of a launch one after another.
#include "fake_shim.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>

#define __global__
#define __device__ static inline
#define __host__
#define __constant__ const
#define __forceinline__ inline
#define __launch_bounds__(...)

struct fakecuda_position {
    unsigned x, y, z;
};
static thread_local fakecuda_position threadIdx, blockIdx, blockDim, gridDim;

template <class T> static inline T atomicAdd(T *target, T amount)
{
    T before = *target;
    *target += amount;
    return before;
}

template <class T> struct fakecuda_is_pointer {
    static const int value = 0;
};
template <class T> struct fakecuda_is_pointer<T *> {
    static const int value = 1;
};
template <class T> struct fakecuda_is_pointer<T *__restrict__> {
    static const int value = 1;
};

template <int... I> struct fakecuda_indices {
};
template <int N, int... I> struct fakecuda_count : fakecuda_count<N - 1, N - 1, I...> {
};
template <int... I> struct fakecuda_count<0, I...> {
    typedef fakecuda_indices<I...> type;
};

template <class... T, int... I>
static void fakecuda_call(void (*kernel)(T...), void *const *arguments, fakecuda_indices<I...>)
{
    kernel(*(T *)arguments[I]...);
}

template <class... T>
static void fakecuda_run(void (*kernel)(T...), void *const *arguments, const unsigned *grid,
                         const unsigned *block)
{
    gridDim = { grid[0], grid[1], grid[2] };
    blockDim = { block[0], block[1], block[2] };
    const uint64_t blocks = (uint64_t)grid[0] * grid[1] * grid[2];
    const uint64_t threads = (uint64_t)block[0] * block[1] * block[2];
    for (uint64_t b = 0; b < blocks; b++) {
        blockIdx = { (unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]),
                     (unsigned)(b / grid[0] / grid[1]) };
        for (uint64_t t = 0; t < threads; t++) {
            threadIdx = { (unsigned)(t % block[0]), (unsigned)(t / block[0] % block[1]),
                          (unsigned)(t / block[0] / block[1]) };
            fakecuda_call(kernel, arguments, typename fakecuda_count<sizeof...(T)>::type());
        }
    }
}

template <class... T>
static fakecuda_shim fakecuda_make(void (*)(T...),
                                   void (*run)(void *const *, const unsigned *, const unsigned *))
{
    fakecuda_shim shim = {
        (int)sizeof...(T), { (int)sizeof(T)... }, { fakecuda_is_pointer<T>::value... }, run
    };
    return shim;
}

#define FAKECUDA_SHIM(name)                                                                        \
    extern "C" fakecuda_shim fakecuda_shim_##name;                                                 \
    fakecuda_shim fakecuda_shim_##name = fakecuda_make(                                            \
        name, [](void *const *arguments, const unsigned *grid, const unsigned *block) {            \
            fakecuda_run(name, arguments, grid, block);                                            \
        });
