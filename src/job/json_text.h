/* SPDX-License-Identifier: MIT */
/*
 * job/json_text.h - text from drivers and files, and counts, as JSON.
 */
#ifndef MR__JOB_JSON_TEXT_H
#define MR__JOB_JSON_TEXT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* null for NULL. What is no UTF-8 becomes '?', byte by byte. */
json_t *mr__json_text(const char *text);
json_t *mr__json_number(uint64_t value);
/* One object, indented, with a line end; takes `value`. NULL when memory is out. mr__free. */
char *mr__json_dump(json_t *value, size_t flags);

#endif
