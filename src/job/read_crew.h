/* SPDX-License-Identifier: MIT */
/*
 * job/read_crew.h - several threads that read parts of one large piece of a file at once. Copying
 * from the page cache is memory work, of which one thread does about 10 GB/s, less than a GPU
 * takes.
 */
#ifndef MR__JOB_READ_CREW_H
#define MR__JOB_READ_CREW_H

#include <millrace/status.h>

struct mr__read_crew;

/* Threads that pay on this machine, the caller's own included: 1 on a small one. */
uint32_t mr__read_crew_auto(void);

/* `thread_count` of them, 2 or more, the caller's own included. */
mr_status mr__read_crew_create(uint32_t thread_count, struct mr__read_crew **out);
void mr__read_crew_destroy(struct mr__read_crew *crew); /* NULL is accepted */

/* As mr__read_at. `crew` may be NULL: the caller reads alone. One call at a time. */
mr_status mr__read_crew_at(struct mr__read_crew *crew, int file, const char *label, void *data,
                           size_t size_bytes, uint64_t offset, size_t *got);

#endif
