/* SPDX-License-Identifier: MIT */
/* Buffers over a scripted backend: ranges, reach, overlap, and when memory goes. */
#include "scripted_backend.h"
#include "support/unit.h"

#include "core/buffer.h"

#include <millrace/event.h>

#include <pthread.h>
#include <stdlib.h>

static mr_device *device;
static mr_stream *stream;

static int set_up(void **state)
{
    (void)state;
    device = scripted_open(&scripted_alpha);
    return !device || mr_stream_create(device, NULL, &stream);
}

static int tear_down(void **state)
{
    (void)state;
    mr_stream_destroy(stream);
    return mr_device_close(device) || !scripted_is_clean();
}

static mr_buffer *make_buffer(const char *name, size_t size_bytes)
{
    mr_buffer *buffer;
    assert_ok(mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .name = name }, &buffer));
    return buffer;
}

static void creation_checks_its_arguments(void **state)
{
    mr_buffer *buffer;
    (void)state;
    assert_status(MR_E_INVALID, mr_buffer_create(device, 0, NULL, &buffer));
    assert_null(buffer);
    assert_status(MR_E_INVALID, mr_buffer_create(NULL, 1, NULL, &buffer));
    const mr_buffer_options nowhere = { .place = (mr_place)3 };
    assert_status(MR_E_INVALID, mr_buffer_create(device, 1, &nowhere, &buffer));
    assert_int_equal(scripted_count(SCRIPTED_MEMORY_CREATE), 0);
}

static void no_memory_says_what_was_asked_for_and_what_is_free(void **state)
{
    mr_buffer *buffer;
    (void)state;
    assert_status(MR_E_NO_MEMORY, mr_buffer_create(device, 3 << 20, NULL, &buffer));
    assert_null(buffer);
    assert_words("3145728 bytes");
    assert_words("1000 of 2000");
    assert_status(MR_E_NO_MEMORY, mr_buffer_create(device, SIZE_MAX, NULL, &buffer));
    assert_words("18446744073709551615 bytes");
}

static void names_are_copied(void **state)
{
    char name[] = "frames";
    (void)state;
    mr_buffer *buffer = make_buffer(name, 8);
    name[0] = 'X';
    assert_string_equal(buffer->name, "frames");
    assert_int_equal(mr_buffer_size(buffer), 8);
    assert_ptr_equal(mr_buffer_device(buffer), device);
    assert_int_equal(mr_buffer_place(buffer), MR_PLACE_DEVICE);
    mr_buffer_destroy(buffer);
    mr_buffer_destroy(NULL);
}

static void ranges_past_the_end_are_named(void **state)
{
    mr_buffer *frames = make_buffer("frames", 8192), *other = make_buffer(NULL, 8192);
    (void)state;
    assert_status(MR_E_INVALID, mr_copy(stream, other, 0, frames, 4096, 4097));
    assert_string_equal(mr_last_error(),
                        "mr_copy: range 4096+4097 ends past buffer 'frames' of 8192 bytes");
    assert_status(MR_E_INVALID, mr_copy(stream, frames, 8193, other, 0, 0));
    assert_status(MR_E_INVALID, mr_copy(stream, frames, 1, other, 0, SIZE_MAX));
    assert_status(MR_E_INVALID, mr_copy(stream, frames, SIZE_MAX, other, 0, 2));
    assert_status(MR_E_INVALID, mr_fill(stream, frames, 8192, 1, 0, 1));
    assert_ok(mr_copy(stream, frames, 8192, other, 8192, 0));
    assert_ok(mr_fill(stream, frames, 8192, 0, 0, 4));
    assert_int_equal(scripted_count(SCRIPTED_COPY) + scripted_count(SCRIPTED_FILL), 0);
    mr_buffer_destroy(frames);
    mr_buffer_destroy(other);
}

static void layouts_that_overflow_are_invalid(void **state)
{
    mr_buffer *target = make_buffer(NULL, 4096), *source = make_buffer(NULL, 4096);
    static const mr_copy_2d_layout bad[] = {
        { .row_bytes = 16, .row_count = SIZE_MAX, .target_pitch = 16, .source_pitch = 16 },
        { .row_bytes = 16, .row_count = 2, .target_pitch = SIZE_MAX, .source_pitch = 16 },
        { .row_bytes = 16, .row_count = 3, .target_pitch = SIZE_MAX / 2, .source_pitch = 16 },
        { .row_bytes = SIZE_MAX, .row_count = 1, .target_pitch = 0, .source_pitch = 0 },
        { .row_bytes = 16, .row_count = 2, .target_pitch = 15, .source_pitch = 16 },
        { .row_bytes = 16, .row_count = 2, .target_pitch = 16, .source_pitch = 15 },
        { .row_bytes = 16, .row_count = 2, .target_pitch = 4081, .source_pitch = 16 },
        { .row_bytes = 16,
          .row_count = 2,
          .target_offset = 4065,
          .target_pitch = 16,
          .source_pitch = 16 },
        { .row_bytes = 0,
          .row_count = 2,
          .target_offset = 4097,
          .target_pitch = 16,
          .source_pitch = 16 },
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(MR_E_INVALID, mr_copy_2d(stream, target, source, &bad[i]));
        assert_words("mr_copy_2d");
    }
    assert_status(MR_E_INVALID, mr_copy_2d(stream, target, source, NULL));
    const mr_copy_2d_layout empty = { .row_bytes = 5, .row_count = 0 };
    assert_ok(mr_copy_2d(stream, target, source, &empty));
    const mr_copy_2d_layout whole = { .row_bytes = 4096, .row_count = 1 };
    assert_ok(mr_copy_2d(stream, target, source, &whole));
    assert_int_equal(scripted_count(SCRIPTED_COPY), 1);
    mr_buffer_destroy(target);
    mr_buffer_destroy(source);
}

static void fills_take_whole_values(void **state)
{
    mr_buffer *target = make_buffer(NULL, 64);
    (void)state;
    assert_status(MR_E_INVALID, mr_fill(stream, target, 0, 8, 1, 3));
    assert_status(MR_E_INVALID, mr_fill(stream, target, 0, 8, 1, 0));
    assert_status(MR_E_INVALID, mr_fill(stream, target, 2, 8, 1, 4));
    assert_status(MR_E_INVALID, mr_fill(stream, target, 0, 6, 1, 4));
    assert_status(MR_E_INVALID, mr_fill(NULL, target, 0, 8, 1, 4));
    assert_status(MR_E_INVALID, mr_fill(stream, NULL, 0, 8, 1, 4));
    mr_buffer_destroy(target);
}

static void copies_over_themselves_are_invalid(void **state)
{
    mr_buffer *buffer = make_buffer("one", 100), *view;
    (void)state;
    assert_status(MR_E_INVALID, mr_copy(stream, buffer, 10, buffer, 0, 11));
    assert_words("overlaps");
    assert_status(MR_E_INVALID, mr_copy(stream, buffer, 0, buffer, 0, 1));
    assert_ok(mr_copy(stream, buffer, 10, buffer, 0, 10));
    assert_ok(mr_copy(stream, buffer, 0, buffer, 10, 10));

    assert_ok(mr_buffer_borrow(device, (char *)mr_buffer_host(buffer) + 50, 50, MR_PLACE_PAGEABLE,
                               &view));
    assert_status(MR_E_INVALID, mr_copy(stream, buffer, 40, view, 0, 11));
    assert_ok(mr_copy(stream, buffer, 40, view, 0, 10));
    mr_buffer_destroy(view);
    mr_buffer_destroy(buffer);
}

/* What do_rows_meet must answer, byte by byte. */
static bool do_bytes_meet(const mr_copy_2d_layout *layout)
{
    bool is_target[512] = { false };
    for (size_t row = 0; row < layout->row_count; row++)
        for (size_t byte = 0; byte < layout->row_bytes; byte++)
            is_target[layout->target_offset + row * layout->target_pitch + byte] = true;
    for (size_t row = 0; row < layout->row_count; row++)
        for (size_t byte = 0; byte < layout->row_bytes; byte++)
            if (is_target[layout->source_offset + row * layout->source_pitch + byte])
                return true;
    return false;
}

static size_t span_of(const mr_copy_2d_layout *layout, size_t pitch)
{
    return (layout->row_count - 1) * pitch + layout->row_bytes;
}

static void overlap_of_rows_is_found_exactly(void **state)
{
    mr_buffer *buffer = make_buffer("one", 512);
    uint64_t apart = 0, meeting = 0;
    (void)state;
    srandom(7);
    for (int i = 0; i < 20000; i++) {
        mr_copy_2d_layout layout = { .row_bytes = 1 + (size_t)random() % 12,
                                     .row_count = 1 + (size_t)random() % 8 };
        layout.target_pitch = layout.row_bytes + (size_t)random() % 30;
        layout.source_pitch =
            random() % 2 ? layout.target_pitch : layout.row_bytes + (size_t)random() % 30;
        layout.target_offset = (size_t)random() % (512 - span_of(&layout, layout.target_pitch));
        layout.source_offset = (size_t)random() % (512 - span_of(&layout, layout.source_pitch));

        const bool do_meet = do_bytes_meet(&layout);
        assert_status(do_meet ? MR_E_INVALID : MR_OK, mr_copy_2d(stream, buffer, buffer, &layout));
        apart += !do_meet;
        meeting += do_meet;
    }
    assert_true(apart > 1000 && meeting > 1000);
    mr_buffer_destroy(buffer);
}

static void device_memory_of_another_backend_is_out_of_reach(void **state)
{
    mr_device *beta = scripted_open(&scripted_beta);
    mr_buffer *near = make_buffer("near", 64), *far, *pinned;
    mr_stream *far_stream;
    (void)state;
    assert_ok(mr_stream_create(beta, NULL, &far_stream));
    assert_ok(mr_buffer_create(beta, 64, &(mr_buffer_options){ .name = "far" }, &far));
    assert_ok(
        mr_buffer_create(beta, 64, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &pinned));

    assert_status(MR_E_UNSUPPORTED, mr_copy(stream, near, 0, far, 0, 64));
    assert_words("submit on a stream of beta:0");
    assert_status(MR_E_UNSUPPORTED, mr_copy(stream, far, 0, near, 0, 64));
    assert_status(MR_E_UNSUPPORTED, mr_fill(stream, far, 0, 64, 0, 1));

    assert_ok(mr_fill(stream, pinned, 0, 64, 0x5a, 1));
    assert_ok(mr_copy(stream, near, 0, pinned, 0, 64));
    assert_int_equal(((unsigned char *)mr_buffer_host(near))[63], 0x5a);
    assert_ok(mr_copy(far_stream, pinned, 0, near, 0, 64));

    uint64_t address;
    assert_status(MR_E_UNSUPPORTED,
                  mr__buffer_address_on("launch", far, mr_stream_device(stream), &address));
    assert_words("kernels on alpha:0 cannot reach");
    assert_status(MR_E_UNSUPPORTED, mr__buffer_address_on("launch", near, beta, &address));
    assert_ok(mr__buffer_address_on("launch", pinned, mr_stream_device(stream), &address));
    assert_int_equal(address, (uintptr_t)mr_buffer_host(pinned));
    mr_buffer_destroy(near);
    mr_buffer_destroy(far);
    mr_buffer_destroy(pinned);
    mr_stream_destroy(far_stream);
    assert_ok(mr_device_close(beta));
}

static void borrowed_and_registered_memory_stays_the_callers(void **state)
{
    char memory[64] = { 0 };
    mr_buffer *borrowed, *registered;
    (void)state;
    assert_ok(mr_buffer_borrow(device, memory, 64, MR_PLACE_PAGEABLE, &borrowed));
    assert_ok(mr_buffer_register(device, memory, 64, &registered));
    assert_ptr_equal(mr_buffer_host(borrowed), memory);
    assert_int_equal(mr_buffer_place(registered), MR_PLACE_PINNED);
    assert_ok(mr_fill(stream, borrowed, 0, 64, 7, 1));
    mr_buffer_destroy(borrowed);
    mr_buffer_destroy(registered);
    assert_int_equal(memory[63], 7);

    assert_status(MR_E_INVALID, mr_buffer_borrow(device, NULL, 64, MR_PLACE_PINNED, &borrowed));
    assert_status(MR_E_INVALID, mr_buffer_borrow(device, memory, 0, MR_PLACE_PINNED, &borrowed));
    assert_status(MR_E_INVALID,
                  mr_buffer_borrow(device, memory, SIZE_MAX, MR_PLACE_PINNED, &borrowed));
    assert_status(MR_E_INVALID, mr_buffer_register(device, NULL, 64, &registered));
    assert_null(registered);
}

static void borrowed_device_memory_has_no_host_address(void **state)
{
    mr_device *beta = scripted_open(&scripted_beta);
    char memory[64];
    mr_buffer *buffer;
    (void)state;
    assert_ok(mr_buffer_borrow(beta, memory, 64, MR_PLACE_DEVICE, &buffer));
    assert_null(mr_buffer_host(buffer));
    assert_int_equal(mr_buffer_address(buffer), (uintptr_t)memory);
    mr_buffer_destroy(buffer);
    assert_ok(mr_buffer_borrow(beta, memory, 64, MR_PLACE_PAGEABLE, &buffer));
    assert_ptr_equal(mr_buffer_host(buffer), memory);
    assert_int_equal(mr_buffer_address(buffer), 0);
    mr_buffer_destroy(buffer);
    assert_ok(mr_device_close(beta));
}

/* ---- uses ---- */

static void *let_go_of(void *held)
{
    scripted_let_go(held);
    return NULL;
}

static void destroying_waits_for_the_streams_that_used_it(void **state)
{
    unsigned char result[64] = { 0 };
    mr_buffer *target, *source = make_buffer(NULL, 64);
    pthread_t thread;
    (void)state;
    assert_ok(mr_buffer_borrow(device, result, 64, MR_PLACE_PAGEABLE, &target));
    assert_ok(mr_fill(stream, source, 0, 64, 9, 1));
    scripted_hold(stream);
    assert_ok(mr_copy(stream, target, 0, source, 0, 64));

    pthread_create(&thread, NULL, let_go_of, stream);
    mr_buffer_destroy(source);
    assert_int_equal(result[63], 9);
    pthread_join(thread, NULL);
    mr_buffer_destroy(target);
}

static void a_use_of_a_stream_that_is_gone_is_over(void **state)
{
    mr_buffer *buffer = make_buffer(NULL, 64);
    (void)state;
    for (int i = 0; i < 50; i++) {
        mr_stream *brief;
        assert_ok(mr_stream_create(device, NULL, &brief));
        assert_ok(mr_fill(brief, buffer, 0, 64, 1, 1));
        mr_stream_destroy(brief);
    }
    assert_int_equal(buffer->more_count, 0);
    const uint64_t waits = scripted_count(SCRIPTED_QUEUE_WAIT);
    mr_buffer_destroy(buffer);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_WAIT), waits);
}

static void many_streams_may_use_a_buffer(void **state)
{
    enum { COUNT = 30 };
    mr_stream *streams[COUNT];
    mr_buffer *buffer = make_buffer(NULL, 64);
    (void)state;
    for (int i = 0; i < COUNT; i++)
        assert_ok(mr_stream_create(device, NULL, &streams[i]));
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < COUNT; i++)
            assert_ok(mr_fill(streams[i], buffer, 0, 64, 1, 1));
    assert_int_equal(buffer->more_count, COUNT - MR__USE_COUNT);

    const uint64_t waits = scripted_count(SCRIPTED_QUEUE_WAIT);
    mr_buffer_destroy(buffer);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_WAIT), waits + COUNT);
    for (int i = 0; i < COUNT; i++)
        mr_stream_destroy(streams[i]);
}

static void touching_counts_as_a_use(void **state)
{
    mr_buffer *buffer = make_buffer(NULL, 64);
    (void)state;
    assert_ok(mr_buffer_touch(buffer, stream));
    assert_status(MR_E_INVALID, mr_buffer_touch(NULL, stream));
    assert_status(MR_E_INVALID, mr_buffer_touch(buffer, NULL));
    mr_buffer_destroy(buffer);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_WAIT), 1);
}

/* ---- ordered memory ---- */

static void ordered_memory_goes_without_waiting(void **state)
{
    mr_stream *other;
    mr_buffer *buffer;
    mr_event *event;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &other));
    assert_ok(mr_event_create(device, NULL, &event));
    assert_ok(mr_buffer_create_ordered(stream, 64, &buffer));
    assert_ok(mr_fill(stream, buffer, 0, 64, 1, 1));
    assert_ok(mr_fill(other, buffer, 0, 64, 2, 1));
    assert_ok(mr_event_record(event, other));
    assert_ok(mr_stream_wait_event(stream, event));

    mr_buffer_destroy(buffer);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_WAIT), 0);
    mr_event_destroy(event);
    mr_stream_destroy(other);
}

static void ordered_memory_waits_for_a_use_that_nothing_orders(void **state)
{
    mr_stream *other;
    mr_buffer *buffer;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &other));
    assert_ok(mr_buffer_create_ordered(stream, 64, &buffer));
    assert_ok(mr_fill(other, buffer, 0, 64, 2, 1));
    mr_buffer_destroy(buffer);
    assert_int_equal(scripted_count(SCRIPTED_QUEUE_WAIT), 1);
    mr_stream_destroy(other);

    assert_status(MR_E_INVALID, mr_buffer_create_ordered(stream, 0, &buffer));
    assert_status(MR_E_INVALID, mr_buffer_create_ordered(NULL, 1, &buffer));
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(creation_checks_its_arguments),
        TEST(no_memory_says_what_was_asked_for_and_what_is_free),
        TEST(names_are_copied),
        TEST(ranges_past_the_end_are_named),
        TEST(layouts_that_overflow_are_invalid),
        TEST(fills_take_whole_values),
        TEST(copies_over_themselves_are_invalid),
        TEST(overlap_of_rows_is_found_exactly),
        TEST(device_memory_of_another_backend_is_out_of_reach),
        TEST(borrowed_and_registered_memory_stays_the_callers),
        TEST(borrowed_device_memory_has_no_host_address),
        TEST(destroying_waits_for_the_streams_that_used_it),
        TEST(a_use_of_a_stream_that_is_gone_is_over),
        TEST(many_streams_may_use_a_buffer),
        TEST(touching_counts_as_a_use),
        TEST(ordered_memory_goes_without_waiting),
        TEST(ordered_memory_waits_for_a_use_that_nothing_orders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
