/* SPDX-License-Identifier: MIT */
/*
 * core/status.h - this thread's words, for those who run the caller's functions.
 */
#ifndef MR__STATUS_H
#define MR__STATUS_H

#include <millrace/status.h>

/* Forgets this thread's words, so that what mr_last_error gives afterwards is new. */
void mr__error_clear(void);

#endif
