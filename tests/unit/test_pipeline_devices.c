/* SPDX-License-Identifier: MIT */
/* Pipelines over several devices of the stand-in driver: every shape, and devices that die. */
#include "support/fakecuda/fakecuda.h"
#include "support/unit.h"

#include "../conformance/pipeline_model.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { GPUS = 4, LAUNCH_FAILED = 719 };

static struct {
    mr_device *host, *gpus[GPUS], *all[GPUS + 1];
} here;

static void open_devices(void)
{
    setenv("FAKECUDA_DEVICES", "4", 1);
    assert_ok(mr_device_open("cpu", NULL, &here.host));
    for (int i = 0; i < GPUS; i++) {
        char name[24];
        snprintf(name, sizeof name, "cuda:%d", i);
        assert_ok(mr_device_open(name, NULL, &here.gpus[i]));
        here.all[i] = here.gpus[i];
    }
    here.all[GPUS] = here.host;
}

/* A device that was broken is whole again once it has been closed. */
static void close_devices(void)
{
    for (int i = GPUS - 1; i >= 0; i--)
        assert_ok(mr_device_close(here.gpus[i]));
    assert_ok(mr_device_close(here.host));
    assert_int_equal(0, fakecuda_live());
}

static struct model line(const char *name, uint32_t device_count)
{
    struct model model = model_linear(name, here.gpus[0], here.host);
    model.options.parcel_items = 4;
    model.item_count = 400;
    model_spread(&model, here.all, device_count);
    return model;
}

static void check_devices(const struct model *model, const mr_pipeline_report *report)
{
    uint64_t items = 0;
    if (model->options.device_count < 2)
        return;
    assert_int_equal(model->options.device_count, report->device_count);
    for (size_t i = 0; i < report->device_count; i++) {
        assert_int_equal(i, report->devices[i].lane);
        assert_string_equal(mr_device_id(model->options.devices[i]), report->devices[i].device);
        items += report->devices[i].items;
    }
    assert_true(items >= report->items_out + report->items_skipped);
}

/* ---- all well ---- */

static void items_come_in_order_from_any_number_of_devices(void **state)
{
    (void)state;
    open_devices();
    for (uint32_t count = 1; count <= GPUS + 1; count++) {
        struct model model = line("line", count);
        model.on_report = check_devices;
        model.run_count = 2;
        model_run_through(&model);
        model.item_count = 3;
        model_run_through(&model);
        model.item_count = 0;
        model_run_through(&model);
    }
    close_devices();
}

/* One stream for each device, though each of them could keep the order of its own. */
static void independent_items_need_no_replicas(void **state)
{
    (void)state;
    open_devices();
    struct model model = model_linear("independent", here.gpus[0], here.host);
    model.item_count = 300;
    for (int i = 1; i <= 3; i++)
        model.nodes[i].is_independent = true;
    model.nodes[2] = model_work(2, 5);
    model.nodes[2].is_independent = true;
    model_spread(&model, here.all, 3);
    model.on_report = check_devices;
    model_run_through(&model);
    close_devices();
}

static void every_way_of_lending_works_on_several_devices(void **state)
{
    (void)state;
    open_devices();
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            for (int bits = 0; bits < 4; bits++) {
                struct model model = line("lending", 3);
                model.item_count = 100;
                model.nodes[0].lending = from;
                model.nodes[4].lending = to;
                model.nodes[0].is_pageable = bits & 1;
                model.nodes[4].is_pageable = bits & 2;
                model.last_bytes = 17;
                model_run_through(&model);
            }
        }
    }
    close_devices();
}

static void run_shape(uint64_t seed, uint32_t device_count)
{
    struct model model;
    model_randomise(&model, here.gpus[0], here.host, seed);
    model_spread(&model, here.all, device_count);
    model.on_report = check_devices;
    if (model_is_spread(&model))
        model_run_through(&model);
}

static void every_shape_runs_on_several_devices(void **state)
{
    (void)state;
    open_devices();
    for (uint64_t seed = 0; seed < 24; seed++)
        run_shape(seed, 2 + seed % GPUS);
    close_devices();
}

static void failures_of_items_are_told_in_order(void **state)
{
    (void)state;
    open_devices();
    struct model model = line("stop", 3);
    model.nodes[2].fail_index = 203;
    model.nodes[2].fail_period = 11;
    model.nodes[2].fail_attempts = 1;
    const struct model_outcome stopped = { .status = MR_E_CALLBACK,
                                           .words = "item 203",
                                           .items_out = 203 };
    model_run(&model, &stopped);

    model.options.on_error = MR_ERROR_SKIP;
    model.nodes[2].fail_index = 0;
    model.nodes[2].fail_period = 10;
    const struct model_outcome skipped = { .items_out = 360, .items_skipped = 40 };
    model_run(&model, &skipped);
    close_devices();
}

static void source_and_sink_may_fail_or_cancel(void **state)
{
    (void)state;
    open_devices();
    struct model model = line("source", 3);
    model.source_fails_at = 151;
    const struct model_outcome source = { .status = MR_E_IO, .items_out = 150 };
    model_run(&model, &source);

    model = line("sink", 3);
    model.sink_fails_at = 101;
    const struct model_outcome sink = { .status = MR_E_IO, .items_out = 100 };
    model_run(&model, &sink);

    model = line("cancel", 3);
    model.item_count = 4000;
    model.cancel_at = 50;
    const struct model_outcome cancelled = { .status = MR_E_CANCELLED, .items_out = UINT64_MAX };
    model_run(&model, &cancelled);

    model.cancel_at = 0;
    model.drain_at = 50;
    const struct model_outcome drained = { .items_out = UINT64_MAX };
    model_run(&model, &drained);
    close_devices();
}

/* ---- devices that die ---- */

/* Breaks a device when its item is taken; each only once. */
static struct {
    uint64_t at[GPUS];
    _Atomic bool is_broken[GPUS];
    uint32_t count; /* of devices that have been broken */
} doom;

static void set_doom(void)
{
    memset(&doom, 0, sizeof doom);
    for (int i = 0; i < GPUS; i++)
        doom.at[i] = UINT64_MAX;
}

static void break_devices(const struct model *model, uint64_t index)
{
    (void)model;
    for (int i = 0; i < GPUS; i++) {
        if (index >= doom.at[i] && !atomic_exchange(&doom.is_broken[i], true))
            fakecuda_break(i, LAUNCH_FAILED);
    }
}

/* A device that broke is reported if it had anything left to do. */
static void check_lost(const struct model *model, const mr_pipeline_report *report)
{
    check_devices(model, report);
    for (size_t i = 0; i < report->device_count; i++) {
        const mr_device_report *device = &report->devices[i];
        if (!device->is_lost)
            continue;
        assert_true(i < GPUS && doom.is_broken[i]);
        assert_int_equal(MR_E_DEVICE, device->status);
        assert_non_null(strstr(device->words, "CUDA_ERROR_LAUNCH_FAILED"));
    }
}

static struct model doomed(const char *name, uint32_t device_count)
{
    struct model model = line(name, device_count);
    model.item_count = 600;
    model.on_take = break_devices;
    model.on_report = check_lost;
    return model;
}

static void items_of_a_lost_device_run_elsewhere(void **state)
{
    (void)state;
    for (uint64_t at = 0; at < 600; at += 53) {
        open_devices();
        set_doom();
        doom.at[at % 3] = at;
        struct model model = doomed("one dies", 3);
        model.nodes[0].lending = (enum model_lending)(at % 4);
        model.nodes[4].lending = (enum model_lending)(at / 53 % 4);
        model.nodes[0].is_pageable = at % 2;
        model.nodes[4].is_pageable = at / 2 % 2;
        model_run_through(&model);
        close_devices();
    }
}

static void one_device_after_the_other_may_die(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        open_devices();
        set_doom();
        for (uint64_t i = 0; i < GPUS; i++)
            doom.at[i] = 60 * (i + 1) + round;
        /* The CPU is left. */
        struct model model = doomed("all but one die", GPUS + 1);
        model.nodes[0].lending = (enum model_lending)(round % 4);
        model_run_through(&model);
        close_devices();
    }
}

static void two_devices_may_die_at_once(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        open_devices();
        set_doom();
        doom.at[0] = doom.at[1] = 100 + round;
        struct model model = doomed("two die", 3);
        model.nodes[4].lending = (enum model_lending)(round % 4);
        model_run_through(&model);
        close_devices();
    }
}

static void last_device_takes_the_run_with_it(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        open_devices();
        set_doom();
        doom.at[0] = 50;
        doom.at[1] = 100 + round;
        struct model model = doomed("all die", 2);
        model.nodes[0].lending = (enum model_lending)(round % 4);
        model.item_count = 100000;
        const struct model_outcome lost = { .status = MR_E_DEVICE,
                                            .words = "CUDA_ERROR_LAUNCH_FAILED",
                                            .items_out = UINT64_MAX,
                                            .items_skipped = UINT64_MAX };
        model_run(&model, &lost);
        close_devices();
    }
}

/* The source gives nothing new before almost all it gave has come out: the survivor must not wait for
 * it. */
static void source_that_waits_for_results_holds_nothing_up(void **state)
{
    (void)state;
    for (uint64_t round = 0; round < 8; round++) {
        open_devices();
        set_doom();
        doom.at[round % 2] = 50 + round;
        struct model model = doomed("closed loop", 2);
        model.item_count = 200;
        model.source_lead = 1 + round % 3;
        model.nodes[0].lending = round % 2 ? MODEL_SLOTS : MODEL_TOGETHER;
        model_run_through(&model);
        close_devices();
    }
}

static void shapes_survive_a_lost_device(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        open_devices();
        set_doom();
        struct model model;
        model_randomise(&model, here.gpus[0], here.host, seed + 500);
        model_spread(&model, here.all, 2 + seed % GPUS);
        doom.at[seed % 2] = seed % 50;
        model.on_take = break_devices;
        model.run_count = 1;
        if (model_is_spread(&model))
            model_run_through(&model);
        close_devices();
    }
}

static void device_lost_before_the_run_is_left_out(void **state)
{
    (void)state;
    open_devices();
    set_doom();
    fakecuda_break(1, LAUNCH_FAILED);
    atomic_store(&doom.is_broken[1], true);
    struct model model = doomed("lost before", 3);
    model.run_count = 2;
    model_run_through(&model);
    close_devices();
}

static mr_status hundred(void *context, mr_source_item *item)
{
    (void)context;
    item->size_bytes = 4;
    return item->index < 100 ? MR_OK : MR_END;
}

static mr_status hand_through(void *context, mr_stage_call *call)
{
    (void)context;
    return mr_copy(call->stream, call->output->buffer, call->output->offset, call->inputs[0].buffer,
                   call->inputs[0].offset, 4);
}

static mr_status blame_something_else(void *context, mr_stage_call *call)
{
    _Atomic bool *is_broken = context;
    if (call->lane != 1)
        return hand_through(NULL, call);
    if (!atomic_exchange(is_broken, true))
        fakecuda_break(1, LAUNCH_FAILED);
    return mr_error_set(MR_E_STATE, "the stream is capturing");
}

static mr_status count_in_order(void *context, const mr_sink_item *item)
{
    uint64_t *taken = context;
    assert_int_equal((*taken)++, item->index);
    return MR_OK;
}

/* What a stage makes of the loss is not always the device's error. */
static void loss_is_seen_whatever_the_stage_says(void **state)
{
    (void)state;
    _Atomic bool is_broken = false;
    uint64_t taken = 0;
    mr_pipeline *pipeline;
    open_devices();
    const mr_pipeline_options options = { .devices = here.all, .device_count = 3 };
    const mr_source_options source = { .next = hundred, .item_bytes = 4 };
    const mr_stage_options stage = { .submit = blame_something_else,
                                     .context = &is_broken,
                                     .replicas = 2 };
    const mr_sink_options sink = { .take = count_in_order, .context = &taken };
    const mr_pipeline_report *report;
    assert_ok(mr_pipeline_create(&options, &pipeline));
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    assert_ok(mr_pipeline_run(pipeline));
    assert_int_equal(100, taken);
    assert_ok(mr_pipeline_report_get(pipeline, &report));
    assert_int_equal(is_broken, report->devices[1].is_lost);
    if (is_broken) {
        assert_int_equal(MR_E_DEVICE, report->devices[1].status);
        assert_non_null(strstr(report->devices[1].words, "CUDA_ERROR_LAUNCH_FAILED"));
    }
    mr_pipeline_destroy(pipeline);
    close_devices();
}

/* ---- looked at from outside ---- */

struct onlooker {
    mr_pipeline *pipeline;
    size_t device_count;
    uint64_t taken;
};

static uint64_t sum_progress(const struct onlooker *onlooker)
{
    mr_device_progress devices[GPUS] = { 0 };
    uint64_t items = 0, bytes = 0;
    assert_int_equal(onlooker->device_count,
                     mr_pipeline_progress_devices(onlooker->pipeline, devices, GPUS));
    for (size_t i = 0; i < onlooker->device_count; i++) {
        assert_int_equal(i, devices[i].lane);
        assert_string_equal(mr_device_id(here.all[i]), devices[i].device);
        assert_false(devices[i].is_lost);
        items += devices[i].items;
        bytes += devices[i].bytes;
    }
    assert_true(bytes >= 4 * items);
    return items;
}

static mr_status look_on(void *context, const mr_sink_item *item)
{
    struct onlooker *onlooker = context;
    assert_int_equal(onlooker->taken++, item->index);
    assert_true(sum_progress(onlooker) <= onlooker->taken);
    return MR_OK;
}

static void look_at_devices(uint32_t device_count)
{
    struct onlooker onlooker = { .device_count = 0 };
    const mr_pipeline_options options = { .devices = here.all, .device_count = device_count };
    const mr_source_options source = { .next = hundred, .item_bytes = 4 };
    const mr_stage_options stage = { .submit = hand_through, .replicas = 2 };
    const mr_sink_options sink = { .take = look_on, .context = &onlooker };
    mr_device_progress first;
    assert_ok(mr_pipeline_create(&options, &onlooker.pipeline));
    assert_ok(mr_pipeline_add_source(onlooker.pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_stage(onlooker.pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(onlooker.pipeline, &sink, NULL));
    assert_int_equal(0, sum_progress(&onlooker));
    onlooker.device_count = device_count > 1 ? device_count : 0;
    assert_ok(mr_pipeline_run(onlooker.pipeline));
    assert_int_equal(device_count > 1 ? 100 : 0, sum_progress(&onlooker));
    assert_int_equal(onlooker.device_count,
                     mr_pipeline_progress_devices(onlooker.pipeline, &first, 1));
    assert_int_equal(onlooker.device_count,
                     mr_pipeline_progress_devices(onlooker.pipeline, NULL, 0));
    mr_pipeline_destroy(onlooker.pipeline);
}

static void progress_tells_each_device(void **state)
{
    (void)state;
    open_devices();
    look_at_devices(1);
    look_at_devices(3);
    close_devices();
}

/* ---- what is refused ---- */

static mr_status pass(void *context, mr_stage_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static mr_status none(void *context, mr_source_item *item)
{
    (void)context;
    (void)item;
    return MR_END;
}

static void refuse_stage(const mr_stage_options *stage, const char *words)
{
    const mr_pipeline_options options = { .devices = here.all, .device_count = 2 };
    const mr_source_options source = { .next = none, .item_bytes = 4 };
    mr_pipeline *pipeline;
    assert_ok(mr_pipeline_create(&options, &pipeline));
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    mr_status status = mr_pipeline_add_stage(pipeline, stage, NULL);
    if (!status)
        status = mr_pipeline_run(pipeline);
    assert_int_equal(MR_E_INVALID, status);
    assert_non_null(strstr(mr_last_error(), words));
    mr_pipeline_destroy(pipeline);
}

static void refuse_options(mr_device *const *devices, uint32_t count, const char *words)
{
    const mr_pipeline_options options = { .devices = devices, .device_count = count };
    mr_pipeline *pipeline;
    assert_int_equal(MR_E_INVALID, mr_pipeline_create(&options, &pipeline));
    assert_null(pipeline);
    assert_non_null(strstr(mr_last_error(), words));
}

static void what_cannot_be_spread_is_refused(void **state)
{
    (void)state;
    open_devices();
    mr_device *twice[] = { here.gpus[1], here.gpus[0], here.gpus[1] };
    mr_device *missing[] = { here.gpus[1], NULL };
    refuse_options(twice, 3, "devices[0] and devices[2] are both cuda:1");
    refuse_options(missing, 2, "devices[1] is NULL");
    refuse_options(NULL, 2, "devices is NULL");
    refuse_options(here.all, 0, "device_count is 0");
    refuse_options(here.all, 65, "up to 64");

    refuse_stage(&(mr_stage_options){ .submit = pass, .has_no_output = true }, "keeps its order");
    refuse_stage(&(mr_stage_options){ .submit = pass, .has_no_output = true, .replicas = 1 },
                 "replicas is 1");
    refuse_stage(
        &(mr_stage_options){
            .submit = pass, .has_no_output = true, .replicas = 2, .device = here.gpus[0] },
        "every stage has one of its own");
    close_devices();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_come_in_order_from_any_number_of_devices),
        cmocka_unit_test(independent_items_need_no_replicas),
        cmocka_unit_test(every_way_of_lending_works_on_several_devices),
        cmocka_unit_test(every_shape_runs_on_several_devices),
        cmocka_unit_test(failures_of_items_are_told_in_order),
        cmocka_unit_test(source_and_sink_may_fail_or_cancel),
        cmocka_unit_test(items_of_a_lost_device_run_elsewhere),
        cmocka_unit_test(one_device_after_the_other_may_die),
        cmocka_unit_test(two_devices_may_die_at_once),
        cmocka_unit_test(last_device_takes_the_run_with_it),
        cmocka_unit_test(source_that_waits_for_results_holds_nothing_up),
        cmocka_unit_test(shapes_survive_a_lost_device),
        cmocka_unit_test(device_lost_before_the_run_is_left_out),
        cmocka_unit_test(loss_is_seen_whatever_the_stage_says),
        cmocka_unit_test(progress_tells_each_device),
        cmocka_unit_test(what_cannot_be_spread_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
