/* SPDX-License-Identifier: MIT */
/*
 * core/graph.h - graphs, executables and their host functions as core's other files see them.
 *
 * A host function in a graph is a *call*. The plan holds templates; an executable binds copies of its
 * own, kept on a *board* together with the launches they are to run for: as launches of one executable
 * run one after the other, the n-th run of a call is for the n-th launch, and its failure that stream's.
 */
#ifndef MR__GRAPH_H
#define MR__GRAPH_H

#include "core/holdings.h"

#include <millrace/graph.h>

struct mr_graph {
    mr_device *device;
    struct mr_plan *plan;
    struct mr__holdings *holdings;
};

/* One launch, on a board. The chain's first is of no launch. */
struct mr__launch_note {
    _Atomic(struct mr__launch_note *) next;
    struct mr__launch_note *next_spare;
    struct mr__launch_note *next_made;
    struct mr__stream_life *life; /* the stream outlives its launches */
    uint64_t sequence;
    _Atomic size_t left_to_pass; /* calls that have not gone on to the next note */
    _Atomic size_t left_to_run;  /* calls that have not run for this launch */
};

struct mr__graph_call {
    _Atomic uint32_t references;
    mr_host_function function;
    void *context;

    /* Bound: of the executable's board. Template: NULL. */
    struct mr__call_board *board;
    struct mr__launch_note *at; /* of its last run */
};

struct mr__call_board {
    struct mr__call_board *older;   /* of the executable, before an update */
    _Atomic size_t in_flight_count; /* launches whose calls have not all run */
    size_t call_count, bound_count;
    struct mr__launch_note *newest; /* the launching thread's */
    struct mr__launch_note *made;   /* the launching thread's: all, to be freed at the end */
    struct mr__launch_note *spare;  /* the launching thread's */
    _Atomic(struct mr__launch_note *) returned;
    struct mr__graph_call *calls[];
};

struct mr_graph_executable {
    mr_device *device;
    struct mr_replay *replay;
    struct mr__holdings *holdings;
    struct mr__call_board *boards; /* the newest first; only that one is launched with */
    bool has_calls;                /* else `boards` are of the past */
    struct mr__stream_life *life;  /* of the stream of the last launch; NULL before the first */
    size_t node_count;
};

/* An empty graph without a plan. NULL when memory is out. */
mr_graph *mr__graph_create_bare(mr_device *device);

/* ---- graph_call.c ---- */

/* A template. NULL when memory is out. */
struct mr__graph_call *mr__graph_call_create(mr_host_function function, void *context);

static inline struct mr__graph_call *mr__graph_call_retain(struct mr__graph_call *call)
{
    atomic_fetch_add_explicit(&call->references, 1, memory_order_relaxed);
    return call;
}
void mr__graph_call_release(struct mr__graph_call *call);

/* What backends call, with a bound call as context. */
void mr__graph_call_run(void *context);

/* Records a host function on a captured stream. */
mr_status mr__graph_capture_call(mr_stream *stream, mr_host_function function, void *context);

/* A board for `call_count` calls, none of them bound. NULL when memory is out. */
struct mr__call_board *mr__call_board_create(size_t call_count);
struct mr_binder mr__call_board_binder(struct mr__call_board *board);
void mr__call_board_destroy(struct mr__call_board *board);

/* Destroys those of the list that no launch in flight needs, or all. */
void mr__call_board_sweep(struct mr__call_board **list, bool is_end);

/* Before a launch: notes it. False when memory is out. Taken back when the launch is not taken. */
bool mr__call_board_note(struct mr__call_board *board, const mr_stream *stream);
void mr__call_board_take_back(struct mr__call_board *board);

#endif
