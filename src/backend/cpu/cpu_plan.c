/* SPDX-License-Identifier: MIT */
/*
 * Plans: how nodes come into them, and copies. Everything but the table of nodes lies in one arena.
 */
#include "backend/cpu/cpu_plan.h"

#include "backend/cpu/cpu_work.h"
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_BLOCK_BYTES = 8192 - 64 };

/* ---- arenas ---- */

struct cpu_arena_block {
    struct cpu_arena_block *next;
    size_t size_bytes;
    _Alignas(CPU_RECORD_ALIGNMENT) unsigned char bytes[];
};

static size_t round_up(size_t size_bytes)
{
    return (size_bytes + CPU_RECORD_ALIGNMENT - 1) / CPU_RECORD_ALIGNMENT * CPU_RECORD_ALIGNMENT;
}

void *mr__cpu_arena_take(struct cpu_arena *arena, size_t size_bytes)
{
    size_bytes = round_up(size_bytes ? size_bytes : 1);
    if (size_bytes > arena->left_bytes) {
        const size_t bytes =
            size_bytes > ARENA_BLOCK_BYTES ? size_bytes : (size_t)ARENA_BLOCK_BYTES;
        struct cpu_arena_block *block =
            mr__alloc_aligned(_Alignof(max_align_t), sizeof *block + bytes);
        if (!block)
            return NULL;
        block->next = arena->block;
        block->size_bytes = bytes;
        arena->block = block;
        arena->left_bytes = bytes;
    }
    struct cpu_arena_block *block = arena->block;
    void *taken = block->bytes + (block->size_bytes - arena->left_bytes);
    arena->left_bytes -= size_bytes;
    return taken;
}

void mr__cpu_arena_fini(struct cpu_arena *arena)
{
    while (arena->block) {
        struct cpu_arena_block *next = arena->block->next;
        mr__free(arena->block);
        arena->block = next;
    }
    arena->left_bytes = 0;
}

/* ---- plans ---- */

struct cpu_plan *mr__cpu_plan_make(struct mr_backend_device *device)
{
    struct cpu_plan *plan = mr__zalloc(sizeof *plan);
    if (!plan) {
        mr_error_set(MR_E_NO_MEMORY, "no memory for a graph");
        return NULL;
    }
    plan->base = (struct mr_plan){ .ops = &mr__cpu_backend, .device = device };
    return plan;
}

mr_status mr__cpu_plan_create(struct mr_backend_device *device, struct mr_plan **out)
{
    struct cpu_plan *plan = mr__cpu_plan_make(device);
    *out = plan ? &plan->base : NULL;
    return plan ? MR_OK : MR_E_NO_MEMORY;
}

void mr__cpu_plan_destroy(struct mr_plan *base)
{
    if (!base)
        return;
    struct cpu_plan *plan = cpu_plan_from(base);
    for (size_t i = 0; i < plan->node_count; i++)
        if (plan->nodes[i].child)
            mr__cpu_plan_destroy(&plan->nodes[i].child->base);
    mr__cpu_arena_fini(&plan->arena);
    mr__free(plan->nodes);
    mr__free(plan);
}

void mr__cpu_plan_size(const struct mr_plan *base, size_t *node_count, size_t *edge_count)
{
    const struct cpu_plan *plan = cpu_plan_from((struct mr_plan *)base);
    *node_count = plan->node_count;
    *edge_count = plan->edge_count;
}

static int compare_nodes(const void *a, const void *b)
{
    const uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;
    return (first > second) - (first < second);
}

/* Sorts, and leaves each node in once; gives how many are left. */
static size_t make_set(uint32_t *nodes, size_t count)
{
    size_t kept = 0;
    if (count > 1)
        qsort(nodes, count, sizeof *nodes, compare_nodes);
    for (size_t i = 0; i < count; i++)
        if (!kept || nodes[kept - 1] != nodes[i])
            nodes[kept++] = nodes[i];
    return kept;
}

struct cpu_node *mr__cpu_plan_reserve(struct cpu_plan *plan, uint32_t kind, size_t size_bytes,
                                      const uint32_t *after, size_t after_count)
{
    struct cpu_record *record = NULL;
    uint32_t *nodes = NULL;
    bool is_complete = mr__grow_array(&plan->nodes, sizeof *plan->nodes, plan->node_count + 1,
                                      &plan->node_capacity);
    if (is_complete && kind) {
        record = mr__cpu_arena_take(&plan->arena, size_bytes);
        is_complete = record;
    }
    if (is_complete && after_count) {
        nodes = mr__cpu_arena_take(&plan->arena, after_count * sizeof *nodes);
        is_complete = nodes;
    }
    if (!is_complete) {
        mr_error_set(MR_E_NO_MEMORY, "no memory for node %zu of a graph", plan->node_count + 1);
        return NULL;
    }
    if (record)
        *record = (struct cpu_record){ .kind = kind, .size_bytes = (uint32_t)round_up(size_bytes) };
    if (nodes) {
        memcpy(nodes, after, after_count * sizeof *nodes);
        after_count = make_set(nodes, after_count);
    }
    struct cpu_node *node = &plan->nodes[plan->node_count];
    *node = (struct cpu_node){ .record = record, .after = nodes, .after_count = after_count };
    return node;
}

void mr__cpu_plan_commit(struct cpu_plan *plan)
{
    plan->edge_count += plan->nodes[plan->node_count].after_count;
    plan->node_count++;
}

static mr_status add_record(struct cpu_plan *plan, const struct mr_work *work,
                            const uint32_t *after, size_t after_count)
{
    static const uint32_t kinds[] = { [MR_WORK_COPY] = CPU_RECORD_COPY,
                                      [MR_WORK_FILL] = CPU_RECORD_FILL,
                                      [MR_WORK_LAUNCH] = CPU_RECORD_LAUNCH,
                                      [MR_WORK_CALL] = CPU_RECORD_CALL };
    const size_t bytes = work->kind == MR_WORK_COPY   ? sizeof(struct cpu_copy_record)
                         : work->kind == MR_WORK_FILL ? sizeof(struct cpu_fill_record)
                         : work->kind == MR_WORK_CALL
                             ? sizeof(struct cpu_call_record)
                             : mr__cpu_launch_bytes(work->as.launch.launch);
    struct cpu_node *node =
        mr__cpu_plan_reserve(plan, kinds[work->kind], bytes, after, after_count);
    if (!node)
        return MR_E_NO_MEMORY;

    if (work->kind == MR_WORK_COPY) {
        mr__cpu_write_copy((struct cpu_copy_record *)node->record, work->as.transfer);
    } else if (work->kind == MR_WORK_FILL) {
        mr__cpu_write_fill((struct cpu_fill_record *)node->record, work->as.fill.memory,
                           work->as.fill.offset, work->as.fill.size_bytes, work->as.fill.value,
                           work->as.fill.value_bytes);
    } else if (work->kind == MR_WORK_CALL) {
        struct cpu_call_record *call = (struct cpu_call_record *)node->record;
        call->function = work->as.call.function;
        call->context = work->as.call.context;
    } else {
        mr__cpu_write_launch((struct cpu_launch_record *)node->record, work->as.launch.function,
                             work->as.launch.launch);
    }
    mr__cpu_plan_commit(plan);
    return MR_OK;
}

mr_status mr__cpu_plan_add(struct mr_plan *base, const struct mr_work *work, const uint32_t *after,
                           size_t after_count)
{
    struct cpu_plan *plan = cpu_plan_from(base);
    if (work->kind != MR_WORK_EMPTY && work->kind != MR_WORK_PLAN)
        return add_record(plan, work, after, after_count);

    struct mr_plan *child = NULL;
    if (work->kind == MR_WORK_PLAN && mr__cpu_plan_clone(work->as.plan, &child))
        return MR_E_NO_MEMORY;
    struct cpu_node *node = mr__cpu_plan_reserve(plan, 0, 0, after, after_count);
    if (!node) {
        mr__cpu_plan_destroy(child);
        return MR_E_NO_MEMORY;
    }
    node->child = child ? cpu_plan_from(child) : NULL;
    mr__cpu_plan_commit(plan);
    return MR_OK;
}

/* ---- copies ---- */

static void *move_pointer(void *pointer, const struct cpu_record *from, struct cpu_record *to)
{
    const uintptr_t offset = (uintptr_t)pointer - (uintptr_t)from;
    return offset < from->size_bytes ? (unsigned char *)to + offset : pointer;
}

void mr__cpu_record_copy(struct cpu_record *target, const struct cpu_record *source)
{
    memcpy(target, source, source->size_bytes);
    if (source->kind != CPU_RECORD_LAUNCH)
        return;
    struct cpu_launch_record *launch = (struct cpu_launch_record *)target;
    const size_t count =
        (source->size_bytes - sizeof *launch) / (sizeof launch->arguments[0] + sizeof(uint64_t));
    for (size_t i = 0; i < count; i++)
        launch->arguments[i] = move_pointer(launch->arguments[i], source, target);
}

static mr_status copy_node(struct cpu_plan *plan, const struct cpu_node *from)
{
    struct mr_plan *child = NULL;
    if (from->child && mr__cpu_plan_clone(&from->child->base, &child))
        return MR_E_NO_MEMORY;
    const struct cpu_record *record = from->record;
    struct cpu_node *node =
        mr__cpu_plan_reserve(plan, record ? record->kind : 0, record ? record->size_bytes : 0,
                             from->after, from->after_count);
    if (!node) {
        mr__cpu_plan_destroy(child);
        return MR_E_NO_MEMORY;
    }
    if (record)
        mr__cpu_record_copy(node->record, record);
    node->child = child ? cpu_plan_from(child) : NULL;
    mr__cpu_plan_commit(plan);
    return MR_OK;
}

mr_status mr__cpu_plan_clone(const struct mr_plan *base, struct mr_plan **out)
{
    const struct cpu_plan *plan = cpu_plan_from((struct mr_plan *)base);
    *out = NULL;
    struct cpu_plan *clone = mr__cpu_plan_make(plan->base.device);
    if (!clone)
        return MR_E_NO_MEMORY;
    for (size_t i = 0; i < plan->node_count; i++)
        if (copy_node(clone, &plan->nodes[i])) {
            mr__cpu_plan_destroy(&clone->base);
            return MR_E_NO_MEMORY;
        }
    *out = &clone->base;
    return MR_OK;
}
