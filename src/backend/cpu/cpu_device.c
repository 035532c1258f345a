/* SPDX-License-Identifier: MIT */
/*
 * The CPU as a device: opening and closing, what it says of itself, and waiting for all of it.
 */
#include "backend/cpu/cpu_device.h"

#include "backend/cpu/cpu_machine.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>

enum { THREADS_PER_BLOCK_LIMIT = 1024 }; /* any block will do: it does not shape the work here */

mr_status mr__cpu_device_open(struct mr_backend *backend, uint32_t index,
                              const mr_device_options *options, struct mr_backend_device **out)
{
    (void)index; /* there is one */
    *out = NULL;
    struct cpu_device *device = mr__zalloc_aligned(CPU_LINE_BYTES, sizeof *device);
    if (!device)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the device");

    device->base = (struct mr_backend_device){ .ops = &mr__cpu_backend, .backend = backend };
    pthread_mutex_init(&device->queues_lock, NULL);
    pthread_mutex_init(&device->legacy_lock, NULL);
    mr__cpu_pool_init(&device->pool);

    const uint32_t asked = options ? options->worker_count : 0;
    const uint32_t worker_count = asked ? asked : mr__cpu_machine_processors();
    const mr_status status = mr__cpu_scheduler_init(&device->scheduler, worker_count);
    if (status) {
        mr__cpu_device_close(&device->base);
        return status;
    }
    *out = &device->base;
    return MR_OK;
}

void mr__cpu_device_close(struct mr_backend_device *base)
{
    if (!base)
        return;
    struct cpu_device *device = cpu_device_from(base);

    mr__cpu_scheduler_fini(&device->scheduler);
    mr__cpu_default_close_all(device);
    mr__cpu_pool_fini(&device->pool);
    mr__cpu_point_free_all(device);
    pthread_mutex_destroy(&device->legacy_lock);
    pthread_mutex_destroy(&device->queues_lock);
    mr__free(device);
}

void mr__cpu_device_describe(struct mr_backend_device *base, mr_device_properties *properties)
{
    const struct cpu_device *device = cpu_device_from(base);
    const uint32_t worker_count = device->scheduler.worker_count;
    uint64_t free_bytes, total_bytes;
    mr__cpu_machine_memory(&free_bytes, &total_bytes);

    *properties = (mr_device_properties){
        .memory_bytes = total_bytes,
        .multiprocessor_count = worker_count,
        .threads_per_block_limit = THREADS_PER_BLOCK_LIMIT,
        .priority_lowest = 0,
        .priority_highest = 1 - CPU_LEVEL_COUNT,
        .has_concurrent_kernels = worker_count > 1,
        .can_overlap_copy_and_kernel = worker_count > 1,
        .can_overlap_both_copies = worker_count > 1,
        .has_ordered_pools = true,
        .is_host_memory = true,
        .is_integrated = true,
        .numa_node = -1,
    };
    snprintf(properties->id, sizeof properties->id, "cpu");
    mr__cpu_machine_name(properties->name, sizeof properties->name);
}

mr_status mr__cpu_device_memory(struct mr_backend_device *device, uint64_t *free_bytes,
                                uint64_t *total_bytes)
{
    (void)device;
    mr__cpu_machine_memory(free_bytes, total_bytes);
    return MR_OK;
}

uint64_t mr__cpu_device_now_ns(struct mr_backend_device *device)
{
    (void)device;
    return mr__clock_now_ns();
}

/* The first queue after `id`, by what is held of it while its work is waited for; NULL after the last.
 */
static struct cpu_timeline *next_busy(struct cpu_device *device, uint64_t *id, uint64_t *target)
{
    struct cpu_timeline *timeline = NULL;

    pthread_mutex_lock(&device->queues_lock);
    for (struct cpu_queue *queue = device->queues; queue && !timeline; queue = queue->all.next) {
        *target = atomic_load_explicit(&queue->submitted, memory_order_acquire);
        if (queue->id <= *id || mr__cpu_timeline_has_reached(queue->timeline, *target))
            continue;
        *id = queue->id;
        timeline = mr__cpu_timeline_retain(queue->timeline);
    }
    pthread_mutex_unlock(&device->queues_lock);
    return timeline;
}

mr_status mr__cpu_device_synchronize(struct mr_backend_device *base)
{
    struct cpu_device *device = cpu_device_from(base);
    struct cpu_timeline *timeline;
    uint64_t id = 0, target;

    while ((timeline = next_busy(device, &id, &target))) {
        const mr_status status = mr__cpu_timeline_wait(timeline, target, MR_FOREVER);
        mr__cpu_timeline_release(timeline);
        if (status)
            return status;
    }
    return MR_OK;
}

void *mr__cpu_device_native(struct mr_backend_device *device)
{
    (void)device;
    return NULL;
}

bool mr__cpu_device_peer_possible(struct mr_backend_device *device, struct mr_backend_device *peer)
{
    return device->ops == peer->ops;
}
