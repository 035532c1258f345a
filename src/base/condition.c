/* SPDX-License-Identifier: MIT */
/*
 * A count of changes that sleepers sleep on by its value: a change between their last look, which is under
 * the lock, and their sleep keeps them awake. The lock orders what the change stands for.
 */
#include "base/condition.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void mr__condition_notify(struct mr__condition *condition, bool is_for_all)
{
    atomic_store_explicit(&condition->change_count, mr__condition_change_count(condition) + 1,
                          memory_order_relaxed);
    if (condition->sleeper_count)
        syscall(SYS_futex, &condition->change_count, FUTEX_WAKE_PRIVATE, is_for_all ? INT_MAX : 1,
                NULL, NULL, 0);
}

bool mr__condition_wait(struct mr__condition *condition, pthread_mutex_t *lock,
                        const struct timespec *deadline)
{
    const uint32_t seen = mr__condition_change_count(condition);
    condition->sleeper_count++;
    pthread_mutex_unlock(lock);
    /* The bitset form takes an absolute time. */
    const bool is_late = syscall(SYS_futex, &condition->change_count, FUTEX_WAIT_BITSET_PRIVATE,
                                 seen, deadline, NULL, FUTEX_BITSET_MATCH_ANY) &&
                         errno == ETIMEDOUT;
    pthread_mutex_lock(lock);
    condition->sleeper_count--;
    return !is_late;
}
