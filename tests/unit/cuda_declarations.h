/* SPDX-License-Identifier: MIT */
/*
 * unit/cuda_declarations.h - the same list made into numbers twice: from the backend's own declarations
 * and from the toolkit's cuda.h, which cannot be included together.
 */
#ifndef TEST_CUDA_DECLARATIONS_H
#define TEST_CUDA_DECLARATIONS_H

#include <stddef.h>

struct declaration {
    const char *name;
    long long number;
};

/* Each ends with a NULL name. */
extern const struct declaration declarations_of_ours[], declarations_of_theirs[];

#define VALUE(constant) { #constant, (long long)constant },
#define SIZE(type) { "size of " #type, sizeof(type) },
#define PLACE(type, field) { #type "." #field, offsetof(type, field) },

#endif
