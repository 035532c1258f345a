/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_memory.h - data memory: all of it is the host's, wherever it is said to be.
 */
#ifndef MR__CPU_MEMORY_H
#define MR__CPU_MEMORY_H

#include "backend/cpu/cpu_backend.h"

/* The table's entries. */
mr_status mr__cpu_memory_create(struct mr_backend_device *device, size_t size_bytes, mr_place place,
                                struct mr_memory *out);
void mr__cpu_memory_destroy(struct mr_memory *memory);
mr_status mr__cpu_memory_register(struct mr_backend_device *device, void *address,
                                  size_t size_bytes, struct mr_memory *out);
void mr__cpu_memory_unregister(struct mr_memory *memory);

/* Data memory, aligned to a page; NULL when memory is out or the process may not have so much. Freed
 * with the same size. */
void *mr__cpu_data_alloc(size_t size_bytes);
void mr__cpu_data_free(void *address, size_t size_bytes);

/* MR_E_NO_MEMORY, with words: what was asked for and what there is. */
mr_status mr__cpu_data_refuse(size_t size_bytes, mr_place place);

#endif
