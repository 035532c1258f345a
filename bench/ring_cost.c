/* SPDX-License-Identifier: MIT */
/*
 * What the ring costs on the CPU: a call that meets nobody, an item from thread to thread, and one
 * that goes there and back.
 *
 *     bench_ring_cost [--items N] [--runs N] [--json FILE]
 */
#include "measure.h"
#include "require.h"

#include <millrace/ring.h>

#include <pthread.h>

enum { SLOT_BYTES = 64, SLOTS = 64 };

static mr_device *device;

static mr_ring *make_ring(uint32_t slot_count)
{
    mr_ring *ring = NULL;
    require_ok(mr_ring_create(
        device, &(mr_ring_options){ .slot_count = slot_count, .slot_bytes = SLOT_BYTES }, &ring));
    return ring;
}

static void put(mr_ring *ring, uint64_t value)
{
    mr_slot slot;
    require_ok(mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
    *(uint64_t *)mr_buffer_host(slot.buffer) = value;
    require_ok(mr_ring_publish(ring, NULL, &slot));
}

static void get(mr_ring *ring, uint64_t value)
{
    mr_slot slot;
    require_ok(mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
    measure_require(*(uint64_t *)mr_buffer_host(slot.buffer) == value, "items lost or swapped");
    require_ok(mr_ring_release(ring, 0, NULL, &slot));
}

static double run_alone(void *context)
{
    const uint64_t items = *(const uint64_t *)context;
    mr_ring *ring = make_ring(SLOTS);
    const double began = measure_now_s();
    for (uint64_t i = 0; i < items; i++) {
        put(ring, i);
        get(ring, i);
    }
    const double seconds = measure_now_s() - began;
    mr_ring_destroy(ring);
    return seconds;
}

struct peer {
    mr_ring *there, *back;
    uint64_t items;
};

static void *answer(void *context)
{
    const struct peer *peer = context;
    for (uint64_t i = 0; i < peer->items; i++) {
        get(peer->there, i);
        if (peer->back)
            put(peer->back, i);
    }
    return NULL;
}

static double run_pair(uint64_t items, bool is_round_trip)
{
    struct peer peer = { make_ring(SLOTS), is_round_trip ? make_ring(SLOTS) : NULL, items };
    pthread_t thread;
    const double began = measure_now_s();
    measure_require(!pthread_create(&thread, NULL, answer, &peer), "no thread to be had");
    for (uint64_t i = 0; i < items; i++) {
        put(peer.there, i);
        if (peer.back)
            get(peer.back, i);
    }
    pthread_join(thread, NULL);
    const double seconds = measure_now_s() - began;
    mr_ring_destroy(peer.there);
    mr_ring_destroy(peer.back);
    return seconds;
}

static double run_stream(void *context)
{
    return run_pair(*(const uint64_t *)context, false);
}

static double run_round_trip(void *context)
{
    return run_pair(*(const uint64_t *)context, true);
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "ring_cost", &argc, argv);
    uint64_t items = (uint64_t)measure_option_number(argc, argv, "items", 1000000);
    const int run_count = (int)measure_option_number(argc, argv, "runs", 5);
    require_ok(mr_device_open("cpu", NULL, &device));

    const double alone = measure_median_of(run_alone, &items, run_count) / (double)items;
    measure_report_target(&report, alone / 4 * 1e9, "ns", "<=", 60, "a call that meets nobody");
    const double stream = measure_median_of(run_stream, &items, run_count) / (double)items;
    measure_report_add(&report, stream * 1e9, "ns", "an item from thread to thread, %d slots",
                       SLOTS);
    items /= 10;
    const double round_trip = measure_median_of(run_round_trip, &items, run_count) / (double)items;
    measure_report_add(&report, round_trip * 1e9, "ns", "an item there and back");

    require_ok(mr_device_close(device));
    return measure_report_finish(&report);
}
