/* SPDX-License-Identifier: MIT */
/*
 * Files that appear whole or not at all, and the words for disks that are full and pipes that
 * close.
 */
#include "job/output.h"

#include "base/alloc.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define HOLD_BYTES ((size_t)256 * 1024)
#define HOLD_LIMIT ((size_t)64 * 1024) /* larger writes go through at once */

static const char *label_of(const struct mr__output *output)
{
    return output->path ? output->path : "standard output";
}

/* ---- before a run ---- */

static bool folder_of(const char *path, char folder[PATH_MAX])
{
    char copy[PATH_MAX];
    if (strlen(path) >= sizeof copy)
        return false;
    strcpy(copy, path);
    snprintf(folder, PATH_MAX, "%s", dirname(copy));
    return true;
}

static bool check_room(const struct mr__reading *reading, const struct mr__yaml *node,
                       const char *path, const char *folder, uint64_t due_bytes)
{
    struct statvfs disk;
    if (!due_bytes || statvfs(folder, &disk))
        return true;
    const uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
    if (room >= due_bytes)
        return true;
    mr__field_problem_of(reading, MR_E_IO, node,
                         "%s needs %llu MiB, its disk has %llu MiB left; free some space or write "
                         "elsewhere",
                         path, (unsigned long long)(due_bytes >> 20),
                         (unsigned long long)(room >> 20));
    return false;
}

bool mr__output_check(const struct mr__reading *reading, const struct mr__yaml *node,
                      const char *path, uint64_t due_bytes)
{
    struct stat facts;
    char folder[PATH_MAX];
    const bool is_there = stat(path, &facts) == 0;
    const char *trouble = NULL;
    if (!folder_of(path, folder))
        trouble = "its path is too long";
    else if (is_there && S_ISDIR(facts.st_mode))
        trouble = "it is a folder; add a file name";
    else if (is_there && !S_ISREG(facts.st_mode))
        return true;
    else if (stat(folder, &facts))
        trouble = "its folder is not there; create it first";
    else if (!S_ISDIR(facts.st_mode))
        trouble = "what should be its folder is a file";
    else if (access(folder, W_OK | X_OK))
        trouble = "its folder may not be written; change the permissions or write elsewhere";
    if (trouble) {
        mr__field_problem_of(reading, MR_E_IO, node, "%s cannot be written: %s", path, trouble);
        return false;
    }
    return check_room(reading, node, path, folder, due_bytes);
}

/* The folder's true path and the file's name, or the true path of a file that is there. */
static bool true_path(const char *path, char out[PATH_MAX])
{
    char folder[PATH_MAX], real[PATH_MAX];
    if (realpath(path, out))
        return true;
    if (!folder_of(path, folder) || !realpath(folder, real))
        return false;
    const char *name = strrchr(path, '/');
    return snprintf(out, PATH_MAX, "%s/%s", real, name ? name + 1 : path) < PATH_MAX;
}

bool mr__output_is_same(const char *a, const char *b)
{
    char true_a[PATH_MAX], true_b[PATH_MAX];
    if (strcmp(a, b) == 0)
        return true;
    return true_path(a, true_a) && true_path(b, true_b) && strcmp(true_a, true_b) == 0;
}

/* ---- writing ---- */

static mr_status open_failure(const struct mr__output *output)
{
    const int code = errno;
    if (code == ENOMEM)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", label_of(output));
    return mr_error_set(MR_E_IO, "%s: cannot be written: %s", label_of(output), strerror(code));
}

static mr_status open_unnamed(struct mr__output *output)
{
    output->held = mr__alloc_aligned(4096, HOLD_BYTES);
    if (!output->held)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", output->path);
    if (!mr__unnamed_open(&output->unnamed, output->target))
        return open_failure(output);
    output->file = output->unnamed.file;
    output->is_open = true;
    return MR_OK;
}

static mr_status open_direct(struct mr__output *output)
{
    output->file = open(output->path, O_WRONLY | O_CLOEXEC);
    if (output->file < 0)
        return open_failure(output);
    output->is_open = true;
    return MR_OK;
}

mr_status mr__output_open(struct mr__output *output)
{
    output->written = 0;
    output->held_bytes = 0;
    output->unnamed = (struct mr__unnamed){ .file = -1 };
    if (!output->path) {
        output->file = STDOUT_FILENO;
        output->is_open = true;
        return MR_OK;
    }
    struct stat facts;
    if (stat(output->path, &facts) == 0 && !S_ISREG(facts.st_mode))
        return open_direct(output);

    char target[PATH_MAX];
    output->target = mr__copy_text(realpath(output->path, target) ? target : output->path);
    if (!output->target)
        return mr_error_set(MR_E_NO_MEMORY, "%s: no memory to write it", output->path);
    return open_unnamed(output);
}

static mr_status write_failure(const struct mr__output *output, uint64_t position)
{
    const int code = errno;
    const unsigned long long bytes = position;
    if (code == EPIPE)
        return mr_error_set(MR_E_CLOSED,
                            "%s: the reader closed the pipe after %llu bytes; keep it reading to "
                            "the end",
                            label_of(output), bytes);
    const bool is_full = code == ENOSPC || code == EDQUOT || code == EFBIG;
    return mr_error_set(MR_E_IO, "%s: writing failed after %llu bytes: %s%s", label_of(output),
                        bytes, strerror(code),
                        is_full ? "; free some space, raise the limit or write elsewhere" : "");
}

static mr_status write_through(struct mr__output *output, const unsigned char *data,
                               size_t size_bytes, uint64_t position)
{
    size_t done;
    if (mr__file_write(output->file, data, size_bytes, &done))
        return MR_OK;
    return write_failure(output, position + done);
}

static mr_status flush(struct mr__output *output)
{
    const size_t held = output->held_bytes;
    output->held_bytes = 0;
    return write_through(output, output->held, held, output->written - held);
}

mr_status mr__output_write(struct mr__output *output, const void *data, size_t size_bytes)
{
    if (output->held && size_bytes <= HOLD_LIMIT) {
        mr_status status = MR_OK;
        if (output->held_bytes + size_bytes > HOLD_BYTES)
            status = flush(output);
        if (status)
            return status;
        memcpy(output->held + output->held_bytes, data, size_bytes);
        output->held_bytes += size_bytes;
        output->written += size_bytes;
        return MR_OK;
    }
    mr_status status = output->held_bytes ? flush(output) : MR_OK;
    if (!status)
        status = write_through(output, data, size_bytes, output->written);
    if (!status)
        output->written += size_bytes;
    return status;
}

mr_status mr__output_patch(struct mr__output *output, uint64_t offset, const void *data,
                           size_t size_bytes)
{
    mr_status status = output->held_bytes ? flush(output) : MR_OK;
    if (!status && !mr__file_write_at(output->file, data, size_bytes, offset))
        status = write_failure(output, output->written);
    return status;
}

mr_status mr__output_close(struct mr__output *output)
{
    mr_status status = output->held_bytes ? flush(output) : MR_OK;
    if (!output->path || !output->is_open)
        return status;
    output->is_open = false;
    /* Network file systems report a full disk when one of the file's descriptors is closed. What has no
     * name yet needs another one until it gets it. */
    const int file = output->target ? dup(output->file) : output->file;
    if ((file < 0 || close(file)) && !status)
        status = write_failure(output, output->written);
    return status;
}

mr_status mr__output_publish(struct mr__output *output)
{
    if (!output->target || output->unnamed.file < 0)
        return MR_OK;
    if (!mr__unnamed_name(&output->unnamed, output->target)) {
        const int code = errno;
        return mr_error_set(code == ENOMEM ? MR_E_NO_MEMORY : MR_E_IO,
                            "%s: complete, but cannot be given its name: %s", output->path,
                            strerror(code));
    }
    return MR_OK;
}

void mr__output_abandon(struct mr__output *output)
{
    if (output->target)
        mr__unnamed_abandon(&output->unnamed);
    else if (output->is_open && output->path)
        close(output->file);
    output->is_open = false;
    mr__free(output->target);
    mr__free(output->held);
    output->target = NULL;
    output->held = NULL;
    output->held_bytes = 0;
}
