/* SPDX-License-Identifier: MIT */
/*
 * job/source.h - where items come from: files, standard input, a generator. One table of functions
 * per kind; items are read in order, and again from the start after another open.
 */
#ifndef MR__JOB_SOURCE_H
#define MR__JOB_SOURCE_H

#include "job/fields.h"

struct mr__source;

struct mr__source_ops {
    const char *kind;
    /* Goes to the first item. May be NULL. */
    mr_status (*open)(struct mr__source *source);
    /* Item `index` (one more than in the call before) into item_bytes of memory; MR_END after the
     * last. May block; then interrupt makes it return MR_E_CANCELLED soon. */
    mr_status (*read)(struct mr__source *source, uint64_t index, void *data, size_t *size_bytes);
    /* [any thread]. May be NULL: reading never waits for others. */
    void (*interrupt)(struct mr__source *source);
    /* Gives back what reading the job took. May be NULL. */
    void (*fini)(struct mr__source *source);
};

/* First member of every kind's structure. Lives in the job's arena. */
struct mr__source {
    const struct mr__source_ops *ops;
    const struct mr__yaml *node;
    const char *label; /* for messages: the path, "standard input", "generator" */
    struct mr__item_type type;
    size_t item_bytes;
    uint64_t item_count; /* valid when is_counted */
    uint64_t limit;      /* items at most; 0 = all */
    bool is_counted;
    bool is_repeatable;  /* can be opened again and gives the same items */
    bool has_short_last; /* the last item may be shorter than item_bytes */
};

/* What becomes of a last item that is shorter than the others. */
enum mr__short_last { MR__SHORT_ERROR, MR__SHORT_DROP, MR__SHORT_PAD, MR__SHORT_KEEP };
extern const char *const mr__short_last_names[];

/* Reads `source:` of a job and looks at what it names. NULL after problems. */
struct mr__source *mr__source_read(const struct mr__reading *reading, const struct mr__yaml *node);
void mr__source_fini(struct mr__source *source); /* NULL is accepted */

/* Item `index`, up to the limit; MR_END after the last. */
mr_status mr__source_next(struct mr__source *source, uint64_t index, void *data,
                          size_t *size_bytes);

/* The kinds, each from its own value: `npy: HERE`. */
struct mr__source *mr__source_npy(const struct mr__reading *reading, const struct mr__yaml *node);
struct mr__source *mr__source_raw(const struct mr__reading *reading, const struct mr__yaml *node);
struct mr__source *mr__source_files(const struct mr__reading *reading, const struct mr__yaml *node);
struct mr__source *mr__source_stdin(const struct mr__reading *reading, const struct mr__yaml *node);
struct mr__source *mr__source_generate(const struct mr__reading *reading,
                                       const struct mr__yaml *node);

/* Fills in item_bytes from type. False after a problem. */
bool mr__source_size(const struct mr__reading *reading, struct mr__source *source);

/* Reads `size_bytes` at `offset`; less only at the file's end (*got). */
mr_status mr__read_at(int file, const char *label, void *data, size_t size_bytes, uint64_t offset,
                      size_t *got);

/* A whole array as a side input: dtype and shape without an item axis, data in `*data`
 * (mr__free). */
mr_status mr__array_load(const char *path, struct mr__item_type *type, void **data,
                         uint64_t *size_bytes);

#endif
