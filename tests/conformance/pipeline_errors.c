/* SPDX-License-Identifier: MIT */
/*
 * When a source, a stage, a sink or a stream fails, or someone ends the run early: what came before is
 * delivered, the words name the place, nothing hangs, and the pipeline can run again.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/suite.h"

#include <pthread.h>
#include <stdatomic.h>

static mr_device *host;

enum { ITEMS = 40 };

static struct model failing(const char *name, mr_device *device, uint32_t parcel_items)
{
    struct model model = model_linear(name, device, host);
    model.item_count = ITEMS;
    model.options.parcel_items = parcel_items;
    return model;
}

/* The stage at `at` of the line, as host work or not, fails for one item. */
static void set_failure(struct model *model, uint32_t at, bool is_work, uint64_t index,
                        uint32_t attempts)
{
    if (is_work)
        model->nodes[at] = model_work(at, model->nodes[at].rotation);
    model->nodes[at].fail_index = index;
    model->nodes[at].fail_attempts = attempts;
}

static const uint64_t places[] = { 0, 7, 8, ITEMS - 1 };
enum { PLACES = sizeof places / sizeof *places };

typedef void (*try_failure)(struct model *model, uint64_t index);

/* Every stage, either kind, at the ends and the middle of parcels and of the run. */
static void try_everywhere(const char *name, mr_device *device, uint32_t attempts, try_failure try)
{
    const uint32_t parcels[] = { 1, 8 };
    for (uint32_t at = 1; at <= 3; at++) {
        for (int bits = 0; bits < 4; bits++) {
            for (int i = 0; i < PLACES; i++) {
                for (int k = 0; k < 2; k++) {
                    struct model model = failing(name, device, parcels[k]);
                    set_failure(&model, at, bits & 1, places[i], attempts);
                    model.nodes[at].is_parcel_wise = bits & 2;
                    model.nodes[0].lending = MODEL_TOGETHER;
                    try(&model, places[i]);
                }
            }
        }
    }
}

/* ---- policies ---- */

static void expect_stop(struct model *model, uint64_t index)
{
    char words[64];
    snprintf(words, sizeof words, "item %" PRIu64 ": bad item %" PRIu64, index, index);
    const struct model_outcome outcome = { .status = MR_E_CALLBACK,
                                           .words = words,
                                           .items_out = index };
    model_run(model, &outcome);
}

static void stop_delivers_what_came_before(mr_device *device)
{
    try_everywhere("stop", device, UINT32_MAX, expect_stop);
}

static void expect_skip(struct model *model, uint64_t index)
{
    (void)index;
    model->options.on_error = MR_ERROR_SKIP;
    const struct model_outcome outcome = { .items_out = ITEMS - 1, .items_skipped = 1 };
    model_run(model, &outcome);
}

static void skip_leaves_the_item_out(mr_device *device)
{
    try_everywhere("skip", device, UINT32_MAX, expect_skip);
}

static void expect_retry(struct model *model, uint64_t index)
{
    model->options.retry_limit = 2;
    model->run_count = 2;
    model_run_through(model);
    /* One try too few. A parcel that fails is first taken apart, which is no retry. */
    if (model->nodes[1].is_parcel_wise || model->nodes[2].is_parcel_wise ||
        model->nodes[3].is_parcel_wise)
        return;
    model->options.retry_limit = 1;
    expect_stop(model, index);
}

static void retry_sees_untouched_inputs(mr_device *device)
{
    try_everywhere("retry", device, 2, expect_retry);
}

static void many_items_may_be_skipped(mr_device *device)
{
    for (int bits = 0; bits < 4; bits++) {
        struct model model = failing("skip many", device, bits & 1 ? 16 : 1);
        model.options.on_error = MR_ERROR_SKIP;
        model.options.retry_limit = 1;
        model.item_count = 1200;
        set_failure(&model, 1, bits & 2, 1, UINT32_MAX);
        set_failure(&model, 3, !(bits & 2), 2, UINT32_MAX);
        model.nodes[1].fail_period = 2;
        model.nodes[3].fail_period = 3;
        model.nodes[2].is_parcel_wise = true;
        /* 1, 3, 5... and of the rest 2, 8, 14... */
        const struct model_outcome outcome = { .items_out = 400, .items_skipped = 800 };
        model_run(&model, &outcome);
    }
}

static void skipped_items_are_missing_from_every_sink(mr_device *device)
{
    struct model model = failing("skip everywhere", device, 4);
    model.options.on_error = MR_ERROR_SKIP;
    model.nodes[1] = model_stage(1, 5);
    model.nodes[2] = model_work(1, 6);
    model.nodes[3] = model_out(2, MODEL_SLOTS);
    model.nodes[4] = model_out(3, MODEL_TOGETHER);
    model.nodes[5] = model_out(1, MODEL_APART);
    model.node_count = 6;
    model.nodes[1].fail_index = 3;
    model.nodes[1].fail_period = 10;
    model.nodes[1].fail_attempts = UINT32_MAX;
    model.nodes[2].fail_index = 4;
    model.nodes[2].fail_period = 10;
    model.nodes[2].fail_attempts = UINT32_MAX;
    const struct model_outcome outcome = { .items_out = ITEMS - 8, .items_skipped = 8 };
    model_run(&model, &outcome);
}

static void stage_in_place_is_not_tried_again(mr_device *device)
{
    struct model model = failing("in place", device, 8);
    set_failure(&model, 2, false, 11, 1);
    model.options.retry_limit = 5;
    model.nodes[2].is_in_place = true;
    expect_stop(&model, 11);
}

static void lowest_item_is_the_one_told(mr_device *device)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct model model = failing("lowest", device, 1);
        set_failure(&model, 1, true, 9, UINT32_MAX);
        model.nodes[1].fail_period = 1;
        model.nodes[1].replicas = 4;
        model.nodes[2].replicas = 4;
        model.seed = seed;
        expect_stop(&model, 9);
    }
}

/* ---- source and sink ---- */

static void source_may_fail_midway(mr_device *device)
{
    for (int bits = 0; bits < 4; bits++) {
        for (int i = 0; i < PLACES; i++) {
            struct model model = failing("source", device, bits & 1 ? 8 : 1);
            model.nodes[0].is_inline = bits & 2;
            model.source_fails_at = places[i] + 1;
            const struct model_outcome outcome = { .status = MR_E_IO,
                                                   .words = "the camera is gone",
                                                   .items_out = places[i] };
            model_run(&model, &outcome);
        }
    }
}

static void sink_may_fail_midway(mr_device *device)
{
    for (int bits = 0; bits < 8; bits++) {
        for (int i = 0; i < PLACES; i++) {
            struct model model = failing("sink", device, bits & 1 ? 8 : 1);
            model.nodes[0].is_inline = bits & 2;
            model.nodes[4].is_inline = bits & 4;
            model.nodes[0].lending = MODEL_APART;
            model.sink_fails_at = places[i] + 1;
            const struct model_outcome outcome = { .status = MR_E_IO,
                                                   .words = "the disk is full",
                                                   .items_out = places[i] };
            model_run(&model, &outcome);
        }
    }
}

/* ---- early ends ---- */

static void cancel_ends_with_what_is_in_flight(mr_device *device)
{
    for (int bits = 0; bits < 8; bits++) {
        for (int i = 0; i < PLACES; i++) {
            struct model model = failing("cancel", device, bits & 1 ? 4 : 1);
            model.nodes[0].is_inline = bits & 2;
            model.nodes[4].is_inline = bits & 4;
            model.nodes[0].lending = MODEL_TOGETHER;
            model.item_count = 100000;
            model.item_bytes = 8;
            model.cancel_at = places[i] + 1;
            const struct model_outcome outcome = { .status = MR_E_CANCELLED,
                                                   .items_out = UINT64_MAX };
            model_run(&model, &outcome);
        }
    }
}

static void drain_is_no_failure(mr_device *device)
{
    struct model model = failing("drain", device, 4);
    model.item_count = 100000;
    model.item_bytes = 8;
    model.drain_at = 30;
    const struct model_outcome outcome = { .items_out = UINT64_MAX };
    model_run(&model, &outcome);
}

/* A source that waits for another thread's word. */
struct camera {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    uint64_t allowed; /* items that may be given */
    uint64_t taken;
    bool is_interrupted;
    uint32_t interrupts;
};

static mr_status camera_next(void *context, mr_source_item *item)
{
    struct camera *camera = context;
    pthread_mutex_lock(&camera->mutex);
    while (camera->allowed <= item->index && !camera->is_interrupted)
        pthread_cond_wait(&camera->cond, &camera->mutex);
    const bool has_item = camera->allowed > item->index;
    pthread_mutex_unlock(&camera->mutex);
    if (!has_item)
        return MR_END;
    item->size_bytes = item->capacity_bytes;
    memset(item->data, (int)item->index, item->capacity_bytes);
    return MR_OK;
}

static void camera_interrupt(void *context)
{
    struct camera *camera = context;
    pthread_mutex_lock(&camera->mutex);
    camera->is_interrupted = true;
    camera->interrupts++;
    pthread_cond_broadcast(&camera->cond);
    pthread_mutex_unlock(&camera->mutex);
}

static void camera_allow(struct camera *camera, uint64_t count)
{
    pthread_mutex_lock(&camera->mutex);
    camera->allowed += count;
    pthread_cond_broadcast(&camera->cond);
    pthread_mutex_unlock(&camera->mutex);
}

static mr_status camera_take(void *context, const mr_sink_item *item)
{
    struct camera *camera = context;
    const unsigned char *bytes = item->data;
    CHECK_EQ(item->index & 0xff, bytes[0]);
    CHECK_EQ(item->index & 0xff, bytes[item->size_bytes - 1]);
    pthread_mutex_lock(&camera->mutex);
    camera->taken++;
    pthread_cond_broadcast(&camera->cond);
    pthread_mutex_unlock(&camera->mutex);
    return MR_OK;
}

/* Returns once the sink has had that many. */
static void camera_await(struct camera *camera, uint64_t count)
{
    pthread_mutex_lock(&camera->mutex);
    while (camera->taken < count)
        pthread_cond_wait(&camera->cond, &camera->mutex);
    pthread_mutex_unlock(&camera->mutex);
}

static mr_status copy_item(void *context, mr_stage_call *call)
{
    (void)context;
    return mr_copy(call->stream, call->output->buffer, call->output->offset, call->inputs[0].buffer,
                   call->inputs[0].offset, call->inputs[0].sizes[0]);
}

static mr_pipeline *make_camera(mr_device *device, struct camera *camera, uint32_t slot_count,
                                mr_stage_submit submit)
{
    *camera =
        (struct camera){ .mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    mr_pipeline *pipeline;
    const mr_pipeline_options options = { .slot_count = slot_count, .parcel_items = 64 };
    CHECK_OK(mr_pipeline_create(&options, &pipeline));
    const mr_source_options source = { .name = "camera",
                                       .next = camera_next,
                                       .interrupt = camera_interrupt,
                                       .context = camera,
                                       .item_bytes = 256 };
    CHECK_OK(mr_pipeline_add_source(pipeline, &source, NULL));
    const mr_stage_options stage = { .name = "copy", .device = device, .submit = submit };
    CHECK_OK(mr_pipeline_add_stage(pipeline, &stage, NULL));
    const mr_sink_options sink = { .name = "screen", .take = camera_take, .context = camera };
    CHECK_OK(mr_pipeline_add_sink(pipeline, &sink, NULL));
    return pipeline;
}

/* However many items come at once, all of them come out while the source waits for the next. */
static void items_do_not_wait_for_a_full_parcel(mr_device *device)
{
    const uint32_t slots[] = { 1, 2, 5 };
    for (int i = 0; i < 3; i++) {
        struct camera camera;
        mr_pipeline *pipeline = make_camera(device, &camera, slots[i], copy_item);
        CHECK_OK(mr_pipeline_start(pipeline));
        uint64_t count = 0;
        for (uint64_t burst = 1; burst < 150; burst += 7) {
            count += burst;
            camera_allow(&camera, burst);
            camera_await(&camera, count);
        }
        CHECK_STATUS(MR_E_TIMEOUT, mr_pipeline_wait(pipeline, 1000));
        CHECK_STATUS(MR_E_STATE, mr_pipeline_start(pipeline));
        mr_pipeline_drain(pipeline);
        CHECK_OK(mr_pipeline_wait(pipeline, MR_FOREVER));
        CHECK_EQ(1, camera.interrupts);
        mr_pipeline_destroy(pipeline);
    }
}

static void cancel_wakes_a_source_that_waits(mr_device *device)
{
    struct camera camera;
    mr_pipeline *pipeline = make_camera(device, &camera, 0, copy_item);
    CHECK_OK(mr_pipeline_start(pipeline));
    camera_allow(&camera, 10);
    camera_await(&camera, 10);
    mr_pipeline_cancel(pipeline);
    mr_pipeline_cancel(pipeline);
    /* The source ended when it was told to: whether it had more is its secret. */
    const mr_status status = mr_pipeline_wait(pipeline, MR_FOREVER);
    CHECK(status == MR_OK || status == MR_E_CANCELLED);
    CHECK_EQ(1, camera.interrupts);
    mr_pipeline_cancel(pipeline);
    mr_pipeline_destroy(pipeline);
}

static void destroying_a_running_pipeline_ends_it(mr_device *device)
{
    for (int i = 0; i < 8; i++) {
        struct camera camera;
        mr_pipeline *pipeline = make_camera(device, &camera, 0, copy_item);
        CHECK_OK(mr_pipeline_start(pipeline));
        camera_allow(&camera, (uint64_t)i * 7);
        mr_pipeline_destroy(pipeline);
    }
}

/* ---- streams ---- */

static atomic_bool must_break;

static mr_status break_stream(void *context)
{
    (void)context;
    return mr_error_set(MR_E_CALLBACK, "the cable is loose");
}

static mr_status copy_and_break(void *context, mr_stage_call *call)
{
    if (call->first_index == 20 && atomic_load(&must_break))
        return mr_stream_call(call->stream, break_stream, NULL);
    return copy_item(context, call);
}

static void failed_stream_ends_the_run_and_not_the_next(mr_device *device)
{
    struct camera camera;
    mr_pipeline *pipeline = make_camera(device, &camera, 3, copy_and_break);
    atomic_store(&must_break, true);
    CHECK_OK(mr_pipeline_start(pipeline));
    camera_allow(&camera, 1000);
    CHECK_STATUS(MR_E_CALLBACK, mr_pipeline_wait(pipeline, MR_FOREVER));
    CHECK_SAYS("the cable is loose", mr_last_error());
    CHECK_EQ(1, camera.interrupts);

    atomic_store(&must_break, false);
    camera.is_interrupted = false;
    camera.taken = 0;
    CHECK_OK(mr_pipeline_start(pipeline));
    camera_await(&camera, 1000);
    mr_pipeline_drain(pipeline);
    CHECK_OK(mr_pipeline_wait(pipeline, MR_FOREVER));
    mr_pipeline_destroy(pipeline);
}

static const struct suite_test tests[] = {
    SUITE_TEST(stop_delivers_what_came_before),
    SUITE_TEST(skip_leaves_the_item_out),
    SUITE_TEST(retry_sees_untouched_inputs),
    SUITE_TEST(many_items_may_be_skipped),
    SUITE_TEST(skipped_items_are_missing_from_every_sink),
    SUITE_TEST(stage_in_place_is_not_tried_again),
    SUITE_TEST(lowest_item_is_the_one_told),
    SUITE_TEST(source_may_fail_midway),
    SUITE_TEST(sink_may_fail_midway),
    SUITE_TEST(cancel_ends_with_what_is_in_flight),
    SUITE_TEST(drain_is_no_failure),
    SUITE_TEST(items_do_not_wait_for_a_full_parcel),
    SUITE_TEST(cancel_wakes_a_source_that_waits),
    SUITE_TEST(destroying_a_running_pipeline_ends_it),
    SUITE_TEST(failed_stream_ends_the_run_and_not_the_next),
};

int main(int argc, char **argv)
{
    return suite_main_beside_cpu(argc, argv, tests, sizeof tests / sizeof *tests, &host);
}
