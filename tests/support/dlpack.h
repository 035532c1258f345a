/* SPDX-License-Identifier: MIT */
/*
 * support/dlpack.h - DLPack tensors as another library would declare and make them.
 */
#ifndef TEST_DLPACK_H
#define TEST_DLPACK_H

#include "support/check.h"

#include <millrace/dlpack.h>

#include <stdatomic.h>
#include <stdlib.h>

enum { DL_CPU = 1, DL_CUDA = 2, DL_CUDA_HOST = 3, DL_OPENCL = 4, DL_MANAGED = 13 };

typedef struct {
    void *data;
    struct {
        int32_t type, id;
    } device;
    int32_t ndim;
    struct {
        uint8_t code, bits;
        uint16_t lanes;
    } dtype;
    int64_t *shape, *strides;
    uint64_t byte_offset;
} DLTensor;

struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
};

struct DLManagedTensorVersioned {
    struct {
        uint32_t major, minor;
    } version;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self);
    uint64_t flags;
    DLTensor dl_tensor;
};

/* A float matrix of 3 x 4 in the test's own memory, in both forms, which counts its deletions. */
struct foreign {
    struct DLManagedTensor plain;
    struct DLManagedTensorVersioned versioned;
    float numbers[12];
    int64_t shape[2], strides[2];
    _Atomic int deletions;
};

static inline void foreign_delete(struct DLManagedTensor *self)
{
    atomic_fetch_add(&((struct foreign *)self->manager_ctx)->deletions, 1);
}

static inline void foreign_delete_versioned(struct DLManagedTensorVersioned *self)
{
    atomic_fetch_add(&((struct foreign *)self->manager_ctx)->deletions, 1);
}

static inline void foreign_init(struct foreign *foreign)
{
    for (int i = 0; i < 12; i++)
        foreign->numbers[i] = (float)i;
    foreign->shape[0] = 3;
    foreign->shape[1] = 4;
    foreign->strides[0] = 4;
    foreign->strides[1] = 1;
    atomic_init(&foreign->deletions, 0);
    const DLTensor tensor = { .data = foreign->numbers,
                              .device = { DL_CPU, 0 },
                              .ndim = 2,
                              .dtype = { 2, 32, 1 },
                              .shape = foreign->shape,
                              .strides = foreign->strides };
    foreign->plain = (struct DLManagedTensor){ tensor, foreign, foreign_delete };
    foreign->versioned =
        (struct DLManagedTensorVersioned){ { 1, 1 }, foreign, foreign_delete_versioned, 0, tensor };
}

#endif
