/* SPDX-License-Identifier: MIT */
/*
 * From one device to another: mr_copy takes the direct way where the two are peers, and goes through the
 * host, in a few pinned slots, where they are not. The program is the same for both; it runs on DEVICE
 * and the next device of its kind, and on DEVICE alone where there is no other.
 *
 *     14_peer_copy [DEVICE]
 *
 * Prints: cuda:0 to cuda:1, which are peers: 64 MiB, 20 times, 380.1 GB/s, and all bytes arrived
 */
#include "check.h"

#include <string.h>

enum { ROUNDS = 20, DEVICES = 64 };

static const size_t size_bytes = (size_t)64 << 20;

/* The next device of the same kind, or the same one once more. */
static mr_device *open_other(mr_device *device)
{
    mr_device_listing lines[DEVICES];
    mr_device *other;
    size_t count;
    const char *id = mr_device_id(device);
    CHECK(mr_device_list(lines, DEVICES, &count));
    for (size_t i = 0; i < count && i < DEVICES; i++) {
        if (!lines[i].is_available || strncmp(lines[i].id, id, strcspn(id, ":")) != 0 ||
            strcmp(lines[i].id, id) == 0)
            continue;
        CHECK(mr_device_open(lines[i].id, NULL, &other));
        return other;
    }
    CHECK(mr_device_open(id, NULL, &other));
    return other;
}

static const char *relation(const mr_device *from, const mr_device *to)
{
    if (from == to)
        return "the only one of its kind";
    return mr_device_can_peer(to, from) ? "which are peers" : "through the host";
}

/* Bytes per second of copies one after the other. The first one is not counted: it may have to pin the
 * slots. */
static double copy_rate(mr_stream *stream, mr_buffer *target, mr_buffer *source)
{
    const mr_event_options timing = { .has_timing = true };
    mr_event *start, *end;
    int64_t elapsed_ns;
    CHECK(mr_event_create(mr_stream_device(stream), &timing, &start));
    CHECK(mr_event_create(mr_stream_device(stream), &timing, &end));
    CHECK(mr_copy(stream, target, 0, source, 0, size_bytes));
    CHECK(mr_event_record(start, stream));
    for (int i = 0; i < ROUNDS; i++)
        CHECK(mr_copy(stream, target, 0, source, 0, size_bytes));
    CHECK(mr_event_record(end, stream));
    CHECK(mr_stream_wait(stream));
    CHECK(mr_event_elapsed(start, end, &elapsed_ns));
    mr_event_destroy(start);
    mr_event_destroy(end);
    return (double)size_bytes * ROUNDS / ((double)elapsed_ns * 1e-9);
}

int main(int argc, char **argv)
{
    mr_device *from = open_device(argc, argv);
    mr_device *to = open_other(from);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_buffer *host, *source, *target;
    mr_stream *stream;
    CHECK(mr_buffer_create(from, size_bytes, &pinned, &host));
    CHECK(mr_buffer_create(from, size_bytes, NULL, &source));
    CHECK(mr_buffer_create(to, size_bytes, NULL, &target));
    CHECK(mr_stream_create(to, NULL, &stream)); /* one stream: its order is all that is needed */

    uint32_t *numbers = mr_buffer_host(host);
    for (uint32_t i = 0; i < size_bytes / sizeof *numbers; i++)
        numbers[i] = i * 2654435761u;
    CHECK(mr_copy(stream, source, 0, host, 0, size_bytes));
    const double rate = copy_rate(stream, target, source);

    CHECK(mr_fill(stream, host, 0, size_bytes, 0, 1));
    CHECK(mr_copy(stream, host, 0, target, 0, size_bytes));
    CHECK(mr_stream_wait(stream));
    for (uint32_t i = 0; i < size_bytes / sizeof *numbers; i++)
        EXPECT(numbers[i] == i * 2654435761u);
    printf("%s to %s, %s: %zu MiB, %d times, %.1f GB/s, and all bytes arrived\n",
           mr_device_id(from), mr_device_id(to), relation(from, to), size_bytes >> 20, ROUNDS,
           rate / 1e9);

    mr_stream_destroy(stream);
    mr_buffer_destroy(target);
    mr_buffer_destroy(source);
    mr_buffer_destroy(host);
    CHECK(mr_device_close(to));
    CHECK(mr_device_close(from));
    return 0;
}
