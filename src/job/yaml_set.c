/* SPDX-License-Identifier: MIT */
/*
 * "key.path=value" applied to a tree: the value is YAML, and messages about it name the override.
 */
#include "job/yaml_tree.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct setting {
    struct mr__arena *arena;
    struct mr__problems *problems;
    const char *words; /* "--set KEY=VALUE" */
};

static bool fail(const struct setting *setting, const char *format, const char *part)
{
    const struct mr__place place = { .file = setting->words };
    char words[512];
    snprintf(words, sizeof words, format, part);
    mr__problem_add(setting->problems, MR_E_INVALID, &place, "%s", words);
    return false;
}

/* Every node of an override is placed at the override. */
static void mark(struct mr__yaml *node, const char *words)
{
    node->place = node->key_place = (struct mr__place){ .file = words };
    node->is_override = true;
    for (struct mr__yaml *child = node->first; child; child = child->next)
        mark(child, words);
}

static bool is_position(const char *part)
{
    return part[0] && part[strspn(part, "0123456789")] == 0 && strlen(part) < 6;
}

static bool has_text(const struct mr__yaml *map, const char *key, const char *text)
{
    const struct mr__yaml *child = mr__yaml_child(map, key);
    return child && child->kind == MR__YAML_TEXT && strcmp(child->text, text) == 0;
}

/* An element of a list by position, by its `name`, or by its `op` where only one has it. */
static struct mr__yaml *find_element(const struct mr__yaml *list, const char *part)
{
    if (is_position(part)) {
        size_t left = strtoul(part, NULL, 10);
        struct mr__yaml *item = list->first;
        while (item && left--)
            item = item->next;
        return item;
    }
    struct mr__yaml *found = NULL;
    size_t count = 0;
    for (struct mr__yaml *item = list->first; item; item = item->next) {
        if (has_text(item, "name", part))
            return item;
        if (has_text(item, "op", part)) {
            found = item;
            count++;
        }
    }
    return count == 1 ? found : NULL;
}

/* Puts `value` where `old` stands. */
static void replace(struct mr__yaml *parent, struct mr__yaml *old, struct mr__yaml *value)
{
    struct mr__yaml **link = &parent->first;
    while (*link != old)
        link = &(*link)->next;
    value->parent = parent;
    value->key = old->key;
    value->next = old->next;
    *link = value;
    if (parent->last == old)
        parent->last = value;
}

static struct mr__yaml *find_part(const struct mr__yaml *node, const char *part)
{
    return node->kind == MR__YAML_LIST ? find_element(node, part) : mr__yaml_child(node, part);
}

/* Hangs `value` under `node` at `part`, in place of what stands there. */
static bool hang(const struct setting *setting, struct mr__yaml *node, const char *part,
                 struct mr__yaml *value)
{
    if (node->kind == MR__YAML_TEXT)
        return fail(setting, "'%s' would go inside a plain value; set the value as a whole", part);
    struct mr__yaml *old = find_part(node, part);
    value->key_place = value->place;
    if (old) {
        replace(node, old, value);
        return true;
    }
    if (node->kind == MR__YAML_LIST) {
        if (!is_position(part) || strtoul(part, NULL, 10) != node->count)
            return fail(setting, "the list has no '%s'; use a position or a name of it", part);
    } else {
        value->key = mr__arena_copy(setting->arena, part, strlen(part));
        if (!value->key)
            return false;
    }
    mr__yaml_append(node, value);
    return true;
}

static struct mr__yaml *new_map(const struct setting *setting)
{
    struct mr__yaml *map = mr__arena_zalloc(setting->arena, sizeof *map);
    if (map) {
        map->kind = MR__YAML_MAP;
        mark(map, setting->words);
    }
    return map;
}

static bool apply(const struct setting *setting, struct mr__yaml *node, char *path,
                  struct mr__yaml *value)
{
    for (;;) {
        char *dot = strchr(path, '.');
        if (dot)
            *dot = 0;
        if (!path[0])
            return fail(setting, "the key is empty%s; write --set key.path=value", "");
        if (!dot)
            return hang(setting, node, path, value);

        struct mr__yaml *next = find_part(node, path);
        if (!next) {
            next = new_map(setting);
            if (!next || !hang(setting, node, path, next))
                return false;
        }
        node = next;
        path = dot + 1;
    }
}

/* An empty value is nothing, as `key:` is. */
static struct mr__yaml *read_value(const struct setting *setting, const char *text)
{
    if (text[strspn(text, " \t\r\n")])
        return mr__yaml_read(setting->arena, setting->problems, setting->words, text, strlen(text));
    struct mr__yaml *nothing = mr__arena_zalloc(setting->arena, sizeof *nothing);
    if (nothing)
        nothing->text = "";
    return nothing;
}

bool mr__yaml_set(struct mr__arena *arena, struct mr__problems *problems, struct mr__yaml *root,
                  const char *override)
{
    struct setting setting = { .arena = arena, .problems = problems };
    setting.words = mr__arena_text(arena, "--set %s", override);
    if (!setting.words)
        return false;
    const char *equals = strchr(override, '=');
    if (!equals)
        return fail(&setting, "no '=' in it%s; write --set key.path=value", "");

    char *path = mr__arena_copy(arena, override, (size_t)(equals - override));
    struct mr__yaml *value = path ? read_value(&setting, equals + 1) : NULL;
    if (!value)
        return false;
    mark(value, setting.words);
    return apply(&setting, root, path, value);
}
