/* SPDX-License-Identifier: MIT */
/*
 * A ring between two streams: one kernel fills slots, another reads them, and the host only submits.
 * The ring's events make each side wait for the other on the device; a slot is never rewritten under
 * its reader.
 *
 *     06_ring [DEVICE]
 *
 * Prints: 100 items through 3 slots, producer and consumer on streams of their own
 */
#include "check.h"

enum { ITEMS = 100, COUNT = 4096, SLOT_BYTES = COUNT * sizeof(float) };

static mr_kernel *scale;

/* target = source * 1 + offset */
static void launch(mr_stream *stream, mr_buffer *source, mr_buffer *target, size_t target_offset,
                   float offset)
{
    const mr_argument arguments[] = { mr_argument_buffer(source),
                                      mr_argument_range(target, target_offset, SLOT_BYTES),
                                      mr_argument_f32(1), mr_argument_f32(offset),
                                      mr_argument_u64(COUNT) };
    CHECK(mr_kernel_launch(stream, scale, &(mr_launch){ .count = COUNT }, arguments, 5));
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    mr_stream *producing, *consuming;
    mr_buffer *base, *results, *host;
    mr_ring *ring;
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "producer" }, &producing));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "consumer" }, &consuming));
    CHECK(mr_buffer_create(device, SLOT_BYTES, NULL, &base));
    CHECK(mr_buffer_create(device, ITEMS * SLOT_BYTES, NULL, &results));
    CHECK(mr_buffer_create(device, ITEMS * SLOT_BYTES,
                           &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &host));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    CHECK(mr_ring_create(device, &(mr_ring_options){ .slot_count = 3, .slot_bytes = SLOT_BYTES },
                         &ring));
    CHECK(mr_fill(producing, base, 0, SLOT_BYTES, 0, 4));

    for (int i = 0; i < ITEMS; i++) {
        mr_slot slot;
        CHECK(mr_ring_acquire(ring, producing, MR_FOREVER, &slot));
        launch(producing, base, slot.buffer, 0, (float)i);
        slot.size_bytes = SLOT_BYTES;
        CHECK(mr_ring_publish(ring, producing, &slot));

        CHECK(mr_ring_take(ring, 0, consuming, MR_FOREVER, &slot));
        launch(consuming, slot.buffer, results, slot.sequence * SLOT_BYTES, 0.5f);
        CHECK(mr_ring_release(ring, 0, consuming, &slot));
    }
    CHECK(mr_copy(consuming, host, 0, results, 0, ITEMS * SLOT_BYTES));
    CHECK(mr_stream_wait(consuming));

    const float *numbers = mr_buffer_host(host);
    for (int i = 0; i < ITEMS * COUNT; i++)
        EXPECT(numbers[i] == (float)(i / COUNT) + 0.5f);
    printf("%d items through 3 slots, producer and consumer on streams of their own\n", ITEMS);

    mr_ring_destroy(ring);
    mr_kernel_destroy(scale);
    mr_buffer_destroy(host);
    mr_buffer_destroy(results);
    mr_buffer_destroy(base);
    mr_stream_destroy(consuming);
    mr_stream_destroy(producing);
    CHECK(mr_device_close(device));
    return 0;
}
