/* SPDX-License-Identifier: MIT */
/*
 * job/remedy.h - what to do about a file that cannot be read: the words behind the system's own.
 */
#ifndef MR__JOB_REMEDY_H
#define MR__JOB_REMEDY_H

#include <stddef.h>

#define MR__REMEDY_BYTES 512

/* Says what mends `code`, an errno of opening or reading `path`: the nearest name in its folder, the
 * files with `ending` (".yaml"; NULL: the path's own) that are there, the missing folder, the
 * permission. Begins with "; ", or is empty where there is nothing to say. Looks at the disk. Answers
 * `text`. */
const char *mr__file_remedy(const char *path, int code, const char *ending,
                            char text[MR__REMEDY_BYTES]);

#endif
