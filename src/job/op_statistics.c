/* SPDX-License-Identifier: MIT */
/*
 * Operations that look at an item as a whole: statistics, histogram, and quantise, whose range may
 * be the item's own. Items are reduced in parts, whose results stand in scratch buffers, one set
 * for each replica; a call with more items than the scratch holds goes in batches.
 */
#include "base/alloc.h"
#include "job/reference.h"
#include "job/stage.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define CHUNK 4096          /* elements in a group of quantise: kernels/image.c */
#define PART_ELEMENTS 65536 /* of an item, in one group */
#define PART_LIMIT 64
#define SCRATCH_BYTES ((uint64_t)4 << 20) /* of one replica, unless one item needs more */
#define BATCH_LIMIT 4096                  /* items */
#define REPLICA_LIMIT 64

enum { PARTIAL, RESULT, LOW, HIGH, SCRATCH_COUNT };

struct reduce_arguments {
    uint64_t count;                      /* elements of an item */
    uint64_t part_count;                 /* of an item */
    uint64_t batch;                      /* items that the scratch holds */
    size_t scratch_bytes[SCRATCH_COUNT]; /* for one item; 0: not needed */
    mr_buffer *scratch[REPLICA_LIMIT][SCRATCH_COUNT];

    bool is_own_range; /* quantise: each item's own least and greatest */
    double low, high;
    mr_buffer *low_buffer, *high_buffer; /* quantise with a fixed range: `batch` times the bound */
    uint32_t bin_count;
};

static struct reduce_arguments *new_arguments(const struct mr__reading *reading,
                                              struct mr__stage *stage)
{
    stage->arguments = mr__arena_zalloc(reading->arena, sizeof(struct reduce_arguments));
    return stage->arguments;
}

/* ---- scratch ---- */

static bool plan_parts(struct mr__stage *stage)
{
    struct reduce_arguments *own = stage->arguments;
    if (!mr__item_elements(&stage->inputs[0]->type, &own->count))
        return false;
    own->part_count = own->count / PART_ELEMENTS;
    own->part_count = own->part_count < 1            ? 1
                      : own->part_count > PART_LIMIT ? PART_LIMIT
                                                     : own->part_count;
    return true;
}

static void plan_batch(struct reduce_arguments *own)
{
    uint64_t item_bytes = 1;
    for (size_t k = 0; k < SCRATCH_COUNT; k++)
        item_bytes += own->scratch_bytes[k];
    own->batch = SCRATCH_BYTES / item_bytes;
    own->batch = own->batch < 1 ? 1 : own->batch > BATCH_LIMIT ? BATCH_LIMIT : own->batch;
}

/* Made at a replica's first call, so that the steady state allocates nothing. */
static mr_status ready_scratch(struct mr__stage *stage, uint32_t replica)
{
    struct reduce_arguments *own = stage->arguments;
    if (replica >= REPLICA_LIMIT)
        return mr_error_set(MR_E_INVALID, "more than %d replicas", REPLICA_LIMIT);
    mr_status status = MR_OK;
    for (size_t k = 0; k < SCRATCH_COUNT && !status; k++)
        if (own->scratch_bytes[k] && !own->scratch[replica][k])
            status = mr_buffer_create(stage->device, own->scratch_bytes[k] * own->batch, NULL,
                                      &own->scratch[replica][k]);
    return status;
}

static void reduce_end(struct mr__stage *stage)
{
    struct reduce_arguments *own = stage->arguments;
    for (size_t replica = 0; replica < REPLICA_LIMIT; replica++) {
        for (size_t k = 0; k < SCRATCH_COUNT; k++) {
            mr_buffer_destroy(own->scratch[replica][k]);
            own->scratch[replica][k] = NULL;
        }
    }
    mr_buffer_destroy(own->low_buffer);
    mr_buffer_destroy(own->high_buffer);
    own->low_buffer = own->high_buffer = NULL;
}

/* Some consecutive items of a span: at most a batch. */
struct batch {
    mr_stream *stream;
    mr_buffer *const *scratch;
    mr_argument source, target;
    uint64_t item_count;
};

typedef mr_status (*batch_launch)(struct mr__stage *stage, const struct batch *batch);

static mr_status each_batch(struct mr__stage *stage, mr_stage_call *call,
                            const struct mr__span *span, batch_launch launch)
{
    struct reduce_arguments *own = stage->arguments;
    const size_t in = stage->inputs[0]->item_bytes, out = stage->output.item_bytes;
    mr_status status = ready_scratch(stage, call->replica);
    for (uint64_t first = 0; first < span->item_count && !status; first += own->batch) {
        const uint64_t left = span->item_count - first;
        const uint64_t count = left < own->batch ? left : own->batch;
        const struct batch batch = {
            .stream = call->stream,
            .scratch = own->scratch[call->replica],
            .source = mr_argument_range(call->inputs[0].buffer, span->input_offsets[0] + first * in,
                                        count * in),
            .target = mr_argument_range(call->output->buffer, span->output_offset + first * out,
                                        count * out),
            .item_count = count,
        };
        status = launch(stage, &batch);
    }
    return status;
}

static mr_status launch_kernel(const struct mr__stage *stage, const struct batch *batch,
                               size_t kernel, uint64_t count, const mr_argument *arguments,
                               size_t argument_count)
{
    return mr_kernel_launch(batch->stream, stage->kernels[kernel], &(mr_launch){ .count = count },
                            arguments, argument_count);
}

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

static mr_status launch_statistics(const struct mr__stage *stage, const struct batch *batch,
                                   mr_argument result)
{
    const struct reduce_arguments *own = stage->arguments;
    const mr_argument partial = mr_argument_buffer(batch->scratch[PARTIAL]);
    const mr_argument parts[] = { batch->source, partial, mr_argument_u64(own->count),
                                  mr_argument_u64(batch->item_count),
                                  mr_argument_u64(own->part_count) };
    const mr_argument whole[] = { partial, result, mr_argument_u64(own->count),
                                  mr_argument_u64(batch->item_count),
                                  mr_argument_u64(own->part_count) };
    mr_status status =
        launch_kernel(stage, batch, 0, batch->item_count * own->part_count, parts, COUNT_OF(parts));
    if (!status)
        status = launch_kernel(stage, batch, 1, batch->item_count, whole, COUNT_OF(whole));
    return status;
}

/* ---- statistics ---- */

static const mr_type reduce_types[] = { MR_TYPE_F32, MR_TYPE_U16, MR_TYPE_U8, 0 };

static bool statistics_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    return new_arguments(reading, stage) != NULL;
}

static bool statistics_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const char *const fields[] = { "sum", "min", "max", "mean", "count", NULL };
    const mr_type from = stage->inputs[0]->type.dtype;
    if (!mr__stage_takes(reading, stage, reduce_types) || !plan_parts(stage))
        return false;
    struct reduce_arguments *own = stage->arguments;
    own->scratch_bytes[PARTIAL] = own->part_count * 3 * sizeof(double);
    plan_batch(own);
    stage->kernel_names[0] = mr__arena_text(reading->arena, "statistics_%s", mr_type_name(from));
    stage->kernel_names[1] = "statistics_finish";

    const struct mr__item_type type = { .dtype = MR_TYPE_F64, .rank = 1, .shape = { 5 } };
    stage->output.fields = fields;
    if (!mr__stage_give_type(reading, stage, &type))
        return false;
    /* Sums of floats depend on their order. */
    if (mr__type_is_float(from) && stage->output.tolerance < 1e-9)
        stage->output.tolerance = 1e-9;
    return true;
}

static mr_status statistics_batch(struct mr__stage *stage, const struct batch *batch)
{
    return launch_statistics(stage, batch, batch->target);
}

static mr_status statistics_launch(struct mr__stage *stage, mr_stage_call *call,
                                   const struct mr__span *span)
{
    return each_batch(stage, call, span, statistics_batch);
}

static mr_status statistics_reference(const struct mr__stage *stage, const void *const *inputs,
                                      const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const mr_type type = stage->inputs[0]->type.dtype;
    *output_bytes = stage->output.item_bytes;
    return mr__reference_statistics(type, inputs[0], input_bytes[0] / mr_type_size(type), output);
}

const struct mr__op mr__op_statistics = {
    .name = "statistics",
    .keys = (const char *const[]){ NULL },
    .input_count = 1,
    .read = statistics_read,
    .infer = statistics_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = statistics_launch,
    .end = reduce_end,
    .close = mr__stage_close_kernels,
    .reference = statistics_reference,
};

/* ---- histogram ---- */

static bool read_range(const struct mr__reading *reading, struct mr__stage *stage)
{
    struct reduce_arguments *own = stage->arguments;
    const struct mr__yaml *low = mr__stage_key(stage, "low"), *high = mr__stage_key(stage, "high");
    if (!low || !high) {
        mr__field_problem(reading, stage->node, "%s needs both `low` and `high`", stage->op->name);
        return false;
    }
    const bool has_low = mr__field_f64(reading, low, &own->low);
    if (!mr__field_f64(reading, high, &own->high) || !has_low)
        return false;
    if ((float)own->high > (float)own->low && isfinite((float)own->high - (float)own->low))
        return true;
    mr__field_problem(reading, high, "must be above `low`");
    return false;
}

static bool histogram_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    struct reduce_arguments *own = new_arguments(reading, stage);
    if (!own)
        return false;
    own->bin_count = 256;
    const struct mr__yaml *bins = mr__stage_key(stage, "bins");
    const bool is_good = !bins || mr__field_u32(reading, bins, 1, 65536, &own->bin_count);
    return read_range(reading, stage) && is_good;
}

static bool histogram_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    const mr_type from = stage->inputs[0]->type.dtype;
    if (!mr__stage_takes(reading, stage, reduce_types) || !plan_parts(stage))
        return false;
    struct reduce_arguments *own = stage->arguments;
    own->scratch_bytes[PARTIAL] = own->part_count * own->bin_count * sizeof(uint32_t);
    plan_batch(own);
    stage->kernel_names[0] = mr__arena_text(reading->arena, "histogram_%s", mr_type_name(from));
    stage->kernel_names[1] = "histogram_finish";
    const struct mr__item_type type = { .dtype = MR_TYPE_U32,
                                        .rank = 1,
                                        .shape = { own->bin_count } };
    return mr__stage_give_type(reading, stage, &type);
}

static mr_status histogram_batch(struct mr__stage *stage, const struct batch *batch)
{
    const struct reduce_arguments *own = stage->arguments;
    const mr_argument partial = mr_argument_buffer(batch->scratch[PARTIAL]);
    const mr_argument parts[] = { batch->source,
                                  partial,
                                  mr_argument_f64(own->low),
                                  mr_argument_f64(own->high),
                                  mr_argument_u64(own->bin_count),
                                  mr_argument_u64(own->count),
                                  mr_argument_u64(batch->item_count),
                                  mr_argument_u64(own->part_count) };
    const mr_argument whole[] = { partial, batch->target, mr_argument_u64(own->bin_count),
                                  mr_argument_u64(batch->item_count),
                                  mr_argument_u64(own->part_count) };
    mr_status status =
        launch_kernel(stage, batch, 0, batch->item_count * own->part_count, parts, COUNT_OF(parts));
    if (!status)
        status = launch_kernel(stage, batch, 1, batch->item_count * own->bin_count, whole,
                               COUNT_OF(whole));
    return status;
}

static mr_status histogram_launch(struct mr__stage *stage, mr_stage_call *call,
                                  const struct mr__span *span)
{
    return each_batch(stage, call, span, histogram_batch);
}

static mr_status histogram_reference(const struct mr__stage *stage, const void *const *inputs,
                                     const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const struct reduce_arguments *own = stage->arguments;
    const mr_type type = stage->inputs[0]->type.dtype;
    *output_bytes = stage->output.item_bytes;
    return mr__reference_histogram(type, inputs[0], input_bytes[0] / mr_type_size(type),
                                   (float)own->low, (float)own->high, own->bin_count, output);
}

const struct mr__op mr__op_histogram = {
    .name = "histogram",
    .keys = (const char *const[]){ "bins", "low", "high", NULL },
    .input_count = 1,
    .read = histogram_read,
    .infer = histogram_infer,
    .open = mr__stage_open_kernels,
    .submit = mr__stage_submit_spans,
    .launch = histogram_launch,
    .end = reduce_end,
    .close = mr__stage_close_kernels,
    .reference = histogram_reference,
};

/* ---- quantise ---- */

static bool is_auto(const struct mr__yaml *node)
{
    return !node || (node->kind == MR__YAML_TEXT && strcmp(node->text, "auto") == 0);
}

static bool quantise_read(const struct mr__reading *reading, struct mr__stage *stage)
{
    static const char *const types[] = { "u8", NULL };
    struct reduce_arguments *own = new_arguments(reading, stage);
    if (!own)
        return false;
    const struct mr__yaml *to = mr__stage_key(stage, "to");
    uint32_t type;
    bool is_good = !to || mr__field_choice(reading, to, types, &type);
    own->is_own_range =
        is_auto(mr__stage_key(stage, "low")) && is_auto(mr__stage_key(stage, "high"));
    if (!own->is_own_range)
        is_good &= read_range(reading, stage);
    return is_good;
}

static bool quantise_infer(const struct mr__reading *reading, struct mr__stage *stage)
{
    if (!mr__stage_takes(reading, stage, reduce_types) || !plan_parts(stage))
        return false;
    struct reduce_arguments *own = stage->arguments;
    const char *from = mr_type_name(stage->inputs[0]->type.dtype);
    const char *quantise = mr__arena_text(reading->arena, "quantise_%s_u8", from);
    stage->kernel_names[0] = quantise;
    if (own->is_own_range) {
        own->scratch_bytes[PARTIAL] = own->part_count * 3 * sizeof(double);
        own->scratch_bytes[RESULT] = 5 * sizeof(double);
        own->scratch_bytes[LOW] = own->scratch_bytes[HIGH] = sizeof(float);
        stage->kernel_names[0] = mr__arena_text(reading->arena, "statistics_%s", from);
        stage->kernel_names[1] = "statistics_finish";
        stage->kernel_names[2] = "statistics_range";
        stage->kernel_names[3] = quantise;
    }
    plan_batch(own);
    return mr__stage_give(reading, stage, MR_TYPE_U8);
}

static mr_status upload_bound(const struct mr__stage *stage, double bound, mr_buffer **out)
{
    const struct reduce_arguments *own = stage->arguments;
    float *bounds = mr__zalloc_array(own->batch, sizeof *bounds);
    if (!bounds)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the range of '%s'", stage->name);
    for (uint64_t k = 0; k < own->batch; k++)
        bounds[k] = (float)bound;
    const mr_status status = mr__upload(stage->device, bounds, own->batch * sizeof *bounds, out);
    mr__free(bounds);
    return status;
}

static mr_status quantise_begin(struct mr__stage *stage)
{
    struct reduce_arguments *own = stage->arguments;
    if (own->is_own_range)
        return MR_OK;
    mr_status status = upload_bound(stage, own->low, &own->low_buffer);
    if (!status)
        status = upload_bound(stage, own->high, &own->high_buffer);
    return status;
}

static mr_status quantise_batch(struct mr__stage *stage, const struct batch *batch)
{
    const struct reduce_arguments *own = stage->arguments;
    const bool is_own = own->is_own_range;
    mr_buffer *low = is_own ? batch->scratch[LOW] : own->low_buffer;
    mr_buffer *high = is_own ? batch->scratch[HIGH] : own->high_buffer;
    mr_status status = MR_OK;
    if (is_own) {
        const mr_argument result = mr_argument_buffer(batch->scratch[RESULT]);
        const mr_argument range[] = { result, mr_argument_buffer(low), mr_argument_buffer(high),
                                      mr_argument_u64(batch->item_count) };
        status = launch_statistics(stage, batch, result);
        if (!status)
            status = launch_kernel(stage, batch, 2, batch->item_count, range, COUNT_OF(range));
    }
    if (status)
        return status;
    const mr_argument arguments[] = {
        batch->source, mr_argument_buffer(low),     mr_argument_buffer(high),
        batch->target, mr_argument_u64(own->count), mr_argument_u64(batch->item_count)
    };
    return launch_kernel(stage, batch, is_own ? 3 : 0,
                         batch->item_count * ((own->count + CHUNK - 1) / CHUNK), arguments,
                         COUNT_OF(arguments));
}

static mr_status quantise_launch(struct mr__stage *stage, mr_stage_call *call,
                                 const struct mr__span *span)
{
    return each_batch(stage, call, span, quantise_batch);
}

static mr_status quantise_reference(const struct mr__stage *stage, const void *const *inputs,
                                    const size_t *input_bytes, void *output, size_t *output_bytes)
{
    const struct reduce_arguments *own = stage->arguments;
    const mr_type type = stage->inputs[0]->type.dtype;
    double result[5] = { 0, own->low, own->high };
    (void)input_bytes;
    if (own->is_own_range)
        mr__reference_statistics(type, inputs[0], own->count, result);
    *output_bytes = stage->output.item_bytes;
    return mr__reference_quantise(type, inputs[0], own->count, (float)result[1], (float)result[2],
                                  output);
}

const struct mr__op mr__op_quantise = {
    .name = "quantise",
    .keys = (const char *const[]){ "low", "high", "to", NULL },
    .input_count = 1,
    .read = quantise_read,
    .infer = quantise_infer,
    .open = mr__stage_open_kernels,
    .begin = quantise_begin,
    .submit = mr__stage_submit_spans,
    .launch = quantise_launch,
    .end = reduce_end,
    .close = mr__stage_close_kernels,
    .reference = quantise_reference,
};
