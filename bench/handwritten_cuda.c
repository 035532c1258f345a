/* SPDX-License-Identifier: MIT */
/*
 * The driver API by hand. Everything that fails ends the program: this is a measure, not a library.
 */
#include "handwritten_cuda.h"

#include "measure.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef unsigned long long CUdeviceptr;

enum { STREAM_NON_BLOCKING = 1, EVENT_NO_TIMING = 2, HOST_PORTABLE = 1, SLOT_LIMIT = 64 };

/* The driver's functions: result, name here, symbol there, parameters. */
#define DRIVER_FUNCTIONS(X)                                                                        \
    X(init, "cuInit", (unsigned))                                                                  \
    X(device_get, "cuDeviceGet", (int *, int))                                                     \
    X(context_retain, "cuDevicePrimaryCtxRetain", (CUcontext *, int))                              \
    X(context_release, "cuDevicePrimaryCtxRelease_v2", (int))                                      \
    X(context_set, "cuCtxSetCurrent", (CUcontext))                                                 \
    X(alloc, "cuMemAlloc_v2", (CUdeviceptr *, size_t))                                             \
    X(free, "cuMemFree_v2", (CUdeviceptr))                                                         \
    X(host_alloc, "cuMemHostAlloc", (void **, size_t, unsigned))                                   \
    X(host_free, "cuMemFreeHost", (void *))                                                        \
    X(stream_create, "cuStreamCreateWithPriority", (CUstream *, unsigned, int))                    \
    X(stream_destroy, "cuStreamDestroy_v2", (CUstream))                                            \
    X(stream_wait, "cuStreamWaitEvent", (CUstream, CUevent, unsigned))                             \
    X(stream_synchronize, "cuStreamSynchronize", (CUstream))                                       \
    X(event_create, "cuEventCreate", (CUevent *, unsigned))                                        \
    X(event_destroy, "cuEventDestroy_v2", (CUevent))                                               \
    X(event_record, "cuEventRecord", (CUevent, CUstream))                                          \
    X(event_synchronize, "cuEventSynchronize", (CUevent))                                          \
    X(event_elapsed, "cuEventElapsedTime", (float *, CUevent, CUevent))                            \
    X(copy_in, "cuMemcpyHtoDAsync_v2", (CUdeviceptr, const void *, size_t, CUstream))              \
    X(copy_out, "cuMemcpyDtoHAsync_v2", (void *, CUdeviceptr, size_t, CUstream))                   \
    X(copy, "cuMemcpyAsync", (CUdeviceptr, CUdeviceptr, size_t, CUstream))                         \
    X(module_load, "cuModuleLoadData", (CUmodule *, const void *))                                 \
    X(module_function, "cuModuleGetFunction", (CUfunction *, CUmodule, const char *))              \
    X(launch, "cuLaunchKernel",                                                                    \
      (CUfunction, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, CUstream, \
       void **, void **))

#define DECLARE(name, symbol, parameters) int(*name) parameters;
static struct {
    DRIVER_FUNCTIONS(DECLARE)
} driver;
static CUfunction kernel;

/* A grid-stride loop. The idle rounds end in a comparison with a number that cannot come out (inputs
 * and factor are not negative), so that no compiler can leave them out. */
const char hand_kernel_ptx[] =
    ".version 6.4\n"
    ".target sm_75\n"
    ".address_size 64\n"
    ".visible .entry " HAND_KERNEL_NAME "(.param .u64 source, .param .u64 target,\n"
    "    .param .f32 factor, .param .u64 count, .param .u32 rounds)\n"
    "{\n"
    "    .reg .pred %p<4>;\n"
    "    .reg .f32 %f<6>;\n"
    "    .reg .b32 %r<10>;\n"
    "    .reg .b64 %rd<12>;\n"
    "    ld.param.u64 %rd1, [source];\n"
    "    ld.param.u64 %rd2, [target];\n"
    "    ld.param.f32 %f1, [factor];\n"
    "    ld.param.u64 %rd3, [count];\n"
    "    ld.param.u32 %r1, [rounds];\n"
    "    cvta.to.global.u64 %rd1, %rd1;\n"
    "    cvta.to.global.u64 %rd2, %rd2;\n"
    "    mov.u32 %r2, %ctaid.x;\n"
    "    mov.u32 %r3, %ntid.x;\n"
    "    mov.u32 %r4, %tid.x;\n"
    "    mov.u32 %r5, %nctaid.x;\n"
    "    mad.lo.u32 %r6, %r2, %r3, %r4;\n"
    "    cvt.u64.u32 %rd4, %r6;\n"
    "    mul.lo.u32 %r7, %r5, %r3;\n"
    "    cvt.u64.u32 %rd5, %r7;\n"
    "EACH:\n"
    "    setp.ge.u64 %p1, %rd4, %rd3;\n"
    "    @%p1 bra DONE;\n"
    "    shl.b64 %rd6, %rd4, 2;\n"
    "    add.u64 %rd7, %rd1, %rd6;\n"
    "    ld.global.f32 %f2, [%rd7];\n"
    "    mul.f32 %f4, %f2, %f1;\n"
    "    mov.f32 %f3, %f2;\n"
    "    mov.u32 %r8, 0;\n"
    "IDLE:\n"
    "    setp.ge.u32 %p2, %r8, %r1;\n"
    "    @%p2 bra STORE;\n"
    "    fma.rn.f32 %f3, %f3, %f1, %f2;\n"
    "    add.u32 %r8, %r8, 1;\n"
    "    bra IDLE;\n"
    "STORE:\n"
    "    setp.eq.f32 %p3, %f3, 0fC640E400;\n"
    "    @%p3 mov.f32 %f4, %f3;\n"
    "    add.u64 %rd8, %rd2, %rd6;\n"
    "    st.global.f32 [%rd8], %f4;\n"
    "    add.u64 %rd4, %rd4, %rd5;\n"
    "    bra EACH;\n"
    "DONE:\n"
    "    ret;\n"
    "}\n";

static void require(int result, const char *what)
{
    measure_require(result == 0, "by hand: %s answers %d", what, result);
}

#define CALL(name, ...) require(driver.name(__VA_ARGS__), #name)

static bool open_driver(void)
{
    void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return false;
#define RESOLVE(name, symbol, parameters) *(void **)&driver.name = dlsym(library, symbol);
    DRIVER_FUNCTIONS(RESOLVE)
    return driver.init && driver.init(0) == 0;
}

bool hand_open(void)
{
    int device;
    CUcontext context;
    CUmodule module;
    if (!open_driver())
        return false;
#define REQUIRE(name, symbol, parameters)                                                          \
    measure_require(driver.name, "by hand: the driver has no %s", symbol);
    DRIVER_FUNCTIONS(REQUIRE)
    if (driver.device_get(&device, 0))
        return false;
    CALL(context_retain, &context, device);
    CALL(context_set, context);
    CALL(module_load, &module, hand_kernel_ptx);
    CALL(module_function, &kernel, module, HAND_KERNEL_NAME);
    return true;
}

void *hand_pin(size_t size_bytes)
{
    void *address = NULL;
    CALL(host_alloc, &address, size_bytes, HOST_PORTABLE);
    return address;
}

void hand_unpin(void *address)
{
    CALL(host_free, address);
}

uint32_t hand_grid(uint64_t count)
{
    const uint64_t blocks = (count + 255) / 256;
    return blocks < 2112 ? (uint32_t)blocks : 2112; /* 16 for each of an H200's multiprocessors */
}

static void launch(CUdeviceptr source, CUdeviceptr target, uint64_t count, float factor,
                   uint32_t rounds, CUstream stream)
{
    void *arguments[] = { &source, &target, &factor, &count, &rounds };
    CALL(launch, kernel, hand_grid(count), 1, 1, 256, 1, 1, 0, stream, arguments, NULL);
}

/* ---- the loop ---- */

struct loop {
    const struct hand_run *run;
    CUstream streams[4]; /* HAND_STAGES: in, kernel, out */
    CUdeviceptr in[SLOT_LIMIT], out[SLOT_LIMIT];
    CUevent arrived[SLOT_LIMIT], computed[SLOT_LIMIT], left[SLOT_LIMIT];
};

static void loop_init(struct loop *loop, const struct hand_run *run)
{
    measure_require(run->slot_count > 0 && run->slot_count <= SLOT_LIMIT, "by hand: slot count");
    measure_require(run->copy_bytes % run->item_bytes == 0, "by hand: copy_bytes");
    loop->run = run;
    for (int i = 0; i < 4; i++)
        CALL(stream_create, &loop->streams[i], STREAM_NON_BLOCKING, 0);
    for (uint32_t i = 0; i < run->slot_count; i++) {
        CALL(alloc, &loop->in[i], run->copy_bytes);
        CALL(alloc, &loop->out[i], run->copy_bytes);
        CALL(event_create, &loop->arrived[i], EVENT_NO_TIMING);
        CALL(event_create, &loop->computed[i], EVENT_NO_TIMING);
        CALL(event_create, &loop->left[i], EVENT_NO_TIMING);
    }
}

static void loop_fini(struct loop *loop)
{
    for (uint32_t i = 0; i < loop->run->slot_count; i++) {
        CALL(free, loop->in[i]);
        CALL(free, loop->out[i]);
        CALL(event_destroy, loop->arrived[i]);
        CALL(event_destroy, loop->computed[i]);
        CALL(event_destroy, loop->left[i]);
    }
    for (int i = 0; i < 4; i++)
        CALL(stream_destroy, loop->streams[i]);
}

static void launch_items(const struct loop *loop, uint32_t slot, size_t size_bytes, CUstream stream)
{
    const struct hand_run *run = loop->run;
    for (size_t at = 0; at < size_bytes; at += run->item_bytes) {
        const size_t left = size_bytes - at;
        const size_t item = left < run->item_bytes ? left : run->item_bytes;
        launch(loop->in[slot] + at, loop->out[slot] + at, item / sizeof(float), run->factor,
               run->rounds, stream);
    }
}

/* Chunk `index` through the three streams; `is_again`: its slot was used before. */
static void step_stages(struct loop *loop, uint32_t slot, size_t offset, size_t size_bytes,
                        bool is_again)
{
    const CUstream in = loop->streams[0], compute = loop->streams[1], out = loop->streams[2];
    if (is_again)
        CALL(stream_wait, in, loop->computed[slot], 0);
    CALL(copy_in, loop->in[slot], (const char *)loop->run->source + offset, size_bytes, in);
    CALL(event_record, loop->arrived[slot], in);

    CALL(stream_wait, compute, loop->arrived[slot], 0);
    if (is_again)
        CALL(stream_wait, compute, loop->left[slot], 0);
    launch_items(loop, slot, size_bytes, compute);
    CALL(event_record, loop->computed[slot], compute);

    CALL(stream_wait, out, loop->computed[slot], 0);
    CALL(copy_out, (char *)loop->run->target + offset, loop->out[slot], size_bytes, out);
    CALL(event_record, loop->left[slot], out);
}

/* Chunk `index` through one stream; slots go round with the streams, so nothing needs an event. */
static void step_one_stream(struct loop *loop, uint32_t slot, size_t offset, size_t size_bytes,
                            CUstream stream)
{
    CALL(copy_in, loop->in[slot], (const char *)loop->run->source + offset, size_bytes, stream);
    launch_items(loop, slot, size_bytes, stream);
    CALL(copy_out, (char *)loop->run->target + offset, loop->out[slot], size_bytes, stream);
}

static double run_loop(const struct hand_run *run, uint32_t stream_count)
{
    struct loop loop;
    loop_init(&loop, run);
    const double began = measure_now_s();
    size_t index = 0;
    for (size_t offset = 0; offset < run->size_bytes; offset += run->copy_bytes, index++) {
        const size_t left = run->size_bytes - offset;
        const size_t bytes = left < run->copy_bytes ? left : run->copy_bytes;
        const uint32_t slot = (uint32_t)(index % run->slot_count);
        if (stream_count == 0)
            step_stages(&loop, slot, offset, bytes, index >= run->slot_count);
        else
            step_one_stream(&loop, (uint32_t)(index % stream_count), offset, bytes,
                            loop.streams[index % stream_count]);
    }
    for (int i = 0; i < 4; i++)
        CALL(stream_synchronize, loop.streams[i]);
    const double seconds = measure_now_s() - began;
    loop_fini(&loop);
    return seconds;
}

double hand_stream(const struct hand_run *run)
{
    return run_loop(run, run->shape == HAND_FOUR_STREAMS ? 4 : 0);
}

double hand_sequential(const struct hand_run *run)
{
    return run_loop(run, 1);
}

/* ---- limits ---- */

enum { RATE_ROUNDS = 5 };

double hand_copy_rate(const void *pinned_in, void *pinned_out, size_t size_bytes, int round_count)
{
    measure_require(round_count > 0 && round_count <= RATE_ROUNDS, "by hand: rounds");
    CUdeviceptr in, out;
    CUstream streams[2];
    double rates[RATE_ROUNDS];
    CALL(alloc, &in, size_bytes);
    CALL(alloc, &out, size_bytes);
    for (int i = 0; i < 2; i++)
        CALL(stream_create, &streams[i], STREAM_NON_BLOCKING, 0);
    for (int round = -1; round < round_count; round++) {
        const double began = measure_now_s();
        for (int i = 0; i < 2; i++) {
            if (pinned_in)
                CALL(copy_in, in, pinned_in, size_bytes, streams[0]);
            if (pinned_out)
                CALL(copy_out, pinned_out, out, size_bytes, streams[1]);
        }
        CALL(stream_synchronize, streams[0]);
        CALL(stream_synchronize, streams[1]);
        if (round >= 0)
            rates[round] = 2 * (double)size_bytes / (measure_now_s() - began);
    }
    for (int i = 0; i < 2; i++)
        CALL(stream_destroy, streams[i]);
    CALL(free, in);
    CALL(free, out);
    return measure_median(rates, round_count);
}

/* ---- several devices, both ways ---- */

enum { BOTH_DEPTH = 8 }; /* chunks each way that a device has queued */

struct both_device {
    const struct hand_both_ways *run;
    pthread_barrier_t *begin;
    uint32_t index;
    double rate; /* bytes per second each way */
    CUstream streams[2];
    CUdeviceptr in[BOTH_DEPTH], out[BOTH_DEPTH];
    CUevent arrived[BOTH_DEPTH], left[BOTH_DEPTH];
};

static void both_init(struct both_device *device)
{
    const size_t bytes = device->run->chunk_bytes;
    for (int i = 0; i < 2; i++)
        CALL(stream_create, &device->streams[i], STREAM_NON_BLOCKING, 0);
    for (int i = 0; i < BOTH_DEPTH; i++) {
        CALL(alloc, &device->in[i], bytes);
        CALL(alloc, &device->out[i], bytes);
        CALL(event_create, &device->arrived[i], EVENT_NO_TIMING);
        CALL(event_create, &device->left[i], EVENT_NO_TIMING);
    }
}

static void both_fini(struct both_device *device)
{
    for (int i = 0; i < BOTH_DEPTH; i++) {
        CALL(free, device->in[i]);
        CALL(free, device->out[i]);
        CALL(event_destroy, device->arrived[i]);
        CALL(event_destroy, device->left[i]);
    }
    for (int i = 0; i < 2; i++)
        CALL(stream_destroy, device->streams[i]);
}

static void both_loop(struct both_device *device)
{
    const struct hand_both_ways *run = device->run;
    const size_t chunks = run->size_bytes / run->chunk_bytes, bytes = run->chunk_bytes;
    const double began = measure_now_s();
    size_t count = 0;
    for (; measure_now_s() < began + run->seconds; count++) {
        const size_t at = (device->index + count * run->device_count) % chunks * bytes;
        const size_t slot = count % BOTH_DEPTH;
        if (count >= BOTH_DEPTH) {
            CALL(event_synchronize, device->arrived[slot]);
            CALL(event_synchronize, device->left[slot]);
        }
        CALL(copy, device->in[slot], (CUdeviceptr)(run->source + at), bytes, device->streams[0]);
        CALL(event_record, device->arrived[slot], device->streams[0]);
        CALL(copy, (CUdeviceptr)(run->target + at), device->out[slot], bytes, device->streams[1]);
        CALL(event_record, device->left[slot], device->streams[1]);
    }
    for (int i = 0; i < 2; i++)
        CALL(stream_synchronize, device->streams[i]);
    device->rate = (double)count * (double)bytes / (measure_now_s() - began);
}

static void *both_main(void *context)
{
    struct both_device *device = context;
    CUcontext primary;
    int id;
    CALL(device_get, &id, (int)device->index);
    CALL(context_retain, &primary, id);
    CALL(context_set, primary);
    both_init(device);
    pthread_barrier_wait(device->begin);
    both_loop(device);
    pthread_barrier_wait(device->begin);
    both_fini(device);
    CALL(context_set, NULL);
    CALL(context_release, id);
    return NULL;
}

double hand_both_ways(const struct hand_both_ways *run, double *rates)
{
    enum { DEVICE_LIMIT = 16 };
    static struct both_device devices[DEVICE_LIMIT];
    pthread_t threads[DEVICE_LIMIT];
    pthread_barrier_t begin;
    double sum = 0;
    measure_require(run->device_count > 0 && run->device_count <= DEVICE_LIMIT,
                    "by hand: device count");
    measure_require(driver.init || open_driver(), "by hand: no driver");
    require(pthread_barrier_init(&begin, NULL, run->device_count), "pthread_barrier_init");
    for (uint32_t i = 0; i < run->device_count; i++) {
        devices[i] = (struct both_device){ .run = run, .begin = &begin, .index = i };
        require(pthread_create(&threads[i], NULL, both_main, &devices[i]), "pthread_create");
    }
    for (uint32_t i = 0; i < run->device_count; i++) {
        pthread_join(threads[i], NULL);
        rates[i] = devices[i].rate;
        sum += rates[i];
    }
    pthread_barrier_destroy(&begin);
    return sum;
}

double hand_kernel_seconds(uint64_t count, uint32_t rounds)
{
    CUdeviceptr memory;
    CUstream stream;
    CUevent start, end;
    double seconds[RATE_ROUNDS];
    CALL(alloc, &memory, count * sizeof(float) * 2);
    CALL(stream_create, &stream, STREAM_NON_BLOCKING, 0);
    CALL(event_create, &start, 0);
    CALL(event_create, &end, 0);
    for (int round = -1; round < RATE_ROUNDS; round++) {
        float milliseconds;
        CALL(event_record, start, stream);
        launch(memory, memory + count * sizeof(float), count, 1.5f, rounds, stream);
        CALL(event_record, end, stream);
        CALL(stream_synchronize, stream);
        CALL(event_elapsed, &milliseconds, start, end);
        if (round >= 0)
            seconds[round] = milliseconds * 1e-3;
    }
    CALL(event_destroy, start);
    CALL(event_destroy, end);
    CALL(stream_destroy, stream);
    CALL(free, memory);
    return measure_median(seconds, RATE_ROUNDS);
}
