/* SPDX-License-Identifier: MIT */
/*
 * flow/gate.h - where one side waits for the other: a condition variable whose waiters look for a
 * moment before they sleep, and how long a caller is willing to wait.
 */
#ifndef MR__GATE_H
#define MR__GATE_H

#include <millrace/event.h>
#include <millrace/status.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
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

/* Belongs to one lock. Everything here is called with it held. */
struct mr__gate {
    pthread_cond_t changed;
    uint32_t sleeper_count;
    _Atomic uint32_t change_count; /* written under the lock, read by those who look */
};

mr_status mr__gate_init(struct mr__gate *gate);
void mr__gate_fini(struct mr__gate *gate);
/* A lock and its gates: all of them, or MR_E_NO_MEMORY and none. */
mr_status mr__gates_init(pthread_mutex_t *lock, struct mr__gate *const *gates, size_t count);

/* Tells the waiters that there may be something for them: all, or one where any will do. */
void mr__gate_notify(struct mr__gate *gate, bool is_for_all);

/* Gives the lock up until there has been a change, or patience has ended: then false. */
bool mr__gate_wait(struct mr__gate *gate, pthread_mutex_t *lock,
                   const struct mr__patience *patience);

#endif
