/* SPDX-License-Identifier: MIT */
/*
 * job/item_type.h - what one item is: numbers of one type in an array of fixed shape.
 */
#ifndef MR__JOB_ITEM_TYPE_H
#define MR__JOB_ITEM_TYPE_H

#include <millrace/kernel.h>

#include <stdbool.h>

#define MR__RANK_LIMIT 8
#define MR__ITEM_BYTES_LIMIT ((uint64_t)1 << 40) /* of one item */

/* Rank 0 is a single number. Every length is at least 1. */
struct mr__item_type {
    mr_type dtype;
    uint32_t rank;
    uint64_t shape[MR__RANK_LIMIT];
};

/* The product of the lengths, or of the lengths and the element's size; false when it does not fit
 * MR__ITEM_BYTES_LIMIT, a length is zero or the type is none. */
bool mr__item_elements(const struct mr__item_type *type, uint64_t *elements);
bool mr__item_bytes(const struct mr__item_type *type, uint64_t *size_bytes);

bool mr__item_same_shape(const struct mr__item_type *a, const struct mr__item_type *b);

#define MR__ITEM_TEXT_BYTES 192

/* "u16 2048x2048", "f32" for one number. Written to `text` and returned. */
const char *mr__item_text(const struct mr__item_type *type, char text[MR__ITEM_TEXT_BYTES]);

bool mr__type_is_float(mr_type type);
/* The range of an integer type, as doubles (64-bit limits are rounded). */
void mr__type_range(mr_type type, double *low, double *high);

/* Element k of an array, as a double (64-bit integers are rounded). */
double mr__number_at(mr_type type, const void *data, size_t k);

#endif
