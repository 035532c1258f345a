/* SPDX-License-Identifier: MIT */
/*
 * The relay: one thread, started by the first wait between backends, ended with the last device.
 *
 * A crossing has two halves. First it watches the source's point and opens the gate; then it
 * watches a point recorded behind the gate on the target's queue, to know when the gate may go. The
 * thread has the crossing before that point is recorded: a driver that waits for all work of the device,
 * to free memory for somebody, lets nobody submit, and that work may stand at the gate. The
 * thread looks without pause for a short while after anything has moved, then ever more rarely, and
 * sleeps when there is nothing to watch.
 */
#include "core/relay.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <sched.h>

enum {
    SPIN_NS = 50000, /* as long as a sleep would take at the least */
    FIRST_SLEEP_NS = 5000,
    WATCH_SLEEP_LIMIT_NS = 50000,    /* latency matters: a queue waits */
    CLOSING_SLEEP_LIMIT_NS = 1000000 /* only the memory of a gate waits */
};

struct crossing {
    struct crossing *next;

    mr_device *source_device;
    struct mr_point *source;
    struct mr__stream_life *source_life;
    uint64_t source_sequence;

    mr_device *target_device;
    struct mr_gate *gate;
    struct mr_point *behind_gate; /* NULL when it could not be recorded: the queue is watched */
    _Atomic bool is_complete; /* behind_gate is final: the submitter is done with the crossing */
    struct mr__stream_life *target_life;
    uint64_t target_sequence;

    bool is_open;
};

static struct {
    pthread_mutex_t lock; /* for all below, and relay_count of devices */
    pthread_cond_t arrived;
    pthread_cond_t finished;
    pthread_t thread;
    bool is_running;
    bool is_stopping;
    uint32_t drain_count; /* closing devices that wait for us */
    struct crossing *arriving;
    struct crossing *spare;
} relay = {
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .arrived = PTHREAD_COND_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
};

/* ---- the thread ---- */

/* Carries a failure over before the gate opens, so that who sees the wait passed sees the failure.
 */
static void pass_failure(struct crossing *crossing, mr_status status)
{
    if (!status)
        status = mr__stream_life_check(crossing->source_life, crossing->source_sequence);
    if (!status)
        return;
    mr_error_prefix(status, "waited for stream '%s' of %s, which failed: ",
                    crossing->source_life->stream_name, crossing->source_life->device_id);
    mr__stream_life_fail(crossing->target_life, crossing->target_sequence, status, mr_last_error());
}

static bool try_open(struct crossing *crossing)
{
    const mr_status status = crossing->source->ops->point_query(crossing->source);
    if (status == MR_E_BUSY)
        return false;
    pass_failure(crossing, status);
    crossing->gate->ops->gate_open(crossing->gate);
    crossing->is_open = true;
    return true;
}

static bool has_passed(struct crossing *crossing)
{
    if (!atomic_load_explicit(&crossing->is_complete, memory_order_acquire))
        return false;
    struct mr_point *point = crossing->behind_gate;
    return point ? point->ops->point_query(point) != MR_E_BUSY
                 : mr__stream_life_is_idle(crossing->target_life);
}

static void fini_crossing(struct crossing *crossing)
{
    if (crossing->gate)
        crossing->gate->ops->gate_destroy(crossing->gate);
    if (crossing->behind_gate)
        crossing->behind_gate->ops->point_release(crossing->behind_gate);
    if (crossing->source)
        crossing->source->ops->point_release(crossing->source);
    mr__stream_life_release(crossing->source_life);
    mr__stream_life_release(crossing->target_life);
}

/* What one look at everything found. */
struct sweep {
    bool has_moved;
    bool has_watched; /* some source has not been reached */
    struct crossing *done;
};

static struct sweep sweep_once(struct crossing **watched)
{
    struct sweep sweep = { 0 };
    struct crossing **link = watched;
    struct crossing *crossing;
    while ((crossing = *link)) {
        if (!crossing->is_open && !try_open(crossing)) {
            sweep.has_watched = true;
        } else if (has_passed(crossing)) {
            *link = crossing->next;
            fini_crossing(crossing);
            crossing->next = sweep.done;
            sweep.done = crossing;
            sweep.has_moved = true;
            continue;
        }
        link = &crossing->next;
    }
    return sweep;
}

/* Under the lock. */
static void keep_spare(struct crossing *done)
{
    while (done) {
        struct crossing *next = done->next;
        done->source_device->relay_count--;
        done->target_device->relay_count--;
        done->next = relay.spare;
        relay.spare = done;
        done = next;
    }
    pthread_cond_broadcast(&relay.finished);
}

/* Under the lock. Moves what has arrived to the thread's own list. */
static bool take_arriving(struct crossing **watched)
{
    struct crossing *crossing = relay.arriving;
    const bool is_some = crossing;
    relay.arriving = NULL;
    while (crossing) {
        struct crossing *next = crossing->next;
        crossing->next = *watched;
        *watched = crossing;
        crossing = next;
    }
    return is_some;
}

/* Under the lock: sleeps until something arrives, `sleep_ns` at most. */
static void doze(uint64_t sleep_ns)
{
    const struct timespec deadline = mr__clock_deadline(sleep_ns);
    pthread_cond_clockwait(&relay.arrived, &relay.lock, CLOCK_MONOTONIC, &deadline);
}

static void *relay_main(void *unused)
{
    struct crossing *watched = NULL;
    uint64_t spin_end_ns = 0, sleep_ns = FIRST_SLEEP_NS;
    (void)unused;

    pthread_mutex_lock(&relay.lock);
    for (;;) {
        while (!watched && !relay.arriving && !relay.is_stopping)
            pthread_cond_wait(&relay.arrived, &relay.lock);
        if (!watched && !relay.arriving)
            break;
        bool has_moved = take_arriving(&watched);
        pthread_mutex_unlock(&relay.lock);

        const struct sweep sweep = sweep_once(&watched);
        const uint64_t now_ns = mr__clock_now_ns();
        has_moved = has_moved || sweep.has_moved;
        if (has_moved) {
            spin_end_ns = now_ns + SPIN_NS;
            sleep_ns = FIRST_SLEEP_NS;
        }
        const bool is_spinning = now_ns < spin_end_ns;
        if (is_spinning)
            sched_yield();

        pthread_mutex_lock(&relay.lock);
        if (sweep.done)
            keep_spare(sweep.done);
        if (!watched || is_spinning || relay.arriving)
            continue;
        doze(sleep_ns);
        const uint64_t limit =
            sweep.has_watched || relay.drain_count ? WATCH_SLEEP_LIMIT_NS : CLOSING_SLEEP_LIMIT_NS;
        sleep_ns = 2 * sleep_ns < limit ? 2 * sleep_ns : limit;
    }
    pthread_mutex_unlock(&relay.lock);
    return NULL;
}

/* ---- the submitting side ---- */

/* Ready before anything is submitted: a gate without its opener would hold the queue for ever. */
static mr_status take_crossing(struct crossing **out)
{
    mr_status status = MR_OK;
    *out = NULL;

    pthread_mutex_lock(&relay.lock);
    if (!relay.is_running) {
        const int error = pthread_create(&relay.thread, NULL, relay_main, NULL);
        relay.is_running = !error;
        if (error)
            status = mr_error_set(MR_E_NO_MEMORY,
                                  "mr_stream_wait_event: no thread to watch the other backend's "
                                  "event (error %d)",
                                  error);
    }
    struct crossing *crossing = relay.spare;
    if (!status && crossing) {
        relay.spare = crossing->next;
        *crossing = (struct crossing){ 0 };
    }
    pthread_mutex_unlock(&relay.lock);

    if (!status && !crossing) {
        crossing = mr__zalloc(sizeof *crossing);
        if (!crossing)
            status = mr_error_set(MR_E_NO_MEMORY, "mr_stream_wait_event: out of memory");
    }
    *out = status ? NULL : crossing;
    return status;
}

static void hand_over(struct crossing *crossing)
{
    pthread_mutex_lock(&relay.lock);
    crossing->source_device->relay_count++;
    crossing->target_device->relay_count++;
    crossing->next = relay.arriving;
    relay.arriving = crossing;
    pthread_cond_broadcast(&relay.arrived);
    pthread_mutex_unlock(&relay.lock);
}

mr_status mr__relay_wait(mr_stream *stream, const mr_event *event)
{
    const struct mr_backend_ops *ops = stream->ops;
    struct crossing *crossing;
    mr_status status = take_crossing(&crossing);
    if (status)
        return status;

    status = ops->gate_create(stream->device->backend_device, &crossing->gate);
    if (status)
        goto fail;
    status = ops->queue_wait_gate(stream->queue, crossing->gate);
    if (status)
        goto fail;

    crossing->target_device = stream->device;
    crossing->target_life = mr__stream_life_retain(stream->life);
    crossing->target_sequence = mr__stream_advance(stream);
    crossing->source_device = event->device;
    crossing->source = event->point;
    crossing->source->ops->point_retain(crossing->source);
    crossing->source_life = mr__stream_life_retain(event->life);
    crossing->source_sequence = event->sequence;
    hand_over(crossing);

    struct mr_point *behind_gate;
    if (ops->point_record(stream->queue, false, &behind_gate))
        behind_gate = NULL;
    crossing->behind_gate = behind_gate;
    atomic_store_explicit(&crossing->is_complete, true, memory_order_release);
    return MR_OK;

fail:
    fini_crossing(crossing);
    mr__free(crossing);
    return status;
}

/* ---- the end ---- */

void mr__relay_drain(mr_device *device)
{
    pthread_mutex_lock(&relay.lock);
    relay.drain_count++;
    pthread_cond_broadcast(&relay.arrived);
    while (device->relay_count)
        pthread_cond_wait(&relay.finished, &relay.lock);
    relay.drain_count--;
    pthread_mutex_unlock(&relay.lock);
}

void mr__relay_stop(void)
{
    pthread_mutex_lock(&relay.lock);
    const bool is_running = relay.is_running;
    relay.is_stopping = true;
    pthread_cond_broadcast(&relay.arrived);
    pthread_mutex_unlock(&relay.lock);
    if (is_running)
        pthread_join(relay.thread, NULL);

    while (relay.spare) {
        struct crossing *next = relay.spare->next;
        mr__free(relay.spare);
        relay.spare = next;
    }
    relay.is_running = relay.is_stopping = false;
}
