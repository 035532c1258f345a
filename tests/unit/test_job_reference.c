/* SPDX-License-Identifier: MIT */
/* The plain references against numbers worked out by hand. */
#include "job/reference.h"
#include "support/unit.h"

#include <math.h>
#include <stdlib.h>

static void convert(mr_type from, const void *source, size_t source_bytes, mr_type to, void *output)
{
    const struct mr__flow input = { .type = { .dtype = from } };
    const struct mr__stage stage = { .inputs = { &input }, .output = { .type = { .dtype = to } } };
    size_t output_bytes;
    assert_ok(mr__reference_convert(&stage, (const void *const[]){ source }, &source_bytes, output,
                                    &output_bytes));
    assert_int_equal(source_bytes / mr_type_size(from) * mr_type_size(to), output_bytes);
}

static void convert_saturates_and_rounds_ties_to_even(void **state)
{
    (void)state;
    const float source[] = { -1.0f, 0.5f, 1.5f, 2.5f, 254.5f, 255.5f, 1e9f, NAN };
    const uint8_t bytes[] = { 0, 0, 2, 2, 254, 255, 255, 0 };
    const int16_t words[] = { -1, 0, 2, 2, 254, 256, 32767, 0 };
    uint8_t got_bytes[8];
    int16_t got_words[8];
    convert(MR_TYPE_F32, source, sizeof source, MR_TYPE_U8, got_bytes);
    assert_memory_equal(bytes, got_bytes, sizeof bytes);
    convert(MR_TYPE_F32, source, sizeof source, MR_TYPE_I16, got_words);
    assert_memory_equal(words, got_words, sizeof words);

    const int32_t wide[] = { -2147483647 - 1, -1, 70000, 2147483647 };
    const uint16_t narrow[] = { 0, 0, 65535, 65535 };
    uint16_t got_narrow[4];
    convert(MR_TYPE_I32, wide, sizeof wide, MR_TYPE_U16, got_narrow);
    assert_memory_equal(narrow, got_narrow, sizeof narrow);
}

static void scale_rounds_after_each_step(void **state)
{
    (void)state;
    const uint16_t source[] = { 0, 10, 65535 };
    float output[3];
    size_t output_bytes;
    assert_ok(mr__reference_scale_offset(MR_TYPE_U16, source, sizeof source, 0.1, -3, output,
                                         &output_bytes));
    assert_int_equal(sizeof output, output_bytes);
    assert_true(output[0] == -3.0f);
    assert_true(output[1] == 0.1f * 10.0f - 3.0f);
}

static void clamp_and_threshold_treat_bounds_as_inside(void **state)
{
    (void)state;
    const int16_t source[] = { -5, 2, 3, 9, 10 };
    const int16_t clamped[] = { 3, 3, 3, 9, 9 }, cut[] = { 0, 0, 7, 7, 7 };
    int16_t output[5];
    assert_ok(mr__reference_clamp(MR_TYPE_I16, source, sizeof source, 3, 9, output));
    assert_memory_equal(clamped, output, sizeof output);
    assert_ok(
        mr__reference_threshold(MR_TYPE_I16, source, sizeof source, (double[]){ 3, 0, 7 }, output));
    assert_memory_equal(cut, output, sizeof output);
}

static void calibrate_subtracts_and_divides(void **state)
{
    (void)state;
    const uint16_t source[] = { 100, 300, 50, 7 };
    const float dark[] = { 20, 100, 60, 1 }, flat[] = { 0.5f, 2, 1, 0 };
    float output[4];
    assert_ok(mr__reference_calibrate(MR_TYPE_U16, source, dark, flat, 4, output));
    assert_true(output[0] == 160 && output[1] == 100 && output[2] == -10 && output[3] == 0);
}

static void median_repeats_edges(void **state)
{
    (void)state;
    const uint8_t source[12] = { 9, 1, 5, 200, 3, 7, 2, 6, 8, 4, 250, 0 };
    uint8_t output[12];
    assert_ok(mr__reference_median3x3(MR_TYPE_U8, source, 3, 4, output));
    /* The corner sees 9 9 1, 9 9 1, 3 3 7; the inner pixels their true nine. */
    assert_int_equal(7, output[0]);
    assert_int_equal(5, output[5]);
    assert_int_equal(5, output[6]);
    assert_ok(mr__reference_median3x3(MR_TYPE_U8, source, 1, 1, output));
    assert_int_equal(9, output[0]);
}

/* Against sorting, for every type, on numbers with many ties. */
static int compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void median_is_the_fifth_of_nine(void **state)
{
    (void)state;
    enum { HEIGHT = 17, WIDTH = 23 };
    float source[HEIGHT * WIDTH], output[HEIGHT * WIDTH];
    uint32_t seed = 1;
    for (size_t k = 0; k < HEIGHT * WIDTH; k++) {
        seed = seed * 1664525 + 1013904223;
        source[k] = (float)(seed >> 27) - 9;
    }
    assert_ok(mr__reference_median3x3(MR_TYPE_F32, source, HEIGHT, WIDTH, output));
    for (size_t y = 1; y + 1 < HEIGHT; y++) {
        for (size_t x = 1; x + 1 < WIDTH; x++) {
            float nine[9];
            for (size_t k = 0; k < 9; k++)
                nine[k] = source[(y - 1 + k / 3) * WIDTH + x - 1 + k % 3];
            qsort(nine, 9, sizeof nine[0], compare_floats);
            assert_true(output[y * WIDTH + x] == nine[4]);
        }
    }
}

static void quantise_spreads_the_range(void **state)
{
    (void)state;
    const float source[] = { -1, 0, 50, 100, 101, NAN };
    const uint8_t due[] = { 0, 0, 128, 255, 255, 0 };
    uint8_t output[6];
    assert_ok(mr__reference_quantise(MR_TYPE_F32, source, 6, 0, 100, output));
    assert_memory_equal(due, output, sizeof output);
    assert_ok(mr__reference_quantise(MR_TYPE_F32, source, 6, 5, 5, output));
    assert_int_equal(0, output[3]);
}

static void statistics_are_sum_least_greatest_mean_count(void **state)
{
    (void)state;
    const uint16_t source[] = { 4, 65535, 0, 1 };
    double output[5];
    assert_ok(mr__reference_statistics(MR_TYPE_U16, source, 4, output));
    assert_true(output[0] == 65540 && output[1] == 0 && output[2] == 65535 && output[3] == 16385 &&
                output[4] == 4);
}

static void histogram_counts_what_lies_inside(void **state)
{
    (void)state;
    const float source[] = { -0.1f, 0, 0.9f, 1, 3.99f, 4, 4.01f, NAN };
    const uint32_t due[] = { 2, 1, 0, 2 };
    uint32_t output[4];
    assert_ok(mr__reference_histogram(MR_TYPE_F32, source, 8, 0, 4, 4, output));
    assert_memory_equal(due, output, sizeof output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(convert_saturates_and_rounds_ties_to_even),
        cmocka_unit_test(scale_rounds_after_each_step),
        cmocka_unit_test(clamp_and_threshold_treat_bounds_as_inside),
        cmocka_unit_test(calibrate_subtracts_and_divides),
        cmocka_unit_test(median_repeats_edges),
        cmocka_unit_test(median_is_the_fifth_of_nine),
        cmocka_unit_test(quantise_spreads_the_range),
        cmocka_unit_test(statistics_are_sum_least_greatest_mean_count),
        cmocka_unit_test(histogram_counts_what_lies_inside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
