/* SPDX-License-Identifier: MIT */
/*
 * base/environment.h - the one place where the library reads the process's environment.
 */
#ifndef MR__ENVIRONMENT_H
#define MR__ENVIRONMENT_H

/* The variable's value, NULL when it is not set or empty. Valid until the program changes it. */
const char *mr__environment(const char *name);

/* The whole environment with LC_ALL=C, so that a child's messages can be read: an array for
 * posix_spawn whose strings are the process's own. Freed with mr__free; NULL when memory is out. */
char **mr__environment_in_english(void);

#endif
