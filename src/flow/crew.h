/* SPDX-License-Identifier: MIT */
/*
 * flow/crew.h - threads that copy host memory to host memory, piece by piece, in the order of asking.
 */
#ifndef MR__CREW_H
#define MR__CREW_H

#include "flow/pipeline_bell.h"

#include <stddef.h>

struct mr__crew;

/* What was asked for together. Lives with the caller until it is done. Begins as zero. */
struct mr__crew_ticket {
    _Atomic uint32_t left; /* pieces not yet copied, and one while copies are still being added */
    struct mr__bell *bell; /* rung when nothing is left; may be NULL */
};

/* Starts the threads. */
mr_status mr__crew_create(uint32_t thread_count, struct mr__crew **out);
/* Ends what is queued first. NULL is accepted. */
void mr__crew_destroy(struct mr__crew *crew);
uint32_t mr__crew_size(const struct mr__crew *crew);

/* Opens a ticket; add copies; close it. Nothing blocks: where the queue is full the caller copies a
 * piece itself. `is_streamed` stores around the cache. [any thread], one per ticket */
void mr__crew_open(struct mr__crew_ticket *ticket, struct mr__bell *bell);
void mr__crew_copy(struct mr__crew *crew, struct mr__crew_ticket *ticket, void *target,
                   const void *source, size_t size_bytes, bool is_streamed);
void mr__crew_close(struct mr__crew *crew, struct mr__crew_ticket *ticket);

bool mr__crew_is_done(const struct mr__crew_ticket *ticket);
/* Waits, copying pieces meanwhile. */
void mr__crew_wait(struct mr__crew *crew, struct mr__crew_ticket *ticket);
/* Waits until no bell of a ticket that is done is touched any more. NULL is accepted. */
void mr__crew_settle(struct mr__crew *crew);

#endif
