/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_work.h - what queues do: copies, fills, launches and calls.
 */
#ifndef MR__CPU_WORK_H
#define MR__CPU_WORK_H

#include "backend/cpu/cpu_backend.h"

/* The table's entries. */
mr_status mr__cpu_copy(struct mr_queue *queue, const struct mr_transfer *transfer);
mr_status mr__cpu_fill(struct mr_queue *queue, const struct mr_memory *memory, size_t offset,
                       size_t size_bytes, uint32_t value, uint32_t value_bytes);
mr_status mr__cpu_launch(struct mr_queue *queue, struct mr_function *function,
                         const struct mr_function_launch *launch);
mr_status mr__cpu_call(struct mr_queue *queue, void (*function)(void *context), void *context);

#endif
