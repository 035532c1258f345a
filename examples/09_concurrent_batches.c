/* SPDX-License-Identifier: MIT */
/*
 * Many batches at once: batch k goes to stream k modulo 4, and its whole chain (copy in, two kernels,
 * copy out) stays on that stream. Batches on different streams are independent; on one stream they
 * come one after the other, so that each stream needs memory for one batch only. Four streams are
 * enough to keep the copy engines and the kernels busy: more would only take more memory.
 *
 *     09_concurrent_batches [DEVICE]
 *
 * Prints: 40 batches of 64 images on 4 streams in 8.2 ms, on 1 stream in 15.9 ms
 */
#include "check.h"

enum { BATCHES = 40, STREAMS = 4, BATCH = 64 * 32 * 32, RESULT_BYTES = BATCH * sizeof(float) };

static mr_device *device;
static mr_kernel *convert, *add;
static mr_buffer *images, *query, *results;

/* What one stream works in. */
struct lane {
    mr_stream *stream;
    mr_buffer *bytes, *floats, *sums;
};

static mr_buffer *make_buffer(size_t size, mr_place place)
{
    mr_buffer *buffer;
    CHECK(mr_buffer_create(device, size, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

/* results = images / 2 + query, enqueued on the lane's stream. Nothing waits here. */
static void submit_batch(const struct lane *lane, size_t batch)
{
    const mr_launch launch = { .count = BATCH };
    const mr_argument halve[] = { mr_argument_buffer(lane->bytes), mr_argument_buffer(lane->floats),
                                  mr_argument_f32(0.5f), mr_argument_f32(0),
                                  mr_argument_u64(BATCH) };
    const mr_argument sum[] = { mr_argument_buffer(lane->floats), mr_argument_buffer(query),
                                mr_argument_buffer(lane->sums), mr_argument_u64(BATCH) };
    CHECK(mr_copy(lane->stream, lane->bytes, 0, images, batch * BATCH, BATCH));
    CHECK(mr_kernel_launch(lane->stream, convert, &launch, halve, 5));
    CHECK(mr_kernel_launch(lane->stream, add, &launch, sum, 4));
    CHECK(mr_copy(lane->stream, results, batch * RESULT_BYTES, lane->sums, 0, RESULT_BYTES));
}

static double run(struct lane *lanes, size_t count)
{
    const uint64_t start_ns = mr_device_now_ns(device);
    for (size_t batch = 0; batch < BATCHES; batch++)
        submit_batch(&lanes[batch % count], batch);
    for (size_t i = 0; i < count; i++)
        CHECK(mr_stream_wait(lanes[i].stream));
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;

    const uint8_t *bytes = mr_buffer_host(images);
    float *found = mr_buffer_host(results);
    for (size_t i = 0; i < (size_t)BATCHES * BATCH; i++) {
        EXPECT(found[i] == 0.5f * bytes[i] + 3);
        found[i] = -1;
    }
    return (double)elapsed_ns / 1e6;
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    struct lane lanes[STREAMS];
    mr_stream_pool *pool; /* streams are dear to create: keep them, and lend them out */
    CHECK(mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = STREAMS }, &pool));
    CHECK(mr_kernel_open(device, "scale_offset_u8_f32", &convert));
    CHECK(mr_kernel_open(device, "add_f32", &add));
    images = make_buffer(BATCHES * (size_t)BATCH, MR_PLACE_PINNED);
    query = make_buffer(RESULT_BYTES, MR_PLACE_PINNED);
    results = make_buffer(BATCHES * (size_t)RESULT_BYTES, MR_PLACE_PINNED);
    for (size_t i = 0; i < (size_t)BATCHES * BATCH; i++)
        ((uint8_t *)mr_buffer_host(images))[i] = (uint8_t)(i * 7 % 251);
    for (size_t i = 0; i < BATCH; i++)
        ((float *)mr_buffer_host(query))[i] = 3;
    for (int i = 0; i < STREAMS; i++) {
        CHECK(mr_stream_pool_acquire(pool, &lanes[i].stream));
        lanes[i].bytes = make_buffer(BATCH, MR_PLACE_DEVICE);
        lanes[i].floats = make_buffer(RESULT_BYTES, MR_PLACE_DEVICE);
        lanes[i].sums = make_buffer(RESULT_BYTES, MR_PLACE_DEVICE);
    }

    run(lanes, STREAMS); /* to warm up */
    const double many_ms = run(lanes, STREAMS), one_ms = run(lanes, 1);
    printf("%d batches of 64 images on %d streams in %.1f ms, on 1 stream in %.1f ms\n", BATCHES,
           STREAMS, many_ms, one_ms);

    for (int i = 0; i < STREAMS; i++) {
        mr_buffer_destroy(lanes[i].sums);
        mr_buffer_destroy(lanes[i].floats);
        mr_buffer_destroy(lanes[i].bytes);
        mr_stream_pool_release(pool, lanes[i].stream);
    }
    mr_stream_pool_destroy(pool);
    mr_buffer_destroy(results);
    mr_buffer_destroy(query);
    mr_buffer_destroy(images);
    mr_kernel_destroy(add);
    mr_kernel_destroy(convert);
    CHECK(mr_device_close(device));
    return 0;
}
