/* SPDX-License-Identifier: MIT */
/* Images of several kinds for the vision job, and what two runs left held against one another. */
#include "vision_fixture.h"

#include "image_files.h"

#include <dirent.h>
#include <png.h>
#include <stdlib.h>
#include <sys/stat.h>

static void save(const char *path, struct made_file file)
{
    write_file(path, file.bytes, file.size_bytes);
    free(file.bytes);
}

void save_png(const char *path, uint32_t width, uint32_t height, uint64_t seed)
{
    uint8_t *pixels = make_scene(width, height, seed);
    save(path, make_png(
                   &(struct made_png){
                       .width = width, .height = height, .depth = 8, .colour = PNG_COLOR_TYPE_RGB },
                   pixels));
    free(pixels);
}

void save_jpeg(const char *path, uint32_t width, uint32_t height, uint32_t orientation)
{
    uint8_t *pixels = make_scene(width, height, orientation);
    save(path, make_jpeg(&(struct made_jpeg){ .width = width,
                                              .height = height,
                                              .channels = 3,
                                              .orientation = orientation },
                         pixels));
    free(pixels);
}

void make_images(void)
{
    assert_int_equal(0, mkdir("in", 0777));
    save_png("in/a.png", 160, 96, 1);
    save_jpeg("in/b.jpg", 120, 200, 6);
    save_png("in/c 10.png", 64, 64, 3);
    save_png("in/c 9.png", 300, 70, 4);
    uint8_t *pixels = make_scene(90, 80, 5);
    save("in/wide.png", make_png(&(struct made_png){ .width = 45,
                                                     .height = 80,
                                                     .depth = 16,
                                                     .colour = PNG_COLOR_TYPE_RGB },
                                 pixels));
    save("in/grey.jpeg",
         make_jpeg(&(struct made_jpeg){ .width = 90, .height = 80, .channels = 1 }, pixels));
    free(pixels);
    write_text("in/notes.txt", "not an image, and not named like one");
}

void assert_same_file(const char *a, const char *b)
{
    size_t a_bytes, b_bytes;
    char *left = read_file(a, &a_bytes), *right = read_file(b, &b_bytes);
    if (a_bytes != b_bytes || memcmp(left, right, a_bytes) != 0)
        fail_msg("%s and %s differ", a, b);
    free(left);
    free(right);
}

static const char *const kinds[] = { "tokens", "scores", "compressed", "overlay", "sheet" };

size_t assert_same_outputs(const char *a, const char *b)
{
    size_t count = 0;
    for (size_t k = 0; k < 5; k++) {
        char path[600], other[600];
        snprintf(path, sizeof path, "%s/%s", a, kinds[k]);
        snprintf(other, sizeof other, "%s/%s", b, kinds[k]);
        assert_int_equal(count_files(path), count_files(other));
        DIR *entries = opendir(path);
        assert_non_null(entries);
        for (const struct dirent *entry; (entry = readdir(entries));) {
            if (entry->d_name[0] == '.')
                continue;
            snprintf(path, sizeof path, "%s/%s/%s", a, kinds[k], entry->d_name);
            snprintf(other, sizeof other, "%s/%s/%s", b, kinds[k], entry->d_name);
            assert_same_file(path, other);
            count++;
        }
        closedir(entries);
    }
    return count;
}
