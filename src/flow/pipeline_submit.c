/* SPDX-License-Identifier: MIT */
/*
 * The submitting thread: takes filled parcels in order and submits their steps. No step of a parcel
 * is submitted before the same step of the parcel before it; a parcel whose next step must know
 * something first holds up only what would overtake it.
 */
#include "flow/pipeline.h"

#include <stdio.h>

enum {
    STEAL_AFTER_NS = 50000, /* a source that has not come back by then is slow */
    GLANCE_NS = 20000,      /* how long to wait for one of two things before looking at the other */
};

/* ---- parcels ---- */

static void stage_in(struct mr__slot *slot)
{
    mr_pipeline *pipeline = slot->pipeline;
    const struct mr__plan *plan = pipeline->plan;
    const struct mr__slot_image *image = &slot->images[plan->edges[plan->source_edge].origin];
    struct mr__stretch piece = { .spot = image->spot, .count = slot->item_count };
    const struct mr__stretches target = { .list = &piece, .count = 1, .capacity = 1 };
    mr__crew_open(&slot->ticket, &pipeline->run->submit_bell);
    mr__stretches_carry(plan->crew_in, &slot->ticket, &target, &slot->lent,
                        slot->sizes[plan->source_edge], plan->edges[plan->source_edge].item_bytes,
                        slot->item_count, false);
    mr__crew_close(plan->crew_in, &slot->ticket);
}

static void use_lanes(const struct mr__plan *plan, struct mr__slot *slot)
{
    for (uint32_t i = 0; i < plan->image_count; i++) {
        const struct mr__image *image = &plan->images[i];
        if (!image->is_lane)
            continue;
        mr_buffer *memory = image->lanes[slot->number % image->lane_count];
        slot->images[i].spot =
            (struct mr__spot){ .buffer = memory, .host = mr_buffer_host(memory) };
    }
}

static void begin_parcel(mr_pipeline *pipeline, struct mr__slot *slot)
{
    const struct mr__plan *plan = pipeline->plan;
    slot->next_step = 0;
    slot->size_step = MR__NONE;
    for (uint32_t i = 0; i < plan->step_count; i++)
        slot->steps[i].is_timed = false;
    if (atomic_load_explicit(&slot->has_failed, memory_order_relaxed)) {
        for (uint32_t k = 0; k < plan->parcel_items; k++)
            atomic_store_explicit(&slot->failed[k], 0, memory_order_relaxed);
        atomic_store_explicit(&slot->has_failed, false, memory_order_relaxed);
    }
    use_lanes(plan, slot);
    if (plan->is_source_staged)
        stage_in(slot);
    else if (plan->is_source_lending)
        slot->images[plan->edges[plan->source_edge].origin].spot = slot->lent.list[0].spot;
    if (plan->sink_count)
        mr__sink_lend(slot);
}

static bool begin_parcels(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    const uint64_t filled = mr__count_get(&run->filled);
    const bool has_moved = run->begun < filled;
    while (run->begun < filled)
        begin_parcel(pipeline, mr__slot_of(pipeline->plan, run->begun++));
    return has_moved;
}

/* Where a copy or a stream failed. */
static void abort_at(mr_pipeline *pipeline, const struct mr__slot *slot, mr_status status)
{
    const struct mr__plan *plan = pipeline->plan;
    char where[160];
    const uint32_t index = slot->next_step < plan->step_count ? slot->next_step : 0;
    const mr_node_report *report = &plan->reports[plan->steps[index].report];
    snprintf(where, sizeof where, "%s '%s' on %s, items %llu to %llu",
             mr_node_kind_name(report->kind), report->name, report->device,
             (unsigned long long)slot->first_index,
             (unsigned long long)(slot->first_index + slot->item_count - 1));
    mr__run_abort(pipeline, status, where);
}

/* Submits steps of one parcel below `limit` until one must wait. True when any was submitted. */
static bool advance_parcel(mr_pipeline *pipeline, struct mr__slot *slot, uint32_t limit)
{
    const uint32_t start = slot->next_step;
    while (slot->next_step < limit) {
        const mr_status status = mr__step_submit(slot, slot->next_step);
        if (status == MR_E_BUSY)
            break;
        if (status) {
            abort_at(pipeline, slot, status);
            break;
        }
        slot->next_step++;
    }
    return slot->next_step > start;
}

static void publish(mr_pipeline *pipeline, uint64_t submitted)
{
    struct mr__run *run = pipeline->run;
    mr__count_set(&run->submitted, submitted);
    for (uint32_t i = 0; i < run->sink_count; i++) {
        if (run->sinks[i].has_thread)
            mr__bell_ring(&run->sinks[i].bell);
    }
}

static bool advance_parcels(mr_pipeline *pipeline)
{
    const struct mr__plan *plan = pipeline->plan;
    struct mr__run *run = pipeline->run;
    const uint32_t end = plan->step_count + 1;
    uint64_t submitted = mr__count_get(&run->submitted);
    uint32_t limit = end;
    bool has_moved = false;
    for (uint64_t n = submitted; n < run->begun; n++) {
        struct mr__slot *slot = mr__slot_of(plan, n);
        has_moved |= advance_parcel(pipeline, slot, limit);
        if (atomic_load_explicit(&run->is_aborted, memory_order_relaxed))
            return true;
        limit = slot->next_step;
        if (limit == end)
            publish(pipeline, ++submitted);
        if (!limit)
            break;
    }
    return has_moved;
}

/* ---- waiting ---- */

static bool is_source_apart(const mr_pipeline *pipeline)
{
    return pipeline->run->has_source_thread || pipeline->leg;
}

/* Something may be done that does not hang on an event. */
static bool can_move(void *context)
{
    mr_pipeline *pipeline = context;
    const struct mr__run *run = pipeline->run;
    if (mr__count_get(&run->filled) > run->begun || atomic_load(&run->is_aborted))
        return true;
    if (is_source_apart(pipeline))
        return atomic_load(&run->is_fed);
    return mr__source_is_ready(pipeline) || atomic_load(&run->is_fed);
}

static bool can_move_or_steal(void *context)
{
    return can_move(context) || (is_source_apart(context) && mr__source_is_stealable(context));
}

/* The next parcel waits for the crew. */
static bool can_move_or_staged(void *context)
{
    mr_pipeline *pipeline = context;
    struct mr__run *run = pipeline->run;
    const struct mr__slot *slot = mr__slot_of(pipeline->plan, mr__count_get(&run->submitted));
    return mr__crew_is_done(&slot->ticket) || mr__count_get(&run->filled) > run->begun ||
           atomic_load(&run->is_aborted);
}

static void wait_for_source(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    mr__bell_wait(&run->submit_bell, can_move_or_steal, pipeline);
    if (can_move(pipeline))
        return;
    /* The source has items and is inside `next`; it ships them itself when it comes back soon. */
    if (!mr__bell_wait_for(&run->submit_bell, can_move, pipeline, STEAL_AFTER_NS))
        mr__source_steal(pipeline);
}

/* The inline sink that is furthest behind what has been submitted. */
static struct mr__sink_run *find_inline_behind(const mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    struct mr__sink_run *found = NULL;
    uint64_t least = mr__count_get(&run->submitted);
    for (uint32_t i = 0; i < run->sink_count; i++) {
        struct mr__sink_run *sink = &run->sinks[i];
        const uint64_t delivered = mr__count_get(&sink->delivered);
        if (sink->has_thread || delivered >= least)
            continue;
        least = delivered;
        found = sink;
    }
    return found;
}

/* Nothing can be done at once: waits for whatever comes first. */
static void rest(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    const uint64_t submitted = mr__count_get(&run->submitted);
    struct mr__sink_run *sink = find_inline_behind(pipeline);
    if (sink) {
        /* Alone with the device, there is nothing else to look at. */
        const bool is_alone =
            submitted == run->begun && (!is_source_apart(pipeline) || atomic_load(&run->is_fed));
        mr__sink_step(sink, is_alone ? MR_FOREVER : GLANCE_NS);
        return;
    }
    if (submitted == run->begun) {
        wait_for_source(pipeline);
        return;
    }
    struct mr__slot *slot = mr__slot_of(pipeline->plan, submitted);
    if (pipeline->plan->is_source_staged && !mr__crew_is_done(&slot->ticket))
        mr__bell_wait(&run->submit_bell, can_move_or_staged, pipeline);
    else
        mr__step_wait(slot, GLANCE_NS);
}

/* ---- the loop ---- */

static bool is_over(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    return atomic_load(&run->is_fed) && mr__count_get(&run->filled) == run->begun &&
           mr__count_get(&run->submitted) == run->begun && !find_inline_behind(pipeline);
}

void mr__submit_main(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    while (!atomic_load_explicit(&run->is_aborted, memory_order_relaxed)) {
        bool has_moved = !is_source_apart(pipeline) && mr__source_step(pipeline);
        has_moved |= begin_parcels(pipeline);
        has_moved |= advance_parcels(pipeline);
        /* Submitting comes first: it keeps the device busy. */
        if (has_moved)
            continue;
        if (is_over(pipeline))
            break;
        rest(pipeline);
    }
    atomic_store(&run->is_submitted, true);
    for (uint32_t i = 0; i < run->sink_count; i++)
        mr__bell_ring(&run->sinks[i].bell);
}
