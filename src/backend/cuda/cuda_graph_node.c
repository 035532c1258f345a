/* SPDX-License-Identifier: MIT */
/*
 * Nodes added to a plan one by one.
 */
#include "backend/cuda/cuda_graph.h"

#include "base/alloc.h"

/* Where a new node goes. */
struct place {
    const struct cuda_device *device;
    CUgraph graph;
    const CUgraphNode *after;
    size_t after_count;
};

static mr_status say(const struct place *at, CUresult result, const char *what)
{
    return mr__cuda_error(at->device->cu, result, "adding %s to a graph on %s", what,
                          at->device->properties.id);
}

static mr_status add_copy(const struct place *at, const struct mr_transfer *transfer,
                          CUgraphNode *node)
{
    CUDA_MEMCPY3D copy;
    const mr_status status = mr__cuda_copy_node(at->device, transfer, &copy);
    if (status)
        return status;
    return say(at,
               at->device->cu->cuGraphAddMemcpyNode(node, at->graph, at->after, at->after_count,
                                                    &copy, at->device->context),
               "a copy");
}

static mr_status add_fill(const struct place *at, const struct mr_work *work, CUgraphNode *node)
{
    CUDA_MEMSET_NODE_PARAMS fill;
    const mr_status status = mr__cuda_fill_node(at->device, work, &fill);
    if (status)
        return status;
    return say(at,
               at->device->cu->cuGraphAddMemsetNode(node, at->graph, at->after, at->after_count,
                                                    &fill, at->device->context),
               "a fill");
}

static mr_status add_launch(const struct place *at, const struct mr_work *work, CUgraphNode *node)
{
    CUDA_KERNEL_NODE_PARAMS kernel;
    const mr_status status =
        mr__cuda_kernel_node(work->as.launch.function, work->as.launch.launch, &kernel);
    if (status)
        return status;
    return say(
        at,
        at->device->cu->cuGraphAddKernelNode(node, at->graph, at->after, at->after_count, &kernel),
        "a kernel");
}

static mr_status add_call(const struct place *at, const struct mr_work *work, CUgraphNode *node)
{
    mr__cuda_call_note(work->as.call.function);
    const CUDA_HOST_NODE_PARAMS call = { .fn = work->as.call.function,
                                         .userData = work->as.call.context };
    return say(
        at, at->device->cu->cuGraphAddHostNode(node, at->graph, at->after, at->after_count, &call),
        "a host function");
}

/* The driver copies the child. A graph that others hold too may be read by them meanwhile. */
static mr_status add_plan(const struct place *at, const struct mr_plan *plan, CUgraphNode *node)
{
    struct cuda_graph *child = cuda_plan_from(plan)->graph;
    const bool is_other = child->graph != at->graph;
    if (is_other)
        pthread_mutex_lock(&child->lock);
    const CUresult result = at->device->cu->cuGraphAddChildGraphNode(node, at->graph, at->after,
                                                                     at->after_count, child->graph);
    if (is_other)
        pthread_mutex_unlock(&child->lock);
    return say(at, result, "a graph");
}

static mr_status add_work(const struct place *at, const struct mr_work *work, CUgraphNode *node)
{
    switch (work->kind) {
    case MR_WORK_COPY:
        return add_copy(at, work->as.transfer, node);
    case MR_WORK_FILL:
        return add_fill(at, work, node);
    case MR_WORK_LAUNCH:
        return add_launch(at, work, node);
    case MR_WORK_CALL:
        return add_call(at, work, node);
    case MR_WORK_PLAN:
        return add_plan(at, work->as.plan, node);
    case MR_WORK_EMPTY:
        break;
    }
    return say(at, at->device->cu->cuGraphAddEmptyNode(node, at->graph, at->after, at->after_count),
               "an empty node");
}

/* Room for one node more. */
static mr_status grow(struct cuda_graph *graph)
{
    if (graph->node_count < graph->node_capacity)
        return MR_OK;
    const size_t capacity = graph->node_capacity ? graph->node_capacity * 2 : 8;
    CUgraphNode *nodes = mr__zalloc_array(capacity, sizeof *nodes);
    if (!nodes)
        return mr__cuda_no_heap("the nodes of a graph");
    for (size_t i = 0; i < graph->node_count; i++)
        nodes[i] = graph->nodes[i];
    mr__free(graph->nodes);
    graph->nodes = nodes;
    graph->node_capacity = capacity;
    return MR_OK;
}

static bool has_calls(const struct mr_work *work)
{
    return work->kind == MR_WORK_CALL ||
           (work->kind == MR_WORK_PLAN && cuda_plan_from(work->as.plan)->graph->has_calls);
}

/* The nodes that are meant, each once: the driver refuses what is said twice. */
static size_t take_nodes(const struct cuda_graph *graph, const uint32_t *after, size_t after_count,
                         CUgraphNode *nodes)
{
    size_t count = 0;
    for (size_t i = 0; i < after_count; i++) {
        CUgraphNode node = graph->nodes[after[i] - 1];
        size_t k = 0;
        while (k < count && nodes[k] != node)
            k++;
        if (k == count)
            nodes[count++] = node;
    }
    return count;
}

static mr_status add_after(struct cuda_graph *graph, const struct mr_work *work,
                           const uint32_t *after, size_t after_count)
{
    mr_status status = grow(graph);
    if (status)
        return status;
    CUgraphNode few[8];
    CUgraphNode *nodes = few;
    if (after_count > sizeof few / sizeof *few)
        nodes = mr__zalloc_array(after_count, sizeof *nodes);
    if (!nodes)
        return mr__cuda_no_heap("the edges of a graph");
    const size_t count = take_nodes(graph, after, after_count, nodes);
    const struct place at = { .device = graph->device,
                              .graph = graph->graph,
                              .after = count ? nodes : NULL,
                              .after_count = count };
    status = add_work(&at, work, &graph->nodes[graph->node_count]);
    graph->node_count += !status;
    graph->has_calls = graph->has_calls || has_calls(work);
    if (nodes != few)
        mr__free(nodes);
    return status;
}

mr_status mr__cuda_plan_add(struct mr_plan *base, const struct mr_work *work, const uint32_t *after,
                            size_t after_count)
{
    struct cuda_plan *plan = cuda_plan_from(base);
    const struct cuda_device *device = cuda_device_from(base->device);
    bool is_pushed;
    const CUresult result = mr__cuda_enter(device, &is_pushed);
    mr_status status = result ? mr__cuda_error(device->cu, result, "entering the device's context")
                              : mr__cuda_graph_own(&plan->graph);
    if (!status)
        status = add_after(plan->graph, work, after, after_count);
    mr__cuda_leave(device, is_pushed);
    return status;
}
