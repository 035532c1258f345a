/* SPDX-License-Identifier: MIT */
/*
 * check.h - what every example does with a failure: says it and leaves.
 */
#ifndef EXAMPLES_CHECK_H
#define EXAMPLES_CHECK_H

#include <millrace/millrace.h>

#include <stdio.h>
#include <stdlib.h>

static inline void check_at(mr_status status, const char *file, int line)
{
    if (status == MR_OK)
        return;
    fprintf(stderr, "%s:%d: %s: %s\n", file, line, mr_status_name(status), mr_last_error());
    exit(status == MR_E_UNAVAILABLE ? 77 : 1);
}
#define CHECK(call) check_at((call), __FILE__, __LINE__)

/* A result that must hold. */
#define EXPECT(claim)                                                                              \
    do {                                                                                           \
        if (!(claim)) {                                                                            \
            fprintf(stderr, "%s:%d: this does not hold: %s\n", __FILE__, __LINE__, #claim);        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Every example takes the device as its one argument: cpu, cuda:0, or auto when there is none. */
static inline mr_device *open_device(int argc, char **argv)
{
    mr_device *device;
    CHECK(mr_device_open(argc > 1 ? argv[1] : "auto", NULL, &device));
    return device;
}

#endif
