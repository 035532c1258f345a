/* SPDX-License-Identifier: MIT */
/*
 * support/check.h - checks that print both values and end the program, in any thread.
 */
#ifndef TEST_CHECK_H
#define TEST_CHECK_H

#include <millrace/status.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Says where and ends the program with 1. */
#define CHECK_FAIL(...)                                                                            \
    do {                                                                                           \
        fflush(stdout);                                                                            \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                                            \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
        exit(1);                                                                                   \
    } while (0)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition))                                                                          \
            CHECK_FAIL("not true: %s", #condition);                                                \
    } while (0)

/* Integers, signed or unsigned, of at most 64 bits. */
#define CHECK_EQ(expected, actual)                                                                 \
    do {                                                                                           \
        const int64_t check_expected = (int64_t)(expected);                                        \
        const int64_t check_actual = (int64_t)(actual);                                            \
        if (check_expected != check_actual)                                                        \
            CHECK_FAIL("%s: expected %" PRId64 ", got %" PRId64, #actual, check_expected,          \
                       check_actual);                                                              \
    } while (0)

#define CHECK_STATUS(expected, call)                                                               \
    do {                                                                                           \
        const mr_status check_wanted = (expected);                                                 \
        const mr_status check_status = (call);                                                     \
        if (check_status != check_wanted)                                                          \
            CHECK_FAIL("%s: expected %s, got %s: %s", #call, mr_status_name(check_wanted),         \
                       mr_status_name(check_status), mr_last_error());                             \
    } while (0)

#define CHECK_OK(call) CHECK_STATUS(MR_OK, call)

/* The text contains the words. */
#define CHECK_SAYS(words, text)                                                                    \
    do {                                                                                           \
        const char *check_text = (text);                                                           \
        if (!check_text || !strstr(check_text, (words)))                                           \
            CHECK_FAIL("%s: expected words \"%s\" in \"%s\"", #text, (words),                      \
                       check_text ? check_text : "(null)");                                        \
    } while (0)

#endif
