/* SPDX-License-Identifier: MIT */
/*
 * Whether the nodes make a graph that can run: one source, inputs that exist and put something out,
 * no cycle, nothing that leads nowhere. Sizes are checked where they are worked out (pipeline_size.c).
 */
#include "flow/pipeline.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

const char *mr_node_kind_name(mr_node_kind kind)
{
    switch (kind) {
    case MR_NODE_SOURCE:
        return "source";
    case MR_NODE_STAGE:
        return "stage";
    case MR_NODE_SINK:
        return "sink";
    case MR_NODE_COPY:
        return "copy";
    }
    return "unknown";
}

bool mr__device_is_host(const mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    return properties.is_host_memory;
}

static bool has_output(const struct mr__node *node)
{
    return node->kind == MR_NODE_SOURCE ||
           (node->kind == MR_NODE_STAGE && !node->stage.has_no_output);
}

static mr_status check_source_count(const mr_pipeline *pipeline)
{
    const struct mr__node *found = NULL;
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind != MR_NODE_SOURCE)
            continue;
        if (found)
            return mr_error_set(MR_E_INVALID,
                                "pipeline '%s' has two sources, '%s' and '%s': it takes one",
                                pipeline->name, found->name, node->name);
        found = node;
    }
    if (!found)
        return mr_error_set(MR_E_INVALID, "pipeline '%s' has no source", pipeline->name);
    return MR_OK;
}

static mr_status check_input(const mr_pipeline *pipeline, const struct mr__node *node,
                             mr_node input)
{
    const char *kind = mr_node_kind_name(node->kind);
    if (input > pipeline->node_count)
        return mr_error_set(MR_E_INVALID, "%s '%s' takes from node %u, but there are only %u nodes",
                            kind, node->name, input, pipeline->node_count);
    const struct mr__node *from = &pipeline->nodes[input - 1];
    if (from->kind == MR_NODE_SINK)
        return mr_error_set(MR_E_INVALID, "%s '%s' takes from sink '%s', which puts nothing out",
                            kind, node->name, from->name);
    if (!has_output(from))
        return mr_error_set(MR_E_INVALID, "%s '%s' takes from stage '%s', which has no output",
                            kind, node->name, from->name);
    return MR_OK;
}

static mr_status check_inputs(const mr_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind != MR_NODE_SOURCE && !node->input_count)
            return mr_error_set(MR_E_INVALID, "%s '%s' has no input: add the source first",
                                mr_node_kind_name(node->kind), node->name);
        for (uint32_t k = 0; k < node->input_count; k++) {
            const mr_status status = check_input(pipeline, node, node->inputs[k]);
            if (status)
                return status;
        }
    }
    return MR_OK;
}

static bool is_read(const mr_pipeline *pipeline, mr_node id)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        for (uint32_t k = 0; k < pipeline->nodes[i].input_count; k++) {
            if (pipeline->nodes[i].inputs[k] == id)
                return true;
        }
    }
    return false;
}

static mr_status check_ends(const mr_pipeline *pipeline)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (has_output(node) && !is_read(pipeline, node->id))
            return mr_error_set(MR_E_INVALID, "nothing takes what %s '%s' puts out: add a %s",
                                mr_node_kind_name(node->kind), node->name,
                                node->kind == MR_NODE_STAGE ? "sink, or set has_no_output"
                                                            : "stage or a sink");
    }
    return MR_OK;
}

static bool are_inputs_placed(const struct mr__node *node, const bool *is_placed)
{
    for (uint32_t k = 0; k < node->input_count; k++) {
        if (!is_placed[node->inputs[k] - 1])
            return false;
    }
    return true;
}

/* Names a cycle among the nodes that could not be placed: from any of them, going to an unplaced
 * input again and again comes back. */
static mr_status cycle_error(const mr_pipeline *pipeline, const bool *is_placed, uint32_t start)
{
    uint32_t at = start;
    for (uint32_t steps = 0; steps < pipeline->node_count; steps++) {
        const struct mr__node *node = &pipeline->nodes[at];
        for (uint32_t k = 0; k < node->input_count; k++) {
            if (!is_placed[node->inputs[k] - 1]) {
                at = node->inputs[k] - 1;
                break;
            }
        }
    }
    const struct mr__node *node = &pipeline->nodes[at];
    return mr_error_set(MR_E_INVALID,
                        "pipeline '%s' has a cycle through %s '%s': items may only go "
                        "forward",
                        pipeline->name, mr_node_kind_name(node->kind), node->name);
}

static mr_status find_order(const mr_pipeline *pipeline, bool *is_placed, uint32_t *order)
{
    uint32_t count = 0;
    bool has_moved = true;
    while (has_moved) {
        has_moved = false;
        for (uint32_t i = 0; i < pipeline->node_count; i++) {
            if (is_placed[i] || !are_inputs_placed(&pipeline->nodes[i], is_placed))
                continue;
            is_placed[i] = true;
            order[count++] = i;
            has_moved = true;
        }
    }
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (!is_placed[i])
            return cycle_error(pipeline, is_placed, i);
    }
    return MR_OK;
}

mr_status mr__graph_check(const mr_pipeline *pipeline, uint32_t *order)
{
    mr_status status = check_source_count(pipeline);
    if (!status)
        status = check_inputs(pipeline);
    if (!status)
        status = check_ends(pipeline);
    if (status)
        return status;

    bool *is_placed = mr__zalloc_array(pipeline->node_count, sizeof *is_placed);
    if (!is_placed)
        return mr__pipeline_no_memory(pipeline);
    status = find_order(pipeline, is_placed, order);
    mr__free(is_placed);
    return status;
}
