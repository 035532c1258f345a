/* SPDX-License-Identifier: MIT */
/*
 * Host work in stream order: the caller's functions, and copies and fills between host memories,
 * which the driver would do on the submitting thread.
 */
#include "backend/cuda/cuda_graph.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <string.h>

#define DISOWNED_WAIT_NS 2000000000u

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

/* A call starts once: on the driver's thread, or on ours when the driver will not run it as it should.
 * False when it has started before. */
static bool call_start(struct cuda_call *call, struct cuda_call *work)
{
    struct cuda_device *device = call->device;
    pthread_mutex_lock(&device->call_lock);
    const bool is_first = call->queue;
    if (is_first) {
        *work = *call;
        list_remove(call);
        work->queue->running_count++;
    } else {
        device->disowned_count--;
        pthread_cond_broadcast(&device->call_ended);
    }
    call_recycle(call);
    pthread_mutex_unlock(&device->call_lock);
    return is_first;
}

static void call_end(const struct cuda_call *work)
{
    pthread_mutex_lock(&work->device->call_lock);
    if (!--work->queue->running_count)
        pthread_cond_broadcast(&work->device->call_ended);
    pthread_mutex_unlock(&work->device->call_lock);
}

static void call_run(void *context)
{
    struct cuda_call work;
    if (!call_start(context, &work))
        return;
    if (work.function)
        work.function(work.context);
    else
        job_run(&work.job);
    call_end(&work);
}

/* The caller's functions run behind a failure too; copies must not. */
static void callback_run(CUstream stream, CUresult result, void *context)
{
    (void)stream;
    struct cuda_call *call = context;
    if (result && !call->function)
        call->job.row_count = 0;
    call_run(call);
}

/* cuLaunchHostFunc drops its function when the context has failed; the older cuStreamAddCallback runs
 * it with the error, at the same price. */
static CUresult call_launch(struct cuda_queue *queue, struct cuda_call *call)
{
    const struct cuda_symbols *cu = queue->device->cu;
    return cu->cuStreamAddCallback ? cu->cuStreamAddCallback(queue->stream, callback_run, call, 0)
                                   : cu->cuLaunchHostFunc(queue->stream, call_run, call);
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
        result = call_launch(queue, call);
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

/* As a node it may run any number of times, with the context to which each replay binds it. */
static mr_status call_capture(struct cuda_queue *queue, void (*function)(void *context),
                              void *context)
{
    const struct cuda_device *device = queue->device;
    mr__cuda_call_note(function);
    mr__cuda_capture_has_calls = true;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuLaunchHostFunc(queue->stream, function, context);
    mr__cuda_leave(device, is_pushed);
    return mr__cuda_error(device->cu, result, "recording a host function on %s",
                          device->properties.id);
}

mr_status mr__cuda_call(struct mr_queue *base, void (*function)(void *context), void *context)
{
    if (mr__cuda_is_captured(cuda_queue_from(base)))
        return call_capture(cuda_queue_from(base), function, context);
    return call_submit(cuda_queue_from(base),
                       &(struct cuda_call){ .function = function, .context = context });
}

mr_status mr__cuda_host_job(struct cuda_queue *queue, const struct cuda_host_job *job)
{
    return call_submit(queue, &(struct cuda_call){ .job = *job });
}

/* ---- behind a failure, and at the end ---- */

void mr__cuda_calls_finish(struct cuda_queue *queue)
{
    struct cuda_device *device = queue->device;
    pthread_mutex_lock(&device->call_lock);
    struct cuda_call *call;
    while ((call = queue->first_call)) {
        list_remove(call);
        device
            ->disowned_count++; /* the driver still holds it, and gives it back through call_run */
        void (*function)(void *) = call->function;
        void *context = call->context;
        pthread_mutex_unlock(&device->call_lock);
        if (function)
            function(context);
        pthread_mutex_lock(&device->call_lock);
    }
    while (queue->running_count)
        pthread_cond_wait(&device->call_ended, &device->call_lock);
    pthread_mutex_unlock(&device->call_lock);
}

/* Waits a while for the calls that the driver holds behind a failure. Those that never come are lost
 * with it: better than memory that the driver might still touch. */
static void disowned_wait(struct cuda_device *device)
{
    const struct timespec deadline = mr__clock_deadline(DISOWNED_WAIT_NS);
    pthread_mutex_lock(&device->call_lock);
    while (device->disowned_count &&
           !pthread_cond_clockwait(&device->call_ended, &device->call_lock, CLOCK_MONOTONIC,
                                   &deadline))
        ;
    pthread_mutex_unlock(&device->call_lock);
}

void mr__cuda_calls_destroy(struct cuda_device *device)
{
    if (device->cu->cuStreamAddCallback)
        disowned_wait(device);
    while (device->calls) {
        struct cuda_call *next = device->calls->next;
        mr__free(device->calls);
        device->calls = next;
    }
}
