/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_capture.h - queues whose records go into a plan.
 */
#ifndef MR__CPU_CAPTURE_H
#define MR__CPU_CAPTURE_H

#include "backend/cpu/cpu_plan.h"

struct cpu_point;
struct cpu_queue;

/* In place of mr__cpu_queue_reserve and mr__cpu_queue_submit. */
void *mr__cpu_capture_reserve(struct cpu_queue *queue, uint32_t kind, size_t size_bytes);
void mr__cpu_capture_commit(struct cpu_queue *queue);

/* A plan as the queue's next node. Takes `child`, also on failure. */
mr_status mr__cpu_capture_add_plan(struct cpu_queue *queue, struct cpu_plan *child);

/* The queue's place, kept in the point; and waiting for one, which draws the queue in. */
mr_status mr__cpu_capture_mark(struct cpu_queue *queue, struct cpu_point *point);
mr_status mr__cpu_capture_wait(struct cpu_queue *queue, const struct cpu_point *point);

/* The table's entries. */
mr_status mr__cpu_capture_begin(struct mr_queue *queue);
mr_status mr__cpu_capture_end(struct mr_queue *queue, struct mr_plan **out);

#endif
