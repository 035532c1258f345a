/* SPDX-License-Identifier: MIT */
/*
 * Memory is a matter of the pipeline's shape, not of the input's length: the peak resident size of a
 * process that streams 1 GiB and of one that streams 8 GiB from a generator through a stage to nothing.
 *
 *     bench_stream_memory [--device D] [--json FILE]
 *     bench_stream_memory --child GIB [--device D]       (what it runs for each)
 */
#include "measure.h"
#include "require.h"

#include <millrace/pipeline.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ITEM_BYTES = 1 << 20 };

struct stream {
    uint64_t item_count, next;
    uint64_t sum_in, sum_out;
};

static mr_status generate(void *context, mr_source_item *item)
{
    struct stream *stream = context;
    if (stream->next == stream->item_count)
        return MR_END;
    uint64_t *words = item->data;
    const uint64_t value = stream->next++ * 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < ITEM_BYTES / sizeof *words; i++)
        words[i] = value + i;
    stream->sum_in += words[7] ^ 1;
    item->size_bytes = ITEM_BYTES;
    return MR_OK;
}

static void flip_kernel(const mr_slice *slice, void *const *arguments)
{
    const uint64_t *source = arguments[0];
    uint64_t *target = arguments[1];
    const uint64_t count = *(const uint64_t *)arguments[2];
    for (uint64_t i = count * slice->index / slice->count;
         i < count * (slice->index + 1) / slice->count; i++)
        target[i] = source[i] ^ 1;
}

static mr_status flip(void *context, mr_stage_call *call)
{
    const mr_argument arguments[] = {
        mr_argument_range(call->inputs[0].buffer, call->inputs[0].offset, ITEM_BYTES),
        mr_argument_range(call->output->buffer, call->output->offset, ITEM_BYTES),
        mr_argument_u64(ITEM_BYTES / sizeof(uint64_t)),
    };
    return mr_kernel_launch(call->stream, context,
                            &(mr_launch){ .count = ITEM_BYTES / sizeof(uint64_t) }, arguments, 3);
}

static mr_status drop(void *context, const mr_sink_item *item)
{
    struct stream *stream = context;
    stream->sum_out += ((const uint64_t *)item->data)[7];
    return MR_OK;
}

/* Streams and checks that what came out is what went in. */
static void run_child(double gib)
{
    struct stream stream = { .item_count = (uint64_t)(gib * 1024) };
    mr_device *device = NULL;
    mr_kernel *kernel = NULL;
    mr_pipeline *pipeline = NULL;
    mr_node node;
    require_ok(mr_device_open("cpu", NULL, &device));
    require_ok(mr_kernel_create(
        device,
        &(mr_kernel_options){ .language = MR_KERNEL_NATIVE,
                              .name = "flip",
                              .signature = "in u64 source, out u64 target, value u64 count",
                              .function = flip_kernel },
        &kernel));
    require_ok(mr_pipeline_create(NULL, &pipeline));
    require_ok(mr_pipeline_add_source(
        pipeline,
        &(mr_source_options){ .next = generate, .context = &stream, .item_bytes = ITEM_BYTES },
        &node));
    require_ok(mr_pipeline_add_stage(
        pipeline, &(mr_stage_options){ .device = device, .submit = flip, .context = kernel },
        &node));
    require_ok(mr_pipeline_add_sink(pipeline,
                                    &(mr_sink_options){ .take = drop, .context = &stream }, &node));
    require_ok(mr_pipeline_run(pipeline));
    measure_require(stream.sum_in == stream.sum_out, "items lost or changed");
    mr_pipeline_destroy(pipeline);
    mr_kernel_destroy(kernel);
    require_ok(mr_device_close(device));
}

struct cost {
    double peak_mib, seconds;
};

static struct cost run_process(const char *program, const char *gib)
{
    const double began = measure_now_s();
    const pid_t child = fork();
    measure_require(child >= 0, "cannot fork");
    if (child == 0) {
        execl(program, program, "--child", gib, (char *)NULL);
        _exit(127);
    }
    int status;
    struct rusage usage;
    measure_require(wait4(child, &status, 0, &usage) == child && status == 0,
                    "the run of %s GiB failed", gib);
    return (struct cost){ (double)usage.ru_maxrss / 1024, measure_now_s() - began };
}

int main(int argc, char **argv)
{
    const double child_gib = measure_option_number(argc, argv, "child", 0);
    if (child_gib > 0) {
        run_child(child_gib);
        return 0;
    }
    struct measure_report report;
    measure_report_init(&report, "stream_memory", &argc, argv);
    const char *const sizes[] = { "1", "8" };
    double peaks[2];
    for (int i = 0; i < 2; i++) {
        double values[3];
        struct cost cost = { 0 };
        for (int k = 0; k < 3; k++) {
            cost = run_process("/proc/self/exe", sizes[i]);
            values[k] = cost.peak_mib;
        }
        peaks[i] = measure_median(values, 3);
        measure_report_add(&report, peaks[i], "MiB", "peak resident size, %s GiB streamed",
                           sizes[i]);
        measure_report_add(&report, atof(sizes[i]) * 1.073741824 / cost.seconds, "GB/s",
                           "rate, %s GiB streamed", sizes[i]);
    }
    measure_report_target(&report, peaks[1] / peaks[0], "", "<=", 1.05,
                          "peak resident size of 8 GiB against 1 GiB");
    return measure_report_finish(&report);
}
