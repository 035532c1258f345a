/* SPDX-License-Identifier: MIT */
/* Nodes as Linux shows them in /sys; no library is needed to stay near one. */
#include "base/numa.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool mr__numa_parse(const char *text, cpu_set_t *out)
{
    CPU_ZERO(out);
    while (isdigit((unsigned char)*text)) {
        char *end;
        const unsigned long first = strtoul(text, &end, 10);
        unsigned long last = first;
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        if (last < first || last >= CPU_SETSIZE)
            return false;
        for (unsigned long i = first; i <= last; i++)
            CPU_SET(i, out);
        if (*end != ',')
            return !*end || *end == '\n';
        text = end + 1;
    }
    return false;
}

static bool read_node(int node, cpu_set_t *out)
{
    char path[64], text[4096];
    snprintf(path, sizeof path, "/sys/devices/system/node/node%d/cpulist", node);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool is_read = fgets(text, sizeof text, file);
    fclose(file);
    return is_read && mr__numa_parse(text, out);
}

void mr__numa_enter(int node, struct mr__numa *numa)
{
    cpu_set_t near;
    numa->is_bound = false;
    if (node < 0 || !read_node(node, &near) ||
        pthread_getaffinity_np(pthread_self(), sizeof numa->before, &numa->before))
        return;
    CPU_AND(&near, &near, &numa->before);
    if (!CPU_COUNT(&near) || CPU_EQUAL(&near, &numa->before))
        return;
    numa->is_bound = !pthread_setaffinity_np(pthread_self(), sizeof near, &near);
}

void mr__numa_leave(const struct mr__numa *numa)
{
    if (numa->is_bound)
        (void)pthread_setaffinity_np(pthread_self(), sizeof numa->before, &numa->before);
}
