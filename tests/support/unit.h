/* SPDX-License-Identifier: MIT */
/*
 * support/unit.h - cmocka, and checks of statuses that print names and words.
 */
#ifndef TEST_UNIT_H
#define TEST_UNIT_H

#include <millrace/status.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define assert_status(expected, call)                                                              \
    do {                                                                                           \
        const mr_status unit_expected = (expected);                                                \
        const mr_status unit_status = (call);                                                      \
        if (unit_status != unit_expected)                                                          \
            fail_msg("%s: expected %s, got %s: %s", #call, mr_status_name(unit_expected),          \
                     mr_status_name(unit_status), mr_last_error());                                \
    } while (0)

#define assert_ok(call) assert_status(MR_OK, call)

/* This thread's words contain these. */
#define assert_words(words)                                                                        \
    do {                                                                                           \
        if (!strstr(mr_last_error(), (words)))                                                     \
            fail_msg("expected words \"%s\" in \"%s\"", (words), mr_last_error());                 \
    } while (0)

#endif
