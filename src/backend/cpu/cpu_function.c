/* SPDX-License-Identifier: MIT */
/*
 * Functions that workers call: the caller's own, and those embedded in the library.
 */
#include "backend/cpu/cpu_backend.h"

#include "base/alloc.h"

#include <assert.h>

mr_status mr__cpu_function_create(struct mr_backend_device *device,
                                  const struct mr_function_source *source, struct mr_function **out)
{
    (void)device;
    *out = NULL;
    if (!source->native)
        return mr_error_set(MR_E_UNSUPPORTED, "the CPU runs native and embedded kernels only");

    struct cpu_function *function = mr__zalloc(sizeof *function);
    if (!function)
        return mr_error_set(MR_E_NO_MEMORY, "out of memory for a function");
    function->base.ops = &mr__cpu_backend;
    function->native = source->native;
    *out = &function->base;
    return MR_OK;
}

void mr__cpu_function_destroy(struct mr_function *function)
{
    mr__free(cpu_function_from(function));
}

const char *mr__cpu_function_signature(struct mr_function *function)
{
    const struct cpu_function *cpu = cpu_function_from(function);
    return cpu->signature ? cpu->signature : "";
}
