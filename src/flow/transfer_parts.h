/* SPDX-License-Identifier: MIT */
/*
 * flow/transfer_parts.h - what the files of a transfer share: ranges, and a chunked transfer as checked.
 */
#ifndef MR__TRANSFER_PARTS_H
#define MR__TRANSFER_PARTS_H

#include <millrace/event.h>
#include <millrace/transfer.h>

struct mr__range {
    mr_buffer *buffer;
    size_t offset, size_bytes;
};

/* Each names `call` and `name` in its words. */
mr_status mr__range_check(const char *call, const char *name, const struct mr__range *range);
/* Refuses memory whose copies on `stream` would block. */
mr_status mr__range_check_place(const char *call, const char *name, const mr_stream *stream,
                                const struct mr__range *range);

/* Whether two checked ranges share a byte. */
bool mr__range_meets(const struct mr__range *a, const struct mr__range *b);

struct mr__chunked {
    mr_stream *const *streams;
    size_t stream_count;
    const mr_chunked_transfer *transfer;
    bool is_in_place;
    size_t result_bytes;
    struct mr__range source, input, output, target; /* of all items */
};

/* Checks everything and fills `chunked`. */
mr_status mr__chunked_open(mr_stream *const *streams, size_t stream_count,
                           const mr_chunked_transfer *transfer, struct mr__chunked *chunked);

/* Items in a chunk when the caller leaves it open. At least 1. */
uint64_t mr__chunked_auto_items(uint64_t item_count, size_t item_bytes, size_t stream_count);

#endif
