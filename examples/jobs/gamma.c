/* SPDX-License-Identifier: MIT */
/*
 * The kernel of gamma.yaml. Parameters are bound by name: `source` is what comes in, `target` what
 * goes out, `full` and `exponent` stand in the job, and `count` is the number of elements.
 */
#include <millrace/portable.h>

MR_KERNEL(gamma_curve, MR_IN(uint16_t, source), MR_OUT(float, target), MR_VALUE(float, full),
          MR_VALUE(float, exponent), MR_VALUE(uint64_t, count))
{
    MR_EACH (i, count) {
        const float x = (float)source[i] / full;
        target[i] = powf(x < 1.0f ? x : 1.0f, exponent);
    }
}
