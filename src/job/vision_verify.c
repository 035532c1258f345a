/* SPDX-License-Identifier: MIT */
/*
 * The outputs of a run, held against the model's plain reference: every image decoded again, each
 * stage computed from the same inputs. Tokens must be equal, floats lie within the model's bounds.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "job/job_parts.h"
#include "job/source.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

mr_status mr__vision_can_verify(const mr_job *job)
{
    const struct mr__vision_job *vision = job->vision;
    if (vision->has_output[MR__VISION_OUT_TOKENS] && vision->has_output[MR__VISION_OUT_SCORES])
        return MR_OK;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "verify: the outputs `tokens` and `scores` are what is compared; add both "
                        "to vision.outputs");
}

struct comparison {
    mr_job *job;
    struct mr__vision_job *vision;
    struct mr__image_file file;
    void *pixels;
    float *textures;
    char *result, *reference;
};

static void release(struct comparison *self)
{
    mr__image_file_fini(&self->file);
    mr__free(self->pixels);
    mr__free(self->textures);
    mr__free(self->result);
    mr__free(self->reference);
    self->pixels = self->result = self->reference = NULL;
    self->textures = NULL;
}

static mr_status decode_again(struct comparison *self, const struct mr__vision_record *record)
{
    const struct mr__vision_plan *plan = &record->plan;
    release(self);
    self->pixels = mr__alloc_aligned(64, plan->image_bytes);
    self->textures = mr__alloc_aligned(64, plan->textures_bytes);
    self->result = mr__zalloc_aligned(64, plan->result_bytes);
    self->reference = mr__zalloc_aligned(64, plan->result_bytes);
    if (!self->pixels || !self->textures || !self->result || !self->reference)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the reference");
    const mr_status status =
        mr__vision_load(self->vision, record, &self->file, self->pixels, plan->image_bytes);
    return status ? mr_error_prefix(status, "%s: ", record->path) : MR_OK;
}

/* ---- what was written ---- */

static mr_status read_back(const struct mr__vision_job *vision, enum mr__vision_output output,
                           const char *name, const char *ending, void *to, size_t least_bytes,
                           size_t most_bytes)
{
    struct mr__item_type type;
    void *data = NULL;
    uint64_t size_bytes = 0;
    char *path = mr__format_text("%s/%s/%s%s", vision->folder.path, mr__vision_output_names[output],
                                 name, ending);
    mr_status status = path ? mr__array_load(path, &type, &data, &size_bytes)
                            : mr_error_set(MR_E_NO_MEMORY, "no memory for the reference");
    if (!status && (size_bytes < least_bytes || size_bytes > most_bytes))
        status = mr_error_set(MR_E_MISMATCH, "%s: %" PRIu64 " bytes, not %zu", path, size_bytes,
                              most_bytes);
    if (!status)
        memcpy(to, data, size_bytes);
    mr__free(data);
    mr__free(path);
    return status;
}

static mr_status read_result(struct comparison *self, const struct mr__vision_record *record)
{
    const struct mr__vision_plan *plan = &record->plan;
    const size_t token_bytes = plan->patch_count * sizeof(uint32_t);
    mr_status status = read_back(self->vision, MR__VISION_OUT_TOKENS, record->name, ".npy",
                                 self->result + plan->tokens_offset, token_bytes, token_bytes);
    if (!status)
        status =
            read_back(self->vision, MR__VISION_OUT_SCORES, record->name, ".npy",
                      self->result + plan->scores_offset, plan->scores_bytes, plan->scores_bytes);
    if (!status && self->vision->has_output[MR__VISION_OUT_COMPRESSED])
        status = read_back(self->vision, MR__VISION_OUT_COMPRESSED, record->name, ".npy",
                           self->result + plan->compressed_offset, 0,
                           plan->result_bytes - plan->compressed_offset);
    return status;
}

/* ---- comparing ---- */

static void note_difference(struct comparison *self, enum mr__vision_output output,
                            double difference, double bound)
{
    struct mr__vision_job *vision = self->vision;
    vision->compared[output]++;
    vision->mismatches[output] += !(difference <= bound);
    if (difference > vision->largest_difference[output] || isnan(difference))
        vision->largest_difference[output] = difference;
}

static void compare_floats(struct comparison *self, enum mr__vision_output output, const float *due,
                           const float *got, uint64_t count, double bound)
{
    for (uint64_t k = 0; k < count; k++)
        note_difference(self, output, fabs((double)due[k] - (double)got[k]), bound);
}

static void compare_scores(struct comparison *self, const struct mr__vision_plan *plan)
{
    static const float bounds[] = { MR__VISION_BOUND_PROPOSITIONAL, MR__VISION_BOUND_PERSPECTIVAL,
                                    MR__VISION_BOUND_PARTICIPATORY, MR__VISION_BOUND_RELEVANCE };
    const struct mr__vision_parameters *parameters = &self->vision->parameters;
    const float *got = (const void *)(self->result + plan->scores_offset);
    float *due = (void *)(self->reference + plan->scores_offset);
    const size_t count = plan->patch_count;
    mr__vision_reference_propositional(plan, self->pixels, due);
    mr__vision_reference_perspectival(plan, self->textures, due + count);
    mr__vision_reference_participatory(plan, &parameters->query, self->textures, due + 2 * count);
    for (uint32_t k = 0; k < 3; k++)
        compare_floats(self, MR__VISION_OUT_SCORES, due + k * count, got + k * count, count,
                       (double)bounds[k]);
    /* The balance, of the scores that the run had. */
    memcpy(due, got, 3 * count * sizeof *due);
    mr__vision_reference_relevance(plan, parameters, due);
    compare_floats(self, MR__VISION_OUT_SCORES, due + 3 * count, got + 3 * count, count,
                   (double)bounds[3]);
}

static void compare_image(struct comparison *self, const struct mr__vision_plan *plan)
{
    const float *relevance = (const float *)(const void *)(self->result + plan->scores_offset) +
                             3 * (size_t)plan->patch_count;
    const uint32_t *got = (const void *)(self->result + plan->tokens_offset);
    uint32_t *due = (void *)(self->reference + plan->tokens_offset);
    mr__vision_reference_textures(plan, self->pixels, self->textures);
    compare_scores(self, plan);
    mr__vision_reference_tokens(plan, relevance, due);
    for (uint32_t k = 0; k < plan->patch_count; k++)
        note_difference(self, MR__VISION_OUT_TOKENS, fabs((double)due[k] - (double)got[k]), 0);
    if (!self->vision->has_output[MR__VISION_OUT_COMPRESSED])
        return;
    memcpy(due, got, plan->patch_count * sizeof *due);
    mr__vision_reference_compress(plan, self->textures, self->reference);
    const uint32_t *first = (const void *)(self->reference + plan->box_first_offset);
    compare_floats(self, MR__VISION_OUT_COMPRESSED,
                   (const void *)(self->reference + plan->compressed_offset),
                   (const void *)(self->result + plan->compressed_offset),
                   (uint64_t)first[plan->patch_count] * MR__VISION_CHANNELS,
                   (double)(MR__VISION_BOUND_COMPRESSED + MR__VISION_BOUND_TEXTURES));
}

static void tell_progress(const struct comparison *self, uint64_t done,
                          const mr_job_run_options *options)
{
    const mr_job_progress progress = { .items_in = done,
                                       .items_out = done,
                                       .item_count = self->vision->done,
                                       .seconds_left = -1,
                                       .is_verifying = true };
    if (options->progress)
        options->progress(options->context, &progress);
}

static mr_status compare_all(struct comparison *self, const mr_job_run_options *options)
{
    const struct mr__vision_list *list = &self->vision->list;
    uint64_t done = 0;
    mr_status status = MR_OK;
    for (size_t k = 0; k < list->count && !status; k++) {
        const struct mr__vision_record *record = &list->records[k];
        if (!record->is_done)
            continue;
        if (atomic_load(&self->job->is_cancelled))
            return mr_error_set(MR_E_CANCELLED, "cancelled while comparing; the outputs stand");
        status = decode_again(self, record);
        if (!status)
            status = read_result(self, record);
        if (!status)
            compare_image(self, &record->plan);
        tell_progress(self, ++done, options);
    }
    return status;
}

static mr_status judge(struct comparison *self)
{
    struct mr__vision_job *vision = self->vision;
    mr_job_output *outputs = (mr_job_output *)(uintptr_t)self->job->report.outputs;
    mr_status status = MR_OK;
    for (size_t k = 0; k < self->job->report.output_count; k++)
        for (uint32_t kind = 0; kind < MR__VISION_OUTPUTS; kind++) {
            if (strcmp(outputs[k].name, mr__vision_output_names[kind]) != 0 ||
                !vision->compared[kind])
                continue;
            outputs[k].is_verified = true;
            outputs[k].compared = vision->compared[kind];
            outputs[k].mismatches = vision->mismatches[kind];
            outputs[k].largest_difference = vision->largest_difference[kind];
            if (vision->mismatches[kind])
                status = mr_error_set(MR_E_MISMATCH,
                                      "%s: %" PRIu64 " of %" PRIu64
                                      " numbers differ from the reference, by at most %g",
                                      outputs[k].name, outputs[k].mismatches, outputs[k].compared,
                                      outputs[k].largest_difference);
        }
    return status;
}

mr_status mr__vision_verify(mr_job *job, const mr_job_run_options *options)
{
    struct comparison self = { .job = job, .vision = job->vision };
    struct mr__vision_job *vision = job->vision;
    memset(vision->compared, 0, sizeof vision->compared);
    memset(vision->mismatches, 0, sizeof vision->mismatches);
    memset(vision->largest_difference, 0, sizeof vision->largest_difference);
    const uint64_t start = mr__clock_now_ns();
    mr_status status = compare_all(&self, options);
    release(&self);
    job->report.verify_seconds = (double)(mr__clock_now_ns() - start) * 1e-9;
    return status ? status : judge(&self);
}
