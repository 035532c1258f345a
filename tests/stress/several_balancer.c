/* SPDX-License-Identifier: MIT */
/*
 * Tasks over all GPUs and the CPU at once, from several threads: of different costs, after others that
 * ran on other devices, bound to a device, with memory, and failing now and then.
 *
 * A task writes its number by way of the memory of the device it is on. What it comes after has been
 * written when it runs; every task ends once, and its number is there if and only if it ended well.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/several.h"

#include <millrace/balancer.h>
#include <millrace/buffer.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    THREADS = 3,
    TASKS = 600, /* of each thread */
    ALL_TASKS = THREADS * TASKS,
    STREAMS = 2,
    BUDGET = 100000,
    NUMBER_BYTES = sizeof(uint32_t)
};

struct hall {
    const struct several *several;
    mr_balancer *balancer;
    mr_buffer *scratch[SEVERAL_LIMIT + 1]; /* a number of each task */
    mr_buffer *results;                    /* pinned */
};

struct work {
    struct hall *hall;
    uint32_t number; /* from 1 */
    uint32_t before; /* the number of the task that it comes after; 0: none */
    mr_device *device;
    uint32_t failures_left; /* of its next attempts */
    bool is_lost;           /* fails every time */
    uint32_t done_count;
};

static uint32_t lane_of(const struct hall *hall, const mr_device *device)
{
    uint32_t i = 0;
    while (hall->several->devices[i] != device)
        i++;
    return i;
}

static uint32_t *place_of(const struct hall *hall, uint32_t number)
{
    return (uint32_t *)mr_buffer_host(hall->results) + number - 1;
}

/* A host function: behind the task's own work and what it came after. */
static mr_status look_back(void *context)
{
    const struct work *work = context;
    if (work->before && *place_of(work->hall, work->before) != work->before)
        return mr_error_set(MR_E_MISMATCH, "task %u ran before task %u", work->number,
                            work->before);
    return MR_OK;
}

static mr_status write_number(void *context, const mr_task_call *call)
{
    struct work *work = context;
    struct hall *hall = work->hall;
    const size_t at = (size_t)(work->number - 1) * NUMBER_BYTES;
    mr_buffer *scratch = hall->scratch[lane_of(hall, call->device)];
    if (work->device)
        CHECK(work->device == call->device);
    if (work->is_lost || work->failures_left) {
        work->failures_left -= !work->is_lost;
        return mr_error_set(MR_E_FORMAT, "told to");
    }
    mr_status status = mr_stream_call(call->stream, look_back, work);
    if (!status)
        status = mr_fill(call->stream, scratch, at, NUMBER_BYTES, work->number, NUMBER_BYTES);
    if (!status)
        status = mr_copy(call->stream, hall->results, at, scratch, at, NUMBER_BYTES);
    return status;
}

static void end_work(void *context, const mr_task_result *result)
{
    struct work *work = context;
    work->done_count++;
    if (result->status)
        CHECK_STATUS(MR_E_FORMAT, result->status);
}

/* ---- the hall ---- */

static void hall_init(struct hall *hall, const struct several *several, mr_results results)
{
    mr_worker_options workers[SEVERAL_LIMIT + 1];
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    *hall = (struct hall){ .several = several };
    for (uint32_t i = 0; i < several->all_count; i++) {
        workers[i] = (mr_worker_options){ .device = several->devices[i],
                                          .stream_count = STREAMS,
                                          .memory_bytes = BUDGET };
        CHECK_OK(mr_buffer_create(several->devices[i], ALL_TASKS * NUMBER_BYTES, NULL,
                                  &hall->scratch[i]));
    }
    CHECK_OK(
        mr_buffer_create(several->devices[0], ALL_TASKS * NUMBER_BYTES, &pinned, &hall->results));
    memset(mr_buffer_host(hall->results), 0, ALL_TASKS * NUMBER_BYTES);
    CHECK_OK(mr_balancer_create(&(mr_balancer_options){ .workers = workers,
                                                        .worker_count = several->all_count,
                                                        .task_limit = 300,
                                                        .retry_limit = 3,
                                                        .results = results },
                                &hall->balancer));
}

static void hall_fini(struct hall *hall)
{
    mr_balancer_destroy(hall->balancer);
    mr_buffer_destroy(hall->results);
    for (uint32_t i = 0; i < hall->several->all_count; i++)
        mr_buffer_destroy(hall->scratch[i]);
}

static void check_statistics(const struct hall *hall, uint64_t succeeded, uint64_t failed)
{
    mr_balancer_statistics all;
    uint64_t tasks = 0;
    mr_balancer_measure(hall->balancer, &all);
    CHECK_EQ(hall->several->all_count * STREAMS, all.worker_count);
    CHECK_EQ(succeeded, all.succeeded);
    CHECK_EQ(failed, all.failed);
    for (uint32_t i = 0; i < all.worker_count; i++) {
        mr_worker_statistics worker;
        CHECK_OK(mr_balancer_measure_worker(hall->balancer, i, &worker));
        CHECK_EQ(0, strcmp(mr_device_id(hall->several->devices[i / STREAMS]), worker.device));
        tasks += worker.tasks;
    }
    CHECK(tasks >= succeeded);
}

/* ---- random tasks from several threads ---- */

struct thread {
    struct hall *hall;
    struct work *works;
    mr_future *futures[TASKS];
    uint32_t first; /* number of its first task */
    pthread_t id;
};

static void choose_work(struct thread *thread, struct random *random, uint32_t index)
{
    struct work *work = &thread->works[index];
    const struct several *several = thread->hall->several;
    *work = (struct work){ .hall = thread->hall, .number = thread->first + index };
    if (index && random_below(random, 3) == 0) {
        const uint32_t other = index - 1 - (uint32_t)random_below(random, index < 20 ? index : 20);
        work->before = thread->first + other;
        work->is_lost = thread->works[other].is_lost; /* it fails with it */
    }
    if (random_below(random, 5) == 0)
        work->device = several->devices[random_below(random, several->all_count)];
    if (random_below(random, 40) == 0)
        work->failures_left = 1 + (uint32_t)random_below(random, 3);
    if (random_below(random, 150) == 0)
        work->is_lost = true;
}

static void submit_work(struct thread *thread, struct random *random, uint32_t index)
{
    struct work *work = &thread->works[index];
    choose_work(thread, random, index);
    const mr_task task = {
        .submit = write_number,
        .context = work,
        .done = end_work,
        .task_class = (uint32_t)random_below(random, 3),
        .size = (double)(1 + random_below(random, 9)),
        .priority = (int)random_below(random, 5) - 2,
        .affinity = random_below(random, 4),
        .memory_bytes = random_below(random, 4) ? 0 : 1 + random_below(random, BUDGET * 95 / 100),
        .device = work->device,
        .after = work->before ? &thread->futures[work->before - thread->first] : NULL,
        .after_count = work->before != 0,
    };
    CHECK_OK(mr_balancer_submit(thread->hall->balancer, &task, &thread->futures[index]));
}

static void *run_thread(void *context)
{
    struct thread *thread = context;
    struct random random = { thread->first + 5 };
    for (uint32_t i = 0; i < TASKS; i++)
        submit_work(thread, &random, i);
    return NULL;
}

/* A task that others came after in flight is not tried again, so that an expected failure is one that
 * may be; what never fails by itself or by what it came after must be there. */
static uint32_t check_works(struct thread *thread)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < TASKS; i++) {
        const struct work *work = &thread->works[i];
        const mr_status status = mr_future_wait(thread->futures[i]);
        CHECK_EQ(1, work->done_count);
        CHECK_EQ(status ? 0 : work->number, *place_of(thread->hall, work->number));
        CHECK(!work->is_lost || status);
        failed += status != MR_OK;
    }
    return failed;
}

static void random_tasks_run_on_all_devices(struct several *several)
{
    static struct thread threads[THREADS];
    struct hall hall;
    uint32_t failed = 0;
    hall_init(&hall, several, MR_RESULTS_NONE);
    for (uint32_t i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){ .hall = &hall,
                                      .works = calloc(TASKS, sizeof(struct work)),
                                      .first = i * TASKS + 1 };
        CHECK(threads[i].works);
        CHECK_EQ(0, pthread_create(&threads[i].id, NULL, run_thread, &threads[i]));
    }
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i].id, NULL));
    CHECK_OK(mr_balancer_drain(hall.balancer, MR_FOREVER));
    for (int i = 0; i < THREADS; i++)
        failed += check_works(&threads[i]);
    CHECK(failed < ALL_TASKS / 2);
    check_statistics(&hall, ALL_TASKS - failed, failed);
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < TASKS; k++)
            mr_future_release(threads[i].futures[k]);
        free(threads[i].works);
    }
    hall_fini(&hall);
}

/* ---- results in order ---- */

static void results_come_in_order_from_all_devices(struct several *several)
{
    static struct work works[TASKS];
    struct hall hall;
    hall_init(&hall, several, MR_RESULTS_IN_ORDER);
    uint32_t submitted = 0;
    for (uint32_t due = 0; due < TASKS; due++) {
        for (; submitted < TASKS && submitted < due + 200; submitted++) {
            works[submitted] = (struct work){ .hall = &hall, .number = submitted + 1 };
            const mr_task task = { .submit = write_number,
                                   .context = &works[submitted],
                                   .size = 1 + submitted % 7 };
            CHECK_OK(mr_balancer_submit(hall.balancer, &task, NULL));
        }
        mr_task_result result;
        CHECK_OK(mr_balancer_next(hall.balancer, MR_FOREVER, &result));
        CHECK_EQ(due, result.sequence);
        CHECK_OK(result.status);
        CHECK_EQ(due + 1, *place_of(&hall, due + 1));
    }
    check_statistics(&hall, TASKS, 0);
    hall_fini(&hall);
}

int main(int argc, char **argv)
{
    static const struct several_test tests[] = {
        SEVERAL_TEST(random_tasks_run_on_all_devices, .all_count = 1),
        SEVERAL_TEST(results_come_in_order_from_all_devices, .all_count = 1),
    };
    return several_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
