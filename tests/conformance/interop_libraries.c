/* SPDX-License-Identifier: MIT */
/*
 * cuBLAS and cuFFT on our streams: a matrix product as a stage of a pipeline and a Fourier transform as
 * a task of a balancer, each against the same computed on the host. The libraries are found at run
 * time, with prototypes of our own; where they are not, or where there is no GPU, the test is skipped
 * in words.
 *
 *     conformance_interop_libraries --backend cuda
 *
 * Put their folders on LD_LIBRARY_PATH where the system does not know them.
 */
#include "support/driver.h"
#include "support/suite.h"

#include <millrace/balancer.h>
#include <millrace/pipeline.h>

#include <math.h>
#include <stdlib.h>

enum { SKIPPED = 77, FORWARD = -1, COMPLEX = 0x29 };

static struct driver driver; /* for its context: the libraries use the current one */

static void skip(const char *words)
{
    printf("skipped: %s\n", words);
    fflush(stdout);
    exit(SKIPPED);
}

static void *open_library(const char *const *names)
{
    for (; *names; names++) {
        void *library = dlopen(*names, RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
    }
    return NULL;
}

static void *symbol_of(void *library, const char *name)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        CHECK_FAIL("the library has no %s", name);
    return symbol;
}

/* ---- cuBLAS in a stage ---- */

enum { ITEMS = 40, SIDE = 96, MATRIX_BYTES = SIDE * SIDE * sizeof(float) };

static struct {
    void *library, *handle;
    int (*create)(void **handle);
    int (*destroy)(void *handle);
    int (*set_stream)(void *handle, void *stream);
    int (*multiply)(void *handle, int transpose_a, int transpose_b, int m, int n, int k,
                    const float *alpha, const float *a, int a_pitch, const float *b, int b_pitch,
                    const float *beta, float *c, int c_pitch);
} blas;

static bool blas_find(void)
{
    static const char *const names[] = { "libcublas.so.13", "libcublas.so.12", "libcublas.so.11",
                                         "libcublas.so", NULL };
    if (!blas.library)
        blas.library = open_library(names);
    return blas.library != NULL;
}

static void blas_open(void)
{
    *(void **)&blas.create = symbol_of(blas.library, "cublasCreate_v2");
    *(void **)&blas.destroy = symbol_of(blas.library, "cublasDestroy_v2");
    *(void **)&blas.set_stream = symbol_of(blas.library, "cublasSetStream_v2");
    *(void **)&blas.multiply = symbol_of(blas.library, "cublasSgemm_v2");
    driver_enter(&driver);
    CHECK_EQ(0, blas.create(&blas.handle));
    driver_leave(&driver);
}

/* Small whole numbers: products and sums are exact in any order and any mode of the library. */
static float element_of(uint64_t item, int i)
{
    return (float)((int)((item * 31 + (uint64_t)i * 7) % 7) - 3);
}

static mr_status make_matrix(void *context, mr_source_item *item)
{
    (void)context;
    if (item->index == ITEMS)
        return MR_END;
    for (int i = 0; i < SIDE * SIDE; i++)
        ((float *)item->data)[i] = element_of(item->index + 1, i);
    item->size_bytes = MATRIX_BYTES;
    return MR_OK;
}

/* output = input * weights, by rows; the library thinks in columns, so the factors change places. */
static mr_status multiply_item(void *context, mr_stage_call *call)
{
    mr_buffer *weights = context;
    const mr_parcel_view *in = &call->inputs[0], *out = call->output;
    const float one = 1, zero = 0;
    driver_enter(&driver);
    int failure = blas.set_stream(blas.handle, mr_stream_native(call->stream));
    if (!failure)
        failure = blas.multiply(
            blas.handle, 0, 0, SIDE, SIDE, SIDE, &one,
            (const float *)(uintptr_t)mr_buffer_address(weights), SIDE,
            (const float *)(uintptr_t)(mr_buffer_address(in->buffer) + in->offset), SIDE, &zero,
            (float *)(uintptr_t)(mr_buffer_address(out->buffer) + out->offset), SIDE);
    driver_leave(&driver);
    if (failure)
        return mr_error_set(MR_E_CALLBACK, "cuBLAS answered %d", failure);
    mr_stream_touch(call->stream);
    return mr_buffer_touch(weights, call->stream);
}

static mr_status check_product(void *context, const mr_sink_item *item)
{
    const float *product = item->data;
    for (int row = 0; row < SIDE; row += 5) {
        for (int column = 0; column < SIDE; column++) {
            float sum = 0;
            for (int k = 0; k < SIDE; k++)
                sum +=
                    element_of(item->index + 1, row * SIDE + k) * element_of(0, k * SIDE + column);
            CHECK(product[row * SIDE + column] == sum);
        }
    }
    ++*(int *)context;
    return MR_OK;
}

static mr_buffer *make_weights(mr_device *device)
{
    mr_stream *stream;
    mr_buffer *weights, *host;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create(device, MATRIX_BYTES, NULL, &weights));
    CHECK_OK(mr_buffer_create(device, MATRIX_BYTES,
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &host));
    for (int i = 0; i < SIDE * SIDE; i++)
        ((float *)mr_buffer_host(host))[i] = element_of(0, i);
    CHECK_OK(mr_copy(stream, weights, 0, host, 0, MATRIX_BYTES));
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
    return weights;
}

static void cublas_multiplies_in_a_stage(mr_device *device)
{
    mr_pipeline *pipeline;
    mr_node node;
    int count = 0;
    if (!blas_find()) {
        printf("    skipped: no libcublas.so; put its folder on LD_LIBRARY_PATH\n");
        return;
    }
    CHECK(driver_open(&driver, device));
    blas_open();
    mr_buffer *weights = make_weights(device);
    CHECK_OK(mr_pipeline_create(NULL, &pipeline));
    CHECK_OK(mr_pipeline_add_source(
        pipeline, &(mr_source_options){ .next = make_matrix, .item_bytes = MATRIX_BYTES }, &node));
    CHECK_OK(mr_pipeline_add_stage(
        pipeline,
        &(mr_stage_options){
            .name = "cuBLAS", .device = device, .submit = multiply_item, .context = weights },
        &node));
    CHECK_OK(mr_pipeline_add_sink(
        pipeline, &(mr_sink_options){ .take = check_product, .context = &count }, &node));
    CHECK_OK(mr_pipeline_run(pipeline));
    CHECK_EQ(ITEMS, count);
    printf("    %d products of %d x %d are as on the host\n", ITEMS, SIDE, SIDE);
    mr_pipeline_destroy(pipeline);
    mr_buffer_destroy(weights);
    driver_enter(&driver);
    CHECK_EQ(0, blas.destroy(blas.handle));
    driver_leave(&driver);
    driver_close(&driver);
}

/* ---- cuFFT in tasks ---- */

enum { TASKS = 64, WORKERS = 3, POINTS = 256, SIGNAL_BYTES = POINTS * 2 * sizeof(float) };

static struct {
    void *library;
    int plans[WORKERS]; /* a plan has one stream and one work area: one for each worker */
    int (*plan)(int *plan, int points, int type, int batch);
    int (*destroy)(int plan);
    int (*set_stream)(int plan, void *stream);
    int (*execute)(int plan, void *source, void *target, int direction);
} fft;

static bool fft_find(void)
{
    static const char *const names[] = { "libcufft.so.12", "libcufft.so.11", "libcufft.so.10",
                                         "libcufft.so", NULL };
    if (!fft.library)
        fft.library = open_library(names);
    return fft.library != NULL;
}

static void fft_open(void)
{
    *(void **)&fft.plan = symbol_of(fft.library, "cufftPlan1d");
    *(void **)&fft.destroy = symbol_of(fft.library, "cufftDestroy");
    *(void **)&fft.set_stream = symbol_of(fft.library, "cufftSetStream");
    *(void **)&fft.execute = symbol_of(fft.library, "cufftExecC2C");
    driver_enter(&driver);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(0, fft.plan(&fft.plans[i], POINTS, COMPLEX, 1));
    driver_leave(&driver);
}

struct task {
    mr_buffer *host, *there;
    float signal[POINTS * 2];
};

static mr_status transform(void *context, const mr_task_call *call)
{
    const struct task *task = context;
    mr_status status = mr_copy(call->stream, task->there, 0, task->host, 0, SIGNAL_BYTES);
    if (status)
        return status;
    void *signal = (void *)(uintptr_t)mr_buffer_address(task->there);
    const int plan = fft.plans[call->worker];
    driver_enter(&driver);
    int failure = fft.set_stream(plan, mr_stream_native(call->stream));
    if (!failure)
        failure = fft.execute(plan, signal, signal, FORWARD);
    driver_leave(&driver);
    if (failure)
        return mr_error_set(MR_E_CALLBACK, "cuFFT answered %d", failure);
    mr_stream_touch(call->stream);
    return mr_copy(call->stream, task->host, 0, task->there, 0, SIGNAL_BYTES);
}

static void expect_spectrum(const struct task *task)
{
    const float *found = mr_buffer_host(task->host);
    for (int k = 0; k < POINTS; k++) {
        double real = 0, imaginary = 0;
        for (int i = 0; i < POINTS; i++) {
            const double angle = -2 * 3.14159265358979323846 * (double)(i * k % POINTS) / POINTS;
            const double x = task->signal[2 * i], y = task->signal[2 * i + 1];
            real += x * cos(angle) - y * sin(angle);
            imaginary += x * sin(angle) + y * cos(angle);
        }
        if (fabs(found[2 * k] - real) > 1e-3 || fabs(found[2 * k + 1] - imaginary) > 1e-3)
            CHECK_FAIL("point %d: expected %g%+gi, got %g%+gi", k, real, imaginary,
                       (double)found[2 * k], (double)found[2 * k + 1]);
    }
}

static void make_task(mr_device *device, struct task *task, int number)
{
    for (int i = 0; i < POINTS * 2; i++)
        task->signal[i] = (float)((i * 37 + number * 11) % 101) / 101 - 0.5f;
    CHECK_OK(mr_buffer_create(device, SIGNAL_BYTES, NULL, &task->there));
    CHECK_OK(mr_buffer_create(device, SIGNAL_BYTES,
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &task->host));
    memcpy(mr_buffer_host(task->host), task->signal, SIGNAL_BYTES);
}

static void cufft_transforms_in_tasks(mr_device *device)
{
    static struct task tasks[TASKS];
    mr_balancer *balancer;
    const mr_worker_options workers = { .device = device, .stream_count = WORKERS };
    if (!fft_find()) {
        printf("    skipped: no libcufft.so; put its folder on LD_LIBRARY_PATH\n");
        return;
    }
    CHECK(driver_open(&driver, device));
    fft_open();
    CHECK_OK(mr_balancer_create(&(mr_balancer_options){ .workers = &workers, .worker_count = 1 },
                                &balancer));
    for (int i = 0; i < TASKS; i++) {
        make_task(device, &tasks[i], i);
        CHECK_OK(mr_balancer_submit(balancer,
                                    &(mr_task){ .submit = transform, .context = &tasks[i] }, NULL));
    }
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    for (int i = 0; i < TASKS; i++) {
        expect_spectrum(&tasks[i]);
        mr_buffer_destroy(tasks[i].there);
        mr_buffer_destroy(tasks[i].host);
    }
    printf("    %d transforms of %d points are as on the host\n", TASKS, POINTS);
    mr_balancer_destroy(balancer);
    driver_enter(&driver);
    for (int i = 0; i < WORKERS; i++)
        CHECK_EQ(0, fft.destroy(fft.plans[i]));
    driver_leave(&driver);
    driver_close(&driver);
}

/* ---- the program ---- */

/* The libraries ask the driver for more than a stand-in has. */
static void skip_unless_possible(const char *name)
{
    mr_device *device;
    mr_device_properties properties;
    if (mr_device_open(name, NULL, &device))
        skip(mr_last_error());
    mr_device_describe(device, &properties);
    const bool is_gpu = mr_device_native(device) != NULL;
    CHECK_OK(mr_device_close(device));
    if (!is_gpu)
        skip("cuBLAS and cuFFT work on GPUs only");
    if (strstr(properties.name, "Stand-in"))
        skip("cuBLAS and cuFFT need a GPU, not a stand-in for one");
    const bool has_blas = blas_find(), has_fft = fft_find();
    if (!has_blas && !has_fft)
        skip("neither libcublas.so nor libcufft.so is here; put their folders on LD_LIBRARY_PATH");
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(cublas_multiplies_in_a_stage),
        SUITE_TEST(cufft_transforms_in_tasks),
    };
    if (argc >= 3)
        skip_unless_possible(argv[2]);
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
