/* SPDX-License-Identifier: MIT */
/*
 * How large items, parcels and the set of slots are. What the options leave open is chosen here: the
 * chunk from the device's copy latency and bandwidth, the slots from the length of the pipeline, both
 * cut down until they fit the memory.
 */
#include "flow/pipeline.h"
#include "flow/tuning.h"

enum {
    GRANULE_BYTES = 4096,
    ALIGN_BYTES = 256,
    GRAPHED_CHUNK_MOST = 4 << 20,
    GRAPHED_ITEMS_LEAST = 16, /* in such a chunk, for graphs to be worth it */
    AUTO_PARCEL_ITEMS = 2048, /* the bookkeeping of more no longer fits the cache */
    SPARE_SLOTS = 2,          /* one being filled and one being delivered, beside those at work */
    STAGED_SLOTS = 2,         /* one that a crew carries and one that it can go on with */
    LEG_SLOTS = 4,            /* done, and waiting for what other devices have before it */
    AUTO_SLOT_LIMIT = 32,
    LANE_ROUNDS = 4, /* parcels that a lane has queued at most: the submitter wakes rarely */
    SLOT_LIMIT = 1024,
};

static size_t round_up(size_t value, size_t step)
{
    return value > SIZE_MAX - step ? value / step * step : (value + step - 1) / step * step;
}

static bool multiply(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* ---- items ---- */

/* A range of memory without an item size is cut into even chunks. */
static mr_status size_memory_items(mr_pipeline *pipeline, struct mr__plan *plan, size_t *item_bytes)
{
    const mr_source_options *source = &plan->source->source;
    *item_bytes = source->item_bytes;
    if (!*item_bytes) {
        uint64_t chunk = pipeline->options.chunk_bytes;
        if (!chunk) {
            const mr_status status = mr__tuning_chunk(pipeline, plan, source->memory_bytes, &chunk);
            if (status)
                return status;
        }
        if (chunk > source->memory_bytes)
            chunk = source->memory_bytes ? source->memory_bytes : 1;
        const size_t granule = source->granule_bytes ? source->granule_bytes : GRANULE_BYTES;
        const size_t count = source->memory_bytes / chunk + (source->memory_bytes % chunk != 0);
        const size_t even =
            count ? source->memory_bytes / count + (source->memory_bytes % count != 0) : 1;
        *item_bytes = round_up(even, granule);
        plan->chunk_bytes = *item_bytes;
    }
    plan->item_count =
        source->memory_bytes / *item_bytes + (source->memory_bytes % *item_bytes != 0);
    return MR_OK;
}

static mr_status size_stage_items(struct mr__plan *plan, const struct mr__node *node, size_t *out)
{
    const mr_stage_options *stage = &node->stage;
    size_t inputs[MR_NODE_INPUT_LIMIT];
    for (uint32_t k = 0; k < node->input_count; k++)
        inputs[k] = plan->edges[node->inputs[k] - 1].item_bytes;
    *out = stage->output_bytes;
    if (!*out)
        *out = stage->output_size ? stage->output_size(stage->context, 0, inputs) : inputs[0];
    if (!*out)
        return mr_error_set(MR_E_INVALID,
                            "stage '%s': its largest output item has 0 bytes: set "
                            "output_bytes, or has_no_output",
                            node->name);
    return MR_OK;
}

mr_status mr__plan_size_items(mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[plan->order[i]];
        struct mr__edge *edge = &plan->edges[plan->order[i]];
        mr_status status = MR_OK;
        edge->node = node;
        if (node->kind == MR_NODE_SOURCE) {
            edge->item_bytes = node->source.item_bytes;
            plan->item_count = node->source.item_count;
            if (node->source.memory)
                status = size_memory_items(pipeline, plan, &edge->item_bytes);
        } else if (node->kind == MR_NODE_STAGE && !node->stage.has_no_output) {
            status = size_stage_items(plan, node, &edge->item_bytes);
        }
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status check_sink_room(const mr_pipeline *pipeline, const struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct mr__node *node = plan->sinks[i].node;
        const size_t item_bytes = plan->edges[node->inputs[0] - 1].item_bytes;
        size_t need = 0;
        if (!node->sink.memory || !plan->item_count)
            continue;
        /* The last item may be short: it only has to begin inside. */
        if (!multiply(plan->item_count - 1, item_bytes, &need) || need >= node->sink.memory_bytes)
            return mr_error_set(MR_E_INVALID,
                                "sink '%s': %llu items of up to %zu bytes do not fit into its %zu "
                                "bytes of memory",
                                node->name, (unsigned long long)plan->item_count, item_bytes,
                                node->sink.memory_bytes);
    }
    (void)pipeline;
    return MR_OK;
}

/* ---- parcels ---- */

static size_t largest_item(const mr_pipeline *pipeline, const struct mr__plan *plan)
{
    size_t largest = 1;
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        if (plan->edges[i].item_bytes > largest)
            largest = plan->edges[i].item_bytes;
    }
    return largest;
}

static uint64_t total_bytes(const struct mr__plan *plan, size_t largest)
{
    size_t total;
    return plan->item_count && multiply(plan->item_count, largest, &total) ? total : 0;
}

/* Small items that are launched as graphs: the first parcels go by the stream, item by item, which large
 * ones would make long, and a graph's one launch needs no more items to be cheap. */
static bool has_small_repeatable_items(const mr_pipeline *pipeline, size_t largest)
{
    for (uint32_t i = 0; i < pipeline->node_count; i++) {
        const struct mr__node *node = &pipeline->nodes[i];
        if (node->kind == MR_NODE_STAGE && node->stage.is_repeatable && !node->stage.is_parcel_wise)
            return largest <= GRAPHED_CHUNK_MOST / GRAPHED_ITEMS_LEAST;
    }
    return false;
}

static mr_status choose_parcel(mr_pipeline *pipeline, struct mr__plan *plan)
{
    const mr_pipeline_options *options = &pipeline->options;
    const size_t largest = largest_item(pipeline, plan);
    uint64_t chunk = options->chunk_bytes;
    uint32_t limit = options->parcel_items ? options->parcel_items : AUTO_PARCEL_ITEMS;
    if (!chunk && plan->chunk_bytes)
        chunk = plan->chunk_bytes;
    if (!chunk && !options->parcel_items && limit > 1) {
        const mr_status status =
            mr__tuning_chunk(pipeline, plan, total_bytes(plan, largest), &chunk);
        if (status)
            return status;
        if (chunk > GRAPHED_CHUNK_MOST && has_small_repeatable_items(pipeline, largest))
            chunk = GRAPHED_CHUNK_MOST;
    }
    if (chunk && chunk / largest < limit)
        limit = chunk / largest ? (uint32_t)(chunk / largest) : 1;
    if (plan->item_count && plan->item_count < limit)
        limit = (uint32_t)plan->item_count;
    plan->parcel_items = limit;
    return MR_OK;
}

/* ---- slots ---- */

static mr_status size_images(struct mr__plan *plan)
{
    for (uint32_t i = 0; i < plan->image_count; i++) {
        struct mr__image *image = &plan->images[i];
        size_t bytes;
        if (!multiply(plan->edges[image->edge].item_bytes, plan->parcel_items, &bytes) ||
            bytes > SIZE_MAX / 2)
            return mr_error_set(MR_E_INVALID,
                                "%s '%s': a parcel of %u items of %zu bytes is larger "
                                "than memory can be",
                                mr_node_kind_name(plan->edges[image->edge].node->kind),
                                plan->edges[image->edge].node->name, plan->parcel_items,
                                plan->edges[image->edge].item_bytes);
        image->slot_bytes = round_up(bytes, ALIGN_BYTES);
    }
    return MR_OK;
}

/* Bytes of one slot on `device`, of one kind. */
static uint64_t slot_bytes(const struct mr__plan *plan, const mr_device *device, mr_place kind)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->image_count; i++) {
        const struct mr__image *image = &plan->images[i];
        if (image->has_memory && image->device == device && image->kind == kind)
            sum += image->slot_bytes;
    }
    return sum;
}

/* The bytes that slots may take on `device`. Pinned memory is limited where the caller says so. */
static mr_status memory_allowed(const mr_pipeline *pipeline, mr_device *device, mr_place kind,
                                uint64_t *out)
{
    *out = UINT64_MAX;
    if (pipeline->options.memory_limit) {
        *out = pipeline->options.memory_limit;
        return MR_OK;
    }
    if (kind != MR_PLACE_DEVICE)
        return MR_OK;
    uint64_t free_bytes, all_bytes;
    const mr_status status = mr_device_memory(device, &free_bytes, &all_bytes);
    if (!status)
        *out = free_bytes / 2;
    return status;
}

/* Bytes on `device` that do not grow with the slots. */
static uint64_t lane_bytes(const struct mr__plan *plan, const mr_device *device, mr_place kind)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < plan->image_count; i++) {
        const struct mr__image *image = &plan->images[i];
        if (image->is_lane && image->device == device && image->kind == kind)
            sum += image->slot_bytes * plan->groups[plan->steps[image->step].group].stream_count;
    }
    return sum;
}

static uint64_t slots_within(const struct mr__plan *plan, const struct mr__image *image,
                             uint64_t limit)
{
    const uint64_t lanes = lane_bytes(plan, image->device, image->kind);
    const uint64_t slot = slot_bytes(plan, image->device, image->kind);
    if (lanes > limit)
        return 0;
    return slot ? (limit - lanes) / slot : UINT64_MAX;
}

/* How many slots fit on every device; the first device where not even one does. */
static mr_status slots_that_fit(const mr_pipeline *pipeline, const struct mr__plan *plan,
                                uint64_t *fit, const struct mr__image **tight, uint64_t *allowed)
{
    *fit = UINT64_MAX;
    *tight = NULL;
    for (uint32_t i = 0; i < plan->image_count; i++) {
        const struct mr__image *image = &plan->images[i];
        uint64_t limit;
        if (!image->has_memory && !image->is_lane)
            continue;
        const mr_status status = memory_allowed(pipeline, image->device, image->kind, &limit);
        if (status)
            return status;
        const uint64_t here = slots_within(plan, image, limit);
        if (here >= *fit)
            continue;
        *fit = here;
        *tight = image;
        *allowed = limit;
    }
    return MR_OK;
}

static bool is_all_host(const struct mr__plan *plan)
{
    return plan->place_count == MR__HOST_PLACE + 1;
}

static uint32_t widest_group(const struct mr__plan *plan)
{
    uint32_t widest = 1;
    for (uint32_t i = 0; i < plan->group_count; i++) {
        if (plan->groups[i].stream_count > widest)
            widest = plan->groups[i].stream_count;
    }
    return widest;
}

/* Enough for every group of streams to be busy with one parcel, and some to be filled and delivered. */
static uint32_t choose_slots(const mr_pipeline *pipeline, const struct mr__plan *plan)
{
    uint32_t depth = plan->group_count + (plan->is_source_staged ? STAGED_SLOTS : 0);
    for (uint32_t i = 0; i < plan->sink_count; i++)
        depth += plan->sinks[i].is_staged ? STAGED_SLOTS : 0;
    uint32_t count = depth + SPARE_SLOTS + (pipeline->leg ? LEG_SLOTS : 0);
    if (count > AUTO_SLOT_LIMIT)
        count = AUTO_SLOT_LIMIT;
    const uint32_t widest = widest_group(plan);
    const uint32_t rounds = is_all_host(plan) && widest > 1 ? LANE_ROUNDS : 2;
    if (count < rounds * widest)
        count = rounds * widest;
    return count < SLOT_LIMIT ? count : SLOT_LIMIT;
}

static mr_status fit_slots(mr_pipeline *pipeline, struct mr__plan *plan)
{
    for (;;) {
        uint64_t fit, allowed = 0;
        const struct mr__image *tight;
        mr_status status = size_images(plan);
        if (!status)
            status = slots_that_fit(pipeline, plan, &fit, &tight, &allowed);
        if (status)
            return status;
        if (fit >= plan->slot_count)
            return MR_OK;
        /* Few slots stop the overlap; smaller parcels only make it a little dearer. */
        if (plan->parcel_items > 1 && !pipeline->options.parcel_items) {
            plan->parcel_items = (plan->parcel_items + 1) / 2;
            continue;
        }
        if (!fit)
            return mr_error_set(
                MR_E_NO_MEMORY,
                "pipeline '%s': one slot needs %llu bytes on %s, but slots may take "
                "%llu there: use smaller items or parcels, or raise memory_limit",
                pipeline->name,
                (unsigned long long)(slot_bytes(plan, tight->device, tight->kind) +
                                     lane_bytes(plan, tight->device, tight->kind)),
                mr_device_id(tight->device), (unsigned long long)allowed);
        plan->slot_count = (uint32_t)fit;
        return MR_OK;
    }
}

mr_status mr__plan_size_parcels(mr_pipeline *pipeline, struct mr__plan *plan)
{
    mr_status status = check_sink_room(pipeline, plan);
    if (!status)
        status = choose_parcel(pipeline, plan);
    if (status)
        return status;

    plan->slot_count =
        pipeline->options.slot_count ? pipeline->options.slot_count : choose_slots(pipeline, plan);
    status = fit_slots(pipeline, plan);
    if (status)
        return status;

    const uint64_t parcels =
        plan->item_count / plan->parcel_items + (plan->item_count % plan->parcel_items != 0);
    if (plan->item_count && parcels < plan->slot_count)
        plan->slot_count = (uint32_t)parcels;
    for (uint32_t i = 0; i < plan->group_count; i++) {
        struct mr__group *group = &plan->groups[i];
        if (group->stream_count > plan->slot_count)
            group->stream_count = plan->slot_count;
        plan->stream_count += group->stream_count;
    }
    plan->chunk_bytes = (uint64_t)plan->parcel_items * largest_item(pipeline, plan);
    plan->busy_parcels = is_all_host(plan) ? 2 * widest_group(plan) : 0;
    plan->leg_busy_limit =
        plan->slot_count > 2 * LEG_SLOTS ? plan->slot_count - LEG_SLOTS : plan->slot_count;
    plan->ship_below = plan->slot_count > 2 ? 2 : 1;
    return MR_OK;
}
