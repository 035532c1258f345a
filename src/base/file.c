/* SPDX-License-Identifier: MIT */
/*
 * Whole reads and writes.
 */
#include "base/file.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { FOLDERS_OPEN = 16 };

/* `offset` is NULL where the file's own position counts. */
static bool read_whole(int file, char *data, size_t size_bytes, const uint64_t *offset, size_t *got)
{
    *got = 0;
    while (*got < size_bytes) {
        const size_t left = size_bytes - *got;
        const ssize_t length = offset ? pread(file, data + *got, left, (off_t)(*offset + *got))
                                      : read(file, data + *got, left);
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0)
            return length == 0;
        *got += (size_t)length;
    }
    return true;
}

bool mr__file_read(int file, void *data, size_t size_bytes, size_t *got)
{
    return read_whole(file, data, size_bytes, NULL, got);
}

bool mr__file_read_at(int file, void *data, size_t size_bytes, uint64_t offset, size_t *got)
{
    return read_whole(file, data, size_bytes, &offset, got);
}

static bool write_whole(int file, const char *data, size_t size_bytes, const uint64_t *offset,
                        size_t *done)
{
    *done = 0;
    while (*done < size_bytes) {
        const size_t left = size_bytes - *done;
        const ssize_t length = offset ? pwrite(file, data + *done, left, (off_t)(*offset + *done))
                                      : write(file, data + *done, left);
        if (length < 0 && errno != EINTR)
            return false;
        *done += length > 0 ? (size_t)length : 0;
    }
    return true;
}

bool mr__file_write(int file, const void *data, size_t size_bytes, size_t *done)
{
    size_t unasked;
    return write_whole(file, data, size_bytes, NULL, done ? done : &unasked);
}

bool mr__file_write_at(int file, const void *data, size_t size_bytes, uint64_t offset)
{
    size_t done;
    return write_whole(file, data, size_bytes, &offset, &done);
}

/* ---- folders ---- */

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *where)
{
    (void)facts, (void)kind, (void)where;
    remove(path);
    return 0;
}

void mr__folder_remove(const char *path)
{
    nftw(path, remove_entry, FOLDERS_OPEN, FTW_DEPTH | FTW_PHYS);
}
