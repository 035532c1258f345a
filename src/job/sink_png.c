/* SPDX-License-Identifier: MIT */
/*
 * A PNG preview of one item: a single panel, or several side by side (before and after), one for
 * each node in `from`. Each panel is a sink of its own; the first one writes the image at the end.
 */
#include "base/alloc.h"
#include "job/png_file.h"
#include "job/sink.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define GAP 8 /* pixels between panels */
#define SIDE_LIMIT 65535
#define BIN_COUNT 4096
#define TAIL 0.001 /* of the pixels lie below low, and above high, where these are not given */

struct panel {
    struct mr__sink base;
    struct panel *first, *next; /* of the same image */
    uint64_t item;
    mr_type depth; /* u8 or u16 */
    bool has_low, has_high;
    double low, high;
    uint32_t height, width;
    void *pixels; /* of `depth`, once the item has come */
};

static struct panel *panel_of(struct mr__sink *sink)
{
    return (struct panel *)sink;
}

/* ---- from numbers to greys ---- */

static void find_range(mr_type type, const void *data, size_t count, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t k = 0; k < count; k++) {
        const double value = mr__number_at(type, data, k);
        if (!isfinite(value))
            continue;
        *low = fmin(*low, value);
        *high = fmax(*high, value);
    }
    if (*low > *high)
        *low = *high = 0;
}

/* Where all but a thousandth at each end lies: single hot pixels do not darken the picture. */
static void find_usual_range(mr_type type, const void *data, size_t count, double *low,
                             double *high)
{
    uint32_t bins[BIN_COUNT] = { 0 };
    find_range(type, data, count, low, high);
    const double start = *low, width = (*high - *low) / BIN_COUNT;
    if (!(width > 0) || !isfinite(width))
        return;
    for (size_t k = 0; k < count; k++) {
        const double bin = (mr__number_at(type, data, k) - start) / width;
        if (bin >= 0)
            bins[bin < BIN_COUNT - 1 ? (size_t)bin : BIN_COUNT - 1]++;
    }
    const double tail = TAIL * (double)count;
    double below = 0, above = 0;
    size_t first = 0, last = BIN_COUNT - 1;
    while (first < last && (below += bins[first]) <= tail)
        first++;
    while (last > first && (above += bins[last]) <= tail)
        last--;
    *low = start + (double)first * width;
    *high = start + (double)(last + 1) * width;
}

static void draw(const struct panel *self, const void *data, double low, double high)
{
    const double top = self->depth == MR_TYPE_U16 ? 65535 : 255;
    const double width = high > low ? high - low : INFINITY;
    const size_t count = (size_t)self->height * self->width;
    const mr_type type = self->base.input.type.dtype;
    for (size_t k = 0; k < count; k++) {
        const double grey = (mr__number_at(type, data, k) - low) / width * top;
        const double level = grey > 0 ? rint(fmin(grey, top)) : 0; /* not a number is black */
        if (self->depth == MR_TYPE_U16)
            ((uint16_t *)self->pixels)[k] = (uint16_t)level;
        else
            ((uint8_t *)self->pixels)[k] = (uint8_t)level;
    }
}

/* What is an image already is shown as it is; else the usual range is spread over all greys. */
static void choose_range(const struct panel *self, const void *data, double *low, double *high)
{
    const mr_type type = self->base.input.type.dtype;
    if (self->has_low && self->has_high) {
        *low = self->low;
        *high = self->high;
        return;
    }
    if (type == self->depth)
        mr__type_range(type, low, high);
    else
        find_usual_range(type, data, (size_t)self->height * self->width, low, high);
    if (self->has_low)
        *low = self->low;
    if (self->has_high)
        *high = self->high;
}

/* ---- the sink ---- */

static bool check_image(const struct mr__reading *reading, struct panel *self)
{
    const struct mr__item_type *type = &self->base.input.type;
    uint64_t lead = 1;
    for (uint32_t k = 0; k + 2 < type->rank; k++)
        lead *= type->shape[k];
    const uint64_t height = type->rank >= 2 ? type->shape[type->rank - 2] : 0;
    const uint64_t width = type->rank >= 2 ? type->shape[type->rank - 1] : 0;
    if (type->rank < 2 || lead != 1 || height > SIDE_LIMIT || width > SIDE_LIMIT) {
        char text[MR__ITEM_TEXT_BYTES];
        mr__field_problem(
            reading, self->base.node,
            "an item of '%s' (%s) is no grey image; a preview needs [height, width] of "
            "at most 65535 each",
            self->base.input.name, mr__item_text(type, text));
        return false;
    }
    self->height = (uint32_t)height;
    self->width = (uint32_t)width;
    return true;
}

static bool png_check(const struct mr__reading *reading, struct mr__sink *sink)
{
    struct panel *self = panel_of(sink);
    if (sink->input.has_short_last) {
        mr__field_problem(reading, sink->node,
                          "the last item may be shorter than an image; say `short_last: pad` or "
                          "`drop`");
        return false;
    }
    if (!check_image(reading, self))
        return false;
    if (self->first != self)
        return true;
    if (sink->input.is_counted && self->item >= sink->input.item_count) {
        mr__field_problem(reading, sink->node,
                          "there is no item %" PRIu64 " to show: the source has %" PRIu64
                          " (counting from 0); choose a lower `item`",
                          self->item, sink->input.item_count);
        return false;
    }
    return mr__output_check(reading, sink->node, sink->output.path, 0);
}

static mr_status png_begin(struct mr__sink *sink)
{
    const struct panel *self = panel_of(sink);
    return self->first == self ? mr__output_open(&sink->output) : MR_OK;
}

/* The item wished for, or the first after it where that one is skipped. */
static mr_status png_take(struct mr__sink *sink, uint64_t index, const void *data,
                          size_t size_bytes)
{
    struct panel *self = panel_of(sink);
    (void)size_bytes;
    if (index < self->item || self->pixels)
        return MR_OK;
    self->pixels = mr__zalloc_array((size_t)self->height * self->width, mr_type_size(self->depth));
    if (!self->pixels)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a preview of %u by %u", self->width,
                            self->height);
    double low, high;
    choose_range(self, data, &low, &high);
    draw(self, data, low, high);
    return MR_OK;
}

/* Puts the panels beside each other. NULL when memory is out. */
static unsigned char *compose(const struct panel *first, uint32_t *height, uint32_t *width)
{
    *height = 0;
    *width = 0;
    for (const struct panel *panel = first; panel; panel = panel->next) {
        *height = panel->height > *height ? panel->height : *height;
        *width += panel->width + (panel->next ? GAP : 0);
    }
    const size_t pixel_bytes = mr_type_size(first->depth);
    const size_t row_bytes = *width * pixel_bytes;
    unsigned char *image = mr__zalloc_array(*height, row_bytes);
    size_t left = 0;
    for (const struct panel *panel = first; panel && image; panel = panel->next) {
        const size_t panel_bytes = panel->width * pixel_bytes;
        for (uint32_t y = 0; y < panel->height; y++)
            memcpy(image + y * row_bytes + left,
                   (const unsigned char *)panel->pixels + y * panel_bytes, panel_bytes);
        left += panel_bytes + GAP * pixel_bytes;
    }
    return image;
}

static ssize_t write_bytes(void *context, const char *data, size_t size_bytes)
{
    return mr__output_write(context, data, size_bytes) ? 0 : (ssize_t)size_bytes;
}

static mr_status write_image(struct mr__output *output, const struct panel *first)
{
    uint32_t height, width;
    unsigned char *image = compose(first, &height, &width);
    FILE *file =
        image ? fopencookie(output, "w", (cookie_io_functions_t){ .write = write_bytes }) : NULL;
    mr_status status = MR_OK;
    if (!file)
        status = mr_error_set(MR_E_NO_MEMORY, "%s: no memory for a preview", output->path);
    else
        status = mr__png_write(file, first->depth, height, width, image);
    if (file && fclose(file) && !status)
        status = MR_E_IO; /* the words are those of write_bytes */
    mr__free(image);
    return status;
}

static mr_status png_finish(struct mr__sink *sink)
{
    const struct panel *self = panel_of(sink);
    if (self->first != self)
        return MR_OK;
    for (const struct panel *panel = self; panel; panel = panel->next)
        if (!panel->pixels)
            return mr_error_set(MR_E_IO,
                                "%s: item %" PRIu64 " never came, there were %" PRIu64
                                " items; choose a lower `item`",
                                sink->output.path, self->item, sink->items);
    mr_status status = write_image(&sink->output, self);
    return status ? status : mr__output_close(&sink->output);
}

static void png_abandon(struct mr__sink *sink)
{
    struct panel *self = panel_of(sink);
    mr__free(self->pixels);
    self->pixels = NULL;
}

static const struct mr__sink_ops png_ops = {
    .kind = "png",
    .check = png_check,
    .begin = png_begin,
    .take = png_take,
    .finish = png_finish,
    .abandon = png_abandon,
};

static bool read_depth(const struct mr__reading *reading, const struct mr__yaml *node,
                       mr_type *depth)
{
    static const char *const depths[] = { "8", "16", NULL };
    uint32_t choice = 0;
    if (node && !mr__field_choice(reading, node, depths, &choice))
        return false;
    *depth = choice ? MR_TYPE_U16 : MR_TYPE_U8;
    return true;
}

struct mr__sink *mr__sink_png(const struct mr__reading *reading, const struct mr__yaml *map,
                              const struct mr__yaml *node)
{
    static const char *const keys[] = {
        "png", "name", "from", "item", "low", "high", "depth", NULL
    };
    mr__field_map(reading, map, "a png sink", keys);
    struct panel *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self || !mr__field_path(reading, node, &self->base.output.path))
        return NULL;
    self->base.ops = &png_ops;
    self->first = self;
    const struct mr__yaml *item = mr__yaml_child(map, "item");
    mr__field_u64(reading, item, 0, UINT64_MAX, &self->item);
    self->has_low = mr__field_f64(reading, mr__yaml_child(map, "low"), &self->low);
    self->has_high = mr__field_f64(reading, mr__yaml_child(map, "high"), &self->high);
    if (!read_depth(reading, mr__yaml_child(map, "depth"), &self->depth))
        return NULL;
    if (self->has_low && self->has_high && self->high <= self->low)
        mr__field_problem(reading, mr__yaml_child(map, "high"), "must be above `low`");
    return &self->base;
}

struct mr__sink *mr__sink_png_panel(struct mr__arena *arena, struct mr__sink *first)
{
    struct panel *panel = mr__arena_zalloc(arena, sizeof *panel);
    if (!panel)
        return NULL;
    *panel = *panel_of(first);
    panel->next = NULL;
    panel->pixels = NULL;
    panel->base.output = (struct mr__output){ 0 };
    struct panel *last = panel_of(first);
    while (last->next)
        last = last->next;
    last->next = panel;
    return &panel->base;
}
