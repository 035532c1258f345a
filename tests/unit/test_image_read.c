/* SPDX-License-Identifier: MIT */
/* JPEG and PNG into upright RGB: every kind of file, every orientation. */
#include "image_files.h"
#include "support/fault.h"
#include "support/random.h"
#include "support/unit.h"
#include "vision/image_parts.h"

#include <png.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct decoded {
    struct mr__image_info info;
    uint8_t *pixels; /* free */
    uint16_t *wide;  /* the same */
};

static struct decoded decode(struct made_file file, uint32_t edge_limit)
{
    const struct mr__image_options options = { .edge_limit = edge_limit };
    struct decoded out = { 0 };
    bool needs_more;
    assert_ok(mr__image_probe(file.bytes, file.size_bytes, &options, &out.info, &needs_more));
    const size_t size_bytes = mr__image_bytes(&out.info);
    out.pixels = malloc(size_bytes); /* so that a sanitizer sees a byte too many */
    assert_non_null(out.pixels);
    out.wide = (uint16_t *)(void *)out.pixels;
    assert_ok(
        mr__image_decode(file.bytes, file.size_bytes, &options, out.pixels, size_bytes, &out.info));
    return out;
}

/* Four flat quarters, so that JPEG's losses do not blur which is which. */
static uint8_t *make_quarters(uint32_t width, uint32_t height)
{
    static const uint8_t colours[4][3] = {
        { 250, 10, 10 }, { 10, 250, 10 }, { 10, 10, 250 }, { 240, 240, 240 }
    };
    uint8_t *pixels = malloc((size_t)width * height * 3);
    assert_non_null(pixels);
    for (uint32_t y = 0; y < height; y++)
        for (uint32_t x = 0; x < width; x++)
            memcpy(pixels + ((size_t)y * width + x) * 3,
                   colours[(y >= height / 2) * 2 + (x >= width / 2)], 3);
    return pixels;
}

static void expect_near(int expected, int actual, int bound)
{
    if (abs(expected - actual) > bound)
        fail_msg("expected %d, got %d", expected, actual);
}

static void jpeg_gives_its_colours(void **state)
{
    (void)state;
    for (int is_progressive = 0; is_progressive < 2; is_progressive++) {
        uint8_t *pixels = make_quarters(48, 32);
        struct made_file file =
            make_jpeg(&(struct made_jpeg){ 48, 32, 3, 95, is_progressive, 0, false }, pixels);
        struct decoded image = decode(file, 0);
        assert_int_equal(48, image.info.width);
        assert_int_equal(32, image.info.height);
        assert_int_equal(1, image.info.sample_bytes);
        for (size_t k = 0; k < 48u * 32 * 3; k++)
            expect_near(pixels[k], image.pixels[k], 12);
        free(image.pixels);
        free(file.bytes);
        free(pixels);
    }
}

static void jpeg_of_grey_is_repeated(void **state)
{
    (void)state;
    uint8_t pixels[16 * 16];
    memset(pixels, 100, sizeof pixels);
    struct made_file file =
        make_jpeg(&(struct made_jpeg){ .width = 16, .height = 16, .channels = 1 }, pixels);
    struct decoded image = decode(file, 0);
    for (size_t k = 0; k < 16 * 16 * 3; k++)
        expect_near(100, image.pixels[k], 1);
    free(image.pixels);
    free(file.bytes);
}

static void jpeg_of_inks_becomes_light(void **state)
{
    (void)state;
    uint8_t pixels[16 * 16 * 4];
    for (size_t k = 0; k < 16 * 16; k++)
        memcpy(pixels + k * 4, (uint8_t[]){ 200, 100, 50, 128 }, 4);
    struct made_file file =
        make_jpeg(&(struct made_jpeg){ .width = 16, .height = 16, .channels = 4 }, pixels);
    struct decoded image = decode(file, 0);
    /* libjpeg marks the file as Adobe's: 255 is no ink. */
    expect_near(200 * 128 / 255, image.pixels[0], 3);
    expect_near(100 * 128 / 255, image.pixels[1], 3);
    expect_near(50 * 128 / 255, image.pixels[2], 3);
    free(image.pixels);
    free(file.bytes);
}

/* Where the upright image's corners come from: quarters 0 1 / 2 3 of the stored one. */
static void every_orientation_becomes_upright(void **state)
{
    (void)state;
    static const int upright[9][4] = {
        { 0, 1, 2, 3 }, { 0, 1, 2, 3 }, { 1, 0, 3, 2 }, { 3, 2, 1, 0 }, { 2, 3, 0, 1 },
        { 0, 2, 1, 3 }, { 2, 0, 3, 1 }, { 3, 1, 2, 0 }, { 1, 3, 0, 2 },
    };
    const uint32_t width = 40, height = 24;
    uint8_t *pixels = make_quarters(width, height);
    for (uint32_t orientation = 0; orientation <= 8; orientation++)
        for (int form = 0; form < 6; form++) {
            const uint32_t edge_limit = form % 2 ? 20 : 0;
            struct made_file file = form < 4
                                        ? make_jpeg(&(struct made_jpeg){ width, height, 3, 0, false,
                                                                         orientation, form >= 2 },
                                                    pixels)
                                        : make_png(&(struct made_png){ .width = width,
                                                                       .height = height,
                                                                       .colour = PNG_COLOR_TYPE_RGB,
                                                                       .depth = 8,
                                                                       .orientation = orientation },
                                                   pixels);
            struct decoded image = decode(file, edge_limit);
            const uint32_t w = image.info.width, h = image.info.height;
            const uint32_t long_edge = edge_limit ? 20 : 40, short_edge = edge_limit ? 12 : 24;
            assert_int_equal(orientation >= 5 ? short_edge : long_edge, w);
            assert_int_equal(orientation >= 5 ? long_edge : short_edge, h);
            for (int corner = 0; corner < 4; corner++) {
                const uint32_t x = corner % 2 ? w - 2 : 1, y = corner / 2 ? h - 2 : 1;
                const int from = upright[orientation][corner];
                const uint32_t from_x = from % 2 ? width - 1 : 0,
                               from_y = from / 2 ? height - 1 : 0;
                for (int c = 0; c < 3; c++)
                    expect_near(pixels[(from_y * width + from_x) * 3 + (uint32_t)c],
                                image.pixels[(y * w + x) * 3 + (uint32_t)c], 12);
            }
            free(image.pixels);
            free(file.bytes);
        }
    free(pixels);
}

static void turning_moves_every_pixel(void **state)
{
    (void)state;
    const uint32_t width = 7, height = 5;
    uint8_t *pixels = make_noise(width * height * 3, 3);
    for (uint32_t orientation = 1; orientation <= 8; orientation++) {
        struct made_file file = make_png(&(struct made_png){ .width = width,
                                                             .height = height,
                                                             .colour = PNG_COLOR_TYPE_RGB,
                                                             .depth = 8,
                                                             .orientation = orientation },
                                         pixels);
        struct decoded image = decode(file, 0);
        const uint32_t w = image.info.width, h = image.info.height;
        for (uint32_t y = 0; y < h; y++)
            for (uint32_t x = 0; x < w; x++) {
                /* As EXIF says it: which side of the stored image is on top, which on the left. */
                uint32_t a = orientation >= 5 ? y : x, b = orientation >= 5 ? x : y;
                const bool is_mirrored =
                    orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
                const bool is_upside_down =
                    orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
                a = is_mirrored ? width - 1 - a : a;
                b = is_upside_down ? height - 1 - b : b;
                assert_memory_equal(pixels + (b * width + a) * 3, image.pixels + (y * w + x) * 3,
                                    3);
            }
        free(image.pixels);
        free(file.bytes);
    }
    free(pixels);
}

static void exif_that_is_wrong_means_upright(void **state)
{
    (void)state;
    uint8_t block[64];
    const size_t length = make_exif(6, true, block);
    assert_int_equal(6, mr__exif_orientation(block, length));
    for (size_t cut = 0; cut < 34; cut++) {
        uint8_t *exact = malloc(cut ? cut : 1);
        memcpy(exact, block, cut);
        assert_int_equal(1, mr__exif_orientation(exact, cut));
        free(exact);
    }
    make_exif(9, false, block);
    assert_int_equal(1, mr__exif_orientation(block, length));
    make_exif(0, false, block);
    assert_int_equal(1, mr__exif_orientation(block, length));
    make_exif(6, true, block);
    memset(block + 4, 0xFF, 4); /* the directory is past the end */
    assert_int_equal(1, mr__exif_orientation(block, length));
    make_exif(6, true, block);
    block[24] = 4; /* not a SHORT */
    assert_int_equal(1, mr__exif_orientation(block, length));
}

/* ---- PNG ---- */

static void check_png(struct made_png what, const void *pixels, const uint8_t *due)
{
    for (int is_interlaced = 0; is_interlaced < 2; is_interlaced++) {
        what.is_interlaced = is_interlaced;
        struct made_file file = make_png(&what, pixels);
        struct decoded image = decode(file, 0);
        assert_int_equal(1, image.info.sample_bytes);
        assert_memory_equal(due, image.pixels, (size_t)what.width * what.height * 3);
        free(image.pixels);
        free(file.bytes);
    }
}

static void png_gives_its_colours(void **state)
{
    (void)state;
    const uint32_t width = 13, height = 11, count = width * height;
    uint8_t *pixels = make_noise(count * 4, 1), *due = malloc(count * 3);
    assert_non_null(due);
    check_png(
        (struct made_png){
            .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        pixels, pixels);
    for (uint32_t k = 0; k < count; k++)
        memset(due + 3 * k, pixels[k], 3);
    check_png(
        (struct made_png){
            .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_GRAY },
        pixels, due);
    for (uint32_t k = 0; k < count * 3; k++)
        due[k] = (uint8_t)((pixels[k / 3 * 4 + k % 3] * pixels[k / 3 * 4 + 3] + 127) / 255);
    check_png(
        (struct made_png){
            .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_RGBA },
        pixels, due);
    for (uint32_t k = 0; k < count * 3; k++)
        due[k] = (uint8_t)((pixels[k / 3 * 2] * pixels[k / 3 * 2 + 1] + 127) / 255);
    check_png(
        (struct made_png){
            .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_GRAY_ALPHA },
        pixels, due);
    for (uint32_t k = 0; k < count; k++) {
        pixels[k] &= 1;
        memset(due + 3 * k, pixels[k] ? 255 : 0, 3);
    }
    check_png(
        (struct made_png){
            .width = width, .height = height, .depth = 1, .colour = PNG_COLOR_TYPE_GRAY },
        pixels, due);
    free(pixels);
    free(due);
}

static void png_of_a_palette_gives_its_colours(void **state)
{
    (void)state;
    const uint32_t width = 9, height = 6, count = width * height;
    uint8_t *pixels = make_noise(count, 1), *palette = make_noise(768, 2), *due = malloc(count * 3);
    assert_non_null(due);
    const uint8_t clear[2] = { 0, 128 };
    for (uint32_t k = 0; k < count; k++) {
        pixels[k] &= 15;
        for (uint32_t c = 0; c < 3; c++) {
            const uint32_t value = palette[pixels[k] * 3 + c];
            const uint32_t alpha = pixels[k] < 2 ? clear[pixels[k]] : 255;
            due[k * 3 + c] = (uint8_t)((value * alpha + 127) / 255);
        }
    }
    check_png((struct made_png){ .width = width,
                                 .height = height,
                                 .depth = 4,
                                 .colour = PNG_COLOR_TYPE_PALETTE,
                                 .palette = palette,
                                 .clear = clear,
                                 .clear_count = 2 },
              pixels, due);
    free(pixels);
    free(palette);
    free(due);
}

static void png_of_16_bits_keeps_them(void **state)
{
    (void)state;
    const uint32_t width = 8, height = 5, count = width * height;
    uint16_t *pixels = (uint16_t *)(void *)make_noise(count * 8, 5);
    for (int has_alpha = 0; has_alpha < 2; has_alpha++) {
        struct made_file file = make_png(
            &(struct made_png){ .width = width,
                                .height = height,
                                .depth = 16,
                                .colour = has_alpha ? PNG_COLOR_TYPE_RGBA : PNG_COLOR_TYPE_RGB },
            pixels);
        struct decoded image = decode(file, 0);
        assert_int_equal(2, image.info.sample_bytes);
        for (uint32_t k = 0; k < count * 3; k++) {
            const uint64_t due =
                has_alpha
                    ? ((uint64_t)pixels[k / 3 * 4 + k % 3] * pixels[k / 3 * 4 + 3] + 32767) / 65535
                    : pixels[k];
            assert_int_equal(due, image.wide[k]);
        }
        free(image.pixels);
        free(file.bytes);
    }
    free(pixels);
}

/* ---- smaller ---- */

/* The same average the slow way: every source pixel against every working pixel. */
static uint32_t area_average(const uint8_t *pixels, bool is_wide, uint32_t width, uint32_t height,
                             uint32_t w, uint32_t h, uint32_t x, uint32_t y, uint32_t c)
{
    uint64_t sum = 0;
    for (uint64_t j = 0; j < height; j++)
        for (uint64_t i = 0; i < width; i++) {
            const uint64_t left = i * w > (uint64_t)x * width ? i * w : (uint64_t)x * width;
            const uint64_t right =
                (i + 1) * w < (uint64_t)(x + 1) * width ? (i + 1) * w : (uint64_t)(x + 1) * width;
            const uint64_t top = j * h > (uint64_t)y * height ? j * h : (uint64_t)y * height;
            const uint64_t bottom =
                (j + 1) * h < (uint64_t)(y + 1) * height ? (j + 1) * h : (uint64_t)(y + 1) * height;
            if (left >= right || top >= bottom)
                continue;
            const size_t at = (j * width + i) * 3 + c;
            const uint64_t value =
                is_wide ? ((const uint16_t *)(const void *)pixels)[at] : pixels[at];
            sum += value * (right - left) * (bottom - top);
        }
    const uint64_t total = (uint64_t)width * height;
    return (uint32_t)((sum + total / 2) / total);
}

static void check_smaller(uint32_t width, uint32_t height, uint32_t edge_limit, bool is_wide)
{
    uint8_t *pixels = make_noise((size_t)width * height * 6, width * 31 + height);
    struct made_file file = make_png(&(struct made_png){ .width = width,
                                                         .height = height,
                                                         .depth = is_wide ? 16 : 8,
                                                         .colour = PNG_COLOR_TYPE_RGB },
                                     pixels);
    struct decoded image = decode(file, edge_limit);
    const uint32_t w = image.info.width, h = image.info.height;
    assert_true(w <= edge_limit && h <= edge_limit && (w == edge_limit || h == edge_limit));
    for (uint32_t y = 0; y < h; y++)
        for (uint32_t x = 0; x < w; x++)
            for (uint32_t c = 0; c < 3; c++) {
                const size_t at = ((size_t)y * w + x) * 3 + c;
                assert_int_equal(area_average(pixels, is_wide, width, height, w, h, x, y, c),
                                 is_wide ? image.wide[at] : image.pixels[at]);
            }
    free(image.pixels);
    free(file.bytes);
    free(pixels);
}

static void smaller_images_are_exact_averages(void **state)
{
    (void)state;
    check_smaller(30, 20, 10, false);
    check_smaller(31, 17, 10, false);
    check_smaller(17, 31, 30, false);
    check_smaller(31, 17, 29, true);
    check_smaller(64, 1, 5, false);
    check_smaller(1, 64, 5, true);
    check_smaller(33, 2, 1, false);
}

static void small_images_are_not_made_larger(void **state)
{
    (void)state;
    uint8_t pixel[3] = { 1, 2, 3 };
    struct made_file file = make_png(
        &(struct made_png){ .width = 1, .height = 1, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
        pixel);
    struct decoded image = decode(file, 1024);
    assert_int_equal(1, image.info.width);
    assert_memory_equal(pixel, image.pixels, 3);
    free(image.pixels);
    free(file.bytes);
}

/* ---- files ---- */

static void only_regular_files_are_read(void **state)
{
    (void)state;
    char folder[] = "/tmp/millrace-image-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    struct mr__image_file file = { 0 };
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(0, mkfifo(path, 0600));
    assert_status(MR_E_UNSUPPORTED, mr__image_file_read(&file, path, 0));
    unlink(path);
    assert_status(MR_E_IO, mr__image_file_read(&file, path, 0));
    assert_status(MR_E_UNSUPPORTED, mr__image_file_read(&file, folder, 0));
    FILE *stream = fopen(path, "w");
    assert_non_null(stream);
    fputs("0123456789", stream);
    fclose(stream);
    assert_ok(mr__image_file_read(&file, path, 0));
    assert_int_equal(10, file.size_bytes);
    assert_ok(mr__image_file_read(&file, path, 4));
    assert_int_equal(4, file.size_bytes);
    unlink(path);
    rmdir(folder);
    mr__image_file_fini(&file);
}

static void decoding_survives_no_memory(void **state)
{
    (void)state;
    uint8_t *pixels = make_noise(40 * 30 * 3, 4), *out = malloc(40 * 30 * 3);
    struct made_file files[2] = {
        make_jpeg(&(struct made_jpeg){ 40, 30, 3, 0, false, 6, true }, pixels),
        make_png(&(struct made_png){ .width = 40,
                                     .height = 30,
                                     .depth = 8,
                                     .is_interlaced = true,
                                     .colour = PNG_COLOR_TYPE_RGB },
                 pixels),
    };
    for (int k = 0; k < 2; k++) {
        struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
        while (fault_next(&fault)) {
            struct mr__image_info info;
            fault_begin(&fault);
            const mr_status status = mr__image_decode(
                files[k].bytes, files[k].size_bytes,
                &(struct mr__image_options){ .edge_limit = 10 }, out, 40 * 30 * 3, &info);
            fault_end(&fault, status);
        }
        free(files[k].bytes);
    }
    free(pixels);
    free(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jpeg_gives_its_colours),
        cmocka_unit_test(jpeg_of_grey_is_repeated),
        cmocka_unit_test(jpeg_of_inks_becomes_light),
        cmocka_unit_test(every_orientation_becomes_upright),
        cmocka_unit_test(turning_moves_every_pixel),
        cmocka_unit_test(exif_that_is_wrong_means_upright),
        cmocka_unit_test(png_gives_its_colours),
        cmocka_unit_test(png_of_a_palette_gives_its_colours),
        cmocka_unit_test(png_of_16_bits_keeps_them),
        cmocka_unit_test(smaller_images_are_exact_averages),
        cmocka_unit_test(small_images_are_not_made_larger),
        cmocka_unit_test(only_regular_files_are_read),
        cmocka_unit_test(decoding_survives_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
