/* SPDX-License-Identifier: MIT */
/*
 * The streams that nobody creates: a device's legacy stream, each thread's default stream, and each
 * thread's stack of current streams.
 *
 * A thread's default stream is in two lists, its device's and its thread's. Whichever ends first
 * takes it out of both under one lock and destroys it outside of the lock.
 */
#include "core/default_stream.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

struct thread_state;

struct mr__thread_stream {
    mr_stream *stream;
    struct thread_state *thread;
    struct mr__thread_stream *next_of_device;
    struct mr__thread_stream *next_of_thread;
};

struct thread_state {
    struct mr__thread_stream *streams; /* under default_lock */
    mr_stream **pushed;                /* the thread's own; the top is last */
    size_t pushed_count, pushed_capacity;
    bool is_watched; /* thread_ended will be called */
};

static pthread_mutex_t default_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t default_changed = PTHREAD_COND_INITIALIZER;
static _Thread_local struct thread_state this_thread;

/* ---- the ends of threads and devices ---- */

static void unlink_from_device(struct mr__thread_stream *node)
{
    struct mr__thread_stream **link = &node->stream->device->thread_streams;
    while (*link != node)
        link = &(*link)->next_of_device;
    *link = node->next_of_device;
}

static void unlink_from_thread(struct mr__thread_stream *node)
{
    struct mr__thread_stream **link = &node->thread->streams;
    while (*link != node)
        link = &(*link)->next_of_thread;
    *link = node->next_of_thread;
}

static void thread_ended(void *argument)
{
    struct thread_state *thread = argument;

    pthread_mutex_lock(&default_lock);
    struct mr__thread_stream *node;
    while ((node = thread->streams)) {
        mr_device *device = node->stream->device;
        unlink_from_device(node);
        unlink_from_thread(node);
        device->ending_count++;
        pthread_mutex_unlock(&default_lock);

        mr__stream_end(node->stream);
        mr__free(node);

        pthread_mutex_lock(&default_lock);
        device->ending_count--;
        pthread_cond_broadcast(&default_changed);
    }
    pthread_mutex_unlock(&default_lock);
    mr__free(thread->pushed);
    *thread = (struct thread_state){ 0 };
}

static pthread_key_t thread_key;
static int thread_key_error;

static void make_thread_key(void)
{
    thread_key_error = pthread_key_create(&thread_key, thread_ended);
}

/* Has thread_ended called when this thread ends. */
static mr_status watch_thread(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (this_thread.is_watched)
        return MR_OK;
    pthread_once(&once, make_thread_key);
    if (thread_key_error || pthread_setspecific(thread_key, &this_thread))
        return mr_error_set(MR_E_NO_MEMORY, "no room for thread-specific data");
    this_thread.is_watched = true;
    return MR_OK;
}

void mr__default_streams_end(mr_device *device)
{
    pthread_mutex_lock(&default_lock);
    struct mr__thread_stream *node;
    while ((node = device->thread_streams)) {
        unlink_from_device(node);
        unlink_from_thread(node);
        pthread_mutex_unlock(&default_lock);
        mr__stream_end(node->stream);
        mr__free(node);
        pthread_mutex_lock(&default_lock);
    }
    while (device->ending_count)
        pthread_cond_wait(&default_changed, &default_lock);
    mr_stream *legacy = device->legacy;
    device->legacy = NULL;
    pthread_mutex_unlock(&default_lock);

    if (legacy)
        mr__stream_end(legacy);
}

/* ---- getting them: under default_lock ---- */

static mr_status create_default(mr_device *device, mr_stream_kind kind, mr_stream **out)
{
    struct mr_queue *queue;
    const mr_status status = device->ops->queue_create(device->backend_device, kind, 0, &queue);
    if (status)
        return status;
    return mr__stream_adopt(device, queue, kind == MR_STREAM_LEGACY ? "legacy" : "thread default",
                            kind, 0, out);
}

static mr_status get_legacy(mr_device *device, mr_stream **out)
{
    mr_status status = MR_OK;
    if (!device->legacy)
        status = create_default(device, MR_STREAM_LEGACY, &device->legacy);
    *out = device->legacy;
    return status;
}

static mr_status get_thread_stream(mr_device *device, mr_stream **out)
{
    struct mr__thread_stream *node = this_thread.streams;
    while (node && node->stream->device != device)
        node = node->next_of_thread;
    if (node) {
        *out = node->stream;
        return MR_OK;
    }

    mr_status status = watch_thread();
    if (status)
        return status;
    node = mr__zalloc(sizeof *node);
    if (!node)
        return mr_error_set(MR_E_NO_MEMORY, "mr_stream_default: out of memory");
    status = create_default(device, MR_STREAM_PER_THREAD, &node->stream);
    if (status) {
        mr__free(node);
        return status;
    }
    node->thread = &this_thread;
    node->next_of_device = device->thread_streams;
    node->next_of_thread = this_thread.streams;
    device->thread_streams = this_thread.streams = node;
    *out = node->stream;
    return MR_OK;
}

mr_status mr_stream_default(mr_device *device, mr_stream_kind kind, mr_stream **out)
{
    *out = NULL;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_stream_default: device is NULL");
    if (kind != MR_STREAM_LEGACY && kind != MR_STREAM_PER_THREAD)
        return mr_error_set(MR_E_INVALID,
                            "mr_stream_default: kind %d is no default stream; give "
                            "MR_STREAM_LEGACY or MR_STREAM_PER_THREAD",
                            (int)kind);

    pthread_mutex_lock(&default_lock);
    const mr_status status =
        kind == MR_STREAM_LEGACY ? get_legacy(device, out) : get_thread_stream(device, out);
    pthread_mutex_unlock(&default_lock);
    return status;
}

/* ---- the current stream: the thread's own ---- */

mr_status mr_stream_push(mr_stream *stream)
{
    struct thread_state *thread = &this_thread;
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_stream_push: stream is NULL");
    const mr_status status = watch_thread();
    if (status)
        return status;

    if (!mr__grow_array(&thread->pushed, sizeof(mr_stream *), thread->pushed_count + 1,
                        &thread->pushed_capacity))
        return mr_error_set(MR_E_NO_MEMORY, "mr_stream_push: out of memory at depth %zu",
                            thread->pushed_count);
    thread->pushed[thread->pushed_count++] = stream;
    return MR_OK;
}

/* One past the device's top in the stack; 0 when it has none. */
static size_t find_top(const struct thread_state *thread, const mr_device *device)
{
    size_t place = thread->pushed_count;
    while (place && thread->pushed[place - 1]->device != device)
        place--;
    return place;
}

mr_status mr_stream_pop(mr_device *device)
{
    struct thread_state *thread = &this_thread;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_stream_pop: device is NULL");
    const size_t place = find_top(thread, device);
    if (!place)
        return mr_error_set(MR_E_STATE,
                            "mr_stream_pop: this thread has no stream of %s pushed; push and pop "
                            "go in pairs",
                            device->properties.id);

    memmove(&thread->pushed[place - 1], &thread->pushed[place],
            (thread->pushed_count - place) * sizeof *thread->pushed);
    if (--thread->pushed_count == 0) {
        mr__free(thread->pushed);
        thread->pushed = NULL;
        thread->pushed_capacity = 0;
    }
    return MR_OK;
}

mr_status mr_stream_current(mr_device *device, mr_stream **out)
{
    const struct thread_state *thread = &this_thread;
    *out = NULL;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_stream_current: device is NULL");
    const size_t place = find_top(thread, device);
    if (!place)
        return mr_stream_default(device, MR_STREAM_PER_THREAD, out);
    *out = thread->pushed[place - 1];
    return MR_OK;
}
