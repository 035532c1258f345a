/* SPDX-License-Identifier: MIT */
/*
 * What to look for: a colour word, a part of an image, or numbers in a file.
 */
#include "base/alloc.h"
#include "job/npy.h"
#include "job/source.h"
#include "job/vision_job.h"

#include <string.h>

#define WORD_LIMIT 64

/* ---- a word ---- */

static bool read_word(const struct mr__reading *reading, const struct mr__yaml *node,
                      struct mr__vision_job *vision)
{
    const char *word = "", *words[WORD_LIMIT + 1] = { NULL };
    if (!mr__field_text(reading, node, &word))
        return false;
    if (mr__vision_query_from_word(word, &vision->parameters.query) == MR_OK) {
        vision->query_text = word;
        return true;
    }
    for (uint32_t k = 0; k < WORD_LIMIT && mr__vision_query_word(k); k++)
        words[k] = mr__vision_query_word(k);
    char remedy[512];
    mr__field_problem(reading, node,
                      "'%.100s' is neither a colour word nor { image: FILE } nor { npy: FILE }%s",
                      word, mr__suggestion(word, words, remedy, sizeof remedy));
    return false;
}

/* ---- a part of an image ---- */

/* In pixels of the upright file: x, y, width, height. */
static bool read_region(const struct mr__reading *reading, const struct mr__yaml *node,
                        uint32_t region[4])
{
    if (!node)
        return true;
    if (node->kind != MR__YAML_LIST || node->count != 4) {
        mr__field_problem(reading, node, "expected [x, y, width, height] in pixels");
        return false;
    }
    const struct mr__yaml *item = node->first;
    for (uint32_t k = 0; k < 4; k++, item = item->next)
        if (!mr__field_u32(reading, item, k < 2 ? 0 : 1, 1000000, &region[k]))
            return false;
    return true;
}

/* From the upright file to the working image; what is there does not vanish. */
static void scale_region(const struct mr__image_info *info, uint32_t region[4])
{
    const bool is_turned = info->orientation >= 5;
    const uint64_t from[2] = { is_turned ? info->file_height : info->file_width,
                               is_turned ? info->file_width : info->file_height };
    const uint64_t to[2] = { info->width, info->height };
    for (int k = 0; k < 2; k++) {
        const uint64_t start = region[k] * to[k] / from[k];
        const uint64_t end =
            (((uint64_t)region[k] + region[k + 2]) * to[k] + from[k] - 1) / from[k];
        region[k] = (uint32_t)start;
        region[k + 2] = (uint32_t)(end > start ? end - start : 1);
    }
}

static bool is_inside(const struct mr__image_info *info, const uint32_t region[4])
{
    const bool is_turned = info->orientation >= 5;
    const uint64_t width = is_turned ? info->file_height : info->file_width;
    const uint64_t height = is_turned ? info->file_width : info->file_height;
    return (uint64_t)region[0] + region[2] <= width && (uint64_t)region[1] + region[3] <= height;
}

static mr_status describe(const struct mr__image_file *file, const struct mr__vision_job *vision,
                          uint32_t region[4], bool has_region, struct mr__vision_query *out)
{
    struct mr__image_info info;
    bool needs_more;
    mr_status status =
        mr__image_probe(file->bytes, file->size_bytes, &vision->image, &info, &needs_more);
    if (!status)
        status = mr__image_check_length(&info, file->size_bytes);
    if (status)
        return status;
    if (has_region && !is_inside(&info, region))
        return mr_error_set(MR_E_INVALID, "the region reaches outside of its %u x %u pixels",
                            info.orientation >= 5 ? info.file_height : info.file_width,
                            info.orientation >= 5 ? info.file_width : info.file_height);
    const size_t size_bytes = mr__image_bytes(&info);
    void *pixels = mr__alloc_aligned(64, size_bytes);
    if (!pixels)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for the query's image");
    status =
        mr__image_decode(file->bytes, file->size_bytes, &vision->image, pixels, size_bytes, &info);
    if (has_region)
        scale_region(&info, region);
    const struct mr__vision_image image = { pixels, info.width, info.height, info.sample_bytes };
    if (!status)
        status =
            mr__vision_query_from_image(&image, region[0], region[1], region[2], region[3], out);
    mr__free(pixels);
    return status;
}

static bool read_image(const struct mr__reading *reading, const struct mr__yaml *where,
                       const struct mr__yaml *region_node, struct mr__vision_job *vision)
{
    const char *path = "";
    uint32_t region[4] = { 0 };
    if (!mr__field_path(reading, where, &path) || !read_region(reading, region_node, region))
        return false;
    struct mr__image_file file = { 0 };
    mr_status status = mr__image_file_read(&file, path, 0);
    if (!status)
        status = describe(&file, vision, region, region_node != NULL, &vision->parameters.query);
    mr__image_file_fini(&file);
    if (status) {
        mr_error_prefix(status, "%s: ", path);
        mr__field_problem_last(reading, status, where);
        return false;
    }
    vision->query_text = region_node ? mr__arena_text(reading->arena, "a part of %s", path) : path;
    return true;
}

/* ---- numbers ---- */

static mr_status read_numbers(const char *path, struct mr__vision_query *out)
{
    struct mr__item_type type;
    void *data = NULL;
    uint64_t size_bytes, count;
    float numbers[2 * MR__VISION_DESCRIPTOR];
    mr_status status = mr__array_load(path, &type, &data, &size_bytes);
    if (status)
        return status;
    if (!mr__item_elements(&type, &count) || count > 2 * MR__VISION_DESCRIPTOR)
        status = mr_error_set(MR_E_INVALID,
                              "%s: too many numbers; %d are due, or as many weights "
                              "after them",
                              path, MR__VISION_DESCRIPTOR);
    for (size_t k = 0; !status && k < count; k++)
        numbers[k] = (float)mr__number_at(type.dtype, data, k);
    if (!status && (status = mr__vision_query_from_numbers(numbers, count, out)))
        mr_error_prefix(status, "%s: ", path);
    mr__free(data);
    return status;
}

static bool read_npy(const struct mr__reading *reading, const struct mr__yaml *node,
                     struct mr__vision_job *vision)
{
    const char *path = "";
    if (!mr__field_path(reading, node, &path))
        return false;
    const mr_status status = read_numbers(path, &vision->parameters.query);
    vision->query_text = path;
    if (status)
        mr__field_problem_last(reading, status, node);
    return !status;
}

bool mr__vision_read_query(const struct mr__reading *reading, const struct mr__yaml *node,
                           struct mr__vision_job *vision)
{
    static const char *const keys[] = { "word", "image", "region", "npy", NULL };
    vision->query_text = "";
    if (!node)
        return true;
    if (node->kind != MR__YAML_MAP)
        return read_word(reading, node, vision);
    if (!mr__field_map(reading, node, "the query", keys))
        return false;
    const struct mr__yaml *word = mr__yaml_child(node, "word"), *npy = mr__yaml_child(node, "npy");
    const struct mr__yaml *image = mr__yaml_child(node, "image");
    const struct mr__yaml *region = mr__yaml_child(node, "region");
    if ((word != NULL) + (npy != NULL) + (image != NULL) != 1) {
        mr__field_problem(reading, node, "needs one of: word, image, npy");
        return false;
    }
    if (region && !image) {
        mr__field_problem(reading, region, "a region is of an image; add `image`");
        return false;
    }
    return word    ? read_word(reading, word, vision)
           : image ? read_image(reading, image, region, vision)
                   : read_npy(reading, npy, vision);
}
