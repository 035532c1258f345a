/* SPDX-License-Identifier: MIT */
/*
 * job/output.h - a file that appears under its name only when it is complete. Devices and pipes
 * (/dev/null, a FIFO) are written directly.
 *
 * One thread writes a file: Linux lets one at a time into a file of ext4, XFS or tmpfs, and two threads
 * with pwrite were no faster than one.
 */
#ifndef MR__JOB_OUTPUT_H
#define MR__JOB_OUTPUT_H

#include "job/fields.h"
#include "job/unnamed.h"

/* Start with zeroes and `path` set; NULL is standard output. */
struct mr__output {
    const char *path;
    char *target; /* where the name leads: links followed; NULL when written directly. mr__free */
    struct mr__unnamed unnamed; /* where there is a target, from open to publish */
    unsigned char *held;        /* small writes of regular files wait here */
    size_t held_bytes;
    int file; /* valid while is_open */
    bool is_open;
    uint64_t written; /* bytes handed in */
};

/* Before a run: can `path` be written, and is there room for `due_bytes` (0 = unknown)? Adds
 * problems with the remedy. */
bool mr__output_check(const struct mr__reading *reading, const struct mr__yaml *node,
                      const char *path, uint64_t due_bytes);

/* True when both names lead to one file, whether it is there yet or not. */
bool mr__output_is_same(const char *a, const char *b);

mr_status mr__output_open(struct mr__output *output);
/* MR_E_IO, or MR_E_CLOSED when the reader of a pipe has gone; the words name the path and how far
 * it came. */
mr_status mr__output_write(struct mr__output *output, const void *data, size_t size_bytes);
/* Writes over what stands at `offset`, for headers. Not for pipes. */
mr_status mr__output_patch(struct mr__output *output, uint64_t offset, const void *data,
                           size_t size_bytes);
/* Ends writing: everything is with the system. The file does not stand under its name yet. */
mr_status mr__output_close(struct mr__output *output);
/* Puts a closed output under its name. */
mr_status mr__output_publish(struct mr__output *output);
/* Removes what is not published. Accepts any state, any number of times. */
void mr__output_abandon(struct mr__output *output);

#endif
