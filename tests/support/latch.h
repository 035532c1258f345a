/* SPDX-License-Identifier: MIT */
/*
 * support/latch.h - stops any number of streams of any device until the test says go, and a log of what
 * ran in which order.
 *
 * The streams wait for an event of a CPU stream, whose host function waits for the test. So nothing
 * but one CPU worker is held: CUDA's only thread for host functions stays free, and host functions on
 * other streams can show what runs meanwhile. Open the CPU device with workers to spare.
 */
#ifndef TEST_LATCH_H
#define TEST_LATCH_H

#include "support/check.h"

#include <millrace/event.h>

#include <pthread.h>
#include <semaphore.h>

struct latch {
    mr_device *device;
    mr_stream *stream;
    mr_event *event;
    sem_t go;
};

static inline mr_status latch_run(void *context)
{
    struct latch *latch = context;
    while (sem_wait(&latch->go))
        ;
    return MR_OK;
}

static inline void latch_init(struct latch *latch)
{
    CHECK_EQ(0, sem_init(&latch->go, 0, 0));
    CHECK_OK(mr_device_open("cpu", &(mr_device_options){ .worker_count = 4 }, &latch->device));
    CHECK_OK(mr_stream_create(latch->device, NULL, &latch->stream));
    CHECK_OK(mr_event_create(latch->device, NULL, &latch->event));
    CHECK_OK(mr_stream_call(latch->stream, latch_run, latch));
    CHECK_OK(mr_event_record(latch->event, latch->stream));
}

/* Work submitted to `stream` from now on waits for latch_open. */
static inline void latch_stop(const struct latch *latch, mr_stream *stream)
{
    CHECK_OK(mr_stream_wait_event(stream, latch->event));
}

static inline void latch_open(struct latch *latch)
{
    CHECK_EQ(0, sem_post(&latch->go));
}

/* After latch_open. */
static inline void latch_fini(struct latch *latch)
{
    mr_event_destroy(latch->event);
    mr_stream_destroy(latch->stream);
    CHECK_OK(mr_device_close(latch->device));
    CHECK_EQ(0, sem_destroy(&latch->go));
}

/* ---- a log that host functions write ---- */

enum { LOG_LIMIT = 4096 };

struct log {
    pthread_mutex_t lock;
    int entries[LOG_LIMIT];
    int count;
};

#define LOG_INITIALIZER                                                                            \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

/* The context of one host function. */
struct log_line {
    struct log *log;
    int entry;
};

static inline mr_status log_run(void *context)
{
    const struct log_line *line = context;
    pthread_mutex_lock(&line->log->lock);
    CHECK(line->log->count < LOG_LIMIT);
    line->log->entries[line->log->count++] = line->entry;
    pthread_mutex_unlock(&line->log->lock);
    return MR_OK;
}

static inline int log_count(struct log *log)
{
    pthread_mutex_lock(&log->lock);
    const int count = log->count;
    pthread_mutex_unlock(&log->lock);
    return count;
}

#endif
