/* SPDX-License-Identifier: MIT */
/*
 * The pipeline that bench_gpu_stream measures, and its contests with loops by hand. Every output is
 * poisoned before a run and checked whole after it.
 */
#include "gpu_stream.h"

#include "require.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

/* ---- one run ---- */

struct timing run_checked(const char *name, double (*run)(void *context), void *context,
                          const struct scale_range *range)
{
    struct timing timing;
    scale_poison(range);
    const double cpu_began = measure_process_cpu_s();
    timing.seconds = run(context);
    timing.cpu_seconds = measure_process_cpu_s() - cpu_began;
    scale_check(range, name);
    return timing;
}

double run_by_hand(void *context)
{
    return hand_stream(context);
}

double run_by_hand_sequential(void *context)
{
    return hand_sequential(context);
}

/* ---- ours ---- */

static mr_status submit_scale(void *context, mr_stage_call *call)
{
    struct ours *ours = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    struct scale_launch launch = { .source = in->buffer,
                                   .source_offset = in->offset,
                                   .target = out ? out->buffer : ours->resident,
                                   .target_offset =
                                       out ? out->offset : call->first_index * ours->item_bytes,
                                   .factor = SCALE_FACTOR,
                                   .rounds = ours->rounds };
    for (uint32_t i = 0; i < call->item_count; i++)
        launch.size_bytes += in->sizes[i];
    if (call->first_index >= ours->count_to)
        atomic_store_explicit(&ours->is_counting, false, memory_order_relaxed);
    else if (call->first_index >= ours->count_from)
        atomic_store_explicit(&ours->is_counting, true, memory_order_relaxed);
    return scale_launch(call->stream, ours->bench->kernel, &launch);
}

static mr_buffer *borrow(const struct bench *bench, float *memory, const struct ours_shape *shape)
{
    mr_buffer *buffer = NULL;
    require_ok(mr_buffer_borrow(bench->device, memory, shape->size_bytes, shape->place, &buffer));
    return buffer;
}

void ours_init(struct ours *ours, const struct bench *bench, const struct ours_shape *shape)
{
    mr_node node;
    memset(ours, 0, sizeof *ours);
    ours->bench = bench;
    ours->item_bytes = shape->item_bytes;
    ours->rounds = shape->rounds;
    ours->count_from = ours->count_to = UINT64_MAX;
    ours->source = borrow(bench, shape->source, shape);
    if (shape->target)
        ours->target = borrow(bench, shape->target, shape);
    else
        require_ok(mr_buffer_create(bench->device, shape->size_bytes, NULL, &ours->resident));

    const mr_pipeline_options options = { .chunk_bytes = shape->chunk_bytes,
                                          .parcel_items = shape->parcel_items,
                                          .slot_count = shape->slot_count };
    require_ok(mr_pipeline_create(&options, &ours->pipeline));
    const mr_source_options source = { .memory = ours->source,
                                       .memory_bytes = shape->size_bytes,
                                       .item_bytes = shape->item_bytes };
    require_ok(mr_pipeline_add_source(ours->pipeline, &source, &node));
    const mr_stage_options stage = { .name = "scale",
                                     .device = bench->device,
                                     .submit = submit_scale,
                                     .context = ours,
                                     .has_no_output = !shape->target,
                                     .replicas = shape->replicas,
                                     .is_parcel_wise = shape->is_parcel_wise,
                                     .is_repeatable = shape->is_repeatable };
    require_ok(mr_pipeline_add_stage(ours->pipeline, &stage, &node));
    const mr_sink_options sink = { .memory = ours->target, .memory_bytes = shape->size_bytes };
    if (shape->target)
        require_ok(mr_pipeline_add_sink(ours->pipeline, &sink, &node));
}

void ours_fini(struct ours *ours)
{
    mr_pipeline_destroy(ours->pipeline);
    mr_buffer_destroy(ours->source);
    mr_buffer_destroy(ours->target);
    mr_buffer_destroy(ours->resident);
}

double run_ours(void *context)
{
    const struct ours *ours = context;
    const double began = measure_now_s();
    require_ok(mr_pipeline_run(ours->pipeline));
    return measure_now_s() - began;
}

void ours_describe(const struct ours *ours, const char *name)
{
    const mr_pipeline_report *report;
    require_ok(mr_pipeline_report_get(ours->pipeline, &report));
    printf("  [%s: chunk %zu KiB, %u items a parcel, %u slots, %u streams, %.2f ms]\n", name,
           (size_t)report->chunk_bytes / KIB, report->parcel_items, report->slot_count,
           report->stream_count, (double)report->elapsed_ns * 1e-6);
    for (size_t i = 0; i < report->node_count; i++) {
        const mr_node_report *node = &report->nodes[i];
        if (node->replayed_parcels)
            printf("  [%s: %llu of %llu parcels replayed; %s]\n", name,
                   (unsigned long long)node->replayed_parcels, (unsigned long long)report->parcels,
                   node->replay_words);
    }
}

/* ---- contests ---- */

void variant_ours(struct variant *variant, const struct bench *bench, double bound,
                  const struct ours_shape *shape, const char *name, ...)
{
    va_list arguments;
    memset(variant, 0, sizeof *variant);
    va_start(arguments, name);
    vsnprintf(variant->name, sizeof variant->name, name, arguments);
    va_end(arguments);
    variant->bound = bound;
    variant->run = run_ours;
    variant->context = &variant->ours;
    variant->range = (struct scale_range){ shape->source, shape->target,
                                           shape->size_bytes / sizeof(float), SCALE_FACTOR };
    ours_init(&variant->ours, bench, shape);
}

void variant_by_hand(struct variant *variant, const struct hand_run *run, const char *name, ...)
{
    va_list arguments;
    memset(variant, 0, sizeof *variant);
    va_start(arguments, name);
    vsnprintf(variant->name, sizeof variant->name, name, arguments);
    va_end(arguments);
    variant->is_by_hand = true;
    variant->hand = *run;
    variant->hand.factor = SCALE_FACTOR;
    variant->run = run_by_hand;
    variant->context = &variant->hand;
    variant->range = (struct scale_range){ run->source, run->target,
                                           run->size_bytes / sizeof(float), SCALE_FACTOR };
}

/* All take turns, each turn beginning with the limit: other tenants of the host disturb for seconds at
 * a time, and shares of a limit measured just before stay true. The first turn warms up. */
static void take_turns(const struct bench *bench, enum contest_limit limit,
                       struct variant *variants, size_t count)
{
    for (int i = -1; i < bench->run_count; i++) {
        const int k = i < 0 ? 0 : i;
        const double most =
            hand_copy_rate(bench->pinned_in, limit == LIMIT_IN ? NULL : bench->pinned_out, GIB, 1);
        for (size_t v = 0; v < count; v++) {
            struct variant *variant = &variants[v];
            const struct timing timing =
                run_checked(variant->name, variant->run, variant->context, &variant->range);
            const double rate = (double)(variant->range.count * sizeof(float)) / timing.seconds;
            variant->seconds[k] = timing.seconds;
            variant->rates[k] = rate / 1e9;
            variant->shares[k] = rate / most;
        }
    }
}

static void report_variant(struct bench *bench, struct variant *variant)
{
    const double share = measure_median(variant->shares, bench->run_count);
    measure_report_add(&bench->report, measure_median(variant->rates, bench->run_count), "GB/s",
                       "%s", variant->name);
    if (variant->bound > 0)
        measure_report_target(&bench->report, share, "", ">=", variant->bound, "%s, of the limit",
                              variant->name);
    else
        measure_report_add(&bench->report, share, "", "%s, of the limit", variant->name);
}

void contest_hold(struct bench *bench, enum contest_limit limit, struct variant *variants,
                  size_t count)
{
    take_turns(bench, limit, variants, count);
    for (size_t v = 0; v < count; v++)
        report_variant(bench, &variants[v]);
    for (size_t v = 0; v < count; v++) {
        if (variants[v].is_by_hand)
            continue;
        ours_describe(&variants[v].ours, variants[v].name);
        ours_fini(&variants[v].ours);
    }
}
