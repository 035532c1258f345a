/* SPDX-License-Identifier: MIT */
/*
 * Pitfall: an "asynchronous" copy of ordinary memory, which on a GPU makes the caller wait and so keeps
 * the next stream's work from being submitted. The concurrency check names it. Two ways out: pinned
 * memory, or a staging crew where the memory is not ours to choose.
 *
 *     pitfall_pageable_memory [DEVICE]
 *
 * Prints: for each kind of memory, how long the submitting call took, and what the check says
 */
#include "check.h"

#include <string.h>

enum { SIZE = 16 << 20 };

struct work {
    mr_buffer *target, *source;
};

static mr_status copy(void *context, mr_stream *stream)
{
    const struct work *work = context;
    return mr_copy(stream, work->target, 0, work->source, 0, SIZE);
}

static struct work make_work(mr_device *device, mr_place to, mr_place from)
{
    struct work work;
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = to }, &work.target));
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = from }, &work.source));
    return work;
}

/* Up from memory of this place, and down to pinned memory, at once. */
static mr_concurrency_obstacle look(mr_device *device, const char *name, mr_place place)
{
    mr_stream *rising, *falling;
    struct work up = make_work(device, MR_PLACE_DEVICE, place);
    struct work down = make_work(device, MR_PLACE_PINNED, MR_PLACE_DEVICE);
    mr_concurrency_report report;
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = name }, &rising));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "down" }, &falling));
    memset(mr_buffer_host(up.source), 1, SIZE);

    CHECK(mr_concurrency_check(&(mr_concurrency_side){ rising, copy, &up },
                               &(mr_concurrency_side){ falling, copy, &down }, NULL, &report));
    printf("%-8s call %.3f ms; %s\n", name, (double)report.submit_ns[0] / 1e6, report.words);

    mr_stream_destroy(falling);
    mr_stream_destroy(rising);
    mr_buffer_destroy(down.source);
    mr_buffer_destroy(down.target);
    mr_buffer_destroy(up.source);
    mr_buffer_destroy(up.target);
    return report.obstacle;
}

/* Ordinary memory that someone else gave us: the crew copies it through a pinned ring of its own. */
static void stage(mr_device *device)
{
    mr_staging *staging;
    mr_stream *stream;
    mr_buffer *there, *back;
    unsigned char *memory = malloc(SIZE);
    EXPECT(memory);
    memset(memory, 7, SIZE);
    CHECK(mr_staging_create(device, NULL, &staging));
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_buffer_create(device, SIZE, NULL, &there));
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &back));

    const uint64_t start_ns = mr_device_now_ns(device);
    CHECK(mr_staging_upload(staging, stream, there, 0, memory, SIZE));
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;
    printf("staged   call %.3f ms\n", (double)elapsed_ns / 1e6);

    CHECK(mr_copy(stream, back, 0, there, 0, SIZE));
    CHECK(mr_stream_wait(stream));
    EXPECT(memcmp(memory, mr_buffer_host(back), SIZE) == 0);
    mr_buffer_destroy(back);
    mr_buffer_destroy(there);
    mr_stream_destroy(stream);
    mr_staging_destroy(staging);
    free(memory);
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    mr_device_properties properties;
    mr_device_describe(device, &properties);

    const mr_concurrency_obstacle pageable = look(device, "pageable", MR_PLACE_PAGEABLE);
    const mr_concurrency_obstacle pinned = look(device, "pinned", MR_PLACE_PINNED);
    EXPECT(properties.is_host_memory || pageable == MR_OBSTACLE_PAGEABLE);
    EXPECT(pinned != MR_OBSTACLE_PAGEABLE);
    stage(device);

    CHECK(mr_device_close(device));
    return 0;
}
