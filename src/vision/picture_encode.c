/* SPDX-License-Identifier: MIT */
/*
 * Pictures as files in memory. Both libraries report by long jumps: the functions that set one keep
 * nothing in registers across it, all state stands in a structure of the caller's.
 */
#include "base/alloc.h"
#include "vision/picture.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

/* ---- PNG ---- */

struct png_writer {
    png_structp png;
    png_infop info;
    uint8_t *bytes;
    size_t size_bytes, capacity_bytes;
};

static void on_png_error(png_structp png, const char *words)
{
    (void)words;
    png_longjmp(png, 1);
}

static void on_png_warning(png_structp png, const char *words)
{
    (void)png;
    (void)words;
}

static png_voidp allocate(png_structp png, png_alloc_size_t size_bytes)
{
    (void)png;
    return mr__zalloc(size_bytes);
}

static void release(png_structp png, png_voidp block)
{
    (void)png;
    mr__free(block);
}

static void append(png_structp png, png_bytep data, size_t size_bytes)
{
    struct png_writer *writer = png_get_io_ptr(png);
    if (writer->size_bytes + size_bytes > writer->capacity_bytes) {
        const size_t capacity = 2 * writer->capacity_bytes + size_bytes + 4096;
        uint8_t *bytes = mr__resize_array(writer->bytes, capacity, 1);
        if (!bytes)
            png_error(png, "out of memory");
        writer->bytes = bytes;
        writer->capacity_bytes = capacity;
    }
    memcpy(writer->bytes + writer->size_bytes, data, size_bytes);
    writer->size_bytes += size_bytes;
}

static void flush(png_structp png)
{
    (void)png;
}

static bool write_png(struct png_writer *writer, const struct mr__picture *picture)
{
    png_structp png = writer->png;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_write_fn(png, writer, append, flush);
    png_set_IHDR(png, writer->info, picture->width, picture->height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(png, 1); /* to be looked at soon: quick rather than small */
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    png_write_info(png, writer->info);
    for (uint32_t y = 0; y < picture->height; y++)
        png_write_row(png, picture->pixels + (size_t)y * picture->width * 3);
    png_write_end(png, writer->info);
    return true;
}

mr_status mr__picture_png(const struct mr__picture *picture, uint8_t **bytes, size_t *size_bytes)
{
    struct png_writer writer = { 0 };
    writer.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, NULL, on_png_error,
                                           on_png_warning, NULL, allocate, release);
    writer.info = writer.png ? png_create_info_struct(writer.png) : NULL;
    const bool is_written = writer.info && write_png(&writer, picture);
    png_destroy_write_struct(&writer.png, &writer.info);
    *bytes = NULL;
    if (!is_written) {
        mr__free(writer.bytes);
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    }
    *bytes = writer.bytes;
    *size_bytes = writer.size_bytes;
    return MR_OK;
}

/* ---- JPEG ---- */

struct jpeg_writer {
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf way_out;
    unsigned char *bytes; /* libjpeg's own, of the C library */
    unsigned long size_bytes;
};

static void on_jpeg_error(j_common_ptr common)
{
    struct jpeg_writer *writer = common->client_data;
    longjmp(writer->way_out, 1);
}

static void on_jpeg_message(j_common_ptr common, int level)
{
    (void)common;
    (void)level;
}

static bool write_jpeg(struct jpeg_writer *writer, const struct mr__picture *picture, int quality)
{
    struct jpeg_compress_struct *jpeg = &writer->jpeg;
    if (setjmp(writer->way_out))
        return false;
    jpeg_create_compress(jpeg);
    jpeg_mem_dest(jpeg, &writer->bytes, &writer->size_bytes);
    jpeg->image_width = picture->width;
    jpeg->image_height = picture->height;
    jpeg->input_components = 3;
    jpeg->in_color_space = JCS_RGB;
    jpeg_set_defaults(jpeg);
    jpeg_set_quality(jpeg, quality, TRUE);
    jpeg->comp_info[0].h_samp_factor = jpeg->comp_info[0].v_samp_factor = 1; /* sharp edges */
    jpeg_start_compress(jpeg, TRUE);
    while (jpeg->next_scanline < jpeg->image_height) {
        JSAMPROW row = picture->pixels + (size_t)jpeg->next_scanline * picture->width * 3;
        jpeg_write_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_compress(jpeg);
    return true;
}

mr_status mr__picture_jpeg(const struct mr__picture *picture, int quality, uint8_t **bytes,
                           size_t *size_bytes)
{
    struct jpeg_writer writer = { .size_bytes = 0 };
    writer.jpeg.err = jpeg_std_error(&writer.errors);
    writer.errors.error_exit = on_jpeg_error;
    writer.errors.emit_message = on_jpeg_message;
    writer.jpeg.client_data = &writer;
    const bool is_written = write_jpeg(&writer, picture, quality);
    jpeg_destroy_compress(&writer.jpeg);
    *bytes = is_written ? mr__alloc_aligned(64, writer.size_bytes) : NULL;
    *size_bytes = writer.size_bytes;
    if (*bytes)
        memcpy(*bytes, writer.bytes, writer.size_bytes);
    free(writer.bytes);
    return *bytes ? MR_OK : mr_error_set(MR_E_NO_MEMORY, "no memory for a JPEG image");
}
