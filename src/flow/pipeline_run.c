/* SPDX-License-Identifier: MIT */
/*
 * A run from start to end: its threads, how others look at it or end it early, and its outcome.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>

/* ---- made and freed ---- */

static void free_run(struct mr__run *run)
{
    if (!run)
        return;
    for (uint32_t i = 0; run->sinks && i < run->sink_count; i++)
        mr__bell_fini(&run->sinks[i].bell);
    mr__bell_fini(&run->source_bell);
    mr__bell_fini(&run->submit_bell);
    pthread_mutex_destroy(&run->retire_mutex);
    pthread_mutex_destroy(&run->mutex);
    mr__free(run->skipped);
    mr__free(run->edge_bytes);
    mr__free(run->tallies);
    mr__free(run->graphed);
    mr__free(run->sinks);
    mr__free(run);
}

void mr__run_destroy(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    struct mr__run *run = pipeline->run;
    pipeline->run = NULL;
    pthread_mutex_unlock(&pipeline->mutex);
    free_run(run);
}

static mr_status create_run(const mr_pipeline *pipeline, struct mr__run **out)
{
    const struct mr__plan *plan = pipeline->plan;
    *out = NULL;
    struct mr__run *run = mr__zalloc_aligned(MR__LINE, sizeof *run);
    if (!run)
        return mr__pipeline_no_memory(pipeline);
    mr__bell_init(&run->source_bell);
    mr__bell_init(&run->submit_bell);
    pthread_mutex_init(&run->retire_mutex, NULL);
    pthread_mutex_init(&run->mutex, NULL);
    atomic_store(&run->stop_index, UINT64_MAX);
    run->feed = pipeline->leg ? mr__leg_feed(pipeline->leg) : &run->own_feed;
    run->clock_device = plan->clock_device;
    run->item_count = plan->item_count;

    const uint32_t sink_count = plan->sink_count ? plan->sink_count : 1;
    run->sinks = mr__zalloc_aligned(MR__LINE, sink_count * sizeof *run->sinks);
    run->tallies = mr__zalloc_array(plan->report_count, sizeof *run->tallies);
    run->edge_bytes = mr__zalloc_array(pipeline->node_count, sizeof *run->edge_bytes);
    /* One more than is listed: an item is put in before the last one falls out. */
    run->skipped = mr__zalloc_array(MR__SKIPPED_LIMIT + 1, sizeof *run->skipped);
    if (!run->sinks || !run->tallies || !run->edge_bytes || !run->skipped) {
        free_run(run);
        return mr__pipeline_no_memory(pipeline);
    }
    run->sink_count = sink_count;
    for (uint32_t i = 0; i < sink_count; i++) {
        run->sinks[i].pipeline = (mr_pipeline *)pipeline;
        run->sinks[i].sink = i;
        mr__bell_init(&run->sinks[i].bell);
    }
    *out = run;
    return MR_OK;
}

mr_status mr__run_create(mr_pipeline *pipeline)
{
    struct mr__run *run;
    const mr_status status = create_run(pipeline, &run);
    if (status)
        return status;
    atomic_store(&run->started_ns, mr_device_now_ns(pipeline->plan->clock_device));
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->run = run;
    pthread_mutex_unlock(&pipeline->mutex);
    return MR_OK;
}

/* ---- threads ---- */

void mr__run_leave(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    const bool is_last = --pipeline->threads_left == 0;
    if (is_last)
        pthread_cond_broadcast(&pipeline->cond);
    pthread_mutex_unlock(&pipeline->mutex);
    if (is_last && pipeline->leg)
        mr__leg_ended(pipeline->leg);
}

static void *submit_thread(void *context)
{
    mr__submit_main(context);
    mr__run_leave(context);
    return NULL;
}

mr_status mr__run_start_thread(mr_pipeline *pipeline, pthread_t *thread, bool *is_started,
                               void *(*function)(void *), void *context)
{
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->threads_left++;
    pthread_mutex_unlock(&pipeline->mutex);
    *is_started = true;
    const int error = pthread_create(thread, NULL, function, context);
    if (!error)
        return MR_OK;
    *is_started = false;
    mr__run_leave(pipeline);
    return mr_error_set(MR_E_NO_MEMORY, "pipeline '%s': cannot start a thread (error %d)",
                        pipeline->name, error);
}

/* A leg's sinks wait for their turn, which no submitter may: each has a thread. */
static bool has_own_thread(const mr_pipeline *pipeline, uint32_t sink)
{
    const struct mr__plan *plan = pipeline->plan;
    return pipeline->leg || (sink < plan->sink_count && !plan->sinks[sink].node->is_inline);
}

/* The submitter comes last: until it runs, nobody else finds anything to do but the source. */
mr_status mr__run_start(mr_pipeline *pipeline, bool is_submitter_apart)
{
    const struct mr__plan *plan = pipeline->plan;
    struct mr__run *run = pipeline->run;
    mr_status status = MR_OK;
    for (uint32_t i = 0; !status && i < run->sink_count; i++) {
        struct mr__sink_run *sink = &run->sinks[i];
        if (has_own_thread(pipeline, i))
            status = mr__run_start_thread(pipeline, &sink->thread, &sink->has_thread, mr__sink_main,
                                          sink);
    }
    if (!status && !plan->source->is_inline && !pipeline->leg)
        status = mr__run_start_thread(pipeline, &run->source_thread, &run->has_source_thread,
                                      mr__source_main, pipeline);
    if (!status && is_submitter_apart)
        status = mr__run_start_thread(pipeline, &run->submit_thread, &run->has_submit_thread,
                                      submit_thread, pipeline);
    return status;
}

void mr__run_join(struct mr__run *run)
{
    if (run->has_submit_thread)
        pthread_join(run->submit_thread, NULL);
    run->has_submit_thread = false; /* a fleet may have to wait for the submitter first */
    if (run->has_source_thread)
        pthread_join(run->source_thread, NULL);
    for (uint32_t i = 0; i < run->sink_count; i++) {
        if (run->sinks[i].has_thread)
            pthread_join(run->sinks[i].thread, NULL);
    }
}

/* ---- the end ---- */

/* After an early end, work may still be queued. Its failures have been told already. */
void mr__run_quiet_streams(const struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->group_count; i++) {
        for (uint32_t k = 0; k < plan->groups[i].stream_count; k++) {
            const mr_status status = mr_stream_wait(plan->groups[i].streams[k]);
            (void)status;
        }
    }
}

void mr__run_quiet_crews(const struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->slot_count; i++) {
        struct mr__slot *slot = &plan->slots[i];
        if (plan->crew_in)
            mr__crew_wait(plan->crew_in, &slot->ticket);
        for (uint32_t k = 0; plan->crew_out && k < plan->sink_count; k++)
            mr__crew_wait(plan->crew_out, &slot->sinks[k].ticket);
    }
    mr__crew_settle(plan->crew_in);
    mr__crew_settle(plan->crew_out);
}

/* Every item that was lent goes back, whatever became of it. */
static void give_back_rest(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    const struct mr__plan *plan = pipeline->plan;
    const mr_source_options *source = &plan->source->source;
    if (!plan->is_source_lending || !source->give_back)
        return;
    const uint64_t filled = mr__count_get(&run->filled);
    for (uint64_t n = mr__count_get(&run->retired); n < filled; n++) {
        const struct mr__slot *slot = mr__slot_of(plan, n);
        source->give_back(source->context, slot->first_index, slot->item_count);
    }
    if (run->feed->has_held)
        source->give_back(source->context, run->feed->next_index, 1);
}

/* Every item that came in came out of every sink or is listed. */
static mr_status check_counts(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    const uint64_t due = run->items_in - run->items_skipped;
    for (uint32_t i = 0; i < run->sink_count; i++) {
        if (run->sinks[i].items != due)
            return mr_error_set(MR_E_STATE,
                                "pipeline '%s': %llu items came in and %llu were skipped, but %llu "
                                "came out of sink %u: this is a fault of the library",
                                pipeline->name, (unsigned long long)run->items_in,
                                (unsigned long long)run->items_skipped,
                                (unsigned long long)run->sinks[i].items, i + 1);
    }
    return MR_OK;
}

static mr_status outcome_of(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    if (run->failure.status)
        return mr_error_set(run->failure.status, "%s", run->failure.words);
    const mr_status status = check_counts(pipeline);
    if (status)
        return status;
    if (run->is_cancelled && run->feed->was_cut)
        return mr_error_set(MR_E_CANCELLED, "pipeline '%s' was cancelled after %llu items",
                            pipeline->name, (unsigned long long)run->items_in);
    return MR_OK;
}

/* All threads have left, but for the caller. */
static mr_status finish_run(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    if (pipeline->fleet)
        return mr__fleet_finish(pipeline);
    mr__run_join(run);
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = MR__WAITED; /* cancel finds nothing to do from here on */
    while (pipeline->callers)
        pthread_cond_wait(&pipeline->cond, &pipeline->mutex);
    pthread_mutex_unlock(&pipeline->mutex);

    if (run->failure.status || mr__count_get(&run->retired) != mr__count_get(&run->filled))
        mr__run_quiet_streams(pipeline->plan);
    mr__run_quiet_crews(pipeline->plan);
    mr__graphed_end(pipeline->plan);
    give_back_rest(pipeline);
    atomic_store(&run->ended_ns, mr_device_now_ns(pipeline->plan->clock_device));

    mr_status status = mr__report_make(pipeline);
    const mr_status outcome = outcome_of(pipeline);
    if (outcome)
        status = outcome;
    /* A failed stream stays failed: the next run makes its own. */
    if (atomic_load(&run->is_aborted)) {
        mr__plan_destroy(pipeline->plan);
        pipeline->plan = NULL;
    }
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = MR__IDLE;
    pthread_mutex_unlock(&pipeline->mutex);
    return status;
}

/* ---- start and wait ---- */

static mr_status enter(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    const bool is_idle = pipeline->phase == MR__IDLE;
    if (is_idle)
        pipeline->phase = MR__WAITED;
    pthread_mutex_unlock(&pipeline->mutex);
    return is_idle
               ? MR_OK
               : mr_error_set(MR_E_STATE, "pipeline '%s' has been started: wait for its end first",
                              pipeline->name);
}

static void set_phase(mr_pipeline *pipeline, enum mr__phase phase)
{
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = phase;
    pthread_mutex_unlock(&pipeline->mutex);
}

static mr_status prepare(mr_pipeline *pipeline)
{
    mr__report_clear(pipeline);
    mr__run_destroy(pipeline);
    mr_status status = MR_OK;
    if (!pipeline->plan)
        status = mr__plan_create(pipeline, &pipeline->plan);
    if (status)
        return status;

    status = mr__run_create(pipeline);
    if (!status)
        set_phase(pipeline, MR__RUNNING);
    return status;
}

/* Some threads run, another could not be had. */
static mr_status give_up_start(mr_pipeline *pipeline, mr_status status)
{
    mr__run_abort(pipeline, status, "start");
    atomic_store(&pipeline->run->is_fed, true);
    const mr_status outcome = finish_run(pipeline);
    mr__report_clear(pipeline);
    return outcome;
}

static mr_status start(mr_pipeline *pipeline, bool is_submitter_apart)
{
    mr_status status = enter(pipeline);
    if (status)
        return status;
    const bool is_fleet = pipeline->options.device_count > 1;
    status = is_fleet ? mr__fleet_start(pipeline, is_submitter_apart) : prepare(pipeline);
    if (status) {
        set_phase(pipeline, MR__IDLE);
        return status;
    }
    if (is_fleet)
        return MR_OK;
    status = mr__run_start(pipeline, is_submitter_apart);
    return status ? give_up_start(pipeline, status) : MR_OK;
}

mr_status mr_pipeline_start(mr_pipeline *pipeline)
{
    return start(pipeline, true);
}

mr_status mr_pipeline_run(mr_pipeline *pipeline)
{
    const mr_status status = start(pipeline, false);
    if (status)
        return status;
    if (pipeline->fleet)
        mr__fleet_main(pipeline->fleet);
    else
        mr__submit_main(pipeline);
    return mr_pipeline_wait(pipeline, MR_FOREVER);
}

mr_status mr_pipeline_wait(mr_pipeline *pipeline, uint64_t timeout_ns)
{
    const struct timespec end = mr__clock_deadline(timeout_ns);
    pthread_mutex_lock(&pipeline->mutex);
    const bool is_running = pipeline->phase == MR__RUNNING;
    int answer = 0;
    while (is_running && pipeline->threads_left && answer != ETIMEDOUT) {
        if (timeout_ns == MR_FOREVER)
            pthread_cond_wait(&pipeline->cond, &pipeline->mutex);
        else
            answer = pthread_cond_timedwait(&pipeline->cond, &pipeline->mutex, &end);
    }
    const bool is_over = !pipeline->threads_left;
    pthread_mutex_unlock(&pipeline->mutex);

    if (!is_running)
        return mr_error_set(MR_E_STATE, "pipeline '%s' has not been started", pipeline->name);
    if (!is_over)
        return mr_error_set(MR_E_TIMEOUT, "pipeline '%s' still runs after %llu ns", pipeline->name,
                            (unsigned long long)timeout_ns);
    return finish_run(pipeline);
}

/* ---- from any thread ---- */

/* The run stays while the caller is inside. */
static bool enter_run(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    const bool is_running = pipeline->phase == MR__RUNNING;
    if (is_running)
        pipeline->callers++;
    pthread_mutex_unlock(&pipeline->mutex);
    return is_running;
}

static void leave_run(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    if (--pipeline->callers == 0)
        pthread_cond_broadcast(&pipeline->cond);
    pthread_mutex_unlock(&pipeline->mutex);
}

static void end_early(mr_pipeline *pipeline, bool is_cancel)
{
    if (pipeline->fleet) {
        mr__fleet_cancel(pipeline->fleet, is_cancel);
        return;
    }
    if (is_cancel)
        atomic_store(&pipeline->run->is_cancelled, true);
    mr__run_end_source(pipeline);
}

void mr_pipeline_cancel(mr_pipeline *pipeline)
{
    if (!pipeline || !enter_run(pipeline))
        return;
    end_early(pipeline, true);
    leave_run(pipeline);
}

void mr_pipeline_drain(mr_pipeline *pipeline)
{
    if (!pipeline || !enter_run(pipeline))
        return;
    end_early(pipeline, false);
    leave_run(pipeline);
}

void mr_pipeline_progress(const mr_pipeline *pipeline, mr_pipeline_progress_now *out)
{
    mr_pipeline *asked = (mr_pipeline *)pipeline; /* for its lock */
    *out = (mr_pipeline_progress_now){ 0 };
    pthread_mutex_lock(&asked->mutex);
    struct mr__run *run = asked->run;
    if (asked->fleet)
        mr__fleet_progress(asked->fleet, out);
    else if (run) {
        const uint64_t ended = atomic_load(&run->ended_ns);
        const uint64_t now = ended ? ended : mr_device_now_ns(run->clock_device);
        out->items_in = atomic_load(&run->items_in);
        out->items_out = atomic_load(&run->items_out);
        out->items_skipped = atomic_load(&run->items_skipped);
        out->bytes_in = atomic_load(&run->bytes_in);
        out->bytes_out = atomic_load(&run->bytes_out);
        out->elapsed_ns = now - atomic_load(&run->started_ns);
        out->item_count = run->item_count;
    }
    pthread_mutex_unlock(&asked->mutex);
}

size_t mr_pipeline_progress_devices(const mr_pipeline *pipeline, mr_device_progress *out,
                                    size_t capacity)
{
    mr_pipeline *asked = (mr_pipeline *)pipeline; /* for its lock */
    pthread_mutex_lock(&asked->mutex);
    const size_t count = asked->fleet ? asked->fleet->lane_count : 0;
    for (size_t i = 0; i < count && i < capacity; i++)
        mr__fleet_progress_lane(asked->fleet, (uint32_t)i, &out[i]);
    pthread_mutex_unlock(&asked->mutex);
    return count;
}
