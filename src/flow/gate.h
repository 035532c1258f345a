/* SPDX-License-Identifier: MIT */
/*
 * flow/gate.h - where one side waits for the other: a condition whose waiters look for a moment before
 * they sleep, and how long a caller is willing to wait.
 */
#ifndef MR__GATE_H
#define MR__GATE_H

#include "base/condition.h"

#include <millrace/event.h>
#include <millrace/status.h>

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

/* A limit on waiting, fixed when the call began. */
struct mr__patience {
    uint64_t timeout_ns;
    struct timespec deadline;
};

struct mr__patience mr__patience_begin(uint64_t timeout_ns);
/* What is left, in the terms of `timeout_ns`: 0 when nothing is, MR_FOREVER without a limit. */
uint64_t mr__patience_left_ns(const struct mr__patience *patience);
/* Waits for the event with what is left: MR_E_TIMEOUT when that is not enough, MR_E_BUSY when there
 * was none from the start. */
mr_status mr__patience_wait_event(const struct mr__patience *patience, const mr_event *event);

/* Zero is ready for use, and nothing is to be ended. Belongs to one lock; everything here is called with
 * it held. */
struct mr__gate {
    struct mr__condition changed;
};

/* Tells the waiters that there may be something for them: all, or one where any will do. */
void mr__gate_notify(struct mr__gate *gate, bool is_for_all);

/* Gives the lock up until there has been a change, or patience has ended: then false. */
bool mr__gate_wait(struct mr__gate *gate, pthread_mutex_t *lock,
                   const struct mr__patience *patience);

#endif
