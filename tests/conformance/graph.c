/* SPDX-License-Identifier: MIT */
/*
 * Graphs from explicit nodes: order, launches, updates and ends.
 */
#include "support/graphs.h"
#include "support/latch.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <pthread.h>

enum { BYTES = 4096, NODES = 40 };

struct scene {
    mr_device *device;
    mr_stream *stream;
    mr_graph *graph;
};

static struct scene scene_make(mr_device *device)
{
    struct scene scene = { .device = device };
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "main" }, &scene.stream));
    CHECK_OK(mr_graph_create(device, &scene.graph));
    return scene;
}

static void scene_end(struct scene *scene)
{
    mr_graph_destroy(scene->graph);
    mr_stream_destroy(scene->stream);
}

static mr_buffer *make_buffer(mr_device *device, mr_place place)
{
    mr_buffer *buffer;
    CHECK_OK(mr_buffer_create(device, BYTES, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

static const mr_copy_2d_layout whole = {
    .row_bytes = BYTES, .row_count = 1, .target_pitch = BYTES, .source_pitch = BYTES
};

/* ---- order ---- */

static void a_graph_of_nothing_runs_and_keeps_the_order(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint64_t clock = 0;
    struct mark before = { .clock = &clock }, after = { .clock = &clock };
    mr_graph_executable *executable = instantiate(scene.graph);
    CHECK_EQ(0, mr_graph_node_count(scene.graph));
    CHECK_EQ(0, mr_graph_edge_count(scene.graph));
    CHECK(mr_graph_device(scene.graph) == device);

    CHECK_OK(mr_stream_call(scene.stream, mark_run, &before));
    CHECK_OK(mr_graph_upload(executable, scene.stream));
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    CHECK_OK(mr_stream_call(scene.stream, mark_run, &after));
    CHECK_OK(mr_stream_wait(scene.stream));
    mark_expect_order(&before, &after);
    mr_graph_executable_destroy(executable);
    scene_end(&scene);
}

/* A graph at random: node k comes after some of the nodes before it, and runs marks[k]. */
struct dag {
    struct mark marks[NODES];
    mr_graph_node after[NODES][4];
    size_t after_count[NODES];
    size_t count;
    _Atomic uint64_t clock;
};

static void dag_make(struct dag *dag, struct random *random, mr_graph *graph)
{
    memset(dag, 0, sizeof *dag);
    dag->count = 1 + random_below(random, NODES);
    for (size_t k = 0; k < dag->count; k++) {
        dag->marks[k] =
            (struct mark){ .clock = &dag->clock, .slowness = (uint32_t)random_below(random, 4) };
        dag->after_count[k] = k ? random_below(random, 5) : 0;
        for (size_t i = 0; i < dag->after_count[k]; i++)
            dag->after[k][i] = (mr_graph_node)(1 + random_below(random, k));
        mr_graph_node node;
        CHECK_OK(mr_graph_add_call(graph, dag->after[k], dag->after_count[k], mark_run,
                                   &dag->marks[k], &node));
        CHECK_EQ(k + 1, node);
    }
}

static void dag_check(const struct dag *dag, uint32_t run_count)
{
    for (size_t k = 0; k < dag->count; k++) {
        CHECK_EQ(run_count, dag->marks[k].run_count);
        for (size_t i = 0; i < dag->after_count[k]; i++)
            mark_expect_order(&dag->marks[dag->after[k][i] - 1], &dag->marks[k]);
    }
}

static void nodes_of_random_graphs_run_once_and_in_order(mr_device *device)
{
    struct random random = { 7 };
    for (int round = 0; round < 60; round++) {
        struct scene scene = scene_make(device);
        static struct dag dag;
        dag_make(&dag, &random, scene.graph);
        CHECK_EQ(dag.count, mr_graph_node_count(scene.graph));
        mr_graph_executable *executable = instantiate(scene.graph);
        for (uint32_t launch = 1; launch <= 3; launch++) {
            launch_and_wait(executable, scene.stream);
            dag_check(&dag, launch);
        }
        mr_graph_executable_destroy(executable);
        scene_end(&scene);
    }
}

static void graphs_in_graphs_run_between_their_neighbours(mr_device *device)
{
    struct random random = { 11 };
    for (int round = 0; round < 20; round++) {
        struct scene scene = scene_make(device);
        static struct dag inner;
        _Atomic uint64_t *clock = &inner.clock;
        mr_graph *child, *empty;
        mr_graph_node first, middle, hollow;
        CHECK_OK(mr_graph_create(device, &child));
        CHECK_OK(mr_graph_create(device, &empty));
        dag_make(&inner, &random, child);
        struct mark before = { .clock = clock }, after = { .clock = clock };
        CHECK_OK(mr_graph_add_call(scene.graph, NULL, 0, mark_run, &before, &first));
        CHECK_OK(mr_graph_add_graph(scene.graph, &first, 1, child, &middle));
        CHECK_OK(mr_graph_add_graph(scene.graph, &middle, 1, empty, &hollow));
        CHECK_OK(mr_graph_add_call(scene.graph, &hollow, 1, mark_run, &after, NULL));
        CHECK_EQ(4, mr_graph_node_count(scene.graph));
        CHECK_EQ(3, mr_graph_edge_count(scene.graph));
        mr_graph_destroy(child); /* copied */
        mr_graph_destroy(empty);

        mr_graph_executable *executable = instantiate(scene.graph);
        launch_and_wait(executable, scene.stream);
        dag_check(&inner, 1);
        for (size_t k = 0; k < inner.count; k++) {
            mark_expect_order(&before, &inner.marks[k]);
            mark_expect_order(&inner.marks[k], &after);
        }
        mr_graph_executable_destroy(executable);
        scene_end(&scene);
    }
}

static void ten_thousand_nodes_run(mr_device *device)
{
    enum { COUNT = 10000 };
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    mr_graph_node node = 0, first;
    for (int i = 0; i < COUNT / 2; i++) /* a chain */
        CHECK_OK(mr_graph_add_call(scene.graph, &node, node != 0, count_run, &count, &node));
    first = node;
    static mr_graph_node fan[COUNT / 2];
    for (int i = 0; i < COUNT / 2; i++) /* and a fan */
        CHECK_OK(mr_graph_add_call(scene.graph, &first, 1, count_run, &count, &fan[i]));
    CHECK_OK(mr_graph_add_empty(scene.graph, fan, COUNT / 2, NULL));
    CHECK_EQ(COUNT + 1, mr_graph_node_count(scene.graph));
    CHECK_EQ(COUNT - 1 + COUNT / 2, mr_graph_edge_count(scene.graph));

    mr_graph_executable *executable = instantiate(scene.graph);
    launch_and_wait(executable, scene.stream);
    launch_and_wait(executable, scene.stream);
    CHECK_EQ(2 * COUNT, count);
    mr_graph_executable_destroy(executable);
    scene_end(&scene);
}

/* ---- work ---- */

/* Every byte of the buffer. */
static void expect_bytes(mr_stream *stream, mr_buffer *buffer, unsigned char value)
{
    mr_buffer *host = make_buffer(mr_stream_device(stream), MR_PLACE_PINNED);
    CHECK_OK(mr_copy(stream, host, 0, buffer, 0, BYTES));
    CHECK_OK(mr_stream_wait(stream));
    const unsigned char *bytes = mr_buffer_host(host);
    for (int i = 0; i < BYTES; i++)
        CHECK_EQ(value, bytes[i]);
    mr_buffer_destroy(host);
}

/* clamp_u8: in u8 source, out u8 target, value u8 low, value u8 high, value u64 count */
static void clamp_arguments(mr_buffer *source, mr_buffer *target, uint64_t low,
                            mr_argument arguments[5])
{
    arguments[0] = mr_argument_buffer(source);
    arguments[1] = mr_argument_buffer(target);
    arguments[2] = mr_argument_u64(low);
    arguments[3] = mr_argument_u64(255);
    arguments[4] = mr_argument_u64(BYTES);
}

/* fill `source` with `value`, clamp it from below into `middle`, copy that to `target` */
struct work {
    mr_kernel *kernel;
    mr_buffer *source, *middle, *target;
    mr_graph_node clamp;
};

static struct work work_make(mr_device *device)
{
    struct work work;
    CHECK_OK(mr_kernel_open(device, "clamp_u8", &work.kernel));
    work.source = make_buffer(device, MR_PLACE_DEVICE);
    work.middle = make_buffer(device, MR_PLACE_DEVICE);
    work.target = make_buffer(device, MR_PLACE_DEVICE);
    return work;
}

static void work_end(struct work *work)
{
    mr_buffer_destroy(work->source);
    mr_buffer_destroy(work->middle);
    mr_buffer_destroy(work->target);
    mr_kernel_destroy(work->kernel);
}

static void work_add(struct work *work, mr_graph *graph, uint32_t value, uint64_t low)
{
    mr_argument arguments[5];
    mr_graph_node fill;
    clamp_arguments(work->source, work->middle, low, arguments);
    CHECK_OK(mr_graph_add_fill(graph, NULL, 0, work->source, 0, BYTES, value, 1, &fill));
    CHECK_OK(mr_graph_add_kernel(graph, &fill, 1, work->kernel, &(mr_launch){ .count = BYTES },
                                 arguments, 5, &work->clamp));
    CHECK_OK(mr_graph_add_copy(graph, &work->clamp, 1, work->target, work->middle, &whole, NULL));
}

static void copies_fills_and_kernels_do_their_work(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct work work = work_make(device);
    work_add(&work, scene.graph, 3, 90);
    mr_graph_executable *executable = instantiate(scene.graph);
    mr_graph_destroy(scene.graph); /* no longer needed */
    scene.graph = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK_OK(mr_fill(scene.stream, work.target, 0, BYTES, 0, 1));
        CHECK_OK(mr_graph_launch(executable, scene.stream));
        expect_bytes(scene.stream, work.target, 90);
        expect_bytes(scene.stream, work.source, 3);
    }
    mr_graph_executable_destroy(executable);
    work_end(&work);
    scene_end(&scene);
}

static void rows_are_copied_and_nothing_is_a_node_too(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct work work = work_make(device);
    const mr_copy_2d_layout left = {
        .row_bytes = 16, .row_count = BYTES / 32, .target_pitch = 32, .source_pitch = 32
    };
    mr_argument arguments[5];
    mr_graph_node node = 0;
    CHECK_OK(mr_fill(scene.stream, work.source, 0, BYTES, 5, 1));
    CHECK_OK(mr_fill(scene.stream, work.target, 0, BYTES, 9, 1));
    CHECK_OK(mr_graph_add_copy(scene.graph, NULL, 0, work.target, work.source, &left, &node));
    CHECK_OK(mr_graph_add_copy(scene.graph, &node, 1, work.target, work.source,
                               &(mr_copy_2d_layout){ 0 }, &node));
    CHECK_OK(mr_graph_add_fill(scene.graph, &node, 1, work.target, 8, 0, 1, 4, &node));
    clamp_arguments(work.source, work.target, 0, arguments);
    CHECK_OK(mr_graph_add_kernel(scene.graph, &node, 1, work.kernel, &(mr_launch){ .count = 0 },
                                 arguments, 5, &node));
    CHECK_EQ(4, node);
    CHECK_EQ(3, mr_graph_edge_count(scene.graph));
    mr_graph_executable *executable = instantiate(scene.graph);
    CHECK_OK(mr_graph_launch(executable, scene.stream));

    mr_buffer *host = make_buffer(device, MR_PLACE_PINNED);
    CHECK_OK(mr_copy(scene.stream, host, 0, work.target, 0, BYTES));
    CHECK_OK(mr_stream_wait(scene.stream));
    const unsigned char *bytes = mr_buffer_host(host);
    for (int i = 0; i < BYTES; i++)
        CHECK_EQ(i % 32 < 16 ? 5 : 9, bytes[i]);
    mr_buffer_destroy(host);
    mr_graph_executable_destroy(executable);
    work_end(&work);
    scene_end(&scene);
}

static void wrong_nodes_are_refused_and_change_nothing(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct work work = work_make(device);
    mr_graph_node node = 77, none = 0, later = 1;
    mr_argument arguments[5];
    clamp_arguments(work.source, work.target, 300, arguments);
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_empty(NULL, NULL, 0, &node));
    CHECK_EQ(0, node);
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_empty(scene.graph, &none, 1, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_empty(scene.graph, &later, 1, NULL));
    CHECK_SAYS("after[0] is node 1, and the graph has nodes 1 to 0", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_empty(scene.graph, NULL, 1, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_call(scene.graph, NULL, 0, NULL, NULL, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_fill(scene.graph, NULL, 0, NULL, 0, 1, 0, 1, NULL));
    CHECK_STATUS(MR_E_INVALID,
                 mr_graph_add_fill(scene.graph, NULL, 0, work.source, 0, BYTES + 1, 0, 1, NULL));
    CHECK_STATUS(MR_E_INVALID,
                 mr_graph_add_fill(scene.graph, NULL, 0, work.source, 0, 8, 0, 3, NULL));
    CHECK_SAYS("mr_graph_add_fill", mr_last_error());
    CHECK_STATUS(MR_E_INVALID,
                 mr_graph_add_copy(scene.graph, NULL, 0, work.source, work.source, &whole, NULL));
    CHECK_SAYS("overlaps", mr_last_error());
    CHECK_STATUS(MR_E_INVALID,
                 mr_graph_add_copy(scene.graph, NULL, 0, work.source, work.target, NULL, NULL));
    CHECK_STATUS(MR_E_SIGNATURE,
                 mr_graph_add_kernel(scene.graph, NULL, 0, work.kernel,
                                     &(mr_launch){ .count = BYTES }, arguments, 5, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_kernel(scene.graph, NULL, 0, NULL, &(mr_launch){ 0 },
                                                   arguments, 5, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_graph(scene.graph, NULL, 0, scene.graph, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_graph_add_graph(scene.graph, NULL, 0, NULL, NULL));
    CHECK_EQ(0, mr_graph_node_count(scene.graph));

    mr_graph *graph = scene.graph;
    mr_graph_executable *executable = (mr_graph_executable *)&graph;
    CHECK_STATUS(MR_E_INVALID, mr_graph_instantiate(NULL, &executable));
    CHECK(!executable);
    CHECK_STATUS(MR_E_INVALID, mr_graph_clone(NULL, &graph));
    CHECK(!graph);
    CHECK_STATUS(MR_E_INVALID, mr_graph_create(NULL, &graph));
    CHECK_STATUS(MR_E_INVALID, mr_graph_launch(NULL, scene.stream));
    CHECK_STATUS(MR_E_INVALID, mr_graph_upload(NULL, scene.stream));
    CHECK_STATUS(MR_E_INVALID, mr_graph_update(NULL, scene.graph));
    mr_graph_destroy(NULL);
    mr_graph_executable_destroy(NULL);
    work_end(&work);
    scene_end(&scene);
}

static void a_clone_goes_its_own_way(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t shared = 0, own = 0;
    mr_graph *clone;
    CHECK_OK(mr_graph_add_call(scene.graph, NULL, 0, count_run, &shared, NULL));
    CHECK_OK(mr_graph_clone(scene.graph, &clone));
    CHECK_OK(mr_graph_add_call(clone, (mr_graph_node[]){ 1 }, 1, count_run, &own, NULL));
    CHECK_EQ(1, mr_graph_node_count(scene.graph));
    CHECK_EQ(2, mr_graph_node_count(clone));
    CHECK_EQ(1, mr_graph_edge_count(clone));

    mr_graph_executable *first = instantiate(scene.graph), *second = instantiate(clone);
    mr_graph_destroy(clone);
    launch_and_wait(first, scene.stream);
    launch_and_wait(second, scene.stream);
    CHECK_EQ(2, shared);
    CHECK_EQ(1, own);
    mr_graph_executable_destroy(first);
    mr_graph_executable_destroy(second);
    scene_end(&scene);
}

/* ---- launches ---- */

/* Host functions that would see one another if two launches ran at once. */
struct exclusive {
    _Atomic int inside;
    _Atomic uint32_t count;
};

static mr_status enter_run(void *context)
{
    struct exclusive *exclusive = context;
    CHECK_EQ(0, atomic_fetch_add(&exclusive->inside, 1));
    sched_yield();
    return MR_OK;
}

static mr_status leave_run(void *context)
{
    struct exclusive *exclusive = context;
    atomic_fetch_add(&exclusive->count, 1);
    CHECK_EQ(1, atomic_fetch_sub(&exclusive->inside, 1));
    return MR_OK;
}

static void launches_of_one_executable_run_one_after_the_other(mr_device *device)
{
    enum { STREAMS = 4, LAUNCHES = 200 };
    struct scene scene = scene_make(device);
    struct exclusive exclusive = { 0 };
    mr_graph_node node;
    CHECK_OK(mr_graph_add_call(scene.graph, NULL, 0, enter_run, &exclusive, &node));
    CHECK_OK(mr_graph_add_call(scene.graph, &node, 1, leave_run, &exclusive, NULL));
    mr_graph_executable *executable = instantiate(scene.graph);

    mr_stream *streams[STREAMS];
    for (int i = 0; i < STREAMS; i++)
        CHECK_OK(mr_stream_create(device, NULL, &streams[i]));
    struct random random = { 5 };
    for (int i = 0; i < LAUNCHES; i++)
        CHECK_OK(mr_graph_launch(executable, streams[random_below(&random, STREAMS)]));
    mr_graph_executable_destroy(executable); /* waits */
    CHECK_EQ(LAUNCHES, exclusive.count);
    for (int i = 0; i < STREAMS; i++)
        mr_stream_destroy(streams[i]);
    scene_end(&scene);
}

static void executables_of_one_graph_run_side_by_side_and_fail_alone(mr_device *device)
{
    struct scene scene = scene_make(device);
    _Atomic uint32_t count = 0;
    mr_stream *other;
    CHECK_OK(mr_stream_create(device, NULL, &other));
    CHECK_OK(mr_graph_add_call(scene.graph, NULL, 0, count_run, &count, NULL));
    mr_graph *failing;
    CHECK_OK(mr_graph_clone(scene.graph, &failing));
    CHECK_OK(mr_graph_add_call(failing, (mr_graph_node[]){ 1 }, 1, fail_run, "nothing to see here",
                               NULL));
    mr_graph_executable *good = instantiate(scene.graph), *bad = instantiate(failing);
    for (int i = 0; i < 5; i++) {
        CHECK_OK(mr_graph_launch(good, scene.stream));
        CHECK_OK(mr_graph_launch(bad, other));
    }
    CHECK_OK(mr_stream_wait(scene.stream));
    CHECK_STATUS(MR_E_CALLBACK, mr_stream_wait(other));
    CHECK_SAYS("nothing to see here", mr_last_error());
    CHECK_EQ(6, count); /* behind the failure its host functions are left out */

    /* The executable is none the worse on another stream. */
    CHECK_OK(mr_graph_launch(good, scene.stream));
    CHECK_OK(mr_stream_wait(scene.stream));
    CHECK_STATUS(MR_E_CALLBACK, mr_stream_failure(other));
    mr_graph_executable_destroy(good);
    mr_graph_executable_destroy(bad);
    mr_graph_destroy(failing);
    mr_stream_destroy(other);
    scene_end(&scene);
}

static void an_event_before_the_failing_launch_is_not_its(mr_device *device)
{
    struct scene scene = scene_make(device);
    mr_event *before, *after;
    CHECK_OK(mr_event_create(device, NULL, &before));
    CHECK_OK(mr_event_create(device, NULL, &after));
    CHECK_OK(mr_graph_add_call(scene.graph, NULL, 0, fail_run, "late", NULL));
    mr_graph_executable *executable = instantiate(scene.graph);
    CHECK_OK(mr_event_record(before, scene.stream));
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    CHECK_OK(mr_event_record(after, scene.stream));
    CHECK_STATUS(MR_E_CALLBACK, mr_event_wait(after));
    CHECK_OK(mr_event_wait(before));
    mr_graph_executable_destroy(executable);
    mr_event_destroy(before);
    mr_event_destroy(after);
    scene_end(&scene);
}

static void buffers_may_be_destroyed_while_a_launch_uses_them(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct latch latch;
    latch_init(&latch);
    mr_buffer *buffer = make_buffer(device, MR_PLACE_DEVICE);
    _Atomic uint32_t count = 0;
    mr_graph_node node;
    CHECK_OK(mr_graph_add_fill(scene.graph, NULL, 0, buffer, 0, BYTES, 1, 1, &node));
    CHECK_OK(mr_graph_add_call(scene.graph, &node, 1, count_run, &count, NULL));
    mr_graph_executable *executable = instantiate(scene.graph);
    latch_stop(&latch, scene.stream);
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    latch_open(&latch);
    mr_buffer_destroy(buffer); /* waits for the launch */
    CHECK_EQ(1, count);
    mr_graph_executable_destroy(executable);
    latch_fini(&latch);
    scene_end(&scene);
}

/* ---- updates ---- */

static void an_update_leaves_earlier_launches_what_they_had(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct latch latch;
    struct work work = work_make(device);
    mr_buffer *second = make_buffer(device, MR_PLACE_DEVICE), *first = work.target;
    mr_graph *other;
    latch_init(&latch);
    CHECK_OK(mr_graph_create(device, &other));
    work_add(&work, scene.graph, 3, 90);
    work.target = second;
    work_add(&work, other, 200, 100);
    work.target = first;

    mr_graph_executable *executable = instantiate(scene.graph);
    latch_stop(&latch, scene.stream);
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    CHECK_OK(mr_graph_update(executable, other));
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    latch_open(&latch);
    expect_bytes(scene.stream, first, 90);
    expect_bytes(scene.stream, second, 200);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(other);
    mr_buffer_destroy(second);
    work_end(&work);
    latch_fini(&latch);
    scene_end(&scene);
}

static void host_functions_of_an_update_run_with_their_own_contexts(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct latch latch;
    _Atomic uint32_t counts[3] = { 0 };
    mr_graph_executable *executable = NULL;
    latch_init(&latch);
    latch_stop(&latch, scene.stream);
    for (int i = 0; i < 3; i++) {
        mr_graph *graph;
        mr_graph_node node;
        CHECK_OK(mr_graph_create(device, &graph));
        CHECK_OK(mr_graph_add_call(graph, NULL, 0, count_run, &counts[i], &node));
        CHECK_OK(mr_graph_add_call(graph, &node, 1, count_run, &counts[i], NULL));
        if (executable)
            CHECK_OK(mr_graph_update(executable, graph));
        else
            executable = instantiate(graph);
        mr_graph_destroy(graph);
        for (int k = 0; k <= i; k++)
            CHECK_OK(mr_graph_launch(executable, scene.stream));
    }
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(scene.stream));
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(2 * (i + 1), counts[i]);
    mr_graph_executable_destroy(executable);
    latch_fini(&latch);
    scene_end(&scene);
}

static void one_kernel_gets_new_arguments_in_place(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct latch latch;
    struct work work = work_make(device);
    mr_argument arguments[5];
    const mr_launch launch = { .count = BYTES };
    latch_init(&latch);
    work_add(&work, scene.graph, 3, 90);
    mr_graph_executable *executable = instantiate(scene.graph);
    mr_buffer *second = make_buffer(device, MR_PLACE_DEVICE);
    CHECK_OK(mr_fill(scene.stream, second, 0, BYTES, 7, 1));
    CHECK_OK(mr_stream_wait(scene.stream));

    latch_stop(&latch, scene.stream);
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    CHECK_OK(mr_copy(scene.stream, second, 0, work.target, 0, BYTES / 2)); /* 90s */
    clamp_arguments(work.source, work.middle, 150, arguments);
    CHECK_OK(mr_graph_update_kernel(executable, work.clamp, &launch, arguments, 5));
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    latch_open(&latch);
    expect_bytes(scene.stream, work.target, 150);

    /* Now it reads `second`, which is half 90 and half 7, and no longer `source`. */
    clamp_arguments(second, work.middle, 99, arguments);
    CHECK_OK(mr_graph_update_kernel(executable, work.clamp, &launch, arguments, 5));
    launch_and_wait(executable, scene.stream);
    expect_bytes(scene.stream, work.target, 99);

    CHECK_STATUS(MR_E_INVALID, mr_graph_update_kernel(executable, 0, &launch, arguments, 5));
    CHECK_STATUS(MR_E_INVALID, mr_graph_update_kernel(executable, 4, &launch, arguments, 5));
    CHECK_SAYS("node 4 is none; there are 3", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_graph_update_kernel(executable, 1, &launch, arguments, 5));
    CHECK_SAYS("node 1 is no kernel", mr_last_error());
    CHECK_STATUS(MR_E_SIGNATURE,
                 mr_graph_update_kernel(executable, work.clamp, &launch, arguments, 4));
    launch_and_wait(executable, scene.stream);
    expect_bytes(scene.stream, work.target, 99);
    mr_graph_executable_destroy(executable);
    mr_buffer_destroy(second);
    work_end(&work);
    latch_fini(&latch);
    scene_end(&scene);
}

static void a_refused_update_leaves_the_executable_as_it_was(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct work work = work_make(device);
    mr_graph *longer, *other;
    mr_graph_node node;
    work_add(&work, scene.graph, 3, 90);
    mr_graph_executable *executable = instantiate(scene.graph);

    CHECK_OK(mr_graph_clone(scene.graph, &longer));
    CHECK_OK(mr_graph_add_empty(longer, (mr_graph_node[]){ 3 }, 1, NULL));
    CHECK_STATUS(MR_E_MISMATCH, mr_graph_update(executable, longer));
    CHECK(mr_last_error()[0]);

    CHECK_OK(mr_graph_create(device, &other)); /* a fill where the kernel was */
    CHECK_OK(mr_graph_add_fill(other, NULL, 0, work.source, 0, BYTES, 8, 1, &node));
    CHECK_OK(mr_graph_add_fill(other, &node, 1, work.middle, 0, BYTES, 9, 1, &node));
    CHECK_OK(mr_graph_add_copy(other, &node, 1, work.target, work.middle, &whole, NULL));
    CHECK_STATUS(MR_E_MISMATCH, mr_graph_update(executable, other));

    CHECK_OK(mr_graph_launch(executable, scene.stream));
    expect_bytes(scene.stream, work.target, 90);
    CHECK_OK(mr_graph_update(executable, scene.graph));
    CHECK_OK(mr_graph_launch(executable, scene.stream));
    expect_bytes(scene.stream, work.target, 90);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(longer);
    mr_graph_destroy(other);
    work_end(&work);
    scene_end(&scene);
}

/* ---- records ---- */

static void observe(void *context, const mr_operation *operation)
{
    mr_operation *seen = context;
    if (operation->kind == MR_OPERATION_GRAPH_LAUNCH)
        *seen = *operation;
    CHECK(operation->kind == MR_OPERATION_GRAPH_LAUNCH ||
          operation->kind == MR_OPERATION_HOST_WAIT);
}

static void a_launch_is_one_record(mr_device *device)
{
    struct scene scene = scene_make(device);
    struct work work = work_make(device);
    mr_operation seen = { 0 };
    work_add(&work, scene.graph, 3, 90);
    mr_graph_executable *executable = instantiate(scene.graph);
    mr_device_observe(device, observe, &seen);
    launch_and_wait(executable, scene.stream);
    mr_device_observe(device, NULL, NULL);
    CHECK_EQ(MR_OPERATION_GRAPH_LAUNCH, seen.kind);
    CHECK_EQ(mr_stream_id(scene.stream), seen.stream_id);
    CHECK_EQ(3, seen.size_bytes);
    CHECK_EQ(3, seen.access_count);
    CHECK_EQ(BYTES, seen.accesses[0].size_bytes); /* the executable's own: still there */
    CHECK_EQ(MR_ACCESS_INOUT, seen.accesses[0].access);
    mr_graph_executable_destroy(executable);
    work_end(&work);
    scene_end(&scene);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(a_graph_of_nothing_runs_and_keeps_the_order),
        SUITE_TEST(nodes_of_random_graphs_run_once_and_in_order),
        SUITE_TEST(graphs_in_graphs_run_between_their_neighbours),
        SUITE_TEST(ten_thousand_nodes_run),
        SUITE_TEST(copies_fills_and_kernels_do_their_work),
        SUITE_TEST(rows_are_copied_and_nothing_is_a_node_too),
        SUITE_TEST(wrong_nodes_are_refused_and_change_nothing),
        SUITE_TEST(a_clone_goes_its_own_way),
        SUITE_TEST(launches_of_one_executable_run_one_after_the_other),
        SUITE_TEST(executables_of_one_graph_run_side_by_side_and_fail_alone),
        SUITE_TEST(an_event_before_the_failing_launch_is_not_its),
        SUITE_TEST(buffers_may_be_destroyed_while_a_launch_uses_them),
        SUITE_TEST(an_update_leaves_earlier_launches_what_they_had),
        SUITE_TEST(host_functions_of_an_update_run_with_their_own_contexts),
        SUITE_TEST(one_kernel_gets_new_arguments_in_place),
        SUITE_TEST(a_refused_update_leaves_the_executable_as_it_was),
        SUITE_TEST(a_launch_is_one_record),
    };
    if (argc > 2 && graphs_are_missing(argv[2]))
        return GRAPHS_SKIPPED;
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof tests[0]);
}
