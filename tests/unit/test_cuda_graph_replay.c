/* SPDX-License-Identifier: MIT */
/* Replays of the CUDA backend: updates, the host functions that they call, and launches. */
#include "cuda_graph_rig.h"

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

    expect_halves(2, 1);
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
    expect_halves(1, 0);
    run_on(queue, twin);
    expect_far(1);

    /* And so does what a capture takes of it. */
    memset(far.host, 0, SIZE);
    assert_ok(ops->capture_begin(queue));
    assert_ok(ops->replay_launch(replay, queue));
    assert_ok(ops->capture_end(queue, &captured));
    struct mr_replay *nested = make_replay(captured);
    run_on(queue, nested);
    expect_halves(1, 0);

    ops->replay_destroy(nested);
    ops->plan_destroy(captured);
    ops->replay_destroy(twin);
    ops->replay_destroy(replay);
    ops->plan_destroy(plan);
    ops->function_destroy(function);
}

/* ---- host functions ---- */

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_update_takes_other_buffers_and_sizes),
        TEST(a_refused_update_names_the_node_and_changes_nothing),
        TEST(a_launch_keeps_what_it_was_launched_with),
        TEST(one_kernel_gets_other_arguments),
        TEST(calls_are_bound_to_each_replay),
        TEST(native_calls_are_left_alone),
        TEST(a_launch_is_one_call_of_the_driver),
        TEST(launches_of_one_replay_run_one_after_the_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
