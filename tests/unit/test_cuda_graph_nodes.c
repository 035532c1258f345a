/* SPDX-License-Identifier: MIT */
/* Graphs of the CUDA backend that are made node by node. */
#include "cuda_graph_rig.h"

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

    assert_ok(ops->plan_add(plan, &to, NULL, 0));
    assert_ok(ops->plan_add(plan, &kernel, (uint32_t[]){ 1 }, 1));
    assert_ok(ops->plan_add(plan, &fill, (uint32_t[]){ 2 }, 1));
    assert_ok(ops->plan_add(plan, &empty, (uint32_t[]){ 2, 3, 2 }, 3)); /* once is enough */
    assert_ok(ops->plan_add(plan, &from, (uint32_t[]){ 4 }, 1));
    expect_size(plan, 5, 5);
    struct mr_replay *replay = make_replay(plan);
    fakecuda_delay(200);
    run_on(queue, replay);

    expect_halves(5, 1);
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
    assert_ok(ops->plan_add(plan, &to, NULL, 0));
    struct mr_replay *short_one = make_replay(plan);

    assert_ok(ops->plan_clone(plan, &clone));
    assert_ok(ops->plan_add(clone, &from, (uint32_t[]){ 1 }, 1));

    expect_size(plan, 1, 0);
    expect_size(clone, 2, 1);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nodes_run_in_the_order_of_their_edges),
        TEST(rows_are_one_node),
        TEST(a_node_refuses_pageable_memory),
        TEST(a_clone_goes_its_own_way),
        TEST(a_captured_plan_takes_more_nodes),
        TEST(a_plan_becomes_a_node_of_another_and_of_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
