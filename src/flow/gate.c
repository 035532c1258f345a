/* SPDX-License-Identifier: MIT */
/*
 * Waiting under a lock: look at a counter for a few microseconds, then sleep.
 */
#include "flow/gate.h"

#include "base/clock.h"
#include "base/signal.h"

enum {
    NS_PER_S = 1000000000,
    /* Looks before sleeping. A pause is 20 to 70 ns, a sleep and its waking some microseconds. */
    LOOK_COUNT = 100
};

struct mr__patience mr__patience_begin(uint64_t timeout_ns)
{
    struct mr__patience patience = { .timeout_ns = timeout_ns };
    if (timeout_ns != 0 && timeout_ns != MR_FOREVER)
        patience.deadline = mr__clock_deadline(timeout_ns);
    return patience;
}

uint64_t mr__patience_left_ns(const struct mr__patience *patience)
{
    if (patience->timeout_ns == 0 || patience->timeout_ns == MR_FOREVER)
        return patience->timeout_ns;
    const uint64_t end =
        (uint64_t)patience->deadline.tv_sec * NS_PER_S + (uint64_t)patience->deadline.tv_nsec;
    const uint64_t now = mr__clock_now_ns();
    return now < end ? end - now : 0;
}

mr_status mr__patience_wait_event(const struct mr__patience *patience, const mr_event *event)
{
    const mr_status status = mr_event_wait_for(event, mr__patience_left_ns(patience));
    if (status == MR_E_BUSY || status == MR_E_TIMEOUT)
        return patience->timeout_ns ? MR_E_TIMEOUT : MR_E_BUSY;
    return status;
}

void mr__gate_notify(struct mr__gate *gate, bool is_for_all)
{
    mr__condition_notify(&gate->changed, is_for_all);
}

/* The lock orders what the change stands for, so the look itself need not. */
static bool look_for_change(struct mr__gate *gate, pthread_mutex_t *lock)
{
    const uint32_t seen = mr__condition_change_count(&gate->changed);
    pthread_mutex_unlock(lock);
    for (int i = 0; i < LOOK_COUNT && mr__condition_change_count(&gate->changed) == seen; i++)
        mr__relax();
    pthread_mutex_lock(lock);
    return mr__condition_change_count(&gate->changed) != seen;
}

bool mr__gate_wait(struct mr__gate *gate, pthread_mutex_t *lock,
                   const struct mr__patience *patience)
{
    if (look_for_change(gate, lock))
        return mr__patience_left_ns(patience) != 0;
    return mr__condition_wait(&gate->changed, lock,
                              patience->timeout_ns == MR_FOREVER ? NULL : &patience->deadline);
}
