/* SPDX-License-Identifier: MIT */
/*
 * The concurrency check: a look at what each side submits, then runs alone and together, timed on
 * the device. What it means is judged in concurrency_judge.c.
 */
#include "flow/concurrency_parts.h"

#include <millrace/event.h>
#include <millrace/operation.h>

#include <inttypes.h>
#include <stdio.h>

enum { REPEATS = 5, REPEAT_LIMIT = 1000, LEAST_NS = 50000 };

static const char call[] = "mr_concurrency_check";

/* One check. The events mark the start and the end of each side. */
struct check {
    const mr_concurrency_side *sides[2];
    mr_device *device;
    uint32_t repeat_count;
    mr_event *starts[2], *ends[2];
    struct mr__concurrency_facts facts;
    mr_concurrency_report *report;
};

/* ---- arguments ---- */

static mr_status check_arguments(const mr_concurrency_side *first,
                                 const mr_concurrency_side *second,
                                 const mr_concurrency_options *options)
{
    if (!first || !second)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call, first ? "second" : "first");
    const mr_concurrency_side *sides[] = { first, second };
    for (int i = 0; i < 2; i++) {
        if (!sides[i]->stream || !sides[i]->submit)
            return mr_error_set(MR_E_INVALID, "%s: the %s side has no %s", call,
                                i ? "second" : "first", sides[i]->stream ? "function" : "stream");
    }
    mr_device *device = mr_stream_device(first->stream);
    if (mr_stream_device(second->stream) != device)
        return mr_error_set(
            MR_E_INVALID, "%s: the streams are of %s and %s, whose times cannot be compared", call,
            mr_device_id(device), mr_device_id(mr_stream_device(second->stream)));
    if (options && options->repeat_count > REPEAT_LIMIT)
        return mr_error_set(MR_E_INVALID, "%s: repeat_count %" PRIu32 " is above %d", call,
                            options->repeat_count, REPEAT_LIMIT);
    return MR_OK;
}

/* ---- looking ---- */

struct look {
    struct mr__side_facts *facts;
    uint64_t other_stream_id, legacy_stream_id;
};

static bool is_work(mr_operation_kind kind)
{
    return kind == MR_OPERATION_COPY || kind == MR_OPERATION_FILL || kind == MR_OPERATION_LAUNCH ||
           kind == MR_OPERATION_CALL || kind == MR_OPERATION_GRAPH_LAUNCH;
}

static void note_copy(struct mr__side_facts *facts, const mr_operation *operation)
{
    const mr_place source = operation->accesses[0].place, target = operation->accesses[1].place;
    if (source == MR_PLACE_PAGEABLE || target == MR_PLACE_PAGEABLE)
        facts->has_pageable_copy = true;
    if (source != MR_PLACE_DEVICE && target == MR_PLACE_DEVICE)
        facts->copies_up++;
    else if (source == MR_PLACE_DEVICE && target != MR_PLACE_DEVICE)
        facts->copies_down++;
    else
        facts->copies_other++;
}

/* Of a graph only its memory is known: where that is the device's, its nodes are taken for kernels. */
static void note_graph(struct mr__side_facts *facts, const mr_operation *operation)
{
    for (size_t i = 0; i < operation->access_count; i++) {
        if (operation->accesses[i].place != MR_PLACE_DEVICE)
            return;
    }
    facts->launches += operation->access_count > 0;
}

static void note_stream(struct look *look, const mr_operation *operation)
{
    struct mr__side_facts *facts = look->facts;
    if (!is_work(operation->kind) || operation->stream_id == facts->stream_id)
        return;
    facts->has_other_stream = true;
    if (operation->stream_id == look->legacy_stream_id)
        facts->is_on_legacy = true;
}

static void note_operation(void *context, const mr_operation *operation)
{
    struct look *look = context;
    struct mr__side_facts *facts = look->facts;
    note_stream(look, operation);
    switch (operation->kind) {
    case MR_OPERATION_COPY:
        note_copy(facts, operation);
        break;
    case MR_OPERATION_LAUNCH:
        facts->launches++;
        break;
    case MR_OPERATION_GRAPH_LAUNCH:
        note_graph(facts, operation);
        break;
    case MR_OPERATION_FILL:
        facts->fills++;
        break;
    case MR_OPERATION_CALL:
        facts->host_functions++;
        break;
    case MR_OPERATION_WAIT:
    case MR_OPERATION_WAIT_SKIPPED:
        if (operation->other_stream_id == look->other_stream_id)
            facts->has_event_wait = true;
        break;
    case MR_OPERATION_HOST_WAIT:
    case MR_OPERATION_SYNCHRONIZE:
        facts->has_host_wait = true;
        break;
    case MR_OPERATION_ALLOCATE:
    case MR_OPERATION_FREE:
    case MR_OPERATION_REGISTER:
    case MR_OPERATION_UNREGISTER:
        facts->has_allocation = true;
        break;
    default:
        break;
    }
}

static mr_status submit_side(const struct check *check, int i)
{
    const mr_concurrency_side *side = check->sides[i];
    mr_error_set(MR_OK, "%s", "");
    const mr_status status = side->submit(side->context, side->stream);
    if (status && !*mr_last_error())
        mr_error_set(status, "%s", mr_status_text(status));
    return status ? mr_error_prefix(status, "%s: the %s side: ", call, i ? "second" : "first")
                  : MR_OK;
}

/* A first run, also to warm up: code is loaded, memory is touched. */
static mr_status look_at_side(struct check *check, int i)
{
    mr_stream *legacy;
    struct look look = { .facts = &check->facts.sides[i],
                         .other_stream_id = mr_stream_id(check->sides[!i]->stream) };
    mr_status status = mr_stream_default(check->device, MR_STREAM_LEGACY, &legacy);
    if (status)
        return status;
    look.legacy_stream_id = mr_stream_id(legacy);
    status = mr_device_observe_thread(check->device, note_operation, &look);
    if (status)
        return mr_error_prefix(status, "%s: ", call);
    status = submit_side(check, i);
    const mr_status removed = mr_device_observe_thread(check->device, NULL, NULL);
    status = status ? status : removed;
    return status ? status : mr_stream_wait(check->sides[i]->stream);
}

static void know_sides(struct check *check)
{
    for (int i = 0; i < 2; i++) {
        const mr_stream *stream = check->sides[i]->stream;
        check->facts.sides[i] = (struct mr__side_facts){ .stream_id = mr_stream_id(stream),
                                                         .stream_name = mr_stream_name(stream),
                                                         .kind = mr_stream_kind_of(stream),
                                                         .priority = mr_stream_priority(stream) };
    }
    const void *native = mr_stream_native(check->sides[0]->stream);
    check->facts.is_same_stream = check->sides[0]->stream == check->sides[1]->stream ||
                                  (native && native == mr_stream_native(check->sides[1]->stream));
    mr_device_describe(check->device, &check->facts.device);
}

/* ---- timing ---- */

static mr_status submit_timed(struct check *check, int i, uint64_t *submit_ns)
{
    mr_stream *stream = check->sides[i]->stream;
    mr_status status = mr_event_record(check->starts[i], stream);
    if (status)
        return status;
    const uint64_t start_ns = mr_device_now_ns(check->device);
    status = submit_side(check, i);
    *submit_ns = mr_device_now_ns(check->device) - start_ns;
    return status ? status : mr_event_record(check->ends[i], stream);
}

/* Nanoseconds from the first side's start (or this side's own) to an event; negative becomes 0. */
static mr_status span(const mr_event *start, const mr_event *end, uint64_t *elapsed_ns)
{
    int64_t signed_ns;
    const mr_status status = mr_event_elapsed(start, end, &signed_ns);
    *elapsed_ns = signed_ns > 0 ? (uint64_t)signed_ns : 0;
    return status;
}

static mr_status run_alone(struct check *check, int i)
{
    uint64_t submit_ns, elapsed_ns;
    mr_concurrency_report *report = check->report;
    mr_status status = submit_timed(check, i, &submit_ns);
    if (!status)
        status = mr_stream_wait(check->sides[i]->stream);
    if (!status)
        status = span(check->starts[i], check->ends[i], &elapsed_ns);
    if (!status && elapsed_ns < report->alone_ns[i]) {
        report->alone_ns[i] = elapsed_ns;
        report->submit_ns[i] = submit_ns;
    }
    return status;
}

/* From the first side's start, which is recorded first, to the later end. */
static mr_status measure_together(struct check *check)
{
    uint64_t second_start, ends[2];
    mr_status status = span(check->starts[0], check->starts[1], &second_start);
    for (int i = 0; i < 2 && !status; i++)
        status = span(check->starts[0], check->ends[i], &ends[i]);
    if (status)
        return status;
    const uint64_t last = ends[0] > ends[1] ? ends[0] : ends[1];
    const uint64_t first = ends[0] < ends[1] ? ends[0] : ends[1];
    if (last < check->report->together_ns) {
        check->report->together_ns = last;
        check->report->in_flight_ns = first > second_start ? first - second_start : 0;
    }
    return MR_OK;
}

static mr_status run_together(struct check *check)
{
    uint64_t submit_ns;
    mr_status status = submit_timed(check, 0, &submit_ns);
    if (!status)
        status = submit_timed(check, 1, &submit_ns);
    for (int i = 0; i < 2; i++) {
        const mr_status waited = mr_stream_wait(check->sides[i]->stream);
        status = status ? status : waited;
    }
    return status ? status : measure_together(check);
}

static mr_status create_events(struct check *check)
{
    const mr_event_options timing = { .has_timing = true };
    mr_status status = MR_OK;
    for (int i = 0; i < 2 && !status; i++) {
        status = mr_event_create(check->device, &timing, &check->starts[i]);
        if (!status)
            status = mr_event_create(check->device, &timing, &check->ends[i]);
    }
    return status;
}

static mr_status run_check(struct check *check)
{
    mr_status status = create_events(check);
    for (int i = 0; i < 2 && !status; i++)
        status = mr_stream_wait(check->sides[i]->stream);
    for (int i = 0; i < 2 && !status; i++)
        status = look_at_side(check, i);
    for (uint32_t turn = 0; turn < check->repeat_count && !status; turn++) {
        for (int i = 0; i < 2 && !status; i++)
            status = run_alone(check, i);
        if (!status)
            status = run_together(check);
    }
    return status;
}

/* The words of a failure stay: what was submitted before it has to end before the call does. */
static void settle(const struct check *check)
{
    char words[MR_ERROR_BYTES];
    snprintf(words, sizeof words, "%s", mr_last_error());
    for (int i = 0; i < 2; i++)
        (void)!mr_stream_wait(check->sides[i]->stream);
    mr_error_set(MR_OK, "%s", words);
}

mr_status mr_concurrency_check(const mr_concurrency_side *first, const mr_concurrency_side *second,
                               const mr_concurrency_options *options, mr_concurrency_report *report)
{
    if (!report)
        return mr_error_set(MR_E_INVALID, "%s: report is NULL", call);
    *report = (mr_concurrency_report){ .verdict = MR_CONCURRENCY_UNCLEAR };
    mr_status status = check_arguments(first, second, options);
    if (status)
        return status;

    struct check check = { .sides = { first, second },
                           .device = mr_stream_device(first->stream),
                           .repeat_count = REPEATS,
                           .facts = { .least_ns = LEAST_NS },
                           .report = report };
    if (options && options->repeat_count)
        check.repeat_count = options->repeat_count;
    if (options && options->least_ns)
        check.facts.least_ns = options->least_ns;
    *report = (mr_concurrency_report){ .alone_ns = { UINT64_MAX, UINT64_MAX },
                                       .together_ns = UINT64_MAX };
    know_sides(&check);
    status = run_check(&check);
    if (status) {
        settle(&check);
        *report = (mr_concurrency_report){ .verdict = MR_CONCURRENCY_UNCLEAR };
    } else {
        mr__concurrency_judge(&check.facts, report);
    }
    for (int i = 0; i < 2; i++) {
        mr_event_destroy(check.starts[i]);
        mr_event_destroy(check.ends[i]);
    }
    return status;
}
