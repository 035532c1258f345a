/* SPDX-License-Identifier: MIT */
/*
 * Kernels made at run time, from every language the backend runs, and launches with good and bad
 * arguments. The embedded ones: embedded.c.
 */
#include "support/kernel_run.h"
#include "support/make.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <stdbool.h>
#include <unistd.h>

static char cache_folder[] = "/tmp/millrace-kernel-XXXXXX";

static bool is_cpu(mr_device *device)
{
    return strcmp(mr_device_id(device), "cpu") == 0;
}

/* NULL, with the reason on standard output, when there is no compiler for this backend here. */
static mr_kernel *make_portable(mr_device *device, const char *name, const char *source)
{
    mr_kernel *kernel;
    const mr_status status =
        mr_kernel_create(device, &(mr_kernel_options){ .name = name, .source = source }, &kernel);
    if (status == MR_E_UNAVAILABLE)
        printf("  left out: %s\n", mr_last_error());
    else
        CHECK_OK(status);
    return kernel;
}

/* ---- portable source ---- */

#define INCLUDE "#include <millrace/portable.h>\n"

static const char many_source[] = INCLUDE
    "MR_FUNCTION double twice(double x)\n"
    "{\n"
    "    return x + x;\n"
    "}\n"
    "MR_KERNEL(many, MR_IN(uint8_t, a), MR_IN(int8_t, b), MR_IN(uint16_t, c), MR_IN(int16_t, d),\n"
    "          MR_IN(uint32_t, e), MR_IN(int32_t, f), MR_IN(uint64_t, g), MR_IN(int64_t, h),\n"
    "          MR_IN(float, k), MR_INOUT(double, sum), MR_VALUE(uint8_t, l), MR_VALUE(int16_t, "
    "m),\n"
    "          MR_VALUE(int64_t, n), MR_VALUE(float, o), MR_VALUE(double, p),\n"
    "          MR_VALUE(uint16_t, q), MR_VALUE(int8_t, r), MR_VALUE(int32_t, s),\n"
    "          MR_VALUE(uint64_t, t), MR_VALUE(float, u), MR_VALUE(double, v),\n"
    "          MR_VALUE(uint8_t, w), MR_VALUE(uint64_t, x), MR_VALUE(uint32_t, count))\n"
    "{\n"
    "    MR_EACH (i, count)\n"
    "        sum[i] += a[i] + b[i] + c[i] + d[i] + (double)e[i] + f[i] + (double)g[i] +\n"
    "                  (double)h[i] + k[i] + l + m + (double)n + o + twice(p) + q + r + s +\n"
    "                  (double)t + u + v + w + (double)x;\n"
    "}\n";

static void portable_source_takes_many_parameters_of_every_type(mr_device *device)
{
    enum { COUNT = 1000 };
    mr_kernel *kernel = make_portable(device, "many", many_source);
    if (!kernel)
        return;
    mr_stream *stream = make_stream(device);
    static uint8_t a[COUNT];
    static int8_t b[COUNT];
    static uint16_t c[COUNT];
    static int16_t d[COUNT];
    static uint32_t e[COUNT];
    static int32_t f[COUNT];
    static uint64_t g[COUNT];
    static int64_t h[COUNT];
    static float k[COUNT];
    static double sum[COUNT];
    for (int i = 0; i < COUNT; i++) {
        a[i] = (uint8_t)i, b[i] = (int8_t)-i, c[i] = (uint16_t)(i * 65), d[i] = (int16_t)(i * -30);
        e[i] = (uint32_t)i << 20, f[i] = -i * 1000, g[i] = (uint64_t)i << 33,
        h[i] = -((int64_t)i << 34);
        k[i] = (float)i / 4, sum[i] = i;
    }
    const struct run_argument arguments[] = { RUN_IN(a, sizeof a),
                                              RUN_IN(b, sizeof b),
                                              RUN_IN(c, sizeof c),
                                              RUN_IN(d, sizeof d),
                                              RUN_IN(e, sizeof e),
                                              RUN_IN(f, sizeof f),
                                              RUN_IN(g, sizeof g),
                                              RUN_IN(h, sizeof h),
                                              RUN_IN(k, sizeof k),
                                              RUN_INOUT(sum, sizeof sum),
                                              RUN_NUMBER(mr_argument_u64(255)),
                                              RUN_NUMBER(mr_argument_i64(-32768)),
                                              RUN_NUMBER(mr_argument_i64(-1)),
                                              RUN_NUMBER(mr_argument_f64(0.5)),
                                              RUN_NUMBER(mr_argument_f32(0.25f)),
                                              RUN_NUMBER(mr_argument_u64(60000)),
                                              RUN_NUMBER(mr_argument_i64(-7)),
                                              RUN_NUMBER(mr_argument_i64(-70000)),
                                              RUN_NUMBER(mr_argument_u64(1ull << 40)),
                                              RUN_NUMBER(mr_argument_f32(1.5f)),
                                              RUN_NUMBER(mr_argument_f64(2.25)),
                                              RUN_NUMBER(mr_argument_u64(3)),
                                              RUN_NUMBER(mr_argument_u64(5)),
                                              RUN_NUMBER(mr_argument_i64(COUNT)) };
    enum { MANY = sizeof arguments / sizeof *arguments };
    _Static_assert(MANY == MR_PARAMETER_LIMIT, "as many as may");
    kernel_run(stream, kernel, &(mr_launch){ .count = COUNT }, arguments, MANY);

    for (int i = 0; i < COUNT; i++) {
        const double expected = i + a[i] + b[i] + c[i] + d[i] + (double)e[i] + f[i] + (double)g[i] +
                                (double)h[i] + (double)k[i] + 255 - 32768 - 1 + 0.5 + 0.5 + 60000 -
                                7 - 70000 + 1099511627776.0 + 1.5 + 2.25 + 3 + 5;
        CHECK(sum[i] == expected);
    }
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static const char touch_source[] =
    INCLUDE "#undef MR_KERNEL_BOUNDS\n"
            "#define MR_KERNEL_BOUNDS MR_BOUNDS(1024, 2)\n"
            "MR_KERNEL(touch, MR_INOUT(uint32_t, data), MR_VALUE(uint64_t, count))\n"
            "{\n"
            "    MR_EACH (i, count)\n"
            "        data[i] += (uint32_t)i + 1;\n"
            "}\n";

static void every_iteration_runs_once_whatever_the_shape(mr_device *device)
{
    enum { LIMIT = 200003 };
    static const mr_launch shapes[] = {
        { .count = 1 },
        { .count = LIMIT, .slice_limit = 1 },
        { .count = LIMIT, .slice_limit = 7 },
        { .count = LIMIT, .grid = { 1 } },
        { .count = LIMIT, .grid = { 3 }, .block = { 32 } },
        { .count = LIMIT, .block = { 1 } },
        { .count = LIMIT, .block = { 1024, 1, 1 }, .grid = { 500, 1, 1 } },
        { .count = 7, .grid = { 1000 } },
    };
    static const uint64_t counts[] = { 0, 1, 255, 256, 257, LIMIT };
    mr_kernel *kernel = make_portable(device, "touch", touch_source);
    if (!kernel)
        return;
    mr_stream *stream = make_stream(device);
    static uint32_t data[LIMIT];
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            memset(data, 0, sizeof data);
            const struct run_argument arguments[] = { RUN_INOUT(data, counts[c] * 4),
                                                      RUN_NUMBER(mr_argument_u64(counts[c])) };
            kernel_run(stream, kernel, &shapes[s], arguments, 2);
            for (uint64_t i = 0; i < counts[c]; i++)
                CHECK_EQ(i + 1, data[i]);
        }
    }
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static void a_launch_of_nothing_does_nothing(mr_device *device)
{
    mr_kernel *kernel = make_portable(device, "touch", touch_source);
    if (!kernel)
        return;
    mr_stream *stream = make_stream(device);
    uint32_t data[4] = { 5, 6, 7, 8 };
    const struct run_argument arguments[] = { RUN_INOUT(data, sizeof data),
                                              RUN_NUMBER(mr_argument_u64(4)) };
    kernel_run(stream, kernel, &(mr_launch){ .count = 0 }, arguments, 2);

    CHECK(data[0] == 5 && data[1] == 6 && data[2] == 7 && data[3] == 8);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static const char folds_source[] = INCLUDE
    "MR_GROUP_KERNEL(folds, MR_IN(uint32_t, source), MR_OUT(double, results),\n"
    "                MR_OUT(uint32_t, counts), MR_VALUE(uint64_t, rows), MR_VALUE(uint64_t, "
    "width))\n"
    "{\n"
    "    MR_GROUP_SHARED(uint32_t, bins, 4);\n"
    "    MR_GROUP_EACH (row, rows) {\n"
    "        uint32_t sum = 0, least = 0xffffffffu, most = 0;\n"
    "        uint64_t wide = 0;\n"
    "        float sum_f = 0, least_f = INFINITY, most_f = -INFINITY;\n"
    "        double sum_d = 0, least_d = INFINITY, most_d = -INFINITY;\n"
    "        MR_LANE_EACH (k, 0, 4)\n"
    "            bins[k] = 0;\n"
    "        mr_group_sync();\n"
    "        MR_LANE_EACH (i, row * width, (row + 1) * width) {\n"
    "            const uint32_t x = source[i];\n"
    "            sum += x, wide += (uint64_t)x << 32;\n"
    "            sum_f += (float)x, sum_d += x;\n"
    "            least = MR_MIN(x, least), most = MR_MAX(x, most);\n"
    "            least_f = MR_MIN((float)x, least_f), most_f = MR_MAX((float)x, most_f);\n"
    "            least_d = MR_MIN((double)x, least_d), most_d = MR_MAX((double)x, most_d);\n"
    "            mr_group_add_u32(&bins[x % 4], 1);\n"
    "            mr_atomic_add_u32(&counts[row * 4 + x % 4], 1);\n"
    "        }\n"
    "        mr_group_sync();\n"
    "        sum = mr_group_sum_u32(sum), wide = mr_group_sum_u64(wide);\n"
    "        sum_f = mr_group_sum_f32(sum_f), sum_d = mr_group_sum_f64(sum_d);\n"
    "        least = mr_group_min_u32(least), most = mr_group_max_u32(most);\n"
    "        least_f = mr_group_min_f32(least_f), most_f = mr_group_max_f32(most_f);\n"
    "        least_d = mr_group_min_f64(least_d), most_d = mr_group_max_f64(most_d);\n"
    "        if (mr_group_is_leader()) {\n"
    "            double *out = results + row * 14;\n"
    "            out[0] = sum, out[1] = (double)(wide >> 32), out[2] = sum_f, out[3] = sum_d;\n"
    "            out[4] = least, out[5] = most, out[6] = least_f, out[7] = most_f;\n"
    "            out[8] = least_d, out[9] = most_d;\n"
    "            for (int k = 0; k < 4; k++)\n"
    "                out[10 + k] = bins[k];\n"
    "        }\n"
    "        mr_group_sync();\n"
    "    }\n"
    "}\n";

static void check_folds(mr_stream *stream, mr_kernel *kernel, const mr_launch *launch, size_t rows,
                        size_t width)
{
    struct random random = { 3 + width };
    uint32_t *source = calloc(rows * width + 1, 4), *counts = calloc(rows * 4, 4);
    double *results = calloc(rows * 14, 8);
    CHECK(source && results && counts);
    for (size_t i = 0; i < rows * width; i++)
        source[i] = (uint32_t)random_below(&random, 4000);
    const struct run_argument arguments[] = { RUN_IN(source, rows * width * 4),
                                              RUN_OUT(results, rows * 14 * 8),
                                              RUN_INOUT(counts, rows * 4 * 4),
                                              RUN_NUMBER(mr_argument_u64(rows)),
                                              RUN_NUMBER(mr_argument_u64(width)) };
    kernel_run(stream, kernel, launch, arguments, 5);

    for (size_t row = 0; row < rows; row++) {
        const double *out = results + row * 14;
        uint32_t sum = 0, least = UINT32_MAX, most = 0, bins[4] = { 0 };
        for (size_t i = row * width; i < (row + 1) * width; i++) {
            sum += source[i];
            least = source[i] < least ? source[i] : least;
            most = source[i] > most ? source[i] : most;
            bins[source[i] % 4]++;
        }
        for (int k = 0; k < 4; k++)
            CHECK(out[k] == sum && out[10 + k] == bins[k] &&
                  counts[row * 4 + (size_t)k] == bins[k]);
        CHECK(out[4] == least && out[5] == most);
        for (int k = 6; k < 10 && width; k++)
            CHECK(out[k] == (k % 2 ? most : least));
    }
    free(source);
    free(results);
    free(counts);
}

static void groups_fold_what_their_lanes_found(mr_device *device)
{
    mr_kernel *kernel = make_portable(device, "folds", folds_source);
    if (!kernel)
        return;
    mr_stream *stream = make_stream(device);
    static const uint32_t blocks[] = { 0, 32, 96, 256, 1024 };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        check_folds(stream, kernel, &(mr_launch){ .count = 40, .block = { blocks[i] } }, 40, 1000);
        check_folds(stream, kernel, &(mr_launch){ .count = 9, .block = { blocks[i] } }, 9, 17);
        check_folds(stream, kernel,
                    &(mr_launch){ .count = 70, .block = { blocks[i] }, .grid = { 3 } }, 70, 129);
    }
    if (!is_cpu(device)) {
        mr_buffer *buffer;
        CHECK_OK(mr_buffer_create(device, 4096, NULL, &buffer));
        const mr_argument arguments[] = { mr_argument_buffer(buffer), mr_argument_buffer(buffer),
                                          mr_argument_buffer(buffer), mr_argument_u64(1),
                                          mr_argument_u64(1) };
        CHECK_STATUS(MR_E_INVALID,
                     mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 1, .block = { 100 } },
                                      arguments, 5));
        CHECK_SAYS("100 threads are not a multiple of 32", mr_last_error());
        mr_buffer_destroy(buffer);
    }
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

/* ---- signatures ---- */

static void a_signature_given_must_be_that_of_the_source(mr_device *device)
{
    mr_kernel *kernel = make_portable(device, "touch", touch_source);
    if (!kernel)
        return;
    CHECK_EQ(2, mr_kernel_parameter_count(kernel));
    const mr_parameter *parameters = mr_kernel_parameters(kernel);
    CHECK(parameters[0].access == MR_ACCESS_INOUT && parameters[0].type == MR_TYPE_U32);
    CHECK(strcmp(parameters[1].name, "count") == 0);
    mr_kernel_destroy(kernel);

    static const struct {
        const char *signature;
        mr_status status;
        const char *words;
    } cases[] = {
        { "inout u32 data, value u64 count", MR_OK, "" },
        { "  inout uint32 data ,value uint64_t count ", MR_OK, "" },
        { "inout u32 data", MR_E_SIGNATURE, "declares 2 parameters, the signature given has 1" },
        { "inout f32 data, value u64 count", MR_E_SIGNATURE,
          "parameter 1: its source declares 'inout u32 data', the signature given has 'inout f32 "
          "data'" },
        { "inout u32 data, value u64 size", MR_E_SIGNATURE, "parameter 2" },
        { "out u32 data, value u64 count", MR_E_SIGNATURE, "parameter 1" },
        { "inout u32 data value u64 count", MR_E_FORMAT, "a comma must follow" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const mr_kernel_options options = { .name = "touch",
                                            .source = touch_source,
                                            .signature = cases[i].signature };
        CHECK_STATUS(cases[i].status, mr_kernel_create(device, &options, &kernel));
        if (cases[i].status)
            CHECK_SAYS(cases[i].words, mr_last_error());
        CHECK(!kernel == (cases[i].status != MR_OK));
        mr_kernel_destroy(kernel);
    }
}

/* ---- bad source ---- */

static void expect_refusal(mr_device *device, const mr_kernel_options *options, mr_status status,
                           const char *words)
{
    mr_kernel *kernel = (mr_kernel *)-1;
    const mr_status actual = mr_kernel_create(device, options, &kernel);
    CHECK(!kernel);
    if (actual == MR_E_UNAVAILABLE && status != MR_E_UNAVAILABLE)
        return; /* no compiler; said elsewhere */
    CHECK_STATUS(status, actual);
    CHECK_SAYS(words, mr_last_error());
}

static void compile_errors_have_file_line_and_words(mr_device *device)
{
    static const char wrong[] =
        INCLUDE "MR_KERNEL(wrong, MR_OUT(float, target), MR_VALUE(uint64_t, count))\n"
                "{\n"
                "    MR_EACH (i, count)\n"
                "        target[i] = nothing_of_that_name;\n"
                "    target[0] = nor_of_this;\n"
                "}\n";
    char path[64] = "/tmp/millrace-wrong-XXXXXX";
    const int file = mkstemp(path);
    CHECK(file >= 0);
    CHECK_EQ(sizeof wrong - 1, write(file, wrong, sizeof wrong - 1));
    close(file);
    char place[96];
    snprintf(place, sizeof place, "kernel 'wrong': %s:5:", path);

    expect_refusal(device, &(mr_kernel_options){ .name = "wrong", .path = path }, MR_E_COMPILE,
                   place);
    expect_refusal(device, &(mr_kernel_options){ .name = "wrong", .path = path }, MR_E_COMPILE,
                   "nothing_of_that_name");
    expect_refusal(device, &(mr_kernel_options){ .name = "wrong", .source = wrong }, MR_E_COMPILE,
                   "<memory>:5:");
    expect_refusal(device, &(mr_kernel_options){ .name = "wrong", .source = wrong }, MR_E_COMPILE,
                   "(the first of 2 errors)");
    unlink(path);

    expect_refusal(
        device,
        &(mr_kernel_options){ .name = "typed",
                              .source = INCLUDE "MR_KERNEL(typed, MR_VALUE(int, count))\n{\n}\n" },
        MR_E_COMPILE, "mr_parameter_cannot_be_int");
    expect_refusal(device,
                   &(mr_kernel_options){ .name = "calls",
                                         .source = INCLUDE "MR_KERNEL(calls, MR_VALUE(float, x))\n"
                                                           "{\n    nobody_home(x);\n}\n" },
                   MR_E_COMPILE, "<memory>:4:");
    expect_refusal(device, &(mr_kernel_options){ .name = "other", .source = touch_source },
                   MR_E_INVALID, "kernel 'other': <memory> has no MR_KERNEL(other, ...)");
}

static void options_are_checked_before_anything_is_made(mr_device *device)
{
    const mr_kernel_options cases[] = {
        { .source = touch_source },
        { .name = "", .source = touch_source },
        { .name = "a b", .source = touch_source },
        { .name = "1st", .source = touch_source },
        { .name = "touch" },
        { .name = "touch", .source = touch_source, .path = "/x" },
        { .name = "touch", .language = (mr_kernel_language)9, .source = touch_source },
        { .name = "touch", .language = MR_KERNEL_CUDA, .source = touch_source },
        { .name = "touch", .language = MR_KERNEL_NATIVE, .signature = "in f32 a" },
        { .name = "touch",
          .language = MR_KERNEL_NATIVE,
          .signature = "in f32 a",
          .source = touch_source },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect_refusal(device, &cases[i], MR_E_INVALID, "");
    expect_refusal(device, NULL, MR_E_INVALID, "NULL");
    expect_refusal(NULL, &cases[0], MR_E_INVALID, "NULL");

    expect_refusal(device, &(mr_kernel_options){ .name = "touch", .path = "/no/such/file.c" },
                   MR_E_IO, "/no/such/file.c: cannot be opened: No such file");
    expect_refusal(device, &(mr_kernel_options){ .name = "touch", .path = "/tmp" }, MR_E_IO,
                   "/tmp: is not a file");
    expect_refusal(device,
                   &(mr_kernel_options){ .name = "touch", .source = "a\0b", .source_bytes = 3 },
                   MR_E_FORMAT, "byte 1 is zero");
}

/* ---- other languages ---- */

static void add_native(const mr_slice *slice, void *const *arguments)
{
    const uint64_t count = *(const uint64_t *)arguments[3];
    for (uint64_t i = count * slice->index / slice->count;
         i < count * (slice->index + 1) / slice->count; i++)
        ((float *)arguments[2])[i] = ((float *)arguments[0])[i] + ((float *)arguments[1])[i];
}

#define ADD_SIGNATURE "in f32 first, in f32 second, out f32 target, value u64 count"

static void check_addition(mr_device *device, const mr_kernel_options *options,
                           const mr_launch *launch)
{
    enum { COUNT = 5000 };
    mr_kernel *kernel;
    CHECK_OK(mr_kernel_create(device, options, &kernel));
    mr_stream *stream = make_stream(device);
    static float a[COUNT], b[COUNT], sum[COUNT];
    for (int i = 0; i < COUNT; i++)
        a[i] = (float)i, b[i] = (float)(i * i);
    const struct run_argument arguments[] = { RUN_IN(a, sizeof a), RUN_IN(b, sizeof b),
                                              RUN_OUT(sum, sizeof sum),
                                              RUN_NUMBER(mr_argument_u64(COUNT)) };
    kernel_run(stream, kernel, launch, arguments, 4);
    for (int i = 0; i < COUNT; i++)
        CHECK(sum[i] == a[i] + b[i]);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

static void native_functions_run_on_the_cpu(mr_device *device)
{
    const mr_kernel_options options = { .language = MR_KERNEL_NATIVE,
                                        .name = "add_native",
                                        .signature = ADD_SIGNATURE,
                                        .function = add_native };
    if (is_cpu(device))
        check_addition(device, &options, &(mr_launch){ .count = 5000 });
    else
        expect_refusal(device, &options, MR_E_UNSUPPORTED, "runs on the CPU only");
}

static void cuda_source_runs_on_a_gpu(mr_device *device)
{
    const mr_kernel_options options = {
        .language = MR_KERNEL_CUDA,
        .name = "add_cuda",
        .signature = ADD_SIGNATURE,
        .source = "extern \"C\" __global__ void add_cuda(const float *first, const float *second,\n"
                  "                                    float *target, unsigned long long count)\n"
                  "{\n"
                  "    const unsigned long long i = blockIdx.x * blockDim.x + threadIdx.x;\n"
                  "    if (i < count)\n"
                  "        target[i] = first[i] + second[i];\n"
                  "}\n"
    };
    if (is_cpu(device)) {
        expect_refusal(device, &options, MR_E_UNSUPPORTED, "CUDA source runs on a GPU only");
        return;
    }
    mr_kernel *kernel;
    if (mr_kernel_create(device, &options, &kernel) == MR_E_UNAVAILABLE) {
        printf("  left out: %s\n", mr_last_error());
        return;
    }
    mr_kernel_destroy(kernel);
    check_addition(device, &options, &(mr_launch){ .grid = { 40 }, .block = { 128 } });

    mr_kernel_options wrong = options;
    wrong.source = "extern \"C\" __global__ void add_cuda(float *x)\n{\n    *x = y;\n}\n";
    expect_refusal(device, &wrong, MR_E_COMPILE, "<memory>:3:");
    wrong = options;
    wrong.name = "mul_cuda";
    expect_refusal(device, &wrong, MR_E_INVALID, "has no entry 'mul_cuda'");
}

/* What nvcc would make of the addition, by hand. The stand-in driver knows it by its name. */
static const char add_ptx[] =
    ".version 6.3\n.target sm_70\n.address_size 64\n"
    ".visible .entry add_f32(.param .u64 first, .param .u64 second, .param .u64 target,\n"
    "                        .param .u64 count)\n"
    "{\n"
    "    .reg .pred %p;\n    .reg .b32 %r<4>;\n    .reg .f32 %f<3>;\n    .reg .b64 %d<6>;\n"
    "    mov.u32 %r0, %ctaid.x;\n    mov.u32 %r1, %ntid.x;\n    mov.u32 %r2, %tid.x;\n"
    "    mad.lo.u32 %r3, %r0, %r1, %r2;\n    cvt.u64.u32 %d0, %r3;\n"
    "    ld.param.u64 %d1, [count];\n    setp.ge.u64 %p, %d0, %d1;\n    @%p bra DONE;\n"
    "    shl.b64 %d0, %d0, 2;\n"
    "    ld.param.u64 %d2, [first];\n    cvta.to.global.u64 %d2, %d2;\n    add.u64 %d2, %d2, %d0;\n"
    "    ld.param.u64 %d3, [second];\n    cvta.to.global.u64 %d3, %d3;\n    add.u64 %d3, %d3, "
    "%d0;\n"
    "    ld.param.u64 %d4, [target];\n    cvta.to.global.u64 %d4, %d4;\n    add.u64 %d4, %d4, "
    "%d0;\n"
    "    ld.global.f32 %f0, [%d2];\n    ld.global.f32 %f1, [%d3];\n    add.f32 %f2, %f0, %f1;\n"
    "    st.global.f32 [%d4], %f2;\n"
    "DONE:\n    ret;\n}\n";

static void images_run_on_a_gpu(mr_device *device)
{
    mr_kernel_options options = { .language = MR_KERNEL_IMAGE,
                                  .name = "add_f32",
                                  .signature = ADD_SIGNATURE,
                                  .source = add_ptx };
    if (is_cpu(device)) {
        expect_refusal(device, &options, MR_E_UNSUPPORTED, "an image runs on a GPU only");
        return;
    }
    check_addition(device, &options, &(mr_launch){ .grid = { 20 } });
    options.source_bytes = sizeof add_ptx;
    check_addition(device, &options, &(mr_launch){ .grid = { 20 } });

    options.name = "sub_f32";
    expect_refusal(device, &options, MR_E_INVALID, "has no entry 'sub_f32'");
    options.name = "add_f32";
    options.source = "no image", options.source_bytes = 0;
    expect_refusal(device, &options, MR_E_FORMAT, "neither PTX, cubin nor fatbin");
    options.source = ".version 6.3\nnonsense";
    mr_kernel *kernel;
    CHECK(mr_kernel_create(device, &options, &kernel) != MR_OK);

    unsigned char cut[128] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 };
    cut[0x28] = 200; /* the section table's place, past the end */
    options.source = (const char *)cut, options.source_bytes = sizeof cut;
    expect_refusal(device, &options, MR_E_FORMAT, "cut short");
    memset(cut + 0x28, 0xff, 8);
    expect_refusal(device, &options, MR_E_FORMAT, "cut short");
}

static void launches_of_cuda_kernels_need_a_grid(mr_device *device)
{
    const mr_kernel_options options = { .language = MR_KERNEL_IMAGE,
                                        .name = "add_f32",
                                        .signature = ADD_SIGNATURE,
                                        .source = add_ptx };
    if (is_cpu(device))
        return;
    mr_stream *stream = make_stream(device);
    mr_kernel *kernel;
    mr_buffer *buffer;
    CHECK_OK(mr_kernel_create(device, &options, &kernel));
    CHECK_OK(mr_buffer_create(device, 64, NULL, &buffer));
    const mr_argument arguments[] = { mr_argument_buffer(buffer), mr_argument_buffer(buffer),
                                      mr_argument_buffer(buffer), mr_argument_u64(0) };

    CHECK_STATUS(MR_E_INVALID,
                 mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 16 }, arguments, 4));
    CHECK_SAYS("needs a grid: set grid[0]", mr_last_error());
    CHECK_STATUS(MR_E_INVALID,
                 mr_kernel_launch(stream, kernel,
                                  &(mr_launch){ .grid = { 1 }, .block = { 512, 2, 2 } }, arguments,
                                  4));
    CHECK_SAYS("a block of 512 x 2 x 2 threads", mr_last_error());
    CHECK_OK(mr_kernel_launch(stream, kernel, &(mr_launch){ .grid = { 1 } }, arguments, 4));
    CHECK_OK(mr_stream_wait(stream));
    mr_buffer_destroy(buffer);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(portable_source_takes_many_parameters_of_every_type),
        SUITE_TEST(every_iteration_runs_once_whatever_the_shape),
        SUITE_TEST(a_launch_of_nothing_does_nothing),
        SUITE_TEST(groups_fold_what_their_lanes_found),
        SUITE_TEST(a_signature_given_must_be_that_of_the_source),
        SUITE_TEST(compile_errors_have_file_line_and_words),
        SUITE_TEST(options_are_checked_before_anything_is_made),
        SUITE_TEST(native_functions_run_on_the_cpu),
        SUITE_TEST(cuda_source_runs_on_a_gpu),
        SUITE_TEST(images_run_on_a_gpu),
        SUITE_TEST(launches_of_cuda_kernels_need_a_grid),
    };
    CHECK(mkdtemp(cache_folder));
    CHECK_OK(mr_kernel_cache_set(cache_folder));
    const int result = suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", cache_folder);
    if (system(command))
        printf("%s stays behind\n", cache_folder);
    return result;
}
