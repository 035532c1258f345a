/* SPDX-License-Identifier: MIT */
/*
 * Taking tasks in, and what their submitter asks about all of them.
 */
#include "base/alloc.h"
#include "flow/balancer_parts.h"

#include <inttypes.h>
#include <math.h>

enum { ROUNDS_OF_SUBMIT = 4 };

/* ---- checks ---- */

static mr_status check_after(const mr_balancer *balancer, const mr_task *task)
{
    if (task->after_count && !task->after)
        return mr_error_set(MR_E_INVALID, "mr_balancer_submit: after_count is %zu, after is NULL",
                            task->after_count);
    for (size_t i = 0; i < task->after_count; i++) {
        if (!task->after[i] || task->after[i]->balancer != balancer)
            return mr_error_set(MR_E_INVALID,
                                "mr_balancer_submit: after[%zu] is %s; give futures of balancer "
                                "'%s'",
                                i, task->after[i] ? "of another balancer" : "NULL", balancer->name);
    }
    return MR_OK;
}

static mr_status check_task(const mr_balancer *balancer, const mr_task *task)
{
    if (!balancer || !task || !task->submit)
        return mr_error_set(MR_E_INVALID, "mr_balancer_submit: %s is NULL",
                            !balancer ? "balancer"
                            : !task   ? "task"
                                      : "the task's submit function");
    if (task->task_class >= balancer->model.class_count)
        return mr_error_set(MR_E_INVALID,
                            "mr_balancer_submit: task_class is %u; balancer '%s' has %u classes "
                            "(class_count)",
                            task->task_class, balancer->name, balancer->model.class_count);
    if (!(task->size >= 0) || isinf(task->size))
        return mr_error_set(MR_E_INVALID, "mr_balancer_submit: size is %g; give 0 or more",
                            task->size);
    if (task->priority < MR__TASK_PRIORITY_LEAST || task->priority > MR__TASK_PRIORITY_MOST)
        return mr_error_set(MR_E_INVALID, "mr_balancer_submit: priority is %d; %d to %d",
                            task->priority, MR__TASK_PRIORITY_LEAST, MR__TASK_PRIORITY_MOST);
    return task->after_count ? check_after(balancer, task) : MR_OK;
}

/* Some worker's budget holds the task at all, and, where nobody waits for memory, holds it now. */
static mr_status check_memory(const mr_balancer *balancer, const mr_task *task)
{
    uint64_t most = 0, most_free = 0;
    bool has_device = false;
    for (uint32_t i = 0; i < balancer->model.group_count; i++) {
        const struct mr__model_group *group = &balancer->model.groups[i];
        if (task->device && task->device != group->place)
            continue;
        has_device = true;
        const uint64_t left = group->budget_bytes - group->used_bytes;
        most = group->budget_bytes > most ? group->budget_bytes : most;
        most_free = left > most_free ? left : most_free;
    }
    if (!has_device)
        return mr_error_set(MR_E_INVALID,
                            "mr_balancer_submit: balancer '%s' has no worker on %s; name a device "
                            "of its workers",
                            balancer->name, mr_device_id(task->device));
    if (task->memory_bytes > most)
        return mr_error_set(MR_E_NO_MEMORY,
                            "mr_balancer_submit: the task needs %" PRIu64 " bytes and no worker of "
                            "balancer '%s' may use more than %" PRIu64 "; it can never run: split "
                            "it or raise memory_bytes of the workers",
                            task->memory_bytes, balancer->name, most);
    if (balancer->admission == MR_ADMIT_FAILING && task->memory_bytes > most_free)
        return mr_error_set(MR_E_NO_MEMORY,
                            "mr_balancer_submit: the task needs %" PRIu64
                            " bytes, of which %" PRIu64
                            " are free now; try again when others have ended",
                            task->memory_bytes, most_free);
    return MR_OK;
}

/* ---- places ---- */

static bool has_room(mr_balancer *balancer, void *context)
{
    (void)context;
    return balancer->unfinished + balancer->untaken < balancer->task_limit || !balancer->unfinished;
}

/* Who is inside a task cannot wait: there the limit is left aside. */
static mr_status find_place(mr_balancer *balancer)
{
    if (balancer->unfinished + balancer->untaken < balancer->task_limit)
        return MR_OK;
    const struct mr__patience forever = mr__patience_begin(MR_FOREVER);
    if (balancer->admission == MR_ADMIT_WAITING) {
        if (mr__balancer_is_inside(balancer))
            return MR_OK;
        (void)mr__balancer_wait(balancer, has_room, NULL, &forever);
    }
    if (balancer->unfinished + balancer->untaken < balancer->task_limit)
        return MR_OK;
    return mr_error_set(MR_E_BUSY,
                        "mr_balancer_submit: balancer '%s' has %u tasks and %u results that were "
                        "not taken; %s",
                        balancer->name, balancer->unfinished, balancer->untaken,
                        balancer->unfinished ? "try again when some have ended"
                                             : "take some with mr_balancer_next");
}

/* ---- submit ---- */

static void keep_in_order(mr_balancer *balancer, mr_future *record)
{
    mr_future *last = balancer->result_list.last;
    *(last ? &last->result_next : &balancer->result_list.first) = record;
    record->result_previous = last;
    balancer->result_list.last = record;
}

/* What the caller will be able to ask for. */
static void promise(mr_balancer *balancer, mr_future *record, mr_future **future)
{
    record->is_reported = future || record->task.done;
    record->has_result = !future && balancer->results != MR_RESULTS_NONE;
    if (record->has_result) {
        record->references++;
        if (balancer->results == MR_RESULTS_IN_ORDER)
            keep_in_order(balancer, record);
    }
    if (future) {
        record->references++;
        balancer->references++;
        *future = record;
    }
}

/* Ends at once with what it comes after, when that has failed. */
static void begin(mr_future *record, const mr_task *task)
{
    mr_future *failed = NULL;
    for (size_t i = 0; i < task->after_count; i++) {
        if (task->after[i]->state != MR__TASK_ENDED)
            mr__task_connect(record, task->after[i]);
        else if (task->after[i]->status && !failed)
            failed = task->after[i];
    }
    if (failed) {
        char words[MR_ERROR_BYTES];
        mr__task_blame(failed, words, sizeof words);
        mr__task_cancel(record, failed->status, words);
    } else if (!record->blocked_count) {
        mr__task_make_ready(record);
    }
}

static mr_status take_in(mr_balancer *balancer, const mr_task *task, mr_future **future)
{
    mr_status status = check_memory(balancer, task);
    if (!status)
        status = find_place(balancer);
    if (status)
        return status;
    mr_future *record = mr__task_take(balancer);
    if (!record || !mr__task_reserve_edges(record, task->after_count)) {
        if (record)
            mr__task_release(record);
        return mr_error_set(MR_E_NO_MEMORY, "mr_balancer_submit: out of memory");
    }
    record->task = *task;
    record->task.after = NULL;
    record->bound = task->device ? mr__model_find_group(&balancer->model, task->device) : NULL;
    if (record->task.size == 0)
        record->task.size = 1;
    record->sequence = balancer->statistics.submitted++;
    balancer->unfinished++;
    promise(balancer, record, future);
    begin(record, task);
    return MR_OK;
}

mr_status mr_balancer_submit(mr_balancer *balancer, const mr_task *task, mr_future **future)
{
    if (future)
        *future = NULL;
    mr_status status = check_task(balancer, task);
    if (status)
        return status;

    pthread_mutex_lock(&balancer->lock);
    status = take_in(balancer, task, future);
    if (!status) {
        if (balancer->is_driven)
            balancer->is_asked = true;
        else
            mr__balancer_drive(balancer, ROUNDS_OF_SUBMIT);
        if (balancer->is_service_asleep && balancer->unfinished)
            mr__gate_notify(&balancer->called, true);
    }
    pthread_mutex_unlock(&balancer->lock);
    return status;
}

/* ---- results ---- */

static bool has_result(mr_balancer *balancer, void *context)
{
    (void)context;
    const mr_future *first = balancer->result_list.first;
    if (first)
        return first->state == MR__TASK_ENDED;
    return balancer->results == MR_RESULTS_IN_ORDER || !balancer->unfinished;
}

static void take_result(mr_balancer *balancer, mr_task_result *result)
{
    mr_future *task = balancer->result_list.first;
    balancer->result_list.first = task->result_next;
    *(task->result_next ? &task->result_next->result_previous : &balancer->result_list.last) = NULL;
    mr__task_fill_result(task, result);
    balancer->untaken--;
    mr__task_release(task);
}

/* Under the lock. */
static mr_status next_result(mr_balancer *balancer, uint64_t timeout_ns, mr_task_result *result)
{
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    if (balancer->results == MR_RESULTS_NONE)
        return mr_error_set(MR_E_STATE,
                            "mr_balancer_next: balancer '%s' keeps no results; create it with "
                            "results in order or as completed",
                            balancer->name);
    if (!mr__balancer_wait(balancer, has_result, NULL, &patience)) {
        if (timeout_ns && mr__balancer_is_inside(balancer))
            return mr__balancer_refuse_inside("mr_balancer_next");
        return timeout_ns
                   ? mr_error_set(MR_E_TIMEOUT, "mr_balancer_next: no result within the time given")
                   : MR_E_BUSY;
    }
    if (!balancer->result_list.first)
        return MR_END;
    take_result(balancer, result);
    if (balancer->waiter_count)
        mr__gate_notify(&balancer->changed, true);
    return MR_OK;
}

mr_status mr_balancer_next(mr_balancer *balancer, uint64_t timeout_ns, mr_task_result *result)
{
    if (!balancer || !result)
        return mr_error_set(MR_E_INVALID, "mr_balancer_next: %s is NULL",
                            balancer ? "result" : "balancer");
    *result = (mr_task_result){ .worker = UINT32_MAX };
    pthread_mutex_lock(&balancer->lock);
    const mr_status status = next_result(balancer, timeout_ns, result);
    pthread_mutex_unlock(&balancer->lock);
    return status;
}

/* ---- all of them ---- */

static bool is_finished(mr_balancer *balancer, void *context)
{
    (void)context;
    return !balancer->unfinished && !balancer->done_list.first && !balancer->is_driven;
}

/* Under the lock. */
static mr_status tell_untold(mr_balancer *balancer)
{
    const mr_status status = balancer->untold;
    if (status)
        (void)mr_error_set(status, "balancer '%s': %s", balancer->name,
                           balancer->untold_words ? balancer->untold_words
                                                  : mr_status_text(status));
    mr__free(balancer->untold_words);
    balancer->untold_words = NULL;
    balancer->untold = MR_OK;
    return status;
}

mr_status mr_balancer_drain(mr_balancer *balancer, uint64_t timeout_ns)
{
    if (!balancer)
        return mr_error_set(MR_E_INVALID, "mr_balancer_drain: balancer is NULL");
    const struct mr__patience patience = mr__patience_begin(timeout_ns);
    pthread_mutex_lock(&balancer->lock);
    mr_status status = MR_OK;
    if (mr__balancer_wait(balancer, is_finished, NULL, &patience))
        status = tell_untold(balancer);
    else if (!timeout_ns)
        status = MR_E_BUSY;
    else if (mr__balancer_is_inside(balancer))
        status = mr__balancer_refuse_inside("mr_balancer_drain");
    else
        status = mr_error_set(MR_E_TIMEOUT, "mr_balancer_drain: %u tasks have not ended",
                              balancer->unfinished);
    pthread_mutex_unlock(&balancer->lock);
    return status;
}

/* Tasks in flight are let be, but not what waits until they have been given to a stream. */
static void cancel_followers(struct mr__balancer_worker *worker)
{
    for (uint32_t i = 0; i < worker->count; i++) {
        const mr_future *task = mr__balancer_slot_at(worker, i)->task;
        while (task->followers)
            mr__task_cancel(task->followers->owner, MR_E_CANCELLED, NULL);
    }
}

size_t mr_balancer_cancel(mr_balancer *balancer)
{
    if (!balancer)
        return 0;
    pthread_mutex_lock(&balancer->lock);
    const uint64_t before = balancer->statistics.cancelled;
    for (mr_future *task; (task = mr__task_next_ready(balancer, NULL));)
        mr__task_cancel(task, MR_E_CANCELLED, NULL);
    for (uint32_t i = 0; i < balancer->worker_count; i++)
        cancel_followers(&balancer->workers[i]);
    const size_t count = (size_t)(balancer->statistics.cancelled - before);
    mr__balancer_drive(balancer, 1);
    pthread_mutex_unlock(&balancer->lock);
    return count;
}
