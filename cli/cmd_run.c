/* SPDX-License-Identifier: MIT */
/*
 * millrace run: reads a job file, checks all of it, runs it, and says what happened.
 */
#include "cli.h"
#include "progress.h"

#include <millrace/job.h>

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct run_options {
    const char *path;
    const char *device;
    const char **overrides;
    size_t override_count;
    const char *report_path; /* NULL: none wanted */
    bool is_json, is_quiet, is_check, is_verified, is_progress_json;
};

static void print_help(void)
{
    printf(
        "usage: millrace run [OPTIONS] JOB.yaml\n\n"
        "Streams data from the job's source through its stages to its sinks. The whole file is\n"
        "checked before anything runs; an output appears under its name only when it is\n"
        "complete. Ctrl-C stops cleanly; a second one at once.\n\n"
        "  --device D        cpu, cuda:N, auto, all, or several as cuda:0,cuda:1, instead of\n"
        "                    the job's own\n"
        "  --set KEY=VALUE   change one value of the job, such as --set source.npy=mine.npy or\n"
        "                    --set stages.quantise.high=4000; may be given several times\n"
        "  --check           check the job, print what would run, and stop\n"
        "  --verify          afterwards, compare the outputs with a plain single-threaded\n"
        "                    reference\n"
        "  --json            the report as JSON on standard output\n"
        "  --report FILE     the report as JSON in a file too, also of a run that failed\n"
        "  --progress json   how far the run is as JSON on standard error, an object a line, ten\n"
        "                    a second, instead of the line on a terminal\n"
        "  --quiet           no progress, no report; failures are still told\n"
        "  -h, --help        this text\n\n"
        "examples:\n"
        "  millrace run --check calibrate.yaml\n"
        "  millrace run --device cuda:0 --set source.npy=night.npy calibrate.yaml\n"
        "  zcat frames.raw.gz | millrace run stdin.yaml | md5sum\n\n"
        "exit codes: 0 done, 1 failed while running, 2 wrong command line or job file, 3 device\n"
        "not here, 130 interrupted. The language of job files: millrace-job(5); of those that\n"
        "share tokens out over images: millrace-vision(5).\n");
}

/* ---- Ctrl-C ---- */

/* The job that a signal stops. Set before the handlers are, cleared after. */
static _Atomic(mr_job *) running_job;
static _Atomic uint64_t first_signal_ns;

enum { IMPATIENCE_NS = 300000000 };

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* The first signal stops the job cleanly, one that comes well after it at once. Two within a moment
 * are one request: timeout(1) and terminals signal the process and its group. */
static void stop_job(int number)
{
    (void)number;
    const uint64_t now = now_ns();
    uint64_t first = 0;
    if (!atomic_compare_exchange_strong(&first_signal_ns, &first, now)) {
        if (now - first > IMPATIENCE_NS)
            _exit(CLI_INTERRUPTED);
        return;
    }
    mr_job *job = atomic_load(&running_job);
    if (job)
        mr_job_cancel(job);
}

static void watch_signals(mr_job *job)
{
    const int numbers[] = { SIGINT, SIGTERM, SIGHUP };
    atomic_store(&running_job, job);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        struct sigaction action;
        /* Whoever started us with a signal ignored (nohup, a shell's background) means it. */
        if (sigaction(numbers[i], NULL, &action) || action.sa_handler == SIG_IGN)
            continue;
        memset(&action, 0, sizeof action);
        action.sa_handler = stop_job;
        action.sa_flags = SA_RESTART;
        sigaction(numbers[i], &action, NULL);
    }
}

/* ---- checking ---- */

static void print_problem(void *context, const mr_job_problem *problem)
{
    size_t *count = context;
    (*count)++;
    fprintf(stderr, "%s\n", problem->text);
}

static int load_job(const struct run_options *options, mr_job **job)
{
    size_t problem_count = 0;
    const mr_status status =
        mr_job_load(options->path,
                    &(mr_job_options){ .device = options->device,
                                       .overrides = options->overrides,
                                       .override_count = options->override_count,
                                       .problem = print_problem,
                                       .context = &problem_count },
                    job);
    if (!status)
        return CLI_DONE;
    if (!problem_count)
        cli_complain("run", "%s", mr_last_error());
    else
        cli_complain("run", "%zu problem%s in %s; nothing was run", problem_count,
                     problem_count == 1 ? "" : "s", options->path);
    return status == MR_E_UNAVAILABLE ? CLI_UNAVAILABLE
           : status == MR_E_NO_MEMORY ? CLI_FAILED
                                      : CLI_USAGE;
}

/* ---- running ---- */

/* Standard output may be the job's own sink: then the report goes to standard error. */
static FILE *report_stream(const mr_job_report *report)
{
    for (size_t i = 0; i < report->output_count; i++)
        if (!strcmp(report->outputs[i].kind, "stdout"))
            return stderr;
    return stdout;
}

static bool print_report(const struct run_options *options, mr_job *job)
{
    const mr_job_report *report;
    if (options->is_quiet || mr_job_report_get(job, &report))
        return true;
    FILE *out = report_stream(report);
    const char *text = options->is_json ? mr_job_report_json(job) : mr_job_report_text(job);
    return fputs(text, out) >= 0 && fflush(out) == 0;
}

static bool save_report(const struct run_options *options, mr_job *job)
{
    if (!options->report_path)
        return true;
    FILE *file = fopen(options->report_path, "we");
    if (!file)
        return false;
    const bool is_written = fputs(mr_job_report_json(job), file) >= 0;
    return fclose(file) == 0 && is_written;
}

static int explain_failure(mr_status status)
{
    if (status != MR_E_CANCELLED)
        return cli_fail("run", status);
    cli_complain("run", "stopped; no output of this run was left under its name");
    return CLI_INTERRUPTED;
}

static enum progress_kind progress_kind_of(const struct run_options *options)
{
    if (options->is_progress_json)
        return PROGRESS_JSON;
    const bool is_shown = !options->is_quiet && !options->is_json && isatty(STDERR_FILENO);
    return is_shown ? PROGRESS_LINE : PROGRESS_NONE;
}

static int run_job(const struct run_options *options, mr_job *job)
{
    struct progress progress = { .kind = progress_kind_of(options) };
    watch_signals(job);
    const mr_status status =
        mr_job_run(job, &(mr_job_run_options){ .progress = progress_show,
                                               .context = &progress,
                                               .is_verified = options->is_verified });
    progress_clear(&progress);

    /* The words belong to this thread's last failure: tell them before anything else can fail. */
    int code = CLI_DONE;
    if (status)
        code = explain_failure(status);
    if (!print_report(options, job)) {
        cli_complain("run", "the report could not be written to standard output");
        code = code ? code : CLI_FAILED;
    }
    if (!save_report(options, job)) {
        cli_complain("run", "the report could not be written to %s", options->report_path);
        code = code ? code : CLI_FAILED;
    }
    return code;
}

static int act(const struct run_options *options)
{
    mr_job *job;
    int code = load_job(options, &job);
    if (code)
        return code;

    if (!options->is_check)
        code = run_job(options, job);
    else if (!options->is_quiet)
        code = printf("%s", mr_job_plan_text(job)) < 0 || fflush(stdout) ? CLI_FAILED : CLI_DONE;
    atomic_store(&running_job, NULL);
    mr_job_destroy(job);
    return code;
}

static int parse_options(int argc, char **argv, struct run_options *options)
{
    static const struct option names[] = {
        { "device", required_argument, NULL, 'd' }, { "set", required_argument, NULL, 's' },
        { "check", no_argument, NULL, 'c' },        { "verify", no_argument, NULL, 'v' },
        { "json", no_argument, NULL, 'j' },         { "progress", required_argument, NULL, 'p' },
        { "quiet", no_argument, NULL, 'q' },        { "report", required_argument, NULL, 'r' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 }
    };
    opterr = 0;
    for (int letter; (letter = getopt_long(argc, argv, "h", names, NULL)) != -1;) {
        switch (letter) {
        case 'd':
            options->device = optarg;
            break;
        case 's':
            if (!strchr(optarg, '='))
                return cli_refuse("run", "--set '%s' has no '='; write --set KEY=VALUE", optarg);
            options->overrides[options->override_count++] = optarg;
            break;
        case 'c':
            options->is_check = true;
            break;
        case 'v':
            options->is_verified = true;
            break;
        case 'j':
            options->is_json = true;
            break;
        case 'p':
            if (strcmp(optarg, "json") != 0)
                return cli_refuse("run", "--progress '%s' is not known: json is", optarg);
            options->is_progress_json = true;
            break;
        case 'q':
            options->is_quiet = true;
            break;
        case 'r':
            options->report_path = optarg;
            break;
        case 'h':
            print_help();
            return -1;
        default:
            return cli_refuse_option("run", argv, names);
        }
    }
    if (optind == argc)
        return cli_refuse("run", "which job file?");
    if (argc - optind > 1)
        return cli_refuse("run", "one job file at a time: '%s' is too many", argv[optind + 1]);
    options->path = argv[optind];
    return CLI_DONE;
}

int cmd_run(int argc, char **argv)
{
    struct run_options options = { .overrides = calloc((size_t)argc, sizeof(char *)) };
    if (!options.overrides) {
        cli_complain("run", "out of memory");
        return CLI_FAILED;
    }
    int code = parse_options(argc, argv, &options);
    if (code == CLI_DONE)
        code = act(&options);
    free(options.overrides);
    return code < 0 ? CLI_DONE : code;
}
