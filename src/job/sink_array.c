/* SPDX-License-Identifier: MIT */
/*
 * Sinks that write the items' bytes one after the other: .npy, raw, and standard output as either.
 */
#include "job/npy.h"
#include "job/sink.h"

struct array_sink {
    struct mr__sink base;
    bool is_npy;
};

static struct array_sink *array_of(struct mr__sink *sink)
{
    return (struct array_sink *)sink;
}

/* Bytes of the whole output where they are known, else 0. */
static uint64_t due_bytes(const struct mr__sink *sink)
{
    uint64_t product;
    const struct mr__sink_input *input = &sink->input;
    if (!input->is_counted ||
        __builtin_mul_overflow(input->item_count, input->item_bytes, &product))
        return 0;
    return product;
}

static bool check_shape(const struct mr__reading *reading, const struct mr__sink *sink)
{
    if (!sink->input.has_short_last)
        return true;
    mr__field_problem(reading, sink->node,
                      "the last item may be shorter (`short_last: keep`), which a .npy file cannot "
                      "say; write `raw`, or say `short_last: pad` or `drop`");
    return false;
}

static bool npy_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    uint64_t total;
    if (sink->input.is_counted &&
        __builtin_mul_overflow(sink->input.item_count, sink->input.item_bytes, &total)) {
        mr__field_problem(reading, sink->node, "the output would be larger than any file");
        return false;
    }
    return check_shape(reading, sink) &&
           mr__output_check(reading, sink->node, sink->output.path, due_bytes(sink));
}

static bool raw_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    return mr__output_check(reading, sink->node, sink->output.path, due_bytes(sink));
}

static bool stdout_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    if (!array_of(sink)->is_npy)
        return true;
    if (!sink->input.is_counted || sink->input.may_skip) {
        mr__field_problem(reading, sink->node,
                          "a .npy stream begins with its number of items, which %s; say `stdout: "
                          "raw`",
                          sink->input.is_counted ? "skipping would change"
                                                 : "this source does not know before its end");
        return false;
    }
    return check_shape(reading, sink);
}

static mr_status write_header(struct mr__sink *sink, uint64_t count)
{
    char header[MR__NPY_WRITTEN_BYTES];
    mr__npy_format(&sink->input.type, count, header);
    return mr__output_write(&sink->output, header, sizeof header);
}

static mr_status array_begin(struct mr__sink *sink)
{
    mr_status status = mr__output_open(&sink->output);
    if (!status && array_of(sink)->is_npy)
        status = write_header(sink, sink->input.item_count);
    return status;
}

static mr_status array_take(struct mr__sink *sink, uint64_t index, const void *data,
                            size_t size_bytes)
{
    (void)index;
    return mr__output_write(&sink->output, data, size_bytes);
}

static mr_status array_finish(struct mr__sink *sink)
{
    mr_status status = MR_OK;
    const bool is_patched = sink->output.target != NULL;
    if (array_of(sink)->is_npy && is_patched && sink->items != sink->input.item_count) {
        char header[MR__NPY_WRITTEN_BYTES];
        mr__npy_format(&sink->input.type, sink->items, header);
        status = mr__output_patch(&sink->output, 0, header, sizeof header);
    }
    return status ? status : mr__output_close(&sink->output);
}

static const struct mr__sink_ops npy_ops = {
    .kind = "npy",
    .check = npy_check,
    .begin = array_begin,
    .take = array_take,
    .finish = array_finish,
};

static const struct mr__sink_ops raw_ops = {
    .kind = "raw",
    .check = raw_check,
    .begin = array_begin,
    .take = array_take,
    .finish = array_finish,
};

static const struct mr__sink_ops stdout_ops = {
    .kind = "stdout",
    .check = stdout_check,
    .begin = array_begin,
    .take = array_take,
    .finish = array_finish,
};

static struct mr__sink *new_file(const struct mr__reading *reading, const struct mr__yaml *map,
                                 const struct mr__yaml *node, const struct mr__sink_ops *ops)
{
    const char *const keys[] = { ops->kind, "name", "from", NULL };
    mr__field_map(reading, map, ops == &npy_ops ? "an npy sink" : "a raw sink", keys);
    const char *path;
    if (!mr__field_path(reading, node, &path))
        return NULL;
    struct array_sink *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self)
        return NULL;
    self->base.ops = ops;
    self->base.output.path = path;
    self->is_npy = ops == &npy_ops;
    return &self->base;
}

struct mr__sink *mr__sink_npy(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node)
{
    return new_file(reading, map, node, &npy_ops);
}

struct mr__sink *mr__sink_raw(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node)
{
    return new_file(reading, map, node, &raw_ops);
}

struct mr__sink *mr__sink_stdout(const struct mr__reading *reading, const struct mr__yaml *map,
                                 const struct mr__yaml *node)
{
    static const char *const keys[] = { "stdout", "name", "from", NULL };
    static const char *const formats[] = { "raw", "npy", NULL };
    mr__field_map(reading, map, "a stdout sink", keys);
    uint32_t format;
    if (!mr__field_choice(reading, node, formats, &format))
        return NULL;
    struct array_sink *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self)
        return NULL;
    self->base.ops = &stdout_ops;
    self->is_npy = format == 1;
    return &self->base;
}
