/* SPDX-License-Identifier: MIT */
/*
 * unit/cuda_rig.h - a fresh rig for every test of the CUDA backend, and a look at what it left behind.
 */
#ifndef TEST_CUDA_RIG_H
#define TEST_CUDA_RIG_H

#include "cuda_fixture.h"

#include <stdatomic.h>

static struct rig rig;

static inline int set_up(void **state)
{
    (void)state;
    return rig_open(&rig);
}

static inline int set_up_two(void **state)
{
    setenv("FAKECUDA_DEVICES", "2", 1);
    return set_up(state);
}

static inline int set_up_without_wait_value(void **state)
{
    setenv("FAKECUDA_NO_WAIT_VALUE", "1", 1);
    return set_up(state);
}

/* Whatever a test leaves behind is a leak. */
static inline int tear_down(void **state)
{
    (void)state;
    rig_close(&rig);
    unsetenv("FAKECUDA_DEVICES");
    unsetenv("FAKECUDA_NO_PEERS");
    unsetenv("FAKECUDA_NO_WAIT_VALUE");
    return (int)fakecuda_live();
}

/* A host function: counts that it ran. */
static inline void count_up(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define TEST_TWO(name) cmocka_unit_test_setup_teardown(name, set_up_two, tear_down)
#define TEST_WITHOUT_WAIT_VALUE(name)                                                              \
    cmocka_unit_test_setup_teardown(name, set_up_without_wait_value, tear_down)

#endif
