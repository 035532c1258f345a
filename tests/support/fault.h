/* SPDX-License-Identifier: MIT */
/*
 * support/fault.h - a scenario round after round, each time with a later allocation failing (or a later
 * driver call: support/fault_driver.h), until a round in which nothing was left to fail.
 *
 *     struct fault fault = { .kind = &fault_allocation };
 *     while (fault_next(&fault)) {
 *         fault_begin(&fault);
 *         const mr_status status = scenario();
 *         fault_end(&fault, status);
 *     }
 *     assert_true(fault.nth > 20);
 *
 * What stands before fault_begin and after fault_end never fails.
 */
#ifndef TEST_FAULT_H
#define TEST_FAULT_H

#include "support/unit.h"

#include "base/alloc.h"

struct fault_kind {
    const char *name;
    void (*fail_at)(uint64_t nth, int is_lasting); /* 0: none from now on */
    int (*has_failed)(void);
};

static const struct fault_kind fault_allocation = { "allocation", mr__alloc_fail_at,
                                                    mr__alloc_has_failed };

struct fault {
    const struct fault_kind *kind;
    const char *where;  /* for the words of a test that fails; may be NULL */
    mr_status expected; /* what the scenario may answer when one failed; MR_OK: any failure */
    int is_lasting;     /* every later one fails, too */
    uint64_t step;      /* to the next round's; 0: 1. May change from round to round. */

    uint64_t nth; /* the one that fails in this round; in the end the first that was not there */
    uint64_t error_count; /* rounds that answered a failure: some things can be done without */
    bool has_failed;      /* in this round */
};

/* False when nothing failed in the round before. */
static inline bool fault_next(struct fault *fault)
{
    if (fault->nth && !fault->has_failed)
        return false;
    fault->nth += fault->nth && fault->step ? fault->step : 1;
    return true;
}

static inline void fault_begin(struct fault *fault)
{
    (void)mr_error_set(MR_OK, "%s", "");
    fault->has_failed = false;
    fault->kind->fail_at(fault->nth, fault->is_lasting);
}

/* Nothing fails from now on: for what is to be done before the scenario's answer is known. */
static inline void fault_stop(struct fault *fault)
{
    fault->has_failed |= fault->kind->has_failed();
    fault->kind->fail_at(0, 0);
}

static inline const char *fault_name(const struct fault *fault)
{
    static char name[80];
    snprintf(name, sizeof name, "%s%s%s %d", fault->where ? fault->where : "",
             fault->where ? ", " : "", fault->kind->name, (int)fault->nth);
    return name;
}

/* A failure has to come from the fault, to be the one expected, and to have words. */
static inline void fault_end(struct fault *fault, mr_status status)
{
    fault_stop(fault);
    if (!status)
        return;
    fault->error_count++;
    if (!fault->has_failed || (fault->expected && status != fault->expected))
        fail_msg("%s %s: %s: %s", fault_name(fault), fault->has_failed ? "failed" : "did not fail",
                 mr_status_name(status), mr_last_error());
    if (!*mr_last_error())
        fail_msg("%s: %s without words", fault_name(fault), mr_status_name(status));
}

#endif
