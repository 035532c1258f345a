/* SPDX-License-Identifier: MIT */
/*
 * What is asked from outside: where the loader is, what it skipped, who waits for whom.
 */
#include "flow/loader_parts.h"

#include <string.h>

/* ---- position ---- */

static void find_earliest(const mr_loader *loader, const struct mr__loader_tier *tier,
                          uint64_t *epoch, uint64_t *batch)
{
    for (uint32_t i = 0; i < tier->count; i++) {
        const struct mr__loader_slot *slot = &tier->slots[i];
        if (!mr__loader_is_pending(loader, slot))
            continue;
        if (slot->epoch > *epoch || (slot->epoch == *epoch && slot->batch >= *batch))
            continue;
        *epoch = slot->epoch;
        *batch = slot->batch;
    }
}

void mr_loader_position(mr_loader *loader, uint64_t *epoch, uint64_t *batch)
{
    pthread_mutex_lock(&loader->lock);
    mr__loader_next_draw(loader, epoch, batch);
    find_earliest(loader, &loader->rear, epoch, batch);
    find_earliest(loader, &loader->front, epoch, batch);
    pthread_mutex_unlock(&loader->lock);
}

/* ---- skipped ---- */

size_t mr_loader_skipped(mr_loader *loader, size_t first, mr_skipped_batch *out, size_t capacity)
{
    pthread_mutex_lock(&loader->lock);
    const size_t kept = loader->skipped_kept;
    const size_t left = first < kept ? kept - first : 0;
    const size_t count = left < capacity ? left : capacity;
    if (count)
        memcpy(out, loader->skipped + first, count * sizeof *out);
    pthread_mutex_unlock(&loader->lock);
    return count;
}

/* ---- statistics ---- */

static uint64_t wait_so_far(const struct mr__loader_worker *worker, uint64_t now_ns)
{
    return worker->wait_began_ns ? now_ns - worker->wait_began_ns : 0;
}

static void count_slots(const struct mr__loader_tier *tier, mr_loader_statistics *out)
{
    for (uint32_t i = 0; i < tier->count; i++) {
        const struct mr__loader_slot *slot = &tier->slots[i];
        const bool is_rear = !slot->views;
        if (slot->state == MR__SLOT_FILLED && is_rear)
            out->waiting_count++;
        else if (slot->state == MR__SLOT_FILLED)
            out->ready_count++;
        else if (slot->state == MR__SLOT_TAKEN || slot->state == MR__SLOT_RELEASING)
            out->lent_count++;
    }
}

/* The link is full; or somebody waits: consumers for batches, or workers for room. */
static mr_loader_side find_bottleneck(const mr_loader_statistics *statistics)
{
    if (statistics->upload_ns > statistics->elapsed_ns / 10 * 9)
        return MR_LOADER_UPLOAD;
    const uint64_t worker_wait_ns = statistics->fill_wait_ns / statistics->worker_count;
    return statistics->consumer_wait_ns > worker_wait_ns ? MR_LOADER_WORKERS : MR_LOADER_CONSUMERS;
}

void mr_loader_measure(mr_loader *loader, mr_loader_statistics *statistics)
{
    pthread_mutex_lock(&loader->lock);
    const uint64_t now_ns = mr_device_now_ns(loader->device);
    *statistics = loader->statistics;
    statistics->elapsed_ns = now_ns - loader->began_ns;
    if (loader->timed_count)
        statistics->upload_ns = (uint64_t)((double)loader->timed_ns / (double)loader->timed_count *
                                           (double)loader->upload_count);
    for (uint32_t i = 0; i < loader->started_count; i++)
        statistics->fill_wait_ns += wait_so_far(&loader->workers[i], now_ns);
    count_slots(&loader->rear, statistics);
    count_slots(&loader->front, statistics);
    statistics->bottleneck = find_bottleneck(statistics);
    pthread_mutex_unlock(&loader->lock);
}

mr_status mr_loader_measure_worker(mr_loader *loader, uint32_t worker,
                                   mr_loader_worker_statistics *statistics)
{
    if (worker >= loader->options.worker_count)
        return mr_error_set(MR_E_INVALID, "loader '%s': worker is %u; there are %u", loader->name,
                            worker, loader->options.worker_count);
    pthread_mutex_lock(&loader->lock);
    *statistics = loader->workers[worker].statistics;
    statistics->wait_ns += wait_so_far(&loader->workers[worker], mr_device_now_ns(loader->device));
    pthread_mutex_unlock(&loader->lock);
    return MR_OK;
}
