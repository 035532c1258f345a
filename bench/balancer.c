/* SPDX-License-Identifier: MIT */
/*
 * What balancing gains and what it costs, on CPU threads.
 *
 * Gain: tasks whose lengths are log-normal, on four workers of which one takes ten times as long. The
 * makespan is held against max(work / sum of speeds, longest task on a fast worker), with every task
 * given by turns and in equal shares beside it. Tasks sleep, so that four workers need not have four
 * CPUs. Cost: empty tasks, alone, with a future, and in chains, beside StarPU's where that is installed.
 *
 *     bench_balancer [--tasks N] [--empty N] [--runs N] [--json FILE]
 *     bench_balancer --device cuda:0 [--empty N] [--runs N] [--json FILE]
 *
 * With a device: only what tasks cost there, over two groups of four streams, as two devices would have.
 */
#include "measure.h"
#include "require.h"

#include <millrace/balancer.h>
#include <millrace/buffer.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

#ifdef HAVE_STARPU
#include <starpu.h>
#endif

enum { WORKERS = 4, SLOW_WORKER = 3, SLOW_FACTOR = 10, MEAN_NS = 400000 };

/* ---- skewed tasks ---- */

struct job {
    double length_ns; /* on a fast worker */
    double slept_ns;  /* as it was, there */
    uint32_t worker;
};

struct skewed {
    struct job *jobs;
    int count;
    bool is_hinted; /* the balancer is told the sizes */
    double makespan_s;
    mr_device *device;
};

static mr_status sleep_for_job(void *context)
{
    struct job *job = context;
    const double began = measure_now_s();
    const double length = job->length_ns * (job->worker == SLOW_WORKER ? SLOW_FACTOR : 1);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    const uint64_t end =
        (uint64_t)until.tv_sec * 1000000000u + (uint64_t)until.tv_nsec + (uint64_t)length;
    until.tv_sec = (time_t)(end / 1000000000u);
    until.tv_nsec = (long)(end % 1000000000u);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
    job->slept_ns = (measure_now_s() - began) * 1e9;
    return MR_OK;
}

static mr_status submit_job(void *context, const mr_task_call *call)
{
    struct job *job = context;
    job->worker = call->worker;
    return mr_stream_call(call->stream, sleep_for_job, job);
}

static double normal(void)
{
    const double first = (rand() + 1.0) / (RAND_MAX + 2.0);
    const double second = (rand() + 1.0) / (RAND_MAX + 2.0);
    return sqrt(-2 * log(first)) * cos(2 * 3.14159265358979 * second);
}

static void fill_jobs(struct skewed *skewed)
{
    srand(7);
    for (int i = 0; i < skewed->count; i++)
        skewed->jobs[i].length_ns = MEAN_NS * exp(normal() - 0.5);
}

/* What the jobs took as they ran, at the speed of a fast worker. */
static double bound_of(const struct skewed *skewed)
{
    double work = 0, longest = 0;
    for (int i = 0; i < skewed->count; i++) {
        const struct job *job = &skewed->jobs[i];
        const double length = job->slept_ns / (job->worker == SLOW_WORKER ? SLOW_FACTOR : 1);
        work += length;
        longest = fmax(longest, length);
    }
    return fmax(work / (WORKERS - 1 + 1.0 / SLOW_FACTOR), longest) * 1e-9;
}

static double run_balanced(void *context)
{
    struct skewed *skewed = context;
    mr_balancer *balancer;
    const mr_worker_options workers = { .device = skewed->device, .stream_count = WORKERS };
    require_ok(mr_balancer_create(&(mr_balancer_options){ .workers = &workers, .worker_count = 1 },
                                  &balancer));
    const double began = measure_now_s();
    for (int i = 0; i < skewed->count; i++) {
        const mr_task task = { .submit = submit_job,
                               .context = &skewed->jobs[i],
                               .size = skewed->is_hinted ? skewed->jobs[i].length_ns : 0 };
        require_ok(mr_balancer_submit(balancer, &task, NULL));
    }
    require_ok(mr_balancer_drain(balancer, MR_FOREVER));
    skewed->makespan_s = measure_now_s() - began;
    mr_balancer_destroy(balancer);
    return skewed->makespan_s / bound_of(skewed);
}

/* By turns, or in equal shares. */
static double run_fixed(struct skewed *skewed, bool is_by_turns)
{
    mr_stream *streams[WORKERS];
    for (int i = 0; i < WORKERS; i++)
        require_ok(mr_stream_create(skewed->device, NULL, &streams[i]));
    const double began = measure_now_s();
    for (int i = 0; i < skewed->count; i++) {
        const int worker = is_by_turns ? i % WORKERS : (int)((int64_t)i * WORKERS / skewed->count);
        skewed->jobs[i].worker = (uint32_t)worker;
        require_ok(mr_stream_call(streams[worker], sleep_for_job, &skewed->jobs[i]));
    }
    for (int i = 0; i < WORKERS; i++)
        require_ok(mr_stream_wait(streams[i]));
    skewed->makespan_s = measure_now_s() - began;
    for (int i = 0; i < WORKERS; i++)
        mr_stream_destroy(streams[i]);
    return skewed->makespan_s / bound_of(skewed);
}

static void report_skewed(struct measure_report *report, int task_count)
{
    struct skewed skewed = { .count = task_count };
    skewed.jobs = calloc((size_t)task_count, sizeof *skewed.jobs);
    measure_require(skewed.jobs != NULL, "out of memory");
    require_ok(
        mr_device_open("cpu", &(mr_device_options){ .worker_count = WORKERS }, &skewed.device));
    fill_jobs(&skewed);

    skewed.is_hinted = true;
    const double hinted = run_balanced(&skewed);
    measure_report_target(report, hinted, "x bound", "<=", 1.05, "balanced, sizes known");
    measure_report_add(report, skewed.makespan_s * 1e3, "ms", "balanced, sizes known: makespan");
    skewed.is_hinted = false;
    const double unknown = run_balanced(&skewed);
    measure_report_target(report, unknown, "x bound", "<=", 1.05, "balanced, sizes not known");
    measure_report_add(report, run_fixed(&skewed, true), "x bound", "round robin");
    measure_report_add(report, run_fixed(&skewed, false), "x bound", "equal shares");

    require_ok(mr_device_close(skewed.device));
    free(skewed.jobs);
}

/* ---- empty tasks ---- */

struct empty {
    mr_device *device;
    int count;
    uint32_t group_count, stream_count; /* workers: so many groups of so many streams */
    mr_task_submit submit;
    mr_results results;
    double cpu_s; /* that all threads took in the last run */
};

static mr_buffer *scratch; /* of tasks that fill */

static mr_status submit_nothing(void *context, const mr_task_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static mr_status do_nothing(void *context)
{
    (void)context;
    return MR_OK;
}

static mr_status submit_call(void *context, const mr_task_call *call)
{
    return mr_stream_call(call->stream, do_nothing, context);
}

static mr_balancer *make_balancer(const struct empty *empty)
{
    mr_balancer *balancer;
    const mr_worker_options group = { .device = empty->device,
                                      .stream_count = empty->stream_count };
    const mr_worker_options groups[2] = { group, group };
    require_ok(mr_balancer_create(&(mr_balancer_options){ .workers = groups,
                                                          .worker_count = empty->group_count,
                                                          .results = empty->results },
                                  &balancer));
    return balancer;
}

/* As many tasks as `empty` says, all the same, and the wait for the last. */
static double run_alike(const struct empty *empty, const mr_task *task)
{
    mr_balancer *balancer = make_balancer(empty);
    const double began = measure_now_s();
    for (int i = 0; i < empty->count; i++)
        require_ok(mr_balancer_submit(balancer, task, NULL));
    require_ok(mr_balancer_drain(balancer, MR_FOREVER));
    const double seconds = measure_now_s() - began;
    mr_balancer_destroy(balancer);
    return seconds;
}

static double run_empty(void *context)
{
    return run_alike(context, &(mr_task){ .submit = submit_call });
}

static double run_bare(void *context)
{
    return run_alike(context, &(mr_task){ .submit = submit_nothing });
}

/* Every task comes after the one before it in its chain, and every eighth after a neighbour's too. */
static double run_chains(void *context)
{
    enum { CHAINS = 8 };
    struct empty *empty = context;
    mr_balancer *balancer = make_balancer(empty);
    mr_future *last[CHAINS] = { NULL };
    const double cpu_began = measure_process_cpu_s(), began = measure_now_s();
    for (int i = 0; i < empty->count; i++) {
        const int chain = i % CHAINS;
        mr_future *after[2] = { last[chain], last[(chain + 1) % CHAINS] };
        const bool has_two = i / CHAINS % 8 == 0 && after[1];
        const mr_task task = { .submit = empty->submit,
                               .after = after,
                               .after_count = !after[0] ? 0
                                              : has_two ? 2
                                                        : 1 };
        mr_future *future;
        require_ok(mr_balancer_submit(balancer, &task, &future));
        mr_future_release(last[chain]);
        last[chain] = future;
    }
    require_ok(mr_balancer_drain(balancer, MR_FOREVER));
    const double seconds = measure_now_s() - began;
    empty->cpu_s = measure_process_cpu_s() - cpu_began;
    for (int i = 0; i < CHAINS; i++)
        mr_future_release(last[i]);
    mr_balancer_destroy(balancer);
    return seconds;
}

/* At most 256 in flight, each result taken. */
static double run_results(void *context)
{
    const struct empty *empty = context;
    mr_balancer *balancer = make_balancer(empty);
    const mr_task task = { .submit = submit_call };
    mr_task_result result;
    const double began = measure_now_s();
    for (int i = 0; i < empty->count; i++) {
        require_ok(mr_balancer_submit(balancer, &task, NULL));
        if (i >= 256)
            require_ok(mr_balancer_next(balancer, MR_FOREVER, &result));
    }
    while (mr_balancer_next(balancer, MR_FOREVER, &result) == MR_OK)
        ;
    const double seconds = measure_now_s() - began;
    mr_balancer_destroy(balancer);
    return seconds;
}

#ifdef HAVE_STARPU
static void starpu_nothing(void *buffers[], void *context)
{
    (void)buffers;
    (void)context;
}

static struct starpu_codelet starpu_empty = {
    .cpu_funcs = { starpu_nothing },
    .nbuffers = 0,
};

static double run_starpu(void *context)
{
    const struct empty *empty = context;
    const double began = measure_now_s();
    for (int i = 0; i < empty->count; i++) {
        struct starpu_task *task = starpu_task_create();
        task->cl = &starpu_empty;
        task->destroy = 1;
        measure_require(starpu_task_submit(task) == 0, "StarPU refused a task");
    }
    starpu_task_wait_for_all();
    return measure_now_s() - began;
}

static double time_starpu(struct empty *empty, int run_count)
{
    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.ncpus = 2;
    conf.ncuda = 0;
    conf.nopencl = 0;
    measure_require(starpu_init(&conf) == 0, "StarPU does not start");
    const double seconds = measure_median_of(run_starpu, empty, run_count);
    starpu_shutdown();
    return seconds / empty->count * 1e9;
}
#endif

static void report_empty(struct measure_report *report, int count, int run_count)
{
    struct empty empty = {
        .count = count, .group_count = 1, .stream_count = 2, .submit = submit_call
    };
    require_ok(mr_device_open("cpu", NULL, &empty.device));
    const double each = 1e9 / count;
    const double ours = measure_median_of(run_empty, &empty, run_count) * each;
    measure_report_target(report, ours, "ns", "<=", 2000, "an empty task, two workers");
    measure_report_add(report, measure_median_of(run_bare, &empty, run_count) * each, "ns",
                       "a task that queues nothing");
    measure_report_target(report, measure_median_of(run_chains, &empty, run_count) * each, "ns",
                          "<=", 2000, "an empty task after one or two others, with a future");
    empty.results = MR_RESULTS_AS_COMPLETED;
    measure_report_add(report, measure_median_of(run_results, &empty, run_count) * each, "ns",
                       "an empty task, result taken as completed");
    empty.results = MR_RESULTS_IN_ORDER;
    measure_report_add(report, measure_median_of(run_results, &empty, run_count) * each, "ns",
                       "an empty task, result taken in order");
    require_ok(mr_device_close(empty.device));

#ifdef HAVE_STARPU
    const double theirs = time_starpu(&empty, run_count);
    measure_report_add(report, theirs, "ns", "StarPU, an empty task, two workers");
    measure_report_target(report, ours / theirs, "x", "<=", 0.5, "ours / StarPU");
#endif
}

/* What the host does for a task, where tasks queue nothing and where they queue a small fill. */
static mr_status submit_fill(void *context, const mr_task_call *call)
{
    (void)context;
    return mr_fill(call->stream, scratch, 64 * call->worker, 64, 0, 4);
}

static void report_device(struct measure_report *report, const char *name, int count, int run_count)
{
    struct empty empty = {
        .count = count, .group_count = 2, .stream_count = 4, .submit = submit_nothing
    };
    require_ok(mr_device_open(name, NULL, &empty.device));
    require_ok(mr_buffer_create(empty.device, 64 * 8, NULL, &scratch));
    const double each = 1e9 / count;
    measure_report_add(report, measure_median_of(run_bare, &empty, run_count) * each, "ns",
                       "%s, 4 + 4 streams: a task that queues nothing", name);
    measure_report_target(report, measure_median_of(run_chains, &empty, run_count) * each, "ns",
                          "<=", 1000, "%s, 4 + 4 streams: the same after one or two others", name);
    measure_report_add(report, empty.cpu_s * each, "ns", "%s: CPU time of all threads, of that",
                       name);
    empty.submit = submit_fill;
    measure_report_add(report, measure_median_of(run_chains, &empty, run_count) * each, "ns",
                       "%s, 4 + 4 streams: a fill of 64 bytes after one or two others", name);
    measure_report_add(report, empty.cpu_s * each, "ns", "%s: CPU time of all threads, of that",
                       name);
    mr_buffer_destroy(scratch);
    require_ok(mr_device_close(empty.device));
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "balancer", &argc, argv);
    const int tasks = (int)measure_option_number(argc, argv, "tasks", 4000);
    const int empty = (int)measure_option_number(argc, argv, "empty", 200000);
    const int run_count = (int)measure_option_number(argc, argv, "runs", 5);
    const char *device = measure_option(argc, argv, "device", NULL);
    if (device) {
        report_device(&report, device, empty, run_count);
    } else {
        report_empty(&report, empty, run_count);
        report_skewed(&report, tasks);
    }
    return measure_report_finish(&report);
}
