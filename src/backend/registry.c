/* SPDX-License-Identifier: MIT */
/*
 * The backends, in the order in which "auto" tries them. The only file that names them.
 */
#include "backend/backend.h"

const struct mr_backend_ops *const mr__backends[] = {
    &mr__cuda_backend,
    &mr__cpu_backend,
    NULL,
};
