/* SPDX-License-Identifier: MIT */
/*
 * A worker: draws a batch, makes sure that its slot is no longer read, has `fill` prepare it, and checks
 * what `fill` said.
 */
#include "base/alloc.h"
#include "flow/loader_parts.h"
#include "flow/loader_shuffle.h"

#include <stdio.h>
#include <string.h>

/* ---- before ---- */

/* Nothing reads the slot's memory any more, nor what was lent for it. */
static mr_status await_slot(mr_loader *loader, struct mr__loader_slot *slot)
{
    mr_status status = MR_OK;
    if (slot->is_release_pending && !loader->has_upload)
        (void)!mr_event_wait(slot->released); /* a consumer's failure is its own */
    if (slot->is_upload_pending)
        status = mr_event_wait(slot->uploaded);
    if (status)
        return mr_error_prefix(status, "uploading an earlier batch: ");
    slot->is_upload_pending = slot->is_release_pending = false;
    return MR_OK;
}

static void present_fields(const mr_loader *loader, const struct mr__loader_slot *slot)
{
    char *memory = slot->memory ? mr_buffer_host(slot->memory) : NULL;
    for (uint32_t i = 0; i < loader->field_count; i++) {
        const struct mr__loader_field *field = &loader->fields[i];
        slot->fields[i] = (mr_fill_field){
            .data = field->is_lent ? NULL : memory + loader->filling->offsets[i],
            .capacity_bytes = field->capacity_bytes,
            .size_bytes = field->sample_bytes * slot->drawn_count,
        };
    }
}

/* ---- fill, and a thread that ends in it ---- */

struct filling {
    struct mr__loader_worker *worker;
    struct mr__loader_slot *slot;
    uint64_t began_ns;
};

static void name_place(const mr_loader *loader, const struct mr__loader_slot *slot, uint32_t worker,
                       char *place, size_t place_bytes)
{
    snprintf(place, place_bytes, "loader '%s', epoch %llu, batch %llu, worker %u: ", loader->name,
             (unsigned long long)slot->epoch, (unsigned long long)slot->batch, worker);
}

/* The slot holds the failure for good; the rest of the loader goes on up to it. */
static void fail_slot(mr_loader *loader, struct mr__loader_slot *slot, mr_status status,
                      const char *words)
{
    slot->state = MR__SLOT_FAILED;
    slot->filled_at = ++loader->stamp;
    slot->status = status;
    snprintf(slot->words, sizeof slot->words, "%s", words);
    loader->is_failing = true;
    mr__loader_notify_all(loader);
}

static void end_filling(const struct filling *filling)
{
    mr_loader *loader = filling->worker->loader;
    const uint64_t spent_ns = mr_device_now_ns(loader->device) - filling->began_ns;
    filling->worker->statistics.fill_ns += spent_ns;
    loader->statistics.fill_ns += spent_ns;
}

/* Runs when a function of the user's does not come back: its thread ends instead. */
static void bury(void *context)
{
    const struct filling *filling = context;
    struct mr__loader_worker *worker = filling->worker;
    char words[512];
    name_place(worker->loader, filling->slot, worker->index, words, sizeof words);
    const size_t length = strlen(words);
    snprintf(words + length, sizeof words - length,
             "its thread has ended in a function of the user's: return a status instead of calling "
             "pthread_exit, and do not cancel the thread");
    pthread_mutex_lock(&worker->loader->lock);
    end_filling(filling);
    worker->statistics.failures++;
    worker->statistics.is_gone = true;
    fail_slot(worker->loader, filling->slot, MR_E_CALLBACK, words);
    pthread_mutex_unlock(&worker->loader->lock);
}

/* Threads can be cancelled here and nowhere else: here they hold nothing. */
static mr_status call_fill(const mr_loader_options *options, mr_fill_call *call)
{
    int unused;
    (void)mr_error_set(MR_OK, "%s", "");
    pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &unused);
    const mr_status status = options->fill(options->context, call);
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &unused);
    return status;
}

/* ---- after ---- */

static mr_status check_lent(const mr_loader *loader, uint32_t index, const mr_fill_field *field)
{
    const char *name = loader->fields[index].name;
    if (!field->size_bytes)
        return MR_OK;
    if (!field->buffer == !field->data)
        return mr_error_set(MR_E_INVALID, "fill: field '%s' is lent: set one of data and buffer",
                            name);
    if (field->data)
        return MR_OK;
    const size_t end = mr_buffer_size(field->buffer);
    if (!mr_buffer_host(field->buffer))
        return mr_error_set(MR_E_INVALID, "fill: field '%s' lends memory that the host cannot read",
                            name);
    if (field->offset > end || field->size_bytes > end - field->offset)
        return mr_error_set(MR_E_INVALID, "fill: field '%s' is bytes %zu to %zu + %zu of %zu", name,
                            field->offset, field->offset, field->size_bytes, end);
    return MR_OK;
}

static mr_status check_filled(const mr_loader *loader, const struct mr__loader_slot *slot,
                              const mr_fill_call *call)
{
    if (call->sample_count > slot->drawn_count)
        return mr_error_set(MR_E_INVALID, "fill: sample_count is %u; %u were asked for",
                            call->sample_count, slot->drawn_count);
    mr_status status = MR_OK;
    for (uint32_t i = 0; !status && i < loader->field_count; i++) {
        const mr_fill_field *field = &slot->fields[i];
        if (field->size_bytes > loader->fields[i].capacity_bytes)
            return mr_error_set(MR_E_INVALID, "fill: field '%s' has %zu bytes; it may have %zu",
                                loader->fields[i].name, field->size_bytes,
                                loader->fields[i].capacity_bytes);
        if (loader->fields[i].is_lent)
            status = check_lent(loader, i, field);
    }
    return status;
}

static bool is_lent_from(const mr_loader *loader, const struct mr__loader_slot *slot)
{
    for (uint32_t i = 0; i < loader->field_count; i++) {
        if (loader->fields[i].is_lent && (slot->fields[i].data || slot->fields[i].buffer))
            return true;
    }
    return false;
}

/* Where consumers read what workers wrote. Ordinary memory that was lent is copied here. */
static void show_fields(const mr_loader *loader, struct mr__loader_slot *slot)
{
    for (uint32_t i = 0; i < loader->field_count; i++) {
        const mr_fill_field *field = &slot->fields[i];
        const size_t offset = loader->front.offsets[i];
        const bool is_lent = loader->fields[i].is_lent;
        if (is_lent && field->data && field->size_bytes)
            memcpy((char *)mr_buffer_host(slot->memory) + offset, field->data, field->size_bytes);
        const bool is_own = !is_lent || !field->buffer;
        slot->views[i] = (mr_batch_field){
            .buffer = is_own ? slot->memory : field->buffer,
            .offset = is_own ? offset : field->offset,
            .size_bytes = field->size_bytes,
        };
    }
}

static mr_status run_fill(const struct filling *filling)
{
    mr_loader *loader = filling->worker->loader;
    struct mr__loader_slot *slot = filling->slot;
    mr_fill_call call = {
        .epoch = slot->epoch,
        .batch = slot->batch,
        .worker = filling->worker->index,
        .sample_count = slot->drawn_count,
        .samples = slot->samples,
        .seed = mr__shuffle_mix(loader->options.seed, slot->epoch, slot->batch),
        .field_count = loader->field_count,
        .fields = slot->fields,
    };
    present_fields(loader, slot);
    mr_status status = call_fill(&loader->options, &call);
    if (status)
        return status == MR_END || status < MR_OK ? status : MR_E_CALLBACK;
    slot->user = call.user;
    if (is_lent_from(loader, slot)) {
        slot->is_lent_from = true;
        slot->lent_epoch = slot->epoch;
        slot->lent_batch = slot->batch;
        slot->lent_user = slot->user;
    }
    status = check_filled(loader, slot, &call);
    slot->sample_count = call.sample_count;
    if (!status && !loader->has_upload)
        show_fields(loader, slot);
    return status;
}

/* What may fail for want of the user's care. A failure before `fill` is not one of the batch's own. */
static mr_status run_user(struct filling *filling, bool *may_skip)
{
    mr_status status;
    *may_skip = false;
    pthread_cleanup_push(bury, filling);
    status = mr__loader_choose_samples(filling->worker->loader, filling->slot);
    if (!status) {
        *may_skip = true;
        status = run_fill(filling);
    }
    pthread_cleanup_pop(0);
    return status;
}

/* ---- the outcome ---- */

static bool keep_skipped(mr_loader *loader, const struct mr__loader_slot *slot, uint32_t worker,
                         mr_status status, const char *words)
{
    loader->statistics.skipped++;
    if (!loader->skipped)
        loader->skipped = mr__zalloc_array(MR_LOADER_SKIPPED_LIMIT, sizeof *loader->skipped);
    if (!loader->skipped)
        return false;
    if (loader->skipped_kept == MR_LOADER_SKIPPED_LIMIT)
        return true;
    mr_skipped_batch *kept = &loader->skipped[loader->skipped_kept++];
    *kept = (mr_skipped_batch){
        .epoch = slot->epoch, .batch = slot->batch, .worker = worker, .status = status
    };
    snprintf(kept->words, sizeof kept->words, "%.255s", words);
    return true;
}

static void end_failed(struct mr__loader_worker *worker, struct mr__loader_slot *slot,
                       mr_status status, bool may_skip)
{
    mr_loader *loader = worker->loader;
    char words[MR_ERROR_BYTES], place[256];
    const char *cause = *mr_last_error() ? mr_last_error() : mr_status_text(status);
    name_place(loader, slot, worker->index, place, sizeof place);
    snprintf(words, sizeof words, "%.255s%.767s", place, cause);
    worker->statistics.failures++;
    const bool is_skipped = may_skip && loader->options.on_error == MR_ERROR_SKIP &&
                            keep_skipped(loader, slot, worker->index, status, words);
    if (!is_skipped) {
        fail_slot(loader, slot, status, words);
        return;
    }
    mr__loader_give_free(loader, slot);
    mr__gate_notify(&loader->ready, true); /* it may have been the epoch's last */
    mr__gate_notify(&loader->work, true);  /* or the one that was due */
}

static void end_batch(struct mr__loader_worker *worker, struct mr__loader_slot *slot)
{
    mr_loader *loader = worker->loader;
    worker->statistics.batches++;
    loader->statistics.filled++;
    slot->state = MR__SLOT_FILLED;
    slot->filled_at = ++loader->stamp;
    if (mr__loader_is_stale(loader, slot)) {
        loader->statistics.left_out++;
        mr__loader_give_free(loader, slot);
    }
    mr__gate_notify(&loader->work, true);
    if (!loader->has_upload)
        mr__gate_notify(&loader->ready, true);
}

static void end_outcome(struct mr__loader_worker *worker, struct mr__loader_slot *slot,
                        mr_status status, bool may_skip)
{
    mr_loader *loader = worker->loader;
    if (status == MR_END) {
        mr__loader_end_epoch(loader, slot);
        mr__loader_give_free(loader, slot);
        mr__loader_drop_stale(loader);
        mr__loader_notify_all(loader);
    } else if (status) {
        end_failed(worker, slot, status, may_skip);
    } else {
        end_batch(worker, slot);
    }
}

/* Under the lock, given up meanwhile. */
static void prepare_batch(struct mr__loader_worker *worker, struct mr__loader_slot *slot,
                          uint64_t waited_ns)
{
    mr_loader *loader = worker->loader;
    struct filling filling = { .worker = worker, .slot = slot };
    bool may_skip = false;
    pthread_mutex_unlock(&loader->lock);
    const uint64_t began_ns = mr_device_now_ns(loader->device);
    const mr_status awaited = await_slot(loader, slot);
    if (!awaited)
        mr__loader_give_back(loader, slot);
    filling.began_ns = mr_device_now_ns(loader->device);
    mr_status status = awaited;
    if (!status && !slot->drawn_count)
        status = mr_error_set(MR_E_CALLBACK, "next_size answers no number from 1 to %u",
                              loader->options.batch_size);
    if (!status)
        status = run_user(&filling, &may_skip);

    pthread_mutex_lock(&loader->lock);
    end_filling(&filling);
    waited_ns += filling.began_ns - began_ns;
    worker->statistics.wait_ns += waited_ns;
    loader->statistics.fill_wait_ns += waited_ns;
    end_outcome(worker, slot, status, may_skip);
    if (awaited)
        mr__loader_fail(loader, awaited, slot->words, true);
}

/* Sleeps until something has changed. */
static void await_room(struct mr__loader_worker *worker)
{
    mr_loader *loader = worker->loader;
    const struct mr__patience forever = mr__patience_begin(MR_FOREVER);
    if (!worker->wait_began_ns)
        worker->wait_began_ns = mr_device_now_ns(loader->device);
    (void)mr__gate_wait(&loader->room, &loader->lock, &forever);
}

static uint64_t end_waiting(struct mr__loader_worker *worker)
{
    if (!worker->wait_began_ns)
        return 0;
    const uint64_t waited_ns = mr_device_now_ns(worker->loader->device) - worker->wait_began_ns;
    worker->wait_began_ns = 0;
    return waited_ns;
}

void *mr__loader_work(void *context)
{
    struct mr__loader_worker *worker = context;
    mr_loader *loader = worker->loader;
    int unused;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &unused);
    pthread_mutex_lock(&loader->lock);
    while (!loader->is_stopped && !loader->is_failing) {
        struct mr__loader_slot *slot = mr__loader_draw(loader);
        if (slot)
            prepare_batch(worker, slot, end_waiting(worker));
        else
            await_room(worker);
    }
    worker->wait_began_ns = 0;
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}
