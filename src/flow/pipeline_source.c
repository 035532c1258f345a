/* SPDX-License-Identifier: MIT */
/*
 * The source's side: items into parcels, parcels to the submitter.
 *
 * A parcel goes out when it is full, or at once when the pipeline would else run dry. A source may
 * stay in `next` for long with a part-filled parcel: then the submitter takes the parcel as it is,
 * and the item that comes back moves to the next one. Who seals the parcel's fill counter owns it.
 */
#include "flow/pipeline.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

/* What became of a parcel that was being filled. */
enum outcome { FILLED, STOLEN };

static bool is_sampled(const mr_pipeline *pipeline, uint64_t number)
{
    const uint32_t period = pipeline->options.measure_period;
    return period ? number % period == 0 : number % MR__SAMPLE_PERIOD < 2;
}

struct mr__slot *mr__source_open(mr_pipeline *pipeline, uint64_t first_index)
{
    struct mr__run *run = pipeline->run;
    struct mr__slot *slot = mr__slot_of(pipeline->plan, run->opened);
    slot->number = run->opened;
    slot->first_index = first_index;
    slot->item_count = 0;
    slot->lent.count = 0;
    slot->origin = NULL;
    slot->is_sampled = is_sampled(pipeline, slot->number);
    atomic_store_explicit(&slot->fill, 0, memory_order_release);
    return slot;
}

static struct mr__slot *open_next(mr_pipeline *pipeline)
{
    return mr__source_open(pipeline, pipeline->run->feed->next_index);
}

/* ---- one item ---- */

static mr_status check_lent(const struct mr__plan *plan, const mr_source_item *item)
{
    if (!item->data && !item->buffer && item->size_bytes)
        return mr_error_set(MR_E_INVALID, "a lending source gave %zu bytes, but no memory",
                            item->size_bytes);
    if (!item->buffer)
        return MR_OK;

    const size_t size = mr_buffer_size(item->buffer);
    if (item->offset > size || item->size_bytes > size - item->offset)
        return mr_error_set(MR_E_INVALID, "bytes %zu to %zu + %zu were lent of a buffer of %zu",
                            item->offset, item->offset, item->size_bytes, size);
    const bool is_read_by_host = !plan->may_source_scatter || plan->is_source_staged;
    if (is_read_by_host && !mr_buffer_host(item->buffer))
        return mr_error_set(MR_E_INVALID,
                            "device memory of %s was lent, but the host reads it: lend "
                            "host memory",
                            mr_device_id(mr_buffer_device(item->buffer)));
    return MR_OK;
}

static mr_status check_item(const struct mr__plan *plan, const mr_source_item *item,
                            const void *given)
{
    const size_t capacity = plan->edges[plan->source_edge].item_bytes;
    if (item->size_bytes > capacity)
        return mr_error_set(MR_E_INVALID, "the item has %zu bytes, more than item_bytes, %zu",
                            item->size_bytes, capacity);
    if (plan->is_source_lending)
        return check_lent(plan, item);
    if (item->data != given || item->buffer)
        return mr_error_set(MR_E_INVALID, "the source lent memory, but is_lending is not set");
    return MR_OK;
}

static struct mr__spot lent_spot(const struct mr__slot *slot, const mr_source_item *item,
                                 size_t stride)
{
    if (item->buffer) {
        char *host = mr_buffer_host(item->buffer);
        return (struct mr__spot){ .buffer = item->buffer,
                                  .offset = item->offset,
                                  .host = host ? host + item->offset : NULL };
    }
    if (item->data)
        return (struct mr__spot){ .host = item->data };
    /* An empty item is wherever that suits. */
    if (!slot->lent.count)
        return (struct mr__spot){ .host = (char *)(uintptr_t)MR__WINDOW_BASE };
    struct mr__spot spot = slot->lent.list[slot->lent.count - 1].spot;
    const size_t distance = slot->lent.list[slot->lent.count - 1].count * stride;
    spot.offset += distance;
    if (spot.host)
        spot.host += distance;
    return spot;
}

/* Notes an item as the slot's number `k`; false when it must go to another parcel. */
static bool note_item(const struct mr__plan *plan, struct mr__slot *slot, uint32_t k,
                      const mr_source_item *item)
{
    const size_t stride = plan->edges[plan->source_edge].item_bytes;
    if (plan->is_source_lending) {
        const struct mr__spot spot = lent_spot(slot, item, stride);
        if (!mr__stretches_add(&slot->lent, k, &spot, stride))
            return false;
    }
    slot->sizes[plan->source_edge][k] = item->size_bytes;
    return true;
}

/* An item that did not fit its parcel begins this one. */
static void note_held(mr_pipeline *pipeline, struct mr__slot *slot)
{
    const struct mr__plan *plan = pipeline->plan;
    struct mr__feed *feed = pipeline->run->feed;
    if (!plan->is_source_lending) {
        char *target = slot->images[plan->edges[plan->source_edge].origin].spot.host;
        memmove(target, feed->held.data, feed->held.size_bytes);
    }
    note_item(plan, slot, 0, &feed->held);
    feed->has_held = false;
    feed->next_index++;
    atomic_store_explicit(&slot->fill, 1, memory_order_release);
}

/* ---- one parcel ---- */

static void end_feed(mr_pipeline *pipeline, mr_status status)
{
    struct mr__feed *feed = pipeline->run->feed;
    feed->has_ended = true;
    if (status == MR_END)
        return;

    char words[MR_ERROR_BYTES], full[MR_ERROR_BYTES];
    mr__words_take(status, words);
    snprintf(full, sizeof full, "source '%s', item %llu: %.800s", pipeline->plan->source->name,
             (unsigned long long)feed->next_index, words);
    mr__run_stop(pipeline, feed->next_index, status < 0 ? status : MR_E_CALLBACK, full);
}

static bool must_ship(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    const uint64_t retired = atomic_load_explicit(&run->retired.value, memory_order_relaxed);
    return run->opened - retired < pipeline->plan->ship_below;
}

/* Asks for items until the parcel is full, should go, or the source has ended. */
static enum outcome fill_parcel(mr_pipeline *pipeline, struct mr__slot *slot, bool is_shared)
{
    const struct mr__plan *plan = pipeline->plan;
    const mr_source_options *source = &plan->source->source;
    struct mr__run *run = pipeline->run;
    struct mr__feed *feed = run->feed;
    const size_t stride = plan->edges[plan->source_edge].item_bytes;
    char *base = plan->is_source_lending
                     ? NULL
                     : slot->images[plan->edges[plan->source_edge].origin].spot.host;
    uint32_t count = 0;
    if (feed->has_held) {
        if (is_shared && atomic_fetch_or(&slot->fill, MR__WRITING) & MR__SEALED)
            return STOLEN;
        note_held(pipeline, slot);
        count = 1;
    }
    while (count < plan->parcel_items && !feed->has_ended &&
           !(is_shared && count && must_ship(pipeline))) {
        if (atomic_load_explicit(&run->is_ending, memory_order_relaxed)) {
            feed->was_cut = true;
            feed->has_ended = true;
            break;
        }
        char *given = base ? base + count * stride : NULL;
        mr_source_item item = { .index = feed->next_index,
                                .capacity_bytes = stride,
                                .data = given };
        mr_status status = source->next(source->context, &item);
        if (!status)
            status = check_item(plan, &item, given);
        if (status) {
            end_feed(pipeline, status);
            break;
        }
        if (is_shared && atomic_fetch_or(&slot->fill, MR__WRITING) & MR__SEALED) {
            feed->held = item;
            feed->has_held = true;
            return STOLEN;
        }
        const bool is_in = note_item(plan, slot, count, &item);
        if (is_in) {
            feed->next_index++;
            count++;
        } else {
            feed->held = item;
            feed->has_held = true;
        }
        atomic_store_explicit(&slot->fill, count, memory_order_release);
        if (!is_in)
            break;
    }
    return FILLED;
}

/* The source is a range of memory. */
static void fill_from_memory(mr_pipeline *pipeline, struct mr__slot *slot)
{
    const struct mr__plan *plan = pipeline->plan;
    const mr_source_options *source = &plan->source->source;
    struct mr__feed *feed = pipeline->run->feed;
    const size_t stride = plan->edges[plan->source_edge].item_bytes;
    const size_t done = feed->next_index * stride;
    size_t *sizes = slot->sizes[plan->source_edge];
    size_t left = done < source->memory_bytes ? source->memory_bytes - done : 0;
    uint32_t count = 0;
    if (!atomic_load_explicit(&pipeline->run->is_ending, memory_order_relaxed)) {
        for (; count < plan->parcel_items && left; count++) {
            sizes[count] = left < stride ? left : stride;
            left -= sizes[count];
        }
    }
    feed->has_ended = !left || !count;
    feed->was_cut = left && !count;
    if (!count)
        return;

    const size_t offset = source->memory_offset + done;
    char *host = mr_buffer_host(source->memory);
    const struct mr__spot spot = { .buffer = source->memory,
                                   .offset = offset,
                                   .host = host ? host + offset : NULL };
    slot->lent.list[0] = (struct mr__stretch){ .spot = spot, .count = count };
    slot->lent.count = 1;
    feed->next_index += count;
    atomic_store_explicit(&slot->fill, count, memory_order_release);
}

/* ---- items that another pipeline did not deliver ---- */

/* The item's bytes, as the source gave them to the slot `from`. */
static bool refill_item(const struct mr__plan *plan, struct mr__slot *slot, uint32_t k,
                        struct mr__slot *from, uint32_t item)
{
    const uint32_t edge = plan->source_edge;
    const size_t stride = plan->edges[edge].item_bytes;
    slot->sizes[edge][k] = from->sizes[edge][item];
    if (plan->is_source_lending) {
        const struct mr__spot spot = mr__stretches_spot(&from->lent, item, stride);
        return mr__stretches_add(&slot->lent, k, &spot, stride);
    }
    const struct mr__plan *other = from->pipeline->plan;
    const char *bytes = from->images[other->edges[edge].origin].spot.host + item * stride;
    char *target = slot->images[plan->edges[edge].origin].spot.host + k * stride;
    memcpy(target, bytes, slot->sizes[edge][k]);
    return true;
}

static mr_status check_refilled(const struct mr__plan *plan, const struct mr__slot *slot)
{
    const bool is_read_by_host = !plan->may_source_scatter || plan->is_source_staged;
    for (uint32_t i = 0; plan->is_source_lending && is_read_by_host && i < slot->lent.count; i++) {
        if (!slot->lent.list[i].spot.host)
            return mr_error_set(MR_E_INVALID,
                                "device memory was lent, which the devices that are left cannot "
                                "read: lend host memory");
    }
    return MR_OK;
}

static void ship(mr_pipeline *pipeline, struct mr__slot *slot, uint32_t count);

mr_status mr__source_refill(mr_pipeline *pipeline, struct mr__slot *slot, struct mr__slot *from,
                            bool is_begun, uint32_t *done, uint32_t count)
{
    const struct mr__plan *plan = pipeline->plan;
    uint32_t k = 0;
    slot->origin = is_begun ? from : from->origin;
    slot->origin_first = *done + (is_begun ? 0 : from->origin_first);
    while (k < plan->parcel_items && *done < count && refill_item(plan, slot, k, from, *done)) {
        k++;
        ++*done;
    }
    const mr_status status = check_refilled(plan, slot);
    pipeline->run->opened++;
    atomic_store_explicit(&slot->fill, k | MR__SEALED, memory_order_release);
    ship(pipeline, slot, k);
    return status;
}

/* ---- to the submitter ---- */

static void count_in(mr_pipeline *pipeline, struct mr__slot *slot)
{
    struct mr__run *run = pipeline->run;
    const size_t *sizes = slot->sizes[pipeline->plan->source_edge];
    uint64_t bytes = 0;
    for (uint32_t k = 0; k < slot->item_count; k++)
        bytes += sizes[k];
    atomic_fetch_add_explicit(&run->items_in, slot->item_count, memory_order_relaxed);
    atomic_fetch_add_explicit(&run->bytes_in, bytes, memory_order_relaxed);
}

/* Hands over a parcel that the caller has sealed. */
static void ship(mr_pipeline *pipeline, struct mr__slot *slot, uint32_t count)
{
    slot->item_count = count;
    count_in(pipeline, slot);
    atomic_fetch_add(&pipeline->run->filled.value, 1);
}

bool mr__source_steal(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    struct mr__slot *slot = mr__slot_of(pipeline->plan, mr__count_get(&run->filled));
    uint32_t count = atomic_load(&slot->fill);
    if (!count || count & (MR__SEALED | MR__WRITING) ||
        !atomic_compare_exchange_strong(&slot->fill, &count, count | MR__SEALED))
        return false;
    ship(pipeline, slot, count);
    return true;
}

void mr__source_seal(mr_pipeline *pipeline, struct mr__slot *slot)
{
    uint32_t count = atomic_load(&slot->fill);
    while (!(count & MR__SEALED)) {
        if (count & MR__WRITING) {
            sched_yield(); /* an item's address is being noted */
            count = atomic_load(&slot->fill);
        } else if (atomic_compare_exchange_weak(&slot->fill, &count, count | MR__SEALED)) {
            if (count)
                ship(pipeline, slot, count);
            return;
        }
    }
    while (mr__count_get(&pipeline->run->filled) <= slot->number)
        sched_yield(); /* who has sealed it is about to ship it */
}

bool mr__source_is_stealable(const mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    const uint64_t filled = mr__count_get(&run->filled);
    if (filled - mr__count_get(&run->retired) >= pipeline->plan->ship_below)
        return false;
    const uint32_t count = atomic_load(&mr__slot_of(pipeline->plan, filled)->fill);
    return count && !(count & MR__SEALED);
}

bool mr__source_has_slot(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    return run->opened - atomic_load(&run->retired.value) < pipeline->plan->slot_count;
}

bool mr__source_fill(mr_pipeline *pipeline, struct mr__slot *slot, bool is_shared)
{
    struct mr__run *run = pipeline->run;
    const struct mr__plan *plan = pipeline->plan;
    const bool is_timed = slot->is_sampled || run->source_is_slow;
    const uint64_t start = is_timed ? mr_device_now_ns(plan->clock_device) : 0;
    enum outcome outcome = FILLED;
    if (plan->source->source.memory)
        fill_from_memory(pipeline, slot);
    else
        outcome = fill_parcel(pipeline, slot, is_shared);
    if (is_timed && outcome == FILLED) {
        const uint64_t busy_ns = mr_device_now_ns(plan->clock_device) - start;
        run->source_is_slow |= busy_ns >= MR__SLOW_NS;
        run->source_busy_ns += busy_ns;
        run->source_sampled_items +=
            atomic_load_explicit(&slot->fill, memory_order_relaxed) & ~MR__SEALED;
    }

    const uint32_t fill = atomic_load(&slot->fill);
    if (!fill)
        return false;
    run->opened++;
    const uint32_t before = atomic_fetch_or(&slot->fill, MR__SEALED);
    if (!(before & MR__SEALED))
        ship(pipeline, slot, before);
    return true;
}

/* The run ends early, and no item is held that must still come out. */
static bool is_cut(const mr_pipeline *pipeline)
{
    const struct mr__run *run = pipeline->run;
    const bool is_stopped = atomic_load(&run->stop_index) != UINT64_MAX;
    return atomic_load(&run->is_aborted) ||
           (atomic_load(&run->is_ending) && (!run->feed->has_held || is_stopped));
}

static bool can_go_on(void *pipeline)
{
    return mr__source_has_slot(pipeline) || is_cut(pipeline);
}

bool mr__source_is_ready(const mr_pipeline *pipeline)
{
    return !atomic_load(&pipeline->run->is_fed) && can_go_on((void *)pipeline);
}

bool mr__source_step(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    if (!mr__source_is_ready(pipeline))
        return false;
    if (mr__source_has_slot(pipeline)) {
        mr__source_fill(pipeline, open_next(pipeline), false);
    } else {
        run->feed->was_cut = true;
        run->feed->has_ended = true;
    }
    if (run->feed->has_ended && (!run->feed->has_held || is_cut(pipeline)))
        atomic_store(&run->is_fed, true);
    return true;
}

void *mr__source_main(void *context)
{
    mr_pipeline *pipeline = context;
    struct mr__run *run = pipeline->run;
    struct mr__feed *feed = run->feed;
    while (!feed->has_ended || feed->has_held) {
        mr__bell_wait(&run->source_bell, can_go_on, pipeline);
        if (!mr__source_has_slot(pipeline)) {
            feed->was_cut = true;
            break;
        }
        mr__source_fill(pipeline, open_next(pipeline), true);
        mr__bell_ring(&run->submit_bell);
    }
    atomic_store(&run->is_fed, true);
    mr__bell_ring(&run->submit_bell);
    mr__run_leave(pipeline);
    return NULL;
}
