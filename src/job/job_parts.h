/* SPDX-License-Identifier: MIT */
/*
 * job/job_parts.h - a job as read and checked, and what a run leaves behind.
 */
#ifndef MR__JOB_PARTS_H
#define MR__JOB_PARTS_H

#include "job/sink.h"
#include "job/source.h"
#include "job/stage.h"
#include "job/vision_job.h"

#include <stdatomic.h>

#define MR__STAGE_LIMIT 64
#define MR__SINK_LIMIT 64
#define MR__DEVICE_LIMIT 16

/* One sink of the pipeline. A preview of several panels is several of these. */
struct mr__job_sink {
    struct mr__sink *sink;
    const char *from_name;            /* NULL: the last stage */
    const struct mr__yaml *from_node; /* NULL likewise */
    uint32_t from;                    /* 0: the source, k: stage k-1 */
    bool is_panel;                    /* not the first of its image */
};

struct mr__job_device {
    const char *name; /* as the job says it */
    mr_device *device;
};

struct mr_job {
    struct mr__arena arena;
    struct mr__problems problems;
    struct mr__reading reading;
    const char *file, *name;
    struct mr__yaml *root;

    const char *device_names[MR__DEVICE_LIMIT]; /* one, or those of `devices` */
    const struct mr__yaml *device_nodes[MR__DEVICE_LIMIT];
    struct mr__place device_place; /* of those without a node */
    uint32_t device_name_count;
    bool has_all_devices;
    struct mr__job_device devices[MR__DEVICE_LIMIT];
    size_t device_count;
    mr_device *device;                  /* the job's own, one of these */
    mr_device *lanes[MR__DEVICE_LIMIT]; /* what it runs on; the first is `device` */
    uint32_t lane_count;
    mr_pipeline_options options;

    struct mr__stage_home home;
    struct mr__source *source;
    struct mr__flow source_flow;
    struct mr__stage *stages[MR__STAGE_LIMIT];
    uint32_t stage_count;
    uint32_t order[MR__STAGE_LIMIT]; /* indices of stages, inputs before users */
    struct mr__job_sink sinks[MR__SINK_LIMIT];
    uint32_t sink_count;
    bool is_broken;                /* names or graph do not hold together */
    struct mr__vision_job *vision; /* instead of source, stages and sinks; NULL: none */

    char *plan_text;
    atomic_int is_cancelled; /* set by mr_job_cancel, also from signal handlers */

    /* Of the last run. */
    bool has_run;
    mr_job_report report;
    mr_pipeline_report pipeline_report;
    char words[MR_ERROR_BYTES];
    char *json, *text;
};

/* ---- reading and checking (job_read.c, job_check.c) ---- */

/* Everything that the text says, without looking at types. Adds problems. */
void mr__job_read(mr_job *job, const mr_job_options *options);
/* What flows from stage to stage, devices, kernels, places of outputs. Adds problems. */
void mr__job_check(mr_job *job);

/* What the k-th `from` index means. */
const struct mr__flow *mr__job_flow(const mr_job *job, uint32_t from);
const char *mr__job_flow_name(const mr_job *job, uint32_t from);

/* ---- running (job_run.c) ---- */

/* Waits for a pipeline that has been started, tells progress and hands on a cancel. */
mr_status mr__job_wait(mr_job *job, mr_pipeline *pipeline, const mr_job_run_options *options);

/* ---- afterwards (job_report.c, job_words.c, job_verify.c) ---- */

/* Keeps what the pipeline and the sinks say. `pipeline` may be NULL. MR_E_NO_MEMORY leaves a report
 * without nodes. */
mr_status mr__job_keep_report(mr_job *job, const mr_pipeline *pipeline, bool is_published);
void mr__job_forget_report(mr_job *job);
/* All outputs stand under their names. */
void mr__job_mark_complete(mr_job *job);
/* The same as JSON and in words; NULL when memory is out. mr__free. */
char *mr__job_format_json(const mr_job *job);
char *mr__job_format_text(const mr_job *job);
char *mr__job_format_plan(const mr_job *job);

/* What each of several devices did (a json_t of Jansson's). */
void *mr__job_devices_json(const mr_pipeline_report *report);

/* Can the outputs be compared after a run? MR_E_UNSUPPORTED says why not. */
mr_status mr__job_can_verify(const mr_job *job);
/* Compares all comparable outputs of a run that ended well with the reference. */
mr_status mr__job_verify(mr_job *job, const mr_job_run_options *options);

#endif
