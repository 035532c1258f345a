/* SPDX-License-Identifier: MIT */
/*
 * job/vision_run.h - what one run of the vision job holds, from the list to the end of the pipeline.
 */
#ifndef MR__JOB_VISION_RUN_H
#define MR__JOB_VISION_RUN_H

#include "job/vision_job.h"

#include <millrace/pipeline.h>

/* Of the largest image. */
struct mr__vision_sizes {
    size_t image_bytes, textures_bytes, scores_bytes, result_bytes, scratch_bytes;
    size_t decode_bytes, picture_bytes; /* on the host: while decoding, and to draw it */
};

enum { MR__VISION_SET_LIMIT = 64 };

/* What is kept for each of the run's devices. */
struct mr__vision_lane {
    mr_device *device;
    uint64_t memory_bytes; /* that images may take there */
    struct mr__vision_model *model;
    struct mr__vision_scorers *scorers[MR__VISION_SET_LIMIT];
};

static inline uint64_t mr__vision_at_most(uint64_t value, uint64_t limit)
{
    return value < limit ? value : limit;
}

struct mr__vision_run {
    struct mr__vision_job *vision;
    const atomic_int *is_cancelled;
    mr_device *host;       /* the reference is this run's */
    uint64_t memory_bytes; /* that images may take there */
    struct mr__vision_lane *lanes;
    uint32_t lane_count;
    struct mr__vision_sizes largest;
    uint32_t *due; /* records whose header is good */
    size_t due_count;
    size_t kind_changes; /* from one of them to the next */
    uint32_t *items;     /* the record of each item, written by the source */
    struct mr__vision_crew *crew;
    uint32_t slot_count, writer_count; /* of each device */
    mr_pipeline *pipeline;
};

/* Reads the headers; `due` has room for all. */
mr_status mr__vision_scan(struct mr__vision_run *run);
/* Images of one size and form, whose plans are the same. */
bool mr__vision_is_alike(const struct mr__vision_plan *left, const struct mr__vision_plan *right);
/* Mode, sets, threads, slots, what is measured: what the job leaves open. `due_count` is not 0. */
void mr__vision_choose(struct mr__vision_run *run);

/* ---- memory (vision_memory.c) ---- */

/* How much images may take, of host and lanes. */
mr_status mr__vision_memory_find(struct mr__vision_run *run);
/* Makes `sizes` large enough for an image that has its plan. */
void mr__vision_sizes_widen(const struct mr__vision_job *vision,
                            const struct mr__vision_record *record, struct mr__vision_sizes *sizes);
/* Whether an image has room by itself; MR_E_UNSUPPORTED says what it needs. */
mr_status mr__vision_memory_check(const struct mr__vision_run *run,
                                  const struct mr__vision_record *record);
/* Images as large as the largest in flight on each device, that have room: at least 1. */
uint64_t mr__vision_memory_images(const struct mr__vision_run *run);
/* Cuts batches, slots and threads down until the largest images have room, to 1 of each at least. */
void mr__vision_memory_fit(struct mr__vision_run *run);
/* Places for images that are decoded ahead of those in flight: one for each thread, in whole batches. */
uint64_t mr__vision_memory_waiting(const struct mr__vision_job *vision);
/* Whether the device works in the host's memory. */
bool mr__vision_is_host(mr_device *device);
/* Whether pictures are made of images, which takes longer than all the rest. */
bool mr__vision_is_drawing(const struct mr__vision_job *vision);

#endif
