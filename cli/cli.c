/* SPDX-License-Identifier: MIT */
/*
 * What the commands share: messages to people, numbers as people read them, JSON for machines.
 */
#include "cli.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void cli_complain(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, command ? "millrace %s: " : "millrace: ", command);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

int cli_refuse(const char *command, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, command ? "millrace %s: " : "millrace: ", command);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    if (command)
        fprintf(stderr, "\nTry 'millrace %s --help'.\n", command);
    else
        fprintf(stderr, "\nTry 'millrace --help'.\n");
    return CLI_USAGE;
}

/* Levenshtein's distance, for names shorter than 32 characters. */
static size_t distance(const char *a, const char *b)
{
    enum { LIMIT = 32 };
    size_t row[LIMIT + 1];
    const size_t a_length = strnlen(a, LIMIT), b_length = strnlen(b, LIMIT);
    for (size_t k = 0; k <= b_length; k++)
        row[k] = k;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t k = 1; k <= b_length; k++) {
            const size_t replaced = diagonal + (a[i - 1] != b[k - 1]);
            diagonal = row[k];
            const size_t shorter = row[k] < row[k - 1] ? row[k] : row[k - 1];
            row[k] = replaced < shorter + 1 ? replaced : shorter + 1;
        }
    }
    return row[b_length];
}

int cli_refuse_option(const char *command, char **argv, const struct option *options)
{
    /* getopt leaves the culprit just behind optind, or its letter in optopt. */
    const char *culprit = optind > 0 ? argv[optind - 1] : "";
    if (strncmp(culprit, "--", 2) != 0)
        return cli_refuse(command, "option '%s' is unknown or lacks its value", culprit);

    const char *name = culprit + 2;
    const size_t length = strcspn(name, "=");
    const char *nearest = NULL;
    size_t least = 4;
    for (const struct option *option = options; option->name; option++) {
        if (!strncmp(option->name, name, length) && strlen(option->name) == length)
            return option->has_arg == required_argument
                       ? cli_refuse(command, "option '--%s' needs a value", option->name)
                       : cli_refuse(command, "option '--%s' takes no value", option->name);
        const size_t apart = distance(name, option->name);
        if (apart < least) {
            least = apart;
            nearest = option->name;
        }
    }
    if (nearest)
        return cli_refuse(command, "unknown option '%s'; did you mean '--%s'?", culprit, nearest);
    return cli_refuse(command, "unknown option '%s'", culprit);
}

int cli_fail(const char *command, mr_status status)
{
    const char *words = mr_last_error();
    cli_complain(command, "%s", words[0] ? words : mr_status_text(status));
    switch (status) {
    case MR_E_UNAVAILABLE:
        return CLI_UNAVAILABLE;
    case MR_E_CANCELLED:
        return CLI_INTERRUPTED;
    default:
        return CLI_FAILED;
    }
}

const char *cli_bytes_text(uint64_t bytes, char text[CLI_NUMBER_BYTES])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
        value /= 1024;
        unit++;
    }
    const int decimals = unit == 0 || value == floor(value) ? 0 : value < 10 ? 2 : 1;
    snprintf(text, CLI_NUMBER_BYTES, "%.*f %s", decimals, value, units[unit]);
    return text;
}

const char *cli_rate_text(double bytes_per_second, char text[CLI_NUMBER_BYTES])
{
    if (bytes_per_second >= 1e9)
        snprintf(text, CLI_NUMBER_BYTES, "%.2f GB/s", bytes_per_second / 1e9);
    else if (bytes_per_second >= 1e6)
        snprintf(text, CLI_NUMBER_BYTES, "%.1f MB/s", bytes_per_second / 1e6);
    else
        snprintf(text, CLI_NUMBER_BYTES, "%.0f kB/s", bytes_per_second / 1e3);
    return text;
}

const char *cli_time_text(double seconds, char text[CLI_NUMBER_BYTES])
{
    if (seconds < 1e-6)
        snprintf(text, CLI_NUMBER_BYTES, "%.0f ns", seconds * 1e9);
    else if (seconds < 1e-3)
        snprintf(text, CLI_NUMBER_BYTES, "%.2f us", seconds * 1e6);
    else if (seconds < 1)
        snprintf(text, CLI_NUMBER_BYTES, "%.1f ms", seconds * 1e3);
    else if (seconds < 120)
        snprintf(text, CLI_NUMBER_BYTES, "%.2f s", seconds);
    else
        snprintf(text, CLI_NUMBER_BYTES, "%.0f min %02.0f s", floor(seconds / 60),
                 fmod(seconds, 60));
    return text;
}

bool cli_parse_bytes(const char *text, uint64_t *bytes)
{
    char *end;
    const double value = strtod(text, &end);
    if (end == text || !(value >= 0))
        return false;

    static const char letters[] = "KMGT";
    double scale = 1;
    const char letter = (char)toupper((unsigned char)*end);
    const char *found = letter ? strchr(letters, letter) : NULL;
    if (found) {
        scale = exp2(10.0 * (double)(found - letters + 1));
        end++;
        if (*end == 'i')
            end++;
    }
    if (*end == 'B')
        end++;
    if (*end || value * scale >= 0x1p63)
        return false;
    *bytes = (uint64_t)(value * scale);
    return true;
}

bool cli_print_json(json_t *json)
{
    const bool is_written =
        json &&
        !json_dumpf(json, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
    json_decref(json);
    return is_written && putchar('\n') != EOF && fflush(stdout) == 0;
}
