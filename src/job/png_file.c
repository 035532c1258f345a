/* SPDX-License-Identifier: MIT */
/*
 * libpng behind two calls. libpng reports by long jumps: each of the functions that set one keeps
 * nothing in registers across it, all state stands in a structure of the caller's.
 */
#include "job/png_file.h"

#include "base/alloc.h"

#include <errno.h>
#include <png.h>
#include <string.h>

#define SIDE_LIMIT 1000000

struct image {
    png_structp png;
    png_infop info;
    FILE *file;
    bool is_out_of_memory;
    char words[160];
};

static void on_error(png_structp png, const char *words)
{
    struct image *image = png_get_error_ptr(png);
    snprintf(image->words, sizeof image->words, "%s", words);
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
    struct image *image = png_get_mem_ptr(png);
    if (!block && image)
        image->is_out_of_memory = true;
    return block;
}

static void release(png_structp png, png_voidp block)
{
    (void)png;
    mr__free(block);
}

static mr_status failure(const struct image *image, mr_status status)
{
    if (image->is_out_of_memory)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    return mr_error_set(status, "PNG: %s", image->words[0] ? image->words : "out of memory");
}

/* ---- reading ---- */

static bool prepare_reading(struct image *image, struct mr__item_type *type)
{
    if (setjmp(png_jmpbuf(image->png)))
        return false;
    png_init_io(image->png, image->file);
    png_set_user_limits(image->png, SIDE_LIMIT, SIDE_LIMIT);
    png_read_info(image->png, image->info);
    const int depth = png_get_bit_depth(image->png, image->info);
    if (png_get_color_type(image->png, image->info) == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(image->png);
    else if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(image->png);
    if (depth == 16)
        png_set_swap(image->png); /* PNG is big-endian */
    png_set_interlace_handling(image->png);
    png_read_update_info(image->png, image->info);

    const uint32_t channels = png_get_channels(image->png, image->info);
    type->dtype = depth == 16 ? MR_TYPE_U16 : MR_TYPE_U8;
    type->rank = channels == 1 ? 2 : 3;
    type->shape[0] = png_get_image_height(image->png, image->info);
    type->shape[1] = png_get_image_width(image->png, image->info);
    type->shape[2] = channels == 1 ? 0 : channels;
    return true;
}

static bool read_rows(struct image *image, unsigned char *data)
{
    if (setjmp(png_jmpbuf(image->png)))
        return false;
    const size_t row_bytes = png_get_rowbytes(image->png, image->info);
    const uint32_t height = png_get_image_height(image->png, image->info);
    const int passes = png_get_interlace_type(image->png, image->info) == PNG_INTERLACE_NONE
                           ? 1
                           : PNG_INTERLACE_ADAM7_PASSES;
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < height; y++)
            png_read_row(image->png, data + y * row_bytes, NULL);
    png_read_end(image->png, NULL);
    return true;
}

static mr_status read_image(struct image *image, const struct mr__item_type *due,
                            struct mr__item_type *type, void *data)
{
    image->png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, image, on_error, on_warning, image,
                                          allocate, release);
    image->info = image->png ? png_create_info_struct(image->png) : NULL;
    if (!image->info)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    if (!prepare_reading(image, type))
        return failure(image, MR_E_FORMAT);
    uint64_t size_bytes;
    if (!mr__item_bytes(type, &size_bytes))
        return mr_error_set(MR_E_FORMAT, "PNG: larger than 1 TiB");
    if (due && (due->dtype != type->dtype || !mr__item_same_shape(due, type))) {
        char here[MR__ITEM_TEXT_BYTES], there[MR__ITEM_TEXT_BYTES];
        return mr_error_set(MR_E_FORMAT, "the image is %s, the job's items are %s",
                            mr__item_text(type, here), mr__item_text(due, there));
    }
    if (data && !read_rows(image, data))
        return failure(image, MR_E_FORMAT);
    return MR_OK;
}

mr_status mr__png_read(const char *path, const struct mr__item_type *due,
                       struct mr__item_type *type, void *data)
{
    *type = (struct mr__item_type){ 0 };
    struct image image = { .file = fopen(path, "rbe") };
    if (!image.file)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    const mr_status status = read_image(&image, due, type, data);
    png_destroy_read_struct(&image.png, &image.info, NULL);
    fclose(image.file);
    return status ? mr_error_prefix(status, "%s: ", path) : MR_OK;
}

/* ---- writing ---- */

static bool write_rows(struct image *image, mr_type dtype, uint32_t height, uint32_t width,
                       const unsigned char *data)
{
    if (setjmp(png_jmpbuf(image->png)))
        return false;
    const int depth = dtype == MR_TYPE_U16 ? 16 : 8;
    const size_t row_bytes = (size_t)width * (size_t)depth / 8;
    png_init_io(image->png, image->file);
    png_set_user_limits(image->png, SIDE_LIMIT, SIDE_LIMIT);
    png_set_IHDR(image->png, image->info, width, height, depth, PNG_COLOR_TYPE_GRAY,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(image->png, 1); /* a preview: quick rather than small */
    png_set_filter(image->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_UP);
    png_write_info(image->png, image->info);
    if (depth == 16)
        png_set_swap(image->png);
    for (uint32_t y = 0; y < height; y++)
        png_write_row(image->png, data + y * row_bytes);
    png_write_end(image->png, image->info);
    return true;
}

mr_status mr__png_write(FILE *file, mr_type dtype, uint32_t height, uint32_t width,
                        const void *data)
{
    struct image image = { .file = file };
    mr_status status = MR_OK;
    image.png = png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &image, on_error, on_warning,
                                          &image, allocate, release);
    image.info = image.png ? png_create_info_struct(image.png) : NULL;
    if (!image.info)
        status = mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    else if (!write_rows(&image, dtype, height, width, data))
        status = failure(&image, MR_E_IO);
    png_destroy_write_struct(&image.png, &image.info);
    return status;
}
