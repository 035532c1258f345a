/* SPDX-License-Identifier: MIT */
/*
 * Stages that work on the host: a function in stream order for each parcel. A failure is the item's,
 * never the stream's, so that the rest goes on.
 */
#include "flow/pipeline_fleet.h"

struct work_calls {
    struct mr__calls calls; /* first */
    mr_host_call call;
    const char *starts[MR_NODE_INPUT_LIMIT]; /* of the parcel's first item */
    size_t strides[MR_NODE_INPUT_LIMIT];
    const void *inputs[MR_NODE_INPUT_LIMIT];
    const size_t *sizes[MR_NODE_INPUT_LIMIT];
    char *output_start;
};

static mr_status call_work(struct mr__calls *calls, uint32_t first, uint32_t count,
                           uint32_t attempt)
{
    struct work_calls *made = (struct work_calls *)calls;
    const mr_stage_options *stage = &calls->step->node->stage;
    mr_host_call *call = &made->call;
    for (uint32_t i = 0; i < call->input_count; i++) {
        made->inputs[i] = made->starts[i] + first * made->strides[i];
        made->sizes[i] = calls->input_sizes[i] + first;
    }
    if (made->output_start) {
        call->output = made->output_start + first * call->output_stride;
        call->output_sizes = calls->output_sizes + first;
    }
    call->first_index = calls->slot->first_index + first;
    call->item_count = count;
    call->attempt = attempt;
    return stage->work(stage->context, call);
}

static mr_status call_each(struct mr__calls *calls, uint32_t *at, uint32_t end)
{
    struct work_calls *made = (struct work_calls *)calls;
    const mr_stage_options *stage = &calls->step->node->stage;
    mr_host_call *call = &made->call;
    call->item_count = 1;
    call->attempt = 0;
    for (uint32_t k = *at; k < end; k++) {
        for (uint32_t i = 0; i < call->input_count; i++) {
            made->inputs[i] = made->starts[i] + k * made->strides[i];
            made->sizes[i] = calls->input_sizes[i] + k;
        }
        if (made->output_start) {
            call->output = made->output_start + k * call->output_stride;
            call->output_sizes = calls->output_sizes + k;
        }
        call->first_index = calls->slot->first_index + k;
        const mr_status status = stage->work(stage->context, call);
        if (status || (made->output_start && calls->output_sizes[k] > calls->capacity)) {
            *at = k;
            return status;
        }
    }
    *at = end;
    return MR_OK;
}

static void make_calls(struct mr__slot_step *slot_step, struct work_calls *made)
{
    struct mr__slot *slot = slot_step->slot;
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__step *step = &plan->steps[slot_step->step];
    mr__calls_init(&made->calls, slot, step);
    made->calls.invoke = call_work;
    made->calls.invoke_each = call_each;
    made->call = (mr_host_call){ .input_count = step->input_count,
                                 .inputs = made->inputs,
                                 .input_strides = made->strides,
                                 .input_sizes = made->sizes,
                                 .output_stride = made->calls.capacity,
                                 .replica = slot_step->replica,
                                 .lane = mr__leg_lane(slot->pipeline->leg) };
    made->output_start = NULL;
    for (uint32_t i = 0; i < step->input_count; i++) {
        made->starts[i] = mr__slot_spot(slot, step->inputs[i])->host;
        made->strides[i] = plan->edges[plan->images[step->inputs[i]].edge].item_bytes;
    }
    if (step->output != MR__NONE)
        made->output_start = mr__slot_spot(slot, step->output)->host;
}

mr_status mr__stage_work(void *context)
{
    struct mr__slot_step *slot_step = context;
    const struct mr__slot *slot = slot_step->slot;
    mr_device *clock = slot->pipeline->plan->clock_device;
    struct work_calls made;
    const uint64_t start = slot->is_sampled ? mr_device_now_ns(clock) : 0;
    make_calls(slot_step, &made);
    mr__calls_run(&made.calls);
    if (slot->is_sampled)
        slot_step->busy_ns = mr_device_now_ns(clock) - start;
    return MR_OK;
}
