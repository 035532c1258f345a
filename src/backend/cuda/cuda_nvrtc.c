/* SPDX-License-Identifier: MIT */
/*
 * NVRTC, found at run time like the driver, and its messages in words.
 */
#include "backend/cuda/cuda_nvrtc.h"

#include "backend/code_cache.h"
#include "base/alloc.h"
#include "base/environment.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_LIMIT = 64 };
enum { NVRTC_ERROR_OUT_OF_MEMORY = 1, NVRTC_ERROR_COMPILATION = 6 };

/* ---- the library ---- */

typedef struct _nvrtcProgram *nvrtcProgram;

#define NVRTC_SYMBOLS                                                                              \
    SYMBOL(nvrtcVersion, (int *, int *))                                                           \
    SYMBOL(nvrtcGetNumSupportedArchs, (int *))                                                     \
    SYMBOL(nvrtcGetSupportedArchs, (int *))                                                        \
    SYMBOL(nvrtcCreateProgram, (nvrtcProgram *, const char *, const char *, int,                   \
                                const char *const *, const char *const *))                         \
    SYMBOL(nvrtcDestroyProgram, (nvrtcProgram *))                                                  \
    SYMBOL(nvrtcCompileProgram, (nvrtcProgram, int, const char *const *))                          \
    SYMBOL(nvrtcGetProgramLogSize, (nvrtcProgram, size_t *))                                       \
    SYMBOL(nvrtcGetProgramLog, (nvrtcProgram, char *))                                             \
    SYMBOL(nvrtcGetPTXSize, (nvrtcProgram, size_t *))                                              \
    SYMBOL(nvrtcGetPTX, (nvrtcProgram, char *))                                                    \
    SYMBOL(nvrtcGetCUBINSize, (nvrtcProgram, size_t *))                                            \
    SYMBOL(nvrtcGetCUBIN, (nvrtcProgram, char *))

struct nvrtc {
    void *library;
#define SYMBOL(name, parameters) int(*name) parameters;
    NVRTC_SYMBOLS
#undef SYMBOL
    int major, minor;
};

static void *open_in(const char *folder, const char *name)
{
    char *path = mr__format_text("%s/lib64/%s", folder, name);
    void *library = path ? dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE) : NULL;
    mr__free(path);
    return library;
}

/* The version of the driver's own generation first: what newer ones make, it may refuse. */
static void *open_library(int driver_version)
{
    static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so" };
    const char *folders[] = { mr__environment("CUDA_HOME"), mr__environment("CUDA_PATH"),
                              "/usr/local/cuda" };
    const int count = sizeof names / sizeof *names;
    const int first = driver_version >= 13000 ? 0 : 1;

    for (int i = 0; i < count; i++) {
        const char *name = names[i < 2 ? (i + first) % 2 : i];
        void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
        for (size_t k = 0; k < sizeof folders / sizeof *folders && !library; k++)
            library = folders[k] ? open_in(folders[k], name) : NULL;
        if (library)
            return library;
    }
    return NULL;
}

static mr_status nvrtc_open(struct nvrtc *nvrtc, int driver_version)
{
    *nvrtc = (struct nvrtc){ .library = open_library(driver_version) };
    if (!nvrtc->library)
        return mr_error_set(MR_E_UNAVAILABLE,
                            "no run-time compiler: libnvrtc.so.13 and libnvrtc.so.12 were not "
                            "found; install the CUDA toolkit's NVRTC (Debian: apt install "
                            "libnvrtc12; pip: nvidia-cuda-nvrtc, with its lib folder in "
                            "LD_LIBRARY_PATH), or set CUDA_HOME");
    const char *missing = NULL;
    void *address;
#define SYMBOL(name, parameters)                                                                   \
    address = dlsym(nvrtc->library, #name);                                                        \
    memcpy(&nvrtc->name, &address, sizeof address);                                                \
    if (!address)                                                                                  \
        missing = #name;
    NVRTC_SYMBOLS
#undef SYMBOL
    if (!missing && nvrtc->nvrtcVersion(&nvrtc->major, &nvrtc->minor) == 0)
        return MR_OK;
    dlclose(nvrtc->library);
    return mr_error_set(MR_E_UNAVAILABLE,
                        "libnvrtc is too old: it has no %s; install 12.0 or newer",
                        missing ? missing : "version");
}

/* ---- options ---- */

struct options {
    const char *list[OPTION_LIMIT];
    int count;
    bool is_ptx; /* compiled for an architecture that is not the device's own */
    char architecture[40];
    char *include; /* --include-path=..., the source's own folder */
    char *flags;   /* the caller's, cut into words */
};

/* The device's own architecture where NVRTC knows it; else the newest that it knows and the device
 * still runs, as PTX. */
static void choose_architecture(struct options *options, const struct nvrtc *nvrtc,
                                const struct cuda_target *target)
{
    const int wanted = (int)(target->compute_major * 10 + target->compute_minor);
    int known[128], count = 0, best = wanted;
    if (nvrtc->nvrtcGetNumSupportedArchs(&count) == 0 && count > 0 && count <= 128 &&
        nvrtc->nvrtcGetSupportedArchs(known) == 0) {
        best = 0;
        for (int i = 0; i < count; i++) {
            if (known[i] <= wanted && known[i] > best)
                best = known[i];
        }
    }
    options->is_ptx = best && best != wanted;
    snprintf(options->architecture, sizeof options->architecture, "--gpu-architecture=%s_%d",
             options->is_ptx ? "compute" : "sm", best ? best : wanted);
}

static mr_status add_option(struct options *options, const char *option)
{
    if (options->count == OPTION_LIMIT)
        return mr_error_set(MR_E_INVALID, "more than %d flags for NVRTC", OPTION_LIMIT);
    options->list[options->count++] = option;
    return MR_OK;
}

static mr_status add_flags(struct options *options, const char *flags)
{
    options->flags = mr__copy_text(flags);
    if (!options->flags)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory while compiling");
    mr_status status = MR_OK;
    char *rest = NULL;
    for (char *word = strtok_r(options->flags, " \t\n", &rest); word && !status;
         word = strtok_r(NULL, " \t\n", &rest))
        status = add_option(options, word);
    return status;
}

static mr_status options_init(struct options *options, const struct nvrtc *nvrtc,
                              const struct cuda_target *target,
                              const struct mr_function_source *source)
{
    *options = (struct options){ 0 };
    choose_architecture(options, nvrtc, target);
    const char *slash = strrchr(source->path, '/');
    options->include = slash ? mr__format_text("--include-path=%.*s",
                                               (int)(slash - source->path + 1), source->path)
                             : mr__copy_text("--include-path=.");
    if (!options->include)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory while compiling");

    mr_status status = add_option(options, options->architecture);
    if (!status)
        status = add_option(options, "--std=c++17");
    if (!status)
        status = add_option(options, options->include);
    if (source->language == MR_KERNEL_PORTABLE) {
        /* The same results as on the CPU, where nothing is contracted, and plain C functions. */
        if (!status)
            status = add_option(options, "--fmad=false");
        if (!status)
            status = add_option(options, "--device-as-default-execution-space");
    }
    if (!status && source->flags)
        status = add_flags(options, source->flags);
    return status;
}

static void options_fini(struct options *options)
{
    mr__free(options->include);
    mr__free(options->flags);
}

/* ---- what the compiler says ---- */

/* "scale.cu(7): error: words" becomes "scale.cu:7: error: words". */
static void set_first_error(const char *line, size_t length, size_t count)
{
    char more[48] = "";
    if (count > 1)
        snprintf(more, sizeof more, " (the first of %zu errors)", count);
    const char *open = memmem(line, length, "): ", 3);
    while (open && open > line && *open != '(')
        open--;
    if (!open || open == line) {
        mr_error_set(MR_E_COMPILE, "%.*s%s", (int)length, line, more);
        return;
    }
    char *end;
    const long number = strtol(open + 1, &end, 10);
    const char *words = end + 1; /* ": error: ..." */
    mr_error_set(MR_E_COMPILE, "%.*s:%ld%.*s%s", (int)(open - line), line, number,
                 (int)(line + length - words), words, more);
}

static mr_status explain(const char *log)
{
    const char *first = NULL;
    size_t first_length = 0, count = 0;
    for (const char *line = log; *line;) {
        const char *end = strchrnul(line, '\n');
        if (memmem(line, (size_t)(end - line), "error", 5) &&
            !memmem(line, (size_t)(end - line), " detected in the compilation", 28) &&
            count++ == 0) {
            first = line;
            first_length = (size_t)(end - line);
        }
        line = *end ? end + 1 : end;
    }
    if (first)
        set_first_error(first, first_length, count);
    else
        mr_error_set(MR_E_COMPILE, "NVRTC refused the source: %.*s", (int)strcspn(log, "\n"), log);
    return MR_E_COMPILE;
}

static mr_status explain_program(const struct nvrtc *nvrtc, nvrtcProgram program, int result)
{
    if (result == NVRTC_ERROR_OUT_OF_MEMORY)
        return mr_error_set(MR_E_NO_MEMORY, "NVRTC is out of memory");
    size_t size_bytes = 0;
    char *log = NULL;
    if (nvrtc->nvrtcGetProgramLogSize(program, &size_bytes) == 0 && size_bytes)
        log = mr__zalloc(size_bytes + 1);
    mr_status status;
    if (log && nvrtc->nvrtcGetProgramLog(program, log) == 0 && *log)
        status = explain(log);
    else
        status = mr_error_set(MR_E_COMPILE, "NVRTC %d.%d failed with %d and no words", nvrtc->major,
                              nvrtc->minor, result);
    mr__free(log);
    return status;
}

/* ---- compiling ---- */

static mr_status take_image(const struct nvrtc *nvrtc, nvrtcProgram program, bool is_ptx,
                            void **image, size_t *image_bytes)
{
    int result = is_ptx ? nvrtc->nvrtcGetPTXSize(program, image_bytes)
                        : nvrtc->nvrtcGetCUBINSize(program, image_bytes);
    if (!result && *image_bytes) {
        *image = mr__zalloc(*image_bytes + 1);
        if (!*image)
            return mr_error_set(MR_E_NO_MEMORY, "out of memory for %zu bytes of code",
                                *image_bytes);
        result =
            is_ptx ? nvrtc->nvrtcGetPTX(program, *image) : nvrtc->nvrtcGetCUBIN(program, *image);
    }
    if (!result && *image)
        return MR_OK;
    mr__free(*image);
    *image = NULL;
    return mr_error_set(MR_E_COMPILE, "NVRTC %d.%d made no code (%d)", nvrtc->major, nvrtc->minor,
                        result);
}

static mr_status compile(const struct nvrtc *nvrtc, const struct options *options,
                         const struct mr_function_source *source, void **image, size_t *image_bytes)
{
    const char *const headers[] = { mr__portable_header };
    const char *const names[] = { "millrace/portable.h" };
    nvrtcProgram program = NULL;
    int result = nvrtc->nvrtcCreateProgram(&program, source->text, source->path, 1, headers, names);
    if (result)
        return mr_error_set(result == NVRTC_ERROR_OUT_OF_MEMORY ? MR_E_NO_MEMORY : MR_E_COMPILE,
                            "NVRTC %d.%d cannot begin (%d)", nvrtc->major, nvrtc->minor, result);

    result = nvrtc->nvrtcCompileProgram(program, options->count, options->list);
    const mr_status status = result
                                 ? explain_program(nvrtc, program, result)
                                 : take_image(nvrtc, program, options->is_ptx, image, image_bytes);
    nvrtc->nvrtcDestroyProgram(&program);
    return status;
}

static void make_key(struct mr__code_key *key, const struct nvrtc *nvrtc,
                     const struct options *options, const struct mr_function_source *source)
{
    mr__code_key_add_text(key, "nvrtc 1");
    mr__code_key_add(key, &nvrtc->major, sizeof nvrtc->major);
    mr__code_key_add(key, &nvrtc->minor, sizeof nvrtc->minor);
    for (int i = 0; i < options->count; i++)
        mr__code_key_add_text(key, options->list[i]);
    mr__code_key_add_text(key, mr__portable_header);
    mr__code_key_add_text(key, source->text);
    if (!mr__code_is_self_contained(source->text, source->flags))
        key->is_broken = true;
}

mr_status mr__cuda_nvrtc_compile(const struct cuda_target *target,
                                 const struct mr_function_source *source, void **image,
                                 size_t *image_bytes)
{
    *image = NULL;
    *image_bytes = 0;
    struct nvrtc nvrtc;
    mr_status status = nvrtc_open(&nvrtc, target->driver_version);
    if (status)
        return status;

    struct options options;
    struct mr__code_key key = { 0 };
    status = options_init(&options, &nvrtc, target, source);
    if (status)
        goto end;
    make_key(&key, &nvrtc, &options, source);
    *image = mr__code_cache_read(source->cache_path, &key, image_bytes);
    if (*image)
        goto end;
    status = compile(&nvrtc, &options, source, image, image_bytes);
    if (!status)
        mr__code_cache_write(source->cache_path, &key, *image, *image_bytes, source->cache_bytes);

end:
    mr__code_key_fini(&key);
    options_fini(&options);
    dlclose(nvrtc.library);
    return status;
}
