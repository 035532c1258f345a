/* SPDX-License-Identifier: MIT */
/*
 * Streams and events of the stand-in driver: CUDA's rules for what waits for what.
 */
#include "support/fakecuda/fake.h"

#include <stdlib.h>

enum { STREAM_MAGIC = 0x57fea3, EVENT_MAGIC = 0xe7e27 };

struct CUevent_st {
    uint32_t magic;
    unsigned flags;
    CUcontext context;
    struct operation *record; /* the newest; one reference */
    struct frontier frontier; /* when that was in a capture */
};

/* ---- finding the stream ---- */

/* A thread's default streams, one per device, ended with the thread. */
struct thread_streams {
    struct CUstream_st *of[DEVICE_LIMIT];
};

static pthread_key_t thread_key;

static void stream_unlink(struct CUstream_st *stream)
{
    struct CUstream_st **place = &stream->context->streams;
    while (*place && *place != stream)
        place = &(*place)->next;
    if (*place)
        *place = stream->next;
    (void)fake_capture_forbid(stream);
    fake_frontier_clear(&stream->frontier);
    fake_unref(stream->last);
    stream->last = NULL;
}

static void thread_end(void *value)
{
    struct thread_streams *streams = value;
    pthread_mutex_lock(&fake_lock);
    for (int i = 0; i < DEVICE_LIMIT; i++)
        if (streams->of[i])
            stream_unlink(streams->of[i]);
    pthread_mutex_unlock(&fake_lock);
    for (int i = 0; i < DEVICE_LIMIT; i++)
        free(streams->of[i]);
    free(streams);
}

__attribute__((constructor)) static void streams_open(void)
{
    if (pthread_key_create(&thread_key, thread_end))
        abort();
}

static struct CUstream_st *stream_new(CUcontext context, bool is_blocking, int priority)
{
    struct CUstream_st *stream = calloc(1, sizeof *stream);
    if (!stream)
        abort();
    *stream = (struct CUstream_st){ .magic = STREAM_MAGIC,
                                    .context = context,
                                    .is_blocking = is_blocking,
                                    .priority = priority,
                                    .next = context->streams };
    context->streams = stream;
    return stream;
}

static struct CUstream_st *thread_stream(CUcontext context)
{
    struct thread_streams *streams = pthread_getspecific(thread_key);
    if (!streams) {
        streams = calloc(1, sizeof *streams);
        if (!streams)
            abort();
        pthread_setspecific(thread_key, streams);
    }
    struct CUstream_st **stream = &streams->of[context->device];
    if (!*stream) {
        *stream = stream_new(context, true, 0);
        (*stream)->is_thread = true;
    }
    return *stream;
}

/* A stream that was created knows its context; the default ones mean the current one's. */
struct CUstream_st *fake_stream(CUstream handle, CUresult *result)
{
    CUcontext context = fake_current();
    struct CUstream_st *stream = handle;
    *result = CUDA_SUCCESS;
    if (!handle || handle == CU_STREAM_LEGACY)
        stream = context ? context->legacy : NULL;
    else if (handle == CU_STREAM_PER_THREAD)
        stream = context ? thread_stream(context) : NULL;
    else if (handle->magic != STREAM_MAGIC)
        *result = CUDA_ERROR_INVALID_HANDLE;
    if (!stream)
        *result = CUDA_ERROR_INVALID_CONTEXT;
    else if (!*result)
        *result = fake_error(stream->context);
    return *result ? NULL : stream;
}

struct CUstream_st *fake_stream_to_fill(CUstream handle, CUresult *result)
{
    struct CUstream_st *stream = fake_stream(handle, result);
    if (stream && stream->context->is_exclusive) {
        fake_admit(stream->context);
        stream = fake_stream(handle, result);
    }
    if (stream)
        *result = fake_capture_admit(stream);
    return *result ? NULL : stream;
}

/* Behind the stream's own work; and between the legacy stream and the blocking ones both ways. */
void fake_submit(struct CUstream_st *stream, struct operation *operation)
{
    if (stream->frontier.capture) {
        fake_capture_add(stream, operation);
        return;
    }
    CUcontext context = stream->context;
    operation->priority = stream->priority;
    fake_depend(operation, stream->last);
    if (stream == context->legacy) {
        for (struct CUstream_st *other = context->streams; other; other = other->next)
            if (other->is_blocking)
                fake_depend(operation, other->last);
        fake_unref(context->last_legacy);
        operation->references++;
        context->last_legacy = operation;
    } else if (stream->is_blocking) {
        fake_depend(operation, context->last_legacy);
    }
    fake_unref(stream->last);
    operation->references++;
    stream->last = operation;
    fake_start(operation);
    fake_unref(operation);
}

/* ---- streams ---- */

FAKE_API CUresult cuStreamCreateWithPriority(CUstream *out, unsigned flags, int priority)
{
    FAKE_CALL("flags=%u priority=%d", flags, priority);
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    if (++context->stream_count > context->stream_capacity) {
        fake_quiesce(context);
        context->stream_capacity *= 2;
    }
    *out = stream_new(context, !(flags & CU_STREAM_NON_BLOCKING), priority);
    fake_live_add(1);
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamDestroy_v2(CUstream stream)
{
    FAKE_CALL("stream=%p", (void *)stream);
    pthread_mutex_lock(&fake_lock);
    const bool is_known = stream > CU_STREAM_PER_THREAD && stream->magic == STREAM_MAGIC;
    if (is_known) {
        stream->context->stream_count--;
        stream_unlink(stream); /* its work goes on without it */
        stream->magic = 0;
        fake_live_add(-1);
    }
    pthread_mutex_unlock(&fake_lock);
    if (is_known)
        free(stream);
    return is_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

FAKE_API CUresult cuStreamGetCtx(CUstream handle, CUcontext *out)
{
    FAKE_CALL("stream=%p", (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    *out = stream ? stream->context : NULL;
    pthread_mutex_unlock(&fake_lock);
    return result;
}

/* Neither it nor anything of this thread may be captured. */
static struct CUstream_st *stream_to_look_at(CUstream handle, CUresult *result)
{
    struct CUstream_st *stream = fake_stream(handle, result);
    if (stream)
        *result = fake_capture_forbid(stream);
    if (!*result)
        *result = fake_capture_forbid_unsafe();
    return stream;
}

FAKE_API CUresult cuStreamQuery(CUstream handle)
{
    FAKE_CALL("stream=%p", (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    const struct CUstream_st *stream = stream_to_look_at(handle, &result);
    if (!result && stream->last && !stream->last->is_done)
        result = CUDA_ERROR_NOT_READY;
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuStreamSynchronize(CUstream handle)
{
    FAKE_CALL("stream=%p", (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    const struct CUstream_st *stream = stream_to_look_at(handle, &result);
    struct operation *last = result ? NULL : stream->last;
    if (last)
        last->references++;
    pthread_mutex_unlock(&fake_lock);
    return result ? result : fake_wait(last);
}

FAKE_API CUresult cuCtxSynchronize(void)
{
    FAKE_CALL("%s", "");
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    struct CUstream_st *stream = context->streams;
    while (stream && !context->error) {
        if (!stream->last || stream->last->is_done) {
            stream = stream->next;
            continue;
        }
        pthread_cond_wait(&fake_progress, &fake_lock);
        stream = context->streams; /* the list may have changed */
    }
    while (context->legacy->last && !context->legacy->last->is_done && !context->error)
        pthread_cond_wait(&fake_progress, &fake_lock);
    CUresult result = fake_error(context);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags)
{
    FAKE_CALL("stream=%p event=%p flags=%u", (void *)handle, (void *)event, flags);
    if (event->magic != EVENT_MAGIC)
        return CUDA_ERROR_INVALID_HANDLE;
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    if (stream && (stream->frontier.capture || event->frontier.capture)) {
        result = fake_frontier_join(stream, &event->frontier);
    } else if (stream && event->record && !event->record->is_done) {
        struct operation *operation = fake_operation(OPERATION_MARK, stream->context);
        fake_depend(operation, event->record);
        fake_submit(stream, operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

/* ---- events ---- */

FAKE_API CUresult cuEventCreate(CUevent *out, unsigned flags)
{
    FAKE_CALL("flags=%u", flags);
    WITH_CONTEXT(context);
    CUevent event = calloc(1, sizeof *event);
    if (!event)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *event = (struct CUevent_st){ .magic = EVENT_MAGIC, .flags = flags, .context = context };
    pthread_mutex_lock(&fake_lock);
    fake_live_add(1);
    pthread_mutex_unlock(&fake_lock);
    *out = event;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventDestroy_v2(CUevent event)
{
    FAKE_CALL("event=%p", (void *)event);
    if (!event || event->magic != EVENT_MAGIC)
        return CUDA_ERROR_INVALID_HANDLE;
    pthread_mutex_lock(&fake_lock);
    fake_unref(event->record);
    fake_frontier_clear(&event->frontier);
    event->magic = 0;
    fake_live_add(-1);
    pthread_mutex_unlock(&fake_lock);
    free(event);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuEventRecord(CUevent event, CUstream handle)
{
    FAKE_CALL("event=%p stream=%p", (void *)event, (void *)handle);
    if (event->magic != EVENT_MAGIC)
        return CUDA_ERROR_INVALID_HANDLE;
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    /* The real one (580) ends the program now and then: it takes the event out of the other capture. */
    if (stream && (stream->context != event->context || fake_frontier_is_others(&event->frontier)))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (!result) {
        fake_unref(event->record);
        event->record = NULL;
        fake_frontier_copy(&event->frontier, &stream->frontier);
    }
    if (!result && !stream->frontier.capture) {
        struct operation *operation = fake_operation(OPERATION_MARK, stream->context);
        operation->references++;
        event->record = operation;
        fake_submit(stream, operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

/* Under the lock. An event that was never recorded counts as fired. */
static CUresult event_state(CUevent event)
{
    if (!event || event->magic != EVENT_MAGIC)
        return CUDA_ERROR_INVALID_HANDLE;
    CUresult error = fake_error(event->context);
    if (!error)
        error = fake_capture_forbid_event(&event->frontier);
    if (error)
        return error;
    return event->record && !event->record->is_done ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

FAKE_API CUresult cuEventQuery(CUevent event)
{
    FAKE_CALL("event=%p", (void *)event);
    FAKE_UNSAFE();
    pthread_mutex_lock(&fake_lock);
    CUresult result = event_state(event);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuEventSynchronize(CUevent event)
{
    FAKE_CALL("event=%p", (void *)event);
    FAKE_UNSAFE();
    pthread_mutex_lock(&fake_lock);
    CUresult result = event_state(event);
    struct operation *record = result == CUDA_ERROR_NOT_READY ? event->record : NULL;
    if (record)
        record->references++;
    pthread_mutex_unlock(&fake_lock);
    return record ? fake_wait(record) : result;
}

FAKE_API CUresult cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    FAKE_CALL("start=%p end=%p", (void *)start, (void *)end);
    pthread_mutex_lock(&fake_lock);
    CUresult result = event_state(start);
    if (!result)
        result = event_state(end);
    if (!result &&
        (!start->record || !end->record || ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING)))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (!result) {
        const int64_t elapsed_ns = (int64_t)(end->record->ended_ns - start->record->ended_ns);
        *milliseconds = (float)((double)elapsed_ns * 1e-6);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}
