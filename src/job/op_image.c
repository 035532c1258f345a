/* SPDX-License-Identifier: MIT */
/*
 * Operations on images: calibrate with dark and flat frames, and the 3x3 median.
 */
#include "base/alloc.h"
#include "job/reference.h"
#include "job/stage.h"

#include <math.h>
#include <string.h>

#define CHUNK 4096 /* elements in a group of calibrate and quantise: kernels/image.c */

/* ---- calibrate ---- */

struct calibrate_arguments {
    const struct mr__yaml *dark_node, *flat_node;
    const struct mr__side_input *dark_input, *flat_input; /* NULL: none given */
    bool is_plain;      /* `normalise: false`: flat is used as it is */
    uint64_t count;     /* elements of an item */
    float *dark, *flat; /* what the kernel subtracts and divides by */
    mr_buffer *dark_buffer, *flat_buffer;
};

static bool calibrate_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    struct calibrate_arguments *own = mr__arena_zalloc(reading->arena, sizeof *own);
    if (!own)
        return false;
    stage->arguments = own;
    own->dark_node = mr__stage_key(stage, "dark");
    own->flat_node = mr__stage_key(stage, "flat");
    if (!own->dark_node && !own->flat_node) {
        mr__field_problem(reading, stage->node,
                          "calibrate needs `dark`, `flat` or both, each the name of an input");
        return false;
    }
    bool is_normalised = true, is_good = true;
    mr__field_bool(reading, mr__stage_key(stage, "normalise"), &is_normalised);
    own->is_plain = !is_normalised;
    if (own->dark_node)
        is_good &= (own->dark_input = mr__stage_side_input(reading, stage, own->dark_node)) != NULL;
    if (own->flat_node)
        is_good &= (own->flat_input = mr__stage_side_input(reading, stage, own->flat_node)) != NULL;
    return is_good;
}

/* A frame fits when it has the item's shape; axes of length 1 in front do not count. */
static bool frame_fits(const struct mr__reading *reading, const struct mr__stage *stage,
                       const struct mr__yaml *node, const struct mr__side_input *side)
{
    if (!side)
        return true;
    struct mr__item_type type = side->type;
    const struct mr__item_type *item = &stage->inputs[0]->type;
    while (type.rank > item->rank && type.shape[0] == 1) {
        memmove(type.shape, type.shape + 1, sizeof type.shape - sizeof type.shape[0]);
        type.rank--;
    }
    if (mr__item_same_shape(&type, item))
        return true;
    char frame[MR__ITEM_TEXT_BYTES], due[MR__ITEM_TEXT_BYTES];
    mr__field_problem(
        reading, node,
        "input '%s' (%s) does not have the shape of the items that come to '%s' (%s); "
        "give a frame of the same size",
        side->name, mr__item_text(&side->type, frame), stage->name, mr__item_text(item, due));
    return false;
}

static bool calibrate_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const mr_type types[] = { MR_TYPE_F32, MR_TYPE_U16, MR_TYPE_U8, 0 };
    struct calibrate_arguments *own = stage->arguments;
    if (!mr__stage_takes(reading, stage, types))
        return false;
    const bool is_fit = frame_fits(reading, stage, own->dark_node, own->dark_input);
    if (!frame_fits(reading, stage, own->flat_node, own->flat_input) || !is_fit)
        return false;
    stage->kernel_names[0] = mr__arena_text(reading->arena, "calibrate_%s_f32",
                                            mr_type_name(stage->inputs[0]->type.dtype));
    return mr__item_elements(&stage->inputs[0]->type, &own->count) &&
           mr__stage_give(reading, stage, MR_TYPE_F32);
}

/* flat becomes (flat - dark) over its own mean, so that the image keeps its level. */
static mr_status normalise(struct calibrate_arguments *own)
{
    double sum = 0;
    for (uint64_t k = 0; k < own->count; k++) {
        own->flat[k] -= own->dark[k];
        sum += own->flat[k];
    }
    const double mean = sum / (double)own->count;
    if (!(mean > 0) || !isfinite(mean))
        return mr_error_set(MR_E_INVALID,
                            "the flat frame '%s' is not brighter than the dark one on average "
                            "(%g); are they exchanged?",
                            own->flat_input->name, mean);
    for (uint64_t k = 0; k < own->count; k++)
        own->flat[k] = (float)(own->flat[k] / mean);
    return MR_OK;
}

static void fill_frame(float *frame, uint64_t count, const struct mr__side_input *side,
                       float otherwise)
{
    for (uint64_t k = 0; k < count; k++)
        frame[k] = side ? (float)mr__number_at(side->type.dtype, side->data, k) : otherwise;
}

static mr_status calibrate_open(struct mr__stage *stage)
{
    struct calibrate_arguments *own = stage->arguments;
    mr_status status = mr__stage_open_kernels(stage);
    if (status)
        return status;
    own->dark = mr__zalloc_array(own->count, sizeof *own->dark);
    own->flat = mr__zalloc_array(own->count, sizeof *own->flat);
    if (!own->dark || !own->flat)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the calibration frames");
    fill_frame(own->dark, own->count, own->dark_input, 0);
    fill_frame(own->flat, own->count, own->flat_input, 1);
    return own->flat_input && !own->is_plain ? normalise(own) : MR_OK;
}

static void calibrate_close(struct mr__stage *stage)
{
    struct calibrate_arguments *own = stage->arguments;
    mr__stage_close_kernels(stage);
    mr__free(own->dark);
    mr__free(own->flat);
    own->dark = own->flat = NULL;
}

static mr_status calibrate_begin(struct mr__stage *stage)
{
    struct calibrate_arguments *own = stage->arguments;
    const size_t size_bytes = own->count * sizeof(float);
    mr_status status = mr__upload(stage->device, own->dark, size_bytes, &own->dark_buffer);
    if (!status)
        status = mr__upload(stage->device, own->flat, size_bytes, &own->flat_buffer);
    return status;
}

static void calibrate_end(struct mr__stage *stage)
{
    struct calibrate_arguments *own = stage->arguments;
    mr_buffer_destroy(own->dark_buffer);
    mr_buffer_destroy(own->flat_buffer);
    own->dark_buffer = own->flat_buffer = NULL;
}

static mr_status calibrate_launch(struct mr__stage *stage, mr_stage_call *call,
                                  const struct mr__span *span)
{
    const struct calibrate_arguments *own = stage->arguments;
    const mr_argument arguments[] = {
        mr_argument_range(call->inputs[0].buffer, span->input_offsets[0], span->input_bytes[0]),
        mr_argument_buffer(own->dark_buffer),
        mr_argument_buffer(own->flat_buffer),
        mr_argument_range(call->output->buffer, span->output_offset, span->output_bytes),
        mr_argument_u64(own->count),
        mr_argument_u64(span->item_count),
    };
    const mr_launch launch = { .count = span->item_count * ((own->count + CHUNK - 1) / CHUNK) };
    return mr_kernel_launch(call->stream, stage->kernels[0], &launch, arguments,
                            sizeof arguments / sizeof arguments[0]);
}

static mr_status calibrate_reference(const struct mr__stage *stage, const void *const *inputs,
                                     const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const struct calibrate_arguments *own = stage->arguments;
    (void)input_bytes;
    *output_bytes = stage->output.item_bytes;
    return mr__reference_calibrate(stage->inputs[0]->type.dtype, inputs[0], own->dark, own->flat,
                                   own->count, output);
}

const struct mr__op mr__op_calibrate = {
    .name = "calibrate",
    .keys = (const char *const[]){ "dark", "flat", "normalise", NULL },
    .input_count = 1,
    .read = calibrate_read,
    .infer = calibrate_infer,
    .open = calibrate_open,
    .begin = calibrate_begin,
    .submit = mr__stage_submit_spans,
    .launch = calibrate_launch,
    .end = calibrate_end,
    .close = calibrate_close,
    .reference = calibrate_reference,
};

/* ---- median3x3 ---- */

struct median_arguments {
    uint64_t image_count, height, width; /* of one item: leading axes are images */
};

static bool median_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    stage->arguments = mr__arena_zalloc(reading->arena, sizeof(struct median_arguments));
    return stage->arguments != NULL;
}

static bool median_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const mr_type types[] = { MR_TYPE_F32, MR_TYPE_U16, MR_TYPE_U8, 0 };
    struct median_arguments *own = stage->arguments;
    const struct mr__item_type *type = &stage->inputs[0]->type;
    if (!mr__stage_takes(reading, stage, types))
        return false;
    if (type->rank < 2) {
        mr__stage_refuse(reading, stage, 0,
                         "it takes images, [height, width]; give the source a shape of two axes");
        return false;
    }
    own->height = type->shape[type->rank - 2];
    own->width = type->shape[type->rank - 1];
    own->image_count = 1;
    for (uint32_t k = 0; k + 2 < type->rank; k++)
        own->image_count *= type->shape[k];
    stage->kernel_names[0] =
        mr__arena_text(reading->arena, "median3x3_%s", mr_type_name(type->dtype));
    return mr__stage_give(reading, stage, type->dtype);
}

static mr_status median_launch(struct mr__stage *stage, mr_stage_call *call,
                               const struct mr__span *span)
{
    const struct median_arguments *own = stage->arguments;
    const uint64_t image_count = own->image_count * span->item_count;
    const mr_argument arguments[] = {
        mr_argument_range(call->inputs[0].buffer, span->input_offsets[0], span->input_bytes[0]),
        mr_argument_range(call->output->buffer, span->output_offset, span->output_bytes),
        mr_argument_u64(own->width),
        mr_argument_u64(own->height),
        mr_argument_u64(image_count),
    };
    const mr_launch launch = { .count = own->height * image_count };
    return mr_kernel_launch(call->stream, stage->kernels[0], &launch, arguments,
                            sizeof arguments / sizeof arguments[0]);
}

static mr_status median_reference(const struct mr__stage *stage, const void *const *inputs,
                                  const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const struct median_arguments *own = stage->arguments;
    const mr_type type = stage->output.type.dtype;
    const size_t image_bytes = own->height * own->width * mr_type_size(type);
    (void)input_bytes;
    for (uint64_t k = 0; k < own->image_count; k++)
        mr__reference_median3x3(type, (const char *)inputs[0] + k * image_bytes, own->height,
                                own->width, (char *)output + k * image_bytes);
    *output_bytes = stage->output.item_bytes;
    return MR_OK;
}

const struct mr__op mr__op_median3x3 = {
    .name = "median3x3",
    .keys = (const char *const[]){ NULL },
    .input_count = 1,
    .read = median_read,
    .infer = median_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = median_launch,
    .close = mr__stage_close_kernels,
    .reference = median_reference,
};
