/* SPDX-License-Identifier: MIT */
/*
 * millrace/status.h - what a call answers, and the words behind a failure.
 *
 * Every call that can fail returns an mr_status: 0 on success, negative on failure, and MR_END (1)
 * where a sequence has ended. The result comes through the last parameter, which is set to NULL or
 * zero first. The words (what failed, where, the value, the remedy, the driver's own code and text)
 * are kept per thread until the next failure on that thread.
 */
#ifndef MR_STATUS_H
#define MR_STATUS_H

#include <millrace/api.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mr_status {
    MR_OK = 0,
    MR_END = 1,            /* the sequence has ended; nothing failed */
    MR_E_INVALID = -1,     /* an argument or option is out of range */
    MR_E_STATE = -2,       /* right call, wrong moment */
    MR_E_NO_MEMORY = -3,   /* out of memory; nothing changed */
    MR_E_BUSY = -4,        /* not finished yet; try again */
    MR_E_TIMEOUT = -5,     /* the time given ran out; work continues */
    MR_E_UNSUPPORTED = -6, /* this backend cannot do it */
    MR_E_UNAVAILABLE = -7, /* the backend, device or tool is not here */
    MR_E_DEVICE = -8,      /* the driver refused or failed; see mr_last_error() */
    MR_E_CLOSED = -9,      /* the other side has gone; no more will come or be taken */
    MR_E_CANCELLED = -10,  /* stopped on request before it was done */
    MR_E_CALLBACK = -11,   /* a function of the caller's reported failure */
    MR_E_IO = -12,         /* reading or writing a file failed */
    MR_E_FORMAT = -13,     /* data or text from outside is malformed */
    MR_E_COMPILE = -14,    /* a kernel's source does not compile */
    MR_E_SIGNATURE = -15,  /* arguments differ from the kernel's declared signature */
    MR_E_MISMATCH = -16 /* a result differs from its reference, or a graph from what it updates */
} mr_status;

/* The constant's name, "MR_E_TIMEOUT". Static; never NULL. [any thread] */
MR_API const char *mr_status_name(mr_status status);

/* A short phrase, "the time given ran out". Static; never NULL. [any thread] */
MR_API const char *mr_status_text(mr_status status);

/* The words of the last failure on this thread; "" when there was none. Valid until the next failure
 * on this thread. At most MR_ERROR_BYTES with the final zero; longer text is cut. [any thread] */
#define MR_ERROR_BYTES 1024
MR_API const char *mr_last_error(void);

/* Sets this thread's words and returns `status`, so that a stage, source or sink of yours can say
 * `return mr_error_set(MR_E_CALLBACK, "frame %d: no sync word", n);`. [any thread] */
MR_API mr_status mr_error_set(mr_status status, const char *format, ...) MR_PRINTF(2, 3);
MR_API mr_status mr_error_setv(mr_status status, const char *format, va_list arguments)
    MR_PRINTF(2, 0);

/* Puts words in front of this thread's present ones ("stage 'median': " + ...) and returns `status`.
 * [any thread] */
MR_API mr_status mr_error_prefix(mr_status status, const char *format, ...) MR_PRINTF(2, 3);

#ifdef __cplusplus
}
#endif
#endif
