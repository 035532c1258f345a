/* SPDX-License-Identifier: MIT */
/*
 * A pipeline as its owner sees it: made, given nodes, destroyed. What each option may be is checked
 * here; whether the nodes fit together, when it starts (pipeline_check.c).
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

enum { SLOT_LIMIT = 1024, NODE_LIMIT = 4096 };

static mr_status check_devices(const mr_pipeline_options *options)
{
    if (options->device_count > MR_PIPELINE_DEVICE_LIMIT)
        return mr_error_set(MR_E_INVALID, "pipeline: device_count is %u; it may be up to %d",
                            options->device_count, MR_PIPELINE_DEVICE_LIMIT);
    if (!options->devices != !options->device_count)
        return mr_error_set(MR_E_INVALID, "pipeline: devices is %s, but device_count is %u",
                            options->devices ? "given" : "NULL", options->device_count);
    for (uint32_t i = 0; i < options->device_count; i++) {
        if (!options->devices[i])
            return mr_error_set(MR_E_INVALID, "pipeline: devices[%u] is NULL", i);
        for (uint32_t k = 0; k < i; k++) {
            if (options->devices[k] == options->devices[i])
                return mr_error_set(MR_E_INVALID,
                                    "pipeline: devices[%u] and devices[%u] are both "
                                    "%s: name each once",
                                    k, i, mr_device_id(options->devices[i]));
        }
    }
    return MR_OK;
}

static mr_status check_options(const mr_pipeline_options *options)
{
    if (options->slot_count > SLOT_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "pipeline: slot_count is %u; it may be 1 to %d, or 0 for auto",
                            options->slot_count, SLOT_LIMIT);
    if (options->parcel_items > MR__PARCEL_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "pipeline: parcel_items is %u; it may be 1 to %u, or 0 for auto",
                            options->parcel_items, MR__PARCEL_LIMIT);
    const mr_status status = check_devices(options);
    if (status)
        return status;
    if (options->on_error != MR_ERROR_STOP && options->on_error != MR_ERROR_SKIP)
        return mr_error_set(MR_E_INVALID,
                            "pipeline: on_error is %d; it is MR_ERROR_STOP or "
                            "MR_ERROR_SKIP",
                            (int)options->on_error);
    return MR_OK;
}

mr_status mr_pipeline_create(const mr_pipeline_options *options, mr_pipeline **out)
{
    *out = NULL;
    static const mr_pipeline_options defaults;
    if (!options)
        options = &defaults;
    const mr_status status = check_options(options);
    if (status)
        return status;

    mr_pipeline *pipeline = mr__zalloc_aligned(MR__LINE, sizeof *pipeline);
    if (!pipeline)
        return mr_error_set(MR_E_NO_MEMORY, "pipeline: out of host memory");
    if (options->device_count) {
        pipeline->devices = mr__zalloc_array(options->device_count, sizeof *pipeline->devices);
        if (!pipeline->devices) {
            mr__free(pipeline);
            return mr_error_set(MR_E_NO_MEMORY, "pipeline: out of host memory");
        }
        memcpy(pipeline->devices, options->devices,
               options->device_count * sizeof *pipeline->devices);
    }
    pipeline->options = *options;
    pipeline->options.devices = pipeline->devices;
    snprintf(pipeline->name, sizeof pipeline->name, "%s",
             options->name ? options->name : "pipeline");
    pipeline->options.name = pipeline->name;
    pthread_mutex_init(&pipeline->mutex, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&pipeline->cond, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = pipeline;
    return MR_OK;
}

void mr_pipeline_destroy(mr_pipeline *pipeline)
{
    if (!pipeline)
        return;
    mr_pipeline_cancel(pipeline);
    const mr_status status = mr_pipeline_wait(pipeline, MR_FOREVER);
    (void)status; /* whoever wants the outcome waits before */
    mr__run_destroy(pipeline);
    mr__report_clear(pipeline);
    mr__plan_destroy(pipeline->plan);
    mr__fleet_forget(pipeline);
    mr__free(pipeline->devices);
    mr__free(pipeline->nodes);
    pthread_cond_destroy(&pipeline->cond);
    pthread_mutex_destroy(&pipeline->mutex);
    mr__free(pipeline);
}

mr_status mr__pipeline_no_memory(const mr_pipeline *pipeline)
{
    return mr_error_set(MR_E_NO_MEMORY, "pipeline '%s': out of host memory", pipeline->name);
}

static mr_status make_room(mr_pipeline *pipeline)
{
    if (pipeline->node_count < pipeline->node_capacity)
        return MR_OK;
    if (pipeline->node_count == NODE_LIMIT)
        return mr_error_set(MR_E_INVALID, "pipeline '%s': more than %d nodes", pipeline->name,
                            NODE_LIMIT);
    const uint32_t capacity = pipeline->node_capacity ? 2 * pipeline->node_capacity : 8;
    struct mr__node *nodes = mr__resize_array(pipeline->nodes, capacity, sizeof *nodes);
    if (!nodes)
        return mr__pipeline_no_memory(pipeline);
    pipeline->nodes = nodes;
    pipeline->node_capacity = capacity;
    return MR_OK;
}

static bool is_running(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    const bool is = pipeline->phase == MR__RUNNING;
    pthread_mutex_unlock(&pipeline->mutex);
    return is;
}

/* A new node at the end of the list, not counted yet. What was planned before is void. */
static mr_status begin_node(mr_pipeline *pipeline, mr_node_kind kind, const char *name,
                            struct mr__node **out)
{
    *out = NULL;
    if (is_running(pipeline))
        return mr_error_set(MR_E_STATE, "pipeline '%s' is running: add nodes before it starts",
                            pipeline->name);
    const mr_status status = make_room(pipeline);
    if (status)
        return status;

    mr__run_destroy(pipeline);
    mr__plan_destroy(pipeline->plan);
    pipeline->plan = NULL;
    mr__fleet_forget(pipeline);
    struct mr__node *node = &pipeline->nodes[pipeline->node_count];
    memset(node, 0, sizeof *node);
    node->id = pipeline->node_count + 1;
    node->kind = kind;
    if (name && *name)
        snprintf(node->name, sizeof node->name, "%s", name);
    else
        snprintf(node->name, sizeof node->name, "%s %u", mr_node_kind_name(kind), node->id);
    *out = node;
    return MR_OK;
}

static void end_node(mr_pipeline *pipeline, const struct mr__node *node, mr_node *out)
{
    pipeline->node_count++;
    if (out)
        *out = node->id;
}

/* That of a source or a sink. */
static mr_status check_memory(const struct mr__node *node, const mr_buffer *memory, size_t offset,
                              size_t size_bytes)
{
    const size_t end = mr_buffer_size(memory);
    if (offset <= end && size_bytes <= end - offset)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "%s '%s': bytes %zu to %zu + %zu of a buffer that has %zu",
                        mr_node_kind_name(node->kind), node->name, offset, offset, size_bytes, end);
}

static mr_status check_source(const struct mr__node *node, const mr_source_options *options)
{
    if (options->memory && options->next)
        return mr_error_set(MR_E_INVALID, "source '%s' has both `next` and `memory`: give one",
                            node->name);
    if (!options->memory && !options->next)
        return mr_error_set(MR_E_INVALID, "source '%s' has neither `next` nor `memory`",
                            node->name);
    if (options->next && !options->item_bytes)
        return mr_error_set(MR_E_INVALID,
                            "source '%s': item_bytes is 0; say how large the largest "
                            "item is",
                            node->name);
    return options->memory
               ? check_memory(node, options->memory, options->memory_offset, options->memory_bytes)
               : MR_OK;
}

mr_status mr_pipeline_add_source(mr_pipeline *pipeline, const mr_source_options *options,
                                 mr_node *out)
{
    if (out)
        *out = 0;
    if (!options)
        return mr_error_set(MR_E_INVALID, "a source needs options");
    struct mr__node *node;
    mr_status status = begin_node(pipeline, MR_NODE_SOURCE, options->name, &node);
    if (status)
        return status;
    status = check_source(node, options);
    if (status)
        return status;

    node->source = *options;
    node->source.name = NULL;
    node->is_inline = options->is_inline || options->memory;
    end_node(pipeline, node, out);
    return MR_OK;
}

/* Where the stage runs; NULL for each of several devices. */
static mr_device *device_of(const mr_pipeline *pipeline, const mr_stage_options *options)
{
    return options->device || pipeline->options.device_count != 1 ? options->device
                                                                  : pipeline->devices[0];
}

static mr_status check_stage(const mr_pipeline *pipeline, const struct mr__node *node,
                             const mr_stage_options *options)
{
    const mr_device *device = device_of(pipeline, options);
    if (!device && !pipeline->options.device_count)
        return mr_error_set(MR_E_INVALID, "stage '%s' has no device", node->name);
    if (!options->submit == !options->work)
        return mr_error_set(MR_E_INVALID, "stage '%s' has %s: give one", node->name,
                            options->submit ? "both `submit` and `work`"
                                            : "neither `submit` nor `work`");
    if (options->work && (!device || !mr__device_is_host(device)))
        return mr_error_set(MR_E_INVALID,
                            "stage '%s' does host work, but its device is %s: give it a CPU device",
                            node->name, device ? mr_device_id(device) : "each of the pipeline's");
    if (options->is_repeatable && !options->submit)
        return mr_error_set(MR_E_INVALID,
                            "stage '%s' does host work: is_repeatable is for stages that enqueue",
                            node->name);
    if (options->has_no_output && (options->output_bytes || options->is_in_place))
        return mr_error_set(MR_E_INVALID, "stage '%s' has no output, but %s", node->name,
                            options->is_in_place ? "is to work in place" : "output_bytes is set");
    return MR_OK;
}

/* Copies the inputs up to the first 0; none means the node added last. */
static void set_inputs(const mr_pipeline *pipeline, struct mr__node *node, const mr_node *inputs,
                       uint32_t limit)
{
    while (node->input_count < limit && inputs[node->input_count]) {
        node->inputs[node->input_count] = inputs[node->input_count];
        node->input_count++;
    }
    if (!node->input_count && pipeline->node_count)
        node->inputs[node->input_count++] = pipeline->node_count;
}

mr_status mr_pipeline_add_stage(mr_pipeline *pipeline, const mr_stage_options *options,
                                mr_node *out)
{
    if (out)
        *out = 0;
    if (!options)
        return mr_error_set(MR_E_INVALID, "a stage needs options");
    struct mr__node *node;
    mr_status status = begin_node(pipeline, MR_NODE_STAGE, options->name, &node);
    if (status)
        return status;
    status = check_stage(pipeline, node, options);
    if (status)
        return status;

    node->stage = *options;
    node->stage.name = NULL;
    node->stage.device = device_of(pipeline, options);
    set_inputs(pipeline, node, options->inputs, MR_NODE_INPUT_LIMIT);
    end_node(pipeline, node, out);
    return MR_OK;
}

static mr_status check_sink(const struct mr__node *node, const mr_sink_options *options)
{
    if (!options->take && !options->memory)
        return mr_error_set(MR_E_INVALID, "sink '%s' has neither `take` nor `memory`", node->name);
    if (options->lend && options->memory)
        return mr_error_set(MR_E_INVALID, "sink '%s' has both `lend` and `memory`: give one",
                            node->name);
    if (!options->memory)
        return MR_OK;

    if (!mr_buffer_host(options->memory))
        return mr_error_set(
            MR_E_INVALID,
            "sink '%s': its memory is not host memory: give it a pinned or pageable "
            "buffer",
            node->name);
    return check_memory(node, options->memory, options->memory_offset, options->memory_bytes);
}

mr_status mr_pipeline_add_sink(mr_pipeline *pipeline, const mr_sink_options *options, mr_node *out)
{
    if (out)
        *out = 0;
    if (!options)
        return mr_error_set(MR_E_INVALID, "a sink needs options");
    struct mr__node *node;
    mr_status status = begin_node(pipeline, MR_NODE_SINK, options->name, &node);
    if (status)
        return status;
    status = check_sink(node, options);
    if (status)
        return status;

    node->sink = *options;
    node->sink.name = NULL;
    node->is_inline = options->is_inline || !options->take;
    set_inputs(pipeline, node, &options->input, 1);
    end_node(pipeline, node, out);
    return MR_OK;
}
