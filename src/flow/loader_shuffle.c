/* SPDX-License-Identifier: MIT */
/*
 * A Feistel network permutes the numbers of so many bits; one that lands outside the range is permuted
 * again until it is inside, which makes a permutation of the range.
 */
#include "flow/loader_shuffle.h"

/* Spreads every bit of the input over all bits of the output, one to one. */
static uint64_t spread(uint64_t value)
{
    value ^= value >> 32;
    value *= UINT64_C(0xd6e8feb86659fd93);
    value ^= value >> 32;
    value *= UINT64_C(0xd6e8feb86659fd93);
    value ^= value >> 32;
    return value;
}

uint64_t mr__shuffle_mix(uint64_t seed, uint64_t epoch, uint64_t batch)
{
    const uint64_t odd = UINT64_C(0x9e3779b97f4a7c15);
    return spread(spread(spread(seed + odd) + epoch + odd) + batch + odd);
}

void mr__shuffle_init(struct mr__shuffle *shuffle, uint64_t count, uint64_t seed, uint64_t epoch)
{
    uint32_t bits = 2;
    while (bits < 64 && count > UINT64_C(1) << bits)
        bits++;
    shuffle->count = count;
    shuffle->high_bits = bits / 2;
    shuffle->low_bits = bits - bits / 2;
    for (uint64_t i = 0; i < MR__SHUFFLE_ROUNDS; i++)
        shuffle->keys[i] = mr__shuffle_mix(seed, epoch, ~i);
}

static uint64_t mask(uint32_t bits)
{
    return (UINT64_C(1) << bits) - 1;
}

/* The two parts take turns: each round changes one by the other. */
static uint64_t permute(const struct mr__shuffle *shuffle, uint64_t value)
{
    const uint64_t high_mask = mask(shuffle->high_bits), low_mask = mask(shuffle->low_bits);
    uint64_t high = value >> shuffle->low_bits, low = value & low_mask;
    for (int i = 0; i < MR__SHUFFLE_ROUNDS; i += 2) {
        high ^= spread(low + shuffle->keys[i]) >> 7 & high_mask;
        low ^= spread(high + shuffle->keys[i + 1]) >> 7 & low_mask;
    }
    return high << shuffle->low_bits | low;
}

uint64_t mr__shuffle_at(const struct mr__shuffle *shuffle, uint64_t index)
{
    do
        index = permute(shuffle, index);
    while (index >= shuffle->count);
    return index;
}
