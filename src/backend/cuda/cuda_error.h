/* SPDX-License-Identifier: MIT */
/*
 * cuda/cuda_error.h - what a driver's answer means here.
 */
#ifndef MR__CUDA_ERROR_H
#define MR__CUDA_ERROR_H

#include "backend/cuda/cuda_symbols.h"

/* The status alone; sets no words. */
mr_status mr__cuda_status(CUresult result);

/* Sets the thread's words, "WHAT: NAME (code), the driver's text; remedy", and returns the status.
 * CUDA_SUCCESS is MR_OK and CUDA_ERROR_NOT_READY is MR_E_BUSY, both without words. */
mr_status mr__cuda_error(const struct cuda_symbols *cu, CUresult result, const char *format, ...)
    MR_PRINTF(3, 4);

#endif
