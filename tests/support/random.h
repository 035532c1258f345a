/* SPDX-License-Identifier: MIT */
/*
 * support/random.h - repeatable random numbers and data, and poison that shows what was not written.
 */
#ifndef TEST_RANDOM_H
#define TEST_RANDOM_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { POISON = 0xa5 };

/* Any state but 0. */
struct random {
    uint64_t state;
};

static inline uint64_t random_next(struct random *random)
{
    random->state ^= random->state << 13;
    random->state ^= random->state >> 7;
    random->state ^= random->state << 17;
    return random->state * UINT64_C(0x2545f4914f6cdd1d);
}

/* 0 to limit - 1. */
static inline size_t random_below(struct random *random, size_t limit)
{
    return (size_t)(random_next(random) >> 11) % limit;
}

static inline void random_bytes(struct random *random, void *data, size_t size_bytes)
{
    unsigned char *bytes = data;
    for (size_t i = 0; i < size_bytes; i++)
        bytes[i] = (unsigned char)(random_next(random) >> 56);
}

static inline void poison(void *data, size_t size_bytes)
{
    memset(data, POISON, size_bytes);
}

#endif
