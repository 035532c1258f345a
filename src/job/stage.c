/* SPDX-License-Identifier: MIT */
/*
 * Reads the keys that all stages share, and helps operations with their types, kernels and buffers.
 */
#include "job/stage.h"

#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

const struct mr__op *const mr__ops[] = {
    &mr__op_convert,
    &mr__op_scale_offset,
    &mr__op_clamp,
    &mr__op_threshold,
    &mr__op_add,
    &mr__op_calibrate,
    &mr__op_median3x3,
    &mr__op_quantise,
    &mr__op_statistics,
    &mr__op_histogram,
    NULL,
};

#define OP_LIMIT 16
#define KEY_LIMIT 32

/* ---- reading ---- */

static const struct mr__op *find_op(const struct mr__reading *reading, const struct mr__yaml *node)
{
    const char *names[OP_LIMIT] = { NULL };
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return NULL;
    for (size_t k = 0; mr__ops[k]; k++) {
        names[k] = mr__ops[k]->name;
        if (strcmp(text, names[k]) == 0)
            return mr__ops[k];
    }
    char remedy[512];
    mr__field_problem(reading, node, "unknown operation '%.100s'%s", text,
                      mr__suggestion(text, names, remedy, sizeof remedy));
    return NULL;
}

static const struct mr__op *choose_op(const struct mr__reading *reading,
                                      const struct mr__yaml *node)
{
    const struct mr__yaml *op = mr__yaml_child(node, "op");
    const struct mr__yaml *kernel = mr__yaml_child(node, "kernel");
    const struct mr__yaml *object = mr__yaml_child(node, "object");
    if ((op != NULL) + (kernel != NULL) + (object != NULL) == 1)
        return op ? find_op(reading, op) : kernel ? &mr__op_kernel : &mr__op_object;
    mr__field_problem(reading, node, "a stage has exactly one of `op`, `kernel` and `object`");
    return NULL;
}

static bool check_keys(const struct mr__reading *reading, const struct mr__op *op,
                       const struct mr__yaml *node)
{
    const char *keys[KEY_LIMIT] = { "name", "from", "device", "replicas" };
    size_t count = 4;
    keys[count++] = op == &mr__op_kernel ? "kernel" : op == &mr__op_object ? "object" : "op";
    for (size_t k = 0; op->keys[k] && count < KEY_LIMIT - 1; k++)
        keys[count++] = op->keys[k];
    char what[80];
    snprintf(what, sizeof what, "a %s stage", op->name);
    return mr__field_map(reading, node, what, keys);
}

static bool read_from(const struct mr__reading *reading, struct mr__stage *stage)
{
    const struct mr__yaml *from = mr__yaml_child(stage->node, "from");
    if (!from)
        return true;
    if (from->kind != MR__YAML_LIST) {
        stage->input_count = 1;
        stage->input_nodes[0] = from;
        return mr__field_name(reading, from, &stage->input_names[0]);
    }
    if (!from->count || from->count > MR_NODE_INPUT_LIMIT) {
        mr__field_problem(reading, from, "a stage has 1 to %d inputs", MR_NODE_INPUT_LIMIT);
        return false;
    }
    bool is_good = true;
    for (const struct mr__yaml *item = from->first; item; item = item->next) {
        stage->input_nodes[stage->input_count] = item;
        is_good &= mr__field_name(reading, item, &stage->input_names[stage->input_count++]);
    }
    return is_good;
}

static bool read_replicas(const struct mr__reading *reading, struct mr__stage *stage)
{
    const struct mr__yaml *node = mr__yaml_child(stage->node, "replicas");
    if (node && node->kind == MR__YAML_TEXT && strcmp(node->text, "auto") == 0) {
        stage->replicas = MR_REPLICAS_AUTO;
        return true;
    }
    return !node || mr__field_u32(reading, node, 1, 64, &stage->replicas);
}

struct mr__stage *mr__stage_read(const struct mr__reading *reading, struct mr__stage_home *home,
                                 const struct mr__yaml *node)
{
    if (node->kind != MR__YAML_MAP) {
        mr__field_problem(reading, node, "expected a stage such as { op: median3x3 }");
        return NULL;
    }
    struct mr__stage *stage = mr__arena_zalloc(reading->arena, sizeof *stage);
    if (!stage)
        return NULL;
    stage->op = choose_op(reading, node);
    stage->node = node;
    stage->home = home;
    stage->is_parcel_wise = true;
    stage->is_repeatable = true;
    stage->name = stage->op ? stage->op->name : "stage";
    stage->device_node = mr__yaml_child(node, "device");
    bool is_good = stage->op && check_keys(reading, stage->op, node);
    const struct mr__yaml *name = mr__yaml_child(node, "name");
    stage->has_own_name = mr__field_name(reading, name, &stage->name);
    is_good &= !name || stage->has_own_name;
    is_good &=
        !stage->device_node || mr__field_text(reading, stage->device_node, &stage->device_name);
    is_good &= read_from(reading, stage);
    is_good &= read_replicas(reading, stage);
    is_good &= stage->op && stage->op->read(reading, stage);
    stage->is_broken = !is_good;
    return stage;
}

mr_status mr__stage_clone(const struct mr__reading *reading, const struct mr__stage *stage,
                          mr_device *device, struct mr__stage **out)
{
    *out = NULL;
    struct mr__stage *clone = mr__stage_read(reading, stage->home, stage->node);
    if (!clone || clone->is_broken)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the stage on %s", mr_device_id(device));
    clone->name = stage->name;
    clone->replicas = stage->replicas;
    clone->device = device;
    clone->input_count = stage->input_count;
    memcpy(clone->input_names, stage->input_names, sizeof clone->input_names);
    memcpy(clone->input_indices, stage->input_indices, sizeof clone->input_indices);
    memcpy(clone->inputs, stage->inputs, sizeof clone->inputs);
    if (!clone->op->infer(reading, clone))
        return mr_error_set(MR_E_INVALID, "it cannot be had on %s", mr_device_id(device));
    clone->is_inferred = true;
    const mr_status status = clone->op->open(clone);
    if (!status)
        *out = clone;
    else if (clone->op->close)
        clone->op->close(clone);
    return status;
}

const struct mr__yaml *mr__stage_key(const struct mr__stage *stage, const char *key)
{
    return mr__yaml_child(stage->node, key);
}

/* ---- types ---- */

static const char *input_name(const struct mr__stage *stage, uint32_t input)
{
    return stage->input_names[input] ? stage->input_names[input] : "source";
}

void mr__stage_refuse(const struct mr__reading *reading, const struct mr__stage *stage,
                      uint32_t input, const char *format, ...)
{
    char words[MR__PROBLEM_BYTES / 2], type[MR__ITEM_TEXT_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    mr__field_problem(reading, stage->node, "stage '%s' cannot take what '%s' gives (%s): %s",
                      stage->name, input_name(stage, input),
                      mr__item_text(&stage->inputs[input]->type, type), words);
}

bool mr__stage_takes(const struct mr__reading *reading, const struct mr__stage *stage,
                     const mr_type *types)
{
    char names[128] = "";
    size_t used = 0;
    for (size_t k = 0; types[k]; k++) {
        if (types[k] == stage->inputs[0]->type.dtype)
            return true;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s",
                                 !k             ? ""
                                 : types[k + 1] ? ", "
                                                : " and ",
                                 mr_type_name(types[k]));
    }
    mr__stage_refuse(reading, stage, 0, "it takes %s; put `{ op: convert, to: %s }` before it",
                     names, mr_type_name(types[0]));
    return false;
}

bool mr__stage_give_type(const struct mr__reading *reading, struct mr__stage *stage,
                         const struct mr__item_type *type)
{
    uint64_t size_bytes;
    stage->output.type = *type;
    stage->output.is_custom = stage->op->reference == NULL;
    for (uint32_t k = 0; k < stage->input_count; k++) {
        stage->output.is_custom |= stage->inputs[k]->is_custom;
        if (stage->inputs[k]->tolerance > stage->output.tolerance)
            stage->output.tolerance = stage->inputs[k]->tolerance;
    }
    if (!mr__item_bytes(type, &size_bytes)) {
        mr__stage_refuse(reading, stage, 0, "one result would be larger than 1 TiB");
        return false;
    }
    stage->output.item_bytes = size_bytes;
    return true;
}

bool mr__stage_give(const struct mr__reading *reading, struct mr__stage *stage, mr_type dtype)
{
    struct mr__item_type type = stage->inputs[0]->type;
    type.dtype = dtype;
    stage->output.has_short_last = stage->inputs[0]->has_short_last;
    return mr__stage_give_type(reading, stage, &type);
}

struct mr__side_input *mr__stage_side_input(const struct mr__reading *reading,
                                            const struct mr__stage *stage,
                                            const struct mr__yaml *node)
{
    const char *name = "";
    if (!mr__field_name(reading, node, &name))
        return NULL;
    const struct mr__stage_home *home = stage->home;
    const char *names[KEY_LIMIT] = { NULL };
    for (size_t k = 0; k < home->side_input_count; k++) {
        if (strcmp(home->side_inputs[k].name, name) == 0) {
            home->side_inputs[k].is_used = true;
            return home->side_inputs[k].is_loaded ? &home->side_inputs[k] : NULL;
        }
        if (k < KEY_LIMIT - 1)
            names[k] = home->side_inputs[k].name;
    }
    char remedy[512];
    if (!home->side_input_count)
        mr__field_problem(reading, node,
                          "no `inputs:` in the job; add `inputs: { %s: { npy: "
                          "FILE.npy } }`",
                          name);
    else
        mr__field_problem(reading, node, "unknown input '%s'%s", name,
                          mr__suggestion(name, names, remedy, sizeof remedy));
    return NULL;
}

/* ---- kernels and buffers ---- */

mr_status mr__stage_open_kernels(struct mr__stage *stage)
{
    for (size_t k = 0; k < MR__KERNEL_LIMIT && stage->kernel_names[k]; k++) {
        const mr_status status =
            mr_kernel_open(stage->device, stage->kernel_names[k], &stage->kernels[k]);
        if (status)
            return status;
    }
    return MR_OK;
}

void mr__stage_close_kernels(struct mr__stage *stage)
{
    for (size_t k = 0; k < MR__KERNEL_LIMIT; k++) {
        mr_kernel_destroy(stage->kernels[k]);
        stage->kernels[k] = NULL;
    }
}

mr_argument mr__argument_of(mr_type type, double value)
{
    double low, high;
    if (mr__type_is_float(type))
        return mr_argument_f64(value);
    mr__type_range(type, &low, &high);
    return low < 0 ? mr_argument_i64((int64_t)value) : mr_argument_u64((uint64_t)value);
}

mr_status mr__upload(mr_device *device, const void *data, size_t size_bytes, mr_buffer **out)
{
    *out = NULL;
    mr_stream *stream = NULL;
    mr_buffer *host = NULL, *target = NULL;
    mr_status status = mr_stream_create(device, &(mr_stream_options){ .name = "upload" }, &stream);
    if (!status)
        status = mr_buffer_create(device, size_bytes, NULL, &target);
    /* Borrowed memory is only read by the copy. */
    if (!status)
        status =
            mr_buffer_borrow(device, (void *)(uintptr_t)data, size_bytes, MR_PLACE_PAGEABLE, &host);
    if (!status)
        status = mr_copy(stream, target, 0, host, 0, size_bytes);
    if (!status)
        status = mr_stream_wait(stream);
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
    if (status)
        mr_buffer_destroy(target);
    else
        *out = target;
    return status;
}

struct mr__side_copy {
    struct mr__side_copy *next;
    mr_device *device;
    mr_buffer *buffer;
};

mr_status mr__side_input_on(struct mr__side_input *side, mr_device *device, mr_buffer **out)
{
    *out = NULL;
    for (const struct mr__side_copy *copy = side->copies; copy; copy = copy->next) {
        if (copy->device == device) {
            *out = copy->buffer;
            return MR_OK;
        }
    }
    struct mr__side_copy *copy = mr__zalloc(sizeof *copy);
    if (!copy)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for input '%s'", side->name);
    const mr_status status = mr__upload(device, side->data, side->size_bytes, &copy->buffer);
    if (status) {
        mr__free(copy);
        return mr_error_prefix(status, "input '%s': ", side->name);
    }
    copy->device = device;
    copy->next = side->copies;
    side->copies = copy;
    *out = copy->buffer;
    return MR_OK;
}

void mr__side_input_fini(struct mr__side_input *side)
{
    while (side->copies) {
        struct mr__side_copy *next = side->copies->next;
        mr_buffer_destroy(side->copies->buffer);
        mr__free(side->copies);
        side->copies = next;
    }
    mr__free(side->data);
    side->data = NULL;
}

/* ---- spans ---- */

static size_t sum_sizes(const mr_parcel_view *view, uint32_t item_count)
{
    size_t sum = 0;
    for (uint32_t k = 0; k < item_count; k++)
        sum += view->sizes[k];
    return sum;
}

static bool is_whole_packed(const mr_stage_call *call)
{
    for (uint32_t k = 0; k < call->input_count; k++)
        if (!call->inputs[k].is_packed)
            return false;
    return call->output->is_packed;
}

static struct mr__span whole_span(const mr_stage_call *call)
{
    struct mr__span span = { .item_count = call->item_count };
    for (uint32_t k = 0; k < call->input_count; k++) {
        span.input_offsets[k] = call->inputs[k].offset;
        span.input_bytes[k] = sum_sizes(&call->inputs[k], call->item_count);
    }
    span.output_offset = call->output->offset;
    span.output_bytes = sum_sizes(call->output, call->item_count);
    return span;
}

static struct mr__span item_span(const mr_stage_call *call, uint32_t item)
{
    struct mr__span span = { .first_item = item, .item_count = 1 };
    for (uint32_t k = 0; k < call->input_count; k++) {
        span.input_offsets[k] = call->inputs[k].offset + item * call->inputs[k].stride_bytes;
        span.input_bytes[k] = call->inputs[k].sizes[item];
    }
    span.output_offset = call->output->offset + item * call->output->stride_bytes;
    span.output_bytes = call->output->sizes[item];
    return span;
}

mr_status mr__stage_each_item(struct mr__stage *stage, mr_stage_call *call, mr__span_launch launch)
{
    mr_status status = MR_OK;
    for (uint32_t k = 0; k < call->item_count && !status; k++) {
        const struct mr__span span = item_span(call, k);
        if (span.output_bytes)
            status = launch(stage, call, &span);
    }
    return status;
}

mr_status mr__stage_each_span(struct mr__stage *stage, mr_stage_call *call, mr__span_launch launch)
{
    if (!is_whole_packed(call))
        return mr__stage_each_item(stage, call, launch);
    const struct mr__span span = whole_span(call);
    return span.output_bytes ? launch(stage, call, &span) : MR_OK;
}

mr_status mr__stage_submit_spans(void *context, mr_stage_call *call)
{
    struct mr__stage *stage = context;
    return mr__stage_each_span(stage, call, stage->op->launch);
}
