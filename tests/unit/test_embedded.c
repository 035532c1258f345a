/* SPDX-License-Identifier: MIT */
/*
 * The builds of each embedded kernel for different instruction sets, against each other: a machine
 * must not decide what a result is. What each result should be: tests/conformance/embedded.c.
 */
#include "core/embedded.h"
#include "support/random.h"
#include "support/unit.h"

#include <stdlib.h>

enum { ELEMENTS = 1003, BUFFER_BYTES = ELEMENTS * 8 * 4 };

/* What this CPU runs. */
static int level_count(void)
{
    static const struct mr__embedded_kernel probe = {
        .functions = { (mr_native_kernel)1, (mr_native_kernel)2, (mr_native_kernel)3 }
    };
    return (int)(uintptr_t)mr__embedded_function(&probe);
}

/* A number that keeps every kernel inside its buffers. */
static void store_value(const mr_parameter *parameter, void *word)
{
    static const struct {
        const char *name;
        uint64_t value;
    } values[] = {
        { "count", ELEMENTS }, { "item_size", 327 }, { "item_count", 3 },  { "part_count", 4 },
        { "width", 21 },       { "height", 15 },     { "image_count", 3 }, { "bin_count", 16 },
    };
    if (parameter->type == MR_TYPE_F32)
        *(float *)word = strcmp(parameter->name, "low") ? 20000.25f : 100.5f;
    else if (parameter->type == MR_TYPE_F64)
        *(double *)word = strcmp(parameter->name, "low") ? 20000.25 : 100.5;
    else
        memset(word, strcmp(parameter->name, "low") ? 60 : 10, mr_type_size(parameter->type));
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (strcmp(parameter->name, values[i].name) == 0)
            memcpy(word, &values[i].value, mr_type_size(parameter->type));
    }
}

/* Runs one build with the same random data every time; the outputs go one after the other into
 * `result`. */
static size_t run_level(const struct mr__embedded_kernel *kernel, int level, unsigned char *result)
{
    mr_parameter parameters[MR_PARAMETER_LIMIT];
    size_t count, written = 0;
    uint64_t words[MR_PARAMETER_LIMIT];
    void *arguments[MR_PARAMETER_LIMIT];
    struct random random = { 5 };
    assert_ok(mr_signature_parse(kernel->signature, parameters, &count));
    for (size_t i = 0; i < count; i++) {
        arguments[i] = &words[i];
        if (parameters[i].access == MR_ACCESS_VALUE) {
            store_value(&parameters[i], &words[i]);
            continue;
        }
        arguments[i] = malloc(BUFFER_BYTES);
        assert_non_null(arguments[i]);
        if (parameters[i].access == MR_ACCESS_OUT)
            poison(arguments[i], BUFFER_BYTES);
        else
            random_bytes(&random, arguments[i], BUFFER_BYTES);
    }

    for (uint32_t slice = 0; slice < 5; slice++)
        kernel->functions[level](&(mr_slice){ slice, 5 }, arguments);

    for (size_t i = 0; i < count; i++) {
        if (parameters[i].access == MR_ACCESS_VALUE)
            continue;
        if (parameters[i].access != MR_ACCESS_IN) {
            memcpy(result + written, arguments[i], BUFFER_BYTES);
            written += BUFFER_BYTES;
        }
        free(arguments[i]);
    }
    return written;
}

static void every_instruction_set_gives_the_same_bits(void **state)
{
    (void)state;
    unsigned char *expected = malloc((size_t)2 * BUFFER_BYTES);
    unsigned char *actual = malloc((size_t)2 * BUFFER_BYTES);
    assert_true(expected && actual);
    for (size_t i = 0; i < mr__embedded_kernel_count; i++) {
        const struct mr__embedded_kernel *kernel = &mr__embedded_kernels[i];
        /* These follow numbers in their inputs: test_vision_model.c runs them after one another. */
        if (strncmp(kernel->name, "vision_", 7) == 0)
            continue;
        const size_t size_bytes = run_level(kernel, 0, expected);
        assert_true(size_bytes > 0);
        for (int level = 1; level < level_count(); level++) {
            assert_non_null(kernel->functions[level]);
            assert_int_equal(size_bytes, run_level(kernel, level, actual));
            if (memcmp(expected, actual, size_bytes) != 0)
                fail_msg("%s differs at level %d", kernel->name, level);
        }
    }
    free(expected);
    free(actual);
}

static void sources_and_images_are_carried_whole(void **state)
{
    (void)state;
    for (size_t i = 0; i < mr__embedded_kernel_count; i++) {
        const struct mr__embedded_source *source = mr__embedded_kernels[i].source;
        const size_t length = strlen(source->text);
        assert_non_null(strstr(source->text, "SPDX-License-Identifier: MIT"));
        assert_int_equal('\n', source->text[length - 1]);
        if (!source->image)
            continue;
        char entry[300];
        snprintf(entry, sizeof entry, ".entry %s(", mr__embedded_kernels[i].name);
        assert_non_null(strstr(source->image, entry));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_instruction_set_gives_the_same_bits),
        cmocka_unit_test(sources_and_images_are_carried_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
