/* SPDX-License-Identifier: MIT */
/*
 * core/holdings.h - what the nodes of a graph name: buffers, kernels and host functions.
 *
 * A graph and the executables made of it share their holdings until one of them changes. Launches walk
 * the distinct buffers, once each; node by node the buffers of kernels are known, so that one node's
 * arguments can be exchanged.
 */
#ifndef MR__HOLDINGS_H
#define MR__HOLDINGS_H

#include "core/buffer.h"
#include "core/kernel.h"

struct mr__graph_call;

/* A node that was added one by one. `kernel` is NULL where it is none. */
struct mr__node {
    mr_kernel *kernel;
    size_t first_use; /* in `uses`: as many as the kernel has parameters, NULL for numbers */
};

struct mr__held_buffer {
    mr_buffer *buffer;
    uint64_t use_count;
};

struct mr__holdings {
    _Atomic uint32_t references;

    /* Distinct buffers, and of each the range and the access of all uses together. */
    struct mr__held_buffer *buffers;
    mr_operation_access *accesses;
    size_t buffer_count, buffer_capacity;
    uint32_t *slots; /* a hash table of places in `buffers`, counted from 1; 0 is free */
    size_t slot_count;

    size_t captured_count; /* nodes 1 to this came from a capture, and are not known one by one */
    struct mr__node *nodes;
    size_t node_count, node_capacity;
    mr_buffer **uses;
    size_t use_count, use_capacity;

    struct mr__graph_call **calls; /* one count each is ours */
    size_t call_count, call_capacity;
};

/* NULL when memory is out. */
struct mr__holdings *mr__holdings_create(void);
struct mr__holdings *mr__holdings_copy(const struct mr__holdings *holdings);

static inline struct mr__holdings *mr__holdings_retain(struct mr__holdings *holdings)
{
    atomic_fetch_add_explicit(&holdings->references, 1, memory_order_relaxed);
    return holdings;
}

/* NULL is accepted. */
void mr__holdings_release(struct mr__holdings *holdings);

/* Makes `*holdings` the caller's alone. False when memory is out. */
bool mr__holdings_own(struct mr__holdings **holdings);

/* The rest is for an owner alone. False when memory is out; then nothing has changed but for room. */

bool mr__holdings_add_buffer(struct mr__holdings *holdings, mr_buffer *buffer, size_t offset,
                             size_t size_bytes, mr_access access);
void mr__holdings_remove_buffer(struct mr__holdings *holdings, mr_buffer *buffer);

/* Takes a count of `call`. */
bool mr__holdings_add_call(struct mr__holdings *holdings, struct mr__graph_call *call);
/* Releases the last one again. */
void mr__holdings_drop_call(struct mr__holdings *holdings);

/* Room for one more node and `use_count` uses, so that adding them cannot fail. */
bool mr__holdings_reserve_node(struct mr__holdings *holdings, size_t use_count);
void mr__holdings_add_node(struct mr__holdings *holdings, mr_kernel *kernel,
                           mr_buffer *const *uses);

/* The buffers of another once more, and `calls`; not its nodes. */
bool mr__holdings_merge(struct mr__holdings *holdings, const struct mr__holdings *other,
                        struct mr__graph_call *const *calls, size_t call_count);

/* Node `number` of the graph, NULL when it came from a capture or is none. */
struct mr__node *mr__holdings_node(const struct mr__holdings *holdings, uint32_t number);

#endif
