/* SPDX-License-Identifier: MIT */
/*
 * job/sink.h - where items go: .npy and raw files, standard output, a PNG preview, JSON lines,
 * nowhere. One table of functions per kind.
 */
#ifndef MR__JOB_SINK_H
#define MR__JOB_SINK_H

#include "job/output.h"

struct mr__sink;

/* A run calls begin, take for each item, then for all sinks of the job finish, and for all publish;
 * or abandon at any moment. */
struct mr__sink_ops {
    const char *kind;
    /* With the type of what comes: can it be written, and where it is to go? Adds problems. */
    bool (*check)(const struct mr__reading *reading, struct mr__sink *sink);
    mr_status (*begin)(struct mr__sink *sink);
    mr_status (*take)(struct mr__sink *sink, uint64_t index, const void *data, size_t size_bytes);
    mr_status (*finish)(struct mr__sink *sink); /* may be NULL */
    void (*abandon)(struct mr__sink *sink);     /* may be NULL */
};

/* What comes to a sink. */
struct mr__sink_input {
    struct mr__item_type type;
    size_t item_bytes;
    uint64_t item_count; /* valid when is_counted */
    bool is_counted;
    bool has_short_last;
    bool may_skip;             /* options.on_error is skip */
    const char *const *fields; /* names of the item's elements, ends with NULL; or NULL */
    const char *name;          /* of the node it comes from */
};

/* First member of every kind's structure. Lives in the job's arena. */
struct mr__sink {
    const struct mr__sink_ops *ops;
    const struct mr__yaml *node; /* the kind's value: `npy: HERE` */
    const char *name;
    struct mr__output output;
    struct mr__sink_input input;
    uint64_t items, bytes; /* taken in this run */
};

/* The kinds, each from the sink's map and the value of its own key. NULL after problems. */
struct mr__sink *mr__sink_npy(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node);
struct mr__sink *mr__sink_raw(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node);
struct mr__sink *mr__sink_stdout(const struct mr__reading *reading, const struct mr__yaml *map,
                                 const struct mr__yaml *node);
struct mr__sink *mr__sink_png(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node);
struct mr__sink *mr__sink_json(const struct mr__reading *reading, const struct mr__yaml *map,
                               const struct mr__yaml *node);
struct mr__sink *mr__sink_null(const struct mr__reading *reading, const struct mr__yaml *map,
                               const struct mr__yaml *node);

/* One more panel beside those of `first`, a png sink: for the next node in its `from`. */
struct mr__sink *mr__sink_png_panel(struct mr__arena *arena, struct mr__sink *first);

/* Reads one element of `sinks:`, all but its `from`. */
struct mr__sink *mr__sink_read(const struct mr__reading *reading, const struct mr__yaml *node);

mr_status mr__sink_begin(struct mr__sink *sink);
mr_status mr__sink_take(struct mr__sink *sink, uint64_t index, const void *data, size_t size_bytes);
mr_status mr__sink_finish(struct mr__sink *sink);
void mr__sink_abandon(struct mr__sink *sink); /* any state */

#endif
