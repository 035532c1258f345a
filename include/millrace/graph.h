/* SPDX-License-Identifier: MIT */
/*
 * millrace/graph.h - a sequence of work, recorded once and launched many times.
 *
 *     capture streams, or add nodes ──► graph ──► instantiate ──► executable ──► launch, launch...
 *                                         └────────── update ────────┘
 *
 * A graph is a description: nodes (copy, fill, kernel, host function, nothing) and what each comes
 * after. Instantiating makes an executable of it, which a stream launches as one piece of work: its
 * nodes run after what the stream was given before, and before what it is given later; nodes that do
 * not come after one another may run at the same time. A launch costs the host about as much as one
 * kernel, however many nodes there are.
 *
 * Updating puts the numbers, buffers and shapes of another graph of the same form into an executable,
 * in place. The cache (below) does all of that by itself for code that submits the same work again
 * and again.
 *
 * Ownership  *_create, *_clone, capture and instantiate give; *_destroy takes. An executable does not
 *            need its graph after instantiate or update. Buffers, kernels and contexts that are named
 *            in a graph are borrowed until the graph and its executables are gone.
 * Threads    One thread at a time per graph, executable and cache.
 * Errors     mr_status. Work that fails later is reported by the stream that launched it, as its own.
 *            Host functions behind a failure are left out; copies, fills and kernels may run.
 */
#ifndef MR_GRAPH_H
#define MR_GRAPH_H

#include <millrace/event.h>
#include <millrace/kernel.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_graph mr_graph;
typedef struct mr_graph_executable mr_graph_executable;

/* A node of one graph: 1, 2, 3... in the order of adding. 0 is none. */
typedef uint32_t mr_graph_node;

/* ---- capture ---- */

/*
 * From begin to end, what this thread submits to `stream` is recorded in a graph and does not run.
 * An event recorded on the stream and waited for by another stream of the device draws that stream in
 * (fork); before the end every stream drawn in must be waited for by `stream` again (join). Recording
 * is of this thread only: other threads go on with other streams undisturbed.
 *
 * A call that cannot be recorded (a host wait or query of a stream or an event of the capture, an
 * allocation, a buffer's end, a copy from or to pageable memory on a GPU, a wait for an event
 * from before the capture or from another backend, mr_device_synchronize, a default stream of the
 * legacy kind, what a ring, a loader or a staging crew does for the stream) fails with MR_E_STATE, and
 * breaks the capture: mr_capture_end then gives no graph and says which call it was and on which
 * stream. The same call of another thread fails likewise and does the capture no harm. Native handles:
 * work that a library puts on mr_stream_native is recorded too.
 *
 * An event recorded in a capture marks a place in a graph: after the end, waits for it and queries are
 * MR_E_STATE until it is recorded anew.
 */

/* Begins. The stream must not be capturing, and be neither legacy default nor of a running capture.
 * Never blocks. */
MR_API MR_MUST_USE mr_status mr_capture_begin(mr_stream *stream);

/* Ends the capture that began on `stream`, on the thread that began it. MR_E_STATE: broken (words: by
 * what and where), a stream not joined (words: which), or no capture began here. The streams are as
 * before the capture. Never blocks. */
MR_API MR_MUST_USE mr_status mr_capture_end(mr_stream *stream, mr_graph **out);

/* Whether work submitted to `stream` is being recorded. [any thread] */
MR_API bool mr_stream_is_capturing(const mr_stream *stream);

/* For calls of yours that cannot be recorded: MR_OK where `stream` (may be NULL) is not captured. Else
 * MR_E_STATE as above: the capture is broken by `call`, and `why` ends the words. Both are copied. */
MR_API MR_MUST_USE mr_status mr_capture_refuse(const mr_stream *stream, const char *call,
                                               const char *why);

/* ---- explicit nodes ---- */

/* An empty graph for `device`. */
MR_API MR_MUST_USE mr_status mr_graph_create(mr_device *device, mr_graph **out);

/* The same nodes once more; later changes to one do not show in the other. */
MR_API MR_MUST_USE mr_status mr_graph_clone(const mr_graph *graph, mr_graph **out);

/* NULL is accepted. */
MR_API void mr_graph_destroy(mr_graph *graph);

/* What a new node comes after: `after[k]` are nodes of this graph; count 0: nothing. All checks are
 * those of the call that submits the same to a stream; pageable memory on a GPU is MR_E_UNSUPPORTED.
 * `out` may be NULL, or point to one of `after`; 0 on failure. What does nothing (no bytes, no iterations)
 * becomes an empty node. Never block. */
MR_API MR_MUST_USE mr_status mr_graph_add_kernel(mr_graph *graph, const mr_graph_node *after,
                                                 size_t after_count, mr_kernel *kernel,
                                                 const mr_launch *launch,
                                                 const mr_argument *arguments,
                                                 size_t argument_count, mr_graph_node *out);
MR_API MR_MUST_USE mr_status mr_graph_add_copy(mr_graph *graph, const mr_graph_node *after,
                                               size_t after_count, mr_buffer *target,
                                               mr_buffer *source, const mr_copy_2d_layout *layout,
                                               mr_graph_node *out);
MR_API MR_MUST_USE mr_status mr_graph_add_fill(mr_graph *graph, const mr_graph_node *after,
                                               size_t after_count, mr_buffer *target, size_t offset,
                                               size_t size_bytes, uint32_t value,
                                               uint32_t value_bytes, mr_graph_node *out);
MR_API MR_MUST_USE mr_status mr_graph_add_call(mr_graph *graph, const mr_graph_node *after,
                                               size_t after_count, mr_host_function function,
                                               void *context, mr_graph_node *out);
/* A node that does nothing: a meeting point. */
MR_API MR_MUST_USE mr_status mr_graph_add_empty(mr_graph *graph, const mr_graph_node *after,
                                                size_t after_count, mr_graph_node *out);
/* Another graph of the same device as one node; its nodes are copied. */
MR_API MR_MUST_USE mr_status mr_graph_add_graph(mr_graph *graph, const mr_graph_node *after,
                                                size_t after_count, const mr_graph *child,
                                                mr_graph_node *out);

MR_API size_t mr_graph_node_count(const mr_graph *graph);
MR_API size_t mr_graph_edge_count(const mr_graph *graph);
MR_API mr_device *mr_graph_device(const mr_graph *graph);

/* ---- executables ---- */

/* May block (allocates on the device): not for steady state. */
MR_API MR_MUST_USE mr_status mr_graph_instantiate(const mr_graph *graph, mr_graph_executable **out);

/* Gives the executable what `graph` says, if the two differ only in numbers, buffers, shapes, host
 * functions and contexts. MR_E_MISMATCH: refused, with the node and the reason in words; the
 * executable is as it was. Launches submitted earlier keep what they were launched with. Never waits
 * for the device. */
MR_API MR_MUST_USE mr_status mr_graph_update(mr_graph_executable *executable,
                                             const mr_graph *graph);

/* One node's new arguments, in place: the cheapest update. `node` is a kernel node of the graph that
 * was instantiated or last given to mr_graph_update. Never blocks. */
MR_API MR_MUST_USE mr_status mr_graph_update_kernel(mr_graph_executable *executable,
                                                    mr_graph_node node, const mr_launch *launch,
                                                    const mr_argument *arguments,
                                                    size_t argument_count);

/* Submits all of it to a stream of the graph's device. An executable may be launched again before it
 * has ended, on any stream: its launches run one after the other. Inside a capture it becomes one node.
 * Never blocks. */
MR_API MR_MUST_USE mr_status mr_graph_launch(mr_graph_executable *executable, mr_stream *stream);

/* Makes the first launch as cheap as the later ones. Never blocks. */
MR_API MR_MUST_USE mr_status mr_graph_upload(mr_graph_executable *executable, mr_stream *stream);

/* At any time: waits for launches that have not ended. NULL is accepted. May block. */
MR_API void mr_graph_executable_destroy(mr_graph_executable *executable);

/* ---- the cache ---- */

/*
 * Runs `submit` (code that enqueues work on the stream it is given) through graphs without the caller's
 * care. The first time a shape comes, `submit` runs on the stream itself (a warm-up, as lazily made
 * things would break a capture). The second time it is captured and instantiated; from then on it is
 * captured and the executable of its shape updated, or, when `is_same` says that nothing has changed
 * since that shape's last run, only launched. An update that is refused makes a new executable in place
 * of the old. Where a capture breaks or the device has no graphs, the shape goes to the stream, with
 * the reason kept; so it does when graphs prove slower than the stream for it.
 *
 * The work is submitted exactly once per run, whichever way it goes; only where a capture breaks, or no
 * executable can be made of it, `submit` was called in vain, once, and is called again for the stream.
 */
typedef struct mr_graph_cache mr_graph_cache;

/* Enqueues on `stream`. Called during the call of mr_graph_cache_run. */
typedef mr_status (*mr_graph_submit)(void *context, mr_stream *stream);

/* Zero means the default for every field. */
typedef struct mr_graph_cache_options {
    uint64_t
        memory_bytes; /* of executables at most, as far as known (a node counts as 2 KiB where the
                              backend does not say); 0 = 64 MiB; least recently used go first */
    uint32_t shape_limit; /* shapes remembered at most; 0 = 256 */
    bool is_off;          /* everything goes to the stream: for comparisons */
    bool is_unmeasured;   /* graphs even where they prove slower than the stream */
} mr_graph_cache_options;

/* A cache for one stream; the stream outlives it. */
MR_API MR_MUST_USE mr_status mr_graph_cache_create(mr_stream *stream,
                                                   const mr_graph_cache_options *options,
                                                   mr_graph_cache **out);
/* Waits for launches that have not ended. NULL is accepted. May block. */
MR_API void mr_graph_cache_destroy(mr_graph_cache *cache);

/* `shape` is the caller's key: work of equal shape has the same nodes and edges (typically a hash of
 * sizes). `is_same`: buffers and numbers, too, are those of this shape's last run. Answers the status
 * of `submit` or of the launch. May block when an executable is made. */
MR_API MR_MUST_USE mr_status mr_graph_cache_run(mr_graph_cache *cache, uint64_t shape, bool is_same,
                                                mr_graph_submit submit, void *context);

typedef struct mr_graph_cache_statistics {
    uint64_t runs;
    uint64_t hits;     /* launched as it was */
    uint64_t updates;  /* updated, then launched */
    uint64_t rebuilds; /* made anew: the update was refused, or it was dropped for memory_bytes */
    uint64_t refusals; /* updates refused */
    uint64_t builds;   /* made for the first time */
    uint64_t streamed; /* went to the stream, warm-ups among them */
    uint64_t dropped;  /* executables given up for memory_bytes or shape_limit */
    uint64_t memory_bytes;
    uint32_t executables;
    char reason[256]; /* why a shape went to the stream last; "" when none did but for warm-up */
} mr_graph_cache_statistics;

MR_API void mr_graph_cache_measure(const mr_graph_cache *cache,
                                   mr_graph_cache_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
