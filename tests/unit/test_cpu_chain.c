/* SPDX-License-Identifier: MIT */
/*
 * Element-wise launches that run together tile by tile: whatever memory they share, the outcome is that
 * of one after the other.
 */
#include "cpu_fixture.h"

#include "backend/cpu/cpu_chain.h"
#include "support/random.h"

#include <stdatomic.h>
#include <string.h>

enum { ARENA_BYTES = 1 << 20, STEP_LIMIT = 12 };

static struct mr_backend_device *device;
static struct mr_queue *queue;
static struct brake brake;
static _Alignas(64) unsigned char arena[ARENA_BYTES], expected[ARENA_BYTES];

/* What the kernels saw: parts of launches, and outputs that lay elsewhere. */
static _Atomic uint64_t tile_count, scratch_count;

static void note(const mr_slice *slice, const void *first_target)
{
    const unsigned char *at = first_target;
    if (slice->count > 1)
        atomic_fetch_add(&tile_count, 1);
    if (at < arena || at >= arena + ARENA_BYTES)
        atomic_fetch_add(&scratch_count, 1);
}

/* ---- kernels ---- */

#define BODY(from, to, source, target)                                                             \
    const uint64_t value = *(const uint64_t *)arguments[2];                                        \
    const uint64_t count = *(const uint64_t *)arguments[3];                                        \
    const uint64_t begin = count * slice->index / slice->count;                                    \
    const uint64_t end = count * (slice->index + 1) / slice->count;                                \
    note(slice, (target) + begin);                                                                 \
    for (uint64_t i = begin; i < end; i++)                                                         \
        (target)[i] = (to)(3 * (uint64_t)(source)[i] + i + value);

#define KERNEL(name, from, to)                                                                     \
    static void name(const mr_slice *slice, void *const *arguments)                                \
    {                                                                                              \
        const from *source = arguments[0];                                                         \
        to *target = arguments[1];                                                                 \
        BODY(from, to, source, target)                                                             \
    }
KERNEL(keep, uint32_t, uint32_t)
KERNEL(widen, uint16_t, uint64_t)
KERNEL(narrow, uint32_t, uint8_t)
/* Changes its second argument, and has no use for the first. */
static void change(const mr_slice *slice, void *const *arguments)
{
    uint32_t *target = arguments[1];
    BODY(uint32_t, uint32_t, target, target)
}

static const struct kind {
    mr_native_kernel function;
    mr_access access; /* of the target */
    mr_type source, target;
} kinds[] = {
    { keep, MR_ACCESS_OUT, MR_TYPE_U32, MR_TYPE_U32 },
    { widen, MR_ACCESS_OUT, MR_TYPE_U16, MR_TYPE_U64 },
    { narrow, MR_ACCESS_OUT, MR_TYPE_U32, MR_TYPE_U8 },
    { change, MR_ACCESS_INOUT, MR_TYPE_U32, MR_TYPE_U32 },
};
enum { KEEP, WIDEN, NARROW, CHANGE, KIND_COUNT };

static struct mr_function *functions[KIND_COUNT];

static void begin(uint32_t worker_count)
{
    device = open_device(worker_count);
    queue = open_queue(device, MR_STREAM_NON_BLOCKING);
    for (int k = 0; k < KIND_COUNT; k++) {
        const struct mr_function_source source = { .language = MR_KERNEL_NATIVE,
                                                   .name = "native",
                                                   .native = kinds[k].function };
        CHECK_OK(ops->function_create(device, &source, &functions[k]));
    }
    /* What the last test left will do. */
    struct random random = { 77 };
    static bool is_filled;
    if (!is_filled)
        random_bytes(&random, arena, sizeof arena);
    is_filled = true;
    memcpy(expected, arena, sizeof arena);
    atomic_store(&tile_count, 0);
    atomic_store(&scratch_count, 0);
    brake = (struct brake){ 0 };
    brake_put_on(queue, &brake);
}

static void end(void)
{
    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));
    CHECK(memcmp(expected, arena, sizeof arena) == 0);
    end_queue(queue);
    for (int k = 0; k < KIND_COUNT; k++)
        ops->function_destroy(functions[k]);
    ops->device_close(device);
}

/* ---- launches ---- */

struct step {
    int kind;
    size_t source, target; /* offsets in the arena */
    uint64_t count;
    bool is_large; /* the target's memory counts as larger than the caches */
};

static void submit(const struct step *step, uint64_t value)
{
    const struct kind *kind = &kinds[step->kind];
    const mr_parameter *parameters = (const mr_parameter[]){
        { "source", MR_ACCESS_IN, kind->source },
        { "target", kind->access, kind->target },
        { "value", MR_ACCESS_VALUE, MR_TYPE_U64 },
        { "count", MR_ACCESS_VALUE, MR_TYPE_U64 },
    };
    /* As a kernel's do, they live as long as its launches. */
    static mr_parameter kept[KIND_COUNT][4];
    memcpy(kept[step->kind], parameters, sizeof kept[step->kind]);

    const uint64_t source = (uintptr_t)arena + step->source,
                   target = (uintptr_t)arena + step->target;
    const void *values[] = { &source, &target, &value, &step->count };
    const size_t memory_bytes[] = { ARENA_BYTES, step->is_large ? SIZE_MAX : ARENA_BYTES, 0, 0 };
    const struct mr_function_launch call = {
        .shape = { .count = step->count, .slice_limit = 1 },
        .parameters = kept[step->kind],
        .values = (void *const *)values,
        .value_count = 4,
        .is_element_wise = true,
        .memory_bytes = memory_bytes,
    };
    CHECK_OK(ops->launch(queue, functions[step->kind], &call));

    void *const arguments[] = { expected + step->source, expected + step->target, &value,
                                (void *)(uintptr_t)&step->count };
    const uint64_t tiles = atomic_load(&tile_count), scratch = atomic_load(&scratch_count);
    kind->function(&(mr_slice){ .index = 0, .count = 1 }, arguments);
    atomic_store(&tile_count, tiles);
    atomic_store(&scratch_count, scratch);
}

static void submit_all(const struct step *steps, size_t count)
{
    for (size_t k = 0; k < count; k++)
        submit(&steps[k], 100 + k);
}

#define SUBMIT_ALL(steps) submit_all(steps, sizeof(steps) / sizeof(steps)[0])

/* ---- tests ---- */

static void launches_that_follow_each_other_run_tile_by_tile(void **state)
{
    const struct step steps[] = { { KEEP, 0, 1 << 18, 20000, false },
                                  { KEEP, 1 << 18, 1 << 18, 20000, false },
                                  { NARROW, 1 << 18, 1 << 19, 20000, false } };
    (void)state;
    begin(1);
    SUBMIT_ALL(steps);
    end();
    CHECK(atomic_load(&tile_count) >= 3 * 2);
    CHECK_EQ(0, atomic_load(&scratch_count));
}

static void what_goes_to_large_memory_is_made_elsewhere_and_stored(void **state)
{
    const struct step apart[] = { { KEEP, 0, 1 << 18, 20000, false },
                                  { KEEP, 1 << 18, 1 << 19, 20000, true } };
    const struct step in_place[] = { { KEEP, 0, 1 << 18, 20001, true },
                                     { KEEP, 1 << 18, 1 << 18, 20001, true },
                                     { KEEP, 1 << 18, 1 << 18, 20001, true } };
    const struct step alone[] = { { WIDEN, 6, (1 << 18) + 8, 9999, true } };
    (void)state;
    begin(1);
    SUBMIT_ALL(apart);
    SUBMIT_ALL(in_place);
    SUBMIT_ALL(alone);
    end();
    CHECK(atomic_load(&scratch_count) > 6);
}

static void what_is_changed_in_place_stays_there(void **state)
{
    const struct step steps[] = { { KEEP, 0, 1 << 18, 20000, true },
                                  { CHANGE, 0, 1 << 18, 20000, true },
                                  { KEEP, 1 << 18, 1 << 19, 20000, false } };
    (void)state;
    begin(1);
    SUBMIT_ALL(steps);
    end();
    CHECK_EQ(0, atomic_load(&scratch_count));
}

/* Tile by tile, the second launch would overwrite what the first one has yet to read. */
static void launches_that_overlap_by_halves_run_one_after_the_other(void **state)
{
    const struct step steps[] = { { KEEP, 0, 1 << 18, 20000, false },
                                  { KEEP, 1 << 18, 4096, 20000, false },
                                  { KEEP, 4096, (1 << 18) + 4, 20000, false } };
    (void)state;
    begin(1);
    SUBMIT_ALL(steps);
    end();
    CHECK_EQ(0, atomic_load(&tile_count));
}

static void small_launches_run_whole(void **state)
{
    const struct step steps[] = { { KEEP, 0, 1 << 18, 1000, true },
                                  { KEEP, 1 << 18, 1 << 18, 1000, true } };
    (void)state;
    begin(1);
    SUBMIT_ALL(steps);
    end();
    CHECK_EQ(0, atomic_load(&tile_count));
    CHECK_EQ(0, atomic_load(&scratch_count));
}

/* A few places, so that launches often meet there; some of them overlap. */
static size_t random_place(struct random *random)
{
    static const size_t places[] = { 0, 1 << 17, 2 << 17, 3 << 17, 4 << 17, (4 << 17) + 40, 4096 };
    return places[random_below(random, sizeof places / sizeof places[0])];
}

static bool is_allowed(const struct step *step)
{
    const struct kind *kind = &kinds[step->kind];
    const size_t source_bytes = step->count * mr_type_size(kind->source);
    const size_t target_bytes = step->count * mr_type_size(kind->target);
    const bool is_same = step->source == step->target && kind->source == kind->target;
    const bool is_apart =
        step->source + source_bytes <= step->target || step->target + target_bytes <= step->source;
    return step->kind == CHANGE || is_same || is_apart;
}

static void any_launches_end_as_if_one_after_the_other(void **state)
{
    struct random random = { 12345 };
    (void)state;
    uint64_t tiles = 0, scratch = 0;
    for (int round = 0; round < 60; round++) {
        begin(1 + (uint32_t)random_below(&random, 3));
        uint64_t count = 1 + random_below(&random, 32000);
        const size_t length = 1 + random_below(&random, STEP_LIMIT);
        for (size_t k = 0; k < length; k++) {
            if (random_below(&random, 8) == 0)
                count = 1 + random_below(&random, 32000);
            struct step step;
            do
                step = (struct step){ .kind = (int)random_below(&random, KIND_COUNT),
                                      .source = random_place(&random),
                                      .target = random_place(&random),
                                      .count = count,
                                      .is_large = random_below(&random, 2) };
            while (!is_allowed(&step));
            submit(&step, k);
        }
        end();
        tiles += atomic_load(&tile_count);
        scratch += atomic_load(&scratch_count);
    }
    CHECK(tiles > 200);
    CHECK(scratch > 200);
}

/* The last chunk of a queue's ring is full in the middle of a chain, now and then. */
static void chains_go_on_in_the_next_chunk(void **state)
{
    (void)state;
    begin(1);
    for (size_t k = 0; k < 100; k++) {
        const struct step step = { KEEP, k % 2 << 18, (k + 1) % 2 << 18, 9000, k % 3 == 0 };
        submit(&step, k);
    }
    end();
    CHECK(atomic_load(&tile_count) > 200);
}

static void memory_beyond_the_caches_is_large(void **state)
{
    (void)state;
    CHECK(!mr__cpu_is_streamed(1 << 20));
    CHECK(mr__cpu_is_streamed(SIZE_MAX));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(launches_that_follow_each_other_run_tile_by_tile),
        cmocka_unit_test(what_goes_to_large_memory_is_made_elsewhere_and_stored),
        cmocka_unit_test(what_is_changed_in_place_stays_there),
        cmocka_unit_test(launches_that_overlap_by_halves_run_one_after_the_other),
        cmocka_unit_test(small_launches_run_whole),
        cmocka_unit_test(any_launches_end_as_if_one_after_the_other),
        cmocka_unit_test(chains_go_on_in_the_next_chunk),
        cmocka_unit_test(memory_beyond_the_caches_is_large),
    };
    return cmocka_run_group_tests_name("cpu_chain", tests, NULL, NULL);
}
