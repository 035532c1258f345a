/* SPDX-License-Identifier: MIT */
/*
 * The ring between streams and threads, on one device and across two.
 */
#include "support/check.h"
#include "support/hold.h"
#include "support/make.h"
#include "support/suite.h"

#include <millrace/event.h>
#include <millrace/ring.h>

#include <pthread.h>

enum { SLOT_BYTES = 4096, WORDS = SLOT_BYTES / 4, WORKERS = 8 };

static mr_ring *make_ring(mr_device *device, mr_ring_options options)
{
    mr_ring *ring = NULL;
    options.slot_bytes = SLOT_BYTES;
    CHECK_OK(mr_ring_create(device, &options, &ring));
    return ring;
}

static mr_buffer *make_pinned(mr_device *device, size_t size_bytes)
{
    mr_buffer *buffer = NULL;
    CHECK_OK(mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .place = MR_PLACE_PINNED },
                              &buffer));
    memset(mr_buffer_host(buffer), 0xee, size_bytes);
    return buffer;
}

static void check_words(uint32_t expected, const mr_buffer *buffer, size_t offset)
{
    const uint32_t *words = (const uint32_t *)mr_buffer_host(buffer) + offset / 4;
    for (int i = 0; i < WORDS; i++)
        CHECK_EQ(expected, words[i]);
}

/* A slot full of `value`, written by `stream`. */
static void publish_filled(mr_ring *ring, mr_stream *stream, uint32_t value)
{
    mr_slot slot;
    CHECK_OK(mr_ring_acquire(ring, stream, MR_FOREVER, &slot));
    CHECK_OK(mr_fill(stream, slot.buffer, 0, SLOT_BYTES, value, 4));
    slot.user = value;
    CHECK_OK(mr_ring_publish(ring, stream, &slot));
}

/* The next slot, copied by `stream` to the offset of its number. */
static void copy_taken(mr_ring *ring, mr_stream *stream, mr_buffer *target)
{
    mr_slot slot;
    CHECK_OK(mr_ring_take(ring, 0, stream, MR_FOREVER, &slot));
    CHECK_OK(mr_copy(stream, target, slot.user * SLOT_BYTES, slot.buffer, 0, SLOT_BYTES));
    CHECK_OK(mr_ring_release(ring, 0, stream, &slot));
}

/* ---- hand-over ---- */

static void hand_over(mr_device *device, mr_place place, mr_device *producing, mr_device *consuming)
{
    enum { ITEMS = 64 };
    mr_ring *ring = make_ring(device, (mr_ring_options){ .slot_count = 3, .place = place });
    mr_stream *producer = make_stream(producing);
    mr_stream *consumer = make_stream(consuming);
    mr_buffer *target = make_pinned(consuming, (size_t)ITEMS * SLOT_BYTES);

    for (uint32_t i = 0; i < ITEMS; i++) {
        publish_filled(ring, producer, i);
        copy_taken(ring, consumer, target);
    }
    CHECK_OK(mr_ring_drain(ring, MR_FOREVER));
    CHECK_OK(mr_stream_query(consumer));
    for (uint32_t i = 0; i < ITEMS; i++)
        check_words(i, target, (size_t)i * SLOT_BYTES);

    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
    mr_stream_destroy(consumer);
    mr_buffer_destroy(target);
}

static void ring_hands_items_from_stream_to_stream_in_every_place(mr_device *device)
{
    hand_over(device, MR_PLACE_DEVICE, device, device);
    hand_over(device, MR_PLACE_PINNED, device, device);
    hand_over(device, MR_PLACE_PAGEABLE, device, device);
}

static void ring_hands_items_between_devices(mr_device *device)
{
    mr_device *cpu = NULL;
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    hand_over(device, MR_PLACE_PINNED, cpu, device);
    hand_over(device, MR_PLACE_PINNED, device, cpu);
    CHECK_OK(mr_device_close(cpu));
}

static void ring_hands_items_from_threads_to_a_stream_and_back(mr_device *device)
{
    mr_ring *there =
        make_ring(device, (mr_ring_options){ .slot_count = 2, .place = MR_PLACE_PINNED });
    mr_ring *back =
        make_ring(device, (mr_ring_options){ .slot_count = 2, .place = MR_PLACE_PINNED });
    mr_stream *stream = make_stream(device);

    for (uint32_t i = 0; i < 40; i++) {
        mr_slot in, out;
        CHECK_OK(mr_ring_acquire(there, NULL, MR_FOREVER, &in));
        uint32_t *words = mr_buffer_host(in.buffer);
        for (int k = 0; k < WORDS; k++)
            words[k] = i;
        CHECK_OK(mr_ring_publish(there, NULL, &in));

        CHECK_OK(mr_ring_take(there, 0, stream, MR_FOREVER, &in));
        CHECK_OK(mr_ring_acquire(back, stream, MR_FOREVER, &out));
        CHECK_OK(mr_copy(stream, out.buffer, 0, in.buffer, 0, SLOT_BYTES));
        CHECK_OK(mr_ring_release(there, 0, stream, &in));
        CHECK_OK(mr_ring_publish(back, stream, &out));

        CHECK_OK(mr_ring_take(back, 0, NULL, MR_FOREVER, &out));
        check_words(i, out.buffer, 0);
        CHECK_OK(mr_ring_release(back, 0, NULL, &out));
    }
    mr_ring_destroy(there);
    mr_ring_destroy(back);
    mr_stream_destroy(stream);
}

/* ---- nobody writes before the readers, nobody reads before the writer ---- */

static void ring_stream_writer_waits_for_every_stream_reader(mr_device *device)
{
    mr_ring *ring = make_ring(device, (mr_ring_options){ .slot_count = 1, .broadcast_count = 2 });
    mr_stream *producer = make_stream(device);
    mr_stream *consumers[2] = { make_stream(device), make_stream(device) };
    mr_buffer *target = make_pinned(device, 2 * SLOT_BYTES);
    struct hold holds[2];
    mr_slot slot;

    publish_filled(ring, producer, 1);
    for (uint32_t i = 0; i < 2; i++) {
        hold_begin(&holds[i], consumers[i]);
        CHECK_OK(mr_ring_take(ring, i, consumers[i], MR_FOREVER, &slot));
        CHECK_OK(mr_copy(consumers[i], target, i * SLOT_BYTES, slot.buffer, 0, SLOT_BYTES));
        CHECK_OK(mr_ring_release(ring, i, consumers[i], &slot));
    }
    publish_filled(ring, producer, 2); /* the host does not wait */
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(producer));
    hold_open(&holds[0]);
    CHECK_STATUS(MR_E_BUSY, mr_stream_query(producer));
    hold_open(&holds[1]);
    CHECK_OK(mr_stream_wait(producer));

    check_words(1, target, 0);
    check_words(1, target, SLOT_BYTES);
    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
    mr_stream_destroy(consumers[0]);
    mr_stream_destroy(consumers[1]);
    mr_buffer_destroy(target);
}

static void ring_thread_gets_no_slot_that_a_stream_still_reads(mr_device *device)
{
    mr_ring *ring =
        make_ring(device, (mr_ring_options){ .slot_count = 1, .place = MR_PLACE_PINNED });
    mr_stream *consumer = make_stream(device);
    struct hold hold;
    mr_slot slot;

    CHECK_OK(mr_ring_acquire(ring, NULL, 0, &slot));
    CHECK_OK(mr_ring_publish(ring, NULL, &slot));
    hold_begin(&hold, consumer);
    CHECK_OK(mr_ring_take(ring, 0, consumer, 0, &slot));
    CHECK_OK(mr_ring_release(ring, 0, consumer, &slot));

    CHECK_STATUS(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &slot));
    CHECK_STATUS(MR_E_TIMEOUT, mr_ring_acquire(ring, NULL, 1000000, &slot));
    CHECK_STATUS(MR_E_BUSY, mr_ring_drain(ring, 0));
    CHECK_STATUS(MR_E_TIMEOUT, mr_ring_drain(ring, 1000000));
    hold_open(&hold);
    CHECK_OK(mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
    CHECK_OK(mr_ring_abandon(ring, &slot));
    mr_ring_destroy(ring);
    mr_stream_destroy(consumer);
}

static void ring_thread_gets_no_item_that_a_stream_still_writes(mr_device *device)
{
    mr_ring *ring =
        make_ring(device, (mr_ring_options){ .slot_count = 2, .place = MR_PLACE_PINNED });
    mr_stream *producer = make_stream(device);
    struct hold hold;
    mr_slot slot;

    hold_begin(&hold, producer);
    publish_filled(ring, producer, 5);
    CHECK_STATUS(MR_E_BUSY, mr_ring_take(ring, 0, NULL, 0, &slot));
    CHECK_STATUS(MR_E_TIMEOUT, mr_ring_take(ring, 0, NULL, 1000000, &slot));
    hold_open(&hold);
    CHECK_OK(mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
    check_words(5, slot.buffer, 0);
    CHECK_EQ(0, slot.sequence);
    CHECK_OK(mr_ring_release(ring, 0, NULL, &slot));
    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
}

static void ring_thread_prefers_a_slot_whose_readers_are_done(mr_device *device)
{
    mr_ring *ring =
        make_ring(device, (mr_ring_options){ .slot_count = 2, .place = MR_PLACE_PINNED });
    mr_stream *consumer = make_stream(device);
    struct hold hold;
    mr_slot slow, fast, slot;

    for (int i = 0; i < 2; i++) {
        CHECK_OK(mr_ring_acquire(ring, NULL, 0, &slot));
        CHECK_OK(mr_ring_publish(ring, NULL, &slot));
    }
    hold_begin(&hold, consumer);
    CHECK_OK(mr_ring_take(ring, 0, consumer, 0, &slow));
    CHECK_OK(mr_ring_release(ring, 0, consumer, &slow)); /* free first, but still read */
    CHECK_OK(mr_ring_take(ring, 0, NULL, 0, &fast));
    CHECK_OK(mr_ring_release(ring, 0, NULL, &fast));

    CHECK_OK(mr_ring_acquire(ring, NULL, 0, &slot));
    CHECK_EQ(fast.index, slot.index);
    CHECK_OK(mr_ring_abandon(ring, &slot));
    hold_open(&hold);
    mr_ring_destroy(ring);
    mr_stream_destroy(consumer);
}

static void ring_writer_runs_at_most_one_lap_ahead(mr_device *device)
{
    mr_ring *ring = make_ring(device, (mr_ring_options){ .slot_count = 3 });
    mr_stream *producer = make_stream(device);
    mr_stream *consumer = make_stream(device);
    struct hold hold;
    mr_slot slot;

    hold_begin(&hold, producer);
    for (uint32_t i = 0; i < 3; i++) {
        publish_filled(ring, producer, i);
        CHECK_OK(mr_ring_take(ring, 0, consumer, 0, &slot));
        CHECK_OK(mr_ring_release(ring, 0, consumer, &slot));
    }
    CHECK_STATUS(MR_E_BUSY, mr_ring_acquire(ring, producer, 0, &slot));
    hold_open(&hold);
    CHECK_OK(mr_ring_acquire(ring, producer, MR_FOREVER, &slot));
    CHECK_OK(mr_ring_abandon(ring, &slot));
    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
    mr_stream_destroy(consumer);
}

static void ring_drop_waits_for_the_dropped_writing(mr_device *device)
{
    mr_ring *ring = make_ring(device, (mr_ring_options){ .slot_count = 1,
                                                         .place = MR_PLACE_PINNED,
                                                         .policy = MR_RING_DROP_OLDEST });
    mr_stream *producer = make_stream(device);
    struct hold hold;
    mr_slot slot;

    hold_begin(&hold, producer);
    publish_filled(ring, producer, 1);
    CHECK_STATUS(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &slot));
    hold_open(&hold);
    CHECK_OK(mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
    memset(mr_buffer_host(slot.buffer), 2, SLOT_BYTES);
    CHECK_OK(mr_ring_publish(ring, NULL, &slot));
    CHECK_OK(mr_ring_take(ring, 0, NULL, 0, &slot));
    check_words(0x02020202, slot.buffer, 0);
    CHECK_EQ(1, slot.sequence);
    CHECK_OK(mr_ring_release(ring, 0, NULL, &slot));
    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
}

/* ---- failures and ends ---- */

static mr_status fail_work(void *context)
{
    (void)context;
    return mr_error_set(MR_E_CALLBACK, "frame 12: no sync word");
}

static void ring_tells_a_thread_reader_that_the_writing_failed(mr_device *device)
{
    mr_ring *ring =
        make_ring(device, (mr_ring_options){ .slot_count = 2, .place = MR_PLACE_PINNED });
    mr_stream *producer = make_stream(device);
    mr_slot slot;

    CHECK_OK(mr_ring_acquire(ring, producer, 0, &slot));
    CHECK_OK(mr_stream_call(producer, fail_work, NULL));
    CHECK_OK(mr_ring_publish(ring, producer, &slot));
    CHECK_OK(mr_ring_acquire(ring, NULL, 0, &slot));
    CHECK_OK(mr_ring_publish(ring, NULL, &slot));

    CHECK_STATUS(MR_E_CALLBACK, mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
    CHECK_SAYS("no sync word", mr_last_error());
    CHECK_OK(mr_ring_take(ring, 0, NULL, 0, &slot)); /* the ring goes on */
    CHECK_EQ(1, slot.sequence);
    CHECK_OK(mr_ring_release(ring, 0, NULL, &slot));
    CHECK_OK(mr_ring_drain(ring, MR_FOREVER));
    CHECK_STATUS(MR_E_CALLBACK, mr_stream_wait(producer));
    mr_ring_destroy(ring);
    mr_stream_destroy(producer);
}

static void ring_destroy_waits_for_the_streams(mr_device *device)
{
    mr_ring *ring = make_ring(device, (mr_ring_options){ .slot_count = 2 });
    mr_stream *producer = make_stream(device);
    mr_stream *consumer = make_stream(device);
    mr_buffer *target = make_pinned(device, 2 * SLOT_BYTES);

    for (uint32_t i = 0; i < 2; i++) {
        publish_filled(ring, producer, i);
        copy_taken(ring, consumer, target);
    }
    mr_ring_destroy(ring);
    CHECK_OK(mr_stream_query(consumer));
    check_words(0, target, 0);
    check_words(1, target, SLOT_BYTES);
    mr_stream_destroy(producer);
    mr_stream_destroy(consumer);
    mr_buffer_destroy(target);
}

struct waiter {
    mr_ring *ring;
    bool is_producer;
    mr_status status;
    pthread_t thread;
};

static void *wait_for_slot(void *context)
{
    struct waiter *waiter = context;
    mr_slot slot;
    waiter->status = waiter->is_producer ? mr_ring_acquire(waiter->ring, NULL, MR_FOREVER, &slot)
                                         : mr_ring_take(waiter->ring, 0, NULL, MR_FOREVER, &slot);
    return NULL;
}

static mr_status end_a_waiter(mr_ring *ring, bool is_producer, bool is_failure)
{
    struct waiter waiter = { .ring = ring, .is_producer = is_producer };
    CHECK_EQ(0, pthread_create(&waiter.thread, NULL, wait_for_slot, &waiter));
    if (is_failure)
        mr_ring_fail(ring, MR_E_IO, "unplugged");
    else
        mr_ring_close(ring);
    CHECK_EQ(0, pthread_join(waiter.thread, NULL));
    return waiter.status;
}

static void ring_end_releases_waiting_threads(mr_device *device)
{
    for (int is_failure = 0; is_failure < 2; is_failure++) {
        mr_ring *full = make_ring(device, (mr_ring_options){ .slot_count = 1 });
        mr_ring *empty = make_ring(device, (mr_ring_options){ .slot_count = 1 });
        mr_slot slot;
        CHECK_OK(mr_ring_acquire(full, NULL, 0, &slot));
        CHECK_STATUS(is_failure ? MR_E_IO : MR_E_CLOSED, end_a_waiter(full, true, is_failure));
        CHECK_STATUS(is_failure ? MR_E_IO : MR_END, end_a_waiter(empty, false, is_failure));
        CHECK_STATUS(is_failure ? MR_E_IO : MR_OK, mr_ring_abandon(full, &slot));
        mr_ring_destroy(full);
        mr_ring_destroy(empty);
    }
}

int main(int argc, char **argv)
{
    const struct suite_test tests[] = {
        SUITE_TEST(ring_hands_items_from_stream_to_stream_in_every_place),
        SUITE_TEST(ring_hands_items_between_devices),
        SUITE_TEST(ring_hands_items_from_threads_to_a_stream_and_back),
        SUITE_TEST(ring_stream_writer_waits_for_every_stream_reader),
        SUITE_TEST(ring_thread_gets_no_slot_that_a_stream_still_reads),
        SUITE_TEST(ring_thread_gets_no_item_that_a_stream_still_writes),
        SUITE_TEST(ring_thread_prefers_a_slot_whose_readers_are_done),
        SUITE_TEST(ring_writer_runs_at_most_one_lap_ahead),
        SUITE_TEST(ring_drop_waits_for_the_dropped_writing),
        SUITE_TEST(ring_tells_a_thread_reader_that_the_writing_failed),
        SUITE_TEST(ring_destroy_waits_for_the_streams),
        SUITE_TEST(ring_end_releases_waiting_threads),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = WORKERS }, tests,
                      sizeof tests / sizeof *tests);
}
