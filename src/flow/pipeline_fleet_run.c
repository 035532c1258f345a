/* SPDX-License-Identifier: MIT */
/*
 * A fleet's run: its main thread, which ends legs, judges how they ended, and moves what a lost device
 * has not delivered to another.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"
#include "base/numa.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- legs started ---- */

static mr_status start_leg(struct mr__leg *leg)
{
    mr_device_properties properties;
    mr_device_describe(leg->fleet->lanes[leg->lane].device, &properties);
    struct mr__numa numa;
    mr__numa_enter(properties.is_host_memory ? -1 : properties.numa_node, &numa);
    const mr_status status = mr__run_start(leg->pipeline, true);
    mr__numa_leave(&numa);
    return status;
}

/* The leg goes on with new items, or ends with what it has. */
static void open_leg(struct mr__leg *leg)
{
    struct mr__fleet *fleet = leg->fleet;
    pthread_mutex_lock(&fleet->mutex);
    const bool is_over =
        atomic_load(&fleet->is_source_done) || atomic_load(&fleet->lanes[leg->lane].is_lost);
    atomic_store(&leg->state, is_over ? MR__LEG_FED : MR__LEG_FEEDING);
    if (is_over)
        atomic_store(&leg->pipeline->run->is_fed, true);
    pthread_mutex_unlock(&fleet->mutex);
    mr__bell_ring(&leg->pipeline->run->submit_bell);
    mr__bell_ring(&fleet->source_bell);
}

/* ---- a device is lost ---- */

static bool has_left(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    const bool has = !pipeline->threads_left;
    pthread_mutex_unlock(&pipeline->mutex);
    return has;
}

/* The lane's leg gets no more, and all it was given has been done on the device: what comes after does
 * not meet it on the lane's state. Its results still wait for their turn. */
static void quiet_lane(struct mr__fleet *fleet, uint32_t lane, const struct mr__leg *except)
{
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        struct mr__leg *leg = &fleet->legs[i];
        if (leg->lane != lane || leg == except || mr__leg_state_of(leg) == MR__LEG_ENDED)
            continue;
        mr__fleet_close_leg(leg);
        struct mr__run *run = leg->pipeline->run;
        if (run->has_submit_thread)
            pthread_join(run->submit_thread, NULL);
        run->has_submit_thread = false;
        mr__run_quiet_streams(leg->pipeline->plan);
    }
}

static uint64_t index_of(const struct mr__replay *replay)
{
    return replay->slot->first_index + replay->done;
}

static int compare_replays(const void *a, const void *b)
{
    const uint64_t first = index_of(a), second = index_of(b);
    return first < second ? -1 : first > second;
}

/* Legs of the lane that still have items to come again leave them to the new one. */
static mr_status join_replays(struct mr__fleet *fleet, struct mr__leg *leg)
{
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        struct mr__leg *other = &fleet->legs[i];
        const size_t left = other->replay_count - other->replay_next;
        if (other == leg || other->lane != leg->lane || !left)
            continue;
        struct mr__replay *joined =
            mr__resize_array(leg->replays, leg->replay_count + left, sizeof *joined);
        if (!joined)
            return mr__pipeline_no_memory(fleet->pipeline);
        memcpy(joined + leg->replay_count, other->replays + other->replay_next,
               left * sizeof *joined);
        leg->replays = joined;
        leg->replay_count += left;
        other->replay_count = other->replay_next;
    }
    qsort(leg->replays, leg->replay_count, sizeof *leg->replays, compare_replays);
    return MR_OK;
}

/* The lane with the least to do again, of those that are left. */
static bool find_lane(const struct mr__fleet *fleet, const bool *is_refused, uint32_t *out)
{
    uint32_t least = UINT32_MAX;
    for (uint32_t lane = 0; lane < fleet->lane_count; lane++) {
        uint32_t legs = 0;
        if (atomic_load(&fleet->lanes[lane].is_lost) || is_refused[lane])
            continue;
        for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
            legs += fleet->legs[i].lane == lane;
        if (legs >= least)
            continue;
        least = legs;
        *out = lane;
    }
    return least != UINT32_MAX;
}

/* Where the leg cannot go there, its lane is out of it; the words say why. */
static mr_status move_to(struct mr__fleet *fleet, uint32_t lane, struct mr__replay *replays,
                         size_t count)
{
    struct mr__leg *leg;
    mr_status status = mr__fleet_add_leg(fleet, lane, &leg);
    if (status)
        return status;
    leg->replays = replays;
    leg->replay_count = count;
    status = join_replays(fleet, leg);
    quiet_lane(fleet, lane, leg);
    if (!status)
        status = start_leg(leg);
    if (status) {
        char words[MR_ERROR_BYTES];
        mr__words_take(status, words);
        mr__fleet_fail(fleet, status, words);
    }
    return MR_OK;
}

/* Runs the items elsewhere. Fails the run when there is no device that can. */
static void move_items(struct mr__fleet *fleet, struct mr__replay *replays, size_t count,
                       mr_status status, const char *words)
{
    bool is_refused[MR_PIPELINE_DEVICE_LIMIT] = { false };
    char why[MR_ERROR_BYTES];
    uint32_t lane;
    snprintf(why, sizeof why, "%s", words);
    while (find_lane(fleet, is_refused, &lane)) {
        const mr_status refused = move_to(fleet, lane, replays, count);
        if (!refused)
            return;
        is_refused[lane] = true;
        char other[MR_ERROR_BYTES];
        mr__words_take(refused, other);
        if (refused == MR_E_DEVICE && mr__fleet_is_lost(fleet->lanes[lane].device)) {
            mr__fleet_lose(fleet, lane, refused, other);
        } else {
            status = refused;
            snprintf(why, sizeof why, "%.400s; elsewhere: %.500s", words, other);
        }
    }
    mr__free(replays);
    mr__fleet_fail(fleet, status, why);
}

/* Legs of a lost device that have nothing to do just end. Those that are to do something again find out
 * by themselves. */
static void close_lane(struct mr__fleet *fleet, uint32_t lane)
{
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        if (fleet->legs[i].lane == lane && mr__leg_state_of(&fleet->legs[i]) == MR__LEG_FEEDING)
            mr__fleet_close_leg(&fleet->legs[i]);
    }
}

static bool is_any_left(const struct mr__fleet *fleet)
{
    bool is_left = false;
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        is_left |= !atomic_load(&fleet->lanes[i].is_lost);
    return is_left;
}

/* The first cause, of whichever device. */
static void lose_lane(struct mr__leg *leg)
{
    struct mr__fleet *fleet = leg->fleet;
    struct mr__lane *lane = &fleet->lanes[leg->lane];
    const struct mr__failure *failure = &leg->pipeline->run->failure;
    mr__fleet_lose(fleet, leg->lane, failure->status, failure->words);
    if (!fleet->first_loss.status)
        fleet->first_loss = *failure;
    close_lane(fleet, leg->lane);
    if (!is_any_left(fleet)) {
        mr__fleet_fail(fleet, fleet->first_loss.status, fleet->first_loss.words);
        return;
    }

    struct mr__replay *replays;
    size_t count;
    uint64_t items;
    const mr_status status = mr__leg_collect(leg, &replays, &count, &items);
    if (status) {
        mr__fleet_fail(fleet, status, mr_last_error());
        return;
    }
    lane->items_moved += items;
    if (count)
        move_items(fleet, replays, count, fleet->first_loss.status, fleet->first_loss.words);
    else
        mr__free(replays);
}

/* ---- a leg has ended ---- */

static void judge_leg(struct mr__leg *leg)
{
    struct mr__fleet *fleet = leg->fleet;
    struct mr__run *run = leg->pipeline->run;
    mr__run_join(run);
    const bool is_aborted = atomic_load(&run->is_aborted);
    if (is_aborted || atomic_load(&run->stop_index) != UINT64_MAX)
        mr__run_quiet_streams(leg->pipeline->plan);
    mr__run_quiet_crews(leg->pipeline->plan);
    mr__graphed_end(leg->pipeline->plan);
    if (is_aborted) /* the source's thread may yet be filling it */
        mr__fleet_close_leg(leg);
    atomic_store(&leg->state, MR__LEG_ENDED);
    if (!is_aborted || atomic_load(&fleet->has_failed))
        return;
    const struct mr__failure *failure = &run->failure;
    if (mr__fleet_is_lost(fleet->lanes[leg->lane].device))
        lose_lane(leg);
    else
        mr__fleet_fail(fleet, failure->status, failure->words);
}

/* ---- the main thread ---- */

static void replay_leg(struct mr__leg *leg)
{
    bool is_done;
    if (atomic_load(&leg->pipeline->run->is_aborted))
        return;
    const mr_status status = mr__leg_replay(leg, &is_done);
    if (status)
        mr__fleet_fail(leg->fleet, status, mr_last_error());
    else if (is_done)
        open_leg(leg);
}

static bool look_at_legs(struct mr__fleet *fleet)
{
    bool is_over = atomic_load(&fleet->is_source_done);
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        struct mr__leg *leg = &fleet->legs[i];
        if (mr__leg_state_of(leg) == MR__LEG_REPLAYING)
            replay_leg(leg);
        if (mr__leg_state_of(leg) != MR__LEG_ENDED && has_left(leg->pipeline))
            judge_leg(leg);
    }
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        is_over &= mr__leg_state_of(&fleet->legs[i]) == MR__LEG_ENDED;
    return is_over;
}

void mr__fleet_main(struct mr__fleet *fleet)
{
    while (!look_at_legs(fleet)) {
        pthread_mutex_lock(&fleet->mutex);
        while (!fleet->has_news)
            pthread_cond_wait(&fleet->news, &fleet->mutex);
        fleet->has_news = false;
        pthread_mutex_unlock(&fleet->mutex);
    }
}

static void *main_thread(void *context)
{
    struct mr__fleet *fleet = context;
    mr__fleet_main(fleet);
    mr__run_leave(fleet->pipeline);
    return NULL;
}

/* ---- start ---- */

static mr_status reset_legs(struct mr__fleet *fleet)
{
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        struct mr__leg *leg = &fleet->legs[i];
        mr__run_destroy(leg->pipeline);
        const mr_status status = mr__run_create(leg->pipeline);
        if (status)
            return status;
        leg->done = 0;
        atomic_store(&leg->state, MR__LEG_REPLAYING);
    }
    return MR_OK;
}

static void reset(struct mr__fleet *fleet)
{
    fleet->feed = (struct mr__feed){ 0 };
    atomic_store(&fleet->is_ending, false);
    atomic_store(&fleet->is_cancelled, false);
    atomic_store(&fleet->was_interrupted, false);
    atomic_store(&fleet->is_source_done, false);
    atomic_store(&fleet->ended_ns, 0);
    fleet->given_back = 0;
    memset(fleet->turns, 0, fleet->sink_count * sizeof *fleet->turns);
    fleet->stop_index = UINT64_MAX;
    fleet->failure = (struct mr__failure){ 0 };
    fleet->rate = (struct mr__rate){ 0 };
}

static bool is_worn(const struct mr__fleet *fleet)
{
    bool is_any_lost = false;
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        is_any_lost |= fleet->lanes[i].is_lost;
    return is_any_lost || fleet->has_failed;
}

/* A fleet is kept where the run before went through on every device. */
static mr_status prepare(mr_pipeline *pipeline)
{
    struct mr__fleet *fleet = pipeline->fleet;
    if (fleet && is_worn(fleet)) {
        mr__fleet_forget(pipeline);
        fleet = NULL;
    }
    if (fleet) {
        const mr_status status = reset_legs(fleet);
        if (!status) {
            reset(fleet);
            return MR_OK;
        }
        char words[MR_ERROR_BYTES];
        mr__words_take(status, words);
        mr__fleet_forget(pipeline);
        return mr_error_set(status, "%s", words);
    }
    const mr_status status = mr__fleet_create(pipeline, &fleet);
    if (status)
        return status;
    reset(fleet);
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->fleet = fleet;
    pthread_mutex_unlock(&pipeline->mutex);
    return MR_OK;
}

void mr__fleet_forget(mr_pipeline *pipeline)
{
    pthread_mutex_lock(&pipeline->mutex);
    struct mr__fleet *fleet = pipeline->fleet;
    pipeline->fleet = NULL;
    pthread_mutex_unlock(&pipeline->mutex);
    mr__fleet_destroy(fleet);
}

static mr_status start_threads(mr_pipeline *pipeline, bool is_main_apart)
{
    struct mr__fleet *fleet = pipeline->fleet;
    mr_status status = MR_OK;
    for (uint32_t i = 0; !status && i < atomic_load(&fleet->leg_count); i++) {
        status = start_leg(&fleet->legs[i]);
        if (!status)
            open_leg(&fleet->legs[i]);
    }
    if (!status)
        status = mr__run_start_thread(pipeline, &fleet->source_thread, &fleet->has_source_thread,
                                      mr__fleet_source_main, fleet);
    if (!status && is_main_apart)
        status = mr__run_start_thread(pipeline, &fleet->main_thread, &fleet->has_main_thread,
                                      main_thread, fleet);
    return status;
}

/* Some threads run, another could not be had. */
static mr_status give_up(mr_pipeline *pipeline, mr_status status)
{
    struct mr__fleet *fleet = pipeline->fleet;
    char words[MR_ERROR_BYTES];
    mr__words_take(status, words);
    mr__fleet_fail(fleet, status, words);
    if (!fleet->has_source_thread)
        atomic_store(&fleet->is_source_done, true);
    mr__fleet_main(fleet);
    const mr_status outcome = mr__fleet_finish(pipeline);
    mr__report_clear(pipeline);
    return outcome;
}

mr_status mr__fleet_start(mr_pipeline *pipeline, bool is_main_apart)
{
    mr__report_clear(pipeline);
    mr_status status = prepare(pipeline);
    if (status)
        return status;
    struct mr__fleet *fleet = pipeline->fleet;
    atomic_store(&fleet->started_ns, mr_device_now_ns(fleet->lanes[0].device));
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = MR__RUNNING;
    pthread_mutex_unlock(&pipeline->mutex);
    status = start_threads(pipeline, is_main_apart);
    return status ? give_up(pipeline, status) : MR_OK;
}

/* ---- the end ---- */

static void give_back_rest(struct mr__fleet *fleet)
{
    const struct mr__plan *plan = fleet->legs[0].pipeline->plan;
    const mr_source_options *source = &plan->source->source;
    const uint64_t end = fleet->feed.next_index + fleet->feed.has_held;
    if (plan->is_source_lending && source->give_back && end > fleet->given_back)
        source->give_back(source->context, fleet->given_back, (uint32_t)(end - fleet->given_back));
}

/* Every item that came in came out of every sink or is listed. */
static mr_status check_counts(const struct mr__fleet *fleet, uint64_t *items_in)
{
    uint64_t due = 0;
    *items_in = 0;
    for (uint32_t i = 0; i < fleet->leg_count; i++) {
        const struct mr__run *run = fleet->legs[i].pipeline->run;
        *items_in += run->items_in;
        due += run->items_in - run->items_skipped;
    }
    for (uint32_t k = 0; k < fleet->sink_count; k++) {
        uint64_t out = 0;
        for (uint32_t i = 0; i < fleet->leg_count; i++)
            out += fleet->legs[i].pipeline->run->sinks[k].items;
        if (out != due)
            return mr_error_set(MR_E_STATE,
                                "pipeline '%s': %llu items were due, but %llu came out of sink %u: "
                                "this is a fault of the library",
                                fleet->pipeline->name, (unsigned long long)due,
                                (unsigned long long)out, k + 1);
    }
    return MR_OK;
}

static mr_status outcome_of(const struct mr__fleet *fleet)
{
    uint64_t items_in;
    if (fleet->failure.status)
        return mr_error_set(fleet->failure.status, "%s", fleet->failure.words);
    const mr_status status = check_counts(fleet, &items_in);
    if (status)
        return status;
    if (fleet->is_cancelled && fleet->feed.was_cut)
        return mr_error_set(MR_E_CANCELLED, "pipeline '%s' was cancelled after %llu items",
                            fleet->pipeline->name, (unsigned long long)items_in);
    return MR_OK;
}

mr_status mr__fleet_finish(mr_pipeline *pipeline)
{
    struct mr__fleet *fleet = pipeline->fleet;
    if (fleet->has_main_thread)
        pthread_join(fleet->main_thread, NULL);
    if (fleet->has_source_thread)
        pthread_join(fleet->source_thread, NULL);
    fleet->has_main_thread = fleet->has_source_thread = false;
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = MR__WAITED; /* cancel finds nothing to do from here on */
    while (pipeline->callers)
        pthread_cond_wait(&pipeline->cond, &pipeline->mutex);
    pthread_mutex_unlock(&pipeline->mutex);

    give_back_rest(fleet);
    atomic_store(&fleet->ended_ns, mr_device_now_ns(fleet->lanes[0].device));
    mr_status status = mr__fleet_report(fleet);
    const mr_status outcome = outcome_of(fleet);
    if (outcome)
        status = outcome;
    pthread_mutex_lock(&pipeline->mutex);
    pipeline->phase = MR__IDLE;
    pthread_mutex_unlock(&pipeline->mutex);
    return status;
}

/* ---- from any thread ---- */

void mr__fleet_cancel(struct mr__fleet *fleet, bool is_cancel)
{
    if (is_cancel)
        atomic_store(&fleet->is_cancelled, true);
    mr__fleet_end_source(fleet);
}

void mr__fleet_progress(struct mr__fleet *fleet, mr_pipeline_progress_now *out)
{
    const uint64_t ended = atomic_load(&fleet->ended_ns);
    const uint64_t now = ended ? ended : mr_device_now_ns(fleet->lanes[0].device);
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        mr_pipeline_progress_now leg;
        mr_pipeline_progress(fleet->legs[i].pipeline, &leg);
        out->items_in += leg.items_in;
        out->items_out += leg.items_out;
        out->items_skipped += leg.items_skipped;
        out->bytes_in += leg.bytes_in;
        out->bytes_out += leg.bytes_out;
    }
    out->elapsed_ns = now - atomic_load(&fleet->started_ns);
    out->item_count = fleet->item_count;
}

void mr__fleet_progress_lane(struct mr__fleet *fleet, uint32_t index, mr_device_progress *out)
{
    const struct mr__lane *lane = &fleet->lanes[index];
    *out = (mr_device_progress){ .lane = index, .is_lost = atomic_load(&lane->is_lost) };
    snprintf(out->device, sizeof out->device, "%s", mr_device_id(lane->device));
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        mr_pipeline_progress_now leg;
        if (fleet->legs[i].lane != index)
            continue;
        mr_pipeline_progress(fleet->legs[i].pipeline, &leg);
        out->items += leg.items_out;
        out->bytes += leg.bytes_in;
    }
}
