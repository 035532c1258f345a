/* SPDX-License-Identifier: MIT */
/*
 * libpng behind one call. It reports by long jumps: each function that sets one keeps nothing in
 * registers across it, all state stands in a structure of the caller's.
 */
#include "base/alloc.h"
#include "vision/image_parts.h"

#include <png.h>
#include <string.h>

#define CHUNK_LIMIT ((png_alloc_size_t)8 << 20) /* bytes of one text or profile, unpacked */

struct decoder {
    png_structp png;
    png_infop info;
    const unsigned char *bytes;
    size_t size, position;
    struct mr__image_scaler *scaler;
    unsigned char *rows; /* one, or all of an interlaced image */
    bool is_short, is_out_of_memory;
    char words[160];
};

static void on_error(png_structp png, const char *words)
{
    struct decoder *decoder = png_get_error_ptr(png);
    strncpy(decoder->words, words, sizeof decoder->words - 1);
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
    struct decoder *decoder = png_get_mem_ptr(png);
    if (!block && decoder)
        decoder->is_out_of_memory = true;
    return block;
}

static void release(png_structp png, png_voidp block)
{
    (void)png;
    mr__free(block);
}

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
    png_structp png = decoder->png;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_read_fn(png, decoder, read_bytes);
    png_set_user_limits(png, 1000000, 1000000);
    png_set_chunk_malloc_max(png, CHUNK_LIMIT);
    png_set_chunk_cache_max(png, 64);
    png_read_info(png, decoder->info);
    const int colour = png_get_color_type(png, decoder->info);
    png_set_expand(png); /* palettes, less than 8 bits, transparent colours */
    if (!(colour & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(png);
    if (png_get_bit_depth(png, decoder->info) == 16)
        png_set_swap(png); /* PNG is big-endian */
    png_set_interlace_handling(png);
    png_read_update_info(png, decoder->info);
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
    const bool has_alpha = png_get_channels(decoder->png, decoder->info) == 4;
    if (has_alpha && info->sample_bytes == 2)
        lay_over_black_u16(row, info->file_width);
    else if (has_alpha)
        lay_over_black_u8(row, info->file_width);
    mr__image_scaler_put(decoder->scaler, row);
}

static bool read_rows(struct decoder *decoder, size_t row_bytes, bool is_interlaced)
{
    if (setjmp(png_jmpbuf(decoder->png)))
        return false;
    const uint32_t height = decoder->scaler->info.file_height;
    const int passes = is_interlaced ? PNG_INTERLACE_ADAM7_PASSES : 1;
    for (int pass = 0; pass < passes; pass++)
        for (uint32_t y = 0; y < height; y++) {
            unsigned char *row = decoder->rows + (is_interlaced ? y * row_bytes : 0);
            png_read_row(decoder->png, row, NULL);
            if (!is_interlaced)
                put_row(decoder, row);
        }
    for (uint32_t y = 0; y < height && is_interlaced; y++)
        put_row(decoder, decoder->rows + y * row_bytes);
    png_read_end(decoder->png, NULL);
    return true;
}

static mr_status failure(const struct decoder *decoder)
{
    if (decoder->is_out_of_memory)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    if (decoder->is_short)
        return mr_error_set(MR_E_FORMAT, "truncated: the PNG ends too early");
    return mr_error_set(MR_E_FORMAT, "corrupt: the PNG is damaged (libpng: %s)", decoder->words);
}

static mr_status decode(struct decoder *decoder)
{
    if (!start(decoder))
        return failure(decoder);
    const struct mr__image_info *info = &decoder->scaler->info;
    png_structp png = decoder->png;
    const uint32_t channels = png_get_channels(png, decoder->info);
    const size_t row_bytes = png_get_rowbytes(png, decoder->info);
    if (png_get_image_width(png, decoder->info) != info->file_width ||
        png_get_image_height(png, decoder->info) != info->file_height || channels < 3 ||
        row_bytes != (size_t)info->file_width * channels * info->sample_bytes)
        return mr_error_set(MR_E_FORMAT, "corrupt: the PNG states two sizes");
    const bool is_interlaced = png_get_interlace_type(png, decoder->info) != PNG_INTERLACE_NONE;
    decoder->rows = mr__zalloc_array(is_interlaced ? info->file_height : 1, row_bytes);
    if (!decoder->rows)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    return read_rows(decoder, row_bytes, is_interlaced) ? MR_OK : failure(decoder);
}

mr_status mr__png_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler)
{
    struct decoder decoder = { .bytes = bytes, .size = size_bytes, .scaler = scaler };
    decoder.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &decoder, on_error, on_warning,
                                           &decoder, allocate, release);
    decoder.info = decoder.png ? png_create_info_struct(decoder.png) : NULL;
    const mr_status status = decoder.info
                                 ? decode(&decoder)
                                 : mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    png_destroy_read_struct(&decoder.png, &decoder.info, NULL);
    mr__free(decoder.rows);
    return status;
}
