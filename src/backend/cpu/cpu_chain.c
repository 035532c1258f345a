/* SPDX-License-Identifier: MIT */
/*
 * Chains: which launches belong together, and their tiles.
 *
 * Iteration i of an element-wise launch touches element i of its buffers alone. So launches of the same
 * count may take turns tile by tile, if any two ranges of which one is written are the same elements or
 * have nothing in common: then the tile's own elements are all that one launch leaves to the next.
 */
#include "backend/cpu/cpu_chain.h"

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_work.h"
#include "base/copy.h"

#include <pthread.h>
#include <unistd.h>

enum {
    CHAIN_LIMIT = 6,
    RANGE_LIMIT = 12,         /* different ranges of a chain */
    TILE_BYTES = 24 << 10,    /* of all ranges: half of a first-level data cache */
    TILE_GRAIN = 64,          /* elements: whole cache lines of every type */
    STREAMED_LEAST = 32 << 20 /* whatever a machine says of its caches */
};

/* Tiles are counted in 32 bits, and bytes in 64. */
#define COUNT_LIMIT (UINT64_C(1) << 36)

/* The same `count` elements, whichever launches use them. */
struct range {
    uintptr_t begin;
    size_t element_bytes;
    bool is_written;
    bool is_changed_in_place;
    bool is_streamed; /* made in the scratch and stored from there */
    size_t scratch;   /* its place there */
};

struct chain {
    uint64_t count; /* iterations */
    uint32_t length;
    struct cpu_launch_record *launches[CHAIN_LIMIT];
    uint8_t ranges_of[CHAIN_LIMIT][MR_PARAMETER_LIMIT];
    bool uses_scratch[CHAIN_LIMIT][MR_PARAMETER_LIMIT];
    struct range ranges[RANGE_LIMIT];
    uint32_t range_count;
    size_t bytes; /* of one iteration, over all ranges */
};

/* ---- sizes ---- */

static pthread_once_t streamed_once = PTHREAD_ONCE_INIT;
static size_t streamed_bytes;

static void decide_streamed(void)
{
    const long cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
    streamed_bytes = cache > STREAMED_LEAST ? (size_t)cache : STREAMED_LEAST;
}

bool mr__cpu_is_streamed(size_t memory_bytes)
{
    pthread_once(&streamed_once, decide_streamed);
    return memory_bytes > streamed_bytes;
}

/* ---- which launches ---- */

static bool is_same(const struct range *a, const struct range *b)
{
    return a->begin == b->begin && a->element_bytes == b->element_bytes;
}

static bool is_apart(const struct range *a, const struct range *b, uint64_t count)
{
    return a->begin + a->element_bytes * count <= b->begin ||
           b->begin + b->element_bytes * count <= a->begin;
}

/* Finds or adds a range. False when it overlaps another one by halves, or there are too many. */
static bool add_range(struct chain *chain, const struct range *range, uint8_t *index)
{
    uint32_t found = chain->range_count;
    for (uint32_t i = 0; i < chain->range_count; i++) {
        const struct range *other = &chain->ranges[i];
        if (is_same(range, other))
            found = i;
        else if ((range->is_written || other->is_written) && !is_apart(range, other, chain->count))
            return false;
    }
    if (found == RANGE_LIMIT)
        return false;
    if (found == chain->range_count) {
        chain->ranges[chain->range_count++] = *range;
        chain->bytes += range->element_bytes;
    }
    chain->ranges[found].is_written |= range->is_written;
    *index = (uint8_t)found;
    return true;
}

/* Something that the chain has written so far. */
static bool is_made_here(const struct chain *chain, const struct range *range)
{
    for (uint32_t i = 0; i < chain->range_count; i++) {
        if (chain->ranges[i].is_written && is_same(range, &chain->ranges[i]))
            return true;
    }
    return false;
}

static struct range range_of(const struct cpu_launch_record *launch, uint32_t index)
{
    const mr_parameter *parameter = &launch->parameters[index];
    return (struct range){ .begin = (uintptr_t)launch->arguments[index],
                           .element_bytes = mr_type_size(parameter->type),
                           .is_written = parameter->access != MR_ACCESS_IN };
}

/* Adds the launch; false when it does not belong, and the chain is as it was. */
static bool add_launch(struct chain *chain, struct cpu_launch_record *launch)
{
    struct chain longer = *chain;
    bool is_linked = chain->length == 0;
    for (uint32_t k = 0; k < launch->argument_count; k++) {
        if (launch->parameters[k].access == MR_ACCESS_VALUE)
            continue;
        const struct range range = range_of(launch, k);
        is_linked |= launch->parameters[k].access != MR_ACCESS_OUT && is_made_here(chain, &range);
        if (!add_range(&longer, &range, &longer.ranges_of[chain->length][k]))
            return false;
    }
    if (!is_linked)
        return false;
    longer.launches[longer.length++] = launch;
    *chain = longer;
    return true;
}

static bool may_join(struct cpu_worker *worker, const struct cpu_record *record)
{
    struct cpu_launch_record *launch = (struct cpu_launch_record *)(uintptr_t)record;
    return record->kind == CPU_RECORD_LAUNCH && launch->is_chained &&
           mr__cpu_launch_is_whole(worker, launch);
}

static void find_chain(struct chain *chain, struct cpu_worker *worker, const struct cpu_ring *ring,
                       uint64_t known)
{
    const struct cpu_chunk *chunk = ring->read_chunk;
    struct cpu_record *record = mr__cpu_ring_at(&chunk, ring->read_offset);
    chain->count = ((struct cpu_launch_record *)record)->count;
    while (may_join(worker, record)) {
        struct cpu_launch_record *launch = (struct cpu_launch_record *)record;
        if (launch->count != chain->count || !add_launch(chain, launch) || known-- == 1 ||
            chain->length == CHAIN_LIMIT)
            return;
        record = mr__cpu_ring_after(&chunk, record);
    }
}

/* ---- what is stored around the caches ---- */

/* What a launch puts out for large memory. A launch that changes a range where it is (inout) keeps it
 * there. */
static void mark_streamed(struct chain *chain)
{
    for (uint32_t i = 0; i < chain->length; i++) {
        const struct cpu_launch_record *launch = chain->launches[i];
        for (uint32_t k = 0; k < launch->argument_count; k++) {
            struct range *range = &chain->ranges[chain->ranges_of[i][k]];
            if (launch->parameters[k].access == MR_ACCESS_INOUT)
                range->is_changed_in_place = true;
            else if (launch->parameters[k].access == MR_ACCESS_OUT)
                range->is_streamed |= launch->streamed_mask >> k & 1;
        }
    }
}

/* Gives the streamed ranges their places; answers how many there are. */
static uint32_t place_scratch(struct chain *chain, uint64_t tile_limit)
{
    uint32_t streamed_count = 0;
    size_t used = 0;
    for (uint32_t i = 0; i < chain->range_count; i++) {
        struct range *range = &chain->ranges[i];
        range->is_streamed &= !range->is_changed_in_place;
        if (!range->is_streamed)
            continue;
        range->scratch = used;
        used += tile_limit * range->element_bytes;
        streamed_count++;
    }
    return streamed_count;
}

/* A range is in the scratch from the first launch on that puts it out. */
static void choose_scratch(struct chain *chain)
{
    bool is_there[RANGE_LIMIT] = { false };
    for (uint32_t i = 0; i < chain->length; i++) {
        const struct cpu_launch_record *launch = chain->launches[i];
        const uint8_t *ranges = chain->ranges_of[i];
        for (uint32_t k = 0; k < launch->argument_count; k++) {
            const mr_access access = launch->parameters[k].access;
            chain->uses_scratch[i][k] = access != MR_ACCESS_VALUE &&
                                        chain->ranges[ranges[k]].is_streamed &&
                                        (access == MR_ACCESS_OUT || is_there[ranges[k]]);
        }
        for (uint32_t k = 0; k < launch->argument_count; k++) {
            if (launch->parameters[k].access == MR_ACCESS_OUT)
                is_there[ranges[k]] = true;
        }
    }
}

/* ---- running ---- */

static void run_launch(const struct chain *chain, uint32_t index, const mr_slice *tile,
                       uint64_t first, unsigned char *scratch)
{
    const struct cpu_launch_record *launch = chain->launches[index];
    void *arguments[MR_PARAMETER_LIMIT];
    for (uint32_t k = 0; k < launch->argument_count; k++) {
        const struct range *range = &chain->ranges[chain->ranges_of[index][k]];
        arguments[k] = launch->arguments[k];
        if (chain->uses_scratch[index][k]) /* its element `first` is the scratch's first */
            arguments[k] = (void *)((uintptr_t)scratch + range->scratch -
                                    (uintptr_t)(first * range->element_bytes));
    }
    launch->function->native(tile, arguments);
}

static void run_tile(const struct chain *chain, const mr_slice *tile, unsigned char *scratch)
{
    const uint64_t first = chain->count * tile->index / tile->count;
    const uint64_t end = chain->count * (tile->index + 1u) / tile->count;
    for (uint32_t i = 0; i < chain->length; i++)
        run_launch(chain, i, tile, first, scratch);
    for (uint32_t i = 0; i < chain->range_count; i++) {
        const struct range *range = &chain->ranges[i];
        if (range->is_streamed)
            mr__copy_streamed_weakly((void *)(range->begin + first * range->element_bytes),
                                     scratch + range->scratch,
                                     (end - first) * range->element_bytes);
    }
}

static bool has_streamed(const struct chain *chain)
{
    for (uint32_t i = 0; i < chain->range_count; i++) {
        if (chain->ranges[i].is_streamed && !chain->ranges[i].is_changed_in_place)
            return true;
    }
    return false;
}

static void run_tiles(struct chain *chain)
{
    _Alignas(CPU_LINE_BYTES) unsigned char scratch[TILE_BYTES];
    uint64_t tile_limit = TILE_BYTES / chain->bytes;
    tile_limit -= tile_limit % TILE_GRAIN;
    const uint64_t tile_count = (chain->count + tile_limit - 1) / tile_limit;
    const bool is_streaming = place_scratch(chain, tile_limit) > 0;
    if (is_streaming)
        choose_scratch(chain);
    for (uint32_t i = 0; i < tile_count; i++)
        run_tile(chain, &(mr_slice){ .index = i, .count = (uint32_t)tile_count }, scratch);
    if (is_streaming)
        mr__copy_streamed_end();
}

uint32_t mr__cpu_chain_run(struct cpu_worker *worker, const struct cpu_ring *ring, uint64_t known)
{
    struct chain chain = { 0 };
    find_chain(&chain, worker, ring, known);
    if (!chain.length || chain.count > COUNT_LIMIT)
        return 0;
    mark_streamed(&chain);
    const bool is_worth = chain.length > 1 || has_streamed(&chain);
    if (is_worth)
        run_tiles(&chain);
    return is_worth ? chain.length : 0;
}
