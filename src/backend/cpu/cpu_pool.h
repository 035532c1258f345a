/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_pool.h - memory in stream order: blocks that are given back before their last use
 * has run.
 *
 * A block that was given back remembers the queue and the sequence. The same queue may have it again
 * at once, since its work is in order; another queue once that sequence is reached.
 */
#ifndef MR__CPU_POOL_H
#define MR__CPU_POOL_H

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_timeline.h"

/* Four size classes to every doubling, from 256 bytes on. */
enum { CPU_POOL_CLASS_COUNT = 1 + 4 * 56 };

struct cpu_block;

struct cpu_pool {
    pthread_mutex_t lock;
    struct cpu_block *free[CPU_POOL_CLASS_COUNT]; /* the last one given back first */
    size_t used_bytes, free_bytes;
    size_t peak_bytes; /* of used_bytes, sinking slowly: how much it is worth keeping */
};

void mr__cpu_pool_init(struct cpu_pool *pool);
void mr__cpu_pool_fini(struct cpu_pool *pool); /* all blocks are back and unused */

/* Frees unused blocks, the largest first, until at most `keep_bytes` are left. */
void mr__cpu_pool_trim(struct cpu_pool *pool, size_t keep_bytes);

/* The table's entries. */
mr_status mr__cpu_memory_create_ordered(struct mr_queue *queue, size_t size_bytes,
                                        struct mr_memory *out);
void mr__cpu_memory_destroy_ordered(struct mr_queue *queue, struct mr_memory *memory);

#endif
