/* SPDX-License-Identifier: MIT */
/*
 * job/yaml_tree.h - YAML text as a tree whose every node knows its place, and overrides of it.
 */
#ifndef MR__JOB_YAML_TREE_H
#define MR__JOB_YAML_TREE_H

#include "job/arena.h"
#include "job/problems.h"

#include <stdbool.h>

enum mr__yaml_kind { MR__YAML_TEXT, MR__YAML_LIST, MR__YAML_MAP };

/* Lives in the arena it was read into. */
struct mr__yaml {
    enum mr__yaml_kind kind;
    struct mr__place place;
    const char *text; /* TEXT; "" for nothing */
    bool is_quoted;   /* TEXT in quotes: never a number, a yes or nothing */
    bool is_override; /* files named in it are relative to the working folder */
    const char *key;  /* in a map */
    struct mr__place key_place;
    struct mr__yaml *parent, *next;
    struct mr__yaml *first, *last; /* LIST, MAP */
    size_t count;
};

#define MR__YAML_TEXT_LIMIT ((size_t)1024 * 1024) /* bytes of one job file */
#define MR__YAML_NODE_LIMIT 20000
#define MR__YAML_DEPTH_LIMIT 32

/* Reads one document. NULL after adding to `problems`. `file` is borrowed as long as the tree. */
struct mr__yaml *mr__yaml_read(struct mr__arena *arena, struct mr__problems *problems,
                               const char *file, const char *text, size_t text_bytes);

/* Applies "key.path=value" to the tree. False after adding to `problems`. */
bool mr__yaml_set(struct mr__arena *arena, struct mr__problems *problems, struct mr__yaml *root,
                  const char *override);

/* The child with this key, or NULL (also when `map` is NULL or no map). */
struct mr__yaml *mr__yaml_child(const struct mr__yaml *map, const char *key);

/* Adds a child at the end of a list or map. */
void mr__yaml_append(struct mr__yaml *parent, struct mr__yaml *child);

/* True for nothing at all: `key:` or `key: null`. */
bool mr__yaml_is_nothing(const struct mr__yaml *node);

/* "stages.2.low"; "job" for the root. Written to `text` and returned. */
const char *mr__yaml_path(const struct mr__yaml *node, char *text, size_t text_bytes);

#endif
