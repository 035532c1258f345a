/* SPDX-License-Identifier: MIT */
/*
 * bench/require.h - calls that must succeed: a benchmark ends with the library's words where one does not.
 */
#ifndef BENCH_REQUIRE_H
#define BENCH_REQUIRE_H

#include "measure.h"

#include <millrace/status.h>

static inline void require_ok(mr_status status)
{
    measure_require(status == MR_OK, "%s: %s", mr_status_name(status), mr_last_error());
}

#endif
