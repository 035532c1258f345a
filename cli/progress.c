/* SPDX-License-Identifier: MIT */
/*
 * The progress line: a bar where the end is known, counts and rate always, and what each of several
 * devices does where there is room. The same as JSON.
 */
#include "progress.h"

#include "cli.h"

#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR_CELLS = 24, SHORT_BAR_CELLS = 8, LINE_BYTES = 1024, JSON_BYTES = 16384 };

/* ---- text that is cut where it ends ---- */

struct text {
    char *bytes;
    size_t length, capacity;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    const size_t room = text->capacity - text->length;
    va_start(arguments, format);
    const int length = vsnprintf(text->bytes + text->length, room, format, arguments);
    va_end(arguments);
    if (length > 0)
        text->length += (size_t)length < room ? (size_t)length : room - 1;
}

/* ---- the line ---- */

enum detail { DEVICES_NONE, DEVICES_SHARES, DEVICES_RATES };

static void add_bar(struct text *text, const mr_job_progress *now, size_t cell_count)
{
    char cells[BAR_CELLS + 1];
    if (!now->item_count)
        return;
    const double done = (double)(now->items_out + now->items_skipped) / (double)now->item_count;
    const size_t filled = (size_t)(done * (double)cell_count);
    memset(cells, '-', cell_count);
    memset(cells, '#', filled < cell_count ? filled : cell_count);
    cells[cell_count] = 0;
    if (cell_count)
        add(text, "[%s] ", cells);
    add(text, "%3.0f %%  ", done * 100);
}

static void add_counts(struct text *text, const mr_job_progress *now)
{
    char bytes[CLI_NUMBER_BYTES], rate[CLI_NUMBER_BYTES], time[CLI_NUMBER_BYTES];
    add(text, "%llu", (unsigned long long)(now->items_out + now->items_skipped));
    if (now->item_count)
        add(text, "/%llu", (unsigned long long)now->item_count);
    add(text, " items  %s  %s", cli_bytes_text(now->bytes_in, bytes),
        cli_rate_text(now->bytes_per_second, rate));
    if (now->items_skipped)
        add(text, "  %llu skipped", (unsigned long long)now->items_skipped);
    if (now->seconds_left >= 0)
        add(text, "  %s left", cli_time_text(now->seconds_left, time));
}

/* "  cuda:0 1.70 GB/s  cuda:1 lost" */
static void add_rates(struct text *text, const mr_job_progress *now)
{
    char rate[CLI_NUMBER_BYTES];
    for (size_t i = 0; i < now->device_count; i++) {
        const mr_job_device_progress *device = &now->devices[i];
        add(text, "  %s %s", device->device,
            device->is_lost ? "lost" : cli_rate_text(device->bytes_per_second, rate));
    }
}

/* "  48|52|x %" */
static void add_shares(struct text *text, const mr_job_progress *now)
{
    for (size_t i = 0; i < now->device_count; i++) {
        const mr_job_device_progress *device = &now->devices[i];
        const char *before = i ? "|" : "  ";
        if (device->is_lost)
            add(text, "%sx", before);
        else
            add(text, "%s%.0f", before, device->share * 100);
    }
    add(text, " %%");
}

static void add_line(struct text *text, const mr_job_progress *now, size_t cell_count,
                     enum detail detail)
{
    add_bar(text, now, cell_count);
    add_counts(text, now);
    if (detail == DEVICES_RATES)
        add_rates(text, now);
    else if (detail == DEVICES_SHARES)
        add_shares(text, now);
}

size_t progress_line(const mr_job_progress *now, size_t width, char *text, size_t capacity)
{
    /* The first that fits. */
    static const struct {
        size_t cell_count;
        enum detail detail;
    } forms[] = {
        { BAR_CELLS, DEVICES_RATES },
        { SHORT_BAR_CELLS, DEVICES_RATES },
        { BAR_CELLS, DEVICES_SHARES },
        { SHORT_BAR_CELLS, DEVICES_SHARES },
        { 0, DEVICES_SHARES },
        { BAR_CELLS, DEVICES_NONE },
        { SHORT_BAR_CELLS, DEVICES_NONE },
        { 0, DEVICES_NONE },
    };
    enum { FORM_COUNT = sizeof forms / sizeof *forms, FIRST_WITHOUT_DEVICES = 5 };
    char line[LINE_BYTES];
    struct text made = { line, 0, sizeof line };
    if (now->is_verifying)
        add(&made, "comparing with the reference...");
    for (int i = now->device_count ? 0 : FIRST_WITHOUT_DEVICES;
         i < FORM_COUNT && !now->is_verifying; i++) {
        made.length = 0;
        add_line(&made, now, forms[i].cell_count, forms[i].detail);
        if (made.length <= width && made.length < capacity)
            break;
    }
    size_t length = made.length < width ? made.length : width;
    if (length >= capacity)
        length = capacity - 1;
    memcpy(text, line, length);
    text[length] = 0;
    return length;
}

static size_t terminal_width(void)
{
    struct winsize size;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) || size.ws_col < 20)
        return 80;
    return size.ws_col;
}

static void show_line(struct progress *progress, const mr_job_progress *now)
{
    char line[LINE_BYTES];
    const size_t width = terminal_width() - 1;
    const size_t length = progress_line(now, width, line, sizeof line);
    /* Blanks wipe what a longer line left behind. */
    const size_t wipe = progress->line_length > length ? progress->line_length - length : 0;
    fprintf(stderr, "\r%s%*s", line, (int)(wipe < width - length ? wipe : width - length), "");
    fflush(stderr);
    progress->line_length = length;
}

/* ---- JSON ---- */

static void add_device(struct text *text, const mr_job_device_progress *device)
{
    add(text,
        "{\"device\": \"%s\", \"items\": %llu, \"bytes\": %llu, \"bytes_per_second\": %.0f, "
        "\"share\": %.4f, \"is_lost\": %s}",
        device->device, (unsigned long long)device->items, (unsigned long long)device->bytes,
        device->bytes_per_second, device->share, device->is_lost ? "true" : "false");
}

size_t progress_json(const mr_job_progress *now, char *text, size_t capacity)
{
    struct text made = { text, 0, capacity };
    add(&made,
        "{\"items_in\": %llu, \"items_out\": %llu, \"items_skipped\": %llu, \"bytes_in\": %llu, "
        "\"bytes_out\": %llu, \"seconds\": %.3f, \"bytes_per_second\": %.0f",
        (unsigned long long)now->items_in, (unsigned long long)now->items_out,
        (unsigned long long)now->items_skipped, (unsigned long long)now->bytes_in,
        (unsigned long long)now->bytes_out, now->seconds, now->bytes_per_second);
    if (now->item_count)
        add(&made, ", \"item_count\": %llu", (unsigned long long)now->item_count);
    if (now->seconds_left >= 0)
        add(&made, ", \"seconds_left\": %.3f", now->seconds_left);
    add(&made, ", \"is_verifying\": %s", now->is_verifying ? "true" : "false");
    for (size_t i = 0; i < now->device_count; i++) {
        add(&made, i ? ", " : ", \"devices\": [");
        add_device(&made, &now->devices[i]);
    }
    add(&made, now->device_count ? "]}" : "}");
    return made.length;
}

static void print_json(const mr_job_progress *now)
{
    char json[JSON_BYTES];
    progress_json(now, json, sizeof json);
    fprintf(stderr, "%s\n", json);
    fflush(stderr);
}

/* ---- shown ---- */

void progress_show(void *context, const mr_job_progress *now)
{
    struct progress *progress = context;
    if (progress->kind == PROGRESS_LINE)
        show_line(progress, now);
    else if (progress->kind == PROGRESS_JSON)
        print_json(now);
}

void progress_clear(struct progress *progress)
{
    if (progress->line_length)
        fprintf(stderr, "\r%*s\r", (int)terminal_width() - 1, "");
    progress->line_length = 0;
}
