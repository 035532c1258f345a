/* SPDX-License-Identifier: MIT */
/*
 * core/buffer.h - a buffer as core's other files see it.
 *
 * Before work that uses a buffer is submitted, mr__buffer_use notes the stream, so that destroying
 * the buffer waits for it. A stream that is already noted costs a compare.
 */
#ifndef MR__BUFFER_H
#define MR__BUFFER_H

#include "core/operation.h"
#include "core/stream.h"

enum { MR__USE_COUNT = 6 };

/* One stream's use. A free entry has stream_id 0. `life` is under the buffer's lock. */
struct mr__use {
    _Atomic uint64_t stream_id;
    _Atomic uint64_t sequence; /* of the newest use */
    struct mr__stream_life *life;
};

/* How the memory came, and so how it goes. */
enum mr__origin {
    MR__ORIGIN_CREATED,
    MR__ORIGIN_ORDERED,
    MR__ORIGIN_REGISTERED,
    MR__ORIGIN_BORROWED
};

struct mr_buffer {
    struct mr_memory memory;
    mr_device *device;
    uint64_t id;
    enum mr__origin origin;
    mr_stream *owner; /* of ordered memory */
    char *name;
    bool is_read_only;

    /* The memory goes with the last holder: the caller's handle, and what else was given the memory. */
    _Atomic uint32_t holder_count;
    void (*release)(void *context); /* gives borrowed memory back to its owner; may be NULL */
    void *release_context;

    struct mr__use uses[MR__USE_COUNT];
    pthread_mutex_t use_lock; /* for the changes of entries and for all of `more_uses` */
    struct mr__use *more_uses;
    size_t more_count;
};

/* The rare half of mr__buffer_use: the stream is not among the first. */
mr_status mr__buffer_use_more(mr_buffer *buffer, mr_stream *stream);

/* Notes that work about to be submitted to `stream` uses `buffer`. MR_E_NO_MEMORY, else MR_OK. */
static inline mr_status mr__buffer_use(mr_buffer *buffer, mr_stream *stream)
{
    for (int i = 0; i < MR__USE_COUNT; i++) {
        struct mr__use *use = &buffer->uses[i];
        if (atomic_load_explicit(&use->stream_id, memory_order_relaxed) == stream->id) {
            atomic_store_explicit(&use->sequence, mr__stream_sequence(stream) + 1,
                                  memory_order_relaxed);
            return MR_OK;
        }
    }
    return mr__buffer_use_more(buffer, stream);
}

/* A hold on the memory beside the caller's handle. Release: any thread; the last one frees the memory
 * and the buffer, and may block. */
void mr__buffer_retain(mr_buffer *buffer);
void mr__buffer_release(mr_buffer *buffer);

/* What gives a borrowed buffer's memory back, once, when the buffer ends. */
void mr__buffer_own(mr_buffer *buffer, void (*release)(void *context), void *context);

/* MR_E_INVALID in words, naming `call` and the buffer, when its memory may only be read. */
mr_status mr__buffer_check_writable(const char *call, const mr_buffer *buffer);

/* MR_E_INVALID in words, naming `call` and the buffer, when the range is not inside the buffer. */
mr_status mr__buffer_check_range(const char *call, const mr_buffer *buffer, size_t offset,
                                 size_t size_bytes);

/* The address by which kernels on `device` reach the buffer's first byte. MR_E_UNSUPPORTED in
 * words, naming `call` and the remedy, where they cannot. */
mr_status mr__buffer_address_on(const char *call, const mr_buffer *buffer, const mr_device *device,
                                uint64_t *address);

/* The range as an operation record shows it. */
mr_operation_access mr__buffer_access(const mr_buffer *buffer, size_t offset, size_t size_bytes,
                                      mr_access access);

#endif
