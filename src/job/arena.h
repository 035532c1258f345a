/* SPDX-License-Identifier: MIT */
/*
 * job/arena.h - memory that lives as long as a job: small pieces, freed together.
 */
#ifndef MR__JOB_ARENA_H
#define MR__JOB_ARENA_H

#include <stdarg.h>
#include <stddef.h>

/* Start with zeroes. After the first failure `is_out` stays set, so that a long reading may go on
 * and be judged once at its end. */
struct mr__arena {
    struct mr__arena_block *blocks;
    int is_out;
};

/* Zeroed, aligned for any type. NULL when memory is out. */
void *mr__arena_zalloc(struct mr__arena *arena, size_t size_bytes);
/* NULL when memory is out. */
char *mr__arena_copy(struct mr__arena *arena, const char *text, size_t length);
char *mr__arena_text(struct mr__arena *arena, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char *mr__arena_textv(struct mr__arena *arena, const char *format, va_list arguments)
    __attribute__((format(printf, 2, 0)));
void mr__arena_fini(struct mr__arena *arena);

#endif
