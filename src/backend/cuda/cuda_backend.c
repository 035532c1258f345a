/* SPDX-License-Identifier: MIT */
/*
 * The CUDA backend: the driver found and started, and the table of what it can do.
 */
#include "backend/cuda/cuda_backend.h"

#include "base/alloc.h"

#include <dlfcn.h>

/* Everything in use here is in CUDA 12.0. */
enum { OLDEST_DRIVER = 12000 };

mr_status mr__cuda_no_heap(const char *what)
{
    return mr_error_set(MR_E_NO_MEMORY, "%s: no host memory left", what);
}

static mr_status driver_start(struct cuda_backend *backend)
{
    const struct cuda_symbols *cu = &backend->cu;
    CUresult result = cu->cuDriverGetVersion(&backend->driver_version);
    if (!result && backend->driver_version < OLDEST_DRIVER)
        return mr_error_set(
            MR_E_UNAVAILABLE,
            "the NVIDIA driver is too old: it serves CUDA %d.%d and 12.0 is needed; "
            "install driver 525 or newer",
            backend->driver_version / 1000, backend->driver_version % 1000 / 10);

    int count = 0;
    if (!result)
        result = cu->cuInit(0);
    if (!result)
        result = cu->cuDeviceGetCount(&count);
    if (!result && !count)
        result = CUDA_ERROR_NO_DEVICE;
    if (result) {
        /* Whatever the driver says here, it is not there to be used. */
        mr__cuda_error(cu, result, "the NVIDIA driver was found but does not start");
        return MR_E_UNAVAILABLE;
    }
    backend->device_count = (uint32_t)count;
    return MR_OK;
}

static void backend_close(struct mr_backend *base)
{
    if (!base)
        return;
    struct cuda_backend *backend = cuda_backend_from(base);
    mr__free(backend->devices);
    pthread_mutex_destroy(&backend->lock);
    if (backend->library)
        dlclose(backend->library);
    mr__free(backend);
}

static mr_status backend_open(struct mr_backend **out)
{
    *out = NULL;
    struct cuda_backend *backend = mr__zalloc(sizeof *backend);
    if (!backend)
        return mr__cuda_no_heap("the CUDA backend");
    backend->base.ops = &mr__cuda_backend;
    pthread_mutex_init(&backend->lock, NULL);

    mr_status status = mr__cuda_symbols_load(&backend->library, &backend->cu);
    if (status)
        goto fail;
    status = driver_start(backend);
    if (status)
        goto fail;
    backend->devices = mr__zalloc_array(backend->device_count, sizeof(struct cuda_device *));
    if (!backend->devices) {
        status = mr__cuda_no_heap("the CUDA backend");
        goto fail;
    }

    *out = &backend->base;
    return MR_OK;

fail:
    backend_close(&backend->base);
    return status;
}

static uint32_t device_count(struct mr_backend *backend)
{
    return cuda_backend_from(backend)->device_count;
}

const struct mr_backend_ops mr__cuda_backend = {
    .name = "cuda",

    .open = backend_open,
    .close = backend_close,
    .device_count = device_count,
    .device_open = mr__cuda_device_open,
    .device_close = mr__cuda_device_close,
    .device_describe = mr__cuda_device_describe,
    .device_memory = mr__cuda_device_memory,
    .device_now_ns = mr__cuda_device_now_ns,
    .device_synchronize = mr__cuda_device_synchronize,
    .device_native = mr__cuda_device_native,

    .memory_create = mr__cuda_memory_create,
    .memory_destroy = mr__cuda_memory_destroy,
    .memory_create_ordered = mr__cuda_memory_create_ordered,
    .memory_destroy_ordered = mr__cuda_memory_destroy_ordered,
    .memory_register = mr__cuda_memory_register,
    .memory_unregister = mr__cuda_memory_unregister,

    .queue_create = mr__cuda_queue_create,
    .queue_wrap = mr__cuda_queue_wrap,
    .queue_destroy = mr__cuda_queue_destroy,
    .queue_native = mr__cuda_queue_native,
    .queue_query = mr__cuda_queue_query,
    .queue_wait = mr__cuda_queue_wait,

    .copy = mr__cuda_copy,
    .fill = mr__cuda_fill,
    .launch = mr__cuda_launch,
    .call = mr__cuda_call,

    .point_record = mr__cuda_point_record,
    .point_renew = mr__cuda_point_renew,
    .point_retain = mr__cuda_point_retain,
    .point_release = mr__cuda_point_release,
    .point_query = mr__cuda_point_query,
    .point_wait = mr__cuda_point_wait,
    .point_elapsed = mr__cuda_point_elapsed,
    .queue_wait_point = mr__cuda_queue_wait_point,
    .gate_create = mr__cuda_gate_create,
    .gate_open = mr__cuda_gate_open,
    .gate_destroy = mr__cuda_gate_destroy,
    .queue_wait_gate = mr__cuda_queue_wait_gate,

    .function_create = mr__cuda_function_create,
    .function_destroy = mr__cuda_function_destroy,
    .function_signature = mr__cuda_function_signature,

    .capture_begin = mr__cuda_capture_begin,
    .capture_end = mr__cuda_capture_end,
    .plan_create = mr__cuda_plan_create,
    .plan_clone = mr__cuda_plan_clone,
    .plan_destroy = mr__cuda_plan_destroy,
    .plan_add = mr__cuda_plan_add,
    .plan_size = mr__cuda_plan_size,
    .replay_create = mr__cuda_replay_create,
    .replay_update = mr__cuda_replay_update,
    .replay_update_launch = mr__cuda_replay_update_launch,
    .replay_launch = mr__cuda_replay_launch,
    .replay_upload = mr__cuda_replay_upload,
    .replay_destroy = mr__cuda_replay_destroy,
    .replay_memory = mr__cuda_replay_memory,

    .peer_possible = mr__cuda_peer_possible,
};
