/* SPDX-License-Identifier: MIT */
/*
 * flow/pipeline_bell.h - how one thread of a pipeline sleeps until others have made progress.
 *
 * The waker changes what is waited for with a sequentially consistent store and then rings; the
 * sleeper raises its flag before it looks again. So one of the two always sees the other, and a ring
 * that nobody waits for costs one load.
 */
#ifndef MR__PIPELINE_BELL_H
#define MR__PIPELINE_BELL_H

#include <millrace/status.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct mr__bell {
    _Atomic uint32_t sleepers;
    pthread_mutex_t mutex;
    pthread_cond_t cond; /* on the monotonic clock */
};

typedef bool (*mr__bell_test)(void *context);

void mr__bell_init(struct mr__bell *bell);
void mr__bell_fini(struct mr__bell *bell);

/* Wakes everyone who waits. Never blocks for long. */
void mr__bell_ring_sleepers(struct mr__bell *bell);

static inline void mr__bell_ring(struct mr__bell *bell)
{
    if (atomic_load(&bell->sleepers))
        mr__bell_ring_sleepers(bell);
}

/* Returns once `test(context)` holds: looks a little while, then sleeps. The test may not take the
 * bell's lock. */
void mr__bell_wait(struct mr__bell *bell, mr__bell_test test, void *context);

/* The same with a limit; answers whether the test held in the end. */
bool mr__bell_wait_for(struct mr__bell *bell, mr__bell_test test, void *context,
                       uint64_t timeout_ns);

#endif
