/* SPDX-License-Identifier: MIT */
/*
 * The default queues: the device's legacy queue, a queue per thread, and the order that the legacy
 * queue keeps with all blocking ones.
 *
 * The order is made of ordinary waits, submitted before the work that needs them. Each targets only
 * what the other queue has submitted already, so that no two can wait for each other; what is reached
 * or was waited for before costs two loads.
 */
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_queue.h"

#include "base/alloc.h"

/* A thread's default queues, one per device. Devices and threads may end in any order: what they share
 * is under one lock for the process. */
struct thread_entry {
    struct thread_entry *next;
    struct thread_entry **link; /* what points here */
    struct cpu_queue *queue;
};

static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t thread_key_once = PTHREAD_ONCE_INIT;
static pthread_key_t thread_key;
static int thread_key_error;
static _Thread_local struct thread_entry *thread_entries; /* under threads_lock */

static void remove_entry(struct thread_entry *entry)
{
    *entry->link = entry->next;
    if (entry->next)
        entry->next->link = entry->link;
    mr__free(entry);
}

/* The thread ends. Its queues stay with those who hold them, until they or the device end; they can no
 * longer be found by a thread. */
static void forget_thread(void *value)
{
    struct thread_entry **entries = value;
    pthread_mutex_lock(&threads_lock);
    while (*entries) {
        (*entries)->queue->thread_entry = NULL;
        remove_entry(*entries);
    }
    pthread_mutex_unlock(&threads_lock);
}

static void make_thread_key(void)
{
    thread_key_error = pthread_key_create(&thread_key, forget_thread);
}

/* Under the lock. */
static struct cpu_queue *find_of_thread(const struct cpu_device *device)
{
    for (struct thread_entry *entry = thread_entries; entry; entry = entry->next) {
        if (entry->queue->device == device)
            return entry->queue;
    }
    return NULL;
}

static mr_status add_entry(struct cpu_queue *queue)
{
    pthread_once(&thread_key_once, make_thread_key);
    struct thread_entry *entry = mr__zalloc(sizeof *entry);
    if (!entry || thread_key_error || pthread_setspecific(thread_key, &thread_entries)) {
        mr__free(entry);
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a thread's default queue");
    }

    pthread_mutex_lock(&threads_lock);
    *entry =
        (struct thread_entry){ .next = thread_entries, .link = &thread_entries, .queue = queue };
    if (thread_entries)
        thread_entries->link = &entry->next;
    thread_entries = entry;
    queue->thread_entry = entry;
    pthread_mutex_unlock(&threads_lock);
    return MR_OK;
}

static mr_status open_per_thread(struct cpu_device *device, struct cpu_queue **out)
{
    pthread_mutex_lock(&threads_lock);
    *out = find_of_thread(device);
    if (*out)
        (*out)->owners++;
    pthread_mutex_unlock(&threads_lock);
    if (*out)
        return MR_OK;

    struct cpu_queue *queue;
    mr_status status = mr__cpu_queue_make(device, MR_STREAM_PER_THREAD, 0, &queue);
    if (status)
        return status;
    queue->owners = 1;
    status = add_entry(queue);
    if (status) {
        mr__cpu_queue_retire(queue);
        return status;
    }
    *out = queue;
    return MR_OK;
}

static mr_status open_legacy(struct cpu_device *device, struct cpu_queue **out)
{
    mr_status status = MR_OK;
    pthread_mutex_lock(&device->legacy_lock);
    *out = atomic_load_explicit(&device->legacy, memory_order_relaxed);
    if (!*out) {
        status = mr__cpu_queue_make(device, MR_STREAM_LEGACY, 0, out);
        atomic_store_explicit(&device->legacy, *out, memory_order_release);
    }
    pthread_mutex_unlock(&device->legacy_lock);
    return status;
}

mr_status mr__cpu_default_open(struct cpu_device *device, mr_stream_kind kind,
                               struct cpu_queue **out)
{
    *out = NULL;
    return kind == MR_STREAM_LEGACY ? open_legacy(device, out) : open_per_thread(device, out);
}

void mr__cpu_default_close(struct cpu_queue *queue)
{
    if (queue->kind == MR_STREAM_LEGACY)
        return; /* the device's, until it closes */

    pthread_mutex_lock(&threads_lock);
    const bool is_last = --queue->owners == 0;
    if (is_last && queue->thread_entry)
        remove_entry(queue->thread_entry);
    pthread_mutex_unlock(&threads_lock);
    if (is_last)
        mr__cpu_queue_retire(queue);
}

void mr__cpu_default_close_all(struct cpu_device *device)
{
    struct cpu_queue *next;
    for (struct cpu_queue *queue = device->queues; queue; queue = next) {
        next = queue->all.next;
        if (queue->kind != MR_STREAM_PER_THREAD && queue->kind != MR_STREAM_LEGACY)
            continue;
        pthread_mutex_lock(&threads_lock);
        if (queue->thread_entry)
            remove_entry(queue->thread_entry);
        pthread_mutex_unlock(&threads_lock);
        mr__cpu_queue_retire(queue);
    }
}

/* ---- order ---- */

static mr_status join_legacy(struct cpu_queue *queue)
{
    struct cpu_queue *legacy = atomic_load_explicit(&queue->device->legacy, memory_order_acquire);
    if (!legacy)
        return MR_OK;

    const uint64_t target = atomic_load_explicit(&legacy->submitted, memory_order_acquire);
    if (target == queue->legacy_sequence)
        return MR_OK;
    const mr_status status = mr__cpu_queue_submit_wait(queue, legacy->timeline, target);
    if (!status)
        queue->legacy_sequence = target;
    return status;
}

static mr_status join_blocking(struct cpu_queue *legacy)
{
    struct cpu_device *device = legacy->device;
    mr_status status = MR_OK;

    pthread_mutex_lock(&device->queues_lock);
    for (struct cpu_queue *queue = device->blocking; queue && !status;
         queue = queue->blocking.next) {
        const uint64_t target = atomic_load_explicit(&queue->submitted, memory_order_acquire);
        if (target == queue->joined_sequence)
            continue;
        status = mr__cpu_queue_submit_wait(legacy, queue->timeline, target);
        if (!status)
            queue->joined_sequence = target;
    }
    pthread_mutex_unlock(&device->queues_lock);
    return status;
}

mr_status mr__cpu_default_join(struct cpu_queue *queue)
{
    return queue->kind == MR_STREAM_LEGACY ? join_blocking(queue) : join_legacy(queue);
}
