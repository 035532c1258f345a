/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_point.h - points and gates: a sequence of a timeline that others hold.
 */
#ifndef MR__CPU_POINT_H
#define MR__CPU_POINT_H

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_plan.h"
#include "backend/cpu/cpu_timeline.h"

struct cpu_device;
struct cpu_queue;

struct cpu_point {
    struct mr_point base;
    struct cpu_device *device;
    struct cpu_timeline *timeline;
    uint64_t sequence;
    _Atomic uint32_t references;
    bool has_timing;
    uint64_t time_ns; /* written before `sequence` is reached */
    struct cpu_point *next;

    /* In a capture there is no timeline, but a place in its plan, while it lasts. */
    struct cpu_capture *capture;
    struct cpu_frontier place;
};

struct cpu_gate {
    struct mr_gate base;
    struct cpu_timeline *timeline;
};

static inline struct cpu_point *cpu_point_from(struct mr_point *point)
{
    return (struct cpu_point *)point;
}

static inline struct cpu_gate *cpu_gate_from(struct mr_gate *gate)
{
    return (struct cpu_gate *)gate;
}

/* The table's entries. */
mr_status mr__cpu_point_record(struct mr_queue *queue, bool has_timing, struct mr_point **out);
mr_status mr__cpu_point_renew(struct mr_queue *queue, bool has_timing, struct mr_point **point);
void mr__cpu_point_retain(struct mr_point *point);
void mr__cpu_point_release(struct mr_point *point);
mr_status mr__cpu_point_query(struct mr_point *point);
mr_status mr__cpu_point_wait(struct mr_point *point, uint64_t timeout_ns);
mr_status mr__cpu_point_elapsed(struct mr_point *start, struct mr_point *end, int64_t *elapsed_ns);
mr_status mr__cpu_queue_wait_point(struct mr_queue *queue, struct mr_point *point);

mr_status mr__cpu_gate_create(struct mr_backend_device *device, struct mr_gate **out);
void mr__cpu_gate_open(struct mr_gate *gate);
void mr__cpu_gate_destroy(struct mr_gate *gate);
mr_status mr__cpu_queue_wait_gate(struct mr_queue *queue, struct mr_gate *gate);

/* Gives a queue's unused points back to the device. */
void mr__cpu_point_return_all(struct cpu_queue *queue);

/* Frees the device's unused points. Every point has been released. */
void mr__cpu_point_free_all(struct cpu_device *device);

#endif
