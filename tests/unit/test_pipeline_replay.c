/* SPDX-License-Identifier: MIT */
/*
 * Stages that are repeatable: parcels launched as graphs give what the stage's own calls give, and what
 * cannot be replayed goes by the stream. On the CPU and on the stand-in GPU, graphs wherever they can be.
 */
#include "support/fault_driver.h"
#include "support/unit.h"

#include "flow/pipeline.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { ELEMENTS = 64, ITEM_BYTES = ELEMENTS * sizeof(float), ITEMS = 403, PARCEL = 8, SLOTS = 3 };

static const char *const device_names[] = { "cpu", "cuda" };

/* ---- one pipeline ---- */

enum wrong { NOTHING, WAITS, FAILS_ONCE, SIZES_BY_DEVICE, CHANGES_FORM };

struct play {
    const char *device_name;
    uint32_t item_count, replicas;
    bool is_parcel_wise, is_in_place, is_varied, is_shrinking, is_not_repeatable;
    mr_error_policy on_error;
    uint32_t retry_limit;
    uint64_t failing_period; /* of items of a stage before; 0: none */
    enum wrong wrong;
    uint64_t cancel_at;      /* 0: not at all */
    uint32_t measure_period; /* 0: not measured */

    mr_device *device, *host;
    mr_kernel *kernel;
    mr_buffer *bias, *words;
    mr_pipeline *pipeline;
    float added;
    uint32_t bias_bits;
    uint64_t calls, taken, next_index;
    uint64_t timed, timed_end; /* items that were timed, and up to which */
    bool has_failed, is_told_late;
};

static float value_of(uint64_t item, uint32_t element)
{
    return (float)(item * 3 + element % 7);
}

/* A varied item lacks some of its end; which do, shifts from parcel to parcel. */
static size_t size_of(const struct play *play, uint64_t item)
{
    return play->is_varied || play->wrong == CHANGES_FORM
               ? ITEM_BYTES - item % 5 * sizeof(float) * 4
               : ITEM_BYTES;
}

static mr_status give_item(void *context, mr_source_item *item)
{
    struct play *play = context;
    if (item->index == play->item_count)
        return MR_END;
    float *values = item->data;
    for (uint32_t i = 0; i < ELEMENTS; i++)
        values[i] = value_of(item->index, i);
    item->size_bytes = size_of(play, item->index);
    return MR_OK;
}

static mr_status fail_some(void *context, mr_host_call *call)
{
    const struct play *play = context;
    memcpy(call->output, call->inputs[0], call->input_sizes[0][0]);
    if (play->failing_period && call->first_index % play->failing_period == 5)
        return mr_error_set(MR_E_IO, "item of ill luck");
    return MR_OK;
}

static mr_status go_wrong(struct play *play, mr_stage_call *call)
{
    if (play->wrong == WAITS)
        return mr_stream_wait(call->stream);
    if (play->wrong == FAILS_ONCE && !play->has_failed && play->calls > ITEMS / 2) {
        play->has_failed = true;
        return mr_error_set(MR_E_IO, "once");
    }
    if (play->wrong == CHANGES_FORM && call->inputs[0].sizes[0] == ITEM_BYTES)
        return mr_fill(call->stream, play->bias, ITEM_BYTES - sizeof(float), sizeof(float),
                       play->bias_bits, sizeof(float));
    if (play->wrong != SIZES_BY_DEVICE)
        return MR_OK;
    call->device_sizes = play->words;
    return MR_OK;
}

static mr_status add_bias(void *context, mr_stage_call *call)
{
    struct play *play = context;
    const mr_parcel_view *in = &call->inputs[0];
    play->calls++;
    for (uint32_t k = 0; k < call->item_count; k++) {
        const size_t at = k * in->stride_bytes;
        const mr_argument arguments[] = {
            mr_argument_range(in->buffer, in->offset + at, in->sizes[k]),
            mr_argument_range(play->bias, 0, in->sizes[k]),
            mr_argument_range(call->output->buffer, call->output->offset + at, in->sizes[k]),
            mr_argument_u64(in->sizes[k] / sizeof(float))
        };
        const mr_launch launch = { .count = in->sizes[k] / sizeof(float),
                                   .slice_limit = call->slice_limit };
        const mr_status status =
            mr_kernel_launch(call->stream, play->kernel, &launch, arguments, 4);
        if (status)
            return status;
        if (play->is_shrinking)
            call->output->sizes[k] = in->sizes[k] / 2;
    }
    return go_wrong(play, call);
}

static mr_status check_item(void *context, const mr_sink_item *item)
{
    struct play *play = context;
    const float *values = item->data;
    const size_t size_bytes = size_of(play, item->index) / (play->is_shrinking ? 2 : 1);
    if (item->index < play->next_index || item->size_bytes != size_bytes)
        return mr_error_set(MR_E_MISMATCH, "item %d has %d bytes", (int)item->index,
                            (int)item->size_bytes);
    for (uint32_t i = 0; i < size_bytes / sizeof(float); i++) {
        if (values[i] != value_of(item->index, i) + play->added)
            return mr_error_set(MR_E_MISMATCH, "item %d, element %d is %g", (int)item->index,
                                (int)i, (double)values[i]);
    }
    play->next_index = item->index + 1;
    play->taken++;
    if (play->cancel_at == item->index + 1)
        mr_pipeline_cancel(play->pipeline);
    return MR_OK;
}

static void note_time(void *context, uint64_t first_index, uint32_t item_count, uint64_t busy_ns)
{
    struct play *play = context;
    play->is_told_late |= first_index < play->next_index || first_index < play->timed_end ||
                          !item_count || busy_ns > 1000000000000;
    play->timed += item_count;
    play->timed_end = first_index + item_count;
}

static mr_status add_nodes(struct play *play)
{
    const mr_source_options source = {
        .next = give_item, .context = play, .item_bytes = ITEM_BYTES, .is_inline = true
    };
    const mr_stage_options before = {
        .name = "before", .device = play->host, .work = fail_some, .context = play
    };
    const mr_stage_options stage = { .name = "add",
                                     .device = play->device,
                                     .submit = add_bias,
                                     .context = play,
                                     .replicas = play->replicas,
                                     .is_parcel_wise = play->is_parcel_wise,
                                     .is_in_place = play->is_in_place,
                                     .is_repeatable = !play->is_not_repeatable,
                                     .note_time = note_time };
    const mr_sink_options sink = { .take = check_item, .context = play };
    mr_status status = mr_pipeline_add_source(play->pipeline, &source, NULL);
    if (!status && play->failing_period)
        status = mr_pipeline_add_stage(play->pipeline, &before, NULL);
    if (!status)
        status = mr_pipeline_add_stage(play->pipeline, &stage, NULL);
    if (!status)
        status = mr_pipeline_add_sink(play->pipeline, &sink, NULL);
    return status;
}

static mr_status fill_bias(struct play *play, float added)
{
    mr_stream *stream;
    uint32_t bits;
    mr_status status = mr_stream_create(play->device, NULL, &stream);
    if (status)
        return status;
    memcpy(&bits, &added, sizeof bits);
    play->bias_bits = bits;
    play->added = added;
    status = mr_fill(stream, play->bias, 0, ITEM_BYTES, bits, sizeof bits);
    if (!status && play->words)
        status = mr_fill(stream, play->words, 0, PARCEL * sizeof(uint64_t), ITEM_BYTES, 4);
    const mr_status end = mr_stream_wait(stream);
    mr_stream_destroy(stream);
    return status ? status : end;
}

/* The words of sizes that the device decides: each is ITEM_BYTES. */
static mr_status make_words(struct play *play)
{
    uint64_t sizes[PARCEL];
    mr_stream *stream;
    mr_buffer *view = NULL;
    for (int i = 0; i < PARCEL; i++)
        sizes[i] = ITEM_BYTES;
    mr_status status = mr_buffer_create(play->device, sizeof sizes, NULL, &play->words);
    if (status)
        return status;
    status = mr_stream_create(play->device, NULL, &stream);
    if (status)
        return status;
    status = mr_buffer_borrow(play->device, sizes, sizeof sizes, MR_PLACE_PAGEABLE, &view);
    if (!status)
        status = mr_copy(stream, play->words, 0, view, 0, sizeof sizes);
    const mr_status end = mr_stream_wait(stream);
    mr_buffer_destroy(view);
    mr_stream_destroy(stream);
    return status ? status : end;
}

static mr_status play_open(struct play *play)
{
    const mr_pipeline_options options = { .parcel_items = PARCEL,
                                          .slot_count = SLOTS,
                                          .on_error = play->on_error,
                                          .retry_limit = play->retry_limit,
                                          .is_measured = play->measure_period > 0,
                                          .measure_period = play->measure_period };
    mr_status status = mr_device_open(play->device_name, NULL, &play->device);
    if (!status && play->failing_period)
        status = mr_device_open("cpu", NULL, &play->host);
    if (!status)
        status = mr_kernel_open(play->device, "add_f32", &play->kernel);
    if (!status)
        status = mr_buffer_create(play->device, ITEM_BYTES, NULL, &play->bias);
    if (!status)
        status = fill_bias(play, 1);
    if (!status && play->wrong == SIZES_BY_DEVICE)
        status = make_words(play);
    if (!status)
        status = mr_pipeline_create(&options, &play->pipeline);
    return status ? status : add_nodes(play);
}

static void play_close(struct play *play)
{
    mr_pipeline_destroy(play->pipeline);
    mr_buffer_destroy(play->words);
    mr_buffer_destroy(play->bias);
    mr_kernel_destroy(play->kernel);
    if (play->host)
        assert_ok(mr_device_close(play->host));
    if (play->device)
        assert_ok(mr_device_close(play->device));
}

static const mr_node_report *report_of(const struct play *play)
{
    const mr_pipeline_report *report;
    assert_ok(mr_pipeline_report_get(play->pipeline, &report));
    for (size_t i = 0; i < report->node_count; i++) {
        if (!strcmp(report->nodes[i].name, "add"))
            return &report->nodes[i];
    }
    fail_msg("no report of the stage");
    return NULL;
}

/* All items of every so many parcels, the short one too, before they were taken; none unasked. */
static void check_times(const struct play *play)
{
    const uint64_t period = (uint64_t)play->measure_period * PARCEL;
    uint64_t expected = 0;
    for (uint64_t i = 0; period && i < play->item_count; i++)
        expected += i % period < PARCEL;
    assert_int_equal(play->timed, expected);
    assert_false(play->is_told_late);
}

/* Runs it on one device after the other; `expected` items come out, and some parcels are replayed, or
 * none with `words`. */
static void run_play(const struct play *wanted, uint64_t expected, const char *words)
{
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++) {
        struct play play = *wanted;
        play.device_name = device_names[i];
        play.item_count = play.item_count ? play.item_count : ITEMS;
        assert_ok(play_open(&play));

        assert_ok(mr_pipeline_run(play.pipeline));

        const mr_node_report *report = report_of(&play);
        assert_int_equal(play.taken, expected);
        check_times(&play);
        if (words && !strstr(report->replay_words, words))
            fail_msg("%s: \"%s\"", device_names[i], report->replay_words);
        if (!words && !report->replayed_parcels)
            fail_msg("%s: nothing was replayed: %s", device_names[i], report->replay_words);
        if (!words && !play.is_parcel_wise)
            assert_true(play.calls < play.item_count);
        play_close(&play);
    }
}

static int set_up(void **state)
{
    (void)state;
    mr__graphed_worth_ns = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fakecuda_fail_at(0, NULL, 0);
    mr__alloc_fail_at(0, 0);
    fakecuda_delay(0);
    return (int)fakecuda_live();
}

/* ---- what is replayed ---- */

static void replayed_parcels_hold_what_calls_would_have_made(void **state)
{
    (void)state;
    run_play(&(struct play){ .item_count = ITEMS }, ITEMS, NULL);
    run_play(&(struct play){ .item_count = PARCEL * SLOTS * 10 }, PARCEL * SLOTS * 10, NULL);
    fakecuda_delay(50);
    run_play(&(struct play){ .item_count = ITEMS }, ITEMS, NULL);
}

static void whole_parcels_are_replayed_too(void **state)
{
    (void)state;
    run_play(&(struct play){ .is_parcel_wise = true }, ITEMS, NULL);
}

static void several_streams_replay(void **state)
{
    (void)state;
    run_play(&(struct play){ .replicas = SLOTS, .item_count = 4 * ITEMS }, 4 * ITEMS, NULL);
}

/* Three slots over two streams: a slot comes to either in turn. */
static void a_slot_that_changes_streams_stays_right(void **state)
{
    (void)state;
    run_play(&(struct play){ .replicas = 2 }, ITEMS, "");
}

static void times_of_replayed_parcels_are_told(void **state)
{
    (void)state;
    run_play(&(struct play){ .measure_period = 1 }, ITEMS, NULL);
    run_play(&(struct play){ .measure_period = 1, .replicas = 2 }, ITEMS, "");
    run_play(&(struct play){ .measure_period = 5, .is_not_repeatable = true }, ITEMS,
             "not declared");
    run_play(&(struct play){ .measure_period = 1000 }, ITEMS, NULL);
}

static void work_in_place_is_replayed(void **state)
{
    (void)state;
    run_play(&(struct play){ .is_in_place = true }, ITEMS, NULL);
}

static void sizes_that_the_stage_leaves_come_back(void **state)
{
    (void)state;
    run_play(&(struct play){ .is_shrinking = true }, ITEMS, NULL);
}

static void a_second_run_captures_anew(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++) {
        struct play play = { .device_name = device_names[i], .item_count = ITEMS };
        assert_ok(play_open(&play));
        for (int run = 1; run < 4; run++) {
            mr_buffer *old = play.bias;
            assert_ok(mr_buffer_create(play.device, ITEM_BYTES, NULL, &play.bias));
            mr_buffer_destroy(old);
            assert_ok(fill_bias(&play, (float)run));
            play.next_index = play.taken = 0;

            assert_ok(mr_pipeline_run(play.pipeline));

            assert_int_equal(play.taken, ITEMS);
            assert_true(report_of(&play)->replayed_parcels > 0);
        }
        play_close(&play);
    }
}

/* ---- what is not ---- */

static void a_stage_that_does_not_say_so_is_called_for_each_item(void **state)
{
    (void)state;
    run_play(&(struct play){ .is_not_repeatable = true }, ITEMS, "not declared");
}

/* The stage is called for them, into a capture. */
static void sizes_that_change_from_lap_to_lap_are_updated(void **state)
{
    (void)state;
    run_play(&(struct play){ .is_varied = true, .item_count = 2 * ITEMS }, 2 * ITEMS, "");
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++) {
        struct play play = { .device_name = device_names[i],
                             .item_count = 2 * ITEMS,
                             .is_varied = true };
        assert_ok(play_open(&play));
        assert_ok(mr_pipeline_run(play.pipeline));
        assert_true(report_of(&play)->replayed_parcels > ITEMS / PARCEL);
        play_close(&play);
    }
}

/* Two launches for an item, or one, as the lap goes: no update can make one of the other. */
static void a_form_that_changes_from_lap_to_lap_ends_it(void **state)
{
    (void)state;
    run_play(&(struct play){ .wrong = CHANGES_FORM, .item_count = 4 * ITEMS }, 4 * ITEMS,
             "changes its form");
}

static void sizes_that_the_device_decides_end_it(void **state)
{
    (void)state;
    run_play(&(struct play){ .wrong = SIZES_BY_DEVICE, .is_parcel_wise = true }, ITEMS,
             "device decides");
}

static void a_call_that_breaks_the_capture_ends_it(void **state)
{
    (void)state;
    run_play(&(struct play){ .wrong = WAITS }, ITEMS, "mr_stream_wait");
}

static void cheap_submission_is_left_as_it_is(void **state)
{
    (void)state;
    mr__graphed_worth_ns = UINT64_MAX;
    run_play(&(struct play){ .replicas = 1 }, ITEMS, "nothing to gain");
}

static void few_parcels_are_not_worth_it(void **state)
{
    (void)state;
    run_play(&(struct play){ .item_count = PARCEL }, PARCEL, "too few full parcels");
}

/* ---- failures ---- */

static void parcels_with_failed_items_go_by_the_stream(void **state)
{
    (void)state;
    uint64_t lost = 0;
    for (uint64_t i = 0; i < ITEMS; i++)
        lost += i % 50 == 5;
    run_play(&(struct play){ .failing_period = 50, .on_error = MR_ERROR_SKIP }, ITEMS - lost, "");
}

static void an_item_that_fails_in_its_call_is_skipped_or_tried_again(void **state)
{
    (void)state;
    mr__graphed_worth_ns = UINT64_MAX; /* so that it is called for at all */
    run_play(&(struct play){ .wrong = FAILS_ONCE, .on_error = MR_ERROR_SKIP }, ITEMS - 1, "");
    run_play(&(struct play){ .wrong = FAILS_ONCE, .retry_limit = 1 }, ITEMS, "");
}

static mr_status always_fail_from(void *context, mr_stage_call *call)
{
    struct play *play = context;
    (void)call;
    return ++play->calls > 4 * PARCEL ? mr_error_set(MR_E_IO, "no more") : MR_OK;
}

/* The first capture fails in the stage: its items are judged by the stream path. */
static void a_stage_that_fails_while_captured_fails_its_items(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++) {
        struct play play = { .device_name = device_names[i], .item_count = ITEMS };
        mr_pipeline_options options = { .parcel_items = PARCEL, .slot_count = SLOTS };
        assert_ok(mr_device_open(play.device_name, NULL, &play.device));
        assert_ok(mr_pipeline_create(&options, &play.pipeline));
        const mr_source_options source = {
            .next = give_item, .context = &play, .item_bytes = ITEM_BYTES, .is_inline = true
        };
        const mr_stage_options stage = { .name = "add",
                                         .device = play.device,
                                         .submit = always_fail_from,
                                         .context = &play,
                                         .has_no_output = true,
                                         .is_repeatable = true };
        assert_ok(mr_pipeline_add_source(play.pipeline, &source, NULL));
        assert_ok(mr_pipeline_add_stage(play.pipeline, &stage, NULL));

        assert_status(MR_E_IO, mr_pipeline_run(play.pipeline));
        assert_words("no more");

        play_close(&play);
    }
}

static void a_run_that_is_cancelled_leaves_nothing(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++) {
        struct play play = { .device_name = device_names[i],
                             .item_count = UINT32_MAX,
                             .cancel_at = ITEMS };
        assert_ok(play_open(&play));
        assert_status(MR_E_CANCELLED, mr_pipeline_run(play.pipeline));
        assert_true(play.taken >= ITEMS);
        play_close(&play);
    }
}

static void survive(const char *device_name, struct fault *fault)
{
    fault->where = device_name;
    while (fault_next(fault)) {
        struct play play = { .device_name = device_name, .item_count = PARCEL * SLOTS * 4 };
        fault_begin(fault);
        mr_status status = play_open(&play);
        if (!status)
            status = mr_pipeline_run(play.pipeline);
        fault_end(fault, status);
        if (!status)
            assert_int_equal(play.taken, play.item_count);
        play_close(&play);
        fault_leaves_nothing(fault);
        if (fault->kind == &fault_driver_call && fault->nth >= 80)
            fault->step = 7;
    }
}

static void every_driver_call_may_fail(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    survive("cuda", &fault);
    assert_true(fault.nth > 80);
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof device_names / sizeof *device_names; i++)
        survive(device_names[i], &(struct fault){ .kind = &fault_allocation });
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(replayed_parcels_hold_what_calls_would_have_made),
        TEST(whole_parcels_are_replayed_too),
        TEST(several_streams_replay),
        TEST(a_slot_that_changes_streams_stays_right),
        TEST(times_of_replayed_parcels_are_told),
        TEST(work_in_place_is_replayed),
        TEST(sizes_that_the_stage_leaves_come_back),
        TEST(a_second_run_captures_anew),
        TEST(a_stage_that_does_not_say_so_is_called_for_each_item),
        TEST(sizes_that_change_from_lap_to_lap_are_updated),
        TEST(a_form_that_changes_from_lap_to_lap_ends_it),
        TEST(sizes_that_the_device_decides_end_it),
        TEST(a_call_that_breaks_the_capture_ends_it),
        TEST(cheap_submission_is_left_as_it_is),
        TEST(few_parcels_are_not_worth_it),
        TEST(parcels_with_failed_items_go_by_the_stream),
        TEST(an_item_that_fails_in_its_call_is_skipped_or_tried_again),
        TEST(a_stage_that_fails_while_captured_fails_its_items),
        TEST(a_run_that_is_cancelled_leaves_nothing),
        TEST(every_driver_call_may_fail),
        TEST(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
