/* SPDX-License-Identifier: MIT */
/*
 * Images for those who have none at hand, and for measuring without files: a sky, a ground of grass
 * and balls of all colours, painted once; each image is a window into it. The same seed gives the
 * same images.
 */
#include "base/alloc.h"
#include "job/vision_job.h"

#include <string.h>

enum { MARGIN = 256, BALLS = 48 };

static uint64_t next(uint64_t *state)
{
    *state += 0x9E3779B97F4A7C15u;
    uint64_t mixed = *state;
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9u;
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EBu;
    return mixed ^ mixed >> 31;
}

static uint8_t clamp(int64_t value)
{
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* Smooth above, a ground of rough stalks below. */
static void paint_ground(struct mr__vision_scene *scene, uint64_t *state)
{
    const int64_t horizon = scene->height * 11 / 20;
    for (int64_t y = 0; y < scene->height; y++) {
        uint8_t *row = scene->pixels + (size_t)y * scene->width * 3;
        for (int64_t x = 0; x < scene->width; x++) {
            uint8_t *pixel = row + x * 3;
            if (y < horizon) {
                pixel[0] = clamp(120 + 90 * y / horizon);
                pixel[1] = clamp(160 + 60 * y / horizon);
                pixel[2] = clamp(225 + 15 * y / horizon);
                continue;
            }
            const int64_t rough = (int64_t)(next(state) & 63) - 32;
            const int64_t stalk = (x * 7 + y / 3) % 23 < 5 ? 40 : 0;
            pixel[0] = clamp(70 + rough + stalk);
            pixel[1] = clamp(120 + rough + stalk);
            pixel[2] = clamp(40 + rough / 2);
        }
    }
}

static void paint_ball(struct mr__vision_scene *scene, int64_t centre_x, int64_t centre_y,
                       int64_t radius, const uint8_t colour[3])
{
    for (int64_t y = centre_y - radius; y <= centre_y + radius; y++)
        for (int64_t x = centre_x - radius; x <= centre_x + radius; x++) {
            const int64_t dx = x - centre_x, dy = y - centre_y;
            if (dx * dx + dy * dy > radius * radius || x < 0 || y < 0 || x >= scene->width ||
                y >= scene->height)
                continue;
            uint8_t *pixel = scene->pixels + ((size_t)y * scene->width + (size_t)x) * 3;
            for (int c = 0; c < 3; c++)
                pixel[c] = clamp(colour[c] - (dx + dy) * 60 / radius);
        }
}

static void paint_balls(struct mr__vision_scene *scene, uint64_t *state)
{
    static const uint8_t colours[][3] = { { 205, 40, 40 },  { 40, 80, 200 },   { 235, 200, 50 },
                                          { 130, 60, 150 }, { 240, 240, 235 }, { 240, 140, 40 } };
    const uint32_t edge = scene->width < scene->height ? scene->width : scene->height;
    for (uint32_t k = 0; k < BALLS; k++) {
        const int64_t x = (int64_t)(next(state) % scene->width);
        const int64_t y = (int64_t)(next(state) % scene->height);
        const int64_t radius = 3 + (int64_t)(next(state) % (edge / 16 + 1));
        paint_ball(scene, x, y, radius, colours[next(state) % 6]);
    }
}

mr_status mr__vision_scene_paint(struct mr__vision_scene *scene)
{
    if (scene->pixels)
        return MR_OK;
    uint64_t state = scene->seed;
    scene->width = scene->image_width + MARGIN;
    scene->height = scene->image_height + MARGIN;
    scene->pixels = mr__alloc_aligned(64, (size_t)scene->width * scene->height * 3);
    if (!scene->pixels)
        return mr_error_set(MR_E_NO_MEMORY, "no memory to make images");
    paint_ground(scene, &state);
    paint_balls(scene, &state);
    return MR_OK;
}

void mr__vision_scene_cut(const struct mr__vision_scene *scene, uint64_t index, void *pixels)
{
    uint64_t state = scene->seed ^ (index + 1) * 0xD1B54A32D192ED03u;
    const size_t left = next(&state) % MARGIN, top = next(&state) % MARGIN;
    const size_t row_bytes = (size_t)scene->image_width * 3;
    for (size_t y = 0; y < scene->image_height; y++)
        memcpy((uint8_t *)pixels + y * row_bytes,
               scene->pixels + ((top + y) * scene->width + left) * 3, row_bytes);
}

void mr__vision_scene_fini(struct mr__vision_scene *scene)
{
    mr__free(scene->pixels);
    scene->pixels = NULL;
}

mr_status mr__vision_load(const struct mr__vision_job *vision,
                          const struct mr__vision_record *record, struct mr__image_file *file,
                          void *pixels, size_t capacity_bytes)
{
    if (vision->scene.pixels) {
        mr__vision_scene_cut(&vision->scene, (uint64_t)(record - vision->list.records), pixels);
        return MR_OK;
    }
    struct mr__image_info info;
    mr_status status = mr__image_file_read(file, record->path, 0);
    if (!status)
        status = mr__image_decode(file->bytes, file->size_bytes, &vision->image, pixels,
                                  capacity_bytes, &info);
    /* The plan was made of the header as it was. */
    if (!status && (info.width != record->info.width || info.height != record->info.height ||
                    info.sample_bytes != record->info.sample_bytes))
        status = mr_error_set(MR_E_FORMAT, "the file changed while the run was going on");
    return status;
}
