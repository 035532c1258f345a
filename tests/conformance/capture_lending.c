/* SPDX-License-Identifier: MIT */
/*
 * Rings, loaders and staging crews on a captured stream: what they lend is for one use, and a graph would
 * use it with every launch. They break the capture in their own name.
 */
#include "support/graphs.h"
#include "support/suite.h"

#include <millrace/loader.h>
#include <millrace/ring.h>
#include <millrace/staging.h>

enum { BYTES = 1024 };

struct lenders {
    mr_ring *ring;
    mr_loader *loader;
    mr_staging *staging;
    mr_buffer *buffer;
    mr_slot written, read;
    mr_batch batch;
    char bytes[BYTES];
};

static mr_status fill_nothing(void *context, mr_fill_call *call)
{
    (void)context;
    (void)call;
    return MR_OK;
}

static void lenders_init(struct lenders *lenders, mr_device *device)
{
    CHECK_OK(mr_staging_create(device, NULL, &lenders->staging));
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &lenders->buffer));
    CHECK_OK(mr_ring_create(device, &(mr_ring_options){ .slot_bytes = 64 }, &lenders->ring));
    CHECK_OK(mr_ring_acquire(lenders->ring, NULL, MR_FOREVER, &lenders->read));
    CHECK_OK(mr_ring_publish(lenders->ring, NULL, &lenders->read));
    CHECK_OK(mr_ring_take(lenders->ring, 0, NULL, MR_FOREVER, &lenders->read));
    CHECK_OK(mr_ring_acquire(lenders->ring, NULL, MR_FOREVER, &lenders->written));
    CHECK_OK(mr_ring_publish(lenders->ring, NULL, &lenders->written));
    CHECK_OK(mr_ring_acquire(lenders->ring, NULL, MR_FOREVER, &lenders->written));
    const mr_loader_field field = { .sample_bytes = 64 };
    const mr_loader_options options = {
        .fields = &field, .field_count = 1, .fill = fill_nothing, .batch_size = 1, .worker_count = 1
    };
    CHECK_OK(mr_loader_create(device, &options, &lenders->loader));
    CHECK_OK(mr_loader_next(lenders->loader, NULL, MR_FOREVER, &lenders->batch));
}

/* What was lent before a refusal is so still. */
static void lenders_fini(struct lenders *lenders)
{
    CHECK_OK(mr_ring_release(lenders->ring, 0, NULL, &lenders->read));
    CHECK_OK(mr_ring_publish(lenders->ring, NULL, &lenders->written));
    CHECK_OK(mr_loader_release(lenders->loader, NULL, &lenders->batch));
    mr_ring_destroy(lenders->ring);
    mr_loader_destroy(lenders->loader);
    mr_staging_destroy(lenders->staging);
    mr_buffer_destroy(lenders->buffer);
}

static mr_status acquire_slot(struct lenders *lenders, mr_stream *stream)
{
    mr_slot slot;
    return mr_ring_acquire(lenders->ring, stream, 0, &slot);
}
static mr_status publish_slot(struct lenders *lenders, mr_stream *stream)
{
    return mr_ring_publish(lenders->ring, stream, &lenders->written);
}
static mr_status take_slot(struct lenders *lenders, mr_stream *stream)
{
    mr_slot slot;
    return mr_ring_take(lenders->ring, 0, stream, 0, &slot);
}
static mr_status release_slot(struct lenders *lenders, mr_stream *stream)
{
    return mr_ring_release(lenders->ring, 0, stream, &lenders->read);
}
static mr_status next_batch(struct lenders *lenders, mr_stream *stream)
{
    mr_batch batch;
    return mr_loader_next(lenders->loader, stream, MR_FOREVER, &batch);
}
static mr_status release_batch(struct lenders *lenders, mr_stream *stream)
{
    return mr_loader_release(lenders->loader, stream, &lenders->batch);
}
static mr_status stage_up(struct lenders *lenders, mr_stream *stream)
{
    return mr_staging_upload(lenders->staging, stream, lenders->buffer, 0, lenders->bytes, BYTES);
}
static mr_status stage_down(struct lenders *lenders, mr_stream *stream)
{
    return mr_staging_download(lenders->staging, stream, lenders->bytes, lenders->buffer, 0, BYTES);
}
static mr_status call_own(struct lenders *lenders, mr_stream *stream)
{
    (void)lenders;
    return mr_capture_refuse(stream, "own_call", "of its own reason");
}

static const struct {
    mr_status (*run)(struct lenders *lenders, mr_stream *stream);
    const char *call;
} lending_calls[] = {
    { acquire_slot, "mr_ring_acquire" },
    { publish_slot, "mr_ring_publish" },
    { take_slot, "mr_ring_take" },
    { release_slot, "mr_ring_release" },
    { next_batch, "mr_loader_next" },
    { release_batch, "mr_loader_release" },
    { stage_up, "mr_staging_upload" },
    { stage_down, "mr_staging_download" },
    { call_own, "own_call of stream 'first': of its own reason" },
};

static void what_is_lent_for_one_use_breaks_the_capture(mr_device *device)
{
    mr_stream *stream;
    CHECK_OK(mr_stream_create(device, &(mr_stream_options){ .name = "first" }, &stream));
    struct lenders lenders = { 0 };
    lenders_init(&lenders, device);
    for (size_t i = 0; i < sizeof lending_calls / sizeof lending_calls[0]; i++) {
        mr_graph *graph;
        CHECK_OK(mr_capture_begin(stream));
        CHECK_STATUS(MR_E_STATE, lending_calls[i].run(&lenders, stream));
        CHECK_SAYS(lending_calls[i].call, mr_last_error());
        CHECK_STATUS(MR_E_STATE, mr_capture_end(stream, &graph));
        CHECK_SAYS(lending_calls[i].call, mr_last_error());
        CHECK_SAYS("stream 'first'", mr_last_error());
    }
    CHECK_OK(mr_capture_refuse(stream, "call", "why"));
    CHECK_OK(mr_capture_refuse(NULL, "call", "why"));
    lenders_fini(&lenders);
    mr_stream_destroy(stream);
}

int main(int argc, char **argv)
{
    static const struct suite_test tests[] = {
        SUITE_TEST(what_is_lent_for_one_use_breaks_the_capture),
    };
    if (argc > 2 && graphs_are_missing(argv[2]))
        return GRAPHS_SKIPPED;
    return suite_main(argc, argv, &(mr_device_options){ .worker_count = 4 }, tests,
                      sizeof tests / sizeof tests[0]);
}
