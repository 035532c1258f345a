/* SPDX-License-Identifier: MIT */
/*
 * Finds the CUDA driver at run time: libcuda.so.1, which every driver installs, then libcuda.so,
 * which is often only a developer's link.
 */
#include "backend/cuda/cuda_symbols.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

static void *library_open(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        library = dlopen("libcuda.so", RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    return library;
}

/* Stores a function's address without casting between object and function pointers. */
static bool symbol_find(void *library, const char *name, void *member)
{
    void *address = dlsym(library, name);
    memcpy(member, &address, sizeof address);
    return address != NULL;
}

mr_status mr__cuda_symbols_load(void **library, struct cuda_symbols *cu)
{
    memset(cu, 0, sizeof *cu);
    *library = library_open();
    if (!*library)
        return mr_error_set(MR_E_UNAVAILABLE,
                            "no NVIDIA driver: libcuda.so.1 was not found; install the NVIDIA "
                            "driver (570 or newer is best), or use the device \"cpu\"");

    const char *missing = NULL;
#define REQUIRED(member, exported, parameters)                                                     \
    if (!symbol_find(*library, exported, &cu->member) && !missing)                                 \
        missing = exported;
#define OPTIONAL(member, exported, parameters) symbol_find(*library, exported, &cu->member);
#include "backend/cuda/cuda_symbols.inc"
#undef REQUIRED
#undef OPTIONAL
    if (!missing)
        return MR_OK;

    dlclose(*library);
    *library = NULL;
    return mr_error_set(
        MR_E_UNAVAILABLE,
        "the NVIDIA driver is too old: libcuda.so.1 has no %s; install a driver for "
        "CUDA 12.0 or newer (525 or newer)",
        missing);
}
