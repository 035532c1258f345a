/* SPDX-License-Identifier: MIT */
/*
 * What a run did, node by node. Times are taken of one parcel in measure_period and scaled up; of
 * sources and sinks that are slow, of every parcel.
 */
#include "flow/pipeline.h"

#include "base/alloc.h"

#include <string.h>

/* ---- while it runs ---- */

static void tell_time(const struct mr__slot *slot, const struct mr__step *step, uint64_t busy_ns)
{
    if (step->kind == MR__STEP_COPY || !step->node->stage.note_time)
        return;
    step->node->stage.note_time(step->node->stage.context, slot->first_index, slot->item_count,
                                busy_ns);
}

static void settle_step(struct mr__run *run, const struct mr__plan *plan, struct mr__slot *slot,
                        uint32_t index)
{
    struct mr__slot_step *slot_step = &slot->steps[index];
    struct mr__tally *tally = &run->tallies[plan->steps[index].report];
    int64_t elapsed_ns;
    uint64_t busy_ns = slot_step->busy_ns;
    const bool is_timed = slot_step->is_timed &&
                          !mr_event_elapsed(slot_step->begin, slot_step->end, &elapsed_ns) &&
                          elapsed_ns >= 0;
    if (is_timed) {
        busy_ns = (uint64_t)elapsed_ns;
        tally->is_timed = true;
    }
    tally->busy_ns += busy_ns;
    tally->sampled_items += slot->item_count;
    if (is_timed)
        tell_time(slot, &plan->steps[index], busy_ns);
}

void mr__report_settle(struct mr__slot *slot)
{
    const mr_pipeline *pipeline = slot->pipeline;
    const struct mr__plan *plan = pipeline->plan;
    struct mr__run *run = pipeline->run;
    const uint32_t count = mr__slot_live_items(slot);
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const size_t *sizes = slot->sizes[i];
        uint64_t bytes = 0;
        for (uint32_t k = 0; sizes && k < count; k++)
            bytes += sizes[k];
        run->edge_bytes[i] += bytes;
    }
    run->items_settled += count;
    run->parcels_settled++;
    for (uint32_t i = 0; slot->is_sampled && count == slot->item_count && i < plan->step_count; i++)
        settle_step(run, plan, slot, i);
}

/* ---- afterwards ---- */

static uint64_t scale(uint64_t busy_ns, uint64_t sampled_items, uint64_t items)
{
    return sampled_items ? (uint64_t)((double)busy_ns * (double)items / (double)sampled_items) : 0;
}

static void finish_node(mr_node_report *node, uint64_t items, uint64_t busy_ns,
                        uint64_t sampled_items, uint64_t elapsed_ns)
{
    node->items = items;
    node->busy_ns = scale(busy_ns, sampled_items, items);
    /* Samples of a node that works by fits and starts may add up to more than there was. */
    if (node->busy_ns > elapsed_ns * node->replicas)
        node->busy_ns = elapsed_ns * node->replicas;
    const uint64_t each = node->busy_ns / node->replicas;
    node->wait_ns = elapsed_ns > each ? elapsed_ns - each : 0;
}

static void report_step(const mr_pipeline *pipeline, uint32_t index, mr_node_report *node,
                        uint64_t elapsed_ns)
{
    const struct mr__plan *plan = pipeline->plan;
    const struct mr__run *run = pipeline->run;
    const struct mr__step *step = &plan->steps[index];
    const struct mr__tally *tally = &run->tallies[step->report];
    for (uint32_t i = 0; i < step->input_count; i++)
        node->bytes_in += run->edge_bytes[plan->images[step->inputs[i]].edge];
    if (step->output != MR__NONE)
        node->bytes_out = run->edge_bytes[plan->images[step->output].edge];
    node->replicas = plan->groups[step->group].stream_count;
    node->failures = tally->failures;
    node->retries = tally->retries;
    node->is_sampled = tally->is_timed;
    mr__graphed_report(run, plan, index, node);
    finish_node(node, run->items_settled, tally->busy_ns, tally->sampled_items, elapsed_ns);
}

void mr__report_nodes(const mr_pipeline *pipeline, mr_node_report *nodes, uint64_t elapsed_ns)
{
    const struct mr__plan *plan = pipeline->plan;
    const struct mr__run *run = pipeline->run;
    memcpy(nodes, plan->reports, plan->report_count * sizeof *nodes);
    nodes[0].bytes_out = run->bytes_in;
    finish_node(&nodes[0], run->items_in, run->source_busy_ns, run->source_sampled_items,
                elapsed_ns);
    for (uint32_t i = 0; i < plan->step_count; i++)
        report_step(pipeline, i, &nodes[plan->steps[i].report], elapsed_ns);
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct mr__sink_run *sink = &run->sinks[i];
        mr_node_report *node = &nodes[plan->sinks[i].report];
        node->bytes_in = sink->bytes;
        finish_node(node, sink->items, sink->busy_ns, sink->sampled_items, elapsed_ns);
    }
}

void mr__report_overlap(mr_pipeline_report *report)
{
    uint64_t sum = 0, longest = 0;
    for (size_t i = 0; i < report->node_count; i++) {
        const mr_node_report *node = &report->nodes[i];
        const uint64_t each = node->busy_ns / node->replicas;
        sum += node->busy_ns;
        if (each <= longest)
            continue;
        longest = each;
        report->bottleneck = i;
    }
    if (report->elapsed_ns)
        report->overlap = (double)sum / (double)report->elapsed_ns;
    if (longest)
        report->overlap_bound = (double)sum / (double)longest;
}

mr_status mr__report_make(mr_pipeline *pipeline)
{
    const struct mr__plan *plan = pipeline->plan;
    const struct mr__run *run = pipeline->run;
    mr_node_report *nodes = mr__zalloc_array(plan->report_count, sizeof *nodes);
    if (!nodes)
        return mr_error_set(MR_E_NO_MEMORY, "pipeline '%s': out of memory for the report",
                            pipeline->name);
    const uint64_t elapsed_ns = run->ended_ns - run->started_ns;
    mr__report_nodes(pipeline, nodes, elapsed_ns);
    pipeline->report = (mr_pipeline_report){
        .items_in = run->items_in,
        .items_out = run->sinks[0].items,
        .items_skipped = run->items_skipped,
        .bytes_in = run->bytes_in,
        .bytes_out = run->bytes_out,
        .elapsed_ns = elapsed_ns,
        .chunk_bytes = plan->chunk_bytes,
        .parcel_items = plan->parcel_items,
        .slot_count = plan->slot_count,
        .stream_count = plan->stream_count,
        .parcels = mr__count_get(&run->filled),
        .slot_memory_bytes = plan->slot_memory_bytes,
        .nodes = nodes,
        .node_count = plan->report_count,
        .skipped = run->skipped,
        .skipped_count = run->skipped_count,
    };
    mr__report_overlap(&pipeline->report);
    pipeline->has_report = true;
    return MR_OK;
}

void mr__report_clear(mr_pipeline *pipeline)
{
    mr__free((void *)pipeline->report.nodes);
    pipeline->report = (mr_pipeline_report){ 0 };
    pipeline->has_report = false;
}

mr_status mr_pipeline_report_get(const mr_pipeline *pipeline, const mr_pipeline_report **out)
{
    *out = NULL;
    if (!pipeline->has_report)
        return mr_error_set(MR_E_STATE, "pipeline '%s' has no report: it has not ended a run",
                            pipeline->name);
    *out = &pipeline->report;
    return MR_OK;
}
