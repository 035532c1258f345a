/* SPDX-License-Identifier: MIT */
/* Pipelines when memory or the driver fails at the Nth call, N growing until nothing fails. */
#include "support/fault_driver.h"
#include "support/unit.h"

#include <millrace/pipeline.h>

#include <stdlib.h>

enum { ITEMS = 20, ITEM_BYTES = 512 };

struct play {
    mr_device *device, *host;
    mr_device *second; /* or NULL */
    unsigned char from[ITEMS * ITEM_BYTES], to[ITEMS * ITEM_BYTES];
    uint64_t given_back, taken, calls;
};

static mr_status lend_item(void *context, mr_source_item *item)
{
    struct play *play = context;
    if (item->index == ITEMS)
        return MR_END;
    item->data = play->from + item->index * ITEM_BYTES;
    item->size_bytes = ITEM_BYTES;
    return MR_OK;
}

static void give_back(void *context, uint64_t first, uint32_t count)
{
    struct play *play = context;
    assert_int_equal(play->given_back, first);
    play->given_back += count;
}

static mr_status copy_item(void *context, mr_stage_call *call)
{
    (void)context;
    return mr_copy(call->stream, call->output->buffer, call->output->offset, call->inputs[0].buffer,
                   call->inputs[0].offset, call->inputs[0].sizes[0]);
}

static mr_status add_one(void *context, mr_host_call *call)
{
    (void)context;
    const unsigned char *from = call->inputs[0];
    unsigned char *to = call->output;
    for (size_t i = 0; i < call->input_sizes[0][0]; i++)
        to[i] = (unsigned char)(from[i] + 1);
    return MR_OK;
}

static mr_status lend_target(void *context, uint64_t index, size_t capacity_bytes, void **data)
{
    struct play *play = context;
    (void)capacity_bytes;
    *data = play->to + index * ITEM_BYTES;
    return MR_OK;
}

static mr_status take_item(void *context, const mr_sink_item *item)
{
    struct play *play = context;
    assert_int_equal(play->taken, item->index);
    play->taken++;
    return MR_OK;
}

/* Every part there is: staged both ways, host work, two sinks, timing. */
static mr_status run_all_parts(struct play *play)
{
    mr_device *const devices[] = { play->device, play->second };
    const mr_pipeline_options options = { .slot_count = 3,
                                          .parcel_items = 4,
                                          .is_measured = true,
                                          .devices = play->second ? devices : NULL,
                                          .device_count = play->second ? 2 : 0 };
    const uint32_t replicas = play->second ? 2 : 0;
    const mr_source_options source = { .next = lend_item,
                                       .give_back = give_back,
                                       .context = play,
                                       .item_bytes = ITEM_BYTES,
                                       .is_lending = true,
                                       .is_pageable = true };
    const mr_stage_options copy = { .device = play->second ? NULL : play->device,
                                    .submit = copy_item,
                                    .replicas = replicas };
    const mr_stage_options work = { .device = play->host, .work = add_one, .replicas = replicas };
    const mr_sink_options sink = {
        .take = take_item, .lend = lend_target, .context = play, .is_pageable = true
    };
    mr_pipeline *pipeline = NULL;
    mr_status status = mr_pipeline_create(&options, &pipeline);
    if (!status)
        status = mr_pipeline_add_source(pipeline, &source, NULL);
    if (!status)
        status = mr_pipeline_add_stage(pipeline, &copy, NULL);
    if (!status)
        status = mr_pipeline_add_stage(pipeline, &work, NULL);
    if (!status)
        status = mr_pipeline_add_stage(pipeline, &copy, NULL);
    if (!status)
        status = mr_pipeline_add_sink(pipeline, &sink, NULL);
    if (!status)
        status = mr_pipeline_run(pipeline);
    mr_pipeline_destroy(pipeline);
    return status;
}

static void check_all_came(const struct play *play)
{
    assert_int_equal(ITEMS, play->taken);
    assert_int_equal(ITEMS, play->given_back);
    for (size_t i = 0; i < sizeof play->to; i++)
        assert_int_equal((unsigned char)(play->from[i] + 1), play->to[i]);
}

/* The devices are opened anew for each round; `second` may be NULL. Answers how many it took. */
static uint64_t survive(const struct fault_kind *kind, const char *name, const char *second)
{
    struct fault fault = { .kind = kind, .where = name };
    while (fault_next(&fault)) {
        static struct play play;
        memset(&play, 0, sizeof play);
        for (size_t i = 0; i < sizeof play.from; i++)
            play.from[i] = (unsigned char)(i * 7 + fault.nth);
        assert_ok(mr_device_open("cpu", NULL, &play.host));
        assert_ok(mr_device_open(name, NULL, &play.device));
        if (second)
            assert_ok(mr_device_open(second, NULL, &play.second));

        fault_begin(&fault);
        const mr_status status = run_all_parts(&play);
        fault_end(&fault, status);

        if (!status)
            check_all_came(&play);
        assert_ok(mr_device_close(play.second));
        assert_ok(mr_device_close(play.device));
        assert_ok(mr_device_close(play.host));
    }
    fault_leaves_nothing(&fault);
    return fault.nth;
}

static void pipelines_survive_no_memory(void **state)
{
    (void)state;
    assert_true(survive(&fault_allocation, "cpu", NULL) > 50);
    assert_true(survive(&fault_allocation, "cuda", NULL) > 50);
}

static void pipelines_survive_a_driver_call_that_fails(void **state)
{
    (void)state;
    assert_true(survive(&fault_driver_call, "cuda", NULL) > 100);
}

/* What fails on one device is done on the other, if the device is lost; else the run fails. */
static void several_devices_survive_what_one_does(void **state)
{
    (void)state;
    setenv("FAKECUDA_DEVICES", "2", 1);
    assert_true(survive(&fault_allocation, "cuda:0", "cuda:1") > 100);
    assert_true(survive(&fault_driver_call, "cuda:0", "cuda:1") > 100);
    unsetenv("FAKECUDA_DEVICES");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pipelines_survive_no_memory),
        cmocka_unit_test(pipelines_survive_a_driver_call_that_fails),
        cmocka_unit_test(several_devices_survive_what_one_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
