/* SPDX-License-Identifier: MIT */
/*
 * millrace/staging.h - pageable host memory at close to pinned speed.
 *
 * A GPU copies pageable memory slowly and makes the caller wait. A staging crew copies it with several
 * threads through a small pinned ring that stays in the last-level cache, while the copy engine
 * empties or fills the ring. Threads and chunk are chosen from the machine; on a device whose memory
 * is host memory the crew copies directly.
 *
 * Ownership  mr_staging_create gives; mr_staging_destroy takes after its transfers have ended.
 * Threads    Transfers may be started from any thread; those of one crew share its threads and are
 *            served in order. A captured stream (graph.h) is refused: MR_E_STATE.
 */
#ifndef MR_STAGING_H
#define MR_STAGING_H

#include <millrace/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_staging mr_staging;

/* Zero means auto for every field. */
typedef struct mr_staging_options {
    uint32_t thread_count; /* auto: a share of the CPUs this process may use; at most 64 */
    size_t chunk_bytes;    /* auto: 8 MiB or less; a multiple of 4096, at most 256 MiB */
    uint32_t slot_count;   /* pinned chunks per direction; auto: 4; 2 to 64 */
} mr_staging_options;

/* Starts the threads and pins the ring. May block. */
MR_API MR_MUST_USE mr_status mr_staging_create(mr_device *device, const mr_staging_options *options,
                                               mr_staging **out);
MR_API void mr_staging_destroy(mr_staging *staging);

/* Copies `size_bytes` from `source` (any host memory) to `target`. Work submitted to `stream` after
 * the return sees the data. Returns when `source` may be reused. May block. */
MR_API MR_MUST_USE mr_status mr_staging_upload(mr_staging *staging, mr_stream *stream,
                                               mr_buffer *target, size_t target_offset,
                                               const void *source, size_t size_bytes);

/* Copies to `target` (any host memory) what `stream` has written to `source` so far. Returns when the
 * data is there. May block. */
MR_API MR_MUST_USE mr_status mr_staging_download(mr_staging *staging, mr_stream *stream,
                                                 void *target, mr_buffer *source,
                                                 size_t source_offset, size_t size_bytes);

/*
 * Host to host, by the crew's threads. `begin` queues and returns; `wait` returns when the ticket's
 * copy has ended. `is_streamed` uses non-temporal stores: right when nobody reads the target soon.
 * The caller keeps the ticket where it is until wait has returned.
 */
typedef struct mr_staging_ticket {
    uint64_t words[4]; /* the crew's */
} mr_staging_ticket;

MR_API MR_MUST_USE mr_status mr_staging_copy_begin(mr_staging *staging, void *target,
                                                   const void *source, size_t size_bytes,
                                                   bool is_streamed, mr_staging_ticket *ticket);
MR_API MR_MUST_USE mr_status mr_staging_copy_query(mr_staging_ticket *ticket);
MR_API MR_MUST_USE mr_status mr_staging_copy_wait(mr_staging *staging, mr_staging_ticket *ticket);

/* What auto chose. */
MR_API void mr_staging_choice(const mr_staging *staging, mr_staging_options *out);

#ifdef __cplusplus
}
#endif
#endif
