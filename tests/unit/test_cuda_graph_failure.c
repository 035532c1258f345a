/* SPDX-License-Identifier: MIT */
/* Graphs of the CUDA backend with every driver call and every allocation on the way failing. */
#include "cuda_graph_rig.h"
#include "support/fault_driver.h"

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

static mr_status use_all(struct mr_function *function)
{
    struct counter bound = { 0 }, counter = { .bound = &bound };
    const mr_status status = use_capture(&counter);
    return status ? status : use_plan(function, &counter);
}

static void survive(struct fault *fault)
{
    while (fault_next(fault)) {
        struct mr_function *function = make_copy_kernel();
        fault_begin(fault);
        const mr_status status = use_all(function);
        fault_end(fault, status);
        ops->function_destroy(function);
        void *unused = NULL;
        (void)tear_down(&unused); /* the context may be broken: all anew */
        fault_leaves_nothing(fault);
        (void)set_up(&unused);
    }
}

static void every_driver_call_may_fail(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    survive(&fault);
    assert_true(fault.nth > 60);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_allocation };
    survive(&fault);
    assert_true(fault.nth > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_driver_call_may_fail),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
