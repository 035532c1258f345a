/* SPDX-License-Identifier: MIT */
/*
 * A text that grows, and amounts as people say them.
 */
#include "job/words.h"

#include "base/alloc.h"

#include <millrace/status.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void mr__words_add(struct mr__words *words, const char *text, size_t length)
{
    if (words->is_out)
        return;
    if (words->used + length + 1 > words->capacity) {
        const size_t capacity = words->capacity * 2 + length + 1024;
        char *grown = mr__resize_array(words->text, capacity, 1);
        if (!grown) {
            words->is_out = true;
            return;
        }
        words->text = grown;
        words->capacity = capacity;
    }
    memcpy(words->text + words->used, text, length);
    words->used += length;
    words->text[words->used] = 0;
}

void mr__words_say(struct mr__words *words, const char *format, ...)
{
    char piece[MR_ERROR_BYTES + 1024];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length >= 0)
        mr__words_add(words, piece,
                      (size_t)length < sizeof piece ? (size_t)length : sizeof piece - 1);
}

char *mr__words_end(struct mr__words *words)
{
    if (words->is_out) {
        mr__free(words->text);
        return NULL;
    }
    return words->text;
}

const char *mr__amount(double bytes, char text[MR__AMOUNT_BYTES])
{
    static const char *const units[] = { "bytes", "kB", "MB", "GB", "TB", "PB" };
    size_t unit = 0;
    while (bytes >= 1000 && unit < 5) {
        bytes /= 1000;
        unit++;
    }
    snprintf(text, MR__AMOUNT_BYTES, unit ? "%.3g %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

const char *mr__milliseconds(double time_ns, char text[MR__AMOUNT_BYTES])
{
    const double value = time_ns * 1e-6;
    snprintf(text, MR__AMOUNT_BYTES, value >= 100 ? "%.0f" : "%.3g", value);
    return text;
}

const char *mr__plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}
