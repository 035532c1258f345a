/* SPDX-License-Identifier: MIT */
/*
 * PNG files as items: what type of item a file holds, and where its numbers go.
 */
#include "job/png_file.h"

#include "vision/libpng.h"

#include <errno.h>
#include <string.h>

static mr_status failure(const struct mr__png *image, mr_status status)
{
    if (image->is_out_of_memory)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    return mr_error_set(status, "PNG: %s", image->words[0] ? image->words : "out of memory");
}

/* ---- reading ---- */

static bool prepare_reading(struct mr__png *image, FILE *file, struct mr__item_type *type)
{
    png_structp png = image->png;
    png_infop info = image->info;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_init_io(png, file);
    png_read_info(png, info);
    const int depth = png_get_bit_depth(png, info);
    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_PALETTE)
        png_set_palette_to_rgb(png);
    else if (depth < 8)
        png_set_expand_gray_1_2_4_to_8(png);
    if (depth == 16)
        png_set_swap(png); /* PNG is big-endian */
    png_set_interlace_handling(png);
    png_read_update_info(png, info);

    const uint32_t channels = png_get_channels(png, info);
    type->dtype = depth == 16 ? MR_TYPE_U16 : MR_TYPE_U8;
    type->rank = channels == 1 ? 2 : 3;
    type->shape[0] = png_get_image_height(png, info);
    type->shape[1] = png_get_image_width(png, info);
    type->shape[2] = channels == 1 ? 0 : channels;
    return true;
}

static mr_status read_image(struct mr__png *image, FILE *file, const struct mr__item_type *due,
                            struct mr__item_type *type, void *data)
{
    if (!mr__png_init_reader(image))
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    if (!prepare_reading(image, file, type))
        return failure(image, MR_E_FORMAT);
    uint64_t size_bytes;
    if (!mr__item_bytes(type, &size_bytes))
        return mr_error_set(MR_E_FORMAT, "PNG: larger than 1 TiB");
    if (due && (due->dtype != type->dtype || !mr__item_same_shape(due, type))) {
        char here[MR__ITEM_TEXT_BYTES], there[MR__ITEM_TEXT_BYTES];
        return mr_error_set(MR_E_FORMAT, "the image is %s, the job's items are %s",
                            mr__item_text(type, here), mr__item_text(due, there));
    }
    if (data && !mr__png_read_image(image, data))
        return failure(image, MR_E_FORMAT);
    return MR_OK;
}

mr_status mr__png_read(const char *path, const struct mr__item_type *due,
                       struct mr__item_type *type, void *data)
{
    *type = (struct mr__item_type){ 0 };
    FILE *file = fopen(path, "rbe");
    if (!file)
        return mr_error_set(MR_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
    struct mr__png image;
    const mr_status status = read_image(&image, file, due, type, data);
    mr__png_fini(&image);
    fclose(file);
    return status ? mr_error_prefix(status, "%s: ", path) : MR_OK;
}

/* ---- writing ---- */

mr_status mr__png_write(FILE *file, mr_type dtype, uint32_t height, uint32_t width,
                        const void *data)
{
    const struct mr__png_image what = { .width = width,
                                        .height = height,
                                        .channels = 1,
                                        .sample_bytes = dtype == MR_TYPE_U16 ? 2 : 1,
                                        .pixels = data };
    struct mr__png image;
    mr_status status = MR_OK;
    if (!mr__png_init_writer(&image)) {
        status = mr_error_set(MR_E_NO_MEMORY, "no memory for a PNG image");
    } else {
        png_init_io(image.png, file);
        if (!mr__png_write_image(&image, &what))
            status = failure(&image, MR_E_IO);
    }
    mr__png_fini(&image);
    return status;
}
