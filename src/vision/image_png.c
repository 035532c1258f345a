/* SPDX-License-Identifier: MIT */
/*
 * PNG into the scaler, row by row where the file is not interlaced.
 */
#include "base/alloc.h"
#include "vision/image_parts.h"
#include "vision/libpng.h"

#include <string.h>

#define CHUNK_LIMIT ((png_alloc_size_t)8 << 20) /* bytes of one text or profile, unpacked */

struct decoder {
    struct mr__png library;
    const unsigned char *bytes;
    size_t size, position;
    struct mr__image_scaler *scaler;
    unsigned char *rows; /* one, or all of an interlaced image */
    bool is_short;
};

static void read_bytes(png_structp png, png_bytep data, size_t size_bytes)
{
    struct decoder *decoder = png_get_io_ptr(png);
    if (decoder->size - decoder->position < size_bytes) {
        decoder->is_short = true;
        png_error(png, "the file ends");
    }
    memcpy(data, decoder->bytes + decoder->position, size_bytes);
    decoder->position += size_bytes;
}

/* Whatever the file holds becomes red, green, blue, and perhaps alpha, of 8 or 16 bits. */
static bool start(struct decoder *decoder)
{
    png_structp png = decoder->library.png;
    png_infop info = decoder->library.info;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_read_fn(png, decoder, read_bytes);
    png_set_chunk_malloc_max(png, CHUNK_LIMIT);
    png_set_chunk_cache_max(png, 64);
    png_read_info(png, info);
    const int colour = png_get_color_type(png, info);
    png_set_expand(png); /* palettes, less than 8 bits, transparent colours */
    if (!(colour & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(png);
    if (png_get_bit_depth(png, info) == 16)
        png_set_swap(png); /* PNG is big-endian */
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    return true;
}

static void lay_over_black_u8(unsigned char *row, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        const unsigned alpha = row[4 * (size_t)x + 3];
        for (size_t c = 0; c < 3; c++)
            row[3 * (size_t)x + c] = (unsigned char)((row[4 * (size_t)x + c] * alpha + 127) / 255);
    }
}

static void lay_over_black_u16(unsigned char *row, uint32_t width)
{
    for (uint32_t x = 0; x < width; x++) {
        uint16_t pixel[4];
        memcpy(pixel, row + 8 * (size_t)x, sizeof pixel);
        for (int c = 0; c < 3; c++)
            pixel[c] = (uint16_t)(((uint64_t)pixel[c] * pixel[3] + 32767) / 65535);
        memcpy(row + 6 * (size_t)x, pixel, 6);
    }
}

static void put_row(const struct decoder *decoder, unsigned char *row)
{
    const struct mr__image_info *info = &decoder->scaler->info;
    const bool has_alpha = png_get_channels(decoder->library.png, decoder->library.info) == 4;
    if (has_alpha && info->sample_bytes == 2)
        lay_over_black_u16(row, info->file_width);
    else if (has_alpha)
        lay_over_black_u8(row, info->file_width);
    mr__image_scaler_put(decoder->scaler, row);
}

static bool put_each_row(struct decoder *decoder)
{
    png_structp png = decoder->library.png;
    if (setjmp(png_jmpbuf(png)))
        return false;
    for (uint32_t y = 0; y < decoder->scaler->info.file_height; y++) {
        png_read_row(png, decoder->rows, NULL);
        put_row(decoder, decoder->rows);
    }
    png_read_end(png, NULL);
    return true;
}

/* Of an interlaced image, whose rows are complete with the last pass only. */
static bool put_all_rows(struct decoder *decoder, size_t row_bytes)
{
    if (!mr__png_read_image(&decoder->library, decoder->rows))
        return false;
    for (uint32_t y = 0; y < decoder->scaler->info.file_height; y++)
        put_row(decoder, decoder->rows + y * row_bytes);
    return true;
}

static mr_status failure(const struct decoder *decoder)
{
    if (decoder->library.is_out_of_memory)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    if (decoder->is_short)
        return mr_error_set(MR_E_FORMAT, "truncated: the PNG ends too early");
    return mr_error_set(MR_E_FORMAT, "corrupt: the PNG is damaged (libpng: %s)",
                        decoder->library.words);
}

static mr_status decode(struct decoder *decoder)
{
    if (!start(decoder))
        return failure(decoder);
    const struct mr__image_info *info = &decoder->scaler->info;
    png_structp png = decoder->library.png;
    png_infop header = decoder->library.info;
    const uint32_t channels = png_get_channels(png, header);
    const size_t row_bytes = png_get_rowbytes(png, header);
    if (png_get_image_width(png, header) != info->file_width ||
        png_get_image_height(png, header) != info->file_height || channels < 3 ||
        row_bytes != (size_t)info->file_width * channels * info->sample_bytes)
        return mr_error_set(MR_E_FORMAT, "corrupt: the PNG states two sizes");
    const bool is_interlaced = png_get_interlace_type(png, header) != PNG_INTERLACE_NONE;
    decoder->rows = mr__zalloc_array(is_interlaced ? info->file_height : 1, row_bytes);
    if (!decoder->rows)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    const bool is_put = is_interlaced ? put_all_rows(decoder, row_bytes) : put_each_row(decoder);
    return is_put ? MR_OK : failure(decoder);
}

mr_status mr__png_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler)
{
    struct decoder decoder = { .bytes = bytes, .size = size_bytes, .scaler = scaler };
    const mr_status status = mr__png_init_reader(&decoder.library)
                                 ? decode(&decoder)
                                 : mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    mr__png_fini(&decoder.library);
    mr__free(decoder.rows);
    return status;
}
