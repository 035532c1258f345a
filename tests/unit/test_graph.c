/* SPDX-License-Identifier: MIT */
/* Graphs where the public API cannot look: choices of the cache, turns of workers, the Nth allocation. */
#include "scripted_backend.h"
#include "support/fault.h"
#include "support/unit.h"

#include "core/graph_cache.h"
#include "core/holdings.h"

#include <millrace/graph.h>

#include <sched.h>
#include <stdatomic.h>

enum { BYTES = 256 };

static mr_device *open_cpu(uint32_t worker_count)
{
    mr_device *device = NULL;
    assert_ok(mr_device_open("cpu", &(mr_device_options){ .worker_count = worker_count }, &device));
    return device;
}

static mr_status count_run(void *context)
{
    atomic_fetch_add((_Atomic uint32_t *)context, 1);
    return MR_OK;
}

/* ---- what the cache chooses ---- */

static void the_cache_tries_both_ways_before_it_chooses(void **state)
{
    struct mr__graph_costs costs = { 0 };
    (void)state;
    for (int i = 0; i < MR__GRAPH_SAMPLES; i++) {
        assert_int_equal(MR__WAY_GRAPH, mr__graph_choose(&costs));
        mr__graph_costs_add(&costs.graph_ns, &costs.graph_samples, 1000 - (uint64_t)i);
    }
    for (int i = 0; i < MR__STREAM_SAMPLES; i++) {
        assert_int_equal(MR__WAY_STREAM_SAMPLE, mr__graph_choose(&costs));
        mr__graph_costs_add(&costs.stream_ns, &costs.stream_samples, 900 + (uint64_t)i);
    }
    assert_int_equal(1000 - MR__GRAPH_SAMPLES + 1, costs.graph_ns);
    assert_int_equal(900, costs.stream_ns);
    assert_int_equal(MR__WAY_GRAPH, mr__graph_choose(&costs));
}

static void the_cache_forgives_a_graph_a_quarter(void **state)
{
    const struct {
        uint64_t graph_ns, stream_ns;
        enum mr__graph_way way;
    } cases[] = {
        { 1, 0, MR__WAY_STREAM },
        { 0, 0, MR__WAY_GRAPH },
        { 1000, 2000, MR__WAY_GRAPH },
        { 1250, 1000, MR__WAY_GRAPH },
        { 1251, 1000, MR__WAY_STREAM },
        { UINT64_MAX, UINT64_MAX, MR__WAY_GRAPH },
        { UINT64_MAX, UINT64_MAX / 2, MR__WAY_STREAM },
        { 1, UINT64_MAX, MR__WAY_GRAPH },
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct mr__graph_costs costs = { .graph_ns = cases[i].graph_ns,
                                               .stream_ns = cases[i].stream_ns,
                                               .graph_samples = MR__GRAPH_SAMPLES,
                                               .stream_samples = MR__STREAM_SAMPLES };
        assert_int_equal(cases[i].way, mr__graph_choose(&costs));
    }
}

static mr_status submit_call(void *context, mr_stream *stream)
{
    return mr_stream_call(stream, count_run, context);
}

static void the_cache_measures_after_eight_updates_and_then_stays(void **state)
{
    mr_device *device = open_cpu(1);
    mr_stream *stream;
    mr_graph_cache *cache;
    _Atomic uint32_t count = 0;
    mr_graph_cache_statistics statistics;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_ok(mr_graph_cache_create(stream, NULL, &cache));

    const uint32_t before = 2 + MR__GRAPH_SAMPLES; /* warm-up, build, updates */
    for (uint32_t i = 0; i < before + MR__STREAM_SAMPLES + 10; i++)
        assert_ok(mr_graph_cache_run(cache, 1, false, submit_call, (void *)&count));
    assert_ok(mr_stream_wait(stream));
    mr_graph_cache_measure(cache, &statistics);
    assert_int_equal(before + MR__STREAM_SAMPLES + 10, count);
    assert_int_equal(1, statistics.builds);
    const uint64_t most_streamed = 1 + MR__STREAM_SAMPLES + 10;
    if (statistics.streamed == 1 + MR__STREAM_SAMPLES) { /* as quick as the stream */
        assert_int_equal(MR__GRAPH_SAMPLES + 10, statistics.updates);
        assert_int_equal(1, statistics.executables);
    } else {
        assert_int_equal(most_streamed, statistics.streamed);
        assert_int_equal(MR__GRAPH_SAMPLES, statistics.updates);
        assert_int_equal(0, statistics.executables);
        assert_non_null(strstr(statistics.reason, "graphs cost the host"));
    }
    mr_graph_cache_destroy(cache);
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(device));
}

static void without_graphs_the_cache_streams_and_says_so(void **state)
{
    mr_device *device = scripted_open(&scripted_alpha);
    mr_stream *stream;
    mr_graph *graph;
    mr_graph_cache *cache;
    _Atomic uint32_t count = 0;
    mr_graph_cache_statistics statistics;
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_status(MR_E_UNSUPPORTED, mr_capture_begin(stream));
    assert_status(MR_E_UNSUPPORTED, mr_graph_create(device, &graph));
    assert_null(graph);
    assert_ok(mr_graph_cache_create(stream, NULL, &cache));
    for (int i = 0; i < 5; i++)
        assert_ok(mr_graph_cache_run(cache, 1, true, submit_call, (void *)&count));
    mr_graph_cache_measure(cache, &statistics);
    assert_int_equal(5, count);
    assert_int_equal(5, statistics.streamed);
    assert_string_equal("the device has no graphs", statistics.reason);
    mr_graph_cache_destroy(cache);
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(device));
}

/* ---- holdings ---- */

static void holdings_count_buffers_in_any_order(void **state)
{
    enum { COUNT = 100 };
    mr_device *device = open_cpu(1);
    mr_buffer *buffers[COUNT];
    struct mr__holdings *holdings = mr__holdings_create();
    uint32_t uses[COUNT] = { 0 };
    uint64_t random = 9;
    (void)state;
    for (int i = 0; i < COUNT; i++)
        assert_ok(mr_buffer_create(device, BYTES, NULL, &buffers[i]));
    for (int step = 0; step < 20000; step++) {
        random = random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        const size_t i = (size_t)(random >> 33) % COUNT;
        if (random >> 62 && uses[i]) {
            mr__holdings_remove_buffer(holdings, buffers[i]);
            uses[i]--;
        } else if (uses[i] < 3) {
            assert_true(mr__holdings_add_buffer(holdings, buffers[i], i, 8, MR_ACCESS_IN));
            uses[i]++;
        }
        if (step % 500 == 0 && !mr__holdings_own(&holdings))
            fail();
    }
    size_t distinct = 0;
    for (int i = 0; i < COUNT; i++)
        distinct += uses[i] != 0;
    assert_int_equal(distinct, holdings->buffer_count);
    for (size_t k = 0; k < holdings->buffer_count; k++) {
        size_t i = 0;
        while (buffers[i] != holdings->buffers[k].buffer)
            i++;
        assert_int_equal(uses[i], holdings->buffers[k].use_count);
        assert_int_equal(mr_buffer_address(buffers[i]) + i, holdings->accesses[k].address);
    }
    mr__holdings_release(holdings);
    for (int i = 0; i < COUNT; i++)
        mr_buffer_destroy(buffers[i]);
    assert_ok(mr_device_close(device));
}

/* ---- workers ---- */

struct brake {
    _Atomic bool is_held, is_let_go;
};

static mr_status brake_run(void *context)
{
    struct brake *brake = context;
    atomic_store(&brake->is_held, true);
    while (!atomic_load(&brake->is_let_go))
        sched_yield();
    return MR_OK;
}

static void wait_until_held(struct brake *brake)
{
    while (!atomic_load(&brake->is_held))
        sched_yield();
}

struct note {
    _Atomic uint32_t *clock;
    uint32_t time;
};

static mr_status note_run(void *context)
{
    struct note *note = context;
    note->time = atomic_fetch_add(note->clock, 1) + 1;
    return MR_OK;
}

/* The only worker is in the middle of a launch when a stream of higher priority is given work. */
static void a_launch_lets_higher_priorities_pass_between_nodes(void **state)
{
    mr_device *device = open_cpu(1);
    mr_stream *low, *high;
    mr_graph *graph;
    mr_graph_executable *executable;
    mr_graph_node node;
    struct brake brake = { 0 };
    _Atomic uint32_t clock = 0;
    struct note later = { .clock = &clock }, urgent = { .clock = &clock };
    (void)state;
    assert_ok(mr_stream_create(device, NULL, &low));
    assert_ok(mr_stream_create(device, &(mr_stream_options){ .priority = -3 }, &high));
    assert_ok(mr_graph_create(device, &graph));
    assert_ok(mr_graph_add_call(graph, NULL, 0, brake_run, &brake, &node));
    assert_ok(mr_graph_add_call(graph, &node, 1, note_run, &later, NULL));
    assert_ok(mr_graph_instantiate(graph, &executable));
    assert_ok(mr_graph_launch(executable, low));
    wait_until_held(&brake);
    assert_ok(mr_stream_call(high, note_run, &urgent));
    atomic_store(&brake.is_let_go, true);
    assert_ok(mr_stream_wait(low));
    assert_ok(mr_stream_wait(high));
    assert_int_equal(1, urgent.time);
    assert_int_equal(2, later.time);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    mr_stream_destroy(low);
    mr_stream_destroy(high);
    assert_ok(mr_device_close(device));
}

/* One node is held; whichever worker has it, the other serves whoever comes. */
static void a_node_that_takes_long_holds_one_worker_only(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        mr_device *device = open_cpu(2);
        mr_stream *stream, *other;
        mr_graph *graph;
        mr_graph_executable *executable;
        mr_graph_node nodes[3];
        struct brake brake = { 0 };
        _Atomic uint32_t count = 0;
        assert_ok(mr_stream_create(device, NULL, &stream));
        assert_ok(mr_stream_create(device, NULL, &other));
        assert_ok(mr_graph_create(device, &graph));
        assert_ok(mr_graph_add_call(graph, NULL, 0, brake_run, &brake, &nodes[0]));
        for (int i = 1; i < 3; i++)
            assert_ok(mr_graph_add_call(graph, NULL, 0, count_run, (void *)&count, &nodes[i]));
        assert_ok(mr_graph_add_call(graph, nodes, 3, count_run, (void *)&count, NULL));
        assert_ok(mr_graph_instantiate(graph, &executable));
        assert_ok(mr_graph_launch(executable, stream));
        wait_until_held(&brake);
        for (int i = 0; i < 10; i++) {
            assert_ok(mr_stream_call(other, count_run, (void *)&count));
            assert_ok(mr_stream_wait(other));
        }
        assert_status(MR_E_BUSY, mr_stream_query(stream));
        atomic_store(&brake.is_let_go, true);
        assert_ok(mr_stream_wait(stream));
        assert_int_equal(13, count);
        mr_graph_executable_destroy(executable);
        mr_graph_destroy(graph);
        mr_stream_destroy(stream);
        mr_stream_destroy(other);
        assert_ok(mr_device_close(device));
    }
}

/* ---- the Nth allocation ---- */

/* What the scenarios work with; made before allocations fail. */
struct scene {
    mr_device *device;
    mr_stream *stream, *other;
    mr_event *event;
    mr_buffer *buffer, *second;
    mr_kernel *kernel;
    _Atomic uint32_t count;
};

static void scene_init(struct scene *scene)
{
    *scene = (struct scene){ .device = open_cpu(2) };
    assert_ok(mr_stream_create(scene->device, NULL, &scene->stream));
    assert_ok(mr_stream_create(scene->device, NULL, &scene->other));
    assert_ok(mr_event_create(scene->device, NULL, &scene->event));
    assert_ok(mr_buffer_create(scene->device, BYTES, NULL, &scene->buffer));
    assert_ok(mr_buffer_create(scene->device, BYTES, NULL, &scene->second));
    assert_ok(mr_kernel_open(scene->device, "copy_u8", &scene->kernel));
}

/* Closing finds whatever was left. */
static void scene_fini(struct scene *scene)
{
    mr_kernel_destroy(scene->kernel);
    mr_buffer_destroy(scene->buffer);
    mr_buffer_destroy(scene->second);
    mr_event_destroy(scene->event);
    mr_stream_destroy(scene->stream);
    mr_stream_destroy(scene->other);
    assert_ok(mr_device_close(scene->device));
}

static mr_status add_everything(struct scene *scene, mr_graph *graph, mr_graph_node *kernel_node)
{
    const mr_copy_2d_layout layout = { .row_bytes = BYTES, .row_count = 1 };
    const mr_argument arguments[] = { mr_argument_buffer(scene->buffer),
                                      mr_argument_buffer(scene->second), mr_argument_u64(BYTES) };
    const mr_launch launch = { .count = BYTES };
    mr_graph_node nodes[3];
    mr_status status = mr_graph_add_fill(graph, NULL, 0, scene->buffer, 0, BYTES, 1, 1, &nodes[0]);
    if (!status)
        status =
            mr_graph_add_copy(graph, nodes, 1, scene->second, scene->buffer, &layout, &nodes[1]);
    if (!status)
        status =
            mr_graph_add_kernel(graph, nodes, 2, scene->kernel, &launch, arguments, 3, kernel_node);
    if (!status)
        status =
            mr_graph_add_call(graph, kernel_node, 1, count_run, (void *)&scene->count, &nodes[2]);
    if (!status)
        status = mr_graph_add_empty(graph, &nodes[2], 1, NULL);
    return status;
}

static mr_status launch_twice(struct scene *scene, mr_graph_executable *executable)
{
    mr_status status = mr_graph_launch(executable, scene->stream);
    return status ? status : mr_graph_launch(executable, scene->other);
}

static mr_status with_nodes(struct scene *scene)
{
    mr_graph *graph = NULL, *clone = NULL;
    mr_graph_executable *executable = NULL;
    mr_graph_node node;
    const mr_graph_node last = 5;
    const mr_argument arguments[] = { mr_argument_buffer(scene->second),
                                      mr_argument_buffer(scene->buffer), mr_argument_u64(BYTES) };
    const mr_launch launch = { .count = BYTES };
    mr_status status = mr_graph_create(scene->device, &graph);
    if (!status)
        status = add_everything(scene, graph, &node);
    if (!status)
        status = mr_graph_clone(graph, &clone);
    if (!status)
        status = mr_graph_add_graph(clone, &last, 1, graph, NULL);
    if (!status)
        status = mr_graph_instantiate(clone, &executable);
    if (!status)
        status = launch_twice(scene, executable);
    if (!status)
        status = mr_graph_update(executable, clone);
    if (!status)
        status = mr_graph_update_kernel(executable, node, &launch, arguments, 3);
    if (!status)
        status = launch_twice(scene, executable);
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(clone);
    mr_graph_destroy(graph);
    return status;
}

static mr_status capture_everything(struct scene *scene)
{
    mr_status status = mr_fill(scene->stream, scene->buffer, 0, BYTES, 3, 1);
    if (!status)
        status = mr_event_record(scene->event, scene->stream);
    if (!status)
        status = mr_stream_wait_event(scene->other, scene->event);
    if (!status)
        status = mr_stream_call(scene->other, count_run, (void *)&scene->count);
    if (!status)
        status = mr_copy(scene->stream, scene->second, 0, scene->buffer, 0, BYTES);
    if (!status)
        status = mr_event_record(scene->event, scene->other);
    if (!status)
        status = mr_stream_wait_event(scene->stream, scene->event);
    return status ? status : mr_stream_call(scene->stream, count_run, (void *)&scene->count);
}

static mr_status with_capture(struct scene *scene)
{
    mr_graph *graph = NULL;
    mr_graph_executable *executable = NULL, *inner = NULL;
    mr_status status = mr_capture_begin(scene->stream);
    if (status)
        return status;
    status = capture_everything(scene);
    const mr_status ended = mr_capture_end(scene->stream, &graph);
    assert_true(status || !ended);
    assert_false(mr_stream_is_capturing(scene->other));
    if (!status)
        status = mr_graph_instantiate(graph, &inner);
    mr_graph_destroy(graph);
    graph = NULL;
    if (!status)
        status = mr_capture_begin(scene->other);
    if (!status) {
        status = mr_graph_launch(inner, scene->other);
        assert_ok(mr_capture_end(scene->other, &graph));
    }
    if (!status)
        status = mr_graph_instantiate(graph, &executable);
    if (!status)
        status = launch_twice(scene, executable);
    mr_graph_executable_destroy(executable);
    mr_graph_executable_destroy(inner);
    mr_graph_destroy(graph);
    return status;
}

static mr_status submit_everything(void *context, mr_stream *stream)
{
    (void)stream;
    return capture_everything(context);
}

static mr_status with_cache(struct scene *scene)
{
    mr_graph_cache *cache;
    mr_status status =
        mr_graph_cache_create(scene->stream, &(mr_graph_cache_options){ .shape_limit = 1 }, &cache);
    for (uint64_t i = 0; i < 8 && !status; i++)
        status = mr_graph_cache_run(cache, i / 4, i % 4 == 3, submit_everything, scene);
    mr_graph_cache_destroy(cache);
    return status;
}

static void fail_every_allocation(mr_status (*scenario)(struct scene *scene))
{
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        struct scene scene;
        scene_init(&scene);
        fault_begin(&fault);
        const mr_status status = scenario(&scene);
        fault_end(&fault, status);
        assert_ok(mr_stream_wait(scene.stream));
        assert_ok(mr_stream_wait(scene.other));
        scene_fini(&scene);
    }
}

static void nodes_survive_no_memory(void **state)
{
    (void)state;
    fail_every_allocation(with_nodes);
}

static void captures_survive_no_memory(void **state)
{
    (void)state;
    fail_every_allocation(with_capture);
}

static void caches_survive_no_memory(void **state)
{
    (void)state;
    fail_every_allocation(with_cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_cache_tries_both_ways_before_it_chooses),
        cmocka_unit_test(the_cache_forgives_a_graph_a_quarter),
        cmocka_unit_test(the_cache_measures_after_eight_updates_and_then_stays),
        cmocka_unit_test(without_graphs_the_cache_streams_and_says_so),
        cmocka_unit_test(holdings_count_buffers_in_any_order),
        cmocka_unit_test(a_launch_lets_higher_priorities_pass_between_nodes),
        cmocka_unit_test(a_node_that_takes_long_holds_one_worker_only),
        cmocka_unit_test(nodes_survive_no_memory),
        cmocka_unit_test(captures_survive_no_memory),
        cmocka_unit_test(caches_survive_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
