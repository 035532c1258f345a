/* SPDX-License-Identifier: MIT */
/*
 * flow/balancer_parts.h - what the balancer's files share.
 *
 * One lock guards all bookkeeping. Work is driven by whoever is there: a thread that submits or waits,
 * else the balancer's own. The one that drives looks which tasks have ended, chooses the next, and
 * gives the lock up only to call the users' functions; `is_driven` keeps the others out. While nothing
 * can be done, one thread watches an event and the others sleep.
 *
 * A task is blocked (those before it have not all been given to a stream), ready (in a list of its
 * priority), given (in a slot of a worker), or ended. Slots of a worker are used in a circle and ended
 * in the order in which they were given.
 *
 * balancer.c makes and ends balancers, balancer_task.c keeps tasks, balancer_drive.c gives and takes
 * back, balancer_wait.c waits, balancer_submit.c and balancer_future.c are the calls, and
 * balancer_report.c tells.
 */
#ifndef MR__BALANCER_PARTS_H
#define MR__BALANCER_PARTS_H

#include "flow/balancer_model.h"
#include "flow/gate.h"

#include <millrace/balancer.h>

enum {
    MR__TASK_PRIORITY_LEAST = -16,
    MR__TASK_PRIORITY_MOST = 15,
    MR__TASK_LEVELS = MR__TASK_PRIORITY_MOST - MR__TASK_PRIORITY_LEAST + 1,
    MR__TASK_EDGES = 4, /* kept in the task itself */
    MR__BALANCER_SLOTS = MR__MODEL_DEPTH_LIMIT,
    /* Ready tasks that are looked at for one that can go; behind them, only those that wait for others
     * than these wait for. */
    MR__BALANCER_WINDOW = 32,
    MR__AFFINITY_SETS = 1024,
    MR__AFFINITY_WAYS = 4
};

enum mr__task_state { MR__TASK_BLOCKED, MR__TASK_READY, MR__TASK_GIVEN, MR__TASK_ENDED };

/* `owner` comes after `before`. In the list of `before` until that was given or has ended. */
struct mr__task_edge {
    mr_future *before, *owner;
    struct mr__task_edge *previous, *next;
    bool is_listed;
};

struct mr_future {
    mr_balancer *balancer;
    mr_task task;
    enum mr__task_state state;
    uint32_t references;
    uint64_t sequence;
    uint32_t worker, attempt, attempts;
    uint32_t passed_over; /* times that others took memory before it */
    bool is_reported;     /* somebody is told how it ended */
    bool has_result;      /* mr_balancer_next gives it */
    bool has_waited_for_memory;

    mr_status status;
    char *words;
    double busy_ns;
    bool is_measured;
    double given_cost; /* predicted, on its worker */
    uint64_t expected_ns;
    struct mr__balancer_slot *slot; /* while it is given */
    struct mr__model_group *bound;  /* of the only device that may have it; NULL: any may */

    struct mr__task_edge *edges, few_edges[MR__TASK_EDGES];
    uint32_t edge_count, edge_capacity, blocked_count;
    struct mr__task_edge *followers;
    bool has_given_followers;

    mr_future *previous, *next;               /* in its ready list, or the free list */
    mr_future *result_previous, *result_next; /* results: all, in order; or those ended */
    mr_future *done_next;                     /* `done` functions that are due */
};

struct mr__task_list {
    mr_future *first, *last;
};

/* One task in flight. Events are made at first use and kept. */
struct mr__balancer_slot {
    mr_future *task;
    mr_event *ended, *timed_start, *timed_end;
    bool is_timed, is_recorded;
    bool has_ended;   /* known without an event: nothing was queued, or it was waited for */
    mr_status status; /* of the task's function, or of what is around it */
};

struct mr__balancer_worker {
    mr_device *device;
    mr_stream *stream;
    int priority;
    struct mr__balancer_slot slots[MR__BALANCER_SLOTS];
    uint32_t first, count; /* slots in use */
    bool is_broken;        /* its stream has failed, and is replaced once nothing is in flight */
    bool is_gone;
    uint32_t short_count; /* tasks since the last that was timed */
    double timed_from_ns; /* tasks of this cost are all timed: it does not matter to them */
    uint64_t tasks, failures, depth_sum, given;
    uint32_t depth_peak, replacements;
};

struct mr__affinity {
    uint64_t key;
    uint32_t worker, stamp;
};

struct mr__task_chunk {
    struct mr__task_chunk *next;
    mr_future tasks[];
};

struct mr_balancer {
    char *name;
    struct mr__balancer_worker *workers;
    uint32_t worker_count;
    uint32_t task_limit, retry_limit;
    mr_admission admission;
    mr_results results;
    pthread_t service;
    bool has_service, has_lock;

    pthread_mutex_t lock;            /* guards everything below, and the tasks */
    struct mr__gate changed, called; /* for those who wait; for the service thread */
    uint32_t references;             /* the user's, and every future that somebody holds */
    struct mr__model model;
    struct mr__task_chunk *chunks;
    mr_future *free;
    struct mr__task_list ready[MR__TASK_LEVELS];
    uint32_t ready_mask;
    struct mr__task_list result_list, done_list;
    struct mr__affinity *affinities;
    uint32_t affinity_stamp;

    bool is_driven, is_asked, is_watched, is_stopping, is_service_asleep;
    pthread_t driver;
    uint64_t drive_count;
    uint32_t waiter_count;
    /* The ready tasks that were looked at wait, and nothing has changed since. */
    bool is_scan_futile;
    bool is_scan_bound; /* those were for certain devices all: one for any could go */
    uint64_t next_look_ns;
    uint32_t next_worker; /* where looking begins: takes turns */
    mr_event *watched;    /* by the watching thread: not recorded again meanwhile */
    mr_event *orphan;     /* was watched when its slot had to go on */

    uint32_t unfinished, untaken; /* tasks not ended; results not taken */
    mr_status untold;             /* the first failure that nobody was told */
    char *untold_words;
    mr_balancer_statistics statistics;
};

/* Everything from here on is called under the lock unless it says otherwise. */

/* ---- balancer.c ---- */

/* Gives the lock up for good; the last to leave frees. */
void mr__balancer_leave(mr_balancer *balancer);

/* ---- balancer_task.c ---- */

/* A zeroed record with one reference, or NULL. */
mr_future *mr__task_take(mr_balancer *balancer);
void mr__task_release(mr_future *task);
void mr__task_free_chunk(struct mr__task_chunk *chunk);
/* A place for `count` edges; false when memory is out. */
bool mr__task_reserve_edges(mr_future *task, size_t count);
/* `task` comes after `before`, which has not ended well. */
void mr__task_connect(mr_future *task, mr_future *before);

void mr__task_make_ready(mr_future *task);
void mr__task_remove_ready(mr_future *task);
/* The next ready one after `task` in order of priority; NULL asks for the first. */
mr_future *mr__task_next_ready(const mr_balancer *balancer, const mr_future *task);

/* It was given to a stream or has ended: those after it may go on. */
void mr__task_let_follow(mr_future *task);

/* Ends the task; it is in no list of ready ones and in no slot. Those after it that wait end too when
 * this is a failure. */
void mr__task_end(mr_future *task, mr_status status, const char *words);
/* The words of a task that came after `before`, which failed. */
void mr__task_blame(const mr_future *before, char *words, size_t words_bytes);
/* Ends a task that waits. */
void mr__task_cancel(mr_future *task, mr_status status, const char *words);

void mr__task_fill_result(const mr_future *task, mr_task_result *result);
/* Sets the thread's words. */
mr_status mr__task_say(const mr_future *task);

/* ---- balancer_drive.c ---- */

/* Unless somebody drives: takes back what has ended and gives what can go, at most `rounds` times.
 * Gives the lock up meanwhile. */
void mr__balancer_drive(mr_balancer *balancer, uint32_t rounds);
uint64_t mr__balancer_now_ns(const mr_balancer *balancer);

/* ---- balancer_look.c ---- */

/* Takes back what has ended; true when something had. */
bool mr__balancer_look(mr_balancer *balancer);
/* The oldest is 0. */
struct mr__balancer_slot *mr__balancer_slot_at(struct mr__balancer_worker *worker, uint32_t index);
/* The event that fires when the slot's task has ended. */
mr_event *mr__balancer_slot_event(const struct mr__balancer_slot *slot);
/* Gives failed streams up that have nothing in flight. Gives the lock up meanwhile. */
bool mr__balancer_replace_broken(mr_balancer *balancer);

/* ---- balancer_home.c ---- */

uint32_t mr__affinity_find(const mr_balancer *balancer, uint64_t key);
void mr__affinity_note(mr_balancer *balancer, uint64_t key, uint32_t worker);

/* ---- balancer_wait.c ---- */

typedef bool (*mr__balancer_test)(mr_balancer *balancer, void *context);

/* Gives the lock up until the test holds, driving meanwhile; false when patience has ended. */
bool mr__balancer_wait(mr_balancer *balancer, mr__balancer_test test, void *context,
                       const struct mr__patience *patience);
void *mr__balancer_serve(void *balancer);
/* The caller is the thread that drives: it is inside a task's or a `done` function. Waiting there would
 * never end, so mr__balancer_wait only asks, and the call is refused: MR_E_STATE. */
bool mr__balancer_is_inside(const mr_balancer *balancer);
mr_status mr__balancer_refuse_inside(const char *call);

#endif
