/* SPDX-License-Identifier: MIT */
/*
 * A run: sinks and stages begin, a pipeline is built of them and waited for, outputs are finished
 * and given their names, or abandoned.
 */
#include "base/clock.h"
#include "job/job_parts.h"

#include <stdio.h>
#include <string.h>

#define LOOK_NS 50000000ull /* how long a cancel may go unseen */
#define PROGRESS_NS 100000000ull

/* ---- what the pipeline calls ---- */

static mr_status source_next(void *context, mr_source_item *item)
{
    return mr__source_next(context, item->index, item->data, &item->size_bytes);
}

static void source_interrupt(void *context)
{
    struct mr__source *source = context;
    source->ops->interrupt(source);
}

static mr_status sink_take(void *context, const mr_sink_item *item)
{
    return mr__sink_take(context, item->index, item->data, item->size_bytes);
}

/* An item of elements of another size: as many of them as came in. */
static size_t element_output_size(void *context, uint64_t index, const size_t *input_sizes)
{
    const struct mr__stage *stage = context;
    (void)index;
    return input_sizes[0] / mr_type_size(stage->inputs[0]->type.dtype) *
           mr_type_size(stage->output.type.dtype);
}

/* ---- building ---- */

static mr_status add_source(mr_job *job, mr_pipeline *pipeline, mr_node *out)
{
    struct mr__source *source = job->source;
    const mr_source_options options = {
        .name = "source",
        .next = source_next,
        .interrupt = source->ops->interrupt ? source_interrupt : NULL,
        .context = source,
        .item_bytes = source->item_bytes,
        .item_count = source->is_counted ? source->item_count : 0,
    };
    return mr_pipeline_add_source(pipeline, &options, out);
}

/* On several devices: the stage's like on the device of the call. */
static mr_status submit_on_lane(void *context, mr_stage_call *call)
{
    struct mr__stage *stage = mr__stage_on(context, call->lane);
    return stage->op->submit(stage, call);
}

static mr_status work_on_lane(void *context, mr_host_call *call)
{
    struct mr__stage *stage = mr__stage_on(context, call->lane);
    return stage->op->work(stage, call);
}

static mr_status add_stage(const struct mr__stage *stage, mr_pipeline *pipeline,
                           const mr_node *nodes, mr_node *out)
{
    const bool is_pinned = !stage->lanes || stage->device_name || stage->is_host_work;
    mr_stage_options options = {
        .name = stage->name,
        .device = is_pinned ? stage->device : NULL,
        .submit = stage->is_host_work ? NULL
                  : stage->lanes      ? submit_on_lane
                                      : stage->op->submit,
        .work = !stage->is_host_work ? NULL
                : stage->lanes       ? work_on_lane
                                     : stage->op->work,
        .context = (void *)(uintptr_t)stage,
        .output_bytes = stage->output.item_bytes,
        .output_size = stage->output.has_short_last ? element_output_size : NULL,
        .replicas = stage->replicas,
        .is_parcel_wise = stage->is_parcel_wise,
        .is_repeatable = stage->is_repeatable && !stage->is_host_work,
    };
    for (uint32_t k = 0; k < stage->input_count; k++)
        options.inputs[k] = nodes[stage->input_indices[k]];
    return mr_pipeline_add_stage(pipeline, &options, out);
}

static mr_status build(mr_job *job, mr_pipeline *pipeline)
{
    mr_node nodes[MR__STAGE_LIMIT + 1] = { 0 }; /* by `from` index */
    mr_status status = add_source(job, pipeline, &nodes[0]);
    for (uint32_t k = 0; k < job->stage_count && !status; k++) {
        const uint32_t index = job->order[k];
        status = add_stage(job->stages[index], pipeline, nodes, &nodes[index + 1]);
    }
    for (uint32_t k = 0; k < job->sink_count && !status; k++) {
        const struct mr__job_sink *sink = &job->sinks[k];
        mr_node node;
        status = mr_pipeline_add_sink(pipeline,
                                      &(mr_sink_options){ .name = sink->sink->name,
                                                          .take = sink_take,
                                                          .context = sink->sink,
                                                          .input = nodes[sink->from] },
                                      &node);
    }
    return status;
}

/* ---- begin and end ---- */

static mr_status begin_stage(struct mr__stage *stage)
{
    const mr_status status = stage->op->begin ? stage->op->begin(stage) : MR_OK;
    return status ? mr_error_prefix(status, "stage '%s': ", stage->name) : MR_OK;
}

static mr_status begin(mr_job *job)
{
    mr_status status = job->source->ops->open ? job->source->ops->open(job->source) : MR_OK;
    for (uint32_t k = 0; k < job->stage_count && !status; k++) {
        status = begin_stage(job->stages[k]);
        for (uint32_t lane = 1; lane < job->stages[k]->lane_count && !status; lane++)
            status = begin_stage(job->stages[k]->lanes[lane]);
    }
    for (uint32_t k = 0; k < job->sink_count && !status; k++)
        status = mr__sink_begin(job->sinks[k].sink);
    return status;
}

static void end_stages(mr_job *job)
{
    for (uint32_t k = 0; k < job->stage_count; k++) {
        struct mr__stage *stage = job->stages[k];
        for (uint32_t lane = 1; stage->op->end && lane < stage->lane_count; lane++)
            stage->op->end(stage->lanes[lane]);
        if (stage->op->end)
            stage->op->end(stage);
    }
}

/* First all outputs are completed, then all get their names: one that fails leaves none. */
static mr_status publish(mr_job *job)
{
    mr_status status = MR_OK;
    for (uint32_t k = 0; k < job->sink_count && !status; k++)
        status = mr__sink_finish(job->sinks[k].sink);
    for (uint32_t k = 0; k < job->sink_count && !status; k++)
        status = mr__output_publish(&job->sinks[k].sink->output);
    return status;
}

static void abandon(mr_job *job)
{
    for (uint32_t k = 0; k < job->sink_count; k++)
        mr__sink_abandon(job->sinks[k].sink);
}

/* ---- waiting ---- */

struct speedometer {
    double seconds, bytes; /* at the last look */
    double rate;           /* smoothed */
};

/* Of all devices together, and of each of several. */
struct meters {
    struct speedometer all, devices[MR_PIPELINE_DEVICE_LIMIT];
    mr_job_device_progress told[MR_PIPELINE_DEVICE_LIMIT];
};

static void look_at(struct speedometer *meter, double seconds, double bytes)
{
    if (seconds <= meter->seconds)
        return;
    /* What a lost device did not bring out is taken off. */
    const double gained = bytes > meter->bytes ? bytes - meter->bytes : 0;
    const double rate = gained / (seconds - meter->seconds);
    meter->rate = meter->rate > 0 ? 0.8 * meter->rate + 0.2 * rate : rate;
    meter->seconds = seconds;
    meter->bytes = bytes;
}

static size_t look_at_devices(const mr_pipeline *pipeline, struct meters *meters, double seconds)
{
    mr_device_progress devices[MR_PIPELINE_DEVICE_LIMIT];
    const size_t count = mr_pipeline_progress_devices(pipeline, devices, MR_PIPELINE_DEVICE_LIMIT);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        struct speedometer *meter = &meters->devices[i];
        look_at(meter, seconds, (double)devices[i].bytes);
        if (devices[i].is_lost)
            meter->rate = 0;
        sum += meter->rate;
    }
    for (size_t i = 0; i < count; i++) {
        const double rate = meters->devices[i].rate;
        meters->told[i] = (mr_job_device_progress){ .items = devices[i].items,
                                                    .bytes = devices[i].bytes,
                                                    .bytes_per_second = rate,
                                                    .share = sum > 0 ? rate / sum : 0,
                                                    .is_lost = devices[i].is_lost };
        memcpy(meters->told[i].device, devices[i].device, sizeof devices[i].device);
    }
    return count;
}

static void tell_progress(const mr_job *job, const mr_pipeline *pipeline, struct meters *meters,
                          const mr_job_run_options *options)
{
    mr_pipeline_progress_now now;
    mr_pipeline_progress(pipeline, &now);
    const double seconds = (double)now.elapsed_ns * 1e-9;
    look_at(&meters->all, seconds, (double)now.bytes_in);
    mr_job_progress progress = {
        .items_in = now.items_in,
        .items_out = now.items_out,
        .items_skipped = now.items_skipped,
        .bytes_in = now.bytes_in,
        .bytes_out = now.bytes_out,
        .seconds = seconds,
        .bytes_per_second = meters->all.rate,
        .seconds_left = -1,
        .devices = meters->told,
        .device_count = look_at_devices(pipeline, meters, seconds),
    };
    if (job->vision) {
        const uint64_t skipped = atomic_load(&job->vision->skipped);
        progress.items_in += skipped;
        progress.items_skipped += skipped;
        progress.item_count = job->vision->list.count;
    } else if (job->source->is_counted) {
        progress.item_count = job->source->item_count;
    }
    const double done = (double)(progress.items_out + progress.items_skipped);
    if (progress.item_count && done > 0)
        progress.seconds_left = seconds / done * ((double)progress.item_count - done);
    options->progress(options->context, &progress);
}

mr_status mr__job_wait(mr_job *job, mr_pipeline *pipeline, const mr_job_run_options *options)
{
    const uint64_t interval =
        options->progress_interval_ns ? options->progress_interval_ns : PROGRESS_NS;
    const uint64_t look = options->progress && interval < LOOK_NS ? interval : LOOK_NS;
    struct meters meters = { 0 };
    uint64_t told = mr__clock_now_ns();
    bool has_cancelled = false;
    for (;;) {
        const mr_status status = mr_pipeline_wait(pipeline, look);
        if (status != MR_E_TIMEOUT)
            return status;
        if (atomic_load(&job->is_cancelled) && !has_cancelled) {
            mr_pipeline_cancel(pipeline);
            has_cancelled = true;
        }
        const uint64_t now = mr__clock_now_ns();
        if (options->progress && now - told >= interval) {
            tell_progress(job, pipeline, &meters, options);
            told = now;
        }
    }
}

/* Builds and runs a pipeline, and keeps its report. */
static mr_status stream(mr_job *job, const mr_job_run_options *options, mr_pipeline **out)
{
    mr_pipeline_options pipeline_options = job->options;
    pipeline_options.name = job->name;
    if (job->lane_count > 1) {
        pipeline_options.devices = job->lanes;
        pipeline_options.device_count = job->lane_count;
    }
    mr_status status = mr_pipeline_create(&pipeline_options, out);
    if (!status)
        status = build(job, *out);
    if (!status && atomic_load(&job->is_cancelled))
        status = mr_error_set(MR_E_CANCELLED, "the run was cancelled before it started");
    if (!status)
        status = mr_pipeline_start(*out);
    return status ? status : mr__job_wait(job, *out, options);
}

static mr_status run(mr_job *job, const mr_job_run_options *options)
{
    mr_pipeline *pipeline = NULL;
    mr_status status = begin(job);
    if (!status)
        status = stream(job, options, &pipeline);
    if (!status)
        status = publish(job);
    char words[MR_ERROR_BYTES] = "";
    if (status)
        snprintf(words, sizeof words, "%s", mr_last_error());
    const mr_status kept = mr__job_keep_report(job, pipeline, status == MR_OK);
    mr_pipeline_destroy(pipeline);
    end_stages(job);
    abandon(job); /* of what is published nothing is left to abandon */
    return status ? mr_error_set(status, "%s", words) : kept;
}

mr_status mr_job_run(mr_job *job, const mr_job_run_options *options)
{
    static const mr_job_run_options no_options;
    if (!options)
        options = &no_options;
    mr__job_forget_report(job);
    job->has_run = true;
    mr_status status = options->is_verified ? mr__job_can_verify(job) : MR_OK;
    if (!status)
        status = job->vision ? mr__vision_run(job, options) : run(job, options);
    if (!status && options->is_verified)
        status = mr__job_verify(job, options);
    job->report.status = status;
    snprintf(job->words, sizeof job->words, "%s", status ? mr_last_error() : "");
    job->report.words = job->words;
    atomic_store(&job->is_cancelled, 0);
    return status;
}

void mr_job_cancel(mr_job *job)
{
    atomic_store(&job->is_cancelled, 1);
}
