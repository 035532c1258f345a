/* SPDX-License-Identifier: MIT */
/*
 * Data memory. Large blocks are mapped in huge pages where there are any; small ones come from the
 * heap.
 */
#include "backend/cpu/cpu_memory.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_machine.h"
#include "base/alloc.h"

enum { DATA_ALIGNMENT = 4096 };

/* Smaller than this comes from the heap. The address sanitizer watches the heap alone: there, all. */
#if defined(__SANITIZE_ADDRESS__)
#define MAPPED_BYTES SIZE_MAX
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAPPED_BYTES SIZE_MAX
#endif
#endif
#ifndef MAPPED_BYTES
#define MAPPED_BYTES ((size_t)256 << 10)
#endif

void *mr__cpu_data_alloc(size_t size_bytes)
{
    if (size_bytes < MAPPED_BYTES && size_bytes < (size_t)1 << 20)
        return mr__alloc_aligned(DATA_ALIGNMENT, size_bytes);

    /* The system may promise more than there is, and kill who uses it. */
    uint64_t free_bytes, total_bytes;
    mr__cpu_machine_memory(&free_bytes, &total_bytes);
    if (total_bytes && size_bytes > total_bytes)
        return NULL;
    return size_bytes < MAPPED_BYTES ? mr__alloc_aligned(DATA_ALIGNMENT, size_bytes)
                                     : mr__map_pages(size_bytes);
}

void mr__cpu_data_free(void *address, size_t size_bytes)
{
    if (size_bytes < MAPPED_BYTES)
        mr__free(address);
    else
        mr__unmap_pages(address, size_bytes);
}

static const char *place_name(mr_place place)
{
    switch (place) {
    case MR_PLACE_DEVICE:
        return "device";
    case MR_PLACE_PINNED:
        return "pinned";
    case MR_PLACE_PAGEABLE:
        return "pageable";
    }
    return "data";
}

mr_status mr__cpu_data_refuse(size_t size_bytes, mr_place place)
{
    uint64_t free_bytes, total_bytes;
    mr__cpu_machine_memory(&free_bytes, &total_bytes);
    return mr_error_set(MR_E_NO_MEMORY,
                        "cpu: asked for %zu bytes of %s memory; %llu bytes are free of the %llu "
                        "that this process may use",
                        size_bytes, place_name(place), (unsigned long long)free_bytes,
                        (unsigned long long)total_bytes);
}

static void describe(struct mr_memory *out, struct mr_backend_device *device, void *address,
                     size_t size_bytes, mr_place place)
{
    *out = (struct mr_memory){ .host = address,
                               .address = (uint64_t)(uintptr_t)address,
                               .size_bytes = size_bytes,
                               .place = place,
                               .device = device };
}

mr_status mr__cpu_memory_create(struct mr_backend_device *device, size_t size_bytes, mr_place place,
                                struct mr_memory *out)
{
    *out = (struct mr_memory){ 0 };
    void *address = mr__cpu_data_alloc(size_bytes);
    if (!address) {
        mr__cpu_pool_trim(&cpu_device_from(device)->pool, 0);
        address = mr__cpu_data_alloc(size_bytes);
    }
    if (!address)
        return mr__cpu_data_refuse(size_bytes, place);
    describe(out, device, address, size_bytes, place);
    return MR_OK;
}

void mr__cpu_memory_destroy(struct mr_memory *memory)
{
    mr__cpu_data_free(memory->host, memory->size_bytes);
    *memory = (struct mr_memory){ 0 };
}

mr_status mr__cpu_memory_register(struct mr_backend_device *device, void *address,
                                  size_t size_bytes, struct mr_memory *out)
{
    describe(out, device, address, size_bytes, MR_PLACE_PINNED);
    return MR_OK;
}

void mr__cpu_memory_unregister(struct mr_memory *memory)
{
    *memory = (struct mr_memory){ 0 };
}
