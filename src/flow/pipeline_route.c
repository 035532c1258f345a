/* SPDX-License-Identifier: MIT */
/*
 * From nodes to steps: where each edge's items must be, which copies that implies, which streams do
 * the work, and what waits for what.
 *
 * On a GPU there is one group of streams for copies in, one for each stage and one for copies out:
 * with the copies of many parcels queued on one stream, each engine always has its next piece. On the
 * CPU consecutive stages with like replicas share a group, a *lane* for each parcel in turn, so that a
 * parcel stays in one core's cache and needs no events; a stage that keeps its order has a stream of
 * its own.
 */
#include "flow/pipeline.h"

#include <stdio.h>

/* Two kernels of one stage may overlap at their ends; more only where a stage asks for it. */
enum { GPU_AUTO_REPLICAS = 2 };

static uint32_t place_of(struct mr__plan *plan, mr_device *device)
{
    if (mr__device_is_host(device))
        return MR__HOST_PLACE;
    uint32_t i = MR__HOST_PLACE + 1;
    while (i < plan->place_count && plan->places[i].device != device)
        i++;
    if (i == plan->place_count)
        plan->places[plan->place_count++] =
            (struct mr__place){ .device = device, .copy_in = MR__NONE, .copy_out = MR__NONE };
    return i;
}

static uint32_t add_group(struct mr__plan *plan, mr_device *device, const char *name, int priority,
                          uint32_t stream_count)
{
    plan->groups[plan->group_count] = (struct mr__group){
        .device = device, .name = name, .priority = priority, .stream_count = stream_count
    };
    return plan->group_count++;
}

static uint32_t add_image(struct mr__plan *plan, uint32_t edge, uint32_t place, uint32_t step)
{
    const uint32_t id = plan->image_count++;
    plan->images[id] = (struct mr__image){
        .edge = edge, .place = place, .step = step, .root = id, .lender = MR__NONE
    };
    return id;
}

static uint32_t add_report(struct mr__plan *plan, mr_node node, mr_node_kind kind, const char *name,
                           const char *device)
{
    mr_node_report *report = &plan->reports[plan->report_count];
    report->node = node;
    report->kind = kind;
    report->replicas = 1;
    snprintf(report->name, sizeof report->name, "%s", name);
    snprintf(report->device, sizeof report->device, "%s", device);
    return plan->report_count++;
}

static uint32_t find_image(const struct mr__plan *plan, uint32_t edge, uint32_t place)
{
    for (uint32_t i = 0; i < plan->image_count; i++) {
        if (plan->images[i].edge == edge && plan->images[i].place == place)
            return i;
    }
    return MR__NONE;
}

static uint32_t add_copy(struct mr__plan *plan, uint32_t from, uint32_t place)
{
    const bool is_out = place == MR__HOST_PLACE;
    struct mr__place *side = &plan->places[is_out ? plan->images[from].place : place];
    uint32_t *group = is_out ? &side->copy_out : &side->copy_in;
    const char *name = is_out                                       ? "copy out"
                       : plan->images[from].place == MR__HOST_PLACE ? "copy in"
                                                                    : "copy across";
    if (*group == MR__NONE)
        *group = add_group(plan, side->device, is_out ? "copy out" : "copy in", 0, 1);

    const uint32_t step = plan->step_count++;
    const uint32_t image = add_image(plan, plan->images[from].edge, place, step);
    plan->images[from].reader_count++;
    plan->steps[step] = (struct mr__step){
        .kind = MR__STEP_COPY,
        .group = *group,
        .input_count = 1,
        .inputs = { from },
        .output = image,
        .report = add_report(plan, 0, MR_NODE_COPY, name, mr_device_id(side->device)),
    };
    return image;
}

/* The edge's items in `place`, with the copies that takes. */
static uint32_t require_image(struct mr__plan *plan, uint32_t edge, uint32_t place)
{
    const uint32_t found = find_image(plan, edge, place);
    if (found != MR__NONE)
        return found;

    uint32_t from = plan->edges[edge].origin;
    const uint32_t there = plan->images[from].place;
    if (place != MR__HOST_PLACE && there != MR__HOST_PLACE &&
        !mr_device_can_peer(plan->places[place].device, plan->places[there].device))
        from = require_image(plan, edge, MR__HOST_PLACE);
    return add_copy(plan, from, place);
}

static uint32_t replicas_of(const mr_stage_options *stage)
{
    if (stage->replicas != MR_REPLICAS_AUTO)
        return stage->replicas ? stage->replicas : 1;
    mr_device_properties properties;
    mr_device_describe(stage->device, &properties);
    if (!properties.is_host_memory)
        return GPU_AUTO_REPLICAS;
    return properties.multiprocessor_count ? properties.multiprocessor_count : 1;
}

/* A lane goes on through a stage that wants as many replicas, on the same device, as the stage
 * before it. */
static uint32_t choose_group(struct mr__plan *plan, const struct mr__node *node,
                             const struct mr__step *step)
{
    const mr_stage_options *stage = &node->stage;
    const uint32_t replicas = replicas_of(stage);
    const bool is_lane = replicas > 1 && mr__device_is_host(stage->device);
    const uint32_t before = plan->images[step->inputs[0]].step;
    if (is_lane && before != MR__NONE) {
        const uint32_t group = plan->steps[before].group;
        if (plan->groups[group].lane_replicas == replicas &&
            plan->groups[group].device == stage->device)
            return group;
    }
    const uint32_t group = add_group(plan, stage->device, node->name, stage->priority, replicas);
    plan->groups[group].lane_replicas = is_lane ? replicas : 0;
    return group;
}

static void route_stage(struct mr__plan *plan, uint32_t index, const struct mr__node *node)
{
    const mr_stage_options *stage = &node->stage;
    const uint32_t place = place_of(plan, stage->device);
    struct mr__step made = { .kind = stage->work ? MR__STEP_WORK : MR__STEP_SUBMIT,
                             .node = node,
                             .output = MR__NONE,
                             .input_count = node->input_count };
    for (uint32_t k = 0; k < node->input_count; k++) {
        made.inputs[k] = require_image(plan, node->inputs[k] - 1, place);
        plan->images[made.inputs[k]].reader_count++;
    }
    made.group = choose_group(plan, node, &made);
    made.report =
        add_report(plan, node->id, MR_NODE_STAGE, node->name, mr_device_id(stage->device));
    plan->has_work |= stage->work != NULL;

    const uint32_t step = plan->step_count++;
    if (!stage->has_no_output) {
        made.output = add_image(plan, index, place, step);
        plan->edges[index].origin = made.output;
    }
    plan->steps[step] = made;
}

static void route_sink(struct mr__plan *plan, const struct mr__node *node)
{
    const mr_sink_options *sink = &node->sink;
    const uint32_t image = require_image(plan, node->inputs[0] - 1, MR__HOST_PLACE);
    plan->images[image].reader_count++;
    plan->sinks[plan->sink_count++] =
        (struct mr__sink){ .node = node, .image = image, .is_lending = sink->lend || sink->memory };
}

static void route_source(struct mr__plan *plan, uint32_t index)
{
    plan->edges[index].origin = add_image(plan, index, MR__HOST_PLACE, MR__NONE);
    add_report(plan, plan->source->id, MR_NODE_SOURCE, plan->source->name, "host");
}

static void add_once(uint32_t *list, uint32_t *count, uint32_t value)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (list[i] == value)
            return;
    }
    list[(*count)++] = value;
}

/* Order between streams. The host must know a work stage's outcome (which items failed, how large
 * they came out) before it can submit what reads it, other than more work. */
static void find_waits(struct mr__plan *plan, struct mr__step *step)
{
    for (uint32_t k = 0; k < step->input_count; k++) {
        const struct mr__image *image = &plan->images[step->inputs[k]];
        if (image->step != MR__NONE && plan->steps[image->step].group != step->group) {
            add_once(step->waits, &step->wait_count, image->step);
            plan->steps[image->step].is_recorded = true;
        }
        const uint32_t origin = plan->images[plan->edges[image->edge].origin].step;
        if (step->kind != MR__STEP_WORK && origin != MR__NONE &&
            plan->steps[origin].kind == MR__STEP_WORK) {
            add_once(step->host_waits, &step->host_wait_count, origin);
            plan->steps[origin].is_recorded = true;
        }
    }
}

static void find_terminals(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const uint32_t step = plan->images[plan->sinks[i].image].step;
        if (step != MR__NONE)
            add_once(plan->terminals, &plan->terminal_count, step);
    }
    for (uint32_t i = 0; i < plan->step_count; i++) {
        if (plan->steps[i].output == MR__NONE)
            add_once(plan->terminals, &plan->terminal_count, i);
    }
    for (uint32_t i = 0; i < plan->terminal_count; i++)
        plan->steps[plan->terminals[i]].is_recorded = true;
}

static bool is_terminal(const struct mr__plan *plan, uint32_t step)
{
    for (uint32_t i = 0; i < plan->terminal_count; i++) {
        if (plan->terminals[i] == step)
            return true;
    }
    return false;
}

/* A host function that a stage has queued may fail the stage's stream. Streams that wait for it go on
 * all the same, so it must be asked itself. */
static void find_watched(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct mr__step *step = &plan->steps[i];
        if (step->kind == MR__STEP_SUBMIT && step->is_recorded && !is_terminal(plan, i))
            plan->watched[plan->watched_count++] = i;
    }
}

/* How the source's memory reaches its readers. */
static void route_source_memory(struct mr__plan *plan)
{
    const mr_source_options *source = &plan->source->source;
    const uint32_t image = plan->edges[plan->source_edge].origin;
    uint32_t copies = 0;
    for (uint32_t i = 0; i < plan->step_count; i++)
        copies += plan->steps[i].kind == MR__STEP_COPY && plan->steps[i].inputs[0] == image;

    const bool is_pageable =
        source->is_pageable ||
        (source->memory && mr_buffer_place(source->memory) == MR_PLACE_PAGEABLE);
    plan->is_source_staged = plan->is_source_lending && is_pageable && copies;
    plan->may_source_scatter = plan->is_source_staged || copies == plan->images[image].reader_count;
    for (uint32_t i = 0; plan->is_source_staged && i < plan->step_count; i++) {
        struct mr__step *step = &plan->steps[i];
        for (uint32_t k = 0; k < step->input_count; k++)
            step->needs_staged_input |= step->inputs[k] == image;
    }
}

/* A GPU reads or writes the image. */
static bool is_copied(const struct mr__plan *plan, uint32_t image)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct mr__step *step = &plan->steps[i];
        if (step->kind == MR__STEP_COPY && (step->inputs[0] == image || step->output == image))
            return true;
    }
    return false;
}

static bool is_pageable_sink(const mr_sink_options *sink)
{
    return sink->is_pageable ||
           (sink->memory && mr_buffer_place(sink->memory) == MR_PLACE_PAGEABLE);
}

/* Sinks' lent memory is written by the work itself: by the copy out, piece by piece, or by a CPU
 * stage when it is one stretch. But no GPU goes to pageable memory: from a pinned slot, the crew
 * carries the items there. */
static void route_sink_memory(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        struct mr__sink *sink = &plan->sinks[i];
        struct mr__image *image = &plan->images[sink->image];
        if (!sink->is_lending || image->step == MR__NONE)
            continue;
        sink->is_staged = is_pageable_sink(&sink->node->sink) && is_copied(plan, sink->image);
        if (sink->is_staged || image->lender != MR__NONE)
            continue;
        image->lender = i;
        struct mr__step *step = &plan->steps[image->step];
        step->is_scattered = step->kind == MR__STEP_COPY && image->reader_count == 1;
    }
}

static void route_in_place(struct mr__plan *plan, bool is_leg)
{
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct mr__step *step = &plan->steps[i];
        if (!step->node || !step->node->stage.is_in_place)
            continue;
        struct mr__image *output = &plan->images[step->output];
        const struct mr__image *input = &plan->images[step->inputs[0]];
        /* A fleet's source items must stay as they are: another device may have to read them. */
        const bool is_lent = input->step == MR__NONE &&
                             (is_leg || (plan->is_source_lending && !plan->is_source_staged));
        if (input->reader_count == 1 && !is_lent && output->lender == MR__NONE &&
            plan->edges[input->edge].item_bytes == plan->edges[output->edge].item_bytes)
            output->root = input->root;
    }
}

static bool needs_memory(const struct mr__plan *plan, uint32_t id)
{
    const struct mr__image *image = &plan->images[id];
    if (image->root != id)
        return false;
    if (image->step == MR__NONE)
        return !plan->is_source_lending || plan->is_source_staged;
    if (image->lender == MR__NONE)
        return true;
    if (plan->steps[image->step].is_scattered)
        return false;

    /* A CPU stage may write straight to the sink's memory where that has room for every item at
     * full size; otherwise a short last item is brought there afterwards. */
    const mr_sink_options *sink = &plan->sinks[image->lender].node->sink;
    size_t need;
    return !sink->memory || !plan->item_count ||
           __builtin_mul_overflow(plan->item_count, plan->edges[image->edge].item_bytes, &need) ||
           need > sink->memory_bytes;
}

static bool is_read_in_lane(const struct mr__plan *plan, uint32_t id, uint32_t group)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        if (plan->sinks[i].image == id)
            return false;
    }
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct mr__step *step = &plan->steps[i];
        for (uint32_t k = 0; k < step->input_count; k++) {
            if (step->inputs[k] == id && (step->group != group || step->host_wait_count))
                return false;
        }
    }
    return true;
}

/* Whether nobody outside one lane touches the memory of `root`, under whatever name. */
static bool stays_in_lane(const struct mr__plan *plan, uint32_t root)
{
    const uint32_t step = plan->images[root].step;
    if (step == MR__NONE || plan->images[root].lender != MR__NONE ||
        !plan->groups[plan->steps[step].group].lane_replicas)
        return false;
    for (uint32_t i = 0; i < plan->image_count; i++) {
        if (plan->images[i].root == root && !is_read_in_lane(plan, i, plan->steps[step].group))
            return false;
    }
    return true;
}

static void share_in_lanes(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->image_count; i++) {
        struct mr__image *image = &plan->images[i];
        if (!image->has_memory || !stays_in_lane(plan, i))
            continue;
        image->has_memory = false;
        image->is_lane = true;
        plan->steps[image->step].has_lane_output = true;
    }
}

/* Host memory that a GPU copies from or to is pinned by that GPU. */
static void place_memory(struct mr__plan *plan, uint32_t id)
{
    struct mr__image *image = &plan->images[id];
    image->has_memory = needs_memory(plan, id);
    if (image->place != MR__HOST_PLACE) {
        image->device = plan->places[image->place].device;
        image->kind = MR_PLACE_DEVICE;
        return;
    }
    image->device = plan->host_device;
    image->kind = MR_PLACE_DEVICE;
    for (uint32_t i = 0; i < plan->step_count; i++) {
        const struct mr__step *step = &plan->steps[i];
        if (step->kind != MR__STEP_COPY)
            continue;
        if (plan->images[step->inputs[0]].root == id || plan->images[step->output].root == id) {
            image->device = plan->groups[step->group].device;
            image->kind = MR_PLACE_PINNED;
        }
    }
}

mr_status mr__plan_route(mr_pipeline *pipeline, struct mr__plan *plan)
{
    plan->place_count = MR__HOST_PLACE + 1;
    plan->places[MR__HOST_PLACE] = (struct mr__place){ .device = plan->host_device,
                                                       .copy_in = MR__NONE,
                                                       .copy_out = MR__NONE };
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const uint32_t index = plan->order[i];
        const struct mr__node *node = &pipeline->nodes[index];
        if (node->kind == MR_NODE_SOURCE)
            route_source(plan, index);
        else if (node->kind == MR_NODE_STAGE)
            route_stage(plan, index, node);
        else
            route_sink(plan, node);
    }
    for (uint32_t i = 0; i < plan->sink_count; i++)
        plan->sinks[i].report = add_report(plan, plan->sinks[i].node->id, MR_NODE_SINK,
                                           plan->sinks[i].node->name, "host");

    for (uint32_t i = 0; i < plan->step_count; i++)
        find_waits(plan, &plan->steps[i]);
    find_terminals(plan);
    find_watched(plan);
    route_source_memory(plan);
    route_sink_memory(plan);
    route_in_place(plan, pipeline->leg);
    for (uint32_t i = 0; i < plan->image_count; i++)
        place_memory(plan, i);
    share_in_lanes(plan);

    const mr_source_options *source = &plan->source->source;
    if (source->memory && !mr_buffer_host(source->memory) && !plan->may_source_scatter)
        return mr_error_set(MR_E_INVALID,
                            "source '%s': its memory is on %s, but a CPU stage or a sink reads it: "
                            "give it host memory",
                            plan->source->name, mr_device_id(mr_buffer_device(source->memory)));
    return MR_OK;
}
