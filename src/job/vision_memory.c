/* SPDX-License-Identifier: MIT */
/*
 * What images take of memory: on each device, and on the host, where they are decoded into pinned buffers
 * and drawn. An image that has no room by itself is a bad image; how many are held at once is cut down
 * until they have.
 */
#include "job/vision_run.h"
#include "job/words.h"

/* Of what is free when the run begins: pipelines put slots into half of what they find, and before that
 * come the model, code, and whatever else grows. */
static uint64_t share_of(uint64_t free_bytes)
{
    return free_bytes / 5 * 2;
}

static uint64_t at_least_one(uint64_t value)
{
    return value ? value : 1;
}

static mr_status find_share(const struct mr__vision_run *run, mr_device *device, uint64_t *out)
{
    uint64_t free_bytes, total_bytes;
    const mr_status status = mr_device_memory(device, &free_bytes, &total_bytes);
    *out = total_bytes ? share_of(free_bytes) : UINT64_MAX; /* a machine that does not say */
    if (run->vision->memory_limit)
        *out = mr__vision_at_most(*out, run->vision->memory_limit);
    return status;
}

mr_status mr__vision_memory_find(struct mr__vision_run *run)
{
    mr_status status = find_share(run, run->host, &run->memory_bytes);
    for (uint32_t k = 0; k < run->lane_count && !status; k++)
        status = find_share(run, run->lanes[k].device, &run->lanes[k].memory_bytes);
    return status;
}

/* ---- sizes ---- */

/* Of a pixel that is drawn: the image, the overlay, and its file as it grows. */
enum { PICTURE_BYTES = 4 * 3 };

bool mr__vision_is_drawing(const struct mr__vision_job *vision)
{
    return vision->has_output[MR__VISION_OUT_OVERLAY] || vision->has_output[MR__VISION_OUT_SHEET];
}

/* In whole lines of 256 bytes, so that every image of a batch begins with one. */
static void widen(size_t *size_bytes, size_t least_bytes)
{
    const size_t whole = (least_bytes + 255) & ~(size_t)255;
    *size_bytes = whole > *size_bytes ? whole : *size_bytes;
}

void mr__vision_sizes_widen(const struct mr__vision_job *vision,
                            const struct mr__vision_record *record, struct mr__vision_sizes *sizes)
{
    const struct mr__vision_plan *plan = &record->plan;
    const size_t picture_bytes =
        mr__vision_is_drawing(vision) ? (size_t)plan->width * plan->height * PICTURE_BYTES : 0;
    widen(&sizes->image_bytes, plan->image_bytes);
    widen(&sizes->textures_bytes, plan->textures_bytes);
    widen(&sizes->scores_bytes, plan->scores_bytes);
    widen(&sizes->result_bytes, plan->result_bytes);
    widen(&sizes->scratch_bytes, plan->scratch_bytes);
    widen(&sizes->decode_bytes, record->info.decode_bytes);
    widen(&sizes->picture_bytes, picture_bytes);
}

/* Of an image in flight, on its device. */
static uint64_t device_bytes(const struct mr__vision_sizes *sizes)
{
    return (uint64_t)sizes->image_bytes + sizes->textures_bytes + sizes->scores_bytes +
           sizes->result_bytes + sizes->scratch_bytes;
}

/* Of one image in flight on every device, on the host: its pixels, its result, what is drawn of it; and
 * all the rest where the device is the host. */
static uint64_t host_bytes(const struct mr__vision_run *run, const struct mr__vision_sizes *sizes)
{
    uint64_t sum = 0;
    for (uint32_t k = 0; k < run->lane_count; k++) {
        sum += (uint64_t)sizes->image_bytes + sizes->result_bytes + sizes->picture_bytes;
        if (mr__vision_is_host(run->lanes[k].device))
            sum += device_bytes(sizes) - sizes->image_bytes;
    }
    return sum;
}

/* Of a thread that decodes. */
static uint64_t thread_bytes(const struct mr__vision_sizes *sizes)
{
    return sizes->image_bytes + sizes->decode_bytes;
}

/* ---- one image ---- */

static mr_status refuse(const struct mr__vision_run *run, const struct mr__vision_record *record,
                        const char *where, uint64_t needed, uint64_t there)
{
    char need[MR__AMOUNT_BYTES], room[MR__AMOUNT_BYTES];
    const bool is_limited = run->vision->memory_limit && there >= run->vision->memory_limit;
    const bool is_decoding = record->info.decode_bytes >= there;
    return mr_error_set(MR_E_UNSUPPORTED,
                        "too large for memory: %u x %u pixels need %s on %s, and an image may take "
                        "%s there; %s%s",
                        record->info.width, record->info.height, mr__amount((double)needed, need),
                        where, mr__amount((double)there, room),
                        is_decoding ? "save it as a PNG that is not interlaced or a baseline JPEG"
                                    : "give a smaller `size`",
                        is_limited ? ", or raise limits.memory" : "");
}

mr_status mr__vision_memory_check(const struct mr__vision_run *run,
                                  const struct mr__vision_record *record)
{
    struct mr__vision_sizes sizes = { 0 };
    mr__vision_sizes_widen(run->vision, record, &sizes);
    const uint64_t on_device = device_bytes(&sizes);
    for (uint32_t k = 0; k < run->lane_count; k++) {
        const struct mr__vision_lane *lane = &run->lanes[k];
        if (on_device > lane->memory_bytes)
            return refuse(run, record, mr_device_id(lane->device), on_device, lane->memory_bytes);
    }
    const uint64_t on_host = host_bytes(run, &sizes) + thread_bytes(&sizes);
    return on_host > run->memory_bytes ? refuse(run, record, "the host", on_host, run->memory_bytes)
                                       : MR_OK;
}

/* ---- all of them ---- */

uint64_t mr__vision_memory_images(const struct mr__vision_run *run)
{
    const struct mr__vision_sizes *sizes = &run->largest;
    const uint64_t left =
        run->memory_bytes - mr__vision_at_most(thread_bytes(sizes), run->memory_bytes);
    uint64_t images = left / at_least_one(host_bytes(run, sizes));
    for (uint32_t k = 0; k < run->lane_count; k++)
        images = mr__vision_at_most(images,
                                    run->lanes[k].memory_bytes / at_least_one(device_bytes(sizes)));
    return at_least_one(images);
}

static uint64_t waiting_images(uint32_t batch, uint32_t thread_count)
{
    return ((uint64_t)thread_count + batch - 1) / batch * batch;
}

uint64_t mr__vision_memory_waiting(const struct mr__vision_job *vision)
{
    return waiting_images(vision->batch_used, vision->threads_used);
}

static bool has_host_room(const struct mr__vision_run *run, uint32_t thread_count)
{
    const struct mr__vision_sizes *sizes = &run->largest;
    const uint32_t batch = run->vision->batch_used;
    const uint64_t needed = (uint64_t)run->slot_count * batch * host_bytes(run, sizes) +
                            waiting_images(batch, thread_count) * sizes->image_bytes +
                            (uint64_t)thread_count * sizes->decode_bytes;
    return needed <= run->memory_bytes;
}

void mr__vision_memory_fit(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    const uint64_t images = mr__vision_memory_images(run);
    uint32_t thread_count = 1;
    vision->batch_used = (uint32_t)mr__vision_at_most(vision->batch_used, images);
    run->slot_count = (uint32_t)mr__vision_at_most(run->slot_count, images / vision->batch_used);
    while (run->slot_count > 1 && !has_host_room(run, thread_count))
        run->slot_count--;
    while (vision->batch_used > 1 && !has_host_room(run, thread_count))
        vision->batch_used--;
    while (thread_count < vision->threads_used && has_host_room(run, thread_count + 1))
        thread_count++;
    vision->threads_used = thread_count;
}
