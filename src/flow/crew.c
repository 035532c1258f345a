/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue of pieces under one lock, and threads that empty it. A piece takes tens of
 * microseconds, so the lock is not felt.
 */
#include "flow/crew.h"

#include "base/alloc.h"
#include "base/copy.h"

#include <pthread.h>
#include <sched.h>

enum {
    QUEUE_PIECES = 1024,     /* a power of two */
    PIECE_BYTES = 512 << 10, /* small enough to share a chunk between threads, and for memcpy to
                                   store through the cache */
};

struct piece {
    char *target;
    const char *source;
    size_t size_bytes;
    bool is_streamed;
    struct mr__crew_ticket *ticket;
};

struct mr__crew {
    pthread_mutex_t mutex;
    struct piece queue[QUEUE_PIECES];
    uint64_t head, tail;     /* taken and added so far; under the lock */
    _Atomic uint32_t queued; /* tail - head, to look at without the lock */
    _Atomic bool is_closing;
    _Atomic uint32_t ringing; /* threads that may still touch a ticket's bell */
    struct mr__bell work_bell, done_bell;
    uint32_t thread_count;
    pthread_t *threads;
};

static bool take_piece(struct mr__crew *crew, struct piece *piece)
{
    if (!atomic_load(&crew->queued))
        return false;

    pthread_mutex_lock(&crew->mutex);
    const bool is_there = crew->head < crew->tail;
    if (is_there) {
        *piece = crew->queue[crew->head++ % QUEUE_PIECES];
        atomic_fetch_sub(&crew->queued, 1);
    }
    pthread_mutex_unlock(&crew->mutex);
    return is_there;
}

static bool add_piece(struct mr__crew *crew, const struct piece *piece)
{
    pthread_mutex_lock(&crew->mutex);
    const bool has_room = crew->tail - crew->head < QUEUE_PIECES;
    if (has_room) {
        crew->queue[crew->tail++ % QUEUE_PIECES] = *piece;
        atomic_fetch_add(&crew->queued, 1);
    }
    pthread_mutex_unlock(&crew->mutex);
    return has_room;
}

/* The ticket may be gone as soon as its count is zero: read it before. */
static void count_down(struct mr__crew *crew, struct mr__crew_ticket *ticket)
{
    struct mr__bell *bell = ticket->bell;
    atomic_fetch_add(&crew->ringing, 1);
    if (atomic_fetch_sub(&ticket->left, 1) == 1) {
        if (bell)
            mr__bell_ring(bell);
        mr__bell_ring(&crew->done_bell);
    }
    atomic_fetch_sub(&crew->ringing, 1);
}

static void copy_piece(struct mr__crew *crew, const struct piece *piece)
{
    if (piece->is_streamed)
        mr__copy_streamed(piece->target, piece->source, piece->size_bytes);
    else
        mr__copy_cached(piece->target, piece->source, piece->size_bytes);
    count_down(crew, piece->ticket);
}

static bool has_work(void *context)
{
    struct mr__crew *crew = context;
    return atomic_load(&crew->queued) || atomic_load(&crew->is_closing);
}

static void *crew_main(void *context)
{
    struct mr__crew *crew = context;
    struct piece piece;
    for (;;) {
        if (take_piece(crew, &piece))
            copy_piece(crew, &piece);
        else if (atomic_load(&crew->is_closing))
            return NULL;
        else
            mr__bell_wait(&crew->work_bell, has_work, crew);
    }
}

mr_status mr__crew_create(uint32_t thread_count, struct mr__crew **out)
{
    *out = NULL;
    struct mr__crew *crew = mr__zalloc(sizeof *crew);
    if (!crew)
        return mr_error_set(MR_E_NO_MEMORY, "staging crew: out of host memory");
    pthread_mutex_init(&crew->mutex, NULL);
    mr__bell_init(&crew->work_bell);
    mr__bell_init(&crew->done_bell);

    crew->threads = mr__zalloc_array(thread_count, sizeof *crew->threads);
    if (!crew->threads)
        goto fail;
    for (; crew->thread_count < thread_count; crew->thread_count++) {
        if (pthread_create(&crew->threads[crew->thread_count], NULL, crew_main, crew))
            goto fail;
    }
    *out = crew;
    return MR_OK;

fail:
    mr__crew_destroy(crew);
    return mr_error_set(MR_E_NO_MEMORY, "staging crew: cannot start %u threads", thread_count);
}

void mr__crew_destroy(struct mr__crew *crew)
{
    if (!crew)
        return;
    atomic_store(&crew->is_closing, true);
    mr__bell_ring(&crew->work_bell);
    for (uint32_t i = 0; i < crew->thread_count; i++)
        pthread_join(crew->threads[i], NULL);
    mr__bell_fini(&crew->done_bell);
    mr__bell_fini(&crew->work_bell);
    pthread_mutex_destroy(&crew->mutex);
    mr__free(crew->threads);
    mr__free(crew);
}

uint32_t mr__crew_size(const struct mr__crew *crew)
{
    return crew->thread_count;
}

void mr__crew_open(struct mr__crew_ticket *ticket, struct mr__bell *bell)
{
    ticket->bell = bell;
    atomic_store(&ticket->left, 1);
}

void mr__crew_copy(struct mr__crew *crew, struct mr__crew_ticket *ticket, void *target,
                   const void *source, size_t size_bytes, bool is_streamed)
{
    for (size_t at = 0; at < size_bytes; at += PIECE_BYTES) {
        const size_t left = size_bytes - at;
        const struct piece piece = { .target = (char *)target + at,
                                     .source = (const char *)source + at,
                                     .size_bytes = left < PIECE_BYTES ? left : PIECE_BYTES,
                                     .is_streamed = is_streamed,
                                     .ticket = ticket };
        atomic_fetch_add(&ticket->left, 1);
        if (add_piece(crew, &piece))
            mr__bell_ring(&crew->work_bell);
        else
            copy_piece(crew, &piece);
    }
}

void mr__crew_close(struct mr__crew *crew, struct mr__crew_ticket *ticket)
{
    count_down(crew, ticket);
}

void mr__crew_settle(struct mr__crew *crew)
{
    while (crew && atomic_load(&crew->ringing))
        sched_yield();
}

bool mr__crew_is_done(const struct mr__crew_ticket *ticket)
{
    return atomic_load(&ticket->left) == 0;
}

static bool is_done(void *ticket)
{
    return mr__crew_is_done(ticket);
}

void mr__crew_wait(struct mr__crew *crew, struct mr__crew_ticket *ticket)
{
    struct piece piece;
    while (!mr__crew_is_done(ticket)) {
        if (take_piece(crew, &piece))
            copy_piece(crew, &piece);
        else
            mr__bell_wait(&crew->done_bell, is_done, ticket);
    }
}
