/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_device.h - the device: its workers, its queues and its memory pool.
 */
#ifndef MR__CPU_DEVICE_H
#define MR__CPU_DEVICE_H

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_pool.h"
#include "backend/cpu/cpu_scheduler.h"

struct cpu_device {
    struct mr_backend_device base;
    struct cpu_scheduler scheduler;
    struct cpu_pool pool;

    pthread_mutex_t queues_lock;
    struct cpu_queue *queues, *last_queue; /* by id */
    struct cpu_queue *blocking;
    uint64_t queue_count; /* ever made */

    /* Made once, kept until the device closes. */
    pthread_mutex_t legacy_lock; /* while it is being made */
    _Atomic(struct cpu_queue *) legacy;

    /* Points that anyone gave back; a queue that needs one takes all. */
    _Alignas(CPU_LINE_BYTES) _Atomic(struct cpu_point *) free_points;
};

static inline struct cpu_device *cpu_device_from(struct mr_backend_device *device)
{
    return (struct cpu_device *)device;
}

mr_status mr__cpu_device_open(struct mr_backend *backend, uint32_t index,
                              const mr_device_options *options, struct mr_backend_device **out);
void mr__cpu_device_close(struct mr_backend_device *device);
void mr__cpu_device_describe(struct mr_backend_device *device, mr_device_properties *properties);
mr_status mr__cpu_device_memory(struct mr_backend_device *device, uint64_t *free_bytes,
                                uint64_t *total_bytes);
uint64_t mr__cpu_device_now_ns(struct mr_backend_device *device);
mr_status mr__cpu_device_synchronize(struct mr_backend_device *device);
void *mr__cpu_device_native(struct mr_backend_device *device);
bool mr__cpu_device_peer_possible(struct mr_backend_device *device, struct mr_backend_device *peer);

#endif
