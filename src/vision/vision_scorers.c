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

/* ---- one image ---- */

struct scoring {
    const struct mr__vision_model *model;
    const struct mr__vision_plan *plan;
    mr_stream *stream;
    uint32_t slice_limit;
    mr_argument image, textures, score, scratch;
    mr_argument width, height, columns, rows;
};

static mr_argument scratch_part(const struct scoring *scoring, size_t offset, size_t size_bytes)
{
    return mr_argument_range(scoring->scratch.buffer, offset, size_bytes);
}

static mr_status score_propositional(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const uint64_t count = (uint64_t)plan->patch_count * plan->histogram_bands;
    const mr_argument partial =
        scratch_part(own, plan->colour_offset, count * 2 * MR__VISION_BINS * sizeof(uint32_t));
    const mr_argument bands = NUMBER(plan->histogram_bands);
    const mr_status status = LAUNCH(
        own->model, own->stream,
        plan->channel_bytes == 1 ? MR__VISION_KERNEL_HISTOGRAM_U8 : MR__VISION_KERNEL_HISTOGRAM_U16,
        count, own->slice_limit, own->image, partial, own->width, own->height, own->columns,
        own->rows, NUMBER(plan->histogram_rows), bands);
    if (status)
        return status;
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_ENTROPY, plan->patch_count,
                  own->slice_limit, partial, own->score, own->width, own->height, own->columns,
                  own->rows, bands);
}

/* The sums of the cells' pieces, which two of the scorers go on from. */
static mr_argument pieces_part(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const size_t cells = (size_t)plan->cell_columns * plan->cell_rows;
    return scratch_part(own, plan->sums_offset,
                        cells * plan->pieces * MR__VISION_SUMS * sizeof(int64_t));
}

static mr_status add_pieces(const struct scoring *own)
{
    const struct mr__vision_plan *plan = own->plan;
    const uint64_t tiles =
        (uint64_t)plan->tile_columns * plan->piece_segments * plan->cell_rows * plan->piece_bands;
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_CELL_SUMS, tiles, own->slice_limit,
                  own->textures, pieces_part(own), own->width, own->height,
                  NUMBER(plan->cell_columns), NUMBER(plan->cell_rows), NUMBER(plan->tile_cells),
                  NUMBER(plan->piece_segments), NUMBER(plan->piece_bands),
                  NUMBER(own->model->parameters.query.is_set));
}

static mr_status score_perspectival(const struct scoring *own)
{
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_CONTRAST, own->plan->patch_count,
                  own->slice_limit, pieces_part(own), own->score, own->width, own->height,
                  own->columns, own->rows, NUMBER(own->plan->pieces));
}

static mr_status score_participatory(const struct scoring *own)
{
    if (!own->model->parameters.query.is_set)
        return mr_fill(own->stream, own->score.buffer, own->score.offset, own->score.size_bytes, 0,
                       4);
    return LAUNCH(own->model, own->stream, MR__VISION_KERNEL_SIMILARITY, own->plan->patch_count,
                  own->slice_limit, pieces_part(own), mr_argument_buffer(own->model->terms),
                  mr_argument_buffer(own->model->query), own->score, own->width, own->height,
                  own->columns, own->rows, NUMBER(own->plan->pieces));
}

static mr_status balance(const struct mr__vision_model *model, const struct mr__vision_plan *plan,
                         mr_stream *stream, uint32_t slice_limit, mr_argument scores)
{
    const struct mr__vision_parameters *own = &model->parameters;
    const bool has_query = own->query.is_set;
    return LAUNCH(
        model, stream, MR__VISION_KERNEL_BALANCE, 1, slice_limit, scores, NUMBER(plan->patch_count),
        mr_argument_f32((float)MR__VISION_CONTRAST_FLOOR), mr_argument_f32(own->weights[0]),
        mr_argument_f32(own->weights[1]), mr_argument_f32(has_query ? own->weights[2] : 0),
        mr_argument_f32(own->tensions[MR__VISION_COMPRESS]),
        mr_argument_f32(has_query ? own->tensions[MR__VISION_EXPLOIT] : 0),
        mr_argument_f32(own->tensions[MR__VISION_FOCUS]), mr_argument_f32(own->temperature));
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
    own.score.offset += k * own.score.size_bytes;
    mr_status status = mr_stream_wait_event(own.stream, after);
    if (!status)
        status = score[k](&own);
    /* Also after a failure: what was enqueued may still run, and `stream` must not overtake it. */
    const mr_status recorded = mr_event_record(scorers->scored[k], own.stream);
    const mr_status joined = recorded ? recorded : mr_stream_wait_event(stream, scorers->scored[k]);
    return status ? status : joined;
}

mr_status mr__vision_enqueue_scores(const struct mr__vision_model *model,
                                    const struct mr__vision_plan *plan,
                                    struct mr__vision_scorers *scorers, mr_stream *stream,
                                    uint32_t slice_limit, struct mr__vision_place image,
                                    struct mr__vision_place textures,
                                    struct mr__vision_place scores)
{
    if (mr_buffer_size(scorers->scratch) < plan->scratch_bytes)
        return mr_error_set(MR_E_INVALID,
                            "vision: the scorers were made for %zu bytes of scratch, and this "
                            "image needs %zu",
                            mr_buffer_size(scorers->scratch), plan->scratch_bytes);
    const struct scoring scoring = {
        .model = model,
        .plan = plan,
        .stream = stream,
        .slice_limit = slice_limit,
        .image = mr_argument_range(image.buffer, image.offset, plan->image_bytes),
        .textures = mr_argument_range(textures.buffer, textures.offset, plan->textures_bytes),
        .score = mr_argument_range(scores.buffer, scores.offset, plan->patch_count * sizeof(float)),
        .scratch = mr_argument_buffer(scorers->scratch),
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
    return balance(model, plan, stream, slice_limit,
                   mr_argument_range(scores.buffer, scores.offset, plan->scores_bytes));
}
