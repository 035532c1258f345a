/* SPDX-License-Identifier: MIT */
/*
 * Copies, fills, host functions and waits for words on the stand-in driver.
 */
#include "support/fakecuda/fake.h"

#include <stdlib.h>
#include <string.h>

/* Pageable memory up to here is read before the call returns; more makes the call wait. */
enum { STAGED_LIMIT = 65536 };

static size_t span(size_t pitch, const struct rows *rows)
{
    return (rows->row_count - 1) * pitch + rows->row_bytes;
}

static void rows_copy(const struct rows *rows)
{
    unsigned char *target = (unsigned char *)(uintptr_t)(rows->target & ~DEVICE_BIT);
    const unsigned char *source =
        rows->staged ? rows->staged : (unsigned char *)(uintptr_t)(rows->source & ~DEVICE_BIT);
    for (size_t i = 0; i < rows->row_count; i++)
        memcpy(target + i * rows->target_pitch, source + i * rows->source_pitch, rows->row_bytes);
}

static void rows_fill(const struct operation *operation)
{
    unsigned char *target = (unsigned char *)(uintptr_t)(operation->rows.target & ~DEVICE_BIT);
    for (size_t i = 0; i < operation->rows.row_bytes; i += operation->value_bytes)
        memcpy(target + i, &operation->value, operation->value_bytes);
}

/* Memory freed before its work has run is what a program must not do. */
static bool rows_are_alive(const struct operation *operation)
{
    const struct rows *rows = &operation->rows;
    return fake_is_alive(rows->target, span(rows->target_pitch, rows)) &&
           (!rows->source || rows->staged ||
            fake_is_alive(rows->source, span(rows->source_pitch, rows)));
}

CUresult fake_execute(struct operation *operation)
{
    switch (operation->kind) {
    case OPERATION_COPY:
        if (!rows_are_alive(operation))
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        rows_copy(&operation->rows);
        return CUDA_SUCCESS;
    case OPERATION_FILL:
        if (!rows_are_alive(operation))
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        rows_fill(operation);
        return CUDA_SUCCESS;
    case OPERATION_LAUNCH:
        return fake_launch_run(operation);
    default:
        return CUDA_SUCCESS;
    }
}

/* Reads small pageable sources at once; answers whether the caller must wait for the copy. */
static bool copy_stage(struct operation *operation, struct place source, struct place target)
{
    struct rows *rows = &operation->rows;
    if (!source.is_device && !target.is_device)
        return true;
    if (target.is_pageable)
        return true;
    if (!source.is_pageable)
        return false;
    const size_t size_bytes = span(rows->source_pitch, rows);
    if (size_bytes > STAGED_LIMIT)
        return true;
    rows->staged = malloc(size_bytes);
    if (!rows->staged)
        abort();
    memcpy(rows->staged, source.bytes, size_bytes);
    return false;
}

static CUresult copy_submit(const struct rows *rows, CUstream handle)
{
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    const struct place target = fake_place(rows->target, span(rows->target_pitch, rows));
    const struct place source = fake_place(rows->source, span(rows->source_pitch, rows));
    if (!result && (!target.bytes || !source.bytes))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result) {
        pthread_mutex_unlock(&fake_lock);
        return result;
    }
    if (stream->frontier.capture && (target.is_pageable || source.is_pageable)) {
        result = fake_capture_forbid(stream);
        pthread_mutex_unlock(&fake_lock);
        return result;
    }
    struct operation *operation = fake_operation(OPERATION_COPY, stream->context);
    operation->rows = *rows;
    if (stream->frontier.capture) {
        fake_submit(stream, operation);
        pthread_mutex_unlock(&fake_lock);
        return CUDA_SUCCESS;
    }
    const bool must_wait = copy_stage(operation, source, target);
    operation->references += must_wait;
    fake_submit(stream, operation);
    pthread_mutex_unlock(&fake_lock);
    return must_wait ? fake_wait(operation) : CUDA_SUCCESS;
}

static struct rows flat(CUdeviceptr target, CUdeviceptr source, size_t size_bytes)
{
    return (struct rows){ .target = target,
                          .source = source,
                          .target_pitch = size_bytes,
                          .source_pitch = size_bytes,
                          .row_bytes = size_bytes,
                          .row_count = 1 };
}

FAKE_API CUresult cuMemcpyAsync(CUdeviceptr target, CUdeviceptr source, size_t size_bytes,
                                CUstream stream)
{
    FAKE_CALL("target=%llx source=%llx bytes=%zu stream=%p", target, source, size_bytes,
              (void *)stream);
    const struct rows rows = flat(target, source, size_bytes);
    return copy_submit(&rows, stream);
}

FAKE_API CUresult cuMemcpyDtoH_v2(void *target, CUdeviceptr source, size_t size_bytes)
{
    FAKE_CALL("target=%p source=%llx bytes=%zu", target, source, size_bytes);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    const struct place place = fake_place(source, size_bytes);
    if (place.bytes && place.is_device)
        memcpy(target, place.bytes, size_bytes);
    pthread_mutex_unlock(&fake_lock);
    return place.bytes && place.is_device ? context->error : CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuMemcpyPeerAsync(CUdeviceptr target, CUcontext target_context,
                                    CUdeviceptr source, CUcontext source_context, size_t size_bytes,
                                    CUstream stream)
{
    FAKE_CALL("target=%llx of %p source=%llx of %p bytes=%zu stream=%p", target,
              (void *)target_context, source, (void *)source_context, size_bytes, (void *)stream);
    /* As on machines where peers are allowed and do not work. */
    if (fake_setting("FAKECUDA_PEERS_CORRUPT", 0) && size_bytes > sizeof(uint32_t))
        size_bytes -= sizeof(uint32_t);
    const struct rows rows = flat(target, source, size_bytes);
    return copy_submit(&rows, stream);
}

FAKE_API CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream)
{
    FAKE_CALL("rows=%zu bytes=%zu stream=%p", copy->Height, copy->WidthInBytes, (void *)stream);
    if (copy->srcMemoryType != CU_MEMORYTYPE_UNIFIED ||
        copy->dstMemoryType != CU_MEMORYTYPE_UNIFIED || copy->srcPitch < copy->WidthInBytes ||
        copy->dstPitch < copy->WidthInBytes)
        return CUDA_ERROR_INVALID_VALUE;
    const struct rows rows = { .target = copy->dstDevice,
                               .source = copy->srcDevice,
                               .target_pitch = copy->dstPitch,
                               .source_pitch = copy->srcPitch,
                               .row_bytes = copy->WidthInBytes,
                               .row_count = copy->Height };
    return copy_submit(&rows, stream);
}

FAKE_API CUresult cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *copy, CUstream stream)
{
    FAKE_CALL("rows=%zu bytes=%zu stream=%p", copy->Height, copy->WidthInBytes, (void *)stream);
    if (copy->Depth != 1 || copy->srcMemoryType != CU_MEMORYTYPE_DEVICE ||
        copy->dstMemoryType != CU_MEMORYTYPE_DEVICE)
        return CUDA_ERROR_INVALID_VALUE;
    const struct rows rows = { .target = copy->dstDevice,
                               .source = copy->srcDevice,
                               .target_pitch = copy->dstPitch,
                               .source_pitch = copy->srcPitch,
                               .row_bytes = copy->WidthInBytes,
                               .row_count = copy->Height };
    return copy_submit(&rows, stream);
}

static CUresult fill_submit(CUdeviceptr address, uint32_t value, uint32_t value_bytes, size_t count,
                            CUstream handle)
{
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    const struct place target = fake_place(address, count * value_bytes);
    if (!result && (!target.bytes || target.is_pageable || address % value_bytes))
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result) {
        struct operation *operation = fake_operation(OPERATION_FILL, stream->context);
        operation->rows = flat(address, 0, count * value_bytes);
        operation->value = value;
        operation->value_bytes = value_bytes;
        fake_submit(stream, operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuMemsetD8Async(CUdeviceptr address, unsigned char value, size_t count,
                                  CUstream stream)
{
    FAKE_CALL("address=%llx count=%zu stream=%p", address, count, (void *)stream);
    return fill_submit(address, value, 1, count, stream);
}

FAKE_API CUresult cuMemsetD16Async(CUdeviceptr address, unsigned short value, size_t count,
                                   CUstream stream)
{
    FAKE_CALL("address=%llx count=%zu stream=%p", address, count, (void *)stream);
    return fill_submit(address, value, 2, count, stream);
}

FAKE_API CUresult cuMemsetD32Async(CUdeviceptr address, unsigned value, size_t count,
                                   CUstream stream)
{
    FAKE_CALL("address=%llx count=%zu stream=%p", address, count, (void *)stream);
    return fill_submit(address, value, 4, count, stream);
}

static CUresult host_submit(CUstream handle, CUhostFn function, CUstreamCallback callback,
                            void *argument)
{
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    if (!result && callback)
        result = fake_capture_forbid(stream);
    if (!result) {
        struct operation *operation = fake_operation(OPERATION_HOST, stream->context);
        operation->function = function;
        operation->callback = callback;
        operation->handle = handle;
        operation->argument = argument;
        fake_submit(stream, operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuLaunchHostFunc(CUstream handle, CUhostFn function, void *argument)
{
    FAKE_CALL("stream=%p argument=%p", (void *)handle, argument);
    return host_submit(handle, function, NULL, argument);
}

FAKE_API CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void *argument,
                                      unsigned flags)
{
    FAKE_CALL("stream=%p argument=%p flags=%u", (void *)handle, argument, flags);
    return host_submit(handle, NULL, callback, argument);
}

FAKE_API CUresult cuStreamWaitValue32_v2(CUstream handle, CUdeviceptr address, uint32_t value,
                                         unsigned flags)
{
    FAKE_CALL("stream=%p address=%llx value=%u flags=%u", (void *)handle, address, value, flags);
    if (fake_setting("FAKECUDA_NO_WAIT_VALUE", 0))
        return CUDA_ERROR_NOT_SUPPORTED;
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    const struct place place = fake_place(address, sizeof value);
    if (!result && (place.is_pageable || place.is_device || address % sizeof value))
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result)
        result = fake_capture_forbid(stream);
    if (!result) {
        struct operation *operation = fake_operation(OPERATION_WAIT_VALUE, stream->context);
        operation->address = address;
        operation->value = value;
        operation->flags = flags;
        fake_submit(stream, operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}
