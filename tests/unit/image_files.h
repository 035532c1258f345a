/* SPDX-License-Identifier: MIT */
/* JPEG and PNG files for tests, made in memory with the libraries themselves. */
#ifndef TEST_IMAGE_FILES_H
#define TEST_IMAGE_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct made_file {
    unsigned char *bytes; /* free */
    size_t size_bytes;
};

struct made_jpeg {
    uint32_t width, height, channels; /* 1, 3, or 4 for CMYK as Adobe stores it */
    int quality;                      /* 0 = 95 */
    bool is_progressive;
    uint32_t orientation; /* 0: no EXIF */
    bool is_little;       /* the EXIF block's order */
};

struct made_png {
    uint32_t width, height;
    int colour; /* PNG_COLOR_TYPE_... */
    int depth;
    bool is_interlaced;
    uint32_t orientation;   /* 0: no eXIf */
    const uint8_t *palette; /* 256 of RGB */
    int palette_count;      /* 0 = as many as the depth has numbers */
    const uint8_t *clear;   /* alpha of the palette's first entries */
    int clear_count;
};

/* `pixels` are interleaved; 16 bits in the machine's order; below 8 bits one byte per pixel. */
struct made_file make_jpeg(const struct made_jpeg *what, const uint8_t *pixels);
struct made_file make_png(const struct made_png *what, const void *pixels);

/* Noise, flat parts and a coloured square, different for each seed: RGB of 8 bits. free */
uint8_t *make_scene(uint32_t width, uint32_t height, uint64_t seed);

/* An EXIF block with an orientation, as it stands after "Exif\0\0". */
size_t make_exif(uint32_t orientation, bool is_little, uint8_t block[64]);

/* Bytes by chance. Free. */
uint8_t *make_noise(size_t count, uint64_t seed);

#endif
