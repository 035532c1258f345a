/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_queue.h - a queue: a ring of records, a timeline, and who has it.
 *
 * `pending` counts the records that were submitted and not yet let go of by a worker. Who raises it
 * from zero makes the queue ready; from then on exactly one party has it: a ready list, a worker, or
 * the waiter list that it is parked in. The worker that brings it back to zero lets go, and never
 * touches the queue again. So there is no state to keep beside it.
 */
#ifndef MR__CPU_QUEUE_H
#define MR__CPU_QUEUE_H

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_plan.h"
#include "backend/cpu/cpu_record.h"

struct cpu_device;
struct thread_entry;

/* In `pending`, beside the count: nobody will submit any more, who empties the queue frees it. */
#define CPU_QUEUE_IS_DEAD (UINT64_C(1) << 63)

/* Links in one of the device's lists of queues, under the device's queues_lock. */
struct cpu_queue_link {
    struct cpu_queue *previous, *next;
};

struct cpu_queue {
    struct mr_queue base;
    struct cpu_device *device;
    struct cpu_timeline *timeline;
    mr_stream_kind kind;
    uint32_t level; /* 0 is the lowest priority */
    uint64_t id;    /* grows along the device's list */

    /* Under the device's queues_lock. */
    struct cpu_queue_link all;
    struct cpu_queue_link blocking; /* when it takes part in the legacy queue's order */
    uint64_t joined_sequence;       /* how far the legacy queue has waited for it */

    /* Of a thread's default queue, under cpu_default.c's lock. */
    struct thread_entry *thread_entry;
    uint32_t owners; /* handles given out */

    /* The submitting thread's; `submitted` is read by all. */
    _Alignas(CPU_LINE_BYTES) _Atomic uint64_t submitted;
    uint64_t legacy_sequence; /* how far it has waited for the legacy queue */
    struct cpu_point *free_points;
    struct cpu_capture *capture; /* not NULL: records go into its plan */
    struct cpu_frontier place;   /* where in the plan */

    struct cpu_ring ring;

    _Alignas(CPU_LINE_BYTES) _Atomic uint64_t pending;

    /* Of whoever has the queue. */
    _Alignas(CPU_LINE_BYTES) uint64_t executed;
    struct cpu_queue *ready_next;
    struct cpu_waiter waiter;
};

static inline struct cpu_queue *cpu_queue_from(struct mr_queue *queue)
{
    return (struct cpu_queue *)queue;
}

/* The table's entries. */
mr_status mr__cpu_queue_create(struct mr_backend_device *device, mr_stream_kind kind, int priority,
                               struct mr_queue **out);
void mr__cpu_queue_destroy(struct mr_queue *queue);
void *mr__cpu_queue_native(struct mr_queue *queue);
mr_status mr__cpu_queue_query(struct mr_queue *queue);
mr_status mr__cpu_queue_wait(struct mr_queue *queue, uint64_t timeout_ns);

/* Makes and unmakes what every kind of queue has. Retiring hands the queue to whoever empties it. */
mr_status mr__cpu_queue_make(struct cpu_device *device, mr_stream_kind kind, int priority,
                             struct cpu_queue **out);
void mr__cpu_queue_retire(struct cpu_queue *queue);

/* Begins a submission: orders it with the default queues and makes room for its record. NULL, with
 * words, when memory is out. One thread at a time. */
void *mr__cpu_queue_reserve(struct cpu_queue *queue, enum cpu_record_kind kind, size_t size_bytes);

/* Ends it: the record now belongs to the workers. */
void mr__cpu_queue_submit(struct cpu_queue *queue, struct cpu_record *record);

/* Submits a wait unless the target is reached. */
mr_status mr__cpu_queue_submit_wait(struct cpu_queue *queue, struct cpu_timeline *timeline,
                                    uint64_t target);

/* Worker: runs the queue's records until there are none, the queue parks, or it is others' turn. Gives
 * a queue that this made ready and that nobody has, for the worker to run next; or NULL. */
struct cpu_queue *mr__cpu_queue_run(struct cpu_queue *queue, struct cpu_worker *worker);

/* cpu_default.c */

/* The device's legacy queue or the calling thread's queue, made on first use. */
mr_status mr__cpu_default_open(struct cpu_device *device, mr_stream_kind kind,
                               struct cpu_queue **out);
void mr__cpu_default_close(struct cpu_queue *queue);

/* Retires the default queues that are left. The workers have gone. */
void mr__cpu_default_close_all(struct cpu_device *device);

/* Submits the waits that the order of the default queues demands of a submission to `queue`. */
mr_status mr__cpu_default_join(struct cpu_queue *queue);

#endif
