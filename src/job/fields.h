/* SPDX-License-Identifier: MIT */
/*
 * job/fields.h - typed values out of a YAML tree. Each reader leaves `*out` alone when `node` is
 * NULL (the key is not there) or wrong; what is wrong goes on the list of problems, with the
 * remedy.
 */
#ifndef MR__JOB_FIELDS_H
#define MR__JOB_FIELDS_H

#include "job/item_type.h"
#include "job/yaml_tree.h"

/* What reading a job needs at hand. */
struct mr__reading {
    struct mr__arena *arena;
    struct mr__problems *problems;
    const char *folder; /* of the job file; "" is the working folder */
};

/* A problem with `node`: "file:3:7: stages.0.low: WORDS". */
void mr__field_problem(const struct mr__reading *reading, const struct mr__yaml *node,
                       const char *format, ...) MR_PRINTF(3, 4);
/* The same with a status other than MR_E_FORMAT. */
void mr__field_problem_of(const struct mr__reading *reading, mr_status status,
                          const struct mr__yaml *node, const char *format, ...) MR_PRINTF(4, 5);
/* The same with mr_last_error() as the words. */
void mr__field_problem_last(const struct mr__reading *reading, mr_status status,
                            const struct mr__yaml *node);

/* True for a map whose keys are all in `keys` (ends with NULL); each other key is a problem. `what`
 * says what the map describes: "a stage". */
bool mr__field_map(const struct mr__reading *reading, const struct mr__yaml *node, const char *what,
                   const char *const *keys);

bool mr__field_text(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out);
/* A name for `from` and --set: letters, digits, '_', '-', not a number. */
bool mr__field_name(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out);
/* A path, made absolute or relative to the working folder. */
bool mr__field_path(const struct mr__reading *reading, const struct mr__yaml *node,
                    const char **out);
bool mr__field_u64(const struct mr__reading *reading, const struct mr__yaml *node, uint64_t low,
                   uint64_t high, uint64_t *out);
bool mr__field_u32(const struct mr__reading *reading, const struct mr__yaml *node, uint32_t low,
                   uint32_t high, uint32_t *out);
bool mr__field_f64(const struct mr__reading *reading, const struct mr__yaml *node, double *out);
bool mr__field_bool(const struct mr__reading *reading, const struct mr__yaml *node, bool *out);
/* "8 MiB", "64k", 4096: bytes; k, M, G alone count in 1024. */
bool mr__field_size(const struct mr__reading *reading, const struct mr__yaml *node, uint64_t *out);
/* One of `names` (ends with NULL); *out is its index. */
bool mr__field_choice(const struct mr__reading *reading, const struct mr__yaml *node,
                      const char *const *names, uint32_t *out);
bool mr__field_dtype(const struct mr__reading *reading, const struct mr__yaml *node, mr_type *out);
/* `dtype` and `shape` of a map; both are required. A shape is a list or a single length; [] is one
 * number. */
bool mr__field_item_type(const struct mr__reading *reading, const struct mr__yaml *map,
                         struct mr__item_type *out);
bool mr__field_shape(const struct mr__reading *reading, const struct mr__yaml *node,
                     struct mr__item_type *out);

#endif
