/* SPDX-License-Identifier: MIT */
/* Names, the registry of open devices, children, and what is asked of devices. */
#include "scripted_backend.h"
#include "support/unit.h"

#include <millrace/event.h>

#include <pthread.h>

static void opening_twice_gives_the_same_device(void **state)
{
    mr_device *first = scripted_open(&scripted_alpha);
    mr_device *second = scripted_open(&scripted_alpha);
    (void)state;
    assert_ptr_equal(first, second);
    assert_ok(mr_device_close(second));
    assert_string_equal(mr_device_id(first), "alpha:0");
    assert_ok(mr_device_close(first));
}

static void a_device_with_children_stays_open(void **state)
{
    mr_device *device = scripted_open(&scripted_alpha);
    mr_event *event;
    (void)state;
    assert_ok(mr_event_create(device, NULL, &event));

    assert_status(MR_E_BUSY, mr_device_close(device));
    assert_words("alpha:0 still has 1 ");

    mr_event_destroy(event);
    assert_ok(mr_device_close(device));
}

static void closing_null_is_accepted(void **state)
{
    (void)state;
    assert_ok(mr_device_close(NULL));
}

static void names_that_name_nothing_are_invalid(void **state)
{
    static const char *const names[] = { "",       "gpu",         "cpu:",     "cpu:x", "cpu:-1",
                                         "cpu:1x", "cpu:0000000", "cuda:1:2", "CPU",   "autos" };
    mr_device *device;
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_status(MR_E_INVALID, mr_device_open(names[i], NULL, &device));
        assert_null(device);
        assert_words("\"cuda:N\"");
    }
    assert_status(MR_E_INVALID, mr_device_open(NULL, NULL, &device));
}

static void a_number_that_is_not_there_is_unavailable(void **state)
{
    mr_device *device;
    (void)state;
    assert_status(MR_E_UNAVAILABLE, mr_device_open("cpu:7", NULL, &device));
    assert_words("number 7");
    assert_status(MR_E_UNAVAILABLE, mr_device_open("cuda:99", NULL, &device));
    assert_true(mr_last_error()[0]);
}

static void too_many_workers_are_invalid(void **state)
{
    mr_device *device;
    (void)state;
    assert_status(MR_E_INVALID,
                  mr_device_open("cpu", &(mr_device_options){ .worker_count = 1025 }, &device));
    assert_words("1025");
}

static void auto_opens_some_device(void **state)
{
    mr_device *device;
    (void)state;
    assert_ok(mr_device_open("auto", NULL, &device));
    assert_ok(mr_device_close(device));
}

static void the_list_has_the_cpu_and_words_for_what_is_absent(void **state)
{
    mr_device_listing lines[64];
    size_t count, first_count;
    bool has_cpu = false;
    (void)state;
    assert_ok(mr_device_list(NULL, 0, &first_count));
    assert_ok(mr_device_list(lines, 64, &count));
    assert_int_equal(first_count, count);
    for (size_t i = 0; i < count && i < 64; i++) {
        has_cpu |= strcmp(lines[i].id, "cpu") == 0 && lines[i].is_available;
        assert_int_equal(lines[i].is_available, lines[i].reason[0] == '\0');
    }
    assert_true(has_cpu);
}

static void a_list_without_room_is_counted_all_the_same(void **state)
{
    mr_device_listing line;
    size_t count;
    (void)state;
    assert_ok(mr_device_list(&line, 1, &count));
    assert_true(count >= 1);
    assert_status(MR_E_INVALID, mr_device_list(NULL, 3, &count));
}

static void peers_are_of_one_backend(void **state)
{
    mr_device *alpha = scripted_open(&scripted_alpha), *beta = scripted_open(&scripted_beta);
    (void)state;
    assert_true(mr_device_can_peer(alpha, alpha));
    assert_false(mr_device_can_peer(alpha, beta));
    assert_ok(mr_device_close(alpha));
    assert_ok(mr_device_close(beta));
}

static void *open_and_close(void *unused)
{
    for (int i = 0; i < 30; i++) {
        mr_device *device = NULL;
        mr_stream *stream;
        if (mr_device_open("cpu", NULL, &device) ||
            mr_stream_default(device, MR_STREAM_PER_THREAD, &stream) ||
            mr_stream_default(device, MR_STREAM_LEGACY, &stream) || mr_device_close(device))
            return device;
    }
    return unused;
}

static void a_device_may_open_and_close_in_many_threads(void **state)
{
    enum { COUNT = 4 };
    pthread_t threads[COUNT];
    (void)state;
    for (int i = 0; i < COUNT; i++)
        pthread_create(&threads[i], NULL, open_and_close, NULL);
    for (int i = 0; i < COUNT; i++) {
        void *result;
        pthread_join(threads[i], &result);
        assert_null(result);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_twice_gives_the_same_device),
        cmocka_unit_test(a_device_with_children_stays_open),
        cmocka_unit_test(closing_null_is_accepted),
        cmocka_unit_test(names_that_name_nothing_are_invalid),
        cmocka_unit_test(a_number_that_is_not_there_is_unavailable),
        cmocka_unit_test(too_many_workers_are_invalid),
        cmocka_unit_test(auto_opens_some_device),
        cmocka_unit_test(the_list_has_the_cpu_and_words_for_what_is_absent),
        cmocka_unit_test(a_list_without_room_is_counted_all_the_same),
        cmocka_unit_test(a_device_may_open_and_close_in_many_threads),
        cmocka_unit_test(peers_are_of_one_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
