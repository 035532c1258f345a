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
};

enum { MR__VISION_SET_LIMIT = 64 };

/* What is kept for each of the run's devices. */
struct mr__vision_lane {
    mr_device *device;
    struct mr__vision_model *model;
    struct mr__vision_scorers *scorers[MR__VISION_SET_LIMIT];
};

struct mr__vision_run {
    struct mr__vision_job *vision;
    const atomic_int *is_cancelled;
    mr_device *host; /* the reference is this run's */
    struct mr__vision_lane *lanes;
    uint32_t lane_count;
    struct mr__vision_sizes largest;
    uint32_t *due; /* records whose header is good */
    size_t due_count;
    uint32_t *items; /* the record of each item, written by the source */
    struct mr__vision_crew *crew;
    uint32_t slot_count, writer_count; /* of each device */
    mr_pipeline *pipeline;
};

/* Reads the headers; `due` has room for all. */
mr_status mr__vision_scan(struct mr__vision_run *run);
/* Mode, sets, threads, slots, what is measured: what the job leaves open. */
mr_status mr__vision_choose(struct mr__vision_run *run);
/* Whether the device works in the host's memory. */
bool mr__vision_is_host(mr_device *device);

#endif
