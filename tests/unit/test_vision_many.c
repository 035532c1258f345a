/* SPDX-License-Identifier: MIT */
/* A thousand small images through the vision job: all come out, in memory that does not grow with
 * their number. */
#include "image_files.h"
#include "job_fixture.h"

#include <png.h>
#include <stdlib.h>
#include <sys/stat.h>

static void a_thousand_images_pass(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    assert_int_equal(0, mkdir("in", 0777));
    for (uint32_t k = 0; k < COUNT; k++) {
        char path[32];
        snprintf(path, sizeof path, "in/%u.png", k);
        const uint32_t width = 48 + k % 17, height = 32 + k % 13;
        uint8_t *pixels = make_scene(width, height, k);
        struct made_file file = make_png(
            &(struct made_png){
                .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
            pixels);
        write_file(path, file.bytes, file.size_bytes);
        free(file.bytes);
        free(pixels);
    }
    mr_job *job = load_job("vision: { images: in, folder: out, outputs: [scores, sheet] }\n");
    assert_ok(mr_job_run(job, NULL));
    const mr_job_report *report;
    assert_ok(mr_job_report_get(job, &report));
    assert_int_equal(COUNT, report->pipeline->items_out);
    assert_true(report->pipeline->slot_count < 200);
    mr_job_destroy(job);
    assert_int_equal(COUNT, count_files("out/scores"));
    size_t size_bytes;
    char *page = read_file("out/index.html", &size_bytes);
    assert_non_null(strstr(page, "sheet/999.jpg"));
    free(page);
}

int main(void)
{
    const struct CMUnitTest tests[] = { fixture_test(a_thousand_images_pass) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
