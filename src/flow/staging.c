/* SPDX-License-Identifier: MIT */
/*
 * A staging crew beside a device: threads, and on a GPU a small pinned ring for each direction.
 *
 * A transfer keeps every slot of its ring busy: while the crew fills one, the copy engine empties the
 * others. Transfers of one direction take turns at the ring; the two directions share the crew.
 */
#include "flow/staging.h"

#include "base/alloc.h"
#include "flow/crew.h"

#include <millrace/event.h>
#include <millrace/graph.h>
#include <millrace/staging.h>

#include <pthread.h>
#include <sched.h>

enum {
    THREAD_LIMIT = 64,
    AUTO_THREAD_LIMIT = 8, /* more no longer help: memory is the limit */
    AUTO_CHUNK_BYTES = 8 << 20,
    AUTO_SLOTS = 4,
    SLOT_LIMIT = 64,
    CHUNK_STEP = 4096,
    CHUNK_LIMIT = 256 << 20,
};

_Static_assert(sizeof(struct mr__crew_ticket) <= sizeof(mr_staging_ticket),
               "a public ticket holds a crew's");

struct ring_slot {
    mr_buffer *buffer;
    mr_event *event; /* the device is done with it */
    struct mr__crew_ticket ticket;
};

struct ring {
    pthread_mutex_t mutex; /* held for a transfer */
    struct ring_slot *slots;
    uint64_t next; /* chunks so far: slots are used in turn across transfers */
};

struct mr_staging {
    mr_device *device;
    mr_staging_options choice;
    struct mr__crew *crew;
    struct ring up, down;
    bool is_host_memory;
    mr_event *idle; /* host memory: what the stream has been given so far */
    pthread_mutex_t idle_mutex;
};

/* ---- choice ---- */

static int count_cpus(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

uint32_t mr__staging_threads(uint32_t crew_count)
{
    const int cpus = count_cpus();
    const int spare = cpus > 4 ? 2 : 0; /* for those who submit and wait */
    const int share = (cpus - spare) / (int)crew_count;
    return share < 1 ? 1 : share > AUTO_THREAD_LIMIT ? AUTO_THREAD_LIMIT : (uint32_t)share;
}

static mr_status choose(const mr_staging_options *options, mr_staging_options *choice)
{
    if (options)
        *choice = *options;
    if (!choice->thread_count)
        choice->thread_count = mr__staging_threads(1);
    if (!choice->chunk_bytes)
        choice->chunk_bytes = AUTO_CHUNK_BYTES;
    if (!choice->slot_count)
        choice->slot_count = AUTO_SLOTS;

    if (choice->thread_count > THREAD_LIMIT)
        return mr_error_set(MR_E_INVALID, "staging: thread_count is %u; it may be 1 to %d",
                            choice->thread_count, THREAD_LIMIT);
    if (choice->chunk_bytes % CHUNK_STEP || choice->chunk_bytes > CHUNK_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "staging: chunk_bytes is %zu; it may be a multiple of %d up to %d",
                            choice->chunk_bytes, CHUNK_STEP, CHUNK_LIMIT);
    if (choice->slot_count < 2 || choice->slot_count > SLOT_LIMIT)
        return mr_error_set(MR_E_INVALID, "staging: slot_count is %u; it may be 2 to %d",
                            choice->slot_count, SLOT_LIMIT);
    return MR_OK;
}

void mr_staging_choice(const mr_staging *staging, mr_staging_options *out)
{
    *out = staging->choice;
}

/* ---- made and freed ---- */

static mr_status make_ring(mr_staging *staging, struct ring *ring)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED, .name = "staging" };
    ring->slots = mr__zalloc_array(staging->choice.slot_count, sizeof *ring->slots);
    if (!ring->slots)
        return mr_error_set(MR_E_NO_MEMORY, "staging: out of host memory");
    for (uint32_t i = 0; i < staging->choice.slot_count; i++) {
        struct ring_slot *slot = &ring->slots[i];
        mr_status status =
            mr_buffer_create(staging->device, staging->choice.chunk_bytes, &pinned, &slot->buffer);
        if (!status)
            status = mr_event_create(staging->device, NULL, &slot->event);
        if (status)
            return status;
    }
    return MR_OK;
}

static void free_ring(const mr_staging *staging, struct ring *ring)
{
    for (uint32_t i = 0; ring->slots && i < staging->choice.slot_count; i++) {
        mr_buffer_destroy(ring->slots[i].buffer);
        mr_event_destroy(ring->slots[i].event);
    }
    mr__free(ring->slots);
    pthread_mutex_destroy(&ring->mutex);
}

mr_status mr_staging_create(mr_device *device, const mr_staging_options *options, mr_staging **out)
{
    *out = NULL;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_staging_create: device is NULL");
    mr_staging_options choice = { 0 };
    mr_status status = choose(options, &choice);
    if (status)
        return status;
    mr_staging *staging = mr__zalloc(sizeof *staging);
    if (!staging)
        return mr_error_set(MR_E_NO_MEMORY, "staging: out of host memory");

    mr_device_properties properties;
    mr_device_describe(device, &properties);
    staging->device = device;
    staging->choice = choice;
    staging->is_host_memory = properties.is_host_memory;
    pthread_mutex_init(&staging->up.mutex, NULL);
    pthread_mutex_init(&staging->down.mutex, NULL);
    pthread_mutex_init(&staging->idle_mutex, NULL);
    status = mr__crew_create(choice.thread_count, &staging->crew);
    if (!status)
        status = mr_event_create(device, NULL, &staging->idle);
    if (!status && !staging->is_host_memory)
        status = make_ring(staging, &staging->up);
    if (!status && !staging->is_host_memory)
        status = make_ring(staging, &staging->down);
    if (status)
        goto fail;
    *out = staging;
    return MR_OK;

fail:
    mr_staging_destroy(staging);
    return status;
}

void mr_staging_destroy(mr_staging *staging)
{
    if (!staging)
        return;
    mr__crew_destroy(staging->crew);
    free_ring(staging, &staging->up);
    free_ring(staging, &staging->down);
    mr_event_destroy(staging->idle);
    pthread_mutex_destroy(&staging->idle_mutex);
    mr__free(staging);
}

/* ---- host memory ---- */

/* The target of an upload may still be read, the source of a download still be written. */
static mr_status await_stream(mr_staging *staging, mr_stream *stream)
{
    pthread_mutex_lock(&staging->idle_mutex);
    mr_status status = mr_event_record(staging->idle, stream);
    if (!status)
        status = mr_event_wait(staging->idle);
    pthread_mutex_unlock(&staging->idle_mutex);
    return status;
}

static void copy_by_crew(mr_staging *staging, void *target, const void *source, size_t size_bytes,
                         bool is_streamed)
{
    struct mr__crew_ticket ticket;
    mr__crew_open(&ticket, NULL);
    mr__crew_copy(staging->crew, &ticket, target, source, size_bytes, is_streamed);
    mr__crew_close(staging->crew, &ticket);
    mr__crew_wait(staging->crew, &ticket);
}

/* ---- through the ring ---- */

struct transfer {
    mr_staging *staging;
    mr_stream *stream;
    mr_buffer *buffer; /* the device's side */
    size_t offset;
    char *host;
    size_t size_bytes;
    struct ring *ring; /* from here on where it goes through one */
    size_t chunk_count;
    uint64_t first; /* ring->next at the start */
};

static size_t chunk_size(const struct transfer *transfer, size_t chunk)
{
    const size_t step = transfer->staging->choice.chunk_bytes;
    const size_t left = transfer->size_bytes - chunk * step;
    return left < step ? left : step;
}

static struct ring_slot *slot_of(const struct transfer *transfer, size_t chunk)
{
    return &transfer->ring->slots[(transfer->first + chunk) % transfer->staging->choice.slot_count];
}

static void carry(const struct transfer *transfer, size_t chunk, bool is_out)
{
    struct ring_slot *slot = slot_of(transfer, chunk);
    struct mr__crew *crew = transfer->staging->crew;
    char *pinned = mr_buffer_host(slot->buffer);
    char *host = transfer->host + chunk * transfer->staging->choice.chunk_bytes;
    mr__crew_open(&slot->ticket, NULL);
    mr__crew_copy(crew, &slot->ticket, is_out ? host : pinned, is_out ? pinned : host,
                  chunk_size(transfer, chunk), is_out);
    mr__crew_close(crew, &slot->ticket);
}

static mr_status copy_chunk(const struct transfer *transfer, size_t chunk, bool is_out)
{
    struct ring_slot *slot = slot_of(transfer, chunk);
    const size_t offset = transfer->offset + chunk * transfer->staging->choice.chunk_bytes;
    const size_t size_bytes = chunk_size(transfer, chunk);
    const mr_status status =
        is_out ? mr_copy(transfer->stream, slot->buffer, 0, transfer->buffer, offset, size_bytes)
               : mr_copy(transfer->stream, transfer->buffer, offset, slot->buffer, 0, size_bytes);
    return status ? status : mr_event_record(slot->event, transfer->stream);
}

/* The crew must be done with the caller's memory, whatever has failed. */
static void settle(const struct transfer *transfer, size_t from, size_t to)
{
    for (size_t chunk = from; chunk < to; chunk++)
        mr__crew_wait(transfer->staging->crew, &slot_of(transfer, chunk)->ticket);
}

/* The crew runs up to a ring ahead of the copies. */
static mr_status upload(const struct transfer *transfer)
{
    const size_t ahead = transfer->staging->choice.slot_count;
    size_t carried = 0;
    mr_status status = MR_OK;
    for (size_t chunk = 0; !status && chunk < transfer->chunk_count; chunk++) {
        while (!status && carried < transfer->chunk_count && carried < chunk + ahead) {
            /* Wait for the copy that last used the slot only when nothing else can go on. */
            const mr_event *event = slot_of(transfer, carried)->event;
            if (carried > chunk && mr_event_query(event) == MR_E_BUSY)
                break;
            status = mr_event_wait(event);
            if (!status)
                carry(transfer, carried++, false);
        }
        if (status)
            break;
        mr__crew_wait(transfer->staging->crew, &slot_of(transfer, chunk)->ticket);
        status = copy_chunk(transfer, chunk, false);
    }
    const size_t first = carried > ahead ? carried - ahead : 0;
    settle(transfer, first, carried);
    return status;
}

/* The copies run up to a ring ahead of the crew. */
static mr_status download(const struct transfer *transfer)
{
    const size_t ahead = transfer->staging->choice.slot_count;
    size_t copied = 0, carried = 0;
    mr_status status = MR_OK;
    while (!status && carried < transfer->chunk_count) {
        while (!status && copied < transfer->chunk_count && copied < carried + ahead) {
            struct ring_slot *slot = slot_of(transfer, copied);
            if (copied > carried && !mr__crew_is_done(&slot->ticket))
                break;
            mr__crew_wait(transfer->staging->crew, &slot->ticket);
            status = copy_chunk(transfer, copied++, true);
        }
        if (!status)
            status = mr_event_wait(slot_of(transfer, carried)->event);
        if (!status)
            carry(transfer, carried++, true);
    }
    const size_t first = carried > ahead ? carried - ahead : 0;
    settle(transfer, first, carried);
    return status;
}

static mr_status through_ring(struct transfer *transfer, bool is_out)
{
    const size_t step = transfer->staging->choice.chunk_bytes;
    transfer->ring = is_out ? &transfer->staging->down : &transfer->staging->up;
    transfer->chunk_count = transfer->size_bytes / step + (transfer->size_bytes % step != 0);
    pthread_mutex_lock(&transfer->ring->mutex);
    transfer->first = transfer->ring->next;
    const mr_status status = is_out ? download(transfer) : upload(transfer);
    transfer->ring->next += transfer->chunk_count;
    pthread_mutex_unlock(&transfer->ring->mutex);
    return status;
}

/* Both sides are host memory. */
static mr_status in_place(const struct transfer *transfer, bool is_out)
{
    const mr_status status = await_stream(transfer->staging, transfer->stream);
    char *device = (char *)mr_buffer_host(transfer->buffer) + transfer->offset;
    if (!status)
        copy_by_crew(transfer->staging, is_out ? transfer->host : device,
                     is_out ? device : transfer->host, transfer->size_bytes, is_out);
    return status;
}

static mr_status check_transfer(const char *call, const struct transfer *transfer)
{
    const mr_staging *staging = transfer->staging;
    const mr_stream *stream = transfer->stream;
    const mr_buffer *buffer = transfer->buffer;
    if (!staging || !stream || !buffer || (!transfer->host && transfer->size_bytes))
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call,
                            !staging  ? "staging"
                            : !stream ? "stream"
                            : !buffer ? "buffer"
                                      : "the host's address");
    if (mr_stream_device(stream) != staging->device)
        return mr_error_set(MR_E_INVALID, "%s: the crew is of %s, the stream of %s", call,
                            mr_device_id(staging->device), mr_device_id(mr_stream_device(stream)));
    const mr_status refused =
        mr_capture_refuse(stream, call, "the crew copies now, through memory that it uses again");
    if (refused)
        return refused;
    if (staging->is_host_memory && !mr_buffer_host(buffer))
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s: the buffer is device memory of %s, out of reach "
                            "of a crew on %s: make a crew for that device",
                            call, mr_device_id(mr_buffer_device(buffer)),
                            mr_device_id(staging->device));
    const size_t end = mr_buffer_size(buffer);
    if (transfer->offset > end || transfer->size_bytes > end - transfer->offset)
        return mr_error_set(MR_E_INVALID, "%s: bytes %zu to %zu + %zu of a buffer of %zu", call,
                            transfer->offset, transfer->offset, transfer->size_bytes, end);
    return MR_OK;
}

static mr_status run_transfer(const char *call, struct transfer *transfer, bool is_out)
{
    const mr_status status = check_transfer(call, transfer);
    if (status || !transfer->size_bytes)
        return status;
    return transfer->staging->is_host_memory ? in_place(transfer, is_out)
                                             : through_ring(transfer, is_out);
}

mr_status mr_staging_upload(mr_staging *staging, mr_stream *stream, mr_buffer *target,
                            size_t target_offset, const void *source, size_t size_bytes)
{
    struct transfer transfer = { .staging = staging,
                                 .stream = stream,
                                 .buffer = target,
                                 .offset = target_offset,
                                 .host = (char *)source, /* only read */
                                 .size_bytes = size_bytes };
    return run_transfer("mr_staging_upload", &transfer, false);
}

mr_status mr_staging_download(mr_staging *staging, mr_stream *stream, void *target,
                              mr_buffer *source, size_t source_offset, size_t size_bytes)
{
    struct transfer transfer = { .staging = staging,
                                 .stream = stream,
                                 .buffer = source,
                                 .offset = source_offset,
                                 .host = target,
                                 .size_bytes = size_bytes };
    return run_transfer("mr_staging_download", &transfer, true);
}

/* ---- host to host ---- */

static struct mr__crew_ticket *crew_ticket(mr_staging_ticket *ticket)
{
    return (struct mr__crew_ticket *)(void *)ticket->words;
}

mr_status mr_staging_copy_begin(mr_staging *staging, void *target, const void *source,
                                size_t size_bytes, bool is_streamed, mr_staging_ticket *ticket)
{
    if (!staging || !ticket || (size_bytes && (!target || !source)))
        return mr_error_set(MR_E_INVALID, "mr_staging_copy_begin: %s is NULL",
                            !staging  ? "staging"
                            : !ticket ? "ticket"
                            : !target ? "target"
                                      : "source");
    mr__crew_open(crew_ticket(ticket), NULL);
    mr__crew_copy(staging->crew, crew_ticket(ticket), target, source, size_bytes, is_streamed);
    mr__crew_close(staging->crew, crew_ticket(ticket));
    return MR_OK;
}

mr_status mr_staging_copy_query(mr_staging_ticket *ticket)
{
    return mr__crew_is_done(crew_ticket(ticket)) ? MR_OK : MR_E_BUSY;
}

mr_status mr_staging_copy_wait(mr_staging *staging, mr_staging_ticket *ticket)
{
    mr__crew_wait(staging->crew, crew_ticket(ticket));
    return MR_OK;
}
