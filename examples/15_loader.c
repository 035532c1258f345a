/* SPDX-License-Identifier: MIT */
/*
 * A loader: threads gather shuffled samples into batches, and each batch is handed to a stream, which
 * waits for the upload while the host goes on. Releasing the batch with the stream keeps its memory
 * until the kernel has read it.
 *
 *     15_loader [DEVICE]
 *
 * Prints: epoch 0: 1000 samples in 16 batches, the last of 40      ...and so on, three epochs
 */
#include "check.h"

enum {
    SAMPLES = 1000,
    VALUES = 256,
    BATCH = 64,
    EPOCHS = 3,
    BATCHES = (SAMPLES + BATCH - 1) / BATCH
};

static float data_set[SAMPLES][VALUES];

/* Called by several threads at once, each time for another batch. */
static mr_status gather(void *context, mr_fill_call *call)
{
    (void)context;
    float *values = call->fields[0].data;
    uint32_t *labels = call->fields[1].data;
    for (uint32_t i = 0; i < call->sample_count; i++) {
        const uint64_t sample = call->samples[i];
        for (int k = 0; k < VALUES; k++)
            values[i * VALUES + k] = data_set[sample][k];
        labels[i] = (uint32_t)sample;
    }
    return MR_OK;
}

/* What a training step would be: a kernel that reads the batch. The results are kept, to be checked. */
static void step(mr_stream *stream, mr_kernel *kernel, const mr_batch *batch, mr_buffer *results,
                 mr_buffer *labels)
{
    const mr_batch_field *values = &batch->fields[0];
    const size_t first = batch->batch * BATCH;
    const uint64_t count = values->size_bytes / sizeof(float);
    const mr_argument arguments[] = {
        mr_argument_range(values->buffer, values->offset, values->size_bytes),
        mr_argument_range(results, first * VALUES * sizeof(float), values->size_bytes),
        mr_argument_f32(2), mr_argument_f32(1), mr_argument_u64(count)
    };
    CHECK(mr_kernel_launch(stream, kernel, &(mr_launch){ .count = count }, arguments, 5));
    CHECK(mr_copy(stream, labels, first * sizeof(uint32_t), batch->fields[1].buffer,
                  batch->fields[1].offset, batch->fields[1].size_bytes));
}

/* Every sample came once. */
static void check_epoch(const float *results, const uint32_t *labels)
{
    bool is_seen[SAMPLES] = { false };
    for (int i = 0; i < SAMPLES; i++) {
        EXPECT(labels[i] < SAMPLES && !is_seen[labels[i]]);
        is_seen[labels[i]] = true;
        for (int k = 0; k < VALUES; k++)
            EXPECT(results[i * VALUES + k] == 2 * data_set[labels[i]][k] + 1);
    }
}

static mr_buffer *make_buffer(mr_device *device, size_t size_bytes, mr_place place)
{
    mr_buffer *buffer;
    CHECK(mr_buffer_create(device, size_bytes, &(mr_buffer_options){ .place = place }, &buffer));
    return buffer;
}

int main(int argc, char **argv)
{
    mr_device *device = open_device(argc, argv);
    for (int i = 0; i < SAMPLES * VALUES; i++)
        data_set[i / VALUES][i % VALUES] = (float)(i % 4099);
    mr_buffer *results = make_buffer(device, sizeof data_set, MR_PLACE_DEVICE);
    mr_buffer *host = make_buffer(device, sizeof data_set, MR_PLACE_PINNED);
    mr_buffer *labels = make_buffer(device, SAMPLES * sizeof(uint32_t), MR_PLACE_PINNED);
    mr_stream *stream;
    mr_kernel *kernel;
    CHECK(mr_stream_create(device, NULL, &stream));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &kernel));

    const mr_loader_field fields[] = { { .name = "values", .sample_bytes = sizeof data_set[0] },
                                       { .name = "labels", .sample_bytes = sizeof(uint32_t) } };
    mr_loader *loader;
    CHECK(mr_loader_create(device,
                           &(mr_loader_options){ .fields = fields,
                                                 .field_count = 2,
                                                 .fill = gather,
                                                 .sample_count = SAMPLES,
                                                 .batch_size = BATCH,
                                                 .is_shuffled = true,
                                                 .seed = 7,
                                                 .epoch_count = EPOCHS },
                           &loader));
    do {
        mr_batch batch;
        mr_status status;
        uint64_t epoch = 0;
        uint32_t last = 0, count = 0;
        while ((status = mr_loader_next(loader, stream, MR_FOREVER, &batch)) == MR_OK) {
            step(stream, kernel, &batch, results, labels);
            CHECK(mr_loader_release(loader, stream, &batch));
            epoch = batch.epoch;
            last = batch.sample_count;
            count++;
        }
        CHECK(status == MR_END ? MR_OK : status);
        CHECK(mr_copy(stream, host, 0, results, 0, sizeof data_set));
        CHECK(mr_stream_wait(stream)); /* the only wait of an epoch */
        check_epoch(mr_buffer_host(host), mr_buffer_host(labels));
        EXPECT(count == BATCHES);
        printf("epoch %d: %d samples in %u batches, the last of %u\n", (int)epoch, SAMPLES, count,
               last);
    } while (mr_loader_begin_epoch(loader) == MR_OK);

    mr_loader_destroy(loader);
    mr_kernel_destroy(kernel);
    mr_stream_destroy(stream);
    mr_buffer_destroy(labels);
    mr_buffer_destroy(host);
    mr_buffer_destroy(results);
    CHECK(mr_device_close(device));
    return 0;
}
