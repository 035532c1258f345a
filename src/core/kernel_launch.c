/* SPDX-License-Identifier: MIT */
/*
 * Arguments, checked against the signature, and the launch.
 */
#include "core/kernel_launch.h"

#include "core/capture.h"
#include "core/signature.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- arguments ---- */

mr_argument mr_argument_buffer(mr_buffer *buffer)
{
    return mr_argument_range(buffer, 0, 0);
}

mr_argument mr_argument_range(mr_buffer *buffer, size_t offset, size_t size_bytes)
{
    return (mr_argument){
        .access = MR_ACCESS_INOUT, .buffer = buffer, .offset = offset, .size_bytes = size_bytes
    };
}

mr_argument mr_argument_u64(uint64_t value)
{
    return (mr_argument){ .type = MR_TYPE_U64, .value.u64 = value };
}

mr_argument mr_argument_i64(int64_t value)
{
    return (mr_argument){ .type = MR_TYPE_I64, .value.i64 = value };
}

mr_argument mr_argument_f32(float value)
{
    return (mr_argument){ .type = MR_TYPE_F32, .value.f32 = value };
}

mr_argument mr_argument_f64(double value)
{
    return (mr_argument){ .type = MR_TYPE_F64, .value.f64 = value };
}

/* ---- words ---- */

/* "kernel 'scale', parameter 3 ('value f32 factor')" */
static const char *parameter_text(const mr_kernel *kernel, size_t index, char text[static 192])
{
    const mr_parameter *parameter = &kernel->parameters[index];
    snprintf(text, 192, "kernel '%.60s', parameter %zu ('%s %s %s')", kernel->name, index + 1,
             mr__access_name(parameter->access), mr_type_name(parameter->type), parameter->name);
    return text;
}

static mr_status refuse_kind(const mr_kernel *kernel, size_t index, const mr_argument *argument)
{
    char text[192];
    parameter_text(kernel, index, text);
    if (argument->access != MR_ACCESS_VALUE)
        return mr_error_set(MR_E_SIGNATURE, "%s: a %s came", text,
                            kernel->parameters[index].access == MR_ACCESS_VALUE
                                ? "buffer"
                                : "buffer of another type");
    if (mr_type_size(argument->type) == 0)
        return mr_error_set(MR_E_SIGNATURE, "%s: an argument without a type came", text);
    return mr_error_set(MR_E_SIGNATURE, "%s: a number of type %s came", text,
                        mr_type_name(argument->type));
}

static mr_status refuse_number(const mr_kernel *kernel, size_t index, const mr_argument *argument)
{
    char text[192];
    parameter_text(kernel, index, text);
    if (argument->type == MR_TYPE_U64)
        return mr_error_set(MR_E_SIGNATURE, "%s: %" PRIu64 " does not fit", text,
                            argument->value.u64);
    return mr_error_set(MR_E_SIGNATURE, "%s: %" PRId64 " does not fit", text, argument->value.i64);
}

/* ---- checks ---- */

static bool store_integer(mr_type type, const mr_argument *argument, union mr__word *word)
{
    const bool is_signed = argument->type == MR_TYPE_I64;
    const bool is_negative = is_signed && argument->value.i64 < 0;
    const uint64_t u = argument->value.u64; /* the bits of i64, too */
    const int64_t i = argument->value.i64;
    switch (type) {
    case MR_TYPE_U8:
        word->u8 = (uint8_t)u;
        return !is_negative && u <= UINT8_MAX;
    case MR_TYPE_I8:
        word->i8 = (int8_t)i;
        return is_negative ? i >= INT8_MIN : u <= INT8_MAX;
    case MR_TYPE_U16:
        word->u16 = (uint16_t)u;
        return !is_negative && u <= UINT16_MAX;
    case MR_TYPE_I16:
        word->i16 = (int16_t)i;
        return is_negative ? i >= INT16_MIN : u <= INT16_MAX;
    case MR_TYPE_U32:
        word->u32 = (uint32_t)u;
        return !is_negative && u <= UINT32_MAX;
    case MR_TYPE_I32:
        word->i32 = (int32_t)i;
        return is_negative ? i >= INT32_MIN : u <= INT32_MAX;
    case MR_TYPE_U64:
        word->u64 = u;
        return !is_negative;
    default:
        word->i64 = i;
        return is_negative || u <= INT64_MAX;
    }
}

static mr_status convert_value(const mr_kernel *kernel, size_t index, const mr_argument *argument,
                               union mr__word *word)
{
    const mr_type type = kernel->parameters[index].type;
    if (type == MR_TYPE_F32 && argument->type == MR_TYPE_F32)
        word->f32 = argument->value.f32;
    else if (type == MR_TYPE_F32 && argument->type == MR_TYPE_F64)
        word->f32 = (float)argument->value.f64;
    else if (type == MR_TYPE_F64 && argument->type == MR_TYPE_F32)
        word->f64 = argument->value.f32;
    else if (type == MR_TYPE_F64 && argument->type == MR_TYPE_F64)
        word->f64 = argument->value.f64;
    else if (type >= MR_TYPE_F32 ||
             (argument->type != MR_TYPE_U64 && argument->type != MR_TYPE_I64))
        return refuse_kind(kernel, index, argument);
    else if (!store_integer(type, argument, word))
        return refuse_number(kernel, index, argument);
    return MR_OK;
}

static mr_status convert_buffer(const mr_device *device, const mr_kernel *kernel, size_t index,
                                const mr_argument *argument, union mr__word *word)
{
    char text[192];
    const mr_parameter *parameter = &kernel->parameters[index];
    const mr_buffer *buffer = argument->buffer;
    const size_t element_bytes = mr_type_size(parameter->type);
    if (!buffer)
        return mr_error_set(MR_E_INVALID, "%s: the buffer is NULL",
                            parameter_text(kernel, index, text));
    if (argument->type && argument->type != parameter->type)
        return refuse_kind(kernel, index, argument);
    if (argument->offset & (element_bytes - 1)) /* a power of two */
        return mr_error_set(MR_E_INVALID,
                            "%s: offset %zu is not a multiple of the %zu bytes of an element",
                            parameter_text(kernel, index, text), argument->offset, element_bytes);

    mr_status status =
        mr__buffer_check_range("mr_kernel_launch", buffer, argument->offset, argument->size_bytes);
    if (!status && parameter->access != MR_ACCESS_IN)
        status = mr__buffer_check_writable("mr_kernel_launch", buffer);
    if (!status)
        status = mr__buffer_address_on("mr_kernel_launch", buffer, device, &word->address);
    if (status)
        return mr_error_prefix(status, "%s: ", parameter_text(kernel, index, text));
    word->address += argument->offset;
    if (word->address & (element_bytes - 1))
        return mr_error_set(MR_E_INVALID,
                            "%s: the buffer's memory does not begin at a multiple of the %zu bytes "
                            "of an element",
                            parameter_text(kernel, index, text), element_bytes);
    return MR_OK;
}

/* Shaped by launch->count alone. */
static bool is_counted(const mr_kernel *kernel)
{
    return kernel->language == MR_KERNEL_PORTABLE || kernel->language == MR_KERNEL_NATIVE;
}

static mr_status check_shape(const mr_device *device, const mr_kernel *kernel,
                             const mr_launch *launch)
{
    const mr_device_properties *limits = &device->properties;
    if (!is_counted(kernel) && launch->grid[0] == 0)
        return mr_error_set(MR_E_INVALID,
                            "kernel '%s': a CUDA kernel or an image needs a grid: set grid[0]",
                            kernel->name);
    if (limits->is_host_memory)
        return MR_OK;
    if (is_counted(kernel) && (launch->block[1] > 1 || launch->block[2] > 1 ||
                               launch->grid[1] > 1 || launch->grid[2] > 1))
        return mr_error_set(MR_E_INVALID,
                            "kernel '%s': portable kernels have one dimension; set grid[0] and "
                            "block[0] only",
                            kernel->name);

    uint64_t threads = launch->block[0] ? launch->block[0] : 1;
    for (int i = 1; i < 3; i++) {
        threads *= launch->block[i] ? launch->block[i] : 1;
        if (threads > limits->threads_per_block_limit)
            break;
    }
    if (threads > limits->threads_per_block_limit)
        return mr_error_set(MR_E_INVALID,
                            "kernel '%s': a block of %" PRIu32 " x %" PRIu32 " x %" PRIu32
                            " threads; %s takes %" PRIu32,
                            kernel->name, launch->block[0], launch->block[1], launch->block[2],
                            limits->id, limits->threads_per_block_limit);
    return MR_OK;
}

static mr_status check_launch(const mr_stream *stream, const mr_kernel *kernel,
                              const mr_launch *launch, const mr_argument *arguments,
                              size_t argument_count)
{
    if (!stream || !kernel || !launch || (!arguments && argument_count))
        return mr_error_set(MR_E_INVALID, "mr_kernel_launch: the stream, kernel, launch or "
                                          "arguments are NULL");
    if (kernel->device != stream->device)
        return mr_error_set(MR_E_INVALID,
                            "kernel '%s': was made for %s, and stream '%s' is of %s; make the "
                            "kernel once for each device",
                            kernel->name, kernel->device->properties.id, stream->life->stream_name,
                            stream->device->properties.id);
    return mr__stream_is_special(stream) ? mr__capture_admit("mr_kernel_launch", stream) : MR_OK;
}

/* Element-wise, and over as many elements as there are iterations. */
static bool keeps_promise(const mr_kernel *kernel, const mr_launch *launch,
                          const struct mr__ready_launch *ready)
{
    return kernel->is_element_wise && (kernel->count_index == MR_PARAMETER_LIMIT ||
                                       ready->words[kernel->count_index].u64 == launch->count);
}

mr_status mr__launch_prepare(const mr_device *device, const mr_kernel *kernel,
                             const mr_launch *launch, const mr_argument *arguments,
                             size_t argument_count, struct mr__ready_launch *ready)
{
    if (argument_count != kernel->parameter_count)
        return mr_error_set(MR_E_SIGNATURE, "kernel '%s': takes %zu arguments, %zu came",
                            kernel->name, kernel->parameter_count, argument_count);
    mr_status status = check_shape(device, kernel, launch);
    if (status)
        return status;

    for (size_t i = 0; i < argument_count; i++) {
        const mr_access access = kernel->parameters[i].access;
        const mr_argument *argument = &arguments[i];
        ready->values[i] = &ready->words[i];
        ready->memory_bytes[i] = 0;
        if ((access == MR_ACCESS_VALUE) != (argument->access == MR_ACCESS_VALUE))
            return refuse_kind(kernel, i, argument);
        status = access == MR_ACCESS_VALUE
                     ? convert_value(kernel, i, argument, &ready->words[i])
                     : convert_buffer(device, kernel, i, argument, &ready->words[i]);
        if (status)
            return status;
        if (access != MR_ACCESS_VALUE)
            ready->memory_bytes[i] = argument->buffer->memory.size_bytes;
    }
    ready->is_empty = is_counted(kernel) && launch->count == 0;
    ready->work =
        (struct mr_function_launch){ .shape = *launch,
                                     .parameters = kernel->parameters,
                                     .values = ready->values,
                                     .value_count = argument_count,
                                     .is_element_wise = keeps_promise(kernel, launch, ready),
                                     .memory_bytes = ready->memory_bytes };
    return MR_OK;
}

/* ---- launch ---- */

static void emit_launch(const mr_stream *stream, uint64_t sequence, const mr_kernel *kernel,
                        const mr_argument *arguments)
{
    mr_operation_access accesses[MR_PARAMETER_LIMIT];
    size_t count = 0;
    uint64_t size_bytes = 0;
    for (size_t i = 0; i < kernel->parameter_count; i++) {
        const mr_argument *argument = &arguments[i];
        const mr_access access = kernel->parameters[i].access;
        if (access == MR_ACCESS_VALUE)
            continue;
        const size_t bytes = mr__argument_bytes(argument);
        accesses[count++] = mr__buffer_access(argument->buffer, argument->offset, bytes, access);
        size_bytes += bytes;
    }
    mr_operation operation = { .kind = MR_OPERATION_LAUNCH,
                               .stream_id = stream->id,
                               .sequence = sequence,
                               .name = kernel->name,
                               .size_bytes = size_bytes,
                               .accesses = accesses,
                               .access_count = count };
    mr__operation_emit(stream->device, &operation);
}

static mr_status note_uses(mr_stream *stream, const mr_kernel *kernel, const mr_argument *arguments,
                           bool is_recorded)
{
    mr_status status = MR_OK;
    for (size_t i = 0; i < kernel->parameter_count && !status; i++) {
        const mr_access access = kernel->parameters[i].access;
        const mr_argument *argument = &arguments[i];
        if (access == MR_ACCESS_VALUE)
            continue;
        status = is_recorded ? mr__capture_use(stream, argument->buffer, argument->offset,
                                               mr__argument_bytes(argument), access)
                             : mr__buffer_use(argument->buffer, stream);
    }
    return status;
}

mr_status mr_kernel_launch(mr_stream *stream, mr_kernel *kernel, const mr_launch *launch,
                           const mr_argument *arguments, size_t argument_count)
{
    struct mr__ready_launch ready;
    mr_status status = check_launch(stream, kernel, launch, arguments, argument_count);
    if (!status)
        status =
            mr__launch_prepare(stream->device, kernel, launch, arguments, argument_count, &ready);
    if (status || ready.is_empty)
        return status;

    const bool is_recorded = mr__stream_is_captured(stream);
    status = note_uses(stream, kernel, arguments, is_recorded);
    if (status)
        return status;
    status = stream->ops->launch(stream->queue, kernel->function, &ready.work);
    if (status)
        return mr_error_prefix(status, "kernel '%s': ", kernel->name);
    if (is_recorded) {
        mr__capture_advance(stream);
        return MR_OK;
    }
    const uint64_t sequence = mr__stream_advance(stream);
    if (mr__operation_is_wanted(stream->device))
        emit_launch(stream, sequence, kernel, arguments);
    return MR_OK;
}
