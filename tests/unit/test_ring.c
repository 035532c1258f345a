/* SPDX-License-Identifier: MIT */
/*
 * The ring in one thread on the CPU: every rule of ring.h, and random use against a plain model.
 */
#include "support/fault.h"
#include "support/unit.h"

#include <millrace/event.h>
#include <millrace/ring.h>

#include <stdlib.h>

static mr_device *device;

static int open_device(void **state)
{
    (void)state;
    return mr_device_open("cpu", NULL, &device);
}

static int close_device(void **state)
{
    (void)state;
    return mr_device_close(device);
}

static mr_ring *make_ring(mr_ring_options options)
{
    mr_ring *ring = NULL;
    if (!options.slot_bytes)
        options.slot_bytes = 64;
    assert_int_equal(MR_OK, mr_ring_create(device, &options, &ring));
    assert_non_null(ring);
    return ring;
}

/* One item, from a thread: its value in `user` and all over the slot. */
static void publish_value(mr_ring *ring, uint64_t value)
{
    mr_slot slot;
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &slot));
    memset(mr_buffer_host(slot.buffer), (int)value, slot.size_bytes);
    slot.user = value;
    assert_int_equal(MR_OK, mr_ring_publish(ring, NULL, &slot));
}

static mr_slot take_value(mr_ring *ring, uint32_t consumer, uint64_t value)
{
    mr_slot slot;
    assert_int_equal(MR_OK, mr_ring_take(ring, consumer, NULL, 0, &slot));
    assert_int_equal(value, slot.user);
    assert_int_equal((uint8_t)value, *(uint8_t *)mr_buffer_host(slot.buffer));
    return slot;
}

static void consume_value(mr_ring *ring, uint32_t consumer, uint64_t value)
{
    const mr_slot slot = take_value(ring, consumer, value);
    assert_int_equal(MR_OK, mr_ring_release(ring, consumer, NULL, &slot));
}

/* ---- options ---- */

static void ring_refuses_bad_options(void **state)
{
    (void)state;
    const mr_ring_options bad[] = {
        { .slot_bytes = 0 },
        { .slot_bytes = 8, .slot_count = 65537 },
        { .slot_bytes = 8, .broadcast_count = 65 },
        { .slot_bytes = 8, .place = (mr_place)9 },
        { .slot_bytes = 8, .policy = (mr_ring_policy)9 },
    };
    mr_ring *ring = (mr_ring *)&ring;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(MR_E_INVALID, mr_ring_create(device, &bad[i], &ring));
        assert_null(ring);
        assert_string_not_equal("", mr_last_error());
    }
    assert_int_equal(MR_E_INVALID, mr_ring_create(device, NULL, &ring));
    assert_int_equal(MR_E_INVALID, mr_ring_create(NULL, &bad[0], &ring));
}

static void ring_has_four_slots_unless_asked(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .policy = MR_RING_FAIL });
    mr_slot slots[5];
    for (int i = 0; i < 4; i++)
        assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, MR_FOREVER, &slots[i]));
    assert_int_equal(MR_E_BUSY, mr_ring_acquire(ring, NULL, MR_FOREVER, &slots[4]));
    assert_null(slots[4].buffer);
    for (int i = 0; i < 4; i++)
        assert_int_equal(MR_OK, mr_ring_abandon(ring, &slots[i]));
    mr_ring_destroy(ring);
}

static void ring_destroy_accepts_null(void **state)
{
    (void)state;
    mr_ring_destroy(NULL);
}

/* ---- the round ---- */

static void ring_gives_items_in_publishing_order(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 3 });
    mr_slot first, second, slot;
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &first));
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &second));
    assert_int_not_equal(first.index, second.index);
    assert_int_equal(64, first.size_bytes);
    second.user = 20;
    second.size_bytes = 7;
    first.user = 10;
    assert_int_equal(MR_OK, mr_ring_publish(ring, NULL, &second));
    assert_int_equal(MR_OK, mr_ring_publish(ring, NULL, &first));

    assert_int_equal(MR_OK, mr_ring_take(ring, 0, NULL, 0, &slot));
    assert_int_equal(20, slot.user);
    assert_int_equal(7, slot.size_bytes);
    assert_int_equal(0, slot.sequence);
    assert_ptr_equal(second.buffer, slot.buffer);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slot));
    assert_int_equal(MR_OK, mr_ring_take(ring, 0, NULL, 0, &slot));
    assert_int_equal(10, slot.user);
    assert_int_equal(1, slot.sequence);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slot));
    mr_ring_destroy(ring);
}

static void ring_of_one_slot_goes_round(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 1 });
    for (uint64_t i = 0; i < 100; i++) {
        publish_value(ring, i);
        consume_value(ring, 0, i);
    }
    mr_ring_destroy(ring);
}

static void ring_takes_slots_back_in_any_order(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 3 });
    for (uint64_t i = 0; i < 3; i++)
        publish_value(ring, i);
    mr_slot slots[3];
    for (uint64_t i = 0; i < 3; i++)
        slots[i] = take_value(ring, 0, i);

    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slots[2]));
    publish_value(ring, 3);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slots[0]));
    publish_value(ring, 4);
    mr_slot none;
    assert_int_equal(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &none));
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slots[1]));
    consume_value(ring, 0, 3);
    consume_value(ring, 0, 4);
    mr_ring_destroy(ring);
}

static void ring_abandoned_slot_is_free_again(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 1 });
    mr_slot slot;
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &slot));
    assert_int_equal(MR_OK, mr_ring_abandon(ring, &slot));
    assert_int_equal(MR_E_STATE, mr_ring_abandon(ring, &slot));
    publish_value(ring, 5);
    consume_value(ring, 0, 5);
    mr_ring_destroy(ring);
}

static void ring_refuses_slots_that_are_not_lent(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 2 });
    mr_slot slot = { .index = 99 };
    assert_int_equal(MR_E_STATE, mr_ring_publish(ring, NULL, &slot));
    assert_int_equal(MR_E_STATE, mr_ring_release(ring, 0, NULL, &slot));
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &slot));
    assert_int_equal(MR_E_STATE, mr_ring_release(ring, 0, NULL, &slot));
    slot.size_bytes = 65;
    assert_int_equal(MR_E_INVALID, mr_ring_publish(ring, NULL, &slot));
    slot.size_bytes = 64;
    assert_int_equal(MR_OK, mr_ring_publish(ring, NULL, &slot));
    assert_int_equal(MR_E_STATE, mr_ring_publish(ring, NULL, &slot));

    mr_slot taken;
    assert_int_equal(MR_OK, mr_ring_take(ring, 0, NULL, 0, &taken));
    assert_int_equal(MR_E_STATE, mr_ring_abandon(ring, &taken));
    assert_int_equal(MR_E_INVALID, mr_ring_take(ring, 1, NULL, 0, &slot));
    assert_int_equal(MR_E_INVALID, mr_ring_release(ring, 1, NULL, &taken));
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &taken));
    mr_ring_destroy(ring);
}

static void ring_refuses_a_second_release(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 1 });
    publish_value(ring, 1);
    const mr_slot slot = take_value(ring, 0, 1);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slot));
    assert_int_equal(MR_E_STATE, mr_ring_release(ring, 0, NULL, &slot));
    publish_value(ring, 2);
    const mr_slot next = take_value(ring, 0, 2);
    assert_int_equal(next.index, slot.index);
    assert_int_equal(MR_E_STATE, mr_ring_release(ring, 0, NULL, &slot)); /* of the lap before */
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &next));
    mr_ring_destroy(ring);
}

static void ring_counts_what_happened(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 3 });
    publish_value(ring, 0);
    publish_value(ring, 1);
    publish_value(ring, 2);
    consume_value(ring, 0, 0);
    const mr_slot held = take_value(ring, 0, 1);

    mr_ring_statistics statistics;
    mr_ring_measure(ring, &statistics);
    assert_int_equal(3, statistics.published);
    assert_int_equal(2, statistics.taken);
    assert_int_equal(1, statistics.released);
    assert_int_equal(0, statistics.dropped);
    assert_int_equal(2, statistics.filled_count);
    assert_int_equal(3, statistics.filled_peak);
    assert_int_equal(0, statistics.producer_waits);
    assert_int_equal(0, statistics.consumer_waits);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &held));
    mr_ring_destroy(ring);
}

/* ---- policies, broadcast ---- */

static void ring_waits_no_longer_than_told(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 1 });
    mr_slot slot;
    assert_int_equal(MR_E_BUSY, mr_ring_take(ring, 0, NULL, 0, &slot));
    assert_int_equal(MR_E_TIMEOUT, mr_ring_take(ring, 0, NULL, 1000000, &slot));
    publish_value(ring, 0);
    assert_int_equal(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &slot));
    assert_int_equal(MR_E_TIMEOUT, mr_ring_acquire(ring, NULL, 1000000, &slot));
    assert_int_equal(MR_E_BUSY, mr_ring_drain(ring, 0));
    assert_int_equal(MR_E_TIMEOUT, mr_ring_drain(ring, 1000000));

    mr_ring_statistics statistics;
    mr_ring_measure(ring, &statistics);
    assert_int_equal(1, statistics.producer_waits);
    assert_int_equal(1, statistics.consumer_waits);
    assert_true(statistics.producer_wait_ns >= 900000);
    consume_value(ring, 0, 0);
    assert_int_equal(MR_OK, mr_ring_drain(ring, 0));
    mr_ring_destroy(ring);
}

static void ring_drops_the_oldest_that_nobody_holds(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 3, .policy = MR_RING_DROP_OLDEST });
    publish_value(ring, 0);
    const mr_slot held = take_value(ring, 0, 0);
    publish_value(ring, 1);
    publish_value(ring, 2);
    publish_value(ring, 3); /* in the place of 1 */
    publish_value(ring, 4); /* in the place of 2 */

    const mr_slot third = take_value(ring, 0, 3);
    assert_int_equal(3, third.sequence);
    const mr_slot fourth = take_value(ring, 0, 4);
    mr_slot slot;
    assert_int_equal(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &slot));
    assert_int_equal(MR_E_TIMEOUT, mr_ring_acquire(ring, NULL, 1000000, &slot));
    mr_ring_statistics statistics;
    mr_ring_measure(ring, &statistics);
    assert_int_equal(2, statistics.dropped);
    assert_int_equal(5, statistics.published);
    assert_int_equal(3, statistics.filled_count);
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &held));
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &third));
    assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &fourth));
    mr_ring_destroy(ring);
}

static void ring_broadcasts_every_item_to_every_consumer(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 2, .broadcast_count = 3 });
    mr_slot slot;
    publish_value(ring, 7);
    publish_value(ring, 8);
    for (uint32_t consumer = 0; consumer < 3; consumer++) {
        assert_int_equal(MR_E_BUSY, mr_ring_acquire(ring, NULL, 0, &slot));
        consume_value(ring, consumer, 7);
    }
    publish_value(ring, 9);
    for (uint32_t consumer = 0; consumer < 3; consumer++) {
        consume_value(ring, consumer, 8);
        consume_value(ring, consumer, 9);
        assert_int_equal(MR_E_BUSY, mr_ring_take(ring, consumer, NULL, 0, &slot));
    }
    assert_int_equal(MR_E_INVALID, mr_ring_take(ring, 3, NULL, 0, &slot));
    mr_ring_destroy(ring);
}

static void ring_broadcast_skips_what_was_dropped(void **state)
{
    (void)state;
    mr_ring *ring = make_ring(
        (mr_ring_options){ .slot_count = 2, .broadcast_count = 2, .policy = MR_RING_DROP_OLDEST });
    publish_value(ring, 0);
    publish_value(ring, 1);
    consume_value(ring, 0, 0);
    publish_value(ring, 2); /* drops 0, which consumer 1 has not had */
    consume_value(ring, 1, 1);
    consume_value(ring, 0, 1);
    consume_value(ring, 0, 2);
    consume_value(ring, 1, 2);
    mr_ring_destroy(ring);
}

/* ---- the end ---- */

static void ring_close_lets_consumers_drain(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 3 });
    mr_slot held, slot;
    publish_value(ring, 0);
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &held));
    mr_ring_close(ring);
    mr_ring_close(ring);

    assert_int_equal(MR_E_CLOSED, mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
    consume_value(ring, 0, 0);
    assert_int_equal(MR_E_BUSY, mr_ring_take(ring, 0, NULL, 0, &slot)); /* one may yet come */
    held.user = 1;
    memset(mr_buffer_host(held.buffer), 1, 1);
    assert_int_equal(MR_OK, mr_ring_publish(ring, NULL, &held));
    consume_value(ring, 0, 1);
    assert_int_equal(MR_END, mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
    mr_ring_destroy(ring);
}

static void ring_failure_ends_both_sides_with_its_words(void **state)
{
    (void)state;
    mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 4 });
    mr_slot lent, spare, slot;
    publish_value(ring, 0);
    const mr_slot taken = take_value(ring, 0, 0);
    publish_value(ring, 1);
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &lent));
    assert_int_equal(MR_OK, mr_ring_acquire(ring, NULL, 0, &spare));
    mr_ring_fail(ring, MR_E_IO, "the camera is gone");
    mr_ring_fail(ring, MR_E_DEVICE, "too late to count");

    assert_int_equal(MR_E_IO, mr_ring_acquire(ring, NULL, MR_FOREVER, &slot));
    assert_string_equal("the camera is gone", mr_last_error());
    assert_int_equal(MR_E_IO, mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
    assert_int_equal(MR_E_IO, mr_ring_drain(ring, MR_FOREVER));
    assert_int_equal(MR_E_IO, mr_ring_publish(ring, NULL, &lent)); /* and has taken them back */
    assert_int_equal(MR_E_IO, mr_ring_abandon(ring, &spare));
    assert_int_equal(MR_E_IO, mr_ring_release(ring, 0, NULL, &taken));
    assert_int_equal(MR_E_STATE, mr_ring_abandon(ring, &lent));
    mr_ring_destroy(ring);
}

/* ---- no memory ---- */

static void ring_create_survives_every_failed_allocation(void **state)
{
    (void)state;
    const mr_ring_options options = { .slot_count = 3, .slot_bytes = 100, .broadcast_count = 2 };
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        mr_ring *ring = NULL;
        fault_begin(&fault);
        const mr_status status = mr_ring_create(device, &options, &ring);
        fault_end(&fault, status);
        assert_true(!status == (ring != NULL)); /* a name, for one, can be done without */
        mr_ring_destroy(ring);
    }
    assert_true(fault.error_count >= 4 + 3);
}

/* One round between two streams; answers the first failure and leaves no slot held. */
static mr_status go_round(mr_ring *ring, mr_stream *producer, mr_stream *consumer)
{
    mr_slot slot;
    mr_status status = mr_ring_acquire(ring, producer, MR_FOREVER, &slot);
    if (status)
        return status;
    status = mr_ring_publish(ring, producer, &slot);
    if (status) {
        assert_int_equal(MR_OK, mr_ring_abandon(ring, &slot));
        return status;
    }
    status = mr_ring_take(ring, 0, consumer, MR_FOREVER, &slot);
    if (status) {
        assert_int_equal(MR_OK, mr_ring_take(ring, 0, NULL, MR_FOREVER, &slot));
        assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slot));
        return status;
    }
    status = mr_ring_release(ring, 0, consumer, &slot);
    if (status)
        assert_int_equal(MR_OK, mr_ring_release(ring, 0, NULL, &slot));
    return status;
}

static void ring_use_by_streams_survives_every_failed_allocation(void **state)
{
    (void)state;
    mr_stream *producer, *consumer;
    assert_int_equal(MR_OK, mr_stream_create(device, NULL, &producer));
    assert_int_equal(MR_OK, mr_stream_create(device, NULL, &consumer));
    struct fault fault = { .kind = &fault_allocation, .expected = MR_E_NO_MEMORY };
    while (fault_next(&fault)) {
        mr_ring *ring = make_ring((mr_ring_options){ .slot_count = 1 });
        fault_begin(&fault);
        mr_status status = MR_OK;
        for (int lap = 0; lap < 3 && !status; lap++)
            status = go_round(ring, producer, consumer);
        fault_end(&fault, status);
        assert_int_equal(MR_OK, go_round(ring, producer, consumer));
        mr_ring_destroy(ring);
    }
    mr_stream_destroy(consumer);
    mr_stream_destroy(producer);
}

/* ---- random use against a model ---- */

enum { MODEL_SLOTS = 6, MODEL_STEPS = 4000 };

struct model_item {
    uint64_t value;
    uint32_t taken, released; /* a bit for each consumer */
    mr_slot slots[3];         /* as taken by each */
};

/* Items in publishing order; an item leaves when all have released it or it is dropped. */
struct model {
    mr_ring *ring;
    uint32_t slot_count, consumer_count;
    mr_ring_policy policy;
    struct model_item items[MODEL_SLOTS];
    uint32_t item_count;
    mr_slot lent[MODEL_SLOTS];
    uint32_t lent_count;
    uint64_t published, dropped;
    unsigned seed;
};

static uint32_t model_random(struct model *model, uint32_t limit)
{
    model->seed = model->seed * 1664525u + 1013904223u;
    return (model->seed >> 8) % limit;
}

static void model_remove(struct model *model, uint32_t index)
{
    model->item_count--;
    memmove(&model->items[index], &model->items[index + 1],
            (model->item_count - index) * sizeof *model->items);
}

static void model_acquire(struct model *model)
{
    bool is_expected = model->lent_count + model->item_count < model->slot_count;
    if (!is_expected && model->policy == MR_RING_DROP_OLDEST) {
        for (uint32_t i = 0; i < model->item_count && !is_expected; i++) {
            if (model->items[i].taken != model->items[i].released)
                continue;
            model_remove(model, i);
            model->dropped++;
            is_expected = true;
        }
    }
    mr_slot slot;
    const mr_status status = mr_ring_acquire(model->ring, NULL, 0, &slot);
    assert_int_equal(is_expected ? MR_OK : MR_E_BUSY, status);
    if (is_expected)
        model->lent[model->lent_count++] = slot;
}

static void model_publish(struct model *model)
{
    if (!model->lent_count)
        return;
    const uint32_t index = model_random(model, model->lent_count);
    mr_slot slot = model->lent[index];
    model->lent[index] = model->lent[--model->lent_count];
    if (model_random(model, 8) == 0) {
        assert_int_equal(MR_OK, mr_ring_abandon(model->ring, &slot));
        return;
    }
    const uint64_t value = model->published++;
    slot.user = value;
    memset(mr_buffer_host(slot.buffer), (int)value, 64);
    assert_int_equal(MR_OK, mr_ring_publish(model->ring, NULL, &slot));
    model->items[model->item_count++] = (struct model_item){ .value = value };
}

static void model_take(struct model *model, uint32_t consumer)
{
    uint32_t index = 0;
    while (index < model->item_count && model->items[index].taken >> consumer & 1)
        index++;
    mr_slot slot;
    const mr_status status = mr_ring_take(model->ring, consumer, NULL, 0, &slot);
    if (index == model->item_count) {
        assert_int_equal(MR_E_BUSY, status);
        return;
    }
    struct model_item *item = &model->items[index];
    assert_int_equal(MR_OK, status);
    assert_int_equal(item->value, slot.user);
    assert_int_equal(item->value, slot.sequence);
    item->taken |= 1u << consumer;
    item->slots[consumer] = slot;
}

static void model_check_contents(const struct model_item *item, uint32_t consumer)
{
    const uint8_t *bytes = mr_buffer_host(item->slots[consumer].buffer);
    for (int i = 0; i < 64; i++)
        assert_int_equal((uint8_t)item->value, bytes[i]);
}

static void model_release(struct model *model, uint32_t consumer)
{
    if (!model->item_count)
        return;
    const uint32_t index = model_random(model, model->item_count);
    struct model_item *item = &model->items[index];
    if (!((item->taken & ~item->released) >> consumer & 1))
        return;
    model_check_contents(item, consumer);
    assert_int_equal(MR_OK, mr_ring_release(model->ring, consumer, NULL, &item->slots[consumer]));
    item->released |= 1u << consumer;
    if (item->released == (1u << model->consumer_count) - 1)
        model_remove(model, index);
}

static void model_finish(struct model *model)
{
    mr_ring_statistics statistics;
    mr_ring_measure(model->ring, &statistics);
    assert_int_equal(model->published, statistics.published);
    assert_int_equal(model->dropped, statistics.dropped);
    assert_int_equal(model->item_count, statistics.filled_count);
    while (model->lent_count)
        assert_int_equal(MR_OK, mr_ring_abandon(model->ring, &model->lent[--model->lent_count]));
    mr_ring_destroy(model->ring);
}

static void run_model(uint32_t slot_count, uint32_t broadcast_count, mr_ring_policy policy)
{
    struct model model = { .slot_count = slot_count,
                           .consumer_count = broadcast_count ? broadcast_count : 1,
                           .policy = policy,
                           .seed = slot_count * 100 + broadcast_count * 10 + (unsigned)policy };
    model.ring = make_ring((mr_ring_options){
        .slot_count = slot_count, .broadcast_count = broadcast_count, .policy = policy });
    for (int step = 0; step < MODEL_STEPS; step++) {
        const uint32_t consumer = model_random(&model, model.consumer_count);
        switch (model_random(&model, 4)) {
        case 0:
            model_acquire(&model);
            break;
        case 1:
            model_publish(&model);
            break;
        case 2:
            model_take(&model, consumer);
            break;
        default:
            model_release(&model, consumer);
        }
    }
    assert_true(model.published > MODEL_STEPS / 100);
    model_finish(&model);
}

static void ring_behaves_as_the_model(void **state)
{
    (void)state;
    for (uint32_t slot_count = 1; slot_count <= MODEL_SLOTS; slot_count++) {
        for (uint32_t broadcast_count = 0; broadcast_count <= 3; broadcast_count++) {
            run_model(slot_count, broadcast_count, MR_RING_BLOCK);
            run_model(slot_count, broadcast_count, MR_RING_DROP_OLDEST);
            run_model(slot_count, broadcast_count, MR_RING_FAIL);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ring_refuses_bad_options),
        cmocka_unit_test(ring_has_four_slots_unless_asked),
        cmocka_unit_test(ring_destroy_accepts_null),
        cmocka_unit_test(ring_gives_items_in_publishing_order),
        cmocka_unit_test(ring_of_one_slot_goes_round),
        cmocka_unit_test(ring_takes_slots_back_in_any_order),
        cmocka_unit_test(ring_abandoned_slot_is_free_again),
        cmocka_unit_test(ring_refuses_slots_that_are_not_lent),
        cmocka_unit_test(ring_refuses_a_second_release),
        cmocka_unit_test(ring_counts_what_happened),
        cmocka_unit_test(ring_waits_no_longer_than_told),
        cmocka_unit_test(ring_drops_the_oldest_that_nobody_holds),
        cmocka_unit_test(ring_broadcasts_every_item_to_every_consumer),
        cmocka_unit_test(ring_broadcast_skips_what_was_dropped),
        cmocka_unit_test(ring_close_lets_consumers_drain),
        cmocka_unit_test(ring_failure_ends_both_sides_with_its_words),
        cmocka_unit_test(ring_create_survives_every_failed_allocation),
        cmocka_unit_test(ring_use_by_streams_survives_every_failed_allocation),
        cmocka_unit_test(ring_behaves_as_the_model),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
