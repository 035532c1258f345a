/* SPDX-License-Identifier: MIT */
/*
 * The vision job on the engine's pipeline against the same stages run one after another, from decoded images
 * in pinned memory; and on the CPU, all of the job on two cores against one.
 *
 *     bench_vision_job [--device D] [--images N] [--width W] [--height H] [--batch N] [--json FILE]
 *     bench_vision_job --cores [--images N] [--width W] [--height H] [--json FILE]
 *
 * The job makes its images (a copy of rows, by the decoding threads) and writes nothing but its summary, so
 * that neither files nor decoding are the limit; with --cores it writes all outputs. One after another: copy
 * in, textures, scores, tokens, copy out, each waited for, as a program without streams would; the same
 * with one wait an image; and, each waited for, with as many images in each step as a batch of the
 * pipelined job has (--batch; without it as the job chooses).
 */
#include "measure.h"
#include "require.h"

#include "vision/vision_model.h"

#include <millrace/job.h>

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { RUNS = 5, KINDS = 4 };

static const char *device_name;
static uint32_t image_count, width, height, batch_size; /* 0: as the job chooses */
static char folder[64];

/* ---- the job ---- */

static mr_job *load_job(const char *device, const char *mode, const char *outputs)
{
    char text[512], batch[32] = "";
    mr_job *job;
    if (batch_size && strstr(mode, "pipelined"))
        snprintf(batch, sizeof batch, ", batch: %u", batch_size);
    snprintf(text, sizeof text,
             "vision: { images: { generate: { count: %u, width: %u, height: %u } }, query: red,"
             " measure: false, outputs: %s, folder: %s, %s%s }\n",
             image_count, width, height, outputs, folder, mode, batch);
    require_ok(
        mr_job_parse(text, strlen(text), "bench", &(mr_job_options){ .device = device }, &job));
    return job;
}

/* Seconds of the pipeline, from its start to the last image. */
static double run_job(void *context)
{
    const mr_job_report *report;
    mr_job *job = context;
    require_ok(mr_job_run(job, NULL));
    require_ok(mr_job_report_get(job, &report));
    measure_require(report->pipeline && report->pipeline->items_out == image_count,
                    "not all images came out");
    return report->seconds;
}

/* ---- one after another ---- */

struct chain {
    mr_device *device;
    mr_stream *stream;
    struct mr__vision_model *model;
    struct mr__vision_plan plan;
    struct mr__vision_scorers *scorers;
    mr_buffer *inputs, *output;
    struct mr__vision_place image, textures, scores, result;
    uint32_t batch;  /* images in a step */
    bool is_waiting; /* after each step, not only after each batch */
};

static mr_buffer *make_buffer(const struct chain *chain, size_t size_bytes, mr_place place)
{
    mr_buffer *buffer;
    require_ok(mr_buffer_create(chain->device, size_bytes, &(mr_buffer_options){ .place = place },
                                &buffer));
    return buffer;
}

static struct mr__vision_place make_place(const struct chain *chain, size_t size_bytes)
{
    const size_t stride_bytes = (size_bytes + 255) & ~(size_t)255;
    return (struct mr__vision_place){
        .buffer = make_buffer(chain, chain->batch * stride_bytes, MR_PLACE_DEVICE),
        .stride_bytes = stride_bytes,
    };
}

/* For steps of up to `chain->batch` images. */
static void make_chain(struct chain *chain)
{
    struct mr__vision_parameters parameters = { 0 };
    require_ok(mr_device_open(device_name, NULL, &chain->device));
    require_ok(mr_stream_create(chain->device, NULL, &chain->stream));
    require_ok(mr__vision_query_from_word("red", &parameters.query));
    require_ok(mr__vision_parameters_check(&parameters));
    require_ok(mr__vision_plan(&parameters, width, height, 1, &chain->plan));
    require_ok(mr__vision_model_create(chain->device, &parameters, &chain->model));
    require_ok(mr__vision_scorers_create(chain->model, chain->batch * chain->plan.scratch_bytes, 0,
                                         &chain->scorers));
    chain->image = make_place(chain, chain->plan.image_bytes);
    chain->textures = make_place(chain, chain->plan.textures_bytes);
    chain->scores = make_place(chain, chain->plan.scores_bytes);
    chain->result = make_place(chain, chain->plan.result_bytes);
    const size_t input_bytes = KINDS * mr_buffer_size(chain->image.buffer);
    chain->inputs = make_buffer(chain, input_bytes, MR_PLACE_PINNED);
    chain->output = make_buffer(chain, mr_buffer_size(chain->result.buffer), MR_PLACE_PINNED);
    uint8_t *pixels = mr_buffer_host(chain->inputs);
    uint32_t noise = 1;
    for (size_t k = 0; k < input_bytes; k++) {
        noise = noise * 1664525 + 1013904223;
        pixels[k] = (uint8_t)(k / 3 % width * 200 / width + (noise >> 27));
    }
}

static void free_chain(struct chain *chain)
{
    mr__vision_scorers_destroy(chain->scorers);
    mr_buffer_destroy(chain->inputs);
    mr_buffer_destroy(chain->output);
    mr_buffer_destroy(chain->image.buffer);
    mr_buffer_destroy(chain->textures.buffer);
    mr_buffer_destroy(chain->scores.buffer);
    mr_buffer_destroy(chain->result.buffer);
    mr_stream_destroy(chain->stream);
    mr__vision_model_destroy(chain->model);
    require_ok(mr_device_close(chain->device));
}

static void step_ends(const struct chain *chain, bool is_last)
{
    if (chain->is_waiting || is_last)
        require_ok(mr_stream_wait(chain->stream));
}

static void check_tokens(const struct chain *chain, uint32_t image)
{
    const char *result =
        (const char *)mr_buffer_host(chain->output) + image * chain->result.stride_bytes;
    const uint32_t *tokens = (const void *)(result + chain->plan.tokens_offset);
    uint64_t sum = 0;
    for (uint32_t k = 0; k < chain->plan.patch_count; k++)
        sum += tokens[k];
    measure_require(sum == chain->plan.budget, "%llu tokens of %u", (unsigned long long)sum,
                    chain->plan.budget);
}

static double run_chain(void *context)
{
    struct chain *chain = context;
    const struct mr__vision_plan *plan = &chain->plan;
    const double began_s = measure_now_s();
    const uint32_t batch = chain->batch;
    const size_t input_bytes = batch * chain->image.stride_bytes;
    for (uint32_t i = 0; i < image_count; i += batch) {
        require_ok(mr_copy(chain->stream, chain->image.buffer, 0, chain->inputs,
                           i / batch % KINDS * input_bytes, input_bytes));
        step_ends(chain, false);
        require_ok(mr__vision_enqueue_textures(chain->model, plan, batch, chain->stream, 0,
                                               chain->image, chain->textures));
        step_ends(chain, false);
        require_ok(mr__vision_enqueue_scores(chain->model, plan, batch, chain->scorers,
                                             chain->stream, 0, chain->image, chain->textures,
                                             chain->scores));
        step_ends(chain, false);
        require_ok(mr__vision_enqueue_tokens(chain->model, plan, batch, chain->stream, 0,
                                             chain->textures, chain->scores, chain->result));
        step_ends(chain, false);
        require_ok(mr_copy(chain->stream, chain->output, 0, chain->result.buffer, 0,
                           batch * chain->result.stride_bytes));
        step_ends(chain, true);
        for (uint32_t k = 0; k < batch; k++)
            check_tokens(chain, k);
    }
    return measure_now_s() - began_s;
}

/* The copies in alone, as many images in each as in the chain's steps: nothing brings images in faster. */
static double run_copies(void *context)
{
    struct chain *chain = context;
    const size_t input_bytes = chain->batch * chain->image.stride_bytes;
    const double began_s = measure_now_s();
    for (uint32_t i = 0; i < image_count; i += chain->batch)
        require_ok(mr_copy(chain->stream, chain->image.buffer, 0, chain->inputs,
                           i / chain->batch % KINDS * input_bytes, input_bytes));
    require_ok(mr_stream_wait(chain->stream));
    return measure_now_s() - began_s;
}

/* ---- against one another ---- */

static void compare(struct measure_report *report)
{
    const char *size = "decoded images";
    const mr_job_report *job_report;
    mr_job *pipelined = load_job(device_name, "mode: pipelined", "[]");
    const double pipelined_s = measure_median_of(run_job, pipelined, RUNS);
    require_ok(mr_job_report_get(pipelined, &job_report));
    const uint32_t batch = job_report->pipeline->parcel_items;
    mr_job_destroy(pipelined);
    measure_require(image_count % batch == 0, "%u images are no batches of %u", image_count, batch);

    struct chain chain = { .batch = batch, .is_waiting = true };
    make_chain(&chain);
    const double batches_s = measure_median_of(run_chain, &chain, RUNS);
    const double copies_s = measure_median_of(run_copies, &chain, RUNS);
    chain.batch = 1;
    const double steps_s = measure_median_of(run_chain, &chain, RUNS);
    chain.is_waiting = false;
    const double images_s = measure_median_of(run_chain, &chain, RUNS);
    free_chain(&chain);
    mr_job *concurrent = load_job(device_name, "mode: concurrent", "[]");
    const double concurrent_s = measure_median_of(run_job, concurrent, RUNS);
    mr_job_destroy(concurrent);

    const double best_s = pipelined_s < concurrent_s ? pipelined_s : concurrent_s;
    measure_report_add(report, image_count / steps_s, "images/s", "%s: one stage after another",
                       size);
    measure_report_add(report, image_count / images_s, "images/s", "%s: one image after another",
                       size);
    measure_report_add(report, image_count / batches_s, "images/s",
                       "%s: one stage after another, %u at a time", size, batch);
    measure_report_add(report, image_count / pipelined_s, "images/s",
                       "%s: job, pipelined in batches of %u", size, batch);
    measure_report_add(report, image_count / concurrent_s, "images/s", "%s: job, concurrent", size);
    measure_report_target(report, steps_s / best_s, "x", ">=", 2.2,
                          "%s: the better mode against one stage after another", size);
    measure_report_target(report, steps_s / pipelined_s, "x", ">=", 2.2,
                          "%s: pipelined against one stage after another", size);
    measure_report_add(report, image_count / copies_s, "images/s", "%s: copied in, nothing else",
                       size);
    measure_report_add(report, copies_s / best_s * 100, "%", "%s: the better mode, of that", size);
    measure_report_add(report, batches_s / pipelined_s, "x",
                       "%s: pipelined against one stage after another, %u at a time", size, batch);
}

/* ---- cores ---- */

/* In a process of its own, which may use the first `count` of our CPUs. */
static double run_on(int count)
{
    int ends[2];
    double seconds = 0;
    measure_require(pipe(ends) == 0, "no pipe");
    const pid_t child = fork();
    measure_require(child >= 0, "no process");
    if (child) {
        close(ends[1]);
        measure_require(read(ends[0], &seconds, sizeof seconds) == sizeof seconds,
                        "the run on %d cores failed", count);
        close(ends[0]);
        waitpid(child, NULL, 0);
        return seconds;
    }
    cpu_set_t all, some;
    CPU_ZERO(&some);
    measure_require(sched_getaffinity(0, sizeof all, &all) == 0, "no affinity");
    for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&some) < count; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &some);
    measure_require(sched_setaffinity(0, sizeof some, &some) == 0, "no affinity");
    mr_job *job = load_job("cpu", "mode: auto", "[tokens, scores, compressed, overlay, sheet]");
    seconds = run_job(job);
    mr_job_destroy(job);
    measure_require(write(ends[1], &seconds, sizeof seconds) == sizeof seconds, "no answer");
    _exit(0);
}

/* In turns, so that what else the machine does falls on both. */
static void compare_cores(struct measure_report *report)
{
    double one[RUNS], two[RUNS], ratios[RUNS];
    for (int run = 0; run < RUNS; run++) {
        one[run] = run_on(1);
        two[run] = run_on(2);
        ratios[run] = one[run] / two[run];
    }
    measure_report_add(report, image_count / measure_median(one, RUNS), "images/s",
                       "cpu, all outputs: one core");
    measure_report_add(report, image_count / measure_median(two, RUNS), "images/s",
                       "cpu, all outputs: two cores");
    measure_report_target(report, measure_median(ratios, RUNS), "x", ">=", 1.8,
                          "cpu, all outputs: two cores against one");
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "vision_job", &argc, argv);
    bool has_cores = false;
    for (int k = 1; k < argc; k++)
        has_cores = has_cores || strcmp(argv[k], "--cores") == 0;
    device_name = measure_option(argc, argv, "device", "auto");
    image_count = (uint32_t)measure_option_number(argc, argv, "images", has_cores ? 24 : 512);
    width = (uint32_t)measure_option_number(argc, argv, "width", 1024);
    height = (uint32_t)measure_option_number(argc, argv, "height", 768);
    batch_size = (uint32_t)measure_option_number(argc, argv, "batch", 0);
    strcpy(folder, "/tmp/millrace-bench-XXXXXX");
    measure_require(mkdtemp(folder) != NULL, "no folder in /tmp");
    if (has_cores)
        compare_cores(&report);
    else
        compare(&report);
    char command[96];
    snprintf(command, sizeof command, "rm -r %s", folder);
    measure_require(system(command) == 0, "%s stays behind", folder);
    return measure_report_finish(&report);
}
