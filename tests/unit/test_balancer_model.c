/* SPDX-License-Identifier: MIT */
/*
 * What the balancer learns and where it sends tasks, with a scripted clock and scripted costs.
 */
#include "flow/balancer_model.h"

#include "support/random.h"
#include "support/unit.h"

#include <math.h>

enum { US = 1000, MS = 1000000 };

static struct mr__model model;

static void start(uint32_t worker_count)
{
    assert_true(mr__model_init(&model, 4, 1, worker_count));
    model.groups[0] = (struct mr__model_group){ .place = &model, .budget_bytes = 1000 };
    for (uint32_t i = 0; i < worker_count; i++) {
        model.workers[i].group = &model.groups[0];
        model.workers[i].is_open = true;
    }
}

static int finish(void **state)
{
    (void)state;
    mr__model_fini(&model);
    memset(&model, 0, sizeof model);
    return 0;
}

static struct mr__model_task task_of(double cost)
{
    return (struct mr__model_task){
        .cost = cost, .is_known = true, .home = MR__MODEL_NONE, .avoid = MR__MODEL_NONE
    };
}

static void assert_near(double expected, double actual, double share)
{
    if (fabs(actual - expected) > share * fabs(expected))
        fail_msg("expected %g within %g, got %g", expected, share, actual);
}

/* ---- learning ---- */

static void model_knows_a_class_after_one_task(void **state)
{
    (void)state;
    start(1);
    mr__model_learn(&model, 0, 1, 1, 5 * MS);
    assert_near(5 * MS, mr__model_cost(&model, 1, 1), 1e-9);
    assert_near(20 * MS, mr__model_cost(&model, 1, 4), 1e-9);
}

static void model_takes_the_mean_of_all_for_an_unknown_class(void **state)
{
    (void)state;
    start(1);
    assert_true(mr__model_cost(&model, 2, 1) > 0);
    mr__model_learn(&model, 0, 1, 1, 3 * MS);
    assert_near(3 * MS, mr__model_cost(&model, 2, 1), 1e-9);
}

static void model_forgets_a_cold_start(void **state)
{
    (void)state;
    start(1);
    mr__model_learn(&model, 0, 0, 1, 900 * MS);
    for (int i = 0; i < 4; i++)
        mr__model_learn(&model, 0, 0, 1, 1 * MS);
    assert_near(1 * MS, mr__model_cost(&model, 0, 1), 1e-9);
}

static void model_is_not_moved_far_by_an_outlier(void **state)
{
    (void)state;
    start(1);
    for (int i = 0; i < 100; i++)
        mr__model_learn(&model, 0, 0, 1, i % 2 ? 0.9 * MS : 1.1 * MS);
    mr__model_learn(&model, 0, 0, 1, 1000.0 * MS);
    assert_near(1 * MS, mr__model_cost(&model, 0, 1), 0.05);
}

static void model_follows_a_lasting_change(void **state)
{
    (void)state;
    start(1);
    for (int i = 0; i < 200; i++)
        mr__model_learn(&model, 0, 0, 1, 1 * MS);
    for (int i = 0; i < 300; i++)
        mr__model_learn(&model, 0, 0, 1, 20 * MS);
    assert_near(20 * MS, mr__model_cost(&model, 0, 1), 0.1);
}

static void model_tells_slow_workers_from_dear_classes(void **state)
{
    (void)state;
    start(4);
    struct random random = { 5 };
    const double costs[2] = { 1 * MS, 7 * MS };
    for (int i = 0; i < 4000; i++) {
        const uint32_t worker = (uint32_t)random_below(&random, 4);
        const uint32_t class = (uint32_t)random_below(&random, 2);
        const double noise = 0.8 + 0.4 * (double)random_below(&random, 1000) / 1000;
        mr__model_learn(&model, worker, class, 1, costs[class] * (worker == 2 ? 10 : 1) * noise);
    }
    assert_near(10, model.workers[2].slowness / model.workers[0].slowness, 0.1);
    assert_near(1, model.workers[3].slowness / model.workers[1].slowness, 0.1);
    assert_near(7, mr__model_cost(&model, 1, 1) / mr__model_cost(&model, 0, 1), 0.1);
    assert_near(70 * MS, mr__model_cost(&model, 1, 1) * model.workers[2].slowness, 0.15);
    double sum = 0;
    for (int i = 0; i < 4; i++)
        sum += model.workers[i].slowness;
    assert_near(4, sum, 0.2);
}

/* ---- choosing ---- */

static uint32_t choose(const struct mr__model_task *task, uint64_t now_ns,
                       enum mr__model_answer expected)
{
    uint32_t worker;
    assert_int_equal(expected, mr__model_choose(&model, task, now_ns, &worker));
    return worker;
}

static void model_sends_a_task_where_it_ends_first(void **state)
{
    (void)state;
    start(2);
    model.workers[1].slowness = 3;
    const struct mr__model_task task = task_of(1 * MS);
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO));
    mr__model_give(&model, 0, &task, 0);
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO)); /* 2 ms there, 3 ms here */
    mr__model_give(&model, 0, &task, 0);
    mr__model_give(&model, 0, &task, 0);
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO)); /* 4 ms there */
    mr__model_take_back(&model, 0, 1 * MS, 0, 1 * MS, 1 * MS);
    assert_int_equal(0, choose(&task, 3 * MS / 2, MR__MODEL_FULL)); /* 2.5 ms there again */
}

static void model_waits_for_a_full_worker_that_is_faster(void **state)
{
    (void)state;
    start(2);
    model.depth_limit = 2;
    model.workers[1].slowness = 10;
    const struct mr__model_task task = task_of(1 * MS);
    mr__model_give(&model, 0, &task, 0);
    mr__model_give(&model, 0, &task, 0);
    mr__model_begin_round(&model);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(0, choose(&task, 0, MR__MODEL_FULL));
        mr__model_plan(&model, 0, task.cost);
    }
    mr__model_plan(&model, 0, task.cost);
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO)); /* the eleventh in that line */
    mr__model_begin_round(&model);
    assert_int_equal(0, choose(&task, 0, MR__MODEL_FULL));
}

static void model_keeps_workers_filled_with_short_tasks(void **state)
{
    (void)state;
    start(1);
    const struct mr__model_task brief = task_of(1 * US), lengthy = task_of(100 * MS);
    for (int i = 0; i < MR__MODEL_DEPTH_LIMIT; i++) {
        choose(&brief, 0, MR__MODEL_GO);
        mr__model_give(&model, 0, &brief, 0);
    }
    choose(&brief, 0, MR__MODEL_FULL);
    assert_false(mr__model_has_place(&model, NULL, 0));
    finish(NULL);

    start(1);
    for (int i = 0; i < 2; i++) {
        choose(&lengthy, 0, MR__MODEL_GO);
        mr__model_give(&model, 0, &lengthy, 0);
    }
    choose(&lengthy, 0, MR__MODEL_FULL);
    finish(NULL);

    start(1);
    struct mr__model_task unknown = task_of(1 * US);
    unknown.is_known = false;
    for (int i = 0; i < 2; i++) {
        choose(&unknown, 0, MR__MODEL_GO);
        mr__model_give(&model, 0, &unknown, 0);
    }
    choose(&unknown, 0, MR__MODEL_FULL);
}

static void model_takes_a_late_task_for_later_still(void **state)
{
    (void)state;
    start(2);
    const struct mr__model_task task = task_of(1 * MS);
    mr__model_give(&model, 0, &task, 0);
    assert_int_equal(1 * MS, mr__model_free_ns(&model.workers[0], 0));
    assert_int_equal(1 * MS, mr__model_free_ns(&model.workers[0], MS / 4));
    assert_int_equal(30 * MS, mr__model_free_ns(&model.workers[0], 20 * MS));
}

static void model_stays_home_for_a_fifth(void **state)
{
    (void)state;
    start(2);
    model.depth_limit = 4;
    struct mr__model_task task = task_of(10 * MS);
    task.home = 1;
    model.workers[1].slowness = 1.19;
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO));
    model.workers[1].slowness = 1.21;
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO));
    model.workers[1].slowness = 1;
    const struct mr__model_task other = task_of(1 * MS);
    mr__model_give(&model, 1, &other, 0);
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO));
    mr__model_give(&model, 1, &task, 0);
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO));
}

static void model_avoids_where_a_task_failed(void **state)
{
    (void)state;
    start(2);
    struct mr__model_task task = task_of(1 * MS);
    task.avoid = 0;
    task.home = 0;
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO));
    model.workers[1].is_open = false;
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO));
    model.workers[0].is_open = false;
    choose(&task, 0, MR__MODEL_NOWHERE);
}

static void model_counts_memory_from_giving_to_taking_back(void **state)
{
    (void)state;
    start(2);
    struct mr__model_task task = task_of(1 * MS);
    task.memory_bytes = 600;
    const double cost = mr__model_give(&model, 0, &task, 0);
    assert_int_equal(1, choose(&task, 0, MR__MODEL_MEMORY));
    task.memory_bytes = 400;
    choose(&task, 0, MR__MODEL_GO);
    mr__model_take_back(&model, 0, cost, 600, 0, MS);
    task.memory_bytes = 1000;
    choose(&task, MS, MR__MODEL_GO);
    task.memory_bytes = 1001;
    choose(&task, MS, MR__MODEL_NOWHERE);
    task = task_of(1);
    task.place = &task;
    choose(&task, MS, MR__MODEL_NOWHERE);
}

static void model_begins_when_what_comes_before_has_ended(void **state)
{
    (void)state;
    start(2);
    struct mr__model_task task = task_of(1 * MS);
    mr__model_give(&model, 0, &task, 0);
    task.ready_ns = 5 * MS;
    assert_int_equal(0, choose(&task, 0, MR__MODEL_GO)); /* worker 0 is free by then as well */
    task.ready_ns = 0;
    assert_int_equal(1, choose(&task, 0, MR__MODEL_GO));
}

/* ---- a whole schedule ---- */

/* Log-normal tasks over three workers and one ten times as slow, in scripted time: every task's end
 * comes exactly when it should. */
static double length_of(struct random *random)
{
    double sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (double)random_below(random, 100000) / 100000;
    return 300 * US * exp(sum - 6);
}

enum { TASKS = 3000 };

struct flight {
    double end, length, cost, size;
};

struct lane {
    struct flight flights[MR__MODEL_DEPTH_LIMIT];
    uint32_t count;
    double free;
};

struct schedule {
    struct lane lanes[4];
    double lengths[TASKS], now;
    int next;
    bool is_hinted;
};

static double size_of(const struct schedule *schedule, int i)
{
    return schedule->is_hinted ? schedule->lengths[i] / US : 1;
}

/* Gives task i, which goes before those from `next` on that wait. */
static void give_task(struct schedule *schedule, int i, uint32_t to,
                      const struct mr__model_task *task)
{
    struct lane *lane = &schedule->lanes[to];
    const double length = schedule->lengths[i] * (to == 3 ? 10 : 1);
    lane->free = fmax(lane->free, schedule->now) + length;
    lane->flights[lane->count++] = (struct flight){
        .end = lane->free,
        .length = length,
        .size = size_of(schedule, i),
        .cost = mr__model_give(&model, to, task, (uint64_t)schedule->now),
    };
    for (; i > schedule->next; i--)
        schedule->lengths[i] = schedule->lengths[i - 1];
    schedule->next++;
}

static bool give_one(struct schedule *schedule)
{
    mr__model_begin_round(&model);
    for (int i = schedule->next; i < TASKS && i < schedule->next + 32; i++) {
        struct mr__model_task task = task_of(mr__model_cost(&model, 0, size_of(schedule, i)));
        task.is_known = model.classes[0].count >= MR__MODEL_FIRST_COUNT;
        uint32_t to;
        if (mr__model_choose(&model, &task, (uint64_t)schedule->now, &to) == MR__MODEL_GO) {
            give_task(schedule, i, to, &task);
            return true;
        }
        mr__model_plan(&model, to, task.cost);
    }
    return false;
}

/* Goes on to the next end; false when nothing is in flight. */
static bool end_one(struct schedule *schedule)
{
    struct lane *first = NULL;
    for (int i = 0; i < 4; i++) {
        struct lane *lane = &schedule->lanes[i];
        if (lane->count && (!first || lane->flights[0].end < first->flights[0].end))
            first = lane;
    }
    if (!first)
        return false;
    const struct flight flight = first->flights[0];
    const uint32_t worker = (uint32_t)(first - schedule->lanes);
    memmove(first->flights, first->flights + 1, --first->count * sizeof flight);
    schedule->now = flight.end;
    mr__model_learn(&model, worker, 0, flight.size, flight.length);
    mr__model_take_back(&model, worker, flight.cost, 0, first->count ? first->flights[0].cost : 0,
                        (uint64_t)schedule->now);
    return true;
}

static double simulate(bool is_hinted)
{
    static struct schedule schedule;
    schedule = (struct schedule){ .is_hinted = is_hinted };
    struct random random = { 11 };
    double work = 0;
    for (int i = 0; i < TASKS; i++)
        work += schedule.lengths[i] = length_of(&random);

    start(4);
    do {
        while (give_one(&schedule))
            ;
    } while (end_one(&schedule));
    assert_int_equal(TASKS, schedule.next);
    return schedule.now / (work / 3.1);
}

static void model_comes_close_to_the_bound_on_skewed_tasks(void **state)
{
    (void)state;
    const double hinted = simulate(true);
    finish(NULL);
    const double unknown = simulate(false);
    if (hinted > 1.05 || unknown > 1.05)
        fail_msg("makespan over bound: %g with sizes, %g without", hinted, unknown);
}

/* ---- what if ---- */

static void model_says_what_other_ways_would_have_cost(void **state)
{
    (void)state;
    start(2);
    model.workers[1].slowness = 2;
    /* Costs 4, 1, 4, 1 at slowness 1. As it was: worker 0 has the 4s, worker 1 the 1s. */
    const double costs[4] = { 4 * MS, 1 * MS, 4 * MS, 1 * MS };
    for (uint64_t i = 0; i < 4; i++)
        mr__model_count(&model, i % 2, i, costs[i] * (i % 2 ? 2 : 1));
    struct mr__model_whatif whatif;
    mr__model_ask(&model, &whatif);
    assert_near(8 * MS, whatif.busiest, 1e-9);
    assert_near(8 * MS, whatif.turns, 1e-9);
    assert_near(10 * MS, whatif.fixed, 1e-9); /* 5 on the slow one */
    assert_near(10 * MS / 1.5, whatif.bound, 1e-9);
    assert_near(1.0 / 3, whatif.imbalance, 1e-9); /* 8 and 4 */
}

static void model_remembers_shares_of_long_runs(void **state)
{
    (void)state;
    enum { TASKS = 50000 };
    start(4);
    for (uint64_t i = 0; i < TASKS; i++)
        mr__model_count(&model, i % 4, i, i < TASKS / 4 ? 3 : 1);
    struct mr__model_whatif whatif;
    mr__model_ask(&model, &whatif);
    assert_near(3.0 * TASKS / 4, whatif.fixed, 0.01);
    assert_near(6.0 * TASKS / 16, whatif.turns, 0.01);
    assert_true(whatif.imbalance < 1e-6);
}

#define TEST(name) cmocka_unit_test_teardown(name, finish)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(model_knows_a_class_after_one_task),
        TEST(model_takes_the_mean_of_all_for_an_unknown_class),
        TEST(model_forgets_a_cold_start),
        TEST(model_is_not_moved_far_by_an_outlier),
        TEST(model_follows_a_lasting_change),
        TEST(model_tells_slow_workers_from_dear_classes),
        TEST(model_sends_a_task_where_it_ends_first),
        TEST(model_waits_for_a_full_worker_that_is_faster),
        TEST(model_keeps_workers_filled_with_short_tasks),
        TEST(model_takes_a_late_task_for_later_still),
        TEST(model_stays_home_for_a_fifth),
        TEST(model_avoids_where_a_task_failed),
        TEST(model_counts_memory_from_giving_to_taking_back),
        TEST(model_begins_when_what_comes_before_has_ended),
        TEST(model_comes_close_to_the_bound_on_skewed_tasks),
        TEST(model_says_what_other_ways_would_have_cost),
        TEST(model_remembers_shares_of_long_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
