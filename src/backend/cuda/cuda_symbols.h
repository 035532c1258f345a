/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_symbols.h - the driver's functions as a struct, filled from the loaded library.
 */
#ifndef MR__CUDA_SYMBOLS_H
#define MR__CUDA_SYMBOLS_H

#include "backend/cuda/cuda_driver.h"

#include <millrace/status.h>

struct cuda_symbols {
#define REQUIRED(member, exported, parameters) CUresult(*member) parameters;
#define OPTIONAL(member, exported, parameters) CUresult(*member) parameters;
#include "backend/cuda/cuda_symbols.inc"
#undef REQUIRED
#undef OPTIONAL
};

/* Finds the driver library and its functions. The library is never unloaded again (the driver keeps
 * threads of its own); `*library` is closed with dlclose for the count. MR_E_UNAVAILABLE with what
 * is missing and how to get it. */
mr_status mr__cuda_symbols_load(void **library, struct cuda_symbols *cu);

#endif
