/* SPDX-License-Identifier: MIT */
/* Files that are no good images: cut, changed byte by byte, forged, too large; and what a probe says of
 * them before anything is decoded. */
#include "image_files.h"
#include "support/random.h"
#include "support/unit.h"
#include "vision/image_parts.h"

#include <png.h>
#include <stdlib.h>

/* Whatever the bytes are, the answer is a status with words, and no byte past the end is touched. */
static mr_status try_bytes(const uint8_t *bytes, size_t size_bytes, uint8_t *pixels,
                           size_t capacity_bytes)
{
    uint8_t *exact = malloc(size_bytes ? size_bytes : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, size_bytes);
    struct mr__image_info info;
    mr_error_set(MR_OK, "%s", "");
    const mr_status status =
        mr__image_decode(exact, size_bytes, NULL, pixels, capacity_bytes, &info);
    free(exact);
    if (status)
        assert_true(mr_last_error()[0]);
    return status;
}

static void damage(struct made_file file, size_t pixel_bytes, bool is_checked)
{
    uint8_t *pixels = malloc(pixel_bytes);
    assert_ok(try_bytes(file.bytes, file.size_bytes, pixels, pixel_bytes));
    for (size_t cut = 0; cut + 2 < file.size_bytes; cut += 1 + cut / 64)
        if (try_bytes(file.bytes, cut, pixels, pixel_bytes) == MR_OK)
            fail_msg("a file cut to %d of %d bytes was taken", (int)cut, (int)file.size_bytes);
    struct random random = { 9 };
    for (int round = 0; round < 300; round++) {
        const size_t at = random_below(&random, file.size_bytes);
        const uint8_t kept = file.bytes[at];
        file.bytes[at] = (uint8_t)(kept ^ (1 + random_below(&random, 255)));
        const mr_status status = try_bytes(file.bytes, file.size_bytes, pixels, pixel_bytes);
        /* PNG's checksums cover all but lengths and names of what may be left out. */
        if (is_checked && !status && at < 33)
            fail_msg("byte %d was changed, and the file taken", (int)at);
        file.bytes[at] = kept;
    }
    free(pixels);
}

static void damaged_files_are_refused(void **state)
{
    (void)state;
    uint8_t *pixels = make_noise(40 * 30 * 3, 4);
    struct made_file files[4] = {
        make_jpeg(&(struct made_jpeg){ 40, 30, 3, 80, false, 3, true }, pixels),
        make_jpeg(&(struct made_jpeg){ 40, 30, 3, 80, true, 0, true }, pixels),
        make_png(
            &(struct made_png){
                .width = 40, .height = 30, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
            pixels),
        make_png(&(struct made_png){ .width = 40,
                                     .height = 30,
                                     .depth = 8,
                                     .is_interlaced = true,
                                     .colour = PNG_COLOR_TYPE_RGB },
                 pixels),
    };
    for (int k = 0; k < 4; k++) {
        damage(files[k], 40 * 30 * 3, k >= 2);
        free(files[k].bytes);
    }
    free(pixels);
}

/* ---- damage that libpng only warns of ---- */

static uint32_t crc_of(const uint8_t *bytes, size_t size_bytes)
{
    uint32_t crc = UINT32_MAX;
    for (size_t k = 0; k < size_bytes; k++) {
        crc ^= bytes[k];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static void put_u32(uint8_t *to, uint32_t value)
{
    for (int k = 0; k < 4; k++)
        to[k] = (uint8_t)(value >> 8 * (3 - k));
}

/* The checksum of the chunk at `at` made right again. */
static void seal(struct made_file *file, size_t at, uint32_t length)
{
    put_u32(file->bytes + at + 8 + length, crc_of(file->bytes + at + 4, length + 4));
}

static size_t find_chunk(const struct made_file *file, const char *name)
{
    for (size_t at = 8; at + 12 <= file->size_bytes; at++)
        if (memcmp(file->bytes + at + 4, name, 4) == 0)
            return at;
    fail_msg("no %s", name);
    return 0;
}

/* A chunk more, before the one called `before`. */
static void add_chunk(struct made_file *file, const char *before, const char *name,
                      const char *data, uint32_t length)
{
    const size_t at = find_chunk(file, before), more = length + 12;
    file->bytes = realloc(file->bytes, file->size_bytes + more);
    assert_non_null(file->bytes);
    memmove(file->bytes + at + more, file->bytes + at, file->size_bytes - at);
    file->size_bytes += more;
    put_u32(file->bytes + at, length);
    memcpy(file->bytes + at + 4, name, 4);
    memcpy(file->bytes + at + 8, data, length);
    seal(file, at, length);
}

static void expect_damaged(struct made_file file, const char *words)
{
    uint8_t pixels[8 * 6 * 3];
    assert_status(MR_E_FORMAT, try_bytes(file.bytes, file.size_bytes, pixels, sizeof pixels));
    assert_words(words);
    free(file.bytes);
}

static struct made_file make_small(bool is_interlaced)
{
    uint8_t pixels[8 * 6 * 3] = { 1, 2, 3 };
    return make_png(&(struct made_png){ .width = 8,
                                        .height = 6,
                                        .depth = 8,
                                        .is_interlaced = is_interlaced,
                                        .colour = PNG_COLOR_TYPE_RGB },
                    pixels);
}

static void data_beyond_the_last_row_is_damage(void **state)
{
    (void)state;
    for (int is_interlaced = 0; is_interlaced < 2; is_interlaced++) {
        struct made_file file = make_small(is_interlaced);
        add_chunk(&file, "IEND", "IDAT", "surplus", 7);
        expect_damaged(file, "corrupt: the PNG is damaged (libpng: ");
        file = make_small(is_interlaced);
        file.bytes[23] = 5; /* rows, of the 6 that are there */
        seal(&file, 8, 13);
        expect_damaged(file, "corrupt: the PNG is damaged (libpng: ");
        file = make_small(is_interlaced);
        const size_t end = find_chunk(&file, "IEND"), start = find_chunk(&file, "IDAT");
        file.bytes[end - 5] ^= 1; /* of the data's own checksum */
        seal(&file, start, (uint32_t)(end - start - 12));
        expect_damaged(file, "corrupt: the PNG is damaged (libpng: ");
    }
}

static void a_number_that_the_palette_lacks_is_damage(void **state)
{
    (void)state;
    uint8_t palette[768] = { 9, 8, 7 };
    for (int depth = 2; depth <= 8; depth *= 2)
        for (int is_interlaced = 0; is_interlaced < 2; is_interlaced++) {
            uint8_t pixels[8 * 6] = { 0, 1, 2 }, out[8 * 6 * 3];
            const struct made_png what = { .width = 8,
                                           .height = 6,
                                           .depth = depth,
                                           .is_interlaced = is_interlaced,
                                           .colour = PNG_COLOR_TYPE_PALETTE,
                                           .palette = palette,
                                           .palette_count = 3 };
            struct made_file file = make_png(&what, pixels);
            assert_ok(try_bytes(file.bytes, file.size_bytes, out, sizeof out));
            assert_memory_equal(palette, out, 3);
            free(file.bytes);
            pixels[8 * 6 - 1] = 3;
            expect_damaged(make_png(&what, pixels), "corrupt: a pixel has colour 3 of a palette "
                                                    "of 3");
        }
}

/* Profiles, texts and the like may be anything; they change no pixel. */
static void what_is_no_pixel_may_be_odd(void **state)
{
    (void)state;
    static const char *const names[] = { "iCCP", "tEXt", "gAMA", "eXIf", "sRGB", "tIME", "teSt" };
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        for (int is_after = 0; is_after < 2; is_after++) {
            uint8_t pixels[8 * 6 * 3];
            struct made_file file = make_small(is_after);
            for (int twice = 0; twice < 2; twice++)
                add_chunk(&file, is_after ? "IEND" : "IDAT", names[k], "nonsense, and more", 18);
            assert_ok(try_bytes(file.bytes, file.size_bytes, pixels, sizeof pixels));
            assert_memory_equal("\1\2\3", pixels, 3);
            free(file.bytes);
        }
}

static void expect_refused(const void *bytes, size_t size_bytes, mr_status status,
                           const char *words)
{
    uint8_t pixels[64];
    assert_status(status, try_bytes(bytes, size_bytes, pixels, sizeof pixels));
    assert_words(words);
}

static void what_is_no_image_is_named(void **state)
{
    (void)state;
    expect_refused("", 0, MR_E_FORMAT, "empty");
    expect_refused("GIF89a......", 12, MR_E_UNSUPPORTED, "a GIF image");
    expect_refused("RIFF....WEBPVP8 ", 16, MR_E_UNSUPPORTED, "a WebP image");
    expect_refused("hello, world", 12, MR_E_UNSUPPORTED, "no JPEG or PNG");
    expect_refused("\xFF\xD8\xFF", 3, MR_E_FORMAT, "truncated");
    expect_refused("\x89PNG\r\n\x1A\n", 8, MR_E_FORMAT, "truncated");
    expect_refused("\xFF\xD8\xFF\xC3\x00\x0B\x08\x00\x10\x00\x10\x01\x01\x11\x00", 15,
                   MR_E_UNSUPPORTED, "lossless");
    expect_refused("\xFF\xD8\xFF\xC1\x00\x0B\x0C\x00\x10\x00\x10\x01\x01\x11\x00", 15,
                   MR_E_UNSUPPORTED, "12 bits");
}

/* A header that promises much costs nothing: it is refused before memory is taken. */
static void bombs_are_refused_by_their_header(void **state)
{
    (void)state;
    uint8_t pixels[3] = { 0 };
    struct made_file png = make_png(
        &(struct made_png){ .width = 1, .height = 1, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        pixels);
    memcpy(png.bytes + 16, "\x00\x01\x86\xA0\x00\x01\x86\xA0", 8); /* 100000 x 100000 */
    expect_refused(png.bytes, png.size_bytes, MR_E_UNSUPPORTED, "limits.pixels");
    memcpy(png.bytes + 16, "\x00\x00\x00\x00\x00\x01\x86\xA0", 8);
    expect_refused(png.bytes, png.size_bytes, MR_E_FORMAT, "empty");
    free(png.bytes);

    struct made_file jpeg =
        make_jpeg(&(struct made_jpeg){ .width = 1, .height = 1, .channels = 3 }, pixels);
    for (size_t k = 0; k + 9 < jpeg.size_bytes; k++)
        if (jpeg.bytes[k] == 0xFF && jpeg.bytes[k + 1] == 0xC0)
            memset(jpeg.bytes + k + 5, 0xFF, 4); /* 65535 x 65535 */
    expect_refused(jpeg.bytes, jpeg.size_bytes, MR_E_UNSUPPORTED, "too large: 65535 x 65535");
    free(jpeg.bytes);

    uint8_t small[16 * 3] = { 0 };
    struct made_file fine = make_png(
        &(struct made_png){ .width = 4, .height = 4, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        small);
    struct mr__image_info info;
    bool needs_more;
    assert_status(MR_E_UNSUPPORTED,
                  mr__image_probe(fine.bytes, fine.size_bytes,
                                  &(struct mr__image_options){ .pixel_limit = 15 }, &info,
                                  &needs_more));
    assert_status(MR_E_FORMAT, try_bytes(fine.bytes, fine.size_bytes, small, sizeof small - 1));
    free(fine.bytes);
}

/* 1032 bytes of pixels from one of a file are the most there can be. */
static void a_file_too_short_for_its_size_is_refused(void **state)
{
    (void)state;
    uint8_t pixels[64 * 64 * 3] = { 0 };
    struct made_file file = make_png(
        &(struct made_png){ .width = 64, .height = 64, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        pixels);
    struct mr__image_info info;
    bool needs_more;
    assert_ok(mr__image_probe(file.bytes, file.size_bytes, NULL, &info, &needs_more));
    assert_int_equal(64 * 64 * 3 / 1032, info.least_file_bytes);
    assert_int_equal(0, info.decode_bytes);
    assert_ok(mr__image_check_length(&info, info.least_file_bytes));
    assert_status(MR_E_FORMAT, mr__image_check_length(&info, info.least_file_bytes - 1));
    memcpy(file.bytes + 16, "\x00\x00\x2A\xF8\x00\x00\x2A\xF8\x10\x06", 10);
    expect_refused(file.bytes, file.size_bytes, MR_E_FORMAT, "cannot hold 11000 x 11000 pixels");
    assert_ok(mr__image_probe(file.bytes, file.size_bytes, NULL, &info, &needs_more));
    assert_int_equal(UINT64_C(11000) * 11000 * 8 / 1032, info.least_file_bytes);
    free(file.bytes);
}

static void a_jpeg_too_short_for_its_size_is_refused(void **state)
{
    (void)state;
    uint8_t *pixels = calloc(600 * 500, 3);
    assert_non_null(pixels);
    for (int is_progressive = 0; is_progressive < 2; is_progressive++)
        for (uint32_t channels = 1; channels <= 3; channels += 2) {
            struct made_file file = make_jpeg(
                &(struct made_jpeg){ 600, 500, channels, 1, is_progressive, 0, true }, pixels);
            struct mr__image_info info;
            bool needs_more;
            assert_ok(mr__image_probe(file.bytes, file.size_bytes, NULL, &info, &needs_more));
            assert_int_equal(is_progressive ? 0 : 600 * 500 / 1024, info.least_file_bytes);
            assert_true(file.size_bytes > info.least_file_bytes);
            for (size_t k = 0; k + 9 < file.size_bytes; k++)
                if (file.bytes[k] == 0xFF && file.bytes[k + 1] == (is_progressive ? 0xC2 : 0xC0))
                    memcpy(file.bytes + k + 5, "\x2A\xF8\x2A\xF8", 4); /* 11000 x 11000 */
            if (!is_progressive)
                expect_refused(file.bytes, file.size_bytes, MR_E_FORMAT,
                               "cannot hold 11000 x 11000 pixels");
            free(file.bytes);
        }
    free(pixels);
}

/* What is held as a whole while it is decoded counts before it is. */
static void a_probe_says_what_decoding_takes(void **state)
{
    (void)state;
    uint8_t *pixels = make_noise(40 * 30 * 3, 4);
    struct mr__image_info info;
    bool needs_more;
    for (int k = 0; k < 4; k++) {
        struct made_file file =
            k < 2 ? make_jpeg(&(struct made_jpeg){ 40, 30, k ? 1 : 3, 0, k == 0, 0, true }, pixels)
                  : make_png(&(struct made_png){ .width = 40,
                                                 .height = 30,
                                                 .depth = k == 2 ? 16 : 8,
                                                 .is_interlaced = k == 2,
                                                 .colour = PNG_COLOR_TYPE_GRAY },
                             pixels);
        static const uint64_t expected[] = { 64 * 32 * 3 * 2, 0, 40 * 30 * 4 * 2, 0 };
        assert_ok(mr__image_probe(file.bytes, file.size_bytes, NULL, &info, &needs_more));
        assert_int_equal(expected[k], info.decode_bytes);
        free(file.bytes);
    }
    free(pixels);
}

static void a_probe_says_when_it_needs_more(void **state)
{
    (void)state;
    uint8_t *pixels = make_noise(40 * 30 * 3, 4);
    struct made_file file = make_jpeg(&(struct made_jpeg){ 40, 30, 3, 0, false, 6, true }, pixels);
    struct mr__image_info info;
    bool needs_more = false;
    assert_status(MR_E_FORMAT, mr__image_probe(file.bytes, 100, NULL, &info, &needs_more));
    assert_true(needs_more);
    assert_ok(mr__image_probe(file.bytes, file.size_bytes / 2, NULL, &info, &needs_more));
    assert_false(needs_more);
    assert_int_equal(30, info.width);
    assert_int_equal(6, info.orientation);
    free(file.bytes);
    free(pixels);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_files_are_refused),
        cmocka_unit_test(data_beyond_the_last_row_is_damage),
        cmocka_unit_test(a_number_that_the_palette_lacks_is_damage),
        cmocka_unit_test(what_is_no_pixel_may_be_odd),
        cmocka_unit_test(what_is_no_image_is_named),
        cmocka_unit_test(bombs_are_refused_by_their_header),
        cmocka_unit_test(a_file_too_short_for_its_size_is_refused),
        cmocka_unit_test(a_jpeg_too_short_for_its_size_is_refused),
        cmocka_unit_test(a_probe_says_what_decoding_takes),
        cmocka_unit_test(a_probe_says_when_it_needs_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
