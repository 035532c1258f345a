/* SPDX-License-Identifier: MIT */
/*
 * millrace devices: what is here, what can overlap, what is missing and how to get it.
 */
#include "cli.h"

#include <millrace/device.h>

#include <string.h>

enum { LINE_LIMIT = 64 };

static void print_help(void)
{
    printf("usage: millrace devices [--json]\n\n"
           "Lists every device that streams can run on: its memory, what can overlap on it, and\n"
           "for what is missing the reason and the remedy.\n\n"
           "  --json      for programs\n"
           "  -h, --help  this text\n\n"
           "example: millrace devices --json | jq '.devices[].id'\n");
}

/* What overlap the engines allow, in words. */
static const char *overlap_text(const mr_device_properties *device)
{
    if (device->is_host_memory)
        return "no copies needed: its memory is the host's; stages run on different cores";
    if (device->can_overlap_both_copies)
        return "copy in, kernels and copy out, all three at once";
    if (device->can_overlap_copy_and_kernel)
        return "kernels with one copy at a time";
    return "nothing: copies and kernels take turns";
}

static void print_device(const mr_device_properties *device, uint64_t free_bytes)
{
    char memory[CLI_NUMBER_BYTES], free_text[CLI_NUMBER_BYTES];
    printf("%s\n", device->id);
    printf("  name        %s\n", device->name);
    printf("  memory      %s, %s free\n", cli_bytes_text(device->memory_bytes, memory),
           cli_bytes_text(free_bytes, free_text));
    printf("  %-10s  %u\n", device->is_host_memory ? "workers" : "processors",
           device->multiprocessor_count);
    if (!device->is_host_memory) {
        printf("  capability  %u.%u, driver for CUDA %u.%u\n", device->compute_major,
               device->compute_minor, device->driver_version / 1000,
               device->driver_version % 1000 / 10);
        printf("  engines     %u for copies, kernels %s\n", device->copy_engine_count,
               device->has_concurrent_kernels ? "run beside each other" : "run one by one");
    }
    printf("  overlap     %s\n", overlap_text(device));
    printf("  priorities  %d (low) to %d (high)\n", device->priority_lowest,
           device->priority_highest);
}

static json_t *device_json(const mr_device_properties *device, uint64_t free_bytes)
{
    return json_pack(
        "{s:s, s:b, s:s, s:I, s:I, s:i, s:i, s:b, s:b, s:b, s:b, s:b, s:[i,i], s:[i,i], s:i, s:i, "
        "s:s}",
        "id", device->id, "available", 1, "name", device->name, "memory_bytes",
        (json_int_t)device->memory_bytes, "free_bytes", (json_int_t)free_bytes, "processors",
        (int)device->multiprocessor_count, "copy_engines", (int)device->copy_engine_count,
        "concurrent_kernels", (int)device->has_concurrent_kernels, "overlap_copy_and_kernel",
        (int)device->can_overlap_copy_and_kernel, "overlap_both_copies",
        (int)device->can_overlap_both_copies, "ordered_pools", (int)device->has_ordered_pools,
        "host_memory", (int)device->is_host_memory, "priorities", device->priority_lowest,
        device->priority_highest, "compute_capability", (int)device->compute_major,
        (int)device->compute_minor, "driver_version", (int)device->driver_version, "numa_node",
        device->numa_node, "overlap", overlap_text(device));
}

static json_t *missing_json(const char *id, const char *reason)
{
    return json_pack("{s:s, s:b, s:s}", "id", id, "available", 0, "reason", reason);
}

static void report_missing(json_t *list, const char *id, const char *reason)
{
    if (list)
        json_array_append_new(list, missing_json(id, reason));
    else
        printf("%s\n  not available: %s\n", id, reason);
}

/* Prints the device, or adds it to `list` when there is one. */
static void report_device(json_t *list, const mr_device_listing *line)
{
    mr_device *device;
    if (!line->is_available) {
        report_missing(list, line->id, line->reason);
        return;
    }
    if (mr_device_open(line->id, NULL, &device)) {
        report_missing(list, line->id, mr_last_error());
        return;
    }

    mr_device_properties properties;
    mr_device_describe(device, &properties);
    uint64_t free_bytes = 0, total_bytes = 0;
    if (mr_device_memory(device, &free_bytes, &total_bytes))
        free_bytes = 0;
    if (list)
        json_array_append_new(list, device_json(&properties, free_bytes));
    else
        print_device(&properties, free_bytes);
    (void)!mr_device_close(device);
}

int cmd_devices(int argc, char **argv)
{
    static const struct option options[] = { { "json", no_argument, NULL, 'j' },
                                             { "help", no_argument, NULL, 'h' },
                                             { NULL, 0, NULL, 0 } };
    bool is_json = false;
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (letter == 'h') {
            print_help();
            return CLI_DONE;
        }
        if (letter != 'j')
            return cli_refuse_option("devices", argv, options);
        is_json = true;
    }
    if (optind < argc)
        return cli_refuse("devices", "it takes no '%s'", argv[optind]);

    mr_device_listing lines[LINE_LIMIT];
    size_t count;
    const mr_status status = mr_device_list(lines, LINE_LIMIT, &count);
    if (status)
        return cli_fail("devices", status);

    json_t *list = is_json ? json_array() : NULL;
    for (size_t i = 0; i < count && i < LINE_LIMIT; i++)
        report_device(list, &lines[i]);
    if (is_json)
        return cli_print_json(json_pack("{s:o}", "devices", list)) ? CLI_DONE : CLI_FAILED;
    return fflush(stdout) ? CLI_FAILED : CLI_DONE;
}
