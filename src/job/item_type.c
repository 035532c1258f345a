/* SPDX-License-Identifier: MIT */
/*
 * Sizes and words of item types; every product is checked.
 */
#include "job/item_type.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool mr__item_elements(const struct mr__item_type *type, uint64_t *elements)
{
    uint64_t product = 1;
    for (uint32_t k = 0; k < type->rank; k++) {
        if (__builtin_mul_overflow(product, type->shape[k], &product))
            return false;
        if (!product || product > MR__ITEM_BYTES_LIMIT)
            return false;
    }
    *elements = product;
    return true;
}

bool mr__item_bytes(const struct mr__item_type *type, uint64_t *size_bytes)
{
    uint64_t elements;
    const uint64_t element_bytes = mr_type_size(type->dtype);
    if (!element_bytes || !mr__item_elements(type, &elements))
        return false;
    *size_bytes = elements * element_bytes; /* at most 2^43 */
    return *size_bytes <= MR__ITEM_BYTES_LIMIT;
}

bool mr__item_same_shape(const struct mr__item_type *a, const struct mr__item_type *b)
{
    return a->rank == b->rank && memcmp(a->shape, b->shape, a->rank * sizeof a->shape[0]) == 0;
}

const char *mr__item_text(const struct mr__item_type *type, char text[MR__ITEM_TEXT_BYTES])
{
    size_t used = (size_t)snprintf(text, MR__ITEM_TEXT_BYTES, "%s", mr_type_name(type->dtype));
    for (uint32_t k = 0; k < type->rank && used < MR__ITEM_TEXT_BYTES; k++)
        used += (size_t)snprintf(text + used, MR__ITEM_TEXT_BYTES - used, "%c%" PRIu64,
                                 k ? 'x' : ' ', type->shape[k]);
    return text;
}

bool mr__type_is_float(mr_type type)
{
    return type == MR_TYPE_F32 || type == MR_TYPE_F64;
}

void mr__type_range(mr_type type, double *low, double *high)
{
    const int bits = (int)mr_type_size(type) * 8;
    const bool is_signed =
        type == MR_TYPE_I8 || type == MR_TYPE_I16 || type == MR_TYPE_I32 || type == MR_TYPE_I64;
    const double half = (double)((uint64_t)1 << (bits - 1));
    *low = is_signed ? -half : 0;
    *high = is_signed ? half - 1 : half * 2 - 1;
}

double mr__number_at(mr_type type, const void *data, size_t k)
{
    switch (type) {
    case MR_TYPE_U8:
        return ((const uint8_t *)data)[k];
    case MR_TYPE_I8:
        return ((const int8_t *)data)[k];
    case MR_TYPE_U16:
        return ((const uint16_t *)data)[k];
    case MR_TYPE_I16:
        return ((const int16_t *)data)[k];
    case MR_TYPE_U32:
        return ((const uint32_t *)data)[k];
    case MR_TYPE_I32:
        return ((const int32_t *)data)[k];
    case MR_TYPE_U64:
        return (double)((const uint64_t *)data)[k];
    case MR_TYPE_I64:
        return (double)((const int64_t *)data)[k];
    case MR_TYPE_F32:
        return (double)((const float *)data)[k];
    case MR_TYPE_F64:
        return ((const double *)data)[k];
    }
    return 0;
}
