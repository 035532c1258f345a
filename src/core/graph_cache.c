/* SPDX-License-Identifier: MIT */
/*
 * The cache of executables for one stream: by shape, the least recently used given up first.
 *
 * Every shape goes to the stream once, is built once, and is updated or launched as it is from then on.
 * A shape that cannot be captured, or whose graphs cost the host more than the stream does, goes to the
 * stream for good, until it is forgotten.
 */
#include "core/graph_cache.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "core/capture.h"
#include "core/graph.h"
#include "core/status.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    BUCKET_COUNT = 64,
    SHAPE_LIMIT = 256,
    NODE_BYTES = 2048,   /* where the backend does not say */
    SLOWER_PERCENT = 125 /* graphs save time on the device, too: less than this is forgiven */
};
static const uint64_t memory_limit = UINT64_C(64) << 20;

struct entry {
    uint64_t shape;
    struct entry *next_in_bucket;
    struct entry *newer, *older; /* by use */
    mr_graph_executable *executable;
    uint64_t memory_bytes;
    bool is_current;  /* the executable is as the last run was */
    bool was_built;   /* once: what is made now is made anew */
    bool is_streamed; /* for good */
    struct mr__graph_costs costs;
    char reason[160]; /* of is_streamed */
};

struct mr_graph_cache {
    mr_stream *stream;
    mr_graph_cache_options options; /* without zeros */
    struct entry *buckets[BUCKET_COUNT];
    struct entry *newest, *oldest;
    uint32_t entry_count;
    bool is_running; /* inside mr_graph_cache_run */
    mr_graph_cache_statistics statistics;
};

/* One run on its way. */
struct run {
    mr_graph_cache *cache;
    mr_graph_submit submit;
    void *context;
};

/* ---- decisions ---- */

enum mr__graph_way mr__graph_choose(const struct mr__graph_costs *costs)
{
    if (costs->graph_samples < MR__GRAPH_SAMPLES)
        return MR__WAY_GRAPH;
    if (costs->stream_samples < MR__STREAM_SAMPLES)
        return MR__WAY_STREAM_SAMPLE;
    const bool is_slower =
        (__uint128_t)costs->graph_ns * 100 > (__uint128_t)costs->stream_ns * SLOWER_PERCENT;
    return is_slower ? MR__WAY_STREAM : MR__WAY_GRAPH;
}

void mr__graph_costs_add(uint64_t *least_ns, uint32_t *samples, uint64_t elapsed_ns)
{
    if (!*samples || elapsed_ns < *least_ns)
        *least_ns = elapsed_ns;
    if (*samples < UINT32_MAX)
        ++*samples;
}

/* ---- entries ---- */

static void unlink_use(mr_graph_cache *cache, struct entry *entry)
{
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void link_newest(mr_graph_cache *cache, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void drop_executable(mr_graph_cache *cache, struct entry *entry)
{
    if (!entry->executable)
        return;
    mr_graph_executable_destroy(entry->executable);
    cache->statistics.memory_bytes -= entry->memory_bytes;
    cache->statistics.executables--;
    entry->executable = NULL;
    entry->memory_bytes = 0;
    entry->is_current = false;
}

static void drop_entry(mr_graph_cache *cache, struct entry *entry)
{
    struct entry **link = &cache->buckets[entry->shape % BUCKET_COUNT];
    while (*link != entry)
        link = &(*link)->next_in_bucket;
    *link = entry->next_in_bucket;
    unlink_use(cache, entry);
    cache->entry_count--;
    drop_executable(cache, entry);
    mr__free(entry);
}

/* The shape's entry, as the newest. `*is_new` when it was not known. NULL when memory is out. */
static struct entry *find_entry(mr_graph_cache *cache, uint64_t shape, bool *is_new)
{
    struct entry **bucket = &cache->buckets[shape % BUCKET_COUNT];
    struct entry *entry = *bucket;
    while (entry && entry->shape != shape)
        entry = entry->next_in_bucket;
    *is_new = !entry;
    if (entry) {
        unlink_use(cache, entry);
        link_newest(cache, entry);
        return entry;
    }
    entry = mr__zalloc(sizeof *entry);
    if (!entry)
        return NULL;
    if (cache->entry_count == cache->options.shape_limit) {
        cache->statistics.dropped += cache->oldest->executable != NULL;
        drop_entry(cache, cache->oldest);
    }
    entry->shape = shape;
    entry->next_in_bucket = *bucket;
    *bucket = entry;
    link_newest(cache, entry);
    cache->entry_count++;
    return entry;
}

/* Gives up executables, the least recently used first, until the rest fits; never that of `entry`. */
static void make_room(mr_graph_cache *cache, const struct entry *entry)
{
    struct entry *oldest = cache->oldest;
    while (oldest && cache->statistics.memory_bytes > cache->options.memory_bytes) {
        if (oldest != entry && oldest->executable) {
            cache->statistics.dropped++;
            drop_executable(cache, oldest);
        }
        oldest = oldest->newer;
    }
}

/* ---- the stream ---- */

/* `reason` may be this thread's words. */
static void keep_reason(mr_graph_cache *cache, const char *reason)
{
    if (reason != cache->statistics.reason)
        snprintf(cache->statistics.reason, sizeof cache->statistics.reason, "%s", reason);
}

static void stream_for_good(mr_graph_cache *cache, struct entry *entry, const char *reason)
{
    entry->is_streamed = true;
    snprintf(entry->reason, sizeof entry->reason, "%s", reason);
    cache->statistics.dropped += entry->executable != NULL;
    drop_executable(cache, entry);
}

/* NULL: a warm-up, which needs no reason. */
static mr_status run_on_stream(const struct run *run, const char *reason)
{
    mr_graph_cache *cache = run->cache;
    cache->statistics.streamed++;
    if (reason)
        keep_reason(cache, reason);
    return run->submit(run->context, cache->stream);
}

static mr_status run_sample(const struct run *run, struct entry *entry)
{
    const uint64_t begin_ns = mr__clock_now_ns();
    entry->is_current = false;
    const mr_status status = run_on_stream(run, "measured beside its graph");
    if (!status)
        mr__graph_costs_add(&entry->costs.stream_ns, &entry->costs.stream_samples,
                            mr__clock_now_ns() - begin_ns);
    return status;
}

/* ---- graphs ---- */

/* What became of the attempt to make a graph of the run. */
enum made {
    MADE_GRAPH,
    MADE_NOTHING, /* the stream shall have it */
    MADE_FAILURE  /* of `submit` */
};

static enum made capture_run(const struct run *run, struct entry *entry, mr_graph **graph,
                             mr_status *status)
{
    mr_stream *stream = run->cache->stream;
    *graph = NULL;
    if (mr_capture_begin(stream))
        return MADE_NOTHING;
    *status = run->submit(run->context, stream);
    char words[MR_ERROR_BYTES] = "";
    if (*status)
        snprintf(words, sizeof words, "%s", mr_last_error());

    bool is_broken;
    const mr_status ended = mr__capture_end(stream, graph, &is_broken);
    if (!*status && !ended)
        return MADE_GRAPH;
    if (*status && !is_broken) {
        mr_graph_destroy(*graph);
        (void)mr_error_set(*status, "%s", words);
        return MADE_FAILURE;
    }
    if (ended == MR_E_STATE)
        stream_for_good(run->cache, entry, mr_last_error());
    return MADE_NOTHING;
}

/* Makes the executable of an entry that has none. */
static mr_status build(mr_graph_cache *cache, struct entry *entry, const mr_graph *graph)
{
    const mr_status status = mr_graph_instantiate(graph, &entry->executable);
    if (status)
        return status;
    const struct mr_replay *replay = entry->executable->replay;
    entry->memory_bytes = replay->ops->replay_memory(replay);
    if (!entry->memory_bytes)
        entry->memory_bytes = (uint64_t)mr_graph_node_count(graph) * NODE_BYTES;
    cache->statistics.memory_bytes += entry->memory_bytes;
    cache->statistics.executables++;
    if (entry->memory_bytes > cache->options.memory_bytes) {
        const uint64_t needed = entry->memory_bytes;
        (void)mr_error_set(MR_E_NO_MEMORY,
                           "an executable of %" PRIu64 " bytes is larger than the cache's "
                           "memory_bytes, %" PRIu64,
                           needed, cache->options.memory_bytes);
        stream_for_good(cache, entry, mr_last_error());
        return MR_E_NO_MEMORY;
    }
    make_room(cache, entry);
    return MR_OK;
}

/* Gives the entry's executable the graph. `*counter` is what the run then counts as. */
static mr_status refresh(mr_graph_cache *cache, struct entry *entry, const mr_graph *graph,
                         uint64_t **counter)
{
    mr_graph_cache_statistics *statistics = &cache->statistics;
    entry->is_current = false;
    if (entry->executable) {
        *counter = &statistics->updates;
        const mr_status status = mr_graph_update(entry->executable, graph);
        if (status != MR_E_MISMATCH)
            return status;
        statistics->refusals++;
        drop_executable(cache, entry);
        mr__error_clear(); /* nobody is to take it for a failure */
    }
    *counter = entry->was_built ? &statistics->rebuilds : &statistics->builds;
    const mr_status status = build(cache, entry, graph);
    entry->was_built = entry->was_built || !status;
    return status;
}

static mr_status run_by_capture(const struct run *run, struct entry *entry)
{
    mr_graph_cache *cache = run->cache;
    const uint64_t begin_ns = mr__clock_now_ns();
    mr_graph *graph;
    mr_status status = MR_OK;
    const enum made made = capture_run(run, entry, &graph, &status);
    if (made == MADE_FAILURE)
        return status;

    uint64_t *counter = NULL;
    if (made == MADE_GRAPH) {
        status = refresh(cache, entry, graph, &counter);
        mr_graph_destroy(graph);
    }
    if (made == MADE_NOTHING || status) {
        keep_reason(cache, mr_last_error());
        mr__error_clear();
        return run_on_stream(run, cache->statistics.reason);
    }
    status = mr_graph_launch(entry->executable, cache->stream);
    if (status)
        return status;
    ++*counter;
    entry->is_current = true;
    if (counter == &cache->statistics.updates)
        mr__graph_costs_add(&entry->costs.graph_ns, &entry->costs.graph_samples,
                            mr__clock_now_ns() - begin_ns);
    return MR_OK;
}

static mr_status run_as_it_was(const struct run *run, const struct entry *entry)
{
    const mr_status status = mr_graph_launch(entry->executable, run->cache->stream);
    run->cache->statistics.hits += !status;
    return status;
}

/* ---- the calls ---- */

/* Why nothing can be captured now; NULL when it can. */
static const char *find_obstacle(const mr_graph_cache *cache)
{
    if (cache->options.is_off)
        return "the cache is off";
    if (!cache->stream->ops->capture_begin)
        return "the device has no graphs";
    if (cache->stream->kind == MR_STREAM_LEGACY)
        return "the legacy default stream cannot be captured";
    if (mr__stream_is_captured(cache->stream))
        return "the stream is being captured";
    return cache->is_running ? "it ran inside a run of the same cache" : NULL;
}

static mr_status run_entry(const struct run *run, struct entry *entry, bool is_same)
{
    mr_graph_cache *cache = run->cache;
    if (entry->is_streamed)
        return run_on_stream(run, entry->reason);
    if (is_same && entry->is_current)
        return run_as_it_was(run, entry);
    if (!cache->options.is_unmeasured) {
        const enum mr__graph_way way = mr__graph_choose(&entry->costs);
        if (way == MR__WAY_STREAM_SAMPLE)
            return run_sample(run, entry);
        if (way == MR__WAY_STREAM) {
            char reason[160];
            snprintf(reason, sizeof reason,
                     "graphs cost the host %" PRIu64 " ns a run, the stream %" PRIu64 " ns",
                     entry->costs.graph_ns, entry->costs.stream_ns);
            stream_for_good(cache, entry, reason);
            return run_on_stream(run, entry->reason);
        }
    }
    return run_by_capture(run, entry);
}

mr_status mr_graph_cache_run(mr_graph_cache *cache, uint64_t shape, bool is_same,
                             mr_graph_submit submit, void *context)
{
    if (!cache || !submit)
        return mr_error_set(MR_E_INVALID, "mr_graph_cache_run: %s is NULL",
                            cache ? "submit" : "cache");
    const struct run run = { .cache = cache, .submit = submit, .context = context };
    cache->statistics.runs++;
    const char *obstacle = find_obstacle(cache);
    if (obstacle)
        return run_on_stream(&run, obstacle);

    bool is_new;
    struct entry *entry = find_entry(cache, shape, &is_new);
    if (!entry)
        return run_on_stream(&run, "out of memory for a new shape");
    cache->is_running = true;
    const mr_status status = is_new ? run_on_stream(&run, NULL) : run_entry(&run, entry, is_same);
    cache->is_running = false;
    return status;
}

mr_status mr_graph_cache_create(mr_stream *stream, const mr_graph_cache_options *options,
                                mr_graph_cache **out)
{
    *out = NULL;
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_graph_cache_create: stream is NULL");
    mr_graph_cache *cache = mr__zalloc(sizeof *cache);
    if (!cache)
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_cache_create: out of memory");
    cache->stream = stream;
    if (options)
        cache->options = *options;
    if (!cache->options.memory_bytes)
        cache->options.memory_bytes = memory_limit;
    if (!cache->options.shape_limit)
        cache->options.shape_limit = SHAPE_LIMIT;
    mr__device_add_child(stream->device);
    *out = cache;
    return MR_OK;
}

void mr_graph_cache_destroy(mr_graph_cache *cache)
{
    if (!cache)
        return;
    mr_device *device = cache->stream->device;
    while (cache->oldest)
        drop_entry(cache, cache->oldest);
    mr__free(cache);
    mr__device_remove_child(device);
}

void mr_graph_cache_measure(const mr_graph_cache *cache, mr_graph_cache_statistics *statistics)
{
    *statistics = cache->statistics;
}
