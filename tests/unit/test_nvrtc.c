/* SPDX-License-Identifier: MIT */
/*
 * The run-time compiler itself, where there is one: it needs no GPU. Where there is none, the words
 * that say so.
 */
#include "backend/code_cache.h"
#include "backend/cuda/cuda_nvrtc.h"
#include "base/alloc.h"
#include "core/embedded.h"
#include "support/unit.h"

#include <stdlib.h>

enum { EXIT_SKIPPED = 77 };

static mr_status compile(const char *text, mr_kernel_language language, const char *flags,
                         uint32_t major, void **image, size_t *image_bytes)
{
    const struct cuda_target target = { .compute_major = major, .driver_version = 13000 };
    const struct mr_function_source source = { .language = language,
                                               .name = "fill",
                                               .path = "folder/fill.c",
                                               .text = text,
                                               .text_bytes = strlen(text),
                                               .flags = flags };
    return mr__cuda_nvrtc_compile(&target, &source, image, image_bytes);
}

#define PORTABLE                                                                                   \
    "#include <millrace/portable.h>\n"                                                             \
    "MR_KERNEL(fill, MR_OUT(float, target), MR_VALUE(uint64_t, count))\n"

static void expect_refusal(const char *text, const char *flags, const char *words)
{
    void *image;
    size_t image_bytes;
    assert_status(MR_E_COMPILE, compile(text, MR_KERNEL_PORTABLE, flags, 9, &image, &image_bytes));
    assert_words(words);
    assert_null(image);
}

static void portable_source_becomes_a_cubin_for_the_device(void **state)
{
    (void)state;
    void *image;
    size_t image_bytes;
    assert_ok(compile(PORTABLE "{\n    MR_EACH (i, count)\n        target[i] = 1;\n}\n",
                      MR_KERNEL_PORTABLE, "--use_fast_math", 9, &image, &image_bytes));
    assert_memory_equal("\177ELF", image, 4);
    assert_non_null(memmem(image, image_bytes, "mr_signature_fill", 17));
    assert_non_null(memmem(image, image_bytes, "out f32 target, value u64 count", 32));
    mr__free(image);
}

static void a_device_newer_than_the_compiler_gets_ptx(void **state)
{
    (void)state;
    void *image;
    size_t image_bytes;
    assert_ok(compile("extern \"C\" __global__ void fill(float *x) { *x = 1; }\n", MR_KERNEL_CUDA,
                      NULL, 99, &image, &image_bytes));
    assert_non_null(strstr(image, ".entry fill"));
    mr__free(image);
}

static void errors_have_file_line_and_words(void **state)
{
    (void)state;
    expect_refusal(PORTABLE "{\n    target[0] = nothing;\n}\n", NULL,
                   "folder/fill.c:4: error: identifier \"nothing\" is undefined");
    expect_refusal(PORTABLE "{\n    target[0] = nothing;\n    target[1] = nowhere;\n}\n", NULL,
                   "(the first of 2 errors)");
    expect_refusal("#include <millrace/portable.h>\nMR_KERNEL(fill, MR_VALUE(int, count))\n{\n}\n",
                   NULL, "folder/fill.c:2: error: identifier \"mr_parameter_cannot_be_int\"");
    expect_refusal("#include \"none.h\"\n", NULL,
                   "folder/fill.c:1: catastrophic error: cannot open source file \"none.h\"");
    expect_refusal(PORTABLE "{\n}\n", "--no-such-flag", "--no-such-flag");
}

static void every_embedded_source_compiles(void **state)
{
    (void)state;
    const struct mr__embedded_source *before = NULL;
    for (size_t i = 0; i < mr__embedded_kernel_count; i++) {
        const struct mr__embedded_source *source = mr__embedded_kernels[i].source;
        void *image;
        size_t image_bytes;
        if (source == before)
            continue;
        before = source;
        assert_ok(compile(source->text, MR_KERNEL_PORTABLE, NULL, 9, &image, &image_bytes));
        mr__free(image);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(portable_source_becomes_a_cubin_for_the_device),
        cmocka_unit_test(a_device_newer_than_the_compiler_gets_ptx),
        cmocka_unit_test(errors_have_file_line_and_words),
        cmocka_unit_test(every_embedded_source_compiles),
    };
    void *image;
    size_t image_bytes;
    if (compile("", MR_KERNEL_CUDA, NULL, 9, &image, &image_bytes) == MR_E_UNAVAILABLE) {
        printf("skipped: %s\n", mr_last_error());
        return strstr(mr_last_error(), "install the CUDA toolkit's NVRTC") ? EXIT_SKIPPED : 1;
    }
    mr__free(image);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
