/* SPDX-License-Identifier: MIT */
/*
 * bench/handwritten_cuda.h - copy in, scale, copy out, as one writes it on the CUDA driver API by
 * hand: the peer that gpu_stream.c measures itself against. Finds libcuda with dlopen, so that it builds
 * anywhere.
 */
#ifndef BENCH_HANDWRITTEN_CUDA_H
#define BENCH_HANDWRITTEN_CUDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* PTX of the kernel that everybody runs:
 * scale(source, target, factor, count, rounds): target[i] = factor * source[i], after `rounds` idle
 * multiply-adds for each element, to make the kernel as slow as wanted. */
extern const char hand_kernel_ptx[];
#define HAND_KERNEL_NAME "scale"

/* Blocks of 256 threads for `count` elements. */
uint32_t hand_grid(uint64_t count);

/* False when there is no driver or no device. Otherwise device 0's primary context is current. */
bool hand_open(void);

/* Pinned host memory. */
void *hand_pin(size_t size_bytes);
void hand_unpin(void *address);

enum hand_shape {
    HAND_STAGES = 0,      /* a stream for copies in, one for kernels, one for copies out; events */
    HAND_FOUR_STREAMS = 1 /* chunk i goes through stream i % 4 */
};

struct hand_run {
    const float *source; /* host memory */
    float *target;
    size_t size_bytes;
    size_t item_bytes;   /* a launch for each item */
    size_t copy_bytes;   /* copied at once: item_bytes, or a multiple (merged) */
    uint32_t slot_count; /* chunks on the device at most */
    enum hand_shape shape;
    float factor;
    uint32_t rounds;
};

/* Seconds for one pass over the data, allocation and set-up left out. */
double hand_stream(const struct hand_run *run);

/* Seconds of the same work in one stream, chunk after chunk. */
double hand_sequential(const struct hand_run *run);

/* Bytes per second of large copies, in from `pinned_in` and out to `pinned_out`; NULL leaves that way
 * out. With both, each way: half of the sum. The median of `round_count` rounds. */
double hand_copy_rate(const void *pinned_in, void *pinned_out, size_t size_bytes, int round_count);

struct hand_both_ways {
    const char *source; /* pinned host memory, for all devices */
    char *target;
    size_t size_bytes, chunk_bytes;
    uint32_t device_count; /* device i copies the chunks i, i + device_count, ... again and again */
    double seconds;
};

/* Bytes per second each way of all devices together, each copying chunks in and out at once, from a
 * thread of its own, with nothing between them; `rates` gets those of each device. Needs no hand_open. */
double hand_both_ways(const struct hand_both_ways *run, double *rates);

/* Device seconds of one launch over `count` elements. */
double hand_kernel_seconds(uint64_t count, uint32_t rounds);

#endif
