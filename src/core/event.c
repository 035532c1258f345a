/* SPDX-License-Identifier: MIT */
/*
 * Events: snapshots of streams, and the waits that they make unnecessary.
 *
 * A record on a stream that was given nothing since its last record shares that record's point. A
 * wait is left out when stream order, an earlier wait, or a point seen to be reached implies it.
 */
#include "core/event.h"

#include "base/alloc.h"
#include "core/capture.h"
#include "core/operation.h"
#include "core/relay.h"

#include <inttypes.h>

mr_status mr_event_create(mr_device *device, const mr_event_options *options, mr_event **out)
{
    *out = NULL;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_event_create: device is NULL");
    mr_event *event = mr__zalloc(sizeof *event);
    if (!event)
        return mr_error_set(MR_E_NO_MEMORY, "mr_event_create: out of memory");

    event->device = device;
    event->has_timing = options && options->has_timing;
    mr__device_add_child(device);
    *out = event;
    return MR_OK;
}

void mr_event_destroy(mr_event *event)
{
    if (!event)
        return;
    if (event->point)
        event->point->ops->point_release(event->point);
    mr__stream_life_release(event->life);
    mr__device_remove_child(event->device);
    mr__free(event);
}

/* ---- recording ---- */

/* True when the stream was given nothing since its last record. Default and blocking streams are reached
 * by work that others were given, and foreign streams by work that we do not see: never there. Nor on a
 * stream that has failed since: what is recorded from then on answers the failure. */
static bool is_at_last_record(const mr_stream *stream)
{
    return stream->record_sequence && stream->record_sequence == mr__stream_sequence(stream) &&
           stream->kind == MR_STREAM_NON_BLOCKING && !stream->is_foreign &&
           !atomic_load_explicit(&stream->life->status, memory_order_relaxed);
}

/* Keeps the point for the next record, where a record is dear. */
static void keep_for_stream(mr_stream *stream, struct mr_point *point)
{
    if (stream->point)
        stream->ops->point_release(stream->point);
    stream->ops->point_retain(point);
    stream->point = point;
}

static mr_status replace_point(mr_event *event, mr_stream *stream)
{
    const struct mr_backend_ops *ops = stream->ops;
    if (ops->point_renew)
        return ops->point_renew(stream->queue, event->has_timing, &event->point);

    struct mr_point *point;
    const mr_status status = ops->point_record(stream->queue, event->has_timing, &point);
    if (status)
        return status;
    keep_for_stream(stream, point);
    if (event->point)
        ops->point_release(event->point);
    event->point = point;
    return MR_OK;
}

static void share_point(mr_event *event, mr_stream *stream)
{
    if (event->point == stream->point)
        return;
    stream->ops->point_retain(stream->point);
    if (event->point)
        stream->ops->point_release(event->point);
    event->point = stream->point;
}

static void keep_life(mr_event *event, mr_stream *stream)
{
    mr__stream_life_release(event->life);
    event->life = mr__stream_life_retain(stream->life);
    event->stream_id = stream->id;
}

/* The event is at the stream's present place afterwards. */
static mr_status record(mr_event *event, mr_stream *stream)
{
    const bool is_redundant = !event->has_timing && is_at_last_record(stream);
    if (is_redundant && event->sequence == stream->record_sequence &&
        event->stream_id == stream->id)
        return MR_OK;

    if (is_redundant && stream->point) {
        share_point(event, stream);
    } else {
        const mr_status status = replace_point(event, stream);
        if (status)
            return status;
        if (!is_redundant)
            stream->record_sequence = mr__stream_advance(stream);
    }
    if (event->life != stream->life)
        keep_life(event, stream);
    event->sequence = stream->record_sequence;
    atomic_store_explicit(&event->is_reached, false, memory_order_relaxed);
    return MR_OK;
}

static mr_status check_record(const mr_event *event, const mr_stream *stream)
{
    if (!event || !stream)
        return mr_error_set(MR_E_INVALID, "mr_event_record: %s is NULL",
                            event ? "stream" : "event");
    return mr_error_set(MR_E_INVALID,
                        "mr_event_record: the event is of %s, stream '%s' of %s; create the event "
                        "on the stream's device",
                        event->device->properties.id, stream->life->stream_name,
                        stream->device->properties.id);
}

mr_status mr_event_record(mr_event *event, mr_stream *stream)
{
    if (!event || !stream || event->device != stream->device)
        return check_record(event, stream);
    mr_status status =
        mr__stream_is_special(stream) ? mr__capture_admit("mr_event_record", stream) : MR_OK;
    if (status)
        return status;
    if (mr__stream_is_captured(stream))
        return mr__capture_record(event, stream);
    if (event->capture_id)
        mr__capture_forget_event(event);

    status = record(event, stream);
    if (status)
        return status;
    if (mr__operation_is_wanted(stream->device))
        mr__operation_emit_plain(stream->device, MR_OPERATION_RECORD, stream, event->sequence);
    return MR_OK;
}

/* Seen to be, by a look at this event or at a later one of its stream. */
static bool is_reached(const mr_event *event)
{
    return atomic_load_explicit(&event->is_reached, memory_order_acquire) ||
           mr__stream_life_has_reached(event->life, event->sequence);
}

/* ---- waiting by a stream ---- */

static void emit_wait(const mr_stream *stream, const mr_event *event, bool is_skipped)
{
    mr_operation operation = {
        .kind = is_skipped ? MR_OPERATION_WAIT_SKIPPED : MR_OPERATION_WAIT,
        .stream_id = stream->id,
        .sequence = mr__stream_sequence(stream),
        .name = stream->life->stream_name,
        .other_stream_id = event->stream_id,
        .other_sequence = event->sequence,
    };
    mr__operation_emit(stream->device, &operation);
}

static bool is_implied(const mr_stream *stream, const mr_event *event)
{
    return !event->point || event->stream_id == stream->id || is_reached(event) ||
           mr__stream_has_waited(stream, event->stream_id, event->sequence);
}

static mr_status submit_wait(mr_stream *stream, const mr_event *event)
{
    if (event->point->ops != stream->ops)
        return mr__relay_wait(stream, event);

    const mr_status status = stream->ops->queue_wait_point(stream->queue, event->point);
    if (!status)
        mr__stream_advance(stream);
    return status;
}

mr_status mr_stream_wait_event(mr_stream *stream, const mr_event *event)
{
    if (!stream || !event)
        return mr_error_set(MR_E_INVALID, "mr_stream_wait_event: %s is NULL",
                            stream ? "event" : "stream");
    if (mr__stream_is_captured(stream) || event->capture_id)
        return mr__capture_wait(stream, event);
    if (stream->kind == MR_STREAM_LEGACY) {
        const mr_status status = mr__capture_admit("mr_stream_wait_event", stream);
        if (status)
            return status;
    }

    const bool is_skipped = is_implied(stream, event);
    if (!is_skipped) {
        const mr_status status = submit_wait(stream, event);
        if (status)
            return status;
        mr__stream_note_wait(stream, event->stream_id, event->sequence);
    }
    if (mr__operation_is_wanted(stream->device))
        emit_wait(stream, event, is_skipped);
    return MR_OK;
}

/* ---- waiting and looking by the host ---- */

/* What the host is told once the point has answered `status`. */
static mr_status judge(const mr_event *event, mr_status status)
{
    if (status == MR_E_BUSY || status == MR_E_TIMEOUT)
        return status;
    if (status) {
        mr__stream_life_fail(event->life, event->sequence, status, mr_last_error());
        return status;
    }
    atomic_store_explicit(&((mr_event *)event)->is_reached, true, memory_order_release);
    mr__stream_life_reach(event->life, event->sequence);
    return mr__stream_life_check(event->life, event->sequence);
}

mr_status mr_event_wait_for(const mr_event *event, uint64_t timeout_ns)
{
    if (!event)
        return mr_error_set(MR_E_INVALID, "mr_event_wait: event is NULL");
    if (event->capture_id)
        return mr__capture_refuse_event("mr_event_wait", event);
    if (mr__operation_is_wanted(event->device)) {
        mr_operation operation = { .kind = MR_OPERATION_HOST_WAIT,
                                   .stream_id = event->stream_id,
                                   .sequence = event->sequence };
        mr__operation_emit(event->device, &operation);
    }
    if (!event->point)
        return MR_OK;
    if (is_reached(event))
        return mr__stream_life_check(event->life, event->sequence);

    const mr_status status = judge(event, event->point->ops->point_wait(event->point, timeout_ns));
    if (status == MR_E_TIMEOUT)
        return mr_error_set(status,
                            "mr_event_wait_for: the event of stream '%s' has not fired after "
                            "%" PRIu64 " ns",
                            event->life->stream_name, timeout_ns);
    return status;
}

mr_status mr_event_wait(const mr_event *event)
{
    return mr_event_wait_for(event, MR_FOREVER);
}

mr_status mr_event_query(const mr_event *event)
{
    if (!event)
        return mr_error_set(MR_E_INVALID, "mr_event_query: event is NULL");
    if (event->capture_id)
        return mr__capture_refuse_event("mr_event_query", event);
    if (!event->point)
        return MR_OK;
    if (is_reached(event))
        return mr__stream_life_check(event->life, event->sequence);
    return judge(event, event->point->ops->point_query(event->point));
}

static mr_status check_elapsed(const mr_event *start, const mr_event *end)
{
    if (!start || !end)
        return mr_error_set(MR_E_INVALID, "mr_event_elapsed: %s is NULL", start ? "end" : "start");
    if (start->device != end->device)
        return mr_error_set(MR_E_INVALID, "mr_event_elapsed: start is of %s, end of %s",
                            start->device->properties.id, end->device->properties.id);
    if (!start->has_timing || !end->has_timing)
        return mr_error_set(MR_E_INVALID,
                            "mr_event_elapsed: %s has no timing; create it with has_timing",
                            start->has_timing ? "end" : "start");
    if (start->capture_id || end->capture_id)
        return mr__capture_refuse_event("mr_event_elapsed", start->capture_id ? start : end);
    if (!start->point || !end->point)
        return mr_error_set(MR_E_STATE, "mr_event_elapsed: %s was never recorded",
                            start->point ? "end" : "start");
    return MR_OK;
}

mr_status mr_event_elapsed(const mr_event *start, const mr_event *end, int64_t *elapsed_ns)
{
    *elapsed_ns = 0;
    mr_status status = check_elapsed(start, end);
    if (!status)
        status = mr_event_query(start);
    if (!status)
        status = mr_event_query(end);
    return status ? status : start->point->ops->point_elapsed(start->point, end->point, elapsed_ns);
}
