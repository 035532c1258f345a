/* SPDX-License-Identifier: MIT */
/*
 * What a job leaves open: how images share the device, how many are in flight, who decodes.
 *
 * Small images that are alike go through a GPU's stages in batches, which fill it. Where neighbours differ,
 * several at once on streams of their own do; and on a CPU each then stays on one core, with no hand-over
 * between stages. Where one image fills the device, or there are fewer images than cores, the stages
 * stand behind one another, and each takes the whole device.
 */
#include "job/vision_run.h"

#include <sched.h>

#define LARGE_PIXELS ((size_t)8 << 20) /* one image of them fills a GPU for each of its kernels */
#define GPU_SETS 4
#define PIPELINED_SLOTS 8
#define BATCH_SLOTS 4 /* more would only take memory, and the host's cache */
#define WAITING_SLOTS 4
#define BATCH_PIXELS ((size_t)12 << 20)
#define BATCH_MOST 32
#define FEWEST_BATCHES 16
#define DEVICE_THREADS 16 /* that decode for one device */
#define ALL_MEASURED 256  /* images */
#define MEASURE_PERIOD 16

static uint32_t count_cpus(void)
{
    cpu_set_t cpus;
    const int count = sched_getaffinity(0, sizeof cpus, &cpus) ? 1 : CPU_COUNT(&cpus);
    return count < 1 ? 1 : count > MR__VISION_SET_LIMIT ? MR__VISION_SET_LIMIT : (uint32_t)count;
}

bool mr__vision_is_host(mr_device *device)
{
    mr_device_properties properties;
    mr_device_describe(device, &properties);
    return properties.is_host_memory;
}

static bool is_all_host(const struct mr__vision_run *run)
{
    bool is_host = true;
    for (uint32_t k = 0; k < run->lane_count; k++)
        is_host &= mr__vision_is_host(run->lanes[k].device);
    return is_host;
}

static uint64_t largest_pixels(const struct mr__vision_run *run)
{
    return run->largest.textures_bytes / (MR__VISION_CHANNELS * sizeof(float));
}

/* Images that go together where stages stand behind one another: so many that they fill a GPU, as many
 * as are alike, and of few images fewer, so that there are batches for all stages. Drawing takes so much
 * longer than all the rest that many threads should have an image each. */
static uint32_t choose_batch(const struct mr__vision_run *run, bool is_host)
{
    if (is_host || mr__vision_is_drawing(run->vision))
        return 1;
    uint64_t count = mr__vision_at_most(BATCH_PIXELS / largest_pixels(run), BATCH_MOST);
    count = mr__vision_at_most(count, run->due_count / (run->kind_changes + 1));
    count = mr__vision_at_most(count, run->due_count / (FEWEST_BATCHES * run->lane_count));
    count = mr__vision_at_most(count, mr__vision_memory_images(run) / BATCH_SLOTS);
    return count ? (uint32_t)count : 1;
}

static bool is_better_concurrent(const struct mr__vision_run *run, bool is_host, uint32_t cpus,
                                 uint32_t batch)
{
    if (is_host)
        return run->due_count >= 2 * (size_t)cpus;
    return batch == 1 && largest_pixels(run) < LARGE_PIXELS;
}

static void choose_mode(struct mr__vision_run *run, bool is_host, uint32_t cpus)
{
    struct mr__vision_job *vision = run->vision;
    const uint32_t batch = vision->batch_size
                               ? (uint32_t)mr__vision_at_most(vision->batch_size, run->due_count)
                               : choose_batch(run, is_host);
    bool is_concurrent = vision->mode == MR__VISION_CONCURRENT;
    if (vision->mode == MR__VISION_AUTO)
        is_concurrent = is_better_concurrent(run, is_host, cpus, batch);
    vision->mode_used = is_concurrent ? MR__VISION_CONCURRENT : MR__VISION_PIPELINED;
    vision->batch_used = is_concurrent && !vision->batch_size ? 1 : batch;
    vision->sets_used = !is_concurrent      ? 1
                        : vision->set_count ? vision->set_count
                        : is_host           ? cpus
                                            : GPU_SETS;
}

/* As many batches in flight as keep all stages busy. Of several devices, some are done and wait for what
 * the others have before them. */
static void choose_slots(struct mr__vision_run *run, bool is_host)
{
    const struct mr__vision_job *vision = run->vision;
    const uint32_t sets = vision->sets_used;
    const uint32_t busy = sets > 1                 ? 2 * sets + (is_host ? 0 : 4)
                          : vision->batch_used > 1 ? BATCH_SLOTS
                                                   : PIPELINED_SLOTS;
    run->slot_count = vision->slot_count    ? vision->slot_count
                      : run->lane_count > 1 ? busy + WAITING_SLOTS
                                            : busy;
}

/* Few images are measured each; of many, timing all would cost more than it tells. One batch in so many
 * is one image in as many. */
static void choose_period(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    vision->period_used = vision->measure_period           ? vision->measure_period
                          : run->due_count <= ALL_MEASURED ? 1
                                                           : MEASURE_PERIOD;
}

void mr__vision_choose(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    const bool is_host = is_all_host(run);
    const uint32_t cpus = count_cpus();
    choose_mode(run, is_host, cpus);
    choose_slots(run, is_host);
    const uint32_t threads = DEVICE_THREADS * run->lane_count;
    vision->threads_used = vision->decode_threads ? vision->decode_threads
                           : cpus < threads       ? cpus
                                                  : threads;
    if (vision->threads_used > run->due_count)
        vision->threads_used = (uint32_t)run->due_count;
    mr__vision_memory_fit(run);
    choose_period(run);
    run->slot_count = (uint32_t)mr__vision_at_most(run->slot_count, run->due_count);
    if (vision->sets_used > run->slot_count)
        vision->sets_used = run->slot_count;
    /* On a CPU a lane goes on through the writing where it is as wide as the stages before. */
    run->writer_count = is_host && vision->sets_used > 1
                            ? vision->sets_used
                            : (cpus + run->lane_count - 1) / run->lane_count;
}
