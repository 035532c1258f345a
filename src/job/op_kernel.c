/* SPDX-License-Identifier: MIT */
/*
 * A stage that is the user's own kernel: portable C, CUDA source, or a PTX, cubin or fatbin image.
 * Parameters are bound by the kernel's signature: `in` buffers to the stage's inputs in order,
 * unless `arguments` names a side input for them; the one `out` buffer to the output; values to
 * `arguments`, or to what is known of the items: count, item_size, item_count, width, height,
 * first_index.
 */
#include "job/stage.h"

#include <string.h>

enum binding_kind { BIND_INPUT, BIND_SIDE, BIND_OUTPUT, BIND_NUMBER, BIND_KNOWN };
enum known {
    KNOWN_COUNT,
    KNOWN_ITEM_SIZE,
    KNOWN_ITEM_COUNT,
    KNOWN_WIDTH,
    KNOWN_HEIGHT,
    KNOWN_FIRST_INDEX
};
static const char *const known_names[] = { "count",  "item_size",   "item_count", "width",
                                           "height", "first_index", NULL };

struct binding {
    enum binding_kind kind;
    uint32_t input;              /* INPUT */
    struct mr__side_input *side; /* SIDE */
    mr_buffer *buffer;           /* SIDE, during a run */
    mr_argument number;          /* NUMBER */
    enum known known;            /* KNOWN */
};

struct kernel_arguments {
    mr_kernel_options options;
    const struct mr__yaml *node;   /* the value of `kernel:` */
    const struct mr__yaml *values; /* its `arguments` */
    struct binding bindings[MR_PARAMETER_LIMIT];
    size_t binding_count;
    bool is_merged;   /* one launch for several items */
    mr_launch launch; /* count 0: the output's elements */
    uint64_t elements, width, height;
};

/* ---- reading ---- */

static bool read_language(const struct mr__reading *reading, struct kernel_arguments *own)
{
    static const struct {
        const char *key;
        mr_kernel_language language;
    } languages[] = {
        { "portable", MR_KERNEL_PORTABLE },
        { "cuda", MR_KERNEL_CUDA },
        { "image", MR_KERNEL_IMAGE },
    };
    const struct mr__yaml *chosen = NULL;
    size_t count = 0;
    for (size_t k = 0; k < sizeof languages / sizeof languages[0]; k++) {
        const struct mr__yaml *value = mr__yaml_child(own->node, languages[k].key);
        if (!value)
            continue;
        chosen = value;
        own->options.language = languages[k].language;
        count++;
    }
    if (count != 1) {
        mr__field_problem(reading, own->node,
                          "a kernel has exactly one of `portable`, `cuda` and `image`, a file");
        return false;
    }
    return mr__field_path(reading, chosen, &own->options.path);
}

static bool read_dimensions(const struct mr__reading *reading, const struct mr__yaml *node,
                            uint32_t out[3])
{
    struct mr__item_type shape = { 0 };
    if (!node)
        return true;
    if (!mr__field_shape(reading, node, &shape))
        return false;
    for (uint32_t k = 0; k < 3; k++)
        out[k] = k < shape.rank ? (uint32_t)shape.shape[k] : 1;
    bool fits = shape.rank >= 1 && shape.rank <= 3;
    for (uint32_t k = 0; k < shape.rank && fits; k++)
        fits = shape.shape[k] <= INT32_MAX;
    if (!fits)
        mr__field_problem(reading, node, "expected 1 to 3 lengths below 2^31");
    return fits;
}

static bool read_launch(const struct mr__reading *reading, struct kernel_arguments *own)
{
    static const char *const keys[] = { "count", "grid", "block", "shared", NULL };
    const struct mr__yaml *node = mr__yaml_child(own->node, "launch");
    if (!node)
        return true;
    if (!mr__field_map(reading, node, "a kernel's launch", keys))
        return false;
    const struct mr__yaml *count = mr__yaml_child(node, "count");
    const struct mr__yaml *shared = mr__yaml_child(node, "shared");
    bool is_good = !count || mr__field_u64(reading, count, 1, UINT32_MAX, &own->launch.count);
    is_good &= !shared || mr__field_u32(reading, shared, 0, 1 << 20, &own->launch.shared_bytes);
    is_good &= read_dimensions(reading, mr__yaml_child(node, "grid"), own->launch.grid);
    is_good &= read_dimensions(reading, mr__yaml_child(node, "block"), own->launch.block);
    return is_good;
}

static bool kernel_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const char *const keys[] = { "portable",  "cuda",  "image",     "name",
                                        "signature", "flags", "arguments", "launch",
                                        "merge",     "dtype", "shape",     NULL };
    struct kernel_arguments *own = mr__arena_zalloc(reading->arena, sizeof *own);
    if (!own)
        return false;
    stage->arguments = own;
    own->node = mr__stage_key(stage, "kernel");
    if (!mr__field_map(reading, own->node, "a kernel", keys))
        return false;
    own->values = mr__yaml_child(own->node, "arguments");
    const struct mr__yaml *name = mr__yaml_child(own->node, "name");
    if (!name)
        mr__field_problem(reading, own->node, "needs the `name` of the function");
    bool is_good = mr__field_text(reading, name, &own->options.name);
    const struct mr__yaml *signature = mr__yaml_child(own->node, "signature");
    const struct mr__yaml *flags = mr__yaml_child(own->node, "flags");
    is_good &= !signature || mr__field_text(reading, signature, &own->options.signature);
    is_good &= !flags || mr__field_text(reading, flags, &own->options.flags);
    mr__field_bool(reading, mr__yaml_child(own->node, "merge"), &own->is_merged);
    is_good &= read_language(reading, own);
    is_good &= read_launch(reading, own);
    if (own->options.language != MR_KERNEL_PORTABLE && !signature) {
        mr__field_problem(reading, own->node,
                          "needs a `signature`, such as \"in f32 source, out f32 target, value u64 "
                          "count\"");
        is_good = false;
    }
    return is_good;
}

/* ---- binding ---- */

static void differ(const struct mr__reading *reading, const struct mr__stage *stage,
                   const mr_parameter *parameter, const char *what, mr_type type)
{
    const struct kernel_arguments *own = stage->arguments;
    mr__field_problem_of(reading, MR_E_SIGNATURE, own->node,
                         "parameter '%s' of kernel '%s' is %s, but %s gives %s; convert one to the "
                         "other",
                         parameter->name, own->options.name, mr_type_name(parameter->type), what,
                         mr_type_name(type));
}

static bool bind_side(const struct mr__reading *reading, struct mr__stage *stage,
                      const mr_parameter *parameter, const struct mr__yaml *value,
                      struct binding *binding)
{
    binding->kind = BIND_SIDE;
    binding->side = mr__stage_side_input(reading, stage, value);
    if (!binding->side)
        return false;
    if (binding->side->type.dtype == parameter->type)
        return true;
    differ(reading, stage, parameter, "that input", binding->side->type.dtype);
    return false;
}

static bool bind_number(const struct mr__reading *reading, const mr_parameter *parameter,
                        const struct mr__yaml *value, struct binding *binding)
{
    double number, low, high;
    binding->kind = BIND_NUMBER;
    if (!mr__field_f64(reading, value, &number))
        return false;
    if (!mr__type_is_float(parameter->type)) {
        mr__type_range(parameter->type, &low, &high);
        if (number < low || number > high || number >= 0x1p63 ||
            number != (double)(int64_t)number) {
            mr__field_problem_of(reading, MR_E_SIGNATURE, value,
                                 "no value of %s, which it is to be",
                                 mr_type_name(parameter->type));
            return false;
        }
    }
    binding->number = mr__argument_of(parameter->type, number);
    return true;
}

static bool bind_known(const struct mr__reading *reading, struct mr__stage *stage,
                       const mr_parameter *parameter, struct binding *binding)
{
    const struct kernel_arguments *own = stage->arguments;
    binding->kind = BIND_KNOWN;
    for (uint32_t k = 0; known_names[k]; k++) {
        if (strcmp(known_names[k], parameter->name) != 0 || mr__type_is_float(parameter->type))
            continue;
        binding->known = (enum known)k;
        return true;
    }
    mr__field_problem_of(reading, MR_E_SIGNATURE, own->node,
                         "kernel '%s' needs a value '%s' (%s); add `arguments: { %s: ... }`",
                         own->options.name, parameter->name, mr_type_name(parameter->type),
                         parameter->name);
    return false;
}

static bool bind_input(const struct mr__reading *reading, struct mr__stage *stage,
                       const mr_parameter *parameter, uint32_t input, struct binding *binding)
{
    const struct kernel_arguments *own = stage->arguments;
    binding->kind = BIND_INPUT;
    binding->input = input;
    if (input >= stage->input_count) {
        mr__field_problem_of(reading, MR_E_SIGNATURE, own->node,
                             "kernel '%s' reads '%s', but the stage has %u input%s; name more in "
                             "`from`, or a side input: `arguments: { %s: NAME }`",
                             own->options.name, parameter->name, stage->input_count,
                             stage->input_count == 1 ? "" : "s", parameter->name);
        return false;
    }
    if (stage->inputs[input]->type.dtype == parameter->type)
        return true;
    mr__stage_refuse(reading, stage, input,
                     "parameter '%s' of kernel '%s' is %s; put `{ op: convert, to: %s }` before it",
                     parameter->name, own->options.name, mr_type_name(parameter->type),
                     mr_type_name(parameter->type));
    return false;
}

static bool bind_output(const struct mr__reading *reading, struct mr__stage *stage,
                        const mr_parameter *parameter, struct binding *binding)
{
    const struct kernel_arguments *own = stage->arguments;
    binding->kind = BIND_OUTPUT;
    struct mr__item_type type = stage->inputs[0]->type;
    type.dtype = parameter->type;
    const struct mr__yaml *dtype = mr__yaml_child(own->node, "dtype");
    if (dtype && !mr__field_dtype(reading, dtype, &type.dtype))
        return false;
    if (type.dtype != parameter->type) {
        differ(reading, stage, parameter, "`dtype`", type.dtype);
        return false;
    }
    const struct mr__yaml *shape = mr__yaml_child(own->node, "shape");
    if (shape && !mr__field_shape(reading, shape, &type))
        return false;
    return mr__stage_give_type(reading, stage, &type);
}

static bool bind_parameter(const struct mr__reading *reading, struct mr__stage *stage,
                           const mr_parameter *parameter, uint32_t *input, uint32_t *output,
                           struct binding *binding)
{
    const struct kernel_arguments *own = stage->arguments;
    const struct mr__yaml *value = mr__yaml_child(own->values, parameter->name);
    switch (parameter->access) {
    case MR_ACCESS_VALUE:
        return value ? bind_number(reading, parameter, value, binding)
                     : bind_known(reading, stage, parameter, binding);
    case MR_ACCESS_IN:
        return value ? bind_side(reading, stage, parameter, value, binding)
                     : bind_input(reading, stage, parameter, (*input)++, binding);
    case MR_ACCESS_OUT:
        if (!(*output)++)
            return bind_output(reading, stage, parameter, binding);
        break;
    case MR_ACCESS_INOUT:
        break;
    }
    mr__field_problem_of(
        reading, MR_E_SIGNATURE, own->node,
        "kernel '%s' writes '%s' too; a stage's kernel has one `out` buffer and no "
        "`inout`",
        own->options.name, parameter->name);
    return false;
}

static bool check_values(const struct mr__reading *reading, const struct kernel_arguments *own,
                         const mr_parameter *parameters, size_t count)
{
    const char *names[MR_PARAMETER_LIMIT + 1] = { NULL };
    for (size_t k = 0; k < count; k++)
        names[k] = parameters[k].name;
    return !own->values || mr__field_map(reading, own->values, "the kernel's arguments", names);
}

static bool kernel_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    struct kernel_arguments *own = stage->arguments;
    const mr_status status = mr_kernel_create(stage->device, &own->options, &stage->kernels[0]);
    if (status) {
        mr__field_problem_last(reading, status, own->node);
        return false;
    }
    const mr_parameter *parameters = mr_kernel_parameters(stage->kernels[0]);
    own->binding_count = mr_kernel_parameter_count(stage->kernels[0]);
    if (!check_values(reading, own, parameters, own->binding_count))
        return false;
    uint32_t input = 0, output = 0;
    bool is_good = true;
    for (size_t k = 0; k < own->binding_count; k++)
        is_good &=
            bind_parameter(reading, stage, &parameters[k], &input, &output, &own->bindings[k]);
    if (!is_good)
        return false;
    if (!output || input < stage->input_count) {
        mr__field_problem_of(reading, MR_E_SIGNATURE, own->node,
                             output ? "kernel '%s' reads fewer buffers than the stage has inputs; "
                                      "shorten `from`"
                                    : "kernel '%s' writes nothing; a stage's kernel has one `out` "
                                      "buffer",
                             own->options.name);
        return false;
    }
    for (size_t k = 0; k < own->binding_count; k++) {
        if (own->bindings[k].kind == BIND_KNOWN && own->bindings[k].known == KNOWN_FIRST_INDEX)
            stage->is_repeatable = false;
    }
    const struct mr__item_type *type = &stage->inputs[0]->type;
    own->width = type->rank ? type->shape[type->rank - 1] : 1;
    own->height = type->rank >= 2 ? type->shape[type->rank - 2] : 1;
    return mr__item_elements(type, &own->elements);
}

/* ---- running ---- */

static mr_status kernel_open(struct mr__stage *stage)
{
    (void)stage; /* infer has made the kernel: its signature decides the types */
    return MR_OK;
}

static mr_status kernel_begin(struct mr__stage *stage)
{
    struct kernel_arguments *own = stage->arguments;
    mr_status status = MR_OK;
    for (size_t k = 0; k < own->binding_count && !status; k++)
        if (own->bindings[k].kind == BIND_SIDE)
            status =
                mr__side_input_on(own->bindings[k].side, stage->device, &own->bindings[k].buffer);
    return status;
}

static uint64_t known_value(const struct kernel_arguments *own, enum known known,
                            const mr_stage_call *call, const struct mr__span *span)
{
    switch (known) {
    case KNOWN_COUNT:
        return own->elements * span->item_count;
    case KNOWN_ITEM_SIZE:
        return own->elements;
    case KNOWN_ITEM_COUNT:
        return span->item_count;
    case KNOWN_WIDTH:
        return own->width;
    case KNOWN_HEIGHT:
        return own->height;
    case KNOWN_FIRST_INDEX:
        return call->first_index + span->first_item;
    }
    return 0;
}

static mr_argument argument_of(const struct kernel_arguments *own, const struct binding *binding,
                               const mr_stage_call *call, const struct mr__span *span)
{
    switch (binding->kind) {
    case BIND_INPUT:
        return mr_argument_range(call->inputs[binding->input].buffer,
                                 span->input_offsets[binding->input],
                                 span->input_bytes[binding->input]);
    case BIND_SIDE:
        return mr_argument_buffer(binding->buffer);
    case BIND_OUTPUT:
        return mr_argument_range(call->output->buffer, span->output_offset, span->output_bytes);
    case BIND_NUMBER:
        return binding->number;
    case BIND_KNOWN:
        break;
    }
    return mr_argument_u64(known_value(own, binding->known, call, span));
}

static mr_launch shape_launch(const struct kernel_arguments *own, const struct mr__stage *stage,
                              const struct mr__span *span)
{
    mr_launch launch = own->launch;
    if (launch.count)
        launch.count *= span->item_count;
    else
        launch.count = span->output_bytes / mr_type_size(stage->output.type.dtype);
    if (own->options.language != MR_KERNEL_PORTABLE && !launch.grid[0]) {
        const uint64_t threads = launch.block[0] ? launch.block[0] : 256;
        const uint64_t blocks = (launch.count + threads - 1) / threads;
        launch.block[0] = (uint32_t)threads;
        launch.grid[0] = (uint32_t)(blocks < INT32_MAX ? blocks : INT32_MAX);
    }
    return launch;
}

static mr_status launch_span(struct mr__stage *stage, mr_stage_call *call,
                             const struct mr__span *span)
{
    const struct kernel_arguments *own = stage->arguments;
    mr_argument arguments[MR_PARAMETER_LIMIT];
    for (size_t k = 0; k < own->binding_count; k++)
        arguments[k] = argument_of(own, &own->bindings[k], call, span);
    const mr_launch launch = shape_launch(own, stage, span);
    return mr_kernel_launch(call->stream, stage->kernels[0], &launch, arguments,
                            own->binding_count);
}

static mr_status kernel_submit(void *context, mr_stage_call *call)
{
    struct mr__stage *stage = context;
    const struct kernel_arguments *own = stage->arguments;
    return own->is_merged ? mr__stage_each_span(stage, call, launch_span)
                          : mr__stage_each_item(stage, call, launch_span);
}

const struct mr__op mr__op_kernel = {
    .name = "kernel",
    .keys = (const char *const[]){ NULL },
    .read = kernel_read,
    .infer = kernel_infer,
    .open = kernel_open,
    .begin = kernel_begin,
    .submit = kernel_submit,
    .close = mr__stage_close_kernels,
};
