/* SPDX-License-Identifier: MIT */
/*
 * Chunk sizes from what copies cost on a device.
 *
 * A pipeline of d steps over n chunks takes n + d - 1 times (latency + chunk / rate), n being total /
 * chunk. That is least at chunk = sqrt(total * latency * rate / (d - 1)). A step that waits for another
 * stream's costs half again as much as the lone copy that is timed here. On the CPU there is no copy to
 * hide: there a chunk's edges should stay in one core's cache.
 */
#include "flow/tuning.h"

#include "flow/pipeline.h"

#include <string.h>
#include <unistd.h>

enum {
    KNOWN_LIMIT = 64,
    LARGE_COPY_BYTES = 8 << 20,
    SMALL_COPY_BYTES = 4096,
    REPEATS = 5,
    GPU_CHUNK_LEAST = 1 << 20,
    GPU_CHUNK_MOST = 32 << 20,
    GPU_CHUNK_UNKNOWN_TOTAL = 8 << 20,
    /* Bytes that a crew carries must still be in the cache when the copy engine comes for them, and
     * those of all slots go round. On an H200's host with 105 MiB of it, chunks of 4 MiB kept 89 % of
     * the limit, of 8 MiB 72 %, of 16 MiB 58 %. */
    STAGED_CHUNK_MOST = 4 << 20,
    LANE_CHUNK_LEAST = 128 << 10,
    LANE_CHUNK_MOST = 1 << 20,
    LANE_CHUNK_UNKNOWN_CACHE = 256 << 10,
    LANE_CACHE_SHARE = 8, /* a parcel's edges and what the lane reads next fit several times */
    CPU_CHUNK = 2 << 20,
};

/* What has been measured so far. A device's id names it for the life of the process. */
static struct known {
    char id[32];
    struct mr__copy_cost cost;
} known[KNOWN_LIMIT];
static size_t known_count;
static pthread_mutex_t known_mutex = PTHREAD_MUTEX_INITIALIZER;

struct bench {
    mr_device *device;
    mr_stream *stream;
    mr_buffer *host, *target;
};

static void close_bench(struct bench *bench)
{
    mr_stream_destroy(bench->stream);
    mr_buffer_destroy(bench->target);
    mr_buffer_destroy(bench->host);
}

static mr_status open_bench(struct bench *bench, mr_device *device)
{
    *bench = (struct bench){ .device = device };
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED, .name = "tuning" };
    mr_status status = mr_buffer_create(device, LARGE_COPY_BYTES, &pinned, &bench->host);
    if (!status)
        status = mr_buffer_create(device, LARGE_COPY_BYTES, NULL, &bench->target);
    if (!status)
        status = mr_stream_create(device, NULL, &bench->stream);
    if (status)
        close_bench(bench);
    return status;
}

/* The shortest of a few times from submission to the end of the wait; the first one warms up. */
static mr_status time_copy(const struct bench *bench, size_t size_bytes, uint64_t *shortest_ns)
{
    *shortest_ns = UINT64_MAX;
    for (int i = 0; i <= REPEATS; i++) {
        const uint64_t start = mr_device_now_ns(bench->device);
        mr_status status = mr_copy(bench->stream, bench->target, 0, bench->host, 0, size_bytes);
        if (!status)
            status = mr_stream_wait(bench->stream);
        if (status)
            return status;
        const uint64_t taken = mr_device_now_ns(bench->device) - start;
        if (i && taken < *shortest_ns)
            *shortest_ns = taken;
    }
    return MR_OK;
}

static mr_status measure(mr_device *device, struct mr__copy_cost *cost)
{
    struct bench bench;
    mr_status status = open_bench(&bench, device);
    if (status)
        return status;
    uint64_t small_ns = 0, large_ns = 0;
    status = time_copy(&bench, SMALL_COPY_BYTES, &small_ns);
    if (!status)
        status = time_copy(&bench, LARGE_COPY_BYTES, &large_ns);
    close_bench(&bench);
    if (status)
        return status;

    cost->latency_ns = small_ns;
    const uint64_t moving_ns = large_ns > small_ns ? large_ns - small_ns : 1;
    cost->bytes_per_ns = (double)(LARGE_COPY_BYTES - SMALL_COPY_BYTES) / (double)moving_ns;
    return MR_OK;
}

static struct known *find_known(const char *id)
{
    for (size_t i = 0; i < known_count; i++) {
        if (!strcmp(known[i].id, id))
            return &known[i];
    }
    return NULL;
}

mr_status mr__tuning_measure(mr_device *device, struct mr__copy_cost *cost)
{
    const char *id = mr_device_id(device);
    pthread_mutex_lock(&known_mutex);
    mr_status status = MR_OK;
    const struct known *found = find_known(id);
    if (found) {
        *cost = found->cost;
    } else {
        status = measure(device, cost);
        if (!status && known_count < KNOWN_LIMIT) {
            struct known *made = &known[known_count++];
            strncpy(made->id, id, sizeof made->id - 1);
            made->cost = *cost;
        }
    }
    pthread_mutex_unlock(&known_mutex);
    return status;
}

static double square_root(double value)
{
    double root = value > 1 ? value : 1;
    for (int i = 0; i < 64; i++)
        root = 0.5 * (root + value / root);
    return root;
}

/* The first device with memory of its own, and how many steps the pipeline has about. */
static mr_device *find_gpu(const struct mr_pipeline *pipeline, uint32_t *depth)
{
    mr_device *gpu = NULL;
    *depth = 3;
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind != MR_NODE_STAGE)
            continue;
        if (!gpu && !mr__device_is_host(node->stage.device))
            gpu = node->stage.device;
        else
            ++*depth;
    }
    return gpu;
}

static bool has_lanes(const struct mr_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (pipeline->nodes[i].kind == MR_NODE_STAGE && pipeline->nodes[i].stage.replicas > 1)
            return true;
    }
    return false;
}

/* Of the second-level cache, which a core has to itself. */
static uint64_t lane_chunk(void)
{
    const long cache = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (cache <= 0)
        return LANE_CHUNK_UNKNOWN_CACHE;
    const uint64_t share = (uint64_t)cache / LANE_CACHE_SHARE;
    return share < LANE_CHUNK_LEAST  ? LANE_CHUNK_LEAST
           : share > LANE_CHUNK_MOST ? LANE_CHUNK_MOST
                                     : share;
}

static bool is_pageable(const struct mr__node *node)
{
    const mr_buffer *memory = node->kind == MR_NODE_SOURCE ? node->source.memory
                              : node->kind == MR_NODE_SINK ? node->sink.memory
                                                           : NULL;
    if (memory)
        return mr_buffer_place(memory) == MR_PLACE_PAGEABLE;
    return node->kind == MR_NODE_SOURCE ? node->source.is_pageable
           : node->kind == MR_NODE_SINK ? node->sink.is_pageable
                                        : false;
}

/* Whether a crew will carry bytes between pageable and pinned memory. */
static bool is_staged(const struct mr_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (is_pageable(&pipeline->nodes[i]))
            return true;
    }
    return false;
}

mr_status mr__tuning_chunk(const struct mr_pipeline *pipeline, const struct mr__plan *plan,
                           uint64_t total_bytes, uint64_t *chunk_bytes)
{
    (void)plan;
    uint32_t depth;
    mr_device *gpu = find_gpu(pipeline, &depth);
    if (!gpu) {
        *chunk_bytes = has_lanes(pipeline) ? lane_chunk() : CPU_CHUNK;
        return MR_OK;
    }
    const uint64_t most = is_staged(pipeline) ? STAGED_CHUNK_MOST : GPU_CHUNK_MOST;
    *chunk_bytes = most < GPU_CHUNK_UNKNOWN_TOTAL ? most : GPU_CHUNK_UNKNOWN_TOTAL;
    if (!total_bytes)
        return MR_OK;

    struct mr__copy_cost cost;
    const mr_status status = mr__tuning_measure(gpu, &cost);
    if (status)
        return status;
    const double best = square_root((double)total_bytes * 1.5 * (double)cost.latency_ns *
                                    cost.bytes_per_ns / (depth - 1));
    *chunk_bytes = best < GPU_CHUNK_LEAST ? GPU_CHUNK_LEAST
                   : best > (double)most  ? most
                                          : (uint64_t)best;
    return MR_OK;
}
