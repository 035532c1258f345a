/* SPDX-License-Identifier: MIT */
/*
 * Non-temporal stores where the processor has them.
 */
#include "base/copy.h"

#include <stdint.h>
#include <string.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

void mr__copy_cached(void *target, const void *source, size_t size_bytes)
{
    memcpy(target, source, size_bytes);
}

#if defined(__SSE2__)
enum { LINE_BYTES = 64, STREAM_FROM_BYTES = 4096 };

static void copy_lines(char *target, const char *source, size_t line_count)
{
    for (size_t i = 0; i < line_count; i++, target += LINE_BYTES, source += LINE_BYTES) {
        const __m128i a = _mm_loadu_si128((const __m128i *)source);
        const __m128i b = _mm_loadu_si128((const __m128i *)source + 1);
        const __m128i c = _mm_loadu_si128((const __m128i *)source + 2);
        const __m128i d = _mm_loadu_si128((const __m128i *)source + 3);
        _mm_stream_si128((__m128i *)target, a);
        _mm_stream_si128((__m128i *)target + 1, b);
        _mm_stream_si128((__m128i *)target + 2, c);
        _mm_stream_si128((__m128i *)target + 3, d);
    }
}

/* Streamed stores are weakly ordered: publish them before anyone is told. */
void mr__copy_streamed_end(void)
{
    _mm_sfence();
}

void mr__copy_streamed_weakly(void *target, const void *source, size_t size_bytes)
{
    if (size_bytes < STREAM_FROM_BYTES) {
        memcpy(target, source, size_bytes);
        return;
    }
    char *to = target;
    const char *from = source;
    const size_t head = (LINE_BYTES - (uintptr_t)to % LINE_BYTES) % LINE_BYTES;
    memcpy(to, from, head);
    const size_t lines = (size_bytes - head) / LINE_BYTES;
    copy_lines(to + head, from + head, lines);
    const size_t done = head + lines * LINE_BYTES;
    memcpy(to + done, from + done, size_bytes - done);
}
#else
void mr__copy_streamed_weakly(void *target, const void *source, size_t size_bytes)
{
    memcpy(target, source, size_bytes);
}

void mr__copy_streamed_end(void)
{
}
#endif

void mr__copy_streamed(void *target, const void *source, size_t size_bytes)
{
    mr__copy_streamed_weakly(target, source, size_bytes);
    mr__copy_streamed_end();
}
