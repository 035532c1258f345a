/* SPDX-License-Identifier: MIT */
/* Every noun on CUDA with the Nth driver call failing, N growing until none fails. */
#include "support/fault_driver.h"
#include "support/unit.h"

#include <millrace/event.h>
#include <millrace/kernel.h>
#include <millrace/ring.h>
#include <millrace/staging.h>

#include <stdlib.h>

/* Each scenario builds something, uses it and takes it down, and answers the first status that is not
 * MR_OK. */

/* A wait with a limit takes another way through the backend. Nothing here needs that long. */
#define LONG_NS UINT64_C(60000000000)

static mr_status first(mr_status a, mr_status b)
{
    return a ? a : b;
}

static mr_status do_nothing(void *context)
{
    ++*(int *)context;
    return MR_OK;
}

static mr_status with_streams(mr_device *device)
{
    static int count;
    mr_stream *stream, *current;
    mr_status status = mr_stream_create(device, &(mr_stream_options){ .priority = -1 }, &stream);
    if (status)
        return status;
    status = mr_stream_call(stream, do_nothing, &count);
    if (!status)
        status = mr_stream_push(stream);
    if (!status) {
        status = mr_stream_current(device, &current);
        status = first(status, mr_stream_pop(device));
    }
    status = first(status, mr_stream_wait_for(stream, LONG_NS));
    status = first(status, mr_stream_query(stream));
    status = first(status, mr_stream_wait(stream));
    mr_stream_destroy(stream);
    return status;
}

static mr_status with_default_streams(mr_device *device)
{
    static int count;
    for (int kind = MR_STREAM_LEGACY; kind <= MR_STREAM_PER_THREAD; kind++) {
        mr_stream *stream;
        mr_status status = mr_stream_default(device, (mr_stream_kind)kind, &stream);
        if (!status)
            status = mr_stream_call(stream, do_nothing, &count);
        if (!status)
            status = mr_stream_wait(stream);
        if (status)
            return status;
    }
    return MR_OK;
}

static mr_status with_pools(mr_device *device)
{
    mr_stream_pool *pool;
    mr_stream *streams[2] = { NULL };
    mr_status status =
        mr_stream_pool_create(device, &(mr_stream_pool_options){ .limit = 2 }, &pool);
    if (status)
        return status;
    for (int i = 0; i < 2; i++)
        status = first(status, mr_stream_pool_acquire(pool, &streams[i]));
    for (int i = 0; i < 2; i++)
        if (streams[i])
            mr_stream_pool_release(pool, streams[i]);
    mr_stream_pool_destroy(pool);
    return status;
}

static mr_status between_streams(mr_stream *source, mr_stream *target, bool has_timing)
{
    mr_event *start = NULL, *end = NULL;
    int64_t elapsed_ns;
    const mr_event_options options = { .has_timing = has_timing };
    mr_device *device = mr_stream_device(source);
    mr_status status = mr_event_create(device, &options, &start);
    if (!status)
        status = mr_event_create(device, &options, &end);
    if (!status)
        status = mr_event_record(start, source);
    if (!status)
        status = mr_event_record(end, source);
    if (!status)
        status = mr_stream_wait_event(target, end);
    if (!status)
        status = mr_stream_wait(target);
    if (!status)
        status = mr_event_wait(end);
    if (!status && has_timing)
        status = mr_event_elapsed(start, end, &elapsed_ns);
    mr_event_destroy(start);
    mr_event_destroy(end);
    return status;
}

static mr_status between_devices(mr_device *from, mr_device *to)
{
    mr_stream *source, *target = NULL;
    mr_status status = mr_stream_create(from, NULL, &source);
    if (status)
        return status;
    status = mr_stream_create(to, NULL, &target);
    if (!status)
        status = between_streams(source, target, true);
    mr_stream_destroy(source);
    mr_stream_destroy(target);
    return status;
}

static mr_status with_events(mr_device *device)
{
    return between_devices(device, device);
}

static mr_status with_crossings(mr_device *device)
{
    mr_device *cpu;
    mr_status status = mr_device_open("cpu", NULL, &cpu);
    if (status)
        return status;
    status = between_devices(device, cpu);
    if (!status)
        status = between_devices(cpu, device);
    return first(status, mr_device_close(cpu));
}

static mr_status use_buffers(mr_stream *stream, mr_buffer *a, mr_buffer *b)
{
    const mr_copy_2d_layout rows = {
        .row_bytes = 16, .row_count = 4, .target_pitch = 32, .source_pitch = 64
    };
    mr_status status = mr_fill(stream, a, 0, 4096, 7, 4);
    if (!status)
        status = mr_copy(stream, b, 0, a, 0, 4096);
    if (!status)
        status = mr_copy_2d(stream, a, b, &rows);
    return status;
}

static mr_status with_buffers(mr_device *device)
{
    mr_stream *stream;
    mr_status status = mr_stream_create(device, NULL, &stream);
    if (status)
        return status;
    for (int place = MR_PLACE_DEVICE; place <= MR_PLACE_PAGEABLE && !status; place++) {
        mr_buffer *a = NULL, *b = NULL;
        status =
            mr_buffer_create(device, 4096, &(mr_buffer_options){ .place = (mr_place)place }, &a);
        if (!status)
            status = mr_buffer_create(device, 4096, NULL, &b);
        if (!status)
            status = use_buffers(stream, a, b);
        mr_buffer_destroy(a);
        mr_buffer_destroy(b);
    }
    mr_stream_destroy(stream);
    return status;
}

static mr_status with_other_memories(mr_device *device)
{
    static char bytes[4096];
    mr_stream *stream;
    mr_buffer *registered = NULL, *ordered = NULL;
    mr_status status = mr_stream_create(device, NULL, &stream);
    if (status)
        return status;
    status = mr_buffer_register(device, bytes, sizeof bytes, &registered);
    if (!status)
        status = mr_buffer_create_ordered(stream, 4096, &ordered);
    if (!status)
        status = use_buffers(stream, registered, ordered);
    mr_buffer_destroy(ordered);
    mr_buffer_destroy(registered);
    mr_stream_destroy(stream);
    return status;
}

static mr_status launch(mr_stream *stream, mr_kernel *kernel, mr_buffer *buffer)
{
    const mr_argument arguments[] = { mr_argument_range(buffer, 0, 1024),
                                      mr_argument_range(buffer, 1024, 1024),
                                      mr_argument_u64(1024) };
    mr_status status = mr_fill(stream, buffer, 0, 1024, 9, 1);
    if (!status)
        status = mr_kernel_launch(stream, kernel, &(mr_launch){ .count = 1024 }, arguments, 3);
    return first(status, mr_stream_wait(stream));
}

static mr_status with_kernels(mr_device *device)
{
    mr_stream *stream = NULL;
    mr_buffer *buffer = NULL;
    mr_kernel *kernel;
    mr_status status = mr_kernel_open(device, "copy_u8", &kernel);
    if (status)
        return status;
    status = mr_stream_create(device, NULL, &stream);
    if (!status)
        status = mr_buffer_create(device, 2048, NULL, &buffer);
    if (!status)
        status = launch(stream, kernel, buffer);
    mr_stream_destroy(stream);
    mr_buffer_destroy(buffer);
    mr_kernel_destroy(kernel);
    return status;
}

/* A slot whose publish or release failed is still held: it goes back without the stream. */
static mr_status turn_once(mr_ring *ring, mr_stream *in, mr_stream *out)
{
    mr_slot slot;
    mr_status status = mr_ring_acquire(ring, in, MR_FOREVER, &slot);
    if (status)
        return status;
    slot.size_bytes = 256;
    status = mr_fill(in, slot.buffer, 0, 256, 1, 1);
    if (!status)
        status = mr_ring_publish(ring, in, &slot);
    if (status)
        return first(status, mr_ring_abandon(ring, &slot));
    status = mr_ring_take(ring, 0, out, MR_FOREVER, &slot);
    if (status)
        return status;
    status = mr_ring_release(ring, 0, out, &slot);
    return status ? first(status, mr_ring_release(ring, 0, NULL, &slot)) : MR_OK;
}

/* Two laps and a bit, from stream to stream. */
static mr_status turn_ring(mr_ring *ring, mr_stream *in, mr_stream *out)
{
    mr_status status = MR_OK;
    for (int i = 0; i < 7 && !status; i++)
        status = turn_once(ring, in, out);
    return status;
}

static mr_status with_rings(mr_device *device)
{
    mr_ring *ring;
    mr_stream *in = NULL, *out = NULL;
    const mr_ring_options options = { .slot_count = 3, .slot_bytes = 256 };
    mr_status status = mr_ring_create(device, &options, &ring);
    if (status)
        return status;
    status = mr_stream_create(device, NULL, &in);
    if (!status)
        status = mr_stream_create(device, NULL, &out);
    if (!status)
        status = turn_ring(ring, in, out);
    mr_stream_destroy(in);
    mr_stream_destroy(out);
    mr_ring_destroy(ring);
    return status;
}

static mr_status with_stagings(mr_device *device)
{
    enum { SIZE = 100000 };
    static char from[SIZE], to[SIZE];
    const mr_staging_options options = { .thread_count = 2, .chunk_bytes = 16384, .slot_count = 2 };
    mr_staging *staging;
    mr_stream *stream = NULL;
    mr_buffer *buffer = NULL;
    mr_status status = mr_staging_create(device, &options, &staging);
    if (status)
        return status;
    status = mr_stream_create(device, NULL, &stream);
    if (!status)
        status = mr_buffer_create(device, SIZE, NULL, &buffer);
    if (!status)
        status = mr_staging_upload(staging, stream, buffer, 0, from, SIZE);
    if (!status)
        status = mr_staging_download(staging, stream, to, buffer, 0, SIZE);
    mr_stream_destroy(stream);
    mr_buffer_destroy(buffer);
    mr_staging_destroy(staging);
    return status;
}

static mr_status with_devices(mr_device *device)
{
    uint64_t free_bytes, total_bytes;
    mr_status status = mr_device_memory(device, &free_bytes, &total_bytes);
    return status ? status : mr_device_synchronize(device);
}

/* ---- failing ---- */

static void fail_every_call(mr_status (*scenario)(mr_device *device))
{
    struct fault fault = { .kind = &fault_driver_call };
    fault_on_device(&fault, "cuda", scenario);
    assert_true(fault.nth > 2);
}

#define SURVIVES(name)                                                                             \
    static void name##_survive_a_driver_call_that_fails(void **state)                              \
    {                                                                                              \
        (void)state;                                                                               \
        fail_every_call(with_##name);                                                              \
    }
SURVIVES(streams)
SURVIVES(default_streams)
SURVIVES(pools)
SURVIVES(events)
SURVIVES(crossings)
SURVIVES(buffers)
SURVIVES(other_memories)
SURVIVES(kernels)
SURVIVES(rings)
SURVIVES(stagings)
SURVIVES(devices)

static void opening_survives_a_driver_call_that_fails(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    while (fault_next(&fault)) {
        mr_device *device;
        fault_begin(&fault);
        const mr_status status = mr_device_open("cuda", NULL, &device);
        fault_end(&fault, status);
        assert_ok(mr_device_close(device));
        fault_leaves_nothing(&fault);
    }
    assert_true(fault.nth > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opening_survives_a_driver_call_that_fails),
        cmocka_unit_test(devices_survive_a_driver_call_that_fails),
        cmocka_unit_test(streams_survive_a_driver_call_that_fails),
        cmocka_unit_test(default_streams_survive_a_driver_call_that_fails),
        cmocka_unit_test(pools_survive_a_driver_call_that_fails),
        cmocka_unit_test(events_survive_a_driver_call_that_fails),
        cmocka_unit_test(crossings_survive_a_driver_call_that_fails),
        cmocka_unit_test(buffers_survive_a_driver_call_that_fails),
        cmocka_unit_test(other_memories_survive_a_driver_call_that_fails),
        cmocka_unit_test(kernels_survive_a_driver_call_that_fails),
        cmocka_unit_test(rings_survive_a_driver_call_that_fails),
        cmocka_unit_test(stagings_survive_a_driver_call_that_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
