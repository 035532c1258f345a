/* SPDX-License-Identifier: MIT */
/*
 * Streams: checks, lifetime, host functions, and the first failure that stays.
 *
 * The default and current streams are in default_stream.c, the pool in stream_pool.c.
 */
#include "core/stream.h"

#include "base/alloc.h"
#include "core/capture.h"
#include "core/graph.h"
#include "core/hop.h"
#include "core/operation.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { FIRST_CALL_COUNT = 64 };

static _Atomic uint64_t last_stream_id;

/* ---- lifetime ---- */

mr_status mr__stream_adopt(mr_device *device, struct mr_queue *queue, const char *name,
                           mr_stream_kind kind, int priority, mr_stream **out)
{
    *out = NULL;
    mr_stream *stream = mr__zalloc(sizeof *stream);
    if (!stream)
        goto fail;

    char plain_name[32];
    stream->id = atomic_fetch_add_explicit(&last_stream_id, 1, memory_order_relaxed) + 1;
    snprintf(plain_name, sizeof plain_name, "stream %" PRIu64, stream->id);
    stream->life =
        mr__stream_life_create(stream->id, name ? name : plain_name, device->properties.id, queue);
    if (!stream->life)
        goto fail;

    stream->queue = queue;
    stream->ops = queue->ops;
    stream->device = device;
    stream->kind = kind;
    stream->priority = priority;
    *out = stream;
    return MR_OK;

fail:
    mr__free(stream);
    queue->ops->queue_destroy(queue);
    return mr_error_set(MR_E_NO_MEMORY, "mr_stream_create: out of memory for a stream on %s",
                        device->properties.id);
}

static mr_status check_options(const mr_device *device, const mr_stream_options *options)
{
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_stream_create: device is NULL");
    if (options->kind != MR_STREAM_NON_BLOCKING && options->kind != MR_STREAM_BLOCKING)
        return mr_error_set(MR_E_INVALID,
                            "mr_stream_create: kind %d cannot be created; give non-blocking or "
                            "blocking, or use mr_stream_default",
                            (int)options->kind);
    return MR_OK;
}

/* Lower runs first: the highest priority is the smallest number. */
static int clamp_priority(const mr_device *device, int priority)
{
    const mr_device_properties *properties = &device->properties;
    if (priority < properties->priority_highest)
        return properties->priority_highest;
    return priority > properties->priority_lowest ? properties->priority_lowest : priority;
}

static const mr_stream_options no_options;

mr_status mr_stream_create(mr_device *device, const mr_stream_options *options, mr_stream **out)
{
    *out = NULL;
    if (!options)
        options = &no_options;
    mr_status status = check_options(device, options);
    if (status)
        return status;

    const int priority = clamp_priority(device, options->priority);
    struct mr_queue *queue;
    status = device->ops->queue_create(device->backend_device, options->kind, priority, &queue);
    if (status)
        return status;
    status = mr__stream_adopt(device, queue, options->name, options->kind, priority, out);
    if (!status)
        mr__device_add_child(device);
    return status;
}

mr_status mr_stream_wrap(mr_device *device, void *native, const mr_stream_options *options,
                         mr_stream **out)
{
    *out = NULL;
    if (!options)
        options = &no_options;
    mr_status status = check_options(device, options);
    if (status)
        return status;
    if (!device->ops->queue_wrap)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "mr_stream_wrap: %s has no native streams; create one instead",
                            device->properties.id);

    struct mr_queue *queue;
    status = device->ops->queue_wrap(device->backend_device, native, &queue);
    if (status)
        return status;
    status = mr__stream_adopt(device, queue, options->name, options->kind,
                              clamp_priority(device, options->priority), out);
    if (status)
        return status;
    (*out)->is_foreign = true;
    mr__device_add_child(device);
    return MR_OK;
}

static void free_calls(struct mr__call_ring *ring)
{
    while (ring) {
        struct mr__call_ring *older = ring->older;
        mr__free(ring);
        ring = older;
    }
}

void mr__stream_end(mr_stream *stream)
{
    assert(!atomic_load(&stream->ordered_count) && "ordered buffers outlive their stream");
    if (mr__stream_is_captured(stream))
        mr__capture_leave(stream);
    (void)stream->ops->queue_wait(stream->queue, MR_FOREVER);
    mr__hops_end_stream(stream);
    mr__stream_life_end(stream->life);
    if (stream->point)
        stream->ops->point_release(stream->point);
    stream->ops->queue_destroy(stream->queue);
    free_calls(stream->calls);
    mr__stream_life_release(stream->life);
    mr__free(stream);
}

void mr_stream_destroy(mr_stream *stream)
{
    /* The default streams are the device's. */
    if (!stream || stream->kind == MR_STREAM_LEGACY || stream->kind == MR_STREAM_PER_THREAD)
        return;
    mr_device *device = stream->device;
    mr__stream_end(stream);
    mr__device_remove_child(device);
}

/* ---- waiting and looking ---- */

/* A failure that the backend found, wherever in the queue: it counts for all that is recorded from
 * now on. */
static mr_status keep_failure(mr_stream *stream, mr_status status)
{
    mr__stream_life_fail(stream->life, mr__stream_sequence(stream) + 1, status, mr_last_error());
    return mr__stream_life_check(stream->life, UINT64_MAX);
}

mr_status mr_stream_wait_for(mr_stream *stream, uint64_t timeout_ns)
{
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_stream_wait: stream is NULL");
    if (mr__stream_is_captured(stream))
        return mr__capture_refuse("mr_stream_wait", stream,
                                  "nothing runs that could be waited for");
    if (mr__operation_is_wanted(stream->device))
        mr__operation_emit_plain(stream->device, MR_OPERATION_HOST_WAIT, stream,
                                 mr__stream_sequence(stream));

    const mr_status status = stream->ops->queue_wait(stream->queue, timeout_ns);
    if (status == MR_OK)
        return mr__stream_life_check(stream->life, UINT64_MAX);
    if (status != MR_E_TIMEOUT)
        return keep_failure(stream, status);
    return mr_error_set(status, "mr_stream_wait_for: stream '%s' still works after %" PRIu64 " ns",
                        stream->life->stream_name, timeout_ns);
}

mr_status mr_stream_wait(mr_stream *stream)
{
    return mr_stream_wait_for(stream, MR_FOREVER);
}

mr_status mr_stream_query(mr_stream *stream)
{
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_stream_query: stream is NULL");
    if (mr__stream_is_captured(stream))
        return mr__capture_refuse("mr_stream_query", stream,
                                  "nothing runs that could be asked for");

    const mr_status status = stream->ops->queue_query(stream->queue);
    if (status == MR_E_BUSY)
        return status;
    return status ? keep_failure(stream, status) : mr__stream_life_check(stream->life, UINT64_MAX);
}

mr_status mr_stream_failure(const mr_stream *stream)
{
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_stream_failure: stream is NULL");
    return mr__stream_life_check(stream->life, UINT64_MAX);
}

/* ---- host functions ---- */

static bool add_call_ring(mr_stream *stream)
{
    const uint64_t capacity = stream->calls ? 2 * stream->calls->capacity : FIRST_CALL_COUNT;
    struct mr__call_ring *ring = mr__zalloc_aligned(
        _Alignof(struct mr__call_ring), sizeof *ring + capacity * sizeof ring->calls[0]);
    if (!ring)
        return false;
    ring->stream = stream;
    ring->capacity = capacity;
    ring->older = stream->calls;
    stream->calls = ring;
    return true;
}

static bool is_full(struct mr__call_ring *ring)
{
    if (ring->taken - ring->seen_given_back < ring->capacity)
        return false;
    ring->seen_given_back = atomic_load_explicit(&ring->given_back, memory_order_acquire);
    return ring->taken - ring->seen_given_back == ring->capacity;
}

/* The next call, not yet taken. NULL when memory is out. */
static struct mr__call *next_call(mr_stream *stream)
{
    if ((!stream->calls || is_full(stream->calls)) && !add_call_ring(stream))
        return NULL;
    struct mr__call_ring *ring = stream->calls;
    struct mr__call *call = &ring->calls[ring->taken & (ring->capacity - 1)];
    call->ring = ring;
    return call;
}

/* Runs on a thread of the backend. The call is given back before the queue counts it as done, so the
 * stream is still there. */
static void run_call(void *context)
{
    struct mr__call *call = context;
    struct mr__call_ring *ring = call->ring;

    mr__stream_life_run(ring->stream->life, call->sequence, call->function, call->context);
    const uint64_t count = atomic_load_explicit(&ring->given_back, memory_order_relaxed);
    atomic_store_explicit(&ring->given_back, count + 1, memory_order_release);
}

mr_status mr_stream_call(mr_stream *stream, mr_host_function function, void *context)
{
    if (!stream || !function)
        return mr_error_set(MR_E_INVALID, "mr_stream_call: %s is NULL",
                            stream ? "function" : "stream");
    mr_status status =
        mr__stream_is_special(stream) ? mr__capture_admit("mr_stream_call", stream) : MR_OK;
    if (status)
        return status;
    if (mr__stream_is_captured(stream))
        return mr__graph_capture_call(stream, function, context);

    struct mr__call *call = next_call(stream);
    if (!call)
        return mr_error_set(MR_E_NO_MEMORY, "mr_stream_call: out of memory on stream '%s'",
                            stream->life->stream_name);
    call->sequence = mr__stream_sequence(stream) + 1;
    call->function = function;
    call->context = context;

    status = stream->ops->call(stream->queue, run_call, call);
    if (status)
        return status;
    stream->calls->taken++;
    const uint64_t sequence = mr__stream_advance(stream);
    if (mr__operation_is_wanted(stream->device))
        mr__operation_emit_plain(stream->device, MR_OPERATION_CALL, stream, sequence);
    return MR_OK;
}

/* ---- the rest ---- */

void *mr_stream_native(const mr_stream *stream)
{
    return stream->ops->queue_native(stream->queue);
}

void mr_stream_touch(mr_stream *stream)
{
    if (!mr__stream_is_captured(stream))
        mr__stream_advance(stream);
}

mr_device *mr_stream_device(const mr_stream *stream)
{
    return stream->device;
}

const char *mr_stream_name(const mr_stream *stream)
{
    return stream->life->stream_name;
}

mr_stream_kind mr_stream_kind_of(const mr_stream *stream)
{
    return stream->kind;
}

int mr_stream_priority(const mr_stream *stream)
{
    return stream->priority;
}

uint64_t mr_stream_id(const mr_stream *stream)
{
    return stream->id;
}
