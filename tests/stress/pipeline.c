/* SPDX-License-Identifier: MIT */
/*
 * Pipelines of any shape with stages that dawdle, items that fail, and someone who cancels or drains
 * at any moment. What comes out is right, in order, the same at every sink; nothing hangs or is left.
 *
 * PIPELINE_SEED and PIPELINE_ROUNDS choose other and more rounds.
 */
#include "../conformance/pipeline_model.h"

#include "support/check.h"
#include "support/suite.h"

static mr_device *host;

static uint64_t setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* Rounds are few enough for the sanitizers. */
static void each_seed(mr_device *device, uint64_t rounds, void (*play)(struct model *, uint64_t *))
{
    const uint64_t first = setting("PIPELINE_SEED", 1000);
    const uint64_t count = setting("PIPELINE_ROUNDS", rounds);
    for (uint64_t seed = first; seed < first + count; seed++) {
        struct model model;
        uint64_t state = seed ^ 0x5555;
        model_randomise(&model, device, host, seed);
        for (uint32_t i = 1; i < model.node_count; i++)
            model.nodes[i].is_slow = model_pick(&state, 3) == 0;
        play(&model, &state);
    }
}

static void run_slow(struct model *model, uint64_t *state)
{
    (void)state;
    model_run_through(model);
}

static void slow_stages_change_no_byte(mr_device *device)
{
    each_seed(device, 12, run_slow);
}

static void run_meddled(struct model *model, uint64_t *state)
{
    const struct model_outcome open = { .items_out = UINT64_MAX,
                                        .items_skipped = UINT64_MAX,
                                        .is_open = true };
    model->item_count = 2000;
    model->item_bytes = 1 + model_pick(state, 64);
    model->meddle_us = 1 + model_pick(state, 2000);
    model->run_count = 3;
    model_run(model, &open);
}

static void anyone_may_end_a_run_at_any_moment(mr_device *device)
{
    each_seed(device, 8, run_meddled);
}

/* A stage or two that fail for some items. */
static void add_failures(struct model *model, uint64_t *state)
{
    for (uint32_t i = 1; i < model->node_count; i++) {
        struct model_node *node = &model->nodes[i];
        if (node->kind != MR_NODE_STAGE || model_pick(state, 2))
            continue;
        node->fail_index = model_pick(state, 100);
        node->fail_period = model_pick(state, 2) ? 1 + model_pick(state, 30) : 0;
        node->fail_attempts = 1 + model_pick(state, 4);
    }
    model->options.retry_limit = model_pick(state, 4);
    model->options.on_error = model_pick(state, 2) ? MR_ERROR_SKIP : MR_ERROR_STOP;
}

static void run_failing(struct model *model, uint64_t *state)
{
    const struct model_outcome open = { .items_out = UINT64_MAX,
                                        .items_skipped = UINT64_MAX,
                                        .is_open = true };
    add_failures(model, state);
    model->run_count = 2;
    model_run(model, &open);
}

static void failing_items_never_reach_a_sink(mr_device *device)
{
    each_seed(device, 16, run_failing);
}

static void run_all_at_once(struct model *model, uint64_t *state)
{
    add_failures(model, state);
    run_meddled(model, state);
}

static void failures_and_early_ends_mix(mr_device *device)
{
    each_seed(device, 8, run_all_at_once);
}

static const struct suite_test tests[] = {
    SUITE_TEST(slow_stages_change_no_byte),
    SUITE_TEST(anyone_may_end_a_run_at_any_moment),
    SUITE_TEST(failing_items_never_reach_a_sink),
    SUITE_TEST(failures_and_early_ends_mix),
};

int main(int argc, char **argv)
{
    return suite_main_beside_cpu(argc, argv, tests, sizeof tests / sizeof *tests, &host);
}
