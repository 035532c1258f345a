/* SPDX-License-Identifier: MIT */
/*
 * Before a run: the header of every image, so that the largest is known before memory is taken, and
 * what cannot be read or has no room is told apart from what is to be decoded.
 */
#include "base/alloc.h"
#include "job/vision_run.h"

#include <string.h>

static struct mr__image_info made_info(const struct mr__vision_scene *scene)
{
    return (struct mr__image_info){ .file_width = scene->image_width,
                                    .file_height = scene->image_height,
                                    .orientation = 1,
                                    .width = scene->image_width,
                                    .height = scene->image_height,
                                    .sample_bytes = 1 };
}

static mr_status probe(const struct mr__vision_job *vision, struct mr__image_file *file,
                       struct mr__vision_record *record)
{
    bool needs_more = false;
    if (vision->made_count) {
        record->info = made_info(&vision->scene);
        return mr__vision_plan(&vision->parameters, record->info.width, record->info.height, 1,
                               &record->plan);
    }
    mr_status status = mr__image_file_read(file, record->path, MR__IMAGE_PROBE_BYTES);
    if (!status)
        status = mr__image_probe(file->bytes, file->size_bytes, &vision->image, &record->info,
                                 &needs_more);
    if (needs_more && file->size_bytes == MR__IMAGE_PROBE_BYTES) {
        status = mr__image_file_read(file, record->path, 0);
        if (!status)
            status = mr__image_probe(file->bytes, file->size_bytes, &vision->image, &record->info,
                                     &needs_more);
    }
    if (!status)
        status = mr__image_check_length(&record->info, file->whole_bytes);
    record->info.decode_bytes += file->whole_bytes + file->whole_bytes / 4; /* as it is read */
    if (!status)
        status = mr__vision_plan(&vision->parameters, record->info.width, record->info.height,
                                 record->info.sample_bytes, &record->plan);
    return status;
}

bool mr__vision_is_alike(const struct mr__vision_plan *left, const struct mr__vision_plan *right)
{
    return left->width == right->width && left->height == right->height &&
           left->channel_bytes == right->channel_bytes;
}

static const struct mr__vision_plan *find_last(const struct mr__vision_run *run)
{
    return run->due_count ? &run->vision->list.records[run->due[run->due_count - 1]].plan : NULL;
}

mr_status mr__vision_scan(struct mr__vision_run *run)
{
    struct mr__vision_job *vision = run->vision;
    struct mr__image_file file = { 0 };
    mr_status status = MR_OK;
    for (size_t k = 0; k < vision->list.count && !status; k++) {
        struct mr__vision_record *record = &vision->list.records[k];
        mr_status probed = probe(vision, &file, record);
        if (!probed)
            probed = mr__vision_memory_check(run, record);
        if (probed)
            mr__vision_record_fail(record, probed);
        if (!probed) {
            const struct mr__vision_plan *before = find_last(run);
            run->kind_changes += before && !mr__vision_is_alike(before, &record->plan);
            run->due[run->due_count++] = (uint32_t)k;
            mr__vision_sizes_widen(vision, record, &run->largest);
        } else if (!vision->is_skipping || probed == MR_E_NO_MEMORY) {
            status = mr_error_prefix(probed, "%s: ", record->path);
        } else {
            atomic_fetch_add(&vision->skipped, 1);
        }
        if (atomic_load(run->is_cancelled))
            status = mr_error_set(MR_E_CANCELLED, "the run was cancelled");
    }
    mr__image_file_fini(&file);
    return status;
}
