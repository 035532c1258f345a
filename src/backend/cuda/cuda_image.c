/* SPDX-License-Identifier: MIT */
/*
 * Code on its way into the driver. Source goes through NVRTC (cuda_nvrtc.c); embedded kernels come as
 * PTX, which the driver compiles, and are compiled from source only where it refuses that.
 */
#include "backend/cuda/cuda_image.h"

#include "backend/cuda/cuda_nvrtc.h"
#include "base/alloc.h"

#include <elf.h>
#include <string.h>

enum { LOG_BYTES = 4096 };

/* ---- what the driver takes ---- */

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

static CUresult load(const struct cuda_device *device, const void *image, CUmodule *module,
                     char log[LOG_BYTES])
{
    int options[] = { CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES };
    void *values[] = { log, (void *)(uintptr_t)LOG_BYTES };
    *log = '\0';
    return device->cu->cuModuleLoadDataEx(module, image, 2, options, values);
}

/* ---- portable kernels as PTX ---- */

/* Grids can wait for each other from here on. */
static bool can_wait(const struct cuda_device *device)
{
    return device->properties.compute_major >= 9;
}

/* What stands behind `words`. */
static char *find_behind(char *text, const char *words)
{
    char *found = strstr(text, words);
    return found ? found + strlen(words) : NULL;
}

/* Our PTX suits the oldest GPUs; what it has for compute capability 9.0 stands in comments: "//90 words".
 * Where there are any, they are uncovered, and the text says that it is for such GPUs, in the first
 * version of PTX that can (7.8) or its own if that is later. */
static bool uncover(char *text)
{
    char *comment = strstr(text, "//90 ");
    char *version = find_behind(text, ".version "), *target = find_behind(text, ".target sm_");
    if (!comment || !version || !target)
        return false;
    for (; comment; comment = strstr(comment, "//90 "))
        memset(comment, ' ', 4);
    memcpy(target, "90", 2);
    if (version[1] == '.' && memcmp(version, "7.8", 3) < 0)
        memcpy(version, "7.8", 3);
    return true;
}

/* As it stands where the driver takes it no other way. */
static CUresult load_ptx(const struct cuda_device *device, const char *ptx, CUmodule *module,
                         bool *is_waiting, char log[LOG_BYTES])
{
    if (!can_wait(device))
        return load(device, ptx, module, log);
    char *text = mr__copy_text(ptx);
    if (!text)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *is_waiting = uncover(text);
    CUresult result = load(device, text, module, log);
    mr__free(text);
    if (*is_waiting && is_refusal(result)) {
        *is_waiting = false;
        result = load(device, ptx, module, log);
    }
    return result;
}

/* ---- source ---- */

static mr_status compile_and_load(const struct cuda_device *device,
                                  const struct mr_function_source *source, CUmodule *module)
{
    const struct cuda_target target = { .compute_major = device->properties.compute_major,
                                        .compute_minor = device->properties.compute_minor,
                                        .driver_version = device->backend->driver_version };
    void *image;
    size_t image_bytes;
    mr_status status = mr__cuda_nvrtc_compile(&target, source, &image, &image_bytes);
    if (status)
        return status;
    char log[LOG_BYTES];
    const CUresult result = load(device, image, module, log);
    mr__free(image);
    return result ? refuse_image(device, result, log) : MR_OK;
}

mr_status mr__cuda_image_load(const struct cuda_device *device,
                              const struct mr_function_source *source, CUmodule *module,
                              bool *is_waiting)
{
    char log[LOG_BYTES];
    /* Portable source says itself what it was compiled to. */
    *is_waiting =
        source->is_dependent_launch && source->language != MR_KERNEL_PORTABLE && can_wait(device);
    if (source->language == MR_KERNEL_IMAGE) {
        const mr_status status =
            check_image((const unsigned char *)source->text, source->text_bytes);
        if (status)
            return status;
        const CUresult result = load(device, source->text, module, log);
        return result ? refuse_image(device, result, log) : MR_OK;
    }
    if (source->image) {
        const CUresult result = load_ptx(device, source->image, module, is_waiting, log);
        if (!is_refusal(result))
            return result ? refuse_image(device, result, log) : MR_OK;
    }
    return compile_and_load(device, source, module);
}
