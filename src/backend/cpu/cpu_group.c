/* SPDX-License-Identifier: MIT */
/*
 * Finds the process's control groups, in the one hierarchy of version 2 or the one per controller of
 * version 1. A folder that is not there limits nothing: in a container the path in /proc is often that
 * of the host, and only the mount itself, the container's own group, exists.
 */
#include "backend/cpu/cpu_group.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mr__cpu_read_line(const char *path, const char *key, char line[CPU_LINE_TEXT_BYTES])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;

    bool is_found = false;
    const size_t key_bytes = strlen(key);
    char buffer[CPU_LINE_TEXT_BYTES];
    while (!is_found && fgets(buffer, sizeof buffer, file)) {
        if (strncmp(buffer, key, key_bytes) != 0)
            continue;
        const char *value = buffer + key_bytes;
        while (*value == ':' || isspace((unsigned char)*value))
            value++;
        strcpy(line, value);
        line[strcspn(line, "\n")] = '\0';
        is_found = true;
    }
    fclose(file);
    return is_found;
}

uint64_t mr__cpu_read_number(const char *path, const char *key)
{
    char line[CPU_LINE_TEXT_BYTES];
    if (!mr__cpu_read_line(path, key, line) || !isdigit((unsigned char)line[0]))
        return UINT64_MAX;
    return strtoull(line, NULL, 10);
}

/* True when the text between two colons names the controller: "cpu,cpuacct" names two. */
static bool names_controller(const char *names, const char *controller)
{
    const size_t name_bytes = strlen(controller);
    while (*names && *names != ':') {
        const size_t length = strcspn(names, ",:");
        if (length == name_bytes && strncmp(names, controller, length) == 0)
            return true;
        names += length + (names[length] == ',');
    }
    return false;
}

/* From the process's group, a path like "/a/b", up to the top. */
static void visit_upwards(const char *mount, char *group,
                          void (*visit)(const char *folder, void *context), void *context)
{
    char folder[PATH_MAX + CPU_LINE_TEXT_BYTES];
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", mount, group);
        visit(folder, context);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

void mr__cpu_group_each(const char *root, const char *controller,
                        void (*visit)(const char *folder, void *context), void *context)
{
    char path[PATH_MAX], line[CPU_LINE_TEXT_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return;

    /* "0::/path" in version 2, "4:cpu,cpuacct:/path" in version 1. */
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = '\0';
        const char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;
        if (!group)
            continue;
        group++;
        const bool is_unified = strncmp(line, "0::", 3) == 0;
        if (!is_unified && !names_controller(names + 1, controller))
            continue;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, is_unified ? "" : "/",
                 is_unified ? "" : controller);
        visit_upwards(path, group, visit, context);
    }
    fclose(file);
}
