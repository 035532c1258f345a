/* SPDX-License-Identifier: MIT */
/* Capture on the CUDA backend: what becomes of work that is recorded, and what may go on beside it. */
#include "cuda_graph_rig.h"

#include <pthread.h>

static void captured_work_runs_when_it_is_launched_and_not_before(void **state)
{
    (void)state;

    struct mr_plan *plan = capture_round_trip(SIZE);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    expect_far(0);
    expect_size(plan, 2, 1);
    struct mr_replay *replay = make_replay(plan);
    ops->plan_destroy(plan);
    for (int lap = 1; lap < 5; lap++) {
        memset(near.host, lap, SIZE);
        run_on(lap % 2 ? queue : other, replay);
        expect_far((unsigned char)lap);
    }

    ops->replay_destroy(replay);
}

static void a_stream_forks_off_and_joins_again(void **state)
{
    (void)state;
    struct mr_point *fork, *join;
    struct mr_plan *plan;

    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->fill(queue, &middle, 0, SIZE, 7, 1));
    assert_ok(ops->point_record(queue, false, &fork));
    assert_ok(ops->queue_wait_point(other, fork));
    ops->point_release(fork);
    assert_ok(copy_flat(other, &far, 0, &middle, 0, SIZE / 2));
    assert_ok(copy_flat(queue, &far, SIZE / 2, &middle, 0, SIZE / 2));
    assert_ok(ops->point_record(other, true, &join));
    assert_ok(ops->queue_wait_point(queue, join));
    ops->point_release(join);
    assert_ok(ops->capture_end(queue, &plan));
    expect_size(plan, 3, 2);
    struct mr_replay *replay = make_replay(plan);
    run_on(queue, replay);

    expect_far(7);
    assert_ok(ops->queue_query(other));
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

/* The events of a capture go back to the pool like any other. */
static void points_of_a_capture_serve_again(void **state)
{
    (void)state;
    struct mr_point *point;
    ops->plan_destroy(capture_round_trip(SIZE));
    for (int i = 0; i < 3; i++) {
        struct mr_plan *plan;
        assert_ok(ops->capture_begin(queue));
        assert_ok(ops->point_record(queue, false, &point));
        ops->point_release(point);
        assert_ok(ops->capture_end(queue, &plan));
        ops->plan_destroy(plan);

        assert_ok(ops->point_record(queue, false, &point));
        assert_ok(ops->point_wait(point, MR_FOREVER));
        assert_ok(ops->queue_wait_point(other, point));
        ops->point_release(point);
    }
}

static void a_stream_that_is_not_joined_is_named_as_the_reason(void **state)
{
    (void)state;
    struct mr_point *fork;
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->point_record(queue, false, &fork));
    assert_ok(ops->queue_wait_point(other, fork));
    ops->point_release(fork);
    assert_ok(ops->fill(other, &middle, 0, SIZE, 1, 1));

    assert_status(MR_E_STATE, ops->capture_end(queue, &plan));

    assert_null(plan);
    assert_words("unjoined");
    assert_ok(ops->fill(queue, &middle, 0, SIZE, 1, 1));
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    assert_ok(ops->queue_wait(other, MR_FOREVER));
}

static void pageable_memory_is_refused(void **state)
{
    (void)state;
    struct mr_memory pageable = make_memory(rig.device, SIZE, MR_PLACE_PAGEABLE);
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));

    assert_status(MR_E_STATE, copy_flat(queue, &middle, 0, &pageable, 0, SIZE));
    assert_words("pageable");
    assert_status(MR_E_STATE, copy_flat(queue, &pageable, 0, &middle, 0, SIZE));
    assert_status(MR_E_STATE, copy_flat(queue, &pageable, 0, &near, 0, SIZE));
    assert_status(MR_E_STATE, ops->fill(queue, &pageable, 0, SIZE, 1, 1));

    assert_ok(ops->capture_end(queue, &plan));
    ops->plan_destroy(plan);
    ops->memory_destroy(&pageable);
}

/* Everything that allocates or may wait, about anything but the captured queue. */
static void the_capturing_thread_may_use_the_rest_of_the_device(void **state)
{
    (void)state;
    struct mr_plan *plan;
    struct mr_point *point;
    struct mr_replay *old = NULL;
    struct mr_plan *round_trip = capture_round_trip(SIZE);
    assert_ok(ops->replay_create(round_trip, &no_binder, &old));
    assert_ok(ops->capture_begin(queue));

    struct mr_memory device = make_memory(rig.device, 64, MR_PLACE_DEVICE);
    struct mr_memory pinned = make_memory(rig.device, 64, MR_PLACE_PINNED);
    struct mr_queue *third = make_queue(rig.device);
    assert_ok(ops->fill(third, &device, 0, 64, 1, 1));
    assert_ok(ops->point_record(third, false, &point));
    assert_ok(ops->point_wait(point, MR_FOREVER));
    assert_ok(ops->point_query(point));
    ops->point_release(point);
    assert_ok(ops->queue_wait(third, 1000000000));
    assert_ok(ops->queue_wait(third, MR_FOREVER));
    assert_ok(ops->queue_query(third));
    run_on(third, old);
    ops->replay_destroy(old);
    assert_ok(ops->replay_create(round_trip, &no_binder, &old));
    ops->replay_destroy(old);
    ops->function_destroy(make_copy_kernel());
    end_queue(third);
    ops->memory_destroy(&pinned);
    ops->memory_destroy(&device);

    assert_ok(copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_ok(ops->capture_end(queue, &plan));
    ops->plan_destroy(plan);
    ops->plan_destroy(round_trip);
}

static void *use_device(void *unused)
{
    for (int i = 0; i < 20; i++) {
        struct mr_memory memory;
        if (ops->memory_create(rig.device, SIZE, MR_PLACE_DEVICE, &memory))
            return unused;
        const mr_status status = ops->fill(other, &memory, 0, SIZE, 1, 1);
        const mr_status end = ops->queue_wait(other, MR_FOREVER);
        ops->memory_destroy(&memory);
        if (status || end)
            return unused;
    }
    return NULL;
}

static void another_thread_disturbs_no_capture(void **state)
{
    (void)state;
    pthread_t thread;
    void *failed;
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));

    assert_int_equal(pthread_create(&thread, NULL, use_device, &rig), 0);
    for (int i = 0; i < 100; i++)
        assert_ok(copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_int_equal(pthread_join(thread, &failed), 0);

    assert_null(failed);
    assert_ok(ops->capture_end(queue, &plan));
    ops->plan_destroy(plan);
}

/* As a library would on the native stream. */
static void a_native_call_that_is_not_allowed_breaks_the_capture(void **state)
{
    (void)state;
    extern int cuMemAlloc_v2(unsigned long long *, size_t);
    extern int cuCtxSetCurrent(void *);
    unsigned long long address;
    struct mr_plan *plan;
    assert_int_equal(cuCtxSetCurrent(ops->device_native(rig.device)), 0);
    assert_ok(ops->capture_begin(queue));

    assert_int_equal(cuMemAlloc_v2(&address, 64), 900);
    assert_status(MR_E_STATE, copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_status(MR_E_STATE, ops->capture_end(queue, &plan));

    assert_words("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED");
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
}

static void the_default_stream_of_a_thread_is_captured(void **state)
{
    (void)state;
    struct mr_queue *mine;
    struct mr_plan *plan;
    assert_ok(ops->queue_create(rig.device, MR_STREAM_PER_THREAD, 0, &mine));
    assert_ok(ops->capture_begin(mine));
    assert_ok(copy_flat(mine, &middle, 0, &near, 0, SIZE));
    assert_ok(copy_flat(mine, &far, 0, &middle, 0, SIZE));
    assert_ok(ops->capture_end(mine, &plan));
    struct mr_replay *replay = make_replay(plan);

    run_on(mine, replay);

    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    end_queue(mine);
}

static void work_between_devices_is_captured(void **state)
{
    (void)state;
    struct mr_memory there = make_memory(rig.peer, SIZE, MR_PLACE_DEVICE);
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));
    assert_ok(copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_ok(copy_flat(queue, &there, 0, &middle, 0, SIZE));
    assert_ok(copy_flat(queue, &far, 0, &there, 0, SIZE));
    assert_ok(ops->capture_end(queue, &plan));
    struct mr_replay *replay = make_replay(plan);

    run_on(queue, replay);

    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->memory_destroy(&there);
}

static void a_launch_in_a_capture_becomes_a_node(void **state)
{
    (void)state;
    struct mr_plan *inner = capture_round_trip(SIZE), *half = capture_round_trip(SIZE / 2);
    struct mr_plan *outer;
    struct mr_replay *replay = make_replay(inner);
    assert_ok(ops->replay_update(replay, half, &no_binder));
    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->fill(queue, &near, 0, SIZE, 3, 1));
    assert_ok(ops->replay_launch(replay, queue));
    assert_ok(ops->fill(queue, &near, 0, SIZE, 4, 1));
    assert_ok(ops->capture_end(queue, &outer));
    ops->replay_destroy(replay);
    ops->plan_destroy(inner);
    ops->plan_destroy(half);

    expect_size(outer, 3, 2);
    replay = make_replay(outer);
    run_on(queue, replay);

    expect_halves(3, 0);
    assert_int_equal(*(char *)near.host, 4);
    ops->replay_destroy(replay);
    ops->plan_destroy(outer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(captured_work_runs_when_it_is_launched_and_not_before),
        TEST(a_stream_forks_off_and_joins_again),
        TEST(points_of_a_capture_serve_again),
        TEST(a_stream_that_is_not_joined_is_named_as_the_reason),
        TEST(pageable_memory_is_refused),
        TEST(the_capturing_thread_may_use_the_rest_of_the_device),
        TEST(another_thread_disturbs_no_capture),
        TEST(a_native_call_that_is_not_allowed_breaks_the_capture),
        TEST(the_default_stream_of_a_thread_is_captured),
        TEST_TWO(work_between_devices_is_captured),
        TEST(a_launch_in_a_capture_becomes_a_node),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
