/* SPDX-License-Identifier: MIT */
/*
 * support/make.h - what most tests stand on: a stream, a buffer, and host functions that count or fail.
 */
#ifndef TEST_MAKE_H
#define TEST_MAKE_H

#include "support/check.h"

#include <millrace/buffer.h>

#include <stdatomic.h>

static inline mr_stream *make_stream(mr_device *device)
{
    mr_stream *stream;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    return stream;
}

static inline mr_buffer *make_buffer(mr_device *device, size_t size_bytes, mr_place place)
{
    mr_buffer *buffer;
    CHECK_OK(mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

static inline mr_status count_up(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
    return MR_OK;
}

static inline mr_status fail_with_words(void *context)
{
    (void)context;
    return mr_error_set(MR_E_IO, "sensor 4 is gone");
}

#endif
