/* SPDX-License-Identifier: MIT */
/*
 * The whole stack once more on one thread: the source is read again, every built-in operation's
 * plain form is applied, and the files written are read back and compared, number by number.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "job/job_parts.h"
#include "job/npy.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One output file, read item by item. */
struct reading_back {
    const struct mr__job_sink *sink;
    mr_job_output *output;
    int file; /* npy, raw */
    uint64_t offset;
    FILE *lines; /* json */
    char *line;
    size_t line_bytes;
    void *item;
};

struct verification {
    mr_job *job;
    void *source_item;
    size_t source_bytes;
    void *results[MR__STAGE_LIMIT];
    size_t result_bytes[MR__STAGE_LIMIT];
    bool is_needed[MR__STAGE_LIMIT];
    struct reading_back backs[MR__SINK_LIMIT];
    uint32_t back_count;
};

/* ---- what can be compared ---- */

static bool is_comparable(const mr_job *job, const struct mr__job_sink *sink)
{
    const char *kind = sink->sink->ops->kind;
    return !mr__job_flow(job, sink->from)->is_custom &&
           (strcmp(kind, "npy") == 0 || strcmp(kind, "raw") == 0 || strcmp(kind, "json") == 0);
}

mr_status mr__job_can_verify(const mr_job *job)
{
    if (job->vision)
        return mr__vision_can_verify(job);
    if (!job->source->is_repeatable)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "verify: the source (%s) cannot be read a second "
                            "time; stream from a file",
                            job->source->label);
    for (uint32_t k = 0; k < job->sink_count; k++)
        if (is_comparable(job, &job->sinks[k]))
            return MR_OK;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "verify: no output can be compared: there must be an npy, raw or json sink "
                        "behind built-in operations only");
}

/* ---- the reference ---- */

static void need(struct verification *self, uint32_t from)
{
    if (!from || self->is_needed[from - 1])
        return;
    self->is_needed[from - 1] = true;
    const struct mr__stage *stage = self->job->stages[from - 1];
    for (uint32_t k = 0; k < stage->input_count; k++)
        need(self, stage->input_indices[k]);
}

static const void *value_of(const struct verification *self, uint32_t from, size_t *size_bytes)
{
    *size_bytes = from ? self->result_bytes[from - 1] : self->source_bytes;
    return from ? self->results[from - 1] : self->source_item;
}

static mr_status compute(struct verification *self)
{
    mr_status status = MR_OK;
    for (uint32_t k = 0; k < self->job->stage_count && !status; k++) {
        const uint32_t index = self->job->order[k];
        const struct mr__stage *stage = self->job->stages[index];
        if (!self->is_needed[index])
            continue;
        const void *inputs[MR_NODE_INPUT_LIMIT];
        size_t input_bytes[MR_NODE_INPUT_LIMIT];
        for (uint32_t i = 0; i < stage->input_count; i++)
            inputs[i] = value_of(self, stage->input_indices[i], &input_bytes[i]);
        status = stage->op->reference(stage, inputs, input_bytes, self->results[index],
                                      &self->result_bytes[index]);
    }
    return status;
}

/* ---- comparing ---- */

static double largest_of(mr_type type, const void *data, size_t count)
{
    double largest = 0;
    for (size_t k = 0; k < count; k++) {
        const double value = fabs(mr__number_at(type, data, k));
        if (isfinite(value) && value > largest)
            largest = value;
    }
    return largest;
}

static void compare(mr_job_output *output, const struct mr__flow *flow, const void *due,
                    const void *got, size_t size_bytes)
{
    const mr_type type = flow->type.dtype;
    const size_t count = size_bytes / mr_type_size(type);
    output->compared += count;
    if (memcmp(due, got, size_bytes) == 0)
        return;
    const double bound = flow->tolerance > 0 ? flow->tolerance * largest_of(type, due, count) : 0;
    for (size_t k = 0; k < count; k++) {
        const double a = mr__number_at(type, due, k), b = mr__number_at(type, got, k);
        if (a == b || (isnan(a) && isnan(b)))
            continue;
        const double difference = fabs(a - b);
        if (!(difference <= output->largest_difference))
            output->largest_difference = difference;
        if (!(difference <= bound))
            output->mismatches++;
    }
}

/* ---- reading back ---- */

static mr_status damaged(const struct reading_back *back, uint64_t index)
{
    return mr_error_set(MR_E_MISMATCH, "%s: item %" PRIu64 " is not in it", back->output->path,
                        index);
}

/* The number under `key` of an object, or element k of the list `values`. */
static double number_in(const json_t *line, const char *const *fields, size_t k)
{
    const json_t *value = fields ? json_object_get(line, fields[k])
                                 : json_array_get(json_object_get(line, "values"), k);
    return json_is_number(value) ? json_number_value(value) : (double)NAN;
}

static mr_status compare_line(struct reading_back *back, uint64_t index,
                              const struct mr__flow *flow, const void *due)
{
    if (getline(&back->line, &back->line_bytes, back->lines) < 0)
        return damaged(back, index);
    json_t *line = json_loads(back->line, 0, NULL);
    if (!line || json_integer_value(json_object_get(line, "item")) != (json_int_t)index) {
        json_decref(line);
        return damaged(back, index);
    }
    const mr_type type = flow->type.dtype;
    const size_t count = flow->item_bytes / mr_type_size(type);
    const double bound = flow->tolerance * largest_of(type, due, count);
    for (size_t k = 0; k < count; k++) {
        const double a = mr__number_at(type, due, k), b = number_in(line, flow->fields, k);
        back->output->compared++;
        if (a == b || (!isfinite(a) && isnan(b))) /* JSON has no infinities */
            continue;
        const double difference = fabs(a - b);
        if (!(difference <= back->output->largest_difference))
            back->output->largest_difference = difference;
        if (!(difference <= bound))
            back->output->mismatches++;
    }
    json_decref(line);
    return MR_OK;
}

static mr_status compare_item(struct verification *self, struct reading_back *back, uint64_t index)
{
    size_t size_bytes, got;
    const struct mr__flow *flow = mr__job_flow(self->job, back->sink->from);
    const void *due = value_of(self, back->sink->from, &size_bytes);
    if (back->lines)
        return compare_line(back, index, flow, due);
    mr_status status =
        mr__read_at(back->file, back->output->path, back->item, size_bytes, back->offset, &got);
    if (!status && got < size_bytes)
        status = damaged(back, index);
    if (!status)
        compare(back->output, flow, due, back->item, size_bytes);
    back->offset += size_bytes;
    return status;
}

static mr_status open_back(struct verification *self, const struct mr__job_sink *sink,
                           mr_job_output *output)
{
    struct reading_back *back = &self->backs[self->back_count++];
    *back = (struct reading_back){ .sink = sink, .output = output, .file = -1 };
    output->is_verified = true;
    need(self, sink->from);
    if (strcmp(output->kind, "json") == 0) {
        back->lines = fopen(output->path, "re");
        return back->lines ? MR_OK
                           : mr_error_set(MR_E_IO, "%s: cannot be read back: %s", output->path,
                                          strerror(errno));
    }
    back->item = mr__alloc_aligned(64, mr__job_flow(self->job, sink->from)->item_bytes);
    if (!back->item)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to compare %s", output->path);
    back->file = open(output->path, O_RDONLY | O_CLOEXEC);
    if (back->file < 0)
        return mr_error_set(MR_E_IO, "%s: cannot be read back: %s", output->path, strerror(errno));
    if (strcmp(output->kind, "raw") == 0)
        return MR_OK;
    struct mr__npy_header header;
    const mr_status status = mr__npy_read(back->file, output->path, &header);
    back->offset = header.data_offset;
    return status;
}

static mr_status open_all(struct verification *self)
{
    mr_job *job = self->job;
    mr_job_output *output = (mr_job_output *)(uintptr_t)job->report.outputs;
    for (uint32_t k = 0; k < job->sink_count; k++) {
        if (job->sinks[k].is_panel)
            continue;
        if (is_comparable(job, &job->sinks[k])) {
            const mr_status status = open_back(self, &job->sinks[k], output);
            if (status)
                return status;
        }
        output++;
    }
    self->source_item = mr__alloc_aligned(64, job->source->item_bytes);
    bool is_out = !self->source_item;
    for (uint32_t k = 0; k < job->stage_count; k++) {
        if (!self->is_needed[k])
            continue;
        self->results[k] = mr__alloc_aligned(64, job->stages[k]->output.item_bytes);
        is_out |= !self->results[k];
    }
    return is_out ? mr_error_set(MR_E_NO_MEMORY, "no memory for the reference") : MR_OK;
}

static void close_all(struct verification *self)
{
    for (uint32_t k = 0; k < self->back_count; k++) {
        struct reading_back *back = &self->backs[k];
        if (back->file >= 0)
            close(back->file);
        if (back->lines)
            fclose(back->lines);
        free(back->line); /* getline's */
        mr__free(back->item);
    }
    for (uint32_t k = 0; k < self->job->stage_count; k++)
        mr__free(self->results[k]);
    mr__free(self->source_item);
}

/* ---- the whole ---- */

static bool is_skipped(const mr_pipeline_report *report, uint64_t index)
{
    for (size_t k = 0; k < report->skipped_count; k++)
        if (report->skipped[k].index == index)
            return true;
    return false;
}

#define PROGRESS_NS 100000000ull

/* Tells how far it is when an interval has passed since `*told_ns`. */
static void tell_progress(const mr_job *job, uint64_t done, uint64_t start_ns, uint64_t *told_ns,
                          const mr_job_run_options *options)
{
    const uint64_t interval =
        options->progress_interval_ns ? options->progress_interval_ns : PROGRESS_NS;
    const uint64_t now_ns = mr__clock_now_ns();
    if (!options->progress || now_ns - *told_ns < interval)
        return;
    *told_ns = now_ns;
    const mr_pipeline_report *report = job->report.pipeline;
    const double seconds = (double)(now_ns - start_ns) * 1e-9;
    const double bytes = (double)done * (double)job->source->item_bytes;
    const mr_job_progress progress = {
        .items_in = done,
        .items_out = done,
        .item_count = report->items_in,
        .bytes_in = (uint64_t)bytes,
        .seconds = seconds,
        .bytes_per_second = seconds > 0 ? bytes / seconds : 0,
        .seconds_left = done ? seconds / (double)done * (double)(report->items_in - done) : -1,
        .is_verifying = true,
    };
    options->progress(options->context, &progress);
}

static mr_status compare_all(struct verification *self, const mr_job_run_options *options)
{
    mr_job *job = self->job;
    const mr_pipeline_report *report = job->report.pipeline;
    const uint64_t start_ns = mr__clock_now_ns();
    uint64_t told_ns = start_ns;
    mr_status status = job->source->ops->open ? job->source->ops->open(job->source) : MR_OK;
    for (uint64_t index = 0; index < report->items_in && !status; index++) {
        if (atomic_load(&job->is_cancelled))
            return mr_error_set(MR_E_CANCELLED, "cancelled while comparing; the outputs stand");
        status = mr__source_next(job->source, index, self->source_item, &self->source_bytes);
        if (status == MR_END)
            status = mr_error_set(MR_E_MISMATCH, "the source gave %" PRIu64 " items, now %" PRIu64,
                                  report->items_in, index);
        if (status || is_skipped(report, index))
            continue;
        status = compute(self);
        for (uint32_t k = 0; k < self->back_count && !status; k++)
            status = compare_item(self, &self->backs[k], index);
        tell_progress(job, index + 1, start_ns, &told_ns, options);
    }
    job->report.verify_seconds = (double)(mr__clock_now_ns() - start_ns) * 1e-9;
    return status;
}

static mr_status judge(const struct verification *self)
{
    for (uint32_t k = 0; k < self->back_count; k++) {
        const mr_job_output *output = self->backs[k].output;
        if (output->mismatches)
            return mr_error_set(
                MR_E_MISMATCH,
                "%s: %" PRIu64 " of %" PRIu64 " numbers differ from the reference, by at most %g",
                output->path, output->mismatches, output->compared, output->largest_difference);
    }
    return MR_OK;
}

mr_status mr__job_verify(mr_job *job, const mr_job_run_options *options)
{
    if (job->vision)
        return mr__vision_verify(job, options);
    struct verification *self = mr__zalloc(sizeof *self);
    if (!self)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the reference");
    self->job = job;
    mr_status status = MR_OK;
    const mr_pipeline_report *report = job->report.pipeline;
    if (report->skipped_count < report->items_skipped)
        status = mr_error_set(MR_E_UNSUPPORTED,
                              "verify: %" PRIu64 " items were skipped and only %zu are listed, so "
                              "that outputs cannot be told apart",
                              report->items_skipped, report->skipped_count);
    if (!status)
        status = open_all(self);
    if (!status)
        status = compare_all(self, options);
    if (!status)
        status = judge(self);
    close_all(self);
    mr__free(self);
    return status;
}
