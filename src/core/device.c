/* SPDX-License-Identifier: MIT */
/*
 * Devices: names, the registry of those that are open, and questions to them.
 */
#include "core/device.h"

#include "base/alloc.h"
#include "core/capture.h"
#include "core/default_stream.h"
#include "core/hop.h"
#include "core/operation.h"
#include "core/relay.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { WORKER_LIMIT = 1024 };

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_changed = PTHREAD_COND_INITIALIZER;
static mr_device *open_devices; /* under registry_lock */

/* "cpu" is one device and has no number. */
static void format_id(const char *backend_name, uint32_t index, char id[32])
{
    if (strcmp(backend_name, "cpu") == 0 && index == 0)
        snprintf(id, 32, "cpu");
    else
        snprintf(id, 32, "%.20s:%" PRIu32, backend_name, index);
}

/* ---- opening: under registry_lock ---- */

static mr_device *find_open(const struct mr_backend_ops *ops, uint32_t index)
{
    for (mr_device *device = open_devices; device; device = device->next)
        if (device->ops == ops && device->index == index)
            return device;
    return NULL;
}

static struct mr_backend *find_backend(const struct mr_backend_ops *ops)
{
    for (const mr_device *device = open_devices; device; device = device->next)
        if (device->ops == ops)
            return device->backend_device->backend;
    return NULL;
}

/* Devices of one backend share its instance; the first opens it, the last closes it. */
static mr_status use_backend(const struct mr_backend_ops *ops, struct mr_backend **out)
{
    *out = find_backend(ops);
    return *out ? MR_OK : ops->open(out);
}

static void leave_backend(struct mr_backend *backend)
{
    if (backend && find_backend(backend->ops) != backend)
        backend->ops->close(backend);
}

static mr_status check_index(const struct mr_backend_ops *ops, struct mr_backend *backend,
                             uint32_t index)
{
    const uint32_t count = ops->device_count(backend);
    if (index < count)
        return MR_OK;
    if (!count)
        return mr_error_set(MR_E_UNAVAILABLE, "mr_device_open: the %s backend found no device",
                            ops->name);
    return mr_error_set(MR_E_UNAVAILABLE,
                        "mr_device_open: no %s device has the number %" PRIu32
                        "; there are %" PRIu32 ", counted from 0",
                        ops->name, index, count);
}

static mr_status open_new(const struct mr_backend_ops *ops, uint32_t index,
                          const mr_device_options *options, mr_device **out)
{
    struct mr_backend *backend;
    mr_status status = use_backend(ops, &backend);
    if (status)
        return status;

    mr_device *device = NULL;
    status = check_index(ops, backend, index);
    if (status)
        goto fail;
    device = mr__zalloc(sizeof *device);
    if (!device) {
        status = mr_error_set(MR_E_NO_MEMORY, "mr_device_open: out of memory");
        goto fail;
    }
    status = ops->device_open(backend, index, options, &device->backend_device);
    if (status)
        goto fail;

    device->ops = ops;
    device->index = index;
    device->open_count = 1;
    ops->device_describe(device->backend_device, &device->properties);
    format_id(ops->name, index, device->properties.id);
    device->next = open_devices;
    open_devices = device;
    *out = device;
    return MR_OK;

fail:
    mr__free(device);
    leave_backend(backend);
    return status;
}

mr_status mr__device_open_backend(const struct mr_backend_ops *ops, uint32_t index,
                                  const mr_device_options *options, mr_device **out)
{
    static const mr_device_options none;
    mr_status status = MR_OK;
    *out = NULL;

    pthread_mutex_lock(&registry_lock);
    mr_device *device = find_open(ops, index);
    while (device && device->is_closing) {
        pthread_cond_wait(&registry_changed, &registry_lock);
        device = find_open(ops, index);
    }
    if (device) {
        device->open_count++;
        *out = device;
    } else {
        status = open_new(ops, index, options ? options : &none, out);
    }
    pthread_mutex_unlock(&registry_lock);
    return status;
}

/* ---- names ---- */

static mr_status open_auto(const mr_device_options *options, mr_device **out)
{
    mr_status status = mr_error_set(MR_E_UNAVAILABLE, "mr_device_open: no backend was built in");
    for (const struct mr_backend_ops *const *ops = mr__backends; *ops; ops++) {
        status = mr__device_open_backend(*ops, 0, options, out);
        if (status != MR_E_UNAVAILABLE)
            return status;
    }
    return status;
}

/* Splits "cuda:12" and finds the backend. NULL when the name is none. */
static const struct mr_backend_ops *parse_name(const char *name, uint32_t *index)
{
    const char *colon = strchr(name, ':');
    const size_t length = colon ? (size_t)(colon - name) : strlen(name);
    uint32_t number = 0;

    if (colon) {
        const char *digit = colon + 1;
        if (!*digit || strlen(digit) > 6)
            return NULL;
        for (; *digit; digit++) {
            if (*digit < '0' || *digit > '9')
                return NULL;
            number = number * 10 + (uint32_t)(*digit - '0');
        }
    }
    *index = number;
    for (const struct mr_backend_ops *const *ops = mr__backends; *ops; ops++)
        if (strlen((*ops)->name) == length && strncmp((*ops)->name, name, length) == 0)
            return *ops;
    return NULL;
}

mr_status mr_device_open(const char *name, const mr_device_options *options, mr_device **out)
{
    *out = NULL;
    if (!name)
        return mr_error_set(MR_E_INVALID, "mr_device_open: name is NULL; give \"auto\", \"cpu\" or "
                                          "\"cuda:0\"");
    if (options && options->worker_count > WORKER_LIMIT)
        return mr_error_set(MR_E_INVALID,
                            "mr_device_open: worker_count %" PRIu32 " is above the limit of %d",
                            options->worker_count, WORKER_LIMIT);
    if (strcmp(name, "auto") == 0)
        return open_auto(options, out);

    uint32_t index;
    const struct mr_backend_ops *ops = parse_name(name, &index);
    if (!ops)
        return mr_error_set(
            MR_E_INVALID,
            "mr_device_open: no device can be called \"%.64s\"; names are \"auto\", "
            "\"cpu\", \"cuda\" and \"cuda:N\"",
            name);
    return mr__device_open_backend(ops, index, options, out);
}

/* ---- closing ---- */

static void remove_device(mr_device *device)
{
    mr_device **link = &open_devices;
    while (*link != device)
        link = &(*link)->next;
    *link = device->next;
}

mr_status mr_device_close(mr_device *device)
{
    if (!device)
        return MR_OK;

    pthread_mutex_lock(&registry_lock);
    const uint64_t children = atomic_load_explicit(&device->child_count, memory_order_acquire);
    mr_status status = MR_OK;
    if (device->open_count > 1)
        device->open_count--;
    else if (children)
        status = mr_error_set(MR_E_BUSY,
                              "mr_device_close: %s still has %" PRIu64
                              " streams, events, buffers or kernels; destroy them first",
                              device->properties.id, children);
    else
        device->is_closing = true;
    const bool is_last = device->is_closing;
    pthread_mutex_unlock(&registry_lock);
    if (!is_last)
        return status;

    /* Not under the lock: these wait for work. */
    mr__default_streams_end(device);
    mr__hops_end_device(device);
    mr__relay_drain(device);

    pthread_mutex_lock(&registry_lock);
    remove_device(device);
    struct mr_backend *backend = device->backend_device->backend;
    device->ops->device_close(device->backend_device);
    leave_backend(backend);
    if (!open_devices)
        mr__relay_stop();
    pthread_cond_broadcast(&registry_changed);
    pthread_mutex_unlock(&registry_lock);
    mr__free(device);
    return MR_OK;
}

/* ---- questions ---- */

void mr_device_describe(const mr_device *device, mr_device_properties *properties)
{
    *properties = device->properties;
}

const char *mr_device_id(const mr_device *device)
{
    return device->properties.id;
}

mr_status mr_device_memory(mr_device *device, uint64_t *free_bytes, uint64_t *total_bytes)
{
    *free_bytes = *total_bytes = 0;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_device_memory: device is NULL");
    return device->ops->device_memory(device->backend_device, free_bytes, total_bytes);
}

uint64_t mr_device_now_ns(const mr_device *device)
{
    return device->ops->device_now_ns(device->backend_device);
}

bool mr_device_can_peer(const mr_device *device, const mr_device *peer)
{
    if (device == peer)
        return true;
    return device->ops == peer->ops &&
           device->ops->peer_possible(device->backend_device, peer->backend_device);
}

mr_status mr_device_synchronize(mr_device *device)
{
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_device_synchronize: device is NULL");
    const mr_status status = mr__capture_refuse_device("mr_device_synchronize", device, NULL);
    if (status)
        return status;
    if (mr__operation_is_wanted(device))
        mr__operation_emit_plain(device, MR_OPERATION_SYNCHRONIZE, NULL, 0);
    return device->ops->device_synchronize(device->backend_device);
}

void *mr_device_native(const mr_device *device)
{
    return device->ops->device_native(device->backend_device);
}

/* ---- what is here ---- */

struct listing_writer {
    mr_device_listing *lines;
    size_t capacity;
    size_t count;
};

static void add_line(struct listing_writer *writer, const char *id, const char *reason)
{
    if (writer->count < writer->capacity) {
        mr_device_listing *line = &writer->lines[writer->count];
        *line = (mr_device_listing){ .is_available = !reason };
        snprintf(line->id, sizeof line->id, "%s", id);
        snprintf(line->reason, sizeof line->reason, "%s", reason ? reason : "");
    }
    writer->count++;
}

/* Under registry_lock. */
static void list_backend(struct listing_writer *writer, const struct mr_backend_ops *ops)
{
    struct mr_backend *backend;
    if (use_backend(ops, &backend)) {
        add_line(writer, ops->name, mr_last_error());
        return;
    }

    const uint32_t count = ops->device_count(backend);
    for (uint32_t i = 0; i < count; i++) {
        char id[32];
        format_id(ops->name, i, id);
        add_line(writer, id, NULL);
    }
    if (!count)
        add_line(writer, ops->name, "the driver is here but reports no device");
    leave_backend(backend);
}

mr_status mr_device_list(mr_device_listing *lines, size_t capacity, size_t *count)
{
    *count = 0;
    if (!lines && capacity)
        return mr_error_set(MR_E_INVALID, "mr_device_list: lines is NULL, capacity is %zu",
                            capacity);

    struct listing_writer writer = { .lines = lines, .capacity = capacity };
    pthread_mutex_lock(&registry_lock);
    for (const struct mr_backend_ops *const *ops = mr__backends; *ops; ops++)
        list_backend(&writer, *ops);
    pthread_mutex_unlock(&registry_lock);
    *count = writer.count;
    return MR_OK;
}
