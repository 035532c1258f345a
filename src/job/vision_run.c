/* SPDX-License-Identifier: MIT */
/*
 * A run of the vision job on the engine's pipeline:
 *
 *     crew ──► source ──┬──► textures ──┬──► scores ──► tokens ──► write ──► sink
 *       (decoded image) └───────────────┴── (three streams)   (the image, again)
 *
 * Both modes are this one graph: pipelined, each stage has one stream; concurrent, each has as many
 * as there are sets. What goes from stage to stage is a batch of images. Several devices have the graph
 * once each, and a batch goes to one of them. What an image becomes depends on nothing else, so the
 * bytes are the same.
 */
#include "job/vision_run.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "job/job_parts.h"

#include <stdio.h>
#include <string.h>

static struct mr__vision_record *record_of(const struct mr__vision_run *run, uint64_t index)
{
    return &run->vision->list.records[run->items[index]];
}

/* ---- the source ---- */

static mr_status next_image(void *context, mr_source_item *item)
{
    struct mr__vision_run *run = context;
    struct mr__vision_record *record;
    const mr_status status = mr__vision_crew_next(run->crew, &record, &item->buffer, &item->offset);
    if (status)
        return status;
    run->items[item->index] = (uint32_t)(record - run->vision->list.records);
    item->data = NULL;
    item->size_bytes = record->plan.image_bytes;
    return MR_OK;
}

static void give_back(void *context, uint64_t first_index, uint32_t item_count)
{
    struct mr__vision_run *run = context;
    (void)first_index;
    mr__vision_crew_give_back(run->crew, item_count);
}

static void interrupt(void *context)
{
    struct mr__vision_run *run = context;
    mr__vision_crew_interrupt(run->crew);
}

/* ---- the stages ---- */

/* Neighbours in a batch that are of one plan, and go together. */
struct alike {
    const struct mr__vision_plan *plan;
    uint32_t first, count;
};

/* Those that follow `alike`; false behind the last. */
static bool find_alike(const struct mr__vision_run *run, const mr_stage_call *call,
                       struct alike *alike)
{
    alike->first += alike->count;
    if (alike->first == call->item_count)
        return false;
    const uint64_t index = call->first_index + alike->first;
    const uint32_t left = call->item_count - alike->first;
    alike->plan = &record_of(run, index)->plan;
    alike->count = 1;
    while (alike->count < left &&
           mr__vision_is_alike(alike->plan, &record_of(run, index + alike->count)->plan))
        alike->count++;
    return true;
}

static struct mr__vision_place place_of(const mr_parcel_view *view, const struct alike *alike)
{
    return (struct mr__vision_place){ .buffer = view->buffer,
                                      .offset = view->offset + alike->first * view->stride_bytes,
                                      .stride_bytes = view->stride_bytes };
}

static mr_status submit_textures(void *context, mr_stage_call *call)
{
    const struct mr__vision_run *run = context;
    const struct mr__vision_lane *lane = &run->lanes[call->lane];
    mr_status status = MR_OK;
    for (struct alike alike = { 0 }; !status && find_alike(run, call, &alike);)
        status = mr__vision_enqueue_textures(lane->model, alike.plan, alike.count, call->stream,
                                             call->slice_limit, place_of(&call->inputs[0], &alike),
                                             place_of(call->output, &alike));
    return status;
}

static mr_status submit_scores(void *context, mr_stage_call *call)
{
    const struct mr__vision_run *run = context;
    const struct mr__vision_lane *lane = &run->lanes[call->lane];
    mr_status status = MR_OK;
    for (struct alike alike = { 0 }; !status && find_alike(run, call, &alike);)
        status = mr__vision_enqueue_scores(
            lane->model, alike.plan, alike.count, lane->scorers[call->replica], call->stream,
            call->slice_limit, place_of(&call->inputs[0], &alike),
            place_of(&call->inputs[1], &alike), place_of(call->output, &alike));
    return status;
}

static mr_status submit_tokens(void *context, mr_stage_call *call)
{
    const struct mr__vision_run *run = context;
    const struct mr__vision_lane *lane = &run->lanes[call->lane];
    mr_status status = MR_OK;
    for (struct alike alike = { 0 }; !status && find_alike(run, call, &alike);)
        status = mr__vision_enqueue_tokens(lane->model, alike.plan, alike.count, call->stream,
                                           call->slice_limit, place_of(&call->inputs[0], &alike),
                                           place_of(&call->inputs[1], &alike),
                                           place_of(call->output, &alike));
    return status;
}

/* On the device, of the batches that are measured: each image's share. */
static void note_time(struct mr__vision_run *run, uint64_t first_index, uint32_t item_count,
                      enum mr__vision_stage stage, uint64_t busy_ns)
{
    const uint64_t each_ns = busy_ns / item_count;
    for (uint32_t k = 0; k < item_count; k++) /* 0 is not measured */
        record_of(run, first_index + k)->stage_ns[stage] = each_ns ? each_ns : 1;
}

#define DEFINE_NOTE(name, stage)                                                                   \
    static void name(void *context, uint64_t first_index, uint32_t item_count, uint64_t busy_ns)   \
    {                                                                                              \
        note_time(context, first_index, item_count, stage, busy_ns);                               \
    }
DEFINE_NOTE(note_textures, MR__VISION_TEXTURES)
DEFINE_NOTE(note_scores, MR__VISION_SCORE)
DEFINE_NOTE(note_tokens, MR__VISION_ALLOCATE)

static mr_status write_outputs(void *context, mr_host_call *call)
{
    const struct mr__vision_run *run = context;
    const struct mr__vision_record *record = record_of(run, call->first_index);
    struct mr__vision_note note = { 0 };
    const uint64_t start = mr__clock_now_ns();
    const mr_status status =
        mr__vision_write(run->vision, record, call->inputs[0], call->inputs[1], &note);
    note.write_ns = mr__clock_now_ns() - start;
    memcpy(call->output, &note, sizeof note);
    call->output_sizes[0] = sizeof note;
    return status;
}

#define DEFINE_SIZE(name, field)                                                                   \
    static size_t name(void *context, uint64_t index, const size_t *input_sizes)                   \
    {                                                                                              \
        (void)input_sizes;                                                                         \
        return record_of(context, index)->plan.field;                                              \
    }
DEFINE_SIZE(size_of_textures, textures_bytes)
DEFINE_SIZE(size_of_scores, scores_bytes)
DEFINE_SIZE(size_of_result, result_bytes)

/* ---- the sink ---- */

static mr_status take_note(void *context, const mr_sink_item *item)
{
    struct mr__vision_run *run = context;
    struct mr__vision_job *vision = run->vision;
    struct mr__vision_record *record = record_of(run, item->index);
    memcpy(&record->note, item->data, sizeof record->note);
    record->stage_ns[MR__VISION_WRITE] = record->note.write_ns;
    record->is_done = true;
    for (uint32_t k = 0; k < MR__VISION_BINS; k++)
        vision->bins[k] += record->note.bins[k];
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS; k++)
        vision->output_bytes[k] += record->note.bytes[k];
    vision->done++;
    return MR_OK;
}

/* ---- building ---- */

static mr_status add_source(struct mr__vision_run *run, mr_node *out)
{
    const mr_source_options options = {
        .name = "decode",
        .next = next_image,
        .give_back = give_back,
        .interrupt = interrupt,
        .context = run,
        .item_bytes = run->largest.image_bytes,
        .item_count = run->due_count, /* fewer where some turn out bad */
        .is_lending = true,
    };
    return mr_pipeline_add_source(run->pipeline, &options, out);
}

static mr_status add_device_stages(struct mr__vision_run *run, mr_node source, mr_node *result)
{
    const uint32_t sets = run->vision->sets_used;
    mr_node textures = 0, scores = 0;
    mr_stage_options options = {
        .name = "textures",
        .device = run->lane_count > 1 ? NULL : run->lanes[0].device,
        .submit = submit_textures,
        .context = run,
        .inputs = { source },
        .output_bytes = run->largest.textures_bytes,
        .output_size = size_of_textures,
        .replicas = sets,
        .is_parcel_wise = true,
        /* What is enqueued for one batch is what is enqueued for the next. */
        .is_repeatable = !run->kind_changes,
        .is_independent = true,
        .note_time = note_textures,
    };
    mr_status status = mr_pipeline_add_stage(run->pipeline, &options, &textures);
    options.name = "scores";
    options.submit = submit_scores;
    options.note_time = note_scores;
    options.inputs[1] = textures;
    options.output_bytes = run->largest.scores_bytes;
    options.output_size = size_of_scores;
    if (!status)
        status = mr_pipeline_add_stage(run->pipeline, &options, &scores);
    options.name = "tokens";
    options.submit = submit_tokens;
    options.note_time = note_tokens;
    options.inputs[0] = textures;
    options.inputs[1] = scores;
    options.output_bytes = run->largest.result_bytes;
    options.output_size = size_of_result;
    return status ? status : mr_pipeline_add_stage(run->pipeline, &options, result);
}

static mr_status add_end(struct mr__vision_run *run, mr_node source, mr_node result)
{
    mr_node written, sink;
    const mr_stage_options options = {
        .name = "write",
        .device = run->host,
        .work = write_outputs,
        .context = run,
        .inputs = { source, result },
        .output_bytes = sizeof(struct mr__vision_note),
        .replicas = run->writer_count,
        .is_independent = true,
    };
    const mr_status status = mr_pipeline_add_stage(run->pipeline, &options, &written);
    return status ? status
                  : mr_pipeline_add_sink(
                        run->pipeline,
                        &(mr_sink_options){
                            .name = "note", .take = take_note, .context = run, .input = written },
                        &sink);
}

static mr_status build(struct mr__vision_run *run, const mr_job *job)
{
    /* A bad image never gets here; what fails in the pipeline is the device or the disk. */
    mr_pipeline_options options = {
        .name = job->name,
        .parcel_items = run->vision->batch_used,
        .slot_count = run->slot_count,
        .is_measured = run->vision->is_measured,
        .measure_period = run->vision->period_used, /* in batches */
    };
    if (job->lane_count > 1) {
        options.devices = job->lanes;
        options.device_count = job->lane_count;
    }
    mr_node source = 0, result = 0;
    mr_status status = mr_pipeline_create(&options, &run->pipeline);
    if (!status)
        status = add_source(run, &source);
    if (!status)
        status = add_device_stages(run, source, &result);
    return status ? status : add_end(run, source, result);
}

/* ---- begin and end ---- */

static mr_status make_lanes(struct mr__vision_run *run, const mr_job *job)
{
    run->lanes = mr__zalloc_array(job->lane_count, sizeof *run->lanes);
    if (!run->lanes)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the devices");
    run->lane_count = job->lane_count;
    for (uint32_t k = 0; k < run->lane_count; k++)
        run->lanes[k].device = job->lanes[k];
    return MR_OK;
}

static mr_status make_models(struct mr__vision_run *run)
{
    mr_status status = MR_OK;
    for (uint32_t i = 0; i < run->lane_count && !status; i++) {
        struct mr__vision_lane *lane = &run->lanes[i];
        status = mr__vision_model_create(lane->device, &run->vision->parameters, &lane->model);
        for (uint32_t k = 0; k < run->vision->sets_used && !status; k++)
            status = mr__vision_scorers_create(lane->model,
                                               run->vision->batch_used * run->largest.scratch_bytes,
                                               0, &lane->scorers[k]);
    }
    return status;
}

/* Room for all images that may be in flight or are being decoded, pinned for the GPUs if there are
 * any. Whole batches, so that none is parted where the memory begins again. */
static mr_status make_crew(struct mr__vision_run *run)
{
    const struct mr__vision_job *vision = run->vision;
    uint32_t pinning = 0;
    while (pinning + 1 < run->lane_count && mr__vision_is_host(run->lanes[pinning].device))
        pinning++;
    size_t images = (size_t)run->lane_count * run->slot_count * vision->batch_used +
                    mr__vision_memory_waiting(vision);
    if (images > run->due_count)
        images = run->due_count;
    return mr__vision_crew_create(run->vision, run->lanes[pinning].device, run->due, run->due_count,
                                  (uint32_t)images, run->largest.image_bytes, &run->crew);
}

static mr_status list_images(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    mr_status status = MR_OK;
    if (vision->list_path) {
        mr__vision_list_fini(&vision->list);
        status = mr__vision_list_lines(&vision->list, vision->list_path, run->is_cancelled);
        if (!status && !vision->list.count)
            status = mr_error_set(MR_E_FORMAT, "%s: no path came", vision->label);
        if (vision->limit && vision->list.count > vision->limit)
            vision->list.count = vision->limit;
    }
    mr__vision_list_reset(&vision->list);
    if (!status && vision->made_count)
        status = mr__vision_scene_paint(&vision->scene);
    if (!status)
        status = mr__vision_list_name(&vision->list);
    if (status)
        return status;
    run->due = mr__zalloc_array(vision->list.count, sizeof *run->due);
    run->items = mr__zalloc_array(vision->list.count, sizeof *run->items);
    if (!run->due || !run->items)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the list of images");
    return mr__vision_scan(run);
}

static mr_status begin(struct mr__vision_run *run, const mr_job *job)
{
    struct mr__vision_job *vision = run->vision;
    mr_status status = mr_device_open("cpu", NULL, &run->host);
    if (!status)
        status = make_lanes(run, job);
    if (!status)
        status = mr__vision_memory_find(run);
    if (!status)
        status = list_images(run);
    vision->due = run->due_count;
    if (!status)
        status = mr__vision_folder_open(&vision->folder, vision->has_output);
    if (status || !run->due_count)
        return status;
    mr__vision_choose(run);
    status = make_models(run);
    return status ? status : make_crew(run);
}

static void end(struct mr__vision_run *run)
{
    mr_pipeline_destroy(run->pipeline);
    mr__vision_crew_destroy(run->crew);
    for (uint32_t i = 0; i < run->lane_count; i++) {
        for (uint32_t k = 0; k < MR__VISION_SET_LIMIT; k++)
            mr__vision_scorers_destroy(run->lanes[i].scorers[k]);
        mr__vision_model_destroy(run->lanes[i].model);
    }
    mr__free(run->lanes);
    mr__free(run->due);
    mr__free(run->items);
    if (run->host && mr_device_close(run->host))
        run->host = NULL; /* others still use the device; it stays theirs */
}

static void forget(struct mr__vision_job *vision)
{
    atomic_store(&vision->skipped, 0);
    vision->done = vision->due = 0;
    memset(vision->bins, 0, sizeof vision->bins);
    memset(vision->output_bytes, 0, sizeof vision->output_bytes);
}

static mr_status stream(struct mr__vision_run *run, mr_job *job, const mr_job_run_options *options)
{
    if (!run->due_count)
        return MR_OK;
    mr_status status = build(run, job);
    if (!status && atomic_load(run->is_cancelled))
        status = mr_error_set(MR_E_CANCELLED, "the run was cancelled before it started");
    if (!status)
        status = mr_pipeline_start(run->pipeline);
    return status ? status : mr__job_wait(job, run->pipeline, options);
}

/* Skipping bad images is no way to do without any: whoever goes on to read the outputs finds none. */
static mr_status see_that_something_came_out(const struct mr__vision_job *vision)
{
    const struct mr__vision_list *list = &vision->list;
    const struct mr__vision_record *first = list->records;
    while (first < list->records + list->count && !first->status)
        first++;
    if (vision->done || first == list->records + list->count)
        return MR_OK;
    const char *words = first->words ? first->words : "out of memory";
    return list->count == 1
               ? mr_error_set(first->status, "%s: %s", first->path, words)
               : mr_error_set(first->status,
                              "none of the %zu images could be used; the first: %s: %s",
                              list->count, first->path, words);
}

/* The words of a failure pass through what is done after it. */
static mr_status finish(struct mr__vision_run *run, mr_job *job, mr_status status)
{
    struct mr__vision_job *vision = run->vision;
    char words[MR_ERROR_BYTES] = "";
    if (status)
        snprintf(words, sizeof words, "%s", mr_last_error());
    mr_status kept = mr__job_keep_report(job, run->pipeline, false);
    if (!status && !kept)
        kept = mr__vision_write_summary(job);
    if (!status && !kept && vision->has_output[MR__VISION_OUT_SHEET])
        kept = mr__vision_write_sheet(job);
    if (!status && !kept)
        kept = mr__vision_folder_publish(&vision->folder, vision->has_output);
    if (!status && !kept)
        mr__job_mark_complete(job);
    mr__vision_folder_abandon(&vision->folder);
    return status ? mr_error_set(status, "%s", words) : kept;
}

mr_status mr__vision_run(mr_job *job, const mr_job_run_options *options)
{
    struct mr__vision_run run = {
        .vision = job->vision,
        .is_cancelled = &job->is_cancelled,
    };
    forget(run.vision);
    mr_status status = begin(&run, job);
    if (!status)
        status = stream(&run, job, options);
    if (!status)
        status = see_that_something_came_out(run.vision);
    status = finish(&run, job, status);
    char words[MR_ERROR_BYTES] = "";
    if (status)
        snprintf(words, sizeof words, "%s", mr_last_error());
    end(&run);
    return status ? mr_error_set(status, "%s", words) : MR_OK;
}
