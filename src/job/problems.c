/* SPDX-License-Identifier: MIT */
/*
 * The list of problems of a job, and the nearest name to a misspelt one.
 */
#include "job/problems.h"

#include <stdio.h>
#include <string.h>

static void add(struct mr__problems *problems, mr_status status, const struct mr__place *place,
                const char *words)
{
    char text[MR__PROBLEM_BYTES + 512];
    if (!place || !place->file)
        snprintf(text, sizeof text, "%s", words);
    else if (!place->line)
        snprintf(text, sizeof text, "%.400s: %s", place->file, words);
    else
        snprintf(text, sizeof text, "%.400s:%u:%u: %s", place->file, place->line, place->column,
                 words);

    if (!problems->count) {
        problems->first = status;
        snprintf(problems->words, sizeof problems->words, "%.*s", MR__PROBLEM_BYTES - 1, text);
    }
    problems->count++;
    if (problems->report) {
        const mr_job_problem problem = { .file = place ? place->file : NULL,
                                         .line = place ? place->line : 0,
                                         .column = place ? place->column : 0,
                                         .status = status,
                                         .text = text };
        problems->report(problems->context, &problem);
    }
}

void mr__problem_add(struct mr__problems *problems, mr_status status, const struct mr__place *place,
                     const char *format, ...)
{
    char words[MR__PROBLEM_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    add(problems, status, place, words);
}

void mr__problem_add_last(struct mr__problems *problems, mr_status status,
                          const struct mr__place *place, const char *format, ...)
{
    char words[MR__PROBLEM_BYTES];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof words)
        snprintf(words + length, sizeof words - (size_t)length, "%s%s", length ? ": " : "",
                 mr_last_error());
    add(problems, status, place, words);
}

mr_status mr__problems_end(const struct mr__problems *problems)
{
    if (!problems->count)
        return MR_OK;
    if (problems->count == 1)
        return mr_error_set(problems->first, "%s", problems->words);
    return mr_error_set(problems->first, "%s (and %zu more problem%s)", problems->words,
                        problems->count - 1, problems->count == 2 ? "" : "s");
}

#define WORD_LIMIT 48

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours that turn one word into the other. */
static size_t edit_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][WORD_LIMIT + 1];
    for (size_t k = 0; k <= b_length; k++)
        rows[0][k] = k;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3], *two_above = rows[(i + 1) % 3];
        row[0] = i;
        for (size_t k = 1; k <= b_length; k++) {
            const size_t replaced = above[k - 1] + (a[i - 1] != b[k - 1]);
            row[k] = least(replaced, least(above[k], row[k - 1]) + 1);
            if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1])
                row[k] = least(row[k], two_above[k - 2] + 1);
        }
    }
    return rows[a_length % 3][b_length];
}

const char *mr__nearest(const char *word, const char *const *candidates)
{
    const size_t length = strlen(word);
    if (!length || length > WORD_LIMIT)
        return NULL;

    const char *nearest = NULL;
    size_t shortest = length / 3 + 2;
    for (; *candidates; candidates++) {
        const size_t other = strlen(*candidates);
        if (other > WORD_LIMIT)
            continue;
        const size_t distance = edit_distance(word, length, *candidates, other);
        if (distance < shortest && distance < other) {
            shortest = distance;
            nearest = *candidates;
        }
    }
    return nearest;
}

const char *mr__suggestion(const char *word, const char *const *candidates, char *text,
                           size_t text_bytes)
{
    const char *nearest = mr__nearest(word, candidates);
    if (nearest) {
        snprintf(text, text_bytes, "; did you mean '%s'?", nearest);
        return text;
    }

    size_t used = (size_t)snprintf(text, text_bytes, "; one of:");
    for (size_t k = 0; candidates[k] && used < text_bytes; k++)
        used +=
            (size_t)snprintf(text + used, text_bytes - used, "%s %s", k ? "," : "", candidates[k]);
    return text;
}
