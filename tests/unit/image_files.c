/* SPDX-License-Identifier: MIT */
/* JPEG and PNG files for tests, made in memory with the libraries themselves. */
#include "image_files.h"
#include "support/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <png.h>

uint8_t *make_scene(uint32_t width, uint32_t height, uint64_t seed)
{
    struct random random = { seed * 77 + 1 };
    uint8_t *pixels = malloc((size_t)width * height * 3);
    if (!pixels)
        abort();
    random_bytes(&random, pixels, (size_t)width * height * 3);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++) {
            uint8_t *pixel = pixels + ((size_t)y * width + x) * 3;
            if (x > width / 2)
                memset(pixel, (int)(40 + seed % 100), 3);
            if (x > width / 2 && x < width * 3 / 4 && y < height / 3)
                memcpy(pixel, (uint8_t[]){ 220, 20, (uint8_t)seed }, 3);
        }
    return pixels;
}

static void put(uint8_t *to, uint32_t value, int count, bool is_little)
{
    for (int k = 0; k < count; k++)
        to[k] = (uint8_t)(value >> 8 * (is_little ? k : count - 1 - k));
}

size_t make_exif(uint32_t orientation, bool is_little, uint8_t block[64])
{
    memset(block, 0, 64);
    memcpy(block, is_little ? "II" : "MM", 2);
    put(block + 2, 42, 2, is_little);
    put(block + 4, 8, 4, is_little);
    put(block + 8, 2, 2, is_little); /* two entries */
    put(block + 10, 0x0100, 2, is_little);
    put(block + 12, 4, 2, is_little);
    put(block + 14, 1, 4, is_little);
    put(block + 22, 0x0112, 2, is_little);
    put(block + 24, 3, 2, is_little);
    put(block + 26, 1, 4, is_little);
    put(block + 30, orientation, 2, is_little);
    return 38;
}

static void write_exif(struct jpeg_compress_struct *jpeg, const struct made_jpeg *what)
{
    uint8_t segment[6 + 64];
    if (!what->orientation)
        return;
    memcpy(segment, "Exif\0", 6);
    const size_t length = make_exif(what->orientation, what->is_little, segment + 6);
    jpeg_write_marker(jpeg, JPEG_APP0 + 1, segment, (unsigned)(6 + length));
}

struct made_file make_jpeg(const struct made_jpeg *what, const uint8_t *pixels)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL;
    unsigned long size_bytes = 0;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, &size_bytes);
    jpeg.image_width = what->width;
    jpeg.image_height = what->height;
    jpeg.input_components = (int)what->channels;
    jpeg.in_color_space = what->channels == 1   ? JCS_GRAYSCALE
                          : what->channels == 3 ? JCS_RGB
                                                : JCS_CMYK;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, what->quality ? what->quality : 95, TRUE);
    if (what->channels == 3) /* no colour at half the resolution */
        jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
    if (what->is_progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    write_exif(&jpeg, what);
    for (uint32_t y = 0; y < what->height; y++) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(pixels + (size_t)y * what->width * what->channels);
        jpeg_write_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return (struct made_file){ .bytes = bytes, .size_bytes = size_bytes };
}

static void append(png_structp png, png_bytep data, size_t size_bytes)
{
    struct made_file *file = png_get_io_ptr(png);
    file->bytes = realloc(file->bytes, file->size_bytes + size_bytes);
    if (!file->bytes)
        abort();
    memcpy(file->bytes + file->size_bytes, data, size_bytes);
    file->size_bytes += size_bytes;
}

struct made_file make_png(const struct made_png *what, const void *pixels)
{
    struct made_file file = { 0 };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    png_set_write_fn(png, &file, append, NULL);
    png_set_IHDR(png, info, what->width, what->height, what->depth, what->colour,
                 what->is_interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (what->palette)
        png_set_PLTE(png, info, (png_const_colorp)what->palette,
                     what->palette_count ? what->palette_count : 1 << what->depth);
    if (what->clear)
        png_set_tRNS(png, info, what->clear, what->clear_count, NULL);
    uint8_t exif[64];
    if (what->orientation)
        png_set_eXIf_1(png, info, (png_uint_32)make_exif(what->orientation, false, exif), exif);
    png_write_info(png, info);
    if (what->depth == 16)
        png_set_swap(png);
    if (what->depth < 8)
        png_set_packing(png);
    const size_t pixel_bytes = (size_t)png_get_channels(png, info) * (what->depth == 16 ? 2 : 1);
    png_bytep *rows = calloc(what->height, sizeof *rows);
    if (!rows)
        abort();
    for (uint32_t y = 0; y < what->height; y++)
        rows[y] = (png_bytep)(uintptr_t)pixels + (size_t)y * what->width * pixel_bytes;
    png_write_image(png, rows);
    png_write_end(png, info);
    png_destroy_write_struct(&png, &info);
    free(rows);
    return file;
}

uint8_t *make_noise(size_t count, uint64_t seed)
{
    uint8_t *bytes = malloc(count);
    if (!bytes)
        abort();
    random_bytes(&(struct random){ seed }, bytes, count);
    return bytes;
}
