/* SPDX-License-Identifier: MIT */
/*
 * Images are decoded by several threads and handed on in order. Their places go round in one block of
 * memory, so that a batch of them lies together. Who begins an image holds its place, so that the next
 * one due can always be finished; places come back as the pipeline lets go of them.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/condition.h"
#include "job/vision_job.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREAD_LIMIT = 64 };

enum place { FREE, DECODING, DONE, LENT };

struct mr__vision_crew {
    struct mr__vision_job *vision;
    const uint32_t *due; /* indices of records; number k is decoded in place k % place_count */
    size_t due_count;
    size_t place_bytes;
    uint32_t place_count;
    mr_buffer *memory; /* of all places */

    pthread_t threads[THREAD_LIMIT];
    uint32_t thread_count;
    pthread_mutex_t mutex; /* all below */
    struct mr__condition room, done;
    bool is_ending;
    size_t begun;  /* images taken by threads */
    size_t next;   /* the next one to hand on */
    size_t oldest; /* none before it is lent */
    enum place *places;
};

static enum place *place_of(const struct mr__vision_crew *crew, size_t number)
{
    return &crew->places[number % crew->place_count];
}

static size_t offset_of(const struct mr__vision_crew *crew, size_t number)
{
    return number % crew->place_count * crew->place_bytes;
}

/* ---- decoding ---- */

static void decode(struct mr__vision_crew *crew, struct mr__image_file *file,
                   struct mr__vision_record *record, char *pixels)
{
    const uint64_t start = mr__clock_now_ns();
    const mr_status status = mr__vision_load(crew->vision, record, file, pixels, crew->place_bytes);
    if (status)
        mr__vision_record_fail(record, status);
    record->stage_ns[MR__VISION_DECODE] = mr__clock_now_ns() - start;
}

static bool can_begin(const struct mr__vision_crew *crew)
{
    return crew->begun < crew->due_count && *place_of(crew, crew->begun) == FREE;
}

static void *serve(void *context)
{
    struct mr__vision_crew *crew = context;
    char *memory = mr_buffer_host(crew->memory);
    struct mr__image_file file = { 0 };
    pthread_mutex_lock(&crew->mutex);
    for (;;) {
        while (!crew->is_ending && !can_begin(crew))
            (void)mr__condition_wait(&crew->room, &crew->mutex, NULL);
        if (crew->is_ending)
            break;
        const size_t number = crew->begun++;
        *place_of(crew, number) = DECODING;
        if (can_begin(crew)) /* a bad image's place may have been free for longer */
            mr__condition_notify(&crew->room, false);
        pthread_mutex_unlock(&crew->mutex);
        decode(crew, &file, &crew->vision->list.records[crew->due[number]],
               memory + offset_of(crew, number));
        pthread_mutex_lock(&crew->mutex);
        *place_of(crew, number) = DONE;
        mr__condition_notify(&crew->done, true);
    }
    pthread_mutex_unlock(&crew->mutex);
    mr__image_file_fini(&file);
    return NULL;
}

/* ---- handing on ---- */

static bool is_next_done(const struct mr__vision_crew *crew)
{
    return crew->next < crew->begun && *place_of(crew, crew->next) == DONE;
}

/* With the mutex held. All who wait for room wait for the same place. */
static void free_place(struct mr__vision_crew *crew, size_t number)
{
    *place_of(crew, number) = FREE;
    mr__condition_notify(&crew->room, false);
}

static mr_status stop_at(const struct mr__vision_record *record)
{
    return mr_error_set(record->status, "%s: %s", record->path,
                        record->words ? record->words : "out of memory");
}

mr_status mr__vision_crew_next(struct mr__vision_crew *crew, struct mr__vision_record **out,
                               mr_buffer **buffer, size_t *offset)
{
    mr_status status = MR_END;
    *out = NULL;
    pthread_mutex_lock(&crew->mutex);
    while (crew->next < crew->due_count) {
        while (!crew->is_ending && !is_next_done(crew))
            (void)mr__condition_wait(&crew->done, &crew->mutex, NULL);
        if (crew->is_ending) {
            status = mr_error_set(MR_E_CANCELLED, "the run was cancelled");
            break;
        }
        struct mr__vision_record *record = &crew->vision->list.records[crew->due[crew->next]];
        const size_t number = crew->next++;
        if (!record->status) {
            *place_of(crew, number) = LENT;
            *out = record;
            *buffer = crew->memory;
            *offset = offset_of(crew, number);
            status = MR_OK;
            break;
        }
        free_place(crew, number);
        /* No memory is no fault of the image's. */
        if (!crew->vision->is_skipping || record->status == MR_E_NO_MEMORY) {
            status = stop_at(record);
            break;
        }
        atomic_fetch_add(&crew->vision->skipped, 1);
    }
    pthread_mutex_unlock(&crew->mutex);
    return status;
}

void mr__vision_crew_give_back(struct mr__vision_crew *crew, uint32_t count)
{
    pthread_mutex_lock(&crew->mutex);
    for (; count && crew->oldest < crew->next; crew->oldest++) {
        if (crew->vision->list.records[crew->due[crew->oldest]].status)
            continue; /* it was never lent */
        free_place(crew, crew->oldest);
        count--;
    }
    pthread_mutex_unlock(&crew->mutex);
}

void mr__vision_crew_interrupt(struct mr__vision_crew *crew)
{
    pthread_mutex_lock(&crew->mutex);
    crew->is_ending = true;
    mr__condition_notify(&crew->room, true);
    mr__condition_notify(&crew->done, true);
    pthread_mutex_unlock(&crew->mutex);
}

/* ---- life ---- */

static mr_status make_places(struct mr__vision_crew *crew, mr_device *device)
{
    crew->places = mr__zalloc_array(crew->place_count, sizeof *crew->places);
    if (!crew->places)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for decoding");
    return mr_buffer_create(device, crew->place_count * crew->place_bytes,
                            &(mr_buffer_options){ .place = MR_PLACE_PINNED, .name = "images" },
                            &crew->memory);
}

static mr_status start_threads(struct mr__vision_crew *crew, uint32_t count)
{
    for (; crew->thread_count < count && crew->thread_count < THREAD_LIMIT; crew->thread_count++) {
        const int code = pthread_create(&crew->threads[crew->thread_count], NULL, serve, crew);
        if (code)
            return mr_error_set(MR_E_NO_MEMORY, "a decoding thread cannot start: %s",
                                strerror(code));
    }
    return MR_OK;
}

mr_status mr__vision_crew_create(struct mr__vision_job *vision, mr_device *device,
                                 const uint32_t *due, size_t due_count, uint32_t place_count,
                                 size_t place_bytes, struct mr__vision_crew **out)
{
    *out = NULL;
    struct mr__vision_crew *crew = mr__zalloc(sizeof *crew);
    if (!crew)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for decoding");
    pthread_mutex_init(&crew->mutex, NULL);
    crew->vision = vision;
    crew->due = due;
    crew->due_count = due_count;
    crew->place_count = place_count;
    crew->place_bytes = place_bytes;
    mr_status status = make_places(crew, device);
    if (!status)
        status = start_threads(crew, vision->threads_used);
    if (status) {
        mr__vision_crew_destroy(crew);
        return status;
    }
    *out = crew;
    return MR_OK;
}

void mr__vision_crew_destroy(struct mr__vision_crew *crew)
{
    if (!crew)
        return;
    mr__vision_crew_interrupt(crew);
    for (uint32_t k = 0; k < crew->thread_count; k++)
        pthread_join(crew->threads[k], NULL);
    mr_buffer_destroy(crew->memory);
    pthread_mutex_destroy(&crew->mutex);
    mr__free(crew->places);
    mr__free(crew);
}
