/* SPDX-License-Identifier: MIT */
/*
 * Replays: plans made ready, updated in place, launched.
 */
#include "backend/cuda/cuda_graph.h"

#include "base/alloc.h"

static struct cuda_replay *replay_from(const struct mr_replay *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_replay *)(uintptr_t)base;
}

/* ---- making and ending ---- */

void mr__cuda_replay_destroy(struct mr_replay *base)
{
    if (!base)
        return;
    struct cuda_replay *replay = replay_from(base);
    bool is_pushed;
    (void)mr__cuda_enter(replay->device, &is_pushed);
    if (replay->executable)
        (void)replay->device->cu->cuGraphExecDestroy(replay->executable);
    mr__cuda_leave(replay->device, is_pushed);
    mr__cuda_graph_drop(replay->content);
    mr__cuda_graph_drop(replay->form);
    mr__free(replay);
}

/* With the context current. */
static mr_status replay_build(struct cuda_replay *replay, const struct mr_plan *plan,
                              const struct mr_binder *binder)
{
    const struct cuda_device *device = replay->device;
    const mr_status status =
        mr__cuda_graph_bind(cuda_plan_from(plan)->graph, binder, &replay->form);
    if (status)
        return status;
    replay->content = mr__cuda_graph_hold(replay->form);
    pthread_mutex_lock(&replay->form->lock);
    const CUresult result =
        device->cu->cuGraphInstantiate(&replay->executable, replay->form->graph, 0);
    pthread_mutex_unlock(&replay->form->lock);
    return mr__cuda_error(device->cu, result, "instantiating a graph on %s", device->properties.id);
}

mr_status mr__cuda_replay_create(const struct mr_plan *plan, const struct mr_binder *binder,
                                 struct mr_replay **out)
{
    *out = NULL;
    struct cuda_replay *replay = mr__zalloc(sizeof *replay);
    if (!replay)
        return mr__cuda_no_heap("an executable graph");
    replay->base.ops = &mr__cuda_backend;
    replay->base.device = plan->device;
    replay->device = cuda_device_from(plan->device);

    bool is_pushed;
    const CUresult result = mr__cuda_enter(replay->device, &is_pushed);
    const mr_status status =
        result ? mr__cuda_error(replay->device->cu, result, "entering the device's context")
               : replay_build(replay, plan, binder);
    mr__cuda_leave(replay->device, is_pushed);
    if (status) {
        mr__cuda_replay_destroy(&replay->base);
        return status;
    }
    *out = &replay->base;
    return MR_OK;
}

/* ---- updates ---- */

static const char *refusal_words(int reason)
{
    switch (reason) {
    case CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED:
        return "other nodes or another order";
    case CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED:
        return "work of another kind";
    case CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED:
        return "another kind or device of memory, or a copy or fill of a form that does not fit";
    case CU_GRAPH_EXEC_UPDATE_ERROR_FUNCTION_CHANGED:
    case CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE:
        return "a kernel that cannot take the other's place";
    case CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED:
        return "other launch attributes";
    case CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED:
        return "work that cannot be updated";
    default:
        return "for no reason that the driver names";
    }
}

/* The number of a node, 0 when it is none of the graph's own (a child's). Under the graph's lock. */
static uint32_t number_of(struct cuda_graph *graph, CUgraphNode node)
{
    if (!node || mr__cuda_graph_number(graph))
        return 0;
    for (size_t i = 0; i < graph->node_count; i++)
        if (graph->nodes[i] == node)
            return (uint32_t)i + 1;
    return 0;
}

static mr_status refuse_update(const struct cuda_replay *replay, int reason, uint32_t node)
{
    const char *id = replay->device->properties.id;
    if (!node)
        return mr_error_set(MR_E_MISMATCH,
                            "updating an executable graph on %s: refused, the graph differs in "
                            "form: %s",
                            id, refusal_words(reason));
    return mr_error_set(MR_E_MISMATCH,
                        "updating an executable graph on %s: refused, node %u differs in form: %s",
                        id, node, refusal_words(reason));
}

/* With the context current. `graph` has its calls bound. */
static mr_status update_to(struct cuda_replay *replay, struct cuda_graph *graph)
{
    const struct cuda_device *device = replay->device;
    CUgraphExecUpdateResultInfo info = { 0 };
    uint32_t node = 0;
    pthread_mutex_lock(&graph->lock);
    const CUresult result = device->cu->cuGraphExecUpdate(replay->executable, graph->graph, &info);
    if (result == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        node = number_of(graph, info.errorNode);
    pthread_mutex_unlock(&graph->lock);
    if (result == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        return refuse_update(replay, info.result, node);
    return mr__cuda_error(device->cu, result, "updating an executable graph on %s",
                          device->properties.id);
}

static mr_status update_bound(struct cuda_replay *replay, const struct mr_plan *plan,
                              const struct mr_binder *binder)
{
    struct cuda_graph *graph;
    mr_status status = mr__cuda_graph_bind(cuda_plan_from(plan)->graph, binder, &graph);
    if (status)
        return status;
    status = update_to(replay, graph);
    if (status) {
        mr__cuda_graph_drop(graph);
        return status;
    }
    mr__cuda_graph_drop(replay->content);
    replay->content = graph;
    return MR_OK;
}

mr_status mr__cuda_replay_update(struct mr_replay *base, const struct mr_plan *plan,
                                 const struct mr_binder *binder)
{
    struct cuda_replay *replay = replay_from(base);
    bool is_pushed;
    const CUresult result = mr__cuda_enter(replay->device, &is_pushed);
    const mr_status status =
        result ? mr__cuda_error(replay->device->cu, result, "entering the device's context")
               : update_bound(replay, plan, binder);
    mr__cuda_leave(replay->device, is_pushed);
    return status;
}

/* The executable first, as it may refuse; then what a launch into a capture will copy. */
static CUresult set_kernel(struct cuda_replay *replay, uint32_t node,
                           const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    const struct cuda_symbols *cu = replay->device->cu;
    struct cuda_graph *form = replay->form;
    pthread_mutex_lock(&form->lock);
    CUresult result =
        cu->cuGraphExecKernelNodeSetParams(replay->executable, form->nodes[node - 1], kernel);
    pthread_mutex_unlock(&form->lock);
    if (result)
        return result;
    return cu->cuGraphKernelNodeSetParams(replay->content->nodes[node - 1], kernel);
}

static mr_status update_launch(struct cuda_replay *replay, uint32_t node,
                               struct mr_function *function,
                               const struct mr_function_launch *launch)
{
    pthread_mutex_lock(&replay->form->lock);
    mr_status status = mr__cuda_graph_number(replay->form);
    pthread_mutex_unlock(&replay->form->lock);
    if (!status)
        status = mr__cuda_graph_own(&replay->content);
    CUDA_KERNEL_NODE_PARAMS kernel;
    if (!status)
        status = mr__cuda_kernel_node(function, launch, &kernel);
    if (status)
        return status;
    const struct cuda_device *device = replay->device;
    const CUresult result = set_kernel(replay, node, &kernel);
    if (mr__cuda_status(result) == MR_E_MISMATCH)
        return mr_error_set(MR_E_MISMATCH, "updating node %u of an executable graph on %s: %s",
                            node, device->properties.id,
                            refusal_words(CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE));
    return mr__cuda_error(device->cu, result, "updating node %u of an executable graph on %s", node,
                          device->properties.id);
}

mr_status mr__cuda_replay_update_launch(struct mr_replay *base, uint32_t node,
                                        struct mr_function *function,
                                        const struct mr_function_launch *launch)
{
    struct cuda_replay *replay = replay_from(base);
    const struct cuda_device *device = replay->device;
    bool is_pushed;
    const CUresult result = mr__cuda_enter(device, &is_pushed);
    const mr_status status =
        result ? mr__cuda_error(device->cu, result, "entering the device's context")
               : update_launch(replay, node, function, launch);
    mr__cuda_leave(device, is_pushed);
    return status;
}

/* ---- launches ---- */

static CUresult launch_bound(struct cuda_replay *replay, struct cuda_queue *queue)
{
    bool is_pushed;
    CUresult result = mr__cuda_enter(replay->device, &is_pushed);
    if (!result)
        result = replay->device->cu->cuGraphLaunch(replay->executable, queue->stream);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(replay->device, is_pushed);
    return result;
}

static CUresult launch(struct cuda_replay *replay, struct cuda_queue *queue)
{
    if (mr__cuda_is_unbound(queue)) {
        const CUresult result =
            replay->device->cu->cuGraphLaunch(replay->executable, queue->stream);
        if (!mr__cuda_misses_context(queue->device, result))
            return result;
    }
    return launch_bound(replay, queue);
}

mr_status mr__cuda_replay_launch(struct mr_replay *base, struct mr_queue *queue_base)
{
    struct cuda_replay *replay = replay_from(base);
    struct cuda_queue *queue = cuda_queue_from(queue_base);
    if (mr__cuda_is_captured(queue))
        return mr__cuda_capture_graph(queue, replay->content);
    const CUresult result = launch(replay, queue);
    if (__builtin_expect(!result, 1))
        return MR_OK;
    return mr__cuda_error(replay->device->cu, result, "launching an executable graph on %s",
                          replay->device->properties.id);
}

mr_status mr__cuda_replay_upload(struct mr_replay *base, struct mr_queue *queue_base)
{
    struct cuda_replay *replay = replay_from(base);
    struct cuda_queue *queue = cuda_queue_from(queue_base);
    bool is_pushed;
    CUresult result = mr__cuda_enter(replay->device, &is_pushed);
    if (!result)
        result = replay->device->cu->cuGraphUpload(replay->executable, queue->stream);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_leave(replay->device, is_pushed);
    return mr__cuda_error(replay->device->cu, result, "uploading an executable graph to %s",
                          replay->device->properties.id);
}

/* The driver does not say. */
uint64_t mr__cuda_replay_memory(const struct mr_replay *base)
{
    (void)base;
    return 0;
}
