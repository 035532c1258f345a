/* SPDX-License-Identifier: MIT */
/*
 * The cache of graphs: which way each run goes, counted exactly, and the same result by every way.
 */
#include "support/graphs.h"
#include "support/latch.h"
#include "support/suite.h"

enum { BYTES = 512 };

/* A run: `length` host functions, then a fill with `value`. */
struct work {
    mr_buffer *buffer;
    _Atomic uint32_t *count;
    uint32_t length, value;
    uint32_t submit_count;
    mr_status (*also)(struct work *work, mr_stream *stream); /* may be NULL */
};

static mr_status submit_work(void *context, mr_stream *stream)
{
    struct work *work = context;
    work->submit_count++;
    mr_status status = MR_OK;
    for (uint32_t i = 0; i < work->length && !status; i++)
        status = mr_stream_call(stream, count_run, work->count);
    if (!status)
        status = mr_fill(stream, work->buffer, 0, BYTES, work->value, 1);
    return status || !work->also ? status : work->also(work, stream);
}

struct scene {
    mr_device *device;
    mr_stream *stream;
    mr_graph_cache *cache;
    mr_buffer *host;
    _Atomic uint32_t count;
    struct work work;
};

static void scene_init(struct scene *scene, mr_device *device, mr_graph_cache_options options)
{
    *scene = (struct scene){ .device = device };
    options.is_unmeasured = true;
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "cached" }, &scene->stream));
    CHECK_OK(mr_graph_cache_create(scene->stream, &options, &scene->cache));
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &scene->work.buffer));
    CHECK_OK(mr_buffer_create(device, BYTES, &(mr_buffer_options){ .place = MR_PLACE_PINNED },
                              &scene->host));
    scene->work.count = &scene->count;
    scene->work.length = 2;
}

static void scene_fini(struct scene *scene)
{
    mr_graph_cache_destroy(scene->cache);
    mr_buffer_destroy(scene->work.buffer);
    mr_buffer_destroy(scene->host);
    mr_stream_destroy(scene->stream);
}

/* Runs the shape with a value of its own, and expects its result. */
static void run(struct scene *scene, uint64_t shape, uint32_t value, bool is_same)
{
    const uint32_t before = scene->count;
    scene->work.value = value;
    CHECK_OK(mr_graph_cache_run(scene->cache, shape, is_same, submit_work, &scene->work));
    CHECK_OK(mr_copy(scene->stream, scene->host, 0, scene->work.buffer, 0, BYTES));
    CHECK_OK(mr_stream_wait(scene->stream));
    CHECK_EQ(before + scene->work.length, scene->count);
    const unsigned char *bytes = mr_buffer_host(scene->host);
    for (int i = 0; i < BYTES; i++)
        CHECK_EQ(value, bytes[i]);
}

static mr_graph_cache_statistics measure(const struct scene *scene)
{
    mr_graph_cache_statistics statistics;
    mr_graph_cache_measure(scene->cache, &statistics);
    return statistics;
}

#define EXPECT_COUNTS(scene, ...)                                                                  \
    do {                                                                                           \
        const mr_graph_cache_statistics wanted = { __VA_ARGS__ }, got = measure(scene);            \
        CHECK_EQ(wanted.runs, got.runs);                                                           \
        CHECK_EQ(wanted.hits, got.hits);                                                           \
        CHECK_EQ(wanted.updates, got.updates);                                                     \
        CHECK_EQ(wanted.rebuilds, got.rebuilds);                                                   \
        CHECK_EQ(wanted.refusals, got.refusals);                                                   \
        CHECK_EQ(wanted.builds, got.builds);                                                       \
        CHECK_EQ(wanted.streamed, got.streamed);                                                   \
        CHECK_EQ(wanted.dropped, got.dropped);                                                     \
        CHECK_EQ(wanted.executables, got.executables);                                             \
        CHECK_EQ(wanted.executables != 0, got.memory_bytes != 0);                                  \
    } while (0)

static void a_shape_is_warmed_up_then_built_then_updated_or_launched(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    EXPECT_COUNTS(&scene, .runs = 0);
    run(&scene, 1, 10, true);
    EXPECT_COUNTS(&scene, .runs = 1, .streamed = 1);
    run(&scene, 1, 11, true); /* nothing to be the same as */
    EXPECT_COUNTS(&scene, .runs = 2, .streamed = 1, .builds = 1, .executables = 1);
    run(&scene, 1, 11, true);
    CHECK_EQ(2, scene.work.submit_count);
    run(&scene, 1, 12, false);
    run(&scene, 1, 13, false);
    run(&scene, 1, 13, true);
    EXPECT_COUNTS(&scene, .runs = 6, .streamed = 1, .builds = 1, .hits = 2, .updates = 2,
                  .executables = 1);
    CHECK_EQ(4, scene.work.submit_count);
    CHECK_EQ(0, measure(&scene).reason[0]);

    scene.work.length = 5; /* another shape, beside it */
    run(&scene, 2, 14, false);
    run(&scene, 2, 15, false);
    scene.work.length = 2;
    run(&scene, 1, 16, false);
    EXPECT_COUNTS(&scene, .runs = 9, .streamed = 2, .builds = 2, .hits = 2, .updates = 3,
                  .executables = 2);
    scene_fini(&scene);
}

static void a_refused_update_makes_the_executable_anew(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    run(&scene, 1, 10, false);
    run(&scene, 1, 11, false);
    scene.work.length = 3; /* the key says the same, and lies */
    run(&scene, 1, 12, false);
    EXPECT_COUNTS(&scene, .runs = 3, .streamed = 1, .builds = 1, .refusals = 1, .rebuilds = 1,
                  .executables = 1);
    run(&scene, 1, 13, false);
    EXPECT_COUNTS(&scene, .runs = 4, .streamed = 1, .builds = 1, .refusals = 1, .rebuilds = 1,
                  .updates = 1, .executables = 1);
    scene_fini(&scene);
}

static void the_least_recently_used_go_first(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ .shape_limit = 2 });
    for (uint64_t shape = 1; shape <= 2; shape++) {
        run(&scene, shape, 10, false);
        run(&scene, shape, 11, false);
    }
    run(&scene, 1, 11, false); /* now 2 is the older */
    run(&scene, 3, 12, false);
    EXPECT_COUNTS(&scene, .runs = 6, .streamed = 3, .builds = 2, .updates = 1, .dropped = 1,
                  .executables = 1);
    run(&scene, 1, 13, false);
    run(&scene, 2, 14, false); /* a new one again; 3 goes, which had nothing */
    EXPECT_COUNTS(&scene, .runs = 8, .streamed = 4, .builds = 2, .updates = 2, .dropped = 1,
                  .executables = 1);
    scene_fini(&scene);
}

static void memory_is_capped_and_what_was_dropped_is_made_anew(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    run(&scene, 1, 10, false);
    run(&scene, 1, 11, false);
    const uint64_t one = measure(&scene).memory_bytes;
    scene_fini(&scene);

    scene_init(&scene, device, (mr_graph_cache_options){ .memory_bytes = one + one / 2 });
    for (int round = 0; round < 3; round++)
        for (uint64_t shape = 1; shape <= 2; shape++) {
            run(&scene, shape, 20 + (uint32_t)round, false);
            CHECK(measure(&scene).memory_bytes <= one + one / 2);
        }
    EXPECT_COUNTS(&scene, .runs = 6, .streamed = 2, .builds = 2, .dropped = 3, .rebuilds = 2,
                  .executables = 1);
    scene_fini(&scene);

    scene_init(&scene, device, (mr_graph_cache_options){ .memory_bytes = 1 });
    run(&scene, 1, 10, false);
    run(&scene, 1, 11, false);
    run(&scene, 1, 12, true);
    EXPECT_COUNTS(&scene, .runs = 3, .streamed = 3, .dropped = 1);
    CHECK_SAYS("larger than the cache's memory_bytes", measure(&scene).reason);
    scene_fini(&scene);
}

/* Breaks a capture, and goes well on the stream. */
static mr_status query_and_forget(struct work *work, mr_stream *stream)
{
    (void)work;
    const mr_status status = mr_stream_query(stream);
    return status == MR_E_BUSY ? MR_OK : status;
}

/* The same by one who does not look. */
static mr_status query_and_ignore(struct work *work, mr_stream *stream)
{
    (void)work;
    (void)(mr_stream_query(stream) == MR_OK);
    return MR_OK;
}

static void what_breaks_the_capture_goes_to_the_stream_with_the_reason(mr_device *device)
{
    mr_status (*const calls[])(struct work *, mr_stream *) = { query_and_forget, query_and_ignore };
    for (int i = 0; i < 2; i++) {
        struct scene scene;
        scene_init(&scene, device, (mr_graph_cache_options){ 0 });
        scene.work.also = calls[i];
        run(&scene, 1, 10, false);
        CHECK_EQ(1, scene.work.submit_count);
        run(&scene, 1, 11, false); /* in vain, and once more */
        CHECK_EQ(3, scene.work.submit_count);
        CHECK_SAYS("mr_stream_query of stream 'cached'", measure(&scene).reason);
        CHECK_EQ(0, mr_last_error()[0]);
        run(&scene, 1, 12, true); /* not tried again */
        CHECK_EQ(4, scene.work.submit_count);
        EXPECT_COUNTS(&scene, .runs = 3, .streamed = 3);
        scene_fini(&scene);
    }
}

static mr_status give_up(struct work *work, mr_stream *stream)
{
    (void)stream;
    return work->value == 99 ? mr_error_set(MR_E_CALLBACK, "no more of this") : MR_OK;
}

static void a_failure_of_the_submission_is_the_callers(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    scene.work.also = give_up;
    run(&scene, 1, 10, false);
    scene.work.value = 99;
    CHECK_STATUS(MR_E_CALLBACK,
                 mr_graph_cache_run(scene.cache, 1, false, submit_work, &scene.work));
    CHECK_SAYS("no more of this", mr_last_error());
    CHECK(!mr_stream_is_capturing(scene.stream));
    CHECK_EQ(2, scene.work.submit_count); /* not a second time: it was no fault of the capture */
    run(&scene, 1, 11, false);
    EXPECT_COUNTS(&scene, .runs = 3, .streamed = 1, .builds = 1, .executables = 1);
    scene_fini(&scene);
}

static mr_event *unjoined_event;
static mr_stream *unjoined_stream;

static mr_status fork_and_forget(struct work *work, mr_stream *stream)
{
    (void)work;
    const mr_status status = mr_event_record(unjoined_event, stream);
    return status ? status : mr_stream_wait_event(unjoined_stream, unjoined_event);
}

static void what_is_not_joined_goes_to_the_stream(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    CHECK_OK(mr_event_create(device, NULL, &unjoined_event));
    CHECK_OK(mr_stream_create(device, NULL, &unjoined_stream));
    scene.work.also = fork_and_forget;
    run(&scene, 1, 10, false);
    run(&scene, 1, 11, false);
    EXPECT_COUNTS(&scene, .runs = 2, .streamed = 2);
    CHECK_SAYS("is not joined", measure(&scene).reason);
    mr_event_destroy(unjoined_event);
    mr_stream_destroy(unjoined_stream);
    scene_fini(&scene);
}

static void a_cache_that_is_off_or_cannot_capture_streams(mr_device *device)
{
    struct scene scene;
    mr_stream *legacy;
    mr_graph_cache *cache;
    scene_init(&scene, device, (mr_graph_cache_options){ .is_off = true });
    for (uint32_t i = 0; i < 3; i++)
        run(&scene, 1, i, true);
    EXPECT_COUNTS(&scene, .runs = 3, .streamed = 3);
    CHECK_SAYS("off", measure(&scene).reason);

    CHECK_STATUS(MR_E_INVALID, mr_graph_cache_create(NULL, NULL, &cache));
    CHECK(!cache);
    CHECK_STATUS(MR_E_INVALID, mr_graph_cache_run(NULL, 1, true, submit_work, &scene.work));
    CHECK_STATUS(MR_E_INVALID, mr_graph_cache_run(scene.cache, 1, true, NULL, NULL));
    mr_graph_cache_destroy(NULL);

    CHECK_OK(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    CHECK_OK(mr_graph_cache_create(legacy, NULL, &cache));
    for (int i = 0; i < 3; i++)
        CHECK_OK(mr_graph_cache_run(cache, 1, true, submit_work, &scene.work));
    mr_graph_cache_statistics statistics;
    mr_graph_cache_measure(cache, &statistics);
    CHECK_EQ(3, statistics.streamed);
    CHECK_SAYS("legacy", statistics.reason);
    CHECK_OK(mr_stream_wait(legacy));
    mr_graph_cache_destroy(cache);
    scene_fini(&scene);
}

static void runs_in_a_capture_become_part_of_it(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    run(&scene, 1, 10, false);
    run(&scene, 1, 11, false);
    CHECK_OK(mr_capture_begin(scene.stream));
    CHECK_OK(mr_graph_cache_run(scene.cache, 1, true, submit_work, &scene.work));
    mr_graph *graph = end_capture(scene.stream);
    CHECK_EQ(3, mr_graph_node_count(graph));
    mr_graph_destroy(graph);
    EXPECT_COUNTS(&scene, .runs = 3, .streamed = 2, .builds = 1, .executables = 1);
    scene_fini(&scene);
}

static mr_graph_cache *nesting_cache;

static mr_status run_within(struct work *work, mr_stream *stream)
{
    struct work inner = { .buffer = work->buffer, .count = work->count, .value = work->value };
    (void)stream;
    return mr_graph_cache_run(nesting_cache, 7, true, submit_work, &inner);
}

static void a_run_inside_a_run_goes_where_the_outer_one_goes(mr_device *device)
{
    struct scene scene;
    scene_init(&scene, device, (mr_graph_cache_options){ .shape_limit = 1 });
    nesting_cache = scene.cache;
    scene.work.also = run_within;
    for (uint32_t i = 0; i < 4; i++)
        run(&scene, 1, i, false);
    EXPECT_COUNTS(&scene, .runs = 8, .streamed = 5, .builds = 1, .updates = 2, .executables = 1);
    scene_fini(&scene);
}

static void a_cache_ends_with_launches_in_flight(mr_device *device)
{
    struct scene scene;
    struct latch latch;
    scene_init(&scene, device, (mr_graph_cache_options){ 0 });
    latch_init(&latch);
    run(&scene, 1, 10, false);
    latch_stop(&latch, scene.stream);
    for (uint32_t i = 0; i < 10; i++) {
        scene.work.value = i;
        CHECK_OK(mr_graph_cache_run(scene.cache, 1, i % 2, submit_work, &scene.work));
    }
    latch_open(&latch);
    mr_graph_cache_destroy(scene.cache);
    scene.cache = NULL;
    CHECK_EQ(2 + 20, scene.count);
    latch_fini(&latch);
    scene_fini(&scene);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(a_shape_is_warmed_up_then_built_then_updated_or_launched),
        SUITE_TEST(a_refused_update_makes_the_executable_anew),
        SUITE_TEST(the_least_recently_used_go_first),
        SUITE_TEST(memory_is_capped_and_what_was_dropped_is_made_anew),
        SUITE_TEST(what_breaks_the_capture_goes_to_the_stream_with_the_reason),
        SUITE_TEST(a_failure_of_the_submission_is_the_callers),
        SUITE_TEST(what_is_not_joined_goes_to_the_stream),
        SUITE_TEST(a_cache_that_is_off_or_cannot_capture_streams),
        SUITE_TEST(runs_in_a_capture_become_part_of_it),
        SUITE_TEST(a_run_inside_a_run_goes_where_the_outer_one_goes),
        SUITE_TEST(a_cache_ends_with_launches_in_flight),
    };
    if (argc > 2 && graphs_are_missing(argv[2]))
        return GRAPHS_SKIPPED;
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof tests[0]);
}
