/* SPDX-License-Identifier: MIT */
/*
 * Priorities: a request that cannot wait, beside work that can. Lower numbers run first. A priority
 * orders what waits; it does not interrupt a kernel that runs, so keep the kernels of the background
 * short.
 *
 *     12_priorities [DEVICE]
 *
 * Prints: a request beside 100 kernels of the background took 3.50 ms at priority 0, 0.02 ms at -5
 */
#include "check.h"

enum { BACKGROUND = 100, REQUEST = 1 << 12, RUNS = 3 };

/* Numbers of the background for each multiprocessor: its kernels take longer than their launch. */
enum { SHARE = 1 << 17 };

static mr_device *device;
static mr_kernel *scale;
static mr_buffer *from, *to; /* the background's */
static uint64_t count;
static mr_buffer *question, *answer;

static void launch(mr_stream *stream, mr_buffer *source, mr_buffer *target, uint64_t number)
{
    const mr_argument arguments[] = { mr_argument_buffer(source), mr_argument_buffer(target),
                                      mr_argument_f32(2), mr_argument_f32(1),
                                      mr_argument_u64(number) };
    CHECK(mr_kernel_launch(stream, scale, &(mr_launch){ .count = number }, arguments, 5));
}

/* From the submission of a request to its end, while the background is at work. */
static uint64_t time_request(mr_stream *background, mr_stream *stream)
{
    float *numbers = mr_buffer_host(answer);
    for (int i = 0; i < REQUEST; i++)
        numbers[i] = 0;
    for (int i = 0; i < BACKGROUND; i++)
        launch(background, from, to, count);

    const uint64_t start_ns = mr_device_now_ns(device);
    launch(stream, question, answer, REQUEST);
    CHECK(mr_stream_wait(stream));
    const uint64_t elapsed_ns = mr_device_now_ns(device) - start_ns;

    for (int i = 0; i < REQUEST; i++)
        EXPECT(numbers[i] == 2 * (float)i + 1);
    CHECK(mr_stream_wait(background));
    return elapsed_ns;
}

/* The middle one of three. */
static double measure(mr_stream *background, mr_stream *stream)
{
    uint64_t times[RUNS];
    for (int i = 0; i < RUNS; i++) {
        const uint64_t time_ns = time_request(background, stream);
        int k = i;
        for (; k > 0 && times[k - 1] > time_ns; k--)
            times[k] = times[k - 1];
        times[k] = time_ns;
    }
    return (double)times[RUNS / 2] / 1e6;
}

int main(int argc, char **argv)
{
    device = open_device(argc, argv);
    const mr_buffer_options pinned = { .place = MR_PLACE_PINNED };
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    const int highest = properties.priority_highest; /* numerically smallest */
    count = (uint64_t)properties.multiprocessor_count * SHARE;

    mr_stream *background, *ordinary, *urgent;
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "background" }, &background));
    CHECK(mr_stream_create(device, &(mr_stream_options){ .name = "ordinary" }, &ordinary));
    CHECK(mr_stream_create(
        device, &(mr_stream_options){ .name = "urgent", .priority = highest - 100 }, &urgent));
    EXPECT(mr_stream_priority(urgent) == highest); /* clamped to what there is */
    EXPECT(mr_stream_priority(ordinary) == 0);

    CHECK(mr_kernel_open(device, "scale_offset_f32", &scale));
    CHECK(mr_buffer_create(device, count * sizeof(float), NULL, &from));
    CHECK(mr_buffer_create(device, count * sizeof(float), NULL, &to));
    CHECK(mr_buffer_create(device, REQUEST * sizeof(float), &pinned, &question));
    CHECK(mr_buffer_create(device, REQUEST * sizeof(float), &pinned, &answer));
    CHECK(mr_fill(background, from, 0, count * sizeof(float), 0, 4));
    for (int i = 0; i < REQUEST; i++)
        ((float *)mr_buffer_host(question))[i] = (float)i;

    const double ordinary_ms = measure(background, ordinary);
    const double urgent_ms = measure(background, urgent);
    printf("a request beside %d kernels of the background took %.2f ms at priority 0, "
           "%.2f ms at %d\n",
           BACKGROUND, ordinary_ms, urgent_ms, highest);

    mr_buffer_destroy(answer);
    mr_buffer_destroy(question);
    mr_buffer_destroy(to);
    mr_buffer_destroy(from);
    mr_kernel_destroy(scale);
    mr_stream_destroy(urgent);
    mr_stream_destroy(ordinary);
    mr_stream_destroy(background);
    CHECK(mr_device_close(device));
    return 0;
}
