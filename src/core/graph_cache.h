/* SPDX-License-Identifier: MIT */
/*
 * core/graph_cache.h - how the cache decides, for its tests.
 */
#ifndef MR__GRAPH_CACHE_H
#define MR__GRAPH_CACHE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    MR__GRAPH_SAMPLES = 8, /* runs by capture and update before the stream is tried beside them */
    MR__STREAM_SAMPLES = 3 /* runs on the stream then */
};

/* What the host spends on one run of a shape, each way: the least of some samples. */
struct mr__graph_costs {
    uint64_t graph_ns, stream_ns;
    uint32_t graph_samples, stream_samples;
};

enum mr__graph_way {
    MR__WAY_GRAPH,
    MR__WAY_STREAM_SAMPLE, /* once more on the stream, to compare */
    MR__WAY_STREAM         /* for good */
};

/* Which way a run by capture and update goes. Once both ways have been measured the answer stays. */
enum mr__graph_way mr__graph_choose(const struct mr__graph_costs *costs);

void mr__graph_costs_add(uint64_t *least_ns, uint32_t *samples, uint64_t elapsed_ns);

#endif
