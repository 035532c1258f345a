/* SPDX-License-Identifier: MIT */
/*
 * Devices that are lost in the middle: their items and tasks run elsewhere, with the same results, and
 * the other devices go on.
 */
#include "pipeline_model.h"

#include "support/check.h"
#include "support/several.h"

#include <millrace/balancer.h>
#include <millrace/buffer.h>

#include <stdatomic.h>

/* ---- pipelines ---- */

/* Breaks a device when its item is taken; each only once. */
static struct {
    struct several *several;
    uint64_t at[SEVERAL_LIMIT];
    _Atomic bool is_broken[SEVERAL_LIMIT];
} doom;

static void set_doom(struct several *several)
{
    doom.several = several;
    for (uint32_t i = 0; i < SEVERAL_LIMIT; i++) {
        doom.at[i] = UINT64_MAX;
        atomic_store(&doom.is_broken[i], false);
    }
}

static void break_devices(const struct model *model, uint64_t index)
{
    (void)model;
    for (uint32_t i = 0; i < doom.several->count; i++) {
        if (index >= doom.at[i] && !atomic_exchange(&doom.is_broken[i], true))
            several_break(doom.several->devices[i]);
    }
}

/* A device that broke is lost if it had anything left to do, and no other is. */
static void check_lost(const struct model *model, const mr_pipeline_report *report)
{
    if (model->options.device_count < 2)
        return;
    CHECK_EQ(model->options.device_count, report->device_count);
    for (uint32_t i = 0; i < report->device_count; i++) {
        const mr_device_report *device = &report->devices[i];
        if (!device->is_lost)
            continue;
        CHECK(i < doom.several->count && doom.is_broken[i]);
        CHECK_STATUS(MR_E_DEVICE, device->status);
        CHECK_SAYS("CUDA_ERROR", device->words);
    }
}

static struct model doomed(const char *name, struct several *several, uint32_t device_count)
{
    struct model model = model_linear(name, several->devices[0], several->cpu);
    set_doom(several);
    model.options.parcel_items = 4;
    model.item_count = 600;
    model.on_take = break_devices;
    model.on_report = check_lost;
    model_spread(&model, several->devices, device_count);
    return model;
}

static void items_of_a_lost_device_run_elsewhere(struct several *several)
{
    for (uint32_t i = 0; i < several->count; i++) {
        struct model model = doomed("one is lost", several, several->all_count);
        doom.at[i] = 40 + 70 * i;
        model.nodes[0].lending = (enum model_lending)(i % 4);
        model.nodes[4].lending = (enum model_lending)((i + 1) % 4);
        model_run_through(&model);
        several_heal(several);
    }
}

/* The CPU is left. */
static void one_device_after_the_other_may_be_lost(struct several *several)
{
    struct model model = doomed("all but one are lost", several, several->all_count);
    for (uint32_t i = 0; i < several->count; i++)
        doom.at[i] = 60 + 90 * i;
    model_run_through(&model);
}

static void device_that_was_lost_before_is_left_out(struct several *several)
{
    struct model model = doomed("lost before", several, several->all_count);
    several_break(several->devices[several->count - 1]);
    atomic_store(&doom.is_broken[several->count - 1], true);
    model.run_count = 2;
    model_run_through(&model);
}

/* Without the CPU. What was delivered is right. */
static void last_device_takes_the_run_with_it(struct several *several)
{
    struct model model = doomed("all are lost", several, several->count);
    const struct model_outcome lost = { .status = MR_E_DEVICE,
                                        .words = "CUDA_ERROR",
                                        .items_out = UINT64_MAX,
                                        .items_skipped = UINT64_MAX };
    model.item_count = 100000;
    for (uint32_t i = 0; i < several->count; i++)
        doom.at[i] = 50 + 50 * i;
    model_run(&model, &lost);
}

/* ---- tasks ---- */

enum { TASKS = 400, BREAK_AT = 100, NUMBER_BYTES = sizeof(uint32_t) };

struct hall {
    struct several *several;
    mr_buffer *scratch[SEVERAL_LIMIT + 1];
    mr_buffer *results; /* ordinary memory: none of a device's */
    mr_device *doomed;
};

struct work {
    struct hall *hall;
    uint32_t number;
};

static mr_status write_number(void *context, const mr_task_call *call)
{
    const struct work *work = context;
    const struct hall *hall = work->hall;
    const size_t at = work->number * (size_t)NUMBER_BYTES;
    uint32_t lane = 0;
    while (hall->several->devices[lane] != call->device)
        lane++;
    if (work->number == BREAK_AT && call->attempt == 0)
        several_break(hall->doomed);
    mr_status status =
        mr_fill(call->stream, hall->scratch[lane], at, NUMBER_BYTES, work->number + 7, 4);
    if (!status)
        status = mr_copy(call->stream, hall->results, at, hall->scratch[lane], at, NUMBER_BYTES);
    return status;
}

static void run_tasks(struct hall *hall)
{
    static struct work works[TASKS];
    mr_worker_options workers[SEVERAL_LIMIT + 1];
    mr_balancer *balancer;
    for (uint32_t i = 0; i < hall->several->all_count; i++)
        workers[i] = (mr_worker_options){ .device = hall->several->devices[i], .stream_count = 2 };
    CHECK_OK(mr_balancer_create(&(mr_balancer_options){ .workers = workers,
                                                        .worker_count = hall->several->all_count,
                                                        .retry_limit = 20,
                                                        .results = MR_RESULTS_IN_ORDER },
                                &balancer));
    for (uint32_t i = 0; i < TASKS; i++) {
        works[i] = (struct work){ hall, i };
        const mr_task task = { .submit = write_number, .context = &works[i] };
        CHECK_OK(mr_balancer_submit(balancer, &task, NULL));
    }
    for (uint32_t i = 0; i < TASKS; i++) {
        mr_task_result result;
        CHECK_OK(mr_balancer_next(balancer, MR_FOREVER, &result));
        CHECK_EQ(i, result.sequence);
        if (result.status)
            CHECK_FAIL("task %u: %s", i, result.words);
        CHECK_EQ(i + 7, ((uint32_t *)mr_buffer_host(hall->results))[i]);
    }
    mr_balancer_destroy(balancer);
}

static void tasks_of_a_lost_device_run_elsewhere(struct several *several)
{
    for (uint32_t doomed = 0; doomed < several->count; doomed++) {
        struct hall hall = { .several = several, .doomed = several->devices[doomed] };
        CHECK_OK(mr_buffer_create(several->cpu, TASKS * NUMBER_BYTES, NULL, &hall.results));
        memset(mr_buffer_host(hall.results), 0, TASKS * NUMBER_BYTES);
        for (uint32_t i = 0; i < several->all_count; i++)
            CHECK_OK(mr_buffer_create(several->devices[i], TASKS * NUMBER_BYTES, NULL,
                                      &hall.scratch[i]));
        run_tasks(&hall);
        for (uint32_t i = 0; i < several->all_count; i++)
            mr_buffer_destroy(hall.scratch[i]);
        mr_buffer_destroy(hall.results);
        several_heal(several);
    }
}

/* ---- streams ---- */

static void round_trip(mr_device *device)
{
    enum { BYTES = 100000 };
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_stream *stream;
    mr_buffer *inside, *host;
    CHECK_OK(mr_stream_create(device, NULL, &stream));
    CHECK_OK(mr_buffer_create(device, BYTES, NULL, &inside));
    CHECK_OK(mr_buffer_create(device, BYTES, &pinned, &host));
    CHECK_OK(mr_fill(stream, inside, 0, BYTES, 0x37, 1));
    CHECK_OK(mr_copy(stream, host, 0, inside, 0, BYTES));
    CHECK_OK(mr_stream_wait(stream));
    for (int i = 0; i < BYTES; i++)
        CHECK_EQ(0x37, ((unsigned char *)mr_buffer_host(host))[i]);
    mr_buffer_destroy(inside);
    mr_buffer_destroy(host);
    mr_stream_destroy(stream);
}

static void other_devices_go_on_beside_a_lost_one(struct several *several)
{
    for (uint32_t doomed = 0; doomed < several->count; doomed++) {
        uint64_t free_bytes, all_bytes;
        several_break(several->devices[doomed]);
        CHECK_STATUS(MR_E_DEVICE,
                     mr_device_memory(several->devices[doomed], &free_bytes, &all_bytes));
        for (uint32_t i = 0; i < several->all_count; i++) {
            if (i != doomed)
                round_trip(several->devices[i]);
        }
        several_heal(several);
        round_trip(several->devices[doomed]);
    }
}

int main(int argc, char **argv)
{
    static const struct several_test tests[] = {
        SEVERAL_TEST(other_devices_go_on_beside_a_lost_one, .is_breaking_devices = true),
        SEVERAL_TEST(items_of_a_lost_device_run_elsewhere, .is_breaking_devices = true),
        SEVERAL_TEST(one_device_after_the_other_may_be_lost, .is_breaking_devices = true),
        SEVERAL_TEST(device_that_was_lost_before_is_left_out, .is_breaking_devices = true),
        SEVERAL_TEST(last_device_takes_the_run_with_it, .is_breaking_devices = true),
        SEVERAL_TEST(tasks_of_a_lost_device_run_elsewhere, .is_breaking_devices = true),
    };
    return several_main(argc, argv, tests, sizeof tests / sizeof *tests);
}
