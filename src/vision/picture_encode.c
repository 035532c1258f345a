/* SPDX-License-Identifier: MIT */
/*
 * Pictures as files in memory. libjpeg reports by a long jump: the function that sets one keeps
 * nothing in registers across it, all state stands in a structure of the caller's.
 */
#include "base/alloc.h"
#include "vision/libpng.h"
#include "vision/picture.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

/* ---- PNG ---- */

struct png_bytes {
    uint8_t *bytes;
    size_t size_bytes, capacity_bytes;
};

static void append(png_structp png, png_bytep data, size_t size_bytes)
{
    struct png_bytes *file = png_get_io_ptr(png);
    if (file->size_bytes + size_bytes > file->capacity_bytes) {
        const size_t capacity = 2 * file->capacity_bytes + size_bytes + 4096;
        uint8_t *bytes = mr__resize_array(file->bytes, capacity, 1);
        if (!bytes)
            png_error(png, "out of memory");
        file->bytes = bytes;
        file->capacity_bytes = capacity;
    }
    memcpy(file->bytes + file->size_bytes, data, size_bytes);
    file->size_bytes += size_bytes;
}

static void flush(png_structp png)
{
    (void)png;
}

mr_status mr__picture_png(const struct mr__picture *picture, uint8_t **bytes, size_t *size_bytes)
{
    const struct mr__png_image image = { .width = picture->width,
                                         .height = picture->height,
                                         .channels = 3,
                                         .sample_bytes = 1,
                                         .pixels = picture->pixels };
    struct png_bytes file = { 0 };
    struct mr__png writer;
    bool is_written = mr__png_init_writer(&writer);
    if (is_written) {
        png_set_write_fn(writer.png, &file, append, flush);
        is_written = mr__png_write_image(&writer, &image);
    }
    mr__png_fini(&writer);
    *bytes = NULL;
    if (!is_written) {
        mr__free(file.bytes);
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    }
    *bytes = file.bytes;
    *size_bytes = file.size_bytes;
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
