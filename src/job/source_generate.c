/* SPDX-License-Identifier: MIT */
/*
 * Seeded items without a file: camera frames, their dark and flat fields, ramps, random numbers,
 * constants. Item k depends on the seed and k alone, so that items can be made again in any order.
 *
 * A frame is what a camera with this seed would see: dark level with column pattern and hot pixels,
 * plus lens shading times (sky plus drifting spots), plus noise. `dark` and `flat` are the same
 * camera's, so that `calibrate` has something true to find.
 */
#include "base/alloc.h"
#include "job/source.h"

#include <math.h>
#include <string.h>

enum { KIND_FRAMES, KIND_DARK, KIND_FLAT, KIND_RAMP, KIND_RANDOM, KIND_CONSTANT };
static const char *const kind_names[] = { "frames", "dark",     "flat", "ramp",
                                          "random", "constant", NULL };

#define NOISE_COUNT 8192 /* a power of two; rows start at random places of the table */
#define NOISE_ROW_LIMIT 4096
#define SPOT_COUNT 160
#define SPOT_RADIUS 6
#define FULL_SCALE 16383 /* of a 14-bit camera */
#define SKY 600.0f
#define FLAT_LEVEL 3000.0f

struct generate_source {
    struct mr__source base;
    uint32_t kind;
    uint64_t seed;
    uint64_t elements;
    double value;
    size_t height, width;
    uint16_t *still; /* frames: dark + shading * sky; dark, flat: the field itself */
    int16_t noise[NOISE_COUNT + NOISE_ROW_LIMIT];
};

static struct generate_source *generate_of(struct mr__source *source)
{
    return (struct generate_source *)source;
}

/* A well mixed 64-bit number from a counter (the finaliser of splitmix64). */
static uint64_t mix64(uint64_t x)
{
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

static float unit_float(uint64_t bits)
{
    return (float)(bits >> 40) * 0x1p-24f;
}

/* ---- the camera ---- */

static float dark_at(const struct generate_source *self, size_t y, size_t x)
{
    const float column = 12.0f * unit_float(mix64(self->seed ^ (0xc01u + x)));
    const uint64_t bits = mix64(self->seed ^ ((uint64_t)y << 32 | x) ^ 0xdead000000000000ull);
    const float grain = 6.0f * unit_float(bits << 20);
    const bool is_hot = (bits & 0xfff) == 0; /* one pixel in 4096 */
    return 100.0f + column + grain + (is_hot ? 2000.0f + 9000.0f * unit_float(bits << 8) : 0.0f);
}

static float shading_at(const struct generate_source *self, size_t y, size_t x)
{
    const float v = 2.0f * ((float)y + 0.5f) / (float)self->height - 1.0f;
    const float u = 2.0f * ((float)x + 0.5f) / (float)self->width - 1.0f;
    return 1.0f - 0.22f * (u * u + v * v);
}

static uint16_t to_pixel(float value)
{
    return (uint16_t)(value < 0 ? 0 : value > FULL_SCALE ? FULL_SCALE : value + 0.5f);
}

static void fill_still(struct generate_source *self)
{
    const float level = self->kind == KIND_DARK ? 0.0f : self->kind == KIND_FLAT ? FLAT_LEVEL : SKY;
    for (size_t y = 0; y < self->height; y++)
        for (size_t x = 0; x < self->width; x++)
            self->still[y * self->width + x] =
                to_pixel(dark_at(self, y, x) + level * shading_at(self, y, x));
}

/* About normal with a deviation of 12: the sum of four uniform numbers. */
static void fill_noise(struct generate_source *self)
{
    for (size_t k = 0; k < NOISE_COUNT; k++) {
        const uint64_t bits = mix64(self->seed ^ (k + 1) * 0x5851f42d4c957f2dull);
        int sum = -2 * 0xffff;
        for (int part = 0; part < 4; part++)
            sum += (int)(bits >> (16 * part) & 0xffff);
        self->noise[k] = (int16_t)(sum * 21 / 0x10000);
    }
    memcpy(self->noise + NOISE_COUNT, self->noise, NOISE_ROW_LIMIT * sizeof self->noise[0]);
}

static void add_noise(const struct generate_source *self, uint64_t index, uint16_t *frame)
{
    for (size_t y = 0; y < self->height; y++) {
        for (size_t start = 0; start < self->width; start += NOISE_ROW_LIMIT) {
            const uint64_t bits =
                mix64(self->seed ^ index * 0xd1342543de82ef95ull ^ y << 24 ^ start);
            const int16_t *noise = self->noise + bits % NOISE_COUNT;
            const size_t left = self->width - start;
            const size_t count = left < NOISE_ROW_LIMIT ? left : NOISE_ROW_LIMIT;
            const uint16_t *still = self->still + y * self->width + start;
            uint16_t *row = frame + y * self->width + start;
            for (size_t x = 0; x < count; x++) {
                const int value = still[x] + noise[x];
                row[x] = (uint16_t)(value < 0 ? 0 : value);
            }
        }
    }
}

static void add_spot(const struct generate_source *self, uint16_t *frame, float centre_y,
                     float centre_x, float peak)
{
    const long y0 = (long)centre_y, x0 = (long)centre_x;
    for (long y = y0 - SPOT_RADIUS; y <= y0 + SPOT_RADIUS; y++) {
        for (long x = x0 - SPOT_RADIUS; x <= x0 + SPOT_RADIUS; x++) {
            if (y < 0 || x < 0 || y >= (long)self->height || x >= (long)self->width)
                continue;
            const float dy = (float)y - centre_y, dx = (float)x - centre_x;
            const float light = peak * expf(-(dy * dy + dx * dx) / 5.0f);
            uint16_t *pixel = frame + (size_t)y * self->width + (size_t)x;
            *pixel = to_pixel((float)*pixel + light * shading_at(self, (size_t)y, (size_t)x));
        }
    }
}

/* Spots drift by a speed of their own and come in again on the other side. */
static void add_spots(const struct generate_source *self, uint64_t index, uint16_t *frame)
{
    const float time = (float)(index % 100000);
    for (uint64_t k = 0; k < SPOT_COUNT; k++) {
        const uint64_t place = mix64(self->seed ^ (k * 3 + 1) << 40);
        const uint64_t speed = mix64(place);
        const float y = unit_float(place) + time * (unit_float(speed) - 0.5f) * 0.004f;
        const float x = unit_float(place << 24) + time * (unit_float(speed << 24) - 0.5f) * 0.004f;
        add_spot(self, frame, (y - floorf(y)) * (float)self->height,
                 (x - floorf(x)) * (float)self->width, 300.0f + 2800.0f * unit_float(speed << 8));
    }
}

static void make_frame(const struct generate_source *self, uint64_t index, uint16_t *frame)
{
    if (self->kind != KIND_FRAMES) {
        memcpy(frame, self->still, self->base.item_bytes);
        return;
    }
    add_noise(self, index, frame);
    add_spots(self, index, frame);
}

/* ---- plain numbers ---- */

#define FILL(type, expression)                                                                     \
    do {                                                                                           \
        type *numbers = data;                                                                      \
        for (uint64_t k = 0; k < count; k++)                                                       \
            numbers[k] = (type)(expression);                                                       \
    } while (0)

#define FILL_ANY(integer, real)                                                                    \
    switch (self->base.type.dtype) {                                                               \
    case MR_TYPE_U8:                                                                               \
        FILL(uint8_t, integer);                                                                    \
        break;                                                                                     \
    case MR_TYPE_I8:                                                                               \
        FILL(int8_t, integer);                                                                     \
        break;                                                                                     \
    case MR_TYPE_U16:                                                                              \
        FILL(uint16_t, integer);                                                                   \
        break;                                                                                     \
    case MR_TYPE_I16:                                                                              \
        FILL(int16_t, integer);                                                                    \
        break;                                                                                     \
    case MR_TYPE_U32:                                                                              \
        FILL(uint32_t, integer);                                                                   \
        break;                                                                                     \
    case MR_TYPE_I32:                                                                              \
        FILL(int32_t, integer);                                                                    \
        break;                                                                                     \
    case MR_TYPE_U64:                                                                              \
        FILL(uint64_t, integer);                                                                   \
        break;                                                                                     \
    case MR_TYPE_I64:                                                                              \
        FILL(int64_t, integer);                                                                    \
        break;                                                                                     \
    case MR_TYPE_F32:                                                                              \
        FILL(float, real);                                                                         \
        break;                                                                                     \
    case MR_TYPE_F64:                                                                              \
        FILL(double, real);                                                                        \
        break;                                                                                     \
    }

/* Counts on through the items; integers wrap, floats start again at 2^24, which they all can
 * say. */
static void make_ramp(const struct generate_source *self, uint64_t index, void *data)
{
    const uint64_t count = self->elements, start = index * count;
    FILL_ANY(start + k, (start + k) & 0xffffff)
}

/* Integers over their whole range, floats in [0, 1). */
static void make_random(const struct generate_source *self, uint64_t index, void *data)
{
    const uint64_t count = self->elements, key = mix64(self->seed + index * 0xd1342543de82ef95ull);
    FILL_ANY(mix64(key + k), unit_float(mix64(key + k)))
}

static void make_constant(const struct generate_source *self, void *data)
{
    const uint64_t count = self->elements;
    const double value = self->value;
    FILL_ANY(value, value)
}

static mr_status generate_read(struct mr__source *source, uint64_t index, void *data,
                               size_t *size_bytes)
{
    const struct generate_source *self = generate_of(source);
    if (index >= source->item_count)
        return MR_END;
    if (self->kind == KIND_RAMP)
        make_ramp(self, index, data);
    else if (self->kind == KIND_RANDOM)
        make_random(self, index, data);
    else if (self->kind == KIND_CONSTANT)
        make_constant(self, data);
    else
        make_frame(self, index, data);
    *size_bytes = source->item_bytes;
    return MR_OK;
}

static mr_status generate_open(struct mr__source *source)
{
    struct generate_source *self = generate_of(source);
    if (self->kind > KIND_FLAT || self->still)
        return MR_OK;
    self->still = mr__alloc_aligned(64, source->item_bytes);
    if (!self->still)
        return mr_error_set(MR_E_NO_MEMORY, "generator: no memory for a frame of %zu bytes",
                            source->item_bytes);
    fill_still(self);
    fill_noise(self);
    return MR_OK;
}

static void generate_fini(struct mr__source *source)
{
    mr__free(generate_of(source)->still);
    generate_of(source)->still = NULL;
}

static const struct mr__source_ops generate_ops = {
    .kind = "generate",
    .open = generate_open,
    .read = generate_read,
    .fini = generate_fini,
};

static bool check_camera(const struct mr__reading *reading, struct generate_source *self)
{
    const struct mr__item_type *type = &self->base.type;
    if (type->dtype != MR_TYPE_U16 || type->rank != 2) {
        char text[MR__ITEM_TEXT_BYTES];
        mr__field_problem(
            reading, self->base.node,
            "a camera's `%s` are u16 of two axes, not %s; say `dtype: u16` and `shape: "
            "[height, width]`",
            kind_names[self->kind], mr__item_text(type, text));
        return false;
    }
    self->height = type->shape[0];
    self->width = type->shape[1];
    return true;
}

static bool check_constant(const struct mr__reading *reading, const struct generate_source *self)
{
    double low, high;
    if (mr__type_is_float(self->base.type.dtype))
        return true;
    mr__type_range(self->base.type.dtype, &low, &high);
    if (self->value >= low && self->value <= high && self->value < 0x1p63)
        return true;
    mr__field_problem(reading, self->base.node, "the value does not fit %s",
                      mr_type_name(self->base.type.dtype));
    return false;
}

struct mr__source *mr__source_generate(const struct mr__reading *reading,
                                       const struct mr__yaml *node)
{
    static const char *const keys[] = { "kind", "dtype", "shape", "count", "seed", "value", NULL };
    struct generate_source *self = mr__arena_zalloc(reading->arena, sizeof *self);
    if (!self || !mr__field_map(reading, node, "the generator", keys))
        return NULL;
    self->base.ops = &generate_ops;
    self->base.node = node;
    self->base.label = "generator";
    self->base.is_counted = true;
    self->base.is_repeatable = true;
    self->seed = 1;
    const struct mr__yaml *kind = mr__yaml_child(node, "kind");
    const struct mr__yaml *count = mr__yaml_child(node, "count");
    if (!kind)
        mr__field_problem(reading, node,
                          "needs a `kind`: frames, dark, flat, ramp, random or constant");
    if (!count)
        mr__field_problem(reading, node, "needs a `count` of items");
    mr__field_u64(reading, mr__yaml_child(node, "seed"), 0, UINT64_MAX, &self->seed);
    mr__field_f64(reading, mr__yaml_child(node, "value"), &self->value);
    bool is_good = mr__field_choice(reading, kind, kind_names, &self->kind);
    is_good &= mr__field_u64(reading, count, 0, UINT64_MAX, &self->base.item_count);
    is_good &= mr__field_item_type(reading, node, &self->base.type);
    if (!is_good || !mr__item_elements(&self->base.type, &self->elements) ||
        !mr__source_size(reading, &self->base))
        return NULL;
    self->seed = mix64(self->seed);
    is_good = self->kind == KIND_CONSTANT ? check_constant(reading, self)
              : self->kind <= KIND_FLAT   ? check_camera(reading, self)
                                          : true;
    return is_good ? &self->base : NULL;
}
