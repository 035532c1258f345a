/* SPDX-License-Identifier: MIT */
/* Events over a scripted backend: snapshots, what is left out, failures. */
#include "scripted_backend.h"
#include "support/unit.h"

#include "core/event.h"
#include "core/stream.h"

static mr_device *device;
static mr_stream *first, *second;
static mr_event *event;

static int set_up(void **state)
{
    (void)state;
    device = scripted_open(&scripted_alpha);
    return !device || mr_stream_create(device, NULL, &first) ||
           mr_stream_create(device, NULL, &second) || mr_event_create(device, NULL, &event);
}

static int tear_down(void **state)
{
    (void)state;
    mr_event_destroy(event);
    mr_stream_destroy(first);
    mr_stream_destroy(second);
    return mr_device_close(device) || !scripted_is_clean();
}

static mr_status count_up(void *context)
{
    ++*(int *)context;
    return MR_OK;
}

static mr_status fail_with_words(void *context)
{
    (void)context;
    return mr_error_set(MR_E_IO, "sensor 4 is gone");
}

static void submit_some(mr_stream *stream)
{
    static int sink;
    assert_ok(mr_stream_call(stream, count_up, &sink));
}

/* The event fires once the test lets the stream go. */
static void record_held_work(mr_event *on, mr_stream *stream)
{
    scripted_hold(stream);
    submit_some(stream);
    assert_ok(mr_event_record(on, stream));
}

static void an_event_never_recorded_counts_as_fired(void **state)
{
    (void)state;
    assert_ok(mr_event_query(event));
    assert_ok(mr_event_wait(event));
    assert_ok(mr_stream_wait_event(first, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 0);
}

static void an_event_fires_when_the_work_before_it_has_ended(void **state)
{
    (void)state;
    record_held_work(event, first);
    assert_status(MR_E_BUSY, mr_event_query(event));
    assert_status(MR_E_TIMEOUT, mr_event_wait_for(event, 1000));

    scripted_let_go(first);
    assert_ok(mr_event_query(event));
    assert_ok(mr_event_wait(event));
}

static void a_stream_waits_for_the_recorded_work(void **state)
{
    int count = 0;
    (void)state;
    record_held_work(event, first);
    assert_ok(mr_stream_wait_event(second, event));
    assert_ok(mr_stream_call(second, count_up, &count));
    assert_int_equal(count, 0);

    scripted_let_go(first);
    assert_int_equal(count, 1);
}

static void a_second_record_does_not_disturb_earlier_waits(void **state)
{
    int count = 0;
    (void)state;
    record_held_work(event, first);
    assert_ok(mr_stream_wait_event(second, event));
    assert_ok(mr_stream_call(second, count_up, &count));

    mr_stream *third;
    assert_ok(mr_stream_create(device, NULL, &third));
    record_held_work(event, third);
    scripted_let_go(first);
    assert_int_equal(count, 1);
    assert_status(MR_E_BUSY, mr_event_query(event));
    scripted_let_go(third);
    assert_ok(mr_event_query(event));
    mr_stream_destroy(third);
}

static void an_event_may_be_destroyed_while_waited_for(void **state)
{
    mr_event *brief;
    int count = 0;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &brief));
    record_held_work(brief, first);
    assert_ok(mr_stream_wait_event(second, brief));
    assert_ok(mr_stream_call(second, count_up, &count));
    mr_event_destroy(brief);
    mr_event_destroy(NULL);
    scripted_let_go(first);
    assert_int_equal(count, 1);
}

static void records_with_nothing_between_share_a_point(void **state)
{
    mr_event *other;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &other));
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    assert_ok(mr_event_record(event, first));
    assert_ok(mr_event_record(other, first));
    assert_int_equal(scripted_count(SCRIPTED_POINT_RECORD), 1);
    assert_int_equal(other->sequence, event->sequence);

    submit_some(first);
    assert_ok(mr_event_record(event, first));
    assert_int_equal(scripted_count(SCRIPTED_POINT_RECORD), 2);
    assert_true(event->sequence > other->sequence);
    mr_event_destroy(other);
}

static void foreign_work_makes_a_record_new(void **state)
{
    (void)state;
    assert_ok(mr_event_record(event, first));
    mr_stream_touch(first);
    assert_ok(mr_event_record(event, first));
    assert_int_equal(scripted_count(SCRIPTED_POINT_RECORD), 2);
}

static void a_wait_makes_a_record_new(void **state)
{
    mr_event *after;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &after));
    assert_ok(mr_event_record(after, second));
    record_held_work(event, first);
    assert_ok(mr_stream_wait_event(second, event));
    assert_ok(mr_event_record(after, second));
    assert_status(MR_E_BUSY, mr_event_query(after));
    scripted_let_go(first);
    assert_ok(mr_event_query(after));
    mr_event_destroy(after);
}

static void timing_records_are_always_new(void **state)
{
    mr_event *timing;
    (void)state;
    assert_ok(mr_event_create(device, &(mr_event_options){ .has_timing = true }, &timing));
    assert_ok(mr_event_record(timing, first));
    assert_ok(mr_event_record(timing, first));
    assert_int_equal(scripted_count(SCRIPTED_POINT_RECORD), 2);
    mr_event_destroy(timing);
}

static void records_on_blocking_streams_are_always_new(void **state)
{
    mr_stream *blocking, *legacy;
    (void)state;
    assert_ok(
        mr_stream_create(device, &(mr_stream_options){ .kind = MR_STREAM_BLOCKING }, &blocking));
    assert_ok(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    for (int i = 0; i < 2; i++) {
        assert_ok(mr_event_record(event, blocking));
        assert_ok(mr_event_record(event, legacy));
    }
    assert_int_equal(scripted_count(SCRIPTED_POINT_RECORD), 4);
    mr_stream_destroy(blocking);
}

static void waits_that_are_implied_are_left_out(void **state)
{
    mr_event *later;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &later));
    record_held_work(event, first);
    submit_some(first);
    assert_ok(mr_event_record(later, first));

    assert_ok(mr_stream_wait_event(first, event)); /* by the order of the stream */
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 0);
    assert_ok(mr_stream_wait_event(second, later));
    assert_ok(mr_stream_wait_event(second, later)); /* by the same wait */
    assert_ok(mr_stream_wait_event(second, event)); /* by a later point */
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 1);

    submit_some(first);
    assert_ok(mr_event_record(event, first));
    assert_ok(mr_stream_wait_event(second, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 2);
    scripted_let_go(first);
    mr_event_destroy(later);
}

static void a_point_seen_to_be_reached_needs_no_wait(void **state)
{
    (void)state;
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    assert_ok(mr_event_query(event));
    assert_ok(mr_stream_wait_event(second, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 0);

    record_held_work(event, first);
    assert_ok(mr_stream_wait_event(second, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 1);
    scripted_let_go(first);
}

static void a_point_before_one_seen_to_be_reached_needs_no_wait(void **state)
{
    (void)state;
    mr_event *later;
    assert_ok(mr_event_create(device, NULL, &later));
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    submit_some(first);
    assert_ok(mr_event_record(later, first));
    assert_ok(mr_event_query(later));
    assert_ok(mr_stream_wait_event(second, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 0);
    mr_event_destroy(later);
}

/* More streams than watermarks: some waits are submitted again, none is forgotten. */
static void many_streams_never_lose_a_wait(void **state)
{
    enum { COUNT = 40 };
    mr_stream *streams[COUNT];
    mr_event *events[COUNT];
    int count = 0;
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        assert_ok(mr_stream_create(device, NULL, &streams[i]));
        assert_ok(mr_event_create(device, NULL, &events[i]));
        scripted_hold(streams[i]);
        submit_some(streams[i]);
        assert_ok(mr_event_record(events[i], streams[i]));
        assert_ok(mr_stream_wait_event(second, events[i]));
    }
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), COUNT);
    assert_ok(mr_stream_call(second, count_up, &count));
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(count, 0);
        scripted_let_go(streams[i]);
    }
    assert_int_equal(count, 1);
    for (int i = 0; i < COUNT; i++) {
        mr_event_destroy(events[i]);
        mr_stream_destroy(streams[i]);
    }
}

static void only_events_after_a_failure_answer_it(void **state)
{
    mr_event *after;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &after));
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    assert_ok(mr_stream_call(first, fail_with_words, NULL));
    assert_ok(mr_event_record(after, first));

    assert_ok(mr_event_wait(event));
    assert_ok(mr_event_query(event));
    assert_status(MR_E_IO, mr_event_query(after));
    assert_words("sensor 4 is gone");
    assert_status(MR_E_IO, mr_event_wait(after));
    mr_event_destroy(after);
}

static void an_event_keeps_the_failure_of_a_stream_that_is_gone(void **state)
{
    mr_stream *brief;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &brief));
    assert_ok(mr_stream_call(brief, fail_with_words, NULL));
    assert_ok(mr_event_record(event, brief));
    mr_stream_destroy(brief);
    assert_status(MR_E_IO, mr_event_query(event));
    assert_words("sensor 4");
}

static void a_point_that_breaks_fails_the_stream(void **state)
{
    (void)state;
    scripted_break(first, MR_E_DEVICE);
    assert_ok(mr_event_record(event, first));
    assert_status(MR_E_DEVICE, mr_event_wait(event));
    scripted_break(first, MR_OK);
    assert_status(MR_E_DEVICE, mr_stream_wait(first));
    assert_words("the point broke");
}

static void a_record_after_a_failure_was_found_answers_it(void **state)
{
    mr_event *after;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &after));
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    scripted_break(first, MR_E_DEVICE);
    assert_status(MR_E_DEVICE, mr_stream_query(first));
    scripted_break(first, MR_OK);
    assert_ok(mr_event_record(after, first));
    assert_ok(mr_event_query(event));
    assert_status(MR_E_DEVICE, mr_event_query(after));
    mr_event_destroy(after);
}

static void a_refused_record_leaves_the_event_as_it_was(void **state)
{
    (void)state;
    submit_some(first);
    assert_ok(mr_event_record(event, first));
    const uint64_t sequence = event->sequence;
    submit_some(first);
    scripted_fail_next(SCRIPTED_POINT_RECORD, MR_E_NO_MEMORY);
    assert_status(MR_E_NO_MEMORY, mr_event_record(event, first));
    assert_int_equal(event->sequence, sequence);
    assert_ok(mr_event_wait(event));
}

static void a_refused_wait_is_not_taken_for_done(void **state)
{
    (void)state;
    record_held_work(event, first);
    scripted_fail_next(SCRIPTED_WAIT_POINT, MR_E_NO_MEMORY);
    assert_status(MR_E_NO_MEMORY, mr_stream_wait_event(second, event));
    assert_ok(mr_stream_wait_event(second, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 2);
    scripted_let_go(first);
}

static void events_are_recorded_on_their_device(void **state)
{
    mr_device *beta = scripted_open(&scripted_beta);
    mr_stream *stream;
    (void)state;
    assert_ok(mr_stream_create(beta, NULL, &stream));
    assert_status(MR_E_INVALID, mr_event_record(event, stream));
    assert_words("alpha:0");
    assert_words("beta:0");
    assert_status(MR_E_INVALID, mr_event_record(NULL, stream));
    assert_status(MR_E_INVALID, mr_event_record(event, NULL));
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(beta));
}

static void elapsed_asks_for_two_fired_timing_events(void **state)
{
    const mr_event_options timing = { .has_timing = true };
    mr_event *start, *end;
    int64_t elapsed_ns;
    (void)state;
    assert_ok(mr_event_create(device, &timing, &start));
    assert_ok(mr_event_create(device, &timing, &end));
    assert_status(MR_E_INVALID, mr_event_elapsed(start, event, &elapsed_ns));
    assert_words("has_timing");
    assert_status(MR_E_STATE, mr_event_elapsed(start, end, &elapsed_ns));

    assert_ok(mr_event_record(start, first));
    assert_status(MR_E_STATE, mr_event_elapsed(start, end, &elapsed_ns));
    record_held_work(end, first);
    assert_status(MR_E_BUSY, mr_event_elapsed(start, end, &elapsed_ns));
    scripted_let_go(first);

    assert_ok(mr_event_elapsed(start, end, &elapsed_ns));
    assert_true(elapsed_ns > 0);
    const int64_t forward_ns = elapsed_ns;
    assert_ok(mr_event_elapsed(end, start, &elapsed_ns));
    assert_int_equal(elapsed_ns, -forward_ns);
    assert_status(MR_E_INVALID, mr_event_elapsed(NULL, end, &elapsed_ns));
    mr_event_destroy(start);
    mr_event_destroy(end);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_event_never_recorded_counts_as_fired),
        TEST(an_event_fires_when_the_work_before_it_has_ended),
        TEST(a_stream_waits_for_the_recorded_work),
        TEST(a_second_record_does_not_disturb_earlier_waits),
        TEST(an_event_may_be_destroyed_while_waited_for),
        TEST(records_with_nothing_between_share_a_point),
        TEST(foreign_work_makes_a_record_new),
        TEST(a_wait_makes_a_record_new),
        TEST(timing_records_are_always_new),
        TEST(records_on_blocking_streams_are_always_new),
        TEST(waits_that_are_implied_are_left_out),
        TEST(a_point_seen_to_be_reached_needs_no_wait),
        TEST(a_point_before_one_seen_to_be_reached_needs_no_wait),
        TEST(many_streams_never_lose_a_wait),
        TEST(only_events_after_a_failure_answer_it),
        TEST(an_event_keeps_the_failure_of_a_stream_that_is_gone),
        TEST(a_point_that_breaks_fails_the_stream),
        TEST(a_record_after_a_failure_was_found_answers_it),
        TEST(a_refused_record_leaves_the_event_as_it_was),
        TEST(a_refused_wait_is_not_taken_for_done),
        TEST(events_are_recorded_on_their_device),
        TEST(elapsed_asks_for_two_fired_timing_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
