/* SPDX-License-Identifier: MIT */
/*
 * Several threads at once on one CPU device: queues that come and go by the thousand, points and gates
 * that cross threads, waits whose time runs out as the work ends, memory in stream order, sliced
 * work, and default queues of threads that end.
 *
 * Every operation of a queue writes a cell of its own, plainly. Who waited for a point reads the cells
 * before it: the values show a lost order, and so does the thread sanitizer.
 *
 *     cpu_threads [ROUNDS [SEED]]
 */
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_queue.h"
#include "support/check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum {
    THREAD_COUNT = 4,
    STEP_COUNT = 600,
    SLOT_COUNT = 16,
    OPERATION_LIMIT = 64, /* of one queue's life */
    FILL_BYTES = 2 << 20  /* enough for slices */
};

static const struct mr_backend_ops *const ops = &mr__cpu_backend;
static struct mr_backend_device *device;

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 16;
}

static _Atomic uint64_t thread_seed;

static void give_way(enum cpu_place place)
{
    static _Thread_local uint64_t state;
    if (!state)
        state = atomic_fetch_add(&thread_seed, 0x9e3779b97f4a7c15) | 1;
    if ((next_random(&state) + (uint64_t)place) % 8 == 0)
        sched_yield();
}

/* ---- lanes: a queue and what its operations write ---- */

struct lane {
    struct mr_queue *queue;
    uint32_t submitted;
    uint64_t cells[OPERATION_LIMIT];
    _Atomic uint32_t references; /* its thread's, and those of points and checks */
};

static void release_lane(struct lane *lane)
{
    if (atomic_fetch_sub(&lane->references, 1) == 1)
        free(lane);
}

static struct lane *open_lane(uint64_t *random)
{
    const mr_stream_kind kinds[] = { MR_STREAM_NON_BLOCKING, MR_STREAM_BLOCKING,
                                     MR_STREAM_PER_THREAD };
    struct lane *lane = calloc(1, sizeof *lane);
    CHECK(lane);
    atomic_store(&lane->references, 1);
    CHECK_OK(ops->queue_create(device, kinds[next_random(random) % 3],
                               -(int)(next_random(random) % 6), &lane->queue));
    return lane;
}

static void close_lane(struct lane *lane)
{
    CHECK_OK(ops->queue_wait(lane->queue, MR_FOREVER));
    ops->queue_destroy(lane->queue);
    for (uint32_t i = 0; i < lane->submitted; i++)
        CHECK_EQ(i + 1, lane->cells[i]);
    release_lane(lane);
}

struct write_cell {
    struct lane *lane;
    uint32_t index;
};

static void write_cell(void *context)
{
    struct write_cell *write = context;
    write->lane->cells[write->index] = write->index + 1;
    free(write);
}

static void submit_write(struct lane *lane)
{
    struct write_cell *write = malloc(sizeof *write);
    CHECK(write);
    *write = (struct write_cell){ lane, lane->submitted++ };
    CHECK_OK(ops->call(lane->queue, write_cell, write));
}

/* ---- slots: points that threads leave for each other ---- */

struct left_point {
    struct mr_point *point;
    struct lane *lane;
    uint32_t count; /* cells written when the point is reached */
};

static struct slot {
    pthread_mutex_t lock;
    struct left_point left;
} slots[SLOT_COUNT];

static void drop(struct left_point left)
{
    if (!left.point)
        return;
    ops->point_release(left.point);
    release_lane(left.lane);
}

static void leave_point(struct lane *lane, uint64_t *random)
{
    struct slot *slot = &slots[next_random(random) % SLOT_COUNT];
    struct left_point left = { .lane = lane, .count = lane->submitted };
    CHECK_OK(ops->point_record(lane->queue, next_random(random) % 2, &left.point));
    atomic_fetch_add(&lane->references, 1);

    pthread_mutex_lock(&slot->lock);
    const struct left_point before = slot->left;
    slot->left = left;
    pthread_mutex_unlock(&slot->lock);
    drop(before);
}

static bool take_point(struct left_point *left, uint64_t *random)
{
    struct slot *slot = &slots[next_random(random) % SLOT_COUNT];
    pthread_mutex_lock(&slot->lock);
    *left = slot->left;
    if (left->point) {
        ops->point_retain(left->point);
        atomic_fetch_add(&left->lane->references, 1);
    }
    pthread_mutex_unlock(&slot->lock);
    return left->point != NULL;
}

static void check_cells(const struct left_point *left)
{
    for (uint32_t i = 0; i < left->count; i++)
        CHECK_EQ(i + 1, left->lane->cells[i]);
}

static void check_left(void *context)
{
    struct left_point *left = context;
    check_cells(left);
    drop(*left);
    free(left);
}

static void wait_in_queue(struct lane *lane, uint64_t *random)
{
    struct left_point left;
    if (!take_point(&left, random))
        return;
    struct left_point *copy = malloc(sizeof *copy);
    CHECK(copy);
    *copy = left;
    CHECK_OK(ops->queue_wait_point(lane->queue, left.point));
    CHECK_OK(ops->call(lane->queue, check_left, copy));
}

static void wait_on_host(uint64_t *random)
{
    struct left_point left;
    if (!take_point(&left, random))
        return;
    const mr_status status = ops->point_wait(left.point, next_random(random) % 30000);
    if (status == MR_OK)
        check_cells(&left);
    else
        CHECK_STATUS(MR_E_TIMEOUT, status);
    drop(left);
}

/* ---- gates, memory, sliced work ---- */

static void open_gate(void *gate)
{
    ops->gate_open(gate);
}

/* Another queue opens the gate, before or after the first one parks. */
static void pass_gate(struct lane *lane, uint64_t *random)
{
    struct mr_gate *gate;
    struct mr_queue *opener;
    CHECK_OK(ops->gate_create(device, &gate));
    CHECK_OK(ops->queue_create(device, MR_STREAM_NON_BLOCKING, 0, &opener));
    const bool is_early = next_random(random) % 2;
    if (is_early)
        CHECK_OK(ops->call(opener, open_gate, gate));
    CHECK_OK(ops->queue_wait_gate(lane->queue, gate));
    submit_write(lane);
    if (!is_early)
        CHECK_OK(ops->call(opener, open_gate, gate));
    CHECK_OK(ops->queue_wait(lane->queue, MR_FOREVER));
    CHECK_OK(ops->queue_wait(opener, MR_FOREVER));
    ops->queue_destroy(opener);
    ops->gate_destroy(gate);
}

static void use_ordered_memory(struct lane *lane, uint64_t *random)
{
    struct mr_memory memory;
    const size_t size_bytes = 1 + next_random(random) % 5000;
    CHECK_OK(ops->memory_create_ordered(lane->queue, size_bytes, &memory));
    CHECK_OK(ops->fill(lane->queue, &memory, 0, size_bytes, 0x55, 1));
    ops->memory_destroy_ordered(lane->queue, &memory);
}

static void fill_in_slices(struct lane *lane)
{
    struct mr_memory memory;
    CHECK_OK(ops->memory_create(device, FILL_BYTES, MR_PLACE_DEVICE, &memory));
    CHECK_OK(ops->fill(lane->queue, &memory, 0, FILL_BYTES, 0x01020304, 4));
    CHECK_OK(ops->queue_wait(lane->queue, MR_FOREVER));
    for (size_t i = 0; i < FILL_BYTES / 4; i += 997)
        CHECK_EQ(0x01020304, ((const uint32_t *)memory.host)[i]);
    ops->memory_destroy(&memory);
}

/* ---- threads ---- */

static void take_a_step(struct lane **lane, uint64_t *random)
{
    if ((*lane)->submitted == OPERATION_LIMIT || next_random(random) % 8 == 0) {
        close_lane(*lane);
        *lane = open_lane(random);
    }
    switch (next_random(random) % 40) {
    case 0:
        pass_gate(*lane, random);
        break;
    case 1:
        fill_in_slices(*lane);
        break;
    case 2:
    case 3:
        use_ordered_memory(*lane, random);
        break;
    case 4:
        CHECK_OK(ops->device_synchronize(device));
        break;
    case 5:
    case 6:
    case 7:
        wait_on_host(random);
        break;
    default:
        switch (next_random(random) % 3) {
        case 0:
            leave_point(*lane, random);
            break;
        case 1:
            wait_in_queue(*lane, random);
            break;
        default:
            submit_write(*lane);
        }
    }
}

static void *run_thread(void *context)
{
    uint64_t random = (uint64_t)(uintptr_t)context;
    struct lane *lane = open_lane(&random);
    for (int i = 0; i < STEP_COUNT; i++)
        take_a_step(&lane, &random);
    close_lane(lane);
    return NULL;
}

static void do_nothing(void *context)
{
    (void)context;
}

/* Work on the legacy queue joins everything, all the time. */
static void *run_legacy(void *context)
{
    struct mr_queue *legacy;
    CHECK_OK(ops->queue_create(device, MR_STREAM_LEGACY, 0, &legacy));
    while (!atomic_load((_Atomic bool *)context)) {
        CHECK_OK(ops->call(legacy, do_nothing, NULL));
        const mr_status status = ops->queue_wait(legacy, 100000);
        CHECK(status == MR_OK || status == MR_E_TIMEOUT);
        sched_yield();
    }
    CHECK_OK(ops->queue_wait(legacy, MR_FOREVER));
    ops->queue_destroy(legacy);
    return NULL;
}

static void run_round(uint64_t seed)
{
    struct mr_backend *backend;
    const mr_device_options options = { .worker_count = 1 + (uint32_t)seed % 8 };
    pthread_t threads[THREAD_COUNT], legacy;
    _Atomic bool is_over = false;

    CHECK_OK(ops->open(&backend));
    CHECK_OK(ops->device_open(backend, 0, &options, &device));
    for (int i = 0; i < SLOT_COUNT; i++)
        pthread_mutex_init(&slots[i].lock, NULL);

    CHECK_EQ(0, pthread_create(&legacy, NULL, run_legacy, &is_over));
    for (uint64_t i = 0; i < THREAD_COUNT; i++)
        CHECK_EQ(0,
                 pthread_create(&threads[i], NULL, run_thread,
                                (void *)(uintptr_t)((seed * THREAD_COUNT + i) * 2654435761 + 1)));
    for (int i = 0; i < THREAD_COUNT; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
    atomic_store(&is_over, true);
    CHECK_EQ(0, pthread_join(legacy, NULL));

    for (int i = 0; i < SLOT_COUNT; i++) {
        drop(slots[i].left);
        slots[i].left = (struct left_point){ 0 };
        pthread_mutex_destroy(&slots[i].lock);
    }
    ops->device_close(device);
}

int main(int argc, char **argv)
{
    const uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 24;
    const uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1;

    atomic_store(&thread_seed, seed | 1);
    for (uint64_t round = 0; round < rounds; round++) {
        mr__cpu_set_schedule_hook(round % 3 == 2 ? NULL : give_way);
        run_round(seed + round);
    }
    mr__cpu_set_schedule_hook(NULL);
    return 0;
}
