/* SPDX-License-Identifier: MIT */
/*
 * core/default_stream.h - the streams that nobody creates: a device's own and each thread's own.
 */
#ifndef MR__DEFAULT_STREAM_H
#define MR__DEFAULT_STREAM_H

#include "core/stream.h"

/* Waits for the work of the device's default streams and frees them, also those of other threads.
 * May block. */
void mr__default_streams_end(mr_device *device);

#endif
