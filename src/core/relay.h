/* SPDX-License-Identifier: MIT */
/*
 * core/relay.h - waits between streams of different backends.
 *
 * The waiting queue waits at a gate of its own backend; a thread watches the other backend's point
 * and opens the gate. The submitting thread never blocks.
 */
#ifndef MR__RELAY_H
#define MR__RELAY_H

#include "core/event.h"

/* Makes `stream` wait for the recorded `event` of another backend. A failure of the event's stream
 * up to that point becomes a failure of `stream`. Counts as one submission. */
mr_status mr__relay_wait(mr_stream *stream, const mr_event *event);

/* Waits until the relay holds nothing of `device`, whose streams have all ended. */
void mr__relay_drain(mr_device *device);

/* Ends the thread, if there is one. Every device has been drained. */
void mr__relay_stop(void);

#endif
