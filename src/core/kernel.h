/* SPDX-License-Identifier: MIT */
/*
 * core/kernel.h - a kernel as core's other files see it.
 */
#ifndef MR__KERNEL_H
#define MR__KERNEL_H

#include "core/device.h"

struct mr_kernel {
    mr_device *device;
    struct mr_function *function;
    char *name;
    mr_kernel_language language;
    bool is_element_wise;
    size_t
        count_index; /* of the parameter "value u64 count"; MR_PARAMETER_LIMIT when there is none */
    size_t parameter_count;
    mr_parameter parameters[MR_PARAMETER_LIMIT];
};

/* The folder for compiled kernels, made if need be; NULL when there is none that is safe to use:
 * the user's own, and written by nobody else. Freed with mr__free. */
char *mr__kernel_cache_folder(void);

/* Bytes that may be kept there. */
uint64_t mr__kernel_cache_limit(void);

#endif
