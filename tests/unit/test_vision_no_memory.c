/* SPDX-License-Identifier: MIT */
/* The vision job with the Nth allocation failing, N growing until none fails: always a status and
 * words, never a crash, a leak, an image that is blamed for it, or outputs of a run that failed. */
#include "image_files.h"
#include "job_fixture.h"
#include "support/fault.h"

#include <png.h>
#include <stdlib.h>

static const char *const job_text = "vision: { images: in*, query: red, budget: 300, folder: out,"
                                    " slots: 2, decode_threads: 2, limits: { pixels: 5000 } }\n";

static void make_images(void)
{
    uint8_t pixels[48 * 32 * 3];
    for (size_t k = 0; k < sizeof pixels; k++)
        pixels[k] = (uint8_t)(k * 7 + k / 96);
    struct made_file png = make_png(
        &(struct made_png){ .width = 48, .height = 32, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        pixels);
    struct made_file jpeg =
        make_jpeg(&(struct made_jpeg){ .width = 32, .height = 48, .channels = 3 }, pixels);
    write_file("in1.png", png.bytes, png.size_bytes);
    write_file("in2.jpg", jpeg.bytes, jpeg.size_bytes);
    write_file("in3.jpg", jpeg.bytes, jpeg.size_bytes / 2);
    free(png.bytes);
    free(jpeg.bytes);
}

static mr_status load_and_run(uint64_t *done)
{
    mr_job *job;
    const mr_job_report *report;
    mr_status status = try_job(job_text, NULL, &job);
    if (!status)
        status = mr_job_run(job, NULL);
    if (!status && mr_job_report_get(job, &report) == MR_OK)
        *done = report->pipeline->items_out;
    if (!status && !mr_job_report_text(job)[0])
        status = MR_E_NO_MEMORY;
    mr_job_destroy(job);
    return status;
}

static void vision_job_survives_no_memory(void **state)
{
    (void)state;
    make_images();
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        uint64_t done = 0;
        assert_false(has_file("out"));
        fault_begin(&fault);
        const mr_status status = load_and_run(&done);
        fault_end(&fault, status);

        if (!status)
            assert_int_equal(2, done);
        if (has_file("out"))
            assert_int_equal(0, system("rm -r out"));
        /* Each of the first, then ever fewer: later on most are alike, one for each patch and row. */
        fault.step = 1 + fault.nth / 100;
    }
    assert_true(fault.error_count > 50);
    assert_int_equal(3, count_files("."));
}

int main(void)
{
    const struct CMUnitTest tests[] = { fixture_test(vision_job_survives_no_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
