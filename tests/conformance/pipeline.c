/* SPDX-License-Identifier: MIT */
/*
 * Pipelines of every shape bring every item through, in order, byte for byte.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/suite.h"

static mr_device *host;

/* ---- one line ---- */

static void linear_pipeline_brings_every_item_through(mr_device *device)
{
    struct model model = model_linear("linear", device, host);
    model_run_through(&model);
    model.item_count = 10000;
    model_run_through(&model);
}

static void source_may_go_straight_to_sink(mr_device *device)
{
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            struct model model = model_linear("straight", device, host);
            model.nodes[0].lending = from;
            model.nodes[1] = model_out(1, to);
            model.node_count = 2;
            model_run_through(&model);
        }
    }
}

static void no_items_are_no_failure(mr_device *device)
{
    struct model model = model_linear("none", device, host);
    model.item_count = 0;
    model_run_through(&model);
    model.nodes[0].lending = MODEL_TOGETHER;
    model.nodes[0].is_inline = model.nodes[4].is_inline = true;
    model_run_through(&model);
    model.nodes[0].lending = MODEL_MEMORY;
    model_run_through(&model);
}

static void one_item_is_enough(mr_device *device)
{
    struct model model = model_linear("one", device, host);
    model.item_count = 1;
    model_run_through(&model);
    model.options.slot_count = 1;
    model_run_through(&model);
}

static void every_way_of_lending_works(mr_device *device)
{
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            /* Some of the sixteen ways each time, others for the neighbours. */
            for (int bits = (from + to) % 2; bits < 16; bits += 5) {
                struct model model = model_linear("lending", device, host);
                model.nodes[0].lending = from;
                model.nodes[4].lending = to;
                model.nodes[0].is_inline = bits & 1;
                model.nodes[4].is_inline = bits & 2;
                model.nodes[0].is_pageable = bits & 4;
                model.nodes[4].is_pageable = bits & 8;
                model.last_bytes = 17;
                model.seed = (uint64_t)bits;
                model_run_through(&model);
            }
        }
    }
}

static void any_number_of_slots_works(mr_device *device)
{
    const uint32_t counts[] = { 1, 2, 3, 100 };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int bits = 0; bits < 4; bits++) {
            struct model model = model_linear("slots", device, host);
            model.options.slot_count = counts[i];
            model.options.parcel_items = bits & 1 ? 1 : 8;
            model.nodes[0].is_inline = model.nodes[4].is_inline = bits & 2;
            model.item_count = 90;
            model_run_through(&model);
        }
    }
}

static void parcels_of_any_size_work(mr_device *device)
{
    const uint32_t counts[] = { 1, 2, 7, 64, 1000 };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model = model_linear("parcels", device, host);
        model.options.parcel_items = counts[i];
        model.nodes[2].is_parcel_wise = true;
        model_run_through(&model);
        model.nodes[0].is_inline = true;
        model_run_through(&model);
    }
}

/* What a CPU stage writes for a sink, a GPU may not read there when it is pageable. */
static void pageable_sink_may_share_an_output_with_a_device(mr_device *device)
{
    struct model model = model_linear("shared output", device, host);
    model.options.parcel_items = 4;
    model.nodes[1] = model_work(1, 5);
    model.nodes[2] = model_out(2, MODEL_TOGETHER);
    model.nodes[2].is_pageable = true;
    model.nodes[3] = model_stage(2, 3);
    model.nodes[4] = model_out(4, MODEL_MEMORY);
    model.nodes[5] = model_out(2, MODEL_APART);
    model.node_count = 6;
    model.run_count = 3;
    model_run_through(&model);
}

static void item_may_be_larger_than_the_chunk(mr_device *device)
{
    struct model model = model_linear("chunk", device, host);
    model.item_bytes = 100000;
    model.item_count = 12;
    model.options.chunk_bytes = 4096;
    model_run_through(&model);
}

static void item_sizes_may_vary(mr_device *device)
{
    for (int from = MODEL_SLOTS; from <= MODEL_APART; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            struct model model = model_linear("varied", device, host);
            model.is_varied = true;
            model.item_count = 200;
            model.nodes[0].lending = from;
            model.nodes[4].lending = to;
            model.nodes[2].is_parcel_wise = true;
            model.nodes[3].is_shrinking = true;
            model_run_through(&model);
        }
    }
}

static void device_may_decide_sizes(mr_device *device)
{
    struct model model = model_linear("device sizes", device, host);
    model.options.parcel_items = 16;
    model.nodes[1].is_shrinking = model.nodes[1].is_sized_by_device = true;
    model_run_through(&model);
    model.nodes[1].is_parcel_wise = true;
    model.nodes[2].is_shrinking = true;
    model.nodes[3].is_shrinking = model.nodes[3].is_sized_by_device = true;
    model.is_varied = true;
    model_run_through(&model);
    model.nodes[4].lending = MODEL_APART;
    model_run_through(&model);
}

static void host_work_runs_in_the_same_pipeline(mr_device *device)
{
    struct model model = model_linear("work", device, host);
    model.nodes[2] = model_work(2, 9);
    model_run_through(&model);
    model.nodes[1] = model_work(1, 2);
    model.nodes[3] = model_work(3, 4);
    model_run_through(&model);
    model.nodes[2].is_shrinking = true;
    model.nodes[2].is_parcel_wise = true;
    model.is_varied = true;
    model_run_through(&model);
}

static void devices_may_alternate(mr_device *device)
{
    struct model model = model_linear("alternating", device, host);
    model.nodes[1].device = host;
    model.nodes[2].device = device;
    model.nodes[3].device = host;
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            model.nodes[0].lending = from;
            model.nodes[4].lending = to;
            model_run_through(&model);
        }
    }
}

static void stages_may_work_in_place(mr_device *device)
{
    struct model model = model_linear("in place", device, host);
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            for (int i = 1; i <= 3; i++)
                model.nodes[i].is_in_place = true;
            model.nodes[0].lending = from;
            model.nodes[4].lending = to;
            model_run_through(&model);
        }
    }
}

static void replicas_keep_the_order(mr_device *device)
{
    const uint32_t counts[] = { 2, 3, 8, MR_REPLICAS_AUTO };
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct model model = model_linear("replicas", device, host);
        model.item_count = 500;
        model.options.parcel_items = 4;
        model.nodes[1].replicas = counts[i];
        model.nodes[2] = model_work(2, 6);
        model.nodes[2].replicas = counts[i];
        model.nodes[3].replicas = i % 2 ? counts[i] : 1;
        model_run_through(&model);
    }
}

static void pipeline_may_run_again(mr_device *device)
{
    struct model model = model_linear("again", device, host);
    model.run_count = 5;
    model_run_through(&model);
    model.nodes[0].lending = MODEL_APART;
    model.nodes[0].is_pageable = true;
    model_run_through(&model);
}

static void measuring_changes_nothing(mr_device *device)
{
    struct model model = model_linear("measured", device, host);
    model.options.is_measured = true;
    model.options.parcel_items = 2;
    model.nodes[2] = model_work(2, 4);
    model.run_count = 2;
    model_run_through(&model);
}

/* ---- other shapes ---- */

static void one_output_may_have_several_readers(mr_device *device)
{
    struct model model = model_linear("fan-out", device, host);
    model.nodes[0] = model_feed(MODEL_TOGETHER);
    model.nodes[1] = model_stage(1, 5);
    model.nodes[2] = model_stage(2, 3);
    model.nodes[3] = model_work(2, 7);
    model.nodes[4] = model_out(3, MODEL_SLOTS);
    model.nodes[5] = model_out(4, MODEL_TOGETHER);
    model.nodes[6] = model_out(2, MODEL_APART);
    model.nodes[7] = model_out(1, MODEL_MEMORY);
    model.node_count = 8;
    model_run_through(&model);
}

static void stage_may_have_several_inputs(mr_device *device)
{
    struct model model = model_linear("diamond", device, host);
    model.nodes[1] = model_stage(1, 5);
    model.nodes[2] = model_stage(1, 3);
    model.nodes[3] = model_work(1, 7);
    model.nodes[4] = model_stage(2, 13);
    model.nodes[4].inputs[1] = 3;
    model.nodes[4].inputs[2] = 4;
    model.nodes[4].inputs[3] = 1;
    model.nodes[5] = model_work(5, 2);
    model.nodes[5].inputs[1] = 2;
    model.nodes[6] = model_out(6, MODEL_SLOTS);
    model.node_count = 7;
    model_run_through(&model);
    model.is_varied = true;
    model_run_through(&model);
}

static void nodes_may_come_in_any_order(mr_device *device)
{
    struct model model = model_linear("any order", device, host);
    model.nodes[1] = model_stage(4, 5);
    model.nodes[2] = model_out(2, MODEL_SLOTS);
    model.nodes[3] = model_stage(1, 3);
    model.node_count = 4;
    model_run_through(&model);
}

static void stage_may_have_no_output(mr_device *device)
{
    struct model model = model_linear("no output", device, host);
    model.nodes[3] = model_stage(3, 5);
    model.nodes[3].has_no_output = true;
    model.node_count = 4;
    model_run_through(&model);
    model.nodes[4] = model_out(2, MODEL_SLOTS);
    model.node_count = 5;
    model_run_through(&model);
}

/* ---- every shape ---- */

static void random_pipelines_do_what_a_plain_loop_does(mr_device *device)
{
    const char *text = getenv("PIPELINE_SEED");
    const char *rounds_text = getenv("PIPELINE_ROUNDS");
    const uint64_t first = text ? strtoull(text, NULL, 10) : 1;
    const uint64_t rounds = rounds_text ? strtoull(rounds_text, NULL, 10) : 25;
    for (uint64_t seed = first; seed < first + rounds; seed++) {
        struct model model;
        model_randomise(&model, device, host, seed);
        model_run_through(&model);
    }
}

static const struct suite_test tests[] = {
    SUITE_TEST(linear_pipeline_brings_every_item_through),
    SUITE_TEST(source_may_go_straight_to_sink),
    SUITE_TEST(no_items_are_no_failure),
    SUITE_TEST(one_item_is_enough),
    SUITE_TEST(every_way_of_lending_works),
    SUITE_TEST(any_number_of_slots_works),
    SUITE_TEST(parcels_of_any_size_work),
    SUITE_TEST(pageable_sink_may_share_an_output_with_a_device),
    SUITE_TEST(item_may_be_larger_than_the_chunk),
    SUITE_TEST(item_sizes_may_vary),
    SUITE_TEST(device_may_decide_sizes),
    SUITE_TEST(host_work_runs_in_the_same_pipeline),
    SUITE_TEST(devices_may_alternate),
    SUITE_TEST(stages_may_work_in_place),
    SUITE_TEST(replicas_keep_the_order),
    SUITE_TEST(pipeline_may_run_again),
    SUITE_TEST(measuring_changes_nothing),
    SUITE_TEST(one_output_may_have_several_readers),
    SUITE_TEST(stage_may_have_several_inputs),
    SUITE_TEST(nodes_may_come_in_any_order),
    SUITE_TEST(stage_may_have_no_output),
    SUITE_TEST(random_pipelines_do_what_a_plain_loop_does),
};

int main(int argc, char **argv)
{
    return suite_main_beside_cpu(argc, argv, tests, sizeof tests / sizeof *tests, &host);
}
