/* SPDX-License-Identifier: MIT */
/*
 * Asks the system, /proc and the control groups. Whatever cannot be read counts as no limit.
 */
#include "backend/cpu/cpu_machine.h"

#include "backend/cpu/cpu_group.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- processors ---- */

static uint32_t count_affinity(void)
{
    long count = 0;
    for (int limit = 1024; limit <= 1 << 16 && count <= 0; limit *= 4) {
        const size_t set_bytes = CPU_ALLOC_SIZE(limit);
        cpu_set_t *set = CPU_ALLOC(limit);
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

/* Processors that a quota of so much time per period keeps busy, rounded up. */
static uint32_t processors_of_quota(uint64_t quota, uint64_t period)
{
    if (quota == UINT64_MAX || quota == 0 || period == UINT64_MAX || period == 0)
        return UINT32_MAX;
    const uint64_t count = (quota - 1) / period + 1;
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

static void apply_quota(const char *folder, void *context)
{
    uint32_t *least = context;
    char path[2 * PATH_MAX], line[CPU_LINE_TEXT_BYTES];
    unsigned long long quota, period;

    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (mr__cpu_read_line(path, "", line) && sscanf(line, "%llu %llu", &quota, &period) == 2) {
        const uint32_t count = processors_of_quota(quota, period);
        if (count < *least)
            *least = count;
    }

    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    quota = mr__cpu_read_number(path, "");
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    const uint32_t count = processors_of_quota(quota, mr__cpu_read_number(path, ""));
    if (count < *least)
        *least = count;
}

uint32_t mr__cpu_machine_quota_of(const char *root)
{
    uint32_t least = UINT32_MAX;
    mr__cpu_group_each(root, "cpu", apply_quota, &least);
    return least;
}

uint32_t mr__cpu_machine_processors(void)
{
    const uint32_t count = count_affinity(), quota = mr__cpu_machine_quota_of("");
    return count < quota ? count : quota;
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

void mr__cpu_machine_name(char *name, size_t name_bytes)
{
    char line[CPU_LINE_TEXT_BYTES];
    const bool is_named = mr__cpu_read_line("/proc/cpuinfo", "model name", line) ||
                          mr__cpu_read_line("/proc/cpuinfo", "Model", line) ||
                          mr__cpu_read_line("/proc/cpuinfo", "Hardware", line);
    snprintf(name, name_bytes, "%s", is_named && line[0] ? line : "CPU");
}

/* ---- memory ---- */

struct memory {
    uint64_t free_bytes, total_bytes;
};

static uint64_t read_group_number(const char *folder, const char *name, const char *old_name)
{
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    const uint64_t number = mr__cpu_read_number(path, "");
    if (number != UINT64_MAX)
        return number;
    snprintf(path, sizeof path, "%s/%s", folder, old_name);
    return mr__cpu_read_number(path, "");
}

static void apply_limit(const char *folder, void *context)
{
    struct memory *memory = context;
    const uint64_t limit = read_group_number(folder, "memory.max", "memory.limit_in_bytes");
    if (limit == UINT64_MAX)
        return;
    if (limit < memory->total_bytes)
        memory->total_bytes = limit;

    const uint64_t usage = read_group_number(folder, "memory.current", "memory.usage_in_bytes");
    const uint64_t left = usage == UINT64_MAX ? limit : usage < limit ? limit - usage : 0;
    if (left < memory->free_bytes)
        memory->free_bytes = left;
}

void mr__cpu_machine_memory_of(const char *root, uint64_t *free_bytes, uint64_t *total_bytes)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    const uint64_t total_kib = mr__cpu_read_number(path, "MemTotal");
    const uint64_t free_kib = mr__cpu_read_number(path, "MemAvailable");

    struct memory memory = { 0, 0 };
    if (total_kib != UINT64_MAX) {
        memory.total_bytes = total_kib * 1024;
        memory.free_bytes = free_kib == UINT64_MAX ? memory.total_bytes : free_kib * 1024;
        mr__cpu_group_each(root, "memory", apply_limit, &memory);
    }
    *free_bytes = memory.free_bytes;
    *total_bytes = memory.total_bytes;
}

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What `ulimit` allows this process, of which it has mapped `key` so far. */
static void apply_resource(int resource, const char *key, struct memory *memory)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) || limit.rlim_cur == RLIM_INFINITY)
        return;
    const uint64_t used_kib = mr__cpu_read_number("/proc/self/status", key);
    const uint64_t used = used_kib == UINT64_MAX ? 0 : used_kib * 1024;
    const uint64_t left = used < limit.rlim_cur ? limit.rlim_cur - used : 0;
    const bool is_known = memory->total_bytes != 0;
    memory->total_bytes = is_known ? least_of(memory->total_bytes, limit.rlim_cur) : limit.rlim_cur;
    memory->free_bytes = is_known ? least_of(memory->free_bytes, left) : left;
}

void mr__cpu_machine_memory(uint64_t *free_bytes, uint64_t *total_bytes)
{
    struct memory memory;
    mr__cpu_machine_memory_of("", &memory.free_bytes, &memory.total_bytes);
    apply_resource(RLIMIT_AS, "VmSize", &memory);
    apply_resource(RLIMIT_DATA, "VmData", &memory);
    *free_bytes = memory.free_bytes;
    *total_bytes = memory.total_bytes;
}
