/* SPDX-License-Identifier: MIT */
/*
 * Parcels of stages that are repeatable, as graphs: what a stage enqueues for a full parcel is captured
 * once for each slot and launched from then on, without calling the stage. Where a parcel has other sizes
 * or lies elsewhere, the stage is called into a capture again and the slot's executable updated, which
 * costs about a fifth of launching on an H200 (0.5 us for a kernel).
 *
 * Whether that is done is decided in each run from what submitting costs the host: the first parcels go
 * by the stream and are timed; then launches and updates are timed against them. Short parcels, and
 * those with failed items, go by the stream.
 * Only the submitting thread is here, until the run is over.
 */
#include "flow/pipeline.h"

#include "base/alloc.h"

#include <millrace/graph.h>

#include <stdio.h>
#include <string.h>

enum {
    WARM_PARCELS = 2,  /* by the stream first; lazily made things would break a capture */
    JUDGED = 8,        /* launches, or updates, before they are held against the stream */
    LAPS_TO_PAY = 4,   /* of a slot, for its capture to be worth it */
    MISS_LIMIT = 4,    /* updates refused so often, one more for each eight launches */
    NODE_LIMIT = 32768 /* in all executables of a step: about 64 MiB */
};

/* Host nanoseconds of a parcel's calls below which there is nothing to gain. Tests set 0: graphs in any
 * case. */
uint64_t mr__graphed_worth_ns = 15000;

enum mr__graphed_mode { MR__GRAPHED_WARMING, MR__GRAPHED_ON, MR__GRAPHED_OFF };

/* Of one step, in one run. */
struct mr__graphed_state {
    enum mr__graphed_mode mode;
    uint32_t warm_count;
    uint64_t stream_ns, launch_ns, update_ns; /* the least seen, for a full parcel */
    uint64_t launch_count, update_count, miss_count, node_count;
    char words[MR__GRAPHED_WORDS];
};

/* What was captured in one slot. */
struct mr__graphed {
    mr_graph_executable *executable;
    uint32_t replica;
    struct mr__spot inputs[MR_NODE_INPUT_LIMIT], output;
    /* One parcel's worth each: the inputs' sizes, the output's as preset, and as the stage left them. */
    size_t sizes[];
};

static struct mr__graphed_state *state_of(struct mr__run *run, const struct mr__plan *plan,
                                          const struct mr__step *step)
{
    if (!run->graphed)
        run->graphed = mr__zalloc_array(plan->step_count, sizeof *run->graphed);
    return run->graphed ? &run->graphed[step - plan->steps] : NULL;
}

static void turn_off(struct mr__graphed_state *state, const char *words)
{
    state->mode = MR__GRAPHED_OFF;
    snprintf(state->words, sizeof state->words, "%.*s", (int)sizeof state->words - 1, words);
}

void mr__graphed_drop(struct mr__graphed *graphed)
{
    if (!graphed)
        return;
    mr_graph_executable_destroy(graphed->executable);
    mr__free(graphed);
}

/* ---- is this parcel as that one was? ---- */

static bool is_whole(const struct mr__calls *calls)
{
    const struct mr__slot *slot = calls->slot;
    return slot->item_count == slot->pipeline->plan->parcel_items &&
           mr__slot_live_items(slot) == slot->item_count && !mr__slot_has_any_failed(slot);
}

static bool is_same_spot(const struct mr__spot *left, const struct mr__spot *right)
{
    return left->buffer == right->buffer && left->offset == right->offset &&
           left->host == right->host;
}

static bool is_in_same_places(const struct mr__graphed *graphed, const struct mr__calls *calls)
{
    const struct mr__step *step = calls->step;
    for (uint32_t i = 0; i < step->input_count; i++) {
        if (!is_same_spot(&graphed->inputs[i], mr__slot_spot(calls->slot, step->inputs[i])))
            return false;
    }
    return step->output == MR__NONE ||
           is_same_spot(&graphed->output, mr__slot_spot(calls->slot, step->output));
}

/* After the output's sizes were preset. */
static bool has_same_sizes(const struct mr__graphed *graphed, const struct mr__calls *calls)
{
    const uint32_t count = calls->slot->item_count, input_count = calls->step->input_count;
    const size_t size_bytes = count * sizeof(size_t);
    for (uint32_t i = 0; i < input_count; i++) {
        if (memcmp(graphed->sizes + i * count, calls->input_sizes[i], size_bytes))
            return false;
    }
    return !calls->output_sizes ||
           !memcmp(graphed->sizes + input_count * count, calls->output_sizes, size_bytes);
}

static bool matches(const struct mr__graphed *graphed, const struct mr__calls *calls,
                    const struct mr__slot_step *slot_step)
{
    return graphed && graphed->replica == slot_step->replica && is_in_same_places(graphed, calls) &&
           has_same_sizes(graphed, calls);
}

/* ---- capture ---- */

/* With the output's sizes preset. */
static struct mr__graphed *describe(const struct mr__calls *calls,
                                    const struct mr__slot_step *slot_step)
{
    const struct mr__step *step = calls->step;
    const uint32_t count = calls->slot->item_count;
    const size_t rows = (size_t)step->input_count + 2;
    struct mr__graphed *graphed = mr__zalloc(sizeof *graphed + rows * count * sizeof(size_t));
    if (!graphed)
        return NULL;
    graphed->replica = slot_step->replica;
    for (uint32_t i = 0; i < step->input_count; i++) {
        graphed->inputs[i] = *mr__slot_spot(calls->slot, step->inputs[i]);
        memcpy(graphed->sizes + i * count, calls->input_sizes[i], count * sizeof(size_t));
    }
    if (step->output == MR__NONE)
        return graphed;
    graphed->output = *mr__slot_spot(calls->slot, step->output);
    memcpy(graphed->sizes + step->input_count * count, calls->output_sizes, count * sizeof(size_t));
    return graphed;
}

static mr_status call_all(struct mr__calls *calls)
{
    const uint32_t count = calls->slot->item_count;
    uint32_t at = 0;
    const mr_status status = calls->step->node->stage.is_parcel_wise
                                 ? calls->invoke(calls, 0, count, 0)
                                 : calls->invoke_each(calls, &at, count);
    return status ? status : mr__calls_check(calls, 0, count);
}

/* `*has_failed`: the stage did, which says nothing about graphs. */
static mr_status capture(struct mr__calls *calls, mr_stream *stream, mr_graph **out,
                         bool *has_failed)
{
    *out = NULL;
    mr_status status = mr_capture_begin(stream);
    if (status)
        return status;
    const mr_status called = call_all(calls);
    status = mr_capture_end(stream, out);
    *has_failed = called && !status;
    if (!called)
        return status;
    mr_graph_destroy(*out);
    *out = NULL;
    return status ? status : called;
}

/* Takes the executable of `old` when that can be updated, else makes one. */
static mr_status fit_executable(struct mr__graphed_state *state, const mr_graph *graph,
                                struct mr__graphed *old, mr_graph_executable **out)
{
    *out = NULL;
    if (old && !mr_graph_update(old->executable, graph)) {
        *out = old->executable;
        old->executable = NULL;
        return MR_OK;
    }
    state->miss_count += old != NULL;
    state->node_count += mr_graph_node_count(graph);
    return mr_graph_instantiate(graph, out);
}

static mr_status make_executable(struct mr__graphed_state *state, struct mr__calls *calls,
                                 mr_stream *stream, struct mr__graphed *old,
                                 mr_graph_executable **out, bool *has_failed)
{
    mr_graph *graph;
    *out = NULL;
    mr_status status = capture(calls, stream, &graph, has_failed);
    if (status)
        return status;
    status = fit_executable(state, graph, old, out);
    mr_graph_destroy(graph);
    return status;
}

/* Captures the parcel's calls; false when it is to go by the stream. */
static bool build(struct mr__graphed_state *state, struct mr__calls *calls,
                  struct mr__slot_step *slot_step, mr_stream *stream)
{
    bool has_failed = false;
    char words[MR_ERROR_BYTES] = "out of host memory";
    struct mr__graphed *graphed = describe(calls, slot_step);
    if (!graphed) {
        turn_off(state, words);
        return false;
    }
    const mr_status status = make_executable(state, calls, stream, slot_step->graphed,
                                             &graphed->executable, &has_failed);
    if (status) {
        mr__words_take(status, words);
        if (!has_failed)
            turn_off(state, words);
        mr__graphed_drop(graphed);
        return false;
    }
    const uint32_t count = calls->slot->item_count;
    if (calls->output_sizes)
        memcpy(graphed->sizes + (calls->step->input_count + 1) * (size_t)count, calls->output_sizes,
               count * sizeof(size_t));
    mr__graphed_drop(slot_step->graphed);
    slot_step->graphed = graphed;
    return true;
}

/* ---- decisions ---- */

static uint64_t now_of(const struct mr__calls *calls)
{
    return mr_device_now_ns(calls->slot->pipeline->plan->clock_device);
}

static bool pays_before_the_end(const struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const uint64_t needed = (uint64_t)LAPS_TO_PAY * plan->slot_count * plan->parcel_items;
    return !plan->item_count || plan->item_count >= slot->first_index + needed;
}

static void decide(struct mr__graphed_state *state, const struct mr__slot *slot)
{
    char words[MR__GRAPHED_WORDS];
    if (state->stream_ns < mr__graphed_worth_ns) {
        snprintf(words, sizeof words, "submitting costs %.1f us a parcel: nothing to gain",
                 (double)state->stream_ns * 1e-3);
        turn_off(state, words);
    } else if (mr__graphed_worth_ns && !pays_before_the_end(slot)) {
        turn_off(state, "too few parcels are to come");
    } else {
        state->mode = MR__GRAPHED_ON;
    }
}

static void note_least(uint64_t *least, uint64_t value)
{
    if (!*least || value < *least)
        *least = value;
}

/* By the stream, with the clock. */
static void warm_up(struct mr__graphed_state *state, struct mr__calls *calls)
{
    const struct mr__plan *plan = calls->slot->pipeline->plan;
    const bool is_full = is_whole(calls);
    const uint64_t start = now_of(calls);
    mr__calls_run(calls);
    if (calls->slot->size_step == (uint32_t)(calls->step - plan->steps)) {
        turn_off(state, "the device decides the sizes of its output");
        return;
    }
    if (!is_full)
        return;
    note_least(&state->stream_ns, now_of(calls) - start);
    if (++state->warm_count == WARM_PARCELS)
        decide(state, calls->slot);
}

static void judge(struct mr__graphed_state *state, const char *what, uint64_t cost_ns)
{
    char words[MR__GRAPHED_WORDS];
    if (cost_ns * 5 <= state->stream_ns * 4 || !mr__graphed_worth_ns)
        return;
    snprintf(words, sizeof words, "%s costs %.1f us, submitting %.1f us a parcel", what,
             (double)cost_ns * 1e-3, (double)state->stream_ns * 1e-3);
    turn_off(state, words);
}

/* Whether a slot that has no fitting capture may make one. */
static bool may_build(struct mr__graphed_state *state, const struct mr__slot_step *slot_step)
{
    if (!slot_step->graphed)
        return state->node_count < NODE_LIMIT;
    if (state->miss_count <= MISS_LIMIT + state->launch_count / 8)
        return true;
    turn_off(state, "what is enqueued changes its form from lap to lap");
    return false;
}

/* ---- the parcel ---- */

static bool launch(struct mr__graphed_state *state, struct mr__calls *calls,
                   const struct mr__graphed *graphed, mr_stream *stream)
{
    const uint64_t start = now_of(calls);
    const mr_status status = mr_graph_launch(graphed->executable, stream);
    if (status) {
        char words[MR_ERROR_BYTES];
        mr__words_take(status, words);
        turn_off(state, words);
        return false;
    }
    note_least(&state->launch_ns, now_of(calls) - start);
    const uint32_t count = calls->slot->item_count;
    if (calls->output_sizes)
        memcpy(calls->output_sizes, graphed->sizes + (calls->step->input_count + 1) * (size_t)count,
               count * sizeof(size_t));
    if (++state->launch_count == JUDGED)
        judge(state, "a launch", state->launch_ns);
    return true;
}

/* Captures, updates and launches. */
static bool renew(struct mr__graphed_state *state, struct mr__calls *calls,
                  struct mr__slot_step *slot_step, mr_stream *stream)
{
    const bool is_update = slot_step->graphed;
    const uint64_t start = now_of(calls);
    if (!may_build(state, slot_step) || !build(state, calls, slot_step, stream) ||
        !launch(state, calls, slot_step->graphed, stream))
        return false;
    if (is_update) {
        note_least(&state->update_ns, now_of(calls) - start);
        if (++state->update_count == JUDGED)
            judge(state, "capturing and updating", state->update_ns);
    }
    return true;
}

static bool run_as_graph(struct mr__graphed_state *state, struct mr__calls *calls,
                         struct mr__slot_step *slot_step, mr_stream *stream)
{
    if (!is_whole(calls) || mr__calls_preset(calls, 0, calls->slot->item_count))
        return false;
    return matches(slot_step->graphed, calls, slot_step)
               ? launch(state, calls, slot_step->graphed, stream)
               : renew(state, calls, slot_step, stream);
}

void mr__graphed_run(struct mr__calls *calls, struct mr__slot_step *slot_step, mr_stream *stream)
{
    const mr_pipeline *pipeline = calls->slot->pipeline;
    struct mr__graphed_state *state = calls->step->node->stage.is_repeatable
                                          ? state_of(pipeline->run, pipeline->plan, calls->step)
                                          : NULL;
    if (state && state->mode == MR__GRAPHED_WARMING)
        warm_up(state, calls);
    else if (!state || state->mode == MR__GRAPHED_OFF ||
             !run_as_graph(state, calls, slot_step, stream))
        mr__calls_run(calls);
}

/* ---- the end ---- */

void mr__graphed_end(const struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->slot_count; i++) {
        struct mr__slot *slot = &plan->slots[i];
        for (uint32_t k = 0; slot->steps && k < plan->step_count; k++) {
            mr__graphed_drop(slot->steps[k].graphed);
            slot->steps[k].graphed = NULL;
        }
    }
}

void mr__graphed_report(const struct mr__run *run, const struct mr__plan *plan, uint32_t step,
                        mr_node_report *node)
{
    const struct mr__node *given = plan->steps[step].node;
    const struct mr__graphed_state *state = run->graphed ? &run->graphed[step] : NULL;
    if (plan->steps[step].kind != MR__STEP_SUBMIT)
        return;
    node->replayed_parcels = state ? state->launch_count : 0;
    if (!given->stage.is_repeatable)
        snprintf(node->replay_words, sizeof node->replay_words, "not declared is_repeatable");
    else if (!state || state->mode == MR__GRAPHED_WARMING)
        snprintf(node->replay_words, sizeof node->replay_words, "too few full parcels");
    else if (state->mode == MR__GRAPHED_OFF)
        snprintf(node->replay_words, sizeof node->replay_words, "%s", state->words);
    else
        snprintf(node->replay_words, sizeof node->replay_words,
                 "submitting costs %.1f us a parcel, a launch %.1f us",
                 (double)state->stream_ns * 1e-3, (double)state->launch_ns * 1e-3);
}
