/* SPDX-License-Identifier: MIT */
/*
 * The three scorers: each on its own stream, all behind the caller's, which the balance joins again. What
 * two of them need is added up once, on the caller's stream, while the first is at work.
 */
#include "base/alloc.h"
#include "vision/vision_device.h"

#define NUMBER(value) mr_argument_u64(value)
#define LAUNCH(model, stream, kernel, count, slice_limit, ...)                                     \
    mr__vision_launch(model, stream, kernel, count, slice_limit, (mr_argument[]){ __VA_ARGS__ },   \
                      sizeof((mr_argument[]){ __VA_ARGS__ }) / sizeof(mr_argument))

enum { SCORERS = 3 };

struct mr__vision_scorers {
    mr_stream *streams[SCORERS];
    mr_event *ready, *summed, *scored[SCORERS];
    mr_buffer *scratch;
};

/* ---- create and destroy ---- */

mr_status mr__vision_scorers_create(struct mr__vision_model *model, size_t scratch_bytes,
                                    int priority, struct mr__vision_scorers **out)
{
    *out = NULL;
    struct mr__vision_scorers *scorers = mr__zalloc(sizeof *scorers);
    if (!scorers)
        return mr_error_set(MR_E_NO_MEMORY, "vision: out of memory");

    mr_status status =
        mr_buffer_create(model->device, scratch_bytes,
                         &(mr_buffer_options){ .name = "scores' scratch" }, &scorers->scratch);
    if (!status)
        status = mr_event_create(model->device, NULL, &scorers->ready);
    if (!status)
        status = mr_event_create(model->device, NULL, &scorers->summed);
    for (uint32_t k = 0; k < SCORERS && !status; k++) {
        const mr_stream_options options = { .name = mr__vision_score_name(k),
                                            .priority = priority };
        status = mr_stream_create(model->device, &options, &scorers->streams[k]);
        if (!status)
            status = mr_event_create(model->device, NULL, &scorers->scored[k]);
    }
    if (status)
        goto fail;
    *out = scorers;
    return MR_OK;

fail:
    mr__vision_scorers_destroy(scorers);
    return status;
}

void mr__vision_scorers_destroy(struct mr__vision_scorers *scorers)
{
    if (!scorers)
        return;
    for (uint32_t k = 0; k < SCORERS; k++) {
        mr_stream_destroy(scorers->streams[k]);
        mr_event_destroy(scorers->scored[k]);
    }
    mr_event_destroy(scorers->summed);
    mr_event_destroy(scorers->ready);
    mr_buffer_destroy(scorers->scratch);
    mr__free(scorers);
}

mr_stream *mr__vision_scorers_stream(const struct mr__vision_scorers *scorers, uint32_t score)
{
    return score < SCORERS ? scorers->streams[score] : NULL;
}

/* ---- one batch ---- */

struct scoring {
    const struct mr__vision_model *model;
    const struct mr__vision_plan *plan;
    mr_stream *stream;
    uint32_t slice_limit, image_count;
    mr_argument image, textures, score;
    struct mr__vision_place scratch;
    mr_argument images, image_step, textures_step, score_step; /* steps in elements */
    mr_argument width, height, columns, rows;
};

static mr_argument scratch_part(const struct scoring *own, size_t offset, size_t size_bytes)
{
    return mr__vision_part(own->image_count, own->scratch, offset, size_bytes);
}

static uint64_t count_patches(const struct scoring *own)
{
    return (uint64_t)own->image_count * own->plan->patch_count;
}

static mr_status score_propositional(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const uint64_t count = (uint64_t)plan->patch_count * plan->histogram_bands;
    const mr_argument partial =
        scratch_part(own, plan->colour_offset, count * 2 * MR__VISION_BINS * sizeof(uint32_t));
    const mr_argument bands = NUMBER(plan->histogram_bands);
    const mr_argument partial_step = NUMBER(plan->scratch_bytes / sizeof(uint32_t));
    const mr_status status = LAUNCH(
        own->model, own->stream,
        plan->channel_bytes == 1 ? MR__VISION_KERNEL_HISTOGRAM_U8 : MR__VISION_KERNEL_HISTOGRAM_U16,
        own->image_count * count, own->slice_limit, own->image, partial, own->width, own->height,
        own->columns, own->rows, NUMBER(plan->histogram_rows), bands, own->images, own->image_step,
        partial_step);
    if (status)
        return status;
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_ENTROPY, count_patches(own),
                  own->slice_limit, partial, own->score, own->width, own->height, own->columns,
                  own->rows, bands, own->images, partial_step, own->score_step);
}

/* The sums of the cells' pieces, which two of the scorers go on from. */
static mr_argument pieces_part(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const size_t cells = (size_t)plan->cell_columns * plan->cell_rows;
    return scratch_part(own, plan->sums_offset,
                        cells * plan->pieces * MR__VISION_SUMS * sizeof(int64_t));
}

static mr_argument pieces_step(const struct scoring *own)
{
    return NUMBER(own->plan->scratch_bytes / sizeof(int64_t));
}

static mr_status add_pieces(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const uint64_t tiles =
        (uint64_t)plan->tile_columns * plan->piece_segments * plan->cell_rows * plan->piece_bands;
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_CELL_SUMS, own->image_count * tiles,
                  own->slice_limit, own->textures, pieces_part(own), own->width, own->height,
                  NUMBER(plan->cell_columns), NUMBER(plan->cell_rows), NUMBER(plan->tile_cells),
                  NUMBER(plan->piece_segments), NUMBER(plan->piece_bands),
                  NUMBER(own->model->parameters.query.is_set), own->images, own->textures_step,
                  pieces_step(own));
}

static mr_status score_perspectival(const struct scoring *own)
{
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_CONTRAST, count_patches(own),
                  own->slice_limit, pieces_part(own), own->score, own->width, own->height,
                  own->columns, own->rows, NUMBER(own->plan->pieces), own->images, pieces_step(own),
                  own->score_step);
}

static mr_status score_participatory(const struct scoring *own)
{
    if (!own->model->parameters.query.is_set)
        return MR_OK; /* the balance writes its zeros */
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_SIMILARITY, count_patches(own),
                  own->slice_limit, pieces_part(own), mr_argument_buffer(own->model->terms),
                  mr_argument_buffer(own->model->query), own->score, own->width, own->height,
                  own->columns, own->rows, NUMBER(own->plan->pieces), own->images, pieces_step(own),
                  own->score_step);
}

static mr_status balance(const struct scoring *own, mr_argument scores)
{
    const struct mr__vision_parameters *parameters = &own->model->parameters;
    const bool has_query = parameters->query.is_set;
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_BALANCE, own->image_count,
                  own->slice_limit, scores, NUMBER(own->plan->patch_count),
                  mr_argument_f32((float)MR__VISION_CONTRAST_FLOOR), NUMBER(has_query),
                  mr_argument_f32(parameters->weights[0]), mr_argument_f32(parameters->weights[1]),
                  mr_argument_f32(has_query ? parameters->weights[2] : 0),
                  mr_argument_f32(parameters->tensions[MR__VISION_COMPRESS]),
                  mr_argument_f32(has_query ? parameters->tensions[MR__VISION_EXPLOIT] : 0),
                  mr_argument_f32(parameters->tensions[MR__VISION_FOCUS]),
                  mr_argument_f32(parameters->temperature), own->images, own->score_step);
}

static mr_status (*const score[SCORERS])(const struct scoring *) = {
    score_propositional,
    score_perspectival,
    score_participatory,
};

/* Scorer k behind `after`, and `stream` behind it. */
static mr_status run_scorer(const struct mr__vision_scorers *scorers, uint32_t k, mr_event *after,
                            const struct scoring *common, mr_stream *stream)
{
    struct scoring own = *common;
    own.stream = scorers->streams[k];
    own.score.offset += k * own.plan->patch_count * sizeof(float);
    mr_status status = mr_stream_wait_event(own.stream, after);
    if (!status)
        status = score[k](&own);
    /* Also after a failure: what was enqueued may still run, and `stream` must not overtake it. */
    const mr_status recorded = mr_event_record(scorers->scored[k], own.stream);
    const mr_status joined = recorded ? recorded : mr_stream_wait_event(stream, scorers->scored[k]);
    return status ? status : joined;
}

mr_status mr__vision_enqueue_scores(const struct mr__vision_model *model,
                                    const struct mr__vision_plan *plan, uint32_t image_count,
                                    struct mr__vision_scorers *scorers, mr_stream *stream,
                                    uint32_t slice_limit, struct mr__vision_place image,
                                    struct mr__vision_place textures,
                                    struct mr__vision_place scores)
{
    if (mr_buffer_size(scorers->scratch) / image_count < plan->scratch_bytes)
        return mr_error_set(MR_E_INVALID,
                            "vision: the scorers were made for %zu bytes of scratch, and each of "
                            "%u images needs %zu",
                            mr_buffer_size(scorers->scratch), image_count, plan->scratch_bytes);
    const struct scoring scoring = {
        .model = model,
        .plan = plan,
        .stream = stream,
        .slice_limit = slice_limit,
        .image_count = image_count,
        .image = mr__vision_part(image_count, image, 0, plan->image_bytes),
        .textures = mr__vision_part(image_count, textures, 0, plan->textures_bytes),
        .score = mr__vision_part(image_count, scores, 0, plan->patch_count * sizeof(float)),
        .scratch = { .buffer = scorers->scratch, .stride_bytes = plan->scratch_bytes },
        .images = NUMBER(image_count),
        .image_step = NUMBER(image.stride_bytes / plan->channel_bytes),
        .textures_step = NUMBER(textures.stride_bytes / sizeof(float)),
        .score_step = NUMBER(scores.stride_bytes / sizeof(float)),
        .width = NUMBER(plan->width),
        .height = NUMBER(plan->height),
        .columns = NUMBER(plan->columns),
        .rows = NUMBER(plan->rows),
    };
    mr_status status = mr_event_record(scorers->ready, stream);
    if (!status)
        status = add_pieces(&scoring);
    if (!status)
        status = mr_event_record(scorers->summed, stream);
    for (uint32_t k = 0; k < SCORERS && !status; k++)
        status =
            run_scorer(scorers, k, k == 0 ? scorers->ready : scorers->summed, &scoring, stream);
    if (status)
        return status;
    return balance(&scoring, mr__vision_part(image_count, scores, 0, plan->scores_bytes));
}
