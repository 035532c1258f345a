/* SPDX-License-Identifier: MIT */
/*
 * Every call of the stand-in driver comes by here first: it is counted, logged, and failed on request.
 */
#include "support/fakecuda/fake.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { NAME_BYTES = 48 };

static pthread_mutex_t control_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fake_counter *counters;
static _Atomic uint64_t count_all;

static _Atomic uint64_t fail_countdown; /* 0: nothing is to fail */
static char fail_name[NAME_BYTES];
static CUresult fail_code;
static bool has_failed;
static _Atomic uint64_t delay_limit_us;
static FILE *log_file;

_Thread_local bool fake_is_host_function;

uint64_t fake_setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

__attribute__((constructor)) static void control_open(void)
{
    delay_limit_us = fake_setting("FAKECUDA_DELAY_US", 0);
    fail_code = (CUresult)fake_setting("FAKECUDA_FAIL_CODE", 0);
    fail_countdown = fake_setting("FAKECUDA_FAIL_AT", 0);
    const char *name = getenv("FAKECUDA_FAIL_NAME");
    snprintf(fail_name, sizeof fail_name, "%s", name ? name : "");
    if (name && !fail_countdown)
        fail_countdown = 1;
    const char *path = getenv("FAKECUDA_LOG");
    log_file = path && *path ? fopen(path, "ae") : NULL;
}

uint64_t fake_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t fake_delay_us(void)
{
    static uint64_t state = 88172645463325252u;
    if (!delay_limit_us)
        return 0;
    pthread_mutex_lock(&control_lock);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const uint64_t delay = delay_limit_us ? state % (delay_limit_us + 1) : 0;
    pthread_mutex_unlock(&control_lock);
    return delay;
}

static void counter_add(struct fake_counter *counter)
{
    if (atomic_fetch_add_explicit(&counter->count, 1, memory_order_relaxed))
        return;
    pthread_mutex_lock(&control_lock);
    snprintf(counter->name, NAME_BYTES, "%s", counter->function);
    char *suffix = strstr(counter->name, "_v");
    if (suffix)
        *suffix = 0;
    counter->next = counters;
    counters = counter;
    pthread_mutex_unlock(&control_lock);
}

static bool has_word(const char *name, const char *const *words)
{
    for (; *words; words++)
        if (strstr(name, *words))
            return true;
    return false;
}

/* Giving back cannot fail in a way that anybody could mend, nor can making a live context current. */
static bool is_spared(const char *name)
{
    static const char *const words[] = { "Free",
                                         "Destroy",
                                         "Release",
                                         "Unregister",
                                         "Unload",
                                         "cuCtxPopCurrent",
                                         "cuCtxPushCurrent",
                                         "cuThreadExchange",
                                         "cuGetErrorName",
                                         "cuGetErrorString",
                                         NULL };
    return has_word(name, words);
}

static CUresult fitting_code(const char *name)
{
    static const char *const allocations[] = {
        "Alloc", "Create", "Register", "Load", "Retain", NULL
    };
    static const char *const waits[] = { "Synchronize", "Query", NULL };
    if (fail_code)
        return fail_code;
    if (has_word(name, allocations))
        return CUDA_ERROR_OUT_OF_MEMORY;
    return has_word(name, waits) ? CUDA_ERROR_LAUNCH_FAILED : CUDA_ERROR_UNKNOWN;
}

/* Waits report what broke the context, so failing one breaks it. */
static bool is_wait(const char *name)
{
    static const char *const waits[] = { "Synchronize", "Query", NULL };
    return has_word(name, waits);
}

/* "cuMemAlloc" is "cuMemAlloc_v2". */
static bool is_named(const char *name, const char *wanted)
{
    const size_t length = strlen(wanted);
    return !strncmp(name, wanted, length) && (!name[length] || name[length] == '_');
}

static CUresult fail_in_turn(const char *name)
{
    CUresult answer = CUDA_SUCCESS;
    pthread_mutex_lock(&control_lock);
    if (fail_countdown && !is_spared(name) && (!fail_name[0] || is_named(name, fail_name)) &&
        --fail_countdown == 0) {
        has_failed = true;
        answer = fitting_code(name);
    }
    pthread_mutex_unlock(&control_lock);
    return answer;
}

static void log_line(const char *name, CUresult answer, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    pthread_mutex_lock(&control_lock);
    fprintf(log_file, "%s%s%s%s\n", name, *text ? " " : "", text, answer ? " FAILED" : "");
    fflush(log_file);
    pthread_mutex_unlock(&control_lock);
}

static void context_break(CUresult error)
{
    pthread_mutex_lock(&fake_lock);
    if (fake_current()) {
        fake_break(fake_current(), error);
        fake_error(fake_current());
    }
    pthread_mutex_unlock(&fake_lock);
}

CUresult fake_call(struct fake_counter *counter, const char *format, ...)
{
    const char *name = counter->function;
    counter_add(counter);
    atomic_fetch_add_explicit(&count_all, 1, memory_order_relaxed);
    const CUresult answer = fail_countdown ? fail_in_turn(name) : CUDA_SUCCESS;
    if (log_file) {
        va_list arguments;
        va_start(arguments, format);
        log_line(name, answer, format, arguments);
        va_end(arguments);
    }
    if (fake_is_host_function && strncmp(name, "cuGetError", 10))
        return CUDA_ERROR_NOT_PERMITTED;
    if (answer && is_wait(name))
        context_break(answer);
    return answer;
}

/* ---- for tests ---- */

void fakecuda_fail_at(uint64_t countdown, const char *name, int code)
{
    pthread_mutex_lock(&control_lock);
    fail_countdown = countdown;
    snprintf(fail_name, sizeof fail_name, "%s", name ? name : "");
    fail_code = code;
    has_failed = false;
    pthread_mutex_unlock(&control_lock);
}

int fakecuda_has_failed(void)
{
    pthread_mutex_lock(&control_lock);
    const bool answer = has_failed;
    pthread_mutex_unlock(&control_lock);
    return answer;
}

uint64_t fakecuda_count(const char *name)
{
    uint64_t count = 0;
    pthread_mutex_lock(&control_lock);
    for (struct fake_counter *counter = counters; counter; counter = counter->next)
        if (!strcmp(counter->name, name))
            count = counter->count;
    pthread_mutex_unlock(&control_lock);
    return count;
}

uint64_t fakecuda_count_all(void)
{
    return count_all;
}

void fakecuda_delay(uint64_t delay_us)
{
    delay_limit_us = delay_us;
}
