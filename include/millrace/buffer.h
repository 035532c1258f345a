/* SPDX-License-Identifier: MIT */
/*
 * millrace/buffer.h - memory with a place, and copies and fills between places.
 *
 * Every range given to a call here is checked against the buffer's size before anything is queued.
 * Work holds its buffers: a buffer remembers the last use by each stream, so that destroying it is
 * always safe.
 *
 * Ownership  mr_buffer_create gives; mr_buffer_destroy takes. Registered and borrowed memory stays
 *            the caller's and must outlive the buffer.
 * Threads    Submitting work that uses a buffer is [any thread] (each on its own stream); destroying
 *            it is for one thread, after the last submission. Destroying an ordered buffer is a
 *            submission to its stream.
 */
#ifndef MR_BUFFER_H
#define MR_BUFFER_H

#include <millrace/stream.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_buffer mr_buffer;

typedef enum mr_place {
    MR_PLACE_DEVICE = 0, /* memory of the device. CPU: host memory, aligned to a page */
    MR_PLACE_PINNED = 1, /* host memory that the device copies at full speed */
    /* Ordinary host memory: "asynchronous" copies from or to it on a GPU block the submitting
     * thread; staging.h is the way around. */
    MR_PLACE_PAGEABLE = 2
} mr_place;

typedef struct mr_buffer_options {
    mr_place place;
    const char *name; /* shown in reports; copied; NULL picks one */
} mr_buffer_options;

/* Allocates `size_bytes` (at least 1), aligned to 256 bytes or more. Contents are undefined. `options`
 * may be NULL (device memory). May block (a driver may synchronise to allocate): not for steady
 * state. MR_E_NO_MEMORY says how much was asked for and how much is free. */
MR_API MR_MUST_USE mr_status mr_buffer_create(mr_device *device, size_t size_bytes,
                                              const mr_buffer_options *options, mr_buffer **out);

/* Device memory from the stream-ordered pool: valid for work after this on `stream`, and for other
 * streams after an event. Destroying it frees in stream order and never blocks. The stream must
 * outlive the buffer. MR_E_UNSUPPORTED without has_ordered_pools. Never blocks. */
MR_API MR_MUST_USE mr_status mr_buffer_create_ordered(mr_stream *stream, size_t size_bytes,
                                                      mr_buffer **out);

/* Makes existing host memory copy at pinned speed (page-locks it where the device needs that), until
 * the buffer is destroyed. Slow (about 30 ms per GiB): not for steady state. May block. */
MR_API MR_MUST_USE mr_status mr_buffer_register(mr_device *device, void *address, size_t size_bytes,
                                                mr_buffer **out);

/* A view of memory that others own: device, pinned or pageable as `place` says. MR_PLACE_DEVICE: the
 * address is the device's. Nothing is allocated or pinned. */
MR_API MR_MUST_USE mr_status mr_buffer_borrow(mr_device *device, void *address, size_t size_bytes,
                                              mr_place place, mr_buffer **out);

/* Frees once every submitted use has ended: waits until the streams that used the buffer and are still
 * there are idle, which may take in work after the last use. An ordered buffer is freed in its stream's
 * order without waiting, if its stream was made to wait for the other streams that used it. NULL is
 * accepted. May block. */
MR_API void mr_buffer_destroy(mr_buffer *buffer);

/* Waits for the uses that were submitted so far, as mr_buffer_destroy does, and keeps the buffer: then
 * the host may write memory that many streams have read. A stream's failure is its own. MR_E_STATE while
 * this thread captures on the device. May block. [any thread] */
MR_API MR_MUST_USE mr_status mr_buffer_wait(mr_buffer *buffer);

MR_API size_t mr_buffer_size(const mr_buffer *buffer);       /* bytes. [any thread] */
MR_API mr_place mr_buffer_place(const mr_buffer *buffer);    /* [any thread] */
MR_API mr_device *mr_buffer_device(const mr_buffer *buffer); /* [any thread] */

/* The address the host may use, or NULL for device memory of a GPU. [any thread] */
MR_API void *mr_buffer_host(const mr_buffer *buffer);

/* The address that kernels of the buffer's device use; 0 where they cannot. [any thread] */
MR_API uint64_t mr_buffer_address(const mr_buffer *buffer);

/* Tells the library that foreign work on `stream` (mr_stream_native) uses the buffer, so that destroy
 * waits for it. */
MR_API MR_MUST_USE mr_status mr_buffer_touch(mr_buffer *buffer, mr_stream *stream);

/*
 * Copies, in stream order. Any place to any place; between devices directly where they are peers and
 * through the host where not. A stream reaches the memory of its own backend's devices and all host
 * memory: copies of a GPU's memory go to a stream of a GPU. Source and target ranges must not overlap.
 * Never blocks, except that a GPU copy from or to pageable memory may, and so may the first one of a
 * stream between two devices that are no peers: it pins a few slots to go through.
 */
MR_API MR_MUST_USE mr_status mr_copy(mr_stream *stream, mr_buffer *target, size_t target_offset,
                                     mr_buffer *source, size_t source_offset, size_t size_bytes);

/* A copy of `row_count` rows of `row_bytes`, each side with its own pitch (bytes from one row to the
 * next; at least row_bytes). */
typedef struct mr_copy_2d_layout {
    size_t row_bytes;
    size_t row_count;
    size_t target_offset, target_pitch;
    size_t source_offset, source_pitch;
} mr_copy_2d_layout;

MR_API MR_MUST_USE mr_status mr_copy_2d(mr_stream *stream, mr_buffer *target, mr_buffer *source,
                                        const mr_copy_2d_layout *layout);

/* Fills with a repeated value of 1, 2 or 4 bytes; offset and size are multiples of it. Higher bits of
 * `value` are left out. Zero bytes are MR_OK and submit nothing, here and in copies. */
MR_API MR_MUST_USE mr_status mr_fill(mr_stream *stream, mr_buffer *target, size_t offset,
                                     size_t size_bytes, uint32_t value, uint32_t value_bytes);

#ifdef __cplusplus
}
#endif
#endif
