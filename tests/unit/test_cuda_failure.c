/* SPDX-License-Identifier: MIT */
/* The CUDA backend over the stand-in driver: no driver, no device, calls that fail, a broken GPU. */
#include "cuda_fixture.h"
#include "support/fault_driver.h"

#include <pthread.h>
#include <stdatomic.h>

static int tear_down(void **state)
{
    (void)state;
    fakecuda_fail_at(0, NULL, 0);
    unsetenv("FAKECUDA_DEVICES");
    unsetenv("FAKECUDA_VERSION");
    unsetenv("FAKECUDA_MEMORY_BYTES");
    return (int)fakecuda_live();
}

/* ---- nothing to work on ---- */

static void a_driver_without_a_gpu_is_unavailable(void **state)
{
    (void)state;
    struct mr_backend *backend;
    setenv("FAKECUDA_DEVICES", "0", 1);

    assert_status(MR_E_UNAVAILABLE, ops->open(&backend));

    assert_null(backend);
    assert_words("CUDA_ERROR_NO_DEVICE (100)");
    assert_words("CUDA_VISIBLE_DEVICES");
}

static void a_driver_that_is_too_old_is_unavailable(void **state)
{
    (void)state;
    struct mr_backend *backend;
    setenv("FAKECUDA_VERSION", "11080", 1);

    assert_status(MR_E_UNAVAILABLE, ops->open(&backend));

    assert_words("11.8");
    assert_words("12.0 is needed");
}

static void memory_that_does_not_fit_says_what_was_free(void **state)
{
    (void)state;
    struct rig rig;
    struct mr_memory memory;
    struct mr_queue *queue;
    setenv("FAKECUDA_MEMORY_BYTES", "1000000", 1);
    assert_ok(rig_open(&rig));
    assert_ok(ops->queue_create(rig.device, MR_STREAM_NON_BLOCKING, 0, &queue));

    assert_status(MR_E_NO_MEMORY,
                  ops->memory_create(rig.device, 2000000, MR_PLACE_DEVICE, &memory));
    assert_words("2000000");
    assert_words("1000000 of 1000000 are free");
    assert_status(MR_E_NO_MEMORY, ops->memory_create_ordered(queue, 3000000, &memory));
    assert_words("3000000");

    end_queue(queue);
    rig_close(&rig);
}

/* ---- the Nth call fails ---- */

/* A wait with a limit takes another way through the backend. Nothing here needs that long. */
#define LONG_NS UINT64_C(60000000000)

static void do_nothing(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

/* Each scenario builds, uses and takes down, and answers its first failure. */

static mr_status with_queue(struct rig *rig)
{
    struct mr_queue *queue;
    atomic_int count = 0;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_BLOCKING, -1, &queue);
    if (status)
        return status;
    mr_status call = ops->call(queue, do_nothing, &count);
    status = ops->queue_wait(queue, LONG_NS);
    if (!status)
        status = ops->queue_query(queue);
    mr_status end = ops->queue_wait(queue, MR_FOREVER);
    ops->queue_destroy(queue);
    assert_int_equal(atomic_load(&count), !call); /* accepted: it runs, whatever comes */
    return call ? call : status ? status : end;
}

static mr_status with_default_queues(struct rig *rig)
{
    struct mr_queue *legacy, *mine = NULL, *wrapped = NULL;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_LEGACY, 0, &legacy);
    if (!status)
        status = ops->queue_create(rig->device, MR_STREAM_PER_THREAD, 0, &mine);
    if (!status)
        status = ops->queue_wrap(rig->device, ops->queue_native(mine), &wrapped);
    ops->queue_destroy(legacy);
    ops->queue_destroy(mine);
    ops->queue_destroy(wrapped);
    return status;
}

static mr_status use_memory(struct rig *rig, struct mr_queue *queue, mr_place place)
{
    struct mr_memory memory, other;
    mr_status status = ops->memory_create(rig->device, 4096, place, &memory);
    if (status)
        return status;
    status = ops->memory_create(rig->device, 4096, MR_PLACE_PINNED, &other);
    if (!status) {
        memset(other.host, 1, 4096);
        status = ops->fill(queue, &memory, 0, 4096, 3, 4);
        if (!status)
            status = copy_flat(queue, &other, 0, &memory, 0, 4096);
        (void)ops->queue_wait(queue, MR_FOREVER);
        ops->memory_destroy(&other);
    }
    ops->memory_destroy(&memory);
    return status;
}

/* A pageable source behind work that is not done. */
static mr_status use_bounce(struct rig *rig, struct mr_queue *queue)
{
    struct mr_memory target, source;
    struct mr_gate *gate;
    mr_status status = ops->memory_create(rig->device, 4096, MR_PLACE_DEVICE, &target);
    if (status)
        return status;
    status = ops->memory_create(rig->device, 4096, MR_PLACE_PAGEABLE, &source);
    if (!status) {
        memset(source.host, 1, 4096);
        status = ops->gate_create(rig->device, &gate);
    } else {
        source.host = NULL;
    }
    if (!status) {
        status = ops->queue_wait_gate(queue, gate);
        if (!status)
            status = copy_flat(queue, &target, 0, &source, 0, 4096);
        ops->gate_open(gate);
        (void)ops->queue_wait(queue, MR_FOREVER);
        ops->gate_destroy(gate);
    }
    ops->memory_destroy(&target);
    ops->memory_destroy(&source);
    return status;
}

static mr_status with_memory(struct rig *rig)
{
    struct mr_queue *queue;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_NON_BLOCKING, 0, &queue);
    if (status)
        return status;
    for (int place = MR_PLACE_DEVICE; place <= MR_PLACE_PAGEABLE && !status; place++)
        status = use_memory(rig, queue, (mr_place)place);
    if (!status)
        status = use_bounce(rig, queue);
    ops->queue_destroy(queue);
    return status;
}

static mr_status with_ordered_memory(struct rig *rig)
{
    struct mr_queue *queue;
    struct mr_memory memory;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_NON_BLOCKING, 0, &queue);
    if (status)
        return status;
    status = ops->memory_create_ordered(queue, 4096, &memory);
    if (!status) {
        status = ops->fill(queue, &memory, 0, 4096, 3, 1);
        ops->memory_destroy_ordered(queue, &memory);
    }
    mr_status end = ops->queue_wait(queue, MR_FOREVER);
    ops->queue_destroy(queue);
    return status ? status : end;
}

static mr_status with_registered_memory(struct rig *rig)
{
    static char bytes[8192];
    struct mr_memory memory, again;
    mr_status status = ops->memory_register(rig->device, bytes, sizeof bytes, &memory);
    if (status)
        return status;
    status = ops->memory_register(rig->device, bytes, sizeof bytes, &again);
    if (!status)
        ops->memory_unregister(&again);
    ops->memory_unregister(&memory);
    return status;
}

static mr_status with_points(struct rig *rig)
{
    struct mr_queue *queue, *other = NULL;
    struct mr_point *start = NULL, *end = NULL;
    int64_t elapsed_ns;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_NON_BLOCKING, 0, &queue);
    if (status)
        return status;
    status = ops->queue_create(rig->device, MR_STREAM_NON_BLOCKING, 0, &other);
    if (!status)
        status = ops->point_record(queue, true, &start);
    if (!status)
        status = ops->point_record(queue, true, &end);
    if (!status)
        status = ops->queue_wait_point(other, end);
    if (!status)
        status = ops->point_wait(end, MR_FOREVER);
    if (!status)
        status = ops->point_query(start);
    if (!status)
        status = ops->point_elapsed(start, end, &elapsed_ns);
    if (start)
        ops->point_release(start);
    if (end)
        ops->point_release(end);
    ops->queue_destroy(other);
    ops->queue_destroy(queue);
    return status;
}

static mr_status with_gate(struct rig *rig)
{
    struct mr_queue *queue;
    struct mr_gate *gate;
    mr_status status = ops->queue_create(rig->device, MR_STREAM_NON_BLOCKING, 0, &queue);
    if (status)
        return status;
    status = ops->gate_create(rig->device, &gate);
    if (!status) {
        status = ops->queue_wait_gate(queue, gate);
        ops->gate_open(gate);
        mr_status end = ops->queue_wait(queue, MR_FOREVER);
        ops->gate_destroy(gate);
        status = status ? status : end;
    }
    ops->queue_destroy(queue);
    return status;
}

static mr_status with_device(struct rig *rig)
{
    uint64_t free_bytes, total_bytes;
    mr_status status = ops->device_memory(rig->device, &free_bytes, &total_bytes);
    return status ? status : ops->device_synchronize(rig->device);
}

static const struct scenario {
    const char *name;
    mr_status (*run)(struct rig *rig);
} scenarios[] = {
    { "queue", with_queue },
    { "default queues", with_default_queues },
    { "memory", with_memory },
    { "ordered memory", with_ordered_memory },
    { "registered memory", with_registered_memory },
    { "points", with_points },
    { "gate", with_gate },
    { "device", with_device },
};

/* Opens the backend anew in each round. */
static void survive(const struct scenario *scenario, struct fault *fault)
{
    fault->where = scenario->name;
    while (fault_next(fault)) {
        struct rig rig;
        fault_begin(fault);
        mr_status status = rig_open(&rig);
        if (!status)
            status = scenario->run(&rig);
        fault_end(fault, status);
        rig_close(&rig);
        fault_leaves_nothing(fault);
    }
}

static void every_scenario_survives_a_driver_call_that_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        struct fault fault = { .kind = &fault_driver_call };
        survive(&scenarios[i], &fault);
        assert_true(fault.nth > 20); /* opening alone makes that many calls */
    }
}

static void every_scenario_survives_an_allocation_that_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        survive(&scenarios[i], &(struct fault){ .kind = &fault_allocation });
}

/* Introducing peers is a favour: its failure is none. */
static void two_devices_open_although_they_cannot_be_peers(void **state)
{
    (void)state;
    struct rig rig;
    setenv("FAKECUDA_DEVICES", "2", 1);
    fakecuda_fail_at(1, "cuCtxEnablePeerAccess", 0);
    assert_ok(rig_open(&rig));
    assert_true(fakecuda_has_failed());
    rig_close(&rig);

    fakecuda_fail_at(1, "cuDeviceCanAccessPeer", 0);
    assert_ok(rig_open(&rig));
    rig_close(&rig);
}

/* ---- a broken GPU ---- */

static void a_broken_gpu_answers_with_the_drivers_words(void **state)
{
    (void)state;
    struct rig rig;
    assert_ok(rig_open(&rig));
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_point *point, *none;
    assert_ok(ops->point_record(queue, false, &point));

    fakecuda_break(0, 700);

    assert_status(MR_E_DEVICE, ops->point_query(point));
    assert_words("CUDA_ERROR_ILLEGAL_ADDRESS (700)");
    assert_words("compute-sanitizer");
    assert_status(MR_E_DEVICE, ops->point_wait(point, MR_FOREVER));
    assert_status(MR_E_DEVICE, ops->queue_query(queue));
    assert_status(MR_E_DEVICE, ops->queue_wait(queue, 1000));
    assert_status(MR_E_DEVICE, ops->queue_wait(queue, MR_FOREVER));
    assert_status(MR_E_DEVICE, ops->point_record(queue, false, &none));
    assert_null(none);
    ops->point_release(point);
    ops->queue_destroy(queue);
    rig_close(&rig);
}

static void functions_behind_a_broken_gpu_run_once(void **state)
{
    (void)state;
    atomic_int count = 0;
    struct rig rig;
    assert_ok(rig_open(&rig));
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory target = make_memory(rig.device, 64, MR_PLACE_PAGEABLE);
    memset(target.host, 0, 64);
    struct mr_gate *gate = shut(queue);
    for (int i = 0; i < 10; i++)
        assert_ok(ops->call(queue, do_nothing, &count));
    assert_ok(ops->fill(queue, &target, 0, 64, 1, 1));

    fakecuda_break(0, 719);
    end_queue(queue);

    assert_int_equal(atomic_load(&count), 10);
    assert_int_equal(*(char *)target.host, 0);
    ops->gate_open(gate);
    ops->gate_destroy(gate);
    ops->memory_destroy(&target);
    rig_close(&rig);
    assert_int_equal(atomic_load(&count), 10);
}

static void *wait_forever(void *queue)
{
    return (void *)(intptr_t)ops->queue_wait(queue, MR_FOREVER);
}

static void a_thread_that_waits_learns_that_the_gpu_broke(void **state)
{
    (void)state;
    struct rig rig;
    pthread_t thread;
    void *result;
    assert_ok(rig_open(&rig));
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_gate *gate = shut(queue);
    const uint64_t before = fakecuda_count("cuStreamSynchronize");
    assert_int_equal(pthread_create(&thread, NULL, wait_forever, queue), 0);
    while (fakecuda_count("cuStreamSynchronize") == before)
        nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);

    fakecuda_break(0, 719);

    assert_int_equal(pthread_join(thread, &result), 0);
    assert_int_equal((intptr_t)result, MR_E_DEVICE);
    ops->gate_open(gate);
    ops->gate_destroy(gate);
    ops->queue_destroy(queue);
    rig_close(&rig);
}

/* Work on freed memory is what the stand-in driver is there to catch. */
static void memory_freed_under_a_copy_is_caught(void **state)
{
    (void)state;
    struct rig rig;
    struct mr_memory memory;
    assert_ok(rig_open(&rig));
    struct mr_queue *queue = make_queue(rig.device), *other = make_queue(rig.device);
    assert_ok(ops->memory_create_ordered(queue, 4096, &memory));
    struct mr_gate *gate = shut(queue);
    assert_ok(ops->fill(queue, &memory, 0, 4096, 1, 1));

    ops->memory_destroy_ordered(other, &memory);
    assert_ok(ops->queue_wait(other, MR_FOREVER));
    ops->gate_open(gate);

    assert_status(MR_E_DEVICE, ops->queue_wait(queue, MR_FOREVER));
    assert_words("illegal memory access");
    ops->gate_destroy(gate);
    ops->queue_destroy(queue);
    ops->queue_destroy(other);
    rig_close(&rig);
}

#define TEST(name) cmocka_unit_test_teardown(name, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_driver_without_a_gpu_is_unavailable),
        TEST(a_driver_that_is_too_old_is_unavailable),
        TEST(memory_that_does_not_fit_says_what_was_free),
        TEST(every_scenario_survives_a_driver_call_that_fails),
        TEST(every_scenario_survives_an_allocation_that_fails),
        TEST(two_devices_open_although_they_cannot_be_peers),
        TEST(a_broken_gpu_answers_with_the_drivers_words),
        TEST(functions_behind_a_broken_gpu_run_once),
        TEST(a_thread_that_waits_learns_that_the_gpu_broke),
        TEST(memory_freed_under_a_copy_is_caught),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
