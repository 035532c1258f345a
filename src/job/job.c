/* SPDX-License-Identifier: MIT */
/*
 * The life of a job: loaded, asked, destroyed. Reading is job_read.c, running job_run.c.
 */
#include "base/alloc.h"
#include "base/file.h"
#include "job/job_parts.h"
#include "job/remedy.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const mr_job_options no_options;

static void close_devices(mr_job *job)
{
    for (size_t k = 0; k < job->device_count; k++)
        if (job->devices[k].device && mr_device_close(job->devices[k].device))
            continue; /* others still use the device; it stays theirs */
}

static void close_stage(struct mr__stage *stage)
{
    if (stage->op && stage->op->end && stage->arguments)
        stage->op->end(stage);
    if (stage->op && stage->op->close && stage->arguments)
        stage->op->close(stage);
}

void mr_job_destroy(mr_job *job)
{
    if (!job)
        return;
    mr__job_forget_report(job);
    for (uint32_t k = 0; k < job->sink_count; k++)
        mr__sink_abandon(job->sinks[k].sink);
    for (uint32_t k = 0; k < job->stage_count; k++) {
        struct mr__stage *stage = job->stages[k];
        for (uint32_t lane = 1; lane < stage->lane_count; lane++)
            close_stage(stage->lanes[lane]);
        close_stage(stage);
    }
    for (size_t k = 0; k < job->home.side_input_count; k++)
        mr__side_input_fini(&job->home.side_inputs[k]);
    mr__source_fini(job->source);
    mr__vision_job_fini(job->vision);
    close_devices(job);
    mr__free(job->plan_text);
    mr__arena_fini(&job->arena);
    mr__free(job);
}

/* The job's name where it says none: its file's, without folder and ending. */
static const char *name_of_file(struct mr__arena *arena, const char *file)
{
    const char *base = strrchr(file, '/');
    base = base ? base + 1 : file;
    const char *dot = strrchr(base, '.');
    return mr__arena_copy(arena, base, dot && dot != base ? (size_t)(dot - base) : strlen(base));
}

static void prepare(mr_job *job, const char *name, const char *folder,
                    const mr_job_options *options)
{
    job->problems.report = options->problem;
    job->problems.context = options->context;
    job->file = mr__arena_copy(&job->arena, name, strlen(name));
    job->name = name_of_file(&job->arena, name);
    job->reading.arena = &job->arena;
    job->reading.problems = &job->problems;
    job->reading.folder = mr__arena_copy(&job->arena, folder, strlen(folder));
}

static mr_status build(mr_job *job, const char *text, size_t text_bytes,
                       const mr_job_options *options)
{
    if (!job->arena.is_out)
        job->root = mr__yaml_read(&job->arena, &job->problems, job->file, text, text_bytes);
    if (job->root)
        mr__job_read(job, options);
    if (job->root && !job->arena.is_out)
        mr__job_check(job);
    if (!job->arena.is_out && !job->problems.count) {
        job->plan_text = mr__job_format_plan(job);
        job->arena.is_out = !job->plan_text;
    }
    if (job->arena.is_out)
        return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory while reading the job",
                            job->file ? job->file : "job");
    return mr__problems_end(&job->problems);
}

static mr_status create(const char *text, size_t text_bytes, const char *name, const char *folder,
                        const mr_job_options *options, mr_job **out)
{
    mr_job *job = mr__zalloc(sizeof *job);
    if (!job)
        return mr_error_set(MR_E_NO_MEMORY, "%s: out of memory", name);
    prepare(job, name, folder, options);
    const mr_status status = build(job, text, text_bytes, options);
    /* Nobody listens to problems after this. */
    job->problems.report = NULL;
    if (status)
        mr_job_destroy(job);
    else
        *out = job;
    return status;
}

mr_status mr_job_parse(const char *text, size_t text_bytes, const char *name,
                       const mr_job_options *options, mr_job **out)
{
    *out = NULL;
    if (!text)
        return mr_error_set(MR_E_INVALID, "mr_job_parse: no text");
    if (!options)
        options = &no_options;
    return create(text, text_bytes, name ? name : "job", options->folder ? options->folder : "",
                  options, out);
}

/* ---- from a file ---- */

static mr_status file_failure(const char *path, int code, const mr_job_options *options)
{
    struct mr__problems problems = { .report = options->problem, .context = options->context };
    const struct mr__place place = { .file = path };
    char text[MR__REMEDY_BYTES];
    const char *remedy = mr__file_remedy(path, code, ".yaml", text);
    if (!remedy[0] && code == ENOENT)
        remedy = "; millrace-job(5) shows how to write one";
    mr__problem_add(&problems, MR_E_IO, &place, "%s%s", strerror(code), remedy);
    return mr__problems_end(&problems);
}

mr_status mr_job_load(const char *path, const mr_job_options *options, mr_job **out)
{
    *out = NULL;
    if (!path || !path[0])
        return mr_error_set(MR_E_INVALID, "mr_job_load: no path");
    if (!options)
        options = &no_options;
    if (strlen(path) >= PATH_MAX)
        return file_failure(path, ENAMETOOLONG, options);
    const int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return file_failure(path, errno, options);

    /* One byte more than the limit is enough to refuse a text that is too long. */
    size_t text_bytes = 0;
    char *text = mr__zalloc(MR__YAML_TEXT_LIMIT + 1);
    const int code =
        text && !mr__file_read(file, text, MR__YAML_TEXT_LIMIT + 1, &text_bytes) ? errno : 0;
    close(file);
    mr_status status;
    if (!text) {
        status = mr_error_set(MR_E_NO_MEMORY, "%s: out of memory", path);
    } else if (code) {
        status = file_failure(path, code, options);
    } else {
        char folder[PATH_MAX];
        snprintf(folder, sizeof folder, "%s", path);
        const char *parent = strchr(folder, '/') ? dirname(folder) : "";
        status = create(text, text_bytes, path, parent, options, out);
    }
    mr__free(text);
    return status;
}

const char *mr_job_name(const mr_job *job)
{
    return job->name;
}

const char *mr_job_plan_text(const mr_job *job)
{
    return job->plan_text;
}
