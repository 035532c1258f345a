/* SPDX-License-Identifier: MIT */
/*
 * A file into memory, and its header into the choice of a decoder.
 */
#include "vision/image_read.h"

#include "base/alloc.h"
#include "base/file.h"
#include "vision/image_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

mr_status mr__image_decode(const void *bytes, size_t size_bytes,
                           const struct mr__image_options *options, void *pixels,
                           size_t capacity_bytes, struct mr__image_info *out)
{
    bool needs_more;
    mr_status status = mr__image_probe(bytes, size_bytes, options, out, &needs_more);
    if (!status)
        status = mr__image_check_length(out, size_bytes);
    if (status)
        return status;
    if (mr__image_bytes(out) > capacity_bytes)
        return mr_error_set(MR_E_FORMAT,
                            "the image needs %zu bytes, its place has %zu; did the file change "
                            "meanwhile?",
                            mr__image_bytes(out), capacity_bytes);
    struct mr__image_scaler scaler;
    status = mr__image_scaler_init(&scaler, out, pixels);
    if (!status)
        status = out->kind == MR__IMAGE_JPEG ? mr__jpeg_decode(bytes, size_bytes, &scaler)
                                             : mr__png_decode(bytes, size_bytes, &scaler);
    mr__image_scaler_fini(&scaler);
    return status;
}

/* ---- files ---- */

static mr_status file_size(int handle, size_t *size_bytes)
{
    struct stat facts;
    if (fstat(handle, &facts))
        return mr_error_set(MR_E_IO, "cannot be read: %s", strerror(errno));
    if (!S_ISREG(facts.st_mode))
        return mr_error_set(MR_E_UNSUPPORTED, S_ISDIR(facts.st_mode)
                                                  ? "a folder, where an image is due"
                                                  : "no regular file");
    if ((uint64_t)facts.st_size > MR__IMAGE_FILE_LIMIT)
        return mr_error_set(MR_E_UNSUPPORTED, "too large: a file of %llu MiB, the limit is %llu",
                            (unsigned long long)facts.st_size >> 20,
                            (unsigned long long)MR__IMAGE_FILE_LIMIT >> 20);
    *size_bytes = (size_t)facts.st_size;
    return MR_OK;
}

static mr_status make_room(struct mr__image_file *file, size_t size_bytes)
{
    if (size_bytes <= file->capacity_bytes)
        return MR_OK;
    const size_t capacity = size_bytes + size_bytes / 4;
    unsigned char *bytes = mr__resize_array(file->bytes, capacity, 1);
    if (!bytes)
        return mr_error_set(MR_E_NO_MEMORY, "no memory for a file of %zu bytes", size_bytes);
    file->bytes = bytes;
    file->capacity_bytes = capacity;
    return MR_OK;
}

mr_status mr__image_file_read(struct mr__image_file *file, const char *path, size_t part_bytes)
{
    size_t size_bytes = 0;
    /* Without waiting: a FIFO that nobody writes would hold us here. */
    const int handle = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (handle < 0)
        return mr_error_set(MR_E_IO, "cannot be opened: %s", strerror(errno));
    mr_status status = file_size(handle, &size_bytes);
    file->whole_bytes = size_bytes;
    if (part_bytes && part_bytes < size_bytes)
        size_bytes = part_bytes;
    if (!status)
        status = make_room(file, size_bytes);
    if (!status && !mr__file_read(handle, file->bytes, size_bytes, &file->size_bytes))
        status = mr_error_set(MR_E_IO, "cannot be read: %s", strerror(errno));
    close(handle);
    return status;
}

void mr__image_file_fini(struct mr__image_file *file)
{
    mr__free(file->bytes);
    *file = (struct mr__image_file){ 0 };
}
