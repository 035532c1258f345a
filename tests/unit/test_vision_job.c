/* SPDX-License-Identifier: MIT */
/* The vision job from folder to folder: both modes, every kind of list, bad images, bad job files,
 * outputs that add up, and no trace of a run that did not end well. */
#include "flow/pipeline.h"
#include "vision_fixture.h"

#include <jansson.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void both_modes_give_the_same_bytes(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, query: red, size: 128, folder: a, mode: pipelined }\n");
    run_verified("vision: { images: in, query: red, size: 128, folder: b, mode: concurrent,"
                 " sets: 3, slots: 5, decode_threads: 3 }\n");
    run_verified("vision: { images: in, query: red, size: 128, folder: c, slots: 1,"
                 " decode_threads: 1, measure: false }\n");
    assert_int_equal(6 * 7, assert_same_outputs("a", "b"));
    assert_int_equal(6 * 7, assert_same_outputs("a", "c"));
    assert_true(has_file("a/index.html") && has_file("a/summary.json"));
    assert_int_equal(4, count_files(".")); /* in, a, b, c */
}

/* Alike and not, good and bad: which are neighbours in a batch makes no difference. */
static void batches_give_the_same_bytes(void **state)
{
    (void)state;
    enum { IMAGES = 23 };
    static const char *const modes[] = { "pipelined, batch: 1",
                                         "pipelined, batch: 2, slots: 1",
                                         "pipelined, batch: 7, decode_threads: 5",
                                         "pipelined, batch: 64, slots: 3",
                                         "concurrent, batch: 3, sets: 3, slots: 4",
                                         "auto, batch: 5, measure: 9" };
    assert_int_equal(0, mkdir("in", 0777));
    for (uint32_t k = 0; k < IMAGES; k++) {
        char path[32];
        snprintf(path, sizeof path, "in/%u.png", k);
        save_png(path, k % 8 < 5 ? 96 : 40 + k, 64 + k % 8 / 6, k);
    }
    for (uint32_t k = 0; k < 2; k++) { /* good by the header, bad when they are decoded */
        size_t size_bytes;
        char *bytes = read_file(k ? "in/20.png" : "in/3.png", &size_bytes);
        bytes[size_bytes / 2] ^= 0x55;
        write_file(k ? "in/20.png" : "in/3.png", bytes, size_bytes);
        free(bytes);
    }
    run_verified("vision: { images: in, query: red, folder: a }\n");
    for (size_t k = 0; k < sizeof modes / sizeof *modes; k++) {
        char text[256];
        snprintf(text, sizeof text, "vision: { images: in, query: red, folder: b, mode: %s }\n",
                 modes[k]);
        run_verified(text);
        assert_int_equal((IMAGES - 2) * 7, assert_same_outputs("a", "b"));
    }
    expect_problem("vision: { images: in, batch: 65, folder: b }\n", MR_E_FORMAT, "vision.batch");
}

/* Their stages are launched again as graphs, timed all the same. */
static void images_of_one_size_agree_with_the_reference(void **state)
{
    (void)state;
    mr__graphed_worth_ns = 0;
    mr_job *job = load_job("vision: { images: { generate: { count: 24, width: 200, height: 120 } },"
                           " query: blue, folder: like, mode: concurrent, sets: 2, slots: 4 }\n");
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    const char *report = mr_job_report_json(job);
    assert_non_null(strstr(report, "\"replayed_parcels\": "));
    assert_non_null(strstr(report, "\"measured\": 24"));
    mr_job_destroy(job);
    mr__graphed_worth_ns = 15000;
}

static json_t *load_json(const char *path)
{
    json_t *value = json_load_file(path, 0, NULL);
    if (!value)
        fail_msg("%s is no JSON", path);
    return value;
}

static void tokens_add_up_to_the_budget(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, budget: 1500, tokens: [50, 300], folder: out,"
                 " outputs: [tokens, scores] }\n");
    json_t *value = load_json("out/tokens/b.json");
    const json_t *patches = json_object_get(value, "patches");
    json_int_t sum = 0, area = 0;
    for (size_t k = 0; k < json_array_size(patches); k++) {
        const json_t *patch = json_array_get(patches, k);
        const json_int_t tokens = json_integer_value(json_object_get(patch, "tokens"));
        assert_true(tokens >= 50 && tokens <= 300);
        sum += tokens;
        area += json_integer_value(json_object_get(patch, "width")) *
                json_integer_value(json_object_get(patch, "height"));
    }
    assert_int_equal(1500, sum);
    assert_int_equal(120 * 200, area);
    /* Turned upright by EXIF. */
    assert_int_equal(200, json_integer_value(json_object_get(value, "width")));
    assert_int_equal(120, json_integer_value(json_object_get(value, "height")));
    json_decref(value);
    assert_false(has_file("out/overlay"));
}

static void one_image_does_not_depend_on_its_company(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, folder: all }\n");
    run_verified("vision: { images: ['in/c 9.png'], folder: one }\n");
    run_verified("vision: { images: ['in/c 9.png', in/b.jpg, in/a.png], folder: other }\n");
    assert_same_file("all/tokens/c 9.npy", "one/tokens/c 9.npy");
    assert_same_file("all/compressed/c 9.npy", "one/compressed/c 9.npy");
    assert_same_file("all/overlay/c 9.png", "other/overlay/c 9.png");
}

/* ---- lists ---- */

static size_t count_done(const char *folder)
{
    char path[100];
    snprintf(path, sizeof path, "%s/scores", folder);
    return count_files(path);
}

static void images_are_found_in_every_way(void **state)
{
    (void)state;
    make_images();
    assert_int_equal(0, mkdir("in/deep", 0777));
    save_png("in/deep/a.png", 64, 64, 8);
    save_png("in/deep/a.jpg", 64, 64, 9); /* a PNG, whatever its name says */
    assert_ok(run_job("vision: { images: in, outputs: [scores], folder: a }\n", NULL));
    assert_int_equal(6, count_done("a"));
    assert_ok(run_job("vision: { images: { path: in, recursive: true }, outputs: [scores],"
                      " folder: b }\n",
                      NULL));
    assert_int_equal(8, count_done("b"));
    assert_true(has_file("b/scores/a.npy") && has_file("b/scores/a-2.npy") &&
                has_file("b/scores/a-3.npy"));
    assert_ok(run_job("vision: { images: 'in/*.png', outputs: [scores], folder: c }\n", NULL));
    assert_int_equal(4, count_done("c"));
    write_text("in/list.txt", "a.png\r\n\nb.jpg\nc 9.png");
    assert_ok(run_job("vision: { images: { list: in/list.txt, limit: 2 }, outputs: [scores],"
                      " folder: d }\n",
                      NULL));
    assert_int_equal(2, count_done("d"));
    assert_true(has_file("d/scores/b.npy"));
}

/* A file in the place of standard input. */
/* A second run does not take the first one's pictures for images. */
static void outputs_are_not_images(void **state)
{
    (void)state;
    make_images();
    const char *text = "vision: { images: { path: '.', recursive: true }, folder: in/made }\n";
    for (int run = 0; run < 2; run++) {
        assert_ok(run_job(text, NULL));
        assert_int_equal(6, count_done("in/made"));
    }
}

static void paths_may_come_on_standard_input(void **state)
{
    (void)state;
    make_images();
    write_text("list", "in/a.png\nin/b.jpg\n");
    const int kept = dup(STDIN_FILENO);
    assert_non_null(freopen("list", "r", stdin));
    assert_ok(run_job("vision: { images: { list: '-' }, outputs: [scores], folder: out }\n", NULL));
    assert_int_equal(2, count_done("out"));
    assert_status(MR_E_FORMAT, run_job("vision: { images: { list: '-' }, folder: out }\n", NULL));
    assert_words("no path came");
    dup2(kept, STDIN_FILENO);
    close(kept);
}

/* ---- bad images ---- */

static void make_bad_images(void)
{
    size_t size_bytes;
    char *bytes = read_file("in/b.jpg", &size_bytes);
    write_file("in/cut.jpg", bytes, size_bytes / 2);
    free(bytes);
    bytes = read_file("in/a.png", &size_bytes);
    bytes[size_bytes / 2] ^= 0x55;
    write_file("in/rotten.png", bytes, size_bytes);
    memcpy(bytes + 16, "\x00\x01\x86\xA0\x00\x01\x86\xA0", 8);
    write_file("in/bomb.png", bytes, size_bytes);
    free(bytes);
    write_text("in/nothing.jpg", "");
    write_text("in/moving.gif", "GIF89a...........");
    assert_int_equal(0, symlink("nowhere", "in/gone.png"));
    assert_int_equal(0, symlink("nowhere", "in/gone"));
    assert_int_equal(0, symlink("round.png", "in/round.png"));
    assert_int_equal(0, mkfifo("in/pipe.jpeg", 0600));
    assert_int_equal(0, mkdir("in/folder.jpg", 0777));
}

static void bad_images_are_skipped_and_named(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, folder: good }\n");
    make_bad_images();
    mr_job *job = load_job("vision: { images: in, folder: out }\n");
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    assert_int_equal(6 * 7, assert_same_outputs("good", "out"));
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(14, report->pipeline->items_in);
    assert_int_equal(6, report->pipeline->items_out);
    assert_int_equal(8, report->pipeline->items_skipped);
    const char *text = mr_job_report_json(job);
    assert_non_null(strstr(text, "in/cut.jpg"));
    assert_non_null(strstr(text, "truncated"));
    assert_non_null(strstr(text, "too large: 100000 x 100000"));
    assert_non_null(strstr(text, "the file is empty"));
    assert_non_null(strstr(text, "a GIF image"));
    assert_non_null(strstr(mr_job_report_text(job), "in/rotten.png: corrupt"));
    assert_non_null(strstr(mr_job_report_text(job), "in/gone.png: cannot be opened: No such file"));
    assert_non_null(strstr(mr_job_report_text(job), "in/round.png: cannot be opened: Too many"));
    assert_non_null(strstr(mr_job_report_text(job), "in/pipe.jpeg: no regular file"));
    mr_job_destroy(job);

    size_t size_bytes;
    char *page = read_file("out/index.html", &size_bytes);
    assert_non_null(strstr(page, "in/nothing.jpg"));
    free(page);
    json_t *summary = load_json("out/summary.json");
    assert_int_equal(8, json_integer_value(json_object_get(summary, "skipped_count")));
    assert_int_equal(6, json_integer_value(json_object_get(summary, "done")));
    json_decref(summary);
}

/* A header that promises what no file of that length holds costs the others nothing. */
static void a_forged_header_is_named(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, size: original, folder: good }\n");
    size_t size_bytes;
    char *bytes = read_file("in/a.png", &size_bytes);
    memcpy(bytes + 16, "\x00\x00\x2A\xF8\x00\x00\x2A\xF8\x10", 9); /* 11000 x 11000 of 16 bits */
    write_file("in/forged.png", bytes, size_bytes);
    free(bytes);
    mr_job *job = load_job("vision: { images: in, size: original, folder: out }\n");
    assert_ok(mr_job_run(job, NULL));
    assert_non_null(strstr(mr_job_report_text(job), "in/forged.png: truncated: a file of "));
    assert_non_null(strstr(mr_job_report_text(job), " bytes cannot hold 11000 x 11000 pixels"));
    mr_job_destroy(job);
    assert_int_equal(6 * 7, assert_same_outputs("good", "out"));
    assert_status(MR_E_FORMAT,
                  run_job("vision: { images: in, on_error: stop, folder: third }\n", NULL));
    assert_words("in/forged.png: truncated");
    expect_problem("vision: { images: in, query: { image: in/forged.png }, size: original, folder: "
                   "d }\n",
                   MR_E_FORMAT, "in/forged.png: truncated");
}

/* Not memory that ran out, but an image that has no room: what becomes of it is a matter of policy. */
static void an_image_without_room_is_a_bad_image(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, folder: good }\n");
    save_png("in/large.png", 1024, 768, 8);
    save_jpeg("in/turned.jpg", 900, 1000, 6);
    const char *text = "vision: { images: in, limits: { memory: 24 MiB }, folder: out }\n";
    mr_job *job = load_job(text);
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    const char *words = mr_job_report_text(job);
    assert_non_null(strstr(words, "in/large.png: too large for memory: 1024 x 768 pixels need "));
    assert_non_null(strstr(words, "in/turned.jpg: too large for memory: 1000 x 900 pixels need "));
    assert_non_null(strstr(words, "may take 25.2 MB there; give a smaller `size`, or raise "
                                  "limits.memory"));
    assert_non_null(strstr(mr_job_report_json(job), "\"skipped_count\": 2"));
    mr_job_destroy(job);
    assert_int_equal(6 * 7, assert_same_outputs("good", "out"));

    assert_status(MR_E_UNSUPPORTED,
                  run_job("vision: { images: in, limits: { memory: 24 MiB }, on_error: stop,"
                          " folder: third }\n",
                          NULL));
    assert_words("in/large.png: too large for memory");
    assert_false(has_file("third"));
    /* The remedy is one. */
    assert_ok(run_job("vision: { images: in, limits: { memory: 24 MiB }, size: 512, on_error: stop,"
                      " folder: third }\n",
                      NULL));
    assert_int_equal(8, count_done("third"));
}

/* What a job asks for beyond its memory is cut down, and comes to the same. */
static void many_slots_are_cut_to_the_memory(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, folder: good }\n");
    static const char *const modes[] = { "mode: pipelined", "mode: concurrent, sets: 64" };
    for (int k = 0; k < 2; k++) {
        char text[256];
        snprintf(text, sizeof text,
                 "vision: { images: in, %s, slots: 1024, decode_threads: 64, limits: { memory: 6 "
                 "MiB }, folder: out }\n",
                 modes[k]);
        mr_job *job = load_job(text);
        assert_ok(mr_job_run(job, NULL));
        const mr_job_report *report;
        assert_ok(mr_job_report_get(job, &report));
        assert_true(report->pipeline->slot_count < 4);
        mr_job_destroy(job);
        assert_int_equal(6 * 7, assert_same_outputs("good", "out"));
    }
    expect_problem("vision: { images: in, limits: { memory: 4096 }, folder: out }\n", MR_E_FORMAT,
                   "vision.limits.memory: less than 1 MiB");
}

/* Whether its header or its pixels are bad: the others are called what they were. */
static void a_bad_image_keeps_its_name(void **state)
{
    (void)state;
    make_images();
    save_png("in/a.jpg", 64, 64, 8);
    save_png("in/a.jpeg", 80, 64, 9);
    assert_ok(run_job("vision: { images: in, folder: good, outputs: [tokens] }\n", NULL));
    assert_true(has_file("good/tokens/a.npy") && has_file("good/tokens/a-2.npy") &&
                has_file("good/tokens/a-3.npy"));
    size_t size_bytes;
    char *bytes = read_file("in/a.jpeg", &size_bytes);
    bytes[size_bytes / 2] ^= 0x55;
    write_file("in/a.jpeg", bytes, size_bytes);
    free(bytes);
    write_text("in/a.jpg", "");
    assert_ok(run_job("vision: { images: in, folder: out, outputs: [tokens] }\n", NULL));
    assert_false(has_file("out/tokens/a.npy") || has_file("out/tokens/a-2.npy"));
    assert_same_file("good/tokens/a-3.npy", "out/tokens/a-3.npy");
    json_t *summary = load_json("out/summary.json");
    const json_t *image = json_array_get(json_object_get(summary, "list"), 0);
    assert_string_equal("a-3", json_string_value(json_object_get(image, "name")));
    assert_string_equal("in/a.png", json_string_value(json_object_get(image, "image")));
    json_decref(summary);
}

static void a_bad_image_may_stop_the_run(void **state)
{
    (void)state;
    make_images();
    make_bad_images();
    assert_status(MR_E_UNSUPPORTED,
                  run_job("vision: { images: in/bomb.png, on_error: stop, folder: out }\n", NULL));
    assert_words("in/bomb.png: too large");
    assert_status(MR_E_FORMAT, run_job("vision: { images: [in/a.png, in/rotten.png, in/b.jpg],"
                                       " on_error: stop, folder: out }\n",
                                       NULL));
    assert_words("in/rotten.png: corrupt");
    assert_false(has_file("out"));
    assert_int_equal(1, count_files("."));
}

/* By their headers, by their pixels, and both; the report has them all. */
static void nothing_but_bad_images_is_a_failure(void **state)
{
    (void)state;
    make_images();
    make_bad_images();
    mr_job *job = load_job("vision: { images: [in/nothing.jpg, in/bomb.png], folder: out }\n");
    assert_status(MR_E_FORMAT, mr_job_run(job, NULL));
    assert_words(
        "none of the 2 images could be used; the first: in/nothing.jpg: the file is empty");
    assert_non_null(strstr(mr_job_report_text(job), "in/bomb.png: too large: 100000 x 100000"));
    assert_non_null(strstr(mr_job_report_json(job), "\"items_skipped\": 2"));
    assert_non_null(strstr(mr_job_report_json(job), "in/bomb.png"));
    mr_job_destroy(job);
    assert_status(MR_E_FORMAT, run_job("vision: { images: in/rotten.png, folder: out }\n", NULL));
    assert_words("in/rotten.png: corrupt");
    assert_status(MR_E_UNSUPPORTED,
                  run_job("vision: { images: [in/bomb.png, in/rotten.png], folder: out }\n",
                          &(mr_job_run_options){ .is_verified = true }));
    assert_words("none of the 2 images could be used; the first: in/bomb.png: too large");
    assert_int_equal(1, count_files("."));
}

static void tiny_images_have_one_answer(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir("in", 0777));
    for (uint32_t k = 1; k < 20; k++) {
        char path[32];
        snprintf(path, sizeof path, "in/%02u.png", k);
        save_png(path, k, 20 - k, k);
    }
    mr_job *job = load_job("vision: { images: in, folder: out }\n");
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(19, report->pipeline->items_in);
    assert_int_equal(report->pipeline->items_out, count_done("out"));
    mr_job_destroy(job);
}

/* Of the default budget, 10 pixels cannot hold the tokens at 400 each; 11 can. */
static void too_few_pixels_for_the_budget_are_a_bad_image(void **state)
{
    (void)state;
    assert_int_equal(0, mkdir("in", 0777));
    save_png("in/dot.png", 1, 1, 1);
    save_png("in/line.png", 10, 1, 2);
    save_png("in/square.png", 3, 3, 3);
    save_png("in/more.png", 11, 1, 4);
    save_png("in/small.png", 4, 3, 5);
    mr_job *job = load_job("vision: { images: in, folder: out }\n");
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    const char *words = mr_job_report_text(job);
    assert_non_null(strstr(words, "in/dot.png: budget: 4096 tokens"));
    assert_non_null(strstr(words, "in/line.png: budget: 4096 tokens"));
    assert_non_null(strstr(words, "in/square.png: budget: 4096 tokens"));
    assert_non_null(strstr(words, "give a budget of 64 to 3600"));
    mr_job_destroy(job);
    assert_int_equal(2, count_done("out"));
    assert_true(has_file("out/scores/more.npy") && has_file("out/scores/small.npy"));
    assert_ok(run_job("vision: { images: in, folder: out, budget: 400, on_error: stop }\n", NULL));
    assert_int_equal(5, count_done("out"));
}

/* ---- queries ---- */

static void queries_come_in_every_form(void **state)
{
    (void)state;
    make_images();
    run_verified("vision: { images: in, query: { word: blue }, folder: a, outputs: [tokens,"
                 " scores] }\n");
    run_verified("vision: { images: in, query: { word: blue }, folder: a, outputs: [tokens,"
                 " scores], weights: { propositional: 0, perspectival: 0 } }\n");
    run_verified("vision: { images: in, query: { image: in/a.png, region: [80, 0, 40, 32] },"
                 " folder: b, outputs: [tokens, scores] }\n");
    run_verified("vision: { images: in, query: { image: in/a.png }, folder: c, outputs: [tokens,"
                 " scores] }\n");
    char bytes[MR__NPY_WRITTEN_BYTES + 24 * 4];
    const struct mr__item_type number = { .dtype = MR_TYPE_F32 };
    mr__npy_format(&number, 24, bytes);
    for (uint32_t k = 0; k < 24; k++)
        memcpy(bytes + MR__NPY_WRITTEN_BYTES + 4 * k, &(float){ (float)k / 24 }, 4);
    write_file("query.npy", bytes, sizeof bytes);
    run_verified("vision: { images: in, query: { npy: query.npy }, folder: d, outputs: [tokens,"
                 " scores] }\n");
    write_file("query.npy", bytes, MR__NPY_WRITTEN_BYTES);
    expect_problem("vision: { images: in, query: { npy: query.npy }, folder: d }\n", MR_E_FORMAT,
                   "query.npy");
    expect_problem("vision: { images: in, query: { image: in/a.png, region: [150, 0, 40, 32] },"
                   " folder: d }\n",
                   MR_E_INVALID, "outside of its 160 x 96 pixels");
    expect_problem("vision: { images: in, query: rad, folder: d }\n", MR_E_FORMAT,
                   "did you mean 'red'");
    expect_problem("vision: { images: in, query: { image: in/notes.txt }, folder: d }\n",
                   MR_E_UNSUPPORTED, "no JPEG or PNG");
    expect_problem("vision: { images: in, query: { word: red, npy: q }, folder: d }\n", MR_E_FORMAT,
                   "needs one of");
}

/* ---- bad job files ---- */

static void every_mistake_is_told_with_its_place(void **state)
{
    (void)state;
    make_images();
    expect_problem("vision:\n"
                   "  imags: in\n"
                   "  folder: out\n"
                   "  mode: pipelind\n"
                   "  outputs: [tokens, overlays]\n"
                   "  weights: { propositonal: 1 }\n",
                   MR_E_FORMAT, "job.yaml:2:3: unknown key 'imags'");
    assert_non_null(strstr(problems, "did you mean 'images'"));
    assert_non_null(strstr(problems, "job.yaml:4:9: vision.mode: 'pipelind'"));
    assert_non_null(strstr(problems, "job.yaml:5:21: vision.outputs.1: 'overlays'"));
    assert_non_null(strstr(problems, "did you mean 'propositional'"));
    expect_problem("vision: { images: in }\nsource: { npy: a }\n", MR_E_FORMAT,
                   "unknown key 'source' in a vision job");
    expect_problem("vision: { images: nowhere, folder: out }\n", MR_E_IO, "no images");
    expect_problem("vision: { images: in, folder: no/such/out }\n", MR_E_IO, "cannot be written");
    expect_problem("vision: { images: in, folder: in/a.png }\n", MR_E_IO, "name a folder");
    expect_problem("vision: { images: in }\n", MR_E_FORMAT, "needs a `folder`");
    expect_problem("vision: { images: in, folder: out, patches: [16, 16] }\n", MR_E_INVALID,
                   "vision: budget: 4096 tokens cannot");
    expect_problem("vision:\n  images: in\n  budget: 9\n  patches: [16, 16]\n  folder: out\n",
                   MR_E_INVALID, "job.yaml:3:11: vision.budget: 9 tokens cannot");
    expect_problem("vision:\n  images: in\n  folder: out\n  tokens: [100, 50]\n", MR_E_INVALID,
                   "job.yaml:4:11: vision.tokens: a patch cannot");
    expect_problem("vision: { images: in, folder: out, temperature: 0 }\n", MR_E_INVALID,
                   "vision.temperature: 0; from 0.01 to 100");
    expect_problem("vision: { images: in, folder: out, weights: { propositional: 0, perspectival: "
                   "0, participatory: 0 } }\n",
                   MR_E_INVALID, "vision.weights: one of the three has to be above 0");
    expect_problem("vision:\n  images: in\n  folder: out\n  weights: { propositional: 0, "
                   "perspectival: 0 }\n",
                   MR_E_INVALID,
                   "job.yaml:4:12: vision.weights: participatory counts nothing without a `query`");
    expect_problem("vision: { images: in, folder: out, query: rad, weights: { propositional: 0, "
                   "perspectival: 0 } }\n",
                   MR_E_FORMAT, "did you mean 'red'");
    assert_int_equal(1, problem_count);
    expect_problem("vision: { images: in, folder: out, temperature: nan }\n", MR_E_FORMAT,
                   "vision.temperature: expected a finite number");
    assert_int_equal(1, problem_count);
    expect_problem("vision: { images: in, folder: out, temperature: -1 }\n", MR_E_INVALID,
                   "vision.temperature: -1; from 0.01 to 100");
    expect_problem("vision:\n  images: in\n  folder: out\n  tensions:\n    focus: 2\n",
                   MR_E_INVALID, "job.yaml:5:12: vision.tensions.focus: 2; from -1 to 1");
    expect_problem("vision: { images: in, folder: out, size: large }\n", MR_E_FORMAT, "original");
    expect_problem("vision: { images: in, folder: out, mode: pipelined, sets: 2 }\n", MR_E_FORMAT,
                   "sets of streams");
    expect_problem("vision: { images: in, folder: out, measure: 0 }\n", MR_E_FORMAT, "measure");
    expect_problem("vision: { images: in, folder: out, measure: often }\n", MR_E_FORMAT,
                   "expected true or false");
    expect_problem("vision: { images: in, folder: out, measure: 3x }\n", MR_E_FORMAT,
                   "whole number from 1");
    expect_problem("vision: 3\n", MR_E_FORMAT, "expected a map");
    expect_problem("vision: { images: [], folder: out }\n", MR_E_FORMAT, "empty");
    expect_problem("vision: { images: { recursive: true }, folder: out }\n", MR_E_FORMAT,
                   "needs one of");
    assert_int_equal(1, count_files("."));
}

static void a_value_may_be_set_from_outside(void **state)
{
    (void)state;
    make_images();
    const char *overrides[] = { "vision.budget=2048", "vision.folder=there",
                                "vision.weights.perspectival=2", NULL };
    mr_job *job;
    assert_ok(
        try_job("name: try\nvision: { images: in, folder: here, weights: {} }\n", overrides, &job));
    assert_string_equal("try", mr_job_name(job));
    assert_non_null(strstr(mr_job_plan_text(job), "2048 an image"));
    assert_ok(mr_job_run(job, NULL));
    mr_job_destroy(job);
    assert_true(has_file("there/index.html"));
    assert_false(has_file("here"));
}

static void what_is_not_written_cannot_be_verified(void **state)
{
    (void)state;
    make_images();
    assert_status(MR_E_UNSUPPORTED,
                  run_job("vision: { images: in, folder: out, outputs: [overlay] }\n",
                          &(mr_job_run_options){ .is_verified = true }));
    assert_words("vision.outputs");
    assert_false(has_file("out"));
}

/* ---- ends ---- */

static void a_cancelled_run_leaves_nothing(void **state)
{
    (void)state;
    make_images();
    mr_job *job = load_job("vision: { images: in, folder: out }\n");
    mr_job_cancel(job);
    assert_status(MR_E_CANCELLED, mr_job_run(job, NULL));
    assert_int_equal(1, count_files("."));
    /* The next run is a run like any other, and a second one takes its place. */
    assert_ok(mr_job_run(job, NULL));
    assert_ok(mr_job_run(job, NULL));
    mr_job_destroy(job);
    assert_int_equal(2, count_files("."));
    assert_int_equal(6, count_done("out"));
}

static void files_of_others_stay_in_the_folder(void **state)
{
    (void)state;
    make_images();
    assert_int_equal(0, mkdir("out", 0777));
    assert_int_equal(0, mkdir("out/tokens", 0777));
    write_text("out/mine.txt", "mine");
    write_text("out/tokens/mine.txt", "mine");
    assert_ok(run_job("vision: { images: in, folder: out }\n", NULL));
    assert_true(has_file("out/mine.txt") && has_file("out/tokens/mine.txt"));
    assert_true(has_file("out/tokens/a.npy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(both_modes_give_the_same_bytes),
        fixture_test(batches_give_the_same_bytes),
        fixture_test(images_of_one_size_agree_with_the_reference),
        fixture_test(tokens_add_up_to_the_budget),
        fixture_test(one_image_does_not_depend_on_its_company),
        fixture_test(images_are_found_in_every_way),
        fixture_test(outputs_are_not_images),
        fixture_test(paths_may_come_on_standard_input),
        fixture_test(bad_images_are_skipped_and_named),
        fixture_test(a_bad_image_keeps_its_name),
        fixture_test(a_forged_header_is_named),
        fixture_test(an_image_without_room_is_a_bad_image),
        fixture_test(many_slots_are_cut_to_the_memory),
        fixture_test(a_bad_image_may_stop_the_run),
        fixture_test(nothing_but_bad_images_is_a_failure),
        fixture_test(tiny_images_have_one_answer),
        fixture_test(too_few_pixels_for_the_budget_are_a_bad_image),
        fixture_test(queries_come_in_every_form),
        fixture_test(every_mistake_is_told_with_its_place),
        fixture_test(a_value_may_be_set_from_outside),
        fixture_test(what_is_not_written_cannot_be_verified),
        fixture_test(a_cancelled_run_leaves_nothing),
        fixture_test(files_of_others_stay_in_the_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
