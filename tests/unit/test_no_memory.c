/* SPDX-License-Identifier: MIT */
/* Every noun of core with the Nth allocation failing, N growing until none fails. */
#include "scripted_backend.h"
#include "support/fault.h"
#include "support/unit.h"

#include <millrace/event.h>

static mr_status do_nothing(void *context)
{
    (void)context;
    return MR_OK;
}

/* Each scenario builds something, uses it and takes it down, and answers the first status that is not
 * MR_OK. */
static mr_status with_stream(mr_device *device)
{
    mr_stream *stream;
    mr_status status = mr_stream_create(device, &(mr_stream_options){ .name = "one" }, &stream);
    if (status)
        return status;
    status = mr_stream_call(stream, do_nothing, NULL);
    mr_stream_destroy(stream);
    return status;
}

static mr_status with_default_streams(mr_device *device)
{
    mr_stream *stream;
    const mr_status status = mr_stream_default(device, MR_STREAM_LEGACY, &stream);
    return status ? status : mr_stream_current(device, &stream);
}

static mr_status with_pushed_stream(mr_device *device)
{
    mr_stream *stream;
    mr_status status = mr_stream_create(device, NULL, &stream);
    if (status)
        return status;
    status = mr_stream_push(stream);
    if (!status)
        status = mr_stream_pop(device);
    mr_stream_destroy(stream);
    return status;
}

static mr_status with_pool(mr_device *device)
{
    mr_stream_pool *pool;
    mr_stream *stream;
    mr_status status = mr_stream_pool_create(
        device, &(mr_stream_pool_options){ .stream = { .name = "one" } }, &pool);
    if (status)
        return status;
    status = mr_stream_pool_acquire(pool, &stream);
    if (!status)
        mr_stream_pool_release(pool, stream);
    mr_stream_pool_destroy(pool);
    return status;
}

static mr_status record_and_wait(mr_stream *source, mr_stream *target)
{
    mr_event *event;
    mr_status status = mr_event_create(mr_stream_device(source),
                                       &(mr_event_options){ .has_timing = true }, &event);
    if (status)
        return status;
    status = mr_event_record(event, source);
    if (!status)
        status = mr_stream_wait_event(target, event);
    mr_event_destroy(event);
    return status;
}

static mr_status between_streams(mr_device *device, mr_device *other)
{
    mr_stream *source, *target;
    mr_status status = mr_stream_create(device, NULL, &source);
    if (status)
        return status;
    status = mr_stream_create(other, NULL, &target);
    if (!status)
        status = record_and_wait(source, target);
    mr_stream_destroy(target);
    mr_stream_destroy(source);
    return status;
}

static mr_status with_events(mr_device *device)
{
    return between_streams(device, device);
}

static mr_status with_events_between_backends(mr_device *device)
{
    mr_device *other;
    mr_status status = mr__device_open_backend(&scripted_beta, 0, NULL, &other);
    if (status)
        return status;
    status = between_streams(device, other);
    const mr_status closed = mr_device_close(other);
    return status ? status : closed;
}

static mr_status with_device(mr_device *device)
{
    mr_device *other;
    (void)device;
    const mr_status status = mr__device_open_backend(&scripted_beta, 0, NULL, &other);
    return status ? status : mr_device_close(other);
}

static mr_status with_cpu(mr_device *device)
{
    mr_device *other;
    (void)device;
    const mr_status status = mr_device_open("cpu", NULL, &other);
    return status ? status : mr_device_close(other);
}

static mr_status use_by_many(mr_device *device, mr_buffer *buffer)
{
    enum { COUNT = 9 };
    mr_stream *streams[COUNT] = { NULL };
    mr_status status = MR_OK;
    for (int i = 0; i < COUNT && !status; i++) {
        status = mr_stream_create(device, NULL, &streams[i]);
        if (!status)
            status = mr_fill(streams[i], buffer, 4 * (size_t)i, 4, 1, 1);
    }
    for (int i = 0; i < COUNT; i++)
        mr_stream_destroy(streams[i]);
    return status;
}

static mr_status with_buffer(mr_device *device)
{
    mr_buffer *buffer;
    mr_status status = mr_buffer_create(device, 64, &(mr_buffer_options){ .name = "one" }, &buffer);
    if (status)
        return status;
    status = use_by_many(device, buffer);
    mr_buffer_destroy(buffer);
    return status;
}

static mr_status with_foreign_memory(mr_device *device)
{
    static char memory[64];
    mr_buffer *buffer;
    mr_status status = mr_buffer_borrow(device, memory, 64, MR_PLACE_PAGEABLE, &buffer);
    if (status)
        return status;
    mr_buffer_destroy(buffer);
    status = mr_buffer_register(device, memory, 64, &buffer);
    mr_buffer_destroy(buffer);
    return status;
}

static mr_status with_ordered_memory(mr_device *device)
{
    mr_stream *stream;
    mr_buffer *buffer = NULL;
    mr_status status = mr_stream_create(device, NULL, &stream);
    if (status)
        return status;
    status = mr_buffer_create_ordered(stream, 64, &buffer);
    mr_buffer_destroy(buffer);
    mr_stream_destroy(stream);
    return status;
}

static mr_device *open_cpu(const struct mr_backend_ops *unused)
{
    mr_device *device = NULL;
    (void)unused;
    return mr_device_open("cpu", NULL, &device) ? NULL : device;
}

/* The device is opened anew each time, so that nothing is left from the time before. */
static void fail_every_allocation_of(mr_device *(*open)(const struct mr_backend_ops *ops),
                                     mr_status (*scenario)(mr_device *device))
{
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        mr_device *device = open(&scripted_alpha);
        assert_non_null(device);

        fault_begin(&fault);
        const mr_status status = scenario(device);
        fault_end(&fault, status);

        assert_ok(mr_device_close(device));
        assert_true(scripted_is_clean());
    }
    assert_true(fault.nth > 1);
}

static void fail_every_allocation(mr_status (*scenario)(mr_device *device))
{
    fail_every_allocation_of(scripted_open, scenario);
    fail_every_allocation_of(open_cpu, scenario);
}

#define SENTENCE(sentence, scenario)                                                               \
    static void sentence(void **state)                                                             \
    {                                                                                              \
        (void)state;                                                                               \
        fail_every_allocation(scenario);                                                           \
    }

SENTENCE(devices_survive_no_memory, with_device)

static void the_cpu_survives_no_memory(void **state)
{
    (void)state;
    fail_every_allocation_of(scripted_open, with_cpu);
}

SENTENCE(streams_survive_no_memory, with_stream)
SENTENCE(default_streams_survive_no_memory, with_default_streams)
SENTENCE(current_streams_survive_no_memory, with_pushed_stream)
SENTENCE(pools_survive_no_memory, with_pool)
SENTENCE(events_survive_no_memory, with_events)
SENTENCE(waits_between_backends_survive_no_memory, with_events_between_backends)
SENTENCE(buffers_survive_no_memory, with_buffer)
SENTENCE(foreign_memory_survives_no_memory, with_foreign_memory)
SENTENCE(ordered_memory_survives_no_memory, with_ordered_memory)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(devices_survive_no_memory),
        cmocka_unit_test(the_cpu_survives_no_memory),
        cmocka_unit_test(streams_survive_no_memory),
        cmocka_unit_test(default_streams_survive_no_memory),
        cmocka_unit_test(current_streams_survive_no_memory),
        cmocka_unit_test(pools_survive_no_memory),
        cmocka_unit_test(events_survive_no_memory),
        cmocka_unit_test(waits_between_backends_survive_no_memory),
        cmocka_unit_test(buffers_survive_no_memory),
        cmocka_unit_test(foreign_memory_survives_no_memory),
        cmocka_unit_test(ordered_memory_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
