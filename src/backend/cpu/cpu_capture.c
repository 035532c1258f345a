/* SPDX-License-Identifier: MIT */
/*
 * Capture: every captured queue has a place in the plan, the nodes that its next one comes after.
 */
#include "backend/cpu/cpu_capture.h"

#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_queue.h"
#include "base/alloc.h"

#include <string.h>

struct cpu_capture {
    struct cpu_plan *plan;
    struct cpu_arena places; /* of points */
    struct cpu_queue **queues;
    size_t queue_count;
};

static mr_status no_memory(void)
{
    return mr_error_set(MR_E_NO_MEMORY, "no memory for a capture");
}

/* ---- places ---- */

/* Room for `count` nodes; so the later changes cannot fail. */
static bool reserve_place(struct cpu_frontier *place, size_t count)
{
    return mr__grow_array(&place->nodes, sizeof *place->nodes, count, &place->capacity);
}

/* Both are ascending; `place` has room for both. Merges from the end. */
static void merge_place(struct cpu_frontier *place, const struct cpu_frontier *other)
{
    size_t a = place->count, b = other->count, shared = 0;
    for (size_t i = 0, j = 0; i < a && j < b;) {
        const uint32_t mine = place->nodes[i], theirs = other->nodes[j];
        shared += mine == theirs;
        i += mine <= theirs;
        j += theirs <= mine;
    }
    size_t end = a + b - shared;
    place->count = end;
    while (b) {
        const uint32_t node = other->nodes[b - 1];
        if (a && place->nodes[a - 1] > node) {
            place->nodes[--end] = place->nodes[--a];
            continue;
        }
        if (a && place->nodes[a - 1] == node)
            a--;
        place->nodes[--end] = node;
        b--;
    }
}

/* ---- nodes ---- */

void *mr__cpu_capture_reserve(struct cpu_queue *queue, uint32_t kind, size_t size_bytes)
{
    if (!reserve_place(&queue->place, 1)) {
        no_memory();
        return NULL;
    }
    const struct cpu_node *node = mr__cpu_plan_reserve(queue->capture->plan, kind, size_bytes,
                                                       queue->place.nodes, queue->place.count);
    return node ? node->record : NULL;
}

void mr__cpu_capture_commit(struct cpu_queue *queue)
{
    struct cpu_plan *plan = queue->capture->plan;
    mr__cpu_plan_commit(plan);
    queue->place.nodes[0] = (uint32_t)plan->node_count;
    queue->place.count = 1;
}

mr_status mr__cpu_capture_add_plan(struct cpu_queue *queue, struct cpu_plan *child)
{
    struct cpu_node *node = NULL;
    if (reserve_place(&queue->place, 1))
        node = mr__cpu_plan_reserve(queue->capture->plan, 0, 0, queue->place.nodes,
                                    queue->place.count);
    if (!node) {
        mr__cpu_plan_destroy(&child->base);
        return no_memory();
    }
    node->child = child;
    mr__cpu_capture_commit(queue);
    return MR_OK;
}

/* ---- points ---- */

mr_status mr__cpu_capture_mark(struct cpu_queue *queue, struct cpu_point *point)
{
    const size_t count = queue->place.count;
    uint32_t *nodes = mr__cpu_arena_take(&queue->capture->places, count * sizeof *nodes);
    if (!nodes)
        return no_memory();
    if (count)
        memcpy(nodes, queue->place.nodes, count * sizeof *nodes);
    point->capture = queue->capture;
    point->place = (struct cpu_frontier){ .nodes = nodes, .count = count };
    return MR_OK;
}

static mr_status draw_in(struct cpu_capture *capture, struct cpu_queue *queue)
{
    struct cpu_queue **queues =
        mr__resize_array(capture->queues, capture->queue_count + 1, sizeof(struct cpu_queue *));
    if (!queues)
        return no_memory();
    capture->queues = queues;
    queues[capture->queue_count++] = queue;
    queue->capture = capture;
    return MR_OK;
}

mr_status mr__cpu_capture_wait(struct cpu_queue *queue, const struct cpu_point *point)
{
    if (!reserve_place(&queue->place, queue->place.count + point->place.count))
        return no_memory();
    if (!queue->capture && draw_in(point->capture, queue))
        return MR_E_NO_MEMORY;
    merge_place(&queue->place, &point->place);
    return MR_OK;
}

/* ---- begin and end ---- */

static void free_capture(struct cpu_capture *capture)
{
    for (size_t i = 0; i < capture->queue_count; i++) {
        struct cpu_queue *queue = capture->queues[i];
        mr__free(queue->place.nodes);
        queue->place = (struct cpu_frontier){ 0 };
        queue->capture = NULL;
    }
    if (capture->plan)
        mr__cpu_plan_destroy(&capture->plan->base);
    mr__cpu_arena_fini(&capture->places);
    mr__free(capture->queues);
    mr__free(capture);
}

mr_status mr__cpu_capture_begin(struct mr_queue *base)
{
    struct cpu_queue *queue = cpu_queue_from(base);
    struct cpu_capture *capture = mr__zalloc(sizeof *capture);
    if (!capture)
        return no_memory();
    capture->plan = mr__cpu_plan_make(&queue->device->base);
    if (!capture->plan || draw_in(capture, queue)) {
        free_capture(capture);
        return MR_E_NO_MEMORY;
    }
    return MR_OK;
}

mr_status mr__cpu_capture_end(struct mr_queue *base, struct mr_plan **out)
{
    struct cpu_capture *capture = cpu_queue_from(base)->capture;
    *out = &capture->plan->base;
    capture->plan = NULL;
    free_capture(capture);
    return MR_OK;
}
