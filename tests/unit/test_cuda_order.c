/* SPDX-License-Identifier: MIT */
/* The CUDA backend over the stand-in driver: gates, points, and the order of queues. */
#include "cuda_rig.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- order ---- */

static void a_gate_holds_its_queue_until_it_is_opened(void **state)
{
    (void)state;
    atomic_int count = 0;
    struct mr_queue *queue = make_queue(rig.device);

    for (int i = 0; i < 100; i++) {
        struct mr_gate *gate = shut(queue);
        assert_ok(ops->call(queue, count_up, &count));
        assert_status(MR_E_BUSY, ops->queue_query(queue));
        assert_int_equal(atomic_load(&count), i);
        open_gate(queue, gate);
        assert_int_equal(atomic_load(&count), i + 1);
    }

    end_queue(queue);
}

static void a_gate_opened_first_holds_nothing(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_gate *gate;
    assert_ok(ops->gate_create(rig.device, &gate));

    ops->gate_open(gate);
    assert_ok(ops->queue_wait_gate(queue, gate));

    assert_ok(ops->queue_wait(queue, MR_FOREVER));
    ops->gate_destroy(gate);
    end_queue(queue);
}

static void more_gates_than_a_page_holds_work(void **state)
{
    (void)state;
    enum { COUNT = 1100 };
    static struct mr_gate *gates[COUNT];
    struct mr_queue *queue = make_queue(rig.device);

    for (int i = 0; i < COUNT; i++)
        gates[i] = shut(queue);
    for (int i = COUNT; i-- > 0;)
        ops->gate_open(gates[i]);
    assert_ok(ops->queue_wait(queue, MR_FOREVER));

    for (int i = 0; i < COUNT; i++)
        ops->gate_destroy(gates[i]);
    end_queue(queue);
}

static void a_point_is_reached_when_earlier_work_has_ended(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_point *before, *behind;
    assert_ok(ops->point_record(queue, false, &before));
    assert_ok(ops->point_wait(before, MR_FOREVER));
    struct mr_gate *gate = shut(queue);
    assert_ok(ops->point_record(queue, false, &behind));

    assert_ok(ops->point_query(before));
    assert_status(MR_E_BUSY, ops->point_query(behind));
    assert_status(MR_E_TIMEOUT, ops->point_wait(behind, 0));
    assert_status(MR_E_TIMEOUT, ops->point_wait(behind, 2000000));
    assert_status(MR_E_TIMEOUT, ops->queue_wait(queue, 1000000));
    open_gate(queue, gate);
    assert_ok(ops->point_query(behind));

    ops->point_release(before);
    ops->point_release(behind);
    end_queue(queue);
}

static void a_point_that_was_seen_reached_is_not_asked_for_again(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device), *other = make_queue(rig.device);
    struct mr_point *point;
    assert_ok(ops->point_record(queue, false, &point));
    assert_ok(ops->point_wait(point, MR_FOREVER));
    const uint64_t before = fakecuda_count_all();

    assert_ok(ops->point_query(point));
    assert_ok(ops->point_wait(point, MR_FOREVER));
    assert_ok(ops->queue_wait_point(other, point));

    assert_int_equal(fakecuda_count_all(), before);
    ops->point_release(point);
    end_queue(queue);
    end_queue(other);
}

static void a_wait_keeps_the_point_as_it_was_when_queued(void **state)
{
    (void)state;
    struct mr_queue *source = make_queue(rig.device), *target = make_queue(rig.device);
    struct mr_gate *first = shut(source);
    struct mr_point *point;
    assert_ok(ops->point_record(source, false, &point));
    assert_ok(ops->queue_wait_point(target, point));
    ops->point_release(point); /* its event may now be recorded anew */
    struct mr_gate *second = shut(source);
    assert_ok(ops->point_record(source, false, &point));

    assert_status(MR_E_BUSY, ops->queue_query(target));
    ops->gate_open(first);
    assert_ok(ops->queue_wait(target, MR_FOREVER));
    assert_status(MR_E_BUSY, ops->queue_query(source));

    open_gate(source, second);
    ops->gate_destroy(first);
    ops->point_release(point);
    end_queue(source);
    end_queue(target);
}

static void a_renewed_point_disturbs_neither_waits_nor_holders(void **state)
{
    (void)state;
    struct mr_queue *source = make_queue(rig.device), *target = make_queue(rig.device);
    struct mr_point *point = NULL;
    assert_ok(ops->point_renew(source, false, &point));
    struct mr_point *const same = point;
    struct mr_gate *first = shut(source);
    assert_ok(ops->point_renew(source, false, &point));
    assert_ptr_equal(point, same);
    assert_status(MR_E_BUSY, ops->point_query(point));
    assert_ok(ops->queue_wait_point(target, point));
    ops->point_retain(point); /* somebody else holds it */

    struct mr_gate *second = shut(source);
    assert_ok(ops->point_renew(source, false, &point));
    assert_ptr_not_equal(point, same);
    ops->gate_open(first);
    assert_ok(ops->point_wait(same, MR_FOREVER));
    assert_ok(ops->queue_wait(target, MR_FOREVER));
    assert_status(MR_E_BUSY, ops->point_query(point));

    open_gate(source, second);
    ops->gate_destroy(first);
    ops->point_release(same);
    ops->point_release(point);
    end_queue(source);
    end_queue(target);
}

static void a_point_outlives_its_queue(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_point *point;
    assert_ok(ops->point_record(queue, false, &point));
    ops->point_retain(point);

    end_queue(queue);

    assert_ok(ops->point_wait(point, MR_FOREVER));
    ops->point_release(point);
    ops->point_release(point);
}

static void timing_points_tell_the_time_between_them(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_point *start, *end;
    int64_t elapsed_ns = 0, back_ns = 0;
    assert_ok(ops->point_record(queue, true, &start));
    struct mr_gate *gate = shut(queue);
    assert_ok(ops->point_record(queue, true, &end));

    assert_status(MR_E_BUSY, ops->point_elapsed(start, end, &elapsed_ns));
    open_gate(queue, gate);
    assert_ok(ops->point_elapsed(start, end, &elapsed_ns));
    assert_ok(ops->point_elapsed(end, start, &back_ns));

    assert_true(elapsed_ns > 0);
    assert_int_equal(back_ns, -elapsed_ns);
    ops->point_release(start);
    ops->point_release(end);
    end_queue(queue);
}

/* The legacy queue waits for the blocking one and holds it up; the non-blocking one stands aside. */
static void the_legacy_queue_is_ordered_with_blocking_ones_only(void **state)
{
    (void)state;
    struct mr_queue *legacy, *blocking, *aside = make_queue(rig.device);
    assert_ok(ops->queue_create(rig.device, MR_STREAM_LEGACY, 0, &legacy));
    assert_ok(ops->queue_create(rig.device, MR_STREAM_BLOCKING, 0, &blocking));
    atomic_int legacy_count = 0, blocking_count = 0, aside_count = 0;
    struct mr_gate *gate = shut(blocking);

    assert_ok(ops->call(legacy, count_up, &legacy_count));
    assert_ok(ops->call(blocking, count_up, &blocking_count));
    assert_ok(ops->call(aside, count_up, &aside_count));

    assert_ok(ops->queue_wait(aside, MR_FOREVER));
    assert_int_equal(atomic_load(&aside_count), 1);
    assert_status(MR_E_TIMEOUT, ops->queue_wait(legacy, 1000000));
    assert_int_equal(atomic_load(&legacy_count), 0);
    open_gate(blocking, gate);
    assert_int_equal(atomic_load(&legacy_count), 1);
    assert_int_equal(atomic_load(&blocking_count), 1);
    assert_ptr_equal(ops->queue_native(legacy), (void *)1);
    end_queue(legacy);
    end_queue(blocking);
    end_queue(aside);
}

static void *wait_for_queue(void *queue)
{
    const mr_status query = ops->queue_query(queue);
    const mr_status wait = ops->queue_wait(queue, MR_FOREVER);
    return (void *)(intptr_t)(query == MR_E_BUSY ? wait : MR_E_STATE);
}

/* Its handle would mean the other thread's own stream there. */
static void another_thread_waits_for_a_per_thread_queue(void **state)
{
    (void)state;
    struct mr_queue *queue;
    pthread_t thread;
    void *result;
    assert_ok(ops->queue_create(rig.device, MR_STREAM_PER_THREAD, 0, &queue));
    struct mr_gate *gate = shut(queue);
    const uint64_t before = fakecuda_count("cuEventQuery");

    assert_int_equal(pthread_create(&thread, NULL, wait_for_queue, queue), 0);
    while (fakecuda_count("cuEventQuery") < before + 3)
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    ops->gate_open(gate);
    assert_int_equal(pthread_join(thread, &result), 0);

    assert_int_equal((intptr_t)result, MR_OK);
    assert_ok(ops->queue_query(queue));
    ops->gate_destroy(gate);
    end_queue(queue);
}

static void a_foreign_stream_is_wrapped_and_left_alone(void **state)
{
    (void)state;
    struct mr_queue *owner = make_queue(rig.device), *wrapper;
    void *native = ops->queue_native(owner);

    assert_ok(ops->queue_wrap(rig.device, native, &wrapper));
    assert_ptr_equal(ops->queue_native(wrapper), native);
    struct mr_gate *gate = shut(wrapper);
    assert_status(MR_E_BUSY, ops->queue_query(owner));
    open_gate(owner, gate);
    end_queue(wrapper);

    assert_ok(ops->queue_query(owner));
    end_queue(owner);
}

static void a_stream_of_another_device_is_not_wrapped(void **state)
{
    (void)state;
    struct mr_queue *owner = make_queue(rig.peer), *wrapper;

    assert_status(MR_E_INVALID, ops->queue_wrap(rig.device, ops->queue_native(owner), &wrapper));

    assert_null(wrapper);
    assert_words("another context");
    end_queue(owner);
}

static void *destroy_memory(void *memory)
{
    ops->memory_destroy(memory);
    return NULL;
}

/* The driver waits for the device then, and lets nobody submit; whoever opens gates must still see
 * events, or the device would wait for ever. */
static void points_are_seen_while_memory_is_given_back(void **state)
{
    (void)state;
    struct mr_queue *gated = make_queue(rig.device), *other = make_queue(rig.device);
    struct mr_memory memory = make_memory(rig.device, 4096, MR_PLACE_DEVICE);
    struct mr_point *point;
    pthread_t thread;
    assert_ok(ops->point_record(other, false, &point));
    struct mr_gate *gate = shut(gated);
    const uint64_t before = fakecuda_count("cuMemFree");
    assert_int_equal(pthread_create(&thread, NULL, destroy_memory, &memory), 0);
    while (fakecuda_count("cuMemFree") == before)
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);

    assert_ok(ops->point_wait(point, MR_FOREVER));
    assert_ok(ops->queue_query(other));
    ops->gate_open(gate);
    assert_int_equal(pthread_join(thread, NULL), 0);

    assert_ok(ops->queue_wait(gated, MR_FOREVER));
    ops->gate_destroy(gate);
    ops->point_release(point);
    end_queue(gated);
    end_queue(other);
}

static void many_streams_are_created_while_one_waits_for_the_host(void **state)
{
    (void)state;
    enum { COUNT = 80 };
    struct mr_queue *gated = make_queue(rig.device), *queues[COUNT];
    struct mr_gate *gate = shut(gated);

    for (int i = 0; i < COUNT; i++)
        queues[i] = make_queue(rig.device);

    for (int i = 0; i < COUNT; i++)
        end_queue(queues[i]);
    open_gate(gated, gate);
    end_queue(gated);
}

static void priorities_are_clamped(void **state)
{
    (void)state;
    struct mr_queue *queue;
    assert_ok(ops->queue_create(rig.device, MR_STREAM_NON_BLOCKING, -100, &queue));
    end_queue(queue);
    assert_ok(ops->queue_create(rig.device, MR_STREAM_NON_BLOCKING, 100, &queue));
    end_queue(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gate_holds_its_queue_until_it_is_opened),
        TEST_WITHOUT_WAIT_VALUE(a_gate_holds_its_queue_until_it_is_opened),
        TEST(a_gate_opened_first_holds_nothing),
        TEST(more_gates_than_a_page_holds_work),
        TEST(a_point_is_reached_when_earlier_work_has_ended),
        TEST(a_point_that_was_seen_reached_is_not_asked_for_again),
        TEST(a_wait_keeps_the_point_as_it_was_when_queued),
        TEST(a_renewed_point_disturbs_neither_waits_nor_holders),
        TEST(a_point_outlives_its_queue),
        TEST(timing_points_tell_the_time_between_them),
        TEST(the_legacy_queue_is_ordered_with_blocking_ones_only),
        TEST(another_thread_waits_for_a_per_thread_queue),
        TEST(a_foreign_stream_is_wrapped_and_left_alone),
        TEST_TWO(a_stream_of_another_device_is_not_wrapped),
        TEST(points_are_seen_while_memory_is_given_back),
        TEST(many_streams_are_created_while_one_waits_for_the_host),
        TEST(priorities_are_clamped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
