/* SPDX-License-Identifier: MIT */
/*
 * What the base promises of memory, clocks, hashes, copies and signals.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/copy.h"
#include "base/hash.h"
#include "base/numa.h"
#include "base/signal.h"
#include "support/unit.h"

#include <pthread.h>

/* ---- memory ---- */

static void allocation_fails_when_the_countdown_ends(void **state)
{
    (void)state;
    mr__alloc_fail_at(2, 0);
    void *first = mr__zalloc(8), *second = mr__zalloc(8), *third = mr__zalloc(8);
    assert_true(mr__alloc_has_failed());
    mr__alloc_fail_at(1, 1);
    assert_null(mr__zalloc(8));
    assert_null(mr__copy_text("text"));
    assert_null(mr__map_pages(8));
    mr__alloc_fail_at(0, 0);

    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    assert_false(mr__alloc_has_failed());
    mr__free(first);
    mr__free(third);
}

static void allocation_of_an_array_too_large_to_count_fails(void **state)
{
    (void)state;
    assert_null(mr__zalloc_array(SIZE_MAX / 2, 4));
    assert_null(mr__resize_array(NULL, SIZE_MAX / 2, 4));
    assert_null(mr__map_pages(SIZE_MAX));
}

static void pages_are_zero_and_aligned(void **state)
{
    const size_t huge = 2 << 20;
    const size_t sizes[] = { 1, 4096, 4097, huge - 1, huge, huge + 1, 5 * huge + 12345 };
    (void)state;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *pages = mr__map_pages(sizes[i]);
        assert_non_null(pages);
        assert_int_equal(0, (uintptr_t)pages % (sizes[i] < huge ? 4096 : huge));
        for (size_t k = 0; k < sizes[i]; k += 511) {
            assert_int_equal(0, pages[k]);
            pages[k] = 1;
        }
        pages[sizes[i] - 1] = 1;
        mr__unmap_pages(pages, sizes[i]);
    }
    mr__unmap_pages(NULL, 1);
}

/* ---- copies and hashes ---- */

static void streamed_copy_moves_every_byte_at_any_alignment(void **state)
{
    enum { BYTES = 20000 };
    static unsigned char source[BYTES], target[BYTES + 1];
    (void)state;
    for (size_t i = 0; i < BYTES; i++)
        source[i] = (unsigned char)(i * 7 + (i >> 8));

    for (size_t offset = 0; offset < 70; offset += 3) {
        for (size_t size = 0; size + 2 * offset < BYTES; size = size * 3 + 5) {
            memset(target, 0xee, sizeof target);
            mr__copy_streamed(target + offset, source + 2 * offset, size);
            assert_memory_equal(target + offset, source + 2 * offset, size);
            assert_int_equal(0xee, target[offset + size]);
            if (offset)
                assert_int_equal(0xee, target[offset - 1]);
        }
    }
}

static void hash_tells_pieces_apart(void **state)
{
    struct mr__hash first = { 0 }, second = { 0 };
    char first_text[MR__HASH_TEXT_BYTES], second_text[MR__HASH_TEXT_BYTES];
    (void)state;

    mr__hash_add(&first, "ab", 2);
    mr__hash_add(&first, "c", 1);
    mr__hash_add(&second, "a", 1);
    mr__hash_add(&second, "bc", 2);
    mr__hash_text(&first, first_text);
    mr__hash_text(&second, second_text);

    assert_string_not_equal(first_text, second_text);
    assert_int_equal(MR__HASH_TEXT_BYTES - 1, strlen(first_text));
}

/* ---- clocks and signals ---- */

static void deadline_ends_with_the_clock(void **state)
{
    (void)state;
    const uint64_t before = mr__clock_now_ns();
    assert_true(mr__clock_deadline_ns(0) >= before);
    assert_true(mr__clock_deadline_ns(UINT64_MAX) == UINT64_MAX);
    assert_true(mr__clock_deadline_ns(UINT64_MAX - 1) == UINT64_MAX);
    const struct timespec end = mr__clock_deadline(UINT64_MAX);
    assert_true(end.tv_sec == INT64_MAX / 1000000000);
}

static void signal_set_before_the_wait_is_not_lost(void **state)
{
    struct mr__signal signal = { 0 };
    (void)state;

    assert_false(mr__signal_is_set(&signal));
    mr__signal_set(&signal);
    assert_true(mr__signal_wait(&signal, 0));
    mr__signal_reset(&signal);
    assert_false(mr__signal_is_set(&signal));
}

static void signal_wait_ends_with_its_deadline(void **state)
{
    struct mr__signal signal = { 0 };
    (void)state;

    const uint64_t deadline = mr__clock_now_ns() + 2000000;
    assert_false(mr__signal_wait(&signal, deadline));
    assert_true(mr__clock_now_ns() >= deadline);
    assert_false(mr__signal_wait(&signal, 1)); /* long past */
    mr__signal_set(&signal);
    assert_true(mr__signal_wait(&signal, 1));
}

enum { ROUNDS = 2000 };

struct pair {
    struct mr__signal there[ROUNDS], back[ROUNDS];
    int value; /* plain: the signals order it */
};

static void *answer(void *context)
{
    struct pair *pair = context;
    for (int i = 0; i < ROUNDS; i++) {
        mr__signal_wait(&pair->there[i], UINT64_MAX);
        pair->value++;
        mr__signal_set(&pair->back[i]);
    }
    return NULL;
}

static void signals_wake_and_order_two_threads(void **state)
{
    static struct pair pair;
    pthread_t thread;
    (void)state;

    assert_int_equal(0, pthread_create(&thread, NULL, answer, &pair));
    for (int i = 0; i < ROUNDS; i++) {
        pair.value++;
        mr__signal_set(&pair.there[i]);
        assert_true(mr__signal_wait(&pair.back[i], UINT64_MAX));
    }
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_int_equal(2 * ROUNDS, pair.value);
}

/* ---- numa ---- */

static void node_lists_are_read(void **state)
{
    (void)state;
    cpu_set_t set;
    assert_true(mr__numa_parse("0-3,8,10-11\n", &set));
    assert_int_equal(7, CPU_COUNT(&set));
    assert_true(CPU_ISSET(3, &set) && CPU_ISSET(8, &set) && CPU_ISSET(11, &set));
    assert_false(CPU_ISSET(9, &set));
    assert_true(mr__numa_parse("5", &set));
    assert_int_equal(1, CPU_COUNT(&set));
    const char *bad[] = { "", "\n", "a", "1-", "3-1", "0-99999999", "1,,2", "1;2", "-1" };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(mr__numa_parse(bad[i], &set));
}

static void thread_comes_back_from_a_node(void **state)
{
    (void)state;
    cpu_set_t before, after;
    assert_int_equal(0, sched_getaffinity(0, sizeof before, &before));
    const int nodes[] = { -1, 0, 1000000 };
    for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
        struct mr__numa numa;
        mr__numa_enter(nodes[i], &numa);
        mr__numa_leave(&numa);
        assert_int_equal(0, sched_getaffinity(0, sizeof after, &after));
        assert_true(CPU_EQUAL(&before, &after));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_lists_are_read),
        cmocka_unit_test(thread_comes_back_from_a_node),
        cmocka_unit_test(allocation_fails_when_the_countdown_ends),
        cmocka_unit_test(allocation_of_an_array_too_large_to_count_fails),
        cmocka_unit_test(pages_are_zero_and_aligned),
        cmocka_unit_test(streamed_copy_moves_every_byte_at_any_alignment),
        cmocka_unit_test(hash_tells_pieces_apart),
        cmocka_unit_test(deadline_ends_with_the_clock),
        cmocka_unit_test(signal_set_before_the_wait_is_not_lost),
        cmocka_unit_test(signal_wait_ends_with_its_deadline),
        cmocka_unit_test(signals_wake_and_order_two_threads),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
