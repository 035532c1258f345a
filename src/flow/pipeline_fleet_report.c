/* SPDX-License-Identifier: MIT */
/*
 * What a fleet did: the source and the sinks once, the steps of each lane's chain, and what became of
 * each device. Legs of one lane count together.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

/* ---- nodes ---- */

/* Of one lane: its chain's steps, between the source and the sinks. */
static uint32_t step_reports(const struct mr__plan *plan)
{
    return plan->report_count - 1 - plan->sink_count;
}

static const struct mr__leg *first_leg(const struct mr__fleet *fleet, uint32_t lane)
{
    for (uint32_t i = 0; i < fleet->leg_count; i++) {
        if (fleet->legs[i].lane == lane)
            return &fleet->legs[i];
    }
    return NULL;
}

static uint32_t lane_reports(const struct mr__fleet *fleet, uint32_t lane)
{
    const struct mr__leg *leg = first_leg(fleet, lane);
    return leg ? step_reports(leg->pipeline->plan) : 0;
}

static void add_node(mr_node_report *sum, const mr_node_report *node, uint64_t elapsed_ns)
{
    const mr_node_report before = *sum;
    *sum = *node;
    sum->items += before.items;
    sum->bytes_in += before.bytes_in;
    sum->bytes_out += before.bytes_out;
    sum->busy_ns += before.busy_ns;
    sum->failures += before.failures;
    sum->retries += before.retries;
    sum->replayed_parcels += before.replayed_parcels;
    sum->is_sampled |= before.is_sampled;
    if (sum->busy_ns > elapsed_ns * sum->replicas)
        sum->busy_ns = elapsed_ns * sum->replicas;
    const uint64_t each = sum->busy_ns / sum->replicas;
    sum->wait_ns = elapsed_ns > each ? elapsed_ns - each : 0;
}

/* A leg's node reports go to their lane's place; the source's and the sinks' are everyone's. */
static mr_status add_leg(const struct mr__fleet *fleet, const struct mr__leg *leg,
                         mr_node_report *nodes, size_t node_count, uint64_t elapsed_ns)
{
    const struct mr__plan *plan = leg->pipeline->plan;
    mr_node_report *own = mr__zalloc_array(plan->report_count, sizeof *own);
    if (!own)
        return mr_error_set(MR_E_NO_MEMORY, "pipeline '%s': out of memory for the report",
                            fleet->pipeline->name);
    mr__report_nodes(leg->pipeline, own, elapsed_ns);
    size_t base = 1;
    for (uint32_t lane = 0; lane < leg->lane; lane++)
        base += lane_reports(fleet, lane);
    add_node(&nodes[0], &own[0], elapsed_ns);
    for (uint32_t i = 0; i < step_reports(plan); i++)
        add_node(&nodes[base + i], &own[1 + i], elapsed_ns);
    for (uint32_t i = 0; i < plan->sink_count; i++)
        add_node(&nodes[node_count - plan->sink_count + i],
                 &own[plan->report_count - plan->sink_count + i], elapsed_ns);
    mr__free(own);
    return MR_OK;
}

/* ---- what was skipped ---- */

static int compare_skipped(const mr_skipped_item *a, const mr_skipped_item *b)
{
    return a->index < b->index ? -1 : a->index > b->index;
}

/* The first MR__SKIPPED_LIMIT of all legs' lists, each in item order. */
static size_t merge_skipped(const struct mr__fleet *fleet, mr_skipped_item *out)
{
    size_t count = 0;
    for (uint32_t i = 0; i < fleet->leg_count; i++) {
        const struct mr__run *run = fleet->legs[i].pipeline->run;
        for (size_t k = 0; k < run->skipped_count; k++) {
            size_t at = count;
            while (at && compare_skipped(&out[at - 1], &run->skipped[k]) > 0)
                at--;
            if (at == MR__SKIPPED_LIMIT)
                break;
            if (count < MR__SKIPPED_LIMIT)
                count++;
            memmove(&out[at + 1], &out[at], (count - at - 1) * sizeof *out);
            out[at] = run->skipped[k];
        }
    }
    return count;
}

/* ---- devices ---- */

static void report_device(const struct mr__fleet *fleet, uint32_t index, mr_device_report *out)
{
    const struct mr__lane *lane = &fleet->lanes[index];
    *out = (mr_device_report){ .lane = index,
                               .items_moved = lane->items_moved,
                               .is_lost = lane->is_lost,
                               .status = lane->status };
    snprintf(out->device, sizeof out->device, "%s", mr_device_id(lane->device));
    memcpy(out->words, lane->words, sizeof out->words);
    for (uint32_t i = 0; i < fleet->leg_count; i++) {
        const struct mr__leg *leg = &fleet->legs[i];
        const struct mr__run *run = leg->pipeline->run;
        if (leg->lane != index)
            continue;
        out->items += run->items_settled;
        out->parcels += run->parcels_settled;
        out->bytes += run->edge_bytes[leg->pipeline->plan->source_edge];
    }
}

/* ---- the whole ---- */

static void add_totals(const struct mr__leg *leg, mr_pipeline_report *report)
{
    const struct mr__plan *plan = leg->pipeline->plan;
    const struct mr__run *run = leg->pipeline->run;
    report->items_in += run->items_in;
    report->items_out += run->sinks[0].items;
    report->items_skipped += run->items_skipped;
    report->bytes_in += run->bytes_in;
    report->bytes_out += run->bytes_out;
    report->slot_count += plan->slot_count;
    report->stream_count += plan->stream_count;
    report->slot_memory_bytes += plan->slot_memory_bytes;
    report->parcels += run->parcels_settled;
}

mr_status mr__fleet_report(struct mr__fleet *fleet)
{
    mr_pipeline *pipeline = fleet->pipeline;
    const struct mr__plan *first = fleet->legs[0].pipeline->plan;
    size_t node_count = 1 + first->sink_count;
    for (uint32_t lane = 0; lane < fleet->lane_count; lane++)
        node_count += lane_reports(fleet, lane);
    mr_node_report *nodes = mr__zalloc_array(node_count, sizeof *nodes);
    if (!nodes)
        return mr_error_set(MR_E_NO_MEMORY, "pipeline '%s': out of memory for the report",
                            pipeline->name);

    mr_pipeline_report report = { .elapsed_ns = fleet->ended_ns - fleet->started_ns,
                                  .chunk_bytes = first->chunk_bytes,
                                  .parcel_items = first->parcel_items,
                                  .nodes = nodes,
                                  .node_count = node_count,
                                  .skipped = fleet->skipped,
                                  .devices = fleet->reports,
                                  .device_count = fleet->lane_count,
                                  .devices_at_once = fleet->active };
    for (uint32_t i = 0; i < fleet->leg_count; i++) {
        add_totals(&fleet->legs[i], &report);
        const mr_status status =
            add_leg(fleet, &fleet->legs[i], nodes, node_count, report.elapsed_ns);
        if (status) {
            mr__free(nodes);
            return status;
        }
    }
    report.skipped_count = merge_skipped(fleet, fleet->skipped);
    for (uint32_t lane = 0; lane < fleet->lane_count; lane++)
        report_device(fleet, lane, &fleet->reports[lane]);
    mr__report_overlap(&report);
    pipeline->report = report;
    pipeline->has_report = true;
    return MR_OK;
}
