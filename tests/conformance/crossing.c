/* SPDX-License-Identifier: MIT */
/*
 * Waits between the device and the CPU, in both directions. With the CPU as the device they are waits
 * between two of its streams.
 */
#include "support/latch.h"
#include "support/make.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/buffer.h>

#include <stdatomic.h>

struct pair {
    mr_device *cpu;
    mr_stream *near, *far; /* of the device and of the CPU */
    mr_event *near_event, *far_event;
};

static void pair_init(struct pair *pair, mr_device *device)
{
    CHECK_OK(mr_device_open("cpu", &(mr_device_options){ .worker_count = 4 }, &pair->cpu));
    CHECK_OK(mr_stream_create(device, NULL, &pair->near));
    CHECK_OK(mr_stream_create(pair->cpu, NULL, &pair->far));
    CHECK_OK(mr_event_create(device, NULL, &pair->near_event));
    CHECK_OK(mr_event_create(pair->cpu, NULL, &pair->far_event));
}

static void pair_fini(struct pair *pair)
{
    mr_event_destroy(pair->near_event);
    mr_event_destroy(pair->far_event);
    mr_stream_destroy(pair->near);
    mr_stream_destroy(pair->far);
    CHECK_OK(mr_device_close(pair->cpu));
}

static void the_submitting_thread_does_not_wait(mr_device *device)
{
    _Atomic int count = 0;
    struct pair pair;
    struct latch latch;
    pair_init(&pair, device);
    latch_init(&latch);
    latch_stop(&latch, pair.far);
    CHECK_OK(mr_event_record(pair.far_event, pair.far));
    CHECK_OK(mr_stream_wait_event(pair.near, pair.far_event));
    CHECK_OK(mr_stream_call(pair.near, count_up, &count));
    CHECK_OK(mr_event_record(pair.near_event, pair.near));
    CHECK_OK(mr_stream_wait_event(pair.far, pair.near_event));
    CHECK_OK(mr_stream_call(pair.far, count_up, &count));

    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(pair.far, 3000000));
    CHECK_EQ(0, atomic_load(&count));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(pair.far));
    CHECK_EQ(2, atomic_load(&count));
    latch_fini(&latch);
    pair_fini(&pair);
}

enum { BLOCK_BYTES = 1 << 16, BLOCK_COUNT = 40 };

struct block {
    unsigned char *data;
    uint64_t seed;
};

static mr_status fill_block(void *context)
{
    const struct block *block = context;
    struct random random = { block->seed };
    random_bytes(&random, block->data, BLOCK_BYTES);
    return MR_OK;
}

static mr_status check_block(void *context)
{
    const struct block *block = context;
    struct random random = { block->seed };
    unsigned char wanted[256];
    for (size_t at = 0; at < BLOCK_BYTES; at += sizeof wanted) {
        random_bytes(&random, wanted, sizeof wanted);
        if (memcmp(wanted, block->data + at, sizeof wanted) != 0)
            return mr_error_set(MR_E_MISMATCH, "block %" PRIu64 " differs near byte %zu",
                                block->seed, at);
    }
    return MR_OK;
}

/* The CPU writes a block, the device takes it and brings it back, the CPU checks it, all of it queued
 * before the first is through. One slot: a wait that is lost shows. */
static void data_written_before_an_event_is_seen_behind_it(mr_device *device)
{
    static struct block blocks[BLOCK_COUNT], results[BLOCK_COUNT];
    struct pair pair;
    mr_buffer *given, *returned, *inside;
    pair_init(&pair, device);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK_OK(mr_buffer_create(device, BLOCK_BYTES, &pinned, &given));
    CHECK_OK(mr_buffer_create(device, BLOCK_BYTES, &pinned, &returned));
    CHECK_OK(mr_buffer_create(device, BLOCK_BYTES, NULL, &inside));

    for (uint64_t i = 0; i < BLOCK_COUNT; i++) {
        blocks[i] = (struct block){ mr_buffer_host(given), i + 1 };
        results[i] = (struct block){ mr_buffer_host(returned), i + 1 };
        CHECK_OK(mr_stream_call(pair.far, fill_block, &blocks[i]));
        CHECK_OK(mr_event_record(pair.far_event, pair.far));
        CHECK_OK(mr_stream_wait_event(pair.near, pair.far_event));
        CHECK_OK(mr_copy(pair.near, inside, 0, given, 0, BLOCK_BYTES));
        CHECK_OK(mr_copy(pair.near, returned, 0, inside, 0, BLOCK_BYTES));
        CHECK_OK(mr_event_record(pair.near_event, pair.near));
        CHECK_OK(mr_stream_wait_event(pair.far, pair.near_event));
        CHECK_OK(mr_stream_call(pair.far, check_block, &results[i]));
    }
    CHECK_OK(mr_stream_wait(pair.far));
    CHECK_OK(mr_stream_wait(pair.near));
    mr_buffer_destroy(given);
    mr_buffer_destroy(returned);
    mr_buffer_destroy(inside);
    pair_fini(&pair);
}

static void many_crossings_may_be_under_way(mr_device *device)
{
    enum { COUNT = 64 };
    _Atomic int count = 0;
    mr_stream *streams[COUNT];
    struct pair pair;
    struct latch latch;
    pair_init(&pair, device);
    latch_init(&latch);
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(mr_stream_create(device, NULL, &streams[i]));
        latch_stop(&latch, streams[i]);
        CHECK_OK(mr_stream_call(streams[i], count_up, &count));
        CHECK_OK(mr_event_record(pair.near_event, streams[i]));
        CHECK_OK(mr_stream_wait_event(pair.far, pair.near_event));
    }
    CHECK_OK(mr_stream_call(pair.far, count_up, &count));
    CHECK_EQ(0, atomic_load(&count));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(pair.far));
    CHECK_EQ(COUNT + 1, atomic_load(&count));
    for (int i = 0; i < COUNT; i++)
        mr_stream_destroy(streams[i]);
    latch_fini(&latch);
    pair_fini(&pair);
}

static void waiters_of_a_failed_stream_are_released(mr_device *device)
{
    _Atomic int count = 0;
    struct pair pair;
    pair_init(&pair, device);
    CHECK_OK(mr_stream_call(pair.far, fail_with_words, NULL));
    CHECK_OK(mr_event_record(pair.far_event, pair.far));
    CHECK_OK(mr_stream_wait_event(pair.near, pair.far_event));
    CHECK_OK(mr_stream_call(pair.near, count_up, &count));

    if (device != pair.cpu) { /* between backends the failure comes along */
        CHECK_STATUS(MR_E_IO, mr_stream_wait(pair.near));
        CHECK_SAYS("sensor 4 is gone", mr_last_error());
        CHECK_EQ(0, atomic_load(&count));
    } else {
        CHECK_OK(mr_stream_wait(pair.near));
        CHECK_EQ(1, atomic_load(&count));
    }
    CHECK_STATUS(MR_E_IO, mr_event_wait(pair.far_event));
    pair_fini(&pair);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(the_submitting_thread_does_not_wait),
        SUITE_TEST(data_written_before_an_event_is_seen_behind_it),
        SUITE_TEST(many_crossings_may_be_under_way),
        SUITE_TEST(waiters_of_a_failed_stream_are_released),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
