/* SPDX-License-Identifier: MIT */
/*
 * The pool behind stream-ordered memory. No operation is queued for it: the order is in what a block
 * remembers.
 */
#include "backend/cpu/cpu_pool.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_memory.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"

enum {
    CLASS_BYTES_LEAST = 256,
    SEARCH_LIMIT = 32,     /* blocks of a class that one request looks at */
    KEEP_BYTES = 64 << 20, /* kept whatever was used */
    PEAK_SINKS_BY = 64     /* a 64th with every block given back */
};

struct cpu_block {
    struct cpu_block *next;
    void *address;
    size_t size_bytes; /* of its class */
    uint32_t class;

    /* While it is in the pool: its last use. */
    struct cpu_timeline *timeline;
    uint64_t sequence;
};

void mr__cpu_pool_init(struct cpu_pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
}

void mr__cpu_pool_fini(struct cpu_pool *pool)
{
    mr__cpu_pool_trim(pool, 0);
    pthread_mutex_destroy(&pool->lock);
}

/* The class that holds `size_bytes`, and its size. */
static uint32_t class_of(size_t size_bytes, size_t *class_bytes)
{
    if (size_bytes <= CLASS_BYTES_LEAST) {
        *class_bytes = CLASS_BYTES_LEAST;
        return 0;
    }
    const size_t last = size_bytes - 1;
    const uint32_t exponent = 63 - (uint32_t)__builtin_clzll(last);
    const size_t quarter = (size_t)1 << (exponent - 2);
    *class_bytes = (last / quarter + 1) * quarter;
    return 1 + (exponent - 8) * 4 + (uint32_t)(last / quarter % 4);
}

static bool is_unused(const struct cpu_block *block)
{
    return mr__cpu_timeline_has_reached(block->timeline, block->sequence);
}

/* Under the lock. */
static struct cpu_block *unlink_block(struct cpu_pool *pool, struct cpu_block **link)
{
    struct cpu_block *block = *link;
    *link = block->next;
    pool->free_bytes -= block->size_bytes;
    return block;
}

static struct cpu_block *find_block(struct cpu_pool *pool, uint32_t class,
                                    const struct cpu_timeline *timeline)
{
    struct cpu_block *found = NULL;
    struct cpu_block **link = &pool->free[class];

    pthread_mutex_lock(&pool->lock);
    for (int i = 0; i < SEARCH_LIMIT && *link && !found; i++) {
        if ((*link)->timeline == timeline || is_unused(*link))
            found = unlink_block(pool, link);
        else
            link = &(*link)->next;
    }
    if (found)
        pool->used_bytes += found->size_bytes;
    pthread_mutex_unlock(&pool->lock);

    if (found) {
        mr__cpu_timeline_release(found->timeline);
        found->timeline = NULL;
    }
    return found;
}

static void free_block(struct cpu_block *block)
{
    mr__cpu_timeline_release(block->timeline);
    mr__cpu_data_free(block->address, block->size_bytes);
    mr__free(block);
}

static struct cpu_block *create_block(struct cpu_pool *pool, uint32_t class, size_t size_bytes)
{
    struct cpu_block *block = mr__zalloc(sizeof *block);
    if (!block)
        return NULL;

    block->class = class;
    block->size_bytes = size_bytes;
    block->address = mr__cpu_data_alloc(size_bytes);
    if (!block->address) {
        mr__free(block);
        return NULL;
    }
    pthread_mutex_lock(&pool->lock);
    pool->used_bytes += size_bytes;
    pthread_mutex_unlock(&pool->lock);
    return block;
}

/* Under the lock: the unused blocks to free, as a list. */
static struct cpu_block *take_excess(struct cpu_pool *pool, size_t keep_bytes)
{
    struct cpu_block *excess = NULL;
    for (int class = CPU_POOL_CLASS_COUNT - 1; class >= 0; class --) {
        struct cpu_block **link = &pool->free[class];
        while (*link && pool->free_bytes > keep_bytes) {
            if (!is_unused(*link)) {
                link = &(*link)->next;
                continue;
            }
            struct cpu_block *block = unlink_block(pool, link);
            block->next = excess;
            excess = block;
        }
    }
    return excess;
}

static void free_blocks(struct cpu_block *block)
{
    while (block) {
        struct cpu_block *next = block->next;
        free_block(block);
        block = next;
    }
}

void mr__cpu_pool_trim(struct cpu_pool *pool, size_t keep_bytes)
{
    pthread_mutex_lock(&pool->lock);
    struct cpu_block *excess = take_excess(pool, keep_bytes);
    pthread_mutex_unlock(&pool->lock);
    free_blocks(excess);
}

mr_status mr__cpu_memory_create_ordered(struct mr_queue *base, size_t size_bytes,
                                        struct mr_memory *out)
{
    *out = (struct mr_memory){ 0 };
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_pool *pool = &queue->device->pool;
    if (size_bytes > SIZE_MAX / 4)
        return mr__cpu_data_refuse(size_bytes, MR_PLACE_DEVICE);

    size_t class_bytes;
    const uint32_t class = class_of(size_bytes, &class_bytes);
    struct cpu_block *block = find_block(pool, class, queue->timeline);
    if (!block)
        block = create_block(pool, class, class_bytes);
    if (!block) {
        mr__cpu_pool_trim(pool, 0);
        block = create_block(pool, class, class_bytes);
    }
    if (!block)
        return mr__cpu_data_refuse(size_bytes, MR_PLACE_DEVICE);

    *out = (struct mr_memory){ .host = block->address,
                               .address = (uint64_t)(uintptr_t)block->address,
                               .size_bytes = size_bytes,
                               .place = MR_PLACE_DEVICE,
                               .device = &queue->device->base,
                               .handle = block };
    return MR_OK;
}

void mr__cpu_memory_destroy_ordered(struct mr_queue *base, struct mr_memory *memory)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_pool *pool = &queue->device->pool;
    struct cpu_block *block = memory->handle;
    block->timeline = mr__cpu_timeline_retain(queue->timeline);
    block->sequence = atomic_load_explicit(&queue->submitted, memory_order_relaxed);
    *memory = (struct mr_memory){ 0 };

    pthread_mutex_lock(&pool->lock);
    const size_t sunk_bytes = pool->peak_bytes - pool->peak_bytes / PEAK_SINKS_BY;
    pool->peak_bytes = pool->used_bytes > sunk_bytes ? pool->used_bytes : sunk_bytes;
    pool->used_bytes -= block->size_bytes;
    pool->free_bytes += block->size_bytes;
    block->next = pool->free[block->class];
    pool->free[block->class] = block;
    const size_t keep_bytes = pool->peak_bytes > KEEP_BYTES ? pool->peak_bytes : (size_t)KEEP_BYTES;
    struct cpu_block *excess = pool->free_bytes > keep_bytes ? take_excess(pool, keep_bytes) : NULL;
    pthread_mutex_unlock(&pool->lock);

    free_blocks(excess);
}
