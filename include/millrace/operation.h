/* SPDX-License-Identifier: MIT */
/*
 * millrace/operation.h - one record for every submission, for those who watch.
 *
 * A device with an observer calls it for every piece of work submitted to it, on the submitting
 * thread, in submission order per stream. Without one the cost is one branch. Trace and check are such
 * observers; a program may bring its own.
 */
#ifndef MR_OPERATION_H
#define MR_OPERATION_H

#include <millrace/kernel.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum mr_operation_kind {
    MR_OPERATION_COPY = 1,
    MR_OPERATION_FILL,
    MR_OPERATION_LAUNCH,
    MR_OPERATION_CALL,         /* host function in stream order */
    MR_OPERATION_RECORD,       /* event record */
    MR_OPERATION_WAIT,         /* the stream waits for a point of another stream */
    MR_OPERATION_WAIT_SKIPPED, /* asked for, but already implied */
    MR_OPERATION_ALLOCATE,     /* device or pinned memory, not in stream order */
    MR_OPERATION_FREE,
    MR_OPERATION_ALLOCATE_ORDERED,
    MR_OPERATION_FREE_ORDERED,
    MR_OPERATION_REGISTER, /* existing memory pinned */
    MR_OPERATION_UNREGISTER,
    MR_OPERATION_HOST_WAIT,   /* a host thread waits for a stream or an event */
    MR_OPERATION_SYNCHRONIZE, /* device-wide */
    /* A graph's whole work: `size_bytes` is its count of nodes, and there is one access for each buffer,
     * from the first byte to the last that its nodes use. What is submitted to a capture is not
     * run, and gives no records. */
    MR_OPERATION_GRAPH_LAUNCH,
    MR_OPERATION_KIND_COUNT
} mr_operation_kind;

/* Static; "copy", "launch"... [any thread] */
MR_API const char *mr_operation_kind_name(mr_operation_kind kind);

/* A range that the work reads or writes. */
typedef struct mr_operation_access {
    uint64_t buffer_id; /* unique in the process */
    uint64_t address;   /* of the range's first byte, as the device or the host sees it */
    uint64_t size_bytes;
    mr_access access; /* IN, OUT or INOUT */
    mr_place place;
} mr_operation_access;

/* Valid during the call only. */
typedef struct mr_operation {
    mr_operation_kind kind;
    const char *device_id;    /* "cuda:0" */
    uint64_t stream_id;       /* 0 when no stream is involved */
    uint64_t sequence;        /* the stream's submission number: 1, 2, 3... */
    uint64_t submitted_ns;    /* mr_device_now_ns at submission */
    const char *name;         /* kernel or stream name; may be "" */
    uint64_t size_bytes;      /* copied, filled, allocated; nodes of a graph */
    uint64_t other_stream_id; /* WAIT: the stream waited for */
    uint64_t other_sequence;  /* WAIT: its submission number */
    const mr_operation_access *accesses;
    size_t access_count;
} mr_operation;

/* Called on the submitting threads, several at once. Must not submit work. */
typedef void (*mr_operation_observer)(void *context, const mr_operation *operation);

/* Sets the device's observer; NULL removes it. Set it before work is submitted: a change while other
 * threads submit is safe, but the old observer may see a few calls more; `context` must outlive the
 * device's next idle moment. [any thread] */
MR_API void mr_device_observe(mr_device *device, mr_operation_observer observer, void *context);

/* Also calls `observer` for what the calling thread submits to the device, until the same thread calls
 * with NULL (do so before the thread ends or the device is closed). The device's observer is not
 * disturbed. One for each thread: MR_E_STATE while it has one. Never blocks. */
MR_API MR_MUST_USE mr_status mr_device_observe_thread(mr_device *device,
                                                      mr_operation_observer observer,
                                                      void *context);

#ifdef __cplusplus
}
#endif
#endif
