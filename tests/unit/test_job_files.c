/* SPDX-License-Identifier: MIT */
/* Sources and sinks of jobs: what is read is what is written, and full disks, closed pipes and
 * files that change under the reader end in words and leave nothing behind. */
#include "job/png_file.h"
#include "job/unnamed.h"
#include "job_fixture.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void expect_file(const char *path, const void *bytes, size_t size_bytes)
{
    size_t size;
    char *got = read_file(path, &size);
    assert_int_equal(size_bytes, size);
    assert_memory_equal(bytes, got, size);
    free(got);
}

static void expect_same_files(const char *a, const char *b)
{
    size_t size;
    char *bytes = read_file(a, &size);
    expect_file(b, bytes, size);
    free(bytes);
}

/* ---- npy ---- */

static void npy_stack_comes_out_as_it_went_in(void **state)
{
    (void)state;
    for (mr_type type = MR_TYPE_U8; type <= MR_TYPE_F64; type++) {
        write_stack("in.npy", type, 5, 3, 7, 12345);
        assert_ok(
            run_job("source: { npy: in.npy }\nsinks: [ { npy: out.npy }, { raw: out.raw } ]\n",
                    &(mr_job_run_options){ .is_verified = true }));
        expect_same_files("in.npy", "out.npy");
    }
    size_t size;
    char *bytes = read_file("in.npy", &size);
    expect_file("out.raw", bytes + MR__NPY_WRITTEN_BYTES, size - MR__NPY_WRITTEN_BYTES);
    free(bytes);
}

static void several_readers_read_the_same(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U32, 3, 1000, 1777, 2654435761u);
    for (int count = 1; count <= 4; count++) {
        char text[160];
        snprintf(text, sizeof text,
                 "source: { npy: { path: in.npy, readers: %d } }\nsinks: [ { npy: out.npy } ]\n",
                 count);
        run_verified(text);
        expect_same_files("in.npy", "out.npy");
    }
}

static void file_that_shrinks_under_several_readers_is_an_error(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U32, 3, 1000, 1777, 1);
    mr_job *job = load_job("source: { npy: { path: in.npy, readers: 4 } }\n"
                           "sinks: [ { npy: out.npy } ]\n");
    assert_int_equal(0, truncate("in.npy", 10000000));
    assert_status(MR_E_IO, mr_job_run(job, NULL));
    assert_words("in.npy: the file ends inside item 1");
    mr_job_destroy(job);
}

static void limit_ends_a_source_early(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U8, 5, 2, 2, 1);
    assert_ok(run_job("source: { npy: { path: in.npy }, limit: 3 }\nsinks: [ { raw: out.raw } ]\n",
                      &(mr_job_run_options){ .is_verified = true }));
    expect_file("out.raw", "\0\1\2\3\4\5\6\7\10\11\12\13", 12);
}

/* The file loses its second half while the first item is on its way. */
static void cut_file(void *context, const mr_job_progress *now)
{
    (void)now;
    assert_int_equal(0, truncate(context, 300));
}

static void file_that_shrinks_while_it_is_read_is_an_error(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U8, 4, 8, 8, 1);
    mr_job *job = load_job("source: { npy: in.npy }\nsinks: [ { npy: out.npy } ]\n");
    cut_file("in.npy", NULL);
    assert_status(MR_E_IO, mr_job_run(job, NULL));
    assert_words("in.npy: the file ends inside item 0");
    mr_job_destroy(job);
    assert_false(has_file("out.npy"));
    assert_int_equal(1, count_files("."));
}

static void source_that_fails_midway_leaves_no_output(void **state)
{
    (void)state;
    write_text("out.raw", "from yesterday");
    mkdir("frames", 0755);
    for (int k = 0; k < 6; k++) {
        char path[32];
        snprintf(path, sizeof path, "frames/f%d.npy", k);
        write_stack(path, MR_TYPE_U8, 4, 4, 4, 1);
    }
    mr_job *job = load_job("source: { files: frames }\nsinks: [ { raw: out.raw } ]\n");
    write_text("frames/f4.npy", "not what it was");
    assert_status(MR_E_FORMAT, mr_job_run(job, NULL));
    assert_words("frames/f4.npy: not a .npy file");
    mr_job_destroy(job);
    expect_file("out.raw", "from yesterday", 14);
    assert_int_equal(2, count_files("."));
}

/* ---- raw ---- */

static void run_short_last(const char *policy, const char *stages)
{
    char text[512];
    snprintf(text, sizeof text,
             "source: { raw: { path: in.raw, dtype: u16, shape: [3], skip: 2, short_last: %s } }\n"
             "stages: [ %s ]\nsinks: [ { raw: out.raw } ]\n",
             policy, stages);
    run_verified(text);
}

static void raw_last_item_is_dropped_padded_or_kept(void **state)
{
    (void)state;
    write_file("in.raw", "--aabbccddee", 12);
    run_short_last("drop", "");
    expect_file("out.raw", "aabbcc", 6);
    run_short_last("pad", "");
    expect_file("out.raw", "aabbccddee\0\0", 12);
    run_short_last("keep", "");
    expect_file("out.raw", "aabbccddee", 10);
    run_short_last("keep", "{ op: convert, to: f64 }, { op: scale_offset, scale: 0.5 }");
    size_t size;
    double *numbers = read_file("out.raw", &size);
    assert_int_equal(5 * sizeof(double), size);
    assert_true(numbers[4] == ('e' << 8 | 'e') * 0.5);
    free(numbers);
}

/* ---- folders ---- */

static void files_come_in_the_order_of_their_numbers(void **state)
{
    (void)state;
    mkdir("frames", 0755);
    mkdir("frames/sub", 0755);
    write_text("frames/f10.raw", "ten!");
    write_text("frames/f9.raw", "nine");
    write_text("frames/f1.raw", "one!");
    write_text("frames/.hidden", "x");
    const char *const rest = ", dtype: u8, shape: [2, 2] } }\nsinks: [ { raw: out.raw } ]\n";
    char text[256];
    snprintf(text, sizeof text, "source: { files: { path: frames%s", rest);
    run_verified(text);
    expect_file("out.raw", "one!nineten!", 12);
    snprintf(text, sizeof text, "source: { files: { path: 'frames/f1*.raw'%s", rest);
    run_verified(text);
    expect_file("out.raw", "one!ten!", 8);
}

static void write_png(const char *path, mr_type type, uint32_t height, uint32_t width,
                      const void *data)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_ok(mr__png_write(file, type, height, width, data));
    fclose(file);
}

static void images_are_items(void **state)
{
    (void)state;
    const uint16_t first[6] = { 1, 2, 300, 40000, 5, 65535 }, second[6] = { 9, 8, 7, 6, 5, 4 };
    mkdir("images", 0755);
    write_png("images/a.png", MR_TYPE_U16, 2, 3, first);
    write_png("images/b.png", MR_TYPE_U16, 2, 3, second);
    mr_job *job = load_job("source: { files: images }\nsinks: [ { raw: out.raw } ]\n");
    assert_non_null(strstr(mr_job_plan_text(job), "2 items of u16 2x3"));
    assert_ok(mr_job_run(job, &(mr_job_run_options){ .is_verified = true }));
    mr_job_destroy(job);
    uint16_t both[12];
    memcpy(both, first, sizeof first);
    memcpy(both + 6, second, sizeof second);
    expect_file("out.raw", both, sizeof both);
}

static void image_that_is_damaged_or_differs_is_an_error(void **state)
{
    (void)state;
    const uint8_t pixels[6] = { 1, 2, 3, 4, 5, 6 };
    const char *const text = "source: { files: images }\nsinks: [ { raw: out.raw } ]\n";
    mkdir("images", 0755);
    write_png("images/a.png", MR_TYPE_U8, 2, 3, pixels);
    write_png("images/b.png", MR_TYPE_U8, 3, 2, pixels);
    assert_status(MR_E_FORMAT, run_job(text, NULL));
    assert_words("images/b.png: the image is u8 3x2, the job's items are u8 2x3");

    size_t size;
    char *bytes = read_file("images/a.png", &size);
    write_file("images/b.png", bytes, size - 20);
    assert_status(MR_E_FORMAT, run_job(text, NULL));
    assert_words("images/b.png: PNG: ");
    free(bytes);
    write_text("images/a.png", "no image");
    expect_problem(text, MR_E_FORMAT, "images/a.png: PNG: Not a PNG file");
    assert_false(has_file("out.raw"));
}

/* ---- previews ---- */

static void preview_shows_the_item_asked_for(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U8, 3, 2, 4, 1);
    assert_ok(run_job("source: { npy: in.npy }\nstages: [ { op: threshold, limit: 10 } ]\n"
                      "sinks: [ { png: one.png, item: 1, from: source }, "
                      "{ png: two.png, item: 1, from: [source, threshold] } ]\n",
                      NULL));
    struct mr__item_type type;
    uint8_t pixels[8], pair[2 * 16];
    assert_ok(mr__png_read("one.png", NULL, &type, pixels));
    assert_memory_equal("\10\11\12\13\14\15\16\17", pixels, 8);
    assert_ok(mr__png_read("two.png", NULL, &type, NULL));
    assert_int_equal(2, type.shape[0]);
    assert_int_equal(16, type.shape[1]);
    assert_ok(mr__png_read("two.png", &type, &type, pair));
    assert_memory_equal("\10\11\12\13\0\0\0\0\0\0\0\0\0\0\377\377", pair, 16);
}

static void preview_spreads_numbers_over_greys(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 1, 1, 5, 100);
    assert_ok(run_job("source: { npy: in.npy }\n"
                      "sinks: [ { png: a.png, low: 100, high: 300 }, { png: b.png, depth: 16 } ]\n",
                      NULL));
    struct mr__item_type type;
    uint8_t pixels[5];
    assert_ok(mr__png_read("a.png", NULL, &type, pixels));
    assert_memory_equal("\0\0\200\377\377", pixels, 5);
    uint16_t deep[5];
    assert_ok(mr__png_read("b.png", NULL, &type, deep));
    assert_int_equal(MR_TYPE_U16, type.dtype);
    assert_int_equal(400, deep[4]);
}

/* ---- standard input and output ---- */

struct redirection {
    int descriptor, kept;
};

static struct redirection redirect(int descriptor, const char *path, int flags)
{
    const struct redirection redirection = { descriptor, dup(descriptor) };
    fflush(stdout);
    const int file = open(path, flags, 0644);
    assert_true(file >= 0);
    dup2(file, descriptor);
    close(file);
    return redirection;
}

static void restore(struct redirection redirection)
{
    dup2(redirection.kept, redirection.descriptor);
    close(redirection.kept);
}

static mr_status run_with_input(const char *path, const char *text)
{
    const struct redirection input = redirect(STDIN_FILENO, path, O_RDONLY);
    mr_job *job;
    mr_status status = try_job(text, NULL, &job);
    if (!status)
        status = mr_job_run(job, NULL);
    mr_job_destroy(job);
    restore(input);
    return status;
}

static void standard_input_is_a_source(void **state)
{
    (void)state;
    write_text("in.raw", "aabbccdde");
    assert_ok(run_with_input("in.raw", "source: { stdin: { dtype: u8, shape: [2], short_last: drop "
                                       "} }\nsinks: [ { raw: out.raw }, { npy: out.npy } ]\n"));
    expect_file("out.raw", "aabbccdd", 8);
    struct mr__npy_header header;
    const int file = open("out.npy", O_RDONLY);
    assert_ok(mr__npy_read(file, "out.npy", &header));
    close(file);
    assert_int_equal(4, header.shape[0]);

    write_stack("in.npy", MR_TYPE_F32, 4, 3, 5, 3);
    assert_ok(run_with_input("in.npy", "source: { stdin: npy }\nsinks: [ { npy: out.npy } ]\n"));
    expect_same_files("in.npy", "out.npy");
}

static void standard_input_that_ends_early_is_an_error(void **state)
{
    (void)state;
    write_text("in.raw", "aabbc");
    assert_status(MR_E_FORMAT,
                  run_with_input("in.raw", "source: { stdin: { dtype: u8, shape: [2] } "
                                           "}\nsinks: [ { raw: out.raw } ]\n"));
    assert_words("it ends after 1 of the 2 bytes of item 2");

    write_stack("in.npy", MR_TYPE_U8, 4, 3, 5, 3);
    size_t size;
    char *bytes = read_file("in.npy", &size);
    const char *const text = "source: { stdin: npy }\nsinks: [ { npy: out.npy } ]\n";
    write_file("cut.npy", bytes, size - 1);
    assert_status(MR_E_FORMAT, run_with_input("cut.npy", text));
    assert_words("truncated: it ends inside item 3 of 4");
    write_file("cut.npy", bytes, 100);
    assert_status(MR_E_FORMAT, run_with_input("cut.npy", text));
    assert_words("standard input: malformed .npy header");
    bytes = realloc(bytes, size + 1);
    bytes[size] = 'x';
    write_file("long.npy", bytes, size + 1);
    assert_status(MR_E_FORMAT, run_with_input("long.npy", text));
    assert_words("oversized");
    free(bytes);
    assert_false(has_file("out.npy"));
}

static mr_status run_with_output(const char *path, const char *text)
{
    mr_job *job = load_job(text);
    const struct redirection output = redirect(STDOUT_FILENO, path, O_WRONLY | O_CREAT | O_TRUNC);
    const mr_status status = mr_job_run(job, NULL);
    restore(output);
    mr_job_destroy(job);
    return status;
}

static void standard_output_is_a_sink(void **state)
{
    (void)state;
    write_stack("in.npy", MR_TYPE_U16, 3, 4, 5, 77);
    assert_ok(run_with_output("got.npy", "source: { npy: in.npy }\nsinks: [ { stdout: npy } ]\n"));
    expect_same_files("in.npy", "got.npy");
    assert_ok(run_with_output("got.raw", "source: { npy: in.npy }\nsinks: [ { stdout: raw } ]\n"));
    size_t size;
    char *bytes = read_file("in.npy", &size);
    expect_file("got.raw", bytes + MR__NPY_WRITTEN_BYTES, size - MR__NPY_WRITTEN_BYTES);
    free(bytes);
}

/* ---- when writing fails ---- */

#define LARGE "source: { generate: { kind: ramp, dtype: u8, shape: [100000], count: 50 } }\n"

static void disk_that_is_full_is_said_with_the_path(void **state)
{
    (void)state;
    assert_status(MR_E_IO, run_job(LARGE "sinks: [ { raw: /dev/full } ]\n", NULL));
    assert_words("/dev/full: writing failed after 0 bytes: No space left on device");
    assert_words("free some space");
    assert_status(MR_E_IO, run_with_output("/dev/full", LARGE "sinks: [ { stdout: raw } ]\n"));
    assert_words("standard output: writing failed");
}

static void disk_that_fills_up_leaves_nothing(void **state)
{
    (void)state;
    struct rlimit old, small = { .rlim_cur = 1000000, .rlim_max = RLIM_INFINITY };
    assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &old));
    small.rlim_max = old.rlim_max;
    write_text("out.npy", "from yesterday");
    signal(SIGXFSZ, SIG_IGN);
    mr_job *job = load_job(LARGE "sinks: [ { npy: out.npy }, { raw: other.raw } ]\n");
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &small));
    const mr_status status = mr_job_run(job, NULL);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &old));

    assert_int_equal(MR_E_IO, status);
    assert_words("writing failed after 1000000 bytes: File too large");
    mr_job_destroy(job);
    expect_file("out.npy", "from yesterday", 14);
    assert_int_equal(1, count_files("."));
}

/* As on file systems that have none: under a hidden name, which is gone afterwards. */
static void outputs_appear_whole_where_every_file_has_a_name(void **state)
{
    mr__unnamed_is_unsupported = true;
    disk_that_fills_up_leaves_nothing(state);
    assert_ok(run_job(LARGE "sinks: [ { npy: out.npy }, { raw: other.raw } ]\n", NULL));
    mr__unnamed_is_unsupported = false;

    size_t size;
    free(read_file("out.npy", &size));
    assert_int_equal(MR__NPY_WRITTEN_BYTES + 5000000, size);
    free(read_file("other.raw", &size));
    assert_int_equal(5000000, size);
    assert_int_equal(2, count_files("."));
}

static void output_takes_the_place_of_what_a_link_leads_to(void **state)
{
    (void)state;
    mkdir("there", 0755);
    write_text("there/real.raw", "from yesterday");
    assert_int_equal(0, symlink("there/real.raw", "out.raw"));

    assert_ok(run_job(LARGE "sinks: [ { raw: out.raw } ]\n", NULL));

    struct stat facts;
    assert_int_equal(0, lstat("out.raw", &facts));
    assert_true(S_ISLNK(facts.st_mode));
    assert_int_equal(0, stat("there/real.raw", &facts));
    assert_int_equal(5000000, facts.st_size);
    assert_int_equal(1, count_files("there"));
}

static void outputs_are_for_whom_the_mask_allows(void **state)
{
    (void)state;
    const mode_t mask = umask(027);
    for (int is_off = 0; is_off < 2; is_off++) {
        mr__unnamed_is_unsupported = is_off;
        unlink("out.raw");
        assert_ok(run_job(LARGE "sinks: [ { raw: out.raw } ]\n", NULL));
        struct stat facts;
        assert_int_equal(0, stat("out.raw", &facts));
        assert_int_equal(0640, facts.st_mode & 0777);
    }
    mr__unnamed_is_unsupported = false;
    umask(mask);
}

static void pipe_that_closes_is_said(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(0, pipe(ends));
    signal(SIGPIPE, SIG_IGN);
    mr_job *job = load_job(LARGE "sinks: [ { stdout: raw }, { raw: other.raw } ]\n");
    fflush(stdout);
    const struct redirection output = { STDOUT_FILENO, dup(STDOUT_FILENO) };
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    const mr_status status = mr_job_run(job, NULL);
    restore(output);

    assert_int_equal(MR_E_CLOSED, status);
    assert_words("standard output: the reader closed the pipe after 0 bytes");
    mr_job_destroy(job);
    assert_int_equal(0, count_files("."));
}

static void folder_that_vanishes_is_said(void **state)
{
    (void)state;
    mkdir("there", 0755);
    mr_job *job = load_job(LARGE "sinks: [ { raw: there/out.raw } ]\n");
    rmdir("there");
    assert_status(MR_E_IO, mr_job_run(job, NULL));
    assert_words("there/out.raw: cannot be written: No such file");
    mr_job_destroy(job);
}

static void output_keeps_links_and_masks(void **state)
{
    (void)state;
    mkdir("store", 0755);
    write_text("store/real.raw", "old");
    assert_int_equal(0, symlink("store/real.raw", "out.raw"));
    const mode_t old = umask(027);
    assert_ok(run_job("source: { generate: { kind: constant, value: 65, dtype: u8, shape: [2], "
                      "count: 2 } }\nsinks: [ { raw: out.raw } ]\n",
                      NULL));
    umask(old);
    struct stat facts;
    assert_int_equal(0, lstat("out.raw", &facts));
    assert_true(S_ISLNK(facts.st_mode));
    expect_file("store/real.raw", "AAAA", 4);
    assert_int_equal(0, stat("store/real.raw", &facts));
    assert_int_equal(0640, facts.st_mode & 0777);
}

/* ---- generators ---- */

static void generators_repeat_themselves(void **state)
{
    (void)state;
    static const char *const kinds[] = { "frames", "dark", "flat", "ramp", "random", "constant" };
    for (size_t k = 0; k < 6; k++) {
        for (int seed = 1; seed <= 3; seed++) {
            char text[256];
            snprintf(text, sizeof text,
                     "source: { generate: { kind: %s, dtype: u16, shape: [40, 50], count: 3, seed: "
                     "%d } }\nsinks: [ { raw: %d.raw } ]\n",
                     kinds[k], seed < 3 ? 1 : 2, seed);
            run_verified(text);
        }
        expect_same_files("1.raw", "2.raw");
        size_t size, other_size;
        char *first = read_file("1.raw", &size), *other = read_file("3.raw", &other_size);
        const bool is_seeded = k != 3 && k != 5;
        assert_int_equal(is_seeded, memcmp(first, other, size) != 0);
        free(first);
        free(other);
    }
}

static void generated_numbers_cover_their_types(void **state)
{
    (void)state;
    for (mr_type type = MR_TYPE_U8; type <= MR_TYPE_F64; type++) {
        char text[256];
        snprintf(text, sizeof text,
                 "source: { generate: { kind: random, dtype: %s, shape: [5], count: 100 } }\n"
                 "sinks: [ { raw: random.raw } ]\n",
                 mr_type_name(type));
        run_verified(text);
        snprintf(text, sizeof text,
                 "source: { generate: { kind: ramp, dtype: %s, shape: [5], count: 100 } }\n"
                 "sinks: [ { raw: ramp.raw } ]\n",
                 mr_type_name(type));
        run_verified(text);
        size_t size;
        void *numbers = read_file("ramp.raw", &size);
        assert_true(mr__number_at(type, numbers, 101) == 101);
        free(numbers);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        fixture_test(npy_stack_comes_out_as_it_went_in),
        fixture_test(several_readers_read_the_same),
        fixture_test(file_that_shrinks_under_several_readers_is_an_error),
        fixture_test(limit_ends_a_source_early),
        fixture_test(file_that_shrinks_while_it_is_read_is_an_error),
        fixture_test(source_that_fails_midway_leaves_no_output),
        fixture_test(raw_last_item_is_dropped_padded_or_kept),
        fixture_test(files_come_in_the_order_of_their_numbers),
        fixture_test(images_are_items),
        fixture_test(image_that_is_damaged_or_differs_is_an_error),
        fixture_test(preview_shows_the_item_asked_for),
        fixture_test(preview_spreads_numbers_over_greys),
        fixture_test(standard_input_is_a_source),
        fixture_test(standard_input_that_ends_early_is_an_error),
        fixture_test(standard_output_is_a_sink),
        fixture_test(disk_that_is_full_is_said_with_the_path),
        fixture_test(disk_that_fills_up_leaves_nothing),
        fixture_test(outputs_appear_whole_where_every_file_has_a_name),
        fixture_test(output_takes_the_place_of_what_a_link_leads_to),
        fixture_test(outputs_are_for_whom_the_mask_allows),
        fixture_test(pipe_that_closes_is_said),
        fixture_test(folder_that_vanishes_is_said),
        fixture_test(output_keeps_links_and_masks),
        fixture_test(generators_repeat_themselves),
        fixture_test(generated_numbers_cover_their_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
