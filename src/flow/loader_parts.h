/* SPDX-License-Identifier: MIT */
/*
 * flow/loader_parts.h - what the loader's files share.
 *
 * Batches live in slots. Workers fill the slots of the rear tier (pinned memory); one thread uploads
 * them, in the order in which they are to come out, to the slots of the front tier (device memory),
 * which consumers take. Where device memory is host memory there is no rear tier and no upload thread:
 * workers fill the front. A batch is drawn, that is given its number, together with a slot: so the
 * batch that is due always has one, and the loader goes on whoever is slow.
 *
 * One lock guards all bookkeeping; nothing that may block is called under it. A slot that is being
 * filled, moved, taken or released belongs to the thread that does it.
 *
 * loader.c makes and ends loaders, loader_draw.c knows which batch comes next, loader_slot.c which slot
 * is due, loader_fill.c is a worker, loader_upload.c the upload thread, loader_next.c the consumers'
 * side, loader_report.c what is asked from outside.
 */
#ifndef MR__LOADER_PARTS_H
#define MR__LOADER_PARTS_H

#include "flow/gate.h"

#include <millrace/event.h>
#include <millrace/loader.h>

#define MR__LOADER_NONE UINT64_MAX

enum mr__slot_state {
    MR__SLOT_FREE,
    MR__SLOT_FILLING, /* by a worker; in the front tier: by the upload thread */
    MR__SLOT_FILLED,
    MR__SLOT_FAILED, /* its `fill` failed; for good */
    MR__SLOT_MOVING, /* rear: its upload is being submitted */
    MR__SLOT_TAKEN,  /* front: lent to a consumer */
    MR__SLOT_RELEASING
};

struct mr__loader_slot {
    enum mr__slot_state state;
    uint64_t sequence; /* rear: of drawing; front, after an upload: of uploading */
    uint64_t filled_at, freed_at;
    uint64_t epoch, batch, first_sample;
    uint32_t sample_count, drawn_count; /* as filled, as drawn */
    uint32_t worker;
    bool is_ordering; /* the worker has the epoch's order made first */
    uint64_t user;
    bool is_lent_from; /* memory to give back, of this batch: */
    uint64_t lent_epoch, lent_batch, lent_user;
    uint64_t *samples; /* room for batch_size; NULL without sample_count */
    mr_buffer *memory; /* NULL where all fields are lent */
    mr_fill_field *fields;
    mr_batch_field *views; /* front */
    mr_event *uploaded;    /* with an upload: in both tiers */
    mr_event *released;    /* front */
    bool is_upload_pending, is_release_pending;
    mr_status status; /* why it failed */
    char words[MR_ERROR_BYTES];
};

struct mr__loader_tier {
    struct mr__loader_slot *slots;
    uint32_t count;
    size_t offsets[MR_LOADER_FIELD_LIMIT]; /* of the fields in a slot's memory */
    size_t slot_bytes;
};

struct mr__loader_field {
    char *name;
    size_t sample_bytes, capacity_bytes;
    bool is_lent;
};

struct mr__loader_worker {
    mr_loader *loader;
    uint32_t index;
    pthread_t thread;
    uint64_t wait_began_ns; /* 0: does not wait */
    mr_loader_worker_statistics statistics;
};

/* Where drawing is: the next batch, and the next place in the epoch's order. */
struct mr__loader_cursor {
    uint64_t epoch, batch, sample;
};

struct mr_loader {
    mr_device *device;
    char *name;
    mr_loader_options
        options; /* counts resolved; pointers to the caller's text and fields are not used */
    uint32_t field_count;
    struct mr__loader_field fields[MR_LOADER_FIELD_LIMIT];
    bool has_upload, has_staged;
    mr_stream *stream; /* of uploads */
    mr_staging *staging;
    struct mr__loader_tier rear, front;
    struct mr__loader_tier *filling; /* the tier that workers fill */
    uint64_t *order;                 /* with `reorder` */
    struct mr__loader_worker *workers;
    uint32_t started_count;
    pthread_t uploader;
    bool has_uploader;
    uint64_t began_ns;
    mr_event *timed_start, *timed_end; /* the upload thread's */
    bool is_timed;

    pthread_mutex_t lock;              /* guards everything below, and the slots */
    struct mr__gate room, work, ready; /* for workers, the upload thread, consumers */
    struct mr__loader_cursor draw;
    uint64_t read_epoch;     /* consumers are there */
    uint64_t end_batches[2]; /* of even and odd epochs: where `fill` said MR_END */
    uint64_t ordered_epoch;  /* `order` is of this one */
    bool is_ordering;
    uint64_t sequence, upload_sequence, stamp;
    bool is_stopped, is_interrupted;
    bool is_failing; /* something failed: nothing more is drawn */
    mr_status failure;
    bool is_urgent; /* what is ready cannot be trusted */
    char failure_words[MR_ERROR_BYTES];
    mr_skipped_batch *skipped;
    size_t skipped_kept;
    mr_loader_statistics statistics;
    uint64_t timed_count, timed_ns, upload_count;
};

/* Everything from here on is called under the lock unless it says otherwise. */

/* ---- loader_draw.c ---- */

/* The cursor at `first_batch` of `first_epoch`. Not under the lock. */
mr_status mr__loader_begin(mr_loader *loader);
/* The next batch with a slot for it, which is then FILLING; NULL: not now. */
struct mr__loader_slot *mr__loader_draw(mr_loader *loader);
/* Nothing of the epoch is left to draw. */
bool mr__loader_is_drawn(const mr_loader *loader, uint64_t epoch);
/* `fill` said that the epoch ends before the slot's batch. */
void mr__loader_end_epoch(mr_loader *loader, const struct mr__loader_slot *slot);
/* Not under the lock, in a slot that is FILLING: writes its samples, after having the order made. */
mr_status mr__loader_choose_samples(mr_loader *loader, struct mr__loader_slot *slot);
/* The first batch that would be drawn. */
void mr__loader_next_draw(const mr_loader *loader, uint64_t *epoch, uint64_t *batch);

/* ---- loader_slot.c ---- */

/* The slot whose batch comes out next, FILLED or FAILED; NULL: there is none, or it is being filled. */
struct mr__loader_slot *mr__loader_due(mr_loader *loader, struct mr__loader_tier *tier);
/* The free slot that has been free for longest, or NULL. */
struct mr__loader_slot *mr__loader_find_free(const struct mr__loader_tier *tier);
/* Free it; whoever waits for room is told. */
void mr__loader_give_free(mr_loader *loader, struct mr__loader_slot *slot);
/* Nobody wants its batch any more. */
bool mr__loader_is_stale(const mr_loader *loader, const struct mr__loader_slot *slot);
/* Its batch has not been handed out, nor given up. */
bool mr__loader_is_pending(const mr_loader *loader, const struct mr__loader_slot *slot);
/* Frees filled slots that are stale. */
void mr__loader_drop_stale(mr_loader *loader);
/* Not under the lock. Gives lent memory back, if there is some. */
void mr__loader_give_back(mr_loader *loader, struct mr__loader_slot *slot);

/* ---- loader_fill.c, loader_upload.c: the threads ---- */

void *mr__loader_work(void *worker);
void *mr__loader_serve_uploads(void *loader);

/* ---- loader.c ---- */

/* The loader has failed; the first call counts. Tells everybody. */
void mr__loader_fail(mr_loader *loader, mr_status status, const char *words, bool is_urgent);
/* Sets the thread's words. */
mr_status mr__loader_say_failure(const mr_loader *loader);
void mr__loader_notify_all(mr_loader *loader);

#endif
