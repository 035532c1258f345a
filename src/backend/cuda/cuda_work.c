/* SPDX-License-Identifier: MIT */
/*
 * Copies and fills. Which call of the driver serves depends on where both sides are.
 */
#include "backend/cuda/cuda_graph.h"

/* One side of a copy, resolved. */
struct side {
    unsigned char *host; /* NULL for device memory */
    CUdeviceptr address; /* unified: the host's address or the device's */
    struct cuda_device *device;
    size_t pitch;
};

static struct side side_of(const struct mr_memory *memory, size_t offset, size_t pitch)
{
    struct side side = { .pitch = pitch };
    if (memory->host) {
        side.host = (unsigned char *)memory->host + offset;
        side.address = (CUdeviceptr)(uintptr_t)side.host;
    } else {
        side.address = memory->address + offset;
        side.device = cuda_device_from(memory->device);
    }
    return side;
}

static bool is_flat(const struct side *target, const struct side *source,
                    const struct mr_transfer *transfer)
{
    return transfer->row_count == 1 ||
           (target->pitch == transfer->row_bytes && source->pitch == transfer->row_bytes);
}

static bool is_between_devices(const struct side *target, const struct side *source)
{
    return target->device && source->device && target->device != source->device;
}

static CUresult copy_rows(struct cuda_queue *queue, const struct side *target,
                          const struct side *source, const struct mr_transfer *transfer)
{
    CUresult result = CUDA_SUCCESS;
    for (size_t row = 0; row < transfer->row_count && !result; row++)
        result = queue->device->cu->cuMemcpyAsync(target->address + row * target->pitch,
                                                  source->address + row * source->pitch,
                                                  transfer->row_bytes, queue->stream);
    return result;
}

static CUresult copy_2d(struct cuda_queue *queue, const struct side *target,
                        const struct side *source, const struct mr_transfer *transfer)
{
    const size_t limit = queue->device->pitch_limit;
    if (target->pitch > limit || source->pitch > limit)
        return copy_rows(queue, target, source, transfer);
    const CUDA_MEMCPY2D copy = {
        .srcMemoryType = CU_MEMORYTYPE_UNIFIED,
        .srcDevice = source->address,
        .srcPitch = source->pitch,
        .dstMemoryType = CU_MEMORYTYPE_UNIFIED,
        .dstDevice = target->address,
        .dstPitch = target->pitch,
        .WidthInBytes = transfer->row_bytes,
        .Height = transfer->row_count,
    };
    return queue->device->cu->cuMemcpy2DAsync(&copy, queue->stream);
}

/* True when the device reaches the memory by itself: its own, or what the driver has pinned. */
static bool is_reachable(const struct mr_memory *memory)
{
    return !memory->host ||
           (memory->place == MR_PLACE_PINNED && memory->device->ops == &mr__cuda_backend);
}

/* Between two devices: directly where they are peers, through the host where not. */
static CUresult copy_peer(struct cuda_queue *queue, const struct side *target,
                          const struct side *source, const struct mr_transfer *transfer)
{
    if (is_flat(target, source, transfer))
        return queue->device->cu->cuMemcpyPeerAsync(
            target->address, target->device->context, source->address, source->device->context,
            transfer->row_bytes * transfer->row_count, queue->stream);
    const CUDA_MEMCPY3D_PEER copy = {
        .srcMemoryType = CU_MEMORYTYPE_DEVICE,
        .srcDevice = source->address,
        .srcContext = source->device->context,
        .srcPitch = source->pitch,
        .srcHeight = transfer->row_count,
        .dstMemoryType = CU_MEMORYTYPE_DEVICE,
        .dstDevice = target->address,
        .dstContext = target->device->context,
        .dstPitch = target->pitch,
        .dstHeight = transfer->row_count,
        .WidthInBytes = transfer->row_bytes,
        .Height = transfer->row_count,
        .Depth = 1,
    };
    return queue->device->cu->cuMemcpy3DPeerAsync(&copy, queue->stream);
}

static mr_status copy_host(struct cuda_queue *queue, const struct side *target,
                           const struct side *source, const struct mr_transfer *transfer)
{
    return mr__cuda_host_job(queue, &(struct cuda_host_job){
                                        .target = target->host,
                                        .source = source->host,
                                        .target_pitch = target->pitch,
                                        .source_pitch = source->pitch,
                                        .row_bytes = transfer->row_bytes,
                                        .row_count = transfer->row_count,
                                    });
}

static CUresult copy_flat(struct cuda_queue *queue, const struct side *target,
                          const struct side *source, const struct mr_transfer *transfer)
{
    return queue->device->cu->cuMemcpyAsync(
        target->address, source->address, transfer->row_bytes * transfer->row_count, queue->stream);
}

static CUresult copy_bound(struct cuda_queue *queue, const struct side *target,
                           const struct side *source, const struct mr_transfer *transfer)
{
    bool is_pushed;
    CUresult result = mr__cuda_bind(queue->device, &is_pushed);
    if (!result && is_between_devices(target, source))
        result = copy_peer(queue, target, source, transfer);
    else if (!result && is_flat(target, source, transfer))
        result = copy_flat(queue, target, source, transfer);
    else if (!result)
        result = copy_2d(queue, target, source, transfer);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_unbind(queue->device, is_pushed);
    return result;
}

static CUresult copy_any(struct cuda_queue *queue, const struct side *target,
                         const struct side *source, const struct mr_transfer *transfer)
{
    if (mr__cuda_is_unbound(queue) && is_flat(target, source, transfer) &&
        !is_between_devices(target, source)) {
        CUresult result = copy_flat(queue, target, source, transfer);
        if (!mr__cuda_misses_context(queue->device, result))
            return result;
    }
    return copy_bound(queue, target, source, transfer);
}

/* A graph's copies read and write when they run, so the device must reach both sides by itself. */
static mr_status refuse_pageable(const struct cuda_device *device, mr_status status)
{
    return mr_error_set(status,
                        "a graph on %s cannot touch pageable memory: pin it (mr_buffer_create with "
                        "MR_PLACE_PINNED, mr_buffer_register), or copy outside the graph",
                        device->properties.id);
}

mr_status mr__cuda_copy(struct mr_queue *base, const struct mr_transfer *transfer)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    const struct side target =
        side_of(transfer->target, transfer->target_offset, transfer->target_pitch);
    const struct side source =
        side_of(transfer->source, transfer->source_offset, transfer->source_pitch);
    const bool is_reached = is_reachable(transfer->target) && is_reachable(transfer->source);
    if (!is_reached && mr__cuda_is_captured(queue))
        return refuse_pageable(device, MR_E_STATE);
    if (target.host && source.host && !mr__cuda_is_captured(queue))
        return copy_host(queue, &target, &source, transfer);

    /* The driver reads small pageable sources while it is called, before work that may yet write them;
     * see cuda_bounce.c. A queue that cannot be asked may have such work. */
    if (!is_reached && !is_reachable(transfer->source)) {
        const mr_status status = mr__cuda_queue_query(base);
        if (status == MR_E_BUSY)
            return mr__cuda_bounce_copy(queue, transfer);
        if (status)
            return status;
    }

    CUresult result = copy_any(queue, &target, &source, transfer);
    if (__builtin_expect(!result, 1))
        return MR_OK;
    return mr__cuda_error(device->cu, result, "queueing a copy of %zu x %zu bytes on %s",
                          transfer->row_count, transfer->row_bytes, device->properties.id);
}

static CUresult fill_reachable(struct cuda_queue *queue, CUdeviceptr address, size_t size_bytes,
                               uint32_t value, uint32_t value_bytes)
{
    const struct cuda_symbols *cu = queue->device->cu;
    switch (value_bytes) {
    case 1:
        return cu->cuMemsetD8Async(address, (unsigned char)value, size_bytes, queue->stream);
    case 2:
        return cu->cuMemsetD16Async(address, (unsigned short)value, size_bytes / 2, queue->stream);
    default:
        return cu->cuMemsetD32Async(address, value, size_bytes / 4, queue->stream);
    }
}

mr_status mr__cuda_fill(struct mr_queue *base, const struct mr_memory *memory, size_t offset,
                        size_t size_bytes, uint32_t value, uint32_t value_bytes)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_device *device = queue->device;
    if (!is_reachable(memory) && mr__cuda_is_captured(queue))
        return refuse_pageable(device, MR_E_STATE);
    if (!is_reachable(memory))
        return mr__cuda_host_job(queue, &(struct cuda_host_job){
                                            .target = (unsigned char *)memory->host + offset,
                                            .row_bytes = size_bytes,
                                            .row_count = 1,
                                            .value = value,
                                            .value_bytes = value_bytes,
                                        });
    bool is_pushed;
    CUresult result = mr__cuda_bind(device, &is_pushed);
    if (!result)
        result = fill_reachable(queue, memory->address + offset, size_bytes, value, value_bytes);
    if (!result)
        mr__cuda_queue_submitted(queue);
    mr__cuda_unbind(device, is_pushed);
    return mr__cuda_error(device->cu, result, "queueing a fill of %zu bytes on %s", size_bytes,
                          device->properties.id);
}

/* ---- as nodes of a graph ---- */

mr_status mr__cuda_copy_node(const struct cuda_device *device, const struct mr_transfer *transfer,
                             CUDA_MEMCPY3D *out)
{
    if (!is_reachable(transfer->target) || !is_reachable(transfer->source))
        return refuse_pageable(device, MR_E_UNSUPPORTED);
    const struct side target =
        side_of(transfer->target, transfer->target_offset, transfer->target_pitch);
    const struct side source =
        side_of(transfer->source, transfer->source_offset, transfer->source_pitch);
    const bool has_rows = !is_flat(&target, &source, transfer);
    if (has_rows && (target.pitch > device->pitch_limit || source.pitch > device->pitch_limit))
        return mr_error_set(
            MR_E_UNSUPPORTED,
            "a copy of rows %zu and %zu bytes apart as one node: %s allows %zu; add "
            "a node per row",
            source.pitch, target.pitch, device->properties.id, device->pitch_limit);
    const size_t row_count = has_rows ? transfer->row_count : 1;
    const size_t row_bytes =
        has_rows ? transfer->row_bytes : transfer->row_bytes * transfer->row_count;
    *out = (CUDA_MEMCPY3D){
        .srcMemoryType = source.host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
        .srcHost = source.host,
        .srcDevice = source.host ? 0 : source.address,
        .srcPitch = has_rows ? source.pitch : row_bytes,
        .srcHeight = row_count,
        .dstMemoryType = target.host ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE,
        .dstHost = target.host,
        .dstDevice = target.host ? 0 : target.address,
        .dstPitch = has_rows ? target.pitch : row_bytes,
        .dstHeight = row_count,
        .WidthInBytes = row_bytes,
        .Height = row_count,
        .Depth = 1,
    };
    return MR_OK;
}

mr_status mr__cuda_fill_node(const struct cuda_device *device, const struct mr_work *work,
                             CUDA_MEMSET_NODE_PARAMS *out)
{
    const struct mr_memory *memory = work->as.fill.memory;
    if (!is_reachable(memory))
        return refuse_pageable(device, MR_E_UNSUPPORTED);
    *out = (CUDA_MEMSET_NODE_PARAMS){
        .dst = memory->address + work->as.fill.offset,
        .value = work->as.fill.value,
        .elementSize = work->as.fill.value_bytes,
        .width = work->as.fill.size_bytes / work->as.fill.value_bytes,
        .height = 1,
    };
    return MR_OK;
}
