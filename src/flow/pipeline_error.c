/* SPDX-License-Identifier: MIT */
/*
 * What happens when something fails: an item is skipped, the run stops before an item, or the run is
 * aborted. Whatever the order in which failures are found, the lowest item's is the one that is told.
 */
#include "flow/pipeline_fleet.h"

#include <stdio.h>
#include <string.h>

void mr__words_take(mr_status status, char words[MR_ERROR_BYTES])
{
    const char *text = mr_last_error();
    snprintf(words, MR_ERROR_BYTES, "%s", *text ? text : mr_status_text(status));
    const mr_status cleared = mr_error_set(MR_OK, "%s", "");
    (void)cleared;
}

void mr__run_end_source(mr_pipeline *pipeline)
{
    struct mr__run *run = pipeline->run;
    const struct mr__node *source = pipeline->plan->source;
    atomic_store(&run->is_ending, true);
    if (!atomic_exchange(&run->was_interrupted, true) && source->source.interrupt)
        source->source.interrupt(source->source.context);
    mr__bell_ring(&run->source_bell);
    mr__bell_ring(&run->submit_bell);
}

void mr__run_stop(mr_pipeline *pipeline, uint64_t index, mr_status status, const char *words)
{
    struct mr__run *run = pipeline->run;
    if (pipeline->leg) {
        mr__leg_stop(pipeline->leg, index, status, words);
        return;
    }
    pthread_mutex_lock(&run->mutex);
    if (!run->failure.status || index < run->failure.index) {
        run->failure.status = status;
        run->failure.index = index;
        snprintf(run->failure.words, sizeof run->failure.words, "%s", words);
    }
    if (index < atomic_load(&run->stop_index))
        atomic_store(&run->stop_index, index);
    pthread_mutex_unlock(&run->mutex);
    mr__run_end_source(pipeline);
}

void mr__run_abort(mr_pipeline *pipeline, mr_status status, const char *where)
{
    struct mr__run *run = pipeline->run;
    char words[MR_ERROR_BYTES], full[MR_ERROR_BYTES];
    mr__words_take(status, words);
    snprintf(full, sizeof full, "%.200s: %.800s", where, words);
    /* Counts before any item's failure: what items failed of no longer matters. */
    pthread_mutex_lock(&run->mutex);
    if (!atomic_load(&run->is_aborted)) {
        run->failure.status = status;
        run->failure.index = 0;
        snprintf(run->failure.words, sizeof run->failure.words, "%s", full);
        atomic_store(&run->is_aborted, true);
    }
    pthread_mutex_unlock(&run->mutex);
    if (pipeline->leg)
        mr__leg_aborted(pipeline->leg);
    else
        mr__run_end_source(pipeline);
    mr__run_ring(run);
}

void mr__run_ring(struct mr__run *run)
{
    mr__bell_ring(&run->submit_bell);
    for (uint32_t i = 0; i < run->sink_count; i++)
        mr__bell_ring(&run->sinks[i].bell);
}

/* Keeps the list in item order, the first MR__SKIPPED_LIMIT of it. Under the mutex. */
static void list_skipped(struct mr__run *run, const mr_skipped_item *item)
{
    size_t at = run->skipped_count;
    while (at && run->skipped[at - 1].index > item->index)
        at--;
    if (at == MR__SKIPPED_LIMIT)
        return;
    if (run->skipped_count < MR__SKIPPED_LIMIT)
        run->skipped_count++;
    memmove(&run->skipped[at + 1], &run->skipped[at],
            (run->skipped_count - at - 1) * sizeof *run->skipped);
    run->skipped[at] = *item;
}

static void skip_item(struct mr__slot *slot, uint32_t item, const struct mr__node *node,
                      mr_status status, const char *words)
{
    struct mr__run *run = slot->pipeline->run;
    if (atomic_exchange(&slot->failed[item], 1))
        return;
    atomic_store(&slot->has_failed, true);
    atomic_fetch_add(&run->items_skipped, 1);

    mr_skipped_item made = { .index = slot->first_index + item,
                             .node = node->id,
                             .status = status };
    snprintf(made.words, sizeof made.words, "%.255s", words);
    pthread_mutex_lock(&run->mutex);
    list_skipped(run, &made);
    pthread_mutex_unlock(&run->mutex);
}

/* Not the item's fault: another device may do it. Whatever a call made of the loss, such as that a capture
 * cannot be ended, the device's own words say more. */
static bool abort_lost(const struct mr__slot *slot, const struct mr__node *node, mr_status status,
                       const char *full)
{
    if (!slot->pipeline->leg || !node->stage.submit)
        return false;
    const mr_status lost = mr__leg_loss(slot->pipeline->leg);
    if (!lost)
        return false;
    if (status == MR_E_DEVICE)
        (void)mr_error_set(status, "%s", full);
    else
        (void)mr_error_prefix(lost, "stage '%s': ", node->name);
    mr__run_abort(slot->pipeline, MR_E_DEVICE, mr_device_id(node->stage.device));
    return true;
}

void mr__run_fail_item(struct mr__slot *slot, uint32_t item, const struct mr__node *node,
                       mr_status status)
{
    char words[MR_ERROR_BYTES], full[MR_ERROR_BYTES];
    mr__words_take(status, words);
    const uint64_t index = slot->first_index + item;
    const mr_status told = status < 0 ? status : MR_E_CALLBACK;
    snprintf(full, sizeof full, "stage '%s', item %llu: %.800s", node->name,
             (unsigned long long)index, words);
    if (abort_lost(slot, node, status, full))
        return;
    if (slot->pipeline->options.on_error == MR_ERROR_SKIP)
        skip_item(slot, item, node, told, full);
    else
        mr__run_stop(slot->pipeline, index, told, full);
}
