/* SPDX-License-Identifier: MIT */
/*
 * flow/tuning.h - chunk sizes from what copies cost on a device.
 */
#ifndef MR__TUNING_H
#define MR__TUNING_H

#include <millrace/device.h>

struct mr_pipeline;
struct mr__plan;

/* What a copy to the device costs: a fixed time and a rate. */
struct mr__copy_cost {
    uint64_t latency_ns;
    double bytes_per_ns;
};

/* Measures once per device and process, in a few milliseconds. May block. [any thread] */
mr_status mr__tuning_measure(mr_device *device, struct mr__copy_cost *cost);

/* The chunk for a pipeline that moves `total_bytes` (0 = unknown) over its largest edge. */
mr_status mr__tuning_chunk(const struct mr_pipeline *pipeline, const struct mr__plan *plan,
                           uint64_t total_bytes, uint64_t *chunk_bytes);

#endif
