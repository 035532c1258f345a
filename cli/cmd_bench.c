/* SPDX-License-Identifier: MIT */
/*
 * millrace bench: what this machine's copies, overlap and calls cost, as a table and as JSON. Every
 * figure is the median of several runs; bench_copies.c and bench_calls.c take them.
 */
#include "bench.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void print_help(void)
{
    printf(
        "usage: millrace bench [OPTIONS]\n\n"
        "Measures, on this machine: copies of pinned, pageable and staged memory; what a chunk's\n"
        "size does to them; a pipeline (copy in, scale, copy out) against the same work one step\n"
        "after another; and what calls cost. Figures are medians.\n\n"
        "  --device D     cpu, cuda:N or auto (default: auto)\n"
        "  --size BYTES   moved per measurement, such as 256M (default: 256M; CPU: 64M)\n"
        "  --repeat N     runs per figure, 1 to 1000 (default: 5)\n"
        "  --json         for programs\n"
        "  -h, --help     this text\n\n"
        "example: millrace bench --device cuda:0 --json > bench.json\n");
}

static int compare_numbers(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_numbers);
    return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

mr_status bench_measure(struct bench *bench, bench_step *step, void *context, double *seconds)
{
    double values[BENCH_REPEAT_LIMIT];
    mr_status status = step(bench, context); /* warms up */
    for (uint32_t i = 0; !status && i < bench->repeat_count; i++) {
        const uint64_t start = mr_device_now_ns(bench->device);
        status = step(bench, context);
        values[i] = (double)(mr_device_now_ns(bench->device) - start) * 1e-9;
    }
    if (!status)
        *seconds = bench_median(values, bench->repeat_count);
    return status;
}

static void print_heading(struct bench *bench, const char *group)
{
    if (!bench->is_json && (!bench->group || strcmp(bench->group, group)))
        printf("%s%s\n", bench->group ? "\n" : "", group);
    bench->group = group;
}

static void add_result(struct bench *bench, const char *group, const char *name, const char *unit,
                       double value)
{
    json_array_append_new(bench->results, json_pack("{s:s, s:s, s:s, s:f}", "group", group, "name",
                                                    name, "unit", unit, "value", value));
    print_heading(bench, group);
}

void bench_add_rate(struct bench *bench, const char *group, const char *name, uint64_t bytes,
                    double seconds)
{
    char rate[CLI_NUMBER_BYTES];
    add_result(bench, group, name, "bytes/s", (double)bytes / seconds);
    if (!bench->is_json)
        printf("  %-34s %s\n", name, cli_rate_text((double)bytes / seconds, rate));
}

void bench_add_time(struct bench *bench, const char *group, const char *name, double seconds)
{
    char time[CLI_NUMBER_BYTES];
    add_result(bench, group, name, "s", seconds);
    if (!bench->is_json)
        printf("  %-34s %s\n", name, cli_time_text(seconds, time));
}

void bench_add_ratio(struct bench *bench, const char *group, const char *name, double ratio)
{
    add_result(bench, group, name, "ratio", ratio);
    if (!bench->is_json)
        printf("  %-34s %.2f x\n", name, ratio);
}

static mr_status run_all(struct bench *bench)
{
    mr_status status = bench_copies(bench);
    if (!status)
        status = bench_chunks(bench);
    if (!status)
        status = bench_overlap(bench);
    if (!status)
        status = bench_calls(bench);
    return status;
}

static int run_bench(struct bench *bench, const char *device_name)
{
    mr_status status = mr_device_open(device_name, NULL, &bench->device);
    if (status == MR_E_INVALID)
        return cli_refuse("bench", "%s", mr_last_error());
    if (status)
        return cli_fail("bench", status);

    mr_device_properties properties;
    mr_device_describe(bench->device, &properties);
    if (!bench->size_bytes)
        bench->size_bytes = properties.is_host_memory ? 64u << 20 : 256u << 20;
    bench->is_host_memory = properties.is_host_memory;
    bench->results = json_array();
    if (!bench->is_json)
        printf("%s: %s\n\n", properties.id, properties.name);

    status = run_all(bench);
    int code = CLI_DONE;
    if (status)
        code = cli_fail("bench", status);
    else if (bench->is_json && !cli_print_json(json_pack(
                                   "{s:s, s:s, s:I, s:i, s:O}", "device", properties.id, "name",
                                   properties.name, "size_bytes", (json_int_t)bench->size_bytes,
                                   "repeats", (int)bench->repeat_count, "results", bench->results)))
        code = CLI_FAILED;
    json_decref(bench->results);
    (void)!mr_device_close(bench->device);
    return code;
}

int cmd_bench(int argc, char **argv)
{
    static const struct option options[] = {
        { "device", required_argument, NULL, 'd' }, { "size", required_argument, NULL, 's' },
        { "repeat", required_argument, NULL, 'r' }, { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 }
    };
    struct bench bench = { .repeat_count = 5 };
    const char *device_name = "auto";
    char *end;
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        switch (letter) {
        case 'h':
            print_help();
            return CLI_DONE;
        case 'd':
            device_name = optarg;
            break;
        case 's':
            if (!cli_parse_bytes(optarg, &bench.size_bytes) || bench.size_bytes < 1u << 20)
                return cli_refuse("bench", "--size '%s' is no size of 1 MiB or more", optarg);
            bench.size_bytes &= ~(uint64_t)4095;
            break;
        case 'r':
            bench.repeat_count = (uint32_t)strtoul(optarg, &end, 10);
            if (*end || bench.repeat_count < 1 || bench.repeat_count > BENCH_REPEAT_LIMIT)
                return cli_refuse("bench", "--repeat '%s' is not 1 to %d", optarg,
                                  BENCH_REPEAT_LIMIT);
            break;
        case 'j':
            bench.is_json = true;
            break;
        default:
            return cli_refuse_option("bench", argv, options);
        }
    }
    if (optind < argc)
        return cli_refuse("bench", "it takes no '%s'", argv[optind]);
    return run_bench(&bench, device_name);
}
