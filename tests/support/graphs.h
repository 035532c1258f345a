/* SPDX-License-Identifier: MIT */
/*
 * support/graphs.h - host functions that note when they ran, so that a test can ask which ran before
 * which.
 */
#ifndef TEST_GRAPHS_H
#define TEST_GRAPHS_H

#include "support/check.h"

#include <millrace/graph.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { GRAPHS_SKIPPED = 77 };

/* One host function's. Ticks grow by one with every begin and end of all that share the clock. */
struct mark {
    _Atomic uint64_t *clock;
    uint64_t begin, end;
    _Atomic uint32_t run_count;
    uint32_t slowness; /* how often it gives its processor away in between */
};

static inline mr_status mark_run(void *context)
{
    struct mark *mark = context;
    mark->begin = atomic_fetch_add(mark->clock, 1) + 1;
    for (uint32_t i = 0; i < mark->slowness; i++)
        sched_yield();
    mark->end = atomic_fetch_add(mark->clock, 1) + 1;
    atomic_fetch_add(&mark->run_count, 1);
    return MR_OK;
}

static inline void mark_expect_order(const struct mark *first, const struct mark *second)
{
    CHECK(first->end);
    CHECK(second->begin > first->end);
}

/* Counts. */
static inline mr_status count_run(void *context)
{
    atomic_fetch_add((_Atomic uint32_t *)context, 1);
    return MR_OK;
}

static inline mr_status fail_run(void *context)
{
    return mr_error_set(MR_E_CALLBACK, "%s", (const char *)context);
}

static inline mr_graph_executable *instantiate(const mr_graph *graph)
{
    mr_graph_executable *executable;
    CHECK_OK(mr_graph_instantiate(graph, &executable));
    return executable;
}

static inline void launch_and_wait(mr_graph_executable *executable, mr_stream *stream)
{
    CHECK_OK(mr_graph_launch(executable, stream));
    CHECK_OK(mr_stream_wait(stream));
}

static inline mr_graph *end_capture(mr_stream *stream)
{
    mr_graph *graph;
    CHECK_OK(mr_capture_end(stream, &graph));
    CHECK(!mr_stream_is_capturing(stream));
    return graph;
}

/* True, with the reason printed, when the device has no graphs: the program is then skipped. */
static inline bool graphs_are_missing(const char *backend)
{
    mr_device *device;
    mr_graph *graph;
    if (mr_device_open(backend, NULL, &device))
        return false; /* the suite says why */
    const mr_status status = mr_graph_create(device, &graph);
    mr_graph_destroy(graph);
    if (status == MR_E_UNSUPPORTED)
        printf("skipped: %s\n", mr_last_error());
    CHECK_OK(mr_device_close(device));
    return status == MR_E_UNSUPPORTED;
}

#endif
