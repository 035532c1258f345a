/* SPDX-License-Identifier: MIT */
/*
 * libyaml's events into a tree with places. The number of nodes, their depth and the text's length
 * are limited, so that no text (nor what its aliases expand to) costs more than a few megabytes.
 */
#include "job/yaml_tree.h"

#include <stdio.h>
#include <string.h>
#include <yaml.h>

struct anchor {
    const char *name;
    const struct mr__yaml *node; /* NULL while it is still being read */
    struct anchor *next;
};

struct reader {
    yaml_parser_t parser;
    struct mr__arena *arena;
    struct mr__problems *problems;
    const char *file;
    struct anchor *anchors;
    size_t node_count;
};

static struct mr__place place_of(const struct reader *reader, const yaml_mark_t *mark)
{
    return (struct mr__place){ .file = reader->file,
                               .line = (uint32_t)mark->line + 1,
                               .column = (uint32_t)mark->column + 1 };
}

static bool fail(struct reader *reader, const yaml_mark_t *mark, const char *words)
{
    const struct mr__place place = place_of(reader, mark);
    mr__problem_add(reader->problems, MR_E_FORMAT, &place, "%s", words);
    return false;
}

static bool next_event(struct reader *reader, yaml_event_t *event)
{
    if (yaml_parser_parse(&reader->parser, event))
        return true;
    const yaml_parser_t *parser = &reader->parser;
    if (parser->error == YAML_MEMORY_ERROR) {
        reader->arena->is_out = 1;
        return false;
    }
    char words[512];
    snprintf(words, sizeof words, "not YAML: %s%s%s; mind the indentation and the brackets",
             parser->problem ? parser->problem : "unreadable", parser->context ? " " : "",
             parser->context ? parser->context : "");
    return fail(reader, &parser->problem_mark, words);
}

/* A node that counts towards the limit; NULL after adding a problem. */
static struct mr__yaml *new_node(struct reader *reader, const yaml_mark_t *mark)
{
    if (++reader->node_count > MR__YAML_NODE_LIMIT) {
        fail(reader, mark, "too much: a job has at most 20000 values; look at its aliases");
        return NULL;
    }
    struct mr__yaml *node = mr__arena_zalloc(reader->arena, sizeof *node);
    if (node)
        node->place = place_of(reader, mark);
    return node;
}

void mr__yaml_append(struct mr__yaml *parent, struct mr__yaml *child)
{
    child->parent = parent;
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
    parent->count++;
}

static struct anchor *add_anchor(struct reader *reader, const yaml_char_t *name)
{
    struct anchor *anchor = mr__arena_zalloc(reader->arena, sizeof *anchor);
    if (!anchor)
        return NULL;
    anchor->name = mr__arena_copy(reader->arena, (const char *)name, strlen((const char *)name));
    if (!anchor->name)
        return NULL;
    anchor->next = reader->anchors;
    reader->anchors = anchor;
    return anchor;
}

static struct mr__yaml *copy_node(struct reader *reader, const struct mr__yaml *original,
                                  const yaml_mark_t *mark)
{
    struct mr__yaml *copy = new_node(reader, mark);
    if (!copy)
        return NULL;
    copy->kind = original->kind;
    copy->place = original->place;
    copy->text = original->text;
    copy->is_quoted = original->is_quoted;
    copy->key = original->key;
    copy->key_place = original->key_place;
    for (const struct mr__yaml *child = original->first; child; child = child->next) {
        struct mr__yaml *twin = copy_node(reader, child, mark);
        if (!twin)
            return NULL;
        mr__yaml_append(copy, twin);
    }
    return copy;
}

static struct mr__yaml *read_alias(struct reader *reader, const yaml_event_t *event)
{
    const char *name = (const char *)event->data.alias.anchor;
    const struct anchor *anchor = reader->anchors;
    while (anchor && strcmp(anchor->name, name) != 0)
        anchor = anchor->next;
    if (!anchor || !anchor->node) {
        fail(reader, &event->start_mark,
             anchor ? "this alias stands inside of what it names; name something above it"
                    : "this alias names no anchor above it; write &name before the value");
        return NULL;
    }
    return copy_node(reader, anchor->node, &event->start_mark);
}

static struct mr__yaml *read_node(struct reader *reader, yaml_event_t *event, int depth);

/* Reads the next event and the node that it starts; NULL at the end of a list or map (*is_end) and
 * after problems. */
static struct mr__yaml *read_next(struct reader *reader, int depth, bool *is_end)
{
    *is_end = false;
    yaml_event_t event;
    if (!next_event(reader, &event))
        return NULL;
    struct mr__yaml *node = NULL;
    if (event.type == YAML_SEQUENCE_END_EVENT || event.type == YAML_MAPPING_END_EVENT)
        *is_end = true;
    else
        node = read_node(reader, &event, depth);
    yaml_event_delete(&event);
    return node;
}

static bool read_list(struct reader *reader, struct mr__yaml *list, int depth)
{
    for (;;) {
        bool is_end;
        struct mr__yaml *item = read_next(reader, depth + 1, &is_end);
        if (!item)
            return is_end;
        mr__yaml_append(list, item);
    }
}

static bool read_map(struct reader *reader, struct mr__yaml *map, int depth)
{
    for (;;) {
        bool is_end;
        const struct mr__yaml *key = read_next(reader, depth + 1, &is_end);
        if (!key)
            return is_end;
        const yaml_mark_t mark = { .line = key->place.line - 1, .column = key->place.column - 1 };
        if (key->kind != MR__YAML_TEXT)
            return fail(reader, &mark, "a key must be a word");
        if (mr__yaml_child(map, key->text)) {
            char words[256];
            snprintf(words, sizeof words, "'%.100s' is said twice; keep one", key->text);
            return fail(reader, &mark, words);
        }
        struct mr__yaml *value = read_next(reader, depth + 1, &is_end);
        if (!value)
            return false;
        value->key = key->text;
        value->key_place = key->place;
        mr__yaml_append(map, value);
    }
}

static bool read_text(struct reader *reader, struct mr__yaml *node, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const size_t length = event->data.scalar.length;
    if (memchr(text, 0, length))
        return fail(reader, &event->start_mark, "a text may not hold a zero byte");
    node->text = mr__arena_copy(reader->arena, text, length);
    node->is_quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    return node->text != NULL;
}

static struct mr__yaml *read_node(struct reader *reader, yaml_event_t *event, int depth)
{
    if (depth > MR__YAML_DEPTH_LIMIT) {
        fail(reader, &event->start_mark, "nested too deeply; a job needs a few levels only");
        return NULL;
    }
    if (event->type == YAML_ALIAS_EVENT)
        return read_alias(reader, event);

    struct mr__yaml *node = new_node(reader, &event->start_mark);
    if (!node)
        return NULL;
    const yaml_char_t *name = NULL, *tag = NULL;
    if (event->type == YAML_SCALAR_EVENT) {
        node->kind = MR__YAML_TEXT;
        name = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
    } else if (event->type == YAML_SEQUENCE_START_EVENT) {
        node->kind = MR__YAML_LIST;
        name = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
    } else {
        node->kind = MR__YAML_MAP;
        name = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
    }
    if (tag) {
        fail(reader, &event->start_mark, "tags (!name) mean nothing here; leave it out");
        return NULL;
    }
    struct anchor *anchor = name ? add_anchor(reader, name) : NULL;
    if (name && !anchor)
        return NULL;

    const bool is_read = node->kind == MR__YAML_TEXT   ? read_text(reader, node, event)
                         : node->kind == MR__YAML_LIST ? read_list(reader, node, depth)
                                                       : read_map(reader, node, depth);
    if (!is_read)
        return NULL;
    if (anchor)
        anchor->node = node;
    return node;
}

/* The events before and after the one document. */
static struct mr__yaml *read_document(struct reader *reader)
{
    struct mr__yaml *root = NULL;
    for (;;) {
        yaml_event_t event;
        if (!next_event(reader, &event))
            return NULL;
        const yaml_event_type_t type = event.type;
        bool is_good = true;
        if (type == YAML_DOCUMENT_START_EVENT && root) {
            is_good = fail(reader, &event.start_mark,
                           "a second document begins here; a job is one, remove the '---'");
        } else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                   type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            root = read_node(reader, &event, 0);
            is_good = root != NULL;
        }
        yaml_event_delete(&event);
        if (!is_good)
            return NULL;
        if (type == YAML_STREAM_END_EVENT)
            return root;
    }
}

struct mr__yaml *mr__yaml_read(struct mr__arena *arena, struct mr__problems *problems,
                               const char *file, const char *text, size_t text_bytes)
{
    struct reader reader = { .arena = arena, .problems = problems, .file = file };
    const struct mr__place start = { .file = file, .line = 1, .column = 1 };
    if (text_bytes > MR__YAML_TEXT_LIMIT) {
        mr__problem_add(problems, MR_E_FORMAT, &start, "longer than 1 MiB; is this a job file?");
        return NULL;
    }
    if (!yaml_parser_initialize(&reader.parser)) {
        arena->is_out = 1;
        return NULL;
    }
    yaml_parser_set_encoding(&reader.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&reader.parser, (const unsigned char *)text, text_bytes);

    const size_t problem_count = problems->count;
    struct mr__yaml *root = read_document(&reader);
    yaml_parser_delete(&reader.parser);
    if (!root && problems->count == problem_count && !arena->is_out)
        mr__problem_add(problems, MR_E_FORMAT, &start,
                        "empty; a job has at least a source and a list of sinks");
    return root;
}

struct mr__yaml *mr__yaml_child(const struct mr__yaml *map, const char *key)
{
    if (!map || map->kind != MR__YAML_MAP)
        return NULL;
    for (struct mr__yaml *child = map->first; child; child = child->next)
        if (strcmp(child->key, key) == 0)
            return child;
    return NULL;
}

bool mr__yaml_is_nothing(const struct mr__yaml *node)
{
    return node->kind == MR__YAML_TEXT && !node->is_quoted &&
           (!node->text[0] || strcmp(node->text, "~") == 0 || strcmp(node->text, "null") == 0);
}

static size_t index_in_parent(const struct mr__yaml *node)
{
    size_t index = 0;
    for (const struct mr__yaml *other = node->parent->first; other != node; other = other->next)
        index++;
    return index;
}

static size_t write_path(const struct mr__yaml *node, char *text, size_t text_bytes)
{
    if (!node->parent)
        return 0;
    size_t used = write_path(node->parent, text, text_bytes);
    if (used >= text_bytes)
        return used;
    const char *dot = used ? "." : "";
    const int length =
        node->parent->kind == MR__YAML_LIST
            ? snprintf(text + used, text_bytes - used, "%s%zu", dot, index_in_parent(node))
            : snprintf(text + used, text_bytes - used, "%s%.60s", dot, node->key);
    return used + (size_t)length;
}

const char *mr__yaml_path(const struct mr__yaml *node, char *text, size_t text_bytes)
{
    snprintf(text, text_bytes, "job");
    write_path(node, text, text_bytes);
    return text;
}
