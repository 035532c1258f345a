/* SPDX-License-Identifier: MIT */
/*
 * The loader when things go wrong: workers that fail or die, batches that are skipped, orders and sizes
 * that cannot be, wrong calls, and ends at any moment.
 */
#include "loader_model.h"

#include "support/suite.h"

#include <sched.h>

enum { WORKERS = 6 };

static mr_loader *make_loader(mr_device *device, const mr_loader_options *options)
{
    mr_loader *loader = NULL;
    CHECK_OK(mr_loader_create(device, options, &loader));
    return loader;
}

/* Batches 0 to count - 1, then the status. */
static void read_until(mr_loader *loader, uint64_t count, mr_status expected)
{
    mr_batch batch;
    for (uint64_t i = 0; i < count; i++) {
        CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
        CHECK_EQ(i, batch.batch);
        CHECK_OK(mr_loader_release(loader, NULL, &batch));
    }
    CHECK_STATUS(expected, mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    CHECK(!batch.fields);
}

/* ---- workers that fail ---- */

static void loader_ends_with_the_error_of_a_worker(mr_device *device)
{
    struct model model = { .worker_count = 3, .fail_batch = 8 };
    const mr_loader_options options = model_options(&model, 200, 10);
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 7, MR_E_FORMAT);
    CHECK_SAYS("loader 'model', epoch 0, batch 7, worker ", mr_last_error());
    CHECK_SAYS("a sample is broken", mr_last_error());
    read_until(loader, 0, MR_E_FORMAT); /* and again */
    CHECK_SAYS("a sample is broken", mr_last_error());
    mr_loader_destroy(loader);
}

static void loader_ends_when_a_worker_s_thread_ends(mr_device *device)
{
    for (int policy = MR_ERROR_STOP; policy <= MR_ERROR_SKIP; policy++) {
        struct model model = { .worker_count = 2, .fail_batch = 4, .is_dying = true };
        mr_loader_options options = model_options(&model, 200, 10);
        options.on_error = (mr_error_policy)policy;
        mr_loader *loader = make_loader(device, &options);
        read_until(loader, 3, MR_E_CALLBACK);
        CHECK_SAYS("epoch 0, batch 3, worker ", mr_last_error());
        CHECK_SAYS("its thread has ended", mr_last_error());
        int gone = 0;
        for (uint32_t i = 0; i < 2; i++) {
            mr_loader_worker_statistics worker;
            CHECK_OK(mr_loader_measure_worker(loader, i, &worker));
            gone += worker.is_gone;
        }
        CHECK_EQ(1, gone);
        mr_loader_destroy(loader);
    }
}

static mr_status be_cancelled(void *context, mr_fill_call *call)
{
    (void)context;
    (void)call;
    pthread_cancel(pthread_self());
    pthread_testcancel();
    return MR_OK;
}

static void loader_ends_when_a_worker_s_thread_is_cancelled(mr_device *device)
{
    struct model model = { .worker_count = 1 };
    mr_loader_options options = model_options(&model, 20, 10);
    options.fill = be_cancelled;
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 0, MR_E_CALLBACK);
    mr_loader_destroy(loader);
}

static mr_status fail_later(void *context, mr_fill_call *call)
{
    if (call->epoch == 1 && call->batch == 1)
        return mr_error_set(MR_E_IO, "no such file");
    return model_fill(context, call);
}

static void loader_tells_an_error_in_its_own_epoch(mr_device *device)
{
    for (int order = MR_LOADER_IN_ORDER; order <= MR_LOADER_AS_COMPLETED; order++) {
        struct model model = { .worker_count = 3 };
        mr_loader_options options = model_options(&model, 50, 10);
        options.fill = fail_later;
        options.order = (mr_loader_order)order;
        mr_loader *loader = make_loader(device, &options);
        mr_loader_worker_statistics worker;
        uint64_t failures;
        do {
            failures = 0;
            for (uint32_t i = 0; i < 3; i++) {
                CHECK_OK(mr_loader_measure_worker(loader, i, &worker));
                failures += worker.failures;
            }
            sched_yield();
            /* the whole first epoch fits in the loader's places but two */
        } while (!failures);
        CHECK_EQ(50, model_read_epoch(loader, device, NULL));
        CHECK_OK(mr_loader_begin_epoch(loader));
        mr_batch batch;
        mr_status status;
        while ((status = mr_loader_next(loader, NULL, MR_FOREVER, &batch)) == MR_OK) {
            CHECK_EQ(1, batch.epoch);
            CHECK_OK(mr_loader_release(loader, NULL, &batch));
        }
        CHECK_STATUS(MR_E_IO, status);
        CHECK_SAYS("epoch 1, batch 1, worker ", mr_last_error());
        mr_loader_destroy(loader);
    }
}

static mr_status fail_without_words(void *context, mr_fill_call *call)
{
    (void)context;
    (void)call;
    return MR_E_IO;
}

static mr_status answer_nonsense(void *context, mr_fill_call *call)
{
    (void)context;
    (void)call;
    return (mr_status)7;
}

static void loader_words_an_error_that_has_none(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    mr_loader_options options = model_options(&model, 20, 10);
    options.fill = fail_without_words;
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 0, MR_E_IO);
    CHECK_SAYS(mr_status_text(MR_E_IO), mr_last_error());
    mr_loader_destroy(loader);
    options.fill = answer_nonsense;
    loader = make_loader(device, &options);
    read_until(loader, 0, MR_E_CALLBACK);
    mr_loader_destroy(loader);
}

/* ---- batches that are skipped ---- */

static void loader_skips_what_failed_and_lists_it(mr_device *device)
{
    for (int order = MR_LOADER_IN_ORDER; order <= MR_LOADER_AS_COMPLETED; order++) {
        struct model model = { .worker_count = 3, .fail_every = 3 };
        mr_loader_options options = model_options(&model, 100, 10);
        options.on_error = MR_ERROR_SKIP;
        options.order = (mr_loader_order)order;
        options.epoch_count = 2;
        mr_loader *loader = make_loader(device, &options);
        CHECK_EQ(60, model_read_epoch(loader, device, NULL));
        CHECK_OK(mr_loader_begin_epoch(loader));
        CHECK_EQ(60, model_read_epoch(loader, device, NULL));
        mr_skipped_batch skipped[9];
        CHECK_EQ(8, mr_loader_skipped(loader, 0, skipped, 9));
        uint32_t seen[2] = { 0 };
        for (int i = 0; i < 8; i++) {
            CHECK_EQ(0, skipped[i].batch % 3);
            CHECK_EQ(MR_E_FORMAT, skipped[i].status);
            CHECK_SAYS("a sample is broken", skipped[i].words);
            CHECK(skipped[i].worker < 3);
            seen[skipped[i].epoch] |= 1u << skipped[i].batch;
        }
        CHECK_EQ(01111, seen[0]);
        CHECK_EQ(01111, seen[1]);
        CHECK_EQ(2, mr_loader_skipped(loader, 6, skipped, 9));
        CHECK_EQ(3, mr_loader_skipped(loader, 0, skipped, 3));
        CHECK_EQ(0, mr_loader_skipped(loader, 8, skipped, 9));
        mr_loader_statistics statistics;
        mr_loader_measure(loader, &statistics);
        CHECK_EQ(8, statistics.skipped);
        mr_loader_destroy(loader);
    }
}

static void loader_skips_everything_if_it_must(mr_device *device)
{
    struct model model = { .worker_count = 3, .fail_every = 1 };
    mr_loader_options options = model_options(&model, 6000, 2);
    options.on_error = MR_ERROR_SKIP;
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 0, MR_END);
    CHECK_OK(mr_loader_begin_epoch(loader));
    read_until(loader, 0, MR_END);
    mr_loader_statistics statistics;
    mr_loader_measure(loader, &statistics);
    CHECK(statistics.skipped >= 6000);
    static mr_skipped_batch skipped[MR_LOADER_SKIPPED_LIMIT + 1];
    CHECK_EQ(MR_LOADER_SKIPPED_LIMIT,
             mr_loader_skipped(loader, 0, skipped, MR_LOADER_SKIPPED_LIMIT + 1));
    mr_loader_destroy(loader);
}

/* ---- what cannot be ---- */

static mr_status leave_the_range(void *context, uint64_t epoch, uint64_t *samples,
                                 uint64_t sample_count)
{
    (void)context;
    (void)epoch;
    for (uint64_t i = 0; i < sample_count; i++)
        samples[i] = i;
    samples[7] = sample_count;
    return MR_OK;
}

static mr_status refuse_order(void *context, uint64_t epoch, uint64_t *samples,
                              uint64_t sample_count)
{
    (void)context;
    for (uint64_t i = 0; i < sample_count; i++)
        samples[i] = i;
    return epoch ? mr_error_set(MR_E_IO, "no weights for epoch 1") : MR_OK;
}

static void loader_refuses_an_order_that_is_none(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 50, 10);
    options.on_error = MR_ERROR_SKIP; /* which is for batches */
    options.reorder = leave_the_range;
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 0, MR_E_INVALID);
    CHECK_SAYS("place 7 has sample 50; there are 50", mr_last_error());
    mr_loader_destroy(loader);

    options.reorder = refuse_order;
    loader = make_loader(device, &options);
    read_until(loader, 5, MR_END);
    CHECK_OK(mr_loader_begin_epoch(loader));
    read_until(loader, 0, MR_E_IO);
    CHECK_SAYS("reorder: no weights for epoch 1", mr_last_error());
    mr_loader_destroy(loader);
}

static uint32_t be_too_large(void *context, uint64_t epoch, uint64_t batch, uint64_t left)
{
    (void)context;
    (void)epoch;
    (void)left;
    return batch < 2 ? 5 : 11;
}

static void loader_refuses_a_batch_of_no_size(mr_device *device)
{
    struct model model = { .worker_count = 3 };
    mr_loader_options options = model_options(&model, 50, 10);
    options.next_size = be_too_large;
    mr_loader *loader = make_loader(device, &options);
    read_until(loader, 2, MR_E_CALLBACK);
    CHECK_SAYS("next_size answers no number from 1 to 10", mr_last_error());
    mr_loader_destroy(loader);
    options.first_batch = 4;
    CHECK_STATUS(MR_E_INVALID, mr_loader_create(device, &options, &loader));
    CHECK(!loader);
}

static mr_status say_too_much(void *context, mr_fill_call *call)
{
    const char *what = context;
    if (strcmp(what, "bytes") == 0)
        call->fields[0].size_bytes = call->fields[0].capacity_bytes + 1;
    else if (strcmp(what, "samples") == 0)
        call->sample_count++;
    else if (strcmp(what, "both") == 0)
        call->fields[0].data = call->fields[0].buffer = (void *)call;
    return MR_OK;
}

static void loader_refuses_what_fill_says_wrongly(mr_device *device)
{
    static const struct {
        const char *what, *words;
        enum model_lending lending;
    } cases[] = {
        { "bytes", "field 'values' has 833 bytes; it may have 832", MODEL_WRITES },
        { "samples", "sample_count is 11; 10 were asked for", MODEL_WRITES },
        { "nothing", "field 'values' is lent: set one of data and buffer", MODEL_LENDS_BUFFERS },
        { "both", "field 'values' is lent: set one of data and buffer", MODEL_LENDS_BUFFERS },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct model model = { .worker_count = 2, .lending = cases[i].lending };
        mr_loader_options options = model_options(&model, 50, 10);
        options.fill = say_too_much;
        options.give_back = NULL;
        options.interrupt = NULL;
        options.context = (void *)cases[i].what;
        mr_loader *loader = make_loader(device, &options);
        read_until(loader, 0, MR_E_INVALID);
        CHECK_SAYS(cases[i].words, mr_last_error());
        mr_loader_destroy(loader);
    }
}

static void loader_refuses_wrong_calls(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    const mr_loader_options options = model_options(&model, 50, 10);
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch, copy;
    CHECK_STATUS(MR_E_INVALID, mr_loader_next(NULL, NULL, MR_FOREVER, &batch));
    CHECK_STATUS(MR_E_STATE, mr_loader_release(loader, NULL, &batch));
    CHECK_STATUS(MR_E_INVALID, mr_loader_release(loader, NULL, NULL));
    CHECK_STATUS(MR_E_INVALID, mr_loader_begin_epoch(NULL));
    CHECK_OK(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    copy = batch;
    CHECK_OK(mr_loader_release(loader, NULL, &batch));
    CHECK_STATUS(MR_E_STATE, mr_loader_release(loader, NULL, &copy));
    CHECK_SAYS("batch 0 of epoch 0 is not lent", mr_last_error());
    copy.slot = 1000;
    CHECK_STATUS(MR_E_STATE, mr_loader_release(loader, NULL, &copy));
    mr_loader_destroy(loader);
    mr_loader_stop(NULL);
    mr_loader_destroy(NULL);
}

/* ---- ends ---- */

static void loader_may_be_destroyed_at_any_time(mr_device *device)
{
    for (int taken = 0; taken < 60; taken++) {
        struct model model = { .worker_count = 3,
                               .lending = taken % 3 ? MODEL_WRITES : MODEL_LENDS_DATA };
        struct reader reader;
        mr_loader_options options = model_options(&model, 200, 10);
        options.order = (mr_loader_order)(taken % 2);
        options.staging = (mr_staging_options){ .thread_count = 1, .chunk_bytes = 4096 };
        if (model.lending)
            model_make_pool(&model, device);
        reader_open(&reader, device);
        mr_loader *loader = make_loader(device, &options);
        for (int i = 0; i < taken % 20; i++) {
            mr_batch batch;
            CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
            CHECK_OK(mr_copy(reader.stream, reader.values, 0, batch.fields[0].buffer,
                             batch.fields[0].offset, batch.fields[0].size_bytes));
            if (i < taken % 20 - taken % 4)
                CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
        }
        mr_loader_destroy(loader);
        CHECK_EQ(0, atomic_load(&model.lent_count));
        reader_close(&reader);
        if (model.lending)
            model_free_pool(&model);
    }
}

static mr_status stop_until_interrupted(void *context)
{
    struct model *model = context;
    while (!atomic_load(&model->interrupt_count))
        sched_yield();
    for (int i = 0; i < 2000; i++)
        sched_yield();
    return MR_OK;
}

/* The stream goes on when destroy has begun: lent memory is not given back, to be written, before it has
 * read it. */
static void loader_destroy_waits_for_lent_memory_in_use(mr_device *device)
{
    struct model model = { .worker_count = 2, .lending = MODEL_LENDS_BUFFERS };
    struct reader reader;
    mr_batch batch;
    mr_loader_options options = model_options(&model, 200, 10);
    model_make_pool(&model, device);
    reader_open(&reader, device);
    mr_loader *loader = make_loader(device, &options);
    CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
    const mr_batch_field values = batch.fields[0];
    CHECK_OK(mr_stream_call(reader.stream, stop_until_interrupted, &model));
    CHECK_OK(
        mr_copy(reader.stream, reader.values, 0, values.buffer, values.offset, values.size_bytes));
    mr_loader_destroy(loader);
    CHECK_EQ(0, atomic_load(&model.lent_count));
    CHECK_OK(mr_stream_wait(reader.stream));
    const uint32_t *value = mr_buffer_host(reader.values);
    for (uint32_t i = 0; i < values.size_bytes / sizeof *value; i++)
        CHECK_EQ(model_value(i / MODEL_VALUES, i % MODEL_VALUES), value[i]);
    reader_close(&reader);
    model_free_pool(&model);
}

static void *wait_for_more(void *context)
{
    mr_loader *loader = context;
    mr_batch batch;
    CHECK_STATUS(MR_E_CANCELLED, mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    return NULL;
}

static void hold_on(void *context)
{
    struct model *model = context;
    model_interrupt(context);
    CHECK_EQ(0, sem_post(&model->go));
}

static void loader_stop_makes_everybody_leave(mr_device *device)
{
    struct model model = { .worker_count = 1, .is_first_held = true };
    mr_loader_options options = model_options(&model, 200, 10);
    options.interrupt = hold_on;
    pthread_t waiting[3];
    CHECK_EQ(0, sem_init(&model.go, 0, 0));
    mr_loader *loader = make_loader(device, &options);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(0, pthread_create(&waiting[i], NULL, wait_for_more, loader));
    mr_loader_stop(loader);
    mr_loader_stop(loader);
    for (int i = 0; i < 3; i++)
        CHECK_EQ(0, pthread_join(waiting[i], NULL));
    CHECK_STATUS(MR_E_CANCELLED, mr_loader_begin_epoch(loader));
    mr_loader_destroy(loader);
    CHECK_EQ(1, atomic_load(&model.interrupt_count));
    CHECK_EQ(0, sem_destroy(&model.go));
}

static void loader_lets_lent_batches_be_used_after_stop(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    struct reader reader;
    const mr_loader_options options = model_options(&model, 200, 10);
    reader_open(&reader, device);
    mr_loader *loader = make_loader(device, &options);
    mr_batch batch;
    CHECK_OK(mr_loader_next(loader, reader.stream, MR_FOREVER, &batch));
    mr_loader_stop(loader);
    reader_check(&reader, &batch);
    CHECK_OK(mr_loader_release(loader, reader.stream, &batch));
    mr_loader_destroy(loader);
    reader_close(&reader);
}

/* A consumer's stream that fails does not hold the loader up. */
static mr_status fail_stream(void *context)
{
    (void)context;
    return mr_error_set(MR_E_FORMAT, "the consumer fails");
}

static void loader_outlives_a_consumer_that_fails(mr_device *device)
{
    struct model model = { .worker_count = 2 };
    const mr_loader_options options = model_options(&model, 200, 10);
    mr_loader *loader = make_loader(device, &options);
    mr_stream *stream;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    mr_batch batch;
    CHECK_OK(mr_loader_next(loader, stream, MR_FOREVER, &batch));
    CHECK_OK(mr_stream_call(stream, fail_stream, NULL));
    CHECK_OK(mr_loader_release(loader, stream, &batch));
    CHECK_EQ(190, model_read_epoch(loader, device, NULL));
    CHECK_STATUS(MR_E_FORMAT, mr_stream_wait(stream));
    mr_loader_destroy(loader);
    mr_stream_destroy(stream);
}

static const struct suite_test tests[] = {
    SUITE_TEST(loader_ends_with_the_error_of_a_worker),
    SUITE_TEST(loader_ends_when_a_worker_s_thread_ends),
    SUITE_TEST(loader_ends_when_a_worker_s_thread_is_cancelled),
    SUITE_TEST(loader_tells_an_error_in_its_own_epoch),
    SUITE_TEST(loader_words_an_error_that_has_none),
    SUITE_TEST(loader_skips_what_failed_and_lists_it),
    SUITE_TEST(loader_skips_everything_if_it_must),
    SUITE_TEST(loader_refuses_an_order_that_is_none),
    SUITE_TEST(loader_refuses_a_batch_of_no_size),
    SUITE_TEST(loader_refuses_what_fill_says_wrongly),
    SUITE_TEST(loader_refuses_wrong_calls),
    SUITE_TEST(loader_may_be_destroyed_at_any_time),
    SUITE_TEST(loader_destroy_waits_for_lent_memory_in_use),
    SUITE_TEST(loader_stop_makes_everybody_leave),
    SUITE_TEST(loader_lets_lent_batches_be_used_after_stop),
    SUITE_TEST(loader_outlives_a_consumer_that_fails),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = WORKERS }, tests,
                      sizeof tests / sizeof *tests);
}
