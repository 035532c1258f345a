/* SPDX-License-Identifier: MIT */
/*
 * core/stream_life.h - what others may hold of a stream that can end before them.
 *
 * Events, buffers and the relay outlive streams. They hold the stream's life: its id and name, its
 * first failure, and a door to its queue that closes when the stream is destroyed (by then all its
 * work has ended).
 */
#ifndef MR__STREAM_LIFE_H
#define MR__STREAM_LIFE_H

#include "backend/backend.h"

#include <pthread.h>
#include <stdatomic.h>

struct mr__stream_life {
    _Atomic uint32_t references;
    uint64_t stream_id;
    const char *stream_name; /* inside this allocation */
    char device_id[32];

    /* The latest submission that a look at an event has seen ended; all before it have. */
    _Atomic uint64_t reached;

    /* The failure that was seen first. `words` are written once, before `status` is. Failures may be seen
     * in another order than the stream's: `sequence` is the earliest submission known to have failed. */
    pthread_mutex_t failure_lock; /* for writing */
    _Atomic int status;           /* mr_status; 0 while nothing has failed */
    _Atomic uint64_t sequence;
    char words[MR_ERROR_BYTES];

    pthread_mutex_t queue_lock; /* held while `queue` is used by others than the stream's threads */
    struct mr_queue *queue;     /* NULL once the stream has ended */
};

/* NULL when memory is out. */
struct mr__stream_life *mr__stream_life_create(uint64_t stream_id, const char *stream_name,
                                               const char *device_id, struct mr_queue *queue);

static inline struct mr__stream_life *mr__stream_life_retain(struct mr__stream_life *life)
{
    atomic_fetch_add_explicit(&life->references, 1, memory_order_relaxed);
    return life;
}

/* NULL is accepted. */
void mr__stream_life_release(struct mr__stream_life *life);

/* Keeps `status` and `words` if nothing failed before, and `sequence` if it is the earliest. Any thread. */
void mr__stream_life_fail(struct mr__stream_life *life, uint64_t sequence, mr_status status,
                          const char *words);

/* Notes that `sequence` and all before it have ended, and looks whether that is known. Any thread. */
static inline void mr__stream_life_reach(struct mr__stream_life *life, uint64_t sequence)
{
    uint64_t known = atomic_load_explicit(&life->reached, memory_order_relaxed);
    while (known < sequence &&
           !atomic_compare_exchange_weak_explicit(&life->reached, &known, sequence,
                                                  memory_order_release, memory_order_relaxed))
        ;
}

static inline bool mr__stream_life_has_reached(const struct mr__stream_life *life,
                                               uint64_t sequence)
{
    return atomic_load_explicit(&life->reached, memory_order_acquire) >= sequence;
}

/* MR_OK while nothing at or before `sequence` has failed, else the first failure, with this
 * thread's words set to its words. Any thread. */
mr_status mr__stream_life_check_at(const struct mr__stream_life *life, uint64_t sequence);

static inline mr_status mr__stream_life_check(const struct mr__stream_life *life, uint64_t sequence)
{
    const int status = atomic_load_explicit(&life->status, memory_order_acquire);
    return __builtin_expect(status == MR_OK, 1) ? MR_OK : mr__stream_life_check_at(life, sequence);
}

/* Runs a host function of submission `sequence`, on a thread of the backend, unless something before it
 * in the stream failed; its failure becomes the stream's. */
void mr__stream_life_run(struct mr__stream_life *life, uint64_t sequence,
                         mr_status (*function)(void *context), void *context);

/* Waits until the queue is idle or gone, whatever its work answers. Any thread. */
void mr__stream_life_settle(struct mr__stream_life *life);

/* True when the queue has no work or is gone. Never blocks on work. Any thread. */
bool mr__stream_life_is_idle(struct mr__stream_life *life);

/* Closes the door; returns the queue for its owner to destroy. */
struct mr_queue *mr__stream_life_end(struct mr__stream_life *life);

#endif
