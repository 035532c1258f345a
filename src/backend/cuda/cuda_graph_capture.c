/* SPDX-License-Identifier: MIT */
/*
 * Plans captured from streams, in the driver's thread-local mode: what other threads do disturbs no
 * capture, and no capture disturbs them.
 */
#include "backend/cuda/cuda_graph.h"

_Thread_local uint32_t mr__cuda_capture_count;
_Thread_local int mr__cuda_capture_mode;
_Thread_local bool mr__cuda_capture_has_calls;

/* What the thread comes back to after each of our own calls. */
static void mode_note(const struct cuda_symbols *cu)
{
    int mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    if (cu->cuThreadExchangeStreamCaptureMode(&mode))
        return;
    mr__cuda_capture_mode = mode;
    (void)cu->cuThreadExchangeStreamCaptureMode(&mode);
}

bool mr__cuda_asks_captured(const struct cuda_queue *queue)
{
    int state = CU_STREAM_CAPTURE_STATUS_NONE;
    bool is_pushed;
    CUresult result = mr__cuda_enter(queue->device, &is_pushed);
    if (!result)
        result = queue->device->cu->cuStreamIsCapturing(queue->stream, &state);
    mr__cuda_leave(queue->device, is_pushed);
    return !result && state != CU_STREAM_CAPTURE_STATUS_NONE;
}

mr_status mr__cuda_capture_begin(struct mr_queue *base)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    const struct cuda_device *device = queue->device;
    if (!mr__cuda_capture_count) {
        mode_note(device->cu);
        mr__cuda_capture_has_calls = false;
    }
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result =
            device->cu->cuStreamBeginCapture(queue->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    mr__cuda_leave(device, is_pushed);
    if (!result)
        mr__cuda_capture_count++;
    return mr__cuda_error(device->cu, result, "beginning a capture on %s", device->properties.id);
}

/* A stream that stayed in its capture could never be used again. */
static void capture_drop(struct cuda_queue *queue)
{
    CUgraph graph = NULL;
    if (!mr__cuda_asks_captured(queue))
        return;
    (void)queue->device->cu->cuStreamEndCapture(queue->stream, &graph);
    if (graph)
        (void)queue->device->cu->cuGraphDestroy(graph);
}

mr_status mr__cuda_capture_end(struct mr_queue *base, struct mr_plan **out)
{
    *out = NULL;
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    CUgraph graph = NULL;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuStreamEndCapture(queue->stream, &graph);
    if (result)
        capture_drop(queue);
    mr__cuda_leave(device, is_pushed);
    if (!--mr__cuda_capture_count)
        mr__cuda_captured_points_destroy();
    if (result)
        return mr__cuda_error(device->cu, result, "ending a capture on %s", device->properties.id);
    const mr_status status = mr__cuda_plan_adopt(device, graph, out);
    if (!status)
        cuda_plan_from(*out)->graph->has_calls = mr__cuda_capture_has_calls;
    return status;
}

/* The driver launches no executable into a capture, but takes a graph as a node after what the stream
 * has so far, and lets the stream go on after that node. */
static CUresult graph_insert(struct cuda_queue *queue, CUgraph child)
{
    const struct cuda_symbols *cu = queue->device->cu;
    int state = CU_STREAM_CAPTURE_STATUS_NONE;
    uint64_t id;
    CUgraph graph = NULL;
    const CUgraphNode *after = NULL;
    size_t after_count = 0;
    CUgraphNode node = NULL;
    CUresult result =
        cu->cuStreamGetCaptureInfo(queue->stream, &state, &id, &graph, &after, &after_count);
    if (!result && state != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (!result)
        result = cu->cuGraphAddChildGraphNode(&node, graph, after, after_count, child);
    if (!result)
        result = cu->cuStreamUpdateCaptureDependencies(queue->stream, &node, 1,
                                                       CU_STREAM_SET_CAPTURE_DEPENDENCIES);
    return result;
}

mr_status mr__cuda_capture_graph(struct cuda_queue *queue, struct cuda_graph *graph)
{
    const struct cuda_device *device = queue->device;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    pthread_mutex_lock(&graph->lock);
    if (!result)
        result = graph_insert(queue, graph->graph);
    pthread_mutex_unlock(&graph->lock);
    mr__cuda_leave(device, is_pushed);
    mr__cuda_capture_has_calls = mr__cuda_capture_has_calls || graph->has_calls;
    return mr__cuda_error(device->cu, result, "recording the launch of a graph on %s",
                          device->properties.id);
}
