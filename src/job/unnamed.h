/* SPDX-License-Identifier: MIT */
/*
 * job/unnamed.h - a new file that has no name until it is complete, so that nothing is left of it
 * however the process ends. Where the file system has no such files (O_TMPFILE), it is hidden under a
 * temporary name instead, which is left when the process is killed.
 */
#ifndef MR__JOB_UNNAMED_H
#define MR__JOB_UNNAMED_H

#include <stdbool.h>

struct mr__unnamed {
    int file;        /* the caller's to write; closed by those below. -1 when there is none */
    char *temporary; /* the hidden name it has, or NULL */
};

/* Makes one in the folder of `target`, for reading and writing. False with errno set. */
bool mr__unnamed_open(struct mr__unnamed *unnamed, const char *target);

/* Puts the file under the name `target`, in place of what stood there, and closes it. False with errno
 * set: then it is still there to be abandoned. */
bool mr__unnamed_name(struct mr__unnamed *unnamed, const char *target);

/* Removes what has no name yet. Any number of times. */
void mr__unnamed_abandon(struct mr__unnamed *unnamed);

/* For tests: as on a file system without such files. */
extern bool mr__unnamed_is_unsupported;

#endif
