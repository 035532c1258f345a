/* SPDX-License-Identifier: MIT */
/*
 * Which batch is prepared next, and of which samples: epochs, their order, and where they end.
 *
 * Drawing runs at most one epoch ahead of the consumers, so that two places suffice for where an epoch
 * was said to end.
 */
#include "flow/loader_parts.h"

#include "flow/loader_shuffle.h"

#include <string.h>

static uint64_t *end_batch(mr_loader *loader, uint64_t epoch)
{
    return &loader->end_batches[epoch % 2];
}

static bool is_past_last(const mr_loader *loader, uint64_t epoch)
{
    return loader->options.epoch_count && epoch >= loader->options.epoch_count;
}

static uint64_t samples_left(const mr_loader *loader)
{
    const uint64_t count = loader->options.sample_count;
    return count ? count - loader->draw.sample : UINT64_MAX;
}

/* The cursor's epoch has no more batches. */
static bool is_exhausted(const mr_loader *loader)
{
    const struct mr__loader_cursor *draw = &loader->draw;
    if (is_past_last(loader, draw->epoch) || draw->batch >= loader->end_batches[draw->epoch % 2])
        return true;
    const uint64_t left = samples_left(loader);
    return !left || (loader->options.is_last_dropped && left < loader->options.batch_size);
}

bool mr__loader_is_drawn(const mr_loader *loader, uint64_t epoch)
{
    return loader->draw.epoch > epoch || (loader->draw.epoch == epoch && is_exhausted(loader));
}

static void move_to_epoch(mr_loader *loader, uint64_t epoch)
{
    loader->draw = (struct mr__loader_cursor){ .epoch = epoch };
    *end_batch(loader, epoch) = MR__LOADER_NONE;
}

/* False: there is nothing to draw now. */
static bool find_batch(mr_loader *loader)
{
    if (loader->draw.epoch < loader->read_epoch)
        move_to_epoch(loader, loader->read_epoch);
    if (!is_exhausted(loader))
        return true;
    const uint64_t next = loader->draw.epoch + 1;
    const uint64_t ahead = loader->options.is_epoch_awaited ? 0 : 1;
    if (is_past_last(loader, next) || next > loader->read_epoch + ahead)
        return false;
    move_to_epoch(loader, next);
    return !is_exhausted(loader);
}

/* Samples in the cursor's batch; 0 where the user's function is wrong. */
static uint32_t size_batch(const mr_loader *loader)
{
    const mr_loader_options *options = &loader->options;
    const struct mr__loader_cursor *draw = &loader->draw;
    const uint64_t left = samples_left(loader);
    uint32_t count = options->batch_size;
    if (options->next_size)
        count = options->next_size(options->context, draw->epoch, draw->batch, left);
    if (count > options->batch_size)
        return 0;
    return count < left ? count : (uint32_t)left;
}

/* Takes the cursor's batch. */
static uint32_t pass_batch(mr_loader *loader)
{
    const uint32_t count = size_batch(loader);
    loader->draw.batch++;
    loader->draw.sample += count;
    return count;
}

static mr_status say_no_such_batch(const mr_loader *loader, uint64_t batch_count)
{
    return mr_error_set(MR_E_INVALID, "loader: first_batch is %llu; the epoch has %llu",
                        (unsigned long long)loader->options.first_batch,
                        (unsigned long long)batch_count);
}

/* All batches but the last have the same size. */
static mr_status jump_to_batch(mr_loader *loader)
{
    const mr_loader_options *options = &loader->options;
    const uint64_t whole = options->sample_count / options->batch_size;
    const bool has_rest = options->sample_count % options->batch_size && !options->is_last_dropped;
    const uint64_t batch_count = is_past_last(loader, options->first_epoch) ? 0 : whole + has_rest;
    if (options->first_batch > batch_count)
        return say_no_such_batch(loader, batch_count);
    const bool is_end = options->first_batch > whole;
    loader->draw.batch = options->first_batch;
    loader->draw.sample =
        is_end ? options->sample_count : options->first_batch * options->batch_size;
    return MR_OK;
}

mr_status mr__loader_begin(mr_loader *loader)
{
    const mr_loader_options *options = &loader->options;
    loader->read_epoch = options->first_epoch;
    loader->ordered_epoch = MR__LOADER_NONE;
    loader->end_batches[0] = loader->end_batches[1] = MR__LOADER_NONE;
    loader->draw = (struct mr__loader_cursor){ .epoch = options->first_epoch };
    if (!options->sample_count) {
        loader->draw.batch = options->first_batch;
        return MR_OK;
    }
    if (!options->next_size)
        return jump_to_batch(loader);
    while (loader->draw.batch < options->first_batch) {
        if (is_exhausted(loader))
            return say_no_such_batch(loader, loader->draw.batch);
        if (!pass_batch(loader))
            return mr_error_set(MR_E_INVALID,
                                "loader: next_size answers no number from 1 to %u for batch %llu",
                                options->batch_size, (unsigned long long)loader->draw.batch - 1);
    }
    return MR_OK;
}

static void copy_order(const mr_loader *loader, struct mr__loader_slot *slot)
{
    memcpy(slot->samples, loader->order + slot->first_sample,
           slot->drawn_count * sizeof *slot->samples);
}

struct mr__loader_slot *mr__loader_draw(mr_loader *loader)
{
    const struct mr__loader_cursor *draw = &loader->draw;
    struct mr__loader_slot *slot = mr__loader_find_free(loader->filling);
    if (!slot || loader->is_failing || loader->is_stopped || !find_batch(loader))
        return NULL;
    const bool has_order = !loader->order || loader->ordered_epoch == draw->epoch;
    if (!has_order && loader->is_ordering)
        return NULL;

    slot->state = MR__SLOT_FILLING;
    slot->sequence = loader->sequence++;
    slot->epoch = draw->epoch;
    slot->batch = draw->batch;
    slot->first_sample = draw->sample;
    slot->drawn_count = slot->sample_count = pass_batch(loader);
    slot->is_ordering = !has_order;
    slot->user = 0;
    if (!has_order)
        loader->is_ordering = true;
    else if (loader->order)
        copy_order(loader, slot);
    return slot;
}

void mr__loader_end_epoch(mr_loader *loader, const struct mr__loader_slot *slot)
{
    uint64_t *end = end_batch(loader, slot->epoch);
    if (slot->epoch >= loader->read_epoch && slot->batch < *end)
        *end = slot->batch;
}

void mr__loader_next_draw(const mr_loader *loader, uint64_t *epoch, uint64_t *batch)
{
    const struct mr__loader_cursor *draw = &loader->draw;
    const bool is_behind = draw->epoch < loader->read_epoch;
    const bool is_over = is_exhausted(loader) && !is_past_last(loader, draw->epoch);
    *epoch = is_behind ? loader->read_epoch : draw->epoch + is_over;
    *batch = is_behind || is_over ? 0 : draw->batch;
}

/* ---- samples ---- */

static mr_status make_order(mr_loader *loader, uint64_t epoch)
{
    const mr_loader_options *options = &loader->options;
    (void)mr_error_set(MR_OK, "%s", "");
    mr_status status =
        options->reorder(options->context, epoch, loader->order, options->sample_count);
    if (status)
        return mr_error_prefix(status < MR_OK ? status : MR_E_CALLBACK, "reorder: ");
    for (uint64_t i = 0; i < options->sample_count; i++) {
        if (loader->order[i] >= options->sample_count)
            return mr_error_set(MR_E_INVALID, "reorder: place %llu has sample %llu; there are %llu",
                                (unsigned long long)i, (unsigned long long)loader->order[i],
                                (unsigned long long)options->sample_count);
    }
    return MR_OK;
}

/* Nobody else touches the order while `is_ordering` is set. */
static mr_status make_order_first(mr_loader *loader, struct mr__loader_slot *slot)
{
    const mr_status status = make_order(loader, slot->epoch);
    if (!status)
        copy_order(loader, slot);
    pthread_mutex_lock(&loader->lock);
    loader->is_ordering = false;
    if (status)
        loader->is_failing = true;
    else
        loader->ordered_epoch = slot->epoch;
    mr__gate_notify(&loader->room, true);
    pthread_mutex_unlock(&loader->lock);
    return status;
}

mr_status mr__loader_choose_samples(mr_loader *loader, struct mr__loader_slot *slot)
{
    const mr_loader_options *options = &loader->options;
    if (!options->sample_count)
        return MR_OK;
    if (slot->is_ordering)
        return make_order_first(loader, slot);
    if (loader->order)
        return MR_OK;

    struct mr__shuffle shuffle;
    if (options->is_shuffled)
        mr__shuffle_init(&shuffle, options->sample_count, options->seed, slot->epoch);
    for (uint32_t i = 0; i < slot->drawn_count; i++) {
        const uint64_t place = slot->first_sample + i;
        slot->samples[i] = options->is_shuffled ? mr__shuffle_at(&shuffle, place) : place;
    }
    return MR_OK;
}
