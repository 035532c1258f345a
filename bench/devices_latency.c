/* SPDX-License-Identifier: MIT */
/*
 * How long the library takes to open and to answer what devices are here: `millrace devices` as a
 * user runs it, and mr_device_list in a process that does nothing else.
 *
 *     bench_devices_latency [--millrace PATH] [--runs N] [--json FILE]
 */
#include "measure.h"

#include <millrace/device.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINES = 64, RUN_LIMIT = 64 };

/* Seconds from fork to the end of `program argument`, which must succeed. */
static double run_process(const char *program, const char *argument)
{
    const double began = measure_now_s();
    const pid_t child = fork();
    measure_require(child >= 0, "cannot fork");
    if (child == 0) {
        const int nothing = open("/dev/null", O_WRONLY);
        dup2(nothing, STDOUT_FILENO);
        execl(program, program, argument, (char *)NULL);
        _exit(127);
    }
    int status;
    measure_require(waitpid(child, &status, 0) == child && status == 0, "%s %s failed", program,
                    argument);
    return measure_now_s() - began;
}

static double median_of_processes(const char *program, const char *argument, int run_count)
{
    double seconds[RUN_LIMIT];
    run_process(program, argument);
    for (int i = 0; i < run_count; i++)
        seconds[i] = run_process(program, argument);
    return measure_median(seconds, run_count);
}

static void list_devices(void)
{
    mr_device_listing lines[LINES];
    size_t count = 0;
    measure_require(mr_device_list(lines, LINES, &count) == MR_OK, "%s", mr_last_error());
    measure_require(count > 0 && strcmp(lines[0].id, "") != 0, "no device listed");
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--child") == 0) {
        list_devices();
        return 0;
    }
    struct measure_report report;
    measure_report_init(&report, "devices_latency", &argc, argv);
    const int run_count = (int)measure_option_number(argc, argv, "runs", 21);
    const char *tool = measure_option(argc, argv, "millrace", NULL);
    measure_require(run_count > 0 && run_count <= RUN_LIMIT, "1 to %d runs", RUN_LIMIT);

    measure_report_target(&report,
                          median_of_processes("/proc/self/exe", "--child", run_count) * 1e3, "ms",
                          "<=", 20, "process that lists the devices");
    if (tool)
        measure_report_target(&report, median_of_processes(tool, "devices", run_count) * 1e3, "ms",
                              "<=", 20, "millrace devices");
    return measure_report_finish(&report);
}
