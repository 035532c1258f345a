/* SPDX-License-Identifier: MIT */
/*
 * Backends for unit tests of core, in which the test decides what runs when.
 *
 * Work runs in the submitting call unless its queue is held; then it waits until the test lets the
 * queue go. Calls are counted, and the next call of an entry can be made to fail. There are two
 * backends, alike but for their names, so that waits between backends can be tested anywhere.
 */
#ifndef TEST_SCRIPTED_BACKEND_H
#define TEST_SCRIPTED_BACKEND_H

#include "core/device.h"

extern const struct mr_backend_ops scripted_alpha, scripted_beta;

enum scripted_entry {
    SCRIPTED_QUEUE_CREATE,
    SCRIPTED_MEMORY_CREATE,
    SCRIPTED_COPY,
    SCRIPTED_FILL,
    SCRIPTED_CALL,
    SCRIPTED_POINT_RECORD,
    SCRIPTED_WAIT_POINT,
    SCRIPTED_WAIT_GATE,
    SCRIPTED_GATE_CREATE,
    SCRIPTED_QUEUE_WAIT,
    SCRIPTED_ENTRY_COUNT
};

/* Opens the backend's only device, after forgetting counts and failures. */
mr_device *scripted_open(const struct mr_backend_ops *ops);

/* Calls of an entry since scripted_open, of both backends. */
uint64_t scripted_count(enum scripted_entry entry);

/* The next call of the entry fails with `status`. */
void scripted_fail_next(enum scripted_entry entry, mr_status status);

/* From now on the stream's queue keeps its work, or runs it. */
void scripted_hold(mr_stream *stream);
void scripted_let_go(mr_stream *stream);

/* The device behind the queue has failed: queries and waits, of its points too, answer `status`. */
void scripted_break(mr_stream *stream, mr_status status);

/* From now on recording a point on the stream's queue waits until the work before it has run, as calls of
 * a driver do while another thread frees memory. */
void scripted_stall(mr_stream *stream);

/* Everything that was created has been destroyed. */
bool scripted_is_clean(void);

#endif
