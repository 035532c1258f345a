/* SPDX-License-Identifier: MIT */
/*
 * The plan as a whole: its parts made in order, and given back.
 */
#include "flow/pipeline.h"

#include "base/alloc.h"

/* Upper bounds, so that nothing is resized while the plan is made: every stage and sink may need each
 * of its inputs in one more place, and a copy between GPUs may take a second one, through the host. */
static mr_status make_arrays(const mr_pipeline *pipeline, struct mr__plan *plan)
{
    const size_t nodes = pipeline->node_count;
    size_t inputs = 0;
    for (size_t i = 0; i < nodes; i++)
        inputs += pipeline->nodes[i].input_count;

    const size_t images = nodes + 2 * inputs;
    plan->order = mr__zalloc_array(nodes, sizeof *plan->order);
    plan->edges = mr__zalloc_array(nodes, sizeof *plan->edges);
    plan->images = mr__zalloc_array(images, sizeof *plan->images);
    plan->steps = mr__zalloc_array(images + nodes, sizeof *plan->steps);
    plan->groups = mr__zalloc_array(3 * nodes + 2, sizeof *plan->groups);
    plan->places = mr__zalloc_array(nodes + 1, sizeof *plan->places);
    plan->sinks = mr__zalloc_array(nodes, sizeof *plan->sinks);
    plan->terminals = mr__zalloc_array(nodes, sizeof *plan->terminals);
    plan->watched = mr__zalloc_array(nodes, sizeof *plan->watched);
    plan->reports = mr__zalloc_array(images + 2 * nodes, sizeof *plan->reports);
    if (!plan->order || !plan->edges || !plan->images || !plan->steps || !plan->groups ||
        !plan->places || !plan->sinks || !plan->terminals || !plan->watched || !plan->reports)
        return mr__pipeline_no_memory(pipeline);
    return MR_OK;
}

/* The device whose clock is read, and the one that host memory comes from when no GPU pins it. */
static mr_status choose_devices(const mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind != MR_NODE_STAGE)
            continue;
        if (!plan->clock_device)
            plan->clock_device = node->stage.device;
        if (!plan->host_device && mr__device_is_host(node->stage.device))
            plan->host_device = node->stage.device;
    }
    if (plan->host_device)
        return MR_OK;

    const mr_status status = mr_device_open("cpu", NULL, &plan->own_cpu);
    if (status)
        return status;
    plan->host_device = plan->own_cpu;
    if (!plan->clock_device)
        plan->clock_device = plan->own_cpu;
    return MR_OK;
}

static void find_source(const mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (pipeline->nodes[i].kind == MR_NODE_SOURCE) {
            plan->source = &pipeline->nodes[i];
            plan->source_edge = i;
        }
    }
    const mr_source_options *source = &plan->source->source;
    plan->is_source_lending = source->is_lending || source->memory;
}

mr_status mr__plan_create(mr_pipeline *pipeline, struct mr__plan **out)
{
    *out = NULL;
    if (!pipeline->node_count)
        return mr_error_set(MR_E_INVALID, "pipeline '%s' has no nodes", pipeline->name);
    struct mr__plan *plan = mr__zalloc(sizeof *plan);
    if (!plan)
        return mr__pipeline_no_memory(pipeline);

    mr_status status = make_arrays(pipeline, plan);
    if (!status)
        status = mr__graph_check(pipeline, plan->order);
    if (status)
        goto fail;
    find_source(pipeline, plan);
    status = choose_devices(pipeline, plan);
    if (!status)
        status = mr__plan_size_items(pipeline, plan);
    if (!status)
        status = mr__plan_route(pipeline, plan);
    if (!status)
        status = mr__plan_size_parcels(pipeline, plan);
    if (!status)
        status = mr__plan_build(pipeline, plan);
    if (status)
        goto fail;
    *out = plan;
    return MR_OK;

fail:
    mr__plan_destroy(plan);
    return status;
}

void mr__plan_destroy(struct mr__plan *plan)
{
    if (!plan)
        return;
    mr__plan_unbuild(plan);
    if (plan->own_cpu) {
        const mr_status status = mr_device_close(plan->own_cpu);
        (void)status; /* busy: others use it */
    }
    mr__free(plan->reports);
    mr__free(plan->watched);
    mr__free(plan->terminals);
    mr__free(plan->sinks);
    mr__free(plan->places);
    mr__free(plan->groups);
    mr__free(plan->steps);
    mr__free(plan->images);
    mr__free(plan->edges);
    mr__free(plan->order);
    mr__free(plan);
}
