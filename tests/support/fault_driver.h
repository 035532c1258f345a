/* SPDX-License-Identifier: MIT */
/*
 * support/fault_driver.h - the calls of the stand-in driver as what fails (support/fault.h), and that a
 * failure leaves nothing on it.
 */
#ifndef TEST_FAULT_DRIVER_H
#define TEST_FAULT_DRIVER_H

#include "support/fakecuda/fakecuda.h"
#include "support/fault.h"

#include <millrace/device.h>

static inline void fault_driver_fail_at(uint64_t nth, int is_lasting)
{
    assert_false(is_lasting);
    fakecuda_fail_at(nth, NULL, 0);
}

static const struct fault_kind fault_driver_call = { "driver call", fault_driver_fail_at,
                                                     fakecuda_has_failed };

static inline void fault_leaves_nothing(const struct fault *fault)
{
    if (fakecuda_live())
        fail_msg("%s leaves %d things", fault_name(fault), (int)fakecuda_live());
}

/* All rounds, each on a device that is opened for it. */
static inline void fault_on_device(struct fault *fault, const char *device_name,
                                   mr_status (*scenario)(mr_device *device))
{
    fault->where = device_name;
    while (fault_next(fault)) {
        mr_device *device;
        assert_ok(mr_device_open(device_name, NULL, &device));
        fault_begin(fault);
        const mr_status status = scenario(device);
        fault_end(fault, status);
        assert_ok(mr_device_close(device));
        fault_leaves_nothing(fault);
    }
}

#endif
