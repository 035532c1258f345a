/* SPDX-License-Identifier: MIT */
/*
 * Streams: order, the rules of the kinds, waiting, priorities, default and current streams, the pool.
 *
 * That something waits is shown without sleeping: what must not run yet is held by a latch, and other
 * streams run many host functions to their end in the meantime.
 */
#include "support/latch.h"
#include "support/suite.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

static mr_stream *make_stream(mr_device *device, mr_stream_kind kind)
{
    mr_stream *stream;
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .kind = kind }, &stream));
    return stream;
}

static mr_stream *default_of(mr_device *device, mr_stream_kind kind)
{
    mr_stream *stream;
    CHECK_OK(mr_stream_default(device, kind, &stream));
    return stream;
}

static mr_status count_up(void *context)
{
    atomic_fetch_add((_Atomic int *)context, 1);
    return MR_OK;
}

/* Gives anything that wrongly could run the time in which sixty host functions run. */
static void run_meanwhile(mr_device *device)
{
    enum { ROUNDS = 60 };
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    _Atomic int count = 0;
    for (int i = 0; i < ROUNDS; i++) {
        CHECK_OK(mr_stream_call(stream, count_up, &count));
        CHECK_OK(mr_stream_wait(stream));
    }
    CHECK_EQ(ROUNDS, atomic_load(&count));
    mr_stream_destroy(stream);
}

/* ---- order ---- */

static void host_functions_run_in_submission_order(mr_device *device)
{
    enum { COUNT = 2000 };
    static struct log log = LOG_INITIALIZER;
    static struct log_line lines[COUNT];
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    for (int i = 0; i < COUNT; i++) {
        lines[i] = (struct log_line){ &log, i };
        CHECK_OK(mr_stream_call(stream, log_run, &lines[i]));
    }
    CHECK_OK(mr_stream_wait(stream));
    CHECK_EQ(COUNT, log.count);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(i, log.entries[i]);
    mr_stream_destroy(stream);
}

static void streams_do_not_wait_for_each_other(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_stream *stopped = make_stream(device, MR_STREAM_NON_BLOCKING);
    latch_stop(&latch, stopped);
    run_meanwhile(device);
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(stopped));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(stopped));
    mr_stream_destroy(stopped);
    latch_fini(&latch);
}

static void destroying_waits_for_the_work(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    for (int i = 0; i < 500; i++)
        CHECK_OK(mr_stream_call(stream, count_up, &count));
    mr_stream_destroy(stream);
    CHECK_EQ(500, atomic_load(&count));
}

/* ---- kinds ---- */

/* Submits a line to `first`, which is stopped, then one to `second`; answers what ran first. */
static int run_pair(mr_device *device, mr_stream *first, mr_stream *second, int *ran_meanwhile)
{
    struct log log = LOG_INITIALIZER;
    struct log_line lines[] = { { &log, 1 }, { &log, 2 } };
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, first);
    CHECK_OK(mr_stream_call(first, log_run, &lines[0]));
    CHECK_OK(mr_stream_call(second, log_run, &lines[1]));
    run_meanwhile(device);
    *ran_meanwhile = log_count(&log);
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(first));
    CHECK_OK(mr_stream_wait(second));
    CHECK_EQ(2, log.count);
    latch_fini(&latch);
    return log.entries[0];
}

static void check_ordered(mr_device *device, mr_stream *first, mr_stream *second)
{
    int ran_meanwhile;
    CHECK_EQ(1, run_pair(device, first, second, &ran_meanwhile));
    CHECK_EQ(0, ran_meanwhile);
}

/* The second must run while the first is stopped: waiting for it alone proves that. */
static void check_unordered(mr_device *device, mr_stream *first, mr_stream *second)
{
    _Atomic int count = 0;
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, first);
    CHECK_OK(mr_stream_call(first, count_up, &count));
    CHECK_OK(mr_stream_call(second, count_up, &count));
    CHECK_OK(mr_stream_wait(second));
    CHECK_EQ(1, atomic_load(&count));
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(first));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(first));
    latch_fini(&latch);
    (void)device;
}

static void legacy_work_waits_for_earlier_blocking_work(mr_device *device)
{
    mr_stream *blocking = make_stream(device, MR_STREAM_BLOCKING);
    check_ordered(device, blocking, default_of(device, MR_STREAM_LEGACY));
    mr_stream_destroy(blocking);
}

static void blocking_work_waits_for_earlier_legacy_work(mr_device *device)
{
    mr_stream *blocking = make_stream(device, MR_STREAM_BLOCKING);
    check_ordered(device, default_of(device, MR_STREAM_LEGACY), blocking);
    mr_stream_destroy(blocking);
}

static void per_thread_streams_are_ordered_with_the_legacy_stream(mr_device *device)
{
    mr_stream *legacy = default_of(device, MR_STREAM_LEGACY);
    mr_stream *mine = default_of(device, MR_STREAM_PER_THREAD);
    check_ordered(device, mine, legacy);
    check_ordered(device, legacy, mine);
}

static void blocking_streams_are_ordered_through_the_legacy_stream(mr_device *device)
{
    struct log log = LOG_INITIALIZER;
    struct log_line lines[] = { { &log, 1 }, { &log, 2 }, { &log, 3 } };
    mr_stream *first = make_stream(device, MR_STREAM_BLOCKING);
    mr_stream *last = make_stream(device, MR_STREAM_BLOCKING);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, first);
    CHECK_OK(mr_stream_call(first, log_run, &lines[0]));
    CHECK_OK(mr_stream_call(default_of(device, MR_STREAM_LEGACY), log_run, &lines[1]));
    CHECK_OK(mr_stream_call(last, log_run, &lines[2]));
    run_meanwhile(device);
    CHECK_EQ(0, log_count(&log));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(last));
    CHECK_EQ(3, log_count(&log));
    for (int i = 0; i < 3; i++)
        CHECK_EQ(i + 1, log.entries[i]);
    mr_stream_destroy(first);
    mr_stream_destroy(last);
    latch_fini(&latch);
}

static void non_blocking_streams_ignore_the_legacy_stream(mr_device *device)
{
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    mr_stream *legacy = default_of(device, MR_STREAM_LEGACY);
    check_unordered(device, legacy, stream);
    check_unordered(device, stream, legacy);
    mr_stream_destroy(stream);
}

static void blocking_streams_alone_are_unordered(mr_device *device)
{
    mr_stream *first = make_stream(device, MR_STREAM_BLOCKING);
    mr_stream *second = make_stream(device, MR_STREAM_BLOCKING);
    check_unordered(device, first, second);
    check_unordered(device, default_of(device, MR_STREAM_PER_THREAD), second);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
}

static void a_record_on_the_legacy_stream_covers_blocking_work(mr_device *device)
{
    mr_stream *blocking = make_stream(device, MR_STREAM_BLOCKING);
    mr_stream *legacy = default_of(device, MR_STREAM_LEGACY);
    mr_event *event;
    struct latch latch;
    CHECK_OK(mr_event_create(device, NULL, &event));
    CHECK_OK(mr_event_record(event, legacy));
    CHECK_OK(mr_event_wait(event));
    latch_init(&latch);
    latch_stop(&latch, blocking);
    CHECK_OK(mr_event_record(event, legacy));
    run_meanwhile(device);
    CHECK_STATUS(MR_E_BUSY, mr_event_query(event));
    latch_open(&latch);
    CHECK_OK(mr_event_wait(event));
    mr_event_destroy(event);
    mr_stream_destroy(blocking);
    latch_fini(&latch);
}

struct thread_case {
    mr_device *device;
    mr_stream *others;
    _Atomic int count;
};

static void *use_own_default(void *context)
{
    struct thread_case *test = context;
    mr_stream *mine = default_of(test->device, MR_STREAM_PER_THREAD);
    CHECK(mine != test->others);
    CHECK_OK(mr_stream_call(mine, count_up, &test->count));
    CHECK_OK(mr_stream_wait(mine));
    CHECK_EQ(1, atomic_load(&test->count));
    CHECK_OK(mr_stream_call(mine, count_up, &test->count)); /* still there when the thread ends */
    return NULL;
}

static void threads_have_default_streams_of_their_own(mr_device *device)
{
    struct thread_case test = { .device = device };
    struct latch latch;
    pthread_t thread;
    latch_init(&latch);
    test.others = default_of(device, MR_STREAM_PER_THREAD);
    latch_stop(&latch, test.others);

    CHECK_EQ(0, pthread_create(&thread, NULL, use_own_default, &test));
    CHECK_EQ(0, pthread_join(thread, NULL));
    CHECK_EQ(2, atomic_load(&test.count));
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(test.others));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(test.others));
    latch_fini(&latch);
}

static void *wait_for_others_stream(void *stream)
{
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(stream));
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(stream, 100000));
    return NULL;
}

static void a_default_stream_can_be_waited_for_by_other_threads(mr_device *device)
{
    mr_stream *mine = default_of(device, MR_STREAM_PER_THREAD);
    struct latch latch;
    pthread_t thread;
    latch_init(&latch);
    latch_stop(&latch, mine);
    CHECK_EQ(0, pthread_create(&thread, NULL, wait_for_others_stream, mine));
    CHECK_EQ(0, pthread_join(thread, NULL));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(mine));
    latch_fini(&latch);
}

/* ---- waiting ---- */

static void waits_and_queries_tell_work_from_rest(mr_device *device)
{
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    struct latch latch;
    CHECK_OK(mr_stream_query(stream));
    CHECK_OK(mr_stream_wait(stream));
    CHECK_OK(mr_stream_wait_for(stream, 0));

    latch_init(&latch);
    latch_stop(&latch, stream);
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(stream));
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(stream, 0));
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(stream, 2000000));
    CHECK_SAYS("2000000", mr_last_error());

    latch_open(&latch);
    CHECK_OK(mr_stream_wait_for(stream, MR_FOREVER));
    CHECK_OK(mr_stream_query(stream));
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

static void *wait_in_thread(void *stream)
{
    CHECK_OK(mr_stream_wait(stream));
    return NULL;
}

static void many_threads_may_wait_for_one_stream(mr_device *device)
{
    enum { COUNT = 6 };
    mr_stream *stream = make_stream(device, MR_STREAM_NON_BLOCKING);
    pthread_t threads[COUNT];
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, stream);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(0, pthread_create(&threads[i], NULL, wait_in_thread, stream));
    run_meanwhile(device);
    latch_open(&latch);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

static void synchronizing_the_device_waits_for_all_streams(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *first = make_stream(device, MR_STREAM_NON_BLOCKING);
    mr_stream *second = make_stream(device, MR_STREAM_BLOCKING);
    for (int i = 0; i < 200; i++) {
        CHECK_OK(mr_stream_call(first, count_up, &count));
        CHECK_OK(mr_stream_call(second, count_up, &count));
    }
    CHECK_OK(mr_device_synchronize(device));
    CHECK_EQ(400, atomic_load(&count));
    CHECK_OK(mr_stream_query(first));
    mr_stream_destroy(first);
    mr_stream_destroy(second);
}

/* ---- properties, current streams, pool ---- */

static void priorities_are_clamped_to_the_devices_range(mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    CHECK(properties.priority_highest <= properties.priority_lowest);
    const int given[] = { -1000, properties.priority_highest, 0, 1000 };
    const int kept[] = { properties.priority_highest, properties.priority_highest, 0,
                         properties.priority_lowest };
    for (int i = 0; i < 4; i++) {
        _Atomic int count = 0;
        mr_stream *stream;
        CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .priority = given[i] }, &stream));
        CHECK_EQ(kept[i], mr_stream_priority(stream));
        CHECK_OK(mr_stream_call(stream, count_up, &count));
        CHECK_OK(mr_stream_wait(stream));
        CHECK_EQ(1, atomic_load(&count));
        mr_stream_destroy(stream);
    }
}

static void a_native_stream_can_be_wrapped_where_there_is_one(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *own = make_stream(device, MR_STREAM_NON_BLOCKING), *wrapper;
    void *native = mr_stream_native(own);
    if (!native) {
        CHECK_STATUS(MR_E_UNSUPPORTED, mr_stream_wrap(device, &count, NULL, &wrapper));
        CHECK(!wrapper);
    } else {
        CHECK_OK(mr_stream_wrap(device, native, NULL, &wrapper));
        CHECK(mr_stream_native(wrapper) == native);
        CHECK_OK(mr_stream_call(own, count_up, &count));
        CHECK_OK(mr_stream_call(wrapper, count_up, &count));
        CHECK_OK(mr_stream_wait(wrapper));
        CHECK_EQ(2, atomic_load(&count));
        mr_stream_destroy(wrapper);
        CHECK_OK(mr_stream_call(own, count_up, &count));
    }
    CHECK_OK(mr_stream_wait(own));
    mr_stream_destroy(own);
}

static void pushed_streams_are_current_until_popped(mr_device *device)
{
    mr_stream *first = make_stream(device, MR_STREAM_NON_BLOCKING), *current;
    mr_stream *second = make_stream(device, MR_STREAM_BLOCKING);
    CHECK_OK(mr_stream_current(device, &current));
    CHECK_EQ(MR_STREAM_PER_THREAD, mr_stream_kind_of(current));
    CHECK_OK(mr_stream_push(first));
    CHECK_OK(mr_stream_push(second));
    CHECK_OK(mr_stream_current(device, &current));
    CHECK(current == second);
    CHECK_OK(mr_stream_pop(device));
    CHECK_OK(mr_stream_current(device, &current));
    CHECK(current == first);
    CHECK_OK(mr_stream_pop(device));
    CHECK_STATUS(MR_E_STATE, mr_stream_pop(device));
    mr_stream_destroy(first);
    mr_stream_destroy(second);
}

enum { BORROWINGS = 200 };

struct pool_case {
    mr_stream_pool *pool;
    _Atomic int count;
};

static void *borrow_and_return(void *context)
{
    struct pool_case *test = context;
    for (int i = 0; i < BORROWINGS; i++) {
        mr_stream *stream;
        mr_status status;
        while ((status = mr_stream_pool_acquire(test->pool, &stream)) == MR_E_BUSY)
            sched_yield(); /* the others have all there are */
        CHECK_OK(status);
        CHECK_OK(mr_stream_call(stream, count_up, &test->count));
        CHECK_OK(mr_stream_wait(stream));
        mr_stream_pool_release(test->pool, stream);
    }
    return NULL;
}

static void a_pool_serves_many_threads(mr_device *device)
{
    enum { THREADS = 4 };
    struct pool_case test = { NULL, 0 };
    pthread_t threads[THREADS];
    CHECK_OK(mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = 3 }, &test.pool));
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_create(&threads[i], NULL, borrow_and_return, &test));
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
    CHECK(mr_stream_pool_size(test.pool) <= 3);
    CHECK_EQ(THREADS * BORROWINGS, atomic_load(&test.count));
    mr_stream_pool_destroy(test.pool);
}

static void work_of_the_next_holder_comes_after(mr_device *device)
{
    struct log log = LOG_INITIALIZER;
    struct log_line lines[] = { { &log, 1 }, { &log, 2 } };
    mr_stream_pool *pool;
    mr_stream *stream;
    struct latch latch;
    CHECK_OK(mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = 1 }, &pool));
    CHECK_OK(mr_stream_pool_acquire(pool, &stream));
    latch_init(&latch);
    latch_stop(&latch, stream);
    CHECK_OK(mr_stream_call(stream, log_run, &lines[0]));
    mr_stream_pool_release(pool, stream);
    CHECK_OK(mr_stream_pool_acquire(pool, &stream));
    CHECK_OK(mr_stream_call(stream, log_run, &lines[1]));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(stream));
    CHECK_EQ(1, log.entries[0]);
    CHECK_EQ(2, log.entries[1]);
    mr_stream_pool_release(pool, stream);
    mr_stream_pool_destroy(pool);
    latch_fini(&latch);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(host_functions_run_in_submission_order),
        SUITE_TEST(streams_do_not_wait_for_each_other),
        SUITE_TEST(destroying_waits_for_the_work),
        SUITE_TEST(legacy_work_waits_for_earlier_blocking_work),
        SUITE_TEST(blocking_work_waits_for_earlier_legacy_work),
        SUITE_TEST(per_thread_streams_are_ordered_with_the_legacy_stream),
        SUITE_TEST(blocking_streams_are_ordered_through_the_legacy_stream),
        SUITE_TEST(non_blocking_streams_ignore_the_legacy_stream),
        SUITE_TEST(blocking_streams_alone_are_unordered),
        SUITE_TEST(a_record_on_the_legacy_stream_covers_blocking_work),
        SUITE_TEST(threads_have_default_streams_of_their_own),
        SUITE_TEST(a_default_stream_can_be_waited_for_by_other_threads),
        SUITE_TEST(waits_and_queries_tell_work_from_rest),
        SUITE_TEST(many_threads_may_wait_for_one_stream),
        SUITE_TEST(synchronizing_the_device_waits_for_all_streams),
        SUITE_TEST(priorities_are_clamped_to_the_devices_range),
        SUITE_TEST(a_native_stream_can_be_wrapped_where_there_is_one),
        SUITE_TEST(pushed_streams_are_current_until_popped),
        SUITE_TEST(a_pool_serves_many_threads),
        SUITE_TEST(work_of_the_next_holder_comes_after),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
