/* SPDX-License-Identifier: MIT */
/*
 * Pitfall: memory that is written again before the work that reads it has run. The copy was submitted,
 * so the buffer looks free; it is free when the copy has *ended*. Here the stream is held up on purpose
 * so that the mistake shows every time, and not once a month. A ring lends a slot only when its last
 * reader's event has fired.
 *
 *     pitfall_reuse_before_event [DEVICE]
 *
 * Prints: one buffer, reused at once: 3 3 3 3; slots of a ring: 0 1 2 3
 */
#include "check.h"

#include <semaphore.h>

enum { ITEMS = 4, COUNT = 1024, ITEM_BYTES = COUNT * sizeof(uint32_t) };

static mr_device *device;
static mr_stream *stream;
static mr_buffer *results;

static void make_item(uint32_t *numbers, uint32_t item)
{
    for (int i = 0; i < COUNT; i++)
        numbers[i] = item;
}

/* Prints the first number of each result, and answers how many items arrived as they were sent. */
static int count_arrived(const char *name)
{
    const uint32_t *numbers = mr_buffer_host(results);
    int count = 0;
    CHECK(mr_stream_wait(stream));
    printf("%s:", name);
    for (uint32_t item = 0; item < ITEMS; item++) {
        printf(" %u", numbers[item * COUNT]);
        count += numbers[item * COUNT] == item && numbers[(item + 1) * COUNT - 1] == item;
    }
    printf("\n");
    return count;
}

/* Stands for a device that is busy with something else. */
static mr_status be_busy(void *context)
{
    while (sem_wait(context))
        ;
    return MR_OK;
}

static int reuse_at_once(void)
{
    mr_buffer *slot;
    sem_t go;
    EXPECT(sem_init(&go, 0, 0) == 0);
    CHECK(mr_buffer_create(device, ITEM_BYTES, &(mr_buffer_options){ .place = MR_PLACE_PINNED },
                           &slot));
    CHECK(mr_stream_call(stream, be_busy, &go));
    for (uint32_t item = 0; item < ITEMS; item++) {
        make_item(mr_buffer_host(slot), item); /* the copies before have not run yet */
        CHECK(mr_copy(stream, results, item * ITEM_BYTES, slot, 0, ITEM_BYTES));
    }
    EXPECT(sem_post(&go) == 0);
    const int arrived = count_arrived("one buffer, reused at once");
    mr_buffer_destroy(slot);
    sem_destroy(&go);
    return arrived;
}

static int use_a_ring(void)
{
    mr_ring *ring;
    const mr_ring_options options = { .slot_count = 2,
                                      .slot_bytes = ITEM_BYTES,
                                      .place = MR_PLACE_PINNED };
    CHECK(mr_ring_create(device, &options, &ring));
    for (uint32_t item = 0; item < ITEMS; item++) {
        mr_slot slot;
        CHECK(mr_ring_acquire(ring, NULL, MR_FOREVER, &slot)); /* waits for its last reader */
        make_item(mr_buffer_host(slot.buffer), item);
        slot.size_bytes = ITEM_BYTES;
        CHECK(mr_ring_publish(ring, NULL, &slot));

        CHECK(mr_ring_take(ring, 0, stream, MR_FOREVER, &slot));
        CHECK(mr_copy(stream, results, item * ITEM_BYTES, slot.buffer, 0, ITEM_BYTES));
        CHECK(mr_ring_release(ring, 0, stream, &slot)); /* free once the copy has ended */
    }
    const int arrived = count_arrived("slots of a ring");
    mr_ring_destroy(ring);
    return arrived;
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_buffer_create(device, ITEMS * ITEM_BYTES,
                           &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &results));

    EXPECT(reuse_at_once() == 1); /* only the last */
    EXPECT(use_a_ring() == ITEMS);

    mr_buffer_destroy(results);
    mr_stream_destroy(stream);
    CHECK(mr_device_close(device));
    return 0;
}
