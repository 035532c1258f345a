/* SPDX-License-Identifier: MIT */
/*
 * What outlives a stream: its first failure, and the door to its queue.
 */
#include "core/stream_life.h"

#include "base/alloc.h"
#include "core/status.h"

#include <stdio.h>
#include <string.h>

struct mr__stream_life *mr__stream_life_create(uint64_t stream_id, const char *stream_name,
                                               const char *device_id, struct mr_queue *queue)
{
    const size_t name_bytes = strlen(stream_name) + 1;
    struct mr__stream_life *life = mr__zalloc(sizeof *life + name_bytes);
    if (!life)
        return NULL;

    atomic_init(&life->references, 1);
    life->stream_id = stream_id;
    life->stream_name = memcpy(life + 1, stream_name, name_bytes);
    snprintf(life->device_id, sizeof life->device_id, "%s", device_id);
    pthread_mutex_init(&life->failure_lock, NULL);
    pthread_mutex_init(&life->queue_lock, NULL);
    life->queue = queue;
    return life;
}

void mr__stream_life_release(struct mr__stream_life *life)
{
    if (!life || atomic_fetch_sub_explicit(&life->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_destroy(&life->queue_lock);
    pthread_mutex_destroy(&life->failure_lock);
    mr__free(life);
}

void mr__stream_life_fail(struct mr__stream_life *life, uint64_t sequence, mr_status status,
                          const char *words)
{
    pthread_mutex_lock(&life->failure_lock);
    if (!atomic_load_explicit(&life->status, memory_order_relaxed)) {
        atomic_store_explicit(&life->sequence, sequence, memory_order_relaxed);
        snprintf(life->words, sizeof life->words, "%s", words);
        atomic_store_explicit(&life->status, status, memory_order_release);
    } else if (sequence < atomic_load_explicit(&life->sequence, memory_order_relaxed)) {
        atomic_store_explicit(&life->sequence, sequence, memory_order_relaxed);
    }
    pthread_mutex_unlock(&life->failure_lock);
}

mr_status mr__stream_life_check_at(const struct mr__stream_life *life, uint64_t sequence)
{
    const mr_status status = (mr_status)atomic_load_explicit(&life->status, memory_order_acquire);
    if (!status || sequence < atomic_load_explicit(&life->sequence, memory_order_relaxed))
        return MR_OK;
    return mr_error_set(status, "%s", life->words);
}

void mr__stream_life_run(struct mr__stream_life *life, uint64_t sequence,
                         mr_status (*function)(void *context), void *context)
{
    mr_status status = mr__stream_life_check(life, sequence);
    mr__error_clear();
    if (status)
        return;
    status = function(context);
    if (!status)
        return;
    const char *words = mr_last_error();
    mr__stream_life_fail(life, sequence, status,
                         *words ? words : "a host function reported failure");
}

void mr__stream_life_settle(struct mr__stream_life *life)
{
    pthread_mutex_lock(&life->queue_lock);
    if (life->queue)
        (void)life->queue->ops->queue_wait(life->queue, MR_FOREVER);
    pthread_mutex_unlock(&life->queue_lock);
}

bool mr__stream_life_is_idle(struct mr__stream_life *life)
{
    /* Held by one who waits for the work: then there is work. */
    if (pthread_mutex_trylock(&life->queue_lock))
        return false;
    const bool is_idle = !life->queue || life->queue->ops->queue_query(life->queue) != MR_E_BUSY;
    pthread_mutex_unlock(&life->queue_lock);
    return is_idle;
}

struct mr_queue *mr__stream_life_end(struct mr__stream_life *life)
{
    pthread_mutex_lock(&life->queue_lock);
    struct mr_queue *queue = life->queue;
    life->queue = NULL;
    pthread_mutex_unlock(&life->queue_lock);
    return queue;
}
