/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_nvrtc.h - CUDA and portable source compiled at run time by NVRTC.
 */
#ifndef MR__CUDA_NVRTC_H
#define MR__CUDA_NVRTC_H

#include "backend/backend.h"

/* For whom is compiled. */
struct cuda_target {
    uint32_t compute_major, compute_minor;
    int driver_version; /* 13000 is 13.0 */
};

/* The image, a cubin, or PTX for a GPU newer than NVRTC, from the cache or compiled now, with a
 * zero behind it. Freed with mr__free. MR_E_UNAVAILABLE when there is no NVRTC. */
mr_status mr__cuda_nvrtc_compile(const struct cuda_target *target,
                                 const struct mr_function_source *source, void **image,
                                 size_t *image_bytes);

#endif
