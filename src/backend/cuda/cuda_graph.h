/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_graph.h - plans and replays, as their files see them.
 *
 * A driver's graph is shared by the plan it was made for, its clones and the replays made from it.
 * Nobody changes a graph that others hold too: who wants to change it takes a copy first.
 */
#ifndef MR__CUDA_GRAPH_H
#define MR__CUDA_GRAPH_H

#include "backend/cuda/cuda_backend.h"

struct cuda_graph {
    const struct cuda_device *device;
    CUgraph graph;
    atomic_uint holder_count;
    pthread_mutex_t lock; /* holders may be in different threads, and the driver locks no graph */
    /* By number - 1, in the order of adding. A captured graph has NULL until somebody asks. */
    CUgraphNode *nodes;
    size_t node_count, node_capacity;
    bool has_calls; /* of core's among the nodes, which replays bind */
};

struct cuda_plan {
    struct mr_plan base;
    struct cuda_graph *graph;
};

struct cuda_replay {
    struct mr_replay base;
    struct cuda_device *device;
    CUgraphExec executable;
    struct cuda_graph *form;    /* what it was made from: its nodes name the executable's */
    struct cuda_graph *content; /* what it does now: form, or what it was updated to */
};

static inline struct cuda_plan *cuda_plan_from(const struct mr_plan *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_plan *)(uintptr_t)base;
}

/* Gives a graph with one holder. Takes the driver's, also on failure. */
mr_status mr__cuda_graph_adopt(const struct cuda_device *device, CUgraph graph,
                               struct cuda_graph **out);
struct cuda_graph *mr__cuda_graph_hold(struct cuda_graph *graph);
void mr__cuda_graph_drop(struct cuda_graph *graph); /* NULL is accepted */
/* Sees to it that `*graph` has one holder and its nodes are numbered. */
mr_status mr__cuda_graph_own(struct cuda_graph **graph);
/* Numbers the nodes, under the graph's lock. */
mr_status mr__cuda_graph_number(struct cuda_graph *graph);
/* The graph with its calls bound: itself when it has none. The caller holds what it gets. */
mr_status mr__cuda_graph_bind(struct cuda_graph *graph, const struct mr_binder *binder,
                              struct cuda_graph **out);
/* Core's calls all have one function; host nodes with another are some library's. */
void mr__cuda_call_note(CUhostFn function);
/* Takes the graph, also on failure. */
mr_status mr__cuda_plan_adopt(struct cuda_device *device, CUgraph graph, struct mr_plan **out);

/* What a node is to do, in the driver's terms; refused with words. With the context current. */
mr_status mr__cuda_copy_node(const struct cuda_device *device, const struct mr_transfer *transfer,
                             CUDA_MEMCPY3D *out);
mr_status mr__cuda_fill_node(const struct cuda_device *device, const struct mr_work *work,
                             CUDA_MEMSET_NODE_PARAMS *out);
mr_status mr__cuda_kernel_node(struct mr_function *function,
                               const struct mr_function_launch *launch,
                               CUDA_KERNEL_NODE_PARAMS *out);

/* The thread's captures have recorded a call of core's. */
extern _Thread_local bool mr__cuda_capture_has_calls;

/* Puts the graph into the running capture of the queue as one node. */
mr_status mr__cuda_capture_graph(struct cuda_queue *queue, struct cuda_graph *graph);

#endif
