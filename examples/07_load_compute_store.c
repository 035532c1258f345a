/* SPDX-License-Identifier: MIT */
/*
 * Three stages and functions of one's own at both ends: a source that fills slots, a portable kernel
 * compiled from the text below, a stage of host work, and a sink that is handed the results in order.
 *
 *     07_load_compute_store [DEVICE]
 *
 * Prints: 500 items, sum of their largest squares 124500500
 */
#include "check.h"

enum { ITEMS = 500, COUNT = 1000 };

static const char square_text[] = "#include <millrace/portable.h>\n"
                                  "MR_KERNEL(square, MR_IN(uint32_t, source),\n"
                                  "          MR_OUT(uint32_t, target), MR_VALUE(uint64_t, count))\n"
                                  "{\n"
                                  "    MR_EACH (i, count)\n"
                                  "        target[i] = source[i] * source[i];\n"
                                  "}\n";

static mr_status load(void *context, mr_source_item *item)
{
    (void)context;
    if (item->index == ITEMS)
        return MR_END;
    uint32_t *numbers = item->data;
    for (uint32_t i = 0; i < COUNT; i++)
        numbers[i] = (i + (uint32_t)item->index) % ITEMS;
    item->size_bytes = item->capacity_bytes;
    return MR_OK;
}

static mr_status square(void *context, mr_stage_call *call)
{
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const mr_argument arguments[] = {
        mr_argument_range(in->buffer, in->offset, in->sizes[0]),
        mr_argument_range(out->buffer, out->offset, out->sizes[0]),
        mr_argument_u64(COUNT),
    };
    return mr_kernel_launch(call->stream, context, &(mr_launch){ .count = COUNT }, arguments, 3);
}

/* On the host, in stream order: keeps the largest number of each item. */
static mr_status find_largest(void *context, mr_host_call *call)
{
    (void)context;
    for (uint32_t k = 0; k < call->item_count; k++) {
        const char *in = (const char *)call->inputs[0] + k * call->input_strides[0];
        uint32_t *largest = (uint32_t *)((char *)call->output + k * call->output_stride);
        *largest = 0;
        for (uint32_t i = 0; i < COUNT; i++) {
            const uint32_t number = ((const uint32_t *)in)[i];
            *largest = number > *largest ? number : *largest;
        }
    }
    return MR_OK;
}

static mr_status store(void *context, const mr_sink_item *item)
{
    uint64_t *sum = context;
    *sum += *(const uint32_t *)item->data;
    return MR_OK;
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv), *cpu;
    mr_kernel *kernel;
    mr_pipeline *pipeline;
    mr_node node;
    uint64_t sum = 0;
    CHECK(mr_device_open("cpu", NULL, &cpu));
    CHECK(mr_kernel_create(device, &(mr_kernel_options){ .name = "square", .source = square_text },
                           &kernel));
    CHECK(mr_pipeline_create(&(mr_pipeline_options){ .name = "squares" }, &pipeline));
    CHECK(mr_pipeline_add_source(
        pipeline, &(mr_source_options){ .next = load, .item_bytes = COUNT * sizeof(uint32_t) },
        &node));
    CHECK(mr_pipeline_add_stage(
        pipeline,
        &(mr_stage_options){
            .name = "square", .device = device, .submit = square, .context = kernel },
        &node));
    CHECK(mr_pipeline_add_stage(pipeline,
                                &(mr_stage_options){ .name = "largest",
                                                     .device = cpu,
                                                     .work = find_largest,
                                                     .output_bytes = sizeof(uint32_t) },
                                &node));
    CHECK(mr_pipeline_add_sink(pipeline, &(mr_sink_options){ .take = store, .context = &sum },
                               &node));
    CHECK(mr_pipeline_run(pipeline));

    EXPECT(sum == (uint64_t)ITEMS * (ITEMS - 1) * (ITEMS - 1));
    printf("%d items, sum of their largest squares %llu\n", ITEMS, (unsigned long long)sum);

    mr_pipeline_destroy(pipeline);
    mr_kernel_destroy(kernel);
    CHECK(mr_device_close(cpu));
    CHECK(mr_device_close(device));
    return 0;
}
