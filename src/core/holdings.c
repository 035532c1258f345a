/* SPDX-License-Identifier: MIT */
/*
 * Holdings: growing arrays, and a hash table with linear probing over the distinct buffers.
 */
#include "core/holdings.h"

#include "base/alloc.h"
#include "core/graph.h"

#include <string.h>

enum { FIRST_CAPACITY = 8 };

/* ---- life ---- */

struct mr__holdings *mr__holdings_create(void)
{
    struct mr__holdings *holdings = mr__zalloc(sizeof *holdings);
    if (holdings)
        atomic_init(&holdings->references, 1);
    return holdings;
}

void mr__holdings_release(struct mr__holdings *holdings)
{
    if (!holdings || atomic_fetch_sub_explicit(&holdings->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < holdings->call_count; i++)
        mr__graph_call_release(holdings->calls[i]);
    mr__free(holdings->buffers);
    mr__free(holdings->accesses);
    mr__free(holdings->slots);
    mr__free(holdings->nodes);
    mr__free(holdings->uses);
    mr__free(holdings->calls);
    mr__free(holdings);
}

/* ---- distinct buffers ---- */

static size_t slot_of(const struct mr__holdings *holdings, const mr_buffer *buffer)
{
    return (size_t)(buffer->id * UINT64_C(0x9e3779b97f4a7c15) >> 32) & (holdings->slot_count - 1);
}

/* The buffer's slot, or the free one where it would be. */
static size_t find_slot(const struct mr__holdings *holdings, const mr_buffer *buffer)
{
    size_t slot = slot_of(holdings, buffer);
    while (holdings->slots[slot] && holdings->buffers[holdings->slots[slot] - 1].buffer != buffer)
        slot = (slot + 1) & (holdings->slot_count - 1);
    return slot;
}

/* At most half of the slots are used. */
static bool grow_slots(struct mr__holdings *holdings)
{
    if (2 * (holdings->buffer_count + 1) <= holdings->slot_count)
        return true;
    const size_t count = holdings->slot_count ? 2 * holdings->slot_count : 2 * FIRST_CAPACITY;
    uint32_t *slots = mr__zalloc_array(count, sizeof *slots);
    if (!slots)
        return false;
    mr__free(holdings->slots);
    holdings->slots = slots;
    holdings->slot_count = count;
    for (size_t i = 0; i < holdings->buffer_count; i++)
        slots[find_slot(holdings, holdings->buffers[i].buffer)] = (uint32_t)i + 1;
    return true;
}

static bool grow_buffers(struct mr__holdings *holdings)
{
    size_t capacity = holdings->buffer_capacity;
    if (holdings->buffer_count < capacity)
        return true;
    if (!mr__grow_array(&holdings->buffers, sizeof *holdings->buffers, holdings->buffer_count + 1,
                        &capacity))
        return false;
    capacity = holdings->buffer_capacity;
    return mr__grow_array(&holdings->accesses, sizeof *holdings->accesses,
                          holdings->buffer_count + 1, &capacity) &&
           (holdings->buffer_capacity = capacity);
}

static void widen(mr_operation_access *whole, const mr_operation_access *part)
{
    const uint64_t whole_end = whole->address + whole->size_bytes;
    const uint64_t part_end = part->address + part->size_bytes;
    if (part->address < whole->address)
        whole->address = part->address;
    whole->size_bytes = (part_end > whole_end ? part_end : whole_end) - whole->address;
    whole->access |= part->access;
}

bool mr__holdings_add_buffer(struct mr__holdings *holdings, mr_buffer *buffer, size_t offset,
                             size_t size_bytes, mr_access access)
{
    if (!grow_slots(holdings) || !grow_buffers(holdings))
        return false;
    const mr_operation_access part = mr__buffer_access(buffer, offset, size_bytes, access);
    const size_t slot = find_slot(holdings, buffer);
    if (holdings->slots[slot]) {
        const size_t i = holdings->slots[slot] - 1;
        widen(&holdings->accesses[i], &part);
        holdings->buffers[i].use_count++;
        return true;
    }
    const size_t i = holdings->buffer_count++;
    holdings->buffers[i] = (struct mr__held_buffer){ .buffer = buffer, .use_count = 1 };
    holdings->accesses[i] = part;
    holdings->slots[slot] = (uint32_t)i + 1;
    return true;
}

/* Frees a slot and moves up those behind it that would no longer be found. */
static void free_slot(struct mr__holdings *holdings, size_t slot)
{
    const size_t mask = holdings->slot_count - 1;
    size_t hole = slot;
    for (size_t i = (slot + 1) & mask; holdings->slots[i]; i = (i + 1) & mask) {
        const size_t home = slot_of(holdings, holdings->buffers[holdings->slots[i] - 1].buffer);
        if (((i - home) & mask) < ((i - hole) & mask))
            continue;
        holdings->slots[hole] = holdings->slots[i];
        hole = i;
    }
    holdings->slots[hole] = 0;
}

void mr__holdings_remove_buffer(struct mr__holdings *holdings, mr_buffer *buffer)
{
    const size_t slot = find_slot(holdings, buffer);
    const size_t i = holdings->slots[slot] - 1;
    if (--holdings->buffers[i].use_count)
        return;
    free_slot(holdings, slot);
    const size_t last = --holdings->buffer_count;
    if (i == last)
        return;
    holdings->slots[find_slot(holdings, holdings->buffers[last].buffer)] = (uint32_t)i + 1;
    holdings->buffers[i] = holdings->buffers[last];
    holdings->accesses[i] = holdings->accesses[last];
}

/* ---- calls and nodes ---- */

bool mr__holdings_add_call(struct mr__holdings *holdings, struct mr__graph_call *call)
{
    if (!mr__grow_array(&holdings->calls, sizeof *holdings->calls, holdings->call_count + 1,
                        &holdings->call_capacity))
        return false;
    holdings->calls[holdings->call_count++] = call;
    return true;
}

void mr__holdings_drop_call(struct mr__holdings *holdings)
{
    mr__graph_call_release(holdings->calls[--holdings->call_count]);
}

bool mr__holdings_reserve_node(struct mr__holdings *holdings, size_t use_count)
{
    return mr__grow_array(&holdings->nodes, sizeof *holdings->nodes, holdings->node_count + 1,
                          &holdings->node_capacity) &&
           mr__grow_array(&holdings->uses, sizeof *holdings->uses, holdings->use_count + use_count,
                          &holdings->use_capacity);
}

void mr__holdings_add_node(struct mr__holdings *holdings, mr_kernel *kernel, mr_buffer *const *uses)
{
    holdings->nodes[holdings->node_count++] =
        (struct mr__node){ .kernel = kernel, .first_use = holdings->use_count };
    for (size_t i = 0; kernel && i < kernel->parameter_count; i++)
        holdings->uses[holdings->use_count++] = uses[i];
}

struct mr__node *mr__holdings_node(const struct mr__holdings *holdings, uint32_t number)
{
    if (number <= holdings->captured_count ||
        number - holdings->captured_count > holdings->node_count)
        return NULL;
    return &holdings->nodes[number - holdings->captured_count - 1];
}

/* ---- copies ---- */

static void *copy_array(const void *array, size_t count, size_t element_bytes, bool *is_complete)
{
    if (!count)
        return NULL;
    void *copy = mr__resize_array(NULL, count, element_bytes);
    if (copy)
        memcpy(copy, array, count * element_bytes);
    else
        *is_complete = false;
    return copy;
}

struct mr__holdings *mr__holdings_copy(const struct mr__holdings *holdings)
{
    struct mr__holdings *copy = mr__holdings_create();
    if (!copy)
        return NULL;
    const struct mr__holdings *from = holdings;
    bool is_complete = true;
    copy->buffers =
        copy_array(from->buffers, from->buffer_count, sizeof *from->buffers, &is_complete);
    copy->accesses =
        copy_array(from->accesses, from->buffer_count, sizeof *from->accesses, &is_complete);
    copy->slots = copy_array(from->slots, from->slot_count, sizeof *from->slots, &is_complete);
    copy->nodes = copy_array(from->nodes, from->node_count, sizeof *from->nodes, &is_complete);
    copy->uses = copy_array(from->uses, from->use_count, sizeof *from->uses, &is_complete);
    copy->calls = copy_array(from->calls, from->call_count, sizeof *from->calls, &is_complete);
    if (!is_complete) {
        mr__holdings_release(copy);
        return NULL;
    }
    copy->buffer_count = copy->buffer_capacity = from->buffer_count;
    copy->slot_count = from->slot_count;
    copy->captured_count = from->captured_count;
    copy->node_count = copy->node_capacity = from->node_count;
    copy->use_count = copy->use_capacity = from->use_count;
    copy->call_count = copy->call_capacity = from->call_count;
    for (size_t i = 0; i < copy->call_count; i++)
        mr__graph_call_retain(copy->calls[i]);
    return copy;
}

bool mr__holdings_own(struct mr__holdings **holdings)
{
    if (atomic_load_explicit(&(*holdings)->references, memory_order_acquire) == 1)
        return true;
    struct mr__holdings *copy = mr__holdings_copy(*holdings);
    if (!copy)
        return false;
    mr__holdings_release(*holdings);
    *holdings = copy;
    return true;
}

bool mr__holdings_merge(struct mr__holdings *holdings, const struct mr__holdings *other,
                        struct mr__graph_call *const *calls, size_t call_count)
{
    for (size_t i = 0; i < other->buffer_count; i++) {
        mr_buffer *buffer = other->buffers[i].buffer;
        const mr_operation_access *access = &other->accesses[i];
        const uint64_t first = mr__buffer_access(buffer, 0, 0, access->access).address;
        if (!mr__holdings_add_buffer(holdings, buffer, access->address - first, access->size_bytes,
                                     access->access))
            return false;
    }
    for (size_t i = 0; i < call_count; i++) {
        if (!mr__holdings_add_call(holdings, calls[i]))
            return false;
        mr__graph_call_retain(calls[i]);
    }
    return true;
}
