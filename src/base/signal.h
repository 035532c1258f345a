/* SPDX-License-Identifier: MIT */
/*
 * base/signal.h - one thread sleeps until another says so. Cheaper than a condition variable:
 * setting a signal that nobody sleeps on makes no system call.
 */
#ifndef MR__SIGNAL_H
#define MR__SIGNAL_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Zero is unset. At most one thread waits. */
struct mr__signal {
    _Atomic uint32_t state;
};

/* Wakes the waiter, now or when it comes. The signal may be gone the moment it is set: nothing of
 * it is read afterwards. What was written before is visible to the waiter. */
void mr__signal_set(struct mr__signal *signal);

bool mr__signal_is_set(struct mr__signal *signal);

/* Sleeps until the signal is set, or the deadline on CLOCK_MONOTONIC (UINT64_MAX: none) has passed;
 * false then. */
bool mr__signal_wait(struct mr__signal *signal, uint64_t deadline_ns);

/* Before the next use; only while nobody else knows the signal. */
void mr__signal_reset(struct mr__signal *signal);

/* Says to the processor that this is a loop that waits for memory to change. */
static inline void mr__relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#else
    __asm__ __volatile__("" ::: "memory");
#endif
}

/* A step of waiting by looking, number `step` from 0: rests the processor at first, and then gives it
 * to a thread that wants it, which may be the one that is waited for. */
static inline void mr__look_step(uint32_t step)
{
    enum { RESTS = 10 }; /* half a microsecond or so */
    if (step < RESTS)
        mr__relax();
    else
        sched_yield();
}

#endif
