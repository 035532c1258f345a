/* SPDX-License-Identifier: MIT */
/*
 * A job and its run in words: what will run, what did, where the time went.
 */
#include "base/alloc.h"
#include "job/job_parts.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A text that grows; NULL once memory is out. */
struct words {
    char *text;
    size_t used, capacity;
    bool is_out;
};

static void say(struct words *words, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct words *words, const char *format, ...)
{
    char piece[MR_ERROR_BYTES + 1024];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length < 0 || words->is_out)
        return;
    length = (size_t)length < sizeof piece ? length : (int)sizeof piece - 1;
    if (words->used + (size_t)length + 1 > words->capacity) {
        const size_t capacity = words->capacity * 2 + (size_t)length + 1024;
        char *text = mr__resize_array(words->text, capacity, 1);
        if (!text) {
            words->is_out = true;
            return;
        }
        words->text = text;
        words->capacity = capacity;
    }
    memcpy(words->text + words->used, piece, (size_t)length + 1);
    words->used += (size_t)length;
}

static char *finished(struct words *words)
{
    if (words->is_out) {
        mr__free(words->text);
        return NULL;
    }
    return words->text;
}

#define AMOUNT_BYTES 32

/* "1.07 GB". Decimal, as rates are. */
static const char *amount(double bytes, char text[AMOUNT_BYTES])
{
    static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB", "PB" };
    size_t unit = 0;
    while (bytes >= 1000 && unit < 5) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, AMOUNT_BYTES, unit ? "%.3g %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* ---- the plan ---- */

static void say_source(struct words *words, const mr_job *job)
{
    const struct mr__source *source = job->source;
    char type[MR__ITEM_TEXT_BYTES];
    say(words, "source: %s, ", source->label);
    if (source->is_counted)
        say(words, "%" PRIu64 " item%s of ", source->item_count, plural(source->item_count));
    else
        say(words, "items of ");
    say(words, "%s\n", mr__item_text(&source->type, type));
}

static void say_stage(struct words *words, const struct mr__stage *stage)
{
    char type[MR__ITEM_TEXT_BYTES];
    say(words, "stage %s (%s): from ", stage->name, stage->op->name);
    for (uint32_t k = 0; k < stage->input_count; k++)
        say(words, "%s%s", k ? ", " : "", stage->input_names[k]);
    say(words, " on %s, gives %s\n", mr_device_id(stage->device),
        mr__item_text(&stage->output.type, type));
}

char *mr__job_format_plan(const mr_job *job)
{
    struct words words = { 0 };
    say(&words, "job: %s\n", job->name);
    say_source(&words, job);
    for (uint32_t k = 0; k < job->stage_count; k++)
        say_stage(&words, job->stages[job->order[k]]);
    for (uint32_t k = 0; k < job->sink_count; k++) {
        const struct mr__job_sink *sink = &job->sinks[k];
        const char *path = sink->sink->output.path;
        say(&words, "sink %s: from %s%s%s\n", sink->sink->name, mr__job_flow_name(job, sink->from),
            path ? " to " : "", path ? path : "");
    }
    return finished(&words);
}

/* ---- the report ---- */

static void say_head(struct words *words, const mr_job *job)
{
    const mr_job_report *report = &job->report;
    char bytes[AMOUNT_BYTES], rate[AMOUNT_BYTES];
    if (report->status == MR_E_CANCELLED)
        say(words, "%s: cancelled\n", job->name);
    else if (report->status == MR_E_MISMATCH)
        say(words, "%s: ran to its end, but the results are wrong: %s\n", job->name, report->words);
    else if (report->status)
        say(words, "%s: failed: %s\n", job->name, report->words);
    else
        say(words, "%s: done\n", job->name);
    const mr_pipeline_report *pipeline = report->pipeline;
    if (!pipeline)
        return;
    say(words, "  %" PRIu64 " item%s (%s) in, %" PRIu64 " out, %" PRIu64 " skipped; %.3g s on %s\n",
        pipeline->items_in, plural(pipeline->items_in), amount((double)pipeline->bytes_in, bytes),
        pipeline->items_out, pipeline->items_skipped, report->seconds, report->device);
    say(words, "  %s/s, %.4g items/s\n", amount(report->bytes_per_second, rate),
        report->items_per_second);
}

static void say_nodes(struct words *words, const mr_pipeline_report *report)
{
    if (!report->node_count)
        return;
    say(words, "  where the time went:\n");
    for (size_t k = 0; k < report->node_count; k++) {
        const mr_node_report *node = &report->nodes[k];
        const double elapsed = report->elapsed_ns ? (double)report->elapsed_ns : 1;
        say(words, "    %-20s %-8s busy %7.3f s (%3.0f %%)  waiting %7.3f s", node->name,
            node->device, (double)node->busy_ns * 1e-9, 100 * (double)node->busy_ns / elapsed,
            (double)node->wait_ns * 1e-9);
        if (node->retries || node->failures)
            say(words, "  %" PRIu64 " failure%s, %" PRIu64 " retried", node->failures,
                plural(node->failures), node->retries);
        say(words, "%s\n", k == report->bottleneck ? "  <- the bottleneck" : "");
    }
    char chunk[AMOUNT_BYTES], memory[AMOUNT_BYTES];
    say(words, "  overlap %.2f of at most %.2f; %u slot%s of %s, %s of slot memory\n",
        report->overlap, report->overlap_bound, report->slot_count, plural(report->slot_count),
        amount((double)report->chunk_bytes, chunk),
        amount((double)report->slot_memory_bytes, memory));
}

#define SKIPPED_SHOWN 10

static void say_skipped(struct words *words, const mr_pipeline_report *report)
{
    for (size_t k = 0; k < report->skipped_count && k < SKIPPED_SHOWN; k++)
        say(words, "  skipped item %" PRIu64 ": %s\n", report->skipped[k].index,
            report->skipped[k].words);
    if (report->items_skipped > SKIPPED_SHOWN)
        say(words, "  and %" PRIu64 " more\n", report->items_skipped - SKIPPED_SHOWN);
}

static void say_outputs(struct words *words, const mr_job_report *report)
{
    char bytes[AMOUNT_BYTES];
    for (size_t k = 0; k < report->output_count; k++) {
        const mr_job_output *output = &report->outputs[k];
        say(words, "  %s %s: ", output->kind, output->path ? output->path : "");
        if (!output->is_complete)
            say(words, "not written, the run did not end well\n");
        else
            say(words, "%" PRIu64 " item%s, %s\n", output->items, plural(output->items),
                amount((double)output->bytes, bytes));
        if (output->is_verified && !output->mismatches)
            say(words, "    compared with the reference: %" PRIu64 " numbers, all agree\n",
                output->compared);
        if (output->is_verified && output->mismatches)
            say(words,
                "    compared with the reference: %" PRIu64 " of %" PRIu64
                " numbers differ, by at most %g\n",
                output->mismatches, output->compared, output->largest_difference);
    }
    if (report->verify_seconds > 0)
        say(words, "  the reference took %.3g s on one thread\n", report->verify_seconds);
}

char *mr__job_format_text(const mr_job *job)
{
    struct words words = { 0 };
    say_head(&words, job);
    if (job->report.pipeline) {
        say_skipped(&words, job->report.pipeline);
        say_nodes(&words, job->report.pipeline);
    }
    say_outputs(&words, &job->report);
    return finished(&words);
}
