/* SPDX-License-Identifier: MIT */
/*
 * A staging crew moves pageable memory of any size to and from a device, from several threads.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/suite.h"

#include <millrace/event.h>
#include <millrace/staging.h>

#include <pthread.h>

enum { LARGE = 300000 };

static void fill(unsigned char *bytes, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (unsigned char)model_random(&seed);
}

/* There and back by way of a second buffer, so that the order with the stream's work counts. */
static void go_round(mr_staging *staging, mr_device *device, uint64_t seed, size_t size)
{
    const size_t offset = seed % 777;
    unsigned char *from = malloc(size + 1), *to = malloc(size + 1);
    mr_stream *stream;
    mr_buffer *first, *second;
    CHECK(from && to);
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create(device, offset + size + 1, NULL, &first));
    CHECK_OK(mr_buffer_create(device, offset + size + 1, NULL, &second));
    for (int turn = 0; turn < 3; turn++) {
        fill(from, size, seed + (uint64_t)turn);
        memset(to, 0xdb, size + 1);

        CHECK_OK(mr_staging_upload(staging, stream, first, offset, from, size));
        CHECK_OK(mr_copy(stream, second, 0, first, offset, size));
        memset(from, 0xdb, size);
        CHECK_OK(mr_staging_download(staging, stream, to, second, 0, size));

        fill(from, size, seed + (uint64_t)turn);
        CHECK(memcmp(from, to, size) == 0);
        CHECK_EQ(0xdb, to[size]);
    }
    mr_stream_destroy(stream);
    mr_buffer_destroy(first);
    mr_buffer_destroy(second);
    free(from);
    free(to);
}

static void memory_of_any_size_comes_back(mr_device *device)
{
    const size_t sizes[] = { 0, 1, 4095, 4096, 4097, 20000, LARGE };
    const mr_staging_options options[] = {
        { .thread_count = 1, .chunk_bytes = 4096, .slot_count = 2 },
        { .thread_count = 3, .chunk_bytes = 8192 },
        { 0 }
    };
    for (size_t k = 0; k < 3; k++) {
        mr_staging *staging;
        CHECK_OK(mr_staging_create(device, &options[k], &staging));
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            go_round(staging, device, i, sizes[i]);
        mr_staging_destroy(staging);
    }
}

struct user {
    mr_staging *staging;
    mr_device *device;
    uint64_t seed;
    pthread_t thread;
};

static void *use(void *context)
{
    struct user *user = context;
    for (uint64_t i = 0; i < 5; i++)
        go_round(user->staging, user->device, user->seed * 100 + i, 30000 + 997 * i);
    return NULL;
}

static void several_threads_may_share_a_crew(mr_device *device)
{
    struct user users[4];
    const mr_staging_options options = { .thread_count = 2, .chunk_bytes = 4096, .slot_count = 3 };
    mr_staging *staging;
    CHECK_OK(mr_staging_create(device, &options, &staging));
    for (uint64_t i = 0; i < 4; i++) {
        users[i] = (struct user){ .staging = staging, .device = device, .seed = i };
        CHECK(!pthread_create(&users[i].thread, NULL, use, &users[i]));
    }
    for (int i = 0; i < 4; i++)
        pthread_join(users[i].thread, NULL);
    mr_staging_destroy(staging);
}

static void crew_copies_host_memory_by_ticket(mr_device *device)
{
    enum { COUNT = 9 };
    mr_staging *staging;
    mr_staging_ticket tickets[COUNT];
    unsigned char *from = malloc(COUNT * LARGE), *to = malloc(COUNT * LARGE);
    CHECK(from && to);
    CHECK_OK(mr_staging_create(device, NULL, &staging));
    fill(from, COUNT * LARGE, 3);
    memset(to, 0, COUNT * LARGE);
    for (size_t i = 0; i < COUNT; i++) {
        const size_t at = i * LARGE + i;
        CHECK_OK(
            mr_staging_copy_begin(staging, to + at, from + at, LARGE - 2 * i, i % 2, &tickets[i]));
    }
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(mr_staging_copy_wait(staging, &tickets[i]));
        CHECK_OK(mr_staging_copy_query(&tickets[i]));
        const size_t at = i * LARGE + i;
        CHECK(memcmp(to + at, from + at, LARGE - 2 * i) == 0);
        CHECK_EQ(0, i ? to[at - 1] : 0);
    }
    mr_staging_destroy(staging);
    free(from);
    free(to);
}

static void bad_options_are_refused_in_words(mr_device *device)
{
    mr_staging *staging;
    CHECK_STATUS(MR_E_INVALID, mr_staging_create(NULL, NULL, &staging));
    CHECK_STATUS(MR_E_INVALID,
                 mr_staging_create(device, &(mr_staging_options){ .thread_count = 65 }, &staging));
    CHECK_SAYS("thread_count is 65", mr_last_error());
    CHECK_STATUS(MR_E_INVALID,
                 mr_staging_create(device, &(mr_staging_options){ .chunk_bytes = 4097 }, &staging));
    CHECK_STATUS(MR_E_INVALID,
                 mr_staging_create(device, &(mr_staging_options){ .slot_count = 1 }, &staging));
    CHECK(!staging);

    CHECK_OK(mr_staging_create(device, NULL, &staging));
    mr_staging_options choice;
    mr_staging_choice(staging, &choice);
    CHECK(choice.thread_count && choice.chunk_bytes && choice.slot_count);
    mr_stream *stream;
    mr_buffer *buffer;
    char byte = 0;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create(device, 100, NULL, &buffer));
    CHECK_STATUS(MR_E_INVALID, mr_staging_upload(staging, stream, buffer, 50, &byte, 51));
    CHECK_SAYS("50 + 51 of a buffer of 100", mr_last_error());
    CHECK_STATUS(MR_E_INVALID, mr_staging_download(staging, stream, NULL, buffer, 0, 1));
    mr_stream_destroy(stream);
    mr_buffer_destroy(buffer);
    mr_staging_destroy(staging);
}

static const struct suite_test tests[] = {
    SUITE_TEST(memory_of_any_size_comes_back),
    SUITE_TEST(several_threads_may_share_a_crew),
    SUITE_TEST(crew_copies_host_memory_by_ticket),
    SUITE_TEST(bad_options_are_refused_in_words),
};

int main(int argc, char **argv)
{
    return suite_main(argc, argv, NULL, tests, sizeof tests / sizeof *tests);
}
