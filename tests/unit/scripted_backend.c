/* SPDX-License-Identifier: MIT */
/*
 * The scripted backends. One lock, queues as lists of jobs, and a pump that runs whatever may run.
 */
#include "scripted_backend.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "core/stream.h"

#include <string.h>

enum job_kind { JOB_COPY, JOB_FILL, JOB_CALL, JOB_WAIT_POINT, JOB_WAIT_GATE, JOB_MARK };

struct point {
    struct mr_point base;
    uint32_t references;
    bool has_timing;
    uint64_t time_ns; /* the number of jobs that ran before */
    bool is_reached;
    mr_status failure;
};

struct gate {
    struct mr_gate base;
    bool is_open;
};

struct job {
    struct job *next;
    enum job_kind kind;
    struct mr_transfer transfer;
    struct mr_memory target, source; /* what `transfer` points to; `target` of a fill */
    uint32_t value, value_bytes;
    void (*function)(void *context);
    void *context;
    struct point *point;
    struct gate *gate;
};

struct queue {
    struct mr_queue base;
    struct queue *next;
    struct job *first, **end;
    bool is_held, is_running, is_stalled;
    mr_status failure;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* for all below */
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct queue *queues;
static uint64_t counts[SCRIPTED_ENTRY_COUNT];
static mr_status failures[SCRIPTED_ENTRY_COUNT];
static int64_t object_count;
static uint64_t jobs_run;

static struct mr_backend backends[2] = { { &scripted_alpha }, { &scripted_beta } };
static struct mr_backend_device devices[2] = { { &scripted_alpha, &backends[0] },
                                               { &scripted_beta, &backends[1] } };

/* ---- what the tests say ---- */

mr_device *scripted_open(const struct mr_backend_ops *ops)
{
    pthread_mutex_lock(&lock);
    memset(counts, 0, sizeof counts);
    memset(failures, 0, sizeof failures);
    pthread_mutex_unlock(&lock);
    mr_device *device = NULL;
    return mr__device_open_backend(ops, 0, NULL, &device) ? NULL : device;
}

uint64_t scripted_count(enum scripted_entry entry)
{
    pthread_mutex_lock(&lock);
    const uint64_t count = counts[entry];
    pthread_mutex_unlock(&lock);
    return count;
}

void scripted_fail_next(enum scripted_entry entry, mr_status status)
{
    pthread_mutex_lock(&lock);
    failures[entry] = status;
    pthread_mutex_unlock(&lock);
}

bool scripted_is_clean(void)
{
    pthread_mutex_lock(&lock);
    const bool is_clean = object_count == 0 && !queues;
    pthread_mutex_unlock(&lock);
    return is_clean;
}

/* Under the lock: counts the call; its status when it is to fail. */
static mr_status enter(enum scripted_entry entry)
{
    counts[entry]++;
    const mr_status status = failures[entry];
    failures[entry] = MR_OK;
    return status ? mr_error_set(status, "scripted failure of entry %d", (int)entry) : MR_OK;
}

/* ---- running ---- */

static void release_point(struct point *point)
{
    if (--point->references)
        return;
    object_count--;
    mr__free(point);
}

static void run_copy(const struct job *job)
{
    const struct mr_transfer *transfer = &job->transfer;
    for (size_t row = 0; row < transfer->row_count; row++)
        memcpy((char *)job->target.host + transfer->target_offset + row * transfer->target_pitch,
               (char *)job->source.host + transfer->source_offset + row * transfer->source_pitch,
               transfer->row_bytes);
}

static void run_fill(const struct job *job)
{
    char *target = (char *)job->target.host + job->transfer.target_offset;
    for (size_t at = 0; at < job->transfer.row_bytes; at += job->value_bytes)
        memcpy(target + at, &job->value, job->value_bytes);
}

static bool may_run(const struct queue *queue, const struct job *job)
{
    if (queue->is_held || queue->is_running)
        return false;
    if (job->kind == JOB_WAIT_POINT)
        return job->point->is_reached;
    return job->kind != JOB_WAIT_GATE || job->gate->is_open;
}

static void run_job(struct queue *queue, struct job *job)
{
    switch (job->kind) {
    case JOB_COPY:
        run_copy(job);
        break;
    case JOB_FILL:
        run_fill(job);
        break;
    case JOB_CALL:
        queue->is_running = true;
        pthread_mutex_unlock(&lock);
        job->function(job->context);
        pthread_mutex_lock(&lock);
        queue->is_running = false;
        break;
    case JOB_WAIT_POINT:
        release_point(job->point);
        break;
    case JOB_MARK:
        job->point->is_reached = true;
        job->point->failure = queue->failure;
        job->point->time_ns = jobs_run;
        release_point(job->point);
        break;
    case JOB_WAIT_GATE:
        break;
    }
    jobs_run++;
}

/* Under the lock, which it lets go for calls. Runs all that may run. */
static void pump(void)
{
    bool has_run = true;
    while (has_run) {
        has_run = false;
        for (struct queue *queue = queues; queue && !has_run; queue = queue->next) {
            struct job *job = queue->first;
            if (!job || !may_run(queue, job))
                continue;
            run_job(queue, job);
            queue->first = job->next;
            if (!queue->first)
                queue->end = &queue->first;
            mr__free(job);
            has_run = true;
        }
    }
    pthread_cond_broadcast(&changed);
}

static struct queue *queue_of(mr_stream *stream)
{
    return (struct queue *)stream->queue;
}

void scripted_hold(mr_stream *stream)
{
    pthread_mutex_lock(&lock);
    queue_of(stream)->is_held = true;
    pthread_mutex_unlock(&lock);
}

void scripted_let_go(mr_stream *stream)
{
    pthread_mutex_lock(&lock);
    queue_of(stream)->is_held = false;
    pump();
    pthread_mutex_unlock(&lock);
}

void scripted_stall(mr_stream *stream)
{
    pthread_mutex_lock(&lock);
    queue_of(stream)->is_stalled = true;
    pthread_mutex_unlock(&lock);
}

void scripted_break(mr_stream *stream, mr_status status)
{
    pthread_mutex_lock(&lock);
    queue_of(stream)->failure = status;
    pthread_mutex_unlock(&lock);
}

/* ---- device and memory ---- */

static mr_status alpha_open(struct mr_backend **out)
{
    *out = &backends[0];
    return MR_OK;
}

static mr_status beta_open(struct mr_backend **out)
{
    *out = &backends[1];
    return MR_OK;
}

static void backend_close(struct mr_backend *backend)
{
    (void)backend;
}

static uint32_t device_count(struct mr_backend *backend)
{
    (void)backend;
    return 1;
}

static mr_status device_open(struct mr_backend *backend, uint32_t index,
                             const mr_device_options *options, struct mr_backend_device **out)
{
    (void)options;
    (void)index;
    *out = &devices[backend - backends];
    return MR_OK;
}

static void device_close(struct mr_backend_device *device)
{
    (void)device;
}

/* Beta's device memory is out of the host's reach. */
static void device_describe(struct mr_backend_device *device, mr_device_properties *properties)
{
    *properties = (mr_device_properties){ .priority_highest = -3,
                                          .has_ordered_pools = true,
                                          .is_host_memory = device == &devices[0] };
}

static mr_status device_memory(struct mr_backend_device *device, uint64_t *free_bytes,
                               uint64_t *total_bytes)
{
    (void)device;
    *free_bytes = 1000;
    *total_bytes = 2000;
    return MR_OK;
}

static uint64_t device_now_ns(struct mr_backend_device *device)
{
    (void)device;
    return mr__clock_now_ns();
}

static mr_status device_synchronize(struct mr_backend_device *device)
{
    (void)device;
    return MR_OK;
}

static void *device_native(struct mr_backend_device *device)
{
    return device;
}

static mr_status make_memory(struct mr_backend_device *device, size_t size_bytes, mr_place place,
                             struct mr_memory *out)
{
    void *block = size_bytes > 1 << 20 ? NULL : mr__zalloc(size_bytes);
    if (!block)
        return mr_error_set(MR_E_NO_MEMORY, "scripted memory is out");
    object_count++;
    const bool is_host = place != MR_PLACE_DEVICE || device == &devices[0];
    *out = (struct mr_memory){ .host = is_host ? block : NULL,
                               .address = (uintptr_t)block,
                               .size_bytes = size_bytes,
                               .place = place,
                               .device = device,
                               .handle = block };
    return MR_OK;
}

static mr_status memory_create(struct mr_backend_device *device, size_t size_bytes, mr_place place,
                               struct mr_memory *out)
{
    pthread_mutex_lock(&lock);
    mr_status status = enter(SCRIPTED_MEMORY_CREATE);
    if (!status)
        status = make_memory(device, size_bytes, place, out);
    pthread_mutex_unlock(&lock);
    return status;
}

static void memory_destroy(struct mr_memory *memory)
{
    pthread_mutex_lock(&lock);
    object_count--;
    mr__free(memory->handle);
    pthread_mutex_unlock(&lock);
}

static mr_status memory_create_ordered(struct mr_queue *queue, size_t size_bytes,
                                       struct mr_memory *out)
{
    return memory_create(queue->device, size_bytes, MR_PLACE_DEVICE, out);
}

static mr_status memory_register(struct mr_backend_device *device, void *address, size_t size_bytes,
                                 struct mr_memory *out)
{
    *out = (struct mr_memory){ .host = address,
                               .address = (uintptr_t)address,
                               .size_bytes = size_bytes,
                               .place = MR_PLACE_PINNED,
                               .device = device };
    pthread_mutex_lock(&lock);
    object_count++;
    pthread_mutex_unlock(&lock);
    return MR_OK;
}

static void memory_unregister(struct mr_memory *memory)
{
    (void)memory;
    pthread_mutex_lock(&lock);
    object_count--;
    pthread_mutex_unlock(&lock);
}

/* ---- queues ---- */

static mr_status queue_create(struct mr_backend_device *device, mr_stream_kind kind, int priority,
                              struct mr_queue **out)
{
    (void)kind;
    (void)priority;
    *out = NULL;
    pthread_mutex_lock(&lock);
    mr_status status = enter(SCRIPTED_QUEUE_CREATE);
    struct queue *queue = status ? NULL : mr__zalloc(sizeof *queue);
    if (queue) {
        queue->base = (struct mr_queue){ device->ops, device };
        queue->end = &queue->first;
        queue->next = queues;
        queues = queue;
        *out = &queue->base;
    } else if (!status) {
        status = mr_error_set(MR_E_NO_MEMORY, "scripted queue");
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static void queue_destroy(struct mr_queue *base)
{
    pthread_mutex_lock(&lock);
    struct queue **link = &queues;
    while (&(*link)->base != base)
        link = &(*link)->next;
    struct queue *queue = *link;
    *link = queue->next;
    mr__free(queue);
    pthread_mutex_unlock(&lock);
}

static void *queue_native(struct mr_queue *queue)
{
    return queue;
}

static mr_status queue_failure(const struct queue *queue)
{
    return queue->failure ? mr_error_set(queue->failure, "scripted: the queue broke") : MR_OK;
}

static mr_status queue_query(struct mr_queue *base)
{
    const struct queue *queue = (const struct queue *)base;
    pthread_mutex_lock(&lock);
    const mr_status status = queue->failure || !queue->first ? queue_failure(queue) : MR_E_BUSY;
    pthread_mutex_unlock(&lock);
    return status;
}

/* Under the lock: waits until `*is_over` or the time is up. */
static bool wait_until(bool (*is_over)(const void *), const void *object, uint64_t timeout_ns)
{
    const struct timespec deadline = mr__clock_deadline(timeout_ns);
    int error = 0;
    while (!is_over(object) && !error)
        error = pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &deadline);
    return is_over(object);
}

static bool is_queue_over(const void *object)
{
    const struct queue *queue = object;
    return !queue->first || queue->failure;
}

static mr_status queue_wait(struct mr_queue *base, uint64_t timeout_ns)
{
    const struct queue *queue = (const struct queue *)base;
    pthread_mutex_lock(&lock);
    mr_status status = enter(SCRIPTED_QUEUE_WAIT);
    if (!status)
        status = wait_until(is_queue_over, queue, timeout_ns) ? queue_failure(queue) : MR_E_TIMEOUT;
    pthread_mutex_unlock(&lock);
    return status;
}

/* ---- work ---- */

/* Under the lock. */
static mr_status submit(struct queue *queue, const struct job *model)
{
    struct job *job = mr__zalloc(sizeof *job);
    if (!job)
        return mr_error_set(MR_E_NO_MEMORY, "scripted job");
    *job = *model;
    *queue->end = job;
    queue->end = &job->next;
    pump();
    return MR_OK;
}

static mr_status enter_and_submit(enum scripted_entry entry, struct mr_queue *queue,
                                  const struct job *job)
{
    pthread_mutex_lock(&lock);
    mr_status status = enter(entry);
    if (!status)
        status = submit((struct queue *)queue, job);
    pthread_mutex_unlock(&lock);
    return status;
}

static mr_status copy(struct mr_queue *queue, const struct mr_transfer *transfer)
{
    const struct job job = { .kind = JOB_COPY,
                             .transfer = *transfer,
                             .target = *transfer->target,
                             .source = *transfer->source };
    return enter_and_submit(SCRIPTED_COPY, queue, &job);
}

static mr_status fill(struct mr_queue *queue, const struct mr_memory *memory, size_t offset,
                      size_t size_bytes, uint32_t value, uint32_t value_bytes)
{
    const struct job job = { .kind = JOB_FILL,
                             .transfer = { .target_offset = offset, .row_bytes = size_bytes },
                             .target = *memory,
                             .value = value,
                             .value_bytes = value_bytes };
    return enter_and_submit(SCRIPTED_FILL, queue, &job);
}

static mr_status call(struct mr_queue *queue, void (*function)(void *context), void *context)
{
    const struct job job = { .kind = JOB_CALL, .function = function, .context = context };
    return enter_and_submit(SCRIPTED_CALL, queue, &job);
}

/* ---- points and gates ---- */

static mr_status point_record(struct mr_queue *queue, bool has_timing, struct mr_point **out)
{
    *out = NULL;
    pthread_mutex_lock(&lock);
    mr_status status = enter(SCRIPTED_POINT_RECORD);
    const struct queue *stalled = (struct queue *)queue;
    while (stalled->is_stalled && stalled->first)
        pthread_cond_wait(&changed, &lock);
    struct point *point = status ? NULL : mr__zalloc(sizeof *point);
    if (point) {
        object_count++;
        *point = (struct point){ .base = { queue->ops },
                                 .references = 2, /* the caller's and the job's */
                                 .has_timing = has_timing };
        status = submit((struct queue *)queue, &(struct job){ .kind = JOB_MARK, .point = point });
        if (status) {
            release_point(point);
            release_point(point);
        } else {
            *out = &point->base;
        }
    } else if (!status) {
        status = mr_error_set(MR_E_NO_MEMORY, "scripted point");
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static void point_retain(struct mr_point *point)
{
    pthread_mutex_lock(&lock);
    ((struct point *)point)->references++;
    pthread_mutex_unlock(&lock);
}

static void point_release(struct mr_point *point)
{
    pthread_mutex_lock(&lock);
    release_point((struct point *)point);
    pthread_mutex_unlock(&lock);
}

static bool is_point_over(const void *object)
{
    return ((const struct point *)object)->is_reached;
}

static mr_status point_answer(const struct point *point)
{
    return point->failure ? mr_error_set(point->failure, "scripted: the point broke") : MR_OK;
}

static mr_status point_wait(struct mr_point *base, uint64_t timeout_ns)
{
    const struct point *point = (const struct point *)base;
    pthread_mutex_lock(&lock);
    const mr_status status =
        wait_until(is_point_over, point, timeout_ns) ? point_answer(point) : MR_E_TIMEOUT;
    pthread_mutex_unlock(&lock);
    return status;
}

static mr_status point_query(struct mr_point *base)
{
    const struct point *point = (const struct point *)base;
    pthread_mutex_lock(&lock);
    const mr_status status = point->is_reached ? point_answer(point) : MR_E_BUSY;
    pthread_mutex_unlock(&lock);
    return status;
}

static mr_status point_elapsed(struct mr_point *start, struct mr_point *end, int64_t *elapsed_ns)
{
    *elapsed_ns = (int64_t)(((struct point *)end)->time_ns - ((struct point *)start)->time_ns);
    return MR_OK;
}

static mr_status queue_wait_point(struct mr_queue *queue, struct mr_point *point)
{
    point_retain(point);
    const struct job job = { .kind = JOB_WAIT_POINT, .point = (struct point *)point };
    const mr_status status = enter_and_submit(SCRIPTED_WAIT_POINT, queue, &job);
    if (status)
        point_release(point);
    return status;
}

static mr_status gate_create(struct mr_backend_device *device, struct mr_gate **out)
{
    *out = NULL;
    pthread_mutex_lock(&lock);
    mr_status status = enter(SCRIPTED_GATE_CREATE);
    struct gate *gate = status ? NULL : mr__zalloc(sizeof *gate);
    if (gate) {
        object_count++;
        gate->base.ops = device->ops;
        *out = &gate->base;
    } else if (!status) {
        status = mr_error_set(MR_E_NO_MEMORY, "scripted gate");
    }
    pthread_mutex_unlock(&lock);
    return status;
}

static void gate_open(struct mr_gate *gate)
{
    pthread_mutex_lock(&lock);
    ((struct gate *)gate)->is_open = true;
    pump();
    pthread_mutex_unlock(&lock);
}

static void gate_destroy(struct mr_gate *gate)
{
    pthread_mutex_lock(&lock);
    object_count--;
    mr__free(gate);
    pthread_mutex_unlock(&lock);
}

static mr_status queue_wait_gate(struct mr_queue *queue, struct mr_gate *gate)
{
    const struct job job = { .kind = JOB_WAIT_GATE, .gate = (struct gate *)gate };
    return enter_and_submit(SCRIPTED_WAIT_GATE, queue, &job);
}

static void memory_destroy_ordered(struct mr_queue *queue, struct mr_memory *memory)
{
    (void)queue;
    memory_destroy(memory);
}

static bool peer_possible(struct mr_backend_device *device, struct mr_backend_device *peer)
{
    return device == peer;
}

/* The kernel entries are absent: no test of core's reaches them. */
#define SCRIPTED_OPS(its_name, its_open)                                                           \
    {                                                                                              \
        .name = its_name, .open = its_open, .close = backend_close, .device_count = device_count,  \
        .device_open = device_open, .device_close = device_close,                                  \
        .device_describe = device_describe, .device_memory = device_memory,                        \
        .device_now_ns = device_now_ns, .device_synchronize = device_synchronize,                  \
        .device_native = device_native, .memory_create = memory_create,                            \
        .memory_destroy = memory_destroy, .memory_create_ordered = memory_create_ordered,          \
        .memory_destroy_ordered = memory_destroy_ordered, .memory_register = memory_register,      \
        .memory_unregister = memory_unregister, .queue_create = queue_create,                      \
        .queue_destroy = queue_destroy, .queue_native = queue_native, .queue_query = queue_query,  \
        .queue_wait = queue_wait, .copy = copy, .fill = fill, .call = call,                        \
        .point_record = point_record, .point_retain = point_retain,                                \
        .point_release = point_release, .point_query = point_query, .point_wait = point_wait,      \
        .point_elapsed = point_elapsed, .queue_wait_point = queue_wait_point,                      \
        .gate_create = gate_create, .gate_open = gate_open, .gate_destroy = gate_destroy,          \
        .queue_wait_gate = queue_wait_gate, .peer_possible = peer_possible                         \
    }

const struct mr_backend_ops scripted_alpha = SCRIPTED_OPS("alpha", alpha_open);
const struct mr_backend_ops scripted_beta = SCRIPTED_OPS("beta", beta_open);
