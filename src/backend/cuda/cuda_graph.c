/* SPDX-License-Identifier: MIT */
/*
 * Plans: driver graphs that are shared until somebody changes one, the numbers of their nodes, and the
 * calls in them bound to a replay.
 */
#include "backend/cuda/cuda_graph.h"

#include "base/alloc.h"

/* ---- shared graphs ---- */

mr_status mr__cuda_graph_adopt(const struct cuda_device *device, CUgraph driver_graph,
                               struct cuda_graph **out)
{
    *out = NULL;
    struct cuda_graph *graph = mr__zalloc(sizeof *graph);
    if (!graph) {
        (void)device->cu->cuGraphDestroy(driver_graph);
        return mr__cuda_no_heap("a graph");
    }
    graph->device = device;
    graph->graph = driver_graph;
    atomic_init(&graph->holder_count, 1);
    pthread_mutex_init(&graph->lock, NULL);
    *out = graph;
    return MR_OK;
}

struct cuda_graph *mr__cuda_graph_hold(struct cuda_graph *graph)
{
    atomic_fetch_add_explicit(&graph->holder_count, 1, memory_order_relaxed);
    return graph;
}

void mr__cuda_graph_drop(struct cuda_graph *graph)
{
    if (!graph || atomic_fetch_sub_explicit(&graph->holder_count, 1, memory_order_acq_rel) != 1)
        return;
    bool is_pushed;
    (void)mr__cuda_enter(graph->device, &is_pushed);
    (void)graph->device->cu->cuGraphDestroy(graph->graph);
    mr__cuda_leave(graph->device, is_pushed);
    pthread_mutex_destroy(&graph->lock);
    mr__free(graph->nodes);
    mr__free(graph);
}

static mr_status refuse_number(const struct cuda_graph *graph, CUresult result)
{
    return mr__cuda_error(graph->device->cu, result, "numbering the nodes of a graph on %s",
                          graph->device->properties.id);
}

/* The driver lists nodes in the order in which they were added. */
mr_status mr__cuda_graph_number(struct cuda_graph *graph)
{
    const struct cuda_symbols *cu = graph->device->cu;
    size_t count = 0;
    if (graph->nodes)
        return MR_OK;
    CUresult result = cu->cuGraphGetNodes(graph->graph, NULL, &count);
    if (result)
        return refuse_number(graph, result);
    CUgraphNode *nodes = mr__zalloc_array(count ? count : 1, sizeof *nodes);
    if (!nodes)
        return mr__cuda_no_heap("the nodes of a graph");
    if (count)
        result = cu->cuGraphGetNodes(graph->graph, nodes, &count);
    if (result) {
        mr__free(nodes);
        return refuse_number(graph, result);
    }
    graph->nodes = nodes;
    graph->node_count = count;
    graph->node_capacity = count ? count : 1;
    return MR_OK;
}

/* The copy's nodes have the numbers of the original's. */
static mr_status number_copy(const struct cuda_graph *graph, struct cuda_graph *copy)
{
    copy->node_capacity = graph->node_count + 1;
    copy->nodes = mr__zalloc_array(copy->node_capacity, sizeof *copy->nodes);
    if (!copy->nodes)
        return mr__cuda_no_heap("the nodes of a graph");
    for (size_t i = 0; i < graph->node_count; i++) {
        const CUresult result = graph->device->cu->cuGraphNodeFindInClone(
            &copy->nodes[i], graph->nodes[i], copy->graph);
        if (result)
            return refuse_number(copy, result);
    }
    copy->node_count = graph->node_count;
    copy->has_calls = graph->has_calls;
    return MR_OK;
}

/* With the lock of `graph`. */
static mr_status copy_locked(struct cuda_graph *graph, struct cuda_graph **out)
{
    *out = NULL;
    mr_status status = mr__cuda_graph_number(graph);
    if (status)
        return status;
    CUgraph driver_graph = NULL;
    const CUresult result = graph->device->cu->cuGraphClone(&driver_graph, graph->graph);
    if (result)
        return mr__cuda_error(graph->device->cu, result, "cloning a graph of %zu nodes on %s",
                              graph->node_count, graph->device->properties.id);
    struct cuda_graph *copy;
    status = mr__cuda_graph_adopt(graph->device, driver_graph, &copy);
    if (status)
        return status;
    status = number_copy(graph, copy);
    if (status) {
        mr__cuda_graph_drop(copy);
        return status;
    }
    *out = copy;
    return MR_OK;
}

static mr_status graph_copy(struct cuda_graph *graph, struct cuda_graph **out)
{
    pthread_mutex_lock(&graph->lock);
    const mr_status status = copy_locked(graph, out);
    pthread_mutex_unlock(&graph->lock);
    return status;
}

mr_status mr__cuda_graph_own(struct cuda_graph **inout)
{
    struct cuda_graph *graph = *inout;
    if (atomic_load_explicit(&graph->holder_count, memory_order_acquire) == 1)
        return mr__cuda_graph_number(graph);
    struct cuda_graph *copy;
    const mr_status status = graph_copy(graph, &copy);
    if (status)
        return status;
    mr__cuda_graph_drop(graph);
    *inout = copy;
    return MR_OK;
}

/* ---- calls ---- */

static _Atomic(CUhostFn) call_function;

void mr__cuda_call_note(CUhostFn function)
{
    atomic_store_explicit(&call_function, function, memory_order_relaxed);
}

static CUresult bind_call(const struct cuda_symbols *cu, CUgraphNode node,
                          const struct mr_binder *binder)
{
    CUDA_HOST_NODE_PARAMS call;
    const CUresult result = cu->cuGraphHostNodeGetParams(node, &call);
    if (result || call.fn != atomic_load_explicit(&call_function, memory_order_relaxed))
        return result;
    call.userData = binder->bind(binder->self, call.userData);
    return cu->cuGraphHostNodeSetParams(node, &call);
}

/* Those of a node that is a graph, too: it owns a copy, and lends it to be changed. */
static CUresult bind_nodes(const struct cuda_symbols *cu, CUgraph graph,
                           const struct mr_binder *binder)
{
    size_t count = 0;
    CUresult result = cu->cuGraphGetNodes(graph, NULL, &count);
    if (result || !count)
        return result;
    CUgraphNode *nodes = mr__zalloc_array(count, sizeof *nodes);
    if (!nodes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = cu->cuGraphGetNodes(graph, nodes, &count);
    for (size_t i = 0; i < count && !result; i++) {
        int type = -1;
        CUgraph child = NULL;
        result = cu->cuGraphNodeGetType(nodes[i], &type);
        if (!result && type == CU_GRAPH_NODE_TYPE_HOST)
            result = bind_call(cu, nodes[i], binder);
        if (!result && type == CU_GRAPH_NODE_TYPE_GRAPH)
            result = cu->cuGraphChildGraphNodeGetGraph(nodes[i], &child);
        if (!result && child)
            result = bind_nodes(cu, child, binder);
    }
    mr__free(nodes);
    return result;
}

mr_status mr__cuda_graph_bind(struct cuda_graph *graph, const struct mr_binder *binder,
                              struct cuda_graph **out)
{
    *out = NULL;
    if (!graph->has_calls) {
        *out = mr__cuda_graph_hold(graph);
        return MR_OK;
    }
    struct cuda_graph *copy;
    const mr_status status = graph_copy(graph, &copy);
    if (status)
        return status;
    const CUresult result = bind_nodes(graph->device->cu, copy->graph, binder);
    if (result) {
        mr__cuda_graph_drop(copy);
        return mr__cuda_error(graph->device->cu, result, "binding the host functions of a graph");
    }
    *out = copy;
    return MR_OK;
}

/* ---- plans ---- */

static mr_status plan_new(struct cuda_device *device, struct mr_plan **out)
{
    *out = NULL;
    struct cuda_plan *plan = mr__zalloc(sizeof *plan);
    if (!plan)
        return mr__cuda_no_heap("a graph");
    plan->base.ops = &mr__cuda_backend;
    plan->base.device = &device->base;
    *out = &plan->base;
    return MR_OK;
}

mr_status mr__cuda_plan_adopt(struct cuda_device *device, CUgraph driver_graph,
                              struct mr_plan **out)
{
    *out = NULL;
    struct cuda_graph *graph;
    mr_status status = mr__cuda_graph_adopt(device, driver_graph, &graph);
    if (status)
        return status;
    status = plan_new(device, out);
    if (status)
        mr__cuda_graph_drop(graph);
    else
        cuda_plan_from(*out)->graph = graph;
    return status;
}

mr_status mr__cuda_plan_create(struct mr_backend_device *base, struct mr_plan **out)
{
    *out = NULL;
    struct cuda_device *device = cuda_device_from(base);
    CUgraph graph = NULL;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuGraphCreate(&graph, 0);
    mr__cuda_leave(device, is_pushed);
    if (result)
        return mr__cuda_error(device->cu, result, "creating a graph on %s", device->properties.id);
    return mr__cuda_plan_adopt(device, graph, out);
}

mr_status mr__cuda_plan_clone(const struct mr_plan *base, struct mr_plan **out)
{
    const struct cuda_plan *plan = cuda_plan_from(base);
    const mr_status status = plan_new(cuda_device_from(base->device), out);
    if (!status)
        cuda_plan_from(*out)->graph = mr__cuda_graph_hold(plan->graph);
    return status;
}

void mr__cuda_plan_destroy(struct mr_plan *base)
{
    if (!base)
        return;
    struct cuda_plan *plan = cuda_plan_from(base);
    mr__cuda_graph_drop(plan->graph);
    mr__free(plan);
}

void mr__cuda_plan_size(const struct mr_plan *base, size_t *node_count, size_t *edge_count)
{
    struct cuda_graph *graph = cuda_plan_from(base)->graph;
    const struct cuda_symbols *cu = graph->device->cu;
    *node_count = *edge_count = 0;
    pthread_mutex_lock(&graph->lock);
    if (cu->cuGraphGetNodes(graph->graph, NULL, node_count))
        *node_count = 0;
    if (cu->cuGraphGetEdges(graph->graph, NULL, NULL, edge_count))
        *edge_count = 0;
    pthread_mutex_unlock(&graph->lock);
}
