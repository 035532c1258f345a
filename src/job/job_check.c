/* SPDX-License-Identifier: MIT */
/*
 * What flows from node to node: devices opened, types inferred, kernels made, outputs looked at. A
 * stage whose inputs are not known is left out, so that one mistake gives one problem.
 */
#include "job/job_parts.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

const struct mr__flow *mr__job_flow(const mr_job *job, uint32_t from)
{
    return from ? &job->stages[from - 1]->output : &job->source_flow;
}

const char *mr__job_flow_name(const mr_job *job, uint32_t from)
{
    return from ? job->stages[from - 1]->name : "source";
}

static bool is_known(const mr_job *job, uint32_t from)
{
    return from ? job->stages[from - 1]->is_inferred : job->source != NULL;
}

/* ---- devices ---- */

static mr_device *open_device(mr_job *job, const char *name, const struct mr__yaml *node)
{
    for (size_t k = 0; k < job->device_count; k++)
        if (strcmp(job->devices[k].name, name) == 0)
            return job->devices[k].device;
    if (job->device_count == MR__DEVICE_LIMIT) {
        mr__problem_add(&job->problems, MR_E_INVALID, node ? &node->place : NULL,
                        "more than %d devices", MR__DEVICE_LIMIT);
        return NULL;
    }
    /* A device that is not here is kept as NULL, so that it is reported once. */
    struct mr__job_device *added = &job->devices[job->device_count++];
    added->name = name;
    const mr_status status = mr_device_open(name, NULL, &added->device);
    if (status)
        mr__problem_add_last(&job->problems, status, node ? &node->place : &job->device_place,
                             "device '%.60s'", name);
    return added->device;
}

/* All GPUs that are here, or the CPU where none is. */
static void name_all(mr_job *job)
{
    mr_device_listing lines[2 * MR__DEVICE_LIMIT];
    size_t count = 0;
    if (mr_device_list(lines, 2 * MR__DEVICE_LIMIT, &count))
        count = 0;
    for (size_t k = 0; k < count && k < 2 * MR__DEVICE_LIMIT; k++) {
        if (!lines[k].is_available || strcmp(lines[k].id, "cpu") == 0 ||
            job->device_name_count == MR__DEVICE_LIMIT)
            continue;
        const char *name = mr__arena_copy(&job->arena, lines[k].id, strlen(lines[k].id));
        if (name)
            job->device_names[job->device_name_count++] = name;
    }
    if (!job->device_name_count)
        job->device_names[job->device_name_count++] = "cpu";
}

static void add_lane(mr_job *job, uint32_t index)
{
    const struct mr__yaml *node = job->device_nodes[index];
    mr_device *device = open_device(job, job->device_names[index], node);
    for (uint32_t k = 0; device && k < job->lane_count; k++) {
        if (job->lanes[k] == device) {
            mr__problem_add(&job->problems, MR_E_INVALID, node ? &node->place : &job->device_place,
                            "device '%.60s' is named twice; name each once",
                            job->device_names[index]);
            return;
        }
    }
    if (device)
        job->lanes[job->lane_count++] = device;
}

static void open_lanes(mr_job *job)
{
    if (job->has_all_devices)
        name_all(job);
    for (uint32_t k = 0; k < job->device_name_count; k++)
        add_lane(job, k);
    job->device = job->lane_count ? job->lanes[0] : NULL;
}

static bool is_cpu(mr_device *device)
{
    return strcmp(mr_device_id(device), "cpu") == 0;
}

static bool choose_device(mr_job *job, struct mr__stage *stage)
{
    if (stage->device_name) {
        stage->device = open_device(job, stage->device_name, stage->device_node);
        if (stage->device && stage->is_host_work && !is_cpu(stage->device)) {
            mr__field_problem(&job->reading, stage->device_node,
                              "`work` runs on the host; leave `device` out, or use `submit`");
            return false;
        }
    } else if (stage->is_host_work) {
        stage->device = open_device(job, "cpu", stage->node);
    } else {
        stage->device = job->device;
    }
    return stage->device != NULL;
}

/* ---- types ---- */

static void know_source(mr_job *job)
{
    job->source_flow = (struct mr__flow){ .type = job->source->type,
                                          .item_bytes = job->source->item_bytes,
                                          .has_short_last = job->source->has_short_last };
}

static bool check_short_last(const mr_job *job, const struct mr__stage *stage)
{
    for (uint32_t k = 0; k < stage->input_count; k++) {
        if (!stage->inputs[k]->has_short_last || stage->op->takes_short_items)
            continue;
        mr__stage_refuse(&job->reading, stage, k,
                         "the last item may be shorter (`short_last: keep`), and %s needs whole "
                         "ones; say `short_last: pad` or `drop`",
                         stage->op->name);
        return false;
    }
    return true;
}

static void infer_stage(mr_job *job, struct mr__stage *stage)
{
    if (stage->is_broken)
        return;
    for (uint32_t k = 0; k < stage->input_count; k++) {
        if (!is_known(job, stage->input_indices[k]))
            return;
        stage->inputs[k] = mr__job_flow(job, stage->input_indices[k]);
    }
    if (choose_device(job, stage) && check_short_last(job, stage))
        stage->is_inferred = stage->op->infer(&job->reading, stage);
}

static void open_stage(mr_job *job, struct mr__stage *stage)
{
    if (!stage->is_inferred)
        return;
    const mr_status status = stage->op->open(stage);
    if (status)
        mr__problem_add_last(&job->problems, status, &stage->node->place, "stage '%s'",
                             stage->name);
}

/* ---- several devices ---- */

/* Items of built-in operations and of kernels do not depend on each other; what an object keeps, only
 * its maker knows. */
static bool settle_replicas(mr_job *job, struct mr__stage *stage)
{
    const struct mr__yaml *node = mr__stage_key(stage, "replicas");
    if (stage->replicas > 1)
        return true;
    if (!node && stage->op != &mr__op_object) {
        stage->replicas = MR_REPLICAS_AUTO;
        return true;
    }
    mr__field_problem(
        &job->reading, node ? node : stage->node,
        "stage '%s' takes its items in order, but the job runs on %u devices at once; "
        "say `replicas: auto` if its items do not depend on each other, or name one "
        "device",
        stage->name, job->lane_count);
    return false;
}

/* One of each stage for each device; one that has a device of its own, or works on the host, stays
 * there, but keeps what it keeps for each. */
static void clone_stage(mr_job *job, struct mr__stage *stage)
{
    struct mr__stage **lanes =
        mr__arena_zalloc(&job->arena, job->lane_count * sizeof(struct mr__stage *));
    if (!lanes)
        return;
    lanes[0] = stage;
    stage->lane_count = 1;
    stage->lanes = lanes;
    for (uint32_t k = 1; k < job->lane_count; k++) {
        const bool is_pinned = stage->device_name || stage->is_host_work;
        const mr_status status = mr__stage_clone(
            &job->reading, stage, is_pinned ? stage->device : job->lanes[k], &lanes[k]);
        if (status) {
            mr__problem_add_last(&job->problems, status, &stage->node->place, "stage '%s'",
                                 stage->name);
            return;
        }
        stage->lane_count++;
    }
}

/* Where no stage is to run on each device, there is nothing to spread. */
static void spread_stages(mr_job *job)
{
    bool is_spread = false, is_good = true;
    for (uint32_t k = 0; k < job->stage_count; k++)
        is_spread |= !job->stages[k]->device_name && !job->stages[k]->is_host_work;
    if (!is_spread) {
        job->lane_count = 1;
        return;
    }
    for (uint32_t k = 0; k < job->stage_count; k++)
        is_good &= settle_replicas(job, job->stages[k]);
    for (uint32_t k = 0; k < job->stage_count && is_good; k++)
        clone_stage(job, job->stages[k]);
}

/* ---- outputs ---- */

/* The file that a path leads to; false when there is none. */
static bool real_file(const char *path, char real[PATH_MAX])
{
    return path && realpath(path, real) != NULL;
}

/* An output may not take the place of what the job reads. */
static void check_overwrite(mr_job *job, const struct mr__sink *sink)
{
    char target[PATH_MAX], source[PATH_MAX];
    if (!real_file(sink->output.path, target))
        return;
    const char *reads[2] = { job->source ? job->source->label : NULL, job->file };
    for (size_t k = 0; k < 2; k++)
        if (real_file(reads[k], source) && strcmp(source, target) == 0 &&
            strncmp(target, "/dev/", 5))
            mr__field_problem(&job->reading, sink->node,
                              "%s is what the job reads; choose another file", sink->output.path);
    for (size_t k = 0; k < job->home.side_input_count; k++)
        if (real_file(job->home.side_inputs[k].path, source) && strcmp(source, target) == 0)
            mr__field_problem(&job->reading, sink->node,
                              "%s is the input '%s'; choose another file", sink->output.path,
                              job->home.side_inputs[k].name);
}

static void check_sink(mr_job *job, const struct mr__job_sink *job_sink)
{
    struct mr__sink *sink = job_sink->sink;
    if (!is_known(job, job_sink->from))
        return;
    const struct mr__flow *flow = mr__job_flow(job, job_sink->from);
    sink->input = (struct mr__sink_input){
        .type = flow->type,
        .item_bytes = flow->item_bytes,
        .item_count = job->source->item_count,
        .is_counted = job->source->is_counted,
        .has_short_last = flow->has_short_last,
        .may_skip = job->options.on_error == MR_ERROR_SKIP,
        .fields = flow->fields,
        .name = mr__job_flow_name(job, job_sink->from),
    };
    sink->ops->check(&job->reading, sink);
    check_overwrite(job, sink);
}

void mr__job_check(mr_job *job)
{
    if (job->source)
        know_source(job);
    open_lanes(job);
    if (job->is_broken || job->vision)
        return;
    for (uint32_t k = 0; k < job->stage_count; k++)
        infer_stage(job, job->stages[job->order[k]]);
    for (uint32_t k = 0; k < job->stage_count; k++)
        open_stage(job, job->stages[job->order[k]]);
    for (uint32_t k = 0; k < job->sink_count; k++)
        check_sink(job, &job->sinks[k]);
    if (job->lane_count > 1 && !job->problems.count)
        spread_stages(job);
}
