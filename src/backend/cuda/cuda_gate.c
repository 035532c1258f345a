/* SPDX-License-Identifier: MIT */
/*
 * Gates are words in pinned host memory, one page of them at a time. A stream waits for its word by
 * itself (stream memory operations), or in a host function where a device cannot.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

#include <linux/futex.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLAB_GATES = 1024, SLAB_BYTES = SLAB_GATES * sizeof(uint32_t) };
enum { GATE_SHUT = 0, GATE_OPEN = 1 };

struct cuda_gate {
    struct mr_gate base;
    struct cuda_device *device;
    _Atomic uint32_t *word; /* GATE_OPEN is stored by the host, acquired by the stream */
    CUdeviceptr address;    /* of the word, for the device */
    struct cuda_gate *next; /* in the free list */
};

struct cuda_gate_slab {
    void *page;
    struct cuda_gate_slab *next;
    struct cuda_gate gates[SLAB_GATES];
};

static struct cuda_gate *cuda_gate_from(struct mr_gate *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_gate *)base;
}

/* Adds a page of gates to the free list. With gate_lock held and the context current. */
static CUresult slab_add(struct cuda_device *device)
{
    struct cuda_gate_slab *slab = mr__zalloc(sizeof *slab);
    if (!slab)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUdeviceptr address = 0;
    CUresult result = device->cu->cuMemHostAlloc(
        &slab->page, SLAB_BYTES, CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP);
    if (result) {
        mr__free(slab);
        return result;
    }
    result = device->cu->cuMemHostGetDevicePointer(&address, slab->page, 0);
    if (result) {
        (void)device->cu->cuMemFreeHost(slab->page);
        mr__free(slab);
        return result;
    }

    memset(slab->page, 0, SLAB_BYTES);
    for (uint32_t i = 0; i < SLAB_GATES; i++) {
        slab->gates[i] = (struct cuda_gate){
            .base.ops = &mr__cuda_backend,
            .device = device,
            .word = (_Atomic uint32_t *)slab->page + i,
            .address = address + i * sizeof(uint32_t),
            .next = i + 1 < SLAB_GATES ? &slab->gates[i + 1] : device->gates,
        };
    }
    device->gates = slab->gates;
    slab->next = device->gate_slabs;
    device->gate_slabs = slab;
    return CUDA_SUCCESS;
}

/* Tries it on a word that is as it should be. There is no attribute for 32-bit words; drivers since 12.0
 * can, except where the system takes its own part in scheduling (Windows, and Linux inside it). */
static bool can_wait_values(struct cuda_device *device)
{
    const struct cuda_symbols *cu = device->cu;
    CUstream stream;
    if (!cu->cuStreamWaitValue32 ||
        cu->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0))
        return false;
    CUresult result = cu->cuStreamWaitValue32(stream, device->gates->address, GATE_SHUT,
                                              CU_STREAM_WAIT_VALUE_GEQ);
    (void)cu->cuStreamDestroy(stream);
    return !result;
}

mr_status mr__cuda_gates_prepare(struct cuda_device *device)
{
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result) {
        pthread_mutex_lock(&device->gate_lock);
        const bool is_first = !device->gate_slabs;
        if (!device->gates)
            result = slab_add(device);
        if (!result && is_first)
            device->can_wait_values = can_wait_values(device);
        pthread_mutex_unlock(&device->gate_lock);
    }
    mr__cuda_leave(device, is_pushed);
    return mr__cuda_error(device->cu, result, "making gates for %s", device->properties.id);
}

void mr__cuda_gates_destroy(struct cuda_device *device)
{
    while (device->gate_slabs) {
        struct cuda_gate_slab *slab = device->gate_slabs;
        device->gate_slabs = slab->next;
        (void)device->cu->cuMemFreeHost(slab->page);
        mr__free(slab);
    }
    device->gates = NULL;
}

static struct cuda_gate *gate_take(struct cuda_device *device)
{
    pthread_mutex_lock(&device->gate_lock);
    struct cuda_gate *gate = device->gates;
    if (gate)
        device->gates = gate->next;
    pthread_mutex_unlock(&device->gate_lock);
    return gate;
}

mr_status mr__cuda_gate_create(struct mr_backend_device *base, struct mr_gate **out)
{
    *out = NULL;
    struct cuda_device *device = cuda_device_from(base);
    struct cuda_gate *gate;
    while (!(gate = gate_take(device))) {
        mr_status status = mr__cuda_gates_prepare(device);
        if (status)
            return status;
    }
    atomic_store_explicit(gate->word, GATE_SHUT, memory_order_relaxed);
    *out = &gate->base;
    return MR_OK;
}

void mr__cuda_gate_open(struct mr_gate *base)
{
    struct cuda_gate *gate = cuda_gate_from(base);
    const bool has_sleeper = !gate->device->can_wait_values;
    _Atomic uint32_t *word = gate->word;
    /* From here on the gate may be destroyed and used again: a stray wake is harmless. */
    atomic_store_explicit(word, GATE_OPEN, memory_order_release);
    if (has_sleeper)
        syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void mr__cuda_gate_destroy(struct mr_gate *base)
{
    if (!base)
        return;
    struct cuda_gate *gate = cuda_gate_from(base);
    pthread_mutex_lock(&gate->device->gate_lock);
    gate->next = gate->device->gates;
    gate->device->gates = gate;
    pthread_mutex_unlock(&gate->device->gate_lock);
}

/* Runs on the driver's thread, whose other host functions wait meanwhile: only for devices that
 * have nothing better. */
static void gate_block(void *context)
{
    struct cuda_gate *gate = context;
    while (atomic_load_explicit(gate->word, memory_order_acquire) == GATE_SHUT)
        syscall(SYS_futex, gate->word, FUTEX_WAIT_PRIVATE, GATE_SHUT, NULL, NULL, 0);
}

mr_status mr__cuda_queue_wait_gate(struct mr_queue *base, struct mr_gate *gate_base)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_gate *gate = cuda_gate_from(gate_base);
    struct cuda_device *device = queue->device;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result && device->can_wait_values)
        result = device->cu->cuStreamWaitValue32(queue->stream, gate->address, GATE_OPEN,
                                                 CU_STREAM_WAIT_VALUE_GEQ);
    else if (!result)
        result = device->cu->cuLaunchHostFunc(queue->stream, gate_block, gate);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(device, is_pushed);
    return mr__cuda_error(device->cu, result, "making a stream of %s wait for the host",
                          device->properties.id);
}
