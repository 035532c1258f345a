/* SPDX-License-Identifier: MIT */
/*
 * Waiting for tasks to end. Whoever waits drives; when there is nothing to drive, one of those who wait
 * watches an event and the rest sleep. The balancer's own thread does the same for those who do not
 * wait, and sleeps for good when nothing is unfinished.
 */
#include "flow/balancer_parts.h"

enum {
    ROUNDS = 64,
    WATCH_LEAST_NS = 20000,
    WATCH_MOST_NS = 1000000,
    NAP_NS = 500000,
    NAPS_BEFORE_SLEEP = 40
};

bool mr__balancer_is_inside(const mr_balancer *balancer)
{
    return balancer->is_driven && pthread_equal(balancer->driver, pthread_self());
}

mr_status mr__balancer_refuse_inside(const char *call)
{
    return mr_error_set(MR_E_STATE,
                        "%s: was called inside a task's or a `done` function, for whose return the "
                        "balancer waits itself; call it outside",
                        call);
}

/* ---- watching ---- */

/* The worker that will have nothing to do first: its oldest task's event is the one to watch. */
static struct mr__balancer_worker *find_soonest(mr_balancer *balancer, uint64_t now_ns,
                                                uint64_t *free_ns)
{
    struct mr__balancer_worker *soonest = NULL;
    for (uint32_t i = 0; i < balancer->worker_count; i++) {
        struct mr__balancer_worker *worker = &balancer->workers[i];
        const struct mr__balancer_slot *slot = mr__balancer_slot_at(worker, 0);
        if (!worker->count || !slot->is_recorded || slot->has_ended)
            continue;
        const uint64_t end_ns = mr__model_free_ns(&balancer->model.workers[i], now_ns);
        if (soonest && end_ns >= *free_ns)
            continue;
        soonest = worker;
        *free_ns = end_ns;
    }
    return soonest;
}

static uint64_t shorter(uint64_t left, uint64_t right)
{
    return left < right ? left : right;
}

/* Not while somebody drives: then slots are being recorded. */
static void watch(mr_balancer *balancer, uint64_t limit_ns)
{
    const uint64_t now_ns = mr__balancer_now_ns(balancer);
    uint64_t free_ns = 0;
    struct mr__balancer_worker *worker = find_soonest(balancer, now_ns, &free_ns);
    if (!worker)
        return;
    /* The others are looked at before the first of them is predicted to run dry. */
    uint64_t pause_ns = (free_ns - now_ns) / 2;
    pause_ns = pause_ns < WATCH_LEAST_NS ? WATCH_LEAST_NS : shorter(pause_ns, WATCH_MOST_NS);

    balancer->is_watched = true;
    balancer->watched = mr__balancer_slot_event(mr__balancer_slot_at(worker, 0));
    const mr_event *event = balancer->watched;
    pthread_mutex_unlock(&balancer->lock);
    (void)!mr_event_wait_for(event, shorter(pause_ns, limit_ns));
    pthread_mutex_lock(&balancer->lock);
    balancer->watched = NULL;
    balancer->is_watched = false;
    mr_event_destroy(balancer->orphan);
    balancer->orphan = NULL;
    balancer->next_look_ns = 0;
}

static void nap(mr_balancer *balancer, struct mr__gate *gate, uint64_t limit_ns)
{
    const struct mr__patience patience = mr__patience_begin(shorter(limit_ns, NAP_NS));
    (void)mr__gate_wait(gate, &balancer->lock, &patience);
}

/* ---- those who wait ---- */

bool mr__balancer_wait(mr_balancer *balancer, mr__balancer_test test, void *context,
                       const struct mr__patience *patience)
{
    bool holds = test(balancer, context);
    if (mr__balancer_is_inside(balancer))
        return holds;
    balancer->waiter_count++;
    while (!holds) {
        if (!balancer->is_driven) {
            balancer->next_look_ns = 0;
            mr__balancer_drive(balancer, ROUNDS);
        }
        holds = test(balancer, context);
        const uint64_t left_ns = mr__patience_left_ns(patience);
        if (holds || !left_ns)
            break;
        if (!balancer->is_driven && !balancer->is_watched && balancer->statistics.in_flight)
            watch(balancer, left_ns);
        else
            nap(balancer, &balancer->changed, left_ns);
        holds = test(balancer, context);
    }
    balancer->waiter_count--;
    return holds;
}

/* ---- the balancer's own thread ---- */

static void rest(mr_balancer *balancer, uint32_t *naps)
{
    if ((*naps)++ < NAPS_BEFORE_SLEEP) {
        nap(balancer, &balancer->called, NAP_NS);
        return;
    }
    const struct mr__patience forever = mr__patience_begin(MR_FOREVER);
    balancer->is_service_asleep = true;
    (void)mr__gate_wait(&balancer->called, &balancer->lock, &forever);
    balancer->is_service_asleep = false;
    *naps = 0;
}

/* Somebody else has driven since the last time, or waits and will. */
static bool is_served(const mr_balancer *balancer, uint64_t *seen)
{
    const bool is_driving = balancer->is_driven || balancer->drive_count != *seen;
    *seen = balancer->drive_count;
    return balancer->waiter_count || balancer->is_watched || is_driving;
}

void *mr__balancer_serve(void *context)
{
    mr_balancer *balancer = context;
    uint64_t seen = 0;
    uint32_t naps = 0;
    pthread_mutex_lock(&balancer->lock);
    while (!balancer->is_stopping || balancer->unfinished) {
        if (!balancer->unfinished && !balancer->done_list.first) {
            rest(balancer, &naps);
            continue;
        }
        naps = 0;
        if (is_served(balancer, &seen)) {
            nap(balancer, &balancer->called, NAP_NS / 5);
            continue;
        }
        balancer->next_look_ns = 0;
        mr__balancer_drive(balancer, ROUNDS);
        seen = balancer->drive_count;
        if (balancer->statistics.in_flight && !balancer->is_driven && !balancer->is_watched)
            watch(balancer, MR_FOREVER);
    }
    pthread_mutex_unlock(&balancer->lock);
    return NULL;
}
