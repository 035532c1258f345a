/* SPDX-License-Identifier: MIT */
/*
 * The table of embedded kernels, and which build of each this CPU runs. The texts come from
 * embedded_texts.c.
 */
#include "core/embedded.h"

/* ---- texts ---- */

extern const char mr__source_arithmetic[], mr__source_convert_float[], mr__source_convert_integer[],
    mr__source_image[], mr__source_statistics[], mr__source_vision_scores[],
    mr__source_vision_sums[], mr__source_vision_textures[], mr__source_vision_tokens[];
#ifdef MR_HAS_PTX
extern const char mr__image_arithmetic[], mr__image_convert_float[], mr__image_convert_integer[],
    mr__image_image[], mr__image_statistics[], mr__image_vision_scores[], mr__image_vision_sums[],
    mr__image_vision_textures[], mr__image_vision_tokens[];
#define IMAGE(file) mr__image_##file
#else
#define IMAGE(file) NULL
#endif

#define SOURCE(file)                                                                               \
    static const struct mr__embedded_source source_##file = { "kernels/" #file ".c",               \
                                                              mr__source_##file, IMAGE(file) };
SOURCE(arithmetic)
SOURCE(convert_float)
SOURCE(convert_integer)
SOURCE(image)
SOURCE(statistics)
SOURCE(vision_scores)
SOURCE(vision_sums)
SOURCE(vision_textures)
SOURCE(vision_tokens)

/* ---- functions ---- */

#define DECLARE(name) extern void name(const mr_slice *slice, void *const *arguments);
#define KERNEL(file, name)                                                                         \
    extern const char mr_signature_##name##_portable[];                                            \
    DECLARE(mr_entry_##name##_portable)
#include "embedded.inc"
#undef KERNEL

#ifdef MR_LEVEL_V3
#define KERNEL(file, name) DECLARE(mr_entry_##name##_v3)
#include "embedded.inc"
#undef KERNEL
#define FUNCTION_V3(name) mr_entry_##name##_v3
#else
#define FUNCTION_V3(name) NULL
#endif

#ifdef MR_LEVEL_V4
#define KERNEL(file, name) DECLARE(mr_entry_##name##_v4)
#include "embedded.inc"
#undef KERNEL
#define FUNCTION_V4(name) mr_entry_##name##_v4
#else
#define FUNCTION_V4(name) NULL
#endif

const struct mr__embedded_kernel mr__embedded_kernels[] = {
#define KERNEL(file, name)                                                                         \
    { #name,                                                                                       \
      mr_signature_##name##_portable,                                                              \
      &source_##file,                                                                              \
      { mr_entry_##name##_portable, FUNCTION_V3(name), FUNCTION_V4(name) } },
#include "embedded.inc"
#undef KERNEL
};

const size_t mr__embedded_kernel_count = sizeof mr__embedded_kernels / sizeof *mr__embedded_kernels;

/* ---- choice ---- */

/* The features that -march=x86-64-v3 and -v4 let the compiler use, as far as they can be asked for
 * one by one; CPUs bring the rest along. */
static int best_level(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2") ||
        !__builtin_cpu_supports("fma"))
        return 0;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512cd") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512vl"))
        return 1;
    return 2;
#else
    return 0;
#endif
}

mr_native_kernel mr__embedded_function(const struct mr__embedded_kernel *kernel)
{
    int level = best_level();
    while (level > 0 && !kernel->functions[level])
        level--;
    return kernel->functions[level];
}

bool mr__embedded_is_element_wise(const struct mr__embedded_kernel *kernel)
{
    return kernel->source == &source_arithmetic || kernel->source == &source_convert_float ||
           kernel->source == &source_convert_integer;
}
