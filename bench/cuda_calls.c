/* SPDX-License-Identifier: MIT */
/*
 * What the library adds to the driver's calls: host time of a copy, record, wait and query through
 * the public interface, against the same calls made directly, on the same streams, in turn.
 *
 *     bench_cuda_calls [--device cuda:0] [--json FILE]
 *
 * "bound" rows: the thread has the device's context current, as after any runtime call; "free" rows:
 * it has none, so that the library makes it current for each call while the driver needs it for none.
 */
#include "driver_calls.h"
#include "measure.h"
#include "require.h"

#include <millrace/event.h>
#include <millrace/operation.h>

#include <stdio.h>
#include <string.h>

/* ---- the driver, as far as it is called here ---- */

typedef int (*set_current_function)(void *context);
typedef int (*copy_function)(driver_address target, driver_address source, size_t size_bytes,
                             void *stream);
typedef int (*event_create_function)(void **event, unsigned flags);
typedef int (*event_function)(void *event);
typedef int (*record_function)(void *event, void *stream);
typedef int (*wait_function)(void *stream, void *event, unsigned flags);
typedef int (*fill_function)(driver_address target, unsigned char value, size_t size_bytes,
                             void *stream);

static struct {
    set_current_function set_current;
    copy_function copy;
    fill_function fill;
    event_create_function event_create;
    event_function event_destroy, event_query;
    record_function record;
    wait_function wait;
} driver;

static void driver_open(void)
{
    void *library = driver_library();
    driver_find(library, "cuCtxSetCurrent", &driver.set_current);
    driver_find(library, "cuMemcpyAsync", &driver.copy);
    driver_find(library, "cuMemsetD8Async", &driver.fill);
    driver_find(library, "cuEventCreate", &driver.event_create);
    driver_find(library, "cuEventDestroy_v2", &driver.event_destroy);
    driver_find(library, "cuEventQuery", &driver.event_query);
    driver_find(library, "cuEventRecord", &driver.record);
    driver_find(library, "cuStreamWaitEvent", &driver.wait);
}

/* ---- what is measured ---- */

enum { ITEM_BYTES = 4096, BATCH = 64, ROUNDS = 301 };

static struct {
    mr_device *device;
    mr_stream *in, *out;
    mr_buffer *host, *memory;
    mr_event *filled, *done;
    /* the same for the driver */
    void *native_in, *native_out, *native_filled, *native_done;
    driver_address host_address, memory_address;
} bench;

static void copy_ours(void)
{
    require_ok(mr_copy(bench.in, bench.memory, 0, bench.host, 0, ITEM_BYTES));
}

static void copy_direct(void)
{
    REQUIRE_ZERO(
        driver.copy(bench.memory_address, bench.host_address, ITEM_BYTES, bench.native_in));
}

static void fill_ours(void)
{
    require_ok(mr_fill(bench.in, bench.memory, 0, ITEM_BYTES, 1, 1));
}

static void fill_direct(void)
{
    REQUIRE_ZERO(driver.fill(bench.memory_address, 1, ITEM_BYTES, bench.native_in));
}

/* A record is elided where nothing came before it: touch says that something did. */
static void record_ours(void)
{
    mr_stream_touch(bench.in);
    require_ok(mr_event_record(bench.filled, bench.in));
}

static void record_direct(void)
{
    REQUIRE_ZERO(driver.record(bench.native_filled, bench.native_in));
}

static void record_wait_ours(void)
{
    record_ours();
    require_ok(mr_stream_wait_event(bench.out, bench.filled));
}

static void record_wait_direct(void)
{
    record_direct();
    REQUIRE_ZERO(driver.wait(bench.native_out, bench.native_filled, 0));
}

static void query_ours(void)
{
    (void)!mr_event_query(bench.done);
}

static void query_direct(void)
{
    (void)driver.event_query(bench.native_done);
}

/* What a pipeline does for an item, without a kernel: in, over to the other stream, and out. */
static void item_ours(void)
{
    require_ok(mr_stream_wait_event(bench.in, bench.done));
    require_ok(mr_copy(bench.in, bench.memory, 0, bench.host, 0, ITEM_BYTES));
    require_ok(mr_event_record(bench.filled, bench.in));
    require_ok(mr_stream_wait_event(bench.out, bench.filled));
    require_ok(mr_copy(bench.out, bench.host, ITEM_BYTES, bench.memory, 0, ITEM_BYTES));
    require_ok(mr_event_record(bench.done, bench.out));
}

static void item_direct(void)
{
    REQUIRE_ZERO(driver.wait(bench.native_in, bench.native_done, 0));
    copy_direct();
    record_direct();
    REQUIRE_ZERO(driver.wait(bench.native_out, bench.native_filled, 0));
    REQUIRE_ZERO(driver.copy(bench.host_address + ITEM_BYTES, bench.memory_address, ITEM_BYTES,
                             bench.native_out));
    REQUIRE_ZERO(driver.record(bench.native_done, bench.native_out));
}

/* ---- measuring ---- */

static double batch_ns(void (*call)(void))
{
    const double began = measure_now_s();
    for (int i = 0; i < BATCH; i++)
        call();
    const double seconds = measure_now_s() - began;
    require_ok(mr_stream_wait(bench.in));
    require_ok(mr_stream_wait(bench.out));
    return seconds * 1e9 / BATCH;
}

/* In turn, so that both see the same clocks and caches. */
static void compare(struct measure_report *report, const char *name, void (*ours)(void),
                    void (*direct)(void))
{
    static double our_ns[ROUNDS], direct_ns[ROUNDS];
    batch_ns(ours);
    batch_ns(direct);
    for (int i = 0; i < ROUNDS; i++) {
        our_ns[i] = batch_ns(ours);
        direct_ns[i] = batch_ns(direct);
    }
    const double our_median = measure_median(our_ns, ROUNDS);
    const double direct_median = measure_median(direct_ns, ROUNDS);
    measure_report_add(report, our_median, "ns", "%s, library", name);
    measure_report_add(report, direct_median, "ns", "%s, driver", name);
    measure_report_target(report, our_median / direct_median, "", "<=", 1.10, "%s, ratio", name);
}

static void compare_all(struct measure_report *report, const char *state)
{
    static const struct {
        const char *name;
        void (*ours)(void), (*direct)(void);
    } pairs[] = {
        { "copy of 4 KiB", copy_ours, copy_direct },
        { "fill of 4 KiB", fill_ours, fill_direct },
        { "record", record_ours, record_direct },
        { "record and wait", record_wait_ours, record_wait_direct },
        { "query of a fired event", query_ours, query_direct },
        { "item: 2 waits, 2 copies, 2 records", item_ours, item_direct },
    };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char name[80];
        snprintf(name, sizeof name, "%s, %s", state, pairs[i].name);
        compare(report, name, pairs[i].ours, pairs[i].direct);
    }
}

static void bench_open(const char *device_name)
{
    require_ok(mr_device_open(device_name, NULL, &bench.device));
    mr_device *device = bench.device;
    driver_open();
    REQUIRE_ZERO(driver.set_current(mr_device_native(device)));
    require_ok(mr_stream_create(device, NULL, &bench.in));
    require_ok(mr_stream_create(device, NULL, &bench.out));
    require_ok(mr_event_create(device, NULL, &bench.filled));
    require_ok(mr_event_create(device, NULL, &bench.done));
    require_ok(mr_buffer_create(device, 2 * ITEM_BYTES,
                                &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &bench.host));
    require_ok(mr_buffer_create(device, ITEM_BYTES, NULL, &bench.memory));
    REQUIRE_ZERO(driver.event_create(&bench.native_filled, 2)); /* without timing */
    REQUIRE_ZERO(driver.event_create(&bench.native_done, 2));
    bench.native_in = mr_stream_native(bench.in);
    bench.native_out = mr_stream_native(bench.out);
    bench.host_address = mr_buffer_address(bench.host);
    bench.memory_address = mr_buffer_address(bench.memory);
}

static void bench_close(void)
{
    REQUIRE_ZERO(driver.set_current(mr_device_native(bench.device)));
    REQUIRE_ZERO(driver.event_destroy(bench.native_filled));
    REQUIRE_ZERO(driver.event_destroy(bench.native_done));
    REQUIRE_ZERO(driver.set_current(NULL));
    mr_event_destroy(bench.filled);
    mr_event_destroy(bench.done);
    mr_buffer_destroy(bench.host);
    mr_buffer_destroy(bench.memory);
    mr_stream_destroy(bench.in);
    mr_stream_destroy(bench.out);
    require_ok(mr_device_close(bench.device));
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "cuda_calls", &argc, argv);
    bench_open(measure_option(argc, argv, "device", "cuda:0"));

    compare_all(&report, "bound");
    REQUIRE_ZERO(driver.set_current(NULL));
    compare_all(&report, "free");

    bench_close();
    return measure_report_finish(&report);
}
