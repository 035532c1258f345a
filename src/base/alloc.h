/* SPDX-License-Identifier: MIT */
/*
 * base/alloc.h - the one door to the heap, so that tests can close it at the Nth knock.
 */
#ifndef MR__ALLOC_H
#define MR__ALLOC_H

#include <stddef.h>
#include <stdint.h>

/* NULL when memory is out. Zeroed. Freed with mr__free. */
void *mr__zalloc(size_t size_bytes);
/* count * size_bytes, checked for overflow. Zeroed. */
void *mr__zalloc_array(size_t count, size_t size_bytes);
/* Zeroed, aligned to a power of two of at least sizeof(void *). */
void *mr__zalloc_aligned(size_t alignment, size_t size_bytes);
/* Not zeroed, aligned likewise: for large data memory, whose pages are then touched first by use.
 */
void *mr__alloc_aligned(size_t alignment, size_t size_bytes);
/* As realloc of an array; new bytes are undefined. The old block lives on when it fails. */
void *mr__resize_array(void *block, size_t count, size_t size_bytes);
/* Room for `count` elements in an array that grows: `array` is where the pointer to it stands. Doubles
 * where there is too little. 0 when memory is out; the array is as it was then. */
int mr__grow_array(void *array, size_t size_bytes, size_t count, size_t *capacity);
/* NULL gives NULL. */
char *mr__copy_text(const char *text);
/* printf into a fresh string. */
char *mr__format_text(const char *format, ...) __attribute__((format(printf, 1, 2)));
void mr__free(void *block);

/* Whole pages, zero, aligned to a page (from 2 MiB on to 2 MiB, in huge pages where the system
 * lends them): for large data memory, whose pages are touched first by use. Unmapped with the same
 * size. */
void *mr__map_pages(size_t size_bytes);
void mr__unmap_pages(void *address, size_t size_bytes);

/* For tests: the countdown-th allocation from now fails, and every later one too when `is_lasting`.
 * 0 turns it off. Counts over all threads. */
void mr__alloc_fail_at(uint64_t countdown, int is_lasting);
/* True once an allocation has been failed since the last mr__alloc_fail_at. */
int mr__alloc_has_failed(void);

#endif
