/* SPDX-License-Identifier: MIT */
/*
 * The chunks of a ring: where they come from, how they go round.
 */
#include "backend/cpu/cpu_ring.h"

#include "base/alloc.h"

/* What a queue keeps for its next burst: 256 KiB. More goes back to the heap. */
enum { SPARE_LIMIT = 64 };

static struct cpu_chunk *create_chunk(void)
{
    return mr__alloc_aligned(CPU_LINE_BYTES, sizeof(struct cpu_chunk));
}

bool mr__cpu_ring_init(struct cpu_ring *ring)
{
    struct cpu_chunk *chunk = create_chunk();
    if (!chunk)
        return false;

    chunk->next = NULL;
    ring->write_chunk = chunk;
    ring->read_chunk = chunk;
    return true;
}

static void destroy_chunks(struct cpu_chunk *chunk)
{
    while (chunk) {
        struct cpu_chunk *next = chunk->next;
        mr__free(chunk);
        chunk = next;
    }
}

void mr__cpu_ring_fini(struct cpu_ring *ring)
{
    destroy_chunks(ring->read_chunk); /* up to write_chunk */
    destroy_chunks(ring->spare);
    destroy_chunks(atomic_load_explicit(&ring->returned, memory_order_acquire));
}

static struct cpu_chunk *take_spare(struct cpu_ring *ring)
{
    if (!ring->spare)
        ring->spare = atomic_exchange_explicit(&ring->returned, NULL, memory_order_acquire);

    struct cpu_chunk *chunk = ring->spare;
    if (!chunk)
        return create_chunk();

    ring->spare = chunk->next;
    atomic_fetch_sub_explicit(&ring->spare_count, 1, memory_order_relaxed);
    return chunk;
}

bool mr__cpu_ring_grow(struct cpu_ring *ring)
{
    struct cpu_chunk *chunk = take_spare(ring);
    if (!chunk)
        return false;
    chunk->next = NULL;

    /* The consumer reads neither before the count of records has grown. */
    struct cpu_record *turn =
        (struct cpu_record *)(void *)(ring->write_chunk->bytes + ring->write_offset);
    turn->kind = 0;
    ring->write_chunk->next = chunk;

    ring->write_chunk = chunk;
    ring->write_offset = 0;
    return true;
}

void mr__cpu_ring_turn(struct cpu_ring *ring)
{
    struct cpu_chunk *chunk = ring->read_chunk;
    ring->read_chunk = chunk->next;
    ring->read_offset = 0;

    if (atomic_load_explicit(&ring->spare_count, memory_order_relaxed) >= SPARE_LIMIT) {
        mr__free(chunk);
        return;
    }
    atomic_fetch_add_explicit(&ring->spare_count, 1, memory_order_relaxed);

    /* Only the producer takes, and it takes all at once, so that a head seen twice is the same. */
    struct cpu_chunk *head = atomic_load_explicit(&ring->returned, memory_order_relaxed);
    do
        chunk->next = head;
    while (!atomic_compare_exchange_weak_explicit(&ring->returned, &head, chunk,
                                                  memory_order_release, memory_order_relaxed));
}
