/* SPDX-License-Identifier: MIT */
/*
 * flow/governor.h - how many lanes are given work at once, learned from what was delivered.
 *
 * Lanes share the host's memory and its ways to the devices, and more of them at once may copy less
 * than fewer. The governor starts with all, halves them as long as each lane that is left does better
 * for it, looks at the neighbours of the best number, and stays there. It looks again when the rate has
 * changed for good, and now and then of itself, ever more rarely. Where a lane does no better with fewer
 * beside it, as when computing is what takes the time, the first halving is the last.
 *
 * Pure: no clock, no lock, no memory.
 */
#ifndef MR__GOVERNOR_H
#define MR__GOVERNOR_H

#include <stdbool.h>
#include <stdint.h>

#define MR__GOVERNOR_LIMIT 64

enum mr__governor_state {
    MR__GOVERNOR_BEGIN,
    MR__GOVERNOR_HALVE,
    MR__GOVERNOR_NEAR,
    MR__GOVERNOR_HOLD
};

struct mr__governor {
    uint32_t lane_count;
    uint32_t active; /* lanes to give work to */
    enum mr__governor_state state;
    uint32_t windows;                     /* in this state at this number */
    double rates[MR__GOVERNOR_LIMIT + 1]; /* of each number in this search; 0 = not tried */
    uint32_t best;
    uint32_t halved_from; /* the number before, or 0 */
    bool is_crowded;      /* with fewer, each did better */
    double reference;     /* the rate that is held */
    uint32_t odd_count;   /* windows in a row that were far from it */
    uint32_t hold_limit;  /* windows until the next look */
};

/* `lane_count` 1 to MR__GOVERNOR_LIMIT. */
void mr__governor_init(struct mr__governor *governor, uint32_t lane_count);
/* Told the rate of one window with `active` lanes; says how many are to be active in the next. */
uint32_t mr__governor_window(struct mr__governor *governor, double rate);

/* The order in which lanes are given work, fewer than all, by what each brought in a window of all:
 * `places[i]` of lane i, from 0. Those that did less than half of what the fastest did come last, else the
 * lanes stay in their order: what differs less may be chance. */
void mr__governor_places(const uint64_t *bytes, uint32_t lane_count, uint32_t *places);

/* What adds up to a window. */
struct mr__rate {
    uint64_t since_ns; /* 0: begins with what comes next */
    uint64_t bytes, parcels;
};

/* Adds a parcel. True at the end of a window, with its rate in bytes per nanosecond. */
bool mr__rate_add(struct mr__rate *rate, uint32_t active, uint64_t bytes, uint64_t now_ns,
                  double *out);

#endif
