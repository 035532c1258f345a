/* SPDX-License-Identifier: MIT */
/*
 * Headers of JPEG and PNG files, and EXIF's orientation in them, read from memory that may end
 * anywhere. Sizes are judged here, before a decoder sees the file.
 */
#include "vision/image_parts.h"

#include <inttypes.h>
#include <string.h>

/* The part of a file that is here. Reading past it sets is_short and gives zeroes. */
struct reader {
    const unsigned char *bytes;
    size_t size, position;
    bool is_short;
};

static uint32_t take(struct reader *reader, size_t count)
{
    if (reader->size - reader->position < count) {
        reader->is_short = true;
        reader->position = reader->size;
        return 0;
    }
    uint32_t value = 0;
    for (size_t k = 0; k < count; k++)
        value = value << 8 | reader->bytes[reader->position++];
    return value;
}

static void skip(struct reader *reader, size_t count)
{
    if (reader->size - reader->position < count) {
        reader->is_short = true;
        reader->position = reader->size;
        return;
    }
    reader->position += count;
}

/* ---- EXIF ---- */

struct tiff {
    const unsigned char *bytes;
    size_t size;
    bool is_little;
};

static uint32_t tiff_number(const struct tiff *tiff, size_t offset, size_t count)
{
    uint32_t value = 0;
    for (size_t k = 0; k < count; k++)
        value |= (uint32_t)tiff->bytes[offset + k] << 8 * (tiff->is_little ? k : count - 1 - k);
    return value;
}

uint32_t mr__exif_orientation(const void *block, size_t size_bytes)
{
    enum { ORIENTATION = 0x0112, SHORT = 3, ENTRY_BYTES = 12 };
    struct tiff tiff = { .bytes = block, .size = size_bytes };
    if (size_bytes < 8)
        return 1;
    tiff.is_little = memcmp(block, "II", 2) == 0;
    if ((!tiff.is_little && memcmp(block, "MM", 2) != 0) || tiff_number(&tiff, 2, 2) != 42)
        return 1;
    const size_t start = tiff_number(&tiff, 4, 4);
    if (start > size_bytes || size_bytes - start < 2)
        return 1;
    const size_t count = tiff_number(&tiff, start, 2);
    for (size_t k = 0; k < count && (size_bytes - start - 2) / ENTRY_BYTES > k; k++) {
        const size_t entry = start + 2 + k * ENTRY_BYTES;
        if (tiff_number(&tiff, entry, 2) != ORIENTATION)
            continue;
        const uint32_t value = tiff_number(&tiff, entry + 8, 2);
        const bool is_good = tiff_number(&tiff, entry + 2, 2) == SHORT &&
                             tiff_number(&tiff, entry + 4, 4) == 1 && value >= 1 && value <= 8;
        return is_good ? value : 1;
    }
    return 1;
}

/* ---- JPEG ---- */

/* Of a JPEG in several scans, all of which are read before the first row is known: a number of two bytes
 * for each sample, in whole blocks. */
static uint64_t jpeg_coefficients(const struct mr__image_info *info, uint32_t channels)
{
    enum { MCU = 32 };
    const uint64_t width = (info->file_width + MCU - 1) / MCU * MCU;
    const uint64_t height = (info->file_height + MCU - 1) / MCU * MCU;
    return width * height * channels * 2;
}

static mr_status jpeg_frame(struct reader *reader, uint32_t marker, uint32_t *channels_out,
                            struct mr__image_info *out)
{
    const uint32_t precision = take(reader, 1);
    out->file_height = take(reader, 2);
    out->file_width = take(reader, 2);
    const uint32_t channels = *channels_out = take(reader, 1);
    if (reader->is_short)
        return MR_OK;
    out->decode_bytes = jpeg_coefficients(out, channels);
    const bool is_known = marker <= 0xC2 || marker == 0xC9 || marker == 0xCA;
    if (!is_known)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "a %s JPEG, which is not read; save it as an ordinary JPEG or PNG",
                            marker == 0xC3 || marker == 0xCB ? "lossless" : "hierarchical");
    if (precision != 8)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "a JPEG of %u bits per sample, only 8 are read; save it as a PNG of 16 "
                            "bits",
                            precision);
    if (channels != 1 && channels != 3 && channels != 4)
        return mr_error_set(MR_E_UNSUPPORTED,
                            "a JPEG of %u channels; grey, colour (3) and CMYK (4) are read",
                            channels);
    return MR_OK;
}

static bool is_frame(uint32_t marker)
{
    return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
}

static void jpeg_exif(const struct reader *reader, size_t length, struct mr__image_info *out)
{
    const unsigned char *segment = reader->bytes + reader->position;
    const size_t here = reader->size - reader->position;
    if (!out->orientation && length >= 6 && here >= length && memcmp(segment, "Exif\0", 6) == 0)
        out->orientation = mr__exif_orientation(segment + 6, length - 6);
}

/* The next marker; what stands before it, as some cameras write, is passed over. */
static uint32_t next_marker(struct reader *reader)
{
    uint32_t byte = 0;
    while (!reader->is_short && byte != 0xFF)
        byte = take(reader, 1);
    while (!reader->is_short && byte == 0xFF)
        byte = take(reader, 1);
    return byte;
}

/* Whether the first scan, which follows, has all `channels` in full. */
static bool is_one_scan(const struct reader *reader, uint32_t frame, uint32_t channels)
{
    enum { PROGRESSIVE = 0xC2, PROGRESSIVE_ARITHMETIC = 0xCA };
    const bool is_here = reader->size - reader->position >= 3;
    return frame != PROGRESSIVE && frame != PROGRESSIVE_ARITHMETIC && is_here &&
           reader->bytes[reader->position + 2] == channels;
}

/* Of one scan with Huffman codes, which is decoded row by row: a block of 64 samples takes two codes, a
 * bit each at least; and a channel that is full in one direction has a quarter of the rows at least. */
static void jpeg_one_scan(uint32_t frame, struct mr__image_info *out)
{
    enum { BASELINE = 0xC0, EXTENDED = 0xC1, BEST = 64 * 4 * 8 / 2 };
    out->decode_bytes = 0;
    if (frame == BASELINE || frame == EXTENDED)
        out->least_file_bytes = (uint64_t)out->file_width * out->file_height / BEST;
}

static mr_status jpeg_header(struct reader *reader, struct mr__image_info *out)
{
    enum { NONE = 0x00, TEMPORARY = 0x01, RESTART = 0xD0, START = 0xD8, END = 0xD9, SCAN = 0xDA };
    enum { APP1 = 0xE1 };
    uint32_t frame = 0, channels = 0;
    skip(reader, 2);
    while (!reader->is_short) {
        const uint32_t marker = next_marker(reader);
        if (marker == NONE || marker == TEMPORARY || (marker >= RESTART && marker <= START))
            continue;
        if (marker == SCAN && frame && !reader->is_short) {
            if (is_one_scan(reader, frame, channels))
                jpeg_one_scan(frame, out);
            return MR_OK;
        }
        if (marker == END || marker == SCAN)
            break;
        const uint32_t length = take(reader, 2);
        if (length < 2)
            break;
        const size_t next = reader->position + length - 2;
        if (marker == APP1)
            jpeg_exif(reader, length - 2, out);
        if (is_frame(marker) && !frame) {
            const mr_status status = jpeg_frame(reader, marker, &channels, out);
            if (status)
                return status;
            frame = marker;
        }
        if (next < reader->position)
            break;
        skip(reader, next - reader->position);
    }
    return mr_error_set(MR_E_FORMAT, reader->is_short ? "truncated: the JPEG ends in its header"
                                                      : "corrupt: the JPEG's header is damaged");
}

/* ---- PNG ---- */

/* Deflate makes at most 258 bytes of 2 bits. An interlaced image is held as a whole. */
static void png_sizes(uint32_t depth, uint32_t colour, bool is_interlaced,
                      struct mr__image_info *out)
{
    enum { BEST_DEFLATE = 258 * 8 / 2 };
    static const uint8_t samples[] = { 1, 0, 3, 1, 2, 0, 4 };
    const uint64_t width = out->file_width, height = out->file_height;
    if (width > MR__IMAGE_SIDE_LIMIT || height > MR__IMAGE_SIDE_LIMIT)
        return; /* refused later */
    if (colour < sizeof samples && depth <= 16)
        out->least_file_bytes = width * height * samples[colour] * depth / 8 / BEST_DEFLATE;
    if (is_interlaced)
        out->decode_bytes = width * height * 4 * out->sample_bytes;
}

static mr_status png_header(struct reader *reader, struct mr__image_info *out)
{
    enum { IHDR = 0x49484452, IDAT = 0x49444154, IEND = 0x49454E44, EXIF = 0x65584966 };
    skip(reader, 8);
    const uint32_t first = take(reader, 4), name = take(reader, 4);
    out->file_width = take(reader, 4);
    out->file_height = take(reader, 4);
    const uint32_t depth = take(reader, 1), colour = take(reader, 1);
    skip(reader, 2);
    const bool is_interlaced = take(reader, 1);
    skip(reader, 4);
    out->sample_bytes = depth == 16 ? 2 : 1;
    png_sizes(depth, colour, is_interlaced, out);
    if (!reader->is_short && (first != 13 || name != IHDR))
        return mr_error_set(MR_E_FORMAT, "corrupt: the PNG does not begin with its size");
    while (!reader->is_short) {
        const uint32_t length = take(reader, 4), chunk = take(reader, 4);
        if (reader->is_short)
            break;
        if (chunk == IDAT || chunk == IEND)
            return MR_OK;
        if (chunk == EXIF && reader->size - reader->position >= length)
            out->orientation = mr__exif_orientation(reader->bytes + reader->position, length);
        skip(reader, (size_t)length + 4);
    }
    return mr_error_set(MR_E_FORMAT, "truncated: the PNG ends in its header");
}

/* ---- both ---- */

/* Kinds that people have, with what to do about them. */
static mr_status refuse_kind(const unsigned char *bytes, size_t size)
{
    static const struct {
        const char *name;
        size_t offset, length;
        const char *mark;
    } kinds[] = {
        { "a GIF", 0, 4, "GIF8" },         { "a WebP", 8, 4, "WEBP" },
        { "a TIFF", 0, 4, "II*\0" },       { "a TIFF", 0, 4, "MM\0*" },
        { "a BMP", 0, 2, "BM" },           { "a HEIC or AVIF", 4, 4, "ftyp" },
        { "a JPEG XL", 0, 2, "\xFF\x0A" }, { "a JPEG 2000", 4, 4, "jP  " },
        { "an SVG", 0, 4, "<svg" },        { "a PDF", 0, 4, "%PDF" },
    };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++)
        if (size >= kinds[k].offset + kinds[k].length &&
            memcmp(bytes + kinds[k].offset, kinds[k].mark, kinds[k].length) == 0)
            return mr_error_set(MR_E_UNSUPPORTED,
                                "%s image, which is not read; convert it to JPEG or PNG",
                                kinds[k].name);
    return mr_error_set(MR_E_UNSUPPORTED, "no JPEG or PNG image, whatever its name says");
}

static mr_status check_size(const struct mr__image_info *info, uint64_t limit)
{
    if (!info->file_width || !info->file_height)
        return mr_error_set(MR_E_FORMAT, "the image is empty: %u x %u pixels", info->file_width,
                            info->file_height);
    const uint64_t pixels = (uint64_t)info->file_width * info->file_height;
    /* A side past a million is no picture, and sums of such rows would not fit their numbers. */
    if (pixels <= limit && info->file_width <= MR__IMAGE_SIDE_LIMIT &&
        info->file_height <= MR__IMAGE_SIDE_LIMIT)
        return MR_OK;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "too large: %u x %u pixels, the limit is %" PRIu64
                        " in all; if it is what you want, raise limits.pixels",
                        info->file_width, info->file_height, limit);
}

mr_status mr__image_check_length(const struct mr__image_info *info, uint64_t size_bytes)
{
    if (size_bytes >= info->least_file_bytes)
        return MR_OK;
    return mr_error_set(MR_E_FORMAT,
                        "truncated: a file of %" PRIu64 " bytes cannot hold %u x %u pixels",
                        size_bytes, info->file_width, info->file_height);
}

static void settle_size(struct mr__image_info *info, uint32_t edge_limit)
{
    uint32_t width = info->file_width, height = info->file_height;
    const uint32_t longer = width > height ? width : height;
    if (edge_limit && longer > edge_limit) {
        width = (uint32_t)(((uint64_t)width * edge_limit + longer / 2) / longer);
        height = (uint32_t)(((uint64_t)height * edge_limit + longer / 2) / longer);
        width = width ? width : 1;
        height = height ? height : 1;
    }
    const bool is_turned = info->orientation >= 5;
    info->width = is_turned ? height : width;
    info->height = is_turned ? width : height;
}

mr_status mr__image_probe(const void *bytes, size_t size_bytes,
                          const struct mr__image_options *options, struct mr__image_info *out,
                          bool *needs_more)
{
    static const struct mr__image_options no_options;
    struct reader reader = { .bytes = bytes, .size = size_bytes };
    options = options ? options : &no_options;
    *out = (struct mr__image_info){ .sample_bytes = 1 };
    *needs_more = false;
    mr_status status;
    if (!size_bytes)
        return mr_error_set(MR_E_FORMAT, "the file is empty");
    if (size_bytes >= 3 && memcmp(bytes, "\xFF\xD8\xFF", 3) == 0) {
        out->kind = MR__IMAGE_JPEG;
        status = jpeg_header(&reader, out);
    } else if (size_bytes >= 8 && memcmp(bytes, "\x89PNG\r\n\x1A\n", 8) == 0) {
        out->kind = MR__IMAGE_PNG;
        status = png_header(&reader, out);
    } else {
        return refuse_kind(bytes, size_bytes);
    }
    *needs_more = reader.is_short;
    if (!status)
        status =
            check_size(out, options->pixel_limit ? options->pixel_limit : MR__IMAGE_PIXEL_LIMIT);
    if (!out->orientation)
        out->orientation = 1;
    if (!status)
        settle_size(out, options->edge_limit);
    return status;
}

size_t mr__image_bytes(const struct mr__image_info *info)
{
    return (size_t)info->width * info->height * 3 * info->sample_bytes;
}
