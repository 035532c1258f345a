/* SPDX-License-Identifier: MIT */
/*
 * Buffers: where memory comes from and goes, and who uses it. Copies and fills are in transfer.c.
 */
#include "core/buffer.h"

#include "base/alloc.h"
#include "core/capture.h"

#include <inttypes.h>
#include <stdio.h>

static _Atomic uint64_t last_buffer_id;

/* ---- uses ---- */

static bool is_over(const struct mr__use *use)
{
    pthread_mutex_lock(&use->life->queue_lock);
    const bool is_over = !use->life->queue;
    pthread_mutex_unlock(&use->life->queue_lock);
    return is_over;
}

/* Under use_lock. `stream_id` comes last: who finds it needs nothing else of the entry. */
static void fill_use(struct mr__use *use, mr_stream *stream)
{
    mr__stream_life_release(use->life);
    use->life = mr__stream_life_retain(stream->life);
    atomic_store_explicit(&use->sequence, mr__stream_sequence(stream) + 1, memory_order_relaxed);
    atomic_store_explicit(&use->stream_id, stream->id, memory_order_relaxed);
}

/* Under use_lock. An entry for the stream: its own, a free one, or one whose stream has ended. */
static struct mr__use *find_use(struct mr__use *uses, size_t count, uint64_t stream_id)
{
    struct mr__use *found = NULL;
    for (size_t i = 0; i < count; i++) {
        const uint64_t id = atomic_load_explicit(&uses[i].stream_id, memory_order_relaxed);
        if (id == stream_id)
            return &uses[i];
        if (!found && (!id || is_over(&uses[i])))
            found = &uses[i];
    }
    return found;
}

/* Under use_lock. NULL when memory is out. */
static struct mr__use *add_use(mr_buffer *buffer)
{
    struct mr__use *more =
        mr__resize_array(buffer->more_uses, buffer->more_count + 1, sizeof *more);
    if (!more)
        return NULL;
    buffer->more_uses = more;
    struct mr__use *use = &more[buffer->more_count++];
    *use = (struct mr__use){ 0 };
    return use;
}

mr_status mr__buffer_use_more(mr_buffer *buffer, mr_stream *stream)
{
    pthread_mutex_lock(&buffer->use_lock);
    struct mr__use *use = find_use(buffer->more_uses, buffer->more_count, stream->id);
    if (!use || atomic_load_explicit(&use->stream_id, memory_order_relaxed) != stream->id) {
        struct mr__use *first = find_use(buffer->uses, MR__USE_COUNT, stream->id);
        use = first ? first : use;
    }
    if (!use)
        use = add_use(buffer);
    if (use)
        fill_use(use, stream);
    pthread_mutex_unlock(&buffer->use_lock);

    if (!use)
        return mr_error_set(MR_E_NO_MEMORY, "buffer '%s': out of memory for noting its use",
                            buffer->name);
    return MR_OK;
}

/* Calls `settle` for every use. Nobody submits any more. */
static void end_uses(mr_buffer *buffer, struct mr__use *uses, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mr__use *use = &uses[i];
        const uint64_t sequence = atomic_load_explicit(&use->sequence, memory_order_relaxed);
        if (!use->life)
            continue;
        const mr_stream *owner = buffer->owner;
        const bool is_ordered =
            owner && (use->life == owner->life ||
                      mr__stream_has_waited(owner, use->life->stream_id, sequence));
        if (!is_ordered)
            mr__stream_life_settle(use->life);
        mr__stream_life_release(use->life);
    }
}

/* ---- creation ---- */

static mr_status allocate_buffer(const char *call, mr_device *device, const char *name,
                                 enum mr__origin origin, mr_buffer **out)
{
    *out = NULL;
    mr_buffer *buffer = mr__zalloc(sizeof *buffer);
    if (!buffer)
        goto no_memory;
    buffer->id = atomic_fetch_add_explicit(&last_buffer_id, 1, memory_order_relaxed) + 1;
    buffer->name = name ? mr__copy_text(name) : mr__format_text("buffer %" PRIu64, buffer->id);
    if (!buffer->name)
        goto no_memory;

    pthread_mutex_init(&buffer->use_lock, NULL);
    buffer->device = device;
    buffer->origin = origin;
    atomic_init(&buffer->holder_count, 1);
    mr__device_add_child(device);
    *out = buffer;
    return MR_OK;

no_memory:
    mr__free(buffer);
    return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory", call);
}

static void free_buffer(mr_buffer *buffer)
{
    mr_device *device = buffer->device;
    pthread_mutex_destroy(&buffer->use_lock);
    mr__free(buffer->more_uses);
    mr__free(buffer->name);
    mr__free(buffer);
    mr__device_remove_child(device);
}

static const char *place_name(mr_place place)
{
    switch (place) {
    case MR_PLACE_DEVICE:
        return "device";
    case MR_PLACE_PINNED:
        return "pinned host";
    case MR_PLACE_PAGEABLE:
        return "pageable host";
    }
    return NULL;
}

static void emit(const mr_buffer *buffer, mr_operation_kind kind, const mr_stream *stream,
                 uint64_t sequence)
{
    if (!mr__operation_is_wanted(buffer->device))
        return;
    const mr_operation_access access =
        mr__buffer_access(buffer, 0, buffer->memory.size_bytes, MR_ACCESS_OUT);
    mr_operation operation = { .kind = kind,
                               .stream_id = stream ? stream->id : 0,
                               .sequence = sequence,
                               .name = buffer->name,
                               .size_bytes = buffer->memory.size_bytes,
                               .accesses = &access,
                               .access_count = 1 };
    mr__operation_emit(buffer->device, &operation);
}

/* Puts what was asked for, and what there is, in front of the backend's words. */
static mr_status explain_no_memory(mr_status status, mr_device *device, size_t size_bytes,
                                   mr_place place)
{
    char words[MR_ERROR_BYTES];
    uint64_t free_bytes, total_bytes;
    if (status != MR_E_NO_MEMORY)
        return status;
    snprintf(words, sizeof words, "%s", mr_last_error());
    if (device->ops->device_memory(device->backend_device, &free_bytes, &total_bytes))
        free_bytes = total_bytes = 0;
    return mr_error_set(status,
                        "mr_buffer_create: %zu bytes of %s memory on %s, where %" PRIu64
                        " of %" PRIu64 " bytes of device memory are free: %s",
                        size_bytes, place_name(place), device->properties.id, free_bytes,
                        total_bytes, words);
}

mr_status mr_buffer_create(mr_device *device, size_t size_bytes, const mr_buffer_options *options,
                           mr_buffer **out)
{
    *out = NULL;
    const mr_place place = options ? options->place : MR_PLACE_DEVICE;
    if (!device)
        return mr_error_set(MR_E_INVALID, "mr_buffer_create: device is NULL");
    if (!size_bytes)
        return mr_error_set(MR_E_INVALID, "mr_buffer_create: size is 0; give at least 1 byte");
    if (!place_name(place))
        return mr_error_set(MR_E_INVALID, "mr_buffer_create: place %d is none", (int)place);
    mr_status status = mr__capture_refuse_device("mr_buffer_create", device, NULL);
    if (status)
        return status;

    mr_buffer *buffer;
    status = allocate_buffer("mr_buffer_create", device, options ? options->name : NULL,
                             MR__ORIGIN_CREATED, &buffer);
    if (status)
        return status;
    if (size_bytes > PTRDIFF_MAX)
        status = mr_error_set(MR_E_NO_MEMORY, "no address space is that large");
    else
        status =
            device->ops->memory_create(device->backend_device, size_bytes, place, &buffer->memory);
    if (status) {
        free_buffer(buffer);
        return explain_no_memory(status, device, size_bytes, place);
    }
    emit(buffer, MR_OPERATION_ALLOCATE, NULL, 0);
    *out = buffer;
    return MR_OK;
}

mr_status mr_buffer_create_ordered(mr_stream *stream, size_t size_bytes, mr_buffer **out)
{
    *out = NULL;
    if (!stream)
        return mr_error_set(MR_E_INVALID, "mr_buffer_create_ordered: stream is NULL");
    if (!size_bytes || size_bytes > PTRDIFF_MAX)
        return mr_error_set(MR_E_INVALID, "mr_buffer_create_ordered: size %zu is out of range",
                            size_bytes);
    mr_status status = mr__capture_refuse("mr_buffer_create_ordered", stream,
                                          "graphs do not allocate; create the buffer before");
    if (!status && stream->kind == MR_STREAM_LEGACY)
        status = mr__capture_admit("mr_buffer_create_ordered", stream);
    if (status)
        return status;
    mr_device *device = stream->device;
    if (!device->properties.has_ordered_pools || !stream->ops->memory_create_ordered)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "mr_buffer_create_ordered: %s has no stream-ordered pools; use "
                            "mr_buffer_create",
                            device->properties.id);

    mr_buffer *buffer;
    status = allocate_buffer("mr_buffer_create_ordered", device, NULL, MR__ORIGIN_ORDERED, &buffer);
    if (status)
        return status;
    status = mr__buffer_use(buffer, stream);
    if (!status)
        status = stream->ops->memory_create_ordered(stream->queue, size_bytes, &buffer->memory);
    if (status) {
        end_uses(buffer, buffer->uses, MR__USE_COUNT);
        free_buffer(buffer);
        return status;
    }
    buffer->owner = stream;
    atomic_fetch_add(&stream->ordered_count, 1);
    emit(buffer, MR_OPERATION_ALLOCATE_ORDERED, stream, mr__stream_advance(stream));
    *out = buffer;
    return MR_OK;
}

static mr_status check_foreign(const char *call, const mr_device *device, const void *address,
                               size_t size_bytes)
{
    if (!device || !address)
        return mr_error_set(MR_E_INVALID, "%s: %s is NULL", call, device ? "address" : "device");
    if (!size_bytes || size_bytes > PTRDIFF_MAX || (uintptr_t)address > UINTPTR_MAX - size_bytes)
        return mr_error_set(MR_E_INVALID, "%s: %zu bytes at %p are no range of memory", call,
                            size_bytes, address);
    return MR_OK;
}

mr_status mr_buffer_register(mr_device *device, void *address, size_t size_bytes, mr_buffer **out)
{
    *out = NULL;
    mr_status status = check_foreign("mr_buffer_register", device, address, size_bytes);
    if (!status)
        status = mr__capture_refuse_device("mr_buffer_register", device, NULL);
    if (status)
        return status;

    mr_buffer *buffer;
    status = allocate_buffer("mr_buffer_register", device, NULL, MR__ORIGIN_REGISTERED, &buffer);
    if (status)
        return status;
    status =
        device->ops->memory_register(device->backend_device, address, size_bytes, &buffer->memory);
    if (status) {
        free_buffer(buffer);
        return status;
    }
    emit(buffer, MR_OPERATION_REGISTER, NULL, 0);
    *out = buffer;
    return MR_OK;
}

mr_status mr_buffer_borrow(mr_device *device, void *address, size_t size_bytes, mr_place place,
                           mr_buffer **out)
{
    *out = NULL;
    mr_status status = check_foreign("mr_buffer_borrow", device, address, size_bytes);
    if (status)
        return status;
    if (!place_name(place))
        return mr_error_set(MR_E_INVALID, "mr_buffer_borrow: place %d is none", (int)place);

    mr_buffer *buffer;
    status = allocate_buffer("mr_buffer_borrow", device, NULL, MR__ORIGIN_BORROWED, &buffer);
    if (status)
        return status;
    const bool is_host = place != MR_PLACE_DEVICE || device->properties.is_host_memory;
    const bool is_mapped = place != MR_PLACE_PAGEABLE || device->properties.is_host_memory;
    buffer->memory = (struct mr_memory){ .host = is_host ? address : NULL,
                                         .address = is_mapped ? (uintptr_t)address : 0,
                                         .size_bytes = size_bytes,
                                         .place = place,
                                         .device = device->backend_device };
    *out = buffer;
    return MR_OK;
}

/* ---- destruction ---- */

static void free_memory(mr_buffer *buffer)
{
    const struct mr_backend_ops *ops = buffer->device->ops;
    switch (buffer->origin) {
    case MR__ORIGIN_CREATED:
        emit(buffer, MR_OPERATION_FREE, NULL, 0);
        ops->memory_destroy(&buffer->memory);
        break;
    case MR__ORIGIN_ORDERED:
        ops->memory_destroy_ordered(buffer->owner->queue, &buffer->memory);
        emit(buffer, MR_OPERATION_FREE_ORDERED, buffer->owner, mr__stream_advance(buffer->owner));
        atomic_fetch_sub(&buffer->owner->ordered_count, 1);
        break;
    case MR__ORIGIN_REGISTERED:
        emit(buffer, MR_OPERATION_UNREGISTER, NULL, 0);
        ops->memory_unregister(&buffer->memory);
        break;
    case MR__ORIGIN_BORROWED:
        if (buffer->release)
            buffer->release(buffer->release_context);
        break;
    }
}

void mr__buffer_own(mr_buffer *buffer, void (*release)(void *context), void *context)
{
    buffer->release = release;
    buffer->release_context = context;
}

void mr__buffer_retain(mr_buffer *buffer)
{
    atomic_fetch_add_explicit(&buffer->holder_count, 1, memory_order_relaxed);
}

void mr__buffer_release(mr_buffer *buffer)
{
    if (atomic_fetch_sub_explicit(&buffer->holder_count, 1, memory_order_acq_rel) > 1)
        return;
    free_memory(buffer);
    free_buffer(buffer);
}

void mr_buffer_destroy(mr_buffer *buffer)
{
    if (!buffer)
        return;
    /* It goes all the same; a capture that could name it is broken. */
    (void)mr__capture_refuse_device("mr_buffer_destroy", buffer->device, buffer->name);
    end_uses(buffer, buffer->uses, MR__USE_COUNT);
    end_uses(buffer, buffer->more_uses, buffer->more_count);
    mr__buffer_release(buffer);
}

/* The life of the stream of the index-th use, held; NULL where there is none. False past the last. */
static bool hold_use(mr_buffer *buffer, size_t index, struct mr__stream_life **life)
{
    *life = NULL;
    pthread_mutex_lock(&buffer->use_lock);
    const bool is_there = index < MR__USE_COUNT + buffer->more_count;
    if (is_there) {
        const struct mr__use *use = index < MR__USE_COUNT
                                        ? &buffer->uses[index]
                                        : &buffer->more_uses[index - MR__USE_COUNT];
        *life = use->life ? mr__stream_life_retain(use->life) : NULL;
    }
    pthread_mutex_unlock(&buffer->use_lock);
    return is_there;
}

mr_status mr_buffer_wait(mr_buffer *buffer)
{
    if (!buffer)
        return mr_error_set(MR_E_INVALID, "mr_buffer_wait: buffer is NULL");
    const mr_status refused =
        mr__capture_refuse_device("mr_buffer_wait", buffer->device, buffer->name);
    if (refused)
        return refused;
    if (mr__operation_is_wanted(buffer->device))
        mr__operation_emit_plain(buffer->device, MR_OPERATION_HOST_WAIT, NULL, 0);
    struct mr__stream_life *life;
    for (size_t i = 0; hold_use(buffer, i, &life); i++) {
        if (life)
            mr__stream_life_settle(life);
        mr__stream_life_release(life);
    }
    return MR_OK;
}

/* ---- questions ---- */

size_t mr_buffer_size(const mr_buffer *buffer)
{
    return buffer->memory.size_bytes;
}

mr_place mr_buffer_place(const mr_buffer *buffer)
{
    return buffer->memory.place;
}

mr_device *mr_buffer_device(const mr_buffer *buffer)
{
    return buffer->device;
}

void *mr_buffer_host(const mr_buffer *buffer)
{
    return buffer->memory.host;
}

uint64_t mr_buffer_address(const mr_buffer *buffer)
{
    return buffer->memory.address;
}

mr_status mr_buffer_touch(mr_buffer *buffer, mr_stream *stream)
{
    if (!buffer || !stream)
        return mr_error_set(MR_E_INVALID, "mr_buffer_touch: %s is NULL",
                            buffer ? "stream" : "buffer");
    if (!mr__stream_is_captured(stream))
        return mr__buffer_use(buffer, stream);
    const mr_status status = mr__capture_admit("mr_buffer_touch", stream);
    return status ? status
                  : mr__capture_use(stream, buffer, 0, buffer->memory.size_bytes, MR_ACCESS_INOUT);
}

mr_status mr__buffer_check_range(const char *call, const mr_buffer *buffer, size_t offset,
                                 size_t size_bytes)
{
    const size_t end = buffer->memory.size_bytes;
    if (offset <= end && size_bytes <= end - offset)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "%s: range %zu+%zu ends past buffer '%s' of %zu bytes", call,
                        offset, size_bytes, buffer->name, end);
}

mr_status mr__buffer_check_writable(const char *call, const mr_buffer *buffer)
{
    if (!buffer->is_read_only)
        return MR_OK;
    return mr_error_set(MR_E_INVALID, "%s: buffer '%s' is read-only: its owner lent it so", call,
                        buffer->name);
}

mr_status mr__buffer_address_on(const char *call, const mr_buffer *buffer, const mr_device *device,
                                uint64_t *address)
{
    const struct mr_memory *memory = &buffer->memory;
    const char *remedy = "copy it to a buffer of the stream's device first";
    *address = 0;

    if (device->properties.is_host_memory)
        *address = (uintptr_t)memory->host;
    else if (buffer->device->ops == device->ops &&
             (memory->place != MR_PLACE_DEVICE || mr_device_can_peer(device, buffer->device)))
        *address = memory->address;
    if (*address)
        return MR_OK;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "%s: buffer '%s' is %s memory of %s, which kernels on %s cannot reach; %s",
                        call, buffer->name, place_name(memory->place),
                        buffer->device->properties.id, device->properties.id, remedy);
}

mr_operation_access mr__buffer_access(const mr_buffer *buffer, size_t offset, size_t size_bytes,
                                      mr_access access)
{
    const struct mr_memory *memory = &buffer->memory;
    const uint64_t first = memory->address ? memory->address : (uintptr_t)memory->host;
    return (mr_operation_access){ .buffer_id = buffer->id,
                                  .address = first + offset,
                                  .size_bytes = size_bytes,
                                  .access = access,
                                  .place = memory->place };
}
