/* SPDX-License-Identifier: MIT */
/*
 * Every lap, each slot's reader is queued on a stream of its own behind a hold. Then the writer goes
 * for the next lap. In a ring that is right a thread gets no slot and a stream's work does not start;
 * in one that is wrong the slots are rewritten, and only then are the readers let go.
 */
#include "ring_laps.h"

#include "support/check.h"
#include "support/hold.h"

#include <millrace/ring.h>

enum { SLOTS = 3, SLOT_BYTES = 1 << 16, WORDS = SLOT_BYTES / 4 };

mr_stream *ring_laps_producer;
uint64_t ring_laps_patience_ns = 10000000;

struct laps {
    mr_ring *ring;
    mr_stream *producer; /* NULL: this thread writes */
    mr_stream *readers[SLOTS];
    mr_buffer *copies[SLOTS];
    struct hold holds[SLOTS];
    uint32_t expected[SLOTS];
    uint32_t next_value;
    unsigned seed;
};

static void laps_init(struct laps *laps, mr_device *device, enum ring_laps_writer writer)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    *laps = (struct laps){ .next_value = 1, .seed = 7 };
    CHECK_OK(mr_ring_create(device,
                            &(mr_ring_options){ .slot_count = SLOTS,
                                                .slot_bytes = SLOT_BYTES,
                                                .place = MR_PLACE_PINNED },
                            &laps->ring));
    for (int i = 0; i < SLOTS; i++) {
        CHECK_OK(mr_stream_create(device, NULL, &laps->readers[i]));
        CHECK_OK(mr_buffer_create(device, SLOT_BYTES, &pinned, &laps->copies[i]));
    }
    if (writer == RING_LAPS_STREAM)
        CHECK_OK(mr_stream_create(device, NULL, &laps->producer));
    ring_laps_producer = laps->producer;
}

static void laps_fini(struct laps *laps)
{
    ring_laps_producer = NULL;
    mr_ring_destroy(laps->ring);
    for (int i = 0; i < SLOTS; i++) {
        mr_stream_destroy(laps->readers[i]);
        mr_buffer_destroy(laps->copies[i]);
    }
    mr_stream_destroy(laps->producer);
}

/* Writes the next value all over a slot, if the ring gives one. */
static bool write_one(struct laps *laps, uint64_t timeout_ns)
{
    mr_slot slot;
    const mr_status status = mr_ring_acquire(laps->ring, laps->producer, timeout_ns, &slot);
    if (status == MR_E_BUSY)
        return false;
    CHECK_OK(status);
    const uint32_t value = laps->next_value++;
    if (laps->producer) {
        CHECK_OK(mr_fill(laps->producer, slot.buffer, 0, SLOT_BYTES, value, 4));
    } else {
        uint32_t *words = mr_buffer_host(slot.buffer);
        for (int i = 0; i < WORDS; i++)
            words[i] = value;
    }
    slot.user = value;
    CHECK_OK(mr_ring_publish(laps->ring, laps->producer, &slot));
    return true;
}

/* The whole of the next item will be copied out once the reader's hold is opened. */
static void read_behind_hold(struct laps *laps, int reader)
{
    mr_slot slot;
    mr_stream *stream = laps->readers[reader];
    CHECK_OK(mr_ring_take(laps->ring, 0, stream, MR_FOREVER, &slot));
    hold_begin(&laps->holds[reader], stream);
    CHECK_OK(mr_copy(stream, laps->copies[reader], 0, slot.buffer, 0, SLOT_BYTES));
    laps->expected[reader] = (uint32_t)slot.user;
    CHECK_OK(mr_ring_release(laps->ring, 0, stream, &slot));
}

/* Tries to write a lap ahead of the held readers; answers how many slots got written. */
static int overtake(struct laps *laps)
{
    int written = 0;
    /* A ring lends a stream no slot whose last lap is still being written. */
    if (laps->producer)
        CHECK_OK(mr_stream_wait(laps->producer));
    while (written < SLOTS && write_one(laps, 0))
        written++;
    if (laps->producer) {
        /* Right: this runs into the limit, as the stream waits for the held readers. */
        const mr_status status = mr_stream_wait_for(laps->producer, ring_laps_patience_ns);
        CHECK(status == MR_OK || status == MR_E_TIMEOUT);
    }
    return written;
}

static void let_readers_go(struct laps *laps)
{
    laps->seed = laps->seed * 1664525u + 1013904223u;
    const int first = (int)(laps->seed >> 8) % SLOTS;
    for (int i = 0; i < SLOTS; i++)
        hold_open(&laps->holds[(first + i) % SLOTS]);
}

static bool is_as_written(const struct laps *laps, int reader)
{
    const uint32_t *words = mr_buffer_host(laps->copies[reader]);
    for (int i = 0; i < WORDS; i++) {
        if (words[i] != laps->expected[reader])
            return false;
    }
    return true;
}

uint64_t ring_laps_count_rewritten(mr_device *device, enum ring_laps_writer writer,
                                   uint32_t lap_count)
{
    struct laps laps;
    uint64_t rewritten = 0;
    laps_init(&laps, device, writer);
    for (int i = 0; i < SLOTS; i++)
        CHECK(write_one(&laps, MR_FOREVER));
    for (uint32_t lap = 0; lap < lap_count; lap++) {
        for (int i = 0; i < SLOTS; i++)
            read_behind_hold(&laps, i);
        int written = overtake(&laps);
        let_readers_go(&laps);
        for (int i = 0; i < SLOTS; i++) {
            CHECK_OK(mr_stream_wait(laps.readers[i]));
            rewritten += !is_as_written(&laps, i);
        }
        while (written++ < SLOTS)
            CHECK(write_one(&laps, MR_FOREVER));
    }
    laps_fini(&laps);
    return rewritten;
}
