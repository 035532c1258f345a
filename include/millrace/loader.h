/* SPDX-License-Identifier: MIT */
/*
 * millrace/loader.h - worker threads prepare batches; consumers get them on the device, on their stream.
 *
 *     order of samples ──► fill (worker threads) ──► upload (a stream of its own) ──► next ──► release
 *
 * A batch has one or more fields (images, labels...), each with a size of its own. Workers write the
 * batches to come into pinned memory, or lend memory of theirs; the loader uploads them ahead of need.
 * mr_loader_next makes the consumer's stream wait for the batch, so that the host does not wait for
 * the device; mr_loader_release records what that stream was given, and the memory is written again
 * only after that point has been reached. On a device whose memory is host memory workers write where
 * consumers read: nothing is copied.
 *
 * The samples of an epoch are numbered 0 to sample_count - 1 and come in this order, in one that a seed
 * decides, or in one of yours. After the last batch mr_loader_next answers MR_END until
 * mr_loader_begin_epoch; the next epoch's first batches are prepared meanwhile.
 *
 * Memory is bounded: prefetch_count batches in pinned memory and slot_count on the device. In steady
 * state nothing is allocated and no device is waited for as a whole.
 *
 * Ownership  mr_loader_create gives; mr_loader_destroy takes, at any time: batches not yet released
 *            end with it. Batches are lent from mr_loader_next to mr_loader_release. The context is
 *            borrowed until destroy, lent memory until give_back. The device outlives the loader.
 * Threads    Every call is [any thread], with any number of consumers; nobody is inside a call when
 *            destroy is made (mr_loader_stop makes them leave). `fill` is called by several threads at
 *            once, one per worker.
 * Errors     A worker that fails ends the loader with its status, and words that name the epoch, the
 *            batch and the worker, once the finished batches before it were handed out; or the batch
 *            is skipped and listed. So does a `fill` that ends its thread, which is never skipped.
 *            A failed loader stays failed.
 */
#ifndef MR_LOADER_H
#define MR_LOADER_H

#include <millrace/pipeline.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_loader mr_loader;

/* ---- making one ---- */

#define MR_LOADER_FIELD_LIMIT 32
#define MR_LOADER_WORKER_LIMIT 256

/* One of sample_bytes and batch_bytes is required. */
typedef struct mr_loader_field {
    const char *name;    /* for messages; copied; NULL picks one */
    size_t sample_bytes; /* of one sample: the size of a batch is preset from it */
    size_t batch_bytes;  /* of the largest batch; 0 = sample_bytes for each sample */
    bool is_lent;        /* `fill` lends this field's memory instead of writing the loader's */
} mr_loader_field;

/* One field of a batch that a worker prepares. Write up to capacity_bytes to `data`, or, where the
 * field is lent, set either `data` (any host memory: it is copied by a staging crew) or `buffer` and
 * `offset` (host memory of the loader's device: pinned memory is uploaded from where it is, and on a
 * device whose memory is host memory consumers read it there). */
typedef struct mr_fill_field {
    void *data;            /* in: the loader's memory, NULL where the field is lent */
    mr_buffer *buffer;     /* in: NULL */
    size_t offset;         /* in: 0 */
    size_t capacity_bytes; /* in */
    size_t size_bytes;     /* in: sample_bytes * sample_count; out: what there is, 0 included */
} mr_fill_field;

typedef struct mr_fill_call {
    uint64_t epoch;          /* 0, 1, 2... */
    uint64_t batch;          /* 0, 1, 2... in the epoch */
    uint32_t worker;         /* 0 to worker_count - 1: for per-worker state */
    uint32_t sample_count;   /* in: samples to prepare; out: may be lowered */
    const uint64_t *samples; /* their numbers, lent for the call; NULL without sample_count */
    /* For random augmentation: the same for the same seed, epoch and batch, whichever worker has it. */
    uint64_t seed;
    uint64_t user; /* in: 0; out: carried to the consumer */
    uint32_t field_count;
    mr_fill_field *fields; /* in the order of the options */
} mr_fill_call;

/* Prepares a batch and returns. MR_OK; MR_END: the epoch ends before this batch; or a failure. May
 * block; then it should come back soon after mr_loader_stop (see `interrupt`). */
typedef mr_status (*mr_loader_fill)(void *context, mr_fill_call *call);

typedef enum mr_loader_order {
    MR_LOADER_IN_ORDER = 0,    /* batches 0, 1, 2... whoever prepared them */
    MR_LOADER_AS_COMPLETED = 1 /* within an epoch, those that are ready first */
} mr_loader_order;

/* Zero means the default for every field but `fields`, `fill` and `batch_size`. */
typedef struct mr_loader_options {
    const mr_loader_field *fields; /* copied */
    size_t field_count;            /* 1 to MR_LOADER_FIELD_LIMIT */
    mr_loader_fill fill;
    /* Lent memory of a batch is no longer read: called once for every `fill` that lent and answered
     * MR_OK, by a thread of the loader or by destroy, at the latest before the next `fill` in that
     * place: batches whose memory is lent are never more than `prefetch_count` (with `slot_count`,
     * where device memory is host memory). May be NULL. */
    void (*give_back)(void *context, uint64_t epoch, uint64_t batch, uint64_t user);
    /* Called once when the loader is to end while `fill` may be busy, by the thread that ends it. */
    void (*interrupt)(void *context);
    void *context;

    uint64_t sample_count; /* in an epoch; 0: not known, and `fill` answers MR_END */
    uint32_t batch_size;   /* samples in a batch; with `next_size` at most */
    bool is_last_dropped;  /* leave out a last batch of fewer samples; not with `next_size` */
    /* Samples in batch `batch`, where `left` are left in the epoch: 1 to batch_size (what is more than
     * `left` is cut). Must depend on its arguments only, and call nothing here. May be NULL. */
    uint32_t (*next_size)(void *context, uint64_t epoch, uint64_t batch, uint64_t left);

    bool is_shuffled; /* a new order in each epoch, from `seed`; takes no memory */
    uint64_t seed;
    /* Instead: writes the order of an epoch, sample_count numbers below sample_count (some may be left
     * out and others repeated). Called by a worker, once an epoch in turn. */
    mr_status (*reorder)(void *context, uint64_t epoch, uint64_t *samples, uint64_t sample_count);

    uint64_t epoch_count; /* epochs 0 to epoch_count - 1; 0 = no end */
    uint64_t first_epoch; /* where to begin, to go on after an earlier run */
    uint64_t first_batch; /* in that epoch */
    /* Prepare nothing of an epoch before mr_loader_begin_epoch. */
    bool is_epoch_awaited;

    mr_loader_order order;
    mr_error_policy on_error;
    uint32_t worker_count; /* threads; 0 = one per CPU this process may use, less one for the
                                consumer; at most MR_LOADER_WORKER_LIMIT */
    uint32_t
        prefetch_count;  /* batches being written or waiting for upload; 0 = worker_count + 2, fewer
                                where they would take more than a quarter of the host's memory; at
                                most 1024 */
    uint32_t slot_count; /* batches on the device: uploading, ready or lent; 0 = 4, fewer where
                                they would take more than a quarter of the memory; at most 1024 */
    int priority;        /* of the upload stream */
    mr_staging_options staging; /* of the crew for lent memory */
    const char *name;           /* copied; NULL picks one */
} mr_loader_options;

/* Allocates all batches and starts the threads, which begin at once. May block. */
MR_API MR_MUST_USE mr_status mr_loader_create(mr_device *device, const mr_loader_options *options,
                                              mr_loader **out);

/* Stops, waits for `fill` to come back and for the streams that use the batches, then frees. NULL is
 * accepted. May block. */
MR_API void mr_loader_destroy(mr_loader *loader);

/* ---- batches ---- */

/* Bytes `offset` to offset + size_bytes of `buffer`, in memory of the loader's device. The loader's own
 * memory is aligned to 256 bytes. */
typedef struct mr_batch_field {
    mr_buffer *buffer;
    size_t offset;
    size_t size_bytes;
} mr_batch_field;

/* A batch as lent to a consumer, with everything it points to. */
typedef struct mr_batch {
    uint64_t epoch;
    uint64_t batch; /* its number in the epoch */
    uint32_t sample_count;
    uint32_t field_count;
    const uint64_t *samples; /* as they were to be prepared; NULL without sample_count */
    const mr_batch_field *fields;
    uint64_t user;
    uint32_t slot;     /* the loader's */
    uint64_t sequence; /* the loader's */
} mr_batch;

/* Lends the next batch for use on `stream`, of the loader's device: work that is submitted to it from
 * now on sees the batch, and the host waits at most for a worker. NULL: by the calling thread, which
 * waits for the upload as well. MR_END: the epoch has ended. MR_E_TIMEOUT after timeout_ns (0: try,
 * MR_E_BUSY when none is there yet), MR_E_CANCELLED after mr_loader_stop. One that holds slot_count
 * batches and asks for more waits for ever. May block. */
MR_API MR_MUST_USE mr_status mr_loader_next(mr_loader *loader, mr_stream *stream,
                                            uint64_t timeout_ns, mr_batch *batch);

/* Ends the use: what `stream` has been given so far is the use (NULL: it has ended). If it fails, the
 * batch is still lent. Never blocks. */
MR_API MR_MUST_USE mr_status mr_loader_release(mr_loader *loader, mr_stream *stream,
                                               const mr_batch *batch);

/* The next epoch begins: mr_loader_next goes on with its batches. Those of the present one that nobody
 * has taken are left out. MR_END: that was the last. Never blocks. */
MR_API MR_MUST_USE mr_status mr_loader_begin_epoch(mr_loader *loader);

/* No more batches: waiting and later calls of mr_loader_next answer MR_E_CANCELLED. Lent batches may
 * still be used and released. Idempotent. Never blocks, but for `interrupt`. */
MR_API void mr_loader_stop(mr_loader *loader);

/* ---- what happened ---- */

/* The first batch that was not handed out, for first_epoch and first_batch of another run. With batches
 * as completed, later ones may have been. */
MR_API void mr_loader_position(mr_loader *loader, uint64_t *epoch, uint64_t *batch);

typedef struct mr_skipped_batch {
    uint64_t epoch, batch;
    uint32_t worker;
    mr_status status;
    char words[256];
} mr_skipped_batch;

#define MR_LOADER_SKIPPED_LIMIT 1024

/* Writes at most `capacity` of the skipped batches, from the `first` on, and answers how many were
 * written. The first MR_LOADER_SKIPPED_LIMIT are kept, in the order of failing. */
MR_API size_t mr_loader_skipped(mr_loader *loader, size_t first, mr_skipped_batch *out,
                                size_t capacity);

/* What the others wait for. */
typedef enum mr_loader_side {
    MR_LOADER_WORKERS = 0, /* fill: give it more workers, or less to do */
    MR_LOADER_UPLOAD = 1,  /* the way to the device is full */
    MR_LOADER_CONSUMERS = 2
} mr_loader_side;

typedef struct mr_loader_statistics {
    uint32_t worker_count, prefetch_count, slot_count; /* as used */
    uint64_t memory_bytes;            /* of batches on the device and in pinned memory */
    uint64_t batches, samples, bytes; /* handed out */
    uint64_t filled;                  /* batches that workers have prepared */
    uint64_t skipped;                 /* failed and left out */
    uint64_t left_out;                /* prepared and not wanted: their epoch had ended */
    uint32_t waiting_count; /* batches prepared and not yet on their way to the device, now */
    uint32_t ready_count;   /* on the device or on their way, and not taken, now */
    uint32_t lent_count;    /* taken and not released, now */
    uint64_t elapsed_ns;    /* since the loader was made */
    uint64_t fill_ns;       /* inside `fill`, all workers */
    uint64_t fill_wait_ns;  /* waiting for room, all workers */
    uint64_t upload_ns;     /* of the device, from one upload in sixteen */
    uint64_t consumer_waits,
        consumer_wait_ns;      /* in mr_loader_next, for a batch that was not there */
    uint64_t late;             /* batches that a stream was given before their upload had ended */
    mr_loader_side bottleneck; /* who has least time to spare */
} mr_loader_statistics;

MR_API void mr_loader_measure(mr_loader *loader, mr_loader_statistics *statistics);

typedef struct mr_loader_worker_statistics {
    uint64_t batches, failures;
    uint64_t fill_ns; /* inside `fill` */
    uint64_t wait_ns; /* for room */
    bool is_gone;     /* its thread has ended */
} mr_loader_worker_statistics;

MR_API MR_MUST_USE mr_status mr_loader_measure_worker(mr_loader *loader, uint32_t worker,
                                                      mr_loader_worker_statistics *statistics);

#ifdef __cplusplus
}
#endif
#endif
