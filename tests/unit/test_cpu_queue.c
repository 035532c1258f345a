/* SPDX-License-Identifier: MIT */
/*
 * CPU queues, points and gates: order, parking, waiting, and the ends of things.
 */
#include "cpu_fixture.h"

#include "base/clock.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MANY = 5000 };

/* ---- what calls do ---- */

struct counter {
    uint64_t next;
    bool is_ordered;
};

struct step {
    struct counter *counter;
    uint64_t expected;
};

static void count_step(void *context)
{
    struct step *step = context;
    step->counter->is_ordered &= step->counter->next == step->expected;
    step->counter->next++;
}

static void add_one(void *context)
{
    ++*(uint64_t *)context;
}

/* A microsecond at least, on any processor. */
static void spend_time(void *context)
{
    const uint64_t end_ns = mr__clock_now_ns() + 1000;
    (void)context;
    while (mr__clock_now_ns() < end_ns)
        mr__relax();
}

static void raise_flag(void *context)
{
    atomic_store((_Atomic bool *)context, true);
}

/* ---- order ---- */

static void queue_runs_in_the_order_of_submission(void **state)
{
    static struct step steps[MANY];
    struct counter counter = { .is_ordered = true };
    struct mr_backend_device *device = open_device(3);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;

    for (uint64_t i = 0; i < MANY; i++) {
        steps[i] = (struct step){ &counter, i };
        CHECK_OK(ops->call(queue, count_step, &steps[i]));
    }
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK(counter.is_ordered);
    CHECK_EQ(MANY, counter.next);
    CHECK_OK(ops->queue_query(queue));
    end_queue(queue);
    ops->device_close(device);
}

static void queue_wait_times_out_while_work_runs(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;
    brake_put_on(queue, &brake);

    CHECK_STATUS(MR_E_BUSY, ops->queue_query(queue));
    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(queue, 0));
    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(queue, 1000000));

    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));
    end_queue(queue);
    ops->device_close(device);
}

static void queue_takes_more_than_a_chunk_while_it_is_held(void **state)
{
    struct brake brake = { 0 };
    uint64_t count = 0;
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;

    for (int round = 0; round < 3; round++) {
        brake = (struct brake){ 0 };
        brake_put_on(queue, &brake);
        for (int i = 0; i < 20 * MANY; i++)
            CHECK_OK(ops->call(queue, add_one, &count));
        brake_let_go(&brake);
        CHECK_OK(ops->queue_wait(queue, MR_FOREVER));
    }

    CHECK_EQ(3 * 20 * MANY, count);
    end_queue(queue);
    ops->device_close(device);
}

static void higher_priority_runs_first(void **state)
{
    struct brake brake = { 0 };
    struct counter counter = { .is_ordered = true };
    struct step steps[6];
    struct mr_queue *queues[6], *held;
    struct mr_backend_device *device = open_device(1);
    (void)state;
    held = open_queue(device, MR_STREAM_NON_BLOCKING);
    brake_put_on(held, &brake);

    for (int i = 0; i < 6; i++) {
        CHECK_OK(ops->queue_create(device, MR_STREAM_NON_BLOCKING, -i, &queues[i]));
        steps[i] = (struct step){ &counter, (uint64_t)(5 - i) };
        CHECK_OK(ops->call(queues[i], count_step, &steps[i]));
    }
    brake_let_go(&brake);
    CHECK_OK(ops->device_synchronize(device));

    CHECK(counter.is_ordered);
    for (int i = 0; i < 6; i++)
        end_queue(queues[i]);
    end_queue(held);
    ops->device_close(device);
}

static void long_queue_gives_way_to_its_equals(void **state)
{
    struct brake brake = { 0 }, end = { 0 };
    _Atomic bool had_turn = false;
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *greedy = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_queue *modest = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;

    /* The greedy queue has a millisecond of work, many turns, and does not end before the test says
     * so: only if it gives way does the modest one run. */
    brake_put_on(greedy, &brake);
    CHECK_OK(ops->call(modest, raise_flag, &had_turn));
    for (int i = 0; i < MANY; i++)
        CHECK_OK(ops->call(greedy, spend_time, NULL));
    CHECK_OK(ops->call(greedy, brake_hold, &end));
    brake_let_go(&brake);
    while (!atomic_load(&had_turn))
        sched_yield();
    CHECK_STATUS(MR_E_BUSY, ops->queue_query(greedy));
    brake_let_go(&end);

    end_queue(greedy);
    end_queue(modest);
    ops->device_close(device);
}

static void submitting_to_a_busy_worker_wakes_nobody(void **state)
{
    struct brake brake = { 0 };
    uint64_t count = 0;
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    const struct cpu_scheduler *scheduler = &cpu_device_from(device)->scheduler;
    (void)state;

    brake_put_on(queue, &brake);
    const uint64_t wake_count = scheduler->wake_count;
    for (int i = 0; i < MANY; i++)
        CHECK_OK(ops->call(queue, add_one, &count));
    CHECK_EQ(wake_count, scheduler->wake_count);
    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK_EQ(MANY, count);
    end_queue(queue);
    ops->device_close(device);
}

static void look_at_signals(void *context)
{
    sigset_t blocked;
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    *(bool *)context = sigismember(&blocked, SIGINT) && sigismember(&blocked, SIGTERM);
}

static void workers_leave_signals_to_the_program(void **state)
{
    bool is_blocked = false;
    sigset_t blocked;
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    (void)state;

    CHECK_OK(ops->call(queue, look_at_signals, &is_blocked));
    end_queue(queue);
    CHECK(is_blocked);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    CHECK(!sigismember(&blocked, SIGINT));
    ops->device_close(device);
}

/* The child has the device's memory but none of its workers. */
static void forked_child_can_close_the_device(void **state)
{
    struct mr_backend_device *device = open_device(2);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    int result;
    (void)state;
    while (atomic_load(&cpu_device_from(device)->scheduler.idle_count) < 2)
        sched_yield();

    const pid_t child = fork();
    if (child == 0) {
        ops->queue_destroy(queue);
        ops->device_close(device);
        _exit(0);
    }
    CHECK(child > 0);
    CHECK_EQ(child, waitpid(child, &result, 0));
    CHECK_EQ(0, result);

    end_queue(queue);
    ops->device_close(device);
}

/* ---- points ---- */

static void point_is_reached_when_the_work_before_it_has_ended(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_point *before, *after;
    (void)state;

    CHECK_OK(ops->point_record(queue, false, &before));
    CHECK_OK(ops->point_query(before));
    brake_put_on(queue, &brake);
    CHECK_OK(ops->point_record(queue, false, &after));
    CHECK_STATUS(MR_E_BUSY, ops->point_query(after));
    CHECK_STATUS(MR_E_TIMEOUT, ops->point_wait(after, 100000));
    brake_let_go(&brake);
    CHECK_OK(ops->point_wait(after, MR_FOREVER));
    CHECK_OK(ops->point_query(after));

    end_queue(queue);
    CHECK_OK(ops->point_query(after));
    ops->point_retain(after);
    ops->point_release(after);
    ops->point_release(after);
    ops->point_release(before);
    ops->device_close(device);
}

static void points_with_timing_tell_the_time_between(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(2);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_point *start, *end, *plain;
    int64_t elapsed_ns;
    (void)state;

    CHECK_OK(ops->point_record(queue, true, &start));
    brake_put_on(queue, &brake);
    CHECK_OK(ops->point_record(queue, true, &end));
    CHECK_OK(ops->point_record(queue, false, &plain));
    CHECK_STATUS(MR_E_BUSY, ops->point_elapsed(start, end, &elapsed_ns));
    CHECK_STATUS(MR_E_INVALID, ops->point_elapsed(start, plain, &elapsed_ns));
    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK_OK(ops->point_elapsed(start, end, &elapsed_ns));
    CHECK(elapsed_ns > 0);
    CHECK_OK(ops->point_elapsed(end, start, &elapsed_ns));
    CHECK(elapsed_ns < 0);
    ops->point_release(start);
    ops->point_release(end);
    ops->point_release(plain);
    end_queue(queue);
    ops->device_close(device);
}

static void queue_waits_for_a_point_without_holding_the_only_worker(void **state)
{
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *first = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_queue *second = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct counter counter = { .is_ordered = true };
    struct step steps[MANY];
    struct mr_gate *gate;
    (void)state;

    /* Nothing of the first queue can run before the gate opens; all of it is submitted before. */
    CHECK_OK(ops->gate_create(device, &gate));
    CHECK_OK(ops->queue_wait_gate(first, gate));
    for (uint64_t i = 0; i < MANY; i++) {
        struct mr_queue *from = i % 2 ? second : first, *to = i % 2 ? first : second;
        struct mr_point *point;
        steps[i] = (struct step){ &counter, i };
        CHECK_OK(ops->call(from, count_step, &steps[i]));
        CHECK_OK(ops->point_record(from, false, &point));
        CHECK_OK(ops->queue_wait_point(to, point));
        ops->point_release(point);
    }
    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(second, 1000000));
    ops->gate_open(gate);
    CHECK_OK(ops->device_synchronize(device));

    CHECK(counter.is_ordered);
    CHECK_EQ(MANY, counter.next);
    ops->gate_destroy(gate);
    end_queue(first);
    end_queue(second);
    ops->device_close(device);
}

static void queue_waits_for_a_point_of_another_device(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *here = open_device(1), *there = open_device(1);
    struct mr_queue *waiting = open_queue(here, MR_STREAM_NON_BLOCKING);
    struct mr_queue *waited = open_queue(there, MR_STREAM_NON_BLOCKING);
    struct mr_point *point;
    uint64_t count = 0;
    (void)state;

    brake_put_on(waited, &brake);
    CHECK_OK(ops->point_record(waited, false, &point));
    CHECK_OK(ops->queue_wait_point(waiting, point));
    CHECK_OK(ops->call(waiting, add_one, &count));
    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(waiting, 1000000));
    CHECK_EQ(0, count);
    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(waiting, MR_FOREVER));

    CHECK_EQ(1, count);
    end_queue(waited);
    ops->point_release(point);
    end_queue(waiting);
    ops->device_close(here);
    ops->device_close(there);
}

static void gate_opened_before_the_wait_lets_through(void **state)
{
    struct mr_backend_device *device = open_device(1);
    struct mr_queue *queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_gate *gate;
    (void)state;

    CHECK_OK(ops->gate_create(device, &gate));
    ops->gate_open(gate);
    CHECK_OK(ops->queue_wait_gate(queue, gate));
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    ops->gate_destroy(gate);
    end_queue(queue);
    ops->device_close(device);
}

static void steady_work_allocates_nothing(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(2);
    struct mr_queue *first = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_queue *second = open_queue(device, MR_STREAM_NON_BLOCKING);
    uint64_t count = 0;
    (void)state;

    /* The first round is held until all of it is submitted: no later one needs more. */
    brake_put_on(first, &brake);
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < (round == 0 ? 800 : 400); i++) {
            struct mr_point *point;
            CHECK_OK(ops->call(first, add_one, &count));
            CHECK_OK(ops->point_record(first, true, &point));
            CHECK_OK(ops->queue_wait_point(second, point));
            ops->point_release(point);
        }
        brake_let_go(&brake);
        CHECK_OK(ops->device_synchronize(device));
        mr__alloc_fail_at(1, 1);
    }

    CHECK(!mr__alloc_has_failed());
    mr__alloc_fail_at(0, 0);
    end_queue(first);
    end_queue(second);
    ops->device_close(device);
}

/* ---- default queues ---- */

static void legacy_queue_waits_for_blocking_queues_and_they_for_it(void **state)
{
    struct brake brake = { 0 };
    struct counter counter = { .is_ordered = true };
    struct step steps[3];
    struct mr_backend_device *device = open_device(3);
    struct mr_queue *early = open_queue(device, MR_STREAM_BLOCKING);
    struct mr_queue *late = open_queue(device, MR_STREAM_BLOCKING);
    struct mr_queue *legacy = open_queue(device, MR_STREAM_LEGACY);
    struct mr_queue *free_one = open_queue(device, MR_STREAM_NON_BLOCKING);
    uint64_t count = 0;
    (void)state;
    for (uint64_t i = 0; i < 3; i++)
        steps[i] = (struct step){ &counter, i };

    brake_put_on(early, &brake);
    CHECK_OK(ops->call(early, count_step, &steps[0]));
    CHECK_OK(ops->call(legacy, count_step, &steps[1]));
    CHECK_OK(ops->call(late, count_step, &steps[2]));
    CHECK_OK(ops->call(free_one, add_one, &count));
    CHECK_OK(ops->queue_wait(free_one, MR_FOREVER));
    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(late, 1000000));
    CHECK_EQ(1, count);
    brake_let_go(&brake);
    CHECK_OK(ops->device_synchronize(device));

    CHECK(counter.is_ordered);
    CHECK_EQ(3, counter.next);
    end_queue(early);
    end_queue(late);
    end_queue(free_one);
    end_queue(legacy);
    ops->device_close(device);
}

static void point_of_the_legacy_queue_covers_blocking_queues(void **state)
{
    struct brake brake = { 0 };
    struct mr_backend_device *device = open_device(2);
    struct mr_queue *blocking = open_queue(device, MR_STREAM_BLOCKING);
    struct mr_queue *legacy = open_queue(device, MR_STREAM_LEGACY);
    struct mr_point *point;
    (void)state;

    brake_put_on(blocking, &brake);
    CHECK_OK(ops->point_record(legacy, false, &point));
    CHECK_STATUS(MR_E_TIMEOUT, ops->point_wait(point, 1000000));
    brake_let_go(&brake);
    CHECK_OK(ops->point_wait(point, MR_FOREVER));

    ops->point_release(point);
    end_queue(blocking);
    ops->device_close(device);
}

static void *take_thread_queue(void *context)
{
    struct mr_backend_device *device = context;
    struct mr_queue *queue = open_queue(device, MR_STREAM_PER_THREAD);
    struct mr_queue *again = open_queue(device, MR_STREAM_PER_THREAD);
    uint64_t count = 0;

    CHECK(queue == again);
    CHECK_OK(ops->call(queue, add_one, &count));
    end_queue(queue);
    CHECK_EQ(1, count);
    return again; /* not given back: the device takes it */
}

static void each_thread_has_a_default_queue(void **state)
{
    struct mr_backend_device *device = open_device(1), *other = open_device(1);
    struct mr_queue *mine = open_queue(device, MR_STREAM_PER_THREAD);
    struct mr_queue *mine_there = open_queue(other, MR_STREAM_PER_THREAD);
    pthread_t thread;
    void *theirs;
    (void)state;

    CHECK_EQ(0, pthread_create(&thread, NULL, take_thread_queue, device));
    CHECK_EQ(0, pthread_join(thread, &theirs));
    CHECK(theirs != mine);
    CHECK(mine != mine_there);
    CHECK(mine == open_queue(device, MR_STREAM_PER_THREAD));

    end_queue(mine);
    end_queue(mine);
    struct mr_queue *fresh = open_queue(device, MR_STREAM_PER_THREAD);
    CHECK_OK(ops->queue_query(fresh));
    ops->device_close(other);
    ops->device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_runs_in_the_order_of_submission),
        cmocka_unit_test(queue_wait_times_out_while_work_runs),
        cmocka_unit_test(queue_takes_more_than_a_chunk_while_it_is_held),
        cmocka_unit_test(higher_priority_runs_first),
        cmocka_unit_test(long_queue_gives_way_to_its_equals),
        cmocka_unit_test(submitting_to_a_busy_worker_wakes_nobody),
        cmocka_unit_test(workers_leave_signals_to_the_program),
        cmocka_unit_test(forked_child_can_close_the_device),
        cmocka_unit_test(point_is_reached_when_the_work_before_it_has_ended),
        cmocka_unit_test(points_with_timing_tell_the_time_between),
        cmocka_unit_test(queue_waits_for_a_point_without_holding_the_only_worker),
        cmocka_unit_test(queue_waits_for_a_point_of_another_device),
        cmocka_unit_test(gate_opened_before_the_wait_lets_through),
        cmocka_unit_test(steady_work_allocates_nothing),
        cmocka_unit_test(legacy_queue_waits_for_blocking_queues_and_they_for_it),
        cmocka_unit_test(point_of_the_legacy_queue_covers_blocking_queues),
        cmocka_unit_test(each_thread_has_a_default_queue),
    };
    return cmocka_run_group_tests_name("cpu_queue", tests, NULL, NULL);
}
