/* SPDX-License-Identifier: MIT */
/*
 * The judgement of two streams, from facts and times alone: no clock, no device.
 */
#include "flow/concurrency_parts.h"

#include <stdio.h>

/* ---- names ---- */

const char *mr_concurrency_verdict_name(mr_concurrency_verdict verdict)
{
    switch (verdict) {
    case MR_CONCURRENCY_UNCLEAR:
        return "unclear";
    case MR_CONCURRENCY_NONE:
        return "none";
    case MR_CONCURRENCY_PART:
        return "in part";
    case MR_CONCURRENCY_FULL:
        return "full";
    }
    return "unknown";
}

const char *mr_concurrency_obstacle_name(mr_concurrency_obstacle obstacle)
{
    switch (obstacle) {
    case MR_OBSTACLE_NONE:
        return "none";
    case MR_OBSTACLE_SAME_STREAM:
        return "same stream";
    case MR_OBSTACLE_OTHER_STREAM:
        return "other stream";
    case MR_OBSTACLE_EVENT:
        return "event";
    case MR_OBSTACLE_LEGACY:
        return "legacy default stream";
    case MR_OBSTACLE_HOST_WAIT:
        return "host wait";
    case MR_OBSTACLE_ALLOCATION:
        return "allocation";
    case MR_OBSTACLE_PAGEABLE:
        return "pageable memory";
    case MR_OBSTACLE_ENGINE:
        return "engine";
    case MR_OBSTACLE_SUBMISSION:
        return "submission";
    case MR_OBSTACLE_PRIORITY:
        return "priority";
    case MR_OBSTACLE_DEVICE_FULL:
        return "device full";
    case MR_OBSTACLE_UNKNOWN:
        return "unknown";
    }
    return "unknown";
}

/* ---- figures ---- */

static uint64_t lesser(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t greater(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* What was gained over one after the other, as a share of the shorter side; no more than the time
 * during which both were in flight, as nothing can be hidden by work that is not there. */
static double hidden_share(const mr_concurrency_report *report)
{
    const uint64_t serial = report->alone_ns[0] + report->alone_ns[1];
    const uint64_t shorter = lesser(report->alone_ns[0], report->alone_ns[1]);
    const uint64_t gained = serial > report->together_ns ? serial - report->together_ns : 0;
    const uint64_t hidden = lesser(lesser(gained, report->in_flight_ns), shorter);
    return shorter ? (double)hidden / (double)shorter : 0;
}

static double ratio(uint64_t a, uint64_t b)
{
    return b ? (double)a / (double)b : 0;
}

static mr_concurrency_verdict judge_times(const mr_concurrency_report *report, uint64_t least_ns)
{
    if (lesser(report->alone_ns[0], report->alone_ns[1]) < least_ns)
        return MR_CONCURRENCY_UNCLEAR;
    if (report->hidden >= 0.8)
        return MR_CONCURRENCY_FULL;
    return report->hidden >= 0.2 ? MR_CONCURRENCY_PART : MR_CONCURRENCY_NONE;
}

/* ---- obstacles ---- */

/* Ordered with the legacy stream: the per-thread default streams are, and blocking ones. */
static bool follows_legacy(const struct mr__side_facts *side)
{
    return side->kind != MR_STREAM_NON_BLOCKING;
}

static bool is_legacy(const struct mr__side_facts *side)
{
    return side->kind == MR_STREAM_LEGACY || side->is_on_legacy;
}

static bool is_engine_shared(const struct mr__concurrency_facts *facts)
{
    const struct mr__side_facts *a = &facts->sides[0], *b = &facts->sides[1];
    const mr_device_properties *device = &facts->device;
    if (device->is_host_memory) /* the CPU: its workers do everything */
        return device->multiprocessor_count == 1;
    const bool both_launch = a->launches && b->launches;
    const bool both_copy = (a->copies_up || a->copies_down) && (b->copies_up || b->copies_down);
    const bool copy_and_launch = ((a->copies_up || a->copies_down) && b->launches) ||
                                 ((b->copies_up || b->copies_down) && a->launches);
    if (both_launch && !device->has_concurrent_kernels)
        return true;
    if ((a->copies_up && b->copies_up) || (a->copies_down && b->copies_down))
        return true;
    if (both_copy && device->copy_engine_count < 2)
        return true;
    if (copy_and_launch && !device->can_overlap_copy_and_kernel)
        return true;
    return a->host_functions && b->host_functions;
}

/* The first thing that is seen in what was submitted. */
static mr_concurrency_obstacle find_obstacle(const struct mr__concurrency_facts *facts)
{
    const struct mr__side_facts *a = &facts->sides[0], *b = &facts->sides[1];
    if (facts->is_same_stream)
        return MR_OBSTACLE_SAME_STREAM;
    if ((is_legacy(a) && follows_legacy(b)) || (is_legacy(b) && follows_legacy(a)))
        return MR_OBSTACLE_LEGACY;
    if (a->has_other_stream || b->has_other_stream)
        return MR_OBSTACLE_OTHER_STREAM;
    if (a->has_event_wait || b->has_event_wait)
        return MR_OBSTACLE_EVENT;
    if (a->has_host_wait || b->has_host_wait)
        return MR_OBSTACLE_HOST_WAIT;
    if (a->has_allocation || b->has_allocation)
        return MR_OBSTACLE_ALLOCATION;
    if (!facts->device.is_host_memory && (a->has_pageable_copy || b->has_pageable_copy))
        return MR_OBSTACLE_PAGEABLE;
    return is_engine_shared(facts) ? MR_OBSTACLE_ENGINE : MR_OBSTACLE_NONE;
}

/* Where nothing was seen, and yet the sides did not overlap. */
static mr_concurrency_obstacle conclude_obstacle(const struct mr__concurrency_facts *facts,
                                                 const mr_concurrency_report *report)
{
    const struct mr__side_facts *a = &facts->sides[0], *b = &facts->sides[1];
    if (ratio(report->submit_ns[0], report->alone_ns[0]) >= 0.8)
        return MR_OBSTACLE_SUBMISSION; /* the first ends before the second is submitted */
    if (facts->device.is_host_memory)
        return MR_OBSTACLE_DEVICE_FULL; /* any work there uses the workers and the memory */
    if (!a->launches || !b->launches)
        return MR_OBSTACLE_UNKNOWN;
    return a->priority != b->priority ? MR_OBSTACLE_PRIORITY : MR_OBSTACLE_DEVICE_FULL;
}

/* ---- words ---- */

static const char *engine_words(const struct mr__concurrency_facts *facts)
{
    const struct mr__side_facts *a = &facts->sides[0], *b = &facts->sides[1];
    if (facts->device.is_host_memory)
        return "the CPU device has one worker (mr_device_options.worker_count)";
    if (a->launches && b->launches && !facts->device.has_concurrent_kernels)
        return "this device runs one kernel at a time";
    if ((a->copies_up && b->copies_up) || (a->copies_down && b->copies_down))
        return "copies of one direction share one engine; the link is no faster for two of them";
    if (a->host_functions && b->host_functions)
        return "a GPU's driver runs host functions one at a time";
    return "this device has too few copy engines for it";
}

static const char *obstacle_words(const struct mr__concurrency_facts *facts,
                                  mr_concurrency_obstacle obstacle)
{
    switch (obstacle) {
    case MR_OBSTACLE_NONE:
        return "";
    case MR_OBSTACLE_SAME_STREAM:
        return "both sides are on one stream, which runs its work in order: give each a stream";
    case MR_OBSTACLE_OTHER_STREAM:
        return "a function gave work to another stream than its own: pass on the stream it is "
               "given";
    case MR_OBSTACLE_EVENT:
        return "one stream waits for an event of the other: wait later, or only for what is needed";
    case MR_OBSTACLE_LEGACY:
        return "the legacy default stream waits for blocking streams and they for it: use "
               "non-blocking streams for both";
    case MR_OBSTACLE_HOST_WAIT:
        return "a function waits for the device before the other side is submitted: let the stream "
               "wait for an event instead";
    case MR_OBSTACLE_ALLOCATION:
        return "a function allocates, frees or pins memory, for which a driver may wait: do so "
               "before";
    case MR_OBSTACLE_PAGEABLE:
        return "a copy of pageable memory holds up the submitting thread: use pinned memory, or "
               "stage "
               "it (millrace/staging.h)";
    case MR_OBSTACLE_ENGINE:
        return engine_words(facts);
    case MR_OBSTACLE_SUBMISSION:
        return "submitting the first side takes the host as long as the work lasts: submit larger "
               "pieces, a graph, or from two threads";
    case MR_OBSTACLE_PRIORITY:
        return "the stream with priority takes room first, and the other gets what is left";
    case MR_OBSTACLE_DEVICE_FULL:
        if (facts->device.is_host_memory)
            return "both share the CPU's workers and the bandwidth of its memory: there is little "
                   "to "
                   "gain";
        return "a kernel that fills the device leaves the other no room: there is nothing to gain, "
               "or "
               "launch fewer blocks";
    case MR_OBSTACLE_UNKNOWN:
        return "nothing seen here explains it: look for work on native handles, blocking calls of "
               "other "
               "libraries, CUDA_DEVICE_MAX_CONNECTIONS or CUDA_LAUNCH_BLOCKING";
    }
    return "";
}

static void write_words(const struct mr__concurrency_facts *facts, mr_concurrency_report *report)
{
    static const char *const verdicts[] = { "are too short to tell", "do not overlap",
                                            "overlap in part", "overlap" };
    const char *obstacle = obstacle_words(facts, report->obstacle);
    const bool is_full = report->verdict == MR_CONCURRENCY_FULL;
    snprintf(
        report->words, sizeof report->words,
        "streams '%.40s' and '%.40s' %s: alone %.3f and %.3f ms, together %.3f ms, %.0f %% of the "
        "shorter hidden%s%s",
        facts->sides[0].stream_name, facts->sides[1].stream_name, verdicts[report->verdict],
        (double)report->alone_ns[0] / 1e6, (double)report->alone_ns[1] / 1e6,
        (double)report->together_ns / 1e6, report->hidden * 100,
        !*obstacle ? ""
        : is_full  ? ", although "
                   : "; ",
        obstacle);
}

void mr__concurrency_judge(const struct mr__concurrency_facts *facts, mr_concurrency_report *report)
{
    const uint64_t serial = report->alone_ns[0] + report->alone_ns[1];
    report->bound_ns = greater(report->alone_ns[0], report->alone_ns[1]);
    report->hidden = hidden_share(report);
    report->speed_up = ratio(serial, report->together_ns);
    report->speed_up_bound = ratio(serial, report->bound_ns);
    report->verdict = judge_times(report, facts->least_ns);
    report->obstacle = find_obstacle(facts);
    if (!report->obstacle &&
        (report->verdict == MR_CONCURRENCY_NONE || report->verdict == MR_CONCURRENCY_PART))
        report->obstacle = conclude_obstacle(facts, report);
    write_words(facts, report);
}
