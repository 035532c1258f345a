/* SPDX-License-Identifier: MIT */
/*
 * The stages of the vision job on a device, from decoded images: what each moves per second beside a copy
 * inside the device's memory, and images per second one after another and over several sets of streams.
 *
 *     bench_vision_stages [--device D] [--workers N] [--from 0|1|2] [--sizes 1|2|3] [--images N]
 *                         [--sets N] [--dump FOLDER] [--json FILE]
 *
 * Bytes that a stage must move, for each pixel of u8 and without what is small beside them:
 *     textures   3 read, 13 * 4 written                                                       55
 *     scores     3 for histograms, 6 * 4 for contrast and the query, all read                 27
 *     tokens     13 * 4 read                                                                  52
 * Small images also in batches as the job has them, which a stage takes in the same launches.
 * With --dump one image and what came of it are written for vision_pytorch.py. Every result is compared
 * with that of the first run over the same image.
 */
#include "measure.h"
#include "require.h"

#include "vision/vision_model.h"

#include <millrace/event.h>
#include <millrace/graph.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SET_LIMIT = 16, IMAGE_LIMIT = 512, RUNS = 7, KINDS = 8 };

static mr_device *device;
static struct mr__vision_model *model;
static struct mr__vision_plan plan;
static uint32_t image_count, set_count, batch_size;
static mr_buffer *inputs, *outputs, *expected; /* pinned: KINDS images; results of image_count */

/* What works on one batch at a time. */
static struct set {
    mr_stream *stream;
    struct mr__vision_scorers *scorers;
    mr_event *begin, *end;
    struct mr__vision_place image, textures, scores, result;
} sets[SET_LIMIT];

/* ---- making ---- */

static mr_buffer *make_buffer(size_t size_bytes, mr_place place)
{
    mr_buffer *buffer;
    require_ok(
        mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

static struct mr__vision_place make_place(size_t size_bytes)
{
    const size_t stride_bytes = (size_bytes + 255) & ~(size_t)255;
    return (struct mr__vision_place){ .buffer =
                                          make_buffer(batch_size * stride_bytes, MR_PLACE_DEVICE),
                                      .stride_bytes = stride_bytes };
}

/* Slopes, discs and noise: nothing that is easier than a photograph. */
static void paint(uint8_t *pixels, uint32_t kind)
{
    uint32_t noise = 1234567 + kind;
    for (uint32_t y = 0; y < plan.height; y++)
        for (uint32_t x = 0; x < plan.width; x++)
            for (uint32_t channel = 0; channel < 3; channel++) {
                const int64_t dx = (int64_t)x - plan.width / (2 + kind), dy = (int64_t)y - 200;
                const uint32_t slope = x * (channel + 1) / 9 + y / (channel + 3);
                noise = noise * 1664525 + 1013904223;
                const bool is_disc = dx * dx + dy * dy < 150 * 150;
                *pixels++ = (uint8_t)((is_disc ? channel * 70 + 60 : slope & 127) + (noise >> 27));
            }
}

static void make_all(uint32_t width, uint32_t height,
                     const struct mr__vision_parameters *parameters)
{
    require_ok(mr__vision_plan(parameters, width, height, 1, &plan));
    const mr_event_options timed = { .has_timing = true };
    inputs = make_buffer(plan.image_bytes * KINDS, MR_PLACE_PINNED);
    outputs = make_buffer(plan.result_bytes * image_count, MR_PLACE_PINNED);
    expected = make_buffer(plan.result_bytes * KINDS, MR_PLACE_PINNED);
    for (uint32_t kind = 0; kind < KINDS; kind++)
        paint((uint8_t *)mr_buffer_host(inputs) + kind * plan.image_bytes, kind);
    for (uint32_t k = 0; k < set_count; k++) {
        struct set *set = &sets[k];
        require_ok(mr_stream_create(device, NULL, &set->stream));
        require_ok(
            mr__vision_scorers_create(model, batch_size * plan.scratch_bytes, 0, &set->scorers));
        require_ok(mr_event_create(device, &timed, &set->begin));
        require_ok(mr_event_create(device, &timed, &set->end));
        set->image = make_place(plan.image_bytes);
        set->textures = make_place(plan.textures_bytes);
        set->scores = make_place(plan.scores_bytes);
        set->result = make_place(plan.result_bytes);
    }
}

static void free_all(void)
{
    for (uint32_t k = 0; k < set_count; k++) {
        struct set *set = &sets[k];
        mr__vision_scorers_destroy(set->scorers);
        mr_stream_destroy(set->stream);
        mr_event_destroy(set->begin);
        mr_event_destroy(set->end);
        mr_buffer_destroy(set->image.buffer);
        mr_buffer_destroy(set->textures.buffer);
        mr_buffer_destroy(set->scores.buffer);
        mr_buffer_destroy(set->result.buffer);
    }
    mr_buffer_destroy(inputs);
    mr_buffer_destroy(outputs);
    mr_buffer_destroy(expected);
}

static struct set *set_of(uint32_t image)
{
    return &sets[image / batch_size % set_count];
}

/* ---- steps ---- */

static void bring_in(struct set *set, uint32_t i)
{
    for (uint32_t k = 0; k < batch_size; k++)
        require_ok(mr_copy(set->stream, set->image.buffer, k * set->image.stride_bytes, inputs,
                           (i + k) % KINDS * plan.image_bytes, plan.image_bytes));
}

static void textures(struct set *set)
{
    require_ok(mr__vision_enqueue_textures(model, &plan, batch_size, set->stream, 0, set->image,
                                           set->textures));
}

static void scores(struct set *set)
{
    require_ok(mr__vision_enqueue_scores(model, &plan, batch_size, set->scorers, set->stream, 0,
                                         set->image, set->textures, set->scores));
}

static void tokens(struct set *set)
{
    require_ok(mr__vision_enqueue_tokens(model, &plan, batch_size, set->stream, 0, set->textures,
                                         set->scores, set->result));
}

/* To one of the target's places for `target_count` results. */
static void bring_out(struct set *set, mr_buffer *target, uint32_t target_count, uint32_t i)
{
    for (uint32_t k = 0; k < batch_size; k++)
        require_ok(mr_copy(set->stream, target, (i + k) % target_count * plan.result_bytes,
                           set->result.buffer, k * set->result.stride_bytes, plan.result_bytes));
}

static void wait(struct set *set)
{
    require_ok(mr_stream_wait(set->stream));
}

/* ---- checks ---- */

static const uint32_t *words_at(const char *result, size_t offset)
{
    return (const uint32_t *)(result + offset);
}

/* Up to the end of the compressed array, the bytes of equal images are equal. */
static void check_result(const char *result, const char *wanted)
{
    const uint32_t *counts = words_at(result, plan.tokens_offset);
    const size_t grid_bytes = (size_t)plan.patch_count * 4;
    uint64_t sum = 0;
    for (uint32_t k = 0; k < plan.patch_count; k++)
        sum += counts[k];
    measure_require(sum == plan.budget, "tokens: %llu of %u", (unsigned long long)sum, plan.budget);
    const size_t boxes = words_at(result, plan.box_first_offset)[plan.patch_count];
    const bool is_same =
        memcmp(result, wanted, plan.scores_bytes) == 0 &&
        memcmp(result + plan.tokens_offset, wanted + plan.tokens_offset, grid_bytes) == 0 &&
        memcmp(result + plan.compressed_offset, wanted + plan.compressed_offset,
               boxes * MR__VISION_CHANNELS * 4) == 0;
    measure_require(is_same, "a result differs from that of the same image before");
}

static void expect(void)
{
    for (uint32_t kind = 0; kind < KINDS; kind += batch_size) {
        bring_in(&sets[0], kind);
        textures(&sets[0]);
        scores(&sets[0]);
        tokens(&sets[0]);
        bring_out(&sets[0], expected, KINDS, kind);
        wait(&sets[0]);
    }
}

static void check_all(void)
{
    for (uint32_t i = 0; i < image_count; i++)
        check_result((const char *)mr_buffer_host(outputs) + i * plan.result_bytes,
                     (const char *)mr_buffer_host(expected) + i % KINDS * plan.result_bytes);
    memset(mr_buffer_host(outputs), 0xa5, plan.result_bytes * image_count);
}

/* ---- stages by themselves ---- */

/* One stage for image_count images over the sets: from the first's start to the last's end. */
static double run_stage(void *context)
{
    void (*const stage)(struct set *) = *(void (**)(struct set *))context;
    const double began_s = measure_now_s();
    for (uint32_t i = 0; i < image_count; i += batch_size)
        stage(set_of(i));
    for (uint32_t k = 0; k < set_count; k++)
        wait(&sets[k]);
    return measure_now_s() - began_s;
}

/* The stage on one stream, by the device's clock: the mean of some in a row. */
static double run_alone(void *context)
{
    enum { ROW = 8 };
    void (*const stage)(struct set *) = *(void (**)(struct set *))context;
    int64_t elapsed_ns;
    stage(&sets[0]);
    require_ok(mr_event_record(sets[0].begin, sets[0].stream));
    for (int i = 0; i < ROW; i++)
        stage(&sets[0]);
    require_ok(mr_event_record(sets[0].end, sets[0].stream));
    wait(&sets[0]);
    require_ok(mr_event_elapsed(sets[0].begin, sets[0].end, &elapsed_ns));
    return (double)elapsed_ns * 1e-9 / (ROW * batch_size);
}

/* The same as one graph, so that the host's launches do not count: by the device's clock. */
static double run_graph(void *context)
{
    mr_graph_executable *executable = context;
    int64_t elapsed_ns;
    require_ok(mr_event_record(sets[0].begin, sets[0].stream));
    require_ok(mr_graph_launch(executable, sets[0].stream));
    require_ok(mr_event_record(sets[0].end, sets[0].stream));
    wait(&sets[0]);
    require_ok(mr_event_elapsed(sets[0].begin, sets[0].end, &elapsed_ns));
    return (double)elapsed_ns * 1e-9;
}

static double measure_graph(void (*stage)(struct set *))
{
    mr_event *fork, *join;
    mr_graph *graph;
    mr_graph_executable *executable;
    require_ok(mr_event_create(device, NULL, &fork));
    require_ok(mr_event_create(device, NULL, &join));
    require_ok(mr_capture_begin(sets[0].stream));
    require_ok(mr_event_record(fork, sets[0].stream));
    for (uint32_t k = 1; k < set_count; k++)
        require_ok(mr_stream_wait_event(sets[k].stream, fork));
    for (uint32_t i = 0; i < image_count; i += batch_size)
        stage(set_of(i));
    for (uint32_t k = 1; k < set_count; k++) {
        require_ok(mr_event_record(join, sets[k].stream));
        require_ok(mr_stream_wait_event(sets[0].stream, join));
    }
    require_ok(mr_capture_end(sets[0].stream, &graph));
    require_ok(mr_graph_instantiate(graph, &executable));
    const double took_s = measure_median_of(run_graph, executable, RUNS) / image_count;
    mr_graph_executable_destroy(executable);
    mr_graph_destroy(graph);
    mr_event_destroy(join);
    mr_event_destroy(fork);
    return took_s;
}

static double run_copy(void *context)
{
    const size_t half = *(size_t *)context;
    mr_buffer *from = make_buffer(half, MR_PLACE_DEVICE), *to = make_buffer(half, MR_PLACE_DEVICE);
    int64_t elapsed_ns;
    require_ok(mr_fill(sets[0].stream, from, 0, half, 0x5a5a5a5a, 4));
    require_ok(mr_copy(sets[0].stream, to, 0, from, 0, half));
    require_ok(mr_event_record(sets[0].begin, sets[0].stream));
    for (int i = 0; i < 4; i++)
        require_ok(mr_copy(sets[0].stream, to, 0, from, 0, half));
    require_ok(mr_event_record(sets[0].end, sets[0].stream));
    wait(&sets[0]);
    require_ok(mr_event_elapsed(sets[0].begin, sets[0].end, &elapsed_ns));
    mr_buffer_destroy(from);
    mr_buffer_destroy(to);
    return (double)elapsed_ns * 1e-9 / 4;
}

static void measure_stages(struct measure_report *report, const char *size, size_t copy_bytes,
                           bool is_cpu)
{
    static void (*stages[])(struct set *) = { textures, scores, tokens };
    static const char *const names[] = { "textures", "scores", "tokens" };
    static const double pixel_bytes[] = { 55, 27, 52 };
    const double pixels = (double)plan.width * plan.height;
    const double copy_rate = 2.0 * (double)copy_bytes / measure_median_of(run_copy, &copy_bytes, 3);
    measure_report_add(report, copy_rate * 1e-9, "GB/s", "%s: a copy in the device's memory", size);
    for (int k = 0; k < 3; k++) {
        const double bytes = pixels * pixel_bytes[k];
        const double alone_s = measure_median_of(run_alone, &stages[k], RUNS);
        const double many_s = measure_median_of(run_stage, &stages[k], RUNS) / image_count;
        measure_report_add(report, alone_s * 1e6, "us", "%s: %s, one stream", size, names[k]);
        measure_report_add(report, bytes / alone_s / copy_rate * 100, "%",
                           "%s: %s, one stream, of the copy's rate (%.0f bytes a pixel)", size,
                           names[k], pixel_bytes[k]);
        measure_report_add(report, many_s * 1e6, "us", "%s: %s, %u sets of streams, an image", size,
                           names[k], set_count);
        measure_report_add(report, bytes / many_s / copy_rate * 100, "%",
                           "%s: %s, %u sets, of the copy's rate", size, names[k], set_count);
        if (is_cpu) /* which computes longer than it moves */
            continue;
        const double graph_s = measure_graph(stages[k]);
        measure_report_add(report, graph_s * 1e6, "us", "%s: %s, %u sets in a graph, an image",
                           size, names[k], set_count);
        measure_report_target(report, bytes / graph_s / copy_rate * 100, "%", ">=", 80,
                              "%s: %s, %u sets in a graph, of the copy's rate", size, names[k],
                              set_count);
    }
}

/* ---- the whole chain ---- */

/* Every step waited for, as a program without streams would. */
static double run_sequential(void *context)
{
    (void)context;
    const double began_s = measure_now_s();
    for (uint32_t i = 0; i < image_count; i += batch_size) {
        struct set *set = &sets[0];
        bring_in(set, i);
        wait(set);
        textures(set);
        wait(set);
        scores(set);
        wait(set);
        tokens(set);
        wait(set);
        bring_out(set, outputs, image_count, i);
        wait(set);
    }
    const double took_s = measure_now_s() - began_s;
    check_all();
    return took_s;
}

/* Each batch on the next set. */
static double run_concurrent(void *context)
{
    (void)context;
    const double began_s = measure_now_s();
    for (uint32_t i = 0; i < image_count; i += batch_size) {
        struct set *set = set_of(i);
        bring_in(set, i);
        textures(set);
        scores(set);
        tokens(set);
        bring_out(set, outputs, image_count, i);
    }
    for (uint32_t k = 0; k < set_count; k++)
        wait(&sets[k]);
    const double took_s = measure_now_s() - began_s;
    check_all();
    return took_s;
}

static void measure_chain(struct measure_report *report, const char *size)
{
    const double one_s = measure_median_of(run_sequential, NULL, RUNS);
    const double many_s = measure_median_of(run_concurrent, NULL, RUNS);
    measure_report_add(report, image_count / one_s, "images/s", "%s: one step after another", size);
    measure_report_add(report, image_count / many_s, "images/s", "%s: over %u sets of streams",
                       size, set_count);
    measure_report_add(report, one_s / many_s, "x", "%s: sets against one after another", size);
}

/* ---- for vision_pytorch.py ---- */

static void write_file(const char *folder, const char *name, const void *block, size_t size_bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    measure_require(file && fwrite(block, 1, size_bytes, file) == size_bytes && !fclose(file),
                    "%s: cannot be written", path);
}

static void dump(const char *folder, const struct mr__vision_parameters *parameters)
{
    mr_buffer *host = make_buffer(plan.textures_bytes, MR_PLACE_PINNED);
    bring_in(&sets[0], 1);
    textures(&sets[0]);
    require_ok(mr_copy(sets[0].stream, host, 0, sets[0].textures.buffer, 0, plan.textures_bytes));
    wait(&sets[0]);
    const char *result = (const char *)mr_buffer_host(expected) + plan.result_bytes;
    write_file(folder, "image.u8", (const char *)mr_buffer_host(inputs) + plan.image_bytes,
               plan.image_bytes);
    write_file(folder, "images.u8", mr_buffer_host(inputs), plan.image_bytes * KINDS);
    write_file(folder, "textures.f32", mr_buffer_host(host), plan.textures_bytes);
    write_file(folder, "scores.f32", result, plan.scores_bytes);
    write_file(folder, "tokens.u32", result + plan.tokens_offset, (size_t)plan.patch_count * 4);
    float query[2][MR__VISION_DESCRIPTOR];
    memcpy(query[0], parameters->query.vector, sizeof query[0]);
    memcpy(query[1], parameters->query.weights, sizeof query[1]);
    write_file(folder, "query.f32", query, sizeof query);
    char text[256];
    const int length =
        snprintf(text, sizeof text,
                 "{\"width\": %u, \"height\": %u, \"columns\": %u, \"rows\": %u, "
                 "\"budget\": %u, \"images\": %u}\n",
                 plan.width, plan.height, plan.columns, plan.rows, plan.budget, KINDS);
    write_file(folder, "shape.json", text, (size_t)length);
    mr_buffer_destroy(host);
}

int main(int argc, char **argv)
{
    struct measure_report report;
    measure_report_init(&report, "vision_stages", &argc, argv);
    const mr_device_options options = {
        .worker_count = (uint32_t)measure_option_number(argc, argv, "workers", 0),
    };
    require_ok(mr_device_open(measure_option(argc, argv, "device", "auto"), &options, &device));
    const bool is_cpu = strcmp(mr_device_id(device), "cpu") == 0;
    const char *folder = measure_option(argc, argv, "dump", NULL);
    set_count = (uint32_t)measure_option_number(argc, argv, "sets", 4);
    measure_require(set_count >= 1 && set_count <= SET_LIMIT, "1 to %d sets", SET_LIMIT);

    /* Borders on whole cells, so that PyTorch may cut by reshaping; 32 patches. */
    struct mr__vision_parameters parameters = { .columns = 8, .rows = 4 };
    require_ok(mr__vision_query_from_word("red", &parameters.query));
    require_ok(mr__vision_parameters_check(&parameters));
    require_ok(mr__vision_model_create(device, &parameters, &model));
    static const struct {
        const char *name;
        uint32_t width, height, images, batch;
    } sizes[] = { { "1024 x 768", 1024, 768, 256, 1 },
                  { "16 of 1024 x 768", 1024, 768, 512, 16 },
                  { "4096 x 4096", 4096, 4096, 16, 1 } };
    const int size_count = (int)measure_option_number(argc, argv, "sizes", is_cpu ? 1 : 3);
    for (int i = (int)measure_option_number(argc, argv, "from", 0); i < size_count && i < 3; i++) {
        image_count =
            (uint32_t)measure_option_number(argc, argv, "images", is_cpu ? 8 : sizes[i].images);
        batch_size = sizes[i].batch;
        measure_require(image_count >= 1 && image_count <= IMAGE_LIMIT &&
                            image_count % batch_size == 0,
                        "1 to %d images, in batches of %u", IMAGE_LIMIT, batch_size);
        make_all(sizes[i].width, sizes[i].height, &parameters);
        expect();
        measure_stages(&report, sizes[i].name, is_cpu ? (size_t)64 << 20 : (size_t)256 << 20,
                       is_cpu);
        measure_chain(&report, sizes[i].name);
        if (folder && i == 0)
            dump(folder, &parameters);
        free_all();
    }
    mr__vision_model_destroy(model);
    require_ok(mr_device_close(device));
    return measure_report_finish(&report);
}
