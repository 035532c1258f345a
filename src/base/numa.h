/* SPDX-License-Identifier: MIT */
/*
 * base/numa.h - threads and memory near a device, where the machine says what near is.
 */
#ifndef MR__NUMA_H
#define MR__NUMA_H

#include <sched.h>
#include <stdbool.h>

/* Where the thread was allowed to run before. */
struct mr__numa {
    cpu_set_t before;
    bool is_bound;
};

/* Keeps the calling thread to the processors of a node until mr__numa_leave; threads that it starts
 * meanwhile stay there, and memory that it pins lies there. Does nothing where the node is unknown (-1),
 * or where it would leave the thread without a processor. */
void mr__numa_enter(int node, struct mr__numa *numa);
void mr__numa_leave(const struct mr__numa *numa);

/* "0-3,8,10-11" as /sys writes it. False where it is no such list. */
bool mr__numa_parse(const char *text, cpu_set_t *out);

#endif
