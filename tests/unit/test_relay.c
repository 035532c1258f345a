/* SPDX-License-Identifier: MIT */
/* Waits between two scripted backends. */
#include "scripted_backend.h"
#include "support/unit.h"

#include "core/relay.h"
#include "core/stream.h"

#include <pthread.h>
#include <sched.h>

static mr_device *alpha, *beta;
static mr_stream *source, *target;
static mr_event *event;

static int set_up(void **state)
{
    (void)state;
    alpha = scripted_open(&scripted_alpha);
    beta = scripted_open(&scripted_beta);
    return !alpha || !beta || mr_stream_create(alpha, NULL, &source) ||
           mr_stream_create(beta, NULL, &target) || mr_event_create(alpha, NULL, &event);
}

static int tear_down(void **state)
{
    (void)state;
    mr_event_destroy(event);
    mr_stream_destroy(source);
    mr_stream_destroy(target);
    return mr_device_close(alpha) || mr_device_close(beta) || !scripted_is_clean();
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

static void record_held_work(void)
{
    static int sink;
    scripted_hold(source);
    assert_ok(mr_stream_call(source, count_up, &sink));
    assert_ok(mr_event_record(event, source));
}

static void a_stream_waits_for_another_backend(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &count));
    assert_status(MR_E_TIMEOUT, mr_stream_wait_for(target, 2000000));
    assert_int_equal(count, 0);

    scripted_let_go(source);
    assert_ok(mr_stream_wait(target));
    assert_int_equal(count, 1);
    assert_int_equal(scripted_count(SCRIPTED_WAIT_POINT), 0);
    assert_int_equal(scripted_count(SCRIPTED_WAIT_GATE), 1);
}

static void a_wait_between_backends_is_not_repeated(void **state)
{
    (void)state;
    record_held_work();
    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_wait_event(target, event));
    assert_int_equal(scripted_count(SCRIPTED_WAIT_GATE), 1);
    scripted_let_go(source);
    assert_ok(mr_stream_wait(target));
}

static void a_failure_crosses_before_the_gate_opens(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    assert_ok(mr_stream_call(source, fail_with_words, NULL));
    assert_ok(mr_event_record(event, source));
    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &count));

    scripted_let_go(source);
    assert_status(MR_E_IO, mr_stream_wait(target));
    assert_words("sensor 4 is gone");
    assert_words("alpha:0");
    assert_int_equal(count, 0);
}

/* ---- failures that are seen out of the target's order ---- */

/* The target waits for the source, runs a function and is noted; then for another stream, which breaks
 * while the target has not come to the first of it. */
struct crossed {
    mr_stream *other;
    mr_event *others, *noted;
    int before, after;
};

static void cross_twice(struct crossed *crossed)
{
    static int sink;
    *crossed = (struct crossed){ 0 };
    assert_ok(mr_stream_create(alpha, NULL, &crossed->other));
    assert_ok(mr_event_create(alpha, NULL, &crossed->others));
    assert_ok(mr_event_create(beta, NULL, &crossed->noted));
    record_held_work();
    scripted_hold(target);
    scripted_hold(crossed->other);
    assert_ok(mr_stream_call(crossed->other, count_up, &sink));
    assert_ok(mr_event_record(crossed->others, crossed->other));

    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &crossed->before));
    assert_ok(mr_event_record(crossed->noted, target));
    assert_ok(mr_stream_wait_event(target, crossed->others));
    assert_ok(mr_stream_call(target, count_up, &crossed->after));
    scripted_break(crossed->other, MR_E_DEVICE);
    scripted_let_go(crossed->other);
    while (mr_stream_failure(target) == MR_OK)
        sched_yield();
}

static void end_crossed(struct crossed *crossed)
{
    scripted_break(crossed->other, MR_OK);
    mr_event_destroy(crossed->noted);
    mr_event_destroy(crossed->others);
    mr_stream_destroy(crossed->other);
}

static void what_is_before_a_failure_runs(void **state)
{
    struct crossed crossed;
    (void)state;
    cross_twice(&crossed);
    scripted_let_go(source);
    scripted_let_go(target);
    assert_ok(mr_event_wait(crossed.noted));
    assert_int_equal(crossed.before, 1);
    assert_status(MR_E_DEVICE, mr_stream_wait(target));
    assert_int_equal(crossed.after, 0);
    end_crossed(&crossed);
}

static void an_earlier_failure_counts_though_it_is_seen_later(void **state)
{
    struct crossed crossed;
    (void)state;
    cross_twice(&crossed);
    scripted_break(source, MR_E_DEVICE);
    scripted_let_go(source);
    scripted_let_go(target);
    assert_status(MR_E_DEVICE, mr_event_wait(crossed.noted));
    assert_int_equal(crossed.before, 0);
    scripted_break(source, MR_OK);
    end_crossed(&crossed);
}

static void a_failure_after_the_event_does_not_cross(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    assert_ok(mr_stream_call(source, fail_with_words, NULL));
    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &count));

    scripted_let_go(source);
    assert_ok(mr_stream_wait(target));
    assert_int_equal(count, 1);
}

static void a_broken_point_crosses(void **state)
{
    (void)state;
    record_held_work();
    assert_ok(mr_stream_wait_event(target, event));
    scripted_break(source, MR_E_DEVICE);
    scripted_let_go(source);
    assert_status(MR_E_DEVICE, mr_stream_wait(target));
    assert_words("the point broke");
    scripted_break(source, MR_OK);
}

static void the_event_may_go_before_it_fires(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    assert_ok(mr_stream_wait_event(target, event));
    mr_event_destroy(event);
    event = NULL;
    assert_ok(mr_stream_call(target, count_up, &count));
    scripted_let_go(source);
    assert_ok(mr_stream_wait(target));
    assert_int_equal(count, 1);
}

/* Behind the gate no point can be recorded: the gate goes when the queue is idle. */
static void a_gate_goes_without_a_point_behind_it(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    scripted_fail_next(SCRIPTED_POINT_RECORD, MR_E_NO_MEMORY);
    assert_ok(mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &count));
    scripted_let_go(source);
    assert_ok(mr_stream_wait(target));
    assert_int_equal(count, 1);
}

static void a_refused_gate_leaves_nothing(void **state)
{
    int count = 0;
    (void)state;
    record_held_work();
    scripted_fail_next(SCRIPTED_GATE_CREATE, MR_E_NO_MEMORY);
    assert_status(MR_E_NO_MEMORY, mr_stream_wait_event(target, event));
    scripted_fail_next(SCRIPTED_WAIT_GATE, MR_E_DEVICE);
    assert_status(MR_E_DEVICE, mr_stream_wait_event(target, event));
    assert_ok(mr_stream_call(target, count_up, &count));
    assert_int_equal(count, 1);
    scripted_let_go(source);
}

static void *let_go_when_recording(void *context)
{
    const uint64_t *before = context;
    while (scripted_count(SCRIPTED_POINT_RECORD) == *before)
        sched_yield();
    scripted_let_go(source);
    return NULL;
}

/* While one thread frees memory, CUDA waits for all work of the device and keeps everybody else from
 * submitting any. A gate in that work must open all the same. */
static void a_gate_opens_while_nothing_can_be_submitted(void **state)
{
    pthread_t thread;
    int count = 0;
    (void)state;
    record_held_work();
    uint64_t before = scripted_count(SCRIPTED_POINT_RECORD);
    scripted_stall(target);
    assert_int_equal(0, pthread_create(&thread, NULL, let_go_when_recording, &before));
    assert_ok(mr_stream_wait_event(target, event));
    assert_int_equal(0, pthread_join(thread, NULL));
    assert_ok(mr_stream_call(target, count_up, &count));
    assert_ok(mr_stream_wait(target));
    assert_int_equal(count, 1);
}

static void crossings_go_both_ways_at_once(void **state)
{
    enum { ROUNDS = 300 };
    mr_event *back;
    int forth = 0;
    (void)state;
    assert_ok(mr_event_create(beta, NULL, &back));
    for (int i = 0; i < ROUNDS; i++) {
        assert_ok(mr_stream_call(source, count_up, &forth));
        assert_ok(mr_event_record(event, source));
        assert_ok(mr_stream_wait_event(target, event));
        assert_ok(mr_stream_call(target, count_up, &forth));
        assert_ok(mr_event_record(back, target));
        assert_ok(mr_stream_wait_event(source, back));
    }
    assert_ok(mr_stream_wait(source));
    assert_ok(mr_stream_wait(target));
    assert_int_equal(forth, 2 * ROUNDS);
    mr_event_destroy(back);
}

static void the_relay_starts_again_after_its_end(void **state)
{
    (void)state;
    a_stream_waits_for_another_backend(NULL);
    assert_int_equal(tear_down(NULL), 0);
    assert_int_equal(set_up(NULL), 0);
    a_stream_waits_for_another_backend(NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_stream_waits_for_another_backend),
        TEST(a_wait_between_backends_is_not_repeated),
        TEST(a_failure_crosses_before_the_gate_opens),
        TEST(what_is_before_a_failure_runs),
        TEST(an_earlier_failure_counts_though_it_is_seen_later),
        TEST(a_failure_after_the_event_does_not_cross),
        TEST(a_broken_point_crosses),
        TEST(the_event_may_go_before_it_fires),
        TEST(a_gate_goes_without_a_point_behind_it),
        TEST(a_refused_gate_leaves_nothing),
        TEST(a_gate_opens_while_nothing_can_be_submitted),
        TEST(crossings_go_both_ways_at_once),
        TEST(the_relay_starts_again_after_its_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
