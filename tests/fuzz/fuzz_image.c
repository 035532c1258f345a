/* SPDX-License-Identifier: MIT */
/* Any bytes as an image file: read within bounds, and what is taken fills its place exactly. */
#include "vision/image_read.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int is_true)
{
    if (!is_true)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    /* Small enough that a long run of one input is a fault of ours and not a large image. */
    const struct mr__image_options options = { .edge_limit = size % 3 ? 16 : 0,
                                               .pixel_limit = 1 << 16 };
    struct mr__image_info info, again;
    bool needs_more;
    /* An exact copy, so that one byte past the end is seen. */
    uint8_t *copy = malloc(size ? size : 1);
    check(copy != NULL);
    memcpy(copy, data, size);
    const mr_status probed = mr__image_probe(copy, size, &options, &info, &needs_more);
    if (probed == MR_OK) {
        const size_t capacity = mr__image_bytes(&info);
        check(capacity > 0 && info.orientation >= 1 && info.orientation <= 8);
        uint8_t *pixels = malloc(capacity);
        check(pixels != NULL);
        const mr_status status = mr__image_decode(copy, size, &options, pixels, capacity, &again);
        check(!status || mr_last_error()[0] != 0);
        check(again.width == info.width && again.height == info.height);
        free(pixels);
    } else {
        check(mr_last_error()[0] != 0);
    }
    free(copy);
    return 0;
}
