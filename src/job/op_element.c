/* SPDX-License-Identifier: MIT */
/*
 * Operations element by element: convert, scale_offset, clamp, threshold, add. Each is one launch
 * of an embedded kernel over all elements of a parcel: source(s), target, values, count.
 */
#include "job/reference.h"
#include "job/stage.h"

#include <stdio.h>
#include <string.h>

struct element_arguments {
    mr_type to;        /* convert */
    double numbers[3]; /* as the job says them, in the kernel's order */
    bool has_number[3];
    uint32_t value_count;
    mr_argument values[3];
};

static struct element_arguments *arguments_of(const struct mr__stage *stage)
{
    return stage->arguments;
}

static struct element_arguments *new_arguments(const struct mr__reading *reading,
                                               struct mr__stage *stage)
{
    stage->arguments = mr__arena_zalloc(reading->arena, sizeof(struct element_arguments));
    return stage->arguments;
}

static mr_status launch_element(struct mr__stage *stage, mr_stage_call *call,
                                const struct mr__span *span)
{
    const struct element_arguments *own = arguments_of(stage);
    mr_argument arguments[MR_NODE_INPUT_LIMIT + 5];
    size_t used = 0;
    for (uint32_t k = 0; k < call->input_count; k++)
        arguments[used++] =
            mr_argument_range(call->inputs[k].buffer, span->input_offsets[k], span->input_bytes[k]);
    arguments[used++] =
        mr_argument_range(call->output->buffer, span->output_offset, span->output_bytes);
    for (uint32_t k = 0; k < own->value_count; k++)
        arguments[used++] = own->values[k];
    const uint64_t count = span->input_bytes[0] / mr_type_size(stage->inputs[0]->type.dtype);
    arguments[used++] = mr_argument_u64(count);
    return mr_kernel_launch(call->stream, stage->kernels[0], &(mr_launch){ .count = count },
                            arguments, used);
}

static void name_kernel(const struct mr__reading *reading, struct mr__stage *stage,
                        const char *operation, mr_type from, mr_type to)
{
    stage->kernel_names[0] =
        to ? mr__arena_text(reading->arena, "%s_%s_%s", operation, mr_type_name(from),
                            mr_type_name(to))
           : mr__arena_text(reading->arena, "%s_%s", operation, mr_type_name(from));
}

/* Reads required or optional numbers, named by `keys`, into own->numbers. */
static bool read_numbers(const struct mr__reading *reading, struct mr__stage *stage,
                         const char *const *keys, uint32_t required)
{
    struct element_arguments *own = new_arguments(reading, stage);
    if (!own)
        return false;
    bool is_good = true;
    for (uint32_t k = 0; keys[k]; k++) {
        const struct mr__yaml *node = mr__stage_key(stage, keys[k]);
        if (!node && k < required) {
            mr__field_problem(reading, stage->node, "%s needs `%s`", stage->op->name, keys[k]);
            is_good = false;
        }
        if (!node)
            continue;
        own->has_number[k] = mr__field_f64(reading, node, &own->numbers[k]);
        is_good &= own->has_number[k];
    }
    return is_good;
}

/* The number as a value of `type`; a problem where the type cannot hold it. */
static bool take_value(const struct mr__reading *reading, struct mr__stage *stage,
                       const char *const *keys, uint32_t k, mr_type type)
{
    struct element_arguments *own = arguments_of(stage);
    const double value = own->numbers[k];
    double low, high;
    own->value_count = k + 1;
    if (!mr__type_is_float(type)) {
        mr__type_range(type, &low, &high);
        if (value < low || value > high || value != (double)(int64_t)value) {
            const struct mr__yaml *node = mr__stage_key(stage, keys[k]);
            mr__field_problem(reading, node ? node : stage->node,
                              "%s is no value of %s, which '%s' works on (%.0f to %.0f, whole)",
                              keys[k], mr_type_name(type), stage->name, low, high);
            return false;
        }
    }
    own->values[k] = mr__argument_of(type, value);
    return true;
}

/* ---- convert ---- */

static const mr_type convert_types[] = { MR_TYPE_U8,  MR_TYPE_U16, MR_TYPE_I16, MR_TYPE_U32,
                                         MR_TYPE_I32, MR_TYPE_F32, MR_TYPE_F64, 0 };

static bool convert_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    struct element_arguments *own = new_arguments(reading, stage);
    const struct mr__yaml *to = mr__stage_key(stage, "to");
    if (!to)
        mr__field_problem(reading, stage->node, "convert needs `to`, a type such as f32");
    return own && mr__field_dtype(reading, to, &own->to);
}

static bool convert_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    const mr_type from = stage->inputs[0]->type.dtype, to = arguments_of(stage)->to;
    bool is_known = false;
    for (size_t k = 0; convert_types[k]; k++)
        is_known |= convert_types[k] == to;
    if (!is_known) {
        mr__field_problem(reading, mr__stage_key(stage, "to"),
                          "convert knows u8, u16, i16, u32, i32, f32 and f64, not %s",
                          mr_type_name(to));
        return false;
    }
    if (from == to) {
        mr__stage_refuse(reading, stage, 0, "it is %s already; leave the stage out",
                         mr_type_name(to));
        return false;
    }
    for (size_t k = 0; convert_types[k]; k++) {
        if (convert_types[k] != from)
            continue;
        name_kernel(reading, stage, "convert", from, to);
        return mr__stage_give(reading, stage, to);
    }
    mr__stage_refuse(reading, stage, 0, "convert knows u8, u16, i16, u32, i32, f32 and f64");
    return false;
}

const struct mr__op mr__op_convert = {
    .name = "convert",
    .keys = (const char *const[]){ "to", NULL },
    .input_count = 1,
    .takes_short_items = true,
    .read = convert_read,
    .infer = convert_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = launch_element,
    .close = mr__stage_close_kernels,
    .reference = mr__reference_convert,
};

/* ---- scale_offset ---- */

static const char *const scale_keys[] = { "scale", "offset", NULL };

static bool scale_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    if (!read_numbers(reading, stage, scale_keys, 0))
        return false;
    struct element_arguments *own = arguments_of(stage);
    if (!own->has_number[0] && !own->has_number[1])
        mr__field_problem(reading, stage->node, "scale_offset needs `scale`, `offset` or both");
    if (!own->has_number[0])
        own->numbers[0] = 1;
    return true;
}

static bool scale_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const mr_type types[] = { MR_TYPE_F32, MR_TYPE_F64, MR_TYPE_U8, MR_TYPE_U16, 0 };
    if (!mr__stage_takes(reading, stage, types))
        return false;
    const mr_type from = stage->inputs[0]->type.dtype;
    const bool is_float = mr__type_is_float(from);
    name_kernel(reading, stage, "scale_offset", from, is_float ? 0 : MR_TYPE_F32);
    const mr_type to = is_float ? from : MR_TYPE_F32;
    return take_value(reading, stage, scale_keys, 0, to) &&
           take_value(reading, stage, scale_keys, 1, to) && mr__stage_give(reading, stage, to);
}

static mr_status scale_reference(const struct mr__stage *stage, const void *const *inputs,
                                 const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const double *numbers = arguments_of(stage)->numbers;
    return mr__reference_scale_offset(stage->inputs[0]->type.dtype, inputs[0], input_bytes[0],
                                      numbers[0], numbers[1], output, output_bytes);
}

const struct mr__op mr__op_scale_offset = {
    .name = "scale_offset",
    .keys = scale_keys,
    .input_count = 1,
    .takes_short_items = true,
    .read = scale_read,
    .infer = scale_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = launch_element,
    .close = mr__stage_close_kernels,
    .reference = scale_reference,
};

/* ---- clamp and threshold ---- */

static const mr_type compare_types[] = { MR_TYPE_F32, MR_TYPE_F64, MR_TYPE_U8,  MR_TYPE_U16,
                                         MR_TYPE_I16, MR_TYPE_U32, MR_TYPE_I32, 0 };

static const char *const clamp_keys[] = { "low", "high", NULL };

static bool clamp_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    if (!read_numbers(reading, stage, clamp_keys, 2))
        return false;
    const double *numbers = arguments_of(stage)->numbers;
    if (numbers[0] <= numbers[1])
        return true;
    mr__field_problem(reading, mr__stage_key(stage, "high"), "must not be below `low`");
    return false;
}

static bool clamp_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    if (!mr__stage_takes(reading, stage, compare_types))
        return false;
    const mr_type type = stage->inputs[0]->type.dtype;
    name_kernel(reading, stage, "clamp", type, 0);
    return take_value(reading, stage, clamp_keys, 0, type) &&
           take_value(reading, stage, clamp_keys, 1, type) && mr__stage_give(reading, stage, type);
}

static mr_status clamp_reference(const struct mr__stage *stage, const void *const *inputs,
                                 const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const double *numbers = arguments_of(stage)->numbers;
    *output_bytes = input_bytes[0];
    return mr__reference_clamp(stage->inputs[0]->type.dtype, inputs[0], input_bytes[0], numbers[0],
                               numbers[1], output);
}

const struct mr__op mr__op_clamp = {
    .name = "clamp",
    .keys = clamp_keys,
    .input_count = 1,
    .takes_short_items = true,
    .read = clamp_read,
    .infer = clamp_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = launch_element,
    .close = mr__stage_close_kernels,
    .reference = clamp_reference,
};

static const char *const threshold_keys[] = { "limit", "below", "above", NULL };

static bool threshold_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    return read_numbers(reading, stage, threshold_keys, 1);
}

static bool threshold_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    if (!mr__stage_takes(reading, stage, compare_types))
        return false;
    struct element_arguments *own = arguments_of(stage);
    const mr_type type = stage->inputs[0]->type.dtype;
    name_kernel(reading, stage, "threshold", type, 0);
    double low = 0, high = 1;
    if (!own->has_number[2] && !mr__type_is_float(type))
        mr__type_range(type, &low, &high);
    if (!own->has_number[2])
        own->numbers[2] = high;
    return take_value(reading, stage, threshold_keys, 0, type) &&
           take_value(reading, stage, threshold_keys, 1, type) &&
           take_value(reading, stage, threshold_keys, 2, type) &&
           mr__stage_give(reading, stage, type);
}

static mr_status threshold_reference(const struct mr__stage *stage, const void *const *inputs,
                                     const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const double *numbers = arguments_of(stage)->numbers;
    *output_bytes = input_bytes[0];
    return mr__reference_threshold(stage->inputs[0]->type.dtype, inputs[0], input_bytes[0], numbers,
                                   output);
}

const struct mr__op mr__op_threshold = {
    .name = "threshold",
    .keys = threshold_keys,
    .input_count = 1,
    .takes_short_items = true,
    .read = threshold_read,
    .infer = threshold_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = launch_element,
    .close = mr__stage_close_kernels,
    .reference = threshold_reference,
};

/* ---- add ---- */

static bool add_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    return new_arguments(reading, stage) != NULL;
}

static bool add_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const mr_type types[] = { MR_TYPE_F32, MR_TYPE_F64, 0 };
    if (!mr__stage_takes(reading, stage, types))
        return false;
    const struct mr__item_type *first = &stage->inputs[0]->type;
    const struct mr__item_type *second = &stage->inputs[1]->type;
    if (first->dtype != second->dtype || !mr__item_same_shape(first, second)) {
        char text[MR__ITEM_TEXT_BYTES];
        mr__stage_refuse(reading, stage, 1, "both inputs must be alike, and '%s' gives %s",
                         stage->input_names[0], mr__item_text(first, text));
        return false;
    }
    name_kernel(reading, stage, "add", first->dtype, 0);
    return mr__stage_give(reading, stage, first->dtype);
}

static mr_status add_reference(const struct mr__stage *stage, const void *const *inputs,
                               const size_t *input_bytes, void *output, size_t *output_bytes)
{
    *output_bytes = input_bytes[0];
    return mr__reference_add(stage->inputs[0]->type.dtype, inputs, input_bytes[0], output);
}

const struct mr__op mr__op_add = {
    .name = "add",
    .keys = (const char *const[]){ NULL },
    .input_count = 2,
    .takes_short_items = true,
    .read = add_read,
    .infer = add_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = launch_element,
    .close = mr__stage_close_kernels,
    .reference = add_reference,
};
