/* SPDX-License-Identifier: MIT */
/*
 * What every benchmark needs around its loop.
 */
#include "measure.h"

#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUN_LIMIT = 64, THREAD_LIMIT = 256 };

static double read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double measure_now_s(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double measure_process_cpu_s(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

double measure_thread_cpu_s(void)
{
    return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double measure_median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, compare_numbers);
    return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

double measure_median_of(double (*run)(void *context), void *context, int count)
{
    double seconds[RUN_LIMIT];
    measure_require(count > 0 && count <= RUN_LIMIT, "1 to %d runs, not %d", RUN_LIMIT, count);
    run(context);
    for (int i = 0; i < count; i++)
        seconds[i] = run(context);
    return measure_median(seconds, count);
}

int measure_cpu_count(void)
{
    cpu_set_t set;
    return sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
}

struct part {
    void (*run)(void *context, int index, int count);
    void *context;
    int index, count;
    pthread_t thread;
};

static void *run_part(void *context)
{
    const struct part *part = context;
    part->run(part->context, part->index, part->count);
    return NULL;
}

void measure_parallel(int count, void (*run)(void *context, int index, int count), void *context)
{
    struct part parts[THREAD_LIMIT];
    measure_require(count > 0 && count <= THREAD_LIMIT, "1 to %d threads, not %d", THREAD_LIMIT,
                    count);
    for (int i = 0; i < count; i++) {
        parts[i] = (struct part){ .run = run, .context = context, .index = i, .count = count };
        measure_require(!pthread_create(&parts[i].thread, NULL, run_part, &parts[i]),
                        "no thread to be had");
    }
    for (int i = 0; i < count; i++)
        pthread_join(parts[i].thread, NULL);
}

void measure_require(bool condition, const char *format, ...)
{
    if (condition)
        return;
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

/* ---- arguments ---- */

const char *measure_option(int argc, char **argv, const char *name, const char *otherwise)
{
    measure_require(*name != '-', "an option is asked for as '%s', not by its bare name", name);
    for (int i = 1; i + 1 < argc; i++) {
        if (strncmp(argv[i], "--", 2) == 0 && strcmp(argv[i] + 2, name) == 0)
            return argv[i + 1];
    }
    return otherwise;
}

double measure_option_number(int argc, char **argv, const char *name, double otherwise)
{
    const char *text = measure_option(argc, argv, name, NULL);
    return text ? strtod(text, NULL) : otherwise;
}

/* ---- report ---- */

void measure_report_init(struct measure_report *report, const char *bench, int *argc, char **argv)
{
    memset(report, 0, sizeof *report);
    report->bench = bench;
    for (int i = 1; i + 1 < *argc; i++) {
        if (strcmp(argv[i], "--json") != 0)
            continue;
        report->json_path = argv[i + 1];
        for (int k = i; k + 2 <= *argc; k++)
            argv[k] = argv[k + 2];
        *argc -= 2;
        return;
    }
}

static struct measure_row *add_row(struct measure_report *report, double value, const char *unit,
                                   const char *name, va_list arguments)
{
    measure_require(report->row_count < MEASURE_ROW_LIMIT, "more than %d rows", MEASURE_ROW_LIMIT);
    struct measure_row *row = &report->rows[report->row_count++];
    vsnprintf(row->name, sizeof row->name, name, arguments);
    snprintf(row->unit, sizeof row->unit, "%s", unit);
    row->value = value;
    return row;
}

void measure_report_add(struct measure_report *report, double value, const char *unit,
                        const char *name, ...)
{
    va_list arguments;
    va_start(arguments, name);
    add_row(report, value, unit, name, arguments);
    va_end(arguments);
}

void measure_report_target(struct measure_report *report, double value, const char *unit,
                           const char *relation, double bound, const char *name, ...)
{
    va_list arguments;
    va_start(arguments, name);
    struct measure_row *row = add_row(report, value, unit, name, arguments);
    va_end(arguments);
    snprintf(row->relation, sizeof row->relation, "%s", relation);
    row->bound = bound;
}

static bool holds(const struct measure_row *row)
{
    return row->relation[0] == '>' ? row->value >= row->bound : row->value <= row->bound;
}

static void print_table(const struct measure_report *report)
{
    printf("%s\n", report->bench);
    for (size_t i = 0; i < report->row_count; i++) {
        const struct measure_row *row = &report->rows[i];
        printf("  %-60s %12.4g %-6s", row->name, row->value, row->unit);
        if (row->relation[0])
            printf(" %s %-8.4g %s", row->relation, row->bound, holds(row) ? "holds" : "MISSED");
        putchar('\n');
    }
}

static void write_json(const struct measure_report *report, FILE *file)
{
    fprintf(file, "{\n  \"bench\": \"%s\",\n  \"rows\": [\n", report->bench);
    for (size_t i = 0; i < report->row_count; i++) {
        const struct measure_row *row = &report->rows[i];
        fprintf(file, "    {\"name\": \"%s\", \"value\": %.9g, \"unit\": \"%s\"", row->name,
                isfinite(row->value) ? row->value : -1, row->unit);
        if (row->relation[0])
            fprintf(file, ", \"target\": \"%s %.9g\", \"holds\": %s", row->relation, row->bound,
                    holds(row) ? "true" : "false");
        fprintf(file, "}%s\n", i + 1 < report->row_count ? "," : "");
    }
    fputs("  ]\n}\n", file);
}

int measure_report_finish(const struct measure_report *report)
{
    print_table(report);
    if (!report->json_path)
        return 0;
    FILE *file = fopen(report->json_path, "w");
    measure_require(file, "cannot write %s", report->json_path);
    write_json(report, file);
    measure_require(!fclose(file), "cannot write %s", report->json_path);
    return 0;
}
