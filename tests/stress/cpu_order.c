/* SPDX-License-Identifier: MIT */
/*
 * Random work on random queues of the CPU backend, against what must happen before what.
 *
 * One thread submits, so that what each operation must come after is known as it is submitted: the
 * operation before it on its queue, the points its queue waited for, and the default queues' order.
 * Operations draw a ticket when they begin and when they end; afterwards every operation must have
 * begun after all of those had ended. They also write plain memory that only that order protects,
 * for the thread sanitizer. A hook makes threads give way at random at the backend's narrow places.
 *
 *     cpu_order [ROUNDS [SEED]]
 */
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"
#include "support/check.h"

#include <sched.h>
#include <stdatomic.h>

enum { QUEUE_LIMIT = 12, OPERATION_COUNT = 3000, POINT_COUNT = 32, NO_OPERATION = -1 };

static const struct mr_backend_ops *const ops = &mr__cpu_backend;

/* ---- chance ---- */

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t submitter_state;

static uint32_t chance(uint32_t limit)
{
    return (uint32_t)(next_random(&submitter_state) >> 20) % limit;
}

static _Atomic uint64_t thread_seed;

static void give_way(enum cpu_place place)
{
    static _Thread_local uint64_t state;
    if (!state)
        state = atomic_fetch_add(&thread_seed, 0x9e3779b97f4a7c15) | 1;

    const uint64_t dice = next_random(&state) >> 32;
    if ((dice + (uint64_t)place) % 16 < 2)
        sched_yield();
    else if (dice % 16 < 5)
        for (uint64_t i = 0; i < dice / 16 % 300; i++)
            mr__relax();
}

/* ---- operations ---- */

/* The newest operation of every lane that one must come after; NO_OPERATION where there is none. Those
 * before it on its lane are implied. */
struct history {
    int newest[QUEUE_LIMIT];
};

static const struct history no_history = { { [0 ... QUEUE_LIMIT - 1] = NO_OPERATION } };

struct operation {
    struct history before;
    int lane;
    uint64_t began, ended;
    uint64_t cell; /* plain: written by this one, read by those after it */
};

static struct operation operations[OPERATION_COUNT];
static int operation_count;
static _Atomic uint64_t next_ticket;

static void run_operation(void *context)
{
    struct operation *operation = context;
    operation->began = atomic_fetch_add(&next_ticket, 1);
    uint64_t sum = 1;
    for (int i = 0; i < QUEUE_LIMIT; i++) {
        if (operation->before.newest[i] != NO_OPERATION)
            sum += operations[operation->before.newest[i]].cell;
    }
    operation->cell = sum | 1;
    operation->ended = atomic_fetch_add(&next_ticket, 1);
}

static void check_operations(uint64_t seed)
{
    for (int i = 0; i < operation_count; i++) {
        const struct operation *operation = &operations[i];
        if (!operation->ended)
            CHECK_FAIL("seed %" PRIu64 ": operation %d never ran", seed, i);
        for (int k = 0; k < QUEUE_LIMIT; k++) {
            const int before = operation->before.newest[k];
            if (before != NO_OPERATION && operations[before].ended >= operation->began)
                CHECK_FAIL("seed %" PRIu64 ": operation %d began before %d had ended", seed, i,
                           before);
        }
    }
}

/* ---- queues and points, and what is known of them ---- */

struct lane {
    struct mr_queue *queue;
    struct mr_backend_device *device;
    mr_stream_kind kind;
    struct history history; /* what the next submission comes after */
};

struct known_point {
    struct mr_point *point;
    struct history history; /* what has ended when it is reached */
};

static struct mr_backend_device *devices[2];
static struct lane lanes[QUEUE_LIMIT];
static int lane_count;
static struct known_point points[POINT_COUNT];

static bool is_ordered_by_legacy(const struct lane *lane)
{
    return lane->kind == MR_STREAM_BLOCKING || lane->kind == MR_STREAM_PER_THREAD;
}

static void add_operation(struct history *history, int operation)
{
    if (operation == NO_OPERATION)
        return;
    int *newest = &history->newest[operations[operation].lane];
    if (*newest < operation)
        *newest = operation;
}

static void add_history(struct history *history, const struct history *more)
{
    for (int i = 0; i < QUEUE_LIMIT; i++)
        add_operation(history, more->newest[i]);
}

/* What the default queues' order adds to the next submission on the lane. */
static void join_defaults(struct lane *lane)
{
    for (int i = 0; i < lane_count; i++) {
        const struct lane *other = &lanes[i];
        if (other->device != lane->device)
            continue;
        if ((lane->kind == MR_STREAM_LEGACY && is_ordered_by_legacy(other)) ||
            (other->kind == MR_STREAM_LEGACY && is_ordered_by_legacy(lane)))
            add_history(&lane->history, &other->history);
    }
}

static void submit_operation(struct lane *lane)
{
    if (operation_count == OPERATION_COUNT)
        return;
    join_defaults(lane);
    const int index = operation_count++;
    operations[index] = (struct operation){ .before = lane->history, .lane = (int)(lane - lanes) };
    add_operation(&lane->history, index);
    CHECK_OK(ops->call(lane->queue, run_operation, &operations[index]));
}

static void record_point(struct lane *lane)
{
    struct known_point *known = &points[chance(POINT_COUNT)];
    ops->point_release(known->point);

    join_defaults(lane);
    known->history = lane->history;
    CHECK_OK(ops->point_record(lane->queue, chance(3) == 0, &known->point));
}

static void wait_for_point(struct lane *lane)
{
    const struct known_point *known = &points[chance(POINT_COUNT)];
    if (!known->point)
        return;
    CHECK_OK(ops->queue_wait_point(lane->queue, known->point));
    add_history(&lane->history, &known->history);
}

static void check_ended(const struct history *history)
{
    for (int i = 0; i < QUEUE_LIMIT; i++)
        CHECK(history->newest[i] == NO_OPERATION || operations[history->newest[i]].ended);
}

static void host_looks_at_point(void)
{
    const struct known_point *known = &points[chance(POINT_COUNT)];
    if (!known->point)
        return;
    const mr_status status =
        chance(2) ? ops->point_wait(known->point, chance(20000)) : ops->point_query(known->point);
    if (status == MR_OK)
        check_ended(&known->history);
}

static void host_looks_at_queue(const struct lane *lane)
{
    const mr_status status =
        chance(4) ? ops->queue_wait(lane->queue, chance(50000)) : ops->queue_query(lane->queue);
    if (status == MR_OK)
        check_ended(&lane->history);
}

static mr_stream_kind random_kind(void)
{
    return chance(3) ? MR_STREAM_BLOCKING : MR_STREAM_NON_BLOCKING;
}

static void open_lane(struct lane *lane, mr_stream_kind kind)
{
    *lane = (struct lane){ .kind = kind, .device = devices[chance(2)], .history = no_history };
    CHECK_OK(ops->queue_create(lane->device, kind, -(int)chance(6), &lane->queue));
}

/* Its work ends, and nothing is left of it but points. */
static void renew_lane(struct lane *lane)
{
    CHECK_OK(ops->queue_wait(lane->queue, MR_FOREVER));
    ops->queue_destroy(lane->queue);
    if (lane->kind == MR_STREAM_NON_BLOCKING || lane->kind == MR_STREAM_BLOCKING)
        open_lane(lane, random_kind());
    else
        open_lane(lane, lane->kind);
}

static void take_a_step(void)
{
    struct lane *lane = &lanes[chance((uint32_t)lane_count)];
    switch (chance(64)) {
    case 0:
        renew_lane(lane);
        break;
    case 1:
        host_looks_at_queue(lane);
        break;
    case 2:
        host_looks_at_point();
        break;
    default:
        switch (chance(4)) {
        case 0:
            record_point(lane);
            break;
        case 1:
            wait_for_point(lane);
            break;
        default:
            submit_operation(lane);
        }
    }
}

static void run_round(uint64_t seed)
{
    submitter_state = seed * 0x9e3779b97f4a7c15 | 1;
    atomic_store(&thread_seed, seed | 1);
    atomic_store(&next_ticket, 1);
    operation_count = 0;
    memset(points, 0, sizeof points);

    struct mr_backend *backend;
    CHECK_OK(ops->open(&backend));
    for (int i = 0; i < 2; i++) {
        const mr_device_options options = { .worker_count = 1 + chance(8) };
        CHECK_OK(ops->device_open(backend, 0, &options, &devices[i]));
    }
    lane_count = 3 + (int)chance(QUEUE_LIMIT - 2);
    for (int i = 0; i < lane_count; i++)
        open_lane(&lanes[i], i == 0   ? MR_STREAM_LEGACY
                             : i == 1 ? MR_STREAM_PER_THREAD
                                      : random_kind());

    while (operation_count < OPERATION_COUNT)
        take_a_step();

    for (int i = 0; i < 2; i++)
        CHECK_OK(ops->device_synchronize(devices[i]));
    check_operations(seed);
    for (int i = 0; i < POINT_COUNT; i++)
        ops->point_release(points[i].point);
    for (int i = 0; i < lane_count; i++)
        ops->queue_destroy(lanes[i].queue);
    for (int i = 0; i < 2; i++)
        ops->device_close(devices[i]);
}

int main(int argc, char **argv)
{
    const uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 60;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    for (uint64_t round = 0; round < rounds; round++) {
        mr__cpu_set_schedule_hook(round % 3 == 2 ? NULL : give_way);
        run_round(seed + round);
    }
    mr__cpu_set_schedule_hook(NULL);
    return 0;
}
