/* SPDX-License-Identifier: MIT */
/*
 * The vision model's rules: parameters and plans, queries, and what must hold for any image. What each
 * stage computes: tests/conformance/vision.c.
 */
#include "support/fault.h"
#include "support/unit.h"
#include "support/vision_images.h"

#include "core/embedded.h"
#include "vision/vision_device.h"

#include <math.h>

static mr_device *device;

static int open_device(void **state)
{
    (void)state;
    return mr_device_open("cpu", NULL, &device) != MR_OK;
}

static int close_device(void **state)
{
    (void)state;
    return mr_device_close(device) != MR_OK;
}

enum { WIDTH = 192, HEIGHT = 128, COLUMNS = 4, ROWS = 2 };

static const struct mr__vision_parameters plain = {
    .columns = COLUMNS, .rows = ROWS, .budget = 1000, .tensions = { 0.3f, 0.3f, -0.3f }
};

static struct mr__vision_parameters checked(struct mr__vision_parameters parameters)
{
    assert_ok(mr__vision_parameters_check(&parameters));
    return parameters;
}

/* ---- parameters ---- */

static void parameters_have_defaults(void **state)
{
    (void)state;
    const struct mr__vision_parameters parameters = checked((struct mr__vision_parameters){ 0 });
    assert_int_equal(4096, parameters.budget);
    assert_int_equal(64, parameters.least);
    assert_int_equal(400, parameters.most);
    assert_true(parameters.weights[0] == 1 && parameters.weights[2] == 1);
    assert_true(parameters.temperature == 0.25f);
    assert_int_equal(0, parameters.columns);
}

static void refuse(struct mr__vision_parameters parameters, const char *words)
{
    assert_status(MR_E_INVALID, mr__vision_parameters_check(&parameters));
    assert_words(words);
}

static void parameters_out_of_range_are_named(void **state)
{
    (void)state;
    refuse((struct mr__vision_parameters){ .budget = 1u << 23 }, "budget: 8388608 tokens");
    refuse((struct mr__vision_parameters){ .least = 65, .most = 64 }, "at least 65 and at most 64");
    refuse((struct mr__vision_parameters){ .most = 70000 }, "tokens: 70000");
    refuse((struct mr__vision_parameters){ .columns = 3 }, "columns and rows, or neither");
    refuse((struct mr__vision_parameters){ .columns = 200, .rows = 200 }, "at most 16384 in all");
    refuse((struct mr__vision_parameters){ .weights = { 0, -1 } }, "weights.perspectival: -1");
    refuse((struct mr__vision_parameters){ .weights = { NAN } }, "weights.propositional: nan");
    refuse((struct mr__vision_parameters){ .tensions = { 0, 2 } }, "tensions.exploit: 2");
    refuse((struct mr__vision_parameters){ .temperature = 1e-3f }, "temperature: 0.001");
    refuse((struct mr__vision_parameters){ .temperature = NAN }, "temperature: nan");
}

/* ---- plans ---- */

static void plan_cuts_nearly_square_patches(void **state)
{
    (void)state;
    static const struct {
        uint32_t width, height, columns, rows;
    } cases[] = { { 1024, 768, 6, 5 },  { 768, 1024, 5, 6 }, { 512, 512, 6, 5 },
                  { 4000, 100, 32, 1 }, { 1, 900, 1, 32 },   { 4, 4, 4, 4 },
                  { 65535, 3, 32, 1 },  { 16, 2, 16, 2 } };
    const struct mr__vision_parameters parameters = checked((struct mr__vision_parameters){ 0 });
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mr__vision_plan plan;
        assert_ok(mr__vision_plan(&parameters, cases[i].width, cases[i].height, 1, &plan));
        assert_int_equal(cases[i].columns, plan.columns);
        assert_int_equal(cases[i].rows, plan.rows);
        assert_int_equal(cases[i].columns * cases[i].rows, plan.patch_count);
        assert_int_equal((uint64_t)cases[i].width * cases[i].height * 52, plan.textures_bytes);
        assert_true(plan.tile_cells * plan.tile_columns >= plan.cell_columns);
        assert_true(plan.likely_rows >= plan.patch_count);
    }
}

static void refuse_plan(struct mr__vision_parameters parameters, uint32_t width, uint32_t height,
                        uint32_t channel_bytes, const char *words)
{
    struct mr__vision_plan plan;
    parameters = checked(parameters);
    assert_status(MR_E_INVALID, mr__vision_plan(&parameters, width, height, channel_bytes, &plan));
    assert_words(words);
}

static void plan_refuses_what_cannot_be_met(void **state)
{
    (void)state;
    const struct mr__vision_parameters any = { 0 };
    refuse_plan(any, 0, 10, 1, "an image of 0 x 10 pixels");
    refuse_plan(any, 70000, 10, 1, "from 1 to 65535 a side");
    refuse_plan(any, 65535, 65535, 1, "1073741824 in all");
    refuse_plan(any, 100, 100, 3, "a channel of 3 bytes");
    refuse_plan(any, 2, 2, 1, "give a budget of 64 to 1600");
    refuse_plan((struct mr__vision_parameters){ .budget = 63 }, 100, 100, 1, "budget: 63 tokens");
    refuse_plan((struct mr__vision_parameters){ .columns = 5, .rows = 2 }, 4, 100, 1,
                "5 x 2 of them are finer than 4 x 100");
    refuse_plan((struct mr__vision_parameters){ .columns = 2, .rows = 2 }, 90, 90, 1,
                "2 x 2 patches of 64 to 400: give 256 to 1600");
    refuse_plan((struct mr__vision_parameters){ .columns = 9, .rows = 9 }, 90, 90, 1,
                "give 5184 to 32400");
}

static void every_budget_that_can_be_met_is(void **state)
{
    (void)state;
    for (uint32_t budget = 64; budget < 6000; budget += 1 + budget / 50) {
        const struct mr__vision_parameters parameters =
            checked((struct mr__vision_parameters){ .budget = budget });
        struct mr__vision_plan plan;
        assert_ok(mr__vision_plan(&parameters, 97, 61, 1, &plan));
        assert_true((uint64_t)plan.patch_count * 64 <= budget);
        assert_true((uint64_t)plan.patch_count * 400 >= budget);
    }
}

/* ---- queries ---- */

static void colour_words_are_like_themselves(void **state)
{
    (void)state;
    const char *word;
    for (uint32_t i = 0; (word = mr__vision_query_word(i)); i++) {
        struct mr__vision_query query;
        assert_ok(mr__vision_query_from_word(word, &query));
        assert_true(query.is_set);
        uint32_t greatest = 0;
        double sum = 0;
        for (uint32_t k = 0; k < MR__VISION_COLOURS; k++) {
            sum += (double)query.vector[k];
            greatest = query.vector[k] > query.vector[greatest] ? k : greatest;
        }
        assert_true(fabs(sum - 1) < 1e-6);
        assert_true(i >= MR__VISION_COLOURS || greatest == i);
    }
    struct mr__vision_query query;
    assert_ok(mr__vision_query_from_word("OrANge", &query));
    assert_status(MR_E_INVALID, mr__vision_query_from_word("yelow", &query));
    assert_words("the nearest is 'yellow'");
    assert_status(MR_E_INVALID, mr__vision_query_from_word("", &query));
    assert_false(query.is_set);
}

static void number_queries_are_checked(void **state)
{
    (void)state;
    float numbers[2 * MR__VISION_DESCRIPTOR] = { [3] = 2, [MR__VISION_DESCRIPTOR + 3] = 0.5f };
    struct mr__vision_query query;
    assert_ok(mr__vision_query_from_numbers(numbers, MR__VISION_DESCRIPTOR, &query));
    assert_true(query.weights[7] == 1 && query.vector[3] == 2);
    assert_ok(mr__vision_query_from_numbers(numbers, 2 * MR__VISION_DESCRIPTOR, &query));
    assert_true(query.weights[7] == 0 && query.weights[3] == 0.5f);
    assert_status(MR_E_INVALID, mr__vision_query_from_numbers(numbers, 12, &query));
    assert_words("12 numbers; a descriptor has 24");
    numbers[MR__VISION_DESCRIPTOR + 3] = 0;
    assert_status(MR_E_INVALID,
                  mr__vision_query_from_numbers(numbers, 2 * MR__VISION_DESCRIPTOR, &query));
    assert_words("weighs anything");
    numbers[5] = NAN;
    assert_status(MR_E_INVALID,
                  mr__vision_query_from_numbers(numbers, MR__VISION_DESCRIPTOR, &query));
    assert_words("number 6 is nan");
    assert_false(query.is_set);
}

static void a_part_of_an_image_is_most_like_itself(void **state)
{
    (void)state;
    enum { WIDTH = 120, HEIGHT = 80 };
    uint8_t *pixels = vision_image(WIDTH, HEIGHT, 1, 5);
    const struct mr__vision_image image = { pixels, WIDTH, HEIGHT, 1 };
    struct mr__vision_parameters parameters =
        checked((struct mr__vision_parameters){ .columns = 6, .rows = 4, .budget = 2400 });
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_outcome outcome;
    assert_ok(mr__vision_query_from_image(&image, 40, 20, 20, 20, &parameters.query));
    assert_ok(mr__vision_plan(&parameters, WIDTH, HEIGHT, 1, &plan));
    assert_ok(mr__vision_model_create(device, &parameters, &model));
    vision_run(device, model, &plan, pixels, &outcome);

    const float *likeness = outcome.scores + (size_t)2 * plan.patch_count;
    for (uint32_t k = 0; k < plan.patch_count; k++)
        assert_true(k == 8 || likeness[k] < likeness[8]);
    assert_true(likeness[8] > 0.99f);

    assert_status(MR_E_INVALID,
                  mr__vision_query_from_image(&image, 110, 0, 11, 3, &parameters.query));
    assert_words("11 x 3 pixels from (110, 0) are not within an image of 120 x 80");
    assert_status(MR_E_INVALID, mr__vision_query_from_image(&image, 1, 0, 0, 0, &parameters.query));
    assert_ok(mr__vision_query_from_image(&image, 0, 0, 0, 0, &parameters.query));
    vision_outcome_free(&outcome);
    mr__vision_model_destroy(model);
    free(pixels);
}

/* ---- tokens ---- */

/* Tokens on the device from relevances of our own. */
static uint32_t *tokens_of(struct mr__vision_model *model, const struct mr__vision_plan *plan,
                           const float *scores)
{
    struct vision_bench bench;
    vision_bench_init(&bench, device, model, plan);
    vision_put(device, bench.stream, bench.scores, scores, plan->scores_bytes);
    assert_ok(mr_fill(bench.stream, bench.textures.buffer, 0, plan->textures_bytes + 256, 0, 4));
    assert_ok(mr__vision_enqueue_tokens(model, plan, 1, bench.stream, 0, bench.textures,
                                        bench.scores, bench.result));
    bench.result.offset += plan->tokens_offset;
    uint32_t *tokens =
        vision_get(device, bench.stream, bench.result, plan->patch_count * sizeof(uint32_t));
    vision_bench_fini(&bench);
    return tokens;
}

/* Even, spiked, falling by halves, equal in groups, all nothing, and out of range. */
static float relevance_at(struct random *random, uint32_t kind, uint32_t i)
{
    switch (kind) {
    case 0:
        return (float)random_below(random, 1 << 24) / (float)(1 << 24);
    case 1:
        return random_below(random, 9) ? 0.001f : 1;
    case 2:
        return ldexpf(1, -(int)i);
    case 3:
        return (float)(i % 3) / 3;
    case 4:
        return 0;
    default:
        return i % 4 == 0 ? NAN : i % 4 == 1 ? -1 : i % 4 == 2 ? 7 : 0.5f;
    }
}

static void budgets_are_met_to_the_token(void **state)
{
    (void)state;
    struct random random = { 99 };
    struct mr__vision_model *model;
    const struct mr__vision_parameters any = checked(plain);
    assert_ok(mr__vision_model_create(device, &any, &model));
    for (uint32_t round = 0; round < 240; round++) {
        const uint32_t columns = 1 + (uint32_t)random_below(&random, 9);
        const uint32_t rows = 1 + (uint32_t)random_below(&random, 7), count = columns * rows;
        const uint32_t least = 1 + (uint32_t)random_below(&random, 64);
        const uint32_t most = least + (uint32_t)random_below(&random, 340);
        const uint32_t budget =
            count * least + (uint32_t)random_below(&random, (size_t)count * (most - least) + 1);
        struct mr__vision_parameters parameters = checked((struct mr__vision_parameters){
            .columns = columns, .rows = rows, .budget = budget, .least = least, .most = most });
        struct mr__vision_plan plan;
        float scores[4 * 63] = { 0 };
        uint32_t expected[63];
        assert_ok(mr__vision_plan(&parameters, 45, 32, 1, &plan));
        for (uint32_t i = 0; i < count; i++)
            scores[3 * count + i] = relevance_at(&random, round % 6, i);
        uint32_t *tokens = tokens_of(model, &plan, scores), sum = 0;
        mr__vision_reference_tokens(&plan, scores + (size_t)3 * count, expected);

        for (uint32_t i = 0; i < count; i++) {
            assert_int_equal(expected[i], tokens[i]);
            assert_true(tokens[i] >= least && tokens[i] <= most);
            sum += tokens[i];
            for (uint32_t k = 0; k < i; k++)
                assert_true(!(scores[3 * count + i] > scores[3 * count + k]) ||
                            tokens[i] >= tokens[k]);
        }
        assert_int_equal(budget, sum);
        free(tokens);
    }
    mr__vision_model_destroy(model);
}

/* ---- what must hold for any image ---- */

static void run_plain(const uint8_t *pixels, struct vision_outcome *outcome)
{
    struct mr__vision_parameters parameters = checked(plain);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    assert_ok(mr__vision_query_from_word("red", &parameters.query));
    assert_ok(mr__vision_plan(&parameters, WIDTH, HEIGHT, 1, &plan));
    assert_ok(mr__vision_model_create(device, &parameters, &model));
    vision_run(device, model, &plan, pixels, outcome);
    mr__vision_model_destroy(model);
}

/* Mirrored left to right, or top to bottom. */
static uint8_t *mirrored(const uint8_t *pixels, bool is_upright)
{
    uint8_t *target = malloc((size_t)3 * WIDTH * HEIGHT);
    assert_non_null(target);
    for (uint32_t y = 0; y < HEIGHT; y++)
        for (uint32_t x = 0; x < WIDTH; x++) {
            const uint32_t from_x = is_upright ? x : WIDTH - 1 - x;
            const uint32_t from_y = is_upright ? HEIGHT - 1 - y : y;
            memcpy(target + 3 * ((size_t)y * WIDTH + x),
                   pixels + 3 * ((size_t)from_y * WIDTH + from_x), 3);
        }
    return target;
}

static void check_mirrored(const struct vision_outcome *a, const struct vision_outcome *b,
                           bool is_upright)
{
    const size_t plane = (size_t)WIDTH * HEIGHT;
    for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++) {
        const bool is_turned = is_upright
                                   ? channel == MR__VISION_SOBEL_Y || channel == MR__VISION_Y
                                   : channel == MR__VISION_SOBEL_X || channel == MR__VISION_X;
        for (size_t i = 0; i < plane; i++) {
            const size_t x = i % WIDTH, y = i / WIDTH;
            const size_t at = is_upright ? (HEIGHT - 1 - y) * WIDTH + x : y * WIDTH + WIDTH - 1 - x;
            const float expected = a->textures[channel * plane + at];
            assert_true(b->textures[channel * plane + i] == (is_turned ? -expected : expected));
        }
    }
    for (uint32_t score = 0; score < MR__VISION_SCORES; score++)
        for (uint32_t i = 0; i < COLUMNS * ROWS; i++) {
            const uint32_t column = i % COLUMNS, row = i / COLUMNS;
            const uint32_t at = is_upright ? (ROWS - 1 - row) * COLUMNS + column
                                           : row * COLUMNS + COLUMNS - 1 - column;
            const float *x = a->scores + score * COLUMNS * ROWS;
            const float *y = b->scores + score * COLUMNS * ROWS;
            assert_true(fabsf(x[at] - y[i]) < 1e-6f);
        }
}

static void a_mirrored_image_has_mirrored_results(void **state)
{
    (void)state;
    struct vision_outcome straight, turned;
    uint8_t *pixels = vision_image(WIDTH, HEIGHT, 1, 3);
    run_plain(pixels, &straight);
    for (int is_upright = 0; is_upright <= 1; is_upright++) {
        uint8_t *other = mirrored(pixels, is_upright);
        run_plain(other, &turned);
        check_mirrored(&straight, &turned, is_upright);
        vision_outcome_free(&turned);
        free(other);
    }
    vision_outcome_free(&straight);
    free(pixels);
}

static void grey_has_no_colour(void **state)
{
    (void)state;
    struct vision_outcome outcome;
    uint8_t *pixels = vision_image(WIDTH, HEIGHT, 1, 4);
    for (size_t i = 0; i < (size_t)WIDTH * HEIGHT; i++)
        memset(pixels + 3 * i, pixels[3 * i], 3);
    run_plain(pixels, &outcome);
    const size_t plane = (size_t)WIDTH * HEIGHT;
    for (size_t i = 0; i < plane; i++) {
        assert_true(outcome.textures[MR__VISION_LAB_A * plane + i] == 0);
        assert_true(outcome.textures[MR__VISION_LAB_B * plane + i] == 0);
    }
    vision_outcome_free(&outcome);
    free(pixels);
}

static void nothing_to_see_is_shared_evenly(void **state)
{
    (void)state;
    struct vision_outcome outcome;
    uint8_t *pixels = malloc((size_t)3 * WIDTH * HEIGHT);
    assert_non_null(pixels);
    for (size_t i = 0; i < (size_t)WIDTH * HEIGHT; i++)
        memcpy(pixels + 3 * i, "\x40\x90\xd0", 3);
    run_plain(pixels, &outcome);
    const size_t plane = (size_t)WIDTH * HEIGHT;
    for (size_t i = 0; i < 3 * plane; i++)
        assert_true(outcome.textures[MR__VISION_SOBEL_X * plane + i] == 0);
    const uint32_t *tokens = vision_words(&outcome, outcome.plan.tokens_offset);
    for (uint32_t i = 0; i < outcome.plan.patch_count; i++) {
        assert_true(outcome.scores[i] == 0);
        assert_true(outcome.scores[outcome.plan.patch_count + i] == 0);
        assert_true(outcome.scores[3 * outcome.plan.patch_count + i] == 1);
        assert_int_equal(125, tokens[i]);
    }
    vision_outcome_free(&outcome);
    free(pixels);
}

/* White is 1, 0, 0 and black 0, 0, 0 in L, a, b. */
static void white_and_black_are_the_ends(void **state)
{
    (void)state;
    struct vision_outcome outcome;
    uint8_t *pixels = malloc((size_t)3 * WIDTH * HEIGHT);
    assert_non_null(pixels);
    for (size_t i = 0; i < (size_t)WIDTH * HEIGHT; i++)
        memset(pixels + 3 * i, i % WIDTH < WIDTH / 2 ? 0 : 255, 3);
    run_plain(pixels, &outcome);
    const size_t plane = (size_t)WIDTH * HEIGHT;
    const float *l = outcome.textures + MR__VISION_LAB_L * plane;
    assert_true(fabsf(l[0]) < 1e-6f && fabsf(l[WIDTH - 1] - 1) < 1e-6f);
    assert_true(outcome.textures[WIDTH - 1] == 1);
    assert_true(outcome.textures[MR__VISION_LUMINANCE * plane + WIDTH - 1] == 1);
    assert_true(outcome.textures[MR__VISION_SOBEL_X * plane + WIDTH / 2] == 1);
    vision_outcome_free(&outcome);
    free(pixels);
}

/* Every colour of a coarse cube, in an order that has all edges: the ranges of the manual hold, and are
 * reached. */
static void channels_stay_within_their_ranges(void **state)
{
    (void)state;
    enum { SIDE = 64, STEPS = 16 };
    static const struct {
        float low, high, slack; /* reached to within the slack */
    } ranges[MR__VISION_CHANNELS] = {
        { 0, 1, 0 },
        { 0, 1, 0 },
        { 0, 1, 0 },
        { 0, 1, 1e-6f },
        { -0.68f, 0.77f, .01f },
        { -0.85f, 0.74f, .01f },
        { -1, 1, 0.7f },
        { -1, 1, 0.7f },
        { 0, 1.119f, 1 },
        { -1, 1, .02f },
        { -1, 1, .02f },
        { 0, 1, .02f },
        { 0, 1, 1e-6f },
    };
    struct mr__vision_parameters parameters = checked((struct mr__vision_parameters){ 0 });
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_outcome outcome;
    uint8_t pixels[SIDE * SIDE][3];
    for (uint32_t k = 0; k < SIDE * SIDE; k++) {
        const uint32_t turned = k * 1365 % (SIDE * SIDE); /* near ones apart */
        for (uint32_t c = 0; c < 3; c++)
            pixels[k][c] = (uint8_t)(turned >> 4 * c & (STEPS - 1)) * 17;
    }
    assert_ok(mr__vision_plan(&parameters, SIDE, SIDE, 1, &plan));
    assert_ok(mr__vision_model_create(device, &parameters, &model));
    vision_run(device, model, &plan, pixels, &outcome);
    for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++) {
        float low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < SIDE * SIDE; i++) {
            low = fminf(low, outcome.textures[channel * SIDE * SIDE + i]);
            high = fmaxf(high, outcome.textures[channel * SIDE * SIDE + i]);
        }
        if (low < ranges[channel].low - 1e-6f ||
            low > ranges[channel].low + ranges[channel].slack + 1e-6f ||
            high > ranges[channel].high + 1e-6f ||
            high < ranges[channel].high - ranges[channel].slack - 1e-6f)
            fail_msg("%s from %g to %g", mr__vision_channel_name(channel), (double)low,
                     (double)high);
    }
    vision_outcome_free(&outcome);
    mr__vision_model_destroy(model);
}

/* ---- golden results ---- */

static void check_golden(const char *what, const float *actual, const double *expected,
                         uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (!(fabs((double)actual[i] - expected[i]) < 1e-5))
            fail_msg("%s %d: expected %g, got %g", what, (int)i, expected[i], (double)actual[i]);
}

/* Computed from the formulas of the header by the separate program bench/vision_pytorch.py, in double
 * precision. */
static void a_generated_image_has_its_golden_results(void **state)
{
    (void)state;
    static const double scores[MR__VISION_SCORES][COLUMNS * ROWS] = {
        { 0.598799, 0.604824, 0.562430, 0.529957, 0.516602, 0.567929, 0.552966, 0.479216 },
        { 0.476075, 0.662758, 0.812543, 0.411248, 0.300614, 0.407264, 1.000000, 0.863949 },
        { 0.004835, 0.057443, 0.002372, 0.001972, 0.001277, 0.001300, 0.002876, 0.010510 },
        { 0.530018, 0.735095, 0.788206, 0.441805, 0.374138, 0.461873, 1.000000, 0.763718 }
    };
    static const uint32_t tokens[] = { 115, 134, 140, 106, 100, 108, 160, 137 };
    static const struct {
        uint32_t x, y;
        double channels[MR__VISION_CHANNELS];
    } pixel[] = {
        { 0,
          0,
          { 0.172549, 0.152941, 0.141176, 0.160739, 0.012998, 0.022044, 0.000255, 0.002744,
            0.002756, -0.994792, -0.992188, 0.993991, 0.021139 } },
        { 100,
          37,
          { 0.874510, 0.611765, 0.129412, 0.691655, 0.121323, 0.526289, -0.235095, -0.229498,
            0.328541, 0.046875, -0.414062, 0.232969, 0.395747 } },
        { 191,
          127,
          { 0.768627, 0.031373, 0.254902, 0.416751, 0.520098, 0.178419, -0.002288, 0.004026,
            0.004631, 0.994792, 0.992188, 0.993991, 0.122911 } },
    };
    struct mr__vision_parameters parameters =
        checked((struct mr__vision_parameters){ .columns = COLUMNS, .rows = ROWS, .budget = 1000 });
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_outcome outcome;
    void *image = vision_image(WIDTH, HEIGHT, 1, 3);
    assert_ok(mr__vision_query_from_word("red", &parameters.query));
    assert_ok(mr__vision_plan(&parameters, WIDTH, HEIGHT, 1, &plan));
    assert_ok(mr__vision_model_create(device, &parameters, &model));
    vision_run(device, model, &plan, image, &outcome);

    for (uint32_t score = 0; score < MR__VISION_SCORES; score++)
        check_golden(mr__vision_score_name(score), outcome.scores + score * plan.patch_count,
                     scores[score], plan.patch_count);
    assert_memory_equal(tokens, vision_words(&outcome, plan.tokens_offset), sizeof tokens);
    for (size_t i = 0; i < sizeof pixel / sizeof *pixel; i++)
        for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++)
            check_golden(mr__vision_channel_name(channel),
                         outcome.textures + ((size_t)channel * HEIGHT + pixel[i].y) * WIDTH +
                             pixel[i].x,
                         &pixel[i].channels[channel], 1);
    vision_outcome_free(&outcome);
    mr__vision_model_destroy(model);
    free(image);
}

/* ---- instruction sets ---- */

/* The model's kernels in the build for one instruction set. */
static void use_level(struct mr__vision_model *model, int level)
{
    for (uint32_t k = 0; k < MR__VISION_KERNEL_COUNT; k++) {
        const struct mr__embedded_kernel *found = NULL;
        for (size_t i = 0; i < mr__embedded_kernel_count && !found; i++)
            if (strcmp(mr__embedded_kernels[i].name, mr_kernel_name(model->kernels[k])) == 0)
                found = &mr__embedded_kernels[i];
        assert_non_null(found);
        mr_kernel_destroy(model->kernels[k]);
        const mr_kernel_options options = { .language = MR_KERNEL_NATIVE,
                                            .name = found->name,
                                            .signature = found->signature,
                                            .function = found->functions[level] };
        assert_ok(mr_kernel_create(device, &options, &model->kernels[k]));
    }
}

static void every_instruction_set_gives_the_same_bits(void **state)
{
    (void)state;
    static const struct mr__embedded_kernel probe = {
        .functions = { (mr_native_kernel)1, (mr_native_kernel)2, (mr_native_kernel)3 }
    };
    const int level_count = (int)(uintptr_t)mr__embedded_function(&probe);
    struct mr__vision_parameters parameters = checked((struct mr__vision_parameters){ 0 });
    struct mr__vision_plan plan;
    assert_ok(mr__vision_query_from_word("blue", &parameters.query));
    for (uint32_t channel_bytes = 1; channel_bytes <= 2; channel_bytes++) {
        struct vision_outcome outcomes[3];
        void *pixels = vision_image(203, 151, channel_bytes, 6);
        assert_ok(mr__vision_plan(&parameters, 203, 151, channel_bytes, &plan));
        for (int level = 0; level < level_count; level++) {
            struct mr__vision_model *model;
            assert_ok(mr__vision_model_create(device, &parameters, &model));
            use_level(model, level);
            vision_run(device, model, &plan, pixels, &outcomes[level]);
            mr__vision_model_destroy(model);
            assert_memory_equal(outcomes[0].textures, outcomes[level].textures,
                                plan.textures_bytes);
            assert_memory_equal(outcomes[0].scores, outcomes[level].scores, plan.scores_bytes);
            assert_memory_equal(vision_compressed(&outcomes[0]),
                                vision_compressed(&outcomes[level]),
                                (size_t)vision_boxes(&outcomes[0]) * MR__VISION_CHANNELS * 4);
        }
        for (int level = 0; level < level_count; level++)
            vision_outcome_free(&outcomes[level]);
        free(pixels);
    }
}

/* ---- memory ---- */

static mr_status build(void)
{
    struct mr__vision_parameters parameters = checked(plain);
    struct mr__vision_query query;
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct mr__vision_scorers *scorers = NULL;
    const uint8_t dot[3] = { 10, 20, 30 };
    mr_status status =
        mr__vision_query_from_image(&(struct mr__vision_image){ dot, 1, 1, 1 }, 0, 0, 1, 1, &query);
    if (status)
        return status;
    assert_ok(mr__vision_plan(&parameters, 40, 30, 1, &plan));
    status = mr__vision_model_create(device, &parameters, &model);
    if (!status)
        status = mr__vision_scorers_create(model, plan.scratch_bytes, 0, &scorers);
    assert_true(status || scorers);
    mr__vision_scorers_destroy(scorers);
    mr__vision_model_destroy(model);
    return status;
}

static void models_survive_no_memory(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        fault_begin(&fault);
        const mr_status status = build();
        fault_end(&fault, status);
    }
    assert_true(fault.error_count > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_have_defaults),
        cmocka_unit_test(parameters_out_of_range_are_named),
        cmocka_unit_test(plan_cuts_nearly_square_patches),
        cmocka_unit_test(plan_refuses_what_cannot_be_met),
        cmocka_unit_test(every_budget_that_can_be_met_is),
        cmocka_unit_test(colour_words_are_like_themselves),
        cmocka_unit_test(number_queries_are_checked),
        cmocka_unit_test(a_part_of_an_image_is_most_like_itself),
        cmocka_unit_test(budgets_are_met_to_the_token),
        cmocka_unit_test(a_mirrored_image_has_mirrored_results),
        cmocka_unit_test(grey_has_no_colour),
        cmocka_unit_test(nothing_to_see_is_shared_evenly),
        cmocka_unit_test(white_and_black_are_the_ends),
        cmocka_unit_test(channels_stay_within_their_ranges),
        cmocka_unit_test(a_generated_image_has_its_golden_results),
        cmocka_unit_test(every_instruction_set_gives_the_same_bits),
        cmocka_unit_test(models_survive_no_memory),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
