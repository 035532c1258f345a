/* SPDX-License-Identifier: MIT */
/*
 * Looking which tasks have ended, and taking their slots back.
 *
 * A question can be dear (1.3 us on a GPU), and events of one stream fire in order: so the middle of
 * what is in flight is asked first, and a yes answers for all before it.
 */
#include "base/alloc.h"
#include "flow/balancer_parts.h"

#include <stdio.h>

struct mr__balancer_slot *mr__balancer_slot_at(struct mr__balancer_worker *worker, uint32_t index)
{
    return &worker->slots[(worker->first + index) % MR__BALANCER_SLOTS];
}

mr_event *mr__balancer_slot_event(const struct mr__balancer_slot *slot)
{
    return slot->is_timed ? slot->timed_end : slot->ended;
}

static mr_status ask(const struct mr__balancer_slot *slot)
{
    if (slot->has_ended)
        return MR_OK;
    return slot->is_recorded ? mr_event_query(mr__balancer_slot_event(slot)) : MR_E_BUSY;
}

/* ---- one task ---- */

/* All tasks before this one's work have fired their events; have they been taken back as well? */
static bool is_waiting_for_others(const mr_future *task)
{
    for (uint32_t i = 0; i < task->edge_count; i++) {
        if (task->edges[i].before->state != MR__TASK_ENDED)
            return true;
    }
    return false;
}

static mr_status measure_time(struct mr__balancer_slot *slot, mr_future *task)
{
    int64_t elapsed_ns = 0;
    if (!slot->is_timed || slot->has_ended ||
        mr_event_elapsed(slot->timed_start, slot->timed_end, &elapsed_ns) || elapsed_ns < 0)
        return MR_E_UNSUPPORTED;
    task->busy_ns = (double)elapsed_ns;
    task->is_measured = true;
    return MR_OK;
}

static void learn(mr_balancer *balancer, struct mr__balancer_slot *slot, mr_future *task,
                  mr_status status)
{
    task->busy_ns = task->given_cost;
    task->is_measured = false;
    if (!status && !measure_time(slot, task))
        mr__model_learn(&balancer->model, task->worker, task->task.task_class, task->task.size,
                        task->busy_ns);
    mr__model_count(&balancer->model, task->worker, task->sequence, task->busy_ns);
}

/* A task whose work ran after one that failed has worked on what was not there. */
static mr_status inherit(const mr_future *task, char *words, size_t words_bytes)
{
    for (uint32_t i = 0; i < task->edge_count; i++) {
        const mr_future *before = task->edges[i].before;
        if (before->status) {
            mr__task_blame(before, words, words_bytes);
            return before->status;
        }
    }
    return MR_OK;
}

static bool is_tried_again(const mr_balancer *balancer, const mr_future *task)
{
    return task->attempt < balancer->retry_limit && !task->has_given_followers &&
           !balancer->is_stopping;
}

static void settle(mr_balancer *balancer, mr_future *task, mr_status status, const char *words,
                   bool is_inherited)
{
    task->slot = NULL;
    if (status && !is_inherited && is_tried_again(balancer, task)) {
        mr__free(task->words); /* for the case that nobody can try */
        task->words = mr__copy_text(words);
        task->attempt++;
        balancer->statistics.retried++;
        mr__task_make_ready(task);
        return;
    }
    mr__task_end(task, status, words);
}

/* `status` is what the event said. */
static void take_back(mr_balancer *balancer, struct mr__balancer_worker *worker, mr_status status,
                      uint64_t now_ns)
{
    struct mr__balancer_slot *slot = mr__balancer_slot_at(worker, 0);
    mr_future *task = slot->task;
    char words[MR_ERROR_BYTES] = "";
    if (slot->status)
        snprintf(words, sizeof words, "%s", task->words ? task->words : "");
    else if (status)
        snprintf(words, sizeof words, "%s%s",
                 worker->is_broken ? "was in flight behind a failure: " : "", mr_last_error());
    if (status) {
        worker->is_broken = true;
        balancer->model.workers[task->worker].is_open = false;
    }
    if (slot->status)
        status = slot->status;
    const bool is_inherited = !status && (status = inherit(task, words, sizeof words));

    learn(balancer, slot, task, status);
    worker->first = (worker->first + 1) % MR__BALANCER_SLOTS;
    worker->count--;
    const double next_cost = worker->count ? mr__balancer_slot_at(worker, 0)->task->given_cost : 0;
    mr__model_take_back(&balancer->model, task->worker, task->given_cost, task->task.memory_bytes,
                        next_cost, now_ns);
    if (balancer->ready_mask)
        mr__model_note_dry(&balancer->model, !worker->count);
    balancer->statistics.in_flight--;
    balancer->is_scan_futile = false;
    worker->tasks++;
    worker->failures += status != MR_OK;
    settle(balancer, task, status, words, is_inherited);
}

/* ---- all ---- */

/* Takes back `count` tasks that have ended; fewer where one waits for others to be taken back. */
static bool take_back_some(mr_balancer *balancer, struct mr__balancer_worker *worker,
                           uint32_t count, mr_status last, uint64_t now_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct mr__balancer_slot *slot = mr__balancer_slot_at(worker, 0);
        if (is_waiting_for_others(slot->task))
            return i > 0;
        /* Where the last has ended well, so have those before it. */
        take_back(balancer, worker, last || slot->has_ended ? ask(slot) : MR_OK, now_ns);
    }
    return true;
}

/* About the middle: one that was given an event, as only that tells of those before it. */
static uint32_t pick_middle(struct mr__balancer_worker *worker)
{
    uint32_t index = (worker->count - 1) / 2;
    while (index > 0 && mr__balancer_slot_at(worker, index)->has_ended)
        index--;
    return index;
}

static bool look_at_worker(mr_balancer *balancer, struct mr__balancer_worker *worker,
                           uint64_t now_ns)
{
    bool has_found = false;
    while (worker->count) {
        uint32_t asked = pick_middle(worker);
        mr_status status = ask(mr__balancer_slot_at(worker, asked));
        if (status == MR_E_BUSY && asked > 0) {
            asked = 0;
            status = ask(mr__balancer_slot_at(worker, 0));
        }
        if (status == MR_E_BUSY || !take_back_some(balancer, worker, asked + 1, status, now_ns))
            break;
        has_found = true;
    }
    return has_found;
}

bool mr__balancer_look(mr_balancer *balancer)
{
    const uint64_t now_ns = mr__balancer_now_ns(balancer);
    bool has_found = false;
    for (uint32_t i = 0; i < balancer->worker_count; i++)
        has_found |= look_at_worker(balancer, &balancer->workers[i], now_ns);
    return has_found;
}

/* ---- streams that failed ---- */

static void replace_stream(mr_balancer *balancer, struct mr__balancer_worker *worker)
{
    const mr_stream_options options = { .priority = worker->priority,
                                        .name = mr_stream_name(worker->stream) };
    mr_stream *fresh = NULL;
    pthread_mutex_unlock(&balancer->lock);
    const mr_status status = mr_stream_create(worker->device, &options, &fresh);
    if (!status)
        mr_stream_destroy(worker->stream);
    pthread_mutex_lock(&balancer->lock);

    worker->is_broken = false;
    worker->is_gone = status != MR_OK;
    if (status)
        return;
    worker->stream = fresh;
    worker->replacements++;
    balancer->model.workers[worker - balancer->workers].is_open = true;
    balancer->is_scan_futile = false;
}

bool mr__balancer_replace_broken(mr_balancer *balancer)
{
    bool has_found = false;
    for (uint32_t i = 0; i < balancer->worker_count; i++) {
        struct mr__balancer_worker *worker = &balancer->workers[i];
        if (!worker->is_broken || worker->count)
            continue;
        replace_stream(balancer, worker);
        has_found = true;
    }
    return has_found;
}
