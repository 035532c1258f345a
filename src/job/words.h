/* SPDX-License-Identifier: MIT */
/*
 * job/words.h - a text that grows, and amounts as people say them.
 */
#ifndef MR__JOB_WORDS_H
#define MR__JOB_WORDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start with zeroes. After a failure is_out stays set. */
struct mr__words {
    char *text; /* mr__free */
    size_t used, capacity;
    bool is_out;
};

void mr__words_say(struct mr__words *words, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same without a format and without a limit. */
void mr__words_add(struct mr__words *words, const char *text, size_t length);
/* The text, or NULL once memory is out. mr__free. */
char *mr__words_end(struct mr__words *words);

#define MR__AMOUNT_BYTES 32
/* "1.07 GB". Decimal, as rates are. Written to `text` and returned. */
const char *mr__amount(double bytes, char text[MR__AMOUNT_BYTES]);
/* "0.123", "12.3", "1234": milliseconds of `time_ns`. Written to `text` and returned. */
const char *mr__milliseconds(double time_ns, char text[MR__AMOUNT_BYTES]);
const char *mr__plural(uint64_t count);

#endif
