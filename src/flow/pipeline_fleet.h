/* SPDX-License-Identifier: MIT */
/*
 * flow/pipeline_fleet.h - a pipeline over several devices: the same chain of nodes on each.
 *
 * A *lane* is one of the devices; a *leg* is a pipeline of its own, with plan, submitter and sinks'
 * threads, that runs on a lane. All legs share one source and the order in which results are due:
 *
 *     source ──► the leg with most room ──► its chain ──► wait for the turn ──► the caller's sink
 *
 * A leg's slots go back only after delivery, so whatever a lost device had not delivered is still in
 * host memory. It is given to a new leg on another lane, whose old leg gets nothing more: parcels of a
 * leg come in item order, and what waits for its turn never stands in the way of what is due before.
 *
 * One thread calls the source and fills legs that are FEEDING; the fleet's main thread starts and ends
 * legs, and fills those that are REPLAYING.
 */
#ifndef MR__PIPELINE_FLEET_H
#define MR__PIPELINE_FLEET_H

#include "flow/governor.h"
#include "flow/pipeline.h"

enum mr__leg_state {
    MR__LEG_REPLAYING, /* gets what another leg did not deliver */
    MR__LEG_FEEDING,   /* gets new items */
    MR__LEG_FED,       /* gets no more */
    MR__LEG_ENDED      /* its threads have gone and its outcome is known */
};

/* Items of a slot that its leg did not deliver. */
struct mr__replay {
    struct mr__slot *slot;
    uint32_t count, done;
    bool is_begun;
};

struct mr__leg {
    struct mr__fleet *fleet;
    mr_pipeline *pipeline;
    uint32_t lane;
    _Atomic int state;
    uint64_t done; /* parcels known to have ended, or retired; of the source's thread */
    struct mr__replay *replays; /* of the main thread */
    size_t replay_count, replay_next;
};

struct mr__lane {
    mr_device *device;
    _Atomic bool is_lost;
    mr_status status; /* why; of the main thread */
    char words[256];
    uint64_t items_moved;
    _Atomic uint32_t place; /* among the lanes: the first are given work when not all are */
    uint64_t window_bytes;  /* delivered in the governor's present window; under the mutex */
};

struct mr__fleet {
    mr_pipeline *pipeline; /* the caller's */
    struct mr__lane *lanes;
    uint32_t lane_count;
    struct mr__leg *legs; /* all there have been, in room for the most there can be */
    uint32_t leg_capacity;
    _Atomic uint32_t leg_count;
    uint32_t sink_count; /* turns: at least one */
    size_t item_bytes;   /* the source's, and a parcel's items: the same for all legs */
    uint32_t parcel_items;

    struct mr__feed feed;
    struct mr__bell source_bell;
    _Atomic bool is_ending; /* the source is not asked again */
    _Atomic bool is_cancelled;
    _Atomic bool was_interrupted;
    _Atomic bool is_source_done;
    _Atomic bool has_failed; /* nothing more is delivered */
    _Atomic uint32_t active; /* lanes that are given work, as the governor says */
    _Atomic uint64_t started_ns, ended_ns;
    uint64_t item_count;
    pthread_t source_thread, main_thread;
    bool has_source_thread, has_main_thread;

    pthread_mutex_t lend_mutex; /* sinks' lend */
    pthread_mutex_t give_mutex; /* the source's give_back, and: */
    uint64_t given_back;

    pthread_mutex_t mutex; /* what follows, and legs' becoming */
    pthread_cond_t news;   /* for the main thread */
    pthread_cond_t turned; /* a turn was passed, or will never be */
    bool has_news;
    struct mr__leg *filling; /* by the source's thread */
    struct mr__slot *filling_slot;
    uint64_t *turns; /* of each sink, the item that is due */
    uint64_t stop_index;
    struct mr__failure failure;
    struct mr__governor governor;
    struct mr__rate rate;          /* what was delivered in the governor's present window */
    mr_skipped_item *skipped;      /* for the report */
    mr_device_report *reports;     /* likewise, of each lane */
    struct mr__failure first_loss; /* of the main thread */
};

/* ---- pipeline_fleet.c: made and freed ---- */

mr_status mr__fleet_create(mr_pipeline *pipeline, struct mr__fleet **out);
void mr__fleet_destroy(struct mr__fleet *fleet);
/* A new leg on the lane, with plan and run, not started. MR_E_DEVICE and the like where the device
 * cannot. Main thread, or before it runs. */
mr_status mr__fleet_add_leg(struct mr__fleet *fleet, uint32_t lane, struct mr__leg **out);
/* Whether the device answers nothing but failures any more. */
bool mr__fleet_is_lost(mr_device *device);
void mr__fleet_lose(struct mr__fleet *fleet, uint32_t lane, mr_status status, const char *words);

/* ---- pipeline_fleet_run.c: from start to end ---- */

/* The parts of mr_pipeline_start and so on for a pipeline over several devices. */
mr_status mr__fleet_start(mr_pipeline *pipeline, bool is_main_apart);
void mr__fleet_main(struct mr__fleet *fleet);
mr_status mr__fleet_finish(mr_pipeline *pipeline);
/* Destroys the pipeline's fleet, if it has one. */
void mr__fleet_forget(mr_pipeline *pipeline);
void mr__fleet_cancel(struct mr__fleet *fleet, bool is_cancel);
void mr__fleet_progress(struct mr__fleet *fleet, mr_pipeline_progress_now *out);
void mr__fleet_progress_lane(struct mr__fleet *fleet, uint32_t lane, mr_device_progress *out);

/* ---- pipeline_fleet_feed.c: the source's thread, and items that come again ---- */

void *mr__fleet_source_main(void *fleet);
/* The leg gets nothing more from the source's thread. What was being filled goes out. */
void mr__fleet_close_leg(struct mr__leg *leg);
/* What the leg's run did not deliver is taken out of its counts. */
mr_status mr__leg_collect(struct mr__leg *leg, struct mr__replay **out, size_t *count,
                          uint64_t *item_count);
/* Fills the leg's free slots from its replays. True when none are left. */
mr_status mr__leg_replay(struct mr__leg *leg, bool *is_done);

/* ---- pipeline_fleet_turn.c: what legs' threads call ---- */

enum mr__turn { MR__TURN_MINE, MR__TURN_PASSED, MR__TURN_GONE };

/* Waits until the slot's items are due at the sink. PASSED: they were delivered before. GONE: they
 * will not be delivered by this leg. */
enum mr__turn mr__leg_await_turn(struct mr__leg *leg, uint32_t sink, const struct mr__slot *slot);
void mr__leg_pass_turn(struct mr__leg *leg, uint32_t sink, const struct mr__slot *slot);
/* A slot is free. */
void mr__leg_retired(struct mr__leg *leg);
/* The leg's last thread has gone. */
void mr__leg_ended(struct mr__leg *leg);
void mr__leg_aborted(struct mr__leg *leg);
void mr__leg_stop(struct mr__leg *leg, uint64_t index, mr_status status, const char *words);
/* What the leg's device answers since it is lost, in this thread's words; MR_OK when it is not. */
mr_status mr__leg_loss(const struct mr__leg *leg);
struct mr__feed *mr__leg_feed(struct mr__leg *leg);
/* Around a sink's lend; NULL is accepted. */
void mr__leg_lend_begin(struct mr__leg *leg);
void mr__leg_lend_end(struct mr__leg *leg);
/* The whole run fails: nothing more is delivered. */
void mr__fleet_fail(struct mr__fleet *fleet, mr_status status, const char *words);
/* The source is not asked again. */
void mr__fleet_end_source(struct mr__fleet *fleet);
void mr__fleet_wake(struct mr__fleet *fleet);

/* ---- pipeline_fleet_report.c ---- */

mr_status mr__fleet_report(struct mr__fleet *fleet);

static inline uint32_t mr__leg_lane(const struct mr__leg *leg)
{
    return leg ? leg->lane : 0;
}

/* Legs that have to share the host's threads. */
static inline uint32_t mr__leg_share(const struct mr__leg *leg)
{
    return leg ? leg->fleet->lane_count : 1;
}

static inline enum mr__leg_state mr__leg_state_of(const struct mr__leg *leg)
{
    return (enum mr__leg_state)atomic_load(&leg->state);
}

#endif
