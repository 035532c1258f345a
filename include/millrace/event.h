/* SPDX-License-Identifier: MIT */
/*
 * millrace/event.h - a point in a stream that others can wait for.
 *
 * Everything written before mr_event_record is visible to work after the matching wait, across
 * streams, devices and backends: a CPU stream may wait for a CUDA event and the other way round, and
 * the submitting thread does not block for it. A record is a snapshot: recording the event again
 * does not disturb waits that were submitted earlier.
 *
 * Ownership  mr_event_create gives; mr_event_destroy takes, at any time: waits already submitted keep
 *            what they need.
 * Threads    One thread at a time records and destroys an event; waits and queries are [any thread],
 *            but not while another thread records.
 * Errors     An event that was never recorded counts as fired. If the stream failed before the
 *            recorded point, host waits and queries answer the stream's failure. A stream that waits
 *            is released and does not fail, as the order was kept; only a wait between backends hands
 *            the failure on, so that no device works on what another could not deliver. There a host
 *            thread stands between the two anyway. Within a backend the device waits by itself, and a
 *            host function would have to run for every wait to look for a failure first. (A failure
 *            of a GPU itself is the whole context's: there every stream of the device fails.) Ask
 *            mr_stream_failure of the streams that were waited for.
 */
#ifndef MR_EVENT_H
#define MR_EVENT_H

#include <millrace/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_event mr_event;

typedef struct mr_event_options {
    bool has_timing; /* records carry a time; costs more on a GPU (about ten times per record) */
} mr_event_options;

/* `options` may be NULL. Never blocks. */
MR_API MR_MUST_USE mr_status mr_event_create(mr_device *device, const mr_event_options *options,
                                             mr_event **out);
MR_API void mr_event_destroy(mr_event *event);

/* Marks the point reached when all work submitted to `stream` so far has ended. The stream must be of
 * the event's device. Never blocks. */
MR_API MR_MUST_USE mr_status mr_event_record(mr_event *event, mr_stream *stream);

/* Makes work submitted to `stream` from now on wait for the event as recorded now. Any device, any
 * backend. A wait that earlier waits imply costs nothing. Never blocks.
 *
 * Where a GPU's driver cannot wait for memory (Windows, and Linux inside it), a wait for another backend
 * keeps the driver's only thread for host functions until the event fires: there, let what is waited for
 * not depend on a host function of that GPU. */
MR_API MR_MUST_USE mr_status mr_stream_wait_event(mr_stream *stream, const mr_event *event);

/* Host waits: MR_OK when fired, MR_E_TIMEOUT when the limit ran out. May block. [any thread] */
MR_API MR_MUST_USE mr_status mr_event_wait(const mr_event *event);
MR_API MR_MUST_USE mr_status mr_event_wait_for(const mr_event *event, uint64_t timeout_ns);

/* MR_OK when fired, MR_E_BUSY before. Never blocks. [any thread] */
MR_API MR_MUST_USE mr_status mr_event_query(const mr_event *event);

/* Nanoseconds from `start` to `end`, two fired timing events of one device; negative when `end` came
 * first. MR_E_INVALID without timing, MR_E_BUSY before both have fired, MR_E_STATE when one was never
 * recorded. CUDA's resolution is about 500 ns. Never blocks. */
MR_API MR_MUST_USE mr_status mr_event_elapsed(const mr_event *start, const mr_event *end,
                                              int64_t *elapsed_ns);

#ifdef __cplusplus
}
#endif
#endif
