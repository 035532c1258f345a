/* SPDX-License-Identifier: MIT */
/*
 * Random programs over several streams against the same program run step by step on the host.
 *
 * Every step picks a stream and buffers at random. Before it the stream waits for the events of the
 * steps that wrote what it reads, and read or wrote what it writes; after it the step's own event is
 * recorded. Events are few and recorded again and again, so a record that disturbs an earlier wait, a
 * wait that is wrongly left out, or work out of order shows in the bytes.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/buffer.h>
#include <millrace/event.h>

#include <stdlib.h>

enum { STREAMS = 6, BUFFERS = 5, SIZE = 4096, STEPS = 3000, ROUNDS = 10 };

/* One buffer, what it must hold, and who used it last. */
struct cell {
    mr_buffer *buffer;
    unsigned char wanted[SIZE];
    mr_event *written;
    mr_event *read[STREAMS];
    bool is_read[STREAMS]; /* since it was written */
};

struct program {
    mr_stream *streams[STREAMS];
    struct cell cells[BUFFERS];
    struct random random;
};

static void program_init(struct program *program, mr_device *device, uint64_t seed)
{
    static const mr_stream_kind kinds[STREAMS] = { MR_STREAM_NON_BLOCKING, MR_STREAM_NON_BLOCKING,
                                                   MR_STREAM_BLOCKING,     MR_STREAM_NON_BLOCKING,
                                                   MR_STREAM_BLOCKING,     MR_STREAM_NON_BLOCKING };
    program->random.state = seed;
    for (int i = 0; i < STREAMS; i++)
        CHECK_OK(mr_stream_create(device,
                                  &(mr_stream_options){ .kind = kinds[i], .priority = -(i % 3) },
                                  &program->streams[i]));
    for (int i = 0; i < BUFFERS; i++) {
        struct cell *cell = &program->cells[i];
        const mr_buffer_options options = { .place = i % 2 ? MR_PLACE_PINNED : MR_PLACE_DEVICE };
        CHECK_OK(mr_buffer_create(device, SIZE, &options, &cell->buffer));
        CHECK_OK(mr_event_create(device, NULL, &cell->written));
        CHECK_OK(mr_fill(program->streams[0], cell->buffer, 0, SIZE, 0, 1));
        memset(cell->wanted, 0, SIZE);
        for (int k = 0; k < STREAMS; k++) {
            CHECK_OK(mr_event_create(device, NULL, &cell->read[k]));
            cell->is_read[k] = false;
        }
    }
    CHECK_OK(mr_stream_wait(program->streams[0]));
}

static void program_fini(struct program *program)
{
    for (int i = 0; i < BUFFERS; i++) {
        struct cell *cell = &program->cells[i];
        mr_event_destroy(cell->written);
        for (int k = 0; k < STREAMS; k++)
            mr_event_destroy(cell->read[k]);
        mr_buffer_destroy(cell->buffer);
    }
    for (int i = 0; i < STREAMS; i++)
        mr_stream_destroy(program->streams[i]);
}

static void before_reading(struct program *program, int stream, struct cell *cell)
{
    CHECK_OK(mr_stream_wait_event(program->streams[stream], cell->written));
}

static void after_reading(struct program *program, int stream, struct cell *cell)
{
    CHECK_OK(mr_event_record(cell->read[stream], program->streams[stream]));
    cell->is_read[stream] = true;
}

static void before_writing(struct program *program, int stream, struct cell *cell)
{
    before_reading(program, stream, cell);
    for (int k = 0; k < STREAMS; k++) {
        if (cell->is_read[k])
            CHECK_OK(mr_stream_wait_event(program->streams[stream], cell->read[k]));
        cell->is_read[k] = false;
    }
}

static void after_writing(struct program *program, int stream, struct cell *cell)
{
    CHECK_OK(mr_event_record(cell->written, program->streams[stream]));
}

static void step_copy(struct program *program, int stream, struct cell *target, struct cell *source)
{
    const size_t size = 1 + random_below(&program->random, SIZE / 2);
    const size_t at = random_below(&program->random, SIZE - size + 1);
    const size_t from = random_below(&program->random, SIZE - size + 1);
    before_reading(program, stream, source);
    before_writing(program, stream, target);
    CHECK_OK(mr_copy(program->streams[stream], target->buffer, at, source->buffer, from, size));
    after_reading(program, stream, source);
    after_writing(program, stream, target);
    memcpy(target->wanted + at, source->wanted + from, size);
}

static void step_fill(struct program *program, int stream, struct cell *target)
{
    const size_t size = 1 + random_below(&program->random, SIZE / 2);
    const size_t at = random_below(&program->random, SIZE - size + 1);
    const uint32_t value = (uint32_t)random_below(&program->random, 256);
    before_writing(program, stream, target);
    CHECK_OK(mr_fill(program->streams[stream], target->buffer, at, size, value, 1));
    after_writing(program, stream, target);
    memset(target->wanted + at, (int)value, size);
}

struct bump {
    unsigned char *data;
    size_t at;
};

/* Neither commutes with copies nor can be done twice unseen. */
static mr_status run_bump(void *context)
{
    struct bump *bump = context;
    for (size_t i = bump->at; i < SIZE; i += 97)
        bump->data[i] = (unsigned char)(bump->data[i] * 3 + 1);
    free(bump);
    return MR_OK;
}

static void step_call(struct program *program, int stream, struct cell *cell)
{
    struct bump *bump = malloc(sizeof *bump);
    CHECK(bump);
    *bump = (struct bump){ mr_buffer_host(cell->buffer), random_below(&program->random, 97) };
    for (size_t i = bump->at; i < SIZE; i += 97)
        cell->wanted[i] = (unsigned char)(cell->wanted[i] * 3 + 1);
    before_writing(program, stream, cell);
    CHECK_OK(mr_stream_call(program->streams[stream], run_bump, bump));
    after_writing(program, stream, cell);
}

static void program_step(struct program *program)
{
    struct random *random = &program->random;
    const int stream = (int)random_below(random, STREAMS);
    const size_t to = random_below(random, BUFFERS);
    struct cell *target = &program->cells[to];
    struct cell *source = &program->cells[(to + 1 + random_below(random, BUFFERS - 1)) % BUFFERS];

    switch (random_below(random, 6)) {
    case 0:
        step_fill(program, stream, target);
        break;
    case 1:
        if (mr_buffer_host(target->buffer)) {
            step_call(program, stream, target);
            break;
        }
        /* fall through */
    default:
        step_copy(program, stream, target, source);
        break;
    }
}

static void program_check(struct program *program, mr_device *device)
{
    unsigned char result[SIZE];
    mr_buffer *view;
    CHECK_OK(mr_buffer_borrow(device, result, SIZE, MR_PLACE_PAGEABLE, &view));
    for (int i = 0; i < STREAMS; i++)
        CHECK_OK(mr_stream_wait(program->streams[i]));
    for (int i = 0; i < BUFFERS; i++) {
        poison(result, SIZE);
        CHECK_OK(mr_copy(program->streams[0], view, 0, program->cells[i].buffer, 0, SIZE));
        CHECK_OK(mr_stream_wait(program->streams[0]));
        for (size_t at = 0; at < SIZE; at++)
            if (result[at] != program->cells[i].wanted[at])
                CHECK_FAIL("buffer %d, byte %zu: expected %d, got %d", i, at,
                           program->cells[i].wanted[at], result[at]);
    }
    mr_buffer_destroy(view);
}

static void random_programs_give_what_the_host_gives(mr_device *device)
{
    static struct program program;
    for (uint64_t round = 1; round <= ROUNDS; round++) {
        program_init(&program, device, round * 7919);
        for (int step = 0; step < STEPS; step++)
            program_step(&program);
        program_check(&program, device);
        program_fini(&program);
    }
}

/* ---- the legacy stream orders without events ---- */

enum { LANES = 4, TURNS = 300 };

struct lane {
    mr_stream *stream;
    uint64_t value; /* plain: the streams' order alone protects it */
};

static mr_status lane_step(void *context)
{
    struct lane *lane = context;
    lane->value = lane->value * 5 + 1;
    return MR_OK;
}

/* Every lane takes from its neighbour; the last from the first as it was. */
static mr_status turn_lanes(void *context)
{
    struct lane *lanes = context;
    const uint64_t first = lanes[0].value;
    for (int i = 0; i < LANES - 1; i++)
        lanes[i].value += lanes[i + 1].value;
    lanes[LANES - 1].value += first;
    return MR_OK;
}

static void legacy_order_needs_no_events(mr_device *device)
{
    struct lane lanes[LANES], wanted[LANES];
    mr_stream *legacy;
    CHECK_OK(mr_stream_default(device, MR_STREAM_LEGACY, &legacy));
    for (int i = 0; i < LANES; i++) {
        lanes[i] = wanted[i] = (struct lane){ .value = (uint64_t)i };
        if (i == 0)
            CHECK_OK(mr_stream_default(device, MR_STREAM_PER_THREAD, &lanes[i].stream));
        else
            CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .kind = MR_STREAM_BLOCKING },
                                      &lanes[i].stream));
    }
    for (int turn = 0; turn < TURNS; turn++) {
        for (int i = 0; i < LANES; i++) {
            CHECK_OK(mr_stream_call(lanes[i].stream, lane_step, &lanes[i]));
            CHECK_OK(lane_step(&wanted[i]));
        }
        CHECK_OK(mr_stream_call(legacy, turn_lanes, lanes));
        CHECK_OK(turn_lanes(wanted));
    }
    CHECK_OK(mr_stream_wait(legacy));
    for (int i = 0; i < LANES; i++)
        CHECK_EQ(wanted[i].value, lanes[i].value);
    for (int i = 1; i < LANES; i++)
        mr_stream_destroy(lanes[i].stream);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(random_programs_give_what_the_host_gives),
        SUITE_TEST(legacy_order_needs_no_events),
    };
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
