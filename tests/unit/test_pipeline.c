/* SPDX-License-Identifier: MIT */
/* What a pipeline refuses and in which words, and what it says of a run. */
#include "support/unit.h"

#include <millrace/pipeline.h>

#include <stdlib.h>

static mr_device *device;

static int open_device(void **state)
{
    (void)state;
    return mr_device_open("cpu", NULL, &device);
}

static int close_device(void **state)
{
    (void)state;
    return mr_device_close(device);
}

/* ---- parts ---- */

static mr_status next_of_ten(void *context, mr_source_item *item)
{
    (void)context;
    if (item->index == 10)
        return MR_END;
    memset(item->data, (int)item->index, item->capacity_bytes);
    item->size_bytes = item->capacity_bytes;
    return MR_OK;
}

static mr_status do_nothing(void *context, mr_stage_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static mr_status work_nothing(void *context, mr_host_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static mr_status take_nothing(void *context, const mr_sink_item *item)
{
    (void)context;
    (void)item;
    return MR_OK;
}

static const mr_source_options source = { .name = "feed", .next = next_of_ten, .item_bytes = 64 };
static const mr_sink_options sink = { .name = "out", .take = take_nothing };

static mr_stage_options stage_on(mr_device *stage_device)
{
    return (mr_stage_options){ .name = "step", .device = stage_device, .submit = do_nothing };
}

static mr_pipeline *make(const mr_pipeline_options *options)
{
    mr_pipeline *pipeline;
    assert_ok(mr_pipeline_create(options, &pipeline));
    return pipeline;
}

static mr_pipeline *make_line(const mr_pipeline_options *options)
{
    mr_pipeline *pipeline = make(options);
    const mr_stage_options stage = stage_on(device);
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    return pipeline;
}

static void refuse_to_run(mr_pipeline *pipeline, mr_status status, const char *words)
{
    assert_status(status, mr_pipeline_run(pipeline));
    assert_words(words);
    const mr_pipeline_report *report;
    assert_status(MR_E_STATE, mr_pipeline_report_get(pipeline, &report));
    assert_null(report);
    mr_pipeline_destroy(pipeline);
}

/* ---- options ---- */

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline;
    const mr_pipeline_options bad[] = { { .slot_count = 1025 },
                                        { .parcel_items = 65537 },
                                        { .on_error = (mr_error_policy)7 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_status(MR_E_INVALID, mr_pipeline_create(&bad[i], &pipeline));
        assert_null(pipeline);
    }
    mr_pipeline_destroy(NULL);
}

static void nodes_with_bad_options_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make(NULL);
    mr_node node = 7;

    assert_status(MR_E_INVALID, mr_pipeline_add_source(pipeline, NULL, &node));
    assert_int_equal(0, node);
    assert_status(MR_E_INVALID,
                  mr_pipeline_add_source(pipeline, &(mr_source_options){ .name = "feed" }, &node));
    assert_words("source 'feed' has neither `next` nor `memory`");
    assert_status(MR_E_INVALID, mr_pipeline_add_source(
                                    pipeline, &(mr_source_options){ .next = next_of_ten }, &node));
    assert_words("item_bytes is 0");

    mr_stage_options stage = stage_on(NULL);
    assert_status(MR_E_INVALID, mr_pipeline_add_stage(pipeline, &stage, &node));
    assert_words("stage 'step' has no device");
    stage.device = device;
    stage.work = work_nothing;
    assert_status(MR_E_INVALID, mr_pipeline_add_stage(pipeline, &stage, &node));
    assert_words("both `submit` and `work`");
    stage.work = NULL;
    stage.has_no_output = stage.is_in_place = true;
    assert_status(MR_E_INVALID, mr_pipeline_add_stage(pipeline, &stage, &node));
    assert_words("has no output, but is to work in place");

    assert_status(MR_E_INVALID,
                  mr_pipeline_add_sink(pipeline, &(mr_sink_options){ .name = "out" }, &node));
    assert_words("sink 'out' has neither `take` nor `memory`");
    mr_pipeline_destroy(pipeline);
}

static void memory_outside_its_buffer_is_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make(NULL);
    mr_buffer *buffer;
    assert_ok(mr_buffer_create(device, 1000, NULL, &buffer));
    assert_status(MR_E_INVALID, mr_pipeline_add_source(pipeline,
                                                       &(mr_source_options){ .memory = buffer,
                                                                             .memory_offset = 900,
                                                                             .memory_bytes = 101 },
                                                       NULL));
    assert_words("bytes 900 to 900 + 101 of a buffer that has 1000");
    assert_status(
        MR_E_INVALID,
        mr_pipeline_add_sink(pipeline,
                             &(mr_sink_options){ .memory = buffer, .memory_offset = 1001 }, NULL));
    mr_pipeline_destroy(pipeline);
    mr_buffer_destroy(buffer);
}

/* ---- graphs ---- */

static void graphs_that_cannot_run_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make(&(mr_pipeline_options){ .name = "line" });
    refuse_to_run(pipeline, MR_E_INVALID, "pipeline 'line' has no nodes");

    mr_stage_options stage = stage_on(device);
    pipeline = make(NULL);
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "has no source");

    pipeline = make(NULL);
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "two sources, 'feed' and 'feed'");

    pipeline = make(NULL);
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "nothing takes what stage 'step' puts out");

    pipeline = make(NULL);
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    stage.inputs[0] = 9;
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "stage 'step' takes from node 9, but there are only 3");

    pipeline = make_line(NULL);
    stage.inputs[0] = 3;
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "takes from sink 'out', which puts nothing out");

    pipeline = make_line(NULL);
    stage.inputs[0] = 1;
    stage.has_no_output = true;
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "takes from stage 'step', which has no output");
}

static void cycles_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make(NULL);
    mr_stage_options stage = stage_on(device);
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    stage.inputs[0] = 1;
    stage.inputs[1] = 3;
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    stage.inputs[0] = 2;
    stage.inputs[1] = 0;
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "has a cycle through stage 'step'");
}

/* ---- sizes ---- */

static void items_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make_line(&(mr_pipeline_options){ .memory_limit = 100 });
    refuse_to_run(pipeline, MR_E_NO_MEMORY, "raise memory_limit");

    mr_source_options many = source;
    mr_buffer *buffer;
    many.item_count = 10;
    assert_ok(mr_buffer_create(device, 500, NULL, &buffer));
    pipeline = make(NULL);
    assert_ok(mr_pipeline_add_source(pipeline, &many, NULL));
    assert_ok(mr_pipeline_add_sink(
        pipeline, &(mr_sink_options){ .name = "out", .memory = buffer, .memory_bytes = 500 },
        NULL));
    refuse_to_run(pipeline, MR_E_INVALID, "10 items of up to 64 bytes do not fit into its 500");
    mr_buffer_destroy(buffer);

    many.item_bytes = SIZE_MAX / 2;
    pipeline = make(&(mr_pipeline_options){ .parcel_items = 3 });
    const mr_stage_options stage = stage_on(device);
    assert_ok(mr_pipeline_add_source(pipeline, &many, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    assert_true(mr_pipeline_run(pipeline) < 0);
    mr_pipeline_destroy(pipeline);
}

static void slots_are_cut_to_the_memory_limit(void **state)
{
    (void)state;
    mr_pipeline *pipeline =
        make_line(&(mr_pipeline_options){ .memory_limit = 1 << 20, .slot_count = 1000 });
    const mr_pipeline_report *report;
    assert_ok(mr_pipeline_run(pipeline));
    assert_ok(mr_pipeline_report_get(pipeline, &report));
    assert_true(report->slot_memory_bytes <= 1 << 20);
    assert_true(report->slot_count >= 1);
    mr_pipeline_destroy(pipeline);
}

/* ---- callers' functions that break their promises ---- */

static mr_status next_too_large(void *context, mr_source_item *item)
{
    (void)context;
    item->size_bytes = item->capacity_bytes + (item->index == 3);
    return MR_OK;
}

static mr_status next_lent_unasked(void *context, mr_source_item *item)
{
    item->data = context;
    item->size_bytes = 1;
    return MR_OK;
}

static mr_status grow_output(void *context, mr_stage_call *call)
{
    (void)context;
    if (call->first_index == 5)
        call->output->sizes[0] = 65;
    return MR_OK;
}

static size_t size_too_large(void *context, uint64_t index, const size_t *input_sizes)
{
    (void)context;
    (void)input_sizes;
    return index == 6 ? 100 : 8;
}

static mr_status lend_nothing(void *context, uint64_t index, size_t capacity_bytes, void **data)
{
    static char memory[64];
    (void)context;
    (void)capacity_bytes;
    *data = index == 4 ? NULL : memory;
    return MR_OK;
}

static void run_with(const mr_source_options *from, const mr_stage_options *step,
                     const mr_sink_options *to, mr_status status, const char *words)
{
    mr_pipeline *pipeline = make(NULL);
    assert_ok(mr_pipeline_add_source(pipeline, from, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, step, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, to, NULL));
    assert_status(status, mr_pipeline_run(pipeline));
    assert_words(words);
    mr_pipeline_destroy(pipeline);
}

static void broken_promises_are_told_with_node_and_item(void **state)
{
    (void)state;
    char memory[64];
    mr_source_options from = source;
    mr_stage_options step = stage_on(device);
    mr_sink_options to = sink;

    from.next = next_too_large;
    run_with(&from, &step, &to, MR_E_INVALID,
             "source 'feed', item 3: the item has 65 bytes, more than item_bytes, 64");
    from.next = next_lent_unasked;
    from.context = memory;
    run_with(&from, &step, &to, MR_E_INVALID, "is_lending is not set");
    from = source;
    step.submit = grow_output;
    run_with(&from, &step, &to, MR_E_INVALID,
             "stage 'step', item 5: the stage set an output size of 65 bytes");
    step.submit = do_nothing;
    step.output_bytes = 50;
    step.output_size = size_too_large;
    run_with(&from, &step, &to, MR_E_INVALID,
             "stage 'step', item 6: the output would have 100 bytes, but output_bytes is 50");
    step = stage_on(device);
    to.lend = lend_nothing;
    run_with(&from, &step, &to, MR_E_NO_MEMORY, "sink 'out', item 4: it lent no memory");
}

/* ---- life ---- */

static void calls_at_the_wrong_moment_are_refused(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make_line(NULL);
    assert_status(MR_E_STATE, mr_pipeline_wait(pipeline, 0));
    mr_pipeline_cancel(pipeline);
    mr_pipeline_drain(pipeline);
    mr_pipeline_progress_now now;
    mr_pipeline_progress(pipeline, &now);
    assert_int_equal(0, now.items_in);

    assert_ok(mr_pipeline_start(pipeline));
    assert_status(MR_E_STATE, mr_pipeline_start(pipeline));
    assert_status(MR_E_STATE, mr_pipeline_add_sink(pipeline, &sink, NULL));
    assert_ok(mr_pipeline_wait(pipeline, MR_FOREVER));
    assert_status(MR_E_STATE, mr_pipeline_wait(pipeline, 0));

    mr_pipeline_progress(pipeline, &now);
    assert_int_equal(10, now.items_in);
    assert_int_equal(10, now.items_out);
    assert_int_equal(640, now.bytes_out);
    mr_pipeline_destroy(pipeline);
}

static void nodes_may_be_added_between_runs(void **state)
{
    (void)state;
    mr_pipeline *pipeline = make_line(NULL);
    assert_ok(mr_pipeline_run(pipeline));
    mr_sink_options second = sink;
    second.input = 1;
    assert_ok(mr_pipeline_add_sink(pipeline, &second, NULL));
    assert_ok(mr_pipeline_run(pipeline));
    const mr_pipeline_report *report;
    assert_ok(mr_pipeline_report_get(pipeline, &report));
    assert_int_equal(4, report->node_count);
    mr_pipeline_destroy(pipeline);
}

static mr_status work_slowly(void *context, mr_host_call *call)
{
    const uint64_t *item_ns = context;
    (void)call;
    const uint64_t start = mr_device_now_ns(device);
    while (mr_device_now_ns(device) - start < *item_ns)
        continue;
    return MR_OK;
}

/* A run whose stage "slow" takes so long for each item. */
static mr_pipeline *run_slowly(uint64_t *item_ns, const mr_pipeline_report **report)
{
    mr_pipeline *pipeline = make(&(mr_pipeline_options){ .parcel_items = 1 });
    mr_stage_options stage = stage_on(device);
    mr_stage_options slow = {
        .name = "slow", .device = device, .work = work_slowly, .context = item_ns
    };
    assert_ok(mr_pipeline_add_source(pipeline, &source, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &stage, NULL));
    assert_ok(mr_pipeline_add_stage(pipeline, &slow, NULL));
    assert_ok(mr_pipeline_add_sink(pipeline, &sink, NULL));
    assert_ok(mr_pipeline_run(pipeline));
    assert_ok(mr_pipeline_report_get(pipeline, report));
    return pipeline;
}

static void report_says_what_a_run_did(void **state)
{
    (void)state;
    uint64_t item_ns = 200000;
    const mr_pipeline_report *report;
    mr_pipeline *pipeline = run_slowly(&item_ns, &report);

    assert_int_equal(10, report->items_in);
    assert_int_equal(10, report->items_out);
    assert_int_equal(10, report->parcels);
    assert_int_equal(640, report->bytes_in);
    assert_int_equal(640, report->bytes_out);
    assert_int_equal(4, report->node_count);
    assert_true(report->nodes[2].busy_ns >= 10 * item_ns * 19 / 20);
    for (size_t i = 0; i < report->node_count; i++)
        assert_int_equal(10, report->nodes[i].items);
    assert_int_equal(640, report->nodes[1].bytes_in);
    assert_int_equal(640, report->nodes[3].bytes_in);
    assert_true(report->overlap_bound >= 1);
    assert_string_equal("cpu", report->nodes[1].device);
    mr_pipeline_destroy(pipeline);
}

/* Where the machine takes the processor from another node, that one is slow as well: then the slow one
 * has to be slower. */
static void report_names_the_bottleneck(void **state)
{
    (void)state;
    bool is_named = false;
    for (uint64_t item_ns = 200000; !is_named; item_ns *= 2) {
        assert_true(item_ns < UINT64_C(1000000000));
        const mr_pipeline_report *report;
        mr_pipeline *pipeline = run_slowly(&item_ns, &report);
        is_named = strcmp("slow", report->nodes[report->bottleneck].name) == 0;
        mr_pipeline_destroy(pipeline);
    }
}

static void kinds_of_nodes_have_names(void **state)
{
    (void)state;
    assert_string_equal("source", mr_node_kind_name(MR_NODE_SOURCE));
    assert_string_equal("stage", mr_node_kind_name(MR_NODE_STAGE));
    assert_string_equal("sink", mr_node_kind_name(MR_NODE_SINK));
    assert_string_equal("copy", mr_node_kind_name(MR_NODE_COPY));
    assert_string_equal("unknown", mr_node_kind_name((mr_node_kind)0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(nodes_with_bad_options_are_refused),
        cmocka_unit_test(memory_outside_its_buffer_is_refused),
        cmocka_unit_test(graphs_that_cannot_run_are_refused),
        cmocka_unit_test(cycles_are_refused),
        cmocka_unit_test(items_that_do_not_fit_are_refused),
        cmocka_unit_test(slots_are_cut_to_the_memory_limit),
        cmocka_unit_test(broken_promises_are_told_with_node_and_item),
        cmocka_unit_test(calls_at_the_wrong_moment_are_refused),
        cmocka_unit_test(nodes_may_be_added_between_runs),
        cmocka_unit_test(report_says_what_a_run_did),
        cmocka_unit_test(report_names_the_bottleneck),
        cmocka_unit_test(kinds_of_nodes_have_names),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
