/* SPDX-License-Identifier: MIT */
/*
 * Pipelines whose stage is repeatable: whether parcels go as graphs or by the stream is the pipeline's
 * affair, and the items that come out are the same.
 */
#include "support/check.h"
#include "support/suite.h"

#include <millrace/pipeline.h>

#include <string.h>

enum { ELEMENTS = 64, ITEM_BYTES = ELEMENTS * sizeof(float), ITEMS = 12005, PARCEL = 64 };

struct play {
    mr_device *device;
    mr_kernel *kernel;
    mr_buffer *bias;
    uint32_t replicas;
    bool is_varied;
    uint64_t taken;
};

static float value_of(uint64_t item, uint32_t element)
{
    return (float)(item % 1000 * 8 + element % 7);
}

static size_t size_of(const struct play *play, uint64_t item)
{
    return ITEM_BYTES - (play->is_varied && item > ITEMS / 2 ? item % 3 * sizeof(float) : 0);
}

static mr_status give_item(void *context, mr_source_item *item)
{
    if (item->index == ITEMS)
        return MR_END;
    float *values = item->data;
    for (uint32_t i = 0; i < ELEMENTS; i++)
        values[i] = value_of(item->index, i);
    item->size_bytes = size_of(context, item->index);
    return MR_OK;
}

static mr_status add_bias(void *context, mr_stage_call *call)
{
    const struct play *play = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const mr_argument arguments[] = { mr_argument_range(in->buffer, in->offset, in->sizes[0]),
                                      mr_argument_range(play->bias, 0, in->sizes[0]),
                                      mr_argument_range(out->buffer, out->offset, in->sizes[0]),
                                      mr_argument_u64(in->sizes[0] / sizeof(float)) };
    const mr_launch launch = { .count = in->sizes[0] / sizeof(float),
                               .slice_limit = call->slice_limit };
    return mr_kernel_launch(call->stream, play->kernel, &launch, arguments, 4);
}

static mr_status check_item(void *context, const mr_sink_item *item)
{
    struct play *play = context;
    const float *values = item->data;
    CHECK_EQ(play->taken, item->index);
    CHECK_EQ(size_of(play, item->index), item->size_bytes);
    for (uint32_t i = 0; i < item->size_bytes / sizeof(float); i++)
        CHECK(values[i] == value_of(item->index, i) + 1);
    play->taken++;
    return MR_OK;
}

static void check_report(const mr_pipeline *pipeline)
{
    const mr_pipeline_report *report;
    CHECK_OK(mr_pipeline_report_get(pipeline, &report));
    for (size_t i = 0; i < report->node_count; i++) {
        const mr_node_report *node = &report->nodes[i];
        CHECK(node->replayed_parcels <= report->parcels);
        CHECK(node->kind == MR_NODE_STAGE ? *node->replay_words : !*node->replay_words);
    }
}

static mr_pipeline *make_pipeline(struct play *play)
{
    mr_pipeline *pipeline;
    const mr_pipeline_options options = { .parcel_items = PARCEL, .slot_count = 4 };
    const mr_source_options source = { .next = give_item,
                                       .context = play,
                                       .item_bytes = ITEM_BYTES };
    const mr_stage_options stage = { .device = play->device,
                                     .submit = add_bias,
                                     .context = play,
                                     .replicas = play->replicas,
                                     .is_repeatable = true };
    const mr_sink_options sink = { .take = check_item, .context = play };
    CHECK_OK(mr_pipeline_create(&options, &pipeline));
    CHECK_OK(mr_pipeline_add_source(pipeline, &source, NULL));
    CHECK_OK(mr_pipeline_add_stage(pipeline, &stage, NULL));
    CHECK_OK(mr_pipeline_add_sink(pipeline, &sink, NULL));
    return pipeline;
}

static void run_play(struct play *play)
{
    const float one = 1;
    uint32_t bits;
    mr_stream *stream;
    memcpy(&bits, &one, sizeof bits);
    CHECK_OK(mr_kernel_open(play->device, "add_f32", &play->kernel));
    CHECK_OK(mr_buffer_create(play->device, ITEM_BYTES, NULL, &play->bias));
    CHECK_OK(mr_stream_create(play->device, NULL, &stream));
    CHECK_OK(mr_fill(stream, play->bias, 0, ITEM_BYTES, bits, sizeof bits));
    CHECK_OK(mr_stream_wait(stream));
    mr_stream_destroy(stream);
    mr_pipeline *pipeline = make_pipeline(play);

    for (int run = 0; run < 2; run++) {
        play->taken = 0;
        CHECK_OK(mr_pipeline_run(pipeline));
        CHECK_EQ(ITEMS, play->taken);
        check_report(pipeline);
    }

    mr_pipeline_destroy(pipeline);
    mr_buffer_destroy(play->bias);
    mr_kernel_destroy(play->kernel);
}

static void every_item_comes_out_as_computed(mr_device *device)
{
    run_play(&(struct play){ .device = device });
}

static void over_several_streams_as_well(mr_device *device)
{
    run_play(&(struct play){ .device = device, .replicas = 3 });
}

static void sizes_may_begin_to_change(mr_device *device)
{
    run_play(&(struct play){ .device = device, .is_varied = true });
}

static mr_status work_nothing(void *context, mr_host_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static void host_work_is_not_repeatable(mr_device *device)
{
    mr_pipeline *pipeline;
    (void)device;
    mr_device *host;
    CHECK_OK(mr_device_open("cpu", NULL, &host));
    CHECK_OK(mr_pipeline_create(NULL, &pipeline));
    CHECK_STATUS(MR_E_INVALID, mr_pipeline_add_stage(pipeline,
                                                     &(mr_stage_options){ .device = host,
                                                                          .work = work_nothing,
                                                                          .is_repeatable = true },
                                                     NULL));
    mr_pipeline_destroy(pipeline);
    CHECK_OK(mr_device_close(host));
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(every_item_comes_out_as_computed),
        SUITE_TEST(over_several_streams_as_well),
        SUITE_TEST(sizes_may_begin_to_change),
        SUITE_TEST(host_work_is_not_repeatable),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
