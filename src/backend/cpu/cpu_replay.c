/* SPDX-License-Identifier: MIT */
/*
 * Replays: how a plan becomes one, how it is given new contents, and the submitting side of launches.
 */
#include "backend/cpu/cpu_replay.h"

#include "backend/cpu/cpu_capture.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_queue.h"
#include "backend/cpu/cpu_work.h"
#include "base/alloc.h"

#include <inttypes.h>
#include <string.h>

enum { SPARE_LIMIT = 4 };

static mr_status no_memory(const struct cpu_flat *flat)
{
    return mr_error_set(MR_E_NO_MEMORY, "no memory for an executable of %zu nodes", flat->count);
}

/* ---- blocks ---- */

static struct cpu_block *take_block(struct cpu_replay *replay)
{
    pthread_mutex_lock(&replay->spare_lock);
    struct cpu_block *block = replay->spare;
    if (block) {
        replay->spare = block->next;
        replay->spare_count--;
    }
    pthread_mutex_unlock(&replay->spare_lock);
    if (!block)
        block = mr__alloc_aligned(_Alignof(max_align_t), sizeof *block + replay->block_bytes);
    if (block)
        atomic_store_explicit(&block->references, 1, memory_order_relaxed);
    return block;
}

void mr__cpu_block_release(struct cpu_replay *replay, struct cpu_block *block)
{
    if (!block || atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel) != 1)
        return;
    pthread_mutex_lock(&replay->spare_lock);
    const bool is_kept = replay->spare_count < SPARE_LIMIT;
    if (is_kept) {
        block->next = replay->spare;
        replay->spare = block;
        replay->spare_count++;
    }
    pthread_mutex_unlock(&replay->spare_lock);
    if (!is_kept)
        mr__free(block);
}

static struct cpu_record *record_at(const struct cpu_replay *replay, struct cpu_block *block,
                                    size_t node)
{
    const size_t offset = replay->offsets[node];
    return offset == SIZE_MAX ? NULL : (struct cpu_record *)(void *)(block->bytes + offset);
}

/* Copies what the plan says into the block, calls bound. */
static void fill_block(const struct cpu_replay *replay, struct cpu_block *block,
                       const struct cpu_flat *flat, const struct mr_binder *binder)
{
    for (size_t i = 0; i < flat->count; i++) {
        struct cpu_record *record = record_at(replay, block, i);
        if (!record)
            continue;
        mr__cpu_record_copy(record, flat->records[i]);
        if (record->kind == CPU_RECORD_CALL) {
            struct cpu_call_record *call = (struct cpu_call_record *)record;
            call->context = binder->bind(binder->self, call->context);
        }
    }
}

/* ---- the form ---- */

static void place_records(struct cpu_replay *replay)
{
    const struct cpu_flat *flat = &replay->flat;
    for (size_t i = 0; i < flat->count; i++) {
        replay->offsets[i] = flat->records[i] ? replay->block_bytes : SIZE_MAX;
        replay->block_bytes += flat->records[i] ? flat->records[i]->size_bytes : 0;
    }
}

/* Turns what each node comes after round into what comes after it. */
static void link_successors(struct cpu_replay *replay)
{
    const struct cpu_flat *flat = &replay->flat;
    uint32_t *first = replay->first_successor;
    uint32_t root_count = 0;
    for (size_t k = 0; k < flat->after_count; k++)
        first[flat->after[k]]++;
    for (size_t i = 0; i < flat->count; i++) {
        replay->is_wide = replay->is_wide || first[i + 1] > 1;
        first[i + 1] += first[i];
        replay->predecessor_counts[i] = flat->first_after[i + 1] - flat->first_after[i];
        root_count += !replay->predecessor_counts[i];
    }
    replay->is_wide = replay->is_wide || root_count > 1;

    /* Filled from the back of each range, which moves `first` to where it belongs. */
    uint32_t *ends = first + 1;
    for (size_t i = flat->count; i-- > 0;)
        for (uint32_t k = flat->first_after[i + 1]; k-- > flat->first_after[i];)
            replay->successors[--ends[flat->after[k] - 1]] = (uint32_t)i;
    for (size_t i = 0; i < flat->count; i++)
        first[i] = ends[i];
    first[flat->count] = (uint32_t)flat->after_count;
}

static mr_status make_form(struct cpu_replay *replay, const struct cpu_plan *plan)
{
    struct cpu_flat *flat = &replay->flat;
    replay->node_of = mr__zalloc_array(plan->node_count + 1, sizeof *replay->node_of);
    if (!replay->node_of)
        return no_memory(flat);
    if (!mr__cpu_flat_make(flat, plan, replay->node_of))
        return MR_E_NO_MEMORY;

    const size_t count = flat->count + 2; /* none is empty */
    replay->offsets = mr__zalloc_array(count, sizeof *replay->offsets);
    replay->first_successor = mr__zalloc_array(count, sizeof *replay->first_successor);
    replay->successors = mr__zalloc_array(flat->after_count + 1, sizeof *replay->successors);
    replay->predecessor_counts = mr__zalloc_array(count, sizeof *replay->predecessor_counts);
    replay->left_before = mr__zalloc_array(count, sizeof *replay->left_before);
    replay->ready = mr__zalloc_array(count, sizeof *replay->ready);
    replay->timeline = mr__cpu_timeline_create();
    if (!replay->offsets || !replay->first_successor || !replay->successors ||
        !replay->predecessor_counts || !replay->left_before || !replay->ready || !replay->timeline)
        return no_memory(flat);
    place_records(replay);
    link_successors(replay);
    replay->memory_bytes = sizeof *replay + count * (5 * sizeof(uint32_t) + sizeof(size_t)) +
                           2 * flat->after_count * sizeof(uint32_t) + replay->block_bytes;
    return MR_OK;
}

mr_status mr__cpu_replay_create(const struct mr_plan *base, const struct mr_binder *binder,
                                struct mr_replay **out)
{
    const struct cpu_plan *plan = cpu_plan_from((struct mr_plan *)base);
    *out = NULL;
    struct cpu_replay *replay = mr__zalloc_aligned(CPU_LINE_BYTES, sizeof *replay);
    if (!replay)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for an executable");
    replay->base = (struct mr_replay){ .ops = &mr__cpu_backend, .device = plan->base.device };
    replay->device = (struct cpu_device *)(void *)plan->base.device;
    pthread_mutex_init(&replay->spare_lock, NULL);
    pthread_mutex_init(&replay->lock, NULL);

    mr_status status = make_form(replay, plan);
    if (!status) {
        replay->current = take_block(replay);
        status = replay->current ? MR_OK : no_memory(&replay->flat);
    }
    if (status) {
        mr__cpu_replay_destroy(&replay->base);
        return status;
    }
    fill_block(replay, replay->current, &replay->flat, binder);
    mr__free(replay->flat.records); /* the plan's, which may go */
    replay->flat.records = NULL;
    *out = &replay->base;
    return MR_OK;
}

void mr__cpu_replay_destroy(struct mr_replay *base)
{
    if (!base)
        return;
    struct cpu_replay *replay = cpu_replay_from(base);
    mr__cpu_block_release(replay, replay->current);
    while (replay->spare) {
        struct cpu_block *next = replay->spare->next;
        mr__free(replay->spare);
        replay->spare = next;
    }
    mr__cpu_timeline_release(replay->timeline);
    mr__cpu_timeline_release(replay->last_queue);
    mr__cpu_flat_fini(&replay->flat);
    mr__free(replay->node_of);
    mr__free(replay->offsets);
    mr__free(replay->first_successor);
    mr__free(replay->successors);
    mr__free(replay->predecessor_counts);
    mr__free((void *)replay->left_before);
    mr__free(replay->ready);
    pthread_mutex_destroy(&replay->spare_lock);
    pthread_mutex_destroy(&replay->lock);
    mr__free(replay);
}

uint64_t mr__cpu_replay_memory(const struct mr_replay *base)
{
    return cpu_replay_from((struct mr_replay *)base)->memory_bytes;
}

/* ---- updates ---- */

static const char *kind_text(const struct cpu_record *record)
{
    static const char *const texts[] = { [CPU_RECORD_COPY] = "a copy",
                                         [CPU_RECORD_FILL] = "a fill",
                                         [CPU_RECORD_LAUNCH] = "a kernel",
                                         [CPU_RECORD_CALL] = "a host function" };
    return record ? texts[record->kind] : "nothing";
}

/* Whether `after` may take the place of `before`. */
static mr_status check_node(size_t node, const struct cpu_record *before,
                            const struct cpu_record *after)
{
    const uint32_t kind_before = before ? before->kind : 0, kind_after = after ? after->kind : 0;
    if (kind_before != kind_after)
        return mr_error_set(MR_E_MISMATCH, "node %zu is %s, and was %s", node + 1, kind_text(after),
                            kind_text(before));
    if (kind_after != CPU_RECORD_LAUNCH)
        return MR_OK;
    const struct cpu_launch_record *launch = (const struct cpu_launch_record *)after;
    const struct cpu_launch_record *was = (const struct cpu_launch_record *)before;
    if (launch->function != was->function || before->size_bytes != after->size_bytes)
        return mr_error_set(MR_E_MISMATCH, "node %zu launches another kernel than it did",
                            node + 1);
    return MR_OK;
}

static mr_status check_form(const struct cpu_replay *replay, const struct cpu_flat *flat)
{
    const struct cpu_flat *form = &replay->flat;
    if (form->count != flat->count)
        return mr_error_set(MR_E_MISMATCH, "the graph has %zu nodes, the executable %zu",
                            flat->count, form->count);
    for (size_t i = 0; i < flat->count; i++) {
        const uint32_t first = form->first_after[i], count = form->first_after[i + 1] - first;
        if (flat->first_after[i] != first || flat->first_after[i + 1] - first != count ||
            (count &&
             memcmp(flat->after + first, form->after + first, count * sizeof *flat->after)))
            return mr_error_set(MR_E_MISMATCH, "node %zu comes after other nodes than it did",
                                i + 1);
        const mr_status status =
            check_node(i, record_at(replay, replay->current, i), flat->records[i]);
        if (status)
            return status;
    }
    return MR_OK;
}

static void replace_block(struct cpu_replay *replay, struct cpu_block *block)
{
    mr__cpu_block_release(replay, replay->current);
    replay->current = block;
}

mr_status mr__cpu_replay_update(struct mr_replay *base, const struct mr_plan *plan,
                                const struct mr_binder *binder)
{
    struct cpu_replay *replay = cpu_replay_from(base);
    struct cpu_flat flat;
    if (!mr__cpu_flat_make(&flat, cpu_plan_from((struct mr_plan *)plan), NULL))
        return MR_E_NO_MEMORY;
    mr_status status = check_form(replay, &flat);
    struct cpu_block *block = status ? NULL : take_block(replay);
    if (block) {
        fill_block(replay, block, &flat, binder);
        replace_block(replay, block);
    } else if (!status) {
        status = no_memory(&flat);
    }
    mr__cpu_flat_fini(&flat);
    return status;
}

/* The current block, for changes: the old one itself when no launch has it. NULL when memory is out. */
static struct cpu_block *own_block(struct cpu_replay *replay)
{
    if (atomic_load_explicit(&replay->current->references, memory_order_acquire) == 1)
        return replay->current;
    struct cpu_block *block = take_block(replay);
    if (!block)
        return NULL;
    for (size_t i = 0; i < replay->flat.count; i++) {
        const struct cpu_record *record = record_at(replay, replay->current, i);
        if (record)
            mr__cpu_record_copy(record_at(replay, block, i), record);
    }
    replace_block(replay, block);
    return block;
}

mr_status mr__cpu_replay_update_launch(struct mr_replay *base, uint32_t node,
                                       struct mr_function *function,
                                       const struct mr_function_launch *launch)
{
    struct cpu_replay *replay = cpu_replay_from(base);
    struct cpu_block *block = own_block(replay);
    if (!block)
        return no_memory(&replay->flat);
    struct cpu_record *record = record_at(replay, block, replay->node_of[node - 1] - 1);
    mr__cpu_write_launch((struct cpu_launch_record *)record, function, launch);
    return MR_OK;
}

/* ---- launches ---- */

/* What the replay would run now, as a node of the plan into which the queue is captured. */
static mr_status record_launch(struct cpu_replay *replay, struct cpu_queue *queue)
{
    const struct cpu_flat *flat = &replay->flat;
    struct cpu_plan *plan = mr__cpu_plan_make(&replay->device->base);
    if (!plan)
        return MR_E_NO_MEMORY;
    for (size_t i = 0; i < flat->count; i++) {
        const struct cpu_record *record = record_at(replay, replay->current, i);
        const uint32_t first = flat->first_after[i];
        const struct cpu_node *node =
            mr__cpu_plan_reserve(plan, record ? record->kind : 0, record ? record->size_bytes : 0,
                                 flat->after + first, flat->first_after[i + 1] - first);
        if (!node) {
            mr__cpu_plan_destroy(&plan->base);
            return MR_E_NO_MEMORY;
        }
        if (record)
            mr__cpu_record_copy(node->record, record);
        mr__cpu_plan_commit(plan);
    }
    return mr__cpu_capture_add_plan(queue, plan);
}

mr_status mr__cpu_replay_launch(struct mr_replay *base, struct mr_queue *base_queue)
{
    struct cpu_replay *replay = cpu_replay_from(base);
    struct cpu_queue *queue = cpu_queue_from(base_queue);
    if (queue->capture)
        return record_launch(replay, queue);

    /* On the queue of the last launch their order is the queue's. */
    if (replay->last_queue != queue->timeline &&
        mr__cpu_queue_submit_wait(queue, replay->timeline, replay->launch_count))
        return MR_E_NO_MEMORY;
    struct cpu_replay_record *record =
        mr__cpu_queue_reserve(queue, CPU_RECORD_REPLAY, sizeof *record);
    if (!record)
        return MR_E_NO_MEMORY;

    record->replay = replay;
    record->block = replay->current;
    atomic_fetch_add_explicit(&record->block->references, 1, memory_order_relaxed);
    record->number = ++replay->launch_count;
    if (replay->last_queue != queue->timeline) {
        mr__cpu_timeline_release(replay->last_queue);
        replay->last_queue = mr__cpu_timeline_retain(queue->timeline);
    }
    mr__cpu_queue_submit(queue, &record->head);
    return MR_OK;
}

mr_status mr__cpu_replay_upload(struct mr_replay *replay, struct mr_queue *queue)
{
    (void)replay;
    (void)queue;
    return MR_OK; /* it is where it runs */
}
