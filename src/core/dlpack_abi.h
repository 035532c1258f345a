/* SPDX-License-Identifier: MIT */
/*
 * core/dlpack_abi.h - the structs of DLPack 1.x, as its binary interface has them.
 */
#ifndef MR__DLPACK_ABI_H
#define MR__DLPACK_ABI_H

#include <stddef.h>
#include <stdint.h>

enum { MR__DL_MAJOR = 1, MR__DL_MINOR = 0 };

enum { MR__DL_CPU = 1, MR__DL_CUDA = 2, MR__DL_CUDA_HOST = 3, MR__DL_CUDA_MANAGED = 13 };

enum { MR__DL_INT = 0, MR__DL_UINT = 1, MR__DL_FLOAT = 2, MR__DL_OPAQUE = 3 };

enum { MR__DL_READ_ONLY = 1 };

struct mr__dl_type {
    uint8_t code, bits;
    uint16_t lanes;
};

struct mr__dl_tensor {
    void *data;
    int32_t device_type;
    int32_t device_id;
    int32_t dimension_count;
    struct mr__dl_type type;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: compact */
    uint64_t byte_offset;
};

struct DLManagedTensor {
    struct mr__dl_tensor tensor;
    void *manager;
    void (*deleter)(struct DLManagedTensor *self);
};

/* Of another major version, nothing after `flags` is where it is here. */
struct DLManagedTensorVersioned {
    uint32_t major, minor;
    void *manager;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    struct mr__dl_tensor tensor;
};

_Static_assert(sizeof(struct mr__dl_tensor) == 48 &&
                   offsetof(struct mr__dl_tensor, dimension_count) == 16 &&
                   offsetof(struct mr__dl_tensor, shape) == 24 &&
                   offsetof(struct DLManagedTensor, deleter) == 56 &&
                   offsetof(struct DLManagedTensorVersioned, deleter) == 16 &&
                   offsetof(struct DLManagedTensorVersioned, tensor) == 32,
               "the layout of DLPack on 64-bit machines");

#endif
