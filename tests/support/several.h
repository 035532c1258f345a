/* SPDX-License-Identifier: MIT */
/*
 * support/several.h - a program of tests that each run on all devices of a backend at once:
 * `NAME --backend cpu|cuda [TEST...]`.
 *
 * Every test gets all devices open, and the CPU behind them, and must leave nothing on any. Tests that
 * need more devices than are here, or devices that may be broken, are named as not exercised; a program
 * none of whose tests could run is skipped (77).
 */
#ifndef TEST_SEVERAL_H
#define TEST_SEVERAL_H

#include <millrace/device.h>

enum { SEVERAL_LIMIT = 8 };

struct several {
    uint32_t count; /* devices of the backend */
    /* These, and then the CPU, which --backend cpu has already. */
    mr_device *devices[SEVERAL_LIMIT + 1];
    uint32_t all_count; /* with it */
    mr_device *cpu;
};

struct several_test {
    const char *name;
    void (*run)(struct several *several);
    uint32_t device_count;    /* needed, of the backend */
    uint32_t all_count;       /* needed, the CPU included */
    bool is_breaking_devices; /* needs the stand-in driver */
};

/* A test is named by its function. */
#define SEVERAL_TEST(function, ...)                                                                \
    {                                                                                              \
#function, function, __VA_ARGS__                                                           \
    }

/* Answers the program's exit status. */
int several_main(int argc, char **argv, const struct several_test *tests, size_t count);

/* Makes the stand-in driver's device answer nothing but failures until it is closed. No real GPU can be
 * lost so: a kernel that traps takes every GPU of the process with it. [any thread] */
void several_break(mr_device *device);

/* Closes all devices, which makes those that were broken whole, and opens them again. */
void several_heal(struct several *several);

#endif
