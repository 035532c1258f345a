/* SPDX-License-Identifier: MIT */
/*
 * The CPU backend's table, and the backend object, which holds nothing: every device stands alone.
 */
#include "backend/cpu/cpu_backend.h"

#include "backend/cpu/cpu_capture.h"
#include "backend/cpu/cpu_device.h"
#include "backend/cpu/cpu_memory.h"
#include "backend/cpu/cpu_point.h"
#include "backend/cpu/cpu_queue.h"
#include "backend/cpu/cpu_replay.h"
#include "backend/cpu/cpu_work.h"

_Atomic(cpu_schedule_hook) mr__cpu_schedule_hook;

void mr__cpu_set_schedule_hook(cpu_schedule_hook hook)
{
    atomic_store(&mr__cpu_schedule_hook, hook);
}

static struct mr_backend the_backend = { .ops = &mr__cpu_backend };

static mr_status open_backend(struct mr_backend **out)
{
    *out = &the_backend;
    return MR_OK;
}

static void close_backend(struct mr_backend *backend)
{
    (void)backend;
}

static uint32_t count_devices(struct mr_backend *backend)
{
    (void)backend;
    return 1;
}

const struct mr_backend_ops mr__cpu_backend = {
    .name = "cpu",

    .open = open_backend,
    .close = close_backend,
    .device_count = count_devices,
    .device_open = mr__cpu_device_open,
    .device_close = mr__cpu_device_close,
    .device_describe = mr__cpu_device_describe,
    .device_memory = mr__cpu_device_memory,
    .device_now_ns = mr__cpu_device_now_ns,
    .device_synchronize = mr__cpu_device_synchronize,
    .device_native = mr__cpu_device_native,

    .memory_create = mr__cpu_memory_create,
    .memory_destroy = mr__cpu_memory_destroy,
    .memory_create_ordered = mr__cpu_memory_create_ordered,
    .memory_destroy_ordered = mr__cpu_memory_destroy_ordered,
    .memory_register = mr__cpu_memory_register,
    .memory_unregister = mr__cpu_memory_unregister,

    .queue_create = mr__cpu_queue_create,
    .queue_destroy = mr__cpu_queue_destroy,
    .queue_native = mr__cpu_queue_native,
    .queue_query = mr__cpu_queue_query,
    .queue_wait = mr__cpu_queue_wait,

    .copy = mr__cpu_copy,
    .fill = mr__cpu_fill,
    .launch = mr__cpu_launch,
    .call = mr__cpu_call,

    .point_record = mr__cpu_point_record,
    .point_renew = mr__cpu_point_renew,
    .point_retain = mr__cpu_point_retain,
    .point_release = mr__cpu_point_release,
    .point_query = mr__cpu_point_query,
    .point_wait = mr__cpu_point_wait,
    .point_elapsed = mr__cpu_point_elapsed,
    .queue_wait_point = mr__cpu_queue_wait_point,
    .gate_create = mr__cpu_gate_create,
    .gate_open = mr__cpu_gate_open,
    .gate_destroy = mr__cpu_gate_destroy,
    .queue_wait_gate = mr__cpu_queue_wait_gate,

    .function_create = mr__cpu_function_create,
    .function_destroy = mr__cpu_function_destroy,
    .function_signature = mr__cpu_function_signature,

    .capture_begin = mr__cpu_capture_begin,
    .capture_end = mr__cpu_capture_end,
    .plan_create = mr__cpu_plan_create,
    .plan_clone = mr__cpu_plan_clone,
    .plan_destroy = mr__cpu_plan_destroy,
    .plan_add = mr__cpu_plan_add,
    .plan_size = mr__cpu_plan_size,
    .replay_create = mr__cpu_replay_create,
    .replay_update = mr__cpu_replay_update,
    .replay_update_launch = mr__cpu_replay_update_launch,
    .replay_launch = mr__cpu_replay_launch,
    .replay_upload = mr__cpu_replay_upload,
    .replay_destroy = mr__cpu_replay_destroy,
    .replay_memory = mr__cpu_replay_memory,

    .peer_possible = mr__cpu_device_peer_possible,
};
