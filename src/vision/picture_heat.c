/* SPDX-License-Identifier: MIT */
/*
 * Heat maps: a grid's values as colours over the image in grey, and the numbers in the cells.
 */
#include "vision/picture.h"

#include <math.h>
#include <stdio.h>

/* Lightness grows along the scale, so that the order shows in print and to any eye. */
uint32_t mr__picture_heat(float value)
{
    static const uint8_t points[][3] = {
        { 12, 12, 60 },   { 70, 20, 130 },  { 150, 30, 120 },  { 215, 60, 75 },
        { 245, 125, 40 }, { 252, 190, 60 }, { 255, 250, 190 },
    };
    const float at = value <= 0 ? 0 : value >= 1 ? 6 : value * 6;
    const uint32_t low = at >= 6 ? 5 : (uint32_t)at;
    uint32_t colour = 0;
    for (int c = 0; c < 3; c++) {
        const float from = points[low][c], to = points[low + 1][c];
        colour = colour << 8 | (uint32_t)(from + (to - from) * (at - (float)low) + 0.5f);
    }
    return colour;
}

static uint8_t clamp(uint32_t value)
{
    return (uint8_t)(value > 255 ? 255 : value);
}

/* Half the heat, half the image in grey: the parts of the picture stay to be seen. */
static void lay_over_pixel(uint8_t *pixel, uint32_t heat)
{
    const uint32_t grey = (54u * pixel[0] + 183u * pixel[1] + 19u * pixel[2]) >> 8;
    for (int c = 0; c < 3; c++) {
        const uint32_t tint = heat >> (16 - 8 * c) & 255;
        /* The image's light and dark act on the heat's colour too, about its own lightness. */
        pixel[c] = clamp((tint * (160 + grey) / 288 * 9 + grey * 4) / 13);
    }
}

struct area {
    uint32_t left, top, right, bottom;
};

static struct area area_of(const struct mr__picture_grid *grid, uint32_t k, uint32_t width,
                           uint32_t height)
{
    const uint64_t column = k % grid->columns, row = k / grid->columns;
    return (struct area){
        .left = (uint32_t)(column * width / grid->columns),
        .top = (uint32_t)(row * height / grid->rows),
        .right = (uint32_t)((column + 1) * width / grid->columns),
        .bottom = (uint32_t)((row + 1) * height / grid->rows),
    };
}

static void draw_borders(struct mr__picture *picture, uint32_t x, uint32_t y,
                         const struct area *area)
{
    if (area->left)
        mr__picture_fill(picture, x + area->left, y + area->top, 1, area->bottom - area->top,
                         0x101018);
    if (area->top)
        mr__picture_fill(picture, x + area->left, y + area->top, area->right - area->left, 1,
                         0x101018);
}

/* White with a dark edge, legible on any heat. */
static void draw_number(struct mr__picture *picture, uint32_t x, uint32_t y,
                        const struct area *area, uint32_t number)
{
    char text[16];
    snprintf(text, sizeof text, "%u", number);
    const uint32_t width = area->right - area->left, height = area->bottom - area->top;
    uint32_t scale = width / 42 < height / 24 ? width / 42 : height / 24;
    scale = scale > 4 ? 4 : scale;
    if (!scale)
        scale = width > mr__picture_text_width(1, text) + 3 && height > 10;
    if (!scale)
        return;
    const int64_t left = x + area->left + (width - mr__picture_text_width(scale, text)) / 2;
    const int64_t top = y + area->top + (height - 7 * scale) / 2;
    for (int64_t dy = -1; dy <= 1; dy++)
        for (int64_t dx = -1; dx <= 1; dx++)
            mr__picture_text(picture, left + dx, top + dy, scale, 0x101018, text);
    mr__picture_text(picture, left, top, scale, 0xFFFFFF, text);
}

void mr__picture_lay_over(struct mr__picture *picture, uint32_t x, uint32_t y, uint32_t width,
                          uint32_t height, const struct mr__picture_grid *grid)
{
    const uint32_t count = grid->columns * grid->rows;
    for (uint32_t k = 0; k < count; k++) {
        const struct area area = area_of(grid, k, width, height);
        const uint32_t heat = mr__picture_heat(grid->values[k]);
        for (uint32_t row = area.top; row < area.bottom; row++)
            for (uint32_t column = area.left; column < area.right; column++)
                lay_over_pixel(
                    picture->pixels + ((size_t)(y + row) * picture->width + x + column) * 3, heat);
        if (grid->has_borders)
            draw_borders(picture, x, y, &area);
        if (grid->numbers)
            draw_number(picture, x, y, &area, grid->numbers[k]);
    }
}
