/* SPDX-License-Identifier: MIT */
/*
 * CUDA memory: device, pinned and pageable; the stream-ordered pool; registered host memory.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

#include <unistd.h>

enum { PAGE_BYTES = 4096 };

static uint64_t address_of(const void *host)
{
    return (uint64_t)(uintptr_t)host;
}

/* Words for an allocation that failed: what was asked for, and what there was. Needs the context.
 */
static mr_status no_device_memory(struct cuda_device *device, CUresult result, size_t size_bytes)
{
    size_t free_now = 0, total = 0;
    if (result != CUDA_ERROR_OUT_OF_MEMORY || device->cu->cuMemGetInfo(&free_now, &total))
        return mr__cuda_error(device->cu, result, "allocating %zu bytes on %s", size_bytes,
                              device->properties.id);
    return mr__cuda_error(device->cu, result,
                          "allocating %zu bytes on %s, where %zu of %zu are free", size_bytes,
                          device->properties.id, free_now, total);
}

static mr_status no_pinned_memory(struct cuda_device *device, CUresult result, const char *verb,
                                  size_t size_bytes)
{
    const uint64_t free_now = (uint64_t)sysconf(_SC_AVPHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return mr__cuda_error(device->cu, result,
                          "%s %zu bytes of host memory for %s, where %llu are free", verb,
                          size_bytes, device->properties.id, (unsigned long long)free_now);
}

static mr_status device_create(struct cuda_device *device, size_t size_bytes, struct mr_memory *out)
{
    CUdeviceptr address = 0;
    CUresult result = device->cu->cuMemAlloc(&address, size_bytes);
    if (result)
        return no_device_memory(device, result, size_bytes);
    out->address = address;
    return MR_OK;
}

/* The address that kernels use, which with unified addressing is the host's own on most machines.
 */
static CUresult device_address(struct cuda_device *device, void *host, uint64_t *address)
{
    CUdeviceptr found = 0;
    CUresult result = device->cu->cuMemHostGetDevicePointer(&found, host, 0);
    *address = found;
    return result;
}

static mr_status pinned_create(struct cuda_device *device, size_t size_bytes, struct mr_memory *out)
{
    void *host = NULL;
    CUresult result = device->cu->cuMemHostAlloc(
        &host, size_bytes, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result)
        return no_pinned_memory(device, result, "pinning", size_bytes);
    result = device_address(device, host, &out->address);
    if (result) {
        (void)device->cu->cuMemFreeHost(host);
        return no_pinned_memory(device, result, "mapping", size_bytes);
    }
    out->host = host;
    return MR_OK;
}

static mr_status pageable_create(size_t size_bytes, struct mr_memory *out)
{
    out->host = mr__alloc_aligned(PAGE_BYTES, size_bytes);
    if (!out->host)
        return mr_error_set(MR_E_NO_MEMORY, "allocating %zu bytes of host memory: none left",
                            size_bytes);
    return MR_OK;
}

mr_status mr__cuda_memory_create(struct mr_backend_device *base, size_t size_bytes, mr_place place,
                                 struct mr_memory *out)
{
    struct cuda_device *device = cuda_device_from(base);
    *out = (struct mr_memory){ .size_bytes = size_bytes, .place = place, .device = base };
    if (place == MR_PLACE_PAGEABLE)
        return pageable_create(size_bytes, out);

    bool is_pushed;
    mr_status status = mr__cuda_error(device->cu, mr__cuda_enter(device, &is_pushed),
                                      "entering the context of %s", device->properties.id);
    if (!status)
        status = place == MR_PLACE_DEVICE ? device_create(device, size_bytes, out)
                                          : pinned_create(device, size_bytes, out);
    mr__cuda_leave(device, is_pushed);
    return status;
}

void mr__cuda_memory_destroy(struct mr_memory *memory)
{
    struct cuda_device *device = cuda_device_from(memory->device);
    if (memory->place == MR_PLACE_PAGEABLE) {
        mr__free(memory->host);
        return;
    }
    bool is_pushed;
    (void)mr__cuda_enter(device, &is_pushed);
    if (memory->place == MR_PLACE_DEVICE)
        (void)device->cu->cuMemFree(memory->address);
    else
        (void)device->cu->cuMemFreeHost(memory->host);
    mr__cuda_leave(device, is_pushed);
}

mr_status mr__cuda_memory_create_ordered(struct mr_queue *base, size_t size_bytes,
                                         struct mr_memory *out)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    *out = (struct mr_memory){ .size_bytes = size_bytes,
                               .place = MR_PLACE_DEVICE,
                               .device = &device->base };
    if (!device->pool)
        return mr_error_set(MR_E_UNSUPPORTED, "%s has no memory pools", device->properties.id);

    CUdeviceptr address = 0;
    bool is_pushed;
    mr_status status = MR_OK;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result =
            device->cu->cuMemAllocFromPoolAsync(&address, size_bytes, device->pool, queue->stream);
    if (result)
        status = no_device_memory(device, result, size_bytes);
    else
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(device, is_pushed);
    out->address = address;
    return status;
}

void mr__cuda_memory_destroy_ordered(struct mr_queue *base, struct mr_memory *memory)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    bool is_pushed;
    (void)mr__cuda_enter(queue->device, &is_pushed);
    if (!queue->device->cu->cuMemFreeAsync(memory->address, queue->stream))
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(queue->device, is_pushed);
}

/* True when the driver knows this byte as pinned host memory. */
static bool is_pinned(struct cuda_device *device, const void *byte)
{
    int type = 0;
    return !device->cu->cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                              address_of(byte)) &&
           type == CU_MEMORYTYPE_HOST;
}

/* Registers; `*is_ours` says whether it must be unregistered. Memory that is pinned already, by us or
 * by other code, is taken as it is: the driver answers "already registered" for registered memory and
 * "invalid value" for memory that it allocated itself. */
static CUresult host_register(struct cuda_device *device, void *address, size_t size_bytes,
                              bool *is_ours)
{
    const unsigned flags = CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP;
    CUresult result = device->cu->cuMemHostRegister(address, size_bytes, flags);
    *is_ours = !result;
    if (!result || result == CUDA_ERROR_OUT_OF_MEMORY)
        return result;
    const char *last = (const char *)address + size_bytes - 1;
    if (is_pinned(device, address) && is_pinned(device, last))
        return CUDA_SUCCESS;

    /* A file mapped for reading only must be said to be so. */
    if (result != CUDA_ERROR_INVALID_VALUE || !device->can_register_read_only ||
        device->cu->cuMemHostRegister(address, size_bytes, flags | CU_MEMHOSTREGISTER_READ_ONLY))
        return result;
    *is_ours = true;
    return CUDA_SUCCESS;
}

mr_status mr__cuda_memory_register(struct mr_backend_device *base, void *address, size_t size_bytes,
                                   struct mr_memory *out)
{
    struct cuda_device *device = cuda_device_from(base);
    *out = (struct mr_memory){
        .host = address, .size_bytes = size_bytes, .place = MR_PLACE_PINNED, .device = base
    };
    bool is_pushed, is_ours = false;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = host_register(device, address, size_bytes, &is_ours);
    if (!result)
        result = device_address(device, address, &out->address);
    if (result && is_ours)
        (void)device->cu->cuMemHostUnregister(address);
    mr__cuda_leave(device, is_pushed);
    out->handle = is_ours ? address : NULL;
    return result ? no_pinned_memory(device, result, "registering", size_bytes) : MR_OK;
}

void mr__cuda_memory_unregister(struct mr_memory *memory)
{
    if (!memory->handle)
        return; /* it was pinned before us, and stays so */
    struct cuda_device *device = cuda_device_from(memory->device);
    bool is_pushed;
    (void)mr__cuda_enter(device, &is_pushed);
    (void)device->cu->cuMemHostUnregister(memory->handle);
    mr__cuda_leave(device, is_pushed);
}
