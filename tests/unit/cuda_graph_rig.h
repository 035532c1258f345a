/* SPDX-License-Identifier: MIT */
/*
 * unit/cuda_graph_rig.h - for the tests of the CUDA backend's graphs: two queues, memory on the way from
 * the host to the device and back, and what is made of them again and again.
 */
#ifndef TEST_CUDA_GRAPH_RIG_H
#define TEST_CUDA_GRAPH_RIG_H

#include "cuda_fixture.h"

#include <stdatomic.h>

enum { SIZE = 4096 };

static struct rig rig;
static struct mr_queue *queue, *other;
static struct mr_memory near, middle, far; /* pinned, device, pinned */

static inline void *keep_context(void *self, void *context)
{
    (void)self;
    return context;
}

static const struct mr_binder no_binder = { .bind = keep_context };

static inline int set_up(void **state)
{
    (void)state;
    assert_ok(rig_open(&rig));
    queue = make_queue(rig.device);
    other = make_queue(rig.device);
    near = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    middle = make_memory(rig.device, SIZE, MR_PLACE_DEVICE);
    far = make_memory(rig.device, SIZE, MR_PLACE_PINNED);
    memset(near.host, 1, SIZE);
    memset(far.host, 0, SIZE);
    return 0;
}

static inline int set_up_two(void **state)
{
    setenv("FAKECUDA_DEVICES", "2", 1);
    return set_up(state);
}

static inline int tear_down(void **state)
{
    (void)state;
    fakecuda_fail_at(0, NULL, 0);
    fakecuda_delay(0);
    end_queue(queue);
    end_queue(other);
    ops->memory_destroy(&near);
    ops->memory_destroy(&middle);
    ops->memory_destroy(&far);
    rig_close(&rig);
    unsetenv("FAKECUDA_DEVICES");
    return (int)fakecuda_live();
}

/* What came back: this value in the first half, that one in the second. */
static inline void expect_halves(unsigned char first, unsigned char second)
{
    for (int i = 0; i < SIZE; i++)
        assert_int_equal(((unsigned char *)far.host)[i], i < SIZE / 2 ? first : second);
}

static inline void expect_far(unsigned char value)
{
    expect_halves(value, value);
}

static inline void expect_size(const struct mr_plan *plan, size_t nodes, size_t edges)
{
    size_t node_count, edge_count;
    ops->plan_size(plan, &node_count, &edge_count);
    assert_int_equal(node_count, nodes);
    assert_int_equal(edge_count, edges);
}

static inline void run_on(struct mr_queue *on, struct mr_replay *replay)
{
    assert_ok(ops->replay_launch(replay, on));
    assert_ok(ops->queue_wait(on, MR_FOREVER));
}

static inline struct mr_replay *make_replay(const struct mr_plan *plan)
{
    struct mr_replay *replay;
    assert_ok(ops->replay_create(plan, &no_binder, &replay));
    return replay;
}

static inline struct mr_plan *make_plan(void)
{
    struct mr_plan *plan;
    assert_ok(ops->plan_create(rig.device, &plan));
    return plan;
}

/* near to middle to far, captured. */
static inline struct mr_plan *capture_round_trip(size_t size_bytes)
{
    struct mr_plan *plan;
    assert_ok(ops->capture_begin(queue));
    assert_ok(copy_flat(queue, &middle, 0, &near, 0, size_bytes));
    assert_ok(copy_flat(queue, &far, 0, &middle, 0, size_bytes));
    assert_ok(ops->capture_end(queue, &plan));
    return plan;
}

/* ---- work of all kinds ---- */

static inline struct mr_work copy_work(struct mr_transfer *transfer, const struct mr_memory *target,
                                       const struct mr_memory *source)
{
    *transfer = (struct mr_transfer){ .target = target,
                                      .source = source,
                                      .target_pitch = SIZE,
                                      .source_pitch = SIZE,
                                      .row_bytes = SIZE,
                                      .row_count = 1 };
    return (struct mr_work){ .kind = MR_WORK_COPY, .as.transfer = transfer };
}

static inline struct mr_function *make_copy_kernel(void)
{
    static const char image[] = ".version 7.0\n.visible .entry copy_u8(\n)\n";
    const struct mr_function_source source = { .language = MR_KERNEL_IMAGE,
                                               .name = "copy_u8",
                                               .text = image,
                                               .text_bytes = sizeof image,
                                               .path = "<memory>" };
    struct mr_function *function;
    assert_ok(ops->function_create(rig.device, &source, &function));
    return function;
}

struct copy_launch {
    uint64_t source, target, count;
    void *values[3];
    struct mr_function_launch launch;
};

static inline const struct mr_function_launch *launch_of(struct copy_launch *launch,
                                                         const struct mr_memory *target,
                                                         const struct mr_memory *source,
                                                         uint64_t count)
{
    *launch = (struct copy_launch){ .source = source->address,
                                    .target = target->address,
                                    .count = count };
    launch->values[0] = &launch->source;
    launch->values[1] = &launch->target;
    launch->values[2] = &launch->count;
    launch->launch = (struct mr_function_launch){ .shape = { .grid = { 1 }, .block = { 32 } },
                                                  .values = launch->values,
                                                  .value_count = 3 };
    return &launch->launch;
}

/* ---- host functions ---- */

struct counter {
    atomic_int count;
    struct counter *bound; /* what a replay is to call instead */
};

static inline void count_up(void *context)
{
    atomic_fetch_add(&((struct counter *)context)->count, 1);
}

/* Counts how often it is asked, and gives the context's own stand-in. */
static inline void *give_bound(void *self, void *context)
{
    ++*(int *)self;
    return ((struct counter *)context)->bound;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, set_up_two, tear_down)

#endif
