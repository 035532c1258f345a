/* SPDX-License-Identifier: MIT */
/*
 * vision/image_parts.h - what the readers of JPEG and PNG share: the scaler, which takes rows as they
 * are decoded and keeps the working image only.
 */
#ifndef MR__VISION_IMAGE_PARTS_H
#define MR__VISION_IMAGE_PARTS_H

#include "vision/image_read.h"

/* The orientation in an EXIF block ("II*" or "MM*" and on), 1 where there is none or it is wrong. */
uint32_t mr__exif_orientation(const void *block, size_t size_bytes);

/* The source pixels below one pixel of the working image, on one axis. Source pixel `first` counts
 * `first_weight` times, `last` likewise, those between `weight` times. */
struct mr__image_span {
    uint32_t first, last;
    uint32_t first_weight, last_weight;
};

struct mr__image_scaler {
    struct mr__image_info info;
    uint32_t width, height; /* of the working image, before it is turned upright */
    bool is_scaling;
    struct mr__image_span *columns; /* `width` of them */
    uint64_t *across;               /* one source row, averaged across: width * 3 */
    uint64_t *sums;                 /* the working row that is being summed up: width * 3 */
    void *pixels;
    uint32_t source_row, target_row;
};

/* Starts with `info` filled in. mr__image_scaler_fini, also after a failure. */
mr_status mr__image_scaler_init(struct mr__image_scaler *scaler, const struct mr__image_info *info,
                                void *pixels);
/* The next stored row: file_width * 3 samples. */
void mr__image_scaler_put(struct mr__image_scaler *scaler, const void *row);
void mr__image_scaler_fini(struct mr__image_scaler *scaler);

/* Decode all rows into the scaler. */
mr_status mr__jpeg_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler);
mr_status mr__png_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler);

#endif
