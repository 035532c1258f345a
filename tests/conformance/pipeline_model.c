/* SPDX-License-Identifier: MIT */
/*
 * Builds, feeds and checks pipelines; the reference is model_expect, a recursion over the nodes.
 */
#include "pipeline_model.h"

#include "support/check.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <time.h>

enum { POISON = 0xdb };

struct lent {
    unsigned char *memory; /* item k at k * item_bytes, or, apart, each behind a gap */
    size_t stride;
    uint64_t given_back; /* items */
    mr_buffer *buffer;
};

struct play {
    const struct model *model;
    mr_pipeline *pipeline;
    struct lent source;
    _Atomic uint64_t delivered; /* to the last sink */
    struct play_node {
        struct play *play;
        const struct model_node *node;
        uint32_t index;
        struct lent lent;                        /* sinks */
        uint64_t taken;                          /* items that came out */
        uint64_t next;                           /* index that may come next at the earliest */
        unsigned char *scratch;                  /* sinks: what must come out */
        uint64_t seen;                           /* serial stages: items must come in order */
        mr_buffer *size_words[MODEL_LANE_LIMIT]; /* of each lane, for each replica */
        unsigned char *lends;                    /* of each item */
        _Atomic uint64_t dawdles;
    } nodes[MODEL_NODE_LIMIT];
    size_t edge_bytes[MODEL_NODE_LIMIT];
};

uint64_t model_random(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t x = *state;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* ---- parts of models ---- */

struct model_node model_feed(enum model_lending lending)
{
    return (struct model_node){ .kind = MR_NODE_SOURCE, .lending = lending };
}

struct model_node model_stage(mr_node input, uint32_t rotation)
{
    return (struct model_node){ .kind = MR_NODE_STAGE,
                                .inputs = { input },
                                .rotation = rotation,
                                .tag = (uint8_t)(rotation * 7 + 1) };
}

struct model_node model_work(mr_node input, uint32_t rotation)
{
    struct model_node made = model_stage(input, rotation);
    made.is_work = true;
    return made;
}

struct model_node model_out(mr_node input, enum model_lending lending)
{
    return (struct model_node){ .kind = MR_NODE_SINK, .inputs = { input }, .lending = lending };
}

struct model model_linear(const char *name, mr_device *device, mr_device *host)
{
    return (struct model){ .name = name,
                           .device = device,
                           .host = host,
                           .nodes = { model_feed(MODEL_SLOTS), model_stage(1, 5), model_stage(2, 3),
                                      model_stage(3, 11), model_out(4, MODEL_SLOTS) },
                           .node_count = 5,
                           .item_bytes = 96,
                           .item_count = 100,
                           .seed = 1 };
}

void model_spread(struct model *model, mr_device *const *devices, uint32_t device_count)
{
    model->options.devices = devices;
    model->options.device_count = device_count;
    for (uint32_t i = 0; i < model->node_count; i++) {
        struct model_node *node = &model->nodes[i];
        if (node->kind != MR_NODE_STAGE)
            continue;
        node->is_spread = !node->is_work && node->device != model->host;
        if (node->replicas < 2 && !node->is_independent)
            node->replicas = 2;
    }
    if (!model->options.parcel_items)
        model->options.parcel_items = 16;
}

bool model_is_spread(const struct model *model)
{
    bool is_spread = false;
    for (uint32_t i = 0; i < model->node_count; i++)
        is_spread |= model->nodes[i].is_spread;
    return is_spread;
}

/* ---- any shape ---- */

uint32_t model_pick(uint64_t *state, uint32_t limit)
{
    return (uint32_t)(model_random(state) % limit);
}

static struct model_node random_stage(uint64_t *state, const mr_node *outputs, uint32_t count,
                                      mr_device *device, mr_device *host)
{
    struct model_node made =
        model_stage(outputs[model_pick(state, count)], model_pick(state, 1000));
    made.is_work = model_pick(state, 3) == 0;
    made.device = made.is_work || model_pick(state, 3) == 0 ? host : device;
    made.is_parcel_wise = model_pick(state, 3) == 0;
    made.is_shrinking = model_pick(state, 4) == 0;
    made.is_sized_by_device = !made.is_work && model_pick(state, 5) == 0;
    made.is_in_place = model_pick(state, 5) == 0 && !made.is_shrinking;
    made.replicas = model_pick(state, 3) ? 1 : 1 + model_pick(state, 4);
    for (uint32_t i = 1; i < 4 && model_pick(state, 3) == 0; i++)
        made.inputs[i] = outputs[model_pick(state, count)];
    return made;
}

/* Every output that nobody reads goes to a sink. */
static void add_sinks(struct model *model, uint64_t *state)
{
    const uint32_t end = model->node_count;
    for (mr_node id = 1; id <= end; id++) {
        bool is_read = false;
        for (uint32_t i = 0; i < end; i++) {
            for (uint32_t k = 0; k < MR_NODE_INPUT_LIMIT; k++)
                is_read |= model->nodes[i].inputs[k] == id;
        }
        if (is_read && model_pick(state, 5))
            continue;
        struct model_node sink = model_out(id, (enum model_lending)model_pick(state, 4));
        sink.is_pageable = model_pick(state, 2);
        sink.is_inline = model_pick(state, 2);
        model->nodes[model->node_count++] = sink;
    }
}

void model_randomise(struct model *model, mr_device *device, mr_device *host, uint64_t seed)
{
    uint64_t state = seed;
    *model = (struct model){ .name = "random", .device = device, .host = host, .seed = seed };
    model->item_bytes = 1 + model_pick(&state, model_pick(&state, 4) ? 200 : 20000);
    model->item_count = model_pick(&state, 200);
    model->is_varied = model_pick(&state, 3) == 0;
    model->options.slot_count = model_pick(&state, 2) ? 0 : 1 + model_pick(&state, 6);
    model->options.parcel_items = model_pick(&state, 2) ? 0 : 1 + model_pick(&state, 40);
    model->options.is_measured = model_pick(&state, 4) == 0;
    model->run_count = 1 + (model_pick(&state, 4) == 0);

    struct model_node feed = model_feed((enum model_lending)model_pick(&state, 4));
    if (feed.lending == MODEL_MEMORY)
        model->is_varied = false;
    feed.is_inline = model_pick(&state, 2);
    feed.is_pageable = model_pick(&state, 2);
    model->nodes[model->node_count++] = feed;
    mr_node outputs[MODEL_NODE_LIMIT] = { 1 };
    const uint32_t stages = model_pick(&state, 7);
    for (uint32_t i = 0; i < stages; i++) {
        model->nodes[model->node_count] =
            random_stage(&state, outputs, model->node_count, device, host);
        outputs[model->node_count] = model->node_count + 1;
        model->node_count++;
    }
    add_sinks(model, &state);
}

/* ---- what must come out ---- */

static size_t source_size(const struct model *model, uint64_t index)
{
    if (model->last_bytes && index == model->item_count - 1)
        return model->last_bytes;
    if (!model->is_varied)
        return model->item_bytes;
    uint64_t state = model->seed * 31 + index;
    return model_random(&state) % 5 ? model_random(&state) % (model->item_bytes + 1) : 0;
}

static void source_bytes(const struct model *model, uint64_t index, unsigned char *out)
{
    uint64_t state = model->seed ^ (index * 0x10001);
    const size_t size = source_size(model, index);
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t word = model_random(&state);
        memcpy(out + i, &word, size - i < 8 ? size - i : 8);
    }
}

static size_t output_size(const struct model_node *node, size_t input_size)
{
    return node->is_shrinking ? input_size - input_size / 4 : input_size;
}

static uint32_t count_inputs(const struct model_node *node)
{
    uint32_t count = 0;
    while (count < MR_NODE_INPUT_LIMIT && node->inputs[count])
        count++;
    return count;
}

/* The stage itself, on the host. */
static void apply(const struct model_node *node, uint32_t input_count, const void *const *inputs,
                  const size_t *input_sizes, unsigned char *out, size_t out_size)
{
    const unsigned char *first = inputs[0];
    const size_t size = input_sizes[0];
    if (!out_size)
        return;
    const size_t turn = node->is_in_place ? 0 : node->rotation % size;
    for (size_t i = 0; i < out_size; i++)
        out[i] = first[(i + turn) % size];
    out[node->rotation % out_size] = node->tag;
    for (uint32_t k = 1; k < input_count; k++) {
        if (input_sizes[k])
            out[(node->rotation + k) % out_size] =
                ((const unsigned char *)inputs[k])[node->rotation % input_sizes[k]];
    }
}

static size_t expect(const struct model *model, mr_node id, uint64_t index, unsigned char *out)
{
    const struct model_node *node = &model->nodes[id - 1];
    if (node->kind == MR_NODE_SOURCE) {
        source_bytes(model, index, out);
        return source_size(model, index);
    }
    const uint32_t count = count_inputs(node);
    unsigned char *bytes = malloc((count ? count : 1) * model->item_bytes + 1);
    const void *inputs[MR_NODE_INPUT_LIMIT];
    size_t sizes[MR_NODE_INPUT_LIMIT];
    for (uint32_t k = 0; k < count; k++) {
        inputs[k] = bytes + k * model->item_bytes;
        sizes[k] = expect(model, node->inputs[k], index, bytes + k * model->item_bytes);
    }
    const size_t size = output_size(node, sizes[0]);
    apply(node, count, inputs, sizes, out, size);
    free(bytes);
    return size;
}

/* ---- source ---- */

static mr_status next_item(void *context, mr_source_item *item)
{
    struct play *play = context;
    const struct model *model = play->model;
    if (model->source_fails_at && item->index == model->source_fails_at - 1)
        return mr_error_set(MR_E_IO, "the camera is gone");
    if (item->index == model->item_count)
        return MR_END;
    CHECK(item->index < model->item_count);
    while (model->source_lead && item->index >= atomic_load(&play->delivered) + model->source_lead)
        sched_yield();
    CHECK_EQ(model->item_bytes, item->capacity_bytes);
    item->size_bytes = source_size(model, item->index);
    if (model->nodes[0].lending == MODEL_SLOTS) {
        memset(item->data, POISON, item->capacity_bytes);
        source_bytes(model, item->index, item->data);
    } else {
        CHECK(!item->data);
        item->data = play->source.memory + item->index * play->source.stride;
    }
    return MR_OK;
}

static void give_back(void *context, uint64_t first, uint32_t count)
{
    struct play *play = context;
    CHECK_EQ(play->source.given_back, first);
    play->source.given_back += count;
    /* Nobody may read it any more. */
    for (uint64_t i = first; i < first + count; i++)
        memset(play->source.memory + i * play->source.stride, POISON, play->model->item_bytes);
}

/* ---- stages ---- */

static bool must_fail(const struct model_node *node, uint64_t first, uint32_t count,
                      uint32_t attempt, uint64_t *failing)
{
    if (attempt >= node->fail_attempts)
        return false;
    for (uint64_t i = first; i < first + count; i++) {
        const bool is_hit = node->fail_period ? i >= node->fail_index &&
                                                    (i - node->fail_index) % node->fail_period == 0
                                              : i == node->fail_index;
        if (is_hit) {
            *failing = i;
            return true;
        }
    }
    return false;
}

static void check_order(struct play_node *node, uint64_t first, uint32_t count, uint32_t attempt)
{
    if (node->node->replicas > 1 || node->node->is_independent || attempt)
        return;
    CHECK(first >= node->seen);
    node->seen = first + (node->node->fail_attempts ? 0 : count);
}

static mr_status submit_one(struct play_node *play, mr_stage_call *call, uint32_t k)
{
    const struct model_node *node = play->node;
    const mr_parcel_view *first = &call->inputs[0];
    const size_t from = first->offset + k * first->stride_bytes;
    const size_t size = first->sizes[k];
    mr_parcel_view *output = call->output;
    if (!output)
        return MR_OK;
    if (!node->is_sized_by_device)
        output->sizes[k] = output_size(node, size);
    const size_t out_size = output_size(node, size);
    const size_t to = output->offset + k * output->stride_bytes;
    if (!out_size)
        return MR_OK;

    const size_t turn = node->is_in_place ? 0 : node->rotation % size;
    const size_t head = size - turn < out_size ? size - turn : out_size;
    const bool is_same = output->buffer == first->buffer && to == from;
    mr_status status = MR_OK;
    if (!is_same)
        status = mr_copy(call->stream, output->buffer, to, first->buffer, from + turn, head);
    if (!status && !is_same)
        status =
            mr_copy(call->stream, output->buffer, to + head, first->buffer, from, out_size - head);
    if (!status)
        status =
            mr_fill(call->stream, output->buffer, to + node->rotation % out_size, 1, node->tag, 1);
    for (uint32_t i = 1; !status && i < call->input_count; i++) {
        const mr_parcel_view *input = &call->inputs[i];
        if (input->sizes[k])
            status = mr_copy(
                call->stream, output->buffer, to + (node->rotation + i) % out_size, input->buffer,
                input->offset + k * input->stride_bytes + node->rotation % input->sizes[k], 1);
    }
    return status;
}

/* The sizes as if a kernel had counted: brought to the device, to be read from there. */
static mr_status submit_sizes(struct play_node *play, mr_stage_call *call)
{
    const size_t start = call->replica * (8ul * MODEL_PARCEL_LIMIT);
    for (uint32_t k = 0; k < call->item_count; k++) {
        const uint64_t size = output_size(play->node, call->inputs[0].sizes[k]);
        for (uint32_t half = 0; half < 2; half++) {
            const mr_status status =
                mr_fill(call->stream, play->size_words[call->lane], start + 8 * k + 4 * half, 4,
                        (uint32_t)(size >> (32 * half)), 4);
            if (status)
                return status;
        }
    }
    call->device_sizes = play->size_words[call->lane];
    call->device_sizes_offset = start;
    return MR_OK;
}

/* Some microseconds, for one call in eight. */
static void dawdle(uint64_t seed)
{
    uint64_t state = seed * 77;
    if (model_random(&state) % 8)
        return;
    struct timespec now, end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    end.tv_nsec += (long)(model_random(&state) % 200000);
    end.tv_sec += end.tv_nsec / 1000000000;
    end.tv_nsec %= 1000000000;
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while (now.tv_sec < end.tv_sec || (now.tv_sec == end.tv_sec && now.tv_nsec < end.tv_nsec));
}

static mr_status dawdle_in_order(void *context)
{
    struct play_node *play = context;
    dawdle(atomic_fetch_add(&play->dawdles, 1) + play->index);
    return MR_OK;
}

static mr_status submit_stage(void *context, mr_stage_call *call)
{
    struct play_node *play = context;
    if (play->node->is_slow) {
        const mr_status status = mr_stream_call(call->stream, dawdle_in_order, play);
        if (status)
            return status;
    }
    uint64_t failing = UINT64_MAX;
    check_order(play, call->first_index, call->item_count, call->attempt);
    CHECK(play->node->is_parcel_wise || call->item_count == 1);
    /* Half the failures come with work already queued. */
    const bool fails =
        must_fail(play->node, call->first_index, call->item_count, call->attempt, &failing);
    for (uint32_t k = 0; k < call->item_count; k++) {
        if (fails && call->first_index + k == failing && failing % 2)
            break;
        const mr_status status = submit_one(play, call, k);
        if (status)
            return status;
    }
    if (fails)
        return mr_error_set(MR_E_CALLBACK, "bad item %" PRIu64, failing);
    return play->node->is_sized_by_device ? submit_sizes(play, call) : MR_OK;
}

static mr_status work_stage(void *context, mr_host_call *call)
{
    struct play_node *play = context;
    const struct model_node *node = play->node;
    uint64_t failing = UINT64_MAX;
    check_order(play, call->first_index, call->item_count, call->attempt);
    if (node->is_slow)
        dawdle(call->first_index);
    const bool fails =
        must_fail(node, call->first_index, call->item_count, call->attempt, &failing);
    for (uint32_t k = 0; k < call->item_count; k++) {
        const void *inputs[MR_NODE_INPUT_LIMIT];
        size_t sizes[MR_NODE_INPUT_LIMIT];
        for (uint32_t i = 0; i < call->input_count; i++) {
            inputs[i] = (const char *)call->inputs[i] + k * call->input_strides[i];
            sizes[i] = call->input_sizes[i][k];
        }
        if (fails && call->first_index + k == failing)
            return mr_error_set(MR_E_CALLBACK, "bad item %" PRIu64, failing);
        if (!call->output)
            continue;
        unsigned char *output = (unsigned char *)call->output + k * call->output_stride;
        call->output_sizes[k] = output_size(node, sizes[0]);
        if (output != inputs[0])
            memset(output, POISON, call->output_sizes[k]);
        apply(node, call->input_count, inputs, sizes, output, call->output_sizes[k]);
    }
    return MR_OK;
}

/* ---- sinks ---- */

static mr_status lend(void *context, uint64_t index, size_t capacity_bytes, void **data)
{
    struct play_node *play = context;
    CHECK(!play->lends[index]++);
    *data = play->lent.memory + index * play->lent.stride;
    memset(*data, POISON, capacity_bytes);
    return MR_OK;
}

static void check_item(struct play_node *play, uint64_t index, const unsigned char *data,
                       size_t size_bytes)
{
    const struct model *model = play->play->model;
    const mr_node input = play->node->inputs[0];
    memset(play->scratch, 0, model->item_bytes);
    const size_t size = expect(model, input, index, play->scratch);
    if (size != size_bytes)
        CHECK_FAIL("%s (seed %" PRIu64 "): sink %u, item %" PRIu64 ": %zu bytes, expected %zu",
                   model->name, model->seed, play->index + 1, index, size_bytes, size);
    for (size_t i = 0; i < size; i++) {
        if (data[i] != play->scratch[i])
            CHECK_FAIL("%s (seed %" PRIu64 "): sink %u, item %" PRIu64 ", byte %zu: %02x, expected "
                       "%02x",
                       model->name, model->seed, play->index + 1, index, i, data[i],
                       play->scratch[i]);
    }
}

static mr_status take(void *context, const mr_sink_item *item)
{
    struct play_node *play = context;
    const struct model *model = play->play->model;
    if (model->sink_fails_at && item->index == model->sink_fails_at - 1)
        return mr_error_set(MR_E_IO, "the disk is full");
    if (item->index < play->next)
        CHECK_FAIL("%s: sink %u: item %" PRIu64 " came after item %" PRIu64, model->name,
                   play->index + 1, item->index, play->next - 1);
    if (play->lent.memory)
        CHECK(item->data == play->lent.memory + item->index * play->lent.stride);
    check_item(play, item->index, item->data, item->size_bytes);
    play->next = item->index + 1;
    play->taken++;
    if (play->index + 1 == model->node_count)
        atomic_fetch_add(&play->play->delivered, 1);
    if (model->on_take)
        model->on_take(model, item->index);
    if (model->cancel_at && item->index == model->cancel_at - 1)
        mr_pipeline_cancel(play->play->pipeline);
    if (model->drain_at && item->index == model->drain_at - 1)
        mr_pipeline_drain(play->play->pipeline);
    return MR_OK;
}

/* ---- building ---- */

static void make_lent(struct play *play, struct lent *lent, const struct model_node *node)
{
    const struct model *model = play->model;
    const size_t gap = node->lending == MODEL_APART ? 37 : 0;
    lent->stride = model->item_bytes + gap;
    const size_t bytes = (model->item_count + 1) * lent->stride;
    if (node->lending == MODEL_SLOTS)
        return;
    if (node->lending == MODEL_MEMORY || !node->is_pageable) {
        const mr_buffer_options options = { .place = node->is_pageable ? MR_PLACE_PAGEABLE
                                                                       : MR_PLACE_PINNED };
        CHECK_OK(mr_buffer_create(model->device, bytes, &options, &lent->buffer));
        lent->memory = mr_buffer_host(lent->buffer);
    } else {
        lent->memory = malloc(bytes);
        CHECK(lent->memory);
    }
}

static void fill_lent(struct play *play)
{
    const struct model *model = play->model;
    struct lent *lent = &play->source;
    lent->given_back = 0;
    for (uint64_t i = 0; lent->memory && i < model->item_count; i++) {
        memset(lent->memory + i * lent->stride, POISON, model->item_bytes);
        source_bytes(model, i, lent->memory + i * lent->stride);
    }
}

static void free_lent(struct lent *lent)
{
    if (lent->buffer)
        mr_buffer_destroy(lent->buffer);
    else
        free(lent->memory);
}

static void add_source(struct play *play)
{
    const struct model *model = play->model;
    const struct model_node *node = &model->nodes[0];
    make_lent(play, &play->source, node);
    mr_source_options options = { .name = "feed",
                                  .context = play,
                                  .item_bytes = model->item_bytes,
                                  .is_inline = node->is_inline };
    if (node->lending == MODEL_MEMORY) {
        options.memory = play->source.buffer;
        options.memory_bytes = model->item_count ? (model->item_count - 1) * model->item_bytes +
                                                       source_size(model, model->item_count - 1)
                                                 : 0;
    } else {
        options.next = next_item;
        options.give_back = node->lending == MODEL_SLOTS ? NULL : give_back;
        options.is_lending = node->lending != MODEL_SLOTS;
        options.is_pageable = node->is_pageable;
    }
    CHECK_OK(mr_pipeline_add_source(play->pipeline, &options, NULL));
}

static void add_stage(struct play *play, struct play_node *made)
{
    const struct model *model = play->model;
    const struct model_node *node = made->node;
    char name[32];
    snprintf(name, sizeof name, "stage %u", made->index + 1);
    mr_stage_options options = { .name = name,
                                 .device = node->is_spread ? NULL
                                           : node->device  ? node->device
                                           : node->is_work ? model->host
                                                           : model->device,
                                 .context = made,
                                 .has_no_output = node->has_no_output,
                                 .replicas = node->replicas,
                                 .is_independent = node->is_independent,
                                 .is_parcel_wise = node->is_parcel_wise,
                                 .is_in_place = node->is_in_place };
    memcpy(options.inputs, node->inputs, sizeof options.inputs);
    if (node->is_work)
        options.work = work_stage;
    else
        options.submit = submit_stage;
    const uint32_t lanes = model->options.device_count ? model->options.device_count : 1;
    for (uint32_t i = 0; node->is_sized_by_device && i < lanes; i++)
        CHECK_OK(mr_buffer_create(options.device ? options.device : model->options.devices[i],
                                  8 * MODEL_PARCEL_LIMIT * MODEL_REPLICA_LIMIT, NULL,
                                  &made->size_words[i]));
    CHECK_OK(mr_pipeline_add_stage(play->pipeline, &options, NULL));
}

static void add_sink(struct play *play, struct play_node *made)
{
    const struct model *model = play->model;
    const struct model_node *node = made->node;
    make_lent(play, &made->lent, node);
    made->lends = calloc(model->item_count + 1, 1);
    CHECK(made->lends);
    made->scratch = malloc(model->item_bytes + 1);
    CHECK(made->scratch);
    mr_sink_options options = { .name = "out",
                                .take = take,
                                .context = made,
                                .input = node->inputs[0],
                                .is_inline = node->is_inline };
    if (node->lending == MODEL_MEMORY) {
        options.memory = made->lent.buffer;
        options.memory_bytes = (model->item_count + 1) * model->item_bytes;
    } else if (node->lending != MODEL_SLOTS) {
        options.lend = lend;
        options.is_pageable = node->is_pageable;
    }
    CHECK_OK(mr_pipeline_add_sink(play->pipeline, &options, NULL));
}

static void build(struct play *play)
{
    const struct model *model = play->model;
    mr_pipeline_options options = model->options;
    options.name = model->name;
    CHECK_OK(mr_pipeline_create(&options, &play->pipeline));
    for (uint32_t i = 0; i < model->node_count; i++) {
        struct play_node *made = &play->nodes[i];
        *made = (struct play_node){ .play = play, .node = &model->nodes[i], .index = i };
        if (made->node->kind == MR_NODE_SOURCE)
            add_source(play);
        else if (made->node->kind == MR_NODE_STAGE)
            add_stage(play, made);
        else
            add_sink(play, made);
    }
}

static void clear(struct play *play)
{
    mr_pipeline_destroy(play->pipeline);
    for (uint32_t i = 0; i < play->model->node_count; i++) {
        struct play_node *made = &play->nodes[i];
        for (uint32_t k = 0; k < MODEL_LANE_LIMIT; k++)
            mr_buffer_destroy(made->size_words[k]);
        free(made->lends);
        free_lent(&made->lent);
        free(made->scratch);
    }
    free_lent(&play->source);
}

/* ---- running ---- */

static void check_report(const struct play *play, mr_status status,
                         const struct model_outcome *outcome)
{
    const mr_pipeline_report *report;
    CHECK_OK(mr_pipeline_report_get(play->pipeline, &report));
    if (play->model->on_report)
        play->model->on_report(play->model, report);
    if (outcome->items_skipped != UINT64_MAX)
        CHECK_EQ(outcome->items_skipped, report->items_skipped);
    for (size_t i = 0; i < report->skipped_count; i++) {
        CHECK(i == 0 || report->skipped[i - 1].index < report->skipped[i].index);
        CHECK_SAYS("bad item", report->skipped[i].words);
    }
    if (status == MR_OK || status == MR_E_CANCELLED)
        CHECK_EQ(report->items_in, report->items_out + report->items_skipped);
    const struct model_node *source = &play->model->nodes[0];
    if (source->lending == MODEL_TOGETHER || source->lending == MODEL_APART)
        CHECK(play->source.given_back >= report->items_in);
}

/* Every sink has had the same items, unless a sink's or a device's failure ended the run. */
static void check_even(const struct play *play)
{
    uint64_t taken = UINT64_MAX;
    for (uint32_t i = 0; i < play->model->node_count; i++) {
        if (play->model->nodes[i].kind != MR_NODE_SINK)
            continue;
        if (taken != UINT64_MAX && taken != play->nodes[i].taken)
            CHECK_FAIL("%s (seed %" PRIu64 "): sinks had %" PRIu64 " and %" PRIu64 " items",
                       play->model->name, play->model->seed, taken, play->nodes[i].taken);
        taken = play->nodes[i].taken;
    }
}

static void check_outcome(const struct play *play, mr_status status,
                          const struct model_outcome *outcome)
{
    const struct model *model = play->model;
    const bool is_known = status == MR_OK || status == MR_E_CANCELLED || status == MR_E_CALLBACK;
    if (outcome->is_open ? !is_known : status != outcome->status)
        CHECK_FAIL("%s (seed %" PRIu64 "): expected %s, got %s: %s", model->name, model->seed,
                   mr_status_name(outcome->status), mr_status_name(status), mr_last_error());
    if (outcome->words)
        CHECK_SAYS(outcome->words, mr_last_error());
    for (uint32_t i = 0; i < model->node_count; i++) {
        if (model->nodes[i].kind == MR_NODE_SINK && outcome->items_out != UINT64_MAX &&
            play->nodes[i].taken != outcome->items_out)
            CHECK_FAIL("%s (seed %" PRIu64 "): sink %u: %" PRIu64 " items, expected %" PRIu64,
                       model->name, model->seed, i + 1, play->nodes[i].taken, outcome->items_out);
    }
    check_even(play);
    check_report(play, status, outcome);
}

/* ---- meddling ---- */

struct meddler {
    struct play *play;
    pthread_t thread;
    uint64_t seed;
};

static void *meddle(void *context)
{
    struct meddler *meddler = context;
    uint64_t state = meddler->seed;
    const uint32_t limit_us = meddler->play->model->meddle_us;
    const long wait_ns = (long)(model_random(&state) % (2000ull * limit_us));
    nanosleep(&(struct timespec){ .tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000 },
              NULL);
    mr_pipeline_progress_now now;
    mr_pipeline_progress(meddler->play->pipeline, &now);
    CHECK(now.items_out + now.items_skipped <= now.items_in);
    if (limit_us % 2)
        mr_pipeline_cancel(meddler->play->pipeline);
    else
        mr_pipeline_drain(meddler->play->pipeline);
    return NULL;
}

void model_run(const struct model *model, const struct model_outcome *outcome)
{
    static struct play play;
    memset(&play, 0, sizeof play);
    play.model = model;
    build(&play);
    for (uint32_t run = 0; run < (model->run_count ? model->run_count : 1); run++) {
        for (uint32_t i = 0; i < model->node_count; i++)
            play.nodes[i].taken = play.nodes[i].next = play.nodes[i].seen = 0;
        for (uint32_t i = 0; i < model->node_count; i++) {
            if (play.nodes[i].lends)
                memset(play.nodes[i].lends, 0, model->item_count);
        }
        atomic_store(&play.delivered, 0);
        fill_lent(&play);
        struct meddler meddler = { .play = &play, .seed = model->seed + run };
        if (model->meddle_us)
            CHECK(!pthread_create(&meddler.thread, NULL, meddle, &meddler));
        const mr_status status = mr_pipeline_run(play.pipeline);
        if (model->meddle_us)
            pthread_join(meddler.thread, NULL);
        check_outcome(&play, status, outcome);
    }
    clear(&play);
}

void model_run_through(const struct model *model)
{
    const struct model_outcome outcome = { .items_out = model->item_count };
    model_run(model, &outcome);
}
