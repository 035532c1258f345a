/* SPDX-License-Identifier: MIT */
/*
 * Graphs of the CUDA backend over the stand-in driver, without core in between: what goes into them,
 * what their replays do, what a refusal says, and every call and allocation on the way made to fail.
 */
#include "cuda_fixture.h"

#include "base/alloc.h"

#include <pthread.h>
#include <stdatomic.h>

enum { SIZE = 4096 };

static struct rig rig;
static struct mr_queue *queue, *other;
static struct mr_memory near, middle, far; /* pinned, device, pinned */

static void *keep_context(void *self, void *context)
{
    (void)self;
    return context;
}

static const struct mr_binder no_binder = { .bind = keep_context };

static int set_up(void **state)
{
    (void)state;
    assert_ok(rig_open(&rig));
    queue = make_queue(rig.device);
    other = make_queue(rig.device);
    near = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    middle = make_memory(rig.device, SIZE, MR_PLACE_DEVICE);
    far = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    memset(near.host, 1, SIZE);
    memset(far.host, 0, SIZE);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fakecuda_fail_at(0, NULL, 0);
    fakecuda_delay(0);
    end_queue(queue);
    end_queue(other);
    ops->memory_destroy(&near);
    ops->memory_destroy(&middle);
    ops->memory_destroy(&far);
    rig_close(&rig);
    unsetenv("FAKECUDA_DEVICES");
    return (int)fakecuda_live();
}

static void expect_far(unsigned char value)
{
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], value);
}

static void run_on(struct mr_queue *on, struct mr_replay *replay)
{
    assert_ok(ops->replay_launch(replay, on));
    assert_ok(ops->queue_wait(on, MR_FOREVER));
}

static struct mr_replay *make_replay(const struct mr_plan *plan)
{
    struct mr_replay *replay;
    assert_ok(ops->replay_create(plan, &no_binder, &replay));
    return replay;
}

/* near to middle to far, captured. */
static struct mr_plan *capture_round_trip(size_t size_bytes)
{
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));
    assert_ok(copy_flat(queue, &middle, 0, &near, 0, size_bytes));
    assert_ok(copy_flat(queue, &far, 0, &middle, 0, size_bytes));
    assert_ok(ops->capture_end(queue, &plan));
    return plan;
}

/* ---- kernels ---- */

static struct mr_function *make_copy_kernel(void)
{
    static const char image[] = ".version 7.0\n.visible .entry copy_u8(\n)\n";
    const struct mr_function_source source = { .language = MR_KERNEL_IMAGE,
                                               .name = "copy_u8",
                                               .text = image,
                                               .text_bytes = sizeof image,
                                               .path = "<memory>" };
    struct mr_function *function;
    assert_ok(ops->function_create(rig.device, &source, &function));
    return function;
}

struct copy_launch {
    uint64_t source, target, count;
    void *values[3];
    struct mr_function_launch launch;
};

static const struct mr_function_launch *launch_of(struct copy_launch *launch,
                                                  const struct mr_memory *target,
                                                  const struct mr_memory *source, uint64_t count)
{
    *launch = (struct copy_launch){ .source = source->address,
                                    .target = target->address,
                                    .count = count };
    launch->values[0] = &launch->source;
    launch->values[1] = &launch->target;
    launch->values[2] = &launch->count;
    launch->launch = (struct mr_function_launch){ .shape = { .grid = { 1 }, .block = { 32 } },
                                                  .values = launch->values,
                                                  .value_count = 3 };
    return &launch->launch;
}

/* ---- capture ---- */

static void captured_work_runs_when_it_is_launched_and_not_before(void **state)
{
    (void)state;
    size_t node_count, edge_count;

    struct mr_plan *plan = capture_round_trip(SIZE);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    expect_far(0);
    ops->plan_size(plan, &node_count, &edge_count);
    assert_int_equal(node_count, 2);
    assert_int_equal(edge_count, 1);
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
    size_t node_count, edge_count;

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
    ops->plan_size(plan, &node_count, &edge_count);
    assert_int_equal(node_count, 3);
    assert_int_equal(edge_count, 2);
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

static int set_up_two(void **state)
{
    setenv("FAKECUDA_DEVICES", "2", 1);
    return set_up(state);
}

/* ---- nodes one by one ---- */

static struct mr_work copy_work(struct mr_transfer *transfer, const struct mr_memory *target,
                                const struct mr_memory *source)
{
    *transfer = (struct mr_transfer){ .target = target,
                                      .source = source,
                                      .target_pitch = SIZE,
                                      .source_pitch = SIZE,
                                      .row_bytes = SIZE,
                                      .row_count = 1 };
    return (struct mr_work){ .kind = MR_WORK_COPY, .as.transfer = transfer };
}

static struct mr_plan *make_plan(void)
{
    struct mr_plan *plan;
    assert_ok(ops->plan_create(rig.device, &plan));
    return plan;
}

static void nodes_run_in_the_order_of_their_edges(void **state)
{
    (void)state;
    struct mr_function *function = make_copy_kernel();
    struct mr_memory second = make_memory(rig.device, SIZE, MR_PLACE_DEVICE);
    struct copy_launch launch;
    struct mr_transfer in, out;
    const struct mr_work to = copy_work(&in, &middle, &near);
    const struct mr_work kernel = { .kind = MR_WORK_LAUNCH,
                                    .as.launch = { function,
                                                   launch_of(&launch, &second, &middle, SIZE) } };
    const struct mr_work fill = { .kind = MR_WORK_FILL,
                                  .as.fill = { &second, 0, SIZE / 2, 0x0505, 2 } };
    const struct mr_work empty = { .kind = MR_WORK_EMPTY };
    const struct mr_work from = copy_work(&out, &far, &second);
    struct mr_plan *plan = make_plan();
    size_t node_count, edge_count;

    assert_ok(ops->plan_add(plan, &to, NULL, 0));
    assert_ok(ops->plan_add(plan, &kernel, (uint32_t[]){ 1 }, 1));
    assert_ok(ops->plan_add(plan, &fill, (uint32_t[]){ 2 }, 1));
    assert_ok(ops->plan_add(plan, &empty, (uint32_t[]){ 2, 3, 2 }, 3)); /* once is enough */
    assert_ok(ops->plan_add(plan, &from, (uint32_t[]){ 4 }, 1));
    ops->plan_size(plan, &node_count, &edge_count);
    assert_int_equal(node_count, 5);
    assert_int_equal(edge_count, 5);
    struct mr_replay *replay = make_replay(plan);
    fakecuda_delay(200);
    run_on(queue, replay);

    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2 ? 5 : 1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->memory_destroy(&second);
    ops->function_destroy(function);
}

static void rows_are_one_node(void **state)
{
    (void)state;
    const struct mr_transfer rows = { .target = &far,
                                      .source = &near,
                                      .target_offset = 1,
                                      .source_offset = 2,
                                      .target_pitch = 40,
                                      .source_pitch = 32,
                                      .row_bytes = 20,
                                      .row_count = 10 };
    const struct mr_work work = { .kind = MR_WORK_COPY, .as.transfer = &rows };
    struct mr_plan *plan = make_plan();
    for (int i = 0; i < SIZE; i++)
        ((unsigned char *)near.host)[i] = (unsigned char)(i * 7);

    assert_ok(ops->plan_add(plan, &work, NULL, 0));
    struct mr_replay *replay = make_replay(plan);
    run_on(queue, replay);

    for (int row = 0; row < 10; row++)
        assert_memory_equal((char *)far.host + 1 + row * 40, (char *)near.host + 2 + row * 32, 20);
    assert_int_equal(*(char *)far.host, 0);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

static void a_node_refuses_pageable_memory(void **state)
{
    (void)state;
    struct mr_memory pageable = make_memory(rig.device, SIZE, MR_PLACE_PAGEABLE);
    struct mr_transfer transfer;
    const struct mr_work copy = copy_work(&transfer, &middle, &pageable);
    const struct mr_work fill = { .kind = MR_WORK_FILL, .as.fill = { &pageable, 0, SIZE, 1, 1 } };
    struct mr_plan *plan = make_plan();

    assert_status(MR_E_UNSUPPORTED, ops->plan_add(plan, &copy, NULL, 0));
    assert_words("pageable");
    assert_status(MR_E_UNSUPPORTED, ops->plan_add(plan, &fill, NULL, 0));

    ops->plan_destroy(plan);
    ops->memory_destroy(&pageable);
}

static void a_clone_goes_its_own_way(void **state)
{
    (void)state;
    struct mr_transfer in, out;
    const struct mr_work to = copy_work(&in, &middle, &near), from = copy_work(&out, &far, &middle);
    struct mr_plan *plan = make_plan(), *clone;
    size_t count, edge_count;
    assert_ok(ops->plan_add(plan, &to, NULL, 0));
    struct mr_replay *short_one = make_replay(plan);

    assert_ok(ops->plan_clone(plan, &clone));
    assert_ok(ops->plan_add(clone, &from, (uint32_t[]){ 1 }, 1));

    ops->plan_size(plan, &count, &edge_count);
    assert_int_equal(count, 1);
    ops->plan_size(clone, &count, &edge_count);
    assert_int_equal(count, 2);
    ops->plan_destroy(plan);
    run_on(queue, short_one);
    expect_far(0);
    struct mr_replay *replay = make_replay(clone);
    ops->plan_destroy(clone);
    run_on(queue, replay);
    expect_far(1);
    ops->replay_destroy(short_one);
    ops->replay_destroy(replay);
}

static void a_captured_plan_takes_more_nodes(void **state)
{
    (void)state;
    struct mr_plan *plan;
    struct mr_transfer out;
    const struct mr_work from = copy_work(&out, &far, &middle);
    assert_ok(ops->capture_begin(queue));
    assert_ok(copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_ok(ops->capture_end(queue, &plan));

    assert_ok(ops->plan_add(plan, &from, (uint32_t[]){ 1 }, 1));
    struct mr_replay *replay = make_replay(plan);
    run_on(queue, replay);

    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

static void a_plan_becomes_a_node_of_another_and_of_itself(void **state)
{
    (void)state;
    struct mr_plan *child = capture_round_trip(SIZE), *plan = make_plan();
    const struct mr_work fill = { .kind = MR_WORK_FILL, .as.fill = { &near, 0, SIZE, 9, 1 } };
    const struct mr_work graph = { .kind = MR_WORK_PLAN, .as.plan = child };
    const struct mr_work self = { .kind = MR_WORK_PLAN, .as.plan = plan };

    assert_ok(ops->plan_add(plan, &fill, NULL, 0));
    assert_ok(ops->plan_add(plan, &graph, (uint32_t[]){ 1 }, 1));
    assert_ok(ops->plan_add(plan, &self, (uint32_t[]){ 2 }, 1));
    ops->plan_destroy(child);
    struct mr_replay *replay = make_replay(plan);
    run_on(queue, replay);

    expect_far(9);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

/* ---- updates ---- */

static void an_update_takes_other_buffers_and_sizes(void **state)
{
    (void)state;
    struct mr_plan *whole = capture_round_trip(SIZE), *half = capture_round_trip(SIZE / 2);
    struct mr_replay *replay = make_replay(whole);
    run_on(queue, replay);
    memset(near.host, 2, SIZE);

    assert_ok(ops->replay_update(replay, half, &no_binder));
    ops->plan_destroy(half);
    run_on(queue, replay);

    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2 ? 2 : 1);
    ops->replay_destroy(replay);
    ops->plan_destroy(whole);
}

static void a_refused_update_names_the_node_and_changes_nothing(void **state)
{
    (void)state;
    struct mr_plan *plan = capture_round_trip(SIZE), *longer = make_plan(), *another = make_plan();
    struct mr_replay *replay = make_replay(plan);
    struct mr_transfer in, out;
    const struct mr_work to = copy_work(&in, &middle, &near),
                         turned = copy_work(&out, &middle, &far);
    const struct mr_work fill = { .kind = MR_WORK_FILL, .as.fill = { &middle, 0, SIZE, 1, 1 } };

    assert_ok(ops->plan_add(longer, &to, NULL, 0));
    assert_status(MR_E_MISMATCH, ops->replay_update(replay, longer, &no_binder));
    assert_words("other nodes");
    assert_ok(ops->plan_add(longer, &fill, (uint32_t[]){ 1 }, 1));
    assert_status(MR_E_MISMATCH, ops->replay_update(replay, longer, &no_binder));
    assert_words("node 2");
    assert_words("another kind");
    assert_ok(ops->plan_add(another, &to, NULL, 0));
    assert_ok(ops->plan_add(another, &turned, (uint32_t[]){ 1 }, 1));
    assert_status(MR_E_MISMATCH, ops->replay_update(replay, another, &no_binder));
    assert_words("node 2");
    assert_words("memory");

    run_on(queue, replay);
    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->plan_destroy(longer);
    ops->plan_destroy(another);
}

static void a_launch_keeps_what_it_was_launched_with(void **state)
{
    (void)state;
    struct mr_plan *whole = capture_round_trip(SIZE), *half = capture_round_trip(SIZE / 2);
    struct mr_replay *replay = make_replay(whole);
    struct mr_gate *gate = shut(queue);

    assert_ok(ops->replay_launch(replay, queue));
    assert_ok(ops->replay_update(replay, half, &no_binder));
    open_gate(queue, gate);

    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(whole);
    ops->plan_destroy(half);
}

static void one_kernel_gets_other_arguments(void **state)
{
    (void)state;
    struct mr_function *function = make_copy_kernel();
    struct copy_launch launch;
    struct mr_plan *plan = make_plan(), *captured;
    const struct mr_work kernel = {
        .kind = MR_WORK_LAUNCH, .as.launch = { function, launch_of(&launch, &far, &near, SIZE) }
    };
    const struct mr_work empty = { .kind = MR_WORK_EMPTY };
    assert_ok(ops->plan_add(plan, &empty, NULL, 0));
    assert_ok(ops->plan_add(plan, &kernel, (uint32_t[]){ 1 }, 1));
    struct mr_replay *replay = make_replay(plan);
    struct mr_replay *twin = make_replay(plan);

    assert_ok(
        ops->replay_update_launch(replay, 2, function, launch_of(&launch, &far, &near, SIZE / 2)));
    run_on(queue, replay);
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2);
    run_on(queue, twin);
    expect_far(1);

    /* And so does what a capture takes of it. */
    memset(far.host, 0, SIZE);
    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->replay_launch(replay, queue));
    assert_ok(ops->capture_end(queue, &captured));
    struct mr_replay *nested = make_replay(captured);
    run_on(queue, nested);
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2);

    ops->replay_destroy(nested);
    ops->plan_destroy(captured);
    ops->replay_destroy(twin);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->function_destroy(function);
}

/* ---- host functions ---- */

struct counter {
    atomic_int count;
    struct counter *bound; /* what a replay is to call instead */
};

static void count_up(void *context)
{
    atomic_fetch_add(&((struct counter *)context)->count, 1);
}

/* Counts how often it is asked, and gives the context's own stand-in. */
static void *give_bound(void *self, void *context)
{
    ++*(int *)self;
    return ((struct counter *)context)->bound;
}

static void calls_are_bound_to_each_replay(void **state)
{
    (void)state;
    struct counter first = { 0 }, second = { 0 }, counter = { 0 };
    struct mr_plan *captured, *plan = make_plan();
    int asked = 0;
    const struct mr_binder binder = { give_bound, &asked };
    const struct mr_work call = { .kind = MR_WORK_CALL, .as.call = { count_up, &counter } };
    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->call(queue, count_up, &counter));
    assert_ok(ops->capture_end(queue, &captured));
    const struct mr_work graph = { .kind = MR_WORK_PLAN, .as.plan = captured };
    assert_ok(ops->plan_add(plan, &call, NULL, 0));
    assert_ok(ops->plan_add(plan, &graph, (uint32_t[]){ 1 }, 1));

    struct mr_replay *one, *two;
    counter.bound = &first;
    assert_ok(ops->replay_create(plan, &binder, &one));
    assert_int_equal(asked, 2);
    counter.bound = &second;
    assert_ok(ops->replay_create(plan, &binder, &two));
    ops->plan_destroy(captured);
    run_on(queue, one);
    run_on(queue, one);
    run_on(other, two);
    assert_int_equal(atomic_load(&first.count), 4);
    assert_int_equal(atomic_load(&second.count), 2);

    asked = 0;
    counter.bound = &second;
    assert_ok(ops->replay_update(one, plan, &binder));
    assert_int_equal(asked, 2);
    run_on(queue, one);
    assert_int_equal(atomic_load(&first.count), 4);
    assert_int_equal(atomic_load(&second.count), 4);
    assert_int_equal(atomic_load(&counter.count), 0);

    ops->replay_destroy(one);
    ops->replay_destroy(two);
    ops->plan_destroy(plan);
}

static void library_call(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

/* A host function that came by the native stream is nobody's to bind. */
static void native_calls_are_left_alone(void **state)
{
    (void)state;
    extern int cuLaunchHostFunc(void *, void (*)(void *), void *);
    struct counter counter = { 0 }, bound = { 0 };
    atomic_int native = 0;
    struct mr_plan *plan;
    struct mr_replay *replay;
    int asked = 0;
    const struct mr_binder binder = { give_bound, &asked };
    counter.bound = &bound;
    assert_ok(ops->capture_begin(queue));
    assert_int_equal(cuLaunchHostFunc(ops->queue_native(queue), library_call, &native), 0);
    assert_ok(ops->call(queue, count_up, &counter));
    assert_ok(ops->capture_end(queue, &plan));

    assert_ok(ops->replay_create(plan, &binder, &replay));
    run_on(queue, replay);

    assert_int_equal(asked, 1);
    assert_int_equal(atomic_load(&native), 1);
    assert_int_equal(atomic_load(&bound.count), 1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

/* ---- launches ---- */

static void a_launch_is_one_call_of_the_driver(void **state)
{
    (void)state;
    struct mr_plan *plan = capture_round_trip(SIZE);
    struct mr_replay *replay = make_replay(plan);
    assert_ok(ops->replay_upload(replay, queue));

    const uint64_t before = fakecuda_count_all();
    assert_ok(ops->replay_launch(replay, queue));
    const uint64_t after = fakecuda_count_all();

    assert_int_equal(after - before, 1);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

struct lane {
    int inside, passed; /* plain: launches of one replay must not meet */
};

static void pass(void *context)
{
    struct lane *lane = context;
    lane->inside++;
    nanosleep(&(struct timespec){ .tv_nsec = 20000 }, NULL);
    lane->passed += lane->inside == 1;
    lane->inside--;
}

static void launches_of_one_replay_run_one_after_the_other(void **state)
{
    (void)state;
    struct lane lane = { 0 };
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));
    assert_ok(copy_flat(queue, &middle, 0, &near, 0, SIZE));
    assert_ok(ops->call(queue, pass, &lane));
    assert_ok(copy_flat(queue, &far, 0, &middle, 0, SIZE));
    assert_ok(ops->capture_end(queue, &plan));
    struct mr_replay *replay = make_replay(plan);
    fakecuda_delay(100);

    for (int i = 0; i < 20; i++)
        assert_ok(ops->replay_launch(replay, i % 2 ? queue : other));
    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    assert_ok(ops->queue_wait(other, MR_FOREVER));

    assert_int_equal(lane.passed, 20);
    expect_far(1);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
}

static void a_launch_in_a_capture_becomes_a_node(void **state)
{
    (void)state;
    struct mr_plan *inner = capture_round_trip(SIZE), *half = capture_round_trip(SIZE / 2);
    struct mr_plan *outer;
    size_t node_count, edge_count;
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

    ops->plan_size(outer, &node_count, &edge_count);
    assert_int_equal(node_count, 3);
    assert_int_equal(edge_count, 2);
    replay = make_replay(outer);
    run_on(queue, replay);

    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2 ? 3 : 0);
    assert_int_equal(*(char *)near.host, 4);
    ops->replay_destroy(replay);
    ops->plan_destroy(outer);
}

/* ---- the Nth call fails ---- */

static mr_status fill_plan(struct mr_plan *plan, struct mr_function *function,
                           struct counter *counter)
{
    struct copy_launch launch;
    struct mr_transfer in;
    const struct mr_work works[] = {
        copy_work(&in, &middle, &near),
        { .kind = MR_WORK_LAUNCH,
          .as.launch = { function, launch_of(&launch, &far, &middle, SIZE) } },
        { .kind = MR_WORK_FILL, .as.fill = { &middle, 0, SIZE, 1, 4 } },
        { .kind = MR_WORK_CALL, .as.call = { count_up, counter } },
        { .kind = MR_WORK_EMPTY },
        { .kind = MR_WORK_PLAN, .as.plan = plan },
    };
    mr_status status = MR_OK;
    for (uint32_t i = 0; i < sizeof works / sizeof *works && !status; i++)
        status = ops->plan_add(plan, &works[i], &i, i != 0);
    return status;
}

static mr_status use_plan(struct mr_function *function, struct counter *counter)
{
    struct mr_plan *plan, *clone = NULL;
    struct mr_replay *replay = NULL;
    struct copy_launch launch;
    size_t node_count, edge_count;
    int asked = 0;
    const struct mr_binder binder = { give_bound, &asked };
    mr_status status = ops->plan_create(rig.device, &plan);
    if (status)
        return status;
    status = fill_plan(plan, function, counter);
    if (!status)
        status = ops->plan_clone(plan, &clone);
    if (!status)
        status = ops->plan_add(clone, &(struct mr_work){ .kind = MR_WORK_EMPTY }, NULL, 0);
    ops->plan_size(plan, &node_count, &edge_count);
    if (!status)
        status = ops->replay_create(plan, &binder, &replay);
    if (!status)
        status = ops->replay_update(replay, plan, &binder);
    if (!status)
        status =
            ops->replay_update_launch(replay, 2, function, launch_of(&launch, &far, &near, SIZE));
    if (!status)
        status = ops->replay_upload(replay, queue);
    if (!status)
        status = ops->replay_launch(replay, queue);
    const mr_status end = ops->queue_wait(queue, MR_FOREVER);
    ops->replay_destroy(replay);
    ops->plan_destroy(clone);
    ops->plan_destroy(plan);
    return status ? status : end;
}

static mr_status record(struct mr_replay *inner, struct counter *counter)
{
    struct mr_point *fork = NULL, *join = NULL;
    mr_status status = copy_flat(queue, &middle, 0, &near, 0, SIZE);
    if (!status)
        status = ops->point_record(queue, false, &fork);
    if (!status)
        status = ops->queue_wait_point(other, fork);
    if (!status)
        status = ops->call(other, count_up, counter);
    if (!status)
        status = ops->replay_launch(inner, other);
    if (!status)
        status = ops->point_record(other, false, &join);
    if (!status)
        status = ops->queue_wait_point(queue, join);
    if (fork)
        ops->point_release(fork);
    if (join)
        ops->point_release(join);
    return status;
}

static mr_status use_capture(struct counter *counter)
{
    struct mr_plan *inner, *plan = NULL;
    struct mr_replay *replay = NULL, *outer = NULL;
    mr_status status = ops->plan_create(rig.device, &inner);
    if (status)
        return status;
    int asked = 0;
    const struct mr_binder binder = { give_bound, &asked };
    status = ops->replay_create(inner, &no_binder, &replay);
    if (!status)
        status = ops->capture_begin(queue);
    if (!status) {
        const mr_status recorded = record(replay, counter);
        status = ops->capture_end(queue, &plan);
        status = recorded ? recorded : status;
    }
    if (!status)
        status = ops->replay_create(plan, &binder, &outer);
    if (!status)
        status = ops->replay_launch(outer, queue);
    const mr_status end = ops->queue_wait(queue, MR_FOREVER);
    ops->replay_destroy(outer);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->plan_destroy(inner);
    return status ? status : end;
}

static mr_status use_all(void)
{
    struct counter bound = { 0 }, counter = { .bound = &bound };
    mr_status status = use_capture(&counter);
    if (status)
        return status;
    struct mr_function *function = make_copy_kernel();
    status = use_plan(function, &counter);
    ops->function_destroy(function);
    return status;
}

static bool fail_once(uint64_t n, bool is_heap)
{
    mr_error_set(MR_OK, "%s", "");
    struct counter bound = { 0 }, counter = { .bound = &bound };
    struct mr_function *function = make_copy_kernel();
    if (is_heap)
        mr__alloc_fail_at(n, 0);
    else
        fakecuda_fail_at(n, NULL, 0);
    mr_status status = use_capture(&counter);
    if (!status)
        status = use_plan(function, &counter);
    const bool has_failed = is_heap ? mr__alloc_has_failed() : fakecuda_has_failed();
    mr__alloc_fail_at(0, 0);
    fakecuda_fail_at(0, NULL, 0);
    ops->function_destroy(function);
    if (!has_failed)
        assert_ok(status);
    if (status && !*mr_last_error())
        fail_msg("failure %d has no words", (int)n);
    void *unused = NULL;
    (void)tear_down(&unused); /* the context may be broken: all anew */
    if (fakecuda_live())
        fail_msg("failure %d leaves %d things", (int)n, (int)fakecuda_live());
    (void)set_up(&unused);
    return has_failed;
}

static void every_driver_call_may_fail(void **state)
{
    (void)state;
    uint64_t n = 1;
    assert_ok(use_all());
    while (fail_once(n, false))
        n++;
    assert_true(n > 60);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    uint64_t n = 1;
    while (fail_once(n, true))
        n++;
    assert_true(n > 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

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
        cmocka_unit_test_setup_teardown(work_between_devices_is_captured, set_up_two, tear_down),
        TEST(nodes_run_in_the_order_of_their_edges),
        TEST(rows_are_one_node),
        TEST(a_node_refuses_pageable_memory),
        TEST(a_clone_goes_its_own_way),
        TEST(a_captured_plan_takes_more_nodes),
        TEST(a_plan_becomes_a_node_of_another_and_of_itself),
        TEST(an_update_takes_other_buffers_and_sizes),
        TEST(a_refused_update_names_the_node_and_changes_nothing),
        TEST(a_launch_keeps_what_it_was_launched_with),
        TEST(one_kernel_gets_other_arguments),
        TEST(calls_are_bound_to_each_replay),
        TEST(native_calls_are_left_alone),
        TEST(a_launch_is_one_call_of_the_driver),
        TEST(launches_of_one_replay_run_one_after_the_other),
        TEST(a_launch_in_a_capture_becomes_a_node),
        TEST(every_driver_call_may_fail),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
