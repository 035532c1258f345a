/* SPDX-License-Identifier: MIT */
/*
 * millrace/transfer.h - two patterns of copies over streams: chunks in, through a kernel and out again
 * in the issue order that suits the device; and up and down at once.
 *
 * Inside a capture (graph.h) both are recorded, and draw the other streams in.
 *
 * For data that fits on the device. A pipeline (pipeline.h) does the same for data that does not, or
 * that never ends, and chooses its streams by itself.
 *
 * Ownership  Streams, buffers and contexts are borrowed: the function until the call returns, the
 *            memory until the work has ended.
 * Threads    One thread at a time for the streams of one call; different streams are independent.
 * Errors     Everything is checked before anything is queued: bad arguments are MR_E_INVALID. When a
 *            later submission fails, its status is answered, and what was queued before it is joined
 *            as after success: to wait for the stream that joins is to wait for all of it.
 */
#ifndef MR_TRANSFER_H
#define MR_TRANSFER_H

#include <millrace/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * The order in which the copies in, the computes and the copies out of several chunks are issued:
 *
 *     interleaved (depth first)      in0 compute0 out0  in1 compute1 out1  in2 compute2 out2 ...
 *     grouped (breadth first)        in0 in1 in2  compute0 compute1 compute2  out0 out1 out2 ...
 *
 * An engine takes its work in the order of issue. With one copy engine, interleaved order puts out0
 * before in1, and out0 waits for compute0: nothing overlaps. With two copy engines and one queue of
 * kernels, grouped order lets the copies out wait for all kernels of the group. Where every stream
 * has a hardware queue of its own, both overlap alike, and interleaved gives the first results sooner.
 *
 * The rule of MR_ISSUE_AUTO is therefore: grouped with exactly one copy engine, else interleaved. Its
 * source is the table that NVIDIA published with its overlap example (4,194,304 floats, 4 streams;
 * sequential, interleaved, grouped, ms): C1060, one copy engine, 12.92, 13.64, 8.85; C2050, two,
 * 9.98, 5.74, 7.60; K20c, a queue per stream, 7.10, 3.97, 3.97.
 */
typedef enum mr_issue_order {
    MR_ISSUE_AUTO = 0, /* by the rule above */
    MR_ISSUE_INTERLEAVED = 1,
    MR_ISSUE_GROUPED = 2 /* in rounds of as many chunks as there are streams */
} mr_issue_order;

/* What the rule chooses for such a device: INTERLEAVED or GROUPED. [any thread] */
MR_API mr_issue_order mr_issue_order_choose(const mr_device_properties *properties);

/* "interleaved", "grouped", "auto". Static; never NULL. [any thread] */
MR_API const char *mr_issue_order_name(mr_issue_order order);

/* ---- chunks: in, compute, out ---- */

/* One chunk on its way, with its parts of the device memory. */
typedef struct mr_chunk {
    mr_stream *stream; /* enqueue here; the input is there in its order */
    uint64_t index;    /* 0, 1, 2... */
    uint64_t first_item, item_count;
    mr_buffer *input;
    size_t input_offset, input_bytes;
    mr_buffer *output; /* the input, where the work is in place */
    size_t output_offset, output_bytes;
} mr_chunk;

/* Enqueues the work of one chunk on chunk->stream and returns; must not wait for it. Anything but
 * MR_OK ends the transfer. */
typedef mr_status (*mr_chunk_compute)(void *context, const mr_chunk *chunk);

#define MR_TRANSFER_STREAM_LIMIT 64

/* Item k is at offset + k * item_bytes of source and input, and at offset + k * result_bytes of
 * output and target. Source and target may be one range where items and results are of one size;
 * else the four ranges may not overlap. */
typedef struct mr_chunked_transfer {
    mr_buffer *source; /* where the items come from: host memory, not pageable on a GPU */
    size_t source_offset;
    mr_buffer *input; /* device memory for all of them */
    size_t input_offset;
    mr_buffer *output; /* device memory for all results; NULL: in place, in `input` */
    size_t output_offset;
    mr_buffer *target; /* where the results go: host memory, not pageable on a GPU */
    size_t target_offset;
    uint64_t item_count; /* 0: MR_OK, and nothing is queued */
    size_t item_bytes;   /* at least 1 */
    size_t result_bytes; /* of an item's result; 0 = item_bytes */
    uint64_t
        chunk_items; /* items in a chunk; 0 = auto: four chunks for each stream, of 1 to 16 MiB */
    mr_issue_order order;
    mr_chunk_compute compute;
    void *context;
} mr_chunked_transfer;

/* Enqueues the whole transfer, chunk k on stream k modulo stream_count (1 to MR_TRANSFER_STREAM_LIMIT
 * different streams of one device). It begins after what streams[0] was given before, and work given
 * to streams[0] afterwards begins when all of it has ended: the other streams are forked from it and
 * joined to it by events. Never blocks. */
MR_API MR_MUST_USE mr_status mr_transfer_chunks(mr_stream *const *streams, size_t stream_count,
                                                const mr_chunked_transfer *transfer);

/* ---- both ways at once ---- */

typedef struct mr_copy_range {
    mr_buffer *target;
    size_t target_offset;
    mr_buffer *source;
    size_t source_offset;
    size_t size_bytes; /* 0: nothing to copy */
} mr_copy_range;

/* Copies `up` on one stream and `down` on another at the same time. Both begin after what either
 * stream was given before, and what either is given afterwards begins when both have ended. Neither
 * copy may write what the other reads or writes, and neither may touch pageable memory on a GPU, where
 * it would block: MR_E_INVALID. Never blocks. */
MR_API MR_MUST_USE mr_status mr_transfer_both_ways(mr_stream *up_stream, const mr_copy_range *up,
                                                   mr_stream *down_stream,
                                                   const mr_copy_range *down);

#ifdef __cplusplus
}
#endif
#endif
