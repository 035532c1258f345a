/* SPDX-License-Identifier: MIT */
/*
 * The `vision` of a job file: what it says, checked as far as it can be without reading the images.
 */
#include "base/alloc.h"
#include "job/vision_job.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_EDGE 1024
#define LEAST_MEMORY ((uint64_t)1 << 20)

const char *const mr__vision_mode_names[] = { "auto", "concurrent", "pipelined", NULL };
const char *const mr__vision_output_names[] = { "tokens",  "scores", "compressed",
                                                "overlay", "sheet",  NULL };

const char *mr__vision_stage_name(uint32_t stage)
{
    static const char *const names[] = { "decode", "textures", "scores", "tokens", "write" };
    return stage < MR__VISION_STAGES ? names[stage] : NULL;
}

/* ---- images ---- */

static bool is_folder(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && S_ISDIR(facts.st_mode);
}

static bool is_file(const char *path)
{
    struct stat facts;
    return stat(path, &facts) == 0 && !S_ISDIR(facts.st_mode);
}

static void read_place(const struct mr__reading *reading, const struct mr__yaml *node,
                       struct mr__vision_job *vision)
{
    const char *path = "";
    if (!mr__field_path(reading, node, &path))
        return;
    vision->label = path;
    mr_status status;
    const bool has_folder = is_folder(path);
    if (has_folder)
        status = mr__vision_list_folder(&vision->list, path, vision->is_recursive);
    else if (is_file(path))
        status = mr__vision_list_add(&vision->list, path, strlen(path)) ? MR_OK : MR_E_NO_MEMORY;
    else
        status = mr__vision_list_pattern(&vision->list, path);
    if (status == MR_E_NO_MEMORY)
        reading->arena->is_out = 1;
    else if (status)
        mr__field_problem_last(reading, status, node);
    else if (!vision->list.count)
        mr__field_problem_of(
            reading, MR_E_IO, node, "no images: %s is %s; mend the path or the pattern%s", path,
            has_folder ? "a folder without any" : "no file or folder, and nothing matches it",
            has_folder && !vision->is_recursive
                ? ", or say `recursive: true` to look into its folders"
                : "");
}

static void read_paths(const struct mr__reading *reading, const struct mr__yaml *node,
                       struct mr__vision_job *vision)
{
    vision->label = "a list in the job";
    if (!node->count)
        mr__field_problem(reading, node, "the list is empty; name images, or a folder");
    for (const struct mr__yaml *item = node->first; item; item = item->next) {
        const char *path = "";
        if (mr__field_path(reading, item, &path) &&
            !mr__vision_list_add(&vision->list, path, strlen(path)))
            reading->arena->is_out = 1;
    }
}

static void read_list(const struct mr__reading *reading, const struct mr__yaml *node,
                      struct mr__vision_job *vision)
{
    const char *text = "";
    if (!mr__field_text(reading, node, &text))
        return;
    if (strcmp(text, "-") == 0) {
        vision->list_path = text;
        vision->label = "paths on standard input";
        return;
    }
    const char *path = "";
    if (!mr__field_path(reading, node, &path))
        return;
    vision->label = path;
    const mr_status status = mr__vision_list_lines(&vision->list, path, NULL);
    if (status == MR_E_NO_MEMORY)
        reading->arena->is_out = 1;
    else if (status)
        mr__field_problem_last(reading, status, node);
    else if (!vision->list.count)
        mr__field_problem_of(reading, MR_E_IO, node, "no images: %s names none", path);
}

/* Pictures of balls in a meadow, for those who have none at hand. */
static void read_generate(const struct mr__reading *reading, const struct mr__yaml *node,
                          struct mr__vision_job *vision)
{
    static const char *const keys[] = { "count", "width", "height", "seed", NULL };
    struct mr__vision_scene *scene = &vision->scene;
    uint64_t count = 8;
    *scene = (struct mr__vision_scene){ .image_width = 1024, .image_height = 768, .seed = 1 };
    vision->label = "generated";
    if (!mr__field_map(reading, node, "the generator", keys))
        return;
    mr__field_u64(reading, mr__yaml_child(node, "count"), 1, 100000, &count);
    mr__field_u32(reading, mr__yaml_child(node, "width"), 1, 16384, &scene->image_width);
    mr__field_u32(reading, mr__yaml_child(node, "height"), 1, 16384, &scene->image_height);
    mr__field_u64(reading, mr__yaml_child(node, "seed"), 0, UINT64_MAX, &scene->seed);
    for (uint64_t k = 0; k < count && !reading->arena->is_out; k++) {
        char path[48];
        const int length = snprintf(path, sizeof path, "generated-%04llu", (unsigned long long)k);
        if (!mr__vision_list_add(&vision->list, path, (size_t)length))
            reading->arena->is_out = 1;
    }
    vision->made_count = count;
}

static void read_source(const struct mr__reading *reading, const struct mr__yaml *node,
                        struct mr__vision_job *vision)
{
    static const char *const keys[] = { "path", "list", "recursive", "limit", "generate", NULL };
    if (!node)
        return;
    if (node->kind == MR__YAML_LIST) {
        read_paths(reading, node, vision);
    } else if (node->kind == MR__YAML_TEXT) {
        read_place(reading, node, vision);
    } else if (mr__field_map(reading, node, "the images", keys)) {
        const struct mr__yaml *path = mr__yaml_child(node, "path");
        const struct mr__yaml *list = mr__yaml_child(node, "list");
        const struct mr__yaml *made = mr__yaml_child(node, "generate");
        mr__field_bool(reading, mr__yaml_child(node, "recursive"), &vision->is_recursive);
        mr__field_u64(reading, mr__yaml_child(node, "limit"), 1, UINT32_MAX, &vision->limit);
        if ((path != NULL) + (list != NULL) + (made != NULL) != 1)
            mr__field_problem(reading, node,
                              "needs one of: path (a folder, a pattern or a file), list (a file of "
                              "paths, or - for standard input), generate");
        else if (made)
            read_generate(reading, made, vision);
        else if (list)
            read_list(reading, list, vision);
        else if (path->kind == MR__YAML_LIST)
            read_paths(reading, path, vision);
        else
            read_place(reading, path, vision);
    }
    if (vision->limit && vision->list.count > vision->limit)
        vision->list.count = vision->limit;
}

/* ---- numbers ---- */

static void read_f32(const struct mr__reading *reading, const struct mr__yaml *node, float *out)
{
    double value;
    if (mr__field_f64(reading, node, &value))
        *out = (float)value;
}

/* In the model, 0 leaves it open; in a job it is a number like others. */
static void read_temperature(const struct mr__reading *reading, const struct mr__yaml *node,
                             float *out)
{
    double value;
    if (!mr__field_f64(reading, node, &value))
        return;
    *out = (float)value;
    if (*out == 0)
        mr__field_problem_of(reading, MR_E_INVALID, node, "0; from 0.01 to 100");
}

static void read_weights(const struct mr__reading *reading, const struct mr__yaml *node,
                         bool has_query, float weights[3])
{
    static const char *const scores[] = { "propositional", "perspectival", "participatory", NULL };
    if (!mr__field_map(reading, node, "the weights", scores))
        return;
    for (uint32_t k = 0; k < 3; k++) {
        weights[k] = 1;
        read_f32(reading, mr__yaml_child(node, scores[k]), &weights[k]);
    }
    if (weights[0] == 0 && weights[1] == 0 && weights[2] == 0)
        mr__field_problem_of(reading, MR_E_INVALID, node, "one of the three has to be above 0");
    else if (weights[0] == 0 && weights[1] == 0 && !has_query)
        mr__field_problem_of(
            reading, MR_E_INVALID, node,
            "participatory counts nothing without a `query`, and all patches would "
            "be alike; give a query, or one of the others a weight above 0");
}

/* [a, b], each from `low` to `high`. */
static void read_pair(const struct mr__reading *reading, const struct mr__yaml *node,
                      const char *due, uint32_t low, uint32_t high, uint32_t *a, uint32_t *b)
{
    if (!node)
        return;
    if (node->kind != MR__YAML_LIST || node->count != 2) {
        mr__field_problem(reading, node, "expected %s", due);
        return;
    }
    mr__field_u32(reading, node->first, low, high, a);
    mr__field_u32(reading, node->last, low, high, b);
}

static void read_numbers(const struct mr__reading *reading, const struct mr__yaml *node,
                         struct mr__vision_parameters *out)
{
    static const char *const tensions[] = { "compress", "exploit", "focus", NULL };
    const struct mr__yaml *pulls = mr__yaml_child(node, "tensions");
    read_weights(reading, mr__yaml_child(node, "weights"), mr__yaml_child(node, "query") != NULL,
                 out->weights);
    if (mr__field_map(reading, pulls, "the tensions", tensions))
        for (uint32_t k = 0; k < MR__VISION_TENSIONS; k++)
            read_f32(reading, mr__yaml_child(pulls, tensions[k]), &out->tensions[k]);
    read_temperature(reading, mr__yaml_child(node, "temperature"), &out->temperature);
    mr__field_u32(reading, mr__yaml_child(node, "budget"), 1, MR__VISION_BUDGET_LIMIT,
                  &out->budget);
    read_pair(reading, mr__yaml_child(node, "tokens"),
              "[least, most] tokens of a patch, such as [64, 400]", 1, 65535, &out->least,
              &out->most);
    read_pair(reading, mr__yaml_child(node, "patches"), "[columns, rows], such as [8, 4]", 1,
              MR__VISION_PATCH_LIMIT, &out->columns, &out->rows);
}

/* The model's words begin with the key that they are about, such as "budget: ": they are told at its
 * place, where the job has it. */
static void tell_numbers(const struct mr__reading *reading, const struct mr__yaml *node,
                         mr_status status)
{
    const char *words = mr_last_error();
    for (;;) {
        char key[32] = "";
        const size_t length = strcspn(words, ".: ");
        snprintf(key, sizeof key, "%.*s", (int)length, words);
        const struct mr__yaml *child = words[length] == ' ' ? NULL : mr__yaml_child(node, key);
        if (!child)
            break;
        node = child;
        words += length + 1;
        words += words[0] == ' ';
    }
    mr__field_problem_of(reading, status, node, "%s", words);
}

/* The largest image there could be: what it cannot have, none can. */
static void check_numbers(const struct mr__reading *reading, const struct mr__yaml *node,
                          struct mr__vision_parameters *parameters)
{
    struct mr__vision_plan plan;
    mr_status status = mr__vision_parameters_check(parameters);
    if (!status && parameters->columns)
        status = mr__vision_plan(parameters, 32768, 32768, 1, &plan);
    if (!status && !parameters->columns)
        status = mr__vision_plan(parameters, 1024, 1024, 1, &plan);
    if (status)
        tell_numbers(reading, node, status);
}

/* ---- the rest ---- */

static void read_size(const struct mr__reading *reading, const struct mr__yaml *node,
                      struct mr__vision_job *vision)
{
    vision->image.edge_limit = DEFAULT_EDGE;
    if (node && node->kind == MR__YAML_TEXT && strcmp(node->text, "original") == 0)
        vision->image.edge_limit = 0;
    else if (node && (node->kind != MR__YAML_TEXT ||
                      strspn(node->text, "0123456789") != strlen(node->text)))
        mr__field_problem(reading, node,
                          "expected pixels on the longer edge, such as 1024, or "
                          "`original`");
    else
        mr__field_u32(reading, node, 16, MR__VISION_SIDE_LIMIT, &vision->image.edge_limit);
}

static void read_limits(const struct mr__reading *reading, const struct mr__yaml *node,
                        struct mr__vision_job *vision)
{
    static const char *const keys[] = { "pixels", "memory", NULL };
    const struct mr__yaml *memory;
    vision->image.pixel_limit = MR__IMAGE_PIXEL_LIMIT;
    if (!mr__field_map(reading, node, "the limits", keys))
        return;
    mr__field_u64(reading, mr__yaml_child(node, "pixels"), 1, MR__VISION_PIXEL_LIMIT,
                  &vision->image.pixel_limit);
    memory = mr__yaml_child(node, "memory");
    if (mr__field_size(reading, memory, &vision->memory_limit) &&
        vision->memory_limit < LEAST_MEMORY)
        mr__field_problem(reading, memory, "less than 1 MiB has no room for an image");
}

static void read_outputs(const struct mr__reading *reading, const struct mr__yaml *node,
                         struct mr__vision_job *vision)
{
    for (uint32_t k = 0; k < MR__VISION_OUTPUTS; k++)
        vision->has_output[k] = !node;
    if (!node)
        return;
    if (node->kind != MR__YAML_LIST) {
        mr__field_problem(reading, node, "expected a list, such as [tokens, overlay, sheet]");
        return;
    }
    for (const struct mr__yaml *item = node->first; item; item = item->next) {
        uint32_t output;
        if (mr__field_choice(reading, item, mr__vision_output_names, &output))
            vision->has_output[output] = true;
    }
}

static void read_folder(const struct mr__reading *reading, const struct mr__yaml *root,
                        struct mr__vision_job *vision)
{
    const struct mr__yaml *node = mr__yaml_child(root, "folder");
    const char *path = "";
    if (!node) {
        mr__field_problem(reading, root, "needs a `folder` for its outputs, such as tokens-out");
        return;
    }
    struct stat facts;
    if (!mr__field_path(reading, node, &path) || !mr__vision_folder_check(reading, node, path))
        return;
    vision->folder.path = path;
    if (stat(path, &facts) == 0) {
        vision->list.out_device = facts.st_dev;
        vision->list.out_inode = facts.st_ino;
    }
}

/* `true`, `false`, or one image in so many. */
static void read_measure(const struct mr__reading *reading, const struct mr__yaml *node,
                         struct mr__vision_job *vision)
{
    vision->is_measured = true;
    if (!node || node->kind != MR__YAML_TEXT || !strchr("0123456789", node->text[0]))
        mr__field_bool(reading, node, &vision->is_measured);
    else
        mr__field_u32(reading, node, 1, 1000000, &vision->measure_period);
}

static void read_run(const struct mr__reading *reading, const struct mr__yaml *node,
                     struct mr__vision_job *vision)
{
    static const char *const policies[] = { "stop", "skip", NULL };
    uint32_t policy = 1, mode = MR__VISION_AUTO;
    mr__field_choice(reading, mr__yaml_child(node, "on_error"), policies, &policy);
    vision->is_skipping = policy == 1;
    mr__field_choice(reading, mr__yaml_child(node, "mode"), mr__vision_mode_names, &mode);
    vision->mode = mode;
    mr__field_u32(reading, mr__yaml_child(node, "sets"), 1, 64, &vision->set_count);
    if (vision->set_count && mode == MR__VISION_PIPELINED)
        mr__field_problem(reading, mr__yaml_child(node, "sets"),
                          "sets of streams are for `mode: concurrent`; leave one of them out");
    mr__field_u32(reading, mr__yaml_child(node, "batch"), 1, MR__VISION_BATCH_LIMIT,
                  &vision->batch_size);
    mr__field_u32(reading, mr__yaml_child(node, "decode_threads"), 1, 64, &vision->decode_threads);
    mr__field_u32(reading, mr__yaml_child(node, "slots"), 1, 1024, &vision->slot_count);
    read_measure(reading, mr__yaml_child(node, "measure"), vision);
}

struct mr__vision_job *mr__vision_job_read(const struct mr__reading *reading,
                                           const struct mr__yaml *node)
{
    static const char *const keys[] = { "images",      "size",    "query",    "patches",
                                        "budget",      "tokens",  "weights",  "tensions",
                                        "temperature", "mode",    "sets",     "decode_threads",
                                        "slots",       "measure", "on_error", "limits",
                                        "folder",      "outputs", "batch",    NULL };
    struct mr__vision_job *vision = mr__arena_zalloc(reading->arena, sizeof *vision);
    if (!vision)
        return NULL;
    vision->node = node;
    vision->label = "images";
    if (!mr__field_map(reading, node, "the vision job", keys))
        return vision;
    if (!mr__yaml_child(node, "images"))
        mr__field_problem(reading, node, "needs `images`: a folder, a pattern, or a list");
    read_folder(reading, node, vision); /* first, as images are not looked for there */
    read_source(reading, mr__yaml_child(node, "images"), vision);
    read_size(reading, mr__yaml_child(node, "size"), vision);
    read_limits(reading, mr__yaml_child(node, "limits"), vision);
    read_numbers(reading, node, &vision->parameters);
    read_run(reading, node, vision);
    read_outputs(reading, mr__yaml_child(node, "outputs"), vision);
    mr__vision_read_query(reading, mr__yaml_child(node, "query"), vision);
    check_numbers(reading, node, &vision->parameters);
    return vision;
}

void mr__vision_job_fini(struct mr__vision_job *vision)
{
    if (!vision)
        return;
    mr__vision_folder_abandon(&vision->folder);
    mr__vision_list_fini(&vision->list);
    mr__vision_scene_fini(&vision->scene);
}
