/* SPDX-License-Identifier: MIT */
/*
 * flow/ring_parts.h - what the ring's files share.
 *
 * One lock guards all bookkeeping; nothing that may block is called under it. A slot is in exactly
 * one state: free (in the free list, oldest first), lent to a producer (in no list), or published
 * (in the published list, in publishing order, until its last consumer has released it). Consumers
 * that share the items are one numbered consumer that several threads use: sharing is a broadcast
 * to one.
 *
 * ring.c makes and ends rings, ring_point.c keeps the events, ring_produce.c and ring_consume.c are
 * the two sides.
 */
#ifndef MR__RING_PARTS_H
#define MR__RING_PARTS_H

#include "flow/gate.h"

#include <millrace/event.h>
#include <millrace/graph.h>
#include <millrace/ring.h>

enum { MR__RING_SLOT_LIMIT = 65536, MR__RING_CONSUMER_LIMIT = 64 };

#define MR__RING_NONE UINT32_MAX

/* A graph would use the slot again and again; `stream` may be NULL. Not under the lock. */
static inline mr_status mr__ring_refuse_capture(const char *call, const mr_stream *stream)
{
    return mr_capture_refuse(stream, call, "a ring lends a slot for one use, not for every launch");
}

enum mr__ring_state { MR__RING_FREE, MR__RING_LENT, MR__RING_PUBLISHED };

/* An event that drain may wait for outside the lock while its slot goes on: then the next record
 * takes a fresh point, and the last waiter frees this one. */
struct mr__ring_point {
    mr_event *event;
    mr_device *device;
    uint32_t wait_count;
    bool is_replaced;
};

struct mr__ring_entry {
    mr_buffer *buffer;
    struct mr__ring_point *
        *points;             /* the writing's, then one for each consumer; made at first use */
    uint32_t previous, next; /* in the list of its state */
    enum mr__ring_state state;
    uint64_t sequence;
    size_t size_bytes;
    uint64_t user;
    uint64_t taken, released; /* a bit for each consumer */
    uint64_t host_taken;      /* by a thread, which has then seen the writing's event fire */
    uint64_t pending_reads;   /* reads with an event that nobody has seen fire */
    bool is_write_pending;    /* the same for the writing */
    const mr_stream *writer;  /* acquired it: its work comes after the pending reads */
};

struct mr__ring_list {
    uint32_t first, last;
};

struct mr_ring {
    mr_device *device;
    char *name;
    uint32_t slot_count, consumer_count;
    size_t slot_bytes;
    mr_ring_policy policy;
    struct mr__ring_entry *entries;
    struct mr__ring_point **points; /* all entries' */

    pthread_mutex_t lock; /* guards everything below, and the entries */
    struct mr__gate freed, filled, settled;
    struct mr__ring_list free, published;
    uint32_t cursors[MR__RING_CONSUMER_LIMIT]; /* each consumer's next published slot */
    uint32_t lent_count;                       /* slots that producers have */
    bool is_closed;
    mr_status failure;
    char failure_words[MR_ERROR_BYTES];
    mr_ring_statistics statistics;
};

/* Everything from here on is called under the lock unless it says otherwise. */

/* ---- ring.c ---- */

void mr__ring_append(mr_ring *ring, struct mr__ring_list *list, uint32_t index);
void mr__ring_prepend(mr_ring *ring, struct mr__ring_list *list, uint32_t index);
void mr__ring_remove(mr_ring *ring, struct mr__ring_list *list, uint32_t index);

/* A slot leaves the published list: released by all, or dropped. */
void mr__ring_unpublish(mr_ring *ring, uint32_t index);
/* A slot in no list may be acquired again: first of all, or after the others. */
void mr__ring_give_free(mr_ring *ring, uint32_t index, bool is_first);

/* Set the thread's words and answer the status. */
mr_status mr__ring_say_failure(const mr_ring *ring);
mr_status mr__ring_say_timeout(const mr_ring *ring, const char *missing);

/* ---- ring_point.c ---- */

struct mr__ring_point **mr__ring_write_point(const struct mr__ring_entry *entry);
struct mr__ring_point **mr__ring_read_point(const struct mr__ring_entry *entry, uint32_t consumer);

/* Records what `stream` has been given so far, at a place that nobody else records now. Gives the
 * lock up meanwhile. */
mr_status mr__ring_point_record(mr_ring *ring, struct mr__ring_point **place, mr_stream *stream);

/* True when it fired or its stream failed: either way nothing before it still runs. */
bool mr__ring_point_has_ended(const struct mr__ring_point *point);

/* Not under the lock. The same, waiting; false when patience has ended. */
bool mr__ring_point_wait(const struct mr__ring_point *point, const struct mr__patience *patience);

/* The same for whatever is recorded at `place` now, giving the lock up meanwhile. */
bool mr__ring_point_wait_shared(mr_ring *ring, struct mr__ring_point **place,
                                const struct mr__patience *patience);

/* Not under the lock. NULL is accepted. */
void mr__ring_point_destroy(struct mr__ring_point *point);

#endif
