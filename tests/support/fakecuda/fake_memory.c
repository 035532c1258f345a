/* SPDX-License-Identifier: MIT */
/*
 * The stand-in driver's memory: a list of ranges against which every address is checked.
 *
 * Fresh memory holds rubbish, freed memory other rubbish, and device addresses carry a bit that makes
 * them useless to host code.
 */
#include "support/fakecuda/fake.h"

#include <stdlib.h>
#include <string.h>

struct range {
    enum range_kind kind;
    CUdeviceptr address; /* as the caller knows it */
    size_t size_bytes;
    CUcontext context;
    struct range *next;
};

struct CUmemPoolHandle_st {
    int device;
};

static struct range *ranges; /* under the lock */

static unsigned char *bytes_of(CUdeviceptr address)
{
    return (unsigned char *)(uintptr_t)(address & ~DEVICE_BIT);
}

static struct range *range_find(CUdeviceptr address, size_t size_bytes)
{
    for (struct range *range = ranges; range; range = range->next)
        if (address >= range->address && size_bytes <= range->size_bytes &&
            address - range->address <= range->size_bytes - size_bytes)
            return range;
    return NULL;
}

static struct range *range_overlapping(CUdeviceptr address, size_t size_bytes)
{
    for (struct range *range = ranges; range; range = range->next)
        if (address < range->address + range->size_bytes && range->address < address + size_bytes)
            return range;
    return NULL;
}

static bool range_add(enum range_kind kind, CUdeviceptr address, size_t size_bytes,
                      CUcontext context)
{
    struct range *range = calloc(1, sizeof *range);
    if (!range)
        return false;
    *range = (struct range){ kind, address, size_bytes, context, ranges };
    ranges = range;
    return true;
}

int64_t fake_live_ranges(void)
{
    int64_t count = 0;
    for (struct range *range = ranges; range; range = range->next)
        count += range->kind != RANGE_MODULE;
    return count;
}

struct place fake_place(CUdeviceptr address, size_t size_bytes)
{
    const bool is_device = address & DEVICE_BIT;
    struct range *range = range_find(address, size_bytes);
    if (is_device && !range)
        return (struct place){ 0 };
    return (struct place){ bytes_of(address), is_device, !range };
}

CUcontext fake_owner(CUdeviceptr address)
{
    const struct range *range = range_find(address, 1);
    return range ? range->context : NULL;
}

bool fake_is_alive(CUdeviceptr address, size_t size_bytes)
{
    pthread_mutex_lock(&fake_lock);
    const bool is_alive = fake_place(address, size_bytes).bytes;
    pthread_mutex_unlock(&fake_lock);
    return is_alive;
}

bool fake_is_reachable(CUdeviceptr address)
{
    pthread_mutex_lock(&fake_lock);
    const bool is_known = range_find(address, 1);
    pthread_mutex_unlock(&fake_lock);
    return is_known;
}

void fake_range_of_module(CUdeviceptr address, size_t size_bytes, CUcontext context)
{
    if (!range_find(address, size_bytes) && !range_add(RANGE_MODULE, address, size_bytes, context))
        abort();
}

/* Unlinks the range that starts at `address`; the caller frees it and its memory. */
static struct range *range_take(CUdeviceptr address, enum range_kind kind)
{
    for (struct range **place = &ranges; *place; place = &(*place)->next) {
        struct range *range = *place;
        if (range->address != address || range->kind != kind)
            continue;
        *place = range->next;
        return range;
    }
    return NULL;
}

static CUresult device_allocate(CUcontext context, CUdeviceptr *out, size_t size_bytes)
{
    *out = 0;
    if (!size_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    const bool fits = size_bytes <= fake_memory_bytes() - context->used_bytes;
    void *memory = NULL;
    if (fits && posix_memalign(&memory, 512, size_bytes))
        memory = NULL;
    const CUdeviceptr address = (CUdeviceptr)(uintptr_t)memory | DEVICE_BIT;
    const bool is_done = memory && range_add(RANGE_DEVICE, address, size_bytes, context);
    if (is_done) {
        context->used_bytes += size_bytes;
        memset(memory, 0xcd, size_bytes);
        *out = address;
    } else {
        free(memory);
    }
    pthread_mutex_unlock(&fake_lock);
    return is_done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void fake_range_free(CUdeviceptr address)
{
    struct range *range = range_take(address, RANGE_DEVICE);
    if (!range)
        return;
    range->context->used_bytes -= range->size_bytes;
    memset(bytes_of(address), 0xdb, range->size_bytes);
    free(bytes_of(address));
    free(range);
}

FAKE_API CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    FAKE_CALL("%s", "");
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    *total = fake_memory_bytes();
    *free_bytes = *total - context->used_bytes;
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemAlloc_v2(CUdeviceptr *out, size_t size_bytes)
{
    FAKE_CALL("bytes=%zu", size_bytes);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    return device_allocate(context, out, size_bytes);
}

FAKE_API CUresult cuMemFree_v2(CUdeviceptr address)
{
    FAKE_CALL("address=%llx", address);
    FAKE_UNSAFE();
    pthread_mutex_lock(&fake_lock);
    struct range *range = range_find(address, 1);
    const bool is_known = range && range->address == address && range->kind == RANGE_DEVICE;
    if (is_known) {
        fake_quiesce(range->context);
        fake_range_free(address);
    }
    pthread_mutex_unlock(&fake_lock);
    return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuMemHostAlloc(void **out, size_t size_bytes, unsigned flags)
{
    FAKE_CALL("bytes=%zu flags=%u", size_bytes, flags);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    void *memory = NULL;
    if (posix_memalign(&memory, 4096, size_bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(memory, 0xcd, size_bytes);
    pthread_mutex_lock(&fake_lock);
    const bool is_done =
        range_add(RANGE_PINNED, (CUdeviceptr)(uintptr_t)memory, size_bytes, context);
    pthread_mutex_unlock(&fake_lock);
    if (!is_done)
        free(memory);
    *out = is_done ? memory : NULL;
    return is_done ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult host_forget(void *address, enum range_kind kind, CUresult otherwise)
{
    const CUdeviceptr start = (CUdeviceptr)(uintptr_t)address;
    pthread_mutex_lock(&fake_lock);
    struct range *range = range_find(start, 1);
    if (range)
        fake_quiesce(range->context);
    range = range_take(start, kind);
    pthread_mutex_unlock(&fake_lock);
    free(range);
    return range ? CUDA_SUCCESS : otherwise;
}

FAKE_API CUresult cuMemFreeHost(void *address)
{
    FAKE_CALL("address=%p", address);
    FAKE_UNSAFE();
    CUresult result = host_forget(address, RANGE_PINNED, CUDA_ERROR_INVALID_VALUE);
    if (!result)
        free(address);
    return result;
}

FAKE_API CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr *out, void *address, unsigned flags)
{
    FAKE_CALL("address=%p flags=%u", address, flags);
    pthread_mutex_lock(&fake_lock);
    const bool is_known = range_find((CUdeviceptr)(uintptr_t)address, 1);
    pthread_mutex_unlock(&fake_lock);
    *out = is_known ? (CUdeviceptr)(uintptr_t)address : 0;
    return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

FAKE_API CUresult cuMemHostRegister_v2(void *address, size_t size_bytes, unsigned flags)
{
    FAKE_CALL("address=%p bytes=%zu flags=%u", address, size_bytes, flags);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    const CUdeviceptr start = (CUdeviceptr)(uintptr_t)address;
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&fake_lock);
    const struct range *other = range_overlapping(start, size_bytes);
    if (other) /* what the real one answers */
        result = other->kind == RANGE_PINNED ? CUDA_ERROR_INVALID_VALUE
                                             : CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    else if (!range_add(RANGE_REGISTERED, start, size_bytes, context))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuMemHostUnregister(void *address)
{
    FAKE_CALL("address=%p", address);
    FAKE_UNSAFE();
    return host_forget(address, RANGE_REGISTERED, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

FAKE_API CUresult cuPointerGetAttribute(void *data, int attribute, CUdeviceptr address)
{
    FAKE_CALL("attribute=%d address=%llx", attribute, address);
    pthread_mutex_lock(&fake_lock);
    const struct range *range = range_find(address, 1);
    const int type =
        range && range->kind == RANGE_DEVICE ? CU_MEMORYTYPE_DEVICE : CU_MEMORYTYPE_HOST;
    pthread_mutex_unlock(&fake_lock);
    if (!range || attribute != CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(data, &type, sizeof type);
    return CUDA_SUCCESS;
}

/* ---- pools ---- */

FAKE_API CUresult cuMemPoolCreate(CUmemoryPool *out, const CUmemPoolProps *wanted)
{
    FAKE_CALL("device=%d", wanted->location.id);
    CUmemoryPool pool = calloc(1, sizeof *pool);
    if (!pool)
        return CUDA_ERROR_OUT_OF_MEMORY;
    pool->device = wanted->location.id;
    pthread_mutex_lock(&fake_lock);
    fake_live_add(1);
    pthread_mutex_unlock(&fake_lock);
    *out = pool;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemPoolDestroy(CUmemoryPool pool)
{
    FAKE_CALL("pool=%p", (void *)pool);
    pthread_mutex_lock(&fake_lock);
    fake_live_add(-1);
    pthread_mutex_unlock(&fake_lock);
    free(pool);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemPoolSetAttribute(CUmemoryPool pool, int attribute, void *value)
{
    FAKE_CALL("pool=%p attribute=%d value=%p", (void *)pool, attribute, value);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *access, size_t count)
{
    FAKE_CALL("pool=%p device=%d count=%zu", (void *)pool, access->location.id, count);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuMemAllocFromPoolAsync(CUdeviceptr *out, size_t size_bytes, CUmemoryPool pool,
                                          CUstream handle)
{
    FAKE_CALL("bytes=%zu pool=%p stream=%p", size_bytes, (void *)pool, (void *)handle);
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    if (!result)
        result = fake_capture_forbid(stream);
    pthread_mutex_unlock(&fake_lock);
    CUcontext owner = fake_context(pool->device);
    if (result || !owner)
        return result ? result : context->error;
    return device_allocate(owner, out, size_bytes);
}

FAKE_API CUresult cuMemFreeAsync(CUdeviceptr address, CUstream handle)
{
    FAKE_CALL("address=%llx stream=%p", address, (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    struct range *range = range_find(address, 1);
    if (!result && (!range || range->address != address))
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result)
        result = fake_capture_forbid(stream);
    if (!result) {
        struct operation *operation = fake_operation(OPERATION_FREE, stream->context);
        operation->address = address;
        fake_submit(stream, operation);
    } else if (range && range->context->error) {
        fake_range_free(address); /* a broken context takes its memory with it */
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}
