/* SPDX-License-Identifier: MIT */
/*
 * millrace/job.h - a job file: source, stages and sinks of a stream, in YAML, checked and run.
 *
 *     mr_job *job;
 *     if (mr_job_load("calibrate.yaml", NULL, &job) == MR_OK && mr_job_run(job, NULL) == MR_OK)
 *         puts(mr_job_report_text(job));
 *     else
 *         fprintf(stderr, "%s\n", mr_last_error());
 *     mr_job_destroy(job);
 *
 * What a job file may say is in millrace-job(5). Loading checks the whole of it (keys, types,
 * names, files, shapes from stage to stage, kernels, devices, places for the output) and reports
 * every problem it finds, each with its place and the remedy, before anything is written or run. A
 * job file names code to run: trust it as you would a Makefile. The data it streams is never
 * trusted.
 *
 * An output file appears under its name only when the run has ended well; after a failure or a
 * cancel what stood there before still stands.
 *
 * This header and libmillrace-job come beside libmillrace; <millrace/millrace.h> does not include
 * it.
 *
 * Ownership  mr_job_load and mr_job_parse give a job; mr_job_destroy takes it. Text that a job
 *            answers with is borrowed until the next run or destroy.
 * Threads    One thread at a time per job. mr_job_cancel is [any thread], and may be called from a
 *            signal handler.
 * Errors     mr_status. mr_last_error() has the words; for a job with several problems those of the
 *            first, and how many there are. A closed pipe is MR_E_CLOSED, in a program that ignores
 *            SIGPIPE.
 */
#ifndef MR_JOB_H
#define MR_JOB_H

#include <millrace/pipeline.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct mr_job mr_job;

/* One problem of a job. `text` is the whole message as a person wants to see it:
 * "calibrate.yaml:7:9: unknown operation 'medain3x3': did you mean 'median3x3'?". Borrowed for the
 * call. */
typedef struct mr_job_problem {
    const char *file; /* the job file, or "--set KEY=VALUE" for an override */
    uint32_t line;    /* from 1; 0 when the problem has no line */
    uint32_t column;  /* from 1; 0 likewise */
    mr_status status; /* what kind of problem */
    const char *text;
} mr_job_problem;

/* Zero means the default for every field. Everything is copied or used only during the call. */
typedef struct mr_job_options {
    /* Takes the place of the job's own `device` or `devices`; stages that name theirs keep it. Also
     * "all", or several: "cuda:0,cuda:1". NULL: what the job says. */
    const char *device;
    /* "key.path=value", applied in order before the checks. A path goes through keys, positions
     * ("stages.0") and names ("stages.q.low"); the value is YAML. Files named in a value are
     * relative to the working folder; files named in the job, to the job's folder. */
    const char *const *overrides;
    size_t override_count;
    /* mr_job_parse: the job's folder; NULL = the working folder. */
    const char *folder;
    /* Called for each problem; may be NULL. */
    void (*problem)(void *context, const mr_job_problem *problem);
    void *context;
} mr_job_options;

/* Reads and checks a job file. `options` may be NULL. MR_E_FORMAT: the text is not YAML or says
 * what a job cannot; MR_E_IO: the file cannot be read; else the status of the first problem. May
 * block (devices open, kernels compile). */
MR_API MR_MUST_USE mr_status mr_job_load(const char *path, const mr_job_options *options,
                                         mr_job **out);

/* The same from text in memory; `name` stands for the file in messages (NULL: "job"). */
MR_API MR_MUST_USE mr_status mr_job_parse(const char *text, size_t text_bytes, const char *name,
                                          const mr_job_options *options, mr_job **out);

/* Frees the job, its files and its devices. NULL is accepted. May block. */
MR_API void mr_job_destroy(mr_job *job);

/* The job's `name`, else its file's. Borrowed until destroy. */
MR_API const char *mr_job_name(const mr_job *job);

/* What will run, in words, one line per source, stage and sink with device, type and shape.
 * Borrowed until destroy. */
MR_API const char *mr_job_plan_text(const mr_job *job);

/* ---- running ---- */

/* What one of a job's several devices does. */
typedef struct mr_job_device_progress {
    char device[32];
    uint64_t items, bytes;   /* items that came out of it, bytes that went in */
    double bytes_per_second; /* that it was given, over the last seconds */
    double share;            /* of what all devices were given, over the last seconds; 0 to 1 */
    bool is_lost;            /* it failed: others do its work */
} mr_job_device_progress;

typedef struct mr_job_progress {
    uint64_t items_in, items_out, items_skipped;
    uint64_t item_count; /* expected; 0 = unknown */
    uint64_t bytes_in, bytes_out;
    double seconds;          /* since the start */
    double bytes_per_second; /* read from the source, over the last seconds */
    double seconds_left;     /* negative when unknown */
    bool is_verifying;       /* the run has ended well; its outputs are being compared */
    /* With several devices, in their order. Borrowed for the call. */
    const mr_job_device_progress *devices;
    size_t device_count;
} mr_job_progress;

/* Zero means the default for every field. */
typedef struct mr_job_run_options {
    /* Called on the calling thread; may be NULL. */
    void (*progress)(void *context, const mr_job_progress *now);
    void *context;
    uint64_t progress_interval_ns; /* 0 = 100 ms */
    /* Afterwards, read the source again, compute every item with the plain single-threaded
     * reference and compare the outputs: integers exactly, floats within the bounds of
     * millrace-job(5). MR_E_UNSUPPORTED, before the run, when the source cannot be read twice or no
     * sink can be compared. */
    bool is_verified;
} mr_job_run_options;

/* Runs the job to its end. `options` may be NULL.
 *   MR_OK            every item came out, or is listed as skipped (options.on_error); of images at
 *                    least one came out
 *   MR_E_CANCELLED   stopped by mr_job_cancel; no output was left under its name
 *   MR_E_MISMATCH    the outputs stand, but differ from the reference
 *   else             the first failure, naming the node and the item; no output under its name
 * A job may be run again. May block. */
MR_API MR_MUST_USE mr_status mr_job_run(mr_job *job, const mr_job_run_options *options);

/* Asks a run to stop; it comes back within about 50 ms plus what is in flight. Before a run: that
 * run stops at once. Never blocks. [any thread], and from signal handlers. */
MR_API void mr_job_cancel(mr_job *job);

/* ---- what happened ---- */

/* One output of the job. */
typedef struct mr_job_output {
    const char *name;      /* the sink's */
    const char *path;      /* NULL for standard output and null sinks */
    const char *kind;      /* "npy", "raw", "stdout", "png", "json", "null", "folder" */
    uint64_t items, bytes; /* as delivered, also where the run failed */
    bool is_complete;      /* it stands under its name */
    bool is_verified;      /* compared with the reference: see mr_job_report */
    uint64_t compared;     /* elements compared */
    uint64_t mismatches;   /* of them outside the bound */
    double largest_difference;
} mr_job_output;

typedef struct mr_job_report {
    mr_status status;  /* what mr_job_run answered */
    const char *words; /* of the failure; "" when there was none */
    double seconds;
    double bytes_per_second; /* from the source */
    double items_per_second;
    double verify_seconds; /* 0 when nothing was compared */
    const char *device;    /* the job's: "cuda:0", or "cuda:0, cuda:1" */
    /* Items, bytes, slots, chunk, nodes, overlap, skipped; NULL when the run failed before it
     * started. */
    const mr_pipeline_report *pipeline;
    const mr_job_output *outputs;
    size_t output_count;
} mr_job_report;

/* Of the last run, whatever its end. MR_E_STATE before the first. */
MR_API MR_MUST_USE mr_status mr_job_report_get(const mr_job *job, const mr_job_report **out);

/* The same as JSON (one object, indented) and in words (some lines). "" before the first run or
 * when memory is out. */
MR_API const char *mr_job_report_json(const mr_job *job);
MR_API const char *mr_job_report_text(const mr_job *job);

#ifdef __cplusplus
}
#endif
#endif
