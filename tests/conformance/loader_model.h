/* SPDX-License-Identifier: MIT */
/*
 * conformance/loader_model.h - batches whose every value can be told from the sample's number, workers
 * that do as the test says, and a reader that checks what a stream sees.
 */
#ifndef TEST_LOADER_MODEL_H
#define TEST_LOADER_MODEL_H

#include "support/check.h"

#include <millrace/loader.h>

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

enum {
    MODEL_VALUES = 13,
    MODEL_SAMPLE_BYTES = MODEL_VALUES * sizeof(uint32_t),
    MODEL_LABEL_BYTES = sizeof(uint64_t),
    MODEL_BATCH_LIMIT = 16, /* samples in a batch at most */
    MODEL_UNNUMBERED = 4,   /* samples in a batch, where samples have no numbers */
    MODEL_POOL = 9,         /* as many batches as a loader with three workers has places for */
    MODEL_WRITTEN = 64
};

enum model_lending {
    MODEL_WRITES,
    MODEL_LENDS_DATA,    /* both fields, ordinary memory */
    MODEL_LENDS_BUFFERS, /* the values, in pinned memory; labels are written */
    MODEL_LENDS_BOTH     /* the values in a buffer of ordinary memory, the labels ordinary memory */
};

struct model_place {
    mr_buffer *buffer;
    uint64_t labels[MODEL_BATCH_LIMIT];
    bool is_lent;
};

struct model {
    uint32_t worker_count;
    enum model_lending lending;
    bool is_thinning;     /* batch k has k modulo 6 samples */
    bool is_first_held;   /* batch 0 of epoch 0 waits for `go` */
    bool has_no_batches;  /* MR_END at once */
    uint64_t batch_count; /* MR_END from this batch on; 0: none */
    uint64_t fail_batch;  /* from 1 on; 0: none. The batch before it in this count fails */
    uint64_t fail_every;  /* batches fail whose number is a multiple; 0: none */
    bool is_dying;        /* instead of failing, the thread ends */
    sem_t go;

    _Atomic uint32_t fill_count, order_count, interrupt_count;
    _Atomic int lent_count, lent_peak;
    const char *written[MODEL_WRITTEN]; /* where batch k was written */
    pthread_mutex_t lock;
    struct model_place pool[MODEL_POOL];
};

static inline uint32_t model_value(uint64_t sample, uint64_t i)
{
    return (uint32_t)(sample * 1000 + i);
}

static inline uint64_t model_label(uint64_t sample)
{
    return sample * 7 + 3;
}

static inline uint64_t model_sample(const uint64_t *samples, uint64_t batch, uint32_t i)
{
    return samples ? samples[i] : batch * MODEL_UNNUMBERED + i;
}

/* ---- lent memory ---- */

static inline void model_make_pool(struct model *model, mr_device *device)
{
    const mr_place place =
        model->lending == MODEL_LENDS_BUFFERS ? MR_PLACE_PINNED : MR_PLACE_PAGEABLE;
    CHECK_EQ(0, pthread_mutex_init(&model->lock, NULL));
    for (int i = 0; i < MODEL_POOL; i++)
        CHECK_OK(mr_buffer_create(device, 64 + MODEL_BATCH_LIMIT * MODEL_SAMPLE_BYTES,
                                  &(mr_buffer_options){ .place = place }, &model->pool[i].buffer));
}

static inline void model_free_pool(struct model *model)
{
    for (int i = 0; i < MODEL_POOL; i++)
        mr_buffer_destroy(model->pool[i].buffer);
    CHECK_EQ(0, pthread_mutex_destroy(&model->lock));
}

/* There is always one: the loader gives back before it asks for more than it has places for. */
static inline uint32_t model_take_place(struct model *model)
{
    uint32_t index = 0;
    pthread_mutex_lock(&model->lock);
    while (index < MODEL_POOL && model->pool[index].is_lent)
        index++;
    CHECK(index < MODEL_POOL);
    model->pool[index].is_lent = true;
    const int count = atomic_fetch_add(&model->lent_count, 1) + 1;
    if (count > atomic_load(&model->lent_peak))
        atomic_store(&model->lent_peak, count);
    pthread_mutex_unlock(&model->lock);
    return index;
}

static inline void model_give_back(void *context, uint64_t epoch, uint64_t batch, uint64_t user)
{
    struct model *model = context;
    struct model_place *place = &model->pool[user];
    (void)epoch;
    (void)batch;
    pthread_mutex_lock(&model->lock);
    CHECK(place->is_lent);
    memset(mr_buffer_host(place->buffer), 0xee, mr_buffer_size(place->buffer));
    memset(place->labels, 0xee, sizeof place->labels);
    place->is_lent = false;
    atomic_fetch_sub(&model->lent_count, 1);
    pthread_mutex_unlock(&model->lock);
}

/* ---- workers ---- */

static inline void model_write(const mr_fill_call *call, uint32_t *values, uint64_t *labels)
{
    for (uint32_t i = 0; i < call->sample_count; i++) {
        const uint64_t sample = model_sample(call->samples, call->batch, i);
        labels[i] = model_label(sample);
        for (uint64_t k = 0; k < MODEL_VALUES; k++)
            *values++ = model_value(sample, k);
    }
    call->fields[0].size_bytes = call->sample_count * (size_t)MODEL_SAMPLE_BYTES;
    call->fields[1].size_bytes = call->sample_count * (size_t)MODEL_LABEL_BYTES;
}

static inline void model_lend(struct model *model, mr_fill_call *call)
{
    const uint32_t index = model_take_place(model);
    struct model_place *place = &model->pool[index];
    char *values = (char *)mr_buffer_host(place->buffer) + 64;
    mr_fill_field *fields = call->fields;
    CHECK(!fields[0].data && !fields[0].buffer);
    call->user = index;
    if (model->lending == MODEL_LENDS_BUFFERS) {
        model_write(call, (uint32_t *)values, fields[1].data);
    } else {
        CHECK(!fields[1].data);
        model_write(call, (uint32_t *)values, place->labels);
        fields[1].data = place->labels;
    }
    if (model->lending == MODEL_LENDS_DATA) {
        fields[0].data = values;
    } else {
        fields[0].buffer = place->buffer;
        fields[0].offset = 64;
    }
}

static inline mr_status model_fail(const struct model *model)
{
    if (model->is_dying)
        pthread_exit(NULL);
    return mr_error_set(MR_E_FORMAT, "a sample is broken");
}

static inline mr_status model_fill(void *context, mr_fill_call *call)
{
    struct model *model = context;
    atomic_fetch_add(&model->fill_count, 1);
    if (model->has_no_batches || (model->batch_count && call->batch >= model->batch_count))
        return MR_END;
    if (model->is_first_held && call->epoch == 0 && call->batch == 0) {
        while (sem_wait(&model->go))
            ;
    }
    if ((model->fail_batch && call->batch + 1 == model->fail_batch) ||
        (model->fail_every && call->batch % model->fail_every == 0))
        return model_fail(model);
    CHECK_EQ(MODEL_BATCH_LIMIT * MODEL_SAMPLE_BYTES, call->fields[0].capacity_bytes);
    CHECK_EQ(call->sample_count * (size_t)MODEL_SAMPLE_BYTES, call->fields[0].size_bytes);
    CHECK(call->worker < model->worker_count);
    if (model->is_thinning)
        call->sample_count = call->batch % 6;
    if (model->lending) {
        model_lend(model, call);
        return MR_OK;
    }
    call->user = call->batch;
    if (call->batch < MODEL_WRITTEN && call->epoch == 0)
        model->written[call->batch] = call->fields[0].data;
    model_write(call, call->fields[0].data, call->fields[1].data);
    return MR_OK;
}

static inline void model_interrupt(void *context)
{
    struct model *model = context;
    atomic_fetch_add(&model->interrupt_count, 1);
}

/* Values, which may be lent, and labels. The options point to static memory. */
static inline mr_loader_options model_options(struct model *model, uint64_t sample_count,
                                              uint32_t batch_size)
{
    static mr_loader_field fields[2];
    fields[0] = (mr_loader_field){ .name = "values",
                                   .sample_bytes = MODEL_SAMPLE_BYTES,
                                   .batch_bytes = MODEL_BATCH_LIMIT * MODEL_SAMPLE_BYTES,
                                   .is_lent = model->lending != MODEL_WRITES };
    fields[1] =
        (mr_loader_field){ .name = "labels",
                           .sample_bytes = MODEL_LABEL_BYTES,
                           .is_lent = model->lending && model->lending != MODEL_LENDS_BUFFERS };
    return (mr_loader_options){ .name = "model",
                                .fields = fields,
                                .field_count = 2,
                                .fill = model_fill,
                                .give_back = model_give_back,
                                .interrupt = model_interrupt,
                                .context = model,
                                .sample_count = sample_count,
                                .batch_size = batch_size,
                                .worker_count = model->worker_count };
}

/* ---- readers ---- */

struct reader {
    mr_stream *stream;
    mr_buffer *values, *labels; /* pinned */
};

static inline void reader_open(struct reader *reader, mr_device *device)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK_OK(mr_stream_create(device, NULL, &reader->stream));
    CHECK_OK(
        mr_buffer_create(device, MODEL_BATCH_LIMIT * MODEL_SAMPLE_BYTES, &pinned, &reader->values));
    CHECK_OK(
        mr_buffer_create(device, MODEL_BATCH_LIMIT * MODEL_LABEL_BYTES, &pinned, &reader->labels));
}

static inline void reader_close(struct reader *reader)
{
    mr_buffer_destroy(reader->labels);
    mr_buffer_destroy(reader->values);
    mr_stream_destroy(reader->stream);
}

/* What the reader's stream sees of the batch is what its samples are. */
static inline void reader_check(struct reader *reader, const mr_batch *batch)
{
    const mr_batch_field *values = &batch->fields[0], *labels = &batch->fields[1];
    CHECK_EQ(batch->sample_count * (size_t)MODEL_SAMPLE_BYTES, values->size_bytes);
    CHECK_EQ(batch->sample_count * (size_t)MODEL_LABEL_BYTES, labels->size_bytes);
    CHECK_OK(mr_copy(reader->stream, reader->values, 0, values->buffer, values->offset,
                     values->size_bytes));
    CHECK_OK(mr_copy(reader->stream, reader->labels, 0, labels->buffer, labels->offset,
                     labels->size_bytes));
    CHECK_OK(mr_stream_wait(reader->stream));
    const uint32_t *value = mr_buffer_host(reader->values);
    const uint64_t *label = mr_buffer_host(reader->labels);
    for (uint32_t i = 0; i < batch->sample_count; i++) {
        const uint64_t sample = model_sample(batch->samples, batch->batch, i);
        CHECK_EQ(model_label(sample), label[i]);
        for (uint64_t k = 0; k < MODEL_VALUES; k++)
            CHECK_EQ(model_value(sample, k), *value++);
    }
}

/* To MR_END, each batch checked; answers the samples. `seen` may be NULL. */
static inline uint64_t model_read_epoch(mr_loader *loader, mr_device *device, uint8_t *seen)
{
    struct reader reader;
    uint64_t count = 0;
    mr_batch batch;
    mr_status status;
    reader_open(&reader, device);
    while ((status = mr_loader_next(loader, reader.stream, MR_FOREVER, &batch)) == MR_OK) {
        reader_check(&reader, &batch);
        count += batch.sample_count;
        for (uint32_t i = 0; seen && i < batch.sample_count; i++)
            seen[batch.samples[i]]++;
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    CHECK_STATUS(MR_END, status);
    reader_close(&reader);
    return count;
}

#endif
