/* SPDX-License-Identifier: MIT */
/*
 * The process's environment.
 */
#include "base/environment.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *mr__environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

char **mr__environment_in_english(void)
{
    static char locale[] = "LC_ALL=C";
    size_t count = 0;
    while (environ && environ[count])
        count++;

    char **copy = mr__zalloc_array(count + 2, sizeof *copy);
    if (!copy)
        return NULL;
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "LC_ALL=", 7) != 0 && strncmp(environ[i], "LANGUAGE=", 9) != 0)
            copy[kept++] = environ[i];
    }
    copy[kept] = locale;
    return copy;
}
