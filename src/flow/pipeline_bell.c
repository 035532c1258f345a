/* SPDX-License-Identifier: MIT */
/*
 * Look a little while, then sleep.
 */
#include "flow/pipeline_bell.h"

#include "base/clock.h"
#include "base/signal.h"

/* A hand-over between two running threads takes about a microsecond; looking for much longer takes
 * the core from the thread that is waited for when cores are few. */
enum { LOOKS = 100 };

void mr__bell_init(struct mr__bell *bell)
{
    atomic_init(&bell->sleepers, 0);
    pthread_mutex_init(&bell->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&bell->cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

void mr__bell_fini(struct mr__bell *bell)
{
    pthread_cond_destroy(&bell->cond);
    pthread_mutex_destroy(&bell->mutex);
}

void mr__bell_ring_sleepers(struct mr__bell *bell)
{
    pthread_mutex_lock(&bell->mutex);
    pthread_cond_broadcast(&bell->cond);
    pthread_mutex_unlock(&bell->mutex);
}

static bool look(mr__bell_test test, void *context)
{
    for (int i = 0; i < LOOKS; i++) {
        if (test(context))
            return true;
        mr__relax();
    }
    return false;
}

void mr__bell_wait(struct mr__bell *bell, mr__bell_test test, void *context)
{
    if (look(test, context))
        return;

    pthread_mutex_lock(&bell->mutex);
    atomic_fetch_add(&bell->sleepers, 1);
    while (!test(context))
        pthread_cond_wait(&bell->cond, &bell->mutex);
    atomic_fetch_sub(&bell->sleepers, 1);
    pthread_mutex_unlock(&bell->mutex);
}

bool mr__bell_wait_for(struct mr__bell *bell, mr__bell_test test, void *context,
                       uint64_t timeout_ns)
{
    if (look(test, context))
        return true;

    const struct timespec end = mr__clock_deadline(timeout_ns);
    pthread_mutex_lock(&bell->mutex);
    atomic_fetch_add(&bell->sleepers, 1);
    bool holds = test(context);
    int answer = 0;
    while (!holds && !answer) {
        answer = pthread_cond_timedwait(&bell->cond, &bell->mutex, &end);
        holds = test(context);
    }
    atomic_fetch_sub(&bell->sleepers, 1);
    pthread_mutex_unlock(&bell->mutex);
    return holds;
}
