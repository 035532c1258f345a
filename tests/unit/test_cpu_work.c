/* SPDX-License-Identifier: MIT */
/*
 * What CPU queues do: copies, fills and launches, whole and in slices.
 */
#include "cpu_fixture.h"

#include <pthread.h>
#include <stdatomic.h>

static struct mr_backend_device *device;
static struct mr_queue *queue;

static void begin(uint32_t worker_count)
{
    device = open_device(worker_count);
    queue = open_queue(device, MR_STREAM_NON_BLOCKING);
}

static void end(void)
{
    end_queue(queue);
    ops->device_close(device);
}

static struct mr_memory create(size_t size_bytes)
{
    struct mr_memory memory;
    CHECK_OK(ops->memory_create(device, size_bytes, MR_PLACE_DEVICE, &memory));
    return memory;
}

static void number_bytes(const struct mr_memory *memory, unsigned seed)
{
    unsigned char *bytes = memory->host;
    for (size_t i = 0; i < memory->size_bytes; i++)
        bytes[i] = (unsigned char)(i * 31 + (i >> 8) + seed);
}

/* ---- copies and fills ---- */

static void copy_moves_its_range_and_nothing_else(void **state)
{
    const size_t sizes[] = { 1, 63, 4097, (1 << 20) - 1, 1 << 20, (3 << 20) + 17, (32 << 20) + 29 };
    enum { MARGIN = 19 };
    (void)state;
    begin(3);

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct mr_memory source = create(sizes[i] + 2 * MARGIN);
        struct mr_memory target = create(sizes[i] + 2 * MARGIN);
        number_bytes(&source, 1);
        number_bytes(&target, 2);
        const struct mr_transfer transfer = { .target = &target,
                                              .source = &source,
                                              .target_offset = MARGIN,
                                              .source_offset = 3,
                                              .target_pitch = sizes[i],
                                              .source_pitch = sizes[i],
                                              .row_bytes = sizes[i],
                                              .row_count = 1 };
        CHECK_OK(ops->copy(queue, &transfer));
        CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

        struct mr_memory expected = create(target.size_bytes);
        number_bytes(&expected, 2);
        CHECK(!memcmp((char *)target.host + MARGIN, (char *)source.host + 3, sizes[i]));
        CHECK(!memcmp(target.host, expected.host, MARGIN));
        CHECK(!memcmp((char *)target.host + MARGIN + sizes[i],
                      (char *)expected.host + MARGIN + sizes[i], MARGIN));
        ops->memory_destroy(&source);
        ops->memory_destroy(&target);
        ops->memory_destroy(&expected);
    }
    end();
}

static void check_rows(size_t row_bytes, size_t row_count, size_t target_gap, size_t source_gap)
{
    struct mr_memory source = create((row_bytes + source_gap) * row_count + 5);
    struct mr_memory target = create((row_bytes + target_gap) * row_count + 7);
    number_bytes(&source, 3);
    memset(target.host, 0xee, target.size_bytes);
    const struct mr_transfer transfer = { .target = &target,
                                          .source = &source,
                                          .target_offset = 7,
                                          .source_offset = 5,
                                          .target_pitch = row_bytes + target_gap,
                                          .source_pitch = row_bytes + source_gap,
                                          .row_bytes = row_bytes,
                                          .row_count = row_count };

    CHECK_OK(ops->copy(queue, &transfer));
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    const unsigned char *to = (unsigned char *)target.host + 7;
    const unsigned char *from = (unsigned char *)source.host + 5;
    for (size_t row = 0; row < row_count; row++) {
        CHECK(!memcmp(to, from, row_bytes));
        for (size_t i = 0; i < target_gap; i++)
            CHECK_EQ(0xee, to[row_bytes + i]);
        to += transfer.target_pitch;
        from += transfer.source_pitch;
    }
    ops->memory_destroy(&source);
    ops->memory_destroy(&target);
}

static void copy_of_rows_keeps_to_both_pitches(void **state)
{
    (void)state;
    begin(3);
    check_rows(13, 7, 3, 11);
    check_rows(100, 1000, 0, 0);
    check_rows(1000, 3000, 24, 0); /* in slices of rows */
    check_rows(1 << 20, 3, 1, 2);  /* fewer rows than slices */
    end();
}

static void check_fill(uint32_t value, uint32_t value_bytes, size_t count, size_t first)
{
    const size_t offset = first * value_bytes, size_bytes = count * value_bytes;
    struct mr_memory memory = create(offset + size_bytes + 9);
    memset(memory.host, 0x5a, memory.size_bytes);

    CHECK_OK(ops->fill(queue, &memory, offset, size_bytes, value, value_bytes));
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    const unsigned char *bytes = memory.host;
    for (size_t i = 0; i < count; i++)
        CHECK(!memcmp(bytes + offset + i * value_bytes, &value, value_bytes));
    for (size_t i = 0; i < offset; i++)
        CHECK_EQ(0x5a, bytes[i]);
    for (size_t i = offset + size_bytes; i < memory.size_bytes; i++)
        CHECK_EQ(0x5a, bytes[i]);
    ops->memory_destroy(&memory);
}

static void fill_repeats_values_of_one_two_and_four_bytes(void **state)
{
    (void)state;
    begin(3);
    for (size_t count = 1; count < 70; count += 3) {
        check_fill(0xab, 1, count, count % 5);
        check_fill(0xabcd, 2, count, count % 5);
        check_fill(0xabcdef01, 4, count, count % 5);
        check_fill(0x7e7e7e7e, 4, count, 1);
    }
    check_fill(0x1234, 2, (1 << 20) + 3, 1); /* in slices, the last value alone */
    end();
}

/* ---- launches ---- */

static struct mr_function *create_function(mr_native_kernel native)
{
    struct mr_function *function;
    const struct mr_function_source source = { .language = MR_KERNEL_NATIVE,
                                               .name = "native",
                                               .native = native };
    CHECK_OK(ops->function_create(device, &source, &function));
    return function;
}

static void launch(struct mr_function *function, const mr_launch *shape, void *buffer,
                   uint64_t number)
{
    const uint64_t address = (uint64_t)(uintptr_t)buffer;
    const mr_parameter parameters[] = { { "buffer", MR_ACCESS_INOUT, MR_TYPE_U32 },
                                        { "number", MR_ACCESS_VALUE, MR_TYPE_U64 } };
    const void *values[] = { &address, &number };
    const struct mr_function_launch call = {
        .shape = *shape, .parameters = parameters, .values = (void *const *)values, .value_count = 2
    };
    CHECK_OK(ops->launch(queue, function, &call));
}

static _Atomic uint32_t slice_count;

static void mark(const mr_slice *slice, void *const *arguments)
{
    uint32_t *marks = arguments[0];
    const uint64_t count = *(const uint64_t *)arguments[1];
    atomic_store(&slice_count, slice->count);
    const uint64_t end = count * (slice->index + 1) / slice->count;
    for (uint64_t i = count * slice->index / slice->count; i < end; i++)
        marks[i]++;
}

static void launch_does_every_iteration_once(void **state)
{
    static uint32_t marks[10007];
    const uint32_t limits[] = { 0, 1, 2, 7, 1000 };
    (void)state;

    for (uint32_t workers = 1; workers <= 4; workers++) {
        begin(workers);
        for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
            for (uint64_t count = 1; count <= 10007; count = count * 5 + 2) {
                struct mr_function *function = create_function(mark);
                memset(marks, 0, sizeof marks);
                launch(function, &(mr_launch){ .count = count, .slice_limit = limits[i] }, marks,
                       count);
                CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

                for (uint64_t k = 0; k < 10007; k++)
                    CHECK_EQ(k < count, marks[k]);
                CHECK(!limits[i] || atomic_load(&slice_count) <= limits[i]);
                CHECK(atomic_load(&slice_count) <= count);
                ops->function_destroy(function);
            }
        }
        end();
    }
}

static void launch_keeps_the_numbers_it_was_given(void **state)
{
    static uint32_t marks[3];
    (void)state;
    begin(1);
    struct mr_function *function = create_function(mark);
    struct brake brake = { 0 };
    brake_put_on(queue, &brake);

    memset(marks, 0, sizeof marks);
    for (uint64_t count = 1; count <= 3; count++)
        launch(function, &(mr_launch){ .count = count }, marks, count);
    brake_let_go(&brake);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK_EQ(3, marks[0]);
    CHECK_EQ(2, marks[1]);
    CHECK_EQ(1, marks[2]);
    ops->function_destroy(function);
    end();
}

static void cheap_launch_becomes_whole(void **state)
{
    static uint32_t marks[64];
    (void)state;
    begin(2);
    struct mr_function *function = create_function(mark);

    for (int i = 0; i < 20; i++)
        launch(function, &(mr_launch){ .count = 64 }, marks, 64);
    CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

    CHECK(atomic_load(&cpu_function_from(function)->cost_ps) > 0);
    CHECK_EQ(1, atomic_load(&slice_count));
    ops->function_destroy(function);
    end();
}

/* Slices that end only when all have begun, each on a thread of its own. */
static _Atomic uint32_t begun_count;

static void meet(const mr_slice *slice, void *const *arguments)
{
    const uint64_t expected = *(const uint64_t *)arguments[1];
    (void)slice;
    atomic_fetch_add(&begun_count, 1);
    while (atomic_load(&begun_count) < expected)
        sched_yield();
}

static void idle_workers_help_with_slices(void **state)
{
    (void)state;
    for (uint32_t workers = 2; workers <= 5; workers++) {
        begin(workers);
        struct mr_function *function = create_function(meet);
        atomic_store(&begun_count, 0);

        launch(function, &(mr_launch){ .count = workers, .slice_limit = workers }, NULL, workers);
        CHECK_OK(ops->queue_wait(queue, MR_FOREVER));

        CHECK_EQ(workers, atomic_load(&begun_count));
        ops->function_destroy(function);
        end();
    }
}

static void let_go_and_meet(const mr_slice *slice, void *const *arguments)
{
    brake_let_go(arguments[0]);
    meet(slice, arguments);
}

static void worker_that_comes_late_helps_with_what_is_left(void **state)
{
    struct brake brake = { 0 };
    (void)state;
    begin(2);
    struct mr_queue *held = open_queue(device, MR_STREAM_NON_BLOCKING);
    struct mr_function *function = create_function(let_go_and_meet);
    atomic_store(&begun_count, 0);

    brake_put_on(held, &brake);
    launch(function, &(mr_launch){ .count = 2 }, &brake, 2);
    CHECK_OK(ops->device_synchronize(device));

    CHECK_EQ(2, atomic_load(&begun_count));
    ops->function_destroy(function);
    end_queue(held);
    end();
}

static void several_launches_share_the_helpers(void **state)
{
    enum { QUEUES = 6, COUNT = 5000 };
    static uint32_t marks[QUEUES][COUNT];
    struct mr_queue *queues[QUEUES], *own;
    (void)state;
    begin(3);
    own = queue;
    struct mr_function *functions[QUEUES];
    memset(marks, 0, sizeof marks);
    for (int i = 0; i < QUEUES; i++) {
        queues[i] = open_queue(device, MR_STREAM_NON_BLOCKING);
        functions[i] = create_function(mark);
    }

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < QUEUES; i++) {
            queue = queues[i];
            atomic_store(&cpu_function_from(functions[i])->cost_ps, 0); /* to be sliced again */
            launch(functions[i], &(mr_launch){ .count = COUNT }, marks[i], COUNT);
        }
    }
    CHECK_OK(ops->device_synchronize(device));

    for (int i = 0; i < QUEUES; i++) {
        for (int k = 0; k < COUNT; k++)
            CHECK_EQ(50, marks[i][k]);
        end_queue(queues[i]);
        ops->function_destroy(functions[i]);
    }
    queue = own;
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copy_moves_its_range_and_nothing_else),
        cmocka_unit_test(copy_of_rows_keeps_to_both_pitches),
        cmocka_unit_test(fill_repeats_values_of_one_two_and_four_bytes),
        cmocka_unit_test(launch_does_every_iteration_once),
        cmocka_unit_test(launch_keeps_the_numbers_it_was_given),
        cmocka_unit_test(cheap_launch_becomes_whole),
        cmocka_unit_test(idle_workers_help_with_slices),
        cmocka_unit_test(worker_that_comes_late_helps_with_what_is_left),
        cmocka_unit_test(several_launches_share_the_helpers),
    };
    return cmocka_run_group_tests_name("cpu_work", tests, NULL, NULL);
}
