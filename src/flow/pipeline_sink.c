/* SPDX-License-Identifier: MIT */
/*
 * The sinks' side: waits until all of a parcel's work has ended, hands its items over in order, and
 * retires it.
 *
 * Every sink waits for the whole parcel, not only for its own branch: an item that fails anywhere is
 * left out everywhere.
 */
#include "flow/pipeline_fleet.h"

#include <stdio.h>
#include <string.h>

/* ---- lending ---- */

/* What the sink has lent for the same item before, where it went to a device that failed. */
static bool find_lent(const struct mr__slot *slot, uint32_t id, uint32_t k, size_t capacity,
                      struct mr__spot *spot)
{
    if (!slot->origin)
        return false;
    const struct mr__stretches *lent = &slot->origin->sinks[id].lent;
    const uint32_t item = slot->origin_first + k;
    if (!lent->count ||
        item >= lent->list[lent->count - 1].first + lent->list[lent->count - 1].count)
        return false;
    *spot = mr__stretches_spot(lent, item, capacity);
    return true;
}

static mr_status lend_item(const struct mr__sink *sink, uint64_t index, size_t capacity,
                           struct mr__spot *spot)
{
    const mr_sink_options *options = &sink->node->sink;
    if (options->memory) {
        size_t at;
        if (__builtin_mul_overflow(index, capacity, &at) || at >= options->memory_bytes)
            return mr_error_set(MR_E_NO_MEMORY, "its memory of %zu bytes is full",
                                options->memory_bytes);
        *spot = (struct mr__spot){ .buffer = options->memory,
                                   .offset = options->memory_offset + at,
                                   .host = (char *)mr_buffer_host(options->memory) +
                                           options->memory_offset + at };
        return MR_OK;
    }
    void *data = NULL;
    const mr_status status = options->lend(options->context, index, capacity, &data);
    if (!status && !data)
        return mr_error_set(MR_E_NO_MEMORY, "it lent no memory");
    *spot = (struct mr__spot){ .host = data };
    return status;
}

static void stop_at(struct mr__slot *slot, uint32_t item, const struct mr__sink *sink,
                    mr_status status)
{
    char words[MR_ERROR_BYTES], full[MR_ERROR_BYTES];
    mr__words_take(status, words);
    const uint64_t index = slot->first_index + item;
    snprintf(full, sizeof full, "sink '%s', item %llu: %.800s", sink->node->name,
             (unsigned long long)index, words);
    mr__run_stop(slot->pipeline, index, status < 0 ? status : MR_E_CALLBACK, full);
}

/* A short last item may have less room than a full one: then the work may not write there itself. */
static bool has_full_room(const struct mr__slot *slot, const struct mr__sink *sink, uint32_t count,
                          size_t capacity)
{
    const mr_sink_options *options = &sink->node->sink;
    size_t need;
    return !options->memory ||
           (!__builtin_mul_overflow(slot->first_index + count, capacity, &need) &&
            need <= options->memory_bytes);
}

/* Lent memory becomes the place of the sink's image, when the work can write there. */
static void direct_image(struct mr__slot *slot, uint32_t id, uint32_t count)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__sink *sink = &plan->sinks[id];
    const struct mr__image *image = &plan->images[sink->image];
    struct mr__slot_sink *lent = &slot->sinks[id];
    struct mr__slot_image *place = &slot->images[sink->image];
    lent->is_direct = false;
    if (image->lender != id)
        return;
    if (plan->steps[image->step].is_scattered) {
        lent->is_direct = true;
        return;
    }
    lent->is_direct = lent->lent.count == 1 &&
                      has_full_room(slot, sink, count, plan->edges[image->edge].item_bytes);
    place->spot =
        lent->is_direct
            ? lent->lent.list[0].spot
            : (struct mr__spot){ .buffer = place->memory,
                                 .host = place->memory ? mr_buffer_host(place->memory) : NULL };
}

void mr__sink_lend(struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    for (uint32_t i = 0; i < plan->sink_count; i++) {
        const struct mr__sink *sink = &plan->sinks[i];
        const size_t stride = plan->edges[plan->images[sink->image].edge].item_bytes;
        struct mr__stretches *lent = &slot->sinks[i].lent;
        if (!sink->is_lending)
            continue;
        lent->count = 0;
        const uint32_t count = mr__slot_live_items(slot);
        for (uint32_t k = 0; k < count; k++) {
            struct mr__spot spot;
            mr_status status = MR_OK;
            if (!find_lent(slot, i, k, stride, &spot)) {
                mr__leg_lend_begin(slot->pipeline->leg);
                status = lend_item(sink, slot->first_index + k, stride, &spot);
                mr__leg_lend_end(slot->pipeline->leg);
            }
            if (status) {
                stop_at(slot, k, sink, status);
                break;
            }
            mr__stretches_add(lent, k, &spot, stride);
        }
        direct_image(slot, i, mr__slot_live_items(slot));
    }
}

/* ---- delivering ---- */

/* The item's bytes, brought to the memory that the sink lent where the work did not do so. */
static mr_status bring_item(const struct mr__sink *sink, const struct mr__slot *slot,
                            const struct mr__slot_sink *lent, uint32_t k, mr_sink_item *item)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const size_t stride = plan->edges[plan->images[sink->image].edge].item_bytes;
    const mr_sink_options *options = &sink->node->sink;
    char *target = mr__stretches_host(&lent->lent, k, stride);
    item->data = target;
    if (options->memory && item->size_bytes > options->memory_bytes - item->index * stride)
        return mr_error_set(MR_E_INVALID, "%zu bytes do not fit into the last %zu of its memory",
                            item->size_bytes, options->memory_bytes - item->index * stride);
    if (!sink->is_staged && !lent->is_direct)
        memcpy(target, mr__slot_spot(slot, sink->image)->host + k * stride, item->size_bytes);
    return MR_OK;
}

static void deliver_items(struct mr__sink_run *run, struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__sink *sink = &plan->sinks[run->sink];
    const mr_sink_options *options = &sink->node->sink;
    const uint32_t edge = plan->images[sink->image].edge;
    const size_t stride = plan->edges[edge].item_bytes;
    const size_t *sizes = slot->sizes[edge];
    const char *base = mr__slot_spot(slot, sink->image)->host;
    const bool has_failed = mr__slot_has_any_failed(slot);
    const uint32_t count = mr__slot_live_items(slot);
    uint64_t bytes = 0, items = 0;
    for (uint32_t k = 0; k < count; k++) {
        if (has_failed && mr__slot_has_failed(slot, k))
            continue;
        mr_sink_item item = { .index = slot->first_index + k, .size_bytes = sizes[k] };
        mr_status status = MR_OK;
        if (sink->is_lending)
            status = bring_item(sink, slot, &slot->sinks[run->sink], k, &item);
        else
            item.data = base + k * stride;
        if (!status && options->take)
            status = options->take(options->context, &item);
        if (status) {
            stop_at(slot, k, sink, status);
            break;
        }
        items++;
        bytes += sizes[k];
    }
    run->items += items;
    run->bytes += bytes;
}

static void count_passed(struct mr__sink_run *run, const struct mr__slot *slot)
{
    const uint32_t count = mr__slot_live_items(slot);
    for (uint32_t k = 0; k < count; k++)
        run->items += !mr__slot_has_failed(slot, k);
}

static void deliver(struct mr__sink_run *run, struct mr__slot *slot)
{
    mr_pipeline *pipeline = slot->pipeline;
    mr_device *clock = pipeline->plan->clock_device;
    const uint64_t items = run->items, bytes = run->bytes;
    const bool is_timed = slot->is_sampled || run->is_slow;
    const uint64_t start = is_timed ? mr_device_now_ns(clock) : 0;
    if (pipeline->plan->sink_count)
        deliver_items(run, slot);
    else
        count_passed(run, slot);
    if (is_timed) {
        const uint64_t busy_ns = mr_device_now_ns(clock) - start;
        run->is_slow |= busy_ns >= MR__SLOW_NS;
        run->busy_ns += busy_ns;
        run->sampled_items += slot->item_count;
    }
    if (run->sink == 0) {
        atomic_fetch_add_explicit(&pipeline->run->items_out, run->items - items,
                                  memory_order_relaxed);
        atomic_fetch_add_explicit(&pipeline->run->bytes_out, run->bytes - bytes,
                                  memory_order_relaxed);
    }
}

/* ---- settling and retiring ---- */

/* MR_OK once all of the parcel's work has ended. */
static mr_status await_parcel(const struct mr__slot *slot, uint64_t timeout_ns)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    for (uint32_t i = 0; i < plan->terminal_count; i++) {
        const mr_event *event = slot->steps[plan->terminals[i]].event;
        const mr_status status = timeout_ns == MR_FOREVER ? mr_event_wait(event)
                                 : timeout_ns             ? mr_event_wait_for(event, timeout_ns)
                                                          : mr_event_query(event);
        if (status)
            return status;
    }
    for (uint32_t i = 0; i < plan->watched_count; i++) {
        const uint32_t step = plan->watched[i];
        const struct mr__group *group = &plan->groups[plan->steps[step].group];
        const mr_status status = mr_stream_failure(group->streams[slot->steps[step].replica]);
        if (status)
            return status;
    }
    return MR_OK;
}

bool mr__sink_has_ended(const struct mr__slot *slot)
{
    return await_parcel(slot, 0) != MR_E_BUSY;
}

static void give_back(mr_pipeline *pipeline, const struct mr__slot *slot)
{
    const mr_source_options *source = &pipeline->plan->source->source;
    if (pipeline->plan->is_source_lending && source->give_back && !pipeline->leg)
        source->give_back(source->context, slot->first_index, slot->item_count);
}

static uint64_t delivered_by_all(const struct mr__run *run)
{
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < run->sink_count; i++) {
        const uint64_t delivered = mr__count_get(&run->sinks[i].delivered);
        if (delivered < least)
            least = delivered;
    }
    return least;
}

/* A parcel that was cut short may still be read by work that nobody waits for: neither it nor what
 * comes after is retired before the end of the run. */
static void retire_up_to(mr_pipeline *pipeline, uint64_t end)
{
    struct mr__run *run = pipeline->run;
    for (uint64_t n = mr__count_get(&run->retired); n < end; n++) {
        const struct mr__slot *slot = mr__slot_of(pipeline->plan, n);
        if (mr__slot_live_items(slot) < slot->item_count)
            return;
        give_back(pipeline, slot);
        mr__count_set(&run->retired, n + 1);
    }
}

static void retire(struct mr__sink_run *sink, uint64_t delivered)
{
    mr_pipeline *pipeline = sink->pipeline;
    struct mr__run *run = pipeline->run;
    mr__count_set(&sink->delivered, delivered);
    if (run->sink_count == 1) {
        retire_up_to(pipeline, delivered);
    } else {
        pthread_mutex_lock(&run->retire_mutex);
        retire_up_to(pipeline, delivered_by_all(run));
        pthread_mutex_unlock(&run->retire_mutex);
    }
    if (pipeline->leg)
        mr__leg_retired(pipeline->leg);
    if (run->has_source_thread || pipeline->leg) {
        mr__bell_ring(&run->source_bell);
        if (mr__source_is_stealable(pipeline))
            mr__bell_ring(&run->submit_bell);
    } else if (sink->has_thread) {
        mr__bell_ring(&run->submit_bell);
    }
}

/* The same in a leg of a fleet: in turn with the others. */
static void finish_in_turn(struct mr__sink_run *sink, struct mr__slot *slot)
{
    struct mr__leg *leg = sink->pipeline->leg;
    const enum mr__turn turn = mr__leg_await_turn(leg, sink->sink, slot);
    if (turn == MR__TURN_GONE)
        return;
    if (turn == MR__TURN_MINE) {
        if (sink->sink == 0)
            mr__report_settle(slot);
        deliver(sink, slot);
        mr__leg_pass_turn(leg, sink->sink, slot);
    }
    retire(sink, slot->number + 1);
}

static void finish_parcel(struct mr__sink_run *sink, struct mr__slot *slot)
{
    if (sink->pipeline->leg) {
        finish_in_turn(sink, slot);
        return;
    }
    if (sink->sink == 0)
        mr__report_settle(slot);
    deliver(sink, slot);
    retire(sink, slot->number + 1);
}

static void abort_waiting(struct mr__slot *slot, mr_status status)
{
    char where[96];
    snprintf(where, sizeof where, "items %llu to %llu", (unsigned long long)slot->first_index,
             (unsigned long long)(slot->first_index + slot->item_count - 1));
    mr__run_abort(slot->pipeline, status, where);
}

/* ---- carrying out ---- */

/* Begins to carry the parcel to the sink's pageable memory. */
static void stage_out(struct mr__sink_run *run, struct mr__slot *slot)
{
    const struct mr__plan *plan = slot->pipeline->plan;
    const struct mr__sink *sink = &plan->sinks[run->sink];
    const uint32_t edge = plan->images[sink->image].edge;
    const uint32_t count = mr__slot_live_items(slot);
    struct mr__slot_sink *lent = &slot->sinks[run->sink];
    struct mr__stretch piece = { .spot = *mr__slot_spot(slot, sink->image),
                                 .count = slot->item_count };
    const struct mr__stretches source = { .list = &piece, .count = 1, .capacity = 1 };
    mr__crew_open(&lent->ticket, &run->bell);
    mr__stretches_carry(plan->crew_out, &lent->ticket, &lent->lent, &source, slot->sizes[edge],
                        plan->edges[edge].item_bytes, count, true);
    mr__crew_close(plan->crew_out, &lent->ticket);
}

/* Begins with every parcel whose work has ended; waits up to `timeout_ns` for the first of them when
 * none is being carried. */
static mr_status stage_out_ready(struct mr__sink_run *sink, uint64_t timeout_ns)
{
    mr_pipeline *pipeline = sink->pipeline;
    const uint64_t submitted = mr__count_get(&pipeline->run->submitted);
    while (sink->staged < submitted) {
        struct mr__slot *slot = mr__slot_of(pipeline->plan, sink->staged);
        const bool is_first = sink->staged == mr__count_get(&sink->delivered);
        const mr_status status = await_parcel(slot, is_first ? timeout_ns : 0);
        if (status == MR_E_BUSY || status == MR_E_TIMEOUT)
            return MR_OK;
        if (status) {
            abort_waiting(slot, status);
            return status;
        }
        stage_out(sink, slot);
        sink->staged++;
    }
    return MR_OK;
}

static bool is_carried(const struct mr__sink_run *sink)
{
    const uint64_t next = mr__count_get(&sink->delivered);
    const struct mr__slot *slot = mr__slot_of(sink->pipeline->plan, next);
    return next < sink->staged && mr__crew_is_done(&slot->sinks[sink->sink].ticket);
}

static bool is_carried_or_due(void *context)
{
    const struct mr__sink_run *sink = context;
    return is_carried(sink) || mr__count_get(&sink->pipeline->run->submitted) > sink->staged;
}

/* With a parcel on its way, looks now and then whether the next one's work has ended, so that the crew
 * always has one to go on with. */
enum { LOOK_NS = 20000 };

static bool step_staged(struct mr__sink_run *sink, uint64_t timeout_ns)
{
    mr_pipeline *pipeline = sink->pipeline;
    if (stage_out_ready(sink, timeout_ns))
        return false;
    const uint64_t next = mr__count_get(&sink->delivered);
    if (next == sink->staged)
        return false;
    if (!is_carried(sink)) {
        if (!timeout_ns)
            return false;
        if (sink->staged < mr__count_get(&pipeline->run->submitted)) {
            const mr_status status =
                await_parcel(mr__slot_of(pipeline->plan, sink->staged), LOOK_NS);
            (void)status; /* looked at again by stage_out_ready */
        } else {
            mr__bell_wait_for(&sink->bell, is_carried_or_due, sink, timeout_ns);
        }
        return false;
    }
    finish_parcel(sink, mr__slot_of(pipeline->plan, next));
    return true;
}

/* ---- steps ---- */

static bool is_staged(const struct mr__sink_run *sink)
{
    const struct mr__plan *plan = sink->pipeline->plan;
    return plan->sink_count && plan->sinks[sink->sink].is_staged;
}

/* Where nobody sees when a parcel is delivered, several are waited for at once: behind one whose work
 * has ended, a look at those before it costs little, while a wake, or a look at a GPU's event, costs a
 * microsecond. As many as leave the device enough to do. */
static uint64_t choose_last(const struct mr__sink_run *sink, uint64_t next, uint64_t submitted)
{
    enum { GPU_BUSY = 4 };
    const struct mr__plan *plan = sink->pipeline->plan;
    const bool is_seen = sink->has_thread || plan->source->source.give_back ||
                         (plan->sink_count && plan->sinks[sink->sink].node->sink.take);
    const uint64_t in_flight = submitted - next;
    const uint64_t busy = plan->busy_parcels ? plan->busy_parcels : GPU_BUSY;
    if (is_seen || in_flight <= busy)
        return next;
    return plan->busy_parcels ? submitted - busy - 1 : next + (in_flight - busy) / 3;
}

bool mr__sink_step(struct mr__sink_run *sink, uint64_t timeout_ns)
{
    mr_pipeline *pipeline = sink->pipeline;
    uint64_t next = mr__count_get(&sink->delivered);
    const uint64_t submitted = mr__count_get(&pipeline->run->submitted);
    if (next >= submitted)
        return false;
    if (is_staged(sink))
        return step_staged(sink, timeout_ns);

    const uint64_t last = choose_last(sink, next, submitted);
    mr_status status = await_parcel(mr__slot_of(pipeline->plan, last), timeout_ns);
    for (; !status && next <= last; next++) {
        struct mr__slot *slot = mr__slot_of(pipeline->plan, next);
        if (next < last)
            status = await_parcel(slot, timeout_ns);
        if (status)
            break;
        finish_parcel(sink, slot);
    }
    if (status && status != MR_E_BUSY && status != MR_E_TIMEOUT)
        abort_waiting(mr__slot_of(pipeline->plan, next), status);
    return !status;
}

static bool has_parcel(void *context)
{
    const struct mr__sink_run *sink = context;
    const struct mr__run *run = sink->pipeline->run;
    return mr__count_get(&run->submitted) > mr__count_get(&sink->delivered) ||
           atomic_load(&run->is_submitted) || atomic_load(&run->is_aborted);
}

void *mr__sink_main(void *context)
{
    struct mr__sink_run *sink = context;
    struct mr__run *run = sink->pipeline->run;
    for (;;) {
        mr__bell_wait(&sink->bell, has_parcel, sink);
        if (atomic_load(&run->is_aborted))
            break;
        /* Read in this order: what was submitted before the end is seen. */
        const bool is_last = atomic_load(&run->is_submitted);
        if (mr__count_get(&run->submitted) == mr__count_get(&sink->delivered)) {
            if (is_last)
                break;
            continue;
        }
        mr__sink_step(sink, MR_FOREVER);
    }
    mr__run_leave(sink->pipeline);
    return NULL;
}
