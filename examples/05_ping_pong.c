/* SPDX-License-Identifier: MIT */
/*
 * Ping-pong: two buffers in turn. While the kernel reads one, the next item is copied into the other.
 * Each buffer has two events: *filled* lets the kernel start, *emptied* lets the next copy overwrite.
 * The second is the one that is forgotten. A ring (06_ring.c) is this for any number of buffers, with
 * the events inside.
 *
 *     05_ping_pong [DEVICE]
 *
 * Prints: 64 items of 256 KiB through 2 buffers in 12.3 ms
 */
#include "check.h"

enum { ITEMS = 64, COUNT = 1 << 16, ITEM_BYTES = COUNT * sizeof(float) };

static mr_device *device;
static mr_kernel *scale;

static mr_buffer *make_buffer(size_t size, mr_place place)
{
    mr_buffer *buffer;
    CHECK(mr_buffer_create(device, size, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

/* result = 2 * item + 1 */
static void launch(mr_stream *stream, mr_buffer *item, mr_buffer *results, size_t offset)
{
    const mr_argument arguments[] = { mr_argument_buffer(item),
                                      mr_argument_range(results, offset, ITEM_BYTES),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(COUNT) };
    CHECK(mr_kernel_launch(stream, scale, &(mr_launch){ .count = COUNT }, arguments, 5));
}

static void play(mr_stream *loading, mr_stream *computing, mr_buffer *host, mr_buffer *results)
{
    mr_buffer *buffers[2];
    mr_event *filled[2], *emptied[2];
    for (int side = 0; side < 2; side++) {
        buffers[side] = make_buffer(ITEM_BYTES, MR_PLACE_DEVICE);
        CHECK(mr_event_create(device, NULL, &filled[side]));
        CHECK(mr_event_create(device, NULL, &emptied[side]));
    }

    for (size_t i = 0; i < ITEMS; i++) {
        const size_t side = i % 2, offset = i * ITEM_BYTES;

        CHECK(mr_stream_wait_event(loading, emptied[side])); /* at first: counts as fired */
        CHECK(mr_copy(loading, buffers[side], 0, host, offset, ITEM_BYTES));
        CHECK(mr_event_record(filled[side], loading));

        CHECK(mr_stream_wait_event(computing, filled[side]));
        launch(computing, buffers[side], results, offset);
        CHECK(mr_event_record(emptied[side], computing));
    }
    CHECK(mr_stream_wait(computing)); /* the only wait of the host */

    for (int side = 0; side < 2; side++) {
        mr_event_destroy(emptied[side]);
        mr_event_destroy(filled[side]);
        mr_buffer_destroy(buffers[side]);
    }
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    mr_stream *loading, *computing;
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "loading" }, &loading));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "computing" }, &computing));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    mr_buffer *host = make_buffer(ITEMS * (size_t)ITEM_BYTES, MR_PLACE_PINNED);
    mr_buffer *results = make_buffer(ITEMS * (size_t)ITEM_BYTES, MR_PLACE_DEVICE);
    mr_buffer *back = make_buffer(ITEMS * (size_t)ITEM_BYTES, MR_PLACE_PINNED);
    float *numbers = mr_buffer_host(host);
    for (int i = 0; i < ITEMS * COUNT; i++)
        numbers[i] = (float)(i % 10007);

    const uint64_t start_ns = mr_device_now_ns(device);
    play(loading, computing, host, results);
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;

    CHECK(mr_copy(computing, back, 0, results, 0, mr_buffer_size(back)));
    CHECK(mr_stream_wait(computing));
    const float *found = mr_buffer_host(back);
    for (int i = 0; i < ITEMS * COUNT; i++)
        EXPECT(found[i] == 2 * numbers[i] + 1);
    printf("%d items of %d KiB through 2 buffers in %.1f ms\n", ITEMS, (int)ITEM_BYTES >> 10,
           (double)elapsed_ns / 1e6);

    mr_buffer_destroy(back);
    mr_buffer_destroy(results);
    mr_buffer_destroy(host);
    mr_kernel_destroy(scale);
    mr_stream_destroy(computing);
    mr_stream_destroy(loading);
    CHECK(mr_device_close(device));
    return 0;
}
