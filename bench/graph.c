/* SPDX-License-Identifier: MIT */
/*
 * What a graph saves: chains of 1, 20, 100 and 500 small kernels, launched one by one on a stream and
 * as one graph, through the library and by hand on the driver API, in turn in one run.
 *
 *     bench_graph [--device cuda:0] [--rounds N] [--json FILE]
 *
 * "host" is the time of the submitting calls, "end to end" until the stream is idle. The kernels are
 * empty (a count of 0), so that launches are all there is; the same graph, updated to a count that is
 * not 0, is then held against what the chain has to compute.
 */
#include "driver_calls.h"
#include "measure.h"
#include "require.h"

#include <millrace/graph.h>

#include <stdio.h>
#include <string.h>

enum { ELEMENTS = 32, ROUND_LIMIT = 1001, LONGEST = 500 };

/* ---- the driver, as far as it is called here ---- */

static struct {
    int (*set_current)(void *context);
    int (*module_load)(void **module, const void *image, unsigned, int *options, void **values);
    int (*module_unload)(void *module);
    int (*module_function)(void **function, void *module, const char *name);
    int (*launch)(void *function, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                  unsigned, void *stream, void **values, void **extra);
    int (*synchronize)(void *stream);
    int (*capture_begin)(void *stream, int mode);
    int (*capture_end)(void *stream, void **graph);
    int (*instantiate)(void **executable, void *graph, unsigned long long flags);
    int (*graph_launch)(void *executable, void *stream);
    int (*graph_destroy)(void *graph);
    int (*executable_destroy)(void *executable);
} driver;

static void driver_open(void)
{
    void *library = driver_library();
    driver_find(library, "cuCtxSetCurrent", &driver.set_current);
    driver_find(library, "cuModuleLoadDataEx", &driver.module_load);
    driver_find(library, "cuModuleUnload", &driver.module_unload);
    driver_find(library, "cuModuleGetFunction", &driver.module_function);
    driver_find(library, "cuLaunchKernel", &driver.launch);
    driver_find(library, "cuStreamSynchronize", &driver.synchronize);
    driver_find(library, "cuStreamBeginCapture_v2", &driver.capture_begin);
    driver_find(library, "cuStreamEndCapture", &driver.capture_end);
    driver_find(library, "cuGraphInstantiateWithFlags", &driver.instantiate);
    driver_find(library, "cuGraphLaunch", &driver.graph_launch);
    driver_find(library, "cuGraphDestroy", &driver.graph_destroy);
    driver_find(library, "cuGraphExecDestroy", &driver.executable_destroy);
}

/* target[i] = first[i] + second[i], for i below the count: one element a thread. */
#define KERNEL_PTX(version, target, wait)                                                          \
    ".version " version "\n"                                                                       \
    ".target " target "\n"                                                                         \
    ".address_size 64\n"                                                                           \
    ".visible .entry add_f32(.param .u64 first, .param .u64 second, .param .u64 target,\n"         \
    "    .param .u64 count)\n"                                                                     \
    "{\n"                                                                                          \
    "    .reg .pred %p<2>;\n"                                                                      \
    "    .reg .f32 %f<4>;\n"                                                                       \
    "    .reg .b32 %r<5>;\n"                                                                       \
    "    .reg .b64 %rd<10>;\n" wait "    ld.param.u64 %rd4, [count];\n"                            \
    "    mov.u32 %r1, %ctaid.x;\n"                                                                 \
    "    mov.u32 %r2, %ntid.x;\n"                                                                  \
    "    mov.u32 %r3, %tid.x;\n"                                                                   \
    "    mad.lo.u32 %r4, %r1, %r2, %r3;\n"                                                         \
    "    cvt.u64.u32 %rd5, %r4;\n"                                                                 \
    "    setp.ge.u64 %p1, %rd5, %rd4;\n"                                                           \
    "    @%p1 bra DONE;\n"                                                                         \
    "    ld.param.u64 %rd1, [first];\n"                                                            \
    "    ld.param.u64 %rd2, [second];\n"                                                           \
    "    ld.param.u64 %rd3, [target];\n"                                                           \
    "    cvta.to.global.u64 %rd1, %rd1;\n"                                                         \
    "    cvta.to.global.u64 %rd2, %rd2;\n"                                                         \
    "    cvta.to.global.u64 %rd3, %rd3;\n"                                                         \
    "    shl.b64 %rd6, %rd5, 2;\n"                                                                 \
    "    add.u64 %rd7, %rd1, %rd6;\n"                                                              \
    "    add.u64 %rd8, %rd2, %rd6;\n"                                                              \
    "    add.u64 %rd9, %rd3, %rd6;\n"                                                              \
    "    ld.global.f32 %f1, [%rd7];\n"                                                             \
    "    ld.global.f32 %f2, [%rd8];\n"                                                             \
    "    add.f32 %f3, %f1, %f2;\n"                                                                 \
    "    st.global.f32 [%rd9], %f3;\n"                                                             \
    "DONE:\n"                                                                                      \
    "    ret;\n"                                                                                   \
    "}\n"

/* By hand as it is mostly written; ours as GPUs of compute capability 9.0 can overlap it: it lets the next
 * grid be set up at once, and waits for the one before. */
static const char plain_ptx[] = KERNEL_PTX("6.4", "sm_75", "");
static const char waiting_ptx[] = KERNEL_PTX("7.8", "sm_90",
                                             "    griddepcontrol.launch_dependents;\n"
                                             "    griddepcontrol.wait;\n");

/* ---- what is measured ---- */

static struct {
    mr_device *device;
    mr_stream *stream;
    mr_kernel *kernel;
    mr_buffer *sums, *ones, *host;
    mr_graph *graph;
    mr_graph_executable *executable;
    mr_graph_cache *cache;
    uint64_t element_count; /* of every launch; 0: empty kernels */
    int length;             /* of the chain */
    int round_count;
    /* the same for the driver */
    void *native_stream, *native_function, *native_module, *native_graph, *native_executable;
    driver_address native_sums, native_ones;
} bench;

static void launch_ours(mr_stream *stream)
{
    const mr_argument arguments[] = { mr_argument_buffer(bench.sums),
                                      mr_argument_buffer(bench.ones),
                                      mr_argument_buffer(bench.sums),
                                      mr_argument_u64(bench.element_count) };
    const mr_launch shape = { .grid = { 1 }, .block = { ELEMENTS } };
    require_ok(mr_kernel_launch(stream, bench.kernel, &shape, arguments, 4));
}

static void stream_ours(void)
{
    for (int i = 0; i < bench.length; i++)
        launch_ours(bench.stream);
}

static void stream_by_hand(void)
{
    uint64_t count = bench.element_count;
    void *values[] = { &bench.native_sums, &bench.native_ones, &bench.native_sums, &count };
    for (int i = 0; i < bench.length; i++)
        REQUIRE_ZERO(driver.launch(bench.native_function, 1, 1, 1, ELEMENTS, 1, 1, 0,
                                   bench.native_stream, values, NULL));
}

static void graph_ours(void)
{
    require_ok(mr_graph_launch(bench.executable, bench.stream));
}

static void graph_by_hand(void)
{
    REQUIRE_ZERO(driver.graph_launch(bench.native_executable, bench.native_stream));
}

static mr_status submit_chain(void *unused, mr_stream *stream)
{
    (void)unused;
    for (int i = 0; i < bench.length; i++)
        launch_ours(stream);
    return MR_OK;
}

static void cache_hit(void)
{
    require_ok(mr_graph_cache_run(bench.cache, (uint64_t)bench.length, true, submit_chain, NULL));
}

static void cache_update(void)
{
    require_ok(mr_graph_cache_run(bench.cache, (uint64_t)bench.length, false, submit_chain, NULL));
}

static void capture_ours(mr_graph **out)
{
    require_ok(mr_capture_begin(bench.stream));
    stream_ours();
    require_ok(mr_capture_end(bench.stream, out));
}

static void update_ours(void)
{
    mr_graph *graph;
    capture_ours(&graph);
    require_ok(mr_graph_update(bench.executable, graph));
    mr_graph_destroy(graph);
}

/* ---- measuring ---- */

struct figure {
    double host_us, end_us;
};

static struct figure run_once(void (*submit)(void))
{
    const double began = measure_now_s();
    submit();
    const double submitted = measure_now_s();
    require_ok(mr_stream_wait(bench.stream));
    const double ended = measure_now_s();
    return (struct figure){ (submitted - began) * 1e6, (ended - began) * 1e6 };
}

enum { WAYS = 6 };
static const struct {
    const char *name;
    void (*submit)(void);
} ways[WAYS] = {
    { "stream, library", stream_ours },      { "stream, by hand", stream_by_hand },
    { "graph, library", graph_ours },        { "graph, by hand", graph_by_hand },
    { "cache, nothing changed", cache_hit }, { "cache, captured and updated", cache_update },
};

/* In turn, so that all see the same clocks and caches. */
static void measure_ways(struct figure medians[WAYS])
{
    static double host_us[WAYS][ROUND_LIMIT], end_us[WAYS][ROUND_LIMIT];
    for (int round = -3; round < bench.round_count; round++)
        for (int way = 0; way < WAYS; way++) {
            const struct figure figure = run_once(ways[way].submit);
            if (round < 0)
                continue;
            host_us[way][round] = figure.host_us;
            end_us[way][round] = figure.end_us;
        }
    for (int way = 0; way < WAYS; way++) {
        medians[way].host_us = measure_median(host_us[way], bench.round_count);
        medians[way].end_us = measure_median(end_us[way], bench.round_count);
    }
}

static double end_ratio(const struct figure medians[WAYS], int way, int base)
{
    return medians[way].end_us / medians[base].end_us;
}

static void report_chain(struct measure_report *report)
{
    struct figure medians[WAYS];
    const int length = bench.length;
    measure_ways(medians);
    for (int way = 0; way < WAYS; way++) {
        measure_report_add(report, medians[way].host_us, "us", "%d kernels, %s: host", length,
                           ways[way].name);
        measure_report_add(report, medians[way].end_us, "us", "%d kernels, %s: end to end", length,
                           ways[way].name);
    }
    const double host = medians[2].host_us / medians[1].host_us;
    const double end = end_ratio(medians, 2, 1);
    if (length == 20) {
        measure_report_target(report, host, "x", "<=", 0.03,
                              "%d kernels, graph / stream by hand: host", length);
        measure_report_target(report, end, "x", "<=", 0.26,
                              "%d kernels, graph / stream by hand: end to end", length);
    } else {
        measure_report_add(report, host, "x", "%d kernels, graph / stream by hand: host", length);
        measure_report_add(report, end, "x", "%d kernels, graph / stream by hand: end to end",
                           length);
    }
    measure_report_add(report, end_ratio(medians, 2, 0), "x",
                       "%d kernels, graph / stream, library: end to end", length);
    measure_report_add(report, end_ratio(medians, 0, 1), "x",
                       "%d kernels, stream, library / by hand: end to end", length);
    measure_report_add(report, end_ratio(medians, 3, 1), "x",
                       "%d kernels, graph / stream, by hand: end to end", length);
    measure_report_add(report, medians[2].host_us - medians[3].host_us, "us",
                       "%d kernels, graph: host time over the driver's own", length);
}

/* ---- the result ---- */

static void require_sums(const char *way)
{
    const float *sums = mr_buffer_host(bench.host);
    require_ok(mr_copy(bench.stream, bench.host, 0, bench.sums, 0, ELEMENTS * sizeof *sums));
    require_ok(mr_stream_wait(bench.stream));
    for (int i = 0; i < ELEMENTS; i++)
        measure_require(sums[i] == (float)bench.length, "%d kernels, %s: element %d is %g",
                        bench.length, way, i, (double)sums[i]);
    require_ok(mr_fill(bench.stream, bench.sums, 0, ELEMENTS * sizeof *sums, 0, 4));
    require_ok(mr_stream_wait(bench.stream));
}

/* The same graphs with kernels that do something. */
static void verify_chain(void)
{
    bench.element_count = ELEMENTS;
    update_ours();
    graph_ours();
    require_sums("graph, updated");
    cache_update();
    require_sums("cache, updated");
    cache_hit();
    require_sums("cache, nothing changed");
    stream_ours();
    require_sums("stream");
    stream_by_hand();
    require_sums("by hand");
    bench.element_count = 0;
}

/* ---- making and ending ---- */

static double since_us(double *began)
{
    const double now = measure_now_s();
    const double elapsed = (now - *began) * 1e6;
    *began = now;
    return elapsed;
}

static void make_graphs(struct measure_report *report)
{
    double began = measure_now_s();
    capture_ours(&bench.graph);
    const double capture_us = since_us(&began);
    require_ok(mr_graph_instantiate(bench.graph, &bench.executable));
    const double instantiate_us = since_us(&began);
    measure_report_add(report, capture_us, "us", "%d kernels, first capture", bench.length);
    measure_report_add(report, instantiate_us, "us", "%d kernels, instantiate", bench.length);

    REQUIRE_ZERO(driver.capture_begin(bench.native_stream, 1));
    stream_by_hand();
    REQUIRE_ZERO(driver.capture_end(bench.native_stream, &bench.native_graph));
    REQUIRE_ZERO(driver.instantiate(&bench.native_executable, bench.native_graph, 0));
}

static void end_graphs(void)
{
    mr_graph_executable_destroy(bench.executable);
    mr_graph_destroy(bench.graph);
    REQUIRE_ZERO(driver.executable_destroy(bench.native_executable));
    REQUIRE_ZERO(driver.graph_destroy(bench.native_graph));
}

static void bench_open(const char *device_name)
{
    require_ok(mr_device_open(device_name, NULL, &bench.device));
    driver_open();
    REQUIRE_ZERO(driver.set_current(mr_device_native(bench.device)));
    require_ok(mr_stream_create(bench.device, NULL, &bench.stream));
    mr_device_properties properties;
    mr_device_describe(bench.device, &properties);
    const bool can_wait = properties.compute_major >= 9;
    const mr_kernel_options options = {
        .language = MR_KERNEL_IMAGE,
        .name = "add_f32",
        .source = can_wait ? waiting_ptx : plain_ptx,
        .source_bytes = can_wait ? sizeof waiting_ptx : sizeof plain_ptx,
        .signature = "in f32 first, in f32 second, out f32 target, value u64 count",
        .is_dependent_launch = can_wait,
    };
    require_ok(mr_kernel_create(bench.device, &options, &bench.kernel));
    const size_t size_bytes = ELEMENTS * sizeof(float);
    require_ok(mr_buffer_create(bench.device, size_bytes, NULL, &bench.sums));
    require_ok(mr_buffer_create(bench.device, size_bytes, NULL, &bench.ones));
    require_ok(mr_buffer_create(bench.device, size_bytes,
                                &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &bench.host));
    const float one = 1;
    uint32_t pattern;
    memcpy(&pattern, &one, sizeof pattern);
    require_ok(mr_fill(bench.stream, bench.ones, 0, size_bytes, pattern, 4));
    require_ok(mr_fill(bench.stream, bench.sums, 0, size_bytes, 0, 4));
    require_ok(mr_stream_wait(bench.stream));
    require_ok(mr_graph_cache_create(bench.stream, NULL, &bench.cache));
    REQUIRE_ZERO(driver.module_load(&bench.native_module, plain_ptx, 0, NULL, NULL));
    REQUIRE_ZERO(driver.module_function(&bench.native_function, bench.native_module, "add_f32"));
    bench.native_stream = mr_stream_native(bench.stream);
    bench.native_sums = mr_buffer_address(bench.sums);
    bench.native_ones = mr_buffer_address(bench.ones);
}

static void bench_close(void)
{
    mr_graph_cache_destroy(bench.cache);
    REQUIRE_ZERO(driver.module_unload(bench.native_module));
    mr_kernel_destroy(bench.kernel);
    mr_buffer_destroy(bench.sums);
    mr_buffer_destroy(bench.ones);
    mr_buffer_destroy(bench.host);
    mr_stream_destroy(bench.stream);
    REQUIRE_ZERO(driver.set_current(NULL));
    require_ok(mr_device_close(bench.device));
}

int main(int argc, char **argv)
{
    static const int lengths[] = { 1, 20, 100, LONGEST };
    struct measure_report report;
    measure_report_init(&report, "graph", &argc, argv);
    bench.round_count = (int)measure_option_number(argc, argv, "rounds", 301);
    measure_require(bench.round_count > 0 && bench.round_count <= ROUND_LIMIT,
                    "1 to %d rounds, not %d", ROUND_LIMIT, bench.round_count);
    bench_open(measure_option(argc, argv, "device", "cuda:0"));
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        bench.length = lengths[i];
        make_graphs(&report);
        report_chain(&report);
        verify_chain();
        end_graphs();
    }
    mr_graph_cache_statistics statistics;
    mr_graph_cache_measure(bench.cache, &statistics);
    printf("cache: %llu hits, %llu updates, %llu refusals, %llu streamed (%s)\n",
           (unsigned long long)statistics.hits, (unsigned long long)statistics.updates,
           (unsigned long long)statistics.refusals, (unsigned long long)statistics.streamed,
           statistics.reason);
    bench_close();
    return measure_report_finish(&report);
}
