/* SPDX-License-Identifier: MIT */
/*
 * core/hop.h - copies between devices that cannot reach each other: through the host.
 *
 * A stream has a hop for each pair of devices it copies between: a few pinned slots, a stream on the
 * source that fills them and one on the target that empties them, so that both halves of a long copy
 * run at once. The caller's stream waits for both, and gets a failure of either.
 */
#ifndef MR__HOP_H
#define MR__HOP_H

#include "core/buffer.h"

/* Whether a copy must go this way: device memory of two devices that are not peers. */
bool mr__hop_is_needed(const mr_buffer *target, const mr_buffer *source);

/* Submits the copy, in the stream's order, as one submission of it or more; its ranges have been
 * checked. The first one between two devices pins memory and may block. */
mr_status mr__hop_copy(mr_stream *stream, mr_buffer *target, mr_buffer *source,
                       const struct mr_transfer *transfer);

/* Ends the hops of a stream whose work has ended, or those from and to a device that closes. */
void mr__hops_end_stream(const mr_stream *stream);
void mr__hops_end_device(const mr_device *device);

#endif
