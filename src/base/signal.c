/* SPDX-License-Identifier: MIT */
/*
 * Signals on Linux futexes. The word is private to the process.
 */
#include "base/signal.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { SIGNAL_UNSET = 0, SIGNAL_SET = 1, SIGNAL_SLEPT_ON = 2 };

void mr__signal_set(struct mr__signal *signal)
{
    const uint32_t before =
        atomic_exchange_explicit(&signal->state, SIGNAL_SET, memory_order_acq_rel);

    /* The waiter may have left already and its memory be in other use: at worst that use is woken
     * once too often, which users of futexes must stand. */
    if (before == SIGNAL_SLEPT_ON)
        syscall(SYS_futex, &signal->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

bool mr__signal_is_set(struct mr__signal *signal)
{
    return atomic_load_explicit(&signal->state, memory_order_acquire) == SIGNAL_SET;
}

/* False when the deadline has passed. */
static bool sleep_on(struct mr__signal *signal, uint64_t deadline_ns)
{
    const struct timespec deadline = { .tv_sec = (time_t)(deadline_ns / 1000000000),
                                       .tv_nsec = (long)(deadline_ns % 1000000000) };
    const struct timespec *limit = deadline_ns > INT64_MAX ? NULL : &deadline;

    /* The bitset form takes an absolute time. Whatever it answers, the caller looks again. */
    syscall(SYS_futex, &signal->state, FUTEX_WAIT_BITSET_PRIVATE, SIGNAL_SLEPT_ON, limit, NULL,
            FUTEX_BITSET_MATCH_ANY);
    if (!limit)
        return true;

    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec < deadline_ns;
}

bool mr__signal_wait(struct mr__signal *signal, uint64_t deadline_ns)
{
    uint32_t state = SIGNAL_UNSET;
    if (!atomic_compare_exchange_strong_explicit(&signal->state, &state, SIGNAL_SLEPT_ON,
                                                 memory_order_acquire, memory_order_acquire) &&
        state == SIGNAL_SET)
        return true;

    bool has_time = true;
    while (has_time && !mr__signal_is_set(signal))
        has_time = sleep_on(signal, deadline_ns);
    return mr__signal_is_set(signal);
}

void mr__signal_reset(struct mr__signal *signal)
{
    atomic_store_explicit(&signal->state, SIGNAL_UNSET, memory_order_relaxed);
}
