/* SPDX-License-Identifier: MIT */
/*
 * Pipelines over all devices: every item once and in order, the results of one device, memory that does
 * not grow, and early ends.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/random.h"
#include "support/several.h"

#include <millrace/event.h>

#include <stdatomic.h>

/* ---- models ---- */

static void check_devices(const struct model *model, const mr_pipeline_report *report)
{
    uint64_t items = 0;
    if (model->options.device_count < 2)
        return;
    CHECK_EQ(model->options.device_count, report->device_count);
    for (size_t i = 0; i < report->device_count; i++) {
        CHECK_EQ(i, report->devices[i].lane);
        CHECK_EQ(0, strcmp(mr_device_id(model->options.devices[i]), report->devices[i].device));
        CHECK(!report->devices[i].is_lost);
        items += report->devices[i].items;
    }
    CHECK(items >= report->items_out + report->items_skipped);
}

static struct model line(const char *name, const struct several *several, uint32_t count)
{
    struct model model = model_linear(name, several->devices[0], several->cpu);
    model.options.parcel_items = 4;
    model.item_count = 400;
    model.on_report = check_devices;
    model_spread(&model, several->devices, count);
    return model;
}

static void items_come_in_order_from_any_number_of_devices(struct several *several)
{
    static const uint64_t counts[] = { 400, 3, 0 };
    for (uint32_t devices = 1; devices <= several->all_count; devices++) {
        struct model model = line("line", several, devices);
        model.run_count = 2;
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
            model.item_count = counts[i];
            model_run_through(&model);
        }
    }
}

static void any_shape_runs_on_all_devices(struct several *several)
{
    for (uint64_t seed = 900; seed < 912; seed++) {
        struct model model;
        model_randomise(&model, several->devices[0], several->cpu, seed);
        model_spread(&model, several->devices, several->all_count);
        model.on_report = check_devices;
        if (model_is_spread(&model))
            model_run_through(&model);
    }
}

static void lent_memory_is_used_by_all_devices(struct several *several)
{
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            struct model model = line("lending", several, several->all_count);
            model.item_count = 100;
            model.nodes[0].lending = from;
            model.nodes[4].lending = to;
            model.nodes[0].is_pageable = to % 2;
            model.nodes[4].is_pageable = from % 2;
            model.last_bytes = 17;
            model_run_through(&model);
        }
    }
}

static void runs_over_all_devices_end_early(struct several *several)
{
    struct model model = line("a failing item", several, several->all_count);
    model.nodes[2].fail_index = 203;
    model.nodes[2].fail_period = 11;
    model.nodes[2].fail_attempts = 1;
    const struct model_outcome stopped = { .status = MR_E_CALLBACK,
                                           .words = "item 203",
                                           .items_out = 203 };
    model_run(&model, &stopped);
    model.options.on_error = MR_ERROR_SKIP;
    const struct model_outcome skipped = { .items_out = 382, .items_skipped = 18 };
    model_run(&model, &skipped);

    model = line("cancelled", several, several->all_count);
    model.item_count = 4000;
    model.cancel_at = 50;
    const struct model_outcome cancelled = { .status = MR_E_CANCELLED, .items_out = UINT64_MAX };
    model_run(&model, &cancelled);

    model = line("drained", several, several->all_count);
    model.item_count = 4000;
    model.drain_at = 50;
    const struct model_outcome drained = { .items_out = UINT64_MAX };
    model_run(&model, &drained);
}

/* ---- one device and all ---- */

enum { ITEM_BYTES = 3000, ITEM_LIMIT = 3000, SPLIT = 1234, SLOW_NS = 50000 };

struct flow {
    uint64_t item_count;
    uint32_t slow_lane; /* UINT32_MAX: none */
    unsigned char *results;
    _Atomic uint64_t given, taken;
    uint64_t lead; /* items that were given and not taken, at most */
};

static mr_status give(void *context, mr_source_item *item)
{
    struct flow *flow = context;
    if (item->index == flow->item_count)
        return MR_END;
    struct random random = { item->index * 7919 + 1 };
    for (size_t i = 0; i + 8 <= ITEM_BYTES; i += 8) {
        const uint64_t word = random_next(&random);
        memcpy((char *)item->data + i, &word, 8);
    }
    item->size_bytes = ITEM_BYTES;
    const uint64_t lead = atomic_fetch_add(&flow->given, 1) + 1 - atomic_load(&flow->taken);
    if (lead > flow->lead)
        flow->lead = lead;
    return MR_OK;
}

static mr_status turn(void *context, mr_stage_call *call)
{
    const struct flow *flow = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const uint64_t start_ns = mr_device_now_ns(call->device);
    while (call->lane == flow->slow_lane && mr_device_now_ns(call->device) - start_ns < SLOW_NS)
        ; /* a device that takes its time */
    mr_status status = mr_copy(call->stream, out->buffer, out->offset, in->buffer,
                               in->offset + SPLIT, ITEM_BYTES - SPLIT);
    if (!status)
        status = mr_copy(call->stream, out->buffer, out->offset + ITEM_BYTES - SPLIT, in->buffer,
                         in->offset, SPLIT);
    return status;
}

static mr_status keep(void *context, const mr_sink_item *item)
{
    struct flow *flow = context;
    CHECK_EQ(atomic_load(&flow->taken), item->index);
    CHECK_EQ(ITEM_BYTES, item->size_bytes);
    memcpy(flow->results + item->index * ITEM_BYTES, item->data, ITEM_BYTES);
    atomic_fetch_add(&flow->taken, 1);
    return MR_OK;
}

/* Answers the slots' memory. */
static uint64_t run_flow(struct flow *flow, const struct several *several, uint32_t device_count)
{
    const mr_pipeline_options options = {
        .name = "flow", .parcel_items = 8, .devices = several->devices, .device_count = device_count
    };
    const mr_source_options source = { .next = give, .context = flow, .item_bytes = ITEM_BYTES };
    const mr_stage_options stage = { .submit = turn, .context = flow, .replicas = 3 };
    const mr_sink_options sink = { .take = keep, .context = flow };
    const mr_pipeline_report *report;
    mr_pipeline *pipeline;
    atomic_store(&flow->given, 0);
    atomic_store(&flow->taken, 0);
    flow->lead = 0;
    poison(flow->results, flow->item_count * ITEM_BYTES);
    CHECK_OK(mr_pipeline_create(&options, &pipeline));
    CHECK_OK(mr_pipeline_add_source(pipeline, &source, NULL));
    CHECK_OK(mr_pipeline_add_stage(pipeline, &stage, NULL));
    CHECK_OK(mr_pipeline_add_sink(pipeline, &sink, NULL));
    CHECK_OK(mr_pipeline_run(pipeline));
    CHECK_OK(mr_pipeline_report_get(pipeline, &report));
    CHECK_EQ(flow->item_count, atomic_load(&flow->taken));
    CHECK(flow->lead <= (uint64_t)report->slot_count * report->parcel_items + 1);
    const uint64_t memory_bytes = report->slot_memory_bytes;
    mr_pipeline_destroy(pipeline);
    return memory_bytes;
}

static void results_are_those_of_one_device(struct several *several)
{
    struct flow one = { .item_count = 500,
                        .slow_lane = UINT32_MAX,
                        .results = malloc((size_t)ITEM_LIMIT * ITEM_BYTES) };
    struct flow all = one;
    all.results = malloc((size_t)ITEM_LIMIT * ITEM_BYTES);
    CHECK(one.results && all.results);
    run_flow(&one, several, 1);
    for (all.slow_lane = 0; all.slow_lane <= several->all_count; all.slow_lane++) {
        run_flow(&all, several, several->all_count);
        CHECK_EQ(0, memcmp(one.results, all.results, one.item_count * ITEM_BYTES));
    }
    free(one.results);
    free(all.results);
}

static void memory_does_not_grow_with_the_items(struct several *several)
{
    struct flow flow = { .item_count = ITEM_LIMIT / 10,
                         .slow_lane = UINT32_MAX,
                         .results = malloc((size_t)ITEM_LIMIT * ITEM_BYTES) };
    CHECK(flow.results);
    const uint64_t few = run_flow(&flow, several, several->all_count);
    flow.item_count = ITEM_LIMIT;
    CHECK_EQ(few, run_flow(&flow, several, several->all_count));
    free(flow.results);
}

int main(int argc, char **argv)
{
    static const struct several_test tests[] = {
        SEVERAL_TEST(items_come_in_order_from_any_number_of_devices, .all_count = 1),
        SEVERAL_TEST(any_shape_runs_on_all_devices, .all_count = 1),
        SEVERAL_TEST(lent_memory_is_used_by_all_devices, .all_count = 2),
        SEVERAL_TEST(runs_over_all_devices_end_early, .all_count = 2),
        SEVERAL_TEST(results_are_those_of_one_device, .all_count = 2),
        SEVERAL_TEST(memory_does_not_grow_with_the_items, .all_count = 2),
    };
    return several_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
