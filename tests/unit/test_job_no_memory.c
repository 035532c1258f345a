/* SPDX-License-Identifier: MIT */
/* Loading and running jobs with the Nth allocation failing, N growing until none fails: always a
 * status and words, never a crash, a leak or a file that looks whole. */
#include "job_fixture.h"
#include "support/fault.h"

#include <unistd.h>

static mr_status load_and_run(const char *text, bool is_run)
{
    mr_job *job;
    mr_status status = try_job(text, NULL, &job);
    if (!status && is_run)
        status = mr_job_run(job, &(mr_job_run_options){ .is_verified = true });
    if (!status && is_run && (!mr_job_report_json(job)[0] || !mr_job_report_text(job)[0]))
        status = MR_E_NO_MEMORY;
    mr_job_destroy(job);
    return status;
}

/* Jansson, libyaml's documents and the C library allocate by themselves; what is ours is failed. */
static void fail_every_allocation(const char *text, bool is_run, const char *output)
{
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        if (output)
            unlink(output);
        fault_begin(&fault);
        const mr_status status = load_and_run(text, is_run);
        fault_end(&fault, status);
    }
    assert_true(fault.error_count > 5);
    assert_true(!output || has_file(output));
}

static void job_load_survives_no_memory(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 2, 4, 6, 1);
    write_stack("dark.npy", MR_TYPE_U16, 1, 4, 6, 1);
    fail_every_allocation(
        "name: memory\n"
        "source: { npy: in.npy }\n"
        "inputs: { dark: { npy: dark.npy } }\n"
        "stages:\n"
        "  - { op: calibrate, dark: dark }\n"
        "  - { op: median3x3 }\n"
        "  - { op: quantise }\n"
        "  - { op: statistics, from: median3x3 }\n"
        "sinks: [ { npy: out.npy, from: quantise }, { json: s, from: statistics },"
        " { png: p.png, from: [source, quantise] } ]\n",
        false, NULL);
}

static void job_of_files_survives_no_memory(void **state)
{
    (void)state;
    write_stack("f1.npy", MR_TYPE_U16, 2, 4, 6, 1);
    write_stack("f2.npy", MR_TYPE_U16, 2, 4, 6, 1);
    fail_every_allocation("source: { files: 'f*.npy' }\nsinks: [ { raw: out.raw } ]\n", false,
                          NULL);
}

static void job_run_survives_no_memory(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 3, 4, 6, 1);
    write_stack("dark.npy", MR_TYPE_U16, 1, 4, 6, 1);
    fail_every_allocation(
        "source: { npy: in.npy }\n"
        "inputs: { dark: { npy: dark.npy } }\n"
        "stages:\n"
        "  - { op: calibrate, dark: dark }\n"
        "  - { op: quantise }\n"
        "  - { op: statistics, from: calibrate }\n"
        "sinks: [ { npy: out.npy, from: quantise }, { json: s, from: statistics },"
        " { png: p.png, from: [source, quantise] } ]\n",
        true, "out.npy");
    assert_int_equal(5, count_files("."));
}

static void generated_job_survives_no_memory(void **state)
{
    (void)state;
    fail_every_allocation(
        "source: { generate: { kind: frames, dtype: u16, shape: [8, 9], count: 3 } }\n"
        "sinks: [ { raw: out.raw } ]\n",
        true, "out.raw");
    assert_int_equal(1, count_files("."));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(job_load_survives_no_memory),
        fixture_test(job_of_files_survives_no_memory),
        fixture_test(job_run_survives_no_memory),
        fixture_test(generated_job_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
