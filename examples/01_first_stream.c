/* SPDX-License-Identifier: MIT */
/*
 * A first stream: copy in, fill a part, copy out, wait. Nothing in between waits; the order of the
 * calls is the order of the work.
 *
 *     01_first_stream [DEVICE]
 *
 * Prints: cuda:0: 1024 numbers went there and back, the first 16 as 7
 */
#include "check.h"

enum { COUNT = 1024, SIZE = COUNT * sizeof(uint32_t), FILLED = 16 };

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_stream *stream;
    mr_buffer *host, *there;
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_buffer_create(device, SIZE, &pinned, &host));
    CHECK(mr_buffer_create(device, SIZE, NULL, &there));

    uint32_t *numbers = mr_buffer_host(host);
    for (uint32_t i = 0; i < COUNT; i++)
        numbers[i] = i;

    CHECK(mr_copy(stream, there, 0, host, 0, SIZE));
    CHECK(mr_fill(stream, there, 0, FILLED * sizeof(uint32_t), 7, sizeof(uint32_t)));
    CHECK(mr_copy(stream, host, 0, there, 0, SIZE));
    CHECK(mr_stream_wait(stream)); /* until here, `numbers` is the stream's */

    for (uint32_t i = 0; i < COUNT; i++)
        EXPECT(numbers[i] == (i < FILLED ? 7 : i));
    printf("%s: %d numbers went there and back, the first %d as 7\n", mr_device_id(device), COUNT,
           FILLED);

    mr_buffer_destroy(there);
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
    CHECK(mr_device_close(device));
    return 0;
}
