/* SPDX-License-Identifier: MIT */
/*
 * Buffers from and to DLPack: what tensors may say, and who holds whose memory.
 *
 * A tensor comes from outside and is not trusted: every field is checked before it is used, and sizes
 * are computed with overflow in mind.
 */
#include "core/dlpack_abi.h"

#include "base/alloc.h"
#include "core/buffer.h"

#include <millrace/dlpack.h>

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- types ---- */

static const struct {
    mr_type type;
    uint8_t code, bits;
} types[] = {
    { MR_TYPE_U8, MR__DL_UINT, 8 },    { MR_TYPE_I8, MR__DL_INT, 8 },
    { MR_TYPE_U16, MR__DL_UINT, 16 },  { MR_TYPE_I16, MR__DL_INT, 16 },
    { MR_TYPE_U32, MR__DL_UINT, 32 },  { MR_TYPE_I32, MR__DL_INT, 32 },
    { MR_TYPE_U64, MR__DL_UINT, 64 },  { MR_TYPE_I64, MR__DL_INT, 64 },
    { MR_TYPE_F32, MR__DL_FLOAT, 32 }, { MR_TYPE_F64, MR__DL_FLOAT, 64 },
};

enum { TYPE_COUNT = sizeof types / sizeof *types };

static mr_type type_of(struct mr__dl_type type)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (type.lanes == 1 && types[i].code == type.code && types[i].bits == type.bits)
            return types[i].type;
    }
    return (mr_type)0;
}

static struct mr__dl_type dl_type_of(const mr_tensor_layout *layout)
{
    for (size_t i = 0; i < TYPE_COUNT; i++) {
        if (types[i].type == layout->type)
            return (struct mr__dl_type){ types[i].code, types[i].bits, 1 };
    }
    return (struct mr__dl_type){ layout->code, layout->bits, layout->lanes };
}

static mr_status check_type(const char *call, struct mr__dl_type type, size_t *element_bytes)
{
    const unsigned element_bits = (unsigned)type.bits * type.lanes;
    *element_bytes = element_bits / 8;
    if (!element_bits || type.code == MR__DL_OPAQUE)
        return mr_error_set(MR_E_INVALID,
                            "%s: elements of code %u, %u bits and %u lanes are no numbers", call,
                            type.code, type.bits, type.lanes);
    if (element_bits % 8)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: elements of %u bits are not whole bytes; unpack them first", call,
                            element_bits);
    return MR_OK;
}

/* ---- shapes ---- */

/* Bytes of a compact tensor of this shape. */
static mr_status measure(const char *call, const int64_t *shape, uint32_t dimension_count,
                         size_t element_bytes, size_t *size_bytes)
{
    uint64_t size = element_bytes;
    for (uint32_t d = 0; d < dimension_count; d++) {
        if (shape[d] < 0)
            return mr_error_set(MR_E_INVALID, "%s: dimension %" PRIu32 " is %" PRId64, call, d,
                                shape[d]);
        if (shape[d] == 0)
            return mr_error_set(MR_E_INVALID,
                                "%s: dimension %" PRIu32 " is 0: a buffer has at least one byte",
                                call, d);
        if (__builtin_mul_overflow(size, (uint64_t)shape[d], &size) || size > PTRDIFF_MAX)
            return mr_error_set(MR_E_INVALID,
                                "%s: the shape is larger than any memory, from dimension %" PRIu32
                                " (%" PRId64 ") on",
                                call, d, shape[d]);
    }
    *size_bytes = size;
    return MR_OK;
}

/* The last dimension is fastest. A dimension of 1 may have any stride. */
static mr_status check_strides(const char *call, const struct mr__dl_tensor *tensor)
{
    int64_t wanted = 1;
    for (int32_t d = tensor->dimension_count - 1; tensor->strides && d >= 0; d--) {
        if (tensor->shape[d] != 1 && tensor->strides[d] != wanted)
            return mr_error_set(MR_E_UNSUPPORTED,
                                "%s: dimension %" PRId32 " has a stride of %" PRId64
                                " elements where %" PRId64
                                " would be compact; make the tensor contiguous first",
                                call, d, tensor->strides[d], wanted);
        wanted *= tensor->shape[d]; /* fits: the shape has been measured */
    }
    return MR_OK;
}

/* ---- from DLPack ---- */

static mr_status place_of(const char *call, const mr_device *device,
                          const struct mr__dl_tensor *tensor, mr_place *place)
{
    char id[32];
    switch (tensor->device_type) {
    case MR__DL_CPU:
        *place = MR_PLACE_PAGEABLE;
        return MR_OK;
    case MR__DL_CUDA_HOST:
        *place = MR_PLACE_PINNED;
        return MR_OK;
    case MR__DL_CUDA:
        *place = MR_PLACE_DEVICE;
        snprintf(id, sizeof id, "cuda:%" PRId32, tensor->device_id);
        if (strcmp(id, device->properties.id) == 0)
            return MR_OK;
        return mr_error_set(MR_E_INVALID, "%s: the tensor lies on %s, the device given is %s", call,
                            id, device->properties.id);
    case MR__DL_CUDA_MANAGED:
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: managed memory moves by itself; copy it to device memory", call);
    default:
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: device type %" PRId32 " is none of CPU, CUDA and CUDA host", call,
                            tensor->device_type);
    }
}

static mr_status check_tensor(const char *call, const mr_device *device,
                              const struct mr__dl_tensor *tensor, mr_place *place,
                              size_t *size_bytes)
{
    size_t element_bytes;
    if (tensor->dimension_count < 0 || tensor->dimension_count > MR_TENSOR_DIMENSION_LIMIT)
        return mr_error_set(MR_E_INVALID, "%s: %" PRId32 " dimensions; 0 to %d are taken", call,
                            tensor->dimension_count, MR_TENSOR_DIMENSION_LIMIT);
    if (tensor->dimension_count && !tensor->shape)
        return mr_error_set(MR_E_INVALID, "%s: the tensor has no shape", call);
    mr_status status = place_of(call, device, tensor, place);
    if (!status)
        status = check_type(call, tensor->type, &element_bytes);
    if (!status)
        status = measure(call, tensor->shape, (uint32_t)tensor->dimension_count, element_bytes,
                         size_bytes);
    if (!status)
        status = check_strides(call, tensor);
    if (status)
        return status;

    uintptr_t end;
    if (!tensor->data)
        return mr_error_set(MR_E_INVALID, "%s: the tensor has no data", call);
    if (__builtin_add_overflow((uintptr_t)tensor->data, tensor->byte_offset, &end) ||
        __builtin_add_overflow(end, *size_bytes, &end))
        return mr_error_set(MR_E_INVALID,
                            "%s: %zu bytes at offset %" PRIu64 " of %p are no range of memory",
                            call, *size_bytes, tensor->byte_offset, tensor->data);
    return MR_OK;
}

static void fill_layout(const struct mr__dl_tensor *tensor, mr_tensor_layout *layout)
{
    *layout = (mr_tensor_layout){ .type = type_of(tensor->type),
                                  .code = tensor->type.code,
                                  .bits = tensor->type.bits,
                                  .lanes = tensor->type.lanes,
                                  .dimension_count = (uint32_t)tensor->dimension_count };
    for (int32_t d = 0; d < tensor->dimension_count; d++)
        layout->shape[d] = tensor->shape[d];
}

/* The buffer without its tensor, which the caller hands over last. */
static mr_status borrow_tensor(const char *call, mr_device *device,
                               const struct mr__dl_tensor *tensor, mr_tensor_layout *layout,
                               mr_buffer **out)
{
    mr_place place = MR_PLACE_PAGEABLE;
    size_t size_bytes = 0;
    mr_status status = check_tensor(call, device, tensor, &place, &size_bytes);
    if (!status)
        status = mr_buffer_borrow(device, (char *)tensor->data + tensor->byte_offset, size_bytes,
                                  place, out);
    if (!status && layout)
        fill_layout(tensor, layout);
    return status;
}

static mr_status check_handles(const char *call, const mr_device *device, const void *tensor)
{
    if (device && tensor)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call, device ? "tensor" : "device");
}

static void release_tensor(void *context)
{
    struct DLManagedTensor *tensor = context;
    if (tensor->deleter)
        tensor->deleter(tensor);
}

static void release_versioned(void *context)
{
    struct DLManagedTensorVersioned *tensor = context;
    if (tensor->deleter)
        tensor->deleter(tensor);
}

mr_status mr_buffer_from_dlpack(mr_device *device, struct DLManagedTensor *tensor,
                                mr_tensor_layout *layout, mr_buffer **out)
{
    static const char call[] = "mr_buffer_from_dlpack";
    *out = NULL;
    mr_status status = check_handles(call, device, tensor);
    if (!status)
        status = borrow_tensor(call, device, &tensor->tensor, layout, out);
    if (!status)
        mr__buffer_own(*out, release_tensor, tensor);
    return status;
}

mr_status mr_buffer_from_dlpack_versioned(mr_device *device,
                                          struct DLManagedTensorVersioned *tensor,
                                          mr_tensor_layout *layout, mr_buffer **out)
{
    static const char call[] = "mr_buffer_from_dlpack_versioned";
    *out = NULL;
    mr_status status = check_handles(call, device, tensor);
    if (status)
        return status;
    if (tensor->major != MR__DL_MAJOR)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: the tensor is of DLPack %" PRIu32 ".%" PRIu32
                            ", only version %d is known here; ask the producer for that",
                            call, tensor->major, tensor->minor, MR__DL_MAJOR);
    status = borrow_tensor(call, device, &tensor->tensor, layout, out);
    if (status)
        return status;
    (*out)->is_read_only = tensor->flags & MR__DL_READ_ONLY;
    mr__buffer_own(*out, release_versioned, tensor);
    return MR_OK;
}

bool mr_buffer_is_read_only(const mr_buffer *buffer)
{
    return buffer->is_read_only;
}

/* ---- to DLPack ---- */

/* A tensor on its way, in either form, and what it points to. */
struct export
{
    mr_buffer *buffer;
    union {
        struct DLManagedTensor plain;
        struct DLManagedTensorVersioned versioned;
    } managed;
    int64_t numbers[]; /* the shape, then the strides */
};

static void end_export(struct export *export)
{
    mr__buffer_release(export->buffer);
    mr__free(export);
}

static void delete_plain(struct DLManagedTensor *self)
{
    if (self)
        end_export(self->manager);
}

static void delete_versioned(struct DLManagedTensorVersioned *self)
{
    if (self)
        end_export(self->manager);
}

static mr_status check_layout(const char *call, const mr_buffer *buffer,
                              const mr_tensor_layout *layout)
{
    size_t element_bytes, size_bytes = 0;
    if (layout->type && !mr_type_size(layout->type))
        return mr_error_set(MR_E_INVALID, "%s: type %d is none", call, (int)layout->type);
    if (layout->dimension_count > MR_TENSOR_DIMENSION_LIMIT)
        return mr_error_set(MR_E_INVALID, "%s: %" PRIu32 " dimensions; at most %d", call,
                            layout->dimension_count, MR_TENSOR_DIMENSION_LIMIT);
    mr_status status = check_type(call, dl_type_of(layout), &element_bytes);
    if (!status)
        status = measure(call, layout->shape, layout->dimension_count, element_bytes, &size_bytes);
    return status ? status : mr__buffer_check_range(call, buffer, layout->offset, size_bytes);
}

static mr_status device_of(const char *call, const mr_buffer *buffer, struct mr__dl_tensor *tensor)
{
    const mr_device *device = buffer->device;
    const bool is_cuda = strncmp(device->properties.id, "cuda:", 5) == 0;
    tensor->device_type = MR__DL_CPU;
    if (buffer->memory.place == MR_PLACE_PINNED && is_cuda)
        tensor->device_type = MR__DL_CUDA_HOST;
    if (buffer->memory.host)
        return MR_OK;
    if (!is_cuda)
        return mr_error_set(MR_E_UNSUPPORTED, "%s: DLPack has no name for the memory of %s", call,
                            device->properties.id);
    tensor->device_type = MR__DL_CUDA;
    tensor->device_id = (int32_t)device->index;
    return MR_OK;
}

static mr_status check_export(const char *call, const mr_buffer *buffer,
                              const mr_tensor_layout *layout)
{
    if (buffer->origin == MR__ORIGIN_ORDERED)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: buffer '%s' is stream-ordered memory, which its stream frees; use "
                            "mr_buffer_create",
                            call, buffer->name);
    return check_layout(call, buffer, layout);
}

/* Fills `tensor` and takes a hold on the buffer. */
static mr_status create_export(const char *call, mr_buffer *buffer, const mr_tensor_layout *layout,
                               struct mr__dl_tensor *tensor, struct export **out)
{
    const uint32_t count = layout->dimension_count;
    mr_status status = check_export(call, buffer, layout);
    if (!status)
        status = device_of(call, buffer, tensor);
    if (status)
        return status;
    struct export *export = mr__zalloc(sizeof *export + 2 * sizeof(int64_t) * count);
    if (!export)
        return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory", call);

    int64_t *shape = export->numbers, *strides = shape + count, stride = 1;
    for (uint32_t d = count; d-- > 0;) {
        shape[d] = layout->shape[d];
        strides[d] = stride;
        stride *= shape[d];
    }
    const struct mr_memory *memory = &buffer->memory;
    const uintptr_t first = memory->host ? (uintptr_t)memory->host : memory->address;
    tensor->data = (void *)(first + layout->offset);
    tensor->dimension_count = (int32_t)count;
    tensor->type = dl_type_of(layout);
    tensor->shape = shape;
    tensor->strides = strides;
    export->buffer = buffer;
    mr__buffer_retain(buffer);
    *out = export;
    return MR_OK;
}

static mr_tensor_layout layout_or_bytes(const mr_buffer *buffer, const mr_tensor_layout *layout)
{
    if (layout)
        return *layout;
    return (mr_tensor_layout){ .type = MR_TYPE_U8,
                               .dimension_count = 1,
                               .shape = { (int64_t)buffer->memory.size_bytes } };
}

mr_status mr_buffer_to_dlpack(mr_buffer *buffer, const mr_tensor_layout *layout,
                              struct DLManagedTensor **out)
{
    static const char call[] = "mr_buffer_to_dlpack";
    *out = NULL;
    if (!buffer)
        return mr_error_set(MR_E_INVALID, "%s: buffer is NULL", call);
    if (buffer->is_read_only)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: buffer '%s' is read-only, which this form cannot say; use "
                            "mr_buffer_to_dlpack_versioned",
                            call, buffer->name);
    struct mr__dl_tensor tensor = { .data = NULL };
    struct export *export;
    const mr_tensor_layout whole = layout_or_bytes(buffer, layout);
    const mr_status status = create_export(call, buffer, &whole, &tensor, &export);
    if (status)
        return status;
    export->managed.plain =
        (struct DLManagedTensor){ .tensor = tensor, .manager = export, .deleter = delete_plain };
    *out = &export->managed.plain;
    return MR_OK;
}

mr_status mr_buffer_to_dlpack_versioned(mr_buffer *buffer, const mr_tensor_layout *layout,
                                        struct DLManagedTensorVersioned **out)
{
    static const char call[] = "mr_buffer_to_dlpack_versioned";
    *out = NULL;
    if (!buffer)
        return mr_error_set(MR_E_INVALID, "%s: buffer is NULL", call);
    struct mr__dl_tensor tensor = { .data = NULL };
    struct export *export;
    const mr_tensor_layout whole = layout_or_bytes(buffer, layout);
    const mr_status status = create_export(call, buffer, &whole, &tensor, &export);
    if (status)
        return status;
    export->managed.versioned =
        (struct DLManagedTensorVersioned){ .major = MR__DL_MAJOR,
                                           .minor = MR__DL_MINOR,
                                           .manager = export,
                                           .deleter = delete_versioned,
                                           .flags = buffer->is_read_only ? MR__DL_READ_ONLY : 0,
                                           .tensor = tensor };
    *out = &export->managed.versioned;
    return MR_OK;
}
