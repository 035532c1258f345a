/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_image.h - loads code into the driver.
 */
#ifndef MR__CUDA_IMAGE_H
#define MR__CUDA_IMAGE_H

#include "backend/cuda/cuda_backend.h"

/* With the device's context current. Says whether the code is known to begin by waiting for the grid
 * before it. */
mr_status mr__cuda_image_load(const struct cuda_device *device,
                              const struct mr_function_source *source, CUmodule *module,
                              bool *is_waiting);

#endif
