/* SPDX-License-Identifier: MIT */
/*
 * The loader's refusals, its shuffle, and every allocation and every driver call failed once.
 */
#include "flow/loader_shuffle.h"
#include "support/fault_driver.h"
#include "support/unit.h"

#include <millrace/loader.h>

#include <stdlib.h>

static mr_status fill_nothing(void *context, mr_fill_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

/* ---- refusals ---- */

static mr_status identity(void *context, uint64_t epoch, uint64_t *samples, uint64_t sample_count)
{
    (void)context;
    (void)epoch;
    for (uint64_t i = 0; i < sample_count; i++)
        samples[i] = i;
    return MR_OK;
}

static uint32_t one_each(void *context, uint64_t epoch, uint64_t batch, uint64_t left)
{
    (void)context;
    (void)epoch;
    (void)batch;
    (void)left;
    return 1;
}

#define FIELDS .fields = &good, .field_count = 1
#define FILL .fill = fill_nothing
#define SIZES .sample_count = 10, .batch_size = 5
#define GOOD FIELDS, FILL, SIZES

static void loader_refuses_bad_options(void **state)
{
    (void)state;
    const mr_loader_field good = { .sample_bytes = 8 }, none = { 0 };
    const mr_loader_field small = { .sample_bytes = 8, .batch_bytes = 39 };
    const mr_loader_field vast = { .sample_bytes = SIZE_MAX / 4 };
    static mr_loader_field many[MR_LOADER_FIELD_LIMIT + 1];
    for (int i = 0; i <= MR_LOADER_FIELD_LIMIT; i++)
        many[i].sample_bytes = 1;
    const mr_loader_options bad[] = {
        { 0 },
        { FILL, SIZES },
        { .fields = &good, FILL, SIZES },
        { .fields = many, .field_count = MR_LOADER_FIELD_LIMIT + 1, FILL, SIZES },
        { .fields = &none, .field_count = 1, FILL, SIZES },
        { .fields = &small, .field_count = 1, FILL, SIZES },
        { .fields = &vast, .field_count = 1, FILL, SIZES },
        { FIELDS, SIZES },
        { FIELDS, FILL, .sample_count = 10 },
        { GOOD, .is_shuffled = true, .reorder = identity },
        { FIELDS, FILL, .batch_size = 5, .is_shuffled = true },
        { FIELDS, FILL, .batch_size = 5, .reorder = identity },
        { GOOD, .is_last_dropped = true, .next_size = one_each },
        { FIELDS, FILL, .sample_count = 10, .batch_size = 11, .is_last_dropped = true },
        { GOOD, .epoch_count = 2, .first_epoch = 3 },
        { GOOD, .first_batch = 3 },
        { GOOD, .first_batch = UINT64_MAX },
        { GOOD, .epoch_count = 1, .first_epoch = 1, .first_batch = 1 },
        { GOOD, .next_size = one_each, .first_batch = 11 },
        { GOOD, .worker_count = MR_LOADER_WORKER_LIMIT + 1 },
        { GOOD, .prefetch_count = 1025 },
        { GOOD, .slot_count = 1025 },
        { GOOD, .order = (mr_loader_order)2 },
        { GOOD, .on_error = (mr_error_policy)2 },
    };
    mr_device *device;
    assert_ok(mr_device_open("cpu", NULL, &device));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        mr_loader *loader = (mr_loader *)&loader;
        assert_status(MR_E_INVALID, mr_loader_create(device, &bad[i], &loader));
        assert_null(loader);
        assert_words("loader: ");
    }
    mr_loader *loader;
    assert_status(MR_E_INVALID, mr_loader_create(device, NULL, &loader));
    assert_status(MR_E_INVALID, mr_loader_create(NULL, &bad[1], &loader));
    assert_ok(mr_device_close(device));
}

static void loader_refuses_the_stream_of_another_device(void **state)
{
    (void)state;
    mr_device *cpu, *cuda;
    mr_loader *loader;
    mr_stream *stream;
    mr_batch batch;
    const mr_loader_field good = { .sample_bytes = 8 };
    assert_ok(mr_device_open("cpu", NULL, &cpu));
    assert_ok(mr_device_open("cuda", NULL, &cuda));
    assert_ok(mr_stream_create(cuda, NULL, &stream));
    assert_ok(mr_loader_create(cpu, &(mr_loader_options){ GOOD }, &loader));
    assert_status(MR_E_INVALID, mr_loader_next(loader, stream, MR_FOREVER, &batch));
    assert_words("is of cpu, the stream of cuda:0");
    assert_ok(mr_loader_next(loader, NULL, MR_FOREVER, &batch));
    assert_status(MR_E_INVALID, mr_loader_release(loader, stream, &batch));
    assert_ok(mr_loader_release(loader, NULL, &batch));
    mr_loader_destroy(loader);
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(cuda));
    assert_ok(mr_device_close(cpu));
}

static void loader_chooses_what_is_not_given(void **state)
{
    (void)state;
    mr_device *device;
    mr_loader *loader;
    mr_loader_statistics statistics;
    const mr_loader_field good = { .sample_bytes = 8 };
    /* Two are the least, however little memory there is; only two are ever allocated here. */
    const mr_loader_field vast = { .sample_bytes = (size_t)1 << 38 };
    const mr_loader_options no_room = { .fields = &vast, .field_count = 1, FILL, SIZES };
    assert_ok(mr_device_open("cuda", NULL, &device));
    assert_ok(mr_loader_create(device, &(mr_loader_options){ GOOD }, &loader));
    mr_loader_measure(loader, &statistics);
    assert_true(statistics.worker_count >= 1);
    assert_int_equal(statistics.worker_count + 2, statistics.prefetch_count);
    assert_int_equal(4, statistics.slot_count);
    mr_loader_destroy(loader);
    assert_status(MR_E_NO_MEMORY, mr_loader_create(device, &no_room, &loader));
    assert_words("batch 0 of 2 on the device, of ");
    assert_ok(mr_device_close(device));
}

/* ---- shuffle ---- */

static void shuffle_is_a_permutation(void **state)
{
    (void)state;
    static const uint64_t counts[] = { 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 1000, 65537 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        const uint64_t count = counts[c];
        unsigned char *seen = calloc(count, 1);
        struct mr__shuffle shuffle;
        assert_non_null(seen);
        mr__shuffle_init(&shuffle, count, 42, c);
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t at = mr__shuffle_at(&shuffle, i);
            assert_true(at < count);
            assert_int_equal(1, ++seen[at]);
        }
        free(seen);
    }
}

static void shuffle_takes_any_count(void **state)
{
    (void)state;
    static const uint64_t counts[] = { UINT64_C(1) << 32, (UINT64_C(1) << 33) + 1, UINT64_MAX };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        struct mr__shuffle shuffle;
        mr__shuffle_init(&shuffle, counts[c], 1, 2);
        for (uint64_t i = 0; i < 100; i++) {
            assert_true(mr__shuffle_at(&shuffle, i) < counts[c]);
            assert_true(mr__shuffle_at(&shuffle, counts[c] - 1 - i) < counts[c]);
            assert_true(mr__shuffle_at(&shuffle, i) != mr__shuffle_at(&shuffle, i + 1));
        }
    }
}

/* Every sample is found at every place equally often, over many epochs: chi-squared at four standard
 * deviations of what is expected. Nothing here is random from run to run. */
static void shuffle_favours_nobody(void **state)
{
    (void)state;
    enum { EPOCHS = 20000, MOST = 50 };
    static const unsigned counts[] = { 2, 3, 5, 6, 10, 50 };
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        static unsigned found[MOST][MOST];
        const unsigned count = counts[c];
        memset(found, 0, sizeof found);
        for (uint64_t epoch = 0; epoch < EPOCHS; epoch++) {
            struct mr__shuffle shuffle;
            mr__shuffle_init(&shuffle, count, 9, epoch);
            for (unsigned i = 0; i < count; i++)
                found[i][mr__shuffle_at(&shuffle, i)]++;
        }
        const double expected = (double)EPOCHS / count;
        double sum = 0;
        for (unsigned i = 0; i < count; i++) {
            for (unsigned k = 0; k < count; k++)
                sum += (found[i][k] - expected) * (found[i][k] - expected) / expected;
        }
        const double freedom = (count - 1.0) * (count - 1.0);
        if ((sum - freedom) * (sum - freedom) > 16 * 2 * freedom)
            fail_msg("%u samples: chi-squared is %.1f, expected %.0f", count, sum, freedom);
    }
}

static void shuffle_goes_by_seed_and_epoch(void **state)
{
    (void)state;
    struct mr__shuffle shuffles[3];
    int equal_seed = 0, equal_epoch = 0;
    mr__shuffle_init(&shuffles[0], 10000, 1, 1);
    mr__shuffle_init(&shuffles[1], 10000, 2, 1);
    mr__shuffle_init(&shuffles[2], 10000, 1, 2);
    for (uint64_t i = 0; i < 10000; i++) {
        const uint64_t at = mr__shuffle_at(&shuffles[0], i);
        equal_seed += at == mr__shuffle_at(&shuffles[1], i);
        equal_epoch += at == mr__shuffle_at(&shuffles[2], i);
    }
    assert_true(equal_seed < 10);
    assert_true(equal_epoch < 10);
    /* The order is part of the promise to be reproducible: it may not change with a release. */
    static const uint64_t first[] = { 1823, 7694, 4633, 2660, 9527, 3022 };
    for (uint64_t i = 0; i < sizeof first / sizeof *first; i++)
        assert_int_equal(first[i], mr__shuffle_at(&shuffles[0], i));
}

/* ---- what fails ---- */

enum { SIZE = 48, POOL = 16 };

static uint64_t lent_memory[POOL][SIZE];

static mr_status fill_fields(void *context, mr_fill_call *call)
{
    (void)context;
    uint64_t *values = call->fields[0].data;
    for (uint32_t i = 0; i < call->sample_count; i++)
        values[i] = call->samples[i];
    call->fields[1].data = lent_memory[call->batch % POOL];
    return call->batch == 2 ? mr_error_set(MR_E_FORMAT, "told to") : MR_OK;
}

static mr_status read_batch(mr_loader *loader, mr_stream *stream, const mr_batch *batch,
                            mr_buffer *host)
{
    mr_status status = mr_copy(stream, host, 0, batch->fields[0].buffer, batch->fields[0].offset,
                               batch->fields[0].size_bytes);
    if (!status)
        status = mr_stream_wait(stream);
    const uint64_t *values = mr_buffer_host(host);
    for (uint32_t i = 0; !status && i < batch->sample_count; i++)
        assert_int_equal(batch->samples[i], values[i]);
    const mr_status released = mr_loader_release(loader, stream, batch);
    if (released)
        (void)!mr_loader_release(loader, NULL, batch);
    return status ? status : released;
}

/* Until it fails or ends: whatever comes is right. */
static mr_status read_all(mr_loader *loader, mr_stream *stream, mr_buffer *host)
{
    mr_status status;
    mr_batch batch;
    while ((status = mr_loader_next(loader, stream, MR_FOREVER, &batch)) == MR_OK) {
        status = read_batch(loader, stream, &batch, host);
        if (status)
            return status;
    }
    return status == MR_END ? MR_OK : status;
}

static mr_status use_loader(mr_device *device)
{
    static const mr_loader_field fields[] = { { .sample_bytes = 8 },
                                              { .sample_bytes = 8, .is_lent = true } };
    const mr_loader_options options = { .fields = fields,
                                        .field_count = 2,
                                        .fill = fill_fields,
                                        .sample_count = 100,
                                        .batch_size = 8,
                                        .reorder = identity,
                                        .epoch_count = 2,
                                        .on_error = MR_ERROR_SKIP,
                                        .worker_count = 2,
                                        .staging = { .thread_count = 1, .chunk_bytes = 4096 } };
    mr_stream *stream = NULL;
    mr_buffer *host = NULL;
    mr_loader *loader;
    mr_status status = mr_loader_create(device, &options, &loader);
    if (status)
        return status;
    status = mr_stream_create(device, NULL, &stream);
    if (!status)
        status =
            mr_buffer_create(device, 4096, &(mr_buffer_options){ .place = MR_PLACE_PINNED }, &host);
    if (!status)
        status = read_all(loader, stream, host);
    if (!status)
        status = mr_loader_begin_epoch(loader);
    if (!status)
        status = read_all(loader, stream, host);
    mr_loader_destroy(loader);
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
    return status;
}

static void loader_survives_every_failed_allocation(void **state)
{
    (void)state;
    for (int is_lasting = 0; is_lasting < 2; is_lasting++) {
        for (int i = 0; i < 2; i++) {
            struct fault fault = { .kind = &fault_allocation, .is_lasting = is_lasting };
            fault_on_device(&fault, i ? "cuda" : "cpu", use_loader);
            assert_true(fault.nth > 10);
        }
    }
}

static void loader_survives_every_failed_driver_call(void **state)
{
    (void)state;
    struct fault fault = { .kind = &fault_driver_call };
    fault_on_device(&fault, "cuda", use_loader);
    assert_true(fault.nth > 100);
}

/* A broken device ends the loader: nothing waits for ever, and nothing wrong is handed out. */
static void loader_ends_with_a_device_that_breaks(void **state)
{
    (void)state;
    const mr_loader_field good = { .sample_bytes = 8 };
    mr_device *device;
    mr_loader *loader;
    mr_stream *stream;
    mr_batch batch;
    mr_status status;
    assert_ok(mr_device_open("cuda", NULL, &device));
    assert_ok(mr_stream_create(device, NULL, &stream));
    assert_ok(mr_loader_create(device, &(mr_loader_options){ GOOD }, &loader));
    assert_ok(mr_loader_next(loader, stream, MR_FOREVER, &batch));
    assert_ok(mr_loader_release(loader, stream, &batch));
    fakecuda_break(0, 719);
    for (int i = 0; i < 100; i++) {
        status = mr_loader_next(loader, stream, MR_FOREVER, &batch);
        if (status == MR_END)
            status = mr_loader_begin_epoch(loader);
        else if (!status && mr_loader_release(loader, stream, &batch))
            (void)!mr_loader_release(loader, NULL, &batch);
    }
    assert_status(MR_E_DEVICE, status);
    mr_loader_destroy(loader);
    mr_stream_destroy(stream);
    assert_ok(mr_device_close(device));
    assert_int_equal(0, fakecuda_live());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(loader_refuses_bad_options),
        cmocka_unit_test(loader_refuses_the_stream_of_another_device),
        cmocka_unit_test(loader_chooses_what_is_not_given),
        cmocka_unit_test(shuffle_is_a_permutation),
        cmocka_unit_test(shuffle_takes_any_count),
        cmocka_unit_test(shuffle_favours_nobody),
        cmocka_unit_test(shuffle_goes_by_seed_and_epoch),
        cmocka_unit_test(loader_survives_every_failed_allocation),
        cmocka_unit_test(loader_survives_every_failed_driver_call),
        cmocka_unit_test(loader_ends_with_a_device_that_breaks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
