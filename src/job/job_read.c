/* SPDX-License-Identifier: MIT */
/*
 * From the tree to source, stages and sinks, with names resolved: who reads from whom.
 */
#include "job/job_parts.h"

#include <stdio.h>
#include <string.h>

static void read_options(mr_job *job, const struct mr__yaml *node)
{
    static const char *const keys[] = { "slots", "chunk",  "parcel_items", "on_error",
                                        "retry", "memory", "measure",      NULL };
    static const char *const policies[] = { "stop", "skip", NULL };
    const struct mr__reading *reading = &job->reading;
    mr_pipeline_options *out = &job->options;
    out->is_measured = true;
    if (!mr__field_map(reading, node, "the options", keys))
        return;
    uint32_t policy = 0;
    mr__field_u32(reading, mr__yaml_child(node, "slots"), 1, 1024, &out->slot_count);
    mr__field_size(reading, mr__yaml_child(node, "chunk"), &out->chunk_bytes);
    mr__field_u32(reading, mr__yaml_child(node, "parcel_items"), 1, UINT32_MAX, &out->parcel_items);
    mr__field_choice(reading, mr__yaml_child(node, "on_error"), policies, &policy);
    out->on_error = policy ? MR_ERROR_SKIP : MR_ERROR_STOP;
    mr__field_u32(reading, mr__yaml_child(node, "retry"), 0, 1000, &out->retry_limit);
    mr__field_size(reading, mr__yaml_child(node, "memory"), &out->memory_limit);
    mr__field_bool(reading, mr__yaml_child(node, "measure"), &out->is_measured);
}

/* ---- side inputs ---- */

static void read_side_input(mr_job *job, const struct mr__yaml *node, struct mr__side_input *side)
{
    static const char *const keys[] = { "npy", NULL };
    const struct mr__reading *reading = &job->reading;
    side->name = node->key;
    side->node = node;
    if (!mr__field_map(reading, node, "an input", keys))
        return;
    const struct mr__yaml *where = mr__yaml_child(node, "npy");
    if (!where)
        mr__field_problem(reading, node, "needs `npy`, a file");
    if (!mr__field_path(reading, where, &side->path))
        return;
    const mr_status status =
        mr__array_load(side->path, &side->type, &side->data, &side->size_bytes);
    if (status)
        mr__field_problem_last(reading, status, where);
    side->is_loaded = status == MR_OK;
}

static void read_side_inputs(mr_job *job, const struct mr__yaml *node)
{
    if (!node)
        return;
    if (node->kind != MR__YAML_MAP) {
        mr__field_problem(&job->reading, node, "expected names, such as dark: { npy: dark.npy }");
        return;
    }
    job->home.side_inputs =
        mr__arena_zalloc(&job->arena, node->count * sizeof *job->home.side_inputs);
    if (!job->home.side_inputs)
        return;
    for (const struct mr__yaml *child = node->first; child; child = child->next)
        read_side_input(job, child, &job->home.side_inputs[job->home.side_input_count++]);
}

/* ---- lists ---- */

static bool check_list(mr_job *job, const struct mr__yaml *node, const char *what, size_t limit)
{
    if (!node || node->kind != MR__YAML_LIST) {
        if (node)
            mr__field_problem(&job->reading, node, "expected a list of %s, each after a '-'", what);
        return false;
    }
    if (node->count <= limit)
        return true;
    mr__field_problem(&job->reading, node, "%zu %s; at most %zu are possible", node->count, what,
                      limit);
    job->is_broken = true;
    return false;
}

static void read_stages(mr_job *job, const struct mr__yaml *node)
{
    if (!check_list(job, node, "stages", MR__STAGE_LIMIT))
        return;
    for (const struct mr__yaml *item = node->first; item; item = item->next) {
        struct mr__stage *stage = mr__stage_read(&job->reading, &job->home, item);
        if (stage)
            job->stages[job->stage_count++] = stage;
        else
            job->is_broken = true;
    }
}

static struct mr__job_sink *add_sink(mr_job *job, struct mr__sink *sink,
                                     const struct mr__yaml *from)
{
    if (job->sink_count == MR__SINK_LIMIT) {
        mr__field_problem(&job->reading, sink->node,
                          "too many sinks and panels; at most %d are "
                          "possible",
                          MR__SINK_LIMIT);
        return NULL;
    }
    struct mr__job_sink *out = &job->sinks[job->sink_count++];
    out->sink = sink;
    out->from_node = from;
    if (from && !mr__field_name(&job->reading, from, &out->from_name))
        job->is_broken = true;
    return out;
}

/* One pipeline sink for each panel of a preview. */
static void add_panels(mr_job *job, struct mr__sink *sink, const struct mr__yaml *from)
{
    struct mr__sink *panel = sink;
    for (const struct mr__yaml *item = from->first; item && panel; item = item->next) {
        struct mr__job_sink *added = add_sink(job, panel, item);
        if (!added)
            return;
        added->is_panel = panel != sink;
        if (item->next)
            panel = mr__sink_png_panel(&job->arena, sink);
    }
}

static void read_sink(mr_job *job, const struct mr__yaml *node)
{
    struct mr__sink *sink = mr__sink_read(&job->reading, node);
    const struct mr__yaml *from = mr__yaml_child(node, "from");
    if (!sink)
        return;
    if (!from || from->kind != MR__YAML_LIST)
        add_sink(job, sink, from);
    else if (strcmp(sink->ops->kind, "png") != 0 || !from->count || from->count > 8)
        mr__field_problem(&job->reading, from,
                          "only a preview shows several nodes (1 to 8); make one sink for each");
    else
        add_panels(job, sink, from);
}

static void read_sinks(mr_job *job, const struct mr__yaml *node)
{
    if (!node)
        mr__field_problem(&job->reading, job->root,
                          "needs `sinks`, a list such as [{ npy: out.npy }]");
    if (!check_list(job, node, "sinks", MR__SINK_LIMIT))
        return;
    if (!node->count)
        mr__field_problem(&job->reading, node, "a job needs at least one sink");
    for (const struct mr__yaml *item = node->first; item; item = item->next)
        read_sink(job, item);
}

/* ---- names ---- */

/* A name taken from an operation gives way to those given in the job and to earlier ones. */
static bool is_taken(const mr_job *job, const char *name, uint32_t index)
{
    for (uint32_t k = 0; k < job->stage_count; k++) {
        const struct mr__stage *other = job->stages[k];
        if ((k < index || (k != index && other->has_own_name)) && strcmp(other->name, name) == 0)
            return true;
    }
    return strcmp(name, "source") == 0;
}

/* Names given in the job must differ; those taken from operations get a number where they clash. */
static void settle_names(mr_job *job)
{
    for (uint32_t k = 0; k < job->stage_count; k++) {
        const struct mr__stage *stage = job->stages[k];
        for (uint32_t other = 0; other < k && stage->has_own_name; other++)
            if (job->stages[other]->has_own_name &&
                strcmp(job->stages[other]->name, stage->name) == 0)
                mr__field_problem(&job->reading, mr__yaml_child(stage->node, "name"),
                                  "the name '%s' is taken by stage %u; choose another", stage->name,
                                  other);
        if (stage->has_own_name && strcmp(stage->name, "source") == 0)
            mr__field_problem(&job->reading, mr__yaml_child(stage->node, "name"),
                              "'source' names the source; choose another");
    }
    for (uint32_t k = 0; k < job->stage_count; k++) {
        struct mr__stage *stage = job->stages[k];
        const char *base = stage->name;
        for (unsigned number = 2; !stage->has_own_name && is_taken(job, stage->name, k); number++) {
            stage->name = mr__arena_text(&job->arena, "%s-%u", base, number);
            if (!stage->name) {
                stage->name = base;
                return;
            }
        }
    }
}

static void settle_sink_names(mr_job *job)
{
    for (uint32_t k = 0; k < job->sink_count; k++) {
        const struct mr__sink *sink = job->sinks[k].sink;
        for (uint32_t other = 0; other < k; other++) {
            const struct mr__sink *before = job->sinks[other].sink;
            const bool is_same_file = !job->sinks[k].is_panel && sink->output.path &&
                                      before->output.path &&
                                      mr__output_is_same(sink->output.path, before->output.path) &&
                                      strncmp(sink->output.path, "/dev/", 5) != 0;
            if (is_same_file)
                mr__field_problem(&job->reading, sink->node,
                                  "another sink writes %s too; choose another file",
                                  sink->output.path);
            if (strcmp(sink->ops->kind, "stdout") == 0 && strcmp(before->ops->kind, "stdout") == 0)
                mr__field_problem(&job->reading, sink->node,
                                  "two sinks write to standard output; keep one");
        }
    }
}

/* 0: the source, k: stage k-1. False after a problem. */
static bool resolve(mr_job *job, const char *name, const struct mr__yaml *node, uint32_t *out)
{
    const char *names[MR__STAGE_LIMIT + 2] = { "source" };
    if (strcmp(name, "source") == 0) {
        *out = 0;
        return true;
    }
    for (uint32_t k = 0; k < job->stage_count; k++) {
        names[k + 1] = job->stages[k]->name;
        if (strcmp(name, names[k + 1]) == 0) {
            *out = k + 1;
            return true;
        }
    }
    char remedy[512];
    mr__field_problem(&job->reading, node, "there is no '%s' to take items from%s", name,
                      mr__suggestion(name, names, remedy, sizeof remedy));
    job->is_broken = true;
    return false;
}

static void check_input_count(mr_job *job, struct mr__stage *stage)
{
    const uint32_t due = stage->op ? stage->op->input_count : 0;
    if (!due || stage->input_count == due || stage->is_broken)
        return;
    stage->is_broken = true;
    mr__field_problem(&job->reading, stage->node, "%s takes %u input%s, `from` names %u",
                      stage->op->name, due, due == 1 ? "" : "s: `from: [a, b]`",
                      stage->input_count);
}

static void resolve_stage(mr_job *job, uint32_t index)
{
    struct mr__stage *stage = job->stages[index];
    if (!stage->input_count) {
        stage->input_count = 1;
        stage->input_indices[0] = index; /* the stage before, or the source */
        stage->input_names[0] = mr__job_flow_name(job, index);
    } else {
        for (uint32_t k = 0; k < stage->input_count; k++)
            if (!stage->input_names[k] || !resolve(job, stage->input_names[k],
                                                   stage->input_nodes[k], &stage->input_indices[k]))
                stage->is_broken = true;
    }
    check_input_count(job, stage);
}

/* ---- the graph ---- */

enum colour { WHITE, GREY, BLACK };

static void report_cycle(mr_job *job, const uint32_t *path, uint32_t depth, uint32_t back)
{
    char text[512];
    size_t used = 0;
    uint32_t k = depth;
    while (k > 0 && path[k] != back)
        k--;
    for (; k <= depth && used < sizeof text; k++)
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s -> ", job->stages[path[k]]->name);
    mr__field_problem(&job->reading, job->stages[back]->node,
                      "the stages wait for each other: %s%s; let one of them read `from` elsewhere",
                      text, job->stages[back]->name);
    job->is_broken = true;
}

/* Depth first; inputs come before their users in job->order. */
static void visit(mr_job *job, enum colour *colours, uint32_t *path, uint32_t depth,
                  uint32_t *ordered)
{
    const uint32_t index = path[depth];
    const struct mr__stage *stage = job->stages[index];
    colours[index] = GREY;
    for (uint32_t k = 0; k < stage->input_count; k++) {
        if (!stage->input_indices[k])
            continue;
        const uint32_t input = stage->input_indices[k] - 1;
        if (colours[input] == GREY) {
            report_cycle(job, path, depth, input);
        } else if (colours[input] == WHITE) {
            path[depth + 1] = input;
            visit(job, colours, path, depth + 1, ordered);
        }
    }
    colours[index] = BLACK;
    job->order[(*ordered)++] = index;
}

static void order_stages(mr_job *job)
{
    enum colour colours[MR__STAGE_LIMIT] = { WHITE };
    uint32_t path[MR__STAGE_LIMIT + 1], ordered = 0;
    for (uint32_t k = 0; k < job->stage_count; k++) {
        path[0] = k;
        if (colours[k] == WHITE)
            visit(job, colours, path, 0, &ordered);
    }
}

static void check_used(mr_job *job)
{
    bool is_used[MR__STAGE_LIMIT + 1] = { false };
    for (uint32_t k = 0; k < job->stage_count; k++)
        for (uint32_t i = 0; i < job->stages[k]->input_count; i++)
            is_used[job->stages[k]->input_indices[i]] = true;
    for (uint32_t k = 0; k < job->sink_count; k++)
        is_used[job->sinks[k].from] = true;
    for (uint32_t k = 0; k < job->stage_count; k++)
        if (!is_used[k + 1])
            mr__field_problem(&job->reading, job->stages[k]->node,
                              "nothing reads from stage '%s'; name it in the `from` of a sink or a "
                              "stage, or remove it",
                              job->stages[k]->name);
}

static void connect(mr_job *job)
{
    settle_names(job);
    settle_sink_names(job);
    for (uint32_t k = 0; k < job->stage_count; k++)
        resolve_stage(job, k);
    for (uint32_t k = 0; k < job->sink_count; k++) {
        struct mr__job_sink *sink = &job->sinks[k];
        sink->from = job->stage_count;
        if (sink->from_name)
            resolve(job, sink->from_name, sink->from_node, &sink->from);
    }
    if (job->is_broken)
        return;
    order_stages(job);
    if (!job->is_broken && job->problems.count == 0)
        check_used(job);
}

/* ---- the whole ---- */

static void add_device(mr_job *job, const char *name, const struct mr__yaml *node)
{
    if (job->device_name_count == MR__DEVICE_LIMIT) {
        mr__problem_add(&job->problems, MR_E_INVALID, node ? &node->place : &job->device_place,
                        "more than %d devices", MR__DEVICE_LIMIT);
        job->is_broken = true;
        return;
    }
    job->device_names[job->device_name_count] = name;
    job->device_nodes[job->device_name_count++] = node;
}

/* "all", "cuda:0" or "cuda:0,cuda:1". */
static void add_devices(mr_job *job, const char *text, const struct mr__yaml *node)
{
    if (strcmp(text, "all") == 0) {
        job->has_all_devices = true;
        return;
    }
    for (const char *end; *text; text = *end ? end + 1 : end) {
        end = strchr(text, ',');
        end = end ? end : text + strlen(text);
        const char *name = mr__arena_copy(&job->arena, text, (size_t)(end - text));
        if (name)
            add_device(job, name, node);
    }
}

/* `device` and `devices` are `all`, a name, or a list of names. */
static void read_devices(mr_job *job, const struct mr__yaml *node)
{
    const char *name;
    if (node->kind != MR__YAML_LIST) {
        if (mr__field_text(&job->reading, node, &name))
            add_devices(job, name, node);
        return;
    }
    if (!node->count)
        mr__field_problem(&job->reading, node,
                          "no device; name one, such as [cuda:0, cuda:1], or say `all`");
    for (const struct mr__yaml *item = node->first; item; item = item->next) {
        if (mr__field_text(&job->reading, item, &name))
            add_device(job, name, item);
    }
}

static void read_device(mr_job *job, const char *override)
{
    const struct mr__yaml *one = mr__yaml_child(job->root, "device");
    const struct mr__yaml *several = mr__yaml_child(job->root, "devices");
    const bool is_overridden = override && *override;
    const struct mr__place command_line = { .file = "--device" };
    job->device_place = is_overridden ? command_line : job->root->place;
    if (one && several)
        mr__field_problem(&job->reading, several,
                          "the job has `device` too; keep one of `device` and `devices`");
    if (is_overridden)
        add_devices(job, override, NULL);
    else if (several || one)
        read_devices(job, several ? several : one);
    if (!job->device_name_count && !job->has_all_devices)
        add_device(job, override ? override : "auto", one);
}

void mr__job_read(mr_job *job, const mr_job_options *options)
{
    static const char *const keys[] = { "name",   "device", "devices", "source", "inputs",
                                        "stages", "sinks",  "options", "vision", NULL };
    for (size_t k = 0; k < options->override_count; k++)
        if (!mr__yaml_set(&job->arena, &job->problems, job->root, options->overrides[k]))
            job->is_broken = true;
    static const char *const vision_keys[] = { "name", "device", "devices", "vision", NULL };
    const struct mr__yaml *vision = mr__yaml_child(job->root, "vision");
    if (!mr__field_map(&job->reading, job->root, vision ? "a vision job" : "the job",
                       vision ? vision_keys : keys))
        return;

    mr__field_text(&job->reading, mr__yaml_child(job->root, "name"), &job->name);
    read_device(job, options->device);
    if (vision) {
        job->vision = mr__vision_job_read(&job->reading, vision);
        return;
    }
    read_options(job, mr__yaml_child(job->root, "options"));
    read_side_inputs(job, mr__yaml_child(job->root, "inputs"));
    const struct mr__yaml *source = mr__yaml_child(job->root, "source");
    if (source)
        job->source = mr__source_read(&job->reading, source);
    else
        mr__field_problem(&job->reading, job->root,
                          "needs a `source`, such as { npy: frames.npy }");
    read_stages(job, mr__yaml_child(job->root, "stages"));
    read_sinks(job, mr__yaml_child(job->root, "sinks"));
    connect(job);
}
