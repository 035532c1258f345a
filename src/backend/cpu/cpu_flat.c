/* SPDX-License-Identifier: MIT */
/*
 * Plans in plans, laid flat: a plan within another becomes its nodes between two empty ones, so that
 * what comes before and after it needs no edge to each.
 */
#include "backend/cpu/cpu_replay.h"

#include "base/alloc.h"

#include <string.h>

static bool grow_flat(struct cpu_flat *flat)
{
    if (flat->count < flat->capacity)
        return true;
    const size_t capacity = flat->capacity ? 2 * flat->capacity : 16;
    struct cpu_record **records =
        mr__resize_array(flat->records, capacity, sizeof(struct cpu_record *));
    if (!records)
        return false;
    flat->records = records;
    uint32_t *first_after = mr__resize_array(flat->first_after, capacity + 1, sizeof *first_after);
    if (!first_after)
        return false;
    flat->first_after = first_after;
    flat->capacity = capacity;
    return true;
}

/* Begins a node whose `after` follow; its number from 1, 0 when memory is out. */
static uint32_t add_node(struct cpu_flat *flat, struct cpu_record *record, size_t after_count)
{
    if (!grow_flat(flat) || !mr__grow_array(&flat->after, sizeof *flat->after,
                                            flat->after_count + after_count, &flat->after_capacity))
        return 0;
    flat->records[flat->count] = record;
    flat->first_after[flat->count] = (uint32_t)flat->after_count;
    flat->count++;
    flat->first_after[flat->count] = (uint32_t)(flat->after_count + after_count);
    return (uint32_t)flat->count;
}

static void add_after(struct cpu_flat *flat, uint32_t node)
{
    flat->after[flat->after_count++] = node;
}

/* One plan on its way. */
struct level {
    const struct cpu_plan *plan;
    uint32_t entry;  /* what its first nodes come after; 0: nothing */
    uint32_t *ends;  /* by node of the plan: what stands for its end */
    bool *is_before; /* by node: another comes after it */
};

static bool add_plan(struct cpu_flat *flat, const struct cpu_plan *plan, uint32_t entry,
                     uint32_t *node_of, uint32_t *exit);

/* A node of the plan with what it comes after, in numbers of the flat. 0 when memory is out. */
static uint32_t add_plain(struct cpu_flat *flat, const struct level *level,
                          const struct cpu_node *node, struct cpu_record *record)
{
    const bool is_first = !node->after_count && level->entry;
    const uint32_t number = add_node(flat, record, is_first ? 1 : node->after_count);
    if (!number)
        return 0;
    if (is_first)
        add_after(flat, level->entry);
    for (size_t i = 0; i < node->after_count; i++) {
        level->is_before[node->after[i] - 1] = true;
        add_after(flat, level->ends[node->after[i] - 1]);
    }
    return number;
}

/* An empty node after all that nothing else of the plan comes after. 0 when memory is out. */
static uint32_t add_exit(struct cpu_flat *flat, const struct level *level)
{
    size_t count = 0;
    for (size_t i = 0; i < level->plan->node_count; i++)
        count += !level->is_before[i];
    const uint32_t number = add_node(flat, NULL, count ? count : 1);
    if (!number)
        return 0;
    if (!count)
        add_after(flat, level->entry);
    for (size_t i = 0; i < level->plan->node_count; i++)
        if (!level->is_before[i])
            add_after(flat, level->ends[i]);
    return number;
}

static bool add_nodes(struct cpu_flat *flat, struct level *level)
{
    for (size_t i = 0; i < level->plan->node_count; i++) {
        const struct cpu_node *node = &level->plan->nodes[i];
        const uint32_t number = add_plain(flat, level, node, node->record);
        if (!number)
            return false;
        level->ends[i] = number;
        if (node->child && !add_plan(flat, node->child, number, NULL, &level->ends[i]))
            return false;
    }
    return true;
}

/* `exit` may be NULL: nothing comes after it. */
static bool add_plan(struct cpu_flat *flat, const struct cpu_plan *plan, uint32_t entry,
                     uint32_t *node_of, uint32_t *exit)
{
    const size_t count = plan->node_count;
    struct level level = { .plan = plan, .entry = entry };
    level.ends = node_of ? node_of : mr__zalloc_array(count + 1, sizeof *level.ends);
    level.is_before = mr__zalloc_array(count + 1, sizeof *level.is_before);
    bool is_complete = level.ends && level.is_before && add_nodes(flat, &level);
    if (is_complete && exit) {
        *exit = add_exit(flat, &level);
        is_complete = *exit;
    }
    if (!node_of)
        mr__free(level.ends);
    mr__free(level.is_before);
    return is_complete;
}

bool mr__cpu_flat_make(struct cpu_flat *flat, const struct cpu_plan *plan, uint32_t *node_of)
{
    *flat = (struct cpu_flat){ 0 };
    if (grow_flat(flat) && add_plan(flat, plan, 0, node_of, NULL)) {
        if (!flat->count)
            flat->first_after[0] = 0;
        return true;
    }
    mr__cpu_flat_fini(flat);
    mr_error_set(MR_E_NO_MEMORY, "no memory for the %zu nodes of a graph", plan->node_count);
    return false;
}

void mr__cpu_flat_fini(struct cpu_flat *flat)
{
    mr__free(flat->records);
    mr__free(flat->first_after);
    mr__free(flat->after);
    *flat = (struct cpu_flat){ 0 };
}
