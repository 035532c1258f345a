/* SPDX-License-Identifier: MIT */
/*
 * base/clock.h - the host's steady clock. Flow code reads the device's clock instead (device.h).
 */
#ifndef MR__CLOCK_H
#define MR__CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds of CLOCK_MONOTONIC. */
uint64_t mr__clock_now_ns(void);

/* The moment `timeout_ns` from now on CLOCK_MONOTONIC, for pthread_cond_clockwait and the like. A
 * timeout past the clock's end gives the clock's end. */
struct timespec mr__clock_deadline(uint64_t timeout_ns);

/* The same in nanoseconds; UINT64_MAX (no end) stays what it is. */
uint64_t mr__clock_deadline_ns(uint64_t timeout_ns);

#endif
