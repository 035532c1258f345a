/* SPDX-License-Identifier: MIT */
/* The CUDA backend over the stand-in driver: the device, and what its calls cost. */
#include "cuda_rig.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- the driver ---- */

static void a_device_describes_itself(void **state)
{
    (void)state;
    mr_device_properties properties;

    ops->device_describe(rig.device, &properties);

    assert_string_equal(properties.id, "cuda:0");
    assert_string_equal(properties.name, "Stand-in GPU 0");
    assert_int_equal(properties.memory_bytes, 1u << 30);
    assert_int_equal(properties.copy_engine_count, 2);
    assert_int_equal(properties.compute_major, 9);
    assert_int_equal(properties.priority_highest, -5);
    assert_int_equal(properties.priority_lowest, 0);
    assert_int_equal(properties.driver_version, 13000);
    assert_int_equal(properties.threads_per_block_limit, 1024);
    assert_true(properties.has_ordered_pools);
    assert_true(properties.has_concurrent_kernels);
    assert_true(properties.can_overlap_copy_and_kernel);
    assert_true(properties.can_overlap_both_copies);
    assert_false(properties.is_host_memory);
    assert_non_null(ops->device_native(rig.device));
}

static void the_callers_context_is_left_as_it_was(void **state)
{
    (void)state;
    extern int cuCtxGetCurrent(void **);
    extern int cuCtxSetCurrent(void *);
    void *const others[] = { NULL, ops->device_native(rig.peer), ops->device_native(rig.device) };

    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(cuCtxSetCurrent(others[i]), 0);
        struct mr_queue *queue = make_queue(rig.device);
        struct mr_memory memory = make_memory(rig.device, 64, MR_PLACE_DEVICE);
        assert_ok(ops->fill(queue, &memory, 0, 64, 1, 1));
        assert_ok(ops->queue_wait(queue, 1000000000));
        ops->memory_destroy(&memory);
        end_queue(queue);

        void *current = &rig;
        assert_int_equal(cuCtxGetCurrent(&current), 0);
        assert_ptr_equal(current, others[i]);
    }
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

/* ---- costs ---- */

static void a_record_is_one_call_beside_the_look_at_the_context(void **state)
{
    (void)state;
    extern int cuCtxSetCurrent(void *);
    assert_int_equal(cuCtxSetCurrent(ops->device_native(rig.device)), 0);
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_point *point;
    assert_ok(ops->point_record(queue, false, &point));
    ops->point_release(point);
    const uint64_t all = fakecuda_count_all(), looks = fakecuda_count("cuCtxGetCurrent");

    for (int i = 0; i < 10; i++) {
        assert_ok(ops->point_record(queue, false, &point));
        ops->point_release(point);
    }

    assert_int_equal(fakecuda_count_all() - all - (fakecuda_count("cuCtxGetCurrent") - looks), 10);
    end_queue(queue);
    assert_int_equal(cuCtxSetCurrent(NULL), 0);
}

static void lap(struct mr_queue *in, struct mr_queue *out, const struct mr_memory *device,
                const struct mr_memory *host)
{
    static atomic_int count;
    struct mr_point *filled, *done;
    struct mr_gate *gate = shut(in);
    assert_ok(copy_flat(in, device, 0, host, 0, 4096));
    assert_ok(ops->point_record(in, false, &filled));
    assert_ok(ops->queue_wait_point(out, filled));
    assert_ok(copy_flat(out, host, 0, device, 0, 4096));
    assert_ok(ops->call(out, count_up, &count));
    assert_ok(ops->point_record(out, true, &done));
    ops->gate_open(gate);
    assert_ok(ops->point_wait(done, MR_FOREVER));
    ops->point_release(filled);
    ops->point_release(done);
    ops->gate_destroy(gate);
}

static void steady_state_allocates_pins_and_synchronises_nothing(void **state)
{
    (void)state;
    static const char *const unwanted[] = { "cuMemAlloc",        "cuMemFree",
                                            "cuMemHostAlloc",    "cuMemFreeHost",
                                            "cuMemHostRegister", "cuEventCreate",
                                            "cuEventDestroy",    "cuStreamCreateWithPriority",
                                            "cuCtxSynchronize",  "cuStreamSynchronize" };
    enum { COUNT = sizeof unwanted / sizeof *unwanted };
    struct mr_queue *in = make_queue(rig.device), *out = make_queue(rig.device);
    struct mr_memory device = make_memory(rig.device, 4096, MR_PLACE_DEVICE);
    struct mr_memory host = make_memory(rig.device, 4096, MR_PLACE_PINNED);
    uint64_t before[COUNT];
    for (int i = 0; i < 3; i++)
        lap(in, out, &device, &host);
    for (int i = 0; i < COUNT; i++)
        before[i] = fakecuda_count(unwanted[i]);

    for (int i = 0; i < 200; i++)
        lap(in, out, &device, &host);

    for (int i = 0; i < COUNT; i++)
        if (fakecuda_count(unwanted[i]) != before[i])
            fail_msg("%s was called", unwanted[i]);
    ops->memory_destroy(&device);
    ops->memory_destroy(&host);
    end_queue(in);
    end_queue(out);
}

static void *record_and_release(void *device)
{
    struct mr_queue *queue = make_queue(device);
    for (int i = 0; i < 500; i++) {
        struct mr_point *points[3];
        for (int k = 0; k < 3; k++)
            assert_ok(ops->point_record(queue, false, &points[k]));
        for (int k = 0; k < 3; k++)
            ops->point_release(points[k]);
    }
    end_queue(queue);
    return NULL;
}

static void threads_share_the_pool_of_events(void **state)
{
    (void)state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, record_and_release, rig.device), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_describes_itself),
        TEST_TWO(the_callers_context_is_left_as_it_was),
        TEST(a_record_is_one_call_beside_the_look_at_the_context),
        TEST(steady_state_allocates_pins_and_synchronises_nothing),
        TEST(threads_share_the_pool_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
