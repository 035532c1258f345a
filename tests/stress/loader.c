/* SPDX-License-Identifier: MIT */
/*
 * Loaders of every kind one after the other, with workers and consumers at random speeds, epochs left
 * early, failures, lent memory, and ends in the middle.
 *
 * Every value that a stream reads is the one of the sample that the batch names. In a whole epoch every
 * sample comes once, or is in a batch that is listed as skipped. Lent memory is given back once for each
 * time that it was lent, and not before it was read.
 */
#include "support/check.h"
#include "support/random.h"
#include "support/suite.h"

#include <millrace/event.h>
#include <millrace/loader.h>

#include <pthread.h>
#include <stdatomic.h>

enum { SAMPLES = 300, VALUES = 24, BATCH_LIMIT = 20, PLACES = 64, CONSUMERS = 3 };

struct shop {
    mr_device *device;
    mr_loader *loader;
    uint64_t seed;
    uint32_t batch_size, fail_one_in;
    bool is_lending, is_by_buffer;
    pthread_mutex_t lock;
    mr_buffer *places[PLACES];
    bool is_taken[PLACES];
    _Atomic int taken;
    _Atomic uint8_t seen[SAMPLES];
    _Atomic uint32_t mistakes;
};

static uint32_t value_of(uint64_t sample, uint64_t i)
{
    return (uint32_t)(sample * 31 + i);
}

static void dawdle(uint64_t random)
{
    if (random % 4 == 0) {
        for (volatile uint64_t i = 0; i < random % 30000; i++)
            ;
    }
}

/* ---- workers ---- */

static uint32_t *take_place(struct shop *shop, uint64_t *index)
{
    pthread_mutex_lock(&shop->lock);
    for (*index = 0; shop->is_taken[*index]; ++*index)
        CHECK(*index + 1 < PLACES);
    shop->is_taken[*index] = true;
    pthread_mutex_unlock(&shop->lock);
    atomic_fetch_add(&shop->taken, 1);
    return mr_buffer_host(shop->places[*index]);
}

static void give_back(void *context, uint64_t epoch, uint64_t batch, uint64_t user)
{
    struct shop *shop = context;
    (void)epoch;
    (void)batch;
    poison(mr_buffer_host(shop->places[user]), mr_buffer_size(shop->places[user]));
    pthread_mutex_lock(&shop->lock);
    CHECK(shop->is_taken[user]);
    shop->is_taken[user] = false;
    pthread_mutex_unlock(&shop->lock);
    atomic_fetch_sub(&shop->taken, 1);
}

/* Whether a batch fails depends on its epoch and number alone. */
static bool is_failing(const struct shop *shop, uint64_t seed)
{
    return shop->fail_one_in && seed % shop->fail_one_in == 0;
}

static mr_status fill(void *context, mr_fill_call *call)
{
    struct shop *shop = context;
    dawdle(call->seed >> 7);
    if (is_failing(shop, call->seed))
        return mr_error_set(MR_E_FORMAT, "told to");
    uint32_t *values = call->fields[0].data;
    if (shop->is_lending) {
        values = take_place(shop, &call->user);
        if (shop->is_by_buffer)
            call->fields[0].buffer = shop->places[call->user];
        else
            call->fields[0].data = values;
    }
    uint64_t *labels = call->fields[1].data;
    for (uint32_t i = 0; i < call->sample_count; i++) {
        labels[i] = call->samples[i];
        for (uint64_t k = 0; k < VALUES; k++)
            *values++ = value_of(call->samples[i], k);
    }
    return MR_OK;
}

/* ---- consumers ---- */

struct consumer {
    struct shop *shop;
    uint64_t seed;
    uint64_t batch_limit;
    mr_status status;
    pthread_t thread;
};

/* Runs in stream order, between the copies of a batch and those of the next. */
struct reading {
    struct shop *shop;
    const uint32_t *values;
    const uint64_t *labels;
    uint64_t samples[BATCH_LIMIT];
    uint32_t count;
};

static mr_status check_reading(void *context)
{
    const struct reading *reading = context;
    uint32_t mistakes = 0;
    for (uint32_t i = 0; i < reading->count; i++) {
        mistakes += reading->labels[i] != reading->samples[i];
        for (uint64_t k = 0; k < VALUES; k++)
            mistakes += reading->values[i * VALUES + k] != value_of(reading->samples[i], k);
        atomic_fetch_add(&reading->shop->seen[reading->samples[i]], 1);
    }
    atomic_fetch_add(&reading->shop->mistakes, mistakes);
    return MR_OK;
}

enum { READINGS = 8 };

struct desk {
    mr_stream *stream;
    mr_buffer *values, *labels;
    struct reading readings[READINGS];
    mr_event *ends[READINGS];
};

static void open_desk(struct desk *desk, mr_device *device)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    const size_t values_bytes = BATCH_LIMIT * VALUES * sizeof(uint32_t);
    CHECK_OK(mr_stream_create(device, NULL, &desk->stream));
    CHECK_OK(mr_buffer_create(device, READINGS * values_bytes, &pinned, &desk->values));
    CHECK_OK(mr_buffer_create(device, (size_t)READINGS * BATCH_LIMIT * sizeof(uint64_t), &pinned,
                              &desk->labels));
    for (int i = 0; i < READINGS; i++)
        CHECK_OK(mr_event_create(device, NULL, &desk->ends[i]));
}

static void close_desk(struct desk *desk)
{
    CHECK_OK(mr_stream_wait(desk->stream));
    for (int i = 0; i < READINGS; i++)
        mr_event_destroy(desk->ends[i]);
    mr_buffer_destroy(desk->labels);
    mr_buffer_destroy(desk->values);
    mr_stream_destroy(desk->stream);
}

/* Enqueues and goes on; the host waits only for its own records. */
static void read_batch(struct desk *desk, struct shop *shop, uint64_t number, const mr_batch *batch)
{
    const size_t at = number % READINGS;
    const size_t values_at = at * BATCH_LIMIT * VALUES * sizeof(uint32_t);
    const size_t labels_at = at * BATCH_LIMIT * sizeof(uint64_t);
    struct reading *reading = &desk->readings[at];
    CHECK_OK(mr_event_wait(desk->ends[at]));
    reading->shop = shop;
    reading->values = (const uint32_t *)((char *)mr_buffer_host(desk->values) + values_at);
    reading->labels = (const uint64_t *)((char *)mr_buffer_host(desk->labels) + labels_at);
    reading->count = batch->sample_count;
    memcpy(reading->samples, batch->samples, batch->sample_count * sizeof *reading->samples);
    CHECK_OK(mr_copy(desk->stream, desk->values, values_at, batch->fields[0].buffer,
                     batch->fields[0].offset, batch->fields[0].size_bytes));
    CHECK_OK(mr_copy(desk->stream, desk->labels, labels_at, batch->fields[1].buffer,
                     batch->fields[1].offset, batch->fields[1].size_bytes));
    CHECK_OK(mr_stream_call(desk->stream, check_reading, reading));
    CHECK_OK(mr_event_record(desk->ends[at], desk->stream));
}

static void *consume(void *context)
{
    struct consumer *consumer = context;
    struct shop *shop = consumer->shop;
    struct random random = { consumer->seed };
    struct desk desk = { 0 };
    open_desk(&desk, shop->device);
    consumer->status = MR_OK;
    for (uint64_t i = 0; i < consumer->batch_limit; i++) {
        mr_batch batch;
        const uint64_t timeout_ns = random_below(&random, 3) ? MR_FOREVER : 20000;
        consumer->status = mr_loader_next(shop->loader, desk.stream, timeout_ns, &batch);
        if (consumer->status == MR_E_TIMEOUT)
            continue;
        if (consumer->status)
            break;
        read_batch(&desk, shop, i, &batch);
        dawdle(random_next(&random) >> 20);
        CHECK_OK(mr_loader_release(shop->loader, desk.stream, &batch));
    }
    close_desk(&desk);
    return NULL;
}

static void run_consumers(struct shop *shop, struct consumer *consumers, uint64_t batch_limit)
{
    for (int i = 0; i < CONSUMERS; i++) {
        consumers[i] = (struct consumer){ .shop = shop,
                                          .seed = shop->seed * 10 + (uint64_t)i + 1,
                                          .batch_limit = batch_limit };
        CHECK_EQ(0, pthread_create(&consumers[i].thread, NULL, consume, &consumers[i]));
    }
    for (int i = 0; i < CONSUMERS; i++)
        CHECK_EQ(0, pthread_join(consumers[i].thread, NULL));
    CHECK_EQ(0, atomic_load(&shop->mistakes));
}

/* ---- shops ---- */

static void open_shop(struct shop *shop, mr_device *device, struct random *random,
                      mr_error_policy on_error)
{
    const mr_place place = random_below(random, 2) ? MR_PLACE_PINNED : MR_PLACE_PAGEABLE;
    *shop = (struct shop){ .device = device, .seed = random_next(random) | 1 };
    shop->is_lending = random_below(random, 2);
    shop->is_by_buffer = random_below(random, 2);
    shop->batch_size = 1 + (uint32_t)random_below(random, BATCH_LIMIT);
    shop->fail_one_in = on_error == MR_ERROR_SKIP ? 9 : random_below(random, 2) ? 40 : 0;
    CHECK_EQ(0, pthread_mutex_init(&shop->lock, NULL));
    for (int i = 0; i < PLACES; i++)
        CHECK_OK(mr_buffer_create(device, BATCH_LIMIT * VALUES * sizeof(uint32_t),
                                  &(mr_buffer_options){ .place = place }, &shop->places[i]));
    const mr_loader_field fields[] = {
        { .sample_bytes = VALUES * sizeof(uint32_t), .is_lent = shop->is_lending },
        { .sample_bytes = sizeof(uint64_t) },
    };
    const mr_loader_options options = {
        .fields = fields,
        .field_count = 2,
        .fill = fill,
        .give_back = give_back,
        .context = shop,
        .sample_count = SAMPLES,
        .batch_size = shop->batch_size,
        .is_shuffled = random_below(random, 2),
        .seed = shop->seed,
        .order = (mr_loader_order)random_below(random, 2),
        .on_error = on_error,
        .worker_count = 1 + (uint32_t)random_below(random, 5),
        .prefetch_count = 1 + (uint32_t)random_below(random, 6),
        .slot_count = 1 + (uint32_t)random_below(random, 5),
        .is_epoch_awaited = random_below(random, 4) == 0,
        .staging = { .thread_count = 1, .chunk_bytes = 4096 },
    };
    CHECK_OK(mr_loader_create(device, &options, &shop->loader));
}

static void close_shop(struct shop *shop)
{
    mr_loader_destroy(shop->loader);
    CHECK_EQ(0, atomic_load(&shop->taken));
    for (int i = 0; i < PLACES; i++)
        mr_buffer_destroy(shop->places[i]);
    CHECK_EQ(0, pthread_mutex_destroy(&shop->lock));
}

static uint64_t count_seen(struct shop *shop)
{
    uint64_t sum = 0;
    for (int i = 0; i < SAMPLES; i++) {
        const uint8_t seen = atomic_exchange(&shop->seen[i], 0);
        CHECK(seen <= 1);
        sum += seen;
    }
    return sum;
}

/* Samples of the epoch that are in batches listed as skipped. */
static uint64_t count_skipped(const struct shop *shop, uint64_t epoch)
{
    static mr_skipped_batch skipped[MR_LOADER_SKIPPED_LIMIT];
    const size_t count =
        mr_loader_skipped(shop->loader, 0, skipped, sizeof skipped / sizeof *skipped);
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t first = skipped[i].batch * shop->batch_size;
        const uint64_t left = SAMPLES - first;
        if (skipped[i].epoch == epoch)
            sum += left < shop->batch_size ? left : shop->batch_size;
    }
    return sum;
}

static void loader_gives_every_sample_or_lists_it(mr_device *device)
{
    struct random random = { 11 };
    struct consumer consumers[CONSUMERS];
    for (int round = 0; round < 40; round++) {
        struct shop shop;
        open_shop(&shop, device, &random, MR_ERROR_SKIP);
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            run_consumers(&shop, consumers, UINT64_MAX);
            for (int i = 0; i < CONSUMERS; i++)
                CHECK_EQ(MR_END, consumers[i].status);
            CHECK_EQ(SAMPLES, count_seen(&shop) + count_skipped(&shop, epoch));
            CHECK_OK(mr_loader_begin_epoch(shop.loader));
        }
        close_shop(&shop);
    }
}

static void loader_survives_epochs_that_are_left_early(mr_device *device)
{
    struct random random = { 12 };
    struct consumer consumers[CONSUMERS];
    for (int round = 0; round < 40; round++) {
        struct shop shop;
        open_shop(&shop, device, &random, MR_ERROR_SKIP);
        for (uint64_t epoch = 0; epoch < 6; epoch++) {
            run_consumers(&shop, consumers, random_below(&random, 9));
            (void)count_seen(&shop);
            CHECK_OK(mr_loader_begin_epoch(shop.loader));
        }
        run_consumers(&shop, consumers, UINT64_MAX);
        CHECK_EQ(SAMPLES, count_seen(&shop) + count_skipped(&shop, 6));
        close_shop(&shop);
    }
}

static void *turn_the_page(void *context)
{
    struct shop *shop = context;
    struct random random = { shop->seed };
    for (int i = 0; i < 12; i++) {
        dawdle(random_next(&random) & ~(uint64_t)3);
        const mr_status status = mr_loader_begin_epoch(shop->loader);
        CHECK(!status || status == MR_E_CANCELLED);
    }
    mr_loader_stop(shop->loader);
    return NULL;
}

/* Epochs begin, and the loader ends, while consumers are at it. */
static void loader_survives_whoever_turns_the_page(mr_device *device)
{
    struct random random = { 13 };
    for (int round = 0; round < 60; round++) {
        struct shop shop;
        struct consumer consumers[CONSUMERS];
        pthread_t turner;
        open_shop(&shop, device, &random, MR_ERROR_SKIP);
        CHECK_EQ(0, pthread_create(&turner, NULL, turn_the_page, &shop));
        run_consumers(&shop, consumers, UINT64_MAX);
        for (int i = 0; i < CONSUMERS; i++)
            CHECK(consumers[i].status == MR_END || consumers[i].status == MR_E_CANCELLED);
        CHECK_EQ(0, pthread_join(turner, NULL));
        close_shop(&shop);
    }
}

static void loader_ends_the_same_for_everybody(mr_device *device)
{
    struct random random = { 14 };
    for (int round = 0; round < 60; round++) {
        struct shop shop;
        struct consumer consumers[CONSUMERS];
        open_shop(&shop, device, &random, MR_ERROR_STOP);
        run_consumers(&shop, consumers, UINT64_MAX);
        for (int i = 0; i < CONSUMERS; i++) {
            CHECK_EQ(consumers[0].status, consumers[i].status);
            CHECK(consumers[i].status == MR_END || consumers[i].status == MR_E_FORMAT);
        }
        CHECK(consumers[0].status != MR_END || count_seen(&shop) == SAMPLES);
        close_shop(&shop);
    }
}

static void loader_survives_ends_in_the_middle(mr_device *device)
{
    struct random random = { 15 };
    for (int round = 0; round < 100; round++) {
        struct shop shop;
        struct consumer consumers[CONSUMERS];
        open_shop(&shop, device, &random, MR_ERROR_STOP);
        if (round % 2)
            run_consumers(&shop, consumers, random_below(&random, 5));
        close_shop(&shop);
    }
}

static const struct suite_test tests[] = {
    SUITE_TEST(loader_gives_every_sample_or_lists_it),
    SUITE_TEST(loader_survives_epochs_that_are_left_early),
    SUITE_TEST(loader_survives_whoever_turns_the_page),
    SUITE_TEST(loader_ends_the_same_for_everybody),
    SUITE_TEST(loader_survives_ends_in_the_middle),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof *tests);
}
