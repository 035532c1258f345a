/* SPDX-License-Identifier: MIT */
/* See governor.h. Every number that is tried has one window to settle and one that counts. */
#include "flow/governor.h"

#include <string.h>

enum {
    BEGIN_WINDOWS = 3, /* a run that is shorter is not worth a search */
    FIRST_HOLD = 256,  /* a search costs some windows: one in a hundred is spent so */
    LAST_HOLD = 4096,
    ODD_LIMIT = 3,       /* windows that make a change of the rate */
    ODD_AFTER = 16,      /* windows held before a change is believed */
    WINDOW_PARCELS = 24, /* of each lane: what is under way at both ends counts for little */
    WINDOW_NS = 20000000
};

#define RELIEF 1.1 /* each of fewer lanes does a tenth better: they were in each other's way */
#define BETTER 1.03
#define ODD 0.15

static void try_number(struct mr__governor *governor, enum mr__governor_state state,
                       uint32_t active)
{
    governor->state = state;
    governor->active = active;
    governor->windows = 0;
}

static void begin_search(struct mr__governor *governor)
{
    memset(governor->rates, 0, sizeof governor->rates);
    governor->best = governor->lane_count;
    governor->halved_from = 0;
    governor->is_crowded = false;
    try_number(governor, MR__GOVERNOR_HALVE, governor->lane_count);
}

void mr__governor_init(struct mr__governor *governor, uint32_t lane_count)
{
    *governor = (struct mr__governor){ .lane_count = lane_count,
                                       .active = lane_count,
                                       .state = MR__GOVERNOR_BEGIN,
                                       .best = lane_count,
                                       .hold_limit = FIRST_HOLD };
}

static void hold(struct mr__governor *governor)
{
    governor->reference = governor->rates[governor->best];
    governor->odd_count = 0;
    try_number(governor, MR__GOVERNOR_HOLD, governor->best);
}

/* The next number beside the best one that has not been tried, or the end of the search. */
static void try_neighbour(struct mr__governor *governor)
{
    const uint32_t best = governor->best;
    if (best < governor->lane_count && !governor->rates[best + 1])
        try_number(governor, MR__GOVERNOR_NEAR, best + 1);
    else if (best > 1 && !governor->rates[best - 1] && governor->is_crowded)
        try_number(governor, MR__GOVERNOR_NEAR, best - 1);
    else
        hold(governor);
}

static void note_rate(struct mr__governor *governor, double rate)
{
    governor->rates[governor->active] = rate;
    /* More lanes are kept until fewer are clearly better: they even out what one of them lacks. */
    const double margin = governor->active < governor->best ? BETTER : 1 / BETTER;
    if (rate > margin * governor->rates[governor->best])
        governor->best = governor->active;
}

static void halve(struct mr__governor *governor, double rate)
{
    const uint32_t active = governor->active, before = governor->halved_from;
    const bool is_relieved = !before || rate / active > RELIEF * governor->rates[before] / before;
    note_rate(governor, rate);
    governor->is_crowded |= before && is_relieved;
    governor->halved_from = active;
    if (active == 1 || !is_relieved)
        try_neighbour(governor);
    else
        try_number(governor, MR__GOVERNOR_HALVE, active / 2);
}

static void watch(struct mr__governor *governor, double rate)
{
    const double distance =
        rate > governor->reference ? rate - governor->reference : governor->reference - rate;
    if (distance <= ODD * governor->reference) {
        governor->odd_count = 0;
        governor->reference += 0.1 * (rate - governor->reference);
    } else {
        governor->odd_count++;
    }
    if (governor->odd_count >= ODD_LIMIT && governor->windows >= ODD_AFTER) {
        governor->hold_limit = FIRST_HOLD;
        begin_search(governor);
    } else if (governor->windows >= governor->hold_limit) {
        if (governor->hold_limit < LAST_HOLD)
            governor->hold_limit *= 2;
        begin_search(governor);
    }
}

uint32_t mr__governor_window(struct mr__governor *governor, double rate)
{
    if (governor->lane_count == 1)
        return 1;
    governor->windows++;
    switch (governor->state) {
    case MR__GOVERNOR_BEGIN:
        if (governor->windows >= BEGIN_WINDOWS)
            begin_search(governor);
        break;
    case MR__GOVERNOR_HALVE:
        if (governor->windows > 1)
            halve(governor, rate);
        break;
    case MR__GOVERNOR_NEAR:
        if (governor->windows > 1) {
            note_rate(governor, rate);
            try_neighbour(governor);
        }
        break;
    case MR__GOVERNOR_HOLD:
        watch(governor, rate);
        break;
    }
    return governor->active;
}

void mr__governor_places(const uint64_t *bytes, uint32_t lane_count, uint32_t *places)
{
    uint64_t most = 0;
    uint32_t place = 0;
    for (uint32_t i = 0; i < lane_count; i++) {
        if (bytes[i] > most)
            most = bytes[i];
    }
    for (uint32_t i = 0; i < lane_count; i++) {
        if (bytes[i] >= most - most / 2)
            places[i] = place++;
    }
    for (uint32_t i = 0; i < lane_count; i++) {
        if (bytes[i] < most - most / 2)
            places[i] = place++;
    }
}

bool mr__rate_add(struct mr__rate *rate, uint32_t active, uint64_t bytes, uint64_t now_ns,
                  double *out)
{
    if (!rate->since_ns) {
        *rate = (struct mr__rate){ .since_ns = now_ns };
        return false;
    }
    rate->bytes += bytes;
    rate->parcels++;
    const uint64_t elapsed_ns = now_ns > rate->since_ns ? now_ns - rate->since_ns : 1;
    if (elapsed_ns < WINDOW_NS || rate->parcels < (uint64_t)WINDOW_PARCELS * active)
        return false;
    *out = (double)rate->bytes / (double)elapsed_ns;
    *rate = (struct mr__rate){ .since_ns = now_ns };
    return true;
}
