/* SPDX-License-Identifier: MIT */
/*
 * The narrow places of the CPU backend, each taken the hard way: the hook lets the other side act at
 * the very moment that a thread passes.
 */
#include "cpu_fixture.h"

#include "backend/cpu/cpu_machine.h"

#include <pthread.h>
#include <stdatomic.h>

/* What the hook does: once, at the first thread that passes the place. */
static struct {
    enum cpu_place place;
    void (*act)(void);
    _Atomic bool is_sprung;
    _Atomic bool is_done; /* the act is over: what it touches may go */
} trap;

static void spring(enum cpu_place place)
{
    if (place == trap.place && !atomic_exchange(&trap.is_sprung, true)) {
        trap.act();
        atomic_store(&trap.is_done, true);
    }
}

static void set_trap(enum cpu_place place, void (*act)(void))
{
    trap.place = place;
    trap.act = act;
    atomic_store(&trap.is_sprung, false);
    atomic_store(&trap.is_done, false);
    mr__cpu_set_schedule_hook(spring);
}

static void await_trap(void)
{
    while (!atomic_load(&trap.is_done))
        sched_yield();
}

static void clear_trap(void)
{
    CHECK(atomic_load(&trap.is_sprung));
    await_trap();
    mr__cpu_set_schedule_hook(NULL);
}

/* What the traps act on. */
static struct mr_backend_device *device;
static struct mr_queue *queue, *other;
static struct mr_gate *gate;
static struct brake brake;
static _Atomic uint64_t count;

static void add_one(void *context)
{
    (void)context;
    atomic_fetch_add(&count, 1);
}

static void begin(uint32_t worker_count)
{
    device = open_device(worker_count);
    queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    other = open_queue(device, MR_STREAM_NON_BLOCKING);
    brake = (struct brake){ 0 };
    atomic_store(&count, 0);
}

static void end(void)
{
    clear_trap();
    end_queue(queue);
    end_queue(other);
    ops->device_close(device);
}

static void open_the_gate(void)
{
    ops->gate_open(gate);
}

static void gate_opened_while_a_queue_parks_lets_it_through(void **state)
{
    (void)state;
    begin(1);
    CHECK_OK(ops->gate_create(device, &gate));
    set_trap(CPU_PLACE_PARK, open_the_gate);

    CHECK_OK(ops->queue_wait_gate(queue, gate));
    CHECK_OK(ops->call(queue, add_one, NULL));
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK_EQ(1, atomic_load(&count));
    ops->gate_destroy(gate);
    end();
}

static void finish_the_work(void)
{
    brake_let_go(&brake);
    while (ops->queue_query(queue) == MR_E_BUSY)
        sched_yield();
}

static void work_that_ends_before_the_waiter_is_listed_is_seen(void **state)
{
    (void)state;
    begin(1);
    brake_put_on(queue, &brake);
    set_trap(CPU_PLACE_HOST_WAIT, finish_the_work);

    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    end();
}

/* Until the worker has taken the waiter from the list, and is on its way to wake it. */
static void finish_and_be_taken(void)
{
    struct cpu_timeline *timeline = cpu_queue_from(queue)->timeline;
    bool is_listed = true;

    brake_let_go(&brake);
    while (is_listed) {
        pthread_mutex_lock(&timeline->lock);
        is_listed = timeline->waiters != NULL;
        pthread_mutex_unlock(&timeline->lock);
        sched_yield(); /* the worker needs the lock, and perhaps the processor */
    }
}

static void waiter_whose_time_ran_out_as_it_was_woken_succeeds(void **state)
{
    (void)state;
    begin(1);
    brake_put_on(queue, &brake);
    set_trap(CPU_PLACE_TIMEOUT, finish_and_be_taken);

    CHECK_OK(ops->queue_wait(queue, 1000));

    end();
}

static void do_nothing(void)
{
}

static void waiter_whose_time_ran_out_leaves_the_list(void **state)
{
    (void)state;
    begin(1);
    brake_put_on(queue, &brake);
    set_trap(CPU_PLACE_TIMEOUT, do_nothing);

    CHECK_STATUS(MR_E_TIMEOUT, ops->queue_wait(queue, 1000));
    CHECK(!cpu_queue_from(queue)->timeline->waiters);

    brake_let_go(&brake);
    end();
}

static void submit_one_more(void)
{
    CHECK_OK(ops->call(queue, add_one, NULL));
}

static void work_submitted_while_the_worker_leaves_is_run(void **state)
{
    (void)state;
    begin(1);
    set_trap(CPU_PLACE_LEAVE, submit_one_more);

    CHECK_OK(ops->call(queue, add_one, NULL));
    while (atomic_load(&count) < 2)
        sched_yield();

    end();
}

static void destroy_the_queue(void)
{
    CHECK_OK(ops->queue_wait(queue, 0));
    ops->queue_destroy(queue);
}

static void queue_destroyed_while_the_worker_leaves_is_freed_by_it(void **state)
{
    (void)state;
    begin(1);
    set_trap(CPU_PLACE_LEAVE, destroy_the_queue);

    CHECK_OK(ops->call(queue, add_one, NULL));
    await_trap();

    queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    end();
}

static void submit_elsewhere(void)
{
    CHECK_OK(ops->call(other, add_one, NULL));
}

static void work_submitted_while_the_last_worker_falls_asleep_wakes_it(void **state)
{
    (void)state;
    begin(1);
    set_trap(CPU_PLACE_SLEEP, submit_elsewhere);

    CHECK_OK(ops->call(queue, add_one, NULL));
    while (atomic_load(&count) < 2)
        sched_yield();

    end();
}

static void release(void *context)
{
    (void)context;
    brake_let_go(&brake);
}

/* The lingering worker counts as one that looks for work, so `other` wakes nobody; then it finds the
 * brake on its own queue, which only `other` can take off. */
static void fill_both(void)
{
    CHECK_OK(ops->call(other, release, NULL));
    CHECK_OK(ops->call(queue, brake_hold, &brake));
}

static void lingering_worker_that_finds_work_passes_on_what_it_was_trusted_with(void **state)
{
    (void)state;
    if (!mr__cpu_can_spin())
        skip(); /* nobody lingers on one processor */
    begin(2);
    while (atomic_load(&cpu_device_from(device)->scheduler.idle_count) < 2)
        sched_yield();
    set_trap(CPU_PLACE_LINGER, fill_both);

    CHECK_OK(ops->call(queue, add_one, NULL));
    await_trap();
    CHECK_OK(ops->device_synchronize(device));

    end();
}

/* The point that `other` waits for is about to be published: `other` gets as far as parking. */
static _Atomic bool is_parking;

static void note_parking(enum cpu_place place)
{
    if (place == CPU_PLACE_PARK)
        atomic_store(&is_parking, true);
    if (place == CPU_PLACE_PUBLISH && atomic_load(&brake.is_let_go) &&
        !atomic_exchange(&trap.is_sprung, true)) {
        while (!atomic_load(&is_parking))
            sched_yield();
        atomic_store(&trap.is_done, true);
    }
}

static void queue_that_parks_while_its_point_is_published_runs(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        begin(2);
        struct mr_point *point;
        atomic_store(&trap.is_sprung, false);
        atomic_store(&trap.is_done, false);
        atomic_store(&is_parking, false);
        mr__cpu_set_schedule_hook(note_parking);

        brake_put_on(queue, &brake);
        CHECK_OK(ops->point_record(queue, false, &point));
        CHECK_OK(ops->queue_wait_point(other, point));
        CHECK_OK(ops->call(other, add_one, NULL));
        brake_let_go(&brake);
        CHECK_OK(ops->queue_wait(other, MR_FOREVER));

        CHECK_EQ(1, atomic_load(&count));
        ops->point_release(point);
        end();
    }
}

static void destroy_the_waited_queue(void)
{
    /* The worker has taken `other` from the list, and not yet woken it. */
    CHECK_OK(ops->queue_wait(queue, 0));
    ops->queue_destroy(queue);
}

static void queue_parked_on_one_that_is_destroyed_is_woken(void **state)
{
    struct mr_point *point;
    (void)state;
    begin(2);
    brake_put_on(queue, &brake);
    CHECK_OK(ops->point_record(queue, false, &point));
    CHECK_OK(ops->queue_wait_point(other, point));
    CHECK_OK(ops->call(other, add_one, NULL));
    ops->point_release(point);
    set_trap(CPU_PLACE_WAKE, destroy_the_waited_queue);
    struct cpu_timeline *timeline = cpu_queue_from(queue)->timeline;
    while (atomic_load(&timeline->wake_at) == UINT64_MAX)
        sched_yield();

    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(other, MR_FOREVER));

    CHECK_EQ(1, atomic_load(&count));
    queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gate_opened_while_a_queue_parks_lets_it_through),
        cmocka_unit_test(work_that_ends_before_the_waiter_is_listed_is_seen),
        cmocka_unit_test(waiter_whose_time_ran_out_as_it_was_woken_succeeds),
        cmocka_unit_test(waiter_whose_time_ran_out_leaves_the_list),
        cmocka_unit_test(work_submitted_while_the_worker_leaves_is_run),
        cmocka_unit_test(queue_destroyed_while_the_worker_leaves_is_freed_by_it),
        cmocka_unit_test(work_submitted_while_the_last_worker_falls_asleep_wakes_it),
        cmocka_unit_test(lingering_worker_that_finds_work_passes_on_what_it_was_trusted_with),
        cmocka_unit_test(queue_that_parks_while_its_point_is_published_runs),
        cmocka_unit_test(queue_parked_on_one_that_is_destroyed_is_woken),
    };
    return cmocka_run_group_tests_name("cpu_schedules", tests, NULL, NULL);
}
