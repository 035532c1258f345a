/* SPDX-License-Identifier: MIT */
/*
 * support/vision_images.h - images made from a seed, and the vision model run over one on a device.
 */
#ifndef TEST_VISION_IMAGES_H
#define TEST_VISION_IMAGES_H

#include "support/check.h"
#include "support/random.h"

#include <millrace/event.h>

#include "vision/vision_model.h"

/* A coloured slope with discs, stripes and a little noise on it. */
static inline uint16_t vision_value(struct random *noise, uint32_t x, uint32_t y, uint32_t channel,
                                    uint32_t seed)
{
    static const uint16_t inks[4][3] = { { 55000, 5000, 6000 },
                                         { 4000, 20000, 52000 },
                                         { 62000, 57000, 3000 },
                                         { 30000, 30000, 30000 } };
    uint32_t value = 9000 + 137 * x + 211 * y * (channel + 1) / 2;
    for (uint32_t disc = 0; disc < 4; disc++) {
        const int64_t dx = (int64_t)x - (20 + 37 * disc + 11 * seed);
        const int64_t dy = (int64_t)y - (14 + 23 * disc);
        if (dx * dx + dy * dy < 150 + 90 * disc)
            value = inks[disc][channel];
    }
    if (y % 32 < 9 && (x + y) / 3 % 2)
        value = 60000 - value % 60000;
    return (uint16_t)(value % 60000 + random_below(noise, 2500));
}

/* Interleaved RGB of u8 or u16; freed with free. */
static inline void *vision_image(uint32_t width, uint32_t height, uint32_t channel_bytes,
                                 uint32_t seed)
{
    const size_t count = (size_t)3 * width * height;
    struct random noise = { 77 + seed };
    void *pixels = malloc(count * channel_bytes);
    CHECK(pixels);
    for (size_t i = 0; i < count; i++) {
        const uint32_t x = (uint32_t)(i / 3 % width), y = (uint32_t)(i / 3 / width);
        const uint16_t value = vision_value(&noise, x, y, (uint32_t)(i % 3), seed);
        if (channel_bytes == 1)
            ((uint8_t *)pixels)[i] = (uint8_t)(value >> 8);
        else
            ((uint16_t *)pixels)[i] = value;
    }
    return pixels;
}

/* All that comes of one image, in host memory. */
struct vision_outcome {
    struct mr__vision_plan plan;
    float *textures, *scores;
    void *result;
};

static inline void vision_outcome_free(struct vision_outcome *outcome)
{
    free(outcome->textures);
    free(outcome->scores);
    free(outcome->result);
}

/* Buffers and streams for one image on a device. */
struct vision_bench {
    mr_stream *stream;
    struct mr__vision_scorers *scorers;
    struct mr__vision_place image, textures, scores, result;
};

static inline struct mr__vision_place vision_place(mr_device *device, size_t size_bytes)
{
    struct mr__vision_place place = { .offset = 256 };
    CHECK_OK(mr_buffer_create(device, size_bytes + 256, NULL, &place.buffer));
    return place;
}

static inline void vision_bench_init(struct vision_bench *bench, mr_device *device,
                                     struct mr__vision_model *model,
                                     const struct mr__vision_plan *plan)
{
    CHECK_OK(mr_stream_create(device, NULL, &bench->stream));
    CHECK_OK(mr__vision_scorers_create(model, plan->scratch_bytes, 0, &bench->scorers));
    bench->image = vision_place(device, plan->image_bytes);
    bench->textures = vision_place(device, plan->textures_bytes);
    bench->scores = vision_place(device, plan->scores_bytes);
    bench->result = vision_place(device, plan->result_bytes);
}

static inline void vision_bench_fini(struct vision_bench *bench)
{
    mr__vision_scorers_destroy(bench->scorers);
    mr_stream_destroy(bench->stream);
    mr_buffer_destroy(bench->image.buffer);
    mr_buffer_destroy(bench->textures.buffer);
    mr_buffer_destroy(bench->scores.buffer);
    mr_buffer_destroy(bench->result.buffer);
}

/* Copies a host block to or from a place, and waits. */
static inline void vision_put(mr_device *device, mr_stream *stream, struct mr__vision_place place,
                              const void *block, size_t size_bytes)
{
    mr_buffer *host;
    CHECK_OK(
        mr_buffer_borrow(device, (void *)(uintptr_t)block, size_bytes, MR_PLACE_PAGEABLE, &host));
    CHECK_OK(mr_copy(stream, place.buffer, place.offset, host, 0, size_bytes));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(host);
}

static inline void *vision_get(mr_device *device, mr_stream *stream, struct mr__vision_place place,
                               size_t size_bytes)
{
    mr_buffer *host;
    void *block = calloc(1, size_bytes);
    CHECK(block);
    CHECK_OK(mr_buffer_borrow(device, block, size_bytes, MR_PLACE_PAGEABLE, &host));
    CHECK_OK(mr_copy(stream, host, 0, place.buffer, place.offset, size_bytes));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(host);
    return block;
}

static inline void vision_enqueue(struct vision_bench *bench, struct mr__vision_model *model,
                                  const struct mr__vision_plan *plan, uint32_t image_count)
{
    CHECK_OK(mr__vision_enqueue_textures(model, plan, image_count, bench->stream, 0, bench->image,
                                         bench->textures));
    CHECK_OK(mr__vision_enqueue_scores(model, plan, image_count, bench->scorers, bench->stream, 0,
                                       bench->image, bench->textures, bench->scores));
    CHECK_OK(mr__vision_enqueue_tokens(model, plan, image_count, bench->stream, 0, bench->textures,
                                       bench->scores, bench->result));
}

static inline void vision_collect(const struct vision_bench *bench, mr_device *device,
                                  const struct mr__vision_plan *plan,
                                  struct vision_outcome *outcome)
{
    outcome->plan = *plan;
    outcome->textures =
        (float *)vision_get(device, bench->stream, bench->textures, plan->textures_bytes);
    outcome->scores = (float *)vision_get(device, bench->stream, bench->scores, plan->scores_bytes);
    outcome->result = vision_get(device, bench->stream, bench->result, plan->result_bytes);
}

/* The whole chain over one image. */
static inline void vision_run(mr_device *device, struct mr__vision_model *model,
                              const struct mr__vision_plan *plan, const void *pixels,
                              struct vision_outcome *outcome)
{
    struct vision_bench bench;
    vision_bench_init(&bench, device, model, plan);
    vision_put(device, bench.stream, bench.image, pixels, plan->image_bytes);
    vision_enqueue(&bench, model, plan, 1);
    vision_collect(&bench, device, plan, outcome);
    vision_bench_fini(&bench);
}

static inline const uint32_t *vision_words(const struct vision_outcome *outcome, size_t offset)
{
    return (const uint32_t *)((const char *)outcome->result + offset);
}

static inline const float *vision_compressed(const struct vision_outcome *outcome)
{
    return (const float *)((const char *)outcome->result + outcome->plan.compressed_offset);
}

static inline uint32_t vision_boxes(const struct vision_outcome *outcome)
{
    return vision_words(outcome, outcome->plan.box_first_offset)[outcome->plan.patch_count];
}

#endif
