/* SPDX-License-Identifier: MIT */
/*
 * core/kernel_launch.h - a launch, checked and converted, whether a stream or a graph takes it.
 */
#ifndef MR__KERNEL_LAUNCH_H
#define MR__KERNEL_LAUNCH_H

#include "core/buffer.h"
#include "core/kernel.h"

/* Eight bytes of the number in the parameter's type, or of the address. */
union mr__word {
    uint64_t address;
    uint8_t u8;
    int8_t i8;
    uint16_t u16;
    int16_t i16;
    uint32_t u32;
    int32_t i32;
    uint64_t u64;
    int64_t i64;
    float f32;
    double f64;
};

/* Borrows its own words: stays where it was made. */
struct mr__ready_launch {
    struct mr_function_launch work;
    union mr__word words[MR_PARAMETER_LIMIT];
    void *values[MR_PARAMETER_LIMIT];
    size_t memory_bytes[MR_PARAMETER_LIMIT];
    bool is_empty; /* no iteration: nothing of a portable or native kernel would run */
};

/* Checks shape and arguments for `device`, which is the kernel's. The pointers have been checked. */
mr_status mr__launch_prepare(const mr_device *device, const mr_kernel *kernel,
                             const mr_launch *launch, const mr_argument *arguments,
                             size_t argument_count, struct mr__ready_launch *ready);

/* The bytes of a checked buffer argument. */
static inline size_t mr__argument_bytes(const mr_argument *argument)
{
    return argument->size_bytes ? argument->size_bytes
                                : argument->buffer->memory.size_bytes - argument->offset;
}

#endif
