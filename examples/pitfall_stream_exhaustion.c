/* SPDX-License-Identifier: MIT */
/*
 * Pitfall: a stream for every item. Streams cost time to create and memory to keep, and a device has
 * only so many hardware queues behind them, so that past a handful they share queues again and wait
 * for each other. A pool lends a few, over and over.
 *
 *     pitfall_stream_exhaustion [DEVICE]
 *
 * Prints: a stream for each of 256 items: 256 streams, 14.20 ms; a pool: 4 streams, 1.31 ms
 */
#include "check.h"

enum { ITEMS = 256, STREAMS = 4, ITEM_BYTES = 1 << 16 };

static mr_device *device;
static mr_buffer *host, *there;

static void submit(mr_stream *stream, size_t item)
{
    const size_t offset = item * ITEM_BYTES;
    CHECK(mr_fill(stream, there, offset, ITEM_BYTES, (uint32_t)item, 2));
    CHECK(mr_copy(stream, host, offset, there, offset, ITEM_BYTES));
}

/* As it is written by hand. */
static uint32_t use_a_stream_for_each(void)
{
    mr_stream *streams[ITEMS];
    for (size_t i = 0; i < ITEMS; i++) {
        CHECK(mr_stream_create(device, NULL, &streams[i]));
        submit(streams[i], i);
    }
    for (size_t i = 0; i < ITEMS; i++)
        mr_stream_destroy(streams[i]); /* waits */
    return ITEMS;
}

/* Items of one stream come one after the other; the streams side by side. */
static uint32_t use_a_pool(void)
{
    mr_stream_pool *pool;
    mr_stream *streams[STREAMS];
    CHECK(mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = STREAMS }, &pool));
    for (size_t i = 0; i < STREAMS; i++)
        CHECK(mr_stream_pool_acquire(pool, &streams[i]));
    for (size_t i = 0; i < ITEMS; i++)
        submit(streams[i % STREAMS], i);
    for (size_t i = 0; i < STREAMS; i++) {
        CHECK(mr_stream_wait(streams[i]));
        mr_stream_pool_release(pool, streams[i]); /* for the next who needs one */
    }
    const uint32_t count = mr_stream_pool_size(pool);
    mr_stream_pool_destroy(pool);
    return count;
}

static uint32_t run(const char *name, uint32_t (*way)(void))
{
    const uint64_t start_ns = mr_device_now_ns(device);
    const uint32_t count = way();
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;
    printf("%s: %u streams, %.2f ms\n", name, count, (double)elapsed_ns / 1e6);

    uint16_t *numbers = mr_buffer_host(host);
    for (size_t i = 0; i < ITEMS * (size_t)ITEM_BYTES / 2; i++) {
        EXPECT(numbers[i] == i / (ITEM_BYTES / 2));
        numbers[i] = UINT16_MAX;
    }
    return count;
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK(mr_buffer_create(device, ITEMS * (size_t)ITEM_BYTES, &pinned, &host));
    CHECK(mr_buffer_create(device, ITEMS * (size_t)ITEM_BYTES, NULL, &there));

    EXPECT(run("a stream for each item", use_a_stream_for_each) == ITEMS);
    EXPECT(run("a pool", use_a_pool) == STREAMS);

    mr_buffer_destroy(there);
    mr_buffer_destroy(host);
    CHECK(mr_device_close(device));
    return 0;
}
