/* SPDX-License-Identifier: MIT */
/*
 * Kernels over the stand-in driver: every call and allocation on the way made to fail, and images that
 * the driver refuses.
 */
#include "support/fault_driver.h"
#include "support/unit.h"

#include "backend/cuda/cuda_driver.h"
#include "base/alloc.h"

#include <millrace/kernel.h>

#include <stdlib.h>

enum { COUNT = 300 };

static char cache[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(cache, sizeof cache, "/tmp/millrace-cuda-XXXXXX");
    assert_non_null(mkdtemp(cache));
    assert_ok(mr_kernel_cache_set(cache));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    char command[80];
    fakecuda_fail_at(0, NULL, 0);
    mr__alloc_fail_at(0, 0);
    unsetenv("FAKECUDA_NVRTC_FAIL");
    unsetenv("FAKECUDA_COMPUTE_MAJOR");
    snprintf(command, sizeof command, "rm -rf %s", cache);
    return system(command) || fakecuda_live() ? -1 : 0;
}

static const char portable[] = "#include <millrace/portable.h>\n"
                               "MR_KERNEL(fill, MR_OUT(float, target), MR_VALUE(uint64_t, count))\n"
                               "{\n    MR_EACH (i, count)\n        target[i] = 1.5f;\n}\n";
static const char cuda[] =
    "extern \"C\" __global__ void fill(float *target, unsigned long long count)\n"
    "{\n    for (unsigned long long i = 0; i < count; i++)\n"
    "        target[i] = 1.5f;\n}\n";

static const mr_kernel_options cases[] = {
    { .name = "fill", .source = portable },
    { .name = "fill", .source = portable, .is_cache_off = true },
    { .language = MR_KERNEL_CUDA,
      .name = "fill",
      .source = cuda,
      .signature = "out f32 target, value u64 count" },
};
enum { CASE_COUNT = sizeof cases / sizeof *cases };

static mr_status launch_on(mr_device *device, mr_kernel *kernel, float *result)
{
    mr_stream *stream = NULL;
    mr_buffer *target = NULL, *view = NULL;
    mr_status status = mr_stream_create(device, NULL, &stream);
    if (!status)
        status = mr_buffer_create(device, COUNT * sizeof *result, NULL, &target);
    if (!status)
        status = mr_buffer_borrow(device, result, COUNT * sizeof *result, MR_PLACE_PAGEABLE, &view);
    if (!status) {
        const mr_argument arguments[] = { mr_argument_buffer(target), mr_argument_u64(COUNT) };
        /* Twice: the second follows a launch. */
        for (int i = 0; i < 2 && !status; i++)
            status = mr_kernel_launch(stream, kernel, &(mr_launch){ .count = COUNT, .grid = { 1 } },
                                      arguments, 2);
    }
    if (!status)
        status = mr_copy(stream, view, 0, target, 0, COUNT * sizeof *result);
    if (!status)
        status = mr_stream_wait(stream);
    mr_buffer_destroy(view);
    mr_buffer_destroy(target);
    mr_stream_destroy(stream);
    return status;
}

/* Everything from opening the device to the result. `options` NULL: an embedded kernel as well. */
static mr_status run_case(const mr_kernel_options *options)
{
    mr_device *device;
    mr_kernel *kernel = NULL, *embedded = NULL;
    float result[COUNT] = { 0 };
    mr_status status = mr_device_open("cuda", NULL, &device);
    if (status)
        return status;
    status = mr_kernel_open(device, "copy_u8", &embedded);
    if (!status)
        status = mr_kernel_create(device, options, &kernel);
    if (!status)
        status = launch_on(device, kernel, result);
    mr_kernel_destroy(kernel);
    mr_kernel_destroy(embedded);
    assert_ok(mr_device_close(device));
    for (int i = 0; i < COUNT && !status; i++)
        assert_true(result[i] == 1.5f);
    return status;
}

static void survive(const mr_kernel_options *options, struct fault *fault)
{
    while (fault_next(fault)) {
        fault_begin(fault);
        const mr_status status = run_case(options);
        fault_end(fault, status);
        fault_leaves_nothing(fault);
    }
}

static void kernels_survive_any_driver_call_that_fails(void **state)
{
    (void)state;
    assert_ok(run_case(&cases[0]));
    assert_ok(run_case(&cases[2]));
    for (int i = 0; i < CASE_COUNT; i += 2) {
        struct fault fault = { .kind = &fault_driver_call };
        survive(&cases[i], &fault);
        assert_true(fault.nth > 30);
    }
}

static void kernels_survive_any_allocation_that_fails(void **state)
{
    (void)state;
    assert_ok(run_case(&cases[0]));
    assert_ok(run_case(&cases[2]));
    for (int i = 0; i < CASE_COUNT; i++) {
        struct fault fault = { .kind = &fault_allocation };
        fault.step = cases[i].is_cache_off ? 4 : 1; /* compiling every time takes long */
        survive(&cases[i], &fault);
        assert_true(fault.nth > 15);
    }
}

/* ---- images ---- */

/* Opens the embedded kernel on a GPU of `major`.0; how many loads it took. */
static uint64_t open_embedded(const char *major, int refusal, mr_device **device,
                              mr_kernel **kernel)
{
    setenv("FAKECUDA_COMPUTE_MAJOR", major, 1);
    assert_ok(mr_device_open("cuda", NULL, device));
    const uint64_t before = fakecuda_count("cuModuleLoadDataEx");
    if (refusal)
        fakecuda_fail_at(1, "cuModuleLoadDataEx", refusal);
    assert_ok(mr_kernel_open(*device, "scale_offset_f32", kernel));
    return fakecuda_count("cuModuleLoadDataEx") - before;
}

/* Launches it twice: where it waits in its code, the second time as a dependent of the first. */
static void launch_embedded(mr_device *device, mr_kernel *kernel, bool is_dependent)
{
    float numbers[COUNT];
    mr_stream *stream;
    mr_buffer *buffer, *view;
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_ok(mr_buffer_create(device, sizeof numbers, NULL, &buffer));
    assert_ok(mr_buffer_borrow(device, numbers, sizeof numbers, MR_PLACE_PAGEABLE, &view));
    assert_ok(mr_fill(stream, buffer, 0, sizeof numbers, 0, 4));
    const uint64_t plain = fakecuda_count("cuLaunchKernel");
    const uint64_t dependent = fakecuda_count("cuLaunchKernelEx");
    const mr_argument arguments[] = { mr_argument_buffer(buffer), mr_argument_buffer(buffer),
                                      mr_argument_f32(2), mr_argument_f32(3),
                                      mr_argument_u64(COUNT) };
    for (int i = 0; i < 2; i++)
        assert_ok(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = COUNT }, arguments, 5));
    assert_ok(mr_copy(stream, view, 0, buffer, 0, sizeof numbers));
    assert_ok(mr_stream_wait(stream));
    for (int i = 0; i < COUNT; i++)
        assert_true(numbers[i] == 9);
    assert_int_equal(plain + (is_dependent ? 1 : 2), fakecuda_count("cuLaunchKernel"));
    assert_int_equal(dependent + is_dependent, fakecuda_count("cuLaunchKernelEx"));
    mr_buffer_destroy(view);
    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
}

/* The stand-in driver refuses a dependent launch of PTX without the wait. */
static void an_embedded_kernel_waits_in_its_code_where_the_gpu_can(void **state)
{
    (void)state;
    static const struct {
        const char *major;
        int refusal;
        uint64_t loads;
        bool is_dependent;
    } gpus[] = { { "9", 0, 1, true },
                 { "10", 0, 1, true },
                 { "8", 0, 1, false },
                 { "9", CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 2, false } };
    for (size_t i = 0; i < sizeof gpus / sizeof *gpus; i++) {
        mr_device *device;
        mr_kernel *kernel;
        assert_int_equal(gpus[i].loads,
                         open_embedded(gpus[i].major, gpus[i].refusal, &device, &kernel));
        launch_embedded(device, kernel, gpus[i].is_dependent);
        mr_kernel_destroy(kernel);
        assert_ok(mr_device_close(device));
    }
}

static void own_code_is_a_dependent_where_it_promises_to_wait(void **state)
{
    (void)state;
    mr_device *device;
    float result[COUNT];
    assert_ok(mr_device_open("cuda", NULL, &device));
    for (int promise = 0; promise < 2; promise++) {
        mr_kernel_options options = cases[2];
        options.is_dependent_launch = promise;
        mr_kernel *kernel;
        assert_ok(mr_kernel_create(device, &options, &kernel));
        const uint64_t before = fakecuda_count("cuLaunchKernelEx");
        assert_ok(launch_on(device, kernel, result));
        assert_int_equal(before + (uint64_t)promise, fakecuda_count("cuLaunchKernelEx"));
        mr_kernel_destroy(kernel);
    }
    assert_ok(mr_device_close(device));
}

static void an_embedded_image_that_the_driver_refuses_is_compiled(void **state)
{
    (void)state;
    setenv("FAKECUDA_COMPUTE_MAJOR", "8", 1);
    static const int refusals[] = { CUDA_ERROR_UNSUPPORTED_PTX_VERSION, CUDA_ERROR_INVALID_PTX,
                                    CUDA_ERROR_JIT_COMPILER_NOT_FOUND };
    mr_device *device;
    mr_kernel *kernel;
    assert_ok(mr_device_open("cuda", NULL, &device));
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        const uint64_t before = fakecuda_count("cuModuleLoadDataEx");
        fakecuda_fail_at(1, "cuModuleLoadDataEx", refusals[i]);
        assert_ok(mr_kernel_open(device, "copy_u8", &kernel));
        assert_true(fakecuda_has_failed());
        assert_int_equal(before + 2, fakecuda_count("cuModuleLoadDataEx"));
        mr_kernel_destroy(kernel);
    }

    fakecuda_fail_at(1, "cuModuleLoadDataEx", CUDA_ERROR_OUT_OF_MEMORY);
    assert_status(MR_E_NO_MEMORY, mr_kernel_open(device, "copy_u8", &kernel));
    assert_words("kernel 'copy_u8': loading the code: CUDA_ERROR_OUT_OF_MEMORY");
    assert_null(kernel);
    assert_ok(mr_device_close(device));
}

static void refusals_of_an_image_have_their_own_words(void **state)
{
    (void)state;
    static const struct {
        int code;
        mr_status status;
        const char *words;
    } refusals[] = {
        { CUDA_ERROR_UNSUPPORTED_PTX_VERSION, MR_E_UNSUPPORTED, "update the driver" },
        { CUDA_ERROR_NO_BINARY_FOR_GPU, MR_E_UNSUPPORTED, "no code for compute capability" },
        { CUDA_ERROR_INVALID_IMAGE, MR_E_FORMAT, "takes the image for none of its own" },
        { CUDA_ERROR_UNKNOWN, MR_E_DEVICE, "loading the code: CUDA_ERROR_UNKNOWN (999)" },
    };
    const mr_kernel_options options = { .language = MR_KERNEL_IMAGE,
                                        .name = "copy_u8",
                                        .signature = "in u8 source, out u8 target, value u64 count",
                                        .source = ".version 6.3\n.visible .entry copy_u8()\n" };
    mr_device *device;
    mr_kernel *kernel;
    assert_ok(mr_device_open("cuda", NULL, &device));
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        fakecuda_fail_at(1, "cuModuleLoadDataEx", refusals[i].code);
        assert_status(refusals[i].status, mr_kernel_create(device, &options, &kernel));
        assert_words(refusals[i].words);
    }
    assert_ok(mr_device_close(device));
}

static void a_compiler_that_fails_without_words_is_said(void **state)
{
    (void)state;
    mr_device *device;
    mr_kernel *kernel;
    assert_ok(mr_device_open("cuda", NULL, &device));
    setenv("FAKECUDA_NVRTC_FAIL", "1", 1);
    assert_status(MR_E_COMPILE, mr_kernel_create(device, &cases[1], &kernel));
    assert_words("NVRTC 13.0 failed with 6 and no words");
    assert_ok(mr_device_close(device));
}

/* ---- launches ---- */

static void a_launch_that_fails_says_its_shape(void **state)
{
    (void)state;
    mr_device *device;
    mr_kernel *kernel;
    float result[COUNT];
    assert_ok(mr_device_open("cuda", NULL, &device));
    assert_ok(mr_kernel_create(device, &cases[0], &kernel));
    fakecuda_fail_at(1, "cuLaunchKernelEx", CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
    assert_status(MR_E_DEVICE, launch_on(device, kernel, result));
    assert_words("kernel 'fill': launching 1 x 1 x 1 blocks of 256 x 1 x 1 threads with 0 bytes");
    assert_words("(701)");
    assert_ok(launch_on(device, kernel, result));
    mr_kernel_destroy(kernel);
    assert_ok(mr_device_close(device));
}

static void much_shared_memory_is_asked_for_once(void **state)
{
    (void)state;
    mr_device *device;
    mr_kernel *kernel;
    mr_stream *stream;
    mr_buffer *target;
    assert_ok(mr_device_open("cuda", NULL, &device));
    assert_ok(mr_kernel_create(device, &cases[0], &kernel));
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_ok(mr_buffer_create(device, 4, NULL, &target));
    const mr_argument arguments[] = { mr_argument_buffer(target), mr_argument_u64(1) };
    const uint64_t before = fakecuda_count("cuFuncSetAttribute");

    mr_launch launch = { .count = 1, .shared_bytes = 48 << 10 };
    assert_ok(mr_kernel_launch(stream, kernel, &launch, arguments, 2));
    assert_int_equal(before, fakecuda_count("cuFuncSetAttribute"));
    launch.shared_bytes = 60 << 10; /* more than the stand-in has */
    assert_status(MR_E_DEVICE, mr_kernel_launch(stream, kernel, &launch, arguments, 2));
    assert_words("with 61440 bytes of shared memory");
    assert_int_equal(before + 1, fakecuda_count("cuFuncSetAttribute"));

    assert_ok(mr_stream_wait(stream));
    mr_buffer_destroy(target);
    mr_stream_destroy(stream);
    mr_kernel_destroy(kernel);
    assert_ok(mr_device_close(device));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(kernels_survive_any_driver_call_that_fails),
        TEST(kernels_survive_any_allocation_that_fails),
        TEST(an_embedded_kernel_waits_in_its_code_where_the_gpu_can),
        TEST(own_code_is_a_dependent_where_it_promises_to_wait),
        TEST(an_embedded_image_that_the_driver_refuses_is_compiled),
        TEST(refusals_of_an_image_have_their_own_words),
        TEST(a_compiler_that_fails_without_words_is_said),
        TEST(a_launch_that_fails_says_its_shape),
        TEST(much_shared_memory_is_asked_for_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
