/* SPDX-License-Identifier: MIT */
/*
 * millrace/ring.h - producers and consumers share N slots of memory.
 *
 * A producer acquires a free slot, writes it, and publishes it. A consumer takes the oldest published
 * slot, reads it, and releases it. Either side is a host thread (stream NULL) or a stream: then
 * acquire and take make the stream wait for the other side's event, and publish and release record
 * one, so that the host never waits for the device. A slot is handed out for writing only when every
 * reader of its previous contents has released it, and written only after their events have fired: by
 * construction, not by the caller's care.
 *
 *     acquire ──► write ──► publish ──► take ──► read ──► release ──► (acquire)
 *
 * All N slots are usable. Back-pressure: acquire blocks, gives up, or drops the oldest published slot
 * that nobody has taken, as the policy says. A stream producer can run at most one lap of
 * unfinished work ahead: acquire blocks the host until the slot's writes of the lap before have ended.
 *
 * Ownership  mr_ring_create gives; mr_ring_destroy takes when no slot is held. Slots are lent.
 * Threads    Every call is [any thread]: any number of producers and consumers.
 * Errors     A failed stream closes nothing: its status stays on the stream. A thread that takes an
 *            item whose writing failed gets that failure once, and the item is gone; a stream that
 *            takes it does not notice. mr_ring_fail ends the ring for both sides with a status and
 *            words.
 */
#ifndef MR_RING_H
#define MR_RING_H

#include <millrace/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_ring mr_ring;

typedef enum mr_ring_policy {
    MR_RING_BLOCK = 0, /* acquire waits for a free slot */
    /* Acquire takes the oldest published slot that no consumer holds; its contents are lost and
     * counted. Waits when all are held. */
    MR_RING_DROP_OLDEST = 1,
    MR_RING_FAIL = 2 /* acquire answers MR_E_BUSY when no slot is free */
} mr_ring_policy;

typedef struct mr_ring_options {
    uint32_t slot_count; /* 0 = 4; 1 to 65536 */
    size_t slot_bytes;   /* required */
    mr_place place;      /* where the slots live */
    mr_ring_policy policy;
    /* 0: consumers share the items, each item to one. n: every item goes to each of n consumers,
     * numbered 0 to n-1; at most 64. */
    uint32_t broadcast_count;
    const char *name; /* copied; NULL picks one */
} mr_ring_options;

/* A slot as lent to a producer or a consumer. */
typedef struct mr_slot {
    mr_buffer *buffer; /* the slot's memory is the whole of this buffer */
    uint32_t index;    /* 0 to slot_count - 1 */
    uint64_t sequence; /* 0, 1, 2...: the item's place in publishing order (consumers) */
    size_t size_bytes; /* set by the producer before publish; what a consumer may read */
    uint64_t user;     /* carried from producer to consumer */
} mr_slot;

typedef struct mr_ring_statistics {
    uint64_t published, taken, released, dropped;
    uint64_t producer_waits, consumer_waits; /* times the host had to wait */
    uint64_t producer_wait_ns, consumer_wait_ns;
    uint32_t filled_count, filled_peak; /* published and not yet released */
} mr_ring_statistics;

/* Allocates all slots. May block. */
MR_API MR_MUST_USE mr_status mr_ring_create(mr_device *device, const mr_ring_options *options,
                                            mr_ring **out);

/* Waits for the streams' use of the slots, then frees. Slots must not be held. NULL is accepted. May
 * block. */
MR_API void mr_ring_destroy(mr_ring *ring);

/* Lends a slot for writing on `stream` (NULL: by the calling thread, which then also waits for the
 * readers' events). MR_E_TIMEOUT after timeout_ns (0: try, MR_E_BUSY when none is free; MR_FOREVER: no
 * limit), MR_E_CLOSED after close. May block. */
MR_API MR_MUST_USE mr_status mr_ring_acquire(mr_ring *ring, mr_stream *stream, uint64_t timeout_ns,
                                             mr_slot *slot);

/* Gives the written slot to the consumers; what `stream` has been given so far is the write. Slots
 * become visible to consumers in the order of their publish calls. Never blocks. */
MR_API MR_MUST_USE mr_status mr_ring_publish(mr_ring *ring, mr_stream *stream, const mr_slot *slot);

/* Gives an acquired slot back unwritten. Never blocks. */
MR_API MR_MUST_USE mr_status mr_ring_abandon(mr_ring *ring, const mr_slot *slot);

/* Lends the oldest published slot for reading on `stream` (NULL: by the calling thread, which waits
 * for the writer's event). `consumer` is the number in a broadcast ring, else 0. MR_END once the ring
 * is closed and this consumer has had everything. May block. */
MR_API MR_MUST_USE mr_status mr_ring_take(mr_ring *ring, uint32_t consumer, mr_stream *stream,
                                          uint64_t timeout_ns, mr_slot *slot);

/* Ends the reading; what `stream` has been given so far is the read. Never blocks. */
MR_API MR_MUST_USE mr_status mr_ring_release(mr_ring *ring, uint32_t consumer, mr_stream *stream,
                                             const mr_slot *slot);

/* No more will be published: acquire answers MR_E_CLOSED, take drains and then answers MR_END. Slots
 * that producers hold may still be published. Idempotent. Never blocks. */
MR_API void mr_ring_close(mr_ring *ring);

/* Ends both sides at once: waiting and later calls answer `status` with these words. The first call
 * counts. Never blocks. */
MR_API void mr_ring_fail(mr_ring *ring, mr_status status, const char *words);

/* Waits until everything published has been released and its events have fired. May block. */
MR_API MR_MUST_USE mr_status mr_ring_drain(mr_ring *ring, uint64_t timeout_ns);

MR_API void mr_ring_measure(mr_ring *ring, mr_ring_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
