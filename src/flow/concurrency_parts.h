/* SPDX-License-Identifier: MIT */
/*
 * flow/concurrency_parts.h - what is seen and measured of two streams, and the judgement of it.
 */
#ifndef MR__CONCURRENCY_PARTS_H
#define MR__CONCURRENCY_PARTS_H

#include <millrace/concurrency.h>

/* What one side's function submitted. */
struct mr__side_facts {
    uint64_t stream_id;
    const char *stream_name;
    mr_stream_kind kind;
    int priority;
    uint64_t copies_up, copies_down, copies_other; /* to the device, from it, between others */
    uint64_t launches, fills, host_functions;
    bool has_other_stream; /* work went to a stream that was not given */
    bool is_on_legacy;     /* and that stream is the legacy default stream */
    bool has_event_wait;   /* for the other side's stream */
    bool has_host_wait;
    bool has_allocation;
    bool has_pageable_copy;
};

struct mr__concurrency_facts {
    struct mr__side_facts sides[2];
    mr_device_properties device;
    bool is_same_stream;
    uint64_t least_ns;
};

/* Fills the verdict, the obstacle, what follows from the measured times, and the words. */
void mr__concurrency_judge(const struct mr__concurrency_facts *facts,
                           mr_concurrency_report *report);

#endif
