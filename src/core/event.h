/* SPDX-License-Identifier: MIT */
/*
 * core/event.h - an event as core's other files see it: a snapshot of a stream.
 */
#ifndef MR__EVENT_H
#define MR__EVENT_H

#include "core/stream.h"

#include <millrace/event.h>

struct mr_event {
    mr_device *device;
    bool has_timing;

    /* The snapshot: absent until the first record. `sequence` is the record's own number. */
    struct mr_point *point;
    uint64_t stream_id;
    uint64_t sequence;
    struct mr__stream_life *life; /* of the recorded stream */
    _Atomic bool is_reached;      /* seen to be; never unset but by a new record */

    /* Not 0: the newest record was in that capture, and `point` is a place in it. */
    uint64_t capture_id;
    size_t capture_mark;
};

#endif
