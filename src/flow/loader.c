/* SPDX-License-Identifier: MIT */
/*
 * Making and ending loaders. See loader_parts.h for the whole.
 */
#include "flow/loader_parts.h"

#include "base/alloc.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

enum {
    COUNT_LIMIT = 1024,
    PREFETCH_EXTRA = 2,
    SLOT_COUNT_DEFAULT = 4,
    FEWEST = 2,
    MEMORY_SHARE = 4, /* automatic counts take at most this part of what there is */
    ALIGNMENT = 256
};

/* ---- failure and notice ---- */

void mr__loader_notify_all(mr_loader *loader)
{
    mr__gate_notify(&loader->room, true);
    mr__gate_notify(&loader->work, true);
    mr__gate_notify(&loader->ready, true);
}

void mr__loader_fail(mr_loader *loader, mr_status status, const char *words, bool is_urgent)
{
    loader->is_failing = true;
    loader->is_urgent |= is_urgent;
    if (!loader->failure) {
        loader->failure = status;
        snprintf(loader->failure_words, sizeof loader->failure_words, "%s", words);
    }
    mr__loader_notify_all(loader);
}

mr_status mr__loader_say_failure(const mr_loader *loader)
{
    return mr_error_set(loader->failure, "%s", loader->failure_words);
}

/* ---- checks ---- */

static mr_status check_fields(const mr_loader_options *options)
{
    if (!options->fields || !options->field_count || options->field_count > MR_LOADER_FIELD_LIMIT)
        return mr_error_set(MR_E_INVALID, "loader: field_count is %zu; it may be 1 to %d",
                            options->fields ? options->field_count : 0, MR_LOADER_FIELD_LIMIT);
    for (size_t i = 0; i < options->field_count; i++) {
        const mr_loader_field *field = &options->fields[i];
        if (!field->sample_bytes && !field->batch_bytes)
            return mr_error_set(MR_E_INVALID,
                                "loader: fields[%zu] has no size: give sample_bytes or batch_bytes",
                                i);
        const size_t limit = field->batch_bytes ? field->batch_bytes : SIZE_MAX / COUNT_LIMIT;
        if (field->sample_bytes > limit / options->batch_size)
            return mr_error_set(MR_E_INVALID,
                                "loader: fields[%zu]: %u samples of %zu bytes are more than %zu", i,
                                options->batch_size, field->sample_bytes, limit);
    }
    return MR_OK;
}

static mr_status check_samples(const mr_loader_options *options)
{
    const bool is_known = options->sample_count != 0;
    if (options->is_shuffled && options->reorder)
        return mr_error_set(MR_E_INVALID, "loader: is_shuffled and reorder: give one of them");
    if (!is_known && (options->is_shuffled || options->reorder))
        return mr_error_set(MR_E_INVALID, "loader: %s needs sample_count",
                            options->reorder ? "reorder" : "is_shuffled");
    if (options->is_last_dropped && options->next_size)
        return mr_error_set(MR_E_INVALID,
                            "loader: is_last_dropped and next_size: give one of them");
    if (is_known && options->is_last_dropped && options->sample_count < options->batch_size)
        return mr_error_set(MR_E_INVALID,
                            "loader: %llu samples do not fill a batch of %u, and a last batch of "
                            "fewer is left out: lower batch_size or keep it",
                            (unsigned long long)options->sample_count, options->batch_size);
    if (options->epoch_count && options->first_epoch > options->epoch_count)
        return mr_error_set(MR_E_INVALID, "loader: first_epoch is %llu; there are %llu epochs",
                            (unsigned long long)options->first_epoch,
                            (unsigned long long)options->epoch_count);
    return MR_OK;
}

static mr_status check_counts(const mr_loader_options *options)
{
    if (options->worker_count > MR_LOADER_WORKER_LIMIT)
        return mr_error_set(MR_E_INVALID, "loader: worker_count is %u; at most %d",
                            options->worker_count, MR_LOADER_WORKER_LIMIT);
    if (options->prefetch_count > COUNT_LIMIT)
        return mr_error_set(MR_E_INVALID, "loader: prefetch_count is %u; at most %d",
                            options->prefetch_count, COUNT_LIMIT);
    if (options->slot_count > COUNT_LIMIT)
        return mr_error_set(MR_E_INVALID, "loader: slot_count is %u; at most %d",
                            options->slot_count, COUNT_LIMIT);
    if ((unsigned)options->order > MR_LOADER_AS_COMPLETED)
        return mr_error_set(MR_E_INVALID, "loader: order is %d, which is none",
                            (int)options->order);
    if ((unsigned)options->on_error > MR_ERROR_SKIP)
        return mr_error_set(MR_E_INVALID, "loader: on_error is %d, which is none",
                            (int)options->on_error);
    return MR_OK;
}

static mr_status check_options(const mr_device *device, const mr_loader_options *options)
{
    if (!device || !options)
        return mr_error_set(MR_E_INVALID, "loader: a device and options are required");
    if (!options->fill)
        return mr_error_set(MR_E_INVALID, "loader: fill is NULL; give the function that prepares a "
                                          "batch");
    if (!options->batch_size)
        return mr_error_set(MR_E_INVALID, "loader: batch_size is 0; give the samples of a batch");
    mr_status status = check_fields(options);
    if (!status)
        status = check_samples(options);
    return status ? status : check_counts(options);
}

/* ---- sizes and counts ---- */

static mr_status copy_fields(mr_loader *loader, const mr_loader_options *options)
{
    loader->field_count = (uint32_t)options->field_count;
    for (uint32_t i = 0; i < loader->field_count; i++) {
        const mr_loader_field *given = &options->fields[i];
        struct mr__loader_field *field = &loader->fields[i];
        field->name = given->name ? mr__copy_text(given->name) : mr__format_text("%u", i);
        if (!field->name)
            return mr_error_set(MR_E_NO_MEMORY, "loader '%s': no memory for a field's name",
                                loader->name);
        field->sample_bytes = given->sample_bytes;
        field->capacity_bytes =
            given->batch_bytes ? given->batch_bytes : given->sample_bytes * options->batch_size;
        field->is_lent = given->is_lent;
        loader->has_staged |= given->is_lent;
    }
    return MR_OK;
}

/* Fields one after the other; with lent ones only where they are copied to. */
static bool lay_out(const mr_loader *loader, struct mr__loader_tier *tier, bool has_lent)
{
    size_t end = 0;
    for (uint32_t i = 0; i < loader->field_count; i++) {
        tier->offsets[i] = end;
        if (loader->fields[i].is_lent && !has_lent)
            continue;
        const size_t bytes = loader->fields[i].capacity_bytes;
        if (bytes > SIZE_MAX / COUNT_LIMIT - ALIGNMENT - end)
            return false;
        end += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    }
    tier->slot_bytes = end;
    return true;
}

static uint32_t count_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : (uint32_t)CPU_COUNT(&set);
}

static uint32_t lower_to(uint32_t count, uint64_t memory_bytes, size_t slot_bytes)
{
    const uint64_t fitting = slot_bytes ? memory_bytes / MEMORY_SHARE / slot_bytes : count;
    if (fitting >= count)
        return count;
    return fitting < FEWEST ? FEWEST : (uint32_t)fitting;
}

static uint64_t host_memory(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : UINT64_MAX;
}

static mr_status choose_counts(mr_loader *loader)
{
    mr_loader_options *options = &loader->options;
    const uint32_t cpus = count_cpus();
    uint64_t free_bytes, total_bytes;
    const mr_status status = mr_device_memory(loader->device, &free_bytes, &total_bytes);
    if (status)
        return status;
    if (!options->worker_count) {
        options->worker_count = cpus > 1 ? cpus - 1 : 1;
        if (options->worker_count > MR_LOADER_WORKER_LIMIT)
            options->worker_count = MR_LOADER_WORKER_LIMIT;
    }
    const size_t rear_bytes =
        loader->has_upload ? loader->rear.slot_bytes : loader->front.slot_bytes;
    if (!options->prefetch_count)
        options->prefetch_count =
            lower_to(options->worker_count + PREFETCH_EXTRA, host_memory(), rear_bytes);
    if (!options->slot_count)
        options->slot_count = lower_to(SLOT_COUNT_DEFAULT, free_bytes, loader->front.slot_bytes);
    return MR_OK;
}

static mr_status choose_sizes(mr_loader *loader)
{
    mr_device_properties properties;
    mr_device_describe(loader->device, &properties);
    loader->has_upload = !properties.is_host_memory;
    if (!lay_out(loader, &loader->front, true) ||
        (loader->has_upload && !lay_out(loader, &loader->rear, false)))
        return mr_error_set(MR_E_INVALID, "loader '%s': a batch is larger than any memory",
                            loader->name);
    const mr_status status = choose_counts(loader);
    if (status)
        return status;
    loader->rear.count = loader->has_upload ? loader->options.prefetch_count : 0;
    loader->front.count = loader->options.slot_count;
    if (!loader->has_upload)
        loader->front.count += loader->options.prefetch_count;
    loader->filling = loader->has_upload ? &loader->rear : &loader->front;

    mr_loader_statistics *statistics = &loader->statistics;
    statistics->worker_count = loader->options.worker_count;
    statistics->prefetch_count = loader->options.prefetch_count;
    statistics->slot_count = loader->options.slot_count;
    statistics->memory_bytes = loader->front.count * (uint64_t)loader->front.slot_bytes +
                               loader->rear.count * (uint64_t)loader->rear.slot_bytes;
    return MR_OK;
}

/* ---- slots ---- */

static mr_status add_events(const mr_loader *loader, struct mr__loader_slot *slot, bool is_front)
{
    mr_status status = MR_OK;
    if (loader->has_upload)
        status = mr_event_create(loader->device, NULL, &slot->uploaded);
    if (!status && is_front)
        status = mr_event_create(loader->device, NULL, &slot->released);
    return status;
}

static mr_status add_slot(const mr_loader *loader, const struct mr__loader_tier *tier,
                          struct mr__loader_slot *slot)
{
    const bool is_front = tier == &loader->front;
    const mr_buffer_options options = { .place = is_front ? MR_PLACE_DEVICE : MR_PLACE_PINNED,
                                        .name = loader->name };
    const uint32_t batch_size = loader->options.sample_count ? loader->options.batch_size : 0;
    bool is_whole = true;
    if (tier == loader->filling) {
        slot->fields = mr__zalloc_array(loader->field_count, sizeof *slot->fields);
        is_whole &= slot->fields != NULL;
    }
    if (is_front) {
        slot->views = mr__zalloc_array(loader->field_count, sizeof *slot->views);
        is_whole &= slot->views != NULL;
    }
    if (batch_size) {
        slot->samples = mr__zalloc_array(batch_size, sizeof *slot->samples);
        is_whole &= slot->samples != NULL;
    }
    if (!is_whole)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a batch's records");
    if (tier->slot_bytes) {
        const mr_status status =
            mr_buffer_create(loader->device, tier->slot_bytes, &options, &slot->memory);
        if (status)
            return status;
    }
    return add_events(loader, slot, is_front);
}

static mr_status add_slots(mr_loader *loader, struct mr__loader_tier *tier, const char *where)
{
    if (!tier->count)
        return MR_OK;
    tier->slots = mr__zalloc_array(tier->count, sizeof *tier->slots);
    if (!tier->slots)
        return mr_error_set(MR_E_NO_MEMORY, "loader '%s': no memory for %u batches", loader->name,
                            tier->count);
    for (uint32_t i = 0; i < tier->count; i++) {
        const mr_status status = add_slot(loader, tier, &tier->slots[i]);
        if (status)
            return mr_error_prefix(status,
                                   "loader '%s', batch %u of %u %s, of %zu bytes: ", loader->name,
                                   i, tier->count, where, tier->slot_bytes);
    }
    return MR_OK;
}

static mr_status add_upload(mr_loader *loader)
{
    if (!loader->has_upload)
        return MR_OK;
    const mr_event_options timed = { .has_timing = true };
    const mr_stream_options options = { .name = loader->name,
                                        .priority = loader->options.priority };
    mr_status status = mr_stream_create(loader->device, &options, &loader->stream);
    if (!status)
        status = mr_event_create(loader->device, &timed, &loader->timed_start);
    if (!status)
        status = mr_event_create(loader->device, &timed, &loader->timed_end);
    if (!status && loader->has_staged)
        status = mr_staging_create(loader->device, &loader->options.staging, &loader->staging);
    return status ? mr_error_prefix(status, "loader '%s': ", loader->name) : MR_OK;
}

static mr_status add_parts(mr_loader *loader)
{
    const uint64_t sample_count = loader->options.sample_count;
    mr_status status = add_upload(loader);
    if (!status)
        status = add_slots(loader, &loader->front, "on the device");
    if (!status)
        status = add_slots(loader, &loader->rear, "in pinned memory");
    if (status)
        return status;
    loader->workers = mr__zalloc_array(loader->options.worker_count, sizeof *loader->workers);
    if (loader->options.reorder && sample_count <= SIZE_MAX)
        loader->order = mr__zalloc_array((size_t)sample_count, sizeof *loader->order);
    if (!loader->workers || (loader->options.reorder && !loader->order))
        return mr_error_set(MR_E_NO_MEMORY,
                            "loader '%s': no memory for %u workers and the order of %llu samples",
                            loader->name, loader->options.worker_count,
                            (unsigned long long)(loader->options.reorder ? sample_count : 0));
    return MR_OK;
}

/* ---- threads ---- */

/* They take no signals: those are for the program's own threads. */
static mr_status start_threads(mr_loader *loader)
{
    sigset_t all, before;
    bool is_whole = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (loader->has_upload) {
        loader->has_uploader =
            !pthread_create(&loader->uploader, NULL, mr__loader_serve_uploads, loader);
        is_whole = loader->has_uploader;
    }
    while (is_whole && loader->started_count < loader->options.worker_count) {
        struct mr__loader_worker *worker = &loader->workers[loader->started_count];
        worker->loader = loader;
        worker->index = loader->started_count;
        is_whole = !pthread_create(&worker->thread, NULL, mr__loader_work, worker);
        loader->started_count += is_whole;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_whole)
        return MR_OK;
    return mr_error_set(MR_E_NO_MEMORY,
                        "loader '%s': only %u of %u threads start; raise the limit on threads "
                        "(ulimit -u)",
                        loader->name, loader->started_count, loader->options.worker_count);
}

/* ---- create and destroy ---- */

mr_status mr_loader_create(mr_device *device, const mr_loader_options *options, mr_loader **out)
{
    *out = NULL;
    mr_status status = check_options(device, options);
    if (status)
        return status;
    mr_loader *loader = mr__zalloc(sizeof *loader);
    if (!loader || pthread_mutex_init(&loader->lock, NULL)) {
        mr__free(loader);
        return mr_error_set(MR_E_NO_MEMORY, "loader: no memory for the loader itself");
    }
    loader->device = device;
    loader->options = *options;
    loader->began_ns = mr_device_now_ns(device);
    loader->name = mr__copy_text(options->name ? options->name : "loader");
    if (!loader->name) {
        status = mr_error_set(MR_E_NO_MEMORY, "loader: no memory for its name");
        goto fail;
    }
    status = mr__loader_begin(loader);
    if (!status)
        status = copy_fields(loader, options);
    if (!status)
        status = choose_sizes(loader);
    if (!status)
        status = add_parts(loader);
    if (!status)
        status = start_threads(loader);
    if (status)
        goto fail;
    *out = loader;
    return MR_OK;

fail:
    mr_loader_destroy(loader);
    return status;
}

static void join_threads(mr_loader *loader)
{
    mr_loader_stop(loader);
    for (uint32_t i = 0; i < loader->started_count; i++)
        pthread_join(loader->workers[i].thread, NULL);
    if (loader->has_uploader)
        pthread_join(loader->uploader, NULL);
}

/* A consumer that never released the batch: what it does with lent memory is known to the buffer. */
static void await_lent(const mr_loader *loader, const struct mr__loader_slot *slot)
{
    for (uint32_t i = 0; slot->state == MR__SLOT_TAKEN && i < loader->field_count; i++) {
        if (loader->fields[i].is_lent && slot->fields[i].buffer)
            (void)!mr_buffer_wait(slot->fields[i].buffer);
    }
}

/* What was lent is given back when no stream reads it any more. */
static void end_slots(mr_loader *loader, struct mr__loader_tier *tier)
{
    for (uint32_t i = 0; tier->slots && i < tier->count; i++) {
        struct mr__loader_slot *slot = &tier->slots[i];
        if (slot->is_release_pending)
            (void)!mr_event_wait(slot->released);
        if (slot->is_lent_from)
            await_lent(loader, slot);
        mr__loader_give_back(loader, slot);
        mr_event_destroy(slot->released);
        mr_event_destroy(slot->uploaded);
        mr_buffer_destroy(slot->memory);
        mr__free(slot->samples);
        mr__free(slot->views);
        mr__free(slot->fields);
    }
    mr__free(tier->slots);
}

void mr_loader_destroy(mr_loader *loader)
{
    if (!loader)
        return;
    join_threads(loader);
    if (loader->stream)
        (void)!mr_stream_wait(loader->stream);
    end_slots(loader, &loader->rear);
    end_slots(loader, &loader->front);
    mr_event_destroy(loader->timed_end);
    mr_event_destroy(loader->timed_start);
    mr_staging_destroy(loader->staging);
    mr_stream_destroy(loader->stream);
    mr__free(loader->skipped);
    mr__free(loader->workers);
    mr__free(loader->order);
    for (uint32_t i = 0; i < loader->field_count; i++)
        mr__free(loader->fields[i].name);
    pthread_mutex_destroy(&loader->lock);
    mr__free(loader->name);
    mr__free(loader);
}
