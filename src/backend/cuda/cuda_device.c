/* SPDX-License-Identifier: MIT */
/*
 * CUDA devices: the primary context adopted, properties read once. Peers meet in cuda_peer.c.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>
#include <string.h>

enum { PREPARED_STREAMS = 96 };

static int numa_node_of(const mr_device_properties *properties)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/bus/pci/devices/%04x:%02x:%02x.0/numa_node",
             properties->pci_domain, properties->pci_bus, properties->pci_device);
    FILE *file = fopen(path, "re");
    if (!file)
        return -1;
    int node = -1;
    if (fscanf(file, "%d", &node) != 1)
        node = -1;
    fclose(file);
    return node;
}

/* Reads the attributes; the names are in the struct and in cuda_driver.h. */
static CUresult attributes_read(struct cuda_device *device)
{
    mr_device_properties *properties = &device->properties;
    int is_integrated = 0, has_concurrent = 0, has_ecc = 0, has_pools = 0;
    int can_register = 0, pitch_limit = 0;
    const struct {
        int attribute;
        void *field;
    } wanted[] = {
        { CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, &properties->copy_engine_count },
        { CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &properties->multiprocessor_count },
        { CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK, &properties->threads_per_block_limit },
        { CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK, &properties->shared_bytes_per_block },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &properties->compute_major },
        { CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &properties->compute_minor },
        { CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, &properties->pci_domain },
        { CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, &properties->pci_bus },
        { CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, &properties->pci_device },
        { CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS, &has_concurrent },
        { CU_DEVICE_ATTRIBUTE_INTEGRATED, &is_integrated },
        { CU_DEVICE_ATTRIBUTE_ECC_ENABLED, &has_ecc },
        { CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED, &has_pools },
        { CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, &can_register },
        { CU_DEVICE_ATTRIBUTE_MAX_PITCH, &pitch_limit },
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        int value = 0;
        CUresult result =
            device->cu->cuDeviceGetAttribute(&value, wanted[i].attribute, device->ordinal);
        if (result)
            return result;
        memcpy(wanted[i].field, &value, sizeof value);
    }

    properties->has_concurrent_kernels = has_concurrent;
    properties->is_integrated = is_integrated;
    properties->has_error_correction = has_ecc;
    properties->has_ordered_pools = has_pools;
    properties->can_overlap_copy_and_kernel = properties->copy_engine_count >= 1;
    properties->can_overlap_both_copies = properties->copy_engine_count >= 2;
    device->can_register_read_only = can_register;
    device->pitch_limit = (size_t)pitch_limit;
    return CUDA_SUCCESS;
}

/* Needs the context to be current. */
static CUresult properties_read(struct cuda_device *device)
{
    const struct cuda_symbols *cu = device->cu;
    mr_device_properties *properties = &device->properties;
    snprintf(properties->id, sizeof properties->id, "cuda:%u", device->index);
    properties->driver_version = (uint32_t)device->backend->driver_version;

    CUresult result = cu->cuDeviceGetName(properties->name, MR_NAME_BYTES, device->ordinal);
    size_t memory_bytes = 0;
    if (!result)
        result = cu->cuDeviceTotalMem(&memory_bytes, device->ordinal);
    properties->memory_bytes = memory_bytes;
    if (!result)
        result = cu->cuCtxGetStreamPriorityRange(&properties->priority_lowest,
                                                 &properties->priority_highest);
    if (!result)
        result = attributes_read(device);
    if (!result)
        properties->numa_node = numa_node_of(properties);
    return result;
}

/* A pool of our own: the default one is shared with other code of the process, and its threshold
 * gives memory back at every synchronisation. */
static CUresult pool_create(struct cuda_device *device)
{
    const CUmemPoolProps wanted = {
        .allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
        .location = { .type = CU_MEM_LOCATION_TYPE_DEVICE, .id = device->ordinal },
    };
    CUresult result = device->cu->cuMemPoolCreate(&device->pool, &wanted);
    if (result) {
        device->pool = NULL;
        return result;
    }
    uint64_t keep_all = UINT64_MAX;
    return device->cu->cuMemPoolSetAttribute(device->pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
                                             &keep_all);
}

/* Creating streams past a few dozen makes the driver wait for the whole device once, and then it keeps
 * what it made. Better now than while a stream waits for the host. Costs some 20 us a stream; when it
 * fails, nothing is lost but the favour. */
static void streams_prepare(struct cuda_device *device)
{
    CUstream streams[PREPARED_STREAMS];
    int count = 0;
    while (count < PREPARED_STREAMS &&
           !device->cu->cuStreamCreateWithPriority(&streams[count], CU_STREAM_NON_BLOCKING, 0))
        count++;
    while (count--)
        (void)device->cu->cuStreamDestroy(streams[count]);
}

static void device_publish(struct cuda_device *device)
{
    struct cuda_backend *backend = device->backend;
    pthread_mutex_lock(&backend->lock);
    for (uint32_t i = 0; i < backend->device_count; i++) {
        struct cuda_device *peer = backend->devices[i];
        if (!peer || peer == device)
            continue;
        mr__cuda_peers_meet(device, peer);
        mr__cuda_peers_meet(peer, device);
    }
    backend->devices[device->index] = device;
    pthread_mutex_unlock(&backend->lock);
}

static void device_withdraw(struct cuda_device *device)
{
    struct cuda_backend *backend = device->backend;
    pthread_mutex_lock(&backend->lock);
    if (backend->devices[device->index] == device)
        backend->devices[device->index] = NULL;
    pthread_mutex_unlock(&backend->lock);
}

void mr__cuda_device_close(struct mr_backend_device *base)
{
    if (!base)
        return;
    struct cuda_device *device = cuda_device_from(base);
    device_withdraw(device);
    if (device->context) {
        bool is_pushed;
        (void)mr__cuda_enter(device, &is_pushed);
        mr__cuda_calls_destroy(device);
        mr__cuda_bounces_destroy(device);
        mr__cuda_gates_destroy(device);
        mr__cuda_points_destroy(device);
        if (device->pool)
            (void)device->cu->cuMemPoolDestroy(device->pool);
        mr__cuda_leave(device, is_pushed);
        (void)device->cu->cuDevicePrimaryCtxRelease(device->ordinal);
    }
    pthread_mutex_destroy(&device->gate_lock);
    pthread_mutex_destroy(&device->bounce_lock);
    pthread_cond_destroy(&device->call_ended);
    pthread_mutex_destroy(&device->call_lock);
    mr__free(device);
}

static CUresult device_start(struct cuda_device *device)
{
    const struct cuda_symbols *cu = device->cu;
    CUresult result = cu->cuDeviceGet(&device->ordinal, (int)device->index);
    if (result)
        return result;
    result = cu->cuDevicePrimaryCtxRetain(&device->context, device->ordinal);
    if (result) {
        device->context = NULL;
        return result;
    }

    bool is_pushed;
    result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = properties_read(device);
    if (!result && device->properties.has_ordered_pools)
        result = pool_create(device);
    if (!result)
        streams_prepare(device);
    mr__cuda_leave(device, is_pushed);
    return result;
}

mr_status mr__cuda_device_open(struct mr_backend *backend, uint32_t index,
                               const mr_device_options *options, struct mr_backend_device **out)
{
    (void)options;
    *out = NULL;
    struct cuda_device *device = mr__zalloc(sizeof *device);
    if (!device)
        return mr__cuda_no_heap("opening a CUDA device");
    device->base.ops = &mr__cuda_backend;
    device->base.backend = backend;
    device->backend = cuda_backend_from(backend);
    device->cu = &device->backend->cu;
    device->index = index;
    pthread_mutex_init(&device->gate_lock, NULL);
    pthread_mutex_init(&device->bounce_lock, NULL);
    pthread_mutex_init(&device->call_lock, NULL);
    pthread_cond_init(&device->call_ended, NULL);

    mr_status status = mr__cuda_error(device->cu, device_start(device), "opening cuda:%u", index);
    if (!status)
        status = mr__cuda_gates_prepare(device); /* pinning later could wait for the device */
    if (status) {
        mr__cuda_device_close(&device->base);
        return status;
    }
    device_publish(device);
    *out = &device->base;
    return MR_OK;
}

void mr__cuda_device_describe(struct mr_backend_device *base, mr_device_properties *properties)
{
    *properties = cuda_device_from(base)->properties;
}

mr_status mr__cuda_device_memory(struct mr_backend_device *base, uint64_t *free_bytes,
                                 uint64_t *total_bytes)
{
    struct cuda_device *device = cuda_device_from(base);
    size_t free_now = 0, total = 0;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuMemGetInfo(&free_now, &total);
    mr__cuda_leave(device, is_pushed);
    *free_bytes = free_now;
    *total_bytes = total;
    return mr__cuda_error(device->cu, result, "asking %s for its free memory",
                          device->properties.id);
}

uint64_t mr__cuda_device_now_ns(struct mr_backend_device *device)
{
    (void)device;
    return mr__clock_now_ns();
}

mr_status mr__cuda_device_synchronize(struct mr_backend_device *base)
{
    struct cuda_device *device = cuda_device_from(base);
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuCtxSynchronize();
    mr__cuda_leave(device, is_pushed);
    return mr__cuda_error(device->cu, result, "waiting for %s", device->properties.id);
}

void *mr__cuda_device_native(struct mr_backend_device *device)
{
    return cuda_device_from(device)->context;
}
