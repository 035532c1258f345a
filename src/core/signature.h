/* SPDX-License-Identifier: MIT */
/*
 * core/signature.h - signatures beyond what kernel.h says.
 */
#ifndef MR__SIGNATURE_H
#define MR__SIGNATURE_H

#include <millrace/kernel.h>

/* "in", "value"... Static. */
const char *mr__access_name(mr_access access);

/* MR_E_SIGNATURE in words when what the source declares is not what was given. */
mr_status mr__signature_compare(const char *kernel, const mr_parameter *source, size_t source_count,
                                const mr_parameter *given, size_t given_count);

#endif
