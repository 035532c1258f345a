/* SPDX-License-Identifier: MIT */
/*
 * Streams of the stand-in driver that record instead of doing: who is drawn in, what a capture does
 * not allow, and how it ends. The answers are the real driver's (580).
 */
#include "support/fakecuda/fake.h"

#include <stdlib.h>
#include <string.h>

struct capture {
    int references;
    uint64_t id;
    CUgraph graph;
    struct CUstream_st *origin;
    pthread_t thread;
    int mode;
    bool is_broken, is_over;
    struct capture *next; /* of all that run */
};

static struct capture *running; /* under the lock */
static uint64_t last_id;
static _Thread_local int thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

static struct capture *capture_hold(struct capture *capture)
{
    if (capture)
        capture->references++;
    return capture;
}

static void capture_drop(struct capture *capture)
{
    if (capture && !--capture->references)
        free(capture);
}

/* ---- frontiers ---- */

void fake_frontier_clear(struct frontier *frontier)
{
    capture_drop(frontier->capture);
    free(frontier->nodes);
    *frontier = (struct frontier){ 0 };
}

static void frontier_add(struct frontier *frontier, struct CUgraphNode_st *node)
{
    for (size_t i = 0; i < frontier->count; i++)
        if (frontier->nodes[i] == node)
            return;
    frontier->nodes =
        realloc(frontier->nodes, (frontier->count + 1) * sizeof(struct CUgraphNode_st *));
    if (!frontier->nodes)
        abort();
    frontier->nodes[frontier->count++] = node;
}

void fake_frontier_copy(struct frontier *to, const struct frontier *from)
{
    struct frontier copy = { .capture = capture_hold(from->capture) };
    for (size_t i = 0; i < from->count; i++)
        frontier_add(&copy, from->nodes[i]);
    fake_frontier_clear(to);
    *to = copy;
}

bool fake_frontier_is_open(const struct frontier *frontier)
{
    return frontier->capture && !frontier->capture->is_over;
}

bool fake_frontier_is_others(const struct frontier *frontier)
{
    return fake_frontier_is_open(frontier) &&
           !pthread_equal(frontier->capture->thread, pthread_self());
}

static CUresult capture_break(struct capture *capture, CUresult reason)
{
    if (!capture->is_over)
        capture->is_broken = true;
    return reason;
}

CUresult fake_frontier_join(struct CUstream_st *stream, const struct frontier *event)
{
    struct capture *own = stream->frontier.capture;
    if (!event->capture)
        return capture_break(own, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (!fake_frontier_is_open(event))
        return own ? capture_break(own, CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
                   : CUDA_ERROR_CAPTURED_EVENT;
    if (event->capture->is_broken)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (stream == stream->context->legacy)
        return capture_break(event->capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    if (own && own != event->capture) {
        capture_break(own, CUDA_ERROR_STREAM_CAPTURE_MERGE);
        return capture_break(event->capture, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    if (!own)
        stream->frontier.capture = capture_hold(event->capture);
    for (size_t i = 0; i < event->count; i++)
        frontier_add(&stream->frontier, event->nodes[i]);
    return CUDA_SUCCESS;
}

/* ---- what a capture does not allow ---- */

static bool has_captured_blocking(CUcontext context, struct capture **out)
{
    for (struct CUstream_st *stream = context->streams; stream; stream = stream->next)
        if (stream->is_blocking && stream->frontier.capture) {
            *out = stream->frontier.capture;
            return true;
        }
    return false;
}

CUresult fake_capture_admit(struct CUstream_st *stream)
{
    struct capture *capture = stream->frontier.capture;
    if (capture)
        return capture->is_broken ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
    if (stream == stream->context->legacy && has_captured_blocking(stream->context, &capture))
        return capture_break(capture, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
    return CUDA_SUCCESS;
}

CUresult fake_capture_forbid(struct CUstream_st *stream)
{
    struct capture *capture = stream->frontier.capture;
    return capture ? capture_break(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED) : CUDA_SUCCESS;
}

CUresult fake_capture_forbid_event(const struct frontier *event)
{
    return event->capture ? capture_break(event->capture, CUDA_ERROR_CAPTURED_EVENT) : CUDA_SUCCESS;
}

CUresult fake_capture_forbid_unsafe(void)
{
    CUresult result = CUDA_SUCCESS;
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return result;
    for (struct capture *capture = running; capture; capture = capture->next) {
        const bool is_mine = pthread_equal(capture->thread, pthread_self()) &&
                             capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED;
        const bool is_everybodys = capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL &&
                                   thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
        if (is_mine || is_everybodys)
            result = capture_break(capture, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    }
    return result;
}

FAKE_API CUresult cuThreadExchangeStreamCaptureMode(int *mode)
{
    FAKE_CALL("mode=%d", *mode);
    const int before = thread_mode;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}

/* ---- recording ---- */

static int node_type(const struct operation *operation)
{
    switch (operation->kind) {
    case OPERATION_COPY:
        return CU_GRAPH_NODE_TYPE_MEMCPY;
    case OPERATION_FILL:
        return CU_GRAPH_NODE_TYPE_MEMSET;
    case OPERATION_LAUNCH:
        return CU_GRAPH_NODE_TYPE_KERNEL;
    case OPERATION_HOST:
        return CU_GRAPH_NODE_TYPE_HOST;
    default:
        return CU_GRAPH_NODE_TYPE_EMPTY;
    }
}

void fake_capture_add(struct CUstream_st *stream, struct operation *operation)
{
    struct frontier *frontier = &stream->frontier;
    struct CUgraphNode_st *node = fake_graph_add(frontier->capture->graph, node_type(operation),
                                                 operation, frontier->nodes, frontier->count);
    frontier->count = 0;
    frontier_add(frontier, node);
}

static CUresult capture_start(struct CUstream_st *stream, int mode)
{
    if (stream == stream->context->legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream->frontier.capture)
        return capture_break(stream->frontier.capture, CUDA_ERROR_INVALID_VALUE);
    struct capture *capture = calloc(1, sizeof *capture);
    if (!capture)
        abort();
    *capture = (struct capture){ .references = 2,
                                 .id = ++last_id,
                                 .graph = fake_graph_new(),
                                 .origin = stream,
                                 .thread = pthread_self(),
                                 .mode = mode,
                                 .next = running };
    running = capture;
    stream->frontier.capture = capture;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuStreamBeginCapture_v2(CUstream handle, int mode)
{
    FAKE_CALL("stream=%p mode=%d", (void *)handle, mode);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    if (stream)
        result = capture_start(stream, mode);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

/* Every stream that was drawn in has ended before where the origin stands. */
static bool is_joined(const struct capture *capture)
{
    const struct frontier *end = &capture->origin->frontier;
    for (int i = 0; i < DEVICE_LIMIT; i++) {
        CUcontext context = fake_context(i);
        for (struct CUstream_st *stream = context ? context->streams : NULL; stream;
             stream = stream->next) {
            if (stream->frontier.capture != capture)
                continue;
            for (size_t k = 0; k < stream->frontier.count; k++)
                if (!fake_graph_leads(stream->frontier.nodes[k], end->nodes, end->count))
                    return false;
        }
    }
    return true;
}

static void streams_let_go(struct capture *capture)
{
    for (int i = 0; i < DEVICE_LIMIT; i++) {
        CUcontext context = fake_context(i);
        for (struct CUstream_st *stream = context ? context->streams : NULL; stream;
             stream = stream->next)
            if (stream->frontier.capture == capture)
                fake_frontier_clear(&stream->frontier);
    }
}

static CUresult capture_finish(struct capture *capture, CUgraph *out)
{
    CUresult result = CUDA_SUCCESS;
    if (capture->is_broken)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else if (!is_joined(capture))
        result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;

    struct capture **place = &running;
    while (*place != capture)
        place = &(*place)->next;
    *place = capture->next;
    capture->is_over = true;
    streams_let_go(capture);
    if (result)
        fake_graph_free(capture->graph);
    else
        *out = capture->graph;
    capture->graph = NULL;
    capture_drop(capture);
    return result;
}

/* The device has failed: the thread may go on with others. */
static void capture_abandon(const struct CUstream_st *stream)
{
    struct capture *capture = stream->frontier.capture;
    CUgraph graph = NULL;
    if (!capture || capture->origin != stream)
        return;
    capture_finish(capture, &graph);
    fake_graph_free(graph);
}

FAKE_API CUresult cuStreamEndCapture(CUstream handle, CUgraph *out)
{
    FAKE_CALL("stream=%p", (void *)handle);
    *out = NULL;
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    struct capture *capture = stream ? stream->frontier.capture : NULL;
    if (result && handle > CU_STREAM_PER_THREAD && result != CUDA_ERROR_INVALID_HANDLE)
        capture_abandon(handle);
    else if (!result && !capture)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (!result && capture->origin != stream)
        result = capture_break(capture, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    else if (!result && capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
             !pthread_equal(capture->thread, pthread_self()))
        result = CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    else if (!result)
        result = capture_finish(capture, out);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

static int state_of(const struct capture *capture)
{
    if (!capture)
        return CU_STREAM_CAPTURE_STATUS_NONE;
    return capture->is_broken ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                              : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

FAKE_API CUresult cuStreamIsCapturing(CUstream handle, int *state)
{
    FAKE_CALL("stream=%p", (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    *state = state_of(stream ? stream->frontier.capture : NULL);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuStreamGetCaptureInfo_v2(CUstream handle, int *state, uint64_t *id,
                                            CUgraph *graph, const CUgraphNode **after,
                                            size_t *after_count)
{
    FAKE_CALL("stream=%p", (void *)handle);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream(handle, &result);
    const struct frontier *frontier = stream ? &stream->frontier : NULL;
    *state = state_of(frontier ? frontier->capture : NULL);
    if (*state == CU_STREAM_CAPTURE_STATUS_ACTIVE) {
        *id = frontier->capture->id;
        *graph = frontier->capture->graph;
        *after = frontier->nodes;
        *after_count = frontier->count;
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode *nodes,
                                                    size_t count, unsigned flags)
{
    FAKE_CALL("stream=%p count=%zu flags=%u", (void *)handle, count, flags);
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    if (!result && !stream->frontier.capture)
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result && flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
        stream->frontier.count = 0;
    for (size_t i = 0; i < count && !result; i++)
        frontier_add(&stream->frontier, nodes[i]);
    pthread_mutex_unlock(&fake_lock);
    return result;
}
