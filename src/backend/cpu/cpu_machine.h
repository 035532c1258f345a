/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_machine.h - what this machine lends this process: processors, memory, a name.
 */
#ifndef MR__CPU_MACHINE_H
#define MR__CPU_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Processors that the process may use, at least 1: those it may run on, or as many as its control
 * group's quota is worth when that is less. */
uint32_t mr__cpu_machine_processors(void);

/* True when a thread that waits by looking does not keep the one it waits for from running. */
bool mr__cpu_can_spin(void);

/* The processor's name as its maker gives it, or "CPU". */
void mr__cpu_machine_name(char *name, size_t name_bytes);

/* Bytes of memory that the process may use in all, and that are free now: the machine's, or what the
 * control group or a limit of the process (ulimit -v, -d) leaves of it. */
void mr__cpu_machine_memory(uint64_t *free_bytes, uint64_t *total_bytes);

/* The same without limits of the process, from the files below a root folder; "" is the machine's own.
 * For tests. */
void mr__cpu_machine_memory_of(const char *root, uint64_t *free_bytes, uint64_t *total_bytes);
uint32_t mr__cpu_machine_quota_of(const char *root); /* UINT32_MAX when there is none */

#endif
