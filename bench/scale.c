/* SPDX-License-Identifier: MIT */
/*
 * The data of the GPU benchmarks, a part of it for each thread, and their kernel over parts of buffers.
 */
#include "scale.h"

#include "handwritten_cuda.h"
#include "measure.h"

#include <stdatomic.h>
#include <string.h>

struct work {
    const struct scale_range *range;
    atomic_size_t wrong_count;
};

/* [*first, end) is the part of the thread with this index. */
static size_t part_of(const struct work *work, int index, int count, size_t *first)
{
    const size_t share = work->range->count / (size_t)count;
    *first = share * (size_t)index;
    return index + 1 == count ? work->range->count : *first + share;
}

static float source_value(size_t i)
{
    return (float)((i * 2654435761u >> 8) % 251);
}

static void fill_part(void *context, int index, int count)
{
    struct work *work = context;
    size_t i;
    const size_t end = part_of(work, index, count, &i);
    for (; i < end; i++)
        work->range->target[i] = source_value(i);
}

static void poison_part(void *context, int index, int count)
{
    struct work *work = context;
    size_t first;
    const size_t end = part_of(work, index, count, &first);
    memset(work->range->target + first, 0xff, (end - first) * sizeof(float));
}

static void check_part(void *context, int index, int count)
{
    struct work *work = context;
    const struct scale_range *range = work->range;
    size_t i, wrong = 0;
    const size_t end = part_of(work, index, count, &i);
    for (; i < end; i++)
        wrong += !(range->target[i] == range->source[i] * range->factor);
    atomic_fetch_add(&work->wrong_count, wrong);
}

void scale_fill(float *target, size_t size_bytes)
{
    const struct scale_range range = { .target = target, .count = size_bytes / sizeof(float) };
    measure_parallel(measure_cpu_count(), fill_part, &(struct work){ .range = &range });
}

void scale_poison(const struct scale_range *range)
{
    measure_parallel(measure_cpu_count(), poison_part, &(struct work){ .range = range });
}

void scale_check(const struct scale_range *range, const char *name)
{
    struct work work = { .range = range };
    measure_parallel(measure_cpu_count(), check_part, &work);
    const size_t wrong_count = atomic_load(&work.wrong_count);
    measure_require(!wrong_count, "%s: %zu of %zu values are wrong", name, wrong_count,
                    range->count);
}

mr_status scale_kernel_create(mr_device *device, mr_kernel **out)
{
    const mr_kernel_options options = {
        .language = MR_KERNEL_IMAGE,
        .name = HAND_KERNEL_NAME,
        .source = hand_kernel_ptx,
        .source_bytes = strlen(hand_kernel_ptx) + 1,
        .signature = "in f32 source, out f32 target, value f32 factor, value u64 count, "
                     "value u32 rounds"
    };
    return mr_kernel_create(device, &options, out);
}

mr_status scale_launch(mr_stream *stream, mr_kernel *kernel, const struct scale_launch *launch)
{
    const uint64_t count = launch->size_bytes / sizeof(float);
    const mr_argument arguments[] = {
        mr_argument_range(launch->source, launch->source_offset, launch->size_bytes),
        mr_argument_range(launch->target, launch->target_offset, launch->size_bytes),
        mr_argument_f32(launch->factor), mr_argument_u64(count), mr_argument_u64(launch->rounds)
    };
    const mr_launch shape = { .count = count,
                              .grid = { hand_grid(count), 1, 1 },
                              .block = { 256, 1, 1 } };
    return mr_kernel_launch(stream, kernel, &shape, arguments, 5);
}
