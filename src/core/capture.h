/* SPDX-License-Identifier: MIT */
/*
 * core/capture.h - recording instead of running, as the calls that submit see it.
 *
 * A stream that is captured has `capture` set. Every call that submits to a stream asks
 * mr__stream_is_special first (two loads) and, where it is, mr__capture_admit; a submission that is
 * recorded then notes its buffers and itself with the capture instead of with the stream. Calls that
 * cannot be recorded ask mr__capture_refuse and its kin, which break the capture of their own thread
 * and leave those of others alone.
 */
#ifndef MR__CAPTURE_H
#define MR__CAPTURE_H

#include "core/buffer.h"
#include "core/event.h"

#include <millrace/graph.h>

struct mr__capture;

static inline bool mr__stream_is_captured(const mr_stream *stream)
{
    return __builtin_expect(
        atomic_load_explicit(&((mr_stream *)stream)->capture, memory_order_relaxed) != NULL, 0);
}

static inline bool mr__stream_is_special(const mr_stream *stream)
{
    return mr__stream_is_captured(stream) || __builtin_expect(stream->kind == MR_STREAM_LEGACY, 0);
}

/* Whether `call` may submit to a special stream. MR_E_STATE in words, else MR_OK. */
mr_status mr__capture_admit(const char *call, const mr_stream *stream);

/* `call` on `stream` cannot be recorded: MR_E_STATE when the stream is captured; that breaks the capture
 * when it is this thread's. `why` ends the words. */
mr_status mr__capture_refuse_slowly(const char *call, const mr_stream *stream, const char *why);

static inline mr_status mr__capture_refuse(const char *call, const mr_stream *stream,
                                           const char *why)
{
    return mr__stream_is_captured(stream) ? mr__capture_refuse_slowly(call, stream, why) : MR_OK;
}

/* The same for an event that was recorded in a capture. */
mr_status mr__capture_refuse_event(const char *call, const mr_event *event);

/* The same for what `call` does to the device while this thread captures on it. `subject` ("buffer
 * 'x'") may be NULL. */
mr_status mr__capture_refuse_device(const char *call, const mr_device *device, const char *subject);

/* The same, for a call that waits for a stream whatever comes: breaks this thread's capture of it. */
void mr__capture_refuse_life(const char *call, const struct mr__stream_life *life);

/* ---- of a stream that mr__capture_admit let pass ---- */

/* Notes a range that the work will use. MR_E_NO_MEMORY, else MR_OK. */
mr_status mr__capture_use(const mr_stream *stream, mr_buffer *buffer, size_t offset,
                          size_t size_bytes, mr_access access);

/* Pageable memory on a GPU breaks the capture: MR_E_STATE. `memory` is as the stream reaches it. */
mr_status mr__capture_check_memory(const char *call, const mr_stream *stream,
                                   const mr_buffer *buffer, const struct mr_memory *memory);

/* Counts work that the backend recorded. */
void mr__capture_advance(mr_stream *stream);

struct mr__holdings;
struct mr__holdings *mr__capture_holdings(const mr_stream *stream);

/* mr_event_record and mr_stream_wait_event, where the stream or the event is of a capture. */
mr_status mr__capture_record(mr_event *event, mr_stream *stream);
mr_status mr__capture_wait(mr_stream *stream, const mr_event *event);

/* The event forgets a place in a capture, so that it can be recorded anew. */
void mr__capture_forget_event(mr_event *event);

/* The stream is being destroyed. */
void mr__capture_leave(mr_stream *stream);

/* As mr_capture_end; `*is_broken`: an illegal call broke it. */
mr_status mr__capture_end(mr_stream *stream, mr_graph **out, bool *is_broken);

#endif
