/* SPDX-License-Identifier: MIT */
/*
 * Pitfall: two streams that wait for each other though nothing depends. One piece of work went to the
 * legacy default stream, which waits for blocking streams and they for it. The concurrency check says
 * so; with non-blocking streams for both it has nothing to say.
 *
 *     pitfall_false_dependency [DEVICE]
 *
 * Prints: legacy default stream: streams 'legacy' and 'mine' do not overlap: ...
 *         none: streams 'theirs' and 'mine' overlap: ...
 */
#include "check.h"

enum { SIZE = 32 << 20 };

struct copy {
    mr_buffer *target, *source;
};

static mr_status submit(void *context, mr_stream *stream)
{
    const struct copy *copy = context;
    return mr_copy(stream, copy->target, 0, copy->source, 0, SIZE);
}

static mr_concurrency_report look(mr_stream *one, struct copy *up, mr_stream *two,
                                  struct copy *down)
{
    mr_concurrency_report report;
    CHECK(mr_concurrency_check(&(mr_concurrency_side){ one, submit, up },
                               &(mr_concurrency_side){ two, submit, down }, NULL, &report));
    printf("%s: %s\n", mr_concurrency_obstacle_name(report.obstacle), report.words);
    return report;
}

static struct copy make_copy(mr_device *device, mr_place to, mr_place from)
{
    struct copy copy;
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = to }, &copy.target));
    CHECK(mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = from }, &copy.source));
    return copy;
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    struct copy up = make_copy(device, MR_PLACE_DEVICE, MR_PLACE_PINNED);
    struct copy down = make_copy(device, MR_PLACE_PINNED, MR_PLACE_DEVICE);

    /* As it happens: a stream made without a thought, beside code that names no stream. */
    mr_stream *legacy, *blocking;
    CHECK(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    CHECK(mr_stream_create(
        device, &(mr_stream_options){ .name = "mine", .kind = MR_STREAM_BLOCKING }, &blocking));
    mr_concurrency_report report = look(legacy, &up, blocking, &down);
    EXPECT(report.obstacle == MR_OBSTACLE_LEGACY);

    /* As the library makes them: non-blocking. */
    mr_stream *theirs, *mine;
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "theirs" }, &theirs));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "mine" }, &mine));
    report = look(theirs, &up, mine, &down);
    EXPECT(report.obstacle != MR_OBSTACLE_LEGACY);

    mr_stream_destroy(mine);
    mr_stream_destroy(theirs);
    mr_stream_destroy(blocking);
    mr_buffer_destroy(down.source);
    mr_buffer_destroy(down.target);
    mr_buffer_destroy(up.source);
    mr_buffer_destroy(up.target);
    CHECK(mr_device_close(device));
    return 0;
}
