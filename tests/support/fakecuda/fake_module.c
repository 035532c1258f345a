/* SPDX-License-Identifier: MIT */
/*
 * Modules and launches on the stand-in driver. An image is either a shared object that the stand-in
 * compiler made (fake_nvrtc.c), or PTX text whose entries name kernels compiled into this library.
 */
#include "support/fakecuda/fake.h"
#include "support/fakecuda/fake_shim.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAME_BYTES = 200 };

struct slice {
    uint32_t index, count;
};
typedef void (*native_kernel)(const struct slice *slice, void *const *arguments);

struct CUfunc_st {
    CUmodule module;
    struct CUfunc_st *next;
    int parameter_count;
    int size_bytes[PARAMETER_LIMIT];
    bool is_pointer[PARAMETER_LIMIT];
    native_kernel native;             /* portable kernels, or: */
    const struct fakecuda_shim *shim; /* CUDA source */
};

struct CUmod_st {
    CUcontext context;
    void *library;
    char *ptx; /* NULL for a shared object */
    struct CUfunc_st *functions;
};

#define WAITS "mr_waits_"

static void *symbol_of(CUmodule module, const char *prefix, const char *name)
{
    char symbol[NAME_BYTES];
    snprintf(symbol, sizeof symbol, "%s%s", prefix, name);
    return dlsym(module->library, symbol);
}

/* ---- loading ---- */

static size_t elf_size(const unsigned char *image)
{
    Elf64_Ehdr header;
    memcpy(&header, image, sizeof header);
    return header.e_shoff + (size_t)header.e_shnum * header.e_shentsize;
}

/* From a file of a name of its own: the loader takes a path it has seen for the same library. */
static void *elf_load(const unsigned char *image)
{
    char path[] = "/tmp/fakecuda-module-XXXXXX";
    const int file = mkstemp(path);
    if (file < 0)
        return NULL;
    const size_t size_bytes = elf_size(image);
    void *library = write(file, image, size_bytes) == (ssize_t)size_bytes
                        ? dlopen(path, RTLD_NOW | RTLD_LOCAL)
                        : NULL;
    close(file);
    unlink(path);
    return library;
}

/* This library itself, which holds the embedded kernels. */
static void *self_load(void)
{
    Dl_info info;
    return dladdr((void *)(uintptr_t)&fake_call, &info) ? dlopen(info.dli_fname, RTLD_NOW) : NULL;
}

static void log_write(unsigned count, const int *options, void **values, const char *text)
{
    char *buffer = NULL;
    size_t size_bytes = 0;
    for (unsigned i = 0; i < count; i++) {
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
            buffer = values[i];
        if (options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            size_bytes = (size_t)(uintptr_t)values[i];
    }
    if (buffer && size_bytes)
        snprintf(buffer, size_bytes, "%s", text);
}

FAKE_API CUresult cuModuleLoadDataEx(CUmodule *out, const void *image, unsigned option_count,
                                     int *options, void **values)
{
    FAKE_CALL("image=%p options=%u", image, option_count);
    FAKE_UNSAFE();
    WITH_CONTEXT(context);
    const bool is_elf = !memcmp(image, ELFMAG, SELFMAG);
    const bool is_ptx = !is_elf && strstr(image, ".entry ");
    if (!is_elf && !is_ptx) {
        log_write(option_count, options, values, "stand-in driver: no .entry in the PTX text");
        return strstr(image, ".version") ? CUDA_ERROR_INVALID_PTX : CUDA_ERROR_INVALID_IMAGE;
    }
    CUmodule module = calloc(1, sizeof *module);
    if (!module)
        return CUDA_ERROR_OUT_OF_MEMORY;
    module->ptx = is_ptx ? strdup(image) : NULL;
    module->library = is_ptx ? self_load() : elf_load(image);
    if (!module->library) {
        log_write(option_count, options, values, dlerror());
        free(module->ptx);
        free(module);
        return CUDA_ERROR_INVALID_IMAGE;
    }
    pthread_mutex_lock(&fake_lock);
    fake_quiesce(context);
    fake_live_add(1);
    pthread_mutex_unlock(&fake_lock);
    module->context = context;
    *out = module;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleUnload(CUmodule module)
{
    FAKE_CALL("module=%p", (void *)module);
    FAKE_UNSAFE();
    pthread_mutex_lock(&fake_lock);
    fake_quiesce(module->context);
    fake_live_add(-1);
    pthread_mutex_unlock(&fake_lock);
    for (struct CUfunc_st *function = module->functions, *next; function; function = next) {
        next = function->next;
        free(function);
    }
    dlclose(module->library);
    free(module->ptx);
    free(module);
    return CUDA_SUCCESS;
}

/* ---- functions ---- */

/* "in f32 source, value u64 count" gives a pointer and 8 bytes. False when it cannot be read. */
static bool signature_read(struct CUfunc_st *function, const char *signature)
{
    char text[2048];
    if (snprintf(text, sizeof text, "%s", signature) >= (int)sizeof text)
        return false;
    char *rest = text;
    for (char *piece; (piece = strsep(&rest, ",")); function->parameter_count++) {
        char access[16], type[16];
        if (function->parameter_count == PARAMETER_LIMIT ||
            sscanf(piece, "%15s %15s", access, type) != 2)
            return false;
        const int i = function->parameter_count;
        function->is_pointer[i] = strcmp(access, "value");
        function->size_bytes[i] = function->is_pointer[i] ? 8 : atoi(type + 1) / 8;
    }
    return true;
}

static bool shim_read(struct CUfunc_st *function)
{
    function->parameter_count = function->shim->count;
    for (int i = 0; i < function->parameter_count; i++) {
        function->size_bytes[i] = function->shim->size_bytes[i];
        function->is_pointer[i] = function->shim->is_pointer[i];
    }
    return true;
}

static bool has_entry(CUmodule module, const char *name)
{
    if (!module->ptx)
        return true;
    const size_t length = strlen(name);
    for (const char *at = module->ptx; (at = strstr(at, ".entry ")); at++) {
        const char *found = at + strlen(".entry ");
        if (!strncmp(found, name, length) && (found[length] == '(' || found[length] == '\n'))
            return true;
    }
    return false;
}

FAKE_API CUresult cuModuleGetFunction(CUfunction *out, CUmodule module, const char *name)
{
    FAKE_CALL("module=%p name=%s", (void *)module, name);
    *out = NULL;
    struct CUfunc_st *function = calloc(1, sizeof *function);
    if (!function)
        return CUDA_ERROR_OUT_OF_MEMORY;
    void *entry = symbol_of(module, "mr_entry_", name);
    memcpy(&function->native, &entry, sizeof entry);
    function->shim = symbol_of(module, "fakecuda_shim_", name);
    const char *signature = symbol_of(module, "mr_signature_", name);
    const bool is_found =
        has_entry(module, name) &&
        (function->shim ? shim_read(function)
                        : entry && signature && signature_read(function, signature));
    if (!is_found) {
        free(function);
        return CUDA_ERROR_NOT_FOUND;
    }
    function->module = module;
    pthread_mutex_lock(&fake_lock);
    function->next = module->functions;
    module->functions = function;
    pthread_mutex_unlock(&fake_lock);
    *out = function;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuModuleGetGlobal_v2(CUdeviceptr *out, size_t *size_bytes, CUmodule module,
                                       const char *name)
{
    FAKE_CALL("module=%p name=%s", (void *)module, name);
    WITH_CONTEXT(context);
    /* Code for this GPU begins by waiting; the CPU's, which stands in for it, has no mark of that. */
    const bool asks_wait = !module->ptx && !strncmp(name, WAITS, strlen(WAITS));
    void *address = asks_wait ? symbol_of(module, "mr_entry_", name + strlen(WAITS))
                              : dlsym(module->library, name);
    Dl_info info;
    const Elf64_Sym *symbol = NULL;
    if (!address || !dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT) || !symbol)
        return CUDA_ERROR_NOT_FOUND;
    const CUdeviceptr place = (CUdeviceptr)(uintptr_t)address | DEVICE_BIT;
    if (out)
        *out = place;
    if (size_bytes)
        *size_bytes = symbol->st_size;
    pthread_mutex_lock(&fake_lock);
    fake_range_of_module(place, symbol->st_size, context);
    pthread_mutex_unlock(&fake_lock);
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuFuncGetAttribute(int *value, int attribute, CUfunction function)
{
    FAKE_CALL("attribute=%d function=%p", attribute, (void *)function);
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024 : 0;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value)
{
    FAKE_CALL("function=%p attribute=%d value=%d", (void *)function, attribute, value);
    return value < 0 || value > 49152 ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

FAKE_API CUresult cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function,
                                                   CUoccupancyB2DSize shared_of,
                                                   size_t shared_bytes, int limit)
{
    FAKE_CALL("function=%p shared=%zu limit=%d", (void *)function, shared_bytes, limit);
    (void)shared_of;
    *grid = 4;
    *block = limit && limit < 256 ? limit : 256;
    return CUDA_SUCCESS;
}

FAKE_API CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *count, CUfunction function,
                                                              int block, size_t shared_bytes)
{
    FAKE_CALL("function=%p block=%d shared=%zu", (void *)function, block, shared_bytes);
    *count = block > 0 ? 2048 / block : 0;
    return CUDA_SUCCESS;
}

/* ---- launches ---- */

static bool has_good_shape(const unsigned grid[3], const unsigned block[3])
{
    return grid[0] && grid[1] && grid[2] && block[0] && block[1] && block[2] &&
           (uint64_t)block[0] * block[1] * block[2] <= 1024 && grid[1] <= 65535 && grid[2] <= 65535;
}

CUresult fake_launch_fill(struct operation *operation, CUfunction kernel, const unsigned grid[3],
                          const unsigned block[3], unsigned shared_bytes, void **values)
{
    if (!has_good_shape(grid, block) || shared_bytes > 49152)
        return CUDA_ERROR_INVALID_VALUE;
    operation->kernel = kernel;
    memcpy(operation->grid, grid, sizeof operation->grid);
    memcpy(operation->block, block, sizeof operation->block);
    for (int i = 0; i < kernel->parameter_count; i++)
        memcpy(&operation->storage[i], values[i], (size_t)kernel->size_bytes[i]);
    return CUDA_SUCCESS;
}

CUcontext fake_launch_context(CUfunction kernel)
{
    return kernel->module->context;
}

static CUresult launch(CUfunction kernel, const unsigned grid[3], const unsigned block[3],
                       unsigned shared_bytes, CUstream handle, void **values)
{
    pthread_mutex_lock(&fake_lock);
    CUresult result;
    struct CUstream_st *stream = fake_stream_to_fill(handle, &result);
    if (!result) {
        struct operation *operation = fake_operation(OPERATION_LAUNCH, stream->context);
        result = fake_launch_fill(operation, kernel, grid, block, shared_bytes, values);
        if (!result)
            fake_submit(stream, operation);
        else
            fake_unref(operation);
    }
    pthread_mutex_unlock(&fake_lock);
    return result;
}

FAKE_API CUresult cuLaunchKernel(CUfunction kernel, unsigned grid_x, unsigned grid_y,
                                 unsigned grid_z, unsigned block_x, unsigned block_y,
                                 unsigned block_z, unsigned shared_bytes, CUstream handle,
                                 void **values, void **extra)
{
    FAKE_CALL("function=%p grid=%ux%ux%u block=%ux%ux%u shared=%u stream=%p", (void *)kernel,
              grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, (void *)handle);
    const unsigned grid[3] = { grid_x, grid_y, grid_z }, block[3] = { block_x, block_y, block_z };
    return extra ? CUDA_ERROR_INVALID_VALUE
                 : launch(kernel, grid, block, shared_bytes, handle, values);
}

/* A grid that begins before the one before it has ended has to wait for that in its code. Here both run
 * one after the other; what can be told is whether there is a wait. */
static bool has_wait(const struct CUmod_st *module)
{
    return !module->ptx || strstr(module->ptx, "\tgriddepcontrol.wait") ||
           strstr(module->ptx, "    griddepcontrol.wait");
}

FAKE_API CUresult cuLaunchKernelEx(const CUlaunchConfig *shape, CUfunction kernel, void **values,
                                   void **extra)
{
    const unsigned grid[3] = { shape->gridDimX, shape->gridDimY, shape->gridDimZ };
    const unsigned block[3] = { shape->blockDimX, shape->blockDimY, shape->blockDimZ };
    bool is_dependent = false;
    for (unsigned i = 0; i < shape->numAttrs; i++)
        is_dependent =
            shape->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION &&
            shape->attrs[i].value.programmaticStreamSerializationAllowed;
    FAKE_CALL("function=%p grid=%ux%ux%u block=%ux%ux%u shared=%u stream=%p dependent=%d",
              (void *)kernel, grid[0], grid[1], grid[2], block[0], block[1], block[2],
              shape->sharedMemBytes, (void *)shape->hStream, is_dependent);
    if (extra || (is_dependent && !has_wait(kernel->module)))
        return CUDA_ERROR_INVALID_VALUE;
    return launch(kernel, grid, block, shape->sharedMemBytes, shape->hStream, values);
}

CUresult fake_launch_run(struct operation *operation)
{
    const struct CUfunc_st *kernel = operation->kernel;
    void *arguments[PARAMETER_LIMIT];
    for (int i = 0; i < kernel->parameter_count; i++) {
        arguments[i] = &operation->storage[i];
        if (!kernel->is_pointer[i] || !operation->storage[i])
            continue;
        if (!fake_is_reachable(operation->storage[i]))
            return CUDA_ERROR_ILLEGAL_ADDRESS;
        operation->storage[i] &= ~DEVICE_BIT;
        if (kernel->native)
            arguments[i] = (void *)(uintptr_t)operation->storage[i];
    }
    if (kernel->native)
        kernel->native(&(struct slice){ 0, 1 }, arguments);
    else
        kernel->shim->run(arguments, operation->grid, operation->block);
    return CUDA_SUCCESS;
}
