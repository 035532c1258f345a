/* SPDX-License-Identifier: MIT */
/*
 * Capture: what is recorded, what breaks it, and what is not disturbed by it.
 */
#include "support/graphs.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <pthread.h>

enum { BYTES = 1024, STREAMS = 4, STEPS = 60 };

/* Two streams, and an event for each. */
struct scene {
    mr_device *device;
    mr_stream *first, *second;
    mr_event *fork, *join;
    mr_buffer *buffer;
};

static struct scene scene_make(mr_device *device)
{
    struct scene scene = { .device = device };
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "first" }, &scene.first));
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "second" }, &scene.second));
    CHECK_OK(mr_event_create(device, NULL, &scene.fork));
    CHECK_OK(mr_event_create(device, NULL, &scene.join));
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &scene.buffer));
    return scene;
}

static void scene_end(struct scene *scene)
{
    mr_buffer_destroy(scene->buffer);
    mr_event_destroy(scene->fork);
    mr_event_destroy(scene->join);
    mr_stream_destroy(scene->first);
    mr_stream_destroy(scene->second);
}

static void wait_for_each_other(mr_event *event, mr_stream *source, mr_stream *target)
{
    CHECK_OK(mr_event_record(event, source));
    CHECK_OK(mr_stream_wait_event(target, event));
}

/* ---- what is recorded ---- */

static void what_is_captured_runs_with_each_launch_and_not_before(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    CHECK(!mr_stream_is_capturing(scene.first));
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK(mr_stream_is_capturing(scene.first));
    CHECK_OK(mr_fill(scene.first, scene.buffer, 0, BYTES, 7, 1));
    CHECK_OK(mr_stream_call(scene.first, count_run, &count));
    CHECK_OK(mr_stream_call(scene.first, count_run, &count));
    mr_graph *graph = end_capture(scene.first);
    CHECK_EQ(3, mr_graph_node_count(graph));
    CHECK_EQ(2, mr_graph_edge_count(graph));
    CHECK_OK(mr_stream_wait(scene.first));
    CHECK_EQ(0, count);

    mr_graph_executable *executable = instantiate(graph);
    mr_graph_destroy(graph);
    for (uint32_t i = 1; i <= 3; i++) {
        launch_and_wait(executable, scene.first);
        CHECK_EQ(2 * i, count);
    }
    launch_and_wait(executable, scene.second); /* any stream of the device */
    CHECK_EQ(8, count);
    mr_graph_executable_destroy(executable);
    scene_end(&scene);
}

static void a_fork_and_a_join_keep_their_order(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint64_t clock = 0;
    struct mark marks[4];
    for (int i = 0; i < 4; i++)
        marks[i] = (struct mark){ .clock = &clock, .slowness = 5 };
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_stream_call(scene.first, mark_run, &marks[0]));
    wait_for_each_other(scene.fork, scene.first, scene.second);
    CHECK(mr_stream_is_capturing(scene.second));
    CHECK_OK(mr_stream_call(scene.first, mark_run, &marks[1]));
    CHECK_OK(mr_stream_call(scene.second, mark_run, &marks[2]));
    wait_for_each_other(scene.join, scene.second, scene.first);
    CHECK_OK(mr_stream_call(scene.first, mark_run, &marks[3]));
    mr_graph *graph = end_capture(scene.first);
    CHECK(!mr_stream_is_capturing(scene.second));
    CHECK_EQ(4, mr_graph_node_count(graph));
    CHECK_EQ(4, mr_graph_edge_count(graph));

    mr_graph_executable *executable = instantiate(graph);
    launch_and_wait(executable, scene.first);
    for (int i = 1; i < 3; i++) {
        mark_expect_order(&marks[0], &marks[i]);
        mark_expect_order(&marks[i], &marks[3]);
    }
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    scene_end(&scene);
}

/* Streams and events at random, and beside them which marks each has behind it. */
struct model {
    struct mark marks[STEPS];
    bool is_before[STEPS][STEPS]; /* [a][b]: a before b */
    bool behind[STREAMS][STEPS], at_event[STREAMS][STEPS];
    bool is_in[STREAMS], is_recorded[STREAMS];
    int count;
    _Atomic uint64_t clock;
};

static void model_call(struct model *model, mr_stream *stream, int s)
{
    const int mark = model->count++;
    model->marks[mark] = (struct mark){ .clock = &model->clock, .slowness = (uint32_t)mark % 3 };
    for (int i = 0; i < STEPS; i++)
        model->is_before[i][mark] = model->behind[s][i];
    model->behind[s][mark] = true;
    CHECK_OK(mr_stream_call(stream, mark_run, &model->marks[mark]));
}

static void model_step(struct model *model, struct random *random, mr_stream **streams,
                       mr_event **events)
{
    const int s = (int)random_below(random, STREAMS), e = (int)random_below(random, STREAMS);
    if (random_below(random, 3) == 0 && model->is_in[s]) {
        CHECK_OK(mr_event_record(events[e], streams[s]));
        memcpy(model->at_event[e], model->behind[s], sizeof model->behind[s]);
        model->is_recorded[e] = true;
    } else if (random_below(random, 2) == 0 && model->is_recorded[e]) {
        CHECK_OK(mr_stream_wait_event(streams[s], events[e]));
        for (int i = 0; i < STEPS; i++)
            model->behind[s][i] = model->behind[s][i] || model->at_event[e][i];
        model->is_in[s] = true;
    } else if (model->is_in[s]) {
        model_call(model, streams[s], s);
    }
}

static void model_join(struct model *model, mr_stream **streams, mr_event *event)
{
    for (int s = 1; s < STREAMS; s++) {
        if (!model->is_in[s])
            continue;
        CHECK_OK(mr_event_record(event, streams[s]));
        CHECK_OK(mr_stream_wait_event(streams[0], event));
    }
}

static void random_forks_and_joins_keep_their_order(mr_device *device)
{
    struct random random = { 3 };
    mr_stream *streams[STREAMS];
    mr_event *events[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        CHECK_OK(mr_stream_create(device, NULL, &streams[i]));
        CHECK_OK(mr_event_create(device, NULL, &events[i]));
    }
    for (int round = 0; round < 40; round++) {
        static struct model model;
        memset(&model, 0, sizeof model);
        model.is_in[0] = true;
        CHECK_OK(mr_capture_begin(streams[0]));
        for (int step = 0; step < STEPS; step++)
            model_step(&model, &random, streams, events);
        model_join(&model, streams, events[0]);
        mr_graph *graph = end_capture(streams[0]);
        mr_graph_executable *executable = instantiate(graph);
        mr_graph_destroy(graph);
        launch_and_wait(executable, streams[round % STREAMS]);
        for (int a = 0; a < model.count; a++) {
            CHECK_EQ(1, model.marks[a].run_count);
            for (int b = 0; b < model.count; b++)
                if (model.is_before[a][b])
                    mark_expect_order(&model.marks[a], &model.marks[b]);
        }
        mr_graph_executable_destroy(executable);
        for (int i = 0; i < STREAMS; i++) /* usable again */
            CHECK_OK(mr_event_record(events[i], streams[i]));
    }
    for (int i = 0; i < STREAMS; i++) {
        mr_event_destroy(events[i]);
        mr_stream_destroy(streams[i]);
    }
}

static void work_before_the_capture_goes_on_undisturbed(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t before = 0, inside = 0;
    for (int i = 0; i < 20; i++)
        CHECK_OK(mr_stream_call(scene.first, count_run, &before));
    CHECK_OK(mr_event_record(scene.fork, scene.first));
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_stream_call(scene.first, count_run, &inside));
    CHECK_OK(mr_event_wait(scene.fork)); /* is not of the capture */
    CHECK_EQ(20, before);
    mr_graph *graph = end_capture(scene.first);
    CHECK_OK(mr_stream_call(scene.first, count_run, &before));
    CHECK_OK(mr_stream_wait(scene.first));
    CHECK_EQ(21, before);
    CHECK_EQ(0, inside);
    mr_graph_destroy(graph);
    scene_end(&scene);
}

static void a_launch_in_a_capture_is_one_node(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint64_t clock = 0;
    struct mark marks[3] = { { .clock = &clock }, { .clock = &clock }, { .clock = &clock } };
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_stream_call(scene.first, mark_run, &marks[1]));
    CHECK_OK(mr_fill(scene.first, scene.buffer, 0, BYTES, 1, 1));
    mr_graph *inner = end_capture(scene.first);
    mr_graph_executable *inner_executable = instantiate(inner);

    CHECK_OK(mr_capture_begin(scene.second));
    CHECK_OK(mr_stream_call(scene.second, mark_run, &marks[0]));
    CHECK_OK(mr_graph_launch(inner_executable, scene.second));
    CHECK_OK(mr_stream_call(scene.second, mark_run, &marks[2]));
    mr_graph *outer = end_capture(scene.second);
    CHECK_EQ(3, mr_graph_node_count(outer));
    mr_graph_executable_destroy(inner_executable);
    mr_graph_destroy(inner);

    mr_graph_executable *executable = instantiate(outer);
    for (uint32_t i = 1; i <= 2; i++) {
        launch_and_wait(executable, scene.first);
        CHECK_EQ(i, marks[1].run_count);
        mark_expect_order(&marks[0], &marks[1]);
        mark_expect_order(&marks[1], &marks[2]);
    }
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(outer);
    scene_end(&scene);
}

static void a_captured_graph_takes_more_nodes_and_updates(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t counts[2] = { 0 };
    mr_graph_executable *executable = NULL;
    for (int i = 0; i < 2; i++) {
        CHECK_OK(mr_capture_begin(scene.first));
        CHECK_OK(mr_stream_call(scene.first, count_run, &counts[i]));
        mr_graph *graph = end_capture(scene.first);
        mr_graph_node node;
        CHECK_OK(mr_graph_add_call(graph, (mr_graph_node[]){ 1 }, 1, count_run, &counts[i], &node));
        CHECK_EQ(2, node);
        if (executable)
            CHECK_OK(mr_graph_update(executable, graph));
        else
            executable = instantiate(graph);
        mr_graph_destroy(graph);
        launch_and_wait(executable, scene.second);
    }
    CHECK_EQ(2, counts[0]);
    CHECK_EQ(2, counts[1]);
    const mr_launch launch = { .count = 1 };
    CHECK_STATUS(MR_E_INVALID, mr_graph_update_kernel(executable, 1, &launch, NULL, 0));
    CHECK_SAYS("from a capture", mr_last_error());
    mr_graph_executable_destroy(executable);
    scene_end(&scene);
}

static void observe_nothing(void *context, const mr_operation *operation)
{
    (void)context;
    CHECK_FAIL("%s was seen during a capture", mr_operation_kind_name(operation->kind));
}

static void what_is_captured_gives_no_records(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    mr_device_observe(device, observe_nothing, NULL);
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_fill(scene.first, scene.buffer, 0, BYTES, 7, 1));
    CHECK_OK(mr_stream_call(scene.first, count_run, &count));
    wait_for_each_other(scene.fork, scene.first, scene.second);
    wait_for_each_other(scene.join, scene.second, scene.first);
    mr_graph *graph = end_capture(scene.first);
    mr_device_observe(device, NULL, NULL);
    mr_graph_destroy(graph);
    scene_end(&scene);
}

/* ---- what breaks it ---- */

static mr_status wait_stream(struct scene *scene)
{
    return mr_stream_wait(scene->first);
}
static mr_status wait_stream_a_while(struct scene *scene)
{
    return mr_stream_wait_for(scene->first, 1);
}
static mr_status query_stream(struct scene *scene)
{
    return mr_stream_query(scene->first);
}
static mr_status wait_event(struct scene *scene)
{
    return mr_event_wait(scene->fork);
}
static mr_status query_event(struct scene *scene)
{
    return mr_event_query(scene->fork);
}
static mr_status synchronize(struct scene *scene)
{
    return mr_device_synchronize(scene->device);
}
static mr_status create_buffer(struct scene *scene)
{
    mr_buffer *buffer;
    return mr_buffer_create(scene->device, 64, NULL, &buffer);
}
static mr_status register_memory(struct scene *scene)
{
    static char bytes[64];
    mr_buffer *buffer;
    return mr_buffer_register(scene->device, bytes, sizeof bytes, &buffer);
}
static mr_status create_ordered(struct scene *scene)
{
    mr_buffer *buffer;
    return mr_buffer_create_ordered(scene->first, 64, &buffer);
}
static mr_status wait_for_the_past(struct scene *scene)
{
    return mr_stream_wait_event(scene->first, scene->join);
}
static mr_status use_legacy(struct scene *scene)
{
    mr_stream *legacy;
    CHECK_OK(mr_stream_default(scene->device, MR_STREAM_LEGACY, &legacy));
    return mr_fill(legacy, scene->buffer, 0, BYTES, 1, 1);
}
static mr_status record_on_legacy(struct scene *scene)
{
    mr_stream *legacy;
    CHECK_OK(mr_stream_default(scene->device, MR_STREAM_LEGACY, &legacy));
    return mr_event_record(scene->fork, legacy);
}
static mr_status draw_legacy_in(struct scene *scene)
{
    mr_stream *legacy;
    CHECK_OK(mr_stream_default(scene->device, MR_STREAM_LEGACY, &legacy));
    return mr_stream_wait_event(legacy, scene->fork);
}
static mr_status upload(struct scene *scene)
{
    mr_graph *graph;
    CHECK_OK(mr_graph_create(scene->device, &graph));
    mr_graph_executable *executable = instantiate(graph);
    const mr_status status = mr_graph_upload(executable, scene->first);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    return status;
}

static const struct {
    mr_status (*run)(struct scene *scene);
    const char *call, *where;
} illegal_calls[] = {
    { wait_stream, "mr_stream_wait", "stream 'first'" },
    { wait_stream_a_while, "mr_stream_wait", "stream 'first'" },
    { query_stream, "mr_stream_query", "stream 'first'" },
    { wait_event, "mr_event_wait", "an event of the capture" },
    { query_event, "mr_event_query", "an event of the capture" },
    { synchronize, "mr_device_synchronize", "" },
    { create_buffer, "mr_buffer_create", "" },
    { register_memory, "mr_buffer_register", "" },
    { create_ordered, "mr_buffer_create_ordered", "stream 'first'" },
    { wait_for_the_past, "mr_stream_wait_event", "stream 'first'" },
    { use_legacy, "mr_fill", "legacy" },
    { record_on_legacy, "mr_event_record", "legacy" },
    { draw_legacy_in, "mr_stream_wait_event", "stream 'legacy'" },
    { upload, "mr_graph_upload", "stream 'first'" },
};

static void every_illegal_call_breaks_the_capture_and_is_named(mr_device *device)
{
    for (size_t i = 0; i < sizeof illegal_calls / sizeof illegal_calls[0]; i++) {
        struct scene scene = scene_make(device);
        _Atomic uint32_t count = 0;
        CHECK_OK(mr_event_record(scene.join, scene.second));
        CHECK_OK(mr_capture_begin(scene.first));
        CHECK_OK(mr_stream_call(scene.first, count_run, &count));
        CHECK_OK(mr_event_record(scene.fork, scene.first));
        CHECK_STATUS(MR_E_STATE, illegal_calls[i].run(&scene));
        CHECK_SAYS(illegal_calls[i].call, mr_last_error());
        CHECK_SAYS("stream 'first'", mr_last_error()); /* whose capture it is */

        /* A second one does not take its place; and what could be recorded is refused, too. */
        CHECK_STATUS(MR_E_STATE, mr_stream_query(scene.first));
        CHECK_STATUS(MR_E_STATE, mr_stream_call(scene.first, count_run, &count));
        CHECK_SAYS(illegal_calls[i].call, mr_last_error());
        mr_graph *graph = (mr_graph *)&scene;
        CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
        CHECK(!graph);
        CHECK_SAYS(illegal_calls[i].call, mr_last_error());
        CHECK_SAYS(illegal_calls[i].where, mr_last_error());
        CHECK_SAYS("began on stream 'first'", mr_last_error());

        CHECK(!mr_stream_is_capturing(scene.first));
        CHECK_OK(mr_stream_call(scene.first, count_run, &count));
        CHECK_OK(mr_stream_wait(scene.first));
        CHECK_EQ(1, count);
        scene_end(&scene);
    }
}

static void destroying_what_a_capture_may_name_breaks_it(mr_device *device)
{
    struct scene scene = scene_make(device);
    mr_graph *graph;
    mr_buffer *buffer;
    mr_stream *third;
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &buffer));
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_fill(scene.first, buffer, 0, BYTES, 1, 1));
    mr_buffer_destroy(buffer);
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
    CHECK_SAYS("mr_buffer_destroy", mr_last_error());

    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "third" }, &third));
    CHECK_OK(mr_capture_begin(scene.first));
    wait_for_each_other(scene.fork, scene.first, third);
    mr_stream_destroy(third);
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
    CHECK_SAYS("mr_stream_destroy of stream 'third'", mr_last_error());

    CHECK_OK(mr_stream_create(device, NULL, &third));
    CHECK_OK(mr_capture_begin(third));
    wait_for_each_other(scene.fork, third, scene.second);
    mr_stream_destroy(third); /* and the capture with it */
    CHECK(!mr_stream_is_capturing(scene.second));
    CHECK_OK(mr_stream_wait(scene.second));
    scene_end(&scene);
}

static void streams_that_are_not_joined_are_named(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    mr_graph *graph;
    CHECK_OK(mr_capture_begin(scene.first));
    wait_for_each_other(scene.fork, scene.first, scene.second);
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
    CHECK_SAYS("stream 'second' is not joined", mr_last_error());

    CHECK_OK(mr_capture_begin(scene.first));
    wait_for_each_other(scene.fork, scene.first, scene.second);
    wait_for_each_other(scene.join, scene.second, scene.first);
    CHECK_OK(mr_stream_call(scene.second, count_run, &count)); /* after the join */
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
    CHECK_SAYS("stream 'second' is not joined", mr_last_error());
    CHECK(!mr_stream_is_capturing(scene.second));
    CHECK_OK(mr_stream_wait(scene.second));
    CHECK_EQ(0, count);
    scene_end(&scene);
}

static void begins_and_ends_in_the_wrong_place_are_refused(mr_device *device)
{
    struct scene scene = scene_make(device);
    mr_stream *legacy;
    mr_graph *graph;
    CHECK_OK(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    CHECK_STATUS(MR_E_INVALID, mr_capture_begin(NULL));
    CHECK_STATUS(MR_E_INVALID, mr_capture_begin(legacy));
    CHECK_STATUS(MR_E_INVALID, mr_capture_end(NULL, &graph));
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.first, &graph));
    CHECK_SAYS("no capture began on stream 'first'", mr_last_error());
    CHECK(!mr_stream_is_capturing(NULL));

    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_STATUS(MR_E_STATE, mr_capture_begin(scene.first));
    wait_for_each_other(scene.fork, scene.first, scene.second);
    CHECK_STATUS(MR_E_STATE, mr_capture_begin(scene.second));
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.second, &graph));
    CHECK_SAYS("began on stream 'first'; end it there", mr_last_error());
    wait_for_each_other(scene.join, scene.second, scene.first);
    mr_graph_destroy(end_capture(scene.first)); /* none of that broke it */
    scene_end(&scene);
}

static void two_captures_of_a_thread_do_not_mix(mr_device *device)
{
    struct scene scene = scene_make(device);
    mr_graph *graph;
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_capture_begin(scene.second));
    CHECK_OK(mr_event_record(scene.fork, scene.first));
    CHECK_STATUS(MR_E_STATE, mr_stream_wait_event(scene.second, scene.fork));
    CHECK_SAYS("another capture", mr_last_error());
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.second, &graph));
    mr_graph_destroy(end_capture(scene.first));
    scene_end(&scene);
}

static void events_of_a_capture_mean_nothing_outside_until_recorded_anew(mr_device *device)
{
    struct scene scene = scene_make(device);
    mr_event *never;
    CHECK_OK(mr_event_create(device, NULL, &never));
    CHECK_OK(mr_event_record(scene.fork, scene.first));
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_stream_wait_event(scene.first, never)); /* counts as fired */
    CHECK_OK(mr_event_record(scene.fork, scene.first));
    mr_graph_destroy(end_capture(scene.first));

    CHECK_STATUS(MR_E_STATE, mr_event_wait(scene.fork));
    CHECK_SAYS("recorded in a capture", mr_last_error());
    CHECK_STATUS(MR_E_STATE, mr_event_query(scene.fork));
    CHECK_STATUS(MR_E_STATE, mr_stream_wait_event(scene.second, scene.fork));
    CHECK_OK(mr_capture_begin(scene.second));
    CHECK_STATUS(MR_E_STATE, mr_stream_wait_event(scene.second, scene.fork));
    mr_graph *graph;
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene.second, &graph));

    CHECK_OK(mr_event_record(scene.fork, scene.first));
    CHECK_OK(mr_stream_wait_event(scene.second, scene.fork));
    CHECK_OK(mr_event_wait(scene.fork));
    mr_event_destroy(never);
    scene_end(&scene);
}

/* ---- threads ---- */

/* What another thread does while the stream is captured. */
static void *disturb(void *context)
{
    struct scene *scene = context;
    _Atomic uint32_t count = 0;
    mr_stream *own;
    mr_buffer *buffer;
    mr_graph *graph;
    CHECK_STATUS(MR_E_STATE, mr_stream_query(scene->first));
    CHECK_SAYS("another thread", mr_last_error());
    CHECK_STATUS(MR_E_STATE, mr_stream_wait(scene->first));
    CHECK_STATUS(MR_E_STATE, mr_stream_call(scene->first, count_run, &count));
    CHECK_STATUS(MR_E_STATE, mr_capture_end(scene->first, &graph));
    CHECK_STATUS(MR_E_STATE, mr_event_query(scene->fork));
    CHECK_STATUS(MR_E_STATE, mr_stream_wait_event(scene->second, scene->fork));
    CHECK_OK(mr_stream_failure(scene->first));

    /* With streams of its own it does what it likes. */
    CHECK_OK(mr_stream_create(scene->device, NULL, &own));
    CHECK_OK(mr_buffer_create(scene->device, BYTES, NULL, &buffer));
    CHECK_OK(mr_fill(own, buffer, 0, BYTES, 1, 1));
    CHECK_OK(mr_stream_call(own, count_run, &count));
    CHECK_OK(mr_stream_wait(own));
    CHECK_EQ(1, count);
    mr_buffer_destroy(buffer);
    mr_stream_destroy(own);
    return NULL;
}

static void other_threads_neither_break_a_capture_nor_are_held_up(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    pthread_t thread;
    CHECK_OK(mr_capture_begin(scene.first));
    CHECK_OK(mr_stream_call(scene.first, count_run, &count));
    CHECK_OK(mr_event_record(scene.fork, scene.first));
    CHECK_EQ(0, pthread_create(&thread, NULL, disturb, &scene));
    CHECK_EQ(0, pthread_join(thread, NULL));
    CHECK_OK(mr_stream_call(scene.first, count_run, &count));
    mr_graph *graph = end_capture(scene.first);
    CHECK_EQ(2, mr_graph_node_count(graph));
    mr_graph_executable *executable = instantiate(graph);
    launch_and_wait(executable, scene.first);
    CHECK_EQ(2, count);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    scene_end(&scene);
}

/* Captures, launches and checks, over and over. */
static void *capture_alone(void *context)
{
    struct scene scene = scene_make(context);
    for (uint32_t round = 0; round < 50; round++) {
        _Atomic uint32_t count = 0;
        CHECK_OK(mr_capture_begin(scene.first));
        for (uint32_t i = 0; i < round; i++) {
            CHECK_OK(mr_stream_call(scene.first, count_run, &count));
            wait_for_each_other(scene.fork, scene.first, scene.second);
            CHECK_OK(mr_stream_call(scene.second, count_run, &count));
        }
        wait_for_each_other(scene.fork, scene.first, scene.second);
        wait_for_each_other(scene.join, scene.second, scene.first);
        mr_graph *graph = end_capture(scene.first);
        CHECK_EQ(2 * round, mr_graph_node_count(graph));
        mr_graph_executable *executable = instantiate(graph);
        launch_and_wait(executable, scene.second);
        CHECK_EQ(2 * round, count);
        mr_graph_executable_destroy(executable);
        mr_graph_destroy(graph);
    }
    scene_end(&scene);
    return NULL;
}

static void threads_capture_at_the_same_time(mr_device *device)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQ(0, pthread_create(&threads[i], NULL, capture_alone, device));
    for (int i = 0; i < 4; i++)
        CHECK_EQ(0, pthread_join(threads[i], NULL));
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(what_is_captured_runs_with_each_launch_and_not_before),
        SUITE_TEST(a_fork_and_a_join_keep_their_order),
        SUITE_TEST(random_forks_and_joins_keep_their_order),
        SUITE_TEST(work_before_the_capture_goes_on_undisturbed),
        SUITE_TEST(a_launch_in_a_capture_is_one_node),
        SUITE_TEST(a_captured_graph_takes_more_nodes_and_updates),
        SUITE_TEST(what_is_captured_gives_no_records),
        SUITE_TEST(every_illegal_call_breaks_the_capture_and_is_named),
        SUITE_TEST(destroying_what_a_capture_may_name_breaks_it),
        SUITE_TEST(streams_that_are_not_joined_are_named),
        SUITE_TEST(begins_and_ends_in_the_wrong_place_are_refused),
        SUITE_TEST(two_captures_of_a_thread_do_not_mix),
        SUITE_TEST(events_of_a_capture_mean_nothing_outside_until_recorded_anew),
        SUITE_TEST(other_threads_neither_break_a_capture_nor_are_held_up),
        SUITE_TEST(threads_capture_at_the_same_time),
    };
    if (argc > 2 && graphs_are_missing(argv[2]))
        return GRAPHS_SKIPPED;
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof tests[0]);
}
