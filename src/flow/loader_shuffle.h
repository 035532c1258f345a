/* SPDX-License-Identifier: MIT */
/*
 * flow/loader_shuffle.h - an order of 0 to count - 1 that a seed decides, computed place by place: it
 * takes no memory, however many there are.
 */
#ifndef MR__LOADER_SHUFFLE_H
#define MR__LOADER_SHUFFLE_H

#include <stdint.h>

enum { MR__SHUFFLE_ROUNDS = 12 }; /* even */

struct mr__shuffle {
    uint64_t count;
    uint32_t high_bits, low_bits; /* together the fewest that hold `count` numbers */
    uint64_t keys[MR__SHUFFLE_ROUNDS];
};

/* The same for the same three numbers, on every machine. */
void mr__shuffle_init(struct mr__shuffle *shuffle, uint64_t count, uint64_t seed, uint64_t epoch);

/* What is at `index`, which is below count. */
uint64_t mr__shuffle_at(const struct mr__shuffle *shuffle, uint64_t index);

/* A number that depends on all three, and looks random. */
uint64_t mr__shuffle_mix(uint64_t seed, uint64_t epoch, uint64_t batch);

#endif
