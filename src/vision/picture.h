/* SPDX-License-Identifier: MIT */
/*
 * vision/picture.h - pictures that show what the vision job decided: images with grids laid over
 * them in colours of heat, with numbers and a legend, as PNG or JPEG in memory.
 */
#ifndef MR__VISION_PICTURE_H
#define MR__VISION_PICTURE_H

#include <millrace/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Interleaved RGB, u8, row after row. */
struct mr__picture {
    uint32_t width, height;
    uint8_t *pixels;
};

/* One colour throughout. MR_E_NO_MEMORY. */
mr_status mr__picture_init(struct mr__picture *picture, uint32_t width, uint32_t height,
                           uint32_t colour);
void mr__picture_fini(struct mr__picture *picture);

/* The image itself: `sample_bytes` 1 or 2; of 16 bits the upper 8. */
mr_status mr__picture_from_image(struct mr__picture *picture, const void *pixels, uint32_t width,
                                 uint32_t height, uint32_t sample_bytes);
/* The same so that the longer edge has about `edge` pixels: made smaller by area average, or larger
 * by a whole number. */
mr_status mr__picture_thumbnail(struct mr__picture *out, const struct mr__picture *picture,
                                uint32_t edge);

/* Copies `from` into `picture` at x, y; it must fit. */
void mr__picture_paste(struct mr__picture *picture, const struct mr__picture *from, uint32_t x,
                       uint32_t y);
void mr__picture_fill(struct mr__picture *picture, uint32_t x, uint32_t y, uint32_t width,
                      uint32_t height, uint32_t colour);

/* 0 to 1 as 0xRRGGBB, from dark blue over red to light yellow: lighter is more, in grey too. */
uint32_t mr__picture_heat(float value);

/* A grid over an image: cell i of the columns begins at i * width / columns. */
struct mr__picture_grid {
    uint32_t columns, rows;
    const float *values;     /* 0 to 1 */
    const uint32_t *numbers; /* written into the cells where there is room; may be NULL */
    bool has_borders;
};

/* Turns the part of `picture` that holds an image into a heat map of it: the image in grey stays
 * visible below. */
void mr__picture_lay_over(struct mr__picture *picture, uint32_t x, uint32_t y, uint32_t width,
                          uint32_t height, const struct mr__picture_grid *grid);

/* Text of letters 5 x 7 times `scale`; other characters than a-z, 0-9, '.', '-' and ' ' are left
 * blank. The place is the upper left corner; what is outside is cut. */
void mr__picture_text(struct mr__picture *picture, int64_t x, int64_t y, uint32_t scale,
                      uint32_t colour, const char *text);
uint32_t mr__picture_text_width(uint32_t scale, const char *text);

/* A file in memory; mr__free. The same bytes for the same picture. */
mr_status mr__picture_png(const struct mr__picture *picture, uint8_t **bytes, size_t *size_bytes);
mr_status mr__picture_jpeg(const struct mr__picture *picture, int quality, uint8_t **bytes,
                           size_t *size_bytes);

#endif
