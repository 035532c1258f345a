/* SPDX-License-Identifier: MIT */
/* Any bytes as the start of a .npy file: read within bounds, and what is read holds together. */
#include "job/npy.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int is_true)
{
    if (!is_true)
        abort();
}

/* What was read can be written, and reads as the same again. */
static void check_round_trip(const struct mr__npy_header *header)
{
    struct mr__item_type type = { .dtype = header->dtype, .rank = header->rank - 1 };
    memcpy(type.shape, header->shape + 1, sizeof type.shape);
    uint64_t item_bytes;
    if (!mr__item_bytes(&type, &item_bytes))
        return;
    char text[MR__NPY_WRITTEN_BYTES];
    struct mr__npy_header again;
    mr__npy_format(&type, header->shape[0], text);
    check(mr__npy_parse(text, sizeof text, &again) == MR_OK);
    check(again.dtype == header->dtype && again.rank == header->rank);
    check(memcmp(again.shape, header->shape, sizeof again.shape) == 0);
    check(again.data_bytes == header->data_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mr__npy_header header;
    size_t header_bytes;
    /* An exact copy, so that one byte past the end is seen. */
    uint8_t *copy = malloc(size ? size : 1);
    check(copy != NULL);
    memcpy(copy, data, size);

    const mr_status start = mr__npy_header_bytes(copy, size, &header_bytes);
    const mr_status status = mr__npy_parse(copy, size, &header);
    if (status == MR_OK) {
        check(start == MR_OK && header_bytes <= size && header.data_offset == header_bytes);
        check(header.rank <= MR__NPY_RANK_LIMIT && mr_type_size(header.dtype) > 0);
        if (header.rank)
            check_round_trip(&header);
    } else {
        check(mr_last_error()[0] != 0);
    }
    free(copy);
    return 0;
}
