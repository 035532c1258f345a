/* SPDX-License-Identifier: MIT */
/*
 * The upload thread: submits the copies of the batch that is due as soon as there is a slot for it on
 * the device. Nothing but staging makes it wait for the device: the stream does that.
 */
#include "flow/loader_parts.h"

#include <stdio.h>

enum {
    MERGED_GAP_BYTES = 16384, /* copying so much more costs less than another copy */
    TIMED_EVERY = 16
};

/* ---- copies ---- */

/* Bytes of the fields from `first` on that travel in one copy, and the field after them. */
static size_t merge_fields(const mr_loader *loader, const struct mr__loader_slot *from,
                           uint32_t first, uint32_t *next)
{
    const size_t *rear = loader->rear.offsets, *front = loader->front.offsets;
    size_t size_bytes = from->fields[first].size_bytes;
    uint32_t i = first + 1;
    for (; i < loader->field_count; i++) {
        const size_t distance = front[i] - front[first];
        if (loader->fields[i].is_lent || rear[i] - rear[first] != distance ||
            distance - size_bytes > MERGED_GAP_BYTES)
            break;
        if (from->fields[i].size_bytes)
            size_bytes = distance + from->fields[i].size_bytes;
    }
    *next = i;
    return size_bytes;
}

static mr_status copy_lent(const mr_loader *loader, const struct mr__loader_slot *from,
                           const struct mr__loader_slot *to, uint32_t index)
{
    const mr_fill_field *field = &from->fields[index];
    const size_t offset = loader->front.offsets[index];
    if (!field->size_bytes)
        return MR_OK;
    if (field->buffer && mr_buffer_place(field->buffer) == MR_PLACE_PINNED)
        return mr_copy(loader->stream, to->memory, offset, field->buffer, field->offset,
                       field->size_bytes);
    const char *data =
        field->buffer ? (char *)mr_buffer_host(field->buffer) + field->offset : (char *)field->data;
    return mr_staging_upload(loader->staging, loader->stream, to->memory, offset, data,
                             field->size_bytes);
}

static mr_status copy_fields(const mr_loader *loader, const struct mr__loader_slot *from,
                             const struct mr__loader_slot *to)
{
    mr_status status = MR_OK;
    for (uint32_t i = 0, next; !status && i < loader->field_count; i = next) {
        next = i + 1;
        if (loader->fields[i].is_lent) {
            status = copy_lent(loader, from, to, i);
            continue;
        }
        const size_t size_bytes = merge_fields(loader, from, i, &next);
        status = mr_copy(loader->stream, to->memory, loader->front.offsets[i], from->memory,
                         loader->rear.offsets[i], size_bytes);
    }
    return status;
}

/* One upload in so many is timed, while the events of the last are not still under way. */
static bool begin_timing(mr_loader *loader)
{
    int64_t elapsed_ns;
    if (loader->is_timed) {
        const mr_status status =
            mr_event_elapsed(loader->timed_start, loader->timed_end, &elapsed_ns);
        if (status == MR_E_BUSY)
            return false;
        loader->is_timed = false;
        if (!status && elapsed_ns > 0) {
            pthread_mutex_lock(&loader->lock);
            loader->timed_count++;
            loader->timed_ns += (uint64_t)elapsed_ns;
            pthread_mutex_unlock(&loader->lock);
        }
    }
    return loader->upload_sequence % TIMED_EVERY == 0 &&
           mr_event_record(loader->timed_start, loader->stream) == MR_OK;
}

/* Not under the lock. */
static mr_status upload(mr_loader *loader, struct mr__loader_slot *from, struct mr__loader_slot *to)
{
    mr_status status = MR_OK;
    if (to->is_release_pending)
        status = mr_stream_wait_event(loader->stream, to->released);
    to->is_release_pending = false;
    const bool is_timed = !status && begin_timing(loader);
    if (!status)
        status = copy_fields(loader, from, to);
    if (!status && is_timed)
        loader->is_timed = mr_event_record(loader->timed_end, loader->stream) == MR_OK;
    if (!status)
        status = mr_event_record(to->uploaded, loader->stream);
    if (!status)
        status = mr_event_record(from->uploaded, loader->stream);
    return status;
}

/* ---- from slot to slot ---- */

static void describe(const mr_loader *loader, struct mr__loader_slot *from,
                     struct mr__loader_slot *to)
{
    uint64_t *samples = to->samples;
    to->samples = from->samples;
    from->samples = samples;
    to->epoch = from->epoch;
    to->batch = from->batch;
    to->sample_count = from->sample_count;
    to->user = from->user;
    for (uint32_t i = 0; i < loader->field_count; i++)
        to->views[i] = (mr_batch_field){ .buffer = to->memory,
                                         .offset = loader->front.offsets[i],
                                         .size_bytes = from->fields[i].size_bytes };
}

static void end_move(mr_loader *loader, struct mr__loader_slot *from, struct mr__loader_slot *to)
{
    from->is_upload_pending = true;
    mr__loader_give_free(loader, from);
    to->state = MR__SLOT_FILLED;
    to->is_upload_pending = true;
    if (mr__loader_is_stale(loader, to)) {
        loader->statistics.left_out++;
        mr__loader_give_free(loader, to);
    }
    loader->upload_count++;
    mr__gate_notify(&loader->ready, true);
}

/* Under the lock, given up meanwhile. */
static void move_batch(mr_loader *loader, struct mr__loader_slot *from, struct mr__loader_slot *to)
{
    from->state = MR__SLOT_MOVING;
    to->state = MR__SLOT_FILLING;
    to->filled_at = to->sequence = loader->upload_sequence++;
    describe(loader, from, to);
    pthread_mutex_unlock(&loader->lock);
    const mr_status status = upload(loader, from, to);
    pthread_mutex_lock(&loader->lock);
    if (!status) {
        end_move(loader, from, to);
        return;
    }
    char words[MR_ERROR_BYTES];
    snprintf(words, sizeof words, "loader '%.63s', epoch %llu, batch %llu, upload: %.768s",
             loader->name, (unsigned long long)to->epoch, (unsigned long long)to->batch,
             mr_last_error());
    mr__loader_fail(loader, status, words, true);
}

void *mr__loader_serve_uploads(void *context)
{
    mr_loader *loader = context;
    const struct mr__patience forever = mr__patience_begin(MR_FOREVER);
    pthread_mutex_lock(&loader->lock);
    while (!loader->is_stopped && !loader->failure) {
        struct mr__loader_slot *from = mr__loader_due(loader, &loader->rear);
        struct mr__loader_slot *to = mr__loader_find_free(&loader->front);
        if (from && from->state == MR__SLOT_FAILED)
            mr__loader_fail(loader, from->status, from->words, false);
        else if (from && to)
            move_batch(loader, from, to);
        else
            (void)mr__gate_wait(&loader->work, &loader->lock, &forever);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}
