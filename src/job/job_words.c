/* SPDX-License-Identifier: MIT */
/*
 * A job and its run in words: what will run, what did, where the time went.
 */
#include "job/job_parts.h"
#include "job/words.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- the plan ---- */

static void say_source(struct mr__words *words, const mr_job *job)
{
    const struct mr__source *source = job->source;
    char type[MR__ITEM_TEXT_BYTES];
    mr__words_say(words, "source: %s, ", source->label);
    if (source->is_counted)
        mr__words_say(words, "%" PRIu64 " item%s of ", source->item_count,
                      mr__plural(source->item_count));
    else
        mr__words_say(words, "items of ");
    mr__words_say(words, "%s\n", mr__item_text(&source->type, type));
}

static void say_stage(struct mr__words *words, const struct mr__stage *stage)
{
    char type[MR__ITEM_TEXT_BYTES];
    mr__words_say(words, "stage %s (%s): from ", stage->name, stage->op->name);
    for (uint32_t k = 0; k < stage->input_count; k++)
        mr__words_say(words, "%s%s", k ? ", " : "", stage->input_names[k]);
    mr__words_say(words, " on %s", mr_device_id(stage->device));
    const bool is_pinned = stage->device_name || stage->is_host_work;
    for (uint32_t lane = 1; lane < stage->lane_count && !is_pinned; lane++)
        mr__words_say(words, ", %s", mr_device_id(stage->lanes[lane]->device));
    mr__words_say(words, ", gives %s\n", mr__item_text(&stage->output.type, type));
}

char *mr__job_format_plan(const mr_job *job)
{
    struct mr__words words = { 0 };
    mr__words_say(&words, "job: %s\n", job->name);
    if (job->vision) {
        mr__vision_say_plan(&words, job);
        return mr__words_end(&words);
    }
    say_source(&words, job);
    for (uint32_t k = 0; k < job->stage_count; k++)
        say_stage(&words, job->stages[job->order[k]]);
    for (uint32_t k = 0; k < job->sink_count; k++) {
        const struct mr__job_sink *sink = &job->sinks[k];
        const char *path = sink->sink->output.path;
        mr__words_say(&words, "sink %s: from %s%s%s\n", sink->sink->name,
                      mr__job_flow_name(job, sink->from), path ? " to " : "", path ? path : "");
    }
    return mr__words_end(&words);
}

/* ---- the report ---- */

static void say_head(struct mr__words *words, const mr_job *job)
{
    const mr_job_report *report = &job->report;
    char bytes[MR__AMOUNT_BYTES], rate[MR__AMOUNT_BYTES];
    if (report->status == MR_E_CANCELLED)
        mr__words_say(words, "%s: cancelled\n", job->name);
    else if (report->status == MR_E_MISMATCH)
        mr__words_say(words, "%s: ran to its end, but the results are wrong: %s\n", job->name,
                      report->words);
    else if (report->status)
        mr__words_say(words, "%s: failed: %s\n", job->name, report->words);
    else
        mr__words_say(words, "%s: done\n", job->name);
    const mr_pipeline_report *pipeline = report->pipeline;
    if (!pipeline)
        return;
    mr__words_say(
        words, "  %" PRIu64 " item%s (%s) in, %" PRIu64 " out, %" PRIu64 " skipped; %.3g s on %s\n",
        pipeline->items_in, mr__plural(pipeline->items_in),
        mr__amount((double)pipeline->bytes_in, bytes), pipeline->items_out, pipeline->items_skipped,
        report->seconds, report->device);
    mr__words_say(words, "  %s/s, %.4g items/s\n", mr__amount(report->bytes_per_second, rate),
                  report->items_per_second);
}

static void say_nodes(struct mr__words *words, const mr_pipeline_report *report)
{
    if (!report->node_count)
        return;
    mr__words_say(words, "  where the time went:\n");
    for (size_t k = 0; k < report->node_count; k++) {
        const mr_node_report *node = &report->nodes[k];
        const double elapsed = report->elapsed_ns ? (double)report->elapsed_ns : 1;
        /* Of one replica, so that it adds up with waiting. */
        const double each = (double)node->busy_ns / node->replicas;
        mr__words_say(words, "    %-20s %-8s busy %7.3f s (%3.0f %%)  waiting %7.3f s", node->name,
                      node->device, each * 1e-9, 100 * each / elapsed,
                      (double)node->wait_ns * 1e-9);
        if (node->replicas > 1)
            mr__words_say(words, "  each of %u", node->replicas);
        if (node->retries || node->failures)
            mr__words_say(words, "  %" PRIu64 " failure%s, %" PRIu64 " retried", node->failures,
                          mr__plural(node->failures), node->retries);
        if (node->replayed_parcels)
            mr__words_say(words, "  %" PRIu64 " parcels as graphs", node->replayed_parcels);
        mr__words_say(words, "%s\n", k == report->bottleneck ? "  <- the bottleneck" : "");
    }
    char chunk[MR__AMOUNT_BYTES], memory[MR__AMOUNT_BYTES];
    mr__words_say(words, "  overlap %.2f of at most %.2f; %u slot%s of %s, %s of slot memory\n",
                  report->overlap, report->overlap_bound, report->slot_count,
                  mr__plural(report->slot_count), mr__amount((double)report->chunk_bytes, chunk),
                  mr__amount((double)report->slot_memory_bytes, memory));
}

static void say_devices(struct mr__words *words, const mr_pipeline_report *report)
{
    for (size_t k = 0; k < report->device_count; k++) {
        const mr_device_report *device = &report->devices[k];
        char bytes[MR__AMOUNT_BYTES];
        mr__words_say(words, "  %s: %" PRIu64 " item%s, %s\n", device->device, device->items,
                      mr__plural(device->items), mr__amount((double)device->bytes, bytes));
        if (device->is_lost)
            mr__words_say(words, "    lost, %" PRIu64 " item%s run elsewhere: %s\n",
                          device->items_moved, mr__plural(device->items_moved), device->words);
    }
    if (report->device_count > report->devices_at_once)
        mr__words_say(words,
                      "  at the end %u of %zu devices were given work: more were no faster\n",
                      report->devices_at_once, report->device_count);
}

#define SKIPPED_SHOWN 10

static void say_skipped(struct mr__words *words, const mr_pipeline_report *report)
{
    for (size_t k = 0; k < report->skipped_count && k < SKIPPED_SHOWN; k++)
        mr__words_say(words, "  skipped item %" PRIu64 ": %s\n", report->skipped[k].index,
                      report->skipped[k].words);
    if (report->items_skipped > SKIPPED_SHOWN)
        mr__words_say(words, "  and %" PRIu64 " more\n", report->items_skipped - SKIPPED_SHOWN);
}

static void say_outputs(struct mr__words *words, const mr_job_report *report)
{
    char bytes[MR__AMOUNT_BYTES];
    for (size_t k = 0; k < report->output_count; k++) {
        const mr_job_output *output = &report->outputs[k];
        mr__words_say(words, "  %s %s: ", output->kind, output->path ? output->path : "");
        if (!output->is_complete)
            mr__words_say(words, "not written, the run did not end well\n");
        else
            mr__words_say(words, "%" PRIu64 " item%s, %s\n", output->items,
                          mr__plural(output->items), mr__amount((double)output->bytes, bytes));
        if (output->is_verified && !output->mismatches)
            mr__words_say(words,
                          "    compared with the reference: %" PRIu64 " numbers, all agree\n",
                          output->compared);
        if (output->is_verified && output->mismatches)
            mr__words_say(words,
                          "    compared with the reference: %" PRIu64 " of %" PRIu64
                          " numbers differ, by at most %g\n",
                          output->mismatches, output->compared, output->largest_difference);
    }
    if (report->verify_seconds > 0)
        mr__words_say(words, "  the reference took %.3g s on one thread\n", report->verify_seconds);
}

char *mr__job_format_text(const mr_job *job)
{
    struct mr__words words = { 0 };
    say_head(&words, job);
    if (job->report.pipeline) {
        say_skipped(&words, job->report.pipeline);
        say_devices(&words, job->report.pipeline);
        say_nodes(&words, job->report.pipeline);
    }
    if (job->vision)
        mr__vision_say_report(&words, job);
    say_outputs(&words, &job->report);
    return mr__words_end(&words);
}
