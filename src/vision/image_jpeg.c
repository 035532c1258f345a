/* SPDX-License-Identifier: MIT */
/*
 * libjpeg behind one call. It reports by a long jump: the function that sets one keeps nothing in
 * registers across it, all state stands in a structure of the caller's. What libjpeg mends with a
 * warning (grey for what is missing) is damage to us, and refused.
 */
#include "base/alloc.h"
#include "vision/image_parts.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/* A progressive file names its scans one by one, and each costs a pass over the image; a file of a
 * few hundred bytes could ask for thousands. Encoders write about ten. */
#define SCAN_LIMIT 200

struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf way_out;
    struct mr__image_scaler *scaler;
    unsigned char *row;
    mr_status status;
};

static void leave(struct decoder *decoder, mr_status status, const char *what)
{
    char words[JMSG_LENGTH_MAX];
    decoder->jpeg.err->format_message((j_common_ptr)&decoder->jpeg, words);
    decoder->status = status == MR_E_NO_MEMORY
                          ? mr_error_set(status, "no memory to decode the JPEG")
                          : mr_error_set(status, "%s (libjpeg: %s)", what, words);
    longjmp(decoder->way_out, 1);
}

static void on_error(j_common_ptr common)
{
    struct decoder *decoder = common->client_data;
    switch (common->err->msg_code) {
    case JERR_OUT_OF_MEMORY:
        leave(decoder, MR_E_NO_MEMORY, "");
        break;
    case JERR_INPUT_EOF:
    case JERR_INPUT_EMPTY:
        leave(decoder, MR_E_FORMAT, "truncated: the JPEG ends too early");
        break;
    case JERR_ARITH_NOTIMPL:
    case JERR_NOT_COMPILED:
    case JERR_SOF_UNSUPPORTED:
    case JERR_CONVERSION_NOTIMPL:
        leave(decoder, MR_E_UNSUPPORTED, "a kind of JPEG that is not read");
        break;
    default:
        leave(decoder, MR_E_FORMAT, "corrupt: the JPEG is damaged");
    }
}

/* Negative levels are warnings. Some of them are of no consequence for the pixels. */
static void on_message(j_common_ptr common, int level)
{
    struct decoder *decoder = common->client_data;
    if (level >= 0)
        return;
    switch (common->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_BOGUS_PROGRESSION:
        return;
    case JWRN_JPEG_EOF:
        leave(decoder, MR_E_FORMAT, "truncated: the JPEG ends too early");
        break;
    default:
        leave(decoder, MR_E_FORMAT, "corrupt: the JPEG is damaged");
    }
}

static void on_progress(j_common_ptr common)
{
    struct decoder *decoder = common->client_data;
    if (decoder->jpeg.input_scan_number <= SCAN_LIMIT)
        return;
    decoder->status =
        mr_error_set(MR_E_UNSUPPORTED, "a progressive JPEG of more than %d scans", SCAN_LIMIT);
    longjmp(decoder->way_out, 1);
}

/* Cyan, magenta, yellow and black without a profile. Adobe's programs store them inverted, and mark
 * the file. */
static void row_from_cmyk(unsigned char *row, uint32_t width, bool is_inverted)
{
    const unsigned flip = is_inverted ? 0 : 255;
    for (uint32_t x = 0; x < width; x++) {
        const unsigned char *ink = row + (size_t)x * 4;
        const unsigned light = ink[3] ^ flip;
        unsigned char colour[3];
        for (int c = 0; c < 3; c++)
            colour[c] = (unsigned char)(((ink[c] ^ flip) * light + 127) / 255);
        memcpy(row + (size_t)x * 3, colour, 3);
    }
}

static mr_status start(struct decoder *decoder)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    jpeg_read_header(jpeg, TRUE);
    const struct mr__image_info *info = &decoder->scaler->info;
    if (jpeg->image_width != info->file_width || jpeg->image_height != info->file_height)
        return mr_error_set(MR_E_FORMAT, "corrupt: the JPEG states two sizes");
    const bool is_cmyk = jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK;
    jpeg->out_color_space = is_cmyk ? JCS_CMYK : JCS_RGB;
    jpeg->dct_method = JDCT_ISLOW; /* the same numbers on every machine */
    jpeg_start_decompress(jpeg);
    decoder->row = mr__zalloc_array(info->file_width, 4);
    return decoder->row ? MR_OK : mr_error_set(MR_E_NO_MEMORY, "no memory to decode the JPEG");
}

static mr_status decode(struct decoder *decoder)
{
    if (setjmp(decoder->way_out))
        return decoder->status;
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    const mr_status status = start(decoder);
    if (status)
        return status;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = decoder->row;
        jpeg_read_scanlines(jpeg, &row, 1);
        if (jpeg->out_color_space == JCS_CMYK)
            row_from_cmyk(decoder->row, jpeg->image_width, jpeg->saw_Adobe_marker);
        mr__image_scaler_put(decoder->scaler, decoder->row);
    }
    jpeg_finish_decompress(jpeg);
    return MR_OK;
}

/* In a function of its own, as a failing creation jumps too. */
static mr_status create(struct decoder *decoder, const void *bytes, size_t size_bytes)
{
    if (setjmp(decoder->way_out))
        return decoder->status;
    jpeg_create_decompress(&decoder->jpeg);
    jpeg_mem_src(&decoder->jpeg, bytes, size_bytes);
    decoder->jpeg.progress = &decoder->progress;
    return MR_OK;
}

mr_status mr__jpeg_decode(const void *bytes, size_t size_bytes, struct mr__image_scaler *scaler)
{
    struct decoder decoder = {
        .progress = { .progress_monitor = on_progress },
        .scaler = scaler,
    };
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = on_error;
    decoder.errors.emit_message = on_message;
    decoder.jpeg.client_data = &decoder;
    mr_status status = create(&decoder, bytes, size_bytes);
    if (!status)
        status = decode(&decoder);
    jpeg_destroy_decompress(&decoder.jpeg);
    mr__free(decoder.row);
    return status;
}
