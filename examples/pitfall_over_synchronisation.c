/* SPDX-License-Identifier: MIT */
/*
 * Pitfall: waiting on the host after every step, "to be sure". Each wait drains the device, and the next
 * step starts from nothing. Order between streams needs no host: an event does it. An observer counts
 * the host's waits in both versions.
 *
 *     pitfall_over_synchronisation [DEVICE]
 *
 * Prints: waiting after every step: 128 waits, 9.31 ms; ordered by events: 1 wait, 4.20 ms
 */
#include "check.h"

enum { ITEMS = 64, COUNT = 1 << 15, ITEM_BYTES = COUNT * sizeof(float) };

static mr_device *device;
static mr_kernel *scale;
static mr_stream *copying, *computing;
static mr_buffer *host, *items, *results, *back;

static void count_waits(void *context, const mr_operation *operation)
{
    if (operation->kind == MR_OPERATION_HOST_WAIT || operation->kind == MR_OPERATION_SYNCHRONIZE)
        ++*(int *)context;
}

static void copy_in(size_t i)
{
    CHECK(mr_copy(copying, items, i * ITEM_BYTES, host, i * ITEM_BYTES, ITEM_BYTES));
}

/* result = 2 * item + 1 */
static void compute(size_t i)
{
    const mr_argument arguments[] = { mr_argument_range(items, i * ITEM_BYTES, ITEM_BYTES),
                                      mr_argument_range(results, i * ITEM_BYTES, ITEM_BYTES),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(COUNT) };
    CHECK(mr_kernel_launch(computing, scale, &(mr_launch){ .count = COUNT }, arguments, 5));
}

static void wait_after_every_step(void)
{
    for (size_t i = 0; i < ITEMS; i++) {
        copy_in(i);
        CHECK(mr_stream_wait(copying)); /* so that the kernel finds its input */
        compute(i);
        CHECK(mr_stream_wait(computing)); /* for no reason at all */
    }
}

static void order_by_events(void)
{
    mr_event *copied;
    CHECK(mr_event_create(device, NULL, &copied));
    for (size_t i = 0; i < ITEMS; i++) {
        copy_in(i);
        CHECK(mr_event_record(copied, copying));
        CHECK(mr_stream_wait_event(computing, copied)); /* the stream waits, not the host */
        compute(i);
    }
    CHECK(mr_stream_wait(computing)); /* once: now the results are wanted */
    mr_event_destroy(copied);
}

static int run(const char *name, void (*steps)(void))
{
    int waits = 0;
    CHECK(mr_device_observe_thread(device, count_waits, &waits));
    const uint64_t start_ns = mr_device_now_ns(device);
    steps();
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;
    CHECK(mr_device_observe_thread(device, NULL, NULL));
    printf("%s: %d waits, %.2f ms\n", name, waits, (double)elapsed_ns / 1e6);

    CHECK(mr_copy(computing, back, 0, results, 0, ITEMS * ITEM_BYTES));
    CHECK(mr_fill(computing, results, 0, ITEMS * ITEM_BYTES, 0, 4));
    CHECK(mr_stream_wait(computing));
    const float *numbers = mr_buffer_host(host), *found = mr_buffer_host(back);
    for (int i = 0; i < ITEMS * COUNT; i++)
        EXPECT(found[i] == 2 * numbers[i] + 1);
    return waits;
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "copying" }, &copying));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "computing" }, &computing));
    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    CHECK(mr_buffer_create(device, ITEMS * ITEM_BYTES, &pinned, &host));
    CHECK(mr_buffer_create(device, ITEMS * ITEM_BYTES, &pinned, &back));
    CHECK(mr_buffer_create(device, ITEMS * ITEM_BYTES, NULL, &items));
    CHECK(mr_buffer_create(device, ITEMS * ITEM_BYTES, NULL, &results));
    for (int i = 0; i < ITEMS * COUNT; i++)
        ((float *)mr_buffer_host(host))[i] = (float)(i % 1009);

    EXPECT(run("waiting after every step", wait_after_every_step) == 2 * ITEMS);
    EXPECT(run("ordered by events", order_by_events) == 1);

    mr_buffer_destroy(results);
    mr_buffer_destroy(items);
    mr_buffer_destroy(back);
    mr_buffer_destroy(host);
    mr_kernel_destroy(scale);
    mr_stream_destroy(computing);
    mr_stream_destroy(copying);
    CHECK(mr_device_close(device));
    return 0;
}
