/* SPDX-License-Identifier: MIT */
/*
 * Making and ending balancers. See balancer_parts.h for the whole.
 */
#include "base/alloc.h"
#include "flow/balancer_parts.h"

#include <signal.h>

enum {
    TASK_LIMIT_DEFAULT = 4096,
    CLASS_COUNT_DEFAULT = 64,
    TIMED_FROM_NS_CPU = 20000, /* a hundred times what two timing events cost there */
    TIMED_FROM_NS_GPU = 100000,
    DRAIN_NS = 10000000
};

/* ---- checks ---- */

static mr_status check_workers(const mr_balancer_options *options)
{
    uint64_t count = 0;
    for (size_t i = 0; i < options->worker_count; i++) {
        const mr_worker_options *worker = &options->workers[i];
        if (!worker->device)
            return mr_error_set(MR_E_INVALID, "balancer: workers[%zu] has no device", i);
        count += worker->stream_count ? worker->stream_count : 1;
    }
    if (count > MR_BALANCER_WORKER_LIMIT)
        return mr_error_set(MR_E_INVALID, "balancer: %llu workers; at most %d",
                            (unsigned long long)count, MR_BALANCER_WORKER_LIMIT);
    return MR_OK;
}

static mr_status check_options(const mr_balancer_options *options)
{
    if (!options || !options->workers || !options->worker_count)
        return mr_error_set(MR_E_INVALID,
                            "balancer: no workers; give at least one device in options->workers");
    if (options->depth > MR__BALANCER_SLOTS)
        return mr_error_set(MR_E_INVALID, "balancer: depth is %u; at most %d", options->depth,
                            MR__BALANCER_SLOTS);
    if (options->class_count > MR_TASK_CLASS_LIMIT)
        return mr_error_set(MR_E_INVALID, "balancer: class_count is %u; at most %d",
                            options->class_count, MR_TASK_CLASS_LIMIT);
    if ((unsigned)options->admission > MR_ADMIT_FAILING)
        return mr_error_set(MR_E_INVALID, "balancer: admission is %d, which is none",
                            (int)options->admission);
    if ((unsigned)options->results > MR_RESULTS_AS_COMPLETED)
        return mr_error_set(MR_E_INVALID, "balancer: results is %d, which is none",
                            (int)options->results);
    return check_workers(options);
}

/* ---- parts ---- */

static mr_status add_worker(mr_balancer *balancer, const mr_worker_options *options,
                            struct mr__model_group *group)
{
    const uint32_t index = balancer->worker_count;
    struct mr__balancer_worker *worker = &balancer->workers[index];
    char *name = mr__format_text("%s %u", balancer->name, index);
    if (!name)
        return mr_error_set(MR_E_NO_MEMORY, "balancer '%s': out of memory", balancer->name);
    const mr_stream_options stream_options = { .name = name, .priority = options->priority };
    const mr_status status = mr_stream_create(options->device, &stream_options, &worker->stream);
    mr__free(name);
    if (status)
        return mr_error_prefix(status, "balancer '%s', worker %u: ", balancer->name, index);

    worker->device = options->device;
    worker->priority = options->priority;
    worker->timed_from_ns =
        mr_device_native(options->device) ? TIMED_FROM_NS_GPU : TIMED_FROM_NS_CPU;
    balancer->model.workers[index].group = group;
    balancer->model.workers[index].is_open = true;
    balancer->worker_count++;
    return MR_OK;
}

/* Entries of one device that leave its memory open share what is free: the first such entry. */
static size_t find_sharer(const mr_worker_options *workers, size_t index)
{
    size_t i = 0;
    while (i < index && (workers[index].memory_bytes || workers[i].memory_bytes ||
                         workers[i].device != workers[index].device))
        i++;
    return i;
}

static mr_status open_group(const mr_worker_options *options, struct mr__model_group *group)
{
    mr_status status = MR_OK;
    group->place = options->device;
    group->budget_bytes = options->memory_bytes;
    if (!group->budget_bytes) {
        uint64_t free_bytes, total_bytes;
        status = mr_device_memory(options->device, &free_bytes, &total_bytes);
        group->budget_bytes = free_bytes / 10 * 9;
    }
    return status;
}

static mr_status add_group(mr_balancer *balancer, const mr_worker_options *workers, size_t index)
{
    const mr_worker_options *options = &workers[index];
    const size_t sharer = find_sharer(workers, index);
    struct mr__model_group *group = &balancer->model.groups[sharer];
    mr_status status = sharer == index ? open_group(options, group) : MR_OK;
    const uint32_t count = options->stream_count ? options->stream_count : 1;
    for (uint32_t i = 0; !status && i < count; i++)
        status = add_worker(balancer, options, group);
    return status;
}

static mr_status add_workers(mr_balancer *balancer, const mr_balancer_options *options)
{
    uint32_t count = 0;
    for (size_t i = 0; i < options->worker_count; i++)
        count += options->workers[i].stream_count ? options->workers[i].stream_count : 1;
    const uint32_t class_count = options->class_count ? options->class_count : CLASS_COUNT_DEFAULT;
    balancer->workers = mr__zalloc_array(count, sizeof *balancer->workers);
    balancer->affinities =
        mr__zalloc_array(MR__AFFINITY_SETS * MR__AFFINITY_WAYS, sizeof *balancer->affinities);
    if (!mr__model_init(&balancer->model, class_count, (uint32_t)options->worker_count, count) ||
        !balancer->workers || !balancer->affinities)
        return mr_error_set(MR_E_NO_MEMORY, "balancer '%s': no memory for %u workers",
                            balancer->name, count);
    balancer->model.depth_limit = options->depth;

    mr_status status = MR_OK;
    for (size_t i = 0; !status && i < options->worker_count; i++)
        status = add_group(balancer, options->workers, i);
    return status;
}

/* It takes no signals: those are for the program's own threads. */
static mr_status start_service(mr_balancer *balancer)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    balancer->has_service = !pthread_create(&balancer->service, NULL, mr__balancer_serve, balancer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!balancer->has_service)
        return mr_error_set(MR_E_NO_MEMORY,
                            "balancer '%s': its thread does not start; raise the limit on threads "
                            "(ulimit -u)",
                            balancer->name);
    return MR_OK;
}

/* ---- create and destroy ---- */

mr_status mr_balancer_create(const mr_balancer_options *options, mr_balancer **out)
{
    *out = NULL;
    mr_status status = check_options(options);
    if (status)
        return status;
    mr_balancer *balancer = mr__zalloc(sizeof *balancer);
    if (!balancer || pthread_mutex_init(&balancer->lock, NULL)) {
        mr__free(balancer);
        return mr_error_set(MR_E_NO_MEMORY, "balancer: no memory for the balancer itself");
    }
    balancer->references = 1;
    balancer->task_limit = options->task_limit ? options->task_limit : TASK_LIMIT_DEFAULT;
    balancer->retry_limit = options->retry_limit;
    balancer->admission = options->admission;
    balancer->results = options->results;
    balancer->name = mr__copy_text(options->name ? options->name : "balancer");
    if (!balancer->name) {
        status = mr_error_set(MR_E_NO_MEMORY, "balancer: no memory for its name");
        goto fail;
    }
    status = add_workers(balancer, options);
    if (!status)
        status = start_service(balancer);
    if (status)
        goto fail;
    *out = balancer;
    return MR_OK;

fail:
    mr_balancer_destroy(balancer);
    return status;
}

static void free_balancer(mr_balancer *balancer)
{
    while (balancer->chunks) {
        struct mr__task_chunk *chunk = balancer->chunks;
        balancer->chunks = chunk->next;
        mr__task_free_chunk(chunk);
    }
    mr__free(balancer->untold_words);
    mr__free(balancer->affinities);
    mr__model_fini(&balancer->model);
    mr__free(balancer->workers);
    pthread_mutex_destroy(&balancer->lock);
    mr__free(balancer->name);
    mr__free(balancer);
}

void mr__balancer_leave(mr_balancer *balancer)
{
    const bool is_last = --balancer->references == 0;
    pthread_mutex_unlock(&balancer->lock);
    if (is_last)
        free_balancer(balancer);
}

static void destroy_worker(struct mr__balancer_worker *worker)
{
    for (int i = 0; i < MR__BALANCER_SLOTS; i++) {
        mr_event_destroy(worker->slots[i].ended);
        mr_event_destroy(worker->slots[i].timed_start);
        mr_event_destroy(worker->slots[i].timed_end);
    }
    mr_stream_destroy(worker->stream);
    worker->stream = NULL;
}

static void stop_service(mr_balancer *balancer)
{
    pthread_mutex_lock(&balancer->lock);
    balancer->is_stopping = true;
    mr__gate_notify(&balancer->called, true);
    pthread_mutex_unlock(&balancer->lock);
    if (balancer->has_service)
        pthread_join(balancer->service, NULL);
}

/* Then the words say why it is still there, and the device cannot be closed. */
static bool is_inside(mr_balancer *balancer)
{
    pthread_mutex_lock(&balancer->lock);
    const bool is_inside = mr__balancer_is_inside(balancer);
    pthread_mutex_unlock(&balancer->lock);
    if (is_inside)
        (void)mr__balancer_refuse_inside("mr_balancer_destroy");
    return is_inside;
}

void mr_balancer_destroy(mr_balancer *balancer)
{
    if (!balancer || is_inside(balancer))
        return;
    /* A task that ends may have its `done` submit another: again, until nothing is left. */
    do
        (void)mr_balancer_cancel(balancer);
    while (balancer->has_service && mr_balancer_drain(balancer, DRAIN_NS) == MR_E_TIMEOUT);
    stop_service(balancer);
    for (uint32_t i = 0; i < balancer->worker_count; i++)
        destroy_worker(&balancer->workers[i]);
    pthread_mutex_lock(&balancer->lock);
    mr__balancer_leave(balancer);
}
