/* SPDX-License-Identifier: MIT */
/*
 * One line of JSON per item: its index, and its numbers under their names (statistics) or as a
 * list.
 */
#include "job/sink.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define ELEMENT_LIMIT 65536
#define NUMBER_BYTES 32

static bool json_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    uint64_t elements;
    if (!mr__item_elements(&sink->input.type, &elements) || elements > ELEMENT_LIMIT) {
        char text[MR__ITEM_TEXT_BYTES];
        mr__field_problem(reading, sink->node,
                          "an item of '%s' (%s) is too much for a line of text (65536 numbers at "
                          "most); write `npy`",
                          sink->input.name, mr__item_text(&sink->input.type, text));
        return false;
    }
    return mr__output_check(reading, sink->node, sink->output.path, 0);
}

static mr_status json_begin(struct mr__sink *sink)
{
    return mr__output_open(&sink->output);
}

static double real_at(mr_type type, const void *data, size_t k)
{
    return type == MR_TYPE_F32 ? (double)((const float *)data)[k] : ((const double *)data)[k];
}

static int64_t signed_at(mr_type type, const void *data, size_t k)
{
    switch (type) {
    case MR_TYPE_I8:
        return ((const int8_t *)data)[k];
    case MR_TYPE_I16:
        return ((const int16_t *)data)[k];
    case MR_TYPE_I32:
        return ((const int32_t *)data)[k];
    default:
        return ((const int64_t *)data)[k];
    }
}

static uint64_t unsigned_at(mr_type type, const void *data, size_t k)
{
    switch (type) {
    case MR_TYPE_U8:
        return ((const uint8_t *)data)[k];
    case MR_TYPE_U16:
        return ((const uint16_t *)data)[k];
    case MR_TYPE_U32:
        return ((const uint32_t *)data)[k];
    default:
        return ((const uint64_t *)data)[k];
    }
}

/* As few digits as say the same number again; JSON has no infinities. */
static int format_real(char *text, double value, bool is_single)
{
    if (!isfinite(value))
        return snprintf(text, NUMBER_BYTES, "null");
    if (value == rint(value) && fabs(value) < 0x1p53)
        return snprintf(text, NUMBER_BYTES, "%.0f", value);
    const int length = snprintf(text, NUMBER_BYTES, "%.*g", is_single ? 9 : 17, value);
    char *comma = strchr(text, ','); /* some locales' point */
    if (comma)
        *comma = '.';
    return length;
}

static int format_number(char *text, mr_type type, const void *data, size_t k)
{
    if (mr__type_is_float(type))
        return format_real(text, real_at(type, data, k), type == MR_TYPE_F32);
    double low, high;
    mr__type_range(type, &low, &high);
    if (low < 0)
        return snprintf(text, NUMBER_BYTES, "%" PRId64, signed_at(type, data, k));
    return snprintf(text, NUMBER_BYTES, "%" PRIu64, unsigned_at(type, data, k));
}

static mr_status write_text(struct mr__sink *sink, const char *text)
{
    return mr__output_write(&sink->output, text, strlen(text));
}

static mr_status json_take(struct mr__sink *sink, uint64_t index, const void *data,
                           size_t size_bytes)
{
    const struct mr__sink_input *input = &sink->input;
    const size_t count = size_bytes / mr_type_size(input->type.dtype);
    char text[128];
    snprintf(text, sizeof text, "{\"item\": %" PRIu64 "%s", index,
             input->fields ? "" : ", \"values\": [");
    mr_status status = write_text(sink, text);
    for (size_t k = 0; k < count && !status; k++) {
        char number[NUMBER_BYTES];
        format_number(number, input->type.dtype, data, k);
        if (input->fields)
            snprintf(text, sizeof text, ", \"%s\": %s", input->fields[k], number);
        else
            snprintf(text, sizeof text, "%s%s", k ? ", " : "", number);
        status = write_text(sink, text);
    }
    return status ? status : write_text(sink, input->fields ? "}\n" : "]}\n");
}

static mr_status json_finish(struct mr__sink *sink)
{
    return mr__output_close(&sink->output);
}

static const struct mr__sink_ops json_ops = {
    .kind = "json",
    .check = json_check,
    .begin = json_begin,
    .take = json_take,
    .finish = json_finish,
};

struct mr__sink *mr__sink_json(const struct mr__reading *reading, const struct mr__yaml *map,
                               const struct mr__yaml *node)
{
    static const char *const keys[] = { "json", "name", "from", NULL };
    mr__field_map(reading, map, "a json sink", keys);
    const char *path;
    if (!mr__field_path(reading, node, &path))
        return NULL;
    struct mr__sink *sink = mr__arena_zalloc(reading->arena, sizeof *sink);
    if (!sink)
        return NULL;
    sink->ops = &json_ops;
    sink->output.path = path;
    return sink;
}
