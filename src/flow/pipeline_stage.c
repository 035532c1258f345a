/* SPDX-License-Identifier: MIT */
/*
 * Stages that enqueue: called by the submitting thread with views of the parcel's items.
 */
#include "flow/pipeline_fleet.h"

struct submit_calls {
    struct mr__calls calls; /* first */
    struct mr__slot_step *slot_step;
    mr_stage_call call;
    mr_parcel_view inputs[MR_NODE_INPUT_LIMIT];
    mr_parcel_view output;
    size_t input_starts[MR_NODE_INPUT_LIMIT]; /* of the parcel's first item */
    size_t output_start;
};

static void make_view(const struct mr__slot *slot, uint32_t image, mr_parcel_view *view)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__spot *spot = mr__slot_spot(slot, image);
    const struct mr__edge *edge = &plan->edges[plan->images[image].edge];
    view->buffer = spot->buffer ? spot->buffer : plan->places[plan->images[image].place].window;
    view->offset = spot->buffer ? spot->offset : (uintptr_t)spot->host - MR__WINDOW_BASE;
    view->stride_bytes = edge->item_bytes;
    view->capacity_bytes = edge->item_bytes;
    view->sizes = slot->sizes[plan->images[image].edge];
    view->is_packed = true;
}

static bool is_packed(const size_t *sizes, size_t stride, uint32_t count)
{
    for (uint32_t k = 0; k + 1 < count; k++) {
        if (sizes[k] != stride)
            return false;
    }
    return true;
}

/* Points a view at items [first, first + count). */
static inline void aim_view(mr_parcel_view *view, size_t start, size_t *sizes, uint32_t first,
                            uint32_t count)
{
    view->offset = start + first * view->stride_bytes;
    view->sizes = sizes + first;
    view->is_packed = count == 1 || is_packed(view->sizes, view->stride_bytes, count);
}

/* ---- sizes that the device decides ---- */

static mr_status make_size_words(struct mr__slot_step *slot_step, mr_device *device)
{
    const struct mr__plan *plan = slot_step->slot->pipeline->plan;
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED, .name = "device sizes" };
    mr_status status = MR_OK;
    if (!slot_step->size_words)
        status = mr_buffer_create(device, plan->parcel_items * sizeof(uint64_t), &pinned,
                                  &slot_step->size_words);
    if (!status && !slot_step->event)
        status = mr_event_create(device, NULL, &slot_step->event);
    return status;
}

/* Brings the sizes to the host behind the stage's work; the rest of the parcel's steps wait until they
 * are there (mr__step_submit). Items whose sizes the host has set keep them. */
static mr_status fetch_sizes(struct submit_calls *made, uint32_t first, uint32_t count)
{
    struct mr__slot *slot = made->calls.slot;
    const uint32_t step = made->slot_step->step;
    if (!made->calls.output_sizes)
        return mr_error_set(MR_E_INVALID, "the stage set device_sizes, but has no output");
    mr_status status = make_size_words(made->slot_step, made->call.device);
    if (status)
        return status;

    if (slot->size_step != step) {
        uint64_t *words = mr_buffer_host(made->slot_step->size_words);
        for (uint32_t k = 0; k < slot->item_count; k++)
            words[k] = UINT64_MAX;
        slot->size_step = step;
    }
    return mr_copy(made->call.stream, made->slot_step->size_words, first * sizeof(uint64_t),
                   made->call.device_sizes, made->call.device_sizes_offset,
                   count * sizeof(uint64_t));
}

/* ---- calls ---- */

static mr_status call_stage(struct mr__calls *calls, uint32_t first, uint32_t count,
                            uint32_t attempt)
{
    struct submit_calls *made = (struct submit_calls *)calls;
    const mr_stage_options *stage = &calls->step->node->stage;
    mr_stage_call *call = &made->call;
    for (uint32_t i = 0; i < call->input_count; i++)
        aim_view(&made->inputs[i], made->input_starts[i], (size_t *)calls->input_sizes[i], first,
                 count);
    if (call->output)
        aim_view(call->output, made->output_start, calls->output_sizes, first, count);
    call->first_index = calls->slot->first_index + first;
    call->item_count = count;
    call->attempt = attempt;
    call->device_sizes = NULL;
    const mr_status status = stage->submit(stage->context, call);
    return !status && call->device_sizes ? fetch_sizes(made, first, count) : status;
}

/* The loop that small items are made for: nothing but the call and what changes from one to the next. */
static mr_status call_each(struct mr__calls *calls, uint32_t *at, uint32_t end)
{
    struct submit_calls *made = (struct submit_calls *)calls;
    const mr_stage_options *stage = &calls->step->node->stage;
    mr_stage_call *call = &made->call;
    const uint32_t input_count = call->input_count;
    const uint64_t first_index = calls->slot->first_index;
    for (uint32_t i = 0; i < input_count; i++)
        made->inputs[i].is_packed = true;
    made->output.is_packed = true;
    call->item_count = 1;
    call->attempt = 0;
    call->device_sizes = NULL;
    for (uint32_t k = *at; k < end; k++) {
        for (uint32_t i = 0; i < input_count; i++) {
            mr_parcel_view *view = &made->inputs[i];
            view->offset = made->input_starts[i] + k * view->stride_bytes;
            view->sizes = (size_t *)calls->input_sizes[i] + k;
        }
        if (call->output) {
            made->output.offset = made->output_start + k * made->output.stride_bytes;
            made->output.sizes = calls->output_sizes + k;
        }
        call->first_index = first_index + k;
        mr_status status = stage->submit(stage->context, call);
        if (!status && call->device_sizes) {
            status = fetch_sizes(made, k, 1);
            call->device_sizes = NULL;
        }
        if (status || (call->output && calls->output_sizes[k] > calls->capacity)) {
            *at = k;
            return status;
        }
    }
    *at = end;
    return MR_OK;
}

mr_status mr__stage_submit(struct mr__slot *slot, uint32_t index, mr_stream *stream)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__step *step = &plan->steps[index];
    struct submit_calls made;
    mr__calls_init(&made.calls, slot, step);
    made.calls.invoke = call_stage;
    made.calls.invoke_each = call_each;
    made.slot_step = &slot->steps[index];
    made.call = (mr_stage_call){
        .stream = stream,
        .device = step->node->stage.device,
        .input_count = step->input_count,
        .inputs = made.inputs,
        .replica = slot->steps[index].replica,
        .slice_limit = plan->groups[step->group].lane_replicas > 1 ? 1 : 0,
        .lane = mr__leg_lane(slot->pipeline->leg),
    };
    for (uint32_t i = 0; i < step->input_count; i++) {
        make_view(slot, step->inputs[i], &made.inputs[i]);
        made.input_starts[i] = made.inputs[i].offset;
    }
    if (step->output != MR__NONE) {
        make_view(slot, step->output, &made.output);
        made.output_start = made.output.offset;
        made.call.output = &made.output;
    }
    mr__graphed_run(&made.calls, made.slot_step, stream);
    return MR_OK;
}
