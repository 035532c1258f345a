/* SPDX-License-Identifier: MIT */
/*
 * Copies and fills: every range checked, overlaps found, and who can reach what.
 */
#include "core/transfer.h"
#include "core/hop.h"

#include "core/capture.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- reach ---- */

/* "stream 'a' of cuda:0", or "cuda:0" for a graph. */
static const char *place_text(const mr_device *device, const mr_stream *stream,
                              char text[static 160])
{
    if (stream)
        snprintf(text, 160, "stream '%.100s' of %s", stream->life->stream_name,
                 device->properties.id);
    else
        snprintf(text, 160, "%s", device->properties.id);
    return text;
}

/* The buffer's memory as the device's backend sees it: its own, or, of another backend, whatever
 * the host can address, as ordinary host memory in `view`. */
static mr_status reach(const char *call, const mr_device *device, const mr_stream *stream,
                       const mr_buffer *buffer, struct mr_memory *view,
                       const struct mr_memory **out)
{
    if (buffer->device->ops == device->ops) {
        *out = &buffer->memory;
        return MR_OK;
    }
    if (!buffer->memory.host) {
        char text[160];
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: buffer '%s' is device memory of %s, which %s cannot "
                            "reach; submit on a stream of %s",
                            call, buffer->name, buffer->device->properties.id,
                            place_text(device, stream, text), buffer->device->properties.id);
    }
    const bool is_host_memory = device->properties.is_host_memory;
    *view = (struct mr_memory){ .host = buffer->memory.host,
                                .address = is_host_memory ? (uintptr_t)buffer->memory.host : 0,
                                .size_bytes = buffer->memory.size_bytes,
                                .place = MR_PLACE_PAGEABLE,
                                .device = device->backend_device };
    *out = view;
    return MR_OK;
}

/* ---- overlap ---- */

/* Rows of `row_bytes`, `pitch` from one to the next. */
struct rows {
    uint64_t first, pitch;
};

/* Whether any row of one meets any row of the other: one walk along both. */
static bool do_rows_meet(struct rows a, struct rows b, uint64_t row_bytes, uint64_t row_count)
{
    const uint64_t span_a = (row_count - 1) * a.pitch + row_bytes;
    const uint64_t span_b = (row_count - 1) * b.pitch + row_bytes;
    if (a.first + span_a <= b.first || b.first + span_b <= a.first)
        return false;

    uint64_t i = 0, j = 0;
    while (i < row_count && j < row_count) {
        const uint64_t at_a = a.first + i * a.pitch;
        const uint64_t at_b = b.first + j * b.pitch;
        if (at_a + row_bytes <= at_b)
            i++;
        else if (at_b + row_bytes <= at_a)
            j++;
        else
            return true;
    }
    return false;
}

static bool do_overlap(const struct mr_transfer *transfer)
{
    const struct mr_memory *target = transfer->target, *source = transfer->source;
    uint64_t target_base, source_base;
    if (target->host && source->host) {
        target_base = (uintptr_t)target->host;
        source_base = (uintptr_t)source->host;
    } else if (!target->host && !source->host && target->device == source->device) {
        target_base = target->address;
        source_base = source->address;
    } else {
        return false;
    }
    return do_rows_meet(
        (struct rows){ target_base + transfer->target_offset, transfer->target_pitch },
        (struct rows){ source_base + transfer->source_offset, transfer->source_pitch },
        transfer->row_bytes, transfer->row_count);
}

/* ---- copies: checks ---- */

/* `copy` lacks its memories; its ranges have been checked and are not empty. */
static mr_status complete_copy(const char *call, const mr_device *device, const mr_stream *stream,
                               const mr_buffer *target, const mr_buffer *source,
                               struct mr__copy *copy)
{
    struct mr_transfer *transfer = &copy->transfer;
    mr_status status = reach(call, device, stream, target, &copy->target_view, &transfer->target);
    if (!status)
        status = reach(call, device, stream, source, &copy->source_view, &transfer->source);
    if (status || !do_overlap(transfer))
        return status;
    return mr_error_set(MR_E_INVALID,
                        "%s: target range from %zu of buffer '%s' overlaps source range from "
                        "%zu of buffer '%s'",
                        call, transfer->target_offset, target->name, transfer->source_offset,
                        source->name);
}

/* One side of a 2-D copy that is not empty. */
static mr_status check_side(const char *call, const char *side, const mr_buffer *buffer,
                            size_t offset, size_t pitch, const mr_copy_2d_layout *layout)
{
    size_t bytes;
    if (layout->row_count > 1 && pitch < layout->row_bytes)
        return mr_error_set(MR_E_INVALID, "%s: %s pitch %zu is smaller than a row of %zu bytes",
                            call, side, pitch, layout->row_bytes);
    if (__builtin_mul_overflow(layout->row_count - 1, pitch, &bytes) ||
        __builtin_add_overflow(bytes, layout->row_bytes, &bytes))
        return mr_error_set(MR_E_INVALID,
                            "%s: %s of %zu rows of %zu bytes with pitch %zu is larger than any "
                            "buffer",
                            call, side, layout->row_count, layout->row_bytes, pitch);
    return mr__buffer_check_range(call, buffer, offset, bytes);
}

/* Rows without gaps on both sides are one row. */
static void join_rows(struct mr_transfer *transfer)
{
    const size_t bytes = transfer->row_bytes;
    if (transfer->row_count == 1 ||
        (transfer->target_pitch == bytes && transfer->source_pitch == bytes)) {
        transfer->row_bytes = transfer->row_count * bytes;
        transfer->row_count = 1;
        transfer->target_pitch = transfer->source_pitch = transfer->row_bytes;
    }
}

mr_status mr__copy_prepare(const char *call, const mr_device *device, const mr_stream *stream,
                           const mr_buffer *target, const mr_buffer *source,
                           const mr_copy_2d_layout *layout, struct mr__copy *copy, bool *is_empty)
{
    *is_empty = !layout->row_bytes || !layout->row_count;
    mr_status status = mr__buffer_check_writable(call, target);
    if (status)
        return status;
    if (*is_empty) {
        status = mr__buffer_check_range(call, target, layout->target_offset, 0);
        return status ? status : mr__buffer_check_range(call, source, layout->source_offset, 0);
    }
    status =
        check_side(call, "target", target, layout->target_offset, layout->target_pitch, layout);
    if (!status)
        status =
            check_side(call, "source", source, layout->source_offset, layout->source_pitch, layout);
    if (status)
        return status;

    copy->transfer = (struct mr_transfer){ .target_offset = layout->target_offset,
                                           .source_offset = layout->source_offset,
                                           .target_pitch = layout->target_pitch,
                                           .source_pitch = layout->source_pitch,
                                           .row_bytes = layout->row_bytes,
                                           .row_count = layout->row_count };
    join_rows(&copy->transfer);
    return complete_copy(call, device, stream, target, source, copy);
}

/* ---- copies ---- */

static void emit_copy(const mr_stream *stream, uint64_t sequence, const mr_buffer *target,
                      const mr_buffer *source, const struct mr_transfer *transfer)
{
    const size_t bytes = transfer->row_bytes, count = transfer->row_count;
    const mr_operation_access accesses[] = {
        mr__buffer_access(source, transfer->source_offset,
                          mr__span_bytes(transfer->source_pitch, bytes, count), MR_ACCESS_IN),
        mr__buffer_access(target, transfer->target_offset,
                          mr__span_bytes(transfer->target_pitch, bytes, count), MR_ACCESS_OUT),
    };
    mr_operation operation = { .kind = MR_OPERATION_COPY,
                               .stream_id = stream->id,
                               .sequence = sequence,
                               .name = stream->life->stream_name,
                               .size_bytes = count * bytes,
                               .accesses = accesses,
                               .access_count = 2 };
    mr__operation_emit(stream->device, &operation);
}

static mr_status record_copy(const char *call, mr_stream *stream, mr_buffer *target,
                             mr_buffer *source, const struct mr_transfer *transfer)
{
    const size_t bytes = transfer->row_bytes, count = transfer->row_count;
    mr_status status = mr__capture_check_memory(call, stream, target, transfer->target);
    if (!status)
        status = mr__capture_check_memory(call, stream, source, transfer->source);
    if (!status)
        status =
            mr__capture_use(stream, target, transfer->target_offset,
                            mr__span_bytes(transfer->target_pitch, bytes, count), MR_ACCESS_OUT);
    if (!status)
        status =
            mr__capture_use(stream, source, transfer->source_offset,
                            mr__span_bytes(transfer->source_pitch, bytes, count), MR_ACCESS_IN);
    if (!status)
        status = stream->ops->copy(stream->queue, transfer);
    if (!status)
        mr__capture_advance(stream);
    return status;
}

static mr_status submit_copy(const char *call, mr_stream *stream, mr_buffer *target,
                             mr_buffer *source, const struct mr_transfer *transfer)
{
    if (mr__stream_is_captured(stream))
        return record_copy(call, stream, target, source, transfer);

    mr_status status = mr__buffer_use(target, stream);
    if (!status)
        status = mr__buffer_use(source, stream);
    if (!status)
        status = mr__hop_is_needed(target, source) ? mr__hop_copy(stream, target, source, transfer)
                                                   : stream->ops->copy(stream->queue, transfer);
    if (status)
        return status;
    const uint64_t sequence = mr__stream_advance(stream);
    if (mr__operation_is_wanted(stream->device))
        emit_copy(stream, sequence, target, source, transfer);
    return MR_OK;
}

static mr_status check_handles(const char *call, const mr_stream *stream, const mr_buffer *target,
                               const mr_buffer *source)
{
    if (stream && target && source)
        return mr__stream_is_special(stream) ? mr__capture_admit(call, stream) : MR_OK;
    return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call,
                        !stream   ? "stream"
                        : !target ? "target"
                                  : "source");
}

mr_status mr_copy(mr_stream *stream, mr_buffer *target, size_t target_offset, mr_buffer *source,
                  size_t source_offset, size_t size_bytes)
{
    static const char call[] = "mr_copy";
    mr_status status = check_handles(call, stream, target, source);
    if (!status)
        status = mr__buffer_check_writable(call, target);
    if (!status)
        status = mr__buffer_check_range(call, target, target_offset, size_bytes);
    if (!status)
        status = mr__buffer_check_range(call, source, source_offset, size_bytes);
    if (status || !size_bytes)
        return status;

    struct mr__copy copy;
    copy.transfer = (struct mr_transfer){ .target_offset = target_offset,
                                          .source_offset = source_offset,
                                          .target_pitch = size_bytes,
                                          .source_pitch = size_bytes,
                                          .row_bytes = size_bytes,
                                          .row_count = 1 };
    status = complete_copy(call, stream->device, stream, target, source, &copy);
    return status ? status : submit_copy(call, stream, target, source, &copy.transfer);
}

mr_status mr_copy_2d(mr_stream *stream, mr_buffer *target, mr_buffer *source,
                     const mr_copy_2d_layout *layout)
{
    static const char call[] = "mr_copy_2d";
    mr_status status = check_handles(call, stream, target, source);
    if (status)
        return status;
    if (!layout)
        return mr_error_set(MR_E_INVALID, "mr_copy_2d: layout is NULL");

    struct mr__copy copy;
    bool is_empty;
    status =
        mr__copy_prepare(call, stream->device, stream, target, source, layout, &copy, &is_empty);
    if (status || is_empty)
        return status;
    return submit_copy(call, stream, target, source, &copy.transfer);
}

/* ---- fills ---- */

mr_status mr__fill_check(const char *call, const mr_buffer *target, size_t offset,
                         size_t size_bytes, uint32_t value_bytes)
{
    if (value_bytes != 1 && value_bytes != 2 && value_bytes != 4)
        return mr_error_set(MR_E_INVALID, "%s: value_bytes %" PRIu32 " is none of 1, 2 and 4", call,
                            value_bytes);
    if (offset % value_bytes || size_bytes % value_bytes)
        return mr_error_set(MR_E_INVALID,
                            "%s: offset %zu and size %zu must be multiples of value_bytes "
                            "%" PRIu32,
                            call, offset, size_bytes, value_bytes);
    const mr_status status = mr__buffer_check_writable(call, target);
    return status ? status : mr__buffer_check_range(call, target, offset, size_bytes);
}

mr_status mr__fill_prepare(const char *call, const mr_device *device, const mr_stream *stream,
                           const mr_buffer *target, struct mr__fill *fill)
{
    return reach(call, device, stream, target, &fill->view, &fill->memory);
}

static void emit_fill(const mr_stream *stream, uint64_t sequence, const mr_buffer *target,
                      size_t offset, size_t size_bytes)
{
    const mr_operation_access access = mr__buffer_access(target, offset, size_bytes, MR_ACCESS_OUT);
    mr_operation operation = { .kind = MR_OPERATION_FILL,
                               .stream_id = stream->id,
                               .sequence = sequence,
                               .name = stream->life->stream_name,
                               .size_bytes = size_bytes,
                               .accesses = &access,
                               .access_count = 1 };
    mr__operation_emit(stream->device, &operation);
}

mr_status mr_fill(mr_stream *stream, mr_buffer *target, size_t offset, size_t size_bytes,
                  uint32_t value, uint32_t value_bytes)
{
    static const char call[] = "mr_fill";
    if (!stream || !target)
        return mr_error_set(MR_E_INVALID, "mr_fill: %s is NULL", stream ? "target" : "stream");
    mr_status status = mr__stream_is_special(stream) ? mr__capture_admit(call, stream) : MR_OK;
    if (!status)
        status = mr__fill_check(call, target, offset, size_bytes, value_bytes);
    if (status || !size_bytes)
        return status;

    struct mr__fill fill;
    const bool is_recorded = mr__stream_is_captured(stream);
    status = mr__fill_prepare(call, stream->device, stream, target, &fill);
    if (!status && is_recorded)
        status = mr__capture_check_memory(call, stream, target, fill.memory);
    if (!status)
        status = is_recorded ? mr__capture_use(stream, target, offset, size_bytes, MR_ACCESS_OUT)
                             : mr__buffer_use(target, stream);
    if (!status)
        status =
            stream->ops->fill(stream->queue, fill.memory, offset, size_bytes, value, value_bytes);
    if (status)
        return status;
    if (is_recorded) {
        mr__capture_advance(stream);
        return MR_OK;
    }
    const uint64_t sequence = mr__stream_advance(stream);
    if (mr__operation_is_wanted(stream->device))
        emit_fill(stream, sequence, target, offset, size_bytes);
    return MR_OK;
}
