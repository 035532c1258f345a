/* SPDX-License-Identifier: MIT */
/*
 * Reads /proc and the control group files. Whatever cannot be read counts as no limit.
 */
#include "backend/cpu/cpu_machine.h"

#include <ctype.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_BYTES = 512 };

uint32_t mr__cpu_machine_processors(void)
{
    cpu_set_t *set = NULL;
    long count = 0;
    for (int limit = 1024; limit <= 1 << 16 && count <= 0; limit *= 4) {
        const size_t set_bytes = CPU_ALLOC_SIZE(limit);
        set = CPU_ALLOC(limit);
        if (!set)
            break;
        CPU_ZERO_S(set_bytes, set);
        if (sched_getaffinity(0, set_bytes, set) == 0)
            count = CPU_COUNT_S(set_bytes, set);
        CPU_FREE(set);
    }
    if (count <= 0)
        count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (uint32_t)count : 1;
}

static pthread_once_t spin_once = PTHREAD_ONCE_INIT;
static bool spin_is_worthwhile;

static void decide_spin(void)
{
    spin_is_worthwhile = mr__cpu_machine_processors() > 1;
}

bool mr__cpu_can_spin(void)
{
    pthread_once(&spin_once, decide_spin);
    return spin_is_worthwhile;
}

/* The first line of `path` that starts with `key`, behind it and a ':' or blanks; false when there is
 * none. An empty key takes the first line. */
static bool read_line(const char *path, const char *key, char line[LINE_BYTES])
{
    FILE *file = fopen(path, "re");
    if (!file)
        return false;

    bool is_found = false;
    const size_t key_bytes = strlen(key);
    char buffer[LINE_BYTES];
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

/* UINT64_MAX when there is no such number ("max", no file). */
static uint64_t read_number(const char *path, const char *key)
{
    char line[LINE_BYTES];
    if (!read_line(path, key, line) || !isdigit((unsigned char)line[0]))
        return UINT64_MAX;
    return strtoull(line, NULL, 10);
}

void mr__cpu_machine_name(char *name, size_t name_bytes)
{
    char line[LINE_BYTES];
    const bool is_named = read_line("/proc/cpuinfo", "model name", line) ||
                          read_line("/proc/cpuinfo", "Model", line) ||
                          read_line("/proc/cpuinfo", "Hardware", line);
    snprintf(name, name_bytes, "%s", is_named && line[0] ? line : "CPU");
}

/* The two layouts of control groups, and their files. */
struct group_files {
    const char *mount;      /* below the root */
    const char *membership; /* how the line in /proc/self/cgroup names it; the path follows */
    const char *limit, *usage;
};

static const struct group_files group_layouts[] = {
    { "/sys/fs/cgroup", "0::", "memory.max", "memory.current" },
    { "/sys/fs/cgroup/memory", "memory:", "memory.limit_in_bytes", "memory.usage_in_bytes" },
};

/* The process's path in the hierarchy, "/a/b"; false when it is in none. */
static bool find_group(const char *root, const char *membership, char group[LINE_BYTES])
{
    char path[PATH_MAX], line[LINE_BYTES];
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;

    bool is_found = false;
    while (!is_found && fgets(line, sizeof line, file)) {
        const char *start = strstr(line, membership);
        if (!start)
            continue;
        strcpy(group, start + strlen(membership));
        group[strcspn(group, "\n")] = '\0';
        is_found = group[0] == '/';
    }
    fclose(file);
    return is_found;
}

static uint64_t read_group_number(const char *folder, const char *name)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return read_number(path, "");
}

static void apply_limit(const char *folder, const struct group_files *files, uint64_t *free_bytes,
                        uint64_t *total_bytes)
{
    const uint64_t limit = read_group_number(folder, files->limit);
    if (limit >= *total_bytes)
        return;
    *total_bytes = limit;

    const uint64_t usage = read_group_number(folder, files->usage);
    const uint64_t left = usage == UINT64_MAX ? limit : usage < limit ? limit - usage : 0;
    if (left < *free_bytes)
        *free_bytes = left;
}

/* Every group from the process's up to the top limits it. In a container the path may not exist below
 * the mount: then only the top does, which is the container's own group. */
static void apply_groups(const char *root, const struct group_files *files, uint64_t *free_bytes,
                         uint64_t *total_bytes)
{
    char group[LINE_BYTES], folder[PATH_MAX];
    if (!find_group(root, files->membership, group))
        return;

    for (;;) {
        snprintf(folder, sizeof folder, "%s%s%s", root, files->mount, group);
        apply_limit(folder, files, free_bytes, total_bytes);
        char *slash = strrchr(group, '/');
        if (!slash)
            return;
        *slash = '\0';
    }
}

void mr__cpu_machine_memory_of(const char *root, uint64_t *free_bytes, uint64_t *total_bytes)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    const uint64_t total_kib = read_number(path, "MemTotal");
    const uint64_t free_kib = read_number(path, "MemAvailable");
    *total_bytes = total_kib == UINT64_MAX ? 0 : total_kib * 1024;
    *free_bytes = free_kib == UINT64_MAX ? *total_bytes : free_kib * 1024;
    if (*total_bytes == 0)
        return;

    for (size_t i = 0; i < sizeof group_layouts / sizeof group_layouts[0]; i++)
        apply_groups(root, &group_layouts[i], free_bytes, total_bytes);
}

void mr__cpu_machine_memory(uint64_t *free_bytes, uint64_t *total_bytes)
{
    mr__cpu_machine_memory_of("", free_bytes, total_bytes);
}
