/* SPDX-License-Identifier: MIT */
/*
 * A training loop's data path: batches gathered in host memory by worker threads, uploaded, and passed
 * over a fixed number of times on the device. bench/loader_pytorch.py does the same with PyTorch's
 * DataLoader.
 *
 *     bench_loader [--device NAME] [--only CASE] [--workers N] [--epochs N] [--scale X] [--json FILE]
 *
 * Cases: images, features, tokens. A first epoch is not timed: all of its results are copied back and
 * compared. Of the timed ones the very last result is. The share of idle time is what lies
 * between the computations on the consumer's stream, by timing events.
 */
#include "measure.h"
#include "require.h"

#include <millrace/event.h>
#include <millrace/loader.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STORED_BYTES_MOST = 512 << 20, PASSES_ALONE = 20 };

/* Samples of `values` floats; a label beside each. The data set's samples repeat those stored. */
struct shape {
    const char *name;
    uint32_t batch_size;
    size_t values;
    uint64_t sample_count;
    int pass_count; /* each reads and writes the batch once */
};

struct bench {
    struct measure_report report;
    struct shape shape;
    mr_device *device;
    mr_kernel *kernel;
    mr_stream *stream;
    uint32_t worker_count;
    int epoch_count; /* timed */
    float *stored;
    uint64_t stored_count;
    mr_buffer *results[2]; /* passes go to and fro */
    mr_buffer *host;       /* the last result */
    mr_event **starts, **ends;
    int step_count, step_limit;
    double ended_s; /* the last timed step */
};

static size_t batch_bytes(const struct shape *shape)
{
    return shape->batch_size * shape->values * sizeof(float);
}

/* ---- the data set ---- */

static float stored_value(uint64_t sample, size_t i)
{
    return (float)((sample * 7 + i) % 251);
}

static const float *find_sample(const struct bench *bench, uint64_t sample)
{
    return bench->stored + sample % bench->stored_count * bench->shape.values;
}

static void store_part(void *context, int index, int count)
{
    const struct bench *bench = context;
    for (uint64_t k = (uint64_t)index; k < bench->stored_count; k += (uint64_t)count) {
        for (size_t i = 0; i < bench->shape.values; i++)
            bench->stored[k * bench->shape.values + i] = stored_value(k, i);
    }
}

static mr_status gather(void *context, mr_fill_call *call)
{
    const struct bench *bench = context;
    const size_t values = bench->shape.values;
    float *target = call->fields[0].data;
    int64_t *labels = call->fields[1].data;
    for (uint32_t i = 0; i < call->sample_count; i++) {
        memcpy(target + i * values, find_sample(bench, call->samples[i]), values * sizeof(float));
        labels[i] = (int64_t)call->samples[i];
    }
    return MR_OK;
}

/* ---- the computation ---- */

static void pass_over(const struct bench *bench, mr_buffer *source, size_t source_offset,
                      mr_buffer *target, uint64_t count)
{
    const mr_argument arguments[] = {
        mr_argument_range(source, source_offset, count * sizeof(float)),
        mr_argument_range(target, 0, count * sizeof(float)), mr_argument_f32(1), mr_argument_f32(1),
        mr_argument_u64(count)
    };
    require_ok(mr_kernel_launch(bench->stream, bench->kernel, &(mr_launch){ .count = count },
                                arguments, 5));
}

/* Answers where the result is: each value and one for every pass. */
static mr_buffer *compute(const struct bench *bench, mr_buffer *source, size_t offset,
                          uint64_t count)
{
    pass_over(bench, source, offset, bench->results[0], count);
    for (int i = 1; i < bench->shape.pass_count; i++)
        pass_over(bench, bench->results[(i - 1) % 2], 0, bench->results[i % 2], count);
    return bench->results[(bench->shape.pass_count - 1) % 2];
}

/* Without a loader: seconds for each batch. */
static double time_alone(const struct bench *bench)
{
    const uint64_t count = bench->shape.batch_size * bench->shape.values;
    double best = 1e9;
    for (int run = 0; run < 3; run++) {
        const double began = measure_now_s();
        for (int i = 0; i < PASSES_ALONE; i++)
            (void)compute(bench, bench->results[1], 0, count);
        require_ok(mr_stream_wait(bench->stream));
        const double seconds = (measure_now_s() - began) / PASSES_ALONE;
        best = seconds < best ? seconds : best;
    }
    return best;
}

/* ---- checks ---- */

struct check {
    const struct bench *bench;
    const float *result;
    const int64_t *labels;
    uint32_t count;
    _Atomic uint64_t wrong;
};

static void check_part(void *context, int index, int count)
{
    struct check *check = context;
    const size_t values = check->bench->shape.values;
    const float added = (float)check->bench->shape.pass_count;
    uint64_t wrong = 0;
    for (uint32_t k = (uint32_t)index; k < check->count; k += (uint32_t)count) {
        const float *sample = find_sample(check->bench, (uint64_t)check->labels[k]);
        for (size_t i = 0; i < values; i++)
            wrong += check->result[k * values + i] != sample[i] + added;
    }
    check->wrong += wrong;
}

/* The labels are the samples that were asked for, and the result is what they make. */
static void check_batch(const struct bench *bench, const mr_batch *batch, mr_buffer *result)
{
    const size_t size_bytes = batch->fields[0].size_bytes;
    const size_t label_bytes = batch->fields[1].size_bytes;
    const size_t labels_at = batch_bytes(&bench->shape);
    char *host = mr_buffer_host(bench->host);
    memset(host, 0xff, size_bytes);
    require_ok(mr_copy(bench->stream, bench->host, 0, result, 0, size_bytes));
    require_ok(mr_copy(bench->stream, bench->host, labels_at, batch->fields[1].buffer,
                       batch->fields[1].offset, label_bytes));
    require_ok(mr_stream_wait(bench->stream));
    struct check check = { .bench = bench,
                           .result = (const float *)host,
                           .labels = (const int64_t *)(host + labels_at),
                           .count = batch->sample_count };
    measure_require(memcmp(check.labels, batch->samples, label_bytes) == 0,
                    "batch %llu has the wrong labels", (unsigned long long)batch->batch);
    measure_parallel(measure_cpu_count(), check_part, &check);
    measure_require(!check.wrong, "batch %llu: %llu values are wrong",
                    (unsigned long long)batch->batch, (unsigned long long)check.wrong);
}

/* ---- the loop ---- */

static void run_epoch(struct bench *bench, mr_loader *loader, bool is_checked)
{
    mr_status status;
    mr_batch batch;
    while ((status = mr_loader_next(loader, bench->stream, MR_FOREVER, &batch)) == MR_OK) {
        const int step = bench->step_count++;
        measure_require(step < bench->step_limit, "more batches than there are");
        require_ok(mr_event_record(bench->starts[step], bench->stream));
        mr_buffer *result = compute(bench, batch.fields[0].buffer, batch.fields[0].offset,
                                    batch.sample_count * bench->shape.values);
        require_ok(mr_event_record(bench->ends[step], bench->stream));
        if (bench->step_count == bench->step_limit) {
            require_ok(mr_stream_wait(bench->stream));
            bench->ended_s = measure_now_s();
        }
        if (is_checked || bench->step_count == bench->step_limit)
            check_batch(bench, &batch, result);
        require_ok(mr_loader_release(loader, bench->stream, &batch));
    }
    measure_require(status == MR_END, "%s: %s", mr_status_name(status), mr_last_error());
}

static double measure_busy_s(const struct bench *bench, double *total_s)
{
    int64_t busy_ns = 0, elapsed_ns;
    for (int i = 0; i < bench->step_count; i++) {
        require_ok(mr_event_elapsed(bench->starts[i], bench->ends[i], &elapsed_ns));
        busy_ns += elapsed_ns;
    }
    require_ok(mr_event_elapsed(bench->starts[0], bench->ends[bench->step_count - 1], &elapsed_ns));
    *total_s = (double)elapsed_ns * 1e-9;
    return (double)busy_ns * 1e-9;
}

static mr_loader *make_loader(struct bench *bench)
{
    const mr_loader_field fields[] = {
        { .name = "values", .sample_bytes = bench->shape.values * sizeof(float) },
        { .name = "labels", .sample_bytes = sizeof(int64_t) },
    };
    const mr_loader_options options = { .fields = fields,
                                        .field_count = 2,
                                        .fill = gather,
                                        .context = bench,
                                        .sample_count = bench->shape.sample_count,
                                        .batch_size = bench->shape.batch_size,
                                        .is_last_dropped = true,
                                        .is_shuffled = true,
                                        .seed = 1,
                                        .epoch_count = (uint64_t)bench->epoch_count + 1,
                                        .worker_count = bench->worker_count,
                                        .name = bench->shape.name };
    mr_loader *loader = NULL;
    require_ok(mr_loader_create(bench->device, &options, &loader));
    return loader;
}

static void report_loader(struct bench *bench, mr_loader *loader)
{
    static const char *const sides[] = { "workers", "upload", "consumer" };
    mr_loader_statistics statistics;
    mr_loader_measure(loader, &statistics);
    printf("  [%s: %u workers, %u + %u batches, %.0f MiB; bottleneck: %s; %llu of %llu batches "
           "late]\n",
           bench->shape.name, statistics.worker_count, statistics.prefetch_count,
           statistics.slot_count, (double)statistics.memory_bytes / (1 << 20),
           sides[statistics.bottleneck], (unsigned long long)statistics.late,
           (unsigned long long)statistics.batches);
}

static void run_loop(struct bench *bench)
{
    const char *name = bench->shape.name;
    const double alone_s = time_alone(bench);
    mr_loader *loader = make_loader(bench);
    run_epoch(bench, loader, true);
    bench->step_count = 0;
    const double began = measure_now_s();
    for (int i = 0; i < bench->epoch_count; i++) {
        require_ok(mr_loader_begin_epoch(loader));
        run_epoch(bench, loader, false);
    }
    measure_require(bench->step_count == bench->step_limit, "batches are missing");
    const double wall_s = bench->ended_s - began;
    double total_s;
    const double busy_s = measure_busy_s(bench, &total_s);
    const double step_s = wall_s / bench->step_count;
    measure_report_add(&bench->report, step_s * 1e3, "ms", "%s: step", name);
    measure_report_add(&bench->report, 1 - busy_s / total_s, "", "%s: GPU idle share", name);
    measure_report_add(&bench->report, alone_s * 1e3, "ms", "%s: computation alone", name);
    measure_report_add(&bench->report, (double)batch_bytes(&bench->shape) / step_s * 1e-9, "GB/s",
                       "%s: uploaded", name);
    report_loader(bench, loader);
    mr_loader_destroy(loader);
}

/* ---- a case ---- */

static void make_buffers(struct bench *bench)
{
    const size_t bytes = batch_bytes(&bench->shape);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    for (int i = 0; i < 2; i++) {
        require_ok(mr_buffer_create(bench->device, bytes, NULL, &bench->results[i]));
        require_ok(mr_fill(bench->stream, bench->results[i], 0, bytes, 0, 4));
    }
    require_ok(mr_buffer_create(bench->device, bytes + bench->shape.batch_size * sizeof(int64_t),
                                &pinned, &bench->host));
}

static void make_events(struct bench *bench)
{
    const uint64_t per_epoch = bench->shape.sample_count / bench->shape.batch_size;
    bench->step_limit = (int)per_epoch * bench->epoch_count;
    bench->starts = calloc((size_t)bench->step_limit, sizeof(mr_event *));
    bench->ends = calloc((size_t)bench->step_limit, sizeof(mr_event *));
    measure_require(bench->starts && bench->ends, "no memory");
    const mr_event_options timing = { .has_timing = true };
    for (int i = 0; i < bench->step_limit; i++) {
        require_ok(mr_event_create(bench->device, &timing, &bench->starts[i]));
        require_ok(mr_event_create(bench->device, &timing, &bench->ends[i]));
    }
}

static void measure_case(struct bench *bench, const struct shape *shape, double scale)
{
    bench->shape = *shape;
    bench->shape.sample_count = (uint64_t)((double)shape->sample_count * scale);
    if (bench->shape.sample_count < 2 * shape->batch_size)
        bench->shape.sample_count = 2 * shape->batch_size;
    bench->stored_count = STORED_BYTES_MOST / (shape->values * sizeof(float));
    if (bench->stored_count > bench->shape.sample_count)
        bench->stored_count = bench->shape.sample_count;
    bench->stored = malloc(bench->stored_count * shape->values * sizeof(float));
    measure_require(bench->stored != NULL, "no memory");
    measure_parallel(measure_cpu_count(), store_part, bench);
    bench->step_count = 0;
    make_buffers(bench);
    make_events(bench);

    run_loop(bench);

    for (int i = 0; i < bench->step_limit; i++) {
        mr_event_destroy(bench->starts[i]);
        mr_event_destroy(bench->ends[i]);
    }
    free(bench->starts);
    free(bench->ends);
    mr_buffer_destroy(bench->host);
    mr_buffer_destroy(bench->results[0]);
    mr_buffer_destroy(bench->results[1]);
    free(bench->stored);
}

int main(int argc, char **argv)
{
    /* loader_pytorch.py has the same. */
    static const struct shape shapes[] = {
        { "images", 256, 3 * 112 * 112, 25600, 60 },
        { "features", 1024, 4096, 204800, 60 },
        { "tokens", 64, 1024, 64000, 20 },
    };
    static struct bench bench;
    measure_report_init(&bench.report, "loader", &argc, argv);
    const char *name = measure_option(argc, argv, "device", "cuda:0");
    const char *only = measure_option(argc, argv, "only", NULL);
    const double scale = measure_option_number(argc, argv, "scale", 1);
    const int cpus = measure_cpu_count();
    bench.worker_count =
        (uint32_t)measure_option_number(argc, argv, "workers", cpus > 3 ? cpus - 2 : 1);
    bench.epoch_count = (int)measure_option_number(argc, argv, "epochs", 2);
    measure_require(bench.epoch_count > 0 && scale > 0, "--epochs and --scale are above 0");
    if (mr_device_open(name, NULL, &bench.device)) {
        printf("loader: %s\n", mr_last_error());
        return 77;
    }
    require_ok(mr_kernel_open(bench.device, "scale_offset_f32", &bench.kernel));
    require_ok(mr_stream_create(bench.device, NULL, &bench.stream));
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        if (!only || strcmp(only, shapes[i].name) == 0)
            measure_case(&bench, &shapes[i], scale);
        fflush(stdout);
    }
    mr_stream_destroy(bench.stream);
    mr_kernel_destroy(bench.kernel);
    require_ok(mr_device_close(bench.device));
    return measure_report_finish(&bench.report);
}
