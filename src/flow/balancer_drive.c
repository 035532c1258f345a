/* SPDX-License-Identifier: MIT */
/*
 * Giving tasks to workers: which of the first few ready ones can go where, and the calls that enqueue
 * their work.
 */
#include "base/alloc.h"
#include "flow/balancer_parts.h"

#include <stdio.h>

enum {
    BATCH = 16,       /* tasks given between two holds of the lock */
    PASSED_OVER = 32, /* then others wait for memory as well, so that it collects */
    ALL_TIMED = 8,    /* samples of a class before only some are timed */
    TIMED_EVERY = 32,
    LOOK_PAUSE_NS = 2000,
    LOOK_SHARE = 8 /* looking costs at most about an eighth of the time */
};

uint64_t mr__balancer_now_ns(const mr_balancer *balancer)
{
    return mr_device_now_ns(balancer->workers[0].device);
}

/* ---- choosing ---- */

static struct mr__model_task describe(const mr_balancer *balancer, const mr_future *task)
{
    const mr_task *given = &task->task;
    struct mr__model_task out = {
        .cost = mr__model_cost(&balancer->model, given->task_class, given->size),
        .is_known = balancer->model.classes[given->task_class].count >= MR__MODEL_FIRST_COUNT,
        .memory_bytes = given->memory_bytes,
        .place = given->device,
        .home = given->affinity ? mr__affinity_find(balancer, given->affinity) : MR__MODEL_NONE,
        .avoid = task->attempt ? task->worker : MR__MODEL_NONE,
    };
    for (uint32_t i = 0; i < task->edge_count; i++) {
        const mr_future *before = task->edges[i].before;
        if (before->state == MR__TASK_GIVEN && before->expected_ns > out.ready_ns)
            out.ready_ns = before->expected_ns;
        if (out.home == MR__MODEL_NONE && before->attempts)
            out.home = before->worker;
    }
    return out;
}

static bool is_timed(const mr_balancer *balancer, struct mr__balancer_worker *worker,
                     const mr_future *task)
{
    if (task->given_cost >= worker->timed_from_ns ||
        balancer->model.classes[task->task.task_class].count < ALL_TIMED ||
        ++worker->short_count >= TIMED_EVERY) {
        worker->short_count = 0;
        return true;
    }
    return false;
}

/* Somebody may watch the slot's event: then it is left to them. */
static void let_go_of_watched(mr_balancer *balancer, mr_event **event)
{
    if (!*event || *event != balancer->watched)
        return;
    balancer->orphan = *event;
    *event = NULL;
}

static mr_status prepare_slot(mr_balancer *balancer, const struct mr__balancer_worker *worker,
                              struct mr__balancer_slot *slot)
{
    const mr_event_options timed = { .has_timing = true };
    let_go_of_watched(balancer, &slot->ended);
    let_go_of_watched(balancer, &slot->timed_end);
    mr_status status = MR_OK;
    if (slot->is_timed && !slot->timed_start)
        status = mr_event_create(worker->device, &timed, &slot->timed_start);
    if (!status && slot->is_timed && !slot->timed_end)
        status = mr_event_create(worker->device, &timed, &slot->timed_end);
    if (!status && !slot->is_timed && !slot->ended)
        status = mr_event_create(worker->device, NULL, &slot->ended);
    return status;
}

static void note_home(mr_balancer *balancer, mr_future *task, uint32_t worker, uint32_t home)
{
    if (task->task.affinity) {
        mr__affinity_note(balancer, task->task.affinity, worker);
        balancer->statistics.moved += home != MR__MODEL_NONE && home != worker;
    }
}

static void keep_words(mr_future *task)
{
    mr__free(task->words);
    task->words = mr__copy_text(mr_last_error());
}

/* Puts the task in the worker's next slot. */
static mr_future *assign(mr_balancer *balancer, mr_future *task, uint32_t index,
                         const struct mr__model_task *described, uint64_t now_ns)
{
    struct mr__balancer_worker *worker = &balancer->workers[index];
    struct mr__balancer_slot *slot = mr__balancer_slot_at(worker, worker->count);
    mr__task_remove_ready(task);
    note_home(balancer, task, index, described->home);
    worker->depth_sum += worker->count++;
    worker->given++;
    if (worker->count > worker->depth_peak)
        worker->depth_peak = worker->count;
    balancer->statistics.in_flight++;

    task->state = MR__TASK_GIVEN;
    task->worker = index;
    task->attempts = task->attempt + 1;
    task->slot = slot;
    task->given_cost = mr__model_give(&balancer->model, index, described, now_ns);
    task->expected_ns = mr__model_free_ns(&balancer->model.workers[index], now_ns);
    slot->task = task;
    slot->is_timed = is_timed(balancer, worker, task);
    slot->is_recorded = slot->has_ended = false;
    slot->status = prepare_slot(balancer, worker, slot);
    if (slot->status)
        keep_words(task);
    return task;
}

/* A worker that may have the task is there, or will be again. */
static bool has_hope(const mr_balancer *balancer, const mr_future *task)
{
    for (uint32_t i = 0; i < balancer->worker_count; i++) {
        const struct mr__model_group *group = balancer->model.workers[i].group;
        if (!balancer->workers[i].is_gone &&
            (!task->task.device || task->task.device == group->place) &&
            task->task.memory_bytes <= group->budget_bytes)
            return true;
    }
    return false;
}

static void give_up(mr_future *task)
{
    const bool has_failed = task->attempt && task->words && *task->words;
    char words[MR_ERROR_BYTES];
    snprintf(words, sizeof words,
             "every worker that may have it has lost its stream; make a new balancer%s%s",
             has_failed ? "; it was to be tried again after: " : "", has_failed ? task->words : "");
    mr__task_cancel(task, MR_E_UNAVAILABLE, words);
}

/* A look at the ready tasks. */
struct scan {
    uint64_t now_ns;
    mr_future *starved;   /* the first that waits for memory */
    bool is_free_waiting; /* a task waits that any worker may have */
    uint32_t fruitless;   /* tasks behind the window that were looked at and did not go */
    uint32_t count;
    bool has_given_up; /* tasks that no worker will have any more */
};

/* Gives the task to a worker if it can go. */
static bool try_task(mr_balancer *balancer, struct scan *scan, mr_future *task, mr_future **batch)
{
    struct mr__model *model = &balancer->model;
    uint32_t worker;
    const struct mr__model_task described = describe(balancer, task);
    enum mr__model_answer answer = mr__model_choose(model, &described, scan->now_ns, &worker);
    if (answer == MR__MODEL_GO && described.memory_bytes && scan->starved &&
        scan->starved->passed_over++ >= PASSED_OVER)
        answer = MR__MODEL_MEMORY;

    if (answer == MR__MODEL_GO) {
        batch[scan->count++] = assign(balancer, task, worker, &described, scan->now_ns);
        return true;
    }
    scan->is_free_waiting |= !task->bound;
    if (answer == MR__MODEL_FULL) {
        mr__model_plan(model, worker, described.cost);
    } else if (answer == MR__MODEL_MEMORY) {
        scan->starved = scan->starved ? scan->starved : task;
        balancer->statistics.memory_waits += !task->has_waited_for_memory;
        task->has_waited_for_memory = true;
    } else if (!has_hope(balancer, task)) {
        give_up(task);
        scan->has_given_up = true;
    }
    return false;
}

/* Behind the window: a worker has a place for such a task, and none like it waits in front. */
static bool may_pass(const mr_balancer *balancer, const struct scan *scan, const mr_future *task)
{
    return (task->bound || !scan->is_free_waiting) &&
           mr__model_has_place(&balancer->model, task->task.device, scan->now_ns);
}

/* There is a ready task that may_pass. */
static bool has_passing(const mr_balancer *balancer, const struct scan *scan)
{
    const struct mr__model *model = &balancer->model;
    uint32_t free_count = balancer->statistics.waiting;
    for (uint32_t i = 0; i < model->group_count; i++) {
        const struct mr__model_group *group = &model->groups[i];
        free_count -= group->waiting_count;
        if (group->waiting_count && mr__model_has_place(model, group->place, scan->now_ns))
            return true;
    }
    return free_count && !scan->is_free_waiting && mr__model_has_place(model, NULL, scan->now_ns);
}

/* Chooses tasks that can go, at most BATCH: of the first few, and of those behind that wait for none of
 * the workers that these wait for. */
static uint32_t choose_batch(mr_balancer *balancer, mr_future **batch)
{
    struct scan scan = { .now_ns = mr__balancer_now_ns(balancer) };
    mr__model_begin_round(&balancer->model);
    mr_future *next = mr__task_next_ready(balancer, NULL);
    bool is_asked = true; /* whether to go on behind the window */
    for (uint32_t i = 0; next && scan.count < BATCH && scan.fruitless < MR__BALANCER_WINDOW; i++) {
        mr_future *task = next;
        const bool is_behind = i >= MR__BALANCER_WINDOW;
        if (is_behind && is_asked && !has_passing(balancer, &scan))
            break;
        is_asked = false;
        next = mr__task_next_ready(balancer, task);
        if (is_behind && !may_pass(balancer, &scan, task))
            continue;
        const bool has_gone = try_task(balancer, &scan, task, batch);
        is_asked = !is_behind || has_gone;
        scan.fruitless += is_behind && !has_gone;
    }
    balancer->is_scan_futile = scan.count == 0 && !scan.has_given_up;
    balancer->is_scan_bound = !scan.is_free_waiting;
    return scan.count;
}

/* ---- calling; without the lock ---- */

static mr_status wait_for_others(const mr_future *task, mr_stream *stream)
{
    for (uint32_t i = 0; i < task->edge_count; i++) {
        const mr_future *before = task->edges[i].before;
        if (before->state != MR__TASK_GIVEN || before->worker == task->worker ||
            before->slot->has_ended)
            continue;
        const mr_status status =
            mr_stream_wait_event(stream, mr__balancer_slot_event(before->slot));
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status enqueue(const struct mr__balancer_worker *worker, struct mr__balancer_slot *slot)
{
    const mr_future *task = slot->task;
    const mr_task_call call = { .stream = worker->stream,
                                .device = worker->device,
                                .worker = task->worker,
                                .attempt = task->attempt,
                                .sequence = task->sequence };
    mr_status status = wait_for_others(task, worker->stream);
    if (!status && slot->is_timed)
        status = mr_event_record(slot->timed_start, worker->stream);
    return status ? status : task->task.submit(task->task.context, &call);
}

static void call_submit(mr_balancer *balancer, mr_future *task)
{
    struct mr__balancer_worker *worker = &balancer->workers[task->worker];
    struct mr__balancer_slot *slot = task->slot;
    if (slot->status) {
        slot->has_ended = true;
    } else {
        slot->status = enqueue(worker, slot);
        if (slot->status > MR_OK)
            slot->status =
                mr_error_set(MR_E_CALLBACK, "the task's function answered %d", (int)slot->status);
    }
    if (slot->has_ended)
        return;
    if (slot->status)
        keep_words(task);
    /* Also behind a task that failed: it may have queued something. */
    const mr_status status = mr_event_record(mr__balancer_slot_event(slot), worker->stream);
    if (!status)
        return;
    slot->has_ended = true;
    if (!slot->status) {
        slot->status = status;
        keep_words(task);
    }
    (void)!mr_stream_wait(worker->stream);
}

static bool give(mr_balancer *balancer)
{
    mr_future *batch[BATCH];
    if (!balancer->ready_mask || balancer->is_scan_futile)
        return false;
    const uint32_t count = choose_batch(balancer, batch);
    if (!count)
        return !balancer->is_scan_futile; /* there may be more to give up */

    pthread_mutex_unlock(&balancer->lock);
    if (*mr_last_error())
        (void)mr_error_set(MR_OK, "%s", ""); /* for a task that fails without words */
    for (uint32_t i = 0; i < count; i++)
        call_submit(balancer, batch[i]);
    pthread_mutex_lock(&balancer->lock);

    for (uint32_t i = 0; i < count; i++) {
        batch[i]->slot->is_recorded = true;
        if (!batch[i]->slot->status)
            mr__task_let_follow(batch[i]);
    }
    return true;
}

static bool call_done(mr_balancer *balancer)
{
    if (!balancer->done_list.first)
        return false;
    while (balancer->done_list.first) {
        mr_future *task = balancer->done_list.first;
        balancer->done_list.first = task->done_next;
        if (!balancer->done_list.first)
            balancer->done_list.last = NULL;
        task->done_next = NULL;
        mr_task_result result;
        mr__task_fill_result(task, &result);
        pthread_mutex_unlock(&balancer->lock);
        task->task.done(task->task.context, &result);
        pthread_mutex_lock(&balancer->lock);
        mr__task_release(task);
    }
    return true;
}

/* ---- driving ---- */

static bool look_now(mr_balancer *balancer)
{
    if (!balancer->statistics.in_flight)
        return false;
    const uint64_t began_ns = mr__balancer_now_ns(balancer);
    if (began_ns < balancer->next_look_ns)
        return false;
    const bool has_found = mr__balancer_look(balancer);
    const uint64_t ended_ns = mr__balancer_now_ns(balancer);
    balancer->next_look_ns = ended_ns + LOOK_PAUSE_NS + LOOK_SHARE * (ended_ns - began_ns);
    return has_found;
}

void mr__balancer_drive(mr_balancer *balancer, uint32_t rounds)
{
    if (balancer->is_driven)
        return;
    balancer->is_driven = true;
    balancer->driver = pthread_self();
    balancer->drive_count++;
    for (uint32_t i = 0; i < rounds; i++) {
        balancer->is_asked = false;
        bool has_moved = look_now(balancer);
        has_moved |= mr__balancer_replace_broken(balancer);
        has_moved |= give(balancer);
        has_moved |= call_done(balancer);
        if (!has_moved && !balancer->is_asked)
            break;
    }
    balancer->is_driven = false;
    /* Who waits to drive. */
    if (balancer->waiter_count)
        mr__gate_notify(&balancer->changed, true);
}
