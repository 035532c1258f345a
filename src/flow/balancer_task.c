/* SPDX-License-Identifier: MIT */
/*
 * Task records: where they come from, the lists that they are in, and how they end.
 */
#include "base/alloc.h"
#include "flow/balancer_parts.h"

#include <stdio.h>
#include <string.h>

enum { CHUNK_TASKS = 32 };

/* ---- records ---- */

static bool add_chunk(mr_balancer *balancer)
{
    struct mr__task_chunk *chunk = mr__zalloc(sizeof *chunk + CHUNK_TASKS * sizeof chunk->tasks[0]);
    if (!chunk)
        return false;
    chunk->next = balancer->chunks;
    balancer->chunks = chunk;
    for (int i = 0; i < CHUNK_TASKS; i++) {
        mr_future *task = &chunk->tasks[i];
        task->balancer = balancer;
        task->edges = task->few_edges;
        task->edge_capacity = MR__TASK_EDGES;
        task->next = balancer->free;
        balancer->free = task;
    }
    return true;
}

mr_future *mr__task_take(mr_balancer *balancer)
{
    if (!balancer->free && !add_chunk(balancer))
        return NULL;
    mr_future *task = balancer->free;
    balancer->free = task->next;
    task->next = NULL;
    task->references = 1;
    return task;
}

void mr__task_free_chunk(struct mr__task_chunk *chunk)
{
    for (int i = 0; i < CHUNK_TASKS; i++) {
        if (chunk->tasks[i].edges != chunk->tasks[i].few_edges)
            mr__free(chunk->tasks[i].edges);
        mr__free(chunk->tasks[i].words);
    }
    mr__free(chunk);
}

static void remove_edge(struct mr__task_edge *edge)
{
    if (!edge->is_listed)
        return;
    if (edge->previous)
        edge->previous->next = edge->next;
    else
        edge->before->followers = edge->next;
    if (edge->next)
        edge->next->previous = edge->previous;
    edge->is_listed = false;
}

/* Edges end with the task, so that a chain of records does not live as long as its last. */
static void drop_edges(mr_future *task)
{
    for (uint32_t i = 0; i < task->edge_count; i++) {
        remove_edge(&task->edges[i]);
        mr__task_release(task->edges[i].before);
    }
    task->edge_count = 0;
}

/* Has ended, so there is nothing behind it and no depth of recursion. */
void mr__task_release(mr_future *task)
{
    if (--task->references)
        return;
    mr_balancer *balancer = task->balancer;
    drop_edges(task);
    mr__free(task->words);
    struct mr__task_edge *edges = task->edges;
    const uint32_t capacity = task->edge_capacity;
    memset(task, 0, sizeof *task);
    task->balancer = balancer;
    task->edges = edges;
    task->edge_capacity = capacity;
    task->next = balancer->free;
    balancer->free = task;
}

bool mr__task_reserve_edges(mr_future *task, size_t count)
{
    if (count <= task->edge_capacity)
        return true;
    struct mr__task_edge *edges =
        count <= UINT32_MAX ? mr__zalloc_array(count, sizeof *edges) : NULL;
    if (!edges)
        return false;
    if (task->edges != task->few_edges)
        mr__free(task->edges);
    task->edges = edges;
    task->edge_capacity = (uint32_t)count;
    return true;
}

void mr__task_connect(mr_future *task, mr_future *before)
{
    struct mr__task_edge *edge = &task->edges[task->edge_count++];
    *edge = (struct mr__task_edge){ .before = before, .owner = task };
    before->references++;
    /* What fails in its function is known before its slot counts as recorded. */
    if (before->state == MR__TASK_GIVEN && before->slot->is_recorded && !before->slot->status) {
        before->has_given_followers = true;
        return;
    }
    edge->next = before->followers;
    if (edge->next)
        edge->next->previous = edge;
    before->followers = edge;
    edge->is_listed = true;
    task->blocked_count++;
}

/* ---- ready ---- */

static uint32_t level_of(const mr_future *task)
{
    return (uint32_t)(task->task.priority - MR__TASK_PRIORITY_LEAST);
}

/* The scan looks at the first few: what is put behind those changes nothing, but where they wait for
 * other devices. */
static bool may_go_at_once(const mr_balancer *balancer, const mr_future *task)
{
    return balancer->is_scan_futile && (task->bound || balancer->is_scan_bound) &&
           mr__model_has_place(&balancer->model, task->task.device, mr__balancer_now_ns(balancer));
}

/* By number: one that is tried again, or was let go late, takes its old place. */
void mr__task_make_ready(mr_future *task)
{
    mr_balancer *balancer = task->balancer;
    const uint32_t level = level_of(task);
    struct mr__task_list *list = &balancer->ready[level];
    task->state = MR__TASK_READY;
    mr_future *previous = list->last;
    while (previous && previous->sequence > task->sequence)
        previous = previous->previous;
    if (previous != list->last || balancer->ready_mask >> level >> 1 ||
        balancer->statistics.waiting < MR__BALANCER_WINDOW || may_go_at_once(balancer, task))
        balancer->is_scan_futile = false;
    task->previous = previous;
    task->next = previous ? previous->next : list->first;
    *(previous ? &previous->next : &list->first) = task;
    *(task->next ? &task->next->previous : &list->last) = task;
    balancer->ready_mask |= UINT32_C(1) << level;
    if (task->bound)
        task->bound->waiting_count++;
    if (++balancer->statistics.waiting > balancer->statistics.waiting_peak)
        balancer->statistics.waiting_peak = balancer->statistics.waiting;
}

void mr__task_remove_ready(mr_future *task)
{
    mr_balancer *balancer = task->balancer;
    const uint32_t level = level_of(task);
    struct mr__task_list *list = &balancer->ready[level];
    *(task->previous ? &task->previous->next : &list->first) = task->next;
    *(task->next ? &task->next->previous : &list->last) = task->previous;
    if (!list->first)
        balancer->ready_mask &= ~(UINT32_C(1) << level);
    task->previous = task->next = NULL;
    if (task->bound)
        task->bound->waiting_count--;
    balancer->statistics.waiting--;
    balancer->is_scan_futile = false;
}

mr_future *mr__task_next_ready(const mr_balancer *balancer, const mr_future *task)
{
    if (task && task->next)
        return task->next;
    const uint32_t done = task ? level_of(task) + 1 : 0;
    const uint32_t left = done < 32 ? balancer->ready_mask >> done << done : 0;
    return left ? balancer->ready[__builtin_ctz(left)].first : NULL;
}

/* ---- what follows ---- */

void mr__task_let_follow(mr_future *task)
{
    while (task->followers) {
        struct mr__task_edge *edge = task->followers;
        remove_edge(edge);
        task->has_given_followers = true;
        if (--edge->owner->blocked_count == 0)
            mr__task_make_ready(edge->owner);
    }
}

/* ---- results ---- */

static void keep_untold(const mr_future *task)
{
    mr_balancer *balancer = task->balancer;
    if (task->is_reported || task->has_result || task->status == MR_E_CANCELLED || balancer->untold)
        return;
    balancer->untold = task->status;
    balancer->untold_words = task->words ? mr__copy_text(task->words) : NULL;
}

static void keep_result(mr_future *task)
{
    mr_balancer *balancer = task->balancer;
    if (!task->has_result)
        return;
    balancer->untaken++;
    if (balancer->results == MR_RESULTS_IN_ORDER)
        return;
    mr_future *last = balancer->result_list.last;
    *(last ? &last->result_next : &balancer->result_list.first) = task;
    task->result_previous = last;
    balancer->result_list.last = task;
}

static void keep_done(mr_future *task)
{
    if (!task->task.done)
        return;
    struct mr__task_list *list = &task->balancer->done_list;
    task->references++;
    *(list->last ? &list->last->done_next : &list->first) = task;
    list->last = task;
}

static void count_end(const mr_future *task)
{
    mr_balancer_statistics *statistics = &task->balancer->statistics;
    if (!task->status)
        statistics->succeeded++;
    else if (task->status == MR_E_CANCELLED)
        statistics->cancelled++;
    else
        statistics->failed++;
}

/* Without what follows. */
static void end_one(mr_future *task, mr_status status, const char *words)
{
    mr_balancer *balancer = task->balancer;
    task->state = MR__TASK_ENDED;
    task->status = status;
    char *own_words = status && words && *words ? mr__copy_text(words) : NULL;
    mr__free(task->words);
    task->words = own_words;
    drop_edges(task);
    count_end(task);
    if (status)
        keep_untold(task);
    keep_result(task);
    keep_done(task);
    balancer->unfinished--;
    if (balancer->waiter_count)
        mr__gate_notify(&balancer->changed, true);
}

void mr__task_blame(const mr_future *before, char *words, size_t words_bytes)
{
    snprintf(words, words_bytes, "comes after task %llu, which failed: %s",
             (unsigned long long)before->sequence,
             before->words ? before->words : mr_status_text(before->status));
}

/* Moves those that wait for `task` to the list of the doomed. */
static void doom_followers(mr_future *task, struct mr__task_list *doomed)
{
    while (task->followers) {
        mr_future *follower = task->followers->owner;
        for (uint32_t i = 0; i < follower->edge_count; i++)
            remove_edge(&follower->edges[i]);
        follower->blocked_count = 0;
        *(doomed->last ? &doomed->last->next : &doomed->first) = follower;
        doomed->last = follower;
    }
}

/* A list, as a chain of tasks can be long. */
static void end_doomed(struct mr__task_list *doomed, mr_status status, const char *words)
{
    while (doomed->first) {
        mr_future *task = doomed->first;
        doomed->first = task->next;
        if (!doomed->first)
            doomed->last = NULL;
        task->next = NULL;
        doom_followers(task, doomed);
        end_one(task, status, words);
        mr__task_release(task);
    }
}

void mr__task_end(mr_future *task, mr_status status, const char *words)
{
    struct mr__task_list doomed = { NULL, NULL };
    if (status) {
        char inherited[sizeof(((mr_task_result *)0)->words)];
        doom_followers(task, &doomed);
        end_one(task, status, words);
        mr__task_blame(task, inherited, sizeof inherited);
        end_doomed(&doomed, status, inherited);
    } else {
        mr__task_let_follow(task);
        end_one(task, status, words);
    }
    mr__task_release(task);
}

void mr__task_cancel(mr_future *task, mr_status status, const char *words)
{
    if (task->state == MR__TASK_READY)
        mr__task_remove_ready(task);
    mr__task_end(task, status, words);
}

void mr__task_fill_result(const mr_future *task, mr_task_result *result)
{
    *result = (mr_task_result){ .sequence = task->sequence,
                                .context = task->task.context,
                                .status = task->status,
                                .worker = task->attempts ? task->worker : UINT32_MAX,
                                .attempts = task->attempts,
                                .busy_ns = (uint64_t)task->busy_ns,
                                .is_measured = task->is_measured };
    if (task->status)
        snprintf(result->words, sizeof result->words, "%s",
                 task->words ? task->words : mr_status_text(task->status));
}

mr_status mr__task_say(const mr_future *task)
{
    if (!task->status)
        return MR_OK;
    return mr_error_set(task->status, "balancer '%s', task %llu: %s", task->balancer->name,
                        (unsigned long long)task->sequence,
                        task->words ? task->words : mr_status_text(task->status));
}
