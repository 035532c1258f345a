/* SPDX-License-Identifier: MIT */
/*
 * The millrace command: finds the subcommand and hands the line to it. cmd_*.c act.
 */
#include "cli.h"

#include <millrace/version.h>

#include <signal.h>
#include <string.h>

const struct cli_command cli_commands[] = {
    { "run", "stream data through a job file's stages", cmd_run },
    { "devices", "show what is here, what can overlap, what is missing", cmd_devices },
    { "bench", "measure copies, overlap and call costs on this machine", cmd_bench },
    { NULL, NULL, NULL },
};

static void print_help(FILE *out)
{
    fprintf(out, "usage: millrace COMMAND [OPTIONS]\n\n"
                 "Keeps GPUs fed: streams data through kernels so that copies, kernels and host\n"
                 "work overlap. Without a GPU the same jobs run on the CPU's threads.\n\n"
                 "commands:\n");
    for (const struct cli_command *command = cli_commands; command->name; command++)
        fprintf(out, "  %-9s %s\n", command->name, command->summary);
    fprintf(out, "\n"
                 "  millrace COMMAND --help    what a command takes\n"
                 "  millrace --version         the version\n\n"
                 "start here:\n"
                 "  millrace devices\n"
                 "  millrace run job.yaml --check\n"
                 "  millrace run job.yaml\n\n"
                 "exit codes: 0 done, 1 failed, 2 wrong command line or job file, 3 device not\n"
                 "here, 130 interrupted. Manual: millrace(1), millrace-job(5).\n");
}

static const struct cli_command *find_command(const char *name)
{
    for (const struct cli_command *command = cli_commands; command->name; command++)
        if (!strcmp(command->name, name))
            return command;
    return NULL;
}

int main(int argc, char **argv)
{
    /* A reader that goes away is an error of the write, with words, not a silent death. */
    signal(SIGPIPE, SIG_IGN);

    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        print_help(stdout);
        return fflush(stdout) ? CLI_FAILED : CLI_DONE;
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-V")) {
        printf("millrace %s\n", mr_version_text());
        return fflush(stdout) ? CLI_FAILED : CLI_DONE;
    }
    const struct cli_command *command = find_command(word);
    if (!command)
        return cli_refuse(NULL, "'%s' is no command", word);
    return command->run(argc - 1, argv + 1);
}
