/* SPDX-License-Identifier: MIT */
/*
 * What the threads of a fleet's legs call: whose turn it is to deliver, and what one leg's failure is to
 * the others.
 */
#include "flow/pipeline_fleet.h"

#include <stdio.h>

void mr__fleet_wake(struct mr__fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet->has_news = true;
    pthread_cond_broadcast(&fleet->news);
    pthread_mutex_unlock(&fleet->mutex);
}

struct mr__feed *mr__leg_feed(struct mr__leg *leg)
{
    return &leg->fleet->feed;
}

void mr__leg_lend_begin(struct mr__leg *leg)
{
    if (leg)
        pthread_mutex_lock(&leg->fleet->lend_mutex);
}

void mr__leg_lend_end(struct mr__leg *leg)
{
    if (leg)
        pthread_mutex_unlock(&leg->fleet->lend_mutex);
}

/* ---- turns ---- */

enum mr__turn mr__leg_await_turn(struct mr__leg *leg, uint32_t sink, const struct mr__slot *slot)
{
    struct mr__fleet *fleet = leg->fleet;
    const struct mr__run *run = leg->pipeline->run;
    pthread_mutex_lock(&fleet->mutex);
    while (fleet->turns[sink] < slot->first_index && mr__slot_live_items(slot) &&
           !atomic_load(&run->is_aborted))
        pthread_cond_wait(&fleet->turned, &fleet->mutex);
    const enum mr__turn turn = atomic_load(&run->is_aborted) ? MR__TURN_GONE
                               : fleet->turns[sink] > slot->first_index && mr__slot_live_items(slot)
                                   ? MR__TURN_PASSED
                                   : MR__TURN_MINE;
    pthread_mutex_unlock(&fleet->mutex);
    return turn;
}

/* Lent items go back in order, however legs pass each other between two sinks. */
static void give_back(struct mr__fleet *fleet, const struct mr__plan *plan)
{
    const mr_source_options *source = &plan->source->source;
    if (!plan->is_source_lending || !source->give_back)
        return;
    pthread_mutex_lock(&fleet->give_mutex);
    pthread_mutex_lock(&fleet->mutex);
    uint64_t due = UINT64_MAX;
    for (uint32_t i = 0; i < fleet->sink_count; i++) {
        if (fleet->turns[i] < due)
            due = fleet->turns[i];
    }
    pthread_mutex_unlock(&fleet->mutex);
    if (due > fleet->given_back)
        source->give_back(source->context, fleet->given_back, (uint32_t)(due - fleet->given_back));
    fleet->given_back = due;
    pthread_mutex_unlock(&fleet->give_mutex);
}

static uint64_t bytes_of(const struct mr__plan *plan, const struct mr__slot *slot)
{
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < slot->item_count; k++)
        bytes += slot->sizes[plan->source_edge][k];
    return bytes;
}

/* Under the mutex. */
static void place_lanes(struct mr__fleet *fleet)
{
    uint64_t bytes[MR_PIPELINE_DEVICE_LIMIT];
    uint32_t places[MR_PIPELINE_DEVICE_LIMIT];
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        bytes[i] = fleet->lanes[i].window_bytes;
    mr__governor_places(bytes, fleet->lane_count, places);
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        atomic_store(&fleet->lanes[i].place, places[i]);
}

/* Under the mutex. */
static void measure(struct mr__fleet *fleet, uint32_t lane, uint64_t bytes, uint64_t now_ns)
{
    double rate;
    const uint32_t before = fleet->governor.active;
    fleet->lanes[lane].window_bytes += bytes;
    if (!mr__rate_add(&fleet->rate, before, bytes, now_ns, &rate))
        return;
    const uint32_t active = mr__governor_window(&fleet->governor, rate);
    if (before == fleet->governor.lane_count && active < before)
        place_lanes(fleet);
    atomic_store(&fleet->active, active);
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        fleet->lanes[i].window_bytes = 0;
}

void mr__leg_pass_turn(struct mr__leg *leg, uint32_t sink, const struct mr__slot *slot)
{
    struct mr__fleet *fleet = leg->fleet;
    const struct mr__plan *plan = leg->pipeline->plan;
    /* What was cut short may still be read by work that nobody waits for. */
    if (mr__slot_live_items(slot) < slot->item_count)
        return;
    const uint64_t now_ns = mr_device_now_ns(plan->clock_device);
    const uint64_t bytes = bytes_of(plan, slot);
    pthread_mutex_lock(&fleet->mutex);
    fleet->turns[sink] = slot->first_index + slot->item_count;
    if (sink == 0)
        measure(fleet, leg->lane, bytes, now_ns);
    pthread_cond_broadcast(&fleet->turned);
    pthread_mutex_unlock(&fleet->mutex);
    give_back(fleet, plan);
}

void mr__leg_retired(struct mr__leg *leg)
{
    if (mr__leg_state_of(leg) == MR__LEG_REPLAYING)
        mr__fleet_wake(leg->fleet);
    mr__bell_ring(&leg->fleet->source_bell);
}

/* ---- failures and ends ---- */

static void release_waiting(struct mr__fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet->has_news = true;
    pthread_cond_broadcast(&fleet->news);
    pthread_cond_broadcast(&fleet->turned);
    pthread_mutex_unlock(&fleet->mutex);
    mr__bell_ring(&fleet->source_bell);
}

void mr__leg_ended(struct mr__leg *leg)
{
    mr__fleet_wake(leg->fleet);
}

void mr__leg_aborted(struct mr__leg *leg)
{
    release_waiting(leg->fleet);
}

mr_status mr__leg_loss(const struct mr__leg *leg)
{
    uint64_t free_bytes, all_bytes;
    return mr_device_memory(leg->fleet->lanes[leg->lane].device, &free_bytes, &all_bytes);
}

void mr__fleet_end_source(struct mr__fleet *fleet)
{
    const uint32_t count = atomic_load(&fleet->leg_count);
    atomic_store(&fleet->is_ending, true);
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        atomic_store(&fleet->legs[i].pipeline->run->is_ending, true);
    const mr_source_options *source = count ? &fleet->legs[0].pipeline->plan->source->source : NULL;
    if (source && !atomic_exchange(&fleet->was_interrupted, true) && source->interrupt)
        source->interrupt(source->context);
    mr__bell_ring(&fleet->source_bell);
}

/* Under the mutex. The lowest item's failure is told. */
static void note_failure(struct mr__fleet *fleet, uint64_t index, mr_status status,
                         const char *words)
{
    if (fleet->failure.status && index >= fleet->failure.index)
        return;
    fleet->failure.status = status;
    fleet->failure.index = index;
    snprintf(fleet->failure.words, sizeof fleet->failure.words, "%s", words);
}

void mr__leg_stop(struct mr__leg *leg, uint64_t index, mr_status status, const char *words)
{
    struct mr__fleet *fleet = leg->fleet;
    pthread_mutex_lock(&fleet->mutex);
    if (!atomic_load(&fleet->has_failed))
        note_failure(fleet, index, status, words);
    if (index < fleet->stop_index)
        fleet->stop_index = index;
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        atomic_store(&fleet->legs[i].pipeline->run->stop_index, fleet->stop_index);
    pthread_mutex_unlock(&fleet->mutex);
    release_waiting(fleet);
    mr__fleet_end_source(fleet);
}

void mr__fleet_fail(struct mr__fleet *fleet, mr_status status, const char *words)
{
    pthread_mutex_lock(&fleet->mutex);
    if (!atomic_exchange(&fleet->has_failed, true)) {
        fleet->failure.status = 0;
        note_failure(fleet, 0, status, words);
    }
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        atomic_store(&fleet->legs[i].pipeline->run->is_aborted, true);
    pthread_mutex_unlock(&fleet->mutex);
    release_waiting(fleet);
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++)
        mr__run_ring(fleet->legs[i].pipeline->run);
    mr__fleet_end_source(fleet);
}
