/* SPDX-License-Identifier: MIT */
/* Jobs on several devices of the stand-in driver, and on GPUs and the CPU mixed. */
#include "support/fakecuda/fakecuda.h"

#include "job_fixture.h"

#include <stdlib.h>

static const char stages[] = "stages:\n"
                             "  - { op: median3x3 }\n"
                             "  - { name: grey, op: quantise, low: 30, high: 9000 }\n"
                             "  - { op: statistics, from: median3x3 }\n"
                             "  - { op: histogram, from: grey, bins: 9, low: 0, high: 255 }\n"
                             "sinks:\n"
                             "  - { npy: grey.npy, from: grey }\n"
                             "  - { json: s.jsonl, from: statistics }\n"
                             "  - { npy: h.npy, from: histogram }\n"
                             "options: { parcel_items: 4 }\n";

static const char *job_text(const char *device)
{
    static char text[2048];
    snprintf(text, sizeof text,
             "%s\nsource: { generate: { kind: random, dtype: u16, shape: [13, 21], count: 300 } "
             "}\n%s",
             device, stages);
    return text;
}

/* Without an override, so that the job's own words count. */
static mr_status parse(const char *text, const char *device, mr_job **out)
{
    const mr_job_options options = { .device = device };
    return mr_job_parse(text, strlen(text), "job.yaml", &options, out);
}

static mr_job *run_on(const char *key, const char *device)
{
    mr_job *job;
    assert_ok(parse(job_text(key), device, &job));
    const mr_status status = mr_job_run(job, &(mr_job_run_options){ .is_verified = true });
    if (status)
        fail_msg("%s: %s", mr_status_name(status), mr_last_error());
    return job;
}

static void check_report(const mr_job *job, const char *devices, size_t count)
{
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_string_equal(devices, report->device);
    assert_int_equal(count, report->pipeline->device_count);
    assert_int_equal(300, report->pipeline->items_out);
    uint64_t items = 0;
    for (size_t k = 0; k < count; k++)
        items += report->pipeline->devices[k].items;
    assert_true(!count || items >= 300);
    assert_int_equal(count != 0, strstr(mr_job_report_json(job), "\"devices\": [") != NULL);
    assert_true(!count || strstr(mr_job_report_text(job), "  cuda:1: "));
}

static void jobs_run_on_the_devices_they_name(void **state)
{
    (void)state;
    const struct {
        const char *key, *device, *expected;
        size_t count;
    } cases[] = {
        { "devices: all", NULL, "cuda:0, cuda:1, cuda:2", 3 },
        { "devices: [cuda:1, cpu, cuda:0]", NULL, "cuda:1, cpu, cuda:0", 3 },
        { "devices: cuda:0,cuda:1", NULL, "cuda:0, cuda:1", 2 },
        { "devices: [cuda:2]", NULL, "cuda:2", 0 },
        { "device: all", NULL, "cuda:0, cuda:1, cuda:2", 3 },
        { "device: [cuda:2, cuda:1]", NULL, "cuda:2, cuda:1", 2 },
        { "device: cpu", "all", "cuda:0, cuda:1, cuda:2", 3 },
        { "devices: all", "cpu", "cpu", 0 },
        { "", "cuda:1,cuda:2", "cuda:1, cuda:2", 2 },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        mr_job *job = run_on(cases[k].key, cases[k].device);
        check_report(job, cases[k].expected, cases[k].count);
        mr_job_destroy(job);
    }
    assert_int_equal(0, fakecuda_live());
}

static void all_devices_without_a_gpu_are_the_cpu(void **state)
{
    (void)state;
    setenv("FAKECUDA_DEVICES", "0", 1);
    mr_job *job = run_on("devices: all", NULL);
    check_report(job, "cpu", 0);
    mr_job_destroy(job);
    setenv("FAKECUDA_DEVICES", "3", 1);
}

static void plan_names_every_device(void **state)
{
    (void)state;
    mr_job *job;
    assert_ok(parse(job_text("devices: [cuda:0, cuda:2]"), NULL, &job));
    assert_non_null(strstr(mr_job_plan_text(job), " on cuda:0, cuda:2, gives"));
    mr_job_destroy(job);
}

/* At some progress; whether the device has anything left to do then is as it comes. */
static void break_device(void *context, const mr_job_progress *now)
{
    int *device = context;
    (void)now;
    if (*device >= 0)
        fakecuda_break(*device, 719);
    *device = -1;
}

static void check_progress(void *context, const mr_job_progress *now)
{
    double shares = 0;
    uint64_t items = 0;
    (void)context;
    if (now->is_verifying)
        return;
    assert_int_equal(3, now->device_count);
    for (int i = 0; i < 3; i++) {
        char id[24];
        snprintf(id, sizeof id, "cuda:%d", i);
        assert_string_equal(id, now->devices[i].device);
        assert_true(now->devices[i].bytes_per_second >= 0);
        shares += now->devices[i].share;
        items += now->devices[i].items;
    }
    assert_true(shares == 0 || (shares > 0.999 && shares < 1.001));
    assert_true(items <= 300);
}

static void progress_names_each_device(void **state)
{
    (void)state;
    mr_job *job;
    assert_ok(parse(job_text("devices: all"), NULL, &job));
    assert_ok(mr_job_run(
        job, &(mr_job_run_options){ .progress = check_progress, .progress_interval_ns = 1 }));
    mr_job_destroy(job);
}

static void outputs_are_the_same_when_a_device_is_lost(void **state)
{
    (void)state;
    for (int round = 0; round < 9; round++) {
        mr_job *job;
        int device = round % 3;
        const mr_job_run_options options = { .progress = break_device,
                                             .context = &device,
                                             .progress_interval_ns = 1,
                                             .is_verified = true };
        assert_ok(parse(job_text("devices: all"), NULL, &job));
        const mr_status status = mr_job_run(job, &options);
        if (status)
            fail_msg("%s: %s", mr_status_name(status), mr_last_error());
        const mr_job_report *report;
        assert_ok(mr_job_report_get(job, &report));
        assert_int_equal(300, report->pipeline->items_out);
        const mr_device_report *lost = &report->pipeline->devices[round % 3];
        assert_int_equal(lost->is_lost, strstr(mr_job_report_text(job), "    lost, ") != NULL);
        assert_int_equal(lost->is_lost,
                         strstr(mr_job_report_json(job), "\"is_lost\": true") != NULL);
        mr_job_destroy(job);
    }
    assert_int_equal(0, fakecuda_live());
}

static void refuse(const char *text, const char *words)
{
    mr_job *job;
    assert_true(parse(text, NULL, &job) != MR_OK);
    assert_null(job);
    if (!strstr(mr_last_error(), words))
        fail_msg("expected '%s' in '%s'", words, mr_last_error());
}

static void mistakes_about_devices_are_told(void **state)
{
    (void)state;
    refuse(job_text("devices: [cuda:0, cuda:1, cuda:0]"), "named twice");
    refuse(job_text("devices: [cuda:0, cuda]"), "named twice");
    refuse(job_text("devices: [cuda:0, cuda:7]"), "cuda:7");
    refuse(job_text("devices: []"), "no device");
    refuse(job_text("devices: { a: b }"), "devices");
    refuse(job_text("device: cpu\ndevices: all"), "keep one of");
    mr_job *job;
    assert_true(parse(job_text(""), "cuda:1,cuda:7", &job) != MR_OK);
    assert_non_null(strstr(mr_last_error(), "--device: device 'cuda:7'"));
    refuse("devices: [cuda:0, cuda:1]\n"
           "source: { generate: { kind: random, dtype: u8, shape: 5, count: 3 } }\n"
           "stages: [ { op: threshold, limit: 3, replicas: 1 } ]\nsinks: [ { npy: out.npy } ]\n",
           "takes its items in order");
}

static int enter(void **state)
{
    setenv("FAKECUDA_DEVICES", "3", 1);
    return fixture_enter(state);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, enter, fixture_leave)
    const struct CMUnitTest tests[] = {
        TEST(jobs_run_on_the_devices_they_name), TEST(all_devices_without_a_gpu_are_the_cpu),
        TEST(plan_names_every_device),           TEST(outputs_are_the_same_when_a_device_is_lost),
        TEST(progress_names_each_device),        TEST(mistakes_about_devices_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
