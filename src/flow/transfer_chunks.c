/* SPDX-License-Identifier: MIT */
/*
 * A chunked transfer: fork from the first stream, issue every chunk in the chosen order, join.
 */
#include "flow/transfer_parts.h"

#include <inttypes.h>
#include <stdio.h>

enum { CHUNKS_PER_STREAM = 4, CHUNK_BYTES_LEAST = 1 << 20, CHUNK_BYTES_MOST = 16 << 20 };

/* ---- choices ---- */

mr_issue_order mr_issue_order_choose(const mr_device_properties *properties)
{
    return properties && properties->copy_engine_count == 1 ? MR_ISSUE_GROUPED
                                                            : MR_ISSUE_INTERLEAVED;
}

const char *mr_issue_order_name(mr_issue_order order)
{
    switch (order) {
    case MR_ISSUE_AUTO:
        return "auto";
    case MR_ISSUE_INTERLEAVED:
        return "interleaved";
    case MR_ISSUE_GROUPED:
        return "grouped";
    }
    return "unknown";
}

static mr_issue_order settle_order(const struct mr__chunked *chunked)
{
    mr_device_properties properties;
    if (chunked->transfer->order)
        return chunked->transfer->order;
    mr_device_describe(mr_stream_device(chunked->streams[0]), &properties);
    return mr_issue_order_choose(&properties);
}

uint64_t mr__chunked_auto_items(uint64_t item_count, size_t item_bytes, size_t stream_count)
{
    const uint64_t total_bytes = item_count * item_bytes;
    uint64_t chunk_bytes = total_bytes / (stream_count * CHUNKS_PER_STREAM);
    if (chunk_bytes < CHUNK_BYTES_LEAST)
        chunk_bytes = CHUNK_BYTES_LEAST;
    if (chunk_bytes > CHUNK_BYTES_MOST)
        chunk_bytes = CHUNK_BYTES_MOST;
    return chunk_bytes > item_bytes ? chunk_bytes / item_bytes : 1;
}

static uint64_t settle_items(const struct mr__chunked *chunked)
{
    const mr_chunked_transfer *transfer = chunked->transfer;
    const size_t wider =
        chunked->result_bytes > transfer->item_bytes ? chunked->result_bytes : transfer->item_bytes;
    if (transfer->chunk_items)
        return transfer->chunk_items;
    return mr__chunked_auto_items(transfer->item_count, wider, chunked->stream_count);
}

/* ---- one chunk's three parts ---- */

static mr_chunk chunk_at(const struct mr__chunked *chunked, uint64_t index, uint64_t chunk_items)
{
    const mr_chunked_transfer *transfer = chunked->transfer;
    const uint64_t first = index * chunk_items;
    const uint64_t left = transfer->item_count - first;
    const uint64_t count = left < chunk_items ? left : chunk_items;
    return (mr_chunk){ .stream = chunked->streams[index % chunked->stream_count],
                       .index = index,
                       .first_item = first,
                       .item_count = count,
                       .input = chunked->input.buffer,
                       .input_offset = chunked->input.offset + first * transfer->item_bytes,
                       .input_bytes = count * transfer->item_bytes,
                       .output = chunked->output.buffer,
                       .output_offset = chunked->output.offset + first * chunked->result_bytes,
                       .output_bytes = count * chunked->result_bytes };
}

typedef mr_status (*issue_part)(const struct mr__chunked *chunked, const mr_chunk *chunk);

static mr_status copy_in(const struct mr__chunked *chunked, const mr_chunk *chunk)
{
    const size_t offset = chunk->input_offset - chunked->input.offset;
    return mr_copy(chunk->stream, chunk->input, chunk->input_offset, chunked->source.buffer,
                   chunked->source.offset + offset, chunk->input_bytes);
}

/* A function that fails without words is given some. */
static mr_status compute(const struct mr__chunked *chunked, const mr_chunk *chunk)
{
    mr_error_set(MR_OK, "%s", "");
    const mr_status status = chunked->transfer->compute(chunked->transfer->context, chunk);
    if (status && !*mr_last_error())
        mr_error_set(status, "%s", mr_status_text(status));
    return status ? mr_error_prefix(status, "chunk %" PRIu64 ": ", chunk->index) : MR_OK;
}

static mr_status copy_out(const struct mr__chunked *chunked, const mr_chunk *chunk)
{
    const size_t offset = chunk->output_offset - chunked->output.offset;
    return mr_copy(chunk->stream, chunked->target.buffer, chunked->target.offset + offset,
                   chunk->output, chunk->output_offset, chunk->output_bytes);
}

/* ---- all chunks ---- */

/* Grouped order is interleaved order in rounds of more than one chunk. */
static mr_status issue_chunks(const struct mr__chunked *chunked)
{
    static const issue_part parts[] = { copy_in, compute, copy_out };
    const uint64_t chunk_items = settle_items(chunked);
    const uint64_t item_count = chunked->transfer->item_count;
    const uint64_t chunk_count = item_count / chunk_items + (item_count % chunk_items != 0);
    const uint64_t round = settle_order(chunked) == MR_ISSUE_GROUPED ? chunked->stream_count : 1;
    mr_status status = MR_OK;

    for (uint64_t first = 0; first < chunk_count; first += round) {
        const uint64_t end = chunk_count - first < round ? chunk_count : first + round;
        for (size_t part = 0; part < 3; part++) {
            for (uint64_t index = first; index < end && !status; index++) {
                const mr_chunk chunk = chunk_at(chunked, index, chunk_items);
                status = parts[part](chunked, &chunk);
            }
        }
        if (status)
            return mr_error_prefix(status, "mr_transfer_chunks: ");
    }
    return MR_OK;
}

static mr_status fork_streams(const struct mr__chunked *chunked, mr_event *event)
{
    mr_status status = mr_event_record(event, chunked->streams[0]);
    for (size_t i = 1; i < chunked->stream_count && !status; i++)
        status = mr_stream_wait_event(chunked->streams[i], event);
    return status;
}

/* Every stream is joined, whatever fails for another: the first status counts. */
static mr_status join_streams(const struct mr__chunked *chunked, mr_event *event)
{
    mr_status first = MR_OK;
    for (size_t i = 1; i < chunked->stream_count; i++) {
        mr_status status = mr_event_record(event, chunked->streams[i]);
        if (!status)
            status = mr_stream_wait_event(chunked->streams[0], event);
        first = first ? first : status;
    }
    return first;
}

/* The failure's words stay. */
static void join_after_failure(const struct mr__chunked *chunked, mr_event *event)
{
    char words[MR_ERROR_BYTES];
    snprintf(words, sizeof words, "%s", mr_last_error());
    (void)!join_streams(chunked, event);
    mr_error_set(MR_OK, "%s", words);
}

mr_status mr_transfer_chunks(mr_stream *const *streams, size_t stream_count,
                             const mr_chunked_transfer *transfer)
{
    struct mr__chunked chunked;
    mr_event *event;
    mr_status status = mr__chunked_open(streams, stream_count, transfer, &chunked);
    if (status || !transfer->item_count)
        return status;
    status = mr_event_create(mr_stream_device(streams[0]), NULL, &event);
    if (status)
        return status;

    status = fork_streams(&chunked, event);
    if (!status)
        status = issue_chunks(&chunked);
    if (status)
        join_after_failure(&chunked, event);
    else
        status = join_streams(&chunked, event);
    mr_event_destroy(event);
    return status;
}
