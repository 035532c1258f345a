/* SPDX-License-Identifier: MIT */
/*
 * core/embedded.h - the kernels that the library carries. The table is in kernels/embedded.c.
 */
#ifndef MR__EMBEDDED_H
#define MR__EMBEDDED_H

#include <millrace/kernel.h>

/* One file of kernels/, as text and, where the build found a compiler for it, as PTX. Both end
 * with a zero. */
struct mr__embedded_source {
    const char *path; /* "kernels/image.c" */
    const char *text;
    const char *image; /* NULL when there is none */
};

/* How many builds for instruction sets there are of each function. */
enum { MR__EMBEDDED_LEVEL_COUNT = 3 };

struct mr__embedded_kernel {
    const char *name;
    const char *signature;
    const struct mr__embedded_source *source;
    mr_native_kernel functions[MR__EMBEDDED_LEVEL_COUNT]; /* by level; NULL where not built */
};

extern const struct mr__embedded_kernel mr__embedded_kernels[];
extern const size_t mr__embedded_kernel_count;

/* The kernel's function for the best instruction set that this CPU has. */
mr_native_kernel mr__embedded_function(const struct mr__embedded_kernel *kernel);

/* Whether it keeps the promise of mr_kernel_options, is_element_wise. */
bool mr__embedded_is_element_wise(const struct mr__embedded_kernel *kernel);

#endif
