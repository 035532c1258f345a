/* SPDX-License-Identifier: MIT */
/*
 * What happened: counts, costs, and what other ways of giving tasks would have cost.
 */
#include "flow/balancer_parts.h"

#include <math.h>
#include <stdio.h>

void mr_balancer_measure(mr_balancer *balancer, mr_balancer_statistics *statistics)
{
    struct mr__model_whatif whatif;
    pthread_mutex_lock(&balancer->lock);
    *statistics = balancer->statistics;
    mr__model_ask(&balancer->model, &whatif);
    pthread_mutex_unlock(&balancer->lock);
    statistics->worker_count = balancer->worker_count;
    statistics->imbalance = whatif.imbalance;
    statistics->busiest_ns = (uint64_t)whatif.busiest;
    statistics->static_ns = (uint64_t)whatif.fixed;
    statistics->round_robin_ns = (uint64_t)whatif.turns;
    statistics->bound_ns = (uint64_t)whatif.bound;
}

static void fill_worker(const struct mr__balancer_worker *worker,
                        const struct mr__model_worker *model, mr_worker_statistics *out)
{
    *out = (mr_worker_statistics){
        .tasks = worker->tasks,
        .failures = worker->failures,
        .busy_ns = (uint64_t)model->busy,
        .depth = worker->count,
        .depth_peak = worker->depth_peak,
        .depth_mean = worker->given ? (double)worker->depth_sum / (double)worker->given : 0,
        .measured = model->measured,
        .cost_mean_ns = model->mean,
        .cost_spread_ns = model->measured ? sqrt(model->squares / (double)model->measured) : 0,
        .slowness = model->slowness,
        .replacements = worker->replacements,
        .is_gone = worker->is_gone,
    };
    snprintf(out->device, sizeof out->device, "%s", mr_device_id(worker->device));
}

mr_status mr_balancer_measure_worker(mr_balancer *balancer, uint32_t worker,
                                     mr_worker_statistics *statistics)
{
    if (!balancer || !statistics || worker >= balancer->worker_count)
        return mr_error_set(MR_E_INVALID, "mr_balancer_measure_worker: no worker %u", worker);
    pthread_mutex_lock(&balancer->lock);
    fill_worker(&balancer->workers[worker], &balancer->model.workers[worker], statistics);
    pthread_mutex_unlock(&balancer->lock);
    return MR_OK;
}

mr_status mr_balancer_measure_class(mr_balancer *balancer, uint32_t task_class,
                                    mr_class_statistics *statistics)
{
    if (!balancer || !statistics || task_class >= balancer->model.class_count)
        return mr_error_set(MR_E_INVALID, "mr_balancer_measure_class: no class %u", task_class);
    pthread_mutex_lock(&balancer->lock);
    const struct mr__model_class *class = &balancer->model.classes[task_class];
    *statistics = (mr_class_statistics){ .measured = class->count,
                                         .cost_ns = class->cost,
                                         .spread_ns = class->spread };
    pthread_mutex_unlock(&balancer->lock);
    return MR_OK;
}
