/* SPDX-License-Identifier: MIT */
/*
 * Host work in stream order: the caller's functions, and copies and fills between host memories,
 * which the driver would do on the submitting thread.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

#include <string.h>

/* ---- the list of what is in flight, all under call_lock ---- */

static void list_append(struct cuda_queue *queue, struct cuda_call *call)
{
    call->queue = queue;
    call->next = NULL;
    call->previous = queue->last_call;
    *(queue->last_call ? &queue->last_call->next : &queue->first_call) = call;
    queue->last_call = call;
}

static void list_remove(struct cuda_call *call)
{
    struct cuda_queue *queue = call->queue;
    *(call->previous ? &call->previous->next : &queue->first_call) = call->next;
    *(call->next ? &call->next->previous : &queue->last_call) = call->previous;
    call->queue = NULL;
}

static struct cuda_call *call_take(struct cuda_queue *queue, const struct cuda_call *wanted)
{
    struct cuda_device *device = queue->device;
    pthread_mutex_lock(&device->call_lock);
    struct cuda_call *call = device->calls;
    if (call)
        device->calls = call->next;
    else
        call = mr__zalloc(sizeof *call);
    if (call) {
        *call = *wanted;
        call->device = device;
        list_append(queue, call);
    }
    pthread_mutex_unlock(&device->call_lock);
    return call;
}

static void call_recycle(struct cuda_call *call)
{
    call->next = call->device->calls;
    call->device->calls = call;
}

/* ---- host copies and fills ---- */

static void row_fill(unsigned char *target, size_t size_bytes, uint32_t value, uint32_t value_bytes)
{
    if (value_bytes == 1) {
        memset(target, (int)value, size_bytes);
        return;
    }
    for (size_t done = 0; done < size_bytes; done += value_bytes)
        memcpy(target + done, &value, value_bytes); /* little-endian: the low bytes come first */
}

static void job_run(const struct cuda_host_job *job)
{
    for (size_t row = 0; row < job->row_count; row++) {
        unsigned char *target = job->target + row * job->target_pitch;
        if (job->source)
            memcpy(target, job->source + row * job->source_pitch, job->row_bytes);
        else
            row_fill(target, job->row_bytes, job->value, job->value_bytes);
    }
}

/* ---- running ---- */

/* On the driver's thread. After the unlock nothing of the queue or the device is touched: the
 * function may be what the program waits for before it closes them. */
static void call_run(void *context)
{
    struct cuda_call *call = context;
    struct cuda_device *device = call->device;
    pthread_mutex_lock(&device->call_lock);
    if (!call->queue) {
        pthread_mutex_unlock(&device->call_lock);
        return;
    }
    const struct cuda_call work = *call;
    list_remove(call);
    call_recycle(call);
    pthread_mutex_unlock(&device->call_lock);

    if (work.function)
        work.function(work.context);
    else
        job_run(&work.job);
}

static mr_status call_submit(struct cuda_queue *queue, const struct cuda_call *wanted)
{
    struct cuda_device *device = queue->device;
    struct cuda_call *call = call_take(queue, wanted);
    if (!call)
        return mr__cuda_no_heap("a host function in stream order");

    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuLaunchHostFunc(queue->stream, call_run, call);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(device, is_pushed);
    if (!result)
        return MR_OK;

    pthread_mutex_lock(&device->call_lock);
    list_remove(call);
    call_recycle(call);
    pthread_mutex_unlock(&device->call_lock);
    return mr__cuda_error(device->cu, result, "queueing a host function on %s",
                          device->properties.id);
}

mr_status mr__cuda_call(struct mr_queue *base, void (*function)(void *context), void *context)
{
    return call_submit(cuda_queue_from(base),
                       &(struct cuda_call){ .function = function, .context = context });
}

mr_status mr__cuda_host_job(struct cuda_queue *queue, const struct cuda_host_job *job)
{
    return call_submit(queue, &(struct cuda_call){ .job = *job });
}

/* The driver may still hold what is lost and call it late, so the node is kept, owned by no queue,
 * until the device closes. */
void mr__cuda_calls_run_lost(struct cuda_queue *queue)
{
    struct cuda_device *device = queue->device;
    for (;;) {
        pthread_mutex_lock(&device->call_lock);
        struct cuda_call *call = queue->first_call;
        if (!call) {
            pthread_mutex_unlock(&device->call_lock);
            return;
        }
        list_remove(call);
        call->next = device->disowned;
        device->disowned = call;
        void (*function)(void *) = call->function;
        void *context = call->context;
        pthread_mutex_unlock(&device->call_lock);
        if (function)
            function(context);
    }
}

static void calls_free(struct cuda_call *call)
{
    while (call) {
        struct cuda_call *next = call->next;
        mr__free(call);
        call = next;
    }
}

void mr__cuda_calls_destroy(struct cuda_device *device)
{
    calls_free(device->calls);
    calls_free(device->disowned);
    device->calls = device->disowned = NULL;
}
