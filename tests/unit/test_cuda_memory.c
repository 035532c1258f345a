/* SPDX-License-Identifier: MIT */
/* The CUDA backend over the stand-in driver: copies and fills, and host memory of others. */
#include "cuda_rig.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
