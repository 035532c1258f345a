/* SPDX-License-Identifier: MIT */
/*
 * Streams, events and buffers on all devices at once, and waits across them.
 */
#include "support/latch.h"
#include "support/random.h"
#include "support/several.h"

#include <millrace/buffer.h>

#include <stdatomic.h>

enum { BYTES = (1 << 20) + 77, ROUNDS = 50 };

/* One device's part. */
struct part {
    mr_stream *stream;
    mr_event *event;
    mr_buffer *inside, *given, *returned;
};

static void part_init(struct part *part, mr_device *device)
{
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK_OK(mr_stream_create(device, NULL, &part->stream));
    CHECK_OK(mr_event_create(device, NULL, &part->event));
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &part->inside));
    CHECK_OK(mr_buffer_create(device, BYTES, &pinned, &part->given));
    CHECK_OK(mr_buffer_create(device, BYTES, &pinned, &part->returned));
}

static void part_fini(struct part *part)
{
    mr_buffer_destroy(part->inside);
    mr_buffer_destroy(part->given);
    mr_buffer_destroy(part->returned);
    mr_event_destroy(part->event);
    mr_stream_destroy(part->stream);
}

static void parts_init(struct part *parts, const struct several *several)
{
    for (uint32_t i = 0; i < several->all_count; i++)
        part_init(&parts[i], several->devices[i]);
}

static void parts_fini(struct part *parts, const struct several *several)
{
    for (uint32_t i = 0; i < several->all_count; i++)
        part_fini(&parts[i]);
}

static void every_device_works_beside_the_others(struct several *several)
{
    struct part parts[SEVERAL_LIMIT + 1];
    struct random random = { 11 };
    parts_init(parts, several);
    for (uint32_t i = 0; i < several->all_count; i++) {
        struct part *part = &parts[i];
        random_bytes(&random, mr_buffer_host(part->given), BYTES);
        poison(mr_buffer_host(part->returned), BYTES);
        CHECK_OK(mr_fill(part->stream, part->inside, 0, BYTES, POISON, 1));
        CHECK_OK(mr_copy(part->stream, part->inside, 0, part->given, 0, BYTES));
        CHECK_OK(mr_copy(part->stream, part->returned, 0, part->inside, 0, BYTES));
        CHECK_OK(mr_event_record(part->event, part->stream));
    }
    for (uint32_t i = 0; i < several->all_count; i++) {
        CHECK_OK(mr_event_wait(parts[i].event));
        CHECK_EQ(0,
                 memcmp(mr_buffer_host(parts[i].given), mr_buffer_host(parts[i].returned), BYTES));
    }
    parts_fini(parts, several);
}

/* ---- waits ---- */

/* Plain: each step comes after the one before by events alone. */
struct token {
    uint32_t count;
};

struct step {
    struct token *token;
    uint32_t due;
};

static mr_status take_step(void *context)
{
    const struct step *step = context;
    if (step->token->count != step->due)
        return mr_error_set(MR_E_MISMATCH, "step %u came when %u was due", step->due,
                            step->token->count);
    step->token->count++;
    return MR_OK;
}

/* From device to device, round after round, all of it queued before the first step is let go. */
static void waits_keep_the_order_across_all_devices(struct several *several)
{
    static struct step steps[ROUNDS * (SEVERAL_LIMIT + 1)];
    struct part parts[SEVERAL_LIMIT + 1];
    struct token token = { 0 };
    struct latch latch;
    uint32_t count = 0;
    const mr_event *before = NULL;
    parts_init(parts, several);
    latch_init(&latch);
    latch_stop(&latch, parts[0].stream);
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < several->all_count; i++) {
            steps[count] = (struct step){ &token, count };
            if (before)
                CHECK_OK(mr_stream_wait_event(parts[i].stream, before));
            CHECK_OK(mr_stream_call(parts[i].stream, take_step, &steps[count++]));
            CHECK_OK(mr_event_record(parts[i].event, parts[i].stream));
            before = parts[i].event;
        }
    }
    CHECK_STATUS(MR_E_BUSY, mr_event_query(before));
    CHECK_EQ(0, token.count);
    latch_open(&latch);
    for (uint32_t i = 0; i < several->all_count; i++)
        CHECK_OK(mr_stream_wait(parts[i].stream));
    CHECK_EQ(count, token.count);
    latch_fini(&latch);
    parts_fini(parts, several);
}

static mr_status count_up(void *context)
{
    atomic_fetch_add((_Atomic uint32_t *)context, 1);
    return MR_OK;
}

/* All devices wait for one, and one for all. */
static void one_event_may_hold_all_devices(struct several *several)
{
    struct part parts[SEVERAL_LIMIT + 1];
    _Atomic uint32_t count = 0;
    parts_init(parts, several);
    for (uint32_t first = 0; first < several->all_count; first++) {
        struct latch latch;
        latch_init(&latch);
        atomic_store(&count, 0);
        latch_stop(&latch, parts[first].stream);
        CHECK_OK(mr_event_record(parts[first].event, parts[first].stream));
        for (uint32_t i = 0; i < several->all_count; i++) {
            if (i == first)
                continue;
            CHECK_OK(mr_stream_wait_event(parts[i].stream, parts[first].event));
            CHECK_OK(mr_stream_call(parts[i].stream, count_up, &count));
            CHECK_OK(mr_event_record(parts[i].event, parts[i].stream));
            CHECK_OK(mr_stream_wait_event(parts[first].stream, parts[i].event));
        }
        CHECK_OK(mr_stream_call(parts[first].stream, count_up, &count));
        CHECK_EQ(0, atomic_load(&count));
        latch_open(&latch);
        CHECK_OK(mr_stream_wait(parts[first].stream));
        CHECK_EQ(several->all_count, atomic_load(&count));
        latch_fini(&latch);
    }
    parts_fini(parts, several);
}

/* ---- data ---- */

/* From the part before, by the GPU of the two; the CPU has the next word on what comes to it. */
static void hand_on(struct part *parts, const struct several *several, uint32_t i, size_t offset,
                    size_t size_bytes)
{
    struct part *before = &parts[i - 1], *part = &parts[i];
    const struct part *by = several->devices[i] == several->cpu ? before : part;
    CHECK_OK(mr_stream_wait_event(by->stream, before->event));
    CHECK_OK(mr_stream_wait_event(by->stream, part->event));
    CHECK_OK(mr_copy(by->stream, part->inside, offset, before->inside, offset, size_bytes));
    CHECK_OK(mr_event_record(by->event, by->stream));
    CHECK_OK(mr_stream_wait_event(part->stream, by->event));
    CHECK_OK(mr_event_record(part->event, part->stream));
}

static void check_range(const char *given, const char *returned, size_t offset, size_t size_bytes)
{
    CHECK_EQ(0, memcmp(given + offset, returned + offset, size_bytes));
    for (size_t i = 0; i < BYTES; i++) {
        if (i < offset || i >= offset + size_bytes)
            CHECK_EQ(POISON, (unsigned char)returned[i]);
    }
}

/* host ─► first ─► second ... ─► host: what one device wrote is seen by the next. */
static void data_goes_round_all_devices(struct several *several)
{
    struct part parts[SEVERAL_LIMIT + 1];
    struct random random = { 23 };
    const uint32_t last = several->all_count - 1;
    parts_init(parts, several);
    char *given = mr_buffer_host(parts[0].given), *returned = mr_buffer_host(parts[last].returned);
    for (int round = 0; round < 8; round++) {
        const size_t offset = random_below(&random, 64);
        const size_t size_bytes = 1 + random_below(&random, BYTES - 64);
        random_bytes(&random, given, BYTES);
        poison(returned, BYTES);
        for (uint32_t i = 0; i <= last; i++) {
            CHECK_OK(mr_fill(parts[i].stream, parts[i].inside, 0, BYTES, POISON, 1));
            if (i == 0)
                CHECK_OK(mr_copy(parts[0].stream, parts[0].inside, offset, parts[0].given, offset,
                                 size_bytes));
            CHECK_OK(mr_event_record(parts[i].event, parts[i].stream));
        }
        for (uint32_t i = 1; i <= last; i++)
            hand_on(parts, several, i, offset, size_bytes);
        CHECK_OK(
            mr_copy(parts[last].stream, parts[last].returned, 0, parts[last].inside, 0, BYTES));
        CHECK_OK(mr_stream_wait(parts[last].stream));
        check_range(given, returned, offset, size_bytes);
    }
    parts_fini(parts, several);
}

int main(int argc, char **argv)
{
    static const struct several_test tests[] = {
        SEVERAL_TEST(every_device_works_beside_the_others, .all_count = 1),
        SEVERAL_TEST(waits_keep_the_order_across_all_devices, .all_count = 2),
        SEVERAL_TEST(one_event_may_hold_all_devices, .all_count = 2),
        SEVERAL_TEST(data_goes_round_all_devices, .all_count = 2),
    };
    return several_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
