/* SPDX-License-Identifier: MIT */
/* The judgement of two streams from facts and times, and the check with every driver call and every
 * allocation failing once. */
#include "support/fault_driver.h"
#include "support/unit.h"

#include "flow/concurrency_parts.h"

#include <millrace/buffer.h>

enum { US = 1000 };

static const mr_device_properties gpu = { .copy_engine_count = 2,
                                          .has_concurrent_kernels = true,
                                          .can_overlap_copy_and_kernel = true,
                                          .can_overlap_both_copies = true };
static const mr_device_properties cpu = { .is_host_memory = true, .multiprocessor_count = 4 };

static struct mr__concurrency_facts facts;
static mr_concurrency_report report;

/* Two non-blocking streams with a kernel each on a GPU, 1 ms and 2 ms alone. */
static int set_up(void **state)
{
    (void)state;
    facts = (struct mr__concurrency_facts){
        .device = gpu,
        .least_ns = 50 * US,
        .sides = { { .stream_id = 1, .stream_name = "one", .launches = 1 },
                   { .stream_id = 2, .stream_name = "two", .launches = 1 } },
    };
    report = (mr_concurrency_report){ .alone_ns = { 1000 * US, 2000 * US },
                                      .together_ns = 3000 * US,
                                      .in_flight_ns = 0 };
    return 0;
}

static void expect(mr_concurrency_verdict verdict, mr_concurrency_obstacle obstacle,
                   const char *words)
{
    mr__concurrency_judge(&facts, &report);
    if (report.verdict != verdict || report.obstacle != obstacle || !strstr(report.words, words))
        fail_msg("%s, %s: %s", mr_concurrency_verdict_name(report.verdict),
                 mr_concurrency_obstacle_name(report.obstacle), report.words);
}

/* ---- times ---- */

static void the_verdict_is_the_share_of_the_shorter_side_that_cost_no_time(void **state)
{
    (void)state;
    facts.sides[1].launches = 0;
    facts.sides[1].copies_up = 1;
    report.in_flight_ns = 1000 * US;
    report.together_ns = 2000 * US;
    expect(MR_CONCURRENCY_FULL, MR_OBSTACLE_NONE,
           "streams 'one' and 'two' overlap: alone 1.000 and 2.000 ms, together 2.000 ms, 100 %");
    assert_true(report.hidden == 1 && report.speed_up == 1.5 && report.speed_up_bound == 1.5);
    assert_int_equal(report.bound_ns, 2000 * US);

    report.together_ns = 2200 * US;
    expect(MR_CONCURRENCY_FULL, MR_OBSTACLE_NONE, "80 %");
    report.together_ns = 2201 * US;
    expect(MR_CONCURRENCY_PART, MR_OBSTACLE_UNKNOWN, "overlap in part");
    report.together_ns = 2800 * US;
    expect(MR_CONCURRENCY_PART, MR_OBSTACLE_UNKNOWN, "native handles");
    report.together_ns = 2801 * US;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_UNKNOWN, "do not overlap");
    report.together_ns = 9000 * US; /* together is dearer than one after the other */
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_UNKNOWN, "0 %");
    assert_true(report.hidden == 0);
}

static void nothing_is_hidden_by_work_that_was_not_there(void **state)
{
    (void)state;
    report.together_ns = 2000 * US; /* noise: alone was slow */
    report.in_flight_ns = 0;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "0 %");
    report.in_flight_ns = 500 * US;
    expect(MR_CONCURRENCY_PART, MR_OBSTACLE_DEVICE_FULL, "50 %");
}

static void sides_that_are_too_short_tell_nothing(void **state)
{
    (void)state;
    report.alone_ns[0] = 49 * US;
    expect(MR_CONCURRENCY_UNCLEAR, MR_OBSTACLE_NONE, "are too short to tell");
    report.alone_ns[0] = report.alone_ns[1] = report.together_ns = 0;
    facts.least_ns = 0;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "");
    assert_true(report.speed_up == 0);
}

/* ---- obstacles ---- */

static void what_is_seen_comes_before_what_is_concluded(void **state)
{
    (void)state;
    facts.sides[0].has_pageable_copy = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_PAGEABLE, "pinned memory, or stage it");
    facts.sides[1].has_allocation = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ALLOCATION, "allocates");
    facts.sides[0].has_host_wait = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_HOST_WAIT, "wait for an event instead");
    facts.sides[1].has_event_wait = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_EVENT, "waits for an event of the other");
    facts.sides[0].has_other_stream = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_OTHER_STREAM, "pass on the stream");
    facts.sides[0].is_on_legacy = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_OTHER_STREAM, "pass on the stream");
    facts.sides[1].kind = MR_STREAM_BLOCKING;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_LEGACY, "non-blocking streams for both");
    facts.is_same_stream = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_SAME_STREAM, "give each a stream");

    report.together_ns = 2000 * US; /* they overlapped all the same */
    report.in_flight_ns = 1000 * US;
    expect(MR_CONCURRENCY_FULL, MR_OBSTACLE_SAME_STREAM, ", although both sides");
}

static void the_legacy_stream_orders_all_but_non_blocking_streams(void **state)
{
    (void)state;
    facts.sides[0].kind = MR_STREAM_LEGACY;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "");
    facts.sides[1].kind = MR_STREAM_BLOCKING;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_LEGACY, "");
    facts.sides[1].kind = MR_STREAM_PER_THREAD;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_LEGACY, "");
    facts.sides[0].kind = MR_STREAM_BLOCKING;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "");
}

static void one_engine_for_both_is_named(void **state)
{
    (void)state;
    facts.device.has_concurrent_kernels = false;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "one kernel at a time");

    facts.sides[0] = (struct mr__side_facts){ .stream_name = "one", .copies_up = 1 };
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_UNKNOWN, "");
    facts.device.can_overlap_copy_and_kernel = false;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "too few copy engines");
    facts.device = gpu;
    facts.sides[1] = (struct mr__side_facts){ .stream_name = "two", .copies_up = 2 };
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "one direction");
    facts.sides[1] = (struct mr__side_facts){ .stream_name = "two", .copies_down = 2 };
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_UNKNOWN, "");
    facts.device.copy_engine_count = 1;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "too few copy engines");

    facts.device = gpu;
    facts.sides[0] = (struct mr__side_facts){ .stream_name = "one", .host_functions = 1 };
    facts.sides[1] = (struct mr__side_facts){ .stream_name = "two", .host_functions = 1 };
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "host functions one at a time");
    facts.device = cpu;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "share the CPU's workers");
    facts.device.multiprocessor_count = 1;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_ENGINE, "one worker");
}

static void pageable_memory_is_no_obstacle_on_the_cpu(void **state)
{
    (void)state;
    facts.device = cpu;
    facts.sides[0].has_pageable_copy = true;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "");
}

static void what_is_not_seen_is_concluded_from_times(void **state)
{
    (void)state;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_DEVICE_FULL, "fills the device");
    facts.sides[0].priority = -1;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_PRIORITY, "with priority takes room first");
    report.submit_ns[0] = 800 * US;
    expect(MR_CONCURRENCY_NONE, MR_OBSTACLE_SUBMISSION, "submitting the first side");
}

static void every_verdict_and_obstacle_has_a_name(void **state)
{
    (void)state;
    for (int i = MR_CONCURRENCY_UNCLEAR; i <= MR_CONCURRENCY_FULL; i++)
        assert_string_not_equal(mr_concurrency_verdict_name((mr_concurrency_verdict)i), "unknown");
    assert_string_equal(mr_concurrency_verdict_name((mr_concurrency_verdict)9), "unknown");
    for (int i = MR_OBSTACLE_NONE; i < MR_OBSTACLE_UNKNOWN; i++)
        assert_string_not_equal(mr_concurrency_obstacle_name((mr_concurrency_obstacle)i),
                                "unknown");
    assert_string_equal(mr_concurrency_obstacle_name((mr_concurrency_obstacle)99), "unknown");
}

/* ---- failures ---- */

static mr_status fill(void *context, mr_stream *stream)
{
    return mr_fill(stream, context, 0, 4096, 1, 1);
}

static mr_status check_fills(mr_device *device)
{
    mr_stream *one = NULL, *two = NULL;
    mr_buffer *buffers[2] = { NULL };
    mr_concurrency_report found;
    mr_status status = mr_stream_create(device, NULL, &one);
    if (!status)
        status = mr_stream_create(device, NULL, &two);
    for (int i = 0; i < 2 && !status; i++)
        status = mr_buffer_create(device, 4096, NULL, &buffers[i]);
    if (!status)
        status = mr_concurrency_check(&(mr_concurrency_side){ one, fill, buffers[0] },
                                      &(mr_concurrency_side){ two, fill, buffers[1] },
                                      &(mr_concurrency_options){ .repeat_count = 1 }, &found);
    mr_stream_destroy(one);
    mr_stream_destroy(two);
    mr_buffer_destroy(buffers[0]);
    mr_buffer_destroy(buffers[1]);
    return status;
}

static void the_check_survives_a_driver_call_that_fails(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    fault_on_device(&fault, "cuda", check_fills);
    assert_true(fault.nth > 20);
}

static void the_check_survives_no_memory(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct fault fault = { .kind = &fault_allocation };
        fault_on_device(&fault, i ? "cuda" : "cpu", check_fills);
        assert_true(fault.nth > 7);
    }
}

#define TEST(function) cmocka_unit_test_setup(function, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_verdict_is_the_share_of_the_shorter_side_that_cost_no_time),
        TEST(nothing_is_hidden_by_work_that_was_not_there),
        TEST(sides_that_are_too_short_tell_nothing),
        TEST(what_is_seen_comes_before_what_is_concluded),
        TEST(the_legacy_stream_orders_all_but_non_blocking_streams),
        TEST(one_engine_for_both_is_named),
        TEST(pageable_memory_is_no_obstacle_on_the_cpu),
        TEST(what_is_not_seen_is_concluded_from_times),
        TEST(every_verdict_and_obstacle_has_a_name),
        TEST(the_check_survives_a_driver_call_that_fails),
        TEST(the_check_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
