/* SPDX-License-Identifier: MIT */
/*
 * flow/staging.h - what a staging crew chooses from the machine.
 */
#ifndef MR__STAGING_H
#define MR__STAGING_H

#include <stdint.h>

/* Threads for each of `crew_count` crews that work at once. */
uint32_t mr__staging_threads(uint32_t crew_count);

#endif
