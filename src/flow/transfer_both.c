/* SPDX-License-Identifier: MIT */
/*
 * Both ways at once: two copies on two streams that begin together and end together.
 */
#include "flow/transfer_parts.h"

#include <millrace/graph.h>

#include <stdio.h>

static const char call[] = "mr_transfer_both_ways";

static struct mr__range range_of_target(const mr_copy_range *copy)
{
    return (struct mr__range){ copy->target, copy->target_offset, copy->size_bytes };
}

static struct mr__range range_of_source(const mr_copy_range *copy)
{
    return (struct mr__range){ copy->source, copy->source_offset, copy->size_bytes };
}

/* ---- checks ---- */

static mr_status check_copy(const mr_stream *stream, const mr_copy_range *copy,
                            const char *const names[2])
{
    const struct mr__range target = range_of_target(copy), source = range_of_source(copy);
    mr_status status = mr__range_check(call, names[0], &target);
    if (!status)
        status = mr__range_check(call, names[1], &source);
    if (!status)
        status = mr__range_check_place(call, names[0], stream, &target);
    if (!status)
        status = mr__range_check_place(call, names[1], stream, &source);
    return status;
}

static mr_status check_apart(const mr_copy_range *up, const mr_copy_range *down)
{
    const struct mr__range up_target = range_of_target(up), up_source = range_of_source(up);
    const struct mr__range down_target = range_of_target(down), down_source = range_of_source(down);
    const char *words = NULL;
    if (mr__range_meets(&up_target, &down_source))
        words = "the copy up writes what the copy down reads";
    else if (mr__range_meets(&down_target, &up_source))
        words = "the copy down writes what the copy up reads";
    else if (mr__range_meets(&up_target, &down_target))
        words = "both copies write the same memory";
    if (!words)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "%s: %s at the same time; use two buffers in turn", call,
                        words);
}

static mr_status check_both(mr_stream *up_stream, const mr_copy_range *up, mr_stream *down_stream,
                            const mr_copy_range *down)
{
    static const char *const up_names[] = { "up's target", "up's source" };
    static const char *const down_names[] = { "down's target", "down's source" };
    if (!up_stream || !down_stream || !up || !down)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call,
                            !up_stream     ? "up_stream"
                            : !up          ? "up"
                            : !down_stream ? "down_stream"
                                           : "down");
    if (up_stream == down_stream)
        return mr_error_set(MR_E_INVALID,
                            "%s: both streams are stream '%s', which would run one copy after the "
                            "other; give two",
                            call, mr_stream_name(up_stream));
    mr_status status = check_copy(up_stream, up, up_names);
    if (!status)
        status = check_copy(down_stream, down, down_names);
    return status ? status : check_apart(up, down);
}

/* ---- the copies ---- */

/* In a capture that the other stream is not part of, there is nothing of the other's to wait for: its
 * wait for this one draws it in. */
static bool can_wait(const mr_stream *stream, const mr_stream *other)
{
    return !mr_stream_is_capturing(stream) || mr_stream_is_capturing(other);
}

/* What either stream is given from now on waits for what both were given so far. */
static mr_status meet(mr_stream *first, mr_event *first_event, mr_stream *second,
                      mr_event *second_event)
{
    const bool can_first = can_wait(first, second), can_second = can_wait(second, first);
    mr_status status = MR_OK;
    if (can_second)
        status = mr_event_record(first_event, first);
    if (!status && can_first)
        status = mr_event_record(second_event, second);
    if (!status && can_first)
        status = mr_stream_wait_event(first, second_event);
    if (!status && can_second)
        status = mr_stream_wait_event(second, first_event);
    return status;
}

static mr_status copy_range(mr_stream *stream, const mr_copy_range *copy)
{
    return mr_copy(stream, copy->target, copy->target_offset, copy->source, copy->source_offset,
                   copy->size_bytes);
}

static mr_status copy_both(mr_stream *up_stream, const mr_copy_range *up, mr_event *up_event,
                           mr_stream *down_stream, const mr_copy_range *down, mr_event *down_event)
{
    mr_status status = meet(up_stream, up_event, down_stream, down_event);
    if (status)
        return status;
    status = copy_range(up_stream, up);
    if (!status)
        status = copy_range(down_stream, down);
    if (!status)
        return meet(up_stream, up_event, down_stream, down_event);

    /* What was queued is joined all the same; the failure's words stay. */
    char words[MR_ERROR_BYTES];
    snprintf(words, sizeof words, "%s", mr_last_error());
    (void)!meet(up_stream, up_event, down_stream, down_event);
    return mr_error_set(status, "%s: %s", call, words);
}

mr_status mr_transfer_both_ways(mr_stream *up_stream, const mr_copy_range *up,
                                mr_stream *down_stream, const mr_copy_range *down)
{
    mr_event *up_event = NULL, *down_event = NULL;
    mr_status status = check_both(up_stream, up, down_stream, down);
    if (status || (!up->size_bytes && !down->size_bytes))
        return status;
    status = mr_event_create(mr_stream_device(up_stream), NULL, &up_event);
    if (!status)
        status = mr_event_create(mr_stream_device(down_stream), NULL, &down_event);
    if (!status)
        status = copy_both(up_stream, up, up_event, down_stream, down, down_event);
    mr_event_destroy(down_event);
    mr_event_destroy(up_event);
    return status;
}
