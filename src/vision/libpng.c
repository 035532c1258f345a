/* SPDX-License-Identifier: MIT */
/*
 * What every use of libpng needs: setting it up, and whole images in and out.
 */
#include "vision/libpng.h"

#include "base/alloc.h"

#include <stdio.h>

#define SIDE_LIMIT 1000000

static void on_error(png_structp png, const char *words)
{
    struct mr__png *self = png_get_error_ptr(png);
    snprintf(self->words, sizeof self->words, "%s", words);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, const char *words)
{
    (void)png;
    (void)words;
}

static png_voidp allocate(png_structp png, png_alloc_size_t size_bytes)
{
    void *block = mr__zalloc(size_bytes);
    struct mr__png *self = png_get_mem_ptr(png);
    if (!block && self)
        self->is_out_of_memory = true;
    return block;
}

static void release(png_structp png, png_voidp block)
{
    (void)png;
    mr__free(block);
}

static bool add_info(struct mr__png *self)
{
    self->info = self->png ? png_create_info_struct(self->png) : NULL;
    if (!self->info)
        return false;
    png_set_user_limits(self->png, SIDE_LIMIT, SIDE_LIMIT);
    return true;
}

bool mr__png_init_reader(struct mr__png *self)
{
    *self = (struct mr__png){ .is_writing = false };
    self->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, self, on_error, on_warning, self,
                                         allocate, release);
    return add_info(self);
}

bool mr__png_init_writer(struct mr__png *self)
{
    *self = (struct mr__png){ .is_writing = true };
    self->png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, self, on_error, on_warning, self,
                                          allocate, release);
    return add_info(self);
}

void mr__png_fini(struct mr__png *self)
{
    if (self->is_writing)
        png_destroy_write_struct(&self->png, &self->info);
    else
        png_destroy_read_struct(&self->png, &self->info, NULL);
}

bool mr__png_read_image(struct mr__png *self, void *pixels)
{
    if (setjmp(png_jmpbuf(self->png)))
        return false;
    const size_t row_bytes = png_get_rowbytes(self->png, self->info);
    const uint32_t height = png_get_image_height(self->png, self->info);
    const bool is_interlaced = png_get_interlace_type(self->png, self->info) != PNG_INTERLACE_NONE;
    for (int pass = 0; pass < (is_interlaced ? PNG_INTERLACE_ADAM7_PASSES : 1); pass++)
        for (uint32_t y = 0; y < height; y++)
            png_read_row(self->png, (png_bytep)pixels + y * row_bytes, NULL);
    png_read_end(self->png, NULL);
    return true;
}

bool mr__png_write_image(struct mr__png *self, const struct mr__png_image *image)
{
    if (setjmp(png_jmpbuf(self->png)))
        return false;
    const size_t row_bytes = (size_t)image->width * image->channels * image->sample_bytes;
    png_set_IHDR(self->png, self->info, image->width, image->height, 8 * (int)image->sample_bytes,
                 image->channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(self->png, 1);
    png_set_filter(self->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    png_write_info(self->png, self->info);
    if (image->sample_bytes == 2)
        png_set_swap(self->png); /* PNG is big-endian */
    for (uint32_t y = 0; y < image->height; y++)
        png_write_row(self->png, (png_const_bytep)image->pixels + y * row_bytes);
    png_write_end(self->png, self->info);
    return true;
}
