/* SPDX-License-Identifier: MIT */
/*
 * Streams and memory that others made, and work that others put on ours. The "other library" here is
 * the driver itself, opened and called as a library of anybody's would: it knows nothing of millrace.
 */
#include "support/driver.h"
#include "support/suite.h"

#include <millrace/balancer.h>
#include <millrace/event.h>
#include <millrace/pipeline.h>

enum { COUNT = 5000, SIZE = COUNT * sizeof(uint32_t) };

static bool is_gpu(mr_device *device)
{
    return mr_device_native(device) != NULL;
}

static mr_buffer *make_pinned(mr_device *device)
{
    mr_buffer *buffer;
    CHECK_OK(
        mr_buffer_create(device, SIZE, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &buffer));
    memset(mr_buffer_host(buffer), 0, SIZE);
    return buffer;
}

static void expect_all(mr_buffer *host, uint32_t value)
{
    const uint32_t *numbers = mr_buffer_host(host);
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(value, numbers[i]);
}

/* ---- the CPU has nothing native ---- */

static void the_cpu_has_no_native_streams(mr_device *device)
{
    mr_stream *stream, *wrapper;
    if (is_gpu(device))
        return;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK(!mr_stream_native(stream));
    CHECK_STATUS(MR_E_UNSUPPORTED, mr_stream_wrap(device, stream, NULL, &wrapper));
    mr_stream_touch(stream); /* harmless */
    CHECK_OK(mr_stream_wait(stream));
    mr_stream_destroy(stream);
}

/* ---- streams and memory that others made ---- */

static void a_foreign_stream_is_ordered_with_ours(mr_device *device)
{
    struct driver driver;
    void *foreign;
    mr_stream *wrapper, *own;
    mr_event *event;
    mr_buffer *there, *host;
    if (!driver_open(&driver, device))
        return;
    host = make_pinned(device);
    foreign = driver_stream_create(&driver);
    CHECK_OK(mr_stream_wrap(device, foreign, NULL, &wrapper));
    CHECK(mr_stream_native(wrapper) == foreign);
    CHECK_OK(mr_stream_create(device, NULL, &own));
    CHECK_OK(mr_event_create(device, NULL, &event));
    CHECK_OK(mr_buffer_create(device, SIZE, NULL, &there));

    for (uint32_t turn = 1; turn <= 20; turn++) {
        driver_set(&driver, mr_buffer_address(there), turn, COUNT, foreign); /* theirs */
        mr_stream_touch(wrapper);
        CHECK_OK(mr_event_record(event, wrapper));
        CHECK_OK(mr_stream_wait_event(own, event));
        CHECK_OK(mr_copy(own, host, 0, there, 0, SIZE)); /* ours */
        CHECK_OK(mr_event_record(event, own));
        CHECK_OK(mr_stream_wait_event(wrapper, event)); /* the next turn waits for the copy */
        CHECK_OK(mr_event_wait(event));
        expect_all(host, turn);
    }
    mr_event_destroy(event);
    mr_stream_destroy(own);
    mr_stream_destroy(wrapper); /* leaves the stream alone */
    driver_set(&driver, mr_buffer_address(there), 7, COUNT, foreign);
    driver_stream_destroy(&driver, foreign);
    mr_buffer_destroy(there);
    mr_buffer_destroy(host);
    driver_close(&driver);
}

static void foreign_memory_is_used_and_left_to_its_owner(mr_device *device)
{
    struct driver driver;
    mr_stream *stream;
    mr_kernel *kernel;
    mr_buffer *borrowed, *host;
    if (!driver_open(&driver, device))
        return;
    host = make_pinned(device);
    const uint64_t address = driver_allocate(&driver, 2 * SIZE);
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_kernel_open(device, "copy_u8", &kernel));
    CHECK_OK(
        mr_buffer_borrow(device, (void *)(uintptr_t)address, 2 * SIZE, MR_PLACE_DEVICE, &borrowed));
    CHECK_EQ(address, mr_buffer_address(borrowed));
    driver_set(&driver, address, 41, COUNT, mr_stream_native(stream));
    CHECK_OK(mr_buffer_touch(borrowed, stream));
    const mr_argument arguments[] = { mr_argument_range(borrowed, 0, SIZE),
                                      mr_argument_range(borrowed, SIZE, SIZE),
                                      mr_argument_u64(SIZE) };
    CHECK_OK(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = SIZE }, arguments, 3));
    CHECK_OK(mr_copy(stream, host, 0, borrowed, SIZE, SIZE));
    mr_buffer_destroy(borrowed); /* waits for its uses; the memory stays */
    CHECK_OK(mr_stream_query(stream));
    expect_all(host, 41);
    driver_free(&driver, address);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
    mr_buffer_destroy(host);
    driver_close(&driver);
}

/* ---- other people's work in ours ---- */

enum { ITEMS = 50 };

static struct driver stage_driver;

static mr_status make_item(void *context, mr_source_item *item)
{
    (void)context;
    if (item->index == ITEMS)
        return MR_END;
    memset(item->data, 0xff, SIZE);
    item->size_bytes = SIZE;
    return MR_OK;
}

/* The stage's whole work is a call of another library on the stream's native handle. */
static mr_status set_item(void *context, mr_stage_call *call)
{
    (void)context;
    const mr_parcel_view *out = call->output;
    driver_set(&stage_driver, mr_buffer_address(out->buffer) + out->offset,
               (uint32_t)call->first_index + 100, COUNT, mr_stream_native(call->stream));
    mr_stream_touch(call->stream);
    return MR_OK;
}

static mr_status take_item(void *context, const mr_sink_item *item)
{
    const uint32_t *numbers = item->data;
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(item->index + 100, numbers[i]);
    ++*(int *)context;
    return MR_OK;
}

static void a_stage_may_call_another_library(mr_device *device)
{
    mr_pipeline *pipeline;
    mr_node node;
    int count = 0;
    if (!driver_open(&stage_driver, device))
        return;
    CHECK_OK(mr_pipeline_create(NULL, &pipeline));
    CHECK_OK(mr_pipeline_add_source(
        pipeline, &(mr_source_options){ .next = make_item, .item_bytes = SIZE }, &node));
    CHECK_OK(mr_pipeline_add_stage(
        pipeline, &(mr_stage_options){ .name = "foreign", .device = device, .submit = set_item },
        &node));
    CHECK_OK(mr_pipeline_add_sink(
        pipeline, &(mr_sink_options){ .take = take_item, .context = &count }, &node));
    CHECK_OK(mr_pipeline_run(pipeline));
    CHECK_EQ(ITEMS, count);
    mr_pipeline_destroy(pipeline);
    driver_close(&stage_driver);
}

struct task {
    mr_buffer *there, *host;
    uint32_t value;
};

static mr_status submit_task(void *context, const mr_task_call *call)
{
    struct task *task = context;
    driver_set(&stage_driver, mr_buffer_address(task->there), task->value, COUNT,
               mr_stream_native(call->stream));
    mr_stream_touch(call->stream);
    const mr_status status = mr_buffer_touch(task->there, call->stream);
    return status ? status : mr_copy(call->stream, task->host, 0, task->there, 0, SIZE);
}

static void a_task_may_call_another_library(mr_device *device)
{
    enum { TASKS = 30 };
    static struct task tasks[TASKS];
    mr_balancer *balancer;
    const mr_worker_options workers = { .device = device, .stream_count = 3 };
    if (!driver_open(&stage_driver, device))
        return;
    CHECK_OK(mr_balancer_create(&(mr_balancer_options){ .workers = &workers, .worker_count = 1 },
                                &balancer));
    for (uint32_t i = 0; i < TASKS; i++) {
        tasks[i] = (struct task){ .host = make_pinned(device), .value = i + 7 };
        CHECK_OK(mr_buffer_create(device, SIZE, NULL, &tasks[i].there));
        CHECK_OK(mr_balancer_submit(
            balancer, &(mr_task){ .submit = submit_task, .context = &tasks[i] }, NULL));
    }
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    for (uint32_t i = 0; i < TASKS; i++) {
        expect_all(tasks[i].host, i + 7);
        mr_buffer_destroy(tasks[i].there);
        mr_buffer_destroy(tasks[i].host);
    }
    mr_balancer_destroy(balancer);
    driver_close(&stage_driver);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(the_cpu_has_no_native_streams),
        SUITE_TEST(a_foreign_stream_is_ordered_with_ours),
        SUITE_TEST(foreign_memory_is_used_and_left_to_its_owner),
        SUITE_TEST(a_stage_may_call_another_library),
        SUITE_TEST(a_task_may_call_another_library),
    };
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
