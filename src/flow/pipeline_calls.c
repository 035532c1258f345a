/* SPDX-License-Identifier: MIT */
/*
 * A stage's calls for one parcel: item by item or all at once, tried again where they fail, and the
 * item left out when that does not help. The same for functions that enqueue and functions that work.
 */
#include "flow/pipeline.h"

#include <string.h>

void mr__calls_init(struct mr__calls *calls, struct mr__slot *slot, const struct mr__step *step)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    calls->slot = slot;
    calls->step = step;
    calls->output_sizes = NULL;
    calls->capacity = 0;
    for (uint32_t i = 0; i < step->input_count; i++)
        calls->input_sizes[i] = slot->sizes[plan->images[step->inputs[i]].edge];
    if (step->output != MR__NONE) {
        const uint32_t edge = plan->images[step->output].edge;
        calls->output_sizes = slot->sizes[edge];
        calls->capacity = plan->edges[edge].item_bytes;
        calls->input_capacity = plan->edges[plan->images[step->inputs[0]].edge].item_bytes;
    }
}

/* ---- sizes ---- */

static size_t ask_size(const struct mr__calls *calls, uint32_t item)
{
    const mr_stage_options *stage = &calls->step->node->stage;
    size_t inputs[MR_NODE_INPUT_LIMIT];
    for (uint32_t i = 0; i < calls->step->input_count; i++)
        inputs[i] = calls->input_sizes[i][item];
    return stage->output_size(stage->context, calls->slot->first_index + item, inputs);
}

static mr_status check_preset(const struct mr__calls *calls, size_t size)
{
    if (size <= calls->capacity)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "the output would have %zu bytes, but output_bytes is %zu",
                        size, calls->capacity);
}

mr_status mr__calls_preset(struct mr__calls *calls, uint32_t first, uint32_t count)
{
    const mr_stage_options *stage = &calls->step->node->stage;
    size_t *sizes = calls->output_sizes;
    mr_status status = MR_OK;
    if (!sizes)
        return MR_OK;
    if (!stage->output_size && stage->output_bytes) {
        for (uint32_t k = first; k < first + count; k++)
            sizes[k] = stage->output_bytes;
        return MR_OK;
    }
    if (!stage->output_size && calls->input_capacity <= calls->capacity) {
        memcpy(sizes + first, calls->input_sizes[0] + first, count * sizeof *sizes);
        return MR_OK;
    }
    for (uint32_t k = first; !status && k < first + count; k++) {
        sizes[k] = stage->output_size ? ask_size(calls, k) : calls->input_sizes[0][k];
        status = check_preset(calls, sizes[k]);
    }
    return status;
}

mr_status mr__calls_check(const struct mr__calls *calls, uint32_t first, uint32_t count)
{
    const size_t *sizes = calls->output_sizes;
    if (!sizes)
        return MR_OK;
    for (uint32_t k = first; k < first + count; k++) {
        if (sizes[k] > calls->capacity)
            return mr_error_set(MR_E_INVALID,
                                "the stage set an output size of %zu bytes, but "
                                "output_bytes is %zu",
                                sizes[k], calls->capacity);
    }
    return MR_OK;
}

/* ---- tries ---- */

static struct mr__tally *tally_of(const struct mr__calls *calls)
{
    return &calls->slot->pipeline->run->tallies[calls->step->report];
}

static mr_status try_once(struct mr__calls *calls, uint32_t first, uint32_t count, uint32_t attempt)
{
    mr_status status = mr__calls_preset(calls, first, count);
    if (!status)
        status = calls->invoke(calls, first, count, attempt);
    if (!status)
        status = mr__calls_check(calls, first, count);
    return status;
}

static uint32_t retries_allowed(const struct mr__calls *calls)
{
    return calls->step->node->stage.is_in_place ? 0 : calls->slot->pipeline->options.retry_limit;
}

/* The item failed with `status` at `attempt`: tries it again, and gives it up. */
static void save_item(struct mr__calls *calls, uint32_t item, mr_status status, uint32_t attempt)
{
    for (uint32_t left = retries_allowed(calls); status && left; left--) {
        atomic_fetch_add(&tally_of(calls)->retries, 1);
        status = try_once(calls, item, 1, ++attempt);
    }
    if (!status)
        return;
    atomic_fetch_add(&tally_of(calls)->failures, 1);
    if (calls->output_sizes)
        calls->output_sizes[item] = 0;
    mr__run_fail_item(calls->slot, item, calls->step->node, status);
}

/* Some item of several failed: finds out which by calling for each alone. Where the inputs are gone,
 * all of them have failed. */
static void save_range(struct mr__calls *calls, uint32_t first, uint32_t count, mr_status status)
{
    char words[MR_ERROR_BYTES];
    mr__words_take(status, words);
    for (uint32_t k = first; k < first + count && k < mr__slot_live_items(calls->slot); k++) {
        mr_status again;
        if (calls->step->node->stage.is_in_place)
            again = mr_error_set(status, "%s", words);
        else
            again = try_once(calls, k, 1, 1);
        if (again)
            save_item(calls, k, again, 1);
    }
}

static void run_range(struct mr__calls *calls, uint32_t first, uint32_t count)
{
    const mr_status status = try_once(calls, first, count, 0);
    if (!status)
        return;
    if (count == 1)
        save_item(calls, first, status, 0);
    else
        save_range(calls, first, count, status);
}

/* Ranges between the items that have failed before. */
static void run_parcel(struct mr__calls *calls, uint32_t count)
{
    uint32_t first = 0;
    while (first < count) {
        uint32_t end = first;
        while (end < count && !mr__slot_has_failed(calls->slot, end))
            end++;
        if (end > first)
            run_range(calls, first, end - first);
        first = end + 1;
    }
}

/* Where presetting the sizes of all failed, it is done for each item, to find the one. */
static void run_one_by_one(struct mr__calls *calls, uint32_t count)
{
    for (uint32_t k = 0; k < count; k++) {
        if (mr__slot_has_failed(calls->slot, k))
            continue;
        const mr_status status = try_once(calls, k, 1, 0);
        if (!status)
            continue;
        save_item(calls, k, status, 0);
        count = mr__slot_live_items(calls->slot);
    }
}

/* All of them in one go, as long as nothing fails. */
static void run_items(struct mr__calls *calls, uint32_t count)
{
    uint32_t k = 0;
    while (k < count) {
        mr_status status = calls->invoke_each(calls, &k, count);
        if (k == count)
            return;
        if (!status)
            status = mr__calls_check(calls, k, 1);
        if (status) {
            save_item(calls, k, status, 0);
            count = mr__slot_live_items(calls->slot);
        }
        k++;
    }
}

void mr__calls_run(struct mr__calls *calls)
{
    const uint32_t count = mr__slot_live_items(calls->slot);
    if (calls->step->node->stage.is_parcel_wise)
        run_parcel(calls, count);
    else if (mr__slot_has_any_failed(calls->slot) || mr__calls_preset(calls, 0, count))
        run_one_by_one(calls, count);
    else
        run_items(calls, count);
}
