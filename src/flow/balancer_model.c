/* SPDX-License-Identifier: MIT */
/*
 * Costs, slownesses and the choice of a worker.
 */
#include "flow/balancer_model.h"

#include "base/alloc.h"

#include <math.h>
#include <string.h>

enum {
    UNKNOWN_COST_NS = 20000,
    UNKNOWN_DEPTH = 2,
    FILL_NS_FIRST = 500000,
    FILL_NS_LEAST = 200000,
    FILL_NS_MOST = 4000000,
    MEMORY_OF_COST = 64, /* samples that a mean remembers, about */
    SPREADS_TO_OUTLIER = 4,
    NORMALISE_EVERY = 64
};

/* Another worker must win by more than a fifth, and by more than a guess about short tasks is worth. */
static const double STAY_FACTOR = 1.2, STAY_NS = 20000;
static const double SLOWNESS_LIMIT = 1000;

bool mr__model_init(struct mr__model *model, uint32_t class_count, uint32_t group_count,
                    uint32_t worker_count)
{
    *model = (struct mr__model){ .class_count = class_count,
                                 .worker_count = worker_count,
                                 .group_count = group_count,
                                 .bin_tasks = 1,
                                 .fill_ns = FILL_NS_FIRST };
    model->classes = mr__zalloc_array(class_count, sizeof *model->classes);
    model->groups = mr__zalloc_array(group_count, sizeof *model->groups);
    model->workers = mr__zalloc_array(worker_count, sizeof *model->workers);
    model->turns = mr__zalloc_array(worker_count, sizeof *model->turns);
    if (!model->classes || !model->groups || !model->workers || !model->turns)
        return false;
    for (uint32_t i = 0; i < worker_count; i++)
        model->workers[i].slowness = 1;
    return true;
}

void mr__model_fini(struct mr__model *model)
{
    mr__free(model->turns);
    mr__free(model->workers);
    mr__free(model->groups);
    mr__free(model->classes);
}

/* ---- learning ---- */

static double clamp(double value, double least, double most)
{
    return value < least ? least : value > most ? most : value;
}

/* The weight of a new sample after `count` others. */
static double gain_of(uint64_t count)
{
    return 1.0 / (double)(count < MEMORY_OF_COST ? count + 1 : MEMORY_OF_COST);
}

double mr__model_cost(const struct mr__model *model, uint32_t task_class, double size)
{
    const struct mr__model_class *class = &model->classes[task_class];
    if (class->count)
        return class->cost * size;
    return model->task_cost > 0 ? model->task_cost : UNKNOWN_COST_NS;
}

/* The first few: their median, so that a cold start does not count. */
static void learn_early(struct mr__model_class *class, double sample)
{
    uint64_t i = class->count++;
    for (; i > 0 && class->first[i - 1] > sample; i--)
        class->first[i] = class->first[i - 1];
    class->first[i] = sample;

    class->cost = class->first[(class->count - 1) / 2];
    double distance = 0;
    for (i = 0; i < class->count; i++)
        distance += fabs(class->first[i] - class->cost);
    class->spread = distance / (double)class->count;
}

/* Then a mean, towards which an outlier pulls no harder than a sample some spreads away. A lasting
 * change widens the spread and so gets through. */
static void learn_class(struct mr__model_class *class, double sample)
{
    if (class->count < MR__MODEL_FIRST_COUNT) {
        learn_early(class, sample);
        return;
    }
    const double reach = fmax(SPREADS_TO_OUTLIER * class->spread, class->cost);
    const double step = clamp(sample - class->cost, -reach, reach);
    const double gain = gain_of(class->count++);
    class->cost = fmax(class->cost + gain * step, 1);
    class->spread += gain * (fabs(step) - class->spread);
}

static void learn_worker(struct mr__model_worker *worker, double ratio)
{
    const double gain = gain_of(worker->sample_count);
    const bool is_early = worker->sample_count < MR__MODEL_FIRST_COUNT;
    const double least = is_early ? 1 / SLOWNESS_LIMIT : worker->slowness / 2;
    const double most = is_early ? SLOWNESS_LIMIT : worker->slowness * 2;
    worker->sample_count++;
    worker->slowness += gain * (clamp(ratio, least, most) - worker->slowness);
}

/* Class costs and slownesses could grow against each other: the workers' mean is kept at 1. */
static void normalise(struct mr__model *model)
{
    double sum = 0;
    for (uint32_t i = 0; i < model->worker_count; i++)
        sum += model->workers[i].slowness;
    const double mean = sum / model->worker_count;
    if (mean > 0.99 && mean < 1.01)
        return;
    for (uint32_t i = 0; i < model->worker_count; i++)
        model->workers[i].slowness /= mean;
    for (uint32_t i = 0; i < model->class_count; i++) {
        struct mr__model_class *class = &model->classes[i];
        class->cost *= mean;
        class->spread *= mean;
        for (int k = 0; k < MR__MODEL_FIRST_COUNT; k++)
            class->first[k] *= mean;
    }
    for (uint32_t i = 0; i < MR__MODEL_BIN_COUNT; i++)
        model->bins[i] *= mean;
    for (uint32_t i = 0; i < model->worker_count; i++)
        model->turns[i] *= mean;
    model->longest *= mean;
    model->task_cost *= mean;
}

void mr__model_learn(struct mr__model *model, uint32_t index, uint32_t task_class, double size,
                     double measured_ns)
{
    struct mr__model_worker *worker = &model->workers[index];
    struct mr__model_class *class = &model->classes[task_class];
    const double measured = fmax(measured_ns, 1);
    const double distance = measured - worker->mean;
    worker->mean += distance / (double)++worker->measured;
    worker->squares += distance * (measured - worker->mean);

    /* A class's first sample says nothing about the worker. */
    const double predicted = class->count ? class->cost * size : 0;
    const double sample = measured / worker->slowness;
    learn_class(class, sample / size);
    if (predicted > 0 && model->worker_count > 1)
        learn_worker(worker, measured / predicted);
    model->task_cost += gain_of(model->learn_count) * (sample - model->task_cost);
    if (++model->learn_count % NORMALISE_EVERY == 0)
        normalise(model);
}

/* How long the host takes to come back is the machine's affair, and changes with its load: it shows in
 * workers that are found with nothing to do. Up fast, down slowly. */
void mr__model_note_dry(struct mr__model *model, bool was_dry)
{
    const double factor = was_dry ? 1.25 : 0.998;
    model->fill_ns = clamp(model->fill_ns * factor, FILL_NS_LEAST, FILL_NS_MOST);
}

/* ---- what was, and what if ---- */

static void halve_bins(struct mr__model *model)
{
    for (uint32_t i = 0; i < MR__MODEL_BIN_COUNT / 2; i++)
        model->bins[i] = model->bins[2 * i] + model->bins[2 * i + 1];
    memset(model->bins + MR__MODEL_BIN_COUNT / 2, 0, sizeof model->bins / 2);
    model->bin_tasks *= 2;
}

void mr__model_count(struct mr__model *model, uint32_t index, uint64_t sequence, double busy_ns)
{
    struct mr__model_worker *worker = &model->workers[index];
    const double cost = busy_ns / worker->slowness;
    worker->busy += busy_ns;
    while (sequence / model->bin_tasks >= MR__MODEL_BIN_COUNT)
        halve_bins(model);
    model->bins[sequence / model->bin_tasks] += cost;
    model->turns[sequence % model->worker_count] += cost;
    if (sequence >= model->sequence_end)
        model->sequence_end = sequence + 1;
    if (cost > model->longest)
        model->longest = cost;
}

/* The work of tasks `begin` to `end`: whole bins, and shares of those at the edges. */
static double sum_between(const struct mr__model *model, double begin, double end)
{
    double sum = 0;
    const double width = (double)model->bin_tasks;
    for (uint32_t i = (uint32_t)(begin / width); i < MR__MODEL_BIN_COUNT && i * width < end; i++) {
        const double width_here = fmin(width, (double)model->sequence_end - i * width);
        const double inside = fmin(end, (i + 1) * width) - fmax(begin, i * width);
        if (width_here > 0)
            sum += model->bins[i] * clamp(inside / width_here, 0, 1);
    }
    return sum;
}

void mr__model_ask(const struct mr__model *model, struct mr__model_whatif *out)
{
    *out = (struct mr__model_whatif){ 0 };
    const uint32_t count = model->worker_count;
    const double share = (double)model->sequence_end / count;
    double work = 0, speed = 0, fastest = INFINITY, busy = 0, squares = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct mr__model_worker *worker = &model->workers[i];
        out->busiest = fmax(out->busiest, worker->busy);
        out->turns = fmax(out->turns, model->turns[i] * worker->slowness);
        out->fixed =
            fmax(out->fixed, sum_between(model, i * share, (i + 1) * share) * worker->slowness);
        work += model->turns[i];
        speed += 1 / worker->slowness;
        fastest = fmin(fastest, worker->slowness);
        busy += worker->busy;
        squares += worker->busy * worker->busy;
    }
    out->bound = fmax(work / speed, model->longest * fastest);
    const double mean = busy / count;
    if (mean > 0)
        out->imbalance = sqrt(fmax(squares / count - mean * mean, 0)) / mean;
}

/* ---- choosing ---- */

/* What the oldest task still needs. One that is late says that its prediction was wrong: it is taken to
 * need half as long again as it has had. */
static double head_left(const struct mr__model_worker *worker, uint64_t now_ns)
{
    const double had = now_ns > worker->head_ns ? (double)(now_ns - worker->head_ns) : 0;
    return fmax(worker->head_cost - had, had > worker->head_cost ? had / 2 : 0);
}

static double work_left(const struct mr__model_worker *worker, uint64_t now_ns)
{
    if (!worker->depth)
        return 0;
    return head_left(worker, now_ns) + fmax(worker->flight_cost - worker->head_cost, 0);
}

uint64_t mr__model_free_ns(const struct mr__model_worker *worker, uint64_t now_ns)
{
    return now_ns + (uint64_t)(work_left(worker, now_ns) + worker->planned_cost);
}

static bool has_place(const struct mr__model *model, const struct mr__model_worker *worker,
                      bool is_known, uint64_t now_ns)
{
    if (model->depth_limit)
        return worker->depth < model->depth_limit;
    if (worker->depth < UNKNOWN_DEPTH)
        return true;
    return is_known && worker->depth < MR__MODEL_DEPTH_LIMIT &&
           work_left(worker, now_ns) < model->fill_ns;
}

bool mr__model_has_place(const struct mr__model *model, const void *place, uint64_t now_ns)
{
    for (uint32_t i = 0; i < model->worker_count; i++) {
        const struct mr__model_worker *worker = &model->workers[i];
        if (worker->is_open && (!place || place == worker->group->place) &&
            has_place(model, worker, true, now_ns))
            return true;
    }
    return false;
}

struct mr__model_group *mr__model_find_group(const struct mr__model *model, const void *place)
{
    for (uint32_t i = 0; i < model->group_count; i++) {
        if (model->groups[i].place == place)
            return &model->groups[i];
    }
    return NULL;
}

static bool may_have(const struct mr__model_worker *worker, const struct mr__model_task *task)
{
    return worker->is_open && (!task->place || worker->group->place == task->place) &&
           task->memory_bytes <= worker->group->budget_bytes;
}

/* Nanoseconds from now until the worker would have ended the task. */
static double finish_in(const struct mr__model_worker *worker, const struct mr__model_task *task,
                        uint64_t now_ns)
{
    double begin = work_left(worker, now_ns) + worker->planned_cost;
    if (task->ready_ns > now_ns)
        begin = fmax(begin, (double)(task->ready_ns - now_ns));
    return begin + task->cost * worker->slowness;
}

/* Where a task failed: the worker, or all of its device, which may be what failed. */
enum avoid { AVOID_NONE, AVOID_WORKER, AVOID_PLACE };

static bool is_avoided(const struct mr__model *model, const struct mr__model_task *task,
                       uint32_t index, enum avoid avoid)
{
    if (avoid == AVOID_NONE || task->avoid == MR__MODEL_NONE)
        return false;
    const void *place = model->workers[task->avoid].group->place;
    return index == task->avoid ||
           (avoid == AVOID_PLACE && place && model->workers[index].group->place == place);
}

static uint32_t find_soonest(const struct mr__model *model, const struct mr__model_task *task,
                             enum avoid avoid, uint64_t now_ns, double *soonest)
{
    uint32_t best = MR__MODEL_NONE;
    *soonest = INFINITY;
    for (uint32_t i = 0; i < model->worker_count; i++) {
        const struct mr__model_worker *worker = &model->workers[i];
        if (is_avoided(model, task, i, avoid) || !may_have(worker, task))
            continue;
        const double finish = finish_in(worker, task, now_ns);
        if (finish < *soonest) {
            *soonest = finish;
            best = i;
        }
    }
    return best;
}

enum mr__model_answer mr__model_choose(const struct mr__model *model,
                                       const struct mr__model_task *task, uint64_t now_ns,
                                       uint32_t *out)
{
    double soonest;
    enum avoid avoid = task->avoid == MR__MODEL_NONE ? AVOID_NONE : AVOID_PLACE;
    uint32_t best = find_soonest(model, task, avoid, now_ns, &soonest);
    while (best == MR__MODEL_NONE && avoid != AVOID_NONE)
        best = find_soonest(model, task, --avoid, now_ns, &soonest);
    *out = best;
    if (best == MR__MODEL_NONE)
        return MR__MODEL_NOWHERE;

    if (task->home != MR__MODEL_NONE && task->home != best &&
        !is_avoided(model, task, task->home, avoid) &&
        may_have(&model->workers[task->home], task) &&
        finish_in(&model->workers[task->home], task, now_ns) <=
            fmax(soonest * STAY_FACTOR, soonest + STAY_NS))
        best = task->home;
    *out = best;

    const struct mr__model_worker *worker = &model->workers[best];
    if (worker->planned_cost > 0 || !has_place(model, worker, task->is_known, now_ns))
        return MR__MODEL_FULL;
    if (task->memory_bytes > worker->group->budget_bytes - worker->group->used_bytes)
        return MR__MODEL_MEMORY;
    return MR__MODEL_GO;
}

void mr__model_begin_round(struct mr__model *model)
{
    for (uint32_t i = 0; i < model->worker_count; i++)
        model->workers[i].planned_cost = 0;
}

void mr__model_plan(struct mr__model *model, uint32_t index, double cost)
{
    struct mr__model_worker *worker = &model->workers[index];
    worker->planned_cost += fmax(cost * worker->slowness, 1);
}

double mr__model_give(struct mr__model *model, uint32_t index, const struct mr__model_task *task,
                      uint64_t now_ns)
{
    struct mr__model_worker *worker = &model->workers[index];
    const double cost = task->cost * worker->slowness;
    if (worker->depth++ == 0) {
        worker->flight_cost = 0;
        worker->head_cost = cost;
        worker->head_ns = task->ready_ns > now_ns ? task->ready_ns : now_ns;
    }
    worker->flight_cost += cost;
    worker->group->used_bytes += task->memory_bytes;
    return cost;
}

void mr__model_take_back(struct mr__model *model, uint32_t index, double cost,
                         uint64_t memory_bytes, double next_cost, uint64_t now_ns)
{
    struct mr__model_worker *worker = &model->workers[index];
    worker->depth--;
    worker->flight_cost -= cost;
    worker->head_cost = next_cost;
    worker->head_ns = now_ns;
    worker->group->used_bytes -= memory_bytes;
}
