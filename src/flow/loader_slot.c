/* SPDX-License-Identifier: MIT */
/*
 * Slots: which comes out next, which is free, which nobody wants any more.
 */
#include "flow/loader_parts.h"

bool mr__loader_is_stale(const mr_loader *loader, const struct mr__loader_slot *slot)
{
    return slot->epoch < loader->read_epoch || slot->batch >= loader->end_batches[slot->epoch % 2];
}

bool mr__loader_is_pending(const mr_loader *loader, const struct mr__loader_slot *slot)
{
    switch (slot->state) {
    case MR__SLOT_FAILED:
        return true;
    case MR__SLOT_FILLING:
    case MR__SLOT_FILLED:
    case MR__SLOT_MOVING:
        return !mr__loader_is_stale(loader, slot);
    default:
        return false;
    }
}

/* `left` comes out before `right`. A slot being filled is in the order of drawing. */
static bool is_before(const mr_loader *loader, const struct mr__loader_slot *left,
                      const struct mr__loader_slot *right)
{
    if (loader->options.order == MR_LOADER_IN_ORDER)
        return left->sequence < right->sequence;
    if (left->epoch != right->epoch)
        return left->epoch < right->epoch;
    const bool is_left_there = left->state != MR__SLOT_FILLING;
    const bool is_right_there = right->state != MR__SLOT_FILLING;
    if (is_left_there != is_right_there)
        return is_left_there;
    return is_left_there ? left->filled_at < right->filled_at : left->sequence < right->sequence;
}

struct mr__loader_slot *mr__loader_due(mr_loader *loader, struct mr__loader_tier *tier)
{
    struct mr__loader_slot *due = NULL;
    for (uint32_t i = 0; i < tier->count; i++) {
        struct mr__loader_slot *slot = &tier->slots[i];
        if (slot->state == MR__SLOT_MOVING || !mr__loader_is_pending(loader, slot))
            continue;
        if (!due || is_before(loader, slot, due))
            due = slot;
    }
    return due && due->state != MR__SLOT_FILLING ? due : NULL;
}

struct mr__loader_slot *mr__loader_find_free(const struct mr__loader_tier *tier)
{
    struct mr__loader_slot *free = NULL;
    for (uint32_t i = 0; i < tier->count; i++) {
        struct mr__loader_slot *slot = &tier->slots[i];
        if (slot->state == MR__SLOT_FREE && (!free || slot->freed_at < free->freed_at))
            free = slot;
    }
    return free;
}

void mr__loader_give_free(mr_loader *loader, struct mr__loader_slot *slot)
{
    slot->state = MR__SLOT_FREE;
    slot->freed_at = ++loader->stamp;
    const bool is_front =
        slot >= loader->front.slots && slot < loader->front.slots + loader->front.count;
    mr__gate_notify(is_front && loader->has_upload ? &loader->work : &loader->room, false);
}

static void drop_stale_of(mr_loader *loader, struct mr__loader_tier *tier)
{
    for (uint32_t i = 0; i < tier->count; i++) {
        struct mr__loader_slot *slot = &tier->slots[i];
        if (slot->state != MR__SLOT_FILLED || !mr__loader_is_stale(loader, slot))
            continue;
        loader->statistics.left_out++;
        mr__loader_give_free(loader, slot);
    }
}

void mr__loader_drop_stale(mr_loader *loader)
{
    drop_stale_of(loader, &loader->rear);
    drop_stale_of(loader, &loader->front);
}

void mr__loader_give_back(mr_loader *loader, struct mr__loader_slot *slot)
{
    if (!slot->is_lent_from)
        return;
    slot->is_lent_from = false;
    if (loader->options.give_back)
        loader->options.give_back(loader->options.context, slot->lent_epoch, slot->lent_batch,
                                  slot->lent_user);
}
