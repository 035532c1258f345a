/* SPDX-License-Identifier: MIT */
/*
 * Capture: which streams are in it, what cannot be recorded, and whether all is joined at the end.
 *
 * Every captured stream has a clock: how far it knows of each stream of the capture, itself included.
 * A record of an event is a copy of it, a wait takes the later of both, and at the end the first stream
 * must know of all the others' last.
 */
#include "base/alloc.h"
#include "core/capture.h"
#include "core/graph.h"

#include <assert.h>
#include <stdio.h>

struct clock {
    uint64_t *ticks; /* by stream; what is beyond `count` is 0 */
    size_t count;
};

struct captured {
    mr_stream *stream; /* NULL when it was destroyed */
    struct clock known;
    char name[64];
};

struct mr__capture {
    struct mr__capture *next; /* of the thread */
    uint64_t id;
    mr_graph *graph;           /* without its plan until the end */
    struct captured *captured; /* the first is where it began */
    size_t captured_count;
    struct clock *marks; /* of recorded events */
    size_t mark_count, mark_capacity;
    bool is_broken;
    bool is_over; /* for the backend */
    char cause[400];
};

static _Atomic uint64_t last_capture_id;
static _Thread_local struct mr__capture *captures; /* this thread's */

/* ---- clocks: false when memory is out ---- */

static bool clock_grow(struct clock *clock, size_t count)
{
    if (count <= clock->count)
        return true;
    uint64_t *ticks = mr__resize_array(clock->ticks, count, sizeof *ticks);
    if (!ticks)
        return false;
    for (size_t i = clock->count; i < count; i++)
        ticks[i] = 0;
    clock->ticks = ticks;
    clock->count = count;
    return true;
}

static bool clock_merge(struct clock *clock, const struct clock *other)
{
    if (!clock_grow(clock, other->count))
        return false;
    for (size_t i = 0; i < other->count; i++)
        if (clock->ticks[i] < other->ticks[i])
            clock->ticks[i] = other->ticks[i];
    return true;
}

static uint64_t clock_at(const struct clock *clock, size_t i)
{
    return i < clock->count ? clock->ticks[i] : 0;
}

/* ---- captures and their streams ---- */

static struct mr__capture *capture_of(const mr_stream *stream)
{
    return atomic_load_explicit(&((mr_stream *)stream)->capture, memory_order_relaxed);
}

static bool is_mine(const struct mr__capture *capture)
{
    for (const struct mr__capture *mine = captures; mine; mine = mine->next)
        if (mine == capture)
            return true;
    return false;
}

static struct mr__capture *find_mine(uint64_t id)
{
    struct mr__capture *capture = captures;
    while (capture && capture->id != id)
        capture = capture->next;
    return capture;
}

/* Room for a stream, its clock at 1. False when memory is out. */
static bool add_stream(struct mr__capture *capture, mr_stream *stream)
{
    const size_t i = capture->captured_count;
    struct captured *captured = mr__resize_array(capture->captured, i + 1, sizeof *captured);
    if (!captured)
        return false;
    capture->captured = captured;
    captured[i] = (struct captured){ .stream = stream };
    if (!clock_grow(&captured[i].known, i + 1))
        return false;
    captured[i].known.ticks[i] = 1;
    snprintf(captured[i].name, sizeof captured[i].name, "%s", stream->life->stream_name);
    capture->captured_count++;
    return true;
}

static void drop_stream(struct mr__capture *capture)
{
    mr__free(capture->captured[--capture->captured_count].known.ticks);
}

static void enter_stream(struct mr__capture *capture, mr_stream *stream, size_t index)
{
    stream->capture_index = index;
    atomic_store_explicit(&stream->capture, capture, memory_order_relaxed);
}

/* Ends it for the backend; `*plan` may be NULL afterwards. */
static mr_status end_backend(struct mr__capture *capture, struct mr_plan **plan)
{
    *plan = NULL;
    if (capture->is_over)
        return MR_OK;
    const mr_stream *origin = capture->captured[0].stream;
    capture->is_over = true;
    return origin->ops->capture_end(origin->queue, plan);
}

static void free_capture(struct mr__capture *capture)
{
    struct mr__capture **link = &captures;
    while (*link && *link != capture)
        link = &(*link)->next;
    if (*link)
        *link = capture->next;

    for (size_t i = 0; i < capture->captured_count; i++) {
        struct captured *captured = &capture->captured[i];
        if (captured->stream && capture_of(captured->stream) == capture)
            atomic_store_explicit(&captured->stream->capture, NULL, memory_order_relaxed);
        mr__free(captured->known.ticks);
    }
    for (size_t i = 0; i < capture->mark_count; i++)
        mr__free(capture->marks[i].ticks);
    mr_graph_destroy(capture->graph);
    mr__free(capture->captured);
    mr__free(capture->marks);
    mr__free(capture);
}

/* ---- breaking ---- */

/* The first cause stays. */
static void break_capture(struct mr__capture *capture, const char *call, const char *where,
                          const char *why)
{
    if (capture->is_broken)
        return;
    capture->is_broken = true;
    snprintf(capture->cause, sizeof capture->cause, "%s of %s: %s", call, where, why);
}

static mr_status refuse(struct mr__capture *capture, const char *call, const char *where,
                        const char *why)
{
    break_capture(capture, call, where, why);
    return mr_error_set(MR_E_STATE,
                        "%s of %s: %s; this breaks the capture that began on stream '%s'", call,
                        where, why, capture->captured[0].name);
}

static const char *stream_text(const mr_stream *stream, char text[static 128])
{
    snprintf(text, 128, "stream '%.100s'", stream->life->stream_name);
    return text;
}

static mr_status refuse_foreign(const char *call, const mr_stream *stream)
{
    return mr_error_set(MR_E_STATE, "%s: stream '%s' is being captured by another thread", call,
                        stream->life->stream_name);
}

mr_status mr__capture_admit(const char *call, const mr_stream *stream)
{
    const struct mr__capture *capture = capture_of(stream);
    if (!capture)
        return mr__capture_refuse_device(call, stream->device, "the legacy default stream");
    if (!is_mine(capture))
        return refuse_foreign(call, stream);
    if (capture->is_broken)
        return mr_error_set(MR_E_STATE,
                            "%s: the capture that began on stream '%s' was broken by %s; end it",
                            call, capture->captured[0].name, capture->cause);
    return MR_OK;
}

mr_status mr__capture_refuse_slowly(const char *call, const mr_stream *stream, const char *why)
{
    char text[128];
    struct mr__capture *capture = capture_of(stream);
    if (!capture)
        return MR_OK; /* it has ended meanwhile, on another thread */
    return is_mine(capture) ? refuse(capture, call, stream_text(stream, text), why)
                            : refuse_foreign(call, stream);
}

static mr_status refuse_stale(const char *call)
{
    return mr_error_set(MR_E_STATE,
                        "%s: the event was last recorded in a capture, which has ended or is "
                        "another thread's: it marks a place in a graph; record it anew",
                        call);
}

mr_status mr__capture_refuse_event(const char *call, const mr_event *event)
{
    struct mr__capture *capture = find_mine(event->capture_id);
    return capture ? refuse(capture, call, "an event of the capture",
                            "nothing runs that could be waited for")
                   : refuse_stale(call);
}

mr_status mr__capture_refuse_device(const char *call, const mr_device *device, const char *subject)
{
    struct mr__capture *capture = captures;
    while (capture && capture->graph->device != device)
        capture = capture->next;
    if (__builtin_expect(!capture, 1))
        return MR_OK;
    return refuse(capture, call, subject ? subject : device->properties.id,
                  "it cannot be recorded in a graph of the device");
}

void mr__capture_refuse_life(const char *call, const struct mr__stream_life *life)
{
    for (struct mr__capture *capture = captures; capture; capture = capture->next)
        for (size_t i = 0; i < capture->captured_count; i++) {
            const mr_stream *stream = capture->captured[i].stream;
            char text[128];
            if (stream && stream->life == life)
                break_capture(capture, call, stream_text(stream, text), "it waits for the stream");
        }
}

mr_status mr__capture_check_memory(const char *call, const mr_stream *stream,
                                   const mr_buffer *buffer, const struct mr_memory *memory)
{
    if (memory->place != MR_PLACE_PAGEABLE || stream->device->properties.is_host_memory)
        return MR_OK;
    char text[128], why[256];
    snprintf(why, sizeof why,
             "buffer '%.100s' is pageable host memory, which a GPU cannot copy on its own; use "
             "pinned memory",
             buffer->name);
    return refuse(capture_of(stream), call, stream_text(stream, text), why);
}

/* ---- recorded work ---- */

struct mr__holdings *mr__capture_holdings(const mr_stream *stream)
{
    return capture_of(stream)->graph->holdings;
}

mr_status mr__capture_use(const mr_stream *stream, mr_buffer *buffer, size_t offset,
                          size_t size_bytes, mr_access access)
{
    if (mr__holdings_add_buffer(mr__capture_holdings(stream), buffer, offset, size_bytes, access))
        return MR_OK;
    return mr_error_set(MR_E_NO_MEMORY, "buffer '%s': out of memory for noting its use",
                        buffer->name);
}

void mr__capture_advance(mr_stream *stream)
{
    capture_of(stream)->captured[stream->capture_index].known.ticks[stream->capture_index]++;
}

/* ---- events ---- */

void mr__capture_forget_event(mr_event *event)
{
    if (event->point)
        event->point->ops->point_release(event->point);
    mr__stream_life_release(event->life);
    event->point = NULL;
    event->life = NULL;
    event->stream_id = event->sequence = event->capture_id = 0;
    atomic_store_explicit(&event->is_reached, false, memory_order_relaxed);
}

/* A copy of the stream's clock among the marks. False when memory is out. */
static bool add_mark(struct mr__capture *capture, const mr_stream *stream)
{
    if (!mr__grow_array(&capture->marks, sizeof *capture->marks, capture->mark_count + 1,
                        &capture->mark_capacity))
        return false;
    struct clock *mark = &capture->marks[capture->mark_count];
    *mark = (struct clock){ 0 };
    if (!clock_merge(mark, &capture->captured[stream->capture_index].known))
        return false;
    capture->mark_count++;
    return true;
}

mr_status mr__capture_record(mr_event *event, mr_stream *stream)
{
    struct mr__capture *capture = capture_of(stream);
    if (!add_mark(capture, stream))
        return mr_error_set(MR_E_NO_MEMORY, "mr_event_record: out of memory on stream '%s'",
                            stream->life->stream_name);
    struct mr_point *point;
    const mr_status status = stream->ops->point_record(stream->queue, false, &point);
    if (status) {
        mr__free(capture->marks[--capture->mark_count].ticks);
        return status;
    }
    mr__capture_forget_event(event);
    event->point = point;
    event->stream_id = stream->id;
    event->capture_id = capture->id;
    event->capture_mark = capture->mark_count - 1;
    return MR_OK;
}

static const char wait_call[] = "mr_stream_wait_event";

/* The stream is captured already, or shall be drawn into `capture`: why not? NULL: nothing is wrong. */
static const char *find_obstacle(const struct mr__capture *capture, const mr_stream *stream)
{
    const struct mr__capture *present = capture_of(stream);
    if (stream->device != capture->graph->device)
        return "an event of the capture cannot be waited for on another device";
    if (present && present != capture)
        return "the event is of another capture";
    if (stream->kind == MR_STREAM_LEGACY)
        return "the legacy default stream cannot be captured";
    return NULL;
}

static mr_status join_mark(struct mr__capture *capture, mr_stream *stream, const mr_event *event)
{
    const bool is_new = !mr__stream_is_captured(stream);
    const size_t index = is_new ? capture->captured_count : stream->capture_index;
    const struct clock *mark = &capture->marks[event->capture_mark];
    if (is_new && !add_stream(capture, stream))
        goto no_memory;
    if (!clock_merge(&capture->captured[index].known, mark))
        goto no_memory;

    const mr_status status = stream->ops->queue_wait_point(stream->queue, event->point);
    if (status) {
        if (is_new)
            drop_stream(capture);
        return status;
    }
    if (is_new)
        enter_stream(capture, stream, index);
    return MR_OK;

no_memory:
    if (is_new && capture->captured_count > index)
        drop_stream(capture);
    return mr_error_set(MR_E_NO_MEMORY, "mr_stream_wait_event: out of memory on stream '%s'",
                        stream->life->stream_name);
}

mr_status mr__capture_wait(mr_stream *stream, const mr_event *event)
{
    char text[128];
    const bool is_captured = mr__stream_is_captured(stream);
    const mr_status status = is_captured ? mr__capture_admit(wait_call, stream) : MR_OK;
    if (status)
        return status;

    if (!event->capture_id) {
        if (!event->point)
            return MR_OK; /* never recorded */
        return refuse(capture_of(stream), wait_call, stream_text(stream, text),
                      "the event was recorded outside of the capture");
    }
    struct mr__capture *capture = find_mine(event->capture_id);
    if (!capture)
        return is_captured ? refuse(capture_of(stream), wait_call, stream_text(stream, text),
                                    "the event is of another capture")
                           : refuse_stale(wait_call);
    const char *obstacle = find_obstacle(capture, stream);
    if (obstacle)
        return refuse(is_captured ? capture_of(stream) : capture, wait_call,
                      stream_text(stream, text), obstacle);
    if (capture->is_broken)
        return mr_error_set(MR_E_STATE, "%s: the capture of the event was broken by %s", wait_call,
                            capture->cause);
    return join_mark(capture, stream, event);
}

/* ---- begin and end ---- */

static mr_status check_begin(const mr_stream *stream)
{
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_capture_begin: stream is NULL");
    if (stream->kind == MR_STREAM_LEGACY)
        return mr_error_set(MR_E_INVALID, "mr_capture_begin: the legacy default stream cannot be "
                                          "captured; use another");
    if (!stream->ops->capture_begin)
        return mr_error_set(MR_E_UNSUPPORTED, "mr_capture_begin: %s has no graphs",
                            stream->device->properties.id);
    if (mr__stream_is_captured(stream))
        return mr_error_set(MR_E_STATE, "mr_capture_begin: stream '%s' is being captured",
                            stream->life->stream_name);
    return MR_OK;
}

mr_status mr_capture_begin(mr_stream *stream)
{
    mr_status status = check_begin(stream);
    if (status)
        return status;

    struct mr__capture *capture = mr__zalloc(sizeof *capture);
    if (!capture)
        goto no_memory;
    capture->graph = mr__graph_create_bare(stream->device);
    if (!capture->graph || !add_stream(capture, stream))
        goto no_memory;
    status = stream->ops->capture_begin(stream->queue);
    if (status)
        goto fail;
    capture->id = atomic_fetch_add_explicit(&last_capture_id, 1, memory_order_relaxed) + 1;
    capture->next = captures;
    captures = capture;
    enter_stream(capture, stream, 0);
    return MR_OK;

no_memory:
    status = mr_error_set(MR_E_NO_MEMORY, "mr_capture_begin: out of memory on stream '%s'",
                          stream->life->stream_name);
fail:
    if (capture)
        free_capture(capture);
    return status;
}

static mr_status check_end(const mr_stream *stream)
{
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_capture_end: stream is NULL");
    const struct mr__capture *capture = capture_of(stream);
    if (!capture)
        return mr_error_set(MR_E_STATE, "mr_capture_end: no capture began on stream '%s'",
                            stream->life->stream_name);
    if (!is_mine(capture))
        return refuse_foreign("mr_capture_end", stream);
    if (stream->capture_index)
        return mr_error_set(MR_E_STATE,
                            "mr_capture_end: stream '%s' was drawn into a capture that began on "
                            "stream '%s'; end it there",
                            stream->life->stream_name, capture->captured[0].name);
    return MR_OK;
}

static mr_status check_joined(const struct mr__capture *capture)
{
    const struct clock *origin = &capture->captured[0].known;
    for (size_t i = 1; i < capture->captured_count; i++)
        if (clock_at(origin, i) < clock_at(&capture->captured[i].known, i))
            return mr_error_set(MR_E_STATE,
                                "mr_capture_end: stream '%s' is not joined: record an event on it "
                                "after its last work, and let stream '%s' wait for that",
                                capture->captured[i].name, capture->captured[0].name);
    return MR_OK;
}

mr_status mr__capture_end(mr_stream *stream, mr_graph **out, bool *is_broken)
{
    *out = NULL;
    *is_broken = false;
    mr_status status = check_end(stream);
    if (status)
        return status;

    struct mr__capture *capture = capture_of(stream);
    struct mr_plan *plan;
    status = end_backend(capture, &plan);
    if (capture->is_broken)
        status = mr_error_set(MR_E_STATE,
                              "mr_capture_end: the capture that began on stream '%s' was broken "
                              "by %s",
                              capture->captured[0].name, capture->cause);
    else if (check_joined(capture))
        status = MR_E_STATE;
    else if (status)
        capture->is_broken = true;
    *is_broken = capture->is_broken;

    if (plan && status) {
        plan->ops->plan_destroy(plan);
    } else if (!status) {
        mr_graph *graph = capture->graph;
        size_t edge_count;
        graph->plan = plan;
        plan->ops->plan_size(plan, &graph->holdings->captured_count, &edge_count);
        capture->graph = NULL;
        *out = graph;
    }
    free_capture(capture);
    return status;
}

mr_status mr_capture_end(mr_stream *stream, mr_graph **out)
{
    bool is_broken;
    return mr__capture_end(stream, out, &is_broken);
}

void mr__capture_leave(mr_stream *stream)
{
    char text[128];
    struct mr_plan *plan;
    struct mr__capture *capture = capture_of(stream);
    assert(is_mine(capture) && "a stream is destroyed while another thread captures it");

    break_capture(capture, "mr_stream_destroy", stream_text(stream, text), "it was being captured");
    (void)end_backend(capture, &plan);
    if (plan)
        plan->ops->plan_destroy(plan);
    if (stream->capture_index == 0) {
        free_capture(capture);
        return;
    }
    capture->captured[stream->capture_index].stream = NULL;
    atomic_store_explicit(&stream->capture, NULL, memory_order_relaxed);
}

mr_status mr_capture_refuse(const mr_stream *stream, const char *call, const char *why)
{
    if (!stream)
        return MR_OK;
    return mr__capture_refuse(call ? call : "a call", stream, why ? why : "it cannot be recorded");
}

bool mr_stream_is_capturing(const mr_stream *stream)
{
    return stream && mr__stream_is_captured(stream);
}
