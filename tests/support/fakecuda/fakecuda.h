/* SPDX-License-Identifier: MIT */
/*
 * fakecuda/fakecuda.h - what tests may ask of the stand-in driver.
 *
 * It is a libcuda.so.1 of our own that keeps streams, events and memory on CPU threads with CUDA's
 * ordering rules, checks every address it is given, counts calls, and fails or delays on request.
 * "Device" addresses are no host addresses: touching one from host code ends the program.
 *
 * Environment, the first six read when they are needed, the rest when the library is loaded:
 *   FAKECUDA_DEVICES=N        devices (1); 0 answers as a driver without a GPU
 *   FAKECUDA_NO_PEERS=1       devices cannot reach each other's memory
 *   FAKECUDA_PEERS_CORRUPT=1  they can, and the last bytes that they copy do not arrive
 *   FAKECUDA_MEMORY_BYTES=N   memory of each device (1 GiB)
 *   FAKECUDA_VERSION=N        what cuDriverGetVersion says (13000)
 *   FAKECUDA_NO_WAIT_VALUE=1  streams cannot wait for words in memory
 *   FAKECUDA_NVRTC_FAIL=1     the stand-in compiler fails
 *   FAKECUDA_DELAY_US=N       every copy, fill and launch starts up to N us late, at random
 *   FAKECUDA_FAIL_AT=N        the Nth call fails; with FAKECUDA_FAIL_NAME=cuX the Nth call of that
 *                             name. FAKECUDA_FAIL_CODE=N the error (by default one that fits the call)
 *   FAKECUDA_LOG=FILE         a line per call with its arguments
 * Calls that give something back (free, destroy, release, unregister, unload, pop), that make a
 * context current, or that word an error never fail by FAIL_AT. A wait or query that is made to fail
 * breaks the context, as a failed kernel would.
 */
#ifndef FAKECUDA_H
#define FAKECUDA_H

#include <stdint.h>

#define FAKECUDA_API __attribute__((visibility("default")))

/* The countdown-th call from now fails (of calls named `name`, or of all when NULL); 0 turns it off.
 * `code` 0 picks one that fits the call. */
FAKECUDA_API void fakecuda_fail_at(uint64_t countdown, const char *name, int code);
/* True once a call has been failed since the last fakecuda_fail_at. */
FAKECUDA_API int fakecuda_has_failed(void);

/* Calls so far of the function with this name without its version suffix ("cuMemAlloc"). */
FAKECUDA_API uint64_t fakecuda_count(const char *name);
/* Calls so far of all functions. */
FAKECUDA_API uint64_t fakecuda_count_all(void);

/* What lives now: allocations, pinned and registered ranges, streams, events, pools, modules and
 * retained contexts together. 0 means that nothing leaked. */
FAKECUDA_API int64_t fakecuda_live(void);

/* Breaks the device's context as a failed kernel would: all queued work is dropped, and every later
 * call answers `code`. Lasts until the context is released. */
FAKECUDA_API void fakecuda_break(int device, int code);

/* Every later copy, fill and launch starts up to this late, at random; 0 turns it off. */
FAKECUDA_API void fakecuda_delay(uint64_t delay_us);

#endif
