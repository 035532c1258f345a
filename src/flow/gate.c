/* SPDX-License-Identifier: MIT */
/*
 * Waiting under a lock: look at a counter for a few microseconds, then sleep.
 */
#include "flow/gate.h"

#include "base/clock.h"
#include "base/signal.h"

#include <errno.h>

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

mr_status mr__gate_init(struct mr__gate *gate)
{
    *gate = (struct mr__gate){ .sleeper_count = 0 };
    pthread_condattr_t attributes;
    if (pthread_condattr_init(&attributes))
        return MR_E_NO_MEMORY;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    const int failed = pthread_cond_init(&gate->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return failed ? MR_E_NO_MEMORY : MR_OK;
}

void mr__gate_fini(struct mr__gate *gate)
{
    pthread_cond_destroy(&gate->changed);
}

mr_status mr__gates_init(pthread_mutex_t *lock, struct mr__gate *const *gates, size_t count)
{
    if (pthread_mutex_init(lock, NULL))
        return MR_E_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        if (!mr__gate_init(gates[i]))
            continue;
        while (i--)
            mr__gate_fini(gates[i]);
        pthread_mutex_destroy(lock);
        return MR_E_NO_MEMORY;
    }
    return MR_OK;
}

static uint32_t change_count(struct mr__gate *gate)
{
    return atomic_load_explicit(&gate->change_count, memory_order_relaxed);
}

void mr__gate_notify(struct mr__gate *gate, bool is_for_all)
{
    atomic_store_explicit(&gate->change_count, change_count(gate) + 1, memory_order_relaxed);
    if (!gate->sleeper_count)
        return;
    if (is_for_all)
        pthread_cond_broadcast(&gate->changed);
    else
        pthread_cond_signal(&gate->changed);
}

/* The lock orders what the change stands for, so the look itself need not. */
static bool look_for_change(struct mr__gate *gate, pthread_mutex_t *lock)
{
    const uint32_t seen = change_count(gate);
    pthread_mutex_unlock(lock);
    for (int i = 0; i < LOOK_COUNT && change_count(gate) == seen; i++)
        mr__relax();
    pthread_mutex_lock(lock);
    return change_count(gate) != seen;
}

bool mr__gate_wait(struct mr__gate *gate, pthread_mutex_t *lock,
                   const struct mr__patience *patience)
{
    if (look_for_change(gate, lock))
        return mr__patience_left_ns(patience) != 0;
    gate->sleeper_count++;
    const int result = patience->timeout_ns == MR_FOREVER
                           ? pthread_cond_wait(&gate->changed, lock)
                           : pthread_cond_timedwait(&gate->changed, lock, &patience->deadline);
    gate->sleeper_count--;
    return result != ETIMEDOUT;
}
