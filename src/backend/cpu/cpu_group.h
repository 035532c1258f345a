/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_group.h - the control groups that the process is in, and small files of the system.
 */
#ifndef MR__CPU_GROUP_H
#define MR__CPU_GROUP_H

#include <stdbool.h>
#include <stdint.h>

enum { CPU_LINE_TEXT_BYTES = 512 };

/* The first line of `path` that starts with `key`, behind it and a ':' or blanks; false when there is
 * none. An empty key takes the first line. */
bool mr__cpu_read_line(const char *path, const char *key, char line[CPU_LINE_TEXT_BYTES]);

/* UINT64_MAX when there is no such number ("max", no file). */
uint64_t mr__cpu_read_number(const char *path, const char *key);

/* Calls `visit` with the folder of every group that limits the process by the controller ("memory",
 * "cpu"), from its own up to the top, in both layouts of /sys/fs/cgroup below `root`. */
void mr__cpu_group_each(const char *root, const char *controller,
                        void (*visit)(const char *folder, void *context), void *context);

#endif
