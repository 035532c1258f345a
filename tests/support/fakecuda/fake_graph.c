/* SPDX-License-Identifier: MIT */
/*
 * The stand-in driver's graphs: nodes and their order, executables made of them, updates with the real
 * driver's refusals, and launches, which run an executable's nodes as operations of a stream.
 */
#include "support/fakecuda/fake.h"

#include <stdlib.h>
#include <string.h>

enum { GRAPH_MAGIC = 0x64a9, EXECUTABLE_MAGIC = 0xe8ec };

struct CUgraphNode_st {
    int type;
    size_t index; /* in its graph */
    CUgraph graph;
    struct operation *operation; /* what it does; never started itself */
    CUgraph child;               /* of a graph node */
    struct CUgraphNode_st **after;
    size_t after_count;
    const struct CUgraphNode_st *origin; /* what it was cloned from */
};

struct CUgraph_st {
    uint32_t magic;
    struct CUgraphNode_st **nodes;
    size_t count;
};

struct CUgraphExec_st {
    uint32_t magic;
    CUcontext context;
    CUgraph graph;          /* its own */
    struct operation *last; /* the end of its last launch; one reference */
};

/* ---- graphs ---- */

CUgraph fake_graph_new(void)
{
    CUgraph graph = calloc(1, sizeof *graph);
    if (!graph)
        abort();
    graph->magic = GRAPH_MAGIC;
    fake_live_add(1);
    return graph;
}

void fake_graph_free(CUgraph graph)
{
    if (!graph)
        return;
    for (size_t i = 0; i < graph->count; i++) {
        fake_unref(graph->nodes[i]->operation);
        fake_graph_free(graph->nodes[i]->child);
        free(graph->nodes[i]->after);
        free(graph->nodes[i]);
    }
    graph->magic = 0;
    fake_live_add(-1);
    free(graph->nodes);
    free(graph);
}

struct CUgraphNode_st *fake_graph_add(CUgraph graph, int type, struct operation *operation,
                                      struct CUgraphNode_st *const *after, size_t after_count)
{
    struct CUgraphNode_st *node = calloc(1, sizeof *node);
    graph->nodes = realloc(graph->nodes, (graph->count + 1) * sizeof *graph->nodes);
    if (!node || !graph->nodes)
        abort();
    *node = (struct CUgraphNode_st){ .type = type,
                                     .index = graph->count,
                                     .graph = graph,
                                     .operation = operation,
                                     .after = calloc(after_count + 1, sizeof *after),
                                     .after_count = after_count };
    if (!node->after)
        abort();
    if (after_count)
        memcpy(node->after, after, after_count * sizeof *after);
    graph->nodes[graph->count++] = node;
    return node;
}

bool fake_graph_leads(const struct CUgraphNode_st *node, struct CUgraphNode_st *const *ends,
                      size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (ends[i] == node || (ends[i]->index > node->index &&
                                fake_graph_leads(node, ends[i]->after, ends[i]->after_count)))
            return true;
    return false;
}

/* What an operation is to do, without what it has done. */
static struct operation *operation_copy(const struct operation *from)
{
    struct operation *copy = fake_operation(from->kind, from->context);
    copy->rows = from->rows;
    copy->value = from->value;
    copy->value_bytes = from->value_bytes;
    copy->function = from->function;
    copy->argument = from->argument;
    copy->kernel = from->kernel;
    memcpy(copy->grid, from->grid, sizeof copy->grid);
    memcpy(copy->block, from->block, sizeof copy->block);
    memcpy(copy->storage, from->storage, sizeof copy->storage);
    return copy;
}

static CUgraph graph_clone(CUgraph from)
{
    CUgraph graph = fake_graph_new();
    for (size_t i = 0; i < from->count; i++) {
        const struct CUgraphNode_st *other = from->nodes[i];
        struct CUgraphNode_st *node = fake_graph_add(
            graph, other->type, operation_copy(other->operation), other->after, other->after_count);
        for (size_t k = 0; k < node->after_count; k++)
            node->after[k] = graph->nodes[other->after[k]->index];
        node->child = other->child ? graph_clone(other->child) : NULL;
        node->origin = other;
    }
    return graph;
}

static bool is_graph(CUgraph graph)
{
    return graph && graph->magic == GRAPH_MAGIC;
}

FAKE_API CUresult cuGraphCreate(CUgraph *out, unsigned flags)
{
    FAKE_CALL("flags=%u", flags);
    pthread_mutex_lock(&fake_lock);
    *out = fake_graph_new();
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphClone(CUgraph *out, CUgraph graph)
{
    FAKE_CALL("graph=%p", (void *)graph);
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    *out = graph_clone(graph);
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphDestroy(CUgraph graph)
{
    FAKE_CALL("graph=%p", (void *)graph);
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    fake_graph_free(graph);
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    FAKE_CALL("graph=%p", (void *)graph);
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    if (!nodes) {
        *count = graph->count;
        return CUDA_SUCCESS;
    }
    for (size_t i = 0; i < *count; i++)
        nodes[i] = i < graph->count ? graph->nodes[i] : NULL;
    *count = *count < graph->count ? *count : graph->count;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
    FAKE_CALL("graph=%p", (void *)graph);
    if (!is_graph(graph) || !from != !to)
        return CUDA_ERROR_INVALID_VALUE;
    size_t found = 0;
    for (size_t i = 0; i < graph->count; i++)
        for (size_t k = 0; k < graph->nodes[i]->after_count; k++, found++)
            if (from && found < *count) {
                from[found] = graph->nodes[i]->after[k];
                to[found] = graph->nodes[i];
            }
    *count = found;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphNodeGetType(CUgraphNode node, int *type)
{
    FAKE_CALL("node=%p", (void *)node);
    *type = node->type;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphNodeFindInClone(CUgraphNode *out, CUgraphNode node, CUgraph clone)
{
    FAKE_CALL("node=%p clone=%p", (void *)node, (void *)clone);
    *out = NULL;
    for (size_t i = 0; is_graph(clone) && i < clone->count; i++)
        if (clone->nodes[i]->origin == node)
            *out = clone->nodes[i];
    return *out ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- nodes ---- */

static bool are_of(CUgraph graph, const CUgraphNode *after, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!after[i] || after[i]->graph != graph)
            return false;
        for (size_t k = 0; k < i; k++)
            if (after[k] == after[i])
                return false;
    }
    return is_graph(graph);
}

/* Takes the operation when all is well. */
static CUresult node_add(CUgraphNode *out, CUgraph graph, const CUgraphNode *after, size_t count,
                         int type, struct operation *operation)
{
    *out = NULL;
    pthread_mutex_lock(&fake_lock);
    const bool is_right = are_of(graph, after, count);
    if (is_right)
        *out = fake_graph_add(graph, type, operation, after, count);
    else
        fake_unref(operation);
    pthread_mutex_unlock(&fake_lock);
    return is_right ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static struct operation *operation_new(enum operation_kind kind)
{
    return fake_operation(kind, fake_current() ? fake_current() : fake_context(0));
}

static CUresult kernel_fill(struct operation *operation, const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    const unsigned grid[3] = { kernel->gridDimX, kernel->gridDimY, kernel->gridDimZ };
    const unsigned block[3] = { kernel->blockDimX, kernel->blockDimY, kernel->blockDimZ };
    operation->context = fake_launch_context(kernel->func);
    return kernel->extra ? CUDA_ERROR_INVALID_VALUE
                         : fake_launch_fill(operation, kernel->func, grid, block,
                                            kernel->sharedMemBytes, kernel->kernelParams);
}

FAKE_API CUresult cuGraphAddKernelNode_v2(CUgraphNode *out, CUgraph graph, const CUgraphNode *after,
                                          size_t count, const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    FAKE_CALL("graph=%p after=%zu function=%p", (void *)graph, count, (void *)kernel->func);
    struct operation *operation = operation_new(OPERATION_LAUNCH);
    const CUresult result = kernel_fill(operation, kernel);
    if (!result)
        return node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_KERNEL, operation);
    fake_unref(operation);
    return result;
}

/* A side must be the kind of memory that it is said to be. */
static bool side_read(int type, const void *host, CUdeviceptr device, size_t pitch,
                      const CUDA_MEMCPY3D *copy, CUdeviceptr *out)
{
    *out = type == CU_MEMORYTYPE_HOST ? (CUdeviceptr)(uintptr_t)host : device;
    const struct place place = fake_place(*out, (copy->Height - 1) * pitch + copy->WidthInBytes);
    return place.bytes && pitch >= copy->WidthInBytes &&
           place.is_device == (type == CU_MEMORYTYPE_DEVICE);
}

FAKE_API CUresult cuGraphAddMemcpyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after,
                                       size_t count, const CUDA_MEMCPY3D *copy, CUcontext context)
{
    FAKE_CALL("graph=%p after=%zu rows=%zu bytes=%zu", (void *)graph, count, copy->Height,
              copy->WidthInBytes);
    struct rows rows = { .target_pitch = copy->dstPitch,
                         .source_pitch = copy->srcPitch,
                         .row_bytes = copy->WidthInBytes,
                         .row_count = copy->Height };
    pthread_mutex_lock(&fake_lock);
    const bool is_right = context && copy->Depth == 1 && copy->Height &&
                          side_read(copy->dstMemoryType, copy->dstHost, copy->dstDevice,
                                    copy->dstPitch, copy, &rows.target) &&
                          side_read(copy->srcMemoryType, copy->srcHost, copy->srcDevice,
                                    copy->srcPitch, copy, &rows.source);
    pthread_mutex_unlock(&fake_lock);
    if (!is_right)
        return CUDA_ERROR_INVALID_VALUE;
    struct operation *operation = fake_operation(OPERATION_COPY, context);
    operation->rows = rows;
    return node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_MEMCPY, operation);
}

FAKE_API CUresult cuGraphAddMemsetNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after,
                                       size_t count, const CUDA_MEMSET_NODE_PARAMS *fill,
                                       CUcontext context)
{
    FAKE_CALL("graph=%p after=%zu address=%llx width=%zu", (void *)graph, count, fill->dst,
              fill->width);
    const size_t size_bytes = fill->width * fill->elementSize;
    pthread_mutex_lock(&fake_lock);
    const struct place target = fake_place(fill->dst, size_bytes);
    pthread_mutex_unlock(&fake_lock);
    if (!context || fill->height != 1 || !target.bytes || target.is_pageable ||
        fill->dst % fill->elementSize)
        return CUDA_ERROR_INVALID_VALUE;
    struct operation *operation = fake_operation(OPERATION_FILL, context);
    operation->rows = (struct rows){ .target = fill->dst, .row_bytes = size_bytes, .row_count = 1 };
    operation->value = fill->value;
    operation->value_bytes = fill->elementSize;
    return node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_MEMSET, operation);
}

FAKE_API CUresult cuGraphAddHostNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after,
                                     size_t count, const CUDA_HOST_NODE_PARAMS *call)
{
    FAKE_CALL("graph=%p after=%zu argument=%p", (void *)graph, count, call->userData);
    struct operation *operation = operation_new(OPERATION_HOST);
    operation->function = call->fn;
    operation->argument = call->userData;
    return node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_HOST, operation);
}

FAKE_API CUresult cuGraphAddEmptyNode(CUgraphNode *out, CUgraph graph, const CUgraphNode *after,
                                      size_t count)
{
    FAKE_CALL("graph=%p after=%zu", (void *)graph, count);
    return node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_EMPTY,
                    operation_new(OPERATION_MARK));
}

FAKE_API CUresult cuGraphAddChildGraphNode(CUgraphNode *out, CUgraph graph,
                                           const CUgraphNode *after, size_t count, CUgraph child)
{
    FAKE_CALL("graph=%p after=%zu child=%p", (void *)graph, count, (void *)child);
    if (!is_graph(child))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    CUgraph copy = graph_clone(child);
    pthread_mutex_unlock(&fake_lock);
    CUresult result =
        node_add(out, graph, after, count, CU_GRAPH_NODE_TYPE_GRAPH, operation_new(OPERATION_MARK));
    pthread_mutex_lock(&fake_lock);
    if (result)
        fake_graph_free(copy);
    else
        (*out)->child = copy;
    pthread_mutex_unlock(&fake_lock);
    return result;
}

/* Fills a fresh operation first, so that a refusal changes nothing. */
static CUresult kernel_set(struct CUgraphNode_st *node, const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    if (node->type != CU_GRAPH_NODE_TYPE_KERNEL ||
        fake_launch_context(kernel->func) != node->operation->context)
        return CUDA_ERROR_INVALID_VALUE;
    struct operation *operation = operation_new(OPERATION_LAUNCH);
    const CUresult result = kernel_fill(operation, kernel);
    pthread_mutex_lock(&fake_lock);
    fake_unref(result ? operation : node->operation);
    if (!result)
        node->operation = operation;
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuGraphKernelNodeSetParams_v2(CUgraphNode node,
                                                const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    FAKE_CALL("node=%p function=%p", (void *)node, (void *)kernel->func);
    return kernel_set(node, kernel);
}

static bool is_call(CUgraphNode node)
{
    return node && node->type == CU_GRAPH_NODE_TYPE_HOST;
}

FAKE_API CUresult cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS *call)
{
    FAKE_CALL("node=%p", (void *)node);
    if (!is_call(node))
        return CUDA_ERROR_INVALID_VALUE;
    *call = (CUDA_HOST_NODE_PARAMS){ node->operation->function, node->operation->argument };
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *call)
{
    FAKE_CALL("node=%p argument=%p", (void *)node, call->userData);
    if (!is_call(node))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    node->operation->function = call->fn;
    node->operation->argument = call->userData;
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *out)
{
    FAKE_CALL("node=%p", (void *)node);
    *out = node->child;
    return node->child ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* ---- executables ---- */

static bool is_executable(CUgraphExec executable)
{
    return executable && executable->magic == EXECUTABLE_MAGIC;
}

FAKE_API CUresult cuGraphInstantiateWithFlags(CUgraphExec *out, CUgraph graph,
                                              unsigned long long flags)
{
    FAKE_CALL("graph=%p flags=%llu", (void *)graph, flags);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    *out = NULL;
    if (!is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    CUgraphExec executable = calloc(1, sizeof *executable);
    if (!executable)
        abort();
    pthread_mutex_lock(&fake_lock);
    *executable = (struct CUgraphExec_st){ .magic = EXECUTABLE_MAGIC,
                                           .context = context,
                                           .graph = graph_clone(graph) };
    fake_live_add(1);
    pthread_mutex_unlock(&fake_lock);
    *out = executable;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphExecDestroy(CUgraphExec executable)
{
    FAKE_CALL("executable=%p", (void *)executable);
    FAKE_UNSAFE();
    if (!is_executable(executable))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    fake_graph_free(executable->graph);
    fake_unref(executable->last);
    executable->magic = 0;
    fake_live_add(-1);
    pthread_mutex_unlock(&fake_lock);
    free(executable);
    return CUDA_SUCCESS;
}

static bool is_same_memory(CUdeviceptr one, CUdeviceptr other)
{
    return !(one & DEVICE_BIT) == !(other & DEVICE_BIT) && fake_owner(one) == fake_owner(other);
}

/* Why a node cannot take another's parameters. */
static int node_refuse(const struct CUgraphNode_st *had, const struct CUgraphNode_st *wanted)
{
    const struct operation *was = had->operation, *is = wanted->operation;
    if (had->type != wanted->type)
        return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
    if (had->type == CU_GRAPH_NODE_TYPE_KERNEL && was->context != is->context)
        return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
    if ((had->type == CU_GRAPH_NODE_TYPE_MEMCPY || had->type == CU_GRAPH_NODE_TYPE_MEMSET) &&
        !is_same_memory(was->rows.target, is->rows.target))
        return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    if (had->type == CU_GRAPH_NODE_TYPE_MEMCPY &&
        !is_same_memory(was->rows.source, is->rows.source))
        return CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

static bool has_same_order(const struct CUgraphNode_st *had, struct CUgraphNode_st *wanted,
                           CUgraphExecUpdateResultInfo *info)
{
    info->errorNode = wanted;
    if (had->after_count != wanted->after_count)
        return false;
    for (size_t k = 0; k < had->after_count; k++)
        if (had->after[k]->index != wanted->after[k]->index) {
            info->errorFromNode = wanted->after[k];
            return false;
        }
    info->errorNode = NULL;
    return true;
}

static int graph_refuse(CUgraph had, CUgraph wanted, CUgraphExecUpdateResultInfo *info)
{
    if (had->count != wanted->count)
        return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    for (size_t i = 0; i < had->count; i++) {
        if (!has_same_order(had->nodes[i], wanted->nodes[i], info))
            return CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
        int reason = node_refuse(had->nodes[i], wanted->nodes[i]);
        if (!reason && had->nodes[i]->child)
            reason = graph_refuse(had->nodes[i]->child, wanted->nodes[i]->child, info);
        else if (reason)
            info->errorNode = wanted->nodes[i];
        if (reason)
            return reason;
    }
    return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

static void graph_take(CUgraph graph, CUgraph wanted)
{
    for (size_t i = 0; i < graph->count; i++) {
        fake_unref(graph->nodes[i]->operation);
        graph->nodes[i]->operation = operation_copy(wanted->nodes[i]->operation);
        if (graph->nodes[i]->child)
            graph_take(graph->nodes[i]->child, wanted->nodes[i]->child);
    }
}

FAKE_API CUresult cuGraphExecUpdate_v2(CUgraphExec executable, CUgraph graph,
                                       CUgraphExecUpdateResultInfo *info)
{
    FAKE_CALL("executable=%p graph=%p", (void *)executable, (void *)graph);
    *info = (CUgraphExecUpdateResultInfo){ .result = CU_GRAPH_EXEC_UPDATE_ERROR };
    if (!is_executable(executable) || !is_graph(graph))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    info->result = graph_refuse(executable->graph, graph, info);
    if (!info->result)
        graph_take(executable->graph, graph);
    pthread_mutex_unlock(&fake_lock);
    return info->result ? CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE : CUDA_SUCCESS;
}

FAKE_API CUresult cuGraphExecKernelNodeSetParams_v2(CUgraphExec executable, CUgraphNode node,
                                                    const CUDA_KERNEL_NODE_PARAMS *kernel)
{
    FAKE_CALL("executable=%p node=%p function=%p", (void *)executable, (void *)node,
              (void *)kernel->func);
    for (size_t i = 0; is_executable(executable) && i < executable->graph->count; i++)
        if (executable->graph->nodes[i]->origin == node)
            return kernel_set(executable->graph->nodes[i], kernel);
    return CUDA_ERROR_INVALID_VALUE;
}

/* ---- launches ---- */

/* Runs the graph's nodes after `start`; gives what ends after them all. */
static struct operation *graph_run(CUgraph graph, CUcontext context, int priority,
                                   struct operation *start)
{
    struct operation **ends = calloc(graph->count + 1, sizeof(struct operation *));
    struct operation *all = fake_operation(OPERATION_MARK, context);
    if (!ends)
        abort();
    fake_depend(all, start);
    for (size_t i = 0; i < graph->count; i++) {
        const struct CUgraphNode_st *node = graph->nodes[i];
        struct operation *operation = operation_copy(node->operation);
        operation->priority = priority;
        fake_depend(operation, start);
        for (size_t k = 0; k < node->after_count; k++)
            fake_depend(operation, ends[node->after[k]->index]);
        fake_start(operation);
        ends[i] = operation;
        if (node->child) {
            ends[i] = graph_run(node->child, context, priority, operation);
            fake_start(ends[i]);
            fake_unref(operation);
        }
        fake_depend(all, ends[i]);
    }
    for (size_t i = 0; i < graph->count; i++)
        fake_unref(ends[i]);
    free(ends);
    return all;
}

/* One launch after the other: each starts after the end of the one before. */
static void executable_run(CUgraphExec executable, struct CUstream_st *stream)
{
    struct operation *start = fake_operation(OPERATION_MARK, stream->context);
    fake_depend(start, executable->last);
    start->references++;
    fake_submit(stream, start);
    struct operation *end = graph_run(executable->graph, stream->context, stream->priority, start);
    fake_unref(start);
    fake_unref(executable->last);
    end->references++;
    executable->last = end;
    fake_submit(stream, end);
}

static CUresult executable_submit(CUgraphExec executable, CUstream handle, bool is_launched)
{
    if (!is_executable(executable))
        return CUDA_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    if (stream)
        result = fake_capture_forbid(stream);
    if (!result && stream->context != executable->context)
        result = CUDA_ERROR_INVALID_VALUE;
    if (!result && is_launched)
        executable_run(executable, stream);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuGraphLaunch(CUgraphExec executable, CUstream handle)
{
    FAKE_CALL("executable=%p stream=%p", (void *)executable, (void *)handle);
    return executable_submit(executable, handle, true);
}

FAKE_API CUresult cuGraphUpload(CUgraphExec executable, CUstream handle)
{
    FAKE_CALL("executable=%p stream=%p", (void *)executable, (void *)handle);
    return executable_submit(executable, handle, false);
}
