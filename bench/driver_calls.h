/* SPDX-License-Identifier: MIT */
/*
 * bench/driver_calls.h - the driver's functions by name, for benchmarks that set the library's calls beside
 * the driver's own on the same streams and memory. Ends the program where one is missing or fails.
 */
#ifndef BENCH_DRIVER_CALLS_H
#define BENCH_DRIVER_CALLS_H

#include "measure.h"

#include <dlfcn.h>
#include <string.h>

typedef unsigned long long driver_address;

#define REQUIRE_ZERO(call) measure_require((call) == 0, "%s failed", #call)

static inline void *driver_library(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    measure_require(library != NULL, "%s", dlerror());
    return library;
}

/* `function` is the address of a pointer to a function. */
static inline void driver_find(void *library, const char *name, void *function)
{
    void *found = dlsym(library, name);
    measure_require(found != NULL, "the driver has no %s", name);
    memcpy(function, &found, sizeof found);
}

#endif
