/* SPDX-License-Identifier: MIT */
/*
 * Kernels: where they come from, and their signatures. Launching is in kernel_launch.c.
 */
#include "core/kernel.h"

#include "base/alloc.h"
#include "base/file.h"
#include "core/embedded.h"
#include "core/signature.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SOURCE_BYTES_LIMIT = 256 << 20 };

/* ---- options ---- */

/* Names end up in symbols and messages. */
static bool is_identifier(const char *name)
{
    const size_t length =
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return length > 0 && length < 256 && !name[length] && !(*name >= '0' && *name <= '9');
}

static mr_status check_source(const mr_kernel_options *options)
{
    const char *name = options->name;
    if (options->language == MR_KERNEL_NATIVE) {
        if (!options->function)
            return mr_error_set(MR_E_INVALID, "kernel '%s': a native kernel needs a function",
                                name);
        if (options->path || options->source)
            return mr_error_set(MR_E_INVALID, "kernel '%s': a native kernel has no source", name);
        return MR_OK;
    }
    if (!options->path == !options->source)
        return mr_error_set(MR_E_INVALID, "kernel '%s': give either a path or a source", name);
    if (options->function)
        return mr_error_set(MR_E_INVALID, "kernel '%s': a function goes with MR_KERNEL_NATIVE only",
                            name);
    return MR_OK;
}

static mr_status check_options(const mr_device *device, const mr_kernel_options *options)
{
    if (!device || !options)
        return mr_error_set(MR_E_INVALID, "mr_kernel_create: the device or the options are NULL");
    if (!options->name || !is_identifier(options->name))
        return mr_error_set(MR_E_INVALID,
                            "mr_kernel_create: the name '%.60s' is not one of a function",
                            options->name ? options->name : "");
    if (options->language < MR_KERNEL_PORTABLE || options->language > MR_KERNEL_NATIVE)
        return mr_error_set(MR_E_INVALID, "kernel '%s': %d is not a language", options->name,
                            (int)options->language);
    if (options->language != MR_KERNEL_PORTABLE && !options->signature)
        return mr_error_set(MR_E_INVALID,
                            "kernel '%s': only portable source carries its signature; give one",
                            options->name);
    return check_source(options);
}

/* ---- files ---- */

static mr_status read_open_file(int file, const char *path, char **text, size_t *size_bytes)
{
    struct stat status;
    if (fstat(file, &status))
        return mr_error_set(MR_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode))
        return mr_error_set(MR_E_IO, "%s: is not a file", path);
    if (status.st_size > SOURCE_BYTES_LIMIT)
        return mr_error_set(MR_E_IO, "%s: has %lld bytes; a kernel may have %d", path,
                            (long long)status.st_size, SOURCE_BYTES_LIMIT);

    *size_bytes = (size_t)status.st_size;
    *text = mr__zalloc(*size_bytes + 1);
    if (!*text)
        return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory for %zu bytes", path, *size_bytes);
    size_t got;
    if (!mr__file_read(file, *text, *size_bytes, &got))
        return mr_error_set(MR_E_IO, "%s: cannot be read: %s", path, strerror(errno));
    if (got < *size_bytes)
        return mr_error_set(MR_E_IO, "%s: cannot be read: it became shorter", path);
    return MR_OK;
}

/* The file's bytes and a zero, in `*text`, which the caller frees also on failure. */
static mr_status read_file(const char *path, char **text, size_t *size_bytes)
{
    /* Not to hang on a pipe without a writer. */
    const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const mr_status status = read_open_file(file, path, text, size_bytes);
    close(file);
    return status;
}

/* What is in memory, and a zero behind it. */
static mr_status copy_source(const mr_kernel_options *options, char **text)
{
    *text = mr__zalloc(options->source_bytes + 1);
    if (!*text)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory for %zu bytes of source",
                            options->source_bytes);
    memcpy(*text, options->source, options->source_bytes);
    return MR_OK;
}

static mr_status load_source(const mr_kernel_options *options, char **text,
                             struct mr_function_source *source)
{
    mr_status status = MR_OK;
    size_t size_bytes = 0;
    if (options->path)
        status = read_file(options->path, text, &size_bytes);
    else if (options->source && options->source_bytes)
        status = copy_source(options, text);
    if (status)
        return status;

    source->text = *text ? *text : options->source;
    source->text_bytes = options->source_bytes;
    if (options->path)
        source->text_bytes = size_bytes;
    else if (source->text && !options->source_bytes)
        source->text_bytes = strlen(source->text);

    if (source->text && options->language != MR_KERNEL_IMAGE &&
        strlen(source->text) != source->text_bytes)
        return mr_error_set(MR_E_FORMAT, "%s: is not text: byte %zu is zero", source->path,
                            strlen(source->text));
    return MR_OK;
}

/* ---- create and destroy ---- */

/* The function from its source, and the signature from the function if it carries one. */
static mr_status kernel_build(mr_kernel *kernel, const struct mr_function_source *source,
                              const char *signature)
{
    const struct mr_backend_ops *ops = kernel->device->ops;
    mr_status status =
        ops->function_create(kernel->device->backend_device, source, &kernel->function);
    if (status)
        return mr_error_prefix(status, "kernel '%s': ", kernel->name);

    const char *carried = ops->function_signature(kernel->function);
    if (!*carried && !signature)
        return mr_error_set(MR_E_SIGNATURE, "kernel '%s': its source carries no signature",
                            kernel->name);
    status = mr_signature_parse(*carried ? carried : signature, kernel->parameters,
                                &kernel->parameter_count);
    if (status)
        return mr_error_prefix(status, "kernel '%s': ", kernel->name);
    if (!*carried || !signature)
        return MR_OK;

    mr_parameter given[MR_PARAMETER_LIMIT];
    size_t given_count;
    status = mr_signature_parse(signature, given, &given_count);
    if (status)
        return mr_error_prefix(status, "kernel '%s': ", kernel->name);
    return mr__signature_compare(kernel->name, kernel->parameters, kernel->parameter_count, given,
                                 given_count);
}

static size_t find_count(const mr_kernel *kernel)
{
    for (size_t i = 0; i < kernel->parameter_count; i++) {
        const mr_parameter *parameter = &kernel->parameters[i];
        if (parameter->access == MR_ACCESS_VALUE && parameter->type == MR_TYPE_U64 &&
            strcmp(parameter->name, "count") == 0)
            return i;
    }
    return MR_PARAMETER_LIMIT;
}

static mr_status kernel_create(mr_device *device, const struct mr_function_source *source,
                               const char *signature, bool is_element_wise, mr_kernel **out)
{
    mr_kernel *kernel = mr__zalloc(sizeof *kernel);
    if (!kernel)
        return mr_error_set(MR_E_NO_MEMORY, "kernel '%s': out of memory", source->name);
    kernel->device = device;
    kernel->language = source->language;
    mr__device_add_child(device);

    mr_status status = MR_E_NO_MEMORY;
    kernel->name = mr__copy_text(source->name);
    if (!kernel->name) {
        mr_error_set(status, "kernel '%s': out of memory", source->name);
        goto fail;
    }
    status = kernel_build(kernel, source, signature);
    if (status)
        goto fail;
    kernel->count_index = find_count(kernel);
    kernel->is_element_wise = is_element_wise;

    *out = kernel;
    return MR_OK;

fail:
    mr_kernel_destroy(kernel);
    return status;
}

mr_status mr_kernel_create(mr_device *device, const mr_kernel_options *options, mr_kernel **out)
{
    *out = NULL;
    mr_status status = check_options(device, options);
    if (status)
        return status;
    mr_parameter parameters[MR_PARAMETER_LIMIT];
    size_t count;
    if (options->signature) {
        status = mr_signature_parse(options->signature, parameters, &count);
        if (status)
            return mr_error_prefix(status, "kernel '%s': ", options->name);
    }

    struct mr_function_source source = {
        .language = options->language,
        .name = options->name,
        .path = options->path ? options->path : "<memory>",
        .flags = options->flags,
        .native = options->function,
        .is_dependent_launch = options->is_dependent_launch,
    };
    char *text = NULL;
    status = load_source(options, &text, &source);
    if (status) {
        mr_error_prefix(status, "kernel '%s': ", options->name);
    } else {
        char *folder = options->is_cache_off ? NULL : mr__kernel_cache_folder();
        source.cache_path = folder;
        source.cache_bytes = mr__kernel_cache_limit();
        status = kernel_create(device, &source, options->signature, options->is_element_wise, out);
        mr__free(folder);
    }
    mr__free(text);
    return status;
}

mr_status mr_kernel_open(mr_device *device, const char *name, mr_kernel **out)
{
    *out = NULL;
    if (!device || !name)
        return mr_error_set(MR_E_INVALID, "mr_kernel_open: the device or the name is NULL");

    const struct mr__embedded_kernel *found = NULL;
    for (size_t i = 0; i < mr__embedded_kernel_count && !found; i++) {
        if (strcmp(mr__embedded_kernels[i].name, name) == 0)
            found = &mr__embedded_kernels[i];
    }
    if (!found)
        return mr_error_set(MR_E_INVALID,
                            "no kernel '%.60s' is embedded; mr_kernel_embedded_name lists those "
                            "that are",
                            name);

    char *folder = mr__kernel_cache_folder();
    const struct mr_function_source source = {
        .language = MR_KERNEL_PORTABLE,
        .name = found->name,
        .path = found->source->path,
        .text = found->source->text,
        .text_bytes = strlen(found->source->text),
        .image = found->source->image,
        .native = mr__embedded_function(found),
        .cache_path = folder,
        .cache_bytes = mr__kernel_cache_limit(),
    };
    const mr_status status =
        kernel_create(device, &source, found->signature, mr__embedded_is_element_wise(found), out);
    mr__free(folder);
    return status;
}

const char *mr_kernel_embedded_name(size_t index)
{
    return index < mr__embedded_kernel_count ? mr__embedded_kernels[index].name : NULL;
}

void mr_kernel_destroy(mr_kernel *kernel)
{
    if (!kernel)
        return;
    if (kernel->function)
        kernel->device->ops->function_destroy(kernel->function);
    mr__free(kernel->name);
    mr__device_remove_child(kernel->device);
    mr__free(kernel);
}

/* ---- looks ---- */

const char *mr_kernel_name(const mr_kernel *kernel)
{
    return kernel->name;
}

size_t mr_kernel_parameter_count(const mr_kernel *kernel)
{
    return kernel->parameter_count;
}

const mr_parameter *mr_kernel_parameters(const mr_kernel *kernel)
{
    return kernel->parameters;
}
