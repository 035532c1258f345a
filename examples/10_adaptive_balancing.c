/* SPDX-License-Identifier: MIT */
/*
 * Adaptive balancing: tasks of very different lengths, and one worker ten times as slow as the others.
 * The balancer gives each task to the worker that will end it first. It learns what tasks cost and how
 * slow the workers are, and can say what giving them by turns would have cost.
 *
 *     10_adaptive_balancing [DEVICE]
 *
 * Prints: what each worker did; the busiest worker's time, beside turns, equal shares and the bound
 */
#include "check.h"

enum { WORKERS = 4, SLOW_WORKER = 3, SLOW_FACTOR = 10, TASKS = 600, COUNT = 1 << 14 };

/* What tasks share. Each worker has memory of its own: calls of one worker run in order. */
static mr_kernel *scale;
static mr_buffer *memory[WORKERS];

struct tile {
    uint32_t steps;
};

/* A task's function enqueues and returns. It is told which stream it was given, and whose. */
static mr_status submit_tile(void *context, const mr_task_call *call)
{
    const struct tile *tile = context;
    const mr_argument arguments[] = { mr_argument_buffer(memory[call->worker]),
                                      mr_argument_buffer(memory[call->worker]), mr_argument_f32(1),
                                      mr_argument_f32(1), mr_argument_u64(COUNT) };
    const uint32_t steps = tile->steps * (call->worker == SLOW_WORKER ? SLOW_FACTOR : 1);
    mr_status status = MR_OK;
    for (uint32_t i = 0; !status && i < steps; i++)
        status = mr_kernel_launch(call->stream, scale,
                                  &(mr_launch){ .count = COUNT, .slice_limit = 1 }, arguments, 5);
    return status;
}

static void submit_all(mr_balancer *balancer, struct tile *tiles)
{
    for (int i = 0; i < TASKS; i++) {
        tiles[i].steps = i % 10 ? 4 : 40; /* one in ten is long */
        const mr_task task = { .submit = submit_tile,
                               .context = &tiles[i],
                               .size = tiles[i].steps }; /* a hint: only proportions count */
        CHECK(mr_balancer_submit(balancer, &task, NULL));
    }
}

/* Results come in the order of submission, whoever had the task. */
static void take_results(mr_balancer *balancer, const struct tile *tiles)
{
    mr_task_result result;
    mr_status status;
    int count = 0;
    while ((status = mr_balancer_next(balancer, MR_FOREVER, &result)) == MR_OK) {
        CHECK(result.status);
        EXPECT(result.context == &tiles[count++]);
    }
    EXPECT(status == MR_END && count == TASKS);
}

static void print_workers(mr_balancer *balancer)
{
    printf("worker  tasks   busy ms  slowness\n");
    for (uint32_t i = 0; i < WORKERS; i++) {
        mr_worker_statistics worker;
        CHECK(mr_balancer_measure_worker(balancer, i, &worker));
        printf("%6u %6llu %9.1f %9.2f\n", i, (unsigned long long)worker.tasks,
               (double)worker.busy_ns / 1e6, worker.slowness);
    }
}

int main(int argc, char **argv)
{
    static struct tile tiles[TASKS];
    mr_device *device = open_device(argc, argv);
    mr_balancer *balancer;
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    for (int i = 0; i < WORKERS; i++)
        CHECK(mr_buffer_create(device, COUNT * sizeof(float), NULL, &memory[i]));

    /* Four workers, all streams of one device. With several GPUs: one entry for each. */
    const mr_worker_options workers = { .device = device, .stream_count = WORKERS };
    CHECK(mr_balancer_create(&(mr_balancer_options){ .workers = &workers,
                                                     .worker_count = 1,
                                                     .results = MR_RESULTS_IN_ORDER },
                             &balancer));
    submit_all(balancer, tiles);
    take_results(balancer, tiles);

    mr_balancer_statistics statistics;
    mr_balancer_measure(balancer, &statistics);
    print_workers(balancer);
    printf("busiest worker %.1f ms; by turns %.1f ms, equal shares %.1f ms, at best %.1f ms\n",
           (double)statistics.busiest_ns / 1e6, (double)statistics.round_robin_ns / 1e6,
           (double)statistics.static_ns / 1e6, (double)statistics.bound_ns / 1e6);

    mr_balancer_destroy(balancer);
    for (int i = 0; i < WORKERS; i++)
        mr_buffer_destroy(memory[i]);
    mr_kernel_destroy(scale);
    CHECK(mr_device_close(device));
    return 0;
}
