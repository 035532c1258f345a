/* SPDX-License-Identifier: MIT */
/*
 * A piece is cut into parts; whoever is free takes the next. The caller takes part, and returns
 * when the last part is done.
 */
#include "job/read_crew.h"

#include "base/alloc.h"
#include "job/source.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#define PART_BYTES ((size_t)1 << 20)
#define THREAD_LIMIT 16

struct mr__read_crew {
    pthread_t threads[THREAD_LIMIT];
    uint32_t thread_count; /* started, without the caller */
    pthread_mutex_t mutex; /* all below */
    pthread_cond_t work, done;
    bool is_ending;
    int file;
    const char *label;
    char *data;
    size_t size_bytes, next, finished; /* bytes: handed out, read */
    uint64_t offset;
    size_t end;       /* where the file ended, else size_bytes */
    mr_status status; /* the first failure, with its words */
    char words[MR_ERROR_BYTES];
};

uint32_t mr__read_crew_auto(void)
{
    cpu_set_t cpus;
    const int count = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus);
    return count < 6 ? 1 : count / 3 > 6 ? 6 : (uint32_t)count / 3;
}

/* Takes and reads one part, with the mutex held before and after. False when none is left. */
static bool read_part(struct mr__read_crew *crew)
{
    if (crew->next >= crew->size_bytes)
        return false;
    const size_t start = crew->next, left = crew->size_bytes - start;
    const size_t due = left < PART_BYTES ? left : PART_BYTES;
    crew->next += due;
    pthread_mutex_unlock(&crew->mutex);
    size_t got;
    const mr_status status =
        mr__read_at(crew->file, crew->label, crew->data + start, due, crew->offset + start, &got);
    pthread_mutex_lock(&crew->mutex);
    if (status && !crew->status) {
        crew->status = status;
        snprintf(crew->words, sizeof crew->words, "%s", mr_last_error());
    }
    if (got < due && start + got < crew->end)
        crew->end = start + got;
    crew->finished += due;
    if (crew->finished == crew->size_bytes)
        pthread_cond_broadcast(&crew->done);
    return true;
}

static void *serve(void *context)
{
    struct mr__read_crew *crew = context;
    pthread_mutex_lock(&crew->mutex);
    while (!crew->is_ending)
        if (!read_part(crew))
            pthread_cond_wait(&crew->work, &crew->mutex);
    pthread_mutex_unlock(&crew->mutex);
    return NULL;
}

mr_status mr__read_crew_create(uint32_t thread_count, struct mr__read_crew **out)
{
    *out = NULL;
    struct mr__read_crew *crew = mr__zalloc(sizeof *crew);
    if (!crew)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for reading threads");
    pthread_mutex_init(&crew->mutex, NULL);
    pthread_cond_init(&crew->work, NULL);
    pthread_cond_init(&crew->done, NULL);
    for (; crew->thread_count + 1 < thread_count && crew->thread_count < THREAD_LIMIT;
         crew->thread_count++) {
        const int code = pthread_create(&crew->threads[crew->thread_count], NULL, serve, crew);
        if (code) {
            mr__read_crew_destroy(crew);
            return mr_error_set(MR_E_NO_MEMORY, "a reading thread cannot start: %s",
                                strerror(code));
        }
    }
    *out = crew;
    return MR_OK;
}

void mr__read_crew_destroy(struct mr__read_crew *crew)
{
    if (!crew)
        return;
    pthread_mutex_lock(&crew->mutex);
    crew->is_ending = true;
    pthread_cond_broadcast(&crew->work);
    pthread_mutex_unlock(&crew->mutex);
    for (uint32_t k = 0; k < crew->thread_count; k++)
        pthread_join(crew->threads[k], NULL);
    pthread_cond_destroy(&crew->done);
    pthread_cond_destroy(&crew->work);
    pthread_mutex_destroy(&crew->mutex);
    mr__free(crew);
}

mr_status mr__read_crew_at(struct mr__read_crew *crew, int file, const char *label, void *data,
                           size_t size_bytes, uint64_t offset, size_t *got)
{
    if (!crew || size_bytes < 2 * PART_BYTES)
        return mr__read_at(file, label, data, size_bytes, offset, got);
    pthread_mutex_lock(&crew->mutex);
    crew->file = file;
    crew->label = label;
    crew->data = data;
    crew->offset = offset;
    crew->next = crew->finished = 0;
    crew->end = crew->size_bytes = size_bytes;
    crew->status = MR_OK;
    pthread_cond_broadcast(&crew->work);
    while (read_part(crew)) {
    }
    while (crew->finished < crew->size_bytes)
        pthread_cond_wait(&crew->done, &crew->mutex);
    crew->size_bytes = crew->next = 0;
    *got = crew->end;
    const mr_status status = crew->status;
    pthread_mutex_unlock(&crew->mutex);
    return status ? mr_error_set(status, "%s", crew->words) : MR_OK;
}
