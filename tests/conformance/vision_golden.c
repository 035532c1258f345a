/* SPDX-License-Identifier: MIT */
/*
 * The vision model against numbers that a program of its own worked out from the formulas of the manual
 * (vision_golden.py), on every device: images of odd sizes, of 8 and 16 bits, grey, long and thin, with and
 * without a query, and with every parameter.
 */
#include "support/suite.h"
#include "support/vision_images.h"

#include <math.h>
#include <stdbool.h>

enum { PATCH_LIMIT = 12, PIXELS = 3 };

static const struct golden {
    uint32_t width, height, channel_bytes, seed;
    bool is_grey;
    const char *query;
    struct mr__vision_parameters parameters;
    uint32_t columns, rows;
    uint32_t tokens[PATCH_LIMIT], boxes[PATCH_LIMIT];
    double scores[MR__VISION_SCORES][PATCH_LIMIT];
    double pixels[PIXELS][MR__VISION_CHANNELS]; /* the first, one inside, the last */
    double compressed[2][MR__VISION_CHANNELS];  /* a box of the first patch, and of the last */
} goldens[] = {
#include "vision_golden.inc"
};
enum { GOLDEN_COUNT = sizeof goldens / sizeof *goldens };

/* Contrast and likeness are of sums that are rounded to a 16384th of a pixel; what follows from them is as
 * near as they are. */
#define BOUND_TEXTURES 4e-6
#define BOUND_ENTROPY 2e-6
#define BOUND_SCORES 1e-4

static void check_near(const char *what, size_t golden, size_t number, double expected,
                       double actual, double bound)
{
    if (!(fabs(expected - actual) <= bound))
        CHECK_FAIL("%s %zu of image %zu: expected %.7g, got %.7g", what, number, golden, expected,
                   actual);
}

static void make_grey(void *pixels, const struct golden *golden)
{
    uint8_t *bytes = pixels;
    for (size_t i = 0; i < (size_t)golden->width * golden->height; i++)
        memset(bytes + 3 * i, bytes[3 * i], 3);
}

static void check_textures(size_t index, const struct vision_outcome *outcome)
{
    const struct golden *golden = &goldens[index];
    const size_t width = golden->width, height = golden->height;
    const size_t at[PIXELS] = { 0, height / 3 * width + width / 2, width * height - 1 };
    for (uint32_t i = 0; i < PIXELS; i++)
        for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++)
            check_near(mr__vision_channel_name(channel), index, at[i], golden->pixels[i][channel],
                       (double)outcome->textures[channel * width * height + at[i]], BOUND_TEXTURES);
}

static void check_scores(size_t index, const struct vision_outcome *outcome)
{
    const uint32_t count = outcome->plan.patch_count;
    for (uint32_t score = 0; score < MR__VISION_SCORES; score++)
        for (uint32_t k = 0; k < count; k++)
            check_near(mr__vision_score_name(score), index, k, goldens[index].scores[score][k],
                       (double)outcome->scores[score * count + k],
                       score == MR__VISION_PROPOSITIONAL ? BOUND_ENTROPY : BOUND_SCORES);
}

static void check_result(size_t index, const struct vision_outcome *outcome)
{
    const struct golden *golden = &goldens[index];
    const struct mr__vision_plan *plan = &outcome->plan;
    const uint32_t *tokens = vision_words(outcome, plan->tokens_offset);
    const uint32_t *first = vision_words(outcome, plan->box_first_offset);
    uint32_t sum = 0;
    for (uint32_t k = 0; k < plan->patch_count; k++) {
        CHECK_EQ(golden->tokens[k], tokens[k]);
        CHECK_EQ(golden->boxes[k], first[k + 1] - first[k]);
        sum += tokens[k];
    }
    CHECK_EQ(golden->parameters.budget, sum);
    for (uint32_t end = 0; end < 2; end++) {
        const uint32_t patch = end ? plan->patch_count - 1 : 0, boxes = golden->boxes[patch];
        const float *numbers =
            vision_compressed(outcome) + (size_t)MR__VISION_CHANNELS * first[patch];
        for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++)
            check_near("compressed channel", index, channel, golden->compressed[end][channel],
                       (double)numbers[channel * boxes + boxes / 2], BOUND_TEXTURES);
    }
}

static void generated_images_have_their_golden_results(mr_device *device)
{
    for (size_t index = 0; index < GOLDEN_COUNT; index++) {
        const struct golden *golden = &goldens[index];
        struct mr__vision_parameters parameters = golden->parameters;
        struct mr__vision_plan plan;
        struct mr__vision_model *model;
        struct vision_outcome outcome;
        if (golden->query)
            CHECK_OK(mr__vision_query_from_word(golden->query, &parameters.query));
        CHECK_OK(mr__vision_parameters_check(&parameters));
        CHECK_OK(mr__vision_plan(&parameters, golden->width, golden->height, golden->channel_bytes,
                                 &plan));
        CHECK_EQ(golden->columns, plan.columns);
        CHECK_EQ(golden->rows, plan.rows);
        CHECK_OK(mr__vision_model_create(device, &parameters, &model));
        void *pixels =
            vision_image(golden->width, golden->height, golden->channel_bytes, golden->seed);
        if (golden->is_grey)
            make_grey(pixels, golden);
        vision_run(device, model, &plan, pixels, &outcome);
        check_textures(index, &outcome);
        check_scores(index, &outcome);
        check_result(index, &outcome);
        vision_outcome_free(&outcome);
        free(pixels);
        mr__vision_model_destroy(model);
    }
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(generated_images_have_their_golden_results),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
