/* SPDX-License-Identifier: MIT */
/*
 * The progress line: a bar where the end is known, counts and rate always.
 */
#include "progress.h"

#include "cli.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_CELLS = 24, LINE_BYTES = 256 };

void progress_init(struct progress *progress, bool is_shown)
{
    *progress = (struct progress){ .is_shown = is_shown };
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

static size_t print_bar(char *line, size_t capacity, double done)
{
    char cells[BAR_CELLS + 1];
    const size_t filled = (size_t)(done * BAR_CELLS);
    memset(cells, '-', BAR_CELLS);
    memset(cells, '#', filled < BAR_CELLS ? filled : BAR_CELLS);
    cells[BAR_CELLS] = 0;
    return (size_t)snprintf(line, capacity, "[%s] %3.0f %%  ", cells, done * 100);
}

static size_t print_counts(char *line, size_t capacity, const mr_job_progress *now)
{
    char bytes[CLI_NUMBER_BYTES], rate[CLI_NUMBER_BYTES];
    const uint64_t finished = now->items_out + now->items_skipped;
    size_t length = (size_t)snprintf(line, capacity, "%llu", (unsigned long long)finished);
    if (now->item_count)
        length += (size_t)snprintf(line + length, capacity - length, "/%llu",
                                   (unsigned long long)now->item_count);
    length += (size_t)snprintf(line + length, capacity - length, " items  %s  %s",
                               cli_bytes_text(now->bytes_in, bytes),
                               cli_rate_text(now->bytes_per_second, rate));
    if (now->items_skipped)
        length += (size_t)snprintf(line + length, capacity - length, "  %llu skipped",
                                   (unsigned long long)now->items_skipped);
    return length;
}

void progress_show(void *context, const mr_job_progress *now)
{
    struct progress *progress = context;
    if (!progress->is_shown)
        return;

    char line[LINE_BYTES], time[CLI_NUMBER_BYTES];
    size_t length = 0;
    if (now->is_verifying) {
        length = (size_t)snprintf(line, sizeof line, "comparing with the reference...");
    } else {
        const uint64_t finished = now->items_out + now->items_skipped;
        if (now->item_count)
            length = print_bar(line, sizeof line, (double)finished / (double)now->item_count);
        length += print_counts(line + length, sizeof line - length, now);
        if (now->seconds_left >= 0)
            length += (size_t)snprintf(line + length, sizeof line - length, "  %s left",
                                       cli_time_text(now->seconds_left, time));
    }

    const size_t width = terminal_width() - 1;
    if (length > width)
        length = width;
    /* Blanks wipe what a longer line left behind. */
    const size_t wipe = progress->line_length > length ? progress->line_length - length : 0;
    fprintf(stderr, "\r%.*s%*s", (int)length, line,
            (int)(wipe < width - length ? wipe : width - length), "");
    fflush(stderr);
    progress->line_length = length;
}

void progress_clear(struct progress *progress)
{
    if (progress->line_length)
        fprintf(stderr, "\r%*s\r", (int)terminal_width() - 1, "");
    progress->line_length = 0;
}
