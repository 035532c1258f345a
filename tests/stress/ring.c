/* SPDX-License-Identifier: MIT */
/*
 * The ring under many threads and streams: every item once (or once for each consumer), in order, and
 * whole from the moment it is taken until it is released.
 */
#include "ring_laps.h"

#include "support/check.h"
#include "support/suite.h"

#include <millrace/ring.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum {
    SLOT_BYTES = 1024,
    WORDS = SLOT_BYTES / 4,
    WORKERS = 8,
    ITEMS = 600, /* of each producer */
    SIDE_LIMIT = 4,
    VALUE_LIMIT = SIDE_LIMIT * ITEMS
};

struct crowd {
    mr_ring *ring;
    mr_device *device;
    uint32_t broadcast_count;
    atomic_uint seen[SIDE_LIMIT][VALUE_LIMIT]; /* by each consumer number */
    atomic_uint producers_left;
};

struct member {
    struct crowd *crowd;
    uint32_t number;
    bool has_stream;
    pthread_t thread;
};

static mr_stream *member_stream(const struct member *member)
{
    mr_stream *stream = NULL;
    if (member->has_stream)
        CHECK_OK(mr_stream_create(member->crowd->device, NULL, &stream));
    return stream;
}

/* A random number of times, let others run first. */
static mr_status dawdle(void *context)
{
    for (uintptr_t i = (uintptr_t)context % 7; i > 0; i--)
        sched_yield();
    return MR_OK;
}

/* ---- producers ---- */

static void write_slot(mr_stream *stream, const mr_slot *slot, uint32_t value)
{
    if (stream) {
        CHECK_OK(mr_stream_call(stream, dawdle, (void *)(uintptr_t)value));
        CHECK_OK(mr_fill(stream, slot->buffer, 0, SLOT_BYTES, value, 4));
        return;
    }
    uint32_t *words = mr_buffer_host(slot->buffer);
    for (int i = 0; i < WORDS; i++)
        words[i] = value;
}

static void *produce(void *context)
{
    struct member *member = context;
    struct crowd *crowd = member->crowd;
    mr_stream *stream = member_stream(member);
    for (uint32_t i = 0; i < ITEMS; i++) {
        const uint32_t value = member->number * ITEMS + i;
        mr_slot slot;
        CHECK_OK(mr_ring_acquire(crowd->ring, stream, MR_FOREVER, &slot));
        if (i % 13 == 5) {
            CHECK_OK(mr_ring_abandon(crowd->ring, &slot));
            CHECK_OK(mr_ring_acquire(crowd->ring, stream, MR_FOREVER, &slot));
        }
        write_slot(stream, &slot, value);
        slot.user = value;
        CHECK_OK(mr_ring_publish(crowd->ring, stream, &slot));
    }
    if (atomic_fetch_sub(&crowd->producers_left, 1) == 1)
        mr_ring_close(crowd->ring);
    mr_stream_destroy(stream);
    return NULL;
}

/* ---- consumers ---- */

static void check_whole(const uint32_t *words, uint32_t value)
{
    for (int i = 0; i < WORDS; i++)
        CHECK_EQ(value, words[i]);
}

static void read_slot(mr_stream *stream, mr_buffer *copy, const mr_slot *slot)
{
    const uint32_t value = (uint32_t)slot->user;
    if (!stream) {
        check_whole(mr_buffer_host(slot->buffer), value);
        sched_yield();
        check_whole(mr_buffer_host(slot->buffer), value);
        return;
    }
    CHECK_OK(mr_stream_call(stream, dawdle, (void *)(uintptr_t)(value * 3)));
    CHECK_OK(mr_copy(stream, copy, (size_t)value * SLOT_BYTES, slot->buffer, 0, SLOT_BYTES));
}

/* Items of one producer come in its order; sequences only grow. */
static void check_order(const mr_slot *slot, uint64_t *next_sequence, uint32_t *next_values)
{
    const uint32_t producer = (uint32_t)slot->user / ITEMS;
    CHECK(slot->sequence >= *next_sequence);
    *next_sequence = slot->sequence + 1;
    CHECK((uint32_t)slot->user >= next_values[producer]);
    next_values[producer] = (uint32_t)slot->user + 1;
}

static void *consume(void *context)
{
    struct member *member = context;
    struct crowd *crowd = member->crowd;
    const uint32_t consumer = crowd->broadcast_count ? member->number : 0;
    mr_stream *stream = member_stream(member);
    mr_buffer *copy = NULL;
    bool *is_mine = calloc(VALUE_LIMIT, sizeof *is_mine);
    uint64_t next_sequence = 0;
    uint32_t next_values[SIDE_LIMIT] = { 0 };
    CHECK(is_mine);
    CHECK_OK(mr_buffer_create(crowd->device, (size_t)VALUE_LIMIT * SLOT_BYTES,
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &copy));

    mr_slot slot;
    mr_status status;
    while (!(status = mr_ring_take(crowd->ring, consumer, stream, MR_FOREVER, &slot))) {
        check_order(&slot, &next_sequence, next_values);
        read_slot(stream, copy, &slot);
        is_mine[slot.user] = true;
        atomic_fetch_add(&crowd->seen[consumer][slot.user], 1);
        CHECK_OK(mr_ring_release(crowd->ring, consumer, stream, &slot));
    }
    CHECK_STATUS(MR_END, status);

    if (stream)
        CHECK_OK(mr_stream_wait(stream));
    for (uint32_t i = 0; stream && i < VALUE_LIMIT; i++) {
        if (is_mine[i])
            check_whole((uint32_t *)mr_buffer_host(copy) + (size_t)i * WORDS, i);
    }
    free(is_mine);
    mr_stream_destroy(stream);
    mr_buffer_destroy(copy);
    return NULL;
}

/* ---- crowds ---- */

struct crowd_shape {
    uint32_t slot_count, broadcast_count;
    uint32_t thread_producers, stream_producers;
    uint32_t thread_consumers, stream_consumers;
};

static void start(struct crowd *crowd, void *(*run)(void *), struct member *members,
                  uint32_t thread_count, uint32_t stream_count)
{
    for (uint32_t i = 0; i < thread_count + stream_count; i++) {
        members[i] = (struct member){ crowd, i, i >= thread_count, 0 };
        CHECK_EQ(0, pthread_create(&members[i].thread, NULL, run, &members[i]));
    }
}

static void join(const struct member *members, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        CHECK_EQ(0, pthread_join(members[i].thread, NULL));
}

static void check_all_seen(struct crowd *crowd, uint32_t producer_count)
{
    const uint32_t consumer_count = crowd->broadcast_count ? crowd->broadcast_count : 1;
    for (uint32_t consumer = 0; consumer < consumer_count; consumer++) {
        for (uint32_t i = 0; i < producer_count * ITEMS; i++)
            CHECK_EQ(1, atomic_load(&crowd->seen[consumer][i]));
    }
    mr_ring_statistics statistics;
    mr_ring_measure(crowd->ring, &statistics);
    CHECK_EQ(producer_count * ITEMS, statistics.published);
    CHECK_EQ(statistics.published * consumer_count, statistics.taken);
    CHECK_EQ(statistics.published * consumer_count, statistics.released);
    CHECK_EQ(0, statistics.dropped);
    CHECK_EQ(0, statistics.filled_count);
}

static void run_crowd(mr_device *device, const struct crowd_shape *shape)
{
    const uint32_t producer_count = shape->thread_producers + shape->stream_producers;
    const uint32_t consumer_count = shape->thread_consumers + shape->stream_consumers;
    struct member producers[SIDE_LIMIT], consumers[SIDE_LIMIT];
    struct crowd *crowd = calloc(1, sizeof *crowd);
    CHECK(crowd);
    crowd->device = device;
    crowd->broadcast_count = shape->broadcast_count;
    atomic_store(&crowd->producers_left, producer_count);
    CHECK_OK(mr_ring_create(device,
                            &(mr_ring_options){ .slot_count = shape->slot_count,
                                                .slot_bytes = SLOT_BYTES,
                                                .place = MR_PLACE_PINNED,
                                                .broadcast_count = shape->broadcast_count },
                            &crowd->ring));

    start(crowd, consume, consumers, shape->thread_consumers, shape->stream_consumers);
    start(crowd, produce, producers, shape->thread_producers, shape->stream_producers);
    join(producers, producer_count);
    CHECK_OK(mr_ring_drain(crowd->ring, MR_FOREVER));
    join(consumers, consumer_count);

    check_all_seen(crowd, producer_count);
    mr_ring_destroy(crowd->ring);
    free(crowd);
}

static void ring_shares_each_item_once_among_threads(mr_device *device)
{
    run_crowd(device, &(struct crowd_shape){
                          .slot_count = 5, .thread_producers = 3, .thread_consumers = 3 });
    run_crowd(device, &(struct crowd_shape){
                          .slot_count = 1, .thread_producers = 2, .thread_consumers = 2 });
}

static void ring_shares_each_item_once_among_streams_and_threads(mr_device *device)
{
    run_crowd(device, &(struct crowd_shape){
                          .slot_count = 5, .stream_producers = 2, .stream_consumers = 2 });
    run_crowd(device, &(struct crowd_shape){ .slot_count = 4,
                                             .thread_producers = 1,
                                             .stream_producers = 2,
                                             .thread_consumers = 2,
                                             .stream_consumers = 2 });
    run_crowd(device, &(struct crowd_shape){ .slot_count = 1,
                                             .thread_producers = 1,
                                             .stream_producers = 1,
                                             .thread_consumers = 1,
                                             .stream_consumers = 1 });
}

static void ring_broadcasts_each_item_to_all(mr_device *device)
{
    run_crowd(device, &(struct crowd_shape){ .slot_count = 3,
                                             .broadcast_count = 3,
                                             .thread_producers = 2,
                                             .thread_consumers = 3 });
    run_crowd(device, &(struct crowd_shape){ .slot_count = 4,
                                             .broadcast_count = 4,
                                             .thread_producers = 1,
                                             .stream_producers = 1,
                                             .thread_consumers = 2,
                                             .stream_consumers = 2 });
}

/* ---- dropping, failing, overtaking ---- */

static void *produce_and_drop(void *context)
{
    mr_ring *ring = context;
    for (uint32_t i = 0; i < 4 * ITEMS; i++) {
        mr_slot slot;
        CHECK_OK(mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
        write_slot(NULL, &slot, i);
        slot.user = i;
        CHECK_OK(mr_ring_publish(ring, NULL, &slot));
    }
    mr_ring_close(ring);
    return NULL;
}

static void ring_drops_only_whole_items_that_nobody_holds(mr_device *device)
{
    mr_ring *ring = NULL;
    pthread_t producer;
    CHECK_OK(mr_ring_create(device,
                            &(mr_ring_options){ .slot_count = 3,
                                                .slot_bytes = SLOT_BYTES,
                                                .place = MR_PLACE_PINNED,
                                                .policy = MR_RING_DROP_OLDEST },
                            &ring));
    CHECK_EQ(0, pthread_create(&producer, NULL, produce_and_drop, ring));

    uint64_t next = 0, taken = 0;
    mr_slot slot;
    mr_status status;
    while (!(status = mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot))) {
        CHECK(slot.sequence >= next);
        CHECK_EQ(slot.sequence, slot.user);
        next = slot.sequence + 1;
        taken++;
        read_slot(NULL, NULL, &slot);
        CHECK_OK(mr_ring_release(ring, 0, NULL, &slot));
    }
    CHECK_STATUS(MR_END, status);
    CHECK_EQ(0, pthread_join(producer, NULL));
    CHECK_EQ(4 * ITEMS, next); /* the newest is never dropped */

    mr_ring_statistics statistics;
    mr_ring_measure(ring, &statistics);
    CHECK_EQ(4 * ITEMS, taken + statistics.dropped);
    mr_ring_destroy(ring);
}

static void *produce_until_failure(void *context)
{
    const struct member *member = context;
    mr_ring *ring = member->crowd->ring;
    mr_stream *stream = member_stream(member);
    mr_slot slot;
    mr_status status;
    while (!(status = mr_ring_acquire(ring, stream, MR_FOREVER, &slot))) {
        status = mr_ring_publish(ring, stream, &slot);
        if (status)
            break;
    }
    CHECK_STATUS(MR_E_IO, status);
    mr_stream_destroy(stream);
    return NULL;
}

static void *consume_until_failure(void *context)
{
    const struct member *member = context;
    mr_ring *ring = member->crowd->ring;
    mr_stream *stream = member_stream(member);
    mr_slot slot;
    mr_status status;
    while (!(status = mr_ring_take(ring, 0, stream, MR_FOREVER, &slot))) {
        const bool is_time = slot.sequence >= 50;
        status = mr_ring_release(ring, 0, stream, &slot);
        if (status)
            break;
        if (is_time)
            mr_ring_fail(ring, MR_E_IO, "enough");
    }
    CHECK_STATUS(MR_E_IO, status);
    mr_stream_destroy(stream);
    return NULL;
}

static void ring_failure_in_the_middle_ends_everybody(mr_device *device)
{
    for (int round = 0; round < 20; round++) {
        struct member producers[2], consumers[2];
        struct crowd *crowd = calloc(1, sizeof *crowd);
        CHECK(crowd);
        crowd->device = device;
        CHECK_OK(mr_ring_create(
            device, &(mr_ring_options){ .slot_count = 3, .slot_bytes = SLOT_BYTES }, &crowd->ring));
        start(crowd, produce_until_failure, producers, 1, 1);
        start(crowd, consume_until_failure, consumers, 1, 1);
        join(producers, 2);
        join(consumers, 2);
        mr_ring_destroy(crowd->ring);
        free(crowd);
    }
}

static void ring_never_rewrites_a_slot_before_its_readers_are_done(mr_device *device)
{
    CHECK_EQ(0, ring_laps_count_rewritten(device, RING_LAPS_THREAD, 30));
    CHECK_EQ(0, ring_laps_count_rewritten(device, RING_LAPS_STREAM, 30));
}

int main(int argc, char **argv)
{
    const struct suite_test tests[] = {
        SUITE_TEST(ring_shares_each_item_once_among_threads),
        SUITE_TEST(ring_shares_each_item_once_among_streams_and_threads),
        SUITE_TEST(ring_broadcasts_each_item_to_all),
        SUITE_TEST(ring_drops_only_whole_items_that_nobody_holds),
        SUITE_TEST(ring_failure_in_the_middle_ends_everybody),
        SUITE_TEST(ring_never_rewrites_a_slot_before_its_readers_are_done),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = WORKERS }, tests,
                      sizeof tests / sizeof *tests);
}
