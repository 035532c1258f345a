/* SPDX-License-Identifier: MIT */
/* What the toolkit's own header says. */
#include "cuda_declarations.h"

#include <cuda.h>

const struct declaration declarations_of_theirs[] = {
#include "cuda_declarations.inc"
    { NULL, 0 }
};
