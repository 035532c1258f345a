/* SPDX-License-Identifier: MIT */
/*
 * CUDA streams: created, borrowed (the default ones, foreign ones), looked at and waited for.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

static struct cuda_queue *queue_new(struct cuda_device *device, CUstream stream,
                                    mr_stream_kind kind)
{
    struct cuda_queue *queue = mr__zalloc(sizeof *queue);
    if (!queue)
        return NULL;
    queue->base.ops = &mr__cuda_backend;
    queue->base.device = &device->base;
    queue->device = device;
    queue->stream = stream;
    queue->kind = kind;
    queue->is_created = kind != MR_STREAM_LEGACY && kind != MR_STREAM_PER_THREAD;
    queue->thread = pthread_self();
    return queue;
}

/* The rest of a queue's creation, with the context current. */
static CUresult queue_start(struct cuda_queue *queue, int priority)
{
    const struct cuda_symbols *cu = queue->device->cu;
    if (queue->stream == CU_STREAM_PER_THREAD)
        return cu->cuEventCreate(&queue->tail, CU_EVENT_DISABLE_TIMING);
    if (queue->stream)
        return CUDA_SUCCESS;

    const mr_device_properties *limits = &queue->device->properties;
    if (priority > limits->priority_lowest)
        priority = limits->priority_lowest;
    if (priority < limits->priority_highest)
        priority = limits->priority_highest;
    CUresult result = cu->cuStreamCreateWithPriority(
        &queue->stream,
        queue->kind == MR_STREAM_BLOCKING ? CU_STREAM_DEFAULT : CU_STREAM_NON_BLOCKING, priority);
    queue->is_owned = !result;
    return result;
}

mr_status mr__cuda_queue_create(struct mr_backend_device *base, mr_stream_kind kind, int priority,
                                struct mr_queue **out)
{
    *out = NULL;
    struct cuda_device *device = cuda_device_from(base);
    CUstream stream = kind == MR_STREAM_LEGACY       ? CU_STREAM_LEGACY
                      : kind == MR_STREAM_PER_THREAD ? CU_STREAM_PER_THREAD
                                                     : NULL;
    struct cuda_queue *queue = queue_new(device, stream, kind);
    if (!queue)
        return mr__cuda_no_heap("creating a stream");

    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = queue_start(queue, priority);
    mr__cuda_leave(device, is_pushed);
    if (result) {
        mr_status status =
            mr__cuda_error(device->cu, result, "creating a stream on %s", device->properties.id);
        mr__cuda_queue_destroy(&queue->base);
        return status;
    }
    *out = &queue->base;
    return MR_OK;
}

/* Asks with the device's context current, so that the default streams answer with it too. */
static mr_status wrap_check(struct cuda_device *device, CUstream stream)
{
    CUcontext context = NULL;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuStreamGetCtx(stream, &context);
    mr__cuda_leave(device, is_pushed);
    if (result)
        return mr__cuda_error(device->cu, result, "wrapping the native stream %p", (void *)stream);
    if (context != device->context)
        return mr_error_set(
            MR_E_INVALID,
            "the native stream %p is of another context than the primary one of %s: "
            "wrap it on its own device",
            (void *)stream, device->properties.id);
    return MR_OK;
}

mr_status mr__cuda_queue_wrap(struct mr_backend_device *base, void *native, struct mr_queue **out)
{
    *out = NULL;
    /* Code that was compiled for the legacy default stream says NULL for it. */
    CUstream stream = native ? native : CU_STREAM_LEGACY;
    if (stream == CU_STREAM_LEGACY)
        return mr__cuda_queue_create(base, MR_STREAM_LEGACY, 0, out);
    if (stream == CU_STREAM_PER_THREAD)
        return mr__cuda_queue_create(base, MR_STREAM_PER_THREAD, 0, out);

    struct cuda_device *device = cuda_device_from(base);
    mr_status status = wrap_check(device, stream);
    if (status)
        return status;
    struct cuda_queue *queue = queue_new(device, stream, MR_STREAM_NON_BLOCKING);
    if (!queue)
        return mr__cuda_no_heap("wrapping a stream");
    *out = &queue->base;
    return MR_OK;
}

void mr__cuda_queue_destroy(struct mr_queue *base)
{
    if (!base)
        return;
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    mr__cuda_calls_finish(queue);
    for (int has_timing = 0; has_timing < 2; has_timing++)
        mr__cuda_point_give_back(device, queue->spare[has_timing]);

    mr__cuda_bounce_give_back(device, queue->bounce);

    bool is_pushed;
    (void)mr__cuda_enter(device, &is_pushed);
    if (queue->tail)
        (void)device->cu->cuEventDestroy(queue->tail);
    if (queue->is_owned)
        (void)device->cu->cuStreamDestroy(queue->stream);
    mr__cuda_leave(device, is_pushed);
    mr__free(queue);
}

void *mr__cuda_queue_native(struct mr_queue *queue)
{
    return cuda_queue_from(queue)->stream;
}

void mr__cuda_queue_mark_tail(struct cuda_queue *queue)
{
    if (mr__cuda_is_captured(queue))
        return; /* nothing runs, and nobody may ask a captured event */
    bool is_pushed;
    if (!mr__cuda_enter(queue->device, &is_pushed))
        (void)queue->device->cu->cuEventRecord(queue->tail, queue->stream);
    mr__cuda_leave(queue->device, is_pushed);
}

/* True when the handle would mean another stream to this thread. */
static bool is_others(const struct cuda_queue *queue)
{
    return queue->kind == MR_STREAM_PER_THREAD && !pthread_equal(queue->thread, pthread_self());
}

static CUresult queue_look(struct cuda_queue *queue)
{
    struct cuda_device *device = queue->device;
    if (is_others(queue))
        return mr__cuda_event_query(device, queue->tail);
    if (mr__cuda_is_unbound(queue)) {
        mr__cuda_relax(device);
        CUresult result = device->cu->cuStreamQuery(queue->stream);
        mr__cuda_tighten(device);
        if (!mr__cuda_misses_context(device, result))
            return result;
    }
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuStreamQuery(queue->stream);
    mr__cuda_leave(device, is_pushed);
    return result;
}

/* What a failed wait or look means. If the queue itself still answers, only the call failed. Else the
 * context is broken, and none of the work runs any more: the host functions that are left run here. */
static mr_status queue_fail(struct cuda_queue *queue, CUresult result)
{
    CUresult second = queue_look(queue);
    if (second && second != CUDA_ERROR_NOT_READY)
        mr__cuda_calls_finish(queue);
    return mr__cuda_error(queue->device->cu, result, "work on a stream of %s",
                          queue->device->properties.id);
}

mr_status mr__cuda_queue_query(struct mr_queue *base)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    CUresult result = queue_look(queue);
    return !result || result == CUDA_ERROR_NOT_READY ? mr__cuda_status(result)
                                                     : queue_fail(queue, result);
}

/* A fresh point, so that work submitted meanwhile by another thread does not prolong the wait. */
static CUresult wait_limited(struct cuda_queue *queue, uint64_t timeout_ns)
{
    struct cuda_point *point = NULL;
    CUresult result = mr__cuda_point_acquire(queue->device, false, NULL, &point);
    if (result)
        return result;
    result = queue->device->cu->cuEventRecord(point->event, queue->stream);
    if (!result)
        result = mr__cuda_event_wait(queue->device, point->event, timeout_ns);
    mr__cuda_point_give_back(queue->device, point);
    return result;
}

static CUresult wait_bound(struct cuda_queue *queue, uint64_t timeout_ns)
{
    bool is_pushed;
    CUresult result = mr__cuda_enter(queue->device, &is_pushed);
    if (!result)
        result = timeout_ns == MR_FOREVER ? queue->device->cu->cuStreamSynchronize(queue->stream)
                                          : wait_limited(queue, timeout_ns);
    mr__cuda_leave(queue->device, is_pushed);
    return result;
}

mr_status mr__cuda_queue_wait(struct mr_queue *base, uint64_t timeout_ns)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    CUresult result = is_others(queue) ? mr__cuda_event_wait(queue->device, queue->tail, timeout_ns)
                                       : wait_bound(queue, timeout_ns);
    if (result == CUDA_ERROR_NOT_READY)
        return MR_E_TIMEOUT;
    return result ? queue_fail(queue, result) : MR_OK;
}
