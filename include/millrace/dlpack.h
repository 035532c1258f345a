/* SPDX-License-Identifier: MIT */
/*
 * millrace/dlpack.h - buffers from and to other libraries, by DLPack.
 *
 * DLPack is the C structure by which array libraries hand each other memory without a copy (PyTorch,
 * CuPy, NumPy, JAX...). Its structs are named here and declared by its own header, <dlpack/dlpack.h>;
 * programs that only pass tensors on need not have it. Versions before 1.0 use DLManagedTensor, later
 * ones DLManagedTensorVersioned.
 *
 * A buffer is a range of bytes; what the bytes are is told beside it, in a layout. Elements lie one
 * after the other, the last dimension fastest: other strides are refused, never copied in secret.
 *
 * Order      Nothing here waits for a device. Work that wrote the memory must have ended, or a stream
 *            must have been made to wait for it: mr_stream_wrap takes the other library's stream.
 * Ownership  In: mr_buffer_from_dlpack takes the tensor when it answers MR_OK, and its deleter is called
 *            once, by mr_buffer_destroy, after every use of the buffer has ended. On failure the tensor
 *            stays the caller's. Out: the tensor holds the buffer's memory, which lives until both
 *            mr_buffer_destroy and the tensor's deleter have been called, in either order; until then
 *            the device counts it among its children. Registered and borrowed memory must outlive the
 *            tensor, too.
 * Threads    As for buffers. A tensor's deleter is [any thread], at any time, and may block.
 */
#ifndef MR_DLPACK_H
#define MR_DLPACK_H

#include <millrace/kernel.h>

#ifdef __cplusplus
extern "C" {
#endif

struct DLManagedTensor;
struct DLManagedTensorVersioned;

#define MR_TENSOR_DIMENSION_LIMIT 32

/* What a range of memory holds. `type` says it for the library's own types; for others it is 0, and
 * code, bits and lanes are DLPack's (bfloat16: code 4, 16 bits). */
typedef struct mr_tensor_layout {
    mr_type type; /* in: if it is set, code, bits and lanes are not looked at */
    uint8_t code;
    uint8_t bits;             /* of a lane; bits times lanes is a multiple of 8 */
    uint16_t lanes;           /* 1, or more for vector types */
    uint32_t dimension_count; /* at most MR_TENSOR_DIMENSION_LIMIT; 0: a single element */
    int64_t shape[MR_TENSOR_DIMENSION_LIMIT]; /* each at least 1 */
    size_t offset; /* to DLPack: where in the buffer it begins, in bytes. From DLPack: 0 */
} mr_tensor_layout;

/* A buffer over the tensor's memory, with its byte offset taken in. kDLCPU becomes pageable memory and
 * kDLCUDAHost pinned memory of any `device`; kDLCUDA device memory, and `device` must be the one that
 * it lies on. `layout` receives the layout and may be NULL. A read-only tensor (versioned) gives a
 * read-only buffer: copies to it, fills and kernels that write it are MR_E_INVALID.
 * MR_E_INVALID for a tensor that is not as DLPack wants it or is empty, MR_E_UNSUPPORTED for other
 * strides, other devices, elements that are not whole bytes, and major versions other than 1; the words
 * say which. Never blocks. */
MR_API MR_MUST_USE mr_status mr_buffer_from_dlpack(mr_device *device,
                                                   struct DLManagedTensor *tensor,
                                                   mr_tensor_layout *layout, mr_buffer **out);
MR_API MR_MUST_USE mr_status
mr_buffer_from_dlpack_versioned(mr_device *device, struct DLManagedTensorVersioned *tensor,
                                mr_tensor_layout *layout, mr_buffer **out);

/* True for a buffer whose memory may only be read. [any thread] */
MR_API bool mr_buffer_is_read_only(const mr_buffer *buffer);

/* Gives a tensor over the buffer's memory; its deleter takes it. `layout` NULL: all of it, as bytes.
 * Device memory becomes kDLCUDA, pinned memory of a GPU kDLCUDAHost, all else kDLCPU. MR_E_INVALID for a
 * layout that does not fit, MR_E_UNSUPPORTED for stream-ordered memory (its stream frees it), and for
 * read-only memory in the form that cannot say so. Never blocks. */
MR_API MR_MUST_USE mr_status mr_buffer_to_dlpack(mr_buffer *buffer, const mr_tensor_layout *layout,
                                                 struct DLManagedTensor **out);
/* Says version 1.0. */
MR_API MR_MUST_USE mr_status mr_buffer_to_dlpack_versioned(mr_buffer *buffer,
                                                           const mr_tensor_layout *layout,
                                                           struct DLManagedTensorVersioned **out);

#ifdef __cplusplus
}
#endif
#endif
