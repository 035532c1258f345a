/* SPDX-License-Identifier: MIT */
/*
 * The balancer's refusals, and every allocation failed once.
 */
#include "support/fault.h"
#include "support/unit.h"

#include <millrace/balancer.h>

#include <math.h>

static mr_device *device;

static int open_device(void **state)
{
    (void)state;
    return mr_device_open("cpu", &(mr_device_options){ .worker_count = 2 }, &device);
}

static int close_device(void **state)
{
    (void)state;
    return mr_device_close(device);
}

static mr_status submit_nothing(void *context, const mr_task_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

/* ---- refusals ---- */

static void balancer_refuses_bad_options(void **state)
{
    (void)state;
    const mr_worker_options good = { .device = device }, none = { 0 };
    const mr_worker_options many = { .device = device, .stream_count = 257 };
    const mr_balancer_options bad[] = {
        { 0 },
        { .workers = &good },
        { .worker_count = 1 },
        { .workers = &none, .worker_count = 1 },
        { .workers = &many, .worker_count = 1 },
        { .workers = &good, .worker_count = 1, .depth = 65 },
        { .workers = &good, .worker_count = 1, .class_count = 4097 },
        { .workers = &good, .worker_count = 1, .admission = (mr_admission)2 },
        { .workers = &good, .worker_count = 1, .results = (mr_results)3 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mr_balancer *balancer = (mr_balancer *)&balancer;
        assert_status(MR_E_INVALID, mr_balancer_create(&bad[i], &balancer));
        assert_null(balancer);
        assert_words("balancer: ");
    }
    mr_balancer *balancer;
    assert_status(MR_E_INVALID, mr_balancer_create(NULL, &balancer));
}

static void balancer_refuses_bad_tasks(void **state)
{
    (void)state;
    const mr_worker_options workers = { .device = device };
    const mr_balancer_options options = { .workers = &workers, .worker_count = 1 };
    mr_balancer *balancer, *other;
    mr_future *foreign = NULL, *nobody = NULL;
    assert_ok(mr_balancer_create(&options, &balancer));
    assert_ok(mr_balancer_create(&options, &other));
    assert_ok(mr_balancer_submit(other, &(mr_task){ .submit = submit_nothing }, &foreign));
    const mr_task bad[] = {
        { 0 },
        { .submit = submit_nothing, .task_class = 64 },
        { .submit = submit_nothing, .size = -1 },
        { .submit = submit_nothing, .size = NAN },
        { .submit = submit_nothing, .size = INFINITY },
        { .submit = submit_nothing, .priority = 16 },
        { .submit = submit_nothing, .priority = -17 },
        { .submit = submit_nothing, .after_count = 1 },
        { .submit = submit_nothing, .after = &nobody, .after_count = 1 },
        { .submit = submit_nothing, .after = &foreign, .after_count = 1 },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mr_future *future = (mr_future *)&future;
        assert_status(MR_E_INVALID, mr_balancer_submit(balancer, &bad[i], &future));
        assert_null(future);
        assert_words("mr_balancer_submit: ");
    }
    mr_task_result result;
    assert_status(MR_E_STATE, mr_balancer_next(balancer, 0, &result));
    assert_status(MR_E_INVALID, mr_balancer_measure_worker(balancer, 1, NULL));
    assert_status(MR_E_INVALID, mr_balancer_measure_class(balancer, 64, NULL));
    assert_status(MR_E_INVALID, mr_future_wait(NULL));
    assert_ok(mr_future_wait(foreign));
    mr_future_release(foreign);
    mr_balancer_destroy(other);
    mr_balancer_destroy(balancer);
}

/* ---- missing memory ---- */

enum { TASKS = 40 };

static mr_status count_run(void *context)
{
    ++*(int *)context;
    return MR_OK;
}

static mr_status submit_count(void *context, const mr_task_call *call)
{
    return mr_stream_call(call->stream, count_run, context);
}

/* Everything ends, and says what it was. */
static mr_status use_balancer(void)
{
    const mr_worker_options workers = { .device = device, .stream_count = 2 };
    mr_balancer *balancer;
    mr_status first = mr_balancer_create(
        &(mr_balancer_options){ .workers = &workers, .worker_count = 1 }, &balancer);
    if (first)
        return first;
    int runs[TASKS] = { 0 };
    mr_future *futures[TASKS] = { NULL };
    for (int i = 0; i < TASKS; i++) {
        const int before = i < 6 ? 0 : 6;
        bool is_whole = true;
        for (int k = 1; k <= before; k++)
            is_whole &= futures[i - k] != NULL;
        const mr_task task = { .submit = submit_count,
                               .context = &runs[i],
                               .after = futures + i - before,
                               .after_count = is_whole ? (size_t)before : 0 };
        const mr_status status = mr_balancer_submit(balancer, &task, &futures[i]);
        first = first ? first : status;
        assert_true((status == MR_OK) == (futures[i] != NULL));
    }
    for (int i = 0; i < TASKS; i++) {
        if (!futures[i])
            continue;
        const mr_status status = mr_future_wait(futures[i]);
        first = first ? first : status;
        assert_true(status || runs[i] == 1);
        mr_future_release(futures[i]);
    }
    mr_balancer_destroy(balancer);
    return first;
}

static void balancer_survives_every_failed_allocation(void **state)
{
    (void)state;
    assert_ok(use_balancer());
    for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
        struct fault fault = { .kind = &fault_allocation, .is_lasting = is_lasting };
        /* Not fault_end: what is done after the first failure has its own words, or none. */
        while (fault_next(&fault)) {
            fault_begin(&fault);
            const mr_status status = use_balancer();
            fault_stop(&fault);
            assert_true(!status || (status == MR_E_NO_MEMORY && fault.has_failed));
        }
    }
    assert_ok(use_balancer());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(balancer_refuses_bad_options),
        cmocka_unit_test(balancer_refuses_bad_tasks),
        cmocka_unit_test(balancer_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
