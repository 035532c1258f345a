/* SPDX-License-Identifier: MIT */
/* The vision job on several devices of the stand-in driver, and on a GPU and the CPU mixed: the bytes of
 * one device, whichever image went where, and also when a device is lost. */
#include "support/fakecuda/fakecuda.h"
#include "support/fault_driver.h"

#include "flow/pipeline.h"
#include "vision_fixture.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { IMAGES = 12, DEVICES = 4 };

/* Small images of one size, and of three. */
static void make_many(bool is_even)
{
    assert_int_equal(0, mkdir("in", 0777));
    for (uint32_t k = 0; k < IMAGES; k++) {
        char path[32];
        snprintf(path, sizeof path, "in/%u.png", k);
        save_png(path, is_even ? 72 : 60 + 10 * (k % 3), 64, k);
    }
}

static mr_job *parse(const char *device, const char *keys, const char *folder)
{
    char text[512];
    mr_job *job;
    snprintf(text, sizeof text, "device%s\nvision: { images: in, query: red, folder: %s%s }\n",
             device, folder, keys);
    const mr_status status = mr_job_parse(text, strlen(text), "job.yaml", NULL, &job);
    if (status)
        fail_msg("%s: %s", mr_status_name(status), mr_last_error());
    return job;
}

static mr_job *run_on(const char *device, const char *keys, const char *folder,
                      const mr_job_run_options *options)
{
    mr_job *job = parse(device, keys, folder);
    const mr_status status = mr_job_run(job, options);
    if (status)
        fail_msg("%s: %s", mr_status_name(status), mr_last_error());
    return job;
}

static void run_alone(const char *device, const char *keys, const char *folder)
{
    mr_job_destroy(run_on(device, keys, folder, NULL));
}

static const mr_pipeline_report *report_of(const mr_job *job)
{
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    return report->pipeline;
}

/* Each image was done by one of the devices, and words, JSON and summary say by which. */
static void check_report(const mr_job *job, const char *devices, size_t count)
{
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_string_equal(devices, report->device);
    assert_int_equal(count, report->pipeline->device_count);
    assert_int_equal(IMAGES, report->pipeline->items_out);
    uint64_t items = 0;
    for (size_t k = 0; k < count; k++)
        items += report->pipeline->devices[k].items;
    assert_int_equal(IMAGES, items);
    assert_non_null(strstr(mr_job_plan_text(job), devices));
    char line[64];
    snprintf(line, sizeof line, "  %s: ", report->pipeline->devices[count - 1].device);
    assert_non_null(strstr(mr_job_report_text(job), line));
    assert_non_null(strstr(mr_job_report_json(job), "\"devices\": ["));
    json_t *summary = json_load_file("b/summary.json", 0, NULL);
    assert_int_equal(count, json_array_size(json_object_get(summary, "devices")));
    assert_int_equal(IMAGES, json_array_size(json_object_get(summary, "list")));
    json_decref(summary);
}

static const struct {
    const char *key, *expected;
    size_t count;
} cases[] = {
    { "s: all", "cuda:0, cuda:1, cuda:2, cuda:3", 4 },
    { "s: [cuda:2, cuda:1]", "cuda:2, cuda:1", 2 },
    { "s: [cuda:1, cpu, cuda:0]", "cuda:1, cpu, cuda:0", 3 },
    { "s: [cpu, cuda:0]", "cpu, cuda:0", 2 },
};

static const char *const modes[] = { "",
                                     ", mode: pipelined",
                                     ", mode: concurrent, sets: 3, slots: 2, decode_threads: 3",
                                     ", slots: 1, decode_threads: 1, measure: false",
                                     ", mode: pipelined, measure: 5",
                                     ", mode: pipelined, batch: 3, slots: 2, measure: 5" };

static void several_devices_give_the_bytes_of_one(void **state)
{
    (void)state;
    make_many(false);
    run_alone(": cpu", "", "a");
    for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
        const size_t other = k % (sizeof cases / sizeof *cases);
        mr_job *job = run_on(cases[other].key, modes[k], "b", NULL);
        check_report(job, cases[other].expected, cases[other].count);
        mr_job_destroy(job);
        assert_int_equal(IMAGES * 7, assert_same_outputs("a", "b"));
    }
    assert_int_equal(0, fakecuda_live());
}

/* What is left to the job: batches where they pay. */
static void small_images_that_are_alike_go_in_batches(void **state)
{
    (void)state;
    static const struct {
        const char *device, *keys, *mode;
        unsigned batch;
    } choices[] = {
        { ": cuda", "outputs: [tokens]", "pipelined", 10 },
        { ": cuda", "outputs: [], mode: concurrent", "concurrent", 1 },
        { ": cuda", "outputs: [], mode: concurrent, batch: 2", "concurrent", 2 },
        { ": cuda", "outputs: [], batch: 3", "pipelined", 3 },
        { ": cuda", "outputs: [], limits: { memory: 8 MiB }", "pipelined", 5 },
        { "s: [cuda:1, cuda:0]", "outputs: []", "pipelined", 5 },
        { ": cuda", "outputs: [tokens, overlay]", "concurrent", 1 },
        { ": cpu", "outputs: []", "concurrent", 1 },
    };
    for (size_t k = 0; k < sizeof choices / sizeof *choices; k++) {
        char text[512], expected[64];
        mr_job *job;
        snprintf(text, sizeof text,
                 "device%s\nvision: { images: { generate: { count: 160, width: 40, height: 32 } }, "
                 "folder: out, %s }\n",
                 choices[k].device, choices[k].keys);
        assert_ok(mr_job_parse(text, strlen(text), "job.yaml", NULL, &job));
        assert_ok(mr_job_run(job, NULL));
        assert_int_equal(160, report_of(job)->items_out);
        json_t *report = json_loads(mr_job_report_json(job), 0, NULL);
        const json_t *vision = json_object_get(report, "vision");
        snprintf(expected, sizeof expected, "%s, batches of %u", choices[k].mode, choices[k].batch);
        char chosen[64];
        snprintf(chosen, sizeof chosen, "%s, batches of %u",
                 json_string_value(json_object_get(vision, "mode")),
                 (unsigned)json_integer_value(json_object_get(vision, "batch")));
        assert_string_equal(expected, chosen);
        json_decref(report);
        mr_job_destroy(job);
    }
}

/* Measured or not; on each device its own. How many batches are full is a matter of time, and only those are
 * launched as graphs. */
static void images_of_one_size_are_launched_again_as_graphs(void **state)
{
    (void)state;
    make_many(true);
    run_alone(": cpu", "", "a");
    mr__graphed_worth_ns = 0;
    for (size_t k = 0; k < 4; k++) {
        static const char *const keys[] = { ", mode: pipelined, slots: 2",
                                            ", mode: pipelined, batch: 2, slots: 2",
                                            ", mode: concurrent, sets: 2, slots: 2, measure: 2",
                                            ", slots: 1, measure: false" };
        mr_job *job = run_on(cases[k].key, keys[k], "b", NULL);
        if (!strstr(keys[k], "batch"))
            assert_non_null(strstr(mr_job_report_json(job), "\"replayed_parcels\": "));
        mr_job_destroy(job);
        assert_int_equal(IMAGES * 7, assert_same_outputs("a", "b"));
    }
    mr__graphed_worth_ns = 15000;
    assert_int_equal(0, fakecuda_live());
}

static void one_job_may_run_again_and_be_verified(void **state)
{
    (void)state;
    make_many(false);
    run_alone(": cuda:1", "", "a");
    mr_job *job = run_on("s: all", "", "b", &(mr_job_run_options){ .is_verified = true });
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    check_report(job, cases[0].expected, DEVICES);
    mr_job_destroy(job);
    assert_int_equal(IMAGES * 7, assert_same_outputs("a", "b"));
}

static void all_devices_without_a_gpu_are_the_cpu(void **state)
{
    (void)state;
    make_many(false);
    setenv("FAKECUDA_DEVICES", "0", 1);
    run_alone(": cpu", "", "a");
    mr_job *job = run_on(": all", "", "b", NULL);
    assert_int_equal(0, report_of(job)->device_count);
    mr_job_destroy(job);
    assert_int_equal(IMAGES * 7, assert_same_outputs("a", "b"));
}

/* The contact sheet and the summary have the images in their order. */
static void order_is_that_of_the_list(void **state)
{
    (void)state;
    make_many(false);
    run_alone("s: all", "", "b");
    json_t *summary = json_load_file("b/summary.json", 0, NULL);
    size_t size_bytes;
    char *page = read_file("b/index.html", &size_bytes), *at = page;
    for (uint32_t k = 0; k < IMAGES; k++) {
        char path[32];
        snprintf(path, sizeof path, "in/%u.png", k);
        const json_t *image = json_array_get(json_object_get(summary, "list"), k);
        assert_string_equal(path, json_string_value(json_object_get(image, "image")));
        at = strstr(at, path);
        assert_non_null(at);
    }
    assert_non_null(strstr(page, "cuda:3: "));
    free(page);
    json_decref(summary);
}

static void fewer_images_than_devices_are_done(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir("in", 0777));
    save_png("in/one.png", 90, 60, 1);
    run_alone(": cpu", "", "a");
    run_alone("s: all", "", "b");
    assert_int_equal(7, assert_same_outputs("a", "b"));
    write_text("in/one.png", "nothing");
    mr_job *job = parse("s: all", "", "c");
    assert_int_equal(MR_E_UNSUPPORTED, mr_job_run(job, NULL));
    assert_non_null(strstr(mr_last_error(), "in/one.png: no JPEG or PNG"));
    mr_job_destroy(job);
    assert_false(has_file("c"));
}

static void bad_images_are_left_out_on_several_devices(void **state)
{
    (void)state;
    make_many(false);
    size_t size_bytes;
    for (uint32_t k = 1; k < IMAGES; k += 4) {
        char path[32];
        snprintf(path, sizeof path, "in/%u.png", k);
        char *bytes = read_file(path, &size_bytes);
        bytes[size_bytes / 2] ^= 0x55; /* the header is good */
        write_file(path, bytes, size_bytes);
        free(bytes);
    }
    run_alone(": cpu", "", "a");
    mr_job *job = run_on("s: all", "", "b", NULL);
    assert_int_equal(3, report_of(job)->items_skipped);
    assert_int_equal(IMAGES, report_of(job)->items_in);
    mr_job_destroy(job);
    assert_int_equal((IMAGES - 3) * 7, assert_same_outputs("a", "b"));

    job = parse("s: all", ", on_error: stop", "c");
    assert_int_equal(MR_E_FORMAT, mr_job_run(job, NULL));
    assert_non_null(strstr(mr_last_error(), "in/1.png: corrupt"));
    mr_job_destroy(job);
    assert_false(has_file("c"));
    assert_int_equal(0, fakecuda_live());
}

/* ---- memory ---- */

/* Devices of 16 MB: the largest image that is taken runs, a larger one is named, and the rest is what it
 * was. */
static void an_image_without_room_on_a_device_is_left_out(void **state)
{
    (void)state;
    make_many(false);
    save_png("in/most.png", 320, 300, 1);
    run_alone(": cpu", "", "a");
    save_png("in/zu.png", 420, 300, 2);
    setenv("FAKECUDA_MEMORY_BYTES", "16000000", 1);
    static const char *const devices[] = { ": cuda:0", "s: [cuda:1, cpu]", "s: all" };
    for (size_t k = 0; k < 3; k++) {
        mr_job *job = run_on(devices[k], modes[k], "b", NULL);
        const char *words = mr_job_report_text(job);
        assert_non_null(strstr(words, "in/zu.png: too large for memory: 420 x 300 pixels need "));
        assert_non_null(strstr(words, k == 1 ? " on cuda:1, and" : " on cuda:0, and"));
        assert_non_null(strstr(words, "may take 6.4 MB there; give a smaller `size`\n"));
        assert_int_equal(1, report_of(job)->items_skipped);
        mr_job_destroy(job);
        assert_int_equal((IMAGES + 1) * 7, assert_same_outputs("a", "b"));
    }
    mr_job *job = parse(": cuda:0", ", on_error: stop", "c");
    assert_int_equal(MR_E_UNSUPPORTED, mr_job_run(job, NULL));
    assert_non_null(strstr(mr_last_error(), "in/zu.png: too large for memory"));
    mr_job_destroy(job);
    assert_false(has_file("c"));
    unsetenv("FAKECUDA_MEMORY_BYTES");
    assert_int_equal(0, fakecuda_live());
}

/* ---- what is measured ---- */

static json_int_t measured_of(const char *keys)
{
    mr_job *job = run_on("s: [cuda:0, cuda:1]", keys, "b", NULL);
    json_t *report = json_loads(mr_job_report_json(job), 0, NULL);
    const json_int_t measured =
        json_integer_value(json_object_get(json_object_get(report, "vision"), "measured"));
    json_decref(report);
    const bool is_said = strstr(mr_job_report_text(job), "measured image") != NULL;
    assert_int_equal(measured > 0 && measured < IMAGES, is_said);
    mr_job_destroy(job);
    return measured;
}

static void as_many_images_are_measured_as_asked_for(void **state)
{
    (void)state;
    make_many(true);
    assert_int_equal(IMAGES, measured_of(""));
    assert_int_equal(IMAGES, measured_of(", measure: true"));
    assert_int_equal(IMAGES, measured_of(", measure: 1"));
    assert_int_equal(0, measured_of(", measure: false"));
    const json_int_t some = measured_of(", measure: 5");
    assert_true(some > 0 && some <= IMAGES / 5 + 2);
    /* Of batches one in so many too; each device begins with one. */
    assert_in_range(measured_of(", mode: pipelined, batch: 3, measure: 4"), 1, IMAGES - 1);
}

/* ---- devices that die ---- */

/* At some progress; whether the device has anything left to do then is as it comes. */
static void break_device(void *context, const mr_job_progress *now)
{
    int *device = context;
    (void)now;
    if (*device >= 0)
        fakecuda_break(*device, 719);
    *device = -1;
}

static void outputs_are_the_same_when_a_device_is_lost(void **state)
{
    (void)state;
    make_many(false);
    run_alone(": cpu", "", "a");
    for (int round = 0; round < 5; round++) {
        int device = round % 3;
        const mr_job_run_options options = { .progress = break_device,
                                             .context = &device,
                                             .progress_interval_ns = 1 };
        mr_job *job = run_on("s: [cuda:0, cuda:1, cuda:2]", modes[round % 5], "b", &options);
        const mr_device_report *lost = &report_of(job)->devices[round % 3];
        assert_int_equal(lost->is_lost, strstr(mr_job_report_text(job), "    lost, ") != NULL);
        size_t size_bytes;
        char *page = read_file("b/index.html", &size_bytes);
        assert_int_equal(lost->is_lost, strstr(page, " and lost, ") != NULL);
        free(page);
        mr_job_destroy(job);
        assert_int_equal(IMAGES * 7, assert_same_outputs("a", "b"));
        assert_int_equal(0, fakecuda_live());
    }
}

static void break_all(void *context, const mr_job_progress *now)
{
    (void)context;
    (void)now;
    for (int k = 0; k < DEVICES; k++)
        fakecuda_break(k, 719);
}

/* Either they break in time, or the run is over before. */
static void nothing_is_left_when_all_devices_are_lost(void **state)
{
    (void)state;
    make_many(false);
    for (int round = 0; round < 4; round++) {
        mr_job *job = parse("s: all", modes[round], "b");
        const mr_job_run_options options = { .progress = break_all, .progress_interval_ns = 1 };
        const mr_status status = mr_job_run(job, &options);
        if (status) {
            assert_int_equal(MR_E_DEVICE, status);
            assert_false(has_file("b"));
        } else {
            assert_int_equal(IMAGES, count_files("b/scores"));
            assert_int_equal(0, system("rm -r b"));
        }
        mr_job_destroy(job);
        assert_int_equal(1, count_files("."));
        assert_int_equal(0, fakecuda_live());
    }
}

/* ---- failures one by one ---- */

/* Two small images on two devices; a run that failed leaves nothing, one that did not has both. */
static void survive(struct fault *fault)
{
    assert_int_equal(0, mkdir("in", 0777));
    save_png("in/1.png", 24, 16, 1);
    save_png("in/2.png", 16, 24, 2);
    while (fault_next(fault)) {
        mr_job *job;
        const char text[] = "devices: [cuda:0, cuda:1]\nvision: { images: in, query: red, "
                            "budget: 200, folder: b, sets: 1, mode: concurrent, slots: 1, "
                            "decode_threads: 2, limits: { pixels: 5000 } }\n";
        fault_begin(fault);
        mr_status status = mr_job_parse(text, strlen(text), "job.yaml", NULL, &job);
        if (!status)
            status = mr_job_run(job, NULL);
        fault_stop(fault);
        mr_job_destroy(job);
        fault_end(fault, status);
        assert_int_equal(0, fakecuda_live());
        assert_int_equal(status == MR_OK, has_file("b"));
        if (status)
            continue;
        assert_int_equal(2, count_files("b/scores"));
        assert_int_equal(0, system("rm -r b"));
    }
    assert_int_equal(1, count_files("."));
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY, .step = 37 };
    survive(&fault);
    assert_true(fault.error_count > 10);
}

static void every_driver_call_may_fail(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call, .step = 13 };
    survive(&fault);
    assert_true(fault.error_count > 10);
}

static int enter(void **state)
{
    setenv("FAKECUDA_DEVICES", "4", 1);
    unsetenv("FAKECUDA_MEMORY_BYTES");
    return fixture_enter(state);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, enter, fixture_leave)
    const struct CMUnitTest tests[] = {
        TEST(several_devices_give_the_bytes_of_one),
        TEST(small_images_that_are_alike_go_in_batches),
        TEST(images_of_one_size_are_launched_again_as_graphs),
        TEST(one_job_may_run_again_and_be_verified),
        TEST(all_devices_without_a_gpu_are_the_cpu),
        TEST(order_is_that_of_the_list),
        TEST(fewer_images_than_devices_are_done),
        TEST(bad_images_are_left_out_on_several_devices),
        TEST(an_image_without_room_on_a_device_is_left_out),
        TEST(as_many_images_are_measured_as_asked_for),
        TEST(outputs_are_the_same_when_a_device_is_lost),
        TEST(nothing_is_left_when_all_devices_are_lost),
        TEST(every_allocation_may_fail),
        TEST(every_driver_call_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
