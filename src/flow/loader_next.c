/* SPDX-License-Identifier: MIT */
/*
 * The consumers' side: batches are lent in the order in which they come out, and come back with a point
 * of the stream that used them.
 */
#include "flow/loader_parts.h"

#include <millrace/graph.h>

/* ---- next ---- */

static bool has_pending(const mr_loader *loader, const struct mr__loader_tier *tier)
{
    for (uint32_t i = 0; i < tier->count; i++) {
        const struct mr__loader_slot *slot = &tier->slots[i];
        if (slot->epoch == loader->read_epoch && mr__loader_is_pending(loader, slot))
            return true;
    }
    return false;
}

static bool is_epoch_over(const mr_loader *loader)
{
    return mr__loader_is_drawn(loader, loader->read_epoch) && !has_pending(loader, &loader->rear) &&
           !has_pending(loader, &loader->front);
}

static mr_status say_stopped(const mr_loader *loader)
{
    return mr_error_set(MR_E_CANCELLED, "loader '%s': stopped", loader->name);
}

/* MR_E_BUSY: there is nothing to say yet. */
static mr_status find_batch(mr_loader *loader, struct mr__loader_slot **out)
{
    if (loader->failure && loader->is_urgent)
        return mr__loader_say_failure(loader);
    if (loader->is_stopped)
        return say_stopped(loader);
    struct mr__loader_slot *slot = mr__loader_due(loader, &loader->front);
    const bool is_now = slot && slot->epoch <= loader->read_epoch;
    if (is_now && slot->state != MR__SLOT_FAILED) {
        *out = slot;
        return MR_OK;
    }
    if (is_now)
        mr__loader_fail(loader, slot->status, slot->words, false);
    if (is_epoch_over(loader))
        return MR_END;
    return loader->failure ? mr__loader_say_failure(loader) : MR_E_BUSY;
}

/* The lock is given up while waiting. */
static mr_status await_batch(mr_loader *loader, const struct mr__patience *patience,
                             struct mr__loader_slot **out)
{
    uint64_t began_ns = 0;
    bool is_in_time = true;
    mr_status status;
    while ((status = find_batch(loader, out)) == MR_E_BUSY && patience->timeout_ns) {
        if (!is_in_time) {
            status = mr_error_set(MR_E_TIMEOUT, "loader '%s': no batch within the time given",
                                  loader->name);
            break;
        }
        if (!began_ns)
            began_ns = mr_device_now_ns(loader->device);
        is_in_time = mr__gate_wait(&loader->ready, &loader->lock, patience);
    }
    if (began_ns) {
        loader->statistics.consumer_waits++;
        loader->statistics.consumer_wait_ns += mr_device_now_ns(loader->device) - began_ns;
    }
    return status;
}

/* Not under the lock; the slot is taken. */
static mr_status await_upload(const struct mr__loader_slot *slot, mr_stream *stream,
                              const struct mr__patience *patience, bool *is_late)
{
    if (stream) {
        *is_late = mr_event_query(slot->uploaded) == MR_E_BUSY;
        return mr_stream_wait_event(stream, slot->uploaded);
    }
    return mr__patience_wait_event(patience, slot->uploaded);
}

/* Makes the batch usable, or gives it up. The lock is given up meanwhile. */
static mr_status make_usable(mr_loader *loader, struct mr__loader_slot *slot, mr_stream *stream,
                             const struct mr__patience *patience)
{
    slot->state = MR__SLOT_TAKEN;
    if (!slot->is_upload_pending)
        return MR_OK;
    bool is_late = false;
    pthread_mutex_unlock(&loader->lock);
    mr_status status = await_upload(slot, stream, patience, &is_late);
    pthread_mutex_lock(&loader->lock);
    loader->statistics.late += is_late;
    if (!status)
        return MR_OK;
    slot->state = MR__SLOT_FILLED;
    mr__loader_drop_stale(loader); /* the epoch may have been left meanwhile */
    mr__gate_notify(&loader->ready, true);
    if (status == MR_E_TIMEOUT)
        return mr_error_set(status, "loader '%s': no batch was there within the time given",
                            loader->name);
    if (status != MR_E_BUSY && !stream) {
        mr__loader_fail(loader, status, mr_last_error(), true);
        status = mr__loader_say_failure(loader);
    }
    return status;
}

static void lend(mr_loader *loader, const struct mr__loader_slot *slot, mr_batch *batch)
{
    *batch = (mr_batch){ .epoch = slot->epoch,
                         .batch = slot->batch,
                         .sample_count = slot->sample_count,
                         .field_count = loader->field_count,
                         .samples = slot->samples,
                         .fields = slot->views,
                         .user = slot->user,
                         .slot = (uint32_t)(slot - loader->front.slots),
                         .sequence = slot->sequence };
    loader->statistics.batches++;
    loader->statistics.samples += slot->sample_count;
    for (uint32_t i = 0; i < loader->field_count; i++)
        loader->statistics.bytes += slot->views[i].size_bytes;
}

static mr_status check_stream(const char *call, const mr_loader *loader, const mr_stream *stream)
{
    if (!stream || mr_stream_device(stream) == loader->device)
        return mr_capture_refuse(stream, call,
                                 "a loader lends a batch for one use, not for every launch");
    return mr_error_set(MR_E_INVALID, "%s: loader '%s' is of %s, the stream of %s", call,
                        loader->name, mr_device_id(loader->device),
                        mr_device_id(mr_stream_device(stream)));
}

mr_status mr_loader_next(mr_loader *loader, mr_stream *stream, uint64_t timeout_ns, mr_batch *batch)
{
    *batch = (mr_batch){ 0 };
    if (!loader)
        return mr_error_set(MR_E_INVALID, "mr_loader_next: loader is NULL");
    mr_status status = check_stream("mr_loader_next", loader, stream);
    if (status)
        return status;
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    struct mr__loader_slot *slot = NULL;
    pthread_mutex_lock(&loader->lock);
    status = await_batch(loader, &patience, &slot);
    if (!status)
        status = make_usable(loader, slot, stream, &patience);
    if (!status)
        lend(loader, slot, batch);
    pthread_mutex_unlock(&loader->lock);
    return status;
}

/* ---- release ---- */

static struct mr__loader_slot *find_taken(const mr_loader *loader, const mr_batch *batch)
{
    if (batch->slot >= loader->front.count || !batch->fields)
        return NULL;
    struct mr__loader_slot *slot = &loader->front.slots[batch->slot];
    const bool is_taken = slot->state == MR__SLOT_TAKEN && slot->sequence == batch->sequence;
    return is_taken ? slot : NULL;
}

mr_status mr_loader_release(mr_loader *loader, mr_stream *stream, const mr_batch *batch)
{
    if (!loader || !batch)
        return mr_error_set(MR_E_INVALID, "mr_loader_release: %s is NULL",
                            loader ? "batch" : "loader");
    mr_status status = check_stream("mr_loader_release", loader, stream);
    if (status)
        return status;
    pthread_mutex_lock(&loader->lock);
    struct mr__loader_slot *slot = find_taken(loader, batch);
    if (!slot)
        status = mr_error_set(MR_E_STATE, "loader '%s': batch %llu of epoch %llu is not lent",
                              loader->name, (unsigned long long)batch->batch,
                              (unsigned long long)batch->epoch);
    if (slot && stream) {
        slot->state = MR__SLOT_RELEASING;
        pthread_mutex_unlock(&loader->lock);
        status = mr_event_record(slot->released, stream);
        pthread_mutex_lock(&loader->lock);
        slot->state = MR__SLOT_TAKEN;
    }
    if (!status) {
        slot->is_release_pending = stream != NULL;
        mr__loader_give_free(loader, slot);
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

/* ---- epochs and the end ---- */

mr_status mr_loader_begin_epoch(mr_loader *loader)
{
    if (!loader)
        return mr_error_set(MR_E_INVALID, "mr_loader_begin_epoch: loader is NULL");
    mr_status status = MR_OK;
    const uint64_t end = loader->options.epoch_count;
    pthread_mutex_lock(&loader->lock);
    if (loader->failure && loader->is_urgent) {
        status = mr__loader_say_failure(loader);
    } else if (loader->is_stopped) {
        status = say_stopped(loader);
    } else if (end && loader->read_epoch + 1 >= end) {
        status = MR_END;
    } else {
        loader->read_epoch++;
        mr__loader_drop_stale(loader);
        mr__loader_notify_all(loader);
    }
    pthread_mutex_unlock(&loader->lock);
    return status;
}

void mr_loader_stop(mr_loader *loader)
{
    if (!loader)
        return;
    pthread_mutex_lock(&loader->lock);
    const bool is_first = !loader->is_stopped;
    loader->is_stopped = true;
    mr__loader_notify_all(loader);
    pthread_mutex_unlock(&loader->lock);
    if (is_first && loader->started_count && loader->options.interrupt)
        loader->options.interrupt(loader->options.context);
}
