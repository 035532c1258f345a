/* SPDX-License-Identifier: MIT */
/*
 * core/stream.h - a stream as core's other files see it.
 *
 * To submit work: call the backend on `queue`; when it took the work, call mr__stream_advance for
 * the sequence number of the submission; when an observer is there, emit a record with that number.
 */
#ifndef MR__STREAM_H
#define MR__STREAM_H

#include "core/device.h"
#include "core/stream_life.h"

enum { MR__WATERMARK_COUNT = 16 }; /* a power of two */

/* Everything up to `sequence` of that stream is waited for. */
struct mr__watermark {
    uint64_t stream_id;
    uint64_t sequence;
};

/* A host function on its way through the queue. Padded: the submitting thread writes one while a
 * worker reads the one before. */
struct mr__call {
    _Alignas(64) struct mr__call_ring *ring;
    uint64_t sequence;
    mr_host_function function;
    void *context;
};

/* Calls end in the order in which they were submitted, so a ring hands them back without a lock. A ring
 * that is full is followed by one twice as large; the older drains and is kept until the stream ends. */
struct mr__call_ring {
    mr_stream *stream;
    struct mr__call_ring *older;
    uint64_t capacity;                        /* a power of two */
    uint64_t taken, seen_given_back;          /* the submitting thread's */
    _Alignas(64) _Atomic uint64_t given_back; /* written by whoever runs the calls, one at a time */
    struct mr__call calls[];
};

struct mr__capture;

struct mr_stream {
    struct mr_queue *queue;
    const struct mr_backend_ops *ops; /* the queue's */
    mr_device *device;
    uint64_t id;
    mr_stream_kind kind;
    bool is_foreign; /* wraps a native stream: others may submit to it */
    int priority;
    struct mr__stream_life *life;

    /* While it is captured (capture.h); written by the capturing thread alone. */
    _Atomic(struct mr__capture *) capture;

    _Atomic uint64_t submitted; /* written by the submitting thread alone */

    /* The submitting thread's. */
    uint64_t record_sequence; /* of the last record: another one there is redundant */
    struct mr_point *point;   /* its point, kept only where a record is dear */
    struct mr__call_ring *calls;
    struct mr__watermark watermarks[MR__WATERMARK_COUNT];

    _Atomic uint32_t ordered_count; /* ordered buffers of this stream */
    size_t capture_index;           /* among the streams of `capture` */
};

/* The number of the newest submission. Any thread. */
static inline uint64_t mr__stream_sequence(const mr_stream *stream)
{
    return atomic_load_explicit(&((mr_stream *)stream)->submitted, memory_order_relaxed);
}

/* Counts a submission that the backend took and gives its number. */
static inline uint64_t mr__stream_advance(mr_stream *stream)
{
    const uint64_t sequence = mr__stream_sequence(stream) + 1;
    atomic_store_explicit(&stream->submitted, sequence, memory_order_relaxed);
    return sequence;
}

/* True when `stream` already waits for `sequence` of the other stream. */
static inline bool mr__stream_has_waited(const mr_stream *stream, uint64_t other_id,
                                         uint64_t sequence)
{
    const struct mr__watermark *mark = &stream->watermarks[other_id % MR__WATERMARK_COUNT];
    return mark->stream_id == other_id && mark->sequence >= sequence;
}

static inline void mr__stream_note_wait(mr_stream *stream, uint64_t other_id, uint64_t sequence)
{
    stream->watermarks[other_id % MR__WATERMARK_COUNT] =
        (struct mr__watermark){ .stream_id = other_id, .sequence = sequence };
}

/* How each of the three ways to a stream begins. `queue` is taken, also on failure. `name` may be
 * NULL. Children are counted by the caller. */
mr_status mr__stream_adopt(mr_device *device, struct mr_queue *queue, const char *name,
                           mr_stream_kind kind, int priority, mr_stream **out);

/* Waits for the work, then frees the stream, of whatever kind. */
void mr__stream_end(mr_stream *stream);

#endif
