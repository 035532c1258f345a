/* SPDX-License-Identifier: MIT */
/*
 * Buffers: every place, copies and fills against plain C on the host, and when memory goes.
 *
 * Results are poisoned before they are written, and the bytes around a target are looked at too.
 */
#include "support/latch.h"
#include "support/make.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/buffer.h>

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

static void *allocate(size_t size_bytes)
{
    void *block = malloc(size_bytes);
    CHECK(block);
    return block;
}

/* Through the device's own copies, by way of borrowed memory. */
static void put(mr_stream *stream, mr_buffer *target, const void *data)
{
    mr_buffer *view;
    const size_t size_bytes = mr_buffer_size(target);
    CHECK_OK(mr_buffer_borrow(mr_stream_device(stream), (void *)(uintptr_t)data, size_bytes,
                              MR_PLACE_PAGEABLE, &view));
    CHECK_OK(mr_copy(stream, target, 0, view, 0, size_bytes));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(view);
}

static void get(mr_stream *stream, void *data, mr_buffer *source)
{
    mr_buffer *view;
    const size_t size_bytes = mr_buffer_size(source);
    poison(data, size_bytes);
    CHECK_OK(
        mr_buffer_borrow(mr_stream_device(stream), data, size_bytes, MR_PLACE_PAGEABLE, &view));
    CHECK_OK(mr_copy(stream, view, 0, source, 0, size_bytes));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(view);
}

static void check_same(const unsigned char *wanted, const unsigned char *got, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i++)
        if (wanted[i] != got[i])
            CHECK_FAIL("byte %zu of %zu: expected %d, got %d", i, size_bytes, wanted[i], got[i]);
}

/* ---- places ---- */

static void places_say_who_reaches_them(mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    for (int place = MR_PLACE_DEVICE; place <= MR_PLACE_PAGEABLE; place++) {
        mr_buffer *buffer = make_buffer(device, 1000, (mr_place)place);
        CHECK_EQ(1000, mr_buffer_size(buffer));
        CHECK_EQ(place, mr_buffer_place(buffer));
        CHECK(mr_buffer_device(buffer) == device);

        const bool is_host = place != MR_PLACE_DEVICE || properties.is_host_memory;
        CHECK_EQ(is_host, mr_buffer_host(buffer) != NULL);
        if (place != MR_PLACE_PAGEABLE)
            CHECK(mr_buffer_address(buffer) != 0);
        CHECK_EQ(0, (uintptr_t)mr_buffer_host(buffer) % 256);
        CHECK_EQ(0, mr_buffer_address(buffer) % 256);
        mr_buffer_destroy(buffer);
    }
}

static void data_survives_every_way_between_places(mr_device *device)
{
    enum { SIZE = 100003 };
    unsigned char *data = allocate(SIZE), *result = allocate(SIZE);
    mr_stream *stream = make_stream(device);
    struct random random = { 11 };
    for (int from = MR_PLACE_DEVICE; from <= MR_PLACE_PAGEABLE; from++) {
        for (int to = MR_PLACE_DEVICE; to <= MR_PLACE_PAGEABLE; to++) {
            mr_buffer *source = make_buffer(device, SIZE, (mr_place)from);
            mr_buffer *target = make_buffer(device, SIZE, (mr_place)to);
            random_bytes(&random, data, SIZE);
            put(stream, source, data);
            CHECK_OK(mr_fill(stream, target, 0, SIZE, POISON, 1));
            CHECK_OK(mr_copy(stream, target, 0, source, 0, SIZE));
            get(stream, result, target);
            check_same(data, result, SIZE);
            mr_buffer_destroy(source);
            mr_buffer_destroy(target);
        }
    }
    mr_stream_destroy(stream);
    free(data);
    free(result);
}

static void large_copies_and_fills_are_complete(mr_device *device)
{
    enum { SIZE = (9 << 20) + 5 };
    unsigned char *data = allocate(SIZE), *result = allocate(SIZE);
    mr_stream *stream = make_stream(device);
    mr_buffer *first = make_buffer(device, SIZE, MR_PLACE_DEVICE);
    mr_buffer *second = make_buffer(device, SIZE, MR_PLACE_DEVICE);
    struct random random = { 5 };
    for (size_t at = 0; at + 8 <= SIZE; at += 8)
        memcpy(data + at, &(uint64_t){ random_next(&random) }, 8);
    memset(data + SIZE - 5, 1, 5);
    put(stream, first, data);
    CHECK_OK(mr_fill(stream, second, 0, SIZE, POISON, 1));
    CHECK_OK(mr_copy(stream, second, 0, first, 0, SIZE));
    CHECK_OK(mr_fill(stream, first, 0, SIZE - 1, 0x12345678, 4));
    get(stream, result, second);
    CHECK(memcmp(data, result, SIZE) == 0);

    get(stream, result, first);
    for (size_t at = 0; at < SIZE - 5; at += 4)
        CHECK(memcmp(result + at, &(uint32_t){ 0x12345678 }, 4) == 0);
    CHECK_EQ(data[SIZE - 1], result[SIZE - 1]);
    mr_buffer_destroy(first);
    mr_buffer_destroy(second);
    mr_stream_destroy(stream);
    free(data);
    free(result);
}

/* ---- random copies and fills against the host ---- */

enum { MODEL_BYTES = 6000, MODEL_ROUNDS = 400 };

/* Two buffers and what they must hold. */
struct model {
    mr_stream *stream;
    mr_buffer *buffers[2];
    unsigned char *wanted[2];
    unsigned char *result;
    struct random random;
};

static void model_init(struct model *model, mr_device *device, mr_place first, mr_place second)
{
    const mr_place places[] = { first, second };
    model->stream = make_stream(device);
    model->result = allocate(MODEL_BYTES);
    model->random.state = 99;
    for (int i = 0; i < 2; i++) {
        model->buffers[i] = make_buffer(device, MODEL_BYTES, places[i]);
        model->wanted[i] = allocate(MODEL_BYTES);
        random_bytes(&model->random, model->wanted[i], MODEL_BYTES);
        put(model->stream, model->buffers[i], model->wanted[i]);
    }
}

static void model_check(struct model *model)
{
    for (int i = 0; i < 2; i++) {
        get(model->stream, model->result, model->buffers[i]);
        check_same(model->wanted[i], model->result, MODEL_BYTES);
    }
}

static void model_fini(struct model *model)
{
    for (int i = 0; i < 2; i++) {
        mr_buffer_destroy(model->buffers[i]);
        free(model->wanted[i]);
    }
    mr_stream_destroy(model->stream);
    free(model->result);
}

static void copy_1d(struct model *model, int to)
{
    const size_t size = random_below(&model->random, MODEL_BYTES + 1);
    const size_t at = random_below(&model->random, MODEL_BYTES - size + 1);
    const size_t from = random_below(&model->random, MODEL_BYTES - size + 1);
    CHECK_OK(mr_copy(model->stream, model->buffers[to], at, model->buffers[!to], from, size));
    memcpy(model->wanted[to] + at, model->wanted[!to] + from, size);
}

static void copy_2d(struct model *model, int to)
{
    struct random *random = &model->random;
    mr_copy_2d_layout layout = { .row_bytes = 1 + random_below(random, 90),
                                 .row_count = 1 + random_below(random, 30) };
    layout.target_pitch = layout.row_bytes + random_below(random, 100);
    layout.source_pitch =
        random_below(random, 4) ? layout.row_bytes + random_below(random, 100) : layout.row_bytes;
    const size_t last = layout.row_count - 1;
    layout.target_offset =
        random_below(random, MODEL_BYTES - (last * layout.target_pitch + layout.row_bytes) + 1);
    layout.source_offset =
        random_below(random, MODEL_BYTES - (last * layout.source_pitch + layout.row_bytes) + 1);

    CHECK_OK(mr_copy_2d(model->stream, model->buffers[to], model->buffers[!to], &layout));
    for (size_t row = 0; row < layout.row_count; row++)
        memcpy(model->wanted[to] + layout.target_offset + row * layout.target_pitch,
               model->wanted[!to] + layout.source_offset + row * layout.source_pitch,
               layout.row_bytes);
}

static void fill_1d(struct model *model, int to)
{
    static const uint32_t widths[] = { 1, 2, 4 };
    const uint32_t width = widths[random_below(&model->random, 3)];
    const size_t size = random_below(&model->random, MODEL_BYTES / width + 1) * width;
    const size_t at = random_below(&model->random, (MODEL_BYTES - size) / width + 1) * width;
    const uint32_t value = (uint32_t)random_next(&model->random);
    CHECK_OK(mr_fill(model->stream, model->buffers[to], at, size, value, width));
    for (size_t i = 0; i < size; i += width)
        memcpy(model->wanted[to] + at + i, &value, width); /* little-endian, as all our hosts */
}

static void run_model(mr_device *device, mr_place first, mr_place second)
{
    struct model model;
    model_init(&model, device, first, second);
    for (int round = 0; round < MODEL_ROUNDS; round++) {
        const int to = (int)random_below(&model.random, 2);
        switch (random_below(&model.random, 3)) {
        case 0:
            copy_1d(&model, to);
            break;
        case 1:
            copy_2d(&model, to);
            break;
        default:
            fill_1d(&model, to);
            break;
        }
        if (round % 50 == 49)
            model_check(&model);
    }
    model_check(&model);
    model_fini(&model);
}

static void random_work_on_device_memory_equals_the_host(mr_device *device)
{
    run_model(device, MR_PLACE_DEVICE, MR_PLACE_DEVICE);
}

static void random_work_between_device_and_pinned_equals_the_host(mr_device *device)
{
    run_model(device, MR_PLACE_DEVICE, MR_PLACE_PINNED);
}

static void random_work_between_device_and_pageable_equals_the_host(mr_device *device)
{
    run_model(device, MR_PLACE_DEVICE, MR_PLACE_PAGEABLE);
}

static void random_work_between_host_places_equals_the_host(mr_device *device)
{
    run_model(device, MR_PLACE_PINNED, MR_PLACE_PAGEABLE);
}

/* ---- ranges ---- */

static void bad_ranges_fail_at_the_call_and_nothing_is_queued(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_buffer *small = make_buffer(device, 4096, MR_PLACE_DEVICE);
    mr_buffer *large;
    CHECK_OK(mr_buffer_create(device, 8192, &(mr_buffer_options){ .name = "frames" }, &large));

    CHECK_STATUS(MR_E_INVALID, mr_copy(stream, small, 0, large, 4096, 8192));
    CHECK_SAYS("range 0+8192", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_copy(stream, small, 0, large, 8000, 200));
    CHECK_SAYS("ends past buffer 'frames' of 8192 bytes", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_copy(stream, small, SIZE_MAX - 1, large, 0, 4));
    CHECK_STATUS(MR_E_INVALID, mr_copy(stream, large, 0, large, 100, 101));
    CHECK_STATUS(MR_E_INVALID, mr_fill(stream, small, 4096, 1, 0, 1));
    CHECK_STATUS(MR_E_INVALID, mr_fill(stream, small, 0, 8, 0, 3));
    const mr_copy_2d_layout tall = {
        .row_bytes = 64, .row_count = SIZE_MAX / 32, .target_pitch = 64, .source_pitch = 64
    };
    CHECK_STATUS(MR_E_INVALID, mr_copy_2d(stream, small, large, &tall));

    CHECK_OK(mr_copy(stream, small, 4096, large, 8192, 0));
    CHECK_OK(mr_stream_query(stream));
    mr_buffer_destroy(small);
    mr_buffer_destroy(large);
    mr_stream_destroy(stream);
}

static void impossible_sizes_are_out_of_memory_in_words(mr_device *device)
{
    mr_buffer *buffer;
    CHECK_STATUS(MR_E_NO_MEMORY, mr_buffer_create(device, SIZE_MAX / 4, NULL, &buffer));
    CHECK(!buffer);
    CHECK_SAYS("4611686018427387903", mr_last_error());
    CHECK_STATUS(MR_E_NO_MEMORY, mr_buffer_create(device, SIZE_MAX, NULL, &buffer));
    CHECK_STATUS(MR_E_INVALID, mr_buffer_create(device, 0, NULL, &buffer));
}

/* ---- memory of others ---- */

static void registered_memory_is_used_in_place(mr_device *device)
{
    enum { SIZE = 1 << 16 };
    unsigned char *memory = aligned_alloc(4096, SIZE), *result = allocate(SIZE);
    mr_stream *stream = make_stream(device);
    mr_buffer *inside = make_buffer(device, SIZE, MR_PLACE_DEVICE), *registered;
    struct random random = { 3 };
    CHECK(memory);
    random_bytes(&random, memory, SIZE);
    CHECK_OK(mr_buffer_register(device, memory, SIZE, &registered));
    CHECK(mr_buffer_host(registered) == memory);
    CHECK_EQ(MR_PLACE_PINNED, mr_buffer_place(registered));
    CHECK_OK(mr_copy(stream, inside, 0, registered, 0, SIZE));
    get(stream, result, inside);
    check_same(memory, result, SIZE);

    CHECK_OK(mr_fill(stream, registered, 0, SIZE, 0x77, 1));
    mr_buffer_destroy(registered); /* waits for the fill */
    CHECK_EQ(0x77, memory[SIZE - 1]);
    CHECK_OK(mr_buffer_register(device, memory, SIZE, &registered)); /* once more */
    mr_buffer_destroy(registered);
    mr_buffer_destroy(inside);
    mr_stream_destroy(stream);
    free(memory);
    free(result);
}

static void borrowed_device_memory_is_the_same_memory(mr_device *device)
{
    unsigned char result[64];
    mr_stream *stream = make_stream(device);
    mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_DEVICE), *view;
    void *address = (void *)(uintptr_t)(mr_buffer_address(buffer) + 1024);
    CHECK_OK(mr_buffer_borrow(device, address, 64, MR_PLACE_DEVICE, &view));
    CHECK_OK(mr_fill(stream, buffer, 0, 4096, 1, 1));
    CHECK_OK(mr_fill(stream, view, 0, 64, 2, 1));
    get(stream, result, view);
    CHECK_EQ(2, result[0]);
    CHECK_EQ(2, result[63]);
    mr_buffer_destroy(view);
    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
}

/* ---- lifetime ---- */

struct opener {
    struct latch *latch;
    _Atomic bool has_opened;
};

static void *open_latch(void *context)
{
    struct opener *opener = context;
    atomic_store(&opener->has_opened, true);
    latch_open(opener->latch);
    return NULL;
}

static void destroying_a_buffer_waits_for_its_uses(mr_device *device)
{
    enum { SIZE = 1 << 16 };
    unsigned char *result = allocate(SIZE);
    mr_stream *stream = make_stream(device);
    mr_buffer *source = make_buffer(device, SIZE, MR_PLACE_DEVICE), *target;
    struct latch latch;
    struct opener opener = { &latch, false };
    pthread_t thread;
    poison(result, SIZE);
    CHECK_OK(mr_buffer_borrow(device, result, SIZE, MR_PLACE_PAGEABLE, &target));
    CHECK_OK(mr_fill(stream, source, 0, SIZE, 9, 1));
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    latch_init(&latch);
    latch_stop(&latch, stream);
    /* A GPU's copy to pageable memory may wait in the call: there, another fill is the use. */
    if (properties.is_host_memory)
        CHECK_OK(mr_copy(stream, target, 0, source, 0, SIZE));
    else
        CHECK_OK(mr_fill(stream, source, 0, SIZE, 8, 1));

    CHECK_EQ(0, pthread_create(&thread, NULL, open_latch, &opener));
    mr_buffer_destroy(source);
    CHECK(atomic_load(&opener.has_opened));
    if (properties.is_host_memory)
        CHECK_EQ(9, result[SIZE - 1]);
    CHECK_EQ(0, pthread_join(thread, NULL));
    mr_buffer_destroy(target);
    mr_stream_destroy(stream);
    latch_fini(&latch);
    free(result);
}

static mr_status count_late(void *context)
{
    for (int i = 0; i < 2000; i++)
        sched_yield();
    atomic_fetch_add((_Atomic int *)context, 1);
    return MR_OK;
}

/* More streams than a buffer has places for in itself. */
static void a_wait_for_a_buffer_is_for_all_its_uses(mr_device *device)
{
    enum { STREAMS = 12 };
    mr_stream *streams[STREAMS];
    mr_buffer *buffer;
    _Atomic int count = 0;
    CHECK_OK(mr_buffer_create(device, 4096, NULL, &buffer));
    CHECK_OK(mr_buffer_wait(buffer)); /* there is none */
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = make_stream(device);
        CHECK_OK(mr_stream_call(streams[i], count_late, &count));
        CHECK_OK(mr_fill(streams[i], buffer, (size_t)i * 4, 4, 1, 1));
    }
    CHECK_OK(mr_buffer_wait(buffer));
    CHECK_EQ(STREAMS, atomic_load(&count));
    for (int i = 0; i < STREAMS; i++)
        mr_stream_destroy(streams[i]);
    CHECK_OK(mr_buffer_wait(buffer)); /* they have ended */
    CHECK_STATUS(MR_E_INVALID, mr_buffer_wait(NULL));
    mr_buffer_destroy(buffer);
}

static void a_buffer_may_be_destroyed_after_its_streams(mr_device *device)
{
    mr_buffer *buffer = make_buffer(device, 4096, MR_PLACE_DEVICE);
    for (int i = 0; i < 20; i++) {
        mr_stream *stream = make_stream(device);
        CHECK_OK(mr_fill(stream, buffer, 0, 4096, (uint32_t)i, 4));
        mr_stream_destroy(stream);
    }
    mr_buffer_destroy(buffer);
    mr_buffer_destroy(NULL);
}

static void ordered_memory_follows_its_stream(mr_device *device)
{
    enum { SIZE = 50000 };
    unsigned char *result = allocate(SIZE);
    mr_stream *stream = make_stream(device), *other = make_stream(device);
    mr_event *event;
    mr_buffer *buffer;
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    CHECK_OK(mr_event_create(device, NULL, &event));
    if (!properties.has_ordered_pools) {
        CHECK_STATUS(MR_E_UNSUPPORTED, mr_buffer_create_ordered(stream, SIZE, &buffer));
        CHECK(!buffer);
    }
    for (uint32_t i = 0; properties.has_ordered_pools && i < 30; i++) {
        CHECK_OK(mr_buffer_create_ordered(stream, SIZE, &buffer));
        CHECK_EQ(SIZE, mr_buffer_size(buffer));
        CHECK_OK(mr_fill(stream, buffer, 0, SIZE, i, 1));
        CHECK_OK(mr_event_record(event, stream));
        CHECK_OK(mr_stream_wait_event(other, event));
        get(other, result, buffer);
        CHECK_EQ(i, result[0]);
        CHECK_EQ(i, result[SIZE - 1]);
        CHECK_OK(mr_event_record(event, other));
        CHECK_OK(mr_stream_wait_event(stream, event));
        mr_buffer_destroy(buffer);
    }
    CHECK_OK(mr_stream_wait(stream));
    mr_event_destroy(event);
    mr_stream_destroy(stream);
    mr_stream_destroy(other);
    free(result);
}

static void destroying_ordered_memory_does_not_wait(mr_device *device)
{
    mr_stream *stream = make_stream(device);
    mr_buffer *buffer;
    mr_device_properties properties;
    struct latch latch;
    mr_device_describe(device, &properties);
    latch_init(&latch);
    latch_stop(&latch, stream);
    if (properties.has_ordered_pools) {
        CHECK_OK(mr_buffer_create_ordered(stream, 4096, &buffer));
        CHECK_OK(mr_fill(stream, buffer, 0, 4096, 1, 1));
        mr_buffer_destroy(buffer); /* the latch is shut: to wait would be for ever */
    }
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(stream));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(stream));
    mr_stream_destroy(stream);
    latch_fini(&latch);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(places_say_who_reaches_them),
        SUITE_TEST(data_survives_every_way_between_places),
        SUITE_TEST(large_copies_and_fills_are_complete),
        SUITE_TEST(random_work_on_device_memory_equals_the_host),
        SUITE_TEST(random_work_between_device_and_pinned_equals_the_host),
        SUITE_TEST(random_work_between_device_and_pageable_equals_the_host),
        SUITE_TEST(random_work_between_host_places_equals_the_host),
        SUITE_TEST(bad_ranges_fail_at_the_call_and_nothing_is_queued),
        SUITE_TEST(impossible_sizes_are_out_of_memory_in_words),
        SUITE_TEST(registered_memory_is_used_in_place),
        SUITE_TEST(borrowed_device_memory_is_the_same_memory),
        SUITE_TEST(destroying_a_buffer_waits_for_its_uses),
        SUITE_TEST(a_wait_for_a_buffer_is_for_all_its_uses),
        SUITE_TEST(a_buffer_may_be_destroyed_after_its_streams),
        SUITE_TEST(ordered_memory_follows_its_stream),
        SUITE_TEST(destroying_ordered_memory_does_not_wait),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
