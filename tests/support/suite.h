/* SPDX-License-Identifier: MIT */
/*
 * support/suite.h - a program of tests that each run on a device: `NAME --backend cpu|cuda [TEST...]`.
 *
 * Every test gets the device open and must leave nothing on it: closing it has to succeed. A device
 * that is not here skips the program (77) with the reason.
 */
#ifndef TEST_SUITE_H
#define TEST_SUITE_H

#include <millrace/device.h>

struct suite_test {
    const char *name; /* a sentence: ring_push_waits_when_full */
    void (*run)(mr_device *device);
};

/* A test is named by its function. */
#define SUITE_TEST(function)                                                                       \
    {                                                                                              \
#function, function                                                                        \
    }

/* `options` open the device and may be NULL. Answers the program's exit status. */
int suite_main(int argc, char **argv, const mr_device_options *options,
               const struct suite_test *tests, size_t count);

/* The same, with a CPU device open beside all of them. */
int suite_main_beside_cpu(int argc, char **argv, const struct suite_test *tests, size_t count,
                          mr_device **cpu);

#endif
