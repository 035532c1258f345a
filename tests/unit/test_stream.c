/* SPDX-License-Identifier: MIT */
/* Streams, default and current streams, and the pool, over a scripted backend. */
#include "scripted_backend.h"
#include "support/unit.h"

#include "core/stream.h"

#include <pthread.h>

static mr_device *device;

static int open_device(void **state)
{
    (void)state;
    device = scripted_open(&scripted_alpha);
    return device ? 0 : -1;
}

static int close_device(void **state)
{
    (void)state;
    return mr_device_close(device) || !scripted_is_clean();
}

static mr_stream *make_stream(void)
{
    mr_stream *stream;
    assert_ok(mr_stream_create(device, NULL, &stream));
    return stream;
}

static mr_status count_up(void *context)
{
    ++*(int *)context;
    return MR_OK;
}

static mr_status fail_with_words(void *context)
{
    ++*(int *)context;
    return mr_error_set(MR_E_IO, "sensor %d is gone", 4);
}

static mr_status fail_without_words(void *context)
{
    (void)context;
    return MR_E_CALLBACK;
}

static void only_creatable_kinds_are_created(void **state)
{
    mr_stream *stream;
    (void)state;
    for (int kind = 2; kind < 5; kind++) {
        const mr_stream_options options = { .kind = (mr_stream_kind)kind };
        assert_status(MR_E_INVALID, mr_stream_create(device, &options, &stream));
        assert_null(stream);
    }
    assert_status(MR_E_INVALID, mr_stream_create(NULL, NULL, &stream));
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_CREATE), 0);
}

static void priorities_are_clamped(void **state)
{
    static const int given[] = { -9, -3, -1, 0, 5 }, kept[] = { -3, -3, -1, 0, 0 };
    (void)state;
    for (int i = 0; i < 5; i++) {
        mr_stream *stream;
        assert_ok(mr_stream_create(device, &(mr_stream_options){ .priority = given[i] }, &stream));
        assert_int_equal(mr_stream_priority(stream), kept[i]);
        mr_stream_destroy(stream);
    }
}

static void streams_have_names_and_ids_of_their_own(void **state)
{
    char name[] = "camera";
    mr_stream *first, *second = make_stream();
    (void)state;
    assert_ok(mr_stream_create(device, &(mr_stream_options){ .name = name }, &first));
    name[0] = 'X';

    assert_string_equal(mr_stream_name(first), "camera");
    assert_int_not_equal(mr_stream_id(first), mr_stream_id(second));
    assert_true(strlen(mr_stream_name(second)) > 0);
    assert_ptr_equal(mr_stream_device(first), device);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    mr_stream_destroy(NULL);
}

static void wrapping_needs_a_backend_with_native_streams(void **state)
{
    mr_stream *stream;
    (void)state;
    assert_status(MR_E_UNSUPPORTED, mr_stream_wrap(device, &stream, NULL, &stream));
    assert_null(stream);
}

static void calls_run_in_order_and_their_memory_is_reused(void **state)
{
    mr_stream *stream = make_stream();
    int count = 0;
    (void)state;
    for (int i = 0; i < 100; i++) {
        assert_ok(mr_stream_call(stream, count_up, &count));
        assert_int_equal(count, i + 1);
    }

    assert_null(stream->calls->older);
    mr_stream_destroy(stream);
}

static void many_calls_may_be_under_way(void **state)
{
    enum { COUNT = 1000 };
    mr_stream *stream = make_stream();
    int count = 0;
    (void)state;
    for (int round = 0; round < 2; round++) {
        scripted_hold(stream);
        for (int i = 0; i < COUNT; i++)
            assert_ok(mr_stream_call(stream, count_up, &count));
        scripted_let_go(stream);
        assert_int_equal(count, (round + 1) * COUNT);
    }
    assert_int_equal(stream->calls->capacity, 1024);
    mr_stream_destroy(stream);
}

static void a_failed_call_stays_and_stops_later_calls(void **state)
{
    mr_stream *stream = make_stream();
    int count = 0;
    (void)state;
    assert_ok(mr_stream_call(stream, fail_with_words, &count));
    assert_ok(mr_stream_call(stream, fail_without_words, NULL));
    assert_ok(mr_stream_call(stream, count_up, &count));

    for (int i = 0; i < 2; i++) {
        mr_error_set(MR_E_BUSY, "something else");
        assert_status(MR_E_IO, mr_stream_wait(stream));
        assert_words("sensor 4 is gone");
        assert_status(MR_E_IO, mr_stream_query(stream));
    }
    assert_int_equal(count, 1);
    mr_stream_destroy(stream);
}

static void a_failure_without_words_gets_some(void **state)
{
    mr_stream *stream = make_stream();
    (void)state;
    mr_error_set(MR_E_IO, "stale");
    assert_ok(mr_stream_call(stream, fail_without_words, NULL));
    assert_status(MR_E_CALLBACK, mr_stream_wait(stream));
    assert_words("host function");
    mr_stream_destroy(stream);
}

static void a_failure_of_the_backend_stays(void **state)
{
    mr_stream *stream = make_stream();
    (void)state;
    scripted_break(stream, MR_E_DEVICE);
    assert_status(MR_E_DEVICE, mr_stream_query(stream));
    scripted_break(stream, MR_OK);

    assert_status(MR_E_DEVICE, mr_stream_wait(stream));
    assert_words("the queue broke");
    mr_stream_destroy(stream);
}

static void a_call_that_the_backend_refuses_is_not_a_submission(void **state)
{
    mr_stream *stream = make_stream();
    int count = 0;
    (void)state;
    const uint64_t before = mr__stream_sequence(stream);
    scripted_fail_next(SCRIPTED_CALL, MR_E_NO_MEMORY);
    assert_status(MR_E_NO_MEMORY, mr_stream_call(stream, count_up, &count));

    assert_int_equal(mr__stream_sequence(stream), before);
    assert_ok(mr_stream_wait(stream));
    assert_int_equal(count, 0);
    assert_status(MR_E_INVALID, mr_stream_call(stream, NULL, NULL));
    assert_status(MR_E_INVALID, mr_stream_call(NULL, count_up, NULL));
    mr_stream_destroy(stream);
}

static void waiting_gives_up_when_its_time_is_over(void **state)
{
    mr_stream *stream = make_stream();
    int count = 0;
    (void)state;
    scripted_hold(stream);
    assert_ok(mr_stream_call(stream, count_up, &count));

    assert_status(MR_E_BUSY, mr_stream_query(stream));
    assert_status(MR_E_TIMEOUT, mr_stream_wait_for(stream, 0));
    assert_status(MR_E_TIMEOUT, mr_stream_wait_for(stream, 1000));

    scripted_let_go(stream);
    assert_ok(mr_stream_wait_for(stream, 0));
    assert_int_equal(count, 1);
    mr_stream_destroy(stream);
}

/* ---- default and current streams ---- */

static void the_legacy_stream_is_one_for_the_device(void **state)
{
    mr_stream *first, *second;
    (void)state;
    assert_ok(mr_stream_default(device, MR_STREAM_LEGACY, &first));
    assert_ok(mr_stream_default(device, MR_STREAM_LEGACY, &second));
    assert_ptr_equal(first, second);
    assert_int_equal(mr_stream_kind_of(first), MR_STREAM_LEGACY);
    mr_stream_destroy(first); /* borrowed: nothing happens */
    assert_ok(mr_stream_wait(second));
    assert_status(MR_E_INVALID, mr_stream_default(device, MR_STREAM_BLOCKING, &first));
    assert_null(first);
}

static void *get_thread_default(void *out)
{
    return (void *)(intptr_t)mr_stream_default(device, MR_STREAM_PER_THREAD, out);
}

static void each_thread_has_a_default_stream(void **state)
{
    mr_stream *mine, *again, *other = NULL;
    pthread_t thread;
    (void)state;
    assert_ok(mr_stream_default(device, MR_STREAM_PER_THREAD, &mine));
    assert_ok(mr_stream_default(device, MR_STREAM_PER_THREAD, &again));
    assert_ptr_equal(mine, again);

    const uint64_t id = mr_stream_id(mine);
    pthread_create(&thread, NULL, get_thread_default, &other);
    void *status;
    pthread_join(thread, &status);
    assert_null(status);
    assert_non_null(other);
    assert_int_equal(mr_stream_id(mine), id);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_CREATE), 2);
}

struct lasting_thread {
    pthread_barrier_t has_stream, device_is_closed;
};

static void *outlive_the_device(void *argument)
{
    struct lasting_thread *lasting = argument;
    mr_stream *stream;
    const mr_status status = mr_stream_default(device, MR_STREAM_PER_THREAD, &stream);
    pthread_barrier_wait(&lasting->has_stream);
    pthread_barrier_wait(&lasting->device_is_closed);
    return (void *)(intptr_t)status;
}

static void a_device_ends_the_default_streams_of_living_threads(void **state)
{
    struct lasting_thread lasting;
    pthread_t thread;
    void *status;
    (void)state;
    pthread_barrier_init(&lasting.has_stream, NULL, 2);
    pthread_barrier_init(&lasting.device_is_closed, NULL, 2);
    pthread_create(&thread, NULL, outlive_the_device, &lasting);
    pthread_barrier_wait(&lasting.has_stream);

    assert_ok(mr_device_close(device));
    assert_true(scripted_is_clean());
    device = scripted_open(&scripted_alpha);

    pthread_barrier_wait(&lasting.device_is_closed);
    pthread_join(thread, &status);
    assert_null(status);
    pthread_barrier_destroy(&lasting.has_stream);
    pthread_barrier_destroy(&lasting.device_is_closed);
}

static void the_current_stream_is_the_last_pushed_of_the_device(void **state)
{
    mr_device *beta = scripted_open(&scripted_beta);
    mr_stream *first = make_stream(), *second = make_stream(), *other, *current;
    (void)state;
    assert_ok(mr_stream_create(beta, NULL, &other));

    assert_ok(mr_stream_push(first));
    assert_ok(mr_stream_push(second));
    assert_ok(mr_stream_push(other));
    assert_ok(mr_stream_current(device, &current));
    assert_ptr_equal(current, second);
    assert_ok(mr_stream_current(beta, &current));
    assert_ptr_equal(current, other);

    assert_ok(mr_stream_pop(device));
    assert_ok(mr_stream_current(device, &current));
    assert_ptr_equal(current, first);
    assert_ok(mr_stream_pop(device));
    assert_ok(mr_stream_pop(beta));
    assert_status(MR_E_STATE, mr_stream_pop(beta));
    assert_status(MR_E_STATE, mr_stream_pop(device));

    assert_ok(mr_stream_current(device, &current));
    assert_int_equal(mr_stream_kind_of(current), MR_STREAM_PER_THREAD);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    mr_stream_destroy(other);
    assert_ok(mr_device_close(beta));
}

static void the_stack_grows_deep(void **state)
{
    mr_stream *stream = make_stream(), *current;
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_ok(mr_stream_push(stream));
    for (int i = 0; i < 1000; i++) {
        assert_ok(mr_stream_current(device, &current));
        assert_ptr_equal(current, stream);
        assert_ok(mr_stream_pop(device));
    }
    assert_status(MR_E_STATE, mr_stream_pop(device));
    mr_stream_destroy(stream);
}

static void *pop_elsewhere(void *unused)
{
    (void)unused;
    return (void *)(intptr_t)mr_stream_pop(device);
}

static void the_stack_is_the_threads_own(void **state)
{
    mr_stream *stream = make_stream();
    pthread_t thread;
    void *status;
    (void)state;
    assert_ok(mr_stream_push(stream));
    pthread_create(&thread, NULL, pop_elsewhere, NULL);
    pthread_join(thread, &status);
    assert_int_equal((intptr_t)status, MR_E_STATE);
    assert_ok(mr_stream_pop(device));
    mr_stream_destroy(stream);
}

/* ---- pool ---- */

static void the_pool_fills_lazily_up_to_its_limit(void **state)
{
    mr_stream_pool *pool;
    mr_stream *streams[3], *more;
    (void)state;
    assert_ok(mr_stream_pool_create(
        device, &(mr_stream_pool_options){ .limit = 3, .stream = { .name = "worker" } }, &pool));
    assert_int_equal(mr_stream_pool_size(pool), 0);

    for (uint32_t i = 0; i < 3; i++) {
        assert_ok(mr_stream_pool_acquire(pool, &streams[i]));
        assert_int_equal(mr_stream_pool_size(pool), i + 1);
        assert_string_equal(mr_stream_name(streams[i]), "worker");
    }
    assert_status(MR_E_BUSY, mr_stream_pool_acquire(pool, &more));
    assert_null(more);

    mr_stream_pool_release(pool, streams[1]);
    assert_ok(mr_stream_pool_acquire(pool, &more));
    assert_ptr_equal(more, streams[1]);
    for (int i = 0; i < 3; i++)
        mr_stream_pool_release(pool, streams[i]);
    assert_int_equal(mr_stream_pool_size(pool), 3);
    mr_stream_pool_destroy(pool);
    mr_stream_pool_destroy(NULL);
}

static void the_pool_prefers_what_exists(void **state)
{
    mr_stream_pool *pool;
    mr_stream *first, *second;
    (void)state;
    assert_ok(mr_stream_pool_create(device, NULL, &pool));
    assert_ok(mr_stream_pool_acquire(pool, &first));
    mr_stream_pool_release(pool, first);
    assert_ok(mr_stream_pool_acquire(pool, &second));
    assert_ptr_equal(first, second);
    assert_int_equal(mr_stream_pool_size(pool), 1);
    mr_stream_pool_release(pool, second);
    mr_stream_pool_destroy(pool);
}

static void the_pool_replaces_failed_streams(void **state)
{
    mr_stream_pool *pool;
    mr_stream *stream;
    int count = 0;
    (void)state;
    assert_ok(mr_stream_pool_create(device, NULL, &pool));
    assert_ok(mr_stream_pool_acquire(pool, &stream));
    const uint64_t failed_id = mr_stream_id(stream);
    assert_ok(mr_stream_call(stream, fail_with_words, &count));
    mr_stream_pool_release(pool, stream);

    assert_ok(mr_stream_pool_acquire(pool, &stream));
    assert_int_not_equal(mr_stream_id(stream), failed_id);
    assert_ok(mr_stream_wait(stream));
    assert_int_equal(mr_stream_pool_size(pool), 1);
    mr_stream_pool_release(pool, stream);
    mr_stream_pool_destroy(pool);
}

static void a_pool_that_cannot_create_keeps_its_room(void **state)
{
    mr_stream_pool *pool;
    mr_stream *stream;
    (void)state;
    assert_ok(mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = 1 }, &pool));
    scripted_fail_next(SCRIPTED_QUEUE_CREATE, MR_E_DEVICE);
    assert_status(MR_E_DEVICE, mr_stream_pool_acquire(pool, &stream));
    assert_int_equal(mr_stream_pool_size(pool), 0);
    assert_ok(mr_stream_pool_acquire(pool, &stream));
    mr_stream_pool_release(pool, stream);
    mr_stream_pool_destroy(pool);
}

static void pool_options_are_checked(void **state)
{
    mr_stream_pool *pool;
    (void)state;
    assert_status(MR_E_INVALID,
                  mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = 4097 }, &pool));
    const mr_stream_pool_options legacy = { .stream = { .kind = MR_STREAM_LEGACY } };
    assert_status(MR_E_INVALID, mr_stream_pool_create(device, &legacy, &pool));
    assert_null(pool);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, open_device, close_device)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_creatable_kinds_are_created),
        TEST(priorities_are_clamped),
        TEST(streams_have_names_and_ids_of_their_own),
        TEST(wrapping_needs_a_backend_with_native_streams),
        TEST(calls_run_in_order_and_their_memory_is_reused),
        TEST(many_calls_may_be_under_way),
        TEST(a_failed_call_stays_and_stops_later_calls),
        TEST(a_failure_without_words_gets_some),
        TEST(a_failure_of_the_backend_stays),
        TEST(a_call_that_the_backend_refuses_is_not_a_submission),
        TEST(waiting_gives_up_when_its_time_is_over),
        TEST(the_legacy_stream_is_one_for_the_device),
        TEST(each_thread_has_a_default_stream),
        TEST(a_device_ends_the_default_streams_of_living_threads),
        TEST(the_current_stream_is_the_last_pushed_of_the_device),
        TEST(the_stack_grows_deep),
        TEST(the_stack_is_the_threads_own),
        TEST(the_pool_fills_lazily_up_to_its_limit),
        TEST(the_pool_prefers_what_exists),
        TEST(the_pool_replaces_failed_streams),
        TEST(a_pool_that_cannot_create_keeps_its_room),
        TEST(pool_options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
