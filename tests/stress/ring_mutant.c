/* SPDX-License-Identifier: MIT */
/*
 * Proof that the laps of ring_laps.c catch a slot that is rewritten early. The ring here is the
 * library's, compiled with three of the calls it makes to the public interface renamed to the ones
 * below, which can be told to skip a wait. The program succeeds when the laps see the damage.
 *
 *     stress_ring_mutant none      the ring as it is: nothing may be rewritten
 *     stress_ring_mutant thread    a writing thread does not wait for the readers' events
 *     stress_ring_mutant stream    a writing stream does not wait for them
 */
#include "ring_laps.h"

#include "support/check.h"

#include <millrace/event.h>

mr_status mutant_event_query(const mr_event *event);
mr_status mutant_event_wait_for(const mr_event *event, uint64_t timeout_ns);
mr_status mutant_stream_wait_event(mr_stream *stream, const mr_event *event);

static bool skips_in_thread, skips_in_stream;

mr_status mutant_event_query(const mr_event *event)
{
    return skips_in_thread ? MR_OK : mr_event_query(event);
}

mr_status mutant_event_wait_for(const mr_event *event, uint64_t timeout_ns)
{
    return skips_in_thread ? MR_OK : mr_event_wait_for(event, timeout_ns);
}

mr_status mutant_stream_wait_event(mr_stream *stream, const mr_event *event)
{
    const bool is_skipped = skips_in_stream && stream == ring_laps_producer;
    return is_skipped ? MR_OK : mr_stream_wait_event(stream, event);
}

int main(int argc, char **argv)
{
    enum { LAPS = 5, WORKERS = 8 };
    const char *mutation = argc > 1 ? argv[1] : "none";
    skips_in_thread = strcmp(mutation, "thread") == 0;
    skips_in_stream = strcmp(mutation, "stream") == 0;
    CHECK(skips_in_thread || skips_in_stream || strcmp(mutation, "none") == 0);

    /* The damage comes as soon as the machine has time for it. */
    if (skips_in_stream)
        ring_laps_patience_ns = 10000000000;

    mr_device *device = NULL;
    CHECK_OK(mr_device_open("cpu", &(mr_device_options){ .worker_count = WORKERS }, &device));
    const uint64_t by_thread = ring_laps_count_rewritten(device, RING_LAPS_THREAD, LAPS);
    const uint64_t by_stream = ring_laps_count_rewritten(device, RING_LAPS_STREAM, LAPS);
    CHECK_OK(mr_device_close(device));

    printf("%s: %" PRIu64 " items rewritten early by a thread, %" PRIu64 " by a stream\n", mutation,
           by_thread, by_stream);
    CHECK_EQ(skips_in_thread, by_thread > 0);
    CHECK_EQ(skips_in_stream, by_stream > 0);
    return 0;
}
