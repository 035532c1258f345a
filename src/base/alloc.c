/* SPDX-License-Identifier: MIT */
/*
 * The heap: libc's, behind one test of a countdown that only tests set.
 */
#include "base/alloc.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { FIRST_CAPACITY = 8 };

/* Zero: never fail. Otherwise the number of allocations up to and including the one that fails. */
static _Atomic uint64_t fail_countdown;
static _Atomic int fail_is_lasting;
static _Atomic int has_failed;

void mr__alloc_fail_at(uint64_t countdown, int is_lasting)
{
    atomic_store(&has_failed, 0);
    atomic_store(&fail_is_lasting, is_lasting);
    atomic_store(&fail_countdown, countdown);
}

int mr__alloc_has_failed(void)
{
    return atomic_load(&has_failed);
}

static int must_fail(void)
{
    uint64_t left = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    while (left) {
        const uint64_t next = left == 1 && atomic_load(&fail_is_lasting) ? 1 : left - 1;
        if (!atomic_compare_exchange_weak(&fail_countdown, &left, next))
            continue;
        if (left != 1)
            return 0;
        atomic_store(&has_failed, 1);
        return 1;
    }
    return 0;
}

void *mr__zalloc(size_t size_bytes)
{
    return must_fail() ? NULL : calloc(1, size_bytes ? size_bytes : 1);
}

void *mr__zalloc_array(size_t count, size_t size_bytes)
{
    size_t total;
    if (must_fail() || __builtin_mul_overflow(count, size_bytes, &total))
        return NULL;
    return calloc(1, total ? total : 1);
}

void *mr__alloc_aligned(size_t alignment, size_t size_bytes)
{
    void *block = NULL;
    if (must_fail() || posix_memalign(&block, alignment, size_bytes ? size_bytes : 1))
        return NULL;
    return block;
}

void *mr__zalloc_aligned(size_t alignment, size_t size_bytes)
{
    void *block = mr__alloc_aligned(alignment, size_bytes);
    return block ? memset(block, 0, size_bytes) : NULL;
}

void *mr__resize_array(void *block, size_t count, size_t size_bytes)
{
    size_t total;
    if (must_fail() || __builtin_mul_overflow(count, size_bytes, &total))
        return NULL;
    return realloc(block, total ? total : 1);
}

int mr__grow_array(void *array, size_t size_bytes, size_t count, size_t *capacity)
{
    if (count <= *capacity)
        return 1;
    size_t wanted = *capacity ? *capacity : FIRST_CAPACITY;
    while (wanted < count)
        wanted = wanted <= SIZE_MAX / 2 ? 2 * wanted : count;
    void *block; /* whatever it points to */
    memcpy(&block, array, sizeof block);
    block = mr__resize_array(block, wanted, size_bytes);
    if (!block)
        return 0;
    memcpy(array, &block, sizeof block);
    *capacity = wanted;
    return 1;
}

char *mr__copy_text(const char *text)
{
    return !text || must_fail() ? NULL : strdup(text);
}

char *mr__format_text(const char *format, ...)
{
    if (must_fail())
        return NULL;

    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    const int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}

void mr__free(void *block)
{
    free(block);
}

enum { HUGE_PAGE_BYTES = 2 << 20 };

static size_t round_to_pages(size_t size_bytes)
{
    const size_t page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    return (size_bytes + page_bytes - 1) / page_bytes * page_bytes;
}

static void *map_anonymous(size_t size_bytes)
{
    void *address =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return address == MAP_FAILED ? NULL : address;
}

/* Maps a huge page more than asked and gives back what sticks out on both sides. */
static void *map_huge(size_t size_bytes)
{
    unsigned char *start = map_anonymous(size_bytes + HUGE_PAGE_BYTES);
    if (!start)
        return NULL;

    const size_t skip = -(uintptr_t)start % HUGE_PAGE_BYTES;
    if (skip)
        munmap(start, skip);
    munmap(start + skip + size_bytes, HUGE_PAGE_BYTES - skip);

    madvise(start + skip, size_bytes, MADV_HUGEPAGE);
    return start + skip;
}

void *mr__map_pages(size_t size_bytes)
{
    if (must_fail() || size_bytes > PTRDIFF_MAX - 2 * (size_t)HUGE_PAGE_BYTES)
        return NULL;

    const size_t rounded = round_to_pages(size_bytes);
    return rounded < HUGE_PAGE_BYTES ? map_anonymous(rounded) : map_huge(rounded);
}

void mr__unmap_pages(void *address, size_t size_bytes)
{
    if (address)
        munmap(address, round_to_pages(size_bytes));
}
