/* SPDX-License-Identifier: MIT */
/*
 * The concurrency check on real streams. Nothing here depends on how long work takes: overlap is forced
 * by sides that cannot end before the other has begun, and obstacles are those that are seen in what
 * was submitted.
 */
#include "support/check.h"
#include "support/suite.h"

#include <millrace/concurrency.h>
#include <millrace/event.h>
#include <millrace/graph.h>

#include <semaphore.h>

enum { SIZE = 1 << 16 };

/* ---- sides ---- */

struct side {
    mr_stream *stream;
    mr_buffer *source, *target;
    mr_event *event;
    int calls;
};

static void side_init(struct side *side, mr_device *device, mr_place place)
{
    CHECK_OK(mr_stream_create(device, NULL, &side->stream));
    CHECK_OK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = place }, &side->source));
    CHECK_OK(mr_buffer_create(device, SIZE, NULL, &side->target));
    CHECK_OK(mr_event_create(device, NULL, &side->event));
    if (mr_buffer_host(side->source))
        memset(mr_buffer_host(side->source), 1, SIZE);
    side->calls = 0;
}

static void side_fini(struct side *side)
{
    mr_stream_destroy(side->stream);
    mr_event_destroy(side->event);
    mr_buffer_destroy(side->source);
    mr_buffer_destroy(side->target);
}

static mr_status fill(void *context, mr_stream *stream)
{
    struct side *side = context;
    side->calls++;
    return mr_fill(stream, side->target, 0, SIZE, 3, 1);
}

static mr_status copy_up(void *context, mr_stream *stream)
{
    struct side *side = context;
    return mr_copy(stream, side->target, 0, side->source, 0, SIZE);
}

static mr_concurrency_report check(struct side *one, mr_concurrency_submit first, struct side *two,
                                   mr_concurrency_submit second)
{
    mr_concurrency_report report;
    CHECK_OK(mr_concurrency_check(&(mr_concurrency_side){ one->stream, first, one },
                                  &(mr_concurrency_side){ two->stream, second, two },
                                  &(mr_concurrency_options){ .repeat_count = 2 }, &report));
    CHECK(report.hidden >= 0 && report.hidden <= 1);
    CHECK(report.bound_ns == report.alone_ns[0] || report.bound_ns == report.alone_ns[1]);
    CHECK_SAYS("streams '", report.words);
    return report;
}

static void expect_obstacle(mr_concurrency_obstacle wanted, const mr_concurrency_report *report)
{
    if (report->obstacle != wanted)
        CHECK_FAIL("expected %s, got %s: %s", mr_concurrency_obstacle_name(wanted),
                   mr_concurrency_obstacle_name(report->obstacle), report->words);
}

/* ---- overlap that is forced ---- */

/* In every run but those alone, each side's work waits until the other's has begun: its first host
 * function lets the other side's CPU stream go on, whose event its own stream waits for. */
struct meeting {
    sem_t go;
    mr_stream *gate_stream;
    mr_event *gate;
    struct meeting *other;
    int runs;
};

static mr_status let_other_go(void *context)
{
    struct meeting *meeting = context;
    CHECK_EQ(0, sem_post(&meeting->other->go));
    return MR_OK;
}

static mr_status wait_to_go(void *context)
{
    struct meeting *meeting = context;
    while (sem_wait(&meeting->go))
        ;
    return MR_OK;
}

/* Runs 0 (the look) and 1, 3, 5... are alone; 2, 4, 6... together. */
static mr_status meet(void *context, mr_stream *stream)
{
    struct meeting *meeting = context;
    const bool is_together = meeting->runs > 0 && meeting->runs % 2 == 0;
    meeting->runs++;
    if (!is_together)
        return MR_OK;
    mr_status status = mr_stream_call(meeting->gate_stream, wait_to_go, meeting);
    if (!status)
        status = mr_event_record(meeting->gate, meeting->gate_stream);
    if (!status)
        status = mr_stream_call(stream, let_other_go, meeting);
    return status ? status : mr_stream_wait_event(stream, meeting->gate);
}

static void work_that_meets_is_in_flight_at_one_time(mr_device *device)
{
    mr_device *cpu;
    struct meeting meetings[2];
    mr_stream *streams[2];
    CHECK_OK(mr_device_open("cpu", &(mr_device_options){ .worker_count = 4 }, &cpu));
    for (int i = 0; i < 2; i++) {
        meetings[i] = (struct meeting){ .other = &meetings[!i] };
        CHECK_EQ(0, sem_init(&meetings[i].go, 0, 0));
        CHECK_OK(mr_stream_create(cpu, NULL, &meetings[i].gate_stream));
        CHECK_OK(mr_event_create(cpu, NULL, &meetings[i].gate));
        CHECK_OK(mr_stream_create(device, NULL, &streams[i]));
    }
    mr_concurrency_report report;
    CHECK_OK(mr_concurrency_check(&(mr_concurrency_side){ streams[0], meet, &meetings[0] },
                                  &(mr_concurrency_side){ streams[1], meet, &meetings[1] }, NULL,
                                  &report));
    CHECK(report.in_flight_ns > 0);
    CHECK(report.in_flight_ns <= report.together_ns);
    CHECK_EQ(11, meetings[0].runs);
    CHECK_EQ(11, meetings[1].runs);
    for (int i = 0; i < 2; i++) {
        mr_stream_destroy(streams[i]);
        mr_event_destroy(meetings[i].gate);
        mr_stream_destroy(meetings[i].gate_stream);
        CHECK_EQ(0, sem_destroy(&meetings[i].go));
    }
    CHECK_OK(mr_device_close(cpu));
}

/* ---- obstacles that are seen ---- */

static void one_stream_runs_one_side_after_the_other(mr_device *device)
{
    struct side side;
    side_init(&side, device, MR_PLACE_PINNED);
    const mr_concurrency_report report = check(&side, fill, &side, fill);
    expect_obstacle(MR_OBSTACLE_SAME_STREAM, &report);
    CHECK_EQ(0, report.in_flight_ns);
    CHECK(report.hidden == 0 && report.verdict != MR_CONCURRENCY_FULL);
    CHECK_EQ(2 * (1 + 2 * 2), side.calls);
    side_fini(&side);
}

static mr_status fill_and_record(void *context, mr_stream *stream)
{
    struct side *side = context;
    const mr_status status = fill(context, stream);
    return status ? status : mr_event_record(side->event, stream);
}

static struct side *waited_for;

static mr_status wait_and_fill(void *context, mr_stream *stream)
{
    const mr_status status = mr_stream_wait_event(stream, waited_for->event);
    return status ? status : fill(context, stream);
}

static void a_stream_that_waits_for_the_other_is_named(mr_device *device)
{
    struct side one, two;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    waited_for = &one;
    const mr_concurrency_report report = check(&one, fill_and_record, &two, wait_and_fill);
    expect_obstacle(MR_OBSTACLE_EVENT, &report);
    side_fini(&one);
    side_fini(&two);
}

static void the_legacy_stream_is_named_beside_a_blocking_one(mr_device *device)
{
    struct side one, two;
    mr_stream *legacy;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    mr_stream_destroy(one.stream);
    CHECK_OK(
        mr_stream_create(device, &(mr_stream_options){ .kind = MR_STREAM_BLOCKING }, &one.stream));
    CHECK_OK(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    mr_stream *own = two.stream;
    two.stream = legacy;
    mr_concurrency_report report = check(&one, fill, &two, fill);
    expect_obstacle(MR_OBSTACLE_LEGACY, &report);
    report = check(&two, fill, &one, fill);
    expect_obstacle(MR_OBSTACLE_LEGACY, &report);
    two.stream = own;
    side_fini(&one);
    side_fini(&two);
}

static mr_status fill_on_another(void *context, mr_stream *stream)
{
    (void)stream;
    return fill(context, waited_for->stream);
}

static void work_on_a_stream_that_was_not_given_is_named(mr_device *device)
{
    struct side one, two, third;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    side_init(&third, device, MR_PLACE_PINNED);
    waited_for = &third;
    const mr_concurrency_report report = check(&one, fill, &two, fill_on_another);
    expect_obstacle(MR_OBSTACLE_OTHER_STREAM, &report);
    side_fini(&one);
    side_fini(&two);
    side_fini(&third);
}

static mr_graph_executable *filling;

static mr_status launch_on_another(void *context, mr_stream *stream)
{
    (void)context;
    (void)stream;
    return mr_graph_launch(filling, waited_for->stream);
}

static void a_graph_on_a_stream_that_was_not_given_is_named(mr_device *device)
{
    struct side one, two, third;
    mr_graph *graph;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    side_init(&third, device, MR_PLACE_PINNED);
    waited_for = &third;
    if (mr_graph_create(device, &graph) != MR_E_UNSUPPORTED) {
        CHECK_OK(mr_graph_add_fill(graph, NULL, 0, third.target, 0, SIZE, 3, 1, NULL));
        CHECK_OK(mr_graph_instantiate(graph, &filling));
        mr_graph_destroy(graph);
        const mr_concurrency_report report = check(&one, fill, &two, launch_on_another);
        expect_obstacle(MR_OBSTACLE_OTHER_STREAM, &report);
        mr_graph_executable_destroy(filling);
    }
    side_fini(&one);
    side_fini(&two);
    side_fini(&third);
}

static mr_status fill_and_wait(void *context, mr_stream *stream)
{
    const mr_status status = fill(context, stream);
    return status ? status : mr_stream_wait(stream);
}

static mr_status allocate_and_fill(void *context, mr_stream *stream)
{
    mr_buffer *buffer;
    const mr_status status = mr_buffer_create(mr_stream_device(stream), 4096, NULL, &buffer);
    if (status)
        return status;
    mr_buffer_destroy(buffer);
    return fill(context, stream);
}

static void waits_and_allocations_inside_a_side_are_named(mr_device *device)
{
    struct side one, two;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    mr_concurrency_report report = check(&one, fill, &two, fill_and_wait);
    expect_obstacle(MR_OBSTACLE_HOST_WAIT, &report);
    report = check(&one, allocate_and_fill, &two, fill);
    expect_obstacle(MR_OBSTACLE_ALLOCATION, &report);
    side_fini(&one);
    side_fini(&two);
}

static void pageable_copies_and_copies_of_one_direction_are_named(mr_device *device)
{
    struct side one, two, pageable;
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    side_init(&pageable, device, MR_PLACE_PAGEABLE);
    mr_concurrency_report report = check(&one, fill, &pageable, copy_up);
    if (!properties.is_host_memory)
        expect_obstacle(MR_OBSTACLE_PAGEABLE, &report);
    report = check(&one, copy_up, &two, copy_up);
    if (!properties.is_host_memory)
        expect_obstacle(MR_OBSTACLE_ENGINE, &report);
    side_fini(&one);
    side_fini(&two);
    side_fini(&pageable);
}

/* ---- failures ---- */

static mr_status fail_with_words(void *context, mr_stream *stream)
{
    (void)stream;
    struct side *side = context;
    return side->calls++ < 3 ? MR_OK : mr_error_set(MR_E_CALLBACK, "no more input");
}

static mr_status fail_in_stream(void *context)
{
    (void)context;
    return mr_error_set(MR_E_IO, "sensor 4 is gone");
}

static mr_status call_failing(void *context, mr_stream *stream)
{
    return mr_stream_call(stream, fail_in_stream, context);
}

static void failures_of_a_side_are_the_checks_own(mr_device *device)
{
    struct side one, two;
    mr_concurrency_report report;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    const mr_concurrency_side good = { one.stream, fill, &one };
    CHECK_STATUS(MR_E_CALLBACK,
                 mr_concurrency_check(&good,
                                      &(mr_concurrency_side){ two.stream, fail_with_words, &two },
                                      NULL, &report));
    CHECK_SAYS("the second side: no more input", mr_last_error());
    CHECK_EQ(MR_CONCURRENCY_UNCLEAR, report.verdict);
    CHECK_EQ(0, report.together_ns);
    CHECK_OK(mr_stream_query(one.stream));

    CHECK_STATUS(MR_E_IO,
                 mr_concurrency_check(&(mr_concurrency_side){ two.stream, call_failing, &two },
                                      &good, NULL, &report));
    CHECK_SAYS("sensor 4 is gone", mr_last_error());
    side_fini(&one);
    side_fini(&two);
}

static void a_check_that_cannot_be_is_refused(mr_device *device)
{
    struct side side;
    mr_concurrency_report report;
    side_init(&side, device, MR_PLACE_PINNED);
    const mr_concurrency_side good = { side.stream, fill, &side };
    const mr_concurrency_side no_stream = { NULL, fill, &side };
    const mr_concurrency_side no_function = { side.stream, NULL, &side };
    CHECK_STATUS(MR_E_INVALID, mr_concurrency_check(NULL, &good, NULL, &report));
    CHECK_STATUS(MR_E_INVALID, mr_concurrency_check(&good, NULL, NULL, &report));
    CHECK_STATUS(MR_E_INVALID, mr_concurrency_check(&good, &good, NULL, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_concurrency_check(&no_stream, &good, NULL, &report));
    CHECK_SAYS("the first side has no stream", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_concurrency_check(&good, &no_function, NULL, &report));
    CHECK_SAYS("the second side has no function", mr_last_error());
    CHECK_STATUS(MR_E_INVALID,
                 mr_concurrency_check(&good, &good,
                                      &(mr_concurrency_options){ .repeat_count = 1001 }, &report));
    CHECK_EQ(0, side.calls);
    side_fini(&side);
}

static mr_status check_inside(void *context, mr_stream *stream)
{
    struct side *side = context;
    mr_concurrency_report report;
    const mr_concurrency_side inner = { stream, fill, side };
    return mr_concurrency_check(&inner, &inner, NULL, &report);
}

static void a_check_inside_a_check_is_refused(mr_device *device)
{
    struct side one, two;
    mr_concurrency_report report;
    side_init(&one, device, MR_PLACE_PINNED);
    side_init(&two, device, MR_PLACE_PINNED);
    CHECK_STATUS(MR_E_STATE, mr_concurrency_check(
                                 &(mr_concurrency_side){ one.stream, check_inside, &one },
                                 &(mr_concurrency_side){ two.stream, fill, &two }, NULL, &report));
    CHECK_OK(mr_concurrency_check(&(mr_concurrency_side){ one.stream, fill, &one },
                                  &(mr_concurrency_side){ two.stream, fill, &two }, NULL, &report));
    side_fini(&one);
    side_fini(&two);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(work_that_meets_is_in_flight_at_one_time),
        SUITE_TEST(one_stream_runs_one_side_after_the_other),
        SUITE_TEST(a_stream_that_waits_for_the_other_is_named),
        SUITE_TEST(the_legacy_stream_is_named_beside_a_blocking_one),
        SUITE_TEST(work_on_a_stream_that_was_not_given_is_named),
        SUITE_TEST(a_graph_on_a_stream_that_was_not_given_is_named),
        SUITE_TEST(waits_and_allocations_inside_a_side_are_named),
        SUITE_TEST(pageable_copies_and_copies_of_one_direction_are_named),
        SUITE_TEST(failures_of_a_side_are_the_checks_own),
        SUITE_TEST(a_check_that_cannot_be_is_refused),
        SUITE_TEST(a_check_inside_a_check_is_refused),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
