/* SPDX-License-Identifier: MIT */
/*
 * Three kinds of host memory, one copy to the device each: pinned memory goes at the link's speed,
 * pageable memory is slow and makes the caller wait, and a staging crew takes pageable memory at
 * close to pinned speed. On the CPU all three are the same memory.
 *
 *     03_pinned_pageable_staged [DEVICE]
 *
 * Prints a line for each: pinned 55.3 GB/s, pageable 9.8 GB/s, staged 52.9 GB/s
 */
#include "check.h"

#include <string.h>

enum { SIZE = 256 << 20, RUNS = 3 };

static mr_buffer *there, *back;
static mr_stream *stream;

static void report(const mr_device *device, const char *name, uint64_t start_ns)
{
    const double seconds = (double)(mr_device_now_ns(device) - start_ns) * 1e-9;
    printf("%-9s %5.1f GB/s\n", name, SIZE * (double)RUNS / seconds * 1e-9);
}

/* What arrived is what was sent. */
static void expect_same(const void *sent)
{
    CHECK(mr_copy(stream, back, 0, there, 0, SIZE));
    CHECK(mr_stream_wait(stream));
    EXPECT(memcmp(sent, mr_buffer_host(back), SIZE) == 0);
}

static void send_plainly(mr_device *device, const char *name, mr_place place, int value)
{
    mr_buffer *host;
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = place }, &host));
    memset(mr_buffer_host(host), value, SIZE);
    const uint64_t start_ns = mr_device_now_ns(device);
    for (int i = 0; i < RUNS; i++)
        CHECK(mr_copy(stream, there, 0, host, 0, SIZE));
    CHECK(mr_stream_wait(stream));
    report(device, name, start_ns);
    expect_same(mr_buffer_host(host));
    mr_buffer_destroy(host);
}

static void send_staged(mr_device *device)
{
    mr_staging *staging;
    char *memory = malloc(SIZE); /* any memory at all */
    EXPECT(memory);
    memset(memory, 3, SIZE);
    CHECK(mr_staging_create(device, NULL, &staging));
    const uint64_t start_ns = mr_device_now_ns(device);
    for (int i = 0; i < RUNS; i++)
        CHECK(mr_staging_upload(staging, stream, there, 0, memory, SIZE));
    CHECK(mr_stream_wait(stream));
    report(device, "staged", start_ns);
    expect_same(memory);
    mr_staging_destroy(staging);
    free(memory);
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_buffer_create(device, SIZE, NULL, &there));
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &back));

    send_plainly(device, "pinned", MR_PLACE_PINNED, 1);
    send_plainly(device, "pageable", MR_PLACE_PAGEABLE, 2);
    send_staged(device);

    mr_buffer_destroy(back);
    mr_buffer_destroy(there);
    mr_stream_destroy(stream);
    CHECK(mr_device_close(device));
    return 0;
}
