/* SPDX-License-Identifier: MIT */
/* The progress line on terminals of any width with any number of devices, and the same as JSON. */
#include "progress.h"

#include "support/unit.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { TEXT_BYTES = 2048, DEVICES = 64 };

static mr_job_device_progress devices[DEVICES];

static mr_job_progress progress_of(size_t device_count)
{
    for (size_t i = 0; i < device_count; i++) {
        devices[i] = (mr_job_device_progress){ .items = 10 + i,
                                               .bytes = 1000 * i,
                                               .bytes_per_second = 1.5e9,
                                               .share = 1.0 / (double)device_count };
        snprintf(devices[i].device, sizeof devices[i].device, "cuda:%zu", i);
    }
    return (mr_job_progress){ .items_in = 60,
                              .items_out = 50,
                              .item_count = 200,
                              .bytes_in = 3 << 20,
                              .seconds = 2,
                              .bytes_per_second = 3e9,
                              .seconds_left = 6,
                              .devices = device_count ? devices : NULL,
                              .device_count = device_count };
}

static const char *line_of(const mr_job_progress *now, size_t width)
{
    static char text[TEXT_BYTES];
    const size_t length = progress_line(now, width, text, sizeof text);
    assert_int_equal(strlen(text), length);
    assert_true(length <= width);
    return text;
}

static void one_device_has_a_bar_and_counts(void **state)
{
    (void)state;
    mr_job_progress now = progress_of(0);
    assert_string_equal(
        "[######------------------]  25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left",
        line_of(&now, 79));
    assert_string_equal("[##------]  25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left",
                        line_of(&now, 70));
    assert_string_equal(" 25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left", line_of(&now, 55));
    assert_string_equal(" 25 %  50/200 items  3 MiB  3.00 GB/s", line_of(&now, 37));
    now.item_count = 0;
    now.seconds_left = -1;
    assert_string_equal("50 items  3 MiB  3.00 GB/s", line_of(&now, 79));
}

static void several_devices_show_as_much_as_there_is_room_for(void **state)
{
    (void)state;
    mr_job_progress now = progress_of(2);
    devices[1].share = 0.26;
    devices[0].share = 0.74;
    assert_string_equal("[######------------------]  25 %  50/200 items  3 MiB  3.00 GB/s  "
                        "6.00 s left  cuda:0 1.50 GB/s  cuda:1 1.50 GB/s",
                        line_of(&now, 150));
    assert_string_equal("[##------]  25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left  "
                        "cuda:0 1.50 GB/s  cuda:1 1.50 GB/s",
                        line_of(&now, 100));
    assert_string_equal("[##------]  25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left  74|26 %",
                        line_of(&now, 79));
    assert_string_equal(" 25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left  74|26 %",
                        line_of(&now, 60));
    assert_string_equal(" 25 %  50/200 items  3 MiB  3.00 GB/s  6.00 s left", line_of(&now, 55));
}

static void lost_device_is_marked(void **state)
{
    (void)state;
    mr_job_progress now = progress_of(8);
    devices[3].is_lost = true;
    assert_non_null(strstr(line_of(&now, 300), "  cuda:3 lost  cuda:4 1.50 GB/s"));
    assert_non_null(strstr(line_of(&now, 90), "|12|x|12|"));
}

/* Eight devices fit a terminal of 80 columns. */
static void line_fits_any_terminal(void **state)
{
    (void)state;
    for (size_t count = 0; count <= DEVICES; count++) {
        mr_job_progress now = progress_of(count);
        for (size_t width = 1; width < 300; width++)
            (void)line_of(&now, width);
        if (count > 1 && count <= 8)
            assert_non_null(strstr(line_of(&now, 79), "|"));
    }
    mr_job_progress now = { .is_verifying = true };
    assert_string_equal("comparing with the reference...", line_of(&now, 79));
    assert_string_equal("comparing", line_of(&now, 9));
    char small[5];
    now = progress_of(8);
    assert_int_equal(4, progress_line(&now, 79, small, sizeof small));
}

static void json_carries_each_device(void **state)
{
    (void)state;
    char text[16384];
    for (size_t count = 0; count <= DEVICES; count += 8) {
        const mr_job_progress now = progress_of(count);
        progress_json(&now, text, sizeof text);
        assert_null(strchr(text, '\n'));
        json_t *value = json_loads(text, 0, NULL);
        assert_non_null(value);
        assert_int_equal(50, json_integer_value(json_object_get(value, "items_out")));
        assert_int_equal(200, json_integer_value(json_object_get(value, "item_count")));
        json_t *list = json_object_get(value, "devices");
        assert_int_equal(count, json_array_size(list));
        for (size_t i = 0; i < count; i++) {
            json_t *device = json_array_get(list, i);
            assert_string_equal(devices[i].device,
                                json_string_value(json_object_get(device, "device")));
            assert_true(json_number_value(json_object_get(device, "share")) > 0);
            assert_true(json_is_false(json_object_get(device, "is_lost")));
        }
        json_decref(value);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_device_has_a_bar_and_counts),
        cmocka_unit_test(several_devices_show_as_much_as_there_is_room_for),
        cmocka_unit_test(lost_device_is_marked),
        cmocka_unit_test(line_fits_any_terminal),
        cmocka_unit_test(json_carries_each_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
