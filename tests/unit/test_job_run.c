/* SPDX-License-Identifier: MIT */
/* Jobs from end to end on the CPU: every operation against its reference, policies, cancel, custom
 * kernels and shared objects. */
#include "job_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* A job over in.npy (or another source) with some stages, written to out.npy and verified. */
static void verify_stages(const char *stages, const char *options)
{
    char text[2048];
    snprintf(text, sizeof text,
             "source: { npy: in.npy }\nstages:\n%ssinks: [ { npy: out.npy } ]\noptions: { %s }\n",
             stages, options);
    run_verified(text);
    unlink("out.npy");
}

static const char *const shapes[] = { "", "slots: 1", "parcel_items: 1", "chunk: 1, slots: 7",
                                      "parcel_items: 3, slots: 2" };

static void verify_on_all_shapes(mr_type type, const char *stages)
{
    static const uint64_t sizes[][3] = {
        { 5, 7, 9 }, { 1, 1, 1 }, { 17, 3, 1 }, { 4, 1, 40 }, { 3, 60, 70 },
    };
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        write_stack("in.npy", type, sizes[k][0], sizes[k][1], sizes[k][2], 7919);
        verify_stages(stages, shapes[k]);
    }
}

static void run_agrees_with_the_reference_for_conversions(void **state)
{
    (void)state;
    static const mr_type types[] = { MR_TYPE_U8,  MR_TYPE_U16, MR_TYPE_I16, MR_TYPE_U32,
                                     MR_TYPE_I32, MR_TYPE_F32, MR_TYPE_F64 };
    for (size_t from = 0; from < 7; from++) {
        for (size_t to = 0; to < 7; to++) {
            char stages[128];
            if (from == to)
                continue;
            snprintf(stages, sizeof stages, "  - { op: convert, to: %s }\n",
                     mr_type_name(types[to]));
            write_stack("in.npy", types[from], 5, 7, 9, 7919);
            verify_stages(stages, "");
        }
    }
}

static void run_agrees_with_the_reference_element_by_element(void **state)
{
    (void)state;
    static const mr_type types[] = { MR_TYPE_U8,  MR_TYPE_U16, MR_TYPE_I16, MR_TYPE_U32,
                                     MR_TYPE_I32, MR_TYPE_F32, MR_TYPE_F64 };
    for (size_t k = 0; k < 7; k++) {
        verify_on_all_shapes(types[k], "  - { op: clamp, low: 3, high: 99 }\n");
        verify_on_all_shapes(types[k], "  - { op: threshold, limit: 50 }\n");
    }
    static const mr_type scaled[] = { MR_TYPE_U8, MR_TYPE_U16, MR_TYPE_F32, MR_TYPE_F64 };
    for (size_t k = 0; k < 4; k++)
        verify_on_all_shapes(scaled[k], "  - { op: scale_offset, scale: 0.1, offset: -3.3 }\n");
    verify_on_all_shapes(MR_TYPE_F32, "  - { op: clamp, low: 0.1, high: 99.9 }\n"
                                      "  - { op: threshold, limit: 0.3, below: -1, above: 2.5 }\n");
}

static void run_agrees_with_the_reference_on_images(void **state)
{
    (void)state;
    static const mr_type types[] = { MR_TYPE_U8, MR_TYPE_U16, MR_TYPE_F32 };
    for (size_t k = 0; k < 3; k++) {
        verify_on_all_shapes(types[k], "  - { op: median3x3 }\n");
        verify_on_all_shapes(types[k], "  - { op: statistics }\n");
        verify_on_all_shapes(types[k], "  - { op: quantise, low: 3, high: 900 }\n");
        verify_on_all_shapes(types[k], "  - { op: quantise }\n");
        verify_on_all_shapes(types[k], "  - { op: histogram, bins: 10, low: 1, high: 200 }\n");
    }
}

static void run_reduces_large_items_in_parts(void **state)
{
    (void)state;
    run_verified("source: { generate: { kind: random, dtype: u16, shape: [400, 501], count: 9 } }\n"
                 "stages:\n"
                 "  - { name: s, op: statistics }\n"
                 "  - { name: h, op: histogram, from: source, bins: 5000, low: 0, high: 65535 }\n"
                 "  - { name: f, op: convert, from: source, to: f32 }\n"
                 "  - { name: q, op: quantise, from: f, replicas: 3 }\n"
                 "sinks: [ { npy: s.npy, from: s }, { npy: h.npy, from: h }, { npy: q.npy, from: q "
                 "} ]\n");
}

static void run_merges_many_small_items(void **state)
{
    (void)state;
    run_verified("source: { generate: { kind: random, dtype: f32, shape: [3, 5], count: 20000 } }\n"
                 "stages:\n"
                 "  - { op: median3x3 }\n"
                 "  - { op: quantise, replicas: 2 }\n"
                 "  - { name: s, op: statistics, from: source }\n"
                 "sinks: [ { npy: q.npy, from: quantise }, { npy: s.npy, from: s } ]\n");
}

static void run_calibrates_every_type(void **state)
{
    (void)state;
    static const mr_type types[] = { MR_TYPE_U8, MR_TYPE_U16, MR_TYPE_F32 };
    write_stack("dark.npy", MR_TYPE_U8, 1, 1, 5, 3);
    write_stack("flat.npy", MR_TYPE_F32, 1, 1, 5, 90);
    for (size_t k = 0; k < 3; k++) {
        write_stack("in.npy", types[k], 7, 1, 5, 7919);
        const char *const rest = "inputs: { dark: { npy: dark.npy }, flat: { npy: flat.npy } }\n"
                                 "stages: [ { op: calibrate, %s } ]\nsinks: [ { npy: out.npy } ]\n";
        static const char *const frames[] = { "dark: dark", "flat: flat", "dark: dark, flat: flat",
                                              "dark: dark, flat: flat, normalise: no" };
        for (size_t f = 0; f < 4; f++) {
            char text[512] = "source: { npy: in.npy }\n";
            snprintf(text + strlen(text), 400, rest, frames[f]);
            run_verified(text);
        }
    }
}

static void run_calibrates_cleans_and_quantises_camera_frames(void **state)
{
    (void)state;
    assert_ok(run_job("source: { generate: { kind: dark, dtype: u16, shape: [90, 70], count: 1, "
                      "seed: 4 } }\nsinks: [ { npy: dark.npy } ]\n",
                      NULL));
    assert_ok(run_job("source: { generate: { kind: flat, dtype: u16, shape: [90, 70], count: 1, "
                      "seed: 4 } }\nsinks: [ { npy: flat.npy } ]\n",
                      NULL));
    run_verified("source: { generate: { kind: frames, dtype: u16, shape: [90, 70], count: 12, "
                 "seed: 4 } }\n"
                 "inputs: { dark: { npy: dark.npy }, flat: { npy: flat.npy } }\n"
                 "stages:\n"
                 "  - { op: calibrate, dark: dark, flat: flat }\n"
                 "  - { op: median3x3 }\n"
                 "  - { op: quantise, low: 400, high: 2400 }\n"
                 "  - { op: statistics, from: quantise }\n"
                 "sinks:\n"
                 "  - { npy: out.npy, from: quantise }\n"
                 "  - { json: stats.jsonl, from: statistics }\n"
                 "  - { png: preview.png, from: [source, quantise], item: 3 }\n");
    assert_true(has_file("preview.png"));
    size_t size;
    char *lines = read_file("stats.jsonl", &size);
    assert_non_null(strstr(lines, "{\"item\": 11, \"sum\": "));
    free(lines);
}

static void run_joins_branches(void **state)
{
    (void)state;
    run_verified("source: { generate: { kind: random, dtype: u16, shape: [20, 30], count: 30 } }\n"
                 "stages:\n"
                 "  - { name: f, op: convert, to: f32 }\n"
                 "  - { name: slow, op: median3x3, from: f }\n"
                 "  - { name: scaled, op: scale_offset, scale: -2, from: f, replicas: 2 }\n"
                 "  - { name: sum, op: add, from: [slow, scaled] }\n"
                 "  - { name: twice, op: add, from: [sum, sum] }\n"
                 "sinks: [ { npy: a.npy, from: twice }, { raw: b.raw, from: slow } ]\n");
}

static void run_of_no_items_writes_an_empty_stack(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 0, 4, 6, 1);
    assert_ok(run_job("source: { npy: in.npy }\nstages: [ { op: convert, to: f32 } ]\n"
                      "sinks: [ { npy: out.npy }, { raw: out.raw }, { json: out.jsonl } ]\n",
                      &(mr_job_run_options){ .is_verified = true }));
    size_t size;
    struct mr__npy_header header;
    char *bytes = read_file("out.npy", &size);
    assert_ok(mr__npy_parse(bytes, size, &header));
    assert_int_equal(0, header.shape[0]);
    assert_int_equal(6, header.shape[2]);
    free(bytes);
}

static void run_can_be_repeated(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U8, 6, 5, 5, 3);
    mr_job *job = load_job("source: { npy: in.npy }\nstages: [ { op: statistics } ]\n"
                           "sinks: [ { npy: out.npy } ]\n");
    for (int k = 0; k < 3; k++) {
        const mr_job_report *report;
        assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
        assert_ok(mr_job_report_get(job, &report));
        assert_int_equal(6, report->pipeline->items_out);
        assert_int_equal(30, report->outputs[0].compared);
    }
    mr_job_destroy(job);
}

/* ---- reports ---- */

static void report_says_what_happened(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 6, 5, 5, 3);
    mr_job *job = load_job("name: small\nsource: { npy: in.npy }\n"
                           "stages: [ { op: median3x3, replicas: 2 } ]\n"
                           "sinks: [ { npy: out.npy } ]\noptions: { slots: 4, chunk: 1 }\n");
    const mr_job_report *report;
    assert_status(MR_E_STATE, mr_job_report_get(job, &report));
    assert_string_equal("", mr_job_report_json(job));

    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));

    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(MR_OK, report->status);
    assert_string_equal("", report->words);
    assert_string_equal(getenv("JOB_DEVICE") ? "cuda:0" : "cpu", report->device);
    assert_int_equal(6, report->pipeline->items_in);
    assert_int_equal(300, report->pipeline->bytes_in);
    assert_int_equal(1, report->output_count);
    assert_string_equal("out.npy", report->outputs[0].path);
    assert_true(report->outputs[0].is_complete && report->outputs[0].is_verified);
    assert_int_equal(150, report->outputs[0].compared);
    assert_int_equal(0, report->outputs[0].mismatches);
    const char *json = mr_job_report_json(job);
    assert_non_null(strstr(json, "\"job\": \"small\""));
    assert_non_null(strstr(json, "\"status\": \"MR_OK\""));
    assert_non_null(strstr(json, "\"bottleneck\": \""));
    assert_non_null(strstr(json, "\"busy_seconds\": "));
    const char *text = mr_job_report_text(job);
    assert_non_null(strstr(text, "small: done"));
    assert_non_null(strstr(text, "<- the bottleneck"));
    assert_non_null(strstr(text, "each of 2"));
    assert_non_null(strstr(text, "150 numbers, all agree"));
    mr_job_destroy(job);
}

/* ---- verification ---- */

static void damage_output(void *context, const mr_job_progress *now)
{
    (void)context;
    if (!now->is_verifying || now->items_out != 1)
        return;
    FILE *file = fopen("out.npy", "r+");
    assert_non_null(file);
    fseek(file, -1, SEEK_END);
    const int last = fgetc(file);
    fseek(file, -1, SEEK_END);
    fputc(last ^ 0x40, file);
    fclose(file);
}

static void verification_finds_a_single_wrong_number(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U8, 6, 5, 5, 3);
    mr_job *job = load_job("source: { npy: in.npy }\nstages: [ { op: median3x3 } ]\n"
                           "sinks: [ { npy: out.npy } ]\n");
    assert_status(MR_E_MISMATCH,
                  mr_job_run(job, &(mr_job_run_options){ .is_verified = true,
                                                         .progress = damage_output,
                                                         .progress_interval_ns = 1 }));
    assert_words("out.npy: 1 of 150 numbers differ from the reference, by at most 64");
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(1, report->outputs[0].mismatches);
    assert_non_null(strstr(mr_job_report_text(job), "the results are wrong"));
    mr_job_destroy(job);
}

static void verification_is_refused_where_it_would_prove_nothing(void **state)
{
    (void)state;
    assert_status(MR_E_UNSUPPORTED,
                  run_job("source: { generate: { kind: ramp, dtype: u8, shape: 4, count: 2 } }\n"
                          "sinks: [ { 'null': } ]\n",
                          &(mr_job_run_options){ .is_verified = true }));
    assert_words("no output can be compared");
}

/* ---- cancel ---- */

static void *cancel_job(void *job)
{
    mr_job_cancel(job);
    return NULL;
}

static void cancel_at_first_progress(void *context, const mr_job_progress *now)
{
    (void)now;
    pthread_t thread;
    assert_int_equal(0, pthread_create(&thread, NULL, cancel_job, context));
    pthread_join(thread, NULL);
}

static void cancel_stops_an_endless_run_and_leaves_nothing(void **state)
{
    (void)state;
    write_text("out.npy", "from yesterday");
    mr_job *job = load_job("source: { generate: { kind: constant, dtype: u8, shape: [4096], count: "
                           "100000000000 } }\nsinks: [ { 'null': } ]\n");
    const mr_job_run_options options = { .progress = cancel_at_first_progress,
                                         .context = job,
                                         .progress_interval_ns = 1000000 };

    assert_status(MR_E_CANCELLED, mr_job_run(job, &options));

    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(MR_E_CANCELLED, report->status);
    assert_non_null(strstr(mr_job_report_text(job), "cancelled"));
    mr_job_destroy(job);
    assert_int_equal(1, count_files("."));
}

static void cancel_before_a_run_stops_that_run_only(void **state)
{
    (void)state;
    mr_job *job = load_job("source: { generate: { kind: ramp, dtype: u8, shape: 4, count: 2 } }\n"
                           "sinks: [ { npy: out.npy } ]\n");
    mr_job_cancel(job);
    assert_status(MR_E_CANCELLED, mr_job_run(job, NULL));
    assert_false(has_file("out.npy"));
    assert_ok(mr_job_run(job, NULL));
    assert_true(has_file("out.npy"));
    mr_job_destroy(job);
}

static void cancel_wakes_a_source_that_waits_for_a_pipe(void **state)
{
    (void)state;
    int ends[2];
    const int kept = dup(STDIN_FILENO);
    assert_int_equal(0, pipe(ends));
    dup2(ends[0], STDIN_FILENO);
    mr_job *job = load_job("source: { stdin: { dtype: u8, shape: [4] } }\n"
                           "sinks: [ { raw: out.raw } ]\n");
    const mr_job_run_options options = { .progress = cancel_at_first_progress,
                                         .context = job,
                                         .progress_interval_ns = 1000000 };
    assert_int_equal(6, write(ends[1], "abcdef", 6));

    assert_status(MR_E_CANCELLED, mr_job_run(job, &options));

    mr_job_destroy(job);
    dup2(kept, STDIN_FILENO);
    close(kept);
    close(ends[0]);
    close(ends[1]);
    assert_int_equal(0, count_files("."));
}

/* ---- shared objects ---- */

#define OBJECT(rest)                                                                               \
    "source: { generate: { kind: ramp, dtype: u8, shape: [100], count: 9 } }\n"                    \
    "stages: [ { name: inv, object: { path: " JOB_OBJECT ", " rest " } } ]\n"                      \
    "sinks: [ { raw: out.raw } ]\n"

static void check_inverted(uint64_t skipped)
{
    size_t size;
    unsigned char *bytes = read_file("out.raw", &size);
    size_t k = 0;
    for (uint64_t item = 0; item < 9; item++) {
        if (item == skipped)
            continue;
        for (size_t i = 0; i < 100; i++)
            assert_int_equal((uint8_t) ~(item * 100 + i), bytes[k++]);
    }
    assert_int_equal(k, size);
    free(bytes);
}

static void object_works_on_the_host(void **state)
{
    (void)state;
    assert_ok(run_job(OBJECT("work: invert"), NULL));
    check_inverted(UINT64_MAX);
    assert_ok(run_job(
        OBJECT("work: invert, merge: yes, open: settings_open, close: settings_close"), NULL));
    check_inverted(UINT64_MAX);
}

static void object_submits_to_the_stream(void **state)
{
    (void)state;
    assert_ok(run_job(OBJECT("submit: duplicate"), NULL));
    size_t size;
    unsigned char *bytes = read_file("out.raw", &size);
    assert_int_equal(900, size);
    for (size_t k = 0; k < size; k++)
        assert_int_equal((uint8_t)k, bytes[k]);
    free(bytes);
}

static void object_problems_are_said(void **state)
{
    (void)state;
    expect_problem(OBJECT("work: nothing"), MR_E_INVALID, "has no function 'nothing'");
    expect_problem(OBJECT("work: a, submit: b"), MR_E_FORMAT, "exactly one of `work`");
    expect_problem("source: { generate: { kind: ramp, dtype: u8, shape: 4, count: 1 } }\n"
                   "stages: [ { object: { path: gone.so, work: f } } ]\nsinks: [ { raw: o } ]\n",
                   MR_E_IO, "cannot be loaded: ./gone.so");
    assert_status(MR_E_CALLBACK,
                  run_job(OBJECT("work: invert, open: open_refuses, arguments: blue"), NULL));
    assert_words("no settings called 'blue'");
    assert_words("stage 'inv'");
}

#define FAILING(arguments, options)                                                                \
    OBJECT("work: invert, open: settings_open, close: settings_close, arguments: '" arguments "'") \
    "options: { " options " }\n"

static void stage_failure_stops_the_run_and_names_the_item(void **state)
{
    (void)state;
    write_text("out.raw", "from yesterday");
    mr_job *job = load_job(FAILING("5", ""));

    assert_status(MR_E_CALLBACK, mr_job_run(job, NULL));

    assert_words("item 5 has no sync word");
    assert_words("inv");
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_false(report->outputs[0].is_complete);
    assert_non_null(strstr(mr_job_report_text(job), "failed: "));
    assert_non_null(strstr(mr_job_report_text(job), "not written"));
    mr_job_destroy(job);
    size_t size;
    char *bytes = read_file("out.raw", &size);
    assert_string_equal("from yesterday", bytes);
    assert_int_equal(1, count_files("."));
    free(bytes);
}

static void stage_failure_is_skipped_and_listed(void **state)
{
    (void)state;
    mr_job *job = load_job(FAILING("5", "on_error: skip"));

    assert_ok(mr_job_run(job, NULL));

    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(1, report->pipeline->items_skipped);
    assert_int_equal(5, report->pipeline->skipped[0].index);
    assert_int_equal(8, report->outputs[0].items);
    assert_non_null(strstr(mr_job_report_text(job), "skipped item 5"));
    assert_non_null(strstr(mr_job_report_json(job), "\"node\": \"inv\""));
    mr_job_destroy(job);
    check_inverted(5);
}

static void stage_failure_is_retried(void **state)
{
    (void)state;
    assert_ok(run_job(FAILING("5 2", "retry: 2"), NULL));
    check_inverted(UINT64_MAX);
    assert_status(MR_E_CALLBACK, run_job(FAILING("5 3", "retry: 2"), NULL));
}

static void skipped_items_are_left_out_of_the_comparison(void **state)
{
    (void)state;
    mr_job *job = load_job("source: { generate: { kind: ramp, dtype: u8, shape: [100], count: 9 } "
                           "}\nstages:\n"
                           "  - { name: inv, object: { path: " JOB_OBJECT ", work: invert, open: "
                           "settings_open, close: settings_close, arguments: '4' } }\n"
                           "  - { name: c, op: convert, to: u16, from: source }\n"
                           "sinks: [ { raw: inv.raw, from: inv }, { npy: c.npy, from: c } ]\n"
                           "options: { on_error: skip }\n");
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_false(report->outputs[0].is_verified);
    assert_true(report->outputs[1].is_verified);
    assert_int_equal(800, report->outputs[1].compared);
    mr_job_destroy(job);
}

/* ---- kernels ---- */

#define KERNEL(rest)                                                                               \
    "source: { generate: { kind: ramp, dtype: f32, shape: [3, 50], count: 9 } }\n"                 \
    "stages: [ { name: k, kernel: { portable: k.c, " rest " } } ]\n"                               \
    "sinks: [ { raw: out.raw } ]\n"

static const char shift_source[] =
    "#include <millrace/portable.h>\n"
    "MR_KERNEL(shift, MR_IN(float, source), MR_OUT(float, target), MR_VALUE(float, by),\n"
    "          MR_VALUE(uint64_t, first_index), MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_EACH (i, count)\n"
    "        target[i] = source[i] + by + 1000.0f * (float)first_index;\n"
    "}\n";

static void kernel_of_the_job_is_compiled_and_bound_by_name(void **state)
{
    (void)state;
    write_text("k.c", shift_source);
    assert_ok(run_job(KERNEL("name: shift, arguments: { by: 0.5 }"), NULL));
    size_t size;
    float *numbers = read_file("out.raw", &size);
    assert_int_equal(9 * 150 * sizeof(float), size);
    for (size_t k = 0; k < 9 * 150; k++)
        assert_true(numbers[k] == (float)k + 0.5f + 1000.0f * (float)(k / 150));
    free(numbers);
}

static void kernel_takes_side_inputs_and_gives_another_shape(void **state)
{
    (void)state;
    write_text("k.c", "#include <millrace/portable.h>\n"
                      "MR_KERNEL(dot, MR_IN(float, source), MR_IN(float, weights),\n"
                      "          MR_OUT(double, target), MR_VALUE(uint64_t, width),\n"
                      "          MR_VALUE(uint64_t, height))\n"
                      "{\n"
                      "    MR_EACH (y, height) {\n"
                      "        double sum = 0;\n"
                      "        for (uint64_t x = 0; x < width; x++)\n"
                      "            sum += (double)source[y * width + x] * (double)weights[x];\n"
                      "        target[y] = sum;\n"
                      "    }\n"
                      "}\n");
    write_stack("w.npy", MR_TYPE_F32, 1, 1, 50, 1);
    assert_ok(run_job(
        KERNEL(
            "name: dot, arguments: { weights: w }, shape: [3]") "inputs: { w: { npy: w.npy } }\n",
        NULL));
    size_t size;
    double *numbers = read_file("out.raw", &size);
    assert_int_equal(27 * sizeof(double), size);
    for (size_t k = 0; k < 27; k++) {
        double sum = 0;
        for (size_t x = 0; x < 50; x++)
            sum += (double)(float)(k * 50 + x) * (double)((float)x * 0.37f);
        assert_true(numbers[k] == sum);
    }
    free(numbers);
}

static void kernel_of_cuda_source_runs_on_a_gpu(void **state)
{
    (void)state;
    static const char text[] =
        "source: { generate: { kind: ramp, dtype: f32, shape: [1000], count: 9 } }\n"
        "stages: [ { kernel: { cuda: k.cu, name: twice, merge: yes, signature: "
        "'in f32 source, out f32 target, value u64 count', launch: { block: 128 } } } ]\n"
        "sinks: [ { raw: out.raw } ]\n";
    write_text("k.cu",
               "extern \"C\" __global__ void twice(const float *source, float *target,\n"
               "                                 unsigned long long count)\n"
               "{\n"
               "    const unsigned long long i = blockIdx.x * (unsigned long long)blockDim.x +"
               " threadIdx.x;\n"
               "    if (i < count)\n"
               "        target[i] = 2.0f * source[i];\n"
               "}\n");
    if (!getenv("JOB_DEVICE")) {
        expect_problem(text, MR_E_UNSUPPORTED, "CUDA");
        return;
    }
    assert_ok(run_job(text, NULL));
    size_t size;
    float *numbers = read_file("out.raw", &size);
    assert_int_equal(9000 * sizeof(float), size);
    for (size_t k = 0; k < 9000; k++)
        assert_true(numbers[k] == 2.0f * (float)k);
    free(numbers);
}

static void kernel_problems_are_said(void **state)
{
    (void)state;
    write_text("k.c", shift_source);
    expect_problem(KERNEL("name: shift"), MR_E_SIGNATURE,
                   "kernel 'shift' needs a value 'by' (f32); add `arguments: { by: ... }`");
    expect_problem(KERNEL("name: shift, arguments: { bye: 1 }"), MR_E_FORMAT,
                   "unknown key 'bye' in the kernel's arguments; did you mean 'by'?");
    expect_problem(KERNEL("name: shift, arguments: { by: 1 }, signature: 'in f32 a, out f32 b'"),
                   MR_E_SIGNATURE, "its source declares 5 parameters, the signature given has 2");
    expect_problem(KERNEL("name: shift, arguments: { by: 1, source: s }"), MR_E_FORMAT,
                   "no `inputs:` in the job");
    expect_problem(KERNEL("arguments: { by: 1 }"), MR_E_FORMAT, "needs the `name`");
    expect_problem("source: { generate: { kind: ramp, dtype: u8, shape: 4, count: 1 } }\n"
                   "stages: [ { kernel: { portable: k.c, name: shift, arguments: { by: 1 } } } ]\n"
                   "sinks: [ { raw: o } ]\n",
                   MR_E_FORMAT,
                   "stage 'kernel' cannot take what 'source' gives (u8 4): parameter "
                   "'source' of kernel 'shift' is f32");
    expect_problem("source: { generate: { kind: ramp, dtype: u8, shape: 4, count: 1 } }\n"
                   "stages: [ { kernel: { cuda: k.cu, name: f } } ]\nsinks: [ { raw: o } ]\n",
                   MR_E_FORMAT, "needs a `signature`");

    write_text("k.c", "#include <millrace/portable.h>\n"
                      "MR_KERNEL(shift, MR_IN(float, source), MR_OUT(float, target))\n"
                      "{\n"
                      "    target[0] = sorce[0];\n"
                      "}\n");
    expect_problem(KERNEL("name: shift"), MR_E_COMPILE, "k.c:4");
    assert_non_null(strstr(problems, "sorce"));
    expect_problem(KERNEL("name: shift, flags: 7, cuda: x.cu"), MR_E_FORMAT, "exactly one of");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(run_agrees_with_the_reference_for_conversions),
        fixture_test(run_agrees_with_the_reference_element_by_element),
        fixture_test(run_agrees_with_the_reference_on_images),
        fixture_test(run_reduces_large_items_in_parts),
        fixture_test(run_merges_many_small_items),
        fixture_test(run_calibrates_every_type),
        fixture_test(run_calibrates_cleans_and_quantises_camera_frames),
        fixture_test(run_joins_branches),
        fixture_test(run_of_no_items_writes_an_empty_stack),
        fixture_test(run_can_be_repeated),
        fixture_test(report_says_what_happened),
        fixture_test(verification_finds_a_single_wrong_number),
        fixture_test(verification_is_refused_where_it_would_prove_nothing),
        fixture_test(cancel_stops_an_endless_run_and_leaves_nothing),
        fixture_test(cancel_before_a_run_stops_that_run_only),
        fixture_test(cancel_wakes_a_source_that_waits_for_a_pipe),
        fixture_test(object_works_on_the_host),
        fixture_test(object_submits_to_the_stream),
        fixture_test(object_problems_are_said),
        fixture_test(stage_failure_stops_the_run_and_names_the_item),
        fixture_test(stage_failure_is_skipped_and_listed),
        fixture_test(stage_failure_is_retried),
        fixture_test(skipped_items_are_left_out_of_the_comparison),
        fixture_test(kernel_of_the_job_is_compiled_and_bound_by_name),
        fixture_test(kernel_takes_side_inputs_and_gives_another_shape),
        fixture_test(kernel_of_cuda_source_runs_on_a_gpu),
        fixture_test(kernel_problems_are_said),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
