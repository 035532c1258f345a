/* SPDX-License-Identifier: MIT */
/*
 * Functions of loaded code (cuda_image.c), and launches.
 *
 * A grid whose code begins by waiting for the grid before it is launched as a programmatic dependent: it
 * is set up while the other ends, which saves a fifth of a microsecond of the device for each, and some of
 * the host. The wait ends when all of the other grid has ended and what it wrote can be seen, so the
 * order is the stream's.
 */
#include "backend/cuda/cuda_graph.h"

#include "backend/cuda/cuda_image.h"
#include "base/alloc.h"

#include <stdio.h>
#include <string.h>

enum {
    BLOCK_THREADS = 256,         /* auto; whole warps, and every GPU takes it */
    BLOCKS_PER_PROCESSOR = 32,   /* auto: more only come and go; loops stride over the rest */
    FREE_SHARED_BYTES = 48 << 10 /* dynamic shared memory that needs no asking */
};

struct cuda_function {
    struct mr_function base;
    struct cuda_device *device;
    CUmodule module;
    CUfunction function;
    bool is_waiting;  /* begins by waiting for the grid before it */
    char *signature;  /* what portable source carries; NULL counts as "" */
    bool is_portable; /* shaped by launch->shape.count */
    bool is_grouped;  /* which counts blocks */
    pthread_mutex_t shared_lock;
    uint32_t shared_bytes; /* dynamic shared memory asked for so far; under shared_lock */
};

static struct cuda_function *function_from(struct mr_function *base)
{
    assert(base->ops == &mr__cuda_backend);
    return (struct cuda_function *)base;
}

/* ---- symbols ---- */

/* Copies in a stream of its own: a plain copy would join the legacy default stream. */
static CUresult read_device(const struct cuda_device *device, void *target, CUdeviceptr source,
                            size_t size_bytes)
{
    const struct cuda_symbols *cu = device->cu;
    CUstream stream;
    CUresult result = cu->cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, 0);
    if (result)
        return result;
    result = cu->cuMemcpyAsync((CUdeviceptr)(uintptr_t)target, source, size_bytes, stream);
    if (!result)
        result = cu->cuStreamSynchronize(stream);
    cu->cuStreamDestroy(stream);
    return result;
}

static mr_status read_signature(struct cuda_function *function, const char *name)
{
    const struct cuda_symbols *cu = function->device->cu;
    char symbol[320];
    CUdeviceptr address;
    size_t size_bytes;
    snprintf(symbol, sizeof symbol, "mr_signature_%s", name);
    CUresult result = cu->cuModuleGetGlobal(&address, &size_bytes, function->module, symbol);
    if (result == CUDA_ERROR_NOT_FOUND)
        return MR_OK;
    if (!result) {
        function->signature = mr__zalloc(size_bytes + 1);
        if (!function->signature)
            return mr_error_set(MR_E_NO_MEMORY, "out of memory");
        result = read_device(function->device, function->signature, address, size_bytes);
    }
    return mr__cuda_error(cu, result, "reading the signature");
}

/* Portable source marks what it brings: "mr_groups_", "mr_waits_". */
static bool has_mark(const struct cuda_function *function, const char *mark, const char *name)
{
    char symbol[320];
    CUdeviceptr address;
    size_t size_bytes;
    snprintf(symbol, sizeof symbol, "%s%s", mark, name);
    return !function->device->cu->cuModuleGetGlobal(&address, &size_bytes, function->module,
                                                    symbol);
}

static mr_status function_bind(struct cuda_function *function,
                               const struct mr_function_source *source)
{
    const struct cuda_symbols *cu = function->device->cu;
    const CUresult result =
        cu->cuModuleGetFunction(&function->function, function->module, source->name);
    if (result == CUDA_ERROR_NOT_FOUND)
        return mr_error_set(MR_E_INVALID,
                            source->language == MR_KERNEL_PORTABLE
                                ? "%s has no MR_KERNEL(%s, ...)"
                                : "%s has no entry '%s' (a __global__ function needs extern \"C\")",
                            source->path, source->name);
    if (result)
        return mr__cuda_error(cu, result, "finding the entry");
    if (!function->is_portable)
        return MR_OK;
    function->is_grouped = has_mark(function, "mr_groups_", source->name);
    function->is_waiting = function->is_waiting || has_mark(function, "mr_waits_", source->name);
    /* An embedded kernel's signature is known; it came with a function for the CPU. */
    return source->native ? MR_OK : read_signature(function, source->name);
}

/* ---- entries ---- */

/* With the device's context current. */
static mr_status function_build(struct cuda_function *function,
                                const struct mr_function_source *source)
{
    mr_status status =
        mr__cuda_image_load(function->device, source, &function->module, &function->is_waiting);
    return status ? status : function_bind(function, source);
}

mr_status mr__cuda_function_create(struct mr_backend_device *base,
                                   const struct mr_function_source *source,
                                   struct mr_function **out)
{
    *out = NULL;
    struct cuda_device *device = cuda_device_from(base);
    if (source->language == MR_KERNEL_NATIVE)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "a native function runs on the CPU only; give a GPU portable source");
    struct cuda_function *function = mr__zalloc(sizeof *function);
    if (!function)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory");
    function->base.ops = &mr__cuda_backend;
    function->device = device;
    function->is_portable = source->language == MR_KERNEL_PORTABLE;
    pthread_mutex_init(&function->shared_lock, NULL);

    bool is_pushed;
    const CUresult result = mr__cuda_enter(device, &is_pushed);
    mr_status status = result ? mr__cuda_error(device->cu, result, "entering the device's context")
                              : function_build(function, source);
    mr__cuda_leave(device, is_pushed);
    if (status) {
        mr__cuda_function_destroy(&function->base);
        return status;
    }
    *out = &function->base;
    return MR_OK;
}

void mr__cuda_function_destroy(struct mr_function *base)
{
    struct cuda_function *function = function_from(base);
    if (function->module) {
        bool is_pushed;
        if (!mr__cuda_enter(function->device, &is_pushed))
            function->device->cu->cuModuleUnload(function->module);
        mr__cuda_leave(function->device, is_pushed);
    }
    pthread_mutex_destroy(&function->shared_lock);
    mr__free(function->signature);
    mr__free(function);
}

const char *mr__cuda_function_signature(struct mr_function *base)
{
    const struct cuda_function *function = function_from(base);
    return function->signature ? function->signature : "";
}

/* ---- launches ---- */

static uint32_t or_one(uint32_t value)
{
    return value ? value : 1;
}

/* Blocks for `count` iterations or groups. */
static uint32_t auto_grid(const struct cuda_function *function, uint64_t count, uint32_t block)
{
    const uint64_t limit =
        (uint64_t)function->device->properties.multiprocessor_count * BLOCKS_PER_PROCESSOR;
    const uint64_t wanted = function->is_grouped ? count : (count - 1) / block + 1;
    return (uint32_t)(wanted < limit ? wanted : limit);
}

/* More dynamic shared memory than is free must be asked for once. */
static CUresult allow_shared(struct cuda_function *function, uint32_t shared_bytes)
{
    CUresult result = CUDA_SUCCESS;
    pthread_mutex_lock(&function->shared_lock);
    if (shared_bytes > function->shared_bytes) {
        result = function->device->cu->cuFuncSetAttribute(
            function->function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)shared_bytes);
        if (!result)
            function->shared_bytes = shared_bytes;
    }
    pthread_mutex_unlock(&function->shared_lock);
    return result;
}

struct shape {
    uint32_t grid[3], block[3], shared_bytes;
};

static mr_status shape_of(const struct cuda_function *function, const mr_launch *launch,
                          struct shape *out)
{
    const uint32_t block = launch->block[0] ? launch->block[0] : BLOCK_THREADS;
    if (function->is_grouped && block % 32)
        return mr_error_set(MR_E_INVALID,
                            "a group kernel takes blocks of whole warps, and %u threads are not a "
                            "multiple of 32",
                            block);
    *out = (struct shape){
        .grid = { launch->grid[0] ? launch->grid[0] : auto_grid(function, launch->count, block),
                  or_one(launch->grid[1]), or_one(launch->grid[2]) },
        .block = { block, or_one(launch->block[1]), or_one(launch->block[2]) },
        .shared_bytes = launch->shared_bytes,
    };
    return MR_OK;
}

static mr_status refuse_launch(const struct cuda_device *device, CUresult result,
                               const struct shape *shape)
{
    return mr__cuda_error(device->cu, result,
                          "launching %u x %u x %u blocks of %u x %u x %u threads with %u bytes of "
                          "shared memory",
                          shape->grid[0], shape->grid[1], shape->grid[2], shape->block[0],
                          shape->block[1], shape->block[2], shape->shared_bytes);
}

static CUresult launch(struct cuda_queue *queue, const struct cuda_function *function,
                       const struct shape *shape, void **values)
{
    const struct cuda_symbols *cu = queue->device->cu;
    /* After anything else there is nothing to overlap, and the attribute costs a little. */
    if (!function->is_waiting ||
        !atomic_load_explicit(&queue->ends_in_launch, memory_order_relaxed))
        return cu->cuLaunchKernel(function->function, shape->grid[0], shape->grid[1],
                                  shape->grid[2], shape->block[0], shape->block[1], shape->block[2],
                                  shape->shared_bytes, queue->stream, values, NULL);
    CUlaunchAttribute dependent = {
        .id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        .value.programmaticStreamSerializationAllowed = 1,
    };
    const CUlaunchConfig config = {
        .gridDimX = shape->grid[0],
        .gridDimY = shape->grid[1],
        .gridDimZ = shape->grid[2],
        .blockDimX = shape->block[0],
        .blockDimY = shape->block[1],
        .blockDimZ = shape->block[2],
        .sharedMemBytes = shape->shared_bytes,
        .hStream = queue->stream,
        .attrs = &dependent,
        .numAttrs = 1,
    };
    return cu->cuLaunchKernelEx(&config, function->function, values, NULL);
}

static CUresult launch_in_context(struct cuda_queue *queue, struct cuda_function *function,
                                  const struct shape *shape, void **values)
{
    bool is_pushed;
    CUresult result = mr__cuda_bind(queue->device, &is_pushed);
    if (!result && shape->shared_bytes > FREE_SHARED_BYTES)
        result = allow_shared(function, shape->shared_bytes);
    if (!result)
        result = launch(queue, function, shape, values);
    mr__cuda_unbind(queue->device, is_pushed);
    return result;
}

mr_status mr__cuda_launch(struct mr_queue *base, struct mr_function *base_function,
                          const struct mr_function_launch *launch)
{
    struct cuda_queue *queue = cuda_queue_from(base);
    struct cuda_function *function = function_from(base_function);
    struct shape shape = { 0 };
    const mr_status status = shape_of(function, &launch->shape, &shape);
    if (status)
        return status;
    const CUresult result =
        launch_in_context(queue, function, &shape, (void **)(uintptr_t)launch->values);
    if (result)
        return refuse_launch(queue->device, result, &shape);
    mr__cuda_queue_submitted(queue);
    atomic_store_explicit(&queue->ends_in_launch, true, memory_order_relaxed);
    return MR_OK;
}

mr_status mr__cuda_kernel_node(struct mr_function *base, const struct mr_function_launch *launch,
                               CUDA_KERNEL_NODE_PARAMS *out)
{
    struct cuda_function *function = function_from(base);
    struct shape shape = { 0 };
    const mr_status status = shape_of(function, &launch->shape, &shape);
    if (status)
        return status;
    if (shape.shared_bytes > FREE_SHARED_BYTES) {
        const CUresult result = allow_shared(function, shape.shared_bytes);
        if (result)
            return refuse_launch(function->device, result, &shape);
    }
    *out = (CUDA_KERNEL_NODE_PARAMS){
        .func = function->function,
        .gridDimX = shape.grid[0],
        .gridDimY = shape.grid[1],
        .gridDimZ = shape.grid[2],
        .blockDimX = shape.block[0],
        .blockDimY = shape.block[1],
        .blockDimZ = shape.block[2],
        .sharedMemBytes = shape.shared_bytes,
        .kernelParams = (void **)(uintptr_t)launch->values,
    };
    return MR_OK;
}
