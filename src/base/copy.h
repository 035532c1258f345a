/* SPDX-License-Identifier: MIT */
/*
 * base/copy.h - one thread's copy of host memory, through the cache or around it.
 */
#ifndef MR__COPY_H
#define MR__COPY_H

#include <stddef.h>

/* The target will be read soon. */
void mr__copy_cached(void *target, const void *source, size_t size_bytes);

/* The target will not be read soon: stores go around the cache, which keeps what it has. */
void mr__copy_streamed(void *target, const void *source, size_t size_bytes);

/* The same for one of several pieces. Nobody may be told of any before mr__copy_streamed_end. */
void mr__copy_streamed_weakly(void *target, const void *source, size_t size_bytes);
void mr__copy_streamed_end(void);

#endif
