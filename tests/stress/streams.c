/* SPDX-License-Identifier: MIT */
/*
 * Several threads, each with streams of its own, work on shared cells that only events protect.
 *
 * A cell is changed by host functions without a lock or an atomic; each function runs behind the event
 * of the one before. A wait that is lost loses a change, and the thread sanitizer sees it.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/buffer.h>
#include <millrace/event.h>

#include <pthread.h>
#include <stdatomic.h>

enum { THREADS = 4, CELLS = 3, STEPS = 5000, CELL_BYTES = 256 };

struct cell {
    pthread_mutex_t lock; /* over submission, not over the work */
    mr_event *event;
    mr_buffer *buffer;
    uint64_t submitted;
    uint64_t done; /* plain: by the host functions */
};

struct worker {
    mr_device *device;
    struct cell *cells;
    uint64_t seed;
    pthread_t thread;
};

static mr_status count_up(void *context)
{
    struct cell *cell = context;
    const uint64_t seen = cell->done;
    for (volatile int i = 0; i < 300; i++)
        ; /* room for another to be lost in */
    cell->done = seen + 1;
    return MR_OK;
}

static void submit_to_cell(struct cell *cell, mr_stream *stream)
{
    pthread_mutex_lock(&cell->lock);
    CHECK_OK(mr_stream_wait_event(stream, cell->event));
    CHECK_OK(mr_stream_call(stream, count_up, cell));
    CHECK_OK(mr_fill(stream, cell->buffer, 0, CELL_BYTES, (uint32_t)cell->submitted, 4));
    CHECK_OK(mr_event_record(cell->event, stream));
    cell->submitted++;
    pthread_mutex_unlock(&cell->lock);
}

static mr_stream *new_stream(struct worker *worker, struct random *random)
{
    mr_stream *stream;
    const mr_stream_options options = { .kind = random_below(random, 4) ? MR_STREAM_NON_BLOCKING
                                                                        : MR_STREAM_BLOCKING };
    CHECK_OK(mr_stream_create(worker->device, &options, &stream));
    return stream;
}

static void *work(void *context)
{
    struct worker *worker = context;
    struct random random = { worker->seed };
    mr_stream *stream = new_stream(worker, &random);
    for (int step = 0; step < STEPS; step++) {
        struct cell *cell = &worker->cells[random_below(&random, CELLS)];
        submit_to_cell(cell, stream);
        switch (random_below(&random, 64)) {
        case 0:
            mr_stream_destroy(stream);
            stream = new_stream(worker, &random);
            break;
        case 1:
            CHECK_OK(mr_stream_wait(stream));
            break;
        case 2: {
            mr_stream *own;
            CHECK_OK(mr_stream_default(worker->device, MR_STREAM_PER_THREAD, &own));
            submit_to_cell(cell, own);
            break;
        }
        default:
            break;
        }
    }
    mr_stream_destroy(stream);
    return NULL;
}

static void events_protect_cells_shared_by_threads(mr_device *device)
{
    struct cell cells[CELLS];
    struct worker workers[THREADS];
    for (int i = 0; i < CELLS; i++) {
        cells[i] = (struct cell){ .lock = PTHREAD_MUTEX_INITIALIZER };
        CHECK_OK(mr_event_create(device, NULL, &cells[i].event));
        CHECK_OK(mr_buffer_create(device, CELL_BYTES,
                                  &(mr_buffer_options){ .place = MR_PLACE_PINNED },
                                  &cells[i].buffer));
    }
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){ device, cells, (uint64_t)i + 1, 0 };
        CHECK_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(workers[i].thread, NULL));

    for (int i = 0; i < CELLS; i++) {
        uint32_t last;
        CHECK_OK(mr_event_wait(cells[i].event));
        CHECK_EQ(cells[i].submitted, cells[i].done);
        memcpy(&last, (char *)mr_buffer_host(cells[i].buffer) + CELL_BYTES - 4, 4);
        CHECK_EQ(cells[i].submitted - 1, last);
        mr_event_destroy(cells[i].event);
        mr_buffer_destroy(cells[i].buffer);
    }
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(events_protect_cells_shared_by_threads),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
