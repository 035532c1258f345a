/* SPDX-License-Identifier: MIT */
/*
 * cli.h - what the commands share: exit codes, messages, and numbers as people read them.
 */
#ifndef MR__CLI_H
#define MR__CLI_H

#include <millrace/status.h>

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What scripts may rely on; millrace(1) lists them. */
enum cli_exit {
    CLI_DONE = 0,
    CLI_FAILED = 1,       /* something failed while running */
    CLI_USAGE = 2,        /* the command line or the job file is wrong; nothing was started */
    CLI_UNAVAILABLE = 3,  /* the device asked for is not here */
    CLI_INTERRUPTED = 130 /* stopped by Ctrl-C or SIGTERM, cleanly */
};

struct cli_command {
    const char *name;
    const char *summary;
    int (*run)(int argc, char **argv);
};

extern const struct cli_command cli_commands[];

int cmd_run(int argc, char **argv);
int cmd_devices(int argc, char **argv);
int cmd_bench(int argc, char **argv);

/* "millrace run: words" to standard error. */
void cli_complain(const char *command, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same, then where help is; answers CLI_USAGE. */
int cli_refuse(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* getopt_long has met an option it does not know, or one without its value: says so with the
 * nearest name that exists. Answers CLI_USAGE. */
int cli_refuse_option(const char *command, char **argv, const struct option *options);

/* The last error's words to standard error; answers the exit code for `status`. */
int cli_fail(const char *command, mr_status status);

enum { CLI_NUMBER_BYTES = 32 };

/* "1.50 GiB", "53.1 GB/s", "12.3 us" / "4.20 s". Each writes into and answers `text`. */
const char *cli_bytes_text(uint64_t bytes, char text[CLI_NUMBER_BYTES]);
const char *cli_rate_text(double bytes_per_second, char text[CLI_NUMBER_BYTES]);
const char *cli_time_text(double seconds, char text[CLI_NUMBER_BYTES]);

/* "64K", "16MiB", "1.5G": powers of 1024. False when it is no size. */
bool cli_parse_bytes(const char *text, uint64_t *bytes);

/* Prints and frees `json`. False when standard output cannot take it. */
bool cli_print_json(json_t *json);

#endif
