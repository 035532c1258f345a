/* SPDX-License-Identifier: MIT */
/*
 * Random tasks from several threads against a plain model: classes, priorities, memory at 95 % of the
 * budget, tasks after others, failures, cancellations, and ends in the middle.
 *
 * Every task ends once. A task ran if and only if it ended well; it failed if and only if it was told to
 * or came after one that did. What it comes after had run before it. Declared memory never exceeds the
 * budget.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/balancer.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    THREADS = 3,
    TASKS = 1500, /* of each thread */
    AFTER_LIMIT = 6,
    STREAMS = 3,
    BUDGET = 100000,
    SPIN_LIMIT = 4000
};

struct shared {
    mr_balancer *balancer;
    _Atomic int64_t memory_used, memory_peak;
    _Atomic uint32_t ended;
};

struct work {
    struct shared *shared;
    const struct work *before[AFTER_LIMIT];
    int before_count;
    int spins;
    bool is_failing;  /* as told */
    bool is_expected; /* to fail, with those before it */
    uint64_t memory;
    uint32_t done_count;
    _Atomic uint32_t runs; /* written by the stream, read by those behind it: ordered by events */
    uint32_t plain_runs;   /* the same without an atomic: the thread sanitizer sees a lost wait */
};

static mr_status run_work(void *context)
{
    struct work *work = context;
    for (int i = 0; i < work->before_count; i++)
        CHECK_EQ(1, work->before[i]->plain_runs);
    for (volatile int i = 0; i < work->spins; i++)
        ;
    work->plain_runs++;
    atomic_fetch_add(&work->runs, 1);
    return MR_OK;
}

static void raise_peak(_Atomic int64_t *peak, int64_t value)
{
    int64_t seen = atomic_load(peak);
    while (seen < value && !atomic_compare_exchange_weak(peak, &seen, value))
        ;
}

static mr_status submit_work(void *context, const mr_task_call *call)
{
    struct work *work = context;
    struct shared *shared = work->shared;
    const int64_t used =
        atomic_fetch_add(&shared->memory_used, (int64_t)work->memory) + (int64_t)work->memory;
    raise_peak(&shared->memory_peak, used);
    if (work->is_failing)
        return mr_error_set(MR_E_FORMAT, "told to");
    return mr_stream_call(call->stream, run_work, work);
}

static void end_work(void *context, const mr_task_result *result)
{
    struct work *work = context;
    if (result->attempts)
        atomic_fetch_sub(&work->shared->memory_used, (int64_t)work->memory);
    work->done_count++;
    atomic_fetch_add(&work->shared->ended, 1);
    CHECK(result->status == MR_OK || result->status == MR_E_FORMAT ||
          result->status == MR_E_CANCELLED);
}

/* Most are small, some need nearly all there is. */
static uint64_t random_memory(struct random *random)
{
    switch (random_below(random, 8)) {
    case 0:
        return 0;
    case 1:
        return BUDGET * 95 / 100;
    default:
        return random_below(random, BUDGET / 3);
    }
}

struct thread {
    struct shared *shared;
    struct work *works;
    mr_future **futures;
    uint64_t seed;
    bool is_cancelling;
    pthread_t id;
};

static void choose_before(struct thread *thread, struct random *random, int index,
                          mr_future **after)
{
    struct work *work = &thread->works[index];
    const int count = index ? (int)random_below(random, AFTER_LIMIT + 1) : 0;
    for (int i = 0; i < count; i++) {
        const int reach = index < 40 ? index : 40;
        const int other = index - 1 - (int)random_below(random, (size_t)reach);
        after[work->before_count] = thread->futures[other];
        work->before[work->before_count++] = &thread->works[other];
        work->is_expected |= thread->works[other].is_expected;
    }
}

static void submit_one(struct thread *thread, struct random *random, int index)
{
    struct work *work = &thread->works[index];
    mr_future *after[AFTER_LIMIT];
    work->shared = thread->shared;
    work->spins = (int)random_below(random, SPIN_LIMIT);
    work->is_expected = work->is_failing = random_below(random, 200) == 0;
    work->memory = random_memory(random);
    if (random_below(random, 3) == 0)
        choose_before(thread, random, index, after);
    const mr_task task = {
        .submit = submit_work,
        .context = work,
        .done = end_work,
        .task_class = (uint32_t)random_below(random, 4),
        .size = (double)random_below(random, 3),
        .priority = (int)random_below(random, 32) - 16,
        .affinity = random_below(random, 6),
        .memory_bytes = work->memory,
        .after = after,
        .after_count = (size_t)work->before_count,
    };
    CHECK_OK(mr_balancer_submit(thread->shared->balancer, &task, &thread->futures[index]));
}

static void *run_thread(void *context)
{
    struct thread *thread = context;
    struct random random = { thread->seed };
    for (int i = 0; i < TASKS; i++) {
        submit_one(thread, &random, i);
        if (thread->is_cancelling && random_below(&random, 20) == 0)
            (void)!mr_future_cancel(thread->futures[random_below(&random, (size_t)i + 1)]);
        if (random_below(&random, 50) == 0)
            (void)!mr_future_wait(thread->futures[random_below(&random, (size_t)i + 1)]);
    }
    return NULL;
}

static void check_work(const struct thread *thread, int index)
{
    const struct work *work = &thread->works[index];
    const mr_status status = mr_future_wait(thread->futures[index]);
    CHECK_EQ(1, work->done_count);
    CHECK_EQ(status ? 0 : 1, atomic_load(&work->runs));
    if (!thread->is_cancelling)
        CHECK_EQ(work->is_expected ? MR_E_FORMAT : MR_OK, status);
    if (!status)
        CHECK(!work->is_expected);
}

static void start_threads(struct thread *threads, struct shared *shared, bool is_cancelling)
{
    for (int i = 0; i < THREADS; i++) {
        threads[i] = (struct thread){ .shared = shared,
                                      .works = calloc(TASKS, sizeof *threads[i].works),
                                      .futures = calloc(TASKS, sizeof *threads[i].futures),
                                      .seed = 77 + (uint64_t)i,
                                      .is_cancelling = is_cancelling };
        CHECK(threads[i].works && threads[i].futures);
        CHECK_EQ(0, pthread_create(&threads[i].id, NULL, run_thread, &threads[i]));
    }
}

static mr_balancer *make_balancer(mr_device *device, mr_device *cpu)
{
    const mr_worker_options workers[] = {
        { .device = device, .stream_count = STREAMS, .memory_bytes = BUDGET },
        { .device = cpu, .memory_bytes = BUDGET / 2 },
    };
    mr_balancer *balancer = NULL;
    CHECK_OK(mr_balancer_create(
        &(mr_balancer_options){ .workers = workers, .worker_count = 2, .task_limit = 300 },
        &balancer));
    return balancer;
}

static void run_random_tasks(mr_device *device, bool is_cancelling)
{
    mr_device *cpu;
    struct thread threads[THREADS];
    struct shared shared = { 0 };
    CHECK_OK(mr_device_open("cpu", NULL, &cpu));
    shared.balancer = make_balancer(device, cpu);
    start_threads(threads, &shared, is_cancelling);
    for (int i = 0; i < THREADS; i++)
        CHECK_EQ(0, pthread_join(threads[i].id, NULL));
    CHECK_OK(mr_balancer_drain(shared.balancer, MR_FOREVER));
    CHECK_EQ(THREADS * TASKS, atomic_load(&shared.ended));
    CHECK_EQ(0, atomic_load(&shared.memory_used));
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < TASKS; k++)
            check_work(&threads[i], k);
    }
    mr_balancer_destroy(shared.balancer);
    for (int i = 0; i < THREADS; i++) {
        for (int k = 0; k < TASKS; k++)
            mr_future_release(threads[i].futures[k]);
        free(threads[i].futures);
        free(threads[i].works);
    }
    CHECK_OK(mr_device_close(cpu));
}

static void balancer_agrees_with_the_model(mr_device *device)
{
    run_random_tasks(device, false);
}

static void balancer_survives_cancelling(mr_device *device)
{
    run_random_tasks(device, true);
}

/* ---- memory ---- */

struct room {
    _Atomic int64_t used, peak;
};

struct tenant {
    struct room *room;
    int64_t bytes;
};

static mr_status move_in(void *context, const mr_task_call *call)
{
    const struct tenant *tenant = context;
    (void)call;
    raise_peak(&tenant->room->peak,
               atomic_fetch_add(&tenant->room->used, tenant->bytes) + tenant->bytes);
    return MR_OK;
}

static mr_status leave_room(void *context)
{
    const struct tenant *tenant = context;
    for (volatile int i = 0; i < 2000; i++)
        ;
    atomic_fetch_sub(&tenant->room->used, tenant->bytes);
    return MR_OK;
}

static mr_status use_memory(void *context, const mr_task_call *call)
{
    const mr_status status = move_in(context, call);
    return status ? status : mr_stream_call(call->stream, leave_room, context);
}

/* Sizes up to 95 % of one device's memory, in every order: none waits for ever, none too many. */
static void balancer_never_deadlocks_on_memory(mr_device *device)
{
    enum { TENANTS = 3000 };
    static struct tenant tenants[TENANTS];
    struct room room = { 0 };
    struct random random = { 3 };
    const mr_worker_options workers = { .device = device,
                                        .stream_count = 4,
                                        .memory_bytes = BUDGET };
    mr_balancer *balancer = NULL;
    CHECK_OK(mr_balancer_create(&(mr_balancer_options){ .workers = &workers, .worker_count = 1 },
                                &balancer));
    for (int i = 0; i < TENANTS; i++) {
        tenants[i] =
            (struct tenant){ &room, 1 + (int64_t)random_below(&random, BUDGET * 95 / 100) };
        const mr_task task = { .submit = use_memory,
                               .context = &tenants[i],
                               .priority = (int)random_below(&random, 3),
                               .memory_bytes = (uint64_t)tenants[i].bytes };
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    CHECK_EQ(0, atomic_load(&room.used));
    CHECK(atomic_load(&room.peak) <= BUDGET);
    CHECK(atomic_load(&room.peak) > BUDGET / 2);
    mr_balancer_destroy(balancer);
}

/* ---- streams that fail, and ends in the middle ---- */

static mr_status fail_sometimes(void *context)
{
    const struct work *work = context;
    return work->is_failing ? mr_error_set(MR_E_FORMAT, "told to") : run_work(context);
}

static mr_status submit_call(void *context, const mr_task_call *call)
{
    return mr_stream_call(call->stream, fail_sometimes, context);
}

static void count_end(void *context, const mr_task_result *result)
{
    struct work *work = context;
    work->done_count++;
    if (result->status)
        CHECK(result->status == MR_E_FORMAT || result->status == MR_E_CANCELLED);
    CHECK(!work->is_failing || result->status);
    CHECK(result->status || atomic_load(&work->runs) == 1);
}

static void fail_streams(mr_device *device, bool is_drained)
{
    enum { WORKS = 1000 };
    struct random random = { 9 };
    struct work *works = calloc(WORKS, sizeof *works);
    const mr_worker_options workers = { .device = device, .stream_count = STREAMS };
    mr_balancer *balancer = NULL;
    CHECK(works != NULL);
    CHECK_OK(mr_balancer_create(
        &(mr_balancer_options){
            .workers = &workers, .worker_count = 1, .depth = 3, .retry_limit = 1 },
        &balancer));
    for (int i = 0; i < WORKS; i++) {
        works[i].is_failing = random_below(&random, 20) == 0;
        const mr_task task = { .submit = submit_call, .context = &works[i], .done = count_end };
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    if (is_drained)
        CHECK_OK(mr_balancer_drain(balancer, MR_FOREVER));
    mr_balancer_destroy(balancer);
    for (int i = 0; i < WORKS; i++)
        CHECK_EQ(1, works[i].done_count);
    free(works);
}

static void balancer_replaces_streams_all_the_time(mr_device *device)
{
    fail_streams(device, true);
    for (int i = 0; i < 20; i++)
        fail_streams(device, false);
}

static const struct suite_test tests[] = {
    SUITE_TEST(balancer_agrees_with_the_model),
    SUITE_TEST(balancer_survives_cancelling),
    SUITE_TEST(balancer_never_deadlocks_on_memory),
    SUITE_TEST(balancer_replaces_streams_all_the_time),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
