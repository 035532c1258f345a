/* SPDX-License-Identifier: MIT */
/*
 * The balancer on one device, and on the CPU beside it: outcomes, order, failures, memory, ends.
 */
#include "support/latch.h"
#include "support/suite.h"

#include <millrace/balancer.h>

enum { WORKERS = 8, COUNT = 200 };

static mr_balancer *make_balancer(mr_device *device, uint32_t stream_count,
                                  mr_balancer_options options)
{
    const mr_worker_options workers = { .device = device, .stream_count = stream_count };
    mr_balancer *balancer = NULL;
    if (!options.workers) {
        options.workers = &workers;
        options.worker_count = 1;
    }
    CHECK_OK(mr_balancer_create(&options, &balancer));
    return balancer;
}

/* ---- tasks ---- */

struct work {
    struct log_line line;
    const struct latch *latch; /* waited for first */
    mr_status submit_status;
    mr_status run_status;
    uint32_t fail_attempts; /* the first so many attempts fail */
    uint32_t runs, worker, attempt;
    mr_device *device;
};

static mr_status run_work(void *context)
{
    struct work *work = context;
    work->runs++;
    if (work->line.log)
        (void)log_run(&work->line);
    if (work->run_status)
        return mr_error_set(work->run_status, "the work says no");
    return MR_OK;
}

static mr_status submit_work(void *context, const mr_task_call *call)
{
    struct work *work = context;
    work->worker = call->worker;
    work->attempt = call->attempt;
    work->device = call->device;
    CHECK(mr_stream_device(call->stream) == call->device);
    if (work->latch)
        latch_stop(work->latch, call->stream);
    if (work->submit_status || call->attempt < work->fail_attempts)
        return mr_error_set(work->submit_status ? work->submit_status : MR_E_CALLBACK,
                            "attempt %u says no", call->attempt);
    return mr_stream_call(call->stream, run_work, work);
}

static mr_task task_of(struct work *work)
{
    return (mr_task){ .submit = submit_work, .context = work };
}

static mr_future *submit(mr_balancer *balancer, mr_task task)
{
    mr_future *future = NULL;
    CHECK_OK(mr_balancer_submit(balancer, &task, &future));
    CHECK(future != NULL);
    return future;
}

static void check_ends(mr_status expected, mr_future *future)
{
    CHECK_STATUS(expected, mr_future_wait(future));
    CHECK_STATUS(expected, mr_future_query(future));
    mr_future_release(future);
}

/* ---- outcomes ---- */

static void balancer_runs_every_task_once(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 3, (mr_balancer_options){ 0 });
    struct work works[COUNT] = { 0 };
    mr_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++)
        futures[i] = submit(balancer, task_of(&works[i]));
    for (int i = 0; i < COUNT; i++) {
        mr_task_result result;
        CHECK_OK(mr_future_wait_for(futures[i], MR_FOREVER));
        CHECK_OK(mr_future_result(futures[i], &result));
        CHECK_EQ(i, result.sequence);
        CHECK_EQ(1, result.attempts);
        CHECK_EQ(works[i].worker, result.worker);
        CHECK(result.context == &works[i]);
        CHECK_EQ(1, works[i].runs);
        mr_future_release(futures[i]);
    }
    mr_balancer_statistics statistics;
    mr_balancer_measure(balancer, &statistics);
    CHECK_EQ(COUNT, statistics.submitted);
    CHECK_EQ(COUNT, statistics.succeeded);
    CHECK_EQ(0, statistics.in_flight + statistics.waiting);
    CHECK_EQ(3, statistics.worker_count);
    uint64_t tasks = 0;
    for (uint32_t i = 0; i < 3; i++) {
        mr_worker_statistics worker;
        CHECK_OK(mr_balancer_measure_worker(balancer, i, &worker));
        tasks += worker.tasks;
    }
    CHECK_EQ(COUNT, tasks);
    mr_balancer_destroy(balancer);
}

static void balancer_gives_results_in_order(mr_device *device)
{
    mr_balancer *balancer =
        make_balancer(device, 3, (mr_balancer_options){ .results = MR_RESULTS_IN_ORDER });
    struct work works[COUNT] = { 0 };
    mr_task_result result;
    CHECK_STATUS(MR_END, mr_balancer_next(balancer, MR_FOREVER, &result));
    for (int i = 0; i < COUNT; i++) {
        const mr_task task = task_of(&works[i]);
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    for (int i = 0; i < COUNT; i++) {
        CHECK_OK(mr_balancer_next(balancer, MR_FOREVER, &result));
        CHECK_EQ(i, result.sequence);
        CHECK(result.context == &works[i]);
        CHECK_EQ(1, works[i].runs);
    }
    CHECK_STATUS(MR_END, mr_balancer_next(balancer, 0, &result));
    mr_balancer_destroy(balancer);
}

static void balancer_gives_results_as_completed(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(
        device, 2, (mr_balancer_options){ .results = MR_RESULTS_AS_COMPLETED, .depth = 1 });
    struct work held = { .latch = &latch }, free = { 0 };
    const mr_task first = task_of(&held), second = task_of(&free);
    mr_task_result result;
    CHECK_OK(mr_balancer_submit(balancer, &first, NULL));
    CHECK_OK(mr_balancer_submit(balancer, &second, NULL));
    CHECK_OK(mr_balancer_next(balancer, MR_FOREVER, &result));
    CHECK_EQ(1, result.sequence);
    CHECK_STATUS(MR_E_BUSY, mr_balancer_next(balancer, 0, &result));
    CHECK_STATUS(MR_E_TIMEOUT, mr_balancer_next(balancer, 1000, &result));
    latch_open(&latch);
    CHECK_OK(mr_balancer_next(balancer, MR_FOREVER, &result));
    CHECK_EQ(0, result.sequence);
    CHECK_STATUS(MR_END, mr_balancer_next(balancer, MR_FOREVER, &result));
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

struct follow {
    mr_balancer *balancer;
    struct work work;
    int left, calls;
};

static void submit_again(void *context, const mr_task_result *result)
{
    struct follow *follow = context;
    CHECK_OK(result->status);
    follow->calls++;
    if (follow->left-- <= 0)
        return;
    const mr_task task = { .submit = submit_work, .context = &follow->work, .done = NULL };
    CHECK_OK(mr_balancer_submit(follow->balancer, &task, NULL));
}

static mr_status submit_follow(void *context, const mr_task_call *call)
{
    return submit_work(&((struct follow *)context)->work, call);
}

static void balancer_takes_tasks_from_done_functions(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 2, (mr_balancer_options){ .task_limit = 1 });
    struct follow follow = { .balancer = balancer, .left = 1 };
    const mr_task task = { .submit = submit_follow, .context = &follow, .done = submit_again };
    CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    CHECK_EQ(1, follow.calls);
    CHECK_EQ(2, follow.work.runs);
    mr_balancer_destroy(balancer);
}

static void post(void *context, const mr_task_result *result)
{
    (void)result;
    CHECK_EQ(0, sem_post(context));
}

static mr_status submit_nothing(void *context, const mr_task_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

/* Nobody calls the balancer while tasks end: its own thread sees to it. */
static void balancer_goes_on_by_itself(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 2, (mr_balancer_options){ .depth = 1 });
    struct work works[COUNT] = { 0 };
    sem_t done;
    CHECK_EQ(0, sem_init(&done, 0, 0));
    for (int i = 0; i < COUNT; i++) {
        const mr_task task = task_of(&works[i]);
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    const mr_task last = { .submit = submit_nothing, .context = &done, .done = post };
    CHECK_OK(mr_balancer_submit(balancer, &last, NULL));
    while (sem_wait(&done))
        ;
    mr_balancer_destroy(balancer);
    CHECK_EQ(0, sem_destroy(&done));
}

struct inside {
    mr_balancer *balancer;
    mr_future *own;
    uint32_t calls;
};

static const mr_task empty_task = { .submit = submit_nothing };

/* Neither this task nor the one that it submits can end while it waits. */
static mr_status submit_waiting(void *context, const mr_task_call *call)
{
    (void)call;
    struct inside *inside = context;
    mr_task_result result;
    CHECK_OK(mr_balancer_submit(inside->balancer, &empty_task, NULL));
    CHECK_STATUS(MR_E_STATE, mr_balancer_drain(inside->balancer, MR_FOREVER));
    CHECK_SAYS("inside a task", mr_last_error());
    CHECK_STATUS(MR_E_BUSY, mr_balancer_drain(inside->balancer, 0));
    CHECK_STATUS(MR_E_STATE, mr_balancer_next(inside->balancer, MR_FOREVER, &result));
    CHECK_STATUS(MR_E_BUSY, mr_balancer_next(inside->balancer, 0, &result));
    CHECK_STATUS(MR_E_STATE, mr_future_wait(inside->own));
    CHECK_STATUS(MR_E_STATE, mr_future_wait_for(inside->own, 1));
    CHECK_STATUS(MR_E_BUSY, mr_future_query(inside->own));
    mr_balancer_destroy(inside->balancer);
    CHECK_SAYS("mr_balancer_destroy", mr_last_error());
    inside->calls++;
    return MR_OK;
}

static void wait_when_done(void *context, const mr_task_result *result)
{
    struct inside *inside = context;
    CHECK_OK(result->status);
    CHECK_OK(mr_future_wait(inside->own)); /* which has ended */
    CHECK_STATUS(MR_E_STATE, mr_balancer_drain(inside->balancer, MR_FOREVER));
    mr_balancer_destroy(inside->balancer);
    inside->calls++;
}

static void balancer_refuses_to_wait_inside_a_task(mr_device *device)
{
    mr_balancer *balancer =
        make_balancer(device, 1, (mr_balancer_options){ .results = MR_RESULTS_IN_ORDER });
    struct inside inside = { .balancer = balancer };
    const mr_task task = { .submit = submit_waiting, .done = wait_when_done, .context = &inside };
    CHECK_OK(mr_balancer_submit(balancer, &task, &inside.own));
    mr_task_result result;
    CHECK_OK(mr_balancer_next(balancer, MR_FOREVER, &result));
    CHECK_EQ(1, result.sequence);
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    CHECK_EQ(2, inside.calls);
    mr_future_release(inside.own);
    mr_balancer_destroy(balancer);
}

static mr_status submit_two_more(void *context, const mr_task_call *call)
{
    (void)call;
    struct inside *inside = context;
    const mr_status first = mr_balancer_submit(inside->balancer, &empty_task, NULL);
    return first ? first : mr_balancer_submit(inside->balancer, &empty_task, NULL);
}

/* Where it would wait it goes past the limit, where it fails there it fails here. */
static void balancer_never_waits_for_a_place_inside_a_task(mr_device *device)
{
    for (int is_failing = 0; is_failing < 2; is_failing++) {
        mr_balancer *balancer = make_balancer(
            device, 1,
            (mr_balancer_options){ .task_limit = 2,
                                   .admission = is_failing ? MR_ADMIT_FAILING : MR_ADMIT_WAITING });
        struct inside inside = { .balancer = balancer };
        check_ends(is_failing ? MR_E_BUSY : MR_OK,
                   submit(balancer, (mr_task){ .submit = submit_two_more, .context = &inside }));
        CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
        mr_balancer_statistics statistics;
        mr_balancer_measure(balancer, &statistics);
        CHECK_EQ(is_failing ? 2 : 3, statistics.submitted);
        mr_balancer_destroy(balancer);
    }
}

/* ---- order ---- */

static void balancer_gives_by_priority(mr_device *device)
{
    struct latch latch;
    struct log log = LOG_INITIALIZER;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ .depth = 1 });
    struct work held = { .latch = &latch };
    struct work works[6] = { 0 };
    const int priorities[6] = { 0, 15, -1, 0, -16, -1 };
    const int order[6] = { 4, 2, 5, 0, 3, 1 };
    mr_future *first = submit(balancer, task_of(&held));
    for (int i = 0; i < 6; i++) {
        works[i].line = (struct log_line){ &log, i };
        mr_task task = task_of(&works[i]);
        task.priority = priorities[i];
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    latch_open(&latch);
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    for (int i = 0; i < 6; i++)
        CHECK_EQ(order[i], log.entries[i]);
    check_ends(MR_OK, first);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_orders_tasks_after_others(mr_device *device)
{
    struct latch latch;
    struct log log = LOG_INITIALIZER;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 3, (mr_balancer_options){ 0 });
    struct work works[4] = { 0 };
    mr_future *futures[4];
    for (int i = 0; i < 4; i++)
        works[i].line = (struct log_line){ &log, i };
    works[0].latch = &latch;
    futures[0] = submit(balancer, task_of(&works[0]));
    for (int i = 1; i < 4; i++) {
        mr_task task = task_of(&works[i]);
        task.after = futures;
        task.after_count = (size_t)i;
        futures[i] = submit(balancer, task);
    }
    CHECK_EQ(0, log_count(&log));
    CHECK_STATUS(MR_E_BUSY, mr_future_query(futures[3]));
    latch_open(&latch);
    for (int i = 3; i >= 0; i--)
        check_ends(MR_OK, futures[i]);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(i, log.entries[i]);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_mixes_the_cpu_with_a_device(mr_device *device)
{
    mr_device *cpu = NULL;
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    const mr_worker_options workers[] = { { .device = device, .stream_count = 2 },
                                          { .device = cpu } };
    mr_balancer *balancer =
        make_balancer(NULL, 0, (mr_balancer_options){ .workers = workers, .worker_count = 2 });
    struct work works[COUNT] = { 0 };
    mr_future *last = NULL;
    for (int i = 0; i < COUNT; i++) {
        mr_task task = task_of(&works[i]);
        task.device = i % 2 ? device : cpu;
        task.after = &last;
        task.after_count = last ? 1 : 0;
        mr_future *next = submit(balancer, task);
        mr_future_release(last);
        last = next;
    }
    check_ends(MR_OK, last);
    for (int i = 0; i < COUNT; i++) {
        CHECK_EQ(1, works[i].runs);
        CHECK(works[i].device == (i % 2 ? device : cpu));
    }
    mr_balancer_destroy(balancer);
    CHECK_OK(mr_device_close(cpu));
}

/* However many wait for one device, those for another, and those for any, go there. */
static void balancer_passes_tasks_that_wait_for_another_device(mr_device *device)
{
    mr_device *cpu = NULL;
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    const mr_worker_options workers[] = { { .device = device }, { .device = cpu } };
    mr_balancer *balancer = make_balancer(
        NULL, 0, (mr_balancer_options){ .workers = workers, .worker_count = 2, .depth = 1 });
    struct latch latch;
    latch_init(&latch);
    struct work held = { .latch = &latch }, works[COUNT] = { 0 }, bound = { 0 }, free = { 0 };
    mr_task task = task_of(&held);
    task.device = device;
    CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    for (int i = 0; i < COUNT; i++) {
        task = task_of(&works[i]);
        task.device = device;
        task.priority = -(i % 2);
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    if (device != cpu) {
        task = task_of(&bound);
        task.device = cpu;
        check_ends(MR_OK, submit(balancer, task));
        check_ends(MR_OK, submit(balancer, task_of(&free)));
        CHECK(bound.device == cpu && free.device == cpu);
        CHECK_EQ(0, works[0].runs + works[1].runs);
    }
    latch_open(&latch);
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(1, works[i].runs);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
    CHECK_OK(mr_device_close(cpu));
}

/* ---- failures ---- */

static void balancer_outlives_a_task_that_reports_failure(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 2, (mr_balancer_options){ 0 });
    struct work bad = { .submit_status = MR_E_IO }, good = { 0 }, never = { 0 };
    mr_future *failing = submit(balancer, task_of(&bad));
    mr_task task = task_of(&never);
    task.after = &failing;
    task.after_count = 1;
    mr_future *behind = submit(balancer, task);
    mr_future *other = submit(balancer, task_of(&good));
    CHECK_STATUS(MR_E_IO, mr_future_wait(failing));
    CHECK_SAYS("task 0", mr_last_error());
    CHECK_SAYS("attempt 0 says no", mr_last_error());
    CHECK_STATUS(MR_E_IO, mr_future_wait(behind));
    CHECK_SAYS("after task 0", mr_last_error());
    check_ends(MR_OK, other);

    mr_task late = task_of(&never);
    late.after = &behind;
    late.after_count = 1;
    check_ends(MR_E_IO, submit(balancer, late));
    mr_future_release(failing);
    mr_future_release(behind);
    check_ends(MR_OK, submit(balancer, task_of(&good)));
    mr_balancer_destroy(balancer);
}

static void balancer_replaces_a_stream_that_failed(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ 0 });
    struct work bad = { .run_status = MR_E_FORMAT }, good = { 0 };
    mr_future *failing = submit(balancer, task_of(&bad));
    CHECK_STATUS(MR_E_FORMAT, mr_future_wait(failing));
    CHECK_SAYS("the work says no", mr_last_error());
    mr_future_release(failing);
    check_ends(MR_OK, submit(balancer, task_of(&good)));
    CHECK_EQ(1, good.runs);
    mr_worker_statistics worker;
    CHECK_OK(mr_balancer_measure_worker(balancer, 0, &worker));
    CHECK_EQ(1, worker.replacements);
    CHECK_EQ(1, worker.failures);
    CHECK_EQ(2, worker.tasks);
    mr_balancer_destroy(balancer);
}

static void balancer_says_what_was_behind_a_failure(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ .depth = 2 });
    struct work bad = { .run_status = MR_E_FORMAT, .latch = &latch }, behind = { 0 };
    mr_future *first = submit(balancer, task_of(&bad));
    mr_future *second = submit(balancer, task_of(&behind));
    latch_open(&latch);
    CHECK_STATUS(MR_E_FORMAT, mr_future_wait(second));
    CHECK_SAYS("in flight behind a failure", mr_last_error());
    mr_future_release(second);
    check_ends(MR_E_FORMAT, first);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_tries_again_elsewhere(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 2, (mr_balancer_options){ .retry_limit = 2 });
    struct work once = { .fail_attempts = 1 }, always = { .fail_attempts = 9 };
    mr_task_result result;
    mr_future *first = submit(balancer, task_of(&once));
    CHECK_OK(mr_future_wait(first));
    CHECK_OK(mr_future_result(first, &result));
    CHECK_EQ(2, result.attempts);
    CHECK_EQ(1, once.runs);
    mr_future_release(first);
    mr_future *second = submit(balancer, task_of(&always));
    CHECK_STATUS(MR_E_CALLBACK, mr_future_wait(second));
    CHECK_OK(mr_future_result(second, &result));
    CHECK_EQ(3, result.attempts);
    CHECK_SAYS("attempt 2 says no", result.words);
    mr_future_release(second);
    mr_balancer_destroy(balancer);
}

static void balancer_tells_the_first_failure_that_nobody_was_told(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ 0 });
    struct work bad = { .submit_status = MR_E_IO };
    const mr_task task = task_of(&bad);
    CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    CHECK_STATUS(MR_E_IO, mr_balancer_drain(balancer, MR_FOREVER));
    CHECK_SAYS("says no", mr_last_error());
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    mr_balancer_destroy(balancer);
}

/* ---- memory and limits ---- */

static void balancer_refuses_a_task_that_never_fits(mr_device *device)
{
    const mr_worker_options workers = { .device = device, .memory_bytes = 1000 };
    mr_balancer *balancer =
        make_balancer(NULL, 0, (mr_balancer_options){ .workers = &workers, .worker_count = 1 });
    struct work work = { 0 };
    mr_task task = task_of(&work);
    mr_future *future = (mr_future *)&future;
    task.memory_bytes = 1001;
    CHECK_STATUS(MR_E_NO_MEMORY, mr_balancer_submit(balancer, &task, &future));
    CHECK(future == NULL);
    CHECK_SAYS("1001 bytes", mr_last_error());
    CHECK_SAYS("more than 1000", mr_last_error());
    task.memory_bytes = 1000;
    check_ends(MR_OK, submit(balancer, task));
    mr_balancer_destroy(balancer);
}

static void hold_memory(mr_device *device, mr_admission admission)
{
    struct latch latch;
    latch_init(&latch);
    const mr_worker_options workers = { .device = device, .stream_count = 2, .memory_bytes = 1000 };
    mr_balancer *balancer = make_balancer(
        NULL, 0,
        (mr_balancer_options){ .workers = &workers, .worker_count = 1, .admission = admission });
    struct work held = { .latch = &latch }, large = { 0 }, small = { 0 };
    mr_task task = task_of(&held);
    task.memory_bytes = 600;
    mr_future *first = submit(balancer, task);
    task = task_of(&large);
    task.memory_bytes = 600;
    mr_future *second = NULL;
    const mr_status status = mr_balancer_submit(balancer, &task, &second);
    CHECK_STATUS(admission == MR_ADMIT_FAILING ? MR_E_NO_MEMORY : MR_OK, status);
    task = task_of(&small);
    task.memory_bytes = 400;
    check_ends(MR_OK, submit(balancer, task));
    CHECK_EQ(0, large.runs);
    latch_open(&latch);
    if (second)
        check_ends(MR_OK, second);
    CHECK_EQ(second ? 1 : 0, large.runs);
    check_ends(MR_OK, first);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_waits_for_memory(mr_device *device)
{
    hold_memory(device, MR_ADMIT_WAITING);
}

static void balancer_fails_for_memory_where_asked(mr_device *device)
{
    hold_memory(device, MR_ADMIT_FAILING);
}

/* So much is free once, not once for each entry of the device. */
static void balancer_shares_the_memory_of_a_device(mr_device *device)
{
    const mr_worker_options workers[] = { { .device = device },
                                          { .device = device, .priority = -1 },
                                          { .device = device, .memory_bytes = 1000 } };
    mr_balancer *balancer =
        make_balancer(NULL, 0,
                      (mr_balancer_options){
                          .workers = workers, .worker_count = 3, .admission = MR_ADMIT_FAILING });
    struct latch latch;
    latch_init(&latch);
    struct work held = { .latch = &latch }, large = { 0 }, small = { 0 };
    mr_task task = task_of(&held);
    task.memory_bytes = UINT64_MAX;
    CHECK_STATUS(MR_E_NO_MEMORY, mr_balancer_submit(balancer, &task, NULL));
    CHECK_SAYS("more than ", mr_last_error());
    const uint64_t most = strtoull(strstr(mr_last_error(), "more than ") + 10, NULL, 10);
    task.memory_bytes = most / 2 + 1;
    mr_future *first = submit(balancer, task);
    task.context = &large;
    CHECK_STATUS(MR_E_NO_MEMORY, mr_balancer_submit(balancer, &task, NULL));
    task.context = &small;
    task.memory_bytes = 1000;
    check_ends(MR_OK, submit(balancer, task));
    latch_open(&latch);
    check_ends(MR_OK, first);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_has_a_limit(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 1,
                                          (mr_balancer_options){ .depth = 1,
                                                                 .task_limit = 2,
                                                                 .admission = MR_ADMIT_FAILING,
                                                                 .results = MR_RESULTS_IN_ORDER });
    struct work held = { .latch = &latch }, work = { 0 };
    const mr_task first = task_of(&held), second = task_of(&work);
    mr_task_result result;
    CHECK_OK(mr_balancer_submit(balancer, &first, NULL));
    CHECK_OK(mr_balancer_submit(balancer, &second, NULL));
    CHECK_STATUS(MR_E_BUSY, mr_balancer_submit(balancer, &second, NULL));
    latch_open(&latch);
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    CHECK_STATUS(MR_E_BUSY, mr_balancer_submit(balancer, &second, NULL));
    CHECK_SAYS("mr_balancer_next", mr_last_error());
    CHECK_OK(mr_balancer_next(balancer, 0, &result));
    CHECK_OK(mr_balancer_submit(balancer, &second, NULL));
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void balancer_submit_waits_for_a_place(mr_device *device)
{
    mr_balancer *balancer = make_balancer(device, 2, (mr_balancer_options){ .task_limit = 3 });
    struct work works[COUNT] = { 0 };
    for (int i = 0; i < COUNT; i++) {
        const mr_task task = task_of(&works[i]);
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    for (int i = 0; i < COUNT; i++)
        CHECK_EQ(1, works[i].runs);
    mr_balancer_destroy(balancer);
}

/* ---- ends ---- */

static void balancer_cancels_what_waits(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ .depth = 1 });
    struct work held = { .latch = &latch }, works[4] = { 0 };
    mr_future *first = submit(balancer, task_of(&held)), *futures[4];
    for (int i = 0; i < 4; i++) {
        mr_task task = task_of(&works[i]);
        task.after = &futures[0];
        task.after_count = i == 1;
        futures[i] = submit(balancer, task);
    }
    CHECK_STATUS(MR_E_STATE, mr_future_cancel(first));
    CHECK_OK(mr_future_cancel(futures[0]));
    check_ends(MR_E_CANCELLED, futures[1]);
    CHECK_STATUS(MR_E_STATE, mr_future_cancel(futures[0]));
    CHECK_EQ(2, mr_balancer_cancel(balancer));
    check_ends(MR_E_CANCELLED, futures[0]);
    check_ends(MR_E_CANCELLED, futures[2]);
    check_ends(MR_E_CANCELLED, futures[3]);
    latch_open(&latch);
    check_ends(MR_OK, first);
    for (int i = 0; i < 4; i++)
        CHECK_EQ(0, works[i].runs);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static mr_status submit_cancel(void *context, const mr_task_call *call)
{
    (void)call;
    CHECK_EQ(2, mr_balancer_cancel(context));
    return MR_OK;
}

/* The task that cancels is with a worker, and has not yet let go of what comes after it. */
static void balancer_cancels_what_comes_after_a_task_in_flight(mr_device *device)
{
    struct latch latch;
    latch_init(&latch);
    mr_balancer *balancer = make_balancer(device, 1, (mr_balancer_options){ .depth = 1 });
    struct work held = { .latch = &latch }, works[2] = { 0 };
    mr_future *first = submit(balancer, task_of(&held)), *futures[2];
    mr_future *cancelling =
        submit(balancer, (mr_task){ .submit = submit_cancel, .context = balancer });
    for (int i = 0; i < 2; i++) {
        mr_task task = task_of(&works[i]);
        task.after = i ? &futures[0] : &cancelling;
        task.after_count = 1;
        futures[i] = submit(balancer, task);
    }
    latch_open(&latch);
    check_ends(MR_OK, first);
    check_ends(MR_OK, cancelling);
    check_ends(MR_E_CANCELLED, futures[0]);
    check_ends(MR_E_CANCELLED, futures[1]);
    CHECK_EQ(0, works[0].runs + works[1].runs);
    mr_balancer_destroy(balancer);
    latch_fini(&latch);
}

static void count_done(void *context, const mr_task_result *result)
{
    (void)result;
    ((struct work *)context)->attempt++;
}

static void balancer_may_be_destroyed_at_any_time(mr_device *device)
{
    mr_balancer *balancer =
        make_balancer(device, 2, (mr_balancer_options){ .results = MR_RESULTS_IN_ORDER });
    struct work works[COUNT] = { 0 };
    mr_future *futures[COUNT] = { NULL };
    for (int i = 0; i < COUNT; i++) {
        mr_task task = task_of(&works[i]);
        task.done = count_done;
        CHECK_OK(mr_balancer_submit(balancer, &task, i % 2 ? &futures[i] : NULL));
    }
    mr_balancer_destroy(balancer);
    for (int i = 1; i < COUNT; i += 2) {
        mr_task_result result;
        CHECK_OK(mr_future_result(futures[i], &result));
        CHECK(result.status == (works[i].runs ? MR_OK : MR_E_CANCELLED));
        CHECK_STATUS(result.status, mr_future_wait(futures[i]));
        mr_future_release(futures[i]);
    }
    mr_balancer_destroy(NULL);
    mr_future_release(NULL);
}

static const struct suite_test tests[] = {
    SUITE_TEST(balancer_runs_every_task_once),
    SUITE_TEST(balancer_gives_results_in_order),
    SUITE_TEST(balancer_gives_results_as_completed),
    SUITE_TEST(balancer_takes_tasks_from_done_functions),
    SUITE_TEST(balancer_goes_on_by_itself),
    SUITE_TEST(balancer_refuses_to_wait_inside_a_task),
    SUITE_TEST(balancer_never_waits_for_a_place_inside_a_task),
    SUITE_TEST(balancer_gives_by_priority),
    SUITE_TEST(balancer_orders_tasks_after_others),
    SUITE_TEST(balancer_mixes_the_cpu_with_a_device),
    SUITE_TEST(balancer_passes_tasks_that_wait_for_another_device),
    SUITE_TEST(balancer_outlives_a_task_that_reports_failure),
    SUITE_TEST(balancer_replaces_a_stream_that_failed),
    SUITE_TEST(balancer_says_what_was_behind_a_failure),
    SUITE_TEST(balancer_tries_again_elsewhere),
    SUITE_TEST(balancer_tells_the_first_failure_that_nobody_was_told),
    SUITE_TEST(balancer_refuses_a_task_that_never_fits),
    SUITE_TEST(balancer_waits_for_memory),
    SUITE_TEST(balancer_fails_for_memory_where_asked),
    SUITE_TEST(balancer_shares_the_memory_of_a_device),
    SUITE_TEST(balancer_has_a_limit),
    SUITE_TEST(balancer_submit_waits_for_a_place),
    SUITE_TEST(balancer_cancels_what_waits),
    SUITE_TEST(balancer_cancels_what_comes_after_a_task_in_flight),
    SUITE_TEST(balancer_may_be_destroyed_at_any_time),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = WORKERS }, tests,
                      sizeof tests / sizeof *tests);
}
