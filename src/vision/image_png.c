/* SPDX-License-Identifier: MIT */
/*
 * PNG into the scaler, row by row where the file is not interlaced. What libpng only warns of is an error
 * where it is about pixels: numbers outside of the palette, data beyond the last row, a wrong checksum.
 * What has nothing to do with them (profiles, texts) is not looked at.
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
    uint32_t channels;   /* of a row as it is put: 3, or 4 with alpha */
    bool is_short;

    /* Of an image with a palette: rows are of numbers. */
    unsigned char *colours; /* one row of them; else NULL */
    unsigned char palette[256][4];
    uint32_t palette_count; /* 0: no palette */
    int bad_number;         /* the first that the palette does not have; -1: none */
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

/* Chunks of five bytes, with the zero. */
static const char passed_over[] = "bKGD\0cHRM\0eXIf\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0"
                                  "pHYs\0sBIT\0sCAL\0sPLT\0sRGB\0tEXt\0tIME\0zTXt";

static void pass_over(png_structp png)
{
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, (png_const_bytep)passed_over,
                                sizeof passed_over / 5);
}

static void take_palette(struct decoder *decoder)
{
    png_structp png = decoder->library.png;
    png_colorp colours = NULL;
    png_bytep alphas = NULL;
    int count = 0, alpha_count = 0;
    png_get_PLTE(png, decoder->library.info, &colours, &count);
    png_get_tRNS(png, decoder->library.info, &alphas, &alpha_count, NULL);
    for (int k = 0; k < count; k++) {
        const unsigned char alpha = k < alpha_count ? alphas[k] : 255;
        memcpy(decoder->palette[k],
               (unsigned char[]){ colours[k].red, colours[k].green, colours[k].blue, alpha }, 4);
    }
    decoder->palette_count = (uint32_t)count;
    decoder->channels = alpha_count ? 4 : 3;
}

/* Whatever the file holds becomes red, green, blue, and perhaps alpha, of 8 or 16 bits; or numbers of a
 * palette, of 8 bits. */
static bool start(struct decoder *decoder)
{
    png_structp png = decoder->library.png;
    png_infop info = decoder->library.info;
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_read_fn(png, decoder, read_bytes);
    png_set_chunk_malloc_max(png, CHUNK_LIMIT);
    png_set_chunk_cache_max(png, 64);
    pass_over(png);
    png_read_info(png, info);
    png_set_benign_errors(png, 0); /* from here on it is about pixels */
    const int colour = png_get_color_type(png, info);
    if (colour == PNG_COLOR_TYPE_PALETTE) {
        take_palette(decoder);
        png_set_packing(png); /* a byte each */
    } else {
        png_set_expand(png); /* less than 8 bits, transparent colours */
    }
    if (!(colour & PNG_COLOR_MASK_COLOR))
        png_set_gray_to_rgb(png);
    if (png_get_bit_depth(png, info) == 16)
        png_set_swap(png); /* PNG is big-endian */
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    if (!decoder->palette_count)
        decoder->channels = png_get_channels(png, info);
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

/* The colours of a row of numbers. False where the palette ends before. */
static bool look_up(struct decoder *decoder, const unsigned char *row)
{
    unsigned char *colour = decoder->colours;
    for (uint32_t x = 0; x < decoder->scaler->info.file_width; x++) {
        if (row[x] >= decoder->palette_count) {
            decoder->bad_number = row[x];
            return false;
        }
        memcpy(colour, decoder->palette[row[x]], decoder->channels);
        colour += decoder->channels;
    }
    return true;
}

static bool put_row(struct decoder *decoder, unsigned char *row)
{
    const struct mr__image_info *info = &decoder->scaler->info;
    if (decoder->palette_count && !look_up(decoder, row))
        return false;
    row = decoder->palette_count ? decoder->colours : row;
    if (decoder->channels == 4 && info->sample_bytes == 2)
        lay_over_black_u16(row, info->file_width);
    else if (decoder->channels == 4)
        lay_over_black_u8(row, info->file_width);
    mr__image_scaler_put(decoder->scaler, row);
    return true;
}

/* What comes behind the last row: no more data of the image, which libpng would skip, and the end. */
static void finish(const struct decoder *decoder)
{
    static const unsigned char empty[8] = "\0\0\0\0IDAT";
    const unsigned char *next = decoder->bytes + decoder->position;
    const unsigned char *end = decoder->bytes + decoder->size;
    while (end - next >= 12 && memcmp(next, empty, 8) == 0)
        next += 12;
    if (end - next >= 8 && memcmp(next + 4, "IDAT", 4) == 0)
        png_error(decoder->library.png, "data beyond the last row");
    png_read_end(decoder->library.png, NULL);
}

static bool put_each_row(struct decoder *decoder)
{
    png_structp png = decoder->library.png;
    if (setjmp(png_jmpbuf(png)))
        return false;
    for (uint32_t y = 0; y < decoder->scaler->info.file_height; y++) {
        png_read_row(png, decoder->rows, NULL);
        if (!put_row(decoder, decoder->rows))
            return false;
    }
    finish(decoder);
    return true;
}

/* Of an interlaced image, whose rows are complete with the last pass only. */
static bool put_all_rows(struct decoder *decoder, size_t row_bytes)
{
    png_structp png = decoder->library.png;
    const uint32_t height = decoder->scaler->info.file_height;
    if (setjmp(png_jmpbuf(png)))
        return false;
    for (int pass = 0; pass < PNG_INTERLACE_ADAM7_PASSES; pass++)
        for (uint32_t y = 0; y < height; y++)
            png_read_row(png, decoder->rows + y * row_bytes, NULL);
    finish(decoder);
    for (uint32_t y = 0; y < height; y++)
        if (!put_row(decoder, decoder->rows + y * row_bytes))
            return false;
    return true;
}

static mr_status failure(const struct decoder *decoder)
{
    if (decoder->library.is_out_of_memory)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    if (decoder->is_short)
        return mr_error_set(MR_E_FORMAT, "truncated: the PNG ends too early");
    if (decoder->bad_number >= 0)
        return mr_error_set(MR_E_FORMAT, "corrupt: a pixel has colour %d of a palette of %u",
                            decoder->bad_number, decoder->palette_count);
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
    const size_t pixel_bytes =
        decoder->palette_count ? 1 : (size_t)decoder->channels * info->sample_bytes;
    const size_t row_bytes = png_get_rowbytes(png, header);
    if (png_get_image_width(png, header) != info->file_width ||
        png_get_image_height(png, header) != info->file_height || decoder->channels < 3 ||
        row_bytes != info->file_width * pixel_bytes)
        return mr_error_set(MR_E_FORMAT, "corrupt: the PNG states two sizes");
    const bool is_interlaced = png_get_interlace_type(png, header) != PNG_INTERLACE_NONE;
    decoder->rows = mr__zalloc_array(is_interlaced ? info->file_height : 1, row_bytes);
    if (decoder->palette_count)
        decoder->colours = mr__zalloc_array(info->file_width, decoder->channels);
    if (!decoder->rows || (decoder->palette_count && !decoder->colours))
        return mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    const bool is_put = is_interlaced ? put_all_rows(decoder, row_bytes) : put_each_row(decoder);
    return is_put ? MR_OK : failure(decoder);
}

mr_status mr__png_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler)
{
    struct decoder decoder = {
        .bytes = bytes, .size = size_bytes, .scaler = scaler, .bad_number = -1
    };
    const mr_status status = mr__png_init_reader(&decoder.library)
                                 ? decode(&decoder)
                                 : mr_error_set(MR_E_NO_MEMORY, "no memory to decode the PNG");
    mr__png_fini(&decoder.library);
    mr__free(decoder.rows);
    mr__free(decoder.colours);
    return status;
}
