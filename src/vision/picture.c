/* SPDX-License-Identifier: MIT */
/*
 * Pictures in memory: made of images, put together, made smaller and larger.
 */
#include "vision/picture.h"

#include "base/alloc.h"
#include "vision/image_parts.h"

#include <string.h>

static mr_status make_room(struct mr__picture *picture, uint32_t width, uint32_t height)
{
    *picture = (struct mr__picture){ .width = width, .height = height };
    picture->pixels = mr__alloc_aligned(64, (size_t)width * height * 3);
    return picture->pixels ? MR_OK : mr_error_set(MR_E_NO_MEMORY, "no memory for a picture");
}

mr_status mr__picture_init(struct mr__picture *picture, uint32_t width, uint32_t height,
                           uint32_t colour)
{
    const mr_status status = make_room(picture, width, height);
    if (!status)
        mr__picture_fill(picture, 0, 0, width, height, colour);
    return status;
}

void mr__picture_fini(struct mr__picture *picture)
{
    mr__free(picture->pixels);
    *picture = (struct mr__picture){ 0 };
}

mr_status mr__picture_from_image(struct mr__picture *picture, const void *pixels, uint32_t width,
                                 uint32_t height, uint32_t sample_bytes)
{
    const mr_status status = make_room(picture, width, height);
    const size_t count = (size_t)width * height * 3;
    if (status)
        return status;
    if (sample_bytes == 1) {
        memcpy(picture->pixels, pixels, count);
        return MR_OK;
    }
    const uint16_t *wide = pixels;
    for (size_t k = 0; k < count; k++)
        picture->pixels[k] = (uint8_t)(wide[k] >> 8);
    return MR_OK;
}

/* ---- thumbnails ---- */

static mr_status make_smaller(struct mr__picture *out, const struct mr__picture *picture,
                              uint32_t edge)
{
    const uint32_t longer = picture->width > picture->height ? picture->width : picture->height;
    const uint32_t width = (uint32_t)((uint64_t)picture->width * edge / longer);
    const uint32_t height = (uint32_t)((uint64_t)picture->height * edge / longer);
    mr_status status = make_room(out, width ? width : 1, height ? height : 1);
    if (status)
        return status;
    const struct mr__image_info info = { .file_width = picture->width,
                                         .file_height = picture->height,
                                         .orientation = 1,
                                         .width = out->width,
                                         .height = out->height,
                                         .sample_bytes = 1 };
    struct mr__image_scaler scaler;
    status = mr__image_scaler_init(&scaler, &info, out->pixels);
    for (uint32_t y = 0; y < picture->height && !status; y++)
        mr__image_scaler_put(&scaler, picture->pixels + (size_t)y * picture->width * 3);
    mr__image_scaler_fini(&scaler);
    return status;
}

static mr_status make_larger(struct mr__picture *out, const struct mr__picture *picture,
                             uint32_t factor)
{
    const mr_status status = make_room(out, picture->width * factor, picture->height * factor);
    if (status)
        return status;
    for (uint32_t y = 0; y < out->height; y++)
        for (uint32_t x = 0; x < out->width; x++)
            memcpy(out->pixels + ((size_t)y * out->width + x) * 3,
                   picture->pixels + ((size_t)(y / factor) * picture->width + x / factor) * 3, 3);
    return MR_OK;
}

mr_status mr__picture_thumbnail(struct mr__picture *out, const struct mr__picture *picture,
                                uint32_t edge)
{
    const uint32_t longer = picture->width > picture->height ? picture->width : picture->height;
    *out = (struct mr__picture){ 0 };
    return longer > edge ? make_smaller(out, picture, edge)
                         : make_larger(out, picture, edge / longer);
}

/* ---- put together ---- */

void mr__picture_paste(struct mr__picture *picture, const struct mr__picture *from, uint32_t x,
                       uint32_t y)
{
    for (uint32_t row = 0; row < from->height; row++)
        memcpy(picture->pixels + ((size_t)(y + row) * picture->width + x) * 3,
               from->pixels + (size_t)row * from->width * 3, (size_t)from->width * 3);
}

void mr__picture_fill(struct mr__picture *picture, uint32_t x, uint32_t y, uint32_t width,
                      uint32_t height, uint32_t colour)
{
    const uint8_t bytes[3] = { (uint8_t)(colour >> 16), (uint8_t)(colour >> 8), (uint8_t)colour };
    for (uint32_t row = y; row < y + height && row < picture->height; row++)
        for (uint32_t column = x; column < x + width && column < picture->width; column++)
            memcpy(picture->pixels + ((size_t)row * picture->width + column) * 3, bytes, 3);
}
