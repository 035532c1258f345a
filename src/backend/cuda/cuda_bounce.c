/* SPDX-License-Identifier: MIT */
/*
 * Pageable sources of a busy stream. The driver reads up to 64 KiB of a pageable source while it is
 * called, whatever is queued before: a host function, or a stream of another backend that this one
 * waits for, may yet have to write it. So the bytes go through pinned memory in stream order: a host
 * function packs them, a copy takes them on. It never blocks; the idle stream has the faster way.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

/* A queue has one at a time, and its own order says when it may be filled anew. */
enum { BOUNCE_BYTES = 1 << 20 };

static struct cuda_bounce *bounce_take(struct cuda_device *device)
{
    pthread_mutex_lock(&device->bounce_lock);
    struct cuda_bounce *bounce = device->bounces;
    if (bounce)
        device->bounces = bounce->next;
    pthread_mutex_unlock(&device->bounce_lock);
    return bounce;
}

void mr__cuda_bounce_give_back(struct cuda_device *device, struct cuda_bounce *bounce)
{
    if (!bounce)
        return;
    pthread_mutex_lock(&device->bounce_lock);
    bounce->next = device->bounces;
    device->bounces = bounce;
    pthread_mutex_unlock(&device->bounce_lock);
}

static mr_status bounce_create(struct cuda_device *device, struct cuda_bounce **out)
{
    struct cuda_bounce *bounce = mr__zalloc(sizeof *bounce);
    if (!bounce)
        return mr__cuda_no_heap("copying from pageable memory");
    void *bytes = NULL;
    bool is_pushed;
    CUresult result = mr__cuda_enter(device, &is_pushed);
    if (!result)
        result = device->cu->cuMemHostAlloc(&bytes, BOUNCE_BYTES, CU_MEMHOSTALLOC_PORTABLE);
    mr__cuda_leave(device, is_pushed);
    if (result) {
        mr__free(bounce);
        return mr__cuda_error(device->cu, result, "pinning %d bytes to copy from pageable memory",
                              BOUNCE_BYTES);
    }
    bounce->bytes = bytes;
    *out = bounce;
    return MR_OK;
}

void mr__cuda_bounces_destroy(struct cuda_device *device)
{
    while (device->bounces) {
        struct cuda_bounce *bounce = device->bounces;
        device->bounces = bounce->next;
        (void)device->cu->cuMemFreeHost(bounce->bytes);
        mr__free(bounce);
    }
}

/* `row_count` rows of `width` bytes, which fit, from `column` of row `row` on. */
static mr_status copy_piece(struct cuda_queue *queue, const struct mr_transfer *transfer,
                            size_t row, size_t row_count, size_t column, size_t width)
{
    const unsigned char *source = (const unsigned char *)transfer->source->host +
                                  transfer->source_offset + row * transfer->source_pitch + column;
    mr_status status = mr__cuda_host_job(queue, &(struct cuda_host_job){
                                                    .target = queue->bounce->bytes,
                                                    .source = source,
                                                    .target_pitch = width,
                                                    .source_pitch = transfer->source_pitch,
                                                    .row_bytes = width,
                                                    .row_count = row_count,
                                                });
    if (status)
        return status;

    const struct mr_memory packed = { .host = queue->bounce->bytes,
                                      .size_bytes = BOUNCE_BYTES,
                                      .place = MR_PLACE_PINNED,
                                      .device = &queue->device->base };
    const struct mr_transfer piece = {
        .target = transfer->target,
        .source = &packed,
        .target_offset = transfer->target_offset + row * transfer->target_pitch + column,
        .target_pitch = transfer->target_pitch,
        .source_pitch = width,
        .row_bytes = width,
        .row_count = row_count,
    };
    return mr__cuda_copy(&queue->base, &piece);
}

static mr_status copy_long_row(struct cuda_queue *queue, const struct mr_transfer *transfer,
                               size_t row)
{
    mr_status status = MR_OK;
    for (size_t column = 0; column < transfer->row_bytes && !status; column += BOUNCE_BYTES) {
        const size_t left = transfer->row_bytes - column;
        status =
            copy_piece(queue, transfer, row, 1, column, left < BOUNCE_BYTES ? left : BOUNCE_BYTES);
    }
    return status;
}

mr_status mr__cuda_bounce_copy(struct cuda_queue *queue, const struct mr_transfer *transfer)
{
    if (!queue->bounce)
        queue->bounce = bounce_take(queue->device);
    mr_status status = queue->bounce ? MR_OK : bounce_create(queue->device, &queue->bounce);

    const size_t fitting = BOUNCE_BYTES / transfer->row_bytes;
    for (size_t row = 0; row < transfer->row_count && !status; row += fitting ? fitting : 1) {
        const size_t left = transfer->row_count - row;
        if (!fitting)
            status = copy_long_row(queue, transfer, row);
        else
            status = copy_piece(queue, transfer, row, left < fitting ? left : fitting, 0,
                                transfer->row_bytes);
    }
    return status;
}
