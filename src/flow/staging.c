/* SPDX-License-Identifier: MIT */
/*
 * A staging crew: threads and a small pinned ring beside a device.
 */
#include "flow/staging.h"

#include <millrace/staging.h>

#include <sched.h>

uint32_t mr__staging_threads(uint32_t crew_count)
{
    cpu_set_t set;
    const int cpus = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    const int spare = cpus > 4 ? 2 : 0;
    const int share = (cpus - spare) / (int)crew_count;
    return share < 1 ? 1 : share > 8 ? 8 : (uint32_t)share;
}
