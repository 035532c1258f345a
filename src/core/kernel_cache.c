/* SPDX-License-Identifier: MIT */
/*
 * Where compiled kernels are kept. What is kept there, and when it is trusted, is for the backends
 * (backend/code_cache.h).
 */
#include "base/alloc.h"
#include "base/environment.h"
#include "core/kernel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t path_lock = PTHREAD_MUTEX_INITIALIZER;
static char *path_set; /* NULL: the default */

mr_status mr_kernel_cache_set(const char *path)
{
    char *copy = NULL;
    if (path) {
        copy = mr__copy_text(path);
        if (!copy)
            return mr_error_set(MR_E_NO_MEMORY, "mr_kernel_cache_set: out of memory");
    }
    pthread_mutex_lock(&path_lock);
    char *old = path_set;
    path_set = copy;
    pthread_mutex_unlock(&path_lock);
    mr__free(old);
    return MR_OK;
}

/* ---- how much ---- */

#define LIMIT_BYTES (UINT64_C(1) << 30) /* thousands of kernels */

static _Atomic uint64_t limit_set; /* 0: the default */

void mr_kernel_cache_limit(uint64_t size_bytes)
{
    atomic_store(&limit_set, size_bytes);
}

/* "400M" in bytes; 0 for what is no size. */
static uint64_t size_of(const char *text)
{
    static const char units[] = "KMGT";
    char *end;
    errno = 0;
    const unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *text == '-')
        return 0;
    const char *unit = *end ? strchr(units, *end) : NULL;
    if (*end && (!unit || end[1]))
        return 0;
    const int shift = unit ? 10 * (int)(unit - units + 1) : 0;
    return number <= UINT64_MAX >> shift ? (uint64_t)number << shift : UINT64_MAX;
}

uint64_t mr__kernel_cache_limit(void)
{
    uint64_t limit = atomic_load(&limit_set);
    if (limit)
        return limit;
    const char *text = mr__environment("MILLRACE_CACHE_LIMIT");
    limit = text ? size_of(text) : 0;
    return limit ? limit : LIMIT_BYTES;
}

/* ---- where ---- */

static char *path_copy(void)
{
    pthread_mutex_lock(&path_lock);
    char *copy = mr__copy_text(path_set);
    const bool is_set = path_set != NULL;
    pthread_mutex_unlock(&path_lock);
    if (is_set)
        return copy;

    const char *folder = mr__environment("MILLRACE_CACHE");
    if (folder)
        return mr__copy_text(folder);
    folder = mr__environment("XDG_CACHE_HOME");
    if (folder)
        return mr__format_text("%s/millrace", folder);
    folder = mr__environment("HOME");
    return folder ? mr__format_text("%s/.cache/millrace", folder) : NULL;
}

/* Makes the folder and those above it. Failures show when it is looked at. */
static void folder_make(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
    mkdir(path, 0700);
}

/* What lies there is loaded as code, so nobody else may be able to put it there. */
static bool is_safe(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode) && status.st_uid == geteuid() &&
           (status.st_mode & (S_IWGRP | S_IWOTH)) == 0 && access(path, W_OK | X_OK) == 0;
}

char *mr__kernel_cache_folder(void)
{
    char *path = path_copy();
    if (!path)
        return NULL;
    if (*path == '/')
        folder_make(path);
    if (*path == '/' && is_safe(path))
        return path;
    mr__free(path);
    return NULL;
}
