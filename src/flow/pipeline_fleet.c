/* SPDX-License-Identifier: MIT */
/*
 * A fleet and its legs, made and freed. The first leg chooses the sizes of items and parcels; the
 * others take them over, so that an item is the same on every device.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"
#include "base/numa.h"

#include <stdio.h>
#include <string.h>

/* ---- what can be run so ---- */

static mr_status check_stage(const mr_pipeline *pipeline, const struct mr__node *node)
{
    if (node->stage.replicas > 1 || node->stage.is_independent)
        return MR_OK;
    return mr_error_set(MR_E_INVALID,
                        "stage '%s' keeps its order (replicas is %u), but pipeline '%s' runs on %u "
                        "devices at once: set is_independent, replicas to 2 or more, or "
                        "MR_REPLICAS_AUTO, where items do not depend on each other; else give the "
                        "pipeline one device",
                        node->name, node->stage.replicas, pipeline->name,
                        pipeline->options.device_count);
}

static mr_status check_stages(const mr_pipeline *pipeline)
{
    bool is_spread = false;
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind != MR_NODE_STAGE)
            continue;
        const mr_status status = check_stage(pipeline, node);
        if (status)
            return status;
        is_spread |= !node->stage.device;
    }
    if (is_spread)
        return MR_OK;
    return mr_error_set(MR_E_INVALID,
                        "pipeline '%s' has %u devices, but every stage has one of its own: leave "
                        "the device of the stages that are to run on each of them NULL",
                        pipeline->name, pipeline->options.device_count);
}

/* ---- legs ---- */

/* The caller's nodes, on one device. Inline sources and sinks get threads: a submitter must not wait for
 * another leg. */
static mr_status copy_nodes(const struct mr__leg *leg)
{
    const mr_pipeline *from = leg->fleet->pipeline;
    mr_pipeline *to = leg->pipeline;
    to->nodes = mr__zalloc_array(from->node_count, sizeof *to->nodes);
    if (!to->nodes)
        return mr__pipeline_no_memory(from);
    memcpy(to->nodes, from->nodes, from->node_count * sizeof *to->nodes);
    to->node_count = to->node_capacity = from->node_count;
    for (uint32_t i = 0; i < to->node_count; i++) {
        struct mr__node *node = &to->nodes[i];
        node->is_inline = false;
        if (node->kind == MR_NODE_STAGE && !node->stage.device)
            node->stage.device = leg->fleet->lanes[leg->lane].device;
        if (node->kind == MR_NODE_SOURCE && leg->fleet->item_bytes)
            node->source.item_bytes = leg->fleet->item_bytes;
    }
    return MR_OK;
}

/* Pinned memory and threads near the device. */
static mr_status make_plan(struct mr__leg *leg)
{
    mr_device_properties properties;
    mr_device_describe(leg->fleet->lanes[leg->lane].device, &properties);
    struct mr__numa numa;
    mr__numa_enter(properties.is_host_memory ? -1 : properties.numa_node, &numa);
    const mr_status status = mr__plan_create(leg->pipeline, &leg->pipeline->plan);
    mr__numa_leave(&numa);
    return status;
}

static void take_sizes(struct mr__fleet *fleet, const struct mr__plan *plan)
{
    if (fleet->item_bytes)
        return;
    fleet->item_bytes = plan->edges[plan->source_edge].item_bytes;
    fleet->parcel_items = plan->parcel_items;
    fleet->item_count = plan->item_count;
    fleet->sink_count = plan->sink_count ? plan->sink_count : 1;
}

static void end_leg(struct mr__leg *leg)
{
    mr_pipeline_destroy(leg->pipeline);
    mr__free(leg->replays);
    *leg = (struct mr__leg){ 0 };
}

static mr_status make_leg(struct mr__leg *leg)
{
    struct mr__fleet *fleet = leg->fleet;
    mr_pipeline_options options = fleet->pipeline->options;
    options.devices = NULL;
    options.device_count = 0;
    if (fleet->parcel_items)
        options.parcel_items = fleet->parcel_items;
    mr_status status = mr_pipeline_create(&options, &leg->pipeline);
    if (status)
        return status;
    leg->pipeline->leg = leg;
    status = copy_nodes(leg);
    if (!status)
        status = make_plan(leg);
    if (!status)
        take_sizes(fleet, leg->pipeline->plan);
    return status;
}

mr_status mr__fleet_add_leg(struct mr__fleet *fleet, uint32_t lane, struct mr__leg **out)
{
    *out = NULL;
    const uint32_t index = atomic_load(&fleet->leg_count);
    if (index == fleet->leg_capacity)
        return mr_error_set(MR_E_STATE, "pipeline '%s': no more legs: a fault of the library",
                            fleet->pipeline->name);
    struct mr__leg *leg = &fleet->legs[index];
    *leg = (struct mr__leg){ .fleet = fleet, .lane = lane };
    atomic_store(&leg->state, MR__LEG_REPLAYING);
    mr_status status = make_leg(leg);
    if (!status)
        status = mr__run_create(leg->pipeline);
    if (status) {
        char words[MR_ERROR_BYTES];
        mr__words_take(status, words);
        end_leg(leg);
        return mr_error_set(status, "%s", words);
    }
    /* Whoever fails or stops the run from now on sees it; what came before it sees itself. */
    pthread_mutex_lock(&fleet->mutex);
    atomic_store(&leg->pipeline->run->stop_index, fleet->stop_index);
    atomic_store(&fleet->leg_count, index + 1);
    pthread_mutex_unlock(&fleet->mutex);
    atomic_store(&leg->pipeline->run->is_ending, atomic_load(&fleet->is_ending));
    *out = leg;
    return MR_OK;
}

/* ---- devices ---- */

bool mr__fleet_is_lost(mr_device *device)
{
    uint64_t free_bytes, all_bytes;
    return mr_device_memory(device, &free_bytes, &all_bytes) != MR_OK;
}

void mr__fleet_lose(struct mr__fleet *fleet, uint32_t index, mr_status status, const char *words)
{
    struct mr__lane *lane = &fleet->lanes[index];
    if (atomic_exchange(&lane->is_lost, true))
        return;
    lane->status = status;
    snprintf(lane->words, sizeof lane->words, "%.255s", words);
    uint32_t left = 0;
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        left += !atomic_load(&fleet->lanes[i].is_lost);
    pthread_mutex_lock(&fleet->mutex);
    mr__governor_init(&fleet->governor, left ? left : 1);
    fleet->rate = (struct mr__rate){ 0 };
    atomic_store(&fleet->active, fleet->governor.active);
    pthread_mutex_unlock(&fleet->mutex);
}

/* A device that fails before it has done anything is one that failed. */
static mr_status add_first_legs(struct mr__fleet *fleet)
{
    mr_status status = MR_OK;
    uint32_t made = 0;
    for (uint32_t i = 0; i < fleet->lane_count; i++) {
        struct mr__leg *leg;
        const mr_status failed = mr__fleet_add_leg(fleet, i, &leg);
        if (!failed) {
            made++;
            continue;
        }
        char words[MR_ERROR_BYTES];
        mr__words_take(failed, words);
        if (failed != MR_E_DEVICE || !mr__fleet_is_lost(fleet->lanes[i].device))
            return mr_error_set(failed, "%s", words);
        mr__fleet_lose(fleet, i, failed, words);
        if (!status)
            status = failed;
    }
    return made ? MR_OK : mr_error_set(status, "%s", fleet->lanes[0].words);
}

/* ---- the fleet ---- */

static mr_status make_fleet(mr_pipeline *pipeline, struct mr__fleet *fleet)
{
    const uint32_t lanes = pipeline->options.device_count;
    /* Each leg that is lost makes one more on the lane that comes after it, at the most. */
    const uint32_t legs = lanes * (lanes + 1) / 2;
    fleet->lanes = mr__zalloc_array(lanes, sizeof *fleet->lanes);
    fleet->legs = mr__zalloc_array(legs, sizeof *fleet->legs);
    fleet->turns = mr__zalloc_array(pipeline->node_count + 1, sizeof *fleet->turns);
    fleet->skipped = mr__zalloc_array(MR__SKIPPED_LIMIT + 1, sizeof *fleet->skipped);
    fleet->reports = mr__zalloc_array(lanes, sizeof *fleet->reports);
    if (!fleet->reports || !fleet->lanes || !fleet->legs || !fleet->turns || !fleet->skipped)
        return mr__pipeline_no_memory(pipeline);
    fleet->lane_count = lanes;
    fleet->leg_capacity = legs;
    for (uint32_t i = 0; i < lanes; i++) {
        fleet->lanes[i].device = pipeline->devices[i];
        atomic_store(&fleet->lanes[i].place, i);
    }
    mr__governor_init(&fleet->governor, lanes);
    atomic_store(&fleet->active, fleet->governor.active);
    fleet->stop_index = UINT64_MAX;
    return add_first_legs(fleet);
}

mr_status mr__fleet_create(mr_pipeline *pipeline, struct mr__fleet **out)
{
    *out = NULL;
    mr_status status = check_stages(pipeline);
    if (status)
        return status;
    struct mr__fleet *fleet = mr__zalloc(sizeof *fleet);
    if (!fleet)
        return mr__pipeline_no_memory(pipeline);
    fleet->pipeline = pipeline;
    mr__bell_init(&fleet->source_bell);
    pthread_mutex_init(&fleet->mutex, NULL);
    pthread_mutex_init(&fleet->lend_mutex, NULL);
    pthread_mutex_init(&fleet->give_mutex, NULL);
    pthread_cond_init(&fleet->news, NULL);
    pthread_cond_init(&fleet->turned, NULL);
    status = make_fleet(pipeline, fleet);
    if (status) {
        char words[MR_ERROR_BYTES];
        mr__words_take(status, words);
        mr__fleet_destroy(fleet);
        return mr_error_set(status, "%s", words);
    }
    *out = fleet;
    return MR_OK;
}

void mr__fleet_destroy(struct mr__fleet *fleet)
{
    if (!fleet)
        return;
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        end_leg(&fleet->legs[i]);
    pthread_cond_destroy(&fleet->turned);
    pthread_cond_destroy(&fleet->news);
    pthread_mutex_destroy(&fleet->give_mutex);
    pthread_mutex_destroy(&fleet->lend_mutex);
    pthread_mutex_destroy(&fleet->mutex);
    mr__bell_fini(&fleet->source_bell);
    mr__free(fleet->reports);
    mr__free(fleet->skipped);
    mr__free(fleet->turns);
    mr__free(fleet->legs);
    mr__free(fleet->lanes);
    mr__free(fleet);
}
