/* SPDX-License-Identifier: MIT */
/*
 * Chooses the kind of sink, counts what it takes, and is the null sink.
 */
#include "job/sink.h"

typedef struct mr__sink *(*sink_reader)(const struct mr__reading *reading,
                                        const struct mr__yaml *map, const struct mr__yaml *node);

static const struct {
    const char *key;
    sink_reader read;
} kinds[] = {
    { "npy", mr__sink_npy }, { "raw", mr__sink_raw },   { "stdout", mr__sink_stdout },
    { "png", mr__sink_png }, { "json", mr__sink_json }, { "null", mr__sink_null },
};

#define KIND_COUNT (sizeof kinds / sizeof kinds[0])

struct mr__sink *mr__sink_read(const struct mr__reading *reading, const struct mr__yaml *node)
{
    static const char *const keys[] = { "npy",  "raw",  "stdout", "png",  "json",  "null", "name",
                                        "from", "item", "low",    "high", "depth", NULL };
    const struct mr__yaml *chosen = NULL;
    sink_reader read = NULL;
    for (size_t k = 0; k < KIND_COUNT; k++) {
        const struct mr__yaml *value = mr__yaml_child(node, kinds[k].key);
        if (!value)
            continue;
        if (chosen) {
            mr__field_problem(reading, value, "this sink already is `%s`; make two sinks of it",
                              chosen->key);
            return NULL;
        }
        chosen = value;
        read = kinds[k].read;
    }
    if (!chosen) {
        if (mr__field_map(reading, node, "a sink", keys))
            mr__field_problem(reading, node,
                              "says no kind; one of: npy, raw, stdout, png, json, null");
        return NULL;
    }
    struct mr__sink *sink = read(reading, node, chosen);
    if (!sink)
        return NULL;
    sink->node = chosen;
    sink->name = sink->ops->kind;
    mr__field_name(reading, mr__yaml_child(node, "name"), &sink->name);
    return sink;
}

mr_status mr__sink_begin(struct mr__sink *sink)
{
    sink->items = 0;
    sink->bytes = 0;
    return sink->ops->begin(sink);
}

mr_status mr__sink_take(struct mr__sink *sink, uint64_t index, const void *data, size_t size_bytes)
{
    const mr_status status = sink->ops->take(sink, index, data, size_bytes);
    if (!status) {
        sink->items++;
        sink->bytes += size_bytes;
    }
    return status;
}

mr_status mr__sink_finish(struct mr__sink *sink)
{
    return sink->ops->finish ? sink->ops->finish(sink) : MR_OK;
}

void mr__sink_abandon(struct mr__sink *sink)
{
    if (sink->ops->abandon)
        sink->ops->abandon(sink);
    mr__output_abandon(&sink->output);
}

/* ---- null ---- */

static bool null_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    (void)reading;
    (void)sink;
    return true;
}

static mr_status null_begin(struct mr__sink *sink)
{
    (void)sink;
    return MR_OK;
}

static mr_status null_take(struct mr__sink *sink, uint64_t index, const void *data,
                           size_t size_bytes)
{
    (void)sink;
    (void)index;
    (void)data;
    (void)size_bytes;
    return MR_OK;
}

static const struct mr__sink_ops null_ops = {
    .kind = "null",
    .check = null_check,
    .begin = null_begin,
    .take = null_take,
};

struct mr__sink *mr__sink_null(const struct mr__reading *reading, const struct mr__yaml *map,
                               const struct mr__yaml *node)
{
    static const char *const keys[] = { "null", "name", "from", NULL };
    mr__field_map(reading, map, "a null sink", keys);
    bool is_wanted = true;
    if (!mr__yaml_is_nothing(node) && !mr__field_bool(reading, node, &is_wanted))
        return NULL;
    struct mr__sink *sink = mr__arena_zalloc(reading->arena, sizeof *sink);
    if (sink)
        sink->ops = &null_ops;
    return sink;
}
