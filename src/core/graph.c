/* SPDX-License-Identifier: MIT */
/*
 * Graphs: explicit nodes, copies of graphs, and questions to them. How streams become graphs is in
 * graph_capture.c.
 */
#include "core/graph.h"

#include "base/alloc.h"
#include "core/kernel_launch.h"
#include "core/transfer.h"

#include <inttypes.h>

/* ---- life ---- */

mr_graph *mr__graph_create_bare(mr_device *device)
{
    mr_graph *graph = mr__zalloc(sizeof *graph);
    if (!graph)
        return NULL;
    graph->holdings = mr__holdings_create();
    if (!graph->holdings) {
        mr__free(graph);
        return NULL;
    }
    graph->device = device;
    mr__device_add_child(device);
    return graph;
}

void mr_graph_destroy(mr_graph *graph)
{
    if (!graph)
        return;
    mr_device *device = graph->device;
    if (graph->plan)
        device->ops->plan_destroy(graph->plan);
    mr__holdings_release(graph->holdings);
    mr__free(graph);
    mr__device_remove_child(device);
}

mr_status mr_graph_create(mr_device *device, mr_graph **out)
{
    *out = NULL;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_graph_create: device is NULL");
    if (!device->ops->plan_create)
        return mr_error_set(MR_E_UNSUPPORTED, "mr_graph_create: %s has no graphs",
                            device->properties.id);
    mr_graph *graph = mr__graph_create_bare(device);
    if (!graph)
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_create: out of memory");
    const mr_status status = device->ops->plan_create(device->backend_device, &graph->plan);
    if (status) {
        mr_graph_destroy(graph);
        return status;
    }
    *out = graph;
    return MR_OK;
}

mr_status mr_graph_clone(const mr_graph *graph, mr_graph **out)
{
    *out = NULL;
    if (!graph)
        return mr_error_set(MR_E_INVALID, "mr_graph_clone: graph is NULL");
    mr_graph *clone = mr__graph_create_bare(graph->device);
    if (!clone)
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_clone: out of memory");
    mr__holdings_release(clone->holdings);
    clone->holdings = mr__holdings_retain(graph->holdings);
    const mr_status status = graph->device->ops->plan_clone(graph->plan, &clone->plan);
    if (status) {
        mr_graph_destroy(clone);
        return status;
    }
    *out = clone;
    return MR_OK;
}

/* ---- nodes ---- */

/* What a new node comes after. */
struct place {
    const mr_graph_node *after;
    size_t after_count;
};

/* Checks the place, and makes room for a node with `use_count` buffers. */
static mr_status prepare_node(const char *call, mr_graph *graph, const struct place *place,
                              size_t use_count)
{
    if (!graph || (!place->after && place->after_count))
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call, graph ? "after" : "graph");
    const size_t node_count = mr_graph_node_count(graph);
    if (node_count >= UINT32_MAX)
        return mr_error_set(MR_E_INVALID, "%s: the graph has %zu nodes and takes no more", call,
                            node_count);
    for (size_t i = 0; i < place->after_count; i++)
        if (!place->after[i] || place->after[i] > node_count)
            return mr_error_set(MR_E_INVALID,
                                "%s: after[%zu] is node %" PRIu32 ", and the graph has nodes 1 to "
                                "%zu",
                                call, i, place->after[i], node_count);
    if (!mr__holdings_own(&graph->holdings) ||
        !mr__holdings_reserve_node(graph->holdings, use_count))
        return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory", call);
    return MR_OK;
}

/* After prepare_node. `uses` has a place for every parameter of the kernel. */
static mr_status add_node(mr_graph *graph, const struct place *place, const struct mr_work *work,
                          mr_kernel *kernel, mr_buffer *const *uses, mr_graph_node *out)
{
    const mr_status status =
        graph->device->ops->plan_add(graph->plan, work, place->after, place->after_count);
    if (status)
        return status;
    mr__holdings_add_node(graph->holdings, kernel, uses);
    if (out)
        *out = (mr_graph_node)(graph->holdings->captured_count + graph->holdings->node_count);
    return MR_OK;
}

static const struct mr_work empty_work = { .kind = MR_WORK_EMPTY };

static mr_status put_empty(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                           mr_graph_node *out)
{
    const struct place place = { after, after_count };
    const mr_status status = prepare_node("mr_graph_add_empty", graph, &place, 0);
    return status ? status : add_node(graph, &place, &empty_work, NULL, NULL, out);
}

static mr_status out_of_memory(const char *call, const mr_buffer *buffer)
{
    return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory for noting the use of buffer '%s'", call,
                        buffer->name);
}

/* ---- kernels ---- */

static void let_go(struct mr__holdings *holdings, mr_buffer *const *uses, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (uses[i])
            mr__holdings_remove_buffer(holdings, uses[i]);
}

/* Notes the buffers of a kernel's arguments, and lists them by parameter. All or none. */
static mr_status hold_arguments(struct mr__holdings *holdings, const mr_kernel *kernel,
                                const mr_argument *arguments, mr_buffer **uses)
{
    for (size_t i = 0; i < kernel->parameter_count; i++) {
        const mr_argument *argument = &arguments[i];
        const mr_access access = kernel->parameters[i].access;
        uses[i] = access == MR_ACCESS_VALUE ? NULL : argument->buffer;
        if (!uses[i] || mr__holdings_add_buffer(holdings, uses[i], argument->offset,
                                                mr__argument_bytes(argument), access))
            continue;
        let_go(holdings, uses, i);
        return out_of_memory("mr_graph_add_kernel", argument->buffer);
    }
    return MR_OK;
}

static mr_status check_kernel(const mr_graph *graph, const mr_kernel *kernel,
                              const mr_launch *launch, const mr_argument *arguments,
                              size_t argument_count)
{
    if (!kernel || !launch || (!arguments && argument_count))
        return mr_error_set(MR_E_INVALID, "mr_graph_add_kernel: %s NULL",
                            !kernel   ? "kernel is"
                            : !launch ? "launch is"
                                      : "arguments are");
    if (kernel->device == graph->device)
        return MR_OK;
    return mr_error_set(MR_E_INVALID,
                        "kernel '%s': was made for %s, and the graph is of %s; make the kernel "
                        "once for each device",
                        kernel->name, kernel->device->properties.id, graph->device->properties.id);
}

static mr_status put_kernel(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                            mr_kernel *kernel, const mr_launch *launch,
                            const mr_argument *arguments, size_t argument_count, mr_graph_node *out)
{
    const struct place place = { after, after_count };
    mr_status status = prepare_node("mr_graph_add_kernel", graph, &place, MR_PARAMETER_LIMIT);
    if (!status)
        status = check_kernel(graph, kernel, launch, arguments, argument_count);
    struct mr__ready_launch ready;
    if (!status)
        status =
            mr__launch_prepare(graph->device, kernel, launch, arguments, argument_count, &ready);
    if (status)
        return status;
    if (ready.is_empty)
        return add_node(graph, &place, &empty_work, NULL, NULL, out);

    mr_buffer *uses[MR_PARAMETER_LIMIT];
    status = hold_arguments(graph->holdings, kernel, arguments, uses);
    if (status)
        return status;
    const struct mr_work work = { .kind = MR_WORK_LAUNCH,
                                  .as.launch = { kernel->function, &ready.work } };
    status = add_node(graph, &place, &work, kernel, uses, out);
    if (!status)
        return MR_OK;
    let_go(graph->holdings, uses, kernel->parameter_count);
    return mr_error_prefix(status, "kernel '%s': ", kernel->name);
}

/* ---- copies and fills ---- */

static mr_status check_place(const char *call, const mr_graph *graph, const mr_buffer *buffer,
                             const struct mr_memory *memory)
{
    if (memory->place != MR_PLACE_PAGEABLE || graph->device->properties.is_host_memory)
        return MR_OK;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "%s: buffer '%s' is pageable host memory, which %s cannot copy on its own; "
                        "use pinned memory",
                        call, buffer->name, graph->device->properties.id);
}

static mr_status add_copy_node(mr_graph *graph, const struct place *place, mr_buffer *target,
                               mr_buffer *source, const struct mr_transfer *transfer,
                               mr_graph_node *out)
{
    static const char call[] = "mr_graph_add_copy";
    struct mr__holdings *holdings = graph->holdings;
    const size_t bytes = transfer->row_bytes, count = transfer->row_count;
    if (!mr__holdings_add_buffer(holdings, target, transfer->target_offset,
                                 mr__span_bytes(transfer->target_pitch, bytes, count),
                                 MR_ACCESS_OUT))
        return out_of_memory(call, target);
    mr_status status = MR_OK;
    if (!mr__holdings_add_buffer(holdings, source, transfer->source_offset,
                                 mr__span_bytes(transfer->source_pitch, bytes, count),
                                 MR_ACCESS_IN)) {
        mr__holdings_remove_buffer(holdings, target);
        return out_of_memory(call, source);
    }
    const struct mr_work work = { .kind = MR_WORK_COPY, .as.transfer = transfer };
    status = add_node(graph, place, &work, NULL, NULL, out);
    if (status) {
        mr__holdings_remove_buffer(holdings, target);
        mr__holdings_remove_buffer(holdings, source);
    }
    return status;
}

static mr_status put_copy(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                          mr_buffer *target, mr_buffer *source, const mr_copy_2d_layout *layout,
                          mr_graph_node *out)
{
    static const char call[] = "mr_graph_add_copy";
    const struct place place = { after, after_count };
    mr_status status = prepare_node(call, graph, &place, 0);
    if (status)
        return status;
    if (!target || !source || !layout)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call,
                            !target   ? "target"
                            : !source ? "source"
                                      : "layout");
    struct mr__copy copy;
    bool is_empty;
    status = mr__copy_prepare(call, graph->device, NULL, target, source, layout, &copy, &is_empty);
    if (!status && is_empty)
        return add_node(graph, &place, &empty_work, NULL, NULL, out);
    if (!status)
        status = check_place(call, graph, target, copy.transfer.target);
    if (!status)
        status = check_place(call, graph, source, copy.transfer.source);
    return status ? status : add_copy_node(graph, &place, target, source, &copy.transfer, out);
}

static mr_status put_fill(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                          mr_buffer *target, size_t offset, size_t size_bytes, uint32_t value,
                          uint32_t value_bytes, mr_graph_node *out)
{
    static const char call[] = "mr_graph_add_fill";
    const struct place place = { after, after_count };
    mr_status status = prepare_node(call, graph, &place, 0);
    if (status)
        return status;
    if (!target)
        return mr_error_set(MR_E_INVALID, "%s: target is NULL", call);
    status = mr__fill_check(call, target, offset, size_bytes, value_bytes);
    if (!status && !size_bytes)
        return add_node(graph, &place, &empty_work, NULL, NULL, out);
    struct mr__fill fill;
    if (!status)
        status = mr__fill_prepare(call, graph->device, NULL, target, &fill);
    if (!status)
        status = check_place(call, graph, target, fill.memory);
    if (status)
        return status;

    if (!mr__holdings_add_buffer(graph->holdings, target, offset, size_bytes, MR_ACCESS_OUT))
        return out_of_memory(call, target);
    const struct mr_work work = { .kind = MR_WORK_FILL,
                                  .as.fill = { .memory = fill.memory,
                                               .offset = offset,
                                               .size_bytes = size_bytes,
                                               .value = value,
                                               .value_bytes = value_bytes } };
    status = add_node(graph, &place, &work, NULL, NULL, out);
    if (status)
        mr__holdings_remove_buffer(graph->holdings, target);
    return status;
}

/* ---- host functions and graphs in graphs ---- */

static mr_status put_call(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                          mr_host_function function, void *context, mr_graph_node *out)
{
    const struct place place = { after, after_count };
    mr_status status = prepare_node("mr_graph_add_call", graph, &place, 0);
    if (status)
        return status;
    if (!function)
        return mr_error_set(MR_E_INVALID, "mr_graph_add_call: function is NULL");

    struct mr__graph_call *call = mr__graph_call_create(function, context);
    if (!call || !mr__holdings_add_call(graph->holdings, call)) {
        mr__graph_call_release(call);
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_add_call: out of memory");
    }
    const struct mr_work work = { .kind = MR_WORK_CALL, .as.call = { mr__graph_call_run, call } };
    status = add_node(graph, &place, &work, NULL, NULL, out);
    if (status)
        mr__holdings_drop_call(graph->holdings);
    return status;
}

static mr_status put_graph(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                           const mr_graph *child, mr_graph_node *out)
{
    const struct place place = { after, after_count };
    mr_status status = prepare_node("mr_graph_add_graph", graph, &place, 0);
    if (status)
        return status;
    if (!child || child->device != graph->device)
        return mr_error_set(MR_E_INVALID, "mr_graph_add_graph: %s",
                            child ? "child is of another device" : "child is NULL");
    if (child == graph)
        return mr_error_set(MR_E_INVALID,
                            "mr_graph_add_graph: a graph cannot be its own child; clone it");

    struct mr__holdings *holdings = mr__holdings_copy(graph->holdings);
    if (!holdings || !mr__holdings_merge(holdings, child->holdings, child->holdings->calls,
                                         child->holdings->call_count)) {
        status = mr_error_set(MR_E_NO_MEMORY, "mr_graph_add_graph: out of memory");
        goto fail;
    }
    if (!mr__holdings_reserve_node(holdings, 0)) {
        status = mr_error_set(MR_E_NO_MEMORY, "mr_graph_add_graph: out of memory");
        goto fail;
    }
    struct mr__holdings *before = graph->holdings;
    const struct mr_work work = { .kind = MR_WORK_PLAN, .as.plan = child->plan };
    graph->holdings = holdings;
    status = add_node(graph, &place, &work, NULL, NULL, out);
    holdings = before;
    if (status) {
        before = graph->holdings;
        graph->holdings = holdings;
        holdings = before;
    }

fail:
    mr__holdings_release(holdings);
    return status;
}

/* ---- the calls ---- */

/* `out` may have been among what the node comes after, so it is written last. */
static mr_status give(mr_graph_node *out, mr_status status)
{
    if (status && out)
        *out = 0;
    return status;
}

mr_status mr_graph_add_empty(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                             mr_graph_node *out)
{
    return give(out, put_empty(graph, after, after_count, out));
}

mr_status mr_graph_add_kernel(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                              mr_kernel *kernel, const mr_launch *launch,
                              const mr_argument *arguments, size_t argument_count,
                              mr_graph_node *out)
{
    return give(
        out, put_kernel(graph, after, after_count, kernel, launch, arguments, argument_count, out));
}

mr_status mr_graph_add_copy(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                            mr_buffer *target, mr_buffer *source, const mr_copy_2d_layout *layout,
                            mr_graph_node *out)
{
    return give(out, put_copy(graph, after, after_count, target, source, layout, out));
}

mr_status mr_graph_add_fill(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                            mr_buffer *target, size_t offset, size_t size_bytes, uint32_t value,
                            uint32_t value_bytes, mr_graph_node *out)
{
    return give(out, put_fill(graph, after, after_count, target, offset, size_bytes, value,
                              value_bytes, out));
}

mr_status mr_graph_add_call(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                            mr_host_function function, void *context, mr_graph_node *out)
{
    return give(out, put_call(graph, after, after_count, function, context, out));
}

mr_status mr_graph_add_graph(mr_graph *graph, const mr_graph_node *after, size_t after_count,
                             const mr_graph *child, mr_graph_node *out)
{
    return give(out, put_graph(graph, after, after_count, child, out));
}

/* ---- questions ---- */

size_t mr_graph_node_count(const mr_graph *graph)
{
    return graph->holdings->captured_count + graph->holdings->node_count;
}

size_t mr_graph_edge_count(const mr_graph *graph)
{
    size_t node_count, edge_count;
    graph->device->ops->plan_size(graph->plan, &node_count, &edge_count);
    return edge_count;
}

mr_device *mr_graph_device(const mr_graph *graph)
{
    return graph->device;
}
