/* SPDX-License-Identifier: MIT */
/* A balancer over several GPUs of the stand-in driver and the CPU, one of which dies. */
#include "support/fakecuda/fakecuda.h"
#include "support/unit.h"

#include <millrace/balancer.h>
#include <millrace/buffer.h>

#include <semaphore.h>
#include <stdlib.h>

enum { DEVICES = 4, TASKS = 400, BREAK_AT = 100, LAUNCH_FAILED = 719 };

static struct {
    mr_device *devices[DEVICES]; /* three GPUs and the CPU */
    mr_buffer *scratch[DEVICES];
    mr_buffer *results;
    bool is_to_break;
} here;

struct job {
    uint32_t number;
};

static uint32_t lane_of(const mr_device *device)
{
    uint32_t i = 0;
    while (here.devices[i] != device)
        i++;
    return i;
}

/* Writes the task's number to its place, by way of the device's memory. */
static mr_status write_number(void *context, const mr_task_call *call)
{
    const struct job *job = context;
    const uint32_t lane = lane_of(call->device);
    const size_t at = job->number * sizeof(uint32_t);
    if (here.is_to_break && job->number == BREAK_AT)
        fakecuda_break(1, LAUNCH_FAILED);
    mr_status status =
        mr_fill(call->stream, here.scratch[lane], at, sizeof(uint32_t), job->number + 7, 4);
    if (!status)
        status = mr_copy(call->stream, here.results, at, here.scratch[lane], at, sizeof(uint32_t));
    return status;
}

static void open_all(void)
{
    const char *names[DEVICES] = { "cuda:0", "cuda:1", "cuda:2", "cpu" };
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    setenv("FAKECUDA_DEVICES", "3", 1);
    for (int i = 0; i < DEVICES; i++) {
        assert_ok(mr_device_open(names[i], NULL, &here.devices[i]));
        assert_ok(
            mr_buffer_create(here.devices[i], TASKS * sizeof(uint32_t), NULL, &here.scratch[i]));
    }
    assert_ok(mr_buffer_create(here.devices[0], TASKS * sizeof(uint32_t), &pinned, &here.results));
    memset(mr_buffer_host(here.results), 0, TASKS * sizeof(uint32_t));
}

static void close_all(void)
{
    mr_buffer_destroy(here.results);
    for (int i = 0; i < DEVICES; i++) {
        mr_buffer_destroy(here.scratch[i]);
        assert_ok(mr_device_close(here.devices[i]));
    }
    assert_int_equal(0, fakecuda_live());
}

static void run_tasks(bool is_to_break)
{
    static struct job jobs[TASKS];
    mr_worker_options workers[DEVICES];
    mr_balancer *balancer;
    open_all();
    here.is_to_break = is_to_break;
    for (int i = 0; i < DEVICES; i++)
        workers[i] = (mr_worker_options){ .device = here.devices[i], .stream_count = 2 };
    const mr_balancer_options options = { .workers = workers,
                                          .worker_count = DEVICES,
                                          .retry_limit = 20,
                                          .results = MR_RESULTS_IN_ORDER };
    assert_ok(mr_balancer_create(&options, &balancer));
    for (uint32_t i = 0; i < TASKS; i++) {
        jobs[i].number = i;
        const mr_task task = { .submit = write_number, .context = &jobs[i] };
        assert_ok(mr_balancer_submit(balancer, &task, NULL));
    }
    const uint32_t *results = mr_buffer_host(here.results);
    for (uint32_t i = 0; i < TASKS; i++) {
        mr_task_result result;
        assert_ok(mr_balancer_next(balancer, MR_FOREVER, &result));
        assert_int_equal(i, result.sequence);
        if (result.status)
            fail_msg("task %u: %s", i, result.words);
        assert_int_equal(i + 7, results[i]);
    }
    mr_balancer_destroy(balancer);
    close_all();
}

static void tasks_run_on_gpus_and_the_cpu(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++)
        run_tasks(false);
}

static void tasks_of_a_dead_device_run_elsewhere(void **state)
{
    (void)state;
    for (int round = 0; round < 5; round++)
        run_tasks(true);
}

static mr_status stop(void *context)
{
    while (sem_wait(context))
        ;
    return MR_OK;
}

static mr_status submit_stop(void *context, const mr_task_call *call)
{
    return mr_stream_call(call->stream, stop, context);
}

static mr_status submit_nothing(void *context, const mr_task_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

/* However many wait when the only device dies, all end. */
static void tasks_end_when_no_device_is_left(void **state)
{
    (void)state;
    mr_device *device;
    mr_balancer *balancer;
    sem_t go;
    setenv("FAKECUDA_DEVICES", "3", 1);
    assert_ok(mr_device_open("cuda:0", NULL, &device));
    assert_int_equal(0, sem_init(&go, 0, 0));
    const mr_worker_options workers = { .device = device };
    const mr_balancer_options options = {
        .workers = &workers, .worker_count = 1, .depth = 1, .retry_limit = 1
    };
    assert_ok(mr_balancer_create(&options, &balancer));
    const mr_task first = { .submit = submit_stop, .context = &go };
    const mr_task task = { .submit = submit_nothing };
    mr_future *tried;
    assert_ok(mr_balancer_submit(balancer, &first, &tried));
    for (int i = 1; i < TASKS; i++)
        assert_ok(mr_balancer_submit(balancer, &task, NULL));
    fakecuda_break(0, LAUNCH_FAILED);
    assert_int_equal(0, sem_post(&go));

    assert_int_not_equal(MR_OK, mr_balancer_drain(balancer, MR_FOREVER));
    mr_balancer_statistics statistics;
    mr_balancer_measure(balancer, &statistics);
    assert_int_equal(TASKS, statistics.failed);
    assert_status(MR_E_UNAVAILABLE, mr_future_wait(tried));
    assert_words("tried again after: ");
    assert_words("719");
    mr_future_release(tried);
    mr_future *late;
    assert_ok(mr_balancer_submit(balancer, &task, &late));
    assert_status(MR_E_UNAVAILABLE, mr_future_wait(late));
    assert_words("has lost its stream");
    mr_future_release(late);
    mr_balancer_destroy(balancer);
    assert_ok(mr_device_close(device));
    assert_int_equal(0, sem_destroy(&go));
    assert_int_equal(0, fakecuda_live());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tasks_run_on_gpus_and_the_cpu),
        cmocka_unit_test(tasks_of_a_dead_device_run_elsewhere),
        cmocka_unit_test(tasks_end_when_no_device_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
