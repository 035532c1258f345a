/* SPDX-License-Identifier: MIT */
/*
 * Executables: made from graphs, given new contents in place, launched.
 *
 * Launches of one run one after the other, so the stream of the last is all that the end has to wait
 * for.
 */
#include "base/alloc.h"
#include "core/capture.h"
#include "core/graph.h"
#include "core/kernel_launch.h"

#include <inttypes.h>

/* ---- making ---- */

/* A board for the graph's host functions, NULL where it has none. */
static mr_status make_board(const char *call, const mr_graph *graph, struct mr__call_board **out)
{
    const size_t call_count = graph->holdings->call_count;
    *out = call_count ? mr__call_board_create(call_count) : NULL;
    if (*out || !call_count)
        return MR_OK;
    return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory for %zu host functions", call,
                        call_count);
}

/* The executable takes over what `graph` holds, and the board, from here on. */
static void take_contents(mr_graph_executable *executable, const mr_graph *graph,
                          struct mr__call_board *board)
{
    struct mr__holdings *before = executable->holdings;
    executable->holdings = mr__holdings_retain(graph->holdings);
    executable->node_count = mr_graph_node_count(graph);
    mr__holdings_release(before);

    mr__call_board_sweep(&executable->boards, false);
    executable->has_calls = board != NULL;
    if (board) {
        board->older = executable->boards;
        executable->boards = board;
    }
}

mr_status mr_graph_instantiate(const mr_graph *graph, mr_graph_executable **out)
{
    *out = NULL;
    if (!graph)
        return mr_error_set(MR_E_INVALID, "mr_graph_instantiate: graph is NULL");
    mr_device *device = graph->device;
    mr_graph_executable *executable = mr__zalloc(sizeof *executable);
    if (!executable)
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_instantiate: out of memory");

    struct mr__call_board *board;
    mr_status status = make_board("mr_graph_instantiate", graph, &board);
    if (status)
        goto fail;
    const struct mr_binder binder = mr__call_board_binder(board);
    status = device->ops->replay_create(graph->plan, &binder, &executable->replay);
    if (status)
        goto fail;
    executable->device = device;
    mr__device_add_child(device);
    take_contents(executable, graph, board);
    *out = executable;
    return MR_OK;

fail:
    mr__call_board_destroy(board);
    mr__free(executable);
    return status;
}

void mr_graph_executable_destroy(mr_graph_executable *executable)
{
    if (!executable)
        return;
    mr_device *device = executable->device;
    if (executable->life) {
        mr__capture_refuse_life("mr_graph_executable_destroy", executable->life);
        mr__stream_life_settle(executable->life);
    }
    device->ops->replay_destroy(executable->replay);
    mr__call_board_sweep(&executable->boards, true);
    mr__holdings_release(executable->holdings);
    mr__stream_life_release(executable->life);
    mr__free(executable);
    mr__device_remove_child(device);
}

/* ---- updates ---- */

mr_status mr_graph_update(mr_graph_executable *executable, const mr_graph *graph)
{
    if (!executable || !graph)
        return mr_error_set(MR_E_INVALID, "mr_graph_update: %s is NULL",
                            executable ? "graph" : "executable");
    if (executable->device != graph->device)
        return mr_error_set(MR_E_INVALID,
                            "mr_graph_update: the graph is of %s, the executable "
                            "of %s",
                            graph->device->properties.id, executable->device->properties.id);

    struct mr__call_board *board;
    mr_status status = make_board("mr_graph_update", graph, &board);
    if (status)
        return status;
    const struct mr_binder binder = mr__call_board_binder(board);
    status = executable->device->ops->replay_update(executable->replay, graph->plan, &binder);
    if (status) {
        mr__call_board_destroy(board);
        return status;
    }
    take_contents(executable, graph, board);
    return MR_OK;
}

static mr_status find_kernel_node(const mr_graph_executable *executable, mr_graph_node number,
                                  struct mr__node **out)
{
    *out = mr__holdings_node(executable->holdings, number);
    if (*out && (*out)->kernel)
        return MR_OK;
    if (!number || number > executable->node_count)
        return mr_error_set(MR_E_INVALID,
                            "mr_graph_update_kernel: node %" PRIu32 " is none; there are %zu",
                            number, executable->node_count);
    return mr_error_set(MR_E_INVALID,
                        "mr_graph_update_kernel: node %" PRIu32 " is %s; use mr_graph_update",
                        number, *out ? "no kernel" : "from a capture, which has no node numbers");
}

/* Holds the new buffers beside the old ones. All or none. */
static mr_status hold_new(struct mr__holdings *holdings, const mr_kernel *kernel,
                          const mr_argument *arguments)
{
    for (size_t i = 0; i < kernel->parameter_count; i++) {
        const mr_argument *argument = &arguments[i];
        const mr_access access = kernel->parameters[i].access;
        if (access == MR_ACCESS_VALUE ||
            mr__holdings_add_buffer(holdings, argument->buffer, argument->offset,
                                    mr__argument_bytes(argument), access))
            continue;
        while (i-- > 0)
            if (kernel->parameters[i].access != MR_ACCESS_VALUE)
                mr__holdings_remove_buffer(holdings, arguments[i].buffer);
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_update_kernel: out of memory");
    }
    return MR_OK;
}

/* Lets go of the node's old buffers, or, when it failed, of the new ones. */
static void settle_uses(struct mr__holdings *holdings, const struct mr__node *node,
                        const mr_argument *arguments, bool is_new)
{
    for (size_t i = 0; i < node->kernel->parameter_count; i++) {
        mr_buffer **use = &holdings->uses[node->first_use + i];
        if (!*use)
            continue;
        mr__holdings_remove_buffer(holdings, is_new ? *use : arguments[i].buffer);
        if (is_new)
            *use = arguments[i].buffer;
    }
}

mr_status mr_graph_update_kernel(mr_graph_executable *executable, mr_graph_node number,
                                 const mr_launch *launch, const mr_argument *arguments,
                                 size_t argument_count)
{
    if (!executable || !launch || (!arguments && argument_count))
        return mr_error_set(MR_E_INVALID, "mr_graph_update_kernel: the executable, launch or "
                                          "arguments are NULL");
    struct mr__node *node;
    mr_status status = find_kernel_node(executable, number, &node);
    if (status)
        return status;
    struct mr__ready_launch ready;
    status = mr__launch_prepare(executable->device, node->kernel, launch, arguments, argument_count,
                                &ready);
    if (status)
        return status;
    if (ready.is_empty)
        return mr_error_set(MR_E_MISMATCH,
                            "mr_graph_update_kernel: node %" PRIu32 ", kernel '%s': a launch of "
                            "no iterations is no kernel node",
                            number, node->kernel->name);
    if (!mr__holdings_own(&executable->holdings))
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_update_kernel: out of memory");

    struct mr__holdings *holdings = executable->holdings;
    node = mr__holdings_node(holdings, number);
    status = hold_new(holdings, node->kernel, arguments);
    if (status)
        return status;
    status = executable->device->ops->replay_update_launch(executable->replay, number,
                                                           node->kernel->function, &ready.work);
    settle_uses(holdings, node, arguments, !status);
    return status;
}

/* ---- launches ---- */

static mr_status check_stream(const char *call, const mr_graph_executable *executable,
                              const mr_stream *stream)
{
    if (!executable || !stream)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call,
                            executable ? "stream" : "executable");
    if (executable->device != stream->device)
        return mr_error_set(MR_E_INVALID, "%s: the executable is of %s, stream '%s' of %s", call,
                            executable->device->properties.id, stream->life->stream_name,
                            stream->device->properties.id);
    return mr__stream_is_special(stream) ? mr__capture_admit(call, stream) : MR_OK;
}

static mr_status record_launch(mr_graph_executable *executable, mr_stream *stream)
{
    /* The replay has its own calls, not those of the graph that it was made of. */
    struct mr__call_board *board = executable->has_calls ? executable->boards : NULL;
    if (!mr__holdings_merge(mr__capture_holdings(stream), executable->holdings,
                            board ? board->calls : NULL, board ? board->bound_count : 0))
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_launch: out of memory on stream '%s'",
                            stream->life->stream_name);
    const mr_status status = stream->ops->replay_launch(executable->replay, stream->queue);
    if (!status)
        mr__capture_advance(stream);
    return status;
}

static void emit_launch(const mr_graph_executable *executable, const mr_stream *stream,
                        uint64_t sequence)
{
    mr_operation operation = { .kind = MR_OPERATION_GRAPH_LAUNCH,
                               .stream_id = stream->id,
                               .sequence = sequence,
                               .name = stream->life->stream_name,
                               .size_bytes = executable->node_count,
                               .accesses = executable->holdings->accesses,
                               .access_count = executable->holdings->buffer_count };
    mr__operation_emit(stream->device, &operation);
}

static mr_status submit(mr_graph_executable *executable, mr_stream *stream)
{
    struct mr__call_board *board = executable->has_calls ? executable->boards : NULL;
    if (board && !mr__call_board_note(board, stream))
        return mr_error_set(MR_E_NO_MEMORY, "mr_graph_launch: out of memory on stream '%s'",
                            stream->life->stream_name);
    const mr_status status = stream->ops->replay_launch(executable->replay, stream->queue);
    if (status && board)
        mr__call_board_take_back(board);
    return status;
}

mr_status mr_graph_launch(mr_graph_executable *executable, mr_stream *stream)
{
    mr_status status = check_stream("mr_graph_launch", executable, stream);
    if (status)
        return status;
    if (mr__stream_is_captured(stream))
        return record_launch(executable, stream);

    const struct mr__holdings *holdings = executable->holdings;
    for (size_t i = 0; i < holdings->buffer_count && !status; i++)
        status = mr__buffer_use(holdings->buffers[i].buffer, stream);
    if (!status)
        status = submit(executable, stream);
    if (status)
        return status;

    if (executable->life != stream->life) {
        mr__stream_life_release(executable->life);
        executable->life = mr__stream_life_retain(stream->life);
    }
    const uint64_t sequence = mr__stream_advance(stream);
    if (mr__operation_is_wanted(stream->device))
        emit_launch(executable, stream, sequence);
    return MR_OK;
}

mr_status mr_graph_upload(mr_graph_executable *executable, mr_stream *stream)
{
    mr_status status = check_stream("mr_graph_upload", executable, stream);
    if (!status)
        status = mr__capture_refuse("mr_graph_upload", stream, "an upload is no work of a graph");
    if (!status)
        status = stream->ops->replay_upload(executable->replay, stream->queue);
    if (!status)
        mr__stream_advance(stream);
    return status;
}
