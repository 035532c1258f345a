/* SPDX-License-Identifier: MIT */
/*
 * bench/scale.h - the work of the benchmarks of one and of several GPUs, float32 values times a factor:
 * their memory, made, poisoned and checked whole by all threads, and the kernel.
 */
#ifndef BENCH_SCALE_H
#define BENCH_SCALE_H

#include <millrace/kernel.h>

/* What one run reads and what it has to write. */
struct scale_range {
    const float *source;
    float *target;
    size_t count;
    float factor;
};

/* Values that a chunk in the wrong place would not have. */
void scale_fill(float *target, size_t size_bytes);

/* Leaves nothing in the target that a run before has written. */
void scale_poison(const struct scale_range *range);

/* Ends the program, with the name in its words, unless every value has been written and is right. */
void scale_check(const struct scale_range *range, const char *name);

/* That of handwritten_cuda.h. Fails where the driver takes no PTX, as the stand-in for tests. */
mr_status scale_kernel_create(mr_device *device, mr_kernel **out);

struct scale_launch {
    mr_buffer *source, *target;
    size_t source_offset, target_offset, size_bytes;
    float factor;
    uint32_t rounds; /* idle ones for each element */
};

mr_status scale_launch(mr_stream *stream, mr_kernel *kernel, const struct scale_launch *launch);

#endif
