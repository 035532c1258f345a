/* SPDX-License-Identifier: MIT */
/*
 * Eight threads, each with a default stream of its own: code that is not handed a stream asks for the
 * current one and gets its thread's, so that threads do not queue up behind each other. Pushing a
 * stream makes it the current one, for this thread, until it is popped.
 *
 *     13_per_thread_streams [DEVICE]
 *
 * Prints: 8 threads worked on 8 default streams
 */
#include "check.h"

#include <pthread.h>

enum { THREADS = 8, COUNT = 1 << 16, SIZE = COUNT * sizeof(float), TURNS = 10 };

static mr_device *device;
static mr_kernel *scale;

/* A library function of old: no stream among its parameters. target = source + 1 */
static void add_one(mr_buffer *source, mr_buffer *target)
{
    mr_stream *stream;
    const mr_argument arguments[] = { mr_argument_buffer(source), mr_argument_buffer(target),
                                      mr_argument_f32(1), mr_argument_f32(1),
                                      mr_argument_u64(COUNT) };
    CHECK(mr_stream_current(device, &stream));
    CHECK(mr_kernel_launch(stream, scale, &(mr_launch){ .count = COUNT }, arguments, 5));
}

struct worker {
    pthread_t thread;
    float first;
    uint64_t stream_id;
};

/* All of it on the thread's default stream. */
static void work_on_default_stream(struct worker *worker, mr_buffer *a, mr_buffer *b)
{
    mr_stream *stream;
    CHECK(mr_stream_current(device, &stream));
    EXPECT(mr_stream_kind_of(stream) == MR_STREAM_PER_THREAD);
    worker->stream_id = mr_stream_id(stream);
    for (int i = 0; i < TURNS; i++) {
        add_one(a, b);
        add_one(b, a);
    }
    CHECK(mr_stream_wait(stream)); /* for this thread's work only */
}

/* The same function on a stream of our choice. */
static void work_on_pushed_stream(mr_buffer *a, mr_buffer *b)
{
    mr_stream *stream, *current;
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_stream_push(stream));
    add_one(a, b);
    add_one(b, a);
    CHECK(mr_stream_current(device, &current));
    EXPECT(current == stream);
    CHECK(mr_stream_pop(device));
    CHECK(mr_stream_wait(stream));
    mr_stream_destroy(stream);
}

static void *run_worker(void *context)
{
    struct worker *worker = context;
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_buffer *a, *b;
    CHECK(mr_buffer_create(device, SIZE, &pinned, &a));
    CHECK(mr_buffer_create(device, SIZE, NULL, &b));
    float *numbers = mr_buffer_host(a);
    for (int i = 0; i < COUNT; i++)
        numbers[i] = worker->first + (float)(i % 100);

    work_on_default_stream(worker, a, b);
    work_on_pushed_stream(a, b);
    for (int i = 0; i < COUNT; i++)
        EXPECT(numbers[i] == worker->first + (float)(i % 100) + 2 * TURNS + 2);

    mr_buffer_destroy(b);
    mr_buffer_destroy(a);
    return NULL;
}

int main(int argc, char **argv)
{
    struct worker workers[THREADS];
    device = open_device(argc, argv);
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    for (int i = 0; i < THREADS; i++) {
        workers[i].first = (float)(1000 * i);
        EXPECT(pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_join(workers[i].thread, NULL) == 0);

    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < i; k++)
            EXPECT(workers[i].stream_id != workers[k].stream_id);
    }
    printf("%d threads worked on %d default streams\n", THREADS, THREADS);

    mr_kernel_destroy(scale);
    CHECK(mr_device_close(device));
    return 0;
}
