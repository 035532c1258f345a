/* SPDX-License-Identifier: MIT */
/*
 * base/hash.h - a 128-bit hash that names cache entries and tells arrays apart. Not for secrets: what
 * is found by it must be compared before it is trusted.
 */
#ifndef MR__HASH_H
#define MR__HASH_H

#include <stddef.h>
#include <stdint.h>

struct mr__hash {
    uint64_t low, high;
};

#define MR__HASH_TEXT_BYTES 33

/* Start with (struct mr__hash){0} and add pieces; each piece's length counts, so that ("ab", "c") and
 * ("a", "bc") differ. */
void mr__hash_add(struct mr__hash *hash, const void *data, size_t size_bytes);

/* 32 hexadecimal digits and a zero. */
void mr__hash_text(const struct mr__hash *hash, char text[MR__HASH_TEXT_BYTES]);

#endif
