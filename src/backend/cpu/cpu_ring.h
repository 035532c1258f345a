/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_ring.h - records of any size from one producer to one consumer, in chunks.
 *
 * The ring moves bytes and chunks; how many records the consumer may read is counted by its owner
 * (cpu_queue.h), whose counter also orders what both sides write. Chunks that were read go back to the
 * producer, so that a steady queue allocates nothing.
 */
#ifndef MR__CPU_RING_H
#define MR__CPU_RING_H

#include "backend/cpu/cpu_timeline.h"

#include <stddef.h>

enum { CPU_CHUNK_BYTES = 4096, CPU_RECORD_ALIGNMENT = 8 };

/* Heads every record. Kind 0 is the ring's own: the next record is in the next chunk. */
struct cpu_record {
    uint32_t kind;
    uint32_t size_bytes; /* with this head, a multiple of CPU_RECORD_ALIGNMENT */
};

struct cpu_chunk {
    struct cpu_chunk *next;
    _Alignas(CPU_RECORD_ALIGNMENT) unsigned char bytes[CPU_CHUNK_BYTES - sizeof(void *)];
};

/* A record may be this large. */
#define CPU_RECORD_BYTES_LIMIT (sizeof(((struct cpu_chunk *)0)->bytes) - sizeof(struct cpu_record))

struct cpu_ring {
    /* The producer's. */
    _Alignas(CPU_LINE_BYTES) struct cpu_chunk *write_chunk;
    size_t write_offset;
    struct cpu_chunk *spare;

    /* The consumer's. */
    _Alignas(CPU_LINE_BYTES) struct cpu_chunk *read_chunk;
    size_t read_offset;

    /* From the consumer to the producer. */
    _Alignas(CPU_LINE_BYTES) _Atomic(struct cpu_chunk *) returned;
    _Atomic uint32_t spare_count; /* returned and spare together */
};

/* False when memory is out. */
bool mr__cpu_ring_init(struct cpu_ring *ring);
void mr__cpu_ring_fini(struct cpu_ring *ring);

/* Producer: goes on to another chunk; false when memory is out, and nothing has changed. */
bool mr__cpu_ring_grow(struct cpu_ring *ring);

/* Consumer: goes on to the next chunk and returns the read one. */
void mr__cpu_ring_turn(struct cpu_ring *ring);

/* Producer: room for a record of `size_bytes`, its head filled; NULL when memory is out. It becomes a
 * part of the ring with mr__cpu_ring_push. */
static inline struct cpu_record *mr__cpu_ring_reserve(struct cpu_ring *ring, uint32_t kind,
                                                      size_t size_bytes)
{
    size_bytes =
        (size_bytes + CPU_RECORD_ALIGNMENT - 1) / CPU_RECORD_ALIGNMENT * CPU_RECORD_ALIGNMENT;
    if (__builtin_expect(ring->write_offset + size_bytes > CPU_RECORD_BYTES_LIMIT, 0) &&
        !mr__cpu_ring_grow(ring))
        return NULL;

    struct cpu_record *record =
        (struct cpu_record *)(void *)(ring->write_chunk->bytes + ring->write_offset);
    record->kind = kind;
    record->size_bytes = (uint32_t)size_bytes;
    return record;
}

static inline void mr__cpu_ring_push(struct cpu_ring *ring, const struct cpu_record *record)
{
    ring->write_offset += record->size_bytes;
}

/* Consumer: the oldest record; only when there is one. */
static inline struct cpu_record *mr__cpu_ring_front(struct cpu_ring *ring)
{
    struct cpu_record *record =
        (struct cpu_record *)(void *)(ring->read_chunk->bytes + ring->read_offset);
    if (__builtin_expect(record->kind != 0, 1))
        return record;
    mr__cpu_ring_turn(ring);
    return (struct cpu_record *)(void *)ring->read_chunk->bytes;
}

/* Consumer: looks ahead without popping. `chunk` begins as the ring's read_chunk and goes along; the
 * record asked for must be there. */
static inline struct cpu_record *mr__cpu_ring_at(const struct cpu_chunk **chunk, size_t offset)
{
    struct cpu_record *record = (struct cpu_record *)(uintptr_t)((*chunk)->bytes + offset);
    if (__builtin_expect(record->kind != 0, 1))
        return record;
    *chunk = (*chunk)->next;
    return (struct cpu_record *)(uintptr_t)(*chunk)->bytes;
}

static inline struct cpu_record *mr__cpu_ring_after(const struct cpu_chunk **chunk,
                                                    const struct cpu_record *record)
{
    const unsigned char *end = (const unsigned char *)record + record->size_bytes;
    return mr__cpu_ring_at(chunk, (size_t)(end - (*chunk)->bytes));
}

static inline void mr__cpu_ring_pop(struct cpu_ring *ring, const struct cpu_record *record)
{
    ring->read_offset += record->size_bytes;
}

#endif
