/* SPDX-License-Identifier: MIT */
/*
 * millrace/version.h - the version of these headers and of the linked library.
 *
 * Before 1.0 there is no promise that a program built with one minor version runs with another.
 */
#ifndef MR_VERSION_H
#define MR_VERSION_H

#include <millrace/api.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MR_VERSION_MAJOR 0
#define MR_VERSION_MINOR 1
#define MR_VERSION_PATCH 0

/* Major * 1000000 + minor * 1000 + patch, of these headers. */
#define MR_VERSION (MR_VERSION_MAJOR * 1000000 + MR_VERSION_MINOR * 1000 + MR_VERSION_PATCH)

/* The same number, of the linked library. [any thread] */
MR_API int mr_version(void);

/* The linked library's version as text, "0.1.0". Static. [any thread] */
MR_API const char *mr_version_text(void);

#ifdef __cplusplus
}
#endif
#endif
