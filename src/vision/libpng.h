/* SPDX-License-Identifier: MIT */
/*
 * vision/libpng.h - libpng as all its users here want it: memory from the house's heap, its words
 * kept, sides limited, warnings dropped.
 *
 * libpng reports by long jumps. A function that calls it sets one, keeps nothing in registers across
 * it, and has its state in a structure of the caller's; those below do so themselves.
 */
#ifndef MR__VISION_LIBPNG_H
#define MR__VISION_LIBPNG_H

#include <png.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Stays where it is until mr__png_fini: libpng points to it. */
struct mr__png {
    png_structp png;
    png_infop info;
    bool is_writing, is_out_of_memory;
    char words[160]; /* libpng's own, of its failure */
};

/* False when memory is out. What the bytes come from or go to is the caller's to set
 * (png_set_read_fn...). mr__png_fini, also after a failure. */
bool mr__png_init_reader(struct mr__png *self);
bool mr__png_init_writer(struct mr__png *self);
void mr__png_fini(struct mr__png *self);

/* All rows, of all passes, and the end of the file. After png_read_update_info. */
bool mr__png_read_image(struct mr__png *self, void *pixels);

/* A file of grey (1 channel) or red, green and blue (3), of samples of 1 or 2 bytes. To be looked at
 * soon: quick rather than small. */
struct mr__png_image {
    uint32_t width, height;
    uint32_t channels, sample_bytes;
    const void *pixels;
};
bool mr__png_write_image(struct mr__png *self, const struct mr__png_image *image);

#endif
