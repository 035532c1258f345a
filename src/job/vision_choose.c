/* SPDX-License-Identifier: MIT */
/*
 * What a job leaves open: how images share the device, how many are in flight, who decodes.
 *
 * Several images at once fill a device that one does not; and on a CPU each then stays on one core,
 * with no hand-over between stages. Where one image fills the device, or there are fewer images than
 * cores, the stages stand behind one another, and each takes the whole device.
 */
#include "job/vision_run.h"

#include <sched.h>

#define LARGE_PIXELS ((size_t)8 << 20) /* one image of them fills a GPU for each of its kernels */
#define GPU_SETS 4
#define WAITING_SLOTS 4
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

static void choose_mode(struct mr__vision_run *run, bool is_host, uint32_t cpus)
{
    struct mr__vision_job *vision = run->vision;
    const size_t pixels = run->largest.textures_bytes / (MR__VISION_CHANNELS * sizeof(float));
    bool is_concurrent = vision->mode == MR__VISION_CONCURRENT;
    if (vision->mode == MR__VISION_AUTO)
        is_concurrent = is_host ? run->due_count >= 2 * (size_t)cpus : pixels < LARGE_PIXELS;
    vision->mode_used = is_concurrent ? MR__VISION_CONCURRENT : MR__VISION_PIPELINED;
    vision->sets_used = !is_concurrent      ? 1
                        : vision->set_count ? vision->set_count
                        : is_host           ? cpus
                                            : GPU_SETS;
}

/* As many images in flight as keep all stages busy, in at most a quarter of the memory that the device
 * has least of. Of several devices, some images are done and wait for what the others have before them. */
static mr_status choose_slots(struct mr__vision_run *run, bool is_host)
{
    const struct mr__vision_job *vision = run->vision;
    run->slot_count = vision->slot_count;
    if (run->slot_count)
        return MR_OK;
    const struct mr__vision_sizes *largest = &run->largest;
    const uint64_t each = 2 * (uint64_t)largest->image_bytes + largest->textures_bytes +
                          largest->scores_bytes + largest->result_bytes;
    uint64_t count = vision->sets_used > 1 ? 2 * vision->sets_used + (is_host ? 0 : 4) : 8;
    count += run->lane_count > 1 ? WAITING_SLOTS : 0;
    for (uint32_t k = 0; k < run->lane_count; k++) {
        uint64_t free_bytes, total_bytes;
        const mr_status status = mr_device_memory(run->lanes[k].device, &free_bytes, &total_bytes);
        if (status)
            return status;
        const uint64_t fit = free_bytes / 4 / (each ? each : 1);
        count = fit < count ? fit : count;
    }
    run->slot_count = count < 1 ? 1 : (uint32_t)count;
    return MR_OK;
}

/* Few images are measured each; of many, timing all would cost more than it tells. */
static void choose_period(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    vision->period_used = vision->measure_period           ? vision->measure_period
                          : run->due_count <= ALL_MEASURED ? 1
                                                           : MEASURE_PERIOD;
}

mr_status mr__vision_choose(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    const bool is_host = is_all_host(run);
    const uint32_t cpus = count_cpus();
    choose_mode(run, is_host, cpus);
    choose_period(run);
    const uint32_t threads = DEVICE_THREADS * run->lane_count;
    vision->threads_used = vision->decode_threads ? vision->decode_threads
                           : cpus < threads       ? cpus
                                                  : threads;
    if (vision->threads_used > run->due_count)
        vision->threads_used = (uint32_t)run->due_count;
    const mr_status status = choose_slots(run, is_host);
    if (!status)
        mr__vision_memory_fit(run);
    if (vision->sets_used > run->slot_count)
        vision->sets_used = run->slot_count;
    /* On a CPU a lane goes on through the writing where it is as wide as the stages before. */
    run->writer_count = is_host && vision->sets_used > 1
                            ? vision->sets_used
                            : (cpus + run->lane_count - 1) / run->lane_count;
    return status;
}
