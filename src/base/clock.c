/* SPDX-License-Identifier: MIT */
/*
 * The host's steady clock and deadlines on it.
 */
#include "base/clock.h"

enum { NS_PER_S = 1000000000 };

uint64_t mr__clock_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct timespec mr__clock_deadline(uint64_t timeout_ns)
{
    const uint64_t now = mr__clock_now_ns();
    const uint64_t end = INT64_MAX;
    const uint64_t then = timeout_ns > end - now ? end : now + timeout_ns;
    return (struct timespec){ .tv_sec = (time_t)(then / NS_PER_S),
                              .tv_nsec = (long)(then % NS_PER_S) };
}

uint64_t mr__clock_deadline_ns(uint64_t timeout_ns)
{
    const uint64_t now = mr__clock_now_ns();
    return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}
