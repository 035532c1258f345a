/* SPDX-License-Identifier: MIT */
/*
 * backend/cpu/cpu_compiler.h - portable source made into a shared object by the system's compiler.
 */
#ifndef MR__CPU_COMPILER_H
#define MR__CPU_COMPILER_H

#include "backend/backend.h"

/* A folder that only this user can enter, for one compilation or one load. mr__cpu_folder_destroy
 * removes it with all that is in it. */
mr_status mr__cpu_folder_create(char **out);
void mr__cpu_folder_destroy(char *folder);

/* The bytes of the shared object, from the cache or compiled now. Freed with mr__free. */
mr_status mr__cpu_compile(const struct mr_function_source *source, void **code, size_t *code_bytes);

#endif
