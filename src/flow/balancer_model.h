/* SPDX-License-Identifier: MIT */
/*
 * flow/balancer_model.h - what tasks cost, how slow workers are, and where a task finishes first.
 *
 * A task's cost on a worker is the cost of its class, times its size, times the worker's slowness. Both
 * are learned from measured times. Nothing here waits, locks or reads a clock: times come in as
 * arguments, in nanoseconds, so that every choice can be tested with a script.
 */
#ifndef MR__BALANCER_MODEL_H
#define MR__BALANCER_MODEL_H

#include <millrace/status.h>

#include <stdbool.h>

#define MR__MODEL_NONE UINT32_MAX

enum {
    MR__MODEL_FIRST_COUNT = 5, /* samples of which the median is taken, before means are trusted */
    MR__MODEL_BIN_COUNT = 1024,
    MR__MODEL_DEPTH_LIMIT = 64
};

struct mr__model_class {
    double cost;   /* of a unit of size, on a worker of slowness 1 */
    double spread; /* mean distance of a sample from the cost */
    uint64_t count;
    double first[MR__MODEL_FIRST_COUNT]; /* sorted */
};

/* Workers that share memory. */
struct mr__model_group {
    const void *place; /* the device */
    uint64_t budget_bytes, used_bytes;
    uint32_t waiting_count; /* tasks that wait and may have this place only; in its first group */
};

struct mr__model_worker {
    struct mr__model_group *group;
    bool is_open; /* may be given tasks */
    double slowness;
    uint64_t sample_count;

    uint32_t depth;      /* tasks in flight */
    double flight_cost;  /* predicted, of all of them */
    double head_cost;    /* of the oldest */
    uint64_t head_ns;    /* when it began, as far as is known */
    double planned_cost; /* of tasks that wait for this worker, in the present round */

    uint64_t measured; /* mean and sum of squared distances of measured costs */
    double mean, squares;
    double busy; /* of all tasks that ended here */
};

struct mr__model {
    struct mr__model_class *classes;
    uint32_t class_count;
    struct mr__model_worker *workers;
    uint32_t worker_count;
    struct mr__model_group *groups;
    uint32_t group_count;
    uint32_t depth_limit; /* 0: by predicted time */
    double fill_ns;       /* a worker is given more while it has less than this to do */
    double task_cost;     /* of any task, for classes that nothing is known of */
    uint64_t learn_count;

    /* The costs of all ended tasks at slowness 1, for what-if: in runs of consecutive tasks, and by
     * turns. */
    double bins[MR__MODEL_BIN_COUNT];
    uint64_t bin_tasks; /* consecutive tasks of one bin: a power of two */
    uint64_t sequence_end;
    double *turns; /* one for each worker */
    double longest;
};

/* False when memory is out; fini accepts what is there. Workers and groups are the caller's to fill:
 * all zero but slowness. */
bool mr__model_init(struct mr__model *model, uint32_t class_count, uint32_t group_count,
                    uint32_t worker_count);
void mr__model_fini(struct mr__model *model);

/* ---- learning ---- */

/* On a worker of slowness 1. */
double mr__model_cost(const struct mr__model *model, uint32_t task_class, double size);

/* A measured time teaches class and worker. */
void mr__model_learn(struct mr__model *model, uint32_t worker, uint32_t task_class, double size,
                     double measured_ns);

/* A task has ended while others waited: was its worker left with nothing to do? */
void mr__model_note_dry(struct mr__model *model, bool was_dry);

/* Every ended task, measured or not. */
void mr__model_count(struct mr__model *model, uint32_t worker, uint64_t sequence, double busy_ns);

/* ---- choosing ---- */

struct mr__model_task {
    double cost;       /* at slowness 1 */
    bool is_known;     /* the class has been seen often enough to go by */
    uint64_t ready_ns; /* not before: what it comes after is predicted to end then */
    uint64_t memory_bytes;
    const void *place; /* NULL: any */
    uint32_t home;     /* where its data is; MR__MODEL_NONE: nowhere */
    uint32_t avoid;    /* where it failed; not there if there is another */
};

enum mr__model_answer {
    MR__MODEL_GO,     /* give it to the worker now */
    MR__MODEL_FULL,   /* wait for the worker */
    MR__MODEL_MEMORY, /* wait for memory of the worker's group */
    MR__MODEL_NOWHERE /* no worker that may have it is open */
};

/* The first group of the place, or NULL. */
struct mr__model_group *mr__model_find_group(const struct mr__model *model, const void *place);

/* When the worker will have done what it has and what is planned for it. */
uint64_t mr__model_free_ns(const struct mr__model_worker *worker, uint64_t now_ns);

enum mr__model_answer mr__model_choose(const struct mr__model *model,
                                       const struct mr__model_task *task, uint64_t now_ns,
                                       uint32_t *worker);

/* Forgets what was planned. */
void mr__model_begin_round(struct mr__model *model);
/* True when some open worker of the place (NULL: of any) could be given one more. */
bool mr__model_has_place(const struct mr__model *model, const void *place, uint64_t now_ns);
/* The task waits for that worker: later ones shall count with it. */
void mr__model_plan(struct mr__model *model, uint32_t worker, double cost);

/* A task goes to the worker; answers its predicted cost there. */
double mr__model_give(struct mr__model *model, uint32_t worker, const struct mr__model_task *task,
                      uint64_t now_ns);
/* The oldest task has ended; `next_cost` is the one behind it. */
void mr__model_take_back(struct mr__model *model, uint32_t worker, double cost,
                         uint64_t memory_bytes, double next_cost, uint64_t now_ns);

/* ---- what if ---- */

struct mr__model_whatif {
    double busiest, fixed, turns, bound, imbalance;
};
void mr__model_ask(const struct mr__model *model, struct mr__model_whatif *out);

#endif
