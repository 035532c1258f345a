/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_work.h - what queues do: copies, fills, launches and calls.
 */
#ifndef MR__CPU_WORK_H
#define MR__CPU_WORK_H

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_record.h"

/* Fill a record behind its head: for queues and for plans. */
void mr__cpu_write_copy(struct cpu_copy_record *record, const struct mr_transfer *transfer);
void mr__cpu_write_fill(struct cpu_fill_record *record, const struct mr_memory *memory,
                        size_t offset, size_t size_bytes, uint32_t value, uint32_t value_bytes);
size_t mr__cpu_launch_bytes(const struct mr_function_launch *launch);
void mr__cpu_write_launch(struct cpu_launch_record *record, struct mr_function *function,
                          const struct mr_function_launch *launch);

/* The table's entries. */
mr_status mr__cpu_copy(struct mr_queue *queue, const struct mr_transfer *transfer);
mr_status mr__cpu_fill(struct mr_queue *queue, const struct mr_memory *memory, size_t offset,
                       size_t size_bytes, uint32_t value, uint32_t value_bytes);
mr_status mr__cpu_launch(struct mr_queue *queue, struct mr_function *function,
                         const struct mr_function_launch *launch);
mr_status mr__cpu_call(struct mr_queue *queue, void (*function)(void *context), void *context);

/* Worker: whether the launch would run whole, untimed, on the worker. */
bool mr__cpu_launch_is_whole(struct cpu_worker *worker, const struct cpu_launch_record *launch);

#endif
