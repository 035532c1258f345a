/* SPDX-License-Identifier: MIT */
/*
 * vision/vision_device.h - the inside of a model: its kernels and the small tables that they read.
 */
#ifndef MR__VISION_DEVICE_H
#define MR__VISION_DEVICE_H

#include "vision/vision_parts.h"

#include <millrace/event.h>

enum mr__vision_kernel {
    MR__VISION_KERNEL_TEXTURES_U8,
    MR__VISION_KERNEL_TEXTURES_U16,
    MR__VISION_KERNEL_HISTOGRAM_U8,
    MR__VISION_KERNEL_HISTOGRAM_U16,
    MR__VISION_KERNEL_ENTROPY,
    MR__VISION_KERNEL_CELL_SUMS,
    MR__VISION_KERNEL_CONTRAST,
    MR__VISION_KERNEL_SIMILARITY,
    MR__VISION_KERNEL_BALANCE,
    MR__VISION_KERNEL_TOKENS,
    MR__VISION_KERNEL_COMPRESS,
    MR__VISION_KERNEL_COUNT
};

struct mr__vision_model {
    mr_device *device;
    struct mr__vision_parameters parameters;
    mr_kernel *kernels[MR__VISION_KERNEL_COUNT];
    mr_buffer *linear_u8, *linear_u16; /* linear light of each stored value */
    mr_buffer *terms;                  /* f64 [11][3]: L, a, b of the colour terms */
    mr_buffer *query;                  /* f64 [48]: numbers times weights, then weights */
};

/* What a launch touches: `size_bytes` at `offset` of each image's part of the place. */
mr_argument mr__vision_part(uint32_t image_count, struct mr__vision_place place, size_t offset,
                            size_t size_bytes);

/* A launch of `count` groups; the kernel's blocks are known. */
mr_status mr__vision_launch(const struct mr__vision_model *model, mr_stream *stream,
                            enum mr__vision_kernel kernel, uint64_t count, uint32_t slice_limit,
                            const mr_argument *arguments, size_t argument_count);

#endif
