/* SPDX-License-Identifier: MIT */
/*
 * fakecuda/fake.h - the stand-in driver's objects. One lock guards them all.
 *
 * fake_control.c  calls counted, logged, failed and delayed
 * fake_device.c   devices, contexts, what is current
 * fake_memory.c   allocations; every address is looked up here
 * fake_stream.c   streams, events, and CUDA's rules for who waits for whom
 * fake_executor.c operations as a graph, run by threads
 * fake_work.c     copies, fills, host functions, waits for words
 * fake_module.c   modules and launches
 * fake_capture.c  what streams record instead of doing; fake_graph.c graphs and their executables
 */
#ifndef FAKE_H
#define FAKE_H

#include "backend/cuda/cuda_driver.h"
#include "support/fakecuda/fakecuda.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define FAKE_API FAKECUDA_API

enum { DEVICE_LIMIT = 8, PARAMETER_LIMIT = 32 };

/* ---- control ---- */

/* One per function; listed when it is first called. */
struct fake_counter {
    const char *function; /* as exported, "cuMemAlloc_v2" */
    char name[48];        /* without the version, "cuMemAlloc" */
    _Atomic uint64_t count;
    struct fake_counter *next;
};

/* First line of every function: counts, logs, delays. Anything but 0 is the answer to give. */
#define FAKE_CALL(...)                                                                             \
    do {                                                                                           \
        static struct fake_counter fake_counter = { .function = __func__ };                        \
        const CUresult fake_answer = fake_call(&fake_counter, __VA_ARGS__);                        \
        if (fake_answer)                                                                           \
            return fake_answer;                                                                    \
    } while (0)

CUresult fake_call(struct fake_counter *counter, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
uint64_t fake_setting(const char *name, uint64_t otherwise);
uint64_t fake_delay_us(void); /* at random, up to what is set */
uint64_t fake_now_ns(void);
extern _Thread_local bool fake_is_host_function; /* CUDA may not be called there */

/* ---- devices ---- */

struct CUctx_st {
    int device;
    int retained;
    _Atomic CUresult error; /* sticky; written under the lock */
    int pending_count;      /* operations that have been submitted and not ended */
    int running_count;      /* those that touch memory now */
    bool is_exclusive;      /* a call waits for the device, see fake_quiesce */
    int stream_count;       /* created ones alive */
    int stream_capacity;    /* more streams make the driver wait once */
    bool has_peer[DEVICE_LIMIT];
    uint64_t used_bytes;
    struct CUstream_st *streams; /* every one alive but the legacy one */
    struct CUstream_st *legacy;
    struct operation *last_legacy; /* the newest work of the legacy stream */
};

extern pthread_mutex_t fake_lock;
extern pthread_cond_t fake_progress; /* an operation ended, or a context broke */

CUcontext fake_current(void);
CUcontext fake_context(int device);
uint64_t fake_memory_bytes(void);
/* Starts and ends what needs a context: called with the lock. */
#define WITH_CONTEXT(context)                                                                      \
    CUcontext context = fake_current();                                                            \
    if (!context)                                                                                  \
        return CUDA_ERROR_INVALID_CONTEXT;                                                         \
    if (context->error)                                                                            \
    return context->error

/* ---- memory ---- */

enum range_kind { RANGE_DEVICE, RANGE_PINNED, RANGE_REGISTERED, RANGE_MODULE };

/* Device addresses are the host's with this bit set, so that no host code can use them by mistake. */
#define DEVICE_BIT (1ull << 62)

/* What a copy may touch: the host's view of the bytes, or NULL when the range is nobody's. */
struct place {
    unsigned char *bytes;
    bool is_device, is_pageable;
};
struct place fake_place(CUdeviceptr address, size_t size_bytes);
CUcontext fake_owner(CUdeviceptr address); /* NULL for pageable memory; with the lock */
bool fake_is_alive(CUdeviceptr address, size_t size_bytes); /* takes the lock */
bool fake_is_reachable(CUdeviceptr address);                /* by a kernel; takes the lock */
void fake_range_free(CUdeviceptr address);                  /* with the lock */
void fake_range_of_module(CUdeviceptr address, size_t size_bytes, CUcontext context); /* likewise */
int64_t fake_live_ranges(void);
void fake_live_add(int count);

/* ---- operations ---- */

enum operation_kind {
    OPERATION_MARK, /* does nothing: events and waits */
    OPERATION_COPY,
    OPERATION_FILL,
    OPERATION_LAUNCH,
    OPERATION_HOST,
    OPERATION_WAIT_VALUE,
    OPERATION_FREE
};

struct rows {
    CUdeviceptr target, source;
    size_t target_pitch, source_pitch, row_bytes, row_count;
    unsigned char *staged; /* a copy of the source's bytes, freed with the operation */
};

struct operation {
    enum operation_kind kind;
    int references;
    int wait_count; /* operations that must end first */
    bool is_done;
    uint64_t ended_ns;
    CUcontext context;
    int priority;
    struct operation **dependents;
    int dependent_count, dependent_capacity;
    struct operation *next; /* in a ready list */

    struct rows rows;          /* COPY; FILL without source */
    uint32_t value;            /* FILL, WAIT_VALUE */
    uint32_t value_bytes;      /* FILL */
    unsigned flags;            /* WAIT_VALUE */
    CUhostFn function;         /* HOST, or: */
    CUstreamCallback callback; /* HOST: runs behind a failure too */
    CUstream handle;           /* of the callback, as the caller said it */
    void *argument;            /* HOST */
    CUdeviceptr address;       /* FREE, WAIT_VALUE */
    struct CUfunc_st *kernel;  /* LAUNCH */
    unsigned grid[3], block[3];
    uint64_t storage[PARAMETER_LIMIT]; /* LAUNCH: the arguments' bytes */
};

struct operation *fake_operation(enum operation_kind kind, CUcontext context); /* one reference */
void fake_unref(struct operation *operation);                                  /* with the lock */
void fake_depend(struct operation *operation, struct operation *on);           /* with the lock */
void fake_start(struct operation *operation); /* with the lock, after its dependencies are known */
void fake_break(CUcontext context, CUresult error); /* with the lock */
/* The context's error. When there is one, what runs has stopped first: a broken GPU writes no more.
 * With the lock, which it may let go for a while. */
CUresult fake_error(CUcontext context);
/* As the real driver (seen with 580 on an H200) does in calls that give memory back, load or unload code,
 * or need more room for streams: waits until the device is idle, and meanwhile lets no thread submit
 * or make the context current. With the lock, which it lets go while it waits. */
void fake_quiesce(CUcontext context);
/* Waits while another thread is in fake_quiesce. Likewise. */
void fake_admit(CUcontext context);
CUresult fake_wait(struct operation *operation);    /* takes the lock; drops one reference */
CUresult fake_execute(struct operation *operation); /* without the lock */
void fake_executor_open(void);

/* ---- streams ---- */

struct capture;

/* Where a captured stream or event stands: after these nodes. */
struct frontier {
    struct capture *capture; /* one reference; NULL: not captured */
    struct CUgraphNode_st **nodes;
    size_t count;
};

struct CUstream_st {
    uint32_t magic;
    CUcontext context;
    bool is_blocking; /* takes part in the legacy stream's order */
    bool is_thread;   /* a thread's default stream */
    int priority;
    struct operation *last; /* the newest work; one reference */
    struct frontier frontier;
    struct CUstream_st *next;
};

/* The stream behind a handle, or NULL with `*result`. With the lock. */
struct CUstream_st *fake_stream(CUstream handle, CUresult *result);
/* The same for work to be submitted: waits for its turn. */
struct CUstream_st *fake_stream_to_fill(CUstream handle, CUresult *result);
/* Queues behind all that CUDA's rules say; takes the caller's reference. With the lock. */
void fake_submit(struct CUstream_st *stream, struct operation *operation);

/* ---- captures ---- all with the lock */

/* What a stream may be given now: refuses work for a stream whose capture is broken, and for the legacy
 * stream while a blocking one is captured. */
CUresult fake_capture_admit(struct CUstream_st *stream);
/* Takes the operation as a node. */
void fake_capture_add(struct CUstream_st *stream, struct operation *operation);
/* Calls that a capture does not allow break it: about a captured stream; about an event; on a thread
 * that captures and has not relaxed. 0 when there is nothing to break. */
CUresult fake_capture_forbid(struct CUstream_st *stream);
CUresult fake_capture_forbid_event(const struct frontier *event);
CUresult fake_capture_forbid_unsafe(void);
/* An event takes the stream's place; a stream goes on after the event as well. */
void fake_frontier_copy(struct frontier *to, const struct frontier *from);
void fake_frontier_clear(struct frontier *frontier);
bool fake_frontier_is_open(const struct frontier *frontier);   /* its capture still runs */
bool fake_frontier_is_others(const struct frontier *frontier); /* in another thread */
CUresult fake_frontier_join(struct CUstream_st *stream, const struct frontier *event);

/* Second line of functions that may wait or allocate. */
#define FAKE_UNSAFE()                                                                              \
    do {                                                                                           \
        pthread_mutex_lock(&fake_lock);                                                            \
        const CUresult fake_refusal = fake_capture_forbid_unsafe();                                \
        pthread_mutex_unlock(&fake_lock);                                                          \
        if (fake_refusal)                                                                          \
            return fake_refusal;                                                                   \
    } while (0)

/* ---- graphs ---- */

CUgraph fake_graph_new(void);
void fake_graph_free(CUgraph graph);
/* Takes the operation; with the lock. */
struct CUgraphNode_st *fake_graph_add(CUgraph graph, int type, struct operation *operation,
                                      struct CUgraphNode_st *const *after, size_t after_count);
/* Whether one of `ends` is the node or comes after it. */
bool fake_graph_leads(const struct CUgraphNode_st *node, struct CUgraphNode_st *const *ends,
                      size_t count);

/* ---- modules ---- */

CUresult fake_launch_run(struct operation *operation);
/* What a launch needs, copied. CUDA_ERROR_INVALID_VALUE when the shape is none. */
CUresult fake_launch_fill(struct operation *operation, CUfunction kernel, const unsigned grid[3],
                          const unsigned block[3], unsigned shared_bytes, void **values);
CUcontext fake_launch_context(CUfunction kernel);

#endif
