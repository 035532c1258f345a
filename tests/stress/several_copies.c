/* SPDX-License-Identifier: MIT */
/*
 * Copies between all devices, peers or not: sizes from one byte, random places, both ways at once, by
 * streams of any device, from several threads. Targets are poisoned, and so is what is around them.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/several.h"

#include <millrace/buffer.h>
#include <millrace/event.h>

#include <pthread.h>

enum {
    LARGEST = 9 << 20, /* more than the slots of the way through the host hold together */
    MARGIN = 128,      /* bytes that are watched on each side of what is copied */
    ROOM = LARGEST + 4 * MARGIN,
    LONG_LIMIT = 2 << 20,
    LONG_ROOM = LONG_LIMIT + 4 * MARGIN,
    THREADS = 4,
    TRIPS = 24, /* of each thread */
    SHORT_LIMIT = 64 << 10
};

static unsigned char *noise; /* ROOM random bytes */

/* Memory on one device, and the host memory that fills and empties it. */
struct site {
    mr_device *device;
    mr_buffer *inside;
};

/* One of each device. */
struct streams {
    mr_stream *streams[SEVERAL_LIMIT + 1];
    mr_event *events[SEVERAL_LIMIT + 1];
};

struct trip {
    const struct several *several;
    struct site *sites; /* of its thread, one on each device */
    mr_buffer *given, *returned;
    uint32_t from, to, owner; /* devices; the middle copy is on a stream of the owner */
    size_t from_at, to_at, size_bytes;
};

static void make_noise(void)
{
    struct random random = { 99 };
    noise = malloc(ROOM);
    CHECK(noise);
    for (size_t i = 0; i + 8 <= ROOM; i += 8) {
        const uint64_t word = random_next(&random);
        memcpy(noise + i, &word, 8);
    }
}

static void make_sites(const struct several *several, size_t room, struct site *sites)
{
    for (uint32_t i = 0; i < several->all_count; i++) {
        sites[i].device = several->devices[i];
        CHECK_OK(mr_buffer_create(sites[i].device, room, NULL, &sites[i].inside));
    }
}

static void end_sites(const struct several *several, struct site *sites)
{
    for (uint32_t i = 0; i < several->all_count; i++)
        mr_buffer_destroy(sites[i].inside);
}

static void make_host(const struct several *several, size_t room, mr_buffer **out)
{
    CHECK_OK(mr_buffer_create(several->devices[0], room,
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, out));
}

/* host ─► from ─► to ─► host; the devices' work is ordered by events alone. */
static void send(const struct trip *trip, const struct streams *streams)
{
    mr_buffer *from = trip->sites[trip->from].inside, *to = trip->sites[trip->to].inside;
    mr_stream *source = streams->streams[trip->from], *owner = streams->streams[trip->owner];
    mr_stream *target = streams->streams[trip->to];
    mr_event *event = streams->events[trip->owner];
    const size_t margins = trip->size_bytes + 2 * MARGIN;
    CHECK_OK(mr_fill(target, to, trip->to_at - MARGIN, margins, POISON, 1));
    CHECK_OK(mr_event_record(streams->events[trip->to], target));
    CHECK_OK(mr_copy(source, from, trip->from_at, trip->given, 0, trip->size_bytes));
    CHECK_OK(mr_event_record(streams->events[trip->from], source));

    CHECK_OK(mr_stream_wait_event(owner, streams->events[trip->to]));
    CHECK_OK(mr_stream_wait_event(owner, streams->events[trip->from]));
    CHECK_OK(mr_copy(owner, to, trip->to_at, from, trip->from_at, trip->size_bytes));
    CHECK_OK(mr_event_record(event, owner));

    /* What the copy reads is not what is there afterwards. */
    CHECK_OK(mr_stream_wait_event(source, event));
    CHECK_OK(mr_fill(source, from, trip->from_at, trip->size_bytes, 0x5a, 1));
    CHECK_OK(mr_stream_wait_event(target, event));
    CHECK_OK(mr_copy(target, trip->returned, 0, to, trip->to_at - MARGIN, margins));
}

static void await_trip(const struct trip *trip, const struct streams *streams)
{
    CHECK_OK(mr_stream_wait(streams->streams[trip->to]));
    CHECK_OK(mr_stream_wait(streams->streams[trip->from]));
}

static void check_trip(const struct trip *trip, const unsigned char *expected)
{
    static const unsigned char clean[MARGIN] = { [0 ... MARGIN - 1] = POISON };
    const unsigned char *got = mr_buffer_host(trip->returned);
    const bool is_right = memcmp(expected, got + MARGIN, trip->size_bytes) == 0;
    const bool is_clean = memcmp(clean, got, MARGIN) == 0 &&
                          memcmp(clean, got + MARGIN + trip->size_bytes, MARGIN) == 0;
    if (!is_right || !is_clean)
        CHECK_FAIL("%zu bytes from %s at %zu to %s at %zu by %s: %s", trip->size_bytes,
                   mr_device_id(trip->several->devices[trip->from]), trip->from_at,
                   mr_device_id(trip->several->devices[trip->to]), trip->to_at,
                   mr_device_id(trip->several->devices[trip->owner]),
                   is_right ? "bytes beside them have changed" : "other bytes arrived");
}

static void make_streams(const struct several *several, struct streams *out)
{
    for (uint32_t i = 0; i < several->all_count; i++) {
        CHECK_OK(mr_stream_create(several->devices[i], NULL, &out->streams[i]));
        CHECK_OK(mr_event_create(several->devices[i], NULL, &out->events[i]));
    }
}

static void end_streams(const struct several *several, struct streams *streams)
{
    for (uint32_t i = 0; i < several->all_count; i++) {
        mr_event_destroy(streams->events[i]);
        mr_stream_destroy(streams->streams[i]);
    }
}

/* ---- each pair ---- */

/* Between two GPUs any GPU may do it; between a GPU and the CPU that GPU. */
static uint32_t owner_of(const struct trip *trip, size_t choice)
{
    const struct several *several = trip->several;
    const bool is_mixed = trip->from >= several->count || trip->to >= several->count;
    if (!is_mixed)
        return (uint32_t)(choice % several->count);
    return trip->from < trip->to ? trip->from : trip->to;
}

static void try_pair(struct trip *trip, struct streams *streams)
{
    static const size_t sizes[] = { 1, 2, 3, 255, 4097, 65536, (1 << 20) + 1, LARGEST };
    const bool is_first = trip->from + trip->to == 1;
    const size_t size_count = sizeof sizes / sizeof *sizes - !is_first;
    for (size_t i = 0; i < size_count; i++) {
        trip->owner = owner_of(trip, i);
        trip->size_bytes = sizes[i];
        trip->from_at = i % 2 ? 0 : i * 13;
        trip->to_at = MARGIN + i * 37 % MARGIN;
        memcpy(mr_buffer_host(trip->given), noise, trip->size_bytes);
        memcpy(mr_buffer_host(trip->returned), noise, trip->size_bytes + 2 * MARGIN);
        send(trip, streams);
        await_trip(trip, streams);
        check_trip(trip, noise);
    }
}

static void every_size_arrives_between_each_pair(struct several *several)
{
    struct site sites[SEVERAL_LIMIT + 1];
    struct streams streams;
    struct trip trip = { .several = several, .sites = sites };
    make_sites(several, ROOM, sites);
    make_streams(several, &streams);
    make_host(several, ROOM, &trip.given);
    make_host(several, ROOM, &trip.returned);
    for (trip.from = 0; trip.from < several->all_count; trip.from++) {
        for (trip.to = 0; trip.to < several->all_count; trip.to++) {
            if (trip.from == trip.to)
                continue;
            const mr_device *from = several->devices[trip.from], *to = several->devices[trip.to];
            if (trip.from < several->count && trip.to < several->count)
                printf("    %s to %s: %s\n", mr_device_id(from), mr_device_id(to),
                       mr_device_can_peer(from, to) ? "peers" : mr_last_error());
            try_pair(&trip, &streams);
        }
    }
    mr_buffer_destroy(trip.given);
    mr_buffer_destroy(trip.returned);
    end_streams(several, &streams);
    end_sites(several, sites);
}

/* ---- both ways ---- */

/* Two devices swap their memory, by streams of their own that know nothing of each other. */
static void swap(const struct several *several, uint32_t a, uint32_t b)
{
    struct site far[2][SEVERAL_LIMIT + 1];
    struct streams streams[2];
    struct trip trips[2] = { { .from = a, .to = b, .owner = a },
                             { .from = b, .to = a, .owner = b } };
    for (int i = 0; i < 2; i++) {
        make_sites(several, LONG_ROOM, far[i]);
        make_streams(several, &streams[i]);
        trips[i].several = several;
        trips[i].owner = owner_of(&trips[i], i ? b : a);
        trips[i].sites = far[i];
        trips[i].to_at = MARGIN;
        trips[i].size_bytes = LONG_LIMIT - (size_t)i * 12345;
        make_host(several, LONG_ROOM, &trips[i].given);
        make_host(several, LONG_ROOM, &trips[i].returned);
        memcpy(mr_buffer_host(trips[i].given), noise + i, trips[i].size_bytes);
    }
    for (int i = 0; i < 2; i++)
        send(&trips[i], &streams[i]);
    for (int i = 0; i < 2; i++) {
        await_trip(&trips[i], &streams[i]);
        check_trip(&trips[i], noise + i);
        mr_buffer_destroy(trips[i].given);
        mr_buffer_destroy(trips[i].returned);
        end_streams(several, &streams[i]);
        end_sites(several, far[i]);
    }
}

static void both_ways_may_be_under_way_at_once(struct several *several)
{
    for (uint32_t a = 0; a + 1 < several->all_count; a++)
        swap(several, a, a + 1);
}

/* ---- many threads ---- */

struct thread {
    const struct several *several;
    uint64_t seed;
    pthread_t id;
};

static size_t any_size(struct random *random)
{
    return 1 + random_below(random, random_below(random, 4) ? SHORT_LIMIT : LONG_LIMIT);
}

static void choose_trip(struct trip *trip, struct random *random)
{
    const uint32_t count = trip->several->all_count;
    trip->from = (uint32_t)random_below(random, count);
    trip->to = (trip->from + 1 + (uint32_t)random_below(random, count - 1)) % count;
    trip->owner = owner_of(trip, random_below(random, count));
    trip->size_bytes = any_size(random);
    trip->from_at = random_below(random, LONG_ROOM - trip->size_bytes);
    trip->to_at = MARGIN + random_below(random, LONG_ROOM - trip->size_bytes - 2 * MARGIN);
}

static void *travel(void *context)
{
    const struct thread *thread = context;
    struct random random = { thread->seed };
    struct site sites[SEVERAL_LIMIT + 1];
    struct streams streams;
    struct trip trip = { .several = thread->several, .sites = sites };
    make_sites(thread->several, LONG_ROOM, sites);
    make_streams(thread->several, &streams);
    make_host(thread->several, LONG_ROOM, &trip.given);
    make_host(thread->several, LONG_ROOM, &trip.returned);
    for (int i = 0; i < TRIPS; i++) {
        choose_trip(&trip, &random);
        const unsigned char *expected = noise + random_below(&random, ROOM - trip.size_bytes);
        memcpy(mr_buffer_host(trip.given), expected, trip.size_bytes);
        send(&trip, &streams);
        await_trip(&trip, &streams);
        check_trip(&trip, expected);
    }
    mr_buffer_destroy(trip.given);
    mr_buffer_destroy(trip.returned);
    end_streams(thread->several, &streams);
    end_sites(thread->several, sites);
    return NULL;
}

static void threads_copy_at_once(struct several *several)
{
    struct thread threads[THREADS];
    for (uint64_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){ several, 7 + i, 0 };
        CHECK_EQ(0, pthread_create(&threads[i].id, NULL, travel, &threads[i]));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i].id, NULL));
}

int main(int argc, char **argv)
{
    static const struct several_test tests[] = {
        SEVERAL_TEST(every_size_arrives_between_each_pair, .all_count = 2),
        SEVERAL_TEST(both_ways_may_be_under_way_at_once, .all_count = 2),
        SEVERAL_TEST(threads_copy_at_once, .all_count = 2),
    };
    make_noise();
    const int status = several_main(argc, argv, tests, sizeof tests / sizeof *tests);
    free(noise);
    return status;
}
