/* SPDX-License-Identifier: MIT */
/*
 * What goes into the legs of a fleet: new items, by the thread that calls the source, and items that
 * come again because a device was lost.
 */
#include "flow/pipeline_fleet.h"

#include "base/alloc.h"

#include <string.h>

enum { LOOK_NS = 1000000 };

/* ---- which leg ---- */

/* Lanes are given work by their places: the first `active` of those that are left. While places change,
 * two lanes may have the same one; the first place is always somebody's. */
static bool is_active(const struct mr__fleet *fleet, uint32_t lane)
{
    const uint32_t place = atomic_load(&fleet->lanes[lane].place);
    uint32_t rank = 0;
    for (uint32_t i = 0; i < fleet->lane_count; i++)
        rank +=
            !atomic_load(&fleet->lanes[i].is_lost) && atomic_load(&fleet->lanes[i].place) < place;
    return rank < atomic_load(&fleet->active);
}

/* Parcels whose work has not ended, as far as their order goes. */
static uint64_t unfinished(struct mr__leg *leg)
{
    const struct mr__plan *plan = leg->pipeline->plan;
    const struct mr__run *run = leg->pipeline->run;
    const uint64_t retired = mr__count_get(&run->retired);
    const uint64_t submitted = mr__count_get(&run->submitted);
    if (leg->done < retired)
        leg->done = retired;
    while (leg->done < submitted && mr__sink_has_ended(mr__slot_of(plan, leg->done)))
        leg->done++;
    return run->opened - leg->done;
}

/* A leg that is behind gets no more than keeps it busy. Were all its slots full, each delivery would
 * free one slot where it came from, and every leg would get as many parcels as the slowest. */
static bool is_busy(struct mr__leg *leg)
{
    const uint32_t limit = leg->pipeline->plan->leg_busy_limit;
    const struct mr__run *run = leg->pipeline->run;
    return run->opened - mr__count_get(&run->retired) >= limit && unfinished(leg) >= limit;
}

static bool can_take(const struct mr__fleet *fleet, struct mr__leg *leg)
{
    return mr__leg_state_of(leg) == MR__LEG_FEEDING &&
           !atomic_load(&leg->pipeline->run->is_aborted) && is_active(fleet, leg->lane) &&
           mr__source_has_slot(leg->pipeline) && !is_busy(leg);
}

/* By demand: the one with the fewest parcels under way. */
static struct mr__leg *find_leg(struct mr__fleet *fleet)
{
    struct mr__leg *found = NULL;
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        struct mr__leg *leg = &fleet->legs[i];
        if (!can_take(fleet, leg))
            continue;
        const struct mr__run *run = leg->pipeline->run;
        const uint64_t under_way = run->opened - mr__count_get(&run->retired);
        if (under_way >= least)
            continue;
        least = under_way;
        found = leg;
    }
    return found;
}

/* The run ends early, and no item is held that must still come out. */
static bool is_cut(const struct mr__fleet *fleet)
{
    if (atomic_load(&fleet->has_failed))
        return true;
    const struct mr__run *run = fleet->legs[0].pipeline->run;
    const bool is_stopped = atomic_load(&run->stop_index) != UINT64_MAX;
    return atomic_load(&fleet->is_ending) && (!fleet->feed.has_held || is_stopped);
}

static bool can_feed(void *context)
{
    struct mr__fleet *fleet = context;
    return is_cut(fleet) || find_leg(fleet);
}

/* The main thread may close a leg at any time: only what is opened under the lock is filled. */
static struct mr__leg *take_leg(struct mr__fleet *fleet)
{
    pthread_mutex_lock(&fleet->mutex);
    struct mr__leg *leg = find_leg(fleet);
    if (leg) {
        fleet->filling = leg;
        fleet->filling_slot = mr__source_open(leg->pipeline, fleet->feed.next_index);
    }
    pthread_mutex_unlock(&fleet->mutex);
    return leg;
}

static void leave_leg(struct mr__fleet *fleet, struct mr__leg *leg)
{
    pthread_mutex_lock(&fleet->mutex);
    fleet->filling = NULL;
    fleet->has_news = true;
    pthread_cond_broadcast(&fleet->news);
    pthread_mutex_unlock(&fleet->mutex);
    mr__bell_ring(&leg->pipeline->run->submit_bell);
}

static void feed_no_more(struct mr__leg *leg)
{
    atomic_store(&leg->state, MR__LEG_FED);
    atomic_store(&leg->pipeline->run->is_fed, true);
    mr__bell_ring(&leg->pipeline->run->submit_bell);
}

void *mr__fleet_source_main(void *context)
{
    struct mr__fleet *fleet = context;
    struct mr__feed *feed = &fleet->feed;
    while (!feed->has_ended || feed->has_held) {
        /* Work that ends before its turn rings nothing. */
        mr__bell_wait_for(&fleet->source_bell, can_feed, fleet, LOOK_NS);
        struct mr__leg *leg = take_leg(fleet);
        if (leg) {
            mr__source_fill(leg->pipeline, fleet->filling_slot, true);
            leave_leg(fleet, leg);
        } else if (is_cut(fleet)) {
            feed->was_cut = true;
            break;
        }
    }
    pthread_mutex_lock(&fleet->mutex);
    atomic_store(&fleet->is_source_done, true);
    for (uint32_t i = 0; i < atomic_load(&fleet->leg_count); i++) {
        if (mr__leg_state_of(&fleet->legs[i]) == MR__LEG_FEEDING)
            feed_no_more(&fleet->legs[i]);
    }
    fleet->has_news = true;
    pthread_cond_broadcast(&fleet->news);
    pthread_mutex_unlock(&fleet->mutex);
    mr__run_leave(fleet->pipeline);
    return NULL;
}

/* ---- the main thread's side ---- */

static void await_filled(struct mr__fleet *fleet, const struct mr__leg *leg)
{
    pthread_mutex_lock(&fleet->mutex);
    while (fleet->filling == leg)
        pthread_cond_wait(&fleet->news, &fleet->mutex);
    fleet->has_news = true;
    pthread_mutex_unlock(&fleet->mutex);
}

void mr__fleet_close_leg(struct mr__leg *leg)
{
    struct mr__fleet *fleet = leg->fleet;
    pthread_mutex_lock(&fleet->mutex);
    const bool was_open = mr__leg_state_of(leg) < MR__LEG_FED;
    if (was_open)
        atomic_store(&leg->state, MR__LEG_FED);
    const bool is_filling = fleet->filling == leg;
    struct mr__slot *slot = fleet->filling_slot;
    pthread_mutex_unlock(&fleet->mutex);
    if (!was_open)
        return;

    /* A source may be in its function for long; memory is there at once. */
    if (is_filling && leg->pipeline->plan->source->source.memory)
        await_filled(fleet, leg);
    else if (is_filling)
        mr__source_seal(leg->pipeline, slot);
    feed_no_more(leg);
}

static uint64_t drop_counts(struct mr__run *run, const struct mr__plan *plan,
                            const struct mr__slot *slot, uint32_t count, bool is_begun)
{
    uint64_t bytes = 0, skipped = 0;
    for (uint32_t k = 0; k < count; k++) {
        bytes += slot->sizes[plan->source_edge][k];
        skipped += is_begun && mr__slot_has_failed(slot, k);
    }
    /* In this order, so that no onlooker sees more come out than went in. */
    atomic_fetch_sub(&run->items_skipped, skipped);
    atomic_fetch_sub(&run->items_in, count);
    atomic_fetch_sub(&run->bytes_in, bytes);
    return skipped;
}

/* They will be skipped again, or not. */
static void drop_skipped(struct mr__run *run, uint64_t first, uint32_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < run->skipped_count; i++) {
        if (run->skipped[i].index < first || run->skipped[i].index >= first + count)
            run->skipped[kept++] = run->skipped[i];
    }
    run->skipped_count = kept;
}

mr_status mr__leg_collect(struct mr__leg *leg, struct mr__replay **out, size_t *count,
                          uint64_t *item_count)
{
    const struct mr__plan *plan = leg->pipeline->plan;
    struct mr__run *run = leg->pipeline->run;
    const uint64_t first = mr__count_get(&run->retired), end = mr__count_get(&run->filled);
    *out = NULL;
    *count = 0;
    *item_count = 0;
    const size_t left = leg->replay_count - leg->replay_next;
    if (first == end && !left)
        return MR_OK;
    struct mr__replay *list = mr__zalloc_array(end - first + left, sizeof *list);
    if (!list)
        return mr__pipeline_no_memory(leg->pipeline);
    for (uint64_t n = first; n < end; n++) {
        struct mr__slot *slot = mr__slot_of(plan, n);
        const uint32_t live = mr__slot_live_items(slot);
        const bool is_begun = n < run->begun;
        if (!live)
            continue;
        if (drop_counts(run, plan, slot, live, is_begun))
            drop_skipped(run, slot->first_index, live);
        list[(*count)++] = (struct mr__replay){ .slot = slot, .count = live, .is_begun = is_begun };
        *item_count += live;
    }
    for (size_t i = leg->replay_next; i < leg->replay_count; i++) {
        list[(*count)++] = leg->replays[i];
        *item_count += leg->replays[i].count - leg->replays[i].done;
    }
    *out = list;
    return MR_OK;
}

mr_status mr__leg_replay(struct mr__leg *leg, bool *is_done)
{
    mr_status status = MR_OK;
    bool has_moved = false;
    while (!status && leg->replay_next < leg->replay_count) {
        struct mr__replay *replay = &leg->replays[leg->replay_next];
        /* The run has been stopped before it. */
        if (replay->slot->first_index + replay->done >=
            atomic_load(&leg->pipeline->run->stop_index))
            leg->replay_next = leg->replay_count;
        if (leg->replay_next == leg->replay_count || !mr__source_has_slot(leg->pipeline))
            break;
        struct mr__slot *slot =
            mr__source_open(leg->pipeline, replay->slot->first_index + replay->done);
        status = mr__source_refill(leg->pipeline, slot, replay->slot, replay->is_begun,
                                   &replay->done, replay->count);
        leg->replay_next += replay->done == replay->count;
        has_moved = true;
    }
    if (has_moved)
        mr__bell_ring(&leg->pipeline->run->submit_bell);
    *is_done = leg->replay_next == leg->replay_count;
    return status;
}
