/* SPDX-License-Identifier: MIT */
/*
 * The stand-in driver's devices: what they are, their primary contexts, and which is current.
 */
#include "support/fakecuda/fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STACK_LIMIT = 16, STREAM_CAPACITY = 32 };

pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t fake_progress = PTHREAD_COND_INITIALIZER;

static struct CUctx_st contexts[DEVICE_LIMIT];
static struct CUstream_st legacy_streams[DEVICE_LIMIT];
static int device_count = 1;
static bool is_started;
static int64_t live; /* under the lock */

static _Thread_local CUcontext stack[STACK_LIMIT];
static _Thread_local int depth; /* stack[depth - 1] is current */

static void devices_count(void)
{
    const uint64_t count = fake_setting("FAKECUDA_DEVICES", 1);
    device_count = count < DEVICE_LIMIT ? (int)count : DEVICE_LIMIT;
}

uint64_t fake_memory_bytes(void)
{
    return fake_setting("FAKECUDA_MEMORY_BYTES", 1ull << 30);
}

CUcontext fake_context(int device)
{
    return device >= 0 && device < device_count ? &contexts[device] : NULL;
}

CUcontext fake_current(void)
{
    return depth ? stack[depth - 1] : NULL;
}

void fake_live_add(int count)
{
    live += count;
}

int64_t fakecuda_live(void)
{
    pthread_mutex_lock(&fake_lock);
    const int64_t count = live + fake_live_ranges();
    pthread_mutex_unlock(&fake_lock);
    return count;
}

void fakecuda_break(int device, int code)
{
    pthread_mutex_lock(&fake_lock);
    if (fake_context(device))
        fake_break(fake_context(device), code);
    pthread_mutex_unlock(&fake_lock);
}

/* ---- errors in words ---- */

static const struct {
    CUresult code;
    const char *name, *text;
} errors[] = {
    { CUDA_SUCCESS, "CUDA_SUCCESS", "no error" },
    { CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument" },
    { CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory" },
    { CUDA_ERROR_NOT_INITIALIZED, "CUDA_ERROR_NOT_INITIALIZED", "initialization error" },
    { CUDA_ERROR_NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected" },
    { CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal" },
    { CUDA_ERROR_INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid" },
    { CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context" },
    { CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed" },
    { CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle" },
    { CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found" },
    { CUDA_ERROR_NOT_READY, "CUDA_ERROR_NOT_READY", "device not ready" },
    { CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS",
      "an illegal memory access was encountered" },
    { CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED",
      "peer access is already enabled" },
    { CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED",
      "part or all of the requested memory range is already mapped" },
    { CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED",
      "pointer does not correspond to a registered memory region" },
    { CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure" },
    { CUDA_ERROR_NOT_PERMITTED, "CUDA_ERROR_NOT_PERMITTED", "operation not permitted" },
    { CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported" },
    { CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
      "operation not permitted when stream is capturing" },
    { CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
      "operation failed due to a previous error during capture" },
    { CUDA_ERROR_STREAM_CAPTURE_MERGE, "CUDA_ERROR_STREAM_CAPTURE_MERGE",
      "operation would result in a merge of separate capture sequences" },
    { CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED",
      "capture was not ended in the same stream as it began" },
    { CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED",
      "capturing stream has unjoined work" },
    { CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION",
      "dependency created on uncaptured work in another stream" },
    { CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
      "operation would make the legacy stream depend on a capturing blocking stream" },
    { CUDA_ERROR_CAPTURED_EVENT, "CUDA_ERROR_CAPTURED_EVENT",
      "operation not permitted on an event last recorded in a capturing stream" },
    { CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
      "attempt to terminate a thread-local capture sequence from another thread" },
    { CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE",
      "the graph update was not performed because it included changes which violated constraints "
      "specific to instantiated graph update" },
    { CUDA_ERROR_UNKNOWN, "CUDA_ERROR_UNKNOWN", "unknown error" },
};

static int error_find(CUresult code)
{
    for (int i = 0; i < (int)(sizeof errors / sizeof *errors); i++)
        if (errors[i].code == code)
            return i;
    return -1;
}

FAKE_API CUresult cuGetErrorName(CUresult code, const char **out)
{
    const int i = error_find(code);
    *out = i < 0 ? NULL : errors[i].name;
    return i < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

FAKE_API CUresult cuGetErrorString(CUresult code, const char **out)
{
    const int i = error_find(code);
    *out = i < 0 ? NULL : errors[i].text;
    return i < 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

/* ---- devices ---- */

FAKE_API CUresult cuInit(unsigned flags)
{
    FAKE_CALL("flags=%u", flags);
    devices_count();
    if (!device_count)
        return CUDA_ERROR_NO_DEVICE;
    is_started = true;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDriverGetVersion(int *version)
{
    FAKE_CALL("%s", "");
    *version = (int)fake_setting("FAKECUDA_VERSION", 13000);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetCount(int *count)
{
    FAKE_CALL("%s", "");
    *count = device_count;
    return is_started ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}

FAKE_API CUresult cuDeviceGet(CUdevice *device, int ordinal)
{
    FAKE_CALL("ordinal=%d", ordinal);
    *device = ordinal;
    return fake_context(ordinal) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

FAKE_API CUresult cuDeviceGetName(char *name, int size, CUdevice device)
{
    FAKE_CALL("device=%d", device);
    snprintf(name, (size_t)size, "Stand-in GPU %d", device);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device)
{
    FAKE_CALL("device=%d", device);
    *bytes = fake_memory_bytes();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceGetAttribute(int *value, int attribute, CUdevice device)
{
    FAKE_CALL("attribute=%d device=%d", attribute, device);
    switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = 1024;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_PITCH:
        *value = INT32_MAX;
        break;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN:
        *value = 49152;
        break;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT:
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
        *value = 2;
        break;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
        *value = 1;
        break;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR:
        *value = (int)fake_setting("FAKECUDA_COMPUTE_MAJOR", 9);
        break;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID:
        *value = device;
        break;
    default:
        *value = 0;
    }
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    FAKE_CALL("device=%d peer=%d", device, peer);
    *can = device != peer && !fake_setting("FAKECUDA_NO_PEERS", 0);
    return CUDA_SUCCESS;
}

/* ---- contexts ---- */

FAKE_API CUresult cuDevicePrimaryCtxRetain(CUcontext *out, CUdevice device)
{
    FAKE_CALL("device=%d", device);
    CUcontext context = fake_context(device);
    if (!is_started || !context)
        return is_started ? CUDA_ERROR_INVALID_DEVICE : CUDA_ERROR_NOT_INITIALIZED;
    fake_executor_open();
    pthread_mutex_lock(&fake_lock);
    if (!context->retained++) {
        struct CUstream_st *legacy = &legacy_streams[device];
        context->device = device;
        context->stream_capacity = STREAM_CAPACITY;
        context->error = CUDA_SUCCESS;
        *legacy = (struct CUstream_st){ .context = context };
        context->legacy = legacy;
    }
    live++;
    pthread_mutex_unlock(&fake_lock);
    *out = context;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    FAKE_CALL("device=%d", device);
    CUcontext context = fake_context(device);
    pthread_mutex_lock(&fake_lock);
    CUresult result = context && context->retained ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
    if (!result) {
        live--;
        if (!--context->retained) {
            fake_break(context, CUDA_ERROR_CONTEXT_IS_DESTROYED);
            while (context->pending_count)
                pthread_cond_wait(&fake_progress, &fake_lock);
            fake_unref(context->legacy->last);
            fake_unref(context->last_legacy);
            context->legacy->last = context->last_legacy = NULL;
            memset(context->has_peer, 0, sizeof context->has_peer);
        }
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuCtxGetCurrent(CUcontext *out)
{
    FAKE_CALL("%s", "");
    *out = fake_current();
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxSetCurrent(CUcontext context)
{
    FAKE_CALL("context=%p", (void *)context);
    if (!depth && context)
        depth = 1;
    if (depth)
        stack[depth - 1] = context;
    if (!context && depth)
        depth--;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxPushCurrent_v2(CUcontext context)
{
    FAKE_CALL("context=%p", (void *)context);
    if (!context || depth == STACK_LIMIT)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&fake_lock);
    fake_admit(context);
    pthread_mutex_unlock(&fake_lock);
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxPopCurrent_v2(CUcontext *out)
{
    FAKE_CALL("%s", "");
    if (!depth)
        return CUDA_ERROR_INVALID_CONTEXT;
    *out = stack[--depth];
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuCtxGetStreamPriorityRange(int *lowest, int *highest)
{
    FAKE_CALL("%s", "");
    *lowest = 0;
    *highest = -5;
    return fake_current() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

FAKE_API CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned flags)
{
    FAKE_CALL("peer=%p flags=%u", (void *)peer, flags);
    WITH_CONTEXT(context);
    pthread_mutex_lock(&fake_lock);
    const bool had_it = context->has_peer[peer->device];
    context->has_peer[peer->device] = true;
    pthread_mutex_unlock(&fake_lock);
    return had_it ? CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED : CUDA_SUCCESS;
}
