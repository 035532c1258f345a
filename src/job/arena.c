/* SPDX-License-Identifier: MIT */
/*
 * A chain of blocks, each filled from front to back; larger pieces get a block of their own.
 */
#include "job/arena.h"

#include "base/alloc.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)16 * 1024)
#define ALIGNMENT (_Alignof(max_align_t))

struct mr__arena_block {
    struct mr__arena_block *next;
    size_t used, capacity;
    max_align_t bytes[];
};

static struct mr__arena_block *add_block(struct mr__arena *arena, size_t size_bytes)
{
    const size_t capacity = size_bytes > BLOCK_BYTES ? size_bytes : BLOCK_BYTES;
    struct mr__arena_block *block = mr__zalloc(sizeof *block + capacity);
    if (!block)
        return NULL;
    block->capacity = capacity;
    block->next = arena->blocks;
    arena->blocks = block;
    return block;
}

void *mr__arena_zalloc(struct mr__arena *arena, size_t size_bytes)
{
    if (size_bytes > SIZE_MAX / 2) {
        arena->is_out = 1;
        return NULL;
    }

    const size_t rounded = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct mr__arena_block *block = arena->blocks;
    if (!block || block->capacity - block->used < rounded)
        block = add_block(arena, rounded);
    if (!block) {
        arena->is_out = 1;
        return NULL;
    }
    void *piece = (unsigned char *)block->bytes + block->used;
    block->used += rounded;
    return piece;
}

char *mr__arena_copy(struct mr__arena *arena, const char *text, size_t length)
{
    char *copy = mr__arena_zalloc(arena, length + 1);
    if (copy)
        memcpy(copy, text, length);
    return copy;
}

char *mr__arena_textv(struct mr__arena *arena, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    const int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    char *text = length < 0 ? NULL : mr__arena_zalloc(arena, (size_t)length + 1);
    if (text)
        vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

char *mr__arena_text(struct mr__arena *arena, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = mr__arena_textv(arena, format, arguments);
    va_end(arguments);
    return text;
}

void mr__arena_fini(struct mr__arena *arena)
{
    while (arena->blocks) {
        struct mr__arena_block *next = arena->blocks->next;
        mr__free(arena->blocks);
        arena->blocks = next;
    }
}
