/* SPDX-License-Identifier: MIT */
/*
 * core/transfer.h - copies and fills, checked and ready for a backend, whether a stream or a graph
 * takes them.
 */
#ifndef MR__TRANSFER_H
#define MR__TRANSFER_H

#include "core/buffer.h"

/* Borrows its own views: stays where it was made. */
struct mr__copy {
    struct mr_transfer transfer;
    struct mr_memory target_view, source_view;
};

struct mr__fill {
    const struct mr_memory *memory;
    struct mr_memory view;
};

/* Checks a copy on `device` and makes it ready; `*is_empty` when there is nothing to do. `stream` is for
 * the words and may be NULL. Handles have been checked. */
mr_status mr__copy_prepare(const char *call, const mr_device *device, const mr_stream *stream,
                           const mr_buffer *target, const mr_buffer *source,
                           const mr_copy_2d_layout *layout, struct mr__copy *copy, bool *is_empty);

mr_status mr__fill_check(const char *call, const mr_buffer *target, size_t offset,
                         size_t size_bytes, uint32_t value_bytes);
mr_status mr__fill_prepare(const char *call, const mr_device *device, const mr_stream *stream,
                           const mr_buffer *target, struct mr__fill *fill);

/* What a row layout touches, from its first byte to its last. */
static inline size_t mr__span_bytes(size_t pitch, size_t row_bytes, size_t row_count)
{
    return (row_count - 1) * pitch + row_bytes;
}

#endif
