/* SPDX-License-Identifier: MIT */
/*
 * What the base promises of memory, clocks, hashes, copies, files, signals and conditions.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/condition.h"
#include "base/copy.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/numa.h"
#include "base/signal.h"
#include "support/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

static void array_grows_and_is_kept_when_it_cannot(void **state)
{
    (void)state;
    uint32_t *numbers = NULL;
    size_t capacity = 0;
    for (uint32_t i = 0; i < 100; i++) {
        assert_true(mr__grow_array(&numbers, sizeof *numbers, i + 1, &capacity));
        numbers[i] = i;
    }
    const uint32_t *before = numbers;
    const size_t room = capacity;
    assert_false(mr__grow_array(&numbers, sizeof *numbers, SIZE_MAX, &capacity));
    mr__alloc_fail_at(1, 1);
    assert_true(mr__grow_array(&numbers, sizeof *numbers, room, &capacity));
    assert_false(mr__grow_array(&numbers, sizeof *numbers, room + 1, &capacity));
    mr__alloc_fail_at(0, 0);

    assert_in_range(room, 100, 200);
    assert_int_equal(room, capacity);
    assert_ptr_equal(before, numbers);
    for (uint32_t i = 0; i < 100; i++)
        assert_int_equal(i, numbers[i]);
    mr__free(numbers);
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

/* ---- files ---- */

static int open_made(const void *data, size_t size_bytes)
{
    char path[] = "/tmp/millrace-file-XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    assert_int_equal(0, unlink(path));
    size_t done;
    assert_true(mr__file_write(file, data, size_bytes, &done));
    assert_int_equal(size_bytes, done);
    return file;
}

static void file_is_read_whole_and_in_part(void **state)
{
    (void)state;
    char text[16];
    size_t got;
    const int file = open_made("0123456789", 10);

    assert_true(mr__file_write_at(file, "ab", 2, 3));
    assert_true(mr__file_read_at(file, text, 4, 2, &got));
    assert_int_equal(4, got);
    assert_memory_equal("2ab5", text, 4);
    assert_true(mr__file_read_at(file, text, sizeof text, 8, &got));
    assert_int_equal(2, got);
    assert_true(mr__file_read(file, text, sizeof text, &got));
    assert_int_equal(0, got); /* its own position is the end still */
    assert_int_equal(0, lseek(file, 0, SEEK_SET));
    assert_true(mr__file_read(file, text, sizeof text, &got));
    assert_int_equal(10, got);
    assert_memory_equal("012ab56789", text, 10);
    close(file);
}

enum { PIPED_BYTES = 1 << 20 };

static void *write_pipe(void *context)
{
    const int file = *(const int *)context;
    char *bytes = mr__zalloc(PIPED_BYTES);
    const bool is_written = mr__file_write(file, bytes, PIPED_BYTES, NULL);
    close(file);
    mr__free(bytes);
    return is_written ? context : NULL;
}

static void file_read_takes_what_a_pipe_gives_in_pieces(void **state)
{
    (void)state;
    int ends[2];
    pthread_t thread;
    char *bytes = mr__zalloc(PIPED_BYTES + 1);
    assert_int_equal(0, pipe(ends));
    assert_int_equal(0, pthread_create(&thread, NULL, write_pipe, &ends[1]));

    size_t got;
    const bool is_read = mr__file_read(ends[0], bytes, PIPED_BYTES + 1, &got);
    void *is_written;
    pthread_join(thread, &is_written);

    assert_true(is_read);
    assert_non_null(is_written);
    assert_int_equal(PIPED_BYTES, got);
    close(ends[0]);
    mr__free(bytes);
}

static void file_failures_say_how_far_they_came(void **state)
{
    (void)state;
    int ends[2];
    size_t count;
    char *bytes = mr__zalloc(PIPED_BYTES);
    assert_int_equal(0, pipe2(ends, O_NONBLOCK));

    assert_false(mr__file_write(ends[1], bytes, PIPED_BYTES, &count));
    assert_int_equal(EAGAIN, errno);
    assert_in_range(count, 1, PIPED_BYTES - 1);
    size_t got;
    assert_false(mr__file_read(ends[0], bytes, PIPED_BYTES, &got));
    assert_int_equal(EAGAIN, errno);
    assert_int_equal(count, got);
    assert_false(mr__file_read_at(ends[0], bytes, 1, 0, &got));
    assert_int_equal(ESPIPE, errno);
    assert_int_equal(0, got);
    assert_false(mr__file_write_at(ends[1], bytes, 1, 0));
    assert_int_equal(ESPIPE, errno);
    close(ends[0]);
    close(ends[1]);
    mr__free(bytes);
}

static void make_file(const char *path)
{
    const int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    close(file);
}

static void folder_goes_with_what_is_in_it_but_not_behind_links(void **state)
{
    (void)state;
    char folder[] = "/tmp/millrace-folder-XXXXXX", other[] = "/tmp/millrace-folder-XXXXXX";
    char below[128], path[128], kept[128];
    assert_non_null(mkdtemp(folder));
    assert_non_null(mkdtemp(other));
    snprintf(below, sizeof below, "%s/below", folder);
    assert_int_equal(0, mkdir(below, 0700));
    snprintf(path, sizeof path, "%s/below/file", folder);
    make_file(path);
    snprintf(kept, sizeof kept, "%s/kept", other);
    make_file(kept);
    snprintf(path, sizeof path, "%s/link", folder);
    assert_int_equal(0, symlink(other, path));

    mr__folder_remove(folder);
    const bool is_gone = access(folder, F_OK) != 0, is_kept = access(kept, F_OK) == 0;
    mr__folder_remove(other);

    assert_true(is_gone);
    assert_true(is_kept);
    assert_int_not_equal(0, access(other, F_OK));
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

/* ---- conditions ---- */

enum { SLEEPERS = 6, TURNS = 2000 };

/* Tokens, and threads that take them until it is over. */
struct counter {
    pthread_mutex_t lock; /* all below */
    struct mr__condition added, taken;
    int tokens, taken_count, round_count; /* round_count: waits of those who add */
    bool is_over;
};

static void *take_tokens(void *context)
{
    struct counter *counter = context;
    pthread_mutex_lock(&counter->lock);
    while (!counter->is_over) {
        if (!counter->tokens) {
            (void)mr__condition_wait(&counter->added, &counter->lock, NULL);
            continue;
        }
        counter->tokens--;
        counter->taken_count++;
        mr__condition_notify(&counter->taken, true);
    }
    pthread_mutex_unlock(&counter->lock);
    return NULL;
}

static void start_takers(struct counter *counter, pthread_t threads[SLEEPERS])
{
    *counter = (struct counter){ .lock = PTHREAD_MUTEX_INITIALIZER };
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(0, pthread_create(&threads[i], NULL, take_tokens, counter));
}

static void end_takers(struct counter *counter, const pthread_t threads[SLEEPERS])
{
    pthread_mutex_lock(&counter->lock);
    counter->is_over = true;
    mr__condition_notify(&counter->added, true);
    pthread_mutex_unlock(&counter->lock);
    for (int i = 0; i < SLEEPERS; i++)
        assert_int_equal(0, pthread_join(threads[i], NULL));
    assert_int_equal(0, counter->added.sleeper_count);
    assert_int_equal(0, counter->taken.sleeper_count);
}

static void await_sleepers(struct counter *counter)
{
    bool are_all = false;
    while (!are_all) {
        pthread_mutex_lock(&counter->lock);
        are_all = counter->added.sleeper_count == SLEEPERS;
        pthread_mutex_unlock(&counter->lock);
        sched_yield();
    }
}

static void add_tokens(struct counter *counter, int count, bool is_for_all)
{
    pthread_mutex_lock(&counter->lock);
    const int end = counter->taken_count + counter->tokens + count;
    counter->tokens += count;
    mr__condition_notify(&counter->added, is_for_all);
    while (counter->taken_count < end)
        (void)mr__condition_wait(&counter->taken, &counter->lock, NULL);
    pthread_mutex_unlock(&counter->lock);
}

static void condition_wakes_one_or_all(void **state)
{
    struct counter counter;
    pthread_t threads[SLEEPERS];
    (void)state;
    start_takers(&counter, threads);
    for (int i = 0; i < 20; i++) {
        await_sleepers(&counter);
        add_tokens(&counter, i % 2 ? SLEEPERS : 1, i % 2);
    }
    end_takers(&counter, threads);
    assert_int_equal(10 + 10 * SLEEPERS, counter.taken_count);
}

static void condition_wait_ends_with_its_deadline(void **state)
{
    struct mr__condition condition = { 0 };
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    (void)state;
    pthread_mutex_lock(&lock);
    assert_false(mr__condition_wait(&condition, &lock, &(struct timespec){ 0 }));
    const uint64_t start_ns = mr__clock_now_ns();
    const struct timespec deadline = mr__clock_deadline(2000000);
    assert_false(mr__condition_wait(&condition, &lock, &deadline));
    assert_true(mr__clock_now_ns() - start_ns >= 2000000);
    assert_int_equal(EBUSY, pthread_mutex_trylock(&lock));
    pthread_mutex_unlock(&lock);
    assert_int_equal(0, condition.sleeper_count);
}

static void *add_by_turns(void *context)
{
    struct counter *counter = context;
    for (int i = 0; i < TURNS; i++)
        add_tokens(counter, 1, false);
    pthread_mutex_lock(&counter->lock);
    counter->round_count += TURNS;
    mr__condition_notify(&counter->taken, true);
    pthread_mutex_unlock(&counter->lock);
    return NULL;
}

static void be_held_up(int number)
{
    (void)number;
    sched_yield();
}

/* Each token is added when the last has been taken, so one wake-up that is lost stops all. Meanwhile
 * sleepers are held up wherever they are: this is what glibc's conditions do not stand. */
static void condition_loses_no_wake_up_of_many_sleepers(void **state)
{
    enum { ADDERS = 2 };
    struct counter counter;
    pthread_t threads[SLEEPERS], adders[ADDERS];
    const struct sigaction hold_up = { .sa_handler = be_held_up };
    struct sigaction before;
    (void)state;
    assert_int_equal(0, sigaction(SIGUSR1, &hold_up, &before));
    start_takers(&counter, threads);
    for (int i = 0; i < ADDERS; i++)
        assert_int_equal(0, pthread_create(&adders[i], NULL, add_by_turns, &counter));

    bool is_over = false;
    for (int i = 0; !is_over; i++) {
        assert_int_equal(0, pthread_kill(threads[i % SLEEPERS], SIGUSR1));
        sched_yield();
        pthread_mutex_lock(&counter.lock);
        is_over = counter.round_count == ADDERS * TURNS;
        pthread_mutex_unlock(&counter.lock);
    }
    for (int i = 0; i < ADDERS; i++)
        assert_int_equal(0, pthread_join(adders[i], NULL));
    end_takers(&counter, threads);
    assert_int_equal(0, sigaction(SIGUSR1, &before, NULL));
    assert_int_equal(ADDERS * TURNS, counter.taken_count);
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
        cmocka_unit_test(array_grows_and_is_kept_when_it_cannot),
        cmocka_unit_test(pages_are_zero_and_aligned),
        cmocka_unit_test(streamed_copy_moves_every_byte_at_any_alignment),
        cmocka_unit_test(hash_tells_pieces_apart),
        cmocka_unit_test(file_is_read_whole_and_in_part),
        cmocka_unit_test(file_read_takes_what_a_pipe_gives_in_pieces),
        cmocka_unit_test(file_failures_say_how_far_they_came),
        cmocka_unit_test(folder_goes_with_what_is_in_it_but_not_behind_links),
        cmocka_unit_test(deadline_ends_with_the_clock),
        cmocka_unit_test(signal_set_before_the_wait_is_not_lost),
        cmocka_unit_test(signal_wait_ends_with_its_deadline),
        cmocka_unit_test(signals_wake_and_order_two_threads),
        cmocka_unit_test(condition_wakes_one_or_all),
        cmocka_unit_test(condition_wait_ends_with_its_deadline),
        cmocka_unit_test(condition_loses_no_wake_up_of_many_sleepers),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
