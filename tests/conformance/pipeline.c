/* SPDX-License-Identifier: MIT */
/*
 * Pipelines of every shape bring every item through, in order, byte for byte.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/suite.h"

static mr_device *host;

static struct model_node feed(enum model_lending lending)
{
    return (struct model_node){ .kind = MR_NODE_SOURCE, .lending = lending };
}

static struct model_node stage(mr_node input, uint32_t rotation)
{
    return (struct model_node){ .kind = MR_NODE_STAGE,
                                .inputs = { input },
                                .rotation = rotation,
                                .tag = (uint8_t)(rotation * 7 + 1) };
}

static struct model_node work(mr_node input, uint32_t rotation)
{
    struct model_node made = stage(input, rotation);
    made.is_work = true;
    return made;
}

static struct model_node out(mr_node input, enum model_lending lending)
{
    return (struct model_node){ .kind = MR_NODE_SINK, .inputs = { input }, .lending = lending };
}

/* source ─► stage ─► stage ─► stage ─► sink, filled, of 100 items. */
static struct model linear(mr_device *device, const char *name)
{
    return (struct model){ .name = name,
                           .device = device,
                           .host = host,
                           .nodes = { feed(MODEL_SLOTS), stage(1, 5), stage(2, 3), stage(3, 11),
                                      out(4, MODEL_SLOTS) },
                           .node_count = 5,
                           .item_bytes = 96,
                           .item_count = 100,
                           .seed = 1 };
}

static void linear_pipeline_brings_every_item_through(mr_device *device)
{
    struct model model = linear(device, "linear");
    model_run_through(&model);
    model.item_count = 10000;
    model_run_through(&model);
}

static void no_items_are_no_failure(mr_device *device)
{
    struct model model = linear(device, "none");
    model.item_count = 0;
    model_run_through(&model);
}

static void every_way_of_lending_works(mr_device *device)
{
    for (int from = MODEL_SLOTS; from <= MODEL_MEMORY; from++) {
        for (int to = MODEL_SLOTS; to <= MODEL_MEMORY; to++) {
            for (int bits = 0; bits < 16; bits++) {
                struct model model = linear(device, "lending");
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

static void host_work_runs_in_the_same_pipeline(mr_device *device)
{
    struct model model = linear(device, "work");
    model.nodes[2] = work(2, 9);
    model_run_through(&model);
    model.nodes[1] = work(1, 2);
    model.nodes[3] = work(3, 4);
    model_run_through(&model);
}

static const struct suite_test tests[] = {
    SUITE_TEST(linear_pipeline_brings_every_item_through),
    SUITE_TEST(no_items_are_no_failure),
    SUITE_TEST(every_way_of_lending_works),
    SUITE_TEST(host_work_runs_in_the_same_pipeline),
};

int main(int argc, char **argv)
{
    CHECK_OK(mr_device_open("cpu", NULL, &host));
    const int status = suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
    if (mr_device_close(host) && !status)
        return 1;
    return status;
}
