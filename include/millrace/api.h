/* SPDX-License-Identifier: MIT */
/*
 * millrace/api.h - how public symbols are declared.
 *
 * MR_API marks a symbol that the shared library exports; everything else is hidden. MR_MUST_USE
 * makes the compiler complain when a status is dropped.
 */
#ifndef MR_API_H
#define MR_API_H

#if defined(__GNUC__) || defined(__clang__)
#define MR_API __attribute__((visibility("default")))
#define MR_MUST_USE __attribute__((warn_unused_result))
#define MR_PRINTF(format_index, first_argument)                                                    \
    __attribute__((format(printf, format_index, first_argument)))
#else
#define MR_API
#define MR_MUST_USE
#define MR_PRINTF(format_index, first_argument)
#endif

/* A wait without end, wherever a call takes `timeout_ns`. Zero means: look, do not wait. */
#define MR_FOREVER UINT64_MAX

#endif
