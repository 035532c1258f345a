/* SPDX-License-Identifier: MIT */
/*
 * support/hold.h - stops a stream until the test says go: forced schedules without sleeps.
 *
 * A held stream occupies a worker of the CPU device, and on CUDA the one thread that runs host
 * functions: open the CPU device with workers to spare, and never let one hold depend on another.
 */
#ifndef TEST_HOLD_H
#define TEST_HOLD_H

#include "support/check.h"

#include <millrace/stream.h>

#include <semaphore.h>

struct hold {
    sem_t go;
};

static inline mr_status hold_run(void *context)
{
    struct hold *hold = context;
    while (sem_wait(&hold->go))
        ;
    return MR_OK;
}

/* Work submitted to `stream` from now on waits. Keep the hold where it is until the stream is idle. */
static inline void hold_begin(struct hold *hold, mr_stream *stream)
{
    CHECK_EQ(0, sem_init(&hold->go, 0, 0));
    CHECK_OK(mr_stream_call(stream, hold_run, hold));
}

static inline void hold_open(struct hold *hold)
{
    CHECK_EQ(0, sem_post(&hold->go));
}

#endif
