/* SPDX-License-Identifier: MIT */
/* Chunked transfers in both issue orders, and both ways at once: contents, order, joins, refusals. */
#include "support/latch.h"
#include "support/make.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/graph.h>
#include <millrace/kernel.h>
#include <millrace/operation.h>
#include <millrace/transfer.h>

#include <stdatomic.h>

enum { STREAMS = 4, ITEMS = 1000 };

/* Source, target and device memory of one transfer, and its streams. */
struct bench {
    mr_device *device;
    mr_stream *streams[STREAMS];
    mr_buffer *source, *input, *output, *target;
    mr_kernel *kernel;
};

static void bench_init(struct bench *bench, mr_device *device, const char *kernel, size_t in_bytes,
                       size_t out_bytes)
{
    bench->device = device;
    for (int i = 0; i < STREAMS; i++)
        CHECK_OK(mr_stream_create(device, NULL, &bench->streams[i]));
    bench->source = make_buffer(device, in_bytes, MR_PLACE_PINNED);
    bench->input = make_buffer(device, in_bytes, MR_PLACE_DEVICE);
    bench->output = make_buffer(device, out_bytes, MR_PLACE_DEVICE);
    bench->target = make_buffer(device, out_bytes, MR_PLACE_PINNED);
    CHECK_OK(mr_kernel_open(device, kernel, &bench->kernel));
    poison(mr_buffer_host(bench->source), in_bytes);
    poison(mr_buffer_host(bench->target), out_bytes);
}

static void bench_fini(struct bench *bench)
{
    for (int i = 0; i < STREAMS; i++)
        mr_stream_destroy(bench->streams[i]);
    mr_kernel_destroy(bench->kernel);
    mr_buffer_destroy(bench->source);
    mr_buffer_destroy(bench->input);
    mr_buffer_destroy(bench->output);
    mr_buffer_destroy(bench->target);
}

/* result = 2 * item + 1, from u8 or f32 to f32 */
static mr_status scale(void *context, const mr_chunk *chunk)
{
    const struct bench *bench = context;
    const mr_argument arguments[] = {
        mr_argument_range(chunk->input, chunk->input_offset, chunk->input_bytes),
        mr_argument_range(chunk->output, chunk->output_offset, chunk->output_bytes),
        mr_argument_f32(2), mr_argument_f32(1), mr_argument_u64(chunk->item_count)
    };
    return mr_kernel_launch(chunk->stream, bench->kernel,
                            &(mr_launch){ .count = chunk->item_count }, arguments, 5);
}

static mr_chunked_transfer transfer_of(struct bench *bench, size_t item_bytes)
{
    return (mr_chunked_transfer){ .source = bench->source,
                                  .input = bench->input,
                                  .output = bench->output,
                                  .target = bench->target,
                                  .item_count = ITEMS,
                                  .item_bytes = item_bytes,
                                  .compute = scale,
                                  .context = bench };
}

/* ---- contents ---- */

static void run_wide(struct bench *bench, mr_issue_order order, uint64_t chunk_items,
                     size_t stream_count)
{
    uint8_t *source = mr_buffer_host(bench->source);
    float *target = mr_buffer_host(bench->target);
    struct random random = { 77 + chunk_items };
    for (int i = 0; i < ITEMS + 8; i++)
        source[i] = (uint8_t)random_below(&random, 256);
    poison(target, (ITEMS + 3) * sizeof(float));
    uint32_t guard;
    poison(&guard, sizeof guard);

    mr_chunked_transfer transfer = transfer_of(bench, 1);
    transfer.source_offset = 8;
    transfer.input_offset = 8;
    transfer.output_offset = 2 * sizeof(float);
    transfer.target_offset = 2 * sizeof(float);
    transfer.result_bytes = sizeof(float);
    transfer.chunk_items = chunk_items;
    transfer.order = order;
    CHECK_OK(mr_transfer_chunks(bench->streams, stream_count, &transfer));
    CHECK_OK(mr_stream_wait(bench->streams[0]));

    for (int i = 0; i < ITEMS; i++)
        CHECK(target[2 + i] == 2.0f * source[8 + i] + 1);
    CHECK(memcmp(&target[1], &guard, sizeof guard) == 0);
    CHECK(memcmp(&target[2 + ITEMS], &guard, sizeof guard) == 0);
}

static void chunks_of_any_size_arrive_whole_in_every_order(mr_device *device)
{
    static const uint64_t sizes[] = { 0, 1, 7, 250, 333, 999, 1000, 1001, UINT64_MAX };
    struct bench bench;
    bench_init(&bench, device, "scale_offset_u8_f32", ITEMS + 8, (ITEMS + 3) * sizeof(float));
    for (int order = MR_ISSUE_AUTO; order <= MR_ISSUE_GROUPED; order++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            if (sizes[i] == 1 && order == MR_ISSUE_AUTO)
                continue;
            run_wide(&bench, (mr_issue_order)order, sizes[i], 1 + i % STREAMS);
        }
    }
    bench_fini(&bench);
}

static void work_can_be_in_place_from_and_to_one_range(mr_device *device)
{
    struct bench bench;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    float *numbers = mr_buffer_host(bench.source);
    for (int i = 0; i < ITEMS; i++)
        numbers[i] = (float)i;

    mr_chunked_transfer transfer = transfer_of(&bench, sizeof(float));
    transfer.output = NULL;
    transfer.target = bench.source;
    transfer.chunk_items = 64;
    CHECK_OK(mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    for (int i = 0; i < ITEMS; i++)
        CHECK(numbers[i] == 2 * (float)i + 1);
    bench_fini(&bench);
}

/* ---- order of issue ---- */

struct issue {
    mr_operation_kind kinds[64];
    uint64_t streams[64];
    int count;
    bool has_waited;
};

static void note_issue(void *context, const mr_operation *operation)
{
    struct issue *issue = context;
    if (operation->kind == MR_OPERATION_HOST_WAIT)
        issue->has_waited = true;
    if (operation->kind != MR_OPERATION_COPY && operation->kind != MR_OPERATION_LAUNCH)
        return;
    CHECK(issue->count < 64);
    issue->kinds[issue->count] = operation->kind;
    issue->streams[issue->count++] = operation->stream_id;
}

static void expect_issue(struct bench *bench, mr_issue_order order, const char *parts,
                         const char *streams)
{
    struct issue issue = { .count = 0 };
    mr_chunked_transfer transfer = transfer_of(bench, sizeof(float));
    transfer.item_count = 50;
    transfer.chunk_items = 10;
    transfer.order = order;
    mr_device_observe(bench->device, note_issue, &issue);
    CHECK_OK(mr_transfer_chunks(bench->streams, 3, &transfer));
    mr_device_observe(bench->device, NULL, NULL);

    CHECK_EQ(strlen(parts), issue.count);
    CHECK(!issue.has_waited);
    for (int i = 0; i < issue.count; i++) {
        const bool is_copy = issue.kinds[i] == MR_OPERATION_COPY;
        CHECK(is_copy == (parts[i] != 'k'));
        CHECK_EQ(mr_stream_id(bench->streams[streams[i] - '0']), issue.streams[i]);
    }
    CHECK_OK(mr_stream_wait(bench->streams[0]));
}

static void issue_order_is_as_asked_for(mr_device *device)
{
    struct bench bench;
    mr_device_properties properties;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    static const char *const parts[] = { "ikoikoikoikoiko", "iiikkkoooiikkoo" };
    static const char *const streams[] = { "000111222000111", "012012012010101" };
    expect_issue(&bench, MR_ISSUE_INTERLEAVED, parts[0], streams[0]);
    expect_issue(&bench, MR_ISSUE_GROUPED, parts[1], streams[1]);

    mr_device_describe(device, &properties);
    const int choice = mr_issue_order_choose(&properties) == MR_ISSUE_GROUPED;
    expect_issue(&bench, MR_ISSUE_AUTO, parts[choice], streams[choice]);
    bench_fini(&bench);
}

/* ---- fork and join ---- */

static mr_status count_chunk(void *context, const mr_chunk *chunk)
{
    return mr_stream_call(chunk->stream, count_up, context);
}

static void a_transfer_begins_after_the_first_streams_work(mr_device *device)
{
    struct bench bench;
    struct latch latch;
    _Atomic int count = 0;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    latch_init(&latch);
    latch_stop(&latch, bench.streams[0]);
    mr_chunked_transfer transfer = transfer_of(&bench, sizeof(float));
    transfer.compute = count_chunk;
    transfer.context = &count;
    transfer.chunk_items = 100;
    CHECK_OK(mr_transfer_chunks(bench.streams, STREAMS, &transfer)); /* and does not wait */
    for (int i = 0; i < STREAMS; i++)
        CHECK_STATUS(MR_E_BUSY, mr_stream_query(bench.streams[i]));
    CHECK_EQ(0, atomic_load(&count));

    latch_open(&latch);
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    CHECK_EQ(10, atomic_load(&count));
    latch_fini(&latch);
    bench_fini(&bench);
}

static void the_first_stream_waits_for_the_others(mr_device *device)
{
    struct bench bench;
    struct latch latch;
    _Atomic int count = 0;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    latch_init(&latch);
    latch_stop(&latch, bench.streams[STREAMS - 1]);
    mr_chunked_transfer transfer = transfer_of(&bench, sizeof(float));
    transfer.chunk_items = 250;
    CHECK_OK(mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    CHECK_OK(mr_stream_call(bench.streams[0], count_up, &count));
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(bench.streams[0], 2000000));
    CHECK_EQ(0, atomic_load(&count));

    latch_open(&latch);
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    CHECK_EQ(1, atomic_load(&count));
    latch_fini(&latch);
    bench_fini(&bench);
}

/* ---- in a graph ---- */

/* The second stream comes from outside the capture, and is drawn in. */
static mr_graph *capture_both(struct bench *bench)
{
    mr_graph *graph;
    mr_chunked_transfer transfer = transfer_of(bench, sizeof(float));
    transfer.chunk_items = 100;
    const size_t half = ITEMS / 2 * sizeof(float);
    const mr_copy_range up = { bench->input, 0, bench->source, 0, half };
    const mr_copy_range down = { bench->target, half, bench->output, 0, half };
    CHECK_OK(mr_capture_begin(bench->streams[0]));
    CHECK_OK(mr_transfer_chunks(bench->streams, STREAMS - 1, &transfer));
    CHECK_OK(mr_transfer_both_ways(bench->streams[0], &up, bench->streams[STREAMS - 1], &down));
    CHECK_OK(mr_capture_end(bench->streams[0], &graph));
    return graph;
}

static void transfers_can_be_captured(mr_device *device)
{
    struct bench bench;
    mr_graph_executable *executable;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    float *source = mr_buffer_host(bench.source), *target = mr_buffer_host(bench.target);
    mr_graph *graph = capture_both(&bench);
    CHECK_OK(mr_graph_instantiate(graph, &executable));
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < ITEMS; i++) {
            source[i] = (float)(i + turn);
            target[i] = -1;
        }
        CHECK_OK(mr_graph_launch(executable, bench.streams[1]));
        CHECK_OK(mr_stream_wait(bench.streams[1]));
        for (int i = 0; i < ITEMS; i++)
            CHECK(target[i] == 2 * source[i % (ITEMS / 2)] + 1);
    }
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    bench_fini(&bench);
}

/* ---- failures ---- */

static mr_status fail_at_three(void *context, const mr_chunk *chunk)
{
    if (chunk->index == 3)
        return mr_error_set(MR_E_CALLBACK, "no model for this chunk");
    return scale(context, chunk);
}

static mr_status fail_silently(void *context, const mr_chunk *chunk)
{
    (void)context;
    (void)chunk;
    return MR_E_CALLBACK;
}

static void a_failing_compute_ends_the_transfer_joined(mr_device *device)
{
    struct bench bench;
    struct latch latch;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    latch_init(&latch);
    latch_stop(&latch, bench.streams[1]);
    mr_chunked_transfer transfer = transfer_of(&bench, sizeof(float));
    transfer.compute = fail_at_three;
    transfer.chunk_items = 100;
    CHECK_STATUS(MR_E_CALLBACK, mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    CHECK_SAYS("mr_transfer_chunks: chunk 3: no model for this chunk", mr_last_error());
    CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(bench.streams[0], 2000000)); /* joined */
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(bench.streams[0]));

    transfer.compute = fail_silently;
    CHECK_STATUS(MR_E_CALLBACK, mr_transfer_chunks(bench.streams, 1, &transfer));
    CHECK_SAYS(mr_status_text(MR_E_CALLBACK), mr_last_error());
    transfer.compute = scale; /* nothing stays broken */
    CHECK_OK(mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    latch_fini(&latch);
    bench_fini(&bench);
}

static void refuse(struct bench *bench, size_t stream_count, const mr_chunked_transfer *transfer,
                   const char *words)
{
    CHECK_STATUS(MR_E_INVALID, mr_transfer_chunks(bench->streams, stream_count, transfer));
    CHECK_SAYS(words, mr_last_error());
    for (int i = 0; i < STREAMS; i++)
        CHECK_OK(mr_stream_query(bench->streams[i])); /* nothing was queued */
}

static void refuse_ranges(struct bench *bench)
{
    mr_chunked_transfer transfer = transfer_of(bench, sizeof(float));
    transfer.item_count++;
    refuse(bench, STREAMS, &transfer, "source range 0+4004 ends past its buffer of 4000");
    transfer.item_count = UINT64_MAX;
    refuse(bench, STREAMS, &transfer, "larger than any buffer");

    transfer = transfer_of(bench, sizeof(float));
    transfer.target_offset = 4;
    refuse(bench, STREAMS, &transfer, "target range 4+4000");
    transfer.target_offset = SIZE_MAX;
    refuse(bench, STREAMS, &transfer, "target range");
    transfer = transfer_of(bench, sizeof(float));
    transfer.output = transfer.input;
    refuse(bench, STREAMS, &transfer, "input and output overlap");
    transfer = transfer_of(bench, sizeof(float));
    transfer.item_count = 10;
    transfer.target = transfer.source;
    transfer.target_offset = 8;
    refuse(bench, STREAMS, &transfer, "source and target overlap");
    transfer = transfer_of(bench, sizeof(float));
    transfer.source = transfer.input;
    refuse(bench, STREAMS, &transfer, "source and input overlap");
}

static void a_transfer_that_cannot_be_is_refused(mr_device *device)
{
    struct bench bench;
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    const mr_chunked_transfer good = transfer_of(&bench, sizeof(float));
    mr_chunked_transfer transfer = good;
    refuse(&bench, 0, &good, "give 1 to 64");
    refuse(&bench, 65, &good, "give 1 to 64");
    refuse(&bench, 2, NULL, "transfer is NULL");
    CHECK_STATUS(MR_E_INVALID, mr_transfer_chunks(NULL, 2, &good));
    CHECK_STATUS(MR_E_INVALID, mr_transfer_chunks((mr_stream *[]){ NULL }, 1, &good));
    mr_stream *same[] = { bench.streams[0], bench.streams[1], bench.streams[0] };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_chunks(same, 3, &good));
    CHECK_SAYS("streams 0 and 2 are the same", mr_last_error());

    transfer.compute = NULL;
    refuse(&bench, 2, &transfer, "compute is NULL");
    transfer = good;
    transfer.item_bytes = 0;
    refuse(&bench, 2, &transfer, "item_bytes is 0");
    transfer = good;
    transfer.order = (mr_issue_order)3;
    refuse(&bench, 2, &transfer, "order 3 is none");
    transfer = good;
    transfer.source = NULL;
    refuse(&bench, 2, &transfer, "source is NULL");
    transfer = good;
    transfer.output = NULL;
    transfer.result_bytes = 8;
    refuse(&bench, 2, &transfer, "in place");
    refuse_ranges(&bench);

    transfer = good;
    transfer.item_count = 0; /* nothing to do, nothing queued */
    struct latch latch;
    latch_init(&latch);
    latch_stop(&latch, bench.streams[0]);
    CHECK_OK(mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    CHECK_OK(mr_stream_query(bench.streams[1]));
    latch_open(&latch);
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    latch_fini(&latch);
    bench_fini(&bench);
}

static void pageable_memory_is_refused_where_its_copies_block(mr_device *device)
{
    struct bench bench;
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    bench_init(&bench, device, "scale_offset_f32", ITEMS * sizeof(float), ITEMS * sizeof(float));
    mr_buffer *pageable = make_buffer(device, ITEMS * sizeof(float), MR_PLACE_PAGEABLE);
    memset(mr_buffer_host(pageable), 0, ITEMS * sizeof(float));
    mr_chunked_transfer transfer = transfer_of(&bench, sizeof(float));
    transfer.source = pageable;
    const mr_status wanted = properties.is_host_memory ? MR_OK : MR_E_INVALID;
    CHECK_STATUS(wanted, mr_transfer_chunks(bench.streams, STREAMS, &transfer));
    if (wanted)
        CHECK_SAYS("source is pageable memory", mr_last_error());

    const mr_copy_range up = { .target = bench.input, .source = pageable, .size_bytes = 64 };
    const mr_copy_range down = { .target = bench.target, .source = bench.output, .size_bytes = 64 };
    CHECK_STATUS(wanted, mr_transfer_both_ways(bench.streams[0], &up, bench.streams[1], &down));
    CHECK_OK(mr_stream_wait(bench.streams[0]));
    mr_buffer_destroy(pageable);
    bench_fini(&bench);
}

/* ---- both ways ---- */

enum { SIZE = 50000, TURNS = 20 };

/* Two device buffers in turn: while one is filled from above, the other is emptied. */
static void data_goes_both_ways_turn_after_turn(mr_device *device)
{
    struct bench bench;
    bench_init(&bench, device, "scale_offset_f32", (TURNS + 1) * SIZE, (TURNS + 1) * SIZE);
    struct random random = { 5 };
    random_bytes(&random, mr_buffer_host(bench.source), TURNS * SIZE);
    mr_buffer *turns[] = { bench.input, bench.output };
    for (size_t i = 0; i <= TURNS; i++) {
        const mr_copy_range up = { turns[i % 2], 0, bench.source, i * SIZE, i < TURNS ? SIZE : 0 };
        const mr_copy_range down = { bench.target, (i ? i - 1 : 0) * SIZE, turns[(i + 1) % 2], 0,
                                     i ? SIZE : 0 };
        CHECK_OK(mr_transfer_both_ways(bench.streams[0], &up, bench.streams[1], &down));
    }
    CHECK_OK(mr_stream_wait(bench.streams[0])); /* either stream will do */
    CHECK(memcmp(mr_buffer_host(bench.source), mr_buffer_host(bench.target), TURNS * SIZE) == 0);
    bench_fini(&bench);
}

static void both_ways_begin_and_end_together(mr_device *device)
{
    struct bench bench;
    struct latch latch;
    _Atomic int count = 0;
    bench_init(&bench, device, "scale_offset_f32", SIZE, SIZE);
    for (int held = 0; held < 2; held++) {
        const mr_copy_range up = { bench.input, 0, bench.source, 0, SIZE };
        const mr_copy_range down = { bench.target, 0, bench.output, 0, SIZE };
        latch_init(&latch);
        latch_stop(&latch, bench.streams[held]);
        CHECK_OK(mr_transfer_both_ways(bench.streams[0], &up, bench.streams[1], &down));
        CHECK_OK(mr_stream_call(bench.streams[!held], count_up, &count));
        CHECK_STATUS(MR_E_TIMEOUT, mr_stream_wait_for(bench.streams[!held], 2000000));
        CHECK_EQ(held, atomic_load(&count));
        latch_open(&latch);
        CHECK_OK(mr_stream_wait(bench.streams[!held]));
        CHECK_EQ(held + 1, atomic_load(&count));
        latch_fini(&latch);
    }
    bench_fini(&bench);
}

static void copies_that_meet_are_refused(mr_device *device)
{
    struct bench bench;
    bench_init(&bench, device, "scale_offset_f32", SIZE, SIZE);
    mr_stream *up_stream = bench.streams[0], *down_stream = bench.streams[1];
    const mr_copy_range up = { bench.input, 0, bench.source, 0, 100 };
    const mr_copy_range down = { bench.target, 0, bench.input, 99, 100 };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, &down));
    CHECK_SAYS("the copy up writes what the copy down reads", mr_last_error());
    const mr_copy_range over = { bench.source, 50, bench.output, 0, 100 };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, &over));
    CHECK_SAYS("the copy down writes what the copy up reads", mr_last_error());
    const mr_copy_range twice = { bench.input, 0, bench.output, 0, 1 };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, &twice));
    CHECK_SAYS("both copies write the same memory", mr_last_error());

    const mr_copy_range apart = { bench.target, 0, bench.input, 100, 100 };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, up_stream, &apart));
    CHECK_SAYS("give two", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(NULL, &up, down_stream, &apart));
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, NULL, down_stream, &apart));
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, NULL, &apart));
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, NULL));
    const mr_copy_range past = { bench.target, 1, bench.output, 0, SIZE };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, &past));
    CHECK_SAYS("down's target range", mr_last_error());
    const mr_copy_range nowhere = { NULL, 0, bench.output, 0, 1 };
    CHECK_STATUS(MR_E_INVALID, mr_transfer_both_ways(up_stream, &up, down_stream, &nowhere));
    CHECK_SAYS("down's target is NULL", mr_last_error());

    CHECK_OK(mr_transfer_both_ways(up_stream, &up, down_stream, &apart));
    CHECK_OK(mr_stream_wait(up_stream));
    bench_fini(&bench);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(chunks_of_any_size_arrive_whole_in_every_order),
        SUITE_TEST(work_can_be_in_place_from_and_to_one_range),
        SUITE_TEST(issue_order_is_as_asked_for),
        SUITE_TEST(a_transfer_begins_after_the_first_streams_work),
        SUITE_TEST(the_first_stream_waits_for_the_others),
        SUITE_TEST(transfers_can_be_captured),
        SUITE_TEST(a_failing_compute_ends_the_transfer_joined),
        SUITE_TEST(a_transfer_that_cannot_be_is_refused),
        SUITE_TEST(pageable_memory_is_refused_where_its_copies_block),
        SUITE_TEST(data_goes_both_ways_turn_after_turn),
        SUITE_TEST(both_ways_begin_and_end_together),
        SUITE_TEST(copies_that_meet_are_refused),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
