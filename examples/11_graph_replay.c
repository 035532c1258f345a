/* SPDX-License-Identifier: MIT */
/*
 * Graphs: twenty small kernels are recorded once and then launched as one piece of work, again and
 * again; later they get other numbers in place.
 *
 *     11_graph_replay [DEVICE]
 *
 * Prints: cuda:0: 20 kernels cost the host 57.0 us one by one, 1.1 us as a graph; the sum is right
 */
#include "check.h"

enum { STEPS = 20, ROUNDS = 50, COUNT = 256, SIZE = COUNT * sizeof(float) };

struct scene {
    mr_stream *stream;
    mr_kernel *kernel; /* scale_offset_f32: target = scale * source + offset */
    mr_buffer *first, *second;
};

/* Adds `offset` STEPS times, from one buffer to the other and back. It neither knows nor cares whether
 * the stream runs this or records it. */
static void submit_steps(const struct scene *scene, float offset)
{
    const mr_launch launch = { .count = COUNT };
    for (int i = 0; i < STEPS; i++) {
        const mr_argument arguments[] = {
            mr_argument_buffer(i % 2 ? scene->second : scene->first),
            mr_argument_buffer(i % 2 ? scene->first : scene->second),
            mr_argument_f32(1),
            mr_argument_f32(offset),
            mr_argument_u64(COUNT),
        };
        CHECK(mr_kernel_launch(scene->stream, scene->kernel, &launch, arguments, 5));
    }
}

/* Between begin and end nothing runs: what is submitted becomes the graph. */
static mr_graph *record_steps(const struct scene *scene, float offset)
{
    mr_graph *graph;
    CHECK(mr_capture_begin(scene->stream));
    submit_steps(scene, offset);
    CHECK(mr_capture_end(scene->stream, &graph));
    return graph;
}

/* What the host spends on one round, by the stream or by the graph. */
static double host_us(const struct scene *scene, mr_graph_executable *executable)
{
    const mr_device *device = mr_stream_device(scene->stream);
    const uint64_t begin_ns = mr_device_now_ns(device);
    for (int round = 0; round < ROUNDS; round++) {
        if (executable)
            CHECK(mr_graph_launch(executable, scene->stream));
        else
            submit_steps(scene, 1);
    }
    const uint64_t end_ns = mr_device_now_ns(device);
    CHECK(mr_stream_wait(scene->stream));
    return (double)(end_ns - begin_ns) / 1000 / ROUNDS;
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    struct scene scene;
    mr_buffer *host;
    CHECK(mr_stream_create(device, NULL, &scene.stream));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scene.kernel));
    CHECK(mr_buffer_create(device, SIZE, NULL, &scene.first));
    CHECK(mr_buffer_create(device, SIZE, NULL, &scene.second));
    CHECK(mr_buffer_create(device, SIZE, &pinned, &host));
    CHECK(mr_fill(scene.stream, scene.first, 0, SIZE, 0, 4));

    mr_graph *graph = record_steps(&scene, 1);
    EXPECT(mr_graph_node_count(graph) == STEPS);
    mr_graph_executable *executable;
    CHECK(mr_graph_instantiate(graph, &executable));
    mr_graph_destroy(graph); /* the executable does not need it */

    const double stream_us = host_us(&scene, NULL);
    const double graph_us = host_us(&scene, executable);

    /* Another number, the same form: the executable takes it in place. Launches that are still on
     * their way keep what they had. */
    CHECK(mr_graph_launch(executable, scene.stream));
    graph = record_steps(&scene, 2);
    CHECK(mr_graph_update(executable, graph));
    mr_graph_destroy(graph);
    CHECK(mr_graph_launch(executable, scene.stream));

    CHECK(mr_copy(scene.stream, host, 0, scene.first, 0, SIZE));
    CHECK(mr_stream_wait(scene.stream));
    const float *numbers = mr_buffer_host(host);
    for (int i = 0; i < COUNT; i++)
        EXPECT(numbers[i] == STEPS * (ROUNDS + ROUNDS + 1 + 2));
    printf(
        "%s: %d kernels cost the host %.1f us one by one, %.1f us as a graph; the sum is right\n",
        mr_device_id(device), STEPS, stream_us, graph_us);

    mr_graph_executable_destroy(executable);
    mr_buffer_destroy(scene.first);
    mr_buffer_destroy(scene.second);
    mr_buffer_destroy(host);
    mr_kernel_destroy(scene.kernel);
    mr_stream_destroy(scene.stream);
    CHECK(mr_device_close(device));
    return 0;
}
