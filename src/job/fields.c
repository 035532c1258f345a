/* SPDX-License-Identifier: MIT */
/*
 * Typed values out of a YAML tree, and the words for those that are not.
 */
#include "job/fields.h"

#include <errno.h>
#include <inttypes.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void add(const struct mr__reading *reading, mr_status status, const struct mr__yaml *node,
                const char *format, va_list arguments)
{
    char path[256], words[MR__PROBLEM_BYTES];
    vsnprintf(words, sizeof words, format, arguments);
    mr__problem_add(reading->problems, status, &node->place, "%s: %s",
                    mr__yaml_path(node, path, sizeof path), words);
}

void mr__field_problem(const struct mr__reading *reading, const struct mr__yaml *node,
                       const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(reading, MR_E_FORMAT, node, format, arguments);
    va_end(arguments);
}

void mr__field_problem_of(const struct mr__reading *reading, mr_status status,
                          const struct mr__yaml *node, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    add(reading, status, node, format, arguments);
    va_end(arguments);
}

void mr__field_problem_last(const struct mr__reading *reading, mr_status status,
                            const struct mr__yaml *node)
{
    mr__field_problem_of(reading, status, node, "%s", mr_last_error());
}

static const char *kind_words(const struct mr__yaml *node)
{
    switch (node->kind) {
    case MR__YAML_LIST:
        return "a list";
    case MR__YAML_MAP:
        return "a map of keys";
    case MR__YAML_TEXT:
        break;
    }
    return mr__yaml_is_nothing(node) ? "nothing" : node->text;
}

static bool expect(const struct mr__reading *reading, const struct mr__yaml *node, const char *due)
{
    const bool is_text = node->kind == MR__YAML_TEXT && !mr__yaml_is_nothing(node);
    mr__field_problem(reading, node, "expected %s, found %s%.200s%s", due, is_text ? "'" : "",
                      kind_words(node), is_text ? "'" : "");
    return false;
}

bool mr__field_map(const struct mr__reading *reading, const struct mr__yaml *node, const char *what,
                   const char *const *keys)
{
    if (!node)
        return false;
    if (node->kind != MR__YAML_MAP)
        return expect(reading, node, "a map of keys");

    for (const struct mr__yaml *child = node->first; child; child = child->next) {
        bool is_known = false;
        for (size_t k = 0; keys[k] && !is_known; k++)
            is_known = strcmp(child->key, keys[k]) == 0;
        if (is_known)
            continue;
        char remedy[512];
        mr__problem_add(reading->problems, MR_E_FORMAT, &child->key_place,
                        "unknown key '%.100s' in %s%s", child->key, what,
                        mr__suggestion(child->key, keys, remedy, sizeof remedy));
    }
    return true;
}

bool mr__field_text(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out)
{
    if (!node)
        return false;
    if (node->kind != MR__YAML_TEXT || mr__yaml_is_nothing(node) || !node->text[0])
        return expect(reading, node, "a text");
    *out = node->text;
    return true;
}

bool mr__field_name(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out)
{
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return false;
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char others[] = "0123456789-";
    const size_t length = strlen(text);
    bool is_name = strchr(letters, text[0]) != NULL && length <= 48;
    for (size_t k = 0; k < length && is_name; k++)
        is_name = strchr(letters, text[k]) || strchr(others, text[k]);
    if (!is_name)
        return expect(reading, node,
                      "a name (a letter, then letters, digits, '_' and '-', at most 48)");
    *out = text;
    return true;
}

bool mr__field_path(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out)
{
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return false;
    const bool is_as_it_is = text[0] == '/' || node->is_override || !reading->folder[0];
    const char *path =
        is_as_it_is ? text : mr__arena_text(reading->arena, "%s/%s", reading->folder, text);
    if (!path)
        return false;
    *out = path;
    return true;
}

static bool is_plain_text(const struct mr__yaml *node)
{
    return node->kind == MR__YAML_TEXT && !node->is_quoted && node->text[0];
}

/* A whole number: decimal, or 0x and hexadecimal digits. `*rest` is what follows it. */
static bool parse_u64(const char *text, uint64_t *out, const char **rest)
{
    const bool is_hexadecimal = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char *digits = is_hexadecimal ? text + 2 : text;
    const char *valid = is_hexadecimal ? "0123456789abcdefABCDEF" : "0123456789";
    const size_t length = strspn(digits, valid);
    if (!length)
        return false;
    errno = 0;
    *out = strtoull(digits, NULL, is_hexadecimal ? 16 : 10);
    *rest = digits + length;
    return errno == 0;
}

bool mr__field_u64(const struct mr__reading *reading, const struct mr__yaml *node, uint64_t low,
                   uint64_t high, uint64_t *out)
{
    if (!node)
        return false;
    uint64_t value;
    const char *rest;
    if (!is_plain_text(node) || !parse_u64(node->text, &value, &rest) || *rest || value < low ||
        value > high) {
        char due[96];
        if (high == UINT64_MAX)
            snprintf(due, sizeof due, "a whole number, %" PRIu64 " or more", low);
        else
            snprintf(due, sizeof due, "a whole number from %" PRIu64 " to %" PRIu64, low, high);
        return expect(reading, node, due);
    }
    *out = value;
    return true;
}

bool mr__field_u32(const struct mr__reading *reading, const struct mr__yaml *node, uint32_t low,
                   uint32_t high, uint32_t *out)
{
    uint64_t value;
    if (!mr__field_u64(reading, node, low, high, &value))
        return false;
    *out = (uint32_t)value;
    return true;
}

/* strtod whose point is a point, whatever the program's locale says. */
static double parse_f64(const char *text, char **end)
{
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain)
        return strtod(text, end);
    const double value = strtod_l(text, end, plain);
    freelocale(plain);
    return value;
}

bool mr__field_f64(const struct mr__reading *reading, const struct mr__yaml *node, double *out)
{
    if (!node)
        return false;
    if (is_plain_text(node) && strspn(node->text, "0123456789+-.eE") == strlen(node->text)) {
        char *end;
        const double value = parse_f64(node->text, &end);
        if (end != node->text && !*end && isfinite(value)) {
            *out = value;
            return true;
        }
    }
    return expect(reading, node, "a finite number such as 4000 or 0.5");
}

bool mr__field_bool(const struct mr__reading *reading, const struct mr__yaml *node, bool *out)
{
    if (!node)
        return false;
    static const char *const words[] = { "false", "true", "no", "yes", "off", "on", NULL };
    for (size_t k = 0; words[k] && is_plain_text(node); k++) {
        if (strcmp(node->text, words[k]) == 0) {
            *out = k % 2;
            return true;
        }
    }
    return expect(reading, node, "true or false");
}

/* The factor of a unit, 0 when it is none. */
static uint64_t unit_factor(const char *unit)
{
    static const struct {
        const char *name;
        uint64_t factor;
    } units[] = {
        { "", 1 },          { "B", 1 },       { "k", 1 << 10 },   { "K", 1 << 10 },
        { "KiB", 1 << 10 }, { "kB", 1000 },   { "M", 1 << 20 },   { "MiB", 1 << 20 },
        { "MB", 1000000 },  { "G", 1 << 30 }, { "GiB", 1 << 30 }, { "GB", 1000000000 },
    };
    for (size_t k = 0; k < sizeof units / sizeof units[0]; k++)
        if (strcmp(unit, units[k].name) == 0)
            return units[k].factor;
    return 0;
}

bool mr__field_size(const struct mr__reading *reading, const struct mr__yaml *node, uint64_t *out)
{
    if (!node)
        return false;
    uint64_t value;
    const char *rest;
    if (node->kind == MR__YAML_TEXT && parse_u64(node->text, &value, &rest)) {
        const uint64_t factor = unit_factor(rest + strspn(rest, " "));
        if (factor && !__builtin_mul_overflow(value, factor, &value)) {
            *out = value;
            return true;
        }
    }
    return expect(reading, node, "a size such as 65536, 512 KiB or 8 MiB");
}

bool mr__field_choice(const struct mr__reading *reading, const struct mr__yaml *node,
                      const char *const *names, uint32_t *out)
{
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return false;
    for (uint32_t k = 0; names[k]; k++) {
        if (strcmp(text, names[k]) == 0) {
            *out = k;
            return true;
        }
    }
    char remedy[512];
    mr__field_problem(reading, node, "'%.100s' is none of its values%s", text,
                      mr__suggestion(text, names, remedy, sizeof remedy));
    return false;
}

bool mr__field_dtype(const struct mr__reading *reading, const struct mr__yaml *node, mr_type *out)
{
    static const char *const names[] = { "u8",  "i8",  "u16", "i16", "u32", "i32",
                                         "u64", "i64", "f32", "f64", NULL };
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return false;
    if (mr_type_parse(text, out) == MR_OK)
        return true;
    char remedy[512];
    mr__field_problem(reading, node, "unknown type '%.100s'%s", text,
                      mr__suggestion(text, names, remedy, sizeof remedy));
    return false;
}

bool mr__field_shape(const struct mr__reading *reading, const struct mr__yaml *node,
                     struct mr__item_type *out)
{
    if (!node)
        return false;
    if (node->kind == MR__YAML_MAP)
        return expect(reading, node, "a list of lengths such as [2048, 2048]");
    if (node->kind == MR__YAML_TEXT) {
        out->rank = 1;
        return mr__field_u64(reading, node, 1, MR__ITEM_BYTES_LIMIT, &out->shape[0]);
    }
    if (node->count > MR__RANK_LIMIT) {
        mr__field_problem(reading, node, "%zu axes; at most %d are possible, so reshape to fewer",
                          node->count, MR__RANK_LIMIT);
        return false;
    }
    out->rank = 0;
    for (const struct mr__yaml *length = node->first; length; length = length->next)
        if (!mr__field_u64(reading, length, 1, MR__ITEM_BYTES_LIMIT, &out->shape[out->rank++]))
            return false;
    return true;
}

bool mr__field_item_type(const struct mr__reading *reading, const struct mr__yaml *map,
                         struct mr__item_type *out)
{
    const struct mr__yaml *dtype = mr__yaml_child(map, "dtype");
    const struct mr__yaml *shape = mr__yaml_child(map, "shape");
    if (!dtype)
        mr__field_problem(reading, map, "needs a `dtype`, such as u16");
    if (!shape)
        mr__field_problem(reading, map, "needs a `shape`, such as [2048, 2048]");
    const bool has_type = mr__field_dtype(reading, dtype, &out->dtype);
    if (!mr__field_shape(reading, shape, out) || !has_type)
        return false;
    uint64_t size_bytes;
    if (mr__item_bytes(out, &size_bytes))
        return true;
    mr__field_problem(reading, shape, "one item would be larger than 1 TiB; use a smaller shape");
    return false;
}
