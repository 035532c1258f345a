/* SPDX-License-Identifier: MIT */
/*
 * A pool of like streams: filled lazily, handed out oldest release first, failed ones replaced.
 */
#include "core/stream.h"

#include "base/alloc.h"

#include <millrace/graph.h>

#include <assert.h>
#include <inttypes.h>

enum { POOL_LIMIT = 4096, POOL_LIMIT_DEFAULT = 16 };

struct mr_stream_pool {
    mr_device *device;
    mr_stream_options stream_options;
    char *name;
    uint32_t limit;

    pthread_mutex_t lock; /* for all below */
    uint32_t size;        /* streams that exist, or are being created */
    uint32_t idle_count;
    uint32_t idle_first;
    mr_stream **idle; /* a ring of `limit` places */
};

static mr_status check_options(const mr_device *device, const mr_stream_pool_options *options)
{
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_stream_pool_create: device is NULL");
    if (options->limit > POOL_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "mr_stream_pool_create: limit %" PRIu32 " is above the most, %d",
                            options->limit, POOL_LIMIT);
    const mr_stream_kind kind = options->stream.kind;
    if (kind != MR_STREAM_NON_BLOCKING && kind != MR_STREAM_BLOCKING)
        return mr_error_set(MR_E_INVALID,
                            "mr_stream_pool_create: streams of kind %d cannot be created; give "
                            "non-blocking or blocking",
                            (int)kind);
    return MR_OK;
}

mr_status mr_stream_pool_create(mr_device *device, const mr_stream_pool_options *options,
                                mr_stream_pool **out)
{
    static const mr_stream_pool_options no_options;
    *out = NULL;
    if (!options)
        options = &no_options;
    const mr_status status = check_options(device, options);
    if (status)
        return status;

    mr_stream_pool *pool = mr__zalloc(sizeof *pool);
    if (!pool)
        goto no_memory;
    pthread_mutex_init(&pool->lock, NULL);
    pool->device = device;
    mr__device_add_child(device);
    pool->limit = options->limit ? options->limit : POOL_LIMIT_DEFAULT;
    pool->idle = mr__zalloc_array(pool->limit, sizeof *pool->idle);
    pool->name = mr__copy_text(options->stream.name);
    if (!pool->idle || (options->stream.name && !pool->name))
        goto no_memory;
    pool->stream_options = options->stream;
    pool->stream_options.name = pool->name;
    *out = pool;
    return MR_OK;

no_memory:
    mr_stream_pool_destroy(pool);
    return mr_error_set(MR_E_NO_MEMORY, "mr_stream_pool_create: out of memory");
}

/* Under the lock. */
static mr_stream *take_idle(mr_stream_pool *pool)
{
    if (!pool->idle_count)
        return NULL;
    mr_stream *stream = pool->idle[pool->idle_first];
    pool->idle_first = (pool->idle_first + 1) % pool->limit;
    pool->idle_count--;
    return stream;
}

void mr_stream_pool_destroy(mr_stream_pool *pool)
{
    if (!pool)
        return;
    assert(pool->idle_count == pool->size && "a stream of the pool is still held");
    mr_stream *stream;
    while ((stream = take_idle(pool)))
        mr_stream_destroy(stream);
    mr_device *device = pool->device;
    pthread_mutex_destroy(&pool->lock);
    mr__free(pool->idle);
    mr__free(pool->name);
    mr__free(pool);
    mr__device_remove_child(device);
}

static bool has_failed(mr_stream *stream)
{
    if (mr_stream_is_capturing(stream))
        return false; /* whoever released it is at fault; it tells those who use it */
    const mr_status status = mr_stream_query(stream);
    return (status && status != MR_E_BUSY) || mr__stream_life_check(stream->life, UINT64_MAX);
}

mr_status mr_stream_pool_acquire(mr_stream_pool *pool, mr_stream **out)
{
    *out = NULL;
    if (!pool)
        return mr_error_set(MR_E_INVALID, "mr_stream_pool_acquire: pool is NULL");

    pthread_mutex_lock(&pool->lock);
    mr_stream *stream = take_idle(pool);
    const bool is_full = !stream && pool->size == pool->limit;
    if (!stream && !is_full)
        pool->size++;
    pthread_mutex_unlock(&pool->lock);

    if (is_full)
        return mr_error_set(MR_E_BUSY, "mr_stream_pool_acquire: all %" PRIu32 " streams are held",
                            pool->limit);
    if (stream && !has_failed(stream)) {
        *out = stream;
        return MR_OK;
    }

    mr_stream_destroy(stream);
    const mr_status status = mr_stream_create(pool->device, &pool->stream_options, out);
    if (status) {
        pthread_mutex_lock(&pool->lock);
        pool->size--;
        pthread_mutex_unlock(&pool->lock);
    }
    return status;
}

void mr_stream_pool_release(mr_stream_pool *pool, mr_stream *stream)
{
    if (!pool || !stream)
        return;
    pthread_mutex_lock(&pool->lock);
    assert(pool->idle_count < pool->size && "released more than was acquired");
    pool->idle[(pool->idle_first + pool->idle_count) % pool->limit] = stream;
    pool->idle_count++;
    pthread_mutex_unlock(&pool->lock);
}

uint32_t mr_stream_pool_size(const mr_stream_pool *pool)
{
    mr_stream_pool *locked = (mr_stream_pool *)pool;
    pthread_mutex_lock(&locked->lock);
    const uint32_t size = pool->size;
    pthread_mutex_unlock(&locked->lock);
    return size;
}
