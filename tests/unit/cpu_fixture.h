/* SPDX-License-Identifier: MIT */
/*
 * unit/cpu_fixture.h - the CPU backend through its table, for the tests of its parts.
 */
#ifndef TEST_CPU_FIXTURE_H
#define TEST_CPU_FIXTURE_H

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"
#include "support/check.h"

/* cmocka wants these first. */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const struct mr_backend_ops *const ops = &mr__cpu_backend;

static inline struct mr_backend_device *open_device(uint32_t worker_count)
{
    struct mr_backend *backend;
    struct mr_backend_device *device;
    CHECK_OK(ops->open(&backend));
    CHECK_OK(ops->device_open(backend, 0, &(mr_device_options){ .worker_count = worker_count },
                              &device));
    return device;
}

static inline struct mr_queue *open_queue(struct mr_backend_device *device, mr_stream_kind kind)
{
    struct mr_queue *queue;
    CHECK_OK(ops->queue_create(device, kind, 0, &queue));
    return queue;
}

/* As core does it: waits, then destroys. */
static inline void end_queue(struct mr_queue *queue)
{
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));
    ops->queue_destroy(queue);
}

/* Keeps a worker until the test lets it go. */
struct brake {
    _Atomic bool is_held, is_let_go;
};

static inline void brake_hold(void *context)
{
    struct brake *brake = context;
    atomic_store(&brake->is_held, true);
    while (!atomic_load(&brake->is_let_go))
        sched_yield();
}

static inline void brake_put_on(struct mr_queue *queue, struct brake *brake)
{
    CHECK_OK(ops->call(queue, brake_hold, brake));
    while (!atomic_load(&brake->is_held))
        sched_yield();
}

static inline void brake_let_go(struct brake *brake)
{
    atomic_store(&brake->is_let_go, true);
}

#endif
