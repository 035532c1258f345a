/* SPDX-License-Identifier: MIT */
/* Everything that can be wrong with a job file: found before anything runs, said with place and
 * remedy, several at once. */
#include "job_fixture.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define SOURCE                                                                                     \
    "source: { generate: { kind: random, dtype: u16, shape: [4, 6], count: 3, seed: 1 } }\n"
#define SINKS "sinks: [ { npy: out.npy } ]\n"
#define STAGES(text) SOURCE "stages:\n" text SINKS
#define CONVERT "  - { name: f, op: convert, to: f32 }\n"

static void job_with_every_key_is_accepted(void **state)
{
    (void)state;
    mr_job *job = load_job("name: all keys\n"
                           "device: cpu\n" SOURCE "stages:\n"
                           "  - { name: f, op: convert, to: f32, replicas: 2 }\n"
                           "  - { op: scale_offset, scale: 0.5, offset: -1, replicas: auto }\n"
                           "  - { name: q, op: quantise, low: auto }\n"
                           "  - { name: s, op: statistics, from: f, device: cpu }\n"
                           "  - { name: h, op: histogram, from: q, bins: 16, low: 0, high: 255 }\n"
                           "sinks:\n"
                           "  - { npy: q.npy, from: q, name: main }\n"
                           "  - { raw: q.raw, from: q }\n"
                           "  - { json: s.jsonl, from: s }\n"
                           "  - { json: h.jsonl, from: h }\n"
                           "  - { png: q.png, from: [source, q], item: 2, low: 0, high: 65535,\n"
                           "      depth: 16 }\n"
                           "  - { 'null': yes, from: f }\n"
                           "options: { slots: 3, chunk: 64 KiB, parcel_items: 2, on_error: skip,\n"
                           "  retry: 1, memory: 1 GiB, measure: no }\n");
    assert_string_equal("all keys", mr_job_name(job));
    assert_non_null(strstr(mr_job_plan_text(job), "stage q (quantise): from scale_offset on cpu, "
                                                  "gives u8 4x6"));
    mr_job_destroy(job);
}

struct refusal {
    const char *text;
    mr_status status;
    const char *words;
};

static void refuse_all(const struct refusal *refusals, size_t count)
{
    for (size_t k = 0; k < count; k++)
        expect_problem(refusals[k].text, refusals[k].status, refusals[k].words);
}

#define REFUSE_ALL(array) refuse_all(array, sizeof(array) / sizeof((array)[0]))

static void job_misspelt_names_get_the_nearest(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { SOURCE "stage: []\n" SINKS, MR_E_FORMAT,
          "job.yaml:2:1: unknown key 'stage' in the job; did you mean 'stages'?" },
        { STAGES("  - { op: clamp, low: 0, hihg: 9 }\n"), MR_E_FORMAT,
          "job.yaml:3:26: unknown key 'hihg' in a clamp stage; did you mean 'high'?" },
        { STAGES("  - op: medain3x3\n"), MR_E_FORMAT,
          "job.yaml:3:9: stages.0.op: unknown operation 'medain3x3'; did you mean 'median3x3'?" },
        { STAGES("  - op: fft\n"), MR_E_FORMAT, "one of: convert, scale_offset" },
        { STAGES("  - { op: convert, to: floot32 }\n"), MR_E_FORMAT, "unknown type 'floot32'" },
        { STAGES("  - { op: convert, to: u61 }\n"), MR_E_FORMAT, "did you mean 'u16'?" },
        { STAGES("  - { name: mask, op: threshold, limit: 4 }\n"
                 "  - { op: median3x3, from: maks }\n"),
          MR_E_FORMAT, "there is no 'maks' to take items from; did you mean 'mask'?" },
        { SOURCE "sinks: [ { npy: out.npy, from: sauce } ]\n", MR_E_FORMAT,
          "did you mean 'source'?" },
        { "source: { generate: { kind: randon, dtype: u8, shape: 4, count: 1 } }\n" SINKS,
          MR_E_FORMAT, "did you mean 'random'?" },
        { SOURCE SINKS "options: { on_error: skpi }\n", MR_E_FORMAT, "did you mean 'skip'?" },
        { STAGES("  - { op: calibrate, dark: drak }\n") "inputs: { dark: { npy: d.npy } }\n",
          MR_E_IO, "unknown input 'drak'; did you mean 'dark'?" },
    };
    write_text("none", "");
    REFUSE_ALL(refusals);
}

static void job_wrong_types_are_said(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { "- a\n- b\n", MR_E_FORMAT, "expected a map of keys, found a list" },
        { "just words\n", MR_E_FORMAT, "expected a map of keys, found 'just words'" },
        { SOURCE "sinks: out.npy\n", MR_E_FORMAT, "expected a list of sinks" },
        { SOURCE "sinks: []\n", MR_E_FORMAT, "at least one sink" },
        { SOURCE "sinks: [ out.npy ]\n", MR_E_FORMAT, "sinks.0: expected a map" },
        { SOURCE "sinks: [ { npy: [a] } ]\n", MR_E_FORMAT, "sinks.0.npy: expected a text" },
        { SOURCE "sinks: [ { npy: } ]\n", MR_E_FORMAT, "found nothing" },
        { SOURCE "stages: median3x3\n" SINKS, MR_E_FORMAT, "expected a list of stages" },
        { STAGES("  - median3x3\n"), MR_E_FORMAT, "expected a stage such as { op: median3x3 }" },
        { STAGES("  - { op: clamp, low: zero, high: 4 }\n"), MR_E_FORMAT,
          "stages.0.low: expected a finite number such as 4000 or 0.5, found 'zero'" },
        { STAGES("  - { op: clamp, low: .inf, high: 4 }\n"), MR_E_FORMAT, "finite number" },
        { STAGES("  - { op: clamp, low: 1e999, high: 4 }\n"), MR_E_FORMAT, "finite number" },
        { SOURCE SINKS "options: { slots: 0 }\n", MR_E_FORMAT, "from 1 to 1024, found '0'" },
        { SOURCE SINKS "options: { slots: -3 }\n", MR_E_FORMAT, "from 1 to 1024, found '-3'" },
        { SOURCE SINKS "options: { slots: '3' }\n", MR_E_FORMAT, "whole number" },
        { SOURCE SINKS "options: { chunk: 8 MIB }\n", MR_E_FORMAT, "expected a size" },
        { SOURCE SINKS "options: { chunk: 99999999999 GiB }\n", MR_E_FORMAT, "expected a size" },
        { SOURCE SINKS "options: { measure: perhaps }\n", MR_E_FORMAT, "true or false" },
        { SOURCE SINKS "options: 7\n", MR_E_FORMAT, "options: expected a map" },
        { STAGES("  - { op: median3x3, name: 3 }\n"), MR_E_FORMAT, "expected a name" },
        { STAGES("  - { op: median3x3, replicas: 0 }\n"), MR_E_FORMAT, "from 1 to 64" },
        { STAGES("  - { op: median3x3, from: [] }\n"), MR_E_FORMAT, "1 to 8 inputs" },
        { SOURCE SINKS "inputs: [ a ]\n", MR_E_FORMAT, "expected names" },
        { SOURCE SINKS "inputs: { a: { raw: x } }\n", MR_E_FORMAT, "unknown key 'raw'" },
    };
    REFUSE_ALL(refusals);
}

static void job_needs_source_and_sinks(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { "", MR_E_FORMAT, "empty; a job has at least a source and a list of sinks" },
        { "# nothing\n", MR_E_FORMAT, "empty" },
        { SINKS, MR_E_FORMAT, "needs a `source`" },
        { SOURCE, MR_E_FORMAT, "needs `sinks`" },
        { "source: {}\n" SINKS, MR_E_FORMAT, "says no kind; one of: npy, raw, files" },
        { "source: { npy: a.npy, raw: { path: b, dtype: u8, shape: 3 } }\n" SINKS, MR_E_FORMAT,
          "already is `npy`" },
        { SOURCE "sinks: [ { npy: a.npy, raw: b.raw } ]\n", MR_E_FORMAT, "already is `npy`" },
        { SOURCE "sinks: [ { from: source } ]\n", MR_E_FORMAT, "says no kind" },
        { STAGES("  - { name: x }\n"), MR_E_FORMAT, "exactly one of `op`, `kernel` and `object`" },
    };
    REFUSE_ALL(refusals);
}

static void job_text_that_is_no_yaml_is_placed(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { "source: { npy: x\nsinks: [\n", MR_E_FORMAT, "job.yaml:2:" },
        { "a: b: c\n", MR_E_FORMAT, "not YAML" },
        { "\ta: 1\n", MR_E_FORMAT, "not YAML" },
        { "source: 1\nsource: 2\n", MR_E_FORMAT, "job.yaml:2:1: 'source' is said twice" },
        { "? [a]\n: 1\n", MR_E_FORMAT, "a key must be a word" },
        { "a: !!python/object x\n", MR_E_FORMAT, "tags" },
        { "a: *b\n", MR_E_FORMAT, "names no anchor" },
        { "a: &b [ *b ]\n", MR_E_FORMAT, "inside of what it names" },
        { "a: 1\n---\nb: 2\n", MR_E_FORMAT, "second document" },
        { "a: \"x\\0y\"\n", MR_E_FORMAT, "zero byte" },
        { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", MR_E_FORMAT, "nested too deeply" },
        { "a: \xff\xfe\n", MR_E_FORMAT, "not YAML" },
    };
    REFUSE_ALL(refusals);
}

static void job_aliases_are_bounded(void **state)
{
    (void)state;
    expect_problem("a: &a [x,x,x,x,x,x,x,x,x,x]\n"
                   "b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\n"
                   "c: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
                   "d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\n"
                   "e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\n",
                   MR_E_FORMAT, "at most 20000 values");
}

static void job_anchors_are_copied(void **state)
{
    (void)state;
    mr_job *job = load_job(STAGES(CONVERT "  - &scale { op: scale_offset, scale: 2 }\n"
                                          "  - *scale\n"));
    assert_non_null(strstr(mr_job_plan_text(job), "stage scale_offset-2 (scale_offset): from "
                                                  "scale_offset"));
    mr_job_destroy(job);
}

static void job_longer_than_a_mebibyte_is_refused(void **state)
{
    (void)state;
    const size_t size = 1100000;
    char *text = malloc(size + 1);
    memset(text, '#', size);
    text[size] = 0;
    expect_problem(text, MR_E_FORMAT, "longer than 1 MiB");
    free(text);
}

static void job_names_must_differ(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { STAGES("  - { name: a, op: median3x3 }\n  - { name: a, op: median3x3 }\n"), MR_E_FORMAT,
          "job.yaml:4:13: stages.1.name: the name 'a' is taken by stage 0" },
        { STAGES("  - { name: source, op: median3x3 }\n"), MR_E_FORMAT, "names the source" },
        { SOURCE "sinks: [ { npy: a.npy }, { raw: a.npy } ]\n", MR_E_FORMAT,
          "another sink writes a.npy too" },
        { SOURCE "sinks: [ { npy: a.npy }, { raw: ././a.npy } ]\n", MR_E_FORMAT,
          "another sink writes ././a.npy too" },
        { SOURCE "sinks: [ { stdout: raw }, { stdout: raw } ]\n", MR_E_FORMAT, "keep one" },
    };
    REFUSE_ALL(refusals);
}

static void job_cycles_are_found(void **state)
{
    (void)state;
    const struct refusal refusals[] = {
        { STAGES("  - { name: a, op: median3x3, from: b }\n"
                 "  - { name: b, op: median3x3, from: a }\n"),
          MR_E_FORMAT, "the stages wait for each other: a -> b -> a" },
        { STAGES("  - { name: a, op: median3x3, from: a }\n"), MR_E_FORMAT, "a -> a" },
        { STAGES("  - { name: x, op: convert, to: f32 }\n"
                 "  - { name: a, op: add, from: [x, c] }\n"
                 "  - { name: b, op: add, from: [a, a] }\n"
                 "  - { name: c, op: add, from: [b, x] }\n"),
          MR_E_FORMAT, "a -> c -> b -> a" },
    };
    REFUSE_ALL(refusals);
}

static void job_stage_that_nobody_reads_is_said(void **state)
{
    (void)state;
    expect_problem(STAGES("  - { name: a, op: median3x3 }\n"
                          "  - { name: b, op: median3x3, from: source }\n"),
                   MR_E_FORMAT, "nothing reads from stage 'a'");
}

static void job_shapes_and_types_must_fit(void **state)
{
    (void)state;
    write_stack("dark.npy", MR_TYPE_U16, 1, 4, 5, 1);
    const struct refusal refusals[] = {
        { STAGES("  - { op: add, from: [source, source] }\n"), MR_E_FORMAT,
          "stage 'add' cannot take what 'source' gives (u16 4x6): it takes f32 and f64; put `{ op: "
          "convert, to: f32 }` before it" },
        { STAGES("  - { name: f, op: convert, to: f64 }\n  - { op: calibrate, dark: dark "
                 "}\n") "inputs: { dark: { npy: dark.npy } }\n",
          MR_E_FORMAT,
          "stage 'calibrate' cannot take what 'f' gives (f64 4x6): it takes f32, u16 and u8" },
        { STAGES("  - { op: calibrate, dark: dark }\n") "inputs: { dark: { npy: dark.npy } "
                                                        "}\n",
          MR_E_FORMAT, "input 'dark' (u16 1x4x5) does not have the shape" },
        { "source: { generate: { kind: ramp, dtype: f32, shape: [8], count: 1 } }\n"
          "stages: [ { op: median3x3 } ]\n" SINKS,
          MR_E_FORMAT, "it takes images" },
        { STAGES("  - { op: convert, to: u16 }\n"), MR_E_FORMAT, "it is u16 already" },
        { STAGES("  - { op: convert, to: i64 }\n"), MR_E_FORMAT, "convert knows" },
        { STAGES("  - { op: clamp, low: 0, high: 70000 }\n"), MR_E_FORMAT,
          "high is no value of u16" },
        { STAGES("  - { op: clamp, low: 0.5, high: 7 }\n"), MR_E_FORMAT, "low is no value of u16" },
        { STAGES("  - { op: clamp, low: 5, high: 4 }\n"), MR_E_FORMAT, "must not be below `low`" },
        { STAGES("  - { op: add }\n"), MR_E_FORMAT, "add takes 2 inputs" },
        { STAGES(CONVERT "  - { name: h, op: histogram, from: f, bins: 6, low: 0, high: 1 }\n"
                         "  - { name: hf, op: convert, from: h, to: f32 }\n"
                         "  - { op: add, from: [f, hf] }\n"),
          MR_E_FORMAT,
          "cannot take what 'hf' gives (f32 6): both inputs must be alike, and 'f' "
          "gives f32 4x6" },
        { STAGES("  - { op: histogram, low: 4, high: 4 }\n"), MR_E_FORMAT, "above `low`" },
        { STAGES("  - { op: calibrate }\n"), MR_E_FORMAT, "needs `dark`, `flat` or both" },
        { STAGES("  - { op: calibrate, dark: d }\n"), MR_E_FORMAT, "no `inputs:` in the job" },
        { STAGES("  - { op: convert }\n"), MR_E_FORMAT, "needs `to`" },
        { STAGES("  - { op: clamp, low: 0 }\n"), MR_E_FORMAT, "clamp needs `high`" },
        { STAGES("  - { op: scale_offset }\n"), MR_E_FORMAT, "needs `scale`, `offset` or both" },
        { "source: { generate: { kind: frames, dtype: f32, shape: [4, 4], count: 1 } "
          "}\n" SINKS,
          MR_E_FORMAT, "u16 of two axes" },
        { "source: { generate: { kind: constant, dtype: u8, shape: 4, count: 1, value: 256 "
          "} }\n" SINKS,
          MR_E_FORMAT, "does not fit u8" },
        { "source: { generate: { kind: ramp, dtype: u8, shape: [1099511627777], count: 1 } "
          "}\n" SINKS,
          MR_E_FORMAT, "from 1 to 1099511627776" },
        { "source: { generate: { kind: ramp, dtype: u16, shape: [1048576, 1048576], count: "
          "1 } }\n" SINKS,
          MR_E_FORMAT, "larger than 1 TiB" },
        { "source: { generate: { kind: ramp, dtype: u16, shape: [1,1,1,1,1,1,1,1,1], "
          "count: 1 } }\n" SINKS,
          MR_E_FORMAT, "9 axes" },
    };
    REFUSE_ALL(refusals);
}

static void job_files_must_be_there(void **state)
{
    (void)state;
    mkdir("folder", 0755);
    write_text("text", "hello");
    write_stack("in.npy", MR_TYPE_U16, 2, 4, 6, 1);
    const struct refusal refusals[] = {
        { "source: { npy: missing.npy }\n" SINKS, MR_E_IO,
          "job.yaml:1:16: source.npy: missing.npy cannot be opened: No such file" },
        { "source: { npy: text }\n" SINKS, MR_E_FORMAT, "text: not a .npy file" },
        { "source: { raw: { path: text, dtype: u16, shape: [2] } }\n" SINKS, MR_E_FORMAT,
          "1 are left over" },
        { "source: { raw: { path: text, dtype: u8, shape: [2], skip: 9 } }\n" SINKS, MR_E_FORMAT,
          "fewer than `skip`" },
        { "source: { raw: { path: /dev/zero, dtype: u8, shape: [2] } }\n" SINKS, MR_E_IO,
          "no regular file; for a pipe say `stdin" },
        { "source: { files: { path: '*.tiff', dtype: u8, shape: 3 } }\n" SINKS, MR_E_IO,
          "no file matches" },
        { "source: { files: folder }\n" SINKS, MR_E_IO, "an empty folder" },
        { "source: { files: text }\n" SINKS, MR_E_FORMAT, "say their `dtype` and `shape`" },
        { "source: { files: { path: text, dtype: u16, shape: 2 } }\n" SINKS, MR_E_FORMAT,
          "text: it has 5 bytes, an item has 4" },
        { SOURCE SINKS "inputs: { dark: { npy: missing.npy } }\n", MR_E_IO,
          "inputs.dark.npy: missing.npy: cannot be opened" },
        { SOURCE "sinks: [ { npy: nowhere/out.npy } ]\n", MR_E_IO,
          "its folder is not there; create it first" },
        { SOURCE "sinks: [ { npy: folder } ]\n", MR_E_IO, "it is a folder" },
        { SOURCE "sinks: [ { npy: text/out.npy } ]\n", MR_E_IO, "cannot be written" },
        { "source: { npy: in.npy }\nsinks: [ { npy: ./in.npy } ]\n", MR_E_FORMAT,
          "is what the job reads" },
    };
    REFUSE_ALL(refusals);
}

static void job_outputs_must_suit_what_comes(void **state)
{
    (void)state;
    write_text("five", "hello");
    const char *const keep =
        "source: { raw: { path: five, dtype: u8, shape: [2], short_last: keep } }\n";
    char text[512];
    snprintf(text, sizeof text, "%ssinks: [ { npy: out.npy } ]\n", keep);
    expect_problem(text, MR_E_FORMAT, "which a .npy file cannot say");
    snprintf(text, sizeof text, "%sstages: [ { op: statistics } ]\n%s", keep,
             "sinks: [ { raw: out } ]\n");
    expect_problem(text, MR_E_FORMAT, "the last item may be shorter");

    const struct refusal refusals[] = {
        { SOURCE "sinks: [ { png: a.png, item: 3 } ]\n", MR_E_FORMAT,
          "there is no item 3 to show" },
        { "source: { generate: { kind: ramp, dtype: u8, shape: [8], count: 1 } }\n"
          "sinks: [ { png: a.png } ]\n",
          MR_E_FORMAT, "(u8 8) is no grey image" },
        { SOURCE "sinks: [ { npy: out.npy, from: [source, source] } ]\n", MR_E_FORMAT,
          "only a preview shows several" },
        { SOURCE "sinks: [ { stdout: npy } ]\noptions: { on_error: skip }\n", MR_E_FORMAT,
          "skipping would change" },
        { SOURCE "sinks: [ { stdout: text } ]\n", MR_E_FORMAT, "one of: raw, npy" },
        { SOURCE "sinks: [ { png: a.png, low: 5, high: 5 } ]\n", MR_E_FORMAT,
          "must be above `low`" },
        { SOURCE "sinks: [ { npy: a.npy, item: 3 } ]\n", MR_E_FORMAT, "unknown key 'item'" },
        { "source: { generate: { kind: ramp, dtype: f64, shape: [70000], count: 1 } }\n"
          "sinks: [ { json: a.jsonl } ]\n",
          MR_E_FORMAT, "too much for a line" },
        { "source: { generate: { kind: ramp, dtype: f64, shape: [1048576], count: 10000000 } }\n"
          "sinks: [ { raw: a.raw } ]\n",
          MR_E_IO, "MiB left; free some space" },
    };
    REFUSE_ALL(refusals);
}

static void job_problems_come_all_at_once(void **state)
{
    (void)state;
    mr_job *job;
    assert_status(MR_E_FORMAT, try_job("source: { npy: missing.npy }\n"
                                       "stages:\n"
                                       "  - { op: medain3x3 }\n"
                                       "  - { op: clamp, low: 3 }\n"
                                       "sinks: [ { npy: nowhere/out.npy, form: x } ]\n"
                                       "optoins: {}\n",
                                       NULL, &job));
    assert_int_equal(5, problem_count);
    assert_non_null(strstr(problems, "missing.npy"));
    assert_non_null(strstr(problems, "medain3x3"));
    assert_non_null(strstr(problems, "clamp needs `high`"));
    assert_non_null(strstr(problems, "unknown key 'form' in an npy sink; did you mean 'from'?"));
    assert_non_null(strstr(problems, "did you mean 'options'?"));
    assert_words("(and 4 more problems)");
}

static void job_device_that_is_not_here_is_said(void **state)
{
    (void)state;
    expect_problem(STAGES("  - { op: median3x3, device: gpu }\n"), MR_E_INVALID, "device 'gpu'");
}

static void job_overrides_change_values(void **state)
{
    (void)state;
    const char *const overrides[] = { "stages.q.high=7",       "source.generate.count=5",
                                      "stages.1.op=threshold", "stages.1.limit=2",
                                      "options.slots=2",       "sinks=[{raw: other.raw}]",
                                      "name='new name'",       NULL };
    mr_job *job;
    assert_ok(
        try_job(STAGES("  - { name: q, op: clamp, low: 0, high: 9 }\n  - { op: median3x3 }\n"),
                overrides, &job));
    assert_string_equal("new name", mr_job_name(job));
    assert_non_null(strstr(mr_job_plan_text(job), "5 items"));
    assert_non_null(strstr(mr_job_plan_text(job), "stage threshold (threshold): from q"));
    assert_non_null(strstr(mr_job_plan_text(job), "to other.raw"));
    mr_job_destroy(job);
}

static void job_override_problems_name_the_override(void **state)
{
    (void)state;
    const struct {
        const char *override, *words;
    } cases[] = {
        { "stages.q.low=many", "--set stages.q.low=many: stages.0.low: expected a finite number" },
        { "stages.q.lwo=1", "--set stages.q.lwo=1: unknown key 'lwo' in a clamp stage" },
        { "stages.7.low=1", "--set stages.7.low=1: the list has no '7'" },
        { "stages.nobody.low=1", "the list has no 'nobody'" },
        { "stages.q.low.deep=1", "would go inside a plain value" },
        { "name", "no '=' in it" },
        { "=3", "the key is empty" },
        { "a..b=3", "the key is empty" },
        { "name=[", "not YAML" },
        { "source={npy: gone.npy}", "gone.npy cannot be opened" },
        { "sinks.0.npy=", "found nothing" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        const char *const overrides[] = { cases[k].override, NULL };
        mr_job *job;
        const mr_status status =
            try_job(STAGES("  - { name: q, op: clamp, low: 0, high: 9 }\n"), overrides, &job);
        if (!status || !strstr(problems, cases[k].words))
            fail_msg("%s: expected \"%s\", got %s", cases[k].override, cases[k].words, problems);
    }
}

static void job_paths_are_relative_to_the_job_and_overrides_to_here(void **state)
{
    (void)state;
    mkdir("jobs", 0755);
    write_stack("jobs/in.npy", MR_TYPE_U8, 2, 3, 3, 1);
    write_stack("here.npy", MR_TYPE_U8, 4, 3, 3, 1);
    write_text("jobs/copy.yaml", "source: { npy: in.npy }\nsinks: [ { npy: out.npy } ]\n");
    mr_job *job;

    assert_ok(mr_job_load("jobs/copy.yaml", NULL, &job));
    assert_string_equal("copy", mr_job_name(job));
    assert_non_null(strstr(mr_job_plan_text(job), "jobs/in.npy, 2 items"));
    assert_ok(mr_job_run(job, NULL));
    mr_job_destroy(job);
    assert_true(has_file("jobs/out.npy"));

    const char *const overrides[] = { "source.npy=here.npy" };
    assert_ok(mr_job_load("jobs/copy.yaml",
                          &(mr_job_options){ .overrides = overrides, .override_count = 1 }, &job));
    assert_non_null(strstr(mr_job_plan_text(job), "source: here.npy, 4 items"));
    mr_job_destroy(job);
}

static void job_file_that_cannot_be_read_is_said(void **state)
{
    (void)state;
    mr_job *job;
    assert_status(MR_E_IO, mr_job_load("missing.yaml", NULL, &job));
    assert_words("missing.yaml: No such file or directory; millrace-job(5) shows how to write one");
    assert_null(job);
    mkdir("folder", 0755);
    assert_status(MR_E_IO, mr_job_load("folder", NULL, &job));
    assert_words("folder: Is a directory");
    assert_status(MR_E_INVALID, mr_job_load("", NULL, &job));
    mr_job_destroy(NULL);
}

static void expect_remedy(const char *path, const char *words)
{
    mr_job *job;
    assert_status(MR_E_IO, mr_job_load(path, NULL, &job));
    assert_words(words);
}

static void job_file_that_is_not_there_gets_the_nearest_name(void **state)
{
    (void)state;
    mkdir("jobs", 0755);
    for (char name[] = "jobs/a.yaml"; name[5] < 'h'; name[5]++)
        write_text(name, "");
    write_text("jobs/calibrate.yaml", "");
    write_text("jobs/.hidden.yaml", "");
    write_text("jobs/notes.txt", "");

    expect_remedy("jobs/calbirate.yaml", "; did you mean 'jobs/calibrate.yaml'?");
    expect_remedy("jobs/something-else", "; there: a.yaml, b.yaml, c.yaml, calibrate.yaml, d.yaml "
                                         "and 3 more");
    expect_remedy("jobs", "Is a directory; there: a.yaml, b.yaml");
    expect_remedy("jbos/calibrate.yaml", "; there is no folder 'jbos'");
    expect_remedy("/nowhere.yaml", "No such file or directory");
    expect_remedy("jobs/notes.txt/a.yaml", "Not a directory");
    write_stack("stack.npy", MR_TYPE_U8, 2, 3, 3, 1);
    expect_problem("source: { npy: stak.npy }\n" SINKS, MR_E_IO, "; did you mean 'stack.npy'?");
}

static void job_file_that_may_not_be_read_says_what_to_do(void **state)
{
    (void)state;
    write_text("secret.yaml", "");
    chmod("secret.yaml", 0);
    if (access("secret.yaml", R_OK) == 0)
        skip(); /* root reads all */
    expect_remedy("secret.yaml", "chmod");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(job_with_every_key_is_accepted),
        fixture_test(job_misspelt_names_get_the_nearest),
        fixture_test(job_wrong_types_are_said),
        fixture_test(job_needs_source_and_sinks),
        fixture_test(job_text_that_is_no_yaml_is_placed),
        fixture_test(job_aliases_are_bounded),
        fixture_test(job_anchors_are_copied),
        fixture_test(job_longer_than_a_mebibyte_is_refused),
        fixture_test(job_names_must_differ),
        fixture_test(job_cycles_are_found),
        fixture_test(job_stage_that_nobody_reads_is_said),
        fixture_test(job_shapes_and_types_must_fit),
        fixture_test(job_files_must_be_there),
        fixture_test(job_outputs_must_suit_what_comes),
        fixture_test(job_problems_come_all_at_once),
        fixture_test(job_device_that_is_not_here_is_said),
        fixture_test(job_overrides_change_values),
        fixture_test(job_override_problems_name_the_override),
        fixture_test(job_paths_are_relative_to_the_job_and_overrides_to_here),
        fixture_test(job_file_that_cannot_be_read_is_said),
        fixture_test(job_file_that_is_not_there_gets_the_nearest_name),
        fixture_test(job_file_that_may_not_be_read_says_what_to_do),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
