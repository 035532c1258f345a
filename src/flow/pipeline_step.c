/* SPDX-License-Identifier: MIT */
/*
 * One step of one parcel: what it waits for, what it enqueues, what others will wait for.
 */
#include "flow/pipeline.h"

#include <stdio.h>

/* Own memory between items may be copied along: a copy call costs as much as this many bytes. */
enum { GAP_BYTES = 64 << 10 };

uint32_t mr__slot_live_items(const struct mr__slot *slot)
{
    const uint64_t stop =
        atomic_load_explicit(&slot->pipeline->run->stop_index, memory_order_acquire);
    if (stop <= slot->first_index)
        return 0;
    const uint64_t left = stop - slot->first_index;
    return left < slot->item_count ? (uint32_t)left : slot->item_count;
}

bool mr__slot_has_any_failed(const struct mr__slot *slot)
{
    return atomic_load_explicit(&slot->has_failed, memory_order_acquire);
}

bool mr__slot_has_failed(const struct mr__slot *slot, uint32_t item)
{
    return mr__slot_has_any_failed(slot) &&
           atomic_load_explicit(&slot->failed[item], memory_order_relaxed);
}

const struct mr__spot *mr__slot_spot(const struct mr__slot *slot, uint32_t image)
{
    return &slot->images[slot->pipeline->plan->images[image].root].spot;
}

/* ---- what the host must know first ---- */

/* Judges the sizes that the device has decided for a step's output. */
static mr_status take_sizes(struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    struct mr__slot_step *slot_step = &slot->steps[slot->size_step];
    const struct mr__step *step = &plan->steps[slot->size_step];
    const struct mr__edge *edge = &plan->edges[plan->images[step->output].edge];
    const uint64_t *words = mr_buffer_host(slot_step->size_words);
    size_t *sizes = slot->sizes[plan->images[step->output].edge];
    slot->size_step = MR__NONE;
    for (uint32_t k = 0; k < mr__slot_live_items(slot); k++) {
        if (words[k] == UINT64_MAX || mr__slot_has_failed(slot, k))
            continue;
        if (words[k] <= edge->item_bytes) {
            sizes[k] = words[k];
            continue;
        }
        sizes[k] = 0;
        mr__run_fail_item(slot, k, step->node,
                          mr_error_set(MR_E_INVALID,
                                       "the device decided on %llu bytes, but output_bytes is %zu",
                                       (unsigned long long)words[k], edge->item_bytes));
    }
    return MR_OK;
}

/* MR_E_BUSY while the device has not decided on sizes that it is to decide on. */
static mr_status look_for_sizes(struct mr__slot *slot)
{
    if (slot->size_step == MR__NONE)
        return MR_OK;
    const mr_status status = mr_event_query(slot->steps[slot->size_step].event);
    if (!status)
        take_sizes(slot);
    return status;
}

/* The parcel before in the same lane has steps to submit that still read the lane's memory. */
static bool is_lane_taken(const struct mr__slot *slot, const struct mr__step *step)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const uint32_t lanes = plan->groups[step->group].stream_count;
    return step->has_lane_output && slot->number >= lanes &&
           mr__count_get(&slot->pipeline->run->submitted) <= slot->number - lanes;
}

/* MR_E_BUSY while the step's inputs have outcomes that the host does not know yet. */
static mr_status look_ahead(struct mr__slot *slot, const struct mr__step *step)
{
    if (is_lane_taken(slot, step))
        return MR_E_BUSY;
    if (step->needs_staged_input && !mr__crew_is_done(&slot->ticket))
        return MR_E_BUSY;
    mr_status status = look_for_sizes(slot);
    for (uint32_t i = 0; !status && i < step->host_wait_count; i++)
        status = mr_event_query(slot->steps[step->host_waits[i]].event);
    return status;
}

/* What the slot's next step waits for on the host, other than the crew. */
static const mr_event *find_obstacle(const struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    if (slot->size_step != MR__NONE)
        return slot->steps[slot->size_step].event;
    if (slot->next_step == plan->step_count)
        return NULL;
    const struct mr__step *step = &plan->steps[slot->next_step];
    for (uint32_t i = 0; i < step->host_wait_count; i++) {
        const mr_event *event = slot->steps[step->host_waits[i]].event;
        if (mr_event_query(event) == MR_E_BUSY)
            return event;
    }
    return NULL;
}

void mr__step_wait(struct mr__slot *slot, uint64_t timeout_ns)
{
    const mr_event *event = find_obstacle(slot);
    if (!event)
        return;
    const mr_status status = mr_event_wait_for(event, timeout_ns);
    (void)status; /* the step looks itself */
}

/* ---- copies ---- */

/* The parcel's items of an image: lent by source or sink, or in one piece. */
static const struct mr__stretches *stretches_of(struct mr__slot *slot, uint32_t id,
                                                struct mr__stretches *made,
                                                struct mr__stretch *piece)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__image *image = &plan->images[id];
    if (image->step == MR__NONE && plan->is_source_lending && !plan->is_source_staged)
        return &slot->lent;
    if (image->step != MR__NONE && plan->steps[image->step].is_scattered)
        return &slot->sinks[image->lender].lent;
    *piece = (struct mr__stretch){ .spot = *mr__slot_spot(slot, id), .count = slot->item_count };
    *made = (struct mr__stretches){ .list = piece, .count = 1, .capacity = 1 };
    return made;
}

static bool is_lent(const struct mr__slot *slot, uint32_t id)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__image *image = &plan->images[id];
    return (image->step == MR__NONE && plan->is_source_lending) || image->lender != MR__NONE;
}

static mr_status submit_copy(struct mr__slot *slot, const struct mr__step *step, mr_stream *stream)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const uint32_t edge = plan->images[step->output].edge;
    const uint32_t from = step->inputs[0], to = step->output;
    const uint32_t there = plan->images[to].place == MR__HOST_PLACE ? plan->images[from].place
                                                                    : plan->images[to].place;
    struct mr__stretches sources, targets;
    struct mr__stretch source, target;
    const struct mr__stretches *read = stretches_of(slot, from, &sources, &source);
    const struct mr__stretches *written = stretches_of(slot, to, &targets, &target);
    const size_t gap = is_lent(slot, from) || is_lent(slot, to) ? 0 : GAP_BYTES;
    return mr__stretches_copy(stream, &plan->places[there], written, read, slot->sizes[edge],
                              plan->edges[edge].item_bytes, mr__slot_live_items(slot), gap);
}

/* ---- the step ---- */

static mr_status submit_work(struct mr__slot *slot, uint32_t index, const struct mr__step *step,
                             mr_stream *stream)
{
    switch (step->kind) {
    case MR__STEP_COPY:
        return submit_copy(slot, step, stream);
    case MR__STEP_SUBMIT:
        return mr__stage_submit(slot, index, stream);
    case MR__STEP_WORK:
        return mr_stream_call(stream, mr__stage_work, &slot->steps[index]);
    }
    return MR_OK;
}

static mr_status submit_timed(struct mr__slot *slot, uint32_t index, const struct mr__step *step,
                              mr_stream *stream)
{
    struct mr__slot_step *slot_step = &slot->steps[index];
    mr_device *clock = slot->pipeline->plan->clock_device;
    mr_status status = MR_OK;
    if (slot_step->begin)
        status = mr_event_record(slot_step->begin, stream);
    const uint64_t start = mr_device_now_ns(clock);
    if (!status)
        status = submit_work(slot, index, step, stream);
    if (step->kind != MR__STEP_WORK)
        slot_step->busy_ns = mr_device_now_ns(clock) - start;
    if (!status && slot_step->end)
        status = mr_event_record(slot_step->end, stream);
    slot_step->is_timed = !status && slot_step->end;
    return status;
}

mr_status mr__step_submit(struct mr__slot *slot, uint32_t index)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    if (!mr__slot_live_items(slot))
        return MR_OK;
    if (index == plan->step_count)
        return look_for_sizes(slot);

    const struct mr__step *step = &plan->steps[index];
    struct mr__slot_step *slot_step = &slot->steps[index];
    mr_status status = look_ahead(slot, step);
    if (status)
        return status;

    const struct mr__group *group = &plan->groups[step->group];
    slot_step->replica = (uint32_t)(slot->number % group->stream_count);
    mr_stream *stream = group->streams[slot_step->replica];
    for (uint32_t i = 0; !status && i < step->wait_count; i++)
        status = mr_stream_wait_event(stream, slot->steps[step->waits[i]].event);
    if (!status)
        status = slot->is_sampled ? submit_timed(slot, index, step, stream)
                                  : submit_work(slot, index, step, stream);
    if (!status && (step->is_recorded || slot->size_step == index))
        status = mr_event_record(slot_step->event, stream);
    return status;
}
