/* SPDX-License-Identifier: MIT */
/*
 * The loader: every sample once and in order, epochs, lent memory, slots that are not rewritten early,
 * several consumers, and what is counted. Failures and ends are in loader_errors.c.
 */
#include "loader_model.h"

#include "support/latch.h"
#include "support/suite.h"

#include <millrace/operation.h>

#include <pthread.h>
#include <sched.h>

enum { WORKERS = 6 };

static mr_loader *make_loader(mr_device *device, const mr_loader_options *options)
{
    mr_loader *loader = NULL;
    CHECK_OK(mr_loader_create(device, options, &loader));
    return loader;
}

/* ---- samples, batches, epochs ---- */

static void loader_gives_every_sample_in_order(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    struct reader reader;
    const mr_loader_options options = model_options(&model, 103, 10);
    mr_loader *loader = make_loader(device, &options);
    reader_open(&reader, device);
    for (uint64_t number = 0; number < 11; number++) {
        mr_batch batch;
        CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
        CHECK_EQ(0, batch.epoch);
        CHECK_EQ(number, batch.batch);
        CHECK_EQ(number < 10 ? 10 : 3, batch.sample_count);
        CHECK_EQ(2, batch.field_count);
        CHECK_EQ(number, batch.user);
        for (uint32_t i = 0; i < batch.sample_count; i++)
            CHECK_EQ(number * 10 + i, batch.samples[i]);
        reader_check(&reader, &batch);
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    mr_batch batch;
    CHECK_STATUS(MR_END, mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
    CHECK_STATUS(MR_END, mr_loader_next(loader, NULL, 0, &batch));
    reader_close(&reader);
    mr_loader_destroy(loader);
}

static void loader_leaves_out_a_short_last_batch_where_asked(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, 103, 10);
    options.is_last_dropped = true;
    options.epoch_count = 1;
    mr_loader *loader = make_loader(device, &options);
    CHECK_EQ(100, model_read_epoch(loader, device, NULL));
    CHECK_STATUS(MR_END, mr_loader_begin_epoch(loader));
    mr_loader_destroy(loader);
    CHECK_EQ(10, atomic_load(&model.fill_count));
}

static void loader_goes_from_epoch_to_epoch(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 40, 7);
    options.epoch_count = 9;
    mr_loader *loader = make_loader(device, &options);
    for (uint64_t epoch = 0; epoch < 9; epoch++) {
        uint8_t seen[40] = { 0 };
        CHECK_EQ(40, model_read_epoch(loader, device, seen));
        for (int i = 0; i < 40; i++)
            CHECK_EQ(1, seen[i]);
        CHECK_STATUS(epoch < 8 ? MR_OK : MR_END, mr_loader_begin_epoch(loader));
    }
    mr_loader_destroy(loader);
    CHECK_EQ(9 * 6, atomic_load(&model.fill_count));
}

/* The rest of one epoch never comes; all of the next does. */
static void loader_leaves_an_epoch_early(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 100, 10);
    options.epoch_count = 20;
    for (int order = MR_LOADER_IN_ORDER; order <= MR_LOADER_AS_COMPLETED; order++) {
        options.order = (mr_loader_order)order;
        mr_loader *loader = make_loader(device, &options);
        for (uint64_t epoch = 0; epoch < 19; epoch++) {
            for (uint64_t i = 0; i < epoch % 12 && i < 10; i++) {
                mr_batch batch;
                CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
                CHECK_EQ(epoch, batch.epoch);
                CHECK_OK(mr_loader_release(loader, NULL, &batch));
            }
            CHECK_OK(mr_loader_begin_epoch(loader));
        }
        uint8_t seen[100] = { 0 };
        CHECK_EQ(100, model_read_epoch(loader, device, seen));
        for (int i = 0; i < 100; i++)
            CHECK_EQ(1, seen[i]);
        mr_loader_destroy(loader);
    }
}

static void loader_awaits_an_epoch_where_asked(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 30, 10);
    options.is_epoch_awaited = true;
    mr_loader *loader = make_loader(device, &options);
    for (unsigned epoch = 1; epoch < 5; epoch++) {
        CHECK_EQ(30, model_read_epoch(loader, device, NULL));
        CHECK_EQ(3 * epoch, atomic_load(&model.fill_count));
        CHECK_OK(mr_loader_begin_epoch(loader));
    }
    mr_loader_destroy(loader);
}

static void loader_prepares_the_next_epoch_meanwhile(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, 20, 10);
    mr_loader *loader = make_loader(device, &options);
    CHECK_EQ(20, model_read_epoch(loader, device, NULL));
    while (atomic_load(&model.fill_count) < 4)
        sched_yield();
    mr_batch batch;
    CHECK_STATUS(MR_END, mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    mr_loader_destroy(loader);
    CHECK_EQ(4, atomic_load(&model.fill_count)); /* and no more than that one */
}

static void read_order(mr_loader *loader, mr_device *device, uint64_t *order)
{
    uint64_t count = 0;
    mr_batch batch;
    (void)device;
    while (mr_loader_next(loader, NULL, MR_FOREVER, &batch) == MR_OK) {
        memcpy(order + count, batch.samples, batch.sample_count * sizeof *order);
        count += batch.sample_count;
        CHECK_OK(mr_loader_release(loader, NULL, &batch));
    }
    CHECK_EQ(100, count);
}

static void loader_shuffles_the_same_way_for_the_same_seed(mr_device *device)
{
    uint64_t orders[2][2][100];
    for (int run = 0; run < 2; run++) {
        struct model model = { .worker_count = run ? 1 : 4 };
        mr_loader_options options = model_options(&model, 100, 9);
        options.is_shuffled = true;
        options.seed = 5;
        mr_loader *loader = make_loader(device, &options);
        read_order(loader, device, orders[run][0]);
        CHECK_OK(mr_loader_begin_epoch(loader));
        read_order(loader, device, orders[run][1]);
        mr_loader_destroy(loader);
    }
    CHECK_EQ(0, memcmp(orders[0], orders[1], sizeof orders[0]));
    CHECK(memcmp(orders[0][0], orders[0][1], sizeof orders[0][0]) != 0);
    uint8_t seen[100] = { 0 };
    for (int i = 0; i < 100; i++)
        CHECK_EQ(1, ++seen[orders[0][0][i]]);
}

static mr_status reverse(void *context, uint64_t epoch, uint64_t *samples, uint64_t sample_count)
{
    struct model *model = context;
    atomic_fetch_add(&model->order_count, 1);
    for (uint64_t i = 0; i < sample_count; i++)
        samples[i] = (sample_count - 1 - i + epoch) % sample_count;
    return MR_OK;
}

static void loader_takes_an_order_of_ones_own(mr_device *device)
{
    struct model model = { .worker_count = 4 };
    mr_loader_options options = model_options(&model, 100, 9);
    options.reorder = reverse;
    options.epoch_count = 6;
    mr_loader *loader = make_loader(device, &options);
    for (uint64_t epoch = 0; epoch < 6; epoch++) {
        uint64_t order[100];
        read_order(loader, device, order);
        for (uint64_t i = 0; i < 100; i++)
            CHECK_EQ((99 - i + epoch) % 100, order[i]);
        CHECK_STATUS(epoch < 5 ? MR_OK : MR_END, mr_loader_begin_epoch(loader));
    }
    mr_loader_destroy(loader);
    CHECK_EQ(6, atomic_load(&model.order_count));
}

static uint32_t grow(void *context, uint64_t epoch, uint64_t batch, uint64_t left)
{
    (void)context;
    (void)left;
    return (uint32_t)((batch + epoch) % 10) + 1;
}

static void loader_takes_batches_of_changing_size(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    struct reader reader;
    mr_loader_options options = model_options(&model, 33, 10);
    options.next_size = grow;
    mr_loader *loader = make_loader(device, &options);
    const uint32_t sizes[] = { 1, 2, 3, 4, 5, 6, 7, 5 };
    reader_open(&reader, device);
    for (int i = 0; i < 8; i++) {
        mr_batch batch;
        CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
        CHECK_EQ(sizes[i], batch.sample_count);
        reader_check(&reader, &batch);
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    mr_batch batch;
    CHECK_STATUS(MR_END, mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
    reader_close(&reader);
    mr_loader_destroy(loader);
}

/* `fill` may find fewer samples than it was asked for, none included. */
static void loader_takes_what_fill_found(mr_device *device)
{
    struct model model = { .worker_count = 3, .is_thinning = true };
    struct reader reader;
    mr_loader_options options = model_options(&model, 50, 5);
    mr_loader *loader = make_loader(device, &options);
    reader_open(&reader, device);
    for (uint64_t i = 0; i < 10; i++) {
        mr_batch batch;
        CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
        CHECK_EQ(i % 6, batch.sample_count);
        CHECK_EQ(batch.sample_count * MODEL_SAMPLE_BYTES, batch.fields[0].size_bytes);
        reader_check(&reader, &batch);
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    reader_close(&reader);
    mr_loader_destroy(loader);
}

static void loader_ends_an_epoch_where_fill_says_so(mr_device *device)
{
    struct model model = { .worker_count = 4, .batch_count = 13 };
    for (int order = MR_LOADER_IN_ORDER; order <= MR_LOADER_AS_COMPLETED; order++) {
        mr_loader_options options = model_options(&model, 0, 4);
        options.order = (mr_loader_order)order;
        mr_loader *loader = make_loader(device, &options);
        for (int epoch = 0; epoch < 5; epoch++) {
            CHECK_EQ(13 * 4, model_read_epoch(loader, device, NULL));
            CHECK_OK(mr_loader_begin_epoch(loader));
        }
        mr_loader_destroy(loader);
    }
}

static void loader_takes_epochs_without_a_batch(mr_device *device)
{
    struct model model = { .worker_count = 3, .has_no_batches = true };
    mr_loader_options options = model_options(&model, 0, 4);
    options.epoch_count = 50;
    mr_loader *loader = make_loader(device, &options);
    for (int epoch = 0; epoch < 50; epoch++) {
        CHECK_EQ(0, model_read_epoch(loader, device, NULL));
        CHECK_STATUS(epoch < 49 ? MR_OK : MR_END, mr_loader_begin_epoch(loader));
    }
    mr_loader_destroy(loader);
}

static void loader_goes_on_where_another_was(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 100, 9);
    options.is_shuffled = true;
    options.epoch_count = 3;
    uint64_t whole[36], epochs[36];
    int count = 0;
    for (int taken = 0; taken < 36; taken += 5) {
        mr_loader *loader = make_loader(device, &options);
        for (int i = 0; i < (taken < 35 ? 5 : 1); i++) {
            mr_batch batch;
            mr_status status = mr_loader_next(loader, NULL, MR_FOREVER, &batch);
            if (status == MR_END) {
                CHECK_OK(mr_loader_begin_epoch(loader));
                status = mr_loader_next(loader, NULL, MR_FOREVER, &batch);
            }
            CHECK_OK(status);
            whole[count] = batch.batch;
            epochs[count++] = batch.epoch;
            CHECK_OK(mr_loader_release(loader, NULL, &batch));
        }
        mr_loader_position(loader, &options.first_epoch, &options.first_batch);
        mr_loader_destroy(loader);
    }
    for (int i = 0; i < 36; i++)
        CHECK_EQ(i, whole[i] + 12 * epochs[i]);
    CHECK_EQ(3, options.first_epoch);
    CHECK_EQ(0, options.first_batch);
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch;
    CHECK_STATUS(MR_END, mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    mr_loader_destroy(loader);
}

static void loader_may_begin_at_the_end_of_an_epoch(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, 100, 9);
    options.first_epoch = 3;
    options.first_batch = 12;
    mr_loader *loader = make_loader(device, &options);
    CHECK_EQ(0, model_read_epoch(loader, device, NULL));
    CHECK_OK(mr_loader_begin_epoch(loader));
    mr_batch batch;
    CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    CHECK_EQ(4, batch.epoch);
    CHECK_EQ(0, batch.batch);
    CHECK_OK(mr_loader_release(loader, NULL, &batch));
    CHECK_EQ(91, model_read_epoch(loader, device, NULL));
    mr_loader_destroy(loader);
}

/* ---- order ---- */

/* Batch 0 is not there before all others that can be are. */
static void loader_keeps_the_order_whoever_is_first(mr_device *device)
{
    struct model model = { .worker_count = 3, .is_first_held = true };
    mr_loader_options options = model_options(&model, 100, 10);
    CHECK_EQ(0, sem_init(&model.go, 0, 0));
    mr_loader *loader = make_loader(device, &options);
    while (atomic_load(&model.fill_count) < 4)
        sched_yield();
    mr_batch batch;
    CHECK_STATUS(MR_E_BUSY, mr_loader_next(loader, NULL, 0, &batch));
    CHECK_STATUS(MR_E_TIMEOUT, mr_loader_next(loader, NULL, 1000000, &batch));
    CHECK_EQ(0, sem_post(&model.go));
    CHECK_EQ(100, model_read_epoch(loader, device, NULL));
    mr_loader_destroy(loader);
    CHECK_EQ(0, sem_destroy(&model.go));
}

static void loader_gives_batches_as_completed_where_asked(mr_device *device)
{
    struct model model = { .worker_count = 2, .is_first_held = true };
    mr_loader_options options = model_options(&model, 100, 10);
    options.order = MR_LOADER_AS_COMPLETED;
    CHECK_EQ(0, sem_init(&model.go, 0, 0));
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch;
    for (uint64_t i = 1; i < 10; i++) {
        CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
        CHECK_EQ(i, batch.batch);
        CHECK_OK(mr_loader_release(loader, NULL, &batch));
    }
    CHECK_STATUS(MR_E_BUSY, mr_loader_next(loader, NULL, 0, &batch));
    CHECK_EQ(0, sem_post(&model.go));
    CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    CHECK_EQ(0, batch.batch);
    CHECK_OK(mr_loader_release(loader, NULL, &batch));
    CHECK_STATUS(MR_END, mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    mr_loader_destroy(loader);
    CHECK_EQ(0, sem_destroy(&model.go));
}

/* ---- memory ---- */

static void loader_copies_nothing_where_memory_is_shared(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    mr_loader_options options = model_options(&model, 100, 10);
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch;
    for (int i = 0; i < 10; i++) {
        CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
        const char *host = mr_buffer_host(batch.fields[0].buffer);
        CHECK((host != NULL) == properties.is_host_memory);
        if (host)
            CHECK(host + batch.fields[0].offset == model.written[batch.batch]);
        CHECK_EQ(0, batch.fields[1].offset % 256);
        CHECK_OK(mr_loader_release(loader, NULL, &batch));
    }
    mr_loader_destroy(loader);
}

static void loader_takes_lent_memory(mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    for (int kind = MODEL_LENDS_DATA; kind <= MODEL_LENDS_BOTH; kind++) {
        struct model model = { .worker_count = 3, .lending = (enum model_lending)kind };
        mr_loader_options options = model_options(&model, 95, 10);
        model_make_pool(&model, device);
        options.staging = (mr_staging_options){ .thread_count = 2, .chunk_bytes = 4096 };
        mr_loader *loader = make_loader(device, &options);
        for (int epoch = 0; epoch < 4; epoch++) {
            CHECK_EQ(95, model_read_epoch(loader, device, NULL));
            CHECK_OK(mr_loader_begin_epoch(loader));
        }
        mr_loader_statistics statistics;
        mr_loader_measure(loader, &statistics);
        const int limit = (int)(statistics.prefetch_count +
                                (properties.is_host_memory ? statistics.slot_count : 0));
        CHECK(atomic_load(&model.lent_peak) <= limit);
        mr_loader_destroy(loader);
        CHECK_EQ(0, atomic_load(&model.lent_count)); /* each was given back, once */
        model_free_pool(&model);
    }
}

static void loader_hands_a_lent_buffer_on_where_memory_is_shared(mr_device *device)
{
    struct model model = { .worker_count = 1, .lending = MODEL_LENDS_BUFFERS };
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    mr_loader_options options = model_options(&model, 95, 10);
    model_make_pool(&model, device);
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch;
    CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    bool is_own = false;
    for (int i = 0; i < MODEL_POOL; i++)
        is_own |= batch.fields[0].buffer == model.pool[i].buffer;
    CHECK_EQ(properties.is_host_memory, is_own);
    CHECK_OK(mr_loader_release(loader, NULL, &batch));
    mr_loader_destroy(loader);
    model_free_pool(&model);
}

/* ---- streams ---- */

/* The consumer's stream stands still while the host goes on: nothing that it has yet to read may be
 * written again. */
static void loader_rewrites_nothing_that_a_stream_has_yet_to_read(mr_device *device)
{
    enum { SLOTS = 3, PREFETCH = 4, BATCHES = 40, SIZE = 10 * MODEL_SAMPLE_BYTES };
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, BATCHES * 10, 10);
    options.slot_count = SLOTS;
    options.prefetch_count = PREFETCH;
    options.epoch_count = 1;
    struct latch latch;
    struct reader reader;
    mr_buffer *all = NULL;
    CHECK_OK(mr_buffer_create(device, BATCHES * SIZE,
                              &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &all));
    latch_init(&latch);
    reader_open(&reader, device);
    latch_stop(&latch, reader.stream);
    mr_loader *loader = make_loader(device, &options);
    for (size_t i = 0; i < BATCHES; i++) {
        mr_batch batch;
        if (i == SLOTS) {
            mr_loader_statistics statistics;
            do {
                sched_yield();
                mr_loader_measure(loader, &statistics);
            } while (statistics.filled < SLOTS + PREFETCH);
            latch_open(&latch);
        }
        CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
        CHECK_OK(mr_copy(reader.stream, all, i * SIZE, batch.fields[0].buffer,
                         batch.fields[0].offset, SIZE));
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    CHECK_OK(mr_stream_wait(reader.stream));
    const uint32_t *values = mr_buffer_host(all);
    for (uint32_t i = 0; i < BATCHES * 10 * MODEL_VALUES; i++)
        CHECK_EQ(model_value(i / MODEL_VALUES, i % MODEL_VALUES), values[i]);
    mr_loader_destroy(loader);
    reader_close(&reader);
    latch_fini(&latch);
    mr_buffer_destroy(all);
}

struct consumer {
    mr_loader *loader;
    mr_device *device;
    pthread_t thread;
    uint8_t seen[500];
    uint64_t batch_count;
};

static void *consume(void *context)
{
    struct consumer *consumer = context;
    struct reader reader;
    mr_batch batch;
    reader_open(&reader, consumer->device);
    while (mr_loader_next(consumer->loader, reader.stream, MR_FOREVER, &batch) == MR_OK) {
        reader_check(&reader, &batch);
        for (uint32_t i = 0; i < batch.sample_count; i++)
            consumer->seen[batch.samples[i]]++;
        consumer->batch_count++;
        CHECK_OK(mr_loader_release(consumer->loader, reader.stream, &batch));
    }
    reader_close(&reader);
    return NULL;
}

static void loader_serves_several_consumers(mr_device *device)
{
    enum { CONSUMERS = 4 };
    for (int order = MR_LOADER_IN_ORDER; order <= MR_LOADER_AS_COMPLETED; order++) {
        struct model model = { .worker_count = 3 };
        struct consumer consumers[CONSUMERS];
        mr_loader_options options = model_options(&model, 500, 6);
        options.is_shuffled = true;
        options.order = (mr_loader_order)order;
        mr_loader *loader = make_loader(device, &options);
        for (int i = 0; i < CONSUMERS; i++) {
            consumers[i] = (struct consumer){ .loader = loader, .device = device };
            CHECK_EQ(0, pthread_create(&consumers[i].thread, NULL, consume, &consumers[i]));
        }
        for (int i = 0; i < CONSUMERS; i++)
            CHECK_EQ(0, pthread_join(consumers[i].thread, NULL));
        for (int k = 0; k < 500; k++) {
            int sum = 0;
            for (int i = 0; i < CONSUMERS; i++)
                sum += consumers[i].seen[k];
            CHECK_EQ(1, sum);
        }
        mr_loader_destroy(loader);
    }
}

/* ---- what happened ---- */

static void count_operation(void *context, const mr_operation *operation)
{
    _Atomic uint32_t *counts = context;
    atomic_fetch_add(&counts[operation->kind], 1);
}

static void loader_allocates_nothing_in_steady_state(mr_device *device)
{
    static const mr_operation_kind forbidden[] = {
        MR_OPERATION_ALLOCATE,     MR_OPERATION_FREE,     MR_OPERATION_ALLOCATE_ORDERED,
        MR_OPERATION_FREE_ORDERED, MR_OPERATION_REGISTER, MR_OPERATION_UNREGISTER,
        MR_OPERATION_SYNCHRONIZE,
    };
    _Atomic uint32_t counts[MR_OPERATION_KIND_COUNT] = { 0 };
    struct model model = { .worker_count = 3, .lending = MODEL_LENDS_DATA };
    mr_loader_options options = model_options(&model, 200, 5);
    struct reader reader;
    model_make_pool(&model, device);
    reader_open(&reader, device);
    mr_loader *loader = make_loader(device, &options);
    mr_device_observe(device, count_operation, counts);
    for (int i = 0; i < 40; i++) {
        mr_batch batch;
        CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
        CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    }
    CHECK_OK(mr_stream_wait(reader.stream));
    mr_device_observe(device, NULL, NULL);
    CHECK(atomic_load(&counts[MR_OPERATION_RECORD]) >= 40);
    for (size_t i = 0; i < sizeof forbidden / sizeof *forbidden; i++)
        CHECK_EQ(0, atomic_load(&counts[forbidden[i]]));
    mr_loader_destroy(loader);
    reader_close(&reader);
    model_free_pool(&model);
}

static void loader_counts_what_it_does(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, 100, 10);
    options.epoch_count = 1;
    options.prefetch_count = 3;
    options.slot_count = 2;
    mr_loader *loader = make_loader(device, &options);
    mr_loader_statistics statistics;
    do {
        sched_yield();
        mr_loader_measure(loader, &statistics);
    } while (statistics.filled < 5 || statistics.ready_count + statistics.waiting_count < 5);
    CHECK_EQ(2, statistics.worker_count);
    CHECK_EQ(3, statistics.prefetch_count);
    CHECK_EQ(2, statistics.slot_count);
    CHECK(statistics.memory_bytes >= 5 * 10 * MODEL_SAMPLE_BYTES);
    CHECK_EQ(0, statistics.batches);

    mr_batch batch;
    CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    mr_loader_measure(loader, &statistics);
    CHECK_EQ(1, statistics.lent_count);
    CHECK_EQ(1, statistics.batches);
    CHECK_EQ(10, statistics.samples);
    CHECK_EQ(10 * (MODEL_SAMPLE_BYTES + MODEL_LABEL_BYTES), statistics.bytes);
    CHECK_OK(mr_loader_release(loader, NULL, &batch));
    CHECK_EQ(90, model_read_epoch(loader, device, NULL));
    mr_loader_measure(loader, &statistics);
    CHECK_EQ(10, statistics.filled);
    CHECK_EQ(0, statistics.lent_count + statistics.ready_count + statistics.waiting_count);
    CHECK_EQ(0, statistics.skipped + statistics.left_out);
    uint64_t batches = 0, fill_ns = 0;
    for (uint32_t i = 0; i < 2; i++) {
        mr_loader_worker_statistics worker;
        CHECK_OK(mr_loader_measure_worker(loader, i, &worker));
        batches += worker.batches;
        fill_ns += worker.fill_ns;
        CHECK(!worker.is_gone);
    }
    CHECK_EQ(10, batches);
    CHECK_EQ(statistics.fill_ns, fill_ns);
    mr_loader_worker_statistics worker;
    CHECK_STATUS(MR_E_INVALID, mr_loader_measure_worker(loader, 2, &worker));
    mr_loader_destroy(loader);
}

/* Workers that are held make consumers wait; consumers that take nothing make workers wait. */
static void loader_names_the_bottleneck(mr_device *device)
{
    struct model model = { .worker_count = 2, .is_first_held = true };
    mr_loader_options options = model_options(&model, 1000, 10);
    mr_loader_statistics statistics;
    mr_batch batch;
    CHECK_EQ(0, sem_init(&model.go, 0, 0));
    options.worker_count = 1;
    mr_loader *loader = make_loader(device, &options);
    CHECK_STATUS(MR_E_TIMEOUT, mr_loader_next(loader, NULL, 2000000, &batch));
    mr_loader_measure(loader, &statistics);
    CHECK_EQ(1, statistics.consumer_waits);
    CHECK(statistics.consumer_wait_ns >= 2000000);
    CHECK_EQ(MR_LOADER_WORKERS, statistics.bottleneck);
    CHECK_EQ(0, sem_post(&model.go));
    do {
        sched_yield();
        mr_loader_measure(loader, &statistics);
    } while (statistics.bottleneck != MR_LOADER_CONSUMERS);
    CHECK(statistics.fill_wait_ns >= statistics.consumer_wait_ns);
    mr_loader_destroy(loader);
    CHECK_EQ(0, sem_destroy(&model.go));
}

static const struct suite_test tests[] = {
    SUITE_TEST(loader_gives_every_sample_in_order),
    SUITE_TEST(loader_leaves_out_a_short_last_batch_where_asked),
    SUITE_TEST(loader_goes_from_epoch_to_epoch),
    SUITE_TEST(loader_leaves_an_epoch_early),
    SUITE_TEST(loader_awaits_an_epoch_where_asked),
    SUITE_TEST(loader_prepares_the_next_epoch_meanwhile),
    SUITE_TEST(loader_shuffles_the_same_way_for_the_same_seed),
    SUITE_TEST(loader_takes_an_order_of_ones_own),
    SUITE_TEST(loader_takes_batches_of_changing_size),
    SUITE_TEST(loader_takes_what_fill_found),
    SUITE_TEST(loader_ends_an_epoch_where_fill_says_so),
    SUITE_TEST(loader_takes_epochs_without_a_batch),
    SUITE_TEST(loader_goes_on_where_another_was),
    SUITE_TEST(loader_may_begin_at_the_end_of_an_epoch),
    SUITE_TEST(loader_keeps_the_order_whoever_is_first),
    SUITE_TEST(loader_gives_batches_as_completed_where_asked),
    SUITE_TEST(loader_copies_nothing_where_memory_is_shared),
    SUITE_TEST(loader_takes_lent_memory),
    SUITE_TEST(loader_hands_a_lent_buffer_on_where_memory_is_shared),
    SUITE_TEST(loader_rewrites_nothing_that_a_stream_has_yet_to_read),
    SUITE_TEST(loader_serves_several_consumers),
    SUITE_TEST(loader_allocates_nothing_in_steady_state),
    SUITE_TEST(loader_counts_what_it_does),
    SUITE_TEST(loader_names_the_bottleneck),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = WORKERS }, tests,
                      sizeof tests / sizeof *tests);
}
