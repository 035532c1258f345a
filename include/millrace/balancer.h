/* SPDX-License-Identifier: MIT */
/*
 * millrace/balancer.h - gives each task to the stream that is predicted to finish it first.
 *
 *     submit ──► waiting, by priority ──► at most `depth` in flight on each worker ──► result
 *
 * A task is a function that enqueues work on the stream it is given. A worker is a stream; the workers
 * of a balancer may be streams of one device, of several, and of the CPU beside GPUs. What a task will
 * cost is learned: a cost for each class of tasks, times the task's own size, times how slow the
 * worker is; to that is added what the worker has in flight. Few tasks are in flight on a worker; the
 * others wait in the middle and can still go anywhere, so that a wrong guess costs little.
 *
 * A task goes where it finishes first, even if it has to wait for that worker; one with an affinity
 * stays where its affinity was last, unless it would finish a fifth later there.
 *
 * Ownership  mr_balancer_create gives; mr_balancer_destroy takes, at any time. Futures are given by
 *            mr_balancer_submit and taken by mr_future_release, before or after the balancer ends.
 *            Contexts are borrowed until the task has ended. Devices outlive the balancer.
 * Threads    Every call is [any thread]. Tasks and `done` functions are called by one thread at a
 *            time: one that is inside a call of the balancer, or the balancer's own. Inside them,
 *            mr_balancer_submit never waits (with MR_ADMIT_WAITING it goes past task_limit), calls that
 *            would wait answer MR_E_STATE, and mr_balancer_destroy does nothing.
 * Errors     A task fails when its function reports failure or its stream fails; the balancer goes on.
 *            A stream that failed is replaced. What was in flight behind the failure on that stream
 *            fails with it (it may or may not have run), or is tried again on another worker where
 *            retry_limit allows. A task after a failed one fails with its error. A device that is
 *            lost leaves its tasks to the others so, where the driver confines the failure to it; a
 *            kernel that traps takes all GPUs of the process: see device.h.
 */
#ifndef MR_BALANCER_H
#define MR_BALANCER_H

#include <millrace/event.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_balancer mr_balancer;

/* One task's outcome, now or later. */
typedef struct mr_future mr_future;

/* ---- making one ---- */

#define MR_BALANCER_WORKER_LIMIT 256
#define MR_TASK_CLASS_LIMIT 4096

/* Like streams of one device. Zero means the default for every field but `device`. */
typedef struct mr_worker_options {
    mr_device *device;     /* required */
    uint32_t stream_count; /* workers to make here; 0 = 1 */
    int priority;          /* of their streams */
    uint64_t memory_bytes; /* what their tasks together may declare; 0 = nine tenths of what is free
                              on the device now, together with its other entries of 0 */
} mr_worker_options;

typedef enum mr_admission {
    MR_ADMIT_WAITING = 0, /* submit waits for a place; a task waits for memory */
    /* Submit answers MR_E_BUSY without a place, and MR_E_NO_MEMORY where the tasks in flight leave too
     * little; a task that was taken in may have to wait behind others. */
    MR_ADMIT_FAILING = 1
} mr_admission;

/* What mr_balancer_next gives, of tasks without a future. */
typedef enum mr_results {
    MR_RESULTS_NONE = 0,     /* nothing: results are not kept */
    MR_RESULTS_IN_ORDER = 1, /* in the order of submission */
    MR_RESULTS_AS_COMPLETED = 2
} mr_results;

/* Zero means the default for every field but the workers. */
typedef struct mr_balancer_options {
    const mr_worker_options *workers; /* copied; workers are numbered 0, 1, 2... in this order */
    size_t worker_count;              /* entries of `workers`, not streams */
    uint32_t depth;       /* tasks in flight on a worker at most; 0 = two, and more while together
                              they would last less than the host takes to come back (learned: 0.2 to
                              4 ms); at most 64 */
    uint32_t task_limit;  /* tasks that wait, are in flight or have a result not taken; 0 = 4096 */
    uint32_t class_count; /* classes of tasks; 0 = 64; at most MR_TASK_CLASS_LIMIT */
    uint32_t retry_limit; /* times a failed task is tried again, elsewhere if there is another
                              device, or worker; not one that other tasks came after in flight */
    mr_admission admission;
    mr_results results;
    const char *name; /* copied; NULL picks one */
} mr_balancer_options;

/* Creates the workers' streams and starts one thread, which sleeps while there is nothing to do. May
 * block. */
MR_API MR_MUST_USE mr_status mr_balancer_create(const mr_balancer_options *options,
                                                mr_balancer **out);

/* Cancels what waits (MR_E_CANCELLED), waits for what is in flight, calls the `done` functions that are
 * due, then frees. Futures keep their outcome. NULL is accepted. May block. */
MR_API void mr_balancer_destroy(mr_balancer *balancer);

/* ---- tasks ---- */

typedef struct mr_task_call {
    mr_stream *stream; /* enqueue here */
    mr_device *device;
    uint32_t worker;   /* 0, 1, 2...: for per-worker state; calls of one worker run in order */
    uint32_t attempt;  /* 0, then 1... on retries */
    uint64_t sequence; /* the task's number: 0, 1, 2... in the order of submission */
} mr_task_call;

/* Enqueues the task's work on call->stream and returns; must not wait for it. */
typedef mr_status (*mr_task_submit)(void *context, const mr_task_call *call);

typedef struct mr_task_result {
    uint64_t sequence;
    void *context;     /* the task's */
    mr_status status;  /* MR_OK, why it failed, or MR_E_CANCELLED */
    uint32_t worker;   /* the last that had it; UINT32_MAX: none had */
    uint32_t attempts; /* 0: no worker had it */
    uint64_t busy_ns;  /* what it cost there: measured, or predicted where is_measured is not set */
    bool is_measured;
    char words[256]; /* of the failure; "" without one */
} mr_task_result;

/* Called once, when the task has ended. `result` is lent for the call. */
typedef void (*mr_task_done)(void *context, const mr_task_result *result);

/* Zero means the default for every field but `submit`. Copied. */
typedef struct mr_task {
    mr_task_submit submit;
    void *context;
    mr_task_done done;   /* may be NULL */
    uint32_t task_class; /* tasks of a class have like costs for each unit of size */
    double size;         /* cost grows in proportion: bytes, items...; 0 = 1 */
    int priority;        /* lower goes first; -16 to 15. Among equals the earlier submitted */
    uint64_t affinity;   /* tasks of one affinity stay on one worker if that costs little; 0: none.
                              The last few thousand affinities are remembered */
    uint64_t memory_bytes;   /* of device memory that the task needs while it is in flight */
    mr_device *device;       /* run only on workers of this device; NULL: on any */
    mr_future *const *after; /* the tasks that this one comes after, of this balancer: their work is
                                ordered before this one's by events, with no wait on the host */
    size_t after_count;
} mr_task;

/* Takes a task in and may give it to a worker at once. `future` may be NULL: nobody asks for the
 * outcome except by `done` and mr_balancer_next. A task that needs more memory than any worker may
 * have is MR_E_NO_MEMORY. With task_limit tasks there it waits until one has ended, or answers
 * MR_E_BUSY: by admission, and always where results not taken alone are the limit. */
MR_API MR_MUST_USE mr_status mr_balancer_submit(mr_balancer *balancer, const mr_task *task,
                                                mr_future **future);

/* The next result, by the option `results`. MR_OK gives one, whatever the task's own status; MR_END:
 * every task's result was taken; MR_E_TIMEOUT (MR_E_BUSY with a timeout of 0): none yet. MR_E_STATE
 * without results. May block. */
MR_API MR_MUST_USE mr_status mr_balancer_next(mr_balancer *balancer, uint64_t timeout_ns,
                                              mr_task_result *result);

/* Waits until every task submitted so far has ended. Answers, once, the first failure that nobody was
 * told: of a task without future and `done`, with MR_RESULTS_NONE. MR_E_TIMEOUT (MR_E_BUSY with a
 * timeout of 0): some have not ended. May block. */
MR_API MR_MUST_USE mr_status mr_balancer_drain(mr_balancer *balancer, uint64_t timeout_ns);

/* Every task that still waits ends with MR_E_CANCELLED; answers how many. What is in flight goes on.
 * Calls `done` functions. */
MR_API size_t mr_balancer_cancel(mr_balancer *balancer);

/* ---- futures ---- */

/* MR_E_BUSY before the task has ended, then its status and its words. Never blocks on a device. */
MR_API MR_MUST_USE mr_status mr_future_query(mr_future *future);
/* The same, waiting: MR_E_TIMEOUT when the limit ran out. May block. */
MR_API MR_MUST_USE mr_status mr_future_wait(mr_future *future);
MR_API MR_MUST_USE mr_status mr_future_wait_for(mr_future *future, uint64_t timeout_ns);

/* The whole outcome; MR_E_BUSY before the task has ended. */
MR_API MR_MUST_USE mr_status mr_future_result(mr_future *future, mr_task_result *result);

/* A task that still waits ends with MR_E_CANCELLED, and those after it. MR_E_STATE: it was given to a
 * worker or has ended. */
MR_API MR_MUST_USE mr_status mr_future_cancel(mr_future *future);

/* Gives the future back; the task goes on. NULL is accepted. Never blocks. */
MR_API void mr_future_release(mr_future *future);

/* ---- what happened ---- */

typedef struct mr_worker_statistics {
    char device[32];
    uint64_t tasks, failures;   /* ended here */
    uint64_t busy_ns;           /* of its tasks, measured or predicted */
    uint32_t depth, depth_peak; /* in flight: now, and at most */
    double depth_mean;          /* found by the tasks that were given to it */
    uint64_t measured; /* tasks whose cost was measured: every long one, a sample of the short */
    double cost_mean_ns, cost_spread_ns; /* of these; the spread is the standard deviation */
    double slowness;       /* learned; 1 is the mean of the workers, 2 takes twice as long */
    uint32_t replacements; /* streams that failed and were replaced */
    bool is_gone;          /* no stream can be had any more */
} mr_worker_statistics;

typedef struct mr_balancer_statistics {
    uint32_t worker_count;
    uint64_t submitted, succeeded, failed, cancelled, retried;
    uint32_t waiting, waiting_peak; /* in the middle */
    uint32_t in_flight;
    uint64_t moved;        /* tasks that left the place of their affinity */
    uint64_t memory_waits; /* times a task had to wait for memory */
    double imbalance;      /* of the workers' busy times: standard deviation over mean */
    /* What it would have cost to have all tasks done, from the costs and slownesses seen: */
    uint64_t busiest_ns; /* as it was: the busiest worker */
    uint64_t static_ns;  /* each worker an equal share of the tasks, in the order of submission */
    uint64_t round_robin_ns; /* task k to worker k modulo their number */
    uint64_t bound_ns; /* nothing can be faster: the work over the workers' speeds, or the longest
                                task on the fastest worker */
} mr_balancer_statistics;

/* Tasks that are restricted to a device or fail count as well, for what they cost. */
MR_API void mr_balancer_measure(mr_balancer *balancer, mr_balancer_statistics *statistics);
MR_API MR_MUST_USE mr_status mr_balancer_measure_worker(mr_balancer *balancer, uint32_t worker,
                                                        mr_worker_statistics *statistics);

typedef struct mr_class_statistics {
    uint64_t measured;
    double cost_ns;   /* of a unit of size on a worker of slowness 1 */
    double spread_ns; /* mean distance from it */
} mr_class_statistics;

MR_API MR_MUST_USE mr_status mr_balancer_measure_class(mr_balancer *balancer, uint32_t task_class,
                                                       mr_class_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
