/* SPDX-License-Identifier: MIT */
/*
 * millrace/stream.h - an ordered queue of work on one device.
 *
 * Work on one stream runs in the order in which it was submitted. Work on two streams is unordered
 * unless an event (event.h), a host wait, or the rules of the default streams order it. The rules of
 * the kinds are CUDA's, on every backend:
 *   - work on the legacy default stream starts after all earlier work of the device's blocking
 *     streams (and the per-thread default streams), and their later work starts after it;
 *   - non-blocking streams take no part in that.
 *
 * Ownership  mr_stream_create gives the caller a stream; mr_stream_destroy takes it back after its
 *            work has ended. The default streams are borrowed until the device closes.
 * Threads    One thread at a time submits to a stream; different streams are independent. Calls
 *            marked [any thread] may run concurrently on the same stream.
 * Errors     mr_status. Work that fails later is reported by the next wait or query on the stream
 *            with the first cause, and stays reported until the stream is destroyed. Work queued
 *            behind a failure may or may not run; its waiters are always released.
 */
#ifndef MR_STREAM_H
#define MR_STREAM_H

#include <millrace/device.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_stream mr_stream;

typedef enum mr_stream_kind {
    MR_STREAM_NON_BLOCKING = 0, /* takes no part in the legacy stream's ordering: the default */
    MR_STREAM_BLOCKING = 1,     /* ordered with the legacy default stream */
    MR_STREAM_LEGACY = 2,       /* the legacy default stream itself: mr_stream_default only */
    MR_STREAM_PER_THREAD = 3    /* the calling thread's default stream: mr_stream_default only */
} mr_stream_kind;

/* Zero means the default for every field. */
typedef struct mr_stream_options {
    const char *name;    /* shown in reports and traces; copied; NULL picks one */
    mr_stream_kind kind; /* NON_BLOCKING or BLOCKING */
    int priority;        /* lower runs first; clamped to the device's range, as CUDA does */
} mr_stream_options;

/* Creates a stream on `device`. `options` may be NULL. May block. */
MR_API MR_MUST_USE mr_status mr_stream_create(mr_device *device, const mr_stream_options *options,
                                              mr_stream **out);

/* Waits for all its work, then frees. NULL is accepted. May block. */
MR_API void mr_stream_destroy(mr_stream *stream);

/* Waits until all work submitted so far has ended; answers the stream's first failure. May block.
 * [any thread] */
MR_API MR_MUST_USE mr_status mr_stream_wait(mr_stream *stream);

/* The same with a limit: MR_E_TIMEOUT when it ran out (work continues). May block. [any thread] */
MR_API MR_MUST_USE mr_status mr_stream_wait_for(mr_stream *stream, uint64_t timeout_ns);

/* MR_OK when idle, MR_E_BUSY while working, else the first failure. Never blocks. [any thread] */
MR_API MR_MUST_USE mr_status mr_stream_query(mr_stream *stream);

/* The first failure that is known without asking the device, MR_OK where none is. A host function that
 * fails is known at once; what fails on a GPU, with the next wait or query. Costs a load. Never blocks.
 * [any thread] */
MR_API MR_MUST_USE mr_status mr_stream_failure(const mr_stream *stream);

/* A function that runs on a host thread in stream order. It must not call the library on this
 * device's streams nor wait for other work (CUDA forbids it; on the CPU it would hold a worker).
 * Anything but MR_OK becomes the stream's failure, with the words set by mr_error_set. */
typedef mr_status (*mr_host_function)(void *context);

/* Enqueues `function(context)`. `context` is borrowed until it has run. Never blocks. On a stream
 * that has failed, the function may never run. */
MR_API MR_MUST_USE mr_status mr_stream_call(mr_stream *stream, mr_host_function function,
                                            void *context);

/* The device's legacy default stream, or the calling thread's default stream; `kind` says which.
 * Borrowed until the device closes (the per-thread one: also until the thread ends). */
MR_API MR_MUST_USE mr_status mr_stream_default(mr_device *device, mr_stream_kind kind,
                                               mr_stream **out);

/* Wraps a native stream that others own (a CUstream or cudaStream_t as an address). Destroying the
 * wrapper waits for the work and leaves the native stream alone. CPU: MR_E_UNSUPPORTED. */
MR_API MR_MUST_USE mr_status mr_stream_wrap(mr_device *device, void *native,
                                            const mr_stream_options *options, mr_stream **out);

/* The native handle, CUstream as an address; NULL on the CPU. Work that you put there yourself is
 * ordered with the stream's own, but is not seen by reports; after it, call mr_stream_touch. */
MR_API void *mr_stream_native(const mr_stream *stream);

/* Tells the library that foreign work was put on the native handle, so that the next event record is
 * not taken to be redundant. Never blocks. */
MR_API void mr_stream_touch(mr_stream *stream);

MR_API mr_device *mr_stream_device(const mr_stream *stream);      /* [any thread] */
MR_API const char *mr_stream_name(const mr_stream *stream);       /* [any thread] */
MR_API mr_stream_kind mr_stream_kind_of(const mr_stream *stream); /* [any thread] */
MR_API int mr_stream_priority(const mr_stream *stream);           /* as clamped. [any thread] */
MR_API uint64_t mr_stream_id(const mr_stream *stream); /* unique in the process. [any thread] */

/*
 * The current stream: a stack per thread and device, for code that is not handed a stream.
 * mr_stream_current gives the top, or the per-thread default stream when nothing is pushed.
 * Pushing borrows the stream until it is popped. Popping an empty stack is MR_E_STATE.
 */
MR_API MR_MUST_USE mr_status mr_stream_push(mr_stream *stream);
MR_API MR_MUST_USE mr_status mr_stream_pop(mr_device *device);
MR_API MR_MUST_USE mr_status mr_stream_current(mr_device *device, mr_stream **out);

/*
 * A pool of like streams, filled lazily: acquire gives an idle one, or creates one while fewer than
 * the limit exist, or answers MR_E_BUSY. Release gives it back (work may still be queued on it; the
 * next holder's work comes after it). A stream that has failed is replaced. [any thread]
 */
typedef struct mr_stream_pool mr_stream_pool;

typedef struct mr_stream_pool_options {
    uint32_t limit;           /* streams at most; 0 = 16; at most 4096 */
    mr_stream_options stream; /* what each is like */
} mr_stream_pool_options;

MR_API MR_MUST_USE mr_status mr_stream_pool_create(mr_device *device,
                                                   const mr_stream_pool_options *options,
                                                   mr_stream_pool **out);
/* Waits for the streams' work. Every stream must have been released. NULL is accepted. */
MR_API void mr_stream_pool_destroy(mr_stream_pool *pool);
MR_API MR_MUST_USE mr_status mr_stream_pool_acquire(mr_stream_pool *pool, mr_stream **out);
MR_API void mr_stream_pool_release(mr_stream_pool *pool, mr_stream *stream);
MR_API uint32_t mr_stream_pool_size(const mr_stream_pool *pool); /* streams that exist now */

#ifdef __cplusplus
}
#endif
#endif
