/* SPDX-License-Identifier: MIT */
/*
 * Functions that workers call: the caller's own, those embedded in the library, and portable source
 * made into a shared object (cpu_compiler.c) and loaded.
 */
#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/cpu_compiler.h"
#include "base/alloc.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- loading ---- */

static mr_status write_code(const char *path, const void *code, size_t code_bytes)
{
    FILE *file = fopen(path, "wxe");
    const bool is_written = file && fwrite(code, 1, code_bytes, file) == code_bytes;
    if (file && fclose(file) == 0 && is_written)
        return MR_OK;
    return mr_error_set(MR_E_IO, "%s cannot be written: %s", path, strerror(errno));
}

static mr_status load_failed(const char *words)
{
    /* What the loader says of a folder mounted without leave to run programs. */
    if (strstr(words, "failed to map segment"))
        return mr_error_set(MR_E_IO, "%s; set TMPDIR to a folder where programs may run", words);
    const char *colon = strstr(words, ": ");
    return mr_error_set(MR_E_COMPILE, "the compiled code does not load: %s",
                        colon ? colon + 2 : words);
}

/* The loader wants a file; it may go once it is loaded. */
static mr_status load_from(const char *folder, const void *code, size_t code_bytes, void **library)
{
    char *path = mr__format_text("%s/loaded.so", folder);
    if (!path)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory while loading");
    mr_status status = write_code(path, code, code_bytes);
    if (!status) {
        *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!*library)
            status = load_failed(dlerror());
    }
    mr__free(path);
    return status;
}

static mr_status load(const void *code, size_t code_bytes, void **library)
{
    char *folder;
    mr_status status = mr__cpu_folder_create(&folder);
    if (status)
        return status;
    status = load_from(folder, code, code_bytes, library);
    mr__cpu_folder_destroy(folder);
    return status;
}

/* ---- portable source ---- */

/* The symbol that MR_KERNEL(name, ...) left, by its prefix; NULL when there is none. */
static void *find_symbol(void *library, const char *prefix, const char *name)
{
    char symbol[320];
    snprintf(symbol, sizeof symbol, "%s%s", prefix, name);
    return dlsym(library, symbol);
}

static mr_status function_bind(struct cpu_function *function,
                               const struct mr_function_source *source)
{
    void *entry = find_symbol(function->library, "mr_entry_", source->name);
    const char *signature = find_symbol(function->library, "mr_signature_", source->name);
    if (!entry || !signature)
        return mr_error_set(MR_E_INVALID, "%s has no MR_KERNEL(%s, ...)", source->path,
                            source->name);
    memcpy(&function->native, &entry, sizeof entry);
    function->signature = mr__copy_text(signature);
    return function->signature ? MR_OK : mr_error_set(MR_E_NO_MEMORY, "out of memory");
}

static mr_status function_compile(struct cpu_function *function,
                                  const struct mr_function_source *source)
{
    void *code;
    size_t code_bytes;
    mr_status status = mr__cpu_compile(source, &code, &code_bytes);
    if (!status)
        status = load(code, code_bytes, &function->library);
    if (!status)
        status = function_bind(function, source);
    mr__free(code);
    return status;
}

/* ---- entries ---- */

mr_status mr__cpu_function_create(struct mr_backend_device *device,
                                  const struct mr_function_source *source, struct mr_function **out)
{
    (void)device;
    *out = NULL;
    if (source->language == MR_KERNEL_CUDA || source->language == MR_KERNEL_IMAGE)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "%s runs on a GPU only; give the CPU portable source or a native "
                            "function",
                            source->language == MR_KERNEL_CUDA ? "CUDA source" : "an image");

    struct cpu_function *function = mr__zalloc(sizeof *function);
    if (!function)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory");
    function->base.ops = &mr__cpu_backend;
    function->native = source->native;
    if (!function->native) {
        const mr_status status = function_compile(function, source);
        if (status) {
            mr__cpu_function_destroy(&function->base);
            return status;
        }
    }
    *out = &function->base;
    return MR_OK;
}

void mr__cpu_function_destroy(struct mr_function *base)
{
    struct cpu_function *function = cpu_function_from(base);
    if (function->library)
        dlclose(function->library);
    mr__free(function->signature);
    mr__free(function);
}

const char *mr__cpu_function_signature(struct mr_function *base)
{
    const struct cpu_function *function = cpu_function_from(base);
    return function->signature ? function->signature : "";
}
