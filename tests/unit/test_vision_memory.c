/* SPDX-License-Identifier: MIT */
/* What a run's images may take of memory: whatever is asked for is cut until it has room, on the host and
 * on each device, and what has room is not cut. */
#include "job/vision_run.h"
#include "support/random.h"
#include "support/unit.h"

enum { LANES = 2 };

struct rig {
    mr_device *devices[LANES];
    struct mr__vision_lane lanes[LANES];
    struct mr__vision_job vision;
    struct mr__vision_record record;
    struct mr__vision_run run;
};

/* Images of one size. */
static void open_rig(struct rig *rig, const char *const ids[LANES], uint32_t lane_count)
{
    *rig = (struct rig){ .record.info.decode_bytes = 1000 };
    assert_ok(mr__vision_parameters_check(&rig->vision.parameters));
    assert_ok(mr__vision_plan(&rig->vision.parameters, 120, 90, 1, &rig->record.plan));
    rig->run = (struct mr__vision_run){
        .vision = &rig->vision, .lanes = rig->lanes, .lane_count = lane_count, .due_count = 500
    };
    for (uint32_t k = 0; k < lane_count; k++) {
        assert_ok(mr_device_open(ids[k], NULL, &rig->devices[k]));
        rig->lanes[k].device = rig->devices[k];
    }
    mr__vision_sizes_widen(&rig->vision, &rig->record, &rig->run.largest);
}

static void close_rig(struct rig *rig)
{
    for (uint32_t k = 0; k < LANES; k++)
        assert_ok(rig->devices[k] ? mr_device_close(rig->devices[k]) : MR_OK);
}

/* As documented for the host: pixels of all in flight and all that wait, results, and the rest where the
 * device is the host. */
static uint64_t host_need(const struct rig *rig, uint32_t slots, uint32_t batch, uint32_t threads)
{
    const struct mr__vision_sizes *sizes = &rig->run.largest;
    uint64_t places = (threads + batch - 1) / batch * batch, sum = 0;
    for (uint32_t k = 0; k < rig->run.lane_count; k++) {
        const uint64_t images = (uint64_t)slots * batch;
        places += images;
        sum += images * sizes->result_bytes;
        if (mr__vision_is_host(rig->lanes[k].device))
            sum += images * (sizes->textures_bytes + sizes->scores_bytes + sizes->result_bytes +
                             sizes->scratch_bytes);
    }
    return sum + places * sizes->image_bytes + threads * sizes->decode_bytes;
}

static uint64_t device_need(const struct rig *rig, uint32_t slots, uint32_t batch)
{
    const struct mr__vision_sizes *sizes = &rig->run.largest;
    return (uint64_t)slots * batch *
           (sizes->image_bytes + sizes->textures_bytes + sizes->scores_bytes + sizes->result_bytes +
            sizes->scratch_bytes);
}

/* Whether so much has room everywhere. */
static bool has_room(const struct rig *rig, uint32_t slots, uint32_t batch, uint32_t threads)
{
    bool has_room = host_need(rig, slots, batch, threads) <= rig->run.memory_bytes;
    for (uint32_t k = 0; k < rig->run.lane_count; k++)
        has_room &= device_need(rig, slots, batch) <= rig->lanes[k].memory_bytes;
    return has_room;
}

static void check_fit(struct rig *rig, struct random *random)
{
    const uint32_t batch = 1 + (uint32_t)random_below(random, 64);
    const uint32_t slots = 1 + (uint32_t)random_below(random, 40);
    const uint32_t threads = 1 + (uint32_t)random_below(random, 64);
    rig->vision.batch_used = batch;
    rig->vision.threads_used = threads;
    rig->run.slot_count = slots;
    const uint64_t one = host_need(rig, 1, 1, 1);
    rig->run.memory_bytes = one + random_below(random, one << random_below(random, 12));
    for (uint32_t k = 0; k < rig->run.lane_count; k++)
        rig->lanes[k].memory_bytes =
            device_need(rig, 1, 1) * (1 + random_below(random, 1u << random_below(random, 12)));
    const bool had_room = has_room(rig, slots, batch, threads);

    mr__vision_memory_fit(&rig->run);

    const uint32_t fit_batch = rig->vision.batch_used, fit_slots = rig->run.slot_count;
    const uint32_t fit_threads = rig->vision.threads_used;
    assert_in_range(fit_batch, 1, batch);
    assert_in_range(fit_slots, 1, slots);
    assert_in_range(fit_threads, 1, threads);
    assert_true(has_room(rig, fit_slots, fit_batch, fit_threads));
    if (had_room)
        assert_true(fit_slots == slots && fit_batch == batch && fit_threads == threads);
    if (fit_threads < threads)
        assert_false(has_room(rig, fit_slots, fit_batch, fit_threads + 1));
}

static void what_is_in_flight_and_waits_has_room(void **state)
{
    (void)state;
    static const char *const devices[][LANES] = { { "cpu" }, { "cuda:0" }, { "cuda:0", "cpu" } };
    struct random random = { 7 };
    for (size_t k = 0; k < 3; k++) {
        struct rig rig;
        open_rig(&rig, devices[k], k == 2 ? 2 : 1);
        for (int round = 0; round < 2000; round++)
            check_fit(&rig, &random);
        close_rig(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_is_in_flight_and_waits_has_room) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
