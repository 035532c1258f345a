/* SPDX-License-Identifier: MIT */
/*
 * core/operation.h - telling a device's observer about a submission.
 *
 * Ask mr__operation_is_wanted first: without an observer that one branch is the whole cost, and
 * records and their access lists are only built behind it.
 */
#ifndef MR__OPERATION_H
#define MR__OPERATION_H

#include "core/device.h"

#include <millrace/operation.h>

static inline bool mr__operation_is_wanted(const mr_device *device)
{
    return __builtin_expect(
        atomic_load_explicit(&device->observer.wanted_count, memory_order_relaxed) != 0, 0);
}

/* Fills device_id and submitted_ns, and an absent name with "", and calls the observers that
 * are still there. */
void mr__operation_emit(mr_device *device, mr_operation *operation);

/* The plain case: a record of `kind` on `stream` (may be NULL) with its last sequence. */
void mr__operation_emit_plain(mr_device *device, mr_operation_kind kind, const mr_stream *stream,
                              uint64_t sequence);

#endif
