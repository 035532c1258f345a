/* SPDX-License-Identifier: MIT */
/* The vision model's whole life on CUDA with the Nth driver call failing, N growing until none fails. */
#include "support/fault_driver.h"
#include "support/unit.h"
#include "vision/vision_model.h"

enum { SIDE = 12, PLACES = 4 };

static struct mr__vision_parameters parameters = { .columns = 2, .rows = 2, .budget = 400 };
static struct mr__vision_plan plan;

static mr_status enqueue_all(const struct mr__vision_model *model,
                             struct mr__vision_scorers *scorers, mr_stream *stream,
                             const struct mr__vision_place places[PLACES])
{
    mr_status status = mr_fill(stream, places[0].buffer, 0, plan.image_bytes, 77, 1);
    if (!status)
        status = mr__vision_enqueue_textures(model, &plan, 1, stream, 0, places[0], places[1]);
    if (!status)
        status = mr__vision_enqueue_scores(model, &plan, 1, scorers, stream, 0, places[0],
                                           places[1], places[2]);
    if (!status)
        status =
            mr__vision_enqueue_tokens(model, &plan, 1, stream, 0, places[1], places[2], places[3]);
    const mr_status waited = mr_stream_wait(stream);
    return status ? status : waited;
}

static mr_status with_model(mr_device *device)
{
    const size_t sizes[PLACES] = { plan.image_bytes, plan.textures_bytes, plan.scores_bytes,
                                   plan.result_bytes };
    struct mr__vision_place places[PLACES] = { { NULL, 0, 0 } };
    struct mr__vision_scorers *scorers = NULL;
    struct mr__vision_model *model;
    mr_stream *stream = NULL;
    mr_status status = mr__vision_model_create(device, &parameters, &model);
    if (!status)
        status = mr__vision_scorers_create(model, plan.scratch_bytes, 0, &scorers);
    if (!status)
        status = mr_stream_create(device, NULL, &stream);
    for (int k = 0; k < PLACES && !status; k++)
        status = mr_buffer_create(device, sizes[k], NULL, &places[k].buffer);
    if (!status)
        status = enqueue_all(model, scorers, stream, places);

    for (int k = 0; k < PLACES; k++)
        mr_buffer_destroy(places[k].buffer);
    mr__vision_scorers_destroy(scorers);
    mr_stream_destroy(stream);
    mr__vision_model_destroy(model);
    return status;
}

static void models_survive_a_driver_call_that_fails(void **state)
{
    (void)state;
    assert_ok(mr__vision_query_from_word("green", &parameters.query));
    assert_ok(mr__vision_parameters_check(&parameters));
    assert_ok(mr__vision_plan(&parameters, SIDE, SIDE, 1, &plan));

    struct fault fault = { .kind = &fault_driver_call };
    fault_on_device(&fault, "cuda", with_model);
    assert_true(fault.nth > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_survive_a_driver_call_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
