/* SPDX-License-Identifier: MIT */
/*
 * Host functions in graphs: templates, boards, and which launch a run is for.
 *
 * Notes form a chain. Every call stands at the note of its last run and goes on by one with each run;
 * a note that all have left serves again. The chain is written by the launching thread before the
 * backend has the launch, so a call that runs always finds its note.
 */
#include "base/alloc.h"
#include "core/capture.h"
#include "core/graph.h"

#include <assert.h>

/* ---- calls ---- */

struct mr__graph_call *mr__graph_call_create(mr_host_function function, void *context)
{
    struct mr__graph_call *call = mr__zalloc(sizeof *call);
    if (!call)
        return NULL;
    atomic_init(&call->references, 1);
    call->function = function;
    call->context = context;
    return call;
}

void mr__graph_call_release(struct mr__graph_call *call)
{
    if (call && atomic_fetch_sub_explicit(&call->references, 1, memory_order_acq_rel) == 1)
        mr__free(call);
}

static void return_note(struct mr__call_board *board, struct mr__launch_note *note)
{
    struct mr__launch_note *head = atomic_load_explicit(&board->returned, memory_order_relaxed);
    do
        note->next_spare = head;
    while (!atomic_compare_exchange_weak_explicit(&board->returned, &head, note,
                                                  memory_order_release, memory_order_relaxed));
}

void mr__graph_call_run(void *context)
{
    struct mr__graph_call *call = context;
    struct mr__call_board *board = call->board;
    struct mr__launch_note *left = call->at;
    struct mr__launch_note *note = atomic_load_explicit(&left->next, memory_order_acquire);
    call->at = note;
    if (atomic_fetch_sub_explicit(&left->left_to_pass, 1, memory_order_acq_rel) == 1)
        return_note(board, left);

    mr__stream_life_run(note->life, note->sequence, call->function, call->context);
    if (atomic_fetch_sub_explicit(&note->left_to_run, 1, memory_order_acq_rel) == 1)
        atomic_fetch_sub_explicit(&board->in_flight_count, 1, memory_order_release);
}

mr_status mr__graph_capture_call(mr_stream *stream, mr_host_function function, void *context)
{
    struct mr__graph_call *call = mr__graph_call_create(function, context);
    if (!call || !mr__holdings_add_call(mr__capture_holdings(stream), call)) {
        mr__graph_call_release(call);
        return mr_error_set(MR_E_NO_MEMORY, "mr_stream_call: out of memory on stream '%s'",
                            stream->life->stream_name);
    }
    const mr_status status = stream->ops->call(stream->queue, mr__graph_call_run, call);
    if (status) {
        mr__holdings_drop_call(mr__capture_holdings(stream));
        return status;
    }
    mr__capture_advance(stream);
    return MR_OK;
}

/* ---- boards ---- */

/* A note that no call stands at. NULL when memory is out. */
static struct mr__launch_note *take_note(struct mr__call_board *board)
{
    if (!board->spare)
        board->spare = atomic_exchange_explicit(&board->returned, NULL, memory_order_acquire);
    struct mr__launch_note *note = board->spare;
    if (note) {
        board->spare = note->next_spare;
    } else {
        note = mr__zalloc(sizeof *note);
        if (!note)
            return NULL;
        note->next_made = board->made;
        board->made = note;
    }
    atomic_store_explicit(&note->next, NULL, memory_order_relaxed);
    atomic_store_explicit(&note->left_to_pass, board->bound_count, memory_order_relaxed);
    atomic_store_explicit(&note->left_to_run, board->bound_count, memory_order_relaxed);
    return note;
}

void mr__call_board_destroy(struct mr__call_board *board)
{
    if (!board)
        return;
    for (size_t i = 0; i < board->call_count; i++)
        mr__graph_call_release(board->calls[i]);
    while (board->made) {
        struct mr__launch_note *next = board->made->next_made;
        mr__free(board->made);
        board->made = next;
    }
    mr__free(board);
}

struct mr__call_board *mr__call_board_create(size_t call_count)
{
    struct mr__call_board *board = mr__zalloc(sizeof *board + call_count * sizeof board->calls[0]);
    if (!board)
        return NULL;
    board->call_count = call_count;
    board->newest = take_note(board);
    bool is_complete = board->newest;
    for (size_t i = 0; i < call_count && is_complete; i++) {
        board->calls[i] = mr__graph_call_create(NULL, NULL);
        is_complete = board->calls[i];
    }
    if (is_complete)
        return board;
    mr__call_board_destroy(board);
    return NULL;
}

void mr__call_board_sweep(struct mr__call_board **list, bool is_end)
{
    struct mr__call_board **link = list;
    while (*link) {
        struct mr__call_board *board = *link;
        if (!is_end && atomic_load_explicit(&board->in_flight_count, memory_order_acquire)) {
            link = &board->older;
            continue;
        }
        *link = board->older;
        mr__call_board_destroy(board);
    }
}

static void *bind_call(void *self, void *context)
{
    struct mr__call_board *board = self;
    const struct mr__graph_call *template = context;
    assert(board->bound_count < board->call_count);
    struct mr__graph_call *call = board->calls[board->bound_count++];
    call->function = template->function;
    call->context = template->context;
    call->board = board;
    call->at = board->newest;
    atomic_store_explicit(&call->at->left_to_pass, board->bound_count, memory_order_relaxed);
    return call;
}

struct mr_binder mr__call_board_binder(struct mr__call_board *board)
{
    return (struct mr_binder){ .bind = bind_call, .self = board };
}

bool mr__call_board_note(struct mr__call_board *board, const mr_stream *stream)
{
    struct mr__launch_note *note = take_note(board);
    if (!note)
        return false;
    note->life = stream->life;
    note->sequence = mr__stream_sequence(stream) + 1;
    atomic_fetch_add_explicit(&board->in_flight_count, 1, memory_order_relaxed);
    note->next_spare = board->newest; /* to take it back */
    atomic_store_explicit(&board->newest->next, note, memory_order_release);
    board->newest = note;
    return true;
}

void mr__call_board_take_back(struct mr__call_board *board)
{
    struct mr__launch_note *note = board->newest;
    board->newest = note->next_spare;
    atomic_store_explicit(&board->newest->next, NULL, memory_order_relaxed);
    note->next_spare = board->spare;
    board->spare = note;
    atomic_fetch_sub_explicit(&board->in_flight_count, 1, memory_order_relaxed);
}
