/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_chain.h - element-wise launches that follow each other on a queue, run together tile
 * by tile: what one writes is still in the core's first cache when the next reads it. What goes to
 * memory far larger than the caches is made in a tile of its own and stored around them.
 */
#ifndef MR__CPU_CHAIN_H
#define MR__CPU_CHAIN_H

#include "backend/cpu/cpu_record.h"

/* Runs as many of the `known` oldest records as make a chain, all of them launches, and answers how many
 * it ran; 0 when the oldest is not worth it. Pops none. */
uint32_t mr__cpu_chain_run(struct cpu_worker *worker, const struct cpu_ring *ring, uint64_t known);

/* Whether what is written to memory of that size had better go around the caches. */
bool mr__cpu_is_streamed(size_t memory_bytes);

#endif
