/* SPDX-License-Identifier: MIT */
/*
 * Images are decoded by several threads, each into a buffer of its own, and handed on in order. Who
 * begins an image holds a buffer for it, so that the next one due can always be finished; buffers
 * come back as the pipeline lets go of them.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/condition.h"
#include "job/vision_job.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREAD_LIMIT = 64 };

/* One image on its way. Position k uses places[k % buffer_count]. */
struct place {
    mr_buffer *buffer;
    bool is_done;
};

struct mr__vision_crew {
    struct mr__vision_job *vision;
    const uint32_t *due; /* indices of records */
    size_t due_count;
    size_t buffer_bytes;
    uint32_t place_count;
    struct place *places;
    uint32_t *lent; /* place of each image that is out, oldest first: a ring of place_count */

    pthread_t threads[THREAD_LIMIT];
    uint32_t thread_count;
    pthread_mutex_t mutex; /* all below, and is_done of the places */
    struct mr__condition room, done;
    bool is_ending;
    size_t begun;    /* images taken by threads */
    size_t next;     /* the next one to hand on */
    uint32_t *spare; /* places that are free */
    uint32_t spare_count;
    uint32_t *held; /* place of each image between next and begun: a ring of place_count */
    uint64_t lent_first, lent_end;
};

/* ---- decoding ---- */

static void decode(struct mr__vision_crew *crew, struct mr__image_file *file,
                   struct mr__vision_record *record, mr_buffer *buffer)
{
    const uint64_t start = mr__clock_now_ns();
    const mr_status status =
        mr__vision_load(crew->vision, record, file, mr_buffer_host(buffer), crew->buffer_bytes);
    if (status)
        mr__vision_record_fail(record, status);
    record->stage_ns[MR__VISION_DECODE] = mr__clock_now_ns() - start;
}

static void *serve(void *context)
{
    struct mr__vision_crew *crew = context;
    struct mr__image_file file = { 0 };
    pthread_mutex_lock(&crew->mutex);
    for (;;) {
        while (!crew->is_ending && (crew->begun == crew->due_count || !crew->spare_count))
            (void)mr__condition_wait(&crew->room, &crew->mutex, NULL);
        if (crew->is_ending)
            break;
        const size_t position = crew->begun++;
        const uint32_t place = crew->spare[--crew->spare_count];
        crew->held[position % crew->place_count] = place;
        crew->places[place].is_done = false;
        pthread_mutex_unlock(&crew->mutex);
        decode(crew, &file, &crew->vision->list.records[crew->due[position]],
               crew->places[place].buffer);
        pthread_mutex_lock(&crew->mutex);
        crew->places[place].is_done = true;
        mr__condition_notify(&crew->done, true);
    }
    pthread_mutex_unlock(&crew->mutex);
    mr__image_file_fini(&file);
    return NULL;
}

/* ---- handing on ---- */

static bool is_next_done(const struct mr__vision_crew *crew)
{
    return crew->next < crew->begun &&
           crew->places[crew->held[crew->next % crew->place_count]].is_done;
}

/* With the mutex held. */
static void free_place(struct mr__vision_crew *crew, uint32_t place)
{
    crew->spare[crew->spare_count++] = place;
    mr__condition_notify(&crew->room, false);
}

static mr_status stop_at(const struct mr__vision_record *record)
{
    return mr_error_set(record->status, "%s: %s", record->path,
                        record->words ? record->words : "out of memory");
}

mr_status mr__vision_crew_next(struct mr__vision_crew *crew, struct mr__vision_record **out,
                               mr_buffer **buffer)
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
        const uint32_t place = crew->held[crew->next++ % crew->place_count];
        if (!record->status) {
            crew->lent[crew->lent_end++ % crew->place_count] = place;
            *out = record;
            *buffer = crew->places[place].buffer;
            status = MR_OK;
            break;
        }
        free_place(crew, place);
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
    for (uint32_t k = 0; k < count && crew->lent_first < crew->lent_end; k++)
        free_place(crew, crew->lent[crew->lent_first++ % crew->place_count]);
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

static mr_status make_places(struct mr__vision_crew *crew, mr_device *device, uint32_t count)
{
    crew->places = mr__zalloc_array(count, sizeof *crew->places);
    crew->lent = mr__zalloc_array(count, sizeof *crew->lent);
    crew->spare = mr__zalloc_array(count, sizeof *crew->spare);
    crew->held = mr__zalloc_array(count, sizeof *crew->held);
    if (!crew->places || !crew->lent || !crew->spare || !crew->held)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for decoding");
    crew->place_count = count;
    for (uint32_t k = 0; k < count; k++) {
        const mr_status status =
            mr_buffer_create(device, crew->buffer_bytes,
                             &(mr_buffer_options){ .place = MR_PLACE_PINNED, .name = "image" },
                             &crew->places[k].buffer);
        if (status)
            return status;
        crew->spare[count - 1 - k] = k;
    }
    crew->spare_count = count;
    return MR_OK;
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
                                 const uint32_t *due, size_t due_count, uint32_t buffer_count,
                                 size_t buffer_bytes, struct mr__vision_crew **out)
{
    *out = NULL;
    struct mr__vision_crew *crew = mr__zalloc(sizeof *crew);
    if (!crew)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for decoding");
    pthread_mutex_init(&crew->mutex, NULL);
    crew->vision = vision;
    crew->due = due;
    crew->due_count = due_count;
    crew->buffer_bytes = buffer_bytes;
    mr_status status = make_places(crew, device, buffer_count);
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
    for (uint32_t k = 0; k < crew->place_count; k++)
        mr_buffer_destroy(crew->places[k].buffer);
    pthread_mutex_destroy(&crew->mutex);
    mr__free(crew->places);
    mr__free(crew->lent);
    mr__free(crew->spare);
    mr__free(crew->held);
    mr__free(crew);
}
