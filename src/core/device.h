/* SPDX-License-Identifier: MIT */
/*
 * core/device.h - an open device, and the registry that finds it again.
 *
 * Streams, events, buffers, kernels and pools count as children from creation to destruction; a
 * device with children stays open. Default streams do not count: the device ends them itself.
 */
#ifndef MR__DEVICE_H
#define MR__DEVICE_H

#include "backend/backend.h"

#include <millrace/operation.h>

#include <pthread.h>
#include <stdatomic.h>

/* Function and context are read together: writers make `version` odd while they change them.
 * `wanted_count` is the observers there are, of the device and of threads. */
struct mr__observer {
    _Atomic uint32_t wanted_count;
    _Atomic(mr_operation_observer) function;
    _Atomic(void *) context;
    _Atomic uint32_t version;
};

struct mr_device {
    const struct mr_backend_ops *ops;
    struct mr_backend_device *backend_device;
    struct mr__observer observer;
    _Atomic uint64_t child_count;
    mr_device_properties properties; /* as at opening */

    /* Under the lock of device.c. */
    uint32_t index;
    uint32_t open_count;
    bool is_closing;
    struct mr_device *next;

    /* Under the lock of default_stream.c. */
    struct mr_stream *legacy;
    struct mr__thread_stream *thread_streams;
    uint32_t ending_count; /* default streams that ending threads are destroying */

    uint64_t relay_count; /* crossings from or to the device; under the lock of relay.c */
};

static inline void mr__device_add_child(mr_device *device)
{
    atomic_fetch_add_explicit(&device->child_count, 1, memory_order_relaxed);
}

/* Releases: the closing thread sees what the child's thread wrote. */
static inline void mr__device_remove_child(mr_device *device)
{
    atomic_fetch_sub_explicit(&device->child_count, 1, memory_order_release);
}

/* Opens device `index` of one backend: mr_device_open without the name. Unit tests bring backends
 * of their own through it. */
mr_status mr__device_open_backend(const struct mr_backend_ops *ops, uint32_t index,
                                  const mr_device_options *options, mr_device **out);

#endif
