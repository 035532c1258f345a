/* SPDX-License-Identifier: MIT */
/* The CUDA backend over the stand-in driver: what it does when nothing fails. */
#include "cuda_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

static struct rig rig;

static int set_up(void **state)
{
    (void)state;
    return rig_open(&rig);
}

static int set_up_two(void **state)
{
    setenv("FAKECUDA_DEVICES", "2", 1);
    return set_up(state);
}

static int set_up_without_wait_value(void **state)
{
    setenv("FAKECUDA_NO_WAIT_VALUE", "1", 1);
    return set_up(state);
}

/* Whatever a test leaves behind is a leak. */
static int tear_down(void **state)
{
    (void)state;
    rig_close(&rig);
    unsetenv("FAKECUDA_DEVICES");
    unsetenv("FAKECUDA_NO_PEERS");
    unsetenv("FAKECUDA_NO_WAIT_VALUE");
    return (int)fakecuda_live();
}

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

/* ---- copies and fills ---- */

/* Through `middle` and back, all in stream order. */
static void round_trip(struct mr_queue *queue, const struct mr_memory *middle)
{
    enum { SIZE = 100000 };
    struct mr_memory source = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    struct mr_memory target = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    unsigned char *in = source.host, *out = target.host;
    for (int i = 0; i < SIZE; i++)
        in[i] = (unsigned char)(i * 31 + i / 256);

    assert_ok(copy_flat(queue, middle, 0, &source, 7, SIZE - 7));
    assert_ok(copy_flat(queue, &target, 3, middle, 0, SIZE - 7));
    assert_ok(ops->queue_wait(queue, MR_FOREVER));

    assert_memory_equal(out + 3, in + 7, SIZE - 7);
    ops->memory_destroy(&source);
    ops->memory_destroy(&target);
}

static void bytes_pass_through_every_place(void **state)
{
    (void)state;
    static const mr_place places[] = { MR_PLACE_DEVICE, MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    struct mr_queue *queue = make_queue(rig.device);

    for (int i = 0; i < 3; i++) {
        struct mr_memory middle = make_memory(rig.device, 100000, places[i]);
        assert_int_equal(middle.host == NULL, places[i] == MR_PLACE_DEVICE);
        assert_int_equal(middle.address == 0, places[i] == MR_PLACE_PAGEABLE);
        round_trip(queue, &middle);
        ops->memory_destroy(&middle);
    }

    end_queue(queue);
}

static void bytes_pass_through_memory_of_the_pool(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory middle;

    assert_ok(ops->memory_create_ordered(queue, 100000, &middle));
    round_trip(queue, &middle);
    ops->memory_destroy_ordered(queue, &middle);

    end_queue(queue);
}

static void bytes_pass_between_devices(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory near = make_memory(rig.device, 4096, MR_PLACE_DEVICE);
    struct mr_memory far = make_memory(rig.peer, 4096, MR_PLACE_DEVICE);
    struct mr_memory host = make_memory(rig.peer, 4096, MR_PLACE_PINNED);
    memset(host.host, 0, 4096);

    assert_true(ops->peer_possible(rig.device, rig.peer));
    assert_ok(ops->fill(queue, &near, 0, 4096, 0xab, 1));
    assert_ok(copy_flat(queue, &far, 0, &near, 0, 4096));
    const struct mr_transfer rows = { .target = &near,
                                      .source = &far,
                                      .target_pitch = 64,
                                      .source_pitch = 128,
                                      .row_bytes = 32,
                                      .row_count = 8 };
    assert_ok(ops->copy(queue, &rows));
    assert_ok(copy_flat(queue, &host, 0, &far, 0, 4096));
    assert_ok(ops->queue_wait(queue, MR_FOREVER));

    for (int i = 0; i < 4096; i++)
        assert_int_equal(((unsigned char *)host.host)[i], 0xab);
    assert_int_equal(fakecuda_count("cuMemcpyPeerAsync") > 0, true);
    ops->memory_destroy(&near);
    ops->memory_destroy(&far);
    ops->memory_destroy(&host);
    end_queue(queue);
}

static void check_rows(const unsigned char *target, const unsigned char *source)
{
    for (int row = 0; row < 10; row++)
        assert_memory_equal(target + 5 + row * 48, source + 3 + row * 32, 20);
}

static void rows_keep_their_pitch_in_every_place(void **state)
{
    (void)state;
    static const mr_place places[] = { MR_PLACE_DEVICE, MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory source = make_memory(rig.device, 512, MR_PLACE_PINNED);
    struct mr_memory target = make_memory(rig.device, 512, MR_PLACE_PAGEABLE);
    for (int i = 0; i < 512; i++)
        ((unsigned char *)source.host)[i] = (unsigned char)(i * 7);

    for (int i = 0; i < 3; i++) {
        struct mr_memory middle = make_memory(rig.device, 512, places[i]);
        struct mr_transfer rows = { .target = &middle,
                                    .source = &source,
                                    .target_offset = 1,
                                    .source_offset = 3,
                                    .target_pitch = 40,
                                    .source_pitch = 32,
                                    .row_bytes = 20,
                                    .row_count = 10 };
        memset(target.host, 0, 512);
        assert_ok(ops->copy(queue, &rows));
        rows = (struct mr_transfer){ .target = &target,
                                     .source = &middle,
                                     .target_offset = 5,
                                     .source_offset = 1,
                                     .target_pitch = 48,
                                     .source_pitch = 40,
                                     .row_bytes = 20,
                                     .row_count = 10 };
        assert_ok(ops->copy(queue, &rows));
        assert_ok(ops->queue_wait(queue, MR_FOREVER));
        check_rows(target.host, source.host);
        ops->memory_destroy(&middle);
    }

    ops->memory_destroy(&source);
    ops->memory_destroy(&target);
    end_queue(queue);
}

static void fills_repeat_their_value_in_every_place(void **state)
{
    (void)state;
    static const mr_place places[] = { MR_PLACE_DEVICE, MR_PLACE_PINNED, MR_PLACE_PAGEABLE };
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory out = make_memory(rig.device, 64, MR_PLACE_PINNED);
    const uint32_t value = 0x04030201;

    for (int place = 0; place < 3; place++)
        for (uint32_t value_bytes = 1; value_bytes <= 4; value_bytes *= 2) {
            struct mr_memory memory = make_memory(rig.device, 64, places[place]);
            assert_ok(ops->fill(queue, &memory, 0, 64, 0, 1));
            assert_ok(ops->fill(queue, &memory, 8, 40, value, value_bytes));
            assert_ok(copy_flat(queue, &out, 0, &memory, 0, 64));
            assert_ok(ops->queue_wait(queue, MR_FOREVER));
            for (uint32_t i = 0; i < 64; i++)
                assert_int_equal(((unsigned char *)out.host)[i],
                                 i < 8 || i >= 48 ? 0 : i % value_bytes + 1);
            ops->memory_destroy(&memory);
        }

    ops->memory_destroy(&out);
    end_queue(queue);
}

/* The driver would copy from host to host on the calling thread. */
static void copies_between_host_memories_do_not_block(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    struct mr_memory source = make_memory(rig.device, 4096, MR_PLACE_PINNED);
    struct mr_memory target = make_memory(rig.device, 4096, MR_PLACE_PAGEABLE);
    memset(source.host, 1, 4096);
    memset(target.host, 0, 4096);
    struct mr_gate *gate = shut(queue);

    assert_ok(copy_flat(queue, &target, 0, &source, 0, 4096));

    assert_status(MR_E_BUSY, ops->queue_query(queue));
    assert_int_equal(((unsigned char *)target.host)[4095], 0);
    open_gate(queue, gate);
    assert_int_equal(((unsigned char *)target.host)[4095], 1);
    ops->memory_destroy(&source);
    ops->memory_destroy(&target);
    end_queue(queue);
}

static void write_all(void *memory)
{
    memset(((struct mr_memory *)memory)->host, 0x5a, ((struct mr_memory *)memory)->size_bytes);
}

/* The driver would read the source while it is called. */
static void a_pageable_source_is_read_in_stream_order(void **state)
{
    (void)state;
    static const size_t sizes[] = { 100, 65536, 3000000 };
    struct mr_queue *queue = make_queue(rig.device);

    for (int i = 0; i < 3; i++) {
        struct mr_memory source = make_memory(rig.device, sizes[i], MR_PLACE_PAGEABLE);
        struct mr_memory device = make_memory(rig.device, sizes[i], MR_PLACE_DEVICE);
        struct mr_memory out = make_memory(rig.device, sizes[i], MR_PLACE_PINNED);
        memset(source.host, 0, sizes[i]);
        struct mr_gate *gate = shut(queue);
        assert_ok(ops->call(queue, write_all, &source));
        assert_ok(copy_flat(queue, &device, 0, &source, 0, sizes[i]));
        assert_ok(copy_flat(queue, &out, 0, &device, 0, sizes[i]));
        assert_status(MR_E_BUSY, ops->queue_query(queue));
        open_gate(queue, gate);
        assert_memory_equal(out.host, source.host, sizes[i]);
        assert_int_equal(((unsigned char *)out.host)[sizes[i] - 1], 0x5a);
        ops->memory_destroy(&source);
        ops->memory_destroy(&device);
        ops->memory_destroy(&out);
    }

    end_queue(queue);
}

static void rows_of_a_pageable_source_are_read_in_stream_order(void **state)
{
    (void)state;
    static const size_t widths[] = { 300, 1500000 };
    struct mr_queue *queue = make_queue(rig.device);

    for (int i = 0; i < 2; i++) {
        const size_t width = widths[i], count = 6000000 / (width + 20);
        struct mr_memory source = make_memory(rig.device, 6000000, MR_PLACE_PAGEABLE);
        struct mr_memory device = make_memory(rig.device, 6000000, MR_PLACE_DEVICE);
        struct mr_memory out = make_memory(rig.device, 6000000, MR_PLACE_PINNED);
        for (size_t k = 0; k < 6000000; k++)
            ((unsigned char *)source.host)[k] = (unsigned char)(k * 13 + k / 1000);
        const struct mr_transfer rows = { .target = &device,
                                          .source = &source,
                                          .source_offset = 2,
                                          .target_pitch = width + 7,
                                          .source_pitch = width + 20,
                                          .row_bytes = width,
                                          .row_count = count };
        struct mr_gate *gate = shut(queue);
        assert_ok(ops->copy(queue, &rows));
        assert_ok(copy_flat(queue, &out, 0, &device, 0, 6000000));
        open_gate(queue, gate);
        for (size_t row = 0; row < count; row++)
            assert_memory_equal((char *)out.host + row * (width + 7),
                                (char *)source.host + 2 + row * (width + 20), width);
        ops->memory_destroy(&source);
        ops->memory_destroy(&device);
        ops->memory_destroy(&out);
    }

    end_queue(queue);
}

/* ---- host memory of others ---- */

static void registered_memory_copies_until_it_is_unregistered(void **state)
{
    (void)state;
    struct mr_queue *queue = make_queue(rig.device);
    unsigned char *bytes = malloc(100000);
    struct mr_memory memory;

    assert_ok(ops->memory_register(rig.device, bytes, 100000, &memory));
    assert_int_equal(memory.place, MR_PLACE_PINNED);
    round_trip(queue, &memory);
    ops->memory_unregister(&memory);

    free(bytes);
    end_queue(queue);
}

static void memory_that_is_pinned_already_is_borrowed(void **state)
{
    (void)state;
    unsigned char *bytes = malloc(8192);
    struct mr_memory whole, part, pinned = make_memory(rig.device, 4096, MR_PLACE_PINNED);
    assert_ok(ops->memory_register(rig.device, bytes, 8192, &whole));
    const uint64_t before = fakecuda_count("cuMemHostUnregister");

    assert_ok(ops->memory_register(rig.device, bytes + 100, 1000, &part));
    ops->memory_unregister(&part);
    assert_ok(ops->memory_register(rig.device, pinned.host, 4096, &part));
    ops->memory_unregister(&part);

    assert_int_equal(fakecuda_count("cuMemHostUnregister"), before);
    ops->memory_unregister(&whole);
    ops->memory_destroy(&pinned);
    free(bytes);
}

static void memory_that_is_pinned_in_part_is_refused_with_the_remedy(void **state)
{
    (void)state;
    unsigned char *bytes = malloc(8192);
    struct mr_memory part, whole;
    assert_ok(ops->memory_register(rig.device, bytes, 4096, &part));

    assert_status(MR_E_DEVICE, ops->memory_register(rig.device, bytes, 8192, &whole));

    assert_words("CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED (712)");
    assert_words("register the whole of it once");
    ops->memory_unregister(&part);
    free(bytes);
}

/* ---- order ---- */

static void count_up(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, set_up_two, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_device_describes_itself),
        TEST_TWO(the_callers_context_is_left_as_it_was),
        TEST(bytes_pass_through_every_place),
        TEST(bytes_pass_through_memory_of_the_pool),
        TEST_TWO(bytes_pass_between_devices),
        TEST(rows_keep_their_pitch_in_every_place),
        TEST(fills_repeat_their_value_in_every_place),
        TEST(copies_between_host_memories_do_not_block),
        TEST(a_pageable_source_is_read_in_stream_order),
        TEST(rows_of_a_pageable_source_are_read_in_stream_order),
        TEST(registered_memory_copies_until_it_is_unregistered),
        TEST(memory_that_is_pinned_already_is_borrowed),
        TEST(memory_that_is_pinned_in_part_is_refused_with_the_remedy),
        TEST(a_gate_holds_its_queue_until_it_is_opened),
        cmocka_unit_test_setup_teardown(a_gate_holds_its_queue_until_it_is_opened,
                                        set_up_without_wait_value, tear_down),
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
        TEST(a_record_is_one_call_beside_the_look_at_the_context),
        TEST(steady_state_allocates_pins_and_synchronises_nothing),
        TEST(threads_share_the_pool_of_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
