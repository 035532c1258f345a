/* SPDX-License-Identifier: MIT */
/*
 * support/kernel_run.h - one launch of a kernel over host arrays, with poison in and around what it
 * writes.
 */
#ifndef TEST_KERNEL_RUN_H
#define TEST_KERNEL_RUN_H

#include "support/check.h"
#include "support/random.h"

#include <millrace/kernel.h>

/* An argument: a host array that is copied in, out or both, or a number. */
struct run_argument {
    mr_access access;
    void *data;
    size_t size_bytes;
    mr_argument number;
};

#define RUN_IN(array, bytes)                                                                       \
    {                                                                                              \
        .access = MR_ACCESS_IN, .data = (void *)(uintptr_t)(array), .size_bytes = (bytes)          \
    }
#define RUN_OUT(array, bytes)                                                                      \
    {                                                                                              \
        .access = MR_ACCESS_OUT, .data = (array), .size_bytes = (bytes)                            \
    }
#define RUN_INOUT(array, bytes)                                                                    \
    {                                                                                              \
        .access = MR_ACCESS_INOUT, .data = (array), .size_bytes = (bytes)                          \
    }
#define RUN_NUMBER(argument)                                                                       \
    {                                                                                              \
        .access = MR_ACCESS_VALUE, .number = (argument)                                            \
    }

/* Copies in, launches, waits, copies out. Outputs are poisoned first; the bytes before and after
 * each must stay as they were. Arrays of 0 bytes are fine. */
void kernel_run(mr_stream *stream, mr_kernel *kernel, const mr_launch *launch,
                const struct run_argument *arguments, size_t count);

/* The same for an embedded kernel. */
void kernel_run_embedded(mr_stream *stream, const char *name, uint64_t launch_count,
                         const struct run_argument *arguments, size_t count);

#endif
