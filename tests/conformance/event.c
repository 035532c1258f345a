/* SPDX-License-Identifier: MIT */
/* Events: snapshots, waits by streams and hosts, timing, what is left out, and failures. */
#include "support/latch.h"
#include "support/make.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <pthread.h>
#include <stdatomic.h>

static mr_event *make_event(mr_device *device, bool has_timing)
{
    mr_event *event;
    CHECK_OK(mr_event_create(device, &(mr_event_options){ .has_timing = has_timing }, &event));
    return event;
}

/* ---- firing ---- */

static void an_event_never_recorded_counts_as_fired(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_event *event = make_event(device, false);
    CHECK_OK(mr_event_query(event));
    CHECK_OK(mr_event_wait(event));
    CHECK_OK(mr_event_wait_for(event, 0));
    CHECK_OK(mr_stream_wait_event(stream, event));
    CHECK_OK(mr_stream_wait(stream));
    mr_event_destroy(event);
    mr_event_destroy(NULL);
    mr_stream_destroy(stream);
}

static void an_event_fires_after_the_work_before_it(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *stream = make_stream(device);
    mr_event *event = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, stream);
    CHECK_OK(mr_stream_call(stream, count_up, &count));
    CHECK_OK(mr_event_record(event, stream));
    CHECK_STATUS(MR_E_BUSY, mr_event_query(event));
    CHECK_STATUS(MR_E_TIMEOUT, mr_event_wait_for(event, 0));
    CHECK_STATUS(MR_E_TIMEOUT, mr_event_wait_for(event, 1000000));

    latch_open(&latch);
    CHECK_OK(mr_event_wait(event));
    CHECK_EQ(1, atomic_load(&count));
    CHECK_OK(mr_event_query(event));
    mr_event_destroy(event);
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

static void an_event_does_not_wait_for_work_after_it(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_event *event = make_event(device, false);
    _Atomic int count = 0;
    struct latch latch;
    latch_init(&latch);
    CHECK_OK(mr_stream_call(stream, count_up, &count));
    CHECK_OK(mr_event_record(event, stream));
    latch_stop(&latch, stream);
    CHECK_OK(mr_event_wait(event));
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(stream));
    latch_open(&latch);
    mr_event_destroy(event);
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

/* ---- waits by streams ---- */

static void a_stream_waits_for_an_event_of_another(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *first = make_stream(device), *second = make_stream(device);
    mr_stream *third = make_stream(device);
    mr_event *event = make_event(device, false), *next = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, first);
    CHECK_OK(mr_event_record(event, first));
    CHECK_OK(mr_stream_wait_event(second, event));
    CHECK_OK(mr_event_record(next, second)); /* a chain over three streams */
    CHECK_OK(mr_stream_wait_event(third, next));
    CHECK_OK(mr_stream_call(third, count_up, &count));
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(third, 2000000));
    CHECK_EQ(0, atomic_load(&count));

    latch_open(&latch);
    CHECK_OK(mr_stream_wait(third));
    CHECK_EQ(1, atomic_load(&count));
    mr_event_destroy(event);
    mr_event_destroy(next);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    mr_stream_destroy(third);
    latch_fini(&latch);
}

/* Nothing but a wait lies between the two records. */
static void a_record_behind_a_wait_covers_the_wait(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *first = make_stream(device), *second = make_stream(device);
    mr_event *event = make_event(device, false), *next = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    CHECK_OK(mr_stream_call(second, count_up, &count));
    CHECK_OK(mr_event_record(next, second));
    latch_stop(&latch, first);
    CHECK_OK(mr_event_record(event, first));
    CHECK_OK(mr_stream_wait_event(second, event));
    CHECK_OK(mr_event_record(next, second));
    CHECK_STATUS(MR_E_TIMEOUT, mr_event_wait_for(next, 2000000));
    latch_open(&latch);
    CHECK_OK(mr_event_wait(next));
    mr_event_destroy(event);
    mr_event_destroy(next);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    latch_fini(&latch);
}

static void a_second_record_does_not_disturb_earlier_waits(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *open = make_stream(device), *stopped = make_stream(device);
    mr_stream *waiting = make_stream(device);
    mr_event *event = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, stopped);
    CHECK_OK(mr_stream_call(open, count_up, &count));
    CHECK_OK(mr_event_record(event, open));
    CHECK_OK(mr_stream_wait_event(waiting, event));
    CHECK_OK(mr_event_wait(event)); /* seen to have fired, and then recorded anew */
    CHECK_OK(mr_event_record(event, stopped));

    CHECK_OK(mr_stream_call(waiting, count_up, &count));
    CHECK_OK(mr_stream_wait(waiting)); /* for the first record alone */
    CHECK_EQ(2, atomic_load(&count));
    CHECK_STATUS(MR_E_BUSY, mr_event_query(event));
    latch_open(&latch);
    CHECK_OK(mr_event_wait(event));
    mr_event_destroy(event);
    mr_stream_destroy(open);
    mr_stream_destroy(stopped);
    mr_stream_destroy(waiting);
    latch_fini(&latch);
}

static void events_and_streams_may_go_while_waited_for(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *waiting = make_stream(device), *stopped = make_stream(device);
    mr_event *event = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, stopped);
    CHECK_OK(mr_stream_call(stopped, count_up, &count));
    CHECK_OK(mr_event_record(event, stopped));
    CHECK_OK(mr_stream_wait_event(waiting, event));
    CHECK_OK(mr_stream_call(waiting, count_up, &count));
    mr_event_destroy(event);
    latch_open(&latch);
    mr_stream_destroy(stopped);
    CHECK_OK(mr_stream_wait(waiting));
    CHECK_EQ(2, atomic_load(&count));
    mr_stream_destroy(waiting);
    latch_fini(&latch);
}

static void an_event_outlives_its_stream(mr_device *device)
{
    _Atomic int count = 0;
    mr_event *event = make_event(device, false);
    mr_stream *brief = make_stream(device), *stream = make_stream(device);
    CHECK_OK(mr_stream_call(brief, count_up, &count));
    CHECK_OK(mr_event_record(event, brief));
    mr_stream_destroy(brief);
    CHECK_OK(mr_stream_wait_event(stream, event));
    CHECK_OK(mr_event_wait(event));
    CHECK_OK(mr_stream_wait(stream));
    mr_event_destroy(event);
    mr_stream_destroy(stream);
}

/* ---- what is left out ---- */

struct tally {
    _Atomic int counts[MR_OPERATION_KIND_COUNT];
};

static void tally(void *context, const mr_operation *operation)
{
    struct tally *counts = context;
    atomic_fetch_add(&counts->counts[operation->kind], 1);
}

static void implied_waits_are_skipped(mr_device *device)
{
    struct tally counts = { { 0 } };
    mr_stream *first = make_stream(device), *second = make_stream(device);
    mr_event *early = make_event(device, false), *late = make_event(device, false);
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, first);
    CHECK_OK(mr_event_record(early, first));
    _Atomic int count = 0;
    CHECK_OK(mr_stream_call(first, count_up, &count));
    CHECK_OK(mr_event_record(late, first));

    mr_device_observe(device, tally, &counts);
    CHECK_OK(mr_stream_wait_event(first, late));   /* its own */
    CHECK_OK(mr_stream_wait_event(second, late));  /* needed */
    CHECK_OK(mr_stream_wait_event(second, late));  /* again */
    CHECK_OK(mr_stream_wait_event(second, early)); /* earlier */
    mr_device_observe(device, NULL, NULL);
    CHECK_EQ(1, atomic_load(&counts.counts[MR_OPERATION_WAIT]));
    CHECK_EQ(3, atomic_load(&counts.counts[MR_OPERATION_WAIT_SKIPPED]));

    latch_open(&latch);
    CHECK_OK(mr_stream_wait(second));
    mr_event_destroy(early);
    mr_event_destroy(late);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    latch_fini(&latch);
}

/* ---- timing ---- */

static void elapsed_time_goes_with_the_order(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_event *start = make_event(device, true), *end = make_event(device, true);
    int64_t forth_ns, back_ns;
    CHECK_OK(mr_event_record(start, stream));
    _Atomic int count = 0;
    for (int i = 0; i < 100; i++)
        CHECK_OK(mr_stream_call(stream, count_up, &count));
    CHECK_OK(mr_event_record(end, stream));
    CHECK_OK(mr_event_wait(end));
    CHECK_OK(mr_event_elapsed(start, end, &forth_ns));
    CHECK_OK(mr_event_elapsed(end, start, &back_ns));
    CHECK(forth_ns > 0 && forth_ns < INT64_C(20000000000));
    CHECK(back_ns < 0 && forth_ns + back_ns < 2000 && forth_ns + back_ns > -2000);
    mr_event_destroy(start);
    mr_event_destroy(end);
    mr_stream_destroy(stream);
}

static void elapsed_says_what_is_missing(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_event *start = make_event(device, true), *end = make_event(device, true);
    mr_event *plain = make_event(device, false);
    int64_t elapsed_ns = 7;
    struct latch latch;
    latch_init(&latch);
    CHECK_STATUS(MR_E_STATE, mr_event_elapsed(start, end, &elapsed_ns));
    CHECK_OK(mr_event_record(start, stream));
    CHECK_OK(mr_event_record(plain, stream));
    CHECK_STATUS(MR_E_INVALID, mr_event_elapsed(start, plain, &elapsed_ns));
    CHECK_STATUS(MR_E_STATE, mr_event_elapsed(start, end, &elapsed_ns));
    latch_stop(&latch, stream);
    CHECK_OK(mr_event_record(end, stream));
    CHECK_STATUS(MR_E_BUSY, mr_event_elapsed(start, end, &elapsed_ns));
    CHECK_EQ(0, elapsed_ns);
    latch_open(&latch);
    CHECK_OK(mr_event_wait(end));
    CHECK_OK(mr_event_elapsed(start, end, &elapsed_ns));
    mr_event_destroy(start);
    mr_event_destroy(end);
    mr_event_destroy(plain);
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

/* ---- failures ---- */

static void a_failure_stays_on_its_stream_and_the_events_after_it(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *failing = make_stream(device), *other = make_stream(device);
    mr_event *before = make_event(device, false), *after = make_event(device, false);
    CHECK_OK(mr_stream_call(failing, count_up, &count));
    CHECK_OK(mr_event_record(before, failing));
    CHECK_OK(mr_stream_call(failing, fail_with_words, NULL));
    CHECK_OK(mr_event_record(after, failing));
    CHECK_OK(mr_stream_wait_event(other, after));
    CHECK_OK(mr_stream_call(other, count_up, &count));

    CHECK_OK(mr_stream_wait(other)); /* released, and not failed */
    CHECK_EQ(2, atomic_load(&count));
    CHECK_OK(mr_event_wait(before));
    CHECK_STATUS(MR_E_IO, mr_event_wait(after));
    CHECK_SAYS("sensor 4 is gone", mr_last_error());
    CHECK_STATUS(MR_E_IO, mr_event_query(after));
    CHECK_STATUS(MR_E_IO, mr_stream_wait(failing));
    CHECK_STATUS(MR_E_IO, mr_stream_query(failing));
    mr_event_destroy(before);
    mr_stream_destroy(failing);
    CHECK_STATUS(MR_E_IO, mr_event_query(after));
    mr_event_destroy(after);
    mr_stream_destroy(other);
}

static void a_failed_stream_skips_later_functions_and_keeps_the_first_cause(mr_device *device)
{
    _Atomic int count = 0;
    mr_stream *stream = make_stream(device);
    CHECK_OK(mr_stream_call(stream, fail_with_words, NULL));
    for (int i = 0; i < 10; i++)
        CHECK_OK(mr_stream_call(stream, count_up, &count));
    for (int i = 0; i < 3; i++) {
        mr_error_set(MR_E_BUSY, "other words");
        CHECK_STATUS(MR_E_IO, mr_stream_wait(stream));
        CHECK_SAYS("sensor 4 is gone", mr_last_error());
    }
    CHECK_EQ(0, atomic_load(&count));
    mr_stream_destroy(stream);
}

/* ---- threads ---- */

struct shared_event {
    mr_event *event;
    mr_device *device;
    _Atomic int count;
};

static void *wait_by_host_and_stream(void *context)
{
    struct shared_event *shared = context;
    mr_stream *stream = make_stream(shared->device);
    CHECK_OK(mr_stream_wait_event(stream, shared->event));
    CHECK_OK(mr_stream_call(stream, count_up, &shared->count));
    CHECK_OK(mr_event_wait(shared->event));
    CHECK_OK(mr_stream_wait(stream));
    mr_stream_destroy(stream);
    return NULL;
}

static void many_threads_may_wait_for_one_event(mr_device *device)
{
    enum { COUNT = 5 };
    struct shared_event shared = { make_event(device, false), device, 0 };
    mr_stream *stream = make_stream(device);
    pthread_t threads[COUNT];
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, stream);
    CHECK_OK(mr_event_record(shared.event, stream));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(0, pthread_create(&threads[i], NULL, wait_by_host_and_stream, &shared));
    CHECK_STATUS(MR_E_TIMEOUT, mr_event_wait_for(shared.event, 3000000));
    CHECK_EQ(0, atomic_load(&shared.count));
    latch_open(&latch);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
    CHECK_EQ(COUNT, atomic_load(&shared.count));
    mr_event_destroy(shared.event);
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(an_event_never_recorded_counts_as_fired),
        SUITE_TEST(an_event_fires_after_the_work_before_it),
        SUITE_TEST(an_event_does_not_wait_for_work_after_it),
        SUITE_TEST(a_stream_waits_for_an_event_of_another),
        SUITE_TEST(a_record_behind_a_wait_covers_the_wait),
        SUITE_TEST(a_second_record_does_not_disturb_earlier_waits),
        SUITE_TEST(events_and_streams_may_go_while_waited_for),
        SUITE_TEST(an_event_outlives_its_stream),
        SUITE_TEST(implied_waits_are_skipped),
        SUITE_TEST(elapsed_time_goes_with_the_order),
        SUITE_TEST(elapsed_says_what_is_missing),
        SUITE_TEST(a_failure_stays_on_its_stream_and_the_events_after_it),
        SUITE_TEST(a_failed_stream_skips_later_functions_and_keeps_the_first_cause),
        SUITE_TEST(many_threads_may_wait_for_one_event),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
