/* SPDX-License-Identifier: MIT */
/*
 * See hop.h. What a hop is made of does not count as children of its devices: they may close while the
 * stream lives on, and take the hop with them.
 */
#include "core/hop.h"

#include "base/alloc.h"
#include "core/relay.h"

#include <string.h>

/* A GPU's copies reach their full rate at about this size; four of them keep both ways busy. */
enum { SLOT_BYTES = 2 << 20, SLOT_COUNT = 4 };

struct hop_slot {
    mr_buffer *memory;
    mr_event *full, *empty;
};

struct hop {
    struct hop *next;
    const mr_stream *user;
    mr_device *source, *target;
    mr_stream *out, *in; /* of the source, of the target */
    mr_event *fork;      /* what the user's stream was given before */
    struct hop_slot slots[SLOT_COUNT];
    uint32_t next_slot;
};

/* Few, and looked for only by copies that take much longer. */
static struct hop *hops;
static pthread_mutex_t hops_lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- made and freed ---- */

static mr_status make_stream(mr_device *device, const char *name, mr_stream **out)
{
    const mr_stream_options options = { .name = name };
    const mr_status status = mr_stream_create(device, &options, out);
    if (!status)
        mr__device_remove_child(device);
    return status;
}

static mr_status make_event(mr_device *device, mr_event **out)
{
    const mr_status status = mr_event_create(device, NULL, out);
    if (!status)
        mr__device_remove_child(device);
    return status;
}

static mr_status make_slot(const struct hop *hop, struct hop_slot *slot)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED, .name = "between devices" };
    mr_status status = mr_buffer_create(hop->target, SLOT_BYTES, &pinned, &slot->memory);
    if (!status)
        mr__device_remove_child(hop->target);
    if (!status)
        status = make_event(hop->source, &slot->full);
    if (!status)
        status = make_event(hop->target, &slot->empty);
    return status;
}

static void end_event(mr_device *device, mr_event *event)
{
    if (!event)
        return;
    mr__device_add_child(device);
    mr_event_destroy(event);
}

static void end_stream(mr_device *device, mr_stream *stream)
{
    if (!stream)
        return;
    mr__device_add_child(device);
    mr_stream_destroy(stream);
}

static void end_hop(struct hop *hop)
{
    /* Destroying a stream waits for its work; the one that fills comes first. */
    end_stream(hop->source, hop->out);
    end_stream(hop->target, hop->in);
    end_event(hop->user->device, hop->fork);
    for (int i = 0; i < SLOT_COUNT; i++) {
        struct hop_slot *slot = &hop->slots[i];
        end_event(hop->source, slot->full);
        end_event(hop->target, slot->empty);
        if (slot->memory) {
            mr__device_add_child(hop->target);
            mr_buffer_destroy(slot->memory);
        }
    }
    mr__free(hop);
}

static mr_status make_hop(const mr_stream *user, mr_device *source, mr_device *target,
                          struct hop **out)
{
    *out = NULL;
    struct hop *hop = mr__zalloc(sizeof *hop);
    if (!hop)
        return mr_error_set(MR_E_NO_MEMORY, "mr_copy: out of memory for a copy through the host");
    hop->user = user;
    hop->source = source;
    hop->target = target;
    mr_status status = make_stream(source, "to the host", &hop->out);
    if (!status)
        status = make_stream(target, "from the host", &hop->in);
    if (!status)
        status = make_event(user->device, &hop->fork);
    for (int i = 0; i < SLOT_COUNT && !status; i++)
        status = make_slot(hop, &hop->slots[i]);
    if (status)
        end_hop(hop);
    else
        *out = hop;
    return status;
}

static struct hop *find_hop(const mr_stream *user, const mr_device *source, const mr_device *target)
{
    pthread_mutex_lock(&hops_lock);
    struct hop *hop = hops;
    while (hop && (hop->user != user || hop->source != source || hop->target != target))
        hop = hop->next;
    pthread_mutex_unlock(&hops_lock);
    return hop;
}

static mr_status use_hop(const mr_stream *user, mr_device *source, mr_device *target,
                         struct hop **out)
{
    *out = find_hop(user, source, target);
    if (*out)
        return MR_OK;
    const mr_status status = make_hop(user, source, target, out);
    if (status)
        return status;
    pthread_mutex_lock(&hops_lock);
    (*out)->next = hops;
    hops = *out;
    pthread_mutex_unlock(&hops_lock);
    return MR_OK;
}

/* Takes those out that belong to the stream or touch the device; either may be NULL. */
static void end_hops(const mr_stream *user, const mr_device *device)
{
    struct hop *ending = NULL;
    pthread_mutex_lock(&hops_lock);
    struct hop **link = &hops;
    struct hop *hop;
    while ((hop = *link)) {
        if ((user && hop->user == user) ||
            (device && (hop->source == device || hop->target == device))) {
            *link = hop->next;
            hop->next = ending;
            ending = hop;
        } else {
            link = &hop->next;
        }
    }
    pthread_mutex_unlock(&hops_lock);
    while ((hop = ending)) {
        ending = hop->next;
        end_hop(hop);
    }
}

void mr__hops_end_stream(const mr_stream *stream)
{
    end_hops(stream, NULL);
}

void mr__hops_end_device(const mr_device *device)
{
    end_hops(NULL, device);
}

/* ---- copying ---- */

bool mr__hop_is_needed(const mr_buffer *target, const mr_buffer *source)
{
    return target->device != source->device && !target->memory.host && !source->memory.host &&
           !mr_device_can_peer(target->device, source->device);
}

static mr_status move(mr_stream *via, mr_buffer *user_buffer, const struct mr_transfer *piece)
{
    mr_status status = mr__buffer_use(user_buffer, via);
    if (!status)
        status = via->ops->copy(via->queue, piece);
    if (!status)
        mr__stream_advance(via);
    return status;
}

/* `row_count` rows of `width` bytes, which fit a slot, from `column` of row `row` on. */
static mr_status copy_piece(struct hop *hop, mr_buffer *target, mr_buffer *source,
                            const struct mr_transfer *whole, size_t row, size_t row_count,
                            size_t column, size_t width)
{
    struct hop_slot *slot = &hop->slots[hop->next_slot++ % SLOT_COUNT];
    const struct mr_transfer in = {
        .target = &slot->memory->memory,
        .source = whole->source,
        .source_offset = whole->source_offset + row * whole->source_pitch + column,
        .target_pitch = width,
        .source_pitch = row_count > 1 ? whole->source_pitch : width,
        .row_bytes = width,
        .row_count = row_count,
    };
    const struct mr_transfer out = {
        .target = whole->target,
        .source = &slot->memory->memory,
        .target_offset = whole->target_offset + row * whole->target_pitch + column,
        .target_pitch = row_count > 1 ? whole->target_pitch : width,
        .source_pitch = width,
        .row_bytes = width,
        .row_count = row_count,
    };
    mr_status status = mr_stream_wait_event(hop->out, slot->empty);
    if (!status)
        status = move(hop->out, source, &in);
    if (!status)
        status = mr_event_record(slot->full, hop->out);
    if (!status)
        status = mr_stream_wait_event(hop->in, slot->full);
    if (!status)
        status = move(hop->in, target, &out);
    if (!status)
        status = mr_event_record(slot->empty, hop->in);
    return status;
}

static mr_status copy_pieces(struct hop *hop, mr_buffer *target, mr_buffer *source,
                             const struct mr_transfer *whole)
{
    const size_t fitting = SLOT_BYTES / whole->row_bytes;
    mr_status status = MR_OK;
    for (size_t row = 0; fitting && row < whole->row_count && !status; row += fitting) {
        const size_t left = whole->row_count - row;
        status = copy_piece(hop, target, source, whole, row, left < fitting ? left : fitting, 0,
                            whole->row_bytes);
    }
    for (size_t row = 0; !fitting && row < whole->row_count; row++) {
        for (size_t column = 0; column < whole->row_bytes && !status; column += SLOT_BYTES) {
            const size_t left = whole->row_bytes - column;
            status = copy_piece(hop, target, source, whole, row, 1, column,
                                left < SLOT_BYTES ? left : SLOT_BYTES);
        }
    }
    return status;
}

mr_status mr__hop_copy(mr_stream *stream, mr_buffer *target, mr_buffer *source,
                       const struct mr_transfer *transfer)
{
    struct hop *hop;
    mr_status status = use_hop(stream, source->device, target->device, &hop);
    if (!status)
        status = mr_event_record(hop->fork, stream);
    if (!status)
        status = mr_stream_wait_event(hop->out, hop->fork);
    if (!status)
        status = copy_pieces(hop, target, source, transfer);
    if (status)
        return status;
    /* As between backends: a wait that hands failures on. */
    const struct hop_slot *last = &hop->slots[(hop->next_slot - 1) % SLOT_COUNT];
    status = mr__relay_wait(stream, last->full);
    return status ? status : mr__relay_wait(stream, last->empty);
}
