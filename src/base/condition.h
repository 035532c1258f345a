/* SPDX-License-Identifier: MIT */
/*
 * base/condition.h - several threads sleep under a lock until another one says that there has been a
 * change. In place of pthread_cond_signal, which must not be used: glibc before 2.41 loses a wake-up now and
 * then where three threads or more wait (its bug 25847).
 */
#ifndef MR__CONDITION_H
#define MR__CONDITION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Zero is ready for use, and nothing is to be ended. Belongs to one lock; both calls are made with it
 * held. */
struct mr__condition {
    _Atomic uint32_t change_count; /* written under the lock; anybody may look */
    uint32_t sleeper_count;
};

/* Wakes all sleepers, or one where any will do. Without sleepers it makes no system call. */
void mr__condition_notify(struct mr__condition *condition, bool is_for_all);

/* Gives the lock up and sleeps until there has been a change since the call began, or the deadline on
 * CLOCK_MONOTONIC (NULL: none) has passed; false then. May wake for nothing: look again. */
bool mr__condition_wait(struct mr__condition *condition, pthread_mutex_t *lock,
                        const struct timespec *deadline);

static inline uint32_t mr__condition_change_count(struct mr__condition *condition)
{
    return atomic_load_explicit(&condition->change_count, memory_order_relaxed);
}

#endif
