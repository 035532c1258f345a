/* SPDX-License-Identifier: MIT */
/*
 * unit/cuda_fixture.h - the CUDA backend over the stand-in driver, without core in between.
 */
#ifndef TEST_CUDA_FIXTURE_H
#define TEST_CUDA_FIXTURE_H

#include "support/fakecuda/fakecuda.h"
#include "support/unit.h"

#include "backend/backend.h"

#include <stdlib.h>
#include <time.h>

static const struct mr_backend_ops *const ops = &mr__cuda_backend;

/* What a test stands on; `device` is index 0. */
struct rig {
    struct mr_backend *backend;
    struct mr_backend_device *device, *peer;
};

static inline mr_status rig_open(struct rig *rig)
{
    *rig = (struct rig){ 0 };
    mr_status status = ops->open(&rig->backend);
    if (!status)
        status = ops->device_open(rig->backend, 0, NULL, &rig->device);
    if (!status && ops->device_count(rig->backend) > 1)
        status = ops->device_open(rig->backend, 1, NULL, &rig->peer);
    return status;
}

static inline void rig_close(struct rig *rig)
{
    if (rig->peer)
        ops->device_close(rig->peer);
    if (rig->device)
        ops->device_close(rig->device);
    if (rig->backend)
        ops->close(rig->backend);
    *rig = (struct rig){ 0 };
}

static inline struct mr_queue *make_queue(struct mr_backend_device *device)
{
    struct mr_queue *queue;
    assert_ok(ops->queue_create(device, MR_STREAM_NON_BLOCKING, 0, &queue));
    return queue;
}

/* Waits as core does before it destroys. */
static inline void end_queue(struct mr_queue *queue)
{
    (void)ops->queue_wait(queue, MR_FOREVER);
    ops->queue_destroy(queue);
}

static inline struct mr_memory make_memory(struct mr_backend_device *device, size_t size_bytes,
                                           mr_place place)
{
    struct mr_memory memory;
    assert_ok(ops->memory_create(device, size_bytes, place, &memory));
    return memory;
}

static inline mr_status copy_flat(struct mr_queue *queue, const struct mr_memory *target,
                                  size_t target_offset, const struct mr_memory *source,
                                  size_t source_offset, size_t size_bytes)
{
    const struct mr_transfer transfer = { .target = target,
                                          .source = source,
                                          .target_offset = target_offset,
                                          .source_offset = source_offset,
                                          .target_pitch = size_bytes,
                                          .source_pitch = size_bytes,
                                          .row_bytes = size_bytes,
                                          .row_count = 1 };
    return ops->copy(queue, &transfer);
}

static inline struct mr_gate *shut(struct mr_queue *queue)
{
    struct mr_gate *gate;
    assert_ok(ops->gate_create(queue->device, &gate));
    assert_ok(ops->queue_wait_gate(queue, gate));
    return gate;
}

/* Opens the gate and gives it back once the queue is through. */
static inline void open_gate(struct mr_queue *queue, struct mr_gate *gate)
{
    ops->gate_open(gate);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    ops->gate_destroy(gate);
}

#endif
