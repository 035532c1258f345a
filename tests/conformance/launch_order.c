/* SPDX-License-Identifier: MIT */
/*
 * Launches of one stream, each of which reads what any thread of the one before has written. GPUs set up
 * a grid while the one before it ends: nothing of that may be seen.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/graph.h>

enum { ELEMENTS = 1 << 18, ROUNDS = 200, STREAMS = 4 };

static const char source_text[] =
    "#include <millrace/portable.h>\n"
    "MR_KERNEL(turn, MR_IN(float, source), MR_OUT(float, target), MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_EACH (i, count)\n"
    "        target[i] = source[count - 1 - i] + 1.0f;\n"
    "}\n"
    "MR_GROUP_KERNEL(least, MR_IN(float, source), MR_OUT(float, target),\n"
    "                MR_VALUE(uint64_t, count))\n"
    "{\n"
    "    MR_GROUP_EACH (group, 64) {\n"
    "        float found = INFINITY;\n"
    "        MR_LANE_EACH (i, count * group / 64, count * (group + 1) / 64)\n"
    "            found = MR_MIN(found, source[i]);\n"
    "        found = mr_group_min_f32(found);\n"
    "        if (mr_group_is_leader())\n"
    "            target[group] = found;\n"
    "    }\n"
    "}\n";

struct scene {
    mr_device *device;
    mr_kernel *turn, *least;
    mr_stream *streams[STREAMS];
    mr_buffer *buffers[STREAMS][2], *leasts[STREAMS], *host;
};

static mr_kernel *compile(mr_device *device, const char *name)
{
    mr_kernel *kernel;
    CHECK_OK(mr_kernel_create(device, &(mr_kernel_options){ .name = name, .source = source_text },
                              &kernel));
    return kernel;
}

static void scene_init(struct scene *scene, mr_device *device)
{
    scene->device = device;
    scene->turn = compile(device, "turn");
    scene->least = compile(device, "least");
    CHECK_OK(mr_buffer_create(device, ELEMENTS * sizeof(float),
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &scene->host));
    for (int s = 0; s < STREAMS; s++) {
        CHECK_OK(mr_stream_create(device, NULL, &scene->streams[s]));
        for (int b = 0; b < 2; b++)
            CHECK_OK(
                mr_buffer_create(device, ELEMENTS * sizeof(float), NULL, &scene->buffers[s][b]));
        CHECK_OK(mr_buffer_create(device, 64 * sizeof(float), NULL, &scene->leasts[s]));
    }
}

static void scene_fini(struct scene *scene)
{
    for (int s = 0; s < STREAMS; s++) {
        mr_buffer_destroy(scene->leasts[s]);
        mr_buffer_destroy(scene->buffers[s][0]);
        mr_buffer_destroy(scene->buffers[s][1]);
        mr_stream_destroy(scene->streams[s]);
    }
    mr_buffer_destroy(scene->host);
    mr_kernel_destroy(scene->least);
    mr_kernel_destroy(scene->turn);
}

static void launch(mr_stream *stream, mr_kernel *kernel, mr_buffer *source, mr_buffer *target,
                   uint64_t count)
{
    const mr_argument arguments[] = { mr_argument_buffer(source), mr_argument_buffer(target),
                                      mr_argument_u64(ELEMENTS) };
    CHECK_OK(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = count }, arguments, 3));
}

/* From zeros: each round adds one to every element, whichever block it comes from. */
static void submit_round(struct scene *scene, int s, int round)
{
    launch(scene->streams[s], scene->turn, scene->buffers[s][round % 2],
           scene->buffers[s][(round + 1) % 2], ELEMENTS);
}

static void clear(struct scene *scene, int s)
{
    CHECK_OK(mr_fill(scene->streams[s], scene->buffers[s][0], 0, ELEMENTS * sizeof(float), 0, 4));
    CHECK_OK(mr_fill(scene->streams[s], scene->buffers[s][1], 0, ELEMENTS * sizeof(float),
                     POISON * 0x01010101u, 4));
}

/* `count` floats of the buffer are all `value`. */
static void expect(struct scene *scene, int s, mr_buffer *buffer, size_t count, float value)
{
    float *numbers = mr_buffer_host(scene->host);
    poison(numbers, count * sizeof *numbers);
    CHECK_OK(mr_copy(scene->streams[s], scene->host, 0, buffer, 0, count * sizeof *numbers));
    CHECK_OK(mr_stream_wait(scene->streams[s]));
    for (size_t i = 0; i < count; i++)
        CHECK_EQ(value, numbers[i]);
}

static void each_launch_sees_all_of_the_one_before(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device);
    for (int s = 0; s < STREAMS; s++)
        clear(&scene, s);
    for (int round = 0; round < ROUNDS; round++)
        for (int s = 0; s < STREAMS; s++)
            submit_round(&scene, s, round);
    for (int s = 0; s < STREAMS; s++) {
        launch(scene.streams[s], scene.least, scene.buffers[s][ROUNDS % 2], scene.leasts[s], 64);
        expect(&scene, s, scene.leasts[s], 64, ROUNDS);
        expect(&scene, s, scene.buffers[s][ROUNDS % 2], ELEMENTS, ROUNDS);
    }
    scene_fini(&scene);
}

static void launches_copies_and_marks_take_turns(mr_device *device)
{
    struct scene scene;
    struct random random = { 7 };
    mr_event *event, *timed;
    scene_init(&scene, device);
    CHECK_OK(mr_event_create(device, NULL, &event));
    CHECK_OK(mr_event_create(device, &(mr_event_options){ .has_timing = true }, &timed));
    clear(&scene, 0);
    mr_stream *const stream = scene.streams[0];
    int rounds = 0;
    for (int i = 0; i < ROUNDS; i++) {
        mr_buffer *const now = scene.buffers[0][rounds % 2],
                         *other = scene.buffers[0][(rounds + 1) % 2];
        switch (random_below(&random, 6)) {
        case 0: /* over and back again */
            CHECK_OK(mr_copy(stream, other, 0, now, 0, ELEMENTS * sizeof(float)));
            CHECK_OK(mr_copy(stream, now, 0, other, 0, ELEMENTS * sizeof(float)));
            break;
        case 1:
            CHECK_OK(mr_event_record(event, stream));
            CHECK_OK(mr_stream_wait_event(scene.streams[1], event));
            launch(scene.streams[1], scene.least, now, scene.leasts[0], 64);
            CHECK_OK(mr_event_record(event, scene.streams[1]));
            CHECK_OK(mr_stream_wait_event(stream, event));
            break;
        case 2:
            launch(stream, scene.least, now, scene.leasts[0], 64);
            break;
        case 3:
            CHECK_OK(mr_event_record(timed, stream));
            break;
        default:
            submit_round(&scene, 0, rounds++);
            break;
        }
    }
    launch(stream, scene.least, scene.buffers[0][rounds % 2], scene.leasts[0], 64);
    expect(&scene, 0, scene.leasts[0], 64, (float)rounds);
    expect(&scene, 0, scene.buffers[0][rounds % 2], ELEMENTS, (float)rounds);
    mr_event_destroy(timed);
    mr_event_destroy(event);
    scene_fini(&scene);
}

static void launches_of_a_graph_follow_each_other_too(mr_device *device)
{
    struct scene scene;
    mr_graph *graph;
    mr_graph_executable *executable;
    scene_init(&scene, device);
    clear(&scene, 0);
    CHECK_OK(mr_capture_begin(scene.streams[0]));
    for (int round = 0; round < 20; round++)
        submit_round(&scene, 0, round);
    launch(scene.streams[0], scene.least, scene.buffers[0][0], scene.leasts[0], 64);
    CHECK_OK(mr_capture_end(scene.streams[0], &graph));
    CHECK_OK(mr_graph_instantiate(graph, &executable));
    for (int i = 0; i < 10; i++)
        CHECK_OK(mr_graph_launch(executable, scene.streams[0]));
    expect(&scene, 0, scene.leasts[0], 64, 200);
    expect(&scene, 0, scene.buffers[0][0], ELEMENTS, 200);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    scene_fini(&scene);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(each_launch_sees_all_of_the_one_before),
        SUITE_TEST(launches_copies_and_marks_take_turns),
        SUITE_TEST(launches_of_a_graph_follow_each_other_too),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
