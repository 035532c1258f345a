/* SPDX-License-Identifier: MIT */
/*
 * Two FNV-1a lanes with different primes' offsets, finished by a multiply-xorshift mix per piece.
 * FNV-1a: Fowler, Noll, Vo; 64-bit prime 2^40 + 2^8 + 0xb3.
 */
#include "base/hash.h"

#include <stdio.h>

#define FNV_PRIME 0x100000001b3ull
#define FNV_OFFSET 0xcbf29ce484222325ull

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93ull;
    x ^= x >> 32;
    return x;
}

static uint64_t add_lane(uint64_t lane, const unsigned char *bytes, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        lane = (lane ^ bytes[i]) * FNV_PRIME;
    return mix(lane ^ size_bytes);
}

void mr__hash_add(struct mr__hash *hash, const void *data, size_t size_bytes)
{
    hash->low = add_lane(hash->low ^ FNV_OFFSET, data, size_bytes);
    hash->high = add_lane(mix(hash->high ^ ~FNV_OFFSET), data, size_bytes);
}

void mr__hash_text(const struct mr__hash *hash, char text[MR__HASH_TEXT_BYTES])
{
    snprintf(text, MR__HASH_TEXT_BYTES, "%016llx%016llx", (unsigned long long)hash->high,
             (unsigned long long)hash->low);
}
