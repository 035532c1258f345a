/* SPDX-License-Identifier: MIT */
/*
 * The vision model on a device: every stage against the plain reference over the same inputs, and the
 * whole chain bit by bit against the CPU's.
 */
#include "support/suite.h"
#include "support/vision_images.h"

#include <math.h>
#include <stdbool.h>

/* Sizes with one pixel, with cells that have none, with ends of tiles and of bands, and with cells
 * wider than a tile. */
static const struct size {
    uint32_t width, height, channel_bytes, columns, rows, budget;
} sizes[] = {
    { 1, 1, 1, 1, 1, 1 },        { 7, 5, 1, 3, 2, 20 },       { 130, 9, 2, 3, 2, 60 },
    { 129, 17, 1, 5, 3, 400 },   { 257, 130, 1, 0, 0, 4096 }, { 160, 120, 2, 0, 0, 4096 },
    { 1200, 11, 1, 1, 1, 300 },  { 3, 700, 1, 1, 2, 200 },    { 400, 300, 1, 20, 16, 6000 },
    { 320, 200, 1, 4, 3, 4800 }, { 96, 96, 1, 48, 48, 5000 }, { 320, 200, 1, 4, 3, 12 },
};
enum { SIZE_COUNT = sizeof sizes / sizeof *sizes };

static struct mr__vision_parameters parameters_for(const struct size *size)
{
    struct mr__vision_parameters parameters = {
        .columns = size->columns,
        .rows = size->rows,
        .budget = size->budget,
        .least = size->columns ? 1 : 0,
        .weights = { 1, 2, 0.5f },
        .tensions = { 0.2f, -0.3f, 0.4f },
    };
    CHECK_OK(mr__vision_query_from_word("yellow", &parameters.query));
    for (uint32_t k = 11; k < MR__VISION_DESCRIPTOR; k++) {
        parameters.query.vector[k] = 0.1f;
        parameters.query.weights[k] = 0.25f;
    }
    CHECK_OK(mr__vision_parameters_check(&parameters));
    return parameters;
}

static void check_near(const char *what, const struct size *size, const float *expected,
                       const float *actual, size_t count, double bound)
{
    for (size_t i = 0; i < count; i++)
        if (!(fabs((double)expected[i] - (double)actual[i]) <= bound))
            CHECK_FAIL("%s of %u x %u, number %zu of %zu: expected %.9g, got %.9g", what,
                       size->width, size->height, i, count, (double)expected[i], (double)actual[i]);
}

/* ---- stages ---- */

static void check_textures(const struct size *size, const struct vision_outcome *outcome,
                           const void *pixels)
{
    const size_t plane = (size_t)size->width * size->height;
    float *expected = malloc(outcome->plan.textures_bytes);
    CHECK(expected);
    mr__vision_reference_textures(&outcome->plan, pixels, expected);
    for (uint32_t channel = 0; channel < MR__VISION_CHANNELS; channel++)
        check_near(mr__vision_channel_name(channel), size, expected + channel * plane,
                   outcome->textures + channel * plane, plane, MR__VISION_BOUND_TEXTURES);
    free(expected);
}

static void check_scores(const struct size *size, const struct vision_outcome *outcome,
                         const struct mr__vision_parameters *parameters, const void *pixels)
{
    const struct mr__vision_plan *plan = &outcome->plan;
    const uint32_t count = plan->patch_count;
    static const double bounds[MR__VISION_SCORES] = { (double)MR__VISION_BOUND_PROPOSITIONAL,
                                                      (double)MR__VISION_BOUND_PERSPECTIVAL,
                                                      (double)MR__VISION_BOUND_PARTICIPATORY,
                                                      (double)MR__VISION_BOUND_RELEVANCE };
    float *expected = malloc(plan->scores_bytes);
    CHECK(expected);
    mr__vision_reference_propositional(plan, pixels, expected);
    mr__vision_reference_perspectival(plan, outcome->textures, expected + count);
    mr__vision_reference_participatory(plan, &parameters->query, outcome->textures,
                                       expected + (size_t)2 * count);
    for (uint32_t k = 0; k < 3; k++)
        check_near(mr__vision_score_name(k), size, expected + k * count,
                   outcome->scores + k * count, count, bounds[k]);
    memcpy(expected, outcome->scores, plan->scores_bytes);
    mr__vision_reference_relevance(plan, parameters, expected);
    check_near("relevance", size, expected + (size_t)3 * count, outcome->scores + (size_t)3 * count,
               count, bounds[3]);
    free(expected);
    CHECK(memcmp(outcome->scores, (const char *)outcome->result + plan->scores_offset,
                 plan->scores_bytes) == 0);
}

static void check_tokens(const struct size *size, const struct vision_outcome *outcome)
{
    const struct mr__vision_plan *plan = &outcome->plan;
    char *expected = calloc(1, plan->result_bytes);
    CHECK(expected);
    uint32_t *tokens = (uint32_t *)(expected + plan->tokens_offset);
    const uint32_t *actual = vision_words(outcome, plan->tokens_offset);
    uint64_t sum = 0;
    mr__vision_reference_tokens(plan, outcome->scores + (size_t)3 * plan->patch_count, tokens);
    for (uint32_t k = 0; k < plan->patch_count; k++) {
        CHECK_EQ(tokens[k], actual[k]);
        CHECK(actual[k] >= plan->least && actual[k] <= plan->most);
        sum += actual[k];
    }
    CHECK_EQ(plan->budget, sum);

    mr__vision_reference_compress(plan, outcome->textures, expected);
    CHECK(memcmp(expected + plan->box_columns_offset,
                 (char *)outcome->result + plan->box_columns_offset, plan->patch_count * 4) == 0);
    CHECK(memcmp(expected + plan->box_rows_offset, (char *)outcome->result + plan->box_rows_offset,
                 plan->patch_count * 4) == 0);
    CHECK(memcmp(expected + plan->box_first_offset,
                 (char *)outcome->result + plan->box_first_offset,
                 (plan->patch_count + 1) * 4) == 0);
    check_near("compressed", size, (const float *)(expected + plan->compressed_offset),
               vision_compressed(outcome), (size_t)vision_boxes(outcome) * MR__VISION_CHANNELS,
               MR__VISION_BOUND_COMPRESSED);
    free(expected);
}

static void check_size(mr_device *device, const struct size *size)
{
    const struct mr__vision_parameters parameters = parameters_for(size);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_outcome outcome;
    CHECK_OK(mr__vision_plan(&parameters, size->width, size->height, size->channel_bytes, &plan));
    CHECK_OK(mr__vision_model_create(device, &parameters, &model));
    void *pixels = vision_image(size->width, size->height, size->channel_bytes, 1);
    vision_run(device, model, &plan, pixels, &outcome);
    check_textures(size, &outcome, pixels);
    check_scores(size, &outcome, &parameters, pixels);
    check_tokens(size, &outcome);
    vision_outcome_free(&outcome);
    free(pixels);
    mr__vision_model_destroy(model);
}

static void every_stage_is_that_of_the_reference(mr_device *device)
{
    for (size_t i = 0; i < SIZE_COUNT; i++)
        check_size(device, &sizes[i]);
}

/* ---- bits ---- */

static void check_same_bits(const struct vision_outcome *a, const struct vision_outcome *b)
{
    const struct mr__vision_plan *plan = &a->plan;
    CHECK(memcmp(a->textures, b->textures, plan->textures_bytes) == 0);
    CHECK(memcmp(a->scores, b->scores, plan->scores_bytes) == 0);
    CHECK(memcmp((const char *)a->result + plan->tokens_offset,
                 (const char *)b->result + plan->tokens_offset,
                 plan->patch_count * sizeof(uint32_t)) == 0);
    CHECK_EQ(vision_boxes(a), vision_boxes(b));
    CHECK(memcmp(vision_compressed(a), vision_compressed(b),
                 (size_t)vision_boxes(a) * MR__VISION_CHANNELS * sizeof(float)) == 0);
}

static void run_on(mr_device *device, const struct size *size, struct vision_outcome *outcome)
{
    const struct mr__vision_parameters parameters = parameters_for(size);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    CHECK_OK(mr__vision_plan(&parameters, size->width, size->height, size->channel_bytes, &plan));
    CHECK_OK(mr__vision_model_create(device, &parameters, &model));
    void *pixels = vision_image(size->width, size->height, size->channel_bytes, 2);
    vision_run(device, model, &plan, pixels, outcome);
    free(pixels);
    mr__vision_model_destroy(model);
}

static void the_cpu_comes_to_the_same_bits(mr_device *device)
{
    mr_device *cpu;
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    for (size_t i = 0; i < SIZE_COUNT; i++) {
        struct vision_outcome here, there;
        run_on(device, &sizes[i], &here);
        run_on(cpu, &sizes[i], &there);
        check_same_bits(&here, &there);
        vision_outcome_free(&here);
        vision_outcome_free(&there);
    }
    CHECK_OK(mr_device_close(cpu));
}

/* ---- several at once ---- */

static void images_at_the_same_time_do_not_disturb_each_other(mr_device *device)
{
    enum { IMAGES = 4, ROUNDS = 3 };
    const struct size *size = &sizes[4];
    const struct mr__vision_parameters parameters = parameters_for(size);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_bench benches[IMAGES];
    struct vision_outcome alone[IMAGES], together;
    CHECK_OK(mr__vision_plan(&parameters, size->width, size->height, size->channel_bytes, &plan));
    CHECK_OK(mr__vision_model_create(device, &parameters, &model));
    for (uint32_t i = 0; i < IMAGES; i++) {
        void *pixels = vision_image(size->width, size->height, size->channel_bytes, i);
        vision_run(device, model, &plan, pixels, &alone[i]);
        vision_bench_init(&benches[i], device, model, &plan);
        vision_put(device, benches[i].stream, benches[i].image, pixels, plan.image_bytes);
        free(pixels);
    }

    for (uint32_t round = 0; round < ROUNDS; round++)
        for (uint32_t i = 0; i < IMAGES; i++)
            vision_enqueue(&benches[i], model, &plan, 1);

    for (uint32_t i = 0; i < IMAGES; i++) {
        vision_collect(&benches[i], device, &plan, &together);
        check_same_bits(&alone[i], &together);
        vision_outcome_free(&together);
        vision_outcome_free(&alone[i]);
        vision_bench_fini(&benches[i]);
    }
    mr__vision_model_destroy(model);
}

/* ---- batches ---- */

enum { BATCH = 3, GAP_BYTES = 48 };

/* Poisoned, with a gap behind each image's part. */
static struct mr__vision_place batch_place(mr_device *device, mr_stream *stream, size_t size_bytes)
{
    struct mr__vision_place place = { .offset = 32,
                                      .stride_bytes = (size_bytes + 15) / 16 * 16 + GAP_BYTES };
    CHECK_OK(mr_buffer_create(device, 32 + BATCH * place.stride_bytes, NULL, &place.buffer));
    CHECK_OK(mr_fill(stream, place.buffer, 0, 32 + BATCH * place.stride_bytes, POISON, 1));
    return place;
}

static struct mr__vision_place place_of(struct mr__vision_place place, uint32_t image)
{
    place.offset += image * place.stride_bytes;
    return place;
}

static void check_gap(mr_device *device, mr_stream *stream, struct mr__vision_place place,
                      size_t size_bytes)
{
    uint8_t *block = vision_get(device, stream, place, place.stride_bytes);
    for (size_t k = size_bytes; k < place.stride_bytes; k++)
        CHECK_EQ(POISON, block[k]);
    free(block);
}

static void check_batch(mr_device *device, const struct size *size, bool has_query)
{
    struct mr__vision_parameters parameters = parameters_for(size);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_bench bench;
    struct vision_outcome alone[BATCH], together;
    parameters.query.is_set = has_query;
    CHECK_OK(mr__vision_plan(&parameters, size->width, size->height, size->channel_bytes, &plan));
    CHECK_OK(mr__vision_model_create(device, &parameters, &model));
    CHECK_OK(mr_stream_create(device, NULL, &bench.stream));
    CHECK_OK(mr__vision_scorers_create(model, BATCH * plan.scratch_bytes, 0, &bench.scorers));
    bench.image = batch_place(device, bench.stream, plan.image_bytes);
    bench.textures = batch_place(device, bench.stream, plan.textures_bytes);
    bench.scores = batch_place(device, bench.stream, plan.scores_bytes);
    bench.result = batch_place(device, bench.stream, plan.result_bytes);
    for (uint32_t i = 0; i < BATCH; i++) {
        void *pixels = vision_image(size->width, size->height, size->channel_bytes, i);
        vision_run(device, model, &plan, pixels, &alone[i]);
        vision_put(device, bench.stream, place_of(bench.image, i), pixels, plan.image_bytes);
        free(pixels);
    }

    vision_enqueue(&bench, model, &plan, BATCH);

    for (uint32_t i = 0; i < BATCH; i++) {
        const struct vision_bench own = { .stream = bench.stream,
                                          .textures = place_of(bench.textures, i),
                                          .scores = place_of(bench.scores, i),
                                          .result = place_of(bench.result, i) };
        vision_collect(&own, device, &plan, &together);
        check_same_bits(&alone[i], &together);
        check_gap(device, bench.stream, own.textures, plan.textures_bytes);
        check_gap(device, bench.stream, own.scores, plan.scores_bytes);
        check_gap(device, bench.stream, own.result, plan.result_bytes);
        vision_outcome_free(&together);
        vision_outcome_free(&alone[i]);
    }
    vision_bench_fini(&bench);
    mr__vision_model_destroy(model);
}

static void images_of_a_batch_are_as_alone(mr_device *device)
{
    for (size_t i = 0; i < SIZE_COUNT; i++)
        check_batch(device, &sizes[i], i % 2);
}

static void too_little_scratch_is_refused(mr_device *device)
{
    const struct mr__vision_parameters parameters = parameters_for(&sizes[4]);
    struct mr__vision_plan plan;
    struct mr__vision_model *model;
    struct vision_bench bench;
    CHECK_OK(mr__vision_plan(&parameters, 257, 130, 1, &plan));
    CHECK_OK(mr__vision_model_create(device, &parameters, &model));
    vision_bench_init(&bench, device, model, &plan);
    plan.scratch_bytes += 1;
    CHECK_STATUS(MR_E_INVALID,
                 mr__vision_enqueue_scores(model, &plan, 1, bench.scorers, bench.stream, 0,
                                           bench.image, bench.textures, bench.scores));
    CHECK_SAYS("bytes of scratch", mr_last_error());
    plan.scratch_bytes -= 1;
    CHECK_STATUS(MR_E_INVALID,
                 mr__vision_enqueue_scores(model, &plan, 2, bench.scorers, bench.stream, 0,
                                           bench.image, bench.textures, bench.scores));
    vision_bench_fini(&bench);
    mr__vision_model_destroy(model);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(every_stage_is_that_of_the_reference),
        SUITE_TEST(the_cpu_comes_to_the_same_bits),
        SUITE_TEST(images_at_the_same_time_do_not_disturb_each_other),
        SUITE_TEST(images_of_a_batch_are_as_alone),
        SUITE_TEST(too_little_scratch_is_refused),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
