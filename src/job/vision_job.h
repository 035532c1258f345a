/* SPDX-License-Identifier: MIT */
/*
 * job/vision_job.h - the vision job: what its part of a job file says, what a run needs, what it
 * leaves. The numbers are the model's (vision/vision_model.h); files, threads and folders are here.
 */
#ifndef MR__JOB_VISION_JOB_H
#define MR__JOB_VISION_JOB_H

#include "job/fields.h"
#include "vision/image_read.h"
#include "vision/vision_model.h"

#include <stdatomic.h>
#include <sys/types.h>

enum mr__vision_mode { MR__VISION_AUTO, MR__VISION_CONCURRENT, MR__VISION_PIPELINED };
extern const char *const mr__vision_mode_names[];

enum mr__vision_output {
    MR__VISION_OUT_TOKENS,     /* tokens/NAME.npy and .json */
    MR__VISION_OUT_SCORES,     /* scores/NAME.npy */
    MR__VISION_OUT_COMPRESSED, /* compressed/NAME.npy and NAME.index.npy */
    MR__VISION_OUT_OVERLAY,    /* overlay/NAME.png */
    MR__VISION_OUT_SHEET,      /* index.html and sheet/NAME.jpg */
    MR__VISION_OUTPUTS
};
/* The names of the outputs, which are those of their folders too. */
extern const char *const mr__vision_output_names[];

enum { MR__VISION_BINS = 16 };

/* The stages of one image that are timed apart; the device's are measured there. */
enum mr__vision_stage {
    MR__VISION_DECODE,
    MR__VISION_TEXTURES,
    MR__VISION_SCORE,
    MR__VISION_ALLOCATE, /* tokens and compressed array */
    MR__VISION_WRITE,
    MR__VISION_STAGES
};
const char *mr__vision_stage_name(uint32_t stage);

/* What is known of one image when its outputs are written. */
struct mr__vision_note {
    uint64_t write_ns;
    uint32_t least, most;           /* tokens of a patch, as given out */
    uint32_t bins[MR__VISION_BINS]; /* patches by tokens, from the parameters' least to most */
    float lowest[3], highest[3];    /* of the three scores */
    uint64_t bytes[MR__VISION_OUTPUTS];
};

struct mr__vision_record {
    const char *path; /* as listed */
    const char *name; /* of its outputs, without ending */
    struct mr__image_info info;
    struct mr__vision_plan plan;
    mr_status status;                     /* why it is skipped; MR_OK otherwise */
    char *words;                          /* without the path; mr__free */
    bool is_done;                         /* its outputs are written */
    uint64_t stage_ns[MR__VISION_STAGES]; /* 0: not measured */
    struct mr__vision_note note;
};

/* Paths of images, in the order of the run. */
struct mr__vision_list {
    struct mr__vision_record *records;
    size_t count, capacity;
    dev_t out_device; /* the folder of outputs, which is not looked into */
    ino_t out_inode;
    struct mr__arena texts; /* paths and names */
};

/* Images that are made: each a window of one painting. */
struct mr__vision_scene {
    uint32_t image_width, image_height;
    uint64_t seed;
    uint32_t width, height; /* of the painting */
    uint8_t *pixels;        /* NULL until it is painted. mr__free */
};

/* A folder that appears under its name when all of it is there. */
struct mr__vision_folder {
    const char *path;
    char *temporary; /* mr__free */
};

struct mr__vision_job {
    const struct mr__yaml *node;
    /* As read. */
    const char *label;     /* of the source */
    const char *list_path; /* a file of paths, "-" for standard input; NULL: listed at load */
    bool is_recursive;
    uint64_t limit; /* images at most; 0 = all */
    struct mr__vision_list list;
    uint64_t made_count; /* images to be made, instead of files; 0 = none */
    struct mr__vision_scene scene;
    struct mr__image_options image;
    uint64_t memory_limit; /* of a run's images on each device and on the host; 0 = auto */
    struct mr__vision_parameters parameters;
    const char *query_text; /* for the sheet; "" without a query */
    enum mr__vision_mode mode;
    uint32_t set_count, batch_size, decode_threads, slot_count; /* 0 = auto */
    uint32_t measure_period;                                    /* one image in so many; 0 = auto */
    bool is_skipping, is_measured;
    bool has_output[MR__VISION_OUTPUTS];
    struct mr__vision_folder folder;

    /* Of a run. */
    enum mr__vision_mode mode_used;
    uint32_t sets_used, batch_used, threads_used; /* sets of each device */
    uint32_t period_used;                         /* in batches */
    atomic_uint_fast64_t skipped;                 /* so far */
    uint64_t done, due;                           /* images; due: whose header could be read */
    uint64_t bins[MR__VISION_BINS];
    uint64_t output_bytes[MR__VISION_OUTPUTS];
    uint64_t compared[MR__VISION_OUTPUTS], mismatches[MR__VISION_OUTPUTS];
    double largest_difference[MR__VISION_OUTPUTS];
};

struct mr_job;
struct mr_job_run_options;

/* ---- reading (vision_read.c, vision_query_read.c) ---- */

/* The `vision` of a job. NULL when memory is out. Adds problems. */
struct mr__vision_job *mr__vision_job_read(const struct mr__reading *reading,
                                           const struct mr__yaml *node);
void mr__vision_job_fini(struct mr__vision_job *vision); /* NULL is accepted */

bool mr__vision_read_query(const struct mr__reading *reading, const struct mr__yaml *node,
                           struct mr__vision_job *vision);

/* ---- the list (vision_list.c) ---- */

/* False when memory is out. `length` may exclude a line's end. */
bool mr__vision_list_add(struct mr__vision_list *list, const char *path, size_t length);
/* Images of a folder by name, numbers by value; MR_E_IO when it cannot be read. */
mr_status mr__vision_list_folder(struct mr__vision_list *list, const char *path, bool is_recursive);
mr_status mr__vision_list_pattern(struct mr__vision_list *list, const char *pattern);
/* One path a line; relative ones from the file's folder. "-": standard input, the working folder;
 * there `is_cancelled` ends the wait. */
mr_status mr__vision_list_lines(struct mr__vision_list *list, const char *path,
                                const atomic_int *is_cancelled);
/* Gives every image a name of its own. MR_E_NO_MEMORY. */
mr_status mr__vision_list_name(struct mr__vision_list *list);
/* Records as before a run. */
void mr__vision_list_reset(struct mr__vision_list *list);
void mr__vision_list_fini(struct mr__vision_list *list);

/* Notes why an image is skipped, with this thread's words. */
void mr__vision_record_fail(struct mr__vision_record *record, mr_status status);

/* ---- decoding (vision_generate.c, vision_crew.c) ---- */

mr_status mr__vision_scene_paint(struct mr__vision_scene *scene);
/* Image `index` of a painted scene. [any thread] */
void mr__vision_scene_cut(const struct mr__vision_scene *scene, uint64_t index, void *pixels);
void mr__vision_scene_fini(struct mr__vision_scene *scene);

/* An image's pixels, made or from its file; `file` is used again and again. The words of a failure
 * do not name the file. [any thread], each with its `file` */
mr_status mr__vision_load(const struct mr__vision_job *vision,
                          const struct mr__vision_record *record, struct mr__image_file *file,
                          void *pixels, size_t capacity_bytes);

/* Threads that decode ahead, in order, into pinned buffers. */
struct mr__vision_crew;

/* Images are those of `due`, indices of records; there is room for `place_count` of `place_bytes`, one
 * behind the other in memory. */
mr_status mr__vision_crew_create(struct mr__vision_job *vision, mr_device *device,
                                 const uint32_t *due, size_t due_count, uint32_t place_count,
                                 size_t place_bytes, struct mr__vision_crew **out);
/* The next image that could be decoded, and where it lies: behind the one before, or at the beginning
 * again; MR_END after the last; a failure where it is not to be skipped. May block. */
mr_status mr__vision_crew_next(struct mr__vision_crew *crew, struct mr__vision_record **record,
                               mr_buffer **buffer, size_t *offset);
/* Takes the places of the oldest `count` images back. */
void mr__vision_crew_give_back(struct mr__vision_crew *crew, uint32_t count);
/* Makes `next` come back. [any thread] */
void mr__vision_crew_interrupt(struct mr__vision_crew *crew);
void mr__vision_crew_destroy(struct mr__vision_crew *crew); /* NULL is accepted */

/* ---- running (vision_run.c) ---- */

mr_status mr__vision_run(struct mr_job *job, const struct mr_job_run_options *options);
mr_status mr__vision_can_verify(const struct mr_job *job);
mr_status mr__vision_verify(struct mr_job *job, const struct mr_job_run_options *options);

/* ---- outputs (vision_folder.c, vision_write.c, vision_sheet.c) ---- */

/* Can the folder be written? Adds problems. */
bool mr__vision_folder_check(const struct mr__reading *reading, const struct mr__yaml *node,
                             const char *path);
mr_status mr__vision_folder_open(struct mr__vision_folder *folder, const bool *has_output);
/* A file in it, "" without `kind`. */
mr_status mr__vision_folder_write(const struct mr__vision_folder *folder, const char *kind,
                                  const char *name, const char *ending, const void *data,
                                  size_t size_bytes);
mr_status mr__vision_folder_publish(struct mr__vision_folder *folder, const bool *has_output);
/* Accepts any state, any number of times. */
void mr__vision_folder_abandon(struct mr__vision_folder *folder);

/* Everything of one image. [any thread] */
mr_status mr__vision_write(const struct mr__vision_job *vision,
                           const struct mr__vision_record *record, const void *pixels,
                           const void *result, struct mr__vision_note *note);

/* index.html and summary.json, after the report was kept. */
mr_status mr__vision_write_sheet(const struct mr_job *job);
mr_status mr__vision_write_summary(const struct mr_job *job);

/* ---- reports (vision_report.c) ---- */

/* The mean over the images that were measured; 0 without any. */
double mr__vision_stage_mean_ns(const struct mr__vision_job *vision, uint32_t stage);
enum { MR__VISION_BATCH_WORDS = 32 };
/* " in batches of 8", or nothing for single images; in `text`. */
const char *mr__vision_say_batch(const struct mr__vision_job *vision,
                                 char text[MR__VISION_BATCH_WORDS]);
/* Images whose stages on the device were timed. */
uint64_t mr__vision_measured(const struct mr__vision_job *vision);

struct mr__words;
/* What is added to the job's words, and the `vision` of its JSON (a json_t of Jansson's). */
void mr__vision_say_plan(struct mr__words *words, const struct mr_job *job);
void mr__vision_say_report(struct mr__words *words, const struct mr_job *job);
void *mr__vision_report_json(const struct mr_job *job);

#endif
