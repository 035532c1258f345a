/* SPDX-License-Identifier: MIT */
/*
 * base/process.h - running another program and reading what it says.
 */
#ifndef MR__PROCESS_H
#define MR__PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The path of a program: `name` itself when it has a slash, else the first in $PATH. 0, ENOENT when
 * there is none, or ENOMEM. Freed with mr__free. */
int mr__process_find(const char *name, char **path);

struct mr__process_result {
    int error;      /* errno when it could not be started, else 0 */
    int exit_code;  /* 128 + the signal when one ended it; -1 when nobody could say */
    bool is_killed; /* it took too long */
    char *output; /* both its outputs, cut after 64 KiB; NULL when there was no memory. mr__free */
};

/* Runs `path` with `arguments` (the program's name first, NULL last) and no standard input, in a
 * process group of its own, in English. Waits for it, and kills the group when the time is over. No
 * shell is involved. */
struct mr__process_result mr__process_run(const char *path, char *const *arguments,
                                          uint64_t timeout_ns);

#endif
