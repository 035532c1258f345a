/* SPDX-License-Identifier: MIT */
/*
 * Modules, functions and launches. Source goes through NVRTC (cuda_nvrtc.c); embedded kernels come
 * as PTX, which the driver compiles, and are compiled from source only where it refuses that.
 */
#include "backend/cuda/cuda_graph.h"

#include "backend/cuda/cuda_nvrtc.h"
#include "base/alloc.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>

enum {
    BLOCK_THREADS = 256,          /* auto; whole warps, and every GPU takes it */
    BLOCKS_PER_PROCESSOR = 32,    /* auto: more only come and go; loops stride over the rest */
    FREE_SHARED_BYTES = 48 << 10, /* dynamic shared memory that needs no asking */
    LOG_BYTES = 4096
};

struct cuda_function {
    struct mr_function base;
    struct cuda_device *device;
    CUmodule module;
    CUfunction function;
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

/* ---- images ---- */

/* Text may bring its zero along; another follows in any case. */
static bool is_text(const unsigned char *image, size_t size_bytes)
{
    return size_bytes - strlen((const char *)image) <= 1;
}

/* The driver trusts sizes that the image itself states; we know how many bytes there are. */
static mr_status check_image(const unsigned char *image, size_t size_bytes)
{
    uint64_t stated = 0;
    if (size_bytes >= sizeof(Elf64_Ehdr) && memcmp(image, ELFMAG, SELFMAG) == 0) {
        Elf64_Ehdr head;
        memcpy(&head, image, sizeof head);
        stated = head.e_shoff + (uint64_t)head.e_shnum * head.e_shentsize;
        if (head.e_shoff > size_bytes)
            stated = UINT64_MAX;
    } else if (size_bytes >= 16 && memcmp(image, "\x50\xed\x55\xba", 4) == 0) {
        uint16_t head_bytes;
        memcpy(&head_bytes, image + 6, sizeof head_bytes);
        memcpy(&stated, image + 8, sizeof stated);
        stated = stated > size_bytes ? UINT64_MAX : stated + head_bytes;
    } else if (!is_text(image, size_bytes) || !strstr((const char *)image, ".version")) {
        return mr_error_set(MR_E_FORMAT, "the image is neither PTX, cubin nor fatbin");
    }
    if (stated > size_bytes)
        return mr_error_set(MR_E_FORMAT, "the image is cut short: it has %zu bytes and states more",
                            size_bytes);
    return MR_OK;
}

/* The status for a driver's refusal of an image, with the compiler's words where there are any. */
static mr_status refuse_image(const struct cuda_device *device, CUresult result, const char *log)
{
    const char *error = strstr(log, "error");
    while (error && error > log && error[-1] != '\n')
        error--;
    if (result == CUDA_ERROR_INVALID_PTX && error)
        return mr_error_set(MR_E_COMPILE, "%.*s", (int)strcspn(error, "\n"), error);
    if (result == CUDA_ERROR_NO_BINARY_FOR_GPU)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "the image has no code for compute capability %u.%u of this GPU",
                            device->properties.compute_major, device->properties.compute_minor);
    if (result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "the PTX is of a newer version than this driver knows; update the "
                            "driver, or make the PTX with an older compiler");
    if (result == CUDA_ERROR_INVALID_PTX || result == CUDA_ERROR_INVALID_IMAGE)
        return mr_error_set(MR_E_FORMAT, "the driver takes the image for none of its own");
    return mr__cuda_error(device->cu, result, "loading the code");
}

/* Refusals after which compiling the source is worth a try. */
static bool is_refusal(CUresult result)
{
    return result == CUDA_ERROR_INVALID_PTX || result == CUDA_ERROR_INVALID_IMAGE ||
           result == CUDA_ERROR_UNSUPPORTED_PTX_VERSION || result == CUDA_ERROR_NO_BINARY_FOR_GPU ||
           result == CUDA_ERROR_JIT_COMPILER_NOT_FOUND;
}

static CUresult load_image(struct cuda_function *function, const void *image, char log[LOG_BYTES])
{
    int options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
    void *values[] = { log, (void *)(uintptr_t)LOG_BYTES };
    *log = '\0';
    return function->device->cu->cuModuleLoadDataEx(&function->module, image, 2, options, values);
}

static mr_status compile_and_load(struct cuda_function *function,
                                  const struct mr_function_source *source)
{
    const struct cuda_device *device = function->device;
    const struct cuda_target target = { .compute_major = device->properties.compute_major,
                                        .compute_minor = device->properties.compute_minor,
                                        .driver_version = device->backend->driver_version };
    void *image;
    size_t image_bytes;
    mr_status status = mr__cuda_nvrtc_compile(&target, source, &image, &image_bytes);
    if (status)
        return status;
    char log[LOG_BYTES];
    const CUresult result = load_image(function, image, log);
    mr__free(image);
    return result ? refuse_image(device, result, log) : MR_OK;
}

static mr_status function_load(struct cuda_function *function,
                               const struct mr_function_source *source)
{
    char log[LOG_BYTES];
    if (source->language == MR_KERNEL_IMAGE) {
        const mr_status status =
            check_image((const unsigned char *)source->text, source->text_bytes);
        if (status)
            return status;
        const CUresult result = load_image(function, source->text, log);
        return result ? refuse_image(function->device, result, log) : MR_OK;
    }
    if (source->image) {
        const CUresult result = load_image(function, source->image, log);
        if (!is_refusal(result))
            return result ? refuse_image(function->device, result, log) : MR_OK;
    }
    return compile_and_load(function, source);
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

static bool has_groups(const struct cuda_function *function, const char *name)
{
    char symbol[320];
    CUdeviceptr address;
    size_t size_bytes;
    snprintf(symbol, sizeof symbol, "mr_groups_%s", name);
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
    function->is_grouped = has_groups(function, source->name);
    /* An embedded kernel's signature is known; it came with a function for the CPU. */
    return source->native ? MR_OK : read_signature(function, source->name);
}

/* ---- entries ---- */

/* With the device's context current. */
static mr_status function_build(struct cuda_function *function,
                                const struct mr_function_source *source)
{
    mr_status status = function_load(function, source);
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

static CUresult launch_in_context(struct cuda_queue *queue, struct cuda_function *function,
                                  const struct shape *shape, void **values)
{
    bool is_pushed;
    CUresult result = mr__cuda_bind(queue->device, &is_pushed);
    if (!result && shape->shared_bytes > FREE_SHARED_BYTES)
        result = allow_shared(function, shape->shared_bytes);
    if (!result)
        result = queue->device->cu->cuLaunchKernel(
            function->function, shape->grid[0], shape->grid[1], shape->grid[2], shape->block[0],
            shape->block[1], shape->block[2], shape->shared_bytes, queue->stream, values, NULL);
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
