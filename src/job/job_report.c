/* SPDX-License-Identifier: MIT */
/*
 * What a run leaves: a copy of the pipeline's report and of what the sinks took, and its JSON.
 */
#include "base/alloc.h"
#include "job/job_parts.h"
#include "job/json_text.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SKIPPED_LIMIT 1024

/* ---- keeping ---- */

static mr_status copy_array(const void *array, size_t count, size_t element_bytes, const void **out)
{
    *out = NULL;
    if (!count)
        return MR_OK;
    void *copy = mr__zalloc_array(count, element_bytes);
    if (!copy)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the run's report");
    memcpy(copy, array, count * element_bytes);
    *out = copy;
    return MR_OK;
}

static mr_status keep_pipeline(mr_job *job, const mr_pipeline *pipeline)
{
    const mr_pipeline_report *from;
    if (!pipeline || mr_pipeline_report_get(pipeline, &from))
        return MR_OK; /* it never started: there is nothing to keep */
    mr_pipeline_report *to = &job->pipeline_report;
    *to = *from;
    to->nodes = NULL;
    to->skipped = NULL;
    to->devices = NULL;
    const void *nodes, *skipped, *devices = NULL;
    mr_status status = copy_array(from->nodes, from->node_count, sizeof *from->nodes, &nodes);
    to->nodes = nodes;
    if (!status)
        status = copy_array(from->skipped, from->skipped_count, sizeof *from->skipped, &skipped);
    if (!status) {
        to->skipped = skipped;
        status = copy_array(from->devices, from->device_count, sizeof *from->devices, &devices);
    }
    if (status) {
        to->node_count = to->skipped_count = to->device_count = 0;
        return status;
    }
    to->devices = devices;
    job->report.pipeline = to;
    return MR_OK;
}

static mr_status keep_outputs(mr_job *job, bool is_published)
{
    mr_job_output *outputs = mr__zalloc_array(job->sink_count, sizeof *outputs);
    if (!outputs)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the run's report");
    job->report.outputs = outputs;
    for (uint32_t k = 0; k < job->sink_count; k++) {
        const struct mr__job_sink *from = &job->sinks[k];
        if (from->is_panel)
            continue;
        outputs[job->report.output_count++] = (mr_job_output){
            .name = from->sink->name,
            .path = from->sink->output.path,
            .kind = from->sink->ops->kind,
            .items = from->sink->items,
            .bytes = from->sink->output.path ? from->sink->output.written : from->sink->bytes,
            .is_complete = is_published,
        };
    }
    return MR_OK;
}

/* One output for each kind of file; the path is its folder's. */
static mr_status keep_vision(mr_job *job)
{
    struct mr__vision_job *vision = job->vision;
    mr_job_output *outputs = mr__zalloc_array(MR__VISION_OUTPUTS, sizeof *outputs);
    if (!outputs)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the run's report");
    job->report.outputs = outputs;
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS; k++) {
        if (!vision->has_output[k])
            continue;
        const char *path =
            mr__arena_text(&job->arena, "%s/%s", vision->folder.path, mr__vision_output_names[k]);
        outputs[job->report.output_count++] = (mr_job_output){
            .name = mr__vision_output_names[k],
            .path = path,
            .kind = "folder",
            .items = vision->done,
            .bytes = vision->output_bytes[k],
        };
        if (!path)
            return mr_error_set(MR_E_NO_MEMORY, "no memory for the run's report");
    }
    return MR_OK;
}

void mr__job_mark_complete(mr_job *job)
{
    mr_job_output *outputs = (mr_job_output *)(uintptr_t)job->report.outputs;
    for (size_t k = 0; k < job->report.output_count; k++)
        outputs[k].is_complete = true;
}

/* Images that never came into the pipeline belong to the run's account. */
static mr_status count_vision(mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    mr_pipeline_report *report = &job->pipeline_report;
    const uint64_t skipped = atomic_load(&vision->skipped);
    job->report.pipeline = report;
    report->items_in += skipped;
    report->items_skipped += skipped;
    mr__free((void *)(uintptr_t)report->skipped);
    report->skipped = NULL;
    report->skipped_count = 0;
    if (!skipped)
        return MR_OK;
    const size_t room = skipped < SKIPPED_LIMIT ? (size_t)skipped : SKIPPED_LIMIT;
    mr_skipped_item *items = mr__zalloc_array(room, sizeof *items);
    if (!items)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the run's report");
    for (size_t k = 0; k < vision->list.count && report->skipped_count < room; k++) {
        const struct mr__vision_record *record = &vision->list.records[k];
        if (!record->status)
            continue;
        mr_skipped_item *item = &items[report->skipped_count++];
        *item = (mr_skipped_item){ .index = k, .node = 1, .status = record->status };
        snprintf(item->words, sizeof item->words, "%s: %s", record->path,
                 record->words ? record->words : "");
    }
    report->skipped = items;
    return MR_OK;
}

mr_status mr__job_keep_report(mr_job *job, const mr_pipeline *pipeline, bool is_published)
{
    mr_job_report *report = &job->report;
    report->device = mr_device_id(job->device);
    for (uint32_t k = 1; k < job->lane_count; k++) {
        const char *more =
            mr__arena_text(&job->arena, "%s, %s", report->device, mr_device_id(job->lanes[k]));
        report->device = more ? more : report->device;
    }
    mr_status status = keep_pipeline(job, pipeline);
    if (!status && job->vision)
        status = count_vision(job);
    if (!status)
        status = job->vision ? keep_vision(job) : keep_outputs(job, is_published);
    if (report->pipeline) {
        const double seconds = (double)report->pipeline->elapsed_ns * 1e-9;
        report->seconds = seconds;
        if (seconds > 0) {
            report->bytes_per_second = (double)report->pipeline->bytes_in / seconds;
            report->items_per_second = (double)report->pipeline->items_in / seconds;
        }
    }
    return status;
}

void mr__job_forget_report(mr_job *job)
{
    mr__free((void *)(uintptr_t)job->pipeline_report.nodes);
    mr__free((void *)(uintptr_t)job->pipeline_report.skipped);
    mr__free((void *)(uintptr_t)job->pipeline_report.devices);
    mr__free((void *)(uintptr_t)job->report.outputs);
    mr__free(job->json);
    mr__free(job->text);
    job->json = job->text = NULL;
    job->pipeline_report = (mr_pipeline_report){ 0 };
    job->report = (mr_job_report){ .words = "", .device = "" };
    job->has_run = false;
}

mr_status mr_job_report_get(const mr_job *job, const mr_job_report **out)
{
    *out = NULL;
    if (!job->has_run)
        return mr_error_set(MR_E_STATE, "the job '%s' has not run yet", job->name);
    *out = &job->report;
    return MR_OK;
}

/* ---- JSON ---- */

json_t *mr__json_text(const char *text)
{
    if (!text)
        return json_null();
    json_t *value = json_string(text);
    if (value)
        return value;
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *byte = copy; *byte; byte++)
        if ((unsigned char)*byte >= 0x80)
            *byte = '?';
    return json_string(copy);
}

char *mr__json_dump(json_t *value, size_t flags)
{
    char *dumped = value ? json_dumps(value, flags) : NULL;
    json_decref(value);
    char *text = dumped ? mr__format_text("%s\n", dumped) : NULL;
    free(dumped);
    return text;
}

json_t *mr__json_number(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static json_t *seconds(uint64_t time_ns)
{
    return json_real((double)time_ns * 1e-9);
}

static json_t *node_value(const mr_node_report *node)
{
    json_t *value = json_object();
    json_object_set_new(value, "name", mr__json_text(node->name));
    json_object_set_new(value, "kind", mr__json_text(mr_node_kind_name(node->kind)));
    json_object_set_new(value, "device", mr__json_text(node->device));
    json_object_set_new(value, "items", mr__json_number(node->items));
    json_object_set_new(value, "bytes_in", mr__json_number(node->bytes_in));
    json_object_set_new(value, "bytes_out", mr__json_number(node->bytes_out));
    json_object_set_new(value, "busy_seconds", seconds(node->busy_ns));
    json_object_set_new(value, "wait_seconds", seconds(node->wait_ns));
    json_object_set_new(value, "failures", mr__json_number(node->failures));
    json_object_set_new(value, "retries", mr__json_number(node->retries));
    json_object_set_new(value, "replicas", mr__json_number(node->replicas));
    json_object_set_new(value, "is_sampled", json_boolean(node->is_sampled));
    if (node->replayed_parcels)
        json_object_set_new(value, "replayed_parcels", mr__json_number(node->replayed_parcels));
    if (*node->replay_words)
        json_object_set_new(value, "replay", mr__json_text(node->replay_words));
    return value;
}

static const char *node_name(const mr_pipeline_report *report, mr_node node)
{
    for (size_t k = 0; k < report->node_count; k++)
        if (node && report->nodes[k].node == node)
            return report->nodes[k].name;
    return "";
}

static json_t *skipped_value(const mr_pipeline_report *report)
{
    json_t *list = json_array();
    for (size_t k = 0; k < report->skipped_count; k++) {
        const mr_skipped_item *item = &report->skipped[k];
        json_t *value = json_object();
        json_object_set_new(value, "item", mr__json_number(item->index));
        json_object_set_new(value, "node", mr__json_text(node_name(report, item->node)));
        json_object_set_new(value, "status", mr__json_text(mr_status_name(item->status)));
        json_object_set_new(value, "words", mr__json_text(item->words));
        json_array_append_new(list, value);
    }
    return list;
}

void *mr__job_devices_json(const mr_pipeline_report *report)
{
    json_t *list = json_array();
    for (size_t k = 0; k < report->device_count; k++) {
        const mr_device_report *device = &report->devices[k];
        json_t *value = json_object();
        json_object_set_new(value, "device", mr__json_text(device->device));
        json_object_set_new(value, "items", mr__json_number(device->items));
        json_object_set_new(value, "parcels", mr__json_number(device->parcels));
        json_object_set_new(value, "bytes", mr__json_number(device->bytes));
        json_object_set_new(value, "items_moved", mr__json_number(device->items_moved));
        json_object_set_new(value, "is_lost", json_boolean(device->is_lost));
        if (device->is_lost) {
            json_object_set_new(value, "status", mr__json_text(mr_status_name(device->status)));
            json_object_set_new(value, "words", mr__json_text(device->words));
        }
        json_array_append_new(list, value);
    }
    return list;
}

static void add_pipeline(json_t *value, const mr_pipeline_report *report)
{
    json_object_set_new(value, "items_in", mr__json_number(report->items_in));
    json_object_set_new(value, "items_out", mr__json_number(report->items_out));
    json_object_set_new(value, "items_skipped", mr__json_number(report->items_skipped));
    json_object_set_new(value, "bytes_in", mr__json_number(report->bytes_in));
    json_object_set_new(value, "bytes_out", mr__json_number(report->bytes_out));
    json_object_set_new(value, "chunk_bytes", mr__json_number(report->chunk_bytes));
    json_object_set_new(value, "parcel_items", mr__json_number(report->parcel_items));
    json_object_set_new(value, "parcels", mr__json_number(report->parcels));
    json_object_set_new(value, "slots", mr__json_number(report->slot_count));
    json_object_set_new(value, "streams", mr__json_number(report->stream_count));
    json_object_set_new(value, "slot_memory_bytes", mr__json_number(report->slot_memory_bytes));
    json_object_set_new(value, "overlap", json_real(report->overlap));
    json_object_set_new(value, "overlap_bound", json_real(report->overlap_bound));
    const bool has_bottleneck = report->bottleneck < report->node_count;
    json_object_set_new(value, "bottleneck",
                        has_bottleneck ? mr__json_text(report->nodes[report->bottleneck].name)
                                       : json_null());
    json_t *nodes = json_array();
    for (size_t k = 0; k < report->node_count; k++)
        json_array_append_new(nodes, node_value(&report->nodes[k]));
    json_object_set_new(value, "nodes", nodes);
    json_object_set_new(value, "skipped", skipped_value(report));
    if (report->device_count) {
        json_object_set_new(value, "devices", mr__job_devices_json(report));
        json_object_set_new(value, "devices_at_once", mr__json_number(report->devices_at_once));
    }
}

static json_t *output_value(const mr_job_output *output)
{
    json_t *value = json_object();
    json_object_set_new(value, "name", mr__json_text(output->name));
    json_object_set_new(value, "kind", mr__json_text(output->kind));
    json_object_set_new(value, "path", mr__json_text(output->path));
    json_object_set_new(value, "items", mr__json_number(output->items));
    json_object_set_new(value, "bytes", mr__json_number(output->bytes));
    json_object_set_new(value, "is_complete", json_boolean(output->is_complete));
    json_object_set_new(value, "is_verified", json_boolean(output->is_verified));
    if (output->is_verified) {
        json_object_set_new(value, "compared", mr__json_number(output->compared));
        json_object_set_new(value, "mismatches", mr__json_number(output->mismatches));
        json_object_set_new(value, "largest_difference", json_real(output->largest_difference));
    }
    return value;
}

char *mr__job_format_json(const mr_job *job)
{
    const mr_job_report *report = &job->report;
    json_t *value = json_object();
    json_object_set_new(value, "job", mr__json_text(job->name));
    json_object_set_new(value, "status", mr__json_text(mr_status_name(report->status)));
    json_object_set_new(value, "words", mr__json_text(report->words));
    json_object_set_new(value, "device", mr__json_text(report->device));
    json_object_set_new(value, "seconds", json_real(report->seconds));
    json_object_set_new(value, "bytes_per_second", json_real(report->bytes_per_second));
    json_object_set_new(value, "items_per_second", json_real(report->items_per_second));
    if (report->verify_seconds > 0)
        json_object_set_new(value, "verify_seconds", json_real(report->verify_seconds));
    if (report->pipeline)
        add_pipeline(value, report->pipeline);
    json_t *outputs = json_array();
    for (size_t k = 0; k < report->output_count; k++)
        json_array_append_new(outputs, output_value(&report->outputs[k]));
    json_object_set_new(value, "outputs", outputs);

    json_t *vision = job->vision ? mr__vision_report_json(job) : NULL;
    if (vision)
        json_object_set_new(value, "vision", vision);
    return mr__json_dump(value, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
}

/* The text is made at the first question; `job` is const to those who only ask. */
static const char *kept_text(const mr_job *job, char **kept, char *(*format)(const mr_job *job))
{
    if (!job->has_run)
        return "";
    if (!*kept)
        *kept = format(job);
    return *kept ? *kept : "";
}

const char *mr_job_report_json(const mr_job *job)
{
    return kept_text(job, &((mr_job *)(uintptr_t)job)->json, mr__job_format_json);
}

const char *mr_job_report_text(const mr_job *job)
{
    return kept_text(job, &((mr_job *)(uintptr_t)job)->text, mr__job_format_text);
}
