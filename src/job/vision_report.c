/* SPDX-License-Identifier: MIT */
/*
 * The vision job and its run in words and as JSON: what was asked for, what came of it, where the
 * time went.
 */
#include "base/alloc.h"
#include "job/job_parts.h"
#include "job/json_text.h"
#include "job/words.h"

#include <inttypes.h>
#include <string.h>

void mr__vision_say_plan(struct mr__words *words, const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    const struct mr__vision_parameters *parameters = &vision->parameters;
    if (vision->list_path && !vision->list.count)
        mr__words_say(words, "images: %s\n", vision->label);
    else
        mr__words_say(words, "images: %s, %zu image%s\n", vision->label, vision->list.count,
                      mr__plural(vision->list.count));
    if (vision->image.edge_limit)
        mr__words_say(words, "size: at most %u pixels on the longer edge\n",
                      vision->image.edge_limit);
    else
        mr__words_say(words, "size: as the files are\n");
    mr__words_say(words, "query: %s\n", vision->query_text[0] ? vision->query_text : "none");
    mr__words_say(words, "tokens: %u an image, %u to %u a patch, ", parameters->budget,
                  parameters->least, parameters->most);
    if (parameters->columns)
        mr__words_say(words, "%u x %u patches\n", parameters->columns, parameters->rows);
    else
        mr__words_say(words, "about %u patches\n", parameters->budget / 128);
    mr__words_say(words, "mode: %s, on %s", mr__vision_mode_names[vision->mode],
                  mr_device_id(job->device));
    for (uint32_t k = 1; k < job->lane_count; k++)
        mr__words_say(words, ", %s", mr_device_id(job->lanes[k]));
    mr__words_say(words, "; bad images: %s\n", vision->is_skipping ? "skipped" : "stop the run");
    mr__words_say(words, "outputs:");
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS; k++)
        if (vision->has_output[k])
            mr__words_say(words, " %s", mr__vision_output_names[k]);
    mr__words_say(words, " to %s\n", vision->folder.path);
}

/* ---- times ---- */

double mr__vision_stage_mean_ns(const struct mr__vision_job *vision, uint32_t stage)
{
    double sum = 0, count = 0;
    for (size_t k = 0; k < vision->list.count; k++) {
        const struct mr__vision_record *record = &vision->list.records[k];
        if (!record->is_done || !record->stage_ns[stage])
            continue;
        sum += (double)record->stage_ns[stage];
        count++;
    }
    return count > 0 ? sum / count : 0;
}

uint64_t mr__vision_measured(const struct mr__vision_job *vision)
{
    uint64_t count = 0;
    for (size_t k = 0; k < vision->list.count; k++)
        count += vision->list.records[k].is_done &&
                 vision->list.records[k].stage_ns[MR__VISION_TEXTURES];
    return count;
}

static void say_times(struct mr__words *words, const struct mr__vision_job *vision)
{
    char text[MR__AMOUNT_BYTES];
    const uint64_t measured = mr__vision_measured(vision);
    mr__words_say(words, "  of one image, on average:");
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++) {
        const double mean = mr__vision_stage_mean_ns(vision, k);
        if (mean > 0)
            mr__words_say(words, "%s %s %s ms", k ? "," : "", mr__vision_stage_name(k),
                          mr__milliseconds(mean, text));
    }
    if (measured && measured < vision->done)
        mr__words_say(words, " (on the device, times of %" PRIu64 " measured image%s)", measured,
                      mr__plural(measured));
    mr__words_say(words, "\n");
}

const char *mr__vision_say_batch(const struct mr__vision_job *vision,
                                 char text[MR__VISION_BATCH_WORDS])
{
    text[0] = 0;
    if (vision->batch_used > 1)
        snprintf(text, MR__VISION_BATCH_WORDS, " in batches of %u", vision->batch_used);
    return text;
}

void mr__vision_say_report(struct mr__words *words, const mr_job *job)
{
    char batch[MR__VISION_BATCH_WORDS];
    const struct mr__vision_job *vision = job->vision;
    const double seconds = job->report.seconds;
    if (!vision->list.count)
        return;
    mr__words_say(words, "  %" PRIu64 " of %zu image%s done", vision->done, vision->list.count,
                  mr__plural(vision->list.count));
    if (seconds > 0 && vision->done)
        mr__words_say(words, ", %.4g images/s", (double)vision->done / seconds);
    if (vision->due)
        mr__words_say(words, "; %s%s, %u set%s of streams%s, %u decoding thread%s",
                      mr__vision_mode_names[vision->mode_used], mr__vision_say_batch(vision, batch),
                      vision->sets_used, mr__plural(vision->sets_used),
                      job->lane_count > 1 ? " on each device" : "", vision->threads_used,
                      mr__plural(vision->threads_used));
    mr__words_say(words, "\n");
    if (vision->done)
        say_times(words, vision);
}

/* ---- JSON ---- */

static json_t *skipped_value(const struct mr__vision_job *vision)
{
    json_t *list = json_array();
    for (size_t k = 0; k < vision->list.count; k++) {
        const struct mr__vision_record *record = &vision->list.records[k];
        if (!record->status)
            continue;
        json_t *value = json_object();
        json_object_set_new(value, "image", mr__json_text(record->path));
        json_object_set_new(value, "status", mr__json_text(mr_status_name(record->status)));
        json_object_set_new(value, "reason", mr__json_text(record->words));
        json_array_append_new(list, value);
    }
    return list;
}

static json_t *stages_value(const struct mr__vision_job *vision)
{
    json_t *value = json_object();
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++)
        json_object_set_new(value, mr__vision_stage_name(k),
                            json_real(mr__vision_stage_mean_ns(vision, k) * 1e-6));
    return value;
}

static json_t *bins_value(const struct mr__vision_job *vision)
{
    const struct mr__vision_parameters *parameters = &vision->parameters;
    const uint64_t span = (uint64_t)parameters->most - parameters->least + 1;
    json_t *list = json_array();
    for (uint64_t k = 0; k < MR__VISION_BINS; k++) {
        const uint64_t from = (k * span + MR__VISION_BINS - 1) / MR__VISION_BINS;
        const uint64_t next = ((k + 1) * span + MR__VISION_BINS - 1) / MR__VISION_BINS;
        if (next == from)
            continue;
        json_t *value = json_object();
        json_object_set_new(value, "from", mr__json_number(parameters->least + from));
        json_object_set_new(value, "to", mr__json_number(parameters->least + next - 1));
        json_object_set_new(value, "patches", mr__json_number(vision->bins[k]));
        json_array_append_new(list, value);
    }
    return list;
}

static json_t *parameters_value(const struct mr__vision_job *vision)
{
    static const char *const tensions[] = { "compress", "exploit", "focus" };
    const struct mr__vision_parameters *parameters = &vision->parameters;
    json_t *value = json_object(), *weights = json_object(), *pulls = json_object();
    json_object_set_new(value, "size", mr__json_number(vision->image.edge_limit));
    json_object_set_new(value, "query", mr__json_text(vision->query_text));
    json_object_set_new(value, "budget", mr__json_number(parameters->budget));
    json_object_set_new(value, "least", mr__json_number(parameters->least));
    json_object_set_new(value, "most", mr__json_number(parameters->most));
    for (uint32_t k = 0; k < 3; k++)
        json_object_set_new(weights, mr__vision_score_name(k),
                            json_real((double)parameters->weights[k]));
    for (uint32_t k = 0; k < MR__VISION_TENSIONS; k++)
        json_object_set_new(pulls, tensions[k], json_real((double)parameters->tensions[k]));
    json_object_set_new(value, "weights", weights);
    json_object_set_new(value, "tensions", pulls);
    json_object_set_new(value, "temperature", json_real((double)parameters->temperature));
    return value;
}

void *mr__vision_report_json(const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    json_t *value = json_object();
    json_object_set_new(value, "images", mr__json_number(vision->list.count));
    json_object_set_new(value, "done", mr__json_number(vision->done));
    json_object_set_new(value, "skipped_count", mr__json_number(atomic_load(&vision->skipped)));
    json_object_set_new(value, "skipped", skipped_value(vision));
    json_object_set_new(value, "mode", mr__json_text(mr__vision_mode_names[vision->mode_used]));
    json_object_set_new(value, "sets", mr__json_number(vision->sets_used));
    json_object_set_new(value, "batch", mr__json_number(vision->batch_used));
    json_object_set_new(value, "decode_threads", mr__json_number(vision->threads_used));
    json_object_set_new(value, "measured", mr__json_number(mr__vision_measured(vision)));
    json_object_set_new(value, "stage_milliseconds", stages_value(vision));
    json_object_set_new(value, "tokens_histogram", bins_value(vision));
    json_object_set_new(value, "parameters", parameters_value(vision));
    return value;
}

/* ---- the summary ---- */

static json_t *image_value(const struct mr__vision_record *record)
{
    json_t *value = json_object(), *times = json_object();
    json_object_set_new(value, "image", mr__json_text(record->path));
    json_object_set_new(value, "name", mr__json_text(record->name));
    json_object_set_new(value, "width", mr__json_number(record->info.width));
    json_object_set_new(value, "height", mr__json_number(record->info.height));
    json_object_set_new(value, "columns", mr__json_number(record->plan.columns));
    json_object_set_new(value, "rows", mr__json_number(record->plan.rows));
    json_object_set_new(value, "least", mr__json_number(record->note.least));
    json_object_set_new(value, "most", mr__json_number(record->note.most));
    for (uint32_t k = 0; k < MR__VISION_STAGES; k++)
        if (record->stage_ns[k])
            json_object_set_new(times, mr__vision_stage_name(k),
                                json_real((double)record->stage_ns[k] * 1e-6));
    json_object_set_new(value, "milliseconds", times);
    return value;
}

mr_status mr__vision_write_summary(const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    const mr_pipeline_report *report = job->report.pipeline;
    json_t *value = mr__vision_report_json(job), *images = json_array();
    json_object_set_new(value, "job", mr__json_text(job->name));
    json_object_set_new(value, "device", mr__json_text(job->report.device));
    json_object_set_new(value, "seconds", json_real(job->report.seconds));
    if (report && report->bottleneck < report->node_count)
        json_object_set_new(value, "bottleneck",
                            mr__json_text(report->nodes[report->bottleneck].name));
    if (report && report->device_count)
        json_object_set_new(value, "devices", mr__job_devices_json(report));
    for (size_t k = 0; k < vision->list.count; k++)
        if (vision->list.records[k].is_done)
            json_array_append_new(images, image_value(&vision->list.records[k]));
    json_object_set_new(value, "list", images);
    char *text = mr__json_dump(value, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    if (!text)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the summary");
    const mr_status status =
        mr__vision_folder_write(&vision->folder, "", "summary", ".json", text, strlen(text));
    mr__free(text);
    return status;
}
