/* SPDX-License-Identifier: MIT */
/*
 * vision/vision_parts.h - what the files of the model share, and what the kernels know by the same
 * name or number.
 */
#ifndef MR__VISION_PARTS_H
#define MR__VISION_PARTS_H

#include "vision/vision_model.h"

#include <millrace/kernel.h>

enum {
    MR__VISION_COLOURS = 11,       /* basic colour terms: the first numbers of a descriptor */
    MR__VISION_BINS = 64,          /* of either histogram */
    MR__VISION_CELLS = 4,          /* of a patch, in either direction */
    MR__VISION_TILE_COLUMNS = 256, /* kernels/vision_sums.c: pixels across a tile */
    MR__VISION_TILE_ROWS = 12,
    MR__VISION_STRIP = 16,
    MR__VISION_CONTRAST_SUMS = 4, /* L, a, b, magnitude */
    MR__VISION_SUMS = 15          /* L, a, b, their squares, magnitude, eight orientations */
};
#define MR__VISION_COLOUR_SPREAD 0.2 /* s of the colour terms, over 100 */

/* Where part `i` of `count` begins. */
static inline uint32_t mr__vision_border(uint32_t i, uint32_t size, uint32_t count)
{
    return (uint32_t)((uint64_t)i * size / count);
}

/* The grid of at most `limit` boxes over `width` by `height`, no finer, whose boxes' longer side is
 * shortest; then of most boxes; then of most columns. `least`: boxes that there must be. False where
 * there is no such grid. */
bool mr__vision_grid(uint32_t width, uint32_t height, uint32_t least, uint32_t limit,
                     uint32_t *columns, uint32_t *rows);

/* ---- colour, by libm ---- */

/* A stored value, 0 to 1, as linear light. */
double mr__vision_linear(double stored);
/* L, a, b over 100, 128, 128, of linear light. */
void mr__vision_lab(double red, double green, double blue, double lab[3]);
/* The basic colour terms, in the order of a descriptor. */
void mr__vision_colour_lab(uint32_t colour, double lab[3]);
/* How far a colour belongs to each term. */
void mr__vision_colour_shares(const double lab[3], double shares[MR__VISION_COLOURS]);

/* A patch's descriptor, by libm. */
void mr__vision_reference_descriptor(const struct mr__vision_plan *plan, const float *textures,
                                     uint32_t patch, double descriptor[MR__VISION_DESCRIPTOR]);

#endif
