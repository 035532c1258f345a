/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_backend.h - what the files of the CPU backend share beside their queues:
 * functions, and the hook by which tests force an interleaving.
 */
#ifndef MR__CPU_BACKEND_H
#define MR__CPU_BACKEND_H

#include "backend/backend.h"

#include <stdatomic.h>

/* A function that workers may call. cpu_function.c makes it and unmakes it; launches only read it,
 * but for the cost, which is theirs. */
struct cpu_function {
    struct mr_function base;
    mr_native_kernel native; /* never NULL once created */
    char *signature;         /* what portable source carries; NULL counts as "" */
    void *library;           /* what dlopen gave; NULL when `native` came from the caller */

    /* Picoseconds for one iteration of a launch, as the last launches took; 0 = not yet known.
     * Decides whether a launch is worth slicing. */
    _Atomic uint64_t cost_ps;
};

static inline struct cpu_function *cpu_function_from(struct mr_function *function)
{
    return (struct cpu_function *)function;
}

/* cpu_function.c: the kernel entries of the table. create sets base.ops to &mr__cpu_backend. */
mr_status mr__cpu_function_create(struct mr_backend_device *device,
                                  const struct mr_function_source *source,
                                  struct mr_function **out);
void mr__cpu_function_destroy(struct mr_function *function);
const char *mr__cpu_function_signature(struct mr_function *function);

/* Places where one more step of another thread may change what happens next. */
enum cpu_place {
    CPU_PLACE_SUBMIT,    /* a record is written, not yet visible */
    CPU_PLACE_SUBMITTED, /* a record is visible, the queue perhaps not yet ready */
    CPU_PLACE_PARK,      /* a queue is about to enter a waiter list */
    CPU_PLACE_PUBLISH,   /* a sequence is about to be published */
    CPU_PLACE_PUBLISHED, /* it is, and waiters are not yet looked for */
    CPU_PLACE_WAKE,      /* waiters are taken, not yet woken */
    CPU_PLACE_LEAVE,     /* a worker is about to let a queue go */
    CPU_PLACE_LINGER,    /* a worker stays with an empty queue, before it looks */
    CPU_PLACE_SLEEP,     /* a worker is about to sleep */
    CPU_PLACE_HOST_WAIT, /* a host thread is about to enter a waiter list */
    CPU_PLACE_TIMEOUT,   /* a host thread's time ran out, and it is still in the list */
    CPU_PLACE_SLICE,     /* a slice is about to be claimed */
    CPU_PLACE_COUNT
};

/* For tests: `hook` is called at every place by whichever thread passes; NULL takes it away. Set it
 * while no work is queued. */
typedef void (*cpu_schedule_hook)(enum cpu_place place);
void mr__cpu_set_schedule_hook(cpu_schedule_hook hook);

extern _Atomic(cpu_schedule_hook) mr__cpu_schedule_hook;

static inline void mr__cpu_schedule_point(enum cpu_place place)
{
    const cpu_schedule_hook hook =
        atomic_load_explicit(&mr__cpu_schedule_hook, memory_order_acquire);
    if (__builtin_expect(hook != NULL, 0))
        hook(place);
}

#endif
