/* SPDX-License-Identifier: MIT */
/*
 * stress/ring_laps.h - a writer tries to overtake readers that are held back: the forced schedule that
 * a ring which rewrites slots too early cannot survive.
 */
#ifndef TEST_RING_LAPS_H
#define TEST_RING_LAPS_H

#include <millrace/stream.h>

enum ring_laps_writer { RING_LAPS_THREAD, RING_LAPS_STREAM };

/* Goes `lap_count` laps and answers how many items were not what their writer had written when their
 * reader came to read them: 0 for a ring that is right. */
uint64_t ring_laps_count_rewritten(mr_device *device, enum ring_laps_writer writer,
                                   uint32_t lap_count);

/* The stream that writes, while ring_laps_count_rewritten runs; else NULL. */
extern mr_stream *ring_laps_producer;

/* How long a writing stream is given to show that it does not wait. A ring that is right uses all of
 * it in every lap. */
extern uint64_t ring_laps_patience_ns;

#endif
