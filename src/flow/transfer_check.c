/* SPDX-License-Identifier: MIT */
/*
 * What a transfer may not be: everything that can be said before anything is queued.
 */
#include "flow/transfer_parts.h"

#include <inttypes.h>

static bool has_host_memory(const mr_stream *stream)
{
    mr_device_properties properties;
    mr_device_describe(mr_stream_device(stream), &properties);
    return properties.is_host_memory;
}

/* ---- ranges ---- */

mr_status mr__range_check(const char *call, const char *name, const struct mr__range *range)
{
    if (!range->buffer)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call, name);
    const size_t size = mr_buffer_size(range->buffer);
    if (range->offset > size || range->size_bytes > size - range->offset)
        return mr_error_set(MR_E_INVALID, "%s: %s range %zu+%zu ends past its buffer of %zu bytes",
                            call, name, range->offset, range->size_bytes, size);
    return MR_OK;
}

/* Addresses are of one space where both ranges are the host's, or both one device's. */
static bool has_host_address(const struct mr__range *range)
{
    return mr_buffer_host(range->buffer) != NULL;
}

static uint64_t first_byte(const struct mr__range *range)
{
    const uint64_t base = has_host_address(range) ? (uintptr_t)mr_buffer_host(range->buffer)
                                                  : mr_buffer_address(range->buffer);
    return base + range->offset;
}

bool mr__range_meets(const struct mr__range *a, const struct mr__range *b)
{
    if (!a->size_bytes || !b->size_bytes)
        return false;
    if (has_host_address(a) != has_host_address(b))
        return false;
    if (!has_host_address(a) && mr_buffer_device(a->buffer) != mr_buffer_device(b->buffer))
        return false;
    const uint64_t first_a = first_byte(a), first_b = first_byte(b);
    return first_a < first_b + b->size_bytes && first_b < first_a + a->size_bytes;
}

static bool is_same_range(const struct mr__range *a, const struct mr__range *b)
{
    return a->size_bytes == b->size_bytes && first_byte(a) == first_byte(b);
}

mr_status mr__range_check_place(const char *call, const char *name, const mr_stream *stream,
                                const struct mr__range *range)
{
    if (mr_buffer_place(range->buffer) != MR_PLACE_PAGEABLE || has_host_memory(stream))
        return MR_OK;
    return mr_error_set(MR_E_INVALID,
                        "%s: %s is pageable memory, whose copies block on %s; make it pinned "
                        "(mr_buffer_create, mr_buffer_register) or stage it (millrace/staging.h)",
                        call, name, mr_device_id(mr_stream_device(stream)));
}

/* ---- chunked transfers ---- */

static mr_status check_streams(mr_stream *const *streams, size_t count)
{
    static const char call[] = "mr_transfer_chunks";
    if (!streams || count < 1 || count > MR_TRANSFER_STREAM_LIMIT)
        return mr_error_set(MR_E_INVALID, "%s: %zu streams; give 1 to %d", call,
                            streams ? count : 0, MR_TRANSFER_STREAM_LIMIT);
    for (size_t i = 0; i < count; i++) {
        if (!streams[i])
            return mr_error_set(MR_E_INVALID, "%s: stream %zu is NULL", call, i);
        if (mr_stream_device(streams[i]) != mr_stream_device(streams[0]))
            return mr_error_set(MR_E_INVALID, "%s: stream 0 is of %s, stream %zu of %s", call,
                                mr_device_id(mr_stream_device(streams[0])), i,
                                mr_device_id(mr_stream_device(streams[i])));
        for (size_t k = 0; k < i; k++) {
            if (streams[k] == streams[i])
                return mr_error_set(MR_E_INVALID,
                                    "%s: streams %zu and %zu are the same; its chunks could not "
                                    "overlap",
                                    call, k, i);
        }
    }
    return MR_OK;
}

static mr_status check_shape(const mr_chunked_transfer *transfer)
{
    static const char call[] = "mr_transfer_chunks";
    if (!transfer)
        return mr_error_set(MR_E_INVALID, "%s: transfer is NULL", call);
    if (!transfer->compute)
        return mr_error_set(MR_E_INVALID, "%s: compute is NULL", call);
    if (!transfer->item_bytes)
        return mr_error_set(MR_E_INVALID, "%s: item_bytes is 0; give at least 1", call);
    if (transfer->order < MR_ISSUE_AUTO || transfer->order > MR_ISSUE_GROUPED)
        return mr_error_set(MR_E_INVALID, "%s: order %d is none", call, (int)transfer->order);
    if (!transfer->output && transfer->result_bytes &&
        transfer->result_bytes != transfer->item_bytes)
        return mr_error_set(MR_E_INVALID,
                            "%s: in place, items of %zu bytes cannot have results of %zu; give an "
                            "output buffer",
                            call, transfer->item_bytes, transfer->result_bytes);
    return MR_OK;
}

static mr_status check_overlaps(const struct mr__chunked *chunked)
{
    static const char call[] = "mr_transfer_chunks";
    const struct mr__range *source = &chunked->source, *target = &chunked->target;
    const struct mr__range *input = &chunked->input, *output = &chunked->output;
    if (!chunked->is_in_place && mr__range_meets(input, output))
        return mr_error_set(MR_E_INVALID, "%s: input and output overlap", call);
    if (mr__range_meets(source, target) && !is_same_range(source, target))
        return mr_error_set(MR_E_INVALID,
                            "%s: source and target overlap without being the same range", call);
    const struct mr__range *outer[] = { source, target }, *inner[] = { input, output };
    for (int i = 0; i < 2; i++) {
        for (int k = 0; k < 2; k++) {
            if (mr__range_meets(outer[i], inner[k]))
                return mr_error_set(MR_E_INVALID, "%s: %s and %s overlap", call,
                                    i ? "target" : "source", k ? "output" : "input");
        }
    }
    return MR_OK;
}

static mr_status check_ranges(const struct mr__chunked *chunked)
{
    static const char call[] = "mr_transfer_chunks";
    const mr_stream *stream = chunked->streams[0];
    mr_status status = mr__range_check(call, "source", &chunked->source);
    if (!status)
        status = mr__range_check(call, "input", &chunked->input);
    if (!status)
        status = mr__range_check(call, "output", &chunked->output);
    if (!status)
        status = mr__range_check(call, "target", &chunked->target);
    if (!status)
        status = mr__range_check_place(call, "source", stream, &chunked->source);
    if (!status)
        status = mr__range_check_place(call, "target", stream, &chunked->target);
    return status ? status : check_overlaps(chunked);
}

/* Bytes of all items and all results. */
static mr_status measure(const mr_chunked_transfer *transfer, size_t *in_bytes, size_t *out_bytes)
{
    const size_t result = transfer->result_bytes ? transfer->result_bytes : transfer->item_bytes;
    if (__builtin_mul_overflow(transfer->item_count, transfer->item_bytes, in_bytes) ||
        __builtin_mul_overflow(transfer->item_count, result, out_bytes))
        return mr_error_set(MR_E_INVALID,
                            "mr_transfer_chunks: %" PRIu64 " items of %zu and results of %zu bytes "
                            "are larger than any buffer",
                            transfer->item_count, transfer->item_bytes, result);
    return MR_OK;
}

mr_status mr__chunked_open(mr_stream *const *streams, size_t stream_count,
                           const mr_chunked_transfer *transfer, struct mr__chunked *chunked)
{
    size_t in_bytes = 0, out_bytes = 0;
    mr_status status = check_streams(streams, stream_count);
    if (!status)
        status = check_shape(transfer);
    if (!status)
        status = measure(transfer, &in_bytes, &out_bytes);
    if (status)
        return status;

    const bool is_in_place = !transfer->output;
    *chunked = (struct mr__chunked){
        .streams = streams,
        .stream_count = stream_count,
        .transfer = transfer,
        .is_in_place = is_in_place,
        .result_bytes = transfer->result_bytes ? transfer->result_bytes : transfer->item_bytes,
        .source = { transfer->source, transfer->source_offset, in_bytes },
        .input = { transfer->input, transfer->input_offset, in_bytes },
        .output = { is_in_place ? transfer->input : transfer->output,
                    is_in_place ? transfer->input_offset : transfer->output_offset, out_bytes },
        .target = { transfer->target, transfer->target_offset, out_bytes },
    };
    return check_ranges(chunked);
}
