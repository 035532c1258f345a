/* SPDX-License-Identifier: MIT */
/*
 * Lent memory: items that follow one another are one stretch, and stretches are copied in as few
 * pieces as can be.
 */
#include "flow/pipeline.h"

static bool follows(const struct mr__stretch *last, const struct mr__spot *spot, size_t stride)
{
    const size_t distance = (size_t)last->count * stride;
    if (last->spot.buffer || spot->buffer)
        return last->spot.buffer == spot->buffer && last->spot.offset + distance == spot->offset;
    return last->spot.host + distance == spot->host;
}

bool mr__stretches_add(struct mr__stretches *stretches, uint32_t item, const struct mr__spot *spot,
                       size_t stride)
{
    if (stretches->count) {
        struct mr__stretch *last = &stretches->list[stretches->count - 1];
        if (follows(last, spot, stride)) {
            last->count++;
            return true;
        }
        if (stretches->count == stretches->capacity)
            return false;
    }
    stretches->list[stretches->count++] =
        (struct mr__stretch){ .spot = *spot, .first = item, .count = 1 };
    return true;
}

static const struct mr__stretch *find_stretch(const struct mr__stretches *stretches, uint32_t item)
{
    uint32_t low = 0, high = stretches->count - 1;
    while (low < high) {
        const uint32_t middle = (low + high + 1) / 2;
        if (stretches->list[middle].first <= item)
            low = middle;
        else
            high = middle - 1;
    }
    return &stretches->list[low];
}

struct mr__spot mr__stretches_spot(const struct mr__stretches *stretches, uint32_t item,
                                   size_t stride)
{
    const struct mr__stretch *stretch = find_stretch(stretches, item);
    const size_t distance = (item - stretch->first) * stride;
    struct mr__spot spot = stretch->spot;
    spot.offset += distance;
    if (spot.host)
        spot.host += distance;
    return spot;
}

char *mr__stretches_host(const struct mr__stretches *stretches, uint32_t item, size_t stride)
{
    const struct mr__stretch *stretch = find_stretch(stretches, item);
    return stretch->spot.host ? stretch->spot.host + (item - stretch->first) * stride : NULL;
}

/* ---- pieces ---- */

/* Walks both lists at once: items [first, first + count) are contiguous on both sides. */
struct piece {
    uint32_t first, count;
    size_t size_bytes;
    const struct mr__stretch *target, *source;
};

struct walk {
    const struct mr__stretches *targets, *sources;
    const size_t *sizes;
    size_t stride, gap_limit;
    uint32_t next, count;
    uint32_t target, source; /* in their lists */
};

static uint32_t stretch_end(const struct mr__stretch *stretch)
{
    return stretch->first + stretch->count;
}

static bool next_piece(struct walk *walk, struct piece *piece)
{
    if (walk->next >= walk->count)
        return false;
    while (stretch_end(&walk->targets->list[walk->target]) <= walk->next)
        walk->target++;
    while (stretch_end(&walk->sources->list[walk->source]) <= walk->next)
        walk->source++;
    piece->target = &walk->targets->list[walk->target];
    piece->source = &walk->sources->list[walk->source];

    uint32_t end = walk->count;
    if (stretch_end(piece->target) < end)
        end = stretch_end(piece->target);
    if (stretch_end(piece->source) < end)
        end = stretch_end(piece->source);
    uint32_t last = walk->next;
    while (last + 1 < end && walk->stride - walk->sizes[last] <= walk->gap_limit)
        last++;
    piece->first = walk->next;
    piece->count = last + 1 - walk->next;
    piece->size_bytes = (last - walk->next) * walk->stride + walk->sizes[last];
    walk->next = last + 1;
    return true;
}

/* The buffer and offset of a piece's side. */
static mr_buffer *buffer_of(const struct mr__place *place, const struct mr__stretch *stretch,
                            const struct piece *piece, size_t stride, size_t *offset)
{
    const size_t inside = (piece->first - stretch->first) * stride;
    if (stretch->spot.buffer) {
        *offset = stretch->spot.offset + inside;
        return stretch->spot.buffer;
    }
    *offset = (uintptr_t)stretch->spot.host + inside - MR__WINDOW_BASE;
    return place->window;
}

mr_status mr__stretches_copy(mr_stream *stream, const struct mr__place *place,
                             const struct mr__stretches *targets,
                             const struct mr__stretches *sources, const size_t *sizes,
                             size_t stride, uint32_t count, size_t gap_limit)
{
    struct walk walk = { .targets = targets,
                         .sources = sources,
                         .sizes = sizes,
                         .stride = stride,
                         .gap_limit = gap_limit,
                         .count = count };
    struct piece piece;
    while (next_piece(&walk, &piece)) {
        if (!piece.size_bytes)
            continue;
        size_t to, from;
        mr_buffer *target = buffer_of(place, piece.target, &piece, stride, &to);
        mr_buffer *source = buffer_of(place, piece.source, &piece, stride, &from);
        const mr_status status = mr_copy(stream, target, to, source, from, piece.size_bytes);
        if (status)
            return status;
    }
    return MR_OK;
}

void mr__stretches_carry(struct mr__crew *crew, struct mr__crew_ticket *ticket,
                         const struct mr__stretches *targets, const struct mr__stretches *sources,
                         const size_t *sizes, size_t stride, uint32_t count, bool is_streamed)
{
    struct walk walk = {
        .targets = targets, .sources = sources, .sizes = sizes, .stride = stride, .count = count
    };
    struct piece piece;
    while (next_piece(&walk, &piece)) {
        char *to = piece.target->spot.host + (piece.first - piece.target->first) * stride;
        const char *from = piece.source->spot.host + (piece.first - piece.source->first) * stride;
        mr__crew_copy(crew, ticket, to, from, piece.size_bytes, is_streamed);
    }
}
