/* SPDX-License-Identifier: MIT */
/*
 * Operations form a graph; an operation runs when those it waits for have ended. Copies, fills and
 * launches run on worker threads, highest priority first; host functions one after another on a
 * thread of their own, as with the real driver; waits for words are looked at by a fourth kind.
 */
#include "support/fakecuda/fake.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { POLL_NS = 30000 };

struct list {
    struct operation *first, *last; /* last: only while there is a first */
    pthread_cond_t filled;
};

static struct list ready = { .filled = PTHREAD_COND_INITIALIZER };
static struct list hosts = { .filled = PTHREAD_COND_INITIALIZER };
static struct list polled = { .filled = PTHREAD_COND_INITIALIZER };

struct operation *fake_operation(enum operation_kind kind, CUcontext context)
{
    struct operation *operation = calloc(1, sizeof *operation);
    if (!operation)
        abort();
    operation->kind = kind;
    operation->references = 1;
    operation->context = context;
    return operation;
}

void fake_unref(struct operation *operation)
{
    if (!operation || --operation->references)
        return;
    free(operation->dependents);
    free(operation->rows.staged);
    free(operation);
}

void fake_depend(struct operation *operation, struct operation *on)
{
    if (!on || on->is_done || on == operation)
        return;
    if (on->dependent_count == on->dependent_capacity) {
        on->dependent_capacity = on->dependent_capacity ? on->dependent_capacity * 2 : 4;
        on->dependents =
            realloc(on->dependents, (size_t)on->dependent_capacity * sizeof *on->dependents);
        if (!on->dependents)
            abort();
    }
    on->dependents[on->dependent_count++] = operation;
    operation->wait_count++;
}

/* Behind those of the same or a higher priority. All who take from the list are woken: where three or more
 * wait, glibc before 2.41 loses a wake-up for one now and then (see tools/check_calls). */
static void list_add(struct list *list, struct operation *operation)
{
    struct operation **place = &list->first;
    if (list->first && list->last->priority <= operation->priority)
        place = &list->last->next;
    while (*place && (*place)->priority <= operation->priority)
        place = &(*place)->next;
    operation->next = *place;
    *place = operation;
    if (!operation->next)
        list->last = operation;
    pthread_cond_broadcast(&list->filled);
}

/* An operation that waits for nothing more: hands it to those who run it. False when there is nothing
 * to run. */
static bool dispatch(struct operation *operation)
{
    const bool is_broken = operation->context->error;
    switch (operation->kind) {
    case OPERATION_MARK:
        return false;
    case OPERATION_HOST:
        if (!is_broken || operation->callback)
            list_add(&hosts, operation);
        return !is_broken || operation->callback;
    case OPERATION_WAIT_VALUE:
        if (!is_broken)
            list_add(&polled, operation);
        return !is_broken;
    default:
        if (!is_broken || operation->kind == OPERATION_FREE)
            list_add(&ready, operation);
        return !is_broken || operation->kind == OPERATION_FREE;
    }
}

/* Marks ended, and with it whatever has nothing left to run. A list, not recursion: chains are long. */
static void end(struct operation *operation)
{
    operation->next = NULL;
    for (struct operation *ended = operation, *last = operation; ended;) {
        ended->is_done = true;
        ended->context->pending_count--;
        ended->ended_ns = fake_now_ns();
        for (int i = 0; i < ended->dependent_count; i++) {
            struct operation *dependent = ended->dependents[i];
            if (--dependent->wait_count || dispatch(dependent))
                continue;
            dependent->next = NULL;
            last->next = dependent;
            last = dependent;
        }
        struct operation *next = ended->next;
        fake_unref(ended);
        ended = next;
    }
    pthread_cond_broadcast(&fake_progress);
}

/* The executor holds one reference until the end. */
void fake_start(struct operation *operation)
{
    operation->references++;
    operation->context->pending_count++;
    if (!operation->wait_count && !dispatch(operation))
        end(operation);
}

void fake_break(CUcontext context, CUresult error)
{
    if (!context->error)
        context->error = error;
    pthread_cond_broadcast(&hosts.filled);
    pthread_cond_broadcast(&polled.filled);
    pthread_cond_broadcast(&fake_progress);
}

CUresult fake_error(CUcontext context)
{
    while (context->error && context->running_count)
        pthread_cond_wait(&fake_progress, &fake_lock);
    return context->error;
}

void fake_admit(CUcontext context)
{
    while (context->is_exclusive && !context->error)
        pthread_cond_wait(&fake_progress, &fake_lock);
}

void fake_quiesce(CUcontext context)
{
    fake_admit(context);
    if (context->error)
        return;
    context->is_exclusive = true;
    while (context->pending_count && !context->error)
        pthread_cond_wait(&fake_progress, &fake_lock);
    context->is_exclusive = false;
    pthread_cond_broadcast(&fake_progress);
}

CUresult fake_wait(struct operation *operation)
{
    if (!operation)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&fake_lock);
    CUcontext context = operation->context;
    while (!operation->is_done && !context->error)
        pthread_cond_wait(&fake_progress, &fake_lock);
    CUresult result = fake_error(context);
    fake_unref(operation);
    pthread_mutex_unlock(&fake_lock);
    return result;
}

static struct operation *list_take(struct list *list)
{
    while (!list->first)
        pthread_cond_wait(&list->filled, &fake_lock);
    struct operation *operation = list->first;
    list->first = operation->next;
    return operation;
}

static void pause_us(uint64_t duration_us)
{
    if (duration_us)
        nanosleep(&(struct timespec){ .tv_sec = (time_t)(duration_us / 1000000),
                                      .tv_nsec = (long)(duration_us % 1000000) * 1000 },
                  NULL);
}

static void *worker_run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&fake_lock);
    for (;;) {
        struct operation *operation = list_take(&ready);
        if (!operation->context->error) {
            operation->context->running_count++;
            pthread_mutex_unlock(&fake_lock);
            pause_us(fake_delay_us());
            CUresult result = fake_execute(operation);
            pthread_mutex_lock(&fake_lock);
            operation->context->running_count--;
            if (result)
                fake_break(operation->context, result);
        }
        if (operation->kind == OPERATION_FREE)
            fake_range_free(operation->address);
        end(operation);
    }
    return NULL;
}

static void *host_run(void *unused)
{
    (void)unused;
    fake_is_host_function = true;
    pthread_mutex_lock(&fake_lock);
    for (;;) {
        struct operation *operation = list_take(&hosts);
        const CUresult error = operation->context->error;
        pthread_mutex_unlock(&fake_lock);
        if (operation->callback)
            operation->callback(operation->handle, error, operation->argument);
        else if (!error)
            operation->function(operation->argument);
        pthread_mutex_lock(&fake_lock);
        end(operation);
    }
    return NULL;
}

static bool has_come(const struct operation *operation)
{
    if (operation->context->error)
        return true; /* the word may be gone */
    /* Pairs with the host's release store: what it wrote before is seen by what comes after. */
    const uint32_t now = atomic_load_explicit((_Atomic uint32_t *)(uintptr_t)operation->address,
                                              memory_order_acquire);
    return operation->flags == CU_STREAM_WAIT_VALUE_EQ ? now == operation->value
                                                       : (int32_t)(now - operation->value) >= 0;
}

static void *poll_run(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&fake_lock);
    for (;;) {
        while (!polled.first)
            pthread_cond_wait(&polled.filled, &fake_lock);
        struct operation *left = polled.first, *operation;
        polled.first = NULL;
        while ((operation = left)) {
            left = operation->next;
            if (has_come(operation))
                end(operation);
            else
                list_add(&polled, operation);
        }
        pthread_mutex_unlock(&fake_lock);
        nanosleep(&(struct timespec){ .tv_nsec = POLL_NS }, NULL);
        pthread_mutex_lock(&fake_lock);
    }
    return NULL;
}

static void threads_start(void)
{
    void *(*const runs[])(void *) = { host_run, poll_run, worker_run, worker_run, worker_run };
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, runs[i], NULL))
            abort();
        pthread_detach(thread);
    }
}

void fake_executor_open(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, threads_start);
}
