/* SPDX-License-Identifier: MIT */
/*
 * What a plan is made of at run time: streams, slots with their memory and events, windows and crews.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"

#include <stdio.h>

#include "flow/staging.h"

/* ---- streams and windows ---- */

static mr_status make_streams(mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->group_count; i++) {
        struct mr__group *group = &plan->groups[i];
        group->streams = mr__zalloc_array(group->stream_count, sizeof *group->streams);
        if (!group->streams)
            return mr__pipeline_no_memory(pipeline);
        const mr_stream_options options = { .name = group->name, .priority = group->priority };
        for (uint32_t k = 0; k < group->stream_count; k++) {
            const mr_status status = mr_stream_create(group->device, &options, &group->streams[k]);
            if (status)
                return status;
        }
    }
    return MR_OK;
}

static mr_status make_windows(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->place_count; i++) {
        struct mr__place *place = &plan->places[i];
        const mr_status status =
            mr_buffer_borrow(place->device, (void *)(uintptr_t)MR__WINDOW_BASE,
                             PTRDIFF_MAX - MR__WINDOW_BASE, MR_PLACE_PINNED, &place->window);
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status make_crews(const mr_pipeline *pipeline, struct mr__plan *plan)
{
    bool is_staged_out = false;
    for (uint32_t i = 0; i < plan->sink_count; i++)
        is_staged_out |= plan->sinks[i].is_staged;

    const uint32_t crews = plan->is_source_staged && is_staged_out ? 2 : 1;
    const uint32_t threads = mr__staging_threads(crews * mr__leg_share(pipeline->leg));
    mr_status status = MR_OK;
    if (plan->is_source_staged)
        status = mr__crew_create(threads, &plan->crew_in);
    if (!status && is_staged_out)
        status = mr__crew_create(threads, &plan->crew_out);
    return status;
}

/* ---- slots ---- */

static mr_status make_stretches(mr_pipeline *pipeline, struct mr__stretches *stretches,
                                uint32_t capacity)
{
    stretches->capacity = capacity;
    stretches->list = mr__zalloc_array(capacity, sizeof *stretches->list);
    return stretches->list ? MR_OK : mr__pipeline_no_memory(pipeline);
}

static mr_status make_slot_sizes(mr_pipeline *pipeline, const struct mr__plan *plan,
                                 struct mr__slot *slot)
{
    slot->sizes = mr__zalloc_array(pipeline->node_count, sizeof *slot->sizes);
    slot->failed = mr__zalloc_array(plan->parcel_items, sizeof *slot->failed);
    if (!slot->sizes || !slot->failed)
        return mr__pipeline_no_memory(pipeline);
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (!plan->edges[i].item_bytes)
            continue;
        slot->sizes[i] = mr__zalloc_array(plan->parcel_items, sizeof **slot->sizes);
        if (!slot->sizes[i])
            return mr__pipeline_no_memory(pipeline);
    }
    return MR_OK;
}

static mr_status make_slot_images(mr_pipeline *pipeline, const struct mr__plan *plan,
                                  struct mr__slot *slot)
{
    slot->images = mr__zalloc_array(plan->image_count, sizeof *slot->images);
    if (!slot->images)
        return mr__pipeline_no_memory(pipeline);
    for (uint32_t i = 0; i < plan->image_count; i++) {
        const struct mr__image *image = &plan->images[i];
        const mr_buffer_options options = { .place = image->kind,
                                            .name = plan->edges[image->edge].node->name };
        if (!image->has_memory)
            continue;
        struct mr__slot_image *made = &slot->images[i];
        const mr_status status =
            mr_buffer_create(image->device, image->slot_bytes, &options, &made->memory);
        if (status)
            return status;
        made->spot =
            (struct mr__spot){ .buffer = made->memory, .host = mr_buffer_host(made->memory) };
    }
    return MR_OK;
}

static mr_status make_timing(mr_device *device, struct mr__slot_step *made)
{
    const mr_event_options timing = { .has_timing = true };
    mr_status status = mr_event_create(device, &timing, &made->begin);
    if (!status)
        status = mr_event_create(device, &timing, &made->end);
    return status;
}

static mr_status make_slot_steps(mr_pipeline *pipeline, const struct mr__plan *plan,
                                 struct mr__slot *slot)
{
    slot->steps = mr__zalloc_array(plan->step_count, sizeof *slot->steps);
    if (!slot->steps)
        return mr__pipeline_no_memory(pipeline);
    for (uint32_t i = 0; i < plan->step_count; i++) {
        mr_device *device = plan->groups[plan->steps[i].group].device;
        struct mr__slot_step *made = &slot->steps[i];
        made->slot = slot;
        made->step = i;
        mr_status status = MR_OK;
        if (plan->steps[i].is_recorded)
            status = mr_event_create(device, NULL, &made->event);
        if (!status && pipeline->options.is_measured)
            status = make_timing(device, made);
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status make_slot_lending(mr_pipeline *pipeline, const struct mr__plan *plan,
                                   struct mr__slot *slot)
{
    const bool is_even = plan->source->source.memory || !plan->may_source_scatter;
    mr_status status = MR_OK;
    if (plan->is_source_lending)
        status = make_stretches(pipeline, &slot->lent, is_even ? 1 : plan->parcel_items);
    if (status || !plan->sink_count)
        return status;

    slot->sinks = mr__zalloc_array(plan->sink_count, sizeof *slot->sinks);
    if (!slot->sinks)
        return mr__pipeline_no_memory(pipeline);
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct mr__sink *sink = &plan->sinks[i];
        if (!sink->is_lending)
            continue;
        status = make_stretches(pipeline, &slot->sinks[i].lent,
                                sink->node->sink.memory ? 1 : plan->parcel_items);
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status make_slots(mr_pipeline *pipeline, struct mr__plan *plan)
{
    plan->slots = mr__zalloc_aligned(MR__LINE, plan->slot_count * sizeof *plan->slots);
    if (!plan->slots)
        return mr__pipeline_no_memory(pipeline);
    for (uint32_t i = 0; i < plan->slot_count; i++) {
        struct mr__slot *slot = &plan->slots[i];
        slot->pipeline = pipeline;
        atomic_store(&slot->fill, MR__SEALED);
        mr_status status = make_slot_sizes(pipeline, plan, slot);
        if (!status)
            status = make_slot_images(pipeline, plan, slot);
        if (!status)
            status = make_slot_steps(pipeline, plan, slot);
        if (!status)
            status = make_slot_lending(pipeline, plan, slot);
        if (status)
            return status;
    }
    for (uint32_t i = 0; i < plan->image_count; i++) {
        if (plan->images[i].has_memory)
            plan->slot_memory_bytes += plan->images[i].slot_bytes * plan->slot_count;
    }
    return MR_OK;
}

static mr_status make_lanes(mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->image_count; i++) {
        struct mr__image *image = &plan->images[i];
        const mr_buffer_options options = { .place = image->kind,
                                            .name = plan->edges[image->edge].node->name };
        if (!image->is_lane)
            continue;
        image->lane_count = plan->groups[plan->steps[image->step].group].stream_count;
        image->lanes = mr__zalloc_array(image->lane_count, sizeof *image->lanes);
        if (!image->lanes)
            return mr__pipeline_no_memory(pipeline);
        plan->slot_memory_bytes += image->slot_bytes * image->lane_count;
        for (uint32_t k = 0; k < image->lane_count; k++) {
            const mr_status status =
                mr_buffer_create(image->device, image->slot_bytes, &options, &image->lanes[k]);
            if (status)
                return status;
        }
    }
    return MR_OK;
}

mr_status mr__plan_build(mr_pipeline *pipeline, struct mr__plan *plan)
{
    mr_status status = make_streams(pipeline, plan);
    if (!status)
        status = make_windows(plan);
    if (!status)
        status = make_slots(pipeline, plan);
    if (!status)
        status = make_lanes(pipeline, plan);
    if (!status)
        status = make_crews(pipeline, plan);
    return status;
}

/* ---- back again ---- */

static void free_slot(const struct mr__plan *plan, struct mr__slot *slot)
{
    for (uint32_t i = 0; slot->sinks && i < plan->sink_count; i++)
        mr__free(slot->sinks[i].lent.list);
    mr__free(slot->sinks);
    mr__free(slot->lent.list);
    for (uint32_t i = 0; slot->steps && i < plan->step_count; i++) {
        mr_event_destroy(slot->steps[i].event);
        mr_event_destroy(slot->steps[i].begin);
        mr_event_destroy(slot->steps[i].end);
        mr_buffer_destroy(slot->steps[i].size_words);
        mr__graphed_drop(slot->steps[i].graphed);
    }
    mr__free(slot->steps);
    for (uint32_t i = 0; slot->images && i < plan->image_count; i++)
        mr_buffer_destroy(slot->images[i].memory);
    mr__free(slot->images);
    for (uint32_t i = 0; slot->sizes && i < slot->pipeline->node_count; i++)
        mr__free(slot->sizes[i]);
    mr__free(slot->sizes);
    mr__free((void *)slot->failed);
}

void mr__plan_unbuild(struct mr__plan *plan)
{
    /* Streams first: destroying one waits for its work. */
    for (uint32_t i = 0; i < plan->group_count; i++) {
        struct mr__group *group = &plan->groups[i];
        for (uint32_t k = 0; group->streams && k < group->stream_count; k++)
            mr_stream_destroy(group->streams[k]);
        mr__free(group->streams);
    }
    mr__crew_destroy(plan->crew_in);
    mr__crew_destroy(plan->crew_out);
    for (uint32_t i = 0; plan->slots && i < plan->slot_count; i++) {
        if (plan->slots[i].pipeline)
            free_slot(plan, &plan->slots[i]);
    }
    mr__free(plan->slots);
    for (uint32_t i = 0; i < plan->image_count; i++) {
        struct mr__image *image = &plan->images[i];
        for (uint32_t k = 0; image->lanes && k < image->lane_count; k++)
            mr_buffer_destroy(image->lanes[k]);
        mr__free(image->lanes);
    }
    for (uint32_t i = 0; i < plan->place_count; i++)
        mr_buffer_destroy(plan->places[i].window);
}
