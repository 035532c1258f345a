/* SPDX-License-Identifier: MIT */
/*
 * Operation records: the observers of a device, and how they are told.
 *
 * Function and context are read as a pair under a version counter, without a lock and without
 * memory that could be freed under a reader.
 */
#include "core/operation.h"
#include "core/stream.h"

static pthread_mutex_t observe_lock = PTHREAD_MUTEX_INITIALIZER; /* one writer at a time */

/* What the calling thread observes of its own submissions. */
static _Thread_local struct {
    mr_device *device;
    mr_operation_observer function;
    void *context;
} here;

const char *mr_operation_kind_name(mr_operation_kind kind)
{
    switch (kind) {
    case MR_OPERATION_COPY:
        return "copy";
    case MR_OPERATION_FILL:
        return "fill";
    case MR_OPERATION_LAUNCH:
        return "launch";
    case MR_OPERATION_CALL:
        return "call";
    case MR_OPERATION_RECORD:
        return "record";
    case MR_OPERATION_WAIT:
        return "wait";
    case MR_OPERATION_WAIT_SKIPPED:
        return "wait skipped";
    case MR_OPERATION_ALLOCATE:
        return "allocate";
    case MR_OPERATION_FREE:
        return "free";
    case MR_OPERATION_ALLOCATE_ORDERED:
        return "allocate ordered";
    case MR_OPERATION_FREE_ORDERED:
        return "free ordered";
    case MR_OPERATION_REGISTER:
        return "register";
    case MR_OPERATION_UNREGISTER:
        return "unregister";
    case MR_OPERATION_HOST_WAIT:
        return "host wait";
    case MR_OPERATION_SYNCHRONIZE:
        return "synchronize";
    case MR_OPERATION_GRAPH_LAUNCH:
        return "graph launch";
    case MR_OPERATION_KIND_COUNT:
        break;
    }
    return "unknown";
}

void mr_device_observe(mr_device *device, mr_operation_observer observer, void *context)
{
    struct mr__observer *place = &device->observer;

    pthread_mutex_lock(&observe_lock);
    const bool had_one = atomic_load(&place->function) != NULL;
    atomic_fetch_add(&place->version, 1);
    atomic_store(&place->context, context);
    atomic_store(&place->function, observer);
    atomic_fetch_add(&place->version, 1);
    if (observer && !had_one)
        atomic_fetch_add(&place->wanted_count, 1);
    else if (!observer && had_one)
        atomic_fetch_sub(&place->wanted_count, 1);
    pthread_mutex_unlock(&observe_lock);
}

mr_status mr_device_observe_thread(mr_device *device, mr_operation_observer observer, void *context)
{
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_device_observe_thread: device is NULL");
    if (observer && here.function)
        return mr_error_set(
            MR_E_STATE,
            "mr_device_observe_thread: this thread already observes %s; remove that "
            "observer first",
            here.device->properties.id);
    if (!observer && here.device != device)
        return MR_OK;

    if (observer)
        atomic_fetch_add(&device->observer.wanted_count, 1);
    else
        atomic_fetch_sub(&device->observer.wanted_count, 1);
    here.device = observer ? device : NULL;
    here.function = observer;
    here.context = context;
    return MR_OK;
}

static mr_operation_observer read_observer(const struct mr__observer *place, void **context)
{
    for (;;) {
        const uint32_t before = atomic_load(&place->version);
        const mr_operation_observer function = atomic_load(&place->function);
        *context = atomic_load(&place->context);
        if (before % 2 == 0 && atomic_load(&place->version) == before)
            return function;
    }
}

void mr__operation_emit(mr_device *device, mr_operation *operation)
{
    void *context;
    const mr_operation_observer function = read_observer(&device->observer, &context);
    const bool is_observed_here = here.device == device;
    if (!function && !is_observed_here)
        return;

    operation->device_id = device->properties.id;
    operation->submitted_ns = device->ops->device_now_ns(device->backend_device);
    if (!operation->name)
        operation->name = "";
    if (is_observed_here)
        here.function(here.context, operation);
    if (function)
        function(context, operation);
}

void mr__operation_emit_plain(mr_device *device, mr_operation_kind kind, const mr_stream *stream,
                              uint64_t sequence)
{
    mr_operation operation = { .kind = kind, .sequence = sequence };
    if (stream) {
        operation.stream_id = stream->id;
        operation.name = stream->life->stream_name;
    }
    mr__operation_emit(device, &operation);
}
