/* SPDX-License-Identifier: MIT */
/*
 * backend/code_cache.h - compiled code kept on disk, for backends that compile at run time.
 *
 * An entry holds all that its code was made from, and is used only when that is equal, byte by byte,
 * and the whole is undamaged. Several processes may read and write one folder at once. Everything
 * here is best effort: without a folder, or with one that fails, there is just nothing in it.
 */
#ifndef MR__CODE_CACHE_H
#define MR__CODE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What code is made from: pieces in order. Start with { 0 }. */
struct mr__code_key {
    unsigned char *bytes;
    size_t size_bytes;
    bool
        is_broken; /* memory ran out, or the code depends on what no key can hold: nothing is found */
};

void mr__code_key_add(struct mr__code_key *key, const void *piece, size_t size_bytes);
/* NULL counts as "". */
void mr__code_key_add_text(struct mr__code_key *key, const char *piece);
void mr__code_key_fini(struct mr__code_key *key);

/* True when source and flags alone decide what is compiled: with no file of the user's included, no
 * key can go stale. `flags` may be NULL. */
bool mr__code_is_self_contained(const char *source, const char *flags);

/* The code kept under the key, with a zero behind it; NULL when there is none. `folder` may be NULL.
 * Freed with mr__free. */
void *mr__code_cache_read(const char *folder, const struct mr__code_key *key, size_t *size_bytes);

/* Afterwards the folder's entries have `limit_bytes` at most; those used longest ago went first. What is
 * larger alone is not kept. */
void mr__code_cache_write(const char *folder, const struct mr__code_key *key, const void *code,
                          size_t size_bytes, uint64_t limit_bytes);

/* code_trim.c: removes what was used longest ago until the entries have `limit_bytes` at most, but never
 * the entry called `kept`; and what writers that died left. */
void mr__code_cache_trim(const char *folder, const char *kept, uint64_t limit_bytes);

/* millrace/portable.h as text, for compilers that are called at run time. */
extern const char mr__portable_header[];

#endif
